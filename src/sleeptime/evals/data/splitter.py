"""Cut a problem into a context, which is there early, and a query, which comes later.

    split_question(text, mode) → Split(context, query)

sentence  the sentence that asks is the query, the others in their order are the context; every
          sentence stays as it is written
hoist     as `sentence`, and facts that the query carries move into the context as sentences
literal   as the paper's released script does: cut at every full stop, the last piece is the query

Facts are clauses: conditions (if, given that, assuming), moments that hold a number (after paying
10 % in tax), and statements run together with the question. They are not reworded: a condition
becomes "Suppose …", a moment "Asked about is the situation …". What stays is what is asked about:
how much of what, over which time (a 90-minute call, in 3 hours), compared with what; and what
"Find the number of … such that …" counts.

A sentence never ends inside a decimal, an abbreviation, initials, a quotation, brackets, math or
a figure. Where in doubt two sentences stay one. This file knows English and LaTeX, and no dataset.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

SplitMode = Literal["hoist", "sentence", "literal"]
SPLIT_MODES: tuple[SplitMode, ...] = get_args(SplitMode)


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_TITLES = _words(
    "mr mrs ms mx dr prof st sr jr rev hon gen col sgt capt lt gov sen rep pres mt ft fig figs eq eqs no nos "
    "vol ch sec vs approx ca cf e.g i.e e.g. viz al dept univ ave blvd rd"
)
"""What hardly ever ends a sentence."""
_UNITS = _words(
    "in ft yd mi oz lb lbs hr hrs min mins sec secs km cm mm kg g mg ml l etc inc ltd co corp jan feb mar apr aug "
    "sept oct nov dec mon tue tues wed thu thurs fri sat sun"
)
"""What ends a sentence only before a word that begins one, as do initials and what holds a full stop (U.S., p.m.)."""
_STARTERS = _words(
    "a an the this that these those he she it they we i you his her its their our my your there here "
    "how what which who whose when where why if in on at by for from with after before during since while "
    "then later next finally also additionally however but and so because as each every all some both half "
    "find calculate compute determine evaluate assume assuming suppose given let one two three to"
)
"""Words that begin sentences, and hardly ever names."""
_MATH_OPENS = re.compile(r"\[asy\]|\\begin\{(?P<name>[^{}]{1,40})\}|\\[\[(]|\${1,2}")
_CLOSES = {"[asy]": "[/asy]", r"\[": r"\]", r"\(": r"\)", "$$": "$$", "$": "$"}
_PROSE = re.compile(r"(?<![\\A-Za-z{])[a-z]{3,}(?![A-Za-z}])")
_OPENING = "\"'“‘(["  # noqa: RUF001 - quotation marks
_CLOSING = "\"'”’)]"  # noqa: RUF001 - quotation marks
_END = re.compile(rf"(?P<mark>\.{{2,}}|…|[.?!]+)[{re.escape(_CLOSING)}]*(?=\s|$)")
_FIRST_WORD = re.compile(rf"\s*[{re.escape(_OPENING)}]*(?P<word>[^\W_]+)")
_ASKING_WORD = re.compile(r"(?:how (?:many|much|long|far|old|often)|what (?:is|are|was|were)|calculate|compute)\b")
_VERBS = r"(?:find|calculate|compute|determine|evaluate|express|estimate)"
_IMPERATIVE = re.compile(rf"\s*(?:please\s+)?(?:{_VERBS}|give|state|work out)\b", re.IGNORECASE)
_ADVERB = r"(?:(?:on average|in total|in all|altogether|overall|approximately|about),?\s+)?"
_PREPOSITION = r"(?:(?:about|at|by|for|from|in|into|of|on|to|with)\s+)?"
_LINK = r"(?:(?:then|so|and|but)\s+)?"
_AUXILIARY = r"(?:is|are|was|were|does|do|did|will|would|can|could|should|must|has|have|had)"
_BEGINS_TO_ASK = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"[,;:]\s*{_LINK}(?P<asking>{_ADVERB}{_PREPOSITION}(?:how|what)\b|{_VERBS}\b)",
        r"\s(?:then\s+)?(?P<asking>how (?:many|much|long|far|old|often)\b|what (?:is|are|was|were|percent\w*)\b)",
        rf"[,;:]\s*{_LINK}(?P<asking>(?:which|whose|who|when|where|why)\s(?:\w+\s)?{_AUXILIARY}\b)",
        rf"[,;:]\s*{_LINK}(?P<asking>{_AUXILIARY}\s)",
    )
]
"""Where a question begins within a sentence, the surest sign first."""

_SUPPOSING = r"if|assuming(?:\s+that)?|suppos(?:e|ing)(?:\s+that)?|provided(?:\s+that)?"
_STATING = r"given\s+that|since|because|knowing\s+that|considering\s+that"
_PLACING = r"when|once|while|(?:after|before)(?=\s+(?:\w+ing|he|she|it|they|we|you)\b)"
_LEADING = re.compile(
    rf"(?:(?P<supposing>{_SUPPOSING})|(?P<stating>{_STATING})|(?P<placing>{_PLACING}|by(?=\s+\w+ing\b)|given|considering|with))\s+",
    re.IGNORECASE,
)
_TRAILING = re.compile(
    rf"(?<!\bthan)(?<!\bas)(?<!\beven)(?<!\bonly)(?<!\bwhat)(?<!\bto)(?<!\blike),?(?<=\S)\s+"
    rf"(?:(?P<supposing>{_SUPPOSING})|(?P<stating>given\s+that|because|knowing\s+that|considering\s+that)"
    rf"|(?P<placing>{_PLACING}))\s+(?P<clause>[^?]+)",
    re.IGNORECASE,
)
_ADJUNCT = re.compile(
    r"(?:in|on|at|by|for|during|over|within|from|of|per|to|between|among|under|through|throughout|until|out|"
    r"based|according|across|after|before|with|without|now|today|also|then|so|overall)\b",
    re.IGNORECASE,
)
_UNIT_TAIL = re.compile(r",\s*(?:in|to)\s+(?:the\s+)?(?:[a-z]+\s){0,2}[a-z]+$")
_COMPARES = re.compile(r"\b(?:more|less|fewer|longer|older|younger|farther|faster|cheaper)\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"[0-9$\\]|\b(?:(?<!no )one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|twenty|thirty|forty|"
    r"fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|dozen|half|quarter|twice|thrice|double|triple|"
    r"(?:a|an) (?:third|fifth|sixth|seventh|eighth|ninth|tenth))\b",
    re.IGNORECASE,
)
_DIVIDED = re.compile(r"\bdivided by\b")
"""The remainder when something is divided is what is asked for."""
_MOST_FACTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A context and the query on it. The context is empty where a problem is nothing but its question."""

    context: str
    query: str

    @property
    def is_context_empty(self) -> bool:
        return not self.context.strip()

    @property
    def joined(self) -> str:
        """Context and query as one text again."""
        return self.query if self.is_context_empty else f"{self.context} {self.query}"


def split_question(text: str, mode: SplitMode) -> Split:
    """Cut *text* into a context and a query."""
    if mode == "literal":
        return _literal(text)
    parts = sentences(text)
    asking = max((i for i, part in enumerate(parts) if asks(part)), default=len(parts) - 1)
    if not parts:
        return Split(context="", query="")
    others = [part for i, part in enumerate(parts) if i != asking]
    query = parts[asking]
    if mode == "hoist":
        facts, query = _hoisted(query)
        others += facts
    return Split(context=" ".join(others), query=query)


def asks(sentence: str) -> bool:
    """Say whether *sentence* is a question, or tells to find something."""
    if sentence.rstrip(_CLOSING + " ").endswith("?") or _IMPERATIVE.match(sentence):
        return True
    masked = _masked(sentence)
    return bool(_LEADING.match(masked) and _BEGINS_TO_ASK[0].search(masked))


def sentences(text: str) -> list[str]:
    """Cut *text* into its sentences, without the space between them."""
    cuts = sorted({0, len(text), *_sentence_ends(text)})
    return [part for start, end in pairwise(cuts) if (part := text[start:end].strip())]


def _literal(text: str) -> Split:
    pieces = [piece for raw in text.split(".") if (piece := raw.strip())]
    if not pieces:
        return Split(context="", query="")
    return Split(context="".join(f"{piece}. " for piece in pieces[:-1]).strip(), query=pieces[-1])


def _hoisted(query: str) -> tuple[list[str], str]:
    """Move what *query* states rather than asks into sentences of their own."""
    facts: list[str] = []
    for _ in range(_MOST_FACTS):
        moved = _without_leading(query) or _without_trailing(query)
        if moved is None:
            break
        fact, query = moved
        facts.append(fact)
    return facts, query


def _without_leading(query: str) -> tuple[str, str] | None:
    """Part the fact before a question from the question, as in: If it costs $2, how much …."""
    masked = _masked(query)
    introduced = _LEADING.match(masked)
    signs = _BEGINS_TO_ASK if introduced else _BEGINS_TO_ASK[:1]
    asking = next(filter(None, (sign.search(masked) for sign in signs)), None)
    if asking is None:
        return None
    before, question = query[: asking.start()], _capitalised(query[asking.start("asking") :])
    if introduced is None:
        if _ADJUNCT.match(query) or not _NUMBER.search(before):
            return None
        return f"{before.rstrip(' ,;:')}.", question
    if not _is_fact(introduced, before, question):
        return None
    return _stated(introduced, before[introduced.end() :]), question


def _without_trailing(query: str) -> tuple[str, str] | None:
    """Part the fact behind a question from the question, as in: How much …, if it costs $2."""
    masked = _masked(query)
    for introduced in _TRAILING.finditer(masked):
        clause = query[introduced.start("clause") : introduced.end("clause")]
        tail = _UNIT_TAIL.search(clause)
        unit = tail[0] if tail and not _NUMBER.search(tail[0]) else ""
        clause = clause.removesuffix(unit)
        question = query[: introduced.start()].rstrip(" ,") + unit + query[introduced.end("clause") :]
        if _is_fact(introduced, clause, question):
            return _stated(introduced, clause), question
    return None


def _is_fact(introduced: re.Match[str], clause: str, question: str) -> bool:
    """Whether a clause is moved: one with a number is; a bare condition is, unless it is what the question compares."""
    if _DIVIDED.search(clause):
        return False
    if _NUMBER.search(clause):
        return True
    return introduced["supposing"] is not None and not _COMPARES.search(question)


def _stated(introduced: re.Match[str], clause: str) -> str:
    """Write a clause as a sentence that says no more than the clause."""
    clause = clause.strip(" ,;:.")
    if introduced["supposing"]:
        return f"Suppose {clause}."
    if introduced["stating"]:
        return f"{_capitalised(clause)}."
    return f"Asked about is the situation {introduced['placing'].lower()} {clause}."


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _masked(text: str) -> str:
    """The text with math, quotations and brackets blotted out, at the same length."""
    math = _math(text)
    pieces: list[str] = []
    at = 0
    for start, end in _merged(math + _quoted(text, math)):
        pieces += [text[at:start], "\N{SECTION SIGN}" * (end - start)]
        at = end
    return "".join([*pieces, text[at:]])


def _sentence_ends(text: str) -> list[int]:
    math = _math(text)
    ends = [end for start, end in math if _ends_in_math(text, start, end)]
    ends += [edge for span in math if text.startswith("[asy]", span[0]) for edge in span]
    ends += [match.end() for match in re.finditer(r"\n\s*\n", text) if not _inside(math, *match.span())]
    closed = _merged(math + _quoted(text, math))
    ends += [
        match.end() for match in _END.finditer(text) if not _inside(closed, *match.span()) and _is_end(text, match)
    ]
    return ends


def _math(text: str) -> list[tuple[int, int]]:
    """Spans of math, environments and figures that are closed again."""
    spans: list[tuple[int, int]] = []
    unclosed: set[str] = set()
    at = 0
    while opened := _MATH_OPENS.search(text, at):
        closes = rf"\end{{{opened['name']}}}" if opened["name"] else _CLOSES[opened[0]]
        closed = -1 if closes in unclosed else text.find(closes, opened.end())
        at = opened.end()
        if closed < 0:
            unclosed.add(closes)
        elif closes != "$" or _is_inline(text[at:closed], text[closed + 1 : closed + 2]):
            at = closed + len(closes)
            spans.append((opened.start(), at))
    return spans


def _is_inline(between: str, after: str) -> bool:
    """Tell inline math from two prices: prose between them, a space on one side alone or a digit behind mean prices."""
    if not between.strip() or after.isdigit() or between[0].isspace() != between[-1].isspace():
        return False
    return not _PROSE.search(between)


def _ends_in_math(text: str, start: int, end: int) -> bool:
    """Whether a sentence ends with the full stop that stands in this math."""
    inner = text[start:end].rstrip("$)] \\")
    return inner.endswith((".", "?")) and _begins_sentence(text, end)


def _quoted(text: str, math: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of quotations and brackets that are closed again in the same paragraph."""
    spans: list[tuple[int, int]] = []
    for pattern in (r'(?<![0-9])"[^"\n]*"', r"“[^”\n]*”", r"\([^()\n]*\)", r"\[[^\[\]\n]*\]"):
        spans += [match.span() for match in re.finditer(pattern, text) if not _inside(math, *match.span())]
    return spans


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _inside(spans: list[tuple[int, int]], start: int, end: int) -> bool:
    """Whether one of *spans*, sorted and apart, begins before *start* and goes on after *end*."""
    before = bisect_right(spans, (start, -1))
    return before > 0 and spans[before - 1][1] > end


def _is_end(text: str, match: re.Match[str]) -> bool:
    if match["mark"][0] in "?!":
        return _begins_sentence(text, match.end())
    word = (text[max(match.start() - 20, 0) : match.start()].split() or [""])[-1]
    bare = word.lstrip(_OPENING + ".").casefold()
    if bare in _TITLES or (word.isdigit() and _is_list_number(text, match.start() - len(word))):
        return False
    if not _begins_sentence(text, match.end()):
        return False
    is_doubtful = "." in bare or (len(bare) == 1 and bare.isalpha()) or bare in _UNITS or match["mark"] != "."
    return not is_doubtful or _starts_surely(text, match.end())


def _begins_sentence(text: str, at: int) -> bool:
    """Whether what follows can be the first word of a sentence; the end of the text can."""
    rest = text[at : at + 40].lstrip()
    if _ASKING_WORD.match(rest):
        return True
    return not rest or not (rest.lstrip(_OPENING)[:1].islower() or rest[0] in ",;:)]}")


def _starts_surely(text: str, at: int) -> bool:
    """Whether what follows is a word that begins sentences and is hardly ever a name."""
    following = _FIRST_WORD.match(text, at)
    return following is None or following["word"].casefold() in _STARTERS


def _is_list_number(text: str, at: int) -> bool:
    """Whether the number that begins here numbers the item of a list: nothing, a colon or a full stop before it."""
    before = text[max(at - 10, 0) : at].rstrip(" ")
    return not before or before[-1] in "\n:;.?!"
