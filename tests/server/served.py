"""A server in this process: the whole application, over engines whose model says what it is told to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from sleeptime import Engine
from sleeptime.core.messages import Message
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.scripted import ScriptedModel
from sleeptime.server.access import new_key
from sleeptime.server.serving import application
from sleeptime.server.tenants import Tenants
from sleeptime.settings import ServeSettings

BASE_URL = "http://127.0.0.1"


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

    def open_engine(**where: Any) -> Any:
        return Engine.open(**where, model=model, worker=worker, environ={"SLEEPTIME_HOME": str(place / "home")})

    tenants = Tenants(database or place / "sleeptime.db", open_engine)
    app = application(tenants, settings or ServeSettings(), **parts)
    try:
        yield Served(tenants=tenants, app=app)
    finally:
        await tenants.aclose()
