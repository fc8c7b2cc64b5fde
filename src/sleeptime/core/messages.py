"""What goes to a model and what comes back, in no provider's format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sleeptime.core.usage import Usage

UNREADABLE = "__unreadable__"

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "unknown"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function a model may call. `parameters` is a JSON schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]  # Any: JSON schema is open by nature


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call a model made. `arguments` is parsed JSON, not yet checked.

    Arguments that are not a JSON object are kept as they came, under the key UNREADABLE.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])  # Any: what the model wrote


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One reply of a model, with what it cost and took.

    `text` excludes thinking. `model` is the name the provider reported. `call_id` is the id of its row in the
    ledger, where it has one.
    """

    text: str
    usage: Usage
    model: str
    finish_reason: FinishReason = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    thinking: str = ""
    request_id: str | None = None
    call_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogProb:
    """Natural-log probability of a text given what stands before it.

    `total` is the sum over `tokens` tokens; `mean` divides by their number, so
    that length does not pass for surprise. `usage` is what measuring it took.
    """

    total: float
    tokens: int
    usage: Usage = Usage()

    @property
    def mean(self) -> float:
        return self.total / self.tokens if self.tokens else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """How many tokens a prompt has; `exact` is False for an estimate.

    An estimate errs on the high side, and `at_least` is one that errs on the low side.
    """

    tokens: int
    exact: bool
    at_least: int = 0
