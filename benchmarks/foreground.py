"""How much later an answer comes while the engine sleeps at full tilt, with the same model.

    python -m benchmarks.foreground [--pairs 10] [--seconds 12] [--json]

A model on loopback, a process of its own, takes 200 ms for every reply. Questions about contexts that were slept on
arrive as a Poisson stream, or from askers that each wait for their answer before they ask again. Blocks with and
without sleep alternate (which comes first alternates too), and the questions of a pair come at the same moments. With
sleep, a worker does more queued sleeps on other contexts than it can, in this process or in one of its own that shares
the store.

    inflation   p99 of `Engine.ask` over all blocks with sleep ÷ that over all without: at most 1.05
                in brackets a 95 % interval, from drawing pairs of blocks anew

Exit 1 where a target is missed. What it does not know: providers that slow down on their side.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.loopback import loopback_model
from sleeptime.core.budget import Budget
from sleeptime.core.ledger import Phase
from sleeptime.core.plan import Plan
from sleeptime.engine import Engine

LATENCY_S = 0.2
MOST_INFLATION = 1.05
ASKED = 20
SLEPT_ON = 60
PARAGRAPHS = 200
CONCURRENCY = 4
STREAM_PER_S = 5.0
ASKERS = 8
THOUGHT_S = 0.5
"""How long an asker takes on average before it asks again."""
DRAWS = 1000
WARM_S = 1.0
PLAN = Plan(budget=Budget(max_rounds=10))

Arrival = Literal["stream", "askers"]
Where = Literal["here", "process"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Seconds that answers took, block by block, and the rounds slept meanwhile."""

    arrival: Arrival
    where: Where
    without_s: tuple[tuple[float, ...], ...]
    with_s: tuple[tuple[float, ...], ...]
    rounds: int
    block_s: float

    @property
    def rounds_per_s(self) -> float:
        return self.rounds / (self.block_s * len(self.with_s))

    def inflation(self, pairs: Sequence[int] | None = None, share: float = 0.99) -> float:
        """The ratio of percentiles over *pairs* of blocks, all by default."""
        pairs = range(len(self.with_s)) if pairs is None else pairs
        slept, quiet = ([s for at in pairs for s in blocks[at]] for blocks in (self.with_s, self.without_s))
        return percentile(slept, share) / percentile(quiet, share)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of the ratios of pairs drawn anew."""
        dice = random.Random(len(self.with_s))
        all_ = range(len(self.with_s))
        drawn = sorted(self.inflation(dice.choices(all_, k=len(all_))) for _ in range(DRAWS))
        return drawn[int(0.025 * DRAWS)], drawn[int(0.975 * DRAWS)]

    @property
    def is_met(self) -> bool:
        return self.inflation() <= MOST_INFLATION


def percentile(seconds: Sequence[float], share: float) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def text(number: int) -> str:
    """About 20,000 characters in paragraphs."""
    dice = random.Random(number)
    return "\n\n".join(
        f"Depot {number}, shelf {shelf} holds {dice.randrange(90)} jars of plums and {dice.randrange(90)} of pears. "
        "Nobody counted the rest."
        for shelf in range(PARAGRAPHS)
    )


@dataclass(slots=True, kw_only=True)
class Bench:
    """An engine with contexts to ask about and others to sleep on."""

    engine: Engine
    database: str
    model: str
    slept_on: int
    _takes: list[float] = field(default_factory=list[float])

    async def fill(self, asked: int) -> None:
        for number in range(asked):
            await self.engine.add(text(number), name=f"asked {number}")
            await self.engine.sleep(f"asked {number}", Plan(budget=Budget(max_rounds=2)))
        for number in range(self.slept_on):
            await self.engine.add(text(1000 + number), name=f"slept on {number}")

    async def block(self, arrival: Arrival, seconds: float, seed: int, asked: int) -> tuple[float, ...]:
        """Ask for so many seconds; says how long each answer took."""
        dice = random.Random(seed)
        self._takes = []
        async with asyncio.TaskGroup() as group:
            if arrival == "askers":
                for number in range(ASKERS):
                    group.create_task(self._asker(seconds, random.Random(f"{seed} {number}"), asked))
            else:
                began = time.perf_counter()
                at = dice.expovariate(STREAM_PER_S)
                while at < seconds:
                    await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
                    group.create_task(self._ask(dice.randrange(asked), began + at))
                    at += dice.expovariate(STREAM_PER_S)
        return tuple(self._takes)

    async def _asker(self, seconds: float, dice: random.Random, asked: int) -> None:
        ends = time.perf_counter() + seconds
        while True:
            due = time.perf_counter() + dice.expovariate(1 / THOUGHT_S)
            if due > ends:
                return
            await asyncio.sleep(due - time.perf_counter())
            await self._ask(dice.randrange(asked), due)

    async def _ask(self, number: int, due: float) -> None:
        """Ask, and count from when the question was due: a loop that is late makes its users wait."""
        await self.engine.ask(f"asked {number}", "How many jars of plums does shelf 7 hold?")
        self._takes.append(time.perf_counter() - due)

    @asynccontextmanager
    async def sleeping(self, where: Where) -> AsyncGenerator[None]:
        """A worker with more to do than it can."""
        for number in range(self.slept_on):
            await self.engine.enqueue(f"slept on {number}", PLAN, again=True)
        if where == "here":
            worker = self.engine.worker(concurrency=CONCURRENCY)
            running = asyncio.create_task(worker.run())
            await asyncio.sleep(WARM_S)
            try:
                yield
            finally:
                worker.stop()
                await running
            return
        environ = {**os.environ, "SLEEPTIME_DATABASE": self.database, "SLEEPTIME_HOME": tempfile.gettempdir()}
        command = ["-m", "sleeptime.cli", "worker", "--model", self.model, "--concurrency", str(CONCURRENCY)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, env=environ, stderr=asyncio.subprocess.DEVNULL
        )
        before = await self.rounds()
        while await self.rounds() == before:  # noqa: ASYNC110  # another process makes it so
            await asyncio.sleep(WARM_S)
        try:
            yield
        finally:
            process.terminate()
            await process.wait()

    async def rounds(self) -> int:
        """Calls of sleeps so far."""
        return sum(total.calls for total in await self.engine.store.totals() if total.phase is Phase.SLEEP)


async def measure(
    arrival: Arrival, where: Where, *, pairs: int, seconds: float, asked: int = ASKED, slept_on: int = SLEPT_ON
) -> Found:
    """Time answers with and without sleep, by turns."""
    with tempfile.TemporaryDirectory() as folder, loopback_model(LATENCY_S) as model:
        database = str(Path(folder) / "sleeptime.db")
        environ = {"SLEEPTIME_HOME": folder}
        async with Engine.open(database=database, model=model, environ=environ) as engine:
            bench = Bench(engine=engine, database=database, model=model, slept_on=slept_on)
            await bench.fill(asked)
            without: list[tuple[float, ...]] = []
            slept: list[tuple[float, ...]] = []
            rounds = 0
            for pair in range(pairs):
                for is_asleep in (True, False) if pair % 2 else (False, True):
                    if not is_asleep:
                        await asyncio.sleep(WARM_S)
                        without.append(await bench.block(arrival, seconds, pair, asked))
                        continue
                    async with bench.sleeping(where):
                        before = await bench.rounds()
                        slept.append(await bench.block(arrival, seconds, pair, asked))
                        rounds += await bench.rounds() - before
    return Found(
        arrival=arrival, where=where, without_s=tuple(without), with_s=tuple(slept), rounds=rounds, block_s=seconds
    )


HEAD = (
    "| questions | worker | answers | p50 without, ms | with | p99 without, ms | with | p99 ratio | rounds a second |\n"
    "|---|---|---:|---:|---:|---:|---:|---:|---:|"
)
QUESTIONS = {"stream": f"{STREAM_PER_S:g} a second", "askers": f"{ASKERS} askers"}
WORKER = {"here": "in this process", "process": "in its own"}


def row(found: Found) -> str:
    """One line of the table."""
    quiet, slept = ([s for block in blocks for s in block] for blocks in (found.without_s, found.with_s))
    low, high = found.interval
    times = [percentile(each, share) * 1e3 for share in (0.5, 0.99) for each in (quiet, slept)]
    return (
        f"| {QUESTIONS[found.arrival]} | {WORKER[found.where]} | 2 × {len(slept)} | "
        + " | ".join(f"{each:.1f}" for each in times)
        + f" | {found.inflation():.3f} ({low:.3f} to {high:.3f}) | {found.rounds_per_s:.1f} |"
    )


def main() -> None:
    """Measure, print, and exit with 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10, help="pairs of blocks")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of a block")
    parser.add_argument("--only", nargs=2, metavar=("ARRIVAL", "WHERE"), help="stream or askers; here or process")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    cases: list[tuple[Arrival, Where]] = [
        ("stream", "here"),
        ("askers", "here"),
        ("stream", "process"),
        ("askers", "process"),
    ]
    if given.only:
        cases = [case for case in cases if list(case) == given.only]
    if not given.json:
        print(HEAD)
    missed: list[str] = []
    figures: list[dict[str, object]] = []
    for arrival, where in cases:
        found = asyncio.run(measure(arrival, where, pairs=given.pairs, seconds=given.seconds))
        if not found.is_met:
            missed.append(f"{QUESTIONS[arrival]}, worker {WORKER[where]}: {found.inflation():.3f}")
        figures.append(
            {
                "arrival": arrival,
                "where": where,
                "inflation": found.inflation(),
                "interval": found.interval,
                "rounds_per_s": found.rounds_per_s,
                "answers": sum(map(len, found.with_s)),
            }
        )
        if not given.json:
            print(row(found), flush=True)
    if given.json:
        print(json.dumps({"cases": figures, "missed": missed}))
    else:
        print(f"verdict: {'MISSED: ' + '; '.join(missed) if missed else 'holds'} (at most {MOST_INFLATION})")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
