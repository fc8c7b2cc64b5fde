"""Between Inspect and the library nothing is lost: usage, reasons, tools, errors and their hints."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ChatMessageUser,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.model import Model as InspectedModel
from inspect_ai.model import StopReason as InspectStopReason
from pydantic_ai.messages import ModelRequest, ToolReturnPart
from pydantic_ai.models import ModelRequestParameters

from fakes.openai_server import FakeServer, Reply, serve
from sleeptime.core.errors import (
    AuthenticationError,
    ContextTooLongError,
    EndpointUnreachableError,
    MalformedReplyError,
    NotSupportedError,
    RateLimitedError,
    RequestRejectedError,
    UpstreamError,
)
from sleeptime.core.messages import FinishReason, Message, Tool
from sleeptime.core.replies import REVISE_NOTES
from sleeptime.core.usage import Usage
from sleeptime.evals.runs.bridge import Inspected, InspectModel, SleeptimeAPI
from sleeptime.models.protocol import Options
from sleeptime.models.retrying import Retrying

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning"),  # Inspect's own
]

ASKED = [
    Message("system", "be brief"),
    Message("user", "how many"),
    Message("assistant", "of what"),
    Message("user", "jars"),
]
FEW = Options(max_output_tokens=50)


def output(
    usage: ModelUsage | None, *, stop_reason: InspectStopReason = "stop", content: Any = "five jars"
) -> ModelOutput:
    message = ChatMessageAssistant(content=content)
    return ModelOutput(
        model="reported", choices=[ChatCompletionChoice(message=message, stop_reason=stop_reason)], usage=usage
    )


def mock(said: ModelOutput, configs: list[GenerateConfig] | None = None) -> InspectedModel:
    """Inspect's own mock model, which says one thing; *configs* is given what it was asked with."""

    def say(_input: Any, _tools: Any, _choice: Any, config: GenerateConfig) -> ModelOutput:
        if configs is not None:
            configs.append(config)
        return said

    return get_model("mockllm/model", memoize=False, custom_outputs=say)


def saying(said: ModelOutput) -> Inspected:
    return Inspected(mock(said), None)


def ours(fake: FakeServer) -> tuple[InspectedModel, SleeptimeAPI]:
    inspected = get_model(f"sleeptime/{fake.name}", memoize=False)
    assert isinstance(inspected.api, SleeptimeAPI)
    return inspected, inspected.api


@asynccontextmanager
async def behind(
    replies: Sequence[Reply | str] | Callable[[dict[str, Any]], Reply], **more: Any
) -> AsyncIterator[tuple[Inspected, FakeServer]]:
    """The library's model of a server on loopback, as Inspect gives it to the library's workers."""
    with serve(replies, **more) as fake:
        inspected, api = ours(fake)
        try:
            yield await Inspected.of(inspected), fake
        finally:
            await api.aclose()


async def test_a_reply_and_its_usage_are_those_of_the_wire_through_both_doors() -> None:
    async with behind([Reply(text="five jars", thinking="two and three"), "the same"]) as (model, fake):
        first = await model.generate(ASKED, FEW)
        second = await model.generate(ASKED, FEW)

    assert (first.text, first.thinking, first.finish_reason) == ("five jars", "two and three", "stop")
    assert first.usage == Usage(
        input_tokens=fake.calls[0].input_tokens, output_tokens=fake.calls[0].output_tokens, reasoning_tokens=3
    )
    assert second.usage == Usage(
        input_tokens=fake.calls[1].input_tokens,
        cached_input_tokens=fake.calls[1].cached_tokens,
        output_tokens=2,
    )
    assert second.usage.cached_input_tokens == second.usage.input_tokens > 0
    assert [(each["role"], each["content"]) for each in fake.calls[0].body["messages"]] == [
        (message.role, message.content) for message in ASKED
    ]


async def test_every_option_reaches_the_wire() -> None:
    options = Options(max_output_tokens=7, temperature=0.3, seed=4, effort="low", stop=("end",))
    async with behind(["five"]) as (model, fake):
        await model.generate(ASKED, options)

    body = fake.calls[0].body
    assert (body["max_tokens"], body["temperature"], body["seed"], body["stop"]) == (7, 0.3, 4, ["end"])
    assert body["reasoning_effort"] == "low"


async def test_what_is_not_asked_for_is_left_to_the_provider() -> None:
    async with behind(["five"]) as (model, fake):
        await model.generate(ASKED, FEW)

    assert not {"temperature", "seed", "stop", "reasoning_effort", "tools"} & set(fake.calls[0].body)


def without_closing(schema: Any) -> Any:
    """*schema* without the `additionalProperties: false` that Inspect adds to every object."""
    if isinstance(schema, list):
        return [without_closing(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: without_closing(each) for name, each in schema.items() if name != "additionalProperties"}


async def test_a_tool_is_offered_and_called_with_what_the_model_wrote() -> None:
    arguments = {"add": [{"kind": "plan", "text": "Ü"}], "done": True}
    call = ("revise_notes", json.dumps(arguments))
    async with behind([Reply(tool_calls=(call, ("revise_notes", "[1, 2")))]) as (model, fake):
        completion = await model.generate(ASKED, Options(max_output_tokens=50, tools=(REVISE_NOTES,)))

    first, second = completion.tool_calls
    assert (first.name, dict(first.arguments)) == ("revise_notes", arguments)
    assert dict(second.arguments) == {"__unreadable__": "[1, 2"}
    assert completion.finish_reason == "tool_calls"
    (offered,) = fake.calls[0].body["tools"]
    assert fake.calls[0].body["tool_choice"] == "required"
    schema = offered["function"]["parameters"]
    assert without_closing(schema) == REVISE_NOTES.parameters


async def test_an_endpoint_that_turns_out_to_have_no_tools_is_known_to_have_none() -> None:
    async with behind(["five"], refuses_tools=True) as (model, fake):
        assert model.abilities.tools
        with pytest.raises(NotSupportedError, match="cannot give tool calls"):
            await model.generate(ASKED, Options(max_output_tokens=50, tools=(REVISE_NOTES,)))

        assert not model.abilities.tools, "or a sleep would not go on in plain text"
        assert (await model.generate(ASKED, FEW)).text
        assert len(fake.calls) == 2


async def test_a_text_that_is_listened_to_arrives() -> None:
    heard = list[str]()
    async with behind(["five jars"]) as (model, _):
        completion = await model.generate(ASKED, Options(max_output_tokens=50, on_text=heard.append))

    assert "".join(heard) == completion.text == "five jars"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(status=401, error="wrong"), AuthenticationError),
        (Reply(status=400, error="not today"), RequestRejectedError),
        (Reply(status=400, error="prompt is too long: 900 tokens > 800 maximum"), ContextTooLongError),
        (Reply(status=503, error="down"), UpstreamError),
        (Reply(fault="truncated", text="five jars"), MalformedReplyError),
        (Reply(fault="no usage", text="five jars"), MalformedReplyError),
    ],
)
async def test_an_error_keeps_its_kind_and_is_met_once(reply: Reply, kind: type[Exception]) -> None:
    async with behind([reply, reply, reply]) as (model, fake):
        with pytest.raises(kind) as caught:
            await model.generate(ASKED, FEW)

        assert type(caught.value) is kind
        assert len(fake.calls) == 1, "retries are the library's, not Inspect's"


async def test_a_429_can_be_tried_again_when_it_asks_to_be() -> None:
    slept = list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await anyio.lowlevel.checkpoint()

    async with behind([Reply(status=429, retry_after_s=7), "five jars"]) as (model, fake):
        completion = await Retrying(model, sleep=sleep, jitter=lambda: 0.0).generate(ASKED, FEW)

        assert completion.text == "five jars"
        assert slept == [7.0]
        assert len(fake.calls) == 2


async def test_a_429_says_how_long_to_wait_outside() -> None:
    async with behind([Reply(status=429, retry_after_s=7)]) as (model, _):
        with pytest.raises(RateLimitedError) as caught:
            await model.generate(ASKED, FEW)

    assert caught.value.retryable
    assert caught.value.retry_after_s == 7


async def test_a_server_that_is_gone_was_not_sent_to() -> None:
    async with behind(["five"]) as (model, fake):
        fake.url = ""
    with pytest.raises(EndpointUnreachableError) as caught:
        await model.generate(ASKED, FEW)

    assert not caught.value.was_sent


async def test_what_inspect_has_no_word_for_is_asked_of_the_model_behind() -> None:
    tool = Tool(name="t", description="d", parameters={"type": "object"})
    async with behind([]) as (model, fake):
        counted = await model.count_tokens(ASKED, tools=[tool])
        with pytest.raises(NotSupportedError):
            await model.complete(ASKED, FEW, prefix="The")
        with pytest.raises(NotSupportedError):
            await model.log_prob("jars", given=ASKED)

        assert counted.tokens > len(ASKED)
        assert fake.calls == []


async def test_a_model_that_is_closed_opens_anew() -> None:
    with serve(["five", "six"]) as fake:
        inspected, api = ours(fake)
        assert (await (await Inspected.of(inspected)).generate(ASKED, FEW)).text == "five"
        await api.aclose()
        await api.aclose()

        assert (await (await Inspected.of(inspected)).generate(ASKED, FEW)).text == "six"
        await api.aclose()


PARTS = st.integers(0, 10**6)


@settings(max_examples=25, deadline=None)
@given(fresh=PARTS, cached=PARTS, written=PARTS, wrote=PARTS, reasoned=PARTS)
def test_token_totals_are_inclusive_whatever_the_provider_counts(
    fresh: int, cached: int, written: int, wrote: int, reasoned: int
) -> None:
    usage = ModelUsage(
        input_tokens=fresh,
        input_tokens_cache_read=cached,
        input_tokens_cache_write=written,
        output_tokens=wrote + reasoned,
        reasoning_tokens=reasoned,
    )
    if not fresh + cached + written + wrote + reasoned:
        return

    told = anyio.run(saying(output(usage)).generate, ASKED, FEW).usage

    assert told == Usage(
        input_tokens=fresh + cached + written,
        cached_input_tokens=cached,
        output_tokens=wrote + reasoned,
        reasoning_tokens=reasoned,
    )


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("stop", "stop"),
        ("max_tokens", "length"),
        ("model_length", "length"),
        ("tool_calls", "tool_calls"),
        ("content_filter", "content_filter"),
        ("unknown", "unknown"),
    ],
)
async def test_why_a_reply_ended_is_told_in_our_words(told: InspectStopReason, reason: FinishReason) -> None:
    completion = await saying(output(ModelUsage(input_tokens=1, output_tokens=2), stop_reason=told)).generate(
        ASKED, FEW
    )

    assert completion.finish_reason == reason


async def test_a_reply_that_is_cut_off_says_so_through_both_doors() -> None:
    async with behind(["one two three four"]) as (model, _):
        completion = await model.generate(ASKED, Options(max_output_tokens=3))

    assert (completion.text, completion.finish_reason) == ("one two three", "length")


async def test_thinking_is_no_part_of_the_text() -> None:
    content = [ContentReasoning(reasoning="two and three"), ContentText(text="five")]

    completion = await saying(output(ModelUsage(input_tokens=1, output_tokens=2), content=content)).generate(ASKED, FEW)

    assert (completion.text, completion.thinking, completion.model) == ("five", "two and three", "reported")


async def test_a_thinking_budget_reaches_inspect() -> None:
    configs = list[GenerateConfig]()
    model = Inspected(mock(output(ModelUsage(input_tokens=1, output_tokens=2)), configs), None)

    await model.generate(ASKED, Options(max_output_tokens=9, thinking_tokens=5))

    assert [(each.max_tokens, each.reasoning_tokens) for each in configs] == [(9, 5)]


async def test_a_message_of_a_kind_that_is_not_passed_on_is_refused() -> None:
    model = InspectModel(mock(output(None)))
    returned = ModelRequest(parts=[ToolReturnPart(tool_name="t", content="x", tool_call_id="1")])

    with pytest.raises(NotSupportedError, match="tool-return"):
        await model.request([returned], None, ModelRequestParameters())


async def test_inspect_asks_our_model_as_it_asks_any_other() -> None:
    with serve(["five jars"]) as fake:
        inspected, api = ours(fake)
        said = await inspected.generate([ChatMessageUser(content="how many")])
        await api.aclose()

    assert said.completion == "five jars"
    assert said.usage is not None
    assert said.usage.input_tokens + (said.usage.input_tokens_cache_read or 0) == fake.calls[0].input_tokens
