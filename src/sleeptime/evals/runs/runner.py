"""Run experiments on a model, and go on where an earlier run stopped.

    plan_run(…) → Wanted      what there is to do, nothing spent yet
    run(wanted) → Run         one Inspect task a cell, as one eval set

Every call goes through the run's journal: what was paid for is not paid for again, and
the cap is checked before each call. This file knows nothing about statistics or pages.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from inspect_ai import eval_set  # pyright: ignore[reportUnknownVariableType]  # Inspect leaves a parameter untyped
from inspect_ai.log import list_eval_logs
from inspect_ai.model import get_model

from sleeptime.core.budget import Level
from sleeptime.core.usage import PriceCard
from sleeptime.evals.data.datasets import Dataset
from sleeptime.evals.runs import _registry
from sleeptime.evals.runs.arms import Measurer, Models
from sleeptime.evals.runs.bridge import API
from sleeptime.evals.runs.experiments import Experiment
from sleeptime.evals.runs.provenance import Names, money_cap, settings_of
from sleeptime.evals.runs.results import Cell, Run, first_queries
from sleeptime.evals.runs.run_folder import RUNS, RunFolder, Settings, folder_name, open_folder, read_run
from sleeptime.evals.runs.tasks import SURPRISE, task_of
from sleeptime.models import open_model
from sleeptime.models.names import TINY
from sleeptime.models.protocol import Abilities

CONCURRENCY = 16
RETRIES = 5
ATTEMPT_TIMEOUT_S = 1200
REGISTERED = _registry.__all__
"""Importing the registry is what makes Inspect know our models, also where the package is not installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A run before it begins. `left_out` says which cells the models cannot do, and why."""

    folder: Path
    settings: Settings
    dataset: Dataset
    cells: tuple[Cell, ...]
    log_prob: bool
    left_out: dict[str, str]
    max_cost_usd: float | None

    @property
    def steps(self) -> int:
        """How many rows there will be."""
        rows = sum(cell.draws * len(first_queries(cell, self.dataset.samples)) for cell in self.cells)
        return rows + (len(self.dataset.samples) if self.log_prob else 0)


async def plan_run(
    experiments: Sequence[Experiment],
    dataset: Dataset,
    *,
    model: str,
    sleep_model: str | None = None,
    scoring_model: str | None = None,
    out: Path | None = None,
    seeds: Sequence[int] = (),
    limit: int | None = None,
    split: str = "",
    max_cost_usd: float | None = None,
    cards: Sequence[PriceCard] = (),
    environ: Mapping[str, str] = os.environ,
) -> Wanted:
    """Say what a run would do. Opens the models to learn what they can, and asks them nothing.

    The cap is *max_cost_usd*, else the sum of those of the experiments where prices are known.
    Raises ModelError for a model that cannot be opened, and BudgetError for a cap where no price is known.
    """
    names = [model, sleep_model or model, scoring_model or model]
    abilities = {name: await _abilities(name, environ) for name in dict.fromkeys(names)}
    settings = settings_of(
        experiments,
        dataset,
        Names(test=names[0], sleep=names[1], scoring=names[2], prompt_set=abilities[names[0]].prompt_set),
        seeds=seeds,
        limit=limit,
        split=split,
        cards=cards,
    )
    usual = sum(experiment.max_cost_usd for experiment in experiments)
    cap = money_cap(max_cost_usd, usual, {names[0]: settings.price, names[1]: settings.sleep_price})
    wants_log_prob = any(experiment.log_prob for experiment in experiments)
    left_out = {
        cell.id: why for cell in settings.cells if (why := _cannot(cell, abilities[names[0]], abilities[names[1]]))
    }
    if wants_log_prob and not abilities[names[2]].log_probs:
        left_out[SURPRISE] = f"{names[2]} gives no log-probabilities of a given text; name a --scoring-model that does"
    return Wanted(
        folder=out or Path(RUNS) / folder_name("", model, names[1], dataset.name, limit, seeds),
        settings=settings,
        dataset=dataset,
        cells=tuple(cell for cell in settings.cells if cell.id not in left_out),
        log_prob=wants_log_prob and SURPRISE not in left_out,
        left_out=left_out,
        max_cost_usd=cap,
    )


def run(
    wanted: Wanted,
    *,
    concurrency: int = CONCURRENCY,
    on_row: Callable[[], None] = lambda: None,
    clock_s: Callable[[], float] = time.monotonic,
) -> Run:
    """Measure all that is wanted and not measured yet. Samples that failed are missing, and tried again next time."""
    began_s = clock_s()
    folder = open_folder(wanted.folder, wanted.settings, max_cost_usd=wanted.max_cost_usd)
    try:
        for what, why in wanted.left_out.items():
            folder.keep_not_measured(what, why)
        _evaluate(wanted, folder, concurrency, on_row)
    finally:
        folder.worked(clock_s() - began_s)
        folder.close()
    return read_run(wanted.folder)


def _evaluate(wanted: Wanted, folder: RunFolder, concurrency: int, on_row: Callable[[], None]) -> None:
    settings, samples = wanted.settings, wanted.dataset.samples
    measurer = Measurer(samples, folder, price=settings.price, sleep_price=settings.sleep_price, on_row=on_row)

    def measurer_of(models: Models) -> Measurer:  # noqa: ARG001 - the models are known already
        return measurer

    tasks = [task_of(_task_name(cell), [cell], samples, measurer_of) for cell in wanted.cells]
    if wanted.log_prob:
        tasks.append(task_of(SURPRISE, [], samples, measurer_of, log_prob=True))
    source = settings.provenance
    unfinished = {_task_name(cell) for cell in wanted.cells if cell.id in folder.missing()}
    _drop_logs(folder.logs, unfinished | ({SURPRISE} if folder.lacks_surprises() else set()))
    with redirect_stdout(StringIO()):  # Inspect prints there whatever `display` says; its logs have it all
        opened = {
            name: get_model(_inspect_name(name)) for name in {source.model, source.sleep_model, source.scoring_model}
        }
        eval_set(
            tasks,
            log_dir=str(folder.logs),
            log_dir_allow_dirty=True,
            model=opened[source.model],
            model_roles={"sleep": opened[source.sleep_model], "scoring": opened[source.scoring_model]},
            retry_attempts=0,
            retry_immediate=False,
            max_retries=RETRIES,  # of models of Inspect; ours retry themselves
            attempt_timeout=ATTEMPT_TIMEOUT_S,
            max_samples=concurrency,
            max_connections=concurrency,
            max_tasks=1,
            fail_on_error=False,
            display="none",
            log_level="error",
            log_realtime=False,
            log_model_api=False,
            ctl_server=False,
            score_display=False,
        )


def _drop_logs(logs: Path, tasks: AbstractSet[str]) -> None:
    """Delete the logs of *tasks*, which Inspect counts as done although some of their samples failed.

    Their other samples are then made again from the journal, for nothing.
    """
    for log in list_eval_logs(str(logs)) if tasks and logs.exists() else ():
        if log.task in tasks:
            Path(url2pathname(urlsplit(log.name).path)).unlink()


async def _abilities(name: str, environ: Mapping[str, str]) -> Abilities:
    """What a model can do. Of a model of Inspect's own nothing is known."""
    if not _is_ours(name):
        return Abilities()
    model = await open_model(name, environ=environ)
    try:
        return model.abilities
    finally:
        await model.aclose()


def _cannot(cell: Cell, test: Abilities, sleep: Abilities) -> str:
    """Why a cell cannot be measured; nothing if it can."""
    level = Level.parse(cell.level)
    if level.kind in ("effort", "thinking") and not test.dials:
        return f"the model has no dial for {cell.level}; choose other --levels, such as 0,1,2,3,4 or force:256"
    if level.kind in ("force", "extend") and not test.completes:
        return f"the model cannot go on from a given beginning, which {cell.level} needs"
    if cell.sleeping is not None and cell.sleeping.effort and not sleep.dials:
        return "the model that sleeps has no effort to set"
    return ""


def _is_ours(name: str) -> bool:
    return name == TINY or ":" in name or "/" not in name


def _inspect_name(name: str) -> str:
    return f"{API}/{name}" if _is_ours(name) else name


def _task_name(cell: Cell) -> str:
    """A name that is the same in every run that asks for the same, in letters that Inspect keeps in a log's name."""
    queries = f"q{cell.queries}" if cell.queries is not None else ""
    draws = f"d{cell.draws}" if cell.draws > 1 else ""
    return re.sub(r"[^a-zA-Z0-9.]+", "-", " ".join(filter(None, (cell.id, draws, queries))))
