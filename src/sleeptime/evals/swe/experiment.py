"""Experiment E7 as a file states it, and what a run of it keeps: plain values.

    cell   an arm at a number of steps
    row    one answer to one target in one cell: the files it modified, and how well they match
    slept  what one sleep on a target's siblings took

A model that failed leaves a row without a score: missing, never wrong. This file knows no model and no file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, get_args

from sleeptime.core.agency import Outcome, check_steps
from sleeptime.core.budget import Budget
from sleeptime.core.plan import Plan, StrategyName
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.evals.runs.experiments import ExperimentError
from sleeptime.evals.swe.scoring import Score

NAME = "e7"
Arm = Literal["no_sleep", "sleep", "siblings"]
ARMS: dict[Arm, str] = {
    "no_sleep": "no sleep",
    "sleep": "slept on siblings",
    "siblings": "siblings read at test time",
}
_KEYS = {"id", "title", "claim", "paper", "max_cost_usd", "arms", "steps", "sleep"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What is claimed, what the paper found, and what to measure. `plan` is how to sleep."""

    id: str
    title: str
    claim: str
    paper: str
    max_cost_usd: float
    arms: tuple[Arm, ...]
    steps: tuple[int, ...]
    plan: Plan
    dataset: str = "pull requests of a repository of yours (make-swe-features)"

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(Cell(arm=arm, steps=steps) for arm in self.arms for steps in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """An arm at a budget of steps."""

    arm: Arm
    steps: int

    @property
    def id(self) -> str:
        return f"{self.arm}/{self.steps}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One answer. `score` is None where the model failed; `usage` sums over its steps."""

    cell: str
    target: int
    score: Score | None = None
    named: tuple[str, ...] = ()
    outcome: Outcome = "error"
    steps: int = 0
    refused: int = 0
    usage: Usage = Usage()
    cost_usd: float | None = None
    patch: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slept:
    """One sleep. `error` says what stopped it."""

    target: int
    usage: Usage = Usage()
    cost_usd: float | None = None
    rounds: int = 0
    notes: int = 0
    stop_reason: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What one way to name files without a model came to on one target."""

    name: str
    target: int
    named: tuple[str, ...]
    score: Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A target of a run: its cluster is resampled as a whole."""

    number: int
    cluster: str
    title: str
    modified: tuple[str, ...]
    siblings: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All of a run that is known before it begins."""

    cells: tuple[Cell, ...]
    asked: tuple[Asked, ...]
    model: str
    sleep_model: str
    plan: Plan
    choice: str
    dataset: str
    dataset_sha256: str
    repository: str
    price: PriceCard | None
    sleep_price: PriceCard | None
    prompt_fingerprints: dict[str, str]
    commit: str | None
    machine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything measured so far. `spent_usd` is what was paid, each call once; None if unknown."""

    settings: Settings
    rows: tuple[Row, ...]
    slept: tuple[Slept, ...]
    baselines: tuple[Baseline, ...]
    spent_usd: float | None
    paid_calls: int

    def of(self, cell: Cell) -> dict[int, Row]:
        """The rows of a cell by target."""
        return {row.target: row for row in self.rows if row.cell == cell.id}


def load(*, steps: Sequence[int] | None = None, strategy: StrategyName | None = None) -> Experiment:
    """Read the experiment that ships; *steps* and *strategy* replace its own."""
    text = resources.files("sleeptime.evals").joinpath("experiments", f"{NAME}.toml").read_text(encoding="utf-8")
    return read(text, source=f"{NAME}.toml", steps=steps, strategy=strategy)


def read(
    text: str, *, source: str, steps: Sequence[int] | None = None, strategy: StrategyName | None = None
) -> Experiment:
    """Read an experiment from TOML. Raises ExperimentError, which says what is wrong where, and BudgetError."""
    try:
        table: dict[str, Any] = tomllib.loads(text)  # Any: TOML
        if unknown := sorted(set(table) - _KEYS):
            raise ExperimentError(f"{source}: {unknown[0]!r} is not known. There are {', '.join(sorted(_KEYS))}.")
        sleep = {"strategy": "explore", "max_rounds": 10} | table.get("sleep", {})
        arms: list[Arm] = list(table["arms"])
        if odd := [arm for arm in arms if arm not in get_args(Arm)]:
            raise ExperimentError(f"{source}: there is no arm {odd[0]!r}; there are {', '.join(get_args(Arm))}.")
        chosen = tuple(steps or table["steps"])
        for each in chosen:
            check_steps(each)
        return Experiment(
            id=table["id"],
            title=table["title"],
            claim=table["claim"].strip(),
            paper=table["paper"].strip(),
            max_cost_usd=float(table["max_cost_usd"]),
            arms=tuple(arms),
            steps=tuple(sorted(set(chosen))),
            plan=Plan(strategy=strategy or sleep["strategy"], budget=Budget(max_rounds=sleep["max_rounds"])),
        )
    except tomllib.TOMLDecodeError as error:
        raise ExperimentError(f"{source} is not TOML: {error}.") from error
    except KeyError as error:
        raise ExperimentError(f"{source}: {error.args[0]!r} is missing.") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ExperimentError(f"{source}: {error}.") from error
