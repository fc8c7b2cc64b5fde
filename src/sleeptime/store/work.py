"""What workers ask of the database, inside a transaction each: leases, jobs, and calls set aside.

    lease        ends when it is given back, or `seconds` after its last heartbeat
    reservation  becomes a row of the ledger: settled by its holder, or "lost" when the lease has ended; one whose
                 call never went out is free again then, and leaves no row
    spending     the sums that caps are compared with, changed in the same transactions
    outcome      of the decision that a job was queued for: written where the job ends

Locks are taken in one order: lease, reservation, spending; accounts by name. Leases run by the
clock of the database, so that clocks of machines need not agree.

This file does not know when work is begun or given up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Insert, Select, Table, and_, delete, exists, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from sleeptime.core.caps import Caps, Reservation, Spending, granted, nano_usd
from sleeptime.core.errors import JobNotFoundError, LeaseLostError
from sleeptime.core.job import MOST_ATTEMPTS, Job, JobState, Lease
from sleeptime.core.ledger import Call, Phase
from sleeptime.core.usage import Usage
from sleeptime.core.watching import Queued
from sleeptime.store import rows
from sleeptime.store.tables import calls, decisions, drafts, jobs, leases, reservations, sleeps, spending

LOST = "lost"
_LIVE = ("queued", "running", "paused")
_SUMS = ("tokens", "nano_usd", "open_tokens", "open_nano_usd")


async def now(connection: AsyncConnection) -> datetime:
    """The time by the clock that all holders share."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    told = await connection.scalar(select(func.clock_timestamp()))
    assert isinstance(told, datetime)
    return told


# Leases


async def expired(connection: AsyncConnection) -> Sequence[str]:
    """Find the leases whose holders were not heard of for too long."""
    at = await now(connection)
    return (await connection.scalars(select(leases.c.id).where(leases.c.expires_at < at))).all()


async def take(connection: AsyncConnection, lease: Lease) -> bool:
    """Take the lease of a context, if nobody has it."""
    expires_at = await now(connection) + timedelta(seconds=lease.seconds)
    row = {"context_id": lease.context_id, "id": lease.id, "job_id": lease.job_id, "seconds": lease.seconds}
    return (await connection.execute(_if_new(connection, leases, [{**row, "expires_at": expires_at}]))).rowcount == 1


async def expiry(connection: AsyncConnection, context_id: str) -> datetime | None:
    """When the lease of a context ends, None where nobody has it."""
    return await connection.scalar(select(leases.c.expires_at).where(leases.c.context_id == context_id))


async def heartbeat(connection: AsyncConnection, lease: Lease) -> bool:
    """Keep a lease; say whether to go on. Raises LeaseLostError."""
    expires_at = await now(connection) + timedelta(seconds=lease.seconds)
    kept = await connection.execute(update(leases).where(leases.c.id == lease.id).values(expires_at=expires_at))
    if kept.rowcount == 0:
        raise LeaseLostError(lease.context_id)
    if lease.job_id is None:
        return True
    return await connection.scalar(select(jobs.c.state).where(jobs.c.id == lease.job_id)) in ("running", "done")


async def end_lease(connection: AsyncConnection, lease_id: str, *, is_expired: bool = False) -> None:
    """End a lease; the calls that its holder sent and did not settle are lost: they count at their most."""
    which = leases.c.id == lease_id
    if is_expired:
        which &= leases.c.expires_at < await now(connection)
    if (await connection.execute(delete(leases).where(which))).rowcount == 0:
        return
    of_lease = delete(reservations).where(reservations.c.lease_id == lease_id).returning(*reservations.c)
    for row in (await connection.execute(of_lease)).mappings().all():
        if not row["is_sent"]:
            await _spend(connection, row, 0, 0)
            continue
        lost = Call(
            id=row["id"],
            at=row["at"],
            phase=Phase.SLEEP,
            model=row["model"],
            usage=Usage(),
            cost_usd=None,
            latency_s=0.0,
            outcome=LOST,
            price_card=row["price_card"],
            context_id=row["context_id"],
            work_id=row["work_id"],
        )
        await _spend(connection, row, row["tokens"], row["nano_usd"])
        await connection.execute(insert(calls), rows.call_row(lost))


# Calls


async def reserve(connection: AsyncConnection, asked: Reservation, caps: Caps) -> Reservation | None:
    """Set a call aside, as far as *caps* allow; None where calls under way hold the rest. Raises LeaseLostError."""
    held = select(leases.c.id).where(leases.c.id == asked.lease).with_for_update()
    if await connection.scalar(held) is None:
        raise LeaseLostError(asked.context_id)
    spent = await _accounts(connection, asked.accounts)
    given = granted(caps, spent, asked)
    if given is None or given.output_tokens == 0:
        return given
    row = {
        "id": given.id,
        "lease_id": given.lease,
        "at": given.at,
        "model": given.model,
        "price_card": given.price.name if given.price else None,
        "context_id": given.context_id,
        "work_id": given.work_id,
        "tokens": given.output_tokens,
        "nano_usd": given.nano_usd,
        "is_sent": 0,
    }
    await connection.execute(insert(reservations), row)
    await connection.execute(
        update(spending)
        .where(spending.c.account.in_(given.accounts))
        .values(
            open_tokens=spending.c.open_tokens + given.output_tokens,
            open_nano_usd=spending.c.open_nano_usd + given.nano_usd,
        )
    )
    return given


async def mark_sent(connection: AsyncConnection, call_id: str) -> bool:
    """Note that a call goes out; False where its lease ended, so that it must not."""
    marked = update(reservations).where(reservations.c.id == call_id).values(is_sent=1)
    return (await connection.execute(marked)).rowcount == 1


async def settle(connection: AsyncConnection, call: Call) -> bool:
    """Write a call that was set aside to the ledger, and free what it did not take; False where it is lost already.

    A call that went out and broke off counts at its most: what it took is not known.
    """
    gone = delete(reservations).where(reservations.c.id == call.id).returning(*reservations.c)
    row = (await connection.execute(gone)).mappings().one_or_none()
    if row is None:
        return False
    is_known = call.outcome == "ok" or call.cost_usd is not None
    tokens = call.usage.output_tokens if is_known else row["tokens"]
    money = nano_usd(call.cost_usd) if call.cost_usd is not None else row["nano_usd"]
    await _spend(connection, row, tokens, money)
    await connection.execute(insert(calls), rows.call_row(call))
    return True


async def _spend(connection: AsyncConnection, row: rows.Row, tokens: int, money: int) -> None:
    """Turn what *row* set aside into what was spent."""
    keys = _keys(row)
    await _locked(connection, keys)  # they are there since the call was set aside
    await connection.execute(
        update(spending)
        .where(spending.c.account.in_(keys))
        .values(
            tokens=spending.c.tokens + tokens,
            nano_usd=spending.c.nano_usd + money,
            open_tokens=spending.c.open_tokens - row["tokens"],
            open_nano_usd=spending.c.open_nano_usd - row["nano_usd"],
        )
    )


def _keys(row: rows.Row) -> Sequence[str]:
    return Reservation(
        id=row["id"],
        at=row["at"],
        model=row["model"],
        context_id=row["context_id"],
        work_id=row["work_id"],
        lease=row["lease_id"],
        input_tokens=0,
        output_tokens=row["tokens"],
    ).accounts


async def _accounts(connection: AsyncConnection, keys: Sequence[str]) -> Mapping[str, Spending]:
    """Lock accounts, new ones too."""
    new = [{"account": key, **dict.fromkeys(_SUMS, 0)} for key in sorted(keys)]
    await connection.execute(_if_new(connection, spending, new))
    return await _locked(connection, keys)


async def _locked(connection: AsyncConnection, keys: Sequence[str]) -> Mapping[str, Spending]:
    """Lock accounts in the order of their names."""
    found = select(spending).where(spending.c.account.in_(keys)).order_by(spending.c.account).with_for_update()
    return {row["account"]: spending_of(row) for row in (await connection.execute(found)).mappings()}


def spending_of(row: rows.Row) -> Spending:
    """Read an account."""
    return Spending(**{each.name: row[each.name] for each in fields(Spending)})


async def spent(connection: AsyncConnection, keys: Sequence[str]) -> Mapping[str, Spending]:
    """Read accounts; those that nothing was spent on are left out."""
    found = (await connection.execute(select(spending).where(spending.c.account.in_(keys)))).mappings()
    return {row["account"]: spending_of(row) for row in found}


# Jobs


def is_in_hand(context_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a sleep on a context is queued or being done."""
    return exists().where(jobs.c.context_id == context_id, jobs.c.state.in_(_LIVE))


async def queued(connection: AsyncConnection) -> Mapping[str, Queued]:
    """Add up what decided sleeps that are not over may take, by unit."""
    of_unit = (jobs.c.unit, func.sum(jobs.c.price).label("price"), func.sum(jobs.c.output_tokens).label("tokens"))
    is_live = jobs.c.state.in_(_LIVE) & (jobs.c.unit != "")
    found = (await connection.execute(select(*of_unit).where(is_live).group_by(jobs.c.unit))).mappings()
    return {row["unit"]: Queued(price=row["price"], output_tokens=int(row["tokens"])) for row in found}


async def has_due(connection: AsyncConnection) -> bool:
    """Whether there is a job to take up. Only looks, so that an idle worker writes nothing."""
    return await connection.scalar(select(_due(await now(connection)).exists())) or False


def _due(at: datetime) -> Select[tuple[Any, ...]]:  # Any: a column holds a text, a number, a time or nothing
    """Jobs that may be taken up now."""
    is_free = ~exists().where(leases.c.context_id == jobs.c.context_id)
    is_due = or_(jobs.c.waits_until.is_(None), jobs.c.waits_until <= at)
    return select(jobs).where(jobs.c.state.in_(("queued", "running")), is_due, is_free)


async def enqueue(connection: AsyncConnection, job: Job) -> Job:
    """Queue a job, or give back the one of the same context and plan that is not over. The context is held."""
    same = select(jobs).where(
        jobs.c.context_id == job.context_id,
        jobs.c.plan == rows.plan_json(job.plan),
        jobs.c.again == int(job.again),
        jobs.c.state.in_(_LIVE),
    )
    found = (await connection.execute(same)).mappings().first()
    if found is not None:
        return rows.job_of(found)
    await connection.execute(insert(jobs), rows.job_row(job))
    return job


async def claim(connection: AsyncConnection, lease_id: str, *, worker: str, seconds: float) -> tuple[Job, Lease] | None:
    """Take up the oldest job whose context nobody sleeps on, its worker's death included; None if there is none."""
    at = await now(connection)
    is_free = ~exists().where(leases.c.context_id == jobs.c.context_id)
    is_hopeless = and_(jobs.c.state.in_(("queued", "running")), jobs.c.attempts >= MOST_ATTEMPTS, is_free)
    why = f"Given up: {MOST_ATTEMPTS} workers took it up and none came to its end."
    given_up = update(jobs).where(is_hopeless).values(state="failed", error=why, ended_at=at).returning(jobs.c.id)
    for job_id in (await connection.scalars(given_up)).all():
        await _tell(connection, job_id, f"failed: {why}")
    oldest = _due(at).order_by(jobs.c.position).limit(1).with_for_update(skip_locked=True)
    row = (await connection.execute(oldest)).mappings().first()
    if row is None:
        return None
    lease = Lease(id=lease_id, context_id=row["context_id"], seconds=seconds, job_id=row["id"])
    if not await take(connection, lease):
        return None
    taken = {"state": "running", "attempts": row["attempts"] + 1, "worker": worker, "waits_until": None}
    await connection.execute(update(jobs).where(jobs.c.id == row["id"]).values(**taken))
    return rows.job_of({**row, **taken}), lease


async def end_job(
    connection: AsyncConnection,
    job_id: str,
    state: JobState,
    *,
    version: int | None = None,
    error: str | None = None,
    wait_s: float | None = None,
    outcome: str = "",
) -> bool:
    """Say what became of a job, and whether it was running. With *wait_s* it met an error, and is tried again later.

    Where it was decided on, the decision's outcome is *outcome*, or what the state and the error say.
    """
    at = await now(connection)
    values: dict[str, object] = {"state": state, "error": error, "version": version}
    if state == "queued":
        values["waits_until"] = at + timedelta(seconds=wait_s) if wait_s is not None else None
    else:
        values["ended_at"] = at
    if error is not None:
        values["failures"] = jobs.c.failures + 1
    ended = update(jobs).where(jobs.c.id == job_id, jobs.c.state == "running").values(**values)
    if not (await connection.execute(ended)).rowcount:
        return False
    if state != "queued":
        await _tell(connection, job_id, outcome or (f"{state}: {error}" if error else state))
    return True


async def _tell(connection: AsyncConnection, job_id: str, outcome: str) -> None:
    """Write what came of the decision that a job was queued for, if it was for one."""
    await connection.execute(update(decisions).where(decisions.c.job_id == job_id).values(outcome=outcome))


async def change_job(connection: AsyncConnection, job_id: str, state: JobState, *, only: Sequence[JobState]) -> Job:
    """Put a job into another state on the user's word. Raises JobNotFoundError."""
    of_job = select(jobs).where(jobs.c.id == job_id).with_for_update()
    row = (await connection.execute(of_job)).mappings().one_or_none()
    if row is None:
        raise JobNotFoundError(job_id)
    if row["state"] not in only:
        raise JobNotFoundError(job_id, f"Job {job_id!r} is {row['state']}.")
    ended_at = await now(connection) if state == "cancelled" else None
    values = {"state": state, "failures": 0, "waits_until": None, "ended_at": ended_at}
    await connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
    await _tell(connection, job_id, state)
    return rows.job_of({**row, **values})


async def listed(connection: AsyncConnection) -> Sequence[Job]:
    """All jobs, oldest first, with the rounds that the unfinished sleeps on their contexts have kept."""
    kept = select(sleeps.c.context_id, drafts.c.draft).join_from(drafts, sleeps)
    rounds: dict[str, int] = {}
    for context_id, draft in (await connection.execute(kept)).all():
        rounds[context_id] = rounds.get(context_id, 0) + rows.draft_of(draft).rounds
    found = (await connection.execute(select(jobs).order_by(jobs.c.position))).mappings()
    return [rows.job_of(row, rounds=rounds.get(row["context_id"], 0)) for row in found]


def _if_new(connection: AsyncConnection, table: Table, values: Sequence[Mapping[str, object]]) -> Insert:
    """Insert the rows whose keys are not there yet."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table).values(list(values)).on_conflict_do_nothing()
