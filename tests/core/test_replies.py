from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeptime.core.context import Context
from sleeptime.core.messages import Completion, FinishReason, ToolCall
from sleeptime.core.notes import Draft, Note, Operation
from sleeptime.core.replies import (
    UnreadableReplyError,
    rethinking,
    rethinking_plain,
    revising,
    revising_plain,
)
from sleeptime.core.usage import Usage

SHEET = Context(
    id="c1", name="sheet", text="sheet\nC4: B2 - 2\nB2: A1 + 3\nA1= 5", created_at=datetime(2026, 1, 1, tzinfo=UTC)
)


def said(text: str = "", *calls: ToolCall, finish_reason: FinishReason = "stop") -> Completion:
    return Completion(text=text, usage=Usage(), model="m", tool_calls=calls, finish_reason=finish_reason)


def test_rethinking_replaces_the_whole_text_and_finishes() -> None:
    rewrite = ToolCall(name="rethink_memory", arguments={"new_memory": " all of it "})
    finish = ToolCall(name="finish_rethinking")

    first = rethinking(said("", rewrite), ())
    later = rethinking(said("", rewrite, finish), (Note(id="n1", text="old"),))

    assert first.operations == (Operation(verb="add", text="all of it"),)
    assert not first.is_done
    assert later.operations == (Operation(verb="replace", id="n1", text="all of it"),)
    assert later.is_done


@pytest.mark.parametrize(
    "calls",
    [
        (),
        (ToolCall(name="delete_everything"),),
        (ToolCall(name="rethink_memory", arguments={}),),
        (ToolCall(name="rethink_memory", arguments={"new_memory": 7}),),
        (ToolCall(name="rethink_memory", arguments={"new_memory": "  "}),),
    ],
)
def test_rethinking_refuses_what_is_not_one_of_its_two_tools(calls: tuple[ToolCall, ...]) -> None:
    with pytest.raises(UnreadableReplyError):
        rethinking(said("", *calls), ())


def test_plain_rethinking_reads_memory_and_finished() -> None:
    revision = rethinking_plain(said("Sure.\n<memory>\nline 1\nline 2\n</memory>\nFINISHED"), ())

    assert revision.operations[0].text == "line 1\nline 2"
    assert revision.is_done
    with pytest.raises(UnreadableReplyError):
        rethinking_plain(said("I have nothing to say."), ())


def test_the_word_finished_inside_the_memory_does_not_end_the_sleep() -> None:
    assert not rethinking_plain(said("<memory>\nfinished\n</memory>"), ()).is_done


def test_revising_reads_all_three_changes() -> None:
    call = ToolCall(
        name="revise_notes",
        arguments={
            "add": [
                {"kind": "inference", "text": "a", "evidence": ["A1= 5"]},
                {"kind": "anticipated", "text": "6", "question": "What does C4 show?"},
            ],
            "replace": [{"id": "n1", "text": "b"}],
            "retire": ["n2"],
            "done": True,
        },
    )

    revision = revising(said("", call))

    assert [(o.verb, o.id, o.kind, o.text, o.question) for o in revision.operations] == [
        ("replace", "n1", None, "b", None),
        ("retire", "n2", None, "", None),
        ("add", None, "inference", "a", None),
        ("add", None, "anticipated", "6", "What does C4 show?"),
    ]
    assert revision.is_done


@given(
    st.dictionaries(
        st.sampled_from(["add", "replace", "retire", "done", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "kind", "text", "evidence"]), inner),
        ),
    )
)
def test_whatever_json_a_model_writes_is_read_or_refused(arguments: dict[str, object]) -> None:
    try:
        revision = revising(said("", ToolCall(name="revise_notes", arguments=arguments)))
    except UnreadableReplyError:
        return
    assert all(operation.text for operation in revision.operations if operation.verb != "retire")


def test_plain_notes_take_lines_of_the_context_as_quotations() -> None:
    reply = "\nC4: B2 - 2\nB2: A1 + 3\nA1= 5\nB2= 8\nC4= 6\ndone"

    revision = revising_plain(said(reply), SHEET, (), is_fenced=False)
    draft = Draft().revised(revision, SHEET, max_characters=100)

    assert [note.text for note in draft.notes] == ["B2= 8", "C4= 6"]
    assert [[SHEET.text[s.start : s.end] for s in note.evidence] for note in draft.notes] == [
        ["C4: B2 - 2", "B2: A1 + 3", "A1= 5"]
    ] * 2
    assert draft.is_done


def test_a_known_note_said_again_is_a_citation_of_it() -> None:
    known = revising_plain(said("A1= 5\nB2= 8"), SHEET, (), is_fenced=False)
    draft = Draft().revised(known, SHEET, max_characters=100)

    again = revising_plain(said("C4: B2 - 2\nB2= 8\nC4= 6"), SHEET, draft.notes, is_fenced=False)

    assert again.operations == (Operation(verb="add", text="C4= 6", cites=("C4: B2 - 2", "n1")),)


def test_plain_notes_read_every_kind_of_line() -> None:
    lines = ["- a bullet", "? How many? => 8", "! count first", "~ n2: better", "- n3", "[n4] plan: kept", "done"]
    reply = "Here you are.\n<notes>\n" + "\n".join(lines) + "\n</notes>"

    revision = revising_plain(said(reply), SHEET, ())

    assert [(o.verb, o.id, o.kind, o.text, o.question) for o in revision.operations] == [
        ("add", None, None, "a bullet", None),
        ("add", None, "anticipated", "8", "How many?"),
        ("add", None, "plan", "count first", None),
        ("replace", "n2", None, "better", None),
        ("retire", "n3", None, "", None),
        ("add", None, "plan", "kept", None),
    ]
    assert revision.is_done


def test_a_reply_cut_off_loses_its_last_line_only() -> None:
    revision = revising_plain(said("B2= 8\nC4=", finish_reason="length"), SHEET, (), is_fenced=False)

    assert [operation.text for operation in revision.operations] == ["B2= 8"]


def test_a_reply_without_a_note_is_unreadable() -> None:
    with pytest.raises(UnreadableReplyError):
        revising_plain(said(" \n "), SHEET, (), is_fenced=False)


def test_chatter_and_thoughts_are_no_notes() -> None:
    with pytest.raises(UnreadableReplyError, match="no <notes>"):
        revising_plain(said("I am sorry, I cannot help with that."), SHEET, ())

    thought = "<think>between <notes> and </notes> I write</think>\n<notes>\nB2= 8\n</notes>\nHope this helps!"
    assert [operation.text for operation in revising_plain(said(thought), SHEET, ()).operations] == ["B2= 8"]


def test_a_rewrite_that_was_cut_off_does_not_replace_a_whole_one() -> None:
    half = said("<memory>long lear", finish_reason="length")

    with pytest.raises(UnreadableReplyError, match="cut off by its token cap"):
        rethinking_plain(half, (Note(id="n1", text="long learned text"),))
    assert rethinking_plain(half, ()).operations[0].text == "long lear"


def test_an_anticipated_note_needs_its_question_and_keeps_it_when_replaced() -> None:
    lacking = ToolCall(name="revise_notes", arguments={"add": [{"kind": "anticipated", "text": "8"}]})
    with pytest.raises(UnreadableReplyError, match="no question"):
        revising(said("", lacking))

    asked = ToolCall(name="revise_notes", arguments={"add": [{"question": "How many?", "text": "8", "kind": None}]})
    draft = Draft().revised(revising(said("", asked)), SHEET, max_characters=100)
    better = ToolCall(name="revise_notes", arguments={"replace": [{"id": "n1", "text": "eight"}]})
    draft = draft.revised(revising(said("", better)), SHEET, max_characters=100)
    assert [(note.kind, note.question, note.text) for note in draft.notes] == [("anticipated", "How many?", "eight")]
