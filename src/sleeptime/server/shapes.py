"""The types of REST's replies: what `sleeptime.core.wire` writes, for the OpenAPI document.

Most are dataclasses of the library; the rest are those with what wire adds to them.
"""

from __future__ import annotations

from datetime import datetime

from sleeptime.core.context import Context
from sleeptime.core.deciding import Prospect
from sleeptime.core.job import Job
from sleeptime.core.ledger import Account, Call
from sleeptime.core.notes import LearnedContext, StopReason
from sleeptime.core.query import Answer
from sleeptime.core.usage import Usage
from sleeptime.core.watching import Decided
from sleeptime.engine import Forecast
from sleeptime.server.operations import shape
from sleeptime.store import Summary

Added = shape("AddedContext", id=str, name=str, characters=int)
Contexts = shape("ContextPage", contexts=list[Summary], next=str | None)
StoredContext = shape("StoredContext", Context)
Shown = shape("ShownContext", context=StoredContext, versions=int, learned=LearnedContext | None, stale=list[str])
Edited = shape(
    "EditedContext",
    id=str,
    name=str,
    characters=int,
    is_change=bool,
    sections_new=int,
    sections_gone=int,
    version=int | None,
    stale=list[str],
    kept=int,
)
Forgotten = shape("ForgottenContext", id=str, name=str, versions=int)

Decision = shape(
    "Decision",
    Prospect,
    reason=str,
    is_sleep=bool,
    expected=float | None,
    net_saving=float | None,
    limit=float | None,
    sentence=str,
)
Forecasted = shape("ForecastedSleep", Forecast, decision=Decision | None)
Why = shape("Why", now=Decision | None, before=list[Decided])
Decisions = shape("Decisions", decisions=list[Decision])

Version = shape(
    "VersionSummary",
    version=int,
    created_at=datetime,
    strategy=str,
    model=str,
    samples=int,
    rounds=int,
    failed_rounds=int,
    stop_reasons=list[StopReason],
    usage=Usage,
    cost_usd=float | None,
    based_on=int | None,
    rolled_back_from=int | None,
    notes=int,
)
Versions = shape("VersionList", context=str, versions=list[Version])
Learned = shape("LearnedNow", learned=LearnedContext, stale=list[str])
Answers = shape("AnswerList", answers=list[Answer])

LedgerAccount = shape(
    "LedgerAccount",
    Account,
    total_tokens=int,
    total_cost_usd=float | None,
    break_even_queries=float | None,
    break_even_queries_money=float | None,
)
LedgerPage = shape("LedgerPage", accounts=list[LedgerAccount], total=LedgerAccount, next=str | None)
Calls = shape("CallPage", calls=list[Call], next=str | None)

Cap = shape("Cap", tokens=int | None, usd=float | None)
Spent = shape(
    "SpentUnderCap",
    tokens=int | None,
    usd=float | None,
    spent_tokens=int,
    spent_usd=float,
    open_tokens=int,
    open_usd=float,
)
Capped = shape("Caps", context=Cap, day=Spent, month=Spent)

QueuedJob = shape("QueuedJob", Job, context=str | None, waits_for=str | None)
Jobs = shape("JobPage", jobs=list[QueuedJob], next=str | None)
