"""Notes, and the learned contexts they make.

    c′ = LearnedContext = an immutable version: notes + provenance

A sleep works on a `Draft`: notes are added, replaced and retired by id, never
rewritten as one blob. A draft is a value; each round makes a new one, and any of
them can be kept, shown, or gone on from. This file does not know any model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from sleeptime.core.context import EVERYWHERE, Context, Span, headed
from sleeptime.core.usage import Usage, sum_costs

NoteKind = Literal["inference", "anticipated", "plan"]
NOTE_KINDS: tuple[NoteKind, ...] = ("inference", "anticipated", "plan")
NoteStatus = Literal["unverified", "verified", "quarantined"]
StopReason = Literal[
    "finished",
    "settled",
    "diminishing",
    "rounds",
    "budget",
    "window",
    "time",
    "unreadable",
    "interrupted",
    "unchanged",
]
COMPLETE: tuple[StopReason, ...] = ("finished", "settled", "diminishing", "rounds")
"""Ends of a sleep that had its say about the whole text."""

_PLACE = re.compile(r"([\w./@+-]*[./][\w@+-]+)(?::\d+(?:\s*[-–]\s*\d+)?)?")
SAMPLE_SEPARATOR = "\n\n---\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One item of a learned context.

    `question` is set for kind `anticipated`: `text` is then its answer. A note without
    `evidence` may rest on anything: any change of the text makes it stale. `sample` says
    which of the parallel sleeps wrote it, from 0. What a user pinned or quarantined is held: no sleep changes it.
    """

    id: str
    text: str
    kind: NoteKind = "inference"
    question: str | None = None
    evidence: tuple[Span, ...] = ()
    status: NoteStatus = "unverified"
    sample: int = 0
    is_pinned: bool = False

    @property
    def is_held(self) -> bool:
        return self.is_pinned or self.status == "quarantined"

    @property
    def plain(self) -> str:
        """The note as one would say it: an anticipated query stands before its answer."""
        return f"{self.question} {self.text}" if self.question else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One change to the notes: add, replace by id, or retire by id.

    `cites` holds quotations from the context, ids of notes this one rests on, and `*` for the whole text.
    `kind` None keeps the kind of what is replaced; a new note is then an inference.
    """

    verb: Literal["add", "replace", "retire"]
    id: str | None = None
    kind: NoteKind | None = None
    text: str = ""
    question: str | None = None
    cites: tuple[str, ...] = ()

    @property
    def plain(self) -> str:
        """The note it writes, as one would say it."""
        return f"{self.question} {self.text}" if self.question else self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What one round wants changed, and whether the model says it is done."""

    operations: tuple[Operation, ...] = ()
    is_done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The state of one sleep between two rounds.

    `remarks` is told to the model in the next round (what was cut or refused). `is_plain`
    says that its model gave no tool call and is spoken to in plain text since. `changed` is the
    share of its notes that each round wrote, as `changed_share` counts it.
    """

    notes: tuple[Note, ...] = ()
    notes_made: int = 0
    rounds: int = 0
    failed_rounds: int = 0
    failed_in_a_row: int = 0
    is_done: bool = False
    is_settled: bool = False
    usage: Usage = Usage()
    cost_usd: float | None = 0.0
    remarks: tuple[str, ...] = ()
    sample: int = 0
    is_plain: bool = False
    changed: tuple[float, ...] = ()

    @property
    def characters(self) -> int:
        """Length of the text of c′ so far; what the cap counts. What is quarantined is no part of it."""
        return sum(len(note.plain) for note in self.seen)

    @property
    def seen(self) -> tuple[Note, ...]:
        """The notes that a round sees: all but the quarantined ones."""
        return tuple(note for note in self.notes if note.status != "quarantined")

    def spent(self, usage: Usage, cost_usd: float | None) -> Draft:
        """Add one call's usage and cost."""
        return replace(self, usage=self.usage + usage, cost_usd=sum_costs([self.cost_usd, cost_usd]))

    def told(self, remarks: tuple[str, ...]) -> Draft:
        """Tell the next round *remarks* as well; a draft with something to tell is not settled."""
        if not remarks:
            return self
        return replace(self, remarks=(*self.remarks, *remarks), is_settled=False)

    def failed(self) -> Draft:
        """Count a round whose replies could not be read. What was learned stays."""
        return replace(
            self,
            rounds=self.rounds + 1,
            failed_rounds=self.failed_rounds + 1,
            failed_in_a_row=self.failed_in_a_row + 1,
        )

    def revised(self, revision: Revision, context: Context, *, max_characters: int, kept: Sequence[Note] = ()) -> Draft:
        """Carry out one round's revision, in order, within the cap on the text of c′. *kept* are notes it began with.

        A note that would pass the cap is cut at the cap if it replaces one or is the
        first, else refused; either is told to the model through `remarks`. Unknown ids are
        refused the same way. A note whose text stands already is not added twice. What a user pinned is neither
        replaced nor retired, and what they quarantined is not written again.
        """
        notes = list(self.notes)
        made = self.notes_made
        remarks: list[str] = []
        for operation in revision.operations:
            at = next((i for i, note in enumerate(notes) if note.id == operation.id), None)
            if operation.verb != "add" and at is not None and notes[at].is_pinned:
                remarks.append(f"Note {operation.id} is pinned; it stays as it is.")
                continue
            if operation.verb != "add" and (at is None or notes[at].status == "quarantined"):
                remarks.append(f"There is no note {operation.id}; nothing was changed for it.")
                continue
            if operation.verb == "retire" and at is not None:
                del notes[at]
                continue
            old = None if at is None else notes[at]
            rests_on = evidence(operation.cites, context, [*self.notes, *notes])
            if old and not rests_on and old.evidence:
                # New words without evidence of their own may rest on more than the old ones did.
                is_new = operation.text != old.text and EVERYWHERE not in old.evidence
                rests_on = (*old.evidence, EVERYWHERE) if is_new else old.evidence
            note = Note(
                id=old.id if old else f"n{made + 1}",
                text=operation.text,
                kind=operation.kind or (old.kind if old else "inference"),
                question=operation.question or (old.question if old and operation.kind is None else None),
                evidence=rests_on,
                sample=self.sample,
            )
            if any(other.status == "quarantined" and said(other) == said(note) for other in notes):
                remarks.append("A note was refused: it says what was set aside as wrong.")
                continue
            if old is None and any(other.plain == note.plain for other in notes):
                continue
            others = [other for other in notes if other is not old and other.status != "quarantined"]
            room = max_characters - sum(len(other.plain) for other in others)
            if len(note.plain) > room:
                text = cut(note.text, room - len(note.plain) + len(note.text))
                if (others and old is None) or not text:
                    remarks.append(f"A note of {len(note.plain)} characters was refused: only {max(0, room)} are left.")
                    continue
                remarks.append(f"The text was {len(note.plain)} characters long and was cut to {room}.")
                note = replace(note, text=text)
            if at is None:
                notes.append(note)
                made += 1
            else:
                notes[at] = note
        return replace(
            self,
            notes=tuple(notes),
            notes_made=made,
            rounds=self.rounds + 1,
            failed_in_a_row=0,
            is_done=revision.is_done,
            is_settled=tuple(notes) == self.notes and not remarks,
            remarks=tuple(remarks),
            changed=(*self.changed, changed_share(self.notes, notes, kept)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedContext:
    """The learned context *c′*: an immutable version of notes, and how they came about.

    `version` counts from 1 within a context; 0 means not published yet.
    `rounds`, `failed_rounds`, `usage` and `cost_usd` are sums over all samples.

    sections          fingerprints of the sections of the text it was learned from, in order
    plan              the model and the settings of its sleep, as text; None where they were not kept
    based_on          the version whose notes it began with, if it did not begin anew
    rolled_back_from  the version it publishes anew, if it is a rollback; its usage is then none
    by_hand           what a user changed in the version it is based on, such as "n3 pinned"; its usage is then none
    """

    context_id: str
    context_fingerprint: str
    notes: tuple[Note, ...]
    strategy: str
    model: str
    prompt_fingerprint: str
    usage: Usage
    cost_usd: float | None
    stop_reasons: tuple[StopReason, ...]
    rounds: int
    created_at: datetime
    failed_rounds: int = 0
    samples: int = 1
    version: int = 0
    sections: tuple[str, ...] = ()
    plan: str | None = None
    based_on: int | None = None
    rolled_back_from: int | None = None
    by_hand: str | None = None

    @property
    def shown(self) -> tuple[Note, ...]:
        """The notes an answer may see while the text is as it was: all but the quarantined ones."""
        return tuple(note for note in self.notes if note.status != "quarantined")

    @property
    def stop_reason(self) -> StopReason:
        """Why the sleep ended: the first sample's reason that is not a plain finish, else "finished"."""
        for reason in self.stop_reasons:
            if reason != "finished":
                return reason
        return "finished"


def concatenated(drafts: Sequence[Draft], kept: Sequence[Note] = ()) -> tuple[Note, ...]:
    """Join the notes of k parallel sleeps in order, numbered anew (the paper's way).

    Where they all began with notes *kept* of an earlier version, the first says what becomes of these,
    the others add what is new, and ids stay. So too where they began with what a user holds.
    """
    if not kept and not any(note.is_held for note in drafts[0].notes):
        notes = [note for draft in drafts for note in draft.notes]
        return tuple(replace(note, id=f"n{i}") for i, note in enumerate(notes, 1))
    first, *others = drafts
    joined = list(first.notes)
    new = [note for draft in others for note in draft.notes if note not in kept and not note.is_held]
    for number, note in enumerate(new, first.notes_made + 1):
        joined.append(replace(note, id=f"n{number}"))
    return tuple(joined)


def changed_share(before: Sequence[Note], after: Sequence[Note], kept: Sequence[Note] = ()) -> float:
    """Say how much of the notes' text the last round wrote: 1 for all, 0 for nothing. Notes *kept* do not count."""
    stood, aside = {note.plain for note in before}, {note.plain for note in kept}
    total = sum(len(note.plain) for note in after if note.plain not in aside)
    written = sum(len(note.plain) for note in after if note.plain not in stood and note.plain not in aside)
    return written / total if total else 0.0


def highest(notes: Sequence[Note]) -> int:
    """The highest number among the ids of *notes*, from which new ids go on."""
    return max((int(note.id[1:]) for note in notes if note.id[1:].isdecimal()), default=0)


def said(note: Note) -> str:
    """What tells notes apart for a user: their words, whatever their case and spaces."""
    return " ".join(note.plain.casefold().split())


def rendered(notes: Sequence[Note], style: Literal["text", "listed"]) -> str:
    """Write *notes* as the text a prompt shows, with a separator between samples.

    text    the notes' own words, a line each
    listed  each with its id and kind, so that a round can replace it by id
    """
    parts: dict[int, list[str]] = {}
    for note in notes:
        line = note.plain if style == "text" else f"[{note.id}] {note.kind}: {_labelled(note)}"
        parts.setdefault(note.sample, []).append(line)
    return SAMPLE_SEPARATOR.join("\n".join(lines) for lines in parts.values())


def _labelled(note: Note) -> str:
    return f"{note.question} => {note.text}" if note.question else note.text


def evidence(cites: Sequence[str], context: Context, notes: Sequence[Note]) -> tuple[Span, ...]:
    """Turn quotations, note ids, and files such as `src/a.py:10-20` into spans of the context.

    A file is the section that is headed by its path, which is all that a context says of it. What cannot be found, and
    a note without evidence, may stand for anything: EVERYWHERE.
    """
    known = {note.id: note for note in notes}
    spans: dict[Span, None] = {}
    for cite in cites:
        if not cite.strip():
            continue
        cited = known.get(cite.strip(" []"))
        path = _PLACE.fullmatch(cite.strip())
        if cited:
            found = cited.evidence
        elif cite.strip() == EVERYWHERE.section:
            found = ()
        else:
            found = (headed(context, path[1]) if path else ()) or context.locate(cite)
        spans.update(dict.fromkeys(found or (EVERYWHERE,)))
    return tuple(spans)


def cut(text: str, characters: int) -> str:
    """Cut *text* to at most *characters*: behind a line if one ends in the last half, else behind a word."""
    if len(text) <= characters:
        return text
    head = text[: max(0, characters)]
    line = head.rfind("\n")
    at = line if line > len(head) // 2 else max(line, head.rfind(" "))
    return head[:at].rstrip() if at > 0 else head
