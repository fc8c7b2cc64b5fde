"""Findings of a run that never was: round numbers, for pages and figures to show."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime

from sleeptime.core.usage import PriceCard
from sleeptime.evals.analysis.findings import (
    Amortisation,
    Bin,
    BreakEven,
    Claim,
    Comparison,
    Control,
    CostPoint,
    DrawPoint,
    EqualTotal,
    Findings,
    Measure,
    Point,
    Predictability,
    ScalingPoint,
)
from sleeptime.evals.analysis.stats import Match
from sleeptime.evals.runs.results import Arm, Provenance

CONTEXTS, QUERIES = 120, 480
ACCURACY: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "no_sleep": {"v0": (0.12, 6), "v1": (0.31, 31), "v2": (0.44, 62), "v3": (0.71, 118), "v4": (0.86, 240)},
    "sleep": {"v0": (0.63, 6), "v1": (0.74, 29), "v2": (0.78, 47), "v3": (0.85, 61), "v4": (0.84, 190)},
    "learned": {"v0": (0.55, 6), "v1": (0.64, 25), "v2": (0.69, 40), "v3": (0.74, 52), "v4": (0.75, 120)},
}
"""Accuracy and test-time tokens by arm and level."""

PLAIN, SLEEP_TOKENS = 240.0, 410.0


def measure(value: float | None, wide: float = 0.03, *, missing: int = 0, note: str = "") -> Measure:
    """A number and an interval of a width of either side."""
    if value is None:
        return Measure(value=None, note=note or "too few answers")
    return Measure(
        value=value,
        low=value - wide,
        high=value + wide,
        contexts=CONTEXTS,
        clusters=CONTEXTS // 2,
        queries=QUERIES,
        missing=missing,
        note=note,
    )


def share(value: float) -> Measure:
    wide = 0.035
    return replace(measure(value), low=max(0.0, value - wide), high=min(1.0, value + wide))


def point(arm: Arm, level: str, accuracy: float, tokens: float, **changes: object) -> Point:
    slept = arm in ("sleep", "learned", "merged", "placebo", "restatement")
    made = Point(
        cell=f"{arm}/{level}",
        arm=arm,
        level=level,
        samples=1 if slept else 0,
        effort=None,
        accuracy=share(accuracy),
        tokens=measure(tokens, tokens * 0.06),
        input_tokens=310.0 if slept else 190.0,
        cached_input_tokens=128.0,
        reasoning_tokens=0.0,
        sleep_tokens=measure(SLEEP_TOKENS, 12.0) if slept else None,
        cost_usd=0.00013,
    )
    return replace(made, **changes)


def points() -> tuple[Point, ...]:
    arms: tuple[Arm, ...] = ("no_sleep", "sleep", "learned")
    swept = [point(arm, level, *ACCURACY[arm][level]) for arm in arms for level in ACCURACY[arm]]
    more = [
        point(arm, "v0", 0.63 + 0.03 * i, 6, cell=f"{arm}/v0/k{k}", samples=k)
        for arm in ("sleep", "merged")
        for i, k in enumerate((2, 5, 10))
    ]
    return (
        *swept,
        *more,
        point("placebo", "v0", 0.11, 6),
        point("restatement", "v0", 0.13, 6),
        point("draws", "v0", 0.13, 6, cell="draws/v0/t0.7"),
        point("guess", "v0", 0.04, 9),
        point("guess", "v4", 0.09, 260),
    )


def comparison(stratum: str = "", *, with_sleep: Arm = "sleep", shift: float = 0.0) -> Comparison:
    slept = ACCURACY[with_sleep]
    gains = tuple(
        (level, measure(slept[level][0] - ACCURACY["no_sleep"][level][0] + shift, 0.06)) for level in ("v0", "v1", "v2")
    )
    far = tuple((level, measure(slept[level][0] - ACCURACY["no_sleep"][level][0], 0.05)) for level in ("v3", "v4"))
    is_shown = with_sleep == "sleep" and not stratum
    return Comparison(
        stratum=stratum,
        without="no_sleep",
        with_sleep=with_sleep,
        margin=0.02,
        match=Match(
            best="v4",
            without="v4",
            with_sleep="v3" if is_shown else None,
            nearest="v3" if with_sleep == "sleep" else None,
            reason="" if is_shown else "no level with sleep comes within 2 points of v4 without sleep",
        ),
        token_ratio=measure(3.93, 0.31) if is_shown else measure(None, note="equal accuracy was not shown"),
        as_measured=measure(3.93, 0.31) if with_sleep == "sleep" else measure(None),
        interpolated=measure(3.7, 0.4),
        gains=(*gains, *far),
        shifts=tuple((level, replace(gain, value=(gain.value or 0) + 0.01)) for level, gain in (*gains, *far)),
        savings=tuple((f"v{i}", measure(1.0 + i, 0.5)) for i in range(5)),
    )


def draws() -> tuple[DrawPoint, ...]:
    passes = {1: 0.12, 2: 0.21, 5: 0.38, 10: 0.52}
    votes = {1: 0.12, 2: 0.12, 5: 0.16, 10: 0.19}
    return tuple(
        DrawPoint(
            level="v0",
            k=k,
            tokens=measure(6.0 * k, 0.4 * k),
            pass_at_k=share(passes[k]),
            majority_at_k=share(votes[k]),
            sleep=share(0.63 + 0.01 * k),
            over_pass=measure(0.63 + 0.01 * k - passes[k], 0.05),
            over_majority=measure(0.63 + 0.01 * k - votes[k], 0.05),
        )
        for k in passes
    )


def scaling() -> tuple[ScalingPoint, ...]:
    parallel = [
        ScalingPoint(
            kind=kind,
            level="v0",
            samples=k,
            effort=None,
            accuracy=share(reached),
            gain=measure(reached - 0.12, 0.04),
            over_first=measure(reached - 0.63, 0.04),
            tokens=measure(6.0, 0.2),
            sleep_tokens=measure(SLEEP_TOKENS * k * more, 20.0 * k),
        )
        for kind, more, swept in (
            ("joined", 1.0, {1: 0.63, 2: 0.68, 5: 0.74, 10: 0.73}),
            ("merged", 1.3, {2: 0.67, 5: 0.75, 10: 0.77}),
        )
        for k, reached in swept.items()
    ]
    efforts = [
        ScalingPoint(
            kind="effort",
            level="v0",
            samples=1,
            effort=effort,
            accuracy=share(reached),
            gain=measure(reached - 0.12, 0.04),
            over_first=measure(reached - 0.58, 0.04),
            tokens=measure(6.0, 0.2),
            sleep_tokens=measure(tokens, 15.0),
        )
        for effort, reached, tokens in (("low", 0.58, 240.0), ("medium", 0.66, 510.0), ("high", 0.7, 1240.0))
    ]
    return (*parallel, *efforts)


def amortisation() -> Amortisation:
    points: list[CostPoint] = []
    ends: list[BreakEven] = []
    for t in (2.0, 4.0, 10.0, 12.0):
        for n in (1, 2, 5, 10):
            plain, slept = t * PLAIN, t * 61 + SLEEP_TOKENS * 3 / n
            points.append(
                CostPoint(
                    price=t,
                    is_cached=False,
                    queries=n,
                    without=measure(plain, plain * 0.04),
                    with_sleep=measure(slept, slept * 0.05),
                    ratio=measure(plain / slept, 0.2),
                )
            )
        ends.append(BreakEven(price=t, is_cached=False, queries=measure(SLEEP_TOKENS * 3 / (t * (PLAIN - 61)), 0.3)))
    for is_cached in (False, True):
        for n in (1, 2, 5, 10):
            slept = 0.0002 + 0.0011 / n - (0.00005 if is_cached else 0)
            points.append(
                CostPoint(
                    price=None,
                    is_cached=is_cached,
                    queries=n,
                    without=measure(0.0005, 0.00002),
                    with_sleep=measure(slept, slept * 0.05),
                    ratio=measure(0.0005 / slept, 0.1),
                )
            )
        ends.append(BreakEven(price=None, is_cached=is_cached, queries=measure(3.67 - is_cached, 0.3)))
    return Amortisation(
        without_level="v4",
        with_level="v3",
        is_shown=True,
        points=tuple(points),
        break_evens=tuple(ends),
        sleep_tokens=measure(SLEEP_TOKENS * 3, 12.0),
    )


def predictability() -> tuple[Predictability, ...]:
    gains = {"sleep/v0": (0.21, 0.34, 0.52, 0.61, 0.66), "sleep/v0/k5": (0.4, 0.49, 0.6, 0.7, 0.74)}
    return tuple(
        Predictability(
            cell=cell,
            by=by,
            bins=tuple(
                Bin(
                    log_prob=-(9.5 - 1.7 * i) * (12 if by == "sum" else 1),
                    without=share(0.12),
                    with_sleep=share(0.12 + gain),
                    gain=measure(gain, 0.08),
                )
                for i, gain in enumerate(swept)
            ),
            rho=measure(1.0, 0.0),
            slope=measure(0.043, 0.011),
            within_depth=measure(0.031, 0.012) if by == "mean" else measure(None, note="no depths are known"),
        )
        for cell, swept in gains.items()
        for by in ("sum", "mean")
    )


def control(arm: Arm, level: str, accuracy: float, tokens: float) -> Control:
    return Control(
        arm=arm,
        level=level,
        accuracy=share(accuracy),
        tokens=measure(tokens, 0.5),
        gain=measure(accuracy - 0.12, 0.03),
        below_sleep=measure(0.63 - accuracy, 0.04),
        sleep=share(0.63),
    )


def provenance() -> Provenance:
    return Provenance(
        model="pretend:thinker-1",
        sleep_model="pretend:thinker-1",
        scoring_model="tiny",
        dataset="made-up-sums",
        dataset_sha256="ab" * 32,
        dataset_source="a generator of this test",
        licence="CC0-1.0",
        split="hoist",
        seeds=(1, 2, 3),
        limit=40,
        prompt_fingerprints={"answer-v0": "0123456789ab", "sleep": "ba9876543210"},
        machine="2 cores of nowhere",
        versions={"python": "3.11.9", "sleeptime": "0.1.0"},
        commit="abc1234",
        began_at=datetime(2026, 11, 24, 9, 30, tzinfo=UTC),
        wall_s=1834.0,
    )


CLAIMS = (
    Claim(
        experiment="e1",
        words="Sleep reaches the best accuracy without it on fewer test-time tokens",
        verdict="shown",
        because="3.9 times fewer (95 % interval 3.6 to 4.2) at v3 against v4",
    ),
    Claim(
        experiment="e1",
        words="Without sleep is slightly better at the highest budget",
        verdict="not shown",
        because="−2.0 points (−7.0 to +3.0) at v4: too few contexts to say",
    ),
    Claim(
        experiment="e3",
        words="Sleep beats pass@k at equal test-time tokens",
        verdict="shown",
        because="+21.0 points (+16.0 to +26.0) over pass@10",
    ),
    Claim(
        experiment="e4",
        words="More parallel sleeps help",
        verdict="shown",
        because="+11.0 points (+7.0 to +15.0) from 1 to 5",
    ),
    Claim(
        experiment="e5",
        words="A single query costs less without sleep",
        verdict="contradicted",
        because="1.31 times cheaper with sleep at N = 1",
    ),
    Claim(
        experiment="e6",
        words="The gain grows with predictability",
        verdict="shown",
        because="rank correlation 1.00 (1.00 to 1.00)",
    ),
    Claim(
        experiment="e8",
        words="Context only is far below sleep",
        verdict="not measured",
        because="no cell guessed the query",
    ),
)


def findings(**changes: object) -> Findings:
    """A whole run, with every part measured but for *changes*."""
    whole = Findings(
        experiments=("e1", "e3", "e4", "e5", "e6", "e8"),
        claims=CLAIMS,
        points=points(),
        comparisons=(comparison(), comparison(with_sleep="learned")),
        strata=(
            comparison("target in context", shift=0.1),
            comparison("target withheld", shift=-0.1),
            comparison("empty context", shift=-0.3),
        ),
        draws=draws(),
        scaling=scaling(),
        amortisation=amortisation(),
        predictability=predictability(),
        guesses=(control("guess", "v0", 0.04, 9), control("guess", "v4", 0.09, 260)),
        controls=(control("placebo", "v0", 0.11, 6), control("restatement", "v0", 0.13, 6)),
        equal_totals=(
            EqualTotal(
                level="v0",
                k=10,
                total_tokens=measure(416.0, 12.0),
                majority=share(0.19),
                sleep=share(0.63),
                over=measure(0.44, 0.05),
            ),
            EqualTotal(
                level="v3",
                k=3,
                total_tokens=measure(470.0, 12.0),
                majority=share(0.76),
                sleep=share(0.85),
                over=measure(0.09, 0.04),
            ),
        ),
        not_measured={},
        contexts=CONTEXTS,
        clusters=CONTEXTS // 2,
        queries=QUERIES,
        failed_answers=7,
        failed_sleeps=2,
        spent_usd=1.234,
        paid_calls=4321,
        price=PriceCard(name="thinker-1", dated=date(2026, 11, 1), input_usd_per_mtok=0.25, output_usd_per_mtok=2.0),
        sleep_price=None,
        provenance=provenance(),
    )
    return replace(whole, **changes)


def nothing() -> Findings:
    """A run of which nothing could be measured, and why."""
    return findings(
        claims=(),
        points=(),
        comparisons=(),
        strata=(),
        draws=(),
        scaling=(),
        amortisation=None,
        predictability=(),
        guesses=(),
        controls=(),
        equal_totals=(),
        not_measured={
            "guess/v0": "thinker-1 refuses to guess",
            "surprise": "thinker-1 gives no log-probabilities",
            "merged/v0/k2": "thinker-1 cannot merge notes",
        },
    )
