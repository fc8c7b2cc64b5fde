"""Caps hold whatever calls take, and in whatever order they are set aside and settled."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeptime.core.caps import Caps, Reservation, Spending, granted, nano_usd
from sleeptime.core.errors import BudgetError, DatabaseBusyError, InputError, RateLimitedError, ShareUsedUpError
from sleeptime.core.job import FIRST_WAIT_S, LONGEST_WAIT_S, MOST_FAILURES, wait_s
from sleeptime.core.usage import PriceCard

NOON = datetime(2026, 5, 31, 12, tzinfo=UTC)
CARD = PriceCard(name="card", dated=date(2026, 5, 1), input_usd_per_mtok=1.0, output_usd_per_mtok=10.0)


def a_call(output_tokens: int = 100, *, input_tokens: int = 1000, price: PriceCard | None = CARD) -> Reservation:
    return Reservation(
        id="c1",
        at=NOON,
        model="m",
        context_id="cboxes",
        work_id="s1",
        lease="l1",
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        price=price,
    )


def tokens_of(caps: Caps, spent: dict[str, Spending], asked: Reservation) -> int | None:
    given = granted(caps, spent, asked)
    return None if given is None else given.output_tokens


@pytest.mark.parametrize(
    ("caps", "account", "tokens"),
    [
        (Caps(), Spending(tokens=10**9), 100),
        (Caps(day_tokens=500), Spending(tokens=300), 100),
        (Caps(day_tokens=500), Spending(tokens=450), 50),
        (Caps(day_tokens=500), Spending(tokens=500), 0),
        (Caps(day_tokens=500), Spending(tokens=100, open_tokens=400), None),
        (Caps(day_tokens=500), Spending(tokens=100, open_tokens=250), 100),
        (Caps(day_usd=0.0015), Spending(), 50),  # a prompt for 0.001, and 50 of output
        (Caps(day_usd=0.002), Spending(), 100),
        (Caps(day_usd=0.001), Spending(), 0),
        (Caps(day_usd=0.0009), Spending(), 0),
        (Caps(day_usd=0.01), Spending(nano_usd=nano_usd(0.0085)), 50),
        (Caps(day_usd=0.01), Spending(nano_usd=nano_usd(0.001), open_tokens=9, open_nano_usd=nano_usd(0.009)), None),
        (Caps(day_tokens=0), Spending(), 0),
    ],
)
def test_a_call_gets_what_is_left_of_the_day(caps: Caps, account: Spending, tokens: int | None) -> None:
    assert tokens_of(caps, {"day:2026-05-31": account}, a_call()) == tokens


def test_the_narrowest_of_context_day_and_month_decides() -> None:
    spent = {"context:cboxes": Spending(tokens=10), "day:2026-05-31": Spending(), "month:2026-05": Spending(tokens=95)}

    assert tokens_of(Caps(context_tokens=50, day_tokens=90, month_tokens=100), spent, a_call()) == 5
    assert tokens_of(Caps(context_tokens=50, day_tokens=90), spent, a_call()) == 40
    assert tokens_of(Caps(day_tokens=90), spent, a_call()) == 90


def test_money_without_a_price_buys_nothing() -> None:
    assert tokens_of(Caps(day_usd=1.0), {}, a_call(price=None)) == 0


def test_a_day_ends_at_midnight_of_utc() -> None:
    assert a_call().accounts == ("context:cboxes", "day:2026-05-31", "month:2026-05")


def test_a_cap_below_zero_is_refused() -> None:
    with pytest.raises(BudgetError, match="below zero"):
        Caps(day_usd=-1.0)


@given(
    cap=st.integers(0, 500),
    usd=st.floats(0, 0.02),
    calls=st.lists(st.tuples(st.integers(1, 200), st.integers(0, 2000), st.floats(0, 1), st.booleans()), max_size=30),
)
def test_no_order_of_calls_passes_a_cap(cap: int, usd: float, calls: list[tuple[int, int, float, bool]]) -> None:
    """Each call is granted while earlier ones may still be open; `ends` settles the oldest open one."""
    caps = Caps(month_tokens=cap, month_usd=usd)
    account, under_way = Spending(), list[tuple[Reservation, float]]()
    for output, prompt, part, ends in calls:
        given = granted(caps, {"month:2026-05": account}, a_call(output, input_tokens=prompt))
        if given is not None and given.output_tokens:
            under_way.append((given, part))
        if ends and under_way:
            done, share = under_way.pop(0)
            account = Spending(
                tokens=account.tokens + int(done.output_tokens * share),
                nano_usd=account.nano_usd + int(done.nano_usd * share),
                open_tokens=sum(r.output_tokens for r, _ in under_way),
                open_nano_usd=sum(r.nano_usd for r, _ in under_way),
            )
        else:
            account = Spending(
                tokens=account.tokens,
                nano_usd=account.nano_usd,
                open_tokens=sum(r.output_tokens for r, _ in under_way),
                open_nano_usd=sum(r.nano_usd for r, _ in under_way),
            )
        assert account.tokens + account.open_tokens <= cap
        assert account.nano_usd + account.open_nano_usd <= usd * 1e9 + 1


def test_only_what_may_pass_is_tried_again_and_ever_later() -> None:
    busy = DatabaseBusyError("db", "locked")

    assert wait_s(1, busy) == FIRST_WAIT_S
    assert wait_s(3, busy) == FIRST_WAIT_S * 4
    assert wait_s(MOST_FAILURES + 1, ShareUsedUpError("m", retry_after_s=40)) == 40
    assert wait_s(MOST_FAILURES, busy) is None
    assert wait_s(1, InputError("no")) is None
    assert wait_s(1, RateLimitedError("m", retry_after_s=LONGEST_WAIT_S * 2)) == LONGEST_WAIT_S * 2
