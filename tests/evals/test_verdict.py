"""What a run means in words: each kind of findings, its verdict, and the figures that it quotes."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from found import ACCURACY, amortisation, comparison, control, findings, measure, nothing, point, provenance
from hypothesis import given
from hypothesis import strategies as st

from sleeptime.evals.analysis.findings import BreakEven, Comparison, EqualTotal, Findings, Measure, Point
from sleeptime.evals.report.verdict import Outcome, budget, contexts_to_show, judge, least_contexts, render_text
from sleeptime.evals.runs.results import Arm

NOT_SHOWN = measure(None, note="equal accuracy was not shown")


def unshown(gains: Mapping[str, tuple[float, float]], *, nearest: str | None = None) -> Comparison:
    """A comparison in which equal accuracy is not shown, with gains and half widths by level."""
    whole = comparison()
    return replace(
        whole,
        match=replace(whole.match, with_sleep=None, nearest=nearest, reason="it was not shown"),
        token_ratio=NOT_SHOWN,
        gains=tuple((level, measure(gain, wide)) for level, (gain, wide) in gains.items()),
    )


def curve(arm: Arm, **accuracies: float) -> tuple[Point, ...]:
    return tuple(point(arm, level, accuracy, ACCURACY[arm][level][1]) for level, accuracy in accuracies.items())


def breaking_even(queries: Measure) -> Findings:
    ends = (BreakEven(price=10.0, is_cached=False, queries=queries),)
    return findings(amortisation=replace(amortisation(), break_evens=ends))


def test_a_run_that_pays_says_at_which_budget_and_from_how_many_queries() -> None:
    verdict = judge(findings())

    assert (verdict.outcome, verdict.level, verdict.from_queries) == ("pays", "v3", 3)
    assert "from 3 queries per context" in verdict.headline
    assert "3.93× (3.62 to 4.24)" in verdict.headline
    assert "480 queries of 120 contexts" in verdict.sureness
    assert verdict.advice[0] == "Set budget 3 with sleep for contexts with 3 queries or more."
    assert verdict.advice[1] == "For contexts with fewer, answer at budget 4 without sleep."


@pytest.mark.parametrize(
    ("queries", "safe"),
    [
        (measure(0.7, 0.3), 1),
        (measure(0.7, 0.4), 2),
        (measure(2.0, 0.0), 2),
        (replace(measure(2.4, 0.5), high=None), 3),
        (measure(7.5, 2.0), 10),
    ],
)
def test_the_number_of_queries_is_a_safe_one(queries: Measure, safe: int) -> None:
    verdict = judge(breaking_even(queries))

    assert (verdict.outcome, verdict.from_queries) == ("pays", safe)
    is_open = queries.high is None
    assert any("at the far end of its interval it never pays" in line for line in verdict.advice) == is_open


def test_data_with_fewer_queries_a_context_than_it_takes_is_told_so() -> None:
    verdict = judge(breaking_even(measure(7.0, 1.0)))

    assert any("4.0 queries a context" in line and "make-queries" in line for line in verdict.advice)
    assert not any("make-queries" in line for line in judge(breaking_even(measure(2.0, 1.0))).advice)


def test_money_with_its_cache_decides_where_prices_are_known_and_the_papers_price_where_not() -> None:
    money = [end for end in amortisation().break_evens if end.price is None]
    tokens = [end for end in amortisation().break_evens if end.price is not None]

    assert "in money: 2.7 (2.4 to 3.0)" in judge(findings()).sureness
    assert money[0].is_cached is False
    without = replace(amortisation(), break_evens=tuple(tokens))
    assert "at t = 10: 0.7 (0.4 to 1.0)" in judge(findings(amortisation=without)).sureness


def test_a_sleep_that_no_number_of_queries_pays_for_does_not_pay() -> None:
    never = replace(measure(1.0), value=None, low=40.0, high=None)

    verdict = judge(breaking_even(never))

    assert (verdict.outcome, verdict.from_queries) == ("does not pay", None)
    assert "at no number of queries" in verdict.headline


def test_a_sleep_whose_cost_is_not_known_is_no_verdict_against_it() -> None:
    assert judge(findings(amortisation=None)).outcome == "not measured"
    assert judge(breaking_even(NOT_SHOWN)).outcome == "not measured"


def test_a_gain_at_low_budgets_is_told_where_equal_accuracy_is_not_shown() -> None:
    gains = {"v0": (0.51, 0.06), "v1": (0.43, 0.06), "v3": (0.02, 0.05), "v4": (-0.09, 0.05)}

    verdict = judge(findings(comparisons=(unshown(gains),)))

    assert (verdict.outcome, verdict.level, verdict.from_queries) == ("pays at low budgets", "v0", None)
    assert "budget 0 or 1" in verdict.headline
    assert "+51.0 points (+45.0 to +57.0)" in verdict.headline
    assert "410.0 (398.0 to 422.0) sleep tokens a context" in verdict.sureness
    assert any("Do not sleep for answers at budget 4" in line for line in verdict.advice)


CASES: list[tuple[str, dict[str, tuple[float, float]], str | None, Outcome]] = [
    ("a small gain that an interval holds", {"v0": (0.03, 0.05), "v4": (-0.01, 0.05)}, None, "too few contexts"),
    ("a gain just above nothing", {"v0": (0.03, 0.02), "v4": (-0.01, 0.05)}, None, "pays at low budgets"),
    ("shown to gain nothing", {"v0": (0.0, 0.015), "v4": (-0.01, 0.02)}, None, "does not pay"),
    ("shown to lose", {"v0": (-0.2, 0.05), "v4": (-0.1, 0.05)}, None, "does not pay"),
    ("near the best, and not shown", {"v0": (-0.2, 0.05), "v3": (0.01, 0.04)}, "v3", "too few contexts"),
]


@pytest.mark.parametrize(("gains", "nearest", "outcome"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_the_intervals_hold_decides(
    gains: dict[str, tuple[float, float]], nearest: str | None, outcome: Outcome
) -> None:
    assert judge(findings(comparisons=(unshown(gains, nearest=nearest),))).outcome == outcome


def test_shown_to_take_more_tokens_for_equal_accuracy_does_not_pay() -> None:
    dear = replace(comparison(), token_ratio=measure(0.7, 0.1), gains=(("v3", measure(0.0, 0.01)),))

    verdict = judge(findings(comparisons=(dear,)))

    assert verdict.outcome == "does not pay"
    assert "0.70× (0.60 to 0.80)" in verdict.sureness
    assert verdict.advice[0] == "Answer at budget 4 without sleep."


def test_a_ratio_whose_interval_holds_one_decides_nothing() -> None:
    even = replace(comparison(), token_ratio=measure(1.05, 0.1), gains=(("v3", measure(0.01, 0.02)),))

    assert judge(findings(comparisons=(even,))).outcome == "too few contexts"


@pytest.mark.parametrize(
    ("found", "says"),
    [(nothing(), "thinker-1 refuses to guess"), (findings(comparisons=(comparison("a stratum"),)), "no answers yet")],
)
def test_without_both_arms_nothing_is_said_but_why(found: Findings, says: str) -> None:
    verdict = judge(found)

    assert verdict.outcome == "not measured"
    assert says in verdict.sureness
    assert verdict.facts == ()


def test_the_contexts_that_would_show_a_gain_are_read_off_the_width_of_its_interval() -> None:
    verdict = judge(findings(comparisons=(unshown({"v0": (0.03, 0.06), "v4": (-0.01, 0.05)}),)))

    assert verdict.more_contexts == 360, "half the width takes four times the 120 contexts"
    assert "About 360 more contexts would settle it." in verdict.advice


def test_the_contexts_that_would_show_equal_accuracy_count_from_the_margin() -> None:
    points = (*curve("no_sleep", v3=0.71, v4=0.86), *curve("sleep", v3=0.87, v4=0.84))
    open_one = unshown({"v3": (0.01, 0.06), "v4": (-0.02, 0.05)}, nearest="v3")

    verdict = judge(findings(comparisons=(open_one,), points=points))

    below = 0.87 - 0.86 + 0.02
    assert verdict.more_contexts == pytest.approx(120 * (0.06 / below) ** 2 - 120, abs=1)


def test_equal_accuracy_never_asks_for_fewer_contexts_than_it_can_be_shown_on() -> None:
    points = (*curve("no_sleep", v4=0.5), *curve("sleep", v3=0.9))
    open_one = unshown({"v3": (0.015, 0.04)}, nearest="v3")

    verdict = judge(findings(comparisons=(open_one,), points=points))

    assert verdict.more_contexts == least_contexts(1, margin=0.02) - 120


def test_a_difference_too_small_to_show_is_told_so() -> None:
    verdict = judge(findings(comparisons=(unshown({"v0": (0.001, 0.05)}),)))

    assert verdict.more_contexts is None
    assert any("too close to settle" in line for line in verdict.advice)


@given(st.integers(2, 10**5), st.floats(0.001, 1, exclude_min=True), st.floats(0.001, 1, exclude_min=True))
def test_so_many_contexts_would_narrow_the_interval_enough(contexts: int, half: float, distance: float) -> None:
    needed = contexts_to_show(contexts, half_width=half, distance=distance)

    if needed is not None:
        assert contexts < needed <= math.ceil(100 * contexts)
        assert half * math.sqrt(contexts / needed) <= distance * (1 + 1e-9)


def test_equal_accuracy_needs_as_many_contexts_as_the_exact_bound_does_when_none_is_lost() -> None:
    """Clopper and Pearson: with no loss in n, the upper bound of the share lost is 1 − 0.025^(1/n)."""
    needed = least_contexts(1, margin=0.02)

    assert 1 - 0.025 ** (1 / needed) <= 0.02 < 1 - 0.025 ** (1 / (needed - 1))
    assert least_contexts(5, margin=0.02) > needed


CAVEATS = [
    ("few clusters", {"clusters": 12}, "12 independent contexts"),
    ("missing answers", {"failed_answers": 7}, "7 answers failed"),
    ("failed sleeps", {"failed_sleeps": 2}, "2 sleeps failed"),
    (
        "a placebo that helps",
        {"controls": (control("placebo", "v0", 0.3, 6),)},
        "Another context's notes: +18.0 points",
    ),
    ("the tiny model", {"provenance": replace(provenance(), model="tiny")}, "tiny model shows a mechanism"),
    (
        "a vote that is better for one query",
        {
            "equal_totals": (
                EqualTotal(
                    level="v0",
                    k=10,
                    total_tokens=measure(416.0),
                    majority=measure(0.8),
                    sleep=measure(0.6),
                    over=measure(-0.2, 0.05),
                ),
            )
        },
        "+20.0 points (+15.0 to +25.0)",
    ),
]
CLEAN = {"clusters": 60, "failed_answers": 0, "failed_sleeps": 0}


@pytest.mark.parametrize(("changes", "words"), [case[1:] for case in CAVEATS], ids=[case[0] for case in CAVEATS])
def test_what_weakens_a_verdict_stands_beside_it(changes: dict[str, object], words: str) -> None:
    clean = judge(findings(**CLEAN))
    weakened = judge(findings(**(CLEAN | changes)))

    assert not any(words in caveat for caveat in clean.caveats)
    assert any(words in caveat for caveat in weakened.caveats)
    assert weakened.outcome == clean.outcome


def test_a_run_with_nothing_to_mind_has_no_caveats() -> None:
    assert judge(findings(**CLEAN)).caveats == ()


def test_the_page_has_every_part_in_order_and_fits_a_screen() -> None:
    verdict = judge(findings())

    page = render_text(verdict)

    parts = [
        page.index(words) for words in ("Sleeping pays", "How sure", "What to do next", "What was measured", "Mind")
    ]
    assert parts == sorted(parts)
    assert len(page.splitlines()) < 45
    assert all(fact.words in page and fact.value in page for fact in verdict.facts)
    assert page.rstrip().endswith("480 queries on 120 contexts; 4321 calls, 1.2340 USD.")


def test_every_budget_is_told_with_both_arms_and_the_gain() -> None:
    facts = {fact.words: fact.value for fact in judge(findings()).facts}

    assert facts["budget 0"] == (
        "12.0 % (8.5 to 15.5) on 6.0 tokens without sleep, 63.0 % (59.5 to 66.5) on 6.0 tokens with: "
        "+51.0 points (+45.0 to +57.0)"
    )
    assert facts["queries that pay for a sleep, in money"] == "2.7 (2.4 to 3.0)"


@pytest.mark.parametrize(
    ("level", "name"),
    [("v0", "budget 0"), ("v4", "budget 4"), ("high", "budget high"), ("force:256", "budget force:256")],
)
def test_a_budget_is_named_the_way_it_is_set(level: str, name: str) -> None:
    assert budget(level) == name
