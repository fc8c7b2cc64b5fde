"""Turn rows into figures: accuracy, tokens, cost and predictability, each with its interval.

    token ratio = B / b                       at equal accuracy (see `stats.match_levels`)
    cost ratio  = t·B / (t·b + S / N)         N = 10 queries a context

B, b: mean test-time output tokens of a query without and with sleep, of the queries
answered in both arms; S: output tokens it took to learn about one context, failed
sleeps included. Pure: the same rows and seed give the same figures. This file knows
nothing about engines or reports.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from sleeptime.core.usage import PriceCard, Usage
from sleeptime.evals.analysis import grids, stats
from sleeptime.evals.analysis.grids import Spent
from sleeptime.evals.analysis.stats import Array, Estimate, Match, Trial
from sleeptime.evals.demo.rows import ARMS, LEVELS, Arm, Measurement, Provenance, Row, Slept

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
    "money_ratio_as_cached",
)
"""Figures that need two levels of equal accuracy. Money counts input and output, the sleep's
too; every input token at its full price, as if no provider kept a cache, or as it was cached here."""

AS_CACHED = (
    "cached as here: to the token, and by queries that shared a prefix one after another; "
    "a provider may cache only long prefixes, and for minutes"
)
LEVELS_CHOSEN = (
    "Levels were chosen on the whole sample and held fixed, so the intervals leave the choice out; "
    "the levels with sleep share one 2.5 % chance of passing for equal in error (Holm)"
)

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


Verdict = Literal["met", "missed", "not shown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure(Estimate):
    """A measured number, its 95 % interval clustered by context, and what it should reach.

    `value` is None where it could not be measured, and `note` says why; `as_measured`
    is the number at a cheaper level that looks as accurate but is not shown to be. `missing` counts
    queries without a usable answer; they are left out, not scored as wrong.
    """

    at_least: float | None = None
    at_most: float | None = None
    n_contexts: int
    n_queries: int
    missing: int
    note: str = ""
    as_measured: float | None = None

    @property
    def verdict(self) -> Verdict | None:
        """Whether the value meets its target; None where there is none.

        What may miss a lower target only for want of contexts, or lies above an upper one
        by no more than chance, is "not shown".
        """
        if self.at_least is not None:
            if self.value is not None and self.value >= self.at_least:
                return "met"
            at_best = self.value if self.as_measured is None else self.as_measured
            return "not shown" if at_best is None or at_best >= self.at_least else "missed"
        if self.at_most is not None:
            if self.value is not None and self.value <= self.at_most:
                return "met"
            return "missed" if self.low is not None and self.low > self.at_most else "not shown"
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
    """What one query costs at two levels of equal accuracy as measured, and one context's sleep, in output tokens.

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
    """One query a person can follow: the first drawn for one value that is deep enough, whatever came of it."""

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
    failed_sleeps: int

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
        return {
            **{name: asdict(figure) | {"verdict": figure.verdict} for name, figure in self.figures.items()},
            "predictability_within_depth": {
                depth: asdict(figure) | {"sign": stats.sign(figure)} for depth, figure in self.within_depth.items()
            },
            "predictability_bins": [asdict(part) for part in self.bins],
            "accuracy": by_level(lambda point: asdict(point.accuracy)),
            "test_tokens": by_level(lambda point: asdict(point.tokens)),
            "input_tokens": by_level(
                lambda point: {"mean": point.input_tokens, "mean_cached": point.cached_input_tokens}
            ),
            "levels_compared": asdict(self.match) | {"note": LEVELS_CHOSEN},
            "price_card": _price_json(self.price) if self.price else None,
            "n_contexts": self.n_contexts,
            "n_queries": self.n_queries,
            "failed_calls": self.failed_calls,
            "failed_sleeps": self.failed_sleeps,
            **source,
        }


def _price_json(card: PriceCard) -> dict[str, Any]:  # Any: JSON
    dearer = [[start, _price_json(prices)] for start, prices in card.above]
    tiers = [_price_json(prices) for prices in card.tiers]
    return asdict(card) | {"dated": card.dated.isoformat(), "above": dearer, "tiers": tiers}


def summarise(measured: Measurement, *, provenance: Provenance, price: PriceCard | None = None) -> DemoResult:
    """Compute every figure. Intervals are resampled from the provenance's seed."""
    table = _Table(measured, seed=provenance.seed)
    figures: dict[str, Figure] = {}

    def put(name: str, replicates: Array, grid: Array, *, note: str = "") -> None:
        figures[name] = table.figure(replicates, grid, name=name, note=note)

    def put_mean(name: str, grid: Array) -> None:
        put(name, stats.means(grid, table.weights), grid)

    match = stats.match_levels(table.trials("no_sleep"), table.trials("sleep"), seed=provenance.seed)
    gain = table.correct("sleep", "v0") - table.correct("no_sleep", "v0")
    gain_limited = table.correct("limited", "v0") - table.correct("no_sleep", "v0")

    put_mean("accuracy_full_cot_no_sleep", table.correct("no_sleep", "v4"))
    figures |= _compare(table, match, price)
    figures["token_ratio_interpolated"] = _interpolate(table)
    put_mean("accuracy_gain_v0", gain)
    put_mean("learned_only_gain_v0", table.correct("learned_only", "v0") - table.correct("no_sleep", "v0"))
    put_mean("limited_gain_v0", gain_limited)
    put_mean("placebo_gain_v0", table.correct("placebo", "v0") - table.correct("no_sleep", "v0"))

    log_probs, mean_log_probs = table.log_probs()
    placed = stats.quantile_bins(log_probs)
    binned = stats.binned_means(gain, placed, table.weights)
    binned_limited = stats.binned_means(gain_limited, placed, table.weights)
    unknown = "" if not np.isnan(log_probs).all() else "this model gives no log-probabilities"

    def put_rho(name: str, gained: Array, predictable: Array, *, of: Any = None) -> None:  # Any: as in `_Table.figure`
        by_bin = stats.binned_means(gained, stats.quantile_bins(predictable), table.weights)
        grid = gained + predictable
        figures[name] = table.figure(stats.rank_correlations(by_bin), grid, name=name, note=unknown, of=of)

    put_rho("predictability_rho", gain, log_probs)
    put_rho("predictability_rho_per_token", gain, mean_log_probs)
    put_rho("predictability_rho_values", gain, np.where(table.asks_a_value, log_probs, np.nan), of=table.asks_a_value)
    put_rho("predictability_rho_limited", gain_limited, log_probs)

    put("notes_correct_share", table.notes_correct(), table.sleep_tokens())
    put("sleep_tokens_per_context", table.per_sleep(_output_tokens), table.sleep_tokens())
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
        failed_calls=sum(1 for row in measured.rows if row.error),
        failed_sleeps=sum(1 for sleep in measured.slept if sleep.error),
    )


class _Table:
    """Rows as grids, and the resamples that every figure shares."""

    def __init__(self, measured: Measurement, *, seed: int) -> None:
        self.measured = measured
        self.shape = (len(measured.texts), 1 + max((asked.query for asked in measured.asked), default=0))
        self.weights = stats.draw_weights(len(measured.texts), seed=seed)
        self.is_asked = ~np.isnan(grids.filled(self.shape, [((a.context, a.query), 1.0) for a in measured.asked]))
        self.asks_a_value = (
            grids.filled(self.shape, [((a.context, a.query), float(a.kind == "value")) for a in measured.asked]) == 1
        )
        self.rows: dict[tuple[Arm, str], list[Row]] = {}
        for row in measured.rows:
            self.rows.setdefault((row.arm, row.level), []).append(row)

    def of(self, arm: Arm, level: str, read: Callable[[Row], float]) -> Array:
        """A grid of one number of each answer that did not fail."""
        rows = self.rows.get((arm, level), ())
        answers = [((row.context, row.query), read(row)) for row in rows if row.is_correct is not None]
        return grids.filled(self.shape, answers)

    def correct(self, arm: Arm, level: str) -> Array:
        return self.of(arm, level, lambda row: float(bool(row.is_correct)))

    def tokens(self, arm: Arm, level: str) -> Array:
        return self.of(arm, level, lambda row: float(row.output_tokens))

    def trials(self, arm: Arm) -> list[Trial]:
        return [
            Trial(level=level, correct=self.correct(arm, level), tokens=self.tokens(arm, level)) for level in LEVELS
        ]

    def of_sleep(self, read: Callable[[Slept], float], *, failed: bool = False) -> Array:
        """A grid of one number of each sleep that did not fail, or of each that did."""
        slept = [((sleep.context, 0), read(sleep)) for sleep in self.measured.slept if bool(sleep.error) is failed]
        return grids.filled((self.shape[0], 1), slept)

    def sleep_tokens(self) -> Array:
        return self.of_sleep(lambda sleep: float(sleep.output_tokens))

    def per_sleep(self, price: Callable[[Usage], float], among: Array | None = None) -> Array:
        """Replicates of what it takes to learn about one of the contexts *among* which something was learned.

        What failed sleeps spent is charged to those that did not fail.
        """
        spent, wasted = (
            self.of_sleep(lambda sleep: sum(map(price, sleep.calls)), failed=failed) for failed in (False, True)
        )
        learned = grids.any_present(spent if among is None else among)
        return grids.per_learned(spent, wasted, learned, self.weights)

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
            grids.filled(self.shape, [(at, total) for at, total, _ in known]),
            grids.filled(self.shape, [(at, total / tokens) for at, total, tokens in known]),
        )

    def depths(self) -> Array:
        return grids.filled(self.shape, [((a.context, a.query), float(a.depth)) for a in self.measured.asked])

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


def _output_tokens(usage: Usage) -> float:
    return float(usage.output_tokens)


class _Pair:
    """A level of each arm, on the queries that both answered about contexts on which something was learned."""

    def __init__(self, table: _Table, without: str, with_sleep: str) -> None:
        self.table = table
        self.levels: tuple[tuple[Arm, str], ...] = (("no_sleep", without), ("sleep", with_sleep))
        self.grid = table.tokens("no_sleep", without) + table.tokens("sleep", with_sleep) + table.sleep_tokens()

    def spent(self, price: Callable[[Usage], float]) -> Spent:
        """What one answer takes without sleep and with it, and what a sleep takes."""
        without, with_sleep = (
            stats.means(
                np.where(np.isnan(self.grid), np.nan, self.table.of(arm, level, lambda row: price(row.usage))),
                self.table.weights,
            )
            for arm, level in self.levels
        )
        return Spent(without=without, with_sleep=with_sleep, sleep=self.table.per_sleep(price, self.grid))

    def figures(self, card: PriceCard | None) -> dict[str, Array]:
        """Replicates of every figure that compares the two levels; money where there is a price card."""
        tokens = self.spent(_output_tokens)
        figures = {"token_ratio": tokens.answer_ratio}
        for t in PRICES:
            figures[f"cost_ratio_t{t}"] = tokens.cost_ratio(queries=QUERIES_PER_SLEEP, price=t)
            figures[f"break_even_t{t}"] = tokens.break_even(price=t)
        if card is not None:
            uncached = self.spent(lambda usage: card.cost_usd(replace(usage, cached_input_tokens=0)))
            figures["money_ratio"] = uncached.cost_ratio(queries=QUERIES_PER_SLEEP)
            figures["money_ratio_as_cached"] = self.spent(card.cost_usd).cost_ratio(queries=QUERIES_PER_SLEEP)
        return figures


_UNMEASURED = np.full(1, np.nan)


def _compare(table: _Table, match: Match, card: PriceCard | None) -> dict[str, Figure]:
    """Compare tokens, costs and money at the matched levels.

    Where a cheaper level with sleep is as accurate as measured but not shown to be, its numbers stand beside.
    """
    shown, nearest = (
        None if match.without is None or level is None else _Pair(table, match.without, level)
        for level in (match.with_sleep, match.nearest)
    )
    pair = shown or nearest
    grid = table.tokens("no_sleep", match.without or "") if pair is None else pair.grid
    values = {} if shown is None else shown.figures(card)
    beside = {} if nearest is None or match.nearest == match.with_sleep else nearest.figures(card)
    figures: dict[str, Figure] = {}
    for name in COMPARED:
        notes = [match.reason]
        if name == "money_ratio_as_cached":
            notes.append(AS_CACHED)
        if name.startswith("money") and card is None:
            notes = ["no price card was given"]
        figures[name] = table.figure(
            values.get(name, _UNMEASURED),
            grid,
            name=name,
            note="; ".join(filter(None, notes)),
            as_measured=stats.estimate(beside[name][:1]).value if name in beside else None,
        )
    return figures


def _interpolate(table: _Table) -> Figure:
    """Compare the tokens that both arms need for one accuracy, on the queries answered at every measured level."""
    without, with_sleep, among = grids.on_common_queries(
        table.trials("no_sleep"), table.trials("sleep"), ~np.isnan(table.sleep_tokens())
    )
    replicates = stats.interpolated_ratio(without, with_sleep, table.weights)
    grid = np.where(among, 0.0, np.nan)
    if replicates[0] == 0:
        return table.figure(_UNMEASURED, grid, note=grids.NEVER_REACHED)
    return table.figure(replicates, grid)


def _costs(table: _Table, match: Match) -> Costs | None:
    if match.without is None or match.nearest is None:
        return None
    spent = _Pair(table, match.without, match.nearest).spent(_output_tokens)
    without, with_sleep, sleep = (
        stats.estimate(replicates[:1]).value for replicates in (spent.without, spent.with_sleep, spent.sleep)
    )
    if without is None or with_sleep is None or sleep is None:
        return None
    return Costs(
        without_level=match.without,
        with_level=match.nearest,
        without=without,
        with_sleep=with_sleep,
        sleep=sleep,
        is_shown=match.nearest == match.with_sleep,
    )


def _within_depth(table: _Table, log_probs: Array, gain: Array) -> dict[str, Figure]:
    """Slope of the gain on log P(q | c), in accuracy per nat, among queries of equal depth; then all depths pooled.

    Queries about two quantities are left out: they are rare, deep and unlike the notes all at once.
    """
    asked = table.asks_a_value
    depths = np.where(asked, table.depths(), np.nan)
    log_probs = np.where(asked, log_probs, np.nan)
    figures: dict[str, Figure] = {}
    for depth in np.unique(depths[~np.isnan(depths)]):
        inside = depths == depth
        grid = np.where(inside, gain + log_probs, np.nan)
        if np.count_nonzero(~np.isnan(grid)) >= FEWEST_IN_A_DEPTH:
            slopes = stats.slopes(np.where(inside, log_probs, np.nan), gain, table.weights)
            figures[f"{depth:.0f}"] = table.figure(slopes, grid, of=inside)
    strata = np.nan_to_num(depths, nan=-1).astype(np.int64)
    pooled = stats.slopes(log_probs, gain, table.weights, strata)
    figures["pooled"] = table.figure(pooled, gain + log_probs, of=asked)
    return figures


def _example(measured: Measurement) -> Example | None:
    """Take the first query for one value whose chain is deep enough, else the first; not chosen for its outcome."""
    deep = (a for a in measured.asked if a.kind == "value" and a.depth >= EXAMPLE_DEPTH)
    asked = next(deep, next(iter(measured.asked), None))
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
        sleep_tokens=slept.output_tokens,
        question=asked.question,
        target=asked.target,
        answers=tuple(rows[key] for key in shown if key in rows),
    )
