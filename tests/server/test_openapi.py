"""The document says what is true of the server: schemathesis asks it everything the document allows, and more."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from served import Served, listening

from sleeptime.server.rest import OPERATIONS, document

MOST_EXAMPLES = "8"
TIMEOUT_S = 240


def test_schemathesis_finds_nothing_amiss(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    with listening(tmp_path) as (server, url):
        key = _key(server)
        command = [Path(sys.executable).parent / "schemathesis", "run", f"{url}/openapi.json"]
        options = ["--header", f"Authorization: Bearer {key}", "--seed", "1", "-n", MOST_EXAMPLES, "--checks", "all"]
        environ = {**os.environ, "SCHEMATHESIS_HOOKS": ""}
        done = subprocess.run(
            [*command, *options],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    assert done.returncode == 0, done.stdout[-20_000:]


def _key(server: Served) -> str:
    """A key made in the loop of the server."""
    return asyncio.run_coroutine_threadsafe(server.key(), server.loop).result(timeout=30)


def test_every_operation_is_described_and_has_a_name_of_its_own() -> None:
    written = document(OPERATIONS)
    items = [item for path in written["paths"].values() for item in path.values()]

    assert written["openapi"] == "3.1.0"
    assert len({item["operationId"] for item in items}) == len(items) == len(OPERATIONS)
    assert all(item["summary"] for item in items)
