"""Every paid call of a run, kept so that none is paid for twice and none is made that the cap cannot pay for.

    before a call   set aside the most it can cost, or refuse
    after it        keep what it said and what it cost, in one transaction
    asked again     say it again, for nothing

A call is the same if model, messages and options are, and if it is the same one of equal
calls within one piece of work: a draw has its own seed, and so its own row. One that is asked
for while it is under way waits for what is said. What was set aside when a process died stays
counted as spent, for it may have been billed.

This file does not know samples, arms or Inspect.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import anyio
from pydantic import TypeAdapter

from sleeptime.core.errors import (
    ContextTooLongError,
    EndpointUnreachableError,
    MalformedReplyError,
    ModelError,
    SleeptimeError,
)
from sleeptime.core.messages import Completion, LogProb, Message
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.models.forwarding import Forwarding
from sleeptime.models.protocol import Model, Options

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, said TEXT NOT NULL, cost_usd REAL);
CREATE TABLE IF NOT EXISTS aside (id INTEGER PRIMARY KEY, key TEXT NOT NULL, cost_usd REAL NOT NULL);
"""
Said = TypeVar("Said", Completion, LogProb)
_COMPLETION, _LOG_PROB = TypeAdapter(Completion), TypeAdapter(LogProb)


class CapReachedError(ModelError):
    """The next call might pass the money cap of this run, so it was not made."""

    def __init__(self, *, cap_usd: float, spent_usd: float, next_usd: float) -> None:
        super().__init__(
            f"The cap of {cap_usd:.2f} USD leaves no room for a call of up to {next_usd:.4f} USD after "
            f"{spent_usd:.4f} USD. What was measured is kept; run again with a higher --max-cost to go on."
        )


class JournalError(SleeptimeError):
    """The file of a run cannot be used."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the file of a run, which survives the death of its process at any moment. Raises JournalError."""
    connection = None
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise JournalError(
            f"{path} cannot be used as the file of a run: {error}. Restore a copy, or choose another --out."
        ) from error
    return connection


class Journal:
    """The calls of one run, and its money. `max_cost_usd` None is no cap."""

    def __init__(self, connection: sqlite3.Connection, *, max_cost_usd: float | None = None) -> None:
        self._connection = connection
        self.max_cost_usd = max_cost_usd
        connection.executescript(_SCHEMA)
        priced, unpriced = connection.execute(
            "SELECT coalesce(sum(cost_usd), 0), count(*) - count(cost_usd) FROM calls"
        ).fetchone()
        lost, unbounded = connection.execute(
            "SELECT coalesce(sum(iif(cost_usd < 9e999, cost_usd, 0)), 0), coalesce(sum(cost_usd = 9e999), 0) FROM aside"
        ).fetchone()
        self._counted_usd = float(priced) + float(lost)
        self._unpriced = int(unpriced) + int(unbounded)
        self._turns = WeakValueDictionary[str, anyio.Lock]()

    @property
    def spent_usd(self) -> float | None:
        """What was paid, with what may have been in calls that got no reply; None if a price was unknown."""
        return None if self._unpriced else self._counted_usd

    @property
    def paid_calls(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM calls").fetchone()[0])

    def turn(self, key: str) -> anyio.Lock:
        """What holds back a call while the same one is under way."""
        return self._turns.setdefault(key, anyio.Lock())

    def find(self, key: str) -> str | None:
        """What was said in this call, if it was made."""
        row = self._connection.execute("SELECT said FROM calls WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def begin(self, key: str, most_usd: float | None) -> int:
        """Set aside the most a call can cost; gives a number to settle it by. Raises CapReachedError.

        None is a call of unknown price: no cap holds for it, and what it costs is unknown as well.
        """
        most = most_usd or 0.0
        if self.max_cost_usd is not None and self._counted_usd + most > self.max_cost_usd:
            raise CapReachedError(cap_usd=self.max_cost_usd, spent_usd=self._counted_usd, next_usd=most)
        kept = math.inf if most_usd is None else most_usd
        made = self._connection.execute("INSERT INTO aside (key, cost_usd) VALUES (?, ?)", (key, kept))
        self._count(most_usd)
        return int(made.lastrowid or 0)

    def settle(self, number: int, most_usd: float | None, key: str, said: str, cost_usd: float | None) -> None:
        """Keep what was said, and its price in place of what was set aside."""
        with self._connection:
            self._connection.execute("BEGIN")
            self._connection.execute("INSERT OR REPLACE INTO calls VALUES (?, ?, ?)", (key, said, cost_usd))
            self._connection.execute("DELETE FROM aside WHERE id = ?", (number,))
        self._count(most_usd, sign=-1)
        self._count(cost_usd)

    def release(self, number: int, most_usd: float | None) -> None:
        """Give back what was set aside for a call that cost nothing."""
        self._connection.execute("DELETE FROM aside WHERE id = ?", (number,))
        self._count(most_usd, sign=-1)

    def _count(self, cost_usd: float | None, *, sign: int = 1) -> None:
        self._counted_usd += sign * (cost_usd or 0.0)
        self._unpriced += sign * (cost_usd is None)


class Journaled(Forwarding):
    """A model for one piece of work, whose calls are kept in a journal. Make a new one for the next piece.

    *price* is None where none is known. `usages` tells what each of the work's calls took, replayed or not.
    """

    def __init__(self, model: Model, journal: Journal, price: PriceCard | None) -> None:
        super().__init__(model)
        self._journal, self._price = journal, price
        self._made = Counter[str]()
        self.usages: list[Usage] = []

    async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
        """Reply to *messages*, or say again what was replied."""
        key = self._key("generate", messages, options, "")
        return await self._once(
            key,
            lambda: self._most_usd(messages, options),
            lambda: self._model.generate(messages, options),
            _COMPLETION,
        )

    async def complete(self, messages: Sequence[Message], options: Options, *, prefix: str) -> Completion:
        """Go on from *prefix*, or say again how it went on."""
        key = self._key("complete", messages, options, prefix)
        return await self._once(
            key,
            lambda: self._most_usd([*messages, Message("assistant", prefix)], options),
            lambda: self._model.complete(messages, options, prefix=prefix),
            _COMPLETION,
        )

    async def log_prob(self, query: str, *, given: Sequence[Message]) -> LogProb:
        """Measure, or say again what was measured. A model that can be measured this way is local: nobody bills it."""
        key = self._key("log_prob", given, None, query)
        return await self._once(key, None, lambda: self._model.log_prob(query, given=given), _LOG_PROB)

    def _key(self, verb: str, messages: Sequence[Message], options: Options | None, text: str) -> str:
        asked = [verb, self.name, [[each.role, each.content] for each in messages], _settings(options), text]
        written = json.dumps(asked, sort_keys=True)
        self._made[written] += 1
        return hashlib.sha256(f"{self._made[written]} {written}".encode("utf-8", "surrogatepass")).hexdigest()

    async def _most_usd(self, messages: Sequence[Message], options: Options) -> float | None:
        """The most a call can cost: all input at the full price, and every output token it may ask for."""
        if self._price is None:
            return None
        count = await self._model.count_tokens(messages, tools=options.tools)
        return self._price.cost_usd(Usage(input_tokens=count.tokens, output_tokens=options.max_output_tokens))

    async def _once(
        self,
        key: str,
        most_usd: Callable[[], Awaitable[float | None]] | None,
        call: Callable[[], Awaitable[Said]],
        form: TypeAdapter[Said],
    ) -> Said:
        """Make a call once; *most_usd* tells the most it can cost, and is None for one that nobody bills."""
        async with self._journal.turn(key):
            kept = self._journal.find(key)
            if kept is not None:
                said = form.validate_json(kept)
            else:
                most = await most_usd() if most_usd else 0.0
                number = self._journal.begin(key, most)
                said = await self._paid(call, number, most)
                self._journal.settle(
                    number, most, key, form.dump_json(said).decode(), self._cost_usd(said.usage) if most_usd else 0.0
                )
        self.usages.append(said.usage)
        return said

    def _cost_usd(self, usage: Usage) -> float | None:
        return self._price.cost_usd(usage) if self._price else None

    async def _paid(self, call: Callable[[], Awaitable[Said]], number: int, most_usd: float | None) -> Said:
        try:
            return await call()
        except (ModelError, ContextTooLongError) as error:
            if not _may_be_billed(error):
                self._journal.release(number, most_usd)
            raise


def _may_be_billed(error: Exception) -> bool:
    """Whether a failed call went out and may have been worked on."""
    if isinstance(error, EndpointUnreachableError):
        return error.was_sent
    return isinstance(error, MalformedReplyError)


def _settings(options: Options | None) -> dict[str, Any]:  # Any: JSON
    if options is None:
        return {}
    settings = asdict(options)
    del settings["on_text"]
    return settings
