"""What is kept of each context so that deciding on it needs no look at the ledger.

    Watched    one context: when it was asked, how much of it lacks notes since which query, what its answers measured
    Taught     all contexts together: measured ratios by group, what was spent and saved, priors by kind
    Lesson     what one answer adds to both

A part that lacks notes is counted in characters, not kept by section: all that lacks notes since the same query is
one part. Days are counted from 1970. This file does not know how any of it is stored or decided on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from sleeptime.core.context import Context
from sleeptime.core.deciding import Decision, Portfolio
from sleeptime.core.forecasting import Prior, Seen
from sleeptime.core.saving import Tally
from sleeptime.core.staleness import new_sections

UNDECIDED = 1e300
"""`wants` of a context on which nothing was decided since it changed: it is looked at first."""
TOKENS, DOLLARS = "output tokens", "USD"
DAY_S = 86_400.0

Outcome = Literal["without", "with"]
"""What a ratio is of: the cost of answers without notes, or what answers with notes saved."""


def days(at: datetime) -> float:
    """Days from 1970 to *at*."""
    return at.timestamp() / DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Characters that have gone without notes since as many queries had come."""

    since: int
    characters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One context, as decisions see it.

    parts        what lacks notes, the oldest first; a sleep takes all of it
    edits        sections that edits brought, over its life
    level        at which it was asked last
    arrived      queries that came while notes stood, of which so many had been `anticipated`
    without      ratios of its answers without notes; `assisted` those of what answers with notes saved
    reason       of the last decision, empty before the first
    is_observed  never slept on by itself: decisions on it forecast, and it wants nothing
    wants        expected net saving per token where it should be slept on, else None; or `UNDECIDED`
    """

    context_id: str
    name: str
    characters: int
    seen: Seen
    kind: str = ""
    sections: int = 1
    parts: tuple[Part, ...] = ()
    edits: int = 0
    level: str = ""
    arrived: int = 0
    anticipated: int = 0
    without: Tally = Tally()
    assisted: Tally = Tally()
    reason: str = ""
    wants: float | None = UNDECIDED
    is_observed: bool = False

    @property
    def lacking(self) -> float:
        """The share of the text that lacks notes."""
        return min(1.0, sum(part.characters for part in self.parts) / max(1, self.characters))

    @property
    def went_without(self) -> float:
        """Queries that have gone without notes, each counted for the share of the text that lacked them."""
        return sum((self.seen.queries - part.since) * part.characters for part in self.parts) / max(1, self.characters)

    @property
    def queries_without(self) -> int:
        """Queries since the oldest part lacks notes."""
        return max((self.seen.queries - part.since for part in self.parts), default=0)


def begun(context: Context, *, is_observed: bool = False) -> Watched:
    """Watch a context from when it was added: all of it lacks notes."""
    return Watched(
        context_id=context.id,
        name=context.name,
        characters=len(context.text),
        kind=kind_of(context.source),
        sections=len(context.sections),
        seen=Seen(added_days=days(context.created_at)),
        parts=(Part(since=0, characters=len(context.text)),),
        wants=None if is_observed else UNDECIDED,
        is_observed=is_observed,
    )


def observed(watched: Watched, *, is_observed: bool) -> Watched:
    """Let a context only be observed, or be slept on from now on."""
    if watched.is_observed == is_observed:
        return watched
    wants = UNDECIDED if watched.parts and not is_observed else None
    return replace(watched, is_observed=is_observed, wants=wants)


def kind_of(source: str) -> str:
    """Say what kind of context came from *source*: the ending of its file, if it has one."""
    _, dot, ending = source.rpartition("/")[2].rpartition(".")
    return ending.lower() if dot and ending.isalnum() else ""


def without_notes(characters: int, *, fresh: int, parts: tuple[Part, ...], queries: int) -> tuple[Part, ...]:
    """Share out the *characters* that lack notes: *fresh* ones since now, the rest since the *parts* of before.

    Where less of the parts is left than they were, each shrinks alike; where more lacks notes than they and what is
    fresh account for (after a rollback), that too lacks them since now.
    """
    before = sum(part.characters for part in parts)
    left = max(0, min(before, characters - fresh))
    since = {part.since: part.characters * left // before for part in parts} if before else {}
    now = characters - sum(since.values())
    since[queries] = since.get(queries, 0) + now
    return tuple(Part(since=query, characters=length) for query, length in sorted(since.items()) if length > 0)


def rewatched(
    watched: Watched, context: Context, slept_on: Sequence[str] | None, before: Context | None = None
) -> Watched:
    """Look again at what lacks notes: after an edit (*before* is the text as it was), a sleep or a rollback.

    *slept_on* are the sections that the newest version was learned from, None where there is none.
    """
    texts = context.sections
    length = {position: section.end - section.start for position, section in enumerate(texts)}
    came = new_sections(before.fingerprints, context.fingerprints) if before else ()
    if slept_on is None:
        lacks = len(context.text)
    else:
        lacks = sum(length[position] for position in new_sections(slept_on, context.fingerprints))
    fresh = min(lacks, sum(length[position] for position in came))
    parts = without_notes(lacks, fresh=fresh, parts=watched.parts, queries=watched.seen.queries)
    return replace(
        watched,
        characters=len(context.text),
        sections=len(texts),
        parts=parts,
        edits=watched.edits + len(came),
        reason=watched.reason if parts else "",
        wants=UNDECIDED if parts and not watched.is_observed else None,
    )


Group = tuple[Outcome, str, str]
"""Outcome, level and band of predictability; level and band are empty for all answers together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """What all contexts taught together. Portfolios by unit; a prior with the day it was fitted, by kind."""

    groups: Mapping[Group, Tally] = field(default_factory=dict[Group, Tally])
    portfolios: Mapping[str, Portfolio] = field(default_factory=dict[str, Portfolio])
    priors: Mapping[str, tuple[float, Prior]] = field(default_factory=dict[str, tuple[float, Prior]])

    def tally(self, outcome: Outcome, level: str = "", band: str = "") -> Tally:
        return self.groups.get((outcome, level, band), Tally())

    def portfolio(self, unit: str) -> Portfolio:
        return self.portfolios.get(unit, Portfolio())

    def prior(self, kind: str) -> Prior | None:
        """The prior of a kind; None before it was fitted."""
        return self.priors[kind][1] if kind in self.priors else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision as it is kept: its numbers, its sentence, and what came of it."""

    at: datetime
    context_id: str
    reason: str
    sentence: str
    unit: str
    price: float
    tokens: int
    saving: float
    expected: float | None
    queries_seen: int
    extra_paid: float
    limit: float
    outcome: str = ""

    @classmethod
    def of(cls, decision: Decision, context_id: str, at: datetime, *, outcome: str = "") -> Decided:
        """Keep *decision*."""
        prospect = decision.prospect
        return cls(
            at=at,
            context_id=context_id,
            reason=decision.reason,
            sentence=decision.sentence,
            unit=prospect.unit,
            price=prospect.price,
            tokens=prospect.tokens,
            saving=prospect.saving,
            expected=decision.queries,
            queries_seen=prospect.queries_seen,
            extra_paid=prospect.extra_paid,
            limit=decision.limit,
            outcome=outcome,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What one answer teaches: the context as it is now, what groups and portfolios gain, a decision that changed."""

    watched: Watched
    groups: Mapping[Group, Tally] = field(default_factory=dict[Group, Tally])
    portfolios: Mapping[str, Portfolio] = field(default_factory=dict[str, Portfolio])
    decided: Decided | None = None
