"""The files that `make-queries` writes.

    FILE.jsonl         contexts with their queries, in the format of a user's own data
    FILE.report.json   what was written, kept and dropped, and why; where it all comes from
    FILE.calls.db      every paid call, and what was asked for

A context is appended as soon as it is done; at the end the file is put into the order of its
source. The journal of calls is what makes a run go on after a crash: the same run replays
what was paid for. This file asks no model.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from sleeptime.core.errors import InputError
from sleeptime.core.usage import Usage
from sleeptime.evals.queries.more_queries import REASONS, Made, Reason, Source
from sleeptime.evals.runs.journal import Journal, connect

EXAMPLES = 5
"""Dropped queries of each reason that the report shows."""
_SCHEMA = "CREATE TABLE IF NOT EXISTS recipe (value TEXT NOT NULL)"

Row = dict[str, Any]  # Any: a line of JSON


class QueryFileError(InputError):
    """A file of queries cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that decides which queries come out, and where they come from. A file holds queries of one recipe."""

    source: str
    source_sha256: str
    origin: str
    licence: str
    split: str
    writer: str
    solver: str
    queries: int
    solvers: int
    level: str
    temperature: float
    prompts: dict[str, str]


_RECIPE = TypeAdapter(Recipe)
_TELLS_ONLY = ("origin", "licence")  # words about the source, which its hash stands for


class QueryFile:
    """A file of queries, opened for writing. Make it with `open_query_file`."""

    def __init__(self, path: Path, recipe: Recipe, connection: sqlite3.Connection, journal: Journal) -> None:
        self.path, self.journal = path, journal
        self._recipe, self._connection = recipe, connection
        self._rows = _whole_rows(path)

    def keep(self, made: Made) -> None:
        """Append what came of a context, unless the file has it already. Raises QueryFileError."""
        if made.error and not made.kept:
            return
        row = row_of(made, self._recipe)
        if self._rows.get(row["id"]) == row:
            return
        self._rows[row["id"]] = row
        try:
            with self.path.open("ab") as file:
                file.write(_line(row))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise QueryFileError(f"{self.path} cannot be written: {error.strerror}. Run again to go on.") from error

    def finish(self, sources: Sequence[Source], report: Row) -> None:
        """Put the file into the order of *sources*, and write the report beside it."""
        ordered = [self._rows[source.context_id] for source in sources if source.context_id in self._rows]
        wanted = {source.context_id for source in sources}
        ordered += [row for context_id, row in self._rows.items() if context_id not in wanted]
        if ordered:
            _replace(self.path, b"".join(_line(row) for row in ordered))
        _replace(report_path(self.path), json.dumps(report, indent=1, ensure_ascii=False).encode("utf-8", "replace"))

    def close(self) -> None:
        self._connection.close()


def report_path(path: Path) -> Path:
    """Where the report of a file of queries lies."""
    return path.with_suffix(".report.json")


def calls_path(path: Path) -> Path:
    """Where the paid calls of a file of queries lie."""
    return path.with_suffix(".calls.db")


def open_query_file(path: Path, recipe: Recipe, *, max_cost_usd: float | None) -> QueryFile:
    """Begin a file of queries, or go on with the one there. Raises QueryFileError if it is not of this recipe."""
    if path.exists() and not calls_path(path).exists():
        raise QueryFileError(f"{path} exists and was not made here. Choose another --out.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise QueryFileError(f"{path.parent} cannot be made: {error.strerror}. Choose another --out.") from error
    connection = connect(calls_path(path))
    connection.execute(_SCHEMA)
    kept = connection.execute("SELECT value FROM recipe").fetchone()
    if kept is None:
        connection.execute("INSERT INTO recipe VALUES (?)", (_RECIPE.dump_json(recipe).decode(),))
    else:
        try:
            _check_same(path, _RECIPE.validate_json(kept[0]), recipe)
        except QueryFileError:
            connection.close()
            raise
    return QueryFile(path, recipe, connection, Journal(connection, max_cost_usd=max_cost_usd))


def row_of(made: Made, recipe: Recipe) -> Row:
    """Write a context as a line of a user's own data: its own queries first, then those that were kept."""
    own = [
        {"question": sample.question, "answer": sample.target, "original": True}
        | ({"stratum": sample.stratum} if sample.stratum else {})
        for sample in made.source.samples
    ]
    more = [
        {
            "question": kept.question,
            "answer": kept.answer,
            "original": False,
            "writer": recipe.writer,
            "solver": recipe.solver,
            "level": recipe.level,
            "agreed": kept.agreed,
            "runs": kept.runs,
        }
        for kept in made.kept
    ]
    return {
        "id": made.source.context_id,
        "cluster": made.source.samples[0].cluster,
        "context": made.source.context,
        "queries": own + more,
        "prompts": made.prompts,
    }


def report_of(
    recipe: Recipe, sources: Sequence[Source], made: Sequence[Made], journal: Journal, *, now: datetime
) -> Row:
    """Say what was written, kept and dropped, with examples in the order of *sources*, and where it comes from."""
    places = {source.context_id: place for place, source in enumerate(sources)}
    made = sorted(made, key=lambda each: places[each.source.context_id])
    dropped = [(each.source.context_id, drop) for each in made for drop in each.dropped]
    counts = Counter[Reason](drop.reason for _, drop in dropped)
    kept = sum(len(each.kept) for each in made)
    agreed = kept + counts["writer disagrees"]
    finished = [each for each in made if not each.error]
    return {
        "origin": f"Queries written by {recipe.writer} about contexts of {recipe.source}, each kept because "
        f"{recipe.solver} agreed with it twice without seeing its answer. No person has checked them.",
        "licence": f"Contexts and original queries: {recipe.licence}. "
        f"Queries of {recipe.writer}: the terms of whoever provides that model.",
        "recipe": _RECIPE.dump_python(recipe, mode="json"),
        "contexts": {
            "wanted": len(sources),
            "finished": len(finished),
            "unfinished": len(made) - len(finished),
            "untouched": len(sources) - len(made),
            "lacking": sum(len(each.kept) < recipe.queries for each in finished),
        },
        "queries": {
            "original": sum(len(source.samples) for source in sources),
            "written": kept + len(dropped),
            "kept": kept,
        },
        "agreement": {
            "solved": agreed + counts["solvers disagree"],
            "solvers_agreed": agreed,
            "writer_agreed": kept,
        },
        "dropped": {
            reason: {
                "count": counts[reason],
                "words": words,
                "examples": [
                    {"context": context_id, "question": drop.question, "answer": drop.answer, "because": drop.because}
                    for context_id, drop in dropped
                    if drop.reason == reason
                ][:EXAMPLES],
            }
            for reason, words in REASONS.items()
            if counts[reason]
        },
        "unreadable_replies": sum(each.unreadable_replies for each in made),
        "errors": sorted({each.error for each in made if each.error}),
        "usage": {
            "writer": _tokens(sum((each.writer_usage for each in made), Usage())),
            "solver": _tokens(sum((each.solver_usage for each in made), Usage())),
        },
        "paid_calls": journal.paid_calls,
        "spent_usd": journal.spent_usd,
        "max_cost_usd": journal.max_cost_usd,
        "sleeptime": version("sleeptime"),
        "made_at": now.isoformat(timespec="seconds"),
    }


def _tokens(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


def _check_same(path: Path, kept: Recipe, wanted: Recipe) -> None:
    before, now = (_RECIPE.dump_python(each) for each in (kept, wanted))
    for name, value in now.items():
        if name not in _TELLS_ONLY and before[name] != value:
            raise QueryFileError(
                f"{path} was made with another {name.replace('_', ' ')}: {before[name]}, not {value}. "
                "Choose another --out, or delete the file and its .calls.db."
            )


def _whole_rows(path: Path) -> dict[str, Row]:
    """Read the rows that were written whole, and cut off what a dying process left of the last one."""
    if not path.exists():
        return {}
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    try:
        rows: list[Row] = [json.loads(line) for line in whole.decode().split("\n") if line]
        return {str(row["id"]): row for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise QueryFileError(f"{path} was changed since it was written: {error}. Choose another --out.") from error


def _line(row: Row) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"{path.name}.new")
    try:
        fresh.write_bytes(content)
        fresh.replace(path)
    except OSError as error:
        raise QueryFileError(f"{path} cannot be written: {error.strerror}. Run again to go on.") from error
