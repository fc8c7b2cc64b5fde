"""The measurement of `benchmarks/edits.py`, in small; and that it would see what it looks for."""

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sleeptime import Engine

PROGRAM = Path(__file__).parents[1] / "benchmarks/edits.py"
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def edits() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edits", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["edits"] = module
    spec.loader.exec_module(module)
    return module


def test_thirty_random_edits_show_no_stale_note_and_keep_what_they_did_not_touch() -> None:
    command = [sys.executable, PROGRAM, "--edits", "30", "--per-context", "15", "--seed", "2", "--json"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)

    told = json.loads(done.stdout)
    assert told["missed"] == []
    assert done.returncode == 0
    total = told["all"]
    assert total["stale_shown"] == 0
    assert total["stale_hidden"] > 20
    assert total["shown"] > 2000
    assert total["kept"] >= 0.95 * total["unaffected"] > 1000
    assert total["tokens"] <= total["allowed"]


@pytest.mark.anyio
async def test_the_checker_sees_a_stale_note_that_is_shown(edits: ModuleType, tmp_path: Path) -> None:
    dice = random.Random(5)  # noqa: S311  # a seeded draw
    world, writer = edits.World(dice, 20), edits.Writer(dice)
    environ = {"SLEEPTIME_HOME": str(tmp_path)}
    async with Engine.open(database=tmp_path / "e.db", model=writer.model, worker=False, environ=environ) as engine:
        trial = edits.Trial(engine, world, writer, dice, "c")
        await engine.add(world.text, name="c")
        learned = await engine.sleep("c", edits.PLAN)
        trial.check([note.text for note in learned.notes])
        assert trial.tally.stale_shown == 0
        for _ in range(10):
            world.edit()
        trial.check([note.text for note in learned.notes])

    assert trial.tally.stale_shown > 0
    assert any("stale notes were shown" in missed for missed in edits.failures(trial.tally))


def test_a_promise_that_does_not_hold_is_told(edits: ModuleType) -> None:
    good = edits.Tally(stale_hidden=1, unaffected=100, kept=95, tokens=9, allowed=10.0)

    assert edits.failures(good) == []
    for bad in ({"kept": 94}, {"tokens": 11}, {"stale_hidden": 0}, {"stale_shown": 1}):
        assert len(edits.failures(edits.Tally(**{**vars(good), **bad}))) == 1
