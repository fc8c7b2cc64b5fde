"""What an agent that works in steps may do next, and what came of it.

    a step     one model call and the tools it calls            budget: steps, output tokens, money
    an answer  a patch, the files it touches, what it took, and why it ended

Reaching a budget is an outcome: what was edited until then is the answer. Pure; this file knows no model and no tool.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from sleeptime.core.budget import Budget
from sleeptime.core.errors import BudgetError
from sleeptime.core.usage import Usage, sum_costs

Outcome = Literal["finished", "steps", "budget", "window", "gave_up", "error"]
OUTCOMES: dict[Outcome, str] = {
    "finished": "the model said it is done, and had changed something",
    "steps": "all steps were used",
    "budget": "the cap on tokens or money was reached",
    "window": "what it read no longer fits the model's window",
    "gave_up": "the model ended without a change, or said nothing new any more",
    "error": "the model failed",
}
DEFAULT_STEPS = 20
MOST_STEPS = 1000
LOST_TO_STOP = 3
"""Replies in a row that say nothing new, after which the model is not asked again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """An agent's work so far.

    `calls` counts those that were carried out, `refused` those that were answered with what is wrong with them,
    and `lost_in_a_row` the last replies that said nothing new: no call, none that can be read, or the same again.
    """

    steps: int = 0
    usage: Usage = Usage()
    cost_usd: float | None = 0.0
    calls: int = 0
    refused: int = 0
    lost_in_a_row: int = 0
    is_done: bool = False

    def stepped(
        self, usage: Usage, cost_usd: float | None, *, calls: int, refused: int, is_lost: bool, is_done: bool
    ) -> Progress:
        """Count one step."""
        return replace(
            self,
            steps=self.steps + 1,
            usage=self.usage + usage,
            cost_usd=sum_costs([self.cost_usd, cost_usd]),
            calls=self.calls + calls,
            refused=self.refused + refused,
            lost_in_a_row=self.lost_in_a_row + 1 if is_lost else 0,
            is_done=is_done,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentAnswer:
    """A change to a repository, and what making it took. `version` is the learned context shown, None if none.

    patch      as `git apply` takes it; empty where nothing was changed
    modified   files of the commit that the patch changes; `created` are new ones
    usage      over all steps: test-time tokens are `usage.output_tokens`
    error      what stopped it, where `outcome` is "error"
    """

    task: str
    commit: str
    patch: str
    modified: tuple[str, ...]
    created: tuple[str, ...]
    summary: str
    outcome: Outcome
    steps: int
    calls: int
    refused: int
    model: str
    usage: Usage
    cost_usd: float | None
    latency_s: float
    version: int | None = None
    error: str = ""


def outcome(progress: Progress, *, steps: int, budget: Budget, has_changes: bool) -> Outcome | None:
    """Say why the work should end now, or None for another step."""
    if progress.is_done:
        return "finished" if has_changes else "gave_up"
    if progress.lost_in_a_row >= LOST_TO_STOP:
        return "gave_up"
    if progress.steps >= steps:
        return "steps"
    if budget.remaining_output_tokens(progress.usage) == 0:
        return "budget"
    return None


def check_steps(steps: int) -> None:
    """Refuse a number of steps that is none."""
    if not 1 <= steps <= MOST_STEPS:
        raise BudgetError(f"Steps are 1 to {MOST_STEPS}, not {steps}.")


def counter(progress: Progress, steps: int) -> str:
    """What the model is shown after each step, as in the paper."""
    return f"[Step: {progress.steps}/{steps}]"
