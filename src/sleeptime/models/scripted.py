"""A model that says what it is told to: for tests, examples and dry runs.

    ScriptedModel(["one two three", "four"]).generate(…) → "one two three", then "four"

A token is a word between white space. The cap on output tokens is kept by cutting
after that many words; `finish_reason` is then "length". The log-probability of a
query is a rule, too: a word that stands in *given* has probability 1/2, any other
word 1/100.

This file does not know any provider.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sleeptime.core.errors import MalformedReplyError, NotSupportedError
from sleeptime.core.messages import Completion, LogProb, Message, TokenCount, Tool
from sleeptime.core.usage import Usage
from sleeptime.models.protocol import Abilities, Options

Reply = str | Completion | Exception
Script = Callable[[Sequence[Message], Options], Reply]

_WORD = re.compile(r"\s*\S+")
_SEEN, _UNSEEN = math.log(1 / 2), math.log(1 / 100)


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """What a scripted model was asked. `prefix` is None for `generate`."""

    messages: tuple[Message, ...]
    options: Options
    prefix: str | None = None


class ScriptedModel:
    """Give *replies* in order, or whatever a callable makes of the prompt.

    A reply is a text, a whole Completion (given as it is), or an exception to raise;
    in a sequence, a callable takes its turn like the others. `calls` keeps what was asked.
    """

    def __init__(
        self,
        replies: Sequence[Reply | Script] | Script,
        *,
        name: str = "scripted",
        abilities: Abilities | None = None,
    ) -> None:
        self._name = name
        self._abilities = Abilities() if abilities is None else abilities
        self._script = replies
        self.calls: list[ScriptedCall] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def abilities(self) -> Abilities:
        return self._abilities

    async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
        """Give the next reply."""
        if options.tools and not self._abilities.tools:
            raise NotSupportedError(self._name, "tool calls")
        return self._reply(ScriptedCall(tuple(messages), options))

    async def complete(self, messages: Sequence[Message], options: Options, *, prefix: str) -> Completion:
        """Give the next reply, as what follows *prefix*."""
        if not self._abilities.completes:
            raise NotSupportedError(self._name, "completions of a given beginning")
        return self._reply(ScriptedCall(tuple(messages), options, prefix))

    async def log_prob(self, query: str, *, given: Sequence[Message]) -> LogProb:
        """Score each word of *query* by the rule above."""
        if not self._abilities.log_probs:
            raise NotSupportedError(self._name, "log-probabilities")
        seen = {word for message in given for word in message.content.split()}
        words = query.split()
        return LogProb(
            total=sum(_SEEN if word in seen else _UNSEEN for word in words),
            tokens=len(words),
            usage=Usage(input_tokens=_words(given) + len(words)),
        )

    async def count_tokens(self, messages: Sequence[Message], *, tools: Sequence[Tool] = ()) -> TokenCount:
        """Count words."""
        described = sum(len(f"{tool.name} {tool.description} {json.dumps(tool.parameters)}".split()) for tool in tools)
        return TokenCount(tokens=_words(messages) + described, exact=True)

    async def aclose(self) -> None:
        """Nothing is held."""

    def _reply(self, call: ScriptedCall) -> Completion:
        turn = len(self.calls)
        self.calls.append(call)
        if callable(self._script):
            reply = self._script(call.messages, call.options)
        elif turn < len(self._script):
            scripted = self._script[turn]
            reply = scripted(call.messages, call.options) if callable(scripted) else scripted
        else:
            raise MalformedReplyError(self._name, f"its script ends after {len(self._script)} replies")
        if isinstance(reply, Exception):
            raise reply
        completion = reply if isinstance(reply, Completion) else self._speak(reply, call)
        if call.options.on_text:
            for piece in re.findall(r"\s*\S+\s*\Z|\s*\S+|\s+\Z", completion.text):
                call.options.on_text(piece)
        return completion

    def _speak(self, text: str, call: ScriptedCall) -> Completion:
        for stop in call.options.stop:
            text = text.partition(stop)[0]
        ends = [match.end() for match in _WORD.finditer(text)]
        cap = call.options.max_output_tokens
        is_cut = len(ends) > cap
        if is_cut:
            text = text[: ends[cap - 1]] if cap > 0 else ""
        return Completion(
            text=text,
            usage=Usage(
                input_tokens=_words(call.messages) + len((call.prefix or "").split()),
                output_tokens=min(len(ends), cap),
            ),
            model=self._name,
            finish_reason="length" if is_cut else "stop",
        )


def _words(messages: Sequence[Message]) -> int:
    return sum(len(message.content.split()) for message in messages)
