"""One plot area whose pixels are known, so that words stand where nothing else does.

    marks → boxes taken      words → the nearest of their places that meets no box

Scales have fixed ends, so a value's pixel is known before anything is rendered. Words are
placed in the order they were asked for, each beside what it names; where every place is
taken it stands where it covers least. This file knows nothing about what is drawn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import altair as alt
import numpy as np

from sleeptime.evals.analysis.stats import Array
from sleeptime.evals.report.drawing import INK, LINE, MUTED, PAGES, Datum, over

Weight = Literal["normal", "bold"]
Align = Literal["left", "center", "right"]
Shape = Literal["circle", "square", "diamond", "triangle-up"]

DOT = 8.0
"""Pixels across a point."""
CHARACTER: dict[Weight, float] = {"normal": 0.62, "bold": 0.69}
"""Width of a character of a wide sans-serif, as a share of its size."""
NEAR = 14.0
"""Points of one line closer than this, in pixels, share a label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle in pixels, from the top left."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def edges(self) -> tuple[float, float, float, float]:
        return self.left, self.top, self.right, self.bottom


def shared(boxes: Array, others: Array) -> Array:
    """How many square pixels each of *boxes* shares with all *others* together. A row is a box's edges."""
    ends = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    return np.prod(np.clip(ends, 0, None), axis=2).sum(axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From values to pixels. `is_upward` has its low end at the bottom, as a vertical axis has."""

    low: float
    high: float
    pixels: float
    is_log: bool = False
    is_upward: bool = False

    def __call__(self, value: float) -> float:
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.pixels * ((1 - share) if self.is_upward else share)

    def inside(self, value: float) -> float:
        """The nearest value that can be drawn."""
        return min(max(value, min(self.low, self.high)), max(self.low, self.high))

    @property
    def vega(self) -> alt.Scale:
        """The same scale as the chart takes it."""
        return alt.Scale(type="log" if self.is_log else "linear", domain=[self.low, self.high], nice=False)

    def ticks(self, *, apart: float = 44.0) -> list[float]:
        """Round values between the ends of a log scale, no closer than so many pixels."""
        for steps in ((1, 2, 5), (1, 3), (1,)):
            made = [
                step * 10.0**power
                for power in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
                for step in steps
            ]
            inside = [tick for tick in made if self.low <= tick <= self.high]
            gaps = [self(after) - self(before) for before, after in itertools.pairwise(inside)]
            if all(gap >= apart for gap in gaps):
                return inside
        return [self.low, self.high]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    """Words that want a place beside one of a few spots, in pixels."""

    text: str
    spots: tuple[tuple[float, float], ...]
    colour: str
    weight: Weight
    size: float
    sides: str

    @property
    def width(self) -> float:
        return text_width(self.text, size=self.size, weight=self.weight)


@dataclass(kw_only=True)
class Panel:
    """A plot area under construction: marks and words are added, and `chart` puts the words in place."""

    x: Scale
    y: Scale
    title: str = ""
    subtitle: str = ""
    layers: list[alt.Chart] = field(default_factory=list[alt.Chart])
    _taken: list[Box] = field(default_factory=list[Box])
    _words: list[_Words] = field(default_factory=list[_Words])
    _texts: list[alt.Chart] = field(default_factory=list[alt.Chart])

    def line(
        self,
        points: Sequence[Datum],
        colour: str,
        *,
        dashes: Sequence[int] = (),
        width: float = 2.0,
        opacity: float = 1.0,
    ) -> None:
        """Join *points* in their order."""
        if len(points) < 2:
            return
        ordered: list[Datum] = [point | {"order": i} for i, point in enumerate(points)]
        mark = over(ordered).mark_line(color=colour, strokeWidth=width, strokeDash=list(dashes), opacity=opacity)
        self._lay(mark.encode(order="order:Q"))
        for start, end in itertools.pairwise(points):
            self._take_line(self._at(start), self._at(end))

    def bars(self, points: Sequence[Datum], colour: str) -> None:
        """Draw each point's interval upright, from `low` to `high`."""
        ends = [
            point | {"y": point[end], "bar": i}
            for i, point in enumerate(points)
            for end in ("low", "high")
            if point["low"] is not None and point["high"] is not None
        ]
        self._bars(ends, colour)

    def bars_across(self, points: Sequence[Datum], colour: str) -> None:
        """Draw each point's interval along x, from `x_low` to `x_high`, where it is wider than the point."""
        ends = [
            point | {"x": point[end], "bar": i}
            for i, point in enumerate(points)
            if point["x_low"] is not None
            and point["x_high"] is not None
            and self.x(self.x.inside(point["x_high"])) - self.x(self.x.inside(point["x_low"])) > 1.5 * DOT
            for end in ("x_low", "x_high")
        ]
        self._bars(ends, colour)

    def dots(self, points: Sequence[Datum], colour: str, *, shape: Shape = "circle", is_filled: bool = True) -> None:
        """Mark *points*."""
        if not points:
            return
        self._lay(
            over(list(points)).mark_point(
                color=colour,
                shape=shape,
                size=64,
                filled=False,
                fill=colour if is_filled else PAGES[0],
                strokeWidth=1.0 if is_filled else 1.8,
                opacity=1,
            )
        )
        for point in points:
            x, y = self._at(point)
            self._taken.append(Box(left=x - DOT / 2, right=x + DOT / 2, top=y - DOT / 2, bottom=y + DOT / 2))

    def rule(self, *, x: float | None = None, y: float | None = None, dashes: Sequence[int] = ()) -> None:
        """Draw a thin line across the whole area, at *x* or at *y*."""
        if x is not None:
            ends: list[Datum] = [{"x": x, "y": self.y.low}, {"x": x, "y": self.y.high}]
        else:
            ends = [{"x": self.x.low, "y": y}, {"x": self.x.high, "y": y}]
        self.line(ends, MUTED, width=1, dashes=dashes)

    def band(self, low: float, high: float, colour: str) -> None:
        """Shade what lies between two values of x."""
        edges: list[Datum] = [{"x": low, "y": self.y.low, "x2": high, "y2": self.y.high}]
        mark = over(edges).mark_rect(color=colour, opacity=0.16)
        self._lay(mark.encode(x2="x2:Q", y2="y2:Q"))

    def strip(self, low: float, high: float, colour: str) -> None:
        """Shade what lies between two values of y."""
        edges: list[Datum] = [{"x": self.x.low, "y": low, "x2": self.x.high, "y2": high}]
        self._lay(over(edges).mark_rect(color=colour, opacity=0.13).encode(x2="x2:Q", y2="y2:Q"))

    def bracket(self, start: float, end: float, y: float, words: str) -> None:
        """Span two values of x at the height of *y*, and say what lies between them."""
        ends: list[Datum] = [{"x": start, "y": y}, {"x": end, "y": y}]
        self.line(ends, MUTED, width=1)
        self._lay(over(ends).mark_tick(color=MUTED, thickness=1, size=9, orient="vertical"))
        told = _Words(text=words, spots=(), colour=INK, weight="bold", size=12, sides="")
        centre = (self.x(start) + self.x(end)) / 2
        left = min(max(centre - told.width / 2, 0.0), self.x.pixels - told.width)
        top = self.y(y) - 7 - LINE
        self._write(told, Box(left=left, right=left + told.width, top=top, bottom=top + LINE), "center")

    def names(self, points: Sequence[Datum], colour: str, *, sides: str = "nsew") -> None:
        """Write the `label` of each point beside it; points that lie together share one label, beside the last."""
        for group in self._neighbours(points):
            text = ", ".join(point["label"] for point in group)
            self._ask(text, [self._at(group[-1])], colour, size=11, sides=sides)

    def line_name(self, text: str, points: Sequence[Datum], colour: str) -> None:
        """Write *text* in bold where there is room along the line through *points*."""
        places = [self._at(point) for point in points]
        along = [
            (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)
            for start, end in itertools.pairwise(places)
            for share in (0.5, 0.25, 0.75)
        ]
        self._ask(text, [*along, *places], colour, weight="bold", sides="nsew")

    def word(self, text: str, at: Datum, colour: str, *, weight: Weight = "normal", sides: str = "ensw") -> None:
        """Ask for *text* beside a point: to its east, north, south or west, whichever is free first."""
        self._ask(text, [self._at(at)], colour, weight=weight, sides=sides)

    def aside(self, text: str, y: float) -> None:
        """Write *text* to the right of the area, at the height of *y*."""
        mark = over([{}]).mark_text(color=INK, fontSize=11.5, align="left", baseline="middle", text=text)
        self._texts.append(mark.encode(x=alt.value(self.x.pixels + 12), y=alt.value(self.y(y))))

    def chart(self, x: alt.Axis | None, y: alt.Axis | None) -> alt.LayerChart:
        """Put every word in its place, and lay all over one another on these axes."""
        marks = [
            layer.encode(x=alt.X("x:Q", scale=self.x.vega, axis=x), y=alt.Y("y:Q", scale=self.y.vega, axis=y))
            for layer in self.layers
        ]
        self.layers = []
        for words in self._words:
            self._write(words, *self._free(words))
        made = alt.LayerChart(layer=[*marks, *self._texts]).properties(width=self.x.pixels, height=self.y.pixels)
        if not self.title:
            return made
        return made.properties(
            title=alt.TitleParams(text=self.title, frame="group", subtitle=self.subtitle or alt.Undefined)
        )

    def _ask(
        self,
        text: str,
        spots: Sequence[tuple[float, float]],
        colour: str,
        *,
        weight: Weight = "normal",
        size: float = 12,
        sides: str,
    ) -> None:
        self._words.append(_Words(text=text, spots=tuple(spots), colour=colour, weight=weight, size=size, sides=sides))

    def _lay(self, mark: alt.Chart) -> None:
        self.layers.append(mark)

    def _at(self, point: Datum) -> tuple[float, float]:
        return self.x(point["x"]), self.y(point["y"])

    def _bars(self, ends: Sequence[Datum], colour: str) -> None:
        if not ends:
            return
        inside = [
            end
            | {
                "x": self.x.inside(end["x"]),
                "y": self.y.inside(end["y"]),
            }
            for end in ends
        ]
        self._lay(over(inside).mark_line(color=colour, strokeWidth=1.5).encode(detail="bar:N"))
        for start, end in zip(inside[::2], inside[1::2], strict=True):
            self._take_line(self._at(start), self._at(end))

    def _take_line(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        steps = max(1, math.ceil(math.dist(start, end) / 4))
        for i in range(steps + 1):
            x, y = (a + (b - a) * i / steps for a, b in zip(start, end, strict=True))
            self._taken.append(Box(left=x - 2, right=x + 2, top=y - 2, bottom=y + 2))

    def _neighbours(self, points: Sequence[Datum]) -> Iterable[list[Datum]]:
        groups: list[list[Datum]] = []
        for point in sorted(points, key=lambda point: point["x"]):
            near = groups[-1][-1] if groups else None
            if near is not None and all(
                abs(a - b) < NEAR for a, b in zip(self._at(near), self._at(point), strict=True)
            ):
                groups[-1].append(point)
            else:
                groups.append([point])
        return groups

    def _free(self, words: _Words) -> tuple[Box, Align]:
        """Find the box for *words* that covers least, nearest first."""
        taken = np.array([box.edges for box in self._taken] or [(0.0, 0.0, 0.0, 0.0)])
        best: tuple[float, Box, Align] | None = None
        for turn, (dx, dy, align) in enumerate(_places(words)):
            boxes = [
                Box(left=x + dx, right=x + dx + words.width, top=y + dy - LINE / 2, bottom=y + dy + LINE / 2)
                for x, y in words.spots
            ]
            covered = shared(np.array([box.edges for box in boxes]), taken)
            covered += [60 * self._outside(box) for box in boxes]
            least = int(np.argmin(covered))
            if covered[least] == 0:
                return boxes[least], align
            if best is None or covered[least] + turn / 2 < best[0]:
                best = float(covered[least]) + turn / 2, boxes[least], align
        assert best is not None, "there are always places"
        return best[1], best[2]

    def _outside(self, box: Box) -> float:
        """How far a box reaches over the edge of the area."""
        return max(0.0, -box.left, box.right - self.x.pixels, -box.top, box.bottom - self.y.pixels)

    def _write(self, words: _Words, box: Box, align: Align) -> None:
        self._taken += [box] * 4  # words upon words are worse than words upon a line
        x = {"left": box.left, "center": (box.left + box.right) / 2, "right": box.right}[align]
        mark = over([{}]).mark_text(
            color=words.colour,
            fontSize=words.size,
            fontWeight=words.weight,
            align=align,
            baseline="middle",
            text=words.text,
        )
        self._texts.append(mark.encode(x=alt.value(x), y=alt.value((box.top + box.bottom) / 2)))


def _places(words: _Words) -> Iterable[tuple[float, float, Align]]:
    """Offsets of a label's left end and middle from its point, the wanted side first, then further away."""
    width = words.width
    level: dict[Align, float] = {"center": -width / 2, "left": -DOT / 2, "right": DOT / 2 - width}
    for distance in (DOT, 1.6 * DOT, 2.6 * DOT, 3.8 * DOT, 5.2 * DOT):
        up = distance + LINE / 2 - 3
        beside: dict[str, tuple[float, Align]] = {"e": (distance, "left"), "w": (-distance - width, "right")}
        for side in words.sides:
            if side in beside:
                dx, align = beside[side]
                yield dx, 0.0, align
                yield dx, -LINE / 2, align
                yield dx, LINE / 2, align
            else:
                for align, dx in level.items():
                    yield dx, -up if side == "n" else up, align
        for side in words.sides:
            if side in beside:
                dx, align = beside[side]
                yield dx, -up, align
                yield dx, up, align


def text_width(text: str, *, size: float, weight: Weight = "normal") -> float:
    """Guess how many pixels *text* takes, on the wide side."""
    return len(text) * size * CHARACTER[weight]


def round_top(values: Iterable[float]) -> float:
    """The lowest of a few round shares that is not below any of *values*."""
    most = max(values, default=1.0)
    return next((top for top in (0.1, 0.2, 0.4, 0.6, 0.8) if most <= top), 1.0)
