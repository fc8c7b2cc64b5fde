from datetime import date

import pytest
from thinker import MINI, measure, thinker

from sleeptime.core.errors import EndpointUnreachableError
from sleeptime.evals.demo.curves import DemoResult
from sleeptime.evals.demo.demo import CONCURRENCY, run_demo

pytestmark = pytest.mark.anyio


async def test_every_query_is_asked_at_every_level_with_and_without_sleep_and_at_v0_in_the_other_arms() -> None:
    result = await measure(thinker(6), contexts=6)

    asked = {(point.arm, point.level): point.accuracy.n_queries for point in result.points}
    swept = {(arm, f"v{level}"): 24 for arm in ("no_sleep", "sleep") for level in range(5)}
    assert asked == swept | {(arm, "v0"): 24 for arm in ("learned_only", "limited", "placebo")}


async def test_the_same_seed_measures_the_same_and_another_seed_draws_other_contexts() -> None:
    first, again = [await measure(thinker(4), contexts=4) for _ in range(2)]
    other = await measure(thinker(4, seed=9), contexts=4, seed=9)

    assert first.figures == again.figures
    assert first.example is not None
    assert other.example is not None
    assert first.example.context != other.example.context


async def test_a_failed_call_is_missing_and_never_wrong() -> None:
    healthy = await measure(thinker(6), contexts=6)
    failing = await measure(thinker(6, fails=frozenset({"context v2"})), contexts=6)

    lost, kept = failing.point("no_sleep", "v2").accuracy, failing.point("no_sleep", "v3").accuracy
    assert (lost.value, lost.n_queries, lost.missing) == (None, 0, 24)
    assert kept == healthy.point("no_sleep", "v3").accuracy
    assert failing.failed_calls == 24


async def test_a_gain_is_measured_only_on_pairs_with_both_answers() -> None:
    result = await measure(thinker(5, fails=frozenset({"context+learned v0"})), contexts=5)

    gain = result.figures["accuracy_gain_v0"]
    assert (gain.value, gain.n_queries, gain.missing, gain.note) == (None, 0, 20, "not measured")


async def test_a_model_that_cannot_sleep_at_all_is_an_error_not_a_table_of_gaps() -> None:
    with pytest.raises(EndpointUnreachableError):
        await measure(thinker(3, fails=frozenset({"sleep"})), contexts=3)


async def test_a_failed_sleep_is_charged_for_by_the_ledger_and_its_notes_are_not_asked_for() -> None:
    model = thinker(5, sleepless=1)
    healthy, result = await measure(thinker(5), contexts=5), await measure(model, contexts=5)

    tokens = result.figures["sleep_tokens_per_context"]
    assert (result.failed_sleeps, result.failed_calls) == (1, 0)
    assert (result.point("sleep", "v0").accuracy.n_queries, result.point("sleep", "v0").accuracy.missing) == (16, 4)
    assert result.point("no_sleep", "v0").accuracy == healthy.point("no_sleep", "v0").accuracy
    assert tokens.value is not None
    assert tokens.value * 4 == sum(call.usage.output_tokens for call in model.rows)
    assert tokens.missing == 1


async def test_without_log_probabilities_predictability_is_unmeasured_and_says_why() -> None:
    result = await measure(thinker(5, fails=frozenset({"log_prob"})), contexts=5)

    assert result.figures["predictability_rho"].value is None
    assert result.figures["predictability_rho"].note == "this model gives no log-probabilities"
    assert result.figures["accuracy_gain_v0"].value is not None


async def test_a_lone_context_has_no_other_notes_for_a_placebo() -> None:
    result = await measure(thinker(1), contexts=1)

    assert result.figures["placebo_gain_v0"].value is None
    assert result.figures["placebo_gain_v0"].missing == 4


async def test_no_more_contexts_are_worked_on_at_a_time_than_allowed() -> None:
    model = thinker(12)

    await measure(model, contexts=12)

    assert model.busiest == CONCURRENCY


async def test_progress_counts_to_the_end() -> None:
    seen: list[tuple[int, int]] = []

    await run_demo(
        thinker(3),
        model="thinker",
        contexts=3,
        seed=3,
        price=MINI,
        measured_on=date(2026, 11, 23),
        on_progress=lambda done, of: seen.append((done, of)),
    )

    assert seen == [(step, 6) for step in range(1, 7)]


async def test_sleep_gains_where_it_should_and_another_context_s_notes_do_not(result: DemoResult) -> None:
    gain, placebo = result.figures["accuracy_gain_v0"], result.figures["placebo_gain_v0"]

    assert gain.low is not None
    assert gain.low > 0.5
    assert placebo.low is not None
    assert placebo.low <= 0
    assert placebo.verdict in ("met", "not shown")
