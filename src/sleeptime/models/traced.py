"""Make every model call a span of OpenTelemetry, by its conventions for generative AI.

    chat gpt-5-mini    gen_ai.provider.name, request.*, response.*, usage.*; error.type where it failed

Off unless the program configures an SDK: the API alone records nothing. A span says how many tokens went in and out and
never which: no prompt, no reply. This file does not know what the call is for beyond its phase.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from sleeptime.core.ledger import Phase
from sleeptime.core.messages import Completion, LogProb, Message
from sleeptime.core.usage import Usage
from sleeptime.models.forwarding import Forwarding
from sleeptime.models.protocol import Model, Options

Made = TypeVar("Made", Completion, LogProb)
COMPATIBLE, LOCAL = "openai", "llama_cpp"
"""Whose interface a URL speaks, and what runs a model of this machine."""


class Traced(Forwarding):
    """A model whose calls are spans."""

    def __init__(self, model: Model, *, phase: Phase) -> None:
        super().__init__(model)
        self._phase = phase

    async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
        """Reply to *messages*; one span."""
        return await self._spanned("chat", lambda: self._model.generate(messages, options), options)

    async def complete(self, messages: Sequence[Message], options: Options, *, prefix: str) -> Completion:
        """Go on from *prefix*; one span."""
        call = lambda: self._model.complete(messages, options, prefix=prefix)  # noqa: E731  # named for the line's length
        return await self._spanned("text_completion", call, options)

    async def log_prob(self, query: str, *, given: Sequence[Message]) -> LogProb:
        """Measure; one span."""
        return await self._spanned("text_completion", lambda: self._model.log_prob(query, given=given))

    async def _spanned(
        self, operation: str, call: Callable[[], Awaitable[Made]], options: Options | None = None
    ) -> Made:
        provider, model = _parts(self._model.name)
        tracer = trace.get_tracer("sleeptime")
        with tracer.start_as_current_span(
            f"{operation} {model}", kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
        ) as span:
            span.set_attribute("gen_ai.operation.name", operation)
            span.set_attribute("gen_ai.provider.name", provider)
            span.set_attribute("gen_ai.request.model", model)
            span.set_attribute("sleeptime.phase", self._phase.value)
            if options is not None:
                span.set_attribute("gen_ai.request.max_tokens", options.max_output_tokens)
                if options.temperature is not None:
                    span.set_attribute("gen_ai.request.temperature", options.temperature)
            try:
                made = await call()
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(StatusCode.ERROR)
                raise
            _tell_usage(span, made.usage)
            if isinstance(made, Completion):
                span.set_attribute("gen_ai.response.model", made.model)
                span.set_attribute("gen_ai.response.finish_reasons", [made.finish_reason])
                if made.request_id is not None:
                    span.set_attribute("gen_ai.response.id", made.request_id)
            return made


def _tell_usage(span: Span, usage: Usage) -> None:
    span.set_attribute("gen_ai.usage.input_tokens", usage.input_tokens)
    span.set_attribute("gen_ai.usage.cache_read.input_tokens", usage.cached_input_tokens)
    span.set_attribute("gen_ai.usage.output_tokens", usage.output_tokens)
    span.set_attribute("gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens)


def _parts(name: str) -> tuple[str, str]:
    """Whose model it is, and its name there, without what a URL or a path tells of the place."""
    url, hash_, model = name.partition("#")
    if "://" in url:
        return COMPATIBLE, model if hash_ else "unknown"
    provider, colon, model = name.partition(":")
    if provider == "gguf":
        return LOCAL, model.replace("\\", "/").rpartition("/")[2]
    return (provider, model) if colon else (LOCAL, name)
