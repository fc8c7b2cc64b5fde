"""Write what a run of E7 found: a page that opens offline, its figure as SVG and PNG, its tables as CSV.

    write(run, out) → out/report.html, figures/f1.svg and .png, tables/*.csv

Everything that a model, a dataset or a repository wrote is escaped. This file computes no figure.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from sleeptime.evals.analysis.stats import Estimate
from sleeptime.evals.report import drawing
from sleeptime.evals.report.page import STYLE, bare, template, written
from sleeptime.evals.swe import figures
from sleeptime.evals.swe.experiment import ARMS, Experiment, Run
from sleeptime.evals.swe.findings import Comparison, Findings, Reference

HEAD = (
    "arm",
    "steps",
    "targets",
    "precision",
    "recall",
    "F1",
    "output tokens",
    "input tokens",
    "steps used",
    "ended by",
)
REFERENCE_HEAD = ("files named", "targets", "precision", "recall", "F1")
LITERAL = (
    "The siblings come from any time, as in the paper: some are later than the target and show what came of it, so "
    "figures with siblings flatter."
)
STRICT = "Every sibling was merged before the target's base commit and chosen by the target's words, not by its files."
TEXTS = "Tasks are titles and messages of commits, because descriptions of pull requests are not in git."


def write(run: Run, found: Findings, out: Path, *, experiment: Experiment) -> Path:
    """Write the report of *run* to the folder *out*; give its page."""
    for folder in ("figures", "tables"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    chart = figures.f1_by_tokens(found)
    svg = None if chart is None else drawing.svg(chart)
    if svg is not None:
        (out / "figures/f1.svg").write_text(drawing.on_white(svg), encoding="utf-8")
        (out / "figures/f1.png").write_bytes(drawing.png(svg))
    _csv(out / "tables/cells.csv", HEAD, lines(found))
    _csv(out / "tables/without_a_model.csv", REFERENCE_HEAD, reference_lines(found.references))
    page = out / "report.html"
    page.write_text(
        template("swe/report.html.jinja").render(
            experiment=experiment,
            settings=run.settings,
            headline=headline(found),
            caveat=f"{LITERAL if run.settings.choice == 'literal' else STRICT} {TEXTS}",
            drawing=None if svg is None else Markup(svg),  # noqa: S704  # our own drawing, its words are escaped by the renderer
            head=HEAD,
            lines=lines(found),
            references=reference_lines(found.references),
            comparisons=[told(each) for each in found.comparisons],
            provenance=_provenance(run, found),
            **STYLE,
        ),
        encoding="utf-8",
    )
    return page


def headline(found: Findings) -> str:
    """Say in a sentence or two what was found, no more than was shown."""
    if not found.points:
        return "Nothing was measured yet."
    reference = max(found.references, key=lambda each: each.f1.value or 0.0, default=None)
    best = max(found.points, key=lambda point: point.f1.value or 0.0)
    beside = "" if reference is None else f" Without any model, {reference.name} reach {_share(reference.f1)}."
    slept = next((each for each in found.comparisons if each.arm == "sleep"), None)
    first = f"The best F1 is {_share(best.f1)}: {ARMS[best.cell.arm]}, {best.cell.steps} steps."
    return " ".join(filter(None, [first + beside, told(slept) if slept else ""]))


def told(each: Comparison) -> str:
    """Say how an arm compares with no sleep at equal F1."""
    name, match = ARMS[each.arm].capitalize(), each.match
    if each.ratio.value is not None:
        interval = f" (95 % interval {_interval(each.ratio, 'times')})" if each.ratio.low is not None else ""
        return (
            f"{name} at {match.with_sleep} steps is shown to be within 2 points of no sleep at {match.best} steps, "
            f"with tokens in the ratio {written(each.ratio.value, 'times')}{interval}."
        )
    if each.as_measured.value is not None:
        return (
            f"{name} at {match.nearest} steps is within 2 points of no sleep at {match.best} steps as measured, with "
            f"tokens in the ratio {written(each.as_measured.value, 'times')}: {match.reason}."
        )
    return f"{name}: {match.reason}."


def lines(found: Findings) -> list[tuple[str, ...]]:
    """The table of cells, as words."""
    return [
        (
            ARMS[point.cell.arm],
            str(point.cell.steps),
            f"{point.targets}" + (f" ({point.missing} missing)" if point.missing else ""),
            _share(point.precision),
            _share(point.recall),
            _share(point.f1),
            f"{point.output_tokens.value or 0:,.0f}",
            f"{point.input_tokens.value or 0:,.0f}",
            f"{point.steps.value or 0:.1f}",
            ", ".join(f"{name} {count}" for name, count in point.outcomes),
        )
        for point in found.points
    ]


def reference_lines(references: Sequence[Reference]) -> list[tuple[str, ...]]:
    """The table of what no model reaches, as words."""
    return [
        (each.name, str(each.targets), _share(each.precision), _share(each.recall), _share(each.f1))
        for each in references
    ]


def _share(figure: Estimate) -> str:
    interval = f" ({_interval(figure, 'share')})" if figure.low is not None and figure.high is not None else ""
    return f"{written(figure.value, 'share')}{interval}"


def _interval(figure: Estimate, unit: str) -> str:
    of = "share" if unit == "share" else "times"
    return f"{bare(figure.low, of)} to {'∞' if figure.high is None else bare(figure.high, of)}"


def _provenance(run: Run, found: Findings) -> list[tuple[str, str]]:
    settings = run.settings
    spent = "unknown" if run.spent_usd is None else f"{run.spent_usd:.4f} USD"
    return [
        ("model", settings.model),
        ("sleeps", f"{settings.sleep_model}, strategy {settings.plan.strategy}, {found.failed_sleeps} failed"),
        ("tokens of a sleep", f"{found.sleep_tokens.value or 0:,.0f}"),
        ("dataset", f"{settings.dataset} ({settings.choice}), sha256 {settings.dataset_sha256[:16]}"),
        ("repository", settings.repository),
        ("targets", f"{len(settings.asked)} in {found.clusters} groups"),
        ("paid", f"{run.paid_calls:,} calls, {spent}"),
        ("code", settings.commit or "not a checkout"),
        ("machine", settings.machine),
    ]


def _csv(file: Path, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)
