"""What a context waits to be looked at for, and jobs that were decided on.

Contexts that lack notes wait from when they were last asked or added. There is no way back.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the columns, and let what lacks notes wait."""
    op.add_column("watched", sa.Column("waits_days", sa.Double))
    op.add_column("watched", sa.Column("waits_queries", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.add_column("watched", sa.Column("waits_by", sa.Text, nullable=False, server_default=sa.text("''")))
    op.create_index("watched_by_waiting", "watched", ["waits_days"])
    op.add_column("jobs", sa.Column("trigger", sa.Text, nullable=False, server_default=sa.text("''")))
    op.add_column("jobs", sa.Column("unit", sa.Text, nullable=False, server_default=sa.text("''")))
    op.add_column("jobs", sa.Column("price", sa.Double, nullable=False, server_default=sa.text("0")))
    op.add_column("jobs", sa.Column("output_tokens", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.add_column("decisions", sa.Column("trigger", sa.Text, nullable=False, server_default=sa.text("''")))
    op.add_column("decisions", sa.Column("job_id", sa.Text))
    op.create_index("decisions_by_job", "decisions", ["job_id"])
    op.create_table(
        "schedules",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    op.execute(
        "UPDATE watched SET waits_by = 'change', waits_days = "
        "CASE WHEN last_days > added_days THEN last_days ELSE added_days END WHERE parts <> '[]'"
    )
