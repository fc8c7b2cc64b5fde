"""Put what a run found into words and tables: no number is computed, only written.

    headline(findings) → str               one or two sentences, no more than was shown
    key_lines(findings, experiment)        its key numbers, each with its interval
    details(findings, experiment)          every point of it

This file knows nothing about pages, figures or files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from sleeptime.evals.analysis.claims import PAPER_PRICE
from sleeptime.evals.analysis.findings import Comparison, Control, Findings, Measure, ScalingPoint
from sleeptime.evals.report.page import Unit, bare, written
from sleeptime.evals.report.paper_figures import SWEPT, cell_name, curve
from sleeptime.evals.runs.results import ARMS
from sleeptime.models.names import TINY

TINY_CAVEAT = "A tiny model on synthetic tasks shows the mechanism, not the numbers of a large model."
NEVER_REACHED = "0: no number of tokens is enough with sleep"
FEW_CLUSTERS = 100
"""With fewer, intervals are wide and no small difference can be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A number in words, with its interval and on how much it was measured."""

    words: str
    value: str
    interval: str
    queries: str
    contexts: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table of written numbers. The first `names` columns name a row."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1


def headline(findings: Findings) -> str:
    """Say what the run shows at equal accuracy, else at the lowest budget, and how many claims came out how."""
    compared = next((each for each in findings.comparisons if each.with_sleep == "sleep"), None)
    told = [_compared(findings, compared) if compared else "No sleep and sleep were not both measured."]
    if findings.claims:
        counts = {
            verdict: sum(claim.verdict == verdict for claim in findings.claims)
            for verdict in ("shown", "not shown", "contradicted", "not measured")
        }
        listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
        told.append(f"Of {len(findings.claims)} claims: {listed}.")
    return " ".join(told)


def _compared(findings: Findings, compared: Comparison) -> str:
    ratio, nearest = compared.token_ratio, compared.as_measured
    if ratio.value is not None and ratio.low is not None and ratio.low > 1:
        return (
            f"Having slept on each context, the model is as accurate at {compared.match.with_sleep} as it is without "
            f"sleep at {compared.match.without}, with {_times(ratio)} times fewer test-time tokens "
            f"({interval(ratio, 'times')})."
        )
    if ratio.value is None and nearest.value is not None and nearest.value > 1:
        return (
            f"Having slept on each context, the model comes within {100 * compared.margin:g} points of its best "
            f"accuracy without sleep on {_times(nearest)} times fewer test-time tokens. That is as measured: "
            f"{findings.contexts} contexts are too few to be sure that the accuracies are equal."
        )
    level, gain = next(((level, gain) for level, gain in compared.gains if gain.value is not None), ("", None))
    if gain is None:
        return "No level was measured both without sleep and with it."
    reason = compared.match.reason or "sleep took as many tokens as no sleep"
    return (
        f"No saving at equal accuracy was shown: {reason}. At {level} sleep changes accuracy by "
        f"{written(gain.value, 'points')} ({interval(gain, 'points')})."
    )


def _times(measure: Measure) -> str:
    return bare(measure.value, "times")


def interval(measure: Measure, unit: Unit) -> str:
    """Write a 95 % interval; nothing where there is none."""
    if measure.value is None or measure.low is None:
        return "no interval"
    return f"95 % interval {_ends(measure, unit)}"


def _ends(measure: Measure, unit: Unit) -> str:
    if measure.value is None or measure.low is None:
        return ""
    return f"{bare(measure.low, unit)} to {'∞' if measure.high is None else bare(measure.high, unit)}"


def caveats(findings: Findings) -> list[str]:
    """What to keep in mind before reading on."""
    told: list[str] = []
    if findings.provenance.model == TINY:
        told.append(TINY_CAVEAT)
    if findings.clusters < FEW_CLUSTERS:
        told.append(
            f"{findings.clusters} independent groups of contexts are few: intervals are wide, and what is not shown "
            "here may still be so."
        )
    return told


def key_lines(findings: Findings, experiment: str) -> list[Line]:
    """The numbers that decide an experiment's claims."""
    parts = {
        "e1": _equal_accuracy_lines,
        "e2": _equal_accuracy_lines,
        "e3": _draw_lines,
        "e4": _scaling_lines,
        "e5": _cost_lines,
        "e6": _predictability_lines,
        "e8": _guess_lines,
        "controls": _control_lines,
    }
    return parts[experiment](findings) if experiment in parts else []


def _line(words: str, measure: Measure, unit: Unit) -> Line:
    missing = f"{measure.missing:,} missing" if measure.missing else ""
    return Line(
        words=words.replace(" = ", "\u00a0=\u00a0"),
        value=written(measure.value, unit),
        interval=_ends(measure, unit),
        queries=_count(measure.queries) if measure.queries else "",
        contexts=_count(measure.contexts) if measure.contexts else "",
        note="; ".join(filter(None, (measure.note, missing))),
    )


def _equal_accuracy_lines(findings: Findings) -> list[Line]:
    told: list[Line] = []
    for each in findings.comparisons:
        where = ARMS[each.with_sleep]
        words = f"Test-time tokens without over with sleep, accuracy shown equal ({where})"
        shown = _line(words, each.token_ratio, "times")
        if each.token_ratio.value is None:
            told.append(shown)
            if each.as_measured.value is not None:
                measured = _line(f"The same as measured ({where})", each.as_measured, "times")
                told.append(_noted(measured, f"{each.match.nearest} against {each.match.without}"))
        else:
            told.append(_noted(shown, f"{each.match.with_sleep} against {each.match.without}"))
        told.append(_line(f"The same along both curves ({where})", each.interpolated, "times"))
        for level, saving in each.savings if each.with_sleep == "sleep" else ():
            line = _line(f"The same for the accuracy of {level} without sleep ({where})", saving, "times")
            told.append(_noted(line, NEVER_REACHED) if saving.value == 0 else line)
        told += [
            _line(f"Accuracy gained by sleep at {level} ({where})", gain, "points")
            for level, gain in dict((each.gains[0], each.gains[-1]) if each.gains else ()).items()
        ]
    return told


def _noted(line: Line, note: str) -> Line:
    return replace(line, note="; ".join(filter(None, (note, line.note))))


def _draw_lines(findings: Findings) -> list[Line]:
    told: list[Line] = []
    for level in dict.fromkeys(each.level for each in findings.draws):
        drawn = [each for each in findings.draws if each.level == level]
        most = max(each.k for each in drawn)
        for each in drawn:
            if each.k in {1, 2, 5, most}:
                words = f"Sleep over {{}}@{each.k} at {level}, at equal test-time tokens"
                told.append(_line(words.format("pass"), each.over_pass, "points"))
                if each.k > 1:
                    told.append(_line(words.format("majority"), each.over_majority, "points"))
    return told


def _scaled(each: ScalingPoint) -> str:
    return f"effort {each.effort}" if each.kind == "effort" else f"{each.samples} sleeps {each.kind}"


def _scaling_lines(findings: Findings) -> list[Line]:
    told: list[Line] = []
    for each in findings.scaling:
        at = f" at {each.level}" if each.level else ""
        if each.over_first.value is not None:
            told.append(_line(f"{_scaled(each).capitalize()}, over the least sleep{at}", each.over_first, "points"))
        if each.over_joined is not None:
            told.append(_line(f"{_scaled(each).capitalize()}, over as many joined{at}", each.over_joined, "points"))
    return told


def _priced(price: float | None, *, is_cached: bool) -> str:
    if price is not None:
        return f"t = {price:g}"
    return "in money, input cached as it was" if is_cached else "in money, no input cached"


def _cost_lines(findings: Findings) -> list[Line]:
    spread = findings.amortisation
    if spread is None:
        return []
    ends = [
        _line(
            f"Queries per context from which sleep pays, {_priced(each.price, is_cached=each.is_cached)}",
            each.queries,
            "number",
        )
        for each in spread.break_evens
    ]
    few, many = (pick((each.queries for each in spread.points), default=0) for pick in (min, max))
    return ends + [
        _line(
            f"Cost without over with sleep, N = {each.queries}, {_priced(each.price, is_cached=each.is_cached)}",
            each.ratio,
            "times",
        )
        for each in spread.points
        if each.queries == many or (each.queries == few and each.price in {None, PAPER_PRICE})
    ]


def _predictability_lines(findings: Findings) -> list[Line]:
    told: list[Line] = []
    for each in findings.predictability:
        where = f"{cell_name(each.cell)}, by the {each.by}"
        told += [
            _line(f"Rank correlation of gain and predictability ({where})", each.rho, "rank"),
            _line(f"Gain per nat ({where})", each.slope, "slope"),
            _line(f"Gain per nat among queries of equal depth ({where})", each.within_depth, "slope"),
        ]
    return told


def _guess_lines(findings: Findings) -> list[Line]:
    return [_line(f"Sleep over context only at {each.level}", each.below_sleep, "points") for each in findings.guesses]


def _control_lines(findings: Findings) -> list[Line]:
    told: list[Line] = []
    for each in findings.controls:
        told += [
            _line(f"{_capital(ARMS[each.arm])}, over no sleep at {each.level}", each.gain, "points"),
            _line(f"Sleep over {ARMS[each.arm]} at {each.level}", each.below_sleep, "points"),
        ]
    return told + [
        _line(f"Sleep over a majority of {each.k} draws at {each.level}, all tokens counted", each.over, "points")
        for each in findings.equal_totals
    ]


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def details(findings: Findings, experiment: str) -> list[Sheet]:
    """Every point of an experiment's figures."""
    parts = {
        "e1": _points_sheet,
        "e2": _points_sheet,
        "e3": _draws_sheet,
        "e4": _scaling_sheet,
        "e5": _cost_sheet,
        "e6": _bins_sheet,
        "e8": _guesses_sheet,
        "controls": _controls_and_totals,
    }
    told: Iterable[Sheet] = parts[experiment](findings) if experiment in parts else []
    return [sheet for sheet in told if sheet.rows]


def said(measure: Measure | None, unit: Unit) -> str:
    """A number with its interval, as short as a cell of a table."""
    if measure is None:
        return "–"
    ends = _ends(measure, unit)
    return written(measure.value, unit) + (f" ({ends})" if ends else "")


def _usd(amount: float | None) -> str:
    return "–" if amount is None else f"{amount:.3g}"


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _points_sheet(findings: Findings) -> list[Sheet]:
    points = [point for arm in SWEPT for point in curve(findings.points, arm)]
    rows = tuple(
        (
            ARMS[point.arm],
            point.level,
            said(point.accuracy, "share"),
            said(point.tokens, "number"),
            _count(point.input_tokens),
            _count(point.cached_input_tokens),
            _count(point.reasoning_tokens),
            said(point.sleep_tokens, "number"),
            _usd(point.cost_usd),
            _count(point.accuracy.queries),
            _count(point.accuracy.missing),
        )
        for point in points
    )
    head = ("arm", "level", "accuracy", "test-time tokens", "input tokens", "of them cached", "reasoning tokens")
    more = ("sleep tokens per context", "USD per answer", "queries", "missing")
    ratios = tuple(
        (
            ARMS[each.with_sleep],
            each.stratum or "all",
            each.match.without or "–",
            each.match.with_sleep or "–",
            said(each.token_ratio, "times"),
            each.match.nearest or "–",
            said(each.as_measured, "times"),
            said(each.interpolated, "times"),
        )
        for each in (*findings.comparisons, *findings.strata)
    )
    gains = tuple(
        (
            ARMS[each.with_sleep],
            each.stratum or "all",
            level,
            said(gain, "points"),
            said(dict(each.shifts).get(level), "points"),
            said(dict(each.savings).get(level), "times"),
            _count(gain.queries),
        )
        for each in (*findings.comparisons, *findings.strata)
        for level, gain in each.gains
    )
    return [
        Sheet(title="Every arm and level", head=head + more, rows=rows, names=2),
        Sheet(
            title="Test-time tokens without over with sleep, at equal accuracy",
            head=("arm", "stratum", "without", "shown equal", "ratio", "nearest", "as measured", "along both curves"),
            rows=ratios,
            names=2,
        ),
        Sheet(
            title="What sleep gains at each level",
            head=(
                "arm",
                "stratum",
                "level",
                "gained at it",
                "gained for as many tokens",
                "tokens without / with, at its accuracy",
                "queries",
            ),
            rows=gains,
            names=3,
        ),
    ]


def _draws_sheet(findings: Findings) -> list[Sheet]:
    rows = tuple(
        (
            each.level,
            str(each.k),
            said(each.tokens, "number"),
            said(each.pass_at_k, "share"),
            said(each.majority_at_k, "share"),
            said(each.sleep, "share"),
            said(each.over_pass, "points"),
            said(each.over_majority, "points"),
        )
        for each in findings.draws
    )
    head = ("level", "k", "test-time tokens", "pass@k", "majority@k", "sleep, as many tokens", "over pass@k")
    return [Sheet(title="Every number of draws", head=(*head, "over majority@k"), rows=rows, names=2)]


def _scaling_sheet(findings: Findings) -> list[Sheet]:
    rows = tuple(
        (
            _scaled(each),
            each.level,
            said(each.accuracy, "share"),
            said(each.gain, "points"),
            said(each.over_first, "points"),
            said(each.over_previous, "points"),
            said(each.tokens, "number"),
            said(each.sleep_tokens, "number"),
        )
        for each in findings.scaling
    )
    head = ("sleep", "level", "accuracy", "over no sleep", "over the least", "over the next less", "test-time tokens")
    return [Sheet(title="Every amount of sleep", head=(*head, "sleep tokens per context"), rows=rows, names=2)]


def _cost_sheet(findings: Findings) -> list[Sheet]:
    spread = findings.amortisation
    if spread is None:
        return []
    tokens = tuple(
        (
            _priced(each.price, is_cached=each.is_cached),
            str(each.queries),
            said(each.without, "number"),
            said(each.with_sleep, "number"),
            said(each.ratio, "times"),
        )
        for each in spread.points
        if each.price is not None
    )
    money = tuple(
        (
            _priced(each.price, is_cached=each.is_cached),
            str(each.queries),
            _money(each.without),
            _money(each.with_sleep),
            said(each.ratio, "times"),
        )
        for each in spread.points
        if each.price is None
    )
    head = ("price", "N", "without", "with sleep", "without / with")
    return [
        Sheet(title="Every price and number of queries, in sleep tokens", head=head, rows=tokens, names=2),
        Sheet(title="The same in US dollars per 1,000 queries", head=head, rows=money, names=2),
    ]


def _money(measure: Measure) -> str:
    """US dollars per 1,000 queries."""
    if measure.value is None:
        return "–"
    if measure.low is None or measure.high is None:
        return f"{1000 * measure.value:.3g}"
    return f"{1000 * measure.value:.3g} ({1000 * measure.low:.3g} to {1000 * measure.high:.3g})"


def _bins_sheet(findings: Findings) -> list[Sheet]:
    rows = tuple(
        (
            cell_name(each.cell),
            each.by,
            str(i),
            bare(part.log_prob, "rank"),
            said(part.without, "share"),
            said(part.with_sleep, "share"),
            said(part.gain, "points"),
            _count(part.gain.queries),
        )
        for each in findings.predictability
        for i, part in enumerate(each.bins, 1)
    )
    head = ("cell", "log P by", "fifth", "mean log P", "without", "with sleep", "gain", "queries")
    return [Sheet(title="Every fifth of the queries", head=head, rows=rows, names=3)]


def _guesses_sheet(findings: Findings) -> list[Sheet]:
    return _controls_sheet("Every guess", findings.guesses)


def _controls_and_totals(findings: Findings) -> list[Sheet]:
    return [*_controls_sheet("Every control", findings.controls), *_totals_sheet(findings)]


def _controls_sheet(title: str, controls: Iterable[Control]) -> list[Sheet]:
    rows = tuple(
        (
            ARMS[each.arm],
            each.level,
            said(each.accuracy, "share"),
            said(each.tokens, "number"),
            said(each.gain, "points"),
            said(each.below_sleep, "points"),
            said(each.sleep, "share"),
        )
        for each in controls
    )
    head = ("arm", "level", "accuracy", "test-time tokens", "over no sleep", "sleep over it")
    return [Sheet(title=title, head=(*head, "sleep"), rows=rows, names=2)]


def _totals_sheet(findings: Findings) -> list[Sheet]:
    rows = tuple(
        (
            each.level,
            str(each.k),
            str(each.fits) if each.fits else "–",
            said(each.total_tokens, "number"),
            said(each.majority, "share"),
            said(each.sleep, "share"),
            said(each.over, "points"),
        )
        for each in findings.equal_totals
    )
    head = ("draws at", "k", "would fit", "tokens of sleep and answer", "majority@k", "sleep", "sleep over it")
    return [Sheet(title="Equal total budget", head=head, rows=rows, names=2)]
