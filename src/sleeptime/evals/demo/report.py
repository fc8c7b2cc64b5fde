"""Show a demo's result: a page that opens offline, and the same for a terminal.

    render_html(result) → str        one self-contained file: no script, no font, no network
    render_text(result) → str        worked example and table, as wide as it is told

Everything a model or a context wrote is escaped. This file computes no figure.
"""

import io
from dataclasses import dataclass, replace

from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sleeptime.evals.analysis import stats
from sleeptime.evals.demo import figures
from sleeptime.evals.demo.curves import LEVELS_CHOSEN, QUERIES_PER_SLEEP, DemoResult, Example, Figure
from sleeptime.evals.demo.rows import ARMS, Row
from sleeptime.evals.report.page import STYLE, Unit, bare, template, written

__all__ = ["Unit", "headline", "lines", "render_html", "render_text", "told", "written"]

CAVEAT = "A tiny model on synthetic tasks shows the mechanism, not the numbers of a large model."


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the table, in words."""

    name: str
    unit: Unit
    words: str
    value: str
    as_measured: str
    interval: str
    target: str
    verdict: str
    note: str
    missing: int


_LINES: tuple[tuple[str, str, Unit], ...] = (
    ("accuracy_full_cot_no_sleep", "Accuracy without sleep at full chain of thought (v4)", "share"),
    ("token_ratio", "Test-time tokens without sleep / with sleep, at equal accuracy", "times"),
    ("token_ratio_interpolated", "The same, interpolated at 2 points below the best without sleep", "times"),
    ("accuracy_gain_v0", "Accuracy gained by sleep at v0", "points"),
    ("cost_ratio_t10", f"Cost per query without / with sleep (N={QUERIES_PER_SLEEP}, t=10)", "times"),
    ("cost_ratio_t2", f"Cost per query without / with sleep (N={QUERIES_PER_SLEEP}, t=2)", "times"),
    ("money_ratio", f"Money per query without / with sleep (N={QUERIES_PER_SLEEP}), no input cached", "times"),
    ("money_ratio_as_cached", "The same, input cached as it was here", "times"),
    ("break_even_t10", "Queries until a sleep has paid (t=10)", "number"),
    ("break_even_t2", "Queries until a sleep has paid (t=2)", "number"),
    ("predictability_rho", "Rank correlation of gain and log P(query | context), five bins", "rank"),
    ("predictability_rho_per_token", "Rank correlation by mean log P of a token", "rank"),
    ("predictability_rho_values", "Rank correlation among queries for one value", "rank"),
    ("predictability_rho_limited", "Rank correlation with half of the notes", "rank"),
    ("limited_gain_v0", "Accuracy gained at v0 with half of the notes", "points"),
    ("learned_only_gain_v0", "Accuracy gained at v0 by the notes without the context", "points"),
    ("placebo_gain_v0", "Accuracy gained at v0 by another context's notes (placebo)", "points"),
    ("notes_correct_share", "Notes that are right", "share"),
    ("sleep_tokens_per_context", "Sleep tokens per context, failed sleeps included", "number"),
)


_SIGNS = {"+": "positive", "−": "negative", "0": "sign not shown", "?": ""}


def lines(result: DemoResult) -> list[Line]:
    """Put every figure into words, met or missed as they are; a note stands where it is first needed."""
    told = [_line(name, words, unit, result.figures[name]) for name, words, unit in _LINES]
    for depth, figure in result.within_depth.items():
        where = "all depths, each by itself" if depth == "pooled" else f"depth {depth}"
        line = _line(depth, f"Slope of the gain with half of the notes per nat, {where}", "slope", figure)
        told.append(replace(line, verdict=_SIGNS[stats.sign(figure)]))
    said: list[str] = []
    for i, line in enumerate(told):
        known = max((note for note in said if line.note.startswith(note)), key=len, default="")
        said.append(line.note)
        news = line.note.removeprefix(known).removeprefix("; ")
        missing = f"{line.missing} missing" if line.missing else ""
        told[i] = replace(line, note="; ".join(filter(None, (news, missing))))
    return told


def _line(name: str, words: str, unit: Unit, figure: Figure) -> Line:
    has_interval = figure.value is not None and figure.low is not None
    upper = bare(figure.high, unit) if figure.high is not None else "∞"
    target = ""
    if figure.at_least is not None:
        target = f"≥ {_short(bare(figure.at_least, unit))}"
    elif figure.at_most is not None:
        target = f"not above {_short(bare(figure.at_most, unit))}"
    return Line(
        name=name,
        unit=unit,
        words=words,
        value=written(figure.value, unit),
        as_measured="" if figure.as_measured is None else f"as measured {written(figure.as_measured, unit)}",
        interval=f"{bare(figure.low, unit)} to {upper}" if has_interval else "",
        target=target,
        verdict=figure.verdict or "",
        note=figure.note,
        missing=figure.missing,
    )


def _short(number: str) -> str:
    return number.rstrip("0").rstrip(".")


def headline(result: DemoResult) -> str:
    """Say in one sentence what was found, no more than was shown."""
    costs, ratio = result.costs, result.figures["token_ratio"]
    if costs is None:
        return _unmatched(result)
    plain, slept = f"{costs.without:.1f}", f"{costs.with_sleep:.1f}"
    if costs.is_shown and ratio.value is not None and ratio.low is not None and ratio.value > 1:
        return (
            "Having thought about each context before any question came, the model answers as accurately with "
            f"{slept} test-time tokens instead of {plain}: {ratio.value:.1f} times fewer "
            f"(95 % interval {ratio.low:.1f} to {bare(ratio.high, 'number')})."
        )
    if not costs.is_shown and costs.with_sleep < costs.without:
        return (
            "Having thought about each context before any question came, the model answers within 2 points of the "
            f"same accuracy with {slept} test-time tokens instead of {plain}. That is as measured: "
            f"{result.n_contexts} contexts are too few to be sure that the accuracies are equal."
        )
    return f"Sleep saved no test-time tokens at equal accuracy here: {slept} with it, {plain} without."


def _unmatched(result: DemoResult) -> str:
    """Say what was measured where no level with sleep is as accurate as the best without."""
    best = result.match.best
    if best is None:
        return f"There is no comparison: {result.match.reason}."
    plain, slept = result.point("no_sleep", best), result.point("sleep", "v0")
    tokens = bare(slept.tokens.value, "number"), bare(plain.tokens.value, "number")
    return (
        f"With sleep the model answers straight away with {written(slept.accuracy.value, 'share')} accuracy on "
        f"{tokens[0]} test-time tokens; without, it takes {tokens[1]} "
        f"for {written(plain.accuracy.value, 'share')}. No saving at equal accuracy was shown: {result.match.reason}."
    )


def told(row: Row) -> str:
    """Name an answer's arm and level."""
    how = "straight away" if row.level == "v0" else "step by step"
    return f"{ARMS[row.arm].capitalize()}, answering {how} ({row.level})"


def render_html(result: DemoResult) -> str:
    """Write the whole page."""
    drawings = {
        "accuracy": Markup(figures.svg(figures.accuracy_by_tokens(result))),  # noqa: S704  # our own drawing, its words are escaped by the renderer
        "gain": Markup(figures.svg(figures.gain_by_predictability(result))),  # noqa: S704  # the same
        "cost": None if result.costs is None else Markup(figures.svg(figures.cost_by_queries(result.costs))),  # noqa: S704  # the same
    }
    return template("demo/report.html.jinja").render(
        result=result,
        headline=headline(result),
        caveat=CAVEAT,
        lines=lines(result),
        drawings=drawings,
        **STYLE,
        told=told,
        arms=ARMS,
        levels_chosen=LEVELS_CHOSEN,
    )


def render_text(result: DemoResult, *, width: int = 80, color: bool = False) -> str:
    """Write the worked example and the table for a terminal of *width* columns."""
    out = io.StringIO()
    console = Console(
        file=out,
        width=max(40, width),
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    if result.example is not None:
        _print_example(console, result.example)
    console.print(Text(headline(result), style="bold"))
    console.print()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), expand=False, show_edge=False)
    table.add_column("figure", ratio=3)
    table.add_column("value", no_wrap=False)
    table.add_column("95 % interval")
    table.add_column("target")
    table.add_column("")
    for line in lines(result):
        if line.unit == "slope" and line.name != "pooled":
            continue
        style = {"met": "green", "missed": "red", "not shown": "yellow"}.get(line.verdict, "")
        value = "\n".join(filter(None, (line.value, line.as_measured)))
        table.add_row(line.words, value, line.interval, line.target, Text(line.verdict, style=style))
    console.print(table)
    console.print()
    for line in lines(result):
        if line.note:
            console.print(Text(f"{line.words}: {line.note}."))
    console.print(Text(CAVEAT))
    source = result.provenance
    console.print(
        Text(
            f"{source.model}, {source.family}, {result.n_contexts} contexts, {result.n_queries} queries, "
            f"seed {source.seed}, {result.failed_calls} failed calls, {result.failed_sleeps} failed sleeps, "
            f"{source.wall_s:.0f} s on {source.machine}",
            style="dim",
        )
    )
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _print_example(console: Console, example: Example) -> None:
    def part(title: str, body: str) -> None:
        console.print(Text(title, style="bold"))
        console.print(Padding(Text(body), (0, 0, 1, 2)))

    part("A context", example.context)
    notes = "\n".join(example.notes) or "nothing"
    part(f"What the model noted, before any question ({example.sleep_tokens} tokens)", notes)
    part("Then somebody asks", example.question)
    for row in example.answers:
        mark = "failed" if row.is_correct is None else "right" if row.is_correct else f"wrong, it is {example.target}"
        part(f"{told(row)}: {row.output_tokens} tokens, {mark}", row.text or row.error)
