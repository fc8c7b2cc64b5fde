"""Draw the demo's three figures: data in, chart out.

In the visual language of every figure; a dashed line is a sleep cut short, and amounts
start at zero. This file knows nothing about pages or files.
"""

import math

import altair as alt

from sleeptime.evals.analysis import stats
from sleeptime.evals.demo.curves import PRICES, QUERIES_PER_SLEEP, Costs, DemoResult, Figure
from sleeptime.evals.demo.rows import SWEPT
from sleeptime.evals.report.drawing import (
    DARK,
    INK,
    LINE,
    MUTED,
    NO_SLEEP,
    SLEEP,
    Datum,
    Drawing,
    intervals,
    label,
    layered,
    over,
    svg,
)

__all__ = ["DARK", "NO_SLEEP", "SLEEP", "accuracy_by_tokens", "cost_by_queries", "gain_by_predictability", "svg"]

WIDTH, HEIGHT = 640, 300
MOST_QUERIES = 100

_COLOUR = {"no_sleep": NO_SLEEP, "sleep": SLEEP}
_ARM_LABELS = {"no_sleep": "no sleep", "sleep": "with sleep"}


def accuracy_by_tokens(result: DemoResult) -> Drawing:
    """Accuracy against test-time tokens, with and without sleep; a line joins each arm's efficient levels."""
    layers: list[alt.Chart] = []
    most = 1.0
    for arm in SWEPT:
        points = [
            _point(point.level, point.tokens.value, point.accuracy) for point in result.points if point.arm == arm
        ]
        points = [point for point in points if point["x"] is not None and point["y"] is not None]
        if not points:
            continue
        most = max(most, *(point["x"] for point in points))
        efficient = [
            {"x": tokens, "y": accuracy}
            for tokens, accuracy in stats.envelope([p["x"] for p in points], [p["y"] for p in points])
        ]
        colour = _COLOUR[arm]
        layers += [
            over(efficient).mark_line(color=colour, strokeWidth=2),
            intervals(points, colour),
            over(points).mark_circle(color=colour, size=60, opacity=1),
            over(_side_by_side(points))
            .mark_text(color=colour, fontSize=11, align="left", dx=6, dy=-10 if arm == "sleep" else 11)
            .encode(text="label:N"),
            _arm_label(min(points, key=lambda point: point["x"]), _ARM_LABELS[arm], colour),
        ]
    bracket = _ratio_bracket(result)
    layers += bracket
    ticks = [tokens for tokens in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if tokens <= most * 1.5]
    x = alt.X(
        "x:Q",
        scale=alt.Scale(type="log", base=2, domain=[2, max(8.0, most * 1.25)], nice=False),
        axis=alt.Axis(values=[tick for tick in ticks if tick >= 2], title="test-time tokens per query (log scale)"),
    )
    y = _y(1.22 if bracket else 1.08, title="accuracy", values=[0, 0.2, 0.4, 0.6, 0.8, 1.0], number="%")
    return layered(layers, x, y).properties(width=WIDTH, height=HEIGHT)


def _side_by_side(points: list[Datum]) -> list[Datum]:
    """Give points that lie on one another one label of all their names, where the rightmost of them is."""
    labels: list[Datum] = []
    for point in sorted(points, key=lambda point: point["x"]):
        last = labels[-1] if labels else None
        if last and point["x"] < last["x"] * 1.15 and abs(point["y"] - last["y"]) < 0.06:
            labels[-1] = point | {"label": f"{last['label']}, {point['label']}", "y": max(point["y"], last["y"])}
        else:
            labels.append(point)
    return labels


def _arm_label(at: Datum, words: str, colour: str) -> alt.Chart:
    """Name a line below its first interval, or above it where there is no room below."""
    low, high = at["y"] - 0.07, at["y"] + 0.07  # the point's own label stands in between
    if at["low"] is not None and at["high"] is not None:
        low, high = min(low, at["low"]), max(high, at["high"])
    has_room = low > 0.08
    place = {"x": at["x"], "y": low if has_room else high}
    return label(place, words, colour, align="left", dx=-5, dy=13 if has_room else -11, weight="bold")


def _ratio_bracket(result: DemoResult) -> list[alt.Chart]:
    """Mark how far apart the two compared levels are."""
    costs, ratio = result.costs, result.figures["token_ratio"]
    number = ratio.value if ratio.as_measured is None else ratio.as_measured
    if costs is None or number is None or number <= 1.2:
        return []
    words = f"{number:.1f}× fewer tokens" + ("" if costs.is_shown else " as measured; too few contexts to be sure")
    ends: list[Datum] = [{"x": costs.with_sleep, "y": 1.15}, {"x": costs.without, "y": 1.15}]
    return [
        over(ends).mark_line(color=MUTED, strokeWidth=1),
        over(ends).mark_tick(color=MUTED, thickness=1, size=9, orient="vertical"),
        label(ends[1], words, INK, align="right", dy=-9, weight="bold"),
    ]


def cost_by_queries(costs: Costs) -> Drawing:
    """Cost per query against the number of queries that share a sleep, at both prices of a test-time token."""
    return alt.hconcat(*[_cost_panel(costs, t) for t in PRICES], spacing=44)


def _cost_panel(costs: Costs, t: int) -> alt.LayerChart:
    def with_sleep(queries: float) -> float:
        return t * costs.with_sleep + costs.sleep / queries

    steps = [MOST_QUERIES ** (i / 60) for i in range(61)]
    flat = t * costs.without
    top = max(flat, with_sleep(1)) * 1.18
    slept: list[Datum] = [{"x": n, "y": with_sleep(n)} for n in steps]
    plain: list[Datum] = [{"x": 1, "y": flat}, {"x": MOST_QUERIES, "y": flat}]
    at = QUERIES_PER_SLEEP
    gap: list[Datum] = [{"x": at, "y": with_sleep(at)}, {"x": at, "y": flat}]
    height = HEIGHT - 60
    above, below = _apart(flat, with_sleep(MOST_QUERIES), pixel=top / height)
    layers = [
        over(plain).mark_line(color=NO_SLEEP, strokeWidth=2),
        over(slept).mark_line(color=SLEEP, strokeWidth=2),
        label({"x": MOST_QUERIES, "y": flat}, "no sleep", NO_SLEEP, align="right", dy=above),
        label({"x": MOST_QUERIES, "y": with_sleep(MOST_QUERIES)}, "with sleep", SLEEP, align="right", dy=below),
        over(gap).mark_line(color=MUTED, strokeWidth=1, strokeDash=[2, 3]),
        over(gap).mark_circle(color=MUTED, size=28, opacity=1),
    ]
    words = f"{flat / with_sleep(at):.1f}× at N = {at}"
    if abs(flat - with_sleep(at)) * height / top > 2 * LINE:
        middle = {"x": at, "y": (with_sleep(at) + flat) / 2}
        layers.append(label(middle, words, INK, align="left", dx=7, weight="bold"))
    elif min(flat, with_sleep(at)) * height / top > LINE:
        lower = {"x": at, "y": min(flat, with_sleep(at))}
        layers.append(label(lower, words, INK, align="center", dy=LINE, weight="bold"))
    if 1 <= (queries := _break_even(costs, t)) <= MOST_QUERIES:
        mark: list[Datum] = [{"x": queries, "y": 0}, {"x": queries, "y": flat}]
        layers.append(over(mark).mark_line(color=MUTED, strokeWidth=1, strokeDash=[4, 3]))
    x = alt.X(
        "x:Q",
        scale=alt.Scale(type="log", domain=[1, MOST_QUERIES], nice=False),
        axis=alt.Axis(values=[1, 2, 5, 10, 20, 50, 100], title="queries per context, N (log scale)"),
    )
    y = _y(top, title="cost per query, in sleep tokens" if t == PRICES[0] else None)
    title = f"t = {t}: {_paid_back(costs, t)}"
    return layered(layers, x, y).properties(width=(WIDTH - 60) // 2, height=height, title=title)


def _apart(first: float, second: float, *, pixel: float) -> tuple[float, float]:
    """How far above (−) or below the right ends of two lines their names stand, so that they do not meet."""
    if abs(first - second) / pixel > 2 * LINE:
        return -10, -13
    if min(first, second) / pixel < LINE:
        return (-10, -10 - LINE) if first < second else (-10 - LINE, -10)
    return (-10, LINE) if first >= second else (LINE, -10)


def _break_even(costs: Costs, t: int) -> float:
    saved = t * (costs.without - costs.with_sleep)
    return costs.sleep / saved if saved > 0 else float("inf")


def _paid_back(costs: Costs, t: int) -> str:
    queries = _break_even(costs, t)
    if queries == float("inf"):
        return "a sleep never pays"
    return "a sleep pays from the first query" if queries < 1 else f"a sleep pays after {queries:,.1f} queries"


def gain_by_predictability(result: DemoResult) -> Drawing:
    """What sleep gains at v0, by fifths of log P(q | c), with all notes and with half of them."""
    full = [_point(str(i), i - 0.04, part.gain) for i, part in enumerate(result.bins, 1)]
    half = [_point(str(i), i + 0.04, part.gain_limited) for i, part in enumerate(result.bins, 1)]
    measured = [p["y"] for p in [*full, *half] if p["y"] is not None]
    lows = [p["low"] for p in [*full, *half] if p["low"] is not None]
    bottom = math.floor(min([0.0, *lows, *measured]) * 5) / 5
    layers: list[alt.Chart] = [
        over([{"x": 0.6, "y": 0}, {"x": 5.9, "y": 0}]).mark_line(color=MUTED, strokeWidth=1),
    ]
    for drawn, dashes in ((full, [1, 0]), (half, [5, 4])):
        points = [point for point in drawn if point["y"] is not None]
        if not points:
            continue
        layers += [
            over(points).mark_line(color=SLEEP, strokeWidth=2, strokeDash=dashes),
            intervals(points, SLEEP),
            over(points).mark_circle(color=SLEEP, size=60, opacity=1),
        ]
    layers += _names_at_the_end(full, half, pixel=(1.1 - bottom) / (HEIGHT - 40))
    names = ["" if part.log_prob is None else f"{part.log_prob:.1f}".replace("-", "−") for part in result.bins]
    names[0], names[-1] = f"{names[0]} (least)", f"{names[-1]} (most predictable)"
    quoted = ", ".join(f"'{name}'" for name in names)
    x = alt.X(
        "x:Q",
        scale=alt.Scale(domain=[0.6, 5.9], nice=False),
        axis=alt.Axis(
            values=[1, 2, 3, 4, 5],
            labelExpr=f"[{quoted}][datum.value - 1]",
            title="mean log P(query | context) of each fifth of the queries",
        ),
    )
    y = alt.Y(
        "y:Q",
        scale=alt.Scale(domain=[bottom, 1.1], nice=False),
        axis=alt.Axis(
            title="accuracy gained by sleep, at v0", format=".0%", values=[i / 5 for i in range(round(bottom * 5), 6)]
        ),
    )
    return layered(layers, x, y).properties(width=WIDTH, height=HEIGHT - 40)


def _names_at_the_end(full: list[Datum], half: list[Datum], *, pixel: float) -> list[alt.Chart]:
    """Name both lines to the right of their last points, a line of text apart at least."""
    ends = [[point for point in points if point["y"] is not None][-1:] for points in (full, half)]
    names = [(end[0], name) for end, name in zip(ends, ("all notes", "half of them"), strict=True) if end]
    names.sort(key=lambda named: -named[0]["y"])
    right = max((end["x"] for end, _ in names), default=0.0)
    push = 0.0
    if len(names) > 1:
        push = max(0.0, LINE - (names[0][0]["y"] - names[1][0]["y"]) / pixel) / 2
    return [
        label({"x": right, "y": end["y"]}, name, SLEEP, align="left", dx=12, dy=dy, weight="bold")
        for (end, name), dy in zip(names, (-push, push), strict=False)
    ]


def _point(label: str, x: float | None, figure: Figure) -> Datum:
    return {"label": label, "x": x, "y": figure.value, "low": figure.low, "high": figure.high}


def _y(top: float, *, title: str | None = None, values: list[float] | None = None, number: str = ",.0f") -> alt.Y:
    axis = alt.Axis(title=title, format=number, tickCount=5)
    if values is not None:
        axis = alt.Axis(title=title, format=number, values=values)
    return alt.Y("y:Q", scale=alt.Scale(domain=[0, top], nice=False), axis=axis)
