"""Say what is wrong with a generated query, by its words alone: no model is asked.

    duplicate_of(…)        the query it repeats
    gives_away(…)          whose answer it tells, its own included
    new_facts(…)           what it states that its context does not

A number gives an answer away where it equals it and the context does not state it. Where
the context does, that proves nothing by itself: then the clause around the number must also
speak the other question's words, and speak more of them than any sentence of the context
with that number.

Not new are: the numbers of the context, also as percent, fraction or word; 1 and 100 percent;
places up to the tenth; and a count up to ten behind a word that refers back ("the three",
"all four"). Signs are ignored: "5 fewer" gives −5 away.

What these rules cannot see: facts without a number, and what is known to everybody (60
minutes an hour), which they take for new.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from sleeptime.evals.data.scorers import answer_in, is_number
from sleeptime.evals.queries.stated_numbers import Number, numbers_in, spelled, values_of

OVERLAP = 0.75
"""Share of their meaningful words that two questions with one answer have in common when they count as one question."""
COVERAGE = 0.6
"""Share of a question's meaningful words that a clause speaks when it speaks of the same thing."""
LEAST_SHARED = 2
SMALL = 10

_SENTENCES = re.compile(r"(?<=[.?!;])\s+|\n+")
_CLAUSES = re.compile(
    r"(?<=[.?!;,:])\s+|\s+(?=(?:if|given|knowing|since|because|after|when|assuming)\b)", re.IGNORECASE
)
_ASKING = re.compile(r"\b(?:how|what|which|who|whose|when|where|find|calculate|determine)\b", re.IGNORECASE)
_TOKENS = re.compile(r"[^\W_]+")
_WITHOUT_MEANING = (
    "a an the and or of in on at to for from by with as per than then that this these those it its is are was were "
    "be been being do does did have has had will would can could should may might shall if given after before when "
    "while how what which who whose whom where why many much there their they them he she his her him i we you our "
    "your my me so but all any some each every both s also just only now get gets got"
)
_FUNCTION_WORDS = frozenset(_WITHOUT_MEANING.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question with its answer, one number in the scorers' spelling."""

    question: str
    answer: str


def number_of(text: str) -> str | None:
    """Read an answer that is one number, with or without a unit; None where it is none or several."""
    if is_number(text) or len(numbers_in(text)) == 1:
        return answer_in(text, "number")
    return None


def duplicate_of(asked: Asked, others: Sequence[Asked]) -> str | None:
    """The question among *others* that *asked* repeats: in the same words, or in nearly the same to the same answer."""
    own, words = _folded(asked.question), _meaningful(asked.question)
    for other in others:
        if _folded(other.question) == own:
            return other.question
        theirs = _meaningful(other.question)
        shared, united = len(words & theirs), len(words | theirs)
        if other.answer == asked.answer and united and shared / united >= OVERLAP:
            return other.question
    return None


def gives_away(stating: Asked, other: Asked, context: str) -> str | None:
    """Say how *stating* tells the answer to *other*, which may be itself; None where it does not."""
    answer = _value(other.answer)
    is_known = answer in values_of(numbers_in(context))
    about = _meaningful(_asking_clause(other.question))
    for clause in _clauses(stating.question):
        is_telling = other is not stating or clause != _asking_clause(stating.question)
        for number in numbers_in(clause):
            if number.is_place or number.text.lower() == "one" or answer not in number.values:
                continue
            tells = is_telling and _tells_more(clause, about, _sentences_with(answer, context))
            if tells or not is_known:
                whose = "its own answer" if other is stating else f"the answer to {other.question!r}"
                return f"{number.text!r} is {whose}"
    return None


def new_facts(question: str, context: str) -> list[str]:
    """The numbers that *question* states and *context* does not, as they are written."""
    known = values_of(numbers_in(context))
    return [number.text for number in numbers_in(question) if not (number.values & known or _is_harmless(number))]


def _is_harmless(number: Number) -> bool:
    if Fraction(1) in number.values:  # one, or 100 percent
        return True
    return all(value <= SMALL for value in number.values) and (number.is_place or number.refers_back)


def _tells_more(clause: str, about: set[str], sentences: Sequence[str]) -> bool:
    spoken = about & _meaningful(clause)
    if len(spoken) < LEAST_SHARED or len(spoken) < COVERAGE * len(about):
        return False
    return all(len(about & _meaningful(sentence)) < len(spoken) for sentence in sentences)


def _sentences_with(value: Fraction, context: str) -> list[str]:
    return [sentence for sentence in _SENTENCES.split(spelled(context)) if value in values_of(numbers_in(sentence))]


def _clauses(text: str) -> list[str]:
    """Cut behind marks, and before words such as "if"."""
    return _CLAUSES.split(spelled(text))


def _asking_clause(question: str) -> str:
    """The last clause that asks; the last of all where none does."""
    clauses = _clauses(question)
    return next((clause for clause in reversed(clauses) if _ASKING.search(clause)), clauses[-1])


def _value(answer: str) -> Fraction:
    """The size of an answer in the scorers' spelling."""
    return abs(Fraction(answer))


def _folded(text: str) -> str:
    return " ".join(_TOKENS.findall(unicodedata.normalize("NFKC", text).casefold()))


def _meaningful(text: str) -> set[str]:
    """Words that carry meaning, without the s of a plural, and numbers."""
    words = [word for word in _folded(text).split() if word not in _FUNCTION_WORDS]
    return {word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words}
