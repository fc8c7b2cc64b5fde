"""The command line as a user meets it: real processes, a real file, a server on loopback."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.main import get_command

from fakes.openai_server import Reply, serve
from sleeptime.cli import app

TIMEOUT_S = 60
BOXES = "Ana has 3 boxes. Ben has 2 more.\n"
LEARN = Reply(
    tool_calls=(
        (
            "revise_notes",
            json.dumps(
                {"add": [{"kind": "inference", "text": "Ben has 5.", "evidence": ["Ben has 2 more."]}], "done": True}
            ),
        ),
    )
)


def _interruptible() -> None:
    """Let Ctrl-C reach a child also where the tests run in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Shell:
    """Runs `sleeptime` in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(("SLEEPTIME", "OPENAI", "ANTHROPIC"))}
        self.environ |= {"SLEEPTIME_HOME": str(home), "NO_COLOR": "1", "PYTHONWARNINGS": "error"}

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "sleeptime.cli", *arguments],
            env=self.environ | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_interruptible,  # noqa: PLW1509  # no thread of the test holds a lock that a child needs
        )

    def run(self, *arguments: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def fails(self, *arguments: str, **more: str) -> str:
        """Run a command that must fail with one line on stderr, and give that line."""
        done = self.run(*arguments, code=1, **more)
        assert done.stdout == ""
        assert done.stderr.startswith("error: "), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr

    def json(self, *arguments: str) -> object:
        return json.loads(self.run(*arguments, "--json").stdout)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home")


@pytest.fixture
def boxes(tmp_path: Path) -> str:
    path = tmp_path / "boxes.txt"
    path.write_text(BOXES)
    return str(path)


def test_from_a_file_to_the_ledger(shell: Shell, boxes: str) -> None:
    with serve([LEARN, "The answer is 5.", "Ben has 3 plus 2. The answer is 5."]) as fake:
        shell.environ["SLEEPTIME_MODEL"] = fake.name
        added = shell.run("add", boxes)
        slept = shell.run("sleep", "boxes")
        asked = shell.run("ask", "boxes", "How many has Ben?", "--budget", "0")
        shell.run("ask", "boxes", "How many has Ben?", "--sees", "context")
        shown = shell.run("show", "boxes")
        listed = shell.run("list")
        account = shell.json("ledger", "boxes")

        assert added.stdout.startswith("c")
        assert "Next: sleeptime sleep boxes" in added.stderr
        assert slept.stdout == "version 1: 1 notes after 1 rounds; ended: finished\n"
        assert asked.stdout == "The answer is 5.\n"
        assert "4 test-time tokens" in asked.stderr
        assert "saw context+learned version 1" in asked.stderr
        assert "n1 inference, unverified: Ben has 5." in shown.stdout
        assert "· Ben has 2 more." in shown.stdout
        assert added.stdout.strip() in listed.stdout
        sleep, with_notes, without = (call.usage or {} for call in fake.calls)
        assert isinstance(account, dict)
        (row,) = account["accounts"]
        assert row["sleep"]["output_tokens"] == sleep["completion_tokens"]
        assert row["test"]["input_tokens"] == with_notes["prompt_tokens"] + without["prompt_tokens"]
        assert row["test"]["output_tokens"] == with_notes["completion_tokens"] + without["completion_tokens"]
        assert row["test_cost_usd"] is None
        saved = without["completion_tokens"] - with_notes["completion_tokens"]
        assert row["break_even_queries"] == sleep["completion_tokens"] / (10 * saved)


def test_unknown_prices_are_shown_as_unknown_and_known_ones_add_up(shell: Shell, boxes: str) -> None:
    with serve([LEARN, LEARN]) as fake:
        shell.environ["SLEEPTIME_MODEL"] = fake.name
        shell.run("add", boxes)
        assert "price unknown" in shell.run("sleep", "boxes").stderr
        shell.home.joinpath("prices.toml").write_text(
            f'[[card]]\nmodel = "{fake.name}"\ndated = 2026-11-01\n'
            "input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 2.0\n"
        )
        shell.run("sleep", "boxes", "--max-cost", "1", "--again")

        usage = fake.calls[1].usage or {}
        calls = shell.json("ledger", "--calls", "2")
        assert isinstance(calls, list)
        assert calls[0]["cost_usd"] is None
        assert calls[1]["cost_usd"] == pytest.approx((usage["prompt_tokens"] + 2 * usage["completion_tokens"]) / 1e6)
        assert "unknown" in shell.run("ledger").stdout


def test_caps_tell_what_is_spent_and_left(shell: Shell, boxes: str) -> None:
    shell.run("add", boxes, "--name", "boxes")
    (shell.home / "sleeptime.toml").write_text("[caps]\nday_tokens = 5000\ncontext_tokens = 900\n")
    shell.run("sleep", "boxes", "--model", "tiny", "--max-tokens", "200")

    told = json.loads(shell.run("caps", "--json").stdout)
    shown = shell.run("caps")

    spent = told["day"]["spent_tokens"]
    assert 0 < spent <= 200
    assert told["month"] == told["day"] | {"tokens": None}
    assert f"{5000 - spent:,}" in shown.stdout
    assert "900 output tokens" in shown.stderr


def test_it_decides_by_itself_and_says_why(shell: Shell, tmp_path: Path) -> None:
    long = "word " * 700
    (tmp_path / "busy.txt").write_text(BOXES)
    (tmp_path / "once.txt").write_text(BOXES)
    with serve([long, long, long, LEARN]) as fake:
        shell.environ["SLEEPTIME_MODEL"] = fake.name
        for name in ("busy", "once"):
            shell.run("add", str(tmp_path / f"{name}.txt"))
        nothing = shell.run("sleep", "--all", "--if-it-pays")
        for name in ("busy", "once", "busy"):
            shell.run("ask", name, "How many has Ben?")
        told = shell.run("why", "busy")
        bill = shell.run("sleep", "busy", "--dry-run").stdout
        planned = shell.run("sleep", "--all", "--if-it-pays", "--dry-run").stdout
        held = shell.run("why", "busy", "--allowance", "0", "--max-regret", "0").stdout
        slept = shell.run("sleep", "--all", "--if-it-pays").stdout
        listed = shell.run("list").stdout
        why = shell.json("why", "busy")
        once = shell.json("why", "once")

    assert nothing.stdout == ""
    assert "Nothing is worth sleeping on now." in nothing.stderr
    sentence = planned.strip()
    assert sentence.startswith("Sleep on busy: 2 queries without notes cost ")
    assert told.stdout.startswith(f"now: {sentence}\n")
    assert "In output tokens: price at most 5,400 (" in told.stderr
    assert bill.endswith(f"By itself it would say: {sentence}\n")
    assert held.startswith("now: Hold busy back: ")
    assert slept.startswith(f"{sentence} → version 1: 1 notes for ")
    assert "not-due" in listed
    assert isinstance(why, dict)
    assert why["now"] is None
    assert [each["reason"] for each in why["before"]] == ["due", "due", "not-due"]
    assert why["before"][0]["outcome"].startswith("version 1")
    assert isinstance(once, dict)
    assert once["now"]["sentence"].startswith("Wait with once: 1 query without notes cost ")
    assert not once["now"]["is_sleep"]


def test_an_edited_file_is_updated_slept_on_where_it_changed_and_rolled_back(shell: Shell, tmp_path: Path) -> None:
    def noted(line: str) -> dict[str, object]:
        return {"kind": "inference", "text": f"{line.split(maxsplit=1)[0]} matters.", "evidence": [line]}

    lines = [f"Person{number} has {number} boxes and a long story." for number in range(20)]
    changed = [*lines[1:], "Flo came in and brought ten boxes."]
    learn, relearn = (
        Reply(tool_calls=(("revise_notes", json.dumps({"add": [noted(line) for line in new], "done": True})),))
        for new in (lines, changed[-1:])
    )
    path = tmp_path / "boxes.txt"
    path.write_text("\n\n".join(lines))
    with serve([learn, relearn, "The answer is 5."]) as fake:
        shell.environ["SLEEPTIME_MODEL"] = fake.name
        identity = shell.run("add", str(path)).stdout
        shell.run("sleep", "boxes")
        path.write_text("\n\n".join(changed))

        updated = shell.run("update", "boxes")
        assert updated.stdout == identity
        assert "Sections: 1 new, 1 gone; notes of version 1: 1 stale, 19 stand." in updated.stderr
        assert "nothing changed" in shell.run("update", "boxes").stderr
        assert "edited since" in shell.run("list").stdout
        shown = shell.run("show", "boxes")
        assert "n1 inference, unverified, stale: Person0 matters.\n     · (text that is gone)" in shown.stdout
        assert "n2 inference, unverified: Person1 matters.\n     · Person1 has" in shown.stdout
        assert "changed: 1 of 20 notes" in shown.stderr
        assert shell.json("show", "boxes")["stale"] == ["n1"]  # type: ignore[index]  # JSON

        slept = shell.run("sleep", "--all").stdout
        assert slept == "version 2: 20 notes after 1 rounds, begun with those of version 1; ended: finished\n"
        assert lines[10] not in json.dumps(fake.calls[1].body)
        assert shell.run("sleep", "boxes").stdout == "version 2 stands: nothing changed since\n"
        assert "nothing to pay" in shell.run("sleep", "boxes", "--dry-run").stdout
        assert "slept on as it is now" in shell.run("sleep", "--all").stderr
        assert shell.run("diff", "boxes").stdout == (
            "- stale    n1 Person0 matters.\n+ added    n21 Flo matters.\n"
            "version 1 → 2: 19 kept, 1 added, 0 replaced, 0 retired, 1 stale\n"
        )
        told = shell.json("diff", "boxes", "2", "1")
        assert isinstance(told, dict)
        assert ([note["id"] for note in told["retired"]], told["stale_now"]) == ([], ["n1"])

        back = shell.run("rollback", "boxes", "1")
        assert "version 3: 20 notes after 1 rounds, rolled back from version 1" in back.stdout
        assert "Stale in today's text, and not shown to answers: 1 of its 20 notes." in back.stderr
        assert "is the newest" in shell.fails("rollback", "boxes", "3")
        shell.run("ask", "boxes", "How many?", "--sees", "learned")
        prompt = json.dumps(fake.calls[2].body)
        assert "Person1 matters." in prompt
        assert "Person0 matters." not in prompt


def test_a_turn_is_appended_to_a_conversation(shell: Shell, tmp_path: Path) -> None:
    talk, turn = tmp_path / "talk.txt", tmp_path / "turn.txt"
    talk.write_text("user: Hi\n")
    turn.write_text("assistant: Hello\n")
    shell.run("add", str(talk))

    told = shell.json("update", "talk", str(turn), "--append")

    assert isinstance(told, dict)
    assert (told["sections_new"], told["sections_gone"], told["stale"]) == (1, 0, [])
    assert "user: Hi\n\nassistant: Hello" in shell.run("show", "talk", "--text").stdout
    assert shell.json("update", "talk")["sections_gone"] == 1  # type: ignore[index]  # JSON: as the file has it
    shell.run("update", "talk", "--append", code=2)


def test_a_conversation_and_a_folder_become_contexts(shell: Shell, tmp_path: Path) -> None:
    talk = tmp_path / "talk.jsonl"
    talk.write_text('{"role": "user", "content": "Hi"}\n{"role": "assistant", "content": "Hello"}\n')
    folder = tmp_path / "notes"
    folder.joinpath("deep").mkdir(parents=True)
    folder.joinpath("a.md").write_text("first")
    folder.joinpath("deep", "b.txt").write_text("second")
    folder.joinpath("image.png").write_bytes(b"\x89PNG\0\0")
    folder.joinpath(".secret").write_text("hidden")

    shell.run("add", str(talk))
    shell.run("add", str(folder))

    assert "user: Hi\n\nassistant: Hello" in shell.run("show", "talk", "--text").stdout
    text = shell.run("show", "notes", "--text").stdout
    assert "=== a.md ===\nfirst\n\n=== deep/b.txt ===\nsecond" in text
    assert "hidden" not in text
    assert "PNG" not in text


def test_bad_input_gets_one_line_that_says_what_to_do(shell: Shell, tmp_path: Path, boxes: str) -> None:
    empty, binary, large = tmp_path / "empty", tmp_path / "binary", tmp_path / "large"
    empty.write_text(" \n")
    binary.write_bytes(b"\x00\x01")
    with large.open("wb") as file:
        file.truncate(50_000_000)

    assert "is empty" in shell.fails("add", str(empty))
    assert "not UTF-8 text" in shell.fails("add", str(binary))
    assert "50.0 MB" in shell.fails("add", str(large))
    assert "no file or folder" in shell.fails("add", str(tmp_path / "nothing"))
    assert "No context 'boxes'" in shell.fails("show", "boxes")
    shell.run("add", boxes)
    assert "No model was chosen" in shell.fails("sleep", "boxes")
    assert "Unknown model 'opnai:gpt'" in shell.fails("sleep", "boxes", "--model", "opnai:gpt")
    assert "OPENAI_API_KEY" in shell.fails("sleep", "boxes", "--model", "openai:gpt-5-mini")
    assert "is not a budget" in shell.fails("ask", "boxes", "?", "--budget", "huge", "--model", "tiny")
    assert "Nothing has been learned" in shell.fails("ask", "boxes", "?", "--sees", "learned", "--model", "tiny")
    assert "say --yes" in shell.fails("forget", "boxes")
    other = tmp_path / "other.txt"
    other.write_text("other")
    assert "exists already" in shell.fails("add", str(other), "--name", "boxes")
    assert [row["name"] for row in shell.json("list")] == ["boxes"]  # type: ignore[attr-defined]  # JSON


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(status=401, error="wrong key"), "refused the key (HTTP 401)"),
        (Reply(status=429, retry_after_s=120), "rate limited (HTTP 429)"),
        (Reply(fault="malformed"), "cannot be read"),
        (Reply(status=404, error="no such model"), "HTTP 404"),
    ],
)
def test_a_failing_endpoint_is_told_in_one_line_and_nothing_is_lost(
    shell: Shell, boxes: str, reply: Reply, said: str
) -> None:
    shell.run("add", boxes)
    with serve(lambda _body: reply) as fake:
        assert said in shell.fails("ask", "boxes", "?", "--model", fake.name)

    assert len(shell.json("list")) == 1  # type: ignore[arg-type]  # JSON


def test_an_unreachable_endpoint_is_tried_again_then_told(shell: Shell, boxes: str) -> None:
    shell.run("add", boxes)

    assert "cannot be reached" in shell.fails("ask", "boxes", "?", "--model", "http://127.0.0.1:9/v1#fake")


def test_a_corrupt_database_is_left_alone(shell: Shell, boxes: str) -> None:
    shell.home.mkdir()
    database = shell.home / "sleeptime.db"
    database.write_bytes(b"not a database at all" * 100)

    assert "not a sound sleeptime database" in shell.fails("add", boxes)
    assert database.read_bytes() == b"not a database at all" * 100


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_sleep_stopped_in_the_middle_goes_on_without_paying_again(
    shell: Shell, boxes: str, end: signal.Signals
) -> None:
    asked = 0
    third_began, third_may_end = threading.Event(), threading.Event()

    def script(_body: object) -> Reply:
        nonlocal asked
        asked += 1
        if asked == 3:
            third_began.set()
            third_may_end.wait(TIMEOUT_S)
        note = {"kind": "inference", "text": f"Fact {asked}."}
        return Reply(tool_calls=(("revise_notes", json.dumps({"add": [note], "done": asked == 6})),))

    shell.run("add", boxes)
    (shell.home / "sleeptime.toml").write_text("[worker]\nlease_s = 1\n")  # how long a killed one is waited for
    with serve(script) as fake:
        process = shell.start("sleep", "boxes", "--model", fake.name)
        assert third_began.wait(TIMEOUT_S)
        process.send_signal(end)
        _, err = process.communicate(timeout=TIMEOUT_S)
        third_may_end.set()
        if end == signal.SIGINT:
            assert process.returncode == 1
            assert "Interrupted. Finished rounds are kept" in err
            assert "ended: interrupted" in shell.run("show", "boxes").stdout
        shell.run("sleep", "boxes", "--model", fake.name)

    learned = shell.json("show", "boxes")
    assert isinstance(learned, dict)
    facts = [note["text"] for note in learned["learned"]["notes"]]
    assert facts == ["Fact 1.", "Fact 2.", "Fact 4.", "Fact 5.", "Fact 6."]  # the third call was in flight
    assert asked == 6
    assert learned["learned"]["stop_reasons"] == ["finished"]


def test_a_sleep_left_to_a_worker_is_listed_and_done(shell: Shell, boxes: str) -> None:
    shell.run("add", boxes)
    job_id = shell.run("sleep", "boxes", "--background").stdout.strip()
    assert "a worker" in shell.run("jobs").stdout
    with serve(lambda _body: LEARN) as fake:
        shell.run("jobs", "--pause", job_id)
        shell.run("worker", "--model", fake.name, "--until-idle")
        assert fake.calls == []
        shell.run("jobs", "--resume", job_id)
        shell.run("worker", "--model", fake.name, "--until-idle")

    (job,) = shell.json("jobs")
    assert isinstance(job, dict)
    assert (job["id"], job["context"], job["state"], job["version"]) == (job_id, "boxes", "done", 1)
    assert f"Job '{job_id}' is done" in shell.fails("jobs", "--cancel", job_id)


def test_usage_errors_exit_with_two(shell: Shell) -> None:
    shell.run("sleep", code=2)
    shell.run("sleep", "a", "--strategy", "hope", code=2)
    shell.run("ask", "a", "?", "--sees", "everything", code=2)
    shell.run("nonsense", code=2)


def test_help_is_quick_and_every_command_explains_itself(shell: Shell) -> None:
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]  # a group
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"
    best = min(_seconds(shell, "--help") for _ in range(3))
    assert best < 1.0
    heavy = "{'pydantic_ai', 'sqlalchemy', 'xllamacpp', 'altair', 'numpy'}"
    code = f"import sys, sleeptime.cli; print({heavy} & sys.modules.keys() or 'none')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "none\n"


def _seconds(shell: Shell, *arguments: Sequence[str] | str) -> float:
    began = time.monotonic()
    shell.run(*map(str, arguments))
    return time.monotonic() - began
