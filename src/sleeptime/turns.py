"""Whose work goes first in this process: what an answer waits for, before any step of a sleep.

    turns.ahead()       an answer is made: while it works here, no step of a sleep begins
    turns.behind()      a sleep: its steps are taken one at a time, and while no answer works here
    step()              one step: a transaction, a request made ready, a reply taken in
    left(), returned()  a request has gone out, its reply comes in: waiting for a model is no work

So an answer waits for one step of one sleep at most, and sleeps fill the time in which it waits for
its model. A step is held up for `LONGEST_WAIT_S` at most: sleeps go slow under load, never still.
Work that is neither goes at once. This file does not know answers, sleeps, models or storage.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

LONGEST_WAIT_S = 0.25


@dataclass(slots=True)
class _Ahead:
    """An answer; `is_here` while it works in this process."""

    turns: Turns
    is_here: bool = True


@dataclass(slots=True)
class _Behind:
    """A sleep, or with `is_step` a part of it, which alone takes turns; `has_turn` while it works here."""

    turns: Turns
    is_step: bool = False
    has_turn: bool = False


_lane: ContextVar[_Ahead | _Behind | None] = ContextVar("sleeptime_lane", default=None)


@dataclass(slots=True)
class Turns:
    """Who works here: answers, counted, and one step of a sleep at a time. For one event loop."""

    _ahead: int = 0
    _free: asyncio.Event = field(default_factory=asyncio.Event)
    _step: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._free.set()

    @contextmanager
    def ahead(self) -> Generator[None]:
        """Go before all steps of sleeps."""
        lane = _Ahead(self, is_here=False)
        token = _lane.set(lane)
        self.come(lane)
        try:
            yield
        finally:
            self.go(lane)
            _lane.reset(token)

    @contextmanager
    def behind(self) -> Generator[None]:
        """Take steps one at a time, behind answers."""
        token = _lane.set(_Behind(self))
        try:
            yield
        finally:
            _lane.reset(token)

    def come(self, lane: _Ahead) -> None:
        """Count an answer that works here."""
        if not lane.is_here:
            lane.is_here = True
            self._ahead += 1
            self._free.clear()

    def go(self, lane: _Ahead) -> None:
        """Count it no more."""
        if lane.is_here:
            lane.is_here = False
            self._ahead -= 1
            if not self._ahead:
                self._free.set()

    async def take(self, lane: _Behind) -> None:
        """Wait for the turn of a step, and until no answer works here, but not for ever."""
        await self._step.acquire()
        lane.has_turn = True
        try:
            if self._ahead:
                async with asyncio.timeout(LONGEST_WAIT_S):
                    await self._free.wait()
        except TimeoutError:
            pass
        except BaseException:
            self.give(lane)
            raise

    def give(self, lane: _Behind) -> None:
        """End a step."""
        if lane.has_turn:
            lane.has_turn = False
            self._step.release()


@asynccontextmanager
async def step() -> AsyncGenerator[None]:
    """Take a step; within another one it is part of that."""
    above = _lane.get()
    if isinstance(above, _Ahead):
        try:
            yield
        finally:
            above.turns.come(above)  # its request may have failed without a reply
        return
    if above is None or above.has_turn:
        yield
        return
    lane = _Behind(above.turns, is_step=True)  # of its own: parts of one sleep run beside one another
    token = _lane.set(lane)
    try:
        await lane.turns.take(lane)
        yield
    finally:
        lane.turns.give(lane)
        _lane.reset(token)


async def left(_request: object) -> None:
    """A request goes out: until its reply comes in, whoever sent it does not work here."""
    match _lane.get():
        case _Ahead() as lane:
            lane.turns.go(lane)
        case _Behind() as lane:
            lane.turns.give(lane)
        case None:
            pass


async def returned(_response: object) -> None:
    """A reply comes in: whoever waited for it works here again, a sleep when its turn has come."""
    match _lane.get():
        case _Ahead() as lane:
            lane.turns.come(lane)
        case _Behind(is_step=True, has_turn=False) as lane:
            await lane.turns.take(lane)
        case _:
            pass
