"""Keep what a sleep pays for together with what that taught.

    set aside → sent → completed ─┐
                                  ├─ one transaction: the row of the ledger and the draft
                          draft ──┘
    refused, broken off, cancelled ── a row at once

So a call whose row says "ok" is never made again: the row is there if and only if its draft is. Killed before that
transaction, the call is lost, and whoever takes over makes it once more; killed before it was sent, it leaves nothing.
Where no draft comes of a completion because an error or a bug came between, `aclose` writes its row alone.

This file does not know what a draft says, nor SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import anyio

from sleeptime.core.caps import Caps, Reservation
from sleeptime.core.errors import CapReached, LeaseLostError
from sleeptime.core.job import Lease
from sleeptime.core.ledger import Call
from sleeptime.core.messages import Completion
from sleeptime.core.notes import Draft
from sleeptime.core.usage import PriceCard
from sleeptime.store.protocol import Store

CAP_PAUSE_S = 0.1


@dataclass(slots=True, kw_only=True)
class Keeper:
    """The calls and drafts of one sleep, made under *lease* and under *caps*. *price* is that of *model*."""

    store: Store
    lease: Lease
    sleep_id: str
    model: str
    price: PriceCard | None
    caps: Caps
    now: Callable[[], datetime]
    _without_draft: dict[str, Call] = field(default_factory=dict[str, Call])

    async def set_aside(self, call_id: str, input_tokens: int, output_tokens: int) -> int:
        """Set the most of a call aside; say how much output it may have. Raises CapReached and LeaseLostError."""
        asked = Reservation(
            id=call_id,
            at=self.now(),
            model=self.model,
            context_id=self.lease.context_id,
            work_id=self.sleep_id,
            lease=self.lease.id,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            price=self.price,
        )
        while (given := await self.store.reserve(asked, self.caps)) is None:
            await anyio.sleep(CAP_PAUSE_S)  # calls under way hold the rest; those of the dead are reaped
            await self.store.reap()
        if given.output_tokens == 0:
            raise CapReached
        return given.output_tokens

    async def record(self, call: Call) -> None:
        """Write a call to the ledger, or if it was completed, wait for its draft."""
        if call.outcome == "ok":
            self._without_draft[call.id] = call
        else:
            await self.store.settle(call)

    async def keep(self, draft: Draft, completion: Completion) -> None:
        """Keep a draft with the call it was made of, even while a cancellation is under way."""
        call = self._without_draft.get(completion.call_id or "")
        with anyio.CancelScope(shield=True):
            await self.store.checkpoint(self.sleep_id, draft, call)
        self._without_draft.pop(completion.call_id or "", None)

    async def aclose(self) -> None:
        """Write the completed calls of which no draft came. One that was given up for lost has its row already."""
        with anyio.CancelScope(shield=True):
            while self._without_draft:
                _, call = self._without_draft.popitem()
                with suppress(LeaseLostError):
                    await self.store.settle(call)
