"""An upstream of bytes: it keeps what it was sent and replies with the bytes it is told to, when it is told to.

    async with raw_upstream({b"/v1/models": [b"HTTP/1.1 200 OK\\r\\n…"]}) as upstream:
        …
        assert upstream.requests[0].body == b"…"

A reply is a list of pieces: bytes are written, a number of seconds is waited for, `HANG_UP` closes the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

HANG_UP = None
Piece = bytes | float | None


@dataclass(frozen=True, kw_only=True)
class RawRequest:
    """A request as it came."""

    line: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def path(self) -> bytes:
        return self.line.split(b" ")[1]

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass
class RawUpstream:
    """The server as a test sees it. `gone` counts clients that left before their reply was over."""

    replies: Mapping[bytes, Sequence[Piece]]
    port: int = 0
    requests: list[RawRequest] = field(default_factory=list[RawRequest])
    gone: int = 0
    connections: int = 0
    serving: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        current = asyncio.current_task()
        assert current is not None
        self.serving.add(current)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                request = await _read(reader)
                self.requests.append(request)
                if not await self._reply(self.replies[request.path.partition(b"?")[0]], reader, writer):
                    break
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _reply(self, pieces: Sequence[Piece], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        for piece in pieces:
            if piece is HANG_UP:
                return False
            if isinstance(piece, bytes):
                writer.write(piece)
                await writer.drain()
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(piece):
                    assert await reader.read(1) == b"", "a client spoke before its reply was over"
                self.gone += 1
                return False
        return True


async def _read(reader: asyncio.StreamReader) -> RawRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n")
    line, *rest = head.split(b"\r\n")
    headers = [(name, value.strip()) for name, _, value in (each.partition(b":") for each in rest)]
    request = RawRequest(line=line, headers=headers, body=b"")
    body = b""
    if request.header(b"transfer-encoding"):
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    elif length := request.header(b"content-length"):
        body = await reader.readexactly(int(length))
    return RawRequest(line=line, headers=headers, body=body)


@asynccontextmanager
async def raw_upstream(replies: Mapping[bytes, Sequence[Piece]]) -> AsyncIterator[RawUpstream]:
    upstream = RawUpstream(replies)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=2**24)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for task in upstream.serving:
            task.cancel()
        await asyncio.gather(*upstream.serving)
