"""Experiments as Inspect tasks: a sample is one query in one cell, an epoch is one draw.

    inspect eval sleeptime/e1 --model sleeptime/tiny -T contexts=20
    inspect eval sleeptime/e1 --model openai/gpt-5-mini -T dataset=gsm-symbolic-p2 -T contexts=50

Solver and scorer are thin: what is measured is `arms.Measurer`, and its rows are the
result. Logs are for reading, with `inspect view`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset
from inspect_ai.dataset import Sample as InspectSample
from inspect_ai.model import ChatMessageAssistant, ModelOutput, get_model
from inspect_ai.scorer import Score, Scorer, Target, grouped, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

from sleeptime.evals.data.datasets import GENERATED, Sample, load
from sleeptime.evals.data.splitter import SplitMode
from sleeptime.evals.runs import experiments
from sleeptime.evals.runs.arms import Measurer, Models
from sleeptime.evals.runs.bridge import Inspected
from sleeptime.evals.runs.provenance import Names, money_cap, settings_of
from sleeptime.evals.runs.results import Cell, first_queries
from sleeptime.evals.runs.run_folder import RUNS, folder_name, open_folder

SURPRISE = "surprise"
"""The cell id of a task that measures log P(query | context)."""

MeasurerOf = Callable[[Models], Measurer]


def task_of(
    name: str, cells: Sequence[Cell], samples: Sequence[Sample], measurer_of: MeasurerOf, *, log_prob: bool = False
) -> Task:
    """One task that measures *cells*, and with *log_prob* how probable each query was.

    The draws of one cell are epochs; those of several, which differ in how many, are samples of their own.
    """
    is_one = len(cells) == 1 and not log_prob
    asked = [
        _inspect_sample(cell.id, sample, draw)
        for cell in cells
        for draw in ([None] if is_one else range(cell.draws))
        for sample in first_queries(cell, samples)
    ]
    if log_prob:
        asked += [_inspect_sample(SURPRISE, sample, 0) for sample in samples]
    return Task(
        name=name,
        dataset=MemoryDataset(asked, name=name),
        solver=_measuring({cell.id: cell for cell in cells}, samples, measurer_of),
        scorer=kept(),
        epochs=Epochs(cells[0].draws, "mean") if is_one else None,
        fail_on_error=False,
    )


def _inspect_sample(cell: str, sample: Sample, draw: int | None) -> InspectSample:
    return InspectSample(
        id=" ".join(filter(None, (cell, sample.id, f"draw {draw}" if draw else ""))),
        input=sample.question,
        target=sample.target,
        metadata={
            "cell": cell,
            "sample": sample.id,
            "draw": draw,
            "context": sample.context_id,
            "cluster": sample.cluster,
            "stratum": sample.stratum,
        },
    )


def _measuring(cells: dict[str, Cell], samples: Sequence[Sample], measurer_of: MeasurerOf) -> Solver:
    by_id = {sample.id: sample for sample in samples}

    @solver(name="measuring")
    def measuring() -> Solver:  # what it is given stays out of its arguments, which Inspect writes to the log
        async def solve(state: TaskState, generate: Generate) -> TaskState:  # noqa: ARG001 - Inspect names it
            models = await _models()
            measurer = measurer_of(models)
            sample = by_id[state.metadata["sample"]]
            if state.metadata["cell"] == SURPRISE:
                surprise = await measurer.surprise(models, sample)
                state.metadata |= {"value": surprise.log_prob, "tokens": surprise.tokens}
                return state
            draw = state.metadata["draw"]
            cell = cells[state.metadata["cell"]]
            row = await measurer.answer(models, cell, sample, state.epoch - 1 if draw is None else draw)
            state.messages.append(ChatMessageAssistant(content=row.text))
            state.output = ModelOutput.from_content(models.test.name, row.text)
            state.metadata |= {"value": float(bool(row.is_correct)), "answer": row.answer, **asdict(row.usage)}
            return state

        return solve

    return measuring()


@scorer(metrics=[grouped(mean(), "cell"), mean(), stderr(cluster="cluster")])
def kept() -> Scorer:
    """Give Inspect the score that the measurer kept."""

    async def score(state: TaskState, target: Target) -> Score | None:  # noqa: ARG001 - Inspect names it
        value = state.metadata.get("value")
        if value is None:
            return None
        return Score(value=value, answer=state.metadata.get("answer"))

    return score


async def _models() -> Models:
    """The models of this task: the one given, and those given for the roles `sleep` and `scoring`."""
    given = get_model()
    test = await Inspected.of(given)
    roles = [get_model(role=role, default=given) for role in ("sleep", "scoring")]
    sleep, scoring = [test if role is given else await Inspected.of(role) for role in roles]
    return Models(test=test, sleep=sleep, scoring=scoring)


def names_of(models: Models) -> Names:
    """What the models are called."""
    return Names(
        test=models.test.name,
        sleep=models.sleep.name,
        scoring=models.scoring.name,
        prompt_set=models.test.abilities.prompt_set,
    )


def _experiment(name: str, dataset: str, contexts: int, levels: str, seed: int, split: SplitMode, run: str) -> Task:
    """One experiment as one task, whose rows are kept in the folder *run*, else in one named after what is asked."""
    experiment = experiments.load(name, levels=levels.split(",") if levels else None)
    chosen = load(dataset or experiment.dataset, seeds=(seed,), contexts=contexts, split=split)
    is_drawn = chosen.name in GENERATED
    seeds = (seed,) if is_drawn else ()
    opened: list[Measurer] = []

    def measurer_of(models: Models) -> Measurer:
        if not opened:
            names = names_of(models)
            settings = settings_of(
                [experiment], chosen, names, seeds=seeds, limit=contexts, split="" if is_drawn else split
            )
            told = folder_name(f"inspect {name}", names.test, names.sleep, chosen.name, contexts, seeds)
            opened.append(
                Measurer(
                    chosen.samples,
                    open_folder(
                        Path(run) if run else Path(RUNS) / told,
                        settings,
                        max_cost_usd=money_cap(
                            None,
                            experiment.max_cost_usd,
                            {names.test: settings.price, names.sleep: settings.sleep_price},
                        ),
                    ),
                    price=settings.price,
                    sleep_price=settings.sleep_price,
                )
            )
        return opened[0]

    return task_of(name, experiment.cells, chosen.samples, measurer_of, log_prob=experiment.log_prob)


def _named(name: str) -> Callable[..., Task]:
    @task(name=name)
    def experiment(
        dataset: str = "",
        contexts: int = 50,
        levels: str = "",
        seed: int = 1,
        split: SplitMode = "hoist",
        run: str = "",
    ) -> Task:
        """Measure one experiment (see `sleeptime eval list`) on the first *contexts* of *dataset*."""
        return _experiment(name, dataset, contexts, levels, seed, split, run)

    return experiment


e1, e2, e3, e4, e5, e6, e8 = [_named(name) for name in ("e1", "e2", "e3", "e4", "e5", "e6", "e8")]
