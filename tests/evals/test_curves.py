import json
from datetime import date

import pytest
from thinker import MINI

from sleeptime.core.usage import Usage
from sleeptime.evals.curves import DemoResult, Figure, summarise
from sleeptime.evals.rows import LEVELS, Arm, Asked, Measurement, Provenance, Row, Slept

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


def measurement(*, contexts: int = 200) -> Measurement:
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
                depth=q + 1,
                log_prob=-9.0 + 5 * q + c / 1000,
                log_prob_tokens=3,
            )
            for c, q in places
        ),
        slept=tuple(
            Slept(
                context=i, usage=Usage(input_tokens=100, output_tokens=120), notes=("a", "b", "c", "d"), notes_correct=3
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
    assert figures["money_ratio"].value == pytest.approx(test_usd / (slept_usd + sleep_usd / 10))
    assert figures["money_ratio_uncached"].value == pytest.approx((25 + 80) / (50 + 8 + (25 + 240) / 10))
    assert figures["notes_correct_share"].value == pytest.approx(0.75)
    assert figures["sleep_tokens_per_context"].value == 120
    assert figures["placebo_gain_v0"].value == 0


def test_limited_notes_that_hold_the_predictable_half_show_in_the_bins() -> None:
    result = summarise(measurement(), provenance=PROVENANCE)

    assert [part.gain_limited.value for part in result.bins] == pytest.approx([0, 0, 0.5, 1, 1])
    assert result.figures["predictability_rho_limited"].value == pytest.approx(0.95, abs=0.01)
    assert result.figures["predictability_rho"].value is None
    assert result.figures["predictability_rho"].note == "not defined on these answers"


def test_predictability_within_each_depth_is_not_depth_in_disguise() -> None:
    within = summarise(measurement(), provenance=PROVENANCE).within_depth

    assert list(within) == ["1", "2", "pooled"]
    assert [figure.value for figure in within.values()] == pytest.approx([0, 0, 0])


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
    ("measured", "is_met"),
    [
        (figure(10.0, at_least=10.0), True),
        (figure(9.9, at_least=10.0), False),
        (figure(None, at_least=10.0), False),
        (figure(0.01, low=-0.02, high=0.04, at_most=0.0), True),
        (figure(0.03, low=0.01, high=0.05, at_most=0.0), False),
        (figure(0.5), None),
    ],
)
def test_a_target_is_met_or_missed_as_measured(measured: Figure, is_met: bool | None) -> None:
    assert measured.is_met is is_met
