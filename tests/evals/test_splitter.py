from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeptime.evals.data.splitter import SPLIT_MODES, SplitMode, sentences, split_question

KEPT = [
    ("Tea costs $1.50 a cup. Ann drinks 4 cups. How much does she pay?", 2),
    ("Mrs. Lund has 3 cats. Dr. Ode has 2. How many have both?", 2),
    ("Ms. Ray and Mr. Ito met St. Nick. How old is Mr. Ito?", 1),
    ("The bus leaves at 7 a.m. It arrives at 9 p.m. How long is the ride?", 2),
    ("He wakes at 6 a.m. every day. When does he sleep?", 1),
    ("The U.S. Army bought 3 tents. What did it pay?", 1),
    ("She moved to the U.S. She stayed 4 years. How old is she?", 2),
    ("A board is 5 ft. long. A nail is 2 in. long. How many nails fit?", 2),
    ("It weighs approx. 4.5 kg and costs ca. 3 dollars. What do 2 weigh?", 1),
    ("Pets, e.g. cats, cost $5. Others, i.e. dogs, cost $6. What do 2 dogs cost?", 2),
    ("J. K. Holm wrote 3 books. John F. Dale wrote 2. Who wrote more?", 2),
    ("He chose option B. How many options are left?", 1),
    ("She waited... and waited for 3 hours. When did she leave?", 1),
    ("She ran 5 km... Then she ran 2 km more. How far did she run?", 2),
    ('"I have 3. You have 4," said Max. How many do they have?', 1),
    ('He shouted, "I won!" Then he ate 2 cakes. How many are left of 5?', 2),
    ("Ben (he is 3. Ann is 4.) has a dog. How old is the dog?", 1),
    ("Steps: 1. Fill 3 cups. 2. Drink 1 cup. How many cups are full?", 2),
    ("He read vol. 3 and ch. 4 in 2 days. He slept 3 hours. How many pages is that?", 2),
    ("Sales rose 2.5%. They were $1,200.75. What are they now?", 2),
    ("Wow! Ann won 3 games. Did Ben win 4?", 2),
    ("The price is $5. The discount is $2. How much is left?", 2),
    ("It costs $.50 a piece. She buys 8. What does she pay?", 2),
    ("Let $x=1.5. y$ be even. Find $x$.", 1),
    (r"Let \(f(x) = 2. 5x\) be a map. Find \(f(2)\).", 1),
    (r"Suppose \[a. B = 3.\] The sum is $s$. Find $s$.", 2),
    (r"See \begin{align*} a &= 1. \\ B &= 2. \end{align*} for all n. Find $a+B$.", 1),
    ("Let $N$ be $12.$ Find the remainder when $N$ is divided by $5.$", 1),
    ("Tom has 2 pens.\n\nAnn has 3 pens.\n\nHow many pens are there?", 2),
    ("Tom has 12. How many are left after he gives 2 away?", 1),
    ("A rope is 10 m long. how much is left if 3 m are cut?", 1),
    ("Acme Inc. sold 3 cars. Its rival sold 4. Who sold more?", 2),
]

MOVED = [
    ("If each pen costs $2, how much do 3 pens cost?", "Suppose each pen costs $2.", "How much do 3 pens cost?"),
    ("How much does she pay if she buys 3 pens?", "Suppose she buys 3 pens.", "How much does she pay?"),
    ("How much is left, if he spends $1.50?", "Suppose he spends $1.50.", "How much is left?"),
    ("Given that a cow eats 4 kg, how much do all eat?", "A cow eats 4 kg.", "How much do all eat?"),
    (
        "If it takes 5 minutes how many cakes can he bake in 3 hours?",
        "Suppose it takes 5 minutes.",
        "How many cakes can he bake in 3 hours?",
    ),
    (
        "If there are 3 cats, 2 dogs, and 4 birds, what percentage of the animals are dogs?",
        "Suppose there are 3 cats, 2 dogs, and 4 birds.",
        "What percentage of the animals are dogs?",
    ),
    (
        "If a bag holds 9 kg, how many bags does she need if she has 80 kg and half is sold?",
        "Suppose a bag holds 9 kg. Suppose she has 80 kg and half is sold.",
        "How many bags does she need?",
    ),
    (
        "If 12 minutes are spent on the hill, how long is the walk, in minutes?",
        "Suppose 12 minutes are spent on the hill.",
        "How long is the walk, in minutes?",
    ),
    (
        "How long is the walk if 12 minutes are spent on the hill, in minutes?",
        "Suppose 12 minutes are spent on the hill.",
        "How long is the walk, in minutes?",
    ),
    (
        "How much does he earn in a year after paying 12% in tax?",
        "Asked about is the situation after paying 12% in tax.",
        "How much does he earn in a year?",
    ),
    (
        "After giving away 5 seats, how many seats are left?",
        "Asked about is the situation after giving away 5 seats.",
        "How many seats are left?",
    ),
    (
        "How old will Ada be when Bo is 30?",
        "Asked about is the situation when Bo is 30.",
        "How old will Ada be?",
    ),
    (
        "If Lea, who is older than Kim, is 20, what's their average age?",
        "Suppose Lea, who is older than Kim, is 20.",
        "What's their average age?",
    ),
    ("Each pen costs $2, so how much do all cost?", "Each pen costs $2.", "How much do all cost?"),
    (
        "If she baked 3 trays, calculate the number of buns.",
        "Suppose she baked 3 trays.",
        "Calculate the number of buns.",
    ),
    ("If $AB=3$, $BC=4$, find $AC$.", "Suppose $AB=3$, $BC=4$.", "Find $AC$."),
    ("If he has 3 coins, does he have enough?", "Suppose he has 3 coins.", "Does he have enough?"),
]

STAYS = [
    "How much would a 90-minute call cost?",
    "In 3 hours, how many cakes can he bake?",
    "How many people are ill after 2 days?",
    "By the end of the third year, how much is left?",
    "How much more will she earn if she works for the shop?",
    "How many cups would be full even if 2 were empty?",
    "Find the remainder when $N$ is divided by $1000$.",
    'Who said "if you give me 3, how many have you left?"',
]


@pytest.mark.parametrize(("text", "in_context"), KEPT)
def test_a_sentence_ends_where_it_ends_and_stays_as_it_is_written(text: str, in_context: int) -> None:
    split = split_question(text, "sentence")

    assert len(sentences(split.context)) == in_context
    assert split.joined == re.sub(r"\n\n", " ", text)
    assert text.endswith(split.query)


@pytest.mark.parametrize(("text", "facts", "query"), MOVED)
def test_facts_that_a_query_carries_become_sentences_of_the_context(text: str, facts: str, query: str) -> None:
    split = split_question(f"Ann and Bob run a shop. {text}", "hoist")

    assert split.context == f"Ann and Bob run a shop. {facts}"
    assert split.query == query


@pytest.mark.parametrize("text", STAYS)
def test_what_is_asked_for_stays_in_the_query(text: str) -> None:
    assert split_question(text, "hoist").query == text


@pytest.mark.parametrize(("text", "_facts", "_query"), MOVED)
def test_the_mode_sentence_moves_no_words(text: str, _facts: str, _query: str) -> None:
    assert split_question(text, "sentence").query == text


@pytest.mark.parametrize("mode", ["hoist", "sentence"])
def test_facts_behind_the_question_belong_to_the_context(mode: SplitMode) -> None:
    split = split_question("Kim sells rugs. How much does she earn? Each rug costs $40.25. She sells 3.", mode)

    assert split.query == "How much does she earn?"
    assert split.context == "Kim sells rugs. Each rug costs $40.25. She sells 3."


def test_a_figure_belongs_to_the_context() -> None:
    split = split_question("Let $ABC$ be drawn. Find $AB.$ [asy] draw((0,0)--(1,2)); dot(A.B); [/asy]", "hoist")

    assert split.query == "Find $AB.$"
    assert split.context == "Let $ABC$ be drawn. [asy] draw((0,0)--(1,2)); dot(A.B); [/asy]"


def test_the_last_of_several_questions_is_the_query() -> None:
    split = split_question("Is it late? It is 9. How long is the night?", "hoist")

    assert (split.context, split.query) == ("Is it late? It is 9.", "How long is the night?")


def test_a_text_that_asks_nothing_gives_its_last_sentence_as_the_query() -> None:
    assert split_question("Ann has 3. Bob has 4.", "hoist").query == "Bob has 4."


def test_an_empty_context_is_told() -> None:
    split = split_question("How many days has a week?", "hoist")

    assert split.is_context_empty
    assert split.joined == "How many days has a week?"


def test_the_literal_splitter_breaks_decimals_and_abbreviations_as_the_paper_s_does() -> None:
    split = split_question("Mrs. Lund pays $1.50 a day. How much is 2.5 times that?", "literal")

    assert split.context == "Mrs. Lund pays $1. 50 a day. How much is 2."
    assert split.query == "5 times that?"


def test_the_literal_splitter_says_that_a_single_sentence_has_no_context() -> None:
    assert split_question("How many days has a week?", "literal").is_context_empty


@given(st.text(alphabet="Aab 1.,?!\"'()$\\[]{}\n…Mrs", max_size=80), st.sampled_from(SPLIT_MODES))
def test_any_text_can_be_split_and_no_letter_of_it_is_lost(text: str, mode: SplitMode) -> None:
    split = split_question(text, mode)

    lost = Counter(re.findall(r"[^\W_]", text.lower())) - Counter(re.findall(r"[^\W_]", split.joined.lower()))
    assert not lost


@pytest.mark.parametrize(
    "piece", ["a. ", '"', "(", "[asy]", r"\begin{a}", r"\[", "$", " ", "\n", "if 3 ", ", how ", "1.2."]
)
def test_a_long_text_of_traps_is_split_in_no_time(piece: str) -> None:
    text = piece * (50_000 // len(piece))

    began_s = time.process_time()
    for mode in SPLIT_MODES:
        split_question(text, mode)

    assert time.process_time() - began_s < 5


# Counts over whole files, with checks that share nothing with the splitter.

DATA = os.environ.get("SLEEPTIME_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="SLEEPTIME_DATA names no folder of datasets")
ABBREVIATED = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|vs|e\.g|i\.e|approx|U\.S|[A-Z])\.$")
COUNTED = r"(?:\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|twelve|half|third|quarter|dozen|twice)\b)"
FACT = re.compile(
    rf"\b(?:if|given that|assuming|suppos\w+|provided|considering|knowing|because|since)\b[^?]*{COUNTED}"
    rf"|\b(?:after|before|while) \w+ing\b[^?]*{COUNTED}"
    rf"|^(?!(?:in|by|over|within|during) )[^?]*{COUNTED}[^?]*, (?:so |and |then )?how (?:many|much)",
    re.IGNORECASE,
)
ADDED = {"suppose", "asked", "about", "is", "the", "situation"}
DROPPED = {"if", "then", "so", "and", "but"}


def rows(pattern: str) -> list[str]:
    found = sorted(Path(DATA or "").rglob(pattern))
    if not found:
        pytest.skip(f"there is no {pattern} in SLEEPTIME_DATA")
    lines: list[dict[str, Any]] = [json.loads(line) for line in found[0].read_text("utf-8").splitlines() if line]
    return [line.get("question") or line["problem"] for line in lines]


def numbers(text: str) -> Counter[str]:
    return Counter(re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text))


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[^\W\d_]+", text.lower()))


def is_balanced(text: str) -> bool:
    pairs = [(r"\[asy]", r"\[/asy]"), (r"\\begin\{", r"\\end\{"), (r"\\\[", r"\\\]"), (r"\\\(", r"\\\)")]
    return all(len(re.findall(opens, text)) == len(re.findall(closes, text)) for opens, closes in pairs)


def faults(text: str, mode: SplitMode, *, is_math: bool = False) -> set[str]:
    """What is wrong with the split of one problem."""
    split = split_question(text, mode)
    pieces = [split.context, split.query]
    found: set[str] = set()
    if numbers(text) != numbers(split.context) + numbers(split.query):
        found.add("broken decimals")
    at = 0
    literal = [raw.strip() + "." for raw in text.split(".") if raw.strip()]
    for part in literal if mode == "literal" else sentences(text):
        at = text.find(part.rstrip("."), at) + len(part.rstrip("."))
        behind = text[at : at + 2]
        is_cut_quotation = mode == "literal" and behind == '."'
        if is_cut_quotation or (ABBREVIATED.search(part) and text[at:].strip(". ")):
            found.add("cut abbreviations, quotations")
    if is_math and any(not is_balanced(piece) or piece.count("$") % 2 for piece in pieces):
        found.add("cut math")
    if FACT.search(split.query):
        found.add("facts in clauses of the question")
    if re.search(r"\?.*\w", split.query):
        found.add("facts behind the question")
    if split.query.count("?") > 1 or not re.search(r"\?$|\b(?:[Cc]alculate|[Ff]ind|What)\b", split.query):
        found.add("not one question")
    if split.is_context_empty:
        found.add("empty contexts (told)" if not split.context else "empty contexts (silent)")
    lost, gained = words(text) - words(split.joined), words(split.joined) - words(text)
    if set(lost) - DROPPED or set(gained) - ADDED:
        found.add("words lost or gained")
    return found


def counted(name: str, texts: list[str], mode: SplitMode, *, is_math: bool = False) -> Counter[str]:
    counts = Counter(fault for text in texts for fault in faults(text, mode, is_math=is_math))
    broken = {"broken decimals", "cut abbreviations, quotations", "cut math"}
    counts["broken in some way"] = sum(bool(faults(text, mode, is_math=is_math) & broken) for text in texts)
    told = ", ".join(f"{count} {fault}" for fault, count in sorted(counts.items()) if count) or "no fault"
    print(f"\n{name} ({len(texts)} problems), {mode}: {told}", end="")  # noqa: T201 - the table is what -s is for
    return +counts


@needs_data
@pytest.mark.parametrize("pattern", ["GSM_p2.jsonl", "GSM_p1*.jsonl"])
def test_counts_in_mode_hoist_no_fault_in_any_grade_school_problem(pattern: str) -> None:
    assert not counted(pattern, rows(pattern), "hoist")


@needs_data
@pytest.mark.parametrize("pattern", ["GSM_p2.jsonl", "GSM_p1*.jsonl"])
def test_counts_in_mode_sentence_only_what_the_query_itself_carries(pattern: str) -> None:
    counts = counted(pattern, rows(pattern), "sentence")

    assert set(counts) <= {"facts in clauses of the question", "empty contexts (told)"}


@needs_data
@pytest.mark.parametrize(("pattern", "percent"), [("GSM_p2.jsonl", 16.0), ("GSM_p1*.jsonl", 9.5)])
def test_counts_in_mode_literal_about_as_much_breakage_as_the_paper_s_17_4_and_9_6_percent(
    pattern: str, percent: float
) -> None:
    texts = rows(pattern)
    counts = counted(pattern, texts, "literal")

    assert 100 * counts["broken in some way"] / len(texts) == pytest.approx(percent, abs=0.5)


@needs_data
@pytest.mark.parametrize("mode", ["hoist", "sentence"])
@pytest.mark.parametrize("pattern", ["*aime24.jsonl", "*aime25.jsonl"])
def test_counts_no_fault_in_any_competition_problem(pattern: str, mode: SplitMode) -> None:
    counts = counted(pattern, rows(pattern), mode, is_math=True)

    carried = {"facts in clauses of the question"} if mode == "sentence" else set[str]()
    assert set(counts) <= {"empty contexts (told)"} | carried
