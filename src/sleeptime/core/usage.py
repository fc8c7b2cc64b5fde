"""Tokens and money: what was spent, and what a token costs.

    cost_usd = (input − cached) · p_in + cached · p_cached + output · p_out

Totals are inclusive. An unknown price stays unknown (`None`); it is never 0.
This file does not know who spent the tokens or where prices come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens spent by one or more model calls. Adds up with ``+``.

    Totals are inclusive: `input_tokens` counts cached tokens and `output_tokens`
    counts reasoning tokens, whatever the provider's own convention.
    """

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def __post_init__(self) -> None:
        if min(self.input_tokens, self.cached_input_tokens, self.output_tokens, self.reasoning_tokens) < 0:
            raise ValueError(f"token counts cannot be negative: {self}")
        if self.cached_input_tokens > self.input_tokens or self.reasoning_tokens > self.output_tokens:
            raise ValueError(f"totals are inclusive, so a part cannot exceed its total: {self}")

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceCard:
    """What one model's tokens cost, in US dollars per million tokens, on a day.

    `cached_input_usd_per_mtok` falls back to the full input price when a card
    gives none: an unknown discount is not assumed. Where a long prompt makes all
    tokens of its call dearer, `above` holds (n, the prices of a call with more than
    n input tokens), in ascending order. So price each call by itself, not their sum. `tiers` are the cards of
    the provider's other tiers, each with what replies call its `tier`: at which one a call was served its reply says.
    """

    name: str
    dated: date
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cached_input_usd_per_mtok: float | None = None
    above: tuple[tuple[int, PriceCard], ...] = ()
    tier: str = ""
    tiers: tuple[PriceCard, ...] = ()

    def __post_init__(self) -> None:
        prices = (self.input_usd_per_mtok, self.output_usd_per_mtok, self.cached_input_usd_per_mtok or 0.0)
        if not all(0 <= price < 1e6 for price in prices):
            raise ValueError(f"prices must be finite and not negative: {self}")
        starts = [start for start, _ in self.above]
        if starts != sorted(set(starts)) or any(card.above for _, card in self.above):
            raise ValueError(f"tiers must ascend and have none of their own: {self}")

    def served(self, tier: str | None) -> PriceCard:
        """The prices of a call that was served at *tier*; these where no card of its own is known."""
        return next((card for card in self.tiers if card.tier == tier), self)

    def at(self, input_tokens: int) -> PriceCard:
        """The prices of a call with *input_tokens*."""
        passed = [card for start, card in self.above if input_tokens > start]
        return passed[-1] if passed else self

    def cost_usd(self, usage: Usage) -> float:
        """Price the *usage* of one call, in US dollars."""
        card = self.at(usage.input_tokens)
        cached_price = card.cached_input_usd_per_mtok
        if cached_price is None:
            cached_price = card.input_usd_per_mtok
        fresh = usage.input_tokens - usage.cached_input_tokens
        return (
            fresh * card.input_usd_per_mtok
            + usage.cached_input_tokens * cached_price
            + usage.output_tokens * card.output_usd_per_mtok
        ) / 1e6


def sum_costs(costs: list[float | None]) -> float | None:
    """Add up costs; one unknown part makes the sum unknown. Nothing costs 0."""
    total = 0.0
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total
