"""What a repository says of itself in words: README, documentation, instructions for contributors and agents.

    documentation(checkout) → its passages, as `core.redundancy` compares them with notes

This file does not know what a note is.
"""

from __future__ import annotations

import re

from sleeptime.core.redundancy import passages
from sleeptime.repositories.checkout import Checkout, File

MOST_BYTES = 4_000_000
"""Of documents that are read, those nearest the top of the repository first."""

_PAGE = re.compile(
    r"(?:.*/)?(?:readme|contributing|agents|claude|architecture|hacking|development)(?:\.\w+)?"
    r"|(?:.*/)?(?:docs?|documentation|website|wiki)/.*\.(?:md|mdx|rst|txt|adoc)",
    re.IGNORECASE,
)


def documentation(checkout: Checkout) -> tuple[frozenset[str], ...]:
    """Read the documentation of *checkout*."""
    pages = sorted(
        (file for file in checkout.files() if _PAGE.fullmatch(file.path)),
        key=lambda file: (file.path.count("/"), file.path),
    )
    wanted: list[File] = []
    size = 0
    for page in pages:
        size += page.size_bytes
        if size > MOST_BYTES:
            break
        wanted.append(page)
    return passages([data.decode(errors="replace") for _, data in checkout.contents(wanted)])
