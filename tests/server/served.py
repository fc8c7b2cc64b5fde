"""A server in this process: the whole application, over engines whose model says what it is told to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from sleeptime import Engine
from sleeptime.core.messages import Message
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.scripted import ScriptedModel
from sleeptime.server.access import new_key
from sleeptime.server.serving import application
from sleeptime.server.tenants import Tenants
from sleeptime.settings import ServeSettings

BASE_URL = "http://127.0.0.1"
PRICES = """
[[card]]
model = "scripted"
dated = 2026-11-01
input_usd_per_mtok = 1.0
output_usd_per_mtok = 10.0
"""


def says(messages: Sequence[Message], _options: Options) -> str:
    """Write one note where a sleep asks for notes, and an answer elsewhere."""
    if "Write the changes now" in messages[-1].content:
        return "<notes>Ben has 5.\ndone</notes>"
    return "The answer is 5."


@dataclass(frozen=True, kw_only=True)
class Served:
    """A server that runs, and how to ask it."""

    tenants: Tenants
    app: Any
    loop: asyncio.AbstractEventLoop

    def client(self, **headers: str) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app), base_url=BASE_URL, headers=headers)

    async def key(self, tenant: str = "default", *, is_admin: bool = False) -> str:
        secret, key = new_key(tenant=tenant, label="test", is_admin=is_admin)
        await (await self.tenants.engine()).store.add_key(key)
        return secret


@asynccontextmanager
async def served(
    place: Path,
    model: ScriptedModel | None = None,
    *,
    settings: ServeSettings | None = None,
    database: str | None = None,
    worker: bool = False,
    **parts: Any,
) -> AsyncGenerator[Served]:
    """Run the application without a network."""
    model = model or ScriptedModel(says, abilities=Abilities(tools=False))
    (place / "prices.toml").write_text(PRICES)

    def open_engine(**where: Any) -> Any:
        return Engine.open(
            **where,
            model=model,
            prices=place / "prices.toml",
            worker=worker,
            environ={"SLEEPTIME_HOME": str(place / "home")},
        )

    tenants = Tenants(database or place / "sleeptime.db", open_engine)
    app = application(tenants, settings or ServeSettings(), **parts)
    async with begun(app):
        yield Served(tenants=tenants, app=app, loop=asyncio.get_running_loop())


@asynccontextmanager
async def begun(app: Any) -> AsyncGenerator[None]:
    """Begin and end an application as a server does."""
    told: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    done: asyncio.Queue[str] = asyncio.Queue()

    async def send(message: dict[str, str]) -> None:
        await done.put(message["type"])

    running = asyncio.create_task(app({"type": "lifespan", "state": {}}, told.get, send))
    await told.put({"type": "lifespan.startup"})
    assert await done.get() == "lifespan.startup.complete"
    try:
        yield
    finally:
        await told.put({"type": "lifespan.shutdown"})
        assert await done.get() == "lifespan.shutdown.complete"
        await running


@contextmanager
def listening(place: Path, *, settings: ServeSettings | None = None, **more: Any) -> Iterator[tuple[Served, str]]:
    """Run the application on a port of loopback, in a thread with a loop of its own; gives it with its URL."""
    begun: Future[tuple[Served, int, asyncio.Event]] = Future()

    async def run() -> None:
        over = asyncio.Event()
        async with served(place, settings=settings, **more) as server:
            config = uvicorn.Config(server.app, port=0, log_config=None, lifespan="off")
            uvicorn_server = uvicorn.Server(config)
            serving = asyncio.create_task(uvicorn_server.serve())
            while not uvicorn_server.started:  # noqa: ASYNC110  # uvicorn has no event for it
                await asyncio.sleep(0.01)
            port = uvicorn_server.servers[0].sockets[0].getsockname()[1]
            begun.set_result((server, port, over))
            await over.wait()
            uvicorn_server.should_exit = True
            await serving

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    server, port, over = begun.result(timeout=30)
    try:
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.loop.call_soon_threadsafe(over.set)
        thread.join()
