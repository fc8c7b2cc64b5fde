"""Run every policy and trigger over the same traces, and hold the outcome against its targets.

    figure   Σ cost of one policy / Σ cost of another, over the same traces; 95 % by paired bootstrap over traces
    met      the whole interval is on the right side of its limit

A family that loses is a row like any other. Seeds are arguments: `SEED` is for reported figures; all choices of rules
and constants were made on others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sleeptime.core.deciding import Portfolio
from sleeptime.evals.analysis import stats
from sleeptime.evals.simulator.deployment import POLICIES, Deployment, Policy, past_of, traces_of
from sleeptime.evals.simulator.triggers import cost_without_sleep, hindsight_cost, triggered_cost, triggers
from sleeptime.evals.simulator.worlds import STOCHASTIC, USUAL, Array, World, batches

SEED = 20_504
PAST_TRACES = 60
"""Traces, of other seeds, that a policy with a past has lived through: about a thousand contexts."""
PAST_SEED = 1
RESAMPLES = 1000
NEVER, HINDSIGHT = "never", "hindsight"
OWN, FIRST, RULE, TOLD, LIES = "sleeptime", "its first month", "no forecast", "told within 20 %", "told lies"


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What each policy cost on each trace of one family, in mean answers without notes.

    `past` is the month that lies behind each trace for the policies that have one.
    """

    name: str
    seed: int
    costs: Mapping[str, Array]
    past: Portfolio

    @property
    def traces(self) -> int:
        return len(self.costs[NEVER])

    def figures(self) -> dict[str, Figures]:
        """Every policy's figures, all from the same resamples."""
        names = list(self.costs)
        weights = stats.draw_weights(self.traces, seed=self.seed, resamples=RESAMPLES)
        sums = dict(zip(names, (weights @ np.column_stack([self.costs[name] for name in names])).T, strict=True))
        lived = {policy.name for policy in POLICIES if policy.has_past}
        drawn = weights.sum(axis=1)
        best: Array = np.min([sums[name] for name in triggers()], axis=0)
        return {
            name: Figures(
                hindsight=stats.estimate(stats.ratios(sums[name], sums[HINDSIGHT])),
                never=stats.estimate(stats.ratios(sums[name], sums[NEVER]) - 1.0),
                trigger=stats.estimate(stats.ratios(sums[name], best) - 1.0),
                life=stats.estimate(
                    stats.ratios(
                        sums[name] + drawn * (self.past.spent if name in lived else 0.0),
                        sums[NEVER] + drawn * (self.past.without_sleep if name in lived else 0.0),
                    )
                    - 1.0
                ),
            )
            for name in names
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Cost as a multiple of hindsight's, and against never to sleep and the best trigger (−0.2: a fifth below).

    `life` is against never with the past month counted in, where there is one: the guard bounds that sum.
    """

    hindsight: stats.Estimate
    never: stats.Estimate
    trigger: stats.Estimate
    life: stats.Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A target, one figure, and whether the figure's whole interval meets it."""

    target: str
    family: str
    policy: str
    figure: stats.Estimate
    limit: float

    @property
    def is_met(self) -> bool:
        return self.figure.high is not None and self.figure.high <= self.limit


def simulate(
    family: str,
    traces: int,
    *,
    seed: int,
    world: World = USUAL,
    policies: Sequence[Policy] = POLICIES,
    past_traces: int = PAST_TRACES,
    told: Callable[[int], None] = lambda _done: None,
) -> Family:
    """Run all policies over *traces* of a *family*; *told* hears how many traces are done."""
    past_batch = next(batches(family, past_traces, seed=PAST_SEED, world=world))
    past = past_of(traces_of(past_batch, seed=PAST_SEED))
    parts: dict[str, list[Array]] = {}
    done = 0
    for number, batch in enumerate(batches(family, traces, seed=seed, world=world)):
        for name, times in triggers().items():
            parts.setdefault(name, []).append(
                cost_without_sleep(batch) if name == NEVER else triggered_cost(batch, times(batch))
            )
        parts.setdefault(HINDSIGHT, []).append(hindsight_cost(batch))
        drawn = traces_of(batch, seed=seed + number)
        for policy in policies:
            costs = [Deployment(trace, policy, past if policy.has_past else None).run() for trace in drawn]
            parts.setdefault(policy.name, []).append(np.array(costs))
        done += batch.traces
        told(done)
    return Family(
        name=family,
        seed=seed,
        costs={name: np.concatenate(arrays) for name, arrays in parts.items()},
        past=past.portfolio,
    )


def verdicts(families: Mapping[str, Mapping[str, Figures]]) -> list[Verdict]:
    """Hold the figures of each family against the targets."""
    found: list[Verdict] = []
    for name, figures in families.items():
        found.append(
            Verdict(
                target="at most 1.10 x hindsight where the forecast is within 20 %",
                family=name,
                policy=TOLD,
                figure=figures[TOLD].hindsight,
                limit=1.10,
            )
        )
        found.append(
            Verdict(
                target="at most 1.6 x hindsight without a forecast"
                if name in STOCHASTIC
                else "at most 2 x hindsight without a forecast",
                family=name,
                policy=RULE,
                figure=figures[RULE].hindsight,
                limit=1.6 if name in STOCHASTIC else 2.0,
            )
        )
        found.extend(
            Verdict(
                target="with the guard at most 5 % above never",
                family=name,
                policy=policy,
                figure=figures[policy].life,
                limit=0.05,
            )
            for policy in (OWN, FIRST, LIES)
        )
        if name == "mixed":
            found.extend(
                Verdict(
                    target="20 % below the best trigger on mixed",
                    family=name,
                    policy=policy,
                    figure=figures[policy].trigger,
                    limit=-0.20,
                )
                for policy in (OWN, TOLD)
            )
    return found
