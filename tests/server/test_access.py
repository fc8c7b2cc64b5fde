"""Keys, names, sessions and foreign pages: who may ask."""

from __future__ import annotations

from pathlib import Path

import pytest
from served import Served, served
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sleeptime.core.errors import InputError, TenantNameError
from sleeptime.core.keys import check_tenant, digest
from sleeptime.server import access
from sleeptime.server.serving import check_address
from sleeptime.settings import ServeSettings

pytestmark = pytest.mark.anyio

BOXES = {"name": "boxes", "text": "Ana has 3 boxes."}


async def test_without_any_key_this_machine_may_ask_and_with_one_only_its_holder(server: Served) -> None:
    async with server.client() as client:
        before = await client.get("/v1/contexts")
        key = await server.key()
        after = await client.get("/v1/contexts")
        wrong = await client.get("/v1/contexts", headers={"authorization": "Bearer st-wrong"})
        upstreams = await client.get("/v1/contexts", headers={"authorization": "Bearer sk-upstream"})
        bearer = await client.get("/v1/contexts", headers={"authorization": f"Bearer {key}"})
        header = await client.get(
            "/v1/contexts", headers={"x-sleeptime-key": key, "authorization": "Bearer sk-upstream"}
        )

    assert [each.status_code for each in (before, after, wrong, upstreams, bearer, header)] == [
        200, 401, 401, 401, 200, 200,
    ]  # fmt: skip
    assert after.headers["www-authenticate"] == "Bearer"


async def test_every_route_but_health_and_sign_in_asks_for_a_key(server: Served) -> None:
    await server.key()
    async with server.client() as client:
        asked = {path: (await client.get(path)).status_code for path in (
            "/healthz", "/readyz", "/login", "/", "/openapi.json", "/v1/models", "/v1/jobs", "/nowhere",
        )}  # fmt: skip

    assert asked == {
        "/healthz": 200, "/readyz": 200, "/login": 200, "/": 401, "/openapi.json": 401, "/v1/models": 401,
        "/v1/jobs": 401, "/nowhere": 401,
    }  # fmt: skip


async def test_a_revoked_key_opens_nothing_and_leaves_the_server_locked(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        key = await server.key()
        store = (await server.tenants.engine()).store
        now = (await store.keys())[0].created_at
        async with server.client(**{"x-sleeptime-key": key}) as client:
            clock = [0.0]
            door = access.Access(server.tenants, ServeSettings(), clock_s=lambda: clock[0])
            headers = client.headers
            assert await door.admitted(headers) is not None
            await store.revoke_key((await store.keys())[0].id, now)
            remembered = await door.admitted(headers)
            clock[0] = access.REMEMBERED_S

            assert remembered is not None
            assert await door.admitted(headers) is None
            assert (await client.get("/v1/contexts")).status_code == 401


async def test_only_the_hash_of_a_key_is_kept(server: Served, tmp_path: Path) -> None:
    key = await server.key()
    kept = (await (await server.tenants.engine()).store.keys())[0]

    assert len(key) >= len("st-") + 43  # 256 bits in base64
    assert kept.digest == digest(key)
    assert key.encode() not in b"".join(path.read_bytes() for path in tmp_path.glob("sleeptime.db*"))  # noqa: ASYNC240  # small files


async def test_no_route_sees_a_key_or_a_session(tmp_path: Path) -> None:
    async def seen(request: Request) -> JSONResponse:
        return JSONResponse(dict(request.headers))

    async with served(tmp_path, pages=[Route("/seen", seen)]) as server:
        key = await server.key()
        async with server.client() as client:
            signed_in = await client.post("/login", data={"key": key})
            cookie = {"cookie": f"theme=dark; {signed_in.headers['set-cookie'].partition(';')[0]}"}
            by_cookie = (await client.get("/seen", headers=cookie)).json()
            both = {"x-sleeptime-key": key, "authorization": "Bearer sk-upstream"}
            by_header = (await client.get("/seen", headers=both)).json()
            by_bearer = (await client.get("/seen", headers={"authorization": f"Bearer {key}"})).json()

    assert by_cookie["cookie"] == "theme=dark"
    assert by_header["authorization"] == "Bearer sk-upstream"
    assert "authorization" not in by_bearer
    assert not {"x-sleeptime-key"} & (by_header.keys() | by_bearer.keys() | by_cookie.keys())


async def test_a_browser_signs_in_with_a_key_and_out_again(server: Served) -> None:
    key = await server.key()
    as_page = {"accept": "text/html,*/*"}
    async with server.client() as client:
        led = await client.get("/", headers=as_page)
        wrong = await client.post("/login", data={"key": "st-wrong"})
        signed_in = await client.post("/login", data={"key": key})
        cookie = {"cookie": signed_in.headers["set-cookie"].partition(";")[0]}
        inside = await client.get("/v1/contexts", headers=cookie)
        await client.post("/logout", headers=cookie)
        outside = await client.get("/v1/contexts", headers=cookie)

    assert (led.status_code, led.headers["location"]) == (303, "/login")
    assert (wrong.status_code, signed_in.status_code) == (401, 303)
    assert all(word in signed_in.headers["set-cookie"] for word in ("HttpOnly", "SameSite=strict"))
    assert key not in signed_in.headers["set-cookie"]
    assert (inside.status_code, outside.status_code) == (200, 401)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1"}, 201),
        ({"origin": "http://127.0.0.1"}, 201),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
    ],
)
async def test_a_page_of_another_origin_changes_nothing_even_where_no_key_is_needed(
    server: Served, headers: dict[str, str], status: int
) -> None:
    async with server.client() as client:
        changed = await client.post("/v1/contexts", json=BOXES, headers=headers)

    assert changed.status_code == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8321", 200),
        ("localhost", 200),
        ("[::1]:80", 200),
        ("LOCALHOST:1", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ],
)
async def test_a_name_that_was_pointed_at_this_machine_is_not_answered_to(
    server: Served, host: str, status: int
) -> None:
    async with server.client() as client:
        assert (await client.get("/v1/contexts", headers={"host": host})).status_code == status


async def test_a_name_in_the_settings_is_answered_to(tmp_path: Path) -> None:
    settings = ServeSettings(hosts="sleep.example, other")
    async with served(tmp_path, settings=settings) as server, server.client() as client:
        named = await client.get("/v1/contexts", headers={"host": "sleep.example"})
        unnamed = await client.get("/v1/contexts", headers={"host": "evil.example"})

    assert (named.status_code, unnamed.status_code) == (200, 421)


async def test_it_refuses_to_listen_elsewhere_without_a_key(server: Served) -> None:
    await check_address(server.tenants, "127.0.0.1")
    await check_address(server.tenants, "localhost")
    for host in ("0.0.0.0", "::", "192.0.2.1", "sleep.example"):  # noqa: S104  # what it refuses
        with pytest.raises(InputError, match="sleeptime keys create"):
            await check_address(server.tenants, host)
    await server.key()

    await check_address(server.tenants, "0.0.0.0")  # noqa: S104  # as above


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "a\\b", "A", "-a", "a" * 41, "con", "lpt1", "a.b", "a\n", "ä", "a b"]
)
def test_a_name_that_is_no_safe_folder_names_no_tenant(name: str) -> None:
    with pytest.raises(TenantNameError):
        check_tenant(name)
