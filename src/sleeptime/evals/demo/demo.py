"""Measure sleep-time compute on freshly drawn contexts, with one model.

    measure_tiny(contexts=32, seed=7) → DemoResult          the model that ships
    run_demo(engine, model="…", contexts=500, …)            any other

First every context is slept on. Then each of its queries is asked in every arm, one
context after another, so that providers' and local prompt caches see its prefix once;
a few contexts are worked on at a time. What a sleep spent is read from the ledger, so that
a failed one is charged too. This file knows an engine's verbs and which model ships, and
nothing about prompts, servers or storage.
"""

import asyncio
import hashlib
import platform
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

from sleeptime.core.budget import Budget, Level
from sleeptime.core.context import Context
from sleeptime.core.errors import ModelError
from sleeptime.core.ledger import Call
from sleeptime.core.messages import LogProb
from sleeptime.core.notes import LearnedContext
from sleeptime.core.plan import Plan
from sleeptime.core.query import Answer, Sees
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.engine import Engine
from sleeptime.evals.data import chains
from sleeptime.evals.demo.curves import DemoResult, summarise
from sleeptime.evals.demo.rows import LEVELS, SWEPT, Arm, Asked, Measurement, Provenance, Row, Slept
from sleeptime.evals.runs.provenance import checked_out_commit, machine
from sleeptime.evals.runs.variants import halved
from sleeptime.models.names import TINY, TINY_PATH, check_tiny

DEFAULT_CONTEXTS = 32
QUERIES_PER_CONTEXT = 4

CONCURRENCY = 4
"""Contexts worked on at a time: as many as the local server has slots."""

SLEEP = Plan(budget=Budget(max_output_tokens=1024, max_rounds=2))
ANSWER = Budget(max_output_tokens=384)
"""Caps far above what these contexts need, so that a model that does not stop cannot hold up the demo."""

PRICED_AS = "openai:gpt-5-mini"
"""Whose price card to compute `money_ratio` at: the tiny model has no price of its own."""

PACKAGES = ("sleeptime", "xllamacpp", "pydantic-ai-slim", "numpy")

_SEES: dict[Arm, Sees] = {
    "no_sleep": "context",
    "sleep": "context+learned",
    "learned_only": "learned",
    "limited": "context+learned",
    "placebo": "context+learned",
}
Item = TypeVar("Item")


class Subject(Protocol):
    """What is measured: the part of an Engine that the demo uses."""

    async def add(self, text: str, *, name: str) -> Context: ...

    async def sleep(self, name: str, plan: Plan) -> LearnedContext: ...

    async def ask(
        self,
        name: str,
        question: str,
        *,
        level: Level,
        sees: Sees | None,
        learned: LearnedContext | None,
        budget: Budget,
    ) -> Answer: ...

    async def log_prob(self, name: str, question: str) -> LogProb: ...

    async def calls(self, name: str) -> Sequence[Call]: ...


async def run_demo(
    subject: Subject,
    *,
    model: str,
    contexts: int = DEFAULT_CONTEXTS,
    queries_per_context: int = QUERIES_PER_CONTEXT,
    seed: int = 0,
    family: str = "sheets",
    price: PriceCard | None,
    measured_on: date,
    model_sha256: str | None = None,
    commit: str | None = None,
    concurrency: int = CONCURRENCY,
    on_progress: Callable[[int, int], None] | None = None,
    clock_s: Callable[[], float] = time.monotonic,
) -> DemoResult:
    """Draw held-out contexts, sleep on each, ask in every arm, and compute every figure.

    *model*, *model_sha256*, *commit* and *measured_on* are told in the result; `money_ratio` is at *price*.
    *on_progress* is given steps done, of how many: each context is slept on, then asked about.
    A failed call is missing. Raises ModelError where no context could be slept on at all.
    """
    started_s = clock_s()
    samples = chains.draw(seed, contexts=contexts, queries_per_context=queries_per_context, family=family)
    run = _Run(subject, samples, on_progress)
    await _each(range(contexts), run.sleep, concurrency)
    if run.failures and len(run.failures) == contexts:
        raise run.failures[0]
    await _each(range(contexts), run.ask, concurrency)
    return summarise(
        run.measurement(),
        price=price,
        provenance=Provenance(
            model=model,
            model_sha256=model_sha256,
            seed=seed,
            family=family,
            machine=machine(),
            versions={"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
            wall_s=round(clock_s() - started_s, 1),
            commit=commit,
            measured_on=measured_on,
        ),
    )


async def measure_tiny(
    *,
    contexts: int = DEFAULT_CONTEXTS,
    queries_per_context: int = QUERIES_PER_CONTEXT,
    seed: int = 0,
    family: str = "sheets",
    on_progress: Callable[[int, int], None] | None = None,
) -> DemoResult:
    """Run the demo on the model that ships with the package, in a folder that is gone afterwards.

    Raises ModelError where this machine cannot run it.
    """
    await asyncio.to_thread(check_tiny, TINY_PATH)
    with TemporaryDirectory(prefix="sleeptime-demo-") as folder:
        home = {"SLEEPTIME_HOME": folder}  # the user's own models, prices and database stay out of the measurement
        async with Engine.open(model=TINY, environ=home, worker=False) as engine:
            return await run_demo(
                engine,
                model=TINY,
                contexts=contexts,
                queries_per_context=queries_per_context,
                seed=seed,
                family=family,
                price=engine.price_card(PRICED_AS),
                measured_on=datetime.now(UTC).date(),
                model_sha256=await asyncio.to_thread(_sha256, TINY_PATH),
                commit=await asyncio.to_thread(checked_out_commit),
                on_progress=on_progress,
            )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Run:
    """One run's samples and what has been measured of them so far."""

    def __init__(
        self, subject: Subject, samples: Sequence[chains.Sample], on_progress: Callable[[int, int], None] | None
    ) -> None:
        self.subject = subject
        self.samples = samples
        self.on_progress = on_progress
        self.names: dict[int, str] = {}
        self.learned: dict[int, LearnedContext] = {}
        self.slept: list[Slept] = []
        self.asked: list[Asked] = []
        self.rows: list[Row] = []
        self.failures: list[ModelError] = []
        self.steps_done = 0

    def measurement(self) -> Measurement:
        """Everything so far, in the order it was drawn."""
        return Measurement(
            texts=tuple(sample.text for sample in self.samples),
            asked=tuple(sorted(self.asked, key=lambda asked: (asked.context, asked.query))),
            slept=tuple(sorted(self.slept, key=lambda slept: slept.context)),
            rows=tuple(sorted(self.rows, key=lambda row: (row.context, row.query))),
        )

    async def sleep(self, index: int) -> None:
        """Sleep on one context."""
        sample = self.samples[index]
        context = await self.subject.add(sample.text, name=f"{sample.family}-{sample.fingerprint[:12]}")
        self.names[index] = context.name
        before = len(await self.subject.calls(context.name))
        slept = Slept(context=index)
        try:
            learned = await self.subject.sleep(context.name, SLEEP)
        except ModelError as error:
            self.failures.append(error)
            slept = replace(slept, error=type(error).__name__)
        else:
            self.learned[index] = learned
            notes = tuple(note.plain for note in learned.shown)
            right = _true_notes(sample)
            slept = replace(slept, notes=notes, notes_correct=sum(note.strip() in right for note in notes))
        self.slept.append(replace(slept, calls=await self._paid(context.name, before)))
        self._step()

    async def _paid(self, name: str, before: int) -> tuple[Usage, ...]:
        """Read from the ledger what a sleep took: all calls of the works at hand since the first *before* calls."""
        calls = await self.subject.calls(name)
        works = {call.work_id for call in calls[before:]}
        return tuple(call.usage for call in calls if call.work_id in works)

    async def ask(self, index: int) -> None:
        """Ask every query of one context in every arm, prompts that share a prefix one after another.

        An arm without notes to show, for its sleep failed, is not asked.
        """
        for number, query in enumerate(self.samples[index].queries):
            self.asked.append(await self._predict(index, number, query))
        for arm, learned in self._shown(index).items():
            for number, query in enumerate(self.samples[index].queries):
                for level in LEVELS if arm in SWEPT else LEVELS[:1]:
                    self.rows.append(await self._answer(index, number, query, arm, level, learned))
        self._step()

    def _shown(self, index: int) -> dict[Arm, LearnedContext | None]:
        """The notes of each arm that can be asked; the placebo's are those of the next context."""
        shown: dict[Arm, LearnedContext | None] = {"no_sleep": None}
        own, other = self.learned.get(index), self.learned.get((index + 1) % len(self.samples))
        if own is not None:
            shown |= {"sleep": own, "learned_only": own, "limited": halved(own)}
        if other is not None and len(self.samples) > 1:
            shown["placebo"] = other
        return shown

    async def _predict(self, index: int, number: int, query: chains.ChainQuery) -> Asked:
        asked = Asked(
            context=index,
            query=number,
            question=query.question,
            target=query.answer,
            kind=query.kind,
            depth=query.depth,
        )
        try:
            log_prob = await self.subject.log_prob(self.names[index], query.question)
        except ModelError:
            return asked
        return replace(asked, log_prob=log_prob.total, log_prob_tokens=log_prob.tokens)

    async def _answer(
        self,
        index: int,
        number: int,
        query: chains.ChainQuery,
        arm: Arm,
        level: str,
        learned: LearnedContext | None,
    ) -> Row:
        row = Row(context=index, query=number, arm=arm, level=level, is_correct=None)
        try:
            answer = await self.subject.ask(
                self.names[index],
                query.question,
                level=Level.parse(level),
                sees=_SEES[arm],
                learned=learned,
                budget=ANSWER,
            )
        except ModelError as error:
            return replace(row, error=type(error).__name__)
        return replace(
            row,
            is_correct=chains.score(answer.text, query.answer),
            output_tokens=answer.usage.output_tokens,
            input_tokens=answer.usage.input_tokens,
            cached_input_tokens=answer.usage.cached_input_tokens,
            text=answer.text,
        )

    def _step(self) -> None:
        self.steps_done += 1
        if self.on_progress is not None:
            self.on_progress(self.steps_done, 2 * len(self.samples))


def _true_notes(sample: chains.Sample) -> set[str]:
    state = chains.FAMILIES[sample.family].state
    return {state(quantity.name, quantity.value) for quantity in sample.quantities}


async def _each(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], concurrency: int) -> None:
    """Do *work* on all items, a few at a time; the first failure stops the rest."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(worker())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
