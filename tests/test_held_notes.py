"""What a user pins is kept and what they quarantine stays away, whatever sleeps come after."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from typer.testing import CliRunner

from sleeptime import Engine, Plan
from sleeptime.cli import app
from sleeptime.core.context import Context
from sleeptime.core.errors import NoteNotFoundError, NothingLearnedError
from sleeptime.core.holding import beside
from sleeptime.core.messages import Completion, Message, ToolCall
from sleeptime.core.notes import Draft, LearnedContext, Note, Operation, Revision
from sleeptime.core.usage import Usage
from sleeptime.models.protocol import Options
from sleeptime.models.scripted import Script, ScriptedModel

pytestmark = pytest.mark.anyio

BOXES = "Ana has 3 boxes.\n\nBen has 2 more than Ana.\n\nCyd has none."
ADDS = [
    {"kind": "inference", "text": "Ben has 5 boxes.", "evidence": ["Ana has 3 boxes.", "Ben has 2 more than Ana."]},
    {"kind": "inference", "text": "Cyd owes nobody.", "evidence": ["Cyd has none."]},
]


def revises(**arguments: Any) -> Completion:
    call = ToolCall(name="revise_notes", arguments={"done": True, **arguments})
    return Completion(text="", usage=Usage(input_tokens=10, output_tokens=7), model="s", tool_calls=(call,))


@asynccontextmanager
async def opened(place: Path, script: Sequence[Completion | Script]) -> AsyncGenerator[tuple[Engine, ScriptedModel]]:
    model = ScriptedModel(script, name="s")
    environ = {"SLEEPTIME_HOME": str(place)}
    async with Engine.open(database=place / "test.db", model=model, environ=environ) as engine:
        await engine.add(BOXES, name="boxes")
        await engine.sleep("boxes")
        yield engine, model


def by_id(learned: LearnedContext) -> dict[str, Note]:
    return {note.id: note for note in learned.notes}


async def test_a_mark_is_a_new_version_that_says_who_made_it_and_costs_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, [revises(add=ADDS)]) as (engine, _):
        pinned = await engine.pin("boxes", "n1")
        quarantined = await engine.quarantine("boxes", "n2")

        assert (pinned.version, pinned.based_on, pinned.by_hand) == (2, 1, "n1 pinned")
        assert (quarantined.version, quarantined.by_hand) == (3, "n2 quarantined")
        assert (quarantined.usage, quarantined.cost_usd) == (Usage(), 0.0)
        context = await engine.store.context("boxes")
        first, second, third = await engine.store.versions(context.id)
        assert not any(note.is_held for note in first.notes)
        assert second == pinned
        assert by_id(third)["n1"].is_pinned
        assert [note.id for note in third.shown] == ["n1"]
        assert (await engine.pin("boxes", "n1")).version == 3  # it is so already
        (marked,) = (await engine.diff("boxes")).marked
        assert [note.status for note in marked] == ["unverified", "quarantined"]
        released = await engine.release("boxes", "n2")
        assert not by_id(await engine.unpin("boxes", "n1"))["n1"].is_held
        assert by_id(released)["n2"].status == "unverified"


async def test_a_mark_on_what_is_not_there_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path, [revises(add=ADDS)]) as (engine, _):
        await engine.add("Nothing was learned of this.", name="other")
        with pytest.raises(NoteNotFoundError, match="n9"):
            await engine.pin("boxes", "n9")
        with pytest.raises(NothingLearnedError):
            await engine.quarantine("other", "n1")


async def test_a_sleep_neither_changes_a_pinned_note_nor_writes_a_quarantined_one_again(tmp_path: Path) -> None:
    attacks = revises(
        retire=["n1", "n2"],
        replace=[{"id": "n1", "text": "Ben has 6 boxes."}],
        add=[{"kind": "inference", "text": "  cyd owes NOBODY. "}, {"kind": "inference", "text": "Dan is new."}],
    )
    async with opened(tmp_path, [revises(add=ADDS), attacks]) as (engine, model):
        await engine.pin("boxes", "n1")
        await engine.quarantine("boxes", "n2")

        learned = await engine.sleep("boxes", again=True)

        assert [(note.id, note.text, note.is_pinned, note.status) for note in learned.notes] == [
            ("n1", "Ben has 5 boxes.", True, "unverified"),
            ("n2", "Cyd owes nobody.", False, "quarantined"),
            ("n3", "Dan is new.", False, "unverified"),
        ]
        shown = "\n".join(message.content for message in model.calls[-1].messages)
        assert "Ben has 5 boxes." in shown
        assert "Cyd owes nobody." not in shown


async def test_held_notes_pass_through_another_plan_parallel_samples_and_rethinking(tmp_path: Path) -> None:
    more = [revises(add=[{"kind": "inference", "text": f"Fact {number}."}]) for number in (1, 2)]
    rewrite = ToolCall(name="rethink_memory", arguments={"new_memory": "All of it anew."})
    rethought = Completion(text="", usage=Usage(output_tokens=3), model="s", tool_calls=(rewrite,))
    finish = replace(rethought, tool_calls=(ToolCall(name="finish_rethinking", arguments={}),))
    async with opened(tmp_path, [revises(add=ADDS), *more, rethought, finish]) as (engine, _):
        await engine.pin("boxes", "n1")
        await engine.quarantine("boxes", "n2")

        sampled = await engine.sleep("boxes", Plan(samples=2))
        memory = await engine.sleep("boxes", Plan(strategy="rethink"))

        assert sorted(note.text for note in sampled.notes) == [
            "Ben has 5 boxes.",
            "Cyd owes nobody.",
            "Fact 1.",
            "Fact 2.",
        ]
        assert len({note.id for note in sampled.notes}) == 4
        assert [note.text for note in memory.shown] == ["Ben has 5 boxes.", "All of it anew."]
        assert [note.text for note in memory.notes if note.status == "quarantined"] == ["Cyd owes nobody."]


async def test_what_is_said_while_a_sleep_runs_holds_in_the_version_it_publishes(tmp_path: Path) -> None:
    begun, goes_on = anyio.Event(), anyio.Event()

    class Waits(ScriptedModel):
        async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
            if len(self.calls) == 1:
                begun.set()
                await goes_on.wait()
            return await super().generate(messages, options)

    keeps = revises(add=[{"kind": "inference", "text": text} for text in ("Ben has 5 boxes.", "Cyd owes nobody.")])
    model = Waits([revises(add=ADDS), keeps], name="s")
    environ = {"SLEEPTIME_HOME": str(tmp_path)}
    async with Engine.open(database=tmp_path / "test.db", model=model, environ=environ) as engine:
        await engine.add(BOXES, name="boxes")
        await engine.sleep("boxes")
        sleeping = asyncio.create_task(engine.sleep("boxes", again=True))
        with anyio.fail_after(20):
            await begun.wait()
        await engine.pin("boxes", "n1")
        await engine.quarantine("boxes", "n2")
        goes_on.set()

        learned = await sleeping

        assert learned.version == 4
        assert [(note.text, note.is_pinned) for note in learned.shown] == [("Ben has 5 boxes.", True)]


async def test_a_pinned_note_whose_evidence_changed_is_kept_away_from_answers_until_it_is_released(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, [revises(add=ADDS), revises()]) as (engine, _):
        await engine.pin("boxes", "n1")
        await engine.update("boxes", BOXES.replace("Ana has 3", "Ana has 30"))

        learned = await engine.sleep("boxes")

        assert [(note.id, note.status) for note in learned.notes if note.is_pinned] == [("n1", "quarantined")]
        assert [note.id for note in learned.shown] == ["n2"]
        assert [note.id for note in (await engine.release("boxes", "n1")).shown] == ["n1", "n2"]


async def test_a_rollback_does_not_bring_a_quarantined_note_back(tmp_path: Path) -> None:
    async with opened(tmp_path, [revises(add=ADDS)]) as (engine, _):
        await engine.quarantine("boxes", "n2")

        anew = await engine.rollback("boxes", 1)

        assert [note.id for note in anew.shown] == ["n1"]


def test_the_cap_counts_no_quarantined_note_and_cuts_no_pinned_one() -> None:
    context = Context(id="c", name="c", text="x", created_at=datetime(2026, 5, 4, tzinfo=UTC))
    held = (Note(id="n1", text="p" * 30, is_pinned=True), Note(id="n2", text="q" * 50, status="quarantined"))
    draft = Draft(notes=held, notes_made=2)

    after = draft.revised(
        Revision(operations=(Operation(verb="add", text="a" * 20), Operation(verb="add", text="b" * 20))),
        context,
        max_characters=55,
    )

    assert [note.text for note in after.notes] == ["p" * 30, "q" * 50, "a" * 20]
    assert after.characters == 50
    assert "only 5 are left" in after.remarks[0]


def test_ids_of_notes_that_are_carried_over_never_collide() -> None:
    at = datetime(2026, 5, 4, tzinfo=UTC)
    newest = LearnedContext(
        context_id="c",
        context_fingerprint="",
        notes=(Note(id="n1", text="kept", is_pinned=True), Note(id="n2", text="away", status="quarantined")),
        strategy="notes",
        model="s",
        prompt_fingerprint="",
        usage=Usage(),
        cost_usd=0.0,
        stop_reasons=("finished",),
        rounds=1,
        created_at=at,
    )
    learned = replace(newest, notes=(Note(id="n1", text="other"), Note(id="n2", text="Away")))

    found = beside(Context(id="c", name="c", text="x", created_at=at))(newest, learned)

    assert [(note.id, note.text, note.is_held) for note in found.notes] == [
        ("n1", "other", False),
        ("n2", "Away", True),
        ("n3", "kept", True),
    ]


def test_the_command_marks_a_note_and_says_how(tmp_path: Path) -> None:
    async def slept() -> None:
        async with opened(tmp_path, [revises(add=ADDS)]):
            pass

    asyncio.run(slept())
    run = CliRunner()
    place = ["--database", str(tmp_path / "test.db")]

    pinned = run.invoke(app, ["note", "boxes", "n1", "--pin", *place])
    shown = run.invoke(app, ["show", "boxes", *place])
    compared = run.invoke(app, ["diff", "boxes", *place])
    both = run.invoke(app, ["note", "boxes", "n1", "--pin", "--release", *place])
    written = run.invoke(app, ["note", "boxes", "n2", "--quarantine", "--json", *place])

    assert pinned.stdout == "version 2: n1 pinned by hand in version 1\n"
    assert "n1 inference, unverified, pinned" in shown.stdout
    assert "= pinned   n1" in compared.stdout
    assert both.exit_code == 2
    assert json.loads(written.stdout)["notes"][1]["status"] == "quarantined"
