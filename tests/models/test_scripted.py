"""The scripted model keeps its own rules."""

from __future__ import annotations

import math

import pytest

from sleeptime.core.errors import MalformedReplyError, NotSupportedError, UpstreamError
from sleeptime.core.messages import Completion, Message, Tool
from sleeptime.core.usage import Usage
from sleeptime.models import ScriptedModel
from sleeptime.models.protocol import Abilities, Options

PROMPT = [Message("system", "you are"), Message("user", "one two three")]
TOOL = Tool(name="t", description="d", parameters={})


def cap(tokens: int, **more: object) -> Options:
    return Options(max_output_tokens=tokens, **more)  # type: ignore[arg-type]  # passed through by name


@pytest.mark.anyio
async def test_replies_come_in_order_and_calls_are_kept() -> None:
    completion = Completion(text="whole", usage=Usage(output_tokens=99), model="other")
    model = ScriptedModel(["a b", completion, lambda messages, _options: messages[-1].content.upper()])

    texts = [(await model.generate(PROMPT, cap(10))).text for _ in range(3)]

    assert texts == ["a b", "whole", "ONE TWO THREE"]
    assert [call.messages for call in model.calls] == [tuple(PROMPT)] * 3


@pytest.mark.anyio
async def test_the_cap_cuts_after_so_many_words() -> None:
    completion = await ScriptedModel(["  one two\n three four"]).generate(PROMPT, cap(3))

    assert completion.text == "  one two\n three"
    assert completion.finish_reason == "length"
    assert completion.usage == Usage(input_tokens=5, output_tokens=3)


@pytest.mark.anyio
async def test_a_reply_that_fits_is_left_as_it_is() -> None:
    completion = await ScriptedModel(["one two three \n"]).generate(PROMPT, cap(3))

    assert (completion.text, completion.finish_reason) == ("one two three \n", "stop")


@pytest.mark.anyio
@pytest.mark.parametrize("text", ["", " ", "one", " one  two \n", "one two"])
async def test_streamed_pieces_join_to_the_text(text: str) -> None:
    pieces: list[str] = []
    await ScriptedModel([text]).generate(PROMPT, cap(9, on_text=pieces.append))

    assert "".join(pieces) == text


@pytest.mark.anyio
async def test_an_exception_is_raised_and_the_script_goes_on() -> None:
    model = ScriptedModel([UpstreamError("scripted", 503), "fine"])

    with pytest.raises(UpstreamError):
        await model.generate(PROMPT, cap(3))
    assert (await model.generate(PROMPT, cap(3))).text == "fine"


@pytest.mark.anyio
async def test_a_script_that_has_ended_says_so() -> None:
    model = ScriptedModel(["only"])
    await model.generate(PROMPT, cap(3))

    with pytest.raises(MalformedReplyError, match="its script ends after 1 replies"):
        await model.generate(PROMPT, cap(3))


@pytest.mark.anyio
async def test_what_it_is_not_told_to_support_is_refused() -> None:
    model = ScriptedModel(["x"], abilities=Abilities(tools=False))

    with pytest.raises(NotSupportedError):
        await model.generate(PROMPT, cap(3, tools=(TOOL,)))
    with pytest.raises(NotSupportedError):
        await model.complete(PROMPT, cap(3), prefix="so")
    with pytest.raises(NotSupportedError):
        await model.log_prob("x", given=PROMPT)
    assert model.calls == []


@pytest.mark.anyio
async def test_a_score_follows_the_rule() -> None:
    model = ScriptedModel([], abilities=Abilities(log_probs=True))

    scored = await model.log_prob("two four", given=PROMPT)

    assert scored.total == pytest.approx(math.log(1 / 2) + math.log(1 / 100))
    assert scored.tokens == 2
