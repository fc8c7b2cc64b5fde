"""Everything a run found, from its rows: the paper's experiments and ours, with their controls.

    analyse(run) → Findings

Every figure is computed again in the same resamples of whole clusters, and two arms are compared on
the queries that both answered; an answer that failed is missing and counted, never wrong. Pure: the
same run and seed give the same findings, whatever the order of the rows. Which comparison is made on
which grids stands in `equal_accuracy` (E1, E2, E5), `predictability` (E6) and here (E3, E4, E8).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sleeptime.core.budget import EFFORTS
from sleeptime.core.errors import InputError
from sleeptime.evals.analysis import claims, draws, stats
from sleeptime.evals.analysis.equal_accuracy import amortise, compare
from sleeptime.evals.analysis.findings import (
    Comparison,
    Control,
    DrawPoint,
    EqualTotal,
    Findings,
    Measure,
    Point,
    ScalingKind,
    ScalingPoint,
)
from sleeptime.evals.analysis.grids import Mask, answered, filled
from sleeptime.evals.analysis.predictability import by_predictability
from sleeptime.evals.analysis.run_grids import DIFFERENCE, SHARE, RunGrids, unmeasured
from sleeptime.evals.analysis.stats import Array
from sleeptime.evals.runs.results import Arm, Cell, Row, Run, Sleeping

COMPARED: tuple[Arm, ...] = ("sleep", "learned")
"""What no sleep is compared with at equal accuracy."""

LEAST_SLEEP = "this is the least sleep of its kind"


class EmptyRunError(InputError):
    """A run asks nothing, so nothing can be found in it."""


def analyse(run: Run, *, seed: int = 0) -> Findings:
    """Compute every figure of a run. *seed* draws the resamples. Raises EmptyRunError."""
    if not run.asked:
        raise EmptyRunError("This run asks no queries. Begin it again with a dataset that has some.")
    grids = RunGrids(run, seed=seed)
    comparisons = _comparisons(grids, grids.everything)
    slept = next((each.match for each in comparisons if each.with_sleep == "sleep"), None)
    found = Findings(
        experiments=run.experiments,
        claims=(),
        points=tuple(_point(grids, cell) for cell in run.cells if grids.is_measured(cell)),
        comparisons=comparisons,
        strata=_strata(grids),
        draws=tuple(point for cell in grids.cells("draws") for point in _draw_points(grids, cell)),
        scaling=_scaling(grids),
        amortisation=None if slept is None else amortise(grids, slept),
        predictability=by_predictability(grids),
        guesses=tuple(_control(grids, cell) for cell in grids.cells("guess")),
        controls=tuple(_control(grids, cell) for arm in _CONTROLS for cell in grids.cells(arm)),
        equal_totals=tuple(filter(None, (_equal_total(grids, cell) for cell in grids.cells("draws")))),
        not_measured=_not_measured(grids),
        contexts=grids.contexts,
        clusters=grids.clusters,
        queries=int(np.count_nonzero(grids.everything)),
        failed_answers=sum(row.is_correct is None for row in run.rows),
        failed_sleeps=sum(bool(slept.error) for slept in run.slept),
        spent_usd=run.spent_usd,
        paid_calls=run.paid_calls,
        price=run.price,
        sleep_price=run.sleep_price,
        provenance=run.provenance,
    )
    return replace(found, claims=claims.judge(found))


_CONTROLS: tuple[Arm, ...] = ("placebo", "restatement")


def _comparisons(grids: RunGrids, among: Mask, *, stratum: str = "") -> tuple[Comparison, ...]:
    return tuple(filter(None, (compare(grids, arm, among, stratum=stratum) for arm in COMPARED)))


def _strata(grids: RunGrids) -> tuple[Comparison, ...]:
    """The comparisons within each stratum, where there are several."""
    strata = sorted({asked.stratum for asked in grids.run.asked})
    if len(strata) == 1:
        return ()
    return tuple(
        comparison
        for stratum in strata
        for comparison in _comparisons(
            grids, grids.where(lambda asked, stratum=stratum: asked.stratum == stratum), stratum=stratum
        )
    )


def _not_measured(grids: RunGrids) -> dict[str, str]:
    """Why there are no figures: what the run says, and what has no answer yet or failed throughout."""
    told = dict(grids.run.not_measured)
    for cell in grids.run.cells:
        if not grids.is_measured(cell):
            tried = [row for row in grids.run.rows if row.cell == cell.id]
            why = f"all of {len(tried)} answers failed, the first with {tried[0].error}" if tried else "no answers yet"
            told.setdefault(cell.id, why)
    if grids.run.price is None or grids.run.sleep_price is None:
        told.setdefault("money", "no price is known of the models")
    return told


def _point(grids: RunGrids, cell: Cell) -> Point:
    accuracy, tokens = _own(grids, cell)
    on = ~np.isnan(grids.correct(cell))
    costs = grids.cost_usd(cell, is_cached=True)

    def mean(name: str) -> float:
        def read(row: Row) -> float:
            return float(getattr(row.usage, name))

        return float(grids.of(cell, name, read)[on].mean())

    return Point(
        cell=cell.id,
        arm=cell.arm,
        level=cell.level,
        samples=1 if cell.sleeping is None else cell.sleeping.samples,
        effort=None if cell.sleeping is None else cell.sleeping.effort,
        accuracy=accuracy,
        tokens=tokens,
        input_tokens=mean("input_tokens"),
        cached_input_tokens=mean("cached_input_tokens"),
        reasoning_tokens=mean("reasoning_tokens"),
        sleep_tokens=None if cell.sleeping is None else grids.sleep_tokens(cell.sleeping, grids.asked_by(cell)),
        cost_usd=None if np.isnan(costs[on]).any() else float(costs[on].mean()),
    )


def _draw_points(grids: RunGrids, cell: Cell) -> list[DrawPoint]:
    """Pass@k and majority@k of a cell's draws, against sleep at as many test-time tokens (E3)."""
    votes, tokens = grids.votes(cell), grids.tokens(cell)
    curve = [grids.trial(slept, grids.everything) for slept in grids.curve("sleep").values()]
    both = answered(curve) if curve else grids.everything
    of = grids.asked_by(cell)
    points: list[DrawPoint] = []
    on, slept, per_draw = np.zeros(grids.shape, dtype=np.bool_), None, np.zeros(0)
    for k in range(1, max(each.drawn for each in votes.values()) + 1):
        at = {place: each for place, each in votes.items() if each.drawn >= k}
        best = filled(grids.shape, [(place, draws.pass_at(each)[k - 1]) for place, each in at.items()])
        vote = filled(grids.shape, [(place, draws.majority_at(each)[k - 1]) for place, each in at.items()])
        before, on = on, both & ~np.isnan(best)
        if (on != before).any() or k == 1:  # the same queries as for one draw less, unless some draw is missing
            per_draw = grids.mean(tokens, on)
            slept = stats.curve_of([trial.among(on) for trial in curve], grids.weights) if curve else None
        spent, pass_at_k, majority_at_k = k * per_draw, grids.mean(best, on), grids.mean(vote, on)
        sleep = None if slept is None else stats.accuracies_for(spent[:, None], slept)[:, 0]
        points.append(
            DrawPoint(
                level=cell.level,
                k=k,
                tokens=grids.measure(spent, on, of=of),
                pass_at_k=grids.measure(pass_at_k, on, of=of, bounds=SHARE),
                majority_at_k=grids.measure(majority_at_k, on, of=of, bounds=SHARE),
                sleep=grids.measure(sleep, on, of=of, bounds=SHARE),
                over_pass=grids.measure(_minus(sleep, pass_at_k), on, of=of, bounds=DIFFERENCE),
                over_majority=grids.measure(_minus(sleep, majority_at_k), on, of=of, bounds=DIFFERENCE),
            )
        )
    return points


def _minus(left: Array | None, right: Array) -> Array | None:
    return None if left is None else left - right


def _scaling(grids: RunGrids) -> tuple[ScalingPoint, ...]:
    """More sleep, wherever sleeps at one level differ in how much there is of it alone (E4)."""
    points: list[ScalingPoint] = []
    joined_families = _families(grids.cells("sleep"), lambda sleeping: replace(sleeping, samples=1))
    merged_families = _families(grids.cells("merged"), lambda sleeping: replace(sleeping, samples=1))
    for family, joined in joined_families.items():
        merged = merged_families.get(family, [])
        more = sorted(joined, key=_samples)
        if len(more) > 1:
            points += [_scaling_point(grids, "joined", cell, more[:i]) for i, cell in enumerate(more)]
        of_samples = {_samples(cell): cell for cell in more}
        rising = [*more[:1], *sorted(merged, key=_samples)]
        points += [
            _scaling_point(grids, "merged", cell, rising[:i], of_samples.get(_samples(cell)))
            for i, cell in enumerate(rising)
            if cell.arm == "merged"
        ]
    efforts = [cell for cell in grids.cells("sleep") if cell.sleeping is not None and cell.sleeping.effort]
    for same in _families(efforts, lambda sleeping: replace(sleeping, effort=None)).values():
        if len(same) > 1:
            more = sorted(same, key=_effort)
            points += [_scaling_point(grids, "effort", cell, more[:i]) for i, cell in enumerate(more)]
    return tuple(points)


def _families(
    cells: list[Cell], without_amount: Callable[[Sleeping], Sleeping]
) -> dict[tuple[str, Sleeping], list[Cell]]:
    """The cells of one level whose sleeps are the same but for how much there is of them."""
    families = defaultdict[tuple[str, Sleeping], list[Cell]](list)
    for cell in cells:
        if cell.sleeping is not None:
            families[cell.level, without_amount(cell.sleeping)].append(cell)
    return dict(families)


def _samples(cell: Cell) -> int:
    return cell.sleeping.samples if cell.sleeping else 1


def _effort(cell: Cell) -> int:
    return EFFORTS.index(cell.sleeping.effort) if cell.sleeping and cell.sleeping.effort else -1


def _scaling_point(
    grids: RunGrids, kind: ScalingKind, cell: Cell, less: list[Cell], joined: Cell | None = None
) -> ScalingPoint:
    """*less* are the cells with less sleep of the same kind, the least first."""
    assert cell.sleeping is not None
    accuracy, tokens = _own(grids, cell)
    first, previous = (less[0], less[-1]) if less else (None, None)
    over_first = grids.difference(cell, first, grids.everything) if first else unmeasured(LEAST_SLEEP)
    return ScalingPoint(
        kind=kind,
        level=cell.level,
        samples=cell.sleeping.samples,
        effort=cell.sleeping.effort,
        accuracy=accuracy,
        gain=_gain(grids, cell),
        over_first=over_first,
        over_previous=grids.difference(cell, previous, grids.everything) if previous else None,
        over_joined=grids.difference(cell, joined, grids.everything) if joined else None,
        tokens=tokens,
        sleep_tokens=grids.sleep_tokens(cell.sleeping, grids.asked_by(cell)),
    )


def _own(grids: RunGrids, cell: Cell) -> tuple[Measure, Measure]:
    """Accuracy and tokens of a cell on all queries it answered; what is missing are answers."""
    of, correct = grids.asked_by(cell), grids.correct(cell)
    on = ~np.isnan(correct)
    missing = int(np.count_nonzero(of)) * cell.draws - sum(map(len, grids.rows(cell).values()))
    return (
        grids.measure(grids.mean(correct, on), on, of=of, bounds=SHARE, missing=missing),
        grids.measure(grids.mean(grids.tokens(cell), on), on, of=of, missing=missing),
    )


def _gain(grids: RunGrids, cell: Cell) -> Measure:
    """Accuracy over no sleep at the same level."""
    without = grids.curve("no_sleep").get(cell.level)
    if without is None:
        return unmeasured(f"no sleep was not measured at {cell.level}")
    return grids.difference(cell, without, grids.everything)


def _control(grids: RunGrids, cell: Cell) -> Control:
    """Hold a cell against no sleep, and against the sleep whose notes it did without (E8, placebo, restatement)."""
    accuracy, tokens = _own(grids, cell)
    curve = grids.curve("sleep")
    at_level = curve.get(cell.level)
    if cell.sleeping is not None:
        same = (each for each in grids.cells("sleep") if (each.level, each.sleeping) == (cell.level, cell.sleeping))
        at_level = next(same, at_level)
    slept = at_level or next(iter(curve.values()), None)
    below_sleep, sleep = unmeasured("sleep was not measured"), None
    if slept is not None:
        note = "" if slept is at_level else f"sleep at {slept.level}"
        below_sleep = grids.difference(slept, cell, grids.everything, note=note)
        on, of = ~np.isnan(grids.correct(slept) + grids.correct(cell)), grids.asked_by(slept) & grids.asked_by(cell)
        sleep = grids.measure(grids.mean(grids.correct(slept), on), on, of=of, bounds=SHARE, note=note)
    return Control(
        arm=cell.arm,
        level=cell.level,
        accuracy=accuracy,
        tokens=tokens,
        gain=_gain(grids, cell),
        below_sleep=below_sleep,
        sleep=sleep,
    )


def _equal_total(grids: RunGrids, cell: Cell) -> EqualTotal | None:
    """Spend on draws what a sleep and one answer take, the first query of each context paying for its sleep alone."""
    slept = next(iter(grids.curve("sleep").values()), None)
    if slept is None or slept.sleeping is None:
        return None
    of = grids.asked_by(cell) & grids.asked_by(slept)
    votes, correct = grids.votes(cell), grids.correct(slept)
    on = grids.learned(slept.sleeping) & ~np.isnan(correct + grids.tokens(cell))
    sleep, _ = grids.per_sleep(slept.sleeping, on)
    total = sleep + grids.mean(grids.tokens(slept), on)
    per_draw = float(grids.tokens(cell)[on].mean()) if on.any() else 0.0
    fits = int(total[0] // per_draw) if per_draw > 0 else 0
    k = min(fits, cell.draws)
    note = f"{fits} draws would fit, {k} were made" if fits > k else "not one draw fits" if k == 0 else ""
    at = {place: each for place, each in votes.items() if each.drawn >= k > 0}
    vote = filled(grids.shape, [(place, draws.majority_at(each)[k - 1]) for place, each in at.items()])
    present = on & ~np.isnan(vote)
    voted, right = grids.mean(vote, present), grids.mean(correct, present)
    return EqualTotal(
        level=cell.level,
        k=k,
        fits=fits,
        total_tokens=grids.measure(total, on, of=of),
        majority=grids.measure(voted, present, of=of, bounds=SHARE, note=note),
        sleep=grids.measure(right, present, of=of, bounds=SHARE, note=note if k == 0 else ""),
        over=grids.measure(right - voted, present, of=of, bounds=DIFFERENCE, note=note if k == 0 else ""),
    )
