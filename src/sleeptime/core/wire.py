"""Values as JSON: one shape for `--json`, for REST and for MCP.

    plain(value) → dict, list, text, number or None

Field names are those of the dataclasses. Times are ISO 8601; a set is a sorted list; a number that JSON
cannot write is null. The functions below add to a value what its reader would have to work out.

This file does not know who reads it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any, cast

from sleeptime.core import staleness
from sleeptime.core.caps import NANO, Caps, Spending
from sleeptime.core.context import Context
from sleeptime.core.deciding import Decision
from sleeptime.core.job import Job
from sleeptime.core.ledger import Account
from sleeptime.core.notes import LearnedContext
from sleeptime.core.staleness import Edit

Plain = dict[str, Any]  # Any: JSON


def plain(value: object) -> Any:  # Any: JSON is a tree of five types
    """Write any value of this package as JSON can hold it."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, AbstractSet):
        return sorted(plain(item) for item in cast("AbstractSet[object]", value))
    if isinstance(value, Sequence):
        return [plain(item) for item in cast("Sequence[object]", value)]
    return str(value)


def added(context: Context) -> Plain:
    """A context that was stored, without its text."""
    return {"id": context.id, "name": context.name, "characters": len(context.text)}


def edited(edit: Edit) -> Plain:
    """What an edit touched."""
    return {
        **added(edit.context),
        "is_change": edit.is_change,
        "sections_new": edit.sections_new,
        "sections_gone": edit.sections_gone,
        "version": edit.version,
        "stale": [note.id for note in edit.stale],
        "kept": edit.kept,
    }


def forgotten(context: Context, versions: int) -> Plain:
    """A context that is no more."""
    return {"id": context.id, "name": context.name, "versions": versions}


def shown(context: Context, versions: int, learned: LearnedContext | None) -> Plain:
    """A context with a version of what was learned; `stale` are the ids of its notes that are."""
    return {"context": plain(context), "versions": versions, **learned_now(context, learned)}


def learned_now(context: Context, learned: LearnedContext | None) -> Plain:
    """A version, and the ids of its notes that are stale in today's text."""
    stale = sorted(staleness.stale(learned, context)) if learned else []
    return {"learned": plain(learned), "stale": stale}


def decision(made: Decision) -> Plain:
    """A decision with its numbers and its sentence."""
    return {
        **plain(made.prospect),
        "reason": made.reason,
        "is_sleep": made.is_sleep,
        "expected": plain(made.queries),
        "net_saving": plain(made.net_saving),
        "limit": plain(made.limit),
        "sentence": made.sentence,
    }


def account(kept: Account) -> Plain:
    """One side of the ledger with its sums and its break-even."""
    return {
        **plain(kept),
        "total_tokens": kept.total.total_tokens,
        "total_cost_usd": plain(kept.total_cost_usd),
        "break_even_queries": plain(kept.tokens.queries),
        "break_even_queries_money": plain(kept.money.queries),
    }


def caps(most: Caps, spent: Mapping[str, Spending]) -> Plain:
    """What all sleeps may spend together and have spent, by period ("day", "month"); None is no cap."""
    return {
        "context": {"tokens": most.context_tokens, "usd": most.context_usd},
        **{
            period: {
                "tokens": tokens,
                "usd": usd,
                "spent_tokens": spent[period].tokens,
                "spent_usd": spent[period].nano_usd / NANO,
                "open_tokens": spent[period].open_tokens,
                "open_usd": spent[period].open_nano_usd / NANO,
            }
            for period, tokens, usd in most.periods
        },
    }


def job(queued: Job, context: str | None) -> Plain:
    """A job with the name of its context, and what it waits for in words."""
    return {"context": context, **plain(queued), "waits_for": waits_for(queued) or None}


def waits_for(queued: Job) -> str:
    """Say what a job waits for; of a failed one, why."""
    if queued.state == "queued":
        until = f" at {queued.waits_until:%H:%M:%S} UTC, after: {queued.error}" if queued.waits_until else ""
        return f"a worker{until}"
    if queued.state == "paused":
        return f"sleeptime jobs --resume {queued.id}"
    return (queued.error or "") if queued.state == "failed" else ""
