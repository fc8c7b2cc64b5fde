"""Pull requests become targets without a look at the future, and E7 is measured on them whatever the model does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from fakes.openai_server import Reply as ServedReply
from fakes.openai_server import serve
from repositories.conftest import Made
from repositories.test_agent import calls
from repositories.test_worktree import fingerprint
from sleeptime.core.errors import UpstreamError
from sleeptime.core.messages import Message
from sleeptime.evals.runs.run_folder import RunFolderError
from sleeptime.evals.swe import baselines, experiment, measuring, pull_requests, report, scoring
from sleeptime.evals.swe.findings import analyse
from sleeptime.evals.swe.pull_requests import PullRequestsError, Target
from sleeptime.models.protocol import Options
from sleeptime.models.scripted import Reply, ScriptedModel
from sleeptime.repositories.checkout import Repository

TOPICS = ("billing", "search", "login")
REQUESTS = 12


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Pull requests in turn on three topics with files of their own; each fourth is squashed."""
    repo = Made(tmp_path_factory.mktemp("shop"))
    repo.git("init", "--quiet", "--initial-branch=main")
    files: dict[str, str | bytes] = {
        f"{topic}/{name}.py": "\n".join(f"{name}_{i} = {i}" for i in range(20)) + "\n"
        for topic in TOPICS
        for name in ("view", "model", "store", "form")
    }
    repo.commit("Begin", files | {"README.md": "# Shop\n", "hot.py": "n = 0\n"})
    for number in range(1, REQUESTS + 1):
        topic = TOPICS[number % 3]
        title = f"Extend {topic} by feature {number}"
        changed: dict[str, str | bytes] = {
            f"{topic}/{name}.py": (repo.place / topic / f"{name}.py")
            .read_text()
            .replace(f"{name}_{number} = {number}\n", f"{name}_{number} = {number}  # feature\n")
            for name in ("view", "model", "store")
        }
        changed[f"{topic}/added_{number}.py"] = "x = 1\n"
        if number % 4 == 0:
            repo.commit(f"{title} (#{number})\n\nAll {topic} pages.", changed)
        else:
            repo.git("checkout", "--quiet", "-b", f"work-{number}")
            repo.commit(f"Work on {topic}", changed)
            repo.git("checkout", "--quiet", "main")
            repo.git(
                "merge",
                "--quiet",
                "--no-ff",
                f"work-{number}",
                "-m",
                f"Merge pull request #{number} from a/b\n\n{title}",
            )
        repo.commit(f"Count to {number}", {"hot.py": f"n = {number}\n"})
    return repo


def targets(repo: Made) -> list[Target]:
    return pull_requests.strict(pull_requests.merged(Repository(repo.place)))


def test_merges_and_squashes_are_found_with_what_they_changed(repo: Made) -> None:
    found = pull_requests.merged(Repository(repo.place))

    assert [request.number for request in found] == list(range(1, REQUESTS + 1))
    merge, squash = found[2], found[3]
    assert (merge.title, merge.text) == ("Extend billing by feature 3", "Work on billing")
    assert (squash.title, squash.text) == ("Extend search by feature 4", "All search pages.")
    assert merge.modified == {"billing/view.py", "billing/model.py", "billing/store.py"}
    assert {(each.path, each.status) for each in merge.changed} >= {("billing/added_3.py", "added")}
    assert repo.git("rev-parse", f"{merge.head}^1") == merge.base


def test_strict_siblings_were_merged_before_the_targets_base(repo: Made) -> None:
    found = targets(repo)

    assert [target.request.number for target in found] == list(range(2, REQUESTS + 1))
    for target in found:
        assert target.siblings
        for sibling in target.siblings:
            subprocess.run(  # raises if it is no ancestor
                ["git", "merge-base", "--is-ancestor", sibling.head, target.request.base],  # noqa: S607  # whichever git there is
                cwd=repo.place,
                check=True,
            )
    assert any(sibling.number % 3 == REQUESTS % 3 for sibling in found[-1].siblings), "none of its topic"


def test_strict_siblings_do_not_depend_on_the_files_of_the_target(repo: Made) -> None:
    requests = pull_requests.merged(Repository(repo.place))
    others = [replace(request, changed=requests[0].changed) for request in requests]

    chosen, chosen_otherwise = pull_requests.strict(requests), pull_requests.strict(others)

    assert [[each.number for each in target.siblings] for target in chosen] == [
        [each.number for each in target.siblings] for target in chosen_otherwise
    ]


def test_literal_siblings_share_files_and_may_come_later(repo: Made) -> None:
    found = pull_requests.literal(pull_requests.merged(Repository(repo.place)))

    first = found[0]
    assert first.request.number == 1
    assert {each.number % 3 for each in first.siblings} == {1}
    assert all(each.merged_at > first.request.merged_at for each in first.siblings)


def test_a_list_of_pull_requests_is_read_and_absent_commits_are_counted(repo: Made, tmp_path: Path) -> None:
    made = pull_requests.merged(Repository(repo.place))
    rows: list[dict[str, Any]] = [
        {
            "repo": "shop",
            "pr_number": each.number,
            "cluster": each.title.split()[1],
            "base_commit": each.base,
            "head_commit": each.head,
            "changed_files": [{"filename": c.path, "status": c.status.replace("added", "new")} for c in each.changed],
        }
        for each in made
    ]
    file = tmp_path / "list.json"
    file.write_text(json.dumps([*rows, {"pr_number": 99, "cluster": "lost"}, rows[0] | {"base_commit": "0" * 40}]))

    found, absent = pull_requests.read(file, Repository(repo.place))

    assert absent == 2
    assert [each.modified for each in found] == [each.modified for each in made]
    grouped = pull_requests.strict(found)
    assert all(each.group == target.request.group for target in grouped for each in target.siblings)
    assert len(grouped) == REQUESTS - len(TOPICS)
    file.write_text('[{"pr_number": "one"}]')
    with pytest.raises(PullRequestsError, match=r"0.pr_number"):
        pull_requests.read(file, Repository(repo.place))


def test_a_dataset_is_read_as_it_was_written(repo: Made, tmp_path: Path) -> None:
    file = tmp_path / "data" / "features.jsonl"
    pull_requests.write(targets(repo), file)

    assert pull_requests.load(file) == targets(repo)
    file.write_text(file.read_text() + "{}\n")
    with pytest.raises(PullRequestsError, match=f"line {REQUESTS}, is no target"):
        pull_requests.load(file)


@pytest.mark.parametrize(
    ("named", "modified", "expected"),
    [
        (["a", "b"], ["a", "b"], (1.0, 1.0, 1.0)),
        (["a"], ["a", "b"], (1.0, 0.5, 2 / 3)),
        (["a", "b", "c", "d"], ["a"], (0.25, 1.0, 0.4)),
        (["c"], ["a"], (0.0, 0.0, 0.0)),
        ([], ["a"], (0.0, 0.0, 0.0)),
    ],
)
def test_f1_is_over_sets_of_files(named: list[str], modified: list[str], expected: tuple[float, float, float]) -> None:
    found = scoring.score(named, modified)

    assert (found.precision, found.recall, found.f1) == pytest.approx(expected)


def test_files_are_named_by_the_end_of_a_path_that_only_one_has() -> None:
    files = ["src/a/main.py", "src/b/main.py", "src/b/io.py", "README.md"]

    assert scoring.named_in("See b/main.py, `io.py`, ./README.md and main.py; io.", files) == [
        "src/b/main.py",
        "src/b/io.py",
        "README.md",
    ]


def test_baselines_see_the_past_alone(repo: Made) -> None:
    found = {(each.name, each.target): each for each in baselines.measure(targets(repo), Repository(repo.place))}

    often = found["files changed most often", 2]
    assert often.named[0] in ("hot.py", "search/model.py")
    assert not any("added_" in path and int(path.split("_")[1][:-3]) >= 12 for path in often.named)
    assert found["files siblings modified", 12].score.f1 > 0.4


class Worker:
    """A model that edits the topic's files if it was told of them, and else misbehaves in many ways."""

    def __init__(self) -> None:
        self.turn = 0

    def __call__(self, messages: Sequence[Message], options: Options) -> Reply:
        self.turn += 1
        names = {tool.name for tool in options.tools}
        shown = "\n".join(message.content for message in messages)
        task = next(
            message.content for message in messages if "<task>" in message.content or "<context>" in message.content
        )
        if "revise_notes" in names:
            if "[looked]" not in shown and self.turn % 2:
                return calls(("search", {"text": "view_1"}), text="[looked]")
            note = {"kind": "plan", "text": "A feature changes view.py, model.py and store.py of its topic."}
            return calls(("revise_notes", {"add": [note], "done": True}), tokens=30)
        if "A feature changes" not in shown and "=== pull request" not in shown:
            bad = [
                calls(("read", {"path": "../../etc/passwd"}), ("read", {"path": "README.md", "first": self.turn})),
                calls(("edit", {"path": "hot.py", "old": "n = ", "new": f"n = {self.turn}"}), tokens=50),
                calls(("sh", {"run": "rm -rf /"}), ("create", {"path": ".git/hooks/x", "text": "evil"})),
                "I do not feel like calling tools.",
            ]
            return bad[self.turn % len(bad)]
        topic = next(topic for topic in TOPICS if f"Extend {topic}" in task.partition("<task>")[2])
        done = shown.count("Changed.")
        if done == 3:
            return calls(("finish", {"summary": "Done."}))
        name = ("view", "model", "store")[done]
        return calls(
            ("edit", {"path": f"{topic}/{name}.py", "old": f"{name}_19 = 19", "new": f"{name}_19 = 20"}), tokens=20
        )


@pytest.mark.anyio
async def test_e7_is_measured_to_its_page_and_outside_nothing_changes(repo: Made, tmp_path: Path) -> None:
    file = tmp_path / "features.jsonl"
    pull_requests.write(targets(repo)[-8:], file)
    chosen = experiment.load(steps=[3, 6])
    asked, source = pull_requests.load(file), Repository(repo.place)
    settings = measuring.settings_of(
        chosen, asked, file=file, repository=repo.place, models=("scripted", "scripted"), prices=(None, None)
    )
    folder = measuring.Folder(tmp_path / "run", settings)
    before = fingerprint(repo.place)
    model = ScriptedModel(Worker())
    for each in baselines.measure(asked, source):
        folder.keep_baseline(each)
    measurer = measuring.Measurer(
        folder, source, measuring.Models(test=model, sleep=model), settings, clock_s=lambda: 0.0
    )

    await measurer.measure(chosen.cells, asked, concurrency=4)
    paid = len(model.calls)
    await measurer.measure(chosen.cells, asked, concurrency=4)
    folder.close()

    assert len(model.calls) == paid, "what was measured is not measured again"
    assert fingerprint(repo.place) == before
    run = measuring.read_run(tmp_path / "run")
    assert run.paid_calls == paid
    assert len(run.rows) == len(chosen.cells) * 8
    assert all(row.score is not None and row.steps <= int(row.cell.partition("/")[2]) for row in run.rows)
    found = analyse(run)
    f1 = {point.cell.id: point.f1.value for point in found.points}
    assert f1["sleep/6"] == f1["siblings/6"] == 1.0
    assert f1["sleep/3"] == 1.0
    assert (f1["no_sleep/6"] or 0.0) < 0.3
    ended = {point.cell.id: dict(point.outcomes) for point in found.points}
    assert ended["sleep/6"] == {"finished": 8}
    assert ended["sleep/3"] == {"steps": 8}
    page = report.write(run, found, tmp_path / "report", experiment=chosen)
    assert "slept on siblings" in page.read_text()
    assert (tmp_path / "report/figures/f1.png").stat().st_size > 1000
    assert "no sleep,3,8" in (tmp_path / "report/tables/cells.csv").read_text()


@pytest.mark.anyio
async def test_a_model_that_fails_leaves_answers_missing_and_never_wrong(repo: Made, tmp_path: Path) -> None:
    file = tmp_path / "features.jsonl"
    pull_requests.write(targets(repo)[-2:], file)
    chosen, asked = experiment.load(steps=[3]), pull_requests.load(file)
    settings = measuring.settings_of(
        chosen, asked, file=file, repository=repo.place, models=("scripted", "scripted"), prices=(None, None)
    )
    folder = measuring.Folder(tmp_path / "run", settings)
    broken = ScriptedModel(lambda *_: UpstreamError("scripted", 501, retry_after_s=1000))

    measurer = measuring.Measurer(
        folder, Repository(repo.place), measuring.Models(test=broken, sleep=broken), settings, clock_s=lambda: 0.0
    )
    await measurer.measure(chosen.cells, asked, concurrency=2)
    folder.close()

    run = measuring.read_run(tmp_path / "run")
    assert [row.score for row in run.rows] == [None] * 6
    assert {row.error.partition(":")[0] for row in run.rows} == {"UpstreamError", "the sleep failed"}
    assert all(point.missing == 2 and point.f1.value is None for point in analyse(run).points)
    with pytest.raises(RunFolderError, match="another model"):
        measuring.Folder(tmp_path / "run", replace(settings, model="other"))


def answering(body: dict[str, Any]) -> ServedReply:
    text = json.dumps(body["messages"])
    if any(tool["function"]["name"] == "revise_notes" for tool in body.get("tools", [])):
        note = {"kind": "plan", "text": "Change view.py."}
        return ServedReply(tool_calls=(("revise_notes", json.dumps({"add": [note], "done": True})),))
    if "Changed." in text:
        return ServedReply(tool_calls=(("finish", '{"summary": "Done."}'),))
    topic = next(topic for topic in TOPICS if f"Extend {topic}" in text.partition("<task>")[2])
    edit = {"path": f"{topic}/view.py", "old": "view_19 = 19", "new": "view_19 = 20"}
    return ServedReply(tool_calls=(("edit", json.dumps(edit)),))


def command(*arguments: str, home: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("SLEEPTIME", "OPENAI", "ANTHROPIC"))}
    done = subprocess.run(
        [sys.executable, "-m", "sleeptime.cli", "eval", *arguments],
        env=environ | {"SLEEPTIME_HOME": str(home), "NO_COLOR": "1"},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done


def test_the_commands_lead_from_a_repository_to_a_page(repo: Made, tmp_path: Path) -> None:
    made = json.loads(
        command(
            "make-swe-features", str(repo.place), "--limit", "3", "--out", "f.jsonl", "--json", home=tmp_path
        ).stdout
    )
    assert (made["targets"], made["choice"]) == (3, "strict")
    assert {each["name"] for each in made["without_a_model"]} == set(baselines.WAYS)
    asked = ("run", "e7", "--repo", str(repo.place), "--dataset", "f.jsonl", "--levels", "2", "--out", "run")
    dry = command(*asked, "--model", "openai:gpt-5-mini", "--dry-run", home=tmp_path)
    assert "sleeps" in dry.stdout
    assert not (tmp_path / "run").exists()
    with serve(answering) as fake:
        done = json.loads(command(*asked, "--model", fake.name, "--json", home=tmp_path).stdout)
        assert (done["rows"], done["missing"], done["paid_calls"]) == (9, 0, len(fake.calls))
    page = command("report", "run", home=tmp_path).stdout.strip()
    assert "no sleep" in (tmp_path / page).read_text()
    alone = command("run", "e7", "e1", "--model", "tiny", home=tmp_path, code=1)
    assert "give it alone" in alone.stderr
    bare = command("run", "e7", "--model", "tiny", home=tmp_path, code=1)
    assert "make-swe-features REPO" in bare.stderr


def test_the_experiment_states_its_claim_and_refuses_what_it_does_not_know() -> None:
    shipped = experiment.load()

    assert (shipped.id, shipped.plan.strategy, len(shipped.cells)) == ("e7", "explore", 12)
    with pytest.raises(experiment.ExperimentError, match="'colour' is not known"):
        experiment.read("colour = 1", source="x.toml")
    with pytest.raises(experiment.ExperimentError, match="'arms' is missing"):
        experiment.read('id = "x"', source="x.toml")


@pytest.mark.skipif(not os.environ.get("SLEEPTIME_DATA"), reason="needs $SLEEPTIME_DATA with swe-features-aider")
def test_the_papers_own_lists_have_the_form_that_is_read() -> None:
    folder = Path(os.environ["SLEEPTIME_DATA"]) / "swe-features-aider"
    for file in folder.glob("*.json"):
        assert TypeAdapter(list[pull_requests.Listed]).validate_json(file.read_bytes())
