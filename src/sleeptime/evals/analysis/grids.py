"""What every analysis does with grids: fill them, compare two arms on them, charge the sleep.

    sleep       = (spent by sleeps on contexts learned about + wasted by failed ones) / contexts learned about
    cost ratio  = t·B / (t·b + S / N)
    break-even  = S / (t·(B − b))

A grid has a row per cluster that is resampled, a column per query or context of it, and NaN
where one is missing. This file knows nothing about arms, runs or files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sleeptime.evals.analysis import stats
from sleeptime.evals.analysis.stats import Array, Trial

Mask = NDArray[np.bool_]
Place = tuple[int, int]

NEVER_REACHED = "with sleep that accuracy is never reached"


def filled(shape: tuple[int, int], values: Iterable[tuple[Place, float]]) -> Array:
    """Make a grid of *values*, each at its place."""
    grid = np.full(shape, np.nan)
    for at, value in values:
        grid[at] = value
    return grid


def any_present(grid: Array) -> Mask:
    """Say of each row whether anything of it was measured: a grid of one column."""
    return np.any(~np.isnan(grid), axis=1, keepdims=True)


def per_learned(spent: Array, wasted: Array, learned: Mask, weights: Array) -> Array:
    """Replicates of what it takes to learn about one of the contexts that are *learned* about.

    *spent* holds what each sleep took, and *wasted* what failed ones did, which is charged to the learned.
    """
    charged = np.where(learned, spent, 0.0) + np.nan_to_num(wasted)
    return stats.ratios(weights @ charged.sum(axis=1), weights @ learned.sum(axis=1).astype(np.float64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Replicates of what one answer takes without sleep and with it, and what a sleep takes; all in one unit."""

    without: Array
    with_sleep: Array
    sleep: Array

    @property
    def answer_ratio(self) -> Array:
        """How many times less an answer takes with sleep, the sleep left out."""
        return stats.ratios(self.without, self.with_sleep)

    def per_query(self, *, queries: float, price: float = 1) -> tuple[Array, Array]:
        """Cost of a query without sleep and with it, where *queries* share a sleep and t is *price*."""
        with_sleep = stats.cost_per_query(self.with_sleep, self.sleep, queries=queries, price=price)
        return price * self.without, with_sleep

    def cost_ratio(self, *, queries: float, price: float = 1) -> Array:
        """How many times cheaper sleep makes a query."""
        return stats.ratios(*self.per_query(queries=queries, price=price))

    def break_even(self, *, price: float = 1) -> Array:
        """Queries after which a sleep has paid."""
        return stats.break_even(self.without, self.with_sleep, self.sleep, price=price)


def answered(trials: Sequence[Trial]) -> Mask:
    """Find the queries that were answered in every one of *trials*."""
    return np.logical_and.reduce([~np.isnan(trial.correct) for trial in trials])


def on_common_queries(
    without: Sequence[Trial], with_sleep: Sequence[Trial], among: Mask
) -> tuple[list[Trial], list[Trial], Mask]:
    """Keep of two arms the queries *among* those answered at every level of both; and say which these are.

    Levels at which nothing was measured are left out.
    """
    plain, slept = ([trial for trial in arm if not np.isnan(trial.correct).all()] for arm in (without, with_sleep))
    present = among & answered([*plain, *slept])
    return [trial.among(present) for trial in plain], [trial.among(present) for trial in slept], present
