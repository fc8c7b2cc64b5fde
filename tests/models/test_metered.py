"""Each call is one row, whatever becomes of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import anyio
import pytest

from fakes.openai_server import Reply, serve
from sleeptime.core.errors import (
    ContextTooLongError,
    EndpointUnreachableError,
    LeaseLostError,
    MalformedReplyError,
    RateLimitedError,
    UpstreamError,
)
from sleeptime.core.ledger import Call, Phase
from sleeptime.core.messages import Completion, Message
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.models import ScriptedModel, open_model
from sleeptime.models.metered import Metered
from sleeptime.models.protocol import Abilities, Model, Options
from sleeptime.models.retrying import Retrying

PROMPT = [Message("user", "go on then")]
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
CARD = PriceCard(
    name="a card",
    dated=date(2026, 11, 1),
    input_usd_per_mtok=1.0,
    output_usd_per_mtok=10.0,
    cached_input_usd_per_mtok=0.1,
)


class Book:
    """A ledger in a list. Writing takes a moment, as a database does."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def record(self, call: Call) -> None:
        await anyio.sleep(0.01)
        self.calls.append(call)

    def meter(self, model: Model, **more: Any) -> Metered:
        ticks = itertools.count(100.0, 1.5)
        settings: dict[str, Any] = {"phase": Phase.SLEEP, "price": CARD, **more}
        return Metered(model, record=self.record, now=lambda: NOON, clock_s=lambda: next(ticks), **settings)


@pytest.mark.anyio
async def test_a_call_becomes_a_row_with_all_its_facts() -> None:
    book = Book()
    reply = Completion(
        text="x",
        usage=Usage(input_tokens=1000, cached_input_tokens=600, output_tokens=100, reasoning_tokens=40),
        model="m-1",
        request_id="r9",
    )
    model = book.meter(
        ScriptedModel([reply], name="openai:m"),
        phase=Phase.TEST,
        context_id="c1",
        version=3,
        work_id="w1",
        sees="learned",
        level="v0",
    )

    made = await model.generate(PROMPT, Options(max_output_tokens=500))

    (call,) = book.calls
    assert made == replace(reply, call_id=call.id)
    assert call == Call(
        id=call.id,
        at=NOON,
        phase=Phase.TEST,
        model="openai:m",
        usage=reply.usage,
        cost_usd=pytest.approx((400 * 1.0 + 600 * 0.1 + 100 * 10.0) / 1e6),
        latency_s=1.5,
        outcome="ok",
        price_card="a card",
        context_id="c1",
        version=3,
        work_id="w1",
        sees="learned",
        level="v0",
        request_id="r9",
    )


@pytest.mark.anyio
async def test_an_unknown_price_is_unknown_not_zero() -> None:
    book = Book()
    await book.meter(ScriptedModel(["x"]), price=None).generate(PROMPT, Options(max_output_tokens=5))

    assert (book.calls[0].cost_usd, book.calls[0].price_card) == (None, None)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "cost"),
    [
        (RateLimitedError("m"), 0.0),
        (UpstreamError("m", 500), 0.0),
        (EndpointUnreachableError("m", "refused"), 0.0),
        (EndpointUnreachableError("m", "no reply", was_sent=True), None),
        (MalformedReplyError("m", "cut"), None),
        (ContextTooLongError(model="m", tokens=9, reserve=1, window=5, exact=True), 0.0),
    ],
)
@pytest.mark.parametrize("price", [CARD, None])
async def test_a_failed_call_is_a_row_that_names_its_error(
    error: Exception, cost: float | None, price: PriceCard | None
) -> None:
    book = Book()

    with pytest.raises(type(error)):
        await book.meter(ScriptedModel([error]), price=price).generate(PROMPT, Options(max_output_tokens=5))

    assert [(call.outcome, call.usage, call.cost_usd) for call in book.calls] == [(type(error).__name__, Usage(), cost)]


@pytest.mark.anyio
async def test_a_cancelled_call_is_a_row_too() -> None:
    class Slow(ScriptedModel):
        async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
            await anyio.sleep_forever()
            return await super().generate(messages, options)

    book = Book()
    with anyio.move_on_after(0.05) as scope:
        await book.meter(Slow(["x"])).generate(PROMPT, Options(max_output_tokens=5))

    assert scope.cancelled_caught
    assert [(call.outcome, call.cost_usd) for call in book.calls] == [("CancelledError", None)]


@pytest.mark.anyio
async def test_a_call_that_was_stopped_before_it_went_out_cost_nothing() -> None:
    book = Book()
    with serve(["x"]) as fake, anyio.move_on_after(0.3) as scope:
        model = book.meter(await open_model(fake.name, environ={}), on_send=_forever)
        try:
            await model.generate(PROMPT, Options(max_output_tokens=5))
        finally:
            await model.aclose()

    assert scope.cancelled_caught
    assert fake.calls == []
    assert [(call.outcome, call.cost_usd) for call in book.calls] == [("CancelledError", 0.0)]


async def _forever(_call_id: str) -> None:
    await anyio.sleep_forever()


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
async def test_each_request_carries_the_id_of_its_row_and_goes_out_after_it_was_told(streamed: bool) -> None:
    book = Book()
    told: list[tuple[str, int]] = []
    options = Options(max_output_tokens=50, on_text=(lambda _piece: None) if streamed else None)

    with serve(["one", Reply(status=503), "two"]) as fake:

        async def on_send(call_id: str) -> None:
            await anyio.sleep(0.01)
            told.append((call_id, len(fake.calls)))

        model = Retrying(book.meter(await open_model(fake.name, environ={}), on_send=on_send), jitter=lambda: 0.0)
        made = [await model.generate(PROMPT, options) for _ in range(2)]
        await model.aclose()

    rows = [call.id for call in book.calls]
    assert [call.headers["x-client-request-id"] for call in fake.calls] == rows
    assert told == list(zip(rows, range(3), strict=True))
    assert [completion.call_id for completion in made] == [rows[0], rows[2]]


@pytest.mark.anyio
async def test_what_forbids_a_call_to_go_out_is_raised_and_nothing_is_sent() -> None:
    book = Book()

    async def forbid(_call_id: str) -> None:
        raise LeaseLostError("cboxes")

    with serve(["x"]) as fake:
        model = Retrying(book.meter(await open_model(fake.name, environ={}), on_send=forbid))
        with pytest.raises(LeaseLostError):
            await model.generate(PROMPT, Options(max_output_tokens=5))
        await model.aclose()

    assert fake.calls == []
    assert [(call.outcome, call.cost_usd) for call in book.calls] == [("LeaseLostError", 0.0)]


@pytest.mark.anyio
async def test_a_paid_call_is_recorded_even_when_cancelled_while_writing() -> None:
    book = Book()
    with anyio.CancelScope() as scope:
        model = book.meter(ScriptedModel(lambda _messages, _options: _cancel(scope)))
        await model.generate(PROMPT, Options(max_output_tokens=5))

    assert [(call.outcome, call.usage.output_tokens) for call in book.calls] == [("ok", 2)]


def _cancel(scope: anyio.CancelScope) -> str:
    scope.cancel()
    return "two words"


@pytest.mark.anyio
async def test_completions_and_scores_are_rows_and_counting_is_free() -> None:
    book = Book()
    model = book.meter(ScriptedModel(["x y"], abilities=Abilities(completes=True, log_probs=True)), phase=Phase.VERIFY)

    await model.complete(PROMPT, Options(max_output_tokens=5), prefix="so")
    await model.log_prob("then what", given=PROMPT)
    await model.count_tokens(PROMPT)

    assert [(call.phase, call.usage.input_tokens) for call in book.calls] == [(Phase.VERIFY, 4), (Phase.VERIFY, 5)]


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
async def test_the_ledger_adds_up_to_the_wire_over_retries(streamed: bool) -> None:
    book = Book()
    options = Options(max_output_tokens=50, on_text=(lambda _piece: None) if streamed else None)
    replies = ["one two", Reply(status=503), Reply(text="three", thinking="hm hm"), "four five six"]
    with serve(replies) as fake:
        model = Retrying(book.meter(await open_model(fake.name, environ={})), jitter=lambda: 0.0)
        for _ in range(3):
            await model.generate(PROMPT, options)
        await model.aclose()

    wired = [call.usage for call in fake.calls if call.usage is not None]
    total = sum((call.usage for call in book.calls), Usage())
    assert [call.outcome for call in book.calls] == ["ok", "UpstreamError", "ok", "ok"]
    assert total == Usage(
        input_tokens=sum(usage["prompt_tokens"] for usage in wired),
        cached_input_tokens=sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in wired),
        output_tokens=sum(usage["completion_tokens"] for usage in wired),
        reasoning_tokens=sum(usage["completion_tokens_details"]["reasoning_tokens"] for usage in wired),
    )
    assert total.output_tokens == 8
