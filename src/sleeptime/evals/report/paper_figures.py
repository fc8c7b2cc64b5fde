"""Draw the paper's figures from what a run found: findings in, charts out.

    of(findings, experiment) → Figure … | Absence …

Blue is sleep and orange is no sleep; teal is its notes alone, purple merged notes, plum a
guess, grey another control. Where there is nothing to draw an `Absence` says why. This
file computes nothing and knows nothing about pages or files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import altair as alt

from sleeptime.evals.analysis import stats
from sleeptime.evals.analysis.findings import (
    Amortisation,
    BreakEven,
    Comparison,
    CostPoint,
    DrawPoint,
    Findings,
    Measure,
    Point,
    Predictability,
    ScalingPoint,
)
from sleeptime.evals.report.drawing import GUESS, INK, LEARNED, MERGED, MUTED, NO_SLEEP, SLEEP, Datum, Drawing
from sleeptime.evals.report.page import Unit, bare, written
from sleeptime.evals.report.panel import Panel, Scale, Shape, round_top, text_width
from sleeptime.evals.runs.results import Arm

WIDTH, HALF, THIRD, HEIGHT, LOW = 640.0, 274.0, 168.0, 320.0, 200.0
"""Pixels of a whole panel, of one of two and of three side by side, and how high they are."""
DRAWN_RATIO = 1.2
"""A saving of less is told in the table alone."""
DASHES: tuple[tuple[int, ...], ...] = ((), (6, 3), (2, 3), (9, 3, 2, 3))
SHAPES: tuple[Shape, ...] = ("circle", "diamond", "square", "triangle-up")

COLOURS: dict[Arm, str] = {
    "no_sleep": NO_SLEEP,
    "draws": NO_SLEEP,
    "sleep": SLEEP,
    "learned": LEARNED,
    "merged": MERGED,
    "half": SLEEP,
    "placebo": MUTED,
    "restatement": MUTED,
    "guess": GUESS,
}
NAMES: dict[Arm, str] = {
    "no_sleep": "no sleep",
    "draws": "no sleep, several draws",
    "sleep": "with sleep",
    "learned": "with sleep, notes alone",
    "merged": "with sleep, notes merged",
    "half": "with half of the notes",
    "placebo": "another context's notes",
    "restatement": "the context again",
    "guess": "context only, query guessed",
}
_SHAPES: dict[Arm, Shape] = {
    "no_sleep": "circle",
    "draws": "square",
    "sleep": "circle",
    "learned": "diamond",
    "merged": "square",
    "half": "diamond",
    "placebo": "triangle-up",
    "restatement": "square",
    "guess": "diamond",
}
MARKED = (1, 2, 5, 10)
"""Numbers of draws that are marked beside the last; the line runs through all."""
SWEPT: tuple[Arm, ...] = ("no_sleep", "sleep", "learned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart, how to read it, and all that it says in words."""

    name: str
    title: str
    chart: Drawing
    reading: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """A figure that cannot be drawn, and why."""

    title: str
    why: str


Drawn = list[Figure | Absence]


def of(findings: Findings, experiment: str) -> Drawn:
    """Draw every figure of an experiment, or of the controls."""
    parts: dict[str, Callable[[Findings], Drawn]] = {
        "e1": _accuracy,
        "e2": _accuracy,
        "e3": _draws,
        "e4": _scaling,
        "e5": _costs,
        "e6": _predictability,
        "e8": _guesses,
        "controls": _controls,
    }
    return parts[experiment](findings) if experiment in parts else []


def reasons(findings: Findings, *parts: str) -> str:
    """Say why cells of these arms, or these parts, were not measured. What differs in effort alone is told by that."""
    by_effort = "effort" in parts
    told = {
        why if what in parts else f"{what}: {why}"
        for what, why in findings.not_measured.items()
        if what.split("/")[0] in parts and by_effort == ("effort=" in what)
    }
    return "; ".join(sorted(told))


def curve(points: Sequence[Point], arm: Arm) -> list[Point]:
    """The points of *arm* by level: of several ways to sleep that of most levels, and of these the plainest."""
    ways: dict[str, list[Point]] = {}
    for point in points:
        if point.arm == arm:
            ways.setdefault("/".join(point.cell.split("/")[2:]), []).append(point)
    plainest = sorted(ways, key=lambda way: (-len(ways[way]), len(way)))
    return ways[plainest[0]] if plainest else []


def cell_name(cell: str) -> str:
    """Name a cell with sleep by how it slept, such as "with sleep, k = 5"."""
    arm, _, *how = cell.split("/")
    told = [
        f"k = {word[1:]}" if word[:1] == "k" and word[1:].isdigit() else word.replace("=", " ")
        for word in " ".join(how).split()
    ]
    known = next((words for each, words in NAMES.items() if each == arm), arm)
    return ", ".join([known, *told])


def said(measure: Measure, unit: Unit) -> str:
    """Write a number and its interval; an interval open at the top has no end."""
    if measure.value is None:
        return measure.note or "not measured"
    if measure.low is None:
        return written(measure.value, unit)
    high = "∞" if measure.high is None else bare(measure.high, unit)
    return f"{written(measure.value, unit)} ({bare(measure.low, unit)} to {high})"


def _accuracy(findings: Findings) -> Drawn:
    title = "Accuracy against test-time tokens"
    arms: dict[Arm, list[Datum]] = {}
    for arm in SWEPT:
        if points := _points(curve(findings.points, arm)):
            arms[arm] = points
    if not arms:
        return [Absence(title=title, why=reasons(findings, *SWEPT) or "no answer was measured at any level")]
    measured = [point for points in arms.values() for point in points]
    overall = next((each for each in findings.comparisons if each.with_sleep == "sleep"), None)
    bracket = _bracket(overall, arms) if overall else None
    top = round_top(point["high"] if point["high"] is not None else point["y"] for point in measured)
    panel = Panel(
        x=_token_scale((point["x"] for point in measured), WIDTH),
        y=Scale(low=0, high=top * (1.22 if bracket else 1.08), pixels=HEIGHT, is_upward=True),
    )
    for arm, points in arms.items():
        _sweep(panel, arm, points)
    if bracket:
        panel.bracket(bracket[0], bracket[1], top * 1.11, bracket[2])
    for arm, points in arms.items():
        panel.names(points, COLOURS[arm])
    for arm, points in arms.items():
        panel.line_name(NAMES[arm], points, COLOURS[arm])
    drawn: Drawn = [
        Figure(
            name="accuracy",
            title=title,
            chart=panel.chart(_token_axis(panel), _share_axis(top)),
            reading=(
                "Each point is a level of budget; bars are 95 % intervals of accuracy, and of tokens where they are "
                "wider than the point. The thick line joins an arm's efficient levels, the thin one all of them. "
                "Higher and further left is better; the bracket spans the two levels compared at equal accuracy. "
                "Test-time tokens are output tokens spent after the query came."
            ),
            words=" ".join(
                f"{NAMES[arm]} at {point['label']}: {100 * point['y']:.1f} percent with {point['x']:.1f} tokens."
                for arm, points in arms.items()
                for point in points
            ),
        )
    ]
    return [*drawn, *_strata(findings)]


def _sweep(panel: Panel, arm: Arm, points: list[Datum]) -> None:
    ordered = sorted(points, key=lambda point: point["x"])
    efficient: list[Datum] = [
        {"x": tokens, "y": accuracy}
        for tokens, accuracy in stats.envelope([point["x"] for point in points], [point["y"] for point in points])
    ]
    dashes = (6, 3) if arm == "learned" else ()
    panel.line(ordered, COLOURS[arm], width=1, dashes=dashes, opacity=0.6)
    panel.line(efficient, COLOURS[arm], dashes=dashes)
    panel.bars(points, COLOURS[arm])
    panel.bars_across(points, COLOURS[arm])
    panel.dots(points, COLOURS[arm], shape=_SHAPES[arm])


def _bracket(comparison: Comparison, arms: dict[Arm, list[Datum]]) -> tuple[float, float, str] | None:
    """Where the two levels of a comparison lie, and how far apart they are in words."""
    ratio, is_shown = comparison.token_ratio, True
    level = comparison.match.with_sleep
    if ratio.value is None or level is None:
        ratio, level, is_shown = comparison.as_measured, comparison.match.nearest, False
    start, end = (
        _tokens_at(arms.get("sleep", []), level),
        _tokens_at(arms.get("no_sleep", []), comparison.match.without),
    )
    if ratio.value is None or ratio.value < DRAWN_RATIO or start is None or end is None:
        return None
    words = f"{said(ratio, 'times')} fewer tokens at equal accuracy"
    if not is_shown:
        words = f"{written(ratio.value, 'times')} fewer tokens as measured, not shown to be equal"
    return start, end, words


def _tokens_at(points: Sequence[Datum], level: str | None) -> float | None:
    return next((float(point["x"]) for point in points if point["label"] == level), None)


def _strata(findings: Findings) -> Drawn:
    """What sleep gains at each level, in each stratum of the dataset."""
    compared = [each for each in findings.strata if each.with_sleep == "sleep"] or list(findings.strata)
    compared = [each for each in compared if any(gain.value is not None for _, gain in each.gains)]
    if not compared:
        return []
    gains = [gain for each in compared for _, gain in each.gains if gain.value is not None]
    y = _points_scale(gains, LOW - 20)
    panels: list[alt.LayerChart] = []
    for i, each in enumerate(compared):
        points = [
            _point(level, float(at), gain) for at, (level, gain) in enumerate(each.gains, 1) if gain.value is not None
        ]
        x = Scale(low=0.5, high=len(each.gains) + 0.5, pixels=_width(len(compared)))
        contexts = max((gain.contexts for _, gain in each.gains), default=0)
        panel = Panel(x=x, y=y, title=each.stratum, subtitle=f"{contexts} contexts")
        panel.rule(y=0)
        colour = COLOURS[each.with_sleep]
        panel.line(points, colour)
        panel.bars(points, colour)
        panel.dots(points, colour, shape=_SHAPES[each.with_sleep])
        panels.append(
            panel.chart(
                _name_axis([level for level, _ in each.gains], "budget"),
                _points_axis(y, "accuracy gained by sleep" if i % _columns(len(compared)) == 0 else None),
            )
        )
    return [
        Figure(
            name="strata",
            title="What sleep gains, by stratum",
            chart=_grid(panels),
            reading="Accuracy with sleep minus without at the same level, in points, for each stratum of the dataset; "
            "bars are 95 % intervals. Above the line at 0 sleep gains.",
            words=" ".join(
                f"{each.stratum} at {level}: {said(gain, 'points')}." for each in compared for level, gain in each.gains
            ),
        )
    ]


def _draws(findings: Findings) -> Drawn:
    title = "Sleep against pass@k and majority@k"
    drawn = [each for each in findings.draws if each.tokens.value and each.pass_at_k.value is not None]
    if not drawn:
        return [Absence(title=title, why=reasons(findings, "draws", "sleep") or "no query was answered several times")]
    slept = _points(curve(findings.points, "sleep"))
    levels = list(dict.fromkeys(each.level for each in drawn))
    top = round_top(
        [p["high"] or p["y"] for p in slept] + [each.pass_at_k.high or each.pass_at_k.value or 0 for each in drawn]
    )
    panels = [
        _draw_panel(
            [each for each in drawn if each.level == level],
            slept,
            top=top,
            width=_width(len(levels)),
            is_first=i % _columns(len(levels)) == 0,
        )
        for i, level in enumerate(levels)
    ]
    return [
        Figure(
            name="draws",
            title=title,
            chart=_grid(panels),
            reading=(
                "k answers without sleep cost k times the tokens of one. pass@k counts a query as right if any of the "
                "k is, as if an oracle picked it; majority@k takes the most frequent answer, which needs no oracle. "
                "One answer after sleep is drawn at each of its budgets, at the test-time tokens it takes. "
                "Bars are 95 % intervals."
            ),
            words=" ".join(
                f"{each.k} draws at {each.level} with {bare(each.tokens.value, 'number')} tokens: pass@k "
                f"{said(each.pass_at_k, 'share')}, majority@k {said(each.majority_at_k, 'share')}, "
                f"sleep for as many tokens {said(each.sleep, 'share')}."
                for each in drawn
            ),
        )
    ]


def _draw_panel(
    drawn: Sequence[DrawPoint], slept: list[Datum], *, top: float, width: float, is_first: bool
) -> alt.LayerChart:
    marked = {*MARKED, max(each.k for each in drawn)}
    passed = [_point(f"k = {each.k}", each.tokens.value, each.pass_at_k) for each in drawn]
    voted = [_point(f"k = {each.k}", each.tokens.value, each.majority_at_k) for each in drawn]
    voted = [point for point in voted if point["y"] is not None]
    names = {f"k = {k}" for k in marked}
    efficient = _efficient(slept)
    panel = Panel(
        x=_token_scale([point["x"] for point in [*passed, *slept]], width),
        y=Scale(low=0, high=top * 1.08, pixels=HEIGHT - 50, is_upward=True),
        title=f"draws at {drawn[0].level}",
    )
    panel.line(sorted(slept, key=lambda point: point["x"]), SLEEP, width=1, opacity=0.6)
    panel.line(efficient, SLEEP)
    panel.bars(slept, SLEEP)
    panel.dots(slept, SLEEP)
    for points, dashes, is_filled in ((passed, (), True), (voted, (6, 3), False)):
        shown = [point for point in points if point["label"] in names]
        panel.line(points, NO_SLEEP, dashes=dashes)
        panel.bars(shown, NO_SLEEP)
        panel.dots(shown, NO_SLEEP, shape="square", is_filled=is_filled)
    panel.names(slept, SLEEP)
    panel.names([point for point in passed if point["label"] in names], NO_SLEEP, sides="esnw")
    panel.line_name("one answer after sleep", efficient, SLEEP)
    panel.line_name("pass@k", passed, NO_SLEEP)
    if voted:
        panel.line_name("majority@k", voted, NO_SLEEP)
    return panel.chart(_token_axis(panel), _share_axis(top, title="accuracy" if is_first else None))


def _scaling(findings: Findings) -> Drawn:
    drawn: Drawn = []
    for name, title, kinds, parts in (
        ("samples", "Accuracy by number of parallel sleeps", ("joined", "merged"), ("sleep", "merged")),
        ("effort", "Accuracy by effort of the sleep", ("effort",), ("sleep", "effort")),
    ):
        scaled = [each for each in findings.scaling if each.kind in kinds and each.accuracy.value is not None]
        levels = list(dict.fromkeys(each.level for each in scaled))
        if not levels:
            drawn.append(Absence(title=title, why=reasons(findings, *parts) or "no cells of this run vary it"))
        for level in levels:
            points = [each for each in scaled if each.level == level]
            without = next((point for point in curve(findings.points, "no_sleep") if point.level == level), None)
            more = len(levels) > 1
            drawn.append(
                Figure(
                    name=f"scaling-{name}-{level}" if more else f"scaling-{name}",
                    title=f"{title}, answering at {level}" if level else title,
                    chart=_scaling_panel(points, None if without is None else without.accuracy),
                    reading=_SCALING_READING
                    + (_MERGED_READING if any(each.kind == "merged" for each in points) else ""),
                    words=" ".join(
                        f"{_step_words(each)}: {said(each.accuracy, 'share')} after "
                        f"{bare(each.sleep_tokens.value, 'number')} sleep tokens."
                        for each in points
                    ),
                )
            )
    return drawn


_SCALING_READING = (
    "All answer at the same budget, so test-time tokens hardly differ. Below each step stand the sleep tokens "
    "that it took per context. Bars are 95 % intervals; the orange line, with its interval shaded, is no sleep."
)
_MERGED_READING = " Joined notes stand one after another; of merged ones, what they share is said once."


def _step_words(point: ScalingPoint) -> str:
    if point.kind == "effort":
        return f"effort {point.effort}"
    return f"{point.samples} sleeps {point.kind}"


def _scaling_panel(points: Sequence[ScalingPoint], without: Measure | None) -> alt.LayerChart:
    steps = list(dict.fromkeys(each.effort or str(each.samples) for each in _by_amount(points)))
    kinds = list(dict.fromkeys(each.kind for each in points))
    top = round_top(each.accuracy.high or each.accuracy.value or 0 for each in points)
    panel = Panel(
        x=Scale(low=0.5, high=len(steps) + 0.5, pixels=WIDTH),
        y=Scale(low=0, high=top * 1.08, pixels=HEIGHT - 50, is_upward=True),
    )
    lines: dict[str, list[Datum]] = {}
    if without is not None and without.value is not None:
        if without.low is not None and without.high is not None:
            panel.strip(without.low, without.high, NO_SLEEP)
        lines["no sleep"] = [{"x": panel.x.low, "y": without.value}, {"x": panel.x.high, "y": without.value}]
        panel.line(lines["no sleep"], NO_SLEEP)
    told: dict[str, list[str]] = {step: [] for step in steps}
    for i, kind in enumerate(kinds):
        aside = 0.0 if len(kinds) == 1 else 0.12 * (i - 0.5)
        drawn: list[Datum] = []
        for each in _by_amount(each for each in points if each.kind == kind):
            step = each.effort or str(each.samples)
            drawn.append(_point(step, steps.index(step) + 1 + aside, each.accuracy))
            if each.sleep_tokens.value is not None:
                told[step].append(f"{each.sleep_tokens.value:,.0f}{f' {kind}' if len(kinds) > 1 else ''}")
        colour, shape = (MERGED, "square") if kind == "merged" else (SLEEP, "circle")
        lines[{"joined": "notes joined", "merged": "notes merged", "effort": "with sleep"}[kind]] = drawn
        panel.line(drawn, colour, dashes=(6, 3) if kind == "merged" else ())
        panel.bars(drawn, colour)
        panel.dots(drawn, colour, shape=shape)
    for name, drawn in lines.items():
        panel.line_name(name, drawn, {"no sleep": NO_SLEEP, "notes merged": MERGED}.get(name, SLEEP))
    unit = "effort of the sleep" if kinds == ["effort"] else "parallel sleeps per context, k"
    names = [[step, *told[step]] for step in steps]
    return panel.chart(_name_axis(names, f"{unit}; below, sleep tokens per context"), _share_axis(top))


def _by_amount(points: Iterable[ScalingPoint]) -> list[ScalingPoint]:
    return sorted(points, key=lambda each: each.samples)


def _costs(findings: Findings) -> Drawn:
    title = "Cost per query, the sleep included"
    spread = findings.amortisation
    if spread is None or not spread.points:
        compared = next((each.match.reason for each in findings.comparisons if each.match.reason), "")
        why = compared or reasons(findings, "sleep", "no_sleep") or "no two levels of equal accuracy were measured"
        return [Absence(title=title, why=why)]
    priced = [each for each in spread.points if each.price is not None]
    paid = [each for each in spread.points if each.price is None]
    in_tokens = "Costs are in sleep tokens: a test-time token costs t of them, and the paper takes t = 10."
    in_money = "At the run's price card, input tokens and the sleep's own included."
    drawn: Drawn = []
    if priced:
        drawn.append(_cost_figure("cost", title, spread, priced, in_tokens))
    if paid:
        drawn.append(_cost_figure("cost-money", "Money per query, the sleep included", spread, paid, in_money))
    else:
        why = reasons(findings, "money") or "no price of this model is known; give one with --prices"
        drawn.append(Absence(title="Money per query, the sleep included", why=why))
    return drawn


def _cost_figure(name: str, title: str, spread: Amortisation, points: Sequence[CostPoint], unit: str) -> Figure:
    unsure = "" if spread.is_shown else " Their accuracies are equal as measured only: too few contexts to be sure."
    return Figure(
        name=name,
        title=title,
        chart=_cost_grid(spread, points),
        reading=(
            f"{unit} Compared are {spread.with_level} with sleep and {spread.without_level} without.{unsure} Without "
            "sleep a query costs the same however many there are; with it, N queries share the sleep. Bars are 95 % "
            "intervals. The dashed line is the break-even, its interval shaded; to its right sleep is cheaper."
        ),
        words=_cost_words(points),
    )


def _cost_words(points: Sequence[CostPoint]) -> str:
    return " ".join(
        f"{_price_words(each.price, is_cached=each.is_cached)}, {each.queries} queries per context: without sleep over "
        f"with sleep {said(each.ratio, 'times')}."
        for each in points
    )


def _price_words(price: float | None, *, is_cached: bool) -> str:
    if price is not None:
        return f"t = {price:g}"
    return "input cached as it was" if is_cached else "no input cached"


def _cost_grid(spread: Amortisation, points: Sequence[CostPoint]) -> Drawing:
    kinds = list(dict.fromkeys((each.price, each.is_cached) for each in points))
    return _grid(
        [
            _cost_panel(
                [each for each in points if (each.price, each.is_cached) == kind],
                next((end for end in spread.break_evens if (end.price, end.is_cached) == kind), None),
                is_first=i % 2 == 0,
            )
            for i, kind in enumerate(kinds)
        ]
    )


def _cost_panel(points: Sequence[CostPoint], end: BreakEven | None, *, is_first: bool) -> alt.LayerChart:
    scale = 1.0 if points[0].price is not None else 1000.0
    lines = {
        "no sleep": (NO_SLEEP, [_point("", float(each.queries), each.without, scale=scale) for each in points]),
        "with sleep": (SLEEP, [_point("", float(each.queries), each.with_sleep, scale=scale) for each in points]),
    }
    lines = {name: (colour, [p for p in ps if p["y"] is not None]) for name, (colour, ps) in lines.items()}
    most = max((p["high"] or p["y"] for _, ps in lines.values() for p in ps), default=1.0)
    last = max(each.queries for each in points)
    panel = Panel(
        x=Scale(low=0.85, high=last * 1.3, pixels=HALF, is_log=True),
        y=Scale(low=0, high=most * 1.14, pixels=LOW, is_upward=True),
        title=_price_words(points[0].price, is_cached=points[0].is_cached),
        subtitle=_pays(end),
    )
    if end is not None and end.queries.value is not None and end.queries.value >= 1:
        if end.queries.low is not None:
            high = panel.x.high if end.queries.high is None else panel.x.inside(end.queries.high)
            panel.band(panel.x.inside(end.queries.low), high, MUTED)
        if end.queries.value <= panel.x.high:
            panel.rule(x=end.queries.value, dashes=(4, 3))
    for name, (colour, drawn) in lines.items():
        panel.line(drawn, colour)
        panel.bars(drawn, colour)
        panel.dots(drawn, colour, shape="square" if name == "no sleep" else "circle")
    farthest = max(points, key=lambda each: each.queries)
    if farthest.ratio.value is not None and farthest.with_sleep.value is not None:
        at: Datum = {"x": float(farthest.queries), "y": farthest.with_sleep.value * scale}
        panel.word(_times_cheaper(farthest.ratio.value), at, INK, weight="bold", sides="snw")
    for name, (colour, drawn) in lines.items():
        panel.line_name(name, drawn, colour)
    unit = "cost, in sleep tokens" if scale == 1.0 else "US dollars per 1,000 queries"
    return panel.chart(
        alt.Axis(values=[each.queries for each in points], title="queries per context, N (log scale)", format="d"),
        alt.Axis(title=unit if is_first else None, tickCount=4, format=",.0f" if most >= 10 else "~g"),
    )


def _times_cheaper(ratio: float) -> str:
    return f"{written(ratio, 'times')} cheaper" if ratio >= 1 else f"{written(1 / ratio, 'times')} dearer"


def _pays(end: BreakEven | None) -> str:
    """Say from how many queries sleep pays, and between which it may."""
    if end is None or end.queries.value is None:
        return "sleep never pays"
    value, low, high = end.queries.value, end.queries.low, end.queries.high
    told = f"pays from N = {value:,.1f}" if value > 1 else f"pays from the first query, N = {value:,.1f}"
    if low is None:
        return told
    return f"{told} ({low:,.1f} to {'never' if high is None else f'{high:,.1f}'})"


def _predictability(findings: Findings) -> Drawn:
    title = "What sleep gains, by how predictable the query was"
    told = [each for each in findings.predictability if any(part.gain.value is not None for part in each.bins)]
    if not told:
        return [Absence(title=title, why=reasons(findings, "surprise") or "no query was scored for its predictability")]
    y = _points_scale([part.gain for each in told for part in each.bins], HEIGHT - 70)
    ways = [by for by in ("sum", "mean") if any(each.by == by for each in told)]
    panels = [
        _bin_panel([each for each in told if each.by == by], y=y, width=_width(len(ways)), is_first=i == 0)
        for i, by in enumerate(ways)
    ]
    return [
        Figure(
            name="predictability",
            title=title,
            chart=_grid(panels),
            reading=(
                "Queries in fifths of log P(query | context) under the scoring model, least predictable on the left: "
                "summed over the query's tokens, and as their mean, which does not grow with length. Accuracy with "
                "sleep minus without, at the lowest budget; bars are 95 % intervals."
            ),
            words=" ".join(
                f"{cell_name(each.cell)}, {each.by}, fifth {i}: {said(part.gain, 'points')}."
                for each in told
                for i, part in enumerate(each.bins, 1)
            ),
        )
    ]


def _bin_panel(told: Sequence[Predictability], *, y: Scale, width: float, is_first: bool) -> alt.LayerChart:
    bins = max(len(each.bins) for each in told)
    panel = Panel(
        x=Scale(low=0.5, high=bins + 0.5, pixels=width),
        y=y,
        title="sum over the query's tokens" if told[0].by == "sum" else "mean of the query's tokens",
    )
    panel.rule(y=0)
    named: list[tuple[str, list[Datum], str]] = []
    for i, each in enumerate(told):
        aside = 0.16 * (i - (len(told) - 1) / 2)
        points = [
            _point("", at + aside, part.gain) for at, part in enumerate(each.bins, 1) if part.gain.value is not None
        ]
        colour = next((colour for arm, colour in COLOURS.items() if each.cell.split("/")[0] == arm), SLEEP)
        panel.line(points, colour, dashes=DASHES[i % len(DASHES)])
        panel.bars(points, colour)
        panel.dots(points, colour, shape=SHAPES[i % len(SHAPES)], is_filled=i == 0)
        named.append((cell_name(each.cell), points, colour))
    if len(named) > 1:
        for name, points, colour in named:
            panel.line_name(name, points, colour)
    names = ["" if part.log_prob is None else f"{part.log_prob:.1f}".replace("-", "−") for part in told[0].bins]
    return panel.chart(
        _name_axis(names, "mean log P of each fifth, in nats"),
        _points_axis(y, "accuracy gained by sleep" if is_first else None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    name: str
    measure: Measure
    colour: str
    shape: Shape = "circle"
    is_filled: bool = True


def _guesses(findings: Findings) -> Drawn:
    title = "Context only, no sleep, and sleep"
    if not any(each.accuracy.value is not None for each in findings.guesses):
        return [Absence(title=title, why=reasons(findings, "guess") or "no cell guessed the query")]
    rows: list[_Row] = []
    for guess in findings.guesses:
        rows.append(_control_row("guess", guess.level, guess.accuracy))
        rows += _beside(findings, guess.level)
    return [
        Figure(
            name="guess",
            title=title,
            chart=_dot_plot(rows),
            reading="Context only: the model sees the context, guesses the query and answers it, without ever seeing "
            "the query that was asked. Bars are 95 % intervals.",
            words=_row_words(rows),
        )
    ]


def _controls(findings: Findings) -> Drawn:
    drawn: Drawn = []
    title = "Notes that are not about this context, and the context again"
    measured = [each for each in findings.controls if each.accuracy.value is not None and each.arm != "draws"]
    if measured:
        rows: list[_Row] = []
        for level in dict.fromkeys(each.level for each in measured):
            beside = _beside(findings, level)
            rows += [
                *beside[:1],
                *(_control_row(each.arm, level, each.accuracy) for each in measured if each.level == level),
                *beside[1:],
            ]
        drawn.append(
            Figure(
                name="controls",
                title=title,
                chart=_dot_plot(rows),
                reading="If sleep helped only because more text precedes the query, another context's notes, or the "
                "context again at the same length, would help as much. Bars are 95 % intervals.",
                words=_row_words(rows),
            )
        )
    else:
        why = reasons(findings, "placebo", "restatement") or "no control was measured"
        drawn.append(Absence(title=title, why=why))
    title = "All tokens counted, one query per sleep"
    totals = [each for each in findings.equal_totals if each.majority.value is not None]
    if not totals:
        why = reasons(findings, "draws") or "no number of draws without sleep fits what a sleep and its answer take"
        return [*drawn, Absence(title=title, why=why)]
    rows = []
    for each in totals:
        tokens = f"{bare(each.total_tokens.value, 'number').removesuffix('.0')} tokens"
        rows += [
            _Row(
                name=f"majority of {each.k} draws at {each.level}",
                measure=each.majority,
                colour=NO_SLEEP,
                shape="square",
                is_filled=False,
            ),
            _Row(name=f"sleep and one answer, {tokens}", measure=each.sleep, colour=SLEEP),
        ]
    figure = Figure(
        name="equal-total",
        title=title,
        chart=_dot_plot(rows),
        reading="The harshest comparison: a single query pays for the whole sleep, and as many tokens are spent on "
        "several answers without sleep, of which the most frequent counts. Bars are 95 % intervals.",
        words=_row_words(rows),
    )
    return [*drawn, figure]


def _beside(findings: Findings, level: str) -> list[_Row]:
    """No sleep and sleep at this level."""
    return [
        _control_row(arm, level, point.accuracy)
        for arm in ("no_sleep", "sleep")
        for point in curve(findings.points, arm)
        if point.level == level and point.accuracy.value is not None
    ]


def _control_row(arm: Arm, level: str, measure: Measure) -> _Row:
    return _Row(name=f"{NAMES[arm]}, {level}", measure=measure, colour=COLOURS[arm], shape=_SHAPES[arm])


def _row_words(rows: Sequence[_Row]) -> str:
    return " ".join(f"{row.name}: {said(row.measure, 'share')}." for row in rows)


def _dot_plot(rows: Sequence[_Row]) -> alt.LayerChart:
    rows = [row for row in rows if row.measure.value is not None]
    top = round_top(row.measure.high or row.measure.value or 0 for row in rows)
    height = 30.0 * len(rows)
    panel = Panel(
        x=Scale(low=0, high=top * 1.03, pixels=330),
        y=Scale(low=len(rows) - 0.5, high=-0.5, pixels=height, is_upward=True),
    )
    for i, row in enumerate(rows):
        value = row.measure
        point: Datum = {"x": value.value, "y": i, "x_low": value.low, "x_high": value.high}
        panel.bars_across([point], row.colour)
        panel.dots([point], row.colour, shape=row.shape, is_filled=row.is_filled)
        panel.aside(said(value, "share"), i)
    widest = 0.9 * max(text_width(row.name, size=11.5) for row in rows)
    names = _name_axis([row.name for row in rows], None, first=0, width=widest)
    accuracy = alt.Axis(title="accuracy", format="%", values=_shares(top), grid=True)
    return panel.chart(accuracy, names).properties(padding={"left": 2, "top": 6, "right": 20, "bottom": 2})


def _point(label: str, x: float | None, measure: Measure, *, scale: float = 1.0) -> Datum:
    y, low, high = (None if each is None else each * scale for each in (measure.value, measure.low, measure.high))
    return {"label": label, "x": x, "y": y, "low": low, "high": high}


def _points(points: Iterable[Point]) -> list[Datum]:
    """Accuracy over test-time tokens, where both were measured."""
    return [
        _point(point.level, point.tokens.value, point.accuracy)
        | {"x_low": point.tokens.low, "x_high": point.tokens.high}
        for point in points
        if point.accuracy.value is not None and point.tokens.value
    ]


def _efficient(points: Sequence[Datum]) -> list[Datum]:
    return [
        {"x": x, "y": y} for x, y in stats.envelope([point["x"] for point in points], [point["y"] for point in points])
    ]


def _token_scale(tokens: Iterable[float], width: float) -> Scale:
    """A log scale around *tokens*, of a factor of 4 at least."""
    known = list(tokens)
    low, high = min(known) / 1.45, max(known) * 1.45
    wider = max(1.0, (4 / (high / low)) ** 0.5)
    return Scale(low=low / wider, high=high * wider, pixels=width, is_log=True)


def _token_axis(panel: Panel) -> alt.Axis:
    return alt.Axis(values=panel.x.ticks(), title="test-time tokens per query (log scale)", format=",~r")


def _shares(top: float) -> list[float]:
    step = 0.2 if top > 0.6 else 0.1 if top > 0.2 else 0.05 if top > 0.1 else 0.02
    return [step * i for i in range(round(top / step) + 1)]


def _share_axis(top: float, *, title: str | None = "accuracy") -> alt.Axis:
    return alt.Axis(title=title, format="~%", values=_shares(top))


def _points_scale(gains: Iterable[Measure], pixels: float) -> Scale:
    ends = [end for gain in gains for end in (gain.value, gain.low, gain.high) if end is not None]
    low, high = min(0.0, *ends), max(0.1, *ends)
    return Scale(low=low - 0.06 * (high - low), high=high + 0.06 * (high - low), pixels=pixels, is_upward=True)


def _points_axis(y: Scale, title: str | None) -> alt.Axis:
    step = 0.2 if y.high - y.low > 0.5 else 0.1 if y.high - y.low > 0.2 else 0.05
    values = [step * i for i in range(-20, 21) if y.low <= step * i <= y.high]
    written_as = "(datum.value > 0 ? '+' : '') + replace(format(100 * datum.value, '.0f'), '-', '−')"
    return alt.Axis(title=title, values=values, labelExpr=written_as)


def _name_axis(
    names: Sequence[str | list[str]], title: str | None, *, first: int = 1, width: float | None = None
) -> alt.Axis:
    """An axis whose whole numbers have names, at least *width* wide; one of several lines is a list."""
    quoted = json.dumps(list(names), ensure_ascii=False)
    return alt.Axis(
        values=list(range(first, first + len(names))),
        labelExpr=f"{quoted}[datum.value - {first}]",
        labelLimit=300,
        minExtent=alt.Undefined if width is None else width,
        title=title,
    )


def _columns(panels: int) -> int:
    return panels if panels <= 3 else 2 if panels == 4 else 3


def _width(panels: int) -> float:
    """How wide each of so many panels is."""
    return (WIDTH, HALF, THIRD)[_columns(panels) - 1]


def _grid(panels: Sequence[alt.LayerChart]) -> Drawing:
    """Lay panels out in rows of equal length."""
    if len(panels) == 1:
        return panels[0]
    columns = _columns(len(panels))
    rows = [alt.hconcat(*panels[i : i + columns], spacing=26) for i in range(0, len(panels), columns)]
    return rows[0] if len(rows) == 1 else alt.vconcat(*rows, spacing=26)
