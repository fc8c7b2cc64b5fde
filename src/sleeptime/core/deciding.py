"""Decide whether to sleep, how deep, and on what first.

    value         expected queries · saving per query − price of the sleep
    no forecast   sleep when the extra paid so far reaches the price: never more than twice the best (ski rental)
    forecast      sleep when that is cheapest now, but not before the next query would bring the extra to λ · price,
                  and surely once the extra has reached price / λ
    guard         price ≤ max(allowance, max_regret · cost without sleep so far) − sleep not yet recouped

Extra paid is what queries have cost above what they would have with notes. `doubt` is the λ of Purohit, Svitkina and
Kumar (NeurIPS 2018, Improving online algorithms via ML predictions): where the forecast is right the extra cost is at
most 1 + λ times the best (for λ to 0.61), and however wrong it is, at most 1 + 1/λ times, give or take one query; a
sleep that no query follows at all is what the guard is for. At 0 the forecast is trusted wholly.
"Cheapest now" compares with waiting for m more queries and sleeping then, for each m; never is m without end:

    price ≤ saving · Σ_{j ≤ m} P(at least j) + price · P(at least m)

Two prospects of one context (a changed part and the rest) are decided apart: a re-sleep costs its changed fraction,
so each part is a ski rental of its own. All amounts of a decision are in one unit.

This file knows no clock and no store, and does not know how a forecast or a saving came about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

from sleeptime.core.forecasting import Forecast
from sleeptime.core.plan import Worth

Reason = Literal["pays", "due", "told", "no-saving", "wait", "doubt", "not-due", "guard", "cap"]
"""Why a decision was taken.

pays       the forecast says that sleeping now is cheapest
due        the extra paid has reached the price (or, against the forecast, price / λ)
told       the user wants notes wherever they are lacking, whatever they save
no-saving  a query is not expected to cost less with notes
wait       the queries to come would not save the price, or it is cheaper to see first whether another comes
doubt      the forecast is in favour, but not enough was paid yet to believe it
not-due    no forecast, and the extra paid is below the price
guard      worth it, but more than may be risked now
cap        worth it, but over one of the user's caps
"""
SLEEPS: frozenset[Reason] = frozenset({"pays", "due", "told"})

DEFAULT_DOUBT = 0.2
MAX_REGRET = 0.05
MOST_QUERIES = 1000
"""How far waiting is looked through; a price worth more queries than this is held against the mean alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """What could be slept on: a context, or the part of it that has no notes or stale ones.

    price          the most that sleeping on it may cost
    tokens         the same in tokens, those read included
    output_tokens  the same in output tokens, which the caps count
    saving         believed saving of one query once it is slept on
    extra_paid     saving that queries since it lacked notes have gone without
    """

    name: str
    price: float
    tokens: int
    output_tokens: int
    saving: float
    queries_seen: int
    extra_paid: float
    unit: str = "USD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether to sleep on a prospect, with the numbers it rests on; `sentence` tells a user.

    `limit` is what the reason compares with: the extra at which sleep is due or the forecast believed, or what
    the guard leaves. `cap` names the cap that was met.
    """

    prospect: Prospect
    reason: Reason
    forecast: Forecast | None
    limit: float
    cap: str = ""

    @property
    def queries(self) -> float | None:
        """Queries expected; None without a forecast."""
        return None if self.forecast is None else self.forecast.mean

    @property
    def is_sleep(self) -> bool:
        return self.reason in SLEEPS

    @property
    def worth(self) -> Worth:
        """What sleeping is expected to bring, for how deep it goes.

        Where it is due, whatever a forecast says, as many queries are assumed to come as have come.
        """
        queries = self.prospect.queries_seen if self.reason == "due" or self.queries is None else self.queries
        return Worth(queries=queries, saving=self.prospect.saving, unit=self.prospect.unit)

    @property
    def net_saving(self) -> float:
        """Expected net saving; without a forecast as many queries are assumed to come as have come."""
        queries = self.prospect.queries_seen if self.forecast is None else self.forecast.mean
        return queries * self.prospect.saving - self.prospect.price

    @property
    def net_saving_per_token(self) -> float:
        return self.net_saving / max(1, self.prospect.tokens)

    @property
    def sentence(self) -> str:
        """What was decided and why, with figures, in one sentence."""
        prospect = self.prospect
        price, saving, extra = (
            _amount(amount, prospect.unit) for amount in (prospect.price, prospect.saving, prospect.extra_paid)
        )
        expected = "" if self.forecast is None else _queries(self.forecast.mean)
        seen = _queries(prospect.queries_seen)
        match self.reason:
            case "pays":
                return (
                    f"Sleep on {prospect.name}: about {expected} expected, each saving {saving}, are worth "
                    f"{_amount(self.net_saving, prospect.unit)} more than the {price} that sleeping costs."
                )
            case "due" if self.forecast is None:
                return (
                    f"Sleep on {prospect.name}: {seen} without notes cost {extra} extra, which has reached the price "
                    f"of sleeping, {price}, so sleeping now costs at most about twice the best."
                )
            case "due":
                return (
                    f"Sleep on {prospect.name}: only about {expected} expected, but {seen} without notes cost {extra} "
                    f"extra, which has reached the {_amount(self.limit, prospect.unit)} at which sleep is due whatever "
                    f"the forecast."
                )
            case "told":
                return f"Sleep on {prospect.name}: it is to have notes whatever they save; this takes {price} at most."
            case "no-saving":
                return f"Leave {prospect.name}: with notes a query is expected to save nothing ({saving})."
            case "wait" if self.net_saving < 0.0:
                return (
                    f"Leave {prospect.name}: about {expected} expected, each saving {saving}, would not bring back "
                    f"the {price} that sleeping costs."
                )
            case "wait":
                return (
                    f"Wait with {prospect.name}: about {expected} expected, each saving {saving}, would pay for the "
                    f"{price} of sleeping, but none may come, and seeing the next one first costs less on average."
                )
            case "doubt":
                return (
                    f"Wait with {prospect.name}: about {expected} expected would pay for the {price} of sleeping, but "
                    f"the forecast is believed only when the next one would bring the extra paid, {extra}, to "
                    f"{_amount(self.limit, prospect.unit)}."
                )
            case "not-due":
                return (
                    f"Wait with {prospect.name}: {seen} without notes cost {extra} extra, less than the {price} that "
                    f"sleeping costs."
                )
            case "guard":
                return (
                    f"Hold {prospect.name} back: sleeping would pay but costs {price}, and only "
                    f"{_amount(max(0.0, self.limit), prospect.unit)} may be risked until earlier sleeps have paid for "
                    f"themselves."
                )
            case "cap":
                tokens = f"{prospect.output_tokens:,} output tokens"
                most = f"{tokens} and {price}" if prospect.unit == "USD" else tokens
                return f"Hold {prospect.name} back: sleeping may take {most}, more than {self.cap} leaves."


def _amount(amount: float, unit: str) -> str:
    size = abs(amount)
    if unit != "USD":
        return f"{amount:,.0f} {unit}" if size >= 10 else f"{amount:.2g} {unit}"
    number = f"{size:,.2f}" if size >= 1 else f"{size:.1e}" if 0 < size < 1e-4 else f"{size:.2g}"
    return f"{'-' if amount < 0 else ''}${number}"


def _queries(count: float) -> str:
    number = f"{count:,.0f}" if count >= 10 or count == int(count) else f"{count:.1f}"
    return f"{number} {'query' if number == '1' else 'queries'}"


def decide(prospect: Prospect, forecast: Forecast | None = None, *, doubt: float = DEFAULT_DOUBT) -> Decision:
    """Decide on one *prospect*, before guard and caps; *doubt* is λ, 0 to trust the forecast, 1 to believe it last."""
    if not 0.0 <= doubt <= 1.0:
        raise ValueError(f"doubt is between 0 (trust the forecast) and 1 (hardly), not {doubt}")
    price, saving, extra = prospect.price, prospect.saving, prospect.extra_paid
    reason: Reason
    limit = price
    if saving <= 0.0:
        reason, limit = "no-saving", 0.0
    elif forecast is None:
        reason = "due" if extra >= price else "not-due"
    elif doubt > 0.0 and extra >= price / doubt:
        reason, limit = "due", price / doubt
    elif waiting_is_cheaper(price, saving, forecast):
        reason = "wait"
    else:
        reason, limit = "pays" if extra + saving >= doubt * price else "doubt", doubt * price
    return Decision(prospect=prospect, reason=reason, forecast=forecast, limit=limit)


def waiting_is_cheaper(price: float, saving: float, forecast: Forecast) -> bool:
    """Say whether to wait for some number of queries more and sleep then, or never, costs less on average than now."""
    paid = 0.0
    for chance in islice(forecast.chances(), MOST_QUERIES):
        paid += chance * saving
        if paid >= price:
            return False
        if paid + chance * price < price:
            return True
    return forecast.mean * saving < price


@dataclass(frozen=True, slots=True, kw_only=True)
class Portfolio:
    """What all contexts have cost so far: sleeps (those under way at their full price), and what they saved.

    `without_sleep` is what all queries would have cost without notes; saved is a part of it.
    """

    slept: float = 0.0
    saved: float = 0.0
    without_sleep: float = 0.0

    @property
    def unrecouped(self) -> float:
        """Sleep spend not yet recouped; below 0 once sleep has paid for itself."""
        return self.slept - self.saved

    @property
    def spent(self) -> float:
        return self.without_sleep + self.unrecouped


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Bounds what sleep may lose over all contexts.

        unrecouped ≤ max(allowance, max_regret · cost without sleep so far)

    That is below max_regret of all spend plus the allowance, and once the queries are worth allowance / max_regret,
    all spend is at most 1 + max_regret times what never to sleep would have cost. Sleep adds to what is unrecouped
    only through `room`, and an answer whose notes make it dearer only while `may_show`; so the bound can be passed
    by one such answer's loss and no more.
    """

    max_regret: float = MAX_REGRET
    allowance: float = 0.0

    def __post_init__(self) -> None:
        if self.max_regret < 0.0 or self.allowance < 0.0:
            raise ValueError(f"regret and allowance cannot be negative: {self}")

    def limit(self, portfolio: Portfolio) -> float:
        """How much may be unrecouped."""
        return max(self.allowance, self.max_regret * portfolio.without_sleep)

    def room(self, portfolio: Portfolio) -> float:
        """The highest price a sleep may have now."""
        return self.limit(portfolio) - portfolio.unrecouped

    def may_show(self, portfolio: Portfolio) -> bool:
        """Say whether notes may be shown: not where the bound is passed, until queries without notes lift it."""
        return self.room(portfolio) >= 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """Output tokens and money spent, or left to spend; as a cap, None leaves one free."""

    tokens: float | None = None
    cost: float | None = None

    def less(self, tokens: float, cost: float) -> Spend:
        return Spend(
            tokens=None if self.tokens is None else self.tokens - tokens,
            cost=None if self.cost is None else self.cost - cost,
        )

    def holds(self, tokens: float, cost: float) -> bool:
        return (self.tokens is None or tokens <= self.tokens) and (self.cost is None or cost <= self.cost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What the user's caps leave: today, this month, and for each context by name (others: no cap)."""

    day: Spend = Spend()
    month: Spend = Spend()
    contexts: Mapping[str, Spend] = field(default_factory=dict[str, Spend])


def in_order(
    decisions: Iterable[Decision],
    *,
    left: Left | None = None,
    guard: Guard | None = None,
    portfolio: Portfolio | None = None,
) -> list[Decision]:
    """Order those that should sleep, highest expected net saving per token first, within caps and guard.

    One that does not fit is held back with its reason and stays in its place; cheaper ones behind it may fit.
    Each that sleeps takes its full price and tokens from what is left, so nothing can be passed by all together.
    The guard does not hold back what the user told to sleep on; caps do.
    """
    left = left or Left()
    portfolio = portfolio or Portfolio()
    day, month, contexts = left.day, left.month, dict(left.contexts)
    ordered: list[Decision] = []
    wanted = [decision for decision in decisions if decision.is_sleep]
    if len(wanted) > 1:
        wanted.sort(key=lambda each: (-each.net_saving_per_token, each.prospect.name))
    for decision in wanted:
        name, tokens, price = decision.prospect.name, decision.prospect.output_tokens, decision.prospect.price
        own = contexts.get(name, Spend())
        caps = (("the cap of this context", own), ("the cap of this day", day), ("the cap of this month", month))
        met = next((cap for cap, spend in caps if not spend.holds(tokens, price)), None)
        if met is not None:
            ordered.append(replace(decision, reason="cap", cap=met))
            continue
        room = guard.room(portfolio) if guard and decision.reason != "told" else price
        if price > room:
            ordered.append(replace(decision, reason="guard", limit=room))
            continue
        day, month = day.less(tokens, price), month.less(tokens, price)
        contexts[name] = own.less(tokens, price)
        portfolio = replace(portfolio, slept=portfolio.slept + price)
        ordered.append(decision)
    return ordered


FIRST_DECAY = 0.5
"""How much a second round is taken to change, against the first, before it was seen."""
SAMPLE_COVERAGE = 0.6
"""Share of what could be saved that one sample is taken to find."""


def pays_another_round(changed: Sequence[float], *, round_price: float, queries: float, saving: float) -> bool:
    """Say whether the next round is expected to save more than it costs.

    *changed* holds the share of the notes each round so far wrote; the next is taken to shrink
    as the last did, by half after the first, and its share of the saving to be its share of the notes.
    """
    if not changed:
        return queries * saving > round_price
    last = changed[-1]
    decay = FIRST_DECAY if len(changed) == 1 else min(1.0, last / changed[-2]) if changed[-2] > 0.0 else 0.0
    return queries * saving * last * decay > round_price


def samples(*, sample_price: float, queries: float, saving: float, most: int, coverage: float = SAMPLE_COVERAGE) -> int:
    """How many parallel samples to take: at least 1, more while the next is expected to save more than it costs.

    *saving* is that of one sample; each finds *coverage* of what those before it missed.
    """
    count = 1
    while count < most and queries * saving * (1.0 - coverage) ** count > sample_price:
        count += 1
    return count
