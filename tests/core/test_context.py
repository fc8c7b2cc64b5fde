import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeptime.core.context import MOST_PLACES, REACH, Context, sections

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DICE = random.Random(7)  # noqa: S311  # a seeded draw
WORDS = ("depot", "road", "winter", "keeper", "letter", "council", "wall", "clerk", "market", "gutter", "spring")
LINES = [" ".join(DICE.choices(WORDS, k=9)) + f" {i}." for i in range(400)]


def context_of(text: str) -> Context:
    return Context(id="c1", name="x", text=text, created_at=NOW)


def marks(text: str) -> tuple[str, ...]:
    return context_of(text).fingerprints


@given(st.text(st.sampled_from("ab .\n\t#=")))
def test_sections_joined_are_the_text_and_none_is_blank(text: str) -> None:
    cut = sections(text)

    assert "".join(text[s.start : s.end] for s in cut) == text
    assert len(cut) == 1 or all(text[s.start : s.end].strip() for s in cut)


@pytest.mark.parametrize("separator", ["\n", " "])
@given(at=st.integers(0, len(LINES)), word=st.sampled_from(WORDS))
def test_an_edit_in_a_long_block_changes_few_of_its_sections(separator: str, at: int, word: str) -> None:
    before = marks(separator.join(LINES))
    after = marks(separator.join([*LINES[:at], f"{word} was added here.", *LINES[at:]]))

    assert len(before) > 15
    assert len(set(after) - set(before)) <= 3
    assert len(set(before) - set(after)) <= 3


def test_a_long_block_is_cut_at_places_that_are_not_near_one_another() -> None:
    text = "\n".join(LINES)

    assert all(text[s.start : s.end].count("\n") > REACH for s in sections(text)[:-1])


def test_a_block_of_few_lines_is_one_section_however_long_they_are() -> None:
    assert len(sections("\n".join("word " * 500 + str(line) for line in range(2 * REACH)))) == 1


def test_an_append_leaves_the_last_section_as_it_was() -> None:
    text = "First.\n\n## Head\nSecond.\n"

    assert marks(f"{text}\nThird.\n")[:2] == marks(text)
    assert marks(f"{text}## Next\nThird.\n")[:2] == marks(text)


def test_a_heading_begins_a_section_also_without_a_blank_line() -> None:
    text = "# One\nfirst\n## Two\nsecond\n=== a.md ===\nthird"

    assert [text[s.start : s.end] for s in sections(text)] == [
        "# One\nfirst\n",
        "## Two\nsecond\n",
        "=== a.md ===\nthird",
    ]


def test_a_quotation_points_at_whole_words_first() -> None:
    context = context_of("E2= 11\n\nE2= 1")

    (span,) = context.locate("E2= 1")

    assert span.section == context.fingerprints[1]


@pytest.mark.parametrize("quote", ["", "  ", "nowhere", "x" * 10])
def test_what_stands_nowhere_is_located_nowhere(quote: str) -> None:
    assert context_of("Seven boxes.").locate(quote) == ()


def test_what_stands_nearly_everywhere_is_located_nowhere() -> None:
    many = "\n\n".join(f"Box {i} is red." for i in range(MOST_PLACES + 1))

    assert context_of(many).locate("is red.") == ()
    assert len(context_of(many.partition("\n\n")[2]).locate("is red.")) == MOST_PLACES


@given(st.text(st.sampled_from("ab c\n"), min_size=1), st.data())
def test_a_span_quotes_what_it_stands_for(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    quote = text[start : data.draw(st.integers(start + 1, len(text)))]
    context = context_of(text)
    places = {section.fingerprint: section for section in context.sections}

    for span in context.locate(quote):
        section = places[span.section]
        said = context.text[section.start + span.start : section.start + span.end]
        assert " ".join(said.split()) in " ".join(quote.split())
