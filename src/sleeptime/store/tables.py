"""The tables, and the two types of their columns that databases do not share.

    contexts ─┬─ learned_contexts ── notes      versions: inserted once, then never changed
              ├─ sleeps ── drafts               unfinished work, a draft for each sample
              ├─ jobs                           sleeps for workers to do
              ├─ answers
              ├─ watched                        what decisions need to know of it, kept up with every answer
              └─ decisions                      the last ones, with their numbers
    calls                                       the ledger: appended to, outlives its contexts
    leases, reservations, spending              who sleeps on what; calls under way; sums under the caps
    taught · portfolios · priors                what all contexts taught together; a trigger adds up what sleeps cost
    schedules                                   the last time of a schedule for which contexts were looked at
    hours · compared                            the ledger by hour; what answers took by context: by triggers
    api_keys                                    who may ask a server, as hashes

`HEAD` names the migration after which a database looks like this. Rows of versions
and of the ledger are guarded by triggers, which only the migrations know.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

HEAD = "0009"
VERSION_TABLE = "sleeptime_schema"

_ESCAPE = "\ufdd0"  # a code point that Unicode sets aside for use inside a program
_UNSTORABLE = re.compile(f"[\x00\ud800-\udfff{_ESCAPE}]")
_ESCAPED = re.compile(f"{_ESCAPE}([0-9a-f]{{4}})")


def escaped(text: str) -> str:
    """Write *text* without the code points PostgreSQL or UTF-8 refuse: NUL and lone surrogates."""
    return _UNSTORABLE.sub(lambda found: f"{_ESCAPE}{ord(found[0]):04x}", text)


def unescaped(text: str) -> str:
    """Undo `escaped`."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


class AnyText(TypeDecorator[str]):
    """Text that gives back every Python string as it was, on every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002  # SQLAlchemy's signature
        return None if value is None else escaped(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002  # SQLAlchemy's signature
        return None if value is None else unescaped(value)


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC. A naive time is refused: it could mean any moment."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  # SQLAlchemy's signature
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time needs its zone: {value}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  # SQLAlchemy's signature
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite numbers rows by itself only where the key is declared as INTEGER.
_Position = BigInteger().with_variant(Integer(), "sqlite")


def _usage() -> list[Column[int]]:
    """Make the four columns of a `Usage`; totals are inclusive."""
    names = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")
    return [Column(name, BigInteger, nullable=False) for name in names]


def _tally(of: str) -> list[Column[float]]:
    """Make the three columns of a `Tally`."""
    return [Column(f"{of}{name}", Double, nullable=False) for name in ("answers", "total", "squares")]


metadata = MetaData()

contexts = Table(
    "contexts",
    metadata,
    Column("id", AnyText, primary_key=True),
    Column("name", AnyText, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("characters", BigInteger, nullable=False),
    Column("source", AnyText, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("text", AnyText, nullable=False),
    UniqueConstraint("name", name="contexts_have_one_name"),
    Index("contexts_by_age", "created_at", "name"),
)

learned_contexts = Table(
    "learned_contexts",
    metadata,
    Column("context_id", AnyText, ForeignKey("contexts.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("sleep_id", AnyText),  # the sleep that ended in this version, if one did
    Column("context_fingerprint", Text, nullable=False),
    Column("strategy", AnyText, nullable=False),
    Column("model", AnyText, nullable=False),
    Column("prompt_fingerprint", Text, nullable=False),
    *_usage(),
    Column("cost_usd", Double),
    Column("stop_reasons", Text, nullable=False),
    Column("rounds", Integer, nullable=False),
    Column("failed_rounds", Integer, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("note_count", Integer, nullable=False),  # no more can be added
    Column("created_at", UtcTime, nullable=False),
    Column("sections", Text, nullable=False, server_default="[]"),  # fingerprints, of the text it was learned from
    Column("plan", AnyText),
    Column("based_on", Integer),
    Column("rolled_back_from", Integer),
    Column("by_hand", AnyText),
    UniqueConstraint("sleep_id", name="a_sleep_is_published_once"),
    Index("learned_by_age", "created_at"),
)

notes = Table(
    "notes",
    metadata,
    Column("context_id", AnyText, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("id", AnyText, nullable=False),
    Column("kind", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("sample", Integer, nullable=False),
    Column("question", AnyText),
    Column("text", AnyText, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("pinned", Integer, nullable=False, server_default="0"),
    ForeignKeyConstraint(
        ["context_id", "version"], ["learned_contexts.context_id", "learned_contexts.version"], ondelete="CASCADE"
    ),
)

sleeps = Table(
    "sleeps",
    metadata,
    Column("id", AnyText, primary_key=True),
    Column("context_id", AnyText, ForeignKey("contexts.id", ondelete="CASCADE"), nullable=False),
    Column("plan", AnyText, nullable=False),
    Column("plan_fingerprint", Text, nullable=False),  # of the plan and the text
    Column("context_fingerprint", Text, nullable=False, server_default=text("''")),
    Column("sections", Text, nullable=False, server_default="[]"),
    Column("based_on", Integer),
    UniqueConstraint("context_id", "plan_fingerprint", name="one_sleep_for_each_plan"),
)

drafts = Table(
    "drafts",
    metadata,
    Column("sleep_id", AnyText, ForeignKey("sleeps.id", ondelete="CASCADE"), primary_key=True),
    Column("sample", Integer, primary_key=True, autoincrement=False),
    Column("draft", Text, nullable=False),
)

calls = Table(
    "calls",
    metadata,
    Column("position", _Position, primary_key=True),
    Column("id", AnyText, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("phase", Text, nullable=False),
    Column("model", AnyText, nullable=False),
    *_usage(),
    Column("cost_usd", Double),
    Column("latency_s", Double, nullable=False),
    Column("outcome", AnyText, nullable=False),
    Column("price_card", AnyText),
    Column("context_id", AnyText),  # no foreign key: what was spent was spent
    Column("version", Integer),
    Column("work_id", AnyText),
    Column("sees", Text),
    Column("level", Text),
    Column("request_id", AnyText),
    UniqueConstraint("id", name="a_call_is_recorded_once"),
    Index("calls_by_context", "context_id", "at"),
    Index("calls_by_work", "work_id"),
    Index("calls_by_phase", "phase"),
    Index("calls_by_time", "at"),
)

answers = Table(
    "answers",
    metadata,
    Column("position", _Position, primary_key=True),
    Column("work_id", AnyText, nullable=False),
    Column("context_id", AnyText, ForeignKey("contexts.id", ondelete="CASCADE"), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("question", AnyText, nullable=False),
    Column("level", Text, nullable=False),
    Column("sees", Text, nullable=False),
    Column("version", Integer),
    Column("model", AnyText, nullable=False),
    Column("text", AnyText, nullable=False),
    Column("thinking", AnyText, nullable=False),
    *_usage(),
    Column("cost_usd", Double),
    Column("latency_s", Double, nullable=False),
    Column("finish_reason", Text, nullable=False),
    UniqueConstraint("work_id", name="an_answer_is_kept_once"),
    Index("answers_by_context", "context_id", "at"),
    Index("answers_by_age", "at", "position"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("position", _Position, primary_key=True),
    Column("id", AnyText, nullable=False),
    Column("context_id", AnyText, ForeignKey("contexts.id", ondelete="CASCADE"), nullable=False),
    Column("plan", Text, nullable=False),
    Column("again", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("queued_at", UtcTime, nullable=False),
    Column("waits_until", UtcTime),
    Column("ended_at", UtcTime),
    Column("worker", AnyText),
    Column("version", Integer),
    Column("error", AnyText),
    Column("trigger", Text, nullable=False, server_default=text("''")),  # empty where nothing was decided
    Column("unit", Text, nullable=False, server_default=text("''")),
    Column("price", Double, nullable=False, server_default=text("0")),
    Column("output_tokens", BigInteger, nullable=False, server_default=text("0")),
    UniqueConstraint("id", name="a_job_is_queued_once"),
    Index("jobs_by_state", "state", "position"),
    Index("jobs_by_context", "context_id"),
)

leases = Table(
    "leases",
    metadata,
    Column("context_id", AnyText, primary_key=True),  # no foreign key: calls may be under way when it is forgotten
    Column("id", AnyText, nullable=False),
    Column("job_id", AnyText),
    Column("seconds", Double, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Index("leases_by_expiry", "expires_at"),
)

reservations = Table(
    "reservations",
    metadata,
    Column("id", AnyText, primary_key=True),  # of the call it becomes
    Column("lease_id", AnyText, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("model", AnyText, nullable=False),
    Column("price_card", AnyText),
    Column("context_id", AnyText, nullable=False),
    Column("work_id", AnyText, nullable=False),
    Column("tokens", BigInteger, nullable=False),  # output, at most
    Column("nano_usd", BigInteger, nullable=False),
    Column("is_sent", Integer, nullable=False, server_default=text("1")),
    Index("reservations_by_lease", "lease_id"),
)

spending = Table(
    "spending",
    metadata,
    Column("account", AnyText, primary_key=True),  # context:ID, day:YYYY-MM-DD or month:YYYY-MM
    Column("tokens", BigInteger, nullable=False),
    Column("nano_usd", BigInteger, nullable=False),
    Column("open_tokens", BigInteger, nullable=False),
    Column("open_nano_usd", BigInteger, nullable=False),
)

watched = Table(
    "watched",
    metadata,
    Column("context_id", AnyText, ForeignKey("contexts.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", AnyText, nullable=False),
    Column("sections", Integer, nullable=False),
    Column("added_days", Double, nullable=False),
    Column("queries", Integer, nullable=False),
    Column("talks", Integer, nullable=False),
    Column("last_days", Double, nullable=False),
    Column("parts", Text, nullable=False),
    Column("edits", Integer, nullable=False),
    Column("level", Text, nullable=False),
    Column("arrived", Integer, nullable=False),
    Column("anticipated", Integer, nullable=False),
    *_tally("without_"),
    *_tally("assisted_"),
    Column("reason", Text, nullable=False),
    Column("wants", Double),
    Column("waits_days", Double),  # since when; empty where it waits for nothing
    Column("waits_queries", Integer, nullable=False, server_default=text("0")),
    Column("waits_by", Text, nullable=False, server_default=text("''")),
    Column("is_observed", Integer, nullable=False, server_default="0"),
    Index("watched_by_wants", "wants"),
    Index("watched_by_waiting", "waits_days"),
    Index("watched_by_kind", "kind"),
    Index("watched_by_queries", "queries"),
)

taught = Table(
    "taught",
    metadata,
    Column("outcome", Text, primary_key=True),
    Column("level", Text, primary_key=True),
    Column("band", Text, primary_key=True),
    *_tally(""),
)

portfolios = Table(
    "portfolios",
    metadata,
    Column("unit", Text, primary_key=True),
    Column("slept", Double, nullable=False),
    Column("saved", Double, nullable=False),
    Column("without_sleep", Double, nullable=False),
)

priors = Table(
    "priors",
    metadata,
    Column("kind", AnyText, primary_key=True),
    Column("fitted_days", Double, nullable=False),
    Column("shape", Double, nullable=False),
    Column("days", Double, nullable=False),
    Column("lasting", Double, nullable=False),
    Column("goes_on", Double, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("position", _Position, primary_key=True),
    Column("context_id", AnyText, ForeignKey("contexts.id", ondelete="CASCADE"), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("reason", Text, nullable=False),
    Column("sentence", AnyText, nullable=False),
    Column("unit", Text, nullable=False),
    Column("price", Double, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("saving", Double, nullable=False),
    Column("expected", Double),
    Column("queries_seen", Integer, nullable=False),
    Column("extra_paid", Double, nullable=False),
    Column("bound", Double, nullable=False),
    Column("outcome", AnyText, nullable=False),
    Column("trigger", Text, nullable=False, server_default=text("''")),
    Column("job_id", AnyText),
    Index("decisions_by_context", "context_id", "position"),
    Index("decisions_by_job", "job_id"),
    Index("decisions_by_age", "at", "position"),
)

schedules = Table(
    "schedules",
    metadata,
    Column("name", Text, primary_key=True),
    Column("at", UtcTime, nullable=False),
)

hours = Table(
    "hours",
    metadata,
    Column("hour", Text, primary_key=True),  # of UTC: YYYY-MM-DD HH
    Column("phase", Text, primary_key=True),
    Column("has_notes", Integer, primary_key=True, autoincrement=False),
    Column("calls", BigInteger, nullable=False),
    Column("answers", BigInteger, nullable=False),  # that came back in it
    *_usage(),
    Column("cost_usd", Double, nullable=False),  # of the calls whose price is known
    Column("unpriced", BigInteger, nullable=False),
)

compared = Table(
    "compared",
    metadata,
    Column("context_id", AnyText, primary_key=True),  # no foreign key: what was spent was spent
    Column("has_notes", Integer, primary_key=True, autoincrement=False),
    Column("answers", BigInteger, nullable=False),
    Column("priced", BigInteger, nullable=False),  # answers whose price is known
    *(
        Column(f"{name}{more}", Double, nullable=False)
        for name in ("tokens", "seconds", "usd")
        for more in ("", "_squares")
    ),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("label", AnyText, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("is_admin", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime),
    UniqueConstraint("digest", name="a_secret_is_one_key"),
)
