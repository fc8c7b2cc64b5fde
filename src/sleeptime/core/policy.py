"""Decisions of sleeping: whether to go on, and how much one call may say.

Pure functions of values. Caps are asked about before each call, never after.
"""

from __future__ import annotations

from sleeptime.core.budget import Budget
from sleeptime.core.deciding import pays_another_round
from sleeptime.core.notes import Draft, StopReason
from sleeptime.core.plan import StrategyName, Worth
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.core.watching import DOLLARS

ROUND_ATTEMPTS = 2
FAILED_ROUNDS_TO_STOP = 2
DEFAULT_ROUND_OUTPUT_TOKENS = 16_384
"""What one round may say where nothing caps it; a model that reasons does so within it."""


MOST_LOOKS = 8
"""Calls of one round that look around in a repository, before its notes have to be written."""

MOST_LOOKED = 60_000
"""Characters of what one round looked at that stand in its prompts."""


def calls_of_round(strategy: StrategyName) -> int:
    """How many model calls one attempt at a round may make."""
    return 1 + MOST_LOOKS if strategy == "explore" else 1


def most_looked(strategy: StrategyName) -> int:
    """How many characters the prompts of a round may grow by looking around."""
    return MOST_LOOKED if strategy == "explore" else 0


def stop_reason(draft: Draft, budget: Budget, *, elapsed_s: float, worth: Worth | None = None) -> StopReason | None:
    """Say why sleep should end now, or None to think for another round."""
    if draft.is_done:
        return "finished"
    if draft.is_settled:
        return "settled"
    if draft.failed_in_a_row >= FAILED_ROUNDS_TO_STOP:
        return "unreadable"
    if budget.remaining_output_tokens(draft.usage) == 0:
        return "budget"
    if draft.rounds >= budget.max_rounds:
        return "rounds"
    if budget.max_seconds is not None and elapsed_s >= budget.max_seconds:
        return "time"
    if worth is not None and not pays_to_go_on(draft, worth):
        return "diminishing"
    return None


def pays_to_go_on(draft: Draft, worth: Worth) -> bool:
    """Whether another round is expected to pay, priced as those so far. The first one was decided on.

    Where the price of those so far is not known, nothing speaks against another.
    """
    spent = draft.cost_usd if worth.unit == DOLLARS else float(draft.usage.output_tokens)
    if not draft.rounds or spent is None:
        return True
    price = spent / draft.rounds
    return pays_another_round(draft.changed, round_price=price, queries=worth.queries, saving=worth.saving)


def call_output_tokens(
    budget: Budget,
    spent: Usage,
    spent_usd: float | None,
    *,
    input_tokens: int,
    price: PriceCard | None,
    default: int = DEFAULT_ROUND_OUTPUT_TOKENS,
) -> int:
    """How many output tokens the next call may ask for, so that no cap can be passed; 0 for none.

    With a money cap, *input_tokens* of the prompt are set aside at the full input
    price and the rest buys output. An unknown price under a money cap allows nothing.
    """
    allowed = default
    remaining = budget.remaining_output_tokens(spent)
    if remaining is not None:
        allowed = min(allowed, remaining)
    if budget.max_cost_usd is not None:
        if price is None or spent_usd is None:
            return 0
        left_usd = budget.max_cost_usd - spent_usd - price.cost_usd(Usage(input_tokens=input_tokens))
        if left_usd < 0:
            return 0
        output_usd_per_mtok = price.at(input_tokens).output_usd_per_mtok
        if output_usd_per_mtok > 0:
            allowed = min(allowed, int(left_usd * 1e6 / output_usd_per_mtok))
    return max(0, allowed)
