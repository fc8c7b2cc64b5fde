"""What the demo measures, before anything is computed from it: plain rows.

A failed call is a row without an answer: it is missing, never wrong. Totals of
tokens are inclusive, as everywhere. This file knows nothing about statistics.
"""

from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from sleeptime.core.usage import Usage
from sleeptime.evals.data.chains import Kind

Arm = Literal["no_sleep", "sleep", "learned_only", "limited", "placebo"]
ARMS: dict[Arm, str] = {
    "no_sleep": "no sleep",
    "sleep": "sleep",
    "learned_only": "sleep, notes alone",
    "limited": "limited sleep",
    "placebo": "another context's notes",
}
"""What the model is shown: the context; the context and its notes; its notes without the
context; the context and half of its notes; the context and the notes on another one."""

LEVELS = ("v0", "v1", "v2", "v3", "v4")
SWEPT: tuple[Arm, ...] = ("no_sleep", "sleep")
"""Arms measured at every level; the others at v0 alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One answer. `is_correct` is None where the call failed; `error` then names how."""

    context: int
    query: int
    arm: Arm
    level: str
    is_correct: bool | None
    output_tokens: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    text: str = ""
    error: str = ""

    @property
    def usage(self) -> Usage:
        return Usage(
            input_tokens=self.input_tokens,
            cached_input_tokens=self.cached_input_tokens,
            output_tokens=self.output_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One query: what it asks for, how deep its chain is, and how predictable it was from its context."""

    context: int
    query: int
    question: str
    target: str
    kind: Kind
    depth: int
    log_prob: float | None = None
    log_prob_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slept:
    """One sleep: the usage of each of its calls, and how many of its notes are right. `error` names how it failed."""

    context: int
    calls: tuple[Usage, ...] = ()
    notes: tuple[str, ...] = ()
    notes_correct: int = 0
    error: str = ""

    @property
    def output_tokens(self) -> int:
        return sum(call.output_tokens for call in self.calls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a result comes from."""

    model: str
    seed: int
    family: str
    machine: str
    versions: dict[str, str]
    wall_s: float
    model_sha256: str | None = None
    commit: str | None = None
    measured_on: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Everything the demo saw. `texts` are the contexts, by their number."""

    texts: tuple[str, ...]
    asked: tuple[Asked, ...]
    slept: tuple[Slept, ...]
    rows: tuple[Row, ...] = field(repr=False)
