"""What a sleep on an edited text begins with, and what of the text its rounds are shown.

    Changes = notes that still stand + the text around what is new

Shown are the sections that are new, each with a little of what stands around it under its
heading, and the sections that notes rested on which are stale now. New text stands between
`<changed>` and `</changed>`, `[…]` where something is left out. Of the notes that stand, those
are shown that rest on what is shown or share rare words with it, as far as there is room; all are
kept. So a round costs in proportion to the edit, not to the text.

The whole text is shown where most of it is new, where most of the notes are gone, or where the
earlier sleep had not come to an end. This file does not know prompts or models.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from sleeptime.core.context import Context, Section
from sleeptime.core.fences import disarmed
from sleeptime.core.holding import held_over
from sleeptime.core.notes import COMPLETE, Draft, LearnedContext, Note, highest
from sleeptime.core.staleness import new_sections, stale_ids

LEAST_AROUND, MOST_AROUND = 50, 200
"""Characters shown before and behind a stretch of new text: an eighth of it, within these."""
LEAST_ASIDE = 800
"""Characters that earlier sections, and again earlier notes, may take; a quarter of the new text if that is more."""
GAP = "[…]"
_MARKS = ("changed",)

_WORD = re.compile(r"\w+")
_HEADING = re.compile(r"#{1,6} |=== ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a sleep on an edited text begins with.

    base        the version whose notes are kept
    kept        its notes that still stand, and stale ones that a user pinned or quarantined, which are hidden
    hidden      ids of kept notes that a round need not see
    notes_made  the highest number of a note's id in it, from which ids go on
    text        what is shown of the text, new parts marked; empty if nothing is left to think about
    is_whole    whether that is all of it
    """

    base: LearnedContext
    kept: tuple[Note, ...]
    hidden: frozenset[str]
    notes_made: int
    text: str
    is_whole: bool

    def draft(self, sample: int) -> Draft:
        """What a sample begins with."""
        return Draft(notes=self.kept, notes_made=self.notes_made, sample=sample)

    def seen(self, notes: Sequence[Note]) -> tuple[Note, ...]:
        """Those of *notes* that a round sees."""
        return tuple(note for note in notes if note.id not in self.hidden)


def changes(context: Context, base: LearnedContext) -> Changes:
    """Find what *context* asks of a sleep that begins with the notes of *base*."""
    sections, after = context.sections, context.fingerprints
    stale = stale_ids(base.notes, base.sections, after)
    stands = tuple(note for note in base.notes if note.id not in stale)
    kept = tuple(
        held_over(note, is_stale=note.id in stale) for note in base.notes if note.id not in stale or note.is_held
    )
    quarantined = frozenset(note.id for note in kept if note.status == "quarantined")
    new = new_sections(base.sections, after)
    stretches = _stretches(sections, new)
    length = sum(end - start for start, end in stretches)
    aside = max(LEAST_ASIDE, length // 4)
    rested_on = {span.section for note in base.notes if note.id in stale for span in note.evidence}
    is_new = set(new)
    again = _within(aside, [s for i, s in enumerate(sections) if s.fingerprint in rested_on and i not in is_new])
    shown = _merged([*_around(context, stretches), *((section.start, section.end) for section in again)])
    is_whole = (
        base.stop_reason not in COMPLETE
        or 2 * len(stands) < len(base.notes)
        or 2 * sum(end - start for start, end in _merged([*shown, *stretches])) > len(context.text)
    )
    if is_whole:
        shown, hidden = [(0, len(context.shown))], quarantined
    else:
        seen = {section.fingerprint for section in sections if _touches(section, shown)}
        words = " ".join(context.text[start:end] for start, end in stretches)
        hidden = quarantined | _unrelated(kept, seen, words, aside)
    return Changes(
        base=base,
        kept=kept,
        hidden=hidden,
        notes_made=highest(base.notes),
        text=_marked(context.shown, stretches, shown) if stretches or again or is_whole else "",
        is_whole=is_whole,
    )


def _stretches(sections: Sequence[Section], positions: Iterable[int]) -> list[tuple[int, int]]:
    """Join neighbouring sections to stretches of text."""
    found: list[tuple[int, int]] = []
    for _, run in groupby(enumerate(positions), key=lambda item: item[1] - item[0]):
        members = [position for _, position in run]
        found.append((sections[members[0]].start, sections[members[-1]].end))
    return found


def _within(characters: int, sections: Iterable[Section]) -> list[Section]:
    """The first of *sections* that fit."""
    fitting: list[Section] = []
    for section in sections:
        characters -= section.end - section.start
        if characters < 0:
            break
        fitting.append(section)
    return fitting


def _around(context: Context, stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """A little text before and behind each stretch, in whole words, and the first line of the heading above it."""
    text = context.text
    headings = [section.start for section in context.sections if _HEADING.match(text, section.start)]
    found: list[tuple[int, int]] = []
    for start, end in stretches:
        most = min(MOST_AROUND, max(LEAST_AROUND, (end - start) // 8))
        before = text[max(0, start - most) : start]
        if len(before) == most:
            before = before.partition(" ")[2]
        behind = text[end : end + most]
        if len(behind) == most:
            behind = behind.rpartition(" ")[0]
        found += [(start - len(before), start), (end, end + len(behind))]
        above = max((at for at in headings if at < start), default=None)
        if above is not None:
            found.append((above, min(start, _line_end(text, above))))
    return found


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _merged(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same text as stretches that neither touch nor overlap, in order."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _touches(section: Section, stretches: Sequence[tuple[int, int]]) -> bool:
    """Whether *section* overlaps one of *stretches*, which are in order."""
    at = bisect_left(stretches, (section.end, 0)) - 1
    return at >= 0 and stretches[at][1] > section.start


def _marked(text: str, changed: Sequence[tuple[int, int]], shown: Sequence[tuple[int, int]]) -> str:
    """Write the *shown* and *changed* stretches of *text*, with marks around the latter and gaps between."""
    written: list[str] = []
    at = 0
    inside = iter([*_merged(changed), (len(text) + 1, len(text) + 1)])
    begin, finish = next(inside)
    for start, end in _merged([*shown, *changed]):
        if start > at:
            written.append(GAP)
        at, stop = start, min(end, len(text))
        while begin < stop:
            new = disarmed(text[begin:finish].strip(), _MARKS)
            written += [disarmed(text[at:begin].strip("\n"), _MARKS), f"<changed>\n{new}\n</changed>"]
            at = finish
            begin, finish = next(inside)
        written.append(disarmed(text[at:stop].strip("\n"), _MARKS))
        at = end
    if at < len(text):
        written.append(GAP)
    return "\n".join(part for part in written if part.strip())


def _unrelated(kept: Sequence[Note], seen: set[str], text: str, characters: int) -> frozenset[str]:
    """The ids of notes that a round can do without: all but the nearest to *text* that fit into *characters*.

    Nearest are notes that rest on sections *seen*, then those that share the rarest words.
    """
    words = {note.id: set(_WORD.findall(note.plain.lower())) for note in kept}
    notes_with = Counter(word for found in words.values() for word in found)
    here = set(_WORD.findall(text.lower()))

    def nearness(note: Note) -> float:
        shared = sum(1 / notes_with[word] for word in words[note.id] & here)
        return shared + (1 if any(span.section in seen for span in note.evidence) else 0)

    hidden = {note.id for note in kept}
    for note in sorted(kept, key=nearness, reverse=True):
        characters -= len(note.plain)
        if characters < 0:
            break
        hidden.discard(note.id)
    return frozenset(hidden)
