"""Know the moment at which a call goes out, and put its id on the wire.

    connection → on_send → first byte of the request      on_send is awaited in between

The id goes as the header `X-Client-Request-Id`, OpenAI's name for an id that a client gives its request; others
leave it unread. An HTTP client finds the call it sends for in the context of the task that asked, because
providers' libraries stand between. Where a proxy is asked first for a tunnel, that counts as going out.

This file does not know what is done at that moment.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import httpx2

HEADER = "X-Client-Request-Id"
_FIRST_BYTE = "send_request_headers.started"  # of HTTP/1.1 and 2, as httpcore traces them


@dataclass(slots=True)
class Sending:
    """A call on its way out. `error` is what `on_send` raised: then nothing was sent."""

    call_id: str | None
    on_send: Callable[[], Awaitable[None]] | None
    was_told: bool = False
    error: Exception | None = None

    async def traced(self, event: str, _info: object) -> None:
        """Tell that the request goes out, once; what is raised here stops it."""
        if self.on_send is None or self.was_told or not event.endswith(_FIRST_BYTE):
            return
        try:
            await self.on_send()
        except Exception as error:
            self.error = error
            raise
        self.was_told = True


_current: ContextVar[Sending | None] = ContextVar("sending", default=None)


@contextmanager
def sending(call: Sending) -> Generator[None]:
    """Let requests of this task go out as *call*."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)


async def announce(request: httpx2.Request) -> None:
    """Give a request the id of its call, and have the moment told at which it goes out: a hook of HTTP clients."""
    call = _current.get()
    if call is None:
        return
    if call.call_id is not None:
        request.headers[HEADER] = call.call_id
    request.extensions = {**request.extensions, "trace": call.traced}
