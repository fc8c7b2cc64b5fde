"""What one request may take: headers, bytes, time; and how many of one key may be under way.

    431 too many headers · 413 too large · 429 too many at once · 503 no reply begun in time

A reply that has begun may take as long as it likes: streams do. This file does not know what is asked.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sleeptime.server import failures
from sleeptime.settings import ServeSettings


class SizeLimited:
    """Middleware that refuses a request for its headers or its body, before and while it is read."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app = app
        self._most_headers, self._most_bytes = settings.header_count, int(settings.body_mib * 2**20)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if len(scope["headers"]) > self._most_headers:
            refusal = failures.reply(431, f"A request may have {self._most_headers} headers.")
            await refusal(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if declared.isdigit() and int(declared) > self._most_bytes:
            await self._refuse(scope, receive, send)
            return
        read, is_refused, is_begun = 0, False, False

        async def counted() -> Message:
            nonlocal read, is_refused
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most_bytes:
                if not is_begun and not is_refused:
                    is_refused = True
                    await self._refuse(scope, receive, send)
                raise HTTPException(413)
            return message

        async def unless_refused(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            if not is_refused:
                await send(message)

        await self._app(scope, counted, unless_refused)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = f"A request may have {self._most_bytes / 2**20:g} MiB; `body_mib` in [serve] of sleeptime.toml says so."
        await failures.reply(413, most, headers={"connection": "close"})(scope, receive, send)


class LoadLimited:
    """Middleware that bounds how many requests of one key are under way, and how long until a reply begins.

    Whose a request is says `scope["state"]["key"]`, which must be set before.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app = app
        self._most, self._request_s = settings.at_once, settings.request_s
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        key = str(scope.get("state", {}).get("key", ""))
        if self._under_way[key] >= self._most:
            await failures.reply(429, f"{self._most} requests of this key are under way.")(scope, receive, send)
            return
        self._under_way[key] += 1
        try:
            await self._in_time(scope, receive, send)
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_begun = False
        limit = asyncio.timeout(self._request_s)
        try:
            async with limit:

                async def begun(message: Message) -> None:
                    nonlocal is_begun
                    if not is_begun:
                        is_begun = True
                        limit.reschedule(None)
                    await send(message)

                await self._app(scope, receive, begun)
        except TimeoutError:
            if is_begun or not limit.expired():
                raise
            words = f"No reply had begun after {self._request_s:g} s; `request_s` in [serve] of sleeptime.toml."
            await failures.reply(503, words)(scope, receive, send)
