"""What the pages of jobs, queries, comparisons and the ledger show. Pure; knows no store and no HTML."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from sleeptime.core.diff import Diff
from sleeptime.core.job import Job
from sleeptime.core.notes import Note
from sleeptime.core.saved import FEWEST, student
from sleeptime.core.saving import Belief
from sleeptime.core.shown import Asked, Progress, Queued, Row, Taken, UnderWay
from sleeptime.core.watching import DOLLARS
from sleeptime.server.dashboard import words
from sleeptime.server.dashboard.contexts import Change, runs


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressLine:
    """A sleep under way. `most` rounds is what its plan allows, None where it is no job's."""

    context_id: str
    name: str
    rounds: int
    most: int | None
    notes: str
    tokens: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """One job. `can` are the verbs that may be told to it."""

    id: str
    context_id: str
    name: str
    state: str
    detail: str
    rounds: int
    most: int
    notes: str
    tokens: str
    can: tuple[str, ...]
    job: Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a query cost, and what it would have without notes: an estimate, with what it rests on."""

    paid: str
    without: str
    basis: str
    saved: str
    is_estimate: bool


def progress(under_way: UnderWay) -> ProgressLine:
    """Write a sleep under way."""
    job = under_way.job
    return ProgressLine(
        context_id=under_way.context_id,
        name=under_way.name,
        rounds=under_way.progress.rounds,
        most=_most(job) if job else None,
        notes=words.count(under_way.progress.notes, "note"),
        tokens=words.tokens(under_way.progress.usage.output_tokens),
    )


def _most(job: Job) -> int:
    return job.plan.budget.max_rounds * job.plan.samples


_CAN = {
    "queued": ("pause", "cancel"),
    "running": ("pause", "cancel"),
    "paused": ("resume", "cancel"),
    "failed": ("resume",),
}


def job_line(queued: Queued, *, is_held: bool) -> JobLine:
    """Write a job. *is_held*: a worker that lives has it."""
    job, kept = queued.job, queued.progress
    return JobLine(
        id=job.id,
        context_id=job.context_id,
        name=queued.name,
        state=job.state,
        detail=_detail(job, kept, is_held=is_held),
        rounds=kept.rounds,
        most=_most(job),
        notes=words.count(kept.notes, "note"),
        tokens=words.tokens(kept.usage.output_tokens),
        can=_CAN.get(job.state, ()),
        job=job,
    )


def _detail(job: Job, kept: Progress, *, is_held: bool) -> str:
    """Say what a job waits for, or what came of it."""
    if job.state == "running":
        return f"by {job.worker}" if is_held else "its worker went silent; the next one takes it over"
    if job.state == "queued" and job.waits_until:
        return f"tried again at {words.moment(job.waits_until)}, after: {job.error}"
    if job.state == "queued":
        return "waits for a worker"
    if job.state == "paused":
        return f"{words.count(kept.rounds, 'round')} kept" if kept.rounds else "not begun"
    if job.state == "done":
        return f"version {job.version}" if job.version else "nothing new was learned"
    return job.error or ""


def cost(asked: Asked, plain: Taken | None, believed: Belief, unit: str) -> Cost:
    """What a query cost, and would have cost without notes.

    *plain* is what answers without notes took in its context. Where there are none, *believed* is what all contexts
    taught of it, in *unit*: dollars or, where prices are not known, test-time tokens.
    """
    answer = asked.answer
    paid = words.tokens(answer.usage.output_tokens)
    if answer.cost_usd is not None:
        paid += f", {words.money(answer.cost_usd)}"
    if answer.version is None:
        return Cost(paid=paid, without=paid, basis="It was answered without notes.", saved="", is_estimate=False)
    if plain is not None and plain.answers:
        return _measured(asked, plain, paid)
    spent = answer.cost_usd if unit == DOLLARS else float(answer.usage.output_tokens)
    if spent is None:
        return Cost(paid=paid, without=words.NOT_MEASURED, basis="Its price is not known.", saved="", is_estimate=True)
    write = words.money if unit == DOLLARS else words.tokens
    return Cost(
        paid=paid,
        without=f"about {write(believed.mean)}",
        basis="A guess from the length of the context and what answers elsewhere took; none here was without notes.",
        saved=write(believed.mean - spent),
        is_estimate=True,
    )


def _measured(asked: Asked, plain: Taken, paid: str) -> Cost:
    mean = plain.tokens / plain.answers
    spread = ""
    if plain.answers > FEWEST:
        scatter = max(0.0, plain.tokens_squares - plain.tokens**2 / plain.answers) / (plain.answers - 1)
        half = student(plain.answers - 1) * sqrt(scatter / plain.answers)
        spread = f" (95 % interval of the mean {words.number(max(0.0, mean - half))} to {words.number(mean + half)})"
    money = f", {words.money(plain.usd / plain.priced)}" if plain.priced else ""
    less = mean - asked.answer.usage.output_tokens
    return Cost(
        paid=paid,
        without=f"about {words.tokens(mean)}{money}",
        basis=f"Estimated: the mean of {words.count(plain.answers, 'answer')} without notes on this context{spread}.",
        saved=words.tokens(less),
        is_estimate=True,
    )


def changes(diff: Diff) -> tuple[Change, ...]:
    """Write a comparison, what changed first."""

    def whole(verb: str, sort: str, note: Note, why: str = "") -> Change:
        return Change(verb=verb, id=note.id, kind=note.kind, runs=((sort, note.plain),), why=why)

    return (
        *(
            Change(verb="replaced", id=new.id, kind=new.kind, runs=runs(old.plain, new.plain))
            for old, new in diff.replaced
        ),
        *(whole("added", "new", note) for note in diff.added),
        *(whole("retired", "gone", note) for note in diff.retired),
        *(whole("stale", "gone", note, "what it rested on had changed") for note in diff.stale),
        *(whole("marked", "same", new, _marked(old, new)) for old, new in diff.marked),
        *(whole("kept", "same", note) for note in diff.kept),
    )


def _marked(old: Note, new: Note) -> str:
    found: list[str] = []
    if old.is_pinned != new.is_pinned:
        found.append("pinned" if new.is_pinned else "no longer pinned")
    if old.status != new.status:
        found.append(f"{old.status} → {new.status}")
    return ", ".join(found)


CSV_COLUMNS = (
    "at",
    "phase",
    "model",
    "context_id",
    "context",
    "version",
    "sees",
    "level",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd",
    "price_card",
    "latency_s",
    "outcome",
    "work_id",
    "id",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_row(row: Row) -> tuple[object, ...]:
    """A row of the ledger for a file. A text that a spreadsheet would run as a formula gets an apostrophe before it."""
    call, usage = row.call, row.call.usage
    values: tuple[object, ...] = (
        call.at.isoformat(),
        call.phase.value,
        call.model,
        call.context_id,
        row.name,
        call.version,
        call.sees,
        call.level,
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        call.cost_usd,
        call.price_card,
        call.latency_s,
        call.outcome,
        call.work_id,
        call.id,
    )
    return tuple(f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value for value in values)
