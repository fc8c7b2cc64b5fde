"""A database that went through all migrations is the one the code expects."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from sleeptime.core.errors import StoreError
from sleeptime.store import migrations, open_store, tables

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
