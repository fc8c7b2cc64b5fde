"""What of a provider's prompt cache survives when notes are published: behind the prefix, and written into it.

    python -m benchmarks.prefix_cache --versions 20 --queries 10

The upstream, on loopback, emulates prefix caching: a prompt is its words, in blocks of 128, and a block is cached if
an earlier prompt had it behind the same words. The application asks about one document; before each version one more
note is published. "behind" is the proxy in `mode = "assist"`; "in place" sends the same notes directly, each written
behind the paragraph that it is about, as a document that is rewritten has them. Counted are words of the document's
message that the upstream found cached, in parts of all of these: of every request behind the first, and of the first
request behind each publication.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx2
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse

from benchmarks.loopback import served
from sleeptime.core.context import Context
from sleeptime.core.notes import LearnedContext, Note
from sleeptime.core.usage import Usage
from sleeptime.engine import Engine
from sleeptime.server.app import create_app
from sleeptime.server.proxy import Proxy
from sleeptime.server.proxy.assisting import OLDEST_S
from sleeptime.settings import RouteSettings, Settings

BLOCK = 128
TARGET = 0.95
PARAGRAPHS = [f"Paragraph {n} says that box {n} holds {n * n} marbles and a letter." for n in range(600)]


class Upstream:
    """An endpoint with a prompt cache."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    async def complete(self, request: Request) -> JSONResponse:
        messages = json.loads(await request.body())["messages"]
        words = [word for each in messages for word in (f"<{each['role']}>", *each["content"].split())]
        rolling, cached, is_cached = hashlib.sha256(), 0, True
        for end in range(BLOCK, len(words) + 1, BLOCK):
            rolling.update("\0".join(words[end - BLOCK : end]).encode())
            is_cached = is_cached and rolling.digest() in self._seen
            cached += BLOCK if is_cached else 0
            self._seen.add(rolling.digest())
        usage = {
            "prompt_tokens": len(words),
            "completion_tokens": 1,
            "total_tokens": len(words) + 1,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        choice = {"index": 0, "message": {"role": "assistant", "content": "Seven."}, "finish_reason": "stop"}
        return JSONResponse(
            {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
        )


@dataclass
class Clock:
    """Time that can be put forward, so that notes at hand are looked up anew."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Shares of the document's words that were cached, and how many requests had notes."""

    every: Sequence[float]
    first: Sequence[float]
    with_notes: int


def note(number: int, paragraph: int) -> Note:
    return Note(id=f"n{number + 1}", text=f"Box {paragraph} holds {paragraph} times {paragraph} marbles.")


async def asked(client: httpx2.AsyncClient, document: str, number: int) -> tuple[float, bool]:
    """Ask; the share of the document's words that was cached, and whether notes were shown by the proxy."""
    messages = [{"role": "system", "content": document}, {"role": "user", "content": f"What of box {number}?"}]
    reply = await client.post("/v1/chat/completions", json={"model": "m", "messages": messages})
    reply.raise_for_status()
    words = len(document.split()) + 1
    cached: int = reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    return min(cached, words) / words, "version=" in reply.headers.get("x-sleeptime", "")


async def behind(paragraphs: Sequence[int], queries: int) -> Kept:
    """Publish through the engine, and ask through the proxy."""
    document, clock = "\n\n".join(PARAGRAPHS), Clock()
    every: list[float] = []
    first: list[float] = []
    with_notes = 0
    with tempfile.TemporaryDirectory() as folder, served(Upstream().complete) as upstream:
        async with Engine.open(database=Path(folder) / "x.db", environ={"SLEEPTIME_HOME": folder}) as engine:

            async def find(_: HTTPConnection) -> Engine:
                return engine

            route = RouteSettings(mode="assist", holdout=0.0)
            proxy = Proxy(upstream, settings=Settings(routes=(route,)), clock_s=clock)
            await proxy.start()
            transport = httpx2.ASGITransport(create_app(find, routes=proxy.routes))
            async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                for number in range(2):
                    await asked(client, document, number)
                while proxy.counts.recorded < proxy.counts.requests:  # noqa: ASYNC110  # there is no event for it
                    await asyncio.sleep(0.02)
                (summary,) = await engine.contexts()
                context = await engine.store.context(summary.id)
                for version in range(1, len(paragraphs) + 1):
                    notes = tuple(note(n, paragraph) for n, paragraph in enumerate(paragraphs[:version]))
                    await engine.store.publish(learned(context, notes), sleep_id=None)
                    clock.ahead_s += OLDEST_S + 1
                    for query in range(queries):
                        share, has_notes = await asked(client, document, version * queries + query)
                        every.append(share)
                        first += [share] * (query == 0)
                        with_notes += has_notes
            await proxy.aclose()
    return Kept(every=every, first=first, with_notes=with_notes)


async def in_place(paragraphs: Sequence[int], queries: int) -> Kept:
    """Send the document rewritten, to an upstream of its own."""
    every: list[float] = []
    first: list[float] = []
    with served(Upstream().complete) as upstream:
        async with httpx2.AsyncClient(base_url=upstream.removesuffix("/v1"), trust_env=False) as client:
            for number in range(2):
                await asked(client, "\n\n".join(PARAGRAPHS), number)
            for version in range(1, len(paragraphs) + 1):
                written = list(PARAGRAPHS)
                for n, paragraph in enumerate(paragraphs[:version]):
                    written[paragraph] += f" {note(n, paragraph).text}"
                for query in range(queries):
                    share, _ = await asked(client, "\n\n".join(written), version * queries + query)
                    every.append(share)
                    first += [share] * (query == 0)
    return Kept(every=every, first=first, with_notes=len(every))


def learned(context: Context, notes: tuple[Note, ...]) -> LearnedContext:
    return LearnedContext(
        context_id=context.id,
        context_fingerprint=context.fingerprint,
        notes=notes,
        strategy="notes",
        model="m",
        prompt_fingerprint="p",
        usage=Usage(),
        cost_usd=None,
        stop_reasons=("finished",),
        rounds=1,
        created_at=datetime.now(UTC),
        sections=context.fingerprints,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--queries", type=int, default=10, help="queries on each version")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    paragraphs = random.Random(given.seed).sample(range(len(PARAGRAPHS)), given.versions)
    print("notes | requests | with notes | cached, all | cached, first behind a publication | least of all")
    for name, run in (("behind", behind), ("in place", in_place)):
        kept = asyncio.run(run(paragraphs, given.queries))
        every, first = statistics.mean(kept.every), statistics.mean(kept.first)
        print(
            f"{name} | {len(kept.every)} | {kept.with_notes} | {every:.1%} | {first:.1%} | {min(kept.every):.1%}"
            f"{' MISSED' if name == 'behind' and min(kept.every) < TARGET else ''}"
        )


if __name__ == "__main__":
    main()
