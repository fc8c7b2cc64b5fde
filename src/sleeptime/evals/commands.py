"""`sleeptime eval …`: parse, call, print.

Inspect, numpy and altair are imported inside commands: `sleeptime --help` needs none of them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from sleeptime.core.errors import InputError
from sleeptime.evals.make_queries_command import make_queries

if TYPE_CHECKING:
    from sleeptime.evals.forecast import Forecast
    from sleeptime.evals.results import Run
    from sleeptime.evals.runner import Wanted
    from sleeptime.evals.splitter import SplitMode

app = typer.Typer(
    help="Reproduce the paper's experiments, or find out whether sleeping pays on your own data.\n\n"
    "First steps, offline, on the tiny model that ships:\n\n"
    "  sleeptime eval list\n\n"
    "  sleeptime eval run e1 --model tiny --limit 50\n\n"
    "  sleeptime eval report sleeptime-runs/stateful-chains-tiny-limit-50-seeds-1\n\n"
    "Needs the extra `eval`: pip install 'sleeptime[eval]'.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
stdout = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 160)
stderr = Console(stderr=True)

LOGGED_TENTHS = 20
TINY_DATASET = "stateful-chains"
"""The tiny model speaks no English: it is asked about what it was made for, unless told otherwise."""

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="provider:model, URL#model, gguf:/path/file.gguf, tiny, or a model of Inspect's such as vllm/NAME.",
        envvar="SLEEPTIME_MODEL",
    ),
]
SleepModel = Annotated[
    str | None,
    typer.Option("--sleep-model", help="The one that sleeps; else the same.", envvar="SLEEPTIME_SLEEP_MODEL"),
]
ScoringModel = Annotated[
    str | None,
    typer.Option("--scoring-model", help="The one that says how predictable a query was (E6): tiny or a gguf: file."),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Where the files are; else $SLEEPTIME_DATA, else they are downloaded.", exists=True),
]
Seeds = Annotated[str, typer.Option("--seeds", help="Seeds of generated contexts, as 1,2,3; each draws its own.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Contexts, of each seed.", min=1, show_default=False)]
MaxCost = Annotated[
    float | None,
    typer.Option(
        "--max-cost",
        help="Cap on money in US dollars, checked before each call; else that of the experiments.",
        min=0,
        show_default=False,
    ),
]
Prices = Annotated[Path | None, typer.Option("--prices", help="TOML file of price cards.", exists=True, dir_okay=False)]
Levels = Annotated[
    str | None,
    typer.Option(
        "--levels",
        help="Budgets in place of the experiment's, cheapest first, as low,medium,high or 0,2,4 or force:64,force:512.",
        show_default=False,
    ),
]
Split = Annotated[
    str,
    typer.Option("--split", help="How a problem is cut into context and query: hoist, sentence, or literal."),
]
Connections = Annotated[int, typer.Option("--connections", help="Calls at the same time.", min=1)]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the experiments with their claims, and the datasets."""
    _check_installed()
    from sleeptime.evals import datasets, experiments  # noqa: PLC0415 - the module says why

    known = [experiments.load(name) for name in experiments.names()]
    if as_json:
        _print_json(
            {
                "experiments": [
                    {"id": each.id, "title": each.title, "claim": each.claim.strip(), "paper": each.paper.strip()}
                    for each in known
                ],
                "datasets": dict(datasets.NAMES),
            }
        )
        return
    for each in known:
        stdout.print(f"[bold]{each.id}[/bold]  {each.title}", highlight=False)
        stdout.print(f"    claim  {each.claim.strip()}", highlight=False, markup=False)
        stdout.print(f"    paper  {each.paper.strip()}", highlight=False, markup=False)
        stdout.print(
            f"    {len(each.cells)} cells, on {each.dataset}, cap {each.max_cost_usd:g} USD",
            style="dim",
            highlight=False,
        )
    stdout.print("\n[bold]datasets[/bold]")
    for name, words in datasets.NAMES.items():
        stdout.print(f"    {name:<18}{words}", highlight=False, markup=False)


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(metavar="EXPERIMENT…", help="e1 e2 e3 e4 e5 e6 e8, or all.")],
    model: ModelName,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="A name that `list` shows, or your own JSONL file.", show_default=False),
    ] = None,
    sleep_model: SleepModel = None,
    scoring_model: ScoringModel = None,
    limit: Limit = None,
    queries: Annotated[
        int | None, typer.Option("--queries", help="Queries of each generated context.", min=1, show_default=False)
    ] = None,
    levels: Levels = None,
    seeds: Seeds = "1",
    split: Split = "hoist",
    data: Data = None,
    max_cost: MaxCost = None,
    prices: Prices = None,
    connections: Connections = 16,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run; else one under sleeptime-runs/.", file_okay=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print calls, tokens and money; spend nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Run experiments on a model.

    Experiments that ask for the same share it. Run the same again after a crash, a cap or a failed call, and
    it goes on: nothing that was paid for is paid for twice.

    For example:

      sleeptime eval run e1 --model openai:gpt-5-mini --limit 50 --dry-run

      sleeptime eval run e1 e3 e5 --model tiny --limit 100 --seeds 1,2,3
    """
    _check_installed()
    from sleeptime.evals import datasets, experiments, runner  # noqa: PLC0415 - the module says why
    from sleeptime.evals.forecast import forecast  # noqa: PLC0415 - the module says why
    from sleeptime.evals.run_folder import read_if_begun  # noqa: PLC0415 - the module says why
    from sleeptime.models.prices import load_cards  # noqa: PLC0415 - the module says why

    wanted_names = experiments.names() if names == ["all"] else names
    chosen_levels = [level.strip() for level in levels.split(",")] if levels else None
    chosen = [experiments.load(name, levels=chosen_levels) for name in wanted_names]
    drawn_from = tuple(_seeds(seeds))
    source = dataset or (TINY_DATASET if model == "tiny" else chosen[0].dataset)
    drawn = datasets.load(
        source, data=data, split=_split(split), seeds=drawn_from, contexts=limit, queries_per_context=queries
    )
    wanted = asyncio.run(
        runner.plan_run(
            chosen,
            drawn,
            model=model,
            sleep_model=sleep_model,
            scoring_model=scoring_model,
            out=out,
            seeds=drawn_from if source == TINY_DATASET else (),
            limit=limit,
            split=split,
            max_cost_usd=max_cost,
            cards=load_cards(prices) if prices else (),
        )
    )
    if dry_run:
        foretold = forecast(
            wanted.cells,
            drawn.samples,
            price=wanted.settings.price,
            sleep_price=wanted.settings.sleep_price,
            log_prob=wanted.log_prob,
            measured=read_if_begun(wanted.folder),
        )
        _tell_forecast(wanted, foretold, as_json)
        return
    _tell_plan(wanted)
    with _bar(wanted.steps) as on_row:
        done = runner.run(wanted, concurrency=connections, on_row=on_row)
    _tell_run(wanted, done, as_json)


def _tell_plan(wanted: Wanted) -> None:
    source = wanted.settings.provenance
    contexts = len({each.context_id for each in wanted.settings.asked})
    cap = "no cap, for no price is known" if wanted.max_cost_usd is None else f"at most {wanted.max_cost_usd:g} USD"
    _note(f"{source.model} on {source.dataset}: {contexts} contexts, {len(wanted.settings.asked)} queries, {cap}.")
    _note(f"Kept in {wanted.folder}; run the same again to go on after a stop.")
    for what, why in wanted.left_out.items():
        _note(f"Left out: {what}: {why}.")


def _tell_forecast(wanted: Wanted, foretold: Forecast, as_json: bool) -> None:
    if as_json:
        _print_json(
            {
                "folder": str(wanted.folder),
                "calls": foretold.calls,
                "input_tokens": foretold.usage.input_tokens,
                "output_tokens": foretold.usage.output_tokens,
                "cost_usd": foretold.cost_usd,
                "max_cost_usd": wanted.max_cost_usd,
                "left_out": wanted.left_out,
                "lines": [dataclasses.asdict(line) for line in foretold.lines],
            }
        )
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("what")
    for column in ("calls", "input tokens", "output tokens", "USD"):
        table.add_column(column, justify="right")
    table.add_column("output")
    for line in foretold.lines:
        cost = "unknown" if line.cost_usd is None else f"{line.cost_usd:.3f}"
        told = "measured" if line.is_measured else "assumed"
        tokens = (f"{line.usage.input_tokens:,}", f"{line.usage.output_tokens:,}")
        table.add_row(line.what, f"{line.calls:,}", *tokens, cost, told)
    usage, total = foretold.usage, foretold.cost_usd
    table.add_row(
        "in all",
        f"{foretold.calls:,}",
        f"{usage.input_tokens:,}",
        f"{usage.output_tokens:,}",
        "unknown" if total is None else f"{total:.2f}",
        "",
        style="bold",
    )
    stdout.print(table)
    _tell_plan(wanted)
    _note(
        "Input is estimated on the high side and at its full price. Output marked as assumed is a guess by level: "
        "run with a small --limit, then look again at that run with --dry-run for measured figures."
    )
    if wanted.max_cost_usd is not None and total is not None and total > wanted.max_cost_usd:
        _note(
            f"The forecast is above the cap of {wanted.max_cost_usd:g} USD: the run would stop there. See --max-cost."
        )


def _tell_run(wanted: Wanted, done: Run, as_json: bool) -> None:
    missing = [row for row in done.rows if row.is_correct is None]
    failed = [slept for slept in done.slept if slept.error]
    spent = "unknown" if done.spent_usd is None else f"{done.spent_usd:.4f}"
    if as_json:
        _print_json(
            {
                "folder": str(wanted.folder),
                "rows": len(done.rows),
                "missing": len(missing),
                "failed_sleeps": len(failed),
                "paid_calls": done.paid_calls,
                "spent_usd": done.spent_usd,
                "errors": sorted({row.error for row in missing})[:10],
                "wall_s": done.provenance.wall_s,
            }
        )
    else:
        typer.echo(wanted.folder)
        _note(
            f"{len(done.rows):,} answers, {len(missing):,} of them missing; {len(done.slept):,} sleeps, "
            f"{len(failed):,} of them failed; {done.paid_calls:,} calls paid, {spent} USD; "
            f"{done.provenance.wall_s:,.0f} s in all."
        )
        for error in sorted({row.error for row in missing})[:3]:
            _note(f"Missing: {error}")
        _note(f"Next: sleeptime eval report {wanted.folder}, or: inspect view --log-dir {wanted.folder / 'logs'}")
    if done.rows and len(missing) == len(done.rows):
        raise typer.Exit(1)


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Folders of runs.", exists=True, file_okay=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to write to; else `report` in the first run's.", file_okay=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute every figure of finished or unfinished runs, and write them on one page.

    The page opens offline; beside it lie Markdown, every figure as PNG and SVG, and its numbers as CSV.

    For example:

      sleeptime eval report sleeptime-runs/stateful-chains-tiny-seeds-1
    """
    _check_installed()
    from sleeptime.evals import experiments, paper_report  # noqa: PLC0415 - the module says why
    from sleeptime.evals.run_folder import read_run  # noqa: PLC0415 - the module says why

    runs = [read_run(folder) for folder in folders]
    asked = dict.fromkeys(name for each in runs for name in each.experiments)
    known = [experiments.load(name) for name in experiments.names() if name in asked]
    page = paper_report.write(runs, out or folders[0] / "report", experiments=known)
    if as_json:
        _print_json([paper_report.as_json(each) for each in runs])
    else:
        typer.echo(page)
    _note(f"Wrote {page}: open it in a browser. Figures, tables and Markdown lie beside it.")


app.command("make-queries")(make_queries)


def _seeds(written: str) -> list[int]:
    try:
        seeds = [int(seed) for seed in written.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--seeds are whole numbers such as 1,2,3, not {written!r}") from None
    if len(set(seeds)) != len(seeds):
        raise typer.BadParameter("--seeds must differ")
    return seeds


def _split(written: str) -> SplitMode:
    from sleeptime.evals.splitter import SPLIT_MODES  # noqa: PLC0415 - the module says why

    for mode in SPLIT_MODES:
        if mode == written:
            return mode
    raise typer.BadParameter(f"--split is one of {', '.join(SPLIT_MODES)}, not {written!r}")


def _check_installed() -> None:
    """Say what to install where the extra is missing."""
    import importlib.util  # noqa: PLC0415 - needed by this check alone

    if importlib.util.find_spec("inspect_ai") is None:
        raise InputError("`sleeptime eval` needs Inspect. Run: pip install 'sleeptime[eval]'")


@contextmanager
def _bar(steps: int) -> Generator[Callable[[], None]]:
    """Show a bar on a terminal, and a line for every tenth of the way in a log."""
    done = 0
    if not stderr.is_terminal:

        def on_row() -> None:
            nonlocal done
            done += 1
            if steps >= LOGGED_TENTHS and done * 10 // steps > (done - 1) * 10 // steps:
                _note(f"measured {done:,} of {steps:,}")

        yield on_row
        return
    columns = (SpinnerColumn(), TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True) as progress:
        bar = progress.add_task("", total=steps)
        yield lambda: progress.advance(bar)


def _note(words: str) -> None:
    stderr.print(words, markup=False, highlight=False, soft_wrap=True)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, default=str, indent=2, ensure_ascii=False))
