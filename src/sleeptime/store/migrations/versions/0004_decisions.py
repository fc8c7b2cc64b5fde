"""What decisions rest on, kept beside the ledger, and the decisions themselves.

Contexts that are there already are watched from now on: their queries are counted, each as a talk of its own,
and what their answers measured before is not gone through. There is no way back.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
UTC_TIME = sa.DateTime(timezone=True)
UNDECIDED = 1e300


def upgrade() -> None:
    """Make the tables, and a row for each context."""
    op.create_table(
        "watched",
        sa.Column("context_id", sa.Text, sa.ForeignKey("contexts.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("sections", sa.Integer, nullable=False),
        sa.Column("added_days", sa.Double, nullable=False),
        sa.Column("queries", sa.Integer, nullable=False),
        sa.Column("talks", sa.Integer, nullable=False),
        sa.Column("last_days", sa.Double, nullable=False),
        sa.Column("parts", sa.Text, nullable=False),
        sa.Column("edits", sa.Integer, nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("arrived", sa.Integer, nullable=False),
        sa.Column("anticipated", sa.Integer, nullable=False),
        *_tally("without_"),
        *_tally("assisted_"),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("wants", sa.Double),
    )
    op.create_index("watched_by_wants", "watched", ["wants"])
    op.create_index("watched_by_kind", "watched", ["kind"])
    op.create_table(
        "taught",
        sa.Column("outcome", sa.Text, primary_key=True),
        sa.Column("level", sa.Text, primary_key=True),
        sa.Column("band", sa.Text, primary_key=True),
        *_tally(""),
    )
    op.create_table(
        "portfolios",
        sa.Column("unit", sa.Text, primary_key=True),
        sa.Column("slept", sa.Double, nullable=False),
        sa.Column("saved", sa.Double, nullable=False),
        sa.Column("without_sleep", sa.Double, nullable=False),
    )
    op.create_table(
        "priors",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("fitted_days", sa.Double, nullable=False),
        sa.Column("shape", sa.Double, nullable=False),
        sa.Column("days", sa.Double, nullable=False),
        sa.Column("lasting", sa.Double, nullable=False),
        sa.Column("goes_on", sa.Double, nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("position", POSITION, primary_key=True),
        sa.Column("context_id", sa.Text, sa.ForeignKey("contexts.id", ondelete="CASCADE"), nullable=False),
        sa.Column("at", UTC_TIME, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.Column("unit", sa.Text, nullable=False),
        sa.Column("price", sa.Double, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("saving", sa.Double, nullable=False),
        sa.Column("expected", sa.Double),
        sa.Column("queries_seen", sa.Integer, nullable=False),
        sa.Column("extra_paid", sa.Double, nullable=False),
        sa.Column("bound", sa.Double, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
    )
    op.create_index("decisions_by_context", "decisions", ["context_id", "position"])
    _add_up_sleeps(is_postgresql=op.get_context().dialect.name == "postgresql")
    _watch_what_is_there()


def _add_up_sleeps(*, is_postgresql: bool) -> None:
    """Whoever writes a row of a sleep to the ledger, its cost is added up: dollars first, as answers lock them."""
    adds = "".join(
        f"INSERT INTO portfolios (unit, slept, saved, without_sleep) SELECT '{unit}', NEW.{column}, 0, 0 "
        f"WHERE NEW.{column} IS NOT NULL ON CONFLICT (unit) DO UPDATE SET slept = portfolios.slept + excluded.slept; "
        for unit, column in (("USD", "cost_usd"), ("output tokens", "output_tokens"))
    )
    when = "AFTER INSERT ON calls FOR EACH ROW WHEN (NEW.phase IN ('sleep', 'verify'))"
    if not is_postgresql:
        op.execute(f"CREATE TRIGGER calls_add_up {when} BEGIN {adds} END")
        return
    op.execute(
        f"CREATE FUNCTION calls_add_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {adds} RETURN NULL; END $$"
    )
    op.execute(f"CREATE TRIGGER calls_add_up {when} EXECUTE FUNCTION calls_add_up()")


def _tally(of: str) -> list[sa.Column[float]]:
    return [sa.Column(f"{of}{name}", sa.Double, nullable=False) for name in ("answers", "total", "squares")]


def _watch_what_is_there() -> None:
    contexts = sa.table(
        "contexts",
        sa.column("id"),
        sa.column("source"),
        sa.column("characters"),
        sa.column("fingerprint"),
        sa.column("created_at", UTC_TIME),
    )
    answers = sa.table("answers", sa.column("context_id"), sa.column("at", UTC_TIME))
    learned = sa.table(
        "learned_contexts", sa.column("context_id"), sa.column("version"), sa.column("context_fingerprint")
    )
    newest = (
        sa.select(learned.c.context_fingerprint)
        .where(learned.c.context_id == contexts.c.id)
        .order_by(learned.c.version.desc())
        .limit(1)
        .correlate(contexts)
        .scalar_subquery()
    )
    asked = (
        sa.select(sa.func.count().label("queries"), sa.func.max(answers.c.at).label("last"), answers.c.context_id)
        .group_by(answers.c.context_id)
        .subquery()
    )
    statement = sa.select(contexts, newest.label("slept_on"), asked.c.queries, asked.c.last).outerjoin_from(
        contexts, asked, asked.c.context_id == contexts.c.id
    )
    connection = op.get_bind()
    for row in connection.execute(statement).mappings().all():
        queries = row["queries"] or 0
        lacks = row["slept_on"] != row["fingerprint"] and row["characters"]
        ending = row["source"].rpartition("/")[2].rpartition(".")
        values = {
            "context_id": row["id"],
            "kind": ending[2].lower() if ending[1] and ending[2].isalnum() else "",
            "added_days": _days(row["created_at"]),
            "queries": queries,
            "last_days": _days(row["last"]) if row["last"] else 0.0,
            "parts": json.dumps([[0, row["characters"]]] if lacks else []),
            "wants": UNDECIDED if lacks else None,
        }
        connection.execute(sa.text(_INSERT), values)


_INSERT = """
INSERT INTO watched (context_id, kind, sections, added_days, queries, talks, last_days, parts, edits, level, arrived,
    anticipated, without_answers, without_total, without_squares, assisted_answers, assisted_total, assisted_squares,
    reason, wants)
VALUES (:context_id, :kind, 1, :added_days, :queries, :queries, :last_days, :parts, 0, '', 0,
    0, 0, 0, 0, 0, 0, 0, '', :wants)
"""


def _days(at: datetime) -> float:
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() / 86_400
