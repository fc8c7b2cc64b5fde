import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from sleeptime.evals.analysis import stats

NAN = float("nan")
numbers = st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=30)


def grid(*rows: list[float]) -> stats.Array:
    return np.array(rows, dtype=np.float64)


def trial(level: str, accuracy: float, tokens: float, *, contexts: int = 400) -> stats.Trial:
    """The same contexts are right first, so that accuracies differ in as few pairs as they can."""
    correct = (np.arange(contexts) < accuracy * contexts).astype(np.float64)[:, None]
    return stats.Trial(level=level, correct=correct, tokens=np.full((contexts, 1), tokens))


def test_the_first_row_of_weights_is_the_sample_itself_and_each_resample_has_as_many_contexts() -> None:
    weights = stats.draw_weights(7, seed=1, resamples=20)

    assert weights.shape == (21, 7)
    assert weights[0].tolist() == [1.0] * 7
    assert set(weights.sum(axis=1)) == {7.0}


def test_the_same_seed_draws_the_same_resamples_and_another_seed_others() -> None:
    first, again, other = (stats.draw_weights(9, seed=seed, resamples=50) for seed in (3, 3, 4))

    assert (first == again).all()
    assert (first != other).any()


def test_a_missing_answer_counts_neither_as_right_nor_as_wrong() -> None:
    answers = grid([1, NAN], [0, 1], [1, 1])

    assert stats.means(answers, np.ones((1, 3)))[0] == pytest.approx(4 / 5)


def test_contexts_drawn_more_often_weigh_more() -> None:
    answers = grid([1, 1], [0, 1], [0, NAN])

    assert stats.means(answers, grid([2, 0, 1]))[0] == pytest.approx(4 / 5)


def test_a_mean_of_nothing_is_not_a_number_but_unmeasured() -> None:
    replicates = stats.means(grid([NAN], [NAN]), stats.draw_weights(2, seed=0, resamples=10))

    assert stats.estimate(replicates) == stats.Estimate(value=None)


def test_the_interval_is_the_middle_95_percent_of_the_resamples() -> None:
    replicates = np.concatenate([[500.0], np.arange(1000.0)])

    figure = stats.estimate(replicates)

    assert figure.value == 500
    assert figure.low == pytest.approx(25, abs=1)
    assert figure.high == pytest.approx(975, abs=1)


def test_an_infinite_tail_leaves_the_interval_open() -> None:
    replicates = np.array([2.0, *range(1, 81), *([np.inf] * 20)])

    figure = stats.estimate(replicates)

    assert (figure.value, figure.high) == (2.0, None)
    assert figure.low is not None


def test_intervals_agree_with_scipy_where_each_context_has_one_query() -> None:
    values = np.random.default_rng(5).exponential(size=60)

    ours = stats.estimate(stats.means(values[:, None], stats.draw_weights(60, seed=1, resamples=20_000)))
    theirs = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval

    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


def test_intervals_cover_the_truth_when_queries_of_a_context_share_their_luck() -> None:
    rng = np.random.default_rng(11)
    covered_by_contexts = covered_by_queries = 0
    for seed in range(300):
        luck = rng.uniform(0.2, 1.0, size=(60, 1)) ** 2
        truth = (1 - 0.2**3) / (3 * 0.8)
        answers = (rng.uniform(size=(60, 4)) < luck).astype(np.float64)
        clustered = stats.estimate(stats.means(answers, stats.draw_weights(60, seed=seed, resamples=400)))
        alone = answers.reshape(-1, 1)
        naive = stats.estimate(stats.means(alone, stats.draw_weights(240, seed=seed, resamples=400)))
        assert clustered.low is not None
        assert clustered.high is not None
        assert naive.low is not None
        assert naive.high is not None
        covered_by_contexts += clustered.low <= truth <= clustered.high
        covered_by_queries += naive.low <= truth <= naive.high

    assert covered_by_contexts / 300 == pytest.approx(0.95, abs=0.035)
    assert covered_by_queries < covered_by_contexts


def test_a_constant_difference_has_no_width_although_both_arms_vary() -> None:
    rng = np.random.default_rng(0)
    without = rng.uniform(size=(30, 4))
    weights = stats.draw_weights(30, seed=0)

    figure = stats.estimate(stats.means(without + 0.25 - without, weights))

    assert figure.value == pytest.approx(0.25)
    assert figure.low == pytest.approx(0.25)
    assert figure.high == pytest.approx(0.25)


def test_the_arm_without_sleep_is_charged_for_its_cheapest_level_that_is_as_good_as_its_best() -> None:
    without = [trial("v0", 0.20, 4), trial("v3", 0.95, 30), trial("v4", 0.96, 80)]
    slept = [trial("v0", 0.96, 5), trial("v4", 0.97, 70)]

    match = stats.match_levels(without, slept, seed=0)

    assert (match.best, match.without, match.with_sleep, match.reason) == ("v4", "v3", "v0", "")


def test_a_level_with_sleep_must_be_shown_to_be_as_good_not_merely_look_it() -> None:
    without = [trial("v4", 0.96, 80)]
    slept = [trial("v0", 0.95, 5), trial("v3", 0.96, 20)]

    match = stats.match_levels(without, slept, seed=0)

    assert (match.nearest, match.with_sleep) == ("v0", "v3")


def test_too_few_contexts_are_named_as_the_reason() -> None:
    match = stats.match_levels([trial("v4", 0.96, 80)], [trial("v0", 0.95, 5)], seed=0)

    assert match.with_sleep is None
    assert match.reason == (
        "v0 with sleep is within 2 points as measured, but 400 contexts are too few to show it; draw more"
    )


@pytest.mark.parametrize(("contexts", "is_shown"), [(12, False), (175, False), (190, True)])
def test_a_few_contexts_without_a_loss_are_no_proof(contexts: int, is_shown: bool) -> None:
    right = [trial("v4", 1.0, 80, contexts=contexts)]

    assert (stats.match_levels(right, right, seed=0).with_sleep is not None) is is_shown


@pytest.mark.parametrize(("contexts", "losses"), [(200, 0), (400, 3), (400, 12)])
def test_where_contexts_are_lost_whole_the_bound_is_that_of_clopper_and_pearson(contexts: int, losses: int) -> None:
    shares = stats.draw_shares(contexts, seed=0)
    right, answers = np.ones((contexts, 4)), np.ones((contexts, 4))
    answers[:losses] = 0
    bound = float(scipy_stats.binomtest(losses, contexts).proportion_ci(method="exact").high)

    assert stats.inferiority_p(answers, right, shares, margin=bound) == pytest.approx(0.025, abs=0.006)


def test_a_loss_more_never_helps_to_show_that_nothing_is_lost() -> None:
    contexts = 200
    shares = stats.draw_shares(contexts, seed=0)
    right, answers = np.ones((contexts, 4)), np.ones((contexts, 4))
    p_values: list[float] = []
    for context, query in [*((i, 0) for i in range(6)), *((i, q) for i in range(6) for q in range(1, 4))]:
        p_values.append(stats.inferiority_p(answers, right, shares))
        answers[context, query] = 0

    assert p_values == sorted(p_values)
    assert p_values[0] < 0.025 < p_values[-1]


@pytest.mark.parametrize(("lost_queries", "share_gained"), [(4, 0.0), (1, 0.0), (2, 0.3)])
def test_equal_accuracy_is_seldom_shown_by_chance_where_exactly_the_margin_is_lost(
    lost_queries: int, share_gained: float
) -> None:
    contexts, tries = 200, 1000
    rng, shares = np.random.default_rng(4), stats.draw_shares(contexts, seed=0, draws=2000)
    gained = 0.25 * share_gained
    share_lost = (0.02 + gained) / (lost_queries / 4)
    shown = 0
    for _ in range(tries):
        luck = rng.uniform(size=contexts)
        difference = np.zeros((contexts, 4))
        difference[luck < share_lost, :lost_queries] = -1
        difference[luck > 1 - share_gained, 0] = 1
        shown += stats.inferiority_p(difference, np.zeros_like(difference), shares) <= 0.025

    assert shown / tries <= 0.025 + 2 * (0.025 * 0.975 / tries) ** 0.5


@pytest.mark.parametrize(
    ("p_values", "falls"),
    [
        ([0.02], [True]),
        ([0.02, 0.5, 0.5], [False, False, False]),
        ([0.02, 0.001, 0.012], [True, True, True]),
        ([0.02, 0.001, 0.013], [False, True, False]),
        ([], []),
    ],
)
def test_several_tries_share_one_chance_of_error(p_values: list[float], falls: list[bool]) -> None:
    assert stats.holm(p_values, alpha=0.025) == falls


def test_no_ratio_is_claimed_where_sleep_is_plainly_worse() -> None:
    match = stats.match_levels([trial("v4", 0.96, 80)], [trial("v0", 0.60, 5)], seed=0)

    assert (match.with_sleep, match.nearest) == (None, None)
    assert match.reason == "no level with sleep comes within 2 points of v4 without sleep"


def test_a_level_that_is_worse_as_measured_is_left_open_where_contexts_are_few() -> None:
    match = stats.match_levels([trial("v4", 1.0, 80, contexts=20)], [trial("v0", 0.95, 5, contexts=20)], seed=0)

    assert (match.with_sleep, match.nearest) == (None, None)
    assert match.reason.endswith("as measured, but 20 contexts are too few to rule it out; draw more")


def test_an_arm_that_was_never_measured_matches_nothing() -> None:
    unmeasured = stats.Trial(level="v4", correct=np.full((5, 1), NAN), tokens=np.full((5, 1), NAN))

    assert stats.match_levels([unmeasured], [], seed=0).reason
    assert stats.match_levels([trial("v4", 1.0, 80)], [], seed=0).reason == "nothing was measured with sleep"


def test_the_envelope_keeps_only_points_worth_their_tokens() -> None:
    assert stats.envelope([4, 10, 20, 40], [0.2, 0.6, 0.5, 0.9]) == [(4, 0.2), (10, 0.6), (40, 0.9)]


@pytest.mark.parametrize(
    ("accuracy", "tokens"),
    [(0.1, 4.0), (0.2, 4.0), (0.4, 7.0), (0.75, 25.0), (0.9, 40.0)],
)
def test_tokens_are_linear_between_the_points_of_an_envelope(accuracy: float, tokens: float) -> None:
    assert stats.tokens_for(accuracy, [(4, 0.2), (10, 0.6), (40, 0.9)]) == pytest.approx(tokens)


def test_an_accuracy_never_reached_is_bought_by_no_number_of_tokens() -> None:
    assert stats.tokens_for(0.95, [(4, 0.2), (40, 0.9)]) == np.inf


def test_a_resample_in_which_sleep_fails_the_accuracy_counts_against_it() -> None:
    without, slept = [trial("v4", 1.0, 80, contexts=40)], [trial("v0", 0.975, 5, contexts=40)]
    weights = stats.draw_weights(40, seed=0)

    replicates = stats.interpolated_ratio(without, slept, weights, margin=0.03)

    assert replicates[0] == pytest.approx(16)
    assert set(replicates.round(6)) == {0.0, 16.0}
    assert stats.estimate(replicates).low == 0


def test_the_interpolated_ratio_meets_a_case_worked_by_hand() -> None:
    weights = np.ones((1, 400))
    without = [trial("v0", 0.20, 10), trial("v4", 0.92, 82)]
    slept = [trial("v0", 0.80, 5), trial("v1", 1.00, 15)]

    ratio = stats.interpolated_ratio(without, slept, weights)

    assert ratio[0] == pytest.approx((10 + 72 * 0.70 / 0.72) / (5 + 10 * 0.10 / 0.20))


def test_accuracy_is_linear_between_the_points_of_a_curve_and_nothing_buys_nothing() -> None:
    curve = stats.curve_of([trial("v0", 0.20, 4), trial("v1", 0.60, 10), trial("v2", 0.50, 20)], np.ones((1, 400)))

    reached = stats.accuracies_for(grid([0, 2, 4, 7, 10, 99, NAN]), curve)

    assert reached[0].tolist() == pytest.approx([0, 0.1, 0.2, 0.4, 0.6, 0.6, NAN], nan_ok=True)


def test_tokens_needed_are_what_accuracy_is_reached_for_and_back() -> None:
    curve = stats.curve_of([trial("v0", 0.20, 4), trial("v4", 0.90, 40)], stats.draw_weights(400, seed=0, resamples=20))
    tokens = np.tile([4.5, 12.0, 30.0], (21, 1))
    tokens = np.clip(tokens, curve.tokens[:, :1], curve.tokens[:, 1:])

    assert stats.tokens_needed(stats.accuracies_for(tokens, curve), curve) == pytest.approx(tokens)


def test_an_arm_that_was_measured_at_no_level_has_no_ratio() -> None:
    weights, measured = np.ones((1, 400)), [trial("v0", 0.9, 4)]

    assert np.isnan(stats.interpolated_ratio(measured, [], weights)).all()
    assert np.isnan(stats.interpolated_ratio([], measured, weights)).all()


def test_no_tokens_are_enough_where_an_arm_never_gets_there() -> None:
    curve = stats.curve_of([trial("v0", 0.20, 4)], np.ones((1, 400)))

    assert stats.tokens_needed(grid([0.1, 0.3, NAN]), curve)[0].tolist() == pytest.approx([4, np.inf, NAN], nan_ok=True)


@pytest.mark.parametrize("clusters", [6, 40, 500])
def test_an_interval_without_width_is_widened_to_that_of_clopper_and_pearson(clusters: int) -> None:
    exact = scipy_stats.binomtest(clusters, clusters).proportion_ci(method="exact")

    figure = stats.widened(stats.Estimate(value=1.0, low=1.0, high=1.0), clusters=clusters, lowest=0, highest=1)

    assert (figure.low, figure.high) == (pytest.approx(exact.low), 1)


def test_an_interval_with_width_and_a_figure_without_one_stay_as_they_are() -> None:
    for figure in (stats.Estimate(value=0.5, low=0.4, high=0.6), stats.Estimate(value=0.5), stats.Estimate(value=None)):
        assert stats.widened(figure, clusters=9, lowest=0, highest=1) == figure


def test_clusters_that_have_no_query_are_not_counted_as_too_few() -> None:
    empty = np.full((30, 1), NAN)
    trials = [
        stats.Trial(level="v0", correct=np.vstack([each.correct, empty]), tokens=np.vstack([each.tokens, empty]))
        for each in (trial("v4", 1.0, 80, contexts=20), trial("v0", 1.0, 5, contexts=20))
    ]

    reason = stats.match_levels(trials[:1], trials[1:], seed=0, unit="templates").reason

    assert reason == "v0 with sleep is within 2 points as measured, but 20 templates are too few to show it; draw more"


def test_cost_per_query_and_break_even_meet_the_paper_s_formula() -> None:
    assert stats.cost_per_query(np.array(4.0), np.array(100.0), queries=10, price=10) == pytest.approx(50)
    assert stats.break_even(np.array([64.0]), np.array([4.0]), np.array([120.0]), price=2) == pytest.approx([1.0])


def test_a_sleep_that_saves_nothing_never_breaks_even() -> None:
    assert stats.break_even(np.array([4.0]), np.array([4.0]), np.array([100.0])).tolist() == [np.inf]


def test_bins_are_of_equal_size_and_ties_stay_together() -> None:
    placed = stats.quantile_bins(grid([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]))
    tied = stats.quantile_bins(grid([1, 1, 1, 1, 1], [2, 3, 4, NAN, 9]))

    assert placed.tolist() == [[0, 0, 1, 1, 2], [2, 3, 3, 4, 4]]
    assert len(set(tied[0])) == 1
    assert tied[1, 3] == -1


def test_means_by_bin_leave_an_empty_bin_unmeasured() -> None:
    values, placed = grid([1, 0], [1, 1]), np.array([[0, 0], [4, -1]])

    binned = stats.binned_means(values, placed, np.ones((1, 2)))

    assert binned[0].tolist() == pytest.approx([0.5, NAN, NAN, NAN, 1.0], nan_ok=True)


@given(numbers)
def test_ranks_agree_with_scipy(values: list[float]) -> None:
    assert stats.ranks(np.array(values)).tolist() == scipy_stats.rankdata(values).tolist()


@given(st.permutations([1.0, 2.0, 2.0, 3.0, 5.0]), st.permutations([0.1, 0.2, 0.2, 0.4, 0.9]))
def test_rank_correlation_agrees_with_scipy(left: list[float], right: list[float]) -> None:
    ours = stats.spearman(np.array(left), np.array(right))

    assert ours == pytest.approx(scipy_stats.spearmanr(left, right).statistic)


def test_a_gain_that_is_the_same_in_every_bin_has_no_rank_correlation() -> None:
    assert np.isnan(stats.rank_correlations(grid([0.5] * 5))[0])
    assert stats.rank_correlations(grid([0.1, 0.2, 0.3, 0.5, 0.4]))[0] == pytest.approx(0.9)


def test_a_slope_agrees_with_scipy() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(-20, 5, size=(40, 4))
    y = 0.3 * x + rng.normal(size=(40, 4))

    slope = stats.slopes(x, y, np.ones((1, 40)))[0]

    assert slope == pytest.approx(scipy_stats.linregress(x.ravel(), y.ravel()).slope)


def test_a_slope_within_strata_is_not_the_strata_in_disguise() -> None:
    strata = np.array([[0, 0], [0, 0], [1, 1], [1, 1]])
    x = grid([0, 1], [0, 1], [10, 11], [10, 11])
    y = grid([5, 4], [5, 4], [25, 24], [25, 24])
    weights = np.ones((1, 4))

    assert stats.slopes(x, y, weights)[0] > 0
    assert stats.slopes(x, y, weights, strata)[0] == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("low", "high", "sign"), [(0.1, 0.4, "+"), (-0.4, -0.1, "−"), (-0.1, 0.1, "0"), (None, None, "?")]
)
def test_a_sign_is_claimed_only_where_the_interval_excludes_zero(
    low: float | None, high: float | None, sign: str
) -> None:
    assert stats.sign(stats.Estimate(value=0.05, low=low, high=high)) == sign
