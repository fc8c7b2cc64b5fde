"""Sleeps leave the provider to answers, and sleep at half price where they may."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import anyio
import pytest

from fakes.openai_server import FakeServer, Reply, serve
from sleeptime.core.errors import RateLimitedError, ShareUsedUpError
from sleeptime.core.ledger import Call, Phase
from sleeptime.core.messages import Message
from sleeptime.core.usage import PriceCard
from sleeptime.models import ScriptedModel, open_model
from sleeptime.models.metered import Metered
from sleeptime.models.prices import price_card
from sleeptime.models.protocol import Options
from sleeptime.models.sharing import FULL_FOR_S, Courteous, Share

PROMPT = [Message("user", "go")]
OPTIONS = Options(max_output_tokens=5)
DAY = date(2026, 11, 24)
NOW = datetime(2026, 11, 24, tzinfo=UTC)
FLEX = PriceCard(name="m flex", tier="flex", dated=DAY, input_usd_per_mtok=1, output_usd_per_mtok=5)
CARD = PriceCard(name="m", dated=DAY, input_usd_per_mtok=2, output_usd_per_mtok=10, tiers=(FLEX,))


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now_s = 0.0

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await anyio.lowlevel.checkpoint()

    def share(self) -> Share:
        return Share(clock_s=lambda: self.now_s, sleep=self.sleep)


async def slept(fake: FakeServer, known: Share, times: int) -> list[Call]:
    """Make calls of a sleep that wants half price, and give their rows."""
    kept: list[Call] = []

    async def record(call: Call) -> None:
        kept.append(call)

    model = await open_model(fake.name, environ={}, on_headers=known.heard)
    priced = Metered(model, record=record, phase=Phase.SLEEP, price=CARD, now=lambda: NOW, clock_s=lambda: 0.0)
    for _ in range(times):
        await Courteous(priced, known, share=0.5, wants_flex=True).generate(PROMPT, OPTIONS)
    await model.aclose()
    return kept


@pytest.mark.anyio
async def test_a_reply_served_at_half_price_is_a_row_at_half_price() -> None:
    with serve(["one two", "one two"]) as fake:
        (row, _) = await slept(fake, Clock().share(), 2)

        assert [call.body["service_tier"] for call in fake.calls] == ["flex", "flex"]
    assert (row.price_card, row.cost_usd) == ("m flex", FLEX.cost_usd(row.usage))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "refusal",
    [
        Reply(status=429, error="Resource Unavailable", retry_after_s=1),
        Reply(status=429),
        Reply(status=400, error="Invalid service_tier argument"),
    ],
)
async def test_a_refused_tier_is_left_for_a_while_and_the_call_is_made_at_the_standard_price(refusal: Reply) -> None:
    def script(body: dict[str, Any]) -> Reply:
        return refusal if body.get("service_tier") == "flex" else Reply(text="one two")

    with serve(script) as fake:
        rows = await slept(fake, Clock().share(), 2)

        assert [call.body.get("service_tier") for call in fake.calls] == ["flex", None, None]
    assert [(row.outcome == "ok", row.price_card) for row in rows] == [(False, "m"), (True, "m"), (True, "m")]
    assert rows[0].cost_usd == 0.0


@pytest.mark.anyio
async def test_the_tier_is_tried_again_later() -> None:
    clock = Clock()
    known = clock.share()
    assert known.refused(RateLimitedError("m"))
    clock.now_s = FULL_FOR_S
    with serve(["one two"]) as fake:
        await slept(fake, known, 1)

        assert fake.calls[0].body["service_tier"] == "flex"


@pytest.mark.anyio
async def test_headers_of_one_reply_make_the_next_call_of_a_sleep_wait() -> None:
    clock = Clock()
    told = {"limit": "10", "remaining": "4", "reset": "6s"}
    headers = tuple((f"x-ratelimit-{name}-requests", said) for name, said in told.items())
    with serve([Reply(text="one", headers=headers), Reply(text="two", headers=headers)]) as fake:
        await slept(fake, clock.share(), 2)

    assert clock.now_s == pytest.approx(2.0)  # six of ten are to be there, and one comes back a second


@pytest.mark.anyio
async def test_a_wait_told_to_an_answer_is_kept_by_sleeps_and_a_long_one_is_told() -> None:
    clock = Clock()
    known = clock.share()
    limited = ScriptedModel([RateLimitedError("m", retry_after_s=9), RateLimitedError("m", retry_after_s=90)])
    sleeping = Courteous(ScriptedModel(["fine", "never"]), known, share=0.5)
    with pytest.raises(RateLimitedError):
        await Courteous(limited, known).generate(PROMPT, OPTIONS)

    await sleeping.generate(PROMPT, OPTIONS)

    assert clock.now_s == 9.0
    with pytest.raises(RateLimitedError):
        await Courteous(limited, known).generate(PROMPT, OPTIONS)
    with pytest.raises(ShareUsedUpError, match="90 s"):
        await sleeping.generate(PROMPT, OPTIONS)


def test_published_and_own_prices_know_the_half_price_tier() -> None:
    published = price_card("openai:gpt-5-mini", today=DAY)
    own = price_card("m", cards=[replace(CARD, tiers=()), replace(FLEX, name="m")], today=DAY)

    assert published
    assert published.served("flex").input_usd_per_mtok == published.input_usd_per_mtok / 2
    assert published.served("default") == published
    assert own
    assert own.served("flex").name == "m 2026-11-24 flex"
    assert price_card("openai:gpt-4o", today=DAY).tiers == ()  # type: ignore[union-attr]  # it is published
