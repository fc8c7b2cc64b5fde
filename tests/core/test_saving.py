from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeptime.core.saving import Belief, Sizes, Tally, Tariff, band, believed
from sleeptime.core.usage import PriceCard

CARD = PriceCard(
    name="card", dated=date(2026, 11, 1), input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, cached_input_usd_per_mtok=0.1
)
UNCACHED = PriceCard(name="uncached", dated=date(2026, 11, 1), input_usd_per_mtok=3.0, output_usd_per_mtok=1.0)
SIZES = Sizes(
    context_tokens=10_000,
    query_tokens=100,
    answer_output_tokens=1000,
    notes_tokens=900,
    rounds=3,
    round_output_tokens=500,
)
ratios = st.lists(st.floats(0.1, 3.0), min_size=1, max_size=40)


def tally(*measured: float) -> Tally:
    total = Tally()
    for ratio in measured:
        total = total.with_(ratio)
    return total


def test_a_belief_meets_a_case_worked_by_hand() -> None:
    everyone, own = tally(*[2.0] * 8), tally(1.0, 1.0, 1.0, 1.0)

    assert believed([everyone], strengths=[8]).mean == (8 * 1.0 + 16) / 16
    assert believed([everyone, own], strengths=[8, 4]).mean == (4 * 1.5 + 4) / 8


def test_where_nothing_was_measured_the_usual_is_believed() -> None:
    assert believed([Tally(), Tally()], usual=0.7).mean == 0.7
    assert believed([], usual=0.7).answers == 0


def test_a_group_without_answers_passes_on_what_the_wider_one_says() -> None:
    everyone = tally(*[2.0] * 8)

    assert believed([everyone, Tally()], strengths=[8, 4]).mean == 1.5


def test_half_stale_notes_count_half() -> None:
    assert Tally().with_(2.0, weight=0.5) == Tally(answers=0.5, total=1.0, squares=2.0)
    assert tally(1.0) + tally(3.0) == tally(1.0, 3.0)


@given(ratios)
def test_a_belief_lies_between_the_usual_and_what_was_measured(measured: list[float]) -> None:
    mean = sum(measured) / len(measured)

    assert min(1.0, mean) - 1e-9 <= believed([tally(*measured)]).mean <= max(1.0, mean) + 1e-9


@given(ratios)
def test_the_same_measured_again_makes_a_belief_surer(measured: list[float]) -> None:
    once, twice = believed([tally(*measured)]), believed([tally(*measured, *measured, *measured, *measured)])

    assert twice.answers == 4 * once.answers
    assert twice.deviation <= once.deviation * (1 + 1e-9) or twice.deviation < 0.5


def test_a_belief_scales_with_an_amount() -> None:
    assert Belief(mean=2.0, deviation=0.5, answers=3) * -2 == Belief(mean=-4.0, deviation=1.0, answers=3)


def test_an_answer_is_priced_with_its_cached_prefix() -> None:
    tariff = Tariff(sleep=CARD, test=CARD)

    assert SIZES.cost_without(tariff) == pytest.approx((10_000 * 0.1 + 100 * 1 + 1000 * 4) / 1e6)
    assert SIZES.cost_with(tariff, share=0.75) == pytest.approx((10_900 * 0.1 + 100 * 1 + 250 * 4) / 1e6)
    assert SIZES.saving(tariff, share=0.75) == pytest.approx((750 * 4 - 900 * 0.1) / 1e6)
    assert SIZES.saving(tariff, share=0.75, is_cached=False) == pytest.approx((750 * 4 - 900 * 1) / 1e6)


def test_a_sleep_reads_the_context_in_full_once() -> None:
    tariff = Tariff(sleep=CARD, test=UNCACHED)
    rounds = [10_000 * 1 + 2000, 10_000 * 0.1 + 300 * 1 + 2000, 10_000 * 0.1 + 600 * 1 + 2000]

    assert [SIZES.round_cost(tariff, number=n) for n in (1, 2, 3)] == pytest.approx([cost / 1e6 for cost in rounds])
    assert SIZES.sleep_cost(tariff) == pytest.approx(sum(rounds) / 1e6)


def test_notes_can_cost_more_than_they_spare() -> None:
    assert SIZES.saving(Tariff(sleep=UNCACHED, test=UNCACHED), share=0.75) < 0


def test_without_prices_output_tokens_are_counted_and_test_time_weighs_t() -> None:
    tariff = Tariff(test_price=10)

    assert tariff.unit == "output tokens"
    assert SIZES.cost_without(tariff) == 10_000
    assert SIZES.saving(tariff, share=0.6) == pytest.approx(6000)
    assert SIZES.sleep_cost(tariff) == 1500
    assert Tariff(sleep=CARD).unit == "output tokens"
    assert Tariff(sleep=CARD, test=CARD).unit == "USD"


@pytest.mark.parametrize(
    ("share", "name"), [(0.0, "low"), (0.33, "low"), (0.34, "middle"), (0.67, "high"), (1, "high")]
)
def test_predictability_has_three_bands(share: float, name: str) -> None:
    assert band(share) == name
