"""Forecast how many queries are still to come on a context.

    rate ~ Gamma(shape, days)                  how often it is asked about, while it is
    silent for good after a query ~ 1 / (lasting + n)        n queries so far: what was asked about much lasts
    P(at least j in h days) = P(not silent) · P(Poisson(rate · h) ≥ j) · Π_{i=1}^{j−1} (1 − 1 / (lasting + n + i))

The Gamma-Poisson model whose places may fall silent (BG/NBD: Fader, Hardie and Lee, 2005), with a Beta(1, lasting)
chance of it: counts then have the tail of Zipf's law. A silence that is long for the place's own rate says that it
has fallen silent. The prior is shared by contexts of a kind and fitted to their counts by moments: rates as Bühlmann
and Straub (1970) fit them, lasting so that as many are expected to have fallen silent as seem to have.

Edits of a section come without silences: plain Gamma-Poisson. Queries behind the next edit are not worth a sleep today.

This file knows no clock (days are arguments), no prices, and nothing of what a query is about.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

HORIZON_DAYS = 14.0
"""How far ahead queries count."""
LEAST_CHANCE = 1e-6
"""Chances below this are no longer summed."""
USUAL_WEIGHT_DAYS = 10.0
USUAL_WEIGHT_QUERIES = 4
"""What is usual weighs as much as one context seen for ten days, with four queries."""
SHAPES = (0.1, 20.0)
LASTINGS = (0.5, 500.0)
LEAST_DAYS = 0.5
"""Contexts seen for less say nothing of rates yet."""


class Forecast(Protocol):
    """What a decision needs to know of the queries to come."""

    @property
    def mean(self) -> float:
        """How many are expected."""
        ...

    def chances(self) -> Iterator[float]:
        """P(at least 1), P(at least 2), … without end; they never rise, and fall to 0."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of a context: added on a day, asked so many times, last on a day. Days are of any one clock."""

    added_days: float
    queries: int = 0
    last_days: float = 0.0

    def asked(self, now_days: float) -> Seen:
        """Count a query that comes now."""
        return Seen(added_days=self.added_days, queries=self.queries + 1, last_days=now_days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gamma:
    """Events to come within `horizon_days` at a rate that is Gamma(shape, days): negative binomial."""

    shape: float
    days: float
    horizon_days: float

    @property
    def mean(self) -> float:
        return self.shape * self.horizon_days / self.days

    @property
    def variance(self) -> float:
        """Larger than the mean by what is not known of the rate."""
        return self.mean * (1.0 + self.horizon_days / self.days)

    def chances(self) -> Iterator[float]:
        """P(at least 1), P(at least 2), … events."""
        shape = self.shape
        happens = self.horizon_days / (self.days + self.horizon_days)
        exactly = (1.0 - happens) ** shape
        chance, so_far = 1.0, 0
        while True:
            chance = max(0.0, chance - exactly)
            yield chance
            exactly *= (shape + so_far) / (so_far + 1) * happens
            so_far += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """Queries to come: `rate` counts them as if none were the last; `ends` is lasting + n."""

    alive: float
    rate: Gamma
    ends: float

    def chances(self) -> Iterator[float]:
        """P(at least 1), P(at least 2), … queries."""
        goes_on, ends = self.alive, self.ends
        for chance in self.rate.chances():
            yield goes_on * chance
            ends += 1.0
            goes_on *= 1.0 - 1.0 / ends

    @property
    def mean(self) -> float:
        return sum(self._summed())

    @property
    def variance(self) -> float:
        summed = list(self._summed())
        mean = sum(summed)
        return sum((2 * count - 1) * chance for count, chance in enumerate(summed, 1)) - mean * mean

    def chance_of_at_least(self, queries: int) -> float:
        """P(at least *queries*)."""
        if queries <= 0:
            return 1.0
        return next(chance for count, chance in enumerate(self.chances(), 1) if count == queries)

    def _summed(self) -> Iterator[float]:
        for chance in self.chances():
            if chance < LEAST_CHANCE:
                return
            yield chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A forecast that somebody gives as one number, as if it were certain."""

    queries: float

    @property
    def mean(self) -> float:
        return self.queries

    def chances(self) -> Iterator[float]:
        whole = math.floor(self.queries)
        for _ in range(whole):
            yield 1.0
        yield self.queries - whole
        while True:
            yield 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What contexts of one kind are like: rates Gamma(shape, days), and how they last."""

    shape: float = 0.4
    days: float = 1.5
    lasting: float = 3.0

    def alive(self, seen: Seen, now_days: float) -> float:
        """P(it has not fallen silent for good), from how long the silence is for its own rate."""
        if not seen.queries:
            return 1.0
        stretched = (self.days + max(now_days, seen.last_days) - seen.added_days) / (
            self.days + seen.last_days - seen.added_days
        )
        odds = (self.shape + seen.queries) * math.log(stretched) - math.log(self.lasting + seen.queries - 1)
        return 1.0 / (1.0 + math.exp(min(odds, 700.0)))

    def forecast(self, seen: Seen, now_days: float, *, horizon_days: float = HORIZON_DAYS) -> Queries:
        """Forecast the next *horizon_days* of a context."""
        return Queries(
            alive=self.alive(seen, now_days),
            rate=Gamma(
                shape=self.shape + seen.queries,
                days=self.days + max(0.0, now_days - seen.added_days),
                horizon_days=horizon_days,
            ),
            ends=self.lasting + seen.queries,
        )


USUAL = Prior()
"""Before anything was seen: one query in four days or so, on a few contexts many more."""
USUAL_EDITS = Gamma(shape=0.6, days=30.0, horizon_days=HORIZON_DAYS)
"""Edits of one section before any was seen."""


def fit(seen: Sequence[Seen], now_days: float, *, usual: Prior = USUAL) -> Prior:
    """Fit the prior over contexts of one kind to those that were *seen*, starting from what is *usual*.

    Each counts for the days it was likely not silent. What is usual stands in as one more context,
    so that few decide little. Where rates scatter no more than chance would have them, the prior is narrow.
    """
    queries: list[int] = []
    days: list[float] = []
    silent = USUAL_WEIGHT_QUERIES / (usual.lasting + USUAL_WEIGHT_QUERIES)
    counts = [USUAL_WEIGHT_QUERIES]
    for each in seen:
        alive = usual.alive(each, now_days)
        last = each.last_days if each.queries else now_days
        if now_days - each.added_days >= LEAST_DAYS:
            queries.append(each.queries)
            days.append(max(LEAST_DAYS, last - each.added_days + alive * (now_days - last)))
        if each.queries:
            silent += 1.0 - alive
            counts.append(each.queries)
    shape, per_day = _rates(queries, days, usual)
    return Prior(shape=shape, days=shape / per_day, lasting=_lasting(counts, silent))


def _rates(queries: Sequence[int], days: Sequence[float], usual: Prior) -> tuple[float, float]:
    """Shape and mean of the Gamma over rates, by Bühlmann and Straub's moments."""
    total = sum(days)
    mean = (usual.shape / usual.days * USUAL_WEIGHT_DAYS + sum(queries)) / (USUAL_WEIGHT_DAYS + total)
    variance = usual.shape / usual.days**2
    spread = total - sum(each * each for each in days) / total if total else 0.0
    if spread > 0.0:
        rate = sum(queries) / total
        scatter = sum(each * (count / each - rate) ** 2 for count, each in zip(queries, days, strict=True))
        scatter = max(0.0, scatter - (len(days) - 1) * rate)
        variance = (USUAL_WEIGHT_DAYS * variance + scatter) / (USUAL_WEIGHT_DAYS + spread)
    low, high = SHAPES
    return min(high, max(low, mean * mean / variance)), mean


def _lasting(counts: Sequence[int], silent: float) -> float:
    """The lasting at which *silent* places are expected to have fallen silent after *counts* queries.

    Σ_{k=1}^{n} 1 / (lasting + k) is close to log((lasting + n + ½) / (lasting + ½)), which falls in lasting: halved in.
    """
    low, high = LASTINGS
    for _ in range(12):
        middle = math.sqrt(low * high)
        expected = sum(math.log((middle + count + 0.5) / (middle + 0.5)) for count in counts)
        low, high = (middle, high) if expected > silent else (low, middle)
    return math.sqrt(low * high)


def days_until_edit(edits: Gamma) -> float:
    """How many of the next `horizon_days` a section is expected to stand unedited.

        ∫ E[e^(−rate·u)] du from 0 to h,  E[e^(−rate·u)] = (days / (days + u))^shape

    A forecast over that many days counts the queries that come before the edit.
    """
    shape, days, horizon = edits.shape, edits.days, edits.horizon_days
    if math.isclose(shape, 1.0):
        return days * math.log1p(horizon / days)
    return days / (shape - 1.0) * (1.0 - (days / (days + horizon)) ** (shape - 1.0))
