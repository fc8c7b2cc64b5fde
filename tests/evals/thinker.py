"""A thinker that needs no model, and the measurement of it."""

import hashlib
from datetime import UTC, date, datetime

import anyio
import anyio.lowlevel

from sleeptime.core.budget import Budget, Level
from sleeptime.core.context import Context, Span
from sleeptime.core.errors import EndpointUnreachableError
from sleeptime.core.ledger import Call, Phase
from sleeptime.core.messages import LogProb
from sleeptime.core.notes import LearnedContext, Note
from sleeptime.core.plan import Plan
from sleeptime.core.query import Answer, Query, Sees
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.evals.data import chains
from sleeptime.evals.demo.curves import DemoResult
from sleeptime.evals.demo.demo import run_demo

MINI = PriceCard(
    name="a mini model",
    dated=date(2026, 11, 1),
    input_usd_per_mtok=0.25,
    cached_input_usd_per_mtok=0.025,
    output_usd_per_mtok=2.0,
)
WASTED = 50
TOKENS = {0: 4, 1: 14, 2: 20, 3: 34, 4: 62}


class Thinker:
    """A thinker that reads the sheet itself: right where a real model would often be, at what it would cost.

    It answers from notes it is shown, steps along the chain as far as its level lets it,
    and else guesses. Its slips are drawn from the question, so that they are the same in each run.
    """

    def __init__(
        self,
        samples: list[chains.Sample],
        *,
        slip: float = 0.02,
        wrong_notes: float = 0.002,
        fails: frozenset[str] = frozenset(),
        sleepless: int = 0,
    ) -> None:
        self.samples = {sample.text: sample for sample in samples}
        self.slip = slip
        self.wrong_notes = wrong_notes
        self.fails = fails
        self.sleepless = {sample.text for sample in samples[:sleepless]}
        self.rows: list[Call] = []
        self.contexts: dict[str, Context] = {}
        self.busy = self.busiest = 0

    async def add(self, text: str, *, name: str) -> Context:
        self.contexts[name] = Context(id=name, name=name, text=text, created_at=datetime(2026, 11, 1, tzinfo=UTC))
        return self.contexts[name]

    async def sleep(self, name: str, plan: Plan) -> LearnedContext:
        assert plan.budget.max_output_tokens is not None
        if "sleep" in self.fails:
            raise EndpointUnreachableError("thinker", "it is out")
        context = self.contexts[name]
        if context.text in self.sleepless:
            self._pay(context, Usage(input_tokens=80, output_tokens=WASTED))
            raise EndpointUnreachableError("thinker", "it went out")
        sample = self.samples[context.text]
        state = chains.FAMILIES[sample.family].state
        known = {q.name for q in sample.quantities if q.source is None}
        written: list[Note] = []
        for target in [*sample.watched, *(q.name for q in reversed(sample.quantities))]:
            for link in reversed(chains.chain(sample.quantities, target)):
                if link.name in known:
                    continue
                known.add(link.name)
                wrong = link.value % chains.FACE + 1
                value = wrong if self._slips(f"note {name} {link.name}", self.wrong_notes) else link.value
                evidence = (Span(section=target, start=0, end=1),)
                written.append(Note(id=f"n{len(written)}", text=state(link.name, value), evidence=evidence))
        notes = tuple(written)
        usage = Usage(input_tokens=80, output_tokens=11 * len(notes))
        self._pay(context, usage)
        return LearnedContext(
            context_id=context.id,
            context_fingerprint=context.fingerprint,
            notes=notes,
            strategy="notes",
            model="thinker",
            prompt_fingerprint="",
            usage=usage,
            cost_usd=None,
            stop_reasons=("finished",),
            rounds=1,
            created_at=context.created_at,
            version=1,
        )

    async def ask(
        self,
        name: str,
        question: str,
        *,
        level: Level,
        sees: Sees | None,
        learned: LearnedContext | None,
        budget: Budget,
    ) -> Answer:
        assert budget.max_output_tokens is not None
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        await anyio.lowlevel.checkpoint()
        self.busy -= 1
        if f"{sees} {level}" in self.fails:
            raise EndpointUnreachableError("thinker", "it is out")
        sample = self.samples[self.contexts[name].text]
        query = next(query for query in sample.queries if query.question == question)
        notes = {} if learned is None or sees == "context" else dict(_read(note.text) for note in learned.shown)
        reach = (1, 1, 3, 6, 99)[level.amount]
        known = dict(notes)
        if sees != "learned":
            known |= {q.name: str(q.value) for q in sample.quantities if q.source is None}
        if set(query.names) <= set(known):
            values = [int(known[name]) for name in query.names]
            sign = -1 if query.kind == "difference" else 1
            value = str(chains.on_face(values[0] + sign * sum(values[1:])))
        elif query.depth <= reach:
            value = query.answer
        else:
            value = self._guess(name, question)
        if self._slips(f"{name} {question} {sees} {level}", self.slip):
            value = self._guess(name, question)
        shorter = notes and level.amount < 4
        return Answer(
            text=f"{query.names[0]}= {value}",
            query=Query(question=question, level=level, sees=sees or "context"),
            model="thinker",
            usage=Usage(
                input_tokens=90 + 4 * len(notes),
                cached_input_tokens=70 + 4 * len(notes),
                output_tokens=TOKENS[level.amount] // 2 + 2 if shorter else TOKENS[level.amount],
            ),
            cost_usd=None,
            latency_s=0.0,
            finish_reason="stop",
        )

    async def log_prob(self, name: str, question: str) -> LogProb:
        if "log_prob" in self.fails:
            raise EndpointUnreachableError("thinker", "it is out")
        sample = self.samples[self.contexts[name].text]
        query = next(query for query in sample.queries if query.question == question)
        return LogProb(total=-6.0 + 8 * query.asking_probability - 3 * (query.kind != "value"), tokens=7)

    async def calls(self, name: str) -> list[Call]:
        return [row for row in self.rows if row.context_id == name]

    def _pay(self, context: Context, usage: Usage) -> None:
        call = Call(
            id=f"call{len(self.rows)}",
            at=context.created_at,
            phase=Phase.SLEEP,
            model="thinker",
            usage=usage,
            cost_usd=None,
            latency_s=0.0,
            context_id=context.id,
            work_id=f"sleep on {context.id}",
        )
        self.rows.append(call)

    def _slips(self, what: str, share: float) -> bool:
        return int.from_bytes(hashlib.sha256(what.encode()).digest()[:4]) / 2**32 < share

    def _guess(self, name: str, question: str) -> str:
        return str(hashlib.sha256(f"{name} {question}".encode()).digest()[1] % chains.FACE + 1)


def _read(note: str) -> tuple[str, str]:
    name, _, value = note.partition("= ")
    return name, value


async def measure(thinker: Thinker, *, contexts: int, seed: int = 3) -> DemoResult:
    return await run_demo(
        thinker, model="thinker", contexts=contexts, seed=seed, price=MINI, measured_on=date(2026, 11, 23)
    )


def thinker(
    contexts: int,
    *,
    seed: int = 3,
    slip: float = 0.02,
    wrong_notes: float = 0.002,
    fails: frozenset[str] = frozenset(),
    sleepless: int = 0,
) -> Thinker:
    samples = chains.draw(seed, contexts=contexts, queries_per_context=4)
    return Thinker(samples, slip=slip, wrong_notes=wrong_notes, fails=fails, sleepless=sleepless)
