from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeptime.core.budget import Budget
from sleeptime.core.deciding import (
    Decision,
    Guard,
    Left,
    Portfolio,
    Prospect,
    Reason,
    Spend,
    decide,
    in_order,
    pays_another_round,
    samples,
    waiting_is_cheaper,
)
from sleeptime.core.forecasting import Forecast, Gamma, Told
from sleeptime.core.notes import Draft, Note, changed_share
from sleeptime.core.plan import Worth
from sleeptime.core.policy import stop_reason
from sleeptime.core.usage import Usage

INVOICES = Prospect(
    name="invoices",
    price=0.012,
    tokens=6000,
    output_tokens=2000,
    saving=0.002,
    queries_seen=6,
    extra_paid=0.012,
    unit="USD",
)
amounts = st.floats(0.01, 10.0)
doubts = st.floats(0.05, 1.0)


def prospect(price: float, saving: float, seen: int, *, name: str = "c", tokens: int = 100) -> Prospect:
    return Prospect(
        name=name,
        price=price,
        tokens=tokens,
        output_tokens=tokens,
        saving=saving,
        queries_seen=seen,
        extra_paid=seen * saving,
        unit="USD",
    )


@dataclass(frozen=True)
class Chances:
    """A forecast given by its chances."""

    known: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.known)

    def chances(self) -> Iterator[float]:
        yield from self.known
        while True:
            yield 0.0


def bill(
    price: float, saving: float, queries: int, forecast_at: Callable[[int], Forecast | None], doubt: float
) -> float:
    """What a stream of *queries* costs above answers with notes, when it is asked before each one whether to sleep."""
    for seen in range(queries + 1):
        if decide(prospect(price, saving, seen), forecast_at(seen), doubt=doubt).is_sleep:
            return seen * saving + price
    return queries * saving


@pytest.mark.parametrize(
    ("price", "saving", "seen", "forecast", "doubt", "reason"),
    [
        (4, 1, 3, None, 0.2, "not-due"),
        (4, 1, 4, None, 0.2, "due"),
        (4, 0, 9, None, 0.2, "no-saving"),
        (4, -1, 9, Told(queries=99), 0.2, "no-saving"),
        (4, 1, 0, Told(queries=4), 0.0, "pays"),
        (4, 1, 0, Told(queries=4), 0.25, "pays"),
        (4, 1, 0, Told(queries=4), 0.26, "doubt"),
        (4, 1, 1, Told(queries=4), 0.5, "pays"),
        (4, 1, 0, Told(queries=3), 0.2, "wait"),
        (4, 1, 19, Told(queries=0), 0.2, "wait"),
        (4, 1, 20, Told(queries=0), 0.2, "due"),
        (1, 9, 0, Told(queries=0), 0.2, "wait"),
        (4, 1, 999, Told(queries=0), 0.0, "wait"),
        (4, 1, 4, Told(queries=0), 1.0, "due"),
        (4, 1, 0, Chances((0.5,) * 40), 0.0, "wait"),
        (4, 1, 0, Chances((0.9,) * 40), 0.0, "pays"),
    ],
)
def test_a_decision_meets_a_table_worked_by_hand(
    price: float, saving: float, seen: int, forecast: Forecast | None, doubt: float, reason: Reason
) -> None:
    assert decide(prospect(price, saving, seen), forecast, doubt=doubt).reason == reason


@given(price=amounts, saving=amounts, queries=st.integers(0, 300))
def test_without_a_forecast_no_stream_costs_more_than_twice_the_best_and_one_query(
    price: float, saving: float, queries: int
) -> None:
    best = min(queries * saving, price)

    assert bill(price, saving, queries, lambda _seen: None, 0.2) <= 2 * best + saving + 1e-9


@given(parts=st.integers(1, 400), queries=st.integers(0, 900))
def test_where_savings_add_up_to_the_price_exactly_twice_the_best_is_never_passed(parts: int, queries: int) -> None:
    price, saving = float(parts), 1.0

    assert bill(price, saving, queries, lambda _seen: None, 0.2) <= 2 * min(queries * saving, price)


def test_a_stream_that_stops_when_sleep_is_due_costs_twice_the_best() -> None:
    assert bill(100, 1, 100, lambda _seen: None, 0.2) == 200


@given(price=amounts, saving=amounts, queries=st.integers(0, 300), doubt=st.floats(0.0, 0.61))
def test_a_right_forecast_costs_at_most_one_plus_doubt_times_the_best(
    price: float, saving: float, queries: int, doubt: float
) -> None:
    best = min(queries * saving, price)
    cost = bill(price, saving, queries, lambda seen: Told(queries=queries - seen), doubt)

    assert cost <= (1 + doubt) * best + 1e-9


@given(
    price=amounts,
    saving=amounts,
    queries=st.integers(0, 300),
    doubt=doubts,
    lies=st.lists(st.sampled_from([0.0, 0.5, 3.0, 1e6]), min_size=301, max_size=301),
)
def test_however_wrong_the_forecasts_the_cost_is_bounded(
    price: float, saving: float, queries: int, doubt: float, lies: list[float]
) -> None:
    best = min(queries * saving, price)
    cost = bill(price, saving, queries, lambda seen: Told(queries=lies[seen]), doubt)

    assert cost <= (1 + 1 / doubt) * best + saving / doubt + 1e-9


@given(
    price=amounts,
    saving=amounts,
    chances=st.lists(st.floats(0, 1), max_size=40).map(lambda drawn: tuple(sorted(drawn, reverse=True))),
)
def test_sleeping_now_is_chosen_where_no_later_moment_is_cheaper_on_average(
    price: float, saving: float, chances: tuple[float, ...]
) -> None:
    known = [*chances, 0.0]
    costs = [saving * sum(known[:wait]) + price * chance for wait, chance in enumerate(known, 1)]
    cheapest_later = min(costs)
    if abs(cheapest_later - price) < 1e-9 * price:
        return

    assert waiting_is_cheaper(price, saving, Chances(chances)) == (cheapest_later < price)


@given(
    price=amounts,
    saving=amounts,
    seen=st.integers(0, 30),
    doubt=doubts,
    mean=st.floats(0.1, 30.0),
    cheaper=st.floats(0.1, 1.0),
    forecasts=st.booleans(),
)
def test_what_is_slept_on_is_slept_on_at_a_lower_price_and_a_higher_saving(
    price: float, saving: float, seen: int, doubt: float, mean: float, cheaper: float, forecasts: bool
) -> None:
    forecast = Gamma(shape=mean, days=1.0, horizon_days=1.0) if forecasts else None
    asked = prospect(price, saving, seen)
    if decide(asked, forecast, doubt=doubt).is_sleep:
        assert decide(replace(asked, price=price * cheaper), forecast, doubt=doubt).is_sleep
        assert decide(replace(asked, saving=saving / cheaper), forecast, doubt=doubt).is_sleep


@given(price=amounts, saving=amounts, seen=st.integers(0, 30), queries=st.integers(0, 40), more=st.integers(0, 40))
def test_more_queries_to_come_never_speak_against_sleep(
    price: float, saving: float, seen: int, queries: int, more: int
) -> None:
    asked = prospect(price, saving, seen)
    if decide(asked, Told(queries=queries)).is_sleep:
        assert decide(asked, Told(queries=queries + more)).is_sleep


@pytest.mark.parametrize(("price", "reason"), [(4999, "pays"), (5001, "wait")])
def test_a_price_worth_thousands_of_queries_is_held_against_the_mean(price: float, reason: Reason) -> None:
    assert decide(prospect(price, 1, 0), Told(queries=5000), doubt=0).reason == reason


@pytest.mark.parametrize("doubt", [-0.1, 1.1, float("nan")])
def test_doubt_is_a_share(doubt: float) -> None:
    with pytest.raises(ValueError, match="between 0"):
        decide(INVOICES, doubt=doubt)


@pytest.mark.parametrize(
    ("decision", "sentence"),
    [
        (
            decide(INVOICES, Told(queries=20)),
            (
                "Sleep on invoices: about 20 queries expected, each saving $0.002, are worth $0.028 more than the "
                "$0.012 that sleeping costs."
            ),
        ),
        (
            decide(INVOICES),
            (
                "Sleep on invoices: 6 queries without notes cost $0.012 extra, which has reached the price of "
                "sleeping, $0.012, so sleeping now costs at most about twice the best."
            ),
        ),
        (
            decide(replace(INVOICES, queries_seen=40, extra_paid=0.08), Told(queries=1)),
            (
                "Sleep on invoices: only about 1 query expected, but 40 queries without notes cost $0.08 extra, which "
                "has reached the $0.06 at which sleep is due whatever the forecast."
            ),
        ),
        (
            decide(replace(INVOICES, saving=-0.0004)),
            "Leave invoices: with notes a query is expected to save nothing (-$0.0004).",
        ),
        (
            decide(INVOICES, Told(queries=1.5)),
            (
                "Leave invoices: about 1.5 queries expected, each saving $0.002, would not bring back the $0.012 that "
                "sleeping costs."
            ),
        ),
        (
            decide(INVOICES, Chances((0.5,) * 40)),
            (
                "Wait with invoices: about 20 queries expected, each saving $0.002, would pay for the $0.012 of "
                "sleeping, but none may come, and seeing the next one first costs less on average."
            ),
        ),
        (
            decide(replace(INVOICES, queries_seen=0, extra_paid=0.0), Told(queries=20), doubt=0.5),
            (
                "Wait with invoices: about 20 queries expected would pay for the $0.012 of sleeping, but the forecast "
                "is believed only when the next one would bring the extra paid, $0, to $0.006."
            ),
        ),
        (
            decide(replace(INVOICES, queries_seen=1, extra_paid=0.002)),
            "Wait with invoices: 1 query without notes cost $0.002 extra, less than the $0.012 that sleeping costs.",
        ),
        (
            in_order([decide(INVOICES)], guard=Guard(allowance=0.0101))[0],
            (
                "Hold invoices back: sleeping would pay but costs $0.012, and only $0.01 may be risked until earlier "
                "sleeps have paid for themselves."
            ),
        ),
        (
            in_order([decide(INVOICES)], left=Left(day=Spend(tokens=1999)))[0],
            (
                "Hold invoices back: sleeping may take 2,000 output tokens and $0.012, more than the cap of this day "
                "leaves."
            ),
        ),
        (
            decide(replace(INVOICES, price=12_000, saving=1500, extra_paid=9000, unit="output tokens")),
            (
                "Wait with invoices: 6 queries without notes cost 9,000 output tokens extra, less than the 12,000 "
                "output tokens that sleeping costs."
            ),
        ),
    ],
)
def test_every_decision_explains_itself_in_one_sentence_with_its_figures(decision: Decision, sentence: str) -> None:
    assert decision.sentence == sentence


queries = st.tuples(st.just("query"), st.floats(0.0, 5.0), st.floats(-1.0, 1.0))
sleeps = st.tuples(st.just("sleep"), st.floats(0.01, 10.0), st.just(0.0))


@given(
    events=st.lists(st.one_of(queries, sleeps), max_size=80),
    regret=st.floats(0.0, 0.3),
    allowance=st.floats(0.0, 10.0),
)
def test_no_sequence_of_queries_and_sleeps_loses_more_than_the_guard_allows(
    events: list[tuple[str, float, float]], regret: float, allowance: float
) -> None:
    guard, portfolio = Guard(max_regret=regret, allowance=allowance), Portfolio()
    worst_loss = 0.0
    for what, amount, share in events:
        if what == "sleep":
            asked = decide(prospect(amount, amount, 1))
            granted = in_order([asked], guard=guard, portfolio=portfolio)[0].is_sleep
            portfolio = replace(portfolio, slept=portfolio.slept + (amount if granted else 0.0))
        else:
            saved = amount * share if portfolio.slept and guard.may_show(portfolio) else 0.0
            worst_loss = max(worst_loss, -saved)
            portfolio = replace(
                portfolio, saved=portfolio.saved + saved, without_sleep=portfolio.without_sleep + amount
            )

        bound = max(allowance, regret * portfolio.without_sleep)
        assert portfolio.unrecouped <= bound + worst_loss + 1e-9
        assert portfolio.unrecouped <= regret * portfolio.spent + allowance + (1 + regret) * worst_loss + 1e-9


@given(price=amounts, answer=amounts, regret=st.floats(0.01, 0.2), count=st.integers(1, 300))
def test_an_adversary_that_never_asks_again_takes_no_more_than_the_regret(
    price: float, answer: float, regret: float, count: int
) -> None:
    guard, portfolio = Guard(max_regret=regret), Portfolio()
    for _ in range(count):
        portfolio = replace(portfolio, without_sleep=portfolio.without_sleep + answer)
        if in_order([decide(prospect(price, price, 1))], guard=guard, portfolio=portfolio)[0].is_sleep:
            portfolio = replace(portfolio, slept=portfolio.slept + price)

    assert portfolio.spent <= (1 + regret) * portfolio.without_sleep + 1e-9


def test_a_sleep_that_paid_for_itself_makes_room_for_others() -> None:
    guard = Guard(max_regret=0.05, allowance=1.0)

    assert guard.room(Portfolio()) == 1.0
    assert guard.room(Portfolio(slept=1.0)) == 0.0
    assert guard.room(Portfolio(slept=1.0, saved=4.0, without_sleep=10.0)) == 4.0
    assert guard.room(Portfolio(slept=1.0, without_sleep=100.0)) == 4.0
    assert not guard.may_show(Portfolio(slept=1.1))


@pytest.mark.parametrize(("regret", "allowance"), [(-0.1, 0.0), (0.1, -1.0)])
def test_a_guard_bounds_something(regret: float, allowance: float) -> None:
    with pytest.raises(ValueError, match="negative"):
        Guard(max_regret=regret, allowance=allowance)


drawn = st.lists(
    st.builds(
        Prospect,
        name=st.sampled_from(["a", "b", "c"]),
        price=amounts,
        tokens=st.integers(1, 1000),
        saving=amounts,
        queries_seen=st.integers(0, 20),
        extra_paid=st.floats(0, 50),
    ),
    max_size=12,
)


@given(prospects=drawn, tokens=st.integers(0, 2000), cost=st.floats(0, 20), own=st.floats(0, 8), room=st.floats(0, 20))
def test_together_they_hold_every_cap_and_the_guard_and_the_best_come_first(
    prospects: list[Prospect], tokens: int, cost: float, own: float, room: float
) -> None:
    decisions = [decide(each) for each in prospects]
    left = Left(day=Spend(tokens=tokens), month=Spend(cost=cost), contexts={"a": Spend(cost=own)})
    ordered = in_order(decisions, left=left, guard=Guard(allowance=room))
    chosen = [each.prospect for each in ordered if each.is_sleep]

    assert sum(each.output_tokens for each in chosen) <= tokens
    assert sum(each.price for each in chosen) <= min(cost, room) + 1e-9
    assert sum(each.price for each in chosen if each.name == "a") <= own + 1e-9
    assert sorted(each.prospect.name for each in ordered) == sorted(
        each.prospect.name for each in decisions if each.is_sleep
    )
    gains = [each.net_saving_per_token for each in ordered]
    assert gains == sorted(gains, reverse=True)
    for held in (each for each in ordered if each.reason == "guard"):
        assert held.prospect.price > held.limit


@pytest.mark.parametrize(
    ("left", "guard", "reason"),
    [
        (Left(day=Spend(tokens=199)), None, "cap"),
        (Left(day=Spend(cost=9.9)), None, "cap"),
        (Left(month=Spend(tokens=199)), None, "cap"),
        (Left(month=Spend(cost=9.9)), None, "cap"),
        (Left(contexts={"c": Spend(tokens=199)}), None, "cap"),
        (Left(contexts={"c": Spend(cost=9.9)}), None, "cap"),
        (Left(), Guard(allowance=9.9), "guard"),
        (Left(day=Spend(tokens=200, cost=10), month=Spend(tokens=200, cost=10)), Guard(allowance=10), "due"),
    ],
)
def test_what_one_sleep_takes_is_no_longer_there_for_the_next(left: Left, guard: Guard | None, reason: Reason) -> None:
    both = [decide(prospect(5, 1, 5)), decide(prospect(5, 1, 5))]

    assert [each.reason for each in in_order(both, left=left, guard=guard)] == ["due", reason]


def test_one_that_is_too_large_does_not_block_smaller_ones_behind_it() -> None:
    large, small = prospect(8, 4, 9, name="large"), prospect(1, 0.2, 9, name="small")
    ordered = in_order([decide(small), decide(large)], left=Left(month=Spend(cost=2.0)))

    assert [(each.prospect.name, each.reason, each.cap) for each in ordered] == [
        ("large", "cap", "the cap of this month"),
        ("small", "due", ""),
    ]


def test_the_share_a_round_wrote_is_counted_in_characters() -> None:
    stood, new = Note(id="n1", text="a" * 30), Note(id="n2", text="b" * 10)

    assert changed_share([], [stood]) == 1.0
    assert changed_share([stood], [stood, new]) == 0.25
    assert changed_share([stood], [stood]) == 0.0
    assert changed_share([stood], []) == 0.0


def test_notes_that_a_sleep_began_with_do_not_dilute_the_share_of_a_round() -> None:
    kept, first, second = (Note(id=f"n{n}", text=letter * 10) for n, letter in enumerate("abc"))

    assert changed_share([kept], [kept, first], [kept]) == 1.0
    assert changed_share([kept, first], [kept, first, second], [kept]) == 0.5
    assert changed_share([kept], [kept], [kept]) == 0.0


@pytest.mark.parametrize(
    ("draft", "worth", "stops"),
    [
        (Draft(rounds=1, changed=(1.0,), cost_usd=0.02), Worth(queries=10, saving=0.01), None),  # 0.05 for 0.02
        (Draft(rounds=1, changed=(1.0,), cost_usd=0.02), Worth(queries=3, saving=0.01), "diminishing"),
        (Draft(rounds=2, changed=(1.0, 0.1), cost_usd=0.04), Worth(queries=10, saving=0.01), "diminishing"),
        (Draft(rounds=2, changed=(1.0, 0.9), cost_usd=0.04), Worth(queries=10, saving=0.01), None),
        (Draft(), Worth(queries=0, saving=0.0), None),  # the first round was decided on
        (Draft(rounds=1, changed=(1.0,), cost_usd=None), Worth(queries=0, saving=0.0), None),  # no price is known
        (Draft(rounds=1, changed=(0.0,)), None, None),  # nobody decided
        (
            Draft(rounds=1, changed=(1.0,), usage=Usage(output_tokens=500)),
            Worth(queries=3, saving=400, unit="output tokens"),
            None,
        ),
        (
            Draft(rounds=1, changed=(1.0,), usage=Usage(output_tokens=700)),
            Worth(queries=3, saving=400, unit="output tokens"),
            "diminishing",
        ),
        (Draft(rounds=1, failed_rounds=1, cost_usd=0.02), Worth(queries=3, saving=0.01), None),  # it wrote nothing yet
    ],
)
def test_a_sleep_that_was_decided_on_ends_where_another_round_is_not_expected_to_pay(
    draft: Draft, worth: Worth | None, stops: str | None
) -> None:
    assert stop_reason(draft, Budget(), elapsed_s=0.0, worth=worth) == stops


def test_what_is_due_against_the_forecast_is_worth_as_many_queries_as_came() -> None:
    due = decide(prospect(4, 1, 20), Told(queries=0), doubt=0.2)
    pays = decide(prospect(4, 1, 0), Told(queries=4), doubt=0.0)

    assert (due.reason, due.worth) == ("due", Worth(queries=20, saving=1))
    assert (pays.reason, pays.worth) == ("pays", Worth(queries=4, saving=1))
    assert due.worth.shared_by(2) == Worth(queries=20, saving=0.5)


@pytest.mark.parametrize(
    ("changed", "goes_on"),
    [([], True), ([1.0], True), ([1.0, 0.4], True), ([1.0, 0.2], False), ([1.0, 0.0], False), ([0.5, 0.5, 0.5], True)],
)
def test_another_round_is_taken_while_what_it_should_add_is_worth_its_price(
    changed: list[float], goes_on: bool
) -> None:
    assert pays_another_round(changed, round_price=1.0, queries=10, saving=1.0) == goes_on


@given(changed=st.lists(st.floats(0.0, 1.0), max_size=5), price=amounts, queries=st.floats(0, 50), saving=amounts)
def test_a_round_that_pays_pays_with_more_queries_and_changed_nothing_ends_it(
    changed: list[float], price: float, queries: float, saving: float
) -> None:
    if pays_another_round(changed, round_price=price, queries=queries, saving=saving):
        assert pays_another_round(changed, round_price=price, queries=queries + 1, saving=saving)
    assert not pays_another_round([*changed, 0.0], round_price=price, queries=queries, saving=saving)


@pytest.mark.parametrize(("queries", "expected"), [(0, 1), (2, 1), (3, 2), (8, 3), (1e9, 5)])
def test_samples_are_added_while_the_next_is_worth_its_price(queries: float, expected: int) -> None:
    assert samples(sample_price=1.0, queries=queries, saving=1.0, most=5, coverage=0.6) == expected
