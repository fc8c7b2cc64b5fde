"""Look whenever a trigger says so, and leave what is decided to workers.

    every few seconds, or woken  →  has a time of the schedule come? sweep  →  look until nothing is due

Nothing is kept in memory that a restart would lose: what is due is reckoned from stored times, and a time of the
schedule that passed while no process ran is caught up with once. Any number of planners may share a database.

This file does not know how a look decides, nor SQL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import anyio

from sleeptime.core.errors import DatabaseBusyError
from sleeptime.core.triggers import Triggers, last_scheduled
from sleeptime.core.watching import Looked

LONGEST_PAUSE_S = 5.0
PAUSES_PER_IDLE = 6
"""How often it looks within an idle time: what has been idle is looked at by a sixth of it late."""


@dataclass(slots=True, kw_only=True)
class Planner:
    """Looks when *triggers* say so. *look* decides on some of what is due and *sweep* tells of a scheduled time.

    *tell* is given a line on each decision that is new, and *on_queued* is called where jobs were queued.
    """

    triggers: Triggers
    look: Callable[[], Awaitable[Sequence[Looked]]]
    sweep: Callable[[datetime], Awaitable[bool]]
    now: Callable[[], datetime]
    tell: Callable[[str], None] = lambda _line: None
    on_queued: Callable[[], None] = lambda: None
    _swept: datetime | None = None
    _is_stopped: bool = False
    _woken: anyio.Event = field(default_factory=anyio.Event)

    def stop(self) -> None:
        """Look no more."""
        self._is_stopped = True
        self._woken.set()

    def wake(self) -> None:
        """Look now: something happened that a trigger may have waited for."""
        self._woken.set()

    @property
    def pause_s(self) -> float:
        """How long it may be until the next look."""
        return min(LONGEST_PAUSE_S, self.triggers.idle_s / PAUSES_PER_IDLE or LONGEST_PAUSE_S)

    async def run(self) -> None:
        """Look until stopped; where it decides nothing by itself, that is at once."""
        while self.triggers.is_auto and not self._is_stopped:
            self._woken = anyio.Event()
            try:
                await self.look_now()
            except DatabaseBusyError as error:
                self.tell(f"The database is busy: {error}")
            with anyio.move_on_after(self.pause_s):
                await self._woken.wait()

    async def look_now(self) -> int:
        """Look at all that is due now, and say how many jobs were queued."""
        scheduled = last_scheduled(self.triggers, self.now())
        if scheduled is not None and scheduled != self._swept:
            await self.sweep(scheduled)
            self._swept = scheduled
        queued = 0
        while not self._is_stopped and (settled := await self.look()):
            for each in settled:
                if each.decided is not None:
                    self.tell(f"{each.decided.sentence} [{each.decided.trigger}]")
            jobs = sum(each.job is not None for each in settled)
            if jobs:
                self.on_queued()
            queued += jobs
        return queued
