"""A context: text that outlives one question, cut into sections.

Sections follow blank lines; joined they are the text again, byte for byte. A
span of evidence names a section by its fingerprint, so that an edit elsewhere
leaves it valid. This file does not know where the text comes from.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime

from sleeptime.core.errors import NotTextError

_BLANK_LINES = re.compile(r"\n[ \t]*\n+")


def fingerprint(text: str) -> str:
    """Hash *text* to 16 hexadecimal digits of SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a context: characters `start` to `end`, with the hash of their text."""

    start: int
    end: int
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Evidence: characters `start` to `end` of the section with this fingerprint."""

    section: str
    start: int
    end: int


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

    def locate(self, quote: str) -> Span | None:
        """Find where *quote* stands verbatim in the text, or None."""
        quote = quote.strip()
        at = self.text.find(quote) if quote else -1
        if at < 0:
            return None
        for section in self.sections:
            if section.start <= at < section.end:
                end = min(at + len(quote), section.end)
                return Span(section=section.fingerprint, start=at - section.start, end=end - section.start)
        return None


def check_text(text: str) -> None:
    """Refuse what no file or network can carry: lone surrogates, as a terminal makes of bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotTextError(f"{text.encode(errors='replace').decode()[:40]!r}") from None


def sections(text: str) -> tuple[Section, ...]:
    """Cut *text* behind its blank lines. Joined, the sections are the text."""
    ends = [match.end() for match in _BLANK_LINES.finditer(text)]
    if not ends or ends[-1] != len(text):
        ends.append(len(text))
    starts = [0, *ends[:-1]]
    return tuple(
        Section(start=start, end=end, fingerprint=fingerprint(text[start:end]))
        for start, end in zip(starts, ends, strict=True)
    )
