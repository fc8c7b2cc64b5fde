from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from sleeptime.core.context import EVERYWHERE, Context, Span, sections
from sleeptime.core.notes import Draft, Note, Operation, Revision, concatenated, cut, rendered

CONTEXT = Context(
    id="c1",
    name="boxes",
    text="Ana has 3 boxes.\nBen has 2 more.\n\nCleo has none.",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def add(text: str, *, cites: tuple[str, ...] = ()) -> Operation:
    return Operation(verb="add", text=text, cites=cites)


def revise(draft: Draft, *operations: Operation, is_done: bool = False, max_characters: int = 1000) -> Draft:
    return draft.revised(Revision(operations=operations, is_done=is_done), CONTEXT, max_characters=max_characters)


@given(st.text())
def test_sections_joined_are_the_text(text: str) -> None:
    assert "".join(text[s.start : s.end] for s in sections(text)) == text


@given(st.lists(st.text(alphabet="ab .", min_size=1), min_size=2, max_size=5))
def test_an_edit_changes_the_fingerprint_of_its_section_only(paragraphs: list[str]) -> None:
    before = sections("x\n\n" + "\n\n".join(p.strip() or "p" for p in paragraphs))
    after = sections("y\n\n" + "\n\n".join(p.strip() or "p" for p in paragraphs))

    assert before[0].fingerprint != after[0].fingerprint
    assert [s.fingerprint for s in before[1:]] == [s.fingerprint for s in after[1:]]


def test_notes_are_added_replaced_and_retired_by_id() -> None:
    draft = revise(Draft(), add("Ben has 5 boxes."), add("They have 8."))
    draft = revise(
        draft, Operation(verb="replace", id="n1", text="Ben has five boxes."), Operation(verb="retire", id="n2")
    )
    draft = revise(draft, add("Ana and Ben have 8."))

    assert [(note.id, note.text) for note in draft.notes] == [
        ("n1", "Ben has five boxes."),
        ("n3", "Ana and Ben have 8."),
    ]
    assert draft.rounds == 3


def test_evidence_points_into_the_section_it_was_quoted_from_and_is_inherited_from_cited_notes() -> None:
    draft = revise(Draft(), add("Ben has 5.", cites=("Ben has 2 more.", "not in the text")))
    draft = revise(draft, add("They have 8.", cites=("n1", "Cleo has none.")))

    first, second = CONTEXT.sections
    ben = Span(section=first.fingerprint, start=17, end=32)
    cleo = Span(section=second.fingerprint, start=0, end=14)
    assert draft.notes[0].evidence == (ben, EVERYWHERE)
    assert draft.notes[1].evidence == (ben, EVERYWHERE, cleo)
    assert CONTEXT.text[first.start + ben.start : first.start + ben.end] == "Ben has 2 more."


def test_a_round_that_changes_nothing_settles_the_draft() -> None:
    draft = revise(Draft(), add("Ben has 5."))

    assert not draft.is_settled
    assert revise(draft, add("Ben has 5.")).is_settled


def test_an_unknown_id_is_remarked_and_changes_nothing() -> None:
    draft = revise(Draft(), Operation(verb="retire", id="n7"))

    assert draft.notes == ()
    assert draft.remarks == ("There is no note n7; nothing was changed for it.",)
    assert not draft.is_settled


@given(st.lists(st.tuples(st.sampled_from(["add", "replace"]), st.text(min_size=1, max_size=40)), max_size=12))
def test_the_text_never_passes_its_cap(written: list[tuple[str, str]]) -> None:
    draft = Draft()
    for verb, text in written:
        operation = add(text) if verb == "add" else Operation(verb="replace", id="n1", text=text)
        draft = revise(draft, operation, max_characters=50)

    assert draft.characters <= 50
    assert len({note.id for note in draft.notes}) == len(draft.notes)


def test_a_replacement_over_the_cap_is_cut_and_said_to_be() -> None:
    draft = revise(Draft(), add("short"), max_characters=20)
    draft = revise(draft, Operation(verb="replace", id="n1", text="one two three four five six"), max_characters=20)

    assert draft.notes[0].text == "one two three four"
    assert draft.remarks == ("The text was 27 characters long and was cut to 20.",)


def test_cut_ends_behind_a_whole_line_or_word() -> None:
    assert cut("one two\nthree four", 12) == "one two"
    assert cut("Title\n" + "word " * 20, 50).startswith("Title\nword word")
    assert cut("one two", 6) == "one"
    assert cut("onetwo", 3) == "one"


def test_parallel_samples_are_joined_in_order_with_separators_and_numbered_anew() -> None:
    first = revise(Draft(sample=0), add("a"), add("b"))
    second = revise(Draft(sample=1), add("c"))

    notes = concatenated([first, second])

    assert [note.id for note in notes] == ["n1", "n2", "n3"]
    assert rendered(notes, "text") == "a\nb\n\n---\n\nc"


def test_listed_notes_show_what_a_round_needs_to_revise_them() -> None:
    notes = (Note(id="n1", text="8"), Note(id="n2", text="Eight.", kind="anticipated", question="How many?"))

    assert rendered(notes, "listed") == "[n1] inference: 8\n[n2] anticipated: How many? => Eight."
    assert rendered(notes, "text") == "8\nHow many? Eight."
