"""What only PostgreSQL can do wrong."""

from __future__ import annotations

import socket

import asyncpg
import pytest

from sleeptime.core.errors import DatabaseBusyError, StoreError
from sleeptime.store import open_store

pytestmark = pytest.mark.anyio


async def test_a_server_that_is_not_there_is_told_without_the_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

        with pytest.raises(DatabaseBusyError) as told:
            await open_store(f"postgresql://someone:hunter2@127.0.0.1:{port}/db")

    assert f"postgresql://127.0.0.1:{port}/db cannot be used now" in str(told.value)
    assert "hunter2" not in str(told.value)


async def test_a_database_that_does_not_exist_is_told(postgresql_url: str) -> None:
    with pytest.raises(StoreError, match=r"refused: .*does not exist"):
        await open_store(postgresql_url.replace("/test_", "/no_such_"))


async def test_a_lost_connection_is_told_and_the_next_one_works(postgresql_url: str) -> None:
    store = await open_store(postgresql_url)
    await store.summaries()
    killer = await asyncpg.connect(postgresql_url)
    await killer.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> $1",
        killer.get_server_pid(),
    )
    await killer.close()

    assert await store.summaries() == []
    await store.aclose()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://u:hunter2@host/db", "mysql:// is no database"),
        ("postgresql://u:hunter2@host:port/db", "cannot be read"),
        ("postgresql://u:hun@ter2@host/db", "write it as %40"),
        ("postgresql://u:hunter2@host/db?password=hunter2", "unknown options: password"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
    ],
)
async def test_a_url_that_cannot_be_used_is_told_without_the_password(url: str, why: str) -> None:
    with pytest.raises(StoreError, match=why) as told:
        await open_store(url)

    assert "hunter2" not in str(told.value)
    assert "ter2" not in str(told.value)


async def test_sslmode_is_understood_as_other_programs_write_it(postgresql_url: str) -> None:
    store = await open_store(f"{postgresql_url}&sslmode=disable".replace("postgresql://", "postgres://"))

    assert store.url.startswith("postgresql://")
    await store.aclose()


@pytest.mark.parametrize("table", ["learned_contexts", "notes", "calls", "contexts"])
async def test_truncating_is_no_way_around_the_guards(postgresql_url: str, table: str) -> None:
    await (await open_store(postgresql_url)).aclose()
    intruder = await asyncpg.connect(postgresql_url)

    with pytest.raises(asyncpg.RestrictViolationError, match=r"never changed|only appended"):
        await intruder.execute(f"TRUNCATE {table} CASCADE")
    await intruder.close()
