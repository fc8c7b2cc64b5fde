"""A model that stands before another: what a kind of it does not change goes to that one as it is."""

from __future__ import annotations

from collections.abc import Sequence

from sleeptime.core.messages import Completion, LogProb, Message, TokenCount, Tool
from sleeptime.models.protocol import Abilities, Model, Options


class Forwarding:
    """The `Model` *model*, seen through whatever a subclass does to its calls."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def abilities(self) -> Abilities:
        return self._model.abilities

    async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
        return await self._model.generate(messages, options)

    async def complete(self, messages: Sequence[Message], options: Options, *, prefix: str) -> Completion:
        return await self._model.complete(messages, options, prefix=prefix)

    async def log_prob(self, query: str, *, given: Sequence[Message]) -> LogProb:
        return await self._model.log_prob(query, given=given)

    async def count_tokens(self, messages: Sequence[Message], *, tools: Sequence[Tool] = ()) -> TokenCount:
        return await self._model.count_tokens(messages, tools=tools)

    async def aclose(self) -> None:
        await self._model.aclose()
