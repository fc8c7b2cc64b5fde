"""When to look at a context, so that a sleep on it may be decided.

    idle      nothing was asked about it, and nothing changed in it, for `idle_s`
    change    its text was added or edited
    queries   so many queries came since the last look
    schedule  a time of the schedule has come: all that lacks notes is looked at
    manual    somebody asked for it

A trigger says when to look and nothing more; whether to sleep then is decided by value, or, where the user says so,
wherever notes are lacking. A context is `Waiting` from the first thing that happens to it until the next look; one in
which nothing lacks notes waits for nothing. All of it is reckoned from stored times, so it outlives any process.

This file knows no clock, and does not know what is decided.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from cronsim import CronSim, CronSimError

from sleeptime.core.errors import BudgetError

Trigger = Literal["idle", "change", "queries", "schedule", "manual"]
MODES = ("auto", "manual")
PLACES = ("pays", "changed")
IDLE_S = 30.0
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggers:
    """When the engine looks for what to sleep on, and where it sleeps then.

    mode           "auto"; or "manual": it does what is queued, and decides nothing unless asked
    idle_s         look so long after the last query or edit of a context; 0 for never
    on_change      look at once when a text is added or edited
    every_queries  look after so many queries on a context; 0 for never
    schedule       look at all that lacks notes at these times of UTC, as cron writes them; empty for never
    where          "pays"; or "changed": wherever notes are lacking, whatever they save
    """

    mode: str = "auto"
    idle_s: float = IDLE_S
    on_change: bool = False
    every_queries: int = 0
    schedule: str = ""
    where: str = "pays"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise BudgetError(f'mode is "auto" or "manual", not {self.mode!r}.')
        if self.where not in PLACES:
            raise BudgetError(f'where is "pays" or "changed", not {self.where!r}.')
        if not 0.0 <= self.idle_s < math.inf:
            raise BudgetError(f"idle_s is a number of seconds, 0 for never, not {self.idle_s:g}.")
        if self.every_queries < 0:
            raise BudgetError(f"every_queries is a number of queries, 0 for never, not {self.every_queries}.")
        if self.schedule:
            try:
                next(CronSim(self.schedule, datetime(2024, 1, 1, tzinfo=UTC)))
            except (CronSimError, StopIteration) as error:
                why = str(error) or "no such day comes"
                raise BudgetError(
                    f'schedule is minute, hour, day, month and weekday, like "0 3 * * *", not {self.schedule!r}: {why}.'
                ) from error

    @property
    def is_auto(self) -> bool:
        return self.mode == "auto"

    @property
    def in_words(self) -> str:
        """When it looks, and where it sleeps then, in one sentence."""
        if not self.is_auto:
            return 'It decides nothing by itself: mode is "manual".'
        times = [
            f"{self.idle_s:g} s after the last query or edit" if self.idle_s else "",
            "at every edit" if self.on_change else "",
            f"every {self.every_queries} queries" if self.every_queries else "",
            f"at {self.schedule} (UTC)" if self.schedule else "",
        ]
        when = ", ".join(filter(None, times)) or "never, for no trigger is set"
        where = "where it pays" if self.where == "pays" else "wherever notes are lacking"
        return f"It looks at a context {when}, and sleeps {where}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What has happened to a context since it was last looked at: the last of it, how many queries, and an edit.

    `by` is "schedule" where a time of the schedule has come for it, "change" where its text changed.
    """

    since_days: float
    queries: int = 0
    by: Literal["", "change", "schedule"] = ""


def with_query(waiting: Waiting | None, now_days: float) -> Waiting:
    """Count a query."""
    before = waiting or Waiting(since_days=now_days)
    return replace(before, since_days=now_days, queries=before.queries + 1)


def with_edit(waiting: Waiting | None, now_days: float) -> Waiting:
    """Take note of an edit."""
    before = waiting or Waiting(since_days=now_days)
    return replace(before, since_days=now_days, by=before.by or "change")


def fired(triggers: Triggers, waiting: Waiting, now_days: float) -> Trigger | None:
    """Say which trigger calls for a look at what is *waiting*, if one does."""
    if waiting.by == "schedule":
        return "schedule"
    if triggers.on_change and waiting.by == "change":
        return "change"
    if triggers.every_queries and waiting.queries >= triggers.every_queries:
        return "queries"
    if triggers.idle_s and waiting.since_days <= quiet_days(triggers, now_days):
        return "idle"
    return None


def quiet_days(triggers: Triggers, now_days: float) -> float:
    """What nothing has happened to since this day is idle."""
    return now_days - triggers.idle_s / DAY_S


def last_scheduled(triggers: Triggers, now: datetime) -> datetime | None:
    """The last time of the schedule that has come; None where there is none."""
    if not triggers.schedule:
        return None
    just_after = now.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
    return next(CronSim(triggers.schedule, just_after, reverse=True), None)
