"""A model of no thought, and of no latency unless told: an OpenAI-compatible endpoint on loopback, in its own process.

    python -m benchmarks.loopback [SECONDS]     prints its base URL, serves until its standard input closes

It answers "The answer is N.", N read off the prompt's last digit, SECONDS after the question, and counts words as
tokens. Given tools it calls the first, with one more note.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
import uuid
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


async def complete(request: Request, latency_s: float = 0.0) -> JSONResponse:
    """Reply to a chat completion."""
    body = await request.json()
    await asyncio.sleep(latency_s)
    text = " ".join(message["content"] for message in body["messages"])
    digits = re.findall(r"\d", text)
    answer = f"The answer is {digits[-1] if digits else 0}."
    input_tokens, output_tokens = len(text.split()), len(answer.split())
    message: dict[str, object] = {"role": "assistant", "content": answer}
    if body.get("tools"):
        note = {"kind": "inference", "text": f"Note {uuid.uuid4().hex}.", "evidence": ["*"]}
        function = {"name": body["tools"][0]["function"]["name"], "arguments": json.dumps({"add": [note]})}
        message["tool_calls"] = [{"id": "call", "type": "function", "function": function}]
    return JSONResponse(
        {
            "id": "loopback",
            "object": "chat.completion",
            "created": 0,
            "model": MODEL,
            "choices": [
                {"index": 0, "message": message, "finish_reason": "tool_calls" if body.get("tools") else "stop"},
            ],
            "usage": {
                "prompt_tokens": input_tokens,
                "completion_tokens": output_tokens,
                "total_tokens": input_tokens + output_tokens,
            },
        }
    )


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
def served(complete: Callable[[Request], Awaitable[Response]]) -> Generator[str]:
    """Serve chat completions from a thread; gives the base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])
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
    latency_s = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0

    async def later(request: Request) -> JSONResponse:
        return await complete(request, latency_s)

    with served(later) as base_url:
        sys.stdout.write(f"{base_url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
