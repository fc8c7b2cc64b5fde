"""Watch what passes: recognise the context of each request, read its reply, and have both recorded.

    body → Asked → Recogniser → Prefix → name of a context          on the request's path: no waiting, no database
    mode = "assist": name → Assistant → notes behind the prefix     or by lot none (`core.holdout`)
    reply → usage → Call · Answer → Recorder                        behind it, in batches

A context is kept when it is recognised for the second time something was asked on it, and grows with the conversation
it follows. Contexts of a route that observes are never slept on unasked; their queries are rows of the ledger and
teach the scheduler, which forecasts what sleeping would save. A reply that reports no usage is a row with the outcome
"unmeasured" and no tokens, and teaches nothing: what was not measured is not made up.

This file does not know how bytes are carried.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from weakref import WeakKeyDictionary

from starlette.types import Scope

from sleeptime.core.anticipation import was_anticipated
from sleeptime.core.errors import NameTakenError, SleeptimeError
from sleeptime.core.holdout import is_held_out
from sleeptime.core.ledger import Call, Phase
from sleeptime.core.query import Answer, Query, Sees
from sleeptime.core.recognition import Prefix, Recogniser, name_of
from sleeptime.core.usage import Usage
from sleeptime.engine import Engine
from sleeptime.server.proxy.assisting import Assistant, Shown
from sleeptime.server.proxy.relay import Counts, Headers
from sleeptime.server.proxy.wire import APIS, Asked, Reply, read
from sleeptime.settings import RouteSettings
from sleeptime.store import Relayed

MOST_WAITING = 10_000
"""Records that wait for the database; more are dropped and counted."""
MOST_WAITING_CHARACTERS = 32 * 2**20
MOST_IN_BATCH = 200
BATCH_S = 0.25
MOST_KNOWN = 10_000
"""Contexts of one tenant whose names are remembered."""
UNMEASURED = "unmeasured"
_SIGNED = frozenset((b"content-digest", b"content-md5", b"digest", b"signature", b"x-amz-content-sha256"))
"""Headers of a request whose body must stay as it is."""

logger = logging.getLogger("sleeptime.proxy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The context that a request was recognised on, with its text as far as the request shows it."""

    name: str
    prefix: Prefix
    text: str
    route: RouteSettings

    @property
    def context_name(self) -> str:
        """What its context is kept as."""
        return f"{self.route.name}/{self.name}" if self.route.name else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request with its reply, to be kept."""

    engine: Engine
    call: Call
    found: Found | None
    answer: Answer | None
    shown: Shown | None = None

    @property
    def characters(self) -> int:
        """How much of memory it takes, about."""
        return len(self.found.text) if self.found else 0


class Observer:
    """Recognises contexts, for each engine and route by itself."""

    def __init__(
        self,
        upstream: str,
        routes: tuple[RouteSettings, ...],
        assistant: Assistant,
        recorder: Recorder,
        counts: Counts,
        clock_s: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._upstream = upstream
        self._routes = routes
        self.assistant = assistant
        self._recorder = recorder
        self.counts = counts
        self.clock_s, self.now = clock_s, now
        self._trees: WeakKeyDictionary[Engine, dict[str, Recogniser]] = WeakKeyDictionary()

    def attend(self, scope: Scope, body: bytes) -> Observed | None:
        """Read a request, if it is one that asks a model; None for all others."""
        api = APIS.get(scope["path"])
        if api is None or scope["method"] != "POST":
            return None
        headers = dict(scope["headers"])
        if headers.get(b"x-sleeptime", b"").strip().lower() == b"off" or b"content-encoding" in headers:
            return None
        asked = read(api, body)
        if asked is None:
            self.counts.unreadable += 1
            return None
        route = next((each for each in self._routes if _matches(each, asked.model)), RouteSettings())
        engine: Engine = scope["state"]["engine"]
        tree = self._trees.setdefault(engine, {}).setdefault(
            route.name, Recogniser(least_characters=route.least_characters)
        )
        prefix = tree.see(asked.parts)
        found = None
        if prefix is not None and prefix.characters <= route.most_characters:
            self.counts.recognised += 1
            text = prefix.text(asked.parts)
            found = Found(name=name_of(text, prefix.key), prefix=prefix, text=text, route=route)
        is_assisted = route.mode == "assist" and found is not None and not _SIGNED & headers.keys()
        return Observed(self, engine, asked, found, route, body if is_assisted else None)

    def record(self, record: Record) -> None:
        """Have it kept."""
        self._recorder.put(record)

    def model_name(self, model: str) -> str:
        """The model as the ledger names it."""
        return f"openai:{model}" if "//api.openai.com" in self._upstream else f"{self._upstream}#{model}"


class Observed:
    """An `Attention`: one request and its reply, observed."""

    def __init__(
        self,
        observer: Observer,
        engine: Engine,
        asked: Asked,
        found: Found | None,
        route: RouteSettings,
        assisted: bytes | None,
    ) -> None:
        self.body: bytes | None = None
        self._observer, self._engine, self._found, self._route = observer, engine, found, route
        self._model = observer.model_name(asked.model)
        self._level = asked.level
        self._assisted = None if assisted is None else (asked, assisted)
        self._shown: Shown | None = None
        self._is_held_out = False
        self._query = asked.query(found.prefix.part, found.prefix.cut) if found else ""
        self._reply = Reply(api=asked.api)
        self._status = 0
        self._at, self._began_s = observer.now(), observer.clock_s()

    @property
    def header(self) -> bytes:
        """What was done, such as `mode=assist; context=the-invoices-of-2024-abcdef01; version=2`."""
        context = f"; context={self._found.name}" if self._found else ""
        notes = f"; version={self._shown.version}" if self._shown else "; holdout" if self._is_held_out else ""
        return f"mode={self._route.mode}{context}{notes}".encode("ascii", "replace")

    async def prepared(self) -> None:
        """Put notes behind the prefix, if there are any to show and the lot does not fall on the holdout."""
        if self._assisted is None or self._found is None:
            return
        (asked, body), self._assisted = self._assisted, None
        counts, found, assistant = self._observer.counts, self._found, self._observer.assistant
        try:
            place = asked.behind(found.prefix.part, found.prefix.cut)
            shown = await assistant.shown(self._engine, found.context_name, found.text) if place else None
            if place is None or shown is None:
                return
            if is_held_out(body, self._route.holdout):
                self._is_held_out = True
                counts.held_out += 1
                return
            part, cut = place
            self.body = asked.with_text(body, part, cut, shown.between(asked.parts[part].text[:cut]))
            self._shown = shown
            counts.assisted += 1
        except Exception as error:  # noqa: BLE001  # the request goes out as the client sent it, and is recorded so
            counts.failed("Adding notes", error)

    def refused(self) -> None:
        """Go on without the notes: too long for the model, perhaps."""
        self.body = self._shown = None
        self._observer.counts.refused += 1

    def begun(self, status: int, headers: Headers) -> None:
        """Read the head of the reply."""
        self._status = status
        self._reply.begun(headers)

    def heard(self, chunk: bytes) -> None:
        """Read another chunk of it."""
        if self._status == 200:
            self._reply.heard(chunk)

    def ended(self, *, is_whole: bool) -> None:
        """Have the exchange recorded."""
        if self._status == 200 and is_whole:
            self._reply.ended()
        usage, is_ok = self._reply.usage, self._status == 200 and is_whole
        outcome = (
            "ok" if is_ok and usage else UNMEASURED if is_ok else f"http {self._status}" if is_whole else "broken off"
        )
        latency_s = self._observer.clock_s() - self._began_s
        price = self._engine.price_card(self._model)
        cost_usd = price.cost_usd(usage) if price and usage else None
        sees: Sees = "context+learned" if self._shown else "context"
        version = self._shown.version if self._shown else None
        work_id = f"q{uuid.uuid4().hex[:12]}"
        call = Call(
            id=uuid.uuid4().hex,
            at=self._at,
            phase=Phase.TEST,
            model=self._model,
            usage=usage or Usage(),
            cost_usd=cost_usd if usage else 0.0 if self._status >= 400 else None,
            latency_s=latency_s,
            outcome=outcome,
            price_card=price.name if price else None,
            work_id=work_id,
            version=version,
            sees=sees if self._found else None,
            level=str(self._level),
            request_id=self._reply.request_id,
        )
        answer = None
        if self._found and is_ok and usage:
            answer = Answer(
                text=self._reply.answer(),
                query=Query(question=self._query, level=self._level, sees=sees),
                model=self._model,
                usage=usage,
                cost_usd=cost_usd,
                latency_s=latency_s,
                finish_reason=self._reply.finish_reason,
                version=version,
                thinking="".join(self._reply.thinking),
            )
        self._observer.record(
            Record(engine=self._engine, call=call, found=self._found, answer=answer, shown=self._shown)
        )


class Recorder:
    """Keeps records in the background, a transaction a batch; what the database cannot keep up with is dropped."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._waiting: list[Record] = []
        self._characters = 0
        self._has_some = asyncio.Event()
        self._known: WeakKeyDictionary[Engine, OrderedDict[str, tuple[str, int]]] = WeakKeyDictionary()
        self._running: asyncio.Task[None] | None = None

    def put(self, record: Record) -> None:
        """Have *record* kept; never waits."""
        if len(self._waiting) >= MOST_WAITING or self._characters > MOST_WAITING_CHARACTERS:
            self._counts.dropped += 1
            if self._counts.dropped % 1000 == 1:
                logger.warning(
                    "The database does not keep up; %d records dropped", self._counts.dropped,
                    extra={"action": "proxy.dropped"},
                )  # fmt: skip
            return
        self._waiting.append(record)
        self._characters += record.characters
        self._has_some.set()

    async def start(self) -> None:
        """Begin to keep what comes."""
        self._running = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Keep what waits, and end."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        while self._waiting:
            await self._flush()

    async def _run(self) -> None:
        while True:
            await self._has_some.wait()
            await asyncio.sleep(BATCH_S)
            await asyncio.shield(self._flush())

    async def _flush(self) -> None:
        batch, self._waiting = self._waiting[:MOST_IN_BATCH], self._waiting[MOST_IN_BATCH:]
        self._characters = sum(record.characters for record in self._waiting)
        if not self._waiting:
            self._has_some.clear()
        for engine in {id(record.engine): record.engine for record in batch}.values():
            own = [record for record in batch if record.engine is engine]
            try:
                await engine.keep_relayed([await self._relayed(record) for record in own])
                self._counts.recorded += len(own)
            except Exception as error:  # noqa: BLE001  # the requests were answered long ago
                self._counts.dropped += len(own)
                self._counts.failed("Recording", error)

    async def _relayed(self, record: Record) -> Relayed:
        context_id = None
        if record.found is not None:
            try:
                context_id = await self._context_id(record.engine, record.found)
            except SleeptimeError as error:
                self._counts.failed("Keeping a context", error)
        call = replace(record.call, context_id=context_id, sees=record.call.sees if context_id else None)
        if record.answer is None or not context_id:
            return Relayed(call=call)
        notes = record.shown.notes if record.shown else None
        is_anticipated = None if notes is None else was_anticipated(record.answer.query.question, notes)
        return Relayed(call=call, answer=record.answer, is_anticipated=is_anticipated)

    async def _context_id(self, engine: Engine, found: Found) -> str:
        """The id of the context of a request: kept now if it is new, longer now if its conversation went on."""
        known = self._known.setdefault(engine, OrderedDict())
        key = f"{found.route.name}:{found.prefix.key}"
        context_id, characters = known.get(key, ("", 0))
        if not context_id:
            name = found.context_name
            is_observed = found.route.mode == "observe"
            try:
                context = await engine.add(
                    found.text, name=name, source=f"proxy:{found.route.name}", is_observed=is_observed
                )
            except NameTakenError:
                context = await engine.store.context(name)  # it has grown since, or was edited
            await engine.observe(context.id, is_observed=is_observed)
            context_id, characters = context.id, len(found.text)
        elif found.prefix.is_followed and len(found.text) > characters:
            await engine.update(context_id, found.text[characters:].lstrip("\n"), append=True)
            characters = len(found.text)
        known[key] = (context_id, characters)
        known.move_to_end(key)
        if len(known) > MOST_KNOWN:
            known.popitem(last=False)
        return context_id


def _matches(route: RouteSettings, model: str) -> bool:
    return any(fnmatchcase(model, pattern.strip()) for pattern in route.models.split(","))
