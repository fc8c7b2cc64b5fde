"""A model of no thought: an OpenAI-compatible endpoint on loopback, in a process of its own.

    python -m benchmarks.loopback [SECONDS]      prints its base URL, serves until its standard input closes

It answers "The answer is N.", N read off the prompt's last digit, after so many seconds (0); words count as tokens.
Where it is given tools, it revises notes: it adds a few that quote sentences of the prompt, and is never done.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ROOT = Path(__file__).parents[1]
MODEL = "loopback"
NOTES = 4
"""Notes that a round adds."""
_rounds = itertools.count()


async def complete(request: Request) -> JSONResponse:
    """Reply to a chat completion."""
    body = await request.json()
    await asyncio.sleep(request.app.state.latency_s)
    text = " ".join(message["content"] for message in body["messages"])
    if body.get("tools"):
        arguments = _revision(text)
        call = {"id": "t1", "type": "function", "function": {"name": "revise_notes", "arguments": arguments}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        finish, answer = "tool_calls", arguments
    else:
        digits = re.findall(r"\d", text)
        answer = f"The answer is {digits[-1] if digits else 0}."
        message, finish = {"role": "assistant", "content": answer}, "stop"
    input_tokens, output_tokens = len(text.split()), len(answer.split())
    return JSONResponse(
        {
            "id": "loopback",
            "object": "chat.completion",
            "created": 0,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": input_tokens,
                "completion_tokens": output_tokens,
                "total_tokens": input_tokens + output_tokens,
            },
        }
    )


def _revision(text: str) -> str:
    """Notes on sentences of the prompt, other ones in every round."""
    round_ = next(_rounds)
    sentences = re.findall(r"[A-Z][^.\n]{20,200}\.", text) or ["*"]
    quoted = [sentences[(round_ * NOTES + at) * 7 % len(sentences)] for at in range(NOTES)]
    add = [{"kind": "inference", "text": f"In round {round_}: {quote}", "evidence": [quote]} for quote in quoted]
    return json.dumps({"add": add, "done": False})


@contextmanager
def loopback_model(latency_s: float = 0.0) -> Generator[str]:
    """Run the endpoint in another process; gives its name as a model."""
    command = [sys.executable, "-m", "benchmarks.loopback", str(latency_s)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - this file
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"{process.stdout.readline().strip()}#{MODEL}"
        finally:
            process.stdin.close()


@contextmanager
def served(complete: Callable[[Request], Awaitable[Response]], latency_s: float = 0.0) -> Generator[str]:
    """Serve chat completions from a thread; gives the base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])
        app.state.latency_s = latency_s
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="error", access_log=False, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join()


def main() -> None:
    """Serve until standard input closes."""
    with served(complete, float(sys.argv[1]) if len(sys.argv) > 1 else 0.0) as base_url:
        sys.stdout.write(f"{base_url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
