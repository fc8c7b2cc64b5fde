from dataclasses import replace

from test_changes import BASE, BEFORE, PARAGRAPHS, context_of

from sleeptime.core.diff import diff
from sleeptime.core.notes import LearnedContext, Note

AFTER = context_of(PARAGRAPHS[:-1])
FLO = Note(id="n41", text="Flo is new", evidence=BASE.notes[0].evidence)
RESLEPT = replace(
    BASE,
    version=2,
    based_on=1,
    sections=AFTER.fingerprints,
    context_fingerprint=AFTER.fingerprint,
    notes=(replace(BASE.notes[0], text="Name0 in other words"), *BASE.notes[2:-1], FLO),
)


def ids(notes: tuple[Note, ...]) -> list[str]:
    return [note.id for note in notes]


def test_a_sleep_after_an_edit_is_told_note_by_note() -> None:
    found = diff([BASE, RESLEPT], 1, 2, AFTER)

    assert [(old.text, new.text) for old, new in found.replaced] == [("Name0 in short", "Name0 in other words")]
    assert (ids(found.added), ids(found.retired), ids(found.stale)) == (["n41"], ["n2"], ["n40"])
    assert len(found.kept) == 37
    assert found.stale_now == frozenset()


def test_ids_of_versions_that_began_anew_are_not_compared() -> None:
    anew = replace(RESLEPT, based_on=None)

    found = diff([BASE, anew], 1, 2, AFTER)

    assert found.replaced == ()
    assert (ids(found.added), ids(found.retired)) == (["n1", "n41"], ["n1", "n2"])


def test_a_rollback_undoes_what_the_diff_says() -> None:
    rolled_back = replace(BASE, version=3, rolled_back_from=1)
    versions: list[LearnedContext] = [BASE, RESLEPT, rolled_back]

    there, back = diff(versions, 1, 2, AFTER), diff(versions, 2, 3, AFTER)

    assert back.replaced == tuple((new, old) for old, new in there.replaced)
    assert (ids(back.added), ids(back.retired)) == (["n2", "n40"], ["n41"])
    assert back.stale_now == {"n40"}
    assert diff(versions, 1, 3, BEFORE).kept == BASE.notes
