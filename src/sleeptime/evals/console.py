"""What the commands of the evaluation share: answers go to stdout, everything else to stderr.

This file imports nothing heavy, so that `sleeptime --help` stays quick.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from sleeptime.core.usage import PriceCard
    from sleeptime.evals.data.splitter import SplitMode

WIDE = 160
"""A table that goes to a file or a pipe is not squeezed into 80 columns."""
LOGGED_TENTHS = 20
"""Shorter work is not worth lines in a log."""

stdout = Console(soft_wrap=True, width=None if sys.stdout.isatty() else WIDE)
stderr = Console(stderr=True)


def note(words: str) -> None:
    """Say something on stderr, as it is."""
    stderr.print(words, markup=False, highlight=False, soft_wrap=True)


def print_json(value: object) -> None:
    """Print *value* on stdout."""
    typer.echo(json.dumps(value, default=str, indent=2, ensure_ascii=False))


@contextmanager
def counting(words: str, steps: int) -> Generator[Callable[[], None]]:
    """Show a bar on a terminal, and in a log a line for every tenth of the way; call what is given after each step."""
    done = 0
    if not stderr.is_terminal:

        def advance() -> None:
            nonlocal done
            done += 1
            if steps >= LOGGED_TENTHS and done * 10 // steps > (done - 1) * 10 // steps:
                note(f"{words}: {done:,} of {steps:,}")

        yield advance
        return
    columns = (SpinnerColumn(), TextColumn(words), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=stderr, transient=True) as progress:
        bar = progress.add_task("", total=steps)
        yield lambda: progress.advance(bar)


def table(first: str, *numbers: str) -> Table:
    """Begin a table: words in the first column, numbers in the others."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    made.add_column(first)
    for column in numbers:
        made.add_column(column, justify="right")
    return made


def split_mode(written: str) -> SplitMode:
    """Read --split."""
    from sleeptime.evals.data.splitter import SPLIT_MODES  # noqa: PLC0415 - the module says why

    for mode in SPLIT_MODES:
        if mode == written:
            return mode
    raise typer.BadParameter(f"--split is one of {', '.join(SPLIT_MODES)}, not {written!r}")


def cards(path: Path | None) -> Sequence[PriceCard]:
    """Read --prices."""
    from sleeptime.models.prices import load_cards  # noqa: PLC0415 - the module says why

    return load_cards(path) if path else ()
