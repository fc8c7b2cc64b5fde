"""Put the server together: routes of the proxy, of REST and of the dashboard, over an engine.

A route finds the engine of whoever asks with `engine_of(request)`. This file knows no route by name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from sleeptime.engine import Engine

FindEngine = Callable[[HTTPConnection], Awaitable[Engine]]


class WithEngine:
    """Middleware that finds the engine of whoever asks before any route sees the request."""

    def __init__(self, app: ASGIApp, find: FindEngine) -> None:
        self._app, self._find = app, find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["engine"] = await self._find(HTTPConnection(scope))
        await self._app(scope, receive, send)


def engine_of(request: HTTPConnection) -> Engine:
    """The engine of whoever asks."""
    engine = request.state.engine
    assert isinstance(engine, Engine)
    return engine


def create_app(find: FindEngine, *, routes: Sequence[BaseRoute]) -> Starlette:
    """Make the application. *find* names the engine for a request."""
    app = Starlette(routes=list(routes))
    app.add_middleware(WithEngine, find=find)
    return app
