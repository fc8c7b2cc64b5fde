"""How predictable queries are, told from those that did arrive: how many had been anticipated.

    anticipated   some anticipated note asks the same: same numbers, and most of the words of either in the other
    P(the next one is anticipated) ~ Beta(k·m + hits, k·(1 − m) + misses),  m = the share of its kind

Only queries that came after the note count: the caller passes the notes that stood then. Words are compared, not
meanings: a paraphrase with other words is missed, so the share is on the low side. No model is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sleeptime.core.notes import Note

SAME_SHARE = 0.6
"""Share of words two questions must have in common (Dice) to count as the same."""
KIND_QUERIES = 4.0
"""How many queries' worth the kind weighs against a context's own."""
_WORD = re.compile(r"\d+(?:[.,:/-]\d+)*|[^\W\d_]+", re.UNICODE)
_FILLERS_TEXT = """
a an and any are as at be been but by can could did do does for from had has have how i if in into is it its let me much
many my of on or our please shall should so tell than that the their them then there these they this those to was we
were what when where which who whom whose why will with would you your
"""
_FILLERS = frozenset(_FILLERS_TEXT.split())
_QUESTION_WORDS = frozenset({"how", "many", "much", "when", "where", "who", "whom", "whose", "why"})
_ENDINGS = ("ing", "ies", "ed", "es", "s", "e", "y")
_STEM_LETTERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A question as it is compared: stems of its words, its numbers, and what it asks for (how many, who, …)."""

    stems: frozenset[str]
    numbers: frozenset[str]
    asks: frozenset[str]


def words(question: str) -> Words:
    """Take *question* apart."""
    found = [word.casefold() for word in _WORD.findall(question)]
    return Words(
        stems=frozenset(_stem(word) for word in found if not word[0].isdigit() and word not in _FILLERS),
        numbers=frozenset(word.replace(",", "") for word in found if word[0].isdigit()),
        asks=frozenset(word for word in found if word in _QUESTION_WORDS),
    )


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _STEM_LETTERS:
            return word.removesuffix(ending)
    return word


def is_same(question: Words, other: Words, *, share: float = SAME_SHARE) -> bool:
    """Say whether two questions ask the same, by their words.

    Numbers must agree exactly. Where both say what they ask for, they must share a word of it: "who paid" is
    not "when paid"; "which" and "what" may ask for anything. A question of fillers alone is the same as none.
    """
    if question.numbers != other.numbers or not question.stems or not other.stems:
        return False
    if question.asks and other.asks and not question.asks & other.asks:
        return False
    common = len(question.stems & other.stems)
    return 2.0 * common >= share * (len(question.stems) + len(other.stems))


def was_anticipated(question: str, notes: Iterable[Note]) -> bool:
    """Say whether one of the *notes* that stood before it had anticipated *question*."""
    asked = words(question)
    return any(is_same(asked, words(note.question)) for note in notes if note.question)


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictability:
    """Belief about the share of queries that are anticipated: a Beta distribution."""

    hits: float = 1.0
    misses: float = 1.0

    def __post_init__(self) -> None:
        if not (self.hits > 0.0 and self.misses > 0.0):
            raise ValueError(f"a Beta distribution has parameters above zero: {self}")

    @property
    def share(self) -> float:
        return self.hits / (self.hits + self.misses)

    @property
    def variance(self) -> float:
        queries = self.hits + self.misses
        return self.share * (1.0 - self.share) / (queries + 1.0)

    def after(self, *, is_anticipated: bool) -> Predictability:
        """Count one query that arrived."""
        return Predictability(hits=self.hits + is_anticipated, misses=self.misses + (not is_anticipated))


def predictability(
    arrived: int, anticipated: int, *, kind: Predictability, weight: float = KIND_QUERIES
) -> Predictability:
    """Judge one context, of whose *arrived* queries some were *anticipated*, starting from its *kind*.

    The kind weighs at most *weight* queries, so that a context soon speaks for itself.
    """
    weight = min(weight, kind.hits + kind.misses)
    return Predictability(
        hits=weight * kind.share + anticipated,
        misses=weight * (1.0 - kind.share) + arrived - anticipated,
    )
