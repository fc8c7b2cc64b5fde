"""The ledger: every model call is a row, and what the rows add up to.

    cost per query = t · b + S / N          (paper; t = price of a test-time token in sleep tokens)
    break-even N*  = S / (t · (B − b))      queries after which the sleep has paid for itself

S = sleep output tokens; B, b = mean test-time output tokens per query without and
with a learned context. The same with money in place of tokens and t = 1. What was
not measured is None, never 0. This file does not know where rows are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from sleeptime.core.usage import Usage, sum_costs

DEFAULT_TEST_TOKEN_PRICE = 10.0


class Phase(StrEnum):
    """What a call was for: before the query, for the query, to check notes, or to measure how likely a text is."""

    SLEEP = "sleep"
    TEST = "test"
    VERIFY = "verify"
    SCORE = "score"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One model call: a row of the ledger. `at` is UTC; `outcome` is "ok" or an error's name.

    `work_id` groups the calls of one sleep or of one answer.
    """

    id: str
    at: datetime
    phase: Phase
    model: str
    usage: Usage
    cost_usd: float | None
    latency_s: float
    outcome: str = "ok"
    price_card: str | None = None
    context_id: str | None = None
    version: int | None = None
    work_id: str | None = None
    sees: str | None = None
    level: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over the calls of one context, phase, choice of `sees` and level.

    `works` counts sleeps or answers that were completed; `cost_usd` is None when a part has no known price.
    """

    context_id: str | None
    phase: Phase
    sees: str | None
    works: int
    calls: int
    usage: Usage
    cost_usd: float | None
    level: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """N* and the inputs it came from; `queries` is None where sleep does not save, or nothing was measured."""

    sleep: float | None
    without_sleep: float | None
    with_sleep: float | None
    test_price: float
    unit: str

    @property
    def queries(self) -> float | None:
        if self.sleep is None or self.without_sleep is None or self.with_sleep is None:
            return None
        saved = self.test_price * (self.without_sleep - self.with_sleep)
        return self.sleep / saved if saved > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One context's side of the ledger.

    `queries` counts all completed answers, `assisted` those that saw a learned context; `levels` counts them by
    (sees, level), because B and b compare only what was asked.
    `baseline_is_own` is False where B was measured on other contexts, for want of own answers without sleep.
    """

    context_id: str | None
    name: str
    sleep: Usage
    sleep_cost_usd: float | None
    test: Usage
    test_cost_usd: float | None
    verify: Usage
    verify_cost_usd: float | None
    score: Usage
    score_cost_usd: float | None
    levels: tuple[tuple[str, str, int], ...]
    queries: int
    assisted: int
    saved_tokens: float | None
    saved_usd: float | None
    tokens: BreakEven
    money: BreakEven
    baseline_is_own: bool

    @property
    def total(self) -> Usage:
        return self.sleep + self.test + self.verify + self.score

    @property
    def total_cost_usd(self) -> float | None:
        return sum_costs([self.sleep_cost_usd, self.test_cost_usd, self.verify_cost_usd, self.score_cost_usd])


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """All accounts, and their sum; what was saved is summed over the accounts, each against its own baseline."""

    accounts: tuple[Account, ...]
    total: Account

    def account(self, context_id: str) -> Account | None:
        """The account of one context, or None if it has none."""
        return next((account for account in self.accounts if account.context_id == context_id), None)


def ledger(totals: Sequence[Totals], names: dict[str, str], *, test_price: float = DEFAULT_TEST_TOKEN_PRICE) -> Ledger:
    """Add up *totals* by context. *names* maps context ids to names; forgotten ones keep their id.

    *test_price* is t: what one test-time token costs in sleep-time tokens.
    """
    ids = list(dict.fromkeys([*names, *(row.context_id for row in totals if row.context_id is not None)]))
    everyone = _Measured.of(totals)
    accounts = [
        _account(
            key, names.get(key, f"{key} (forgotten)"), [r for r in totals if r.context_id == key], everyone, test_price
        )
        for key in ids
    ]
    loose = [row for row in totals if row.context_id is None]
    if loose:
        accounts.append(_account(None, "(no context)", loose, everyone, test_price))
    total = _account(None, "total", totals, everyone, test_price)
    active = [account for account in accounts if account.assisted or account.sleep.output_tokens]
    total = replace(
        total,
        saved_tokens=sum_costs([account.saved_tokens for account in active]) if active else None,
        saved_usd=sum_costs([account.saved_usd for account in active]) if active else None,
    )
    return Ledger(accounts=tuple(accounts), total=total)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """Mean tokens and money of one answer, without (B) and with (b) a learned context."""

    without_tokens: float | None
    with_tokens: float | None
    without_usd: float | None
    with_usd: float | None
    assisted: int

    @classmethod
    def of(cls, totals: Sequence[Totals]) -> _Measured:
        without = [r for r in totals if r.phase is Phase.TEST and r.sees == "context" and r.works]
        with_ = [r for r in totals if r.phase is Phase.TEST and r.sees not in (None, "context") and r.works]
        n, m = sum(r.works for r in without), sum(r.works for r in with_)
        spent, assisted = sum_costs([r.cost_usd for r in without]), sum_costs([r.cost_usd for r in with_])
        return cls(
            without_tokens=sum(r.usage.output_tokens for r in without) / n if n else None,
            with_tokens=sum(r.usage.output_tokens for r in with_) / m if m else None,
            without_usd=spent / n if n and spent is not None else None,
            with_usd=assisted / m if m and assisted is not None else None,
            assisted=m,
        )


def _account(key: str | None, name: str, rows: Sequence[Totals], everyone: _Measured, test_price: float) -> Account:
    own = _Measured.of(rows)
    is_own = own.without_tokens is not None
    b_tokens = own.without_tokens if is_own else everyone.without_tokens
    b_usd = own.without_usd if is_own else everyone.without_usd

    def usage(phase: Phase) -> Usage:
        return sum((r.usage for r in rows if r.phase is phase), Usage())

    def cost(phase: Phase) -> float | None:
        return sum_costs([r.cost_usd for r in rows if r.phase is phase])

    sleep = usage(Phase.SLEEP) + usage(Phase.VERIFY)
    sleep_usd = sum_costs([cost(Phase.SLEEP), cost(Phase.VERIFY)])
    tokens = BreakEven(
        sleep=sleep.output_tokens or None,
        without_sleep=b_tokens,
        with_sleep=own.with_tokens,
        test_price=test_price,
        unit="output tokens",
    )
    money = BreakEven(
        sleep=sleep_usd if sleep.output_tokens else None,
        without_sleep=b_usd,
        with_sleep=own.with_usd,
        test_price=1.0,
        unit="USD",
    )
    return Account(
        context_id=key,
        name=name,
        sleep=usage(Phase.SLEEP),
        sleep_cost_usd=cost(Phase.SLEEP),
        test=usage(Phase.TEST),
        test_cost_usd=cost(Phase.TEST),
        verify=usage(Phase.VERIFY),
        verify_cost_usd=cost(Phase.VERIFY),
        score=usage(Phase.SCORE),
        score_cost_usd=cost(Phase.SCORE),
        levels=_levels(rows),
        queries=sum(r.works for r in rows if r.phase is Phase.TEST),
        assisted=own.assisted,
        saved_tokens=_saved(tokens, own.assisted),
        saved_usd=_saved(money, own.assisted),
        tokens=tokens,
        money=money,
        baseline_is_own=is_own,
    )


def _levels(rows: Sequence[Totals]) -> tuple[tuple[str, str, int], ...]:
    counted: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row.phase is Phase.TEST and row.works:
            counted[row.sees or "", row.level or ""] += row.works
    return tuple((sees, level, works) for (sees, level), works in sorted(counted.items()))


def _saved(inputs: BreakEven, assisted: int) -> float | None:
    """Saved so far: assisted · t · (B − b) − S. None where a part was not measured."""
    if not assisted:
        return None if inputs.sleep is None else -inputs.sleep
    if inputs.without_sleep is None or inputs.with_sleep is None:
        return None
    return assisted * inputs.test_price * (inputs.without_sleep - inputs.with_sleep) - (inputs.sleep or 0.0)
