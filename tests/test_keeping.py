"""A completed call and what it taught are kept together; every other call at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from sleeptime import Budget, Engine, Plan
from sleeptime.core.caps import Caps
from sleeptime.core.context import Context
from sleeptime.core.errors import StoreError, UpstreamError
from sleeptime.core.job import Lease
from sleeptime.core.ledger import Phase
from sleeptime.core.messages import Completion, Message
from sleeptime.core.notes import Draft
from sleeptime.core.usage import Usage
from sleeptime.keeping import Keeper
from sleeptime.models.metered import Metered
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.scripted import ScriptedModel
from sleeptime.store import Sleep, SqlStore, open_store

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
PLAIN = Abilities(tools=False)
PROMPT = [Message("user", "go on then")]
LEASE = Lease(id="l1", context_id="cboxes", seconds=60.0)


@pytest.fixture
async def store(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[SqlStore]:  # noqa: ARG001  # the loop it runs in
    async with aclosing(await open_store(tmp_path / "test.db")) as store:
        await store.add_context(Context(id="cboxes", name="boxes", text="Seven boxes.", created_at=NOON))
        await store.begin_sleep(Sleep(id="s1", context_id="cboxes", plan="p", drafts=(), context_fingerprint="f"))
        assert await store.take_lease(LEASE)
        yield store


def a_keeper(store: SqlStore, *, lease: Lease = LEASE) -> Keeper:
    return Keeper(store=store, lease=lease, sleep_id="s1", model="scripted", price=None, caps=Caps(), now=lambda: NOON)


def metered(keeper: Keeper, model: ScriptedModel) -> Metered:
    return Metered(
        model,
        record=keeper.record,
        set_aside=keeper.set_aside,
        on_send=keeper.store.mark_sent,
        phase=Phase.SLEEP,
        price=None,
        now=lambda: NOON,
        clock_s=lambda: 0.0,
        context_id="cboxes",
        work_id="s1",
    )


async def rows(store: SqlStore) -> list[tuple[str, int]]:
    return [(call.outcome, call.usage.output_tokens) for call in await store.calls()]


async def drafts(store: SqlStore) -> list[int]:
    (sleep,) = await store.unfinished("cboxes", "p")
    return [draft.usage.output_tokens for draft in sleep.drafts]


async def test_a_completed_call_has_no_row_until_its_draft_is_kept(store: SqlStore) -> None:
    keeper = a_keeper(store)
    completion = await metered(keeper, ScriptedModel(["one two"])).generate(PROMPT, Options(max_output_tokens=9))
    assert (await rows(store), await drafts(store)) == ([], [])

    await keeper.keep(Draft(rounds=1, usage=completion.usage), completion)

    assert (await rows(store), await drafts(store)) == ([("ok", 2)], [2])


async def test_each_of_several_samples_keeps_its_own_call(store: SqlStore) -> None:
    keeper = a_keeper(store)
    model = metered(keeper, ScriptedModel(["one", "one two"]))
    first, second = [await model.generate(PROMPT, Options(max_output_tokens=9)) for _ in range(2)]

    await keeper.keep(Draft(sample=1, rounds=1, usage=second.usage), second)

    assert (await rows(store), await drafts(store)) == ([("ok", 2)], [2])
    await keeper.keep(Draft(rounds=1, usage=first.usage), first)
    assert (await rows(store), await drafts(store)) == ([("ok", 2), ("ok", 1)], [1, 2])


async def test_a_failed_call_is_a_row_at_once(store: SqlStore) -> None:
    model = metered(a_keeper(store), ScriptedModel([UpstreamError("m", 500)]))
    with pytest.raises(UpstreamError):
        await model.generate(PROMPT, Options(max_output_tokens=9))

    assert await rows(store) == [("UpstreamError", 0)]


async def test_a_completed_call_of_which_no_draft_came_is_a_row_in_the_end(store: SqlStore) -> None:
    async with aclosing(a_keeper(store)) as keeper:
        await metered(keeper, ScriptedModel(["one two"])).generate(PROMPT, Options(max_output_tokens=9))

    assert (await rows(store), await drafts(store)) == ([("ok", 2)], [])


async def test_a_draft_is_kept_while_a_cancellation_is_under_way(store: SqlStore) -> None:
    keeper = a_keeper(store)
    with anyio.CancelScope() as scope:
        model = metered(keeper, ScriptedModel(lambda _messages, _options: "one two"))
        completion = await model.generate(PROMPT, Options(max_output_tokens=9))
        scope.cancel()
        await keeper.keep(Draft(rounds=1, usage=completion.usage), completion)
        await anyio.lowlevel.checkpoint()

    assert scope.cancelled_caught
    assert (await rows(store), await drafts(store)) == ([("ok", 2)], [2])


async def test_a_call_given_up_for_lost_is_one_row_and_its_draft_is_not_kept(store: SqlStore) -> None:
    async with aclosing(a_keeper(store)) as keeper:
        completion = await metered(keeper, ScriptedModel(["one two"])).generate(PROMPT, Options(max_output_tokens=9))
        await store.end_lease(LEASE)
        with pytest.raises(StoreError):
            await keeper.keep(Draft(rounds=1, usage=completion.usage), completion)

    assert (await rows(store), await drafts(store)) == ([("lost", 0)], [])


async def test_a_sleep_that_is_cancelled_repeats_no_call_that_has_a_row(tmp_path: Path) -> None:
    """Stopped at one call after another, two samples at once: what the ledger has is what the drafts were made of."""

    class Stopping(ScriptedModel):
        async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
            completion = await super().generate(messages, options)
            if len(self.calls) == stop_at:
                scope.cancel()
            await anyio.sleep(0.001 * (len(self.calls) % 3))
            return completion

    model = Stopping(lambda messages, _: f"<notes>{len(messages[-1].content)} words\n</notes>", abilities=PLAIN)
    plan = Plan(samples=2, budget=Budget(max_rounds=40))
    async with Engine.open(model=model, environ={"SLEEPTIME_HOME": str(tmp_path)}) as engine:
        context = await engine.add("Seven boxes.", name="boxes")
        for stops in range(1, 12):
            stop_at = len(model.calls) + stops
            with anyio.CancelScope() as scope:
                await engine.sleep("boxes", plan)
            assert scope.cancelled_caught
            calls = [call for call in await engine.calls() if call.outcome == "ok"]
            sleeps = await engine.store.unfinished(context.id, f"scripted {plan.identity}")
            kept = [draft for sleep in sleeps for draft in sleep.drafts]
            assert sum((call.usage for call in calls), Usage()) == sum((draft.usage for draft in kept), Usage())
            assert len(calls) == sum(draft.rounds for draft in kept)
        assert len(calls) > 20
        assert any(call.outcome == "CancelledError" for call in await engine.calls())
