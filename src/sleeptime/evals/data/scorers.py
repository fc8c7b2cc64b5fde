"""Read the answer that a reply gives, and compare it with the target.

    answer_in(text, kind)          → what the reply says, in one spelling, or None
    is_correct(text, target, kind) → whether that is the target

A reply states its answer after words such as "the answer is", in a box, or after `####`;
the last of these statements counts, because a reply may correct itself. Only a reply
without any is read by its last number, letter or line.

Numbers compare as exact fractions, whatever their spelling: 45 = 45.0 = $45 = 45%, and
1/2 = 0.5. Where one of both is written with six or more decimals, a rounded quotient or the
noise of a float, they are equal within one part in a million. Otherwise 45.01 is not 45, and
1,000,001 is not 1,000,000. A number is not converted: 0.45 is not 45%.

This file knows nothing about numbers in words (forty-five), other bases, or sums left undone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from sleeptime.evals.data import chains

AnswerKind = Literal["number", "integer", "choice", "stated", "text"]

TOLERANCE = Fraction(1, 1_000_000)
ROUNDED_DECIMALS = 6
LONGEST_NUMBER = 60
"""Characters. What is longer is no answer, and would be slow to compute with."""
LONGEST_STATEMENT = 300
LARGEST_EXPONENT = 30
MOST_STATEMENTS = 20
TAIL = 20_000
"""Characters at the end of a reply in which its last number, letter or line is looked for."""

_CLEANED = [
    (re.compile(r"[*_`]{2,}|`|(?<!\w)[*_](?=[\w$\\-])|(?<=[\w.%])[*_](?![\w*(])"), ""),
    (re.compile(r"(?<=\d)(?:\\[,;:! ]|\{,\})(?=\d{3})|(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))"), ","),
    (re.compile(r"\\[dt]?frac *\{ *([^{}\\]{1,40}) *\} *\{ *([^{}\\]{1,40}) *\}"), r" \1/\2 "),
    (re.compile(r"\\[dt]?frac *(\d) *(\d)"), r" \1/\2 "),
    (re.compile(r"\\(?:text|textbf|mathbf|mathrm|textit|mbox|rm|bf) *\{([^{}]{0,200})\}"), r" \1 "),
    (re.compile(r"\\(?:times|cdot)(?![a-zA-Z])"), "×"),
    (re.compile(r"\\(?=[$%#&_()\[\]])"), ""),
    (re.compile(r"\\[,;:! ]|\\(?:quad|left|right|displaystyle)(?![a-zA-Z])|[\u00a0\u2009\u202f]"), " "),
    (re.compile(r"[−‒–﹣－]"), "-"),  # noqa: RUF001 - the dashes that stand for a minus sign
    (re.compile(r"\u2044"), "/"),
]
_VULGAR = str.maketrans({"½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3", "⅕": " 1/5", "⅛": " 1/8"})

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_NUMBER = re.compile(
    rf"""
    (?<![\w.:/^]) (?<![0-9],) (?<![0-9]:)
    (?P<minus>(?<![)\]}}$€£¥]) (?<![)\]}}][ ]) -(?:(?<==[ ]-)[ ])?(?=[$€£¥.0-9]) | (?:negative|minus)[ ])?
    (?:[$€£¥₣₺₹][ ]?)?
    (?P<inner>-(?=[0-9.]))?
    (?:
        (?P<whole>[0-9]+)[ ]+(?P<part>[0-9]+)/(?P<of>[0-9]+)(?![0-9/])
      | (?P<over>{_DIGITS})[ ]?/[ ]?(?P<under>{_DIGITS})(?![0-9/])
      | (?P<plain>{_DIGITS}(?:\.[0-9]+)?|\.[0-9]+)
        (?:[eE](?P<e>[+-]?[0-9]+)(?!\w)|[ ]?[×x*][ ]?10[ ]?\^[ ]?\{{?(?P<power>[+-]?[0-9]+)\}}?)?
    )
    (?!st\b|nd\b|rd\b|th\b|:[0-9]|[0-9])
    (?:[ ]?(?P<scale>thousand|million|billion)\b)?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}

_ANSWER = re.compile(
    r"\banswers?\b[^\n.:=?]{0,40}?(?:\b(?:is|are|was|be|becomes?|equals|comes (?:out )?to)\b|:|=)|####", re.IGNORECASE
)
_BOXED = re.compile(r"\\(?:boxed|fbox) *\{")
_SENTENCE_END = re.compile(r"(?<!approx)(?<!\bca)[.!?]+(?=\s|$)|;\s")
_OPERATOR = re.compile(r"[ )]*(?:[*×·+^]|-(?=[ 0-9])|/)")

_LETTER = re.compile(r"[^\w(\[]*[(\[]?(?P<letter>[A-Ja-j])(?P<close>[)\].:,*\s]|$)")
_OPTION = re.compile(r"\b(?:option|choice|letter)\b|\bthe\b(?= *\()", re.IGNORECASE)
_LONE_LETTER = re.compile(r"[(\[]([A-J])[)\]]|^[^\w\n]*([A-J])[^\w\n]*$|^ *([A-J])[).:]", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Number:
    value: Fraction
    decimals: int = 0

    def equals(self, other: _Number) -> bool:
        if self.value == other.value:
            return True
        if max(self.decimals, other.decimals) < ROUNDED_DECIMALS:
            return False
        return abs(self.value - other.value) <= TOLERANCE * max(abs(self.value), abs(other.value))

    def __str__(self) -> str:
        """Write it in the one spelling that equal numbers share: 45, 0.5, 1/3."""
        whole, below = self.value.numerator, self.value.denominator
        if below == 1:
            return str(whole)
        for places in range(1, LONGEST_NUMBER):
            if 10**places % below == 0:
                digits = f"{abs(whole) * 10**places // below:0{places + 1}d}"
                return f"{'-' if whole < 0 else ''}{digits[:-places]}.{digits[-places:]}"
        return f"{whole}/{below}"


def answer_in(text: str, kind: AnswerKind) -> str | None:
    """Read what *text* gives as its answer; None where it gives none. Equal answers are spelled alike."""
    match kind:
        case "number":
            number = _number_in(text)
            return None if number is None else str(number)
        case "integer":
            number = _number_in(text)
            return str(number.value) if number is not None and number.value.denominator == 1 else None
        case "choice":
            return _choice_in(text)
        case "stated":
            return chains.stated(text)
        case "text":
            return _folded(_text_in(text)) or None


def is_correct(text: str, target: str, kind: AnswerKind) -> bool:
    """Say whether *text* gives *target* as its answer. A target that is not of its kind is never given."""
    match kind:
        case "number" | "integer":
            given, wanted = _number_in(text), _number_in(target)
            if given is None or wanted is None:
                return False
            return given.value == wanted.value if kind == "integer" else given.equals(wanted)
        case "choice":
            return _choice_in(text) == target.strip().upper() != ""
        case "stated":
            return chains.score(text, target)
        case "text":
            wanted = _folded(target)
            return wanted != "" and wanted in (_folded(_text_in(text)), _folded(text[-TAIL:]))


def is_number(text: str) -> bool:
    """Say whether *text* is one number and nothing else but its unit of money or percent."""
    cleaned = _cleaned(text).strip().removesuffix("%").strip()
    match = _NUMBER.match(cleaned)
    return match is not None and match.end() == len(cleaned) and _value(match) is not None


def _number_in(text: str) -> _Number | None:
    for statement in _statements(text):
        if (number := _number_of(statement)) is not None:
            return number
    found = [number for match in _NUMBER.finditer(_cleaned(text[-TAIL:])) if (number := _value(match)) is not None]
    return found[-1] if found else None


def _statements(text: str) -> Iterator[str]:
    """What stands in each box, after each "answer is" and after each `####`: the last first."""
    starts = [(match.end(), True) for match in _BOXED.finditer(text)]
    starts += [(match.end(), False) for match in _ANSWER.finditer(text)]
    for start, is_box in sorted(starts, reverse=True)[:MOST_STATEMENTS]:
        ahead = text[start : start + LONGEST_STATEMENT]
        yield _boxed(ahead) if is_box else _sentence(_cleaned(ahead))


def _boxed(text: str) -> str:
    """The text up to the brace that closes the box."""
    depth = 1
    for i, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return _cleaned(text[:i])
    return _cleaned(text)


def _sentence(text: str) -> str:
    """The first sentence of the first line that is not blank. Where a box begins in it, that box speaks for itself."""
    line = text.lstrip(" \t\r\n:*=").split("\n", 1)[0]
    end = _SENTENCE_END.search(line)
    return line[: end.start()] if end else line


def _number_of(statement: str) -> _Number | None:
    """The number that a statement gives: what its last equation comes to, else the first that is not denied."""
    _, equals, right = statement.rpartition("=")
    if equals:
        match = _NUMBER.search(right)
        if match and not _OPERATOR.match(right, match.end()) and (number := _value(match)) is not None:
            return number
    for match in _NUMBER.finditer(statement):
        is_denied = statement[: match.start()].rstrip().lower().endswith(("not", "isn't", "n't"))
        if not is_denied and (number := _value(match)) is not None:
            return number
    return None


def _value(match: re.Match[str]) -> _Number | None:
    """The number a match stands for, or None if it is too long or divides by zero."""
    if len(match[0]) > LONGEST_NUMBER:
        return None
    scale = -1 if match["minus"] or match["inner"] else 1
    scale *= _SCALES[match["scale"].lower()] if match["scale"] else 1
    if match["of"] is not None:
        over, under = int(match["part"]), int(match["of"])
        return _Number(value=scale * (int(match["whole"]) + Fraction(over, under))) if under else None
    if match["under"] is not None:
        over, under = (int(match[name].replace(",", "")) for name in ("over", "under"))
        return _Number(value=scale * Fraction(over, under)) if under else None
    exponent = int(match["e"] or match["power"] or 0)
    if abs(exponent) > LARGEST_EXPONENT:
        return None
    plain = match["plain"].replace(",", "")
    return _Number(
        value=scale * Fraction(plain) * Fraction(10) ** exponent,
        decimals=max(len(plain.partition(".")[2]) - exponent, 0),
    )


def _choice_in(text: str) -> str | None:
    for statement in _statements(text):
        option = _OPTION.search(statement)
        match = _LETTER.match(statement, option.end() if option else 0)
        if match and _is_letter(match):
            return match["letter"].upper()
    if match := _LETTER.fullmatch(text.strip()):
        return match["letter"].upper()
    alone = _LONE_LETTER.findall(_cleaned(text[-TAIL:]))
    return next(filter(None, alone[-1])) if alone else None


def _is_letter(match: re.Match[str]) -> bool:
    """Tell a letter from the words "a" and "I", which go on with a space."""
    return match["letter"] in "BCDEFGHJ" or not match["close"].isspace()


def _text_in(text: str) -> str:
    for statement in _statements(text):
        if statement.strip():
            return statement
    lines = [line for line in text[-TAIL:].splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _folded(text: str) -> str:
    """Letters and digits alone, in lower case, with one space where anything else stood."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _cleaned(text: str) -> str:
    """Take Markdown and LaTeX off, so that numbers stand as they are read."""
    for pattern, replacement in _CLEANED:
        text = pattern.sub(replacement, text)
    return text.translate(_VULGAR)
