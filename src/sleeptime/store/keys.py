"""API keys in the database: made, found by their hash, revoked, never deleted.

A server that ever had a key stays locked when all are revoked; so a row is kept for each. This file does not
know secrets.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from sleeptime.core.errors import KeyNotFoundError
from sleeptime.core.keys import ApiKey
from sleeptime.store.rows import Row
from sleeptime.store.tables import api_keys


async def add(connection: AsyncConnection, key: ApiKey) -> None:
    """Keep a new key."""
    values = {name: getattr(key, name) for name in ApiKey.__dataclass_fields__}
    await connection.execute(insert(api_keys), {**values, "is_admin": int(key.is_admin)})


async def listed(connection: AsyncConnection, *, digest: str | None = None) -> Sequence[ApiKey]:
    """All keys, oldest first, or the one with this hash."""
    statement = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
    if digest is not None:
        statement = statement.where(api_keys.c.digest == digest)
    return [key_of(row) for row in (await connection.execute(statement)).mappings()]


async def revoke(connection: AsyncConnection, key_id: str, at: datetime) -> ApiKey:
    """Let a key open nothing any more. Raises KeyNotFoundError."""
    of_key = api_keys.c.id == key_id
    await connection.execute(update(api_keys).where(of_key, api_keys.c.revoked_at.is_(None)).values(revoked_at=at))
    found = [key for key in await listed(connection) if key.id == key_id]
    if not found:
        raise KeyNotFoundError(key_id)
    return found[0]


def key_of(row: Row) -> ApiKey:
    """Read a key."""
    return ApiKey(
        id=row["id"],
        label=row["label"],
        tenant=row["tenant"],
        digest=row["digest"],
        is_admin=bool(row["is_admin"]),
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
    )
