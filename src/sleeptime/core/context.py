"""A context: text that outlives one question, cut into sections.

Sections end at blank lines and before headings; a long block without either is cut
behind lines and sentences that its own words choose, so that an edit moves no cut
but those beside it. Joined, sections are the text again, byte for byte. A span of
evidence names a section by its fingerprint, which knows nothing of the blank lines
around it: an edit elsewhere, or a move, leaves it valid.

This file does not know where the text comes from.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import islice

from sleeptime.core.errors import NotTextError

REACH = 5
"""A block is cut behind a line or sentence that its hash sets above so many on either side; a shorter one never is."""
MOST_PLACES = 8
"""A quotation that stands in more places than these points at none of them."""

_BREAK = re.compile(r"\n(?:[^\S\n]*\n)+|\n(?=#{1,6} |=== )")  # blank lines, or a heading ahead
_PIECE = re.compile(r"\n|[.!?][^\S\n]+")
_LEADING_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")


def fingerprint(text: str) -> str:
    """Hash *text* to 16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a context: characters `start` to `end`, with the hash of their text without blank lines around it."""

    start: int
    end: int
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Evidence: characters `start` to `end` of the section with this fingerprint."""

    section: str
    start: int
    end: int


EVERYWHERE = Span(section="*", start=0, end=0)
"""Evidence that is the whole text: any change touches it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The persistent part *c* of a prompt. `created_at` is UTC."""

    id: str
    name: str
    text: str
    created_at: datetime
    source: str = ""
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", fingerprint(self.text))

    @property
    def shown(self) -> str:
        """The text as prompts show it: without the newlines that end a file."""
        return self.text.rstrip("\n")

    @property
    def sections(self) -> tuple[Section, ...]:
        return sections(self.text)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprints of the sections, in order: what tells two texts apart but for blank lines."""
        return tuple(section.fingerprint for section in self.sections)

    def locate(self, quote: str) -> tuple[Span, ...]:
        """Find every place where *quote* stands, a span for each section it touches.

        White space may differ. Whole words go before parts of words. A quotation that stands nowhere,
        or in more than `MOST_PLACES` places, is located nowhere.
        """
        places = _places(self.text, quote.strip())
        if len(places) > MOST_PLACES:
            return ()
        sections = self.sections
        spans: dict[Span, None] = {}
        for start, end in places:
            at = bisect_right(sections, start, key=lambda section: section.start) - 1
            for section in islice(sections, at, None):
                if section.start >= end:
                    break
                first, last = max(start, section.start), min(end, section.end)
                last = first + len(self.text[first:last].rstrip())
                if first < last:
                    found = Span(section=section.fingerprint, start=first - section.start, end=last - section.start)
                    spans[found] = None
        return tuple(spans)


def headed(context: Context, path: str) -> tuple[Span, ...]:
    """Find the sections whose first line names *path*, as those of a repository's index do, a span each."""
    names = re.compile(rf"(?<![\w./-]){re.escape(path)}(?![\w/-]|\.\w)")
    spans: list[Span] = []
    for section in context.sections if path in context.text else ():
        text = _without_blank_lines(context.text[section.start : section.end])
        if names.search(text.partition("\n")[0]):
            spans.append(Span(section=section.fingerprint, start=0, end=len(text)))
    return tuple(spans)


def check_text(text: str) -> None:
    """Refuse what no file or network can carry: lone surrogates, as a terminal makes of bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotTextError(f"{text.encode(errors='replace').decode()[:40]!r}") from None


def _places(text: str, quote: str) -> list[tuple[int, int]]:
    """Where *quote* stands, up to one place more than `MOST_PLACES`: as whole words if it does, else anywhere."""
    if not quote:
        return []
    places: list[tuple[int, int]] = []
    at = text.find(quote)
    while at >= 0 and len(places) <= MOST_PLACES:
        places.append((at, at + len(quote)))
        at = text.find(quote, at + 1)
    if not places:
        pattern = r"\s+".join(map(re.escape, quote.split()))
        places = [match.span() for match in islice(re.finditer(pattern, text), MOST_PLACES + 1)]
    whole = [place for place in places if _is_whole(text, *place)]
    return whole or places


def _is_whole(text: str, start: int, end: int) -> bool:
    """Whether no word goes on across either end."""
    cuts_first = start > 0 and text[start - 1].isalnum() and text[start].isalnum()
    return not cuts_first and not (end < len(text) and text[end - 1].isalnum() and text[end].isalnum())


@lru_cache(maxsize=4)
def sections(text: str) -> tuple[Section, ...]:
    """Cut *text* into sections. Joined, the sections are the text."""
    ends: list[int] = []
    start = 0
    for end in [*(match.end() for match in _BREAK.finditer(text)), len(text)]:
        if end < len(text) and text[start:end].isspace():
            continue  # blank lines before the first words belong to these
        if ends and text[start:end].isspace():
            ends[-1] = end
        elif end > start or not ends:
            ends.extend(_cuts(text, start, end))
            ends.append(end)
        start = end
    return tuple(
        Section(start=start, end=end, fingerprint=fingerprint(_without_blank_lines(text[start:end])))
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    )


def _cuts(text: str, start: int, end: int) -> list[int]:
    """Where to cut a long block. Every cut depends on the lines or sentences near it and on nothing else."""
    end = start + len(text[start:end].rstrip())
    ends = [*(match.end() for match in _PIECE.finditer(text, start, end)), end]
    if len(ends) <= 2 * REACH:
        return []
    rank = [_rank(text[first:last]) for first, last in zip([start, *ends[:-1]], ends, strict=True)]
    return [
        ends[at]
        for at in range(REACH, len(ends) - REACH)
        if max(rank[at - REACH : at]) < rank[at] >= max(rank[at + 1 : at + REACH + 1])
    ]


def _rank(piece: str) -> int:
    return zlib.crc32(piece.strip().encode("utf-8", "surrogatepass"))


def _without_blank_lines(text: str) -> str:
    return _LEADING_BLANK_LINES.sub("", text.rstrip())
