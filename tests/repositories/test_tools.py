"""What the tools say of a repository: bounded, and clear about what was wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from repositories.conftest import Made
from sleeptime.core.messages import UNREADABLE, ToolCall
from sleeptime.repositories.checkout import Checkout, open_checkout
from sleeptime.repositories.tools import LOOKING, MOST_RESULT, WORKING, Result, carry_out
from sleeptime.repositories.worktree import Worktree


@pytest.fixture
def tree(make: Callable[..., Made]) -> Worktree:
    repo = make()
    repo.commit(
        "Begin",
        {
            "README.md": "# It\n",
            "src/a.py": "".join(f"line_{i} = {i}\n" for i in range(1, 2001)),
            "src/deep/b.py": "b = 1\n",
            "wide.txt": "y" * 900_000,
            "many.txt": "needle in a line\n" * 5000,
            **{f"crowd/{i:03}.py": "x = 1\n" for i in range(250)},
        },
    )
    repo.commit("Change b, for good\n\nAnd say why.", {"src/deep/b.py": "b = 2\n"})
    return Worktree(open_checkout(repo.place))


def call(place: Checkout, name: str, **arguments: Any) -> Result:
    return carry_out(ToolCall(name=name, arguments=arguments), place, WORKING)


def test_a_folder_is_listed_with_its_folders_first(tree: Worktree) -> None:
    assert call(tree, "list").text == "crowd/ (250 files)\nsrc/ (2 files)\nREADME.md\nmany.txt\nwide.txt"
    assert call(tree, "list", folder="./src/").text == "deep/ (1 files)\na.py"


def test_a_long_list_says_what_is_left_out(tree: Worktree) -> None:
    assert call(tree, "list", folder="crowd").text.endswith("and 50 more; list a folder below crowd, or search.")


def test_lines_are_read_with_their_numbers_and_the_rest_is_announced(tree: Worktree) -> None:
    told = call(tree, "read", path="src/a.py", first=10, last=12).text

    assert told == (
        "src/a.py, lines 10 to 12 of 2000\n10: line_10 = 10\n11: line_11 = 11\n12: line_12 = 12\n"
        "… 1988 more lines; read on from line 13."
    )


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("read", {"path": "src/a.py"}),
        ("read", {"path": "wide.txt"}),
        ("read", {"path": "many.txt"}),
        ("search", {"text": "needle"}),
        ("search", {"text": "y"}),
        ("list", {"folder": "crowd"}),
        ("list", {"folder": "x" * 100_000}),
        ("history", {}),
    ],
)
def test_no_result_is_long(tree: Worktree, name: str, arguments: dict[str, Any]) -> None:
    assert len(call(tree, name, **arguments).text) <= MOST_RESULT + 200


def test_a_search_gives_places_and_says_where_there_is_more(tree: Worktree) -> None:
    assert call(tree, "search", text="line_7 ").text == "src/a.py:7: line_7 = 7"
    assert call(tree, "search", text="^b = ", regex=True, paths="src/*").text == "src/deep/b.py:1: b = 2"
    assert call(tree, "search", text="nowhere").text == "No line holds it."
    assert "There are more than these" in call(tree, "search", text="needle").text


def test_history_shows_commits_with_their_files(tree: Worktree) -> None:
    newest, _, rest = call(tree, "history", path="src/deep/b.py").text.partition("\n")

    assert newest.endswith("Change b, for good")
    assert rest.startswith("  src/deep/b.py\n2026-01-01")


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("shell", {"command": "rm -rf /"}, "There is no tool 'shell'. There are list, read,"),
        ("read", {}, "'path' is missing. It takes path, first, last."),
        ("read", {"path": 3}, "'path' should be a text."),
        ("read", {"path": "src/a.py", "first": "one"}, "'first' should be a whole number."),
        ("read", {"path": "src/a.py", "first": True}, "'first' should be a whole number."),
        ("read", {"path": "src/a.py", "depth": 3}, "it takes no 'depth', but path, first, last."),
        ("read", {UNREADABLE: "{path"}, "the arguments are not a JSON object."),
        ("read", {"path": "../../etc/passwd"}, "'../../etc/passwd' cannot be read"),
        ("read", {"path": "src/a.py", "first": 9999}, "2000 lines"),
        ("search", {"text": "(", "regex": True}, "cannot be searched for"),
        ("edit", {"path": "src/a.py", "old": "nothing like it", "new": ""}, "does not stand in it"),
        ("create", {"path": "../x", "text": ""}, "was not changed"),
    ],
)
def test_what_cannot_be_done_is_said(tree: Worktree, name: str, arguments: dict[str, Any], told: str) -> None:
    result = call(tree, name, **arguments)

    assert result.is_refused
    assert told in result.text


def test_a_missing_argument_may_be_written_as_null(tree: Worktree) -> None:
    assert not call(tree, "read", path="README.md", first=None, last=None).is_refused


def test_who_may_only_look_is_offered_no_tool_that_edits(tree: Worktree) -> None:
    edit = ToolCall(name="edit", arguments={"path": "README.md", "old": "It", "new": "That"})

    assert carry_out(edit, tree.base, LOOKING).text.startswith("There is no tool 'edit'. There are list, read,")
