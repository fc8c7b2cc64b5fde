"""A database that went through all migrations is the one the code expects."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from sleeptime.core.context import EVERYWHERE, fingerprint, sections
from sleeptime.core.errors import StoreError
from sleeptime.core.forecasting import Seen
from sleeptime.core.staleness import stale
from sleeptime.core.triggers import Waiting
from sleeptime.core.watching import UNDECIDED, Part, days
from sleeptime.store import Sleep, migrations, open_store, tables

pytestmark = pytest.mark.anyio

PROCESSES = 6
OPEN = """
import asyncio, sys
from sleeptime.store import migrations, open_store

async def main():
    store = await open_store(sys.argv[1])
    print(len(await store.summaries()))
    await store.aclose()

print("ready", flush=True)
sys.stdin.readline()
asyncio.run(main())
"""


def engine(database: str) -> AsyncEngine:
    scheme, _, rest = database.partition("://")
    driver = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}[scheme]
    return create_async_engine(f"{scheme}+{driver}://{rest}")


async def test_migrations_lead_from_nothing_to_the_tables_of_the_code(database: str) -> None:
    def differences(connection: Connection) -> list[object]:
        options = {"version_table": tables.VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        return compare_metadata(MigrationContext.configure(connection, opts=options), tables.metadata)

    await (await open_store(database)).aclose()

    plain = engine(database)
    async with plain.connect() as connection:
        assert await connection.run_sync(differences) == []
        assert await connection.scalar(text(f"SELECT version_num FROM {tables.VERSION_TABLE}")) == tables.HEAD  # noqa: S608  # a constant
    await plain.dispose()


async def test_the_head_is_a_known_migration() -> None:
    assert max(migrations.known()) == tables.HEAD


async def test_a_database_of_a_newer_version_is_left_alone(database: str) -> None:
    await (await open_store(database)).aclose()
    plain = engine(database)
    async with plain.begin() as connection:
        await connection.execute(text(f"UPDATE {tables.VERSION_TABLE} SET version_num = '9999'"))  # noqa: S608  # a constant

    with pytest.raises(StoreError, match=r"newer sleeptime \(schema 9999; this one knows .* Upgrade"):
        await open_store(database)

    async with plain.connect() as connection:
        assert await connection.scalar(text(f"SELECT version_num FROM {tables.VERSION_TABLE}")) == "9999"  # noqa: S608  # a constant
    await plain.dispose()


def test_processes_that_open_a_fresh_database_at_once_all_get_it(database: str) -> None:
    openers = [
        subprocess.Popen(  # this Python
            [sys.executable, "-W", "error", "-c", OPEN, database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(PROCESSES)
    ]

    for opener in openers:
        assert opener.stdout is not None
        assert opener.stdout.readline() == b"ready\n"
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write(b"\n")
        opener.stdin.flush()
    told = [(*opener.communicate(timeout=60), opener.returncode) for opener in openers]

    assert told == [(b"0\n", b"", 0)] * PROCESSES


async def test_one_process_may_open_many_fresh_databases_at_once(tmp_path: Path, database: str) -> None:
    urls = [database, *(str(tmp_path / f"{number}.db") for number in range(4))] * 2

    stores = await asyncio.gather(*(open_store(url) for url in urls))

    assert [await store.summaries() for store in stores] == [[]] * len(urls)
    for store in stores:
        await store.aclose()


FIRST = "## Boxes\nAna has 3 boxes. \ud800"
SECOND = "\n".join(f"Line {number} of a list that goes on and on." for number in range(40))
THIRD = "Cleo has none."
TEXT = f"{FIRST}\n\n{SECOND}\n\n{THIRD}\n"
PLAN = "tiny {}"


def old_sections() -> list[str]:
    """The texts of the sections as they were cut and hashed before, with the blank lines behind them."""
    return [f"{TEXT[: TEXT.index(chr(10) * 2)]}\n\n", f"{SECOND}\n\n", f"{THIRD}\n"]


async def fill_as_before(database: str) -> None:
    """Write into a database of schema 0001 as that version of the code did."""
    at = datetime(2026, 5, 4, tzinfo=UTC)
    first, second, third = (fingerprint(section) for section in old_sections())
    line = SECOND.index("Line 20")
    spans = [
        [[third, 0, len(THIRD)]],
        [[second, line, line + 10]],
        [[first, 0, len(old_sections()[0])]],  # cut off: the quotation went on into the next section
        [["unknown", 0, 1]],
        [],
    ]
    note = {"id": "n1", "kind": "inference", "status": "unverified", "sample": 0, "question": None, "text": "x"}
    draft = {"notes": [{**note, "evidence": spans[0]}], "notes_made": 1, "rounds": 1, "remarks": []}
    draft["usage"] = dict.fromkeys(("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens"), 1)
    stored = TEXT.replace("\ud800", "\ufdd0d800")
    usage = "input_tokens, cached_input_tokens, output_tokens, reasoning_tokens"
    statements: list[tuple[str, dict[str, object]]] = [
        (
            (
                "INSERT INTO contexts (id, name, fingerprint, characters, source, created_at, text) "
                "VALUES ('c1', 'boxes', :print, :length, '', :at, :text)"
            ),
            {"print": fingerprint(TEXT), "length": len(TEXT), "at": at, "text": stored},
        ),
        (
            (
                f"INSERT INTO learned_contexts (context_id, version, context_fingerprint, strategy, model, "  # noqa: S608  # constants
                f"prompt_fingerprint, {usage}, stop_reasons, rounds, failed_rounds, samples, note_count, created_at) "
                "VALUES ('c1', 1, :print, 'notes', 'tiny', '', 1, 1, 1, 1, :reasons, 1, 0, 1, 5, :at)"
            ),
            {"print": fingerprint(TEXT), "reasons": '["finished"]', "at": at},
        ),
        *(
            (
                (
                    "INSERT INTO notes (context_id, version, position, id, kind, status, sample, text, evidence) "
                    "VALUES ('c1', 1, :position, :id, 'inference', 'unverified', 0, 'x', :evidence)"
                ),
                {"position": position, "id": f"n{position + 1}", "evidence": json.dumps(evidence)},
            )
            for position, evidence in enumerate(spans)
        ),
        (
            "INSERT INTO sleeps (id, context_id, plan, plan_fingerprint) VALUES ('s1', 'c1', :plan, :print)",
            {"plan": PLAN, "print": fingerprint(PLAN)},
        ),
        ("INSERT INTO drafts (sleep_id, sample, draft) VALUES ('s1', 0, :draft)", {"draft": json.dumps(draft)}),
    ]
    plain = engine(database)

    def begin(connection: Connection) -> None:
        config = migrations._config()  # noqa: SLF001  # an older revision than the public function leads to
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")

    async with plain.begin() as connection:
        await connection.run_sync(begin)
        for statement, values in statements:
            await connection.execute(text(statement).bindparams(), values)
    await plain.dispose()


async def test_a_database_from_before_edits_learns_which_sections_its_evidence_is_in(database: str) -> None:
    await fill_as_before(database)

    async with aclosing(await open_store(database)) as store:
        context = await store.context("boxes")
        learned = await store.learned("c1")
        (sleep,) = await store.unfinished("c1", PLAN)

        assert learned is not None
        assert context.text == TEXT
        assert (learned.sections, learned.plan, learned.based_on) == (context.fingerprints, None, None)
        assert len(context.sections) > 3
        third, second, first, unknown, none = (note.evidence for note in learned.notes)
        assert third == context.locate(THIRD)
        assert second == context.locate("Line 20 of")
        assert {span.section for span in first} == {context.fingerprints[0], EVERYWHERE.section}
        assert (unknown, none) == ((EVERYWHERE,), ())
        assert sleep.drafts[0].notes[0].evidence == third
        assert (sleep.context_fingerprint, sleep.sections) == (context.fingerprint, context.fingerprints)
        resumed = await store.begin_sleep(
            Sleep(id="s2", context_id="c1", plan=PLAN, drafts=(), context_fingerprint=context.fingerprint)
        )
        assert resumed == sleep
        await store.checkpoint("s1", replace(sleep.drafts[0], rounds=2))

        _, edited = await store.edit_context(
            "c1", lambda c: replace(c, text=TEXT.replace("Line 20", "Line 21")), learned.created_at
        )
        assert stale(learned, edited) == {"n2", "n3", "n4", "n5"}


async def test_contexts_from_before_decisions_are_watched(database: str) -> None:
    await fill_as_before(database)
    at = datetime(2026, 5, 6, tzinfo=UTC)
    plain = engine(database)
    async with plain.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO contexts (id, name, fingerprint, characters, source, created_at, text) "
                "VALUES ('c2', 'new', 'f', 7, 'a/new.md', :at, 'Seven.!')"
            ).bindparams(at=at)
        )
        await connection.execute(
            text(
                "INSERT INTO answers (work_id, context_id, at, question, level, sees, model, text, thinking, "
                "input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, latency_s, finish_reason) "
                "VALUES ('w1', 'c1', :at, '?', 'v3', 'context', 'm', 'x', '', 1, 0, 1, 0, 1.0, 'stop')"
            ).bindparams(at=at)
        )
    await plain.dispose()

    async with aclosing(await open_store(database)) as store:
        slept_on, new = await store.watched("c1"), await store.watched("c2")

        assert (slept_on.parts, slept_on.wants) == ((), None)
        assert (slept_on.seen.queries, slept_on.seen.talks, slept_on.seen.last_days) == (1, 1, days(at))
        assert (new.parts, new.wants) == ((Part(since=0, characters=7),), UNDECIDED)
        assert (new.kind, new.seen) == ("md", Seen(added_days=days(at)))
        assert slept_on.waiting is None
        assert new.waiting == Waiting(since_days=days(at), by="change")
        assert [each.name for each in await store.wanted(9)] == ["new"]


async def test_versions_are_guarded_again_after_the_migration(database: str) -> None:
    await fill_as_before(database)
    await (await open_store(database)).aclose()

    plain = engine(database)
    for statement in ("UPDATE notes SET text = 'y'", "UPDATE learned_contexts SET sections = '[]'"):
        with pytest.raises(DBAPIError, match="never changed"):
            async with plain.begin() as connection:
                await connection.execute(text(statement))
    await plain.dispose()


@given(st.text(st.sampled_from("ab .\n\t#=")) | st.lists(st.sampled_from(SECOND.splitlines())).map("\n".join))
def test_the_migration_cuts_as_the_code_did_when_it_was_written(written: str) -> None:
    """To be deleted when the code cuts differently: then a migration of its own says how."""
    migration = import_module("sleeptime.store.migrations.versions.0002_sections")

    assert [name for _, _, name in migration._parts(written)] == [s.fingerprint for s in sections(written)]  # noqa: SLF001  # frozen there
