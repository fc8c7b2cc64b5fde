"""What was found: every figure of a run's experiments as plain values, each with its interval.

    Run  →  analysis.analyse  →  Findings  →  paper_report.write

A `Measure` that could not be taken has no value and a note that says why; nothing here is
ever 0 for want of data. Tokens are output tokens of the test phase unless a name says
otherwise; sleeps are in output tokens of the sleep phase. This file computes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sleeptime.core.usage import PriceCard
from sleeptime.evals.analysis.stats import Estimate, Match
from sleeptime.evals.runs.results import Arm, Provenance

ScalingKind = Literal["joined", "merged", "effort"]
"""Notes of several samples one after another; the same with what they share said once; one sample of some effort."""

Verdict = Literal["shown", "not shown", "contradicted", "not measured"]
"""shown: its interval excludes the contrary. contradicted: the interval of the contrary excludes the claim.
not shown: measured, but too few or too close to say. not measured: there are no rows for it, and `because` says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure(Estimate):
    """A number with its 95 % interval, what it was measured on, and how much of that is missing.

    `missing` counts the answers of a cell, or the queries of a comparison, that it should have had and has not;
    of sleep tokens, the contexts. With fewer clusters than an interval needs it has none, and `note` says so.
    """

    contexts: int = 0
    clusters: int = 0
    queries: int = 0
    missing: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One cell of a run: an arm at a level. Means are per query; `sleep_tokens` is per context, None where none slept.

    `cost_usd` is one answer at the run's price card; None where no price is known.
    """

    cell: str
    arm: Arm
    level: str
    samples: int
    effort: str | None
    accuracy: Measure
    tokens: Measure
    input_tokens: float
    cached_input_tokens: float
    reasoning_tokens: float
    sleep_tokens: Measure | None
    cost_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two arms at equal accuracy (E1, E2). `margin` is that of the non-inferiority claim, in share of answers.

    `token_ratio` is at the matched levels, only where equal accuracy was shown; `as_measured` the same at the
    nearest level, shown or not. `interpolated` is along both curves at the best accuracy without sleep − margin.
    `gains` are accuracy with − without at equal level, by level, the cheapest first. `shifts` are, by level without
    sleep, the accuracy that sleep reaches for at most as many tokens − that level's own; `savings` its tokens over
    those that sleep needs for its accuracy − margin, 0 where no number of them is enough.
    """

    stratum: str
    without: Arm
    with_sleep: Arm
    margin: float
    match: Match
    token_ratio: Measure
    as_measured: Measure
    interpolated: Measure
    gains: tuple[tuple[str, Measure], ...]
    shifts: tuple[tuple[str, Measure], ...] = ()
    savings: tuple[tuple[str, Measure], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawPoint:
    """The best (pass@k) and the most frequent (majority@k) of k draws without sleep, for k times the tokens of one.

    `sleep` is what one answer after sleep reaches for at most as many test-time tokens, read off its curve in the
    same resamples; `over_pass` and `over_majority` are it minus the two, on the same queries.
    """

    level: str
    k: int
    tokens: Measure
    pass_at_k: Measure
    majority_at_k: Measure
    sleep: Measure
    over_pass: Measure
    over_majority: Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPoint:
    """More sleep (E4): `samples` parallel ones, joined or merged, or one of more `effort`.

    `gain` is over no sleep, `over_first` over the least sleep of the same kind and `over_previous` over the next less,
    all at the same `level`. For merged notes both begin at a single sleep, where there is nothing to merge;
    `over_joined` is them over the joined notes of as many samples.
    """

    kind: ScalingKind
    samples: int
    effort: str | None
    accuracy: Measure
    gain: Measure
    over_first: Measure
    tokens: Measure
    sleep_tokens: Measure
    level: str = ""
    over_previous: Measure | None = None
    over_joined: Measure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPoint:
    """Cost of a query at equal accuracy when `queries` share a sleep (E5), and how many times cheaper sleep makes it.

    `price` is t, and costs are in sleep tokens; where `price` is None they are in US dollars, input tokens and the
    sleep's own included, cached ones at their price if `is_cached`, else as if none were.
    """

    price: float | None
    is_cached: bool
    queries: int
    without: Measure
    with_sleep: Measure
    ratio: Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """From how many queries per context sleep pays, at one price. An interval open at the top may mean never."""

    price: float | None
    is_cached: bool
    queries: Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Amortisation:
    """E5 at two levels of equal accuracy: shown to be equal, or as measured only."""

    without_level: str
    with_level: str
    is_shown: bool
    points: tuple[CostPoint, ...]
    break_evens: tuple[BreakEven, ...]
    sleep_tokens: Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One fifth of the queries by predictability (E6): its mean log-probability, and what sleep gained it."""

    log_prob: float | None
    without: Measure
    with_sleep: Measure
    gain: Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictability:
    """Gain of one cell with sleep by log P(query | context): `by` is the sum over a query's tokens or their mean.

    `rho` is the rank correlation of bin and gain; `slope` the gain per nat over single queries, and `within_depth`
    the same among queries of equal depth, where depths are known.
    """

    cell: str
    by: Literal["sum", "mean"]
    bins: tuple[Bin, ...]
    rho: Measure
    slope: Measure
    within_depth: Measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What is not owed to thinking about this context before the query.

    `gain` is over no sleep at the same level, `below_sleep` what sleep with its own notes gains over it at that level,
    or at its lowest one where `below_sleep.note` says so; `sleep` is the accuracy of that on the same queries.
    """

    arm: Arm
    level: str
    accuracy: Measure
    tokens: Measure
    gain: Measure
    below_sleep: Measure
    sleep: Measure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualTotal:
    """All tokens counted: one query pays for the whole sleep, and as many are spent on draws without sleep.

    `k` draws of `level` with a majority vote are the most that fit into `total_tokens` (sleep and answer together,
    at the lowest level with sleep), or all there are where `fits` is more; `over` is the accuracy with sleep minus
    that of the vote.
    """

    level: str
    k: int
    total_tokens: Measure
    majority: Measure
    sleep: Measure
    over: Measure
    fits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A finding of the paper or of ours, and what this run says of it, in one sentence with its figures."""

    experiment: str
    words: str
    verdict: Verdict
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything a run found. `strata` has the comparisons within each stratum of the dataset."""

    experiments: tuple[str, ...]
    claims: tuple[Claim, ...]
    points: tuple[Point, ...]
    comparisons: tuple[Comparison, ...]
    strata: tuple[Comparison, ...]
    draws: tuple[DrawPoint, ...]
    scaling: tuple[ScalingPoint, ...]
    amortisation: Amortisation | None
    predictability: tuple[Predictability, ...]
    guesses: tuple[Control, ...]
    controls: tuple[Control, ...]
    equal_totals: tuple[EqualTotal, ...]
    not_measured: dict[str, str]
    contexts: int
    clusters: int
    queries: int
    failed_answers: int
    failed_sleeps: int
    spent_usd: float | None
    paid_calls: int
    price: PriceCard | None
    sleep_price: PriceCard | None
    provenance: Provenance
