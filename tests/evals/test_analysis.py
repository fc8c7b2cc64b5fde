import json
import random
import time
from dataclasses import fields, is_dataclass, replace
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import CARD, ONCE, answers, asks, run_of, simulated, sleeps
from scipy import stats as scipy_stats

from sleeptime.evals.analysis.analyse import EmptyRunError, analyse, claims, draws, stats
from sleeptime.evals.analysis.equal_accuracy import compare
from sleeptime.evals.analysis.findings import Claim, Comparison, EqualTotal, Findings, Measure, ScalingPoint
from sleeptime.evals.analysis.run_grids import RunGrids
from sleeptime.evals.analysis.tables import tables
from sleeptime.evals.runs.results import Cell, Row, Run, Sleeping, Slept

PLAIN, PLAIN_V4 = Cell(arm="no_sleep", level="v0"), Cell(arm="no_sleep", level="v4")
SLEPT, SLEPT_V4 = Cell(arm="sleep", level="v0", sleeping=ONCE), Cell(arm="sleep", level="v4", sleeping=ONCE)
DRAWS = Cell(arm="draws", level="v0", draws=4, temperature=0.7, queries=1)


def swept(contexts: int = 8) -> Run:
    """No sleep: half right for 10 tokens, all for 40. Sleep, for 60: all right, for 8 and for 32."""
    asked = asks(contexts)
    half = ["+1"[i % 2] for i in range(contexts)]
    right = ["+"] * contexts
    rows = [
        *answers(PLAIN, asked, half, 10),
        *answers(PLAIN_V4, asked, right, 40, cached=80),
        *answers(SLEPT, asked, right, 8, cached=50),
        *answers(SLEPT_V4, asked, right, 32),
    ]
    return run_of([PLAIN, PLAIN_V4, SLEPT, SLEPT_V4], asked, rows, sleeps(asked), names=["e1", "e5"])


def measures(value: Any) -> list[Measure]:
    """All measures of findings, however deep."""
    if isinstance(value, Measure):
        return [value]
    if isinstance(value, tuple | list):
        return [found for each in value for found in measures(each)]
    if is_dataclass(value):
        return [found for field in fields(value) for found in measures(getattr(value, field.name))]
    return []


def claim(found: Findings, words: str) -> Claim:
    return next(each for each in found.claims if words in each.words)


def comparison(found: Findings, with_sleep: str = "sleep") -> Comparison:
    return next(each for each in found.comparisons if each.with_sleep == with_sleep)


# Cells


def test_a_failed_answer_is_missing_and_never_wrong() -> None:
    asked = asks(8)
    rows = answers(PLAIN, asked, ["+", "+", "1", "?", "-", "+", "1", "1"])

    found = analyse(run_of([PLAIN], asked, rows[:7]))

    accuracy = found.points[0].accuracy
    assert accuracy.value == pytest.approx(3 / 6)
    assert (accuracy.queries, accuracy.missing) == (6, 2)
    assert found.failed_answers == 1


def test_a_query_counts_once_whatever_it_was_drawn() -> None:
    cell = replace(PLAIN, draws=4)
    asked = asks(6)
    rows = answers(cell, asked, ["++11", "+---", "1111", "++++", "----", "+1+1"])

    accuracy = analyse(run_of([cell], asked, rows)).points[0].accuracy

    assert accuracy.value == pytest.approx((0.5 + 1 + 0 + 1 + 0.5) / 5)
    assert (accuracy.queries, accuracy.missing) == (5, 3 + 4)


def test_sleep_tokens_are_told_per_context_that_was_learned_about_failed_sleeps_included() -> None:
    asked = asks(6, queries=2)
    told = ["-", "-", *["+"] * 10]

    point = analyse(run_of([SLEPT], asked, answers(SLEPT, asked, told), sleeps(asked, failed=["c0"]))).points[0]

    assert point.sleep_tokens is not None
    assert point.sleep_tokens.value == pytest.approx(6 * 60 / 5)
    assert (point.sleep_tokens.contexts, point.sleep_tokens.missing) == (5, 1)
    assert (point.accuracy.queries, point.accuracy.missing) == (10, 2)


def test_what_was_asked_and_not_answered_at_all_is_told_and_not_a_point() -> None:
    asked = asks(6)
    other = Cell(arm="learned", level="v0", sleeping=ONCE)
    rows = [*answers(PLAIN, asked, ["+"] * 6), *answers(SLEPT, asked, ["-"] * 6)]

    found = analyse(run_of([PLAIN, SLEPT, other], asked, rows, not_measured={"surprise": "no log-probabilities"}))

    assert [point.cell for point in found.points] == ["no_sleep/v0"]
    assert found.not_measured["sleep/v0"] == "all of 6 answers failed, the first with RateLimitError: slow down"
    assert found.not_measured["learned/v0"] == "no answers yet"
    assert found.not_measured["surprise"] == "no log-probabilities"


def test_a_run_that_asks_nothing_is_refused() -> None:
    with pytest.raises(EmptyRunError, match="dataset"):
        analyse(run_of([PLAIN], [], []))


# Intervals


def test_one_cluster_has_no_interval_and_a_note_in_its_place() -> None:
    asked = asks(30, per_cluster=30)

    accuracy = analyse(run_of([PLAIN], asked, answers(PLAIN, asked, ["+", "1", "+"] * 10))).points[0].accuracy

    assert accuracy.value == pytest.approx(2 / 3)
    assert (accuracy.low, accuracy.high) == (None, None)
    assert (accuracy.contexts, accuracy.clusters) == (30, 1)
    assert accuracy.note == "no interval: 1 of the 6 clusters that one needs"


@pytest.mark.parametrize(("contexts", "has_interval"), [(5, False), (6, True)])
def test_an_interval_needs_as_many_clusters_as_a_sign_test(contexts: int, has_interval: bool) -> None:
    asked = asks(contexts)

    accuracy = (
        analyse(run_of([PLAIN], asked, answers(PLAIN, asked, ["+", "1", "1", "1", "1", "1"][:contexts])))
        .points[0]
        .accuracy
    )

    assert (accuracy.low is not None) is has_interval


def test_clusters_that_share_their_luck_make_intervals_wider_than_contexts_of_their_own_would() -> None:
    told = [letter for cluster in range(20) for letter in ("+" if cluster % 2 else "1") * 10]
    clustered, alone = asks(200, per_cluster=10), asks(200)

    wide, narrow = (
        analyse(run_of([PLAIN], asked, answers(PLAIN, asked, told))).points[0].accuracy for asked in (clustered, alone)
    )

    assert wide.value == narrow.value == 0.5
    assert wide.low is not None
    assert narrow.low is not None
    assert wide.low < 0.35
    assert narrow.low > 0.42


def test_clusters_that_all_came_out_alike_leave_the_width_of_clopper_and_pearson() -> None:
    asked = asks(40)
    rows = [*answers(PLAIN, asked, ["1"] * 40), *answers(SLEPT, asked, ["+"] * 40)]

    found = analyse(run_of([PLAIN, SLEPT], asked, rows, sleeps(asked)))

    exact = scipy_stats.binomtest(40, 40).proportion_ci(method="exact")
    assert found.points[1].accuracy.low == pytest.approx(exact.low)
    assert found.points[1].accuracy.high == 1
    assert comparison(found).gains[0][1].low == pytest.approx(1 - 2 * (1 - exact.low))


def test_intervals_of_a_mean_agree_with_scipy() -> None:
    tokens = np.random.default_rng(5).poisson(40, size=80).tolist()
    asked = asks(80)

    figure = analyse(run_of([PLAIN], asked, answers(PLAIN, asked, ["+"] * 80, tokens))).points[0].tokens

    theirs = scipy_stats.bootstrap(
        (tokens,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert figure.low == pytest.approx(theirs.low, abs=0.15)
    assert figure.high == pytest.approx(theirs.high, abs=0.15)


def test_the_true_ratio_of_tokens_lies_in_most_intervals() -> None:
    rng = np.random.default_rng(3)
    runs, covered = 200, 0
    asked = asks(40, queries=3)
    for seed in range(runs):
        length = np.repeat(rng.gamma(4.0, 0.25, size=40), 3)
        without = rng.poisson(60 * length).tolist()
        slept = rng.poisson(12 * length + 3).tolist()
        rows = [*answers(PLAIN, asked, ["+"] * 120, without), *answers(SLEPT, asked, ["+"] * 120, slept)]
        grids = RunGrids(run_of([PLAIN, SLEPT], asked, rows), seed=seed, resamples=400)
        compared = compare(grids, "sleep", grids.everything)
        assert compared is not None
        ratio = compared.as_measured
        assert ratio.low is not None
        assert ratio.high is not None
        covered += ratio.low <= 60 / 15 <= ratio.high

    assert 0.90 <= covered / runs <= 0.98


# Equal accuracy


def test_a_comparison_worked_by_hand() -> None:
    found = comparison(analyse(swept()))

    assert found.match.best == "v4"
    assert (found.match.with_sleep, found.match.nearest) == (None, "v0")
    assert "8 contexts are too few" in found.match.reason
    assert (found.token_ratio.value, found.token_ratio.note) == (None, found.match.reason)
    assert found.as_measured.value == pytest.approx(40 / 8)
    assert found.interpolated.value == pytest.approx((10 + 30 * 0.48 / 0.5) / 8)
    assert [(level, gain.value) for level, gain in found.gains] == [("v0", 0.5), ("v4", 0.0)]
    assert [shift.value for _, shift in found.shifts] == pytest.approx([0.5, 0.0])
    assert [saving.value for _, saving in found.savings] == pytest.approx([10 / 8, 40 / 8])


def test_equal_accuracy_is_claimed_only_where_it_is_shown() -> None:
    few, many = analyse(swept(100)), analyse(swept(250))

    assert comparison(few).match.with_sleep is None
    assert comparison(many).match.with_sleep == "v0"
    assert comparison(many).token_ratio.value == pytest.approx(5)
    assert claim(few, "At equal accuracy").verdict == "not shown"
    assert claim(many, "At equal accuracy").verdict == "shown"
    assert claim(many, "At equal accuracy").because.startswith(
        "v0 with sleep is shown to be less than 2 points below v4"
    )


def test_too_few_templates_are_too_few_whatever_the_number_of_contexts() -> None:
    whole = swept(200)
    asked = tuple(replace(each, cluster=f"k{i % 10}") for i, each in enumerate(whole.asked))

    match = comparison(analyse(replace(whole, asked=asked))).match

    assert match.with_sleep is None
    assert "10 clusters are too few" in match.reason


def test_levels_are_compared_on_the_queries_that_both_answered() -> None:
    asked = asks(8)
    rows = [
        *answers(PLAIN, asked, "++++1111", [10] * 7 + [1000]),
        *answers(SLEPT, asked, "+++++++-", [5] * 8),
    ]

    found = comparison(analyse(run_of([PLAIN, SLEPT], asked, rows, sleeps(asked))))

    assert found.gains[0][1].value == pytest.approx(7 / 7 - 4 / 7)
    assert found.as_measured.value == pytest.approx(10 / 5)
    assert (found.as_measured.queries, found.as_measured.missing) == (7, 1)


def test_each_stratum_is_compared_by_itself() -> None:
    asked = asks(12, strata="xy")
    rows = [*answers(PLAIN, asked, "+" * 12, [30, 20] * 6), *answers(SLEPT, asked, "+1" * 6, [10, 10] * 6)]

    found = analyse(run_of([PLAIN, SLEPT], asked, rows, sleeps(asked)))

    x, y = found.strata
    assert (x.stratum, x.as_measured.value, x.gains[0][1].value) == ("x", pytest.approx(3), 0)
    assert (y.stratum, y.as_measured.value, y.gains[0][1].value) == ("y", None, -1)
    assert y.interpolated.note == "with sleep that accuracy is never reached"
    assert x.gains[0][1].queries == 6


def test_one_stratum_is_told_once() -> None:
    assert analyse(swept()).strata == ()


def test_where_sleep_is_plainly_worse_the_claim_of_fewer_tokens_is_contradicted() -> None:
    asked = asks(40)
    rows = [*answers(PLAIN, asked, ["+"] * 40, 40), *answers(SLEPT, asked, ["1+++"[i % 4] for i in range(40)], 5)]

    found = analyse(run_of([PLAIN, SLEPT], asked, rows, sleeps(asked), names=["e1"]))

    assert claim(found, "At equal accuracy").verdict == "contradicted"
    assert claim(found, "At the highest budget").verdict == "shown"


# Several draws


def test_pass_and_majority_at_k_worked_by_hand() -> None:
    asked = asks(6, queries=2)
    first = asked[::2]
    told = ["++12", "+112", "1111", "++++", "???+", "1??2"]
    rows = [
        *answers(DRAWS, first, told, 5),
        *answers(SLEPT, asked, ["+", "1"] * 6, 8),
        *answers(SLEPT_V4, asked, ["+"] * 12, 16),
    ]

    points = analyse(run_of([DRAWS, SLEPT, SLEPT_V4], asked, rows, sleeps(asked))).draws

    assert [(point.k, point.tokens.value) for point in points] == [(1, 5), (2, 10), (3, 15), (4, 20)]
    assert points[0].pass_at_k.value == pytest.approx((0.5 + 0.25 + 0 + 1 + 0.25 + 0) / 6)
    assert points[0].majority_at_k.value == points[0].pass_at_k.value
    assert points[1].pass_at_k.value == pytest.approx((5 / 6 + 1 / 2 + 0 + 1 + 1 / 2 + 0) / 6)
    assert points[1].majority_at_k.value == pytest.approx(((1 + 4 / 2) / 6 + (3 / 2) / 6 + 0 + 1 + 3 / 6 + 0) / 6)
    assert points[3].majority_at_k.value == pytest.approx((1 + 0 + 0 + 1 + 1 + 0) / 6)
    assert [point.sleep.value for point in points] == pytest.approx([5 / 8, 1, 1, 1])
    assert points[1].over_pass.value == pytest.approx(1 - (2 + 5 / 6) / 6)
    assert points[1].over_pass.queries == 6


def test_a_query_with_a_draw_missing_leaves_only_the_k_it_cannot_fill() -> None:
    asked = asks(6)
    rows = answers(DRAWS, asked, ["+++-", *["++++"] * 5], 5)

    points = analyse(run_of([DRAWS], asked, rows)).draws

    assert [(point.k, point.pass_at_k.queries, point.pass_at_k.missing) for point in points] == [
        (1, 6, 0),
        (2, 6, 0),
        (3, 6, 0),
        (4, 5, 1),
    ]
    assert (points[0].sleep.value, points[0].over_pass.value) == (None, None)


@st.composite
def many_draws(draw: st.DrawFn) -> draws.Votes:
    right, unread = draw(st.integers(0, 4)), draw(st.integers(0, 2))
    wrong = tuple(sorted(draw(st.lists(st.integers(1, 3), max_size=3))))
    return draws.Votes(right=right + (1 if not wrong and not unread else 0), wrong=wrong, unread=unread)


@settings(deadline=None)
@given(many_draws())
def test_pass_at_k_is_what_the_hypergeometric_distribution_says_and_never_falls(votes: draws.Votes) -> None:
    ours = draws.pass_at(votes)

    theirs = [1 - scipy_stats.hypergeom.pmf(0, votes.drawn, votes.right, k) for k in range(1, votes.drawn + 1)]
    assert ours == pytest.approx(theirs, abs=1e-9)
    assert ours == sorted(ours)


@settings(deadline=None)
@given(many_draws())
def test_majority_at_k_is_the_mean_over_all_subsets_of_the_draws(votes: draws.Votes) -> None:
    drawn = ["right"] * votes.right + [str(i) for i, many in enumerate(votes.wrong) for _ in range(many)]
    drawn += [""] * votes.unread

    def share_won(chosen: tuple[str, ...]) -> float:
        counts = {answer: chosen.count(answer) for answer in set(chosen) - {""}}
        top = [answer for answer, votes in counts.items() if votes == max(counts.values())]
        return ("right" in top) / max(1, len(top))

    for k, ours in enumerate(draws.majority_at(votes), 1):
        subsets = list(combinations(drawn, k))
        assert ours == pytest.approx(sum(map(share_won, subsets)) / comb(len(drawn), k))


@settings(deadline=None)
@given(many_draws())
def test_a_majority_of_one_is_right_as_often_as_one_draw(votes: draws.Votes) -> None:
    assert draws.majority_at(votes)[0] == pytest.approx(votes.right / votes.drawn)


def test_draws_that_agree_are_right_as_often_as_one_whatever_their_number() -> None:
    assert draws.majority_at(draws.Votes(right=10)) == pytest.approx([1.0] * 10)
    assert draws.majority_at(draws.Votes(right=0, wrong=(10,))) == pytest.approx([0.0] * 10)


def test_right_answers_agree_however_they_are_spelled_and_an_unreadable_one_votes_for_nothing() -> None:
    votes = draws.count([(True, "7"), (True, "7.0"), (False, "8"), (False, "8"), (False, "9"), (False, None)])

    assert votes == draws.Votes(right=2, wrong=(1, 2), unread=1)


# More sleep


def test_more_sleep_is_held_against_the_least_and_the_next_less() -> None:
    asked = asks(10)
    cells = [PLAIN]
    rows, slept = answers(PLAIN, asked, "1" * 10), list[Slept]()
    for arm, samples, told in [
        ("sleep", 1, "+++1111111"),
        ("sleep", 5, "+++++++++1"),
        ("sleep", 2, "++++++1111"),
        ("merged", 2, "+++++++111"),
    ]:
        sleeping = Sleeping(samples=samples, temperature=0.8)
        cells.append(Cell(arm=arm, level="v0", sleeping=sleeping))  # pyright: ignore[reportArgumentType]
        rows += answers(cells[-1], asked, told)
        if arm == "sleep":
            slept += sleeps(asked, tokens=60 * samples, sleeping=sleeping)

    found = analyse(run_of(cells, asked, rows, slept))

    told = {(point.kind, point.samples): point for point in found.scaling}
    assert list(told) == [("joined", 1), ("joined", 2), ("joined", 5), ("merged", 2)]
    assert [point.gain.value for point in told.values()] == pytest.approx([0.3, 0.6, 0.9, 0.7])
    assert [point.over_first.value for point in told.values()] == [None, *map(pytest.approx, [0.3, 0.6, 0.4])]
    assert [point.sleep_tokens.value for point in told.values()] == pytest.approx([60, 120, 300, 120])
    assert measures(told["joined", 5].over_previous)[0].value == pytest.approx(0.3)
    assert measures(told["merged", 2].over_joined)[0].value == pytest.approx(0.1)


def test_more_effort_is_told_in_the_order_of_effort() -> None:
    asked = asks(8)
    efforts = {"high": "++++++11", "low": "++111111", "medium": "++++1111"}
    cells = [Cell(arm="sleep", level="v0", sleeping=Sleeping(effort=effort)) for effort in efforts]
    rows = [row for cell, told in zip(cells, efforts.values(), strict=True) for row in answers(cell, asked, told)]

    points = analyse(run_of(cells, asked, rows)).scaling

    assert [(point.kind, point.effort) for point in points] == [("effort", each) for each in ("low", "medium", "high")]
    assert points[2].over_first.value == pytest.approx(0.5)
    assert points[2].gain.note == "no sleep was not measured at v0"


# Costs


def test_costs_worked_by_hand() -> None:
    spread = analyse(swept()).amortisation

    assert spread is not None
    assert (spread.without_level, spread.with_level, spread.is_shown) == ("v4", "v0", False)
    told = {(point.price, point.is_cached, point.queries): point for point in spread.points}
    assert told[10, False, 10].without.value == pytest.approx(400)
    assert told[10, False, 10].with_sleep.value == pytest.approx(80 + 6)
    assert told[10, False, 10].ratio.value == pytest.approx(400 / 86)
    assert told[2, False, 1].ratio.value == pytest.approx(80 / (16 + 60))
    answered = {True: (20 + 8 + 400, 50 + 5 + 80), False: (100 + 400, 100 + 80)}
    sleep = {True: 2 * (25 + 2.5 + 300), False: 2 * (50 + 300)}
    for is_cached, (without, with_sleep) in answered.items():
        money = told[None, is_cached, 5]
        assert money.without.value == pytest.approx(without / 1e6)
        assert money.with_sleep.value == pytest.approx((with_sleep + sleep[is_cached] / 5) / 1e6)
    evens = {(even.price, even.is_cached): even.queries.value for even in spread.break_evens}
    assert evens[4, False] == pytest.approx(60 / (4 * 32))
    assert evens[None, False] == pytest.approx(700 / 320)
    assert {price for price, _ in evens} == {2, 4, 10, 12, None}


def test_what_a_failed_sleep_spent_is_charged_to_the_contexts_that_were_learned_about() -> None:
    whole = swept(7)
    slept = sleeps(whole.asked, failed=["c6"])
    rows = [row for row in whole.rows if row.sample_id != "c6q0" or row.cell.startswith("no_sleep")]

    spread = analyse(replace(whole, slept=tuple(slept), rows=tuple(rows))).amortisation

    assert spread is not None
    assert spread.sleep_tokens.value == pytest.approx(70)
    assert spread.points[0].with_sleep.value == pytest.approx(2 * 8 + 70)
    assert (spread.points[0].ratio.queries, spread.points[0].ratio.missing) == (6, 1)


def test_where_no_price_is_known_there_is_no_money_and_the_reason_is_told() -> None:
    whole = swept()
    rows = tuple(replace(row, cost_usd=None) for row in whole.rows)

    found = analyse(replace(whole, rows=rows, price=None, sleep_price=None))

    assert found.amortisation is not None
    assert None not in {point.price for point in found.amortisation.points}
    assert found.points[0].cost_usd is None
    assert found.not_measured["money"] == "no price is known of the models"


def test_each_call_of_a_sleep_is_priced_by_itself() -> None:
    tiered = replace(CARD, above=((60, replace(CARD, name="long", input_usd_per_mtok=1000.0)),))
    whole = swept()

    flat, dearer = (analyse(replace(whole, sleep_price=price)).amortisation for price in (CARD, tiered))

    assert flat is not None
    assert dearer is not None
    assert flat.points == dearer.points


def test_a_sleep_that_saves_nothing_never_breaks_even_and_says_so() -> None:
    asked = asks(8)
    rows = [*answers(PLAIN, asked, "+" * 8, 10), *answers(SLEPT, asked, "+" * 8, 12)]

    spread = analyse(run_of([PLAIN, SLEPT], asked, rows, sleeps(asked))).amortisation

    assert spread is not None
    assert spread.break_evens[0].queries == Measure(
        value=None, contexts=8, clusters=8, queries=8, note="never, as measured"
    )


# Predictability and guesses


def test_the_gain_is_told_by_fifths_of_predictability() -> None:
    asked = asks(10, depths=1)
    half = Cell(arm="half", level="v0", sleeping=ONCE)
    rows = [
        *answers(PLAIN, asked, "1" * 10),
        *answers(SLEPT, asked, "1111+1+1++"),
        *answers(half, asked, "1111111111"),
    ]
    log_probs = [-20.0, -19, -18, -17, -16, -15, -14, -13, -12, -11]

    told = analyse(run_of([PLAIN, SLEPT, half], asked, rows, sleeps(asked), log_probs=log_probs)).predictability

    assert [(each.cell, each.by) for each in told] == [
        (cell, by) for cell in ("sleep/v0", "half/v0") for by in ("sum", "mean")
    ]
    assert [part.gain.value for part in told[0].bins] == pytest.approx([0, 0, 0.5, 0.5, 1])
    assert [part.log_prob for part in told[0].bins] == pytest.approx([-19.5, -17.5, -15.5, -13.5, -11.5])
    rho, _ = scipy_stats.spearmanr(range(5), [0, 0, 0.5, 0.5, 1])
    slope = float(np.polyfit(log_probs, [0, 0, 0, 0, 1, 0, 1, 0, 1, 1], 1)[0])
    assert told[0].rho.value == pytest.approx(rho)
    assert [told[0].slope.value, told[0].within_depth.value] == pytest.approx([slope, slope])
    assert told[1].slope.value == pytest.approx(2 * slope)
    assert (told[2].rho.value, told[2].rho.note) == (None, "not defined on these answers")


def test_without_depths_the_slope_within_them_is_unknown_and_not_zero() -> None:
    asked = asks(6)
    rows = [*answers(PLAIN, asked, "1" * 6), *answers(SLEPT, asked, "+1+1+1")]

    (told, _) = analyse(run_of([PLAIN, SLEPT], asked, rows, log_probs=[-1.0, -2, -3, -4, -5, -6])).predictability

    assert (told.within_depth.value, told.within_depth.note) == (None, "depths are not known of this dataset")


def test_sleeps_of_several_samples_are_no_limited_sleep() -> None:
    asked = asks(6)
    several = Cell(arm="sleep", level="v0", sleeping=Sleeping(samples=5))
    rows = [row for cell in (PLAIN, SLEPT, several) for row in answers(cell, asked, "1+1+1+")]

    told = analyse(run_of([PLAIN, SLEPT, several], asked, rows, log_probs=[-1.0, -2, -3, -4, -5, -6])).predictability

    assert {each.cell for each in told} == {"sleep/v0"}


def test_a_guess_is_held_against_sleep_at_its_level_or_at_the_lowest() -> None:
    asked = asks(10)
    guesses = [Cell(arm="guess", level=level) for level in ("v0", "v4")]
    rows = [
        *answers(PLAIN, asked, "++11111111"),
        *answers(SLEPT, asked, "+++++++++1"),
        *answers(guesses[0], asked, "1111111111"),
        *answers(guesses[1], asked, "+111111111"),
    ]

    found = analyse(run_of([PLAIN, SLEPT, *guesses], asked, rows, sleeps(asked), names=["e8"]))

    lowest, highest = found.guesses
    assert (lowest.gain.value, lowest.below_sleep.value, lowest.below_sleep.note) == (-0.2, pytest.approx(0.9), "")
    assert (highest.gain.value, highest.below_sleep.value) == (None, pytest.approx(0.8))
    assert highest.below_sleep.note == "sleep at v0"


# Controls


def test_controls_are_held_against_no_sleep_and_against_their_own_sleep() -> None:
    asked = asks(10)
    placebo = Cell(arm="placebo", level="v0", sleeping=ONCE)
    rows = [
        *answers(PLAIN, asked, "++11111111"),
        *answers(SLEPT, asked, "+++++++++1"),
        *answers(placebo, asked, "+111111111"),
    ]

    (control,) = analyse(run_of([PLAIN, SLEPT, placebo], asked, rows, sleeps(asked))).controls

    assert (control.arm, control.gain.value) == ("placebo", pytest.approx(-0.1))
    assert control.below_sleep.value == pytest.approx(0.8)


@pytest.mark.parametrize(("sleep_tokens", "fits", "k"), [(14, 4, 4), (8, 3, 3), (60, 13, 4), (0, 1, 1)])
def test_as_many_draws_are_taken_as_a_sleep_and_an_answer_pay_for(sleep_tokens: int, fits: int, k: int) -> None:
    asked = asks(8, queries=2)
    rows = [*answers(SLEPT, asked, ["+", "1"] * 8, 8), *answers(DRAWS, asked[::2], ["+112"] * 8, 5)]

    found = analyse(run_of([DRAWS, SLEPT], asked, rows, sleeps(asked, tokens=sleep_tokens), names=["e3"]))

    (total,) = found.equal_totals
    assert total.total_tokens.value == pytest.approx(sleep_tokens + 8)
    assert (total.fits, total.k) == (fits, k)
    assert total.majority.value == pytest.approx(draws.majority_at(draws.Votes(right=1, wrong=(1, 2)))[k - 1])
    assert total.over.value == pytest.approx(1 - (total.majority.value or 0))
    assert claim(found, "For as many tokens in all").verdict == ("not shown" if fits > k else "shown")


@pytest.mark.parametrize(
    ("votes", "verdict"),
    [
        ([(0.1, 0.3, 10, 21), (0.1, 0.3, 3, 3)], "shown"),  # the vote that is too small decides nothing
        ([(0.1, 0.3, 10, 21), (-0.1, 0.3, 3, 3)], "not shown"),
        ([(0.1, 0.3, 10, 21)], "not shown"),
        ([(-0.3, -0.1, 10, 21), (0.1, 0.3, 3, 3)], "contradicted"),  # unless sleep loses even to that
    ],
)
def test_the_votes_that_decide_are_those_of_as_many_draws_as_fit(
    votes: list[tuple[float, float, int, int]], verdict: str
) -> None:
    blank = Measure(value=None)
    totals = tuple(
        EqualTotal(
            level=f"v{i}", k=k, fits=fits, total_tokens=blank, majority=blank, sleep=blank, over=measure(low, high)
        )
        for i, (low, high, k, fits) in enumerate(votes)
    )

    found = replace(analyse(swept()), equal_totals=totals)
    found = replace(found, claims=claims.judge(found))

    assert claim(found, "For as many tokens in all").verdict == verdict


def test_where_not_even_one_draw_fits_there_is_no_vote() -> None:
    asked = asks(8)
    rows = [*answers(SLEPT, asked, ["+"] * 8, 2), *answers(DRAWS, asked, ["+++1"] * 8, 50)]

    (total,) = analyse(run_of([DRAWS, SLEPT], asked, rows, sleeps(asked, tokens=10))).equal_totals

    assert (total.k, total.majority.value, total.majority.note) == (0, None, "not one draw fits")


# Claims


def measure(low: float | None, high: float | None, *, value: float | None = 0.5) -> Measure:
    return Measure(value=value, low=low, high=high, contexts=9, clusters=9, queries=9)


@pytest.mark.parametrize(
    ("given", "more", "less"),
    [
        (measure(0.1, 0.9), "shown", "contradicted"),
        (measure(-0.9, -0.1), "contradicted", "shown"),
        (measure(-0.1, 0.9), "not shown", "not shown"),
        (measure(0.1, None), "shown", "contradicted"),
        (measure(-0.1, None), "not shown", "not shown"),
        (measure(None, None), "not shown", "not shown"),
        (Measure(value=None), "not measured", "not measured"),
        (measure(None, None, value=None), "not shown", "not shown"),
    ],
)
def test_a_verdict_takes_an_interval_that_excludes_the_contrary(given: Measure, more: str, less: str) -> None:
    assert (claims.above(given, 0), claims.below(given, 0)) == (more, less)


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        (["shown", "shown"], "shown"),
        (["shown", "not shown"], "not shown"),
        (["shown", "not measured"], "not shown"),
        (["shown", "contradicted"], "contradicted"),
        (["not measured", "not measured"], "not measured"),
        ([], "not measured"),
    ],
)
def test_a_claim_of_several_parts_is_shown_where_all_are(parts: list[Any], whole: str) -> None:
    assert claims.all_of(parts) == whole


@pytest.mark.parametrize(
    ("gains", "last_step", "verdict", "part"),
    [
        ([0.2, 0.3], (-0.02, 0.05), "shown", "that it saturates is shown"),
        ([0.2, 0.3], (0.02, 0.2), "contradicted", "that it saturates is contradicted"),
        ([0.0, 0.0], (-0.02, 0.05), "not shown", "that it helps is not shown"),
        ([-0.3, -0.3], (-0.05, 0.05), "contradicted", "that it helps is contradicted"),
    ],
)
def test_helping_and_saturating_are_told_apart(
    gains: list[float], last_step: tuple[float, float], verdict: str, part: str
) -> None:
    blank = measure(0.4, 0.6)

    def point(samples: int, over_first: Measure, over_previous: Measure | None) -> ScalingPoint:
        return ScalingPoint(
            kind="joined",
            samples=samples,
            effort=None,
            level="v0",
            accuracy=blank,
            gain=blank,
            tokens=blank,
            sleep_tokens=blank,
            over_first=over_first,
            over_previous=over_previous,
        )

    first, second = (measure(gain - 0.1, gain + 0.1, value=gain) for gain in gains)
    points = (
        point(1, Measure(value=None), None),
        point(5, first, first),
        point(10, second, measure(*last_step, value=0.01)),
    )

    found = replace(analyse(swept()), experiments=("e4",), scaling=points)
    said = claim(replace(found, claims=claims.judge(found)), "saturate")

    assert said.verdict == verdict
    assert part in said.because


@pytest.mark.parametrize(
    ("guess", "sleep", "verdict"),
    [
        ((0.1, 0.2), (0.5, 0.6), "shown"),
        ((0.2, 0.3), (0.5, 0.6), "not shown"),
        ((0.4, 0.45), (0.6, 0.7), "contradicted"),
    ],
)
def test_far_below_is_less_than_half(guess: tuple[float, float], sleep: tuple[float, float], verdict: str) -> None:
    asked = asks(8)
    cell = Cell(arm="guess", level="v0")
    rows = [*answers(SLEPT, asked, "+" * 8), *answers(cell, asked, "1" * 8)]
    found = analyse(run_of([SLEPT, cell], asked, rows, sleeps(asked), names=["e8"]))

    guesses = tuple(replace(each, accuracy=measure(*guess), sleep=measure(*sleep)) for each in found.guesses)

    (said, *_) = claims.judge(replace(found, guesses=guesses))
    assert said.verdict == verdict


@pytest.mark.parametrize(
    ("leads", "verdict", "where"),
    [
        ([(0.1, 0.3), (0.1, 0.3)], "shown", "more accurate at k = 1–2; "),
        ([(0.1, 0.3), (-0.1, 0.3)], "not shown", "more accurate at k = 1; "),
        ([(0.1, 0.3), (-0.3, -0.1)], "contradicted", "more accurate at k = 1 and less at k = 2"),
    ],
)
def test_sleep_beats_draws_only_where_it_does_at_every_k(
    leads: list[tuple[float, float]], verdict: str, where: str
) -> None:
    asked = asks(8)
    rows = [*answers(SLEPT, asked, "+" * 8, 8), *answers(DRAWS, asked, ["+1"] * 8, 5)]
    found = analyse(run_of([SLEPT, DRAWS], asked, rows, sleeps(asked), names=["e3"]))

    points = tuple(replace(each, over_pass=measure(*lead)) for each, lead in zip(found.draws, leads, strict=True))

    (said, *_) = claims.judge(replace(found, draws=points))
    assert said.verdict == verdict
    assert where in said.because


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        ((-0.05, 0.01), "shown"),
        ((-0.05, 0.03), "not shown"),
        ((0.01, 0.03), "not shown"),
        ((0.03, 0.1), "contradicted"),
    ],
)
def test_a_control_gains_nothing_where_it_is_shown_to_gain_less_than_the_margin(
    gain: tuple[float, float], verdict: str
) -> None:
    asked = asks(8)
    placebo = Cell(arm="placebo", level="v0", sleeping=ONCE)
    rows = [row for cell in (PLAIN, SLEPT, placebo) for row in answers(cell, asked, "+1" * 4)]
    found = analyse(run_of([PLAIN, SLEPT, placebo], asked, rows, sleeps(asked)))

    controls = tuple(replace(each, gain=measure(*gain)) for each in found.controls)
    told = claims.judge(replace(found, controls=controls))

    assert next(each for each in told if "Another context" in each.words).verdict == verdict


@pytest.mark.parametrize(
    ("shift", "saving", "verdict"),
    [
        ((0.1, 0.3), (0.5, 0.9), "shown"),
        ((-0.1, 0.1), (1.2, 3.0), "shown"),
        ((-0.1, 0.1), (0.5, 1.1), "not shown"),
        ((-0.3, -0.1), (0.9, 1.1), "not shown"),
        ((-0.3, -0.1), (0.5, 0.9), "contradicted"),
    ],
)
def test_the_curve_is_shifted_where_sleep_is_more_accurate_or_takes_fewer_tokens_at_all_levels_but_the_highest(
    shift: tuple[float, float], saving: tuple[float, float], verdict: str
) -> None:
    found = analyse(swept())
    worse = measure(-0.9, -0.8)

    compared = replace(
        comparison(found),
        shifts=(("v0", measure(*shift)), ("v4", worse)),
        savings=(("v0", measure(*saving)), ("v4", worse)),
    )

    (said, *_) = claims.judge(replace(found, comparisons=(compared,)))
    assert said.verdict == verdict
    assert "v4" not in said.because


def test_cheaper_at_ten_queries_and_dearer_at_one_are_judged_by_the_ratio_of_costs() -> None:
    found = analyse(swept(250))
    measured = found.amortisation
    assert measured is not None

    def with_ratio(low: float, high: float) -> list[str]:
        spread = replace(measured, points=tuple(replace(point, ratio=measure(low, high)) for point in measured.points))
        told = replace(found, claims=claims.judge(replace(found, amortisation=spread)))
        return [claim(told, words).verdict for words in ("The more queries share", "At N = 1")]

    assert with_ratio(1.2, 3) == ["shown", "contradicted"]
    assert with_ratio(0.4, 0.9) == ["contradicted", "shown"]
    assert with_ratio(0.9, 1.1) == ["not shown", "not shown"]


def test_costs_at_levels_that_are_not_shown_to_be_equal_show_nothing() -> None:
    found = analyse(swept(100))

    for words in ("The more queries share", "At N = 1", "From some number of queries"):
        assert claim(found, words).verdict == "not shown"
        assert claim(found, words).because.startswith("as measured, equal accuracy not shown, ")


def test_costs_that_are_higher_already_at_a_level_that_only_looks_as_accurate_speak_against_sleep() -> None:
    asked = asks(20)
    rows = [*answers(PLAIN, asked, "+" * 20, 10), *answers(SLEPT, asked, "+" * 20, 12)]

    found = analyse(run_of([PLAIN, SLEPT], asked, rows, sleeps(asked), names=["e5"]))

    told = {each.words[:12]: each.verdict for each in found.claims if each.experiment == "e5"}
    assert told == {"From some nu": "contradicted", "The more que": "contradicted", "At N = 1 and": "shown"}


def test_every_claim_of_an_experiment_that_measured_nothing_says_why() -> None:
    names = ["e1", "e2", "e3", "e4", "e5", "e6", "e8"]
    asked = asks(6)
    why = {"surprise": "this model gives no log-probabilities", "sleep/v0/effort=low": "no dial"}

    found = analyse(run_of([PLAIN], asked, answers(PLAIN, asked, "+" * 6), names=names, not_measured=why))

    assert {each.experiment for each in found.claims} == {*names, "controls"}
    assert {each.verdict for each in found.claims} == {"not measured"}
    assert claim(found, "More effort").because == "no dial (small on boxes)."
    assert claim(found, "more predictable").because == "this model gives no log-probabilities (small on boxes)."


def test_every_claim_names_the_model_and_the_data_it_holds_for() -> None:
    assert all(each.because.endswith("(small on boxes).") for each in analyse(swept()).claims)


# The whole


@pytest.fixture(scope="module")
def whole() -> Run:
    return simulated(contexts=60, queries=3, seed=1)


@pytest.fixture(scope="module")
def found(whole: Run) -> Findings:
    return analyse(whole)


def test_the_order_of_rows_changes_nothing(whole: Run, found: Findings) -> None:
    shuffled = list[Row](whole.rows), list[Slept](whole.slept), list(whole.surprises)
    for rows in shuffled:
        random.Random(4).shuffle(rows)  # noqa: S311 - an order, not a secret

    rows, slept, surprises = map(tuple, shuffled)
    assert analyse(replace(whole, rows=rows, slept=slept, surprises=surprises)) == found


def test_every_part_of_a_whole_run_is_found_and_every_figure_lies_in_its_interval(found: Findings) -> None:
    told = measures(found)

    assert {each.experiment for each in found.claims} == {*found.experiments, "controls"}
    assert "not measured" not in {each.verdict for each in found.claims}
    assert len(told) > 500
    for each in told:
        if each.value is not None and each.low is not None:
            assert each.low <= each.value + 1e-9
            assert each.high is None or each.value <= each.high + 1e-9


def test_another_seed_draws_other_resamples_and_no_other_figures(whole: Run, found: Findings) -> None:
    other = analyse(whole, seed=1)

    assert [each.value for each in measures(other.points)] == [each.value for each in measures(found.points)]
    assert [each.low for each in measures(other.points)] != [each.low for each in measures(found.points)]


def test_tables_hold_plain_values_under_the_same_columns(found: Findings) -> None:
    told = tables(found)

    assert set(told) == {
        "claims",
        "points",
        "equal_accuracy",
        "by_level",
        "draws",
        "scaling",
        "costs",
        "break_even",
        "predictability",
        "predictability_bins",
        "guesses",
        "controls",
        "equal_totals",
    }
    for rows in told.values():
        assert len({tuple(row) for row in rows}) == 1
        assert all(
            value is None or isinstance(value, str | int | float | bool) for row in rows for value in row.values()
        )
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_a_table_says_what_a_figure_was_measured_on_and_why_another_was_not() -> None:
    row = tables(analyse(swept()))["equal_accuracy"][0]

    assert (row["as_measured"], row["queries"], row["nearest_level"]) == (pytest.approx(5), 8, "v0")
    assert row["token_ratio"] is None
    assert str(row["note"]).startswith("token_ratio: v0 with sleep is within 2 points as measured")


def test_a_run_of_many_queries_is_analysed_in_seconds() -> None:
    run = simulated(contexts=200, queries=3, seed=2)
    began_s = time.process_time()

    analyse(run)

    assert time.process_time() - began_s < 20


def test_resamples_are_of_whole_clusters() -> None:
    asked = asks(12, per_cluster=3)
    grids = RunGrids(run_of([PLAIN], asked, answers(PLAIN, asked, "+" * 12)), seed=0, resamples=50)

    assert grids.weights.shape == (51, 4)
    assert (grids.clusters, grids.contexts, grids.unit) == (4, 12, "clusters")
    assert stats.means(grids.correct(PLAIN), grids.weights)[0] == 1
