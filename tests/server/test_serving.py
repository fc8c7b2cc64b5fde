"""The parts put together: what `serve` makes of its settings."""

from pathlib import Path

import pytest
from served import served

from fakes.raw_upstream import raw_upstream
from sleeptime.server.serving import found
from sleeptime.settings import ServeSettings, Settings

pytestmark = pytest.mark.anyio

NO_MODELS = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{"data": []}'


async def test_a_key_of_this_server_is_never_sent_upstream_and_its_own_upstream_key_is(tmp_path: Path) -> None:
    async with raw_upstream({b"/v1/models": [NO_MODELS]}) as upstream:
        settings = Settings(serve=ServeSettings(upstream=upstream.url))
        made = found(settings, upstream_key="sk-upstream")
        parts = {"parts": made.parts, "pages": made.pages, "counts": made.counts}
        async with served(tmp_path, settings=settings.serve, **parts) as server:
            secret = await server.key()
            async with server.client(Authorization=f"Bearer {secret}") as client:
                told = await client.get("/v1/models")
            async with server.client() as client:
                stranger = await client.get("/v1/models")

    assert (told.status_code, told.json()) == (200, {"data": []})
    assert stranger.status_code == 401
    assert [request.header(b"authorization") for request in upstream.requests] == [b"Bearer sk-upstream"]


async def test_without_one_the_application_s_own_key_goes_to_the_upstream(tmp_path: Path) -> None:
    async with raw_upstream({b"/v1/models": [NO_MODELS]}) as upstream:
        settings = Settings(serve=ServeSettings(upstream=upstream.url))
        made = found(settings)
        parts = {"parts": made.parts, "pages": made.pages, "counts": made.counts}
        async with served(tmp_path, settings=settings.serve, **parts) as server:
            secret = await server.key()
            async with server.client(Authorization="Bearer sk-mine", **{"x-sleeptime-key": secret}) as client:
                await client.get("/v1/models")

    (request,) = upstream.requests
    assert request.header(b"authorization") == b"Bearer sk-mine"
    assert request.header(b"x-sleeptime-key") is None
