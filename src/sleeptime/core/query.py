"""A query and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sleeptime.core.budget import Level
from sleeptime.core.messages import FinishReason
from sleeptime.core.usage import Usage

Sees = Literal["learned", "context+learned", "context"]
SEES: tuple[Sees, ...] = ("learned", "context+learned", "context")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question about a context, which may not have been known when it was slept on."""

    question: str
    level: Level = Level()
    sees: Sees = "context+learned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the model answered, and what that took.

    `usage` is what was achieved, never what was asked for: test-time tokens are
    `usage.output_tokens`. `version` is the learned context shown, None if none.
    """

    text: str
    query: Query
    model: str
    usage: Usage
    cost_usd: float | None
    latency_s: float
    finish_reason: FinishReason
    version: int | None = None
    thinking: str = ""
