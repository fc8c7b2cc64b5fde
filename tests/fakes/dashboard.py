"""A dashboard on a real engine, served on loopback: its model says what a script says, and can be told to be slow."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import uvicorn
from starlette.requests import HTTPConnection

from sleeptime.core.caps import Caps
from sleeptime.core.messages import Completion, Message, ToolCall
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.engine import Engine
from sleeptime.models.protocol import Options
from sleeptime.models.scripted import ScriptedModel
from sleeptime.server import dashboard
from sleeptime.server.app import create_app
from sleeptime.settings import Settings
from sleeptime.store import open_store

STARTED_S = 20
CARD = PriceCard(name="s*", dated=datetime(2026, 5, 4, tzinfo=UTC).date(), input_usd_per_mtok=1, output_usd_per_mtok=8)
LINES = (
    "The north region sold 412 pumps in March and 388 in April, at 129 euros each.",
    "Returns in the north were 14 pumps in March; eleven of them came back for the same seal.",
    "The south region sold 291 pumps in March and 355 in April, at 119 euros each.",
    "# Staff",
    "Maria leads the north with nine people. Jonas leads the south with seven.",
)
TEXT = "\n\n".join(LINES)
NOTES = (
    ("inference", "The north sold 24 fewer pumps in April than in March.", None, LINES[0]),
    ("anticipated", "The south: 64 pumps more in April than in March.", "Which region grew most?", LINES[2]),
    ("inference", "Eleven of 14 returns had the same cause: the seal.", None, LINES[1]),
    ("plan", "For margins, begin with the price of a pump.", None, "*"),
)
QUESTION = "Which region grew most?"


class Model(ScriptedModel):
    """Two notes a round; `pause_s` is what a round takes, `rounds` how many there are."""

    def __init__(self) -> None:
        super().__init__(self._says, name="s")
        self.pause_s = 0.0
        self.rounds = 2
        self.answers = 0

    async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
        await anyio.sleep(self.pause_s if options.tools else 0)
        return await super().generate(messages, options)

    def _says(self, messages: Sequence[Message], options: Options) -> Completion:
        shown = "\n".join(message.content for message in messages)
        spent = len(shown) // 4
        if not options.tools:
            self.answers += 1
            output = (150 if "24 fewer" in shown else 620) + 7 * (self.answers % 5)
            return Completion(text="The south.", usage=Usage(input_tokens=spent, output_tokens=output), model="s")
        number = int(re.findall(r"This is round (\d+)", shown)[-1])
        add = [
            {"kind": kind, "text": text, "evidence": [line], **({"question": question} if question else {})}
            for kind, text, question, line in NOTES[2 * number - 2 : 2 * number]
        ]
        if self.rounds > len(NOTES):  # a long sleep goes on finding something
            add += [{"kind": "inference", "text": f"Fact {number}.", "evidence": ["*"]}]
        call = ToolCall(name="revise_notes", arguments={"add": add, "done": number >= self.rounds})
        usage = Usage(input_tokens=spent, output_tokens=200)
        return Completion(text="", usage=usage, model="s", tool_calls=(call,))


class Clock:
    """Time that passes when it is told to, until it is let go."""

    def __init__(self, begin: datetime) -> None:
        self.at: datetime | None = begin

    def __call__(self) -> datetime:
        return self.at or datetime.now(UTC)

    def passes(self, **time: float) -> None:
        assert self.at is not None
        self.at += timedelta(**time)


async def lived_in(engine: Engine, clock: Clock) -> None:
    """A report that was slept on and asked about with and without notes, an edited handbook, and one left alone."""
    for name in ("report", "handbook", "left alone"):
        await engine.add(TEXT, name=name, source=f"{name}.md")
        clock.passes(minutes=5)
    for turn in range(12):
        clock.passes(hours=2)
        if turn == 3:
            await engine.sleep("report")
            await engine.sleep("handbook")
        sees = "context" if turn % 3 == 0 else None
        await engine.ask("report", QUESTION, sees=sees)
    await engine.ask("left alone", QUESTION)
    await engine.update("handbook", f"{TEXT}\n\nFreight is free now.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A dashboard under `url`, and what is behind it."""

    url: str
    engine: Engine
    model: Model
    clock: Clock


@asynccontextmanager
async def served(place: Path, *, is_lived_in: bool = True, caps: Caps = Caps()) -> AsyncGenerator[Served]:
    """Serve the dashboard of a new store; by default of one that was used for a while."""
    model, clock = Model(), Clock(datetime.now(UTC) - timedelta(days=2))
    store = await open_store(place / "test.db")
    engine = Engine(store, model=model, cards=[CARD], settings=Settings(caps=caps), environ={}, now=clock)
    if is_lived_in:
        await lived_in(engine, clock)
    clock.at = None

    async def find(_: HTTPConnection) -> Engine:
        return engine

    app = create_app(find, routes=dashboard.routes())
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="none"))
    serving = asyncio.create_task(server.serve())
    with anyio.fail_after(STARTED_S):
        while not server.started:  # noqa: ASYNC110  # uvicorn tells in no other way
            await anyio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Served(url=f"http://127.0.0.1:{port}", engine=engine, model=model, clock=clock)
    finally:
        server.should_exit = True
        await serving
        await engine.aclose()
