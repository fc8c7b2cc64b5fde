"""Try again what may succeed on another attempt.

    wait before attempt n+1  =  jitter · min(cap, base · 2ⁿ⁻¹)      full jitter, n = 1, 2, …

and at least as long as the provider asks. A wait longer than the cap is not waited
for: the error, which names it, is raised at once. A reply that has begun to stream
is never started over: the reader would see its beginning twice. A call that went out
but got no reply may have been billed, so it is repeated once at most.

This file does not know providers, prices or the ledger.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import anyio

from sleeptime.core.errors import EndpointUnreachableError, ModelError
from sleeptime.core.messages import Completion, LogProb, Message, TokenCount, Tool
from sleeptime.models.forwarding import Forwarding
from sleeptime.models.protocol import Model, Options

T = TypeVar("T")


class Retrying(Forwarding):
    """A model that is asked up to *attempts* times while its errors say `retryable`.

    With *repeats_sent* False, as a cap on tokens or money asks, a call that may have
    been billed is not repeated at all.
    """

    def __init__(
        self,
        model: Model,
        *,
        attempts: int = 4,
        base_s: float = 0.5,
        cap_s: float = 30.0,
        repeats_sent: bool = True,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(model)
        self._attempts, self._base_s, self._cap_s = attempts, base_s, cap_s
        self._most_sent = 1 if repeats_sent else 0
        self._sleep, self._jitter = sleep, jitter

    async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
        """Reply to *messages*, in one of the attempts."""
        heard = _Heard(options.on_text)
        options = heard.listening(options)
        return await self._retried(lambda: self._model.generate(messages, options), heard)

    async def complete(self, messages: Sequence[Message], options: Options, *, prefix: str) -> Completion:
        """Go on from *prefix*, in one of the attempts."""
        heard = _Heard(options.on_text)
        options = heard.listening(options)
        return await self._retried(lambda: self._model.complete(messages, options, prefix=prefix), heard)

    async def log_prob(self, query: str, *, given: Sequence[Message]) -> LogProb:
        """Measure, in one of the attempts."""
        return await self._retried(lambda: self._model.log_prob(query, given=given), _Heard(None))

    async def count_tokens(self, messages: Sequence[Message], *, tools: Sequence[Tool] = ()) -> TokenCount:
        """Count, in one of the attempts."""
        return await self._retried(lambda: self._model.count_tokens(messages, tools=tools), _Heard(None))

    async def _retried(self, call: Callable[[], Awaitable[T]], heard: _Heard) -> T:
        attempt, sent = 1, 0
        while True:
            try:
                return await call()
            except ModelError as error:
                sent += isinstance(error, EndpointUnreachableError) and error.was_sent
                wait_s = self._wait_s(attempt, error)
                if wait_s is None or sent > self._most_sent or heard.anything:
                    raise
            await self._sleep(wait_s)
            attempt += 1

    def _wait_s(self, attempt: int, error: ModelError) -> float | None:
        """How long to wait after the failed *attempt*, or None to give up."""
        asked_s = error.retry_after_s or 0.0
        if not error.retryable or attempt >= self._attempts or asked_s > self._cap_s:
            return None
        return max(asked_s, self._jitter() * min(self._cap_s, self._base_s * 2 ** (attempt - 1)))


class _Heard:
    """Whether any text of a reply has reached the reader."""

    def __init__(self, on_text: Callable[[str], None] | None) -> None:
        self._on_text = on_text
        self.anything = False

    def listening(self, options: Options) -> Options:
        return replace(options, on_text=self._hear) if self._on_text else options

    def _hear(self, piece: str) -> None:
        assert self._on_text is not None
        self.anything = self.anything or bool(piece)
        self._on_text(piece)
