"""What a user pinned or quarantined, held through every sleep, whatever it does.

    pinned        in every version to come; no round replaces, retires or cuts it
    quarantined   in every version to come; no answer and no round sees it, and no round writes its words again
    pinned, but what it rests on changed   quarantined by the next sleep, until it is released

Notes are the same where their words are. This file does not know who said so, nor when a version is published.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sleeptime.core.context import Context
from sleeptime.core.notes import Draft, LearnedContext, Note, highest, said
from sleeptime.core.staleness import stale_ids


def held_over(note: Note, *, is_stale: bool) -> Note:
    """What becomes of a note that is held when its text is slept on."""
    return replace(note, status="quarantined") if is_stale else note


def held_draft(newest: LearnedContext | None, context: Context, sample: int) -> Draft:
    """What a sleep on the whole text begins with: nothing but what is held of the *newest* version."""
    if newest is None:
        return Draft(sample=sample)
    stale = stale_ids(newest.notes, newest.sections, context.fingerprints)
    held = [held_over(note, is_stale=note.id in stale) for note in newest.notes if note.is_held]
    notes = tuple(replace(note, sample=sample) for note in held)
    return Draft(notes=notes, notes_made=highest(notes), sample=sample)


def beside(context: Context) -> Callable[[LearnedContext | None, LearnedContext], LearnedContext]:
    """Make what a version about *context* becomes beside the newest one when it is published.

    A user may have said something of a note after the sleep had begun; that holds. What is held and not in it is added.
    """

    def carried(newest: LearnedContext | None, learned: LearnedContext) -> LearnedContext:
        if newest is None:
            return learned
        stale = stale_ids(newest.notes, newest.sections, context.fingerprints)
        told = {said(note): held_over(note, is_stale=note.is_held and note.id in stale) for note in newest.notes}
        notes = [_as_told(note, told.get(said(note))) for note in learned.notes]
        taken, there = {note.id for note in notes}, {said(note) for note in notes}
        made = highest([*notes, *newest.notes])
        for words, note in told.items():
            if note.is_held and words not in there:
                made += note.id in taken
                notes.append(replace(note, id=f"n{made}") if note.id in taken else note)
        return learned if tuple(notes) == learned.notes else replace(learned, notes=tuple(notes))

    return carried


def _as_told(note: Note, told: Note | None) -> Note:
    if told is None or not (told.is_held or note.is_held):
        return note
    is_set = "quarantined" in (told.status, note.status)
    return replace(note, is_pinned=told.is_pinned, status=told.status if is_set else note.status)
