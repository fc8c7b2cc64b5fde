"""Two arms at equal accuracy (E1, E2), and what a query then costs (E5).

    shift(level)  = what sleep reaches for at most the tokens of level without it − that level's accuracy
    cost of a query = t · test tokens + sleep tokens / N, or in money at the run's price cards

Equal accuracy is shown by non-inferiority (see `stats.match_levels`). The levels compared are
chosen on the whole sample and held fixed, so intervals leave the choice out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sleeptime.evals.analysis import grids as pairs
from sleeptime.evals.analysis import stats
from sleeptime.evals.analysis.findings import Amortisation, BreakEven, Comparison, CostPoint, Measure
from sleeptime.evals.analysis.grids import Mask, Spent
from sleeptime.evals.analysis.run_grids import DIFFERENCE, RunGrids, sleep_cost_usd, unmeasured
from sleeptime.evals.analysis.stats import Match, Trial
from sleeptime.evals.runs.results import Arm, Cell

PRICES = (2.0, 4.0, 10.0, 12.0)
"""t: what one test-time token costs in sleep tokens (the paper asserts 10)."""
QUERIES = (1, 2, 5, 10)
"""N: how many queries share a sleep."""


def compare(grids: RunGrids, with_sleep: Arm, among: Mask, *, stratum: str = "") -> Comparison | None:
    """Compare no sleep with an arm that slept, on the queries *among* and the levels that both have; None without."""
    without, slept = grids.curve("no_sleep"), grids.curve(with_sleep)
    levels = [level for level in without if level in slept]
    if not levels:
        return None
    plain, learned = ([grids.trial(curve[level], among) for level in levels] for curve in (without, slept))
    match = stats.match_levels(plain, learned, seed=grids.seed, unit=grids.unit, shares=grids.shares)
    asked = [grids.asked_by(curve[level]) for curve in (without, slept) for level in levels]
    along = _along_the_curves(grids, plain, learned, among, among & np.logical_and.reduce(asked))
    return Comparison(
        stratum=stratum,
        without="no_sleep",
        with_sleep=with_sleep,
        margin=stats.MARGIN,
        match=match,
        token_ratio=_token_ratio(grids, with_sleep, match.without, match.with_sleep, among, match.reason),
        as_measured=_token_ratio(grids, with_sleep, match.without, match.nearest, among, match.reason),
        interpolated=along.ratio,
        gains=tuple((level, grids.difference(slept[level], without[level], among)) for level in levels),
        shifts=along.shifts,
        savings=along.savings,
    )


def _token_ratio(
    grids: RunGrids, with_sleep: Arm, without_level: str | None, with_level: str | None, among: Mask, reason: str
) -> Measure:
    if without_level is None or with_level is None:
        return unmeasured(reason)
    cells = grids.curve("no_sleep")[without_level], grids.curve(with_sleep)[with_level]
    on, of = _both(grids, *cells, among)
    without, slept = (grids.mean(grids.tokens(cell), on) for cell in cells)
    return grids.measure(stats.ratios(without, slept), on, of=of)


def _both(grids: RunGrids, without: Cell, slept: Cell, among: Mask) -> tuple[Mask, Mask]:
    """The queries that both cells answered, and those that both ask."""
    answered = ~np.isnan(grids.correct(without) + grids.correct(slept))
    return among & answered, among & grids.asked_by(without) & grids.asked_by(slept)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Along:
    """What is read off both curves: by level without sleep, how far that with sleep lies above it and to its left."""

    ratio: Measure
    shifts: tuple[tuple[str, Measure], ...] = ()
    savings: tuple[tuple[str, Measure], ...] = ()


def _along_the_curves(
    grids: RunGrids, without: Sequence[Trial], with_sleep: Sequence[Trial], among: Mask, of: Mask
) -> _Along:
    without, with_sleep, present = pairs.on_common_queries(without, with_sleep, among)
    if not (without and with_sleep and present.any()):
        why = "no query was answered at every level of both"
        return _Along(ratio=grids.measure(None, np.zeros_like(present), of=of, note=why))
    plain, slept = (stats.curve_of(arm, grids.weights) for arm in (without, with_sleep))
    ratio = stats.ratio_at_best(plain, slept)
    higher = stats.accuracies_for(plain.tokens, slept) - plain.correct
    fewer = stats.ratios(plain.tokens, stats.tokens_needed(plain.correct - stats.MARGIN, slept))
    is_reached = ratio[0] != 0
    levels = [(i, trial.level) for i, trial in enumerate(without)]
    return _Along(
        ratio=grids.measure(
            ratio if is_reached else None, present, of=of, note="" if is_reached else pairs.NEVER_REACHED
        ),
        shifts=tuple((level, grids.measure(higher[:, i], present, of=of, bounds=DIFFERENCE)) for i, level in levels),
        savings=tuple((level, grids.measure(fewer[:, i], present, of=of)) for i, level in levels),
    )


def amortise(grids: RunGrids, match: Match) -> Amortisation | None:
    """What a query costs at the matched levels, else at the nearest as measured; None where there are neither."""
    level = match.with_sleep or match.nearest
    if match.without is None or level is None:
        return None
    without, slept = grids.curve("no_sleep")[match.without], grids.curve("sleep")[level]
    assert slept.sleeping is not None
    on, of = _both(grids, without, slept, grids.learned(slept.sleeping))
    of |= grids.asked_by(without) & grids.asked_by(slept)
    sleep, _ = grids.per_sleep(slept.sleeping, on)
    tokens = Spent(
        without=grids.mean(grids.tokens(without), on), with_sleep=grids.mean(grids.tokens(slept), on), sleep=sleep
    )
    points = [_cost_point(grids, tokens, on, of, price=t, queries=queries) for t in PRICES for queries in QUERIES]
    break_evens = [_break_even(grids, tokens, on, of, price=t) for t in PRICES]
    card = grids.run.sleep_price
    for is_cached in (True, False) if grids.run.price is not None and card is not None else ():
        answers = [grids.cost_usd(cell, is_cached=is_cached) for cell in (without, slept)]
        paid = on & ~np.isnan(answers[0] + answers[1])
        assert card is not None
        slept_usd, _ = grids.per_sleep(slept.sleeping, paid, sleep_cost_usd(card, is_cached=is_cached))
        money = Spent(without=grids.mean(answers[0], paid), with_sleep=grids.mean(answers[1], paid), sleep=slept_usd)
        points += [_cost_point(grids, money, paid, of, queries=n, is_cached=is_cached) for n in QUERIES]
        break_evens.append(_break_even(grids, money, paid, of, is_cached=is_cached))
    return Amortisation(
        without_level=match.without,
        with_level=level,
        is_shown=match.with_sleep is not None,
        points=tuple(points),
        break_evens=tuple(break_evens),
        sleep_tokens=grids.sleep_tokens(slept.sleeping, of),
    )


def _cost_point(
    grids: RunGrids,
    spent: Spent,
    on: Mask,
    of: Mask,
    *,
    queries: int,
    price: float | None = None,
    is_cached: bool = False,
) -> CostPoint:
    without, with_sleep = spent.per_query(queries=queries, price=price or 1)
    return CostPoint(
        price=price,
        is_cached=is_cached,
        queries=queries,
        without=grids.measure(without, on, of=of),
        with_sleep=grids.measure(with_sleep, on, of=of),
        ratio=grids.measure(spent.cost_ratio(queries=queries, price=price or 1), on, of=of),
    )


def _break_even(
    grids: RunGrids, spent: Spent, on: Mask, of: Mask, *, price: float | None = None, is_cached: bool = False
) -> BreakEven:
    queries = grids.measure(spent.break_even(price=price or 1), on, of=of)
    return BreakEven(price=price, is_cached=is_cached, queries=queries)
