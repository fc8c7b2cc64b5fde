"""The proxy carries bytes: what a client and an upstream say to one another is what they would have said directly."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from starlette.requests import HTTPConnection

from fakes.raw_upstream import HANG_UP, Piece, RawUpstream, raw_upstream
from fakes.serving import served
from sleeptime.core.errors import InputError
from sleeptime.engine import Engine
from sleeptime.server.app import create_app
from sleeptime.server.proxy import Proxy

pytestmark = pytest.mark.anyio

ODD_REPLY = (
    b"HTTP/1.1 429 Too Many Requests\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nRetry-After: 7\r\n"
    b"x-ratelimit-remaining-tokens: 12\r\nX-Request-ID: req_1\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n"
    b"x-odd: \xc3\xa9 caf\xe9\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 25\r\n\r\n"
    b'{"error": {"odd":\n true}}'
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@asynccontextmanager
async def proxied(replies: Mapping[bytes, Sequence[Piece]]) -> AsyncIterator[tuple[RawUpstream, int, Proxy]]:
    """An upstream, the port of a proxy in front of it, and the proxy."""
    async with raw_upstream(replies) as upstream:
        proxy = Proxy(upstream.url)
        async with _in_front_of(proxy) as port:
            yield upstream, port, proxy


@asynccontextmanager
async def _in_front_of(proxy: Proxy) -> AsyncIterator[int]:
    try:
        async with served(create_app(_no_engine, routes=proxy.routes)) as url:
            yield int(url.rpartition(":")[2])
    finally:
        await proxy.aclose()


async def _no_engine(_: HTTPConnection) -> Engine:
    return Engine.__new__(Engine)


async def exchange(port: int, request: bytes) -> bytes:
    """What a server replies to *request* before it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    reply = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return reply


def post(path: str, body: bytes, *headers: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: example.org", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\nConnection: close\r\n\r\n" + body


def parsed(reply: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers but for those of the connection, and the body without its chunks."""
    head, _, body = reply.partition(b"\r\n\r\n")
    first, *rest = head.split(b"\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in rest)]
    if (b"transfer-encoding", b"chunked") in headers:
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
        body = whole
    return int(first.split(b" ")[1]), [h for h in headers if h[0] not in (b"connection", b"transfer-encoding")], body


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/files/a%2Fb"])
async def test_a_reply_has_the_status_headers_and_bytes_of_the_upstream(path: str) -> None:
    async with proxied({path.encode(): [ODD_REPLY]}) as (upstream, port, _):
        request = post(path, b'{ "model":"m",  "messages": [] }', "Content-Type: application/json")
        through = parsed(await exchange(port, request))
        upstream.replies = {path.encode(): [ODD_REPLY, HANG_UP]}
        direct = parsed(await exchange(upstream.port, request))

    status, headers, body = through
    assert (status, [h for h in headers if h[0] != b"x-sleeptime"], body) == direct


async def test_the_upstream_is_sent_the_bytes_path_and_headers_of_the_client() -> None:
    body = b'{"model" : "m", "unknown\\u0041": [1e400, {}], "messages":[]}\n'
    async with proxied({b"/v1/chat/completions": [ODD_REPLY]}) as (upstream, port, _):
        await exchange(
            port,
            post(
                "/v1/chat/completions?a=%20b&c",
                body,
                "Authorization: Bearer sk-1",
                "X-Odd: \u00e9",
                "Accept-Encoding: br",
                "x-sleeptime: off",
                "x-sleeptime-key: secret",
                "TE: trailers",
                "Connection: x-hop",
                "X-Hop: 1",
            ),
        )

    (sent,) = upstream.requests
    assert sent.line == b"POST /v1/chat/completions?a=%20b&c HTTP/1.1"
    assert sent.body == body
    assert sent.headers == [
        (b"host", f"127.0.0.1:{upstream.port}".encode()),
        (b"content-length", str(len(body)).encode()),
        (b"authorization", b"Bearer sk-1"),
        (b"x-odd", "\u00e9".encode()),
        (b"accept-encoding", b"br"),
    ]


async def test_a_body_in_chunks_arrives_whole() -> None:
    head = b"POST /v1/audio HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    async with proxied({b"/v1/audio": [ODD_REPLY]}) as (upstream, port, _):
        await exchange(port, head + chunk(b"one ") + chunk(b"two") + b"0\r\n\r\n")

    assert upstream.requests[0].body == b"one two"


@pytest.mark.parametrize("head", ["Content-Length: 9000000", "Transfer-Encoding: chunked"])
async def test_a_body_too_long_to_hold_streams_through(head: str) -> None:
    body = bytes(range(250)) * 36_000
    sent = body if "Length" in head else chunk(body) + b"0\r\n\r\n"
    async with proxied({b"/v1/chat/completions": [ODD_REPLY]}) as (upstream, port, _):
        await exchange(
            port,
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{head}\r\nConnection: close\r\n\r\n".encode() + sent,
        )

    assert upstream.requests[0].body == body


async def test_a_compressed_reply_stays_compressed() -> None:
    packed = gzip.compress(b'{"choices": []}')
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    async with proxied({b"/v1/chat/completions": [head + packed]}) as (_, port, _):
        _, headers, body = parsed(await exchange(port, post("/v1/chat/completions", b"{}")))

    assert (b"content-encoding", b"gzip") in headers
    assert body == packed


async def test_chunks_arrive_as_they_are_sent() -> None:
    events = [b"data: 1\n\n", b"data: 2\n\nda", b"ta: [DONE]\n\n"]
    script: list[Piece] = [STREAM_HEAD]
    for event in events:
        script += [0.05, chunk(event)]
    async with proxied({b"/v1/chat/completions": [*script, b"0\r\n\r\n"]}) as (_, port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post("/v1/chat/completions", b'{"stream": true}'))
        await reader.readuntil(b"\r\n\r\n")
        pieces = [await asyncio.wait_for(reader.read(1000), 5) for _ in events]
        writer.close()

    assert [piece.removesuffix(b"0\r\n\r\n") for piece in pieces] == [chunk(event) for event in events]


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_client_that_leaves_cancels_the_upstream_call(*, has_begun: bool) -> None:
    script: list[Piece] = [STREAM_HEAD + chunk(b"data: 1\n\n")] if has_begun else []
    async with proxied({b"/v1/responses": [*script, 5.0]}) as (upstream, port, proxy):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post("/v1/responses", b"{}"))
        if has_begun:
            await reader.readuntil(b"data: 1")
        else:
            await asyncio.sleep(0.05)
        writer.close()
        async with asyncio.timeout(2):
            while not upstream.gone:  # noqa: ASYNC110 - a fake's count
                await asyncio.sleep(0.005)

    assert (proxy.counts.client_left, proxy.counts.in_flight, proxy.counts.failures) == (1, 0, 0)


@pytest.mark.parametrize(
    "head", [STREAM_HEAD + chunk(b"data: 1\n\n"), b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ndata: 1\n\n"]
)
async def test_an_upstream_that_breaks_off_breaks_the_client_off(head: bytes) -> None:
    async with proxied({b"/v1/chat/completions": [head, 0.05, HANG_UP]}) as (_, port, proxy):
        reply = await exchange(port, post("/v1/chat/completions", b"{}"))

    assert b"data: 1\n\n" in reply
    assert not reply.endswith(b"0\r\n\r\n")
    assert proxy.counts.upstream_failed == 1


@pytest.mark.parametrize("script", [[HANG_UP], None])
async def test_an_upstream_that_cannot_be_reached_is_told_as_an_error(script: Sequence[Piece] | None) -> None:
    async with proxied({b"/v1/chat/completions": script or []}) as (upstream, port, proxy):
        if script is None:
            proxy._relay._base = proxy._relay._base.copy_with(port=1)  # noqa: SLF001  # nobody listens there
        status, _, body = parsed(await exchange(port, post("/v1/chat/completions", b"{}", "Authorization: Bearer sk")))

    assert status == 502
    assert b'"type": "upstream_error"' in body
    assert b"sk" not in body.replace(b"ask", b"")
    assert len(upstream.requests) == (script is not None)


async def test_connections_to_the_upstream_are_kept() -> None:
    async with proxied({b"/v1/models": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]}) as (upstream, port, _):
        for _ in range(5):
            await exchange(port, b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert (len(upstream.requests), upstream.connections) == (5, 1)


async def test_a_key_of_the_server_replaces_the_clients() -> None:
    async with raw_upstream({b"/v1/models": [ODD_REPLY]}) as upstream:
        request = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer mine\r\nConnection: close\r\n\r\n"
        async with _in_front_of(Proxy(upstream.url, authorization="Bearer upstream")) as port:
            await exchange(port, request)

    assert [value for name, value in upstream.requests[0].headers if name == b"authorization"] == [b"Bearer upstream"]


@pytest.mark.parametrize("url", ["api.openai.com", "ftp://x/v1", "http://user:key@x/v1", "http://"])
async def test_an_upstream_is_a_base_url_without_keys(url: str) -> None:
    with pytest.raises(InputError, match="base URL without keys"):
        Proxy(url)
