"""A repository is a context whose text is its index, and a commit makes new only what it touched."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from repositories.conftest import Made
from sleeptime import sources
from sleeptime.core.context import sections
from sleeptime.core.errors import RepositoryError
from sleeptime.core.redundancy import COVERED, covered, passages
from sleeptime.repositories import telling
from sleeptime.repositories.checkout import open_checkout

Make = Callable[..., Made]


def project(make: Make) -> Made:
    repo = make()
    files: dict[str, str | bytes] = {
        f"src/m{n}.py": f'"""Counts part {n}."""\n\n\ndef run_{n}() -> int:\n    return {n}\n' for n in range(20)
    }
    repo.commit("Begin", {**files, "README.md": "# Parts\n", "tests/test_m3.py": "import m3\n"})
    for n in range(3):
        repo.commit(f"Both {n}", {"src/m1.py": f"def run_1(): return {n}\n", "src/m2.py": f"def run_2(): return {n}\n"})
    return repo


def test_a_repository_is_told_as_its_index_with_the_commit_it_is_at(make: Make) -> None:
    repo = project(make)
    source = sources.read(str(repo.place))

    assert source.name == "repo"
    assert sources.repository(source.origin) == (str(repo.place), repo.git("rev-parse", "HEAD"))
    assert (
        "=== src/m3.py\npython, 5 lines: Counts part 3.\nfunction run_3 4-5\ntested by tests/test_m3.py" in source.text
    )
    assert "changes together with src/m2.py (100 %)" in source.text
    assert "=== history of 2026-01\n" in source.text
    assert "Both 2 (src/m1.py, src/m2.py)" in source.text


def test_a_commit_makes_new_only_its_files_and_its_month(make: Make) -> None:
    repo = project(make)
    before = {section.fingerprint for section in sections(sources.read(str(repo.place)).text)}
    repo.commit("One", {"src/m7.py": "def run_7(): return 70\n"})

    text = sources.read(str(repo.place)).text
    new = [text[section.start :].partition("\n")[0] for section in sections(text) if section.fingerprint not in before]
    assert new == ["=== src/m7.py", "=== history of 2026-01"]


def test_the_same_commit_is_told_the_same(make: Make) -> None:
    repo = project(make)

    assert sources.read(str(repo.place)) == sources.read(str(repo.place))


def test_no_name_or_title_opens_a_block_of_its_own(make: Make) -> None:
    repo = make()
    repo.commit("=== src/fake.py\n\nbody", {"a\n=== b.py": "x = 1\n", "c.py": '"""=== d.py\n"""\n'})

    text = sources.read(str(repo.place)).text
    assert [line for line in text.split("\n") if line.startswith("===")] == [
        "=== a === b.py", "=== c.py", "=== history of 2026-01",
    ]  # fmt: skip


def test_a_repository_can_be_read_as_a_folder_and_a_folder_is_no_repository(make: Make, tmp_path: Path) -> None:
    repo = make()
    repo.commit("One", {"a.txt": "hello\n"})

    assert sources.read(str(repo.place), kind="folder").text == "=== a.txt ===\nhello\n"
    (tmp_path / "plain").mkdir()
    with pytest.raises(RepositoryError, match="--as folder"):
        sources.read(str(tmp_path / "plain"), kind="repository")


def test_update_reads_the_repository_at_the_commit_it_is_at_then(make: Make, tmp_path: Path) -> None:
    repo = project(make)
    start = [sys.executable, "-m", "sleeptime.cli"]
    database = ["--database", str(tmp_path / "s.db")]

    def run(*arguments: str) -> str:
        done = subprocess.run([*start, *arguments, *database], check=True, capture_output=True, text=True)
        return done.stderr

    run("add", str(repo.place))
    assert "nothing changed" in run("update", "repo")
    repo.commit("One", {"src/m7.py": "def run_7(): return 70\n"})
    assert "Sections: 2 new, 2 gone" in run("update", "repo")


def test_a_note_that_the_documents_say_is_told_from_one_that_adds(make: Make) -> None:
    repo = make()
    repo.commit(
        "Docs",
        {
            "README.md": "# Sheep\n\nRun `count --fast` to count sheep without sleeping in between.\n\nFree.\n",
            "docs/use.rst": "Counting\n\nThe counter stores its total in counter.json.\n",
            "src/notes.md": "The cache is keyed by blob.\n",
        },
    )
    read = telling.documents(open_checkout(repo.place))
    found = passages(read)

    assert len(read) == 2
    assert covered("To count sheep without sleeping in between, run `count --fast`.", found) >= COVERED
    assert covered("The total is stored in counter.json by the counter.", found) >= COVERED
    assert covered("`count --fast` skips the retries of fetch_sheep in src/flock.py", found) < COVERED
    assert covered("The cache is keyed by blob.", found) < COVERED
    assert covered("Sheep.", found) == 0.0
    assert covered("A repository that has no documents at all", ()) == 0.0


def test_the_benchmark_replays_commits_and_says_what_a_sleep_after_each_costs(make: Make) -> None:
    repo = project(make)
    command = [sys.executable, "-m", "benchmarks.commits", "--repo", str(repo.place), "--commits", "3"]
    run = subprocess.run(command, check=False, capture_output=True, text=True)

    row = run.stdout.splitlines()[2].split("|")
    assert (row[3].strip(), row[4].strip()) == ("3", "3")
    assert 0 < float(row[7].strip().rstrip("%")) < 60
