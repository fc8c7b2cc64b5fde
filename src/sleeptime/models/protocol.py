"""The seam to language models: what the workers ask of one, and nothing more.

A worker holds a `Model` and never learns whether it is a provider across the
network, a file on disk, or a script. Adapters raise ModelError and nothing
else, but ContextTooLongError where a prompt was refused for its length.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sleeptime.core.messages import Completion, LogProb, Message, TokenCount, Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a model can do.

    prompt_set      which prompt files speak its language
    tools           it can be given tools, one of which it must call
    completes       `complete` goes on from a given beginning of the reply
    log_probs       `log_prob` works
    sampling        it can be given a temperature; without it, replies vary as the provider likes
    dials           it may have a reasoning effort or a thinking budget; whether it does, the provider says
    context_window  tokens of prompt and reply together, or None where unknown
    tells_sending   it awaits `Options.on_send` just before a request goes out
    """

    prompt_set: str = "default"
    tools: bool = True
    completes: bool = False
    log_probs: bool = False
    sampling: bool = True
    dials: bool = True
    context_window: int | None = None
    tells_sending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to make one reply.

    `tools` non-empty means that one of them must be called; a provider that refuses
    this of a model that thinks leaves it the choice. `on_text` asks for
    streaming: it is given each piece of the reply's text as it arrives.
    `effort` and `thinking_tokens` are the provider's own dials; an adapter that
    cannot turn them raises NotSupportedError rather than drop them. `temperature`
    is left out where `abilities.sampling` is False or a dial rules it out, and `seed`
    where the provider takes none: neither was ever a promise. `call_id` goes out with the
    request where the wire has a place for it. `on_send` is for models that tell when it
    does; what it raises is raised, and nothing is sent.
    """

    max_output_tokens: int
    temperature: float | None = None
    seed: int | None = None
    effort: str | None = None
    thinking_tokens: int | None = None
    tools: tuple[Tool, ...] = ()
    stop: tuple[str, ...] = ()
    on_text: Callable[[str], None] | None = None
    call_id: str | None = None
    on_send: Callable[[], Awaitable[None]] | None = None


class Model(Protocol):
    """A language model. All methods may raise ModelError and ContextTooLongError."""

    @property
    def name(self) -> str:
        """The name the user wrote, `provider:model`."""
        ...

    @property
    def abilities(self) -> Abilities: ...

    async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
        """Reply to *messages*."""
        ...

    async def complete(self, messages: Sequence[Message], options: Options, *, prefix: str) -> Completion:
        """Go on with a reply that begins with *prefix*; the completion excludes it.

        Raises NotSupportedError where `abilities.completes` is False.
        """
        ...

    async def log_prob(self, query: str, *, given: Sequence[Message]) -> LogProb:
        """Log P(query | given), natural log; *query* continues the last message of *given*.

        Raises NotSupportedError where `abilities.log_probs` is False.
        """
        ...

    async def count_tokens(self, messages: Sequence[Message], *, tools: Sequence[Tool] = ()) -> TokenCount:
        """Count the tokens of a prompt without spending any."""
        ...

    async def aclose(self) -> None:
        """Release connections and processes. May be called twice."""
        ...
