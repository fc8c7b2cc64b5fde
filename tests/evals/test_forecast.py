"""A forecast is compared with what the same cells then really ask of a model that does as is assumed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from itertools import product
from pathlib import Path

import anyio
import pytest
from runs import PROVENANCE, asks, run_of

from sleeptime.core.messages import Completion, Message, ToolCall
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.evals.data.datasets import Sample
from sleeptime.evals.runs.arms import Measurer, Models
from sleeptime.evals.runs.experiments import load
from sleeptime.evals.runs.forecast import ROUNDS, forecast
from sleeptime.evals.runs.results import Cell, Row, Sleeping, Slept, first_queries
from sleeptime.evals.runs.run_folder import Settings, open_folder, read_run
from sleeptime.models import ScriptedModel
from sleeptime.models.protocol import Abilities, Options

PRICE = PriceCard(name="m", dated=date(2026, 11, 1), input_usd_per_mtok=1.0, output_usd_per_mtok=10.0)
SAMPLES = [
    Sample(
        id=f"c{c}q{q}",
        context_id=f"c{c}",
        cluster=f"k{c}",
        context=f"Shelf {c} holds {c + 3} jars.",
        question=f"How many jars are on shelf {c}, counted {q} times?",
        target=str(c + 3),
    )
    for c, q in product(range(4), range(2))
]


def as_assumed(messages: Sequence[Message], options: Options) -> Completion | str:
    """Sleep for as many rounds as a forecast assumes, and answer in a few words."""
    if not options.tools:
        return "The answer is 3."
    text = " ".join(message.content for message in messages)
    (turn,) = [n for n in range(1, 11) if f"This is round {n} of" in text]
    (shelf,) = set(re.findall(r"Shelf \d", text))
    own = "one alone" if options.seed is None else "abcdefghij"[options.seed]
    arguments = {"add": [{"kind": "inference", "text": f"Note {turn} by {own} on {shelf}."}], "done": turn == ROUNDS}
    return Completion(
        text="",
        usage=Usage(input_tokens=5, output_tokens=9),
        model="scripted",
        tool_calls=(ToolCall(name="revise_notes", arguments=arguments),),
    )


async def made(cells: Sequence[Cell], path: Path, *, log_prob: bool = False) -> int:
    """Measure all, as a run does, and count the calls that were paid."""
    settings = Settings(
        experiments=("x",), cells=tuple(cells), asked=(), price=PRICE, sleep_price=PRICE, provenance=PROVENANCE
    )
    folder = open_folder(path, settings, max_cost_usd=None)
    model = ScriptedModel(as_assumed, abilities=Abilities(completes=True, log_probs=True))
    models = Models(test=model, sleep=model, scoring=model)
    measurer = Measurer(SAMPLES, folder, price=PRICE, sleep_price=PRICE)
    for cell in cells:
        for sample in first_queries(cell, SAMPLES):
            for draw in range(cell.draws):
                await measurer.answer(models, cell, sample, draw)
    for sample in SAMPLES if log_prob else ():
        await measurer.surprise(models, sample)
    calls = folder.journal.paid_calls
    folder.close()
    return calls


@pytest.mark.parametrize("name", ["e1", "e3", "e4", "e5", "e6", "e8", "mine"])
def test_as_many_calls_are_foretold_as_a_run_then_makes(name: str, tmp_path: Path) -> None:
    experiment = load(name)
    cells = [cell for cell in experiment.cells if cell.sleeping is None or cell.sleeping.effort is None]

    told = forecast(cells, SAMPLES, price=PRICE, sleep_price=PRICE, log_prob=experiment.log_prob)

    assert told.calls == anyio.run(lambda: made(cells, tmp_path, log_prob=experiment.log_prob))


def test_an_answer_whose_thinking_is_cut_off_takes_two_calls(tmp_path: Path) -> None:
    cells = [Cell(arm="no_sleep", level="force:64")]

    told = forecast(cells, SAMPLES, price=PRICE, sleep_price=PRICE)

    assert told.calls == anyio.run(lambda: made(cells, tmp_path)) == 2 * len(SAMPLES)
    assert told.usage.output_tokens >= 64 * len(SAMPLES)


def test_a_guess_is_made_once_a_context_for_no_query_of_it_is_shown(tmp_path: Path) -> None:
    cells = [Cell(arm="guess", level="v0")]

    told = forecast(cells, SAMPLES, price=PRICE, sleep_price=PRICE)

    assert told.calls == anyio.run(lambda: made(cells, tmp_path)) == 4
    assert len(read_run(tmp_path).rows) == len(SAMPLES)


def test_parallel_sleeps_of_which_there_are_fewer_are_foretold_as_part_of_the_most() -> None:
    def cell(samples: int) -> Cell:
        return Cell(arm="sleep", level="v0", sleeping=Sleeping(samples=samples, temperature=0.8))

    told = forecast([cell(2), cell(10), cell(5), cell(1)], SAMPLES, price=None, sleep_price=None)

    sleeps = {line.what: line.calls for line in told.lines if line.what.startswith("sleep k") or " " in line.what[:6]}
    assert sleeps["sleep k10 temperature=0.8"] == 4 * 10 * ROUNDS
    assert sleeps["sleep temperature=0.8"] == 4 * ROUNDS
    assert "sleep k2 temperature=0.8" not in sleeps


def test_an_unknown_price_makes_the_sum_unknown_and_not_the_rest_of_it() -> None:
    cells = [Cell(arm="no_sleep", level="v0"), Cell(arm="sleep", level="v0", sleeping=Sleeping())]

    told = forecast(cells, SAMPLES, price=PRICE, sleep_price=None)

    assert told.cost_usd is None
    assert [line.cost_usd is None for line in told.lines] == [True, False, False]
    assert forecast(cells, SAMPLES, price=PRICE, sleep_price=PRICE).cost_usd == pytest.approx(
        (told.usage.input_tokens * 1.0 + told.usage.output_tokens * 10.0) / 1e6
    )


def test_what_a_run_took_so_far_goes_before_what_is_assumed() -> None:
    cell = Cell(arm="sleep", level="v0", sleeping=Sleeping())
    taken = [
        Row(cell=cell.id, sample_id="c0q0", is_correct=True, usage=Usage(output_tokens=70)),
        Row(cell=cell.id, sample_id="c0q1", is_correct=True, usage=Usage(output_tokens=80)),
        Row(cell=cell.id, sample_id="c1q0", error="UpstreamError: gone"),
    ]
    slept = [Slept(context_id="c0", sleeping=Sleeping(), calls=(Usage(output_tokens=30),) * 2)]

    told = forecast(
        [cell], SAMPLES, price=None, sleep_price=None, measured=run_of([cell], asks(1), taken, slept, price=None)
    )

    sleep, answers = told.lines
    assert (sleep.is_measured, sleep.calls, sleep.usage.output_tokens) == (True, 4 * 2, 4 * 60)
    assert (answers.is_measured, answers.usage.output_tokens) == (True, 75 * len(SAMPLES))


def test_nothing_is_foretold_of_nothing() -> None:
    told = forecast([], SAMPLES, price=None, sleep_price=None)

    assert (told.calls, told.usage, told.cost_usd) == (0, Usage(), 0.0)


def test_the_rows_of_a_whole_run_make_the_forecast_of_the_same_run_exact(tmp_path: Path) -> None:
    cells = [Cell(arm="no_sleep", level="v0"), Cell(arm="sleep", level="v0", sleeping=Sleeping())]
    calls = anyio.run(lambda: made(cells, tmp_path))
    run = read_run(tmp_path)

    told = forecast(cells, SAMPLES, price=PRICE, sleep_price=PRICE, measured=run)

    assert told.calls == calls
    spent = sum((row.usage for row in run.rows), Usage()) + sum((slept.usage for slept in run.slept), Usage())
    assert told.usage.output_tokens == spent.output_tokens
