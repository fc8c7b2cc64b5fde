"""Jobs for workers, leases, calls set aside before they are made, and sums for the caps.

What was spent on sleep before this schema is added up from the ledger, so that caps count it too.
Calls whose cost is not known add nothing. There is no way back.
"""

from __future__ import annotations

import math

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

UTC_TIME = sa.DateTime(timezone=True)
POSITION = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables, and add up the ledger."""
    op.create_table(
        "jobs",
        sa.Column("position", POSITION, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("context_id", sa.Text, sa.ForeignKey("contexts.id", ondelete="CASCADE"), nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("again", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("queued_at", UTC_TIME, nullable=False),
        sa.Column("waits_until", UTC_TIME),
        sa.Column("ended_at", UTC_TIME),
        sa.Column("worker", sa.Text),
        sa.Column("version", sa.Integer),
        sa.Column("error", sa.Text),
        sa.UniqueConstraint("id", name="a_job_is_queued_once"),
    )
    op.create_index("jobs_by_state", "jobs", ["state", "position"])
    op.create_index("jobs_by_context", "jobs", ["context_id"])
    op.create_table(
        "leases",
        sa.Column("context_id", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("expires_at", UTC_TIME, nullable=False),
    )
    op.create_index("leases_by_expiry", "leases", ["expires_at"])
    op.create_table(
        "reservations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("lease_id", sa.Text, nullable=False),
        sa.Column("at", UTC_TIME, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("price_card", sa.Text),
        sa.Column("context_id", sa.Text, nullable=False),
        sa.Column("work_id", sa.Text, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("nano_usd", sa.BigInteger, nullable=False),
    )
    op.create_index("reservations_by_lease", "reservations", ["lease_id"])
    spending = op.create_table(
        "spending",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("nano_usd", sa.BigInteger, nullable=False),
        sa.Column("open_tokens", sa.BigInteger, nullable=False),
        sa.Column("open_nano_usd", sa.BigInteger, nullable=False),
    )
    sums: dict[str, list[int]] = {}
    calls = sa.table(
        "calls",
        sa.column("at", UTC_TIME),
        sa.column("context_id", sa.Text),
        sa.column("phase", sa.Text),
        sa.column("output_tokens", sa.BigInteger),
        sa.column("cost_usd", sa.Double),
    )
    slept = sa.select(calls.c.at, calls.c.context_id, calls.c.output_tokens, calls.c.cost_usd).where(
        calls.c.phase == "sleep", calls.c.context_id.is_not(None)
    )
    for at, context_id, tokens, cost_usd in op.get_bind().execute(slept):
        for account in (f"context:{context_id}", f"day:{at:%Y-%m-%d}", f"month:{at:%Y-%m}"):
            kept = sums.setdefault(account, [0, 0])
            kept[0] += tokens
            kept[1] += math.ceil(round((cost_usd or 0.0) * 10**9, 3))
    if sums:
        op.bulk_insert(
            spending,
            [
                {"account": account, "tokens": tokens, "nano_usd": nano, "open_tokens": 0, "open_nano_usd": 0}
                for account, (tokens, nano) in sums.items()
            ],
        )
