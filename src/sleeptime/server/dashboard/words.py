"""How the pages write numbers and times: a unit always, few digits, and words where nothing was measured.

This file knows nothing about what a number means.
"""

from __future__ import annotations

from datetime import UTC, datetime

NOT_MEASURED = "not measured yet"
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def number(value: float | None) -> str:
    """A count or an amount without unit: 1,204, 12.3 k, 1.24 M."""
    if value is None:
        return NOT_MEASURED
    size = abs(value)
    sign = "−" if value < 0 else ""
    for least, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= least * 0.99995:
            scaled = size / (1e3 if unit == "k" else least)
            return f"{sign}{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f} {unit}"
    if size >= 100 or size == int(size):
        return f"{sign}{size:,.0f}"
    return f"{sign}{size:.1f}" if size >= 1 else f"{sign}{size:.2g}"


def tokens(value: float | None) -> str:
    """Tokens."""
    return NOT_MEASURED if value is None else f"{number(value)} {'token' if value == 1 else 'tokens'}"


def money(usd: float | None) -> str:
    """US dollars, to the cent where there are any, else to two digits."""
    if usd is None:
        return NOT_MEASURED
    sign, size = "−" if usd < 0 else "", abs(usd)
    if size >= 1000:
        return f"{sign}${size:,.0f}"
    if size >= 0.0995 or size == 0:
        return f"{sign}${size:.2f}"
    if size < 1e-6:
        return f"{sign}${size:.1e}"
    digits = 1
    while round(size, digits) == 0 or size * 10**digits < 10:
        digits += 1
    return f"{sign}${size:.{digits}f}"


def seconds(value: float | None) -> str:
    """A span of time."""
    if value is None:
        return NOT_MEASURED
    sign, size = "−" if value < 0 else "", abs(value)
    if size < 1:
        return f"{sign}{size * 1000:.0f} ms" if size >= 0.0005 else "0 ms"
    if size < _MINUTE:
        return f"{sign}{size:.1f} s"
    if size < _HOUR:
        return f"{sign}{int(size // 60)} min {int(size % 60)} s"
    if size < 2 * _DAY:
        return f"{sign}{size / _HOUR:.1f} h"
    return f"{sign}{size / _DAY:.1f} days"


def ago(at: datetime, now: datetime) -> str:
    """How long ago, roughly."""
    span = (now - at).total_seconds()
    if span < 5:
        return "just now"
    for least, size, unit in ((_DAY, _DAY, "day"), (_HOUR, _HOUR, "hour"), (_MINUTE, _MINUTE, "min")):
        if span >= least:
            count = int(span // size)
            return f"{count} {unit}{'s' if count != 1 and unit != 'min' else ''} ago"
    return f"{int(span)} s ago"


def moment(at: datetime) -> str:
    """A moment in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def count(amount: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun."""
    return f"{number(amount)} {noun if amount == 1 else plural or noun + 's'}"


def size(characters: int) -> str:
    """The length of a text."""
    return count(characters, "character")
