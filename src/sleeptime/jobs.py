"""Work through the queue: one sleep per job, under a lease that heartbeats keep alive.

    claim → hold → sleep, round by round → done | handed back | tried again | failed

A worker that is killed is silent, so its lease runs out, and whoever looks for work next takes its job
over. What was kept after the last round is gone on with. Asked to stop, a worker finishes the rounds in
flight and hands its jobs back.

This file does not know how to sleep, nor SQL.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from sleeptime.core.errors import (
    ContextBusyError,
    DatabaseBusyError,
    HandedBackError,
    LeaseLostError,
    SleeptimeError,
    StoreError,
)
from sleeptime.core.job import Job, Lease, wait_s
from sleeptime.core.notes import LearnedContext
from sleeptime.core.watching import outcome_of
from sleeptime.store.protocol import Store

BEATS_PER_LEASE = 3
POLL_S = 0.5
MOST_POLLS = 4
"""A worker that finds nothing looks less and less often, down to every so many; its own process wakes it."""


@dataclass(slots=True)
class Hold:
    """A lease that is being kept. `is_lost`: another took it. `is_wanted`: nobody asked to stop."""

    lease: Lease
    is_lost: bool = False
    is_wanted: bool = True

    def check(self) -> None:
        """Raise HandedBackError where the sleep was asked to stop; called when a round has been kept."""
        if not self.is_wanted:
            raise HandedBackError(self.lease.context_id)


async def lease_on(store: Store, context_id: str, name: str, *, seconds: float) -> Lease:
    """Take the lease of a context; one whose holder died is waited for until it runs out.

    Raises ContextBusyError as soon as its holder turns out to live.
    """
    lease = Lease(id=new_lease_id(), context_id=context_id, seconds=seconds)
    known = None
    while not await store.take_lease(lease):
        expires_at = await store.lease_expiry(context_id)
        if known is not None and expires_at is not None and expires_at > known:
            raise ContextBusyError(name)
        known = known or expires_at
        await anyio.sleep(min(POLL_S, seconds / 10))
    return lease


@asynccontextmanager
async def held(store: Store, lease: Lease) -> AsyncGenerator[Hold]:
    """Keep *lease* while the block runs, and give it back. Raises LeaseLostError, having cancelled the block."""
    hold = Hold(lease)
    try:
        with anyio.CancelScope() as scope:
            beating = asyncio.create_task(_beat(store, hold, scope))
            try:
                yield hold
            finally:
                beating.cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([beating])
        if hold.is_lost:
            raise LeaseLostError(lease.context_id)
    finally:
        with anyio.CancelScope(shield=True):
            await store.end_lease(lease)


async def _beat(store: Store, hold: Hold, scope: anyio.CancelScope) -> None:
    while True:
        await asyncio.sleep(hold.lease.seconds / BEATS_PER_LEASE)
        try:
            is_wanted = await store.heartbeat(hold.lease)
        except LeaseLostError:
            hold.is_lost = True
            scope.cancel()
            return
        except StoreError:
            continue  # the next beat tries again; whoever takes over meanwhile is safe from this holder's writes
        hold.is_wanted = hold.is_wanted and is_wanted


def new_lease_id() -> str:
    """An id that no other holder has, with the machine and process for people to read."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"


@dataclass(slots=True, kw_only=True)
class Worker:
    """Does jobs, up to *concurrency* at once. *sleep* carries one out; *tell* is given a line on each.

    `stop` asks it to finish the rounds in flight and hand back the rest.
    """

    store: Store
    sleep: Callable[[Job, Hold], Awaitable[LearnedContext]]
    lease_s: float
    concurrency: int = 4
    poll_s: float = POLL_S
    tell: Callable[[str], None] = lambda _line: None
    name: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    _under_way: dict[str, Hold] = field(default_factory=dict[str, Hold])
    _doing: dict[Lease, anyio.Event] = field(default_factory=dict[Lease, anyio.Event])
    _is_stopped: bool = False
    _woken: anyio.Event = field(default_factory=anyio.Event)

    def stop(self) -> None:
        """Finish the rounds in flight, hand their jobs back, and take no more."""
        self._is_stopped = True
        for hold in self._under_way.values():
            hold.is_wanted = False
        self._woken.set()

    def wake(self) -> None:
        """Look for a job now: one was queued."""
        self._woken.set()

    async def let_finish(self, context_id: str) -> bool:
        """Wait until this worker's sleep on a context is over; False where it is doing none."""
        under_way = [is_over for lease, is_over in self._doing.items() if lease.context_id == context_id]
        for is_over in under_way:
            await is_over.wait()
        return bool(under_way)

    async def run(self, *, until_idle: bool = False) -> None:
        """Work until stopped, or with *until_idle* until no job is left that this or another worker may do."""
        pause_s = self.poll_s
        async with anyio.create_task_group() as group:
            while not self._is_stopped:
                self._woken = anyio.Event()
                claimed = None
                try:
                    if len(self._doing) < self.concurrency:
                        claimed = await self.store.claim(new_lease_id(), worker=self.name, seconds=self.lease_s)
                    if claimed is not None:
                        pause_s = self.poll_s
                        self._doing[claimed[1]] = anyio.Event()
                        group.start_soon(self._do, *claimed)
                        continue
                    if until_idle and not self._doing and not await self._is_work_left():
                        return
                except DatabaseBusyError as error:
                    self.tell(f"The database is busy: {error}")
                with anyio.move_on_after(pause_s):
                    await self._woken.wait()
                    pause_s = self.poll_s
                    continue
                pause_s = min(2 * pause_s, MOST_POLLS * self.poll_s)

    async def _is_work_left(self) -> bool:
        return any(job.state in ("queued", "running") for job in await self.store.jobs())

    async def _do(self, job: Job, lease: Lease) -> None:
        """Do one job and say what became of it, before its lease is given back."""
        self.tell(f"{job.id}: begun (attempt {job.attempts})")
        try:
            async with held(self.store, lease) as hold:
                self._under_way[lease.id] = hold
                hold.is_wanted = not self._is_stopped
                try:
                    learned = await self.sleep(job, hold)
                except LeaseLostError:
                    raise
                except HandedBackError:
                    await self.store.end_job(job.id, "queued")
                    raise
                except SleeptimeError as error:
                    await self._failed(job, error)
                    return
                except BaseException as error:
                    if not hold.is_lost:
                        with anyio.CancelScope(shield=True):
                            is_bug = isinstance(error, Exception)
                            why = f"{type(error).__name__}: {error}" if is_bug else None
                            await self.store.end_job(job.id, "failed" if is_bug else "queued", error=why)
                    raise
                await self.store.end_job(job.id, "done", version=learned.version or None, outcome=outcome_of(learned))
                self.tell(f"{job.id}: done, {learned.stop_reason}, {learned.rounds} rounds")
        except (LeaseLostError, HandedBackError) as error:
            self.tell(f"{job.id}: {error}")
        finally:
            self._under_way.pop(lease.id, None)
            self._doing.pop(lease).set()
            self._woken.set()

    async def _failed(self, job: Job, error: SleeptimeError) -> None:
        """Queue the job again where another attempt may succeed."""
        wait = wait_s(job.failures + 1, error)
        await self.store.end_job(job.id, "failed" if wait is None else "queued", error=str(error), wait_s=wait)
        again = "given up" if wait is None else f"again in {wait:g} s"
        self.tell(f"{job.id}: {error} ({again})")
