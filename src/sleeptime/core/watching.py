"""What is kept of each context so that deciding on it needs no look at the ledger.

    Watched    one context: when it was asked, how much of it lacks notes since which query, what its answers measured,
               what it waits to be looked at for
    Taught     all contexts together: measured ratios by group, what was spent and saved, priors by kind
    Lesson     what one answer adds to both
    Looked     what a look leaves of one context, and the job it queues

A part that lacks notes is counted in characters, not kept by section: all that lacks notes since the same query is
one part. Days are counted from 1970. This file does not know how any of it is stored or decided on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from sleeptime.core.caps import Spending
from sleeptime.core.context import Context
from sleeptime.core.deciding import Decision, Portfolio
from sleeptime.core.forecasting import Prior, Seen
from sleeptime.core.job import Job
from sleeptime.core.notes import LearnedContext
from sleeptime.core.saving import Tally
from sleeptime.core.staleness import new_sections
from sleeptime.core.triggers import DAY_S, Waiting, with_edit

UNDECIDED = 1e300
"""`wants` of a context on which nothing was decided since it changed: it is looked at first."""
TOKENS, DOLLARS = "output tokens", "USD"

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
    waiting      what has happened to it since it was last looked at; None where nothing has, or all of it has notes
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
    waiting: Waiting | None = None
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
        waiting=with_edit(None, days(context.created_at)),
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
    watched: Watched,
    context: Context,
    slept_on: Sequence[str] | None,
    before: Context | None = None,
    *,
    at: datetime,
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
    is_new = before is not None or watched.waiting is None
    return replace(
        watched,
        characters=len(context.text),
        sections=len(texts),
        parts=parts,
        edits=watched.edits + len(came),
        reason=watched.reason if parts else "",
        wants=UNDECIDED if parts and not watched.is_observed else None,
        waiting=(with_edit(watched.waiting, days(at)) if is_new else watched.waiting) if parts else None,
    )


def began_anew(watched: Watched) -> Watched:
    """Let what lacks notes after a sleep that brought none earn its next one from now on."""
    parts = tuple(Part(since=watched.seen.queries, characters=part.characters) for part in watched.parts)
    return replace(watched, parts=parts, wants=UNDECIDED)


def outcome_of(learned: LearnedContext) -> str:
    """Say what a sleep came to, in words."""
    spent = f"{learned.usage.output_tokens:,} tokens"
    if learned.stop_reason == "unchanged":
        return f"version {learned.version} stands"
    if not learned.version:
        return f"nothing learned ({learned.stop_reason}) for {spent}"
    return f"version {learned.version}: {len(learned.notes)} notes for {spent} ({learned.stop_reason})"


Group = tuple[Outcome, str, str]
"""Outcome, level and band of predictability; level and band are empty for all answers together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """What decided sleeps that are not over may cost, and write, at most."""

    price: float
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """What all contexts taught together. Portfolios by unit; a prior with the day it was fitted, by kind.

    `queued` are the decided sleeps that are not over, by unit: each counts at its full price from when it is queued.
    """

    groups: Mapping[Group, Tally] = field(default_factory=dict[Group, Tally])
    portfolios: Mapping[str, Portfolio] = field(default_factory=dict[str, Portfolio])
    priors: Mapping[str, tuple[float, Prior]] = field(default_factory=dict[str, tuple[float, Prior]])
    queued: Mapping[str, Queued] = field(default_factory=dict[str, "Queued"])

    def tally(self, outcome: Outcome, level: str = "", band: str = "") -> Tally:
        return self.groups.get((outcome, level, band), Tally())

    def portfolio(self, unit: str) -> Portfolio:
        known = self.portfolios.get(unit, Portfolio())
        return replace(known, slept=known.slept + self.queued[unit].price) if unit in self.queued else known

    def prior(self, kind: str) -> Prior | None:
        """The prior of a kind; None before it was fitted."""
        return self.priors[kind][1] if kind in self.priors else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision as it is kept: its numbers, its sentence, which trigger looked, the job it became, what came of it."""

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
    trigger: str = ""
    job_id: str | None = None

    @classmethod
    def of(
        cls,
        decision: Decision,
        context_id: str,
        at: datetime,
        *,
        outcome: str = "",
        trigger: str = "",
        job_id: str | None = None,
    ) -> Decided:
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
            trigger=trigger,
            job_id=job_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What one answer teaches: the context as it is now, what groups and portfolios gain, a decision that changed."""

    watched: Watched
    groups: Mapping[Group, Tally] = field(default_factory=dict[Group, Tally])
    portfolios: Mapping[str, Portfolio] = field(default_factory=dict[str, Portfolio])
    decided: Decided | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a look leaves of one context: how it is watched from now on, a decision to keep, a job to queue."""

    watched: Watched
    decided: Decided | None = None
    job: Job | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What was spent and is promised, at the moment a look is settled. `spent` are the accounts under the caps."""

    taught: Taught
    spent: Mapping[str, Spending] = field(default_factory=dict[str, Spending])
