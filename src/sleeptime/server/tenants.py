"""One engine for each tenant, over a database of its own.

    default    the ordinary database
    NAME       SQLite: tenants/NAME/sleeptime.db beside it · PostgreSQL: the schema tenant_NAME of it

No statement names a tenant, so none can reach another's rows by mistake: the connection it runs on has no
others. Engines are opened when they are first asked for, and closed together. Each does its own queued jobs.

This file does not know who may ask for which tenant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio

from sleeptime.core.keys import DEFAULT_TENANT, check_tenant
from sleeptime.engine import DATABASE_FILE, Engine

TENANTS_FOLDER = "tenants"

OpenEngine = Callable[..., AbstractAsyncContextManager[Engine]]


def place(database: str | Path, tenant: str) -> dict[str, Any]:
    """Where a tenant's data is, as arguments of `Engine.open`. Raises TenantNameError."""
    check_tenant(tenant)
    if tenant == DEFAULT_TENANT:
        return {"database": database}
    scheme, _, rest = str(database).partition("://")
    if not rest:
        return {"database": Path(database).expanduser().absolute().parent / TENANTS_FOLDER / tenant / DATABASE_FILE}
    if scheme.partition("+")[0] == "sqlite":
        return place(Path(rest.removeprefix("/")), tenant)
    return {"database": database, "schema": f"tenant_{tenant}"}


class Tenants:
    """The engines of all tenants that were asked for. *open_engine* is `Engine.open` with its models.

    Each is opened and closed by a task of its own, for what is held open belongs to the task that opened it.
    """

    def __init__(self, database: str | Path, open_engine: OpenEngine = Engine.open) -> None:
        self._database, self._open = database, open_engine
        self._ready: dict[str, asyncio.Future[Engine]] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._is_over = anyio.Event()

    @property
    def opened(self) -> Mapping[str, Engine]:
        """The engines that are open, by tenant."""
        return {
            tenant: ready.result()
            for tenant, ready in self._ready.items()
            if ready.done() and not ready.cancelled() and ready.exception() is None
        }

    async def engine(self, tenant: str = DEFAULT_TENANT) -> Engine:
        """Find the engine of a tenant, and open it first if need be. Raises TenantNameError and what opening raises."""
        if tenant not in self._ready:
            where = place(self._database, tenant)
            self._ready[tenant] = asyncio.get_running_loop().create_future()
            self._keepers[tenant] = asyncio.create_task(self._keep(tenant, where), name=f"engine of {tenant}")
        return await asyncio.shield(self._ready[tenant])

    async def _keep(self, tenant: str, where: dict[str, Any]) -> None:
        ready = self._ready[tenant]
        try:
            async with self._open(**where) as engine:
                ready.set_result(engine)
                await self._is_over.wait()
        except BaseException as error:
            if ready.done():
                raise
            del self._ready[tenant]  # whoever asks next tries again
            ready.set_exception(error)
            ready.exception()  # those who wait are told; if nobody does, it is no news

    async def aclose(self) -> None:
        """Close all engines: their workers finish the rounds in flight and hand back the rest."""
        self._is_over.set()
        await asyncio.gather(*self._keepers.values())
