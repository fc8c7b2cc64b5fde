"""MCP, tried with the SDK's own client over both transports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from served import served

pytest.importorskip("mcp")

from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from sleeptime.server.mcp import Mcp

pytestmark = pytest.mark.anyio

BOXES = {"name": "boxes", "text": "Ana has 3 boxes. Ben has 2 more."}
TOOLS = ["add_context", "ask", "learned_context", "ledger", "sleep_now"]


async def _whole_story(client: Client) -> dict[str, Any]:
    listed = await client.list_tools()
    assert sorted(tool.name for tool in listed.tools) == TOOLS
    calls = {
        "add_context": BOXES,
        "sleep_now": {"name": "boxes", "max_output_tokens": 5000},
        "ask": {"name": "boxes", "question": "How many has Ben?"},
        "learned_context": {"name": "boxes"},
        "ledger": {},
    }
    told = {}
    for tool, given in calls.items():
        result = await client.call_tool(tool, given)
        assert not result.is_error, result
        told[tool] = result.structured_content
    return told


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_over_http_with_a_key(tmp_path: Path, mode: Any) -> None:
    async with served(tmp_path, parts=[Mcp()]) as server:
        key = await server.key("acme")
        http = server.client(authorization=f"Bearer {key}")
        async with http, Client(streamable_http_client("http://127.0.0.1/mcp", http_client=http), mode=mode) as client:
            told = await _whole_story(client)
            unknown = await client.call_tool("ask", {"name": "none", "question": "?"})
        contexts = await (await server.tenants.engine("acme")).contexts()
        of_default = await (await server.tenants.engine()).contexts()

    assert told["ask"]["text"] == "The answer is 5."
    assert told["learned_context"]["learned"]["notes"][0]["text"] == "Ben has 5."
    assert told["ledger"]["total"]["queries"] == 1
    assert unknown.is_error
    assert "No context 'none'" in unknown.content[0].text
    assert ([each.name for each in contexts], of_default) == (["boxes"], [])


async def test_over_http_nobody_is_let_in_without_a_key(tmp_path: Path) -> None:
    async with served(tmp_path, parts=[Mcp()]) as server, server.client() as client:
        await server.key()
        refused = await client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})

    assert refused.status_code == 401


async def test_over_stdin_and_stdout(tmp_path: Path) -> None:
    environ = {"SLEEPTIME_HOME": str(tmp_path), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "sleeptime.cli", "mcp", "--model", "tiny"], env=environ
    )
    async with Client(command) as client:
        listed = await client.list_tools()
        added = await client.call_tool("add_context", BOXES)
        shown = await client.call_tool("learned_context", {"name": "boxes"})
        again = await client.call_tool("add_context", {"name": "boxes", "text": "other"})

    assert sorted(tool.name for tool in listed.tools) == TOOLS
    assert added.structured_content is not None
    assert added.structured_content["name"] == "boxes"
    assert shown.structured_content == {"learned": None, "stale": []}
    assert again.is_error


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    hide = (
        "import sys; sys.modules['mcp'] = None; from sleeptime.cli import main; sys.argv = ['sleeptime', 'mcp']; main()"
    )
    environ = {**os.environ, "SLEEPTIME_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", hide], env=environ, capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 1
    assert "pip install 'sleeptime[mcp]'" in done.stderr
