"""`sleeptime eval …`: parse, call, print.

Inspect, numpy and altair are imported inside commands: `sleeptime --help` needs none of them.
"""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sleeptime.core.errors import InputError
from sleeptime.core.plan import STRATEGIES, StrategyName
from sleeptime.evals import console
from sleeptime.evals.console import counting, note, print_json, stdout
from sleeptime.evals.queries.command import make_queries
from sleeptime.evals.swe import command as swe

if TYPE_CHECKING:
    from sleeptime.evals.runs.results import Run
    from sleeptime.evals.runs.runner import Wanted

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
REPORT = "report"
"""Folder of a run's report, within the run's own."""
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
Strategy = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="How to sleep: notes, rethink (the paper's loop), or for e7 explore; else as the experiment says.",
        show_default=False,
    ),
]
Split = Annotated[
    str,
    typer.Option("--split", help="How a problem is cut into context and query: hoist, sentence, or literal."),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder of the run; else one under sleeptime-runs/.", file_okay=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print calls, tokens and money; spend nothing.")]
Connections = Annotated[int, typer.Option("--connections", help="Calls at the same time.", min=1)]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the experiments with their claims, and the datasets."""
    _check_installed()
    from sleeptime.evals.data import datasets  # noqa: PLC0415 - the module says why
    from sleeptime.evals.runs import experiments  # noqa: PLC0415 - the module says why
    from sleeptime.evals.swe import experiment as on_repositories  # noqa: PLC0415 - the module says why

    known = [experiments.load(name) for name in experiments.names()]
    known = sorted([*known, on_repositories.load()], key=lambda each: (each.id == experiments.OWN, each.id))
    if as_json:
        print_json(
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
        stdout.print(f"    {name:<26}{words}", highlight=False, markup=False)


@app.command()
def run(
    names: Annotated[
        list[str], typer.Argument(metavar="EXPERIMENT…", help="e1 e2 e3 e4 e5 e6 e8, or all; e7 by itself.")
    ],
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
    strategy: Strategy = None,
    seeds: Seeds = "1",
    split: Split = "hoist",
    data: Data = None,
    repo: Annotated[
        Path | None,
        typer.Option("--repo", help="The git repository of e7's dataset.", exists=True, file_okay=False),
    ] = None,
    max_cost: MaxCost = None,
    prices: Prices = None,
    connections: Connections = 16,
    out: Out = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Run experiments on a model.

    Experiments that ask for the same share it. Run the same again after a crash, a cap or a failed call, and
    it goes on: nothing that was paid for is paid for twice.

    For example:

      sleeptime eval run e1 --model openai:gpt-5-mini --limit 50 --dry-run

      sleeptime eval run e1 e3 e5 --model tiny --limit 100 --seeds 1,2,3

      sleeptime eval run e7 --repo DIR --dataset features.jsonl --model openai:gpt-5-mini --levels 4,8,16
    """
    _check_installed()
    if "e7" in names:
        if len(names) > 1:
            raise InputError("e7 works on repositories and runs by itself: give it alone.")
        swe.run_e7(
            swe.Asking(
                dataset=dataset,
                repository=repo,
                model=model,
                sleep_model=sleep_model,
                steps=levels,
                strategy=_strategy(strategy),
                limit=limit,
                max_cost=max_cost,
                prices=prices,
                connections=connections,
                out=out,
                dry_run=dry_run,
                as_json=as_json,
            )
        )
        return
    from sleeptime.evals.data import datasets  # noqa: PLC0415 - the module says why
    from sleeptime.evals.runs import experiments, runner  # noqa: PLC0415 - the module says why

    if strategy == "explore":
        raise typer.BadParameter("--strategy explore looks around in a repository, and only e7 has one")
    wanted_names = [name for name in experiments.names() if name != experiments.OWN] if names == ["all"] else names
    chosen = [experiments.load(name, levels=_levels(levels), strategy=_strategy(strategy)) for name in wanted_names]
    drawn_from = tuple(_seeds(seeds))
    source = dataset or (TINY_DATASET if model == "tiny" else chosen[0].dataset)
    drawn = datasets.load(
        source,
        data=data,
        split=console.split_mode(split),
        seeds=drawn_from,
        contexts=limit,
        queries_per_context=queries,
    )
    wanted = asyncio.run(
        runner.plan_run(
            chosen,
            drawn,
            model=model,
            sleep_model=sleep_model,
            scoring_model=scoring_model,
            out=out,
            seeds=drawn_from if source in datasets.GENERATED else (),
            limit=limit,
            split="" if source in datasets.GENERATED else split,
            max_cost_usd=max_cost,
            cards=console.cards(prices),
        )
    )
    if dry_run:
        _tell_forecast(wanted, as_json)
        return
    _tell_run(wanted, _measure(wanted, connections), as_json)


@app.command()
def mine(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DATA.jsonl",
            help='A context a line: {"context": …, "queries": [{"question": …, "answer": …}]}.',
            exists=True,
            dir_okay=False,
        ),
    ],
    model: ModelName,
    sleep_model: SleepModel = None,
    limit: Limit = None,
    levels: Levels = None,
    max_cost: MaxCost = None,
    prices: Prices = None,
    connections: Connections = 16,
    out: Out = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Find out on one page whether sleeping pays on your own data.

    At which budget, from how many queries per context, and how sure that is. Twenty contexts tell little and fifty
    something; `make-queries` writes more queries about the contexts you have.

    For example:

      sleeptime eval mine tickets.jsonl --model openai:gpt-5-mini --limit 50 --dry-run

      sleeptime eval mine tickets.jsonl --model openai:gpt-5-mini --limit 50 --max-cost 2
    """
    _check_installed()
    from sleeptime.evals.analysis.analyse import analyse  # noqa: PLC0415 - the module says why
    from sleeptime.evals.data import datasets  # noqa: PLC0415 - the module says why
    from sleeptime.evals.report import paper_report, verdict  # noqa: PLC0415 - the module says why
    from sleeptime.evals.runs import experiments, runner  # noqa: PLC0415 - the module says why

    experiment = experiments.load(experiments.OWN, levels=_levels(levels))
    wanted = asyncio.run(
        runner.plan_run(
            [experiment],
            datasets.load(str(path), contexts=limit),
            model=model,
            sleep_model=sleep_model,
            out=out,
            limit=limit,
            max_cost_usd=max_cost,
            cards=console.cards(prices),
        )
    )
    if dry_run:
        _tell_forecast(wanted, as_json)
        return
    done = _measure(wanted, connections)
    found = analyse(done)
    judged = verdict.judge(found)
    page = paper_report.write([found], wanted.folder / REPORT, experiments=[experiment])
    if as_json:
        print_json(dataclasses.asdict(judged) | {"report": str(page), **_summary(wanted, done)})
    else:
        typer.echo(verdict.render_text(judged))
    note(f"Wrote {page}: every figure behind this. What was paid for is kept in {wanted.folder}.")
    _fail_if_nothing(done)


def _measure(wanted: Wanted, connections: int) -> Run:
    """Run what is wanted behind a progress bar."""
    from sleeptime.evals.runs import runner  # noqa: PLC0415 - the module says why

    _tell_plan(wanted)
    with counting("measured", wanted.steps) as on_row:
        return runner.run(wanted, concurrency=connections, on_row=on_row)


def _tell_plan(wanted: Wanted) -> None:
    source = wanted.settings.provenance
    contexts = len({each.context_id for each in wanted.settings.asked})
    cap = "no cap, for no price is known" if wanted.max_cost_usd is None else f"at most {wanted.max_cost_usd:g} USD"
    note(f"{source.model} on {source.dataset}: {contexts} contexts, {len(wanted.settings.asked)} queries, {cap}.")
    note(f"Kept in {wanted.folder}; run the same again to go on after a stop.")
    for what, why in wanted.left_out.items():
        note(f"Left out: {what}: {why}.")


def _tell_forecast(wanted: Wanted, as_json: bool) -> None:
    from sleeptime.evals.runs.forecast import forecast  # noqa: PLC0415 - the module says why
    from sleeptime.evals.runs.run_folder import read_if_begun  # noqa: PLC0415 - the module says why

    foretold = forecast(
        wanted.cells,
        wanted.dataset.samples,
        price=wanted.settings.price,
        sleep_price=wanted.settings.sleep_price,
        log_prob=wanted.log_prob,
        measured=read_if_begun(wanted.folder),
    )
    if as_json:
        print_json(
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
    table = console.table("what", "calls", "input tokens", "output tokens", "USD")
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
    note(
        "Input is estimated on the high side and at its full price. Output marked as assumed is a guess by level: "
        "run with a small --limit, then look again at that run with --dry-run for measured figures."
    )
    if wanted.max_cost_usd is not None and total is not None and total > wanted.max_cost_usd:
        note(f"The forecast is above the cap of {wanted.max_cost_usd:g} USD: the run would stop there. See --max-cost.")


def _tell_run(wanted: Wanted, done: Run, as_json: bool) -> None:
    told = _summary(wanted, done)
    if as_json:
        print_json(told)
    else:
        typer.echo(wanted.folder)
        spent = "unknown" if done.spent_usd is None else f"{done.spent_usd:.4f}"
        note(
            f"{told['rows']:,} answers, {told['missing']:,} of them missing; {len(done.slept):,} sleeps, "
            f"{told['failed_sleeps']:,} of them failed; {done.paid_calls:,} calls paid, {spent} USD; "
            f"{done.provenance.wall_s:,.0f} s in all."
        )
        for error in told["errors"][:3]:
            note(f"Missing: {error}")
        for what, why in done.not_measured.items():
            if what not in wanted.left_out:
                note(f"Not measured: {what}: {why}")
        note(f"Next: sleeptime eval report {wanted.folder}, or: inspect view --log-dir {wanted.folder / 'logs'}")
    _fail_if_nothing(done)


def _summary(wanted: Wanted, done: Run) -> dict[str, Any]:  # Any: JSON
    missing = [row for row in done.rows if row.is_correct is None]
    return {
        "folder": str(wanted.folder),
        "rows": len(done.rows),
        "missing": len(missing),
        "failed_sleeps": sum(bool(slept.error) for slept in done.slept),
        "paid_calls": done.paid_calls,
        "spent_usd": done.spent_usd,
        "errors": sorted({row.error for row in missing})[:10],
        "not_measured": done.not_measured,
        "wall_s": done.provenance.wall_s,
    }


def _fail_if_nothing(done: Run) -> None:
    if all(row.is_correct is None for row in done.rows):
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
    from sleeptime.evals.analysis.analyse import analyse  # noqa: PLC0415 - the module says why
    from sleeptime.evals.report import paper_report  # noqa: PLC0415 - the module says why
    from sleeptime.evals.runs import experiments  # noqa: PLC0415 - the module says why
    from sleeptime.evals.runs.run_folder import read_run  # noqa: PLC0415 - the module says why

    if any(swe.is_e7(folder) for folder in folders):
        if len(folders) > 1:
            raise InputError("A run of e7 has a page of its own: report it alone.")
        page = swe.report_e7(folders[0], out or folders[0] / REPORT)
        if as_json:
            print_json(swe.findings_of(folders[0]))
        else:
            typer.echo(page)
        note(f"Wrote {page}: open it in a browser. Its figure and tables lie beside it.")
        return
    found = [analyse(read_run(folder)) for folder in folders]
    asked = {name for each in found for name in each.experiments}
    known = [experiments.load(name) for name in experiments.names() if name in asked]
    page = paper_report.write(found, out or folders[0] / REPORT, experiments=known)
    if as_json:
        print_json([paper_report.as_json(each) for each in found])
    else:
        typer.echo(page)
    note(f"Wrote {page}: open it in a browser. Figures, tables and Markdown lie beside it.")


app.command("make-queries")(make_queries)
app.command("make-swe-features")(swe.make_swe_features)


def _strategy(written: str | None) -> StrategyName | None:
    for strategy in STRATEGIES:
        if strategy == written:
            return strategy
    if written is not None:
        raise typer.BadParameter(f"--strategy is one of {', '.join(STRATEGIES)}, not {written!r}")
    return None


def _levels(written: str | None) -> list[str] | None:
    return [level.strip() for level in written.split(",")] if written else None


def _seeds(written: str) -> list[int]:
    try:
        seeds = [int(seed) for seed in written.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--seeds are whole numbers such as 1,2,3, not {written!r}") from None
    if len(set(seeds)) != len(seeds):
        raise typer.BadParameter("--seeds must differ")
    return seeds


def _check_installed() -> None:
    """Say what to install where the extra is missing."""
    import importlib.util  # noqa: PLC0415 - needed by this check alone

    if importlib.util.find_spec("inspect_ai") is None:
        raise InputError("`sleeptime eval` needs Inspect. Run: pip install 'sleeptime[eval]'")
