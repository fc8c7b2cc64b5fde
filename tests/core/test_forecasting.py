from itertools import islice, pairwise
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from scipy import stats as scipy_stats

from sleeptime.core.forecasting import (
    LASTINGS,
    SHAPES,
    USUAL,
    Gamma,
    Prior,
    Queries,
    Seen,
    Talks,
    Told,
    days_until_edit,
    fit,
)

MINUTE = 1 / (24 * 60)
positive = st.floats(0.05, 20.0)
forecasts = st.builds(
    Queries,
    talks=st.builds(
        Talks,
        alive=st.floats(0.0, 1.0),
        rate=st.builds(Gamma, shape=st.floats(0.05, 5.0), days=st.floats(1.0, 20.0), horizon_days=st.floats(0.1, 5.0)),
        ends=st.floats(1.0, 100.0),
    ),
    goes_on=st.floats(0.0, 0.7),
    is_talking=st.booleans(),
)


def first(count: int, forecast: Gamma | Talks | Queries | Told) -> list[float]:
    return list(islice(forecast.chances(), count))


def test_chances_meet_a_case_worked_by_hand() -> None:
    assert first(3, Gamma(shape=1, days=1, horizon_days=1)) == pytest.approx([1 / 2, 1 / 4, 1 / 8])
    talks = Talks(alive=0.5, rate=Gamma(shape=1, days=1, horizon_days=1), ends=1)
    assert first(3, talks) == pytest.approx([0.5 / 2, 0.5 / 4 * 1 / 2, 0.5 / 8 * 1 / 2 * 2 / 3])
    silent = Queries(talks=talks, goes_on=0.5, is_talking=False)
    assert first(2, silent) == pytest.approx([1 / 4, 1 / 4 * 1 / 2 + 1 / 32])
    talking = Queries(talks=talks, goes_on=0.5, is_talking=True)
    assert first(2, talking) == pytest.approx([1 / 2 + 1 / 8, 1 / 4 + 1 / 2 * 1 / 4 + 1 / 4 * 1 / 16])


@given(shape=positive, days=positive, horizon=st.floats(0.1, 50.0))
def test_counts_at_a_gamma_rate_are_negative_binomial(shape: float, days: float, horizon: float) -> None:
    forecast = Gamma(shape=shape, days=days, horizon_days=horizon)
    known = scipy_stats.nbinom(shape, days / (days + horizon))

    assert first(20, forecast) == pytest.approx(known.sf(np.arange(20)).tolist(), abs=1e-9)
    assert forecast.mean == pytest.approx(known.mean())
    assert forecast.variance == pytest.approx(known.var())


def test_a_context_asked_about_all_day_is_forecast_as_exactly_as_any() -> None:
    forecast = Gamma(shape=1020.0, days=10.0, horizon_days=21.0)
    known = scipy_stats.nbinom(1020.0, 10 / 31)

    for least in (1, 2000, 2142, 2300):
        assert next(islice(forecast.chances(), least - 1, None)) == pytest.approx(known.sf(least - 1), abs=1e-6)


@given(forecasts)
def test_chances_never_rise_and_add_up_to_the_mean(forecast: Queries) -> None:
    chances = first(400, forecast)

    assert all(1 + 1e-9 >= more >= fewer - 1e-9 for more, fewer in pairwise(chances))
    assert forecast.mean == pytest.approx(sum(chances), abs=0.1, rel=0.02)
    assert forecast.variance >= -1e-6
    assert forecast.chance_of_at_least(0) == 1.0
    assert forecast.chance_of_at_least(7) == chances[6]


def test_the_forecast_is_that_of_the_model_it_names() -> None:
    rng = np.random.default_rng(7)
    prior, horizon = Prior(shape=0.6, days=2.0, lasting=2.5, goes_on=0.4), 9.0
    counts: list[int] = []
    for _ in range(20_000):
        rate, ends = rng.gamma(prior.shape, 1 / prior.days), rng.beta(1.0, prior.lasting)
        talks, queries = rng.poisson(rate * horizon), 0
        for _ in range(talks):
            queries += rng.geometric(1 - prior.goes_on)
            if rng.uniform() < ends:
                break
        counts.append(queries)
    forecast = prior.forecast(Seen(added_days=0.0), 0.0, horizon_days=horizon)

    for least in (1, 2, 5, 10):
        assert np.mean(np.array(counts) >= least) == pytest.approx(forecast.chance_of_at_least(least), abs=0.012)
    assert fmean(counts) == pytest.approx(forecast.mean, rel=0.05)
    assert np.var(counts) == pytest.approx(forecast.variance, rel=0.12)


def test_what_is_silent_for_long_is_seldom_alive() -> None:
    prior = Prior(shape=1.0, days=1.0, lasting=1.0, goes_on=0.0)

    assert prior.alive(Seen(added_days=0.0, queries=1, talks=1, last_days=1.0), 2.0) == pytest.approx(1 / (1 + 1.5**2))
    assert prior.alive(Seen(added_days=0.0), 1000.0) == 1.0


@given(queries=st.integers(1, 50), last=st.floats(0.0, 20.0), silence=st.floats(0.0, 20.0), more=st.floats(1.0, 20.0))
def test_the_forecast_falls_with_silence(queries: int, last: float, silence: float, more: float) -> None:
    seen = Seen(added_days=0.0, queries=queries, talks=queries, last_days=last)
    sooner = USUAL.forecast(seen, last + silence)
    later = USUAL.forecast(seen, last + silence + more)

    assert later.mean <= sooner.mean
    assert later.chance_of_at_least(1) <= sooner.chance_of_at_least(1)


def test_a_query_raises_the_forecast_and_what_was_asked_about_much_lasts() -> None:
    seen = Seen(added_days=0.0)
    means = [USUAL.forecast(seen, 1.0).mean]
    for _ in range(5):
        seen = seen.asked(1.0)
        means.append(USUAL.forecast(seen, 1.0).mean)

    assert means[0] < means[1]
    assert USUAL.alive(Seen(added_days=0.0, queries=9, talks=9, last_days=9.0), 9.0) > USUAL.alive(
        Seen(added_days=0.0, queries=1, talks=1, last_days=9.0), 9.0
    )


def test_queries_less_than_half_an_hour_apart_are_one_talk() -> None:
    seen = Seen(added_days=0.0)
    for minutes in (0, 10, 39, 80):
        seen = seen.asked(1 + minutes * MINUTE)

    assert (seen.queries, seen.talks) == (4, 2)
    assert seen.is_talking(1 + 100 * MINUTE)
    assert not seen.is_talking(1 + 111 * MINUTE)


def test_before_anything_was_seen_contexts_are_as_usual() -> None:
    prior = fit([], 0.0)

    assert prior.shape / prior.days == pytest.approx(USUAL.shape / USUAL.days)
    assert prior.goes_on == pytest.approx(USUAL.goes_on)
    assert prior.lasting == pytest.approx(USUAL.lasting, rel=0.1)


def test_the_prior_is_found_again_in_many_contexts_drawn_from_one() -> None:
    rng = np.random.default_rng(3)
    days = 40.0
    seen: list[Seen] = []
    for _ in range(1500):
        rate = rng.gamma(0.8, 1 / 2.0)
        times = np.sort(rng.uniform(0, days, size=rng.poisson(rate * days)))
        each = Seen(added_days=0.0)
        for at in times.tolist():
            each = each.asked(at)
            for _ in range(rng.geometric(0.7) - 1):
                each = each.asked(at)
        seen.append(each)
    prior = fit(seen, days, usual=Prior(lasting=400.0))

    assert prior.shape / prior.days == pytest.approx(0.4, rel=0.1)
    assert prior.shape == pytest.approx(0.8, rel=0.2)
    assert prior.goes_on == pytest.approx(0.3, abs=0.03)
    assert prior.lasting > 50


def test_contexts_that_fall_silent_soon_teach_that_they_do() -> None:
    soon = [Seen(added_days=0.0, queries=n, talks=n, last_days=0.1 * n) for n in (1, 1, 1, 2, 1, 3, 1, 1)]
    never = [Seen(added_days=0.0, queries=30, talks=30, last_days=29.5) for _ in range(8)]

    assert fit(soon, 30.0).lasting < USUAL.lasting < fit(never, 30.0).lasting


def test_one_context_decides_little() -> None:
    busy = Seen(added_days=0.0, queries=100, talks=100, last_days=10.0)
    per_day = [prior.shape / prior.days for prior in (fit([], 10.0), fit([busy], 10.0), fit([busy] * 50, 10.0))]

    assert per_day[0] < per_day[1] < 0.6 * per_day[2]
    assert per_day[2] == pytest.approx(10.0, rel=0.05)


def test_equal_contexts_make_a_narrow_prior() -> None:
    equal = [Seen(added_days=0.0, queries=20, talks=20, last_days=9.9) for _ in range(200)]
    unequal = [Seen(added_days=0.0, queries=n, talks=n, last_days=9.9) for n in (1, 2, 3, 74)] * 50

    assert fit(unequal, 10.0).shape < 1 < fit(equal, 10.0).shape


@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0.0, 30.0), st.floats(0.0, 30.0)), max_size=12))
def test_a_fit_is_always_a_prior(drawn: list[tuple[int, float, float]]) -> None:
    seen = [
        Seen(added_days=added, queries=count, talks=count, last_days=added + (30.0 - added) * last / 30.0)
        for count, added, last in drawn
    ]
    prior = fit(seen, 30.0)

    assert SHAPES[0] <= prior.shape <= SHAPES[1]
    assert LASTINGS[0] <= prior.lasting <= LASTINGS[1]
    assert prior.days > 0
    assert 0 <= prior.goes_on < 1


@given(shape=positive, days=positive, horizon=st.floats(0.1, 50.0))
def test_a_section_stands_until_its_next_edit_or_the_horizon(shape: float, days: float, horizon: float) -> None:
    known, _ = integrate.quad(lambda u: (days / (days + u)) ** shape, 0, horizon)

    assert days_until_edit(Gamma(shape=shape, days=days, horizon_days=horizon)) == pytest.approx(known, rel=1e-5)


def test_a_shape_of_one_is_no_exception() -> None:
    assert days_until_edit(Gamma(shape=1.0, days=2.0, horizon_days=2.0)) == pytest.approx(2 * np.log(2))
    assert days_until_edit(Gamma(shape=1.0 + 1e-7, days=2.0, horizon_days=2.0)) == pytest.approx(2 * np.log(2))


def test_what_somebody_tells_is_taken_as_certain() -> None:
    assert first(5, Told(queries=2.5)) == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert Told(queries=2.5).mean == 2.5
