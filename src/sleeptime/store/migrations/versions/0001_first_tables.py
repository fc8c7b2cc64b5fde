"""The first tables, and the triggers that keep versions and the ledger as they were written.

There is no way back: it would delete what was learned.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

UTC_TIME = sa.DateTime(timezone=True)
POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make all tables of an empty database."""
    op.create_table(
        "contexts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("characters", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("created_at", UTC_TIME, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.UniqueConstraint("name", name="contexts_have_one_name"),
    )
    op.create_table(
        "learned_contexts",
        sa.Column("context_id", sa.Text, sa.ForeignKey("contexts.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sleep_id", sa.Text),
        sa.Column("context_fingerprint", sa.Text, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("prompt_fingerprint", sa.Text, nullable=False),
        *_usage(),
        sa.Column("cost_usd", sa.Double),
        sa.Column("stop_reasons", sa.Text, nullable=False),
        sa.Column("rounds", sa.Integer, nullable=False),
        sa.Column("failed_rounds", sa.Integer, nullable=False),
        sa.Column("samples", sa.Integer, nullable=False),
        sa.Column("note_count", sa.Integer, nullable=False),
        sa.Column("created_at", UTC_TIME, nullable=False),
        sa.UniqueConstraint("sleep_id", name="a_sleep_is_published_once"),
    )
    op.create_table(
        "notes",
        sa.Column("context_id", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("sample", sa.Integer, nullable=False),
        sa.Column("question", sa.Text),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["context_id", "version"], ["learned_contexts.context_id", "learned_contexts.version"], ondelete="CASCADE"
        ),
    )
    op.create_table(
        "sleeps",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("context_id", sa.Text, sa.ForeignKey("contexts.id", ondelete="CASCADE"), nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("plan_fingerprint", sa.Text, nullable=False),
        sa.UniqueConstraint("context_id", "plan_fingerprint", name="one_sleep_for_each_plan"),
    )
    op.create_table(
        "drafts",
        sa.Column("sleep_id", sa.Text, sa.ForeignKey("sleeps.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("sample", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("draft", sa.Text, nullable=False),
    )
    op.create_table(
        "calls",
        sa.Column("position", POSITION, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("at", UTC_TIME, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        *_usage(),
        sa.Column("cost_usd", sa.Double),
        sa.Column("latency_s", sa.Double, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("price_card", sa.Text),
        sa.Column("context_id", sa.Text),
        sa.Column("version", sa.Integer),
        sa.Column("work_id", sa.Text),
        sa.Column("sees", sa.Text),
        sa.Column("level", sa.Text),
        sa.Column("request_id", sa.Text),
        sa.UniqueConstraint("id", name="a_call_is_recorded_once"),
    )
    op.create_index("calls_by_context", "calls", ["context_id", "at"])
    op.create_index("calls_by_work", "calls", ["work_id"])
    op.create_index("calls_by_phase", "calls", ["phase"])
    op.create_index("calls_by_time", "calls", ["at"])
    op.create_table(
        "answers",
        sa.Column("position", POSITION, primary_key=True),
        sa.Column("work_id", sa.Text, nullable=False),
        sa.Column("context_id", sa.Text, sa.ForeignKey("contexts.id", ondelete="CASCADE"), nullable=False),
        sa.Column("at", UTC_TIME, nullable=False),
        sa.Column("question", sa.Text, nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("sees", sa.Text, nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("thinking", sa.Text, nullable=False),
        *_usage(),
        sa.Column("cost_usd", sa.Double),
        sa.Column("latency_s", sa.Double, nullable=False),
        sa.Column("finish_reason", sa.Text, nullable=False),
        sa.UniqueConstraint("work_id", name="an_answer_is_kept_once"),
    )
    op.create_index("answers_by_context", "answers", ["context_id", "at"])

    guard = _guard_on_postgresql if op.get_context().dialect.name == "postgresql" else _guard_on_sqlite
    versions = "versions of what was learned are never changed"
    forgetting = "NOT EXISTS (SELECT 1 FROM contexts WHERE id = OLD.context_id)"
    same_version = "context_id = NEW.context_id AND version = NEW.version"
    guard("learned_contexts", versions, key=f"{same_version} OR sleep_id = NEW.sleep_id", delete_where=forgetting)
    guard(
        "notes",
        versions,
        key=f"{same_version} AND position = NEW.position",
        delete_where=forgetting,
        # A version says how many notes it has; published, all their places are taken.
        insert_where=f"NEW.position BETWEEN 0 AND (SELECT note_count - 1 FROM learned_contexts WHERE {same_version})",  # noqa: S608  # constants
    )
    guard("calls", "the ledger is only appended to", key="id = NEW.id OR position = NEW.position", delete_where="FALSE")


def _usage() -> list[sa.Column[int]]:
    names = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def _guard_on_sqlite(table: str, why: str, *, key: str, delete_where: str, insert_where: str = "TRUE") -> None:
    refusal = f"BEGIN SELECT RAISE(ABORT, '{why}'); END"
    # INSERT OR REPLACE deletes the row with the same key without asking a trigger of DELETE.
    refused = f"EXISTS (SELECT 1 FROM {table} WHERE {key}) OR NOT ({insert_where})"  # noqa: S608  # constants
    op.execute(f"CREATE TRIGGER {table}_refuse_insert BEFORE INSERT ON {table} WHEN {refused} {refusal}")
    op.execute(f"CREATE TRIGGER {table}_refuse_update BEFORE UPDATE ON {table} {refusal}")
    op.execute(f"CREATE TRIGGER {table}_refuse_delete BEFORE DELETE ON {table} WHEN NOT ({delete_where}) {refusal}")


def _guard_on_postgresql(table: str, why: str, *, key: str, delete_where: str, insert_where: str = "TRUE") -> None:
    del key  # ON CONFLICT DO UPDATE asks the trigger of UPDATE
    op.execute(
        f"""
        CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' THEN
                IF {delete_where} THEN
                    RETURN OLD;
                END IF;
            ELSIF TG_OP = 'INSERT' THEN
                IF ({insert_where}) IS NOT FALSE THEN
                    RETURN NEW;
                END IF;
            END IF;
            RAISE EXCEPTION '{why}' USING ERRCODE = 'restrict_violation';
        END $$
        """
    )
    op.execute(
        f"CREATE TRIGGER {table}_refuse_change BEFORE INSERT OR UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_refuse()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_refuse_truncate BEFORE TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse()"
    )
