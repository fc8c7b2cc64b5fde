"""The visual language of every figure: colours, intervals, labels, and a chart as SVG or PNG.

    blue is sleep, orange is no sleep, a bar is a 95 % interval

Lines are labelled where they run, not in a legend. Colours are the light ones; `DARK` says
what each becomes on a dark page. This file knows nothing about what is drawn.
"""

from typing import Any, Literal

import altair as alt
import vl_convert

INK, MUTED, GRID = "#1d2433", "#5f6b7e", "#e3e7ee"
SLEEP, NO_SLEEP = "#1f5fa8", "#b8520f"
LEARNED, MERGED, GUESS = "#12544f", "#6d1172", "#803b53"
PAGES = ("#ffffff", "#12161e")
"""What lies behind a figure, light and dark."""

DARK = {
    PAGES[0]: PAGES[1],
    INK: "#e8ebf1",
    MUTED: "#9aa5b8",
    GRID: "#2c3442",
    SLEEP: "#7db4f0",
    NO_SLEEP: "#f0a064",
    LEARNED: "#4fa39b",
    MERGED: "#b07fe0",
    GUESS: "#c07890",
}
"""All keep apart for every common kind of colour blindness where they meet, and from their page by 4.5 : 1 or more."""

FONT = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"
LINE = 16
"""Pixels that a line of a label takes."""
VEGA_LITE = "6.4"
PIXEL_RATIO = 2
"""Pixels of a PNG for each of a figure, so that it is sharp in print and on fine screens."""

CONFIG: dict[str, Any] = {  # Any: Vega-Lite's configuration is open
    "background": "transparent",
    "font": FONT,
    "padding": {"left": 2, "right": 6, "top": 6, "bottom": 2},
    "view": {"stroke": None},
    "axis": {
        "domainColor": MUTED,
        "grid": False,
        "gridColor": GRID,
        "labelColor": MUTED,
        "labelFontSize": 11.5,
        "labelPadding": 6,
        "tickColor": MUTED,
        "tickSize": 4,
        "titleColor": MUTED,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 10,
    },
    "axisY": {"domain": False, "grid": True, "ticks": False},
    "title": {
        "color": INK,
        "fontSize": 12.5,
        "fontWeight": "bold",
        "anchor": "start",
        "offset": 10,
        "subtitleColor": MUTED,
        "subtitleFontSize": 12,
    },
}

Drawing = alt.LayerChart | alt.HConcatChart | alt.VConcatChart
Datum = dict[str, Any]  # Any: numbers and words side by side, as charts take them


def svg(chart: Drawing) -> str:
    """Render *chart* as an SVG element, offline, without a browser. Its background is the page's."""
    return vl_convert.vegalite_to_svg(chart.to_dict(), vl_version=VEGA_LITE, config=CONFIG)


def on_white(drawing: str) -> str:
    """Give an SVG element a background of its own, for a file that may be shown on any."""
    return drawing.replace(">", f'><rect width="100%" height="100%" fill="{PAGES[0]}"/>', 1)


def png(drawing: str) -> bytes:
    """Turn an SVG element into a PNG."""
    return vl_convert.svg_to_png(on_white(drawing), scale=PIXEL_RATIO)


def over(values: list[Datum]) -> alt.Chart:
    """Begin a layer over *values*."""
    return alt.Chart(alt.InlineData(values=values))


def intervals(points: list[Datum], colour: str) -> alt.Chart:
    """Draw an upright bar from `low` to `high` of each point that has both."""
    ends = [
        {"x": point["x"], "y": point[end], "label": point["label"]}
        for point in points
        for end in ("low", "high")
        if point["low"] is not None and point["high"] is not None
    ]
    return over(ends).mark_line(color=colour, strokeWidth=1.5).encode(detail="label:N")


def label(
    at: Datum,
    words: str,
    colour: str,
    *,
    align: Literal["left", "center", "right"],
    dx: float = 0,
    dy: float = 0,
    weight: Literal["normal", "bold"] = "normal",
) -> alt.Chart:
    """Write *words* where *at* is, a few pixels off."""
    return (
        over([at])
        .mark_text(color=colour, fontSize=12, align=align, dx=dx, dy=dy, fontWeight=weight)
        .encode(text=alt.value(words))
    )


def layered(layers: list[alt.Chart], x: alt.X, y: alt.Y) -> alt.LayerChart:
    """Lay *layers* over one another on the same axes."""
    return alt.LayerChart(layer=[layer.encode(x=x, y=y) for layer in layers])
