"""Whether every figure's numbers are what was on the wire: GSM-Symbolic, AIME and a file of our own, end to end.

    python -m benchmarks.wire --data DIR [--limit 50] [--only gsm|aime|own] [--json]

A scripted model on loopback (`oracle`) logs what it reported. `sleeptime eval run` measures it as any user
would, in a process of its own; `analysis.analyse` finds the figures in what that run kept; and `by_hand`
works them out again from the log and the dataset's file alone. Then the same command is run again while no
call fails: what was missing is filled in, what was paid for is not paid again, and all must be equal once more.
Exit 1 where a single number differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks.by_hand import Card, Hand, Line, Value, compared
from benchmarks.loopback import served
from benchmarks.oracle import Oracle, Problem, Problems
from sleeptime.evals.analysis.analyse import analyse
from sleeptime.evals.runs.run_folder import read_run

PRICES = """
[[card]]
model = "http://127.0.0.1*"
dated = 2025-01-01
input_usd_per_mtok = 0.2
cached_input_usd_per_mtok = 0.05
output_usd_per_mtok = 0.8
"""
CARD = Card(input=Fraction("0.2"), cached=Fraction("0.05"), output=Fraction("0.8"))
TIMEOUT_S = 1200
VERBOSE = ("e1", "e3", "e4", "e5", "e8")
REASONING = ("e2",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What is run: experiments on a dataset. With prices no reply is broken: what such a one cost nobody knows."""

    name: str
    experiments: tuple[str, ...]
    dataset: str
    problems: tuple[Problem, ...]
    is_priced: bool
    trouble: int = 1
    salt: str = "salt"
    limit: int | None = None
    data: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The lines of a course, after its first run and after its second, and what happened on the wire."""

    course: str
    lines: tuple[Line, ...]
    healed: tuple[Line, ...]
    requests: int
    faults: dict[str, int]

    @property
    def different(self) -> list[Line]:
        return [line for line in (*self.lines, *self.healed) if not line.is_equal]


def gsm(data: Path, *, limit: int) -> Course:
    """The experiments without reasoning dials on GSM-Symbolic P2."""
    problems = [
        Problem(
            id=f"{row['id']}/{row['instance']}",
            cluster=str(row["id"]),
            text=row["question"],
            targets=(number(row["answer"].rpartition("####")[2]),),
            stratum="",
        )
        for row in rows(found(data, "GSM_p2.jsonl"))
    ]
    return Course(
        name="gsm-symbolic-p2",
        experiments=VERBOSE,
        dataset="gsm-symbolic-p2",
        problems=tuple(problems),
        is_priced=True,
        limit=limit,
        data=data,
    )


def aime(data: Path, *, limit: int) -> Course:
    """The experiment with reasoning dials on both years of AIME."""
    problems = [
        Problem(
            id=f"{name} {place}",
            cluster=f"{name} {place}",
            text=row["problem"],
            targets=(number(row["expected_answer"]),),
        )
        for name in ("nemo_aime24.jsonl", "nemo_aime25.jsonl")
        for place, row in enumerate(rows(found(data, name)))
    ]
    return Course(
        name="aime",
        experiments=REASONING,
        dataset="aime",
        problems=tuple(problems),
        is_priced=False,
        limit=limit,
        data=data,
    )


def own(folder: Path, *, contexts: int = 8) -> list[Course]:
    """Both kinds of experiments on a file of our own: contexts with one query or two, in clusters and strata."""
    path = folder / "shelves.jsonl"
    problems: list[Problem] = []
    with path.open("w", encoding="utf-8") as file:
        for place in range(contexts):
            row = _shelf(place)
            file.write(json.dumps(row) + "\n")
            problems.append(
                Problem(
                    id=row["id"],
                    cluster=row["cluster"],
                    text=" ".join([row["context"], *(query["question"] for query in row["queries"])]),
                    targets=tuple(number(query["answer"]) for query in row["queries"]),
                    questions=tuple(query["question"] for query in row["queries"]),
                    stratum=row["stratum"],
                )
            )
    return [
        Course(
            name=f"own, {name}",
            experiments=experiments,
            dataset=str(path),
            problems=tuple(problems),
            is_priced=is_priced,
            trouble=3,
        )
        for name, experiments, is_priced in (("verbosity", VERBOSE, True), ("effort", REASONING, False))
    ]


def _shelf(place: int) -> dict[str, Any]:  # Any: JSON
    keeper = ("Ines", "Marek", "Oona", "Tariq", "Wilma", "Yusuf", "Zofia", "Bruno")[place % 8]
    jars, more, cents = 30 + 7 * place, 3 + place, 25 + 50 * (place % 3)
    all_jars = jars + 2 * more
    queries = [
        {"question": f"How many jars does {keeper} have by the evening?", "answer": str(all_jars)},
        {
            "question": f"How much do all jars of {keeper} cost then?",
            "answer": f"${(jars + 2 * more) * cents / 100:,.2f}",
        },
    ]
    return {
        "id": f"shelf {place}",
        "cluster": f"keeper {place // 2}" if place < 2 else f"keeper {place}",
        "stratum": "early" if place % 2 else "late",
        "context": f"{keeper} keeps {jars} jars on shelf {place} and adds {more} at noon. "
        f"As many again come at five. A jar costs {cents} cents.",
        "queries": queries[: 1 + place % 2],
    }


def found(data: Path, name: str) -> Path:
    """The file of that name under *data*."""
    return next(iter(sorted(data.rglob(name))), data / name)


def rows(path: Path) -> list[dict[str, Any]]:  # Any: JSON
    """The rows of a file, a line each."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def number(text: str | int) -> Fraction:
    """Read a target."""
    return Fraction(str(text).strip().lstrip("$").replace(",", ""))


def check(course: Course, *, again: bool = True, tell: Callable[[str], None] = lambda _: None) -> Outcome:
    """Run a course, and *again* without faults, and work out by hand what each time should be found."""
    problems = Problems(course.problems)
    oracle = Oracle(problems=problems, salt=course.salt, breaks=not course.is_priced, trouble=course.trouble)
    card = CARD if course.is_priced else None

    def lines() -> tuple[Line, ...]:
        if oracle.crashes:
            raise oracle.crashes[0]
        return tuple(compared(Hand(oracle.log, problems, card), analyse(read_run(folder / "run"))))

    with tempfile.TemporaryDirectory() as made, served(oracle.complete) as base_url:
        folder = Path(made)
        tell(f"{course.name}: running {' '.join(course.experiments)}")
        measure(course, base_url, folder)
        first = lines()
        faults = Counter(each.fault or "answered" for each in oracle.log)
        oracle.trouble = 0
        if again:
            tell(f"{course.name}: running again, without faults")
            measure(course, base_url, folder)
        healed = lines() if again else ()
        return Outcome(course=course.name, lines=first, healed=healed, requests=len(oracle.log), faults=dict(faults))


def measure(course: Course, base_url: str, folder: Path) -> None:
    """Run the command as a user would. Raises CalledProcessError after its own words."""
    prices = folder / "prices.toml"
    prices.write_text(PRICES, encoding="utf-8")
    command = [sys.executable, "-m", "sleeptime.cli", "eval", "run", *course.experiments]
    command += ["--model", f"{base_url}#oracle", "--dataset", course.dataset, "--out", str(folder / "run"), "--json"]
    command += ["--prices", str(prices)] if course.is_priced else []
    command += ["--limit", str(course.limit)] if course.limit else []
    command += ["--data", str(course.data)] if course.data else []
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLEEPTIME_")}
    ended = subprocess.run(  # noqa: S603 - the project's own command
        command, env=environ, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if ended.returncode:
        sys.stderr.write(ended.stderr)
        ended.check_returncode()


def told(outcomes: Sequence[Outcome]) -> str:
    """A table of all numbers, a line each, and of how many differ."""
    table: list[str] = []
    for outcome in outcomes:
        for title, lines in (("first run", outcome.lines), ("run again without faults", outcome.healed)):
            table.append(f"\n{outcome.course}, {title}")
            table.append(f"{'figure':<44}{'what':<36}{'by hand':>18}{'reported':>18}  equal?")
            table += [
                f"{line.figure:<44}{line.what:<36}{_written(line.by_hand):>18}{_written(line.reported):>18}  "
                f"{'yes' if line.is_equal else 'NO'}"
                for line in lines
            ]
    for outcome in outcomes:
        count = len(outcome.lines) + len(outcome.healed)
        faults = ", ".join(f"{name} {times}" for name, times in sorted(outcome.faults.items()))
        table.append(
            f"\n{outcome.course}: {outcome.requests:,} requests (at first: {faults}); {count:,} numbers compared"
        )
        table.append("all are equal" if not outcome.different else f"{len(outcome.different):,} DIFFER")
    return "\n".join(table)


def _written(value: Value) -> str:
    if value is None or isinstance(value, str | int):
        return str(value)
    return f"{float(value):.9g}"


def main() -> None:
    """Run, compare, print; exit 1 where a number differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the datasets' files")
    parser.add_argument("--limit", type=int, default=50, help="contexts of each dataset")
    parser.add_argument("--only", choices=("gsm", "aime", "own"))
    parser.add_argument("--json", action="store_true", dest="as_json")
    asked = parser.parse_args()
    data: Path | None = asked.data
    if data is None and asked.only != "own":
        parser.error("--data DIR is needed, but for --only own")
    with tempfile.TemporaryDirectory() as folder:
        courses = own(Path(folder)) if asked.only in (None, "own") else []
        if data is not None:
            courses += [gsm(data, limit=asked.limit)] if asked.only in (None, "gsm") else []
            courses += [aime(data, limit=asked.limit)] if asked.only in (None, "aime") else []
        outcomes = [check(course, tell=lambda words: print(words, file=sys.stderr)) for course in courses]
    is_equal = not any(outcome.different for outcome in outcomes)
    if asked.as_json:
        print(json.dumps({"courses": [_as_json(outcome) for outcome in outcomes], "is_equal": is_equal}))
    else:
        print(told(outcomes))
        print(f"\ntokens at the wire {'=' if is_equal else '≠'} tokens on the axis")
    sys.exit(0 if is_equal else 1)


def _as_json(outcome: Outcome) -> dict[str, Any]:  # Any: JSON
    def plain(lines: Sequence[Line]) -> list[dict[str, Any]]:  # Any: JSON
        return [
            asdict(line)
            | {
                "by_hand": float(line.by_hand) if isinstance(line.by_hand, Fraction) else line.by_hand,
                "is_equal": line.is_equal,
            }
            for line in lines
        ]

    return {
        "course": outcome.course,
        "requests": outcome.requests,
        "faults": outcome.faults,
        "lines": plain(outcome.lines),
        "healed": plain(outcome.healed),
    }


if __name__ == "__main__":
    main()
