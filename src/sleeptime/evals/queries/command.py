"""`sleeptime eval make-queries`: parse, call, print.

Models and data are imported inside the command: `sleeptime --help` needs none of them.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from sleeptime.core.budget import Level
from sleeptime.core.errors import BudgetError, InputError
from sleeptime.evals import console
from sleeptime.evals.console import counting, note, print_json, stderr, stdout

if TYPE_CHECKING:
    from sleeptime.core.usage import PriceCard
    from sleeptime.evals.data.datasets import Dataset
    from sleeptime.evals.queries.file import Recipe
    from sleeptime.evals.queries.more_queries import Made, Source, Wish
    from sleeptime.evals.runs.forecast import Forecast
    from sleeptime.models.protocol import Model

DEFAULT_MAX_COST_USD = 5.0
FOLDER = "sleeptime-runs"
LONGEST_EXAMPLE = 90


def make_queries(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A dataset that `list` shows, or your own JSONL file.")
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="The one that writes: provider:model, URL#model, or gguf:/path/file.gguf.",
            envvar="SLEEPTIME_MODEL",
        ),
    ],
    solver_model: Annotated[
        str | None, typer.Option("--solver-model", help="The one that solves; else the same.", show_default=False)
    ] = None,
    queries: Annotated[int, typer.Option("--queries", "-n", help="Queries to add to each context.", min=1)] = 10,
    solvers: Annotated[
        int, typer.Option("--solvers", help="Runs of the solver, of which two must agree.", min=2, max=3)
    ] = 2,
    level: Annotated[
        str, typer.Option("--level", help="How hard the solver thinks: 0 to 4, low, medium, high, think:N.")
    ] = "4",
    limit: Annotated[
        int | None, typer.Option("--limit", help="Contexts to work on.", min=1, show_default=False)
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="How a problem is cut into context and query: hoist, sentence, or literal.")
    ] = "hoist",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Where the files are; else $SLEEPTIME_DATA, else they are downloaded.", exists=True
        ),
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(
            "--max-cost",
            help=f"Cap on money in US dollars, checked before each call; {DEFAULT_MAX_COST_USD:g} if prices are known.",
            min=0,
            show_default=False,
        ),
    ] = None,
    prices: Annotated[
        Path | None, typer.Option("--prices", help="TOML file of price cards.", exists=True, dir_okay=False)
    ] = None,
    connections: Annotated[int, typer.Option("--connections", help="Calls at the same time.", min=1)] = 16,
    out: Annotated[
        Path | None, typer.Option("--out", help=f"File to write; else one under {FOLDER}/.", dir_okay=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print calls, tokens and money; spend nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write more queries about contexts, and keep those that solvers confirm.

    The model writes queries as hard as the one each context has. One is kept if two runs of the solver, which
    never see the writer's answer, agree with each other and with it. Leaks, duplicates and questions that bring
    new numbers are dropped before that, and the report beside the file says how many, why, and which.

    Run the same again after a crash, a cap or a failed call, and it goes on: nothing is paid for twice. What comes
    out is read by --dataset FILE and by `mine`.

    For example:

      sleeptime eval make-queries mine.jsonl --model openai:gpt-5-mini --limit 5 --dry-run

      sleeptime eval make-queries mine.jsonl --model openai:gpt-5-mini --solver-model anthropic:claude-sonnet-5
    """
    from sleeptime.evals.data import datasets  # noqa: PLC0415 - the module says why
    from sleeptime.evals.queries.more_queries import Wish, sources_of  # noqa: PLC0415 - the module says why
    from sleeptime.evals.runs.provenance import card_of, money_cap  # noqa: PLC0415 - the module says why

    mode = console.split_mode(split)
    try:
        wish = Wish(queries=queries, solvers=solvers, level=Level.parse(level))
    except BudgetError as error:
        raise typer.BadParameter(f"--level: {error}") from None
    solver = solver_model or model
    drawn = datasets.load(source, data=data, split=mode, contexts=limit)
    sources = sources_of(drawn.samples)
    if not sources:
        raise InputError(f"No context of {source} has any text to ask about.")
    cards = console.cards(prices)
    priced = {name: card_of(name, cards) for name in (model, solver)}
    cap = money_cap(max_cost, DEFAULT_MAX_COST_USD, priced)
    path = out or Path(FOLDER) / f"{_slug(drawn.name, model, solver_model)}.jsonl"
    if dry_run:
        from sleeptime.evals.queries.forecast import forecast  # noqa: PLC0415 - the module says why

        foretold = forecast(sources, wish, writer_price=priced[model], solver_price=priced[solver])
        _tell_forecast(foretold, path, cap, as_json)
        return
    note(f"{model} writes {queries} queries on each of {len(sources)} contexts of {drawn.name}; {solver} solves them.")
    if solver == model:
        note("The writer solves its own queries, in runs that do not know its answers. See --solver-model.")
    limit_words = "no cap, for no price is known" if cap is None else f"at most {cap:g} USD"
    note(f"Written to {path}, {limit_words}; run the same again to go on after a stop.")
    with counting("contexts", len(sources)) as on_made:
        report, is_done = asyncio.run(
            _make(drawn, sources, wish, model, solver, priced, path, split, cap, connections, on_made)
        )
    _tell(report, path, as_json)
    if not is_done:
        raise typer.Exit(1)


async def _make(
    drawn: Dataset,
    sources: list[Source],
    wish: Wish,
    writer_name: str,
    solver_name: str,
    priced: dict[str, PriceCard | None],
    path: Path,
    split: str,
    cap: float | None,
    connections: int,
    on_made: Callable[[], None],
) -> tuple[dict[str, Any], bool]:  # Any: JSON
    """Make the queries; give the report, and whether every context was worked on, or all that the cap allows."""
    from sleeptime.evals.queries.file import open_query_file, report_of  # noqa: PLC0415 - the module says why
    from sleeptime.evals.queries.more_queries import Maker  # noqa: PLC0415 - the module says why
    from sleeptime.models import open_model  # noqa: PLC0415 - the module says why

    made: list[Made] = []
    async with AsyncExitStack() as stack:
        opened: dict[str, Model] = {}
        for name in dict.fromkeys((writer_name, solver_name)):
            opened[name] = await open_model(name, environ=os.environ)
            stack.push_async_callback(opened[name].aclose)
        writer, solver = opened[writer_name], opened[solver_name]
        recipe = _recipe(drawn, wish, writer, solver, split)
        file = open_query_file(path, recipe, max_cost_usd=cap)
        stack.callback(file.close)

        def keep(each: Made) -> None:
            made.append(each)
            file.keep(each)
            on_made()

        maker = Maker(
            writer,
            solver,
            file.journal,
            wish=wish,
            writer_price=priced[writer_name],
            solver_price=priced[solver_name],
            connections=connections,
            clock_s=time.monotonic,
            now=lambda: datetime.now(UTC),
        )
        try:
            await maker.make_all(sources, keep)
        finally:
            report = report_of(recipe, sources, made, file.journal, now=datetime.now(UTC))
            file.finish(sources, report)
    has_failed = any(each.error and not each.is_capped for each in made)
    return report, bool(report["queries"]["kept"]) and not has_failed


def _recipe(drawn: Dataset, wish: Wish, writer: Model, solver: Model, split: str) -> Recipe:
    from sleeptime import prompts  # noqa: PLC0415 - the module says why
    from sleeptime.evals.queries.file import Recipe  # noqa: PLC0415 - the module says why
    from sleeptime.evals.queries.more_queries import PLAIN_PROMPT, PROMPT  # noqa: PLC0415 - the module says why
    from sleeptime.evals.runs.results import DRAW_TEMPERATURE  # noqa: PLC0415 - the module says why

    sets = {
        PROMPT: writer.abilities.prompt_set,
        PLAIN_PROMPT: writer.abilities.prompt_set,
        "answer-context": solver.abilities.prompt_set,
    }
    return Recipe(
        source=drawn.name,
        source_sha256=drawn.sha256,
        origin=drawn.source,
        licence=drawn.licence,
        split=split,
        writer=writer.name,
        solver=solver.name,
        queries=wish.queries,
        solvers=wish.solvers,
        level=str(wish.level),
        temperature=DRAW_TEMPERATURE,
        prompts={name: prompts.load(name, prompt_set).fingerprint for name, prompt_set in sets.items()},
    )


def _tell_forecast(foretold: Forecast, path: Path, cap: float | None, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "file": str(path),
                "calls": foretold.calls,
                "input_tokens": foretold.usage.input_tokens,
                "output_tokens": foretold.usage.output_tokens,
                "cost_usd": foretold.cost_usd,
                "max_cost_usd": cap,
                "lines": [
                    {
                        "what": line.what,
                        "calls": line.calls,
                        "input_tokens": line.usage.input_tokens,
                        "output_tokens": line.usage.output_tokens,
                        "cost_usd": line.cost_usd,
                    }
                    for line in foretold.lines
                ],
            }
        )
        return
    table = console.table("what", "calls", "input tokens", "output tokens", "USD")
    rows = [(line.what, line.calls, line.usage, line.cost_usd) for line in foretold.lines]
    for what, calls, usage, cost in (*rows, ("in all", foretold.calls, foretold.usage, foretold.cost_usd)):
        money = "unknown" if cost is None else f"{cost:.3f}"
        table.add_row(what, f"{calls:,}", f"{usage.input_tokens:,}", f"{usage.output_tokens:,}", money)
    stdout.print(table)
    note("Output is assumed, and that no query is dropped; dropped ones are written and solved anew, up to the cap.")
    if cap is not None and foretold.cost_usd is not None and foretold.cost_usd > cap:
        note(f"The forecast is above the cap of {cap:g} USD: it would stop there. See --max-cost.")


def _tell(report: dict[str, Any], path: Path, as_json: bool) -> None:  # Any: JSON
    from sleeptime.evals.queries.file import report_path  # noqa: PLC0415 - the module says why

    contexts, queries, agreement = report["contexts"], report["queries"], report["agreement"]
    if report["dropped"]:
        table = console.table("dropped", "queries")
        table.add_column("an example")
        for reason, drop in report["dropped"].items():
            example = drop["examples"][0]
            words = f"{example['question'] or 'no question'} ({example['because'] or drop['words']})"
            shown = words if len(words) <= LONGEST_EXAMPLE else f"{words[: LONGEST_EXAMPLE - 1]}…"
            table.add_row(reason, f"{drop['count']:,}", " ".join(shown.split()))
        wide = stderr if stderr.is_terminal else Console(stderr=True, width=console.WIDE)
        wide.print(table, markup=False, highlight=False)
    spent = "unknown" if report["spent_usd"] is None else f"{report['spent_usd']:.4f}"
    note(
        f"{queries['kept']:,} of {queries['written']:,} written queries kept, on {contexts['finished']:,} of "
        f"{contexts['wanted']:,} contexts, {contexts['lacking']:,} of which have fewer than wanted; "
        f"{report['paid_calls']:,} calls paid, {spent} USD."
    )
    note(
        f"Of {agreement['solved']:,} solved, the solver's runs agreed on {agreement['solvers_agreed']:,}, "
        f"and with the writer on {agreement['writer_agreed']:,}."
    )
    for error in report["errors"][:3]:
        note(f"Unfinished: {error}")
    if as_json:
        print_json({"file": str(path)} | report)
    elif path.exists():
        typer.echo(path)
    note(f"Why, with more examples: {report_path(path)}")


def _slug(dataset: str, model: str, solver_model: str | None) -> str:
    """The same wish gets the same file, so that running again goes on."""
    told = ["more-queries", dataset, model, f"solver-{solver_model}" if solver_model else ""]
    return re.sub(r"[^\w.]+", "-", " ".join(filter(None, told))).strip("-")
