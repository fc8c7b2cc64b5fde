"""What pages ask of the database, inside a transaction each: one page of rows, or sums that the database kept.

Nothing here reads all rows of a table that grows with use: rows come a page at a time by an index, and sums over
the ledger from `hours` and `compared`, which triggers keep. Names are joined from the left, also where a foreign key
says that there is one: of an inner join a database may begin with all contexts.

This file does not know how anything is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, and_, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

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
        .outerjoin_from(learned_contexts, contexts)
        .where(learned_contexts.c.by_hand.is_(None), learned_contexts.c.rolled_back_from.is_(None))
        .order_by(learned_contexts.c.created_at.desc())
        .limit(limit)
    )
    return [(row.id, row.name, row.version) for row in (await connection.execute(statement)).all()]


async def told(connection: AsyncConnection, limit: int) -> list[Told]:
    """The last decisions on any context, newest first."""
    statement = (
        select(decisions, contexts.c.name)
        .outerjoin_from(decisions, contexts)
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
        .outerjoin(contexts, contexts.c.id == leases.c.context_id)
        .outerjoin(jobs, jobs.c.id == leases.c.job_id)
        .where(leases.c.expires_at > now)
    )
    held = (await connection.execute(statement)).mappings().all()
    found = sorted((row for row in held if row["name"] is not None), key=lambda row: row["name"])
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
    statement = select(jobs, contexts.c.name).outerjoin_from(jobs, contexts).where(~is_live if are_over else is_live)
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
    plain, noted = compared.alias("plain"), compared.alias("noted")
    with_plain = noted.outerjoin(plain, and_(plain.c.context_id == noted.c.context_id, plain.c.has_notes == 0))
    of_plain = [each for name in AMOUNTS for each in _sums(plain, name)]
    of_notes = [each for name in AMOUNTS for each in (*_sums(noted, name), *_own(noted, plain, name))]
    read_plain = select(*of_plain).where(plain.c.has_notes == 0, plain.c.answers > 0)
    read_notes = select(*of_notes).select_from(with_plain).where(noted.c.has_notes == 1, noted.c.answers > 0)
    without = (await connection.execute(read_plain)).mappings().one()
    with_ = (await connection.execute(read_notes)).mappings().one()
    return {name: _compared(without, with_, name) for name in AMOUNTS}


def _count(table: FromClause, name: str) -> ColumnElement[int]:
    """Answers that have this amount, NULL for none: what is divided by it is left out of sums."""
    return func.nullif(table.c.priced if name == "usd" else table.c.answers, 0)


def _sums(table: FromClause, name: str) -> Sequence[ColumnElement[Any]]:  # Any: counts and amounts
    count, total = _count(table, name), table.c[name]
    return [
        func.sum(count).label(f"{name}_answers"),
        func.count(count).label(f"{name}_contexts"),
        func.sum(total).label(f"{name}_total"),
        func.sum(table.c[f"{name}_squares"]).label(f"{name}_squares"),
        func.sum(total * total / count).label(f"{name}_between"),
    ]


def _own(noted: FromClause, plain: FromClause, name: str) -> Sequence[ColumnElement[Any]]:  # Any: as above
    """Sums over the contexts that have answers of both sorts: elsewhere the terms are NULL."""
    n, m = _count(noted, name), _count(plain, name)
    return [
        func.sum(n + 0 * m).label(f"{name}_own"),
        func.sum(n * plain.c[name] / m).label(f"{name}_baseline"),
        func.sum(1.0 * n * n / m).label(f"{name}_weight"),
    ]


def _compared(without: rows.Row, with_: rows.Row, name: str) -> Compared:
    def of(row: rows.Row, sum_: str) -> float:
        return float(row[f"{name}_{sum_}"] or 0)

    return Compared(
        notes=int(of(with_, "answers")),
        notes_total=of(with_, "total"),
        notes_scatter=of(with_, "squares") - of(with_, "between"),
        notes_contexts=int(of(with_, "contexts")),
        plain=int(of(without, "answers")),
        plain_total=of(without, "total"),
        plain_squares=of(without, "squares"),
        plain_scatter=of(without, "squares") - of(without, "between"),
        plain_contexts=int(of(without, "contexts")),
        own=int(of(with_, "own")),
        own_baseline=of(with_, "baseline"),
        own_weight=of(with_, "weight"),
    )


async def taken(connection: AsyncConnection, context_id: str) -> dict[bool, Taken]:
    """What the answers of one context took, by whether they had notes."""
    names = ("answers", "priced", "tokens", "tokens_squares", "seconds", "usd")
    statement = select(compared).where(compared.c.context_id == context_id)
    return {
        bool(row["has_notes"]): Taken(**{name: row[name] for name in names})
        for row in (await connection.execute(statement)).mappings()
    }


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
    statement = select(answers, contexts.c.name).outerjoin_from(answers, contexts)
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
