"""What pages ask of the database, inside a transaction each: one page of rows, or sums that the database kept.

Nothing here reads all rows of a table that grows with use: rows come a page at a time by an index, and sums over
the ledger from `hours` and `compared`, which triggers keep.

This file does not know how anything is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sleeptime.core.caps import Spending
from sleeptime.core.job import JobState
from sleeptime.core.ledger import Phase
from sleeptime.core.saved import Compared
from sleeptime.core.shown import (
    Asked,
    Counts,
    Filter,
    Listed,
    Progress,
    Queued,
    Row,
    Sort,
    Spent,
    Taken,
    Told,
    UnderWay,
)
from sleeptime.core.usage import Usage
from sleeptime.store import rows, work
from sleeptime.store.tables import (
    answers,
    calls,
    compared,
    contexts,
    decisions,
    drafts,
    hours,
    jobs,
    learned_contexts,
    leases,
    sleeps,
    spending,
    watched,
)

LIVE: tuple[JobState, ...] = ("running", "queued", "paused")
AMOUNTS = ("tokens", "usd", "seconds")


# Contexts


async def listed(
    connection: AsyncConnection, *, words: str, sort: Sort, offset: int, limit: int
) -> tuple[list[Listed], int]:
    """One page of the contexts whose names hold *words*, and how many there are in all."""
    wanted = contexts.c.name.icontains(words, autoescape=True)
    ids: Select[str]
    if sort in ("name", "newest"):
        order = (contexts.c.name,) if sort == "name" else (contexts.c.created_at.desc(), contexts.c.name.desc())
        ids = select(contexts.c.id).order_by(*order)
    else:
        by = watched.c.wants if sort == "value" else watched.c.queries
        ids = select(watched.c.context_id).order_by(by.desc().nulls_last(), watched.c.context_id)
        if words:
            ids = ids.join_from(watched, contexts)
    total = select(func.count()).select_from(contexts)
    if words:
        ids, total = ids.where(wanted), total.where(wanted)
    chosen = (await connection.scalars(ids.offset(offset).limit(limit))).all()
    found = {each.id: each for each in await _listed(connection, chosen)}
    return [found[each] for each in chosen if each in found], await connection.scalar(total) or 0


async def _listed(connection: AsyncConnection, ids: Sequence[str]) -> list[Listed]:
    newest = (
        select(func.max(learned_contexts.c.version))
        .where(learned_contexts.c.context_id == contexts.c.id)
        .correlate(contexts)
        .scalar_subquery()
    )
    now = await work.now(connection)
    job = (
        select(jobs.c.state)
        .where(jobs.c.context_id == contexts.c.id, jobs.c.state.in_(LIVE))
        .order_by(jobs.c.position.desc())
        .limit(1)
        .correlate(contexts)
        .scalar_subquery()
    )
    is_sleeping = exists().where(leases.c.context_id == contexts.c.id, leases.c.expires_at > now)
    statement = (
        select(
            contexts.c.name,
            contexts.c.characters,
            contexts.c.created_at,
            contexts.c.source,
            watched,
            learned_contexts.c.version,
            learned_contexts.c.note_count,
            learned_contexts.c.created_at.label("slept_at"),
            is_sleeping.label("is_sleeping"),
            job.label("job"),
        )
        .join_from(contexts, watched, watched.c.context_id == contexts.c.id)
        .outerjoin(
            learned_contexts,
            (learned_contexts.c.context_id == contexts.c.id) & (learned_contexts.c.version == newest),
        )
        .where(contexts.c.id.in_(ids))
    )
    last = (
        select(func.max(decisions.c.position)).where(decisions.c.context_id.in_(ids)).group_by(decisions.c.context_id)
    )
    decided = {
        row["context_id"]: rows.decided_of(row)
        for row in (await connection.execute(select(decisions).where(decisions.c.position.in_(last)))).mappings()
    }
    return [
        Listed(
            id=row["context_id"],
            name=row["name"],
            characters=row["characters"],
            created_at=row["created_at"],
            source=row["source"],
            versions=row["version"] or 0,
            notes=row["note_count"] or 0,
            slept_at=row["slept_at"],
            is_sleeping=bool(row["is_sleeping"]),
            job=row["job"],
            watched=rows.watched_of(row),
            decided=decided.get(row["context_id"]),
        )
        for row in (await connection.execute(statement)).mappings()
    ]


async def one(connection: AsyncConnection, context_id: str) -> Listed | None:
    """The line of one context."""
    return next(iter(await _listed(connection, [context_id])), None)


async def counts(connection: AsyncConnection) -> Counts:
    """How many contexts there are, how many were slept on, and jobs by state."""
    by_state = select(jobs.c.state, func.count()).where(jobs.c.state.in_(LIVE)).group_by(jobs.c.state)
    first = learned_contexts.c.version == 1
    return Counts(
        contexts=await connection.scalar(select(func.count()).select_from(contexts)) or 0,
        slept_on=await connection.scalar(select(func.count()).select_from(learned_contexts).where(first)) or 0,
        jobs=[(state, count) for state, count in (await connection.execute(by_state)).all()],
    )


async def newest_versions(connection: AsyncConnection, limit: int) -> Sequence[tuple[str, str, int]]:
    """Context id, name and number of the versions that sleeps published last."""
    statement = (
        select(contexts.c.id, contexts.c.name, learned_contexts.c.version)
        .join_from(learned_contexts, contexts)
        .where(learned_contexts.c.by_hand.is_(None), learned_contexts.c.rolled_back_from.is_(None))
        .order_by(learned_contexts.c.created_at.desc())
        .limit(limit)
    )
    return [(row.id, row.name, row.version) for row in (await connection.execute(statement)).all()]


async def told(connection: AsyncConnection, limit: int) -> list[Told]:
    """The last decisions on any context, newest first."""
    statement = (
        select(decisions, contexts.c.name)
        .join_from(decisions, contexts)
        .order_by(decisions.c.at.desc(), decisions.c.position.desc())
        .limit(limit)
    )
    found = (await connection.execute(statement)).mappings()
    return [Told(name=row["name"], decided=rows.decided_of(row)) for row in found]


# Sleeps and jobs


async def under_way(connection: AsyncConnection) -> list[UnderWay]:
    """The sleeps whose holders are alive, with what they have kept so far."""
    now = await work.now(connection)
    statement = (
        select(jobs, leases.c.context_id.label("on"), contexts.c.name)
        .select_from(leases)
        .join(contexts, contexts.c.id == leases.c.context_id)
        .outerjoin(jobs, jobs.c.id == leases.c.job_id)
        .where(leases.c.expires_at > now)
        .order_by(contexts.c.name)
    )
    found = (await connection.execute(statement)).mappings().all()
    kept = await _progress(connection, [row["on"] for row in found])
    return [
        UnderWay(
            context_id=row["on"],
            name=row["name"],
            job=None if row["id"] is None else rows.job_of(row, rounds=kept[row["on"]].rounds),
            progress=kept[row["on"]],
        )
        for row in found
    ]


async def queued(connection: AsyncConnection, *, are_over: bool, limit: int, before: int | None = None) -> list[Queued]:
    """Jobs that are not over, oldest first, or those that are, newest first; *before* a place in the queue."""
    is_live = jobs.c.state.in_(LIVE)
    statement = select(jobs, contexts.c.name).join_from(jobs, contexts).where(~is_live if are_over else is_live)
    if before is not None:
        statement = statement.where(jobs.c.position < before)
    order = jobs.c.position.desc() if are_over else jobs.c.position
    found = (await connection.execute(statement.order_by(order).limit(limit))).mappings().all()
    kept = {} if are_over else await _progress(connection, [row["context_id"] for row in found])
    return [
        Queued(
            position=row["position"],
            name=row["name"],
            job=rows.job_of(row),
            progress=kept.get(row["context_id"], Progress()),
        )
        for row in found
    ]


async def _progress(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, Progress]:
    """What the unfinished sleeps on contexts have kept."""
    found = dict.fromkeys(ids, Progress())
    kept = select(sleeps.c.context_id, drafts.c.draft).join_from(drafts, sleeps).where(sleeps.c.context_id.in_(ids))
    for context_id, written in (await connection.execute(kept)).all():
        draft, before = rows.draft_of(written), found[context_id]
        found[context_id] = Progress(
            rounds=before.rounds + draft.rounds,
            notes=before.notes + len(draft.notes),
            usage=before.usage + draft.usage,
        )
    return found


# The ledger


async def spent(connection: AsyncConnection, *, by_day: bool, since: datetime | None = None) -> list[Spent]:
    """What was spent in each hour or day, by phase, oldest first."""
    span = func.substr(hours.c.hour, 1, 10) if by_day else hours.c.hour
    names = ("calls", "answers", *rows.USAGE, "cost_usd", "unpriced")
    sums = [func.sum(hours.c[name]).label(name) for name in names]
    statement = select(span.label("span"), hours.c.phase, hours.c.has_notes, *sums).group_by(
        span, hours.c.phase, hours.c.has_notes
    )
    if since is not None:
        statement = statement.where(hours.c.hour >= f"{since.astimezone(UTC):%Y-%m-%d %H}")
    return [
        Spent(
            since=datetime.strptime(row["span"], "%Y-%m-%d" if by_day else "%Y-%m-%d %H").replace(tzinfo=UTC),
            phase=Phase(row["phase"]),
            has_notes=bool(row["has_notes"]),
            calls=int(row["calls"]),
            answers=int(row["answers"]),
            usage=Usage(**{name: int(row[name]) for name in rows.USAGE}),
            cost_usd=row["cost_usd"],
            unpriced=int(row["unpriced"]),
        )
        for row in (await connection.execute(statement.order_by("span"))).mappings()
    ]


async def first_hour(connection: AsyncConnection) -> datetime | None:
    """The hour of the first row of the ledger."""
    hour = await connection.scalar(select(func.min(hours.c.hour)))
    return None if hour is None else datetime.strptime(hour, "%Y-%m-%d %H").replace(tzinfo=UTC)


async def all_compared(connection: AsyncConnection) -> dict[str, Compared]:
    """Sums over all contexts of what answers took with notes and without: tokens, dollars, seconds."""
    plain = compared.alias("plain")
    noted = compared.alias("noted")
    with_plain = noted.outerjoin(plain, and_(plain.c.context_id == noted.c.context_id, plain.c.has_notes == 0))
    of_notes: list[ColumnElement[float]] = []
    of_plain: list[ColumnElement[float]] = []
    for name in AMOUNTS:
        count = "priced" if name == "usd" else "answers"
        n, m = noted.c[count], plain.c[count]
        is_own = and_(n > 0, m > 0)

        def total(
            label: str, of: ColumnElement[float], when: ColumnElement[bool], name: str = name
        ) -> ColumnElement[float]:
            return func.coalesce(func.sum(case((when, of), else_=0)), 0).label(f"{name}_{label}")

        of_notes += [
            total("notes", n, n > 0),
            total("notes_total", noted.c[name], n > 0),
            total("notes_scatter", noted.c[f"{name}_squares"] - noted.c[name] * noted.c[name] / n, n > 0),
            total("notes_contexts", n / n, n > 0),
            total("own", n, is_own),
            total("own_baseline", n * plain.c[name] / m, is_own),
            total("own_weight", 1.0 * n * n / m, is_own),
        ]
        of_plain += [
            total("plain", m, m > 0),
            total("plain_total", plain.c[name], m > 0),
            total("plain_squares", plain.c[f"{name}_squares"], m > 0),
            total("plain_scatter", plain.c[f"{name}_squares"] - plain.c[name] * plain.c[name] / m, m > 0),
            total("plain_contexts", m / m, m > 0),
        ]
    sums = dict(
        (await connection.execute(select(*of_notes).select_from(with_plain).where(noted.c.has_notes == 1)))
        .mappings()
        .one()
    )
    sums |= (await connection.execute(select(*of_plain).where(plain.c.has_notes == 0))).mappings().one()
    return {name: _compared(sums, name) for name in AMOUNTS}


def _compared(sums: Mapping[str, float], name: str) -> Compared:
    return Compared(
        notes=int(sums[f"{name}_notes"]),
        notes_total=float(sums[f"{name}_notes_total"]),
        notes_scatter=float(sums[f"{name}_notes_scatter"]),
        notes_contexts=int(sums[f"{name}_notes_contexts"]),
        plain=int(sums[f"{name}_plain"]),
        plain_total=float(sums[f"{name}_plain_total"]),
        plain_squares=float(sums[f"{name}_plain_squares"]),
        plain_scatter=float(sums[f"{name}_plain_scatter"]),
        plain_contexts=int(sums[f"{name}_plain_contexts"]),
        own=int(sums[f"{name}_own"]),
        own_baseline=float(sums[f"{name}_own_baseline"]),
        own_weight=float(sums[f"{name}_own_weight"]),
    )


async def taken(connection: AsyncConnection, context_id: str) -> dict[bool, Taken]:
    """What the answers of one context took, by whether they had notes."""
    names = ("answers", "priced", "tokens", "tokens_squares", "seconds", "usd")
    statement = select(compared).where(compared.c.context_id == context_id)
    return {
        bool(row["has_notes"]): Taken(**{name: row[name] for name in names})
        for row in (await connection.execute(statement)).mappings()
    }


async def spending_of(connection: AsyncConnection, accounts: Sequence[str]) -> Mapping[str, Spending]:
    """What the accounts of caps hold; those that are not there hold nothing."""
    names = ("tokens", "nano_usd", "open_tokens", "open_nano_usd")
    found = (await connection.execute(select(spending).where(spending.c.account.in_(accounts)))).mappings()
    kept = {row["account"]: Spending(**{name: row[name] for name in names}) for row in found}
    return {account: kept.get(account, Spending()) for account in accounts}


async def ledger_rows(
    connection: AsyncConnection, which: Filter, *, limit: int, before: int | None = None
) -> list[Row]:
    """A page of the ledger, newest first; *before* a place in it."""
    statement = select(calls, contexts.c.name).outerjoin_from(calls, contexts, contexts.c.id == calls.c.context_id)
    if which.phase is not None:
        statement = statement.where(calls.c.phase == which.phase.value)
    if which.context_id is not None:
        statement = statement.where(calls.c.context_id == which.context_id)
    if which.work_id is not None:
        statement = statement.where(calls.c.work_id == which.work_id)
    if which.outcome is not None:
        statement = statement.where(calls.c.outcome == "ok" if which.outcome == "ok" else calls.c.outcome != "ok")
    if before is not None:
        statement = statement.where(calls.c.position < before)
    found = (await connection.execute(statement.order_by(calls.c.position.desc()).limit(limit))).mappings()
    return [Row(position=row["position"], call=rows.call_of(row), name=row["name"]) for row in found]


async def asked(
    connection: AsyncConnection,
    *,
    context_id: str | None = None,
    work_id: str | None = None,
    limit: int,
    before: int | None = None,
) -> list[Asked]:
    """A page of queries with their answers, newest first."""
    statement = select(answers, contexts.c.name).join_from(answers, contexts)
    if context_id is not None:
        statement = statement.where(answers.c.context_id == context_id)
    if work_id is not None:
        statement = statement.where(answers.c.work_id == work_id)
    if before is not None:
        statement = statement.where(answers.c.position < before)
    found = (await connection.execute(statement.order_by(answers.c.position.desc()).limit(limit))).mappings()
    return [
        Asked(
            position=row["position"],
            work_id=row["work_id"],
            context_id=row["context_id"],
            name=row["name"],
            at=row["at"],
            answer=rows.answer_of(row),
        )
        for row in found
    ]
