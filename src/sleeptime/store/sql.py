"""The store on SQLite or PostgreSQL: all the database ever does, on one page.

Every method is one transaction. A reader sees one moment of the database. Writers
of one context queue on its row (PostgreSQL) or on the whole file (SQLite), so that
versions are numbered without gaps and nothing is counted twice.

This file does not know what notes mean, nor when they are written.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, astuple, replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    Table,
    case,
    delete,
    event,
    false,
    func,
    insert,
    inspect,
    make_url,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.schema import CreateSchema

from sleeptime.core.caps import Caps, Reservation, Spending
from sleeptime.core.context import Context
from sleeptime.core.deciding import Portfolio
from sleeptime.core.errors import (
    ContextNotFoundError,
    DatabaseBusyError,
    DatabaseCorruptError,
    DatabaseFullError,
    LeaseLostError,
    NameTakenError,
    StoreError,
)
from sleeptime.core.forecasting import Prior, Seen
from sleeptime.core.job import Job, JobState, Lease
from sleeptime.core.keys import ApiKey
from sleeptime.core.ledger import Call, Totals
from sleeptime.core.notes import Draft, LearnedContext
from sleeptime.core.query import Answer
from sleeptime.core.saved import Compared
from sleeptime.core.shown import (
    Asked,
    Counts,
    Filter,
    Listed,
    News,
    Queued,
    Row,
    Sort,
    Spent,
    Taken,
    Told,
    UnderWay,
)
from sleeptime.core.triggers import Triggers, quiet_days
from sleeptime.core.watching import (
    UNDECIDED,
    Decided,
    Lesson,
    Looked,
    Standing,
    Taught,
    Watched,
    began_anew,
    begun,
    days,
    outcome_of,
    rewatched,
)
from sleeptime.store import keys, pages, rows, tables, work
from sleeptime.store.protocol import Relayed, Sleep, Summary
from sleeptime.store.tables import (
    answers,
    calls,
    contexts,
    decisions,
    drafts,
    jobs,
    learned_contexts,
    notes,
    portfolios,
    priors,
    schedules,
    sleeps,
    taught,
    watched,
)
from sleeptime.turns import step

_OF_A_CALL = (calls.c.at, calls.c.position)
BUSY_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 10.0
WAL_ATTEMPTS = 50
WAL_PAUSE_S = 0.1
MIGRATION_PAUSE_S = 0.01
SHORTEST_ID_PREFIX = 4
MOST_DECISIONS = 50
"""Decisions kept of one context; older ones make room."""
_MIGRATION_LOCK = 0x51EE_B71E  # any number will do, as long as all versions of sleeptime use the same
_LOOK_LOCK = 0x51EE_B71F
_SCHEDULE = "sleep"
_migration_here = threading.Lock()  # of threads, for each may have an event loop of its own
_SCHEMA = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
_URL_OPTIONS = {"host", "port", "ssl", "prepared_statement_cache_size"}


async def open_store(
    url_or_path: str | Path, *, schema: str | None = None, busy_timeout_s: float = BUSY_TIMEOUT_S
) -> SqlStore:
    """Open the database at a path, `sqlite:///…` or `postgresql://…`; make it, or bring it up to date, first.

    With *schema*, which only PostgreSQL has, all tables are in that schema, and no statement finds any other.

    Raises StoreError: for a file that is no database of sleeptime (DatabaseCorruptError), one made by a newer
    version, one that cannot be written, or a server that cannot be reached (DatabaseBusyError).
    """
    url = _url(url_or_path)
    if url.get_backend_name() == "sqlite":
        if schema is not None:
            raise StoreError("SQLite has no schemas: give each its own file.")
        await asyncio.to_thread(_make_folder, Path(str(url.database)))
    elif schema is not None and not _SCHEMA.fullmatch(schema):
        raise StoreError(f"{schema!r} cannot name a schema: small letters, digits, _ and -.")
    store = SqlStore(_engine(url, busy_timeout_s, schema), url, schema=schema)
    try:
        await store.migrate()
    except BaseException:  # also when cancelled: no connection may outlive the attempt
        await store.aclose()
        raise
    return store


class SqlStore:
    """`sleeptime.store.protocol.Store` on a database. Made by `open_store`."""

    def __init__(self, engine: AsyncEngine, url: URL, *, schema: str | None = None) -> None:
        self._engine = engine
        self._schema = schema
        self._is_sqlite = url.get_backend_name() == "sqlite"
        # SQLite lets one writer in; inside this process they queue here, where waiting is fair.
        self._writer = asyncio.Lock()
        self._is_closed = False
        self._under_way = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        port = f":{url.port}" if url.port else ""
        self._url = (
            f"sqlite:///{url.database}"
            if self._is_sqlite
            else f"postgresql://{url.host or url.query.get('host', '')}{port}/{url.database or ''}"
        )
        self._where = str(url.database) if self._is_sqlite else self._url

    @property
    def url(self) -> str:
        """Where the data is, without credentials."""
        return self._url

    async def aclose(self) -> None:
        """Close all connections, once what is under way is done. May be called twice."""
        self._is_closed = True
        await self._is_idle.wait()
        await self._engine.dispose()

    async def migrate(self) -> None:
        """Bring the schema up to date. Of several processes one does it, the others wait."""
        if self._schema is not None:
            await self._make_schema(self._schema)
        if await self.is_current():
            return
        if self._is_sqlite:
            await self._switch_to_wal()
        async with _migrating(), self._writing() as connection:
            if not self._is_sqlite:
                await connection.execute(text(f"SET LOCAL lock_timeout = '{BUSY_TIMEOUT_S:g}s'"))
                await connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            await connection.run_sync(self._upgrade)

    async def is_current(self) -> bool:
        """Whether the schema is the one this program knows. Raises StoreError where the database cannot be reached."""
        async with self._reading() as connection:
            return await connection.run_sync(self._revision) == tables.HEAD

    async def _make_schema(self, schema: str) -> None:
        """Make the schema if it is not there: whoever may only use it need not be allowed to make one."""
        async with self._writing() as connection:
            await connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            named = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
            if await connection.scalar(named, {"name": schema}) is None:
                await connection.execute(CreateSchema(schema))

    def _revision(self, connection: Connection) -> str | None:
        """Read which migration the database stands at; None for an empty one."""
        names = set(inspect(connection).get_table_names())
        if tables.VERSION_TABLE in names:
            return connection.scalar(text(f"SELECT version_num FROM {tables.VERSION_TABLE}"))  # noqa: S608  # a constant
        if self._is_sqlite and names:
            raise DatabaseCorruptError(self._where)
        return None

    def _upgrade(self, connection: Connection) -> None:
        revision = self._revision(connection)
        if revision == tables.HEAD:
            return
        from sleeptime.store import migrations  # noqa: PLC0415  # Alembic doubles the time to open; few openings need it

        if revision is not None and revision not in migrations.known():
            raise StoreError(
                f"{self._where} was written by a newer sleeptime (schema {revision}; this one knows {tables.HEAD}). "
                "Nothing was changed. Upgrade sleeptime, or use another database."
            )
        migrations.upgrade(connection)

    async def _switch_to_wal(self) -> None:
        """Let readers go on while another writes. The file remembers.

        SQLite does not wait for its busy timeout here, so this does.
        """
        async with self._told(), self._engine.connect() as connection:
            raw = await connection.get_raw_connection()
            if raw.driver_connection is None:
                raise StoreError(f"{self._where} lost its connection while it was opened. Try again.")
            for attempt in range(WAL_ATTEMPTS):
                try:
                    await raw.driver_connection.execute("PRAGMA journal_mode = WAL")
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or attempt == WAL_ATTEMPTS - 1:
                        raise
                    await asyncio.sleep(WAL_PAUSE_S)
                else:
                    return

    # Contexts

    async def add_context(self, context: Context, *, is_observed: bool = False) -> Context:
        """Keep *context*, to be slept on or only observed. The same name with the same text is the one already stored.

        Raises NameTakenError where the name stands for another text.
        """
        named = select(contexts).where(contexts.c.name == context.name)
        try:
            async with self._writing() as connection:
                found = (await connection.execute(named)).mappings().one_or_none()
                if found is None:
                    await connection.execute(insert(contexts), rows.context_row(context))
                    await connection.execute(insert(watched), rows.watched_row(begun(context, is_observed=is_observed)))
                    return context
        except _AlreadyStoredError as error:
            # Another process took the name between the look and the insert (PostgreSQL), or the id is not new.
            async with self._reading() as connection:
                found = (await connection.execute(named)).mappings().one_or_none()
            if found is None:
                raise StoreError(f"A context with id {context.id!r} is stored already. Use a new id.") from error
        stored = rows.context_of(found)
        if stored.text != context.text:
            raise NameTakenError(context.name)
        return stored

    async def edit_context(
        self, context_id: str, change: Callable[[Context], Context], at: datetime
    ) -> tuple[Context, Context]:
        """Give a context the text and source that *change* makes of it; say how it was before and is now.

        Of several at once each sees what the others made. Versions and unfinished sleeps stay as they are.
        Raises ContextNotFoundError, and whatever *change* raises; then nothing was changed.
        """
        of_context = contexts.c.id == context_id
        async with self._writing() as connection:
            await _hold(connection, context_id)
            before = rows.context_of((await connection.execute(select(contexts).where(of_context))).mappings().one())
            changed = change(before)
            after = replace(before, text=changed.text, source=changed.source)
            if after != before:
                await connection.execute(update(contexts).where(of_context).values(**rows.context_row(after)))
                of_newest = learned_contexts.c.context_id == context_id
                newest = select(learned_contexts.c.sections).where(of_newest)
                slept_on = await connection.scalar(newest.order_by(learned_contexts.c.version.desc()).limit(1))
                sections = None if slept_on is None else rows.sections_of(slept_on)
                watched_now = rewatched(await _watched(connection, context_id), after, sections, before, at=at)
                await _keep_watched(connection, watched_now)
        return before, after

    async def context(self, name: str) -> Context:
        """Find a context by name, by id, or by an unambiguous beginning of its id (4 characters or more).

        A name goes before an id, and a whole id before a beginning. Raises ContextNotFoundError.
        """
        found = select(contexts.c.id, contexts.c.name)
        begins = func.substr(contexts.c.id, 1, len(name), type_=contexts.c.id.type) == name
        async with self._reading() as connection:
            # Names and whole ids have an index. Beginnings are looked for in all rows, where nothing else is found.
            exact = (await connection.execute(found.where(or_(contexts.c.name == name, contexts.c.id == name)))).all()
            group = [r.id for r in exact if r.name == name] or [r.id for r in exact]
            if not group and len(name) >= SHORTEST_ID_PREFIX:
                group = [r.id for r in (await connection.execute(found.where(begins))).all()]
            if len(group) != 1:
                raise ContextNotFoundError(name)
            row = (await connection.execute(select(contexts).where(contexts.c.id == group[0]))).mappings().one()
        return rows.context_of(row)

    async def summaries(self) -> Sequence[Summary]:
        """All contexts, oldest first; `notes` and `slept_at` are those of the newest version."""
        newest = (
            select(func.max(learned_contexts.c.version))
            .where(learned_contexts.c.context_id == contexts.c.id)
            .correlate(contexts)
            .scalar_subquery()
        )
        is_edited = learned_contexts.c.context_fingerprint != contexts.c.fingerprint
        statement = (
            select(
                contexts.c.id,
                contexts.c.name,
                contexts.c.characters,
                contexts.c.created_at,
                func.coalesce(learned_contexts.c.version, 0).label("versions"),
                func.coalesce(learned_contexts.c.note_count, 0).label("notes"),
                learned_contexts.c.created_at.label("slept_at"),
                func.coalesce(is_edited, false()).label("is_edited"),
                watched.c.reason.label("decision"),
            )
            .join_from(contexts, watched, watched.c.context_id == contexts.c.id)
            .outerjoin(
                learned_contexts,
                (learned_contexts.c.context_id == contexts.c.id) & (learned_contexts.c.version == newest),
            )
            .order_by(contexts.c.created_at, contexts.c.name)
        )
        async with self._reading() as connection:
            return [Summary(**row) for row in (await connection.execute(statement)).mappings()]

    async def forget(self, context_id: str) -> None:
        """Delete a context with its versions, drafts and answers. Ledger rows stay: what was spent was spent.

        A context that is not there is forgotten already.
        """
        async with self._writing() as connection:
            await connection.execute(delete(contexts).where(contexts.c.id == context_id))

    # What was learned

    async def publish(
        self,
        learned: LearnedContext,
        *,
        sleep_id: str | None,
        job_id: str | None = None,
        beside: Callable[[LearnedContext | None, LearnedContext], LearnedContext] | None = None,
    ) -> LearnedContext:
        """Keep *learned* as the next version, end its sleep and its job, in one transaction. Versions never change.

        With None no sleep ends. A sleep ends in one version: published again, it gives back that one.
        *beside* makes of it what it should be beside the newest version at that moment.
        """
        of_context = learned_contexts.c.context_id == learned.context_id
        async with self._writing() as connection:
            await _hold(connection, learned.context_id)
            if sleep_id is not None:
                made = await connection.scalar(
                    select(learned_contexts.c.version).where(of_context, learned_contexts.c.sleep_id == sleep_id)
                )
                if made is not None:
                    if job_id is not None:
                        await work.end_job(connection, job_id, "done", version=made)
                    return (await _versions(connection, learned.context_id, version=made))[0]
                await connection.execute(delete(sleeps).where(sleeps.c.id == sleep_id))
            last = await connection.scalar(select(func.max(learned_contexts.c.version)).where(of_context))
            if beside is not None:
                newest = (await _versions(connection, learned.context_id, version=last))[0] if last else None
                learned = beside(newest, learned)
            published = replace(learned, version=(last or 0) + 1)
            await _insert_version(connection, published, sleep_id)
            row = (await connection.execute(select(contexts).where(contexts.c.id == learned.context_id))).mappings()
            before = await _watched(connection, learned.context_id)
            context = rows.context_of(row.one())
            await _keep_watched(connection, rewatched(before, context, published.sections, at=published.created_at))
            if job_id is not None:
                outcome = outcome_of(published)
                await work.end_job(connection, job_id, "done", version=published.version, outcome=outcome)
        return published

    async def amend(self, context_id: str, change: Callable[[LearnedContext], LearnedContext]) -> LearnedContext | None:
        """Publish what *change* makes of the newest version as the next one; None where there is none.

        Of several at once each sees what the others made. Raises whatever *change* raises; then nothing was changed.
        """
        async with self._writing() as connection:
            await _hold(connection, context_id)
            of_context = learned_contexts.c.context_id == context_id
            last = await connection.scalar(select(func.max(learned_contexts.c.version)).where(of_context))
            if last is None:
                return None
            changed = change((await _versions(connection, context_id, version=last))[0])
            published = replace(changed, version=last + 1)
            await _insert_version(connection, published, None)
        return published

    async def learned(self, context_id: str, version: int | None = None) -> LearnedContext | None:
        """A version of what was learned, the newest by default; None if there is none."""
        async with self._reading() as connection:
            if version is None:
                version = await connection.scalar(
                    select(func.max(learned_contexts.c.version)).where(learned_contexts.c.context_id == context_id)
                )
            if version is None:
                return None
            found = await _versions(connection, context_id, version=version)
        return found[0] if found else None

    async def versions(self, context_id: str) -> Sequence[LearnedContext]:
        """All versions, oldest first."""
        async with self._reading() as connection:
            return await _versions(connection, context_id)

    # Sleeps in progress

    async def begin_sleep(self, sleep: Sleep) -> Sleep:
        """Begin a sleep, or give back the unfinished one of the same context, text and plan."""
        key = rows.sleep_key(sleep.plan, sleep.context_fingerprint)
        async with self._writing() as connection:
            await _hold(connection, sleep.context_id)
            begun = await _sleeps(connection, sleep.context_id, sleeps.c.plan_fingerprint == key)
            if begun:
                return begun[0]
            await connection.execute(insert(sleeps), rows.sleep_row(sleep))
            for draft in sleep.drafts:
                await _keep_draft(connection, sleep.id, draft)
        return sleep

    async def unfinished(self, context_id: str, plan: str) -> Sequence[Sleep]:
        """All unfinished sleeps of a context under one plan, on whatever text."""
        async with self._reading() as connection:
            return await _sleeps(connection, context_id, sleeps.c.plan == plan)

    async def checkpoint(self, sleep_id: str, draft: Draft, call: Call | None = None) -> None:
        """Keep one sample's draft, and settle the call that it was made of, in one transaction.

        Raises LeaseLostError where the call was given up for lost, and StoreError where the sleep is over or the
        draft does not go on from the one kept: then another process sleeps on the same context. Neither is kept then.
        """
        async with self._writing() as connection:
            open_sleep = select(sleeps.c.id).where(sleeps.c.id == sleep_id).with_for_update()
            if await connection.scalar(open_sleep) is None:
                raise StoreError(
                    f"Sleep {sleep_id} is over: its context was forgotten or edited, or another process has finished "
                    "it. `sleeptime list` shows what is stored."
                )
            kept = await connection.scalar(
                select(drafts.c.draft).where(drafts.c.sleep_id == sleep_id, drafts.c.sample == draft.sample)
            )
            if not _goes_on_from(rows.draft_of(kept) if kept else Draft(), draft):
                raise StoreError(
                    f"Another process sleeps on this context (sleep {sleep_id}), and has kept what it learned. "
                    "Let it finish, or stop it, and run the command again: the sleep goes on where it was."
                )
            await _keep_draft(connection, sleep_id, draft)
            if call is not None and not await work.settle(connection, call):
                raise LeaseLostError(call.context_id or "")

    async def end_sleep(self, sleep_id: str, *, job_id: str | None = None, outcome: str = "") -> None:
        """Drop an unfinished sleep that learned nothing, and end its job with this *outcome*."""
        async with self._writing() as connection:
            await connection.execute(delete(sleeps).where(sleeps.c.id == sleep_id))
            if job_id is None:
                return
            context_id = await _hold_for(connection, job_id)
            if await work.end_job(connection, job_id, "done", outcome=outcome):
                await _earns_anew(connection, context_id)

    # Leases, calls under way, jobs

    async def take_lease(self, lease: Lease) -> bool:
        """Take the right to sleep on a context, if nobody has it; one that ran out is taken from its holder."""
        await self.reap()
        async with self._writing() as connection:
            return await work.take(connection, lease)

    async def lease_expiry(self, context_id: str) -> datetime | None:
        """When the lease of a context runs out unless its holder is heard of; None where nobody has it."""
        async with self._reading() as connection:
            return await work.expiry(connection, context_id)

    async def heartbeat(self, lease: Lease) -> bool:
        """Keep a lease; say whether its job is still wanted. Raises LeaseLostError where another has it."""
        async with self._writing() as connection:
            return await work.heartbeat(connection, lease)

    async def end_lease(self, lease: Lease) -> None:
        """Give a lease back. Calls under it that went out and were not settled become rows with the outcome "lost".

        What was set aside for a call that never went out is free again, as if it had not been asked for.
        """
        async with self._writing() as connection:
            await work.end_lease(connection, lease.id)

    async def reap(self) -> int:
        """End the leases that ran out, like `end_lease`, a transaction each; say how many."""
        async with self._reading() as connection:
            expired = await work.expired(connection)
        for lease_id in expired:
            async with self._writing() as connection:
                await work.end_lease(connection, lease_id, is_expired=True)
        return len(expired)

    async def reserve(self, asked: Reservation, caps: Caps) -> Reservation | None:
        """Set the most a call may take aside, as far as *caps* leave it; 0 output tokens where one is reached.

        None where calls under way hold what is left: ask again. Raises LeaseLostError.
        """
        async with self._writing() as connection:
            return await work.reserve(connection, asked, caps)

    async def mark_sent(self, call_id: str) -> bool:
        """Note that a call which was set aside goes out now; False where it must not: its lease was lost."""
        async with self._writing() as connection:
            return await work.mark_sent(connection, call_id)

    async def settle(self, call: Call) -> None:
        """Write a call that was set aside to the ledger. Raises LeaseLostError where it was given up for lost."""
        async with self._writing() as connection:
            is_settled = await work.settle(connection, call)
        if not is_settled:
            raise LeaseLostError(call.context_id or "")

    async def enqueue(self, job: Job) -> Job:
        """Queue a job, or give back the one like it that is not over."""
        async with self._writing() as connection:
            await _hold(connection, job.context_id)
            return await work.enqueue(connection, job)

    async def claim(self, lease_id: str, *, worker: str, seconds: float) -> tuple[Job, Lease] | None:
        """Take up the oldest job that is due and whose context nobody sleeps on, with the lease of its context."""
        await self.reap()
        async with self._reading() as connection:
            if not await work.has_due(connection):
                return None
        async with self._writing() as connection:
            return await work.claim(connection, lease_id, worker=worker, seconds=seconds)

    async def end_job(
        self,
        job_id: str,
        state: JobState,
        *,
        version: int | None = None,
        error: str | None = None,
        wait_s: float | None = None,
        outcome: str = "",
    ) -> None:
        """Say what became of a job, if it is running. With *wait_s* it met an error and waits so long.

        Where it was decided on, the decision is told the *outcome*; one that brought no version leaves its
        context to earn the next one from now on.
        """
        async with self._writing() as connection:
            context_id = await _hold_for(connection, job_id)
            is_ended = await work.end_job(
                connection, job_id, state, version=version, error=error, wait_s=wait_s, outcome=outcome
            )
            if is_ended and state != "queued" and version is None:
                await _earns_anew(connection, context_id)

    async def jobs(self) -> Sequence[Job]:
        """All jobs, oldest first."""
        async with self._reading() as connection:
            return await work.listed(connection)

    async def change_job(self, job_id: str, state: JobState, *, only: Sequence[JobState]) -> Job:
        """Pause, resume or cancel a job that is in one of the states *only*. Raises JobNotFoundError."""
        async with self._writing() as connection:
            context_id = await _hold_for(connection, job_id)
            changed = await work.change_job(connection, job_id, state, only=only)
            if changed.is_over:
                await _earns_anew(connection, context_id)
        return changed

    # The ledger

    async def record(self, call: Call) -> None:
        """Append one row to the ledger."""
        async with self._writing() as connection:
            await connection.execute(insert(calls), rows.call_row(call))

    async def calls(
        self,
        *,
        context_id: str | None = None,
        work_id: str | None = None,
        limit: int | None = None,
        before: str | None = None,
    ) -> Sequence[Call]:
        """Rows of the ledger, oldest first; with *limit* the newest that many, with *before* those older than it."""
        statement: Select[tuple[object, ...]] = select(calls).order_by(calls.c.at.desc(), calls.c.position.desc())
        if context_id is not None:
            statement = statement.where(calls.c.context_id == context_id)
        if work_id is not None:
            statement = statement.where(calls.c.work_id == work_id)
        if before is not None:
            at, position = (select(column).where(calls.c.id == before).scalar_subquery() for column in _OF_A_CALL)
            is_older = or_(calls.c.at < at, (calls.c.at == at) & (calls.c.position < position))
            statement = statement.where(is_older)
        if limit is not None:
            statement = statement.limit(limit)
        async with self._reading() as connection:
            found = (await connection.execute(statement)).mappings().all()
        return [rows.call_of(row) for row in reversed(found)]

    async def totals(self) -> Sequence[Totals]:
        """The ledger's sums by context, phase, `sees` and level, computed by the database.

        `works` counts the sleeps or answers (`work_id`) that were completed: whose latest call came back "ok".
        The cost is unknown when that of any call is.
        """
        latest = select(func.max(calls.c.position)).where(calls.c.work_id.is_not(None)).group_by(calls.c.work_id)
        is_completed = (calls.c.outcome == "ok") & calls.c.position.in_(latest)
        key = (calls.c.context_id, calls.c.phase, calls.c.sees, calls.c.level)
        statement = (
            select(
                *key,
                func.count(case((is_completed, 1))).label("works"),
                func.count().label("calls"),
                func.sum(calls.c.input_tokens).label("input_tokens"),
                func.sum(calls.c.cached_input_tokens).label("cached_input_tokens"),
                func.sum(calls.c.output_tokens).label("output_tokens"),
                func.sum(calls.c.reasoning_tokens).label("reasoning_tokens"),
                func.sum(calls.c.cost_usd).label("cost_usd"),
                func.count(case((calls.c.cost_usd.is_(None), 1))).label("unpriced"),
            )
            .group_by(*key)
            .order_by(func.min(calls.c.position))
        )
        async with self._reading() as connection:
            return [rows.totals_of(row) for row in (await connection.execute(statement)).mappings()]

    # Answers

    async def keep_answer(
        self,
        context_id: str,
        work_id: str,
        answer: Answer,
        at: datetime,
        *,
        teaches: Callable[[Watched], Lesson] | None = None,
    ) -> None:
        """Keep a query with its answer, and what it *teaches* of its context and of all together.

        Raises ContextNotFoundError where the context was forgotten meanwhile.
        """
        async with self._writing() as connection:
            await _hold(connection, context_id)
            row = {"context_id": context_id, "work_id": work_id, "at": at, **rows.answer_row(answer)}
            await connection.execute(insert(answers), row)
            if teaches is not None:
                lesson = teaches(await _watched(connection, context_id))
                await _keep_lesson(connection, lesson)
                await self._keep_shared(connection, [lesson])

    async def keep_relayed(self, relayed: Sequence[Relayed]) -> None:
        """Keep calls that others made through us, with their answers and what these teach.

        What belongs to a context that was forgotten meanwhile is a row of the ledger alone.
        """
        if not relayed:
            return
        lessons: list[Lesson] = []
        async with self._writing() as connection:
            await connection.execute(insert(calls), [rows.call_row(each.call) for each in relayed])
            wanted = sorted({each.call.context_id for each in relayed if each.answer and each.call.context_id})
            held = select(contexts.c.id).where(contexts.c.id.in_(wanted)).order_by(contexts.c.id).with_for_update()
            known = set((await connection.scalars(held)).all())
            for call, answer, teaches in ((each.call, each.answer, each.teaches) for each in relayed):
                if answer is None or call.context_id is None or call.context_id not in known:
                    continue
                row = {"context_id": call.context_id, "work_id": call.work_id, "at": call.at}
                await connection.execute(insert(answers), {**row, **rows.answer_row(answer)})
                if teaches is not None:
                    lesson = teaches(await _watched(connection, call.context_id))
                    await _keep_lesson(connection, lesson)
                    lessons.append(lesson)
            await self._keep_shared(connection, lessons)

    async def _keep_shared(self, connection: AsyncConnection, lessons: Sequence[Lesson]) -> None:
        """Keep what all contexts share: last, and in one order, so that writers wait for one another briefly."""
        groups = [pair for lesson in lessons for pair in lesson.groups.items()]
        for (outcome, level, band), tally in sorted(groups, key=lambda pair: pair[0]):
            key = {"outcome": outcome, "level": level, "band": band}
            await self._add(connection, taught, key, rows.tally_row(tally))
        units = [pair for lesson in lessons for pair in lesson.portfolios.items()]
        for unit, portfolio in sorted(units, key=lambda pair: pair[0]):
            await self._add_portfolio(connection, unit, portfolio)

    async def answers(self, context_id: str, *, limit: int = 20) -> Sequence[Answer]:
        """The newest answers of a context, newest first."""
        statement = (
            select(answers)
            .where(answers.c.context_id == context_id)
            .order_by(answers.c.at.desc(), answers.c.position.desc())
            .limit(limit)
        )
        async with self._reading() as connection:
            return [rows.answer_of(row) for row in (await connection.execute(statement)).mappings()]

    # Decisions

    async def watched(self, context_id: str) -> Watched:
        """What decisions need to know of one context. Raises ContextNotFoundError."""
        async with self._reading() as connection:
            return await _watched(connection, context_id)

    async def watch(self, context_id: str, change: Callable[[Watched], Watched]) -> Watched:
        """Keep what *change* makes of what is watched of a context. Of several at once each sees the others' changes.

        Raises ContextNotFoundError.
        """
        async with self._writing() as connection:
            await _hold(connection, context_id)
            changed = change(await _watched(connection, context_id))
            await _keep_watched(connection, changed)
        return changed

    async def wanted(self, limit: int) -> Sequence[Watched]:
        """Up to *limit* contexts not decided on since they changed, then as many that want to be slept on most.

        Those with a sleep that is queued or being done are left out.
        """
        wants = watched.c.wants
        found = _WATCHED.where(~work.is_in_hand(watched.c.context_id)).order_by(wants.desc()).limit(limit)
        async with self._reading() as connection:
            groups = [
                (await connection.execute(found.where(group))).mappings().all()
                for group in (wants == UNDECIDED, wants < UNDECIDED)
            ]
        return [rows.watched_of(row) for group in groups for row in group]

    async def due(self, triggers: Triggers, now_days: float, limit: int) -> Sequence[Watched]:
        """The same among contexts that a trigger wants looked at now, and behind them those that want no sleep.

        Those that are only observed are never due.
        """
        is_wanted = [watched.c.waits_by == "schedule"]
        if triggers.on_change:
            is_wanted.append(watched.c.waits_by == "change")
        if triggers.every_queries:
            is_wanted.append(watched.c.waits_queries >= triggers.every_queries)
        if triggers.idle_s:
            is_wanted.append(watched.c.waits_days <= quiet_days(triggers, now_days))
        is_waiting = watched.c.waits_days.is_not(None) & (watched.c.is_observed == 0)
        is_due = is_waiting & or_(*is_wanted) & ~work.is_in_hand(watched.c.context_id)
        order = (func.coalesce(watched.c.wants, -1.0).desc(), watched.c.waits_days)
        async with self._reading() as connection:
            found = (await connection.execute(_WATCHED.where(is_due).order_by(*order).limit(limit))).mappings().all()
        return [rows.watched_of(row) for row in found]

    async def settle_look(
        self,
        found: Sequence[Watched],
        accounts: Sequence[str],
        choose: Callable[[Sequence[Watched], Standing], Sequence[Looked]],
    ) -> Sequence[Looked]:
        """Keep what *choose* makes of the contexts that are still as they were found, and queue its jobs.

        One look is settled at a time, whatever processes there are, and *choose* is told what is spent and promised
        at that moment; so two never promise the same room. Contexts with a sleep in hand are left out.
        """
        ids = sorted(each.context_id for each in found)
        free = _WATCHED.where(watched.c.context_id.in_(ids), ~work.is_in_hand(watched.c.context_id))
        async with self._writing() as connection:
            if not self._is_sqlite:  # a writer of SQLite is alone already
                await connection.execute(select(func.pg_advisory_xact_lock(_LOOK_LOCK)))
            await _hold_all(connection, ids)
            now = {row["context_id"]: rows.watched_of(row) for row in (await connection.execute(free)).mappings()}
            same = [each for each in found if each.context_id in now and _is_same(each, now[each.context_id])]
            standing = Standing(taught=await _spending(connection), spent=await work.spent(connection, accounts))
            settled = choose(same, standing)
            for looked in settled:
                await _keep_look(connection, looked)
        return settled

    async def sweep(self, at: datetime) -> bool:
        """Let all that lacks notes wait since the scheduled time *at*; False where that was done, or is the first."""
        of_schedule = select(schedules.c.at).where(schedules.c.name == _SCHEDULE).with_for_update()
        first = self._insert(schedules).values(name=_SCHEDULE, at=at).on_conflict_do_nothing()
        waits = {"waits_by": "schedule", "waits_days": func.coalesce(watched.c.waits_days, days(at))}
        async with self._writing() as connection:
            if (await connection.execute(first)).rowcount:
                return False
            before = await connection.scalar(of_schedule)
            if before is None or before >= at:
                return False
            await connection.execute(update(schedules).where(schedules.c.name == _SCHEDULE).values(at=at))
            await connection.execute(update(watched).where(watched.c.parts != "[]").values(**waits))
        return True

    async def peers(self, kind: str, limit: int) -> Sequence[Seen]:
        """When contexts of one kind were asked, of up to *limit* of them, always the same ones: ids are random."""
        columns = (watched.c.added_days, watched.c.queries, watched.c.talks, watched.c.last_days)
        statement = select(*columns).where(watched.c.kind == kind).order_by(watched.c.context_id).limit(limit)
        async with self._reading() as connection:
            return [rows.seen_of(row) for row in (await connection.execute(statement)).mappings()]

    async def taught(self, level: str | None = None) -> Taught:
        """What all contexts taught together, with the groups of one level, or of all levels."""
        statement = select(taught)
        if level is not None:
            statement = statement.where(taught.c.level.in_(["", level]))
        async with self._reading() as connection:
            groups = (await connection.execute(statement)).mappings().all()
            known = await _spending(connection)
            kinds = (await connection.execute(select(priors))).mappings().all()
        return replace(
            known,
            groups={(row["outcome"], row["level"], row["band"]): rows.tally_of(row) for row in groups},
            priors={
                row["kind"]: (
                    row["fitted_days"],
                    Prior(shape=row["shape"], days=row["days"], lasting=row["lasting"], goes_on=row["goes_on"]),
                )
                for row in kinds
            },
        )

    async def keep_prior(self, kind: str, prior: Prior, fitted_days: float) -> None:
        """Keep the prior of a kind in place of the one before."""
        values = {"fitted_days": fitted_days, **asdict(prior)}
        statement = self._insert(priors).values(kind=kind, **values)
        async with self._writing() as connection:
            await connection.execute(statement.on_conflict_do_update(index_elements=["kind"], set_=values))

    async def keep_decisions(self, settled: Sequence[tuple[Watched, Decided | None]]) -> None:
        """Keep reason and `wants` of contexts, and decisions that are new; old ones of the same context make room.

        What else is watched of a context is left alone, and so is one that was forgotten or changed meanwhile.
        """
        async with self._writing() as connection:
            await _hold_all(connection, sorted(each.context_id for each, _ in settled))
            kept: list[Decided] = []
            for each, decided in sorted(settled, key=lambda pair: pair[0].context_id):
                row = rows.watched_row(each)
                as_seen = [watched.c[name] == row[name] for name in ("context_id", "queries", "parts")]
                changed = update(watched).where(*as_seen).values(reason=each.reason, wants=each.wants)
                if (await connection.execute(changed)).rowcount and decided:
                    kept.append(decided)
            await _keep_decisions(connection, kept)

    async def decisions(self, context_id: str, *, limit: int = 20) -> Sequence[Decided]:
        """The last decisions on a context, newest first."""
        of_context = select(decisions).where(decisions.c.context_id == context_id)
        statement = of_context.order_by(decisions.c.position.desc()).limit(limit)
        async with self._reading() as connection:
            return [rows.decided_of(row) for row in (await connection.execute(statement)).mappings()]

    # Pages

    async def listed(
        self, *, words: str = "", sort: Sort = "value", offset: int = 0, limit: int = 50
    ) -> tuple[Sequence[Listed], int]:
        """One page of the contexts whose names hold *words*, and how many there are in all."""
        async with self._reading() as connection:
            return await pages.listed(connection, words=words, sort=sort, offset=offset, limit=limit)

    async def line(self, context_id: str) -> Listed | None:
        """The line of one context; None where it is not there."""
        async with self._reading() as connection:
            return await pages.one(connection, context_id)

    async def counts(self) -> Counts:
        """How many contexts there are, how many were slept on, and jobs that are not over."""
        async with self._reading() as connection:
            return await pages.counts(connection)

    async def told(self, limit: int) -> Sequence[Told]:
        """The last decisions on any context, newest first."""
        async with self._reading() as connection:
            return await pages.told(connection, limit)

    async def under_way(self) -> Sequence[UnderWay]:
        """The sleeps under way, with what they have kept so far."""
        async with self._reading() as connection:
            return await pages.under_way(connection)

    async def queued(self, *, are_over: bool, limit: int, before: int | None = None) -> Sequence[Queued]:
        """Jobs that are not over, oldest first, or those that are, newest first; *before* a place in the queue."""
        async with self._reading() as connection:
            return await pages.queued(connection, are_over=are_over, limit=limit, before=before)

    async def spent(self, *, by_day: bool, since: datetime | None = None) -> Sequence[Spent]:
        """What was spent in each hour or day, by phase, oldest first."""
        async with self._reading() as connection:
            return await pages.spent(connection, by_day=by_day, since=since)

    async def first_hour(self) -> datetime | None:
        """The hour of the first row of the ledger; None where it is empty."""
        async with self._reading() as connection:
            return await pages.first_hour(connection)

    async def compared(self) -> Mapping[str, Compared]:
        """Sums over all contexts of what answers took with notes and without: "tokens", "usd" and "seconds"."""
        async with self._reading() as connection:
            return await pages.all_compared(connection)

    async def taken(self, context_id: str) -> Mapping[bool, Taken]:
        """What the answers of one context took, by whether they had notes."""
        async with self._reading() as connection:
            return await pages.taken(connection, context_id)

    async def spending(self, accounts: Sequence[str]) -> Mapping[str, Spending]:
        """What was spent and is set aside on accounts under the caps; those not spent on are left out."""
        async with self._reading() as connection:
            return await work.spent(connection, accounts)

    async def rows(self, which: Filter, *, limit: int, before: int | None = None) -> Sequence[Row]:
        """A page of the ledger, newest first; *before* a place in it."""
        async with self._reading() as connection:
            return await pages.ledger_rows(connection, which, limit=limit, before=before)

    async def asked(
        self, *, context_id: str | None = None, work_id: str | None = None, limit: int = 50, before: int | None = None
    ) -> Sequence[Asked]:
        """A page of queries with their answers, newest first."""
        async with self._reading() as connection:
            return await pages.asked(connection, context_id=context_id, work_id=work_id, limit=limit, before=before)

    async def news(self, limit: int) -> Sequence[News]:
        """The versions that sleeps published last, newest first."""
        async with self._reading() as connection:
            found = await pages.newest_versions(connection, limit)
            return [
                News(name=name, learned=(await _versions(connection, context_id, version=version))[0])
                for context_id, name, version in found
            ]

    def _insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that may say what happens on a conflict."""
        return sqlite.insert(table) if self._is_sqlite else postgresql.insert(table)

    async def _add(
        self, connection: AsyncConnection, table: Table, key: dict[str, str], amounts: dict[str, float]
    ) -> None:
        """Add *amounts* to the row of *key*, which begins at nothing."""
        added = {name: table.c[name] + amount for name, amount in amounts.items()}
        statement = self._insert(table).values(**key, **amounts)
        await connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=added))

    async def _add_portfolio(self, connection: AsyncConnection, unit: str, portfolio: Portfolio) -> None:
        await self._add(connection, portfolios, {"unit": unit}, asdict(portfolio))

    # Keys

    async def add_key(self, key: ApiKey) -> None:
        """Keep a new API key."""
        async with self._writing() as connection:
            await keys.add(connection, key)

    async def keys(self, *, digest: str | None = None) -> Sequence[ApiKey]:
        """All API keys, oldest first, the revoked ones too; or the one with this hash."""
        async with self._reading() as connection:
            return await keys.listed(connection, digest=digest)

    async def revoke_key(self, key_id: str, at: datetime) -> ApiKey:
        """Let an API key open nothing any more. Raises KeyNotFoundError."""
        async with self._writing() as connection:
            return await keys.revoke(connection, key_id, at)

    # Transactions

    @asynccontextmanager
    async def _reading(self) -> AsyncGenerator[AsyncConnection]:
        """One transaction that sees one moment of the database."""
        options = {} if self._is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        async with self._told(), self._engine.connect() as connection:
            await connection.execution_options(**options)
            yield connection

    @asynccontextmanager
    async def _writing(self) -> AsyncGenerator[AsyncConnection]:
        """One transaction, committed at the end, or as if it had never been."""
        async with self._told(), self._writer, self._engine.connect() as connection:
            await connection.execution_options(writes=True)
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def _told(self) -> AsyncGenerator[None]:
        """Tell a failure of the database as a StoreError."""
        if self._is_closed:
            raise StoreError(f"{self._where} was closed by this program. Open it again.")
        self._under_way += 1
        self._is_idle.clear()
        try:
            async with step():
                yield
        except (DBAPIError, sqlite3.Error, PoolTimeoutError, OSError) as error:
            raise _explained(error, self._where) from error
        finally:
            self._under_way -= 1
            if self._under_way == 0:
                self._is_idle.set()


@asynccontextmanager
async def _migrating() -> AsyncGenerator[None]:
    """Let one migration run in this process: Alembic keeps the one it runs in globals of its modules."""
    while not _migration_here.acquire(blocking=False):  # noqa: ASYNC110  # an Event belongs to one loop, this lock to all
        await asyncio.sleep(MIGRATION_PAUSE_S)
    try:
        yield
    finally:
        _migration_here.release()


async def _hold(connection: AsyncConnection, context_id: str) -> None:
    """Queue behind other writers of this context. Raises ContextNotFoundError."""
    row = select(contexts.c.id).where(contexts.c.id == context_id).with_for_update()
    if await connection.scalar(row) is None:
        raise ContextNotFoundError(context_id)


async def _hold_all(connection: AsyncConnection, ids: Sequence[str]) -> None:
    """Queue behind other writers of these contexts, in the order of their *ids*; those that are gone are left out."""
    await connection.execute(select(contexts.c.id).where(contexts.c.id.in_(ids)).order_by("id").with_for_update())


def _is_same(found: Watched, now: Watched) -> bool:
    """Whether what was decided on *found* still stands: nothing was asked, changed or looked at since."""
    return (found.seen, found.parts, found.waiting) == (now.seen, now.parts, now.waiting)


async def _keep_look(connection: AsyncConnection, looked: Looked) -> None:
    """Keep what a look left of one context."""
    kept = looked.watched
    values = {"reason": kept.reason, "wants": kept.wants, **rows.waiting_row(kept.waiting)}
    await connection.execute(update(watched).where(watched.c.context_id == kept.context_id).values(**values))
    if looked.job is not None:
        await connection.execute(insert(jobs), rows.job_row(looked.job))
    if looked.decided is not None:
        await _keep_decisions(connection, [looked.decided])


async def _hold_for(connection: AsyncConnection, job_id: str) -> str | None:
    """Queue behind other writers of a job's context, before its row is locked; say which, where it was decided on."""
    row = (await connection.execute(select(jobs.c.context_id, jobs.c.trigger).where(jobs.c.id == job_id))).one_or_none()
    if row is None:
        return None
    await _hold(connection, row.context_id)
    return row.context_id if row.trigger else None


async def _earns_anew(connection: AsyncConnection, context_id: str | None) -> None:
    """After a decided sleep that brought no version, let its context earn the next one from now on."""
    if context_id is not None:
        await _keep_watched(connection, began_anew(await _watched(connection, context_id)))


async def _spending(connection: AsyncConnection) -> Taught:
    """Read the portfolios, and what is promised to decided sleeps that are not over."""
    units = (await connection.execute(select(portfolios))).mappings().all()
    return Taught(
        portfolios={
            row["unit"]: Portfolio(slept=row["slept"], saved=row["saved"], without_sleep=row["without_sleep"])
            for row in units
        },
        queued=await work.queued(connection),
    )


_WATCHED = select(watched, contexts.c.name, contexts.c.characters).join_from(watched, contexts)


async def _watched(connection: AsyncConnection, context_id: str) -> Watched:
    row = (await connection.execute(_WATCHED.where(watched.c.context_id == context_id))).mappings().one_or_none()
    if row is None:
        raise ContextNotFoundError(context_id)
    return rows.watched_of(row)


async def _keep_watched(connection: AsyncConnection, changed: Watched) -> None:
    row = rows.watched_row(changed)
    await connection.execute(update(watched).where(watched.c.context_id == changed.context_id).values(**row))


async def _keep_lesson(connection: AsyncConnection, lesson: Lesson) -> None:
    """Keep what an answer taught of its own context."""
    await _keep_watched(connection, lesson.watched)
    if lesson.decided:
        await _keep_decisions(connection, [lesson.decided])


async def _keep_decisions(connection: AsyncConnection, kept: Sequence[Decided]) -> None:
    """Append decisions, and delete what is more than `MOST_DECISIONS` of a context."""
    for decided in kept:
        await connection.execute(insert(decisions), rows.decided_row(decided))
        of_context = select(decisions.c.position).where(decisions.c.context_id == decided.context_id)
        old = of_context.order_by(decisions.c.position.desc()).offset(MOST_DECISIONS)
        last = await connection.scalar(old.limit(1))
        if last is not None:
            gone = (decisions.c.context_id == decided.context_id) & (decisions.c.position <= last)
            await connection.execute(delete(decisions).where(gone))


async def _versions(
    connection: AsyncConnection, context_id: str, *, version: int | None = None
) -> list[LearnedContext]:
    """Read all versions of a context, or one of them, oldest first."""

    async def read(table: Table, *order: str) -> Sequence[RowMapping]:
        statement = select(table).where(table.c.context_id == context_id).order_by(*order)
        if version is not None:
            statement = statement.where(table.c.version == version)
        return (await connection.execute(statement)).mappings().all()

    learned = await read(learned_contexts, "version")
    written: dict[int, list[rows.Row]] = {row["version"]: [] for row in learned}
    for note in await read(notes, "version", "position"):
        written[note["version"]].append(note)
    return [rows.learned_of(row, written[row["version"]]) for row in learned]


async def _insert_version(connection: AsyncConnection, published: LearnedContext, sleep_id: str | None) -> None:
    await connection.execute(insert(learned_contexts), {**rows.learned_row(published), "sleep_id": sleep_id})
    if published.notes:
        await connection.execute(insert(notes), rows.note_rows(published))


async def _sleeps(connection: AsyncConnection, context_id: str, which: ColumnElement[bool]) -> list[Sleep]:
    """Read unfinished sleeps of a context with their drafts, in the order of their ids."""
    found = select(sleeps).where(sleeps.c.context_id == context_id, which).order_by(sleeps.c.id)
    read: list[Sleep] = []
    for row in (await connection.execute(found)).mappings().all():
        kept = select(drafts.c.draft).where(drafts.c.sleep_id == row["id"]).order_by(drafts.c.sample)
        read.append(rows.sleep_of(row, (await connection.scalars(kept)).all()))
    return read


async def _keep_draft(connection: AsyncConnection, sleep_id: str, draft: Draft) -> None:
    """Put *draft* in the place of the sample's earlier one."""
    written = rows.draft_json(draft)
    earlier = update(drafts).where(drafts.c.sleep_id == sleep_id, drafts.c.sample == draft.sample)
    if (await connection.execute(earlier.values(draft=written))).rowcount == 0:
        await connection.execute(insert(drafts), {"sleep_id": sleep_id, "sample": draft.sample, "draft": written})


def _goes_on_from(kept: Draft, draft: Draft) -> bool:
    """Whether *draft* may be one or two calls of the same round later than *kept*, or *kept* once more.

    Within a round only its last call changes the notes, and it ends the round.
    """
    spent = zip(astuple(kept.usage), astuple(draft.usage), strict=True)
    is_later = draft.rounds == kept.rounds + 1 or (draft.rounds == kept.rounds and draft.notes == kept.notes)
    return is_later and all(before <= after for before, after in spent)


class _AlreadyStoredError(StoreError):
    """A row with this key is in the database already."""


def _explained(error: Exception, where: str) -> StoreError:
    """Say what *error* of a driver means for the user."""
    orig = getattr(error, "orig", None) or error
    why = " ".join(str(orig).split())
    if isinstance(error, IntegrityError):
        return _AlreadyStoredError(f"{where} holds such a row already: {why}. Nothing was changed.")
    if isinstance(error, PoolTimeoutError):
        return DatabaseBusyError(where, "all connections of this process are in use")
    if isinstance(orig, sqlite3.Error):
        return _explained_by_sqlite(orig, where)
    sqlstate = str(getattr(orig, "sqlstate", None) or "")
    if sqlstate == "53100":  # disk_full
        return DatabaseFullError(where)
    if sqlstate.startswith("XX00"):  # data or index corrupted
        return DatabaseCorruptError(where)
    if sqlstate.startswith(("28", "3D", "42501")):  # login refused, no such database, not allowed
        return StoreError(f"{where} refused: {why}. Check the user, password and database of its URL.")
    if isinstance(orig, OSError) or sqlstate.startswith(("08", "53", "55P03", "57P", "40")) or _is_disconnect(error):
        return DatabaseBusyError(where, why or type(orig).__name__)
    return StoreError(f"{where} failed: {why}")


def _explained_by_sqlite(error: sqlite3.Error, where: str) -> StoreError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the kind, without its variety
    if code == sqlite3.SQLITE_FULL:
        return DatabaseFullError(where)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DatabaseCorruptError(where)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DatabaseBusyError(where, "another process is writing to it")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StoreError(f"{where} cannot be used: {error}. Check the permissions of the file and of its folder.")
    if code == sqlite3.SQLITE_IOERR:
        return StoreError(f"{where} cannot be read or written: {error}. Check the disk.")
    return StoreError(f"{where} failed: {error}")


def _is_disconnect(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _make_folder(database: Path) -> None:
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{database.parent} cannot be made for the database: {error.strerror}. Choose another place."
        ) from error


def _url(url_or_path: str | Path) -> URL:
    """Read a path, `sqlite:///…` or `postgresql://…`. Raises StoreError, which never shows a password."""
    if isinstance(url_or_path, Path) or "://" not in url_or_path:
        return URL.create("sqlite+aiosqlite", database=str(Path(url_or_path).expanduser().absolute()))
    scheme = url_or_path.partition("://")[0].partition("+")[0]
    try:
        url = make_url(url_or_path)
    except (ArgumentError, ValueError):
        raise StoreError(f"The {scheme} URL cannot be read. Write postgresql://USER:PASSWORD@HOST:PORT/NAME.") from None
    if scheme == "sqlite":
        if not url.database or url.database == ":memory:":
            raise StoreError("A database needs a file: write sqlite:///path, or the path alone.")
        return URL.create("sqlite+aiosqlite", database=str(Path(url.database).absolute()))
    if scheme not in ("postgresql", "postgres"):
        raise StoreError(f"{scheme}:// is no database sleeptime knows. Give a path, sqlite:///… or postgresql://….")
    if "@" in (url.host or ""):
        raise StoreError("The password in the PostgreSQL URL holds an @: write it as %40.")
    query = {"ssl" if key == "sslmode" else key: value for key, value in url.query.items()}
    if unknown := sorted(set(query) - _URL_OPTIONS):
        raise StoreError(
            f"The PostgreSQL URL has unknown options: {', '.join(unknown)}. "
            "Known are host, port, sslmode and prepared_statement_cache_size."
        )
    return url.set(drivername="postgresql+asyncpg", query=query)


def _engine(url: URL, busy_timeout_s: float, schema: str | None = None) -> AsyncEngine:
    """Make the pool of connections. Statements are logged without the texts they carry."""
    if url.get_backend_name() == "postgresql":
        path = {} if schema is None else {"server_settings": {"search_path": f'"{schema}"'}}
        try:
            return create_async_engine(
                url, hide_parameters=True, pool_pre_ping=True, connect_args={"timeout": CONNECT_TIMEOUT_S, **path}
            )
        except ModuleNotFoundError as error:
            raise StoreError("PostgreSQL needs a driver: pip install 'sleeptime[postgres]'.") from error
    # isolation_level None: transactions begin where `_begin` says, not where the driver guesses.
    engine = create_async_engine(
        url, hide_parameters=True, connect_args={"timeout": busy_timeout_s, "isolation_level": None}
    )
    event.listen(engine.sync_engine, "connect", _set_up)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _set_up(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten
    cursor.close()


def _begin(connection: Connection) -> None:
    # A writer takes its turn at once: a reader that turns writer half-way could be refused.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
