"""Budgets: limits stated before, never what was spent.

`Budget` caps a piece of work. `Level` says how hard a model should think about
one query; the tokens it then really takes are usage, and only usage is reported.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal

from sleeptime.core.errors import BudgetError
from sleeptime.core.usage import Usage

LevelKind = Literal["verbosity", "effort", "thinking", "force", "extend"]
EFFORTS = ("minimal", "low", "medium", "high")
VERBOSITIES = (0, 1, 2, 3, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """How hard to think about one query.

    verbosity  `amount` 0 to 4: the paper's five prompts
    effort     `effort` minimal, low, medium or high: the provider's own dial
    thinking   `amount` tokens: the provider's thinking-token budget
    force      `amount` tokens: thinking is cut off there and an answer is made
    extend     `amount` tokens: thinking that ends sooner is told to go on (s1, arXiv 2501.19393)
    """

    kind: LevelKind = "verbosity"
    amount: int = 0
    effort: str | None = None

    def __post_init__(self) -> None:
        if self.kind == "verbosity" and self.amount not in VERBOSITIES:
            raise BudgetError(f"Verbosity is 0 to 4, not {self.amount}.")
        if self.kind == "effort" and self.effort not in EFFORTS:
            raise BudgetError(f"Effort is one of {', '.join(EFFORTS)}, not {self.effort!r}.")
        if self.kind in ("thinking", "force", "extend") and self.amount < 1:
            raise BudgetError(f"A token budget is at least 1, not {self.amount}.")

    @classmethod
    def parse(cls, text: str) -> Level:
        """Read `0`…`4` (or `v0`…), `low`…, `think:N`, `force:N` or `extend:N`.

        Raises BudgetError when *text* is none of these.
        """
        word = text.strip().lower()
        if match := re.fullmatch(r"v?(\d)", word):
            return cls(kind="verbosity", amount=int(match[1]))
        if word in EFFORTS:
            return cls(kind="effort", effort=word)
        if match := re.fullmatch(r"(think|thinking|force|extend):(\d+)", word):
            kind: LevelKind = (
                "thinking" if match[1].startswith("think") else "force" if match[1] == "force" else "extend"
            )
            return cls(kind=kind, amount=int(match[2]))
        raise BudgetError(
            f"{text!r} is not a budget. Write 0 to 4 (verbosity), low, medium or high (effort), "
            "think:2048, force:256 or extend:1024 (tokens)."
        )

    def __str__(self) -> str:
        if self.kind == "verbosity":
            return f"v{self.amount}"
        if self.kind == "effort":
            return str(self.effort)
        return f"{'think' if self.kind == 'thinking' else self.kind}:{self.amount}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Caps on one sleep or one answer. None means no cap.

    max_output_tokens  all output tokens of the work together
    max_cost_usd       all its money, in US dollars; needs a known price
    max_rounds         model calls of one sleep sample (the paper: 10)
    max_seconds        wall-clock time of one sleep, counted anew when it is gone on with
    """

    max_output_tokens: int | None = None
    max_cost_usd: float | None = None
    max_rounds: int = 10
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for cap in (self.max_output_tokens, self.max_cost_usd, self.max_rounds, self.max_seconds):
            if cap is not None and not 0 < cap < math.inf:
                raise BudgetError(f"A cap must be a number above zero, not {cap}.")

    def remaining_output_tokens(self, usage: Usage) -> int | None:
        """How many output tokens may still be spent, or None without a cap."""
        if self.max_output_tokens is None:
            return None
        return max(0, self.max_output_tokens - usage.output_tokens)

    def less(self, usage: Usage, cost_usd: float | None) -> Budget | None:
        """What is left of the token and money caps for the next piece of work, or None where nothing is."""
        tokens, money = self.remaining_output_tokens(usage), self.max_cost_usd
        if money is not None:
            money -= cost_usd or 0.0
        if tokens == 0 or (money is not None and money <= 0):
            return None
        return replace(self, max_output_tokens=tokens, max_cost_usd=money)

    def shared_by(self, samples: int) -> Budget:
        """Split the token and money caps evenly between *samples* parallel sleeps.

        Raises BudgetError where there are fewer tokens than samples.
        """
        if self.max_output_tokens is not None and self.max_output_tokens < samples:
            raise BudgetError(f"A cap of {self.max_output_tokens} tokens is too small for {samples} samples.")
        return replace(
            self,
            max_output_tokens=None if self.max_output_tokens is None else self.max_output_tokens // samples,
            max_cost_usd=None if self.max_cost_usd is None else self.max_cost_usd / samples,
        )
