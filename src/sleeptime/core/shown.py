"""What pages show of many rows at once: values, read by the store a page at a time.

This file knows neither SQL nor HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sleeptime.core.job import Job, JobState
from sleeptime.core.ledger import Call, Phase
from sleeptime.core.notes import LearnedContext
from sleeptime.core.query import Answer
from sleeptime.core.usage import Usage
from sleeptime.core.watching import Decided, Watched

Sort = Literal["value", "queries", "newest", "name"]
SORTS: tuple[Sort, ...] = ("value", "queries", "newest", "name")
State = Literal["sleeping", "queued", "paused", "stale", "learned", "never slept"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an unfinished sleep is: what its drafts have kept, all samples together."""

    rounds: int = 0
    notes: int = 0
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One line of the contexts. `versions` is the newest one's number; `job` the state of a job that is not over."""

    id: str
    name: str
    characters: int
    created_at: datetime
    source: str
    versions: int
    notes: int
    slept_at: datetime | None
    is_sleeping: bool
    job: JobState | None
    watched: Watched
    decided: Decided | None

    @property
    def state(self) -> State:
        """What a user calls it: what goes on now before what is known."""
        if self.is_sleeping:
            return "sleeping"
        if self.job is not None:
            return "paused" if self.job == "paused" else "queued"
        if not self.versions:
            return "never slept"
        return "stale" if self.watched.parts else "learned"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """A sleep under way. `job` is None where it is no job's."""

    context_id: str
    name: str
    job: Job | None
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A job with the name of its context, and how far it is."""

    position: int
    name: str
    job: Job
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What calls of one phase took in a span of time that begins at `since`, UTC. `unpriced` ones have no price."""

    since: datetime
    phase: Phase
    has_notes: bool
    calls: int
    answers: int
    usage: Usage
    cost_usd: float
    unpriced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What answers of one context took together, with or without notes. `usd` is of the `priced` ones."""

    answers: int = 0
    priced: int = 0
    tokens: float = 0.0
    tokens_squares: float = 0.0
    seconds: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the ledger with its place in it and the name of its context, None where that was forgotten."""

    position: int
    call: Call
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A query with its answer, when it was asked, and its place among all."""

    position: int
    work_id: str
    context_id: str
    name: str
    at: datetime
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A decision with the name of its context."""

    name: str
    decided: Decided


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """A version that was published lately, with the name of its context."""

    name: str
    learned: LearnedContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which rows of the ledger: None takes all. `outcome` is "ok" or "failed"."""

    phase: Phase | None = None
    context_id: str | None = None
    work_id: str | None = None
    outcome: Literal["ok", "failed"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many contexts there are, with how many slept on, and jobs that are not over by state."""

    contexts: int
    slept_on: int
    jobs: Sequence[tuple[JobState, int]]
