"""What a run of E7 found: F1 against test-time tokens by budget of steps, what no model reaches, and the comparison.

    token ratio = tokens without sleep ÷ with it, where the F1 with sleep is shown not to be lower by 2 points or more

The same statistics as in the other experiments (`analysis.stats`), with F1 in the place of accuracy: targets of one
group share siblings, so groups are resampled, and a target without a group is one by itself. Targets whose answer is
missing in a cell are left out of it; the number is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sleeptime.core.agency import OUTCOMES, Outcome
from sleeptime.evals.analysis import stats
from sleeptime.evals.analysis.stats import Array, Estimate, Match, Trial
from sleeptime.evals.swe.experiment import Arm, Asked, Baseline, Cell, Row, Run

SEED = 20_250_417


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A cell, in the mean over its targets. `steps` are those used; `targets` of how many are measured."""

    cell: Cell
    targets: int
    missing: int
    precision: Estimate
    recall: Estimate
    f1: Estimate
    output_tokens: Estimate
    input_tokens: Estimate
    steps: Estimate
    outcomes: tuple[tuple[Outcome, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a way to name files without a model reaches."""

    name: str
    targets: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """An arm against no sleep. `ratio` is None where no level is shown to be as good; `as_measured` may then say."""

    arm: Arm
    match: Match
    ratio: Estimate
    as_measured: Estimate
    gains: tuple[tuple[int, Estimate], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that was found in a run."""

    points: tuple[Point, ...]
    references: tuple[Reference, ...]
    comparisons: tuple[Comparison, ...]
    sleep_tokens: Estimate
    failed_sleeps: int
    clusters: int


def analyse(run: Run) -> Findings:
    """Compute every figure of *run*."""
    table = _Table(run.settings.asked)
    points = tuple(point for cell in run.settings.cells if (point := _point(table, cell, run)) is not None)
    arms: list[Arm] = list(dict.fromkeys(cell.arm for cell in run.settings.cells))
    slept = {each.target: float(each.usage.output_tokens) for each in run.slept if not each.error}
    return Findings(
        points=points,
        references=references(run.baselines, run.settings.asked),
        comparisons=tuple(_compare(table, arm, run) for arm in arms if arm != "no_sleep" and "no_sleep" in arms),
        sleep_tokens=table.mean(slept),
        failed_sleeps=sum(bool(each.error) for each in run.slept),
        clusters=table.clusters,
    )


def references(baselines: Sequence[Baseline], asked: Sequence[Asked]) -> tuple[Reference, ...]:
    """What each way to name files without a model reaches over the targets *asked*."""
    table = _Table(asked)
    found: list[Reference] = []
    for name in dict.fromkeys(each.name for each in baselines):
        scores = {each.target: each.score for each in baselines if each.name == name}
        found.append(
            Reference(
                name=name,
                targets=len(scores),
                precision=table.share({target: score.precision for target, score in scores.items()}),
                recall=table.share({target: score.recall for target, score in scores.items()}),
                f1=table.share({target: score.f1 for target, score in scores.items()}),
            )
        )
    return tuple(found)


class _Table:
    """Targets by cluster: a row a cluster, and a column for each of its targets."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        members: dict[str, list[int]] = {}
        for each in asked:
            members.setdefault(each.cluster, []).append(each.number)
        self._places = {
            number: (row, column)
            for row, numbers in enumerate(members.values())
            for column, number in enumerate(numbers)
        }
        self._shape = len(members), max((len(numbers) for numbers in members.values()), default=0)
        self.clusters = len(members)
        self.weights = stats.draw_weights(max(1, self.clusters), seed=SEED)

    def grid(self, values: dict[int, float]) -> Array:
        grid = np.full(self._shape, np.nan)
        for number, value in values.items():
            grid[self._places[number]] = value
        return grid

    def mean(self, values: dict[int, float]) -> Estimate:
        """The mean with its interval; without one where clusters are too few."""
        if not values:
            return Estimate(value=None)
        return self.estimate(stats.means(self.grid(values), self.weights))

    def share(self, values: dict[int, float]) -> Estimate:
        """The mean of what lies between 0 and 1; where all clusters came out alike, with the width that is left."""
        found = self.mean(values)
        present = len({self._places[number][0] for number in values})
        return stats.widened(found, clusters=present, lowest=0.0, highest=1.0) if present else found

    def estimate(self, replicates: Array) -> Estimate:
        found = stats.estimate(replicates)
        return found if self.clusters >= stats.FEWEST_CLUSTERS else Estimate(value=found.value)


def _point(table: _Table, cell: Cell, run: Run) -> Point | None:
    rows = run.of(cell)
    scored = {target: row.score for target, row in rows.items() if row.score is not None}
    if not rows:
        return None

    def mean(read: Callable[[Row], float]) -> Estimate:
        return table.mean({target: read(rows[target]) for target in scored})

    outcomes = Counter(rows[target].outcome for target in scored)
    return Point(
        cell=cell,
        targets=len(scored),
        missing=len(rows) - len(scored),
        precision=table.share({target: score.precision for target, score in scored.items()}),
        recall=table.share({target: score.recall for target, score in scored.items()}),
        f1=table.share({target: score.f1 for target, score in scored.items()}),
        output_tokens=mean(lambda row: row.usage.output_tokens),
        input_tokens=mean(lambda row: row.usage.input_tokens),
        steps=mean(lambda row: row.steps),
        outcomes=tuple((name, outcomes[name]) for name in OUTCOMES if outcomes[name]),
    )


def _trials(table: _Table, arm: Arm, run: Run, among: set[int]) -> dict[str, Trial]:
    trials: dict[str, Trial] = {}
    for cell in run.settings.cells:
        rows = {target: row for target, row in run.of(cell).items() if target in among and row.score is not None}
        if cell.arm == arm and rows:
            trials[str(cell.steps)] = Trial(
                level=str(cell.steps),
                correct=table.grid({target: row.score.f1 for target, row in rows.items() if row.score is not None}),
                tokens=table.grid({target: row.usage.output_tokens for target, row in rows.items()}),
            )
    return trials


def _compare(table: _Table, arm: Arm, run: Run) -> Comparison:
    """Compare *arm* with no sleep on the targets that have a score in every cell of both."""
    cells = [cell for cell in run.settings.cells if cell.arm in (arm, "no_sleep")]
    scored = [{target for target, row in run.of(cell).items() if row.score is not None} for cell in cells]
    among = set[int].intersection(*scored) if scored else set[int]()
    without, with_sleep = _trials(table, "no_sleep", run, among), _trials(table, arm, run, among)
    match = stats.match_levels(list(without.values()), list(with_sleep.values()), seed=SEED, unit="groups of targets")

    def ratio(level: str | None) -> Estimate:
        if match.without is None or level is None:
            return Estimate(value=None)
        tokens = [stats.means(each.tokens, table.weights) for each in (without[match.without], with_sleep[level])]
        return table.estimate(stats.ratios(*tokens))

    gains = [
        (int(level), table.estimate(stats.means(trial.correct - without[level].correct, table.weights)))
        for level, trial in with_sleep.items()
        if level in without
    ]
    return Comparison(
        arm=arm, match=match, ratio=ratio(match.with_sleep), as_measured=ratio(match.nearest), gains=tuple(gains)
    )
