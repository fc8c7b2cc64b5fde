"""Who goes without notes, so that what notes save is measured: a share of the queries, by a lot that never changes.

    held out  ⇔  hash(salt, request) / 2⁶⁴ < share

The same request always draws the same lot, so that a client that tries again is served alike, on every server; requests
that differ anywhere draw apart. A larger share holds out whatever a smaller one does.

What it does not know: whether requests differ. One that is asked again and again, word for word, is one lot.
"""

from __future__ import annotations

import hashlib

SALT = b"sleeptime holdout"


def is_held_out(request: bytes, share: float, *, salt: bytes = SALT) -> bool:
    """Say whether the lot of *request* falls among the *share* that is shown no notes."""
    drawn = hashlib.blake2b(request, digest_size=8, key=salt).digest()
    return int.from_bytes(drawn) < share * 2**64
