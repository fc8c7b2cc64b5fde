"""Which notes an edit makes stale, and which sections it touched.

    a note is stale  ⇔  a section it rests on is fewer times in the text than when it was written

Texts are compared as the fingerprints of their sections, so that a section that moved is
the one it was. A note without evidence, or with the whole text for evidence, is stale as
soon as anything changed or moved: nothing shows that it is unaffected. Notes that rest on
notes carry the evidence of these (`notes.evidence`), so what is stale passes on.

What this cannot see: that new text contradicts a note whose own evidence stands, such as
"Ana has the most boxes" when somebody with more of them is added. Such notes
should cite the whole text; the next sleep is shown them beside what is new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sleeptime.core.context import EVERYWHERE, Context
from sleeptime.core.notes import LearnedContext, Note


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What an edit did to a context: sections that are new, sections that are gone, notes of the newest version.

    `context` is as it is after the edit. `is_change` is False where the text was this one already.
    `version` is the newest version, None where nothing was learned.
    """

    context: Context
    is_change: bool
    sections_new: int
    sections_gone: int
    version: int | None
    stale: tuple[Note, ...]
    kept: int


def stale(learned: LearnedContext, context: Context) -> frozenset[str]:
    """The ids of the notes that *context*, as it is now, no longer bears out. Another context's notes never are."""
    if learned.context_id != context.id or learned.context_fingerprint == context.fingerprint:
        return frozenset()
    return stale_ids(learned.notes, learned.sections, context.fingerprints)


def shown(learned: LearnedContext, context: Context) -> tuple[Note, ...]:
    """The notes an answer may see: neither quarantined nor stale."""
    stale_now = stale(learned, context)
    return tuple(note for note in learned.shown if note.id not in stale_now)


def stale_ids(notes: Sequence[Note], before: Sequence[str], after: Sequence[str]) -> frozenset[str]:
    """The ids of *notes* that went stale while the sections of the text went from *before* to *after*."""
    if tuple(before) == tuple(after):
        return frozenset()
    was, now = Counter(before), Counter(after)

    def is_stale(note: Note) -> bool:
        return not note.evidence or any(
            span == EVERYWHERE or now[span.section] < max(1, was[span.section]) for span in note.evidence
        )

    return frozenset(note.id for note in notes if is_stale(note))


def new_sections(before: Sequence[str], after: Sequence[str]) -> tuple[int, ...]:
    """Positions in *after* of the sections that *before* did not have, or had fewer times: then the last ones."""
    surplus = Counter(after) - Counter(before)
    found: list[int] = []
    for position in range(len(after) - 1, -1, -1):
        if surplus[after[position]] > 0:
            surplus[after[position]] -= 1
            found.append(position)
    return tuple(reversed(found))


def edit(before: Context, after: Context, newest: LearnedContext | None) -> Edit:
    """Say what became of *before* and of the *newest* version when its text became that of *after*."""
    old, new = before.fingerprints, after.fingerprints
    gone = stale(newest, after) if newest else frozenset[str]()
    notes = newest.notes if newest else ()
    return Edit(
        context=after,
        is_change=before.text != after.text,
        sections_new=len(new_sections(old, new)),
        sections_gone=len(new_sections(new, old)),
        version=newest.version if newest else None,
        stale=tuple(note for note in notes if note.id in gone),
        kept=len(notes) - len(gone),
    )
