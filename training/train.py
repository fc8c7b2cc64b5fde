"""Train the tiny model from a seed: `python -m training.train`.

Small batches and many steps; a curriculum by step number; a learning rate that warms
up, stays, and falls to nothing; the average of the last weights is what ships.

This file knows nothing about GGUF (export.py) or llama.cpp (gates.py).
"""

import argparse
import json
import math
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training import data, pack
from training.model import Shape, TinyModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stretch of training on one plan.

    A stage that starts afresh goes on from the average of the weights, with a new
    optimiser and a new warm-up; `pairs` prepares heads for two-quantity queries first.
    `pace` multiplies the learning rate.
    """

    steps: int
    plan: data.Plan
    afresh: bool = False
    pairs: bool = False
    pace: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides the weights, with the seed."""

    stages: tuple[Stage, ...]
    trees: int = 4
    peak: float = 2e-3
    warm_up: int = 100
    cool_down: float = 0.12
    weight_decay: float = 0.02
    seed: int = 20504

    @property
    def steps(self) -> int:
        """Count optimiser steps."""
        return sum(stage.steps for stage in self.stages)

    def rate(self, step: int) -> float:
        """Give the learning rate of *step*."""
        cooling = int(self.steps * self.cool_down)
        down = min(1.0, (self.steps - step) / max(1, cooling))
        began = max(start for start, stage in self.starts() if start <= step and stage.afresh)
        up = min(1.0, (step - began + 1) / self.warm_up)
        return self.peak * self.stage(step).pace * up * down

    def starts(self) -> list[tuple[int, Stage]]:
        """List each stage with its first step."""
        firsts = accumulate((stage.steps for stage in self.stages), initial=0)
        return list(zip(firsts, self.stages, strict=False))

    def stage(self, step: int) -> Stage:
        """Find the stage that *step* belongs to."""
        return [stage for start, stage in self.starts() if start <= step][-1]


SIZES = tuple(range(4, 13))
BOTH = ("sheets", "sheets", "sheets", "clocks")
WHOLE = data.Plan(
    sizes=SIZES,
    pairs=0.25,
    drills=0.08,
    steps=0.06,
    sleeps=0.3,
    pair_steps=0.4,
    families=BOTH,
    done=3.0,
)
PAIRS = replace(
    WHOLE,
    hints=True,
    done=1.0,
    drills=0.3,
    drilled_pairs=0.9,
    steps=0.2,
    next_steps=0.6,
    sleeps=0.2,
)
LAST = replace(PAIRS, drills=0.15, sleeps=0.35, steps=0.15)
RECIPE = Recipe(
    stages=(
        Stage(
            steps=200,
            plan=data.Plan(sizes=SIZES, steps=1.0, made_up=0.65, done=0.3),
            afresh=True,
        ),
        Stage(steps=300, plan=data.Plan(sizes=SIZES, drills=0.2, steps=0.4, done=0.3)),
        Stage(steps=500, plan=data.Plan(sizes=SIZES, drills=0.03, steps=0.15, done=0.3)),
        Stage(
            steps=500,
            plan=data.Plan(sizes=SIZES, pairs=0.25, drills=0.05, steps=0.06, done=3.0),
            afresh=True,
        ),
        Stage(
            steps=500,
            plan=data.Plan(sizes=SIZES, pairs=0.25, drills=0.1, steps=0.25, pair_steps=0.7, done=3.0),
        ),
        Stage(steps=500, plan=WHOLE, pace=0.6),
        Stage(steps=500, plan=replace(WHOLE, hints=True), pace=0.6),
        Stage(steps=500, plan=replace(WHOLE, hints=True, done=1.0), pace=0.6),
        Stage(
            steps=500,
            plan=replace(WHOLE, hints=True, done=1.0, steps=0.2, next_steps=0.5),
            pace=0.6,
        ),
        Stage(steps=500, plan=PAIRS, pace=0.6),
        Stage(steps=250, plan=PAIRS, afresh=True, pairs=True, pace=0.6),
        Stage(steps=500, plan=replace(PAIRS, drills=0.65, sleeps=0.1, steps=0.1)),
        Stage(steps=750, plan=LAST, pace=0.75),
        Stage(steps=500, plan=replace(LAST, drills=0.05, sleeps=0.4, steps=0.12), pace=0.75),
        Stage(steps=850, plan=replace(LAST, pairs=0.35, drills=0.05, sleeps=0.25, steps=0.2), pace=0.75),
    )
)


def draw_batch(rng: Random, plan: data.Plan, trees: int) -> pack.Batch:
    """Draw the trees of one step."""
    return pack.pack([data.draw(rng, plan) for _ in range(trees)], multiple=plan.length)


def predict(net: torch.nn.Module, head: torch.nn.Module, batch: pack.Batch) -> Tensor:
    """Give the logits at every place that has a target."""
    with torch.autocast("cpu", torch.bfloat16):
        stream = net(
            torch.from_numpy(batch.tokens),
            torch.from_numpy(batch.positions),
            torch.from_numpy(batch.mask).bfloat16(),
        )
        logits = head(stream.flatten(0, 1)[torch.from_numpy(batch.sources)])
    return logits.float()


def tally(batch: pack.Batch, logits: Tensor, into: dict[str, list[float]]) -> None:
    """Record, by kind of reply, whether everything that can be known was predicted."""
    right = logits.argmax(-1).numpy() == batch.targets
    ignored = batch.weights < data.WEIGHT["fixed"] * 0.99
    for kind, start, end in batch.replies:
        into[kind].append(float((right | ignored)[start:end].all()))
        if kind.startswith("sleep"):
            into[f"{kind}_tokens"].append(float((right | ignored)[start:end].mean()))
        if kind.startswith("guess"):
            into[kind][-1] = float(right[start:end].all())


@torch.no_grad()
def evaluate(net: TinyModel, plan: data.Plan, *, seed: int, batches: int = 12) -> dict[str, float]:
    """Measure teacher-forced exactness by kind of reply on fresh training-side draws."""
    rng = Random(f"validation:{seed}")
    results: dict[str, list[float]] = defaultdict(list)
    for _ in range(batches):
        batch = draw_batch(rng, plan, 4)
        tally(batch, predict(net, net.head, batch), results)
    return {kind: round(sum(v) / len(v), 3) for kind, v in sorted(results.items())}


def save(path: Path, net: TinyModel, **facts: object) -> None:
    """Write weights and facts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save({"shape": asdict(net.shape), "weights": net.state_dict(), **facts}, partial)
    partial.replace(path)


def load(path: Path) -> tuple[TinyModel, dict[str, object]]:
    """Read weights back."""
    stored = torch.load(path, weights_only=True)
    net = TinyModel(Shape(**stored.pop("shape")))
    net.load_state_dict(stored.pop("weights"))
    return net, stored


def train(  # noqa: PLR0915  # one loop, read from top to bottom
    recipe: Recipe,
    shape: Shape,
    out: Path,
    *,
    compiled: bool,
    log_every: int,
    evaluate_every: int,
    stop_after: int | None = None,
    resume: Path | None = None,
) -> None:
    """Run *recipe*, writing a log line now and then and a checkpoint at each evaluation.

    Beside the checkpoint, which holds the average of the weights, stands a `.state` with
    all it takes to go on from that step as if nothing had happened.
    """
    torch.manual_seed(recipe.seed)
    rng = Random(recipe.seed)
    net = TinyModel(shape)
    average = TinyModel(shape)
    average.load_state_dict(net.state_dict())
    wide = [p for p in net.parameters() if p.ndim > 1]
    narrow = [p for p in net.parameters() if p.ndim == 1]

    def new_optimiser() -> torch.optim.Optimizer:
        groups = [
            {"params": wide, "weight_decay": recipe.weight_decay},
            {"params": narrow, "weight_decay": 0},
        ]
        return torch.optim.AdamW(groups, lr=recipe.peak, betas=(0.9, 0.98), fused=True)

    optimiser = new_optimiser()
    forward = torch.compile(net) if compiled else net
    began, tokens, start = time.monotonic(), 0, 0
    if resume is not None:
        state = torch.load(resume, weights_only=False)
        net.load_state_dict(state["weights"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        rng.setstate(state["random"])
        tokens, start = state["tokens"], state["step"]
    afresh = {first for first, stage in recipe.starts() if stage.afresh}
    results: dict[str, list[float]] = defaultdict(list)
    losses: list[float] = []
    for step in range(start, min(recipe.steps, stop_after or recipe.steps)):
        if step in afresh:
            net.load_state_dict(average.state_dict())
            if recipe.stage(step).pairs:
                net.prepare_pairs()
                average.load_state_dict(net.state_dict())
            optimiser = new_optimiser()
        batch = draw_batch(rng, recipe.stage(step).plan, recipe.trees)
        tokens += int((batch.positions > 0).sum()) + recipe.trees
        logits = predict(forward, net.head, batch)
        weights = torch.from_numpy(batch.weights)
        loss = functional.cross_entropy(logits, torch.from_numpy(batch.targets), reduction="none")
        loss = (loss * weights).sum() / weights.sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate(step)
        optimiser.step()
        decay = min(0.998, 1 - 10 / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
        losses.append(loss.item())
        tally(batch, logits.detach(), results)
        done = step + 1
        if done % log_every == 0 or done == recipe.steps:
            shown = {k: round(sum(v) / len(v), 2) for k, v in sorted(results.items())}
            seconds = time.monotonic() - began
            print(
                f"step {done} {seconds:.0f}s {tokens / 1e6:.2f}M loss {np.mean(losses):.3f} "
                f"rate {recipe.rate(step):.1e} {json.dumps(shown)}".replace('"', ""),
                flush=True,
            )
            results.clear()
            losses.clear()
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"The loss is {loss.item()} at step {done}.")
        if done % evaluate_every == 0 or done == recipe.steps:
            for family in sorted(set(recipe.stages[-1].plan.families)):
                plan = replace(recipe.stages[-1].plan, families=(family,))
                measured = evaluate(average, plan, seed=recipe.seed)
                print(f"{family} at {done}: {json.dumps(measured)}".replace('"', ""), flush=True)
            save(out, average, step=done, tokens=tokens, seed=recipe.seed)
            state = {
                "weights": net.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "random": rng.getstate(),
                "tokens": tokens,
                "step": done,
            }
            torch.save(state, out.with_suffix(".state"))


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("training/runs/tiny.pt"))
    parser.add_argument("--seed", type=int, default=RECIPE.seed)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--log-every", type=int, default=200)
    parser.add_argument("--evaluate-every", type=int, default=1000)
    parser.add_argument("--stop-after", type=int, default=None)
    parser.add_argument("--resume", type=Path, default=None, help="a .state to go on from")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(
        Recipe(stages=RECIPE.stages, seed=arguments.seed),
        Shape(),
        arguments.out,
        compiled=not arguments.no_compile,
        log_every=arguments.log_every,
        evaluate_every=arguments.evaluate_every,
        stop_after=arguments.stop_after,
        resume=arguments.resume,
    )


if __name__ == "__main__":
    main()
