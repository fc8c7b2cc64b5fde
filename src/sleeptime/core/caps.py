"""Caps over many sleeps: per context, per day, per month; and what one call may take of them.

    left = cap − spent − set aside        before each call, over every account it falls under

A call is set aside at its most before it goes out (`Reservation`), and settled at what it took
after. So the sum never passes a cap, however many workers there are. Money is counted in whole
billionths of a dollar, rounded up: sums of floats would drift. Output tokens are capped exactly,
because a call asks for no more; a prompt is priced by its count, which some models only estimate.

This file does not know where accounts are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sleeptime.core.errors import BudgetError
from sleeptime.core.usage import PriceCard, Usage

NANO = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What all sleeps may spend together. None means no cap. Days and months are those of UTC.

    `*_tokens` are output tokens, and `*_usd` US dollars, which need a known price.
    """

    context_tokens: int | None = None
    context_usd: float | None = None
    day_tokens: int | None = None
    day_usd: float | None = None
    month_tokens: int | None = None
    month_usd: float | None = None

    def __post_init__(self) -> None:
        for cap in (*self.tokens, *self.usd):
            if cap is not None and not 0 <= cap < math.inf:
                raise BudgetError(f"A cap is a number, not below zero: {cap} is none.")

    @property
    def tokens(self) -> tuple[int | None, int | None, int | None]:
        return self.context_tokens, self.day_tokens, self.month_tokens

    @property
    def usd(self) -> tuple[float | None, float | None, float | None]:
        return self.context_usd, self.day_usd, self.month_usd

    @property
    def has_any(self) -> bool:
        return any(cap is not None for cap in (*self.tokens, *self.usd))

    @property
    def periods(self) -> tuple[tuple[str, int | None, float | None], ...]:
        """Those that begin anew: "day" and "month", each with its output tokens and its dollars."""
        return ("day", self.day_tokens, self.day_usd), ("month", self.month_tokens, self.month_usd)

    @property
    def has_money(self) -> bool:
        return any(cap is not None for cap in self.usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """The most a call may take, set aside before it is made. `lease` is the right under which it is made.

    `price_card` names the card; `price` is needed only until it is set aside.
    """

    id: str
    at: datetime
    model: str
    context_id: str
    work_id: str
    lease: str
    input_tokens: int
    output_tokens: int
    price: PriceCard | None = None

    @property
    def nano_usd(self) -> int:
        return self._nano_usd(self.output_tokens)

    @property
    def accounts(self) -> tuple[str, str, str]:
        """The accounts it falls under: its context's, its day's, its month's."""
        return accounts(self.context_id, self.at)

    def within(self, nano_usd: int) -> Reservation:
        """The same with as much output as *nano_usd* buys."""
        if self.price is None:
            return replace(self, output_tokens=0)
        rate = self.price.at(self.input_tokens).output_usd_per_mtok
        left = nano_usd - self._nano_usd(0)
        most = self.output_tokens if rate == 0 else int(left / (rate * NANO / 1e6))
        while most > 0 and self._nano_usd(most) > nano_usd:
            most -= 1
        return replace(self, output_tokens=max(0, min(self.output_tokens, most)) if left >= 0 else 0)

    def _nano_usd(self, output_tokens: int) -> int:
        if self.price is None:
            return 0
        return nano_usd(self.price.cost_usd(Usage(input_tokens=self.input_tokens, output_tokens=output_tokens)))


def accounts(context_id: str, at: datetime) -> tuple[str, str, str]:
    """Name the accounts that a call falls under: its context's, its day's, its month's."""
    day = at.astimezone(UTC)
    return f"context:{context_id}", f"day:{day:%Y-%m-%d}", f"month:{day:%Y-%m}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """One account: what is settled, and what is set aside for calls under way."""

    tokens: int = 0
    nano_usd: int = 0
    open_tokens: int = 0
    open_nano_usd: int = 0


def nano_usd(cost_usd: float) -> int:
    """Dollars in billionths, rounded up but for what a float cannot tell."""
    return math.ceil(round(cost_usd * NANO, 3))


def granted(caps: Caps, spent: Mapping[str, Spending], asked: Reservation) -> Reservation | None:
    """How much of what is *asked* a call may take: all, what is left, or no output tokens where a cap is reached.

    None says to ask again: calls under way hold the rest, and most calls take less than was set aside for them.
    """
    given, is_held = asked, False
    for key, tokens, usd in zip(asked.accounts, caps.tokens, caps.usd, strict=True):
        account = spent.get(key, Spending())
        before = given
        if tokens is not None:
            left = max(0, tokens - account.tokens - account.open_tokens)
            given = replace(given, output_tokens=min(given.output_tokens, left))
        if usd is not None:
            left = int(usd * NANO + 1e-3) - account.nano_usd - account.open_nano_usd
            if given.price is None or given.nano_usd > left:
                given = given.within(left)
        is_reached = (tokens is not None and account.tokens >= tokens) or (
            usd is not None and account.nano_usd >= int(usd * NANO + 1e-3)
        )
        is_held |= given != before and account.open_tokens > 0 and not is_reached
        if is_reached:
            return replace(given, output_tokens=0)
    return None if is_held else given
