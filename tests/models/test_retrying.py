"""Another attempt only where it may help, and never twice the same words."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from fakes.openai_server import Reply, serve
from sleeptime.core.errors import (
    AuthenticationError,
    EndpointUnreachableError,
    ModelError,
    RateLimitedError,
    UpstreamError,
)
from sleeptime.core.messages import Completion, Message
from sleeptime.models import ScriptedModel, open_model
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.retrying import Retrying

PROMPT = [Message("user", "go")]
DOWN = UpstreamError("m", 503)


class Clock:
    """Sleeps without waiting, and remembers how long."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await anyio.lowlevel.checkpoint()


def retrying(replies: Sequence[str | Exception], clock: Clock, **more: float) -> Retrying:
    model = ScriptedModel(replies, abilities=Abilities(completes=True, log_probs=True))
    return Retrying(model, sleep=clock.sleep, jitter=lambda: 1.0, **more)  # type: ignore[arg-type]  # attempts is an int


@pytest.mark.anyio
async def test_backoff_doubles_up_to_its_cap() -> None:
    clock = Clock()
    model = retrying([DOWN, DOWN, DOWN, DOWN, "fine"], clock, attempts=5, base_s=0.5, cap_s=2.0)

    assert (await model.generate(PROMPT, Options(max_output_tokens=5))).text == "fine"
    assert clock.slept == [0.5, 1.0, 2.0, 2.0]


@pytest.mark.anyio
async def test_jitter_scales_the_whole_wait() -> None:
    clock = Clock()
    model = Retrying(ScriptedModel([DOWN, DOWN, "fine"]), sleep=clock.sleep, jitter=lambda: 0.25)

    await model.generate(PROMPT, Options(max_output_tokens=5))

    assert clock.slept == [0.125, 0.25]


@pytest.mark.anyio
async def test_the_last_error_is_raised_when_attempts_are_used_up() -> None:
    clock = Clock()
    last = EndpointUnreachableError("m", "the last")
    model = retrying([DOWN, DOWN, last, "never"], clock, attempts=3)

    with pytest.raises(ModelError) as caught:
        await model.generate(PROMPT, Options(max_output_tokens=5))

    assert caught.value is last
    assert len(clock.slept) == 2


@pytest.mark.anyio
async def test_an_error_that_will_not_pass_is_raised_at_once() -> None:
    clock = Clock()
    model = retrying([AuthenticationError("m", 401), "never"], clock)

    with pytest.raises(AuthenticationError):
        await model.generate(PROMPT, Options(max_output_tokens=5))
    assert clock.slept == []


@pytest.mark.anyio
async def test_the_wait_a_provider_asks_for_is_kept() -> None:
    clock = Clock()
    model = retrying([RateLimitedError("m", retry_after_s=7), "fine"], clock, base_s=0.5)

    await model.generate(PROMPT, Options(max_output_tokens=5))

    assert clock.slept == [7]


@pytest.mark.anyio
async def test_a_wait_beyond_the_cap_is_told_not_waited() -> None:
    clock = Clock()
    model = retrying([RateLimitedError("m", retry_after_s=3600), "never"], clock, cap_s=30)

    with pytest.raises(RateLimitedError, match="3600 s"):
        await model.generate(PROMPT, Options(max_output_tokens=5))
    assert clock.slept == []


@pytest.mark.anyio
@pytest.mark.parametrize(("repeats_sent", "asked"), [(True, 3), (False, 2)])
async def test_a_call_that_may_have_been_billed_is_repeated_once_or_never(repeats_sent: bool, asked: int) -> None:
    silent = EndpointUnreachableError("m", "no reply", was_sent=True)
    model = ScriptedModel([DOWN, silent, silent, "never"])

    with pytest.raises(EndpointUnreachableError):
        await Retrying(model, sleep=Clock().sleep, attempts=9, repeats_sent=repeats_sent).generate(
            PROMPT, Options(max_output_tokens=5)
        )

    assert len(model.calls) == asked


@pytest.mark.anyio
async def test_a_call_that_never_went_out_is_repeated_under_a_cap_too() -> None:
    unsent = EndpointUnreachableError("m", "refused")
    model = Retrying(ScriptedModel([unsent, unsent, "fine"]), sleep=Clock().sleep, repeats_sent=False)

    assert (await model.generate(PROMPT, Options(max_output_tokens=5))).text == "fine"


@pytest.mark.anyio
async def test_a_stream_that_began_is_not_started_over() -> None:
    heard: list[str] = []

    class Breaking(ScriptedModel):
        async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
            completion = await super().generate(messages, options)
            if len(self.calls) == 1:
                raise DOWN
            return completion

    clock = Clock()
    with pytest.raises(UpstreamError):
        await Retrying(Breaking(["half of", "another"]), sleep=clock.sleep).generate(
            PROMPT, Options(max_output_tokens=5, on_text=heard.append)
        )

    assert "".join(heard) == "half of"
    assert clock.slept == []


@pytest.mark.anyio
async def test_a_stream_that_said_nothing_yet_is_tried_again() -> None:
    heard: list[str] = []
    model = retrying([DOWN, "fine"], Clock())

    await model.generate(PROMPT, Options(max_output_tokens=5, on_text=heard.append))

    assert "".join(heard) == "fine"


@pytest.mark.anyio
async def test_completions_are_tried_again_too() -> None:
    model = retrying([DOWN, "fine"], Clock())

    assert (await model.complete(PROMPT, Options(max_output_tokens=5), prefix="so")).text == "fine"


@pytest.mark.anyio
async def test_every_attempt_is_seen_on_the_wire_and_no_more() -> None:
    clock = Clock()
    with serve([Reply(status=500), Reply(status=429, retry_after_s=2), "fine"]) as fake:
        model = Retrying(await open_model(fake.name, environ={}), sleep=clock.sleep, jitter=lambda: 0.0)
        completion = await model.generate(PROMPT, Options(max_output_tokens=5))
        await model.aclose()

    assert completion.text == "fine"
    assert [call.status for call in fake.calls] == [500, 429, 200]
    assert clock.slept == [0, 2]
