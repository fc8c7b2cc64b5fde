"""Write the report of what finished or unfinished runs found: a page that opens offline, and all on it as files.

    write(found, out, experiments=…) → out/report.html, report.md, figures/*.svg and *.png, tables/*.csv
    as_json(findings) → the findings as plain values

Everything that a model, a dataset or a file name wrote is escaped. This file computes no figure.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, cast

from markupsafe import Markup

from sleeptime.core.usage import PriceCard
from sleeptime.evals.analysis import tables
from sleeptime.evals.analysis.claims import CONTROLS
from sleeptime.evals.analysis.findings import Claim, Findings
from sleeptime.evals.report import drawing, paper_figures, paper_words
from sleeptime.evals.report.page import STYLE, markdown, template
from sleeptime.evals.runs.experiments import Experiment

CONTROLS_TITLE = "Controls: what is not owed to having slept on this context"
CONTROLS_PAPER = (
    "The paper has none of these. Without them, what is gained may be owed to a longer prompt, to reading twice, or to "
    "tokens that the other side did not get."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawing:
    """A figure as it stands on the page and in its files."""

    title: str
    words: str
    reading: str
    svg: Markup
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A section: an experiment, or the controls."""

    id: str
    heading: str
    claim: str
    paper: str
    claims: tuple[Claim, ...]
    silence: str
    figures: tuple[_Drawing | paper_figures.Absence, ...]
    lines: tuple[paper_words.Line, ...]
    sheets: tuple[paper_words.Sheet, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """A table of plain values, as Markdown shows it."""

    name: str
    file: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """All that is shown of one run."""

    anchor: str
    name: str
    headline: str
    facts: str
    caveats: list[str]
    parts: tuple[_Part, ...]
    method: list[str]
    left_out: list[tuple[str, str]]
    provenance: list[tuple[str, str]]
    tables: tuple[_Table, ...]


def write(found: Sequence[Findings], out: Path, *, experiments: Sequence[Experiment]) -> Path:
    """Write the report of what was *found* in each run. Files of a report that was there before are replaced."""
    for folder in ("figures", "tables"):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for old in (out / folder).iterdir():
            if old.suffix in {".svg", ".png", ".csv"}:
                old.unlink()
    sections = [
        _section(findings, out, experiments, anchor=f"r{i}-" if len(found) > 1 else "")
        for i, findings in enumerate(found, 1)
    ]
    title = f"Sleep-time compute: {sections[0].name if len(sections) == 1 else f'{len(sections)} runs'}"
    page = out / "report.html"
    page.write_text(
        template("report/paper_report.html.jinja").render(title=title, runs=sections, **STYLE), encoding="utf-8"
    )
    text = template("report/paper_report.md.jinja").render(title=title, runs=sections, md=markdown)
    (out / "report.md").write_text(re.sub(r"\n{3,}", "\n\n", text), encoding="utf-8")
    return page


def as_json(findings: Findings) -> dict[str, Any]:  # Any: JSON
    """Everything that was found, as JSON takes it: what is unknown or has no end is None."""
    return {name: _plain(value) for name, value in asdict(findings).items()}


def _plain(value: Any) -> Any:  # Any: from what a dataclass holds to what JSON takes
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in cast("list[Any]", value)]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value.isoformat() if isinstance(value, date) else value


def _section(findings: Findings, out: Path, experiments: Sequence[Experiment], *, anchor: str) -> _Section:
    source = findings.provenance
    known = {each.id: each for each in experiments}
    wanted = [each.id for each in experiments if each.id in findings.experiments]
    wanted += [name for name in findings.experiments if name not in known]
    return _Section(
        anchor=anchor,
        name=f"{source.model} on {source.dataset}",
        headline=paper_words.headline(findings),
        facts=_facts(findings),
        caveats=paper_words.caveats(findings),
        parts=(
            *(_part(findings, name, known.get(name), out, anchor) for name in wanted),
            _part(findings, CONTROLS, None, out, anchor),
        ),
        method=_method(findings),
        left_out=sorted(findings.not_measured.items()),
        provenance=_provenance(findings),
        tables=tuple(_table(name, rows, out, anchor) for name, rows in tables.tables(findings).items()),
    )


def _part(findings: Findings, name: str, experiment: Experiment | None, out: Path, anchor: str) -> _Part:
    heading = (
        CONTROLS_TITLE if name == CONTROLS else f"{name.upper()} {experiment.title}" if experiment else name.upper()
    )
    return _Part(
        id=name,
        heading=heading,
        claim=_flat(experiment.claim) if experiment else "",
        paper=_flat(experiment.paper) if experiment else CONTROLS_PAPER if name == CONTROLS else "",
        claims=tuple(_brief(claim, findings) for claim in findings.claims if claim.experiment == name),
        silence=findings.not_measured.get(name, "this run makes no claim about it"),
        figures=tuple(_drawn(each, f"{anchor}{name}", out) for each in paper_figures.of(findings, name)),
        lines=tuple(paper_words.key_lines(findings, name)),
        sheets=tuple(paper_words.details(findings, name)),
    )


def _brief(claim: Claim, findings: Findings) -> Claim:
    """Leave out which model and data it holds for, where the whole section says it."""
    source = findings.provenance
    return replace(claim, because=claim.because.removesuffix(f" ({source.model} on {source.dataset})."))


def _flat(words: str) -> str:
    return " ".join(words.split())


def _drawn(
    figure: paper_figures.Figure | paper_figures.Absence, prefix: str, out: Path
) -> _Drawing | paper_figures.Absence:
    """Render a figure into its two files, and hand it back for the page."""
    if isinstance(figure, paper_figures.Absence):
        return figure
    file = re.sub(r"[^\w.-]+", "-", f"{prefix}-{figure.name}")
    svg = drawing.svg(figure.chart)
    (out / "figures" / f"{file}.svg").write_text(drawing.on_white(svg), encoding="utf-8")
    (out / "figures" / f"{file}.png").write_bytes(drawing.png(svg))
    return _Drawing(
        title=figure.title,
        words=figure.words,
        reading=figure.reading,
        svg=Markup(svg),  # noqa: S704  # our own drawing, its words are escaped by the renderer
        file=file,
    )


def _table(name: str, rows: Sequence[Mapping[str, tables.Value]], out: Path, anchor: str) -> _Table:
    """Write a table as CSV, and hand it back for Markdown."""
    head = tuple(rows[0])
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=head, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    file = f"{anchor}{name}"
    (out / "tables" / f"{file}.csv").write_text(text.getvalue(), encoding="utf-8")
    return _Table(
        name=name.replace("_", " ").capitalize(),
        file=file,
        head=head,
        rows=tuple(tuple(_short(row[column]) for column in head) for row in rows),
    )


def _short(value: tables.Value) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
    return str(value)


def _facts(findings: Findings) -> str:
    source = findings.provenance
    seeds = f", seeds {', '.join(map(str, source.seeds))}" if source.seeds else ""
    slept = f" Failed sleeps: {findings.failed_sleeps:,}." if findings.failed_sleeps else ""
    return (
        f"{source.model} on {source.dataset}: {findings.contexts:,} contexts, {findings.queries:,} queries{seeds}. "
        f"Failed answers are missing, not wrong: {findings.failed_answers:,}.{slept}"
    )


def _method(findings: Findings) -> list[str]:
    grouped = "" if findings.clusters == findings.contexts else f" in {findings.clusters:,} groups of like contexts"
    margins = sorted({f"{100 * each.margin:g}" for each in findings.comparisons})
    told = [
        (
            f"Intervals are the middle 95 % of a paired bootstrap over {findings.contexts:,} contexts{grouped}, drawn "
            "whole. Two arms are compared on the queries that both answered. A failed answer is missing, never wrong; "
            "what a failed sleep spent is charged to the others."
        ),
        (
            "Test-time tokens are output tokens spent after the query came, reasoning included; input tokens stand "
            "beside them in the tables. Sleep tokens are output tokens of the sleep."
        ),
    ]
    if margins:
        told.append(
            f"Accuracies count as equal when a level with sleep is shown to be less than {' or '.join(margins)} points "
            "below the best level without it, by a bound that counts one group more than was drawn, in which sleep "
            "lost every query. The arm without sleep is charged for its cheapest level within that margin of its best. "
            "Levels are chosen once, on the whole sample, which the intervals leave out."
        )
    return told


def _provenance(findings: Findings) -> list[tuple[str, str]]:
    source = findings.provenance
    spent = "unknown: no price is known" if findings.spent_usd is None else f"{findings.spent_usd:.4f} USD"
    told = [
        ("Model", source.model + (f", sha256 {source.model_sha256}" if source.model_sha256 else "")),
        ("Sleep model", source.sleep_model),
        ("Scoring model", source.scoring_model),
        ("Dataset", f"{source.dataset}, sha256 {source.dataset_sha256}"),
        ("From", source.dataset_source),
        ("Licence", source.licence),
        ("Split", source.split),
        ("Seeds", ", ".join(map(str, source.seeds))),
        ("Limit", "" if source.limit is None else f"{source.limit:,} contexts of each seed"),
        ("Prompts", ", ".join(f"{name} {mark}" for name, mark in source.prompt_fingerprints.items())),
        ("Prices", _card(findings.price)),
        ("Prices of sleep", _card(findings.sleep_price) if findings.sleep_price != findings.price else ""),
        ("Paid", f"{findings.paid_calls:,} calls, {spent}"),
        ("Machine", f"{source.machine}, {source.wall_s:,.0f} s"),
        ("Versions", ", ".join(f"{package} {number}" for package, number in source.versions.items())),
        ("Commit", source.commit or ""),
        ("Began", source.began_at.isoformat(sep=" ", timespec="minutes")),
    ]
    return [(name, value) for name, value in told if value]


def _card(card: PriceCard | None) -> str:
    if card is None:
        return ""
    cached = card.cached_input_usd_per_mtok
    told = "" if cached is None else f"${cached:g} cached input, "
    return (
        f"{card.name}, {card.dated.isoformat()}, per million tokens: ${card.input_usd_per_mtok:g} input, {told}"
        f"${card.output_usd_per_mtok:g} output"
    )
