"""What the usual triggers would have cost on the same traces, and what hindsight would.

    a trigger    times at which a context is slept on; each sleeps on what has no notes or stale ones, else on nothing
    hindsight    each stretch by itself: max(0, saving of its queries behind a sleep at its start − price of that sleep)

Hindsight may sleep on any section at any time, which is more than a policy may, and to sleep later than at the start
of a stretch never helps: so this is the optimum itself, without a search. It knows every query, edit and cost.

Triggers get the benefit of every doubt: they skip what is unchanged and pay only for the changed fraction.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sleeptime.evals.simulator.worlds import SLEEP_DAYS, TRACE_DAYS, Array, Batch

IDLE_DAYS = 30 / (24 * 60)
KEY_DAYS = 64.0
"""Contexts stand this far apart when their times are laid on one line."""


def triggers() -> dict[str, Callable[[Batch], Array]]:
    """All baselines by name: each gives its times, laid on one line."""
    return {
        "never": lambda _batch: np.empty(0),
        "always": lambda batch: np.sort(key(batch.stretch_context, batch.stretch_from)),
        "every 5 turns": lambda batch: every(batch, 5),
        "every 25 turns": lambda batch: every(batch, 25),
        "on idle": on_idle,
        "nightly": nightly,
        "24 h and 5 talks": day_and_five,
    }


def key(context: NDArray[np.int64], at: Array) -> Array:
    """Lay the times of all contexts on one line."""
    return context * KEY_DAYS + at


def cost_without_sleep(batch: Batch) -> Array:
    """Cost of each trace without any sleep."""
    return _per_trace(batch, batch.query_context, batch.query_cost)


def triggered_cost(batch: Batch, times: Array) -> Array:
    """Cost of each trace when every context is slept on at *times*."""
    starts = key(batch.stretch_context, batch.stretch_from)
    ends = key(batch.stretch_context, batch.stretch_to)
    at = np.append(times, np.inf)[np.searchsorted(times, starts)]
    sleeps = at < ends
    saved = _saved_from(batch, np.where(sleeps, at, ends))
    paid = np.where(sleeps, batch.sleep_cost[batch.stretch_context] * batch.stretch_share, 0.0)
    return cost_without_sleep(batch) + _per_trace(batch, batch.stretch_context, paid - saved)


def hindsight_cost(batch: Batch) -> Array:
    """Cost of each trace at its optimum."""
    saved = _saved_from(batch, key(batch.stretch_context, batch.stretch_from))
    paid = batch.sleep_cost[batch.stretch_context] * batch.stretch_share
    return cost_without_sleep(batch) + _per_trace(batch, batch.stretch_context, np.minimum(0.0, paid - saved))


def _saved_from(batch: Batch, times: Array) -> Array:
    """Saving of each stretch's queries, if it is slept on at *times*."""
    queries = key(batch.query_context, batch.query_at)
    sums = np.concatenate([[0.0], np.cumsum(batch.query_saving)])
    last = np.searchsorted(queries, key(batch.stretch_context, batch.stretch_to))
    first = np.minimum(np.searchsorted(queries, times + SLEEP_DAYS), last)
    return (sums[last] - sums[first]) * batch.stretch_share


def _per_trace(batch: Batch, context: NDArray[np.int64], amounts: Array) -> Array:
    return np.bincount(batch.context_trace[context], weights=amounts, minlength=batch.traces).astype(np.float64)


def every(batch: Batch, turns: int) -> Array:
    """List the times of every *turns*-th query of a context."""
    first = np.searchsorted(batch.query_context, batch.query_context)
    number = np.arange(len(first)) - first + 1
    at_turn = number % turns == 0
    return key(batch.query_context, batch.query_at)[at_turn]


def on_idle(batch: Batch) -> Array:
    """Half an hour after a query, unless another came."""
    times = key(batch.query_context, batch.query_at)
    return times[np.diff(times, append=np.inf) > IDLE_DAYS] + IDLE_DAYS


def nightly(batch: Batch) -> Array:
    """Every night, on all there is."""
    nights = np.arange(1.0, TRACE_DAYS)
    context, night = np.nonzero(nights[None, :] >= batch.arrives[:, None])
    return key(context, nights[night])


def day_and_five(batch: Batch) -> Array:
    """When 24 hours and five conversations have gone by since the last time; half an hour parts conversations."""
    times = key(batch.query_context, batch.query_at)
    opens = np.diff(times, prepend=-np.inf) > IDLE_DAYS
    found: list[float] = []
    last, talks, context_now = 0.0, 0, -1
    arrives = batch.arrives.tolist()
    for context, at, is_open in zip(batch.query_context.tolist(), batch.query_at.tolist(), opens.tolist(), strict=True):
        if context != context_now:
            context_now, last, talks = context, arrives[context], 0
        talks += is_open
        if talks >= 5 and at - last >= 1.0:
            found.append(context * KEY_DAYS + at)
            last, talks = at, 0
    return np.array(found)
