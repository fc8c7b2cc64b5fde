"""Remote models: what goes over the wire, and what each failure becomes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from pydantic_ai.profiles.anthropic import anthropic_model_profile
from pydantic_ai.usage import RequestUsage

from fakes.openai_server import FakeServer, Reply, serve
from sleeptime.core.budget import Budget
from sleeptime.core.context import Context
from sleeptime.core.errors import (
    AuthenticationError,
    ContextTooLongError,
    EndpointUnreachableError,
    MalformedReplyError,
    MissingKeyError,
    ModelError,
    NotSupportedError,
    RateLimitedError,
    RequestRejectedError,
    UnknownModelError,
    UpstreamError,
)
from sleeptime.core.messages import UNREADABLE, Completion, Message, Tool
from sleeptime.core.plan import Plan
from sleeptime.models import open_model
from sleeptime.models.openai_compatible import endpoint_model
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.providers import abilities, dials
from sleeptime.models.remote import estimated_tokens, inclusive_usage
from sleeptime.models.window import room_for_reply
from sleeptime.sleeper import Sleeper

PROMPT = [Message("system", "be terse"), Message("user", "how many?")]
NOTE = Tool(name="note", description="Note it.", parameters={"type": "object", "properties": {}})
SECRET = "sk-very-secret-0123456789"  # noqa: S105 - it opens nothing


async def ask(fake: FakeServer, environ: dict[str, str] | None = None, **options: Any) -> Completion:
    model = await open_model(fake.name, environ=environ or {})
    try:
        return await model.generate(PROMPT, Options(**{"max_output_tokens": 50, **options}))
    finally:
        await model.aclose()


async def failure(reply: Reply, *, streamed: bool, **options: Any) -> ModelError:
    heard: list[str] = []
    with serve([reply]) as fake, pytest.raises(ModelError) as caught:
        await ask(fake, on_text=heard.append if streamed else None, **options)
    assert len(fake.calls) == 1, "retries belong to Retrying alone"
    return caught.value


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("reply", "expected", "retryable"),
    [
        (Reply(status=401), AuthenticationError, False),
        (Reply(status=403), AuthenticationError, False),
        (Reply(status=404, error="no such model"), UnknownModelError, False),
        (Reply(status=400, error="bad field"), RequestRejectedError, False),
        (Reply(status=413, error="too large"), RequestRejectedError, False),
        (Reply(status=429, retry_after_s=7), RateLimitedError, True),
        (Reply(status=500), UpstreamError, True),
        (Reply(status=503, retry_after_s=3), UpstreamError, True),
        (Reply(status=504), EndpointUnreachableError, True),
        (Reply(text="one two three four", fault="truncated"), MalformedReplyError, False),
        (Reply(text="one two three four", fault="malformed"), MalformedReplyError, False),
        (Reply(text="one two three four", fault="no usage"), MalformedReplyError, False),
    ],
)
async def test_each_failure_has_its_error(
    reply: Reply, expected: type[ModelError], retryable: bool, streamed: bool
) -> None:
    error = await failure(reply, streamed=streamed)

    assert type(error) is expected
    assert error.retryable is retryable
    assert error.retry_after_s == reply.retry_after_s
    assert "\n" not in str(error)


@pytest.mark.anyio
async def test_a_connection_closed_in_the_middle_of_a_reply_is_a_malformed_reply() -> None:
    error = await failure(Reply(text="a b c d", fault="disconnect"), streamed=True)

    assert type(error) is MalformedReplyError
    assert "broke off" in str(error)


@pytest.mark.anyio
async def test_nobody_listening_is_told_as_such() -> None:
    model = await open_model("http://127.0.0.1:9/v1#x", environ={})

    with pytest.raises(EndpointUnreachableError, match="Connection refused") as caught:
        await model.generate(PROMPT, Options(max_output_tokens=5))
    await model.aclose()
    assert not caught.value.was_sent


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_endpoint_that_never_replies_is_given_up(streamed: bool) -> None:
    with serve([Reply(fault="hang")]) as fake:
        model = endpoint_model(fake.name, fake.url, "fake", timeout_s=0.3)
        began = time.monotonic()
        with pytest.raises(EndpointUnreachableError, match="in time") as caught:
            await model.generate(
                PROMPT, Options(max_output_tokens=5, on_text=(lambda _piece: None) if streamed else None)
            )
        await model.aclose()

    assert caught.value.was_sent
    assert time.monotonic() - began < 5


@pytest.mark.anyio
async def test_a_cancelled_call_ends_at_once() -> None:
    with serve([Reply(fault="hang")]) as fake:
        model = await open_model(fake.name, environ={})
        with anyio.move_on_after(0.3) as scope:
            await model.generate(PROMPT, Options(max_output_tokens=5))
        await model.aclose()

    assert scope.cancelled_caught


@pytest.mark.anyio
@pytest.mark.parametrize("status", [400, 422, 500])
async def test_an_endpoint_without_tools_is_told_apart(status: int) -> None:
    error = await failure(
        Reply(status=status, error="tools are not supported by this model"), streamed=False, tools=(NOTE,)
    )

    assert isinstance(error, NotSupportedError)
    assert error.ability == "tool calls"


@pytest.mark.anyio
async def test_a_500_without_tools_in_the_request_is_no_matter_of_tools() -> None:
    assert isinstance(await failure(Reply(status=500, error="tool shed on fire"), streamed=False), UpstreamError)


@pytest.mark.anyio
async def test_an_endpoint_that_refuses_tools_is_offered_none_again() -> None:
    with serve(refuses_tools=True) as fake:
        model = await open_model(fake.name, environ={})
        assert model.abilities.tools
        for _ in range(2):
            with pytest.raises(NotSupportedError, match="tool calls"):
                await model.generate(PROMPT, Options(max_output_tokens=5, tools=(NOTE,)))
        await model.aclose()

    assert not model.abilities.tools
    assert len(fake.calls) == 1


@pytest.mark.anyio
async def test_a_sleep_goes_on_in_plain_text_where_the_endpoint_refuses_tools() -> None:
    context = Context(
        id="c", name="boxes", text="Seven boxes. Five more.", created_at=datetime(2026, 11, 1, tzinfo=UTC)
    )
    plan = Plan(samples=2, budget=Budget(max_rounds=1))
    with serve(lambda _body: Reply.of("<notes> Twelve boxes in all. </notes>"), refuses_tools=True) as fake:
        model = await open_model(fake.name, environ={})
        learned = await Sleeper(model, None, time.monotonic, lambda: datetime.now(UTC)).sleep(context, plan)
        await model.aclose()

    assert [note.text for note in learned.notes] == ["Twelve boxes in all."] * 2
    assert learned.failed_rounds == 0
    assert [call.status for call in fake.calls].count(200) == 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        (
            (
                "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8000 in the"
                " messages, 1000 in the completion). Please reduce the length of the messages or completion."
            ),
            (8000, 1000, 8192),
        ),
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
            (9000, 1, 8192),
        ),
        (
            (
                "'max_tokens' or 'max_completion_tokens' is too large: 500. This model's maximum context length is 4096"
                " tokens and your request has 4000 input tokens (500 > 4096 - 4000)."
            ),
            (4000, 1, 4096),
        ),
        ("prompt is too long: 208310 tokens > 200000 maximum", (208310, 1, 200000)),
        ("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000", (190000, 20000, 200000)),
        (
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            (1200000, 1, 1048576),
        ),
    ],
)
async def test_a_provider_that_finds_the_prompt_too_long_is_quoted(said: str, numbers: tuple[int, int, int]) -> None:
    with serve([Reply(status=400, error=said)]) as fake, pytest.raises(ContextTooLongError) as caught:
        await ask(fake, tools=(NOTE,))

    assert (caught.value.tokens, caught.value.reserve, caught.value.window) == numbers


@pytest.mark.anyio
async def test_a_prompt_too_long_by_no_stated_number_is_a_rejected_request() -> None:
    error = await failure(
        Reply(status=400, error="Your input exceeds the context window of this model."), streamed=False
    )

    assert isinstance(error, RequestRejectedError)


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("said", "kept"),
    [("a\ud800b c\udfff", "a\ufffdb c\ufffd"), ("see \ud83d\ude00 x", "see 😀 x"), ("x\ud83d", "x\ufffd")],
)
async def test_halves_of_letters_are_joined_or_replaced(said: str, kept: str, streamed: bool) -> None:
    pieces: list[str] = []
    with serve([Reply(text=said, thinking=said)]) as fake:
        completion = await ask(fake, on_text=pieces.append if streamed else None)

    assert completion.text == kept
    assert completion.thinking == kept
    assert not streamed or "".join(pieces) == kept


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        (r'{"a": ["\ud800", {"\udfff": 1}]}', {"a": ["\ufffd", {"\ufffd": 1}]}),
        (r'{"a": "\ud83d\ude00 \n"}', {"a": "😀 \n"}),
        ('no "\ud800', {UNREADABLE: 'no "\ufffd'}),
    ],
)
async def test_tool_arguments_hold_no_half_letters(written: str, arguments: dict[str, Any]) -> None:
    with serve([Reply(tool_calls=(("note", written),))]) as fake:
        completion = await ask(fake, tools=(NOTE,))

    assert [call.arguments for call in completion.tool_calls] == [arguments]


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("written", ['{"a": ', "[1, 2]", "7", "hello"])
async def test_tool_arguments_that_are_no_object_are_kept_as_unreadable(written: str, streamed: bool) -> None:
    with serve([Reply(tool_calls=(("note", written),))]) as fake:
        completion = await ask(fake, tools=(NOTE,), on_text=(lambda _piece: None) if streamed else None)

    assert [call.arguments for call in completion.tool_calls] == [{UNREADABLE: written}]


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
async def test_tools_arrive_parsed_and_one_of_them_is_required(streamed: bool) -> None:
    calls = (("note", '{"text": "é {x}"}'), ("note", "{}"))
    with serve([Reply(tool_calls=calls)]) as fake:
        completion = await ask(fake, tools=(NOTE,), on_text=(lambda _piece: None) if streamed else None)

    assert [call.arguments for call in completion.tool_calls] == [{"text": "é {x}"}, {}]
    assert completion.finish_reason == "tool_calls"
    assert fake.calls[0].body["tool_choice"] == "required"


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
async def test_thinking_is_kept_apart_and_counted_within_the_output(streamed: bool) -> None:
    pieces: list[str] = []
    with serve([Reply(text="it is seven", thinking="four plus three")]) as fake:
        completion = await ask(fake, on_text=pieces.append if streamed else None)

    assert (completion.text, completion.thinking) == ("it is seven", "four plus three")
    assert (completion.usage.output_tokens, completion.usage.reasoning_tokens) == (6, 3)
    assert not streamed or "".join(pieces) == "it is seven"


@pytest.mark.anyio
async def test_the_request_carries_the_options_and_nothing_secret() -> None:
    with serve(["fine"], key=SECRET) as fake:
        await ask(
            fake,
            {"SLEEPTIME_API_KEY": SECRET},
            temperature=0.5,
            seed=3,
            effort="low",
            stop=("END",),
            max_output_tokens=9,
        )

    (call,) = fake.calls
    assert call.body["messages"] == [
        {"role": "system", "content": "be terse"},
        {"role": "user", "content": "how many?"},
    ]
    wanted = {"max_tokens": 9, "temperature": 0.5, "seed": 3, "reasoning_effort": "low", "stop": ["END"]}
    assert wanted.items() <= call.body.items()
    assert call.headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.anyio
async def test_a_refused_key_never_shows_in_the_error() -> None:
    with serve(["fine"], key="another") as fake, pytest.raises(AuthenticationError) as caught:
        await ask(fake, {"OPENAI_API_KEY": SECRET})

    assert SECRET not in str(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize("said", [f"key {SECRET} is bad", "you sent Bearer abc.def", "sk-proj-another0123456789abc"])
async def test_what_looks_like_a_key_is_blacked_out_of_errors(said: str) -> None:
    with serve([Reply(status=400, error=said)]) as fake, pytest.raises(RequestRejectedError) as caught:
        await ask(fake, {"SLEEPTIME_API_KEY": SECRET})

    assert not any(word in str(caught.value) for word in (SECRET, "abc.def", "another0123456789abc"))


@pytest.mark.anyio
async def test_an_openai_key_is_not_sent_in_clear_across_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    # The name resolves to loopback, but it is not written as loopback: what counts is what the user wrote.
    with serve(["fine"]) as fake:
        monkeypatch.setattr("socket.getaddrinfo", _resolve_to_loopback)
        model = await open_model(fake.name.replace("127.0.0.1", "models.example"), environ={"OPENAI_API_KEY": SECRET})
        await model.generate(PROMPT, Options(max_output_tokens=5))
        await model.aclose()

    assert SECRET not in fake.calls[0].headers["authorization"]


def _resolve_to_loopback(_host: object, port: object, *_args: object, **_kwargs: object) -> Sequence[Any]:
    import socket  # noqa: PLC0415 - only the numbers of the real module are needed here

    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(str(port))))]


@pytest.mark.anyio
async def test_the_only_model_of_an_endpoint_needs_no_name() -> None:
    with serve(["fine"], models=["the-one"]) as fake:
        model = await open_model(fake.url, environ={})
        completion = await model.generate(PROMPT, Options(max_output_tokens=5))
        await model.aclose()

    assert model.name == f"{fake.url}#the-one"
    assert completion.model == "the-one"


@pytest.mark.anyio
async def test_several_models_are_listed_so_that_one_can_be_named() -> None:
    with (
        serve(models=["first", "second"]) as fake,
        pytest.raises(UnknownModelError, match=r"2 models \(first, second\)"),
    ):
        await open_model(fake.url, environ={})


@pytest.mark.anyio
async def test_a_listing_that_fails_is_told_like_any_call() -> None:
    with serve(key="wanted") as fake, pytest.raises(AuthenticationError):
        await open_model(fake.url, environ={})
    with pytest.raises(EndpointUnreachableError):
        await open_model("http://127.0.0.1:9/v1", environ={})


@pytest.mark.anyio
async def test_a_thinking_budget_is_refused_not_dropped() -> None:
    with serve(["fine"]) as fake:
        with pytest.raises(NotSupportedError, match="thinking-token budget"):
            await ask(fake, thinking_tokens=100)
        assert fake.wire == []


@pytest.mark.anyio
async def test_a_key_is_missed_before_anything_is_sent() -> None:
    with pytest.raises(MissingKeyError, match="OPENAI_API_KEY"):
        await open_model("openai:gpt-5-mini", environ={})


@pytest.mark.anyio
@pytest.mark.parametrize("model", ["openai-chat:gpt-4o", "openai:gpt-4o-mini"])
async def test_effort_is_refused_where_the_provider_would_drop_it(model: str) -> None:
    opened = await open_model(model, environ={"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})

    with pytest.raises(NotSupportedError, match="effort"):
        await opened.generate(PROMPT, Options(max_output_tokens=5, effort="high"))
    await opened.aclose()


@pytest.mark.anyio
async def test_effort_reaches_a_reasoning_model() -> None:
    with serve(["fine"]) as fake:
        model = await open_model("openai-chat:gpt-5-mini", environ={"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": fake.url})
        await model.generate(PROMPT, Options(max_output_tokens=5, effort="high"))
        await model.aclose()

    assert fake.calls[0].body["reasoning_effort"] == "high"
    assert fake.calls[0].body["max_completion_tokens"] == 5
    assert model.abilities.context_window == 400_000


KEYS = {"OPENAI_API_KEY": "k", "DEEPSEEK_API_KEY": "k", "MOONSHOTAI_API_KEY": "k", "CEREBRAS_API_KEY": "k"}


@pytest.mark.anyio
@pytest.mark.parametrize("model", ["openai:gpt-5-mini", "openai-chat:gpt-5-mini", "openai-chat:o3"])
async def test_a_model_that_refuses_sampling_is_asked_without(model: str) -> None:
    with serve(["fine"]) as fake:
        opened = await open_model(model, environ={**KEYS, "OPENAI_BASE_URL": fake.url})
        await opened.generate(PROMPT, Options(max_output_tokens=5, temperature=0.8, seed=3))
        await opened.aclose()

    assert not opened.abilities.sampling
    assert "temperature" not in fake.calls[0].body
    assert ("seed" in fake.calls[0].body) == model.startswith("openai-chat:")


@pytest.mark.anyio
@pytest.mark.parametrize("model", ["openai:gpt-5.1", "openai-chat:gpt-5.1"])
async def test_a_model_that_thinks_on_demand_is_sampled_while_it_does_not(model: str) -> None:
    with serve(["fine", "fine"]) as fake:
        opened = await open_model(model, environ={**KEYS, "OPENAI_BASE_URL": fake.url})
        await opened.generate(PROMPT, Options(max_output_tokens=5, temperature=0.8))
        await opened.generate(PROMPT, Options(max_output_tokens=5, temperature=0.8, effort="low"))
        await opened.aclose()

    assert opened.abilities.sampling
    assert [call.body.get("temperature") for call in fake.calls] == [0.8, None]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("model", "tools"),
    [
        ("deepseek:deepseek-reasoner", False),
        ("deepseek:deepseek-v4-pro", False),
        ("deepseek:deepseek-chat", True),
        ("moonshotai:kimi-thinking-preview", False),
        ("openai:gpt-5-mini", True),
    ],
)
async def test_a_model_that_cannot_be_made_to_call_a_tool_has_none(model: str, tools: bool) -> None:
    opened = await open_model(model, environ=KEYS)
    await opened.aclose()

    assert opened.abilities.tools is tools


@pytest.mark.anyio
@pytest.mark.parametrize("model", ["cerebras:gpt-oss-120b", "cerebras:zai-glm-4.7"])
async def test_effort_is_refused_where_the_adapter_would_drop_it(model: str) -> None:
    opened = await open_model(model, environ=KEYS)

    with pytest.raises(NotSupportedError, match="reasoning effort"):
        await opened.generate(PROMPT, Options(max_output_tokens=5, effort="high"))
    await opened.aclose()


def test_claude_is_free_to_call_a_tool_while_it_thinks() -> None:
    profile = anthropic_model_profile("claude-sonnet-4-5")
    assert profile is not None

    def choice(**more: Any) -> object:
        return dials("m", "anthropic", profile, Options(max_output_tokens=5, **more)).get("tool_choice")

    assert choice(tools=(NOTE,)) is None
    assert choice(tools=(NOTE,), effort="low") == "auto"
    assert choice(tools=(NOTE,), thinking_tokens=2000) == "auto"
    assert choice(effort="low") is None
    assert abilities(profile) == Abilities(tools=True, sampling=True)


def test_a_claude_that_takes_no_sampling_settings_says_so() -> None:
    profile = anthropic_model_profile("claude-opus-4-7")
    assert profile is not None

    assert not abilities(profile).sampling


@pytest.mark.parametrize(
    ("text", "at_least"),
    [
        ("The quick brown fox jumps over the lazy dog.", 10),
        ("0123456789", 10),
        ("def f(x):\n    return x ** 2\n", 12),
        ("日本語のテキスト", 8),
        ("internationalization", 2),
        ("aGVsbG8gd29ybGQhIHRoaXMgaXMgYmFzZTY0", 20),
    ],
)
def test_an_estimate_errs_on_the_high_side(text: str, at_least: int) -> None:
    assert at_least <= estimated_tokens(text) <= 4 * len(text)


LONG = "The boxes stand in the hall, and nobody has counted them since the flood of 1987. " * 100  # 1,700 tokens or so


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("window", "wanted", "room"),
    [
        (100_000, 500, 500),
        (5_500, 8_000, 2_492),  # the high estimate leaves more than half of what the low one does
        (3_008, 500, 500),  # the high estimate fills it, the low one leaves 1,908
        (1_400, 500, 150),
        (1_116, 500, 16),
        (1_115, 500, None),
        (1_105, 5, 5),
        (1_104, 5, None),
    ],
)
async def test_an_estimate_refuses_only_what_fits_by_no_estimate(window: int, wanted: int, room: int | None) -> None:
    model = endpoint_model("m", "http://127.0.0.1:9/v1", "m", abilities=Abilities(context_window=window))
    prompt = [Message("user", LONG)]
    count = await model.count_tokens(prompt)
    await model.aclose()

    assert (count.at_least, count.tokens, count.exact) == (1100, 3008, False)
    if room is None:
        with pytest.raises(ContextTooLongError):
            await room_for_reply(model, prompt, wanted=wanted)
    else:
        assert await room_for_reply(model, prompt, wanted=wanted) == room


@pytest.mark.anyio
async def test_a_truncated_stream_of_the_responses_api_is_malformed() -> None:
    with serve([Reply(text="one two three four", fault="truncated")]) as fake:
        model = await open_model("openai:gpt-4o-mini", environ={"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": fake.url})
        with pytest.raises(MalformedReplyError):
            await model.generate(PROMPT, Options(max_output_tokens=9, on_text=lambda _piece: None))
        await model.aclose()


@pytest.mark.anyio
async def test_a_reasoning_model_counts_its_thinking_within_the_output() -> None:
    environ = {"OPENAI_API_KEY": "k"}
    with serve([Reply(text="it is seven", thinking="four plus three")]) as fake:
        model = await open_model("openai:gpt-5-mini", environ={**environ, "OPENAI_BASE_URL": fake.url})
        completion = await model.generate(PROMPT, Options(max_output_tokens=9, effort="low"))
        await model.aclose()

    assert (completion.usage.output_tokens, completion.usage.reasoning_tokens) == (6, 3)
    assert fake.calls[0].body["reasoning"]["effort"] == "low"


@pytest.mark.parametrize(
    ("provider", "reply", "expected"),
    [
        (
            "anthropic",
            {
                "model": "claude-sonnet-4-5",
                "usage": {"input_tokens": 10, "cache_read_input_tokens": 100, "output_tokens": 7},
            },
            (110, 100, 7, 0),
        ),
        (
            "google",
            {
                "modelVersion": "gemini-2.5-flash",
                "usageMetadata": {
                    "promptTokenCount": 110,
                    "cachedContentTokenCount": 100,
                    "candidatesTokenCount": 7,
                    "thoughtsTokenCount": 20,
                },
            },
            (110, 100, 27, 20),
        ),
    ],
)
def test_providers_that_count_parts_aside_are_converted_to_inclusive_totals(
    provider: str, reply: dict[str, Any], expected: tuple[int, int, int, int]
) -> None:
    wire = RequestUsage.extract(reply, provider=provider, provider_url="", provider_fallback=provider)

    usage = inclusive_usage(wire)

    assert (
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    ) == expected
