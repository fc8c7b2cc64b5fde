import json
import subprocess
import sys
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sleeptime.core.deciding import Guard
from sleeptime.evals.analysis.stats import Estimate
from sleeptime.evals.simulator import measure
from sleeptime.evals.simulator.deployment import POLICIES, Deployment, Policy, Trace, lie, past_of, traces_of, within
from sleeptime.evals.simulator.triggers import cost_without_sleep, hindsight_cost, triggered_cost, triggers
from sleeptime.evals.simulator.worlds import (
    CONTEXTS,
    FAMILIES,
    SECTIONS,
    SLEEP_DAYS,
    TRACE_DAYS,
    Batch,
    World,
    batches,
    draw,
)

RULE = next(policy for policy in POLICIES if policy.name == measure.RULE)


def batch_of(family: str, traces: int, *, seed: int = 5) -> Batch:
    return draw(family, traces, rng=np.random.default_rng(seed))


def by_hand(
    at: list[float], *, price: float = 2.0, saving: float = 0.5, edits: list[tuple[float, int]] | None = None
) -> Batch:
    """One trace whose first context is asked at these days, each answer costing 1; nothing else happens in it."""
    edits = edits or []
    whole = np.arange(1 if edits else 0, CONTEXTS)
    cuts = [[0.0, *(day for day, edited in edits if edited == section), TRACE_DAYS] for section in range(SECTIONS)]
    pieces = [piece for cut in cuts for piece in pairwise(cut)] if edits else []
    ones = np.ones(CONTEXTS)
    return Batch(
        traces=1,
        kind=np.zeros(CONTEXTS, dtype=np.int64),
        arrives=np.zeros(CONTEXTS),
        sleep_cost=price * ones,
        sleep_tokens=np.full(CONTEXTS, 800),
        answer_cost=ones,
        saving=saving * ones,
        predicted_answer_cost=ones,
        predicted_saving=saving * ones,
        query_context=np.zeros(len(at), dtype=np.int64),
        query_at=np.array(at),
        query_cost=np.ones(len(at)),
        query_saving=np.full(len(at), saving),
        edit_context=np.zeros(len(edits), dtype=np.int64),
        edit_at=np.array([day for day, _ in edits]),
        edit_section=np.array([section for _, section in edits], dtype=np.int64),
        stretch_context=np.concatenate([whole, np.zeros(len(pieces), dtype=np.int64)]),
        stretch_from=np.concatenate([np.zeros(len(whole)), [start for start, _ in pieces]]),
        stretch_to=np.concatenate([np.full(len(whole), TRACE_DAYS), [end for _, end in pieces]]),
        stretch_share=np.concatenate([np.ones(len(whole)), np.full(len(pieces), 1 / SECTIONS)]),
    )


def lived(batch: Batch, policy: Policy) -> float:
    return Deployment(traces_of(batch, seed=0)[0], policy).run()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_draws_the_same_traces_and_another_seed_others(family: str) -> None:
    first, again, other = (batch_of(family, 4, seed=seed) for seed in (1, 1, 2))

    for each in fields(Batch):
        assert np.array_equal(getattr(first, each.name), getattr(again, each.name)), each.name
    assert len(first.query_at) != len(other.query_at)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_world_is_well_formed(family: str) -> None:
    batch = batch_of(family, 40)
    order = np.lexsort((batch.query_at, batch.query_context))

    assert np.array_equal(order, np.arange(len(order)))
    assert (batch.query_at >= batch.arrives[batch.query_context]).all()
    assert (batch.query_at < TRACE_DAYS).all()
    assert (batch.query_saving <= batch.query_cost).all()
    shares = np.bincount(batch.stretch_context, weights=batch.stretch_share * (batch.stretch_to - batch.stretch_from))
    assert shares == pytest.approx(TRACE_DAYS - batch.arrives)
    assert batch.answer_cost.reshape(40, CONTEXTS).mean(axis=1) == pytest.approx(1.0) or family == "adversarial"


def test_families_are_what_they_are_called() -> None:
    counts = {
        name: np.bincount(batch.query_context, minlength=len(batch.arrives))
        for name in FAMILIES
        if (batch := batch_of(name, 100))
    }
    gaps = {
        name: np.diff(batch.query_at)[np.diff(batch.query_context) == 0]
        for name in FAMILIES
        if (batch := batch_of(name, 100))
    }

    assert all((each == 0).any() for each in counts.values())
    assert np.median(gaps["bursty"]) < 0.02
    assert np.median(gaps["stationary"]) > 0.05
    assert 0.25 < (counts["heavy-tailed"] == 0).mean() < 0.45
    assert counts["heavy-tailed"].max() > 50
    assert np.median(counts["heavy-tailed"]) < 2
    assert [name for name in FAMILIES if len(batch_of(name, 20).edit_at)] == ["edited", "mixed"]
    assert len(set(batch_of("mixed", 20).kind.tolist())) == 4


def test_more_queries_and_longer_answers_can_be_asked_for() -> None:
    rng = np.random.default_rng
    usual = draw("stationary", 50, rng=rng(1))
    busy = draw("stationary", 50, rng=rng(1), world=World(queries=400))
    short = draw("stationary", 50, rng=rng(1), world=World(answer_tokens=300))

    assert len(busy.query_at) > 3 * len(usual.query_at)
    assert short.sleep_cost.mean() > 2 * usual.sleep_cost.mean()


def test_triggers_meet_a_case_worked_by_hand() -> None:
    days = [0.5, 1.5, 2.5, 3.5, 4.5, 4.505, 8.5]
    cost = {name: triggered_cost(by_hand(days), times(by_hand(days)))[0] for name, times in triggers().items()}
    others = (CONTEXTS - 1) * 2.0

    assert cost["never"] == 7
    assert cost["always"] == pytest.approx(7 + 2 - 7 * 0.5 + others)
    assert cost["every 5 turns"] == pytest.approx(7 + 2 - 0.5)
    assert cost["every 25 turns"] == 7
    assert cost["on idle"] == pytest.approx(7 + 2 - 6 * 0.5)
    assert cost["nightly"] == pytest.approx(7 + 2 - 6 * 0.5 + others)
    assert cost["24 h and 5 talks"] == pytest.approx(7 + 2 - 0.5)


def test_triggers_pay_again_only_for_what_was_edited() -> None:
    batch = by_hand([0.5, 5.0], edits=[(1.2, 0), (9.0, 3)])
    times = triggers()

    assert triggered_cost(batch, times["on idle"](batch))[0] == pytest.approx(2 + 2 + 2 / SECTIONS - 0.5 * 7 / SECTIONS)
    assert triggered_cost(batch, times["every 5 turns"](batch))[0] == 2


@pytest.mark.parametrize("family", ["bursty", "heavy-tailed", "adversarial"])
def test_hindsight_is_the_best_of_all_moments_to_sleep(family: str) -> None:
    batch = batch_of(family, 3)
    best = np.zeros(3)
    for context in range(len(batch.arrives)):
        mine = batch.query_context == context
        at, cost, saving = batch.query_at[mine], batch.query_cost[mine], batch.query_saving[mine]
        moments = [batch.arrives[context], *at]
        sleeping = [
            cost.sum() + batch.sleep_cost[context] - saving[at >= moment + SLEEP_DAYS].sum() for moment in moments
        ]
        best[context // CONTEXTS] += min([cost.sum(), *sleeping])

    assert hindsight_cost(batch) == pytest.approx(best)


def test_hindsight_sleeps_on_the_sections_whose_text_lasts() -> None:
    batch = by_hand([1.0, 2.0, 3.0, 4.0, 5.0], edits=[(2.5, 0), (3.5, 0)])
    kept = 7 / SECTIONS * (2 - 5 * 0.5)

    assert hindsight_cost(batch)[0] == pytest.approx(5 + kept)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_costs_less_than_hindsight(family: str) -> None:
    batch = batch_of(family, 12)
    least = hindsight_cost(batch) - 1e-9
    traces = traces_of(batch, seed=3)

    assert all((triggered_cost(batch, times(batch)) >= least).all() for times in triggers().values())
    for policy in POLICIES:
        assert (np.array([Deployment(trace, policy).run() for trace in traces]) >= least).all(), policy.name


def test_the_rule_without_forecast_sleeps_when_the_extra_reaches_the_price() -> None:
    days = [float(day) for day in range(1, 11)]

    assert lived(by_hand(days), RULE) == pytest.approx(10 + 2 - 6 * 0.5)
    assert lived(by_hand(days[:4]), RULE) == pytest.approx(4 + 2)
    assert lived(by_hand(days[:3]), RULE) == pytest.approx(3)


def test_queries_that_come_while_it_sleeps_are_answered_without_its_notes() -> None:
    at_once = [1.0, 2.0, 3.0, 4.0, 4.0 + SLEEP_DAYS / 2, 4.0 + SLEEP_DAYS * 2]

    assert lived(by_hand(at_once), RULE) == pytest.approx(6 + 2 - 0.5)


def test_an_edit_makes_its_section_a_rental_of_its_own() -> None:
    days = [float(day) for day in range(1, 11)]
    batch = by_hand(days, edits=[(5.5, 2)])
    share = 1 / SECTIONS

    assert lived(batch, RULE) == pytest.approx(10 + 2 * (1 + share) - 0.5 * (6 - 4 * share))


def test_an_oracle_sleeps_at_once_where_enough_will_come_before_the_next_edit() -> None:
    days = [float(day) for day in range(1, 11)]
    exact = Policy(name="exact", tells=within(0.0))

    assert lived(by_hand(days), exact) == pytest.approx(10 + 2 - 10 * 0.5)
    assert lived(by_hand(days[:3]), exact) == pytest.approx(3)
    often = [(day + 0.5, section) for day in range(1, 10) for section in range(SECTIONS)]
    assert lived(by_hand(days, edits=often), exact) == pytest.approx(10)


class Diary(Deployment):
    """A deployment that remembers when it slept on what."""

    def __init__(self, trace: Trace, policy: Policy) -> None:
        super().__init__(trace, policy)
        self.slept_at: list[tuple[float, int]] = []

    def sleep(self, index: int, key: tuple[int, int], at: float) -> None:
        self.slept_at.append((at, index))
        super().sleep(index, key, at)


@pytest.mark.parametrize("family", ["mixed", "adversarial"])
@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy.tells is None], ids=lambda each: each.name)
def test_a_policy_without_an_oracle_sees_nothing_of_what_is_to_come(family: str, policy: Policy) -> None:
    day = 9.0
    batch = batch_of(family, 6)
    asked, edited = batch.query_at < day, batch.edit_at < day
    cut = replace(
        batch,
        **{name: getattr(batch, name)[asked] for name in ("query_context", "query_at", "query_cost", "query_saving")},
        **{name: getattr(batch, name)[edited] for name in ("edit_context", "edit_at", "edit_section")},
    )
    slept = 0
    for whole, short in zip(traces_of(batch, seed=1), traces_of(cut, seed=1), strict=True):
        diaries = Diary(whole, policy), Diary(short, policy)
        for diary in diaries:
            diary.run()
        until = [[entry for entry in diary.slept_at if entry[0] < day] for diary in diaries]
        assert until[0] == until[1]
        slept += len(until[0])

    assert slept > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_guard_s_ledger_shows_never_passes_its_bound(family: str) -> None:
    for trace in traces_of(batch_of(family, 15), seed=2):
        deployment = Deployment(trace, Policy(name="lied to", tells=lie, is_guarded=True))
        deployment.run()
        assert deployment.guard is not None
        worst = max(cost for *_, cost, _ in trace.events)
        assert deployment.portfolio.unrecouped <= deployment.guard.limit(deployment.portfolio) + worst


def test_a_past_teaches_what_its_kinds_are_like() -> None:
    past = past_of(traces_of(batch_of("mixed", 30), seed=1))

    assert set(past.priors) == {0, 1, 2, 3}
    assert past.priors[1].goes_on > 0.6
    assert past.priors[0].goes_on < 0.2
    assert past.priors[2].lasting < past.priors[0].lasting
    assert set(past.edits) == {3}
    assert past.portfolio.unrecouped < 0
    assert past.without[0] <= 100
    assert past.with_[1] / past.with_[0] > 1


@pytest.fixture(scope="module")
def figures() -> dict[str, dict[str, measure.Figures]]:
    return {name: measure.simulate(name, 50, seed=77, past_traces=20).figures() for name in FAMILIES}


def test_the_targets_that_are_met_are_met_on_few_traces_too(figures: dict[str, dict[str, measure.Figures]]) -> None:
    for verdict in measure.verdicts(figures):
        slack = 0.02 if verdict.limit < 1 else 0.05
        is_own = verdict.policy == measure.OWN and verdict.limit < 0
        assert verdict.figure.value is not None
        assert verdict.figure.value <= (-0.10 if is_own else verdict.limit + slack), verdict


def test_better_forecasts_cost_less(figures: dict[str, dict[str, measure.Figures]]) -> None:
    for family in figures.values():
        good, fair, bad = (family[f"told {what}"].hindsight.value for what in ("within 20 %", "within 50 %", "noise"))
        assert good is not None
        assert fair is not None
        assert bad is not None
        assert good < fair + 0.02 < bad
    mixed = figures["mixed"]
    ladder = [mixed[name].hindsight.value for name in ("hindsight", measure.TOLD, measure.OWN, measure.RULE, "never")]
    assert ladder == sorted(ladder, key=lambda cost: cost or 0.0)
    assert ladder[0] == 1.0


def test_without_the_guard_lies_would_lose_more_than_with_it() -> None:
    traces = traces_of(batch_of("adversarial", 40), seed=4)
    free, guarded = (
        sum(Deployment(trace, Policy(name="lied to", tells=lie, is_guarded=is_guarded)).run() for trace in traces)
        for is_guarded in (False, True)
    )
    never = cost_without_sleep(batch_of("adversarial", 40)).sum()

    assert guarded < 1.05 * never < 1.15 * never < free


def test_a_target_is_met_only_by_the_whole_interval() -> None:
    verdict = measure.Verdict(
        target="t", family="f", policy="p", figure=Estimate(value=1.05, low=1.0, high=1.11), limit=1.10
    )

    assert not verdict.is_met
    assert replace(verdict, figure=Estimate(value=1.05, low=1.0, high=1.10)).is_met
    assert not replace(verdict, figure=Estimate(value=None)).is_met


def test_batches_go_on_with_new_traces() -> None:
    drawn = list(batches("bursty", 7, seed=1, size=3))

    assert [batch.traces for batch in drawn] == [3, 3, 1]
    assert len({len(batch.query_at) for batch in drawn[:2]}) == 2


def test_the_command_prints_its_verdicts_and_says_so_where_a_target_is_missed() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "simulate.py"
    command = [sys.executable, script, "--traces", "8", "--seed", "5", "--families", "adversarial"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, timeout=120)
    shown = json.loads(done.stdout)

    assert done.returncode == (0 if all(verdict["is_met"] for verdict in shown["verdicts"]) else 1)
    assert shown["figures"]["adversarial"]["hindsight"]["hindsight"]["value"] == 1.0
    assert (shown["traces"], shown["seed"]) == (8, 5)
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120).stdout
    lines = told.splitlines()
    assert "### adversarial, 8 traces" in lines
    assert sum(line.startswith(("met ", "MISSED ")) for line in lines) == len(shown["verdicts"])


def test_the_guard_of_the_simulator_is_the_library_s() -> None:
    assert Deployment(traces_of(by_hand([1.0]), seed=0)[0], Policy(name="g", is_guarded=True)).guard == Guard(
        allowance=2.0
    )
