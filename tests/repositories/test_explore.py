"""A sleep on a repository looks around within its calls, and its notes rest on the files it names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from repositories.conftest import Made
from repositories.test_agent import calls
from sleeptime.core import policy
from sleeptime.core.budget import Budget
from sleeptime.core.context import Context
from sleeptime.core.errors import NoRepositoryError
from sleeptime.core.messages import Completion, Message
from sleeptime.core.notes import Draft
from sleeptime.core.plan import Plan
from sleeptime.core.staleness import shown
from sleeptime.core.usage import Usage
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.scripted import Reply, Script, ScriptedModel
from sleeptime.repositories.checkout import open_checkout
from sleeptime.repositories.documentation import documentation
from sleeptime.sleeper import Sleeper

pytestmark = pytest.mark.anyio
TEXT = "# repo\n\n=== src/a.py ===\ndefines a; imports src/b.py\n\n=== src/b.py ===\ndefines b\n"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLAN = Plan(strategy="explore", budget=Budget(max_rounds=3))
NOTES = calls(
    (
        "revise_notes",
        {"add": [{"kind": "plan", "text": "Change src/a.py first.", "evidence": ["src/a.py:1-2"]}], "done": True},
    )
)


@pytest.fixture
def place(make: Callable[..., Made]) -> Path:
    repo = make()
    repo.commit("Begin", {"src/a.py": "import b\n", "src/b.py": "b = 1\n"})
    return repo.place


def context(text: str = TEXT) -> Context:
    return Context(id="c1", name="repo", text=text, created_at=NOW)


def sleeper(place: Path | None, replies: Sequence[Reply | Script] | Script, **abilities: Any) -> Sleeper:
    model = ScriptedModel(replies, abilities=Abilities(**abilities))
    return Sleeper(model, None, lambda: 0.0, lambda: NOW, open_checkout(place) if place else None)


async def test_a_round_looks_and_then_writes_notes_that_rest_on_a_file(place: Path) -> None:
    worker = sleeper(place, [calls(("read", {"path": "src/a.py"})), calls(("search", {"text": "b = "})), NOTES])

    learned = await worker.sleep(context(), PLAN)

    assert (learned.rounds, learned.stop_reason, learned.usage.output_tokens) == (1, "finished", 30)
    assert shown(learned, context(TEXT.replace("defines b", "defines b and c"))) == learned.notes
    assert shown(learned, context(TEXT.replace("defines a", "defines a and c"))) == ()
    assert isinstance(worker.model, ScriptedModel)
    first, second, third = (call.messages for call in worker.model.calls)
    assert third[: len(second)] == second
    assert second[: len(first)] == first
    assert "1: import b" in second[-1].content
    assert "src/b.py:1: b = 1" in third[-1].content


async def test_a_look_that_is_written_out_is_carried_out(place: Path) -> None:
    worker = sleeper(place, ['{"tool": "read", "path": "src/b.py"}', NOTES])

    learned = await worker.sleep(context(), PLAN)

    assert (learned.rounds, len(learned.notes)) == (1, 1)
    assert isinstance(worker.model, ScriptedModel)
    assert "1: b = 1" in worker.model.calls[-1].messages[-1].content


async def test_looking_without_end_is_ended_and_notes_are_asked_for(place: Path) -> None:
    numbers = count(1)

    def looks(_messages: Sequence[Message], options: Options) -> Reply:
        names = {tool.name for tool in options.tools}
        return calls(("read", {"path": "src/a.py", "last": next(numbers)})) if "read" in names else NOTES

    learned = await sleeper(place, looks).sleep(context(), PLAN)

    assert next(numbers) == policy.MOST_LOOKS + 1
    assert (learned.rounds, len(learned.notes)) == (1, 1)


async def test_what_a_round_looks_at_has_a_most(make: Callable[..., Made]) -> None:
    repo = make()
    repo.commit("Begin", {"big.txt": "word " * 100_000, "many.txt": "line\n" * 5000})
    numbers = count(1)

    def looks(_messages: Sequence[Message], options: Options) -> Reply:
        if not any(tool.name == "read" for tool in options.tools):
            return NOTES
        first = 1 + 10 * next(numbers)
        reads = [("read", {"path": "many.txt", "first": first + i}) for i in range(6)]
        return calls(*reads, text="I think aloud. " * 500)

    worker = sleeper(repo.place, looks)

    await worker.sleep(context(), PLAN)

    assert isinstance(worker.model, ScriptedModel)
    shown = [sum(len(message.content) for message in call.messages) for call in worker.model.calls]
    assert max(shown) - shown[0] <= policy.MOST_LOOKED + 100
    assert max(shown) - shown[0] > policy.MOST_LOOKED - 10_000


async def test_a_model_that_never_writes_fails_its_rounds(place: Path) -> None:
    numbers = count(1)
    looks: Script = lambda *_: calls(("list", {"folder": str(next(numbers))}))  # noqa: E731  # a script

    learned = await sleeper(place, looks).sleep(context(), PLAN)

    assert (learned.stop_reason, learned.notes) == ("unreadable", ())
    assert next(numbers) - 1 == policy.calls_of_round("explore") * policy.ROUND_ATTEMPTS * policy.FAILED_ROUNDS_TO_STOP


async def test_the_cap_on_tokens_holds_over_looking(place: Path) -> None:
    numbers = count(1)

    def looks(_messages: Sequence[Message], options: Options) -> Reply:
        spent = Usage(input_tokens=1, output_tokens=min(10, options.max_output_tokens))
        return replace(calls(("list", {"folder": str(next(numbers))})), usage=spent)

    learned = await sleeper(place, looks).sleep(
        context(), replace(PLAN, budget=Budget(max_rounds=3, max_output_tokens=35))
    )

    assert (learned.stop_reason, learned.usage.output_tokens) == ("budget", 35)


async def test_what_a_look_took_is_kept_at_once(place: Path) -> None:
    kept: list[Draft] = []

    async def keep(draft: Draft, _completion: Completion) -> None:
        kept.append(draft)

    await sleeper(place, [calls(("list", {})), NOTES]).sleep(context(), PLAN, on_draft=keep)

    assert [(draft.usage.output_tokens, draft.rounds) for draft in kept] == [(10, 0), (20, 1)]


async def test_a_model_without_tools_takes_notes_on_the_text_alone(place: Path) -> None:
    learned = await sleeper(place, ["<notes>\nsrc/a.py needs src/b.py\ndone\n</notes>"], tools=False).sleep(
        context(), PLAN
    )

    assert [note.text for note in learned.notes] == ["src/a.py needs src/b.py"]


async def test_a_tool_that_edits_is_not_there_to_look(place: Path) -> None:
    edit = calls(("edit", {"path": "src/a.py", "old": "import", "new": "export"}))

    learned = await sleeper(place, [edit, NOTES]).sleep(context(), PLAN)

    assert len(learned.notes) == 1
    assert (place / "src/a.py").read_text() == "import b\n"


async def test_a_note_that_the_documentation_makes_already_is_not_kept_and_the_model_is_told(
    make: Callable[..., Made],
) -> None:
    repo = make()
    repo.commit(
        "Begin",
        {
            "README.md": "# Shop\n\nRun the tests with `just test`; the slow ones need a database.\n",
            "docs/how/orders.md": "Orders are kept in PostgreSQL, in one table.\n",
            "src/a.py": "# Prices are rounded to cents before tax is added.\n",
        },
    )
    texts = [
        "Run the tests with `just test`; the slow ones need a database.",
        "Orders are kept in PostgreSQL, in one table.",
        "Prices are rounded to cents before tax is added.",
    ]
    first = calls(("revise_notes", {"add": [{"kind": "inference", "text": text} for text in texts], "done": False}))
    model = ScriptedModel([first, calls(("revise_notes", {"done": True}))])
    checkout = open_checkout(repo.place)
    worker = Sleeper(model, None, lambda: 0.0, lambda: NOW, checkout, documentation(checkout))

    learned = await worker.sleep(context(), PLAN)

    assert [note.text for note in learned.notes] == [texts[2]]
    told = model.calls[1].messages[-1].content
    assert "Not kept, for the documentation says so already: Run the tests" in told
    assert "Not kept, for the documentation says so already: Orders" in told


async def test_to_explore_takes_a_repository() -> None:
    with pytest.raises(NoRepositoryError, match="'repo' is not of a repository"):
        await sleeper(None, [Completion(text="", usage=Usage(), model="m")]).sleep(context(), PLAN)
