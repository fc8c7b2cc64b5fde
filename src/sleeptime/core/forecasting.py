"""Forecast how many queries are still to come on a context.

    talk                                  queries less than half an hour apart
    talks come at a rate ~ Gamma(shape, days), until one is the last, with chance 1 / (lasting + n) behind n talks
    P(at least i talks in h days) = P(not silent) · P(Poisson(rate · h) ≥ i) · Π_{k=1}^{i−1} (1 − 1 / (lasting + n + k))
    behind each query the talk goes on with chance q; else it takes another talk to bring one
    P(at least j queries) = Σ_i Binomial(i; j, 1 − q) · P(at least i talks)

The Gamma-Poisson model whose places may fall silent (BG/NBD: Fader, Hardie and Lee, 2005), with a Beta(1, lasting)
chance of it, so that counts have the tail of Zipf's law: what was asked about much lasts. A silence that is long for
the place's own rate says that it has fallen silent. The prior is shared by contexts of a kind and fitted to their
counts by moments: rates as Bühlmann and Straub (1970) fit them, lasting so that as many are expected to have fallen
silent as seem to have, q from the queries a talk.

Edits of a section come without silences: plain Gamma-Poisson. Queries behind the next edit are not worth a sleep today.

This file knows no clock (days are arguments), no prices, and nothing of what a query is about.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from operator import mul
from typing import Protocol

HORIZON_DAYS = 21.0
"""How far ahead queries count."""
MOST_ODDS = 700.0
"""Odds above e to this are certainty; a float holds no more."""
LEAST_WEIGHT = 1e-12
LEAST_CHANCE = 1e-4
"""Below these, terms of a binomial and chances are no longer summed."""
USUAL_WEIGHT_DAYS = 10.0
USUAL_WEIGHT_TALKS = 4
"""What is usual weighs as much as one context seen for ten days, with four talks."""
SHAPES = (0.1, 20.0)
LASTINGS = (0.5, 500.0)
TALK_GAP_DAYS = 30 / (24 * 60)
"""A longer pause than half an hour ends a talk."""
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
    """What was seen of a context: added on a day, asked so often in so many talks, last on a day (of any one clock)."""

    added_days: float
    queries: int = 0
    talks: int = 0
    last_days: float = 0.0

    def asked(self, now_days: float) -> Seen:
        """Count a query that comes now."""
        return Seen(
            added_days=self.added_days,
            queries=self.queries + 1,
            talks=self.talks + (not self.is_talking(now_days)),
            last_days=now_days,
        )

    def is_talking(self, now_days: float) -> bool:
        """Say whether a query now would belong to the last talk."""
        return self.queries > 0 and now_days - self.last_days <= TALK_GAP_DAYS


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
        log_exactly = shape * math.log1p(-happens)
        chance, so_far = 1.0, 0
        while True:
            chance = max(0.0, chance - math.exp(log_exactly))
            yield chance
            log_exactly += math.log((shape + so_far) / (so_far + 1) * happens)
            so_far += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Talks:
    """Talks to come: `rate` counts them as if none were the last; `ends` is lasting + n."""

    alive: float
    rate: Gamma
    ends: float

    def chances(self) -> Iterator[float]:
        """P(at least 1), P(at least 2), … talks."""
        goes_on, ends = self.alive, self.ends
        for chance in self.rate.chances():
            yield goes_on * chance
            ends += 1.0
            goes_on *= 1.0 - 1.0 / ends

    @property
    def mean(self) -> float:
        return sum(takewhile(lambda chance: chance > LEAST_CHANCE, self.chances()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """Queries to come: a talk, also the one that `is_talking`, goes on behind each query with chance `goes_on`."""

    talks: Talks
    goes_on: float
    is_talking: bool

    @property
    def mean(self) -> float:
        of_this_talk = self.goes_on / (1.0 - self.goes_on) if self.is_talking else 0.0
        return of_this_talk + self.talks.mean / (1.0 - self.goes_on)

    @property
    def variance(self) -> float:
        summed = list(takewhile(lambda chance: chance > LEAST_CHANCE, self.chances()))
        mean = sum(summed)
        return sum((2 * count - 1) * chance for count, chance in enumerate(summed, 1)) - mean * mean

    def chances(self) -> Iterator[float]:
        """P(at least 1), P(at least 2), … queries."""
        talks = self.talks.chances()
        at_least = [1.0] if self.is_talking else [next(talks)]
        weights = [1.0]
        if not self.is_talking:
            yield at_least[0]
        stays, starts = self.goes_on, 1.0 - self.goes_on
        while True:
            weights.append(0.0)
            if len(at_least) < len(weights):
                at_least.append(next(talks))
            before = 0.0
            for index, weight in enumerate(weights):
                weights[index] = stays * weight + starts * before
                before = weight
            yield sum(map(mul, weights, at_least))
            if weights[-1] < LEAST_WEIGHT:
                del weights[-1]
            if weights[0] < LEAST_WEIGHT:
                del weights[0], at_least[0]

    def chance_of_at_least(self, queries: int) -> float:
        """P(at least *queries*)."""
        return next(islice(self.chances(), queries - 1, None)) if queries > 0 else 1.0


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
    """What contexts of one kind are like: rates of talks Gamma(shape, days), how they last, how a talk goes on."""

    shape: float = 0.4
    days: float = 1.5
    lasting: float = 3.0
    goes_on: float = 0.3

    def alive(self, seen: Seen, now_days: float) -> float:
        """P(it has not fallen silent for good), from how long the silence is for its own rate."""
        if not seen.talks:
            return 1.0
        stretched = (self.days + max(now_days, seen.last_days) - seen.added_days) / (
            self.days + seen.last_days - seen.added_days
        )
        odds = (self.shape + seen.talks) * math.log(stretched) - math.log(self.lasting + seen.talks - 1)
        return 1.0 / (1.0 + math.exp(min(odds, MOST_ODDS)))

    def forecast(self, seen: Seen, now_days: float, *, horizon_days: float = HORIZON_DAYS) -> Queries:
        """Forecast the next *horizon_days* of a context."""
        talks = Talks(
            alive=self.alive(seen, now_days),
            rate=Gamma(
                shape=self.shape + seen.talks,
                days=self.days + max(0.0, now_days - seen.added_days),
                horizon_days=horizon_days,
            ),
            ends=self.lasting + seen.talks,
        )
        return Queries(talks=talks, goes_on=self.goes_on, is_talking=seen.is_talking(now_days))


USUAL = Prior()
"""Before anything was seen: a talk in four days or so, on a few contexts many more."""
USUAL_EDITS = Gamma(shape=0.6, days=30.0, horizon_days=HORIZON_DAYS)
"""Edits of one section before any was seen."""


def fit(seen: Sequence[Seen], now_days: float, *, usual: Prior = USUAL) -> Prior:
    """Fit the prior over contexts of one kind to those that were *seen*, starting from what is *usual*.

    Each counts for the days it was likely not silent. What is usual stands in as one more context,
    so that few decide little. Where rates scatter no more than chance would have them, the prior is narrow.
    """
    talks: list[int] = []
    days: list[float] = []
    counts = [USUAL_WEIGHT_TALKS]
    silent = _expected_silent(counts, usual.lasting)
    went_on = USUAL_WEIGHT_TALKS * usual.goes_on / (1.0 - usual.goes_on)
    for each in seen:
        alive = usual.alive(each, now_days)
        last = each.last_days if each.talks else now_days
        if now_days - each.added_days >= LEAST_DAYS:
            talks.append(each.talks)
            days.append(max(LEAST_DAYS, last - each.added_days + alive * (now_days - last)))
        if each.talks:
            silent += 1.0 - alive
            went_on += each.queries - each.talks
            counts.append(each.talks)
    shape, per_day = _rates(talks, days, usual)
    return Prior(
        shape=shape,
        days=shape / per_day,
        lasting=_lasting(counts, silent),
        goes_on=went_on / (went_on + sum(counts)),
    )


def _rates(talks: Sequence[int], days: Sequence[float], usual: Prior) -> tuple[float, float]:
    """Shape and mean of the Gamma over rates, by Bühlmann and Straub's moments."""
    total = sum(days)
    mean = (usual.shape / usual.days * USUAL_WEIGHT_DAYS + sum(talks)) / (USUAL_WEIGHT_DAYS + total)
    variance = usual.shape / usual.days**2
    spread = total - sum(each * each for each in days) / total if total else 0.0
    if spread > 0.0:
        rate = sum(talks) / total
        scatter = sum(each * (count / each - rate) ** 2 for count, each in zip(talks, days, strict=True))
        scatter = max(0.0, scatter - (len(days) - 1) * rate)
        variance = (USUAL_WEIGHT_DAYS * variance + scatter) / (USUAL_WEIGHT_DAYS + spread)
    low, high = SHAPES
    return min(high, max(low, mean * mean / variance)), mean


def _lasting(counts: Sequence[int], silent: float) -> float:
    """The lasting at which *silent* places are expected to have fallen silent after *counts* talks, by halving."""
    low, high = LASTINGS
    for _ in range(12):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _expected_silent(counts, middle) > silent else (low, middle)
    return math.sqrt(low * high)


def _expected_silent(counts: Sequence[int], lasting: float) -> float:
    """Σ_{k=1}^{n} 1 / (lasting + k) for each count n, which is close to log((lasting + n + ½) / (lasting + ½))."""
    return sum(math.log((lasting + count + 0.5) / (lasting + 0.5)) for count in counts)


def days_until_edit(edits: Gamma) -> float:
    """How many of the next `horizon_days` a section is expected to stand unedited.

        ∫ E[e^(−rate·u)] du from 0 to h,  E[e^(−rate·u)] = (days / (days + u))^shape

    A forecast over that many days counts the queries that come before the edit.
    """
    shape, days, horizon = edits.shape, edits.days, edits.horizon_days
    if math.isclose(shape, 1.0):
        return days * math.log1p(horizon / days)
    return days / (shape - 1.0) * (1.0 - (days / (days + horizon)) ** (shape - 1.0))
