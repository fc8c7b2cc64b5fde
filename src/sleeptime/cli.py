"""The command line: parse, call the engine, print.

Answers go to stdout, everything else to stderr. Exit 0 done, 1 failed, 2 usage.
Heavy modules are imported inside commands, so that `sleeptime --help` is quick.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from sleeptime.core import staleness, wire
from sleeptime.core.agency import DEFAULT_STEPS, MOST_STEPS, OUTCOMES
from sleeptime.core.budget import Budget, Level
from sleeptime.core.caps import NANO
from sleeptime.core.context import EVERYWHERE, Section, Span
from sleeptime.core.errors import (
    InputError,
    NothingReadableError,
    SleeptimeError,
    VersionNotFoundError,
)
from sleeptime.core.ledger import DEFAULT_TEST_TOKEN_PRICE
from sleeptime.core.plan import MAX_CHARACTERS, STRATEGIES, TIERS, Plan
from sleeptime.core.query import SEES
from sleeptime.evals.commands import app as eval_app
from sleeptime.server.commands import app as server_app

if TYPE_CHECKING:  # the engine brings the database and model libraries, which --help does not need
    from sleeptime.core.deciding import Decision
    from sleeptime.core.diff import Diff
    from sleeptime.core.ledger import Account, BreakEven
    from sleeptime.core.notes import Draft, LearnedContext, Note
    from sleeptime.core.staleness import Edit
    from sleeptime.core.watching import Decided
    from sleeptime.engine import Acted, Engine, Forecast
    from sleeptime.scheduler import Rules

app = typer.Typer(
    name="sleeptime",
    help="Think about contexts before their queries come, and answer with a fraction of the test-time tokens.\n\n"
    "Try it offline: [bold]sleeptime demo[/bold]. With your own text and model:\n\n"
    "  sleeptime add report.txt\n\n"
    "  sleeptime sleep report --model openai:gpt-5-mini\n\n"
    '  sleeptime ask report "Which region grew most?" --model openai:gpt-5-mini\n\n'
    "  sleeptime ledger\n\n"
    "It can decide by itself what to sleep on, and say why:\n\n"
    "  sleeptime sleep --all --if-it-pays\n\n"
    "  sleeptime why report\n\n"
    "Data lives in $SLEEPTIME_HOME, or the database that $SLEEPTIME_DATABASE names. $SLEEPTIME_MODEL is the model; "
    "$SLEEPTIME_SLEEP_MODEL, if set, the one that sleeps.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

app.add_typer(eval_app, name="eval")
app.add_typer(server_app)

MOST_VERSIONS = 2**31 - 1  # what a database can count to
LOGGED_STEPS = 20  # shorter work is not worth lines in a log
WIDE = 200  # a table that goes to a file or a pipe is not squeezed into 80 columns
stdout = Console(soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
stderr = Console(stderr=True)

Name = Annotated[str, typer.Argument(help="Name or id of a context.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", help="provider:model, URL#model, gguf:/path/file.gguf, or tiny.", envvar="SLEEPTIME_MODEL"
    ),
]
SleepModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="provider:model, URL#model, gguf:/path/file.gguf, or tiny.",
        envvar=["SLEEPTIME_SLEEP_MODEL", "SLEEPTIME_MODEL"],
    ),
]
Database = Annotated[
    str | None,
    typer.Option("--database", help="Path or URL of the database.", envvar="SLEEPTIME_DATABASE", show_default=False),
]
Doubt = Annotated[
    float | None,
    typer.Option(
        help="How far the forecast of queries is mistrusted: 0 trusts it, 1 believes it last; else 0.2.",
        min=0.0,
        max=1.0,
        envvar="SLEEPTIME_DOUBT",
        show_default=False,
    ),
]
MaxRegret = Annotated[
    float | None,
    typer.Option(
        help="Sleep not yet recouped, at most, as a share of what all queries would cost without it; else 0.05.",
        min=0.0,
        envvar="SLEEPTIME_MAX_REGRET",
        show_default=False,
    ),
]
Allowance = Annotated[
    float | None,
    typer.Option(
        help="What may be unrecouped to begin with: dollars where prices are known (else 0.10), "
        "else sleep-time output tokens (else 50000).",
        min=0.0,
        envvar="SLEEPTIME_ALLOWANCE",
        show_default=False,
    ),
]


def main() -> None:
    """Run the command line. Errors meant for the user are one line on stderr."""
    try:
        app()
    except SleeptimeError as error:
        stderr.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Sleep-time compute for language models."""
    if version:
        from importlib.metadata import version as installed  # noqa: PLC0415  # only --version needs it

        typer.echo(installed("sleeptime"))
        raise typer.Exit


class Kind(Enum):
    """What to take a folder for."""

    folder = "folder"
    repository = "repository"


@app.command()
def add(
    path: Annotated[
        str,
        typer.Argument(help="A file, a folder, a git repository, a conversation (.jsonl), or - for standard input."),
    ],
    name: Annotated[str | None, typer.Option(help="Name to call it by; else the file's.", show_default=False)] = None,
    kind: Annotated[
        Kind | None,
        typer.Option("--as", help="Read a folder with a .git as plain text, or insist on a repository."),
    ] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Keep a text as a context, and print its id.

    Of a git repository the text is an index of its last commit: each file's symbols, imports, tests and what
    changes with it, and the history. `sleeptime update NAME` reads it at the commit it is at then.

    For example:

      sleeptime add report.txt

      sleeptime add path/to/repository

      git log -n 50 | sleeptime add - --name history
    """
    from sleeptime import sources  # noqa: PLC0415  # keeps --help quick

    async def work(engine: Engine) -> None:
        source = sources.read(path, kind=kind.value if kind else None)
        context = await engine.add(source.text, name=name or source.name, source=source.origin)
        if as_json:
            _print_json(wire.added(context))
            return
        typer.echo(context.id)
        _note(f"Added {context.name!r}: {len(context.text):,} characters. Next: sleeptime sleep {quote(context.name)}")

    _run(work, database=database)


@app.command()
def update(
    name: Name,
    path: Annotated[
        str | None, typer.Argument(help="Where the text is now; by default where it was read before.")
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Add to the text instead of replacing it.")] = False,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Give a context its new text, and say which notes that made stale.

    Only notes that rest on what changed are stale; no answer is shown them. The next sleep works on what
    changed and keeps the others. Earlier versions stay until the context is forgotten.

    For example:

      sleeptime update report

      echo "user: And what about May?" | sleeptime update talk - --append
    """
    from sleeptime import sources  # noqa: PLC0415  # keeps --help quick

    if append and path is None:
        raise typer.BadParameter("--append needs the PATH of what to add")

    async def work(engine: Engine) -> None:
        origin = path or (await engine.store.context(name)).source
        if not origin or (path is None and origin == "-"):
            raise InputError(f"{name!r} was not read from a file: say where its new text is.")
        known = sources.repository(origin) if path is None else None
        if known:
            source = sources.read(known[0], kind="repository")
        else:
            source = sources.read(origin, kind="folder" if path is None else None)
        edit = await engine.update(name, source.text, append=append, source=None if append else source.origin)
        if as_json:
            _print_json(wire.edited(edit))
            return
        typer.echo(edit.context.id)
        _note(_edited_line(edit))

    _run(work, database=database)


def _edited_line(edit: Edit) -> str:
    name = edit.context.name
    if not edit.is_change:
        return f"{name!r} has this text already: nothing changed."
    notes = f"notes of version {edit.version}: {len(edit.stale)} stale, {edit.kept} stand"
    if edit.version is None:
        notes = "nothing was learned yet"
    sections = f"{edit.sections_new} new, {edit.sections_gone} gone"
    return f"Updated {name!r}. Sections: {sections}; {notes}. Next: sleeptime sleep {quote(name)}"


@app.command()
def sleep(
    name: Annotated[str | None, typer.Argument(help="Name or id of a context.", show_default=False)] = None,
    model: SleepModelName = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every context that is new, edited or unfinished; caps hold for all together.")
    ] = False,
    if_it_pays: Annotated[
        bool,
        typer.Option(
            "--if-it-pays", help="With --all: only where sleeping is expected to pay, the best first, and say why."
        ),
    ] = False,
    strategy: Annotated[
        str,
        typer.Option(
            help="How to write: notes, rethink (the paper's loop), or explore (looks around in a repository)."
        ),
    ] = "notes",
    rounds: Annotated[int, typer.Option(help="Model calls of one sample, at most.", min=1)] = 10,
    samples: Annotated[
        int, typer.Option(help="Parallel sleeps, joined (paper: 1, 2, 5, 10); the most with --if-it-pays.", min=1)
    ] = 1,
    effort: Annotated[str | None, typer.Option(help="minimal, low, medium or high.", show_default=False)] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature; else 0, or 0.8 for several samples.", show_default=False)
    ] = None,
    max_characters: Annotated[int, typer.Option(help="Cap on the text of what is learned.", min=1)] = MAX_CHARACTERS,
    max_tokens: Annotated[int | None, typer.Option(help="Cap on all output tokens.", min=1, show_default=False)] = None,
    max_cost: Annotated[float | None, typer.Option(help="Cap on money, in US dollars.", show_default=False)] = None,
    tier: Annotated[
        str | None,
        typer.Option(
            help="standard, flex (the provider's half price) or auto; else as sleeptime.toml says.", show_default=False
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Think about the whole text, whatever is known of it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the most it may cost and what is decided on it, and spend nothing.")
    ] = False,
    background: Annotated[bool, typer.Option("--background", help="Leave it to a `sleeptime worker`.")] = False,
    doubt: Doubt = None,
    max_regret: MaxRegret = None,
    allowance: Allowance = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Think about a context now, and publish what was learned as a new version.

    A context that was edited is thought about where it changed, and notes that still stand are kept. Where nothing
    changed since the same command, nothing is done.
    Caps are checked before each model call; reaching one ends the sleep and keeps the notes.
    A sleep that was killed goes on where it was when the same command is run again.

    With --all --if-it-pays nothing is slept on unless the queries to come are expected to save more than it costs, or
    those that came have cost as much extra. Each such sleep is capped at the price it was decided at, and ends where
    another round is not expected to pay.

    For example:

      sleeptime sleep report --model openai:gpt-5-mini --max-cost 0.05

      sleeptime sleep --all --dry-run

      sleeptime sleep --all --if-it-pays --max-cost 0.50
    """
    if (name is None) == (not every):
        raise typer.BadParameter("give the NAME of a context, or --all")
    if background and (dry_run or model != _sleep_model_of_the_environment()):
        raise typer.BadParameter("--background takes neither --dry-run nor --model: the worker has the model")
    if if_it_pays and (not every or again):
        raise typer.BadParameter("--if-it-pays goes with --all, and without --again")
    if tier is not None and tier not in TIERS:
        raise typer.BadParameter(f"--tier is one of {', '.join(TIERS)}")
    if strategy not in STRATEGIES:
        raise typer.BadParameter(f"--strategy is one of {', '.join(STRATEGIES)}")
    plan = Plan(
        strategy=strategy,
        samples=samples,
        effort=effort,
        temperature=temperature,
        max_characters=max_characters,
        budget=Budget(max_output_tokens=max_tokens, max_cost_usd=max_cost, max_rounds=rounds),
        tier=tier,
    )

    async def work(engine: Engine) -> None:
        if background and if_it_pays:
            await _queue_where_it_pays(engine, plan.budget, as_json)
            return
        if background:
            names = [name] if name is not None else await _unfinished(engine)
            jobs = [await engine.enqueue(each, plan, again=again) for each in names]
            if as_json:
                _print_json(jobs)
            else:
                typer.echo("\n".join(job.id for job in jobs))
            return
        if name is not None:
            done = await (_forecast if dry_run else _sleep_on)(engine, name, plan, as_json, again=again)
            if as_json and dry_run:
                decision = await engine.decide(name)
                _print_json({**wire.plain(done), "decision": None if decision is None else wire.decision(decision)})
            elif as_json:
                _print_json(done)
            return
        if if_it_pays:
            await _sleep_where_it_pays(engine, plan, as_json, dry_run=dry_run)
            return
        names = await _unfinished(engine)
        if not names:
            _note("Every context has been slept on as it is now.")
        results = await _sleep_on_all(engine, names, plan, as_json, dry_run=dry_run, again=again)
        if as_json:
            _print_json(results)
        if any(isinstance(result, dict) for result in results):
            raise typer.Exit(1)

    kept = "Interrupted. Finished rounds are kept and published; the same command goes on from there."
    rules = _rules(doubt, max_regret, allowance)
    _run(work, database=database, sleep_model=model, rules=rules, if_interrupted=kept)


def _rules(doubt: float | None, max_regret: float | None, allowance: float | None) -> Callable[[], Rules]:
    """The rules with what the user said of them. Made later, for the engine's modules are not imported yet."""

    def make() -> Rules:
        from sleeptime.scheduler import Rules  # noqa: PLC0415  # keeps --help quick

        said = {"doubt": doubt, "max_regret": max_regret, "allowance_usd": allowance, "allowance_tokens": allowance}
        return replace(Rules.read(os.environ), **{name: value for name, value in said.items() if value is not None})

    return make


async def _sleep_where_it_pays(engine: Engine, plan: Plan, quiet: bool, *, dry_run: bool) -> None:
    """Sleep where a decision says so, in its order; print each with what came of it."""
    if dry_run:
        decisions = await engine.decisions()
        if quiet:
            _print_json([wire.decision(decision) for decision in decisions])
            return
        for decision in decisions:
            typer.echo(decision.sentence)
        if not decisions:
            _note(_NOTHING_PAYS)
        return

    def tell(acted: Acted) -> None:
        if not quiet:
            typer.echo(f"{acted.decision.sentence} → {acted.outcome}")

    acted = await engine.sleep_where_it_pays(plan, on_acted=tell)
    if quiet:
        _print_json([{"decision": wire.decision(each.decision), "outcome": each.outcome} for each in acted])
    elif not acted:
        _note(_NOTHING_PAYS)
    if any(each.learned is None for each in acted):
        raise typer.Exit(1)


async def _queue_where_it_pays(engine: Engine, budget: Budget, quiet: bool) -> None:
    """Leave the sleeps that a decision calls for now to a worker."""
    queued = await engine.queue_where_it_pays(budget)
    if quiet:
        _print_json([each.job for each in queued])
        return
    for each in queued:
        if each.job is not None and each.decided is not None:
            typer.echo(f"{each.job.id} {each.decided.sentence}")
    if not queued:
        _note(_NOTHING_PAYS)


_NOTHING_PAYS = "Nothing is worth sleeping on now. `sleeptime why NAME` says why of each context."


def _sleep_model_of_the_environment() -> str | None:
    return os.environ.get("SLEEPTIME_SLEEP_MODEL") or os.environ.get("SLEEPTIME_MODEL")


async def _unfinished(engine: Engine) -> list[str]:
    """Contexts without a version, edited since, or whose newest version was interrupted."""
    names: list[str] = []
    for summary in await engine.contexts():
        learned = await engine.store.learned(summary.id) if summary.versions else None
        if learned is None or learned.stop_reason == "interrupted" or summary.is_edited:
            names.append(summary.name)
    return names


async def _sleep_on_all(
    engine: Engine, names: list[str], plan: Plan, quiet: bool, *, dry_run: bool, again: bool
) -> list[Forecast | LearnedContext | dict[str, str]]:
    """Sleep on one after another under the caps of all; a failed one is told and the rest go on."""
    results: list[Forecast | LearnedContext | dict[str, str]] = []
    for name in names:
        try:
            if dry_run:
                results.append(await _forecast(engine, name, plan, quiet, again=again))
                continue
            learned = await _sleep_on(engine, name, plan, quiet, again=again)
            results.append(learned)
        except SleeptimeError as error:
            results.append({"context": name, "error": str(error)})
            stderr.print(f"[red]error:[/red] {escape(name)}: {escape(str(error))}", soft_wrap=True, highlight=False)
            continue
        left = plan.budget.less(learned.usage, learned.cost_usd)
        if left is None:
            _note(f"The caps are reached; {len(names) - len(results)} contexts are left for another time.")
            break
        plan = replace(plan, budget=left)
    return results


async def _forecast(engine: Engine, name: str, plan: Plan, quiet: bool, *, again: bool) -> Forecast:
    forecast = await engine.forecast(name, plan, again=again)
    if not quiet and not forecast.calls:
        typer.echo(f"{name}: nothing to think about since the newest version, so nothing to pay.")
    elif not quiet:
        about = "" if forecast.is_exact else "about "
        typer.echo(
            f"{name}: at most {forecast.calls} calls of {forecast.model}, "
            f"{about}{forecast.input_tokens:,} input tokens in the first; "
            f"at most {forecast.most_input_tokens:,} input and {forecast.most_output_tokens:,} output tokens, "
            f"{_price(forecast.cost_usd)}."
        )
        typer.echo(_worth(forecast.tokens_without_sleep))
        decision = await engine.decide(name)
        if decision is not None:
            typer.echo(f"By itself it would say: {decision.sentence}")
    return forecast


def _worth(tokens_without_sleep: float | None) -> str:
    if tokens_without_sleep is None:
        return (
            "What it would save is not known: ask once with --sees context, so that there is something to compare with."
        )
    return (
        f"One answer without sleep takes {tokens_without_sleep:.0f} output tokens here: "
        "sleep pays if it saves more than it costs over the queries to come."
    )


async def _sleep_on(engine: Engine, name: str, plan: Plan, quiet: bool, *, again: bool) -> LearnedContext:
    with _rounds_bar(name, plan) as on_draft:
        learned = await engine.sleep(name, plan, again=again, on_draft=on_draft)
    if learned.stop_reason == "unchanged":
        if not quiet:
            typer.echo(f"version {learned.version} stands: nothing changed since")
            _note("Nothing was spent. To think about the whole text anew, say --again.")
        return learned
    if not quiet:
        if learned.version:
            typer.echo(_learned_line(learned))
        _bill(learned.usage.input_tokens, learned.usage.output_tokens, learned.cost_usd, "sleep-time")
    if not learned.version and learned.stop_reason == "unreadable":
        raise NothingReadableError(name, learned.model)
    if not learned.version:
        _note(f"Nothing was learned about {name} ({learned.stop_reason}).")
    return learned


def _learned_line(learned: LearnedContext) -> str:
    failed = f", {learned.failed_rounds} of them unreadable" if learned.failed_rounds else ""
    if learned.by_hand:
        return f"version {learned.version}: {learned.by_hand} by hand in version {learned.based_on}"
    came_of = f", begun with those of version {learned.based_on}" if learned.based_on else ""
    if learned.rolled_back_from:
        came_of += f", rolled back from version {learned.rolled_back_from}"
    return (
        f"version {learned.version}: {len(learned.notes)} notes after {learned.rounds} rounds{failed}{came_of}; "
        f"ended: {learned.stop_reason}"
    )


@app.command()
def ask(
    name: Name,
    question: Annotated[str, typer.Argument(help="What to ask.", show_default=False)],
    model: ModelName = None,
    budget: Annotated[
        str, typer.Option(help="0 to 4 (verbosity), low/medium/high, think:N, force:N or extend:N tokens.")
    ] = "3",
    sees: Annotated[
        str | None, typer.Option(help=f"{', '.join(SEES)}; by default notes if there are any.", show_default=False)
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="Version of what was learned.", min=1, max=MOST_VERSIONS, show_default=False)
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Cap on output tokens.", min=1, show_default=False)] = None,
    max_cost: Annotated[float | None, typer.Option(help="Cap on money, in US dollars.", show_default=False)] = None,
    stream: Annotated[bool, typer.Option(help="Print the answer while it is written.")] = True,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Answer a question about a context.

    The answer goes to stdout and the bill to stderr, so this works:

      sleeptime ask report "Which region grew most?" > answer.txt
    """
    level = Level.parse(budget)
    if sees is not None and sees not in SEES:
        raise typer.BadParameter(f"--sees is one of {', '.join(SEES)}")

    async def work(engine: Engine) -> None:
        streamed: list[str] = []

        def on_text(piece: str) -> None:
            piece = piece if streamed else piece.lstrip()
            if piece:
                streamed.append(piece)
                sys.stdout.write(piece)
                sys.stdout.flush()

        answer = await engine.ask(
            name,
            question,
            level=level,
            sees=sees,
            version=version,
            budget=Budget(max_output_tokens=max_tokens, max_cost_usd=max_cost),
            on_text=on_text if stream and not as_json else None,
        )
        if as_json:
            _print_json(answer)
            return
        typer.echo("" if streamed else answer.text)
        shown = f"saw {answer.query.sees}" + (f" version {answer.version}" if answer.version else "")
        _bill(answer.usage.input_tokens, answer.usage.output_tokens, answer.cost_usd, "test-time", f"; {shown}")
        if answer.finish_reason == "length":
            stderr.print("The answer was cut off by its token cap.")

    _run(work, database=database, model=model)


@app.command()
def solve(
    name: Name,
    task: Annotated[
        str, typer.Argument(help="What to change, or - to read it from standard input.", show_default=False)
    ],
    model: ModelName = None,
    steps: Annotated[int, typer.Option(help="Model calls, at most.", min=1, max=MOST_STEPS)] = DEFAULT_STEPS,
    notes: Annotated[
        bool | None, typer.Option("--notes/--no-notes", help="Show what was learned; by default if anything was.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Cap on output tokens.", min=1, show_default=False)] = None,
    max_cost: Annotated[float | None, typer.Option(help="Cap on money, in US dollars.", show_default=False)] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Change the repository that a context was made of, in steps, and print the patch.

    An agent reads and searches the committed files and edits a copy in memory: the repository is not touched, and
    nothing is run. The patch goes to stdout and the bill to stderr, so this works:

      sleeptime solve shop "Let carts be saved" --steps 12 | git -C shop apply
    """
    wanted = sys.stdin.read() if task == "-" else task

    async def work(engine: Engine) -> None:
        answer = await engine.solve(
            name,
            wanted,
            steps=steps,
            with_notes=notes,
            budget=Budget(max_output_tokens=max_tokens, max_cost_usd=max_cost),
        )
        if as_json:
            _print_json(answer)
        else:
            sys.stdout.write(answer.patch)
            shown = f"; saw version {answer.version}" if answer.version else "; saw no notes"
            _bill(answer.usage.input_tokens, answer.usage.output_tokens, answer.cost_usd, "test-time", shown)
            changed = len(answer.modified) + len(answer.created)
            _note(f"{answer.steps} steps, {changed} files changed; ended: {OUTCOMES[answer.outcome]}.")
            if answer.summary:
                _note(answer.summary)
        if answer.outcome == "error":
            stderr.print(f"[red]error:[/red] {escape(answer.error)}", soft_wrap=True, highlight=False)
            raise typer.Exit(1)

    _run(work, database=database, model=model)


@app.command("list")
def list_contexts(database: Database = None, as_json: Json = False) -> None:
    """List the contexts, what was learned about each, and what was last decided on it in a word (see `why`)."""

    async def work(engine: Engine) -> None:
        summaries = await engine.contexts()
        if as_json:
            _print_json(summaries)
            return
        if not summaries:
            stderr.print("No contexts yet. `sleeptime add FILE` keeps one.")
            return
        table = _table("name", "id", "characters>", "versions>", "notes>", "slept", "decided")
        for s in summaries:
            slept = f"{s.slept_at:%Y-%m-%d %H:%M}" if s.slept_at else "never"
            slept += ", edited since" if s.is_edited else ""
            table.add_row(escape(s.name), s.id, f"{s.characters:,}", str(s.versions), str(s.notes), slept, s.decision)
        stdout.print(table)

    _run(work, database=database)


@app.command()
def why(
    name: Name,
    model: ModelName = None,
    limit: Annotated[int, typer.Option(help="Decisions to print, at most.", min=1, max=50)] = 10,
    doubt: Doubt = None,
    max_regret: MaxRegret = None,
    allowance: Allowance = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Say what would be decided on a context now, and what was decided before, with the numbers it rested on.

    A decision is one of: pays, due (sleep); wait, doubt, not-due, no-saving (leave it); guard (held back).
    It is kept where it became another, and where it was acted on, with what came of it. Nothing is spent.

    For example:

      sleeptime why report

      sleeptime why report --doubt 1 --json
    """

    async def work(engine: Engine) -> None:
        now, before = await engine.decide(name), await engine.why(name, limit=limit)
        if as_json:
            _print_json({"now": None if now is None else wire.decision(now), "before": before})
            return
        typer.echo(f"now: {now.sentence}" if now else "now: all of it has notes, so there is nothing to sleep on.")
        if now:
            _note(_numbers(now))
        for decided in before:
            typer.echo(_decided_line(decided))

    _run(work, database=database, model=model, rules=_rules(doubt, max_regret, allowance))


def _numbers(decision: Decision) -> str:
    prospect = decision.prospect
    expected = "unknown" if decision.queries is None else f"{decision.queries:.1f}"
    price, saving, extra, net = (
        f"{amount:,.0f}" if abs(amount) >= 100 else f"{amount:.3g}"
        for amount in (prospect.price, prospect.saving, prospect.extra_paid, decision.net_saving)
    )
    return (
        f"In {prospect.unit}: price at most {price} ({prospect.tokens:,} tokens in all), saving per query {saving}, "
        f"queries expected {expected}, seen without notes {prospect.queries_seen}, extra paid {extra}, "
        f"net saving {net}."
    )


def _decided_line(decided: Decided) -> str:
    outcome = f" → {decided.outcome}" if decided.outcome else ""
    looked = f" ({decided.trigger})" if decided.trigger else ""
    return f"{decided.at:%Y-%m-%d %H:%M} {decided.reason}{looked}: {decided.sentence}{outcome}"


@app.command()
def show(
    name: Name,
    version: Annotated[
        int | None, typer.Option(help="Version; else the newest.", min=1, max=MOST_VERSIONS, show_default=False)
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Print the text of the context as well.")] = False,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Show a context and the notes that were learned about it, with the evidence each rests on.

    Notes whose evidence changed since are marked as stale; no answer is shown them.
    """

    async def work(engine: Engine) -> None:
        context = await engine.store.context(name)
        versions = await engine.store.versions(context.id)
        learned = await engine.store.learned(context.id, version)
        if version is not None and learned is None:
            raise VersionNotFoundError(context.name, version)
        if as_json:
            _print_json(wire.shown(context, len(versions), learned))
            return
        stdout.print(
            f"[bold]{escape(context.name)}[/bold]  {context.id}  {len(context.text):,} characters", highlight=False
        )
        if text:
            stdout.print(context.text, markup=False, highlight=False)
        if learned is None:
            stdout.print(
                f"Nothing learned yet. Next: sleeptime sleep {quote(context.name)}", markup=False, highlight=False
            )
            return
        stdout.print(
            f"{_learned_line(learned)}; {learned.strategy} by {learned.model}, {learned.created_at:%Y-%m-%d %H:%M} UTC",
            markup=False,
            highlight=False,
        )
        stale = staleness.stale(learned, context)
        if stale:
            _note(f"Stale, for the text they rest on changed: {len(stale)} of {len(learned.notes)} notes.")
        places = {section.fingerprint: section for section in context.sections}
        for note in learned.notes:
            status = ", pinned" if note.is_pinned else ""
            status = f"{note.status}{status}" + (", [red]stale[/red]" if note.id in stale else "")
            stdout.print(f"  [bold]{note.id}[/bold] {note.kind}, {status}: {escape(note.plain)}", highlight=False)
            for quoted in dict.fromkeys(_quoted(context.text, span, places) for span in note.evidence):
                stdout.print(f"     [dim]· {escape(quoted)}[/dim]", highlight=False)

    _run(work, database=database)


def _quoted(text: str, span: Span, places: Mapping[str, Section]) -> str:
    section = places.get(span.section)
    if section:
        return text[section.start + span.start : section.start + span.end]
    return "(the whole text)" if span == EVERYWHERE else "(text that is gone)"


@app.command("diff")
def diff_versions(
    name: Name,
    before: Annotated[
        int | None, typer.Argument(help="A version; by default the one before.", min=1, max=MOST_VERSIONS)
    ] = None,
    after: Annotated[
        int | None, typer.Argument(help="Another version; by default the newest.", min=1, max=MOST_VERSIONS)
    ] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Tell two versions of what was learned apart: notes added, replaced, retired, and gone because they were stale.

    For example:

      sleeptime diff report

      sleeptime diff report 1 3
    """

    async def work(engine: Engine) -> None:
        found = await engine.diff(name, before, after)
        if as_json:
            _print_json(found)
            return
        _print_diff(found)

    _run(work, database=database)


def _print_diff(found: Diff) -> None:
    def line(mark: str, word: str, note: Note) -> None:
        stale = " [red](stale now)[/red]" if mark in "+=" and note.id in found.stale_now else ""
        stdout.print(f"{mark} {word:<8} [bold]{note.id}[/bold] {escape(note.plain)}{stale}", highlight=False)

    for note in found.stale:
        line("-", "stale", note)
    for note in found.retired:
        line("-", "retired", note)
    for old, new in found.replaced:
        line("-", "replaced", old)
        line("+", "by", new)
    for note in found.added:
        line("+", "added", note)
    for old, new in found.marked:
        pinned = "" if old.is_pinned == new.is_pinned else "pinned" if new.is_pinned else "unpinned"
        line("=", pinned if old.status == new.status else new.status, new)
    for note in found.kept:
        if note.id in found.stale_now:
            line("=", "kept", note)
    stdout.print(
        f"version {found.before} → {found.after}: {len(found.kept)} kept, {len(found.added)} added, "
        f"{len(found.replaced)} replaced, {len(found.retired)} retired, {len(found.stale)} stale",
        highlight=False,
    )


@app.command()
def note(
    name: Name,
    note_id: Annotated[str, typer.Argument(help="Id of a note of the newest version, such as n3.", metavar="ID")],
    pin: Annotated[bool, typer.Option("--pin", help="Keep it through every sleep.")] = False,
    unpin: Annotated[bool, typer.Option("--unpin", help="Let sleeps change it again.")] = False,
    quarantine: Annotated[bool, typer.Option("--quarantine", help="Show it to no answer.")] = False,
    release: Annotated[bool, typer.Option("--release", help="Show it to answers again.")] = False,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Say by hand what becomes of a note, and publish that as a new version.

    No sleep changes, drops or cuts a pinned note; if its evidence goes stale, it is quarantined. A quarantined note
    is shown to no answer and to no sleep, and no sleep writes it again. Versions before stay as they are.

    For example:

      sleeptime note report n3 --pin

      sleeptime note report n5 --quarantine

      sleeptime note report n5 --release
    """

    async def work(engine: Engine) -> None:
        told = ((pin, engine.pin), (unpin, engine.unpin), (quarantine, engine.quarantine), (release, engine.release))
        for is_told, change in told:
            if is_told:
                learned = await change(name, note_id)
                if as_json:
                    _print_json(learned)
                else:
                    typer.echo(_learned_line(learned))

    if pin + unpin + quarantine + release != 1:
        raise typer.BadParameter("say one of --pin, --unpin, --quarantine and --release")
    _run(work, database=database)


@app.command()
def rollback(
    name: Name,
    version: Annotated[
        int, typer.Argument(help="The version to go back to.", min=1, max=MOST_VERSIONS, show_default=False)
    ],
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Make an older version the current one, by publishing it anew as the next.

    Nothing is deleted: a rollback can be rolled back. Notes of it that are stale in today's text stay hidden.
    """

    async def work(engine: Engine) -> None:
        learned = await engine.rollback(name, version)
        context = await engine.store.context(learned.context_id)
        if as_json:
            _print_json(wire.learned_now(context, learned))
            return
        stale = staleness.stale(learned, context)
        typer.echo(_learned_line(learned))
        if stale:
            _note(f"Stale in today's text, and not shown to answers: {len(stale)} of its {len(learned.notes)} notes.")

    _run(work, database=database)


@app.command()
def forget(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Delete a context with everything that was learned about it. Its ledger rows stay."""

    async def work(engine: Engine) -> None:
        context = await engine.store.context(name)
        versions = await engine.store.versions(context.id)
        if not yes:
            if not sys.stdin.isatty():
                raise InputError("Forgetting cannot be undone: say --yes.")
            typer.confirm(f"Forget {context.name!r} and its {len(versions)} versions?", abort=True, err=True)
        await engine.forget(context.id)
        if as_json:
            _print_json(wire.forgotten(context, len(versions)))
        else:
            _note(f"Forgot {context.name!r} and {len(versions)} versions.")

    _run(work, database=database)


@app.command()
def ledger(
    name: Annotated[str | None, typer.Argument(help="Only this context.", show_default=False)] = None,
    test_price: Annotated[
        float, typer.Option("-t", help="Price of a test-time token in sleep tokens.", min=0, max=1e9)
    ] = DEFAULT_TEST_TOKEN_PRICE,
    calls: Annotated[int | None, typer.Option(help="Print the newest N model calls instead.", min=1)] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """Print what sleeping and answering cost, what was saved so far, and when sleep pays.

    B and b are the mean output tokens of an answer without and with notes, as measured; S those of sleeping.
    Sleep has paid for itself after N* = S / (t (B - b)) queries. What was not measured is shown as unknown.
    """

    async def work(engine: Engine) -> None:
        if calls is not None:
            rows = await engine.calls(name, limit=calls)
            if as_json:
                _print_json(rows)
                return
            table = _table("at", "phase", "model", "input>", "cached>", "output>", "cost>", "seconds>", "outcome")
            for row in rows:
                u = row.usage
                table.add_row(
                    f"{row.at:%Y-%m-%d %H:%M:%S}",
                    row.phase,
                    escape(row.model),
                    f"{u.input_tokens:,}",
                    f"{u.cached_input_tokens:,}",
                    f"{u.output_tokens:,}",
                    _usd(row.cost_usd),
                    f"{row.latency_s:.2f}",
                    row.outcome,
                )
            stdout.print(table)
            return
        kept = await engine.ledger(test_price=test_price)
        accounts = kept.accounts
        if name is not None:
            context_id = await engine.context_id(name)
            accounts = tuple(a for a in accounts if a.context_id == context_id)
        total = kept.total if name is None else accounts[0]
        if as_json:
            _print_json({"accounts": [wire.account(a) for a in accounts], "total": wire.account(total)})
            return
        if not accounts:
            stderr.print("The ledger is empty.")
            return
        shown = accounts if name or len(accounts) == 1 else (*accounts, kept.total)
        stdout.print(_tokens_table(shown))
        stdout.print(_pays_table(shown, test_price))
        if any(not a.baseline_is_own and a.tokens.without_sleep is not None for a in accounts):
            _note("* measured on other contexts: no answer without sleep was asked here.")
        for a in accounts:
            if len({level for _, level, _ in a.levels}) > 1:
                asked = ", ".join(f"{works} at {level} seeing {sees}" for sees, level, works in a.levels)
                _note(f"B and b of {a.name} mix budgets: {asked}.")

    _run(work, database=database)


@app.command()
def caps(database: Database = None, as_json: Json = False) -> None:
    """Print what all sleeps may spend together, what they have spent, and what is left.

    Caps stand under [caps] in sleeptime.toml, in the folder of the data; days and months are those of UTC. They are
    checked before each call, over all workers, and hold exactly; what is set aside is for calls under way.

    For example, two dollars a day and at most 200,000 output tokens for one context:

      [caps]
      day_usd = 2.00
      context_tokens = 200000
    """

    async def work(engine: Engine) -> None:
        most, spent = engine.settings.caps, await engine.capped()
        if as_json:
            _print_json(wire.caps(most, spent))
            return
        table = _table("of sleeps", "cap>", "spent>", "set aside>", "left>")
        for period, tokens, usd in most.periods:
            used = spent[period]
            left = None if tokens is None else max(0, tokens - used.tokens - used.open_tokens)
            table.add_row(
                f"this {period}, output tokens",
                "none" if tokens is None else f"{tokens:,}",
                f"{used.tokens:,}",
                f"{used.open_tokens:,}",
                "no cap" if left is None else f"{left:,}",
            )
            paid, aside = used.nano_usd / NANO, used.open_nano_usd / NANO
            table.add_row(
                f"this {period}, money",
                "none" if usd is None else _usd(usd),
                _usd(paid),
                _usd(aside),
                "no cap" if usd is None else _usd(max(0.0, usd - paid - aside)),
            )
        of_one = [f"{most.context_tokens:,} output tokens"] if most.context_tokens is not None else []
        of_one += [_usd(most.context_usd)] if most.context_usd is not None else []
        stdout.print(table)
        _note(f"For one context, ever: {' and '.join(of_one) or 'no cap'}.")

    _run(work, database=database)


@app.command()
def worker(
    model: SleepModelName = None,
    concurrency: Annotated[int, typer.Option(help="Sleeps at once.", min=1)] = 4,
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help="Look once at what is due, and exit when no job is left.")
    ] = False,
    decide: Annotated[
        bool, typer.Option("--decide/--no-decide", help="Decide on sleeps by itself as well, or do queued ones only.")
    ] = True,
    doubt: Doubt = None,
    max_regret: MaxRegret = None,
    allowance: Allowance = None,
    database: Database = None,
) -> None:
    """Decide what to sleep on and do it, and do the sleeps that were left with --background, until stopped.

    It looks at a context when [sleep] in sleeptime.toml says: 30 seconds after its last query or edit, unless set
    otherwise. Each decision is told on stderr and kept (`sleeptime why`). What it spends by itself is bounded by the
    allowance and by the caps ([caps] in the same file).

    Any number of workers may share a database. One that is killed is taken for dead after 15 seconds (`lease_s` in
    sleeptime.toml), and another goes on with its sleeps at the round they were in. Ctrl-C or SIGTERM lets the rounds
    in flight finish and hands the rest back.

    For example:

      sleeptime sleep report --background

      sleeptime worker --model openai:gpt-5-mini

      sleeptime worker --no-decide --until-idle
    """

    async def work(engine: Engine) -> None:
        doing, planning = engine.worker(concurrency=concurrency, tell=_note), engine.planner(tell=_note)
        planning.on_queued = doing.wake

        def stop() -> None:
            planning.stop()
            doing.stop()

        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, stop)
        _note("Working. Ctrl-C hands back what is under way.")
        if decide:
            _note(engine.settings.sleep.in_words)
        if decide and until_idle and engine.settings.sleep.is_auto:
            await planning.look_now()
        async with asyncio.TaskGroup() as group:
            if decide and not until_idle:
                group.create_task(planning.run())
            group.create_task(doing.run(until_idle=until_idle))

    _run(work, database=database, sleep_model=model, rules=_rules(doubt, max_regret, allowance))


@app.command("jobs")
def list_jobs(
    pause: Annotated[str | None, typer.Option(help="Let this job wait.", metavar="ID", show_default=False)] = None,
    resume: Annotated[str | None, typer.Option(help="Queue this job again.", metavar="ID", show_default=False)] = None,
    cancel: Annotated[str | None, typer.Option(help="Give this job up.", metavar="ID", show_default=False)] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """List the sleeps left to workers: their state, attempts, rounds, and what they wait for.

    For example:

      sleeptime jobs

      sleeptime jobs --cancel j0123456789ab
    """

    async def work(engine: Engine) -> None:
        for job_id, change in ((pause, engine.pause), (resume, engine.resume), (cancel, engine.cancel)):
            if job_id is not None:
                await change(job_id)
        jobs = await engine.jobs()
        names = {context.id: context.name for context in await engine.contexts()}
        if as_json:
            _print_json([wire.job(job, names.get(job.context_id)) for job in jobs])
            return
        table = _table("job", "context", "state", "attempts", "rounds", "waits for")
        for job in jobs:
            name = escape(names.get(job.context_id, job.context_id))
            table.add_row(job.id, name, job.state, str(job.attempts), str(job.rounds), escape(wire.waits_for(job)))
        stdout.print(table)

    _run(work, database=database)


@app.command()
def demo(
    contexts: Annotated[int, typer.Option(help="Contexts to draw; 500 for the table of the log.", min=2)] = 32,
    queries: Annotated[int, typer.Option(help="Queries asked about each.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the held-out draw; any other gives a fresh one.")] = 20504,
    family: Annotated[str, typer.Option(help="Family of synthetic contexts.")] = "sheets",
    report: Annotated[Path, typer.Option(help="Where to write the report.", dir_okay=False)] = Path("report.html"),
    as_json: Json = False,
) -> None:
    """Measure the whole idea offline, on the tiny model that ships with the package.

    The model thinks about contexts it has never seen, then answers with and without what it learned. Prints one
    example to follow and a table with 95 % intervals, and writes a report that opens offline.

    For example:

      sleeptime demo

      sleeptime demo --contexts 500 --seed 7 --json > table.json
    """
    # The measurement brings numpy and altair, which no other command needs.
    from sleeptime.evals.data.chains import FAMILIES  # noqa: PLC0415  # as above
    from sleeptime.evals.demo.demo import measure_tiny  # noqa: PLC0415  # as above
    from sleeptime.evals.demo.report import render_html, render_text  # noqa: PLC0415  # as above

    if family not in FAMILIES:
        raise typer.BadParameter(f"--family is one of {', '.join(FAMILIES)}")

    if not report.absolute().parent.is_dir():
        raise InputError(f"There is no folder {report.absolute().parent} to write the report to.")

    async def work() -> None:
        with _steps_bar("thinking and answering") as on_progress:
            result = await measure_tiny(
                contexts=contexts, queries_per_context=queries, seed=seed, family=family, on_progress=on_progress
            )
        if as_json:
            _print_json(result.as_json())
        else:
            sys.stdout.write(render_text(result, width=min(stdout.width, 110), color=stdout.is_terminal))
        try:
            report.write_text(render_html(result), encoding="utf-8")
        except OSError as error:
            raise InputError(f"The report cannot be written to {report}: {error.strerror}.") from error
        _note(f"Wrote {report}: open it in a browser.")

    _await(work, "Interrupted. Nothing was kept: the demo works in a folder that is gone now.")


def _tokens_table(accounts: tuple[Account, ...]) -> Table:
    table = _table(
        "context",
        "queries>",
        "sleep in>",
        "sleep out>",
        "test in>",
        "cached>",
        "test out>",
        "total>",
        "cost>",
        title="Spent",
    )
    for a in accounts:
        table.add_row(
            escape(a.name),
            str(a.queries),
            f"{a.sleep.input_tokens:,}",
            f"{a.sleep.output_tokens:,}",
            f"{a.test.input_tokens:,}",
            f"{a.test.cached_input_tokens:,}",
            f"{a.test.output_tokens:,}",
            f"{a.total.total_tokens:,}",
            _usd(a.total_cost_usd),
        )
    return table


def _pays_table(accounts: tuple[Account, ...], test_price: float) -> Table:
    table = _table(
        "context", "S>", "B>", "b>", "N*>", "saved tokens>", "saved>", title=f"Does it pay? (t = {test_price:g})"
    )
    for a in accounts:
        baseline = _number(a.tokens.without_sleep) + (
            "" if a.baseline_is_own or a.tokens.without_sleep is None else "*"
        )
        table.add_row(
            escape(a.name),
            _number(a.tokens.sleep),
            baseline,
            _number(a.tokens.with_sleep),
            _break_even(a.tokens),
            _number(a.saved_tokens),
            _usd(a.saved_usd),
        )
    return table


def _break_even(inputs: BreakEven) -> str:
    if inputs.queries is not None:
        return f"{inputs.queries:.1f}"
    measured = None not in (inputs.sleep, inputs.without_sleep, inputs.with_sleep)
    return "never" if measured else "unknown"


@asynccontextmanager
async def _engine(
    database: str | None, model: str | None, sleep_model: str | None, rules: Callable[[], Rules]
) -> AsyncGenerator[Engine]:
    from sleeptime.engine import Engine  # noqa: PLC0415  # keeps --help quick

    async with Engine.open(
        database=database, model=model, sleep_model=sleep_model, rules=rules(), worker=False
    ) as engine:
        yield engine


def _run(
    work: Callable[[Engine], Coroutine[Any, Any, None]],
    *,
    database: str | None,
    model: str | None = None,
    sleep_model: str | None = None,
    rules: Callable[[], Rules] | None = None,
    if_interrupted: str = "Interrupted.",
) -> None:
    async def whole() -> None:
        async with _engine(database, model, sleep_model, rules or _rules(None, None, None)) as engine:
            await work(engine)

    _await(whole, if_interrupted)


def _await(work: Callable[[], Coroutine[Any, Any, None]], if_interrupted: str) -> None:
    try:
        asyncio.run(work())
    except KeyboardInterrupt:
        stderr.print(if_interrupted)
        raise typer.Exit(1) from None


@contextmanager
def _rounds_bar(name: str, plan: Plan) -> Generator[Callable[[Draft], None]]:
    """Show the rounds of a sleep."""
    with _bar(f"sleeping on {name}") as move:
        drafts: dict[int, Draft] = {}

        def on_draft(draft: Draft) -> None:
            drafts[draft.sample] = draft
            notes = sum(len(each.notes) for each in drafts.values())
            characters = sum(each.characters for each in drafts.values())
            rounds = sum(each.rounds for each in drafts.values())
            learned = f"sleeping on {name}: {notes} notes, {characters} characters"
            move(rounds, plan.budget.max_rounds * plan.samples, learned)

        yield on_draft


@contextmanager
def _steps_bar(words: str) -> Generator[Callable[[int, int], None]]:
    """Show the steps of long work."""
    with _bar(words) as move:
        yield lambda done, steps: move(done, steps, words)


@contextmanager
def _bar(words: str) -> Generator[Callable[[int, int, str], None]]:
    """Show a bar on a terminal, and a line for every tenth of the way in a log."""
    if not stderr.is_terminal:
        yield _log_tenths
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr, transient=True) as progress:
        bar = progress.add_task(words, total=None)
        yield lambda done, steps, words: progress.update(bar, completed=done, total=steps, description=words)


def _log_tenths(done: int, steps: int, words: str) -> None:
    if steps >= LOGGED_STEPS and done * 10 // steps > (done - 1) * 10 // steps:
        _note(f"{words}: {done} of {steps}")


def _note(words: str) -> None:
    """Say something on stderr, as it is."""
    stderr.print(words, markup=False, highlight=False, soft_wrap=True)


def _bill(input_tokens: int, output_tokens: int, cost_usd: float | None, phase: str, more: str = "") -> None:
    stderr.print(
        f"[dim]{output_tokens:,} {phase} tokens, {input_tokens:,} input tokens, {_price(cost_usd)}{more}[/dim]",
        highlight=False,
        soft_wrap=True,
    )


def _usd(cost_usd: float | None) -> str:
    if cost_usd is None:
        return "unknown"
    return f"${cost_usd:.2f}" if abs(cost_usd) >= 1 or cost_usd == 0 else f"${cost_usd:.3g}"


def _price(cost_usd: float | None) -> str:
    return "price unknown" if cost_usd is None else _usd(cost_usd)


def _number(value: float | None) -> str:
    return (
        "unknown" if value is None else f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.1f}"
    )


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(
        title=title, box=None, pad_edge=False, header_style="bold", title_justify="left", padding=(0, 2, 0, 0)
    )
    for column in columns:
        table.add_column(column.removesuffix(">"), justify="right" if column.endswith(">") else "left", no_wrap=True)
    return table


def _print_json(value: object) -> None:
    typer.echo(json.dumps(wire.plain(value), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
