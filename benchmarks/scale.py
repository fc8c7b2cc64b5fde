"""How long the next decision and an answer take with many contexts in the store, against few.

    python -m benchmarks.scale --contexts 100000 [--asks 400] [--json]

A SQLite store is filled with generated contexts and their queries: popularity by Zipf's law, lengths log-normal, days
of adding over a quarter, a tenth slept on. Another holds 100 of them, drawn at random, as they are in the first. The
library's own scheduler has decided on all of both before any timing. Then a scripted model without latency answers the
same questions about these 100 in both, by turns in one process, and after each the large store tells its next decision.

    decision   p50 of `Engine.decisions`, each behind an answer: below 50 ms (p99 is told)
    ask        p50 of `Engine.ask` in the large store, at most 1.10 times that in the small one (100 contexts)

Exit 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from statistics import median

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import create_async_engine

from sleeptime.core.context import Context
from sleeptime.core.forecasting import Seen
from sleeptime.core.messages import Completion, Message
from sleeptime.core.usage import Usage
from sleeptime.core.watching import UNDECIDED, Part, Watched, begun, days
from sleeptime.engine import Engine
from sleeptime.models.protocol import Options
from sleeptime.models.scripted import ScriptedModel
from sleeptime.store import open_store, rows, tables

FEW = 100
MOST_DECISION_S = 0.050
MOST_RATIO = 1.10
NOW = datetime(2026, 5, 4, tzinfo=UTC)
QUARTER_DAYS = 90.0
BATCH = 2000
ZIPF = 1.1
SLEPT_ON = 0.1
"""Share of the contexts that have notes."""
MOST_QUERIES = 500
QUERIES_EACH = 4
"""Queries on a context on average; most go to few."""
WARM = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Seconds that were measured."""

    contexts: int
    decisions_s: tuple[float, ...]
    few_s: tuple[float, ...]
    many_s: tuple[float, ...]
    wanted: int

    @property
    def ratio(self) -> float:
        return median(self.many_s) / median(self.few_s)

    @property
    def missed(self) -> list[str]:
        slow = f"next decision p50 {median(self.decisions_s) * 1e3:.1f} ms, target {MOST_DECISION_S * 1e3:.0f} ms"
        late = f"ask p50 {self.ratio:.3f} times that of {FEW} contexts, target {MOST_RATIO}"
        return [slow] * (median(self.decisions_s) >= MOST_DECISION_S) + [late] * (self.ratio > MOST_RATIO)


def percentile(seconds: Sequence[float], share: float) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def generated(number: int, contexts: int, seed: int) -> tuple[Context, Watched]:
    """The context of this rank of popularity, and what is watched of it after its queries."""
    dice = random.Random(f"{seed} {number}")
    share = 1.0 / (number + 1) ** ZIPF / _all(contexts)
    queries = min(MOST_QUERIES, int(share * QUERIES_EACH * contexts + dice.random()))
    characters = int(min(20_000, max(200, dice.lognormvariate(7.5, 0.8))))
    words = f"Shelf {number} holds {dice.randrange(90)} jars of plums. Nobody counted the rest.\n\n"
    text = (words * (characters // len(words) + 1))[:characters]
    added = NOW - timedelta(days=dice.uniform(0.5, QUARTER_DAYS))
    context = Context(id=f"c{dice.getrandbits(48):012x}", name=f"shelf {number}", text=text, created_at=added)
    watched = begun(context)
    last = min(days(NOW), watched.seen.added_days + dice.expovariate(1 / 20))
    talks = max(1, queries * 2 // 3) if queries else 0
    seen = Seen(added_days=watched.seen.added_days, queries=queries, talks=talks, last_days=last if talks else 0.0)
    parts = () if dice.random() < SLEPT_ON else (Part(since=0, characters=characters),)
    wants = watched.wants if parts else None
    level = "v3" if queries else ""
    return context, replace(watched, seen=seen, parts=parts, wants=wants, level=level)


@cache
def _all(contexts: int) -> float:
    return sum(1.0 / (rank + 1) ** ZIPF for rank in range(contexts))


async def fill(path: Path, numbers: Sequence[int], contexts: int, seed: int) -> None:
    """Fill a store with those contexts out of all, and with their calls."""
    await (await open_store(path)).aclose()
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    usage = {"input_tokens": 900, "cached_input_tokens": 0, "output_tokens": 600, "reasoning_tokens": 0}
    calls = 0
    for start in range(0, len(numbers), BATCH):
        made = [generated(number, contexts, seed) for number in numbers[start : start + BATCH]]
        kept: list[dict[str, object]] = []
        for context, watched in made:
            for _ in range(watched.seen.queries):
                calls += 1
                row = {"id": f"call{calls}", "at": NOW, "phase": "test", "model": "s", "latency_s": 0.1}
                tail = {"outcome": "ok", "context_id": context.id, "sees": "context", "level": "v3"}
                kept.append({**row, **usage, **tail, "work_id": f"q{calls}"})
        async with engine.begin() as connection:
            await connection.execute(insert(tables.contexts), [rows.context_row(context) for context, _ in made])
            await connection.execute(insert(tables.watched), [rows.watched_row(watched) for _, watched in made])
            if kept:
                await connection.execute(insert(tables.calls), kept)
    await engine.dispose()


def reply(messages: Sequence[Message], options: Options) -> Completion:  # noqa: ARG001  # a script's signature
    return Completion(text="7", usage=Usage(input_tokens=900, output_tokens=600), model="s")


async def settle(engine: Engine) -> None:
    """Let the scheduler decide on every context once, as it would have when each was added."""
    while any(each.wants == UNDECIDED for each in await engine.store.wanted(1)):
        await engine.decisions()


async def measure(contexts: int, asks: int, seed: int) -> Found:
    """Time answers and decisions."""
    dice = random.Random(seed)  # a seeded draw
    with tempfile.TemporaryDirectory() as folder:
        sample = sorted(dice.sample(range(contexts), FEW))
        await fill(Path(folder) / "many.db", range(contexts), contexts, seed)
        await fill(Path(folder) / "few.db", sample, contexts, seed)
        few, many = [
            Engine(
                await open_store(Path(folder) / f"{name}.db"),
                model=ScriptedModel(reply, name="s"),
                environ={},
                now=lambda: NOW,
            )
            for name in ("few", "many")
        ]
        await settle(few)
        await settle(many)
        few_s: list[float] = []
        many_s: list[float] = []
        decisions_s: list[float] = []
        wanted = 0
        for turn, number in enumerate(dice.choices(sample, k=asks)):
            name = f"shelf {number}"
            pairs = [(few, few_s), (many, many_s)]
            for engine, seconds in pairs if turn % 2 else reversed(pairs):
                began = time.perf_counter()
                await engine.ask(name, "How many jars of plums are there?", sees="context")
                seconds.append(time.perf_counter() - began)
            began = time.perf_counter()
            wanted += len(await many.decisions())
            decisions_s.append(time.perf_counter() - began)
        await few.aclose()
        await many.aclose()
    return Found(
        contexts=contexts,
        decisions_s=tuple(decisions_s[WARM:]),
        few_s=tuple(few_s[WARM:]),
        many_s=tuple(many_s[WARM:]),
        wanted=wanted,
    )


def table(found: Found) -> str:
    """What was measured, as a table."""
    lines = ["| | p50, ms | p99, ms |", "|---|---:|---:|"]
    for name, seconds in (
        (f"next decision, {found.contexts:,} contexts", found.decisions_s),
        (f"ask, {found.contexts:,} contexts", found.many_s),
        (f"ask, {FEW} contexts", found.few_s),
    ):
        lines.append(f"| {name} | {percentile(seconds, 0.5) * 1e3:.2f} | {percentile(seconds, 0.99) * 1e3:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and exit with 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", type=int, default=100_000)
    parser.add_argument("--asks", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    if arguments.contexts < FEW or arguments.asks <= WARM:
        parser.error(f"at least {FEW} contexts and more than {WARM} asks")
    found = asyncio.run(measure(arguments.contexts, arguments.asks, arguments.seed))
    if arguments.json:
        figures = {
            "contexts": found.contexts,
            "decision_p50_s": percentile(found.decisions_s, 0.5),
            "decision_p99_s": percentile(found.decisions_s, 0.99),
            "ask_ratio": found.ratio,
            "decisions_told": found.wanted,
            "missed": found.missed,
        }
        print(json.dumps(figures))
    else:
        print(table(found))
        print(f"ask p50: {found.ratio:.3f} times that of {FEW} contexts; {len(found.many_s)} pairs")
        print(f"verdict: {'MISSED: ' + '; '.join(found.missed) if found.missed else 'holds'}")
    sys.exit(1 if found.missed else 0)


if __name__ == "__main__":
    main()
