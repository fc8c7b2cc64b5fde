"""What every store promises to workers, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from sleeptime.core.budget import Budget
from sleeptime.core.caps import Caps, Reservation
from sleeptime.core.context import Context
from sleeptime.core.errors import JobNotFoundError, LeaseLostError, StoreError
from sleeptime.core.job import MOST_ATTEMPTS, Job, Lease
from sleeptime.core.ledger import Call, Phase
from sleeptime.core.notes import Draft
from sleeptime.core.plan import Plan
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.store import Sleep, SqlStore, open_store

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
CARD = PriceCard(name="card", dated=date(2026, 5, 1), input_usd_per_mtok=1.0, output_usd_per_mtok=10.0)
SHORT_S = 0.2


def a_lease(number: int = 1, *, context_id: str = "cboxes", seconds: float = 60.0) -> Lease:
    return Lease(id=f"l{number}", context_id=context_id, seconds=seconds)


def a_reservation(number: int = 1, *, tokens: int = 100, lease: str = "l1", context_id: str = "cboxes") -> Reservation:
    return Reservation(
        id=f"call-{number}",
        at=NOON,
        model="m",
        context_id=context_id,
        work_id="s1",
        lease=lease,
        input_tokens=1000,
        output_tokens=tokens,
        price=CARD,
    )


def a_call(number: int = 1, *, tokens: int = 10, outcome: str = "ok", cost_usd: float | None = 0.001) -> Call:
    return Call(
        id=f"call-{number}",
        at=NOON,
        phase=Phase.SLEEP,
        model="m",
        usage=Usage(input_tokens=90, output_tokens=tokens),
        cost_usd=cost_usd,
        latency_s=0.1,
        outcome=outcome,
        context_id="cboxes",
        work_id="s1",
    )


async def a_context(store: SqlStore, name: str = "boxes") -> Context:
    return await store.add_context(Context(id=f"c{name}", name=name, text="Seven boxes.", created_at=NOON))


def a_job(number: int = 1, *, context_id: str = "cboxes", rounds: int = 10) -> Job:
    return Job(id=f"j{number}", context_id=context_id, plan=Plan(budget=Budget(max_rounds=rounds)), queued_at=NOON)


async def test_one_of_many_gets_the_lease_of_a_context(store: SqlStore, database: str) -> None:
    async with aclosing(await open_store(database)) as other:
        took = await asyncio.gather(*(s.take_lease(a_lease(n)) for n in range(6) for s in (store, other)))

    assert sum(took) == 1
    assert await store.take_lease(a_lease(7, context_id="celse"))


async def test_a_lease_that_ran_out_is_taken_and_its_holder_is_told(store: SqlStore) -> None:
    lease = a_lease(seconds=SHORT_S)
    assert await store.take_lease(lease)
    assert await store.heartbeat(lease)
    assert not await store.take_lease(a_lease(2))

    await asyncio.sleep(SHORT_S * 1.5)

    assert await store.take_lease(a_lease(2))
    with pytest.raises(LeaseLostError):
        await store.heartbeat(lease)
    with pytest.raises(LeaseLostError):
        await store.reserve(a_reservation(), Caps())


async def test_a_call_under_way_when_the_lease_ran_out_is_lost_and_counts_at_its_most(store: SqlStore) -> None:
    assert await store.take_lease(a_lease(seconds=SHORT_S))
    assert await store.reserve(a_reservation(), Caps()) is not None
    await store.mark_sent("call-1")
    assert await store.calls() == []
    await asyncio.sleep(SHORT_S * 1.5)

    assert await asyncio.gather(store.reap(), store.reap()) != [0, 0]

    lost = await store.calls()
    assert [(call.id, call.outcome, call.usage, call.cost_usd) for call in lost] == [("call-1", "lost", Usage(), None)]
    with pytest.raises(LeaseLostError):
        await store.settle(a_call())
    assert await store.calls() == lost
    assert await store.take_lease(a_lease(2))
    left = await store.reserve(a_reservation(2, lease="l2"), Caps(context_tokens=130))
    assert left is not None
    assert left.output_tokens == 30


async def test_a_call_that_never_went_out_leaves_no_row_and_takes_nothing(store: SqlStore) -> None:
    caps = Caps(context_tokens=100)
    assert await store.take_lease(a_lease(seconds=SHORT_S))
    assert await store.reserve(a_reservation(), caps) == a_reservation()
    assert await store.reserve(a_reservation(2), caps) is None
    await asyncio.sleep(SHORT_S * 1.5)

    await store.reap()

    assert await store.calls() == []
    with pytest.raises(LeaseLostError):
        await store.mark_sent("call-1")
    assert await store.take_lease(a_lease(2))
    assert await store.reserve(a_reservation(2, lease="l2"), caps) == a_reservation(2, lease="l2")


async def test_a_call_is_lost_or_never_sent_whichever_comes_first(store: SqlStore, database: str) -> None:
    """Marked while the reaper is at work: either the mark is refused, or the call has a row."""
    was_sent: list[bool] = []
    async with aclosing(await open_store(database)) as other:
        for number in range(20):
            lease = a_lease(number, context_id=f"c{number}")
            assert await store.take_lease(lease)
            asked = a_reservation(number, lease=lease.id, context_id=lease.context_id)
            assert await store.reserve(asked, Caps())
            marked, _ = await asyncio.gather(store.mark_sent(asked.id), other.end_lease(lease), return_exceptions=True)
            was_sent.append(marked is None)

    rows = {call.id for call in await store.calls()}
    assert rows == {f"call-{number}" for number, is_sent in enumerate(was_sent) if is_sent}


async def test_a_draft_and_the_call_it_was_made_of_are_kept_together_or_not_at_all(store: SqlStore) -> None:
    await a_context(store)
    await store.begin_sleep(Sleep(id="s1", context_id="cboxes", plan="p", drafts=(), context_fingerprint="f"))
    assert await store.take_lease(a_lease())
    for number in (1, 2):
        assert await store.reserve(a_reservation(number), Caps())
        await store.mark_sent(f"call-{number}")
    first, second = Draft(rounds=1, usage=Usage(output_tokens=10)), Draft(rounds=2, usage=Usage(output_tokens=20))

    await store.checkpoint("s1", first, a_call())
    await store.end_lease(a_lease())  # as the reaper does: the second call is lost
    with pytest.raises(LeaseLostError):
        await store.checkpoint("s1", second, a_call(2))
    with pytest.raises(StoreError, match="is over"):
        await store.checkpoint("s9", first, a_call(3))

    assert [(call.id, call.outcome) for call in await store.calls()] == [("call-1", "ok"), ("call-2", "lost")]
    (sleep,) = await store.unfinished("cboxes", "p")
    assert sleep.drafts == (first,)


@pytest.mark.parametrize(
    ("call", "left"),
    [
        (a_call(), 90),
        (a_call(tokens=0, outcome="RateLimitedError", cost_usd=0.0), 100),
        (a_call(tokens=0, outcome="MalformedReplyError", cost_usd=None), 50),  # went out: its most was 50
    ],
)
async def test_a_settled_call_frees_what_it_did_not_take(store: SqlStore, call: Call, left: int) -> None:
    caps = Caps(day_tokens=100)
    assert await store.take_lease(a_lease())
    assert await store.reserve(a_reservation(tokens=50), caps) == a_reservation(tokens=50)
    assert await store.reserve(a_reservation(2, tokens=51), caps) is None

    await store.settle(call)

    assert await store.calls() == [call]
    given = await store.reserve(a_reservation(2, tokens=200), caps)
    assert given is not None
    assert given.output_tokens == left


async def test_caps_hold_exactly_with_many_workers_at_once(store: SqlStore, database: str) -> None:
    """Twelve workers in two stores spend a cap to the last token and never pass it."""
    caps = Caps(month_tokens=1000)

    async def worker(number: int, mine: SqlStore) -> int:
        context_id = f"c{number}"
        assert await mine.take_lease(a_lease(number, context_id=context_id))
        took, attempt = 0, 0
        while True:
            asked = a_reservation(number * 10_000 + attempt, tokens=90, lease=f"l{number}", context_id=context_id)
            given = await mine.reserve(asked, caps)
            if given is None:
                await asyncio.sleep(0.002)
                continue
            if given.output_tokens == 0:
                return took
            call = replace(a_call(tokens=given.output_tokens), id=asked.id, context_id=context_id)
            await mine.settle(call)
            took, attempt = took + given.output_tokens, attempt + 1

    async with aclosing(await open_store(database)) as other:
        took = await asyncio.gather(*(worker(n, store if n % 2 else other) for n in range(12)))

    assert sum(took) == 1000
    assert sum(call.usage.output_tokens for call in await store.calls()) == 1000


async def test_a_job_is_queued_once_and_survives_the_store(store: SqlStore, database: str) -> None:
    await a_context(store)
    first = await store.enqueue(a_job())

    assert await store.enqueue(a_job(2)) == first
    assert (await store.enqueue(a_job(3, rounds=11))).id == "j3"
    async with aclosing(await open_store(database)) as other:
        assert await other.jobs() == [first, a_job(3, rounds=11)]


async def test_workers_take_different_jobs_oldest_first_and_one_at_a_time_on_a_context(
    store: SqlStore, database: str
) -> None:
    for name in ("boxes", "jars"):
        await a_context(store, name)
    await store.enqueue(a_job())
    await store.enqueue(a_job(2, rounds=11))
    await store.enqueue(a_job(3, context_id="cjars"))

    async with aclosing(await open_store(database)) as other:
        claims = [await s.claim(f"l{n}", worker="w", seconds=60.0) for n, s in enumerate((store, other, store))]
        assert [claim and claim[0].id for claim in claims] == ["j1", "j3", None]
        assert claims[0] is not None
        job, lease = claims[0]
        assert (job.state, job.attempts, job.worker) == ("running", 1, "w")
        await store.end_job("j1", "done", version=1)
        await store.end_lease(lease)
        claimed = await other.claim("l9", worker="w", seconds=60.0)
        assert claimed
        assert claimed[0].id == "j2"


async def test_many_claims_at_once_share_no_job(store: SqlStore, database: str) -> None:
    for number in range(8):
        context = await a_context(store, f"n{number}")
        await store.enqueue(a_job(number, context_id=context.id))

    async def take(mine: SqlStore, name: str) -> list[str]:
        taken: list[str] = []
        for attempt in range(16):
            claim = await mine.claim(f"{name}-{attempt}", worker=name, seconds=60.0)
            taken += [claim[0].id] if claim else []
        return taken

    async with aclosing(await open_store(database)) as other:
        taken = await asyncio.gather(*(take(s, f"w{n}{i}") for n, s in enumerate((store, other)) for i in range(3)))

    assert sorted(id_ for of_worker in taken for id_ in of_worker) == [f"j{number}" for number in range(8)]


async def test_the_job_of_a_dead_worker_is_taken_over(store: SqlStore) -> None:
    await a_context(store)
    await store.enqueue(a_job())
    assert await store.claim("l1", worker="dead", seconds=SHORT_S)
    assert await store.claim("l2", worker="w", seconds=60.0) is None
    await asyncio.sleep(SHORT_S * 1.5)

    claim = await store.claim("l2", worker="w", seconds=60.0)

    assert claim
    assert (claim[0].id, claim[0].attempts, claim[0].worker) == ("j1", 2, "w")


async def test_a_job_whose_workers_all_die_is_given_up(store: SqlStore) -> None:
    await a_context(store)
    await store.enqueue(replace(a_job(), attempts=MOST_ATTEMPTS - 1))
    last = await store.claim("l1", worker="w", seconds=SHORT_S)
    assert last
    assert last[0].attempts == MOST_ATTEMPTS
    await asyncio.sleep(2 * SHORT_S)

    assert await store.claim("l2", worker="w", seconds=SHORT_S) is None

    (job,) = await store.jobs()
    assert job.state == "failed"
    assert "100 workers took it up" in (job.error or "")


async def test_a_version_and_its_job_end_in_one_transaction(store: SqlStore) -> None:
    await a_context(store)
    await store.enqueue(a_job())
    assert await store.claim("l1", worker="w", seconds=60.0)
    await store.begin_sleep(Sleep(id="s1", context_id="cboxes", plan="p", drafts=(), context_fingerprint="f"))
    await store.checkpoint("s1", Draft(rounds=1))
    assert (await store.jobs())[0].rounds == 1

    await store.end_sleep("s1", job_id="j1")

    (job,) = await store.jobs()
    assert (job.state, job.rounds) == ("done", 0)
    assert job.ended_at is not None


async def test_a_job_that_met_an_error_waits(store: SqlStore) -> None:
    await a_context(store)
    await store.enqueue(a_job())
    claim = await store.claim("l1", worker="w", seconds=60.0)
    assert claim
    await store.end_job("j1", "queued", error="rate limited", wait_s=0.3)
    await store.end_lease(claim[1])

    assert await store.claim("l2", worker="w", seconds=60.0) is None
    (waiting,) = await store.jobs()
    assert (waiting.failures, waiting.error) == (1, "rate limited")
    await asyncio.sleep(0.4)
    assert await store.claim("l2", worker="w", seconds=60.0)


async def test_a_job_is_paused_resumed_and_cancelled_and_its_worker_is_told(store: SqlStore) -> None:
    await a_context(store)
    await store.enqueue(a_job())
    claim = await store.claim("l1", worker="w", seconds=60.0)
    assert claim
    assert await store.heartbeat(claim[1])

    await store.change_job("j1", "paused", only=("queued", "running"))

    assert not await store.heartbeat(claim[1])
    await store.end_job("j1", "queued")  # what its worker says when it hands back changes nothing
    assert (await store.jobs())[0].state == "paused"
    await store.end_lease(claim[1])
    assert await store.claim("l2", worker="w", seconds=60.0) is None
    await store.change_job("j1", "queued", only=("paused",))
    await store.change_job("j1", "cancelled", only=("queued",))
    with pytest.raises(JobNotFoundError, match="is cancelled"):
        await store.change_job("j1", "queued", only=("paused",))
    with pytest.raises(JobNotFoundError, match="No job 'j9'"):
        await store.change_job("j9", "queued", only=("paused",))


async def test_forgetting_a_context_forgets_its_jobs_but_not_what_was_spent(store: SqlStore) -> None:
    await a_context(store)
    await store.enqueue(a_job())
    claim = await store.claim("l1", worker="w", seconds=60.0)
    assert claim
    assert await store.reserve(a_reservation(), Caps())

    await store.forget("cboxes")

    assert await store.jobs() == []
    await store.settle(a_call())
    assert len(await store.calls()) == 1
