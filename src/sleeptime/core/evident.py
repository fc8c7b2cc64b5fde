"""Whether a note says what the documentation says already: such a note costs tokens and tells nothing.

    covered(note, passage) = Σ rarity(words of both) / Σ rarity(words of the note)      evident: 0.8 in one passage

A passage is a paragraph with the next one. A word is rarer the fewer passages hold it; one that none holds, such as the
path of a file that no page mentions, is rarest. Words are compared, not meanings: a note that says the same in other
words is kept, and one that only turns a sentence around, or negates it, is not.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

COVERED = 0.8
FEWEST_WORDS = 3
"""A note of fewer words than that is no sentence, and is not judged."""
_PARAGRAPH = re.compile(r"\n(?:[^\S\n]*\n)+")
_WORD = re.compile(r"[\w./-]*\w")
_LITTLE = frozenset(
    _WORD.findall("""a an and are as at be been but by can do does each every for from has have if in into is it its not
    of on one or so such than that the their them then there these they this to was were what when where which who will
    with you your""")
)


@dataclass(frozen=True, slots=True)
class Documentation:
    """What documents say, cut into passages. Make it with `Documentation.of`."""

    passages: tuple[frozenset[str], ...]
    rarity: dict[str, float]
    rarest: float

    @classmethod
    def of(cls, documents: Sequence[str]) -> Documentation:
        """Cut *documents* into passages."""
        passages: list[frozenset[str]] = []
        for document in documents:
            paragraphs = [_words(paragraph) for paragraph in _PARAGRAPH.split(document)]
            passages += [
                here | after for here, after in zip(paragraphs, [*paragraphs[1:], frozenset[str]()], strict=True)
            ]
        holding = Counter(word for passage in passages for word in passage)
        return cls(
            passages=tuple(passages),
            rarity={word: math.log(1 + len(passages) / count) for word, count in holding.items()},
            rarest=math.log(2 + 2 * len(passages)),
        )

    def says(self, text: str) -> bool:
        """Whether one passage covers *text*."""
        words = _words(text)
        if len(words) < FEWEST_WORDS:
            return False
        weights = {word: self.rarity.get(word, self.rarest) for word in words}
        wanted = COVERED * sum(weights.values())
        return any(sum(weights[word] for word in words & passage) >= wanted for passage in self.passages)


NOTHING = Documentation(passages=(), rarity={}, rarest=0.0)
"""No documentation."""


def _words(text: str) -> frozenset[str]:
    return frozenset(word for word in map(str.lower, _WORD.findall(text)) if word not in _LITTLE)
