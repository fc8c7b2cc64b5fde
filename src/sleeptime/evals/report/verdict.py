"""Say on one page what a run means for whoever's data it was: does sleeping pay here, and what to do next.

    judge(findings) → Verdict         render_text(verdict) → str

    pays                  equal accuracy is shown, each query takes fewer test-time tokens, and from some
                          number of queries per context that has paid for the sleep
    pays at low budgets   equal accuracy is not shown, but at some budget sleep is shown to answer better
    does not pay          shown to be dearer, or to gain less than the margin at every budget
    too few contexts      measured, and none of these is shown
    not measured          there is nothing to compare

How many more contexts would settle it is read off the width of an interval, which narrows
with the root of their number: n · (half width / distance to what is to be shown)². Equal
accuracy needs ln(0.025 / levels) / ln(1 − margin) contexts even if sleep loses none. A forecast:
it takes what was measured for true.

Number of queries: the upper end of the break-even's interval, so that it is a safe one.
Nothing is measured here, and nothing is known of models or files.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sleeptime.core.budget import Level
from sleeptime.evals.analysis.findings import BreakEven, Comparison, Findings, Measure, Point
from sleeptime.evals.analysis.stats import CONFIDENCE
from sleeptime.evals.report.page import Unit, bare, written
from sleeptime.evals.runs.results import ARMS, Arm
from sleeptime.models.names import TINY

Outcome = Literal["pays", "pays at low budgets", "does not pay", "too few contexts", "not measured"]

FEW_CLUSTERS = 20
"""With fewer, an interval by resampling is too narrow to lean on."""
LEAST_GROWTH = 1.25
"""What is not shown yet asks for a quarter more contexts at least, whatever the width says."""
MOST_GROWTH = 100
"""Beyond so many times the contexts there are, the honest word is that the difference is too small to show."""
ASSUMED_PRICE = 10.0
"""t of the break-even that is told where no prices are known: the paper's."""
WIDTH = 100
_CURVES: tuple[Arm, Arm] = ("no_sleep", "sleep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A number of the page, written with its interval."""

    words: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to think and do. `from_queries` is None where sleep never pays in cost, or that is not known.

    `level` is the budget to answer at with sleep, `more_contexts` about how many more would settle what is open.
    """

    outcome: Outcome
    headline: str
    sureness: str
    advice: tuple[str, ...]
    level: str | None = None
    from_queries: int | None = None
    more_contexts: int | None = None
    facts: tuple[Fact, ...] = ()
    caveats: tuple[str, ...] = ()
    about: str = ""


def judge(findings: Findings) -> Verdict:
    """Read what *findings* mean, by the rules above."""
    compared = next((each for each in findings.comparisons if each.with_sleep == "sleep" and not each.stratum), None)
    if compared is None or all(gain.value is None for _, gain in compared.gains):
        return _not_measured(findings, compared)
    match, ratio = compared.match, compared.token_ratio
    if match.with_sleep is not None and match.without is not None:
        if ratio.low is not None and ratio.low > 1:
            return _cheaper(findings, compared, match.without, match.with_sleep)
        if ratio.high is not None and ratio.high < 1 and not _raised(compared):
            return _dearer(findings, compared, match.without, match.with_sleep)
    if _raised(compared):
        return _better(findings, compared)
    if all(gain.high is not None and gain.high < compared.margin for _, gain in compared.gains):
        return _no_gain(findings, compared)
    return _open(findings, compared)


def render_text(verdict: Verdict) -> str:
    """Write the page as plain text."""
    parts = [_wrapped(verdict.headline), f"How sure\n{_wrapped(verdict.sureness, indent='  ')}"]
    parts.append(
        "What to do next\n" + "\n".join(_wrapped(line, first="  - ", indent="    ") for line in verdict.advice)
    )
    if verdict.facts:
        widest = max(len(fact.words) for fact in verdict.facts)
        rows = "\n".join(f"  {fact.words:<{widest}}  {fact.value}" for fact in verdict.facts)
        parts.append(f"What was measured (with {CONFIDENCE:.0%} intervals)\n{rows}")
    if verdict.caveats:
        parts.append("Mind\n" + "\n".join(_wrapped(line, first="  - ", indent="    ") for line in verdict.caveats))
    return "\n\n".join([*parts, _wrapped(verdict.about)]) + "\n"


def contexts_to_show(contexts: int, *, half_width: float, distance: float) -> int | None:
    """How many contexts narrow an interval of *half_width* to less than *distance*; None if far too many."""
    if distance <= 0:
        return None
    needed = max(contexts * (half_width / distance) ** 2, contexts * LEAST_GROWTH)
    return math.ceil(needed) if needed <= contexts * MOST_GROWTH else None


def least_contexts(levels: int, *, margin: float) -> int:
    """How many contexts equal accuracy needs at *levels* tries even if sleep loses none of them."""
    alpha = (1 - CONFIDENCE) / 2 / max(1, levels)
    return math.ceil(math.log(alpha) / math.log(1 - margin))


def _cheaper(findings: Findings, compared: Comparison, without: str, level: str) -> Verdict:
    """Equal accuracy on fewer tokens a query is shown; whether that pays for the sleep is a matter of cost."""
    end = _break_even(findings)
    ratio = _told(compared.token_ratio, "times")
    equal = (
        f"{budget(level)} with sleep is as accurate as {budget(without)} without it, within {_points(compared.margin)}"
    )
    shown = f"That is shown on {_on(compared.token_ratio)}; a query takes {ratio} fewer test-time tokens."
    if end is None or end.queries.value is None:
        is_never = end is not None and end.queries.contexts > 0
        why = "at no number of queries does that pay for the sleep" if is_never else "what a sleep costs is not known"
        return _verdict(
            findings,
            compared,
            outcome="does not pay" if is_never else "not measured",
            headline=f"Sleeping saves tokens on this data, but {why}: {equal}.",
            sureness=f"{shown} {_price_words(end)}".strip(),
            advice=("Sleep less deep or with a cheaper model (--sleep-model), and measure again.",),
            level=level,
        )
    high = end.queries.high
    safe = max(1, math.ceil(end.queries.value if high is None else high))
    advice = [
        f"Set {budget(level)} with sleep for contexts with {_queries(safe)}{'' if safe == 1 else ' or more'}.",
        *([f"For contexts with fewer, answer at {budget(without)} without sleep."] if safe > 1 else []),
    ]
    if high is None:
        advice.append(
            "Measure more contexts before you rely on that number: at the far end of its interval it never pays."
        )
    if (own := findings.queries / findings.contexts) < safe:
        advice.append(
            f"This data has {own:.1f} queries a context: sleep only where you expect {safe} or more, "
            "or add queries with `sleeptime eval make-queries` to measure what they share."
        )
    return _verdict(
        findings,
        compared,
        outcome="pays",
        headline=f"Sleeping pays on this data, from {_queries(safe)} per context: {equal}, "
        f"with {ratio} fewer test-time tokens a query.",
        sureness=f"{shown} {_price_words(end)}",
        advice=tuple(advice),
        level=level,
        from_queries=safe,
    )


def _dearer(findings: Findings, compared: Comparison, without: str, level: str) -> Verdict:
    ratio = _told(compared.token_ratio, "times")
    return _verdict(
        findings,
        compared,
        outcome="does not pay",
        headline=f"Sleeping does not pay on this data: for equal accuracy a query takes more test-time tokens with it "
        f"({budget(level)}) than without ({budget(without)}).",
        sureness=f"Shown on {_on(compared.token_ratio)}: tokens without sleep are {ratio} of those with it.",
        advice=_without_sleep(without),
    )


def _better(findings: Findings, compared: Comparison) -> Verdict:
    """At some budgets sleep is shown to answer better, though it is not shown to save tokens at the best accuracy."""
    raised = _raised(compared)
    level, gain = raised[0]
    names = _budgets([each for each, _ in raised])
    more = _more_for_equality(findings, compared)
    advice = [f"If you answer at {names}, sleep first, and stay at that budget."]
    best = compared.match.best
    if best is not None:
        advice.append(
            f"For the best accuracy, that of {budget(best)} without sleep, do not count on sleep yet. {_more(more)}"
        )
    lowered = [each for each, other in compared.gains if other.high is not None and other.high < 0]
    if lowered:
        advice.append(f"Do not sleep for answers at {_budgets(lowered)}: accuracy falls there.")
    slept = next((each.sleep_tokens for each in findings.points if (each.arm, each.level) == ("sleep", level)), None)
    cost = f" It costs {_told(slept, 'number')} sleep tokens a context." if slept and slept.value is not None else ""
    return _verdict(
        findings,
        compared,
        outcome="pays at low budgets",
        headline=f"Sleeping pays on this data where you answer at {names}: it raises accuracy there, by "
        f"{_told(gain, 'points')} at {budget(level)}. That it saves tokens at the best accuracy is not shown.",
        sureness=f"The gain is shown on {_on(gain)}.{cost} "
        f"Equal accuracy is not: {compared.match.reason or 'sleep takes about as many tokens'}.",
        advice=tuple(line.strip() for line in advice),
        level=level,
        more_contexts=more,
    )


def _no_gain(findings: Findings, compared: Comparison) -> Verdict:
    most = max((gain for _, gain in compared.gains), key=lambda gain: gain.high or 0.0)
    return _verdict(
        findings,
        compared,
        outcome="does not pay",
        headline="Sleeping does not pay on this data: at no budget does it gain "
        f"{_points(compared.margin)} of accuracy, and it is not shown to save tokens.",
        sureness=f"Shown on {_on(most)}: no interval leaves a larger gain open than {written(most.high, 'points')}.",
        advice=_without_sleep(compared.match.without),
    )


def _open(findings: Findings, compared: Comparison) -> Verdict:
    most = max(compared.gains, key=lambda each: -math.inf if each[1].value is None else each[1].value)
    needed = _more_for_equality(findings, compared)
    if needed is None:
        needed = _beyond(findings, _half(most[1]), most[1].value)
    measured = f"the largest gain measured is {_told(most[1], 'points')}, at {budget(most[0])}"
    return _verdict(
        findings,
        compared,
        outcome="too few contexts",
        headline=f"Too few contexts to say whether sleeping pays on this data: {measured}.",
        sureness=f"{findings.contexts} contexts decide neither way: {compared.match.reason or 'the interval holds 0'}.",
        advice=(_more(needed), "Until then, answer without sleep: it costs nothing to add it later."),
        more_contexts=needed,
    )


def _not_measured(findings: Findings, compared: Comparison | None) -> Verdict:
    reasons = [f"{what}: {why}" for what, why in findings.not_measured.items() if what != "money"]
    if compared is not None and compared.match.reason:
        reasons.insert(0, compared.match.reason)
    return Verdict(
        outcome="not measured",
        headline="Nothing can be said of this data: answers with and without sleep at the same budgets are needed, "
        "and this run does not have them.",
        sureness="; ".join(reasons[:3]) + "." if reasons else "There are no answers yet.",
        advice=("Run it again: it goes on where it stopped, and pays for nothing twice.",),
        caveats=_caveats(findings),
        about=_about(findings),
    )


def _verdict(
    findings: Findings,
    compared: Comparison,
    *,
    outcome: Outcome,
    headline: str,
    sureness: str,
    advice: tuple[str, ...],
    level: str | None = None,
    from_queries: int | None = None,
    more_contexts: int | None = None,
) -> Verdict:
    return Verdict(
        outcome=outcome,
        headline=headline,
        sureness=sureness,
        advice=tuple(filter(None, advice)),
        level=level,
        from_queries=from_queries,
        more_contexts=more_contexts,
        facts=_facts(findings, compared),
        caveats=_caveats(findings),
        about=_about(findings),
    )


def _facts(findings: Findings, compared: Comparison) -> tuple[Fact, ...]:
    facts: list[Fact] = []
    for level, gain in compared.gains:
        without, slept = (_reached(findings, arm, level) for arm in _CURVES)
        told = f"{without} without sleep, {slept} with: {_told(gain, 'points')}"
        facts.append(Fact(words=budget(level), value=told))
    facts.append(
        Fact(words="tokens without over with sleep, equal accuracy", value=_told(compared.token_ratio, "times"))
    )
    amortisation = findings.amortisation
    if amortisation is not None:
        facts.append(Fact(words="sleep tokens a context", value=_told(amortisation.sleep_tokens, "number")))
        kind = "" if amortisation.is_shown else ", equal accuracy not shown"
        facts += [
            Fact(words=f"queries that pay for a sleep, {_price(end)}{kind}", value=_told(end.queries, "number"))
            for end in amortisation.break_evens
        ]
    facts += [
        Fact(words=f"{budget(each.level)}, gain by {ARMS[each.arm]}", value=_told(each.gain, "points"))
        for each in findings.controls
    ]
    return tuple(facts)


def _caveats(findings: Findings) -> tuple[str, ...]:
    told: list[str] = []
    if findings.clusters < FEW_CLUSTERS:
        told.append(
            f"There are {findings.clusters} independent contexts. With fewer than {FEW_CLUSTERS}, intervals are rough "
            "and on the narrow side."
        )
    if findings.failed_answers:
        told.append(
            f"{findings.failed_answers} answers failed and are missing, not wrong. Run again to try them again."
        )
    if findings.failed_sleeps:
        told.append(f"{findings.failed_sleeps} sleeps failed; the queries of their contexts are missing with sleep.")
    told += [
        f"{ARMS[each.arm].capitalize()}: {_told(each.gain, 'points')} at {budget(each.level)}. "
        "What sleep gains is then not owed to thinking about the context alone."
        for each in findings.controls
        if each.gain.low is not None and each.gain.low > 0
    ]
    told += [
        f"For a single query, {each.k} draws without sleep and a vote take as many tokens as a sleep and an answer, "
        f"and are more accurate, by {_told_negated(each.over)}."
        for each in findings.equal_totals
        if each.over.high is not None and each.over.high < 0
    ]
    if findings.provenance.model == TINY:
        told.append("A tiny model shows a mechanism; it says nothing of what a large model would do.")
    return tuple(told)


def _about(findings: Findings) -> str:
    source = findings.provenance
    slept = "" if source.sleep_model == source.model else f", sleeping with {source.sleep_model}"
    spent = "at prices that are not known" if findings.spent_usd is None else f"{findings.spent_usd:.4f} USD"
    return (
        f"{source.model}{slept}, on {source.dataset}: {findings.queries} queries on {findings.contexts} contexts; "
        f"{findings.paid_calls} calls, {spent}."
    )


def _reached(findings: Findings, arm: Arm, level: str) -> str:
    point = _point(findings, arm, level)
    if point is None:
        return "not measured"
    return f"{_told(point.accuracy, 'share')} on {bare(point.tokens.value, 'number')} tokens"


def _raised(compared: Comparison) -> list[tuple[str, Measure]]:
    """The budgets at which sleep is shown to answer better."""
    return [(level, gain) for level, gain in compared.gains if gain.low is not None and gain.low > 0]


def _break_even(findings: Findings) -> BreakEven | None:
    """In money with its cached input where prices are known, else at the paper's t."""
    ends = findings.amortisation.break_evens if findings.amortisation is not None else ()
    money = sorted((end for end in ends if end.price is None), key=lambda end: not end.is_cached)
    assumed = [end for end in ends if end.price == ASSUMED_PRICE]
    return next(iter((*money, *assumed)), None)


def _more_for_equality(findings: Findings, compared: Comparison) -> int | None:
    """How many more contexts would show that the nearest level with sleep is as accurate as the best without."""
    match = compared.match
    if match.nearest is None or match.best is None or match.with_sleep is not None:
        return None
    slept, best = _point(findings, "sleep", match.nearest), _point(findings, "no_sleep", match.best)
    gain = dict(compared.gains).get(match.nearest)
    if slept is None or best is None or gain is None:
        return None
    below = (
        None
        if slept.accuracy.value is None or best.accuracy.value is None
        else slept.accuracy.value - best.accuracy.value
    )
    more = _beyond(findings, _half(gain), None if below is None else below + compared.margin)
    floor = least_contexts(len(compared.gains), margin=compared.margin) - findings.contexts
    return None if more is None else max(more, _rounded_up(floor))


def _beyond(findings: Findings, half_width: float | None, distance: float | None) -> int | None:
    if half_width is None or distance is None:
        return None
    needed = contexts_to_show(findings.contexts, half_width=half_width, distance=distance)
    return None if needed is None else _rounded_up(needed - findings.contexts)


def _rounded_up(number: int) -> int:
    """Two digits are all that such a forecast is good for."""
    if number < 100:
        return max(number, 0)
    step = 10 ** (len(str(number)) - 2)
    return math.ceil(number / step) * step


def _half(measure: Measure) -> float | None:
    return None if measure.low is None or measure.high is None else (measure.high - measure.low) / 2


def _point(findings: Findings, arm: Arm, level: str) -> Point | None:
    return next(
        (each for each in findings.points if (each.arm, each.level) == (arm, level) and each.samples <= 1), None
    )


def budget(level: str) -> str:
    """Name a level the way a user sets it."""
    read = Level.parse(level)
    return f"budget {read.amount}" if read.kind == "verbosity" else f"budget {level}"


def _budgets(levels: Sequence[str]) -> str:
    """Name several at once: budget 0, 1 or 2."""
    *most, last = [budget(level).removeprefix("budget ") for level in levels]
    return f"budget {', '.join(most)} or {last}" if most else f"budget {last}"


def _without_sleep(level: str | None) -> tuple[str, ...]:
    return (
        f"Answer at {budget(level)} without sleep." if level else "Answer without sleep.",
        "Another sleep model (--sleep-model) may write better notes; measure it on a few contexts with --limit first.",
    )


def _more(contexts: int | None) -> str:
    if contexts is None:
        return "What was measured is too close to settle with more contexts of this kind."
    return f"About {contexts:,} more contexts would settle it."


def _price(end: BreakEven) -> str:
    if end.price is None:
        return "in money" if end.is_cached else "in money without a prompt cache"
    return f"at t = {end.price:g}"


def _price_words(end: BreakEven | None) -> str:
    if end is None:
        return ""
    told = _told(end.queries, "number") if end.queries.value is not None else "never"
    return f"Queries until a sleep has paid, {_price(end)}: {told}."


def _queries(number: int) -> str:
    return "1 query" if number == 1 else f"{number} queries"


def _points(share: float) -> str:
    return f"{share * 100:g} points"


def _on(measure: Measure) -> str:
    return f"{measure.queries} queries of {measure.contexts} contexts"


def _told(measure: Measure, unit: Unit) -> str:
    """A number with its interval; open at the top is told as such."""
    if measure.value is None:
        return f"not measured{f': {measure.note}' if measure.note else ''}"
    if measure.low is None:
        return written(measure.value, unit)
    to = f"to {bare(measure.high, unit)}" if measure.high is not None else "and up, perhaps never"
    return f"{written(measure.value, unit)} ({bare(measure.low, unit)} {to})"


def _told_negated(measure: Measure) -> str:
    low, high = (None if end is None else -end for end in (measure.high, measure.low))
    value = None if measure.value is None else -measure.value
    return _told(Measure(value=value, low=low, high=high), "points")


def _wrapped(text: str, *, first: str | None = None, indent: str = "") -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
