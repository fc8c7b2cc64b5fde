"""Turn rows into figures: accuracy, tokens, cost and predictability, each with its interval.

    token ratio = B / b                       at equal accuracy (see `stats.match_levels`)
    cost ratio  = t·B / (t·b + S / N)         N = 10 queries a context

B, b: mean test-time output tokens of a query without and with sleep; S: output
tokens of one sleep. Pure: the same rows and seed give the same figures. This file
knows nothing about engines or reports.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sleeptime.core.usage import PriceCard
from sleeptime.evals import stats
from sleeptime.evals.rows import ARMS, LEVELS, Arm, Measurement, Provenance, Row, Slept
from sleeptime.evals.stats import Array, Estimate, Match, Trial

QUERIES_PER_SLEEP = 10
PRICES = (10, 2)
"""t: what one test-time token costs in sleep tokens (the paper asserts 10)."""

COMPARED = (
    "token_ratio",
    "cost_ratio_t10",
    "cost_ratio_t2",
    "break_even_t10",
    "break_even_t2",
    "money_ratio",
    "money_ratio_uncached",
)
"""Figures that need two levels of equal accuracy. Money counts input, cached input and output,
the sleep's too; `uncached` prices every input token in full, as if no provider kept a cache."""

FEWEST_IN_A_DEPTH = 20
EXAMPLE_DEPTH = 4

AT_LEAST = {
    "accuracy_full_cot_no_sleep": 0.85,
    "token_ratio": 10.0,
    "accuracy_gain_v0": 0.30,
    "cost_ratio_t10": 6.0,
    "cost_ratio_t2": 3.0,
    "money_ratio": 1.0,
    "predictability_rho": 0.8,
}
AT_MOST = {"placebo_gain_v0": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measured number, its 95 % interval clustered by context, and what it should reach.

    `value` is None where it could not be measured, and `note` says why; `as_measured`
    is the number at a cheaper level that looks as accurate but is not shown to be. `missing` counts
    queries without a usable answer; they are left out, not scored as wrong.
    """

    value: float | None
    low: float | None
    high: float | None
    at_least: float | None = None
    at_most: float | None = None
    n_contexts: int
    n_queries: int
    missing: int
    note: str = ""
    as_measured: float | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met: a lower one by the value, an upper one unless it is shown to be passed.

        None where there is no target.
        """
        if self.at_least is not None:
            return self.value is not None and self.value >= self.at_least
        if self.at_most is not None:
            return self.value is not None and (self.value if self.low is None else self.low) <= self.at_most
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One arm at one level. Input tokens are means per query."""

    arm: Arm
    level: str
    accuracy: Figure
    tokens: Figure
    input_tokens: float
    cached_input_tokens: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Queries of similar predictability: their mean log P(q | c) and what sleep gained them at v0."""

    log_prob: float | None
    gain: Figure
    gain_limited: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What one query costs at two levels of equal accuracy as measured, in output tokens, and what one sleep takes.

    `is_shown` is False where there are too few contexts to show that the accuracies are equal.
    """

    without_level: str
    with_level: str
    without: float
    with_sleep: float
    sleep: float
    is_shown: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One query a person can follow: the first drawn that is deep enough, whatever came of it."""

    context: str
    notes: tuple[str, ...]
    sleep_tokens: int
    question: str
    target: str
    answers: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """All figures of one run, and where they come from."""

    figures: dict[str, Figure]
    within_depth: dict[str, Figure]
    points: tuple[Point, ...]
    bins: tuple[Bin, ...]
    match: Match
    costs: Costs | None
    example: Example | None
    price: PriceCard | None
    provenance: Provenance
    n_contexts: int
    n_queries: int
    failed_calls: int

    def point(self, arm: Arm, level: str) -> Point:
        """Find what was measured for an arm at a level."""
        return next(point for point in self.points if (point.arm, point.level) == (arm, level))

    def as_json(self) -> dict[str, Any]:  # Any: JSON
        """Give the result as JSON values."""

        def by_level(read: Callable[[Point], Any]) -> dict[str, dict[str, Any]]:  # Any: JSON
            return {
                arm: {point.level: read(point) for point in self.points if point.arm == arm}
                for arm in dict.fromkeys(point.arm for point in self.points)
            }

        source = asdict(self.provenance)
        measured_on = self.provenance.measured_on
        source["measured_on"] = measured_on.isoformat() if measured_on else None
        price = asdict(self.price) | {"dated": self.price.dated.isoformat()} if self.price else None
        return {
            **{name: asdict(figure) for name, figure in self.figures.items()},
            "predictability_within_depth": {depth: asdict(figure) for depth, figure in self.within_depth.items()},
            "predictability_bins": [asdict(part) for part in self.bins],
            "accuracy": by_level(lambda point: asdict(point.accuracy)),
            "test_tokens": by_level(lambda point: asdict(point.tokens)),
            "input_tokens": by_level(
                lambda point: {"mean": point.input_tokens, "mean_cached": point.cached_input_tokens}
            ),
            "levels_compared": asdict(self.match),
            "price_card": price,
            "n_contexts": self.n_contexts,
            "n_queries": self.n_queries,
            "failed_calls": self.failed_calls,
            **source,
        }


def summarise(measured: Measurement, *, provenance: Provenance, price: PriceCard | None = None) -> DemoResult:
    """Compute every figure. Intervals are resampled from the provenance's seed."""
    table = _Table(measured, seed=provenance.seed)
    figures: dict[str, Figure] = {}

    def put(name: str, replicates: Array, grid: Array, *, note: str = "") -> None:
        figures[name] = table.figure(replicates, grid, name=name, note=note)

    def put_mean(name: str, grid: Array) -> None:
        put(name, stats.means(grid, table.weights), grid)

    without = table.trials("no_sleep")
    slept = table.trials("sleep")
    match = stats.match_levels(without, slept, table.weights)
    gain = table.correct("sleep", "v0") - table.correct("no_sleep", "v0")
    gain_limited = table.correct("limited", "v0") - table.correct("no_sleep", "v0")

    put_mean("accuracy_full_cot_no_sleep", table.correct("no_sleep", "v4"))
    figures |= _compare(table, match, price)
    put(
        "token_ratio_interpolated",
        stats.interpolated_ratio(without, slept, table.weights),
        table.correct("no_sleep", "v4"),
    )
    put_mean("accuracy_gain_v0", gain)
    put_mean("learned_only_gain_v0", table.correct("learned_only", "v0") - table.correct("no_sleep", "v0"))
    put_mean("limited_gain_v0", gain_limited)
    put_mean("placebo_gain_v0", table.correct("placebo", "v0") - table.correct("no_sleep", "v0"))

    log_probs, mean_log_probs = table.log_probs()
    placed = stats.quantile_bins(log_probs)
    binned = stats.binned_means(gain, placed, table.weights)
    binned_limited = stats.binned_means(gain_limited, placed, table.weights)
    unknown = "" if not np.isnan(log_probs).all() else "this model gives no log-probabilities"
    put("predictability_rho", stats.rank_correlations(binned), gain + log_probs, note=unknown)
    placed_by_mean = stats.quantile_bins(mean_log_probs)
    put(
        "predictability_rho_per_token",
        stats.rank_correlations(stats.binned_means(gain, placed_by_mean, table.weights)),
        gain + log_probs,
        note=unknown,
    )
    put(
        "predictability_rho_limited",
        stats.rank_correlations(binned_limited),
        gain_limited + log_probs,
        note=unknown,
    )

    put("notes_correct_share", table.notes_correct(), table.sleep_tokens())
    put_mean("sleep_tokens_per_context", table.sleep_tokens())
    return DemoResult(
        figures=figures,
        within_depth=_within_depth(table, log_probs, gain_limited),
        points=table.points(),
        bins=tuple(
            Bin(
                log_prob=stats.estimate(stats.means(np.where(placed == i, log_probs, np.nan), table.weights)).value,
                gain=table.figure(binned[:, i], np.where(placed == i, gain, np.nan), of=placed == i),
                gain_limited=table.figure(
                    binned_limited[:, i], np.where(placed == i, gain_limited, np.nan), of=placed == i
                ),
            )
            for i in range(stats.BINS)
        ),
        match=match,
        costs=_costs(table, match),
        example=_example(measured),
        price=price,
        provenance=provenance,
        n_contexts=len(measured.texts),
        n_queries=len(measured.asked),
        failed_calls=sum(1 for row in measured.rows if row.error) + sum(1 for sleep in measured.slept if sleep.error),
    )


class _Table:
    """Rows as grids, and the resamples that every figure shares."""

    def __init__(self, measured: Measurement, *, seed: int) -> None:
        self.measured = measured
        self.shape = (len(measured.texts), 1 + max((asked.query for asked in measured.asked), default=0))
        self.weights = stats.draw_weights(len(measured.texts), seed=seed)
        self.is_asked = ~np.isnan(self._grid([((a.context, a.query), 1.0) for a in measured.asked]))
        self.rows: dict[tuple[Arm, str], list[Row]] = {}
        for row in measured.rows:
            self.rows.setdefault((row.arm, row.level), []).append(row)

    def _grid(self, cells: Sequence[tuple[tuple[int, int], float]], shape: tuple[int, int] | None = None) -> Array:
        grid = np.full(shape or self.shape, np.nan)
        for at, value in cells:
            grid[at] = value
        return grid

    def of(self, arm: Arm, level: str, read: Callable[[Row], float]) -> Array:
        """A grid of one number of each answer that did not fail."""
        rows = self.rows.get((arm, level), ())
        return self._grid([((row.context, row.query), read(row)) for row in rows if row.is_correct is not None])

    def correct(self, arm: Arm, level: str) -> Array:
        return self.of(arm, level, lambda row: float(bool(row.is_correct)))

    def tokens(self, arm: Arm, level: str) -> Array:
        return self.of(arm, level, lambda row: float(row.output_tokens))

    def trials(self, arm: Arm) -> list[Trial]:
        return [
            Trial(level=level, correct=self.correct(arm, level), tokens=self.tokens(arm, level)) for level in LEVELS
        ]

    def of_sleep(self, read: Callable[[Slept], float]) -> Array:
        """A grid of one number of each sleep that did not fail."""
        slept = [((sleep.context, 0), read(sleep)) for sleep in self.measured.slept if not sleep.error]
        return self._grid(slept, (self.shape[0], 1))

    def sleep_tokens(self) -> Array:
        return self.of_sleep(lambda sleep: float(sleep.usage.output_tokens))

    def notes_correct(self) -> Array:
        """Replicates of the share of all notes that are right."""
        right = self.of_sleep(lambda sleep: float(sleep.notes_correct))
        made = self.of_sleep(lambda sleep: float(len(sleep.notes)))
        return stats.ratios(self.weights @ np.nansum(right, axis=1), self.weights @ np.nansum(made, axis=1))

    def log_probs(self) -> tuple[Array, Array]:
        """Log P(q | c): the sum over a query's tokens, and the mean."""
        known = [
            ((a.context, a.query), a.log_prob, a.log_prob_tokens)
            for a in self.measured.asked
            if a.log_prob is not None and a.log_prob_tokens
        ]
        return (
            self._grid([(at, total) for at, total, _ in known]),
            self._grid([(at, total / tokens) for at, total, tokens in known]),
        )

    def depths(self) -> Array:
        return self._grid([((a.context, a.query), float(a.depth)) for a in self.measured.asked])

    def figure(
        self,
        replicates: Array,
        grid: Array,
        *,
        name: str = "",
        note: str = "",
        as_measured: float | None = None,
        of: Any = None,  # Any: a boolean grid, which numpy types as an array of unknown shape
    ) -> Figure:
        """Read a figure off its replicates; *grid* is what it was measured on, of the queries in *of*."""
        read: Estimate = stats.estimate(replicates)
        present = ~np.isnan(grid)
        expected = self.is_asked if of is None else of
        total = self.shape[0] if grid.shape[1] == 1 and self.shape[1] != 1 else int(np.sum(expected))
        if read.value is None and not note:
            note = "not measured" if not present.any() else "not defined on these answers"
        return Figure(
            value=read.value,
            low=read.low,
            high=read.high,
            at_least=AT_LEAST.get(name),
            at_most=AT_MOST.get(name),
            n_contexts=int(present.any(axis=1).sum()),
            n_queries=int(present.sum()),
            missing=total - int(present.sum()),
            note=note,
            as_measured=as_measured,
        )

    def points(self) -> tuple[Point, ...]:
        """Every arm at every level it was measured at."""
        points: list[Point] = []
        for arm in ARMS:
            for level in LEVELS:
                if (arm, level) not in self.rows:
                    continue
                correct, tokens = self.correct(arm, level), self.tokens(arm, level)
                read = [row for row in self.rows[arm, level] if row.is_correct is not None]
                points.append(
                    Point(
                        arm=arm,
                        level=level,
                        accuracy=self.figure(stats.means(correct, self.weights), correct),
                        tokens=self.figure(stats.means(tokens, self.weights), tokens),
                        input_tokens=sum(row.input_tokens for row in read) / max(1, len(read)),
                        cached_input_tokens=sum(row.cached_input_tokens for row in read) / max(1, len(read)),
                    )
                )
        return tuple(points)


def _compare(table: _Table, match: Match, price: PriceCard | None) -> dict[str, Figure]:
    """Compare tokens, costs and money at the matched levels.

    Where a cheaper level with sleep is as accurate as measured but not shown to be, its numbers stand beside.
    """
    without = match.without
    tokens = np.full(table.shape, np.nan) if without is None else table.tokens("no_sleep", without)
    before = stats.means(tokens, table.weights)
    sleep = stats.means(table.sleep_tokens(), table.weights)

    def after(level: str) -> Array:
        return stats.means(table.tokens("sleep", level), table.weights)

    def cost_ratio(t: int, level: str) -> Array:
        slept = stats.cost_per_query(after(level), sleep, queries=QUERIES_PER_SLEEP, price=t)
        return stats.ratios(t * before, slept)

    def paid_back(t: int, level: str) -> Array:
        return stats.break_even(before, after(level), sleep, price=t)

    def money_ratio(card: PriceCard, with_cache: bool, level: str) -> Array:
        spent, spent_slept, spent_asleep = (
            stats.means(grid, table.weights) for grid in _money(table, str(without), level, card, with_cache=with_cache)
        )
        slept = stats.cost_per_query(spent_slept, spent_asleep, queries=QUERIES_PER_SLEEP, price=1)
        return stats.ratios(spent, slept)

    at: dict[str, Callable[[str], Array]] = {"token_ratio": lambda level: stats.ratios(before, after(level))}
    for t in PRICES:
        at[f"cost_ratio_t{t}"] = partial(cost_ratio, t)
        at[f"break_even_t{t}"] = partial(paid_back, t)
    if price is not None:
        at["money_ratio"] = partial(money_ratio, price, True)
        at["money_ratio_uncached"] = partial(money_ratio, price, False)

    figures: dict[str, Figure] = {}
    unmeasured = np.full(1, np.nan)
    for name in COMPARED:
        if name not in at:
            figures[name] = table.figure(unmeasured, tokens, name=name, note="no price card was given")
            continue
        shown = unmeasured if match.with_sleep is None else at[name](match.with_sleep)
        beside = None if match.nearest in (None, match.with_sleep) else at[name](str(match.nearest))[:1]
        figures[name] = table.figure(
            shown,
            tokens,
            name=name,
            note=match.reason,
            as_measured=None if beside is None else stats.estimate(beside).value,
        )
    return figures


def _money(table: _Table, without: str, level: str, price: PriceCard, *, with_cache: bool) -> tuple[Array, ...]:
    """Dollars of each answer without sleep, of each answer with it, and of each sleep."""

    def dollars(paid: Row | Slept) -> float:
        usage = paid.usage if with_cache else replace(paid.usage, cached_input_tokens=0)
        return price.cost_usd(usage)

    return table.of("no_sleep", without, dollars), table.of("sleep", level, dollars), table.of_sleep(dollars)


def _costs(table: _Table, match: Match) -> Costs | None:
    sleep = stats.estimate(stats.means(table.sleep_tokens(), table.weights)).value
    if match.without is None or match.nearest is None or sleep is None:
        return None
    return Costs(
        without_level=match.without,
        with_level=match.nearest,
        without=float(np.nanmean(table.tokens("no_sleep", match.without))),
        with_sleep=float(np.nanmean(table.tokens("sleep", match.nearest))),
        sleep=sleep,
        is_shown=match.nearest == match.with_sleep,
    )


def _within_depth(table: _Table, log_probs: Array, gain: Array) -> dict[str, Figure]:
    """Slope of the gain on log P(q | c), in accuracy per nat, among queries of equal depth; then all depths pooled."""
    depths = table.depths()
    figures: dict[str, Figure] = {}
    for depth in np.unique(depths[~np.isnan(depths)]):
        inside = depths == depth
        grid = np.where(inside, gain + log_probs, np.nan)
        if np.count_nonzero(~np.isnan(grid)) >= FEWEST_IN_A_DEPTH:
            slopes = stats.slopes(np.where(inside, log_probs, np.nan), gain, table.weights)
            figures[f"{depth:.0f}"] = table.figure(slopes, grid, of=inside)
    strata = np.nan_to_num(depths, nan=-1).astype(np.int64)
    pooled = stats.slopes(log_probs, gain, table.weights, strata)
    figures["pooled"] = table.figure(pooled, gain + log_probs)
    return figures


def _example(measured: Measurement) -> Example | None:
    """Take the first query whose chain is deep enough, else the first; not chosen for its outcome."""
    asked = next((a for a in measured.asked if a.depth >= EXAMPLE_DEPTH), next(iter(measured.asked), None))
    if asked is None:
        return None
    slept = next(sleep for sleep in measured.slept if sleep.context == asked.context)
    shown = (("no_sleep", "v0"), ("no_sleep", "v4"), ("sleep", "v0"))
    rows = {
        (row.arm, row.level): row for row in measured.rows if (row.context, row.query) == (asked.context, asked.query)
    }
    return Example(
        context=measured.texts[asked.context],
        notes=slept.notes,
        sleep_tokens=slept.usage.output_tokens,
        question=asked.question,
        target=asked.target,
        answers=tuple(rows[key] for key in shown if key in rows),
    )
