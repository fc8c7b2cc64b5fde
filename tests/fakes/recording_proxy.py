"""A wire tap: passes everything on to another server, byte for byte, and keeps what passed.

with tap("http://127.0.0.1:8080") as wire:
    …talk to wire.url…
    assert wire.usage == [{"prompt_tokens": 12, …}, …]
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

HOP_BY_HOP = {"host", "content-length", "connection", "transfer-encoding", "accept-encoding"}


@dataclass
class Wire:
    """What passed: each request's body, and each reply's bytes in order."""

    upstream: str
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    replies: list[bytes] = field(default_factory=list[bytes])

    @property
    def usage(self) -> list[dict[str, Any]]:
        """The usage each completion reported, read from the raw bytes."""
        return [found for reply in self.replies if (found := _usage(reply))]

    async def _pass(self, request: Request) -> StreamingResponse:
        body = await request.body()
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        client = httpx2.AsyncClient(timeout=60, trust_env=False)
        sent = client.build_request(request.method, self.upstream + request.url.path, content=body, headers=headers)
        reply = await client.send(sent, stream=True)
        if body:
            self.requests.append(json.loads(body))

        async def pieces() -> AsyncIterator[bytes]:
            whole = b""
            try:
                async for piece in reply.aiter_raw():
                    whole += piece
                    yield piece
            finally:
                self.replies.append(whole)
                await reply.aclose()
                await client.aclose()

        kept = {k: v for k, v in reply.headers.items() if k.lower() not in HOP_BY_HOP}
        return StreamingResponse(pieces(), status_code=reply.status_code, headers=kept)


@contextmanager
def tap(upstream: str) -> Iterator[Wire]:
    """Listen on a free port of loopback in front of *upstream*."""
    wire = Wire(upstream.rstrip("/"))
    app = Starlette(routes=[Route("/{path:path}", wire._pass, methods=["GET", "POST"])])  # noqa: SLF001 - its own
    listener = socket.create_server(("127.0.0.1", 0))
    wire.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="critical", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="wire-tap")
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        yield wire
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()


def _usage(reply: bytes) -> dict[str, Any] | None:
    if reply.startswith(b"data: "):
        events = [line[6:] for line in reply.split(b"\n") if line.startswith(b"data: ") and line != b"data: [DONE]"]
        return next((event["usage"] for event in map(json.loads, reversed(events)) if event.get("usage")), None)
    try:
        return json.loads(reply).get("usage")
    except ValueError:
        return None
