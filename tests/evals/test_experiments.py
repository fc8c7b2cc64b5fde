"""Experiments: what each shipped file claims and measures, and what a file of the wrong form is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeptime.core.errors import BudgetError
from sleeptime.evals.data.datasets import NAMES
from sleeptime.evals.runs import experiments
from sleeptime.evals.runs.experiments import ExperimentError, joined, load, read
from sleeptime.evals.runs.results import CONTROLS, SLEPT, Cell, Sleeping, first_queries

PAPER = ("e1", "e2", "e3", "e4", "e5", "e6", "e8")
HEAD = """
id = "x"
title = "t"
claim = "c"
paper = "p"
dataset = "d"
max_cost_usd = 1
"""


def written(measure: str, head: str = HEAD) -> str:
    return f"{head}\n[[measure]]\n{measure}"


def ids(text: str, **more: list[str]) -> list[str]:
    return [cell.id for cell in read(text, source="x.toml", **more).cells]


def test_those_of_the_paper_ship_and_the_one_on_your_own_data_comes_last() -> None:
    assert experiments.names() == [*PAPER, "mine"]


@pytest.mark.parametrize("name", [*PAPER, "mine"])
def test_every_experiment_claims_something_before_any_run_and_measures_it(name: str) -> None:
    loaded = load(name)

    assert loaded.id == name
    assert len(loaded.claim.split()) > 5
    assert len(loaded.paper.split()) > 3
    assert loaded.dataset in NAMES
    assert loaded.max_cost_usd > 0
    told = [cell.id for cell in loaded.cells]
    assert len(set(told)) == len(told)
    assert {"no_sleep", "sleep"} <= {cell.arm for cell in loaded.cells}
    assert all((cell.sleeping is not None) == (cell.arm in SLEPT) for cell in loaded.cells)


@pytest.mark.parametrize("name", PAPER)
def test_every_experiment_of_the_paper_has_its_controls(name: str) -> None:
    assert set(CONTROLS) <= {cell.arm for cell in load(name).cells}


@pytest.mark.parametrize("name", [*PAPER, "mine"])
def test_ids_are_the_same_whenever_an_experiment_is_read(name: str) -> None:
    assert [cell.id for cell in load(name).cells] == [cell.id for cell in load(name).cells]


def test_ids_that_runs_on_disk_hold_are_as_they_ever_were() -> None:
    assert [cell.id for cell in load("e4").cells] == [
        "no_sleep/v0",
        "sleep/v0/temperature=0.8",
        "sleep/v0/k2 temperature=0.8",
        "sleep/v0/k5 temperature=0.8",
        "sleep/v0/k10 temperature=0.8",
        "merged/v0/k2 temperature=0.8",
        "merged/v0/k5 temperature=0.8",
        "merged/v0/k10 temperature=0.8",
        "sleep/v0/effort=low",
        "sleep/v0/effort=medium",
        "sleep/v0/effort=high",
        "placebo/v0",
        "restatement/v0",
        "draws/v0/t0.8",
        "draws/v3/t0.8",
    ]


def test_given_levels_replace_a_sweep_and_an_arm_held_at_one_level_is_held_at_the_first() -> None:
    text = written('arm = "sleep"\nlevels = ["v0", "v4"]\n[[measure]]\narm = "placebo"\nlevels = ["v3"]')

    assert ids(text, levels=["1", "force:64", "high"]) == [
        "sleep/v1",
        "sleep/force:64",
        "sleep/high",
        "placebo/v1",
    ]


def test_a_given_strategy_is_that_of_every_arm_that_sleeps() -> None:
    told = {cell.sleeping.strategy for cell in load("e4", strategy="rethink").cells if cell.sleeping is not None}

    assert told == {"rethink"}


def test_how_to_sleep_can_be_said_for_all_and_again_for_one_measure() -> None:
    head = HEAD + '[sleep]\neffort = "high"\nsamples = 2\nmax_rounds = 4\n'
    text = written('arm = "sleep"\nlevels = ["v0"]\nsleep = { max_rounds = 2 }', head)

    (cell,) = read(text, source="x.toml").cells

    assert cell.sleeping == Sleeping(samples=2, effort="high", max_rounds=2)


def test_several_draws_that_would_be_alike_are_made_at_a_temperature_and_others_as_the_provider_likes() -> None:
    text = written('arm = "draws"\nlevels = ["v0", "high"]\ndraws = 3')

    assert [(cell.draws, cell.temperature) for cell in read(text, source="x.toml").cells] == [(3, 0.8), (3, None)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (written('arm = "sleep"\nlevels = ["v0"]\nlevel = "v1"'), "x.toml: 'level' is not known. There are arm"),
        (HEAD + "cost = 1", "x.toml: 'cost' is not known. There are id"),
        (written('arm = "nap"\nlevels = ["v0"]'), "there is no arm 'nap'; there are no_sleep"),
        (written('arm = "sleep"'), "'levels' is missing"),
        (HEAD, "'measure' is missing"),
        (written('arm = "no_sleep"\nlevels = ["v0"]', 'id = "x"'), "'title' is missing"),
        (written('arm = "sleep"\nlevels = ["v0"]\nsleep = { naps = 2 }'), "x.toml: .*naps"),
        (written('arm = "draws"\nlevels = ["v0"]\ndraws = "many"'), "x.toml: .*many"),
        ("id = ", "x.toml is not TOML"),
    ],
)
def test_a_file_of_the_wrong_form_is_told_what_is_wrong_where(text: str, words: str) -> None:
    with pytest.raises(ExperimentError, match=words):
        read(text, source="x.toml")


def test_a_name_that_is_none_is_told_those_there_are() -> None:
    with pytest.raises(ExperimentError, match="no experiment 'e7'; there are e1, e2, e3, e4, e5, e6, e8, mine"):
        load("e7")


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(BudgetError, match="loud"):
        load("e1", levels=["loud"])


CELLS = st.builds(
    Cell,
    arm=st.sampled_from(["no_sleep", "draws"]),
    level=st.sampled_from(["v0", "v1"]),
    draws=st.integers(1, 5),
    queries=st.none() | st.integers(1, 5),
)


@given(st.lists(CELLS))
def test_a_joined_cell_asks_for_all_that_any_of_its_cells_asks_for_and_no_more(cells: list[Cell]) -> None:
    once = joined(cells)

    assert [cell.id for cell in once] == list(dict.fromkeys(cell.id for cell in cells))
    for cell in once:
        same = [each for each in cells if each.id == cell.id]
        assert cell.draws == max(each.draws for each in same)
        wanted = [each.queries for each in same]
        assert cell.queries == (None if None in wanted else max(each for each in wanted if each is not None))
    assert joined(once) == once
    assert {cell.id: cell for cell in joined(cells[::-1])} == {cell.id: cell for cell in once}


def test_the_first_queries_of_each_context_are_asked_whatever_their_order() -> None:
    class Of:
        def __init__(self, context_id: str) -> None:
            self.context_id = context_id

    asked = [Of(each) for each in "abaabb"]

    chosen = first_queries(Cell(arm="draws", level="v0", queries=2), asked)

    assert [asked.index(each) for each in chosen] == [0, 1, 2, 4]
