"""How to sleep on a context: the settings of one sleep, as a value."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Literal

from sleeptime.core.budget import EFFORTS, Budget
from sleeptime.core.errors import BudgetError

StrategyName = Literal["notes", "rethink", "explore"]
TierName = Literal["auto", "standard", "flex"]
TIERS: tuple[TierName, ...] = ("auto", "standard", "flex")
STRATEGIES: tuple[StrategyName, ...] = ("notes", "rethink", "explore")
MAX_CHARACTERS = 5000
"""The cap on the text of c′ in the paper's code."""
PARALLEL_TEMPERATURE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What a sleep was decided for: the queries expected and what each saves with its notes, in `unit` (or "USD")."""

    queries: float
    saving: float
    unit: str = "USD"

    def shared_by(self, samples: int) -> Worth:
        """One sample's share, as its notes are one share of all."""
        return replace(self, saving=self.saving / samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Settings of one sleep.

    strategy        notes, the paper's `rethink`, or `explore`, which looks around in a repository
    samples         k parallel sleeps, joined in order (paper: 1, 2, 5, 10)
    effort          the provider's dial: minimal, low, medium or high
    temperature     None: 0 for one sample, 0.8 for several, which would be identical at 0
    max_characters  cap on the text of c′, for each sample; counted, and told to the model
    budget          caps over all samples together
    worth           what it was decided for: it ends where another round is not expected to pay. None: nobody decided
    tier            at which of the provider's prices: flex is its half-price tier, auto is flex where a price for it
                    is known; None as `sleeptime.toml` says. It decides nothing of the outcome
    """

    strategy: StrategyName = "notes"
    samples: int = 1
    effort: str | None = None
    temperature: float | None = None
    max_characters: int = MAX_CHARACTERS
    budget: Budget = Budget()
    worth: Worth | None = None
    tier: TierName | None = None

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise BudgetError(f"There is no strategy {self.strategy!r}; there are {', '.join(STRATEGIES)}.")
        if self.samples < 1 or self.max_characters < 1:
            raise BudgetError("Samples and characters are at least 1.")
        if self.samples > 1 and self.temperature == 0:
            raise BudgetError("Parallel samples at temperature 0 would be identical. Give a --temperature above 0.")
        if self.tier is not None and self.tier not in TIERS:
            raise BudgetError(f"There is no tier {self.tier!r}; there are {', '.join(TIERS)}.")
        self.budget.shared_by(self.samples)
        if self.effort is not None and self.effort not in EFFORTS:
            raise BudgetError(f"Effort is one of {', '.join(EFFORTS)}, not {self.effort!r}.")

    @property
    def sampling_temperature(self) -> float | None:
        """The temperature to ask for; None leaves it to a model whose effort is set."""
        if self.temperature is not None:
            return self.temperature
        if self.samples > 1:
            return PARALLEL_TEMPERATURE
        return None if self.effort else 0.0

    @property
    def identity(self) -> str:
        """What decides what is learned, as text: not where it ends or its tier. Equal ones may go on from another."""
        beside = ("budget", "worth", "tier")
        return json.dumps({key: value for key, value in asdict(self).items() if key not in beside}, sort_keys=True)

    @classmethod
    def like(cls, identity: str) -> Plan:
        """The plan with this identity, a model's name before it or not, under the usual caps."""
        return cls(**json.loads(identity[identity.rindex("{") :]))
