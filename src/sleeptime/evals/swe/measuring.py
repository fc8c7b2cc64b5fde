"""Measure E7 with the library's own Agent and Sleeper, and keep every row as soon as it is known.

    no_sleep   the agent alone
    sleep      it is shown notes of a sleep on the siblings, which explored the repository as it was before the target
    siblings   it is shown the siblings themselves, and pays for them at test time

Every call goes through a journal, as in the other experiments: what was paid for is not paid for again, and the cap
is checked before each call. Inspect is not asked: its logs know answers, not work in steps on a repository.

    RUN/swe.json   what was asked for      RUN/run.db   rows, sleeps, baselines, and the journal
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread
from pydantic import TypeAdapter, ValidationError

from sleeptime import prompts
from sleeptime.agent import Agent
from sleeptime.core.context import Context
from sleeptime.core.errors import SleeptimeError
from sleeptime.core.notes import LearnedContext
from sleeptime.core.usage import PriceCard, Usage, sum_costs
from sleeptime.evals.runs.journal import Journal, Journaled, connect
from sleeptime.evals.runs.provenance import checked_out_commit, machine
from sleeptime.evals.runs.run_folder import RunFolderError
from sleeptime.evals.swe.experiment import Asked, Baseline, Cell, Experiment, Row, Run, Settings, Slept
from sleeptime.evals.swe.pull_requests import PullRequest, Target
from sleeptime.evals.swe.scoring import score
from sleeptime.models.protocol import Model
from sleeptime.models.retrying import Retrying
from sleeptime.repositories.checkout import Checkout, Repository
from sleeptime.repositories.documentation import documentation
from sleeptime.sleeper import Sleeper

SETTINGS_FILE, DATABASE_FILE = "swe.json", "run.db"
MOST_PATCH = 6_000
"""Characters of a sibling's patch that are read, while sleeping or at test time."""
PROMPTS = ("agent", "agent-plain", "sleep-explore", "sleep-notes")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (cell TEXT, target INTEGER, value TEXT NOT NULL, PRIMARY KEY (cell, target));
CREATE TABLE IF NOT EXISTS slept (target INTEGER PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS baselines (name TEXT, target INTEGER, value TEXT NOT NULL, PRIMARY KEY (name, target));
"""
_SETTINGS, _ROW, _SLEPT = TypeAdapter(Settings), TypeAdapter(Row), TypeAdapter(Slept)
_BASELINE = TypeAdapter(Baseline)
_IDENTITY = ("model", "sleep_model", "dataset_sha256", "plan", "prompt_fingerprints")


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The model that works and the one that sleeps."""

    test: Model
    sleep: Model


class Folder:
    """A run on disk, opened for writing. Raises RunFolderError where another run lives there."""

    def __init__(self, path: Path, wanted: Settings, *, max_cost_usd: float | None = None) -> None:
        self.path = path
        if (path / SETTINGS_FILE).exists():
            kept = _settings(path)
            for name in _IDENTITY:
                if getattr(kept, name) != getattr(wanted, name):
                    raise RunFolderError(
                        f"{path} holds a run with another {name.replace('_', ' ')}. Choose another --out."
                    )
            asked = {each.number: each for each in (*kept.asked, *wanted.asked)}
            wanted = replace(
                kept, cells=tuple(dict.fromkeys((*kept.cells, *wanted.cells))), asked=tuple(asked.values())
            )
        elif path.exists() and any(path.iterdir()):
            raise RunFolderError(f"{path} holds something that is not a run of E7. Choose another --out.")
        path.mkdir(parents=True, exist_ok=True)
        fresh = path / f"{SETTINGS_FILE}.new"
        fresh.write_bytes(_SETTINGS.dump_json(wanted, indent=1))
        fresh.replace(path / SETTINGS_FILE)
        self._connection = connect(path / DATABASE_FILE)
        self._connection.executescript(_SCHEMA)
        self.journal = Journal(self._connection, max_cost_usd=max_cost_usd)

    def keep_row(self, row: Row) -> None:
        """Keep an answer; a missing one gives way to a later one, and never the other way round."""
        self._connection.execute(
            "INSERT INTO rows VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value "
            "WHERE json_extract(excluded.value, '$.score') IS NOT NULL OR json_extract(rows.value, '$.score') IS NULL",
            (row.cell, row.target, _ROW.dump_json(row).decode()),
        )

    def keep_slept(self, slept: Slept) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO slept VALUES (?, ?)", (slept.target, _SLEPT.dump_json(slept).decode())
        )

    def keep_baseline(self, baseline: Baseline) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO baselines VALUES (?, ?, ?)",
            (baseline.name, baseline.target, _BASELINE.dump_json(baseline).decode()),
        )

    def done(self) -> set[tuple[str, int]]:
        """The cells and targets that have a score."""
        found = self._connection.execute(
            "SELECT cell, target FROM rows WHERE json_extract(value, '$.score') IS NOT NULL"
        )
        return {(str(cell), int(target)) for cell, target in found}

    def close(self) -> None:
        self._connection.close()


def read_run(path: Path) -> Run:
    """Read what a run has measured so far. Raises RunFolderError."""
    settings = _settings(path)
    connection = connect(path / DATABASE_FILE)
    try:
        connection.executescript(_SCHEMA)
        journal = Journal(connection)
        return Run(
            settings=settings,
            rows=tuple(_ROW.validate_json(value) for value in _values(connection, "rows")),
            slept=tuple(_SLEPT.validate_json(value) for value in _values(connection, "slept")),
            baselines=tuple(_BASELINE.validate_json(value) for value in _values(connection, "baselines")),
            spent_usd=journal.spent_usd,
            paid_calls=journal.paid_calls,
        )
    finally:
        connection.close()


def is_run(path: Path) -> bool:
    """Whether *path* is the folder of a run of E7."""
    return (path / SETTINGS_FILE).exists()


def asked_of(targets: Sequence[Target]) -> tuple[Asked, ...]:
    """What a run keeps of its targets."""
    return tuple(
        Asked(
            number=target.request.number,
            cluster=target.request.group or str(target.request.number),
            title=target.request.title,
            modified=tuple(sorted(target.request.modified)),
            siblings=tuple(sibling.number for sibling in target.siblings),
        )
        for target in targets
    )


def settings_of(
    experiment: Experiment,
    targets: Sequence[Target],
    *,
    file: Path,
    repository: Path,
    models: tuple[str, str],
    prices: tuple[PriceCard | None, PriceCard | None],
) -> Settings:
    """All of a run that is known before it begins; *models* are the one that works and the one that sleeps."""
    return Settings(
        cells=experiment.cells,
        asked=asked_of(targets),
        model=models[0],
        sleep_model=models[1],
        plan=experiment.plan,
        choice=targets[0].choice,
        dataset=file.name,
        dataset_sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        repository=repository.resolve().name,
        price=prices[0],
        sleep_price=prices[1],
        prompt_fingerprints={name: prompts.load(name).fingerprint for name in PROMPTS},
        commit=checked_out_commit(),
        machine=machine(),
    )


class Measurer:
    """Measures targets of one repository in one folder."""

    def __init__(
        self,
        folder: Folder,
        repository: Repository,
        models: Models,
        settings: Settings,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_row: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder, self._repository, self._models, self._settings = folder, repository, models, settings
        self._clock_s, self._now, self._on_row = clock_s, now, on_row

    async def measure(self, cells: Sequence[Cell], targets: Sequence[Target], *, concurrency: int) -> None:
        """Measure every cell on every target that has no score yet, so many targets at the same time."""
        limit = anyio.CapacityLimiter(concurrency)
        done = self._folder.done()

        async def one(target: Target) -> None:
            left = [cell for cell in cells if (cell.id, target.request.number) not in done]
            async with limit:
                await self._target(target, left)

        async with anyio.create_task_group() as group:
            for target in targets:
                group.start_soon(one, target)

    async def _target(self, target: Target, cells: Sequence[Cell]) -> None:
        checkout = self._repository.at(target.request.base)
        learned: LearnedContext | SleeptimeError | None = None
        for cell in cells:
            if cell.arm == "sleep" and learned is None:
                learned = await self._learn(target, checkout)
            row = await self._answer(cell, target, checkout, learned)
            self._folder.keep_row(row)
            self._on_row()

    async def _answer(
        self, cell: Cell, target: Target, checkout: Checkout, learned: LearnedContext | SleeptimeError | None
    ) -> Row:
        row = Row(cell=cell.id, target=target.request.number)
        model = self._journaled(self._models.test, self._settings.price)
        agent = Agent(model, self._settings.price, self._clock_s)
        known = ""
        if cell.arm == "siblings":
            known = rendered(target.siblings, self._repository)
        elif cell.arm == "sleep":
            if not isinstance(learned, LearnedContext):
                return replace(row, error=f"the sleep failed: {learned}")
            known = agent.known(learned.shown)
        try:
            answer = await agent.solve(target.request.words, checkout, steps=cell.steps, known=known)
        except SleeptimeError as error:
            return replace(row, error=f"{type(error).__name__}: {error}")
        return replace(
            row,
            score=None if answer.outcome == "error" else score(answer.modified, target.request.modified),
            named=answer.modified,
            outcome=answer.outcome,
            steps=answer.steps,
            refused=answer.refused,
            usage=answer.usage,
            cost_usd=answer.cost_usd,
            patch=answer.patch,
            error=answer.error,
        )

    async def _learn(self, target: Target, checkout: Checkout) -> LearnedContext | SleeptimeError:
        """Sleep on the siblings, or give the error that stopped it."""
        number, plan = target.request.number, self._settings.plan
        text = rendered(target.siblings, self._repository) or "(no earlier pull requests)"
        context = Context(id=f"pr-{number}", name=f"pull requests before {number}", text=text, created_at=self._now())
        model = self._journaled(self._models.sleep, self._settings.sleep_price)
        documented = await anyio.to_thread.run_sync(documentation, checkout)
        price = self._settings.sleep_price
        sleeper = Sleeper(model, price, self._clock_s, self._now, checkout, documented)
        slept = Slept(target=number)
        try:
            learned = await sleeper.sleep(context, plan)
        except SleeptimeError as error:
            self._folder.keep_slept(replace(slept, error=f"{type(error).__name__}: {error}", **self._took(model)))
            return error
        slept = replace(slept, rounds=learned.rounds, notes=len(learned.shown), stop_reason=learned.stop_reason)
        self._folder.keep_slept(replace(slept, **self._took(model)))
        return learned

    def _took(self, model: Journaled) -> dict[str, Usage | float | None]:
        price = self._settings.sleep_price
        return {
            "usage": sum(model.usages, Usage()),
            "cost_usd": sum_costs([price.cost_usd(usage) if price else None for usage in model.usages]),
        }

    def _journaled(self, model: Model, price: PriceCard | None) -> Journaled:
        is_capped = self._folder.journal.max_cost_usd is not None
        return Journaled(Retrying(model, repeats_sent=not is_capped), self._folder.journal, price)


def rendered(siblings: Sequence[PullRequest], repository: Repository) -> str:
    """Write pull requests as a text to sleep on, or to read at test time: words, files, and the patch's beginning."""
    parts: list[str] = []
    for sibling in siblings:
        files = "\n".join(f"{each.status} {each.path}" for each in sibling.changed)
        patch = repository.git(["diff", "--no-ext-diff", "--no-textconv", sibling.base, sibling.head, "--"])
        shown = patch.decode(errors="replace")
        more = f"\n… {len(shown) - MOST_PATCH:,} more characters" if len(shown) > MOST_PATCH else ""
        parts.append(
            f"=== pull request {sibling.number}: {sibling.title} ===\n{sibling.text}\n\n{files}\n\n"
            f"{shown[:MOST_PATCH]}{more}"
        )
    return "\n\n".join(parts)


def _settings(path: Path) -> Settings:
    try:
        return _SETTINGS.validate_json((path / SETTINGS_FILE).read_bytes())
    except OSError as error:
        raise RunFolderError(f"{path} is not the folder of a run of E7: it has no {SETTINGS_FILE}.") from error
    except ValidationError as error:
        raise RunFolderError(f"{path / SETTINGS_FILE} is damaged, or of another version: {error}.") from error


def _values(connection: sqlite3.Connection, table: str) -> list[str]:
    return [value for (value,) in connection.execute(f"SELECT value FROM {table} ORDER BY rowid")]  # noqa: S608  # a name of ours
