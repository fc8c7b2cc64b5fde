"""The pages and what they can be told to do: find the engine, ask it, render.

    GET  /               overview; /live is what is under way now
         /contexts       a page of them; /contexts/ID: text, notes, evidence; below it versions, queries, why, forget
         /queries/WORK   one query
         /jobs           what is left to workers; /jobs/live
         /ledger         its rows; /ledger.csv
    POST /contexts/ID/…  sleep, rollback, forget, notes/NOTE/pin, unpin, quarantine, release
         /jobs/ID/…      pause, resume, cancel

A page that changes something takes POST from its own origin only, and leads back to a page. Pages carry no script and
no style of their own, so the policy they are sent with allows neither.

This file takes no decision: what a page says is made in overview.py, contexts.py and work.py.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from sleeptime.core.budget import Budget
from sleeptime.core.errors import (
    ContextBusyError,
    ContextNotFoundError,
    InputError,
    JobNotFoundError,
    NoteNotFoundError,
    SleeptimeError,
    StoreError,
    VersionNotFoundError,
)
from sleeptime.core.ledger import Phase
from sleeptime.core.plan import Plan
from sleeptime.core.shown import SORTS, Counts, Filter, Sort
from sleeptime.engine import Engine
from sleeptime.server.app import engine_of
from sleeptime.server.dashboard import contexts as seen
from sleeptime.server.dashboard import overview as first
from sleeptime.server.dashboard import words, work

STATIC = Path(__file__).parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
PAGE = 50
TOLD, NEWS = 6, 4
"""Decisions and versions that the first page shows."""
LONGEST_FORM = 20_000
CSV_ROWS = 1000
"""Rows of the ledger read at once while it is downloaded."""
_STATUS: tuple[tuple[type[SleeptimeError], int], ...] = (
    (ContextNotFoundError, 404),
    (VersionNotFoundError, 404),
    (JobNotFoundError, 404),
    (NoteNotFoundError, 404),
    (ContextBusyError, 409),
    (StoreError, 503),
    (InputError, 400),
)

Handler = Callable[[Request], Awaitable[Response]]


def routes() -> list[BaseRoute]:
    """The routes of the dashboard."""
    pages: tuple[tuple[str, Handler], ...] = (
        ("/", _overview),
        ("/live", _live),
        ("/contexts", _contexts),
        ("/contexts/{id}", _context),
        ("/contexts/{id}/text", _text),
        ("/contexts/{id}/versions", _versions),
        ("/contexts/{id}/queries", _queries),
        ("/contexts/{id}/why", _why),
        ("/contexts/{id}/forget", _ask_to_forget),
        ("/queries/{work}", _query),
        ("/jobs", _jobs),
        ("/jobs/live", _live_jobs),
        ("/ledger", _ledger),
        ("/ledger.csv", _csv),
    )
    actions: tuple[tuple[str, Handler], ...] = (
        ("/contexts/{id}/sleep", _sleep),
        ("/contexts/{id}/rollback", _rollback),
        ("/contexts/{id}/forget", _forget),
        ("/contexts/{id}/notes/{note}/{verb}", _note),
        ("/jobs/{id}/{verb}", _change_job),
    )
    return [
        *(Route(path, _told(handler), methods=["GET"]) for path, handler in pages),
        *(Route(path, _told(_from_here(handler)), methods=["POST"]) for path, handler in actions),
        Mount("/static", StaticFiles(directory=STATIC), name="static"),
    ]


# What all handlers share


def _told(handler: Handler) -> Handler:
    """Tell an error meant for the user as a page, with a status that fits."""

    @wraps(handler)
    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except SleeptimeError as error:
            status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
            return _page(request, "error.html", status=status, title="That did not work", message=str(error))

    return handle


def _from_here(handler: Handler) -> Handler:
    """Refuse a request that a page of another origin made."""

    @wraps(handler)
    async def handle(request: Request) -> Response:
        if not is_same_origin(request.headers):
            message = "This asks to change something, and did not come from a page of this server. Nothing was done."
            return _page(request, "error.html", status=403, title="Refused", message=message)
        return await handler(request)

    return handle


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a request comes from a page of this server. One that does not say is refused."""
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc == headers.get("host", "") != ""
    return headers.get("sec-fetch-site") == "same-origin"


@lru_cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("sleeptime.server.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@lru_cache
def _static(name: str) -> str:
    """The address of a static file, which changes with its content."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:8]
    return f"/static/{name}?v={digest}"


def _page(
    request: Request, template: str, *, status: int = 200, **shown: Any
) -> HTMLResponse:  # Any: what a template shows
    shown.setdefault("said", SAID.get(request.query_params.get("said", ""), ""))
    shown |= {"path": request.url.path, "words": words, "static": _static, "now": lambda: datetime.now(UTC)}
    html = _templates().get_template(template).render(shown)
    return HTMLResponse(html, status_code=status, headers=HEADERS)


SAID: Mapping[str, str] = {
    "queued": "Left to a worker. Its progress is on the page of jobs.",
    "pin": "Pinned: no sleep changes or drops it.",
    "unpin": "No longer pinned.",
    "quarantine": "Quarantined: no answer sees it, and no sleep writes it again.",
    "release": "Released: answers see it again.",
    "rollback": "Published anew as the newest version.",
    "forgotten": "Forgotten, with all that was learned about it. Its rows of the ledger stay.",
    "pause": "The job waits until it is resumed; a round in flight is finished and kept.",
    "resume": "The job is queued again and goes on where it was.",
    "cancel": "The job is given up; what its finished rounds learned is kept.",
}


def _back(place: str, said: str, anchor: str = "") -> RedirectResponse:
    return RedirectResponse(f"{place}?said={said}{anchor}", status_code=303, headers=HEADERS)


async def _form(request: Request) -> dict[str, str]:
    """Read a small form."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            raise InputError("The form is too large.")
    fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[-1].strip() for name, values in fields.items()}


def _whole(text: str | None, *, least: int = 0) -> int | None:
    """Read a whole number that stands in an address or a form; None where there is none."""
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or not least <= int(text) < 2**31:
        raise InputError(f"{text[:40]!r} should be a whole number, {least} or more.")
    return int(text)


# Overview


async def _overview(request: Request) -> Response:
    engine, now = engine_of(request), datetime.now(UTC)
    store = engine.store
    await store.reap()
    compared, everything, counts, begun, told, news = await asyncio.gather(
        store.compared(),
        store.spent(by_day=True),
        store.counts(),
        store.first_hour(),
        store.told(TOLD),
        store.news(NEWS),
    )
    spending = await engine.capped()
    chosen = request.query_params.get("span", "")
    span = chosen if chosen in first.SPANS else _span(begun, now)
    since = first.SPANS[span]
    by_day = since != timedelta(days=1) and begun is not None and now - begun > timedelta(days=3)
    if by_day:
        spans = [each for each in everything if since is None or each.since >= now - since]
    else:
        spans = await store.spent(by_day=False, since=None if since is None else now - since)
    unit = request.query_params.get("unit")
    page = first.overview(
        compared,
        everything,
        spans,
        counts,
        unit="usd" if unit == "usd" else "tokens" if unit == "tokens" else None,
        span=span,
        step=timedelta(days=1) if by_day else timedelta(hours=1),
    )
    return _page(
        request,
        "overview.html",
        page=page,
        charts={name: asdict(chart) for name, chart in (("net", page.net), ("spent", page.spent)) if chart},
        caps=first.caps_left(engine.settings.caps, spending),
        told=told,
        news=news,
        **await _now(engine, counts),
    )


def _span(begun: datetime | None, now: datetime) -> str:
    """What is shown if nobody chose: a day of a new ledger, a month of an older one."""
    return "day" if begun is None or now - begun < timedelta(days=1) else "month"


async def _now(engine: Engine, counts: Counts) -> dict[str, Any]:  # Any: what a template shows
    return {
        "under_way": [work.progress(each) for each in await engine.store.under_way()],
        "waiting": dict(counts.jobs),
    }


async def _live(request: Request) -> Response:
    engine = engine_of(request)
    await engine.store.reap()
    return _page(request, "_now.html", **await _now(engine, await engine.store.counts()))


# Contexts


async def _contexts(request: Request) -> Response:
    engine, asked = engine_of(request), request.query_params
    name, number = asked.get("q", "").strip()[:200], _whole(asked.get("page"), least=1) or 1
    sort = _sort(asked.get("sort"))
    found, total = await engine.store.listed(words=name, sort=sort, offset=(number - 1) * PAGE, limit=PAGE)
    decisions = await engine.considered([each.watched for each in found])
    now = datetime.now(UTC)
    lines = [seen.line(each, decision, now) for each, decision in zip(found, decisions, strict=True)]
    template = "_contexts.html" if request.headers.get("hx-request") == "true" else "contexts.html"
    return _page(request, template, lines=lines, total=total, q=name, sort=sort, sorts=SORTS, number=number, size=PAGE)


def _sort(asked: str | None) -> Sort:
    for sort in SORTS:
        if sort == asked:
            return sort
    return "value"


async def _head(engine: Engine, request: Request) -> dict[str, Any]:  # Any: what a template shows
    """What stands above every page of one context."""
    context = await engine.store.context(request.path_params["id"])
    listed = await engine.store.line(context.id)
    if listed is None:
        raise ContextNotFoundError(context.id)
    (decision,) = await engine.considered([listed.watched])
    return {"context": context, "line": seen.line(listed, decision, datetime.now(UTC)), "listed": listed}


async def _context(request: Request) -> Response:
    engine = engine_of(request)
    head = await _head(engine, request)
    context = head["context"]
    number = _whole(request.query_params.get("version"), least=1)
    learned = await engine.store.learned(context.id, number)
    if number is not None and learned is None:
        raise VersionNotFoundError(context.name, number)
    return _page(
        request,
        "context.html",
        **head,
        learned=learned,
        is_newest=learned is None or learned.version == head["listed"].versions,
        came="" if learned is None else seen.came(learned),
        notes=seen.note_lines(learned, context) if learned else (),
        blocks=seen.blocks(context, learned.notes if learned else ()),
        most=seen.MOST_CHARACTERS,
        taken=await engine.store.taken(context.id),
    )


async def _text(request: Request) -> Response:
    context = await engine_of(request).store.context(request.path_params["id"])
    return PlainTextResponse(context.text.encode("utf-8", "replace"), headers=HEADERS)


async def _versions(request: Request) -> Response:
    engine, asked = engine_of(request), request.query_params
    head = await _head(engine, request)
    context = head["context"]
    versions = await engine.store.versions(context.id)
    changes, before, after = (), None, None
    if versions:
        after = _whole(asked.get("after"), least=1) or versions[-1].version
        before = _whole(asked.get("before"), least=1) or max(1, after - 1)
        changes = work.changes(await engine.diff(context.id, before, after))
    return _page(
        request,
        "versions.html",
        **head,
        versions=seen.version_lines(versions),
        changes=changes,
        before=before,
        after=after,
    )


async def _queries(request: Request) -> Response:
    engine = engine_of(request)
    head = await _head(engine, request)
    before = _whole(request.query_params.get("before"))
    found = await engine.store.asked(context_id=head["context"].id, limit=PAGE + 1, before=before)
    return _page(
        request, "queries.html", **head, asked=found[:PAGE], has_more=len(found) > PAGE, is_first=before is None
    )


async def _why(request: Request) -> Response:
    engine = engine_of(request)
    head = await _head(engine, request)
    return _page(
        request,
        "why.html",
        **head,
        decision=await engine.decide(head["context"].id),
        decided=await engine.why(head["context"].id, limit=PAGE),
        reasons=seen.WORDS_OF_REASONS,
    )


async def _ask_to_forget(request: Request) -> Response:
    return _page(request, "forget.html", **await _head(engine_of(request), request))


async def _sleep(request: Request) -> Response:
    engine, form = engine_of(request), await _form(request)
    context = await engine.store.context(request.path_params["id"])
    plan = Plan(budget=Budget(max_output_tokens=_whole(form.get("max_output_tokens"), least=1)))
    await engine.enqueue(context.id, plan, again=form.get("again") == "yes")
    return _back(f"/contexts/{context.id}", "queued")


async def _rollback(request: Request) -> Response:
    engine, form = engine_of(request), await _form(request)
    context = await engine.store.context(request.path_params["id"])
    version = _whole(form.get("version"), least=1)
    if version is None:
        raise InputError("Say which version to go back to.")
    await engine.rollback(context.id, version)
    return _back(f"/contexts/{context.id}/versions", "rollback")


async def _forget(request: Request) -> Response:
    await engine_of(request).forget(request.path_params["id"])
    return _back("/contexts", "forgotten")


async def _note(request: Request) -> Response:
    engine = engine_of(request)
    verb, note = request.path_params["verb"], request.path_params["note"]
    change = {
        "pin": engine.pin,
        "unpin": engine.unpin,
        "quarantine": engine.quarantine,
        "release": engine.release,
    }.get(verb)
    if change is None:
        raise InputError(f"A note is not to be {verb[:40]!r}: pin, unpin, quarantine or release it.")
    context = await engine.store.context(request.path_params["id"])
    await change(context.id, note)
    return _back(f"/contexts/{context.id}", verb, f"#note-{quote(note)}")


# Queries, jobs, the ledger


async def _query(request: Request) -> Response:
    engine, work_id = engine_of(request), request.path_params["work"]
    found = await engine.store.asked(work_id=work_id, limit=1)
    if not found:
        message = f"There is no query {work_id[:40]!r}: it was not kept, or its context is forgotten."
        return _page(request, "error.html", status=404, title="Not found", message=message)
    (asked,) = found
    context = await engine.store.context(asked.context_id)
    version = asked.answer.version
    learned = None if version is None else await engine.store.learned(context.id, version)
    notes = seen.note_lines(learned, context) if learned else ()
    taken = await engine.store.taken(context.id)
    believed, unit = await engine.without_notes(context.id)
    return _page(
        request,
        "query.html",
        asked=asked,
        context=context,
        learned=learned,
        notes=[each for each in notes if each.note.status != "quarantined"],
        is_edited=learned is not None and learned.context_fingerprint != context.fingerprint,
        cost=work.cost(asked, taken.get(False), believed, unit),
        calls=await engine.store.rows(Filter(work_id=work_id), limit=PAGE),
    )


async def _jobs_shown(request: Request) -> dict[str, Any]:  # Any: what a template shows
    engine = engine_of(request)
    await engine.store.reap()
    live = await engine.store.queued(are_over=False, limit=2 * PAGE)
    on = {each.context_id for each in await engine.store.under_way()}
    return {"live": [work.job_line(each, is_held=each.job.context_id in on) for each in live]}


async def _jobs(request: Request) -> Response:
    before = _whole(request.query_params.get("before"))
    over = await engine_of(request).store.queued(are_over=True, limit=PAGE + 1, before=before)
    return _page(
        request,
        "jobs.html",
        **await _jobs_shown(request),
        over=[work.job_line(each, is_held=False) for each in over[:PAGE]],
        has_more=len(over) > PAGE,
        last=over[PAGE - 1].position if len(over) > PAGE else None,
        is_first=before is None,
    )


async def _live_jobs(request: Request) -> Response:
    return _page(request, "_jobs.html", **await _jobs_shown(request))


async def _change_job(request: Request) -> Response:
    engine, verb = engine_of(request), request.path_params["verb"]
    change = {"pause": engine.pause, "resume": engine.resume, "cancel": engine.cancel}.get(verb)
    if change is None:
        raise InputError(f"A job is not to be {verb[:40]!r}: pause, resume or cancel it.")
    await change(request.path_params["id"])
    return _back("/jobs", verb)


async def _which(request: Request) -> Filter:
    """Read which rows of the ledger are wanted."""
    asked = request.query_params
    name, outcome = asked.get("context", "").strip(), asked.get("outcome")
    return Filter(
        phase=Phase(asked["phase"]) if asked.get("phase") in {each.value for each in Phase} else None,
        context_id=await engine_of(request).context_id(name) if name else None,
        work_id=asked.get("work") or None,
        outcome="ok" if outcome == "ok" else "failed" if outcome == "failed" else None,
    )


async def _ledger(request: Request) -> Response:
    asked = request.query_params
    before = _whole(asked.get("before"))
    found = await engine_of(request).store.rows(await _which(request), limit=PAGE + 1, before=before)
    kept = {name: asked.get(name, "") for name in ("phase", "context", "outcome", "work")}
    return _page(
        request,
        "ledger.html",
        rows=found[:PAGE],
        has_more=len(found) > PAGE,
        is_first=before is None,
        chosen=kept,
        query="&".join(f"{name}={quote(value)}" for name, value in kept.items() if value),
        phases=[each.value for each in Phase],
    )


async def _csv(request: Request) -> Response:
    store, which = engine_of(request).store, await _which(request)

    async def lines() -> AsyncGenerator[str]:
        yield _csv_line(work.CSV_COLUMNS)
        before = None
        while found := await store.rows(which, limit=CSV_ROWS, before=before):
            yield "".join(_csv_line(work.csv_row(each)) for each in found)
            before = found[-1].position

    headers = {**HEADERS, "Content-Disposition": 'attachment; filename="sleeptime-ledger.csv"'}
    return StreamingResponse(lines(), media_type="text/csv; charset=utf-8", headers=headers)


def _csv_line(values: tuple[object, ...]) -> str:
    written = io.StringIO()
    csv.writer(written).writerow(values)
    return written.getvalue()
