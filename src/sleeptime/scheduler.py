"""Decide which context to sleep on next, from what the store keeps of each.

    Watched, Taught  →  prospect, forecast  →  decide  →  in order, under guard and caps  →  Decision  →  Job

All that lacks notes in a context is one prospect, for one sleep takes all of it; each part has gone without since
its own query. Its price is `MARGIN` times the cost of a usual sleep, in proportion to what lacks notes, and the engine
caps the sleep at it, so that no sleep costs more than it was decided at. Savings are ratios to what was predicted,
believed from all answers to those of the same level and predictability to the context's own. Until contexts of a kind
have been seen talking, nothing is forecast of them, and the rule without a forecast decides.

A look is settled in one transaction, with what is spent and promised at that moment: what is decided then becomes
jobs, each at its full price until it is over, so that all processes together stay within the guard and the caps.

A decision is taken anew when its inputs change: at once after an answer, at the next look after an edit. Silence can
only speak against sleeping, so a look takes the contexts that want it most by their last decision, decides on them
again and forgets about those that want it no more. A look costs the same however many contexts there are.

This file does not know how to sleep or to answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sleeptime.core.anticipation import Predictability, predictability
from sleeptime.core.budget import Budget
from sleeptime.core.caps import NANO, Caps, Spending, accounts
from sleeptime.core.deciding import (
    DEFAULT_DOUBT,
    MAX_REGRET,
    Decision,
    Guard,
    Left,
    Portfolio,
    Prospect,
    Reason,
    Spend,
    decide,
    in_order,
    samples,
)
from sleeptime.core.errors import BudgetError
from sleeptime.core.forecasting import HORIZON_DAYS, USUAL_EDITS, Gamma, Queries, days_until_edit, fit
from sleeptime.core.job import Job
from sleeptime.core.ledger import DEFAULT_TEST_TOKEN_PRICE
from sleeptime.core.notes import LearnedContext
from sleeptime.core.plan import Plan
from sleeptime.core.query import Answer
from sleeptime.core.saving import Belief, Sizes, Tally, Tariff, band, believed
from sleeptime.core.triggers import DAY_S, Trigger, Triggers, Waiting, fired, with_query
from sleeptime.core.usage import PriceCard
from sleeptime.core.watching import (
    DOLLARS,
    TOKENS,
    UNDECIDED,
    Decided,
    Group,
    Lesson,
    Looked,
    Outcome,
    Standing,
    Taught,
    Watched,
    days,
)
from sleeptime.store import Store

MARGIN = 2.0
"""How many times the usual cost of a sleep a decided one may cost at most."""
LEAST_SHARE = 0.1
"""A sleep on a small edit still pays for its instructions: at least this share of one on the whole text."""
CHARACTERS_PER_TOKEN = 3.5
PROMPT_TOKENS = 1000
"""Instructions and tools of a round."""
LOOK = 32
"""Contexts that one look decides on."""
MOST_LOOKS = 4
REFIT_DAYS = 4.0
LEAST_TALKS = 20
"""Talks on contexts of a kind before anything is forecast of them; until then extra is paid up to the price."""
HELD_S = 300.0
"""What guard or caps hold back is looked at again so long after, and an idle time."""
MOST_PEERS = 500
"""Contexts of a kind that its prior is fitted to."""

HELD: frozenset[Reason] = frozenset({"guard", "cap"})

VARIABLES = {
    "SLEEPTIME_DOUBT": ("doubt",),
    "SLEEPTIME_MAX_REGRET": ("max_regret",),
    "SLEEPTIME_ALLOWANCE": ("allowance_usd", "allowance_tokens"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How a user wants decisions to be taken.

    doubt             λ: 0 trusts the forecast, 1 believes it last
    max_regret        sleep not yet recouped, as a share of what all queries would have cost without it
    allowance_usd     what may be unrecouped to begin with, where prices are known
    allowance_tokens  the same in sleep-time output tokens, where they are not
    test_price        t, the price of a test-time token in sleep tokens, where prices are not known
    """

    doubt: float = DEFAULT_DOUBT
    max_regret: float = MAX_REGRET
    allowance_usd: float = 0.10
    allowance_tokens: float = 50_000.0
    test_price: float = DEFAULT_TEST_TOKEN_PRICE

    def __post_init__(self) -> None:
        if not 0.0 <= self.doubt <= 1.0:
            raise BudgetError(f"Doubt is between 0 (trust the forecast) and 1 (hardly), not {self.doubt}.")
        amounts = (self.max_regret, self.allowance_usd, self.allowance_tokens)
        if not all(0.0 <= amount < math.inf for amount in amounts) or self.test_price <= 0.0:
            raise BudgetError("Regret and allowances cannot be negative, and t is above 0.")

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Rules:
        """The usual rules with what `$SLEEPTIME_DOUBT`, `$SLEEPTIME_MAX_REGRET` and `$SLEEPTIME_ALLOWANCE` say.

        An allowance is in dollars or in tokens, whichever decisions are in. Raises BudgetError.
        """
        said: dict[str, float] = {}
        for variable, names in VARIABLES.items():
            if text := environ.get(variable):
                try:
                    said |= dict.fromkeys(names, float(text))
                except ValueError:
                    raise BudgetError(f"${variable} should be a number, not {text!r}.") from None
        return cls(**said)

    def guard(self, unit: str) -> Guard:
        """The guard, for amounts in *unit*."""
        return Guard(
            max_regret=self.max_regret,
            allowance=self.allowance_usd if unit == DOLLARS else self.allowance_tokens,
        )


@dataclass(frozen=True, slots=True)
class Scheduler:
    """Whether, and on what first. `sleep_price` and `test_price` are the price cards of the two models, if known.

    `where` is "pays", or "changed" to sleep wherever notes are lacking.
    """

    store: Store
    rules: Rules
    sleep_price: PriceCard | None
    test_price: PriceCard | None
    now: Callable[[], datetime]
    caps: Caps = Caps()
    where: str = "pays"

    @property
    def tariff(self) -> Tariff:
        return Tariff(sleep=self.sleep_price, test=self.test_price, test_price=self.rules.test_price)

    async def decide(self, context_id: str) -> Decision | None:
        """Decide on one context, as it is now and under the guard; None where all of it has notes."""
        watched = await self.store.watched(context_id)
        if not watched.parts:
            return None
        taught = await self.store.taught(watched.level)
        decision = self.decision(watched, taught)
        left = self._left(Standing(taught=taught, spent=await self._spent([watched])), [watched])
        return next(iter(self._in_order([decision], taught, left)), decision)

    async def look(
        self,
        triggers: Triggers,
        *,
        job_id: Callable[[], str],
        is_asked: bool = False,
        budget: Budget = Budget(),
    ) -> Sequence[Looked]:
        """Decide on some of what is due to be looked at, and queue a job for each that should be slept on.

        Nothing comes back where nothing is due; else ask again. Where it *is_asked* for, what changed and what wants a
        sleep most is due, whatever the triggers say. *budget* caps each sleep, beside the price it is decided at.
        """
        now = self.now()
        found = await (self.store.wanted(LOOK) if is_asked else self.store.due(triggers, days(now), LOOK))
        if not found:
            return []
        taught = await self._fitted(await self.store.taught(), found)
        decisions = {each.name: self.decision(each, taught) for each in found}
        plans: dict[str, Plan] = {}
        for each in (each for each in found if decisions[each.name].is_sleep):
            newest = await self.store.learned(each.context_id)
            plans[each.name] = await self.plan(decisions[each.name], _like(newest, each), newest)

        def choose(same: Sequence[Watched], standing: Standing) -> Sequence[Looked]:
            before = [decisions[each.name] for each in same]
            after = self._in_order(before, standing.taught, self._left(standing, same))
            settled = {decision.prospect.name: decision for decision in (*before, *after)}
            by_name = {each.name: each for each in same}
            in_turn = dict.fromkeys([*(decision.prospect.name for decision in after), *by_name])
            return [looked(by_name[name], settled[name]) for name in in_turn]

        def looked(watched: Watched, decision: Decision) -> Looked:
            waiting = None if is_asked else watched.waiting
            trigger = "manual" if waiting is None else fired(triggers, waiting, days(now)) or "idle"
            if not decision.is_sleep:
                return self._passed_over(watched, decision, trigger)
            prospect, plan = decision.prospect, plans[watched.name]
            job = Job(
                id=job_id(),
                context_id=watched.context_id,
                plan=replace(plan, budget=self.budget(decision, budget)),  # all samples together: what the guard counts
                queued_at=now,
                trigger=trigger,
                unit=prospect.unit,
                price=prospect.price,
                output_tokens=prospect.output_tokens,
            )
            decided = Decided.of(decision, watched.context_id, now, outcome="queued", trigger=trigger, job_id=job.id)
            slept = replace(watched, reason=decision.reason, wants=_wants(decision), waiting=None)
            return Looked(watched=slept, decided=decided, job=job)

        return await self.store.settle_look(found, self._accounts(found), choose)

    def _passed_over(self, watched: Watched, decision: Decision, trigger: Trigger) -> Looked:
        """What to keep of a look that queued nothing; what is held back is looked at again."""
        at, again = self.now(), None
        if decision.reason in HELD:
            again = Waiting(since_days=days(at) + HELD_S / DAY_S)
        kept = replace(watched, reason=decision.reason, wants=_wants(decision), waiting=again)
        is_new = decision.reason != watched.reason
        decided = Decided.of(decision, watched.context_id, at, trigger=trigger) if is_new else None
        return Looked(watched=kept, decided=decided)

    async def decisions(self, limit: int) -> list[Decision]:
        """Up to *limit* decisions for a sleep, the best first; those that the guard holds back are in their place.

        Contexts that changed are decided on beside them, some at each look; `is_behind` says whether more are left.
        What was decided is kept where it is new.
        """
        ordered: list[Decision] = []
        for _ in range(MOST_LOOKS):
            found = await self.store.wanted(max(limit, LOOK))
            taught = await self._fitted(await self.store.taught(), found)
            decided = [(each, self.decision(each, taught)) for each in found]
            left = self._left(Standing(taught=taught, spent=await self._spent(found)), found)
            ordered = self._in_order([decision for _, decision in decided], taught, left)
            guarded = {decision.prospect.name: decision for decision in ordered}
            settled = [
                self._settled(each, decision, guarded.get(each.name, decision))
                for each, decision in decided
                if decision.reason != each.reason or _wants(decision) != each.wants
            ]
            if settled:
                await self.store.keep_decisions(settled)
            if all(each.wants != UNDECIDED for each in found):
                break
        return ordered[:limit]

    async def is_behind(self) -> bool:
        """Say whether there are contexts that changed and were not decided on since."""
        return any(each.wants == UNDECIDED for each in await self.store.wanted(1))

    def decision(self, watched: Watched, taught: Taught) -> Decision:
        """Decide on what lacks notes in one context, before guard and caps."""
        prospect, forecast = self.prospect(watched, taught), self.forecast(watched, taught)
        if self.where == "changed":
            return Decision(prospect=prospect, reason="told", forecast=forecast, limit=prospect.price)
        return decide(prospect, forecast, doubt=self.rules.doubt)

    def prospect(self, watched: Watched, taught: Taught) -> Prospect:
        """What there is to sleep on in a context."""
        tariff, sizes = self.tariff, _sizes(watched)
        share = max(LEAST_SHARE, watched.lacking)
        saving = sizes.saving(tariff) * self._answers(watched, taught) * self._savings(watched, taught)
        most_output = MARGIN * sizes.rounds * sizes.round_output_tokens
        most_input = MARGIN * sizes.rounds * (sizes.context_tokens + sizes.notes_tokens)
        return Prospect(
            name=watched.name,
            price=MARGIN * sizes.sleep_cost(tariff) * share,
            tokens=round((most_output + most_input) * share),
            output_tokens=round(most_output * share),
            saving=saving * watched.lacking,
            queries_seen=watched.queries_without,
            extra_paid=saving * watched.went_without,
            unit=tariff.unit,
        )

    def forecast(self, watched: Watched, taught: Taught) -> Queries | None:
        """Forecast the queries on a context until an edit is likely to have touched what was learned.

        None while contexts of its kind were seen too little to say what is usual among them.
        """
        prior = taught.prior(watched.kind)
        if prior is None:
            return None
        now_days = days(self.now())
        horizon = HORIZON_DAYS
        if watched.edits:
            age = max(0.0, now_days - watched.seen.added_days)
            edits = Gamma(
                shape=USUAL_EDITS.shape + watched.edits,
                days=USUAL_EDITS.days + age * watched.sections,
                horizon_days=HORIZON_DAYS,
            )
            horizon = days_until_edit(edits)
        return prior.forecast(watched.seen, now_days, horizon_days=horizon)

    async def plan(self, decision: Decision, plan: Plan, newest: LearnedContext | None) -> Plan:
        """How deep to sleep as was decided: with as many samples and rounds as are expected to pay.

        *newest* is what was learned of its context so far, and `plan.samples` the most. Each sample may cost the
        decision's price, so that there are no more of them than the guard has room for. A context that was slept on
        before keeps its number: its notes can then be gone on from.
        """
        prospect, worth = decision.prospect, decision.worth
        count = samples(
            sample_price=prospect.price / MARGIN, queries=worth.queries, saving=worth.saving, most=plan.samples
        )
        if newest is not None:
            count = newest.samples
        if count > 1:
            unit = self.tariff.unit
            room = self.rules.guard(unit).room((await self.store.taught()).portfolio(unit))
            most = int(room / prospect.price) if prospect.price > 0 else count
            count = 1 if plan.temperature == 0 else max(1, min(count, most))
        priced = replace(decision, prospect=replace(prospect, price=prospect.price * count))
        return replace(plan, samples=count, worth=worth, budget=self.budget(priced, plan.budget))

    def budget(self, decision: Decision, budget: Budget) -> Budget:
        """The caps of a sleep that was decided on: those of *budget*, and never more than the decision's price."""
        price = decision.prospect.price
        if decision.prospect.unit == DOLLARS:
            most = price if budget.max_cost_usd is None else min(price, budget.max_cost_usd)
            return replace(budget, max_cost_usd=most)
        tokens = max(1, int(price))
        most_tokens = tokens if budget.max_output_tokens is None else min(tokens, budget.max_output_tokens)
        return replace(budget, max_output_tokens=most_tokens)

    def learn(
        self,
        watched: Watched,
        answer: Answer,
        taught: Taught,
        *,
        is_anticipated: bool | None,
    ) -> Lesson:
        """Learn from an answer: what it cost or saved, when it was asked, and what is decided now.

        *is_anticipated* says whether a note had asked the same before; None where no notes stood.
        """
        paid, level = self._paid(answer), str(answer.query.level)
        sizes = _sizes(watched)
        without = assisted = Tally()
        if answer.version is None:
            without = Tally().with_(paid / sizes.cost_without(self.tariff))
        elif watched.lacking < 1.0:
            assisted = self._assisted(watched, taught, paid)
        groups = {**_groups("without", level, "", without), **_groups("with", level, _band(watched), assisted)}
        asked = replace(
            watched,
            seen=watched.seen.asked(days(self.now())),
            level=level,
            arrived=watched.arrived + (is_anticipated is not None),
            anticipated=watched.anticipated + bool(is_anticipated),
            without=watched.without + without,
            assisted=watched.assisted + assisted,
            waiting=with_query(watched.waiting, days(self.now())) if watched.parts else None,
        )
        portfolios = self._portfolios(watched, answer, taught)
        if not asked.parts:
            return Lesson(watched=asked, groups=groups, portfolios=portfolios)
        decision = self.decision(asked, taught)
        guarded = next(iter(self._in_order([decision], taught, Left())), decision)
        if guarded.is_sleep and watched.reason == "cap":  # caps are for the next look to see
            guarded = replace(guarded, reason="cap")
        decided, new = self._settled(asked, decision, guarded)
        return Lesson(watched=decided, groups=groups, portfolios=portfolios, decided=new)

    def _settled(self, watched: Watched, decision: Decision, guarded: Decision) -> tuple[Watched, Decided | None]:
        """What to keep of a decision: itself only where its reason is another than that of the last one.

        One that the guard holds back still wants to be slept on.
        """
        wants = None if watched.is_observed else _wants(decision)
        settled = replace(watched, reason=guarded.reason, wants=wants)
        if guarded.reason == watched.reason:
            return settled, None
        return settled, Decided.of(guarded, watched.context_id, self.now())

    def _in_order(self, decisions: Sequence[Decision], taught: Taught, left: Left) -> list[Decision]:
        unit = self.tariff.unit
        return in_order(decisions, left=left, guard=self.rules.guard(unit), portfolio=taught.portfolio(unit))

    def _accounts(self, found: Sequence[Watched]) -> list[str]:
        """Accounts under the caps that sleeps on these contexts fall under; none where there are no caps."""
        now = self.now()
        return sorted({key for each in found for key in accounts(each.context_id, now)}) if self.caps.has_any else []

    async def _spent(self, found: Sequence[Watched]) -> Mapping[str, Spending]:
        keys = self._accounts(found)
        return await self.store.spending(keys) if keys else {}

    def _left(self, standing: Standing, found: Sequence[Watched]) -> Left:
        """What the caps leave for sleeps on these contexts, behind those that are queued and calls under way."""
        queued = standing.taught.queued
        tokens = sum(each.output_tokens for each in queued.values())
        money = queued[DOLLARS].price if DOLLARS in queued else 0.0

        def left(account: str, most_tokens: int | None, most_usd: float | None) -> Spend:
            spent = standing.spent.get(account, Spending())
            return Spend(
                tokens=None if most_tokens is None else most_tokens - spent.tokens - spent.open_tokens,
                cost=None if most_usd is None else most_usd - (spent.nano_usd + spent.open_nano_usd) / NANO,
            )

        spends: dict[str, Spend] = {}
        day = month = Spend()
        if not self.caps.has_any:
            return Left()
        for each in found:
            keys = accounts(each.context_id, self.now())
            own, day, month = map(left, keys, self.caps.tokens, self.caps.usd)
            spends[each.name] = own
        return Left(day=day.less(tokens, money), month=month.less(tokens, money), contexts=spends)

    async def _fitted(self, taught: Taught, found: Sequence[Watched]) -> Taught:
        """Fit the prior of a kind anew where it is old: of all that are looked at the oldest alone, to stay quick."""
        now_days = days(self.now())
        ages = {kind: taught.priors[kind][0] if kind in taught.priors else 0.0 for kind in {w.kind for w in found}}
        kind = min(ages, key=lambda each: (ages[each], each), default=None)
        if kind is None or now_days - ages[kind] < REFIT_DAYS:
            return taught
        peers = await self.store.peers(kind, MOST_PEERS)
        if sum(peer.talks for peer in peers) < LEAST_TALKS:
            return taught
        prior = fit(peers, now_days)
        await self.store.keep_prior(kind, prior, now_days)
        return replace(taught, priors={**taught.priors, kind: (now_days, prior)})

    def without_notes(self, watched: Watched, taught: Taught) -> Belief:
        """What an answer without notes is believed to take, in dollars, or output tokens where no price is known."""
        one = self.tariff.test_price if self.tariff.unit == TOKENS else 1.0
        return self._belief(watched, taught) * (_sizes(watched).cost_without(self.tariff) / one)

    def _belief(self, watched: Watched, taught: Taught) -> Belief:
        groups = (taught.tally("without"), taught.tally("without", watched.level))
        return believed([*groups, watched.without])

    def _answers(self, watched: Watched, taught: Taught) -> float:
        """Believed ratio of what an answer without notes costs to what was predicted."""
        return self._belief(watched, taught).mean

    def _savings(self, watched: Watched, taught: Taught) -> float:
        """Believed ratio of what notes save to what was predicted."""
        groups = (taught.tally("with"), taught.tally("with", watched.level, _band(watched)))
        return believed([*groups, watched.assisted]).mean

    def _assisted(self, watched: Watched, taught: Taught, paid: float) -> Tally:
        """What an answer with notes saved, as a ratio; it counts for the share of the text that has notes."""
        sizes, share = _sizes(watched), 1.0 - watched.lacking
        answers = self._answers(watched, taught)
        predicted = sizes.saving(self.tariff) * answers
        if predicted <= 0.0:
            return Tally()
        saved = sizes.cost_without(self.tariff) * answers - paid
        return Tally().with_(saved / predicted / share, weight=share)

    def _paid(self, answer: Answer) -> float:
        if self.tariff.unit == DOLLARS and answer.cost_usd is not None:
            return answer.cost_usd
        return self.tariff.test_cost(answer.usage)

    def _portfolios(self, watched: Watched, answer: Answer, taught: Taught) -> dict[str, Portfolio]:
        """What an answer adds to the portfolios: in output tokens always, in dollars where prices are known."""
        tariffs = {TOKENS: Tariff(test_price=self.rules.test_price), self.tariff.unit: self.tariff}
        believed_ratio = self._answers(watched, taught)
        added: dict[str, Portfolio] = {}
        for unit, tariff in tariffs.items():
            paid = self._paid(answer) if unit == self.tariff.unit else tariff.test_cost(answer.usage)
            if answer.version is None:
                added[unit] = Portfolio(without_sleep=paid)
            else:
                without = _sizes(watched).cost_without(tariff) * believed_ratio
                added[unit] = Portfolio(without_sleep=without, saved=without - paid)
        return added


def _sizes(watched: Watched) -> Sizes:
    return Sizes(context_tokens=round(watched.characters / CHARACTERS_PER_TOKEN) + PROMPT_TOKENS)


def _like(newest: LearnedContext | None, watched: Watched) -> Plan:
    """How to sleep: as on the newest version, where some of its notes can be kept, else as usual."""
    return Plan.like(newest.plan) if newest and newest.plan and watched.lacking < 1.0 else Plan()


def _wants(decision: Decision) -> float | None:
    return decision.net_saving_per_token if decision.is_sleep or decision.reason in HELD else None


def _band(watched: Watched) -> str:
    return band(predictability(watched.arrived, watched.anticipated, kind=Predictability()).share)


def _groups(outcome: Outcome, level: str, of_band: str, tally: Tally) -> dict[Group, Tally]:
    if not tally.answers:
        return {}
    return {(outcome, "", ""): tally, (outcome, level, of_band): tally}
