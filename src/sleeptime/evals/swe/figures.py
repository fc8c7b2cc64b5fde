"""Draw E7: F1 against test-time tokens, a point a budget of steps, and what no model reaches as lines across.

In the visual language of every figure. This file knows nothing about pages or files.
"""

from __future__ import annotations

import altair as alt

from sleeptime.evals.report.drawing import LEARNED, LINE, NO_SLEEP, SLEEP, Datum, Drawing
from sleeptime.evals.report.panel import Panel, Scale, round_top
from sleeptime.evals.swe.experiment import ARMS, Arm
from sleeptime.evals.swe.findings import Findings

WIDTH, HEIGHT = 640.0, 330.0
_COLOURS: dict[Arm, str] = {"no_sleep": NO_SLEEP, "sleep": SLEEP, "siblings": LEARNED}


def f1_by_tokens(found: Findings) -> Drawing | None:
    """F1 against output tokens at test time; None where nothing was measured."""
    points = [point for point in found.points if point.f1.value is not None and point.output_tokens.value]
    if not points:
        return None
    tokens = [point.output_tokens.value or 1.0 for point in points]
    tops = [point.f1.high or point.f1.value or 0.0 for point in points]
    tops += [each.f1.value or 0.0 for each in found.references]
    panel = Panel(
        x=Scale(low=min(tokens) / 1.6, high=max(tokens) * 1.6, pixels=WIDTH, is_log=True),
        y=Scale(low=0.0, high=round_top(tops), pixels=HEIGHT, is_upward=True),
    )
    best: list[tuple[str, float]] = []
    for each in sorted(found.references, key=lambda each: -(each.f1.value or 0.0)):
        value = each.f1.value
        if value and all(abs(panel.y(value) - panel.y(other)) > LINE for _, other in best):
            best.append((each.name, value))
            panel.rule(y=value, dashes=(2, 3))
    for arm, colour in _COLOURS.items():
        line: list[Datum] = [
            {
                "x": point.output_tokens.value,
                "y": point.f1.value,
                "low": point.f1.low,
                "high": point.f1.high,
                "label": str(point.cell.steps),
            }
            for point in points
            if point.cell.arm == arm
        ]
        if line:
            panel.line(line, colour)
            panel.bars(line, colour)
            panel.dots(line, colour)
            panel.names(line, colour)
            panel.line_name(ARMS[arm], line, colour)
    for name, value in best:
        panel.aside(name, value)
    ticks = panel.x.ticks()
    return panel.chart(
        alt.Axis(title="test-time tokens per pull request (output, log scale)", values=ticks, format=",d"),
        alt.Axis(title="F1 over modified files", format="%"),
    )
