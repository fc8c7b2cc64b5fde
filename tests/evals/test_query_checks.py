from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeptime.evals.queries.checks import Asked, duplicate_of, gives_away, new_facts, number_of
from sleeptime.evals.queries.stated_numbers import numbers_in, values_of

ORCHARD = (
    "Mona picks 14 pears and Otis picks twice as many. They sell half of all the pears at $1.50 each. "
    "A crate holds two dozen pears and costs $3."
)
TOGETHER = Asked(question="How many pears do Mona and Otis pick together?", answer="42")

WORDS = ["Mona", "Otis", "pears", "sells", "crate", "price", "how", "many", "the"]


def leaks(asked: Asked, others: list[Asked], context: str) -> bool:
    return any(gives_away(asked, other, context) for other in (asked, *others))


def fractions(text: str) -> list[Fraction]:
    return [max(number.values) for number in numbers_in(text)]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("$1,250.50 and .5", [Fraction("1250.5"), Fraction(1, 2)]),
        ("twenty-four of two hundred and five", [24, 205]),
        ("one thousand two hundred", [1200]),
        ("three dozen, a dozen, twice, triple", [36, 12, 2, 3]),
        (
            "half, a quarter, two thirds, 3/4, 1 1/2, 2½",
            [Fraction(1, 2), Fraction(1, 4), Fraction(2, 3), Fraction(3, 4), Fraction(3, 2), Fraction(5, 2)],
        ),
        ("5kg at 10am in room A3", [5, 10]),
        ("1,2,3", [1, 2, 3]),
        ("2 million", [2_000_000]),
        ("nothing, none, someone, tenant, often", []),
        ("1/0", []),
        ("two and three", [2, 3]),
    ],
)
def test_numbers_are_read_in_digits_and_in_words(text: str, values: list[Fraction]) -> None:
    assert fractions(text) == values


def test_a_percentage_stands_for_itself_and_for_its_part_of_the_whole() -> None:
    assert values_of(numbers_in("25% off, fifty percent more")) == {25, Fraction(1, 4), 50, Fraction(1, 2)}


@pytest.mark.parametrize(
    ("text", "is_place"), [("the third", True), ("the 3rd", True), ("a third", False), ("two thirds", False)]
)
def test_a_place_is_told_from_a_part(text: str, *, is_place: bool) -> None:
    (number,) = numbers_in(text)

    assert number.is_place == is_place


@given(st.integers(0, 10**9), st.sampled_from(["{}", "{:,}", "${:,}", "{}%", "({}).", "so {} it is"]))
def test_every_whole_number_is_found_however_it_is_set(value: int, form: str) -> None:
    assert value in values_of(numbers_in(form.format(value)))


@given(st.text(max_size=200))
def test_any_text_can_be_read_and_every_number_lies_where_it_says(text: str) -> None:
    for number in numbers_in(text):
        assert number.text
        assert number.values
    new_facts(text, text)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("42", "42"),
        ("$42.00", "42"),
        ("42 pears", "42"),
        ("-5 degrees", "-5"),
        ("1/3", "1/3"),
        ("42 or 43", None),
        ("forty-two", None),
        ("many", None),
        ("", None),
    ],
)
def test_an_answer_is_one_number(text: str, answer: str | None) -> None:
    assert number_of(text) == answer


LEAKS = [
    ("another's answer in digits", "If they pick 42 pears together, how much do they earn?", "31.5"),
    ("another's answer in words", "Of the forty-two pears, how many are left unsold?", "21"),
    ("another's answer with decimals", "Of 42.0 pears, how many are sold?", "21"),
    ("its own answer", "They earn 31.50 dollars. How many dollars do they earn?", "31.5"),
    ("its own answer in words", "Otis has twenty-eight pears. How many pears has Otis?", "28"),
    ("its own answer in the asking clause", "How many of the 28 pears does Otis pick?", "28"),
]


@pytest.mark.parametrize(("question", "answer"), [leak[1:] for leak in LEAKS], ids=[leak[0] for leak in LEAKS])
def test_a_question_that_states_an_answer_the_context_does_not_is_a_leak(question: str, answer: str) -> None:
    assert leaks(Asked(question=question, answer=answer), [TOGETHER], ORCHARD)


HARMLESS = [
    ("numbers of the context", "At $1.50 each, what do 14 pears bring?", "21"),
    ("a number of the context in words", "How many of Mona's fourteen pears are there for each crate?", "14"),
    ("half as a percentage", "How many pears remain when 50% are sold?", "21"),
    ("no number at all", "How many crates do all the pears fill, at the most?", "1"),
    ("the word one", "Which one picks more, and by how many pears?", "1"),
    ("a place", "How many pears does the second picker pick?", "2"),
]


@pytest.mark.parametrize(("question", "answer"), [case[1:] for case in HARMLESS], ids=[case[0] for case in HARMLESS])
def test_a_number_the_context_states_gives_nothing_away_by_itself(question: str, answer: str) -> None:
    assert not leaks(Asked(question=question, answer=answer), [TOGETHER], ORCHARD)


def test_a_number_the_context_states_of_something_else_gives_an_answer_away_in_the_answers_own_words() -> None:
    context = "Lena paints 12 tiles a day. On Friday she breaks 3 of her tiles. A box takes 9 lids."
    whole = Asked(question="How many whole tiles has Lena painted by Friday?", answer="9")

    telling = Asked(question="Lena has 9 whole tiles painted by Friday. How many boxes does she need?", answer="1")
    asking = Asked(question="How many lids are in a box that takes 9 lids?", answer="9")

    assert leaks(telling, [whole], context)
    assert not leaks(asking, [whole], context)


@given(st.integers(11, 10**6), st.sampled_from(["Of {} pears, how many rot?", "They have {:,} pears, how many rot?"]))
def test_an_answer_that_no_context_states_never_passes(answer: int, form: str) -> None:
    other = Asked(question="How many pears are there?", answer=str(answer))
    leaking = Asked(question=form.format(answer), answer=str(answer + 1))

    assert leaks(leaking, [other], "There are some pears.")
    assert not leaks(leaking, [other], f"There are {answer} plums.")


@pytest.mark.parametrize(
    ("question", "facts"),
    [
        ("How many pears does Otis pick?", []),
        ("What do 14 pears bring at 1.50 dollars?", []),
        ("What share, in percent, of 100% do they sell?", []),
        ("How many pears go into 1 crate?", []),
        ("How much do the two of them earn?", []),
        ("Who is the third to pick, if all four come?", []),
        ("What do 24 pears cost in a crate?", []),
        ("What do 15 pears bring?", ["15"]),
        ("How many pears do they pick in five days?", ["five"]),
        ("If the price falls by 20%, what do 14 pears bring?", ["20%"]),
        ("What if the 11 others come?", ["11"]),
        ("On the 25th, how many pears are there?", ["25th"]),
    ],
)
def test_a_number_that_stands_nowhere_in_the_context_is_a_new_fact(question: str, facts: list[str]) -> None:
    assert new_facts(question, ORCHARD) == facts


@given(st.text(alphabet="abc 0123456789.,%-/", max_size=60))
def test_a_text_brings_nothing_new_to_itself(text: str) -> None:
    assert new_facts(text, f"{text} ") == []


DUPLICATES = [
    ("the same", TOGETHER.question, "42"),
    ("other case and marks", "how many pears do MONA and Otis pick — together", "42"),
    ("the same words with another answer", TOGETHER.question, "41"),
    ("other words without meaning", "How many pears did Mona and Otis both pick together?", "42"),
    ("another order", "Together, how many pears do Otis and Mona pick?", "42"),
    ("singular", "How many pear do Mona and Otis pick together?", "42"),
]


@pytest.mark.parametrize(
    ("question", "answer"), [case[1:] for case in DUPLICATES], ids=[case[0] for case in DUPLICATES]
)
def test_the_same_question_in_other_dress_is_a_duplicate(question: str, answer: str) -> None:
    assert duplicate_of(Asked(question=question, answer=answer), [TOGETHER]) == TOGETHER.question


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many pears does Otis pick?", "28"),
        ("How many pears do they sell together?", "21"),
        ("Together, how many pears do Otis and Mona pick a day?", "6"),
        ("How many more pears does Otis pick than Mona?", "14"),
        ("How many pears do Mona and Otis not pick together?", "0"),
        ("", "1"),
    ],
)
def test_another_question_is_no_duplicate(question: str, answer: str) -> None:
    assert duplicate_of(Asked(question=question, answer=answer), [TOGETHER]) is None


@pytest.mark.parametrize(
    ("question", "other"),
    [
        ("How many pears are not sold?", "How many sold pears are there?"),
        ("How many ripe pear crates does Otis need to buy?", "How many full pear crates does Otis need to buy?"),
    ],
)
def test_questions_that_differ_in_a_word_of_meaning_may_share_an_answer(question: str, other: str) -> None:
    assert duplicate_of(Asked(question=question, answer="21"), [Asked(question=other, answer="21")]) is None


@given(st.lists(st.sampled_from(WORDS), min_size=1), st.integers())
def test_every_question_repeats_itself(words: list[str], answer: int) -> None:
    asked = Asked(question=" ".join(words), answer=str(answer))

    assert duplicate_of(asked, [asked]) == asked.question
