"""What the pages of contexts show: lines of the list, a text with its evidence, versions and their differences.

    blocks(context, notes) → sections of the text, cut where evidence begins and ends

Pure; knows no store and no HTML.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from sleeptime.core import staleness
from sleeptime.core.context import EVERYWHERE, Context
from sleeptime.core.deciding import Decision
from sleeptime.core.notes import LearnedContext, Note
from sleeptime.core.shown import Listed, State
from sleeptime.core.watching import TOKENS
from sleeptime.server.dashboard import words

MOST_CHARACTERS = 200_000
"""Characters of a text that its page shows; the whole is a link away."""
_WORD = re.compile(r"\s+|\w+|[^\w\s]")

WORDS_OF_REASONS: Mapping[str, str] = {
    "pays": "sleep: it pays",
    "due": "sleep: it is due",
    "no-saving": "leave: nothing to save",
    "wait": "wait: too few queries to come",
    "doubt": "wait: the forecast is not believed yet",
    "not-due": "wait: not due yet",
    "guard": "held back by the guard",
    "cap": "held back by a cap",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the table of contexts."""

    id: str
    name: str
    state: State
    notes: str
    size: str
    queries: str
    asked: str
    value: str
    decision: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of text that the same notes rest on."""

    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One section of a text. `number` counts from 1."""

    number: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteLine:
    """A note as its card shows it. `evidence` says in words what it rests on."""

    note: Note
    is_stale: bool
    evidence: str
    rests_on_all: bool

    @property
    def is_shown(self) -> bool:
        """Whether answers see it."""
        return not self.is_stale and self.note.status != "quarantined"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLine:
    """One version in the list of them."""

    number: int
    at: datetime
    came: str
    notes: str
    spent: str
    is_newest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A note of a comparison: its words before and after as runs of (sort, text): same, gone, new."""

    verb: str
    id: str
    kind: str
    runs: tuple[tuple[str, str], ...]
    why: str = ""


def line(listed: Listed, decision: Decision | None, now: datetime) -> Line:
    """Write one line of the table. *decision* is what would be decided now."""
    watched = listed.watched
    return Line(
        id=listed.id,
        name=listed.name,
        state=listed.state,
        notes=words.count(listed.notes, "note") if listed.versions else "–",
        size=words.number(listed.characters),
        queries=words.number(watched.seen.queries),
        asked="never" if not watched.seen.queries else words.ago(_moment(watched.seen.last_days, now), now),
        value="–" if decision is None else _value(decision),
        decision=WORDS_OF_REASONS.get(watched.reason, "not decided yet" if watched.parts else "all of it has notes"),
        sentence=listed.decided.sentence if listed.decided and watched.reason else "",
    )


def _moment(in_days: float, now: datetime) -> datetime:
    return datetime.fromtimestamp(in_days * 86_400, tz=now.tzinfo)


def _value(decision: Decision) -> str:
    """Expected net saving of sleeping now, with its sign."""
    net = decision.net_saving
    if decision.prospect.unit == TOKENS:
        return f"{'+' if net > 0 else ''}{words.tokens(round(net))}"
    return f"{'+' if net > 0 else ''}{words.money(net)}"


def blocks(context: Context, notes: Sequence[Note], *, most: int = MOST_CHARACTERS) -> tuple[Block, ...]:
    """Cut the text into its sections, and these where the evidence of *notes* begins and ends."""
    spans: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for note in notes:
        for span in note.evidence:
            if span != EVERYWHERE:
                spans[span.section].append((span.start, span.end, note.id))
    found: list[Block] = []
    for number, section in enumerate(context.sections, 1):
        if section.start >= most:
            break
        text = context.text[section.start : min(section.end, most)].rstrip("\n")
        found.append(Block(number=number, pieces=_pieces(text, spans.get(section.fingerprint, []))))
    return tuple(found)


def _pieces(text: str, spans: Sequence[tuple[int, int, str]]) -> tuple[Piece, ...]:
    ends = sorted({0, len(text), *(min(end, len(text)) for span in spans for end in span[:2])})
    pieces: list[Piece] = []
    for start, end in pairwise(ends):
        here = tuple(dict.fromkeys(note for first, last, note in spans if first < end and last > start))
        pieces.append(Piece(text=text[start:end], notes=here))
    return tuple(pieces)


def note_lines(learned: LearnedContext, context: Context) -> tuple[NoteLine, ...]:
    """The notes of a version beside the text as it is now."""
    stale = staleness.stale(learned, context)
    here = {fingerprint: number for number, fingerprint in reversed(list(enumerate(context.fingerprints, 1)))}
    return tuple(
        NoteLine(
            note=note,
            is_stale=note.id in stale,
            evidence=_evidence(note, here),
            rests_on_all=not note.evidence or EVERYWHERE in note.evidence,
        )
        for note in learned.notes
    )


def _evidence(note: Note, here: Mapping[str, int]) -> str:
    """Say in which sections of today's text the evidence stands."""
    if not note.evidence or EVERYWHERE in note.evidence:
        return "the whole text"
    numbers = sorted({here[span.section] for span in note.evidence if span.section in here})
    gone = len({span.section for span in note.evidence if span.section not in here})
    told = ", ".join(f"§{number}" for number in numbers[:6]) + (" …" if len(numbers) > 6 else "")
    if gone:
        told += f"{', ' if told else ''}{words.count(gone, 'section')} no longer in the text"
    return told


def version_lines(versions: Sequence[LearnedContext]) -> tuple[VersionLine, ...]:
    """All versions, newest first."""
    newest = versions[-1].version if versions else 0
    return tuple(
        VersionLine(
            number=each.version,
            at=each.created_at,
            came=came(each),
            notes=words.count(len(each.notes), "note"),
            spent=_spent(each),
            is_newest=each.version == newest,
        )
        for each in reversed(versions)
    )


def came(learned: LearnedContext) -> str:
    """Say how a version came about."""
    if learned.by_hand:
        return f"by hand: {learned.by_hand}, in version {learned.based_on}"
    if learned.rolled_back_from:
        return f"rolled back to version {learned.rolled_back_from}"
    begun = f", begun with version {learned.based_on}" if learned.based_on else ""
    samples = f", {words.count(learned.samples, 'sample')}" if learned.samples > 1 else ""
    return f"{words.count(learned.rounds, 'round')} of {learned.model}{samples}{begun}; ended: {learned.stop_reason}"


def _spent(learned: LearnedContext) -> str:
    if learned.by_hand or learned.rolled_back_from:
        return "spent nothing"
    cost = f", {words.money(learned.cost_usd)}" if learned.cost_usd else ""
    return f"{words.tokens(learned.usage.output_tokens)}{cost}"


def runs(before: str, after: str) -> tuple[tuple[str, str], ...]:
    """The words of two texts as runs that are the same, gone or new."""
    old, new = _WORD.findall(before), _WORD.findall(after)
    found: list[tuple[str, str]] = []
    for verb, i, j, k, n in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if verb == "equal":
            found.append(("same", "".join(old[i:j])))
            continue
        if j > i:
            found.append(("gone", "".join(old[i:j])))
        if n > k:
            found.append(("new", "".join(new[k:n])))
    return tuple(found)
