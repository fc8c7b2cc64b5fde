import pytest

from sleeptime.core.ledger import Phase, Totals, ledger
from sleeptime.core.usage import Usage


def total(
    context_id: str | None, phase: Phase, sees: str | None, works: int, output_tokens: int, cost_usd: float | None
) -> Totals:
    return Totals(
        context_id=context_id,
        phase=phase,
        sees=sees,
        works=works,
        calls=works,
        usage=Usage(input_tokens=10 * works, output_tokens=output_tokens),
        cost_usd=cost_usd,
    )


def test_break_even_is_sleep_over_what_a_query_saves() -> None:
    rows = [
        total("c1", Phase.SLEEP, None, 1, 600, 0.006),
        total("c1", Phase.TEST, "context", 2, 80, 0.0008),
        total("c1", Phase.TEST, "context+learned", 4, 40, 0.0004),
    ]

    account = ledger(rows, {"c1": "report"}, test_price=10).accounts[0]

    assert (account.tokens.sleep, account.tokens.without_sleep, account.tokens.with_sleep) == (600, 40, 10)
    assert account.tokens.queries == 600 / (10 * 30)
    assert account.saved_tokens == 4 * 10 * 30 - 600
    assert account.money.queries == pytest.approx(0.006 / (0.0004 - 0.0001))
    assert account.saved_usd == pytest.approx(4 * 0.0003 - 0.006)
    assert account.total.total_tokens == 600 + 80 + 40 + 10 * 7
    assert account.queries == 6
    assert account.assisted == 4


def test_what_was_not_measured_is_unknown_and_never_zero() -> None:
    rows = [
        total("c1", Phase.SLEEP, None, 1, 600, None),
        total("c1", Phase.TEST, "learned", 1, 5, None),
    ]

    account = ledger(rows, {"c1": "report"}).accounts[0]

    assert account.tokens.without_sleep is None
    assert account.tokens.queries is None
    assert account.saved_tokens is None
    assert account.saved_usd is None
    assert account.total_cost_usd is None


def test_a_baseline_measured_elsewhere_is_used_and_marked() -> None:
    rows = [
        total("c1", Phase.SLEEP, None, 1, 100, 0.0),
        total("c1", Phase.TEST, "learned", 1, 10, 0.0),
        total("c2", Phase.TEST, "context", 1, 60, 0.0),
    ]

    accounts = ledger(rows, {"c1": "a", "c2": "b"}).accounts

    assert accounts[0].tokens.without_sleep == 60
    assert not accounts[0].baseline_is_own
    assert accounts[1].baseline_is_own


def test_sleep_that_saves_nothing_never_breaks_even() -> None:
    rows = [
        total("c1", Phase.SLEEP, None, 1, 100, 0.0),
        total("c1", Phase.TEST, "learned", 1, 60, 0.0),
        total("c1", Phase.TEST, "context", 1, 50, 0.0),
    ]

    account = ledger(rows, {"c1": "a"}).accounts[0]

    assert account.tokens.queries is None
    assert account.saved_tokens == -100 - 10 * 10


def test_forgotten_contexts_and_loose_calls_stay_in_the_total() -> None:
    rows = [total("c9", Phase.SLEEP, None, 1, 100, 1.0), total(None, Phase.TEST, "context", 1, 20, 2.0)]

    kept = ledger(rows, {})

    assert [account.name for account in kept.accounts] == ["c9 (forgotten)", "(no context)"]
    assert kept.total.total.output_tokens == 120
    assert kept.total.total_cost_usd == 3.0


def test_the_total_saved_is_the_sum_of_the_accounts() -> None:
    rows = [
        total("c1", Phase.SLEEP, None, 1, 100, 0.0),
        total("c1", Phase.TEST, "context", 1, 100, 0.0),
        total("c1", Phase.TEST, "learned", 3, 30, 0.0),
        total("c2", Phase.TEST, "context", 5, 50, 0.0),
    ]

    kept = ledger(rows, {"c1": "a", "c2": "b"}, test_price=1)

    assert kept.accounts[0].saved_tokens == 3 * (100 - 10) - 100
    assert kept.total.saved_tokens == kept.accounts[0].saved_tokens
