"""Experiments: a claim, stated before the run, and the cells that put it to the test.

    evals/experiments/e1.toml → Experiment → cells

One file each, so that a new experiment is a new file. A cell that two experiments ask
for is measured once. This file knows nothing about models or results.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, get_args

from sleeptime.core.budget import Level
from sleeptime.core.errors import InputError, SleeptimeError
from sleeptime.core.plan import StrategyName
from sleeptime.evals.runs.results import DRAW_TEMPERATURE, SLEPT, Arm, Cell, Sleeping

OWN = "mine"
"""The experiment on a user's own data, which the paper has no counterpart of."""

ON_REPOSITORIES = ("e7",)
"""Experiments that agents do on repositories: `swe.experiment` reads their files."""

_KEYS = ("id", "title", "claim", "paper", "dataset", "max_cost_usd", "log_prob", "sleep", "measure")
_MEASURE_KEYS = ("arm", "levels", "samples", "efforts", "draws", "temperature", "queries", "sleep")


class ExperimentError(InputError):
    """An experiment cannot be read, or there is none of this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What is claimed, what the paper found, and what to measure.

    `dataset` is the one asked about by default; `log_prob` says whether queries are scored
    for their predictability; `max_cost_usd` is the cap where the user gives none.
    """

    id: str
    title: str
    claim: str
    paper: str
    dataset: str
    max_cost_usd: float
    cells: tuple[Cell, ...]
    log_prob: bool = False


def names() -> list[str]:
    """List the experiments on contexts and queries that ship: the paper's, then the one on your own data."""
    folder = resources.files("sleeptime.evals").joinpath("experiments")
    found = [entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return sorted(set(found) - set(ON_REPOSITORIES), key=lambda name: (name == OWN, name))


def load(name: str, *, levels: Sequence[str] | None = None, strategy: StrategyName | None = None) -> Experiment:
    """Read an experiment that ships. *levels* replace those of every arm that is swept over several.

    Arms held at one level are then held at the cheapest of *levels*, which is the first. Every arm that
    sleeps does so by *strategy*, where one is given.
    Raises ExperimentError, which names those there are, and BudgetError for a level that is none.
    """
    if name not in names():
        raise ExperimentError(f"There is no experiment {name!r}; there are {', '.join(names())}.")
    text = resources.files("sleeptime.evals").joinpath("experiments", f"{name}.toml").read_text(encoding="utf-8")
    return read(text, source=f"{name}.toml", levels=levels, strategy=strategy)


def read(
    text: str, *, source: str, levels: Sequence[str] | None = None, strategy: StrategyName | None = None
) -> Experiment:
    """Read an experiment from TOML. Raises ExperimentError, which says what is wrong where."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ExperimentError(f"{source} is not TOML: {error}.") from error
    _known(table, _KEYS, source)
    usual = table.get("sleep", {})
    chosen = {} if strategy is None else {"strategy": strategy}
    try:
        cells = [
            cell
            for measure in table["measure"]
            for cell in _cells(measure, {**usual, **measure.get("sleep", {}), **chosen}, levels, source)
        ]
        return Experiment(
            id=table["id"],
            title=table["title"],
            claim=table["claim"],
            paper=table["paper"],
            dataset=table["dataset"],
            max_cost_usd=float(table["max_cost_usd"]),
            log_prob=table.get("log_prob", False),
            cells=joined(cells),
        )
    except KeyError as error:
        raise ExperimentError(f"{source}: {error.args[0]!r} is missing.") from error
    except SleeptimeError:
        raise
    except (TypeError, ValueError) as error:
        raise ExperimentError(f"{source}: {error}.") from error


def joined(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Ask once for what several experiments ask for, in the order it was first asked for."""
    kept: dict[str, Cell] = {}
    for cell in cells:
        kept[cell.id] = kept[cell.id].joined(cell) if cell.id in kept else cell
    return tuple(kept.values())


def _cells(
    measure: Mapping[str, Any],
    sleep: Mapping[str, Any],
    levels: Sequence[str] | None,
    source: str,  # Any: TOML
) -> list[Cell]:
    _known(measure, _MEASURE_KEYS, source)
    arm: Arm = measure["arm"]
    if arm not in get_args(Arm):
        raise ExperimentError(f"{source}: there is no arm {arm!r}; there are {', '.join(get_args(Arm))}.")
    written = [str(level) for level in measure["levels"]]
    if levels is not None:
        written = list(levels) if len(written) > 1 else [levels[0]]
    draws = int(measure.get("draws", 1))
    made: list[Cell] = []
    for level in [Level.parse(text) for text in written]:
        for samples in measure.get("samples", [sleep.get("samples", 1)]):
            for effort in measure.get("efforts", [sleep.get("effort")]):
                sleeping = Sleeping(**{**sleep, "samples": samples, "effort": effort}) if arm in SLEPT else None
                repeats = draws > 1 and level.kind == "verbosity"
                made.append(
                    Cell(
                        arm=arm,
                        level=str(level),
                        sleeping=sleeping,
                        draws=draws,
                        temperature=measure.get("temperature", DRAW_TEMPERATURE if repeats else None),
                        queries=measure.get("queries"),
                    )
                )
    return made


def _known(table: Mapping[str, Any], keys: Sequence[str], source: str) -> None:  # Any: TOML
    for key in table:
        if key not in keys:
            raise ExperimentError(f"{source}: {key!r} is not known. There are {', '.join(keys)}.")
