"""How fast the evaluation goes, and whether its memory stays flat, against a model of no latency.

    python -m benchmarks.harness [--samples 5000] [--json]

Samples are answers through the whole path: Inspect's eval set, the library's Answerer, the journal, HTTP,
the kept row, Inspect's log. The model is another process on loopback. Exit 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.loopback import loopback_model
from sleeptime.evals.data.datasets import Dataset, Sample
from sleeptime.evals.runs import runner
from sleeptime.evals.runs.experiments import read

LEAST_PER_SECOND = 50.0
MOST_GROWTH = 0.10
WARM = 1000
"""Samples between two looks at memory."""

EXPERIMENT = """
id = "harness"
title = "harness"
claim = "none: it measures the harness"
paper = "none"
dataset = "generated"
max_cost_usd = 1
[[measure]]
arm = "no_sleep"
levels = ["v0"]
"""


def generated(samples: int) -> Dataset:
    """Short texts, each with one question."""
    return Dataset(
        name="generated",
        sha256="0" * 64,
        source="benchmarks/harness.py",
        licence="Apache-2.0",
        samples=tuple(
            Sample(
                id=f"q{i}",
                context_id=f"c{i}",
                cluster=f"c{i}",
                context=f"Shelf {i} holds {i % 97} jars of plums and {i % 89} jars of pears. Nobody counted the rest.",
                question=f"How many jars of plums does shelf {i} hold?",
                target=str(i % 10),
            )
            for i in range(samples)
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one run took. `memory_mib` is that of this process after every thousand samples."""

    samples: int
    missing: int
    paid_calls: int
    wall_s: float
    memory_mib: tuple[float, ...]

    @property
    def per_second(self) -> float:
        return round(self.samples / self.wall_s, 1)

    @property
    def memory_growth(self) -> float | None:
        """From the first thousand samples, when all is loaded, to the last; None with fewer than two."""
        return self.memory_mib[-1] / self.memory_mib[0] - 1 if len(self.memory_mib) > 1 else None

    @property
    def is_met(self) -> bool:
        is_flat = self.memory_growth is None or self.memory_growth <= MOST_GROWTH
        return self.per_second >= LEAST_PER_SECOND and is_flat and not self.missing


def resident_mib() -> float:
    """Memory of this process, of its children none: the model is not counted."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(samples: int) -> Found:
    """Run once."""
    done, memory = 0, list[float]()

    def on_row() -> None:
        nonlocal done
        done += 1
        if done % WARM == 0:
            memory.append(round(resident_mib(), 1))

    with loopback_model() as model, tempfile.TemporaryDirectory() as folder:
        wanted = asyncio.run(
            runner.plan_run(
                [read(EXPERIMENT, source="harness")], generated(samples), model=model, out=Path(folder) / "run"
            )
        )
        began_s = time.monotonic()
        run = runner.run(wanted, on_row=on_row)
        ended_s = time.monotonic()
    return Found(
        samples=done,
        missing=sum(row.is_correct is None for row in run.rows),
        paid_calls=run.paid_calls,
        wall_s=round(ended_s - began_s, 1),
        memory_mib=tuple(memory),
    )


def main() -> None:
    """Measure, print, and say whether the targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--json", action="store_true", dest="as_json")
    asked = parser.parse_args()
    found = measure(asked.samples)
    if asked.as_json:
        print(json.dumps(asdict(found) | {"is_met": found.is_met}))
    else:
        print(
            f"{found.samples} samples in {found.wall_s} s: {found.per_second} a second (at least {LEAST_PER_SECOND:g})"
        )
        print(f"{found.missing} missing, {found.paid_calls} calls paid")
        growth = "not measured" if found.memory_growth is None else f"{found.memory_growth:+.1%}"
        print(f"memory after each {WARM:,}: {found.memory_mib} MiB; growth {growth} (at most {MOST_GROWTH:.0%})")
    sys.exit(0 if found.is_met else 1)


if __name__ == "__main__":
    main()
