"""What tells two versions of what was learned apart.

    kept      the same note in both
    replaced  a note under the same id with other words, where one version came of the other
    added     in the later one alone
    retired   in the earlier one alone, though what it rests on was still in the text
    stale     in the earlier one alone, and what it rested on had changed
    marked    the same words in both, and pinned, quarantined or released in between; it is kept as well

Ids mean the same in two versions only where one began with the notes of the other; a rollback
is the version that it publishes anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sleeptime.core.context import Context
from sleeptime.core.notes import LearnedContext, Note
from sleeptime.core.staleness import stale, stale_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """How version `after` differs from version `before`. `stale_now`: ids of notes of `after` stale in today's text."""

    before: int
    after: int
    kept: tuple[Note, ...]
    added: tuple[Note, ...]
    replaced: tuple[tuple[Note, Note], ...]
    retired: tuple[Note, ...]
    stale: tuple[Note, ...]
    marked: tuple[tuple[Note, Note], ...]
    stale_now: frozenset[str]


def diff(versions: Sequence[LearnedContext], before: int, after: int, context: Context) -> Diff:
    """Compare two of *versions*, which are all of *context*, by their numbers."""
    numbered = {version.version: version for version in versions}
    old, new = numbered[before], numbered[after]
    lines = [_line(numbered, version) for version in (before, after)]
    is_related = lines[0][0] in lines[1] or lines[1][0] in lines[0]
    was = {note.id: note for note in old.notes}
    words = {(note.kind, note.plain) for note in old.notes}
    kept = [note for note in new.notes if (note.kind, note.plain) in words]
    said = {(note.kind, note.plain) for note in kept}
    left = {note.id: note for note in old.notes if (note.kind, note.plain) not in said}
    changed = [note for note in new.notes if (note.kind, note.plain) not in words]
    replaced = [(left[note.id], note) for note in changed if is_related and note.id in left]
    successors = {note.id for _, note in replaced}
    gone = [note for note in left.values() if note.id not in successors]
    stale_then = stale_ids(tuple(was.values()), old.sections, new.sections)
    first = {(note.kind, note.plain): note for note in reversed(old.notes)}
    pairs = [(first[note.kind, note.plain], note) for note in kept]
    return Diff(
        before=before,
        after=after,
        kept=tuple(kept),
        added=tuple(note for note in changed if note.id not in successors),
        replaced=tuple(replaced),
        retired=tuple(note for note in gone if note.id not in stale_then),
        stale=tuple(note for note in gone if note.id in stale_then),
        marked=tuple((old, new) for old, new in pairs if (old.status, old.is_pinned) != (new.status, new.is_pinned)),
        stale_now=stale(new, context),
    )


def _line(numbered: Mapping[int, LearnedContext], version: int) -> list[int]:
    """The versions that the notes of *version* came through, from the one that first had them all back to the first."""
    found: list[int] = []
    at: int | None = version
    while at is not None and at in numbered:
        if numbered[at].rolled_back_from is None:
            found.append(at)
        at = numbered[at].rolled_back_from or numbered[at].based_on
    return found
