"""`sleeptime eval` as a user meets it: real processes that are really killed, and a server on loopback that counts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.log import list_eval_logs, read_eval_log

from fakes.openai_server import FakeServer, Reply, serve
from sleeptime.evals.runs.run_folder import read_run

TIMEOUT_S = 120
CONTEXTS, QUERIES = 6, 2
CONNECTIONS = 4
PRICES = """
[[card]]
model = "http*"
dated = 2026-11-01
input_usd_per_mtok = 0.0
output_usd_per_mtok = 500000.0
"""
"""Half a dollar a token."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six contexts of two queries each."""
    lines = [
        {
            "context": f"Shelf {i} holds {i + 3} jars of plums. It holds {i + 20} jars of pears.",
            "queries": [
                {"question": f"How many jars of plums are on shelf {i}?", "answer": str(i + 3)},
                {"question": f"How many jars of pears are on shelf {i}?", "answer": str(i + 20)},
            ],
        }
        for i in range(CONTEXTS)
    ]
    path = tmp_path / "jars.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def answering(body: dict[str, Any]) -> Reply:
    """Learn where tools are offered, else answer rightly."""
    text = " ".join(str(message["content"]) for message in body["messages"])
    if body.get("tools"):
        shelf = re.findall(r"Shelf (\d+)", text)[-1]
        note = {"kind": "inference", "text": f"All of shelf {shelf} was counted."}
        return Reply(tool_calls=(("revise_notes", json.dumps({"add": [note], "done": True})),))
    fruit, shelf = re.findall(r"How many jars of (\w+) are on shelf (\d+)", text)[-1]
    return Reply.of(f"The answer is {int(shelf) + (3 if fruit == 'plums' else 20)}.")


def start(*arguments: str, home: Path) -> subprocess.Popen[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("SLEEPTIME", "OPENAI", "ANTHROPIC"))}
    return subprocess.Popen(
        [sys.executable, "-m", "sleeptime.cli", "eval", *arguments],
        env=environ | {"SLEEPTIME_HOME": str(home), "NO_COLOR": "1"},
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, home: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    process = start(*arguments, home=home)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
    return subprocess.CompletedProcess(arguments, code, out, err)


def asked(fake: FakeServer) -> Counter[str]:
    """What was asked of the server, how often."""
    return Counter(json.dumps(call.body, sort_keys=True) for call in fake.calls)


def command(data: Path, fake: FakeServer, *more: str) -> tuple[str, ...]:
    given = ("--dataset", str(data), "--model", fake.name, "--levels", "0,1", "--out", "run")
    return ("run", "e1", "e3", *given, "--connections", str(CONNECTIONS), *more)


def test_a_sweep_killed_again_and_again_pays_for_no_finished_call_twice(data: Path, tmp_path: Path) -> None:
    kills = (9, 40, 90)
    reached, may_go_on = threading.Event(), threading.Event()
    left = list(kills)

    def script(body: dict[str, Any]) -> Reply:
        if left and len(fake.calls) >= left[0]:
            reached.set()
            may_go_on.wait(TIMEOUT_S)
        return answering(body)

    with serve(script) as fake:
        while left:
            reached.clear()
            may_go_on.clear()
            process = start(*command(data, fake), home=tmp_path)
            assert reached.wait(TIMEOUT_S)
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=TIMEOUT_S)
            del left[0]
            may_go_on.set()
        done = json.loads(run(*command(data, fake, "--json"), home=tmp_path).stdout)
        often = asked(fake)
        before = len(fake.calls)
        again = json.loads(run(*command(data, fake, "--json"), home=tmp_path).stdout)

    assert sum(count - 1 for count in often.values()) <= CONNECTIONS * len(kills)  # those in flight when it was killed
    assert done["paid_calls"] == len(often)  # every call is kept once
    assert done["missing"] == 0
    assert len(fake.calls) == before  # a finished run asks nothing
    assert again["rows"] == done["rows"]


def test_a_call_that_failed_is_missing_and_is_made_again_by_the_next_run(data: Path, tmp_path: Path) -> None:
    is_down = True

    def script(body: dict[str, Any]) -> Reply:
        text = str(body["messages"])
        if is_down and "pears are on shelf 3" in text and not body.get("tools"):
            return Reply(status=400, error="not today")
        return answering(body)

    with serve(script) as fake:
        done = json.loads(run(*command(data, fake, "--json"), home=tmp_path).stdout)
        is_down = False
        paid = len(fake.calls)
        again = json.loads(run(*command(data, fake, "--json"), home=tmp_path).stdout)

    assert done["missing"] > 0
    assert any("not today" in error for error in done["errors"])
    assert again["missing"] == 0
    assert again["rows"] == done["rows"]
    assert len(fake.calls) - paid == done["missing"]  # the missing ones and no other


def test_no_call_is_made_that_the_cap_cannot_pay_for(data: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    capped = ("--prices", str(prices), "--max-cost", "20000", "--json")
    with serve(answering) as fake:
        done = json.loads(run(*command(data, fake, *capped), home=tmp_path).stdout)
        spent = sum(call.output_tokens for call in fake.calls)

    assert done["missing"] > 0
    assert any("The cap of 20000.00 USD leaves no room" in error for error in done["errors"])
    assert done["spent_usd"] == pytest.approx(spent / 2)
    assert spent / 2 <= 20000


def test_a_cap_where_no_price_is_known_is_refused_before_anything_is_asked(data: Path, tmp_path: Path) -> None:
    with serve(answering) as fake:
        failed = run(*command(data, fake, "--max-cost", "1"), home=tmp_path, code=1)

        assert fake.calls == []
    assert "--prices FILE" in failed.stderr


def test_a_dry_run_tells_calls_and_tokens_and_asks_nothing(data: Path, tmp_path: Path) -> None:
    with serve(answering) as fake:
        told = json.loads(run(*command(data, fake, "--dry-run", "--json"), home=tmp_path).stdout)
        assert fake.calls == []
        done = json.loads(run(*command(data, fake, "--json"), home=tmp_path).stdout)

    answers = {line["what"]: line["calls"] for line in told["lines"] if not line["what"].startswith("sleep ")}
    assert answers["no_sleep/v0"] == CONTEXTS * QUERIES
    assert answers["draws/v0/t0.8"] == 10 * CONTEXTS
    assert done["rows"] == sum(calls for what, calls in answers.items() if what != "sleep")
    assert not (tmp_path / "run" / "report").exists()


def test_the_paper_s_loop_can_be_chosen_and_is_another_way_to_sleep(data: Path, tmp_path: Path) -> None:
    def script(body: dict[str, Any]) -> Reply:
        tools = [tool["function"]["name"] for tool in body.get("tools", [])]
        if "rethink_memory" not in tools:
            return answering(body)
        is_first = "(nothing yet)" in str(body["messages"])
        said = ("rethink_memory", json.dumps({"new_memory": "All was counted."})) if is_first else None
        return Reply(tool_calls=(said or ("finish_rethinking", "{}"),))

    with serve(script) as fake:
        run(
            *("run", "e8", "--strategy", "rethink", "--dataset", str(data), "--model", fake.name, "--levels", "0"),
            *("--limit", "2", "--out", "run"),
            home=tmp_path,
        )
        offered = [tool["function"]["name"] for call in fake.calls for tool in call.body.get("tools", [])]

    assert set(offered) == {"rethink_memory", "finish_rethinking"}
    assert "sleep/v0/strategy=rethink" in {row.cell for row in read_run(tmp_path / "run").rows}


def test_another_run_is_not_mixed_into_a_folder(data: Path, tmp_path: Path) -> None:
    with serve(answering) as fake:
        run("run", "e8", "--dataset", str(data), "--model", fake.name, "--out", "run", home=tmp_path)
        other = run(
            "run", "e8", "--dataset", str(data), "--model", fake.name, "--out", "run", "--limit", "2",
            home=tmp_path, code=1,
        )  # fmt: skip

    assert "another limit" in other.stderr
    assert "--out" in other.stderr


def test_inspect_reads_the_logs_and_counts_the_same_tokens(data: Path, tmp_path: Path) -> None:
    with serve(answering) as fake:
        run("run", "e8", "--dataset", str(data), "--model", fake.name, "--levels", "0", "--out", "run", home=tmp_path)
        answered = sum(call.output_tokens for call in fake.calls if not call.body.get("tools"))
        slept = sum(call.output_tokens for call in fake.calls if call.body.get("tools"))

    logs = [read_eval_log(log.name) for log in list_eval_logs(str(tmp_path / "run" / "logs"))]
    samples = [sample for log in logs for sample in log.samples or []]
    assert {log.status for log in logs} == {"success"}
    assert sum(usage.output_tokens for sample in samples for usage in sample.model_usage.values()) == answered + slept


def test_mine_says_on_one_page_whether_sleeping_pays_and_where_the_figures_are(data: Path, tmp_path: Path) -> None:
    with serve(answering) as fake:
        told = run("mine", str(data), "--model", fake.name, "--levels", "0,4", "--out", "run", home=tmp_path)
        before = len(fake.calls)
        again = run("mine", str(data), "--model", fake.name, "--levels", "0,4", "--out", "run", "--json", home=tmp_path)
        assert len(fake.calls) == before

    judged = json.loads(again.stdout)
    assert judged["headline"] in " ".join(told.stdout.split())
    assert judged["outcome"] == "too few contexts"  # all are right with and without sleep, and six show nothing
    assert judged["missing"] == 0
    assert (tmp_path / judged["report"]).exists()


def test_plain_inspect_runs_the_experiments_by_name(tmp_path: Path) -> None:
    inspect = Path(sys.executable).with_name("inspect")
    command = [str(inspect), "eval", "sleeptime/e8", "--model", "sleeptime/tiny", "-T", "dataset=stateful-chains"]
    command += ["-T", "contexts=3", "--display", "plain", "--log-dir", "logs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    (log,) = [read_eval_log(each.name) for each in list_eval_logs(str(tmp_path / "logs"))]
    assert log.status == "success"
    assert log.results is not None
    assert log.samples is not None
    assert {sample.metadata["cell"] for sample in log.samples} >= {"guess/v0", "no_sleep/v0", "sleep/v0", "placebo/v0"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "e9", "--model", "tiny"), 1, "There is no experiment 'e9'"),
        (("run", "e1", "--model", "tiny", "--seeds", "1,1"), 2, "--seeds must differ"),
        (("run", "e1", "--model", "tiny", "--seeds", "one"), 2, "whole numbers"),
        (("run", "e1", "--model", "tiny", "--levels", "loud"), 1, "loud"),
        (("run", "e1", "--model", "tiny", "--split", "coarse"), 2, "--split is one of"),
        (("run", "e1", "--model", "nonsense", "--dataset", "stateful-chains"), 1, "nonsense"),
        (("run", "e1", "--model", "tiny", "--dataset", "nowhere.jsonl"), 1, "nowhere.jsonl"),
        (("report", "."), 1, "is not the folder of a run"),
        (("run", "e1", "--model", "tiny", "--strategy", "hope"), 2, "--strategy is one of"),
        (("run",), 2, ""),
    ],
)
def test_errors_say_what_to_do(arguments: tuple[str, ...], code: int, words: str, tmp_path: Path) -> None:
    failed = run(*arguments, home=tmp_path, code=code)

    assert words in " ".join(failed.stderr.split())
    assert "Traceback" not in failed.stderr


def test_the_list_tells_claims_before_any_run(tmp_path: Path) -> None:
    told = json.loads(run("list", "--json", home=tmp_path).stdout)

    assert [each["id"] for each in told["experiments"]] == ["e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8", "mine"]
    assert all(each["claim"] and each["paper"] for each in told["experiments"])
    assert "gsm-symbolic-p2" in told["datasets"]
