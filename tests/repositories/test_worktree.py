"""A worktree is edited in memory: what leads out of the tree is refused, and its patch is one that git applies."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from repositories.conftest import Made
from sleeptime.core.errors import EditRefusedError, PathRefusedError
from sleeptime.repositories.checkout import open_checkout
from sleeptime.repositories.worktree import MOST_CHARACTERS, MOST_EDITED_FILES, MOST_FILE_CHARACTERS, Worktree

Make = Callable[..., Made]


def fingerprint(folder: Path) -> str:
    """Everything below *folder*: names, kinds, contents, links, times."""
    digest = hashlib.sha256()
    for entry in sorted(folder.rglob("*")):
        told = entry.lstat()
        digest.update(f"{entry.relative_to(folder)} {told.st_mode} {told.st_mtime_ns}\n".encode())
        if entry.is_symlink():
            digest.update(str(entry.readlink()).encode())
        elif entry.is_file():
            digest.update(entry.read_bytes())
    return digest.hexdigest()


@pytest.fixture
def repo(make: Make) -> Made:
    repo = make()
    repo.commit(
        "Begin",
        {
            "src/a.py": "def a():\n    return 1\n\n\ndef b():\n    return 1",
            "src/windows.txt": "one\r\ntwo\r\n",
            "run.sh": "#!/bin/sh\necho hi\n",
            "latin.txt": b"caf\xe9, and much more text behind it, so that it is text\n" * 40,
            ".env": "KEY=1\n",
            "kept/deep/c.py": "c = 1\n",
        },
    )
    (repo.place / "run.sh").chmod(0o755)
    (repo.place / "link").symlink_to("/etc")
    (repo.place / "inner").symlink_to("src")
    repo.commit("Links")
    return repo


def test_the_patch_makes_the_same_files_of_the_commit_by_git_apply(repo: Made) -> None:
    tree = Worktree(open_checkout(repo.place))

    tree.replace("src/a.py", "def b():\n    return 1", "def b():\n    return 2")
    tree.replace("src/windows.txt", "two\n", "two\nthree\n")
    tree.replace("run.sh", "echo hi", "echo ho")
    tree.create("new/päth.py", "x = 1\n")
    tree.create("new/empty.py", "")

    subprocess.run(["git", "apply", "--index", "-"], input=tree.patch().encode(), cwd=repo.place, check=True)  # noqa: S607
    assert (repo.place / "src/a.py").read_bytes() == b"def a():\n    return 1\n\n\ndef b():\n    return 2"
    assert (repo.place / "src/windows.txt").read_bytes() == b"one\r\ntwo\r\nthree\r\n"
    assert (repo.place / "run.sh").stat().st_mode & 0o111
    assert (repo.place / "new/päth.py").read_text() == "x = 1\n"
    assert (repo.place / "new/empty.py").read_text() == ""
    assert tree.modified == ("run.sh", "src/a.py", "src/windows.txt")
    assert tree.created == ("new/empty.py", "new/päth.py")


def test_an_edit_that_is_taken_back_leaves_no_patch(repo: Made) -> None:
    tree = Worktree(open_checkout(repo.place))

    tree.replace("src/a.py", "def a", "def z")
    tree.replace("src/a.py", "def z", "def a")

    assert tree.patch() == ""
    assert tree.modified == ()


@pytest.mark.parametrize(
    "path",
    [
        "../out.py", "/out.py", "src/../../out.py", "./a.py", "a//b.py", "", ".", "..", "a/.", "C:/out.py",
        "a\\..\\b.py", ".git/hooks/pre-commit", "src/.GIT/config", ".git./x", "GIT~1/x", "a\nb", "a\0b", "x" * 300,
        "link/passwd", "inner/new.py", "src/a.py/new.py", "src", "src/a.py", "kept/deep", ".env", "sub/.env",
        "server.pem", "node_modules/x.js", "logo.png",
    ],
)  # fmt: skip
def test_no_file_is_made_where_none_may_be(repo: Made, path: str) -> None:
    tree = Worktree(open_checkout(repo.place))

    with pytest.raises(EditRefusedError):
        tree.create(path, "x\n")

    assert tree.patch() == ""


@pytest.mark.parametrize(
    "path", ["link", "link/passwd", "inner/a.py", "../x", "/etc/passwd", ".env", ".git/config", "nowhere"]
)
def test_no_file_is_changed_that_may_not_be_read(repo: Made, path: str) -> None:
    tree = Worktree(open_checkout(repo.place))

    with pytest.raises(PathRefusedError):
        tree.replace(path, "root", "toor")


def test_a_replacement_stands_once_or_says_where_it_went_wrong(repo: Made) -> None:
    tree = Worktree(open_checkout(repo.place))

    with pytest.raises(EditRefusedError, match="stands 2 times"):
        tree.replace("src/a.py", "return 1", "return 2")
    with pytest.raises(EditRefusedError, match="white space included; its first line stands in line 5"):
        tree.replace("src/a.py", "def b():\n  return 1", "def b():\n  return 2")
    with pytest.raises(EditRefusedError, match="empty"):
        tree.replace("src/a.py", "", "x")
    with pytest.raises(EditRefusedError, match="nothing would change"):
        tree.replace("src/a.py", "def b", "def b")


def test_a_file_that_an_edit_would_damage_is_left_alone(repo: Made) -> None:
    tree = Worktree(open_checkout(repo.place))

    with pytest.raises((EditRefusedError, PathRefusedError)):
        tree.replace("latin.txt", "and much", "x")
    with pytest.raises(EditRefusedError, match="no text file"):
        tree.create("a.txt", "a\0b")
    with pytest.raises(EditRefusedError, match="no text file"):
        tree.create("a.txt", "a\ud800b")


def test_edits_have_a_most(repo: Made) -> None:
    tree = Worktree(open_checkout(repo.place))

    with pytest.raises(EditRefusedError, match="of at most"):
        tree.create("big.txt", "x" * (MOST_FILE_CHARACTERS + 1))
    for i in range(MOST_CHARACTERS // MOST_FILE_CHARACTERS):
        tree.create(f"big{i}.txt", "x" * MOST_FILE_CHARACTERS)
    with pytest.raises(EditRefusedError, match="all edited files"):
        tree.create("more.txt", "x")
    tree = Worktree(open_checkout(repo.place))
    for i in range(MOST_EDITED_FILES):
        tree.create(f"small{i}.txt", "x")
    with pytest.raises(EditRefusedError, match="that is the most"):
        tree.create("more.txt", "x")


def test_reading_and_searching_see_the_edits(repo: Made) -> None:
    tree = Worktree(open_checkout(repo.place))
    tree.replace("src/a.py", "def a", "def quite_new")
    tree.create("docs/b.md", "quite_new, too\n")

    assert tree.read("src/a.py").text.startswith("def quite_new")
    found = tree.search("quite_new")
    assert [(hit.path, hit.line) for hit in found.hits] == [("docs/b.md", 1), ("src/a.py", 1)]
    assert tree.search("def a").hits == ()
    assert [hit.path for hit in tree.search("Def [b]", regex=True, ignore_case=True).hits] == ["src/a.py"]
    assert "docs/b.md" in [file.path for file in tree.files()]


def test_nothing_is_written_to_the_repository_and_no_temporary_file_stays(
    repo: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    before = fingerprint(repo.place)
    tree = Worktree(open_checkout(repo.place))

    tree.replace("src/a.py", "def a", "def z")
    tree.create("x/y/z.py", "z = 1\n")
    tree.search("def z")
    tree.history("src/a.py")

    assert tree.patch()
    assert fingerprint(repo.place) == before
    assert list(place.iterdir()) == []
