"""`Engine.solve` and `sleeptime solve`: a context of a repository, a task, a patch; every step in the ledger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fakes.openai_server import Reply as ServedReply
from fakes.openai_server import serve
from repositories.conftest import Made
from repositories.test_agent import EDIT, FINISH, calls
from repositories.test_worktree import fingerprint
from sleeptime import Engine
from sleeptime.core.budget import Budget
from sleeptime.core.errors import BudgetError, InputError, NothingLearnedError
from sleeptime.core.ledger import Phase
from sleeptime.core.messages import Message
from sleeptime.core.plan import Plan
from sleeptime.core.usage import Usage
from sleeptime.models.protocol import Options
from sleeptime.models.scripted import Reply, ScriptedModel

INDEX = "=== src/a.py ===\ndefines a\n"


@pytest.fixture
def place(make: Callable[..., Made]) -> Path:
    repo = make()
    repo.commit("Begin", {"src/a.py": "def a():\n    return 1\n"})
    return repo.place


def working(messages: Sequence[Message], options: Options) -> Reply:
    if any(tool.name == "revise_notes" for tool in options.tools):
        if not any("1: def a" in message.content for message in messages):
            return calls(("read", {"path": "src/a.py"}))
        note = {"kind": "plan", "text": "What a returns stands in src/a.py.", "evidence": ["src/a.py:1-2"]}
        return calls(("revise_notes", {"add": [note], "done": True}))
    return FINISH if any("Changed." in message.content for message in messages) else EDIT


@pytest.mark.anyio
async def test_a_sleep_that_looked_around_helps_to_solve_and_every_call_is_a_row(place: Path, tmp_path: Path) -> None:
    model = ScriptedModel(working)
    before = fingerprint(place)
    async with Engine.open(database=tmp_path / "x.db", model=model, environ={}) as engine:
        await engine.add(INDEX, name="shop", source=str(place))
        with pytest.raises(NothingLearnedError):
            await engine.solve("shop", "Return 2.", with_notes=True)

        plain = await engine.solve("shop", "Return 2.", steps=5)
        learned = await engine.sleep("shop", Plan(strategy="explore"))
        helped = await engine.solve("shop", "Return 2.", steps=5)

        assert (plain.version, helped.version, plain.outcome, helped.outcome) == (None, 1, "finished", "finished")
        assert plain.patch == helped.patch
        assert "+    return 2" in plain.patch
        assert [note.evidence[0].section for note in learned.notes] == [learned.sections[0]]
        shown = [call.messages[0].content for call in model.calls]
        assert sum("What a returns stands" in text for text in shown) == 2
        rows = await engine.calls("shop")
        assert [(row.phase, row.sees, row.level) for row in rows] == [
            *[(Phase.TEST, "context", "steps:5")] * 2,
            *[(Phase.SLEEP, None, None)] * 2,
            *[(Phase.TEST, "learned", "steps:5")] * 2,
        ]
        assert sum((row.usage for row in rows), Usage()) == plain.usage + learned.usage + helped.usage
    assert fingerprint(place) == before


@pytest.mark.anyio
async def test_a_stale_note_is_not_shown_to_an_agent(place: Path, tmp_path: Path) -> None:
    model = ScriptedModel(working)
    async with Engine.open(database=tmp_path / "x.db", model=model, environ={}) as engine:
        await engine.add(INDEX, name="shop", source=str(place))
        await engine.sleep("shop", Plan(strategy="explore"))
        await engine.update("shop", INDEX.replace("defines a", "defines a and b"))

        done = await engine.solve("shop", "Return 2.")

        assert done.version is None
        assert "What a returns stands" not in model.calls[-1].messages[0].content


@pytest.mark.anyio
async def test_what_is_no_repository_cannot_be_solved_or_explored(tmp_path: Path) -> None:
    async with Engine.open(database=tmp_path / "x.db", model=ScriptedModel(working), environ={}) as engine:
        await engine.add("A text.", name="text", source="-")

        with pytest.raises(InputError, match="'text' is not of a repository"):
            await engine.solve("text", "Return 2.")
        with pytest.raises(InputError, match="'text' is not of a repository"):
            await engine.sleep("text", Plan(strategy="explore"))
        assert await engine.calls() == []


@pytest.mark.anyio
async def test_a_cap_on_money_without_a_price_is_refused_before_any_step(place: Path, tmp_path: Path) -> None:
    async with Engine.open(database=tmp_path / "x.db", model=ScriptedModel(working), environ={}) as engine:
        await engine.add(INDEX, name="shop", source=str(place))

        with pytest.raises(BudgetError, match="A money cap needs a price"):
            await engine.solve("shop", "Return 2.", budget=Budget(max_cost_usd=1.0))


def answering(body: dict[str, Any]) -> ServedReply:
    if "Changed." in json.dumps(body["messages"]):
        return ServedReply(tool_calls=(("finish", '{"summary": "It returns 2."}'),))
    return ServedReply(tool_calls=(("edit", json.dumps({"path": "src/a.py", "old": "return 1", "new": "return 2"})),))


def test_the_patch_of_the_command_can_be_applied(place: Path, tmp_path: Path) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SLEEPTIME")}
    environ |= {"SLEEPTIME_HOME": str(tmp_path / "home"), "NO_COLOR": "1"}

    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sleeptime.cli", *arguments]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stderr
        return done

    run("add", str(place), "--name", "shop")
    with serve(answering) as fake:
        done = run("solve", "shop", "Return 2.", "--model", fake.name, "--steps", "4")
        assert len(fake.calls) == 2
    with serve([ServedReply(status=400)]) as fake:
        failed = run("solve", "shop", "Return 2.", "--model", fake.name, code=1)

    assert "2 steps, 1 files changed; ended: the model said it is done" in done.stderr
    assert "It returns 2." in done.stderr
    subprocess.run(["git", "apply", "-"], input=done.stdout.encode(), cwd=place, check=True)  # noqa: S607
    assert (place / "src/a.py").read_text() == "def a():\n    return 2\n"
    assert "RequestRejectedError" in failed.stderr
    assert failed.stdout == ""
