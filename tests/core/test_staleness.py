from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from sleeptime.core.context import EVERYWHERE, Context
from sleeptime.core.notes import Draft, LearnedContext, Note, Operation, Revision
from sleeptime.core.staleness import edit, new_sections, shown, stale, stale_ids
from sleeptime.core.usage import Usage

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PARAGRAPHS = ("Ana has 3 boxes.", "Ben has 2 more.", "Cleo has none.", "Dan left in May.", "Eve came in June.")
TEXT = st.lists(st.sampled_from(PARAGRAPHS), min_size=1, max_size=8)


def context_of(paragraphs: list[str], *, gap: str = "\n\n") -> Context:
    return Context(id="c1", name="boxes", text=gap.join(paragraphs), created_at=NOW)


def noted(context: Context, *cites: tuple[str, ...]) -> tuple[Note, ...]:
    operations = tuple(Operation(verb="add", text=f"note {i}", cites=c) for i, c in enumerate(cites, 1))
    return Draft().revised(Revision(operations=operations), context, max_characters=1000).notes


def version_of(context: Context, notes: tuple[Note, ...]) -> LearnedContext:
    return LearnedContext(
        context_id=context.id,
        context_fingerprint=context.fingerprint,
        notes=notes,
        strategy="notes",
        model="scripted",
        prompt_fingerprint="",
        usage=Usage(),
        cost_usd=None,
        stop_reasons=("finished",),
        rounds=1,
        created_at=NOW,
        version=1,
        sections=context.fingerprints,
    )


@given(TEXT, TEXT)
def test_exactly_the_notes_whose_section_is_fewer_times_there_are_stale(before: list[str], after: list[str]) -> None:
    old, new = context_of(before), context_of(after)
    quoted = list(dict.fromkeys(before))
    learned = version_of(old, noted(old, *((paragraph,) for paragraph in quoted)))

    gone = stale(learned, new)

    for paragraph, note in zip(quoted, learned.notes, strict=True):
        assert (note.id in gone) == (Counter(after)[paragraph] < Counter(before)[paragraph])


@given(TEXT.filter(lambda t: len(set(t)) > 1), TEXT)
def test_what_rests_on_a_stale_note_is_stale(before: list[str], after: list[str]) -> None:
    old, new = context_of(before), context_of(after)
    first, second = list(dict.fromkeys(before))[:2]
    learned = version_of(old, noted(old, (first,), (second,), ("n1", second), ("n3",), (), ("n5",)))

    gone = stale(learned, new)

    assert ("n3" in gone) == bool(gone & {"n1", "n2"})
    assert ("n4" in gone) == ("n3" in gone)
    assert ("n5" in gone) == ("n6" in gone) == (before != after)


@given(TEXT, st.randoms(use_true_random=False))
def test_a_move_leaves_all_notes_but_those_on_the_whole_text(before: list[str], dice: object) -> None:
    after = list(before)
    dice.shuffle(after)  # type: ignore[attr-defined]  # a Random
    old, new = context_of(before), context_of(after)
    learned = version_of(old, noted(old, (before[0],), ("*",), ("what nobody wrote",), ()))

    assert stale(learned, new) == (frozenset() if before == after else {"n2", "n3", "n4"})


@given(TEXT, st.sampled_from(["\n\n\n", "\n  \n", "  \n\n", "\n\n \n\n"]))
def test_blank_lines_make_nothing_stale(paragraphs: list[str], gap: str) -> None:
    old, new = context_of(paragraphs), context_of([*paragraphs, "\n\n"], gap=gap)
    learned = version_of(old, noted(old, (paragraphs[0],), ("*",), ()))

    assert stale(learned, new) == frozenset()


@given(TEXT, TEXT)
def test_an_append_touches_no_note_on_what_was_there(before: list[str], more: list[str]) -> None:
    old, new = context_of(before), context_of(before + more)
    learned = version_of(old, noted(old, *((paragraph,) for paragraph in set(before))))

    assert stale(learned, new) == frozenset()
    assert len(new_sections(old.fingerprints, new.fingerprints)) == len(more)


@given(TEXT, TEXT)
def test_new_sections_are_what_one_text_has_more_of(before: list[str], after: list[str]) -> None:
    positions = new_sections(before, after)

    assert Counter(after[position] for position in positions) == Counter(after) - Counter(before)
    assert list(positions) == sorted(positions)


def test_a_quotation_across_sections_rests_on_all_of_them() -> None:
    old = context_of(list(PARAGRAPHS[:3]))
    learned = version_of(old, noted(old, ("boxes. Ben has 2",), ("Ben   has\n2 more.",)))

    assert stale(learned, context_of([PARAGRAPHS[0], "Ben has 9 more.", PARAGRAPHS[2]])) == {"n1", "n2"}
    assert stale(learned, context_of(["Ana has 9 boxes.", *PARAGRAPHS[1:3]])) == {"n1"}


def test_a_quotation_that_stands_in_two_sections_rests_on_both() -> None:
    old = context_of(["Ana has 3 boxes.", "Ben has 3 boxes too.", "Cleo has none."])
    learned = version_of(old, noted(old, ("has 3 boxes",)))

    assert stale(learned, context_of(["Ana has 3 boxes.", "Ben has 4 boxes too.", "Cleo has none."])) == {"n1"}


def test_new_words_without_evidence_may_rest_on_anything() -> None:
    old = context_of(list(PARAGRAPHS[:2]))
    draft = Draft(notes=noted(old, (PARAGRAPHS[0],)), notes_made=1)
    reworded = draft.revised(
        Revision(operations=(Operation(verb="replace", id="n1", text="other"),)), old, max_characters=100
    )

    assert EVERYWHERE in reworded.notes[0].evidence
    assert stale_ids(reworded.notes, old.fingerprints, context_of([PARAGRAPHS[0]]).fingerprints) == {"n1"}


def test_a_version_whose_sections_were_not_kept_stands_where_its_evidence_does() -> None:
    old = context_of(list(PARAGRAPHS[:2]))
    learned = replace(version_of(old, noted(old, (PARAGRAPHS[0],), (PARAGRAPHS[1],))), sections=())

    assert stale(learned, context_of([PARAGRAPHS[1]])) == {"n1"}


def test_another_contexts_notes_are_shown_as_they_are() -> None:
    placebo = replace(version_of(context_of(list(PARAGRAPHS)), (Note(id="n1", text="x"),)), context_id="c2")

    assert [note.id for note in shown(placebo, context_of(["Other text."]))] == ["n1"]


def test_an_edit_says_what_it_touched() -> None:
    old, new = context_of(list(PARAGRAPHS[:3])), context_of([*PARAGRAPHS[1:3], "Flo has 7."])
    learned = version_of(old, noted(old, (PARAGRAPHS[0],), (PARAGRAPHS[1],)))

    told = edit(old, new, learned)

    assert (told.sections_new, told.sections_gone, told.kept, told.is_change) == (1, 1, 1, True)
    assert [note.id for note in told.stale] == ["n1"]
    assert not edit(old, old, learned).is_change
