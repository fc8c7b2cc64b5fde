"""Find every number that a text states, in digits or in words.

    "Two dozen eggs at $1,250.50, 25% off" → 24, 1250.5, 25 (or 1/4)

Signs are left out, and so is what is glued to a letter before it: the 3 of "A3" is a name.
Known words are those of English up to the millions, parts (half, two thirds, a quarter),
dozens, and twice, double, triple. "A third" is a part and "the third" a place.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from sleeptime.evals.data.scorers import LONGEST_NUMBER

_UNIT_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TEN_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_PLACE_WORDS = "first second third fourth fifth sixth seventh eighth ninth tenth"
_UNITS = {word: value for value, word in enumerate(_UNIT_WORDS.split())}
_TENS = {word: 10 * value for value, word in enumerate(_TEN_WORDS.split(), start=2)}
_PLACES = {word: value for value, word in enumerate(_PLACE_WORDS.split(), start=1)}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6}
_DOZENS = {"dozen": 12, "dozens": 12}
_TIMES = {"twice": 2, "double": 2, "doubled": 2, "doubles": 2, "triple": 3, "tripled": 3, "triples": 3, "thrice": 3}
_PART_ALONE = {"half": 2, "quarter": 4}
_PARTS = (
    _PART_ALONE
    | {"halves": 2, "quarters": 4}
    | {f"{word}{ending}": value for word, value in _PLACES.items() if value > 2 for ending in ("", "s")}
)

_DIGITS = r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+"
_WRITTEN = re.compile(
    rf"""(?<![\w.])
    (?: (?P<whole>[0-9]+)[ ]+(?P<part>[0-9]+)/(?P<of>[0-9]+)
      | (?P<over>[0-9]+)[ ]?/[ ]?(?P<under>[0-9]+)
      | (?P<plain>(?:{_DIGITS})(?:\.[0-9]+)?|\.[0-9]+) )
    (?: (?P<place>st|nd|rd|th)\b | [ ]?(?P<scale>thousand|million)\b )?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_WORDS = re.compile(r"[a-z]+", re.IGNORECASE)
_PERCENT = re.compile(r"[ -]?(?:%|per ?cent\b|percentage points?\b)", re.IGNORECASE)
_REFERS_BACK = re.compile(r"\b(?:the|all|these|those|both|his|her|its|their|our|your)\s+$", re.IGNORECASE)
_VULGAR = re.compile("[¼-¾⅐-⅞]")

REACH = 12
"""How far before a number a word that refers back is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number as a text states it, from `start` to `end`. `values` are what it may stand for: 25 % is 25 and 1/4.

    `is_place` is true of "third" and "3rd", and `refers_back` of "the three".
    """

    values: frozenset[Fraction]
    start: int
    end: int
    text: str
    is_place: bool = False
    refers_back: bool = False


@lru_cache(maxsize=64)  # every query about a context reads the context again
def numbers_in(text: str) -> tuple[Number, ...]:
    """Find every number that *text* states, in the order they stand."""
    text = spelled(text)
    found = list(_in_digits(text))
    taken = [(number.start, number.end) for number in found]
    found += [
        number
        for number in _in_words(text)
        if not any(number.start < end and start < number.end for start, end in taken)
    ]
    return tuple(sorted(found, key=lambda number: number.start))


def values_of(numbers: Iterable[Number]) -> set[Fraction]:
    """All that *numbers* may stand for."""
    return {value for number in numbers for value in number.values}


def spelled(text: str) -> str:
    """Write ½ as 1/2, so that the places of numbers can be told in the text that is read."""
    return _VULGAR.sub(lambda match: " " + unicodedata.normalize("NFKC", match[0]).replace("\u2044", "/"), text)


def _in_digits(text: str) -> Iterator[Number]:
    for match in _WRITTEN.finditer(text):
        value = _fraction(match)
        if value is None:
            continue
        if match["scale"]:
            value *= _SCALES[match["scale"].lower()]
        yield _number(text, match.start(), match.end(), value, is_place=match["place"] is not None)


def _fraction(match: re.Match[str]) -> Fraction | None:
    if len(match[0]) > LONGEST_NUMBER:
        return None
    if match["of"]:
        return int(match["whole"]) + Fraction(int(match["part"]), int(match["of"])) if int(match["of"]) else None
    if match["under"]:
        return Fraction(int(match["over"]), int(match["under"])) if int(match["under"]) else None
    return Fraction(match["plain"].replace(",", ""))


def _in_words(text: str) -> Iterator[Number]:
    """Read runs of number words: twenty-four, two hundred and five, three dozen, two thirds, a quarter, twice."""
    words = list(_WORDS.finditer(text))
    i = 0
    while i < len(words):
        read = _run(text, words, i)
        if read is None:
            i += 1
            continue
        last, value, is_place = read
        yield _number(text, words[i].start(), words[last].end(), value, is_place=is_place)
        i = last + 1


def _run(text: str, words: Sequence[re.Match[str]], first: int) -> tuple[int, Fraction, bool] | None:
    """The longest number that begins with the word *first*: its last word, its value, and whether it is a place."""
    word = words[first][0].lower()
    if word in _TIMES:
        return first, Fraction(_TIMES[word]), False
    if word in _DOZENS:
        return first, Fraction(_DOZENS[word]), False
    if word in _PART_ALONE:
        return first, Fraction(1, _PART_ALONE[word]), False
    if word == "a" and (following := _next(text, words, first)) and following in _PARTS:
        return first + 1, Fraction(1, _PARTS[following]), False
    if word in _PLACES:
        return first, Fraction(_PLACES[word]), True
    if word not in _UNITS and word not in _TENS:
        return None
    total, below, last = 0, _UNITS.get(word, _TENS.get(word, 0)), first
    is_open_ten = word in _TENS
    while following := _next(text, words, last):
        if following in _UNITS and 0 < _UNITS[following] < 10 and is_open_ten:
            below, is_open_ten = below + _UNITS[following], False
        elif following in _SCALES:
            scale = _SCALES[following]
            total, below = (total, below * scale) if scale == 100 else (total + below * scale, 0)
            is_open_ten = False
        elif following == "and" and _after_scale(text, words, last):
            last += 1
            continue
        elif (following in _UNITS or following in _TENS) and words[last][0].lower() in (*_SCALES, "and"):
            below, is_open_ten = below + _UNITS.get(following, _TENS.get(following, 0)), following in _TENS
        else:
            break
        last += 1
    following, value = _next(text, words, last), total + below
    if following in _DOZENS:
        return last + 1, Fraction(value * _DOZENS[following]), False
    if following in _PARTS and value:
        return last + 1, Fraction(value, _PARTS[following]), False
    return last, Fraction(value), False


def _next(text: str, words: Sequence[re.Match[str]], at: int) -> str:
    """The word behind the word *at*, if only a space or a hyphen stands between."""
    if at + 1 == len(words) or text[words[at].end() : words[at + 1].start()] not in (" ", "-"):
        return ""
    return words[at + 1][0].lower()


def _after_scale(text: str, words: Sequence[re.Match[str]], last: int) -> bool:
    """Whether an "and" behind the word *last* joins a number, as in "two hundred and five"."""
    following = _next(text, words, last + 1)
    return words[last][0].lower() in _SCALES and (following in _UNITS or following in _TENS)


def _number(text: str, start: int, end: int, value: Fraction, *, is_place: bool) -> Number:
    percent = _PERCENT.match(text, end)
    return Number(
        values=frozenset({value, value / 100} if percent else {value}),
        start=start,
        end=percent.end() if percent else end,
        text=text[start : percent.end() if percent else end],
        is_place=is_place,
        refers_back=_REFERS_BACK.search(text[max(0, start - REACH) : start]) is not None,
    )
