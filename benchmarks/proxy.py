"""What the proxy adds: latency, time to the first token, and throughput against a bare pass-through.

    python -m benchmarks.proxy --seconds 10

Upstream, proxy and bare pass-through (Starlette and httpx2, nothing else) are a process each on loopback; requests
carry a document of 8 kB, so that contexts are recognised and recorded. At 100 requests a second they go to the
upstream directly and through the proxy in turn; what is added is the difference of the quantiles. It prints a table
and says whether the targets are met.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Generator, Sequence
from pathlib import Path

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from sleeptime.engine import Engine
from sleeptime.server.app import create_app
from sleeptime.server.proxy import Proxy

ROOT = Path(__file__).parents[1]
RATE = 100
CONCURRENCY = 16
DOCUMENT = "\n\n".join(f"Paragraph {n} says that box {n} holds {n * n} marbles and a letter." for n in range(120))
USAGE = {"prompt_tokens": 2000, "completion_tokens": 5, "total_tokens": 2005}
TARGETS = {"p50 ms": 3.0, "p99 ms": 10.0, "first token ms": 3.0, "throughput": 0.8}


async def complete(request: Request) -> Response:
    body = json.loads(await request.body())
    head = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
    if body.get("stream"):

        async def events() -> AsyncIterator[bytes]:
            for word in ("The", " answer", " is", " 7."):
                choice = {"index": 0, "delta": {"content": word}}
                yield b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"
            yield b"data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")
    choice = {"index": 0, "message": {"role": "assistant", "content": "The answer is 7."}, "finish_reason": "stop"}
    return Response(json.dumps({**head, "choices": [choice], "usage": USAGE}), media_type="application/json")


def bare(upstream: str) -> ASGIApp:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=1000)
    client = httpx2.AsyncClient(timeout=None, trust_env=False, limits=limits)

    async def relay(request: Request) -> Response:
        headers = [(k, v) for k, v in request.headers.raw if k not in (b"host", b"connection")]
        sent = client.build_request(
            request.method, upstream + request.url.path, content=await request.body(), headers=headers
        )
        reply = await client.send(sent, stream=True)
        kept = {k: v for k, v in reply.headers.items() if k not in ("transfer-encoding", "connection")}

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in reply.aiter_raw():
                yield piece
            await reply.aclose()

        return StreamingResponse(pieces(), status_code=reply.status_code, headers=kept)

    return Starlette(routes=[Route("/v1/{path:path}", relay, methods=["GET", "POST"])])


async def serve(what: str, upstream: str) -> None:
    """Run one of the three until standard input closes; its port goes to standard output."""
    async with contextlib.AsyncExitStack() as stack:
        if what == "proxy":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            engine = await stack.enter_async_context(
                Engine.open(database=Path(folder) / "x.db", environ={"SLEEPTIME_HOME": folder})
            )

            async def find(_: HTTPConnection) -> Engine:
                return engine

            proxy = Proxy(f"{upstream}/v1")
            await proxy.start()
            stack.push_async_callback(proxy.aclose)
            app: ASGIApp = create_app(find, routes=proxy.routes)
        elif what == "bare":
            app = bare(upstream)
        else:
            app = Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        config = uvicorn.Config(app, log_level="error", access_log=False, ws="none", lifespan="off")
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        server.should_exit = True
        await running


@contextlib.contextmanager
def process(what: str, upstream: str = "") -> Generator[str]:
    command = [sys.executable, "-m", "benchmarks.proxy", "--serve", what, "--upstream", upstream]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:  # noqa: S603 - this file
        assert running.stdin is not None
        assert running.stdout is not None
        try:
            yield running.stdout.readline().strip()
        finally:
            running.stdin.close()


def body(number: int, *, is_stream: bool = False) -> bytes:
    messages = [{"role": "system", "content": DOCUMENT}, {"role": "user", "content": f"Question {number}?"}]
    return json.dumps({"model": "m", "messages": messages, "stream": is_stream}).encode()


async def timed(client: httpx2.AsyncClient, url: str, number: int, *, is_stream: bool) -> float:
    """Milliseconds to the end of a reply, or to the first chunk of a stream."""
    began = time.perf_counter()
    async with client.stream("POST", f"{url}/v1/chat/completions", content=body(number, is_stream=is_stream)) as reply:
        first = 0.0
        async for _ in reply.aiter_raw():
            first = first or time.perf_counter()
    return 1000 * ((first if is_stream else time.perf_counter()) - began)


async def added(urls: Sequence[str], seconds: float, *, is_stream: bool) -> list[list[float]]:
    """Send at `RATE` requests a second, in turn to each of *urls*; the milliseconds of each."""
    found: list[list[float]] = [[] for _ in urls]

    async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:

        async def one(number: int) -> None:
            at = number % len(urls)
            found[at].append(await timed(client, urls[at], number, is_stream=is_stream))

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * RATE)):
                await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
                group.create_task(one(number))
    return found


async def throughput(url: str, seconds: float) -> float:
    """Requests a second with `CONCURRENCY` at once."""
    done = 0
    until = time.perf_counter() + seconds
    async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:

        async def loop(number: int) -> None:
            nonlocal done
            while time.perf_counter() < until:
                await client.post(f"{url}/v1/chat/completions", content=body(number))
                done += 1

        await asyncio.gather(*(loop(number) for number in range(CONCURRENCY)))
    return done / seconds


async def measure(seconds: float) -> dict[str, float]:
    """Measure all of it."""
    with process("upstream") as upstream, process("proxy", upstream) as proxy, process("bare", upstream) as plain:
        await added([upstream, proxy, plain], 1.0, is_stream=False)
        direct, through = await added([upstream, proxy], seconds, is_stream=False)
        first_direct, first_through = await added([upstream, proxy], seconds, is_stream=True)
        rounds = [[await throughput(url, seconds / 5) for url in (proxy, plain)] for _ in range(5)]

    def quantile(values: Sequence[float], share: float) -> float:
        return statistics.quantiles(values, n=100)[round(100 * share) - 1]

    return {
        "p50 ms": quantile(through, 0.5) - quantile(direct, 0.5),
        "p99 ms": quantile(through, 0.99) - quantile(direct, 0.99),
        "first token ms": quantile(first_through, 0.5) - quantile(first_direct, 0.5),
        "throughput": statistics.median(ours / theirs for ours, theirs in rounds),
        "requests a second": statistics.median(ours for ours, _ in rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--serve", choices=["upstream", "proxy", "bare"], help=argparse.SUPPRESS)
    parser.add_argument("--upstream", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.serve, given.upstream))
        return
    found = asyncio.run(measure(given.seconds))
    for name, value in found.items():
        target = TARGETS.get(name)
        is_met = target is None or (value >= target if name == "throughput" else value <= target)
        print(f"{name:20} {value:8.2f}   {'' if target is None else f'target {target:g}'} {'' if is_met else 'MISSED'}")


if __name__ == "__main__":
    main()
