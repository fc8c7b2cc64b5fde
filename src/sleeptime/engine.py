"""The object users hold: contexts go in, queries are answered, the ledger is kept.

    async with Engine.open(model="openai:gpt-5-mini") as engine:
        context = await engine.add("…", name="invoices")
        await engine.sleep("invoices")
        answer = await engine.ask("invoices", "Who raised prices most?")

The engine gives each worker a model that writes every call to the ledger, and keeps
each round of a sleep, so that a killed one goes on where it was. A sleep is done under a lease,
its calls are set aside under the caps before they are made, and between its rounds it gives way to
queries. After an edit it hands the sleeper the notes that still stand and what changed, not the
whole text. The scheduler tells it what to sleep on; every answer teaches the scheduler. While it is
open it sleeps by itself: a planner looks when triggers say so, and a worker does what was queued. It
decides nothing about prompts, replies or storage.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread
import platformdirs

from sleeptime.agent import Agent
from sleeptime.answerer import Answerer
from sleeptime.core import holding, policy, staleness
from sleeptime.core import ledger as accounts
from sleeptime.core.agency import DEFAULT_STEPS, AgentAnswer, Progress
from sleeptime.core.anticipation import was_anticipated
from sleeptime.core.budget import Budget, Level
from sleeptime.core.caps import Caps, Spending
from sleeptime.core.caps import accounts as capped_accounts
from sleeptime.core.changes import Changes, changes
from sleeptime.core.context import Context, check_text
from sleeptime.core.deciding import Decision
from sleeptime.core.diff import Diff, diff
from sleeptime.core.errors import (
    BudgetError,
    ContextBusyError,
    ContextNotFoundError,
    EmptyContextError,
    InputError,
    ModelNotChosenError,
    NoRepositoryError,
    NoteNotFoundError,
    NothingLearnedError,
    SleeptimeError,
    StoreError,
    VersionNotFoundError,
)
from sleeptime.core.job import Job, Lease
from sleeptime.core.ledger import Call, Ledger, Phase
from sleeptime.core.messages import Completion, LogProb
from sleeptime.core.notes import Draft, LearnedContext, Note
from sleeptime.core.plan import Plan
from sleeptime.core.query import Answer, Query, Sees
from sleeptime.core.saving import Belief
from sleeptime.core.staleness import Edit
from sleeptime.core.triggers import Triggers
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.core.watching import Decided, Lesson, Looked, Watched, began_anew, observed, outcome_of
from sleeptime.jobs import Hold, Worker, held, lease_on
from sleeptime.keeping import Keeper
from sleeptime.models import open_model
from sleeptime.models.metered import Metered
from sleeptime.models.prices import load_cards, price_card
from sleeptime.models.protocol import Model
from sleeptime.models.retrying import Retrying
from sleeptime.models.sharing import FLEX, Courteous, Share
from sleeptime.models.traced import Traced
from sleeptime.planner import Planner
from sleeptime.repositories.checkout import Checkout, open_checkout
from sleeptime.repositories.documentation import documentation
from sleeptime.scheduler import LOOK, Rules, Scheduler
from sleeptime.settings import SETTINGS_FILE, Settings, WorkerSettings, load
from sleeptime.sleeper import Sleeper, begin
from sleeptime.sources import repository
from sleeptime.store import Relayed, Sleep, Store, Summary, open_store
from sleeptime.turns import Turns

DATABASE_FILE = "sleeptime.db"
PRICES_FILE = "prices.toml"
LONGEST_YIELD_S = 30.0
"""A stream of queries without a gap does not keep a sleep from its next round for longer."""
LONGEST_CLOSE_S = 5.0
"""Rounds in flight have so long to end when an engine is closed; then they are broken off. Jobs are handed back."""
MOST_IN_A_RUN = 10_000
"""Looks for what to sleep on in one run; enough to decide on a million contexts that are new."""


def home(environ: Mapping[str, str]) -> Path:
    """Where data lives: `$SLEEPTIME_HOME`, else the platform's data directory."""
    given = environ.get("SLEEPTIME_HOME")
    return Path(given).expanduser() if given else Path(platformdirs.user_data_dir("sleeptime", appauthor=False))


def database_in(environ: Mapping[str, str], given: str | Path | None = None) -> str | Path:
    """Where the database is: as *given*, else `$SLEEPTIME_DATABASE`, else a file in `home()`."""
    return given or environ.get("SLEEPTIME_DATABASE") or home(environ) / DATABASE_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a sleep may cost at most, told before it: all rounds and samples, each as long as its caps allow.

    `input_tokens` of one first round; `is_exact` is False where it is an estimate.
    `cost_usd` is None where no price is known. `tokens_without_sleep` is what one answer without
    notes has taken, None where none was measured: sleep pays if it saves more than it costs.
    """

    context: str
    model: str
    calls: int
    input_tokens: int
    is_exact: bool
    most_input_tokens: int
    most_output_tokens: int
    cost_usd: float | None
    price_card: str | None
    tokens_without_sleep: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted:
    """A sleep that was decided on: what was learned, or the error that stopped it; `outcome` says so in words."""

    decision: Decision
    learned: LearnedContext | None
    outcome: str


class Engine:
    """Contexts, sleeping, answering and the ledger, over one store.

    Made by `Engine.open`. Names of contexts may be their names, ids, or beginnings of ids.
    """

    def __init__(
        self,
        store: Store,
        *,
        model: str | Model | None = None,
        sleep_model: str | Model | None = None,
        cards: Sequence[PriceCard] = (),
        rules: Rules = Rules(),
        settings: Settings = Settings(),
        environ: Mapping[str, str] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.store = store
        self._environ = os.environ if environ is None else environ
        self._test_model = model or self._environ.get("SLEEPTIME_MODEL")
        self._sleep_model = sleep_model or self._environ.get("SLEEPTIME_SLEEP_MODEL") or self._test_model
        self._cards = tuple(cards)
        self.rules = rules
        self._clock_s = clock_s
        self._now = now
        self._opened: dict[str, Model] = {}
        self._opening = anyio.Lock()
        self.settings = settings
        self._turns = Turns()
        self._shares: dict[str, Share] = {}
        self._queries = Counter[str]()
        self._quiet = anyio.Event()
        self._working: Worker | None = None
        self._planning: Planner | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        *,
        database: str | Path | None = None,
        schema: str | None = None,
        model: str | Model | None = None,
        sleep_model: str | Model | None = None,
        prices: Path | None = None,
        rules: Rules | None = None,
        caps: Caps | None = None,
        lease_s: float | None = None,
        triggers: Triggers | None = None,
        worker: bool = True,
        environ: Mapping[str, str] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> AsyncGenerator[Engine]:
        """Open the store, sleep by itself while it is open, and close everything at the end.

        database     a path or URL; else `$SLEEPTIME_DATABASE`, else a file in `home()`
        schema       of a PostgreSQL database, to keep all tables apart from those of others in it
        model        `provider:model` for answers; else `$SLEEPTIME_MODEL`
        sleep_model  the one that sleeps; else `$SLEEPTIME_SLEEP_MODEL`, else the same
        prices       a TOML file of price cards; else `prices.toml` in `home()` if there is one
        rules        how it decides what to sleep on; else as `Rules.read` finds them in *environ*
        caps         what all sleeps may spend together; else `[caps]` of `sleeptime.toml` in `home()`
        lease_s      how long a worker may be silent before it is taken for dead; else `[worker]` there, else 15
        triggers     when it looks for what to sleep on, and where it sleeps then; else `[sleep]` of that file
        worker       decide on sleeps and do them in the background, for as long as the engine is open and where a
                     model is chosen. What that spends is bounded by *rules* and *caps*. False: only what is called
        now          what time it is, for tests

        Closing lets rounds in flight end, for a few seconds, and hands their jobs back. Models are opened when they
        are first needed. Raises StoreError, PriceCardError and SettingsError.
        """
        environ = os.environ if environ is None else environ
        place = home(environ)
        cards_file = prices or place / PRICES_FILE
        cards = load_cards(cards_file) if prices or cards_file.exists() else ()
        rules = rules or Rules.read(environ)
        settings = load(place / SETTINGS_FILE)
        if caps is not None:
            settings = replace(settings, caps=caps)
        if lease_s is not None:
            settings = replace(settings, worker=WorkerSettings(lease_s=lease_s))
        if triggers is not None:
            settings = replace(settings, sleep=triggers)
        store = await open_store(database_in(environ, database), schema=schema)
        engine = cls(
            store,
            model=model,
            sleep_model=sleep_model,
            cards=cards,
            rules=rules,
            settings=settings,
            environ=environ,
            now=now,
        )
        try:
            if worker and engine.sleep_model is not None:
                async with engine.sleeping_by_itself():
                    yield engine
            else:
                yield engine
        finally:
            with anyio.CancelScope(shield=True):
                await engine.aclose()

    @property
    def sleep_model(self) -> str | None:
        """The name of the model that sleeps; None where none is chosen."""
        return _name(self._sleep_model)

    @asynccontextmanager
    async def sleeping_by_itself(self) -> AsyncGenerator[None]:
        """Decide on sleeps and do them in the background while the block runs; `Engine.open` does so."""
        self._working = working = self.worker()
        self._planning = planning = self.planner()
        tasks = [asyncio.create_task(each.run()) for each in (working, planning)]
        try:
            yield
        finally:
            self._working = self._planning = None
            planning.stop()
            working.stop()
            with anyio.CancelScope(shield=True):
                _, late = await asyncio.wait(tasks, timeout=LONGEST_CLOSE_S)
                for task in late:
                    task.cancel()
                await asyncio.wait(tasks)
            for task in tasks:
                if not task.cancelled() and (error := task.exception()) is not None:
                    raise error

    async def aclose(self) -> None:
        """Close the models this engine opened, and the store."""
        for model in self._opened.values():
            await model.aclose()
        self._opened.clear()
        await self.store.aclose()

    async def add(self, text: str, *, name: str, source: str = "", is_observed: bool = False) -> Context:
        """Keep *text* as a context. The same name with the same text gives back the one stored.

        With *is_observed* it is decided on, to forecast what sleeping would save, but never slept on unasked.

        Raises EmptyContextError and NameTakenError.
        """
        if not text.strip():
            raise EmptyContextError(source or f"The text of {name!r}")
        check_text(text)
        check_text(name)
        context = Context(id=_new_id("c"), name=name, text=text, source=source, created_at=self._now())
        kept = await self.store.add_context(context, is_observed=is_observed)
        self._tell_planner(is_change=True)
        return kept

    async def observe(self, name: str, *, is_observed: bool) -> None:
        """Let a context only be observed, or be slept on from now on."""
        context = await self.store.context(name)
        await self.store.watch(context.id, lambda watched: observed(watched, is_observed=is_observed))

    async def keep_relayed(self, relayed: Sequence[Relayed]) -> None:
        """Keep calls that clients made through a proxy; each answer on a context teaches, as one of ours would."""
        scheduler, taught = self._scheduler(self._where), await self.store.taught()

        def taught_by(answer: Answer, is_anticipated: bool | None) -> Callable[[Watched], Lesson]:
            return lambda watched: scheduler.learn(watched, answer, taught, is_anticipated=is_anticipated)

        await self.store.keep_relayed(
            [
                replace(each, teaches=taught_by(each.answer, each.is_anticipated)) if each.answer else each
                for each in relayed
            ]
        )
        self._tell_planner()

    async def update(self, name: str, text: str, *, append: bool = False, source: str | None = None) -> Edit:
        """Give a context another text, or with *append* more of it behind a blank line; say what that touched.

        Versions stay, and their notes that rest on sections that changed or are gone are stale: no answer is
        shown them. The next sleep works on what changed. Raises EmptyContextError.
        """
        if not text.strip():
            raise EmptyContextError(source or f"The text of {name!r}")
        check_text(text)

        def change(before: Context) -> Context:
            new = f"{before.shown}\n\n{text}" if append else text
            return replace(before, text=new, source=before.source if source is None else source)

        context = await self.store.context(name)
        before, after = await self.store.edit_context(context.id, change, self._now())
        self._tell_planner(is_change=True)
        return staleness.edit(before, after, await self.store.learned(context.id))

    async def contexts(self) -> Sequence[Summary]:
        """All contexts, oldest first, without their texts."""
        return await self.store.summaries()

    async def forget(self, name: str) -> Context:
        """Delete a context and all that was learned about it; its ledger rows stay."""
        context = await self.store.context(name)
        await self.store.forget(context.id)
        return context

    async def sleep(
        self,
        name: str,
        plan: Plan = Plan(),
        *,
        again: bool = False,
        on_draft: Callable[[Draft], None] | None = None,
    ) -> LearnedContext:
        """Sleep on a context and publish what was learned as its next version.

        Where the text was edited since a version under the same plan, the sleep begins with the notes that still
        stand and works on what changed. Where nothing changed, nothing is spent: the newest version is given
        back with stop_reason "unchanged" and no usage. With *again* the whole text is thought about anew.

        An unfinished sleep under the same plan on the same text is gone on with, whatever its caps were: its
        rounds are not paid for again. One on an earlier text is published as far as it got, and kept from like
        any version. If this one is stopped by an error or a cancellation, the rounds it finished
        are published with stop_reason "interrupted", and can be gone on with.
        A first sleep that learned nothing publishes nothing: its version is 0.
        *on_draft* is given the draft after every model call.

        Raises ContextTooLongError and BudgetError before any token is spent, ContextBusyError where another process
        sleeps on the context, ModelError and StoreError.
        """
        context = await self.store.context(name)
        async with held(self.store, await self._lease_on(context)) as hold:
            with self._turns.behind():
                return await self._sleep(context.id, plan, hold, again=again, on_draft=on_draft)

    async def _lease_on(self, context: Context) -> Lease:
        """Take the lease of a context, behind the sleep that this engine itself may be doing on it."""
        while True:
            if self._working is not None:
                await self._working.let_finish(context.id)
            try:
                return await lease_on(self.store, context.id, context.name, seconds=self.settings.worker.lease_s)
            except ContextBusyError:
                if self._working is None or not await self._working.let_finish(context.id):
                    raise

    async def enqueue(self, name: str, plan: Plan = Plan(), *, again: bool = False) -> Job:
        """Leave a sleep to a worker: this engine's own, or that of another process.

        The same sleep is queued once: where it waits or is being done, that job is given back.
        """
        context = await self.store.context(name)
        job = Job(id=_new_id("j"), context_id=context.id, plan=plan, again=again, queued_at=self._now())
        queued = await self.store.enqueue(job)
        self._wake_worker()
        return queued

    async def jobs(self) -> Sequence[Job]:
        """All jobs, oldest first, the finished ones too."""
        return await self.store.jobs()

    async def pause(self, job_id: str) -> Job:
        """Let a job wait until it is resumed; one that runs stops after the round in flight, which is kept."""
        return await self.store.change_job(job_id, "paused", only=("queued", "running"))

    async def resume(self, job_id: str) -> Job:
        """Queue a paused or failed job again; it goes on where it was."""
        resumed = await self.store.change_job(job_id, "queued", only=("paused", "failed"))
        self._wake_worker()
        return resumed

    async def cancel(self, job_id: str) -> Job:
        """Give a job up; one that runs stops after the round in flight. A sleep under the same plan can go on."""
        return await self.store.change_job(job_id, "cancelled", only=("queued", "running", "paused"))

    def worker(self, *, concurrency: int = 4, tell: Callable[[str], None] = lambda _line: None) -> Worker:
        """Make a worker that does queued jobs with this engine's models: `await engine.worker().run()`."""

        async def sleep(job: Job, hold: Hold) -> LearnedContext:
            with self._turns.behind():
                return await self._sleep(job.context_id, job.plan, hold, again=job.again)

        return Worker(
            store=self.store,
            sleep=sleep,
            lease_s=self.settings.worker.lease_s,
            concurrency=concurrency,
            tell=tell,
        )

    def planner(self, *, tell: Callable[[str], None] = lambda _line: None) -> Planner:
        """Make what looks when triggers say so, and queues what it decides: `await engine.planner().run()`."""
        return Planner(
            triggers=self.settings.sleep,
            look=self.look,
            sweep=self.store.sweep,
            now=self._now,
            tell=tell,
            on_queued=self._wake_worker,
        )

    async def look(self) -> Sequence[Looked]:
        """Decide on some of what triggers want looked at now, and queue what is decided; nothing where nothing is due.

        A sleep is capped at the price it was decided at, and counts at it in the guard and the caps until it is over,
        so that no number of processes promises the same room twice.
        """
        scheduler = self._scheduler(self.settings.sleep.where)
        return await scheduler.look(self.settings.sleep, job_id=lambda: _new_id("j"))

    async def queue_where_it_pays(self, budget: Budget = Budget()) -> Sequence[Looked]:
        """Leave to workers what should be slept on now, whatever the triggers say; each sleep within *budget* too."""
        scheduler = self._scheduler("pays")
        queued: list[Looked] = []
        for _ in range(MOST_IN_A_RUN):
            looked = await scheduler.look(
                self.settings.sleep, job_id=lambda: _new_id("j"), is_asked=True, budget=budget
            )
            fresh = [each for each in looked if each.job is not None]
            queued += fresh
            if not fresh and not await scheduler.is_behind():
                break
        self._wake_worker()
        return queued

    def _wake_worker(self) -> None:
        if self._working is not None:
            self._working.wake()

    def _tell_planner(self, *, is_change: bool = False) -> None:
        """Something happened that a trigger other than idleness may have waited for."""
        triggers = self.settings.sleep
        if self._planning is not None and (triggers.on_change if is_change else triggers.every_queries):
            self._planning.wake()

    async def _sleep(
        self,
        name: str,
        plan: Plan,
        hold: Hold,
        *,
        again: bool,
        on_draft: Callable[[Draft], None] | None = None,
    ) -> LearnedContext:
        """Sleep under a lease that is held; its job, if it is for one, ends together with the sleep."""
        job_id = hold.lease.job_id
        context = await self.store.context(name)
        model = await self._model(self._sleep_model)
        price = self.price_card(model.name)
        self._check_money(plan.budget, model, price, self.settings.caps)
        sleeper = Sleeper(model, price, self._clock_s, self._now)
        if plan.strategy == "explore":
            checkout = await anyio.to_thread.run_sync(checkout_of, context)
            documented = await anyio.to_thread.run_sync(documentation, checkout)
            sleeper = replace(sleeper, checkout=checkout, documented=documented)
        await self._clear_away(context, sleeper, plan, again=again)
        newest = await self.store.learned(context.id)
        begun = await self.store.unfinished(context.id, sleeper.identity(plan))
        if not begun and not again and newest and _is_unchanged(context, sleeper, plan, newest):
            return replace(newest, stop_reasons=("unchanged",), usage=Usage(), cost_usd=0.0, rounds=0, failed_rounds=0)
        changed = None if again else _changes(context, sleeper, plan, newest)
        sleep = await self.store.begin_sleep(
            Sleep(
                id=_new_id("s"),
                context_id=context.id,
                plan=sleeper.identity(plan),
                drafts=tuple(
                    draft
                    for draft in (begin(changed, sample, context, newest) for sample in range(plan.samples))
                    if draft.notes
                ),
                context_fingerprint=context.fingerprint,
                sections=context.fingerprints,
                based_on=changed.base.version if changed else None,
            )
        )
        base = None if sleep.based_on is None else await self.store.learned(context.id, sleep.based_on)
        changed = changes(context, base) if base else None
        keeper = Keeper(
            store=self.store,
            lease=hold.lease,
            sleep_id=sleep.id,
            model=model.name,
            price=price,
            caps=self.settings.caps,
            now=self._now,
            give_way=lambda: self._give_way(model.name),
        )
        metered = self._metered(
            model,
            Phase.SLEEP,
            price,
            context_id=context.id,
            work_id=sleep.id,
            is_capped=_has_caps(plan.budget),
            keeper=keeper,
            wants_flex=self._wants_flex(plan, price),
        )
        sleeper = replace(sleeper, model=metered)
        drafts = {draft.sample: draft for draft in sleep.drafts}

        async def keep(draft: Draft, completion: Completion) -> None:
            await keeper.keep(draft, completion)
            drafts[draft.sample] = draft
            if on_draft is not None:
                on_draft(draft)
            hold.check()

        try:
            async with aclosing(keeper):
                learned = await sleeper.sleep(context, plan, drafts=sleep.drafts, changes=changed, on_draft=keep)
        except StoreError:
            raise
        except BaseException:
            if hold.is_lost:
                raise
            # Cancelled or failed: what this run's finished rounds learned is published before the error goes on.
            with anyio.CancelScope(shield=True):
                kept = [drafts[sample] for sample in sorted(drafts)]
                if all(draft.usage == Usage() for draft in kept):
                    await self.store.end_sleep(sleep.id)
                elif kept != list(sleep.drafts) and any(draft.notes for draft in kept):
                    partial = sleeper.joined(context, plan, kept, ["interrupted"], base)
                    await self.store.publish(partial, sleep_id=None, beside=holding.beside(context))
            raise
        if not learned.notes and changed is None:
            await self.store.end_sleep(sleep.id, job_id=job_id, outcome=outcome_of(learned))
            return learned
        return await self.store.publish(learned, sleep_id=sleep.id, job_id=job_id, beside=holding.beside(context))

    @contextmanager
    def _foreground(self, model_name: str) -> Generator[None]:
        """A query is in flight: sleeps with the same model give way."""
        self._queries[model_name] += 1
        try:
            yield
        finally:
            self._queries[model_name] -= 1
            if not self._queries[model_name]:
                self._quiet.set()
                self._quiet = anyio.Event()

    async def _give_way(self, model_name: str) -> None:
        """Wait until no query is in flight, but not for ever."""
        with anyio.move_on_after(LONGEST_YIELD_S):
            while self._queries[model_name]:
                await self._quiet.wait()

    def _wants_flex(self, plan: Plan, price: PriceCard | None) -> bool:
        tier = plan.tier or self.settings.provider.tier
        is_offered = price is not None and any(card.tier == FLEX for card in price.tiers)
        return tier == FLEX or (tier == "auto" and is_offered)

    async def _clear_away(self, context: Context, sleeper: Sleeper, plan: Plan, *, again: bool) -> None:
        """End unfinished sleeps that are not to be gone on with; what their rounds learned becomes a version.

        These are on an earlier text, or began with notes that a rollback took back or *again* does not want.
        """
        for sleep in await self.store.unfinished(context.id, sleeper.identity(plan)):
            newest = await self.store.learned(context.id)
            base = None if sleep.based_on is None else await self.store.learned(context.id, sleep.based_on)
            is_taken_back = bool(base and newest and newest.rolled_back_from and newest.version > base.version)
            is_wanted = sleep.context_fingerprint == context.fingerprint and not (base and again)
            if is_wanted and not is_taken_back:
                continue
            paid = [draft for draft in sleep.drafts if draft.usage != Usage()]
            if is_taken_back or not any(draft.notes for draft in paid):
                await self.store.end_sleep(sleep.id)
                continue
            left = sleeper.joined(context, plan, paid, ["interrupted"], base)
            left = replace(left, context_fingerprint=sleep.context_fingerprint, sections=sleep.sections)
            if newest and (newest.notes, newest.sections) == (left.notes, left.sections):
                await self.store.end_sleep(sleep.id)  # it was published when it was interrupted
            else:
                await self.store.publish(left, sleep_id=sleep.id, beside=holding.beside(context))

    async def diff(self, name: str, before: int | None = None, after: int | None = None) -> Diff:
        """Compare two versions; by default the newest with the one before it.

        Raises VersionNotFoundError, and NothingLearnedError where there are none.
        """
        context = await self.store.context(name)
        versions = await self.store.versions(context.id)
        if not versions:
            raise NothingLearnedError(context.name)
        later = versions[-1].version if after is None else after
        earlier = max(1, later - 1) if before is None else before
        for version in (earlier, later):
            if not any(version == each.version for each in versions):
                raise VersionNotFoundError(context.name, version)
        return diff(versions, earlier, later, context)

    async def rollback(self, name: str, version: int) -> LearnedContext:
        """Publish an older version anew as the next one. Its stale notes stay hidden; a rollback has no usage.

        Raises VersionNotFoundError, and InputError where it is the newest.
        """
        context = await self.store.context(name)
        old, newest = await self.store.learned(context.id, version), await self.store.learned(context.id)
        if old is None or newest is None:
            raise VersionNotFoundError(context.name, version)
        if old.version == newest.version:
            raise InputError(f"Version {version} is the newest of {context.name!r} already; nothing was changed.")
        anew = replace(
            old,
            version=0,
            created_at=self._now(),
            usage=Usage(),
            cost_usd=0.0,
            rolled_back_from=old.version,
            by_hand=None,
        )
        return await self.store.publish(anew, sleep_id=None, beside=holding.beside(context))

    async def pin(self, name: str, note_id: str) -> LearnedContext:
        """Keep a note through every sleep to come: none changes, drops or cuts it. Publishes a version that says so.

        One whose evidence goes stale is quarantined by the next sleep, until it is released.
        Raises NothingLearnedError and NoteNotFoundError.
        """
        return await self._mark(name, note_id, "pinned", lambda note: replace(note, is_pinned=True))

    async def unpin(self, name: str, note_id: str) -> LearnedContext:
        """Undo `pin`."""
        return await self._mark(name, note_id, "no longer pinned", lambda note: replace(note, is_pinned=False))

    async def quarantine(self, name: str, note_id: str) -> LearnedContext:
        """Show a note to no answer and no sleep, and let no sleep write it again. Publishes a version that says so.

        Raises NothingLearnedError and NoteNotFoundError.
        """
        return await self._mark(name, note_id, "quarantined", lambda note: replace(note, status="quarantined"))

    async def release(self, name: str, note_id: str) -> LearnedContext:
        """Undo `quarantine`: the note is unverified again."""

        def released(note: Note) -> Note:
            return replace(note, status="unverified") if note.status == "quarantined" else note

        return await self._mark(name, note_id, "released", released)

    async def _mark(self, name: str, note_id: str, words: str, change: Callable[[Note], Note]) -> LearnedContext:
        """Publish the newest version with one note changed by hand, unless it is so already."""
        context = await self.store.context(name)
        newest = await self.store.learned(context.id)
        old = next((note for note in newest.notes if note.id == note_id), None) if newest else None
        if newest is not None and old is not None and change(old) == old:
            return newest

        def by_hand(newest: LearnedContext) -> LearnedContext:
            if not any(note.id == note_id for note in newest.notes):
                raise NoteNotFoundError(context.name, note_id)
            return replace(
                newest,
                notes=tuple(change(note) if note.id == note_id else note for note in newest.notes),
                created_at=self._now(),
                usage=Usage(),
                cost_usd=0.0,
                based_on=newest.version,
                rolled_back_from=None,
                by_hand=f"{note_id} {words}",
            )

        published = await self.store.amend(context.id, by_hand)
        if published is None:
            raise NothingLearnedError(context.name)
        return published

    async def forecast(self, name: str, plan: Plan = Plan(), *, again: bool = False) -> Forecast:
        """Say what `sleep` may cost at most, without spending anything: nothing where nothing changed.

        Raises ContextTooLongError.
        """
        context = await self.store.context(name)
        model = await self._model(self._sleep_model)
        price = self.price_card(model.name)
        sleeper = Sleeper(model, price, self._clock_s, self._now)
        newest = None if again else await self.store.learned(context.id)
        changed = _changes(context, sleeper, plan, newest)
        draft = begin(changed, 0, context, newest)
        room = await sleeper.room(context, plan, draft, changed)
        messages = sleeper.messages(context, plan, draft, changed)
        count = await model.count_tokens(messages, tools=sleeper.tools(plan, draft))
        calls = plan.budget.max_rounds * plan.samples * policy.ROUND_ATTEMPTS * policy.calls_of_round(plan.strategy)
        if (changed and not changed.text) or (newest and _is_unchanged(context, sleeper, plan, newest)):
            calls = 0
        most_output = calls * room
        if plan.budget.max_output_tokens is not None:
            most_output = min(most_output, plan.budget.max_output_tokens)
        most_input = calls * (count.tokens + plan.max_characters + policy.most_looked(plan.strategy))
        cost = price.cost_usd(Usage(input_tokens=most_input, output_tokens=most_output)) if price else None
        if cost is not None and plan.budget.max_cost_usd is not None:
            cost = min(cost, plan.budget.max_cost_usd)
        account = (await self.ledger()).account(context.id)
        return Forecast(
            context=context.name,
            model=model.name,
            calls=calls,
            input_tokens=count.tokens,
            is_exact=count.exact,
            most_input_tokens=most_input,
            most_output_tokens=most_output,
            cost_usd=cost,
            price_card=price.name if price else None,
            tokens_without_sleep=account.tokens.without_sleep if account else None,
        )

    async def ask(
        self,
        name: str,
        question: str,
        *,
        level: Level = Level(kind="verbosity", amount=3),
        sees: Sees | None = None,
        version: int | None = None,
        learned: LearnedContext | None = None,
        budget: Budget = Budget(),
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """Answer *question* about a context.

        sees     what the model is shown; by default the context, and what was learned if anything was
        version  which version of what was learned; the newest by default
        learned  shown in place of the stored versions (another context's notes make a placebo)

        Stale notes are never shown. Raises NothingLearnedError where `sees` or `version` asks for notes and
        there are none, or all are stale.
        """
        with self._turns.ahead():
            return await self._answer(
                name, question, level=level, sees=sees, version=version, learned=learned, budget=budget, on_text=on_text
            )

    async def _answer(
        self,
        name: str,
        question: str,
        *,
        level: Level,
        sees: Sees | None,
        version: int | None,
        learned: LearnedContext | None,
        budget: Budget,
        on_text: Callable[[str], None] | None,
    ) -> Answer:
        if sees == "context" and version is not None:
            raise InputError(
                f"An answer that sees the context alone shows no version; drop the {version}, or see more."
            )
        check_text(question)
        context = await self.store.context(name)
        is_own = learned is None
        if learned is None and sees != "context":
            learned = await self.store.learned(context.id, version)
            if learned is None and version is not None:
                raise VersionNotFoundError(context.name, version)
        is_stale = False
        if learned is not None and not staleness.shown(learned, context):
            is_stale, learned = bool(learned.shown), None
        if learned is None and (sees in ("learned", "context+learned") or (is_stale and version is not None)):
            raise NothingLearnedError(context.name, is_stale=is_stale)
        query = Query(question=question, level=level, sees=sees or ("context+learned" if learned else "context"))
        model = await self._model(self._test_model)
        price = self.price_card(model.name)
        self._check_money(budget, model, price)
        work_id = _new_id("q")
        metered = self._metered(
            model,
            Phase.TEST,
            price,
            context_id=context.id,
            work_id=work_id,
            version=learned.version if learned and query.sees != "context" else None,
            sees=query.sees,
            level=str(level),
            is_capped=_has_caps(budget),
        )
        with self._foreground(model.name):
            answer = await Answerer(metered, price, self._clock_s).answer(
                query, context, learned, budget=budget, on_text=on_text
            )
        scheduler = self._scheduler(self._where)
        taught = await self.store.taught(str(level))
        notes = staleness.shown(learned, context) if learned else None

        def teaches(watched: Watched) -> Lesson:
            is_anticipated = None if notes is None else was_anticipated(question, notes)
            return scheduler.learn(watched, answer, taught, is_anticipated=is_anticipated)

        await self.store.keep_answer(context.id, work_id, answer, self._now(), teaches=teaches if is_own else None)
        self._tell_planner()
        return answer

    async def solve(
        self,
        name: str,
        task: str,
        *,
        steps: int = DEFAULT_STEPS,
        with_notes: bool | None = None,
        budget: Budget = Budget(),
        on_step: Callable[[Progress], None] | None = None,
    ) -> AgentAnswer:
        """Change the repository that a context was made of, and give the patch; the repository itself is not touched.

        steps       model calls, at most; after each the model is shown how many it has used
        with_notes  show it what was learned about the repository; by default if anything was

        Each step is a row of the ledger. A model that fails is an outcome, with what was changed until then.
        Raises NothingLearnedError where notes are asked for and there are none, BudgetError, and InputError for a
        context that is of no repository or folder.
        """
        check_text(task)
        context = await self.store.context(name)
        learned = None if with_notes is False else await self.store.learned(context.id)
        notes = staleness.shown(learned, context) if learned else ()
        if with_notes and not notes:
            raise NothingLearnedError(context.name, is_stale=bool(learned and learned.shown))
        version = learned.version if learned and notes else None
        checkout = await anyio.to_thread.run_sync(checkout_of, context)
        model = await self._model(self._test_model)
        price = self.price_card(model.name)
        self._check_money(budget, model, price)
        metered = self._metered(
            model,
            Phase.TEST,
            price,
            context_id=context.id,
            work_id=_new_id("q"),
            version=version,
            sees="learned" if notes else "context",
            level=f"steps:{steps}",
            is_capped=_has_caps(budget),
        )
        agent = Agent(metered, price, self._clock_s)
        with self._foreground(model.name):
            return await agent.solve(
                task,
                checkout,
                steps=steps,
                known=agent.known(notes),
                version=version,
                budget=budget,
                on_step=on_step,
            )

    async def decide(self, name: str) -> Decision | None:
        """Decide on a context as it is now, under guard and caps; None where all of it has notes. Spends nothing."""
        return await self._scheduler(self._where).decide((await self.store.context(name)).id)

    async def decisions(self, limit: int = LOOK) -> Sequence[Decision]:
        """The contexts that should be slept on now, highest expected net saving per token first.

        Those that the guard or a cap holds back stand in their place, with that reason.
        """
        return await self._scheduler("pays").decisions(limit)

    async def considered(self, watched: Sequence[Watched]) -> Sequence[Decision | None]:
        """What would be decided on each now, before the guard; None where all of it has notes. Spends nothing."""
        scheduler, taught = self._scheduler(self._where), await self.store.taught()
        return [scheduler.decision(each, taught) if each.parts else None for each in watched]

    async def without_notes(self, name: str) -> tuple[Belief, str]:
        """What an answer without notes is believed to take here, in dollars or else in output tokens, and which."""
        watched = await self.store.watched((await self.store.context(name)).id)
        scheduler = self._scheduler(self._where)
        return scheduler.without_notes(watched, await self.store.taught(watched.level)), scheduler.tariff.unit

    async def why(self, name: str, *, limit: int = 20) -> Sequence[Decided]:
        """The last decisions on a context and what came of them, newest first: each where the reason became another."""
        return await self.store.decisions((await self.store.context(name)).id, limit=limit)

    async def sleep_where_it_pays(
        self,
        plan: Plan = Plan(),
        *,
        limit: int | None = None,
        on_decision: Callable[[Decision], None] | None = None,
        on_acted: Callable[[Acted], None] | None = None,
    ) -> Sequence[Acted]:
        """Sleep on one context after another, the best first, until none pays or a cap is reached.

        The caps of *plan* hold for all together; each sleep is capped at the price it was decided at as well, and
        ends where another round is not expected to pay. The samples of *plan* are the most that one may take.
        *limit* is how many to sleep on at most. A sleep that fails is told as its outcome, and the next one is begun.
        """
        acted: list[Acted] = []
        tried: set[str] = set()
        budget: Budget | None = plan.budget
        scheduler = self._scheduler("pays")
        for _ in range(MOST_IN_A_RUN):
            if budget is None or (limit is not None and len(acted) >= limit):
                break
            wanted = await scheduler.decisions(LOOK + len(tried))
            best = next((each for each in wanted if each.is_sleep and each.prospect.name not in tried), None)
            if best is None and await scheduler.is_behind():
                continue
            if best is None:
                break
            tried.add(best.prospect.name)
            if on_decision is not None:
                on_decision(best)
            newest = await self.store.learned((await self.store.context(best.prospect.name)).id)
            done = await self._act(best, await scheduler.plan(best, replace(plan, budget=budget), newest))
            acted.append(done)
            if on_acted is not None:
                on_acted(done)
            if done.learned is not None:
                budget = budget.less(done.learned.usage, done.learned.cost_usd)
        return acted

    async def _act(self, decision: Decision, plan: Plan) -> Acted:
        """Sleep as was decided, and keep the decision with what came of it."""
        context_id = (await self.store.context(decision.prospect.name)).id
        learned = None
        try:
            learned = await self.sleep(context_id, plan)
        except StoreError:
            raise
        except SleeptimeError as error:
            outcome = f"failed: {error}"
        else:
            outcome = outcome_of(learned)
        if learned is None or not learned.version:
            await self.store.watch(context_id, began_anew)
        watched = await self.store.watched(context_id)
        await self.store.keep_decisions(
            [(watched, Decided.of(decision, context_id, self._now(), outcome=outcome, trigger="manual"))]
        )
        return Acted(decision=decision, learned=learned, outcome=outcome)

    async def log_prob(self, name: str, question: str) -> LogProb:
        """Log P(question | context), natural log, under the model that answers. Its calls are rows of phase "score".

        Raises NotSupportedError where that model gives no log-probabilities.
        """
        context = await self.store.context(name)
        model = await self._model(self._test_model)
        price = self.price_card(model.name)
        metered = self._metered(model, Phase.SCORE, price, context_id=context.id, work_id=_new_id("p"))
        return await Answerer(metered, price, self._clock_s).log_prob(
            Query(question=question, sees="context"), context, None
        )

    async def ledger(self, *, test_price: float = accounts.DEFAULT_TEST_TOKEN_PRICE) -> Ledger:
        """Add up all calls by context. *test_price* is t, the price of a test-time token in sleep tokens."""
        await self.store.reap()
        names = {summary.id: summary.name for summary in await self.store.summaries()}
        return accounts.ledger(await self.store.totals(), names, test_price=test_price)

    async def context_id(self, name: str) -> str:
        """The id of a context; a full id is taken as it is, so that forgotten ones can be looked up in the ledger."""
        try:
            return (await self.store.context(name)).id
        except ContextNotFoundError:
            if any(row.context_id == name for row in await self.store.totals()):
                return name
            raise

    async def calls(
        self, name: str | None = None, *, limit: int | None = None, before: str | None = None
    ) -> Sequence[Call]:
        """Rows of the ledger, oldest first, of one context if *name* is given; with *limit* the newest that many.

        *before* is the id of a row: only rows older than it.
        """
        await self.store.reap()
        context_id = await self.context_id(name) if name else None
        return await self.store.calls(context_id=context_id, limit=limit, before=before)

    async def capped(self) -> Mapping[str, Spending]:
        """What was spent today and this month on sleep, of what the caps allow; see `settings.caps`."""
        _, day, month = capped_accounts("", self._now())
        spent = await self.store.spending([day, month])
        return {"day": spent.get(day, Spending()), "month": spent.get(month, Spending())}

    def price_card(self, model_name: str) -> PriceCard | None:
        """Find what a model's tokens cost today: a card of the user's, else a published price, else None."""
        return price_card(model_name, cards=self._cards, today=self._now().date())

    @property
    def _where(self) -> str:
        """Where it sleeps by itself."""
        return self.settings.sleep.where if self.settings.sleep.is_auto else "pays"

    def _scheduler(self, where: str) -> Scheduler:
        """What decides, at today's prices. No model is opened for it: a name is enough to find its price."""
        models = (self._sleep_model, self._test_model or self._sleep_model)
        sleep, test = (self.price_card(name) if name else None for name in map(_name, models))
        return Scheduler(self.store, self.rules, sleep, test, self._now, self.settings.caps, where)

    async def _model(self, wanted: str | Model | None) -> Model:
        if wanted is None:
            raise ModelNotChosenError
        if not isinstance(wanted, str):
            return wanted
        async with self._opening:
            if wanted not in self._opened:
                share = Share(clock_s=self._clock_s)
                model = await open_model(wanted, environ=self._environ, on_headers=share.heard)
                self._opened[wanted], self._shares[model.name] = model, share
            return self._opened[wanted]

    def _check_money(self, budget: Budget, model: Model, price: PriceCard | None, caps: Caps = Caps()) -> None:
        if (budget.max_cost_usd is not None or caps.has_money) and price is None:
            raise BudgetError(
                f"A money cap needs a price, and none is known for {model.name}. "
                f"Add a card to {home(self._environ) / PRICES_FILE}, or cap tokens with --max-tokens."
            )

    def _metered(
        self,
        model: Model,
        phase: Phase,
        price: PriceCard | None,
        *,
        context_id: str,
        work_id: str,
        version: int | None = None,
        sees: Sees | None = None,
        level: str | None = None,
        is_capped: bool = False,
        keeper: Keeper | None = None,
        wants_flex: bool = False,
    ) -> Model:
        metered = Metered(
            Traced(model, phase=phase),
            record=keeper.record if keeper else self.store.record,
            set_aside=keeper.set_aside if keeper else None,
            on_send=keeper.send if keeper else None,
            phase=phase,
            price=price,
            clock_s=self._clock_s,
            now=self._now,
            context_id=context_id,
            work_id=work_id,
            version=version,
            sees=sees,
            level=level,
        )
        courteous = Courteous(
            metered,
            self._shares.setdefault(model.name, Share(clock_s=self._clock_s)),
            share=self.settings.provider.share if phase is Phase.SLEEP else None,
            wants_flex=wants_flex,
        )
        # A call that broke off may have been billed: under a cap it is not repeated.
        return Retrying(courteous, repeats_sent=not is_capped)


def checkout_of(context: Context) -> Checkout:
    """Open what a context was made of: a repository at its commit, or a folder. Raises NoRepositoryError for a text."""
    place, commit = repository(context.source) or (context.source, "HEAD")
    if not place or not Path(place).is_dir():
        where = f"{place} is no folder" if place else "it came from no folder"
        raise NoRepositoryError(context.name, where)
    return open_checkout(place, commit)


def _is_unchanged(context: Context, sleeper: Sleeper, plan: Plan, newest: LearnedContext) -> bool:
    """Whether a sleep under *plan* came to its end on this very text."""
    is_over = newest.stop_reason in ("finished", "settled") and newest.plan == sleeper.identity(plan)
    return is_over and newest.sections == context.fingerprints


def _changes(context: Context, sleeper: Sleeper, plan: Plan, newest: LearnedContext | None) -> Changes | None:
    """What a sleep under *plan* may begin with: None where it has to think about the whole text anew."""
    if newest is None or newest.sections == context.fingerprints or not sleeper.can_keep_notes(plan):
        return None
    known = (newest.strategy, newest.model, newest.samples)  # of versions whose plan was not kept
    is_same = known == (plan.strategy, sleeper.model.name, plan.samples)
    if newest.plan != sleeper.identity(plan) and (newest.plan is not None or not is_same):
        return None
    changed = changes(context, newest)
    return changed if changed.kept else None


def _name(wanted: str | Model | None) -> str | None:
    return wanted if wanted is None or isinstance(wanted, str) else wanted.name


def _has_caps(budget: Budget) -> bool:
    return budget.max_output_tokens is not None or budget.max_cost_usd is not None


def _new_id(kind: str) -> str:
    return f"{kind}{uuid.uuid4().hex[:12]}"
