"""What one query saves when notes are shown, and what a sleep costs.

    saving per query = cost of an answer without notes − cost of one with notes
    predicted        at a price card (cached input included), or t · output tokens where money is unknown
    learnt           predicted · ratio;  ratio = (k · r + Σ measured/predicted) / (k + n)
    r                the same ratio of a wider group, down to 1 where nothing was measured

The ledger measures answers; each becomes a ratio to what had been predicted for it, so that large and small contexts
teach one another. Groups go from wide to narrow: all, the same level and predictability, the context itself. Each
weighs its own n answers against k answers' worth of what the wider one says. Costs are in one unit throughout.

This file does not know when queries come (forecasting.py) or what follows from a saving (deciding.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sleeptime.core.ledger import DEFAULT_TEST_TOKEN_PRICE
from sleeptime.core.usage import PriceCard, Usage

GROUP_ANSWERS = 8.0
"""How many answers' worth a wider group weighs against a narrower one."""
OWN_ANSWERS = 2.0
USUAL_SPREAD = 0.5
"""Standard deviation of one measured ratio, before any was measured."""
BANDS = (1 / 3, 2 / 3)
USUAL_SHARE = 0.6
"""Share of an answer's output tokens that notes save, before it was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Measured ratios of one group, added up. `answers` may be a part: notes that are half stale count half."""

    answers: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def with_(self, ratio: float, *, weight: float = 1.0) -> Tally:
        """Add one measured *ratio* that counts for *weight* answers."""
        return Tally(
            answers=self.answers + weight,
            total=self.total + weight * ratio,
            squares=self.squares + weight * ratio * ratio,
        )

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            answers=self.answers + other.answers,
            total=self.total + other.total,
            squares=self.squares + other.squares,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """Mean and standard deviation of what is believed of a ratio or an amount, and the answers behind it."""

    mean: float
    deviation: float
    answers: float

    def __mul__(self, amount: float) -> Belief:
        return Belief(mean=self.mean * amount, deviation=self.deviation * abs(amount), answers=self.answers)


def shrunk(mean: float, answers: float, total: float, *, strength: float) -> float:
    """Move a *mean* worth *strength* answers towards what *answers* measured, whose ratios add up to *total*."""
    return (strength * mean + total) / (strength + answers)


def believed(tallies: Sequence[Tally], *, usual: float = 1.0, strengths: Sequence[float] | None = None) -> Belief:
    """Fold measured ratios from the widest group to the narrowest; *usual* is believed before any of them.

    *strengths* says how many answers' worth each tally has to argue against; the last, the
    context's own, has fewer than the groups before it.
    """
    if strengths is None:
        strengths = [*[GROUP_ANSWERS] * (len(tallies) - 1), OWN_ANSWERS][: len(tallies)]
    mean, spread, weight = usual, USUAL_SPREAD**2, 1.0
    for tally, strength in zip(tallies, strengths, strict=True):
        mean = shrunk(mean, tally.answers, tally.total, strength=strength)
        weight = strength + tally.answers
        if tally.answers:
            scatter = max(0.0, tally.squares / tally.answers - (tally.total / tally.answers) ** 2)
            spread = (strength * spread + tally.answers * scatter) / weight
    return Belief(mean=mean, deviation=(spread / weight) ** 0.5, answers=tallies[-1].answers if tallies else 0.0)


def band(predictability: float) -> str:
    """Say in which of three bands a share of anticipated queries lies: low, middle or high."""
    low, high = BANDS
    return "low" if predictability < low else "high" if predictability >= high else "middle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """How usage becomes one number: money where both price cards are known, else output tokens with t."""

    sleep: PriceCard | None = None
    test: PriceCard | None = None
    test_price: float = DEFAULT_TEST_TOKEN_PRICE

    @property
    def unit(self) -> str:
        return "output tokens" if self.sleep is None or self.test is None else "USD"

    def test_cost(self, usage: Usage) -> float:
        """Cost of one test-time call."""
        if self.sleep is None or self.test is None:
            return self.test_price * usage.output_tokens
        return self.test.cost_usd(usage)

    def sleep_cost(self, usage: Usage) -> float:
        """Cost of one sleep-time call."""
        if self.sleep is None or self.test is None:
            return float(usage.output_tokens)
        return self.sleep.cost_usd(usage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Tokens of a context and of the calls about it, counted or assumed."""

    context_tokens: int
    query_tokens: int = 60
    answer_output_tokens: int = 600
    notes_tokens: int = 600
    rounds: int = 3
    round_output_tokens: int = 900

    def cost_without(self, tariff: Tariff, *, is_cached: bool = True) -> float:
        """Cost of one answer without notes; *is_cached*: the context is in the provider's prompt cache."""
        return tariff.test_cost(
            Usage(
                input_tokens=self.context_tokens + self.query_tokens,
                cached_input_tokens=self.context_tokens if is_cached else 0,
                output_tokens=self.answer_output_tokens,
            )
        )

    def cost_with(self, tariff: Tariff, *, share: float = USUAL_SHARE, is_cached: bool = True) -> float:
        """Cost of one answer with notes that save *share* of its output tokens; the notes are input."""
        prefix = self.context_tokens + self.notes_tokens
        return tariff.test_cost(
            Usage(
                input_tokens=prefix + self.query_tokens,
                cached_input_tokens=prefix if is_cached else 0,
                output_tokens=round(self.answer_output_tokens * (1.0 - share)),
            )
        )

    def saving(self, tariff: Tariff, *, share: float = USUAL_SHARE, is_cached: bool = True) -> float:
        """Saving of one query; below 0 where the notes' input costs more than the output they spare."""
        without = self.cost_without(tariff, is_cached=is_cached)
        return without - self.cost_with(tariff, share=share, is_cached=is_cached)

    def round_cost(self, tariff: Tariff, *, number: int) -> float:
        """Cost of round *number*, from 1: the context is cached from the second on, the notes so far are not."""
        notes = self.notes_tokens * (number - 1) // max(1, self.rounds)
        return tariff.sleep_cost(
            Usage(
                input_tokens=self.context_tokens + notes,
                cached_input_tokens=self.context_tokens if number > 1 else 0,
                output_tokens=self.round_output_tokens,
            )
        )

    def sleep_cost(self, tariff: Tariff) -> float:
        """Cost of one whole sleep."""
        return sum(self.round_cost(tariff, number=number) for number in range(1, self.rounds + 1))
