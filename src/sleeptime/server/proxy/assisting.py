"""Which notes a query is shown, and as what text: looked up behind the requests, kept for seconds.

    name of a context, text of the prefix → newest version → neither stale nor quarantined → text to add

While queries on a context keep coming, its notes are looked up in the background and no request waits. Where what
is kept is too old, or of another text, the request waits for the database, WAIT_S at most, and then goes without. So
a note may still be shown for OLDEST_S after it was quarantined.

Notes are judged by the text that the request itself holds: what was learned from another turn of a conversation, or
before somebody edited the context, is shown only as far as its evidence stands there. They are text from elsewhere,
fenced, and can end no fence: neither ours nor one of the application's.

This file does not know where in a request the text goes.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from sleeptime import prompts
from sleeptime.core import staleness
from sleeptime.core.context import Context
from sleeptime.core.errors import ContextNotFoundError
from sleeptime.core.fences import disarmed
from sleeptime.core.notes import LearnedContext, Note
from sleeptime.engine import Engine
from sleeptime.server.proxy.relay import Counts

FRESH_S = 2.0
OLDEST_S = 10.0
WAIT_S = 0.05
MOST_KEPT = 1000
"""Contexts of one tenant whose notes are kept at hand."""
_CLOSES = re.compile(r"<\s*/[\s/]*([A-Za-z_][\w-]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The notes of a version that a query is shown, and the text that shows them."""

    version: int
    notes: tuple[Note, ...]
    text: str

    def between(self, before: str) -> str:
        """The text as it stands between what comes before in the same message and what is asked."""
        return f"{'' if not before or before.endswith(chr(10)) else chr(10) * 2}{self.text}\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What was found for texts that begin with so many characters of that hash."""

    at_s: float
    shown: Shown | None
    characters: int
    beginning: int

    def is_of(self, text: str) -> bool:
        return len(text) >= self.characters and hash(text[: self.characters]) == self.beginning


class Assistant:
    """Finds notes, for each engine by itself."""

    def __init__(self, counts: Counts, clock_s: Callable[[], float]) -> None:
        self._counts, self._clock_s = counts, clock_s
        self._kept: WeakKeyDictionary[Engine, OrderedDict[str, _Kept]] = WeakKeyDictionary()
        self._looking: WeakKeyDictionary[Engine, dict[str, asyncio.Task[None]]] = WeakKeyDictionary()

    async def shown(self, engine: Engine, name: str, text: str) -> Shown | None:
        """What a query on the context *name*, whose request begins with *text*, is shown; None for nothing."""
        kept = self._kept.setdefault(engine, OrderedDict()).get(name)
        age_s = 0.0 if kept is None else self._clock_s() - kept.at_s
        if kept is None or age_s > OLDEST_S or not kept.is_of(text):
            await asyncio.wait({self._look(engine, name, text)}, timeout=WAIT_S)
            kept = self._kept[engine].get(name)
            if kept is None or self._clock_s() - kept.at_s > OLDEST_S or not kept.is_of(text):
                return None
        elif age_s > FRESH_S:
            self._look(engine, name, text)
        return kept.shown

    def _look(self, engine: Engine, name: str, text: str) -> asyncio.Task[None]:
        """Look up, unless that is under way."""
        looking = self._looking.setdefault(engine, {})
        if name not in looking:
            looking[name] = asyncio.create_task(self._looked_up(engine, name, text))
            looking[name].add_done_callback(lambda _: looking.pop(name, None))
        return looking[name]

    async def _looked_up(self, engine: Engine, name: str, text: str) -> None:
        shown, judged = None, text
        try:
            context = await engine.store.context(name)
            learned = await engine.store.learned(context.id)
            if learned is not None:
                # A conversation has gone on since its context was kept: what was kept is how it begins.
                context = context if text.startswith(context.text) else replace(context, text=text)
                judged = context.text
                shown = await asyncio.to_thread(_shown, learned, context)
        except ContextNotFoundError:
            pass
        except Exception as error:  # noqa: BLE001  # the request goes on without notes
            self._counts.failed("Looking up notes", error)
        kept = self._kept.setdefault(engine, OrderedDict())
        kept[name] = _Kept(at_s=self._clock_s(), shown=shown, characters=len(judged), beginning=hash(judged))
        kept.move_to_end(name)
        if len(kept) > MOST_KEPT:
            kept.popitem(last=False)


def _shown(learned: LearnedContext, context: Context) -> Shown | None:
    notes = staleness.shown(learned, context)
    if not notes:
        return None
    prompt = prompts.load("notes-behind-prefix")
    said = prompt.notes(notes)
    (message,) = prompt.render({"learned": disarmed(said, _CLOSES.findall(said))})
    return Shown(version=learned.version, notes=notes, text=message.content)
