"""Between Inspect and the library: what is measured is what users run.

    Sleeper, Answerer → Inspected.generate → InspectModel → Inspect's get_model() → wire

`InspectModel` is a pydantic-ai model over an Inspect one, so that the library's adapter
for pydantic-ai models does the rest. The other way, `sleeptime/NAME` gives Inspect every
model the library knows by name. Inspect's `input_tokens` exclude cached ones, ours do not.

This file knows nothing about experiments or what is asked.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import anyio
from inspect_ai.hooks import Hooks, RunEnd, hooks
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.model import Model as InspectedModel
from inspect_ai.model import StopReason as InspectStopReason
from inspect_ai.tool import ToolCall as InspectToolCall
from inspect_ai.tool import ToolChoice, ToolInfo, ToolParams
from pydantic_ai.messages import (
    FinishReason as WireFinishReason,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models import Model as ProviderModel
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

from sleeptime.core.errors import NotSupportedError
from sleeptime.core.messages import Completion, FinishReason, LogProb, Message, TokenCount, Tool
from sleeptime.models import open_model
from sleeptime.models.protocol import Abilities, Model, Options
from sleeptime.models.remote import RemoteModel

API = "sleeptime"
CONNECTIONS = 16
_STOP_REASONS: dict[FinishReason, InspectStopReason] = {
    "stop": "stop",
    "length": "max_tokens",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "unknown": "unknown",
}
_FINISH_REASONS: dict[InspectStopReason, WireFinishReason] = {
    "stop": "stop",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_call",
    "content_filter": "content_filter",
}


class SleeptimeAPI(ModelAPI):
    """Inspect's door to the library's models: `sleeptime/tiny`, `sleeptime/openai:gpt-5-mini` and all others.

    The model is opened at the first call and closed when Inspect's run ends, within the event loop that
    opened it. Retries are the library's.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - as Inspect's own providers
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self._opening = anyio.Lock()
        self._model: Model | None = None

    async def opened(self) -> Model:
        """The library's model. Raises ModelError where there is none of this name."""
        async with self._opening:
            if self._model is None:
                self._model = await open_model(self.model_name, environ=os.environ)
                _opened.add(self)
            return self._model

    async def generate(
        self,
        input: list[ChatMessage],  # noqa: A002 - Inspect names it
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Reply through the library's own adapter."""
        model = await self.opened()
        options = Options(
            max_output_tokens=config.max_tokens or self.max_tokens() or 1024,
            temperature=config.temperature,
            seed=config.seed,
            effort=config.reasoning_effort,
            thinking_tokens=config.reasoning_tokens,
            tools=tuple(
                Tool(
                    name=tool.name,
                    description=tool.description,
                    parameters=tool.parameters.model_dump(exclude_none=True),
                )
                for tool in tools
                if tool_choice != "none"
            ),
            stop=tuple(config.stop_seqs or ()),
        )
        messages = [Message("user" if each.role == "tool" else each.role, each.text) for each in input]
        return _output(await model.generate(messages, options))

    async def aclose(self) -> None:
        """Close the model; a call after that opens it anew."""
        _opened.discard(self)
        model, self._model, self._opening = self._model, None, anyio.Lock()
        if model is not None:
            await model.aclose()

    def max_connections(self) -> int:
        return CONNECTIONS

    def connection_key(self) -> str:
        return self.model_name


_opened: set[SleeptimeAPI] = set()


@hooks(name="sleeptime_models", description="Closes the library's models, and the servers of local ones.")  # pyright: ignore[reportUntypedClassDecorator]  # Inspect's own
class ClosesModels(Hooks):
    """Inspect opens models and never closes them: this is the end of a run that they are closed at."""

    async def on_run_end(self, data: RunEnd) -> None:  # noqa: ARG002 - Inspect names it
        """Close every model that this run opened."""
        for api in tuple(_opened):
            await api.aclose()


@modelapi(name=API)
def sleeptime_api() -> type[ModelAPI]:
    """Register the door under its name."""
    return SleeptimeAPI


class InspectModel(ProviderModel[Any]):  # Any: Inspect's client is not of pydantic-ai's making
    """An Inspect model as pydantic-ai sees it."""

    def __init__(self, inspected: InspectedModel) -> None:
        super().__init__()
        self._inspected = inspected

    @property
    def model_name(self) -> str:
        return str(self._inspected)

    @property
    def system(self) -> str:
        return "inspect"

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Ask Inspect; usage is converted to inclusive totals."""
        settings = cast("dict[str, Any]", model_settings or {})  # Any: settings of all kinds
        config = GenerateConfig(
            max_tokens=settings.get("max_tokens"),
            temperature=settings.get("temperature"),
            seed=settings.get("seed"),
            stop_seqs=settings.get("stop_sequences"),
            reasoning_effort=settings.get("effort"),
            reasoning_tokens=settings.get("thinking_tokens"),
        )
        tools = [
            ToolInfo(
                name=tool.name,
                description=tool.description or "",
                parameters=ToolParams.model_validate(tool.parameters_json_schema),
            )
            for tool in model_request_parameters.function_tools
        ]
        choice: ToolChoice = "any" if settings.get("tool_choice") == "required" else "auto"
        output = await self._inspected.generate(
            [message for each in messages for message in _messages(each)],
            tools=tools,
            tool_choice=choice if tools else "none",
            config=config,
        )
        return _response(output)


class Inspected:
    """An Inspect model as the library's workers see it.

    What Inspect has no word for (exact token counts, log-probabilities, a reply that goes
    on from a given beginning) goes straight to the library's model behind `sleeptime/NAME`.
    """

    def __init__(self, inspected: InspectedModel, behind: Model | None) -> None:
        self._behind = behind
        self._remote = RemoteModel(
            behind.name if behind else str(inspected),
            InspectModel(inspected),
            http_client=None,
            dials=lambda options: cast(
                "ModelSettings", {"effort": options.effort, "thinking_tokens": options.thinking_tokens}
            ),
            abilities=behind.abilities if behind else Abilities(),
        )

    @classmethod
    async def of(cls, inspected: InspectedModel) -> Inspected:
        """Wrap a model that Inspect gave. Raises ModelError where the library cannot open what is behind it."""
        api = inspected.api
        return cls(inspected, await api.opened() if isinstance(api, SleeptimeAPI) else None)

    @property
    def name(self) -> str:
        return self._remote.name

    @property
    def abilities(self) -> Abilities:
        """Those of the model behind, which may turn out to have no tools when it is first offered some."""
        return (self._behind or self._remote).abilities

    async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
        """Reply to *messages* through Inspect, which has no streams: the text arrives in one piece."""
        completion = await self._remote.generate(messages, replace(options, on_text=None))
        if options.on_text and completion.text:
            options.on_text(completion.text)
        return completion

    async def complete(self, messages: Sequence[Message], options: Options, *, prefix: str) -> Completion:
        """Go on from *prefix*."""
        return await (self._behind or self._remote).complete(messages, options, prefix=prefix)

    async def log_prob(self, query: str, *, given: Sequence[Message]) -> LogProb:
        """Measure how probable *query* is."""
        return await (self._behind or self._remote).log_prob(query, given=given)

    async def count_tokens(self, messages: Sequence[Message], *, tools: Sequence[Tool] = ()) -> TokenCount:
        return await (self._behind or self._remote).count_tokens(messages, tools=tools)

    async def aclose(self) -> None:
        """Do nothing: the model is Inspect's to close."""


def _messages(message: ModelMessage) -> list[ChatMessage]:
    if isinstance(message, ModelResponse):
        return [ChatMessageAssistant(content=part.content) for part in message.parts if isinstance(part, TextPart)]
    made: list[ChatMessage] = []
    for part in message.parts:
        if isinstance(part, SystemPromptPart):
            made.append(ChatMessageSystem(content=part.content))
        elif isinstance(part, UserPromptPart) and isinstance(part.content, str):
            made.append(ChatMessageUser(content=part.content))
        else:
            raise NotSupportedError("inspect", f"a message part of kind {part.part_kind}")
    return made


def _output(completion: Completion) -> ModelOutput:
    content: list[Any] = [ContentReasoning(reasoning=completion.thinking)] if completion.thinking else []  # Any: parts
    content.append(ContentText(text=completion.text))
    usage = completion.usage
    message = ChatMessageAssistant(
        content=completion.text if len(content) == 1 else content,
        tool_calls=[
            InspectToolCall(id=f"call-{index}", function=call.name, arguments=dict(call.arguments))
            for index, call in enumerate(completion.tool_calls)
        ]
        or None,
        model=completion.model,
        source="generate",
    )
    return ModelOutput(
        model=completion.model,
        choices=[ChatCompletionChoice(message=message, stop_reason=_STOP_REASONS[completion.finish_reason])],
        usage=ModelUsage(
            input_tokens=usage.input_tokens - usage.cached_input_tokens,
            input_tokens_cache_read=usage.cached_input_tokens,
            output_tokens=usage.output_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            total_tokens=usage.total_tokens,
        ),
    )


def _response(output: ModelOutput) -> ModelResponse:
    message = output.message
    parts: list[ModelResponsePart] = []
    for content in [ContentText(text=message.content)] if isinstance(message.content, str) else message.content:
        if isinstance(content, ContentReasoning):
            parts.append(ThinkingPart(content=content.reasoning))
        elif isinstance(content, ContentText):
            parts.append(TextPart(content=content.text))
    parts += [ToolCallPart(tool_name=call.function, args=dict(call.arguments)) for call in message.tool_calls or []]
    usage = output.usage or ModelUsage()
    cached = usage.input_tokens_cache_read or 0
    return ModelResponse(
        parts=parts,
        usage=RequestUsage(
            input_tokens=usage.input_tokens + cached + (usage.input_tokens_cache_write or 0),
            cache_read_tokens=cached,
            output_tokens=usage.output_tokens,
            details={"reasoning_tokens": usage.reasoning_tokens or 0},
        ),
        model_name=output.model,
        finish_reason=_FINISH_REASONS.get(output.stop_reason),
    )
