"""Say how sure a measurement is: a paired bootstrap over contexts, and ratios at equal accuracy.

    resample contexts → every figure again in the same resamples → its middle 95 %
    equal accuracy    → shown by a bound that counts one more context, in which sleep lost everything

Queries about one context share its notes, so contexts are drawn with replacement,
never queries; where contexts come from one template, clusters of them are, and a context
below means a cluster. Measurements are grids, a row per context and a column per query, and
NaN where one is missing. Row 0 of every array of replicates is the sample itself.

This file knows nothing about models, arms or files. Seeds are arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 2000
DRAWS = 10_000
CONFIDENCE = 0.95
MARGIN = 0.02
"""Accuracies count as equal when one is shown to be less than 2 points below the other."""
BINS = 5
FEWEST_CLUSTERS = 6
"""An interval needs as many: where fewer all agree, not even a sign test shows it at 2.5 % (2⁻⁵ > 0.025 > 2⁻⁶)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval. None is "not measurable"; an interval may be open at the top."""

    value: float | None
    low: float | None = None
    high: float | None = None


def draw_weights(contexts: int, *, seed: int, resamples: int = RESAMPLES) -> Array:
    """How often each resample draws each context: one row a resample, behind a row of ones."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(contexts, np.full(contexts, 1 / contexts), size=resamples)
    return np.vstack([np.ones(contexts), drawn.astype(np.float64)])


def means(grid: Array, weights: Array) -> Array:
    """Take the mean over queries in the sample and in each resample of its contexts."""
    present = ~np.isnan(grid)
    sums = weights @ np.where(present, grid, 0.0).sum(axis=1)
    counts = weights @ present.sum(axis=1)
    return ratios(sums, counts.astype(np.float64))


def ratios(numerators: Array, denominators: Array) -> Array:
    """Divide; what would be divided by zero is NaN."""
    return np.divide(
        numerators, denominators, out=np.full(np.shape(numerators), np.nan), where=np.asarray(denominators) != 0
    )


def estimate(replicates: Array, *, confidence: float = CONFIDENCE) -> Estimate:
    """Read a figure and its percentile interval from its replicates.

    Resamples in which the figure does not exist (NaN) are left out; infinite ones count and open the interval.
    """
    value = float(replicates[0])
    if np.isnan(value):
        return Estimate(value=None)
    drawn = replicates[1:][~np.isnan(replicates[1:])]
    if drawn.size == 0:
        return Estimate(value=_finite(value))
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], method="closest_observation")
    return Estimate(value=_finite(value), low=_finite(float(low)), high=_finite(float(high)))


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None


def widened(figure: Estimate, *, clusters: int, lowest: float, highest: float) -> Estimate:
    """Give an interval without width the width that is left where all of *clusters* came out alike.

    Resampling what is alike shows no other outcome. Clusters of another kind may still be 1 − 0.025^(1/n)
    of all (Clopper and Pearson 1934), and at worst reach *lowest* or *highest* each.
    """
    if figure.value is None or figure.low is None or figure.high is None or figure.high - figure.low > 1e-12:
        return figure
    unseen = 1 - ((1 - CONFIDENCE) / 2) ** (1 / clusters)
    return Estimate(
        value=figure.value,
        low=figure.value - unseen * (figure.value - lowest),
        high=figure.value + unseen * (highest - figure.value),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One arm at one level: which answers were right, and the test-time tokens of each."""

    level: str
    correct: Array
    tokens: Array

    def among(self, present: NDArray[np.bool_]) -> "Trial":
        """Keep the queries that are *present*."""
        return Trial(
            level=self.level,
            correct=np.where(present, self.correct, np.nan),
            tokens=np.where(present, self.tokens, np.nan),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The levels at which two arms are compared, and why they are not better ones.

    `without` is the cheapest level without sleep within the margin of that arm's best;
    `with_sleep` the cheapest level with sleep shown not to be worse than that best;
    `nearest` the cheapest level with sleep that is within the margin as measured.
    """

    best: str | None = None
    without: str | None = None
    with_sleep: str | None = None
    nearest: str | None = None
    reason: str = ""


def match_levels(
    without: Sequence[Trial],
    with_sleep: Sequence[Trial],
    *,
    seed: int,
    margin: float = MARGIN,
    unit: str = "contexts",
    shares: Array | None = None,
) -> Match:
    """Choose the levels of a comparison at equal accuracy, fair to the arm without sleep.

    That arm may pick its cheapest level within *margin* of its own best. A level with
    sleep must be shown to be less than *margin* below that best. Every level with sleep
    is a try, so the tries share one chance of error, 2.5 %, by Holm's procedure, which
    needs no order among them. Levels are chosen once, on the whole sample.
    *unit* is what a row of the grids is called; *shares* are those of `draw_shares`, where they are drawn already.
    """
    without = [trial for trial in without if not np.isnan(_mean(trial.correct))]
    if not without:
        return Match(reason="nothing was measured without sleep")
    best = max(without, key=lambda trial: (_mean(trial.correct), -_mean(trial.tokens)))
    enough = [trial for trial in without if trial is best or _mean(trial.correct - best.correct) >= -margin]
    cheapest = min(enough, key=lambda trial: _mean(trial.tokens))
    slept = [trial for trial in with_sleep if not np.isnan(_mean(trial.correct - best.correct))]
    slept.sort(key=lambda trial: _mean(trial.tokens))
    if shares is None:
        shares = draw_shares(best.correct.shape[0], seed=seed)
    too_few = f"{np.count_nonzero(~np.isnan(best.correct).all(axis=1))} {unit} are too few"
    tail = (1 - CONFIDENCE) / 2
    tried = holm([inferiority_p(trial.correct, best.correct, shares, margin=margin) for trial in slept], alpha=tail)
    shown = next((trial for trial, is_shown in zip(slept, tried, strict=True) if is_shown), None)
    nearest = next((trial for trial in slept if _mean(trial.correct - best.correct) > -margin), None)
    points = f"{margin * 100:g} points"
    reason = ""
    if not slept:
        reason = "nothing was measured with sleep"
    elif nearest is None:
        reason = f"no level with sleep comes within {points} of {best.level} without sleep"
        if any(inferiority_p(best.correct, trial.correct, shares, margin=-margin) > tail for trial in slept):
            reason += f" as measured, but {too_few} to rule it out; draw more"
    elif nearest is not shown:
        reason = f"{nearest.level} with sleep is within {points} as measured, but {too_few} to show it; draw more"
    return Match(
        best=best.level,
        without=cheapest.level,
        with_sleep=shown.level if shown else None,
        nearest=nearest.level if nearest else None,
        reason=reason,
    )


def _mean(grid: Array) -> float:
    present = grid[~np.isnan(grid)]
    return float(present.mean()) if present.size else float("nan")


def draw_shares(contexts: int, *, seed: int, draws: int = DRAWS) -> Array:
    """How much each draw of a Bayesian bootstrap weighs each context, and last one context more that nobody saw."""
    return np.random.default_rng(seed).exponential(size=(draws, contexts + 1))


def inferiority_p(candidate: Array, reference: Array, shares: Array, *, margin: float = MARGIN) -> float:
    """How well the pairs still agree with *candidate* being *margin* or more below *reference*: a one-sided p-value.

    An interval resampled from the pairs alone proves too much where few of them lost:
    with none it has no width. So the context that nobody saw counts as one in which
    *candidate* lost every query (Gaffke 2005). Where contexts are lost whole or not at
    all this is the exact bound of Clopper and Pearson; a loss more never lowers it.
    """
    difference = candidate - reference
    present = ~np.isnan(difference)
    queries = present.sum(axis=1).astype(np.float64)
    most = queries.max(initial=0.0)
    sums = np.append(np.where(present, difference, 0.0).sum(axis=1), -most)
    drawn = ratios(shares @ sums, shares @ np.append(queries, most))
    return float((1 + np.count_nonzero(~(drawn > -margin))) / (1 + drawn.size))


def holm(p_values: Sequence[float], *, alpha: float) -> list[bool]:
    """Say which of several hypotheses fall, with a chance of at most *alpha* that a true one does (Holm 1979)."""
    falls = [False] * len(p_values)
    for left, i in zip(range(len(p_values), 0, -1), np.argsort(p_values, kind="stable"), strict=True):
        if p_values[i] > alpha / left:
            break
        falls[i] = True
    return falls


def envelope(tokens: Sequence[float], accuracies: Sequence[float]) -> list[tuple[float, float]]:
    """Keep the Pareto-efficient points, cheapest first: each costs more and is more accurate than the last."""
    kept: list[tuple[float, float]] = []
    for cost, accuracy in sorted(zip(tokens, accuracies, strict=True), key=lambda point: (point[0], -point[1])):
        if not kept or accuracy > kept[-1][1]:
            kept.append((cost, accuracy))
    return kept


def tokens_for(accuracy: float, points: Sequence[tuple[float, float]]) -> float:
    """Tokens an arm needs for *accuracy* along its envelope, linear between points; infinite if it never gets there."""
    for i, (cost, reached) in enumerate(points):
        if reached >= accuracy:
            if i == 0:
                return cost
            cost_before, reached_before = points[i - 1]
            return cost_before + (cost - cost_before) * (accuracy - reached_before) / (reached - reached_before)
    return float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Replicates of an arm's tokens and accuracies: one row a resample, one column a level; and of its envelope."""

    tokens: Array
    correct: Array
    envelopes: list[list[tuple[float, float]]]


def curve_of(trials: Sequence[Trial], weights: Array) -> Curve:
    """Make an arm's curve anew in each resample. Levels without an answer in it are left out of the envelope."""
    tokens, correct = (
        _means_by_column(grids, weights)
        for grids in ([trial.tokens for trial in trials], [trial.correct for trial in trials])
    )
    envelopes: list[list[tuple[float, float]]] = []
    for costs, accuracies in zip(tokens.tolist(), correct.tolist(), strict=True):
        known = [point for point in zip(costs, accuracies, strict=True) if not isnan(point[1])]
        envelopes.append(envelope([cost for cost, _ in known], [accuracy for _, accuracy in known]))
    return Curve(tokens=tokens, correct=correct, envelopes=envelopes)


def _means_by_column(grids: Sequence[Array], weights: Array) -> Array:
    """The means of several grids, one column each: one product for all is quicker than one for each."""
    sums, counts = np.zeros((weights.shape[1], len(grids))), np.zeros((weights.shape[1], len(grids)))
    for column, grid in enumerate(grids):
        sums[:, column] = np.nansum(grid, axis=1)
        counts[:, column] = np.count_nonzero(~np.isnan(grid), axis=1)
    return ratios(weights @ sums, weights @ counts)


def accuracies_for(tokens: Array, curve: Curve) -> Array:
    """Replicates of what an arm reaches for at most as many *tokens*: one row a resample, one column each of them.

    Along its envelope: linear between points, the last one's beyond it. Below the cheapest point a share of the
    queries is answered there and the others not at all: nothing buys nothing.
    """
    accuracies = np.full(tokens.shape, np.nan)
    for i, points in enumerate(curve.envelopes):
        if points:
            costs, reached = [0.0, *(cost for cost, _ in points)], [0.0, *(accuracy for _, accuracy in points)]
            accuracies[i] = np.interp(tokens[i], costs, reached)
    accuracies[np.isnan(tokens)] = np.nan
    return accuracies


def tokens_needed(accuracies: Array, curve: Curve) -> Array:
    """Replicates of the tokens an arm needs for *accuracies*, as `tokens_for`: one row a resample."""
    needed = np.full(accuracies.shape, np.nan)
    for i, (wanted, points) in enumerate(zip(accuracies.tolist(), curve.envelopes, strict=True)):
        if points:
            needed[i] = [tokens_for(accuracy, points) for accuracy in wanted]
    needed[np.isnan(accuracies)] = np.nan
    return needed


def interpolated_ratio(
    without: Sequence[Trial], with_sleep: Sequence[Trial], weights: Array, *, margin: float = MARGIN
) -> Array:
    """Replicates of the tokens without sleep over those with it, both for the best accuracy without sleep − *margin*.

    The target accuracy, both envelopes and both interpolations are made anew in each resample.
    Where sleep never reaches the target the ratio is 0: no number of tokens buys it.
    """
    return ratio_at_best(curve_of(without, weights), curve_of(with_sleep, weights), margin=margin)


def ratio_at_best(without: Curve, with_sleep: Curve, *, margin: float = MARGIN) -> Array:
    """The same as `interpolated_ratio`, of curves that are made already."""
    target = np.fmax.reduce(without.correct, axis=1, initial=-np.inf)[:, None] - margin
    return ratios(*(tokens_needed(target, curve)[:, 0] for curve in (without, with_sleep)))


def cost_per_query(test_tokens: Array, sleep_tokens: Array, *, queries: float, price: float) -> Array:
    """Spread the sleep over *queries*: t · b + S / N, in sleep tokens; *price* is t."""
    return price * test_tokens + sleep_tokens / queries


def break_even(without: Array, with_sleep: Array, sleep: Array, *, price: float = 1.0) -> Array:
    """N* = S / (t · (B − b)): queries after which a sleep has paid; infinite where it never does."""
    saved = price * (without - with_sleep)
    return np.divide(sleep, saved, out=np.full(np.shape(saved), np.inf), where=saved > 0)


def ranks(values: Array) -> Array:
    """Rank from 1; ties share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2)[inverse]


def quantile_bins(grid: Array, *, bins: int = BINS) -> NDArray[np.int64]:
    """Cut a grid into *bins* bins of equal size by rank, 0 the lowest; ties stay together; −1 where missing."""
    placed = np.full(grid.shape, -1, dtype=np.int64)
    present = ~np.isnan(grid)
    values = grid[present]
    if values.size:
        placed[present] = np.floor((ranks(values) - 0.5) / values.size * bins).astype(np.int64)
    return placed


def binned_means(grid: Array, placed: NDArray[np.int64], weights: Array, *, bins: int = BINS) -> Array:
    """Means by bin: one row a resample, one column a bin; NaN where a bin is empty."""
    return np.stack([means(np.where(placed == i, grid, np.nan), weights) for i in range(bins)], axis=1)


def spearman(left: Array, right: Array) -> float:
    """Rank correlation; NaN where a side is constant or a value is missing."""
    if np.isnan(left).any() or np.isnan(right).any():
        return float("nan")
    a, b = ranks(left), ranks(right)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else float("nan")


def rank_correlations(binned: Array) -> Array:
    """Rank correlation between the bins' order and their means, in each resample."""
    order = np.arange(binned.shape[1], dtype=np.float64)
    return np.array([spearman(order, row) for row in binned])


def slopes(x: Array, y: Array, weights: Array, strata: NDArray[np.int64] | None = None) -> Array:
    """Least-squares slope of *y* on *x*; with *strata*, each stratum keeps its own intercept."""
    present = ~(np.isnan(x) | np.isnan(y))
    rows, _ = np.nonzero(present)
    xs, ys = x[present], y[present]
    groups = np.zeros(xs.size, dtype=np.int64) if strata is None else strata[present]
    weight = weights[:, rows]
    products, squares = np.zeros(weights.shape[0]), np.zeros(weights.shape[0])
    for group in np.unique(groups):
        inside = groups == group
        w, a, b = weight[:, inside], xs[inside], ys[inside]
        total = w.sum(axis=1)
        a_mean, b_mean = ratios(w @ a, total), ratios(w @ b, total)
        products += np.nan_to_num(w @ (a * b) - total * a_mean * b_mean)
        squares += np.nan_to_num(w @ (a * a) - total * a_mean * a_mean)
    squares[squares < 1e-9] = 0.0
    return ratios(products, squares)


def sign(figure: Estimate) -> Literal["+", "−", "0", "?"]:
    """Read the sign of a figure: + or − where its interval excludes 0, 0 where it does not, ? where unmeasured."""
    if figure.value is None or figure.low is None or figure.high is None:
        return "?"
    return "+" if figure.low > 0 else "−" if figure.high < 0 else "0"
