"""A provider's rate limit as its replies tell it, and how long a sleep leaves it to the answers.

    there at t  =  min(limit, remaining + (limit − remaining) · (t − heard) / (reset − heard))
    a sleep may go  ⇔  there − what it takes  ≥  (1 − share) · limit        for requests and for tokens

Between two replies a window is taken to fill evenly until its reset, as token buckets do. What is
called for meanwhile is taken off until the next reply tells what is left. A call that takes more than the
whole share waits until the share is untouched, and no longer. Where no header says anything, nothing is assumed.
Whoever was told to wait (`Retry-After`), sleeps wait as long.

This file does not know clocks, models or calls.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

Unit = Literal["requests", "tokens"]
UNITS: tuple[Unit, ...] = ("requests", "tokens")
USUAL_RESET_S = 60.0
"""Until a window is full again, where its reset is not told: limits are per minute nearly everywhere."""
_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How many requests or tokens there were at `heard_s`, of how many; it is full again at `full_s`."""

    limit: float
    remaining: float
    heard_s: float
    full_s: float

    def there(self, at_s: float) -> float:
        """How many there are at a later time."""
        span = self.full_s - self.heard_s
        share = 1.0 if span <= 0 else min(1.0, max(0.0, (at_s - self.heard_s) / span))
        return self.remaining + (self.limit - self.remaining) * share

    def wait_s(self, now_s: float, wanted: float) -> float:
        """How long until so many are there."""
        if self.there(now_s) >= wanted:
            return 0.0
        share = (wanted - self.remaining) / (self.limit - self.remaining)
        return self.heard_s + min(1.0, share) * (self.full_s - self.heard_s) - now_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is known of one model's rate limit. Times are seconds of one clock that never runs back."""

    requests: Window | None = None
    tokens: Window | None = None
    waits_until_s: float = -math.inf

    def heard(self, headers: Mapping[str, str], *, now_s: float, now: datetime) -> Limits:
        """Take in the headers of a reply, keys in lower case; a window that they do not tell of stays as it was."""
        known = self
        for unit in UNITS:
            if window := _window(headers, unit, now_s, now):
                known = replace(known, requests=window) if unit == "requests" else replace(known, tokens=window)
        return known

    def told_to_wait(self, seconds: float, *, now_s: float) -> Limits:
        """Somebody was told to wait so long."""
        return replace(self, waits_until_s=max(self.waits_until_s, now_s + seconds))

    def taken(self, tokens: int, *, now_s: float) -> Limits:
        """Take off a call that goes out now."""
        return replace(self, requests=_less(self.requests, 1, now_s), tokens=_less(self.tokens, tokens, now_s))

    def wait_s(self, tokens: int, *, share: float, now_s: float) -> float:
        """How long a sleep's next call, of so many tokens, is to wait; 0 where it may go."""
        waits = [self.waits_until_s - now_s]
        for window, takes in ((self.requests, 1.0), (self.tokens, float(tokens))):
            if window is not None:
                reserved = (1.0 - share) * window.limit
                waits.append(window.wait_s(now_s, min(window.limit, reserved + takes)))
        return max(0.0, *waits)


def _less(window: Window | None, takes: float, now_s: float) -> Window | None:
    """The window without what a call takes. It is full later by as much as that takes to fill in."""
    if window is None:
        return None
    there, rate = window.there(now_s), _rate(window)
    left = max(0.0, there - takes)
    return replace(window, remaining=left, heard_s=now_s, full_s=now_s + (window.limit - left) / rate)


def _rate(window: Window) -> float:
    """How many are added a second."""
    missing, span = window.limit - window.remaining, window.full_s - window.heard_s
    return missing / span if missing > 0 and span > 0 else window.limit / USUAL_RESET_S


def _window(headers: Mapping[str, str], unit: Unit, now_s: float, now: datetime) -> Window | None:
    for prefix in _PREFIXES:
        limit, remaining = (
            _number(headers.get(f"{prefix}{name}")) for name in _names(prefix, unit, ("limit", "remaining"))
        )
        if limit is not None and remaining is not None and limit > 0:
            (name,) = _names(prefix, unit, ("reset",))
            reset_s = _seconds(headers.get(f"{prefix}{name}"), now)
            in_s = USUAL_RESET_S if reset_s is None else reset_s
            return Window(limit=limit, remaining=min(limit, remaining), heard_s=now_s, full_s=now_s + in_s)
    return None


def _names(prefix: str, unit: Unit, kinds: tuple[str, ...]) -> list[str]:
    return [f"{unit}-{kind}" if prefix.startswith("anthropic") else f"{kind}-{unit}" for kind in kinds]


def _number(written: str | None) -> float | None:
    try:
        number = float(written or "")
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _seconds(written: str | None, now: datetime) -> float | None:
    """A duration (`6m0s`, `17ms`, `1.5`) or a time (RFC 3339) as seconds from *now*."""
    if not written:
        return None
    if (number := _number(written)) is not None:
        return number
    if match := _DURATION.fullmatch(written.strip()):
        units = (86400.0, 3600.0, 60.0, 1.0, 0.001)
        parts = [_number(part) for part in match.groups()]
        return sum(unit * part for unit, part in zip(units, parts, strict=True) if part is not None)
    try:
        at = datetime.fromisoformat(written.strip())
    except ValueError:
        return None
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds())
