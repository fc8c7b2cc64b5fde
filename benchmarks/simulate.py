"""Prove the decisions on simulated traces: `python -m benchmarks.simulate --traces 10000`.

Prints a table a family and a line a target; exits 1 where a target is missed. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict

from sleeptime.evals.analysis.stats import Estimate
from sleeptime.evals.simulator.measure import HINDSIGHT, SEED, Figures, Verdict, simulate, verdicts
from sleeptime.evals.simulator.worlds import FAMILIES, USUAL, World


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate deployments; compare policies with triggers and hindsight.")
    parser.add_argument("--traces", type=int, default=10_000, help="traces of each family (10000)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"reported figures use {SEED}")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES, metavar="FAMILY")
    parser.add_argument("--answer-tokens", type=int, default=USUAL.answer_tokens, help="median tokens of an answer")
    parser.add_argument("--queries", type=float, default=USUAL.queries, help="queries expected a trace")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    asked = parser.parse_args()
    world = World(answer_tokens=asked.answer_tokens, queries=asked.queries)
    figures: dict[str, dict[str, Figures]] = {}
    for name in asked.families:
        began = time.process_time()
        family = simulate(name, asked.traces, seed=asked.seed, world=world, told=lambda n, name=name: progress(name, n))
        figures[name] = family.figures()
        print(f"\r{name}: {family.traces} traces, {time.process_time() - began:.0f} s of one core", file=sys.stderr)
        if not asked.json:
            print(table(name, family.traces, figures[name]))
    found = verdicts(figures)
    if asked.json:
        rows = {name: {policy: asdict(each) for policy, each in row.items()} for name, row in figures.items()}
        print(json.dumps({**vars(asked), "figures": rows, "verdicts": [judged(each) for each in found]}, indent=2))
    else:
        print("\n".join(line(each) for each in found))
    return 0 if all(each.is_met for each in found) else 1


def progress(name: str, done: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{name}: {done} traces", end="", file=sys.stderr)


def judged(verdict: Verdict) -> dict[str, object]:
    return {**asdict(verdict), "is_met": verdict.is_met}


def table(name: str, traces: int, figures: dict[str, Figures]) -> str:
    """Write one family as a table in Markdown, hindsight first and the dearest last."""
    rows = sorted(figures.items(), key=lambda item: (item[0] != HINDSIGHT, item[1].hindsight.value or 0.0))
    lines = [f"\n### {name}, {traces} traces\n", "| policy | × hindsight | against never | against the best trigger |"]
    lines.append("| --- | --- | --- | --- |")
    for policy, each in rows:
        lines.append(f"| {policy} | {times(each.hindsight)} | {share(each.never)} | {share(each.trigger)} |")
    return "\n".join([*lines, ""])


def line(verdict: Verdict) -> str:
    is_share = verdict.limit <= 0.05
    figure = share(verdict.figure) if is_share else times(verdict.figure)
    return f"{'met   ' if verdict.is_met else 'MISSED'} {verdict.target}: {verdict.family}, {verdict.policy}: {figure}"


def times(figure: Estimate) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def share(figure: Estimate) -> str:
    value, low, high = (f"{100 * (number or 0.0):+.1f}" for number in (figure.value, figure.low, figure.high))
    return f"{value} % ({low} to {high})"


if __name__ == "__main__":
    sys.exit(main())
