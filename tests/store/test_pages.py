"""What pages are told of the store: sums that the database keeps, and rows a page at a time, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from sleeptime.core.caps import Caps, Reservation, Spending
from sleeptime.core.context import Context
from sleeptime.core.job import Job, Lease
from sleeptime.core.ledger import Call, Phase
from sleeptime.core.notes import Draft, LearnedContext, Note
from sleeptime.core.plan import Plan
from sleeptime.core.shown import Filter
from sleeptime.core.usage import Usage
from sleeptime.store import Sleep, SqlStore, open_store

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
BEFORE = import_module("sleeptime.store.migrations.versions.0007_pages").down_revision
COUNTS = iter(range(10**9))


def a_call(
    work: str | None, tokens: int, *, context: str | None = "c1", phase: Phase = Phase.TEST, **more: object
) -> Call:
    call = Call(
        id=f"call{next(COUNTS)}",
        at=NOON,
        phase=phase,
        model="s",
        usage=Usage(input_tokens=10, cached_input_tokens=4, output_tokens=tokens),
        cost_usd=tokens / 100,
        latency_s=tokens / 10,
        context_id=context,
        work_id=work,
        sees="context",
    )
    return replace(call, **more)  # type: ignore[arg-type]  # fields of a call


def a_context(number: int, name: str | None = None) -> Context:
    name = name or f"shelf {number:03}"
    return Context(id=f"c{number}", name=name, text=f"Shelf {number}.", created_at=NOON + timedelta(days=number))


def a_version(context: Context, notes: tuple[Note, ...] = ()) -> LearnedContext:
    return LearnedContext(
        context_id=context.id,
        context_fingerprint=context.fingerprint,
        notes=notes,
        strategy="notes",
        model="s",
        prompt_fingerprint="",
        usage=Usage(),
        cost_usd=0.0,
        stop_reasons=("finished",),
        rounds=1,
        created_at=NOON,
        sections=context.fingerprints,
    )


async def test_an_answer_counts_once_with_all_calls_it_took(store: SqlStore) -> None:
    noted = {"sees": "context+learned"}
    for call in (
        a_call("q1", 100),
        a_call("q2", 0, outcome="RateLimitedError", cost_usd=None),  # tried again, and then it came
        a_call("q2", 200),
        a_call("q3", 60),  # forced: thinking, then the answer
        a_call("q3", 40),
        a_call("q4", 70, outcome="UpstreamError"),  # never came
        a_call("q5", 30, **noted),
        a_call("q6", 50, cost_usd=None, **noted),
        a_call("q7", 10, context="c2", **noted),
        a_call("s1", 500, phase=Phase.SLEEP, sees=None),
        a_call(None, 5, phase=Phase.SCORE, context=None, sees=None),
    ):
        await store.record(call)

    taken = await store.taken("c1")
    compared = await store.compared()

    assert (taken[False].answers, taken[False].tokens, taken[False].tokens_squares) == (
        3,
        400,
        100**2 + 200**2 + 100**2,
    )
    assert (taken[True].answers, taken[True].priced, taken[True].usd) == (2, 1, 0.3)
    tokens, usd = compared["tokens"], compared["usd"]
    assert (tokens.notes, tokens.notes_total, tokens.notes_contexts, tokens.own) == (3, 90, 2, 2)
    assert (tokens.plain, tokens.plain_total, tokens.plain_contexts) == (3, 400, 1)
    assert tokens.plain_scatter == pytest.approx(60_000 - 400**2 / 3)
    assert tokens.own_baseline == pytest.approx(2 * 400 / 3)
    assert tokens.own_weight == pytest.approx(4 / 3)
    assert (usd.notes, usd.plain, usd.own) == (2, 3, 1)


async def test_hours_and_days_add_up_to_the_ledger(store: SqlStore) -> None:
    for hours in (0, 0, 1, 30):
        await store.record(a_call(f"q{next(COUNTS)}", 10, at=NOON + timedelta(hours=hours)))
        await store.record(
            a_call(None, 7, phase=Phase.SLEEP, sees=None, cost_usd=None, at=NOON + timedelta(hours=hours))
        )

    by_hour = await store.spent(by_day=False)
    by_day = await store.spent(by_day=True)
    late = await store.spent(by_day=False, since=NOON + timedelta(hours=1))

    tests = [each for each in by_hour if each.phase is Phase.TEST]
    assert [(each.since.hour, each.answers, each.usage.output_tokens) for each in tests] == [
        (12, 2, 20),
        (13, 1, 10),
        (18, 1, 10),
    ]
    assert [(each.since.day, each.calls, each.unpriced) for each in by_day if each.phase is Phase.SLEEP] == [
        (4, 3, 3),
        (5, 1, 1),
    ]
    assert [each.since.hour for each in late if each.phase is Phase.TEST] == [13, 18]
    assert await store.first_hour() == NOON.replace(minute=0)


async def test_a_ledger_from_before_is_added_up_when_the_database_is_opened(database: str) -> None:
    store = await open_store(database)
    await store.record(a_call("q1", 100))
    await store.record(a_call("q2", 0, outcome="RateLimitedError", cost_usd=None))
    await store.record(a_call("q2", 200, sees="context+learned"))
    await store.record(a_call("q3", 50, cost_usd=None))
    await store.record(a_call("s1", 500, phase=Phase.SLEEP, sees=None))
    kept = (await store.spent(by_day=False), await store.taken("c1"), await store.compared())
    await store.aclose()
    engine = _engine(database)
    async with engine.begin() as connection:
        for statement in (
            "DROP TABLE api_keys",
            "ALTER TABLE watched DROP COLUMN is_observed",
            "DROP TABLE hours",
            "DROP TABLE compared",
            *(f"DROP INDEX {name}" for name in ("contexts_by_age", "watched_by_queries", "decisions_by_age")),
            *(f"DROP INDEX {name}" for name in ("answers_by_age", "learned_by_age")),
            *(
                f"DROP TRIGGER {name}{' ON calls' * database.startswith('p')}"
                for name in ("calls_spent", "calls_taken")
            ),
            *([f"DROP FUNCTION {name}" for name in ("calls_spent", "calls_taken")] * database.startswith("p")),
            "ALTER TABLE notes DROP COLUMN pinned",
            "ALTER TABLE learned_contexts DROP COLUMN by_hand",
            f"UPDATE sleeptime_schema SET version_num = '{BEFORE}'",  # noqa: S608  # a constant
        ):
            await connection.execute(text(statement))
    await engine.dispose()

    store = await open_store(database)
    anew = (await store.spent(by_day=False), await store.taken("c1"), await store.compared())
    await store.record(a_call("q4", 9))
    more = await store.taken("c1")
    await store.aclose()

    assert sorted(anew[0], key=str) == sorted(kept[0], key=str)
    assert anew[1:] == kept[1:]
    assert more[False].answers == 3


def _engine(database: str) -> AsyncEngine:
    scheme, _, rest = database.partition("://")
    driver = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}[scheme]
    return create_async_engine(f"{scheme}+{driver}://{rest}")


async def test_contexts_come_a_page_at_a_time_in_every_order(store: SqlStore) -> None:
    for number in range(7):
        await store.add_context(a_context(number))
        wants = None if number == 0 else float(number)
        await store.watch(
            f"c{number}", lambda each, w=wants: replace(each, wants=w, seen=replace(each.seen, queries=3))
        )
    await store.watch("c4", lambda each: replace(each, seen=replace(each.seen, queries=9)))

    async def ids(**asked: object) -> list[str]:
        found, total = await store.listed(**asked)  # type: ignore[arg-type]  # of `listed`
        assert total == (1 if asked.get("words") else 7)
        return [each.id for each in found]

    assert await ids(sort="value", limit=3) == ["c6", "c5", "c4"]
    assert await ids(sort="value", limit=3, offset=6) == ["c0"]
    assert await ids(sort="queries", limit=1) == ["c4"]
    assert await ids(sort="newest", limit=2) == ["c6", "c5"]
    assert await ids(sort="name", limit=2, offset=2) == ["c2", "c3"]
    for sort in ("value", "queries", "newest", "name"):
        assert await ids(sort=sort, words="ELF 005") == ["c5"]


async def test_a_line_says_what_goes_on_with_a_context(store: SqlStore) -> None:
    contexts = [await store.add_context(a_context(number)) for number in range(4)]
    await store.publish(a_version(contexts[1], (Note(id="n1", text="Full."),)), sleep_id=None)
    await store.publish(a_version(contexts[2]), sleep_id=None)
    await store.edit_context("c2", lambda each: replace(each, text="Another text."), NOON)
    await store.enqueue(Job(id="j1", context_id="c3", plan=Plan(), queued_at=NOON))

    found, _ = await store.listed(sort="name")
    assert [each.state for each in found] == ["never slept", "learned", "stale", "queued"]
    assert found[1].notes == 1
    claimed = await store.claim("l1", worker="w", seconds=60)
    assert claimed
    line = await store.line("c3")
    assert line
    assert line.state == "sleeping"
    assert await store.line("c9") is None
    counts = await store.counts()
    assert (counts.contexts, counts.slept_on, list(counts.jobs)) == (4, 2, [("running", 1)])


async def test_progress_is_what_drafts_have_kept(store: SqlStore) -> None:
    context = await store.add_context(a_context(1))
    await store.enqueue(Job(id="j1", context_id="c1", plan=Plan(), queued_at=NOON))
    (waiting,) = await store.queued(are_over=False, limit=5)
    claimed = await store.claim("l1", worker="w", seconds=60)
    assert claimed
    sleep = await store.begin_sleep(
        Sleep(id="s1", context_id="c1", plan="p", drafts=(), context_fingerprint=context.fingerprint)
    )
    draft = Draft(notes=(Note(id="n1", text="Full."),), rounds=1, usage=Usage(output_tokens=40))
    await store.checkpoint(sleep.id, draft)

    (under_way,) = await store.under_way()
    (job,) = await store.queued(are_over=False, limit=5)
    assert (waiting.job.state, waiting.progress.rounds) == ("queued", 0)
    assert (under_way.name, under_way.job and under_way.job.id) == ("shelf 001", "j1")
    assert (under_way.progress.rounds, under_way.progress.notes, under_way.progress.usage.output_tokens) == (1, 1, 40)
    assert job.progress == under_way.progress
    await store.end_job("j1", "done")
    await store.end_lease(claimed[1])
    assert await store.under_way() == []
    (over,) = await store.queued(are_over=True, limit=5)
    assert (over.name, over.job.state) == ("shelf 001", "done")
    assert await store.queued(are_over=True, limit=5, before=over.position) == []


async def test_the_ledger_comes_newest_first_a_page_at_a_time(store: SqlStore) -> None:
    await store.add_context(a_context(1))
    for number in range(5):
        await store.record(a_call(f"q{number}", number + 1, outcome="ok" if number else "UpstreamError"))
    await store.record(a_call("s", 99, phase=Phase.SLEEP, context="gone", sees=None))

    first = await store.rows(Filter(), limit=2)
    second = await store.rows(Filter(), limit=9, before=first[-1].position)
    assert [(row.call.work_id, row.name) for row in first] == [("s", None), ("q4", "shelf 001")]
    assert [row.call.work_id for row in second] == ["q3", "q2", "q1", "q0"]
    assert [row.call.work_id for row in await store.rows(Filter(phase=Phase.SLEEP), limit=9)] == ["s"]
    assert [row.call.work_id for row in await store.rows(Filter(outcome="failed"), limit=9)] == ["q0"]
    assert [row.call.work_id for row in await store.rows(Filter(context_id="c1", work_id="q2"), limit=9)] == ["q2"]


async def test_accounts_of_caps_say_what_is_spent_and_set_aside(store: SqlStore) -> None:
    await store.add_context(a_context(1))
    lease = Lease(id="l1", context_id="c1", seconds=60)
    assert await store.take_lease(lease)
    asked = Reservation(
        id="call", at=NOON, model="s", context_id="c1", work_id="s1", lease="l1", input_tokens=1, output_tokens=50
    )
    assert await store.reserve(asked, Caps())

    found = await store.spending(["day:2026-05-04", "day:2026-05-05"])

    assert found == {"day:2026-05-04": Spending(open_tokens=50)}


async def test_a_version_is_amended_from_the_newest_and_both_its_marks_are_kept(store: SqlStore) -> None:
    context = await store.add_context(a_context(1))
    await store.publish(a_version(context, (Note(id="n1", text="Full."),)), sleep_id=None)

    def pinned(newest: LearnedContext) -> LearnedContext:
        notes = tuple(replace(note, is_pinned=True) for note in newest.notes)
        return replace(newest, notes=notes, by_hand="n1 pinned", based_on=newest.version)

    amended = await store.amend("c1", pinned)

    assert amended == await store.learned("c1")
    assert amended
    assert (amended.version, amended.by_hand, amended.notes[0].is_pinned) == (2, "n1 pinned", True)
    assert [each.learned.version for each in await store.news(5)] == [1]  # what a user did is no news
