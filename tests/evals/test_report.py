import re
from dataclasses import replace
from html.parser import HTMLParser

import anyio
import pytest
from thinker import measure, thinker

from sleeptime.evals.demo import figures, report
from sleeptime.evals.demo.curves import AS_CACHED, LEVELS_CHOSEN, DemoResult

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Outline(HTMLParser):
    """What a page holds: its tags in order, and whether each that opens is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(result: DemoResult) -> str:
    return report.render_html(result)


def charts(result: DemoResult) -> list[str]:
    assert result.costs is not None
    drawn = (
        figures.accuracy_by_tokens(result),
        figures.gain_by_predictability(result),
        figures.cost_by_queries(result.costs),
    )
    return [figures.svg(chart) for chart in drawn]


def test_every_colour_of_a_figure_has_a_dark_counterpart(result: DemoResult) -> None:
    for drawing in charts(result):
        colours = set(re.findall(r'(?:fill|stroke)="(#[0-9a-fA-F]+|[a-z]+)"', drawing)) - {"none", "transparent"}
        assert colours <= set(figures.DARK)
        assert figures.SLEEP in colours


def test_figures_name_their_lines_and_axes(result: DemoResult) -> None:
    accuracy, gain, cost = charts(result)

    assert "test-time tokens per query (log scale)" in accuracy
    assert "15.5× fewer tokens" in accuracy
    assert "half of them" in gain
    assert "a sleep pays from the first query" in cost


def places(drawing: str, words: str) -> list[tuple[float, float]]:
    found = re.findall(rf"<text [^>]*translate\(([-\d.]+),([-\d.]+)\)[^>]*>{re.escape(words)}</text>", drawing)
    return [(float(x), float(y)) for x, y in found]


def test_levels_that_lie_on_one_another_share_a_label(result: DemoResult) -> None:
    v1 = result.point("sleep", "v1")
    points = tuple(
        replace(v1, level=p.level) if p.arm == "sleep" and p.level in ("v2", "v3") else p for p in result.points
    )

    drawing = figures.svg(figures.accuracy_by_tokens(replace(result, points=points)))

    assert len(places(drawing, "v1, v2, v3")) == 1
    assert [len(places(drawing, level)) for level in ("v0", "v1", "v2", "v3", "v4")] == [2, 1, 1, 1, 2]


@pytest.mark.parametrize(("without", "with_sleep"), [(62.0, 4.0), (32.4, 29.1), (29.1, 32.4), (1.2, 1.0)])
def test_the_names_of_two_lines_never_meet(result: DemoResult, without: float, with_sleep: float) -> None:
    assert result.costs is not None
    costs = replace(result.costs, without=without, with_sleep=with_sleep)

    drawing = figures.svg(figures.cost_by_queries(costs))

    plain, slept = places(drawing, "no sleep"), places(drawing, "with sleep")
    assert len(plain) == len(slept) == 2
    for (_, above), (_, below) in zip(plain, slept, strict=True):
        assert abs(above - below) >= 12


def test_a_figure_can_be_drawn_of_any_result_even_one_full_of_gaps() -> None:
    gaps = frozenset({"context v0", "context v1", "context v2", "context v3", "context v4", "log_prob"})
    result = anyio.run(lambda: measure(thinker(2, fails=gaps), contexts=2))

    page = report.render_html(result)

    assert "nothing was measured without sleep" in page
    assert "Not drawn" in page


def test_the_page_is_well_formed_and_needs_nothing_from_anywhere(page: str) -> None:
    outline = Outline(page)

    assert outline.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(outline.tags)
    assert not [
        name for name, _ in outline.attributes if name in ("src", "href", "xlink:href") or name.startswith("on")
    ]
    assert "url(" not in page
    assert "@import" not in page
    assert len(page.encode()) < 1_000_000


def test_the_page_speaks_to_those_who_cannot_see_it(page: str) -> None:
    outline = Outline(page)
    labels = [value for name, value in outline.attributes if name == "aria-label" and value]

    assert outline.tags.count("h1") == 1
    assert '<html lang="en">' in page
    assert any("no sleep at v4: 98 percent" in label or "no sleep at v4: 99 percent" in label for label in labels)


def test_what_a_model_or_a_context_wrote_is_text_and_never_markup(result: DemoResult) -> None:
    assert result.example is not None
    evil = "<script>alert('x')</script> {{ 7 * 7 }} [bold]&amp;"
    row = replace(result.example.answers[0], text=evil)
    example = replace(result.example, context=evil, notes=(evil,), question=evil, answers=(row,))
    spoiled = replace(result, example=example, provenance=replace(result.provenance, model=evil))

    page, text = report.render_html(spoiled), report.render_text(spoiled, width=100)

    assert "<script" not in page
    assert "{{ 7 * 7 }}" in page
    assert text.count(evil) == 5
    Outline(page)


def test_the_headline_says_no_more_than_was_shown(result: DemoResult) -> None:
    unsure = anyio.run(lambda: measure(thinker(12), contexts=12))

    assert "15.5 times fewer (95 % interval 15.5 to 15.5)" in report.headline(result)
    assert unsure.costs is not None
    assert not unsure.costs.is_shown
    assert "12 contexts are too few to be sure" in report.headline(unsure)


def test_where_no_level_is_as_accurate_the_headline_gives_both_accuracies_and_claims_no_saving() -> None:
    worse = anyio.run(lambda: measure(thinker(32, slip=0.0, wrong_notes=0.3), contexts=32))

    assert worse.costs is None
    assert "for 100.0 %. No saving at equal accuracy was shown" in report.headline(worse)
    assert [line.verdict for line in report.lines(worse) if line.name == "token_ratio"] == ["not shown"]


def test_targets_are_told_as_met_or_missed(result: DemoResult) -> None:
    verdicts = {line.name: (line.value, line.target, line.verdict) for line in report.lines(result)}

    assert verdicts["token_ratio"] == ("15.5×", "≥ 10", "met")
    assert verdicts["predictability_rho"][1:] == ("≥ 0.8", "missed")
    assert verdicts["notes_correct_share"][2] == ""
    assert verdicts["pooled"][2] == "positive"


def test_the_method_tells_what_the_intervals_leave_out_and_what_failed() -> None:
    failing = anyio.run(lambda: measure(thinker(4, sleepless=1), contexts=4))

    page, text = " ".join(report.render_html(failing).split()), " ".join(report.render_text(failing).split())

    assert f"{LEVELS_CHOSEN}." in page
    assert "What a failed sleep spent is charged to the others (1 here)." in page
    assert "0 failed calls, 1 failed sleeps" in text


def test_a_reason_is_given_once_but_missing_queries_beside_every_figure() -> None:
    failing = anyio.run(lambda: measure(thinker(4, sleepless=1), contexts=4))

    notes = {line.name: line.note for line in report.lines(failing)}

    assert notes["accuracy_gain_v0"] == notes["limited_gain_v0"] == notes["cost_ratio_t2"] == "4 missing"
    assert notes["token_ratio"].endswith("draw more; 4 missing")
    assert notes["money_ratio_as_cached"] == f"{AS_CACHED}; 4 missing"


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (0.1234, "share", "12.3 %"),
        (-0.02, "points", "−2.0 points"),
        (0.3, "points", "+30.0 points"),
        (-0.0001, "points", "0.0 points"),
        (15.55, "times", "15.6×"),
        (0.97, "times", "0.97×"),
        (-0.5, "rank", "−0.50"),
        (None, "times", "–"),
    ],
)
def test_numbers_are_written_as_they_are_read(number: float | None, unit: report.Unit, text: str) -> None:
    assert report.written(number, unit) == text


@pytest.mark.parametrize("width", [40, 80, 132])
def test_the_terminal_text_is_as_wide_as_it_is_told(result: DemoResult, width: int) -> None:
    text = report.render_text(result, width=width)

    assert max(len(line) for line in text.splitlines()) <= width
    assert "Then somebody asks" in text
    assert " ".join(text.split()).count(report.CAVEAT) == 1


def test_colour_is_used_only_where_it_is_wanted(result: DemoResult) -> None:
    assert "\x1b" not in report.render_text(result)
    assert "\x1b[" in report.render_text(result, color=True)
