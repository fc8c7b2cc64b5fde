"""A context lives on: its text is edited, what was learned goes stale or stands, and a sleep works on what changed."""

import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from sleeptime import Budget, Engine, Plan
from sleeptime.core.errors import (
    EmptyContextError,
    InputError,
    NothingLearnedError,
    StoreError,
    UpstreamError,
    VersionNotFoundError,
)
from sleeptime.core.messages import Completion, Message, ToolCall
from sleeptime.core.notes import Draft
from sleeptime.core.query import SEES, Sees
from sleeptime.core.usage import Usage
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.scripted import ScriptedModel

pytestmark = pytest.mark.anyio

NAMES = [f"Name{number}" for number in range(30)]
LINES = [f"{name} keeps {number} boxes of {name.lower()} stuff." for number, name in enumerate(NAMES)]
FACT = re.compile(r"(Name\d+) keeps (\d+) boxes")


def text_of(lines: Sequence[str]) -> str:
    return "\n\n".join(lines) + "\n"


def thinker(per_round: int = 100) -> ScriptedModel:
    """A model that notes every line it is shown and has not noted, with the line as evidence."""

    def script(messages: Sequence[Message], options: Options) -> str | Completion:
        if not options.tools:
            return "The answer is 1."
        shown = "\n".join(message.content for message in messages)
        text = shown.partition("<context>\n")[2].partition("\n</context>")[0]
        new = [line for line in text.splitlines() if FACT.match(line) and f": {noted(line)}" not in shown]
        add = [{"kind": "inference", "text": noted(line), "evidence": [line]} for line in new[:per_round]]
        call = ToolCall(name="revise_notes", arguments={"add": add, "done": len(new) <= per_round})
        return Completion(
            text="", usage=Usage(input_tokens=len(shown.split()), output_tokens=10), model="s", tool_calls=(call,)
        )

    return ScriptedModel(script)


def noted(line: str) -> str:
    found = FACT.match(line)
    assert found
    return f"{found[1]} has {found[2]}"


def opened(place: Path, model: ScriptedModel) -> AbstractAsyncContextManager[Engine]:
    return Engine.open(
        database=place / "test.db", model=model, worker=False, environ={"SLEEPTIME_HOME": str(place / "home")}
    )


def prompt(model: ScriptedModel, call: int = -1) -> str:
    return "\n".join(message.content for message in model.calls[call].messages)


async def test_an_update_keeps_the_id_and_tells_what_it_touched(tmp_path: Path) -> None:
    async with opened(tmp_path, thinker()) as engine:
        context = await engine.add(text_of(LINES), name="boxes", source="a.txt")
        await engine.sleep("boxes")
        edit = await engine.update("boxes", text_of(["Name0 keeps 99 boxes.", *LINES[2:]]), source="b.txt")
        again = await engine.update("boxes", edit.context.text)

        assert (edit.context.id, edit.context.source) == (context.id, "b.txt")
        assert edit.context.fingerprint != context.fingerprint
        assert (edit.sections_new, edit.sections_gone, edit.version, edit.kept) == (1, 2, 1, 28)
        assert [note.text for note in edit.stale] == ["Name0 has 0", "Name1 has 1"]
        assert not again.is_change
        assert await engine.store.context("boxes") == edit.context
        with pytest.raises(EmptyContextError):
            await engine.update("boxes", " \n")


async def test_appends_from_many_sides_are_all_there_and_make_nothing_stale(tmp_path: Path) -> None:
    async with opened(tmp_path, thinker()) as engine:
        await engine.add("user: Hi.\n", name="talk")
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(lambda n: engine.update("talk", f"user: Turn {n}.\n", append=True), number)

        text = (await engine.store.context("talk")).text
        assert text.startswith("user: Hi.\n\nuser: Turn ")
        assert sorted(re.findall(r"\d", text)) == [str(number) for number in range(10)]
        assert text.count("\n\n") == 10


@pytest.mark.parametrize("sees", SEES)
async def test_a_stale_note_is_never_shown_in_any_version_whatever_is_seen(tmp_path: Path, sees: Sees) -> None:
    model = thinker()
    async with opened(tmp_path, model) as engine:
        await engine.add(text_of(LINES), name="boxes")
        await engine.sleep("boxes")
        await engine.sleep("boxes", again=True)
        stored = await engine.store.learned((await engine.store.context("boxes")).id)
        await engine.update("boxes", text_of(LINES[1:]))

        for version in (None,) if sees == "context" else (None, 1, 2):
            await engine.ask("boxes", "?", sees=sees, version=version)
            assert "Name0 has 0" not in prompt(model)
            assert ("Name1 has 1" in prompt(model)) == (sees != "context")
        await engine.ask("boxes", "?", sees=sees, learned=stored)
        assert "Name0 has 0" not in prompt(model)
        await engine.sleep("boxes")
        assert "Name0 has 0" not in prompt(model)


async def test_where_all_is_stale_an_answer_sees_the_context_or_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path, thinker()) as engine:
        await engine.add(text_of(LINES[:2]), name="boxes")
        await engine.sleep("boxes")
        await engine.update("boxes", "Other text.")
        answer = await engine.ask("boxes", "?")

        assert (answer.query.sees, answer.version) == ("context", None)
        with pytest.raises(NothingLearnedError, match="stale since its text was edited"):
            await engine.ask("boxes", "?", sees="learned")
        with pytest.raises(NothingLearnedError, match="stale"):
            await engine.ask("boxes", "?", version=1)


async def test_a_reverted_edit_makes_its_notes_valid_again(tmp_path: Path) -> None:
    model = thinker()
    async with opened(tmp_path, model) as engine:
        await engine.add(text_of(LINES), name="boxes")
        await engine.sleep("boxes")
        await engine.update("boxes", text_of(LINES[1:]))
        await engine.update("boxes", text_of(LINES))
        await engine.ask("boxes", "?", sees="learned")

        assert "Name0 has 0" in prompt(model)


async def test_a_sleep_after_an_edit_shows_what_changed_and_keeps_the_rest(tmp_path: Path) -> None:
    model = thinker()
    async with opened(tmp_path, model) as engine:
        await engine.add(text_of(LINES), name="boxes")
        first = await engine.sleep("boxes")
        await engine.update("boxes", text_of([*LINES[:10], "Name99 keeps 7 boxes.", *LINES[11:]]))
        second = await engine.sleep("boxes")

        assert len(model.calls) == 2
        assert "<changed>\nName99 keeps 7 boxes.\n</changed>" in prompt(model)
        assert "The text was edited after these notes were written" in prompt(model)
        assert LINES[25] not in prompt(model)
        assert (second.version, second.based_on, second.stop_reason) == (2, 1, "finished")
        assert [n for n in second.notes if n in first.notes] == [n for n in first.notes if n.id != "n11"]
        assert (second.notes[-1].id, second.notes[-1].text) == ("n31", "Name99 has 7")
        assert second.usage == (await engine.calls())[-1].usage


async def test_the_prompt_prefix_of_all_rounds_after_an_edit_is_the_same_bytes(tmp_path: Path) -> None:
    model = thinker(per_round=1)
    async with opened(tmp_path, model) as engine:
        await engine.add(text_of(LINES[:8]), name="boxes")
        await engine.sleep("boxes", Plan(budget=Budget(max_rounds=20)))
        rounds = len(model.calls)
        await engine.update("boxes", text_of([*LINES[:8], *LINES[20:23]]))
        await engine.sleep("boxes")

        later = model.calls[rounds:]
        assert len(later) == 3
        assert len({call.messages[0] for call in later}) == 1
        assert later[0].messages[0] != model.calls[0].messages[0]


async def test_nothing_is_spent_where_nothing_changed(tmp_path: Path) -> None:
    model = thinker()
    async with opened(tmp_path, model) as engine:
        await engine.add(text_of(LINES), name="boxes")
        first = await engine.sleep("boxes")
        same = await engine.sleep("boxes")
        await engine.update("boxes", text_of(LINES).replace("\n\n", "\n  \n\n"))
        blank = await engine.sleep("boxes")

        for skipped in (same, blank):
            assert (skipped.version, skipped.stop_reason, skipped.usage) == (1, "unchanged", Usage())
            assert skipped.notes == first.notes
        assert (await engine.forecast("boxes")).calls == 0
        assert len(model.calls) == 1
        assert (await engine.sleep("boxes", again=True)).version == 2
        assert (await engine.sleep("boxes", Plan(max_characters=4000))).version == 3


async def test_a_deletion_that_leaves_nothing_to_think_about_costs_nothing(tmp_path: Path) -> None:
    model = thinker()
    async with opened(tmp_path, model) as engine:
        await engine.add(text_of(LINES), name="boxes")
        await engine.sleep("boxes")
        await engine.update("boxes", text_of(LINES[:-1]))
        forecast = await engine.forecast("boxes")
        second = await engine.sleep("boxes")

        assert (forecast.calls, forecast.most_output_tokens) == (0, 0)
        assert len(model.calls) == 1
        assert (second.version, len(second.notes), second.usage, second.stop_reason) == (2, 29, Usage(), "settled")
        assert (await engine.contexts())[0].is_edited is False


async def test_parallel_samples_each_add_to_what_was_kept(tmp_path: Path) -> None:
    plan = Plan(samples=2)
    async with opened(tmp_path, thinker()) as engine:
        await engine.add(text_of(LINES), name="boxes")
        first = await engine.sleep("boxes", plan)
        await engine.update("boxes", text_of([*LINES[1:], "Name99 keeps 7 boxes."]))
        second = await engine.sleep("boxes", plan)

        kept = [note for note in first.notes if note.text != "Name0 has 0"]
        assert list(second.notes[: len(kept)]) == kept
        assert [note.text for note in second.notes[len(kept) :]] == ["Name99 has 7"] * 2
        assert len({note.id for note in second.notes}) == len(second.notes)


@pytest.mark.parametrize(
    ("abilities", "plan"), [(Abilities(tools=False, prompt_set="tiny"), Plan()), (None, Plan(strategy="rethink"))]
)
async def test_what_cannot_be_told_of_an_edit_thinks_about_the_whole_text(
    tmp_path: Path, abilities: Abilities | None, plan: Plan
) -> None:
    def script(_messages: Sequence[Message], options: Options) -> str | Completion:
        if not options.tools:
            return "a fact\ndone"
        rethink = ToolCall(name="rethink_memory", arguments={"new_memory": "a fact"})
        finish = ToolCall(name="finish_rethinking", arguments={})
        return Completion(text="", usage=Usage(output_tokens=1), model="s", tool_calls=(rethink, finish))

    model = ScriptedModel(script, abilities=abilities)
    async with opened(tmp_path, model) as engine:
        await engine.add(text_of(LINES), name="boxes")
        await engine.sleep("boxes", plan)
        await engine.update("boxes", text_of(LINES[1:]))
        second = await engine.sleep("boxes", plan)

        assert all(line in prompt(model) for line in LINES[1:])
        assert second.based_on is None


async def test_a_killed_sleep_on_an_earlier_text_becomes_a_version_and_its_valid_notes_are_kept(tmp_path: Path) -> None:
    model = thinker(per_round=10)
    async with opened(tmp_path, model) as engine:
        context = await engine.add(text_of(LINES), name="boxes")
        with anyio.CancelScope() as scope:  # the checkpoint of a killed process, without its version
            await engine.sleep("boxes", on_draft=lambda draft: scope.cancel() if draft.rounds == 1 else None)
        (sleep,) = await engine.store.unfinished(context.id, f"scripted {Plan().identity}")
        await engine.store.forget(context.id)
        await engine.store.add_context(context)
        await engine.store.begin_sleep(sleep)

        await engine.update("boxes", text_of([*LINES[1:], "Name99 keeps 7 boxes."]))
        learned = await engine.sleep("boxes")

        versions = await engine.store.versions(context.id)
        assert [(v.stop_reason, len(v.notes), v.based_on) for v in versions] == [
            ("interrupted", 10, None),
            ("finished", 30, 1),
        ]
        assert versions[0].context_fingerprint == context.fingerprint
        assert "Name0 has 0" not in {note.text for note in learned.notes}
        assert all(line in prompt(model) for line in LINES[1:])  # it had not come to the end of the text
        assert await engine.store.unfinished(context.id, f"scripted {Plan().identity}") == []
        with pytest.raises(StoreError, match="over: its context was forgotten or edited"):
            await engine.store.checkpoint(sleep.id, Draft())


async def test_a_version_published_when_its_sleep_was_interrupted_is_not_published_twice(tmp_path: Path) -> None:
    async with opened(tmp_path, thinker(per_round=10)) as engine:
        await engine.add(text_of(LINES), name="boxes")
        with anyio.CancelScope() as scope:
            await engine.sleep("boxes", on_draft=lambda draft: scope.cancel() if draft.rounds == 1 else None)
        await engine.update("boxes", text_of(LINES[1:]))
        learned = await engine.sleep("boxes")

        assert (learned.version, learned.based_on) == (2, 1)
        assert len(learned.notes) == 29


async def test_an_edit_in_the_middle_of_a_sleep_is_caught_up_with_by_the_next(tmp_path: Path) -> None:
    model = thinker(per_round=10)
    async with opened(tmp_path, model) as engine:
        context = await engine.add(text_of(LINES), name="boxes")
        async with anyio.create_task_group() as group:

            def edit(draft: Draft) -> None:
                if draft.rounds == 1:
                    group.start_soon(engine.update, "boxes", text_of(LINES[1:]))

            first = await engine.sleep("boxes", on_draft=edit)

        assert first.context_fingerprint == context.fingerprint
        await engine.ask("boxes", "?", sees="learned")
        assert "Name0 has 0" not in prompt(model)
        second = await engine.sleep("boxes")
        assert (second.based_on, len(second.notes)) == (1, 29)


async def test_a_sleep_after_an_edit_that_fails_goes_on_without_paying_again(tmp_path: Path) -> None:
    async with opened(tmp_path, thinker(per_round=1)) as engine:
        await engine.add(text_of(LINES[:5]), name="boxes")
        await engine.sleep("boxes")
        await engine.update("boxes", text_of([*LINES[:5], *LINES[20:22]]))
    note = {"kind": "inference", "text": "Name20 has 20", "evidence": [LINES[20]]}
    call = ToolCall(name="revise_notes", arguments={"add": [note], "done": False})
    first = Completion(text="", usage=Usage(input_tokens=9, output_tokens=10), model="s", tool_calls=(call,))
    broken = ScriptedModel([first, *[UpstreamError("scripted", 500, retry_after_s=0.0)] * 4])
    async with opened(tmp_path, broken) as engine:
        with pytest.raises(UpstreamError):
            await engine.sleep("boxes")
    async with opened(tmp_path, thinker(per_round=1)) as engine:
        learned = await engine.sleep("boxes")
        versions = await engine.store.versions(learned.context_id)

        assert [(v.stop_reason, len(v.notes), v.based_on) for v in versions] == [
            ("finished", 5, None),
            ("interrupted", 6, 1),
            ("finished", 7, 1),
        ]
        assert learned.usage.output_tokens == 20


async def test_a_rollback_is_the_next_version_and_todays_text_says_what_of_it_is_stale(tmp_path: Path) -> None:
    model = thinker()
    async with opened(tmp_path, model) as engine:
        await engine.add(text_of(LINES), name="boxes")
        first = await engine.sleep("boxes")
        await engine.update("boxes", text_of(LINES[1:]))
        await engine.sleep("boxes")
        third = await engine.rollback("boxes", 1)

        assert third == replace(
            first, version=3, rolled_back_from=1, created_at=third.created_at, usage=Usage(), cost_usd=0.0
        )
        assert await engine.store.learned(third.context_id) == third
        await engine.ask("boxes", "?", sees="learned")
        assert "Name0 has 0" not in prompt(model)
        assert "Name1 has 1" in prompt(model)
        with pytest.raises(InputError, match="is the newest"):
            await engine.rollback("boxes", 3)
        with pytest.raises(VersionNotFoundError):
            await engine.rollback("boxes", 4)
        fourth = await engine.sleep("boxes")
        assert (fourth.based_on, len(fourth.notes)) == (3, 29)


async def test_an_unfinished_sleep_on_notes_that_were_rolled_back_is_not_gone_on_with(tmp_path: Path) -> None:
    async with opened(tmp_path, thinker(per_round=1)) as engine:
        await engine.add(text_of(LINES[:5]), name="boxes")
        await engine.sleep("boxes")
        await engine.sleep("boxes", again=True)
        await engine.update("boxes", text_of(LINES[:8]))
        with anyio.CancelScope() as scope:
            await engine.sleep("boxes", on_draft=lambda draft: scope.cancel())  # noqa: ARG005  # after the first round
        await engine.rollback("boxes", 1)
        learned = await engine.sleep("boxes")

        assert (learned.version, learned.based_on, len(learned.notes)) == (5, 4, 8)


async def test_versions_are_told_apart(tmp_path: Path) -> None:
    async with opened(tmp_path, thinker()) as engine:
        await engine.add(text_of(LINES), name="boxes")
        with pytest.raises(NothingLearnedError):
            await engine.diff("boxes")
        await engine.sleep("boxes")
        await engine.update("boxes", text_of([*LINES[1:], "Name99 keeps 7 boxes."]))
        await engine.sleep("boxes")
        found = await engine.diff("boxes")

        assert (found.before, found.after, len(found.kept)) == (1, 2, 29)
        assert [note.text for note in found.stale] == ["Name0 has 0"]
        assert [note.text for note in found.added] == ["Name99 has 7"]
        assert await engine.diff("boxes", 1) == found
        with pytest.raises(VersionNotFoundError):
            await engine.diff("boxes", 1, 3)
