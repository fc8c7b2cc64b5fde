"""How many sleeps a second more workers bring, on one PostgreSQL.

    python -m benchmarks.workers [--repeats 3] [--seconds 12]

1, 2 and 4 worker processes, each with one sleep at a time, work through queued sleeps of three rounds against a model
on loopback that takes 200 ms for each call, in a process of its own. Once every worker is at work, the sleeps that end
in the next seconds are counted; the rate is that between the first and the last of them. The numbers of workers take
turns, each time on an empty database; the median over the repeats is told. Target: with 4 workers at least 3.5 times
the sleeps per second of 1.

`alone` is what one worker would do that took no time but the model's.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.crashes import a_worker, fill
from benchmarks.loopback import loopback_model
from benchmarks.postgresql import new_database, postgresql_server
from sleeptime.engine import Engine
from sleeptime.settings import WorkerSettings

WORKERS = (1, 2, 4)
LEAST_RATIO = 3.5
LATENCY_S = 0.2
ROUNDS = 3
TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Found:
    """Sleeps per second, by the number of workers, one entry for each repeat."""

    rates: dict[int, tuple[float, ...]]

    def rate(self, workers: int) -> float:
        """The median."""
        return statistics.median(self.rates[workers])

    def ratio(self, workers: int) -> float:
        """Times the rate of one worker: the median over pairs of the same repeat."""
        return statistics.median(many / one for many, one in zip(self.rates[workers], self.rates[1], strict=True))

    @property
    def is_met(self) -> bool:
        return self.ratio(max(WORKERS)) >= LEAST_RATIO


def measure(*, repeats: int, seconds: float, numbers: Sequence[int] = WORKERS) -> Found:
    """Measure all numbers of workers by turns."""
    rates: dict[int, list[float]] = {workers: [] for workers in numbers}
    with postgresql_server() as server, loopback_model(LATENCY_S) as model:
        for _ in range(repeats):
            for workers in numbers:
                rates[workers].append(_rate(server, model, workers, seconds))
    return Found(rates={workers: tuple(each) for workers, each in rates.items()})


def _rate(server: Path, model: str, workers: int, seconds: float) -> float:
    database = new_database(server)
    sleeps = 2 * workers + int(2 * workers * seconds / (ROUNDS * LATENCY_S))
    asyncio.run(fill(database, sleeps, ROUNDS))
    running = [a_worker(database, model, WorkerSettings().lease_s) for _ in range(workers)]
    try:
        return asyncio.run(_watched(database, workers, seconds))
    finally:
        for worker in running:
            worker.kill()
            worker.join()


async def _watched(database: str, workers: int, seconds: float) -> float:
    async with Engine.open(database=database) as engine:
        ends_s = time.monotonic() + TIMEOUT_S
        while len({job.worker for job in await engine.jobs() if job.state == "done"}) < workers:
            if time.monotonic() > ends_s:
                raise TimeoutError("not every worker came to the end of a sleep")
            await asyncio.sleep(0.1)
        began = max(job.ended_at for job in await engine.jobs() if job.ended_at)
        await asyncio.sleep(seconds)
        ended = [job.ended_at for job in await engine.jobs() if job.ended_at and job.ended_at >= began]
    return (len(ended) - 1) / (max(ended) - began).total_seconds()


def main() -> int:
    """Measure, print the table and the verdict."""
    parser = argparse.ArgumentParser(description="Count the sleeps a second of 1, 2 and 4 workers on PostgreSQL.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0)
    given = parser.parse_args()
    found = measure(repeats=given.repeats, seconds=given.seconds)
    print("| workers | sleeps a second | times one worker | alone | repeats |")
    print("|---:|---:|---:|---:|---|")
    for workers in WORKERS:
        repeats = ", ".join(f"{rate:.2f}" for rate in found.rates[workers])
        alone = workers / (ROUNDS * LATENCY_S)
        print(f"| {workers} | {found.rate(workers):.2f} | {found.ratio(workers):.2f} | {alone:.2f} | {repeats} |")
    print(f"\nTarget, at least {LEAST_RATIO} times with {max(WORKERS)}: {'met' if found.is_met else 'missed'}.")
    return 0 if found.is_met else 1


if __name__ == "__main__":
    sys.exit(main())
