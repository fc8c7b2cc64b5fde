"""The seam to storage: what the engine asks of a database, and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sleeptime.core.caps import Caps, Reservation, Spending
from sleeptime.core.context import Context
from sleeptime.core.forecasting import Prior, Seen
from sleeptime.core.job import Job, JobState, Lease
from sleeptime.core.keys import ApiKey
from sleeptime.core.ledger import Call, Totals
from sleeptime.core.notes import Draft, LearnedContext
from sleeptime.core.query import Answer
from sleeptime.core.saved import Compared
from sleeptime.core.shown import (
    Asked,
    Counts,
    Filter,
    Listed,
    News,
    Queued,
    Row,
    Sort,
    Spent,
    Taken,
    Told,
    UnderWay,
)
from sleeptime.core.triggers import Triggers
from sleeptime.core.watching import Decided, Lesson, Looked, Standing, Taught, Watched


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One line of `sleeptime list`: a context without its text. Lengths in characters.

    `is_edited`: the newest version was learned from another text than this. `decision` is the reason of the last one.
    """

    id: str
    name: str
    characters: int
    created_at: datetime
    versions: int
    notes: int
    slept_at: datetime | None
    is_edited: bool = False
    decision: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """A sleep in progress, kept after each round so that a killed one can go on.

    `plan` is the sleep's settings as JSON text; a sleep resumes only under the same plan and on the same text:
    `context_fingerprint`, whose sections have the fingerprints `sections`. `based_on` is the version it began with.
    """

    id: str
    context_id: str
    plan: str
    drafts: tuple[Draft, ...]
    context_fingerprint: str = ""
    sections: tuple[str, ...] = ()
    based_on: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Relayed:
    """A call that a client made through us: its row, its answer on a context, and what that teaches.

    `is_anticipated` says whether a note it was shown had asked the same; None where it was shown none.
    """

    call: Call
    answer: Answer | None = None
    is_anticipated: bool | None = None
    teaches: Callable[[Watched], Lesson] | None = None


class Store(Protocol):
    """Contexts, versions of what was learned, answers, and the ledger.

    Every method is one transaction. Methods may raise StoreError.
    """

    @property
    def url(self) -> str:
        """Where the data is, without credentials."""
        ...

    async def is_current(self) -> bool:
        """Whether the schema is the one this program knows."""
        ...

    async def add_context(self, context: Context, *, is_observed: bool = False) -> Context:
        """Keep *context*, to be slept on or only observed. The same name with the same text is the one already stored.

        Raises NameTakenError where the name stands for another text.
        """
        ...

    async def edit_context(
        self, context_id: str, change: Callable[[Context], Context], at: datetime
    ) -> tuple[Context, Context]:
        """Give a context the text and source that *change* makes of it; say how it was before and is now.

        Of several at once each sees what the others made. Versions and unfinished sleeps stay as they are.
        Raises ContextNotFoundError, and whatever *change* raises; then nothing was changed.
        """
        ...

    async def context(self, name: str) -> Context:
        """Find a context by name, by id, or by an unambiguous beginning of its id (4 characters or more).

        Raises ContextNotFoundError.
        """
        ...

    async def summaries(self) -> Sequence[Summary]:
        """All contexts, oldest first."""
        ...

    async def forget(self, context_id: str) -> None:
        """Delete a context with its versions, drafts and answers. Ledger rows stay: what was spent was spent."""
        ...

    async def publish(
        self,
        learned: LearnedContext,
        *,
        sleep_id: str | None,
        job_id: str | None = None,
        beside: Callable[[LearnedContext | None, LearnedContext], LearnedContext] | None = None,
    ) -> LearnedContext:
        """Keep *learned* as the next version, end its sleep and its job, in one transaction. Versions never change.

        With None no sleep ends. A sleep ends in one version: published again, it gives back that one.
        *beside* makes of it what it should be beside the newest version at that moment.
        """
        ...

    async def amend(self, context_id: str, change: Callable[[LearnedContext], LearnedContext]) -> LearnedContext | None:
        """Publish what *change* makes of the newest version as the next one; None where there is none.

        Of several at once each sees what the others made. Raises whatever *change* raises; then nothing was changed.
        """
        ...

    async def learned(self, context_id: str, version: int | None = None) -> LearnedContext | None:
        """A version of what was learned, the newest by default; None if there is none."""
        ...

    async def versions(self, context_id: str) -> Sequence[LearnedContext]:
        """All versions, oldest first."""
        ...

    async def begin_sleep(self, sleep: Sleep) -> Sleep:
        """Begin a sleep, or give back the unfinished one of the same context, text and plan."""
        ...

    async def unfinished(self, context_id: str, plan: str) -> Sequence[Sleep]:
        """All unfinished sleeps of a context under one plan, on whatever text."""
        ...

    async def checkpoint(self, sleep_id: str, draft: Draft, call: Call | None = None) -> None:
        """Keep one sample's draft, and settle the call that it was made of, in one transaction.

        Raises LeaseLostError where the call was given up for lost, and StoreError where the sleep is over or the
        draft does not go on from the one kept: then another process sleeps on the same context. Neither is kept then.
        """
        ...

    async def end_sleep(self, sleep_id: str, *, job_id: str | None = None, outcome: str = "") -> None:
        """Drop an unfinished sleep that learned nothing, and end its job with this *outcome*."""
        ...

    async def take_lease(self, lease: Lease) -> bool:
        """Take the right to sleep on a context, if nobody has it; one that ran out is taken from its holder."""
        ...

    async def lease_expiry(self, context_id: str) -> datetime | None:
        """When the lease of a context runs out unless its holder is heard of; None where nobody has it."""
        ...

    async def heartbeat(self, lease: Lease) -> bool:
        """Keep a lease; say whether its job is still wanted. Raises LeaseLostError where another has it."""
        ...

    async def end_lease(self, lease: Lease) -> None:
        """Give a lease back. Calls under it that went out and were not settled become rows with the outcome "lost".

        What was set aside for a call that never went out is free again, as if it had not been asked for.
        """
        ...

    async def reap(self) -> int:
        """End the leases that ran out, like `end_lease`; say how many."""
        ...

    async def reserve(self, asked: Reservation, caps: Caps) -> Reservation | None:
        """Set the most a call may take aside, as far as *caps* leave it; 0 output tokens where one is reached.

        None where calls under way hold what is left: ask again. Raises LeaseLostError.
        """
        ...

    async def mark_sent(self, call_id: str) -> bool:
        """Note that a call which was set aside goes out now; False where it must not: its lease was lost."""
        ...

    async def settle(self, call: Call) -> None:
        """Write a call that was set aside to the ledger. Raises LeaseLostError where it was given up for lost."""
        ...

    async def enqueue(self, job: Job) -> Job:
        """Queue a job, or give back the one like it that is not over."""
        ...

    async def claim(self, lease_id: str, *, worker: str, seconds: float) -> tuple[Job, Lease] | None:
        """Take up the oldest job that is due and whose context nobody sleeps on, with the lease of its context."""
        ...

    async def end_job(
        self,
        job_id: str,
        state: JobState,
        *,
        version: int | None = None,
        error: str | None = None,
        wait_s: float | None = None,
        outcome: str = "",
    ) -> None:
        """Say what became of a job, if it is running. With *wait_s* it met an error and waits so long.

        Where it was decided on, the decision is told the *outcome*; one that brought no version leaves its
        context to earn the next one from now on.
        """
        ...

    async def jobs(self) -> Sequence[Job]:
        """All jobs, oldest first."""
        ...

    async def change_job(self, job_id: str, state: JobState, *, only: Sequence[JobState]) -> Job:
        """Pause, resume or cancel a job that is in one of the states *only*. Raises JobNotFoundError."""
        ...

    async def record(self, call: Call) -> None:
        """Append one row to the ledger."""
        ...

    async def calls(
        self,
        *,
        context_id: str | None = None,
        work_id: str | None = None,
        limit: int | None = None,
        before: str | None = None,
    ) -> Sequence[Call]:
        """Rows of the ledger, oldest first; with *limit* the newest that many, with *before* those older than it."""
        ...

    async def add_key(self, key: ApiKey) -> None:
        """Keep a new API key."""
        ...

    async def keys(self, *, digest: str | None = None) -> Sequence[ApiKey]:
        """All API keys, oldest first, the revoked ones too; or the one with this hash."""
        ...

    async def revoke_key(self, key_id: str, at: datetime) -> ApiKey:
        """Let an API key open nothing any more. Raises KeyNotFoundError."""
        ...

    async def totals(self) -> Sequence[Totals]:
        """The ledger's sums by context, phase, `sees` and level, computed by the database.

        `works` counts the sleeps or answers (`work_id`) that were completed: whose latest call came back "ok".
        The cost is unknown when that of any call is.
        """
        ...

    async def keep_answer(
        self,
        context_id: str,
        work_id: str,
        answer: Answer,
        at: datetime,
        *,
        teaches: Callable[[Watched], Lesson] | None = None,
    ) -> None:
        """Keep a query with its answer, and what it *teaches* of its context and of all together."""
        ...

    async def keep_relayed(self, relayed: Sequence[Relayed]) -> None:
        """Keep calls that others made through us, with their answers and what these teach.

        What belongs to a context that was forgotten meanwhile is a row of the ledger alone.
        """
        ...

    async def answers(self, context_id: str, *, limit: int = 20) -> Sequence[Answer]:
        """The newest answers of a context, newest first."""
        ...

    async def watched(self, context_id: str) -> Watched:
        """What decisions need to know of one context. Raises ContextNotFoundError."""
        ...

    async def watch(self, context_id: str, change: Callable[[Watched], Watched]) -> Watched:
        """Keep what *change* makes of what is watched of a context.

        Of several at once each sees what the others made. Raises ContextNotFoundError.
        """
        ...

    async def wanted(self, limit: int) -> Sequence[Watched]:
        """Up to *limit* contexts not decided on since they changed, then as many that want to be slept on most.

        Those with a sleep that is queued or being done are left out.
        """
        ...

    async def due(self, triggers: Triggers, now_days: float, limit: int) -> Sequence[Watched]:
        """The same among contexts that a trigger wants looked at now, and behind them those that want no sleep.

        Those that are only observed are never due.
        """
        ...

    async def settle_look(
        self,
        found: Sequence[Watched],
        accounts: Sequence[str],
        choose: Callable[[Sequence[Watched], Standing], Sequence[Looked]],
    ) -> Sequence[Looked]:
        """Keep what *choose* makes of the contexts that are still as they were found, and queue its jobs.

        One look is settled at a time, whatever processes there are, and *choose* is told what is spent and promised
        at that moment; so two never promise the same room. Contexts with a sleep in hand are left out.
        """
        ...

    async def sweep(self, at: datetime) -> bool:
        """Let all that lacks notes wait since the scheduled time *at*; False where that was done, or is the first."""
        ...

    async def peers(self, kind: str, limit: int) -> Sequence[Seen]:
        """When contexts of one kind were asked, of up to *limit* of them, always the same ones."""
        ...

    async def taught(self, level: str | None = None) -> Taught:
        """What all contexts taught together, with the groups of one level, or of all levels."""
        ...

    async def keep_prior(self, kind: str, prior: Prior, fitted_days: float) -> None:
        """Keep the prior of a kind in place of the one before."""
        ...

    async def keep_decisions(self, settled: Sequence[tuple[Watched, Decided | None]]) -> None:
        """Keep reason and `wants` of contexts, and decisions that are new; old ones of the same context make room.

        What else is watched of a context is left alone, and so is one that was forgotten or changed meanwhile.
        """
        ...

    async def decisions(self, context_id: str, *, limit: int = 20) -> Sequence[Decided]:
        """The last decisions on a context, newest first."""
        ...

    async def listed(
        self, *, words: str = "", sort: Sort = "value", offset: int = 0, limit: int = 50
    ) -> tuple[Sequence[Listed], int]:
        """One page of the contexts whose names hold *words*, and how many there are in all."""
        ...

    async def line(self, context_id: str) -> Listed | None:
        """The line of one context; None where it is not there."""
        ...

    async def counts(self) -> Counts:
        """How many contexts there are, how many were slept on, and jobs that are not over."""
        ...

    async def told(self, limit: int) -> Sequence[Told]:
        """The last decisions on any context, newest first."""
        ...

    async def under_way(self) -> Sequence[UnderWay]:
        """The sleeps under way, with what they have kept so far."""
        ...

    async def queued(self, *, are_over: bool, limit: int, before: int | None = None) -> Sequence[Queued]:
        """Jobs that are not over, oldest first, or those that are, newest first; *before* a place in the queue."""
        ...

    async def spent(self, *, by_day: bool, since: datetime | None = None) -> Sequence[Spent]:
        """What was spent in each hour or day, by phase, oldest first."""
        ...

    async def first_hour(self) -> datetime | None:
        """The hour of the first row of the ledger; None where it is empty."""
        ...

    async def compared(self) -> Mapping[str, Compared]:
        """Sums over all contexts of what answers took with notes and without: "tokens", "usd" and "seconds"."""
        ...

    async def taken(self, context_id: str) -> Mapping[bool, Taken]:
        """What the answers of one context took, by whether they had notes."""
        ...

    async def spending(self, accounts: Sequence[str]) -> Mapping[str, Spending]:
        """What was spent and is set aside on accounts under the caps; those not spent on are left out."""
        ...

    async def rows(self, which: Filter, *, limit: int, before: int | None = None) -> Sequence[Row]:
        """A page of the ledger, newest first; *before* a place in it."""
        ...

    async def asked(
        self, *, context_id: str | None = None, work_id: str | None = None, limit: int = 50, before: int | None = None
    ) -> Sequence[Asked]:
        """A page of queries with their answers, newest first."""
        ...

    async def news(self, limit: int) -> Sequence[News]:
        """The versions that sleeps published last, newest first."""
        ...

    async def aclose(self) -> None:
        """Close all connections. May be called twice."""
        ...
