"""An agent works within its steps and its worktree, whatever its model does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from anyio import run_process

from repositories.conftest import Made
from repositories.test_worktree import fingerprint
from sleeptime.agent import MOST_CALLS, Agent
from sleeptime.core.agency import LOST_TO_STOP
from sleeptime.core.budget import Budget
from sleeptime.core.errors import BudgetError, ContextTooLongError, UpstreamError
from sleeptime.core.ledger import Call, Phase
from sleeptime.core.messages import UNREADABLE, Completion, Message, ToolCall
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.models.metered import Metered
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.scripted import Reply, Script, ScriptedModel
from sleeptime.repositories.checkout import open_checkout

pytestmark = pytest.mark.anyio
CARD = PriceCard(name="card", dated=date(2026, 1, 1), input_usd_per_mtok=1, output_usd_per_mtok=1000)


def calls(*made: tuple[str, dict[str, Any]], text: str = "", tokens: int = 10) -> Completion:
    return Completion(
        text=text,
        usage=Usage(input_tokens=100, output_tokens=tokens),
        model="scripted",
        finish_reason="tool_calls",
        tool_calls=tuple(ToolCall(name=name, arguments=arguments) for name, arguments in made),
    )


EDIT = calls(("edit", {"path": "src/a.py", "old": "return 1", "new": "return 2"}))
FINISH = calls(("finish", {"summary": "Done."}))


@pytest.fixture
def place(make: Callable[..., Made]) -> Path:
    repo = make()
    repo.commit("Begin", {"src/a.py": "def a():\n    return 1\n", "src/b.py": "b = 1\n", "big.txt": "word " * 180_000})
    (repo.place / "out").symlink_to(repo.place.parent)
    repo.commit("Link")
    (repo.place.parent / "outside.txt").write_text("outside\n")
    return repo.place


def agent(replies: Sequence[Reply | Script] | Script, *, price: PriceCard | None = None, **abilities: Any) -> Agent:
    seconds = count()
    return Agent(ScriptedModel(replies, abilities=Abilities(**abilities)), price, lambda: float(next(seconds)))


def asked(agent: Agent) -> list[tuple[Message, ...]]:
    assert isinstance(agent.model, ScriptedModel)
    return [call.messages for call in agent.model.calls]


async def test_a_task_becomes_a_patch(place: Path) -> None:
    look = calls(("search", {"text": "return"}), ("read", {"path": "src/a.py"}), text="Let me look.")

    done = await agent([look, EDIT, FINISH]).solve("Return 2.", open_checkout(place), steps=8)

    assert (done.outcome, done.steps, done.calls, done.refused) == ("finished", 3, 4, 0)
    assert (done.modified, done.created, done.summary) == (("src/a.py",), (), "Done.")
    assert done.usage == Usage(input_tokens=300, output_tokens=30)
    await run_process(["git", "apply", "-"], input=done.patch.encode(), cwd=place)
    assert (place / "src/a.py").read_text() == "def a():\n    return 2\n"


async def test_every_step_adds_to_the_prompt_and_counts(place: Path) -> None:
    worker = agent([calls(("list", {})), EDIT, FINISH])

    await worker.solve("Return 2.", open_checkout(place), steps=5, known="src/a.py holds it.")

    first, second, third = asked(worker)
    assert second[: len(first)] == first
    assert third[: len(second)] == second
    assert "src/a.py holds it." in first[0].content
    assert first[-1].content.endswith("[Step: 0/5]")
    assert second[-2] == Message("assistant", '{"tool": "list"}')
    assert second[-1].content.endswith("[Step: 1/5]")
    assert third[-1].content.endswith("[Step: 2/5]")


async def test_a_model_without_tools_writes_its_calls(place: Path) -> None:
    plain = [
        'I look. <call>{"tool": "read", "path": "src/a.py"}</call>',
        '<think><call>{"tool": "finish"}</call></think><call>not json</call>',
        '<call>{"tool": "edit", "path": "src/a.py", "old": "return 1", "new": "return 2"}</call>',
        '<call>{"tool": "finish", "summary": "Done."}',
    ]

    done = await agent(plain, tools=False).solve("Return 2.", open_checkout(place), steps=8)

    assert (done.outcome, done.steps, done.modified, done.refused) == ("finished", 4, ("src/a.py",), 1)


async def test_calls_written_as_the_transcript_shows_them_are_carried_out(place: Path) -> None:
    lines = [
        'I look first.\n{"tool": "read", "path": "src/a.py"}\n{"no": "call"}\n{broken',
        '{"tool": "edit", "path": "src/a.py", "old": "return 1", "new": "return 2"}',
        '{"tool": "finish", "summary": "Done."}',
    ]
    worker = agent(lines)

    done = await worker.solve("Return 2.", open_checkout(place), steps=8)

    assert (done.outcome, done.calls, done.refused) == ("finished", 3, 0)
    assert asked(worker)[1][-2].content == lines[0]


async def test_an_endless_loop_ends_with_the_steps(place: Path) -> None:
    numbers = count(1)

    done = await agent(lambda *_: calls(("read", {"path": "big.txt", "first": 1, "last": next(numbers)}))).solve(
        "Loop.", open_checkout(place), steps=7
    )

    assert (done.outcome, done.steps, done.patch) == ("steps", 7, "")


async def test_the_same_call_again_is_not_carried_out_and_ends_the_work(place: Path) -> None:
    worker = agent(lambda *_: calls(("read", {"path": "src/a.py"})))

    done = await worker.solve("Loop.", open_checkout(place), steps=50)

    assert (done.outcome, done.steps, done.calls) == ("gave_up", 1 + LOST_TO_STOP, 1)
    assert "You called this in step 1" in asked(worker)[-1][-1].content


async def test_a_call_may_be_repeated_after_a_change(place: Path) -> None:
    read = calls(("read", {"path": "src/a.py"}))

    done = await agent([read, EDIT, read, FINISH]).solve("Return 2.", open_checkout(place), steps=9)

    assert (done.calls, done.refused) == (4, 0)


async def test_huge_reads_stay_small(place: Path) -> None:
    paths = [("read", {"path": "big.txt", "first": 1, "last": 10**9 + i}) for i in range(100)]
    worker = agent([calls(*paths), FINISH])

    done = await worker.solve("Read all.", open_checkout(place), steps=5)

    assert done.calls == MOST_CALLS + 1
    assert len(asked(worker)[-1][-1].content) < 9_000 * MOST_CALLS


@pytest.mark.parametrize(
    "path", ["../outside.txt", "out/outside.txt", "/etc/passwd", ".git/config", ".git/hooks/post-checkout", "out/new"]
)
async def test_nothing_outside_the_worktree_is_touched(place: Path, path: str) -> None:
    before = fingerprint(place.parent)
    evil = [
        calls(("edit", {"path": path, "old": "outside", "new": "pwned"}), ("create", {"path": path, "text": "pwned"})),
        calls(("read", {"path": path}), ("list", {"folder": path}), ("history", {"path": path})),
        calls(("search", {"text": "outside", "paths": path}), ("search", {"text": "-O touch pwned"})),
        EDIT,
        FINISH,
    ]

    done = await agent(evil).solve("Break out.", open_checkout(place), steps=9)

    assert fingerprint(place.parent) == before
    assert (done.outcome, done.modified, done.created) == ("finished", ("src/a.py",), ())
    assert done.refused >= 4
    assert "pwned" not in done.patch


async def test_bad_edits_are_refused_and_the_good_ones_kept(place: Path) -> None:
    bad = [
        calls(("edit", {"path": "src/a.py", "old": "@@ -1,2 +1,2 @@\n-return 1", "new": "+return 3"})),
        calls(
            ("edit", {"path": "src/a.py", "old": "", "new": "x"}),
            ("edit", {"path": "src/none.py", "old": "a", "new": "b"}),
        ),
        calls(("create", {"path": "src/a.py", "text": "all new"})),
        EDIT,
    ]

    done = await agent([*bad, FINISH]).solve("Return 2.", open_checkout(place), steps=9)

    assert (done.outcome, done.refused, done.modified) == ("finished", 4, ("src/a.py",))
    assert "+    return 2" in done.patch


@pytest.mark.parametrize(
    "reply",
    [
        "I would rather talk.",
        "",
        calls(("bash", {"command": "rm -rf ~"})),
        calls(("read", {UNREADABLE: '{"path": '})),
        calls(("", {})),
    ],
)
async def test_replies_that_say_nothing_end_the_work(place: Path, reply: Reply) -> None:
    done = await agent(lambda *_: reply).solve("Do it.", open_checkout(place), steps=50)

    assert (done.outcome, done.steps, done.calls) == ("gave_up", LOST_TO_STOP, 0)


async def test_ending_without_a_change_is_giving_up(place: Path) -> None:
    done = await agent([FINISH]).solve("Do it.", open_checkout(place), steps=5)

    assert (done.outcome, done.patch, done.summary) == ("gave_up", "", "Done.")


async def test_a_cap_on_tokens_holds_and_keeps_what_was_changed(place: Path) -> None:
    def spend(_messages: Sequence[Message], options: Options) -> Reply:
        made = EDIT if options.max_output_tokens == 100 else calls(("list", {"folder": str(options.max_output_tokens)}))
        return Completion(
            text="",
            usage=Usage(input_tokens=1, output_tokens=min(40, options.max_output_tokens)),
            model="m",
            tool_calls=made.tool_calls,
        )

    done = await agent(spend).solve("Go on.", open_checkout(place), steps=50, budget=Budget(max_output_tokens=100))

    assert (done.outcome, done.usage.output_tokens, done.modified) == ("budget", 100, ("src/a.py",))


async def test_a_cap_on_money_holds(place: Path) -> None:
    numbers = count(1)

    def spend(messages: Sequence[Message], options: Options) -> Reply:
        words = sum(len(message.content.split()) for message in messages)
        looks = calls(("read", {"path": "src/a.py", "last": next(numbers)}))
        return replace(looks, usage=Usage(input_tokens=words, output_tokens=min(10, options.max_output_tokens)))

    done = await agent(spend, price=CARD).solve(
        "Go on.", open_checkout(place), steps=50, budget=Budget(max_cost_usd=0.05)
    )

    assert done.outcome == "budget"
    assert done.cost_usd is not None
    assert 0.03 < done.cost_usd <= 0.05


async def test_what_outgrows_the_window_ends_the_work(place: Path) -> None:
    numbers = count(1)
    looks = lambda *_: calls(("read", {"path": "src/a.py", "last": next(numbers)}))  # noqa: E731  # a script

    done = await agent(looks, context_window=900).solve("Go on.", open_checkout(place), steps=500)

    assert done.outcome == "window"
    assert 1 <= done.steps < 500
    with pytest.raises(ContextTooLongError):
        await agent(looks, context_window=50).solve("Go on.", open_checkout(place), steps=5)


async def test_a_model_that_fails_is_an_outcome_with_what_was_done(place: Path) -> None:
    done = await agent([EDIT, UpstreamError("scripted", 500)]).solve("Return 2.", open_checkout(place), steps=9)

    assert (done.outcome, done.steps, done.modified) == ("error", 1, ("src/a.py",))
    assert done.error.startswith("UpstreamError: scripted failed on its side")


async def test_steps_are_at_least_one(place: Path) -> None:
    with pytest.raises(BudgetError, match="Steps are 1 to"):
        await agent([]).solve("Do it.", open_checkout(place), steps=0)


async def test_each_step_is_a_row_of_the_ledger(place: Path) -> None:
    rows: list[Call] = []

    async def record(row: Call) -> None:
        rows.append(row)

    metered = Metered(
        ScriptedModel([EDIT, UpstreamError("scripted", 500)]),
        record=record,
        phase=Phase.TEST,
        price=CARD,
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        clock_s=lambda: 0.0,
    )

    done = await Agent(metered, CARD, lambda: 0.0).solve("Return 2.", open_checkout(place), steps=9)

    assert [row.outcome for row in rows] == ["ok", "UpstreamError"]
    assert sum((row.usage for row in rows), Usage()) == done.usage


async def test_a_call_is_shown_as_the_json_it_was(place: Path) -> None:
    worker = agent([EDIT, FINISH])

    await worker.solve("Return 2.", open_checkout(place), steps=5)

    shown = json.loads(asked(worker)[1][-2].content)
    assert shown == {"tool": "edit", "path": "src/a.py", "old": "return 1", "new": "return 2"}
