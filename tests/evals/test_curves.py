import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import pytest
from thinker import MINI

from sleeptime.core.usage import Usage
from sleeptime.evals.demo.curves import COMPARED, LEVELS_CHOSEN, DemoResult, Figure, summarise
from sleeptime.evals.demo.rows import LEVELS, Arm, Asked, Measurement, Provenance, Row, Slept

PROVENANCE = Provenance(
    model="tiny",
    model_sha256="ab12",
    seed=1,
    family="sheets",
    machine="2 cores",
    versions={"python": "3.11"},
    wall_s=12.0,
    measured_on=date(2026, 11, 23),
)
KEYS = {
    "accuracy_full_cot_no_sleep",
    "token_ratio",
    "accuracy_gain_v0",
    "cost_ratio_t10",
    "cost_ratio_t2",
    "money_ratio",
    "predictability_rho",
    "predictability_rho_limited",
    "predictability_within_depth",
    "placebo_gain_v0",
    "notes_correct_share",
    "sleep_tokens_per_context",
    "test_tokens",
    "model",
    "model_sha256",
    "seed",
    "family",
    "machine",
    "versions",
    "price_card",
    "wall_s",
}


def measurement(*, contexts: int = 300) -> Measurement:
    """Two queries a context: without sleep right at v4 alone, with it at once; 40 tokens against 4."""
    tokens = dict(zip(LEVELS, (4, 8, 16, 24, 40), strict=True))

    def row(context: int, query: int, arm: Arm, level: str) -> Row:
        is_correct = arm in ("sleep", "learned_only") or level == "v4" or (arm == "limited" and query == 1)
        return Row(
            context=context,
            query=query,
            arm=arm,
            level=level,
            is_correct=is_correct,
            output_tokens=tokens[level],
            input_tokens=200 if arm == "sleep" else 100,
            cached_input_tokens=150 if arm == "sleep" else 80,
        )

    places = [(context, query) for context in range(contexts) for query in range(2)]
    v0: tuple[Arm, ...] = ("learned_only", "limited", "placebo")
    swept: tuple[Arm, ...] = ("no_sleep", "sleep")
    return Measurement(
        texts=tuple(f"context {i}" for i in range(contexts)),
        asked=tuple(
            Asked(
                context=c,
                query=q,
                question="?",
                target="7",
                kind="value",
                depth=q + 1,
                log_prob=-9.0 + 5 * q + c / 1000,
                log_prob_tokens=3,
            )
            for c, q in places
        ),
        slept=tuple(
            Slept(
                context=i,
                calls=(Usage(input_tokens=60, output_tokens=100), Usage(input_tokens=40, output_tokens=20)),
                notes=("a", "b", "c", "d"),
                notes_correct=3,
            )
            for i in range(contexts)
        ),
        rows=tuple(
            row(c, q, arm, level)
            for c, q in places
            for arm, level in [*((arm, level) for arm in swept for level in LEVELS), *((arm, "v0") for arm in v0)]
        ),
    )


def test_a_case_worked_by_hand() -> None:
    figures = summarise(measurement(), provenance=PROVENANCE, price=MINI).figures

    test_usd = 20 * 0.25 + 80 * 0.025 + 40 * 2
    slept_usd = 50 * 0.25 + 150 * 0.025 + 4 * 2
    sleep_usd = 100 * 0.25 + 120 * 2
    assert figures["accuracy_full_cot_no_sleep"].value == 1
    assert figures["accuracy_gain_v0"].value == 1
    assert figures["token_ratio"].value == pytest.approx(40 / 4)
    assert figures["cost_ratio_t10"].value == pytest.approx(400 / (40 + 12))
    assert figures["cost_ratio_t2"].value == pytest.approx(80 / (8 + 12))
    assert figures["break_even_t2"].value == pytest.approx(120 / (2 * 36))
    assert figures["money_ratio"].value == pytest.approx((25 + 80) / (50 + 8 + (25 + 240) / 10))
    assert figures["money_ratio_as_cached"].value == pytest.approx(test_usd / (slept_usd + sleep_usd / 10))
    assert figures["notes_correct_share"].value == pytest.approx(0.75)
    assert figures["sleep_tokens_per_context"].value == 120
    assert figures["placebo_gain_v0"].value == 0


def test_limited_notes_that_hold_the_predictable_half_show_in_the_bins() -> None:
    result = summarise(measurement(), provenance=PROVENANCE)

    assert [part.gain_limited.value for part in result.bins] == pytest.approx([0, 0, 0.5, 1, 1])
    assert result.figures["predictability_rho_limited"].value == pytest.approx(0.95, abs=0.01)
    assert result.figures["predictability_rho"].value is None
    assert result.figures["predictability_rho"].note == "not defined on these answers"


def changed(measured: Measurement, change: Callable[[Row], Row]) -> Measurement:
    return replace(measured, rows=tuple(change(row) for row in measured.rows))


def test_levels_are_compared_on_the_queries_that_both_answered() -> None:
    def fail(row: Row) -> Row:
        is_lost = row.context < 40 and row.query == 0 and (row.arm, row.level) == ("sleep", "v0")
        return replace(row, is_correct=None, error="RateLimitedError") if is_lost else row

    def longer(row: Row) -> Row:
        is_long = row.context < 40 and row.query == 0 and (row.arm, row.level) == ("no_sleep", "v4")
        return replace(row, output_tokens=4000) if is_long else row

    measured = changed(measurement(), lambda row: longer(fail(row)))
    figures = summarise(measured, provenance=PROVENANCE, price=MINI).figures

    for name in (*COMPARED, "token_ratio_interpolated"):
        assert (name, figures[name].missing, figures[name].n_queries) == (name, 40, 560)
    assert figures["token_ratio"].value == pytest.approx(40 / 4)
    assert figures["cost_ratio_t10"].value == pytest.approx(400 / (40 + 12))


def test_what_a_failed_sleep_spent_is_charged_to_the_others() -> None:
    whole = measurement()
    lost = replace(whole.slept[0], calls=(Usage(output_tokens=299 * 30),), notes=(), error="UpstreamError")
    rows = tuple(row for row in whole.rows if row.context != 0 or row.arm == "no_sleep")

    result = summarise(replace(whole, slept=(lost, *whole.slept[1:]), rows=rows), provenance=PROVENANCE, price=MINI)

    told = result.figures
    assert told["sleep_tokens_per_context"].value == pytest.approx(120 + 30)
    assert (told["sleep_tokens_per_context"].n_contexts, told["sleep_tokens_per_context"].missing) == (299, 1)
    assert told["cost_ratio_t10"].value == pytest.approx(400 / (40 + 15))
    assert told["money_ratio"].value == pytest.approx((25 + 80) / (50 + 8 + (25 + 240 + 60) / 10))
    assert (told["token_ratio"].n_queries, told["token_ratio"].missing) == (598, 2)
    assert (result.failed_sleeps, result.failed_calls) == (1, 0)


def test_where_sleep_never_reaches_the_accuracy_no_tokens_are_interpolated() -> None:
    worse = changed(measurement(), lambda row: replace(row, is_correct=row.arm == "no_sleep" or row.query == 0))

    figure = summarise(worse, provenance=PROVENANCE).figures["token_ratio_interpolated"]

    assert (figure.value, figure.low, figure.note) == (None, None, "with sleep that accuracy is never reached")


def test_the_json_says_that_levels_were_chosen_before_the_intervals() -> None:
    told = summarise(measurement(), provenance=PROVENANCE).as_json()

    assert told["levels_compared"]["note"] == LEVELS_CHOSEN
    assert told["levels_compared"]["with_sleep"] == "v0"


def test_each_call_is_priced_by_itself_and_a_card_s_dearer_prices_are_told() -> None:
    tiered = replace(MINI, above=((250, replace(MINI, name="long prompts", input_usd_per_mtok=100.0)),))
    whole = measurement()
    slept = tuple(replace(sleep, calls=(Usage(input_tokens=200, output_tokens=60),) * 2) for sleep in whole.slept)

    flat, dearer = (
        summarise(replace(whole, slept=slept), provenance=PROVENANCE, price=price) for price in (MINI, tiered)
    )
    told = dearer.as_json()["price_card"]

    assert dearer.figures["money_ratio"] == flat.figures["money_ratio"]
    assert (told["above"][0][0], told["above"][0][1]["dated"]) == (250, "2026-11-01")
    assert json.loads(json.dumps(told)) == told


def test_predictability_within_each_depth_is_not_depth_in_disguise() -> None:
    within = summarise(measurement(), provenance=PROVENANCE).within_depth

    assert list(within) == ["1", "2", "pooled"]
    assert [figure.value for figure in within.values()] == pytest.approx([0, 0, 0])


def test_queries_about_two_quantities_do_not_make_predictability_look_useful() -> None:
    whole = measurement()
    pairs = {(a.context, a.query) for a in whole.asked if a.context % 10 == 0}
    asked = tuple(
        replace(a, kind="sum", depth=1, log_prob=-30.0) if (a.context, a.query) in pairs else replace(a, depth=1)
        for a in whole.asked
    )

    def useless(row: Row) -> Row:
        return replace(row, is_correct=(row.context, row.query) not in pairs) if row.arm == "limited" else row

    result = summarise(changed(replace(whole, asked=asked), useless), provenance=PROVENANCE)

    assert list(result.within_depth) == ["1", "pooled"]
    assert [figure.value for figure in result.within_depth.values()] == pytest.approx([0, 0])
    assert result.as_json()["predictability_within_depth"]["pooled"]["sign"] == "0"
    assert [figure.n_queries for figure in result.within_depth.values()] == [540, 540]


def test_without_a_price_card_money_is_unknown_and_not_zero() -> None:
    figure = summarise(measurement(), provenance=PROVENANCE).figures["money_ratio"]

    assert (figure.value, figure.note) == (None, "no price card was given")


def test_the_json_has_the_promised_keys_and_nothing_json_cannot_hold(result: DemoResult) -> None:
    told = result.as_json()

    assert set(told) >= KEYS
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert set(told["token_ratio"]) >= {"value", "low", "high", "at_least", "n_contexts", "n_queries", "missing"}
    assert told["test_tokens"]["no_sleep"]["v4"]["value"] == 62


def test_every_figure_lies_in_its_own_interval(result: DemoResult) -> None:
    for figure in result.figures.values():
        assert figure.value is not None
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low <= figure.value <= figure.high


def figure(value: float | None, **given: float | None) -> Figure:
    facts = {"low": None, "high": None, **given}
    return Figure(value=value, n_contexts=1, n_queries=1, missing=0, **facts)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (figure(10.0, at_least=10.0), "met"),
        (figure(9.9, at_least=10.0), "missed"),
        (figure(None, at_least=10.0), "not shown"),
        (figure(9.9, at_least=10.0, as_measured=12.0), "not shown"),
        (figure(None, at_least=10.0, as_measured=4.0), "missed"),
        (figure(0.0, low=-0.02, high=0.04, at_most=0.0), "met"),
        (figure(0.01, low=-0.02, high=0.04, at_most=0.0), "not shown"),
        (figure(0.03, low=0.01, high=0.05, at_most=0.0), "missed"),
        (figure(None, at_most=0.0), "not shown"),
        (figure(0.5), None),
    ],
)
def test_a_target_is_met_missed_or_left_open_as_measured(measured: Figure, verdict: str | None) -> None:
    assert measured.verdict == verdict
