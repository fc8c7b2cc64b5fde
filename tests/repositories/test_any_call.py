"""Whatever a model calls a tool with, it gets a short text, and nothing outside the worktree changes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repositories.conftest import Made
from repositories.test_worktree import fingerprint
from sleeptime.core.messages import ToolCall
from sleeptime.repositories.checkout import open_checkout
from sleeptime.repositories.tools import MOST_RESULT, WORKING, carry_out
from sleeptime.repositories.worktree import Worktree

PIECES = st.sampled_from(
    [
        "..",
        ".",
        "src",
        "a.py",
        "b",
        ".git",
        "link",
        "etc",
        "passwd",
        "~",
        "",
        "-O",
        "--output=x",
        ":(top)",
        "*",
        "\\",
        "%2e",
        "x\n",
    ]
)
PATHS = st.one_of(st.lists(PIECES, max_size=5).map("/".join), st.text(st.characters(), max_size=20))
TEXTS = st.one_of(
    st.sampled_from(["return 1", "return", "\0", "\ud800", "(", "(a+)+$", "-e", "a" * 5000]), st.text(max_size=30)
)
VALUES = st.one_of(
    PATHS, TEXTS, st.integers(-(10**30), 10**30), st.booleans(), st.none(), st.lists(st.text(max_size=3), max_size=2)
)
FITTING = {
    "list": st.fixed_dictionaries({"folder": PATHS}),
    "read": st.fixed_dictionaries({"path": PATHS}, optional={"first": st.integers(), "last": st.integers()}),
    "search": st.fixed_dictionaries({"text": TEXTS}, optional={"regex": st.booleans(), "paths": PATHS}),
    "history": st.fixed_dictionaries({"path": PATHS}),
    "edit": st.fixed_dictionaries({"path": PATHS, "old": TEXTS, "new": TEXTS}),
    "create": st.fixed_dictionaries({"path": PATHS, "text": TEXTS}),
}
KEYS = st.sampled_from(["path", "text", "old", "new", "first", "folder", "else"])
CALLS = st.one_of(
    *[arguments.map(lambda given, name=name: (name, given)) for name, arguments in FITTING.items()],
    st.tuples(st.sampled_from([tool.name for tool in WORKING] + ["sh"]), st.dictionaries(KEYS, VALUES, max_size=4)),
)


@pytest.fixture
def place(make: Callable[..., Made]) -> Path:
    repo = make()
    repo.commit("Begin", {"src/a.py": "def a():\n    return 1\n", "b": "b\n"})
    (repo.place / "link").symlink_to("/etc")
    repo.commit("Link")
    return repo.place


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(made=st.lists(CALLS, min_size=1, max_size=6))
def test_any_calls_are_answered_and_leave_everything_else_as_it_was(
    place: Path, made: list[tuple[str, dict[str, Any]]]
) -> None:
    before = fingerprint(place.parent)
    tree = Worktree(open_checkout(place))

    for name, arguments in made:
        result = carry_out(ToolCall(name=name, arguments=arguments), tree, WORKING)
        assert len(result.text) <= MOST_RESULT + 200 or result.is_end
    patch = tree.patch()

    assert fingerprint(place.parent) == before
    for path in (*tree.modified, *tree.created):
        assert (place / path).resolve().is_relative_to(place), path
        assert ".git" not in path.lower().split("/")
    if patch:
        subprocess.run(["git", "apply", "--check", "-"], input=patch.encode(), cwd=place, check=True)  # noqa: S607
