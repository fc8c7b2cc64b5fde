"""API keys and the tenants they stand for.

    st-… (32 random bytes)  → SHA-256 →  ApiKey(tenant)

Only the hash is kept. Nobody guesses 256 random bits, so that a slow hash, which passwords need, would
protect nothing more and cost every request its time. A tenant is a name that is safe as the name of a
folder and of a schema, and tells nobody's folders apart by capitals.

This file does not know where keys are kept, nor how randomness is made.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

from sleeptime.core.errors import TenantNameError

KEY_PREFIX = "st-"
KEY_BYTES = 32
DEFAULT_TENANT = "default"
"""Whose engine answers where no key was ever made; its data is the ordinary database."""

_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_DEVICE = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]")  # names that Windows keeps for itself


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept. `digest` is the SHA-256 of the secret; `label` is for people to tell it by.

    `is_admin`: its holder runs the server, and may read the metrics of all tenants.
    """

    id: str
    label: str
    tenant: str
    digest: str
    is_admin: bool
    created_at: datetime
    revoked_at: datetime | None = None


def digest(secret: str) -> str:
    """The hash of a key under which it is kept and found."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def check_tenant(name: str) -> str:
    """Give back *name* if it can name a tenant. Raises TenantNameError."""
    if not _TENANT.fullmatch(name) or _DEVICE.fullmatch(name):
        raise TenantNameError(name)
    return name
