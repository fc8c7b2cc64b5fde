"""Make every model call a row of the ledger, whatever becomes of it.

One call, one row: also for a call that failed (`outcome` names the error) or was
cancelled. A row is written even while a cancellation is under way, because its
tokens were spent. A call that was refused or never went out cost 0, whatever the
price; what a call that broke off in the middle cost is not known, and None says so.

With *set_aside*, a call's most is set aside before it goes out, under the id its row will have. The same id goes
out with the request, and `Completion.call_id` gives it back: whoever keeps what a completion taught can find its row.

This file does not know where rows are kept.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

import anyio

from sleeptime.core.errors import EndpointUnreachableError, InputError, MalformedReplyError, ModelError
from sleeptime.core.ledger import Call, Phase
from sleeptime.core.messages import Completion, LogProb, Message
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.models.forwarding import Forwarding
from sleeptime.models.protocol import Model, Options

Priced = TypeVar("Priced", Completion, LogProb)
OnSend = Callable[[], Awaitable[None]]


class Metered(Forwarding):
    """A model whose calls are all given to *record*, with what they are for.

    *now* tells the time in UTC and *clock_s* seconds that never run backwards. *price* is
    None where no price is known; a reply that says at which tier it was served is priced at
    that tier's card. Counting tokens is free and makes no row.
    *set_aside* is given the id, the tokens of the prompt and the most output of a call, and says how much output it
    may have. *on_send* is given the id when the call goes out, as exactly as the model can tell, and not later.
    """

    def __init__(
        self,
        model: Model,
        *,
        record: Callable[[Call], Awaitable[None]],
        phase: Phase,
        price: PriceCard | None,
        now: Callable[[], datetime],
        clock_s: Callable[[], float],
        context_id: str | None = None,
        version: int | None = None,
        work_id: str | None = None,
        sees: str | None = None,
        level: str | None = None,
        set_aside: Callable[[str, int, int], Awaitable[int]] | None = None,
        on_send: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(model)
        self._set_aside, self._on_send = set_aside, on_send
        self._record, self._price = record, price
        self._now, self._clock_s = now, clock_s
        self._phase, self._context_id, self._version = phase, context_id, version
        self._work_id, self._sees, self._level = work_id, sees, level

    async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
        """Reply to *messages*; one row."""
        id_, options = await self._aside(messages, options)
        return await self._metered(
            id_, lambda on_send: self._model.generate(messages, replace(options, on_send=on_send))
        )

    async def complete(self, messages: Sequence[Message], options: Options, *, prefix: str) -> Completion:
        """Go on from *prefix*; one row."""
        id_, options = await self._aside(messages, options)
        return await self._metered(
            id_, lambda on_send: self._model.complete(messages, replace(options, on_send=on_send), prefix=prefix)
        )

    async def log_prob(self, query: str, *, given: Sequence[Message]) -> LogProb:
        """Measure; one row."""
        id_ = uuid.uuid4().hex
        return await self._metered(id_, lambda _on_send: self._model.log_prob(query, given=given), is_told=False)

    async def _aside(self, messages: Sequence[Message], options: Options) -> tuple[str, Options]:
        """Make an id for a call, set its most aside where asked to, and bound it by what was granted."""
        id_ = uuid.uuid4().hex
        options = replace(options, call_id=id_)
        if self._set_aside is None:
            return id_, options
        count = 0 if self._price is None else (await self.count_tokens(messages, tools=options.tools)).tokens
        granted = await self._set_aside(id_, count, options.max_output_tokens)
        return id_, replace(options, max_output_tokens=granted)

    async def _metered(self, id_: str, call: Callable[[OnSend], Awaitable[Priced]], *, is_told: bool = True) -> Priced:
        at, began_s = self._now(), self._clock_s()
        was_sent = False

        async def on_send() -> None:
            nonlocal was_sent
            if self._on_send is not None:
                await self._on_send(id_)
            was_sent = True

        try:
            if not (is_told and self._model.abilities.tells_sending):
                await on_send()
            made = await call(on_send)
        except BaseException as error:
            cost = 0.0 if _was_refused(error, was_sent=was_sent) else None
            await self._write(id_, at, began_s, outcome=type(error).__name__, usage=Usage(), cost_usd=cost)
            raise
        request_id, price = None, self._price
        if isinstance(made, Completion):
            price = self._price and self._price.served(made.tier)
            request_id, made = made.request_id, replace(made, call_id=id_)
        cost = None if price is None else price.cost_usd(made.usage)
        await self._write(
            id_, at, began_s, outcome="ok", usage=made.usage, cost_usd=cost, request_id=request_id, price=price
        )
        return made

    async def _write(
        self,
        id_: str,
        at: datetime,
        began_s: float,
        *,
        outcome: str,
        usage: Usage,
        cost_usd: float | None,
        request_id: str | None = None,
        price: PriceCard | None = None,
    ) -> None:
        price = price or self._price
        call = Call(
            id=id_,
            at=at,
            phase=self._phase,
            model=self._model.name,
            usage=usage,
            cost_usd=cost_usd,
            latency_s=self._clock_s() - began_s,
            outcome=outcome,
            price_card=None if price is None else price.name,
            context_id=self._context_id,
            version=self._version,
            work_id=self._work_id,
            sees=self._sees,
            level=self._level,
            request_id=request_id,
        )
        with anyio.CancelScope(shield=True):
            await self._record(call)


def _was_refused(error: BaseException, *, was_sent: bool) -> bool:
    """Whether nothing was generated, so that nothing is billed."""
    if isinstance(error, EndpointUnreachableError):
        return not error.was_sent
    if isinstance(error, (ModelError, InputError)):
        return not isinstance(error, MalformedReplyError)
    return not was_sent
