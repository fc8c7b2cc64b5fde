"""Tell notes that a repository's own documents say already, which are no help to whoever reads those anyway.

    covered(note) = the most, over passages, of  Σ rarity of the note's words in the passage / Σ rarity of its words

A note whose rare words nearly all stand in one passage of a document says what it says, in whatever order. A number or
an identifier that no document holds is the rarest of words, so a note that adds one is kept. The measure sees words and
no meaning: a note that denies a passage in its own words is taken for it.

This file does not know where documents come from.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from sleeptime.core.notes import Note
from sleeptime.core.words import words

COVERED = 0.8
LEAST_WORDS = 4
"""A note of fewer words is too short to be judged."""

_PASSAGE = re.compile(r"\n(?:[^\S\n]*\n)+|\n(?=[#*\-] )")


def passages(documents: Iterable[str]) -> tuple[frozenset[str], ...]:
    """The words of each paragraph or item of *documents*."""
    parts = (part for document in documents for part in _PASSAGE.split(document))
    return tuple(found for part in parts if (found := frozenset(words(part))))


def covered(text: str, of: Sequence[frozenset[str]]) -> float:
    """How much of what *text* says stands in the nearest of the passages: 0 to 1."""
    return _covered(text, of, Counter(word for passage in of for word in passage))


def redundant(notes: Iterable[Note], of: Sequence[frozenset[str]]) -> tuple[Note, ...]:
    """Those of *notes* that one of the passages says already."""
    holding = Counter(word for passage in of for word in passage)
    return tuple(note for note in notes if _covered(note.text, of, holding) >= COVERED)


def _covered(text: str, of: Sequence[frozenset[str]], holding: Counter[str]) -> float:
    said = frozenset(words(text))
    if len(said) < LEAST_WORDS:
        return 0.0
    rarity = {word: math.log((len(of) + 1) / (holding[word] + 0.5)) for word in said}
    whole = sum(rarity.values())
    return max((sum(rarity[word] for word in said & passage) for passage in of), default=0.0) / whole if whole else 0.0
