"""What a run measured, before anything is computed from it: plain values.

    cell    an arm at a level, with how it slept          what one task measures
    row     one answer to one query in one cell           is_correct is None where it is missing
    sleep   what one sleep on one context took
    surprise  log P(query | context) under the model

A failed call is a row without an answer: it is missing, never wrong. Token totals are
inclusive, as everywhere. This file knows nothing about statistics, models or files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol, TypeVar

from sleeptime.core.budget import Budget
from sleeptime.core.plan import MAX_CHARACTERS, PARALLEL_TEMPERATURE, Plan, StrategyName
from sleeptime.core.query import Sees
from sleeptime.core.usage import PriceCard, Usage

Arm = Literal["no_sleep", "sleep", "learned", "merged", "half", "placebo", "restatement", "draws", "guess"]
ARMS: dict[Arm, str] = {
    "no_sleep": "no sleep",
    "sleep": "sleep, sees context and notes",
    "learned": "sleep, sees notes alone",
    "merged": "sleep, notes of all samples merged",
    "half": "sleep, half of its notes",
    "placebo": "another context's notes",
    "restatement": "the context again, as long as its notes",
    "draws": "no sleep, several draws",
    "guess": "context only, query not seen",
}
SEES: dict[Arm, Sees] = {
    "no_sleep": "context",
    "sleep": "context+learned",
    "learned": "learned",
    "merged": "context+learned",
    "half": "context+learned",
    "placebo": "context+learned",
    "restatement": "context+learned",
    "draws": "context",
    "guess": "context",
}
SLEPT: tuple[Arm, ...] = ("sleep", "learned", "merged", "half", "placebo", "restatement")
"""Arms that need a sleep: the notes themselves, or how long they are."""

CONTROLS: tuple[Arm, ...] = ("placebo", "restatement", "draws")
"""Arms of every experiment: what is not owed to the notes being about this context, or to thinking before the query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleeping:
    """How to sleep on each context. `max_output_tokens` caps each of the *samples*; None of both is no cap."""

    samples: int = 1
    effort: str | None = None
    temperature: float | None = None
    strategy: StrategyName = "notes"
    max_rounds: int = 10
    max_characters: int = MAX_CHARACTERS
    max_output_tokens: int | None = None

    @property
    def plan(self) -> Plan:
        """The same as the library's plan. Parallel samples share one cap there."""
        total = None if self.max_output_tokens is None else self.samples * self.max_output_tokens
        return Plan(
            strategy=self.strategy,
            samples=self.samples,
            effort=self.effort,
            temperature=self.temperature,
            max_characters=self.max_characters,
            budget=Budget(max_output_tokens=total, max_rounds=self.max_rounds),
        )

    def __str__(self) -> str:
        """Name what differs from the default, such as `k5 effort=high`; nothing if nothing does."""
        default = Sleeping()
        told = [f"k{self.samples}"] if self.samples != default.samples else []
        for name in ("effort", "temperature", "strategy", "max_rounds", "max_characters", "max_output_tokens"):
            value = getattr(self, name)
            if value != getattr(default, name):
                told.append(f"{name}={value}")
        return " ".join(told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """An arm at a level. `draws` answers to each query, at *temperature* where they would else be the same.

    `queries` asks only the first so many queries of each context; None asks all of them.
    """

    arm: Arm
    level: str
    sleeping: Sleeping | None = None
    draws: int = 1
    temperature: float | None = None
    queries: int | None = None

    @property
    def id(self) -> str:
        """Name the cell, such as `sleep/v0/k5`. Cells of one id measure the same, perhaps on more or fewer queries."""
        told = f"t{self.temperature:g}" if self.temperature is not None else ""
        sleeping = "" if self.sleeping is None else str(self.sleeping)
        return "/".join(filter(None, (self.arm, self.level, sleeping, told)))

    def joined(self, other: Cell) -> Cell:
        """Ask for what both cells of one id ask for."""
        queries = None if self.queries is None or other.queries is None else max(self.queries, other.queries)
        return replace(self, draws=max(self.draws, other.draws), queries=queries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One query: whose context, which cluster is resampled with it, in which stratum, how deep."""

    id: str
    context_id: str
    cluster: str
    question: str
    target: str
    stratum: str = ""
    depth: int | None = None


class _OfAContext(Protocol):
    @property
    def context_id(self) -> str: ...


Question = TypeVar("Question", bound=_OfAContext)


def first_queries(cell: Cell, asked: Sequence[Question]) -> list[Question]:
    """The ones of *asked* that *cell* asks: all, or the first few of each context."""
    if cell.queries is None:
        return list(asked)
    seen = Counter[str]()
    chosen: list[Question] = []
    for each in asked:
        seen[each.context_id] += 1
        if seen[each.context_id] <= cell.queries:
            chosen.append(each)
    return chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One answer. `usage` sums over its calls, which `cost_usd` prices one by one; `answer` is what the scorer read."""

    cell: str
    sample_id: str
    draw: int = 0
    is_correct: bool | None = None
    answer: str | None = None
    text: str = ""
    usage: Usage = Usage()
    cost_usd: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slept:
    """One sleep on one context: the usage of each of its calls, paid for also where it failed (`error`)."""

    context_id: str
    sleeping: Sleeping
    calls: tuple[Usage, ...] = ()
    cost_usd: float | None = None
    rounds: int = 0
    characters: int = 0
    stop_reason: str = ""
    error: str = ""

    @property
    def usage(self) -> Usage:
        return sum(self.calls, Usage())


@dataclass(frozen=True, slots=True, kw_only=True)
class Surprise:
    """Natural-log probability of a query given its context. `log_prob` is None where it could not be measured."""

    sample_id: str
    log_prob: float | None
    tokens: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a run comes from."""

    model: str
    sleep_model: str
    scoring_model: str
    dataset: str
    dataset_sha256: str
    dataset_source: str
    licence: str
    split: str
    seeds: tuple[int, ...]
    limit: int | None
    prompt_fingerprints: dict[str, str]
    machine: str
    versions: dict[str, str]
    commit: str | None
    began_at: datetime
    wall_s: float
    model_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything a run measured so far. `spent_usd` is what was really paid, each call once; None if unknown.

    `not_measured` says, by cell id or by the name of an experiment's part, why there are no rows.
    """

    experiments: tuple[str, ...]
    cells: tuple[Cell, ...]
    asked: tuple[Asked, ...]
    rows: tuple[Row, ...]
    slept: tuple[Slept, ...]
    surprises: tuple[Surprise, ...]
    not_measured: dict[str, str]
    price: PriceCard | None
    sleep_price: PriceCard | None
    provenance: Provenance
    spent_usd: float | None = None
    paid_calls: int = 0

    def cell(self, cell_id: str) -> Cell | None:
        """Find a cell of this run."""
        return next((cell for cell in self.cells if cell.id == cell_id), None)


DRAW_TEMPERATURE = PARALLEL_TEMPERATURE
"""Several draws at temperature 0 would be one draw several times."""
