"""Run the library's own decisions through a trace, event by event.

    arrival, query, edit  →  for each part without notes: decide(prospect, forecast)  →  guard  →  sleep for ten minutes

What a policy sees is what an engine would: the ledger of its own queries (an unassisted answer shows its cost, an
assisted one what it cost with the notes that stood), price cards, sizes, times, kinds. It learns savings and how
popular contexts of a kind are from nothing else. In every trace it starts from the library's defaults, or, where a
policy has a past, from what the ledger of other traces of the same family had taught. Oracles are told the number of
queries before the next edit, with a stated error; no policy is told a saving or an answer's cost.

Decisions are asked for where their inputs change; a guard that held one back is asked again when it has room. All
sections that have gone without notes since the same query are one part, and are decided on and slept on together.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from sleeptime.core.deciding import DEFAULT_DOUBT, Decision, Guard, Portfolio, Prospect, decide, in_order
from sleeptime.core.forecasting import (
    HORIZON_DAYS,
    USUAL,
    USUAL_EDITS,
    Forecast,
    Gamma,
    Prior,
    Seen,
    Told,
    days_until_edit,
    fit,
)
from sleeptime.core.saving import GROUP_ANSWERS, OWN_ANSWERS, shrunk
from sleeptime.evals.simulator.worlds import CONTEXTS, KINDS, SECTIONS, SLEEP_DAYS, TRACE_DAYS, Array, Batch

REFIT_DAYS = 4.0
"""How old the prior over contexts of a kind may be."""
PAST_FITS = 2
"""Times a past's prior is fitted again to what it says itself of who has fallen silent."""
ALLOWANCE_ANSWERS = 2.0
"""The guard's starting allowance, in mean answers of the trace."""

Sums = list[float]
"""Answers and the total of their ratios, measured to predicted."""
Teller = Callable[[float, float, float, float], float]
"""From the queries to come, the queries a sleep is worth, and two draws of the context (uniform in −1 to 1, normal)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A way to decide. `tells` makes its forecast an oracle's; `forecasts` False means the rule without forecast."""

    name: str
    forecasts: bool = True
    tells: Teller | None = None
    doubt: float = DEFAULT_DOUBT
    is_guarded: bool = False
    has_past: bool = False


def within(error: float) -> Teller:
    """Tell the truth but for a relative error of up to *error*, the same for all of a context's life."""
    return lambda queries, _worth, uniform, _normal: queries * (1.0 + error * uniform)


def noise(_queries: float, _worth: float, _uniform: float, normal: float) -> float:
    """Tell a number that has nothing to do with the queries: log-normal, median 4."""
    return 4.0 * 2.718281828 ** (1.5 * normal)


def lie(queries: float, worth: float, _uniform: float, _normal: float) -> float:
    """Tell of none where sleep would pay, and of many where it would not."""
    return 0.0 if queries > worth else 10.0 * worth + 1.0


POLICIES = (
    Policy(name="sleeptime", is_guarded=True, has_past=True),
    Policy(name="its first month", is_guarded=True),
    Policy(name="without guard", has_past=True),
    Policy(name="no forecast", forecasts=False),
    Policy(name="told within 20 %", tells=within(0.2)),
    Policy(name="told within 50 %", tells=within(0.5)),
    Policy(name="told noise", tells=noise),
    Policy(name="told lies", tells=lie, is_guarded=True),
)


@dataclass(slots=True, kw_only=True)
class _Part:
    """Sections without notes that have gone without them since the same query, and, for an oracle, until the same."""

    since: int
    until: int
    sections: int


@dataclass(slots=True, kw_only=True)
class _Sleep:
    """A sleep under way, on this many sections that have not been edited since it began."""

    ends_days: float
    context: int
    key: int
    sections: int


@dataclass(slots=True)
class _Context:
    """What is known of one context, and (for the oracle alone) what is to come."""

    kind: int
    arrives_days: float
    price: float
    tokens: int
    predicted_answer: float
    predicted_saving: float
    true_worth: float
    total: int
    draws: tuple[float, float]
    queries: int = 0
    covered: int = 0
    edits: int = 0
    has_arrived: bool = False
    seen: Seen = field(default_factory=lambda: Seen(added_days=0.0))
    parts: dict[tuple[int, int], _Part] = field(default_factory=dict[tuple[int, int], _Part])
    where: list[tuple[int, int]] | None = None
    untils: list[list[int]] | None = None
    without: Sums = field(default_factory=lambda: [0.0, 0.0])
    with_: Sums = field(default_factory=lambda: [0.0, 0.0])
    answer: float = 0.0
    unmeasured_saving: float = 0.0
    saving: float = 0.0
    estimated: int = -1


_COVERED = (-1, -1)
_ASLEEP = -2


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One trace, cut out of its batch: its events in order, and what only oracles know.

    An event is (day, context, section edited or −1 for a query or −2 for an arrival, cost and saving of a query).
    `untils` counts, for each section of an edited context, the queries that have come by each edit, the last first.
    """

    batch: Batch
    first: int
    events: tuple[tuple[float, int, int, float, float], ...]
    totals: tuple[int, ...]
    untils: dict[int, list[list[int]]]
    draws: tuple[tuple[float, float], ...]


_QUERY, _ARRIVAL = -1, -2


def traces_of(batch: Batch, *, seed: int) -> list[Trace]:
    """Cut a batch into its traces. *seed* draws the errors of oracles, the same for all of them."""
    contexts = len(batch.arrives)
    rng = np.random.default_rng([seed, contexts])
    draws = list(zip(rng.uniform(-1, 1, size=contexts).tolist(), rng.normal(size=contexts).tolist(), strict=True))
    queries, edits = len(batch.query_at), len(batch.edit_at)
    zeros: Array = np.zeros(contexts + edits)
    context = np.concatenate([np.arange(contexts), batch.edit_context, batch.query_context])
    at = np.concatenate([batch.arrives, batch.edit_at, batch.query_at])
    code = np.concatenate([np.full(contexts, _ARRIVAL), batch.edit_section, np.full(queries, _QUERY)])
    cost, saving = np.concatenate([zeros, batch.query_cost]), np.concatenate([zeros, batch.query_saving])
    order = np.lexsort((code, at, context // CONTEXTS))
    columns = (at, context % CONTEXTS, code, cost, saving)
    rows = list(zip(*(column[order].tolist() for column in columns), strict=True))
    bounds = np.searchsorted((context // CONTEXTS)[order], np.arange(batch.traces + 1)).tolist()
    totals = np.bincount(batch.query_context, minlength=contexts).tolist()
    untils = _untils(batch, totals)
    return [
        Trace(
            batch=batch,
            first=number * CONTEXTS,
            events=tuple(rows[bounds[number] : bounds[number + 1]]),
            totals=tuple(totals[number * CONTEXTS : (number + 1) * CONTEXTS]),
            untils={
                context: untils[number * CONTEXTS + context]
                for context in range(CONTEXTS)
                if number * CONTEXTS + context in untils
            },
            draws=tuple(draws[number * CONTEXTS : (number + 1) * CONTEXTS]),
        )
        for number in range(batch.traces)
    ]


def _untils(batch: Batch, totals: list[int]) -> dict[int, list[list[int]]]:
    """For each section of an edited context: how many queries have come by each of its edits, the last first."""
    found: dict[int, list[list[int]]] = {}
    starts: list[int] = np.searchsorted(batch.query_context, np.arange(len(batch.arrives) + 1)).tolist()
    edits = zip(batch.edit_context.tolist(), batch.edit_at.tolist(), batch.edit_section.tolist(), strict=True)
    for context, at, section in edits:
        times: list[float] = batch.query_at[starts[context] : starts[context + 1]].tolist()
        sections = found.setdefault(context, [list[int]() for _ in range(SECTIONS)])
        sections[int(section)].append(bisect_left(times, float(at)))
    return {
        context: [[totals[context], *reversed(counts)] for counts in sections] for context, sections in found.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What a ledger has taught: sums of measured ratios, priors by kind, edits by kind with the days they took.

    `portfolio` is what one month has cost and saved, on average.
    """

    portfolio: Portfolio = Portfolio()
    without: tuple[float, float] = (0.0, 0.0)
    with_: tuple[float, float] = (0.0, 0.0)
    kind_with: tuple[tuple[float, float], ...] = ((0.0, 0.0),) * len(KINDS)
    priors: Mapping[int, Prior] = field(default_factory=dict[int, Prior])
    edits: Mapping[int, tuple[float, float]] = field(default_factory=dict[int, tuple[float, float]])


class Deployment:
    """One policy at work on one trace."""

    def __init__(self, trace: Trace, policy: Policy, past: Past | None = None) -> None:
        self.policy = policy
        self.trace = trace
        batch, first = trace.batch, trace.first
        worth = batch.sleep_cost / np.maximum(batch.saving, 1e-9)
        columns = (
            batch.kind,
            batch.arrives,
            batch.sleep_cost,
            batch.sleep_tokens,
            batch.predicted_answer_cost,
            batch.predicted_saving,
            worth,
        )
        rows = zip(
            *(column[first : first + CONTEXTS].tolist() for column in columns), trace.totals, trace.draws, strict=True
        )
        self.contexts = [_Context(*row) for row in rows]
        self.guard = Guard(allowance=ALLOWANCE_ANSWERS) if policy.is_guarded else None
        self.cost = 0.0
        self.under_way: deque[_Sleep] = deque()
        self.held: dict[tuple[int, int, int], float] = {}
        self.past = past = past or Past()
        self.slept, self.saved = past.portfolio.slept, past.portfolio.saved
        self.without_sleep = past.portfolio.without_sleep
        self.all_without, self.all_with = list(past.without), list(past.with_)
        self.kind_with = [list(sums) for sums in past.kind_with]
        self.priors = {kind: (0.0, prior) for kind, prior in past.priors.items()}
        self.edits = dict(past.edits)
        self.answered = 0

    def run(self) -> float:
        """Live through the trace and say what it cost."""
        for at, index, code, cost, saving in self.trace.events:
            while self.under_way and self.under_way[0].ends_days <= at:
                self.wake(self.under_way.popleft())
            context = self.contexts[index]
            if code == _QUERY:
                self.ask(context, at, cost, saving)
            elif code == _ARRIVAL:
                self.arrive(context, index, at)
            else:
                self.consider(index, context, at, [self.edit(context, code)])
                continue
            if context.parts:
                self.consider(index, context, at, list(context.parts))
            if self.held:
                self.reconsider(at)
        return self.cost

    def arrive(self, context: _Context, index: int, at: float) -> None:
        context.has_arrived = True
        context.seen = Seen(added_days=at)
        untils = self.trace.untils.get(index)
        is_told = self.policy.tells is not None
        if untils is None:
            until = context.total if is_told else 0
            context.parts[0, until] = _Part(since=0, until=until, sections=SECTIONS)
            return
        context.untils = [list(counts) for counts in untils]
        context.where = []
        for counts in context.untils:
            key = (0, counts[-1] if is_told else 0)
            self.lack(context, key)
            context.where.append(key)

    def lack(self, context: _Context, key: tuple[int, int]) -> None:
        """Count one section more that lacks notes."""
        part = context.parts.get(key)
        if part is None:
            context.parts[key] = _Part(since=key[0], until=key[1], sections=1)
        else:
            part.sections += 1

    def ask(self, context: _Context, at: float, cost: float, saving: float) -> None:
        """Answer one query, and let the ledger learn from it."""
        context.queries += 1
        self.answered += 1
        if self.policy.tells is None and self.policy.forecasts:
            context.seen = context.seen.asked(at)
        share = context.covered / SECTIONS
        if not share or (self.guard is not None and not self.guard.may_show(self.portfolio)):
            self.cost += cost
            self.without_sleep += cost
            ratio = cost / context.predicted_answer
            for tally in (context.without, self.all_without):
                tally[0] += 1.0
                tally[1] += ratio
            return
        paid = cost - saving * share
        self.cost += paid
        self.saved += context.answer - paid
        self.without_sleep += context.answer
        if context.unmeasured_saving > 0.0:
            ratio = (context.answer - paid) / context.unmeasured_saving
            for tally in (context.with_, self.all_with, self.kind_with[context.kind]):
                tally[0] += share
                tally[1] += ratio

    def edit(self, context: _Context, section: int) -> tuple[int, int]:
        """Take a section's notes away, wherever it stands, and say which part it belongs to now."""
        context.edits += 1
        if context.where is None or context.untils is None:
            raise ValueError("a context that is edited has sections")
        was = context.where[section]
        if was == _COVERED:
            context.covered -= 1
        elif was[0] == _ASLEEP:
            next(sleep for sleep in self.under_way if sleep.key == was[1]).sections -= 1
        else:
            part = context.parts[was]
            part.sections -= 1
            if not part.sections:
                del context.parts[was]
        counts = context.untils[section]
        counts.pop()
        key = (context.queries, counts[-1] if self.policy.tells is not None else 0)
        self.lack(context, key)
        context.where[section] = key
        return key

    def wake(self, sleep: _Sleep) -> None:
        """Let a sleep's notes stand from now on."""
        context = self.contexts[sleep.context]
        context.covered += sleep.sections
        if context.where is not None:
            context.where = [_COVERED if key == (_ASLEEP, sleep.key) else key for key in context.where]

    @property
    def portfolio(self) -> Portfolio:
        return Portfolio(slept=self.slept, saved=self.saved, without_sleep=self.without_sleep)

    def consider(self, index: int, context: _Context, at: float, keys: list[tuple[int, int]]) -> None:
        """Decide on parts of a context that lack notes."""
        self.estimate(context)
        for key in keys:
            if not self.decision(index, key, at).is_sleep:
                continue
            if self.guard is None:
                self.sleep(index, key, at)
            else:
                self.held[index, *key] = self.prospect(index, key).price

    def reconsider(self, at: float) -> None:
        """Ask the guard for what it holds back, best first."""
        assert self.guard is not None
        room = self.guard.room(self.portfolio)
        fitting = [held for held, price in self.held.items() if price <= room]
        if not fitting:
            return
        decisions: dict[str, tuple[int, tuple[int, int], Decision]] = {}
        for held in fitting:
            del self.held[held]
            index, key = held[0], (held[1], held[2])
            if key in self.contexts[index].parts:
                self.estimate(self.contexts[index])
                decision = self.decision(index, key, at)
                decisions[decision.prospect.name] = (index, key, decision)
        ordered = in_order([each for _, _, each in decisions.values()], guard=self.guard, portfolio=self.portfolio)
        for decision in ordered:
            index, key, _ = decisions[decision.prospect.name]
            if decision.is_sleep:
                self.sleep(index, key, at)
            else:
                self.held[index, *key] = decision.prospect.price

    def estimate(self, context: _Context) -> None:
        """Believe what the ledger says of an answer's cost and of a query's saving."""
        if context.estimated == self.answered:
            return
        context.estimated = self.answered
        answers = shrunk(1.0, *self.all_without, strength=GROUP_ANSWERS)
        answers = shrunk(answers, *context.without, strength=OWN_ANSWERS)
        savings = shrunk(1.0, *self.all_with, strength=GROUP_ANSWERS)
        savings = shrunk(savings, *self.kind_with[context.kind], strength=GROUP_ANSWERS)
        savings = shrunk(savings, *context.with_, strength=OWN_ANSWERS)
        context.answer = context.predicted_answer * answers
        context.unmeasured_saving = context.predicted_saving * answers
        context.saving = context.unmeasured_saving * savings

    def prospect(self, index: int, key: tuple[int, int]) -> Prospect:
        context = self.contexts[index]
        part = context.parts[key]
        share = part.sections / SECTIONS
        queries = context.queries - part.since
        saving = context.saving * share
        return Prospect(
            name=f"{index}:{key[0]}:{key[1]}",
            price=context.price * share,
            tokens=int(context.tokens * share),
            output_tokens=0,
            saving=saving,
            queries_seen=queries,
            extra_paid=queries * saving,
            unit="answers",
        )

    def decision(self, index: int, key: tuple[int, int], at: float) -> Decision:
        return decide(self.prospect(index, key), self.forecast(self.contexts[index], key, at), doubt=self.policy.doubt)

    def forecast(self, context: _Context, key: tuple[int, int], at: float) -> Forecast | None:
        if not self.policy.forecasts:
            return None
        if self.policy.tells is not None:
            return Told(
                queries=max(0.0, self.policy.tells(key[1] - context.queries, context.true_worth, *context.draws))
            )
        prior = self.prior(context.kind, at)
        horizon = HORIZON_DAYS
        if context.kind in self.edits:
            horizon = days_until_edit(self.edits_of(context, at))
        return prior.forecast(context.seen, at, horizon_days=horizon)

    def edits_of(self, context: _Context, at: float) -> Gamma:
        """Forecast the edits of one section, from all of the context's."""
        edits, days = self.edits[context.kind]
        usual_days = (USUAL_EDITS.days + days) * USUAL_EDITS.shape / (USUAL_EDITS.shape + edits)
        return Gamma(
            shape=USUAL_EDITS.shape + context.edits,
            days=usual_days + (at - context.arrives_days) * SECTIONS,
            horizon_days=HORIZON_DAYS,
        )

    def prior(self, kind: int, at: float) -> Prior:
        """The prior over contexts of a kind, fitted anew where it is old."""
        fitted_days, prior = self.priors.get(kind, (0.0, USUAL))
        if at - fitted_days < REFIT_DAYS:
            return prior
        peers = [context for context in self.contexts if context.has_arrived and context.kind == kind]
        usual = self.past.priors.get(kind, USUAL)
        prior = fit([context.seen for context in peers], at, usual=usual)
        self.priors[kind] = (at, prior)
        if kind in self.past.edits or any(context.edits for context in peers):
            edits, days = self.past.edits.get(kind, (0.0, 0.0))
            edits += sum(context.edits for context in peers)
            self.edits[kind] = (edits, days + sum(at - context.arrives_days for context in peers) * SECTIONS)
        return prior

    def sleep(self, index: int, key: tuple[int, int], at: float) -> None:
        """Begin to sleep on one part, at its full price."""
        context = self.contexts[index]
        price = self.prospect(index, key).price
        self.cost += price
        self.slept += price
        part = context.parts.pop(key)
        number = len(self.under_way) and self.under_way[-1].key + 1
        self.under_way.append(_Sleep(ends_days=at + SLEEP_DAYS, context=index, key=number, sections=part.sections))
        if context.where is not None:
            context.where = [(_ASLEEP, number) if where == key else where for where in context.where]


def past_of(traces: Sequence[Trace]) -> Past:
    """What the ledgers of *traces* taught together, each a guarded first month."""
    lived = [Deployment(trace, Policy(name="past", is_guarded=True)) for trace in traces]
    for deployment in lived:
        deployment.run()
    contexts = [context for deployment in lived for context in deployment.contexts]
    priors: dict[int, Prior] = {}
    edits: dict[int, tuple[float, float]] = {}
    for kind in range(len(KINDS)):
        peers = [context for context in contexts if context.kind == kind]
        if not peers:
            continue
        priors[kind] = fit([context.seen for context in peers], TRACE_DAYS)
        for _ in range(PAST_FITS):
            priors[kind] = fit([context.seen for context in peers], TRACE_DAYS, usual=priors[kind])
        if any(context.edits for context in peers):
            days = sum(TRACE_DAYS - context.arrives_days for context in peers) * SECTIONS
            edits[kind] = (float(sum(context.edits for context in peers)), days)

    months = [deployment.portfolio for deployment in lived]
    return Past(
        portfolio=Portfolio(
            slept=fmean(month.slept for month in months),
            saved=fmean(month.saved for month in months),
            without_sleep=fmean(month.without_sleep for month in months),
        ),
        without=_scaled(_added([each.all_without for each in lived])),
        with_=_scaled(_added([each.all_with for each in lived])),
        kind_with=tuple(_scaled(_added([each.kind_with[kind] for each in lived])) for kind in range(len(KINDS))),
        priors=priors,
        edits=edits,
    )


def _added(sums: Sequence[Sequence[float]]) -> tuple[float, float]:
    return sum(each[0] for each in sums), sum(each[1] for each in sums)


def _scaled(sums: tuple[float, float], *, most: float = 100.0) -> tuple[float, float]:
    """Let a past count for at most this many answers, so that the present can correct it."""
    scale = min(1.0, most / sums[0]) if sums[0] else 0.0
    return sums[0] * scale, sums[1] * scale
