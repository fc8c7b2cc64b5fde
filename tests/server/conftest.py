"""Fixtures of the tests of the server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from served import Served, served


@pytest.fixture
async def server(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Served]:  # noqa: ARG001  # the loop it runs in
    async with served(tmp_path) as server:
        yield server
