import csv
import io
import itertools
import json
import math
import re
import struct
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import found
import numpy as np
import pytest

from sleeptime.core.usage import Usage
from sleeptime.evals.analysis import tables
from sleeptime.evals.analysis.analyse import analyse
from sleeptime.evals.analysis.findings import Claim, Findings
from sleeptime.evals.analysis.stats import Match
from sleeptime.evals.report import drawing, page, paper_figures, paper_report, paper_words
from sleeptime.evals.report.paper_figures import Absence, Figure
from sleeptime.evals.runs import experiments
from sleeptime.evals.runs.results import Asked, Cell, Row, Run, Sleeping, Slept

VOID = {"meta", "link", "br", "hr", "img", "input"}
PARTS = ("e1", "e3", "e4", "e5", "e6", "e8", "controls")
KNOWN = [experiments.load(name) for name in experiments.names()]
EVIL = "<script>alert('x')</script> {{ 7 * 7 }} | **b** `c` \"d\" &amp;"


class Page(HTMLParser):
    """What a page holds: its tags, whether each that opens is closed, its attributes, its words, its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.words = ""
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open or "svg" in self.open:
            return
        self.words += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def table(self, *head: str) -> list[list[str]]:
        """The rows of the first table whose first columns have these names."""
        return next(rows[1:] for rows in self.tables if tuple(rows[0][: len(head)]) == head)

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name and value is not None]


def written(out: Path, *found_in_runs: Findings) -> Page:
    path = paper_report.write(found_in_runs, out, experiments=KNOWN)
    assert path == out / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314  # we drew it


def flat(words: str) -> str:
    return " ".join(words.split())


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def whole(out: Path) -> Page:
    return written(out, found.findings())


def test_the_page_is_well_formed_and_needs_nothing_from_anywhere(whole: Page, out: Path) -> None:
    text = (out / "report.html").read_text(encoding="utf-8")
    links = whole.values("href")

    assert whole.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(whole.tags)
    assert not whole.values("src") + whole.values("srcset") + whole.values("xlink:href")
    assert not [name for _, name, _ in whole.attributes if name.startswith("on")]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(whole.values("id"))
    assert "url(" not in text
    assert "@import" not in text
    assert len(text.encode()) < 1_500_000


def test_it_speaks_to_those_who_cannot_see_it(whole: Page) -> None:
    images = [value for tag, name, value in whole.attributes if (tag, name) == ("div", "role") and value == "img"]
    labels = whole.values("aria-label")
    levels = [int(tag[1]) for tag in whole.tags if re.fullmatch(r"h[1-6]", tag)]

    assert len(images) == 11
    assert any("no sleep at v4: 86.0 percent with 240.0 tokens" in label for label in labels)
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(set(whole.values("id"))) == len(whole.values("id"))
    assert set(whole.values("aria-labelledby")) <= set(whole.values("id"))
    assert [tag for tag, name, _ in whole.attributes if name == "scope"] == ["th"] * whole.tags.count("th")


def test_every_claim_is_told_with_its_verdict_and_its_figures(whole: Page) -> None:
    rows = {row[0]: row[1:] for row in whole.table("claim", "verdict") if len(row) == 3}

    assert len({claim.verdict for claim in found.CLAIMS}) == 4
    assert {claim.words: [claim.verdict, claim.because] for claim in found.CLAIMS}.items() <= rows.items()


def test_what_an_experiment_claimed_and_what_the_paper_found_stand_before_its_figures(whole: Page) -> None:
    words = flat(whole.words)

    for experiment in KNOWN:
        if experiment.id in found.findings().experiments:
            assert f"Claimed before the run{flat(experiment.claim)}" in words
            assert flat(experiment.paper) in words


def test_the_numbers_on_the_page_are_those_that_were_found(whole: Page) -> None:
    shown = {
        (row[0], row[1]): row[2:4]
        for row in whole.table("arm", "level", "accuracy", "test-time tokens", "input tokens")
    }

    for arm, levels in found.ACCURACY.items():
        for level, (accuracy, tokens) in levels.items():
            accuracy_shown, tokens_shown = shown[paper_words.ARMS[arm], level]
            assert float(accuracy_shown.split(" %")[0]) == pytest.approx(100 * accuracy, abs=0.05)
            assert float(tokens_shown.split(" ")[0]) == pytest.approx(tokens, abs=0.05)


def test_key_numbers_keep_their_intervals(whole: Page) -> None:
    rows = {row[0]: row[1:] for table in whole.tables if table[0][0] == "number" for row in table[1:]}

    assert rows["Sleep over pass@10 at v0, at equal test-time tokens"] == [
        "+21.0 points",
        "+16.0 to +26.0",
        str(found.QUERIES),
        str(found.CONTEXTS),
    ]
    assert rows["The same for the accuracy of v2 without sleep (sleep, sees context and notes)"][0] == "3.00×"
    assert rows["Queries per context from which sleep pays, t\u00a0=\u00a04"][:2] == ["1.7", "1.4 to 2.0"]


def test_a_saving_of_nothing_is_told_as_never_reached() -> None:
    never = replace(found.comparison(), savings=(("v4", replace(found.measure(0.0), low=0.0)),))

    told = {
        line.words: (line.value, line.note)
        for line in paper_words.key_lines(found.findings(comparisons=(never,)), "e1")
    }

    assert ("0.00×", paper_words.NEVER_REACHED) in told.values()


def test_what_failed_and_where_it_comes_from_is_told(whole: Page) -> None:
    words = flat(whole.words)
    source = found.provenance()

    assert "Failed answers are missing, not wrong: 7." in words
    assert "120 contexts, 480 queries, seeds 1, 2, 3" in words
    for told in (source.dataset_sha256, source.licence, source.machine, "answer-v0 0123456789ab", "abc1234", "1,834 s"):
        assert told in words
    assert "4,321 calls, 1.2340 USD" in words


def test_csv_reads_back_as_the_tables_it_was_written_from(whole: Page, out: Path) -> None:
    made = tables.tables(found.findings())

    assert whole.tables
    assert {path.stem for path in (out / "tables").iterdir()} == set(made)
    for name, rows in made.items():
        read = list(csv.DictReader(io.StringIO((out / "tables" / f"{name}.csv").read_text(encoding="utf-8"))))
        assert len(read) == len(rows)
        for row, wanted in zip(read, rows, strict=True):
            for column, value in wanted.items():
                if isinstance(value, float):
                    assert float(row[column]) == value
                else:
                    assert row[column] == ("" if value is None else str(value))


def test_every_figure_lies_beside_the_page_as_png_and_svg(whole: Page, out: Path) -> None:
    names = {path.stem for path in (out / "figures").iterdir()}

    assert len(names) == whole.tags.count("figure") == 11
    for name in names:
        png = (out / "figures" / f"{name}.png").read_bytes()
        width, height = struct.unpack(">II", png[16:24])
        root = parsed((out / "figures" / f"{name}.svg").read_text(encoding="utf-8"))
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        assert png.endswith(b"IEND\xaeB`\x82")
        assert 1100 < width < 1600
        assert 200 < height < 1500
        assert root.tag.endswith("svg")
        assert abs(float(root.attrib["width"]) * drawing.PIXEL_RATIO - width) <= 2
        assert root[0].attrib["fill"] == drawing.PAGES[0]


def test_markdown_has_tables_of_equal_rows_and_shows_every_figure(whole: Page, out: Path) -> None:
    text = (out / "report.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"!\[[^\]]*\]\((figures/[^)]+\.png)\)", text))

    assert whole.tables
    assert shown == {f"figures/{path.name}" for path in (out / "figures").iterdir() if path.suffix == ".png"}
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        columns = [len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()]
        assert len(set(columns)) == 1
        assert re.fullmatch(r"\|( -+:? \|)+", block.splitlines()[1])


def test_several_runs_stand_on_one_page_without_mixing(tmp_path: Path) -> None:
    other = found.findings(provenance=replace(found.provenance(), model="pretend:thinker-2"))

    both = written(tmp_path, found.findings(), other)

    assert both.open == []
    assert len(set(both.values("id"))) == len(both.values("id"))
    assert both.tags.count("article") == 2
    assert both.tags.count("h1") == 1
    assert "pretend:thinker-1 on made-up-sums" in both.words
    assert "pretend:thinker-2 on made-up-sums" in both.words
    assert (tmp_path / "tables" / "r2-points.csv").exists()
    assert (tmp_path / "figures" / "r1-e1-accuracy.png").exists()


def test_a_second_report_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    written(tmp_path, found.findings(experiments=("e8",)))

    written(tmp_path, found.nothing())

    assert list((tmp_path / "figures").iterdir()) == []
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["not_measured.csv"]


def test_where_nothing_was_measured_each_section_says_why(tmp_path: Path) -> None:
    empty = written(tmp_path, found.nothing())
    words = flat(empty.words)

    assert "svg" not in empty.tags
    assert words.count("Not drawn: ") == 9
    assert "Not drawn: thinker-1 gives no log-probabilities." in words
    assert "Not drawn: guess/v0: thinker-1 refuses to guess." in words
    assert "Not drawn: merged/v0/k2: thinker-1 cannot merge notes." in words
    assert "No sleep and sleep were not both measured." in words


@pytest.mark.parametrize(
    ("changes", "part", "why"),
    [
        ({"amortisation": None}, "e5", "no level with sleep comes within 2 points of v4 without sleep"),
        ({"draws": (), "not_measured": {"draws/v0/t0.7": "spent"}}, "e3", "draws/v0/t0.7: spent"),
        ({"scaling": found.scaling()[:7], "not_measured": {"sleep/v0/effort=low": "no"}}, "e4", "effort=low: no"),
        ({"equal_totals": ()}, "controls", "no number of draws without sleep fits"),
    ],
)
def test_a_figure_without_data_is_told_rather_than_drawn_empty(changes: dict[str, object], part: str, why: str) -> None:
    drawn = paper_figures.of(found.findings(**changes), part)

    assert [each for each in drawn if isinstance(each, Absence) and why in each.why]


def test_what_a_model_or_a_dataset_wrote_is_text_and_never_markup(tmp_path: Path) -> None:
    claim = Claim(experiment="e1", words=EVIL, verdict="shown", because=EVIL)
    strata = tuple(replace(each, stratum=EVIL) for each in found.findings().strata)
    source = replace(found.provenance(), model=EVIL, dataset=EVIL, licence=EVIL, prompt_fingerprints={EVIL: EVIL})
    hostile = found.findings(
        experiments=("e1",), claims=(claim,), strata=strata, provenance=source, not_measured={EVIL: EVIL}
    )

    spoiled = written(tmp_path, hostile)
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")

    assert "script" not in spoiled.tags
    assert spoiled.words.count(EVIL) > 5
    assert "<script" not in re.sub(r"\\<", "", markdown)
    assert page.markdown("a | b\n<i>") == r"a \| b \<i\>"
    for path in (tmp_path / "figures").glob("*.svg"):
        parsed(path.read_text(encoding="utf-8"))


def test_a_headline_says_no_more_than_was_shown() -> None:
    shown = found.findings()
    first = shown.comparisons[0]
    unsure = replace(first, token_ratio=found.measure(None), match=replace(first.match, with_sleep=None))
    worse = replace(
        unsure, as_measured=found.measure(None), match=Match(best="v4", without="v4", reason="no level comes close")
    )

    assert "3.93 times fewer test-time tokens (95 % interval 3.62 to 4.24)" in paper_words.headline(shown)
    assert "4 shown, 1 not shown, 1 contradicted, 1 not measured" in paper_words.headline(shown)
    assert "too few to be sure" in paper_words.headline(found.findings(comparisons=(unsure,)))
    said = paper_words.headline(found.findings(comparisons=(worse,)))
    assert "No saving at equal accuracy was shown: no level comes close." in said
    assert "fewer" not in said


def test_a_tiny_model_or_few_contexts_are_told_at_the_top() -> None:
    tiny = found.findings(provenance=replace(found.provenance(), model="tiny"), clusters=500)

    assert paper_words.caveats(tiny) == [paper_words.TINY_CAVEAT]
    assert ["60 independent groups" in caveat for caveat in paper_words.caveats(found.findings())] == [True]


def test_an_interval_without_end_is_told_as_one() -> None:
    spread = found.amortisation()
    ends = tuple(replace(each, queries=replace(each.queries, high=None)) for each in spread.break_evens)
    never = tuple(replace(each, queries=found.measure(None)) for each in spread.break_evens)

    text = svg_of(found.findings(amortisation=replace(spread, break_evens=ends)), "e5", "cost")
    not_at_all = svg_of(found.findings(amortisation=replace(spread, break_evens=never)), "e5", "cost")

    assert "pays from N = 3.4 (3.1 to never)" in text
    assert "sleep never pays" in not_at_all


def test_json_holds_finite_numbers_and_none_for_what_is_unknown() -> None:
    spoiled = found.findings(spent_usd=None, comparisons=(replace(found.comparison(), margin=math.inf),))

    told = paper_report.as_json(spoiled)

    assert json.loads(json.dumps(told, allow_nan=False))["spent_usd"] is None
    assert told["comparisons"][0]["margin"] is None
    assert told["comparisons"][0]["token_ratio"]["value"] == 3.93
    assert told["points"][0]["accuracy"]["low"] == pytest.approx(0.12 - 0.035)
    assert told["provenance"]["began_at"] == "2026-11-24T09:30:00+00:00"


def svg_of(findings: Findings, part: str, name: str) -> str:
    drawn = next(each for each in paper_figures.of(findings, part) if isinstance(each, Figure) and each.name == name)
    return drawing.svg(drawn.chart)


def test_every_colour_of_a_figure_has_a_dark_counterpart_on_the_page(whole: Page, out: Path) -> None:
    text = (out / "report.html").read_text(encoding="utf-8")
    css = text[text.index("<style>") : text.index("</style>")]

    assert whole.tables
    for path in (out / "figures").glob("*.svg"):
        drawn = path.read_text(encoding="utf-8")
        colours = set(re.findall(r'(?:fill|stroke)="(#[0-9a-fA-F]+|[a-z]+)"', drawn)) - {"none", "transparent"}
        assert colours <= set(drawing.DARK), path.name
        for colour in colours:
            assert f'svg [fill="{colour}"]' in css
            assert f'svg [stroke="{colour}"]' in css
    dark = css[css.index("prefers-color-scheme: dark") : css.index("svg [")]
    assert all(colour in dark for colour in drawing.DARK.values())


CONFUSIONS = {
    "none": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
"""Machado, Oliveira and Fernandes 2009, whole severity, over linear RGB."""


def linear(colour: str) -> np.ndarray:
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def oklab(light: np.ndarray) -> np.ndarray:
    cones = np.array([[0.4122, 0.5363, 0.0515], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]])
    lab = np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]])
    return lab @ np.cbrt(cones @ np.clip(light, 0, 1))


@pytest.mark.parametrize("kind", CONFUSIONS)
@pytest.mark.parametrize("is_dark", [False, True])
def test_arms_that_meet_in_a_figure_keep_apart_for_every_kind_of_colour_blindness(*, kind: str, is_dark: bool) -> None:
    meet = [
        (drawing.SLEEP, drawing.NO_SLEEP),
        *itertools.product((drawing.LEARNED, drawing.MERGED, drawing.GUESS), (drawing.SLEEP, drawing.NO_SLEEP)),
    ]
    for pair in meet:
        seen = [
            oklab(np.array(CONFUSIONS[kind]) @ linear(drawing.DARK[colour] if is_dark else colour)) for colour in pair
        ]
        assert np.linalg.norm(seen[0] - seen[1]) > 0.07, pair


@pytest.mark.parametrize("is_dark", [False, True])
def test_words_stand_out_from_the_page_by_four_and_a_half_to_one(*, is_dark: bool) -> None:
    weights = np.array([0.2126, 0.7152, 0.0722])
    behind = float(weights @ linear(drawing.PAGES[is_dark]))
    for colour in set(drawing.DARK) - {drawing.PAGES[0], drawing.GRID}:
        ink = float(weights @ linear(drawing.DARK[colour] if is_dark else colour))
        light, dim = max(ink, behind), min(ink, behind)
        assert (light + 0.05) / (dim + 0.05) >= 4.5, colour


Box = tuple[float, float, float, float]


def boxes_and_strokes(svg: str) -> tuple[dict[str, Box], list[tuple[float, float]]]:
    """Where the words of a drawing's marks are, and points every pixel along its lines."""
    words: dict[str, Box] = {}
    strokes: list[tuple[float, float]] = []

    def visit(node: ET.Element, x: float, y: float, mark: str) -> None:
        moved = re.match(r"translate\(([-\d.]+),\s*([-\d.]+)\)", node.attrib.get("transform", ""))
        if moved:
            x, y = x + float(moved[1]), y + float(moved[2])
        mark = node.attrib.get("class", mark)
        if (
            node.tag.endswith("text")
            and mark.startswith("mark-text")
            and node.text
            and "rotate" not in str(node.attrib)
        ):
            size = float(node.attrib["font-size"].removesuffix("px"))
            width = 0.56 * size * len(node.text)
            left = x - {"start": 0.0, "middle": 0.5, "end": 1.0}[node.attrib["text-anchor"]] * width
            words[f"{node.text} #{len(words)}"] = (left, y - 0.72 * size, left + width, y + 0.12 * size)
        if node.tag.endswith("path") and mark.startswith("mark-line"):
            ends = [(x + float(a), y + float(b)) for a, b in re.findall(r"[ML]([-\d.]+),([-\d.]+)", node.attrib["d"])]
            for start, end in itertools.pairwise(ends):
                steps = max(1, math.ceil(math.dist(start, end)))
                strokes.extend(
                    (start[0] + (end[0] - start[0]) * i / steps, start[1] + (end[1] - start[1]) * i / steps)
                    for i in range(steps + 1)
                )
        for child in node:
            visit(child, x, y, mark)

    visit(parsed(svg), 0.0, 0.0, "")
    return words, strokes


def coincident() -> Findings:
    """All levels of all arms but one take the same tokens for the same accuracy."""
    together = tuple(
        found.point(arm, level, 0.97, 3.0) for arm in ("sleep", "learned") for level in ("v0", "v1", "v2", "v3", "v4")
    )
    spread = (found.point("no_sleep", f"v{i}", 0.9 + 0.02 * i, 3.0 + i / 10) for i in range(5))
    return found.findings(points=(*together, *spread))


def equal_costs() -> Findings:
    spread = found.amortisation()
    points = tuple(replace(each, with_sleep=each.without, ratio=found.measure(1.0)) for each in spread.points)
    return found.findings(amortisation=replace(spread, points=points))


@pytest.mark.parametrize(
    ("findings", "parts"),
    [
        (found.findings(), PARTS),
        (coincident(), ("e1", "e3")),
        (equal_costs(), ("e5",)),
        (found.findings(points=found.points()[:1]), ("e1",)),
    ],
    ids=["usual", "coincident", "equal costs", "one point"],
)
def test_words_in_figures_meet_neither_each_other_nor_a_line(findings: Findings, parts: tuple[str, ...]) -> None:
    drawn = [each for part in parts for each in paper_figures.of(findings, part) if isinstance(each, Figure)]

    assert drawn
    for figure in drawn:
        words, strokes = boxes_and_strokes(drawing.svg(figure.chart))
        assert len(words) > 5
        assert strokes
        for (one, first), (other, second) in itertools.combinations(words.items(), 2):
            assert first[2] <= second[0] or second[2] <= first[0] or first[3] <= second[1] or second[3] <= first[1], (
                f"{figure.name}: {one!r} meets {other!r}"
            )
        for word, (left, top, right, bottom) in words.items():
            assert not [(x, y) for x, y in strokes if left < x < right and top < y < bottom], (
                f"{figure.name}: a line runs through {word!r}"
            )


def test_points_that_lie_together_share_a_label() -> None:
    words, _ = boxes_and_strokes(svg_of(coincident(), "e1", "accuracy"))

    assert [word.split(" #")[0] for word in words].count("v0, v1, v2, v3, v4") == 2


def small_run() -> Run:
    """Eight contexts, a query each: without sleep right at v4 alone, with sleep everywhere; one answer failed."""
    asked = tuple(
        Asked(id=f"c{i}q", context_id=f"c{i}", cluster=f"c{i}", question=f"Which {i}?", target=str(i)) for i in range(8)
    )
    cells = tuple(
        Cell(arm=arm, level=level, sleeping=Sleeping() if arm == "sleep" else None)
        for arm in ("no_sleep", "sleep")
        for level in ("v0", "v4")
    )
    rows = tuple(
        Row(
            cell=cell.id,
            sample_id=query.id,
            is_correct=cell.arm == "sleep" or cell.level == "v4",
            usage=Usage(input_tokens=50, output_tokens=5 if cell.level == "v0" else 60),
        )
        for cell in cells
        for query in asked
    )
    failed = replace(rows[0], is_correct=None, usage=Usage(), error="the connection broke")
    return Run(
        experiments=("e1",),
        cells=cells,
        asked=asked,
        rows=(failed, *rows[1:]),
        slept=tuple(
            Slept(
                context_id=query.context_id,
                sleeping=Sleeping(),
                calls=(Usage(input_tokens=40, output_tokens=100),),
                rounds=1,
            )
            for query in asked
        ),
        surprises=(),
        not_measured={},
        price=None,
        sleep_price=None,
        provenance=found.provenance(),
    )


def test_a_run_is_written_from_its_rows_to_its_page(tmp_path: Path) -> None:
    run = small_run()

    findings = analyse(run)
    path = paper_report.write([findings], tmp_path / "new" / "report", experiments=KNOWN)
    told = paper_report.as_json(findings)

    words = flat(Page(path.read_text(encoding="utf-8")).words)
    assert "8 contexts, 8 queries" in words
    assert "Failed answers are missing, not wrong: 1." in words
    accuracies = {point["cell"]: point["accuracy"]["value"] for point in told["points"]}
    assert accuracies == {"no_sleep/v0": 0.0, "no_sleep/v4": 1.0, "sleep/v0": 1.0, "sleep/v4": 1.0}
    assert json.dumps(told, allow_nan=False)
