"""The measurement of `benchmarks/scale.py`, in small; and that it would see what it looks for."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.scale import Found

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 60


def test_with_a_thousand_contexts_the_next_decision_is_told_and_quick() -> None:
    command = [sys.executable, "-m", "benchmarks.scale", "--contexts", "1000", "--asks", "60", "--json"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)

    told = json.loads(done.stdout)
    assert told["contexts"] == 1000
    assert told["decisions_told"] >= 60
    # Ten times the target, and twice: the machine that runs tests may be busy.
    assert told["decision_p50_s"] < 0.5
    assert told["ask_ratio"] < 2.0
    assert done.returncode == (1 if told["missed"] else 0)


def test_it_tells_a_slow_decision_and_an_answer_that_many_contexts_made_late() -> None:
    found = Found(contexts=1000, decisions_s=(0.06,) * 9, few_s=(0.010,) * 9, many_s=(0.0112,) * 9, wanted=9)

    slow, late = found.missed

    assert "60.0 ms" in slow
    assert "1.120 times" in late
    good = Found(contexts=1000, decisions_s=(0.04,) * 9, few_s=(0.010,) * 9, many_s=(0.0108,) * 9, wanted=9)
    assert good.missed == []
