"""Whether a call that was set aside has gone out. Those set aside before this schema may have. There is no way back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column."""
    op.add_column("reservations", sa.Column("is_sent", sa.Integer, nullable=False, server_default=sa.text("1")))
