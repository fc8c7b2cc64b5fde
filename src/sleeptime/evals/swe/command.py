"""`sleeptime eval make-swe-features`, and what `eval run e7` and `eval report` do for it: parse, call, print.

Models, numpy and altair are imported inside: `sleeptime --help` needs none of them.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sleeptime.core.errors import BudgetError, InputError
from sleeptime.evals import console
from sleeptime.evals.console import counting, note, print_json, stdout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sleeptime.core.plan import StrategyName
    from sleeptime.core.usage import PriceCard
    from sleeptime.evals.swe.experiment import Experiment, Run, Settings
    from sleeptime.evals.swe.findings import Reference
    from sleeptime.evals.swe.measuring import Folder
    from sleeptime.evals.swe.pull_requests import Target
    from sleeptime.models.protocol import Model
    from sleeptime.repositories.checkout import Repository

FOLDER = "sleeptime-runs"
REPORT = "report"
STEP_OUTPUT, STEP_RESULT = 200, 900
"""Output tokens of a step, and tokens of what its tools show, assumed by a forecast."""
INSTRUCTIONS, NOTES, SIBLING = 700, 1250, 2000
"""Tokens of a first prompt, of notes as long as they may be, and of a sibling as long as it is shown, assumed too."""


def make_swe_features(
    repository: Annotated[
        Path, typer.Argument(metavar="REPO", help="A git repository with its history.", exists=True, file_okay=False)
    ],
    lists: Annotated[
        Path | None,
        typer.Option(
            "--lists",
            help="A JSON list of pull requests (pr_number, base_commit, head_commit, changed_files, cluster); else "
            "they are found in the history.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    literal: Annotated[
        bool,
        typer.Option(
            "--literal/--strict",
            help="As the paper did it: siblings from any time, .py and .js files, targets without siblings kept. Or "
            "earlier siblings alone, chosen by the target's words.",
        ),
    ] = False,
    tip: Annotated[str, typer.Option("--tip", help="The commit whose history is searched.")] = "HEAD",
    limit: Annotated[
        int | None, typer.Option("--limit", help="Targets to keep, the latest ones.", min=1, show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help=f"File to write; else one under {FOLDER}/.", dir_okay=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make a dataset of pull requests from a git history, for experiment E7.

    A target is a pull request with three or more code files: the commit before it, its words, the files it modified,
    and its siblings. Pull requests are merges "Merge pull request #N" and squashes "… (#N)". Prints as well what
    naming files without any model reaches on it, because F1 over files is easy to win.

    For example:

      sleeptime eval make-swe-features path/to/repo --out features.jsonl

      sleeptime eval run e7 --repo path/to/repo --dataset features.jsonl --model openai:gpt-5-mini --dry-run
    """
    from sleeptime.evals.swe import baselines, pull_requests  # noqa: PLC0415 - the module says why
    from sleeptime.evals.swe.findings import references  # noqa: PLC0415 - the module says why
    from sleeptime.evals.swe.measuring import asked_of  # noqa: PLC0415 - the module says why
    from sleeptime.repositories.checkout import Repository  # noqa: PLC0415 - the module says why

    source = Repository(repository)
    requests, absent = pull_requests.read(lists, source) if lists else (pull_requests.merged(source, tip=tip), 0)
    targets = pull_requests.literal(requests) if literal else pull_requests.strict(requests)
    targets = targets[-limit:] if limit else targets
    if not targets:
        raise InputError(
            f"{len(requests)} pull requests were found in {repository}, and none of them makes a target: three code "
            "files, one of them modified" + ("." if literal else ", and an earlier sibling. Try --literal, or --lists.")
        )
    choice = targets[0].choice
    path = out or Path(FOLDER) / f"swe-features-{repository.resolve().name}-{choice}.jsonl"
    pull_requests.write(targets, path)
    with counting("scored without a model", len(targets)) as on_target:
        measured = baselines.measure(targets, source, on_target=on_target)
    found = references(measured, asked_of(targets))
    if as_json:
        print_json(
            {
                "file": str(path),
                "choice": choice,
                "pull_requests": len(requests),
                "commits_absent": absent,
                "targets": len(targets),
                "siblings": sum(len(target.siblings) for target in targets),
                "without_a_model": [asdict(each) for each in found],
            }
        )
        return
    typer.echo(path)
    _tell_references(found)
    note(
        f"{len(requests)} pull requests, {len(targets)} targets ({choice}) with "
        f"{sum(len(target.siblings) for target in targets) / len(targets):.1f} siblings on average."
        + (f" {absent} were left out, for their commits are not in the repository." if absent else "")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What `eval run e7` was given."""

    dataset: str | None
    repository: Path | None
    model: str
    sleep_model: str | None
    steps: str | None
    strategy: StrategyName | None
    limit: int | None
    max_cost: float | None
    prices: Path | None
    connections: int
    out: Path | None
    dry_run: bool
    as_json: bool


def run_e7(asking: Asking) -> None:
    """Measure E7, or foretell it, and print where it is kept."""
    from sleeptime.evals.runs.provenance import card_of, money_cap  # noqa: PLC0415 - the module says why
    from sleeptime.evals.swe import experiment, measuring, pull_requests  # noqa: PLC0415 - the module says why
    from sleeptime.repositories.checkout import Repository  # noqa: PLC0415 - the module says why

    if asking.repository is None or asking.dataset is None:
        raise InputError(
            "e7 needs --repo, a git repository, and --dataset, which `sleeptime eval make-swe-features REPO` writes."
        )
    chosen = experiment.load(steps=_steps(asking.steps), strategy=asking.strategy)
    source, file = Repository(asking.repository), Path(asking.dataset)
    targets = pull_requests.load(file)
    targets = targets[-asking.limit :] if asking.limit else targets
    cards = console.cards(asking.prices)
    names = asking.model, asking.sleep_model or asking.model
    priced = {name: card_of(name, cards) for name in names}
    cap = money_cap(asking.max_cost, chosen.max_cost_usd, priced)
    folder = asking.out or Path(FOLDER) / _slug(file.stem, *names)
    if asking.dry_run:
        _tell_forecast(chosen, targets, priced[names[0]], cap, as_json=asking.as_json)
        return
    settings = measuring.settings_of(
        chosen,
        targets,
        file=file,
        repository=asking.repository,
        models=names,
        prices=(priced[names[0]], priced[names[1]]),
    )
    note(f"{asking.model} on {len(targets)} pull requests of {asking.repository}, {targets[0].choice} siblings.")
    note(f"Kept in {folder}; run the same again to go on after a stop.")
    opened = measuring.Folder(folder, settings, max_cost_usd=cap)
    try:
        with counting("measured", len(chosen.cells) * len(targets)) as on_row:
            asyncio.run(_measure(opened, source, names, settings, chosen, targets, asking.connections, on_row))
    finally:
        opened.close()
    _tell_run(measuring.read_run(folder), folder, as_json=asking.as_json)


def report_e7(folder: Path, out: Path) -> Path:
    """Compute every figure of a run of E7, and write them on one page; give it."""
    from sleeptime.evals.swe import experiment, measuring, report  # noqa: PLC0415 - the module says why
    from sleeptime.evals.swe.findings import analyse  # noqa: PLC0415 - the module says why

    run = measuring.read_run(folder)
    return report.write(run, analyse(run), out, experiment=experiment.load())


def findings_of(folder: Path) -> dict[str, Any]:  # Any: JSON
    """Everything that was found in a run of E7, as JSON takes it."""
    from sleeptime.evals.swe.findings import analyse  # noqa: PLC0415 - the module says why
    from sleeptime.evals.swe.measuring import read_run  # noqa: PLC0415 - the module says why

    return asdict(analyse(read_run(folder)))


def is_e7(folder: Path) -> bool:
    """Whether *folder* is that of a run of E7."""
    from sleeptime.evals.swe.measuring import is_run  # noqa: PLC0415 - the module says why

    return is_run(folder)


async def _measure(
    folder: Folder,
    repository: Repository,
    names: tuple[str, str],
    settings: Settings,
    experiment: Experiment,
    targets: Sequence[Target],
    connections: int,
    on_row: Callable[[], None],
) -> None:
    from sleeptime.evals.swe import baselines, measuring  # noqa: PLC0415 - the module says why
    from sleeptime.models import open_model  # noqa: PLC0415 - the module says why

    for each in await asyncio.to_thread(baselines.measure, targets, repository):
        folder.keep_baseline(each)
    async with AsyncExitStack() as stack:
        opened: dict[str, Model] = {}
        for name in dict.fromkeys(names):
            opened[name] = await open_model(name, environ=os.environ)
            stack.push_async_callback(opened[name].aclose)
        models = measuring.Models(test=opened[names[0]], sleep=opened[names[1]])
        measurer = measuring.Measurer(folder, repository, models, settings, on_row=on_row)
        await measurer.measure(experiment.cells, targets, concurrency=connections)


def _tell_forecast(
    experiment: Experiment, targets: Sequence[Target], price: PriceCard | None, cap: float | None, *, as_json: bool
) -> None:
    """Say what a run may take: every step used, and each reading as much as is assumed."""
    from sleeptime.core import policy  # noqa: PLC0415 - the module says why
    from sleeptime.core.usage import Usage  # noqa: PLC0415 - the module says why

    siblings = sum(len(target.siblings) for target in targets) / len(targets)
    known = {"no_sleep": 0, "sleep": NOTES, "siblings": round(siblings * SIBLING)}
    lines: list[dict[str, Any]] = []  # Any: JSON
    for cell in experiment.cells:
        calls = cell.steps * len(targets)
        first = INSTRUCTIONS + known[cell.arm]
        grown = sum(first + step * (STEP_RESULT + STEP_OUTPUT) for step in range(cell.steps))
        lines.append(_line(cell.id, calls, grown * len(targets), calls * STEP_OUTPUT))
    if any(cell.arm == "sleep" for cell in experiment.cells):
        budget, strategy = experiment.plan.budget, experiment.plan.strategy
        each = budget.max_rounds * policy.calls_of_round(strategy)
        calls = each * len(targets)
        looked = policy.MOST_LOOKS * (STEP_RESULT + STEP_OUTPUT) // 2
        shown = INSTRUCTIONS + NOTES + round(siblings * SIBLING) + looked
        lines.append(_line("sleeps", calls, calls * shown, calls * STEP_OUTPUT))
    total = Usage(
        input_tokens=sum(line["input_tokens"] for line in lines),
        output_tokens=sum(line["output_tokens"] for line in lines),
    )
    cost = None if price is None else price.cost_usd(total)
    if as_json:
        print_json({"lines": lines, "cost_usd": cost, "max_cost_usd": cap, "targets": len(targets)})
        return
    table = console.table("what", "calls", "input tokens", "output tokens")
    for line in [
        *lines,
        _line("in all", sum(each["calls"] for each in lines), total.input_tokens, total.output_tokens),
    ]:
        table.add_row(line["what"], *(f"{line[key]:,}" for key in ("calls", "input_tokens", "output_tokens")))
    stdout.print(table)
    note(
        f"If every step is used, and each writes {STEP_OUTPUT} tokens and reads {STEP_RESULT}, which is assumed: "
        + ("at an unknown price." if cost is None else f"{cost:.2f} USD without any discount for cached input.")
    )
    note("No cap on money, for no price is known." if cap is None else f"The cap is {cap:g} USD. See --max-cost.")


def _line(what: str, calls: int, input_tokens: int, output_tokens: int) -> dict[str, Any]:  # Any: JSON
    return {"what": what, "calls": calls, "input_tokens": input_tokens, "output_tokens": output_tokens}


def _tell_run(run: Run, folder: Path, *, as_json: bool) -> None:
    missing = [row for row in run.rows if row.score is None]
    told: dict[str, Any] = {  # Any: JSON
        "folder": str(folder),
        "rows": len(run.rows),
        "missing": len(missing),
        "failed_sleeps": sum(bool(slept.error) for slept in run.slept),
        "paid_calls": run.paid_calls,
        "spent_usd": run.spent_usd,
        "errors": sorted({row.error for row in missing})[:10],
    }
    if as_json:
        print_json(told)
    else:
        typer.echo(folder)
        spent = "unknown" if run.spent_usd is None else f"{run.spent_usd:.4f}"
        note(
            f"{told['rows']} answers, {told['missing']} of them missing; {len(run.slept)} sleeps, "
            f"{told['failed_sleeps']} of them failed; {run.paid_calls:,} calls paid, {spent} USD."
        )
        for error in told["errors"][:3]:
            note(f"Missing: {error}")
        note(f"Next: sleeptime eval report {folder}")
    if len(missing) == len(run.rows):
        raise typer.Exit(1)


def _tell_references(found: Sequence[Reference]) -> None:
    from sleeptime.evals.swe.report import REFERENCE_HEAD, reference_lines  # noqa: PLC0415 - the module says why

    table = console.table(*REFERENCE_HEAD)
    for line in reference_lines(found):
        table.add_row(*line)
    wide = console.stderr if console.stderr.is_terminal else Console(stderr=True, width=console.WIDE)
    wide.print(table, markup=False, highlight=False)


def _steps(written: str | None) -> list[int] | None:
    if written is None:
        return None
    try:
        return [int(steps) for steps in written.split(",")]
    except ValueError:
        raise BudgetError(f"The budgets of e7 are steps, such as --levels 4,8,16; not {written!r}.") from None


def _slug(dataset: str, model: str, sleep_model: str) -> str:
    told = ["e7", dataset, model, f"sleep-{sleep_model}" if sleep_model != model else ""]
    return re.sub(r"[^\w.]+", "-", " ".join(filter(None, told))).strip("-")
