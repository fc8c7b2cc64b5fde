"""Leave the provider to the answers first: what sleeps do with what is known of its rate limit and of its tiers.

    a sleep's call    waits for its share (`core.limits`), then goes out at half price where the model offers that
    any call          told to wait, makes all sleeps with this model wait as long

A `Share` is what one process knows of one model; it hears the headers of all replies. A wait of more
than `LONGEST_WAIT_S` is told as an error, so that the job says so and is tried again then. A half-price call that
is refused is made again at the standard price at once, and the tier is left alone for a while.

This file does not know prices, the ledger, or who asks.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import anyio

from sleeptime.core.errors import ModelError, RateLimitedError, RequestRejectedError, ShareUsedUpError
from sleeptime.core.limits import Limits
from sleeptime.core.messages import Completion, Message
from sleeptime.models.forwarding import Forwarding
from sleeptime.models.protocol import Model, Options

LONGEST_WAIT_S = 30.0
FLEX = "flex"
FULL_FOR_S = 300.0
"""How long the tier is left alone where it had no room."""
UNKNOWN_FOR_S = 86_400.0
"""The same where the model does not offer it."""
_ABOUT_TIER = re.compile(r"service.?tier|\bflex\b", re.IGNORECASE)


@dataclass(slots=True, kw_only=True)
class Share:
    """What this process knows of one model's rate limit and of its half-price tier."""

    clock_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    limits: Limits = field(default_factory=Limits)
    standard_until_s: float = 0.0

    def heard(self, headers: Mapping[str, str]) -> None:
        """Take in the headers of a reply."""
        self.limits = self.limits.heard(headers, now_s=self.clock_s(), now=datetime.now(UTC))

    def told(self, error: ModelError) -> None:
        """Take in that a call was told to wait."""
        if error.retry_after_s is not None:
            self.limits = self.limits.told_to_wait(error.retry_after_s, now_s=self.clock_s())

    async def turn(self, model: str, tokens: int, share: float) -> None:
        """Wait until a sleep may make a call of so many tokens. Raises ShareUsedUpError where that takes long."""
        ends_s = self.clock_s() + LONGEST_WAIT_S
        while wait_s := self.limits.wait_s(tokens, share=share, now_s=self.clock_s()):
            if self.clock_s() + wait_s > ends_s:
                raise ShareUsedUpError(model, retry_after_s=wait_s)
            await self.sleep(wait_s)
        self.limits = self.limits.taken(tokens, now_s=self.clock_s())

    def refused(self, error: ModelError) -> bool:
        """Whether *error* refuses the half-price tier and no more; then it is left alone for a while."""
        if isinstance(error, RateLimitedError) and (error.is_out_of_room or error.retry_after_s is None):
            self.standard_until_s = self.clock_s() + FULL_FOR_S
            return True
        if isinstance(error, RequestRejectedError) and _ABOUT_TIER.search(error.detail):
            self.standard_until_s = self.clock_s() + UNKNOWN_FOR_S
            return True
        return False


class Courteous(Forwarding):
    """A model as a sleep calls it: within *share*, at half price where *wants_flex*. For an answer, both are None."""

    def __init__(self, model: Model, known: Share, *, share: float | None = None, wants_flex: bool = False) -> None:
        super().__init__(model)
        self._known = known
        self._share, self._wants_flex = share, wants_flex

    async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
        """Reply to *messages*, when there is room, and at the standard price where the cheaper one is refused."""
        await self._turn(messages, options.max_output_tokens)
        if self._wants_flex and self._known.clock_s() >= self._known.standard_until_s:
            try:
                return await self._model.generate(messages, replace(options, tier=FLEX))
            except ModelError as error:
                if not self._known.refused(error):
                    self._known.told(error)
                    raise
        return await self._told(lambda: self._model.generate(messages, options))

    async def complete(self, messages: Sequence[Message], options: Options, *, prefix: str) -> Completion:
        """Go on from *prefix*, when there is room."""
        await self._turn(messages, options.max_output_tokens)
        return await self._told(lambda: self._model.complete(messages, options, prefix=prefix))

    async def _turn(self, messages: Sequence[Message], most_output: int) -> None:
        if self._share is None:
            return
        is_counted = self._known.limits.tokens is not None
        count = (await self._model.count_tokens(messages)).tokens if is_counted else 0
        await self._known.turn(self.name, count + most_output, self._share)

    async def _told(self, call: Callable[[], Awaitable[Completion]]) -> Completion:
        try:
            return await call()
        except ModelError as error:
            self._known.told(error)
            raise
