"""What every model owes its callers, whichever it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from fakes.openai_server import FakeServer, Reply, serve
from sleeptime.core.errors import NotSupportedError
from sleeptime.core.messages import Completion, Message, Tool
from sleeptime.models import ScriptedModel, open_model
from sleeptime.models.names import TINY_PATH
from sleeptime.models.protocol import Abilities, Model, Options

PROMPT = [Message("system", "You are terse."), Message("user", "B2: A1 + 3 . A1: 4 . what is B2 ?")]
TALK = "one two three four five six seven eight nine ten"
PICK = Tool(
    name="pick",
    description="Pick a number.",
    parameters={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
)


@dataclass
class Subject:
    """A model, and the wire it speaks on where that can be seen."""

    model: Model
    fake: FakeServer | None = None


def talk(body: dict[str, Any]) -> Reply:
    return Reply(text="", tool_calls=(("pick", '{"n": 7}'),)) if body.get("tools") else Reply(text=TALK)


KINDS = [
    "scripted",
    "remote",
    "openai",
    "gguf",
    pytest.param("tiny", marks=pytest.mark.skipif(not TINY_PATH.exists(), reason="no tiny model in this checkout")),
]


@pytest.fixture(params=KINDS)
async def subject(request: pytest.FixtureRequest, random_gguf: Path) -> AsyncIterator[Subject]:
    async with AsyncExitStack() as stack:
        if request.param == "scripted":
            abilities = Abilities(tools=False, completes=True, log_probs=True, context_window=1000)
            made = Subject(ScriptedModel(lambda _messages, _options: TALK, abilities=abilities))
        elif request.param in ("remote", "openai"):
            fake = stack.enter_context(serve(talk))
            name = fake.name if request.param == "remote" else "openai:gpt-4o-mini"
            environ = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": fake.url}
            made = Subject(await open_model(name, environ=environ), fake)
        else:
            name = "tiny" if request.param == "tiny" else f"gguf:{random_gguf}"
            made = Subject(await open_model(name, environ={}))
        try:
            yield made
        finally:
            await made.model.aclose()


async def generate(model: Model, **options: Any) -> Completion:
    return await model.generate(PROMPT, Options(**{"max_output_tokens": 6, "temperature": 0.0, **options}))


@pytest.mark.anyio
async def test_a_reply_keeps_its_cap_and_reports_what_it_took(subject: Subject) -> None:
    completion = await generate(subject.model)

    assert 1 <= completion.usage.output_tokens <= 6
    assert completion.usage.input_tokens > 0
    assert completion.finish_reason in ("stop", "length")
    assert completion.finish_reason == "stop" or completion.usage.output_tokens == 6
    assert completion.model


@pytest.mark.anyio
async def test_a_model_that_tells_when_a_call_goes_out_tells_it_once_and_before(subject: Subject) -> None:
    told: list[int] = []

    async def on_send() -> None:
        told.append(len(subject.fake.calls) if subject.fake else 0)

    await generate(subject.model, on_send=on_send)

    assert subject.model.abilities.tells_sending is (subject.fake is not None)
    assert told == ([0] if subject.model.abilities.tells_sending else [])


@pytest.mark.anyio
async def test_streaming_gives_the_same_completion_and_usage(subject: Subject) -> None:
    pieces: list[str] = []
    whole = await generate(subject.model)
    streamed = await generate(subject.model, on_text=pieces.append)

    assert streamed.text == whole.text == "".join(pieces)
    assert streamed.finish_reason == whole.finish_reason
    assert streamed.usage.input_tokens == whole.usage.input_tokens
    assert streamed.usage.output_tokens == whole.usage.output_tokens


@pytest.mark.anyio
async def test_the_greedy_reply_is_always_the_same_also_in_parallel(subject: Subject) -> None:
    first = await generate(subject.model)
    texts: list[str] = []

    async def again() -> None:
        texts.append((await generate(subject.model)).text)

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(again)

    assert texts == [first.text] * 8


@pytest.mark.anyio
async def test_an_exact_count_is_what_the_call_is_billed(subject: Subject) -> None:
    counted = await subject.model.count_tokens(PROMPT)
    completion = await generate(subject.model)

    if counted.exact:
        assert counted.tokens == completion.usage.input_tokens
    else:
        assert counted.tokens >= completion.usage.input_tokens


@pytest.mark.anyio
async def test_what_is_on_the_wire_is_in_the_usage(subject: Subject) -> None:
    if subject.fake is None:
        pytest.skip("no wire to look at")
    made = [
        await generate(subject.model),
        await generate(subject.model, on_text=lambda _piece: None),
        await generate(subject.model, tools=(PICK,)),
    ]

    for completion, exchange in zip(made, subject.fake.calls, strict=True):
        assert exchange.usage is not None
        assert completion.usage.input_tokens == exchange.input_tokens
        assert completion.usage.output_tokens == exchange.output_tokens
        assert completion.usage.cached_input_tokens == exchange.cached_tokens
    assert made[1].usage.cached_input_tokens == made[1].usage.input_tokens


@pytest.mark.anyio
async def test_tools_are_called_or_refused_in_words(subject: Subject) -> None:
    if subject.model.abilities.tools:
        completion = await generate(subject.model, tools=(PICK,))
        assert [(call.name, call.arguments) for call in completion.tool_calls] == [("pick", {"n": 7})]
    else:
        with pytest.raises(NotSupportedError, match="tool calls"):
            await generate(subject.model, tools=(PICK,))


@pytest.mark.anyio
async def test_a_reply_can_be_begun_or_it_is_refused_in_words(subject: Subject) -> None:
    options = Options(max_output_tokens=6, temperature=0.0)
    if subject.model.abilities.completes:
        completion = await subject.model.complete(PROMPT, options, prefix="the answer")
        counted = await subject.model.count_tokens(PROMPT)
        assert 1 <= completion.usage.output_tokens <= 6
        assert completion.usage.input_tokens > counted.tokens
        assert not completion.text.startswith("the answer")
    else:
        with pytest.raises(NotSupportedError):
            await subject.model.complete(PROMPT, options, prefix="the answer")


@pytest.mark.anyio
async def test_a_begun_reply_streams_the_same_text(subject: Subject) -> None:
    if not subject.model.abilities.completes:
        pytest.skip("it does not complete")
    pieces: list[str] = []
    whole = await subject.model.complete(PROMPT, Options(max_output_tokens=6, temperature=0.0), prefix="so")
    streamed = await subject.model.complete(
        PROMPT, Options(max_output_tokens=6, temperature=0.0, on_text=pieces.append), prefix="so"
    )

    assert streamed.text == whole.text == "".join(pieces)
    assert streamed.usage.output_tokens == whole.usage.output_tokens


@pytest.mark.anyio
async def test_a_query_is_scored_or_it_is_refused_in_words(subject: Subject) -> None:
    if subject.model.abilities.log_probs:
        scored = await subject.model.log_prob("what is A1 ?", given=PROMPT[1:])
        assert scored.tokens >= 1
        assert scored.total < 0
        assert scored.usage.input_tokens > 0
        assert (await subject.model.log_prob("", given=PROMPT[1:])).total == 0
    else:
        with pytest.raises(NotSupportedError):
            await subject.model.log_prob("what is A1 ?", given=PROMPT[1:])


@pytest.mark.anyio
async def test_stop_sequences_end_the_reply(subject: Subject) -> None:
    whole = await generate(subject.model)
    if len(whole.text) < 4:
        pytest.skip("its reply is too short to be stopped")
    if subject.fake is not None and subject.fake.calls[-1].path.endswith("/responses"):
        with pytest.raises(NotSupportedError, match="stop sequences"):
            await generate(subject.model, stop=("x",))
        return
    stopped = await generate(subject.model, stop=(whole.text[2:4],))

    if subject.fake is None:
        assert stopped.text == whole.text.partition(whole.text[2:4])[0]
    else:
        assert subject.fake.calls[-1].body["stop"] == [whole.text[2:4]]


@pytest.mark.anyio
async def test_a_model_can_be_closed_twice(subject: Subject) -> None:
    await subject.model.aclose()
    await subject.model.aclose()
