"""A model of no thought and no latency: an OpenAI-compatible endpoint on loopback, in a process of its own.

    python -m benchmarks.loopback      prints its base URL, serves until its standard input closes

It answers "The answer is N.", N read off the prompt's last digit, and counts words as tokens.
"""

from __future__ import annotations

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


async def complete(request: Request) -> JSONResponse:
    """Reply to a chat completion."""
    body = await request.json()
    text = " ".join(message["content"] for message in body["messages"])
    digits = re.findall(r"\d", text)
    answer = f"The answer is {digits[-1] if digits else 0}."
    input_tokens, output_tokens = len(text.split()), len(answer.split())
    return JSONResponse(
        {
            "id": "loopback",
            "object": "chat.completion",
            "created": 0,
            "model": MODEL,
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"},
            ],
            "usage": {
                "prompt_tokens": input_tokens,
                "completion_tokens": output_tokens,
                "total_tokens": input_tokens + output_tokens,
            },
        }
    )


@contextmanager
def loopback_model() -> Generator[str]:
    """Run the endpoint in another process; gives its name as a model."""
    command = [sys.executable, "-m", "benchmarks.loopback"]
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
    with served(complete) as base_url:
        sys.stdout.write(f"{base_url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
