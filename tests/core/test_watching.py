"""What lacks notes, since when: after being added, edits, sleeps and rollbacks."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeptime.core.context import Context
from sleeptime.core.watching import UNDECIDED, Part, Watched, begun, kind_of, rewatched, without_notes

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
PARAGRAPHS = [f"Paragraph {number} tells of {number} boxes." for number in range(10)]


def a_context(*paragraphs: str, source: str = "") -> Context:
    return Context(id="c1", name="boxes", text="\n\n".join(paragraphs), created_at=NOON, source=source)


def asked(watched: Watched, times: int) -> Watched:
    for _ in range(times):
        watched = replace(watched, seen=watched.seen.asked(watched.seen.added_days))
    return watched


def test_a_new_context_lacks_notes_wholly_and_waits_to_be_decided_on() -> None:
    context = a_context(*PARAGRAPHS, source="/home/ana/Report.MD")

    watched = begun(context)

    assert (watched.lacking, watched.wants, watched.reason, watched.kind) == (1.0, UNDECIDED, "", "md")
    assert asked(watched, 3).went_without == 3.0
    assert asked(watched, 3).queries_without == 3


def test_after_a_sleep_nothing_lacks_notes_and_after_an_edit_only_what_is_new() -> None:
    before, after = a_context(*PARAGRAPHS), a_context(*PARAGRAPHS[:9], "Something else than that: it is new.")
    slept_on = before.fingerprints

    slept = rewatched(asked(begun(before), 4), before, slept_on, at=NOON)
    edited = rewatched(slept, after, slept_on, before, at=NOON)

    assert (slept.parts, slept.wants, slept.lacking) == ((), None, 0.0)
    (part,) = edited.parts
    assert part.since == 4
    assert part.characters == len("Something else than that: it is new.")
    assert edited.edits == 1
    assert edited.wants == UNDECIDED
    assert asked(edited, 2).went_without == pytest.approx(2 * edited.lacking)


def test_each_edit_is_a_part_that_has_gone_without_since_its_own_query() -> None:
    first = a_context(*PARAGRAPHS)
    second, third = a_context(*PARAGRAPHS, "Kay came."), a_context(*PARAGRAPHS, "Kay came.", "Liz left.")
    slept_on = first.fingerprints
    watched = rewatched(asked(begun(first), 1), first, slept_on, at=NOON)

    watched = rewatched(watched, second, slept_on, first, at=NOON)
    watched = rewatched(asked(watched, 2), third, slept_on, second, at=NOON)

    assert [part.since for part in watched.parts] == [1, 3]
    assert watched.queries_without == 2
    assert rewatched(watched, third, third.fingerprints, at=NOON).parts == ()
    gone = rewatched(watched, second, slept_on, third, at=NOON)
    assert [part.since for part in gone.parts] == [1, 3]  # which of them it was is not kept: both shrink alike
    assert sum(part.characters for part in gone.parts) == len("Kay came.")


def test_an_edit_of_what_was_never_slept_on_keeps_what_the_rest_has_gone_without() -> None:
    before, after = a_context(*PARAGRAPHS), a_context(*PARAGRAPHS, "Kay came.")

    edited = rewatched(asked(begun(before), 5), after, None, before, at=NOON)

    assert [part.since for part in edited.parts] == [0, 5]
    assert edited.lacking == 1.0


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 10_000)), max_size=6, unique_by=lambda pair: pair[0]),
    st.integers(0, 100_000),
    st.integers(0, 100_000),
)
def test_all_that_lacks_notes_is_shared_out_and_no_part_grows(
    found: list[tuple[int, int]], characters: int, fresh: int
) -> None:
    before = tuple(Part(since=since, characters=length) for since, length in found)

    after = without_notes(characters, fresh=min(fresh, characters), parts=before, queries=99)

    assert sum(part.characters for part in after) == characters
    now = sum(part.characters for part in after if part.since == 99)
    assert now >= min(fresh, characters)
    was = {part.since: part.characters for part in before}
    assert all(part.characters <= was[part.since] for part in after if part.since != 99)


@pytest.mark.parametrize(
    ("source", "kind"),
    [("", ""), ("-", ""), ("talk.jsonl", "jsonl"), ("a.b/README", ""), ("x/y.TXT", "txt"), ("odd.b c", "")],
)
def test_the_kind_of_a_context_is_the_ending_of_its_file(source: str, kind: str) -> None:
    assert kind_of(source) == kind
