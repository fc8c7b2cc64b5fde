"""Write more queries on a context, and keep those that solvers confirm who never saw the writer's answer.

    writer   context, one query with its answer → more queries, each with its answer
    checks   unreadable, not a number, duplicate, leak, new fact       nobody is asked
    solvers  context, query → answer, in runs of their own at temperature > 0
    kept     where two runs agree with each other, and with the writer

    Maker.make(source) → Made

The writer is asked again, MOST_ASKS times at most, while queries are lacking. A third run
is made only where it can still make two agree. A failed call drops no query: the context
is unfinished, and says why.

Kept queries lean to the easy side: where solvers often err, they seldom agree. This file
does not know files, pages or commands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import anyio

from sleeptime import prompts
from sleeptime.answerer import Answerer
from sleeptime.core.budget import Level
from sleeptime.core.context import Context
from sleeptime.core.errors import (
    AuthenticationError,
    EndpointUnreachableError,
    NotSupportedError,
    SleeptimeError,
    UnknownModelError,
)
from sleeptime.core.query import Query
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.evals.data.datasets import NO_TEXT, Sample
from sleeptime.evals.data.scorers import answer_in, is_correct
from sleeptime.evals.queries.checks import Asked, duplicate_of, gives_away, new_facts, number_of
from sleeptime.evals.queries.written import WRITE_QUERIES, UnreadableReplyError, Written, written_in
from sleeptime.evals.runs.arms import Drawing
from sleeptime.evals.runs.journal import CapReachedError, Journal, Journaled
from sleeptime.evals.runs.results import DRAW_TEMPERATURE
from sleeptime.models.protocol import Model, Options
from sleeptime.models.retrying import Retrying
from sleeptime.models.window import room_for_reply

PROMPT, PLAIN_PROMPT = "more-queries", "more-queries-plain"
MOST_ASKS = 3
LEAST_AGREEING = 2
WRITER_OUTPUT_TOKENS = 8192
"""What one reply of the writer may say; a model that reasons does so within it."""
LONGEST_QUESTION = 1000

Reason = Literal[
    "unreadable",
    "not a number",
    "duplicate",
    "leak",
    "new fact",
    "solvers disagree",
    "writer disagrees",
    "surplus",
]
REASONS: dict[Reason, str] = {
    "unreadable": "the reply holds no question, or no answer, in this place",
    "not a number": "the answer is not one number",
    "duplicate": "it asks what is asked already",
    "leak": "it states its own or another question's answer",
    "new fact": "it states a number that the context does not",
    "solvers disagree": "no two runs of the solver agree",
    "writer disagrees": "the solver's runs agree on another answer than the writer's",
    "surplus": "there were enough already",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is wanted for each context: so many queries, each solved in up to *solvers* runs at a *level*."""

    queries: int = 10
    solvers: int = 2
    level: Level = Level(amount=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A context with the queries it came with; the first one that has a number as its answer is the example."""

    context_id: str
    context: str
    samples: tuple[Sample, ...]

    @property
    def example(self) -> Sample:
        return next((sample for sample in self.samples if number_of(sample.target)), self.samples[0])

    @property
    def asked(self) -> list[Asked]:
        """Its queries whose answers are numbers."""
        numbers = [(sample.question, number_of(sample.target)) for sample in self.samples]
        return [Asked(question=question, answer=answer) for question, answer in numbers if answer is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A query that *agreed* of *runs* runs of the solver answer alike, and as the writer does."""

    question: str
    answer: str
    agreed: int
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A query that was not kept, and what of it was found wrong."""

    reason: Reason
    question: str
    answer: str
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What came of one context, and the fingerprints of the prompts that the writer was asked with.

    `error` says why it is unfinished, `is_capped` that the cap on money is why, and `stops_all` that the others
    would not fare better.
    """

    source: Source
    kept: tuple[Kept, ...]
    dropped: tuple[Dropped, ...]
    asks: int
    unreadable_replies: int
    writer_usage: Usage
    solver_usage: Usage
    prompts: dict[str, str]
    error: str = ""
    is_capped: bool = False
    stops_all: bool = False

    @property
    def written(self) -> int:
        return len(self.kept) + len(self.dropped)


@dataclass(slots=True)
class _Work:
    """What is known of one context while it is worked on. `pool` holds checked queries that await the solvers."""

    source: Source
    writer: Journaled
    solver: Journaled
    kept: list[Kept] = field(default_factory=list[Kept])
    pool: list[Asked] = field(default_factory=list[Asked])
    dropped: list[Dropped] = field(default_factory=list[Dropped])
    prompts: dict[str, str] = field(default_factory=dict[str, str])
    asks: int = 0
    unreadable_replies: int = 0
    is_plain: bool = False
    remark: str = ""

    @property
    def earlier(self) -> list[Asked]:
        """The queries a new one must neither repeat nor give away."""
        kept = [Asked(question=each.question, answer=each.answer) for each in self.kept]
        return [*self.source.asked, *kept, *self.pool]

    @property
    def refused(self) -> list[Asked]:
        """Queries that no solver will be asked again."""
        return [
            Asked(question=each.question, answer=each.answer)
            for each in self.dropped
            if each.reason in ("solvers disagree", "writer disagrees")
        ]

    def made(self, error: SleeptimeError | None = None) -> Made:
        pool = self.pool if error is None else []
        surplus = [Dropped(reason="surplus", question=each.question, answer=each.answer) for each in pool]
        return Made(
            source=self.source,
            kept=tuple(self.kept),
            dropped=(*self.dropped, *surplus),
            asks=self.asks,
            unreadable_replies=self.unreadable_replies,
            writer_usage=sum(self.writer.usages, Usage()),
            solver_usage=sum(self.solver.usages, Usage()),
            prompts=dict(self.prompts),
            is_capped=isinstance(error, CapReachedError),
            error="" if error is None else f"{type(error).__name__}: {error}",
            stops_all=error is not None and _stops_all(error),
        )


class Maker:
    """Makes queries with a writer and a solver, every call through the journal, *connections* at a time."""

    def __init__(
        self,
        writer: Model,
        solver: Model,
        journal: Journal,
        *,
        wish: Wish,
        writer_price: PriceCard | None,
        solver_price: PriceCard | None,
        connections: int,
        clock_s: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._writer, self._solver, self._journal = writer, solver, journal
        self._writer_price, self._solver_price = writer_price, solver_price
        self._wish, self._clock_s, self._now = wish, clock_s, now
        self._connections = connections
        self._calls = anyio.CapacityLimiter(connections)

    async def make_all(self, sources: Iterable[Source], on_made: Callable[[Made], None]) -> None:
        """Work on *sources* in their order, several at a time; give each to *on_made* when it is done.

        After an error that all would meet, such as a cap that is reached, no further one begins.
        Raises what *on_made* raises.
        """
        pending = iter(sources)
        is_stopped = False

        async def work() -> None:
            nonlocal is_stopped
            for source in pending:
                made = await self.make(source)
                is_stopped = is_stopped or made.stops_all
                on_made(made)
                if is_stopped:
                    return

        try:
            async with anyio.create_task_group() as group:
                for _ in range(self._connections):
                    group.start_soon(work)
        except* SleeptimeError as errors:
            raise _first(errors) from errors

    async def make(self, source: Source) -> Made:
        """Write and confirm queries on one context. What a failed call left unfinished is told, not raised."""
        work = _Work(
            source,
            writer=self._journaled(self._writer, self._writer_price),
            solver=self._journaled(self._solver, self._solver_price),
        )
        try:
            await self._fill(work)
        except SleeptimeError as error:
            return work.made(error)
        return work.made()

    async def _fill(self, work: _Work) -> None:
        while (lacking := self._wish.queries - len(work.kept)) > 0:
            if work.pool:
                batch, work.pool = work.pool[:lacking], work.pool[lacking:]
                await self._solve_all(work, batch)
            elif work.asks < MOST_ASKS:
                await self._write(work, lacking)
            else:
                break

    async def _write(self, work: _Work, lacking: int) -> None:
        """Ask for queries once, and check them."""
        writer = work.writer
        tools = (WRITE_QUERIES,) if writer.abilities.tools and not work.is_plain else ()
        prompt = prompts.load(PROMPT if tools else PLAIN_PROMPT, writer.abilities.prompt_set)
        example = work.source.example
        asked = [sample.question for sample in work.source.samples]
        asked += [each.question for each in (*work.kept, *work.refused)]
        messages = prompt.render(
            {
                "context": work.source.context,
                "question": example.question,
                "answer": example.target,
                "asked": "\n".join(asked),
                "count": str(lacking),
                "state": work.remark,
            }
        )
        options = Options(
            max_output_tokens=await room_for_reply(writer, messages, tools=tools, wanted=WRITER_OUTPUT_TOKENS),
            temperature=DRAW_TEMPERATURE if writer.abilities.sampling else None,
            seed=work.asks,
            tools=tools,
        )
        try:
            async with self._calls:
                completion = await writer.generate(messages, options)
        except NotSupportedError:
            if not tools or writer.abilities.tools:
                raise
            work.is_plain = True  # the endpoint turned out to have no tools: this call does not count
            return
        work.asks += 1
        work.prompts[prompt.name] = prompt.fingerprint
        try:
            written = written_in(completion)
        except UnreadableReplyError as error:
            work.unreadable_replies += 1
            work.is_plain = work.is_plain or not completion.tool_calls
            work.remark = f"The last reply could not be read: {error}."
            return
        passed, dropped = checked(written, work.source.context, earlier=work.earlier, refused=work.refused)
        work.pool += passed
        work.dropped += dropped
        work.remark = _remark(dropped)

    async def _solve_all(self, work: _Work, batch: Sequence[Asked]) -> None:
        """Have *batch* solved. Raises what a solver raised, after what the others say is kept."""
        context = Context(
            id=work.source.context_id,
            name=work.source.context_id,
            text=work.source.context,
            created_at=self._now(),
        )
        outcomes: dict[int, Kept | Dropped | SleeptimeError] = {}

        async def one(place: int, asked: Asked) -> None:
            try:
                outcomes[place] = await self._solve(work.solver, context, asked)
            except SleeptimeError as error:
                outcomes[place] = error

        async with anyio.create_task_group() as group:
            for place, asked in enumerate(batch):
                group.start_soon(one, place, asked)
        failure: SleeptimeError | None = None
        for place in range(len(batch)):
            match outcomes[place]:
                case Kept() as kept:
                    work.kept.append(kept)
                case Dropped() as dropped:
                    work.dropped.append(dropped)
                case SleeptimeError() as error:
                    failure = failure or error
        if failure is not None:
            raise failure

    async def _solve(self, solver: Model, context: Context, asked: Asked) -> Kept | Dropped:
        answers: list[str | None] = []
        for run in range(self._wish.solvers):
            answerer = Answerer(Drawing(solver, DRAW_TEMPERATURE, run), None, self._clock_s)
            query = Query(question=asked.question, level=self._wish.level, sees="context")
            async with self._calls:
                answer = await answerer.answer(query, context, None)
            is_whole = answer.finish_reason != "length"
            answers.append(answer_in(answer.text, "number") if is_whole else None)
            if agreement(answers) is not None or not _can_agree(answers, runs_left=self._wish.solvers - run - 1):
                break
        return judged(asked, answers)

    def _journaled(self, model: Model, price: PriceCard | None) -> Journaled:
        is_capped = self._journal.max_cost_usd is not None
        return Journaled(Retrying(model, repeats_sent=not is_capped), self._journal, price)


def sources_of(samples: Iterable[Sample]) -> list[Source]:
    """Group *samples* by context, in their order, without those of a context that has no text."""
    by_context: dict[str, list[Sample]] = {}
    for sample in samples:
        by_context.setdefault(sample.context_id, []).append(sample)
    return [
        Source(context_id=context_id, context=of_one[0].context, samples=tuple(of_one))
        for context_id, of_one in by_context.items()
        if of_one[0].context != NO_TEXT
    ]


def checked(
    written: Sequence[Written], context: str, *, earlier: Sequence[Asked], refused: Sequence[Asked]
) -> tuple[list[Asked], list[Dropped]]:
    """Part what one reply holds into queries to be solved and queries to be dropped, by their words alone.

    None may give away the answer of another, or of an *earlier* one, and no earlier one its answer.
    """
    numbers = [(each, number_of(each.answer)) for each in written]
    together = [
        Asked(question=each.question, answer=number) for each, number in numbers if each.question and number is not None
    ]
    passed: list[Asked] = []
    dropped: list[Dropped] = []

    def drop(each: Written, reason: Reason, because: str = "") -> None:
        dropped.append(Dropped(reason=reason, question=each.question, answer=each.answer, because=because))

    for each, number in numbers:
        if not each.question or len(each.question) > LONGEST_QUESTION:
            drop(each, "unreadable", each.answer if not each.question else f"over {LONGEST_QUESTION} characters")
            continue
        if number is None:
            drop(each, "not a number", f"{each.answer!r} is not one number")
            continue
        asked = Asked(question=each.question, answer=number)
        if repeated := duplicate_of(asked, [*earlier, *passed, *refused]):
            drop(each, "duplicate", f"it repeats {repeated!r}")
        elif told := _told(asked, earlier, together, context):
            drop(each, "leak", told)
        elif facts := new_facts(each.question, context):
            drop(each, "new fact", f"the context does not state {', '.join(facts)}")
        else:
            passed.append(asked)
    return passed, dropped


def judged(asked: Asked, answers: Sequence[str | None]) -> Kept | Dropped:
    """Keep a query if two of the solver's *answers* agree, and agree with the writer's."""
    agreed = agreement(answers)
    said = ", ".join("unreadable" if answer is None else answer for answer in answers)
    if agreed is None:
        return Dropped(
            reason="solvers disagree", question=asked.question, answer=asked.answer, because=f"they say {said}"
        )
    if not is_correct(agreed, asked.answer, "number"):
        return Dropped(
            reason="writer disagrees",
            question=asked.question,
            answer=asked.answer,
            because=f"the solver says {agreed}, the writer {asked.answer}",
        )
    votes = sum(answer is not None and is_correct(answer, agreed, "number") for answer in answers)
    return Kept(question=asked.question, answer=agreed, agreed=votes, runs=len(answers))


def agreement(answers: Sequence[str | None]) -> str | None:
    """The answer that two runs give, or None where no two agree. What cannot be read agrees with nothing."""
    given = [answer for answer in answers if answer is not None]
    for answer in given:
        if sum(is_correct(other, answer, "number") for other in given) >= LEAST_AGREEING:
            return answer
    return None


def _can_agree(answers: Sequence[str | None], *, runs_left: int) -> bool:
    has_one = any(answer is not None for answer in answers)
    return runs_left >= (LEAST_AGREEING - 1 if has_one else LEAST_AGREEING)


def _told(asked: Asked, earlier: Sequence[Asked], together: Sequence[Asked], context: str) -> str | None:
    """Say which answer *asked* gives away, its own included, or which *earlier* query gives away its answer."""
    for other in (asked, *earlier, *(each for each in together if each != asked)):
        if told := gives_away(asked, other, context):
            return told
    return next((f"{each.question!r}: {told}" for each in earlier if (told := gives_away(each, asked, context))), None)


def _remark(dropped: Sequence[Dropped]) -> str:
    """Tell the writer why queries were not taken, without their answers."""
    counts = Counter[Reason](each.reason for each in dropped)
    if not counts:
        return ""
    told = "; ".join(f"{count} because {REASONS[reason]}" for reason, count in counts.items())
    return f"Of the last questions these were not taken: {told}."


def _stops_all(error: SleeptimeError) -> bool:
    """Whether every other context would meet this error as well."""
    if isinstance(error, EndpointUnreachableError):
        return not error.was_sent
    return isinstance(error, CapReachedError | AuthenticationError | UnknownModelError | NotSupportedError)


def _first(errors: BaseExceptionGroup[SleeptimeError]) -> SleeptimeError:
    """The first error of a group, however deep it lies."""
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("a group has at least one error")
