"""Stateful Chains: what a draw promises."""

import re

import pytest

from sleeptime.evals.data import chains
from sleeptime.evals.data.chains import FAMILIES, Sample, draw, on_face, score


def evaluate(sample: Sample, name: str) -> int:
    """Work out *name* from the text of a sheet alone."""
    if stated := re.search(rf"^{name}= (\d+)$", sample.text, re.MULTILINE):
        return int(stated[1])
    formula = re.search(rf"^{name}: (\w+) ([+-]) (\d+)$", sample.text, re.MULTILINE)
    assert formula is not None
    step = int(formula[3]) * (1 if formula[2] == "+" else -1)
    return on_face(evaluate(sample, formula[1]) + step)


def test_answers_follow_from_the_text() -> None:
    for sample in draw(1, contexts=50):
        for query in sample.queries:
            values = [evaluate(sample, name) for name in query.names]
            if query.kind == "value":
                expected = values[0]
            elif query.kind == "sum":
                expected = on_face(values[0] + values[1])
            else:
                expected = on_face(values[0] - values[1])
            assert query.answer == str(expected)


def test_the_same_seed_draws_the_same_contexts() -> None:
    assert draw(7, contexts=5) == draw(7, contexts=5)
    assert draw(7, contexts=5) != draw(8, contexts=5)


def test_held_out_contexts_share_neither_names_nor_numbers_with_training() -> None:
    def traits(held_out: bool) -> tuple[set[object], set[object]]:
        samples = draw(3, contexts=300, held_out=held_out)
        names = {tuple(sorted(q.name for q in s.quantities)) for s in samples}
        numbers = {tuple(q.step or q.value for q in s.quantities) for s in samples}
        return names, numbers

    (held_names, held_numbers), (names, numbers) = traits(True), traits(False)

    assert held_names.isdisjoint(names)
    assert held_numbers.isdisjoint(numbers)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_queries_of_a_context_are_distinct_and_their_odds_add_up(family: str) -> None:
    for sample in draw(5, contexts=20, family=family):
        questions = [query.question for query in sample.queries]
        everything = chains.all_queries(family, sample.quantities, sample.watched)

        assert len(set(questions)) == len(questions) == 4
        assert sum(q.asking_probability for q in everything) == pytest.approx(1)


def test_predictability_is_not_depth_in_disguise() -> None:
    queries = [q for s in draw(11, contexts=500) for q in s.queries if q.kind == "value"]

    for depth in range(1, 9):
        assert {q.anticipated for q in queries if q.depth == depth} == {True, False}


def test_only_the_last_stated_value_counts() -> None:
    assert score("\nC4: B2 - 2\nB2= 8\nC4= 6", "6")
    assert not score("\nC4= 6\nE2= 3\nplus= 9", "6")
    assert score("\nBen reads 8 o'clock.", "8")
    assert not score("", "6")
