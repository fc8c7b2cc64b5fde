"""REST: contexts, sleeps, answers, versions, jobs, the ledger, decisions and caps.

    parse → one call of the engine → JSON, as `--json` prints it

A context is named in a path by its name, its id, or the beginning of its id; one whose name holds a slash by its id.
Lists come a page at a time: `next` of one page is `after` (or `before`) of the next. This file decides nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from sleeptime.core import wire
from sleeptime.core.budget import Budget, Level
from sleeptime.core.diff import Diff
from sleeptime.core.errors import JobNotFoundError, SleeptimeError, VersionNotFoundError
from sleeptime.core.job import Job, JobState
from sleeptime.core.ledger import DEFAULT_TEST_TOKEN_PRICE
from sleeptime.core.notes import LearnedContext
from sleeptime.core.plan import MAX_CHARACTERS, Plan, StrategyName
from sleeptime.core.query import Answer, Sees
from sleeptime.engine import Engine
from sleeptime.server import shapes
from sleeptime.server.failures import JsonReply, told
from sleeptime.server.operations import Body, Operation, Where, document, routes_of

MOST_IN_A_PAGE = 1000
MOST_VERSIONS = 2**31 - 1
MOST_SAMPLES = 100
BUDGET = r"^(v?[0-4]|minimal|low|medium|high|(think|thinking|force|extend):[1-9][0-9]{0,8})$"


def _whole(value: object) -> object:
    """JSON has one kind of number: 3.0 is 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


AsWhole = BeforeValidator(_whole)
Count = Annotated[int, Field(ge=1, le=MOST_VERSIONS), AsWhole]
Cap = Annotated[int, Field(ge=MOST_SAMPLES, le=10**12, description="A token a sample, at least."), AsWhole]
Money = Annotated[float, Field(gt=0, le=1e9)]
Limit = Annotated[int, Field(ge=1, le=MOST_IN_A_PAGE, description="How many, at most.")]


Text = Annotated[str, Field(pattern=r"\S", description="Not white space alone.")]


# Contexts


class InContext(Where):
    context: Annotated[str, Field(min_length=1, description="Name or id, or the beginning of an id.")]


class Page(Where):
    limit: Limit = 100
    after: Annotated[str | None, Field(description="The `next` of the page before.")] = None


FROM_THE_API = "api:"
"""Begins the source of a text that came over HTTP, so that it never passes for a place on the server's disk."""


class NewContext(Body):
    name: Annotated[str, Field(min_length=1)]
    text: Text
    source: str = ""


class NewText(Body):
    text: Text
    append: bool = False
    source: str | None = None


async def add_context(engine: Engine, _where: Where, body: NewContext) -> object:
    """Keep a text as a context.

    The same name with the same text gives back the one stored.
    """
    return wire.added(await engine.add(body.text, name=body.name, source=f"{FROM_THE_API}{body.source}"))


async def list_contexts(engine: Engine, page: Page) -> object:
    """List the contexts, oldest first."""
    return _page("contexts", await engine.contexts(), page.after, page.limit)


async def show_context(engine: Engine, where: InContext) -> object:
    """Show a context with the newest version of what was learned about it."""
    context = await engine.store.context(where.context)
    versions = await engine.store.versions(context.id)
    return wire.shown(context, len(versions), versions[-1] if versions else None)


async def update_context(engine: Engine, where: InContext, body: NewText) -> object:
    """Give a context another text, or append to it; say which notes that made stale."""
    source = None if body.source is None else f"{FROM_THE_API}{body.source}"
    return wire.edited(await engine.update(where.context, body.text, append=body.append, source=source))


async def forget_context(engine: Engine, where: InContext) -> object:
    """Delete a context with everything that was learned about it. Its ledger rows stay."""
    context = await engine.store.context(where.context)
    versions = await engine.store.versions(context.id)
    await engine.forget(context.id)
    return wire.forgotten(context, len(versions))


# Sleeping and answering


class HowToSleep(Body):
    strategy: StrategyName = "notes"
    samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES), AsWhole] = 1
    effort: Literal["minimal", "low", "medium", "high"] | None = None
    temperature: Annotated[float, Field(gt=0, le=2, description="Else 0, or 0.8 for several samples.")] | None = None
    max_characters: Annotated[int, Field(ge=1, le=10**9), AsWhole] = MAX_CHARACTERS
    max_rounds: Annotated[int, Field(ge=1, le=1000), AsWhole] = 10
    max_output_tokens: Cap | None = None
    max_cost_usd: Money | None = None
    again: Annotated[bool, Field(description="Think about the whole text, whatever is known of it.")] = False

    @property
    def plan(self) -> Plan:
        return Plan(
            strategy=self.strategy,
            samples=self.samples,
            effort=self.effort,
            temperature=self.temperature,
            max_characters=self.max_characters,
            budget=Budget(
                max_output_tokens=self.max_output_tokens, max_cost_usd=self.max_cost_usd, max_rounds=self.max_rounds
            ),
        )


class NewSleep(HowToSleep):
    background: Annotated[bool, Field(description="Leave it to a worker, and reply with the job.")] = False


class NewQuestion(Body):
    model_config = ConfigDict(
        json_schema_extra={
            "not": {
                "properties": {"sees": {"const": "context"}, "version": {"type": "integer"}},
                "required": ["sees", "version"],
            }
        }
    )

    question: Annotated[str, Field(min_length=1)]
    budget: Annotated[
        str, Field(pattern=BUDGET, description="0 to 4 (verbosity), low, medium, high, think:N, force:N or extend:N.")
    ] = "3"
    sees: Sees | None = None
    version: Count | None = None
    max_output_tokens: Cap | None = None
    max_cost_usd: Money | None = None
    stream: Annotated[bool, Field(description="Send events: `text` piece by piece, then `answer` or `error`.")] = False


async def sleep_on(engine: Engine, where: InContext, body: NewSleep) -> object:
    """Think about a context, and publish what was learned as its next version.

    With `background` a job is queued (202); else the reply comes when the sleep is over (200).
    """
    if body.background:
        job = await engine.enqueue(where.context, body.plan, again=body.again)
        return JsonReply(wire.job(job, (await engine.store.context(job.context_id)).name), 202)
    return await engine.sleep(where.context, body.plan, again=body.again)


async def forecast(engine: Engine, where: InContext, body: HowToSleep) -> object:
    """Say the most that a sleep may cost, and what is decided on it. Nothing is spent."""
    most = await engine.forecast(where.context, body.plan, again=body.again)
    decision = await engine.decide(where.context)
    return {**wire.plain(most), "decision": decision and wire.decision(decision)}


async def ask(engine: Engine, where: InContext, body: NewQuestion) -> object:
    """Answer a question about a context, in one reply or as server-sent events."""

    def answering(on_text: Callable[[str], None] | None) -> Any:  # Any: a coroutine, made where it is awaited
        return engine.ask(
            where.context,
            body.question,
            level=Level.parse(body.budget),
            sees=body.sees,
            version=body.version,
            budget=Budget(max_output_tokens=body.max_output_tokens, max_cost_usd=body.max_cost_usd),
            on_text=on_text,
        )

    return await _streamed(answering) if body.stream else await answering(None)


async def _streamed(answering: Callable[[Callable[[str], None]], Any]) -> Response:
    """Reply with events once the answer has begun. What fails before has the status of its error."""
    pieces: asyncio.Queue[str | None] = asyncio.Queue()
    asking: asyncio.Task[Answer] = asyncio.create_task(answering(pieces.put_nowait))
    asking.add_done_callback(lambda _: pieces.put_nowait(None))
    try:
        first = await pieces.get()
        if first is None:
            asking.result()
    except BaseException:
        asking.cancel()
        raise

    async def events() -> AsyncGenerator[bytes]:
        try:
            piece = first
            while piece is not None:
                yield _event("text", {"text": piece})
                piece = await pieces.get()
            try:
                answer = asking.result()
            except SleeptimeError as error:
                yield _event("error", told(type(error).__name__, str(error)))
            else:
                yield _event("answer", wire.plain(answer))
        finally:
            asking.cancel()  # whoever asked has gone

    return StreamingResponse(events(), media_type="text/event-stream", headers={"cache-control": "no-store"})


def _event(kind: str, data: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode("ascii")


# Versions


class InVersion(InContext):
    version: Count


class Two(InContext):
    before: Annotated[Count | None, Field(description="A version; else the one before.")] = None
    after: Annotated[Count | None, Field(description="Another version; else the newest.")] = None


class Back(Body):
    version: Count


class Few(InContext):
    limit: Annotated[int, Field(ge=1, le=50, description="How many, at most.")] = 20


async def list_versions(engine: Engine, where: InContext) -> object:
    """List the versions of what was learned, oldest first, without their notes."""
    context = await engine.store.context(where.context)
    names = shapes.Version.model_fields.keys() - {"notes"}
    versions = [wire.plain(each) for each in await engine.store.versions(context.id)]
    return {
        "context": context.id,
        "versions": [{**{name: each[name] for name in names}, "notes": len(each["notes"])} for each in versions],
    }


async def show_version(engine: Engine, where: InVersion) -> object:
    """Show a version with its notes, and which of them are stale."""
    context = await engine.store.context(where.context)
    learned = await engine.store.learned(context.id, where.version)
    if learned is None:
        raise VersionNotFoundError(context.name, where.version)
    return wire.learned_now(context, learned)


async def diff(engine: Engine, where: Two) -> object:
    """Tell two versions apart: notes kept, added, replaced, retired, and gone because they were stale."""
    return await engine.diff(where.context, where.before, where.after)


async def roll_back(engine: Engine, where: InContext, body: Back) -> object:
    """Publish an older version anew as the next one."""
    learned = await engine.rollback(where.context, body.version)
    return wire.learned_now(await engine.store.context(learned.context_id), learned)


async def why(engine: Engine, where: Few) -> object:
    """Say what would be decided on a context now, and what was decided before."""
    now, before = await engine.decide(where.context), await engine.why(where.context, limit=where.limit)
    return {"now": now and wire.decision(now), "before": before}


async def list_answers(engine: Engine, where: Few) -> object:
    """List the newest answers about a context, newest first."""
    context = await engine.store.context(where.context)
    return {"answers": await engine.store.answers(context.id, limit=where.limit)}


# The ledger, decisions, caps


class Accounts(Page):
    test_price: Annotated[float, Field(ge=0, le=1e9, description="A test-time token, in sleep tokens.")] = (
        DEFAULT_TEST_TOKEN_PRICE
    )


class Calls(Where):
    limit: Limit = 100
    before: Annotated[str | None, Field(description="The `next` of the page before.")] = None
    context: Annotated[str | None, Field(min_length=1, description="Only calls about this context.")] = None


class Some(Where):
    limit: Limit = 100


async def ledger(engine: Engine, where: Accounts) -> object:
    """Add up what sleeping and answering cost, what was saved, and when sleep pays, by context."""
    kept = await engine.ledger(test_price=where.test_price)
    page = _page("accounts", kept.accounts, where.after, where.limit, lambda each: each.context_id or "-")
    return {**page, "accounts": [wire.account(each) for each in page["accounts"]], "total": wire.account(kept.total)}


async def list_calls(engine: Engine, where: Calls) -> object:
    """List model calls, newest first."""
    found = await engine.calls(where.context, limit=where.limit + 1, before=where.before)
    newest_first = list(reversed(found))
    calls = newest_first[: where.limit]
    return {"calls": calls, "next": calls[-1].id if len(newest_first) > where.limit else None}


async def list_decisions(engine: Engine, where: Some) -> object:
    """List the contexts that should be slept on now, the best first, with the reason in words."""
    return {"decisions": [wire.decision(each) for each in await engine.decisions(where.limit)]}


async def caps(engine: Engine, _where: Where) -> object:
    """Say what all sleeps may spend together, and what they have: null is no cap."""
    return wire.caps(engine.settings.caps, await engine.capped())


# Jobs


class Jobs(Page):
    state: JobState | None = None


class InJob(Where):
    job: Annotated[str, Field(min_length=1)]


async def list_jobs(engine: Engine, where: Jobs) -> object:
    """List the sleeps left to workers, oldest first."""
    names = {context.id: context.name for context in await engine.contexts()}
    jobs = [job for job in await engine.jobs() if where.state in (None, job.state)]
    page = _page("jobs", jobs, where.after, where.limit)
    return {**page, "jobs": [wire.job(job, names.get(job.context_id)) for job in page["jobs"]]}


async def show_job(engine: Engine, where: InJob) -> object:
    """Show a job."""
    job = next((job for job in await engine.jobs() if job.id == where.job), None)
    if job is None:
        raise JobNotFoundError(where.job)
    return await _job(engine, job)


async def pause_job(engine: Engine, where: InJob) -> object:
    """Let a job wait until it is resumed; one that runs stops after the round in flight, which is kept."""
    return await _job(engine, await engine.pause(where.job))


async def resume_job(engine: Engine, where: InJob) -> object:
    """Queue a paused or failed job again; it goes on where it was."""
    return await _job(engine, await engine.resume(where.job))


async def cancel_job(engine: Engine, where: InJob) -> object:
    """Give a job up; one that runs stops after the round in flight."""
    return await _job(engine, await engine.cancel(where.job))


async def _job(engine: Engine, job: Job) -> object:
    return wire.job(job, (await engine.store.context(job.context_id)).name)


def _page(
    name: str, items: Sequence[Any], after: str | None, limit: int, key: Callable[[Any], str] = lambda each: each.id
) -> dict[str, Any]:
    """The *limit* items behind the one called *after*."""
    start = 0
    if after is not None:
        start = next((at + 1 for at, each in enumerate(items) if key(each) == after), -1)
        if start < 0:
            raise HTTPException(404, f"after: {after!r} ends no page. Begin again without it.")
    shown = items[start : start + limit]
    return {name: shown, "next": key(shown[-1]) if start + limit < len(items) else None}


_CONTEXT = "/v1/contexts/{context}"
_THERE = (404,)
_POSSIBLE = (404, 409)
OPERATIONS: Sequence[Operation] = (
    Operation(
        method="POST", path="/v1/contexts", run=add_context, body=NewContext, replies={201: shapes.Added}, errors=(409,)
    ),
    Operation(
        method="GET", path="/v1/contexts", run=list_contexts, where=Page, replies={200: shapes.Contexts}, errors=_THERE
    ),
    Operation(
        method="GET", path=_CONTEXT, run=show_context, where=InContext, replies={200: shapes.Shown}, errors=_THERE
    ),
    Operation(
        method="PATCH",
        path=_CONTEXT,
        run=update_context,
        where=InContext,
        body=NewText,
        replies={200: shapes.Edited},
        errors=_THERE,
    ),
    Operation(
        method="DELETE",
        path=_CONTEXT,
        run=forget_context,
        where=InContext,
        replies={200: shapes.Forgotten},
        errors=_THERE,
    ),
    Operation(
        method="POST",
        path=f"{_CONTEXT}/sleep",
        run=sleep_on,
        where=InContext,
        body=NewSleep,
        replies={200: LearnedContext, 202: shapes.QueuedJob},
        errors=_POSSIBLE,
    ),
    Operation(
        method="POST",
        path=f"{_CONTEXT}/forecast",
        run=forecast,
        where=InContext,
        body=HowToSleep,
        replies={200: shapes.Forecasted},
        errors=_POSSIBLE,
    ),
    Operation(
        method="POST",
        path=f"{_CONTEXT}/ask",
        run=ask,
        where=InContext,
        body=NewQuestion,
        replies={200: Answer},
        streams=True,
        errors=_POSSIBLE,
    ),
    Operation(
        method="GET",
        path=f"{_CONTEXT}/versions",
        run=list_versions,
        where=InContext,
        replies={200: shapes.Versions},
        errors=_THERE,
    ),
    Operation(
        method="GET",
        path=f"{_CONTEXT}/versions/{{version}}",
        run=show_version,
        where=InVersion,
        replies={200: shapes.Learned},
        errors=_THERE,
    ),
    Operation(method="GET", path=f"{_CONTEXT}/diff", run=diff, where=Two, replies={200: Diff}, errors=_POSSIBLE),
    Operation(
        method="POST",
        path=f"{_CONTEXT}/rollback",
        run=roll_back,
        where=InContext,
        body=Back,
        replies={200: shapes.Learned},
        errors=_POSSIBLE,
    ),
    Operation(method="GET", path=f"{_CONTEXT}/why", run=why, where=Few, replies={200: shapes.Why}, errors=_THERE),
    Operation(
        method="GET",
        path=f"{_CONTEXT}/answers",
        run=list_answers,
        where=Few,
        replies={200: shapes.Answers},
        errors=_THERE,
    ),
    Operation(
        method="GET", path="/v1/ledger", run=ledger, where=Accounts, replies={200: shapes.LedgerPage}, errors=_THERE
    ),
    Operation(
        method="GET", path="/v1/ledger/calls", run=list_calls, where=Calls, replies={200: shapes.Calls}, errors=_THERE
    ),
    Operation(method="GET", path="/v1/jobs", run=list_jobs, where=Jobs, replies={200: shapes.Jobs}, errors=_THERE),
    Operation(
        method="GET", path="/v1/jobs/{job}", run=show_job, where=InJob, replies={200: shapes.QueuedJob}, errors=_THERE
    ),
    *(
        Operation(
            method="POST",
            path=f"/v1/jobs/{{job}}/{verb}",
            run=run,
            where=InJob,
            replies={200: shapes.QueuedJob},
            errors=_POSSIBLE,
        )
        for verb, run in (("pause", pause_job), ("resume", resume_job), ("cancel", cancel_job))
    ),
    Operation(method="GET", path="/v1/decisions", run=list_decisions, where=Some, replies={200: shapes.Decisions}),
    Operation(method="GET", path="/v1/caps", run=caps, replies={200: shapes.Capped}),
)


def routes() -> Sequence[Route]:
    """The routes of REST, and the document of them at /openapi.json."""
    written = document(OPERATIONS)

    async def openapi(_request: Request) -> Response:
        return JsonReply(written)

    return [*routes_of(OPERATIONS), Route("/openapi.json", openapi, methods=["GET"])]
