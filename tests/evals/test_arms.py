"""What each arm shows a model, at which temperature and with which seed; and what is kept when something fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from runs import CARD, PROVENANCE

from sleeptime.core.errors import NotSupportedError, RequestRejectedError
from sleeptime.core.messages import Completion, Message, ToolCall
from sleeptime.core.usage import Usage
from sleeptime.evals.data.datasets import Sample
from sleeptime.evals.runs.arms import Measurer, Models
from sleeptime.evals.runs.results import Arm, Cell, Run, Sleeping
from sleeptime.evals.runs.run_folder import Settings, open_folder, read_run
from sleeptime.models import ScriptedModel
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.scripted import Reply

pytestmark = pytest.mark.anyio

FRUIT = ("plums", "pears", "figs", "limes", "dates", "kiwis")
TOKENS = Usage(input_tokens=20, output_tokens=4)


def samples(contexts: int = 6, *, per_cluster: int = 2, queries: int = 2) -> list[Sample]:
    return [
        Sample(
            id=f"c{c}q{q}",
            context_id=f"c{c}",
            cluster=f"k{c // per_cluster}",
            context=f"The shelf of {FRUIT[c]} holds {c + 3} jars.",
            question=f"Question {q}: how many jars of {FRUIT[c]}?",
            target=str(c + 3),
        )
        for c in range(contexts)
        for q in range(queries)
    ]


def noted(text: str) -> str:
    """What a sleep on the shelf in *text* notes."""
    (fruit,) = [each for each in FRUIT if f"shelf of {each}" in text]
    return f"Noted of {fruit}."


def thinking(messages: Sequence[Message], options: Options) -> Reply:
    """Note what the shelf holds, else answer."""
    if not options.tools:
        return "The answer is 3."
    arguments = {"add": [{"kind": "inference", "text": noted(shown(messages))}], "done": True}
    call = ToolCall(name="revise_notes", arguments=arguments)
    return Completion(text="", usage=TOKENS, model="m", tool_calls=(call,))


def shown(messages: Sequence[Message]) -> str:
    return "\n".join(message.content for message in messages)


class Bench:
    """A measurer over a folder, with one model that answers and one that sleeps."""

    def __init__(self, path: Path, given: Sequence[Sample], *, sleeper: ScriptedModel | None = None) -> None:
        self.path, self.samples = path, given
        self.answerer = ScriptedModel(thinking, abilities=Abilities(log_probs=True))
        self.sleeper = sleeper or ScriptedModel(thinking, name="sleeper")
        settings = Settings(experiments=(), cells=(), asked=(), price=CARD, sleep_price=CARD, provenance=PROVENANCE)
        self.told = 0
        self.measurer = Measurer(
            given,
            open_folder(path, settings, max_cost_usd=None),
            price=CARD,
            sleep_price=CARD,
            on_row=self._tell,
        )
        self.models = Models(test=self.answerer, sleep=self.sleeper, scoring=self.answerer)

    def _tell(self) -> None:
        self.told += 1

    async def ask(self, cell: Cell, sample: Sample | None = None, draw: int = 0) -> str:
        """Answer, and say what the model was shown."""
        await self.measurer.answer(self.models, cell, sample or self.samples[0], draw)
        return shown(self.answerer.calls[-1].messages)

    @property
    def run(self) -> Run:
        return read_run(self.path)


def slept(arm: Arm, **more: int) -> Cell:
    return Cell(arm=arm, level="v0", sleeping=Sleeping(**more))


CONTEXT, QUESTION, NOTE = "The shelf of plums holds 3 jars.", "Question 0: how many jars of plums?", "Noted of plums."


@pytest.mark.parametrize(
    ("cell", "context", "question", "note"),
    [
        (Cell(arm="no_sleep", level="v0"), True, True, False),
        (Cell(arm="draws", level="v0", draws=2), True, True, False),
        (Cell(arm="guess", level="v0"), True, False, False),
        (slept("sleep"), True, True, True),
        (slept("learned"), False, True, True),
        (slept("merged", samples=2), True, True, True),
        (slept("half"), True, True, True),
        (slept("placebo"), True, True, False),
        (slept("restatement"), True, True, False),
    ],
    ids=lambda value: value.id if isinstance(value, Cell) else "",
)
async def test_each_arm_shows_what_it_says(
    tmp_path: Path, cell: Cell, context: bool, question: bool, note: bool
) -> None:
    text = await Bench(tmp_path, samples()).ask(cell)

    assert (CONTEXT in text, QUESTION in text, NOTE in text) == (context, question, note)


@pytest.mark.parametrize("arm", ["no_sleep", "draws", "guess"])
async def test_an_arm_without_sleep_sleeps_on_nothing(tmp_path: Path, arm: Arm) -> None:
    bench = Bench(tmp_path, samples())
    await bench.ask(Cell(arm=arm, level="v0"))

    assert bench.sleeper.calls == []
    assert bench.run.slept == ()


@pytest.mark.parametrize(("contexts", "per_cluster"), [(6, 1), (6, 2), (6, 3), (5, 2), (4, 3)])
async def test_a_placebo_is_never_of_ones_own_context_or_its_cluster(
    tmp_path: Path, contexts: int, per_cluster: int
) -> None:
    given = samples(contexts, per_cluster=per_cluster)
    bench = Bench(tmp_path, given)
    for sample in given:
        text = await bench.ask(slept("placebo"), sample)
        (whose,) = [each for each in given[::2] if noted(each.context) in text]
        assert whose.context_id != sample.context_id
        assert whose.cluster != sample.cluster


async def test_of_one_cluster_alone_a_placebo_is_of_another_context(tmp_path: Path) -> None:
    given = samples(3, per_cluster=3)
    bench = Bench(tmp_path, given)

    assert [noted(given[i].context) in await bench.ask(slept("placebo")) for i in (0, 2, 4)] == [False, True, False]


async def test_of_one_context_alone_there_is_no_placebo(tmp_path: Path) -> None:
    bench = Bench(tmp_path, samples(1))

    with pytest.raises(NotSupportedError, match=r"notes of another one\. Use a larger --limit"):
        await bench.ask(slept("placebo"))

    assert bench.answerer.calls == []
    assert list(bench.run.not_measured) == ["placebo/v0"]


async def test_a_restatement_is_as_long_as_the_notes(tmp_path: Path) -> None:
    bench = Bench(tmp_path, samples())
    told = await bench.ask(slept("sleep"))
    again = await bench.ask(slept("restatement"))

    start = told.index(NOTE)
    assert len(again) == len(told)
    assert again[start : start + len(NOTE)] == CONTEXT[: len(NOTE)]
    assert again[:start] == told[:start]
    assert again[start + len(NOTE) :] == told[start + len(NOTE) :]


async def test_each_draw_has_a_seed_of_its_own_and_the_temperature_of_its_cell(tmp_path: Path) -> None:
    bench = Bench(tmp_path, samples())
    cell = Cell(arm="draws", level="v0", draws=3, temperature=0.8)
    for draw in range(3):
        await bench.ask(cell, draw=draw)

    assert [(call.options.seed, call.options.temperature) for call in bench.answerer.calls] == [
        (0, 0.8),
        (1, 0.8),
        (2, 0.8),
    ]
    assert sorted(row.draw for row in bench.run.rows) == [0, 1, 2]


async def test_a_single_answer_is_asked_for_as_a_user_would_ask(tmp_path: Path) -> None:
    bench = Bench(tmp_path, samples())
    await bench.ask(Cell(arm="no_sleep", level="v0"))

    (call,) = bench.answerer.calls
    assert (call.options.seed, call.options.temperature) == (None, 0.0)


async def test_samples_at_the_same_time_share_one_sleep_of_their_context(tmp_path: Path) -> None:
    bench = Bench(tmp_path, samples(queries=5))
    cells = [slept("sleep"), slept("learned"), slept("restatement")]
    async with anyio.create_task_group() as group:
        for cell in cells:
            for sample in bench.samples:
                group.start_soon(bench.measurer.answer, bench.models, cell, sample, 0)

    assert Counter(noted(shown(call.messages)) for call in bench.sleeper.calls) == {
        f"Noted of {fruit}.": 1 for fruit in FRUIT
    }
    assert len(bench.run.slept) == 6
    assert len(bench.run.rows) == bench.told == 6 * 5 * 3
    assert all(each.calls == (TOKENS,) and each.cost_usd for each in bench.run.slept)


async def test_another_way_to_sleep_is_another_sleep(tmp_path: Path) -> None:
    bench = Bench(tmp_path, samples())
    await bench.ask(slept("sleep"))
    await bench.ask(slept("sleep", max_characters=100))

    assert len(bench.run.slept) == 2


def failing(error: Exception, *, on: str) -> ScriptedModel:
    def script(messages: Sequence[Message], options: Options) -> Reply:
        return error if on in shown(messages) else thinking(messages, options)

    return ScriptedModel(script, name="sleeper")


REJECTED = RequestRejectedError("sleeper", 400, "not today")


@pytest.mark.parametrize("error", [REJECTED, ValueError("a bug of a client")])
async def test_a_sleep_that_failed_makes_all_its_queries_missing_and_is_not_tried_again(
    tmp_path: Path, error: Exception
) -> None:
    bench = Bench(tmp_path, samples(queries=3), sleeper=failing(error, on="shelf of plums"))
    for sample in bench.samples:
        if sample.context_id == "c0":
            with pytest.raises((RequestRejectedError, ExceptionGroup)):
                await bench.ask(slept("sleep"), sample)
        else:
            await bench.ask(slept("sleep"), sample)

    missing = [row for row in bench.run.rows if row.is_correct is None]
    assert sorted(row.sample_id for row in missing) == ["c0q0", "c0q1", "c0q2"]
    assert all(str(error) in row.error for row in missing)
    (failed,) = [each for each in bench.run.slept if each.error]
    assert (failed.context_id, failed.calls) == ("c0", ())
    assert sum("shelf of plums" in shown(call.messages) for call in bench.sleeper.calls) == 1
    assert not any("shelf of plums" in shown(call.messages) for call in bench.answerer.calls)


async def test_what_a_failed_sleep_took_is_kept(tmp_path: Path) -> None:
    def script(messages: Sequence[Message], _options: Options) -> Reply:
        if "This is round 2" in shown(messages):
            return REJECTED
        call = ToolCall(name="revise_notes", arguments={"add": [{"kind": "plan", "text": "more"}], "done": False})
        return Completion(text="", usage=TOKENS, model="m", tool_calls=(call,))

    bench = Bench(tmp_path, samples(), sleeper=ScriptedModel(script, name="sleeper"))
    with pytest.raises(RequestRejectedError):
        await bench.ask(slept("sleep"))

    (failed,) = bench.run.slept
    assert failed.calls == (TOKENS,)
    assert failed.cost_usd == pytest.approx(CARD.cost_usd(TOKENS))


async def test_what_a_model_cannot_do_is_kept_once_as_not_measured_and_without_rows(tmp_path: Path) -> None:
    bench = Bench(tmp_path, samples())
    cell = Cell(arm="no_sleep", level="force:64")
    for sample in bench.samples:
        with pytest.raises(NotSupportedError, match="budget forcing"):
            await bench.ask(cell, sample)

    assert bench.run.rows == ()
    assert list(bench.run.not_measured) == [cell.id]
    assert "budget forcing" in bench.run.not_measured[cell.id]
    assert bench.told == len(bench.samples)
    assert await bench.ask(Cell(arm="no_sleep", level="v0"))


async def test_a_right_a_wrong_and_a_failed_answer_are_three_things(tmp_path: Path) -> None:
    bench = Bench(tmp_path, samples())
    bench.answerer = ScriptedModel(["The answer is 3.", "The answer is 4.", REJECTED])
    bench.models = replace(bench.models, test=bench.answerer)
    cell = Cell(arm="draws", level="v0", draws=3)
    await bench.ask(cell, draw=0)
    await bench.ask(cell, draw=1)
    with pytest.raises(RequestRejectedError):
        await bench.ask(cell, draw=2)

    told = {row.draw: (row.is_correct, row.answer) for row in bench.run.rows}
    assert told == {0: (True, "3"), 1: (False, "4"), 2: (None, None)}


async def test_how_probable_a_query_was_is_measured_from_its_context_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, samples())

    surprise = await bench.measurer.surprise(bench.models, bench.samples[0])

    assert surprise.log_prob is not None
    assert surprise.log_prob < 0
    assert surprise.tokens == len(QUESTION.split())
    assert bench.run.surprises == (surprise,)


async def test_why_a_log_probability_is_missing_is_told_in_words(tmp_path: Path) -> None:
    bench = Bench(tmp_path, samples())
    bench.models = replace(bench.models, scoring=bench.sleeper)

    with pytest.raises(NotSupportedError):
        await bench.measurer.surprise(bench.models, bench.samples[0])

    (kept,) = bench.run.surprises
    assert kept.log_prob is None
    assert kept.error == "NotSupportedError: sleeper cannot give log-probabilities."
