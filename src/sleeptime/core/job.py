"""A job: a sleep that is to be done by a worker, whenever one is free.

    queued → running → done | failed          paused, cancelled: by the user
    running → queued                          handed back, or tried again after an error

A job that says `running` while nobody holds its context's lease is one whose worker died: the next
worker that looks for work takes it over, for MOST_ATTEMPTS times at most. This file does not know workers or storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sleeptime.core.errors import DatabaseBusyError, ModelError, ShareUsedUpError, SleeptimeError
from sleeptime.core.plan import Plan

JobState = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
MOST_FAILURES = 5
MOST_ATTEMPTS = 100
"""A job that so many workers took up and none ended is given up: it may be what kills them."""
FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A sleep to be done. `attempts` counts the workers that took it up, `failures` those that met an error.

    `rounds` are those its unfinished sleep has kept. `waits_until` is when it may be tried again. One that was decided
    on says which `trigger` looked, and what it may cost at most: `price` in `unit`, and output tokens.
    """

    id: str
    context_id: str
    plan: Plan
    state: JobState = "queued"
    again: bool = False
    attempts: int = 0
    failures: int = 0
    rounds: int = 0
    queued_at: datetime
    waits_until: datetime | None = None
    ended_at: datetime | None = None
    worker: str | None = None
    version: int | None = None
    error: str | None = None
    trigger: str = ""
    unit: str = ""
    price: float = 0.0
    output_tokens: int = 0

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to sleep on one context, until `seconds` after the last heartbeat. Its id is new for every holder."""

    id: str
    context_id: str
    seconds: float
    job_id: str | None = None


def wait_s(failures: int, error: SleeptimeError) -> float | None:
    """How long to wait after an error before the next attempt, or None to give up: it would fail again.

    A rate limit whose rest is left to answers is waited for however often: nothing was tried.
    """
    if isinstance(error, ShareUsedUpError):
        return error.retry_after_s
    is_passing = isinstance(error, DatabaseBusyError) or (isinstance(error, ModelError) and error.retryable)
    if failures >= MOST_FAILURES or not is_passing:
        return None
    asked_s = (error.retry_after_s or 0.0) if isinstance(error, ModelError) else 0.0
    return max(asked_s, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (failures - 1)))
