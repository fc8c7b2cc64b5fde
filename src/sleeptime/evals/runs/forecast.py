"""Say what a run will take before it takes anything: calls, tokens, money.

    input   prompt, context and notes, counted as the models' adapters estimate them: on the high side
    output  what this run's own rows took so far; where it has none, an assumption by level, which is told

Pure. A forecast is no cap: the cap is the run's, and is checked before each call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from sleeptime.core.budget import Level
from sleeptime.core.usage import PriceCard, Usage, sum_costs
from sleeptime.evals.data.datasets import Sample
from sleeptime.evals.runs.results import SEES, Cell, Run, Sleeping, first_queries
from sleeptime.models.remote import estimated_tokens

INSTRUCTIONS = 120
"""Input tokens of the instructions around a context."""
SLEEP_INSTRUCTIONS = 450
NOTES = 600
"""Tokens of the notes of one sample, assumed."""
ROUNDS = 3
ROUND_OUTPUT = 700
OUTPUT = {"v0": 20, "v1": 60, "v2": 100, "v3": 250, "v4": 500, "minimal": 200, "low": 600, "medium": 2000, "high": 6000}
"""Output tokens of an answer, assumed, by level; a level in tokens is assumed to be used up."""
FORCED_CALLS = 2
"""Calls of an answer whose thinking is cut off: to think and to answer. One told to go on takes more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one cell, or one way to sleep, will take. `is_measured` says that rows of this run tell its output."""

    what: str
    calls: int
    usage: Usage
    cost_usd: float | None
    is_measured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a run will take in all, work that is done already included."""

    lines: tuple[Line, ...]

    @property
    def calls(self) -> int:
        return sum(line.calls for line in self.lines)

    @property
    def usage(self) -> Usage:
        return sum((line.usage for line in self.lines), Usage())

    @property
    def cost_usd(self) -> float | None:
        return sum_costs([line.cost_usd for line in self.lines])


def forecast(
    cells: Sequence[Cell],
    samples: Sequence[Sample],
    *,
    price: PriceCard | None,
    sleep_price: PriceCard | None,
    log_prob: bool = False,
    measured: Run | None = None,
) -> Forecast:
    """Foretell a run of *cells* on *samples*; *measured* is the same run so far, if there is one."""
    contexts = {sample.context_id: estimated_tokens(sample.context) for sample in samples}
    questions = {sample.id: estimated_tokens(sample.question) for sample in samples}
    lines = [_sleeps(sleeping, contexts, sleep_price, measured) for sleeping in _distinct(cells)]
    lines += [_answers(cell, _differing(cell, samples), contexts, questions, price, measured) for cell in cells]
    if log_prob:
        tokens = sum(questions.values())
        lines.append(
            Line(
                what="log P(query | context)",
                calls=len(samples),
                usage=Usage(input_tokens=tokens + sum(contexts[sample.context_id] for sample in samples)),
                cost_usd=None if price is None else 0.0,
                is_measured=False,
            )
        )
    return Forecast(lines=tuple(lines))


def _distinct(cells: Sequence[Cell]) -> list[Sleeping]:
    """The sleeps that are really made: k parallel samples contain the fewer ones of the same kind."""
    wanted = {cell.sleeping for cell in cells if cell.sleeping is not None}
    kept: dict[str, Sleeping] = {}
    for sleeping in sorted(wanted, key=lambda sleeping: (sleeping.samples, str(sleeping))):
        is_greedy = sleeping.samples == 1
        rest = str(sleeping).removeprefix(f"k{sleeping.samples}").strip()
        kept[f"{is_greedy} {rest}"] = sleeping
    return list(kept.values())


def _differing(cell: Cell, samples: Sequence[Sample]) -> list[Sample]:
    """The queries that make calls of their own: a guess, which is shown no query, is one call a context."""
    return first_queries(replace(cell, queries=1) if cell.arm == "guess" else cell, samples)


def _sleeps(sleeping: Sleeping, contexts: dict[str, int], price: PriceCard | None, measured: Run | None) -> Line:
    rows = [slept for slept in measured.slept if slept.sleeping == sleeping and slept.calls] if measured else []
    calls_each = sleeping.samples * min(ROUNDS, sleeping.max_rounds)
    output_each = ROUND_OUTPUT if sleeping.max_output_tokens is None else min(ROUND_OUTPUT, sleeping.max_output_tokens)
    if rows:
        calls_each = round(fmean(len(slept.calls) for slept in rows)) or 1
        output_each = round(fmean(slept.usage.output_tokens for slept in rows) / calls_each)
    usages = [
        Usage(input_tokens=SLEEP_INSTRUCTIONS + tokens + NOTES, output_tokens=output_each)
        for tokens in contexts.values()
    ]
    return _line(f"sleep {sleeping}".strip(), usages, calls_each, price, is_measured=bool(rows))


def _answers(
    cell: Cell,
    asked: Sequence[Sample],
    contexts: dict[str, int],
    questions: dict[str, int],
    price: PriceCard | None,
    measured: Run | None,
) -> Line:
    taken = (
        [row.usage.output_tokens for row in measured.rows if row.cell == cell.id and not row.error] if measured else []
    )
    level = Level.parse(cell.level)
    assumed = OUTPUT.get(cell.level, level.amount + 100)
    output = round(fmean(taken)) if taken else assumed
    samples = cell.sleeping.samples if cell.sleeping else 0
    sees = SEES[cell.arm]
    usages = [
        Usage(
            input_tokens=INSTRUCTIONS
            + (contexts[sample.context_id] if sees != "learned" else 0)
            + (NOTES * samples if sees != "context" else 0)
            + questions[sample.id],
            output_tokens=output,
        )
        for sample in asked
    ]
    calls_each = FORCED_CALLS if level.kind in ("force", "extend") else 1
    parts = [replace(usage, output_tokens=round(usage.output_tokens / calls_each)) for usage in usages]
    return _line(cell.id, parts, cell.draws * calls_each, price, is_measured=bool(taken))


def _line(what: str, usages: Iterable[Usage], times: int, price: PriceCard | None, *, is_measured: bool) -> Line:
    made = [usage for usage in usages for _ in range(times)]
    return Line(
        what=what,
        calls=len(made),
        usage=sum(made, Usage()),
        cost_usd=None if price is None else sum(price.cost_usd(usage) for usage in made),
        is_measured=is_measured,
    )
