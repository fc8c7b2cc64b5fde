"""What stands in for all notes of a sleep: half of them, what samples agree on, the context again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sleeptime.core.context import Context, Span
from sleeptime.core.notes import LearnedContext, Note, NoteKind
from sleeptime.core.usage import Usage
from sleeptime.evals.runs.variants import halved, merged, restated


def learned(*notes: Note) -> LearnedContext:
    return LearnedContext(
        context_id="c",
        context_fingerprint="",
        notes=notes,
        strategy="notes",
        model="thinker",
        prompt_fingerprint="",
        usage=Usage(),
        cost_usd=None,
        stop_reasons=("finished",),
        rounds=1,
        created_at=datetime(2026, 11, 1, tzinfo=UTC),
    )


def note(number: int, chain: str = "", kind: NoteKind = "inference") -> Note:
    evidence = (Span(section=chain, start=0, end=1),) if chain else ()
    return Note(id=f"n{number}", text=f"note {number}", kind=kind, evidence=evidence)


def said(*by_sample: Sequence[str]) -> LearnedContext:
    """Parallel samples and what each noted."""
    notes = [(sample, text) for sample, texts in enumerate(by_sample) for text in texts]
    return learned(*[Note(id=f"n{i}", text=text, sample=sample) for i, (sample, text) in enumerate(notes, 1)])


def texts(shown: LearnedContext) -> list[str]:
    return [each.text for each in shown.notes]


def test_half_of_the_notes_are_the_conclusions_of_each_chain_before_its_steps() -> None:
    notes = [note(1, "a"), note(2, "a"), note(3, "a"), note(4, "b"), note(5, "b"), note(6, "c")]

    kept = halved(learned(*notes))

    assert [n.id for n in kept.notes] == ["n3", "n5", "n6"]


def test_anticipated_queries_are_kept_first_and_notes_without_evidence_stand_alone() -> None:
    notes = [note(1), note(2), note(3, kind="anticipated"), note(4)]

    assert [n.id for n in halved(learned(*notes)).notes] == ["n1", "n3"]


def test_a_note_that_may_not_be_shown_is_not_kept() -> None:
    hidden = replace(note(1), status="quarantined")

    assert [n.id for n in halved(learned(hidden, note(2))).notes] == ["n2"]


def test_what_samples_say_alike_is_said_once_and_what_most_say_comes_first() -> None:
    shown = merged(said(["a is 1", "b is 2"], ["B  is 2"], ["b is 2", "c is 3"]))

    assert texts(shown) == ["b is 2", "a is 1", "c is 3"]
    assert [each.id for each in shown.notes] == ["n1", "n2", "n3"]
    assert {each.sample for each in shown.notes} == {0}


def test_where_samples_disagree_about_a_number_most_of_them_are_believed() -> None:
    shown = merged(said(["the total is 41"], ["the total is 42"], ["the total is 42"]))

    assert texts(shown) == ["the total is 42"]


def test_a_draw_between_two_samples_goes_to_the_note_written_first() -> None:
    assert texts(merged(said(["the total is 41"], ["the total is 42"]))) == ["the total is 41"]


def test_two_facts_that_one_sample_wrote_side_by_side_do_not_disagree() -> None:
    shown = merged(said(["sold in 2020", "sold in 2021"], ["sold in 2021"]))

    assert sorted(texts(shown)) == ["sold in 2020", "sold in 2021"]


def test_merging_one_sample_changes_nothing_but_repetitions() -> None:
    assert texts(merged(said(["a is 1", "b is 2", "a is 1"]))) == ["a is 1", "b is 2"]


@pytest.mark.parametrize(
    ("characters", "again"), [(4, "abcd"), (10, "abcdefghij"), (25, "abcdefghij\nabcdefghij\nabc")]
)
def test_the_context_is_said_again_as_long_as_its_notes_are(characters: int, again: str) -> None:
    context = Context(id="c", name="c", text="abcdefghij\n", created_at=datetime(2026, 11, 1, tzinfo=UTC))

    assert texts(restated(said(["x" * characters]), context)) == [again]


def test_nothing_is_said_again_where_nothing_was_noted() -> None:
    context = Context(id="c", name="c", text="abc", created_at=datetime(2026, 11, 1, tzinfo=UTC))

    assert restated(learned(), context).notes == ()
