"""What a run says of each claim, the paper's and ours: shown, not shown, contradicted or not measured.

    shown         the 95 % interval excludes every outcome in which the claim is false
    contradicted  it excludes every outcome in which the claim is true
    not shown     neither, or there are too few clusters for an interval

A claim about several figures is shown where all are, and contradicted where one is. The rule stands
beside each claim below. Every sentence names the model and the data, because it holds for no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sleeptime.evals.analysis import stats
from sleeptime.evals.analysis.findings import (
    Amortisation,
    Claim,
    Comparison,
    Control,
    DrawPoint,
    EqualTotal,
    Findings,
    Measure,
    Predictability,
    ScalingPoint,
    Verdict,
)
from sleeptime.evals.runs import experiments

CONTROLS = "controls"
"""In place of an experiment's id: what every experiment has."""

PAPER_PRICE = 10.0
"""The t of the paper's claims about cost."""

Judged = tuple[Verdict, str]


def judge(found: Findings) -> tuple[Claim, ...]:
    """Judge the claims of the experiments that were run, and those about the controls."""
    source = found.provenance
    judged = [(name, words, said) for name in found.experiments for words, said in _CLAIMS.get(name, _none)(found)]
    judged += [(CONTROLS, words, said) for words, said in _controls(found)]
    return tuple(
        Claim(experiment=name, words=words, verdict=verdict, because=f"{because} ({source.model} on {source.dataset}).")
        for name, words, (verdict, because) in judged
    )


Said = list[tuple[str, Judged]]


def _none(_: Findings) -> Said:
    return []


def _stated(name: str) -> str:
    """The claim as its experiment states it."""
    return " ".join(experiments.load(name).claim.split())


def above(measure: Measure, bound: float) -> Verdict:
    """Judge "more than *bound*" by an interval. One that is open at the top has no end there."""
    if measure.value is None and measure.low is None:
        return "not shown" if measure.queries else "not measured"
    if measure.low is None:
        return "not shown"
    if measure.low > bound:
        return "shown"
    return "contradicted" if measure.high is not None and measure.high < bound else "not shown"


def below(measure: Measure, bound: float) -> Verdict:
    """Judge "less than *bound*" by an interval."""
    turned: dict[Verdict, Verdict] = {"shown": "contradicted", "contradicted": "shown"}
    verdict = above(measure, bound)
    return turned.get(verdict, verdict)


def all_of(verdicts: Iterable[Verdict]) -> Verdict:
    """Judge a claim that has several parts."""
    parts = list(verdicts)
    if "contradicted" in parts:
        return "contradicted"
    if not parts or set(parts) == {"not measured"}:
        return "not measured"
    return "shown" if set(parts) == {"shown"} else "not shown"


def _points(measure: Measure) -> str:
    return _told(measure, lambda number: f"{round(100 * number, 1) + 0.0:+.1f}".replace("-", "−"), " points")


def _share(measure: Measure) -> str:
    return _told(measure, lambda number: f"{100 * number:.1f}", " %")


def _times(measure: Measure) -> str:
    return _told(measure, lambda number: f"{number:.2f}", " times")


def _number(measure: Measure) -> str:
    return _told(measure, lambda number: f"{round(number, 2) + 0.0:.2f}".replace("-", "−"), "")


def _told(measure: Measure, write: Callable[[float], str], unit: str) -> str:
    """A figure with its interval in words; the note where there is none."""
    known = measure.value is not None
    value = write(measure.value) + unit if measure.value is not None else measure.note or "no figure"
    after = f" ({measure.note})" if known and measure.note else ""
    if measure.low is not None:
        after = f" ({write(measure.low)} to {'∞' if measure.high is None else write(measure.high)})"
    return value + after


def _why(found: Findings, *words: str) -> Judged:
    """Not measured, and why: of the reasons the run gives, the first about one of *words*."""
    told = (why for what, why in found.not_measured.items() if any(word in what for word in words))
    return "not measured", next(told, "the run asks for no such answers")


def _comparison(found: Findings) -> Comparison | None:
    return next((each for each in found.comparisons if each.with_sleep == "sleep"), None)


def _e1(found: Findings) -> Said:
    return [
        (_stated("e1"), _shifts(found)),
        ("At equal accuracy, sleep takes fewer test-time tokens.", _fewer_tokens(found)),
        ("At the highest budget, no sleep is more accurate.", _highest(found)),
    ]


def _e2(found: Findings) -> Said:
    return [
        (_stated("e2"), _fewer_tokens(found)),
        ("Sleep shifts the Pareto curve: at every budget but the highest.", _shifts(found)),
    ]


def _shifts(found: Findings) -> Judged:
    """Shown at a level: more accurate for at most as many tokens, or as accurate within the margin for fewer.

    Contradicted at a level: less accurate for as many tokens, and as accurate only for more.
    """
    comparison = _comparison(found)
    if comparison is None or len(comparison.shifts) < 2:  # the highest is left out, so one level says nothing
        return _why(found, "sleep/", "no_sleep/")

    def at_level(shift: Measure, saving: Measure) -> Verdict:
        either = above(shift, 0), above(saving, 1)
        if "shown" in either:
            return "shown"
        return "contradicted" if set(either) == {"contradicted"} else "not shown"

    verdicts: list[Verdict] = []
    told: list[str] = []
    for (level, shift), (_, saving) in list(zip(comparison.shifts, comparison.savings, strict=True))[:-1]:
        verdicts.append(at_level(shift, saving))
        told.append(
            f"at {level} {verdicts[-1]}: sleep gains {_points(shift)} for as many tokens, and without it that "
            f"accuracy takes {_times(saving)} the tokens"
        )
    return all_of(verdicts), "; ".join(told)


def _fewer_tokens(found: Findings) -> Judged:
    """Shown: at levels shown to be equal in accuracy, the ratio is above 1.

    Contradicted: it is below 1 there, or else for the best accuracy without sleep − margin along the curve with it.
    """
    comparison = _comparison(found)
    if comparison is None:
        return _why(found, "sleep/", "no_sleep/")
    match, margin = comparison.match, f"{100 * comparison.margin:g} points"
    if match.with_sleep is not None:
        because = (
            f"{match.with_sleep} with sleep is shown to be less than {margin} below {match.best} without, and "
            f"{match.without} without sleep takes {_times(comparison.token_ratio)} its tokens"
        )
        return above(comparison.token_ratio, 1), because
    saving = dict(comparison.savings).get(match.best or "")
    is_ruled_out = saving is not None and above(saving, 1) == "contradicted"
    return "contradicted" if is_ruled_out else "not shown", match.reason or "no levels could be matched"


def _highest(found: Findings) -> Judged:
    """Shown: the gain of sleep at the highest level is below 0."""
    comparison = _comparison(found)
    if comparison is None:
        return _why(found, "sleep/", "no_sleep/")
    level, gain = comparison.gains[-1]
    return below(gain, 0), f"at {level} sleep gains {_points(gain)}"


def _e3(found: Findings) -> Said:
    """Shown: the difference is above 0 at every k drawn at the lowest level. Contradicted: below 0 at one."""
    points = [point for point in found.draws if point.level == found.draws[0].level]

    def against(name: str, read: Callable[[DrawPoint], Measure]) -> Judged:
        known = [(point.k, read(point)) for point in points if read(point).value is not None]
        if not known:
            return _why(found, "draws/", "sleep/")
        k, least = min(known, key=lambda each: each[1].value or 0.0)
        shown = [k for k, measure in known if above(measure, 0) == "shown"]
        worse = [k for k, measure in known if above(measure, 0) == "contradicted"]
        because = (
            f"against {name} of {points[0].level}, sleep is more accurate at {_listed(shown)}"
            f"{f' and less at {_listed(worse)}' if worse else ''}; its least lead is at k = {k}: {_points(least)}"
        )
        return all_of(above(measure, 0) for _, measure in known), because

    return [
        (_stated("e3"), against("pass@k", lambda point: point.over_pass)),
        (
            "At equal test-time tokens, one answer after sleep is right more often than a majority vote of k.",
            against("majority@k", lambda point: point.over_majority),
        ),
    ]


def _listed(numbers: Sequence[int]) -> str:
    """Write ascending values of k, those that follow each other as 2–5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    told = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)
    return f"k = {told}" if told else "no k"


def _e4(found: Findings) -> Said:
    kinds = {kind: [point for point in found.scaling if point.kind == kind] for kind in ("joined", "merged", "effort")}
    lowest = {kind: [point for point in points if point.level == points[0].level] for kind, points in kinds.items()}
    return [
        ("More parallel sleeps on one context help, and then saturate.", _saturates(found, lowest["joined"])),
        ("More effort in a sleep helps.", _effort(found, lowest["effort"])),
        ("Merging the notes of parallel sleeps is no worse than joining them.", _merged(found, lowest["merged"])),
    ]


def _saturates(found: Findings, points: Sequence[ScalingPoint]) -> Judged:
    """Shown: some k above 1 is better than the least, and the last step is not shown to be better than the one before.

    Contradicted: every k above 1 is worse than the least, or the last step is still better.
    """
    more = [point for point in points if point.over_previous is not None]
    if not more:
        return _why(found, "sleep/")
    best = max(more, key=lambda point: point.over_first.value if point.over_first.value is not None else -1.0)
    last = more[-1]
    step = last.over_previous or last.over_first
    steps = [above(point.over_first, 0) for point in more]
    helps: Verdict = "not shown"
    if "shown" in steps:
        helps = "shown"
    elif set(steps) == {"contradicted"}:
        helps = "contradicted"
    saturates = {"shown": "contradicted", "not measured": "not measured"}.get(above(step, 0), "shown")
    if step.low is None:
        saturates = "not shown"
    because = (
        f"that it helps is {helps}: k = {best.samples} gains {_points(best.over_first)} over k = {points[0].samples}; "
        f"that it saturates is {saturates}: the last step, to k = {last.samples}, gains {_points(step)}"
    )
    if "contradicted" in (helps, saturates):
        return "contradicted", because
    return ("shown" if helps == saturates == "shown" else "not shown"), because


def _effort(found: Findings, points: Sequence[ScalingPoint]) -> Judged:
    """Shown: the most effort is better than the least."""
    if len(points) < 2:  # a first and a last
        return _why(found, "effort=")
    gain = points[-1].over_first
    return above(gain, 0), f"{points[-1].effort} gains {_points(gain)} over {points[0].effort}"


def _merged(found: Findings, points: Sequence[ScalingPoint]) -> Judged:
    """Shown: at every k less than the margin is lost against joined notes. Contradicted: more is, at one."""
    over = [(point.samples, point.over_joined) for point in points if point.over_joined is not None]
    if not over:
        return _why(found, "merged/")
    told = "; ".join(f"k = {k}: {_points(measure)}" for k, measure in over)
    return all_of(above(measure, -stats.MARGIN) for _, measure in over), f"over joined notes, {told}"


def _e5(found: Findings) -> Said:
    return [
        (_stated("e5"), _pays(found)),
        (
            "The more queries share a sleep, the less each costs: at N = 10 and t = 10 less than without sleep.",
            _cost(found, 10, above, for_sleep="shown"),
        ),
        ("At N = 1 and t = 10, a query costs more with sleep.", _cost(found, 1, below, for_sleep="contradicted")),
    ]


def _amortisation(found: Findings) -> Amortisation | Judged:
    if found.amortisation is not None:
        return found.amortisation
    comparison = _comparison(found)
    if comparison is None:
        return _why(found, "sleep/", "no_sleep/")
    return "not shown", comparison.match.reason or "no levels could be matched"


def _unequal(spread: Amortisation) -> str:
    return "" if spread.is_shown else "as measured, equal accuracy not shown, "


def _pays(found: Findings) -> Judged:
    """Shown: accuracy is shown to be equal and the interval of the break-even is finite.

    Contradicted: an answer at the levels of equal accuracy takes more tokens with sleep.
    """
    spread, comparison = _amortisation(found), _comparison(found)
    if isinstance(spread, tuple):
        return spread
    even = next(each.queries for each in spread.break_evens if each.price == PAPER_PRICE)
    because = f"{_unequal(spread)}{spread.with_level} with sleep pays from {_number(even)} queries at t = 10"
    if comparison is not None and above(comparison.as_measured, 1) == "contradicted":
        return "contradicted", because
    is_finite = even.value is not None and even.high is not None
    return ("shown" if is_finite and spread.is_shown else "not shown"), because


def _cost(found: Findings, queries: int, rule: Callable[[Measure, float], Verdict], *, for_sleep: Verdict) -> Judged:
    """Shown: the ratio of costs lies on the claimed side of 1, contradicted: on the other.

    The verdict that speaks *for_sleep* needs accuracy to be shown equal; costs that are higher already at a level that
    only looks as accurate speak against it all the same.
    """
    spread = _amortisation(found)
    if isinstance(spread, tuple):
        return spread
    point = next(each for each in spread.points if (each.price, each.queries) == (PAPER_PRICE, queries))
    verdict = rule(point.ratio, 1)
    if verdict == for_sleep and not spread.is_shown:
        verdict = "not shown"
    because = (
        f"{_unequal(spread)}{spread.without_level} without sleep costs {_times(point.ratio)} as much as "
        f"{spread.with_level} with it"
    )
    return verdict, because


def _e6(found: Findings) -> Said:
    """Shown: the rank correlation of bin and gain is above 0, by the sum of log-probabilities."""
    told = [each for each in found.predictability if each.by == "sum"]
    if not told:
        return [(_stated("e6"), _why(found, "surprise", "sleep/", "no_sleep/"))]

    def said(each: Predictability) -> Judged:
        ends = [_points(each.bins[i].gain) for i in (0, -1)]
        told = f"the least predictable fifth gains {ends[0]}, the most {ends[1]}"
        return above(each.rho, 0), f"the rank correlation of gain and predictability is {_number(each.rho)}; {told}"

    first, *limited = told
    beside = [(f"The same with less of its sleep ({each.cell}).", said(each)) for each in limited[:2]]
    return [(_stated("e6"), said(first)), *beside]


def _e8(found: Findings) -> Said:
    """Shown: at every level, twice the top of the guess's interval is under the bottom of sleep's.

    Contradicted: at one level, twice the bottom of the guess's interval is over the top of sleep's.
    """

    def is_far(control: Control) -> Verdict:
        guess, sleep = control.accuracy, control.sleep
        if guess.low is None or guess.high is None or sleep is None or sleep.low is None or sleep.high is None:
            return "not shown"
        if 2 * guess.high < sleep.low:
            return "shown"
        return "contradicted" if 2 * guess.low > sleep.high else "not shown"

    guesses = [control for control in found.guesses if control.sleep is not None]
    if not guesses:
        return [(_stated("e8"), _why(found, "guess/", "sleep/"))]
    told = "; ".join(
        f"a guess at {control.level} is right in {_share(control.accuracy)}, sleep in {_share(control.sleep)}"
        for control in guesses
        if control.sleep is not None
    )
    return [(_stated("e8"), (all_of(map(is_far, guesses)), told))]


def _controls(found: Findings) -> Said:
    """Notes of another context, and the context again: shown to gain less than the margin, or at least it.

    Equal total: the lead of sleep over the vote is above 0 at every level drawn at, and no more draws would fit; a vote
    of fewer that beats sleep contradicts it all the same.
    """

    def gains_nothing(arm: str) -> Judged:
        controls = [control for control in found.controls if control.arm == arm and control.gain.value is not None]
        if not controls:
            return _why(found, f"{arm}/")
        told = "; ".join(
            f"at {control.level} it gains {_points(control.gain)}, and sleep {_points(control.below_sleep)} more"
            for control in controls
        )
        return all_of(below(control.gain, stats.MARGIN) for control in controls), told

    totals = [each for each in found.equal_totals if each.k]
    total: Judged = _why(found, "draws/", "sleep/")
    if totals:
        told = "; ".join(
            f"{_points(each.over)} over a vote of {each.k} at {each.level}"
            f"{f', where {each.fits} would fit' if each.fits > each.k else ''}"
            for each in totals
        )
        total = _of_votes(totals), told
    margin = f"{100 * stats.MARGIN:g} points"
    return [
        (f"Another context's notes gain less than {margin}.", gains_nothing("placebo")),
        (f"The context again, as long as its notes, gains less than {margin}.", gains_nothing("restatement")),
        ("For as many tokens in all, sleep is more accurate than a vote of draws, with one query a context.", total),
    ]


def _of_votes(totals: Sequence[EqualTotal]) -> Verdict:
    """Shown at every level at which as many draws were made as fit, and contradicted at none."""
    if any(above(each.over, 0) == "contradicted" for each in totals):
        return "contradicted"
    complete = [each for each in totals if each.fits <= each.k]
    return all_of(above(each.over, 0) for each in complete) if complete else "not shown"


_CLAIMS: dict[str, Callable[[Findings], Said]] = {
    "e1": _e1,
    "e2": _e2,
    "e3": _e3,
    "e4": _e4,
    "e5": _e5,
    "e6": _e6,
    "e8": _e8,
}
