"""What an arm is shown in place of all notes of one sleep: half of them, what many samples agree on, the context again.

Pure. This file knows nothing about models or arms.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from itertools import groupby

from sleeptime.core.context import Context
from sleeptime.core.notes import LearnedContext, Note

_LAST_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?=\D*$)")


def halved(learned: LearnedContext) -> LearnedContext:
    """Keep half of the notes, as a sleep with half the room would: what it set out to find goes first.

    Anticipated queries come first, then the conclusions of each chain of reasoning in the
    order the model chose to draw them, then their steps. Notes written side by side from
    the same evidence are one chain, and the last of them is its conclusion.
    """
    chained = [list(chain) for _, chain in groupby(learned.shown, key=lambda note: note.evidence or note.id)]
    ends = [chain[-1] for chain in chained]
    steps = [note for chain in chained for note in chain[:-1]]
    ranked = sorted([*ends, *steps], key=lambda note: note.kind != "anticipated")
    kept = {note.id for note in ranked[: (len(ranked) + 1) // 2]}
    return replace(learned, notes=tuple(note for note in learned.shown if note.id in kept))


def merged(learned: LearnedContext) -> LearnedContext:
    """Say once what several samples noted, what most of them noted first.

    Of notes that differ in their last number alone, the one that most samples have is kept,
    unless one sample wrote both, which shows that they are about two things. Parallel samples
    are independent draws, so a note that many made is likelier right (self-consistency,
    arXiv 2203.11171). Ties go to the note written first.
    """
    backers = defaultdict[str, set[int]](set)
    first: dict[str, Note] = {}
    for note in learned.shown:
        text = " ".join(note.plain.split()).casefold()
        backers[text].add(note.sample)
        first.setdefault(text, note)
    ranked = sorted(first, key=lambda text: -len(backers[text]))  # stable: ties in the order they were written
    rivals = defaultdict[str, list[str]](list)
    kept: list[Note] = []
    for text in ranked:
        others = rivals[_LAST_NUMBER.sub("#", text)]
        if all(backers[text] & backers[other] for other in others):
            others.append(text)
            kept.append(replace(first[text], id=f"n{len(kept) + 1}", sample=0))
    return replace(learned, notes=tuple(kept))


def restated(learned: LearnedContext, context: Context) -> LearnedContext:
    """Say the context again in place of its notes, cut or repeated to as many characters as they have."""
    length = sum(len(note.plain) for note in learned.shown)
    text = context.shown + "\n"
    again = (text * (length // len(text) + 1))[:length].strip()
    return replace(learned, notes=(Note(id="n1", text=again),) if again else ())
