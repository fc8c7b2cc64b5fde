"""The whole server: parts and middleware in their order, run by uvicorn until it is told to stop.

    Observed( SizeLimited( Guarded( LoadLimited( routes over the tenant's engine ))))

It refuses to listen beyond this machine where no key was made. Told to stop, it takes no more requests, lets replies
under way end for up to `stop_s`, and closes the engines, whose workers hand back what they hold.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

import uvicorn
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from sleeptime.core.errors import InputError, StoreError
from sleeptime.core.keys import DEFAULT_TENANT
from sleeptime.core.wire import plain
from sleeptime.engine import Engine
from sleeptime.server import access, dashboard, failures, observing, rest
from sleeptime.server.access import Access, Guarded, is_loopback
from sleeptime.server.app import Part, create_app, running
from sleeptime.server.limits import LoadLimited, SizeLimited
from sleeptime.server.observing import Counts, Metrics, Observed
from sleeptime.server.proxy import Proxy
from sleeptime.server.tenants import Tenants
from sleeptime.settings import ServeSettings, Settings

OF_THE_PROXY = ("models", "chat/completions", "responses", "embeddings")


def application(
    tenants: Tenants,
    settings: ServeSettings,
    *,
    parts: Sequence[Part] = (),
    pages: Sequence[BaseRoute] = (),
    counts: Counts = dict,
) -> ASGIApp:
    """Put the server together. *parts* are started and closed with it; *pages* are routes, and no more.

    *counts* says what the proxy has counted.
    """
    door, metrics = Access(tenants, settings), Metrics(tenants, counts)

    async def find(connection: HTTPConnection) -> Engine:
        return await tenants.engine(connection.state.tenant)

    routes = [
        *_health(tenants),
        *observing.routes(metrics),
        *access.sign_in_routes(door),
        *rest.routes(),
        *(route for part in parts for route in part.routes),
        *pages,
        *_hints(),
    ]
    app: ASGIApp = create_app(find, routes=routes, lifespan=running(parts, tenants.aclose))
    return Observed(SizeLimited(Guarded(LoadLimited(app, settings), door), settings), metrics)


async def check_address(tenants: Tenants, host: str) -> None:
    """Refuse to listen where others can reach it without a key. Raises InputError."""
    if is_loopback(host):
        return
    keys = await (await tenants.engine()).store.keys()
    if all(key.revoked_at is not None for key in keys):
        raise InputError(
            f"{host} can be reached from other machines, and no key guards it. "
            "Make one with `sleeptime keys create`, or listen on 127.0.0.1."
        )


async def serve(app: ASGIApp, settings: ServeSettings, *, on_ready: Callable[[int], None] = lambda _port: None) -> None:
    """Serve until SIGTERM or Ctrl-C. *on_ready* is told the port, once it listens."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=max(1, round(settings.stop_s)),
        lifespan="on",
    )
    server = _Stoppable(config)

    async def tell() -> None:
        while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.01)
        on_ready(server.servers[0].sockets[0].getsockname()[1])

    telling = asyncio.create_task(tell())
    try:
        await server.serve()
    except SystemExit:
        raise InputError(f"{settings.host}:{settings.port} cannot be listened on; the line above says why.") from None
    finally:
        telling.cancel()


class _Stoppable(uvicorn.Server):
    """A server that a signal ends, and not the process: what is held open is closed behind it."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Hear the signals while it serves."""
        loop = asyncio.get_running_loop()
        for stop in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(stop, self.handle_exit, stop, None)
        try:
            yield
        finally:
            for stop in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(stop)


def _health(tenants: Tenants) -> Sequence[Route]:
    async def healthz(_request: Request) -> Response:
        return failures.JsonReply({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        try:
            is_current = await (await tenants.engine(DEFAULT_TENANT)).store.is_current()
        except StoreError:
            return failures.reply(503, "The database cannot be reached.")
        if not is_current:
            return failures.reply(503, "The database has another schema than this program.")
        return failures.JsonReply({"status": "ready"})

    return [Route("/healthz", healthz, methods=["GET"]), Route("/readyz", readyz, methods=["GET"])]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What settings ask for and is installed: arguments of `application`."""

    parts: Sequence[Part]
    pages: Sequence[BaseRoute]
    counts: Counts


def found(settings: Settings, *, upstream_key: str | None = None) -> Found:
    """Make the parts and pages that *settings* ask for. *upstream_key* goes out in place of what clients send."""
    parts: list[Part] = []
    counts: Counts = dict
    if find_spec("mcp"):
        from sleeptime.server.mcp import Mcp  # noqa: PLC0415  # an extra

        parts.append(Mcp())
    if settings.serve.upstream:
        authorization = f"Bearer {upstream_key}" if upstream_key else None
        proxy = Proxy(settings.serve.upstream, settings=settings, authorization=authorization)
        parts.append(proxy)
        counts = lambda: plain(proxy.counts)  # noqa: E731  # a name for two lines
    return Found(parts=parts, pages=dashboard.routes(), counts=counts)


def _hints() -> Sequence[Route]:
    """What the proxy or MCP would answer; where there is one, its routes come first."""

    async def hint(_request: Request) -> Response:
        words = "This server has no upstream to ask. Start it with `sleeptime serve --upstream URL`."
        return failures.reply(404, words, kind="no_upstream")

    async def no_mcp(_request: Request) -> Response:
        return failures.reply(404, "MCP needs more packages: pip install 'sleeptime[mcp]'.", kind="no_mcp")

    hints = [Route(f"/v1/{path}", hint, methods=["GET", "POST"]) for path in OF_THE_PROXY]
    return [*hints, Route("/mcp", no_mcp, methods=["GET", "POST", "DELETE"])]
