"""What was saved is a difference of means, and its interval holds what it says it holds."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from sleeptime.core.saved import Compared, saved, student

Answers = Sequence[tuple[Sequence[float], Sequence[float]]]  # of each context, those with notes and those without


def compared(contexts: Answers) -> Compared:
    """The sums that the store keeps, by their definitions."""

    def scatter(values: Sequence[float]) -> float:
        return sum((value - sum(values) / len(values)) ** 2 for value in values)

    noted = [(notes, plain) for notes, plain in contexts if notes]
    own = [(notes, plain) for notes, plain in noted if plain]
    plains = [plain for _, plain in contexts if plain]
    return Compared(
        notes=sum(len(notes) for notes, _ in noted),
        notes_total=sum(sum(notes) for notes, _ in noted),
        notes_scatter=sum(scatter(notes) for notes, _ in noted),
        notes_contexts=len(noted),
        plain=sum(map(len, plains)),
        plain_total=sum(map(sum, plains)),
        plain_squares=sum(value * value for plain in plains for value in plain),
        plain_scatter=sum(map(scatter, plains)),
        plain_contexts=len(plains),
        own=sum(len(notes) for notes, _ in own),
        own_baseline=sum(len(notes) * sum(plain) / len(plain) for notes, plain in own),
        own_weight=sum(len(notes) ** 2 / len(plain) for notes, plain in own),
    )


def test_each_context_is_held_against_its_own_answers_without_notes() -> None:
    found = saved(compared([([10, 20], [100, 140]), ([5], [50]), ([], [1000])]))

    assert found.value == 2 * 120 - 30 + 50 - 5
    assert found.answers == 3
    assert found.baseline == (240 + 50) / 3


def test_a_context_without_such_answers_is_held_against_all_of_them() -> None:
    found = saved(compared([([10, 20, 30], []), ([], [100]), ([], [300])]))

    assert found.value == 3 * 200 - 60


@pytest.mark.parametrize("contexts", [[], [([], [5, 6])], [([5, 6], [])]])
def test_what_was_not_measured_is_none_and_never_nothing(contexts: Answers) -> None:
    found = saved(compared(contexts))

    assert (found.value, found.low, found.high) == (None, None, None)


def test_too_few_answers_have_no_interval() -> None:
    found = saved(compared([([10, 20], [100, 140])]))

    assert found.value == 210
    assert (found.low, found.high) == (None, None)


def test_what_sleeping_took_is_subtracted_without_making_it_less_sure() -> None:
    found = saved(compared([([10, 20, 30, 40], [100, 140, 90, 120])]))

    net = found.less(100)

    assert found.value is not None
    assert net.value == found.value - 100
    assert net.half == found.half


@pytest.mark.parametrize("has_own", [True, False])
def test_the_interval_holds_the_truth_in_at_least_95_of_100_draws(has_own: bool) -> None:
    dice = random.Random(3)  # noqa: S311  # a seeded draw
    held = draws = 0
    for _ in range(600):
        contexts: list[tuple[list[float], list[float]]] = []
        truth = 0.0
        for _ in range(6):
            level = 500.0 if not has_own else dice.uniform(200, 900)
            notes = [dice.gauss(level / 4, 40) for _ in range(8)]
            plain = [dice.gauss(level, 120) for _ in range(4)]
            truth += 8 * (level - level / 4)
            contexts += [(notes, plain)] if has_own else [(notes, []), ([], plain)]
        found = saved(compared(contexts))
        assert found.low is not None
        assert found.high is not None
        draws += 1
        held += found.low <= truth <= found.high
    assert 0.93 <= held / draws <= 0.985


@pytest.mark.parametrize(("freedom", "quantile"), [(2, 4.303), (5, 2.571), (30, 2.042), (1000, 1.962)])
def test_the_quantile_is_that_of_the_tables(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, rel=0.01)
