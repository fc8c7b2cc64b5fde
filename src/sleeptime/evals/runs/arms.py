"""What each arm does to a query, with the library's own Sleeper and Answerer.

    Measurer.answer(cell, sample, draw) → Row
    Measurer.learn(context, sleeping)   → LearnedContext, once a context

An arm is what the model is shown (`results.SEES`) and whose notes. A sleep that failed
makes its queries missing; one that learned nothing shows no notes. Rows and sleeps are
kept as soon as they are known. This file knows nothing about Inspect or statistics.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import anyio

from sleeptime import prompts
from sleeptime.answerer import Answerer
from sleeptime.core.budget import Level
from sleeptime.core.context import Context
from sleeptime.core.errors import NotSupportedError
from sleeptime.core.messages import Completion, Message
from sleeptime.core.notes import LearnedContext
from sleeptime.core.query import Query
from sleeptime.core.usage import PriceCard, Usage, sum_costs
from sleeptime.evals.data.datasets import Sample
from sleeptime.evals.data.scorers import answer_in, is_correct
from sleeptime.evals.runs.journal import Journaled
from sleeptime.evals.runs.results import SEES, Cell, Row, Sleeping, Slept, Surprise
from sleeptime.evals.runs.run_folder import RunFolder
from sleeptime.evals.runs.variants import halved, merged, restated
from sleeptime.models.forwarding import Forwarding
from sleeptime.models.protocol import Model, Options
from sleeptime.models.retrying import Retrying
from sleeptime.sleeper import Sleeper


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The model that answers, the one that sleeps, and the one that says how probable a query is."""

    test: Model
    sleep: Model
    scoring: Model


@dataclass(slots=True)
class _Memo:
    """What came of one sleep, for all that need it."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    learned: LearnedContext | None = None
    error: Exception | None = None


class Measurer:
    """Answers samples as cells say, and keeps what comes of it in a run's folder.

    *samples* is the whole dataset: a placebo is the notes on the next context of another cluster.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        folder: RunFolder,
        *,
        price: PriceCard | None,
        sleep_price: PriceCard | None,
        clock_s: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_row: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._price, self._sleep_price = price, sleep_price
        self._clock_s, self._now, self._on_row = clock_s, now, on_row
        self._contexts = {
            sample.context_id: Context(
                id=sample.context_id, name=sample.context_id, text=sample.context, created_at=now()
            )
            for sample in samples
        }
        self._others = _others(samples)
        self._unable: dict[str, NotSupportedError] = {}
        self._memos = defaultdict[tuple[str, Sleeping], _Memo](_Memo)

    async def answer(self, models: Models, cell: Cell, sample: Sample, draw: int) -> Row:
        """Answer *sample* as *cell* says, for the *draw*-th time from 0, and keep the row.

        Raises what the models raise, after a row that is missing for that reason was kept. What a model cannot
        do at all is kept once, as the reason why the cell is not measured, and not tried again.
        """
        if cell.id in self._unable:
            self._on_row()
            raise self._unable[cell.id]
        row = Row(cell=cell.id, sample_id=sample.id, draw=draw)
        try:
            context = self._contexts[sample.context_id]
            learned = await self._shown(models, cell, context)
            journaled = self._journaled(models.test, self._price)
            model = Drawing(journaled, cell.temperature, draw if cell.draws > 1 else None)
            level = Level.parse(cell.level)
            question = _guess(models.test) if cell.arm == "guess" else sample.question
            query = Query(question=question, level=level, sees=SEES[cell.arm])
            answer = await Answerer(model, self._price, self._clock_s).answer(query, context, learned)
        except NotSupportedError as error:
            self._unable[cell.id] = error
            self._folder.keep_not_measured(cell.id, str(error))
            self._on_row()
            raise
        except Exception as error:  # whatever it was, the answer is missing and counted, and Inspect logs it
            self._folder.keep_row(replace(row, error=_told(error)))
            self._on_row()
            raise
        row = replace(
            row,
            is_correct=is_correct(answer.text, sample.target, sample.answer),
            answer=answer_in(answer.text, sample.answer),
            text=answer.text,
            usage=answer.usage,
            cost_usd=answer.cost_usd,
        )
        self._folder.keep_row(row)
        self._on_row()
        return row

    async def surprise(self, models: Models, sample: Sample) -> Surprise:
        """Measure log P(question | context) and keep it. Raises what the model raises, after keeping why."""
        model = self._journaled(models.scoring, None)
        query = Query(question=sample.question, sees="context")
        try:
            measured = await Answerer(model, None, self._clock_s).log_prob(
                query, self._contexts[sample.context_id], None
            )
        except Exception as error:  # as above
            self._folder.keep_surprise(Surprise(sample_id=sample.id, log_prob=None, error=_told(error)))
            self._on_row()
            raise
        surprise = Surprise(sample_id=sample.id, log_prob=measured.total, tokens=measured.tokens)
        self._folder.keep_surprise(surprise)
        self._on_row()
        return surprise

    async def learn(self, models: Models, context: Context, sleeping: Sleeping) -> LearnedContext:
        """Sleep on *context*, once for all who ask. Raises what the sleep raised, to all of them."""
        memo = self._memos[context.id, sleeping]
        async with memo.lock:
            if memo.error is not None:
                raise memo.error
            if memo.learned is None:
                memo.learned = await self._sleep(models.sleep, context, sleeping, memo)
        return memo.learned

    async def _sleep(self, model: Model, context: Context, sleeping: Sleeping, memo: _Memo) -> LearnedContext:
        journaled = self._journaled(model, self._sleep_price)
        slept = Slept(context_id=context.id, sleeping=sleeping)
        try:
            learned = await Sleeper(journaled, self._sleep_price, self._clock_s, self._now).sleep(
                context, sleeping.plan
            )
        except Exception as error:  # whatever it was, trying again for every query would pay for it again
            memo.error = error
            self._folder.keep_slept(replace(slept, error=_told(error), **self._took(journaled)))
            raise
        self._folder.keep_slept(
            replace(
                slept,
                rounds=learned.rounds,
                characters=sum(len(note.plain) for note in learned.shown),
                stop_reason=learned.stop_reason,
                **self._took(journaled),
            )
        )
        return learned

    def _took(self, journaled: Journaled) -> dict[str, tuple[Usage, ...] | float | None]:
        price, calls = self._sleep_price, journaled.usages
        return {
            "calls": tuple(calls),
            "cost_usd": sum_costs([price.cost_usd(usage) if price else None for usage in calls]),
        }

    async def _shown(self, models: Models, cell: Cell, context: Context) -> LearnedContext | None:
        """The notes of an arm; None for an arm without any."""
        if cell.sleeping is None:
            return None
        if cell.arm == "placebo":
            if self._others[context.id] == context.id:
                raise NotSupportedError("a run on one context", "notes of another one", "Use a larger --limit.")
            context = self._contexts[self._others[context.id]]
        learned = await self.learn(models, context, cell.sleeping)
        if cell.arm == "restatement":
            return restated(learned, context)
        if cell.arm == "half":
            return halved(learned)
        return merged(learned) if cell.arm == "merged" else learned

    def _journaled(self, model: Model, price: PriceCard | None) -> Journaled:
        is_capped = self._folder.journal.max_cost_usd is not None
        return Journaled(Retrying(model, repeats_sent=not is_capped), self._folder.journal, price)


def _told(error: BaseException) -> str:
    """What went wrong; of a group, its first error."""
    if isinstance(error, BaseExceptionGroup):
        errors: tuple[BaseException, ...] = error.exceptions  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # of any kind
        return _told(errors[0])
    return f"{type(error).__name__}: {error}"


def _others(samples: Sequence[Sample]) -> dict[str, str]:
    """For each context the next one, round and round, that is of another cluster; of any where there is but one."""
    clusters = {sample.context_id: sample.cluster for sample in samples}
    ids = list(clusters)
    is_one = len(set(clusters.values())) == 1
    others: dict[str, str] = {}
    for i, own in enumerate(ids):
        around = (ids[(i + step) % len(ids)] for step in range(1, len(ids) + 1))
        others[own] = next(other for other in around if is_one or clusters[other] != clusters[own])
    return others


def _guess(model: Model) -> str:
    """What stands in place of the question where the query is to be guessed."""
    return prompts.load("guess", model.abilities.prompt_set).render({})[-1].content


class Drawing(Forwarding):
    """A model asked for one of several draws: at its own temperature, with its own seed.

    It stands before the journal, which tells draws apart by their seeds.
    """

    def __init__(self, model: Model, temperature: float | None, draw: int | None) -> None:
        super().__init__(model)
        self._temperature, self._draw = temperature, draw

    async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
        return await self._model.generate(messages, self._drawn(options))

    async def complete(self, messages: Sequence[Message], options: Options, *, prefix: str) -> Completion:
        return await self._model.complete(messages, self._drawn(options), prefix=prefix)

    def _drawn(self, options: Options) -> Options:
        temperature = options.temperature if self._temperature is None else self._temperature
        return replace(options, temperature=temperature, seed=options.seed if self._draw is None else self._draw)
