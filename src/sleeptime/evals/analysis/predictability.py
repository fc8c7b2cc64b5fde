"""What sleep gains, by how predictable a query was from its context (E6).

    gain of a query = right with sleep − right without it, at the lowest level
    rho             = rank correlation of the gain with the order of five bins of log P(query | context)

Bins are cut once, on the whole sample, into fifths of the queries that both cells answered. A sum of
log-probabilities falls with length, which a mean does not; so everything is told by both.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from sleeptime.evals.analysis import stats
from sleeptime.evals.analysis.findings import Bin, Measure, Predictability
from sleeptime.evals.analysis.run_grids import DIFFERENCE, SHARE, RunGrids, unmeasured
from sleeptime.evals.analysis.stats import Array
from sleeptime.evals.runs.results import Cell


def by_predictability(grids: RunGrids) -> tuple[Predictability, ...]:
    """Tell the gain at the lowest level that both arms have: of the full sleep, and of what is less beside it.

    Less is half of its notes, or a sleep of another limit. Other samples, efforts or temperatures are told as
    more sleep (E4).
    """
    without, full = grids.curve("no_sleep"), grids.curve("sleep")
    level = next((level for level in without if level in full), None)
    totals, means = grids.surprises()
    if level is None or np.isnan(totals).all():
        return ()
    cells = [
        cell
        for cell in [*grids.cells("sleep"), *grids.cells("half")]
        if cell.level == level and _scale(cell) == _scale(full[level])
    ]
    cells.sort(key=lambda cell: cell != full[level])
    told: list[Predictability] = []
    for cell in cells:
        told.append(_of_cell(grids, without[level], cell, totals, by="sum"))
        told.append(_of_cell(grids, without[level], cell, means, by="mean"))
    return tuple(told)


def _scale(cell: Cell) -> tuple[int, str | None, float | None] | None:
    return cell.sleeping and (cell.sleeping.samples, cell.sleeping.effort, cell.sleeping.temperature)


def _of_cell(
    grids: RunGrids, without: Cell, slept: Cell, log_probs: Array, *, by: Literal["sum", "mean"]
) -> Predictability:
    plain, learned = grids.correct(without), grids.correct(slept)
    gain = learned - plain
    on = ~np.isnan(gain + log_probs)
    of = grids.asked_by(without) & grids.asked_by(slept)
    log_probs = np.where(on, log_probs, np.nan)
    placed = stats.quantile_bins(log_probs)
    binned = stats.binned_means(gain, placed, grids.weights)

    def in_bin(number: int) -> Bin:
        inside = placed == number
        return Bin(
            log_prob=float(log_probs[inside].mean()) if inside.any() else None,
            without=grids.measure(grids.mean(plain, inside), inside, of=inside, bounds=SHARE),
            with_sleep=grids.measure(grids.mean(learned, inside), inside, of=inside, bounds=SHARE),
            gain=grids.measure(binned[:, number], inside, of=inside, bounds=DIFFERENCE),
        )

    return Predictability(
        cell=slept.id,
        by=by,
        bins=tuple(in_bin(number) for number in range(stats.BINS)),
        rho=grids.measure(stats.rank_correlations(binned), on, of=of),
        slope=grids.measure(stats.slopes(log_probs, gain, grids.weights), on, of=of),
        within_depth=_within_depth(grids, log_probs, gain),
    )


def _within_depth(grids: RunGrids, log_probs: Array, gain: Array) -> Measure:
    """The slope among queries of equal depth, all depths pooled, each with an intercept of its own."""
    depths = grids.of_asked(lambda asked: None if asked.depth is None else float(asked.depth))
    if np.isnan(depths).all():
        return unmeasured("depths are not known of this dataset")
    known = ~np.isnan(log_probs + depths)
    strata = np.nan_to_num(depths, nan=-1).astype(np.int64)
    slopes = stats.slopes(np.where(known, log_probs, np.nan), gain, grids.weights, strata)
    return grids.measure(slopes, known, of=~np.isnan(log_probs))
