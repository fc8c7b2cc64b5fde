from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from sleeptime.core.changes import GAP, changes
from sleeptime.core.context import Context
from sleeptime.core.notes import Draft, LearnedContext, Note, Operation, Revision, StopReason
from sleeptime.core.usage import Usage

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = [f"Name{number}" for number in range(40)]
PARAGRAPHS = [f"{name} keeps {number} boxes in the {name.lower()} house." for number, name in enumerate(NAMES)]


def context_of(paragraphs: list[str]) -> Context:
    return Context(id="c1", name="boxes", text="\n\n".join(paragraphs) + "\n", created_at=NOW)


def base_of(context: Context, cites: list[tuple[str, ...]], *, ended: StopReason = "finished") -> LearnedContext:
    operations = tuple(Operation(verb="add", text=f"{NAMES[i]} in short", cites=c) for i, c in enumerate(cites))
    notes = Draft().revised(Revision(operations=operations), context, max_characters=10_000).notes
    return LearnedContext(
        context_id=context.id,
        context_fingerprint=context.fingerprint,
        notes=notes,
        strategy="notes",
        model="scripted",
        prompt_fingerprint="",
        usage=Usage(),
        cost_usd=None,
        stop_reasons=(ended,),
        rounds=1,
        created_at=NOW,
        version=1,
        sections=context.fingerprints,
    )


BEFORE = context_of(PARAGRAPHS)
BASE = base_of(BEFORE, [(paragraph,) for paragraph in PARAGRAPHS])


def test_only_what_changed_is_shown_marked_with_a_little_around_it() -> None:
    after = context_of([*PARAGRAPHS[:20], "Flo keeps 9 boxes.", *PARAGRAPHS[21:]])

    found = changes(after, BASE)

    assert found.text.count("<changed>\nFlo keeps 9 boxes.\n</changed>") == 1
    assert found.text.startswith(GAP)
    assert found.text.endswith(GAP)
    assert len(found.text) < 300
    assert not found.is_whole
    assert [note.id for note in BASE.notes if note not in found.kept] == ["n21"]


def test_the_heading_above_is_shown() -> None:
    headed = [*PARAGRAPHS[:5], "## North", *PARAGRAPHS[5:]]
    after = context_of([*headed[:20], "Flo keeps 9 boxes.", *headed[20:]])

    assert "## North" in changes(after, base_of(context_of(headed), [(p,) for p in PARAGRAPHS])).text


def test_what_a_stale_note_rested_on_besides_is_shown_again() -> None:
    cites = [(paragraph,) for paragraph in PARAGRAPHS[:30]]
    base = base_of(BEFORE, [*cites, (PARAGRAPHS[35], PARAGRAPHS[3])])

    found = changes(context_of([*PARAGRAPHS[:35], *PARAGRAPHS[36:]]), base)

    assert "<changed>" not in found.text
    assert PARAGRAPHS[3] in found.text
    assert PARAGRAPHS[10] not in found.text


def test_nothing_is_shown_where_a_deletion_left_nothing_to_think_about() -> None:
    found = changes(context_of(PARAGRAPHS[:-1]), BASE)

    assert found.text == ""
    assert len(found.kept) == len(BASE.notes) - 1


def test_notes_that_share_a_rare_word_with_what_is_new_are_seen_and_others_hidden() -> None:
    after = context_of([*PARAGRAPHS, "Name7 gave all away."])
    notes = tuple(replace(note, text=f"{note.text} {'and so on ' * 5}") for note in BASE.notes)

    found = changes(after, replace(BASE, notes=notes))

    seen = {note.id for note in found.seen(found.kept)}
    assert "n8" in seen
    assert len(seen) < len(found.kept) / 2
    assert sum(len(note.plain) for note in found.seen(found.kept)) < 1000


def test_a_quarantined_note_is_kept_and_never_seen() -> None:
    base = replace(BASE, notes=(replace(BASE.notes[0], status="quarantined"), *BASE.notes[1:]))

    for after in (context_of([*PARAGRAPHS, "Name0 is back."]), context_of([*PARAGRAPHS, *["New words. " * 50] * 9])):
        found = changes(after, base)
        assert found.kept[0].id == "n1"
        assert "n1" in found.hidden


def test_the_whole_text_is_shown_where_that_is_what_it_takes() -> None:
    a_little = context_of([*PARAGRAPHS, "Flo keeps 9 boxes."])
    most = context_of([*PARAGRAPHS[:10], *(f"New {paragraph}" for paragraph in PARAGRAPHS[10:])])

    for after, base in (
        (most, BASE),
        (a_little, replace(BASE, stop_reasons=("interrupted",))),
        (a_little, base_of(BEFORE, [(PARAGRAPHS[0],), (), ("*",)])),
    ):
        found = changes(after, base)
        assert found.is_whole
        assert GAP not in found.text
        assert found.text.replace("<changed>\n", "").replace("\n</changed>", "").split() == after.text.split()


def test_ids_go_on_behind_those_of_stale_notes() -> None:
    assert changes(context_of(PARAGRAPHS[:-1]), BASE).draft(2) == Draft(
        notes=BASE.notes[:-1], notes_made=len(PARAGRAPHS), sample=2
    )


@given(st.lists(st.sampled_from([*PARAGRAPHS, "Flo.", "Gus has 3.", "# Head"]), min_size=1, max_size=60))
def test_every_new_section_is_shown_once_between_marks_whatever_the_edit(paragraphs: list[str]) -> None:
    after = context_of(paragraphs)

    found = changes(after, BASE)

    marked = " ".join(part.partition("</changed>")[0] for part in found.text.split("<changed>")[1:])
    old = set(PARAGRAPHS)
    for paragraph in set(paragraphs) - old:
        assert marked.split().count(paragraph.split()[0]) >= 1
    assert found.text.count("<changed>") == found.text.count("</changed>")
    assert {note.id for note in found.kept} == {
        n.id for n, p in zip(BASE.notes, PARAGRAPHS, strict=True) if p in paragraphs
    }
    assert all(isinstance(note, Note) for note in found.seen(found.kept))
