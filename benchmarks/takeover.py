"""How long after the death of a worker another one goes on with its sleep.

    python -m benchmarks.takeover --kills 8 --store sqlite
    python -m benchmarks.takeover --kills 8 --store postgresql

As many workers as kills, each a process with one sleep, and one that is idle. Each of the busy ones is killed with
SIGKILL at a random moment; the clock runs until the endpoint gets the next request on its context. Leases are those of
the library's own settings, unless told otherwise: a lease that its holder has just renewed has to run out whole.

    seconds    from the kill to the next request on the same context: at most 30
    astray     takeovers that went on at another round than the one in flight, or the next: 0
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

from benchmarks.crashes import Endpoint, Wired, a_database, a_worker, fill
from benchmarks.loopback import served
from sleeptime.engine import Engine
from sleeptime.settings import WorkerSettings

MOST_S = 30.0
ROUNDS = 10_000
LONGEST_PAUSE_S = 1.0
TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was measured. `seconds` has one entry for each sleep that was taken over, the shortest first."""

    store: str
    lease_s: float
    kills: int
    astray: int
    seconds: tuple[float, ...]

    @property
    def misses(self) -> list[str]:
        """The targets that were not met."""
        checks = {
            f"only {len(self.seconds)} of {self.kills} were taken over": len(self.seconds) == self.kills,
            f"one took {max(self.seconds, default=0.0):.1f} s": max(self.seconds, default=0.0) <= MOST_S,
            f"{self.astray} went on at another round": self.astray == 0,
        }
        return [words for words, is_met in checks.items() if not is_met]


def measure(store: str, *, kills: int, seed: int, lease_s: float = WorkerSettings().lease_s) -> Outcome:
    """Kill *kills* workers and wait until all their sleeps go on."""
    chance = random.Random(seed)
    endpoint = Endpoint(rounds=ROUNDS, random=random.Random(seed + 1))
    with a_database(store) as database, served(endpoint.complete) as url:
        asyncio.run(fill(database, kills, ROUNDS))
        busy = [a_worker(database, f"{url}#m", lease_s) for _ in range(kills)]
        idle: list[BaseProcess] = []
        try:
            _wait(lambda: {wired.context for wired in endpoint.log} >= set(range(kills)))
            contexts = asyncio.run(_held(database))
            idle.append(a_worker(database, f"{url}#m", lease_s, kills))
            killed: dict[int, tuple[float, Wired]] = {}
            for worker in busy:
                time.sleep(chance.uniform(0, LONGEST_PAUSE_S))
                worker.kill()
                worker.join()
                context = contexts[worker.pid or 0]
                killed[context] = time.monotonic(), _of(endpoint, context)[-1]

            def seconds() -> dict[int, float]:
                nexts = {c: [w for w in _of(endpoint, c) if w.at_s > at_s][:1] for c, (at_s, _) in killed.items()}
                return {context: first[0].at_s - killed[context][0] for context, first in nexts.items() if first}

            _wait(lambda: len(seconds()) == kills)
            took = seconds()
        finally:
            for worker in (*busy, *idle):
                worker.kill()
                worker.join()
    firsts = {context: next(w for w in _of(endpoint, context) if w.at_s > killed[context][0]) for context in took}
    astray = sum(firsts[context].round - killed[context][1].round not in (0, 1) for context in took)
    return Outcome(store=store, lease_s=lease_s, kills=kills, astray=astray, seconds=tuple(sorted(took.values())))


def _of(endpoint: Endpoint, context: int) -> list[Wired]:
    return [wired for wired in endpoint.log if wired.context == context]


async def _held(database: str) -> dict[int, int]:
    """Which process sleeps on which context."""
    async with Engine.open(database=database) as engine:
        numbers = {summary.id: int(summary.name.rpartition("-")[2]) for summary in await engine.contexts()}
        return {int((job.worker or "").rpartition("-")[2]): numbers[job.context_id] for job in await engine.jobs()}


def _wait(is_so: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + TIMEOUT_S
    while not is_so() and time.monotonic() < ends_s:
        time.sleep(0.05)


def main() -> int:
    """Measure, print the table and the verdict."""
    parser = argparse.ArgumentParser(description="Kill workers, and time until others go on with their sleeps.")
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lease-s", type=float, default=WorkerSettings().lease_s)
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    given = parser.parse_args()
    found = measure(given.store, kills=given.kills, seed=given.seed, lease_s=given.lease_s)
    print("| store | lease, s | kills | taken over | astray | median, s | longest, s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    median, longest = statistics.median(found.seconds), found.seconds[-1]
    print(
        f"| {found.store} | {found.lease_s:g} | {found.kills} | {len(found.seconds)} | {found.astray} "
        f"| {median:.1f} | {longest:.1f} |"
    )
    print("\nEvery target is met." if not found.misses else "\nMissed: " + "; ".join(found.misses) + ".")
    return 1 if found.misses else 0


if __name__ == "__main__":
    sys.exit(main())
