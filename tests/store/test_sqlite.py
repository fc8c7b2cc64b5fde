"""What happens to files: broken, cut off, locked, not allowed, on a full disk."""

# These files are small, and the processes started are this Python and the system's own mount:
# ruff: noqa: ASYNC240, S607

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import aclosing, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from sleeptime.core.context import Context
from sleeptime.core.errors import DatabaseBusyError, DatabaseCorruptError, DatabaseFullError, StoreError
from sleeptime.core.ledger import Call, Phase
from sleeptime.core.notes import LearnedContext, Note
from sleeptime.core.usage import Usage
from sleeptime.store import open_store

pytestmark = pytest.mark.anyio

BODY = "Seven boxes stand in the hall. " * 2000


NOON = datetime(2026, 5, 4, tzinfo=UTC)
A_CALL = Call(id="call-1", at=NOON, phase=Phase.TEST, model="m", usage=Usage(), cost_usd=0.5, latency_s=1.0)


def a_context(name: str = "boxes", body: str = BODY) -> Context:
    return Context(id=f"c{name}", name=name, text=body, created_at=NOON)


def a_learned() -> LearnedContext:
    return LearnedContext(
        context_id="cboxes",
        context_fingerprint=a_context().fingerprint,
        notes=(Note(id="n1", text="seven"), Note(id="n2", text="boxes")),
        strategy="notes",
        model="m",
        prompt_fingerprint="f" * 16,
        usage=Usage(),
        cost_usd=0.5,
        stop_reasons=("finished",),
        rounds=1,
        created_at=NOON,
    )


@pytest.fixture
async def path(tmp_path: Path, anyio_backend: str) -> Path:  # noqa: ARG001  # the loop it runs in
    """A closed database with one context."""
    path = tmp_path / "sleeptime.db"
    async with aclosing(await open_store(path)) as store:
        await store.add_context(a_context())
    return path


@contextmanager
def at_most(pages: int) -> Iterator[None]:
    """Let no database grow beyond *pages*: to SQLite that is a full disk."""

    def limit(connection: sqlite3.Connection, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA max_page_count = {pages}")
        cursor.close()

    event.listen(Pool, "connect", limit)
    try:
        yield
    finally:
        event.remove(Pool, "connect", limit)


def left_running(before: set[threading.Thread]) -> list[threading.Thread]:
    """Name the threads of connections that do not end; asyncio keeps its own for later."""
    started = [t for t in threading.enumerate() if t not in before and not t.name.startswith("asyncio_")]
    for thread in started:
        thread.join(timeout=2)
    return [thread for thread in started if thread.is_alive()]


async def test_folders_are_made_for_a_path_with_odd_letters(tmp_path: Path) -> None:
    path = tmp_path / "not there" / "100% #1?" / "naïve 🧠.db"

    async with aclosing(await open_store(path)) as store:
        await store.add_context(a_context())

    assert path.stat().st_size > len(BODY)
    async with aclosing(await open_store(str(path))) as store:
        assert store.url == f"sqlite:///{path}"
        assert (await store.context("boxes")).text == BODY


async def test_a_name_that_means_memory_to_sqlite_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async with aclosing(await open_store(":memory:")) as store:
        await store.add_context(a_context())

    assert (tmp_path / ":memory:").stat().st_size > len(BODY)


async def test_an_empty_file_is_a_fresh_database(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()

    async with aclosing(await open_store(tmp_path / "empty.db")) as store:
        assert await store.summaries() == []


async def test_closing_leaves_one_file_and_no_threads(path: Path) -> None:
    before = set(threading.enumerate())
    store = await open_store(path)
    await asyncio.gather(*(store.summaries() for _ in range(20)))

    await store.aclose()

    assert left_running(before) == []
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_closing_waits_for_what_is_under_way(path: Path) -> None:
    before = set(threading.enumerate())
    store = await open_store(path)
    adding = [asyncio.create_task(store.add_context(a_context(f"crate {number}"))) for number in range(20)]
    await asyncio.sleep(0)

    await store.aclose()

    assert len(await asyncio.gather(*adding)) == 20
    assert left_running(before) == []
    async with aclosing(await open_store(path)) as store:
        assert len(await store.summaries()) == 21


async def test_readers_need_not_wait_for_a_writer(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE contexts SET source = 'elsewhere'")

        async with aclosing(await open_store(path, busy_timeout_s=0.05)) as store:
            assert (await store.context("boxes")).source == ""


@pytest.mark.parametrize("table", ["learned_contexts", "notes", "calls"])
@pytest.mark.parametrize("verb", ["INSERT OR REPLACE", "REPLACE", "INSERT OR IGNORE"])
async def test_replacing_is_no_way_around_the_guards(path: Path, table: str, verb: str) -> None:
    async with aclosing(await open_store(path)) as store:
        published = await store.publish(a_learned(), sleep_id="s1")
        await store.record(A_CALL)

        with (
            closing(sqlite3.connect(path)) as intruder,
            pytest.raises(sqlite3.IntegrityError, match=r"never changed|only appended"),
        ):
            intruder.execute(f"{verb} INTO {table} SELECT * FROM {table}")  # noqa: S608  # constants

        assert await store.learned(published.context_id) == published
        assert await store.calls() == [A_CALL]


@pytest.mark.parametrize(("table", "kept"), [("calls", "position"), ("calls", "id"), ("learned_contexts", "sleep_id")])
async def test_a_row_is_not_replaced_through_one_of_its_keys(path: Path, table: str, kept: str) -> None:
    async with aclosing(await open_store(path)) as store:
        await store.publish(a_learned(), sleep_id="s1")
        await store.record(A_CALL)
    fresh = {"position": "77", "id": "'new'", "version": "77", "sleep_id": "'new'"}
    del fresh[kept]

    with closing(sqlite3.connect(path)) as intruder:
        columns = [row[1] for row in intruder.execute(f"PRAGMA table_info({table})")]
        values = ", ".join(fresh.get(column, column) for column in columns)
        with pytest.raises(sqlite3.IntegrityError, match=r"never changed|only appended"):
            intruder.execute(f"REPLACE INTO {table} SELECT {values} FROM {table}")  # noqa: S608  # constants


async def test_what_is_forgotten_is_overwritten(path: Path) -> None:
    assert b"Seven boxes stand" in path.read_bytes()

    async with aclosing(await open_store(path)) as store:
        await store.forget("cboxes")

    assert b"Seven boxes stand" not in path.read_bytes()


# Files that are no sound database


@pytest.mark.parametrize("content", [b"not a database at all", b"\x00" * 8192, os.urandom(100_000)])
async def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.db"
    path.write_bytes(content)

    with pytest.raises(DatabaseCorruptError, match=r"other\.db is not a sound sleeptime database"):
        await open_store(path)

    assert path.read_bytes() == content


async def test_the_database_of_another_program_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "places.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    content = path.read_bytes()

    with pytest.raises(DatabaseCorruptError):
        await open_store(path)

    assert path.read_bytes() == content


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
async def test_a_file_cut_off_is_told(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])

    with pytest.raises(DatabaseCorruptError):
        await open_store(path)


async def test_pages_that_went_bad_are_told_when_they_are_read(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3 * 4096 :] = b"\xff" * (len(content) - 3 * 4096)
    path.write_bytes(content)

    with pytest.raises(DatabaseCorruptError):
        async with aclosing(await open_store(path)) as store:
            await store.context("boxes")


async def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Check the permissions"):
        await open_store(tmp_path)


# Places that cannot be written


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match=r"cannot be made .* Choose another place"):
        await open_store(tmp_path / "file" / "sleeptime.db")


AS_ANYBODY = """
import asyncio, os, sys
from sleeptime.core.errors import StoreError
from sleeptime.store import open_store

async def forget(path):
    store = await open_store(path)
    try:
        print([summary.name for summary in await store.summaries()])
        await store.forget("cboxes")
    finally:
        await store.aclose()

path, scratch = sys.argv[1:]
asyncio.run(forget(scratch))  # loads what is loaded late, which anybody might not be allowed to read
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    asyncio.run(forget(path))
except StoreError as error:
    print(type(error).__name__, error)
"""


def told_to_anybody(path: Path) -> str:
    """Use a database in a process without special rights (root may write anywhere); give back what it printed."""
    with TemporaryDirectory() as scratch:
        command = [sys.executable, "-W", "error", "-c", AS_ANYBODY, str(path), f"{scratch}/scratch.db"]
        done = subprocess.run(command, check=False, capture_output=True, timeout=60)
    assert done.stderr == b""
    return done.stdout.decode().removeprefix("[]\n")


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder to take the rights from, with no folder above it that only its owner may enter."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        yield folder
        folder.chmod(0o700)


async def test_a_folder_that_is_read_only_is_told(read_only: Path) -> None:
    read_only.chmod(0o555)

    told = await asyncio.to_thread(told_to_anybody, read_only / "sleeptime.db")

    assert told.startswith(f"StoreError {read_only}/sleeptime.db cannot be used: ")
    assert told.endswith("Check the permissions of the file and of its folder.\n")


async def test_a_file_that_is_read_only_is_told(read_only: Path) -> None:
    path = read_only / "sleeptime.db"
    async with aclosing(await open_store(path)) as store:
        await store.add_context(a_context())
    path.chmod(0o444)
    read_only.chmod(0o555)

    told = await asyncio.to_thread(told_to_anybody, path)

    assert told.startswith(f"StoreError {path} cannot be used: ")
    assert told.endswith("Check the permissions of the file and of its folder.\n")


# Full disks


async def test_a_full_disk_is_told_and_loses_nothing(path: Path) -> None:
    with at_most(pages=60):
        async with aclosing(await open_store(path)) as store:
            with pytest.raises(DatabaseFullError, match="Free some space"):
                await store.add_context(a_context("crates", BODY * 10))

            assert [summary.name for summary in await store.summaries()] == ["boxes"]
            await store.add_context(a_context("small", "x"))

    async with aclosing(await open_store(path)) as store:
        await store.add_context(a_context("crates", BODY * 10))
        assert (await store.context("boxes")).text == BODY
        assert {summary.name for summary in await store.summaries()} == {"boxes", "small", "crates"}


async def test_a_disk_that_fills_up_while_the_tables_are_made_leaves_none_half_made(tmp_path: Path) -> None:
    with at_most(pages=8), pytest.raises(DatabaseFullError):
        await open_store(tmp_path / "sleeptime.db")

    async with aclosing(await open_store(tmp_path / "sleeptime.db")) as store:
        await store.add_context(a_context())
        assert (await store.context("boxes")).text == BODY


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("only root may make a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


async def test_a_disk_that_is_really_full_is_told_and_loses_nothing(small_disk: Path) -> None:
    path = small_disk / "sleeptime.db"
    async with aclosing(await open_store(path)) as store:
        await store.add_context(a_context())
        for number in range(100):
            try:
                await store.add_context(a_context(f"crate {number}"))
            except DatabaseFullError:
                break
        else:
            pytest.fail("the disk never filled up")
        kept = [summary.name for summary in await store.summaries()]
        assert len(kept) == number + 1

    async with aclosing(await open_store(path)) as store:
        assert [summary.name for summary in await store.summaries()] == kept
        assert (await store.context("boxes")).text == BODY


# Other processes


async def test_a_database_locked_for_too_long_is_told_and_works_afterwards(path: Path) -> None:
    async with aclosing(await open_store(path, busy_timeout_s=0.1)) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DatabaseBusyError, match="another process"):
                await store.forget("cboxes")
            other.execute("ROLLBACK")

        await store.forget("cboxes")
        assert await store.summaries() == []


async def test_a_lock_that_is_soon_released_is_waited_for(path: Path) -> None:
    async with aclosing(await open_store(path)) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            forgetting = asyncio.create_task(store.forget("cboxes"))
            await asyncio.sleep(0.2)
            assert not forgetting.done()
            other.execute("ROLLBACK")
            await forgetting

        assert await store.summaries() == []


async def test_a_fresh_file_that_another_process_is_writing_is_waited_for(tmp_path: Path) -> None:
    """SQLite itself would not wait here: it refuses at once to switch to its write-ahead log."""
    path = tmp_path / "sleeptime.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        opening = asyncio.create_task(open_store(path))
        await asyncio.sleep(0.3)
        assert not opening.done()
        other.execute("ROLLBACK")

        async with aclosing(await opening) as store:
            assert await store.summaries() == []


DIES_WHILE_WRITING = """
import asyncio, os, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sleeptime.store import open_store

async def main():
    store = await open_store(sys.argv[1])
    event.listen(Engine, "commit", lambda connection: os._exit(7))
    await store.forget("cboxes")

asyncio.run(main())
"""


async def test_a_process_that_dies_before_it_commits_changes_nothing(path: Path) -> None:
    died = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", DIES_WHILE_WRITING, str(path)], check=False, timeout=60
    )

    assert died.returncode == 7
    async with aclosing(await open_store(path)) as store:
        assert (await store.context("boxes")).text == BODY
