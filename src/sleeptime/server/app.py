"""Put the server together: routes of the proxy, of REST and of the dashboard, over an engine.

    create_app(find, routes=…)    over whatever engine *find* names; `serving.application` puts limits around it

A route finds the engine of whoever asks with `engine_of(request)`. This file knows no route by name.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from sleeptime.core.errors import SleeptimeError
from sleeptime.engine import Engine
from sleeptime.server import failures

FindEngine = Callable[[HTTPConnection], Awaitable[Engine]]
Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


class Part(Protocol):
    """What brings routes of its own, and may have to be started and closed: the proxy."""

    @property
    def routes(self) -> Sequence[BaseRoute]: ...

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...


class WithEngine:
    """Middleware that finds the engine of whoever asks before any route sees the request."""

    def __init__(self, app: ASGIApp, find: FindEngine) -> None:
        self._app, self._find = app, find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope.setdefault("state", {}).get("is_open"):
            try:
                scope["state"]["engine"] = await self._find(HTTPConnection(scope))
            except SleeptimeError as error:
                reply = await failures.of_sleeptime(Request(scope), error)
                await reply(scope, receive, send)
                return
        await self._app(scope, receive, send)


def engine_of(request: HTTPConnection) -> Engine:
    """The engine of whoever asks."""
    engine = request.state.engine
    assert isinstance(engine, Engine)
    return engine


def create_app(find: FindEngine, *, routes: Sequence[BaseRoute], lifespan: Lifespan | None = None) -> Starlette:
    """Make the application. *find* names the engine for a request."""
    app = Starlette(
        routes=list(routes),
        lifespan=lifespan,
        exception_handlers={
            SleeptimeError: failures.of_sleeptime,
            HTTPException: failures.of_http,
            Exception: failures.of_a_bug,
        },
    )
    app.add_middleware(WithEngine, find=find)
    return app


def running(parts: Sequence[Part], close: Callable[[], Awaitable[None]]) -> Lifespan:
    """Start *parts* with the server and close them with it, the last one first; then *close* the rest."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        started: list[Part] = []
        try:
            for part in parts:
                await part.start()
                started.append(part)
            yield
        finally:
            for part in reversed(started):
                await part.aclose()
            await close()

    return lifespan
