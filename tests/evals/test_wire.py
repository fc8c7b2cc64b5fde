from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from benchmarks.by_hand import Line
from benchmarks.oracle import said
from benchmarks.wire import aime, check, found, gsm, own

from sleeptime.evals.data.scorers import is_correct

FEW = 6


def data() -> Path:
    given = os.environ.get("SLEEPTIME_DATA")
    if not given:
        pytest.skip("$SLEEPTIME_DATA does not name the folder of the datasets' files")
    return Path(given)


def different(lines: Sequence[Line]) -> list[str]:
    return [
        f"{line.figure}: {line.what}: {line.by_hand} by hand, {line.reported} reported"
        for line in lines
        if not line.is_equal
    ]


def value(lines: Sequence[Line], figure: str, what: str) -> float:
    (line,) = (line for line in lines if (line.figure, line.what) == (figure, what))
    assert isinstance(line.reported, int | float)
    return line.reported


def test_every_figure_of_a_file_of_ones_own_is_what_was_on_the_wire(tmp_path: Path) -> None:
    verbosity, _ = own(tmp_path, contexts=FEW)

    outcome = check(verbosity, again=False)

    assert different(outcome.lines) == []
    figures = {line.figure.split()[0] for line in outcome.lines}
    assert figures >= {"totals", "points", "sleep", "learned", "strata", "scaling", "costs", "control", "equal"}
    assert set(outcome.faults) == {"answered", "refused", "down", "busy"}
    assert value(outcome.lines, "totals", "answers missing") > 0
    assert value(outcome.lines, "totals", "sleeps failed") > 0
    assert value(outcome.lines, "points sleep/v0/k1", "accuracy") > value(
        outcome.lines, "points no_sleep/v0", "accuracy"
    )


def test_a_run_made_again_pays_for_what_failed_alone_and_is_what_was_on_the_wire(tmp_path: Path) -> None:
    _, effort = own(tmp_path, contexts=FEW)

    outcome = check(effort)

    assert different(outcome.lines) == []
    assert different(outcome.healed) == []
    assert set(outcome.faults) == {"answered", "refused", "down", "busy", "broken"}
    assert value(outcome.lines, "totals", "answers missing") > 0
    assert value(outcome.healed, "totals", "answers missing") == 0
    assert value(outcome.healed, "totals", "sleeps failed") == 0
    assert value(outcome.lines, "points no_sleep/high", "reasoning tokens") > 0


def test_gsm_symbolic_is_what_was_on_the_wire() -> None:
    folder = data()
    if not found(folder, "GSM_p2.jsonl").is_file():
        pytest.skip(f"{folder} has no GSM_p2.jsonl")

    outcome = check(gsm(folder, limit=4))

    assert different([*outcome.lines, *outcome.healed]) == []


def test_aime_is_what_was_on_the_wire() -> None:
    folder = data()
    if not all(found(folder, name).is_file() for name in ("nemo_aime24.jsonl", "nemo_aime25.jsonl")):
        pytest.skip(f"{folder} has no nemo_aime24.jsonl and nemo_aime25.jsonl")

    outcome = check(aime(folder, limit=4))

    assert different([*outcome.lines, *outcome.healed]) == []


def test_one_token_more_than_on_the_wire_is_a_difference() -> None:
    mean = Line(figure="points", what="tokens", by_hand=Fraction(100, 3), reported=100 / 3, is_exact=True)

    assert mean.is_equal
    assert not replace(mean, reported=101 / 3).is_equal
    assert not replace(mean, reported=None).is_equal
    assert not replace(mean, by_hand=None).is_equal


@pytest.mark.parametrize("way", range(9))
def test_every_way_to_say_a_number_says_it_and_no_other(way: int) -> None:
    for number in (Fraction(7), Fraction(1234), Fraction("32.5"), Fraction(0)):
        assert is_correct(said(number, way), str(float(number)), "number")
        assert not is_correct(said(number + 1, way), str(float(number)), "number")
