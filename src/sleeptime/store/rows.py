"""Values to rows and back: pure, and each pair undoes the other.

JSON is written in ASCII, so that it holds any Python string on any database.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sleeptime.core.budget import Budget, Level
from sleeptime.core.context import Context, Span, fingerprint
from sleeptime.core.forecasting import Seen
from sleeptime.core.job import Job
from sleeptime.core.ledger import Call, Phase, Totals
from sleeptime.core.notes import Draft, LearnedContext, Note
from sleeptime.core.plan import Plan, Worth
from sleeptime.core.query import Answer, Query
from sleeptime.core.saving import Tally
from sleeptime.core.triggers import Waiting
from sleeptime.core.usage import Usage
from sleeptime.core.watching import Decided, Part, Watched
from sleeptime.store.protocol import Sleep

Row = Mapping[Any, Any]  # Any: a column holds a text, a number, a time or nothing
USAGE = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")


def context_row(context: Context) -> Row:
    """Write *context* as columns."""
    return {
        "id": context.id,
        "name": context.name,
        "fingerprint": context.fingerprint,
        "characters": len(context.text),
        "source": context.source,
        "created_at": context.created_at,
        "text": context.text,
    }


def context_of(row: Row) -> Context:
    """Read a context."""
    return Context(id=row["id"], name=row["name"], text=row["text"], created_at=row["created_at"], source=row["source"])


def learned_row(learned: LearnedContext) -> Row:
    """Write a version as columns, without its notes and its sleep."""
    return {
        "context_id": learned.context_id,
        "version": learned.version,
        "context_fingerprint": learned.context_fingerprint,
        "strategy": learned.strategy,
        "model": learned.model,
        "prompt_fingerprint": learned.prompt_fingerprint,
        **_usage_row(learned.usage),
        "cost_usd": learned.cost_usd,
        "stop_reasons": json.dumps(learned.stop_reasons),
        "rounds": learned.rounds,
        "failed_rounds": learned.failed_rounds,
        "samples": learned.samples,
        "note_count": len(learned.notes),
        "created_at": learned.created_at,
        "sections": json.dumps(learned.sections),
        "plan": learned.plan,
        "based_on": learned.based_on,
        "rolled_back_from": learned.rolled_back_from,
        "by_hand": learned.by_hand,
    }


def note_rows(learned: LearnedContext) -> list[Row]:
    """Write the notes of a version, a row each."""
    return [
        {
            "context_id": learned.context_id,
            "version": learned.version,
            "position": position,
            **{name: value for name, value in _note_json(note).items() if name != "is_pinned"},
            "evidence": json.dumps(_spans_json(note.evidence)),
            "pinned": int(note.is_pinned),
        }
        for position, note in enumerate(learned.notes)
    ]


def learned_of(row: Row, notes: Sequence[Row]) -> LearnedContext:
    """Read a version; *notes* are its rows, in order."""
    return LearnedContext(
        context_id=row["context_id"],
        version=row["version"],
        context_fingerprint=row["context_fingerprint"],
        notes=tuple(
            _note_of({**note, "evidence": json.loads(note["evidence"]), "is_pinned": bool(note["pinned"])})
            for note in notes
        ),
        strategy=row["strategy"],
        model=row["model"],
        prompt_fingerprint=row["prompt_fingerprint"],
        usage=_usage_of(row),
        cost_usd=row["cost_usd"],
        stop_reasons=tuple(json.loads(row["stop_reasons"])),
        rounds=row["rounds"],
        failed_rounds=row["failed_rounds"],
        samples=row["samples"],
        created_at=row["created_at"],
        sections=sections_of(row["sections"]),
        plan=row["plan"],
        based_on=row["based_on"],
        rolled_back_from=row["rolled_back_from"],
        by_hand=row["by_hand"],
    )


def sections_of(text: str) -> tuple[str, ...]:
    """Read fingerprints of sections."""
    return tuple(json.loads(text))


def sleep_row(sleep: Sleep) -> Row:
    """Write an unfinished sleep as columns, without its drafts."""
    return {
        "id": sleep.id,
        "context_id": sleep.context_id,
        "plan": sleep.plan,
        "plan_fingerprint": sleep_key(sleep.plan, sleep.context_fingerprint),
        "context_fingerprint": sleep.context_fingerprint,
        "sections": json.dumps(sleep.sections),
        "based_on": sleep.based_on,
    }


def sleep_of(row: Row, drafts: Sequence[str]) -> Sleep:
    """Read an unfinished sleep; *drafts* are its samples' drafts in order, as JSON."""
    return Sleep(
        id=row["id"],
        context_id=row["context_id"],
        plan=row["plan"],
        drafts=tuple(draft_of(draft) for draft in drafts),
        context_fingerprint=row["context_fingerprint"],
        sections=sections_of(row["sections"]),
        based_on=row["based_on"],
    )


def sleep_key(plan: str, context_fingerprint: str) -> str:
    """What there is one unfinished sleep of in a context: a plan and a text."""
    return fingerprint(f"{plan} {context_fingerprint}")


def call_row(call: Call) -> Row:
    """Write *call* as columns."""
    return {
        "id": call.id,
        "at": call.at,
        "phase": call.phase.value,
        "model": call.model,
        **_usage_row(call.usage),
        "cost_usd": call.cost_usd,
        "latency_s": call.latency_s,
        "outcome": call.outcome,
        "price_card": call.price_card,
        "context_id": call.context_id,
        "version": call.version,
        "work_id": call.work_id,
        "sees": call.sees,
        "level": call.level,
        "request_id": call.request_id,
    }


def call_of(row: Row) -> Call:
    """Read a row of the ledger."""
    return Call(
        id=row["id"],
        at=row["at"],
        phase=Phase(row["phase"]),
        model=row["model"],
        usage=_usage_of(row),
        cost_usd=row["cost_usd"],
        latency_s=row["latency_s"],
        outcome=row["outcome"],
        price_card=row["price_card"],
        context_id=row["context_id"],
        version=row["version"],
        work_id=row["work_id"],
        sees=row["sees"],
        level=row["level"],
        request_id=row["request_id"],
    )


def job_row(job: Job) -> Row:
    """Write a job as columns."""
    return {
        "id": job.id,
        "context_id": job.context_id,
        "plan": plan_json(job.plan),
        "again": int(job.again),
        "state": job.state,
        "attempts": job.attempts,
        "failures": job.failures,
        "queued_at": job.queued_at,
        "waits_until": job.waits_until,
        "ended_at": job.ended_at,
        "worker": job.worker,
        "version": job.version,
        "error": job.error,
        "trigger": job.trigger,
        "unit": job.unit,
        "price": job.price,
        "output_tokens": job.output_tokens,
    }


def job_of(row: Row, *, rounds: int = 0) -> Job:
    """Read a job. *rounds* are not kept in its row."""
    plan: dict[str, Any] = json.loads(row["plan"])  # Any: each field has its own type
    plan["budget"] = Budget(**plan["budget"])
    plan["worth"] = Worth(**plan["worth"]) if plan.get("worth") else None
    return Job(
        id=row["id"],
        context_id=row["context_id"],
        plan=Plan(**plan),
        state=row["state"],
        again=bool(row["again"]),
        attempts=row["attempts"],
        failures=row["failures"],
        rounds=rounds,
        queued_at=row["queued_at"],
        waits_until=row["waits_until"],
        ended_at=row["ended_at"],
        worker=row["worker"],
        version=row["version"],
        error=row["error"],
        trigger=row["trigger"],
        unit=row["unit"],
        price=row["price"],
        output_tokens=row["output_tokens"],
    )


def plan_json(plan: Plan) -> str:
    """Write a plan, caps included, as JSON. Equal plans are equal texts."""
    return json.dumps(asdict(plan), sort_keys=True)


def totals_of(row: Row) -> Totals:
    """Read a row of sums. PostgreSQL adds whole numbers up to a decimal, hence `int`."""
    return Totals(
        context_id=row["context_id"],
        phase=Phase(row["phase"]),
        sees=row["sees"],
        level=row["level"],
        works=row["works"],
        calls=row["calls"],
        usage=_usage_of({name: int(row[name]) for name in _usage_row(Usage())}),
        cost_usd=None if row["unpriced"] else float(row["cost_usd"] or 0.0),
    )


def answer_row(answer: Answer) -> Row:
    """Write *answer* as columns."""
    return {
        "question": answer.query.question,
        "level": str(answer.query.level),
        "sees": answer.query.sees,
        "version": answer.version,
        "model": answer.model,
        "text": answer.text,
        "thinking": answer.thinking,
        **_usage_row(answer.usage),
        "cost_usd": answer.cost_usd,
        "latency_s": answer.latency_s,
        "finish_reason": answer.finish_reason,
    }


def answer_of(row: Row) -> Answer:
    """Read an answer."""
    return Answer(
        text=row["text"],
        query=Query(question=row["question"], level=Level.parse(row["level"]), sees=row["sees"]),
        model=row["model"],
        usage=_usage_of(row),
        cost_usd=row["cost_usd"],
        latency_s=row["latency_s"],
        finish_reason=row["finish_reason"],
        version=row["version"],
        thinking=row["thinking"],
    )


def watched_row(watched: Watched) -> Row:
    """Write what is watched of a context as columns, without what stands in the context's own row."""
    return {
        "context_id": watched.context_id,
        "kind": watched.kind,
        "sections": watched.sections,
        "added_days": watched.seen.added_days,
        "queries": watched.seen.queries,
        "talks": watched.seen.talks,
        "last_days": watched.seen.last_days,
        "parts": json.dumps([(part.since, part.characters) for part in watched.parts]),
        "edits": watched.edits,
        "level": watched.level,
        "arrived": watched.arrived,
        "anticipated": watched.anticipated,
        **tally_row(watched.without, "without_"),
        **tally_row(watched.assisted, "assisted_"),
        "reason": watched.reason,
        "wants": watched.wants,
        **waiting_row(watched.waiting),
        "is_observed": int(watched.is_observed),
    }


def watched_of(row: Row) -> Watched:
    """Read what is watched of a context, from its row joined with the context's name and length."""
    return Watched(
        context_id=row["context_id"],
        name=row["name"],
        characters=row["characters"],
        kind=row["kind"],
        sections=row["sections"],
        seen=seen_of(row),
        parts=tuple(Part(since=since, characters=characters) for since, characters in json.loads(row["parts"])),
        edits=row["edits"],
        level=row["level"],
        arrived=row["arrived"],
        anticipated=row["anticipated"],
        without=tally_of(row, "without_"),
        assisted=tally_of(row, "assisted_"),
        reason=row["reason"],
        wants=row["wants"],
        waiting=_waiting_of(row),
        is_observed=bool(row["is_observed"]),
    )


def waiting_row(waiting: Waiting | None) -> dict[str, object]:
    """Write what a context waits for as columns."""
    if waiting is None:
        return {"waits_days": None, "waits_queries": 0, "waits_by": ""}
    return {"waits_days": waiting.since_days, "waits_queries": waiting.queries, "waits_by": waiting.by}


def _waiting_of(row: Row) -> Waiting | None:
    if row["waits_days"] is None:
        return None
    return Waiting(since_days=row["waits_days"], queries=row["waits_queries"], by=row["waits_by"])


def seen_of(row: Row) -> Seen:
    """Read when a context was asked."""
    return Seen(added_days=row["added_days"], queries=row["queries"], talks=row["talks"], last_days=row["last_days"])


def tally_row(tally: Tally, of: str = "") -> dict[str, float]:
    """Write *tally* as columns whose names begin with *of*."""
    return {f"{of}answers": tally.answers, f"{of}total": tally.total, f"{of}squares": tally.squares}


def tally_of(row: Row, of: str = "") -> Tally:
    """Read a tally from columns whose names begin with *of*."""
    return Tally(answers=row[f"{of}answers"], total=row[f"{of}total"], squares=row[f"{of}squares"])


def decided_row(decided: Decided) -> Row:
    """Write a decision as columns."""
    written = {field.name: getattr(decided, field.name) for field in fields(decided)}
    return {"bound": written.pop("limit"), **written}


def decided_of(row: Row) -> Decided:
    """Read a decision."""
    written = {field.name: row["bound" if field.name == "limit" else field.name] for field in fields(Decided)}
    return Decided(**written)


def draft_json(draft: Draft) -> str:
    """Write *draft* as JSON."""
    written = {field.name: getattr(draft, field.name) for field in fields(draft)}
    return json.dumps(
        {**written, "notes": [_note_json(note) for note in draft.notes], "usage": _usage_row(draft.usage)}
    )


def draft_of(text: str) -> Draft:
    """Read a draft from JSON. What it does not say, because it was written earlier, is as in a new draft."""
    written: dict[str, Any] = json.loads(text)  # Any: each field has its own type
    written["notes"] = tuple(_note_of(note) for note in written["notes"])
    written["usage"] = _usage_of(written["usage"])
    written["remarks"] = tuple(written["remarks"])
    written["changed"] = tuple(written.get("changed", ()))
    return Draft(**written)


def _note_json(note: Note) -> Row:
    return {
        "id": note.id,
        "kind": note.kind,
        "status": note.status,
        "sample": note.sample,
        "question": note.question,
        "text": note.text,
        "evidence": _spans_json(note.evidence),
        "is_pinned": note.is_pinned,
    }


def _note_of(row: Row) -> Note:
    return Note(
        id=row["id"],
        text=row["text"],
        kind=row["kind"],
        question=row["question"],
        evidence=tuple(Span(section=section, start=start, end=end) for section, start, end in row["evidence"]),
        status=row["status"],
        sample=row["sample"],
        is_pinned=row.get("is_pinned", False),  # drafts written before notes could be pinned say nothing
    )


def _spans_json(spans: Sequence[Span]) -> list[tuple[str, int, int]]:
    return [(span.section, span.start, span.end) for span in spans]


def _usage_row(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


def _usage_of(row: Row) -> Usage:
    return Usage(
        input_tokens=row["input_tokens"],
        cached_input_tokens=row["cached_input_tokens"],
        output_tokens=row["output_tokens"],
        reasoning_tokens=row["reasoning_tokens"],
    )
