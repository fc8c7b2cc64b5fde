"""Contexts that are only observed: recognised in requests, forecast, and not slept on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column; what is stored may be slept on as before."""
    op.add_column("watched", sa.Column("is_observed", sa.Integer, nullable=False, server_default="0"))
