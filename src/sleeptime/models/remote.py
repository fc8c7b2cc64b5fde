"""A model across a network, spoken to through pydantic-ai.

    Message, Options  →  pydantic-ai's messages, settings  →  the wire  →  Completion

Usage is what the wire reported, with inclusive totals; a reply that reports none is
refused, because the ledger would be blind. Retries inside provider libraries are off:
`Retrying` owns them. This file does not know prices, the ledger, or where keys are.
"""

from __future__ import annotations

import json
import math
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, cast

import httpx2
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    SystemPromptPart,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models import Model as ProviderModel
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from sleeptime.core.errors import MalformedReplyError, NotSupportedError
from sleeptime.core.messages import (
    UNREADABLE,
    Completion,
    FinishReason,
    LogProb,
    Message,
    TokenCount,
    Tool,
    ToolCall,
)
from sleeptime.core.usage import Usage
from sleeptime.models.failures import CLIENT_ERRORS, TOOL_CALLS, model_error
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.sending import Sending, sending

DEFAULT_TIMEOUT_S = 600.0

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_call": "tool_calls",
    "content_filter": "content_filter",
}
_PIECES = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[^\W\d_A-Za-z]|\s+|.", re.DOTALL)
_TOKENS_PER_MESSAGE = 8


class RemoteModel:
    """A provider's model.

    *provider_model* is pydantic-ai's. *dials* turns `Options.effort` and
    `Options.thinking_tokens` into the provider's settings, which go before all others, or
    raises NotSupportedError. *samples_while_thinking* is False where a temperature is
    refused beside them. *secrets* are blacked out of error texts. *http_client* announces what it sends, and is
    closed with the model.
    """

    def __init__(
        self,
        name: str,
        provider_model: ProviderModel[Any],  # Any: each provider has its own client type
        *,
        http_client: httpx2.AsyncClient | None,
        dials: Callable[[Options], ModelSettings],
        abilities: Abilities,
        samples_while_thinking: bool = True,
        secrets: Collection[str] = (),
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._name = name
        self._provider_model = provider_model
        self._http_client = http_client
        self._dials = dials
        self._secrets = tuple(filter(None, secrets))
        self._abilities = replace(abilities, tells_sending=http_client is not None)
        self._samples_while_thinking = samples_while_thinking
        self._takes_seeds = "seed" not in provider_model.unsupported_settings
        self._timeout_s = timeout_s

    @property
    def name(self) -> str:
        return self._name

    @property
    def abilities(self) -> Abilities:
        return self._abilities

    async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
        """Reply to *messages*. An endpoint that refuses tools is not offered any again."""
        if options.tools and not self._abilities.tools:
            raise NotSupportedError(self._name, TOOL_CALLS)
        settings = self._settings(options)
        has_begun = False
        mend = getincrementaldecoder("utf-16-le")("replace")  # a letter may come in two pieces

        def hear(event: ModelResponseStreamEvent) -> None:
            nonlocal has_begun
            has_begun = True
            say(_text_of(event))

        def say(piece: str, *, is_last: bool = False) -> None:
            piece = mend.decode(piece.encode("utf-16-le", "surrogatepass"), final=is_last)
            if options.on_text and piece:
                options.on_text(piece)

        call = Sending(options.call_id, options.on_send)
        try:
            with sending(call):
                reply = await self._ask(_wired(messages), settings, options, hear)
        except CLIENT_ERRORS as error:
            if call.error is not None:
                raise call.error from None
            told = model_error(
                self._name,
                error,
                secrets=self._secrets,
                asked_for_tools=bool(options.tools),
                has_begun=has_begun,
            )
            if isinstance(told, NotSupportedError) and told.ability == TOOL_CALLS:
                self._abilities = replace(self._abilities, tools=False)
            raise told from error
        say("", is_last=True)
        if options.on_text and reply.finish_reason is None and not (reply.provider_details or {}).get("finish_reason"):
            raise MalformedReplyError(self._name, "the stream ended without saying why")
        return self._completion(reply)

    async def _ask(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings,
        options: Options,
        hear: Callable[[ModelResponseStreamEvent], None],
    ) -> ModelResponse:
        parameters = ModelRequestParameters(
            function_tools=[
                ToolDefinition(
                    name=tool.name, description=tool.description, parameters_json_schema=dict(tool.parameters)
                )
                for tool in options.tools
            ]
        )
        if options.on_text is None:
            return await model_request(
                self._provider_model, messages, model_settings=settings, model_request_parameters=parameters
            )
        async with model_request_stream(
            self._provider_model, messages, model_settings=settings, model_request_parameters=parameters
        ) as stream:
            async for event in stream:
                hear(event)
        return stream.get()

    async def complete(
        self,
        messages: Sequence[Message],  # noqa: ARG002 - the protocol names it
        options: Options,  # noqa: ARG002 - the protocol names it
        *,
        prefix: str,  # noqa: ARG002 - the protocol names it
    ) -> Completion:
        """Chat endpoints begin their replies themselves."""
        raise NotSupportedError(
            self._name, "completions of a given beginning", "Use effort or a thinking budget, or a gguf: model."
        )

    async def log_prob(
        self,
        query: str,  # noqa: ARG002 - the protocol names it
        *,
        given: Sequence[Message],  # noqa: ARG002 - the protocol names it
    ) -> LogProb:
        """Chat endpoints do not score a given text."""
        raise NotSupportedError(self._name, "log-probabilities of a given text", "Use tiny or a gguf: model.")

    async def count_tokens(self, messages: Sequence[Message], *, tools: Sequence[Tool] = ()) -> TokenCount:
        """Estimate, on the high side; and on the low side by a token for every six characters but white space."""
        texts = [message.content for message in messages]
        texts += [json.dumps([tool.name, tool.description, tool.parameters]) for tool in tools]
        return TokenCount(
            tokens=sum(_TOKENS_PER_MESSAGE + estimated_tokens(text) for text in texts),
            exact=False,
            at_least=sum(len(word) for text in texts for word in text.split()) // 6,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http_client is not None:
            await self._http_client.aclose()

    def _settings(self, options: Options) -> ModelSettings:
        settings = ModelSettings(
            max_tokens=options.max_output_tokens,
            max_retries=0,
            timeout=self._timeout_s,
            request_timeout=self._timeout_s,
        )
        thinks = options.effort is not None or options.thinking_tokens is not None
        samples = self._abilities.sampling and (self._samples_while_thinking or not thinks)
        if options.temperature is not None and samples:
            settings["temperature"] = options.temperature
        if options.seed is not None and self._takes_seeds:
            settings["seed"] = options.seed
        if options.stop:
            if "stop_sequences" in self._provider_model.unsupported_settings:
                raise NotSupportedError(self._name, "stop sequences")
            settings["stop_sequences"] = list(options.stop)
        if options.tools:
            settings["tool_choice"] = "required"
        return cast("ModelSettings", {**settings, **self._dials(options)})

    def _completion(self, reply: ModelResponse) -> Completion:
        if not reply.usage.input_tokens and not reply.usage.output_tokens:
            raise MalformedReplyError(self._name, "it reports no token usage, and the ledger needs it")
        return Completion(
            text=well_formed("".join(part.content for part in reply.parts if isinstance(part, TextPart))),
            usage=inclusive_usage(reply.usage),
            model=reply.model_name or self._name,
            finish_reason=_FINISH_REASONS.get(reply.finish_reason or "", "unknown"),
            tool_calls=tuple(
                ToolCall(
                    name=part.tool_name,
                    arguments=_arguments(part.args if isinstance(part.args, str) else part.args_as_json_str()),
                )
                for part in reply.parts
                if isinstance(part, ToolCallPart)
            ),
            thinking=well_formed("".join(part.content for part in reply.parts if isinstance(part, ThinkingPart))),
            request_id=reply.provider_response_id,
        )


def inclusive_usage(wire: RequestUsage) -> Usage:
    """Convert to inclusive totals; pydantic-ai's are, as far as the provider's own are.

    Where a part exceeds its total, the provider counts them apart, and they are added up.
    """
    reasoning = wire.details.get("reasoning_tokens") or getattr(wire, "output_reasoning_tokens", None) or 0
    cached = wire.cache_read_tokens
    return Usage(
        input_tokens=wire.input_tokens + (cached if cached > wire.input_tokens else 0),
        cached_input_tokens=cached,
        output_tokens=wire.output_tokens + (reasoning if reasoning > wire.output_tokens else 0),
        reasoning_tokens=reasoning,
    )


def well_formed(text: str) -> str:
    """*text* with halves of letters joined, and those without their other half replaced: nothing can store them."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def estimated_tokens(text: str) -> int:
    """Guess, on the high side, how many tokens *text* has.

    A token for every three letters of a Latin word or of a part that begins with a capital
    (tokenisers keep common words whole, but not names or code), for every digit and every
    mark; two for a letter of another script; one for every eight white-space characters.
    """
    total = 0
    for piece in _PIECES.findall(text):
        if piece.isspace():
            total += 0 if piece == " " else math.ceil(len(piece) / 8)
        elif piece.isascii():
            total += math.ceil(len(piece) / 3)
        else:
            total += 2
    return total


def _wired(messages: Sequence[Message]) -> list[ModelMessage]:
    """Messages as pydantic-ai sends them: consecutive ones of system and user make one request."""
    wired: list[ModelMessage] = []
    request: list[ModelRequestPart] = []
    for message in messages:
        if message.role == "assistant":
            if request:
                wired.append(ModelRequest(parts=request))
                request = []
            wired.append(ModelResponse(parts=[TextPart(content=message.content)]))
        elif message.role == "system":
            request.append(SystemPromptPart(content=message.content))
        else:
            request.append(UserPromptPart(content=message.content))
    if request:
        wired.append(ModelRequest(parts=request))
    return wired


def _text_of(event: ModelResponseStreamEvent) -> str:
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return event.part.content
    if isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
        return event.delta.content_delta
    return ""


def _arguments(written: str) -> dict[str, Any]:  # Any: what the model wrote
    if not written.strip():
        return {}
    try:
        parsed = json.loads(well_formed(json.dumps(json.loads(written), ensure_ascii=False)))
    except ValueError:
        parsed = None
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {UNREADABLE: well_formed(written)}
