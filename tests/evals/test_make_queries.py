"""`sleeptime eval make-queries` as a user meets it: real files, a server on loopback, and a process that is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from shelves import GOOD, ORIGINAL, WRITES, Minds, arguments, plain, right, says, shelf, wrong

from fakes.openai_server import FakeServer, Reply, serve
from sleeptime.cli import main
from sleeptime.evals.data import datasets

TIMEOUT_S = 60
SCRIPT = [right(GOOD[0]), wrong(GOOD[1]), right(GOOD[2]), says("Of the {books} books, how many are red?", "31")]
CONTEXTS = 12


class Talking:
    """Minds behind a server; can be told to hold back from the n-th request on."""

    def __init__(self, minds: Minds) -> None:
        self.minds = minds
        self.lock = threading.Lock()
        self.asked = 0
        self.holds_from: int | None = None
        self.is_held = threading.Event()
        self.is_broken = False
        self.refuses_tools = False

    def __call__(self, body: dict[str, Any]) -> Reply:
        with self.lock:
            self.asked += 1
            if self.holds_from is not None and self.asked > self.holds_from:
                self.is_held.set()
                return Reply(fault="hang")
            if body.get("tools") and self.refuses_tools:
                return Reply(status=400, error="this model does not support tools")
            if self.is_broken:
                return Reply(status=400, error="out of order")
            prompt = "\n".join(message["content"] for message in body["messages"])
            if WRITES not in prompt:
                return Reply(text=self.minds.solve(prompt, body["messages"][-1]["content"].split("\n")[0], 0))
            written = self.minds.write(prompt)
            if not body.get("tools"):
                return Reply(text=plain(written))
            return Reply(tool_calls=(("write_queries", json.dumps(arguments(written))),))


class Said(NamedTuple):
    stdout: str
    stderr: str


class Desk:
    """A folder with contexts, and the command that works in it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, said: pytest.CaptureFixture[str]) -> None:
        self.folder, self.patch, self.said = folder, patch, said
        self.source = folder / "shelves.jsonl"
        self.out = folder / "more.jsonl"
        self.source.write_text("".join(f"{shelf(number).line}\n" for number in range(1, CONTEXTS + 1)))
        (folder / "prices.toml").write_text(
            '[[card]]\nmodel = "*"\ndated = 2026-01-01\ninput_usd_per_mtok = 1.0\noutput_usd_per_mtok = 10.0\n'
        )
        for name in [name for name in os.environ if name.startswith("SLEEPTIME")]:
            patch.delenv(name)
        patch.chdir(folder)

    def command(self, *options: str) -> list[str]:
        return ["sleeptime", "eval", "make-queries", str(self.source), "--out", str(self.out), *options]

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Run the command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "sleeptime.cli", *self.command(*options)[1:]],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def run(self, *options: str, code: int = 0) -> Said:
        """Run the command in this process."""
        self.patch.setattr(sys, "argv", self.command(*options))
        with pytest.raises(SystemExit) as ended:
            main()
        said = Said(*self.said.readouterr())
        assert ended.value.code == code, said
        return said

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().splitlines()]

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.out.with_suffix(".report.json").read_text())
        return report


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, monkeypatch, capsys)


@pytest.fixture
def talking() -> Talking:
    return Talking(Minds(SCRIPT))


@pytest.fixture
def fake(talking: Talking) -> Iterator[FakeServer]:
    with serve(talking) as server:
        yield server


def priced(fake: FakeServer, *more: str) -> tuple[str, ...]:
    return ("--model", fake.name, "-n", "3", "--prices", "prices.toml", *more)


def test_what_is_kept_is_right_and_the_file_is_read_as_data(desk: Desk, fake: FakeServer) -> None:
    done = desk.run("--model", fake.name, "-n", "3")

    assert done.stdout.strip() == str(desk.out)
    assert [row["id"] for row in desk.rows] == [str(number) for number in range(CONTEXTS)]
    dataset = datasets.load(str(desk.out))
    assert len(dataset.samples) == 3 * CONTEXTS
    for number, row in enumerate(desk.rows, 1):
        on = shelf(number)
        assert row["context"] == on.context
        asked = {query["question"]: query["answer"] for query in row["queries"]}
        assert asked == {question: str(on.truth(question)) for question in (ORIGINAL, GOOD[0], GOOD[2])}
        assert [query["original"] for query in row["queries"]] == [True, False, False]
        assert row["queries"][1].items() >= {"writer": fake.name, "solver": fake.name, "agreed": 2, "runs": 2}.items()


def test_the_report_says_what_was_dropped_and_why_and_where_it_all_comes_from(desk: Desk, fake: FakeServer) -> None:
    done = desk.run("--model", fake.name, "-n", "3", "--json")

    assert json.loads(done.stdout) == {"file": str(desk.out)} | desk.report
    report = desk.report
    assert report["queries"] == {"original": CONTEXTS, "written": 4 * CONTEXTS, "kept": 2 * CONTEXTS}
    assert {reason: drop["count"] for reason, drop in report["dropped"].items()} == {
        "leak": CONTEXTS,
        "writer disagrees": CONTEXTS,
    }
    assert report["agreement"] == {
        "solved": 3 * CONTEXTS,
        "solvers_agreed": 3 * CONTEXTS,
        "writer_agreed": 2 * CONTEXTS,
    }
    assert report["contexts"]["lacking"] == CONTEXTS
    assert len(report["dropped"]["leak"]["examples"]) == 5
    assert report["recipe"]["source_sha256"] == datasets.load(str(desk.source)).sha256
    assert "your own file" in report["licence"]
    assert set(report["recipe"]["prompts"]) == {"more-queries", "more-queries-plain", "answer-context"}
    assert "leak" in done.stderr
    assert "the answer to" in done.stderr


def test_the_report_adds_up_to_what_went_over_the_wire(desk: Desk, fake: FakeServer) -> None:
    desk.run(*priced(fake))

    spent = sum(call.input_tokens * 1.0 + call.output_tokens * 10.0 for call in fake.calls) / 1e6
    usage = desk.report["usage"]
    assert desk.report["paid_calls"] == len(fake.calls)
    assert sum(usage[who]["input_tokens"] for who in usage) == sum(call.input_tokens for call in fake.calls)
    assert sum(usage[who]["output_tokens"] for who in usage) == sum(call.output_tokens for call in fake.calls)
    assert desk.report["spent_usd"] == pytest.approx(spent)


def test_a_killed_run_goes_on_and_pays_for_nothing_twice(desk: Desk, fake: FakeServer, talking: Talking) -> None:
    talking.holds_from = 40
    process = desk.start("--model", fake.name, "-n", "3", "--connections", "1")
    assert talking.is_held.wait(TIMEOUT_S)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=TIMEOUT_S)
    paid = sum(call.usage is not None for call in fake.calls)
    before = desk.rows
    talking.holds_from = None

    desk.run("--model", fake.name, "-n", "3", "--connections", "1")

    assert 0 < len(before) < CONTEXTS
    assert paid == 40
    assert desk.rows[: len(before)] == before
    assert len(desk.rows) == CONTEXTS
    prompts = [json.dumps(call.body, sort_keys=True) for call in fake.calls if call.usage is not None]
    assert len(set(prompts)) == len(prompts), "no call was paid for twice"
    assert desk.report["paid_calls"] == len(prompts)


def test_half_a_line_of_a_killed_run_is_written_anew(desk: Desk, fake: FakeServer) -> None:
    desk.run("--model", fake.name, "-n", "3")
    whole = desk.out.read_bytes()
    desk.out.write_bytes(whole[:-30])
    calls = len(fake.calls)

    desk.run("--model", fake.name, "-n", "3")

    assert desk.out.read_bytes() == whole
    assert len(fake.calls) == calls


def test_more_contexts_of_the_same_source_pay_only_for_the_new_ones(desk: Desk, fake: FakeServer) -> None:
    desk.run("--model", fake.name, "-n", "3", "--limit", "4")
    calls = len(fake.calls)
    assert len(desk.rows) == 4

    desk.run("--model", fake.name, "-n", "3")

    assert len(desk.rows) == CONTEXTS
    assert len(fake.calls) == calls * CONTEXTS / 4


def test_a_cap_that_is_reached_keeps_what_is_there_and_a_higher_one_goes_on(desk: Desk, fake: FakeServer) -> None:
    capped = desk.run(*priced(fake, "--connections", "1", "--max-cost", "0.085"))

    assert "leaves no room for a call" in capped.stderr
    assert 0 < len(desk.rows) < CONTEXTS
    assert desk.report["spent_usd"] <= 0.085
    assert desk.report["contexts"]["untouched"] > 0

    desk.run(*priced(fake, "--connections", "1", "--max-cost", "1"))

    assert len(desk.rows) == CONTEXTS


def test_a_cap_too_small_for_any_call_fails_and_writes_no_query(desk: Desk, fake: FakeServer) -> None:
    done = desk.run(*priced(fake, "--max-cost", "0.0001"), code=1)

    assert "leaves no room" in done.stderr
    assert fake.calls == []
    assert not desk.out.exists()


def test_a_cap_without_a_known_price_is_refused_before_any_call(desk: Desk, fake: FakeServer) -> None:
    done = desk.run("--model", fake.name, "--max-cost", "1", code=1)

    assert "--prices" in done.stderr
    assert fake.wire == []


def test_a_model_that_fails_is_told_and_what_is_there_stays(desk: Desk, fake: FakeServer, talking: Talking) -> None:
    desk.run("--model", fake.name, "-n", "3", "--limit", "4")
    talking.is_broken = True

    done = desk.run("--model", fake.name, "-n", "3", code=1)

    assert "Unfinished: RequestRejectedError" in done.stderr
    assert len(desk.rows) == 4
    assert desk.report["contexts"]["unfinished"] == CONTEXTS - 4


def test_a_server_without_tools_is_asked_in_plain_text(desk: Desk) -> None:
    talking = Talking(Minds([right(GOOD[0])]))
    talking.refuses_tools = True
    with serve(talking) as fake:
        desk.run("--model", fake.name, "-n", "1", "--limit", "3")

    assert [len(row["queries"]) for row in desk.rows] == [2, 2, 2]
    assert all(list(row["prompts"]) == ["more-queries-plain"] for row in desk.rows)


def test_a_solver_of_its_own_is_asked_to_solve_and_never_to_write(desk: Desk, fake: FakeServer) -> None:
    talking = Talking(Minds([]))
    with serve(talking) as solver:
        desk.run("--model", fake.name, "--solver-model", solver.name, "-n", "3", "--limit", "2")

    assert all(WRITES in json.dumps(call.body) for call in fake.calls)
    assert all(WRITES not in json.dumps(call.body) for call in solver.calls)
    assert desk.rows[0]["queries"][1]["solver"] == solver.name


def test_a_file_of_another_recipe_or_of_somebody_else_is_left_alone(desk: Desk, fake: FakeServer) -> None:
    desk.run("--model", fake.name, "-n", "3", "--limit", "2")
    before = desk.out.read_bytes()

    assert "another queries: 3, not 4" in desk.run("--model", fake.name, "-n", "4", code=1).stderr
    desk.out.with_suffix(".calls.db").unlink()
    assert "was not made here" in desk.run("--model", fake.name, "-n", "3", code=1).stderr
    assert desk.out.read_bytes() == before


def test_a_place_that_cannot_be_written_is_an_error_that_says_so(desk: Desk, fake: FakeServer) -> None:
    desk.out = desk.source / "more.jsonl"

    assert "Choose another --out" in desk.run("--model", fake.name, code=1).stderr
    assert fake.calls == []


def test_a_file_that_was_changed_by_hand_is_left_alone(desk: Desk, fake: FakeServer) -> None:
    desk.run("--model", fake.name, "-n", "3", "--limit", "2")
    desk.out.write_text("not JSON\n")

    assert "was changed since it was written" in desk.run("--model", fake.name, "-n", "3", code=1).stderr
    assert desk.out.read_text() == "not JSON\n"


def test_a_dry_run_foretells_calls_and_money_and_asks_nobody(desk: Desk, fake: FakeServer) -> None:
    foretold = json.loads(desk.run(*priced(fake, "--dry-run", "--json")).stdout)

    lines = {line["what"]: line for line in foretold["lines"]}
    assert lines["write queries"]["calls"] == CONTEXTS
    assert lines["solve queries"]["calls"] == CONTEXTS * 3 * 2
    assert foretold["cost_usd"] == pytest.approx(foretold["input_tokens"] / 1e6 + foretold["output_tokens"] * 10 / 1e6)
    assert "in all" in desk.run(*priced(fake, "--dry-run")).stdout
    assert fake.wire == []
    assert not desk.out.exists()


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--model", "tiny", "--solvers", "4"),
        ("--model", "tiny", "--level", "deep"),
        ("--model", "tiny", "--split", "halves"),
        ("--model", "tiny", "-n", "0"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(desk: Desk, options: tuple[str, ...]) -> None:
    desk.run(*options, code=2)


def test_a_source_that_is_not_there_is_an_error_that_says_what_there_is(desk: Desk) -> None:
    desk.source.unlink()

    assert "gsm-symbolic-p2" in desk.run("--model", "tiny", code=1).stderr
