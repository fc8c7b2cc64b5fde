"""Kill workers at random moments while they sleep, and count what that cost.

    python -m benchmarks.crashes --kills 200 --contexts 50 --seed 1 --store sqlite
    python -m benchmarks.crashes --kills 200 --contexts 50 --seed 1 --store postgresql

Workers are processes that sleep on one context at a time, against an endpoint on loopback in this process. The endpoint
knows nothing of sleeptime: it logs each request as (context, round, id of its reply), and its reply adds one note
that names all three. The driver sends SIGKILL to a random worker after a random pause, and starts another in its
place, until enough were killed; then the last ones may finish. Versions, ledger and the endpoint's log are
then compared:

    published   contexts with exactly one version, done
    torn        versions that are not round 1, 2, … of their context, each once, from a reply the endpoint gave
    repeated    requests beyond one for each (context, round): at most one for each kill, the one in flight
    unrecorded  requests without a row of the ledger of their own: must be 0
    never sent  rows "lost" of calls that were set aside but killed before they reached the endpoint: not wire, and
                no process can know it; they are told apart here by the endpoint's log alone
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse

from benchmarks.loopback import served
from benchmarks.postgresql import new_database, postgresql_server
from sleeptime.core.budget import Budget
from sleeptime.core.job import Job
from sleeptime.core.ledger import Call
from sleeptime.core.notes import LearnedContext
from sleeptime.core.plan import Plan
from sleeptime.engine import Engine

LEASE_S = 1.0
POLL_S = 0.1
LONGEST_PAUSE_S = 0.5
LATENCY_S = (0.02, 0.2)
ROUNDS = 24
WORKERS = 3
TIMEOUT_S = 600.0
PRELOADED = ["sleeptime.engine", "sleeptime.models.openai_compatible", "benchmarks.loopback", "aiosqlite", "asyncpg"]
"""Workers are killed at work, and not while they import."""
NOTE = re.compile(r"Context (\d+), round (\d+), call (\w+)\.")


@dataclass(kw_only=True)
class Endpoint:
    """A model whose log is the wire."""

    rounds: int
    random: random.Random
    log: list[tuple[int, int, str]] = field(default_factory=list)

    async def complete(self, request: Request) -> JSONResponse:
        """Log a request when it arrives, and reply with a note about it."""
        text = " ".join(str(message["content"]) for message in (await request.json())["messages"])
        context, round_ = (
            int(re.findall(pattern, text)[-1]) for pattern in (r"Depot (\d+) holds", r"This is round (\d+)")
        )
        id_ = f"r{len(self.log)}"
        self.log.append((context, round_, id_))
        await asyncio.sleep(self.random.uniform(*LATENCY_S))
        note = {"kind": "inference", "text": f"Context {context}, round {round_}, call {id_}.", "evidence": ["*"]}
        arguments = json.dumps({"add": [note], "done": round_ == self.rounds})
        call = {"id": f"t{id_}", "type": "function", "function": {"name": "revise_notes", "arguments": arguments}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        return JSONResponse(
            {"id": id_, "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was found after the last kill."""

    store: str
    kills: int
    contexts: int
    published: int
    torn: int
    requests: int
    repeated: int
    rows: int
    lost: int
    unrecorded: int
    never_sent: int
    attempts: int
    seconds: float

    @property
    def misses(self) -> list[str]:
        """The targets that were not met."""
        checks = {
            f"{self.contexts - self.published} contexts are not published": self.published == self.contexts,
            f"{self.torn} versions are torn": self.torn == 0,
            f"{self.repeated} calls were repeated after {self.kills} kills": self.repeated <= self.kills,
            f"{self.unrecorded} requests have no row of their own": self.unrecorded == 0,
            "rows and requests do not add up": self.rows == self.requests + self.never_sent,
            f"{self.never_sent} calls never sent after {self.kills} kills": self.never_sent <= self.kills,
        }
        return [words for words, is_met in checks.items() if not is_met]


def work(database: str, model: str) -> None:
    """Be a worker, until killed or until nothing is left to do."""

    async def whole() -> None:
        environ = {"SLEEPTIME_HOME": tempfile.gettempdir()}
        async with Engine.open(
            database=database, model=model, lease_s=LEASE_S, worker=False, environ=environ
        ) as engine:
            worker = engine.worker(concurrency=1)
            worker.poll_s = POLL_S
            await worker.run(until_idle=True)

    asyncio.run(whole())


def measure(store: str, *, kills: int, contexts: int, rounds: int, seed: int) -> Outcome:
    """Sleep on all contexts while workers are killed."""
    endpoint = Endpoint(rounds=rounds, random=random.Random(seed))
    began_s = time.monotonic()
    with _database(store) as database, served(endpoint.complete) as url:
        asyncio.run(_fill(database, contexts, rounds))
        killed = _kill(database, f"{url}#m", kills, endpoint, seed)
        found = asyncio.run(_read(database))
    return _compared(store, endpoint, *found, killed=killed, seconds=time.monotonic() - began_s)


async def _fill(database: str, contexts: int, rounds: int) -> None:
    async with Engine.open(database=database, worker=False) as engine:
        for number in range(contexts):
            await engine.add(f"Depot {number} holds {number + 7} crates of salt.", name=f"depot-{number}")
            await engine.enqueue(f"depot-{number}", Plan(budget=Budget(max_rounds=rounds)))


def _kill(database: str, model: str, kills: int, endpoint: Endpoint, seed: int) -> int:
    """Keep workers going, and kill them from the first request on; says how many it killed."""
    chance = random.Random(seed + 1)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED)

    def started() -> BaseProcess:
        process = processes.Process(target=work, args=(database, model))
        process.start()
        return process

    workers = [started() for _ in range(WORKERS)]
    killed = 0
    ends_s = time.monotonic() + TIMEOUT_S
    try:
        while any(worker.is_alive() for worker in workers) and time.monotonic() < ends_s:
            time.sleep(chance.uniform(0, LONGEST_PAUSE_S))
            if killed == kills or not endpoint.log:
                continue
            at = chance.randrange(WORKERS)
            if workers[at].is_alive():
                workers[at].kill()
                workers[at].join()
                killed += 1
                workers[at] = started()
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    return killed


async def _read(database: str) -> tuple[Sequence[Job], list[Sequence[LearnedContext]], Sequence[Call]]:
    async with Engine.open(database=database, worker=False) as engine:
        versions = [await engine.store.versions(summary.id) for summary in await engine.contexts()]
        return await engine.jobs(), versions, await engine.calls()


def _compared(
    store: str,
    endpoint: Endpoint,
    jobs: Sequence[Job],
    versions: Sequence[Sequence[LearnedContext]],
    calls: Sequence[Call],
    *,
    killed: int,
    seconds: float,
) -> Outcome:
    said = set(endpoint.log)
    torn = 0
    numbers: dict[str, int] = {}
    for number, of_context in enumerate(versions):
        for learned in of_context:
            numbers[learned.context_id] = number
            noted = [match.groups() for note in learned.notes if (match := NOTE.fullmatch(note.text))]
            replies = [(int(context), int(round_), id_) for context, round_, id_ in noted]
            right = [(number, round_) for round_ in range(1, endpoint.rounds + 1)]
            torn += [reply[:2] for reply in replies] != right or not set(replies) <= said
    recorded = Counter(call.request_id for call in calls if call.outcome == "ok")
    lost = Counter(numbers.get(call.context_id or "", -1) for call in calls if call.outcome != "ok")
    unmatched = Counter(context for context, _, id_ in endpoint.log if recorded[id_] != 1)
    return Outcome(
        store=store,
        kills=killed,
        contexts=len(versions),
        published=sum(
            len(of_context) == 1
            and any(job.state == "done" and job.context_id == of_context[0].context_id for job in jobs)
            for of_context in versions
        ),
        torn=torn,
        requests=len(endpoint.log),
        repeated=len(endpoint.log) - len({entry[:2] for entry in endpoint.log}),
        rows=len(calls),
        lost=sum(lost.values()),
        unrecorded=sum((unmatched - lost).values()),
        never_sent=sum((lost - unmatched).values()),
        attempts=sum(job.attempts for job in jobs),
        seconds=seconds,
    )


@contextmanager
def _database(store: str) -> Generator[str]:
    if store == "postgresql":
        with postgresql_server() as server:
            yield new_database(server)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{Path(folder) / 'sleeptime.db'}"


def main() -> int:
    """Measure, print the table and the verdict."""
    parser = argparse.ArgumentParser(description="Kill workers at random moments, and count what that cost.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--contexts", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    given = parser.parse_args()
    found = measure(given.store, kills=given.kills, contexts=given.contexts, rounds=given.rounds, seed=given.seed)
    columns = [name for name in vars(found) if name != "seconds"]
    print("| " + " | ".join(name.replace("_", " ") for name in columns) + " | seconds |")
    print("|---" + "|---:" * len(columns) + "|")
    print("| " + " | ".join(f"{getattr(found, name)}" for name in columns) + f" | {found.seconds:.0f} |")
    misses = list(found.misses)
    if found.kills < given.kills:
        misses.append(f"only {found.kills} of {given.kills} kills fell before the work was done")
    print("\nEvery target is met." if not misses else "\nMissed: " + "; ".join(misses) + ".")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
