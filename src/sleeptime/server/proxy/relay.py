"""Carry a request to the upstream and its reply back, byte for byte.

    client → [held body] → upstream → chunk by chunk → client

Status, headers and bodies go through as they are, compressed or not; only what belongs to one connection
(hop-by-hop headers) and headers that speak to sleeptime stay behind. A body is held until it is complete, so that an
`Attention` can read it, as long as it is short and few others are held; else it streams through unread. Each chunk of
a reply is sent on before it is looked at. An attention may have another body sent; should the upstream refuse that
one, the client's own goes out, before anything was replied. A client that leaves cancels the upstream call; an
upstream that breaks off in mid-reply breaks the client's connection off. What an attention does wrong is logged and
counted, and the request goes on without it.

This file does not know what a request says.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
from starlette.types import Message, Receive, Scope, Send

from sleeptime.core.errors import InputError

LONGEST_BODY = 8 * 2**20
"""Bytes of a body that is held and read; a longer one streams through."""
MOST_HELD = 64 * 2**20
"""Bytes of all bodies held at once."""
CONNECT_TIMEOUT_S = 30.0
KEEPALIVE_S = 30.0
MOST_IDLE = 1000
"""Connections to the upstream kept for the next requests: enough for as many streams at once."""

Headers = list[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection "
    b"te trailer transfer-encoding upgrade expect".split()
)
_OURS = b"x-sleeptime"
_REFUSALS = frozenset((400, 413, 422))
_WAITS = {"connect": CONNECT_TIMEOUT_S, "read": None, "write": None, "pool": None}
"""How long a model thinks is between it and the client; only finding the upstream has a limit."""

logger = logging.getLogger("sleeptime.proxy")


@dataclass(slots=True)
class Counts:
    """What the proxy has done since it was made, for metrics."""

    requests: int = 0
    in_flight: int = 0
    client_left: int = 0
    upstream_failed: int = 0
    recognised: int = 0
    assisted: int = 0
    held_out: int = 0
    refused: int = 0
    recorded: int = 0
    dropped: int = 0
    unreadable: int = 0
    failures: int = 0

    def failed(self, doing: str, error: Exception) -> None:
        """Count a failure of our own, and log it by its type alone: its words may hold what was asked."""
        self.failures += 1
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        line = "" if where is None else f" at {where.tb_frame.f_code.co_name}:{where.tb_lineno}"
        logger.warning(
            "%s failed (%s%s); the request went on without it", doing, type(error).__name__, line,
            extra={"action": "proxy.failed"},
        )  # fmt: skip


class Attention(Protocol):
    """What follows one request and its reply. Nothing here may wait, but for `prepared`, and that but briefly."""

    body: bytes | None
    """Sent in place of the client's, where it is not None."""

    @property
    def header(self) -> bytes:
        """What the reply's own header says was done."""
        ...

    async def prepared(self) -> None:
        """Set `body`, before the request goes out."""
        ...

    def refused(self) -> None:
        """The upstream refused `body`: the client's own goes out in its place."""
        ...

    def begun(self, status: int, headers: Headers) -> None:
        """The upstream has begun to reply."""
        ...

    def heard(self, chunk: bytes) -> None:
        """A chunk was sent on."""
        ...

    def ended(self, *, is_whole: bool) -> None:
        """The reply is over, or broke off."""
        ...


Attend = Callable[[Scope, bytes], Attention | None]


class Relay:
    """The proxy as an ASGI application: every path below `/v1` goes to the same path of the upstream.

    *upstream* is a base URL, such as `https://api.openai.com/v1`; where it has no path, `/v1` is meant.
    *authorization* replaces the client's own, where the upstream's key is the server's. Raises InputError.
    """

    def __init__(self, upstream: str, *, attend: Attend, counts: Counts, authorization: str | None = None) -> None:
        parts = urlsplit(upstream)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise InputError("An upstream is a base URL without keys, such as https://api.openai.com/v1.")
        self._base = httpx2.URL(f"{parts.scheme}://{parts.netloc}/")
        self._host = self._base.netloc
        self._path = (parts.path.rstrip("/") or "/v1").encode()
        self._authorization = None if authorization is None else authorization.encode()
        self._transport = httpx2.AsyncHTTPTransport(
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=MOST_IDLE, keepalive_expiry=KEEPALIVE_S
            ),
            proxy=_way_out(parts.scheme, parts.hostname),
        )
        self._attend = attend
        self._held = 0
        self.counts = counts

    async def aclose(self) -> None:
        """Close the connections to the upstream."""
        await self._transport.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay one request."""
        self.counts.requests += 1
        self.counts.in_flight += 1
        body = _Body(receive)
        try:
            while not body.is_whole and len(body.held) <= LONGEST_BODY and self._held <= MOST_HELD:
                self._held += await body.more()
            attention = self._attended(scope, body)
            leaving = _Leaving(body, receive)
            try:
                await self._relayed(scope, body, attention, send)
            except asyncio.CancelledError:
                if not leaving.has_left:
                    raise
                self.counts.client_left += 1
                current = asyncio.current_task()
                assert current is not None
                current.uncancel()
            finally:
                leaving.over()
        except _ClientLeftError:
            self.counts.client_left += 1
        finally:
            self._held -= body.taken
            self.counts.in_flight -= 1

    def _attended(self, scope: Scope, body: _Body) -> Attention | None:
        if not body.is_whole:
            return None
        try:
            return self._attend(scope, bytes(body.held))
        except Exception as error:  # noqa: BLE001  # whatever of ours fails, the request goes on
            self.counts.failed("Reading a request", error)
            return None

    async def _relayed(self, scope: Scope, body: _Body, attention: Attention | None, send: Send) -> None:
        """Send the request up and the reply down; the attention is told of the end, however it comes."""
        told = _Told(attention, self.counts)
        try:
            await told.prepared()
            try:
                response = await self._transport.handle_async_request(self._request(scope, body, told.body))
                if told.body is not None and response.status_code in _REFUSALS:
                    await _closed(response)
                    told.refused()
                    response = await self._transport.handle_async_request(self._request(scope, body, None))
            except httpx2.TransportError as error:
                self.counts.upstream_failed += 1
                await _unreachable(send, str(self._base), error)
                return
            try:
                await self._reply(response, told, send)
            finally:
                await _closed(response)
        finally:
            told.ended()

    def _request(self, scope: Scope, body: _Body, changed: bytes | None) -> httpx2.Request:
        held = bytes(body.held) if changed is None else changed
        length = str(len(held)).encode() if body.is_whole else None
        named = _connection_names(scope["headers"])
        headers: Headers = [(b"host", self._host)]
        has_length = False
        for name, value in scope["headers"]:
            if name in _HOP_BY_HOP or name in named or name == b"host" or name.startswith(_OURS):
                continue
            if name == b"authorization" and self._authorization is not None:
                continue
            is_length = name == b"content-length"
            has_length = has_length or is_length
            headers.append((name, length if is_length and length is not None else value))
        if self._authorization is not None:
            headers.append((b"authorization", self._authorization))
        if not has_length and length is None:
            headers.append((b"transfer-encoding", b"chunked"))
        elif not has_length and held:
            headers.append((b"content-length", str(len(held)).encode()))
        content = httpx2.ByteStream(held) if body.is_whole else _Streamed(body)
        target = self._path + _below(scope)
        return httpx2.Request(
            scope["method"],
            self._base,
            headers=headers,
            stream=content,
            extensions={"timeout": _WAITS, "target": target},
        )

    async def _reply(self, response: httpx2.Response, told: _Told, send: Send) -> None:
        raw: Headers = [(name.lower(), value) for name, value in response.headers.raw]
        named = _connection_names(raw)
        headers = [(name, value) for name, value in raw if name not in _HOP_BY_HOP and name not in named]
        length = next((int(value) for name, value in headers if name == b"content-length" and value.isdigit()), None)
        told.begun(response.status_code, headers)
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        sent = 0
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        try:
            async for chunk in response.stream:
                sent += len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": sent != length})
                told.heard(chunk)
        except httpx2.TransportError:
            # An answer that never ends is how HTTP says that it broke off: the server closes the connection.
            self.counts.upstream_failed += 1
            return
        told.is_whole = True
        if sent != length:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class _ClientLeftError(Exception):
    """The client closed its connection before it had sent all."""


class _Body:
    """A request's body, as far as it was received. `taken` counts the bytes held for it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.held = bytearray()
        self.is_whole = False
        self.taken = 0

    async def more(self) -> int:
        """Receive another part; say how long it was."""
        part = await self.part()
        self.held += part
        self.taken += len(part)
        return len(part)

    async def part(self) -> bytes:
        message: Message = await self._receive()
        if message["type"] == "http.disconnect":
            raise _ClientLeftError
        self.is_whole = not message.get("more_body", False)
        return message.get("body", b"")


class _Streamed(httpx2.AsyncByteStream):
    """A body that is longer than is held: what was received, then the rest as it comes."""

    def __init__(self, body: _Body) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield bytes(self._body.held)
        while not self._body.is_whole:
            yield await self._body.part()


class _Leaving:
    """Cancels the task that made it when the client leaves, until it is `over`."""

    def __init__(self, body: _Body, receive: Receive) -> None:
        self._relaying = asyncio.current_task()
        self.has_left = False
        self._is_over = False
        # Until the whole body was received, its reader is told that the client left.
        self._waiting = asyncio.create_task(self._wait(receive)) if body.is_whole else None

    async def _wait(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        if not self._is_over:
            self.has_left = True
            assert self._relaying is not None
            self._relaying.cancel()

    def over(self) -> None:
        self._is_over = True
        if self._waiting is not None:
            self._waiting.cancel()


class _Told:
    """Passes on to an attention what happens, and lets go of it when it fails."""

    def __init__(self, attention: Attention | None, counts: Counts) -> None:
        self._attention = attention
        self._counts = counts
        self.is_whole = False

    @property
    def body(self) -> bytes | None:
        return None if self._attention is None else self._attention.body

    async def prepared(self) -> None:
        if self._attention is not None:
            try:
                await self._attention.prepared()
            except Exception as error:  # noqa: BLE001  # whatever of ours fails, the request goes on
                self._drop("Preparing a request", error)

    def refused(self) -> None:
        if self._attention is not None:
            try:
                self._attention.refused()
            except Exception as error:  # noqa: BLE001  # whatever of ours fails, the request goes on
                self._drop("Preparing a request", error)

    def begun(self, status: int, headers: Headers) -> None:
        if self._attention is not None:
            try:
                self._attention.begun(status, headers)
                headers.append((_OURS, self._attention.header))
            except Exception as error:  # noqa: BLE001  # whatever of ours fails, the reply goes on
                self._drop("Reading the head of a reply", error)

    def heard(self, chunk: bytes) -> None:
        if self._attention is not None:
            try:
                self._attention.heard(chunk)
            except Exception as error:  # noqa: BLE001  # whatever of ours fails, the reply goes on
                self._drop("Reading a reply", error)

    def ended(self) -> None:
        if self._attention is not None:
            try:
                self._attention.ended(is_whole=self.is_whole)
            except Exception as error:  # noqa: BLE001  # the reply has been sent already
                self._drop("Recording a reply", error)

    def _drop(self, doing: str, error: Exception) -> None:
        self._attention = None
        self._counts.failed(doing, error)


async def _closed(response: httpx2.Response) -> None:
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    with suppress(httpx2.TransportError):
        await response.stream.aclose()


async def _unreachable(send: Send, upstream: str, error: httpx2.TransportError) -> None:
    """Tell the client in its own API's words; its libraries try again as they would have."""
    is_late = isinstance(error, httpx2.TimeoutException)
    what = "did not accept a connection in time" if is_late else "could not be reached, or closed without a reply"
    message = f"The upstream {upstream} {what}. Check --upstream and that it runs."
    body = json.dumps({"error": {"message": message, "type": "upstream_error", "param": None, "code": None}}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (_OURS, b"upstream=unreachable"),
    ]
    await send({"type": "http.response.start", "status": 504 if is_late else 502, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _below(scope: Scope) -> bytes:
    """The path below `/v1` with its query, in the client's own spelling."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string", b"")
    return path.removeprefix(b"/v1") + (b"?" + query if query else b"")


def _connection_names(headers: Headers) -> frozenset[bytes]:
    """Headers that `Connection` names as belonging to this connection alone."""
    names = [value for name, value in headers if name == b"connection"]
    return frozenset(name.strip().lower() for value in names for name in value.split(b","))


def _way_out(scheme: str, host: str) -> str | None:
    """The proxy that the environment names for the upstream, if any."""
    return None if proxy_bypass(host) else getproxies().get(scheme)
