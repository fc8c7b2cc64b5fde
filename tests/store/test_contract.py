"""What every store promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from sleeptime.core.budget import Level
from sleeptime.core.context import Context, Span
from sleeptime.core.deciding import Portfolio
from sleeptime.core.errors import ContextNotFoundError, NameTakenError, StoreError
from sleeptime.core.forecasting import Prior
from sleeptime.core.ledger import Call, Phase, Totals
from sleeptime.core.notes import Draft, LearnedContext, Note
from sleeptime.core.query import Answer, Query
from sleeptime.core.saving import Tally
from sleeptime.core.usage import Usage
from sleeptime.core.watching import DOLLARS, TOKENS, UNDECIDED, Decided, Lesson, Part, Watched, begun
from sleeptime.store import Sleep, SqlStore, Store, Summary, open_store
from sleeptime.store.sql import MOST_DECISIONS

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)
WILD = "naïve 🧠 中文 \x00 \ud800 \ufdd0 \ufdd00000 \r\n\t\\ % _ ' \" {x}"
SPENT = Usage(input_tokens=100, cached_input_tokens=40, output_tokens=30, reasoning_tokens=10)
NOTES = (
    Note(id="n1", text="7 + 5 = 12", evidence=(Span(section="abc", start=1, end=9), Span(section="d", start=0, end=2))),
    Note(id="n2", text="twelve", kind="anticipated", question="How many boxes?", status="verified", sample=1),
    Note(id="n3", text=WILD, kind="plan", status="quarantined", sample=1),
)

NOTE_AT = "context_id, version, {}, id, kind, status, sample, question, text, evidence, pinned"


def a_context(name: str = "boxes", *, body: str = "Seven boxes.\n\nFive more.", day: int = 0) -> Context:
    return Context(id=f"c{name}", name=name, text=body, created_at=NOON + timedelta(days=day), source=f"{name}.txt")


def a_learned(context: Context, notes: tuple[Note, ...] = NOTES, *, day: int = 0) -> LearnedContext:
    return LearnedContext(
        context_id=context.id,
        context_fingerprint=context.fingerprint,
        notes=notes,
        strategy="notes",
        model="scripted:s",
        prompt_fingerprint="f" * 16,
        usage=SPENT,
        cost_usd=0.25,
        stop_reasons=("finished", "rounds"),
        rounds=4,
        failed_rounds=1,
        samples=2,
        created_at=NOON + timedelta(days=day),
    )


def a_call(
    number: int,
    *,
    outcome: str = "ok",
    cost_usd: float | None = 0.5,
    usage: Usage = SPENT,
    phase: Phase = Phase.TEST,
    work_id: str | None = "w1",
    context_id: str | None = "cboxes",
    sees: str | None = "context",
    level: str | None = "v2",
) -> Call:
    return Call(
        id=f"call-{number}",
        at=NOON + timedelta(seconds=number),
        phase=phase,
        model="scripted:t",
        usage=usage,
        cost_usd=cost_usd,
        latency_s=0.125,
        outcome=outcome,
        price_card="card 2026-05",
        context_id=context_id,
        version=3,
        work_id=work_id,
        sees=sees,
        level=level,
        request_id="r-1",
    )


def an_answer(number: int = 0) -> Answer:
    return Answer(
        text=f"answer {number} {WILD}",
        query=Query(question=f"question {number}?", level=Level.parse("think:2048"), sees="learned"),
        model="scripted:t",
        usage=SPENT,
        cost_usd=None,
        latency_s=1.5,
        finish_reason="length",
        version=2,
        thinking="hm",
    )


def a_sleep(context: Context, plan: str = '{"strategy": "notes"}', *, number: int = 1) -> Sleep:
    return Sleep(id=f"s{number}", context_id=context.id, plan=plan, drafts=())


# Opening


async def test_a_store_is_what_the_engine_asks_for(store: SqlStore) -> None:
    seam: Store = store

    assert await seam.summaries() == []


async def test_what_is_written_is_there_when_the_database_is_opened_again(database: str) -> None:
    context = a_context()
    async with aclosing(await open_store(database)) as store:
        await store.add_context(context)
        learned = await store.publish(a_learned(context), sleep_id=None)

    async with aclosing(await open_store(database)) as store:
        assert await store.context("boxes") == context
        assert await store.learned(context.id) == learned


async def test_its_url_shows_no_credentials(store: SqlStore) -> None:
    assert store.url.startswith(("sqlite:////", "postgresql://"))
    assert "secret" not in store.url
    assert "postgres:" not in store.url


async def test_it_may_be_closed_twice_and_says_that_it_is_closed(store: SqlStore) -> None:
    await store.aclose()
    await store.aclose()

    with pytest.raises(StoreError, match="closed"):
        await store.summaries()


# Contexts


async def test_a_context_comes_back_as_it_was_by_name_id_and_beginning(store: SqlStore) -> None:
    context = await store.add_context(a_context("box", body=WILD))

    assert await store.context("box") == context
    assert await store.context("cbox") == context
    await store.add_context(Context(id="0123456789", name="other", text="x", created_at=NOON))
    assert (await store.context("0123")).name == "other"


async def test_a_wild_name_is_found_again(store: SqlStore) -> None:
    await store.add_context(a_context(WILD))

    assert (await store.context(WILD)).name == WILD
    assert (await store.summaries())[0].name == WILD


async def test_a_name_goes_before_an_id_and_an_id_before_a_beginning(store: SqlStore) -> None:
    await store.add_context(Context(id="abcd", name="first", text="1", created_at=NOON))
    await store.add_context(Context(id="abcde", name="second", text="2", created_at=NOON))
    await store.add_context(Context(id="zzzz", name="abcde", text="3", created_at=NOON))

    assert (await store.context("abcd")).name == "first"
    assert (await store.context("abcde")).id == "zzzz"


@pytest.mark.parametrize("name", ["", "abc", "abcd", "ABCD1", "%", "abc_", "nothing"])
async def test_what_names_no_single_context_is_not_found(store: SqlStore, name: str) -> None:
    await store.add_context(Context(id="abcd1", name="first", text="1", created_at=NOON))
    await store.add_context(Context(id="abcd2", name="second", text="2", created_at=NOON))

    with pytest.raises(ContextNotFoundError):
        await store.context(name)


async def test_the_same_name_with_the_same_text_is_the_one_already_stored(store: SqlStore) -> None:
    stored = await store.add_context(a_context())

    again = await store.add_context(replace(a_context(day=1), id="another"))

    assert again == stored
    assert len(await store.summaries()) == 1


async def test_a_name_stands_for_one_text(store: SqlStore) -> None:
    stored = await store.add_context(a_context())

    with pytest.raises(NameTakenError):
        await store.add_context(replace(a_context(body="Other text."), id="another"))
    assert await store.context("boxes") == stored


async def test_an_id_is_used_once(store: SqlStore) -> None:
    await store.add_context(a_context())

    with pytest.raises(StoreError, match="id 'cboxes' is stored already"):
        await store.add_context(replace(a_context(), name="other"))


async def test_of_many_who_add_one_name_all_get_the_same_context(database: str) -> None:
    async with aclosing(await open_store(database)) as one, aclosing(await open_store(database)) as other:
        added = await asyncio.gather(
            *(s.add_context(replace(a_context(), id=f"c{i}")) for i, s in enumerate([one, other] * 10))
        )

        assert len({context.id for context in added}) == 1
        assert len(await one.summaries()) == 1


async def test_ten_megabytes_come_back_whole(store: SqlStore) -> None:
    body = "0123456789 é🧠\n" * 700_000

    await store.add_context(a_context(body=body))

    assert (await store.context("boxes")).text == body
    assert (await store.summaries())[0].characters == len(body)


async def test_a_time_is_kept_to_the_microsecond_and_told_in_utc(store: SqlStore) -> None:
    there = timezone(timedelta(hours=5, minutes=30))
    await store.add_context(replace(a_context(), created_at=NOON.astimezone(there)))

    kept = (await store.context("boxes")).created_at

    assert kept == NOON
    assert kept.utcoffset() == timedelta(0)


async def test_summaries_show_the_newest_version_oldest_context_first(store: SqlStore) -> None:
    young = await store.add_context(a_context("young", day=2))
    old = await store.add_context(a_context("old", body="🧠x", day=1))
    await store.publish(a_learned(old), sleep_id=None)
    await store.publish(a_learned(old, NOTES[:1], day=5), sleep_id=None)

    assert await store.summaries() == [
        Summary(
            id=old.id,
            name="old",
            characters=2,
            created_at=old.created_at,
            versions=2,
            notes=1,
            slept_at=NOON + timedelta(days=5),
        ),
        Summary(
            id=young.id,
            name="young",
            characters=len(young.text),
            created_at=young.created_at,
            versions=0,
            notes=0,
            slept_at=None,
        ),
    ]


async def test_forgetting_deletes_all_of_one_context_but_its_ledger(store: SqlStore) -> None:
    context, other = await store.add_context(a_context()), await store.add_context(a_context("other"))
    for number, each in enumerate((context, other), 1):
        await store.publish(a_learned(each), sleep_id=None)
        await store.begin_sleep(a_sleep(each, number=number))
        await store.keep_answer(each.id, f"w-{each.name}", an_answer(), NOON)
    await store.checkpoint("s1", Draft(notes=NOTES, rounds=1))
    await store.record(a_call(1))

    await store.forget(context.id)
    await store.forget(context.id)

    assert [summary.name for summary in await store.summaries()] == ["other"]
    assert await store.versions(context.id) == []
    assert await store.learned(context.id) is None
    assert await store.answers(context.id) == []
    with pytest.raises(StoreError, match="is over"):
        await store.checkpoint("s1", Draft())
    assert await store.calls() == [a_call(1)]
    assert len(await store.versions(other.id)) == len(await store.answers(other.id)) == 1
    await store.checkpoint("s2", Draft())


async def test_a_forgotten_name_is_free_and_its_versions_begin_anew(store: SqlStore) -> None:
    await store.publish(a_learned(await store.add_context(a_context())), sleep_id=None)
    await store.forget("cboxes")

    again = await store.add_context(a_context(body="New text."))

    assert (await store.publish(a_learned(again), sleep_id=None)).version == 1


# Edits


async def test_an_edit_changes_text_and_source_and_nothing_else(store: SqlStore) -> None:
    context = await store.add_context(a_context())
    published = await store.publish(a_learned(context), sleep_id=None)
    await store.begin_sleep(a_sleep(context))

    told = await store.edit_context(
        context.id,
        lambda c: replace(c, id="x", name="y", text=WILD, source="new", created_at=NOON + timedelta(days=9)),
        NOON,
    )

    edited = replace(context, text=WILD, source="new")
    assert told == (context, edited)
    assert await store.context("boxes") == edited
    assert await store.learned(context.id) == published
    assert await store.unfinished(context.id, a_sleep(context).plan) == [a_sleep(context)]
    assert [(s.characters, s.is_edited) for s in await store.summaries()] == [(len(WILD), True)]


async def test_a_summary_says_whether_the_newest_version_is_of_another_text(store: SqlStore) -> None:
    context = await store.add_context(a_context())
    assert not (await store.summaries())[0].is_edited
    await store.publish(a_learned(context), sleep_id=None)
    assert not (await store.summaries())[0].is_edited

    _, edited = await store.edit_context(context.id, lambda c: replace(c, text="New."), NOON)
    assert (await store.summaries())[0].is_edited
    await store.publish(a_learned(edited), sleep_id=None)
    assert not (await store.summaries())[0].is_edited


async def test_an_edit_that_is_refused_changes_nothing(store: SqlStore) -> None:
    context = await store.add_context(a_context())

    def refuse(_context: Context) -> Context:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.edit_context(context.id, refuse, NOON)
    with pytest.raises(ContextNotFoundError):
        await store.edit_context("nowhere", lambda c: c, NOON)
    assert await store.context("boxes") == context


async def test_of_many_edits_at_once_each_sees_what_the_others_made(database: str) -> None:
    async with aclosing(await open_store(database)) as one, aclosing(await open_store(database)) as other:
        context = await one.add_context(a_context(body="|"))

        await asyncio.gather(
            *(s.edit_context(context.id, lambda c: replace(c, text=c.text + "x"), NOON) for s in [one, other] * 10)
        )

        assert (await one.context("boxes")).text == "|" + "x" * 20


async def test_a_sleep_belongs_to_one_text(store: SqlStore) -> None:
    context = await store.add_context(a_context())
    old = replace(a_sleep(context), context_fingerprint="old", sections=("a", "b"), drafts=(Draft(rounds=1),))
    new = replace(a_sleep(context, number=2), context_fingerprint="new", based_on=3)

    assert await store.begin_sleep(old) == old
    assert await store.begin_sleep(new) == new
    assert await store.begin_sleep(replace(new, id="s3", based_on=None)) == new
    await store.checkpoint("s1", Draft(rounds=2))

    assert await store.unfinished(context.id, old.plan) == [replace(old, drafts=(Draft(rounds=2),)), new]
    assert await store.unfinished(context.id, "another plan") == []
    assert await store.unfinished("nowhere", old.plan) == []


async def test_a_version_keeps_where_it_came_from(store: SqlStore) -> None:
    context = await store.add_context(a_context())
    learned = replace(a_learned(context), sections=("a", "b"), plan=WILD, based_on=7, rolled_back_from=2)

    published = await store.publish(learned, sleep_id=None)

    assert published == replace(learned, version=1)
    assert await store.learned(context.id) == published


async def test_a_version_is_read_whole_while_its_context_is_edited(database: str) -> None:
    async with aclosing(await open_store(database)) as one, aclosing(await open_store(database)) as other:
        context = await one.add_context(a_context())

        async def edit(number: int) -> None:
            _, after = await other.edit_context(context.id, lambda c: replace(c, text=f"text {number}"), NOON)
            await other.publish(a_learned(after), sleep_id=None)

        async def read() -> None:
            for _ in range(20):
                learned = await one.learned(context.id)
                assert learned is None or len(learned.notes) == len(NOTES)

        await asyncio.gather(*(edit(number) for number in range(10)), read())

        fingerprints = [version.context_fingerprint for version in await one.versions(context.id)]
        assert len(set(fingerprints)) == 10


# What was learned


async def test_a_version_comes_back_as_it_was_published(store: SqlStore) -> None:
    context = await store.add_context(a_context())

    published = await store.publish(a_learned(context), sleep_id="s1")

    assert published == replace(a_learned(context), version=1)
    assert await store.learned(context.id) == published
    assert await store.learned(context.id, 1) == published


async def test_versions_count_from_one_without_gaps(store: SqlStore) -> None:
    context = await store.add_context(a_context())
    for day in range(3):
        await store.publish(a_learned(context, NOTES[:day], day=day), sleep_id=f"s{day}")

    versions = await store.versions(context.id)

    assert [(version.version, len(version.notes)) for version in versions] == [(1, 0), (2, 1), (3, 2)]
    assert await store.learned(context.id) == versions[-1]
    assert await store.learned(context.id, 2) == versions[1]
    assert await store.learned(context.id, 4) is None


async def test_nothing_learned_is_none(store: SqlStore) -> None:
    context = await store.add_context(a_context())

    assert await store.learned(context.id) is None
    assert await store.learned("nowhere", 1) is None
    assert await store.versions(context.id) == []


async def test_many_who_publish_at_once_get_a_version_each(database: str) -> None:
    async with aclosing(await open_store(database)) as one, aclosing(await open_store(database)) as other:
        contexts = [await one.add_context(a_context(name)) for name in ("boxes", "crates")]

        published = await asyncio.gather(
            *(s.publish(a_learned(c), sleep_id=None) for _ in range(10) for c in contexts for s in (one, other))
        )

        for context in contexts:
            assert sorted(p.version for p in published if p.context_id == context.id) == list(range(1, 21))
            assert [len(version.notes) for version in await other.versions(context.id)] == [3] * 20


async def test_a_sleep_ends_in_one_version_however_often_it_is_published(store: SqlStore) -> None:
    context = await store.add_context(a_context())

    published = await asyncio.gather(*(store.publish(a_learned(context), sleep_id="s1") for _ in range(5)))
    late = await store.publish(a_learned(context, NOTES[:1]), sleep_id="s1")

    assert {p.version for p in published} == {1}
    assert late == published[0]


async def test_publishing_for_a_forgotten_context_says_so(store: SqlStore) -> None:
    with pytest.raises(ContextNotFoundError):
        await store.publish(a_learned(a_context()), sleep_id=None)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE learned_contexts SET rounds = 99",
        "UPDATE notes SET text = 'rewritten'",
        "DELETE FROM notes",
        "DELETE FROM learned_contexts",
        "UPDATE calls SET cost_usd = 0",
        "DELETE FROM calls",
        "INSERT INTO learned_contexts SELECT * FROM learned_contexts",
        "INSERT INTO notes SELECT * FROM notes",
        "INSERT INTO calls SELECT * FROM calls",
        f"INSERT INTO notes SELECT {NOTE_AT.format('position + 3')} FROM notes",  # noqa: S608  # constants
        f"INSERT INTO notes SELECT {NOTE_AT.format('position - 3')} FROM notes",  # noqa: S608  # constants
    ],
)
async def test_the_database_itself_refuses_to_rewrite_versions_and_ledger(
    store: SqlStore, database: str, statement: str
) -> None:
    published = await store.publish(a_learned(await store.add_context(a_context())), sleep_id=None)
    await store.record(a_call(1))
    scheme, _, rest = database.partition("://")
    driver = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}[scheme]
    intruder = create_async_engine(f"{scheme}+{driver}://{rest}")

    with pytest.raises(DBAPIError, match=r"never changed|only appended|duplicate key"):
        async with intruder.begin() as connection:
            await connection.execute(text(statement))
    await intruder.dispose()

    assert await store.learned(published.context_id) == published
    assert await store.calls() == [a_call(1)]


# Sleeps in progress


async def test_a_sleep_goes_on_where_its_drafts_stopped(database: str) -> None:
    context = a_context()
    drafts = [
        Draft(notes=NOTES, notes_made=3, rounds=2, usage=SPENT, cost_usd=None, remarks=(WILD,), sample=sample)
        for sample in (0, 1)
    ]
    async with aclosing(await open_store(database)) as store:
        await store.add_context(context)
        await store.begin_sleep(a_sleep(context))
        for draft in (Draft(rounds=1, sample=1), drafts[1], Draft(rounds=1), drafts[0], drafts[0]):
            await store.checkpoint("s1", draft)

    async with aclosing(await open_store(database)) as store:
        resumed = await store.begin_sleep(a_sleep(context, number=2))

    assert resumed == replace(a_sleep(context), drafts=tuple(drafts))


async def test_another_plan_or_another_context_is_another_sleep(store: SqlStore) -> None:
    context, other = await store.add_context(a_context()), await store.add_context(a_context("other"))
    await store.begin_sleep(a_sleep(context))
    await store.checkpoint("s1", Draft(rounds=1))

    assert (await store.begin_sleep(a_sleep(context, "another plan", number=2))).id == "s2"
    assert (await store.begin_sleep(a_sleep(other, number=3))).id == "s3"


async def test_a_sleep_may_begin_with_drafts(store: SqlStore) -> None:
    context = await store.add_context(a_context())
    begun = replace(a_sleep(context), drafts=(Draft(rounds=3), Draft(rounds=1, sample=1)))

    assert await store.begin_sleep(begun) == begun
    assert await store.begin_sleep(a_sleep(context, number=2)) == begun


async def test_publishing_or_ending_a_sleep_leaves_nothing_to_resume(store: SqlStore) -> None:
    context = await store.add_context(a_context())
    await store.begin_sleep(a_sleep(context, "published"))
    await store.begin_sleep(a_sleep(context, "ended", number=2))
    await store.checkpoint("s1", Draft(rounds=1))
    await store.checkpoint("s2", Draft(rounds=1))

    await store.publish(a_learned(context), sleep_id="s1")
    await store.end_sleep("s2")

    assert await store.begin_sleep(a_sleep(context, "published", number=3)) == a_sleep(context, "published", number=3)
    assert await store.begin_sleep(a_sleep(context, "ended", number=4)) == a_sleep(context, "ended", number=4)
    with pytest.raises(StoreError, match="is over"):
        await store.checkpoint("s1", Draft())


async def test_an_interim_version_leaves_the_sleep_open(store: SqlStore) -> None:
    context = await store.add_context(a_context())
    await store.begin_sleep(a_sleep(context))
    await store.checkpoint("s1", Draft(rounds=1))

    await store.publish(a_learned(context), sleep_id=None)

    assert (await store.begin_sleep(a_sleep(context, number=2))).drafts == (Draft(rounds=1),)


KEPT = Draft(notes=NOTES[:1], notes_made=1, rounds=1, usage=SPENT)


@pytest.mark.parametrize(
    "later",
    [
        KEPT,
        replace(KEPT, usage=SPENT + SPENT, remarks=("The last reply could not be read.",)),
        replace(KEPT, usage=SPENT + SPENT, rounds=2, notes=NOTES),
        replace(KEPT, usage=SPENT + SPENT).failed(),
    ],
)
async def test_a_draft_goes_on_from_the_one_kept(store: SqlStore, later: Draft) -> None:
    context = await store.add_context(a_context())
    await store.begin_sleep(a_sleep(context))
    await store.checkpoint("s1", KEPT)

    await store.checkpoint("s1", later)

    assert (await store.begin_sleep(a_sleep(context))).drafts == (later,)


@pytest.mark.parametrize(
    "other",
    [
        Draft(),
        replace(KEPT, notes=NOTES[1:2], usage=SPENT + SPENT),
        replace(KEPT, rounds=2, usage=Usage(input_tokens=1000, output_tokens=1000)),
        replace(KEPT, rounds=3, usage=SPENT + SPENT),
    ],
)
async def test_a_draft_of_another_process_is_refused(store: SqlStore, other: Draft) -> None:
    context = await store.add_context(a_context())
    await store.begin_sleep(a_sleep(context))
    await store.checkpoint("s1", KEPT)

    with pytest.raises(StoreError, match="Another process sleeps on this context"):
        await store.checkpoint("s1", other)

    assert (await store.begin_sleep(a_sleep(context))).drafts == (KEPT,)


async def test_of_two_who_sleep_the_same_sleep_one_is_told(database: str) -> None:
    async with aclosing(await open_store(database)) as one, aclosing(await open_store(database)) as other:
        context = await one.add_context(a_context())
        await one.begin_sleep(a_sleep(context))
        await other.begin_sleep(a_sleep(context))
        drafts = [replace(KEPT, notes=NOTES[:1]), replace(KEPT, notes=NOTES[1:2])]

        told = await asyncio.gather(
            one.checkpoint("s1", drafts[0]), other.checkpoint("s1", drafts[1]), return_exceptions=True
        )

        assert sorted(type(result) for result in told if result) == [StoreError]
        assert (await one.begin_sleep(a_sleep(context))).drafts == (drafts[told.index(None)],)


async def test_samples_are_checkpointed_side_by_side(store: SqlStore) -> None:
    context = await store.add_context(a_context())
    await store.begin_sleep(a_sleep(context))

    async def sleep(sample: int) -> None:
        for round_ in (1, 2):
            await store.checkpoint("s1", Draft(rounds=round_, sample=sample))

    await asyncio.gather(*(sleep(sample) for sample in range(10)))

    drafts = (await store.begin_sleep(a_sleep(context))).drafts
    assert [(draft.sample, draft.rounds) for draft in drafts] == [(sample, 2) for sample in range(10)]


async def test_many_who_begin_the_same_sleep_share_it(database: str) -> None:
    async with aclosing(await open_store(database)) as one, aclosing(await open_store(database)) as other:
        context = await one.add_context(a_context())

        begun = await asyncio.gather(
            *(s.begin_sleep(a_sleep(context, number=i)) for i, s in enumerate([one, other] * 5))
        )

        assert len({sleep.id for sleep in begun}) == 1


async def test_a_sleep_on_a_forgotten_context_does_not_begin(store: SqlStore) -> None:
    with pytest.raises(ContextNotFoundError):
        await store.begin_sleep(a_sleep(a_context()))


# The ledger


async def test_calls_come_back_oldest_first(store: SqlStore) -> None:
    bare = Call(
        id="bare",
        at=NOON + timedelta(hours=1),
        phase=Phase.VERIFY,
        model="m",
        usage=Usage(),
        cost_usd=None,
        latency_s=0.0,
        outcome=WILD,
    )
    for call in (a_call(3, work_id="w2"), a_call(1), bare, a_call(2, context_id="cother")):
        await store.record(call)

    assert await store.calls() == [a_call(1), a_call(2, context_id="cother"), a_call(3, work_id="w2"), bare]
    assert await store.calls(limit=2) == [a_call(3, work_id="w2"), bare]
    assert await store.calls(context_id="cboxes") == [a_call(1), a_call(3, work_id="w2")]
    assert await store.calls(work_id="w2") == [a_call(3, work_id="w2")]
    assert await store.calls(context_id="cother", work_id="w2") == []


async def test_a_call_is_recorded_once(store: SqlStore) -> None:
    await store.record(a_call(1))

    with pytest.raises(StoreError, match="already"):
        await store.record(a_call(1))
    assert await store.calls() == [a_call(1)]


async def test_many_calls_recorded_at_once_are_all_there(store: SqlStore) -> None:
    await asyncio.gather(*(store.record(a_call(i)) for i in range(200)))

    assert await store.calls() == [a_call(i) for i in range(200)]
    [total] = await store.totals()
    assert (total.calls, total.works, total.usage.output_tokens, total.cost_usd) == (200, 1, 200 * 30, 100.0)


async def test_a_cancelled_writer_leaves_the_store_usable(store: SqlStore) -> None:
    writers = [asyncio.create_task(store.record(a_call(i))) for i in range(50)]
    await writers[0]
    for writer in writers:
        writer.cancel()
    done = await asyncio.gather(*writers, return_exceptions=True)

    await store.record(a_call(99))

    assert {type(result) for result in done} == {type(None), asyncio.CancelledError}
    kept = {call.id for call in await store.calls()}
    assert {f"call-{i}" for i, result in enumerate(done) if result is None} | {"call-99"} <= kept


async def test_totals_are_sums_by_context_phase_sees_and_level(store: SqlStore) -> None:
    for call in (
        a_call(1, phase=Phase.SLEEP, sees=None, level=None, work_id="s1"),
        a_call(2, phase=Phase.SLEEP, sees=None, level=None, work_id="s1"),
        a_call(3),
        a_call(4, work_id="w2"),
        a_call(5, sees="learned", work_id="w3"),
        a_call(6, sees="learned", level="v4", work_id="w4"),
        a_call(7, context_id=None, work_id=None),
    ):
        await store.record(call)

    def total(
        context_id: str | None, phase: Phase, sees: str | None, level: str | None, works: int, count: int
    ) -> Totals:
        usage = sum([SPENT] * count, Usage())
        return Totals(
            context_id=context_id,
            phase=phase,
            sees=sees,
            level=level,
            works=works,
            calls=count,
            usage=usage,
            cost_usd=0.5 * count,
        )

    assert await store.totals() == [
        total("cboxes", Phase.SLEEP, None, None, 1, 2),
        total("cboxes", Phase.TEST, "context", "v2", 2, 2),
        total("cboxes", Phase.TEST, "learned", "v2", 1, 1),
        total("cboxes", Phase.TEST, "learned", "v4", 1, 1),
        total(None, Phase.TEST, "context", "v2", 0, 1),
    ]


@pytest.mark.parametrize(
    ("outcomes", "works"),
    [
        (["ok"], 1),
        (["ok", "ok"], 1),
        (["UpstreamError", "ok"], 1),
        (["UpstreamError"], 0),
        (["ok", "UpstreamError"], 0),
        (["ok", "UpstreamError", "ok"], 1),
    ],
)
async def test_a_work_is_completed_when_its_latest_call_came_back(
    store: SqlStore, outcomes: list[str], works: int
) -> None:
    for number, outcome in enumerate(outcomes):
        await store.record(a_call(number, outcome=outcome))
        await store.record(a_call(100 + number, context_id="cother", work_id=f"w{outcome}"))

    total, _other = await store.totals()

    assert (total.works, total.calls) == (works, len(outcomes))


@pytest.mark.parametrize("outcome", ["ok", "CancelledError", "MalformedReplyError", "EndpointUnreachableError"])
@pytest.mark.parametrize("usage", [SPENT, Usage()])
async def test_a_call_of_unknown_cost_makes_the_sum_unknown(store: SqlStore, outcome: str, usage: Usage) -> None:
    await store.record(a_call(1))
    await store.record(a_call(2, outcome=outcome, usage=usage, cost_usd=None))

    [total] = await store.totals()

    assert total.cost_usd is None
    assert total.usage == SPENT + usage


async def test_refused_calls_cost_nothing(store: SqlStore) -> None:
    await store.record(a_call(1, outcome="UpstreamError", usage=Usage(), cost_usd=0.0))

    [total] = await store.totals()

    assert (total.works, total.calls, total.cost_usd) == (0, 1, 0.0)


async def test_sums_beyond_32_bits_are_exact(store: SqlStore) -> None:
    huge = Usage(input_tokens=3_000_000_000)
    await store.record(a_call(1, usage=huge))
    await store.record(a_call(2, usage=huge))

    [total] = await store.totals()

    assert total.usage.input_tokens == 6_000_000_000


# Answers


async def test_answers_come_back_newest_first(store: SqlStore) -> None:
    context = await store.add_context(a_context())
    for number in range(5):
        await store.keep_answer(context.id, f"w{number}", an_answer(number), NOON + timedelta(seconds=number))

    assert await store.answers(context.id, limit=2) == [an_answer(4), an_answer(3)]
    assert len(await store.answers(context.id)) == 5
    assert await store.answers("nowhere") == []


async def test_answers_of_the_same_moment_keep_their_order(store: SqlStore) -> None:
    context = await store.add_context(a_context())
    for number in range(3):
        await store.keep_answer(context.id, f"w{number}", an_answer(number), NOON)

    assert await store.answers(context.id) == [an_answer(2), an_answer(1), an_answer(0)]


async def test_an_answer_about_a_forgotten_context_says_so(store: SqlStore) -> None:
    with pytest.raises(ContextNotFoundError):
        await store.keep_answer("cboxes", "w1", an_answer(), NOON)


async def test_readers_go_on_while_others_write(store: SqlStore) -> None:
    context = await store.add_context(a_context())

    async def read() -> None:
        for _ in range(10):
            learned = await store.learned(context.id)
            assert learned is None or len(learned.notes) == 3
            await store.totals()

    await asyncio.gather(
        *(store.publish(a_learned(context), sleep_id=None) for _ in range(20)),
        *(store.record(a_call(i)) for i in range(20)),
        *(read() for _ in range(8)),
    )

    learned = await store.learned(context.id)
    assert learned is not None
    assert learned.version == 20


async def test_a_version_is_read_whole_or_not_at_all_while_it_is_forgotten(store: SqlStore) -> None:
    many = tuple(Note(id=f"n{i}", text="x" * 1000) for i in range(50))
    seen: list[int] = []

    async def read(context: Context) -> None:
        while (learned := await store.learned(context.id)) is not None:
            seen.append(len(learned.notes))

    for _ in range(20):
        context = await store.add_context(a_context())
        await store.publish(a_learned(context, many), sleep_id=None)
        await asyncio.gather(*(read(context) for _ in range(4)), store.forget(context.id))

    assert set(seen) == {50}


# Decisions


def a_decided(number: int = 0, *, context_id: str = "cboxes", outcome: str = "") -> Decided:
    return Decided(
        at=NOON + timedelta(seconds=number),
        context_id=context_id,
        reason="not-due",
        sentence=f"sentence {number} {WILD}",
        unit=TOKENS,
        price=5400.5,
        tokens=2**40,
        saving=0.25,
        expected=None if number % 2 else 1.5,
        queries_seen=number,
        extra_paid=1e-9,
        limit=3.5,
        outcome=outcome,
    )


def asked(watched: Watched, *, wants: float | None) -> Watched:
    return replace(watched, seen=watched.seen.asked(watched.seen.added_days + 1), reason="pays", wants=wants)


async def test_a_context_is_watched_from_when_it_is_added_and_until_it_is_forgotten(store: SqlStore) -> None:
    context = await store.add_context(a_context())

    assert await store.watched(context.id) == begun(context)
    assert [each.decision for each in await store.summaries()] == [""]
    await store.forget(context.id)
    with pytest.raises(ContextNotFoundError):
        await store.watched(context.id)
    with pytest.raises(ContextNotFoundError):
        await store.watch(context.id, lambda watched: watched)


async def test_what_is_watched_is_kept_as_it_was_changed_by_many_at_once(store: SqlStore) -> None:
    context = await store.add_context(a_context())
    tally = Tally(answers=0.5, total=0.25, squares=0.125)

    def change(watched: Watched) -> Watched:
        seen = watched.seen.asked(watched.seen.added_days + watched.seen.queries)
        return replace(watched, seen=seen, without=watched.without + tally, level="v2", edits=watched.edits + 2)

    await asyncio.gather(*(store.watch(context.id, change) for _ in range(8)))

    watched = await store.watched(context.id)
    assert (watched.seen.queries, watched.seen.talks, watched.edits, watched.level) == (8, 8, 16, "v2")
    assert watched.without == Tally(answers=4.0, total=2.0, squares=1.0)
    assert watched.parts == (Part(since=0, characters=len(context.text)),)
    assert watched.wants == UNDECIDED


async def test_an_answer_teaches_in_its_own_transaction(store: SqlStore) -> None:
    context = await store.add_context(a_context())
    decided = a_decided()
    one = Tally(answers=1.0, total=2.0, squares=4.0)

    def teaches(watched: Watched) -> Lesson:
        return Lesson(
            watched=asked(watched, wants=2.0),
            groups={("without", "", ""): one, ("with", "v2", "low"): one},
            portfolios={TOKENS: Portfolio(saved=3.0, without_sleep=5.0)},
            decided=decided,
        )

    await asyncio.gather(
        *(store.keep_answer(context.id, f"w{n}", an_answer(n), NOON, teaches=teaches) for n in range(6))
    )

    taught = await store.taught()
    assert taught.groups == {
        ("without", "", ""): Tally(answers=6.0, total=12.0, squares=24.0),
        ("with", "v2", "low"): Tally(answers=6.0, total=12.0, squares=24.0),
    }
    assert (await store.taught("v0")).groups.keys() == {("without", "", "")}
    assert taught.portfolio(TOKENS) == Portfolio(saved=18.0, without_sleep=30.0)
    assert (await store.watched(context.id)).seen.queries == 6
    assert await store.decisions(context.id) == [decided] * 6
    assert [each.decision for each in await store.summaries()] == ["pays"]

    def fails(_: Watched) -> Lesson:
        raise ValueError("nothing to learn")

    with pytest.raises(ValueError, match="nothing to learn"):
        await store.keep_answer(context.id, "w9", an_answer(9), NOON, teaches=fails)
    assert len(await store.answers(context.id)) == 6


async def test_what_is_spent_before_queries_counts_as_slept(store: SqlStore) -> None:
    await store.record(a_call(1, phase=Phase.SLEEP, cost_usd=0.5))
    await store.record(a_call(2, phase=Phase.VERIFY, cost_usd=None))
    await store.record(a_call(3, phase=Phase.TEST))

    taught = await store.taught()

    assert taught.portfolio(TOKENS) == Portfolio(slept=2.0 * SPENT.output_tokens)
    assert taught.portfolio(DOLLARS) == Portfolio(slept=0.5)


async def test_those_that_want_sleep_most_come_first_behind_as_many_undecided_ones(store: SqlStore) -> None:
    for name, wants in (("low", 1.0), ("none", None), ("high", 7.5), ("new", UNDECIDED)):
        context = await store.add_context(a_context(name))
        await store.watch(context.id, lambda watched, wants=wants: asked(watched, wants=wants))

    assert [each.name for each in await store.wanted(9)] == ["new", "high", "low"]
    assert [each.name for each in await store.wanted(1)] == ["new", "high"]


async def test_a_decision_is_settled_unless_its_context_changed_meanwhile(store: SqlStore) -> None:
    context = await store.add_context(a_context())
    first = await store.watched(context.id)
    later = await store.watch(context.id, lambda watched: asked(watched, wants=1.0))

    await store.keep_decisions([(replace(first, reason="wait", wants=None), a_decided(1))])
    assert await store.watched(context.id) == later
    assert await store.decisions(context.id) == []

    await store.keep_decisions([(replace(later, reason="wait", wants=None, edits=99), a_decided(2)), (first, None)])
    assert await store.watched(context.id) == replace(later, reason="wait", wants=None)
    assert await store.decisions(context.id) == [a_decided(2)]


async def test_old_decisions_make_room_for_new_ones_of_their_context(store: SqlStore) -> None:
    watched = [await _watched_of(store, name) for name in ("boxes", "jars")]
    await store.keep_decisions([(watched[1], a_decided(0, context_id="cjars"))])

    for number in range(MOST_DECISIONS + 7):
        await store.keep_decisions([(watched[0], a_decided(number, outcome="version 1"))])

    kept = await store.decisions("cboxes", limit=1000)
    assert [each.queries_seen for each in kept] == list(range(MOST_DECISIONS + 6, 6, -1))
    assert await store.decisions("cboxes", limit=1) == [a_decided(MOST_DECISIONS + 6, outcome="version 1")]
    assert len(await store.decisions("cjars")) == 1


async def _watched_of(store: SqlStore, name: str) -> Watched:
    return await store.watched((await store.add_context(a_context(name))).id)


async def test_priors_are_kept_by_kind_and_peers_are_those_of_the_kind(store: SqlStore) -> None:
    for name in ("boxes", "jars"):
        await store.add_context(a_context(name))
    await store.add_context(replace(a_context("talk"), source="talk.jsonl"))

    await store.keep_prior("txt", Prior(shape=1.0), 20.5)
    await store.keep_prior("txt", Prior(shape=2.0), 24.5)

    assert (await store.taught()).priors == {"txt": (24.5, Prior(shape=2.0))}
    assert await store.peers("txt", 9) == [begun(a_context()).seen] * 2
    assert len(await store.peers("txt", 1)) == 1
    assert await store.peers("md", 9) == []
