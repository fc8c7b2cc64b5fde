"""The proxy put together: what a server mounts, starts and closes.

Proxy = Relay( Observer( Assistant, Recorder ) )        bytes, what they say, notes to show, what is kept
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from starlette.routing import BaseRoute, Route

from sleeptime.server.proxy.assisting import Assistant
from sleeptime.server.proxy.observing import Observer, Recorder
from sleeptime.server.proxy.relay import Counts, Relay
from sleeptime.settings import Settings


class Proxy:
    """An OpenAI-compatible proxy in front of *upstream*, for an application whose requests carry their engine.

    `counts` says what it has done. Serve it without headers of the server's own (`server_header` and `date_header`
    of uvicorn are False), or replies carry two of each. Raises InputError where *upstream* is no base URL.
    """

    def __init__(
        self,
        upstream: str,
        *,
        settings: Settings = Settings(),
        authorization: str | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.counts = Counts()
        self._recorder = Recorder(self.counts)
        assistant = Assistant(self.counts, clock_s)
        observer = Observer(upstream, settings.routes, assistant, self._recorder, self.counts, clock_s, now)
        self._relay = Relay(upstream, attend=observer.attend, counts=self.counts, authorization=authorization)

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """Every path below `/v1`: mount them behind those of your own."""
        return [Route("/v1/{path:path}", self._relay)]

    async def start(self) -> None:
        """Begin to record."""
        await self._recorder.start()

    async def aclose(self) -> None:
        """Close the connections to the upstream, and keep what was not recorded yet."""
        await self._relay.aclose()
        await self._recorder.aclose()
