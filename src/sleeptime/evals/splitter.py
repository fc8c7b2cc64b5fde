"""Cut a problem into a context, which is there early, and a query, which comes later.

    split_question(text, mode) → Split(context, query)

sentence  the sentence that asks is the query, the others in their order are the context; every
          sentence stays as it is written
hoist     as `sentence`, and facts that the query carries move into the context as sentences
literal   as the paper's released script does: cut at every full stop, the last piece is the query

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
_MATH = re.compile(
    r"""
    \[asy\].*?\[/asy\]
  | \\begin\{(?P<name>[^{}]+)\}.*?\\end\{(?P=name)\}
  | \\\[.*?\\\]
  | \\\(.*?\\\)
  | \$\$.+?\$\$
  | \$(?P<inline>\s?\S[^$]*?)\$(?!\d)
    """,
    re.VERBOSE | re.DOTALL,
)
_PROSE = re.compile(r"(?<![\\A-Za-z{])[a-z]{3,}(?![A-Za-z}])")
_OPENING = "\"'“‘(["  # noqa: RUF001 - quotation marks
_CLOSING = "\"'”’)]"  # noqa: RUF001 - quotation marks
_END = re.compile(rf"(?P<mark>\.{{2,}}|…|[.?!]+)[{re.escape(_CLOSING)}]*(?=\s|$)")
_FIRST_WORD = re.compile(rf"\s*[{re.escape(_OPENING)}]*(?P<word>[^\W_]+)")
_FIGURE = re.compile(r"\s*\[asy\].*?\[/asy\]\s*", re.DOTALL)
_IMPERATIVE = re.compile(
    r"\s*(?:please\s+)?(?:find|calculate|compute|determine|evaluate|express|give|state|work out|estimate)\b",
    re.IGNORECASE,
)
_ASKS_LATE = re.compile(r",\s*(?:then\s+)?(?:find|calculate|compute|determine|evaluate)\b", re.IGNORECASE)


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
    context = " ".join(part for i, part in enumerate(parts) if i != asking)
    return Split(context=context, query=parts[asking] if parts else "")


def asks(sentence: str) -> bool:
    """Say whether *sentence* is a question, or tells to find something."""
    return sentence.rstrip(_CLOSING + " ").endswith("?") or bool(
        _IMPERATIVE.match(sentence) or _ASKS_LATE.search(sentence)
    )


def sentences(text: str) -> list[str]:
    """Cut *text* into its sentences, without the space between them."""
    cuts = sorted({0, len(text), *_sentence_ends(text)})
    return [part for start, end in pairwise(cuts) if (part := text[start:end].strip())]


def _literal(text: str) -> Split:
    pieces = [piece for raw in text.split(".") if (piece := raw.strip())]
    if not pieces:
        return Split(context="", query="")
    return Split(context="".join(f"{piece}. " for piece in pieces[:-1]).strip(), query=pieces[-1])


def _sentence_ends(text: str) -> list[int]:
    math = [match.span() for match in _MATH.finditer(text) if _is_math(match)]
    ends = [end for start, end in math if _ends_in_math(text, start, end)]
    for match in _FIGURE.finditer(text):
        ends += [match.start(), match.end()]
    ends += [match.end() for match in re.finditer(r"\n\s*\n", text) if not _inside(math, *match.span())]
    closed = _merged(math + _quoted(text, math))
    ends += [
        match.end() for match in _END.finditer(text) if not _inside(closed, *match.span()) and _is_end(text, match)
    ]
    return ends


def _is_math(match: re.Match[str]) -> bool:
    """Tell inline math from two prices: prose between them, or a space on one side alone, means prices."""
    inline = match["inline"]
    if inline is None:
        return True
    return inline[0].isspace() == inline[-1].isspace() and not _PROSE.search(inline)


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
    return not rest or not (rest.lstrip(_OPENING)[:1].islower() or rest[0] in ",;:)]}")


def _starts_surely(text: str, at: int) -> bool:
    """Whether what follows is a word that begins sentences and is hardly ever a name."""
    following = _FIRST_WORD.match(text, at)
    return following is None or following["word"].casefold() in _STARTERS


def _is_list_number(text: str, at: int) -> bool:
    """Whether the number that begins here numbers the item of a list: nothing, a colon or a full stop before it."""
    before = text[:at].rstrip(" ")
    return not before or before[-1] in "\n:;.?!"
