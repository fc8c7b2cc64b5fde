"""The folder of a run: its settings, its rows, its calls, and Inspect's logs.

    RUN/run.json   what was asked for, and of which model
    RUN/run.db     rows, sleeps, surprises; and the journal of every paid call
    RUN/logs/      Inspect's logs, for `inspect view`

A row is written when it is known, so that a killed run loses what was in flight and no
more. The same folder is gone on with by the same run, and refused to another.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from sleeptime.core.errors import InputError
from sleeptime.core.usage import PriceCard
from sleeptime.evals.runs.experiments import joined
from sleeptime.evals.runs.journal import Journal, connect
from sleeptime.evals.runs.results import Asked, Cell, Provenance, Row, Run, Slept, Surprise

RUNS = "sleeptime-runs"
"""Where runs are kept unless told otherwise, in the folder at hand."""
SETTINGS_FILE, DATABASE_FILE, LOGS = "run.json", "run.db", "logs"
_FRESH = f"{SETTINGS_FILE}.new"
"""The settings while they are written; what a process leaves that dies then."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (
  cell TEXT, sample TEXT, draw INTEGER, value TEXT NOT NULL, PRIMARY KEY (cell, sample, draw)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS slept (
  context TEXT, sleeping TEXT, value TEXT NOT NULL, PRIMARY KEY (context, sleeping)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS surprises (sample TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS not_measured (what TEXT PRIMARY KEY, why TEXT NOT NULL) WITHOUT ROWID;
"""
# What makes two runs the same run: rows of one may stand beside rows of the other.
_IDENTITY = (
    "model",
    "sleep_model",
    "scoring_model",
    "dataset",
    "dataset_sha256",
    "split",
    "seeds",
    "limit",
    "model_sha256",
)


class RunFolderError(InputError):
    """A folder is not that of a run, or of another run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `run.json` holds: all of a run that is known before it begins."""

    experiments: tuple[str, ...]
    cells: tuple[Cell, ...]
    asked: tuple[Asked, ...]
    price: PriceCard | None
    sleep_price: PriceCard | None
    provenance: Provenance


_SETTINGS = TypeAdapter(Settings)
_ROW, _SLEPT, _SURPRISE = TypeAdapter(Row), TypeAdapter(Slept), TypeAdapter(Surprise)


class RunFolder:
    """A run on disk, opened for writing. Make it with `open_folder`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, journal: Journal) -> None:
        self.path = path
        self.journal = journal
        self._connection = connection

    @property
    def logs(self) -> Path:
        return self.path / LOGS

    def keep_row(self, row: Row) -> None:
        """Keep an answer; a missing one gives way to a later one, and never the other way round."""
        self._connection.execute(
            "INSERT INTO rows VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value "
            "WHERE json_extract(excluded.value, '$.is_correct') IS NOT NULL "
            "OR json_extract(rows.value, '$.is_correct') IS NULL",
            (row.cell, row.sample_id, row.draw, _ROW.dump_json(row).decode()),
        )

    def keep_slept(self, slept: Slept) -> None:
        """Keep what a sleep took; a failed one gives way to a later one, and never the other way round."""
        self._connection.execute(
            "INSERT INTO slept VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value "
            "WHERE json_extract(excluded.value, '$.error') = '' OR json_extract(slept.value, '$.error') != ''",
            (slept.context_id, str(slept.sleeping), _SLEPT.dump_json(slept).decode()),
        )

    def missing(self) -> set[str]:
        """The cells some of whose answers are missing."""
        found = self._connection.execute(
            "SELECT DISTINCT cell FROM rows WHERE json_extract(value, '$.is_correct') IS NULL"
        )
        return {cell for (cell,) in found}

    def lacks_surprises(self) -> bool:
        """Whether some of the queries' log-probabilities are missing."""
        found = self._connection.execute(
            "SELECT 1 FROM surprises WHERE json_extract(value, '$.log_prob') IS NULL LIMIT 1"
        )
        return found.fetchone() is not None

    def keep_surprise(self, surprise: Surprise) -> None:
        """Keep how probable a query was."""
        self._connection.execute(
            "INSERT OR REPLACE INTO surprises VALUES (?, ?)",
            (surprise.sample_id, _SURPRISE.dump_json(surprise).decode()),
        )

    def keep_not_measured(self, what: str, why: str) -> None:
        """Keep why there are no rows of *what*."""
        self._connection.execute("INSERT OR REPLACE INTO not_measured VALUES (?, ?)", (what, why))

    def worked(self, wall_s: float) -> None:
        """Add the time that was worked."""
        settings = _settings(self.path)
        worked_s = round(settings.provenance.wall_s + wall_s, 1)
        _write(self.path, replace(settings, provenance=replace(settings.provenance, wall_s=worked_s)))

    def close(self) -> None:
        self._connection.close()


def open_folder(path: Path, wanted: Settings, *, max_cost_usd: float | None) -> RunFolder:
    """Begin a run in *path*, or go on with the one there. Experiments and cells add up.

    Raises RunFolderError where another run lives there, which says in what they differ.
    """
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"{path} is not a folder. Choose another --out.")
    if path.exists() and not (path / SETTINGS_FILE).exists() and any(each.name != _FRESH for each in path.iterdir()):
        raise RunFolderError(f"{path} holds something that is not a run. Choose another --out.")
    path.mkdir(parents=True, exist_ok=True)
    if (path / SETTINGS_FILE).exists():
        kept = _settings(path)
        _check_same(path, kept.provenance, wanted.provenance)
        fingerprints = kept.provenance.prompt_fingerprints | wanted.provenance.prompt_fingerprints
        wanted = replace(
            wanted,
            experiments=tuple(dict.fromkeys([*kept.experiments, *wanted.experiments])),
            cells=joined([*kept.cells, *wanted.cells]),
            provenance=replace(kept.provenance, prompt_fingerprints=fingerprints),
        )
    _write(path, wanted)
    connection = connect(path / DATABASE_FILE)
    connection.executescript(_SCHEMA)
    return RunFolder(path, connection, Journal(connection, max_cost_usd=max_cost_usd))


def _check_same(path: Path, kept: Provenance, wanted: Provenance) -> None:
    for field in _IDENTITY:
        before, now = getattr(kept, field), getattr(wanted, field)
        if before != now:
            raise RunFolderError(
                f"{path} holds a run with another {field.replace('_', ' ')}: {before}, not {now}. "
                "Choose another --out, or delete the folder."
            )
    before, now = kept.prompt_fingerprints, wanted.prompt_fingerprints
    changed = [name for name in now if before.get(name, now[name]) != now[name]]
    if changed:
        raise RunFolderError(f"{path} was measured with other words in the prompt {changed[0]}. Choose another --out.")


def read_run(path: Path) -> Run:
    """Read what a run has measured so far, finished or not. Raises RunFolderError."""
    settings = _settings(path)
    connection = connect(path / DATABASE_FILE)
    try:
        connection.executescript(_SCHEMA)
        journal = Journal(connection)
        return Run(
            experiments=settings.experiments,
            cells=settings.cells,
            asked=settings.asked,
            rows=tuple(_ROW.validate_json(row) for (row,) in connection.execute("SELECT value FROM rows")),
            slept=tuple(_SLEPT.validate_json(row) for (row,) in connection.execute("SELECT value FROM slept")),
            surprises=tuple(
                _SURPRISE.validate_json(row) for (row,) in connection.execute("SELECT value FROM surprises")
            ),
            not_measured=dict(connection.execute("SELECT what, why FROM not_measured").fetchall()),
            price=settings.price,
            sleep_price=settings.sleep_price,
            provenance=settings.provenance,
            spent_usd=journal.spent_usd,
            paid_calls=journal.paid_calls,
        )
    finally:
        connection.close()


def folder_name(what: str, model: str, sleep_model: str, dataset: str, limit: int | None, seeds: Sequence[int]) -> str:
    """Name the folder of a run after what it asks: running the same again then goes on with it."""
    told = [what, dataset, model, f"sleep-{sleep_model}" if sleep_model != model else ""]
    told += [f"limit-{limit}" if limit else "", "seeds-" + "-".join(map(str, seeds)) if seeds else ""]
    return re.sub(r"[^\w.]+", "-", " ".join(filter(None, told))).strip("-")


def read_if_begun(path: Path) -> Run | None:
    """Read a run, or give None where none was begun in *path*."""
    return read_run(path) if (path / SETTINGS_FILE).exists() else None


def _settings(path: Path) -> Settings:
    try:
        return _SETTINGS.validate_json((path / SETTINGS_FILE).read_bytes())
    except OSError as error:
        raise RunFolderError(f"{path} is not the folder of a run: it has no {SETTINGS_FILE}.") from error
    except ValidationError as error:
        raise RunFolderError(f"{path / SETTINGS_FILE} is damaged, or of another version: {error}.") from error


def _write(path: Path, settings: Settings) -> None:
    fresh = path / _FRESH
    fresh.write_bytes(_SETTINGS.dump_json(settings, indent=1))
    fresh.replace(path / SETTINGS_FILE)
