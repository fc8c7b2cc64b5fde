"""Kill workers at random moments while they sleep, and count what that cost.

    python -m benchmarks.crashes --kills 200 --contexts 50 --seed 1 --store sqlite
    python -m benchmarks.crashes --kills 200 --contexts 50 --seed 1 --store postgresql

Workers are processes that sleep on one context at a time, against an endpoint on loopback in this process. The endpoint
knows nothing of sleeptime: it logs each request when its headers arrive, by the id they carry, with the context and
round that its text names; and its reply adds one note that names both and the reply. The driver sends SIGKILL to a
random worker after a random pause, and starts another in its place, until enough were killed; then the last ones may
finish. Versions, ledger and the endpoint's log are then compared:

    published       contexts with exactly one version, done: must be all
    torn            versions that are not round 1, 2, … of their context, each once, from a reply the endpoint gave: 0
    in flight       calls on the wire whose worker was killed before it had kept them: at most one for each kill
    repeated        requests beyond one for each (context, round): at most the calls in flight
    kept, repeated  requests for a round that a completed call in the ledger had brought already: 0
    without a row   requests on the wire without exactly one row of their id: 0
    never arrived   rows of which no byte reached the wire: "lost" ones of workers killed between the note that a call
                    goes out and its first byte. No process can know it; at most one for each kill
    tokens differ   completed rows that say other tokens than the endpoint did: 0
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

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from benchmarks.loopback import served
from benchmarks.postgresql import new_database, postgresql_server
from sleeptime.core.budget import Budget
from sleeptime.core.job import Job
from sleeptime.core.ledger import Call
from sleeptime.core.notes import LearnedContext
from sleeptime.core.plan import Plan
from sleeptime.core.usage import Usage
from sleeptime.engine import Engine
from sleeptime.models.sending import HEADER

LEASE_S = 1.0
LONGEST_PAUSE_S = 0.5
LATENCY_S = (0.02, 0.2)
ROUNDS = 24
WORKERS = 3
TIMEOUT_S = 600.0
PRELOADED = ["sleeptime.engine", "sleeptime.models.openai_compatible", "benchmarks.loopback", "aiosqlite", "asyncpg"]
"""Workers are killed at work, and not while they import."""
NOTE = re.compile(r"Context (\d+), round (\d+), call (\w+)\.")


@dataclass(kw_only=True)
class Wired:
    """A request on the wire. `context` is None where it did not arrive whole; `reply` is the id of what was replied."""

    id: str
    at_s: float
    context: int | None = None
    round: int = 0
    reply: str = ""
    usage: Usage = Usage()


@dataclass(kw_only=True)
class Endpoint:
    """A model whose log is the wire."""

    rounds: int
    random: random.Random
    log: list[Wired] = field(default_factory=list[Wired])

    async def complete(self, request: Request) -> JSONResponse:
        """Log a request when it arrives, and reply with a note about it."""
        wired = Wired(id=request.headers.get(HEADER, ""), at_s=time.monotonic())
        number = len(self.log)
        self.log.append(wired)
        try:
            body = await request.json()
        except ClientDisconnect:  # its worker was killed while it wrote
            return JSONResponse({}, status_code=400)
        text = " ".join(str(message["content"]) for message in body["messages"])
        context, round_ = (
            int(re.findall(pattern, text)[-1]) for pattern in (r"Depot (\d+) holds", r"This is round (\d+)")
        )
        wired.context, wired.round, wired.reply = context, round_, f"r{number}"
        wired.usage = Usage(input_tokens=100 + number % 11, output_tokens=10 + number % 7)
        await asyncio.sleep(self.random.uniform(*LATENCY_S))
        note = {
            "kind": "inference",
            "text": f"Context {context}, round {round_}, call {wired.reply}.",
            "evidence": ["*"],
        }
        arguments = json.dumps({"add": [note], "done": round_ == self.rounds})
        call = {"id": f"t{number}", "type": "function", "function": {"name": "revise_notes", "arguments": arguments}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        tokens = {"prompt_tokens": wired.usage.input_tokens, "completion_tokens": wired.usage.output_tokens}
        return JSONResponse(
            {
                "id": wired.reply,
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
                "usage": {**tokens, "total_tokens": sum(tokens.values())},
            }
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
    in_flight: int
    repeated: int
    kept_repeated: int
    rows: int
    without_a_row: int
    never_arrived: int
    tokens_differ: int
    attempts: int
    seconds: float

    @property
    def misses(self) -> list[str]:
        """The targets that were not met."""
        checks = {
            f"{self.contexts - self.published} contexts are not published": self.published == self.contexts,
            f"{self.torn} versions are torn": self.torn == 0,
            f"{self.in_flight} calls were in flight at {self.kills} kills": self.in_flight <= self.kills,
            f"{self.repeated} calls were repeated, {self.in_flight} in flight": self.repeated <= self.in_flight,
            f"{self.kept_repeated} calls were repeated that had been kept": self.kept_repeated == 0,
            f"{self.without_a_row} requests have no row of their own": self.without_a_row == 0,
            "rows and requests do not add up": self.rows == self.requests + self.never_arrived,
            f"{self.never_arrived} rows never arrived after {self.kills} kills": self.never_arrived <= self.kills,
            f"{self.tokens_differ} rows say other tokens than the wire": self.tokens_differ == 0,
        }
        return [words for words, is_met in checks.items() if not is_met]


def work(database: str, model: str, lease_s: float = LEASE_S, concurrency: int = 1) -> None:
    """Be a worker, until killed or until nothing is left to do."""

    async def whole() -> None:
        environ = {"SLEEPTIME_HOME": tempfile.gettempdir()}
        async with Engine.open(database=database, model=model, lease_s=lease_s, environ=environ) as engine:
            worker = engine.worker(concurrency=concurrency)
            worker.poll_s = min(worker.poll_s, lease_s / 10)
            await worker.run(until_idle=True)

    asyncio.run(whole())


def a_worker(*given: object) -> BaseProcess:
    """Start a process that does `work`; modules are loaded before, so that it is at work at once."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED)
    process = processes.Process(target=work, args=given)
    process.start()
    return process


def measure(store: str, *, kills: int, contexts: int, rounds: int, seed: int) -> Outcome:
    """Sleep on all contexts while workers are killed."""
    endpoint = Endpoint(rounds=rounds, random=random.Random(seed))
    began_s = time.monotonic()
    with a_database(store) as database, served(endpoint.complete) as url:
        asyncio.run(fill(database, contexts, rounds))
        killed = _kill(database, f"{url}#m", kills, endpoint, seed)
        found = asyncio.run(_read(database))
    return _compared(store, endpoint, *found, killed=killed, seconds=time.monotonic() - began_s)


async def fill(database: str, contexts: int, rounds: int) -> None:
    """Add contexts, and queue a sleep on each."""
    async with Engine.open(database=database) as engine:
        for number in range(contexts):
            await engine.add(f"Depot {number} holds {number + 7} crates of salt.", name=f"depot-{number}")
            await engine.enqueue(f"depot-{number}", Plan(budget=Budget(max_rounds=rounds)))


def _kill(database: str, model: str, kills: int, endpoint: Endpoint, seed: int) -> int:
    """Keep workers going, and kill them from the first request on; says how many it killed."""
    chance = random.Random(seed + 1)

    def started() -> BaseProcess:
        return a_worker(database, model)

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
    async with Engine.open(database=database) as engine:
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
    said = {(wired.context, wired.round, wired.reply) for wired in endpoint.log}
    torn = 0
    for number, of_context in enumerate(versions):
        for learned in of_context:
            noted = [match.groups() for note in learned.notes if (match := NOTE.fullmatch(note.text))]
            replies = [(int(context), int(round_), reply) for context, round_, reply in noted]
            right = [(number, round_) for round_ in range(1, endpoint.rounds + 1)]
            torn += [reply[:2] for reply in replies] != right or not set(replies) <= said
    ids = Counter(wired.id for wired in endpoint.log)
    rows = Counter(call.id for call in calls)
    ledger = {call.id: call for call in calls}
    repeated = kept_repeated = in_flight = tokens_differ = 0
    asked: set[tuple[int, int]] = set()
    kept: set[tuple[int, int]] = set()
    for wired in endpoint.log:
        row = ledger.get(wired.id)
        is_kept = row is not None and row.outcome == "ok"
        in_flight += not is_kept
        if wired.context is not None:
            round_of = (wired.context, wired.round)
            repeated += round_of in asked
            kept_repeated += round_of in kept
            asked.add(round_of)
            kept |= {round_of} if is_kept else set()
        tokens_differ += row is not None and is_kept and row.usage != wired.usage
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
        in_flight=in_flight,
        repeated=repeated,
        kept_repeated=kept_repeated,
        rows=len(calls),
        without_a_row=sum(ids[wired.id] != 1 or rows[wired.id] != 1 for wired in endpoint.log),
        never_arrived=sum(call.outcome == "lost" and call.id not in ids for call in calls),
        tokens_differ=tokens_differ,
        attempts=sum(job.attempts for job in jobs),
        seconds=seconds,
    )


@contextmanager
def a_database(store: str) -> Generator[str]:
    """Give the URL of an empty database."""
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
