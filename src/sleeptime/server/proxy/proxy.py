"""The proxy put together: what a server mounts, starts and closes."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route

from sleeptime.server.proxy.relay import Counts, Relay


class Proxy:
    """An OpenAI-compatible proxy in front of *upstream*."""

    def __init__(self, upstream: str, *, authorization: str | None = None) -> None:
        self.counts = Counts()
        self._relay = Relay(
            upstream, attend=lambda _scope, _body: None, counts=self.counts, authorization=authorization
        )

    @property
    def routes(self) -> Sequence[BaseRoute]:
        return [Route("/v1/{path:path}", self._relay)]

    async def start(self) -> None:
        """Begin."""

    async def aclose(self) -> None:
        """Close the connections to the upstream."""
        await self._relay.aclose()
