"""Repositories with real history, made by the git program for the tests of this folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Made:
    """A repository under way; each commit is a day after the one before."""

    place: Path
    days: int = 0

    def git(self, *arguments: str) -> str:
        when = f"2026-01-{self.days % 28 + 1:02d}T12:00:{self.days // 28:02d}+00:00"
        run = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *arguments],  # noqa: S607  # whichever git there is
            cwd=self.place,
            env={
                "PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org", "GIT_AUTHOR_DATE": when,
                "GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.org", "GIT_COMMITTER_DATE": when,
            },
            check=True,
            capture_output=True,
        )  # fmt: skip
        return run.stdout.decode(errors="surrogateescape").strip()

    def write(self, files: dict[str, str | bytes]) -> None:
        for path, content in files.items():
            file = self.place / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, message: str, files: dict[str, str | bytes] | None = None) -> str:
        """Write *files*, commit everything, ignored or not, and give the commit's id."""
        self.write(files or {})
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        self.days += 1
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Made]:
    def made(name: str = "repo") -> Made:
        place = tmp_path / name
        place.mkdir()
        repository = Made(place)
        repository.git("init", "--quiet", "--initial-branch=main")
        return repository

    return made
