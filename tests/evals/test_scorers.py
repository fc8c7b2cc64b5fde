from __future__ import annotations

import time
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeptime.evals.data import chains
from sleeptime.evals.data.scorers import AnswerKind, answer_in, is_correct, is_number

SPELLINGS = [
    ("45", "45"),
    ("45.0", "45"),
    ("45.", "45"),
    ("045", "45"),
    ("$45", "45"),
    (r"\$45", "45"),
    ("$45.00", "45"),
    ("€45", "45"),
    ("45 dollars", "45"),
    ("45€", "45"),
    ("45%", "45"),
    (r"45\%", "45"),
    ("45 %", "45"),
    ("4500", "4500"),
    ("4,500", "4500"),
    ("$4,500.50", "4500.5"),
    ("1,234,567", "1234567"),
    (r"4{,}500", "4500"),
    (r"4\,500", "4500"),
    ("4\u202f500", "4500"),
    ("1/2", "0.5"),
    ("½", "0.5"),
    ("2 1/2", "2.5"),
    ("2½", "2.5"),
    (r"\frac{1}{2}", "0.5"),
    (r"\dfrac{3}{4}", "0.75"),
    (r"\frac12", "0.5"),
    ("1/3", "1/3"),
    (".5", "0.5"),
    ("-45", "-45"),
    ("−45", "-45"),
    ("-$45", "-45"),
    ("$-45", "-45"),
    ("minus 45", "-45"),
    ("negative 45", "-45"),
    ("4.5e3", "4500"),
    ("4.5 × 10^3", "4500"),
    (r"4.5 \times 10^{3}", "4500"),
    ("1.5 million", "1500000"),
    ("45km", "45"),
    ("**45**", "45"),
    ("*45*", "45"),
    ("__45__", "45"),
    ("`45`", "45"),
    ("$45$", "45"),
    (r"\(45\)", "45"),
    (r"\boxed{45}", "45"),
    (r"$\boxed{\$45}$", "45"),
    (r"\boxed{45\text{ apples}}", "45"),
    (r"\boxed{\frac{1}{2}}", "0.5"),
    (r"\boxed{x = 45}", "45"),
    ("0", "0"),
    ("-0", "0"),
]

MESSY = [
    ("The answer is 45.", "45"),
    ("The answer is: **45**.", "45"),
    ("**The answer is 45**", "45"),
    ("**Answer:** 45", "45"),
    ("Answer: $4,500", "4500"),
    ("Final answer\nThe final answer is $45.", "45"),
    ("The answer is 24.. ", "24"),
    ("The answer is 45 apples in 3 boxes.", "45"),
    ("The answer is 45 (15 in each of 3 boxes).", "45"),
    ("The answer is 45 because 3 boxes hold 15 each.", "45"),
    ("The answer is approx. 45.", "45"),
    ("The answer is 3 * 15 = 45.", "45"),
    ("The answer is 45 = 3 * 15.", "45"),
    ("The answer is $x = 45$", "45"),
    ("The answer is not 44 but 45.", "45"),
    ("The answer is 12. Wait, that is wrong. The answer is 45.", "45"),
    ("The answer is 12? Let me check again.\n\\boxed{45}", "45"),
    ("I get \\boxed{12}. No: the answer is 45.", "45"),
    ("So each has 15.\n#### 45", "45"),
    ("#### $4,500.00", "4500"),
    ("The answer is:\n\n45", "45"),
    ("The answer is\n$$45$$", "45"),
    ("The answer would be 45, in 3 boxes.", "45"),
    ("My answer to this question is 45, in 3 boxes.", "45"),
    ("The answer comes out to 45, in 3 boxes.", "45"),
    ("**Final answer**: 45, in 3 boxes", "45"),
    ("The answer is 45. I am sure that it is right, after 3 checks.", "45"),
    ("The answers are 45 and 3.", "45"),
    ("The answer is 45. She has 3 boxes left.", "45"),
    ("The answer is 45\nThis took 3 steps.", "45"),
    ("They started with 3 and now have 45.", "45"),
    ("3 boxes of 15 make 45", "45"),
    ("15 + 15 + 15 = 45.", "45"),
    ("15*3=45", "45"),
    ("60-15 is 45", "45"),
    ("from 3 to 45", "45"),
    ("- 45", "45"),
    ("x = - 45", "-45"),
    ("60 - 15", "15"),
    ("* 45", "45"),
    ("It is 45 at 3:30.", "45"),
    ("He is done at 3:30 with 45", "45"),
    ("On the 3rd day there were 45.", "45"),
    ("There are 45 left on the 3rd day.", "45"),
    ("x2 is 45", "45"),
    ("It rises by 45 m^2", "45"),
    ("The answer is in the notes. There are 45.", "45"),
    ("The answer is \\boxed{45}.", "45"),
    ("\\boxed{\\boxed{45}}", "45"),
    ("\\boxed{45", "45"),
    ("\\boxed{}\n45", "45"),
    ("\\boxed{\\text{none}} so 45", "45"),
    ("Answer = 45", "45"),
    ("The total is 45,", "45"),
    ("(45)", "45"),
    ("[45]", "45"),
    ("'45'", "45"),
    ("45!", "45"),
    ("45, as said", "45"),
    ("Steps: 1. add 2. multiply. Result 45", "45"),
    ("The answer is 45 km/h.", "45"),
    ("The answer is $45 per day", "45"),
    ("the ANSWER is 45", "45"),
    ("The answer is about $45.", "45"),
    ("The answer is **$45.00**.", "45"),
    ("The answer is 10/4.", "2.5"),
    ("The answer is -3 degrees.", "-3"),
    ("The probability is 3/8", "0.375"),
]

NOTHING = [
    "",
    "   ",
    "none",
    "forty-five",
    "I do not know.",
    "3:30",
    "$",
    "-",
    "...",
    "\\boxed{}",
    "x2",
    "the 3rd",
    "1/0",
]

NEAR_MISSES = [
    ("45.01", "45"),
    ("44.99", "45"),
    ("46", "45"),
    ("-45", "45"),
    ("450", "45"),
    ("4.5", "45"),
    ("1000001", "1000000"),
    ("1000000.5", "1000000"),
    ("0.45", "45%"),
    ("0.33", "1/3"),
    ("0.3333", "1/3"),
    ("3.14", "3.14159"),
    ("45,00", "4500"),
    ("The answer is 12. There are 45 boxes.", "12.5"),
    ("The answer is 3. 45 were sold.", "45"),
    ("\\boxed{3} out of 45", "45"),
    ("", "0"),
    ("none", "0"),
    ("5 4", "54"),
]

ROUNDED = [
    ("0.333333", "1/3"),
    ("44.9999999999", "45"),
    ("45.0000001", "45"),
    ("66.6666667", "200/3"),
]


@pytest.mark.parametrize(("text", "number"), SPELLINGS)
def test_a_number_is_read_whatever_its_spelling(text: str, number: str) -> None:
    assert answer_in(text, "number") == number
    assert is_correct(text, number, "number")
    assert is_correct(f"The answer is {text}", number, "number")


@pytest.mark.parametrize(("text", "number"), SPELLINGS)
def test_a_target_may_be_spelled_in_any_way_too(text: str, number: str) -> None:
    assert is_correct(number, text, "number")


@pytest.mark.parametrize(("text", "number"), MESSY)
def test_the_answer_is_found_among_other_numbers(text: str, number: str) -> None:
    assert answer_in(text, "number") == number


@pytest.mark.parametrize("text", NOTHING)
def test_a_reply_without_a_number_gives_no_answer_and_is_wrong(text: str) -> None:
    assert answer_in(text, "number") is None
    assert not is_correct(text, "3", "number")


@pytest.mark.parametrize(("text", "target"), NEAR_MISSES)
def test_near_misses_are_wrong(text: str, target: str) -> None:
    assert not is_correct(text, target, "number")


@pytest.mark.parametrize(("text", "target"), ROUNDED)
def test_a_rounded_quotient_with_six_decimals_is_right(text: str, target: str) -> None:
    assert is_correct(text, target, "number")


@pytest.mark.parametrize(
    ("text", "integer"),
    [
        ("\\boxed{073}", "73"),
        ("The answer is 073.", "73"),
        ("$m+n = 25 + 48 = \\boxed{073}$", "73"),
        ("\\boxed{73.0}", "73"),
        ("so p+q = 1 + 72 = 73.", "73"),
        ("\\boxed{\\textbf{(073)}}", "73"),
        ("\\fbox{73}", "73"),
        ("000", "0"),
        ("\\boxed{\\frac{146}{2}}", "73"),
        ("73.5", None),
        ("\\boxed{\\frac{1}{2}}", None),
    ],
)
def test_an_integer_is_read_with_leading_zeros_or_in_a_box(text: str, integer: str | None) -> None:
    assert answer_in(text, "integer") == integer
    assert is_correct(text, "73", "integer") == (integer == "73")


def test_an_integer_has_no_tolerance() -> None:
    assert not is_correct("72.9999999", "73", "integer")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("**B**", "B"),
        ("The answer is B.", "B"),
        ("The answer is (b)", "B"),
        ("The answer is: **B) 45**", "B"),
        ("The correct answer is option B because A is too small.", "B"),
        ("Answer: B", "B"),
        ("\\boxed{B}", "B"),
        ("\\boxed{\\text{B}}", "B"),
        ("\\boxed{\\textbf{(B)}\\ 45}", "B"),
        ("A and C are wrong.\n\nB", "B"),
        ("First I rule out (A). So it is (B).", "B"),
        ("The answer is A. No, the answer is B.", "B"),
        ("The answer is the letter B", "B"),
        ("The answer is I.", "I"),
        ("The answer is a hard one to find.", None),
        ("The answer is I think unclear.", None),
        ("A cat sat down.", None),
        ("K", None),
        ("", None),
    ],
)
def test_a_letter_is_read_and_not_taken_from_words(text: str, letter: str | None) -> None:
    assert answer_in(text, "choice") == letter
    assert is_correct(text, "B", "choice") == (letter == "B")


@pytest.mark.parametrize(
    "text", ["\nC4: B2 - 2\nB2= 8\nC4= 6", "Ben reads 8 o'clock.", "", "6", "= 12 = x", "The answer is 6. a = 3"]
)
def test_a_stated_value_is_what_the_chains_read(text: str) -> None:
    answer = answer_in(text, "stated")

    for value in ("3", "6", "8", "12"):
        assert is_correct(text, value, "stated") == chains.score(text, value) == (answer == value)


@pytest.mark.parametrize(
    ("text", "target", "is_right"),
    [
        ("The answer is the Red Lion.", "the red lion", True),
        ("the  red-lion!", "The Red Lion", True),
        ("It was a pub.\nThe Red Lion", "the red lion", True),
        ("Answer: **Red Lion**", "red lion", True),
        ("\\boxed{\\text{Red Lion}}", "red lion", True),
        ("Zoë", "ZOË", True),
        ("The answer is the Red Lion Inn.", "the red lion", False),
        ("Red", "red lion", False),
        ("", "red lion", False),
        ("!", "?", False),
    ],
)
def test_text_is_compared_without_case_spaces_and_punctuation(text: str, target: str, *, is_right: bool) -> None:
    assert is_correct(text, target, "text") is is_right


def test_equal_answers_are_spelled_alike_so_that_they_can_vote() -> None:
    assert len({answer_in(text, "number") for text in ("45", "The answer is $45.00.", "\\boxed{45}", "90/2")}) == 1


def test_a_target_that_is_no_number_is_never_given() -> None:
    assert not is_correct("The answer is 45.", "unknown", "number")


@pytest.mark.parametrize("text", ["45", "$4,500", "-3", "1/2", "45%", "4.5e3", " 7 "])
def test_what_is_nothing_but_a_number_is_told(text: str) -> None:
    assert is_number(text)


@pytest.mark.parametrize("text", ["", "B", "45 apples", "3:30", "about 4", "4 5", "1/0", "9" * 200])
def test_what_is_more_than_a_number_is_told(text: str) -> None:
    assert not is_number(text)


PIECES = st.sampled_from(
    ["1", "45", "3/4", "-", "−", ".", ",", "e9", "^", "{", "}", "\\boxed{", "\\frac{1}{0}", "answer is ", "#### ", "=",
     "$", "%", " ", "\n", "½", "A", "(B)", "reads", "million", "٣", "²", "0" * 70]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES, max_size=20).map("".join)), st.one_of(st.text(), PIECES))
def test_no_text_and_no_target_makes_a_scorer_raise(text: str, target: str) -> None:
    for kind in get_args(AnswerKind):
        answer = answer_in(text, kind)
        assert isinstance(is_correct(text, target, kind), bool)
        assert answer is None or answer


@given(st.fractions(min_value=-1000, max_value=1000, max_denominator=50))
def test_a_number_read_and_read_again_is_the_same(number: object) -> None:
    read = answer_in(str(number), "number")

    assert read is not None
    assert answer_in(read, "number") == read
    assert is_correct(read, str(number), "number")


@pytest.mark.parametrize(
    "piece",
    ["9", "9,", "1,234,", "1 ", "1/", "1/2 ", "answer ", "answer is ", "\\boxed{", "\\frac{", "#### ", "= ", "*", "* ",
     "-", "- ", "$", " ", "\n", "a", "A ", "(", "\\text{", "1e", ".", "9.9", "½", "**1**", "\\", "answer is 1\n"],
)  # fmt: skip
def test_a_long_text_is_read_in_no_time(piece: str) -> None:
    text = piece * (100_000 // len(piece))

    began_s = time.process_time()
    for kind in get_args(AnswerKind):
        is_correct(text, "45", kind)

    assert time.process_time() - began_s < 2
