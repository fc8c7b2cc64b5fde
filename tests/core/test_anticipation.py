import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeptime.core.anticipation import Predictability, is_same, predictability, was_anticipated, words
from sleeptime.core.notes import Note


@pytest.mark.parametrize(
    ("question", "anticipated"),
    [
        ("What is the total of invoice 17?", "what's the total of invoice 17"),
        ("Which supplier raised its prices most?", "Which supplier raised prices the most?"),
        ("How many crates are in the northern store?", "How many crates does the northern store hold?"),
        ("When does the lease end?", "On which date does the lease end?"),
        ("Total for March 2026?", "What was the total for March 2026?"),
        ("Who approves travel?", "Who approved the travel?"),
    ],
)
def test_a_query_in_nearly_the_same_words_was_anticipated(question: str, anticipated: str) -> None:
    assert is_same(words(question), words(anticipated))
    assert is_same(words(anticipated), words(question))


@pytest.mark.parametrize(
    ("question", "anticipated"),
    [
        ("What is the total of invoice 17?", "What is the total of invoice 18?"),
        ("Total for 1,700 units?", "Total for 17,000 units?"),
        ("When was the rent paid?", "Who paid the rent?"),
        ("Which supplier raised its prices most?", "Which supplier delivers late?"),
        ("How many crates are in the northern store?", "How many crates are in the two southern stores by May?"),
        ("What is it?", "What is that?"),
        ("", "Which supplier delivers late?"),
    ],
)
def test_another_number_another_asking_or_other_words_are_another_query(question: str, anticipated: str) -> None:
    assert not is_same(words(question), words(anticipated))


def test_thousands_are_the_same_number_with_and_without_their_comma() -> None:
    assert words("1,700 units") == words("1700 units")


def test_only_anticipated_notes_anticipate() -> None:
    inference = Note(id="n1", text="The lease ends in May.")
    anticipated = Note(id="n2", text="In May.", kind="anticipated", question="When does the lease end?")

    assert not was_anticipated("When does the lease end?", [inference])
    assert was_anticipated("When will the lease end?", [inference, anticipated])


def test_predictability_meets_a_case_worked_by_hand() -> None:
    kind = Predictability(hits=30, misses=10)

    assert predictability(0, 0, kind=kind, weight=4).share == 0.75
    assert predictability(6, 1, kind=kind, weight=4).share == pytest.approx((3 + 1) / 10)
    assert Predictability().after(is_anticipated=True) == Predictability(hits=2, misses=1)
    assert Predictability(hits=1, misses=1).variance == pytest.approx(1 / 12)


def test_a_kind_that_was_hardly_seen_weighs_no_more_than_was_seen_of_it() -> None:
    assert predictability(8, 8, kind=Predictability(), weight=100).share == pytest.approx(9 / 10)


@given(arrived=st.integers(0, 200), share=st.floats(0, 1), hits=st.floats(0.1, 50), misses=st.floats(0.1, 50))
def test_a_share_lies_between_that_of_the_kind_and_what_was_seen(
    arrived: int, share: float, hits: float, misses: float
) -> None:
    kind = Predictability(hits=hits, misses=misses)
    anticipated = int(arrived * share)
    believed = predictability(arrived, anticipated, kind=kind).share
    ends = [kind.share, anticipated / arrived if arrived else kind.share]

    assert min(ends) - 1e-9 <= believed <= max(ends) + 1e-9


def test_a_distribution_without_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="above zero"):
        Predictability(hits=0.0)
