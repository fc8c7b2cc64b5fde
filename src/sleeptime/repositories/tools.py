"""The tools an agent has in a repository: to look, and in a worktree to edit; and what they say.

    list · read · search · history          look, within the checkout
    edit · create                           change the worktree
    finish                                  end

Every result is a text of at most MOST_RESULT characters that says what was left out and how to get it. What cannot be
done comes back as a text too, which says what to do instead: a model that errs loses a step and nothing else. There is
no tool that runs anything.

This file does not know prompts, budgets or models.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sleeptime.core.errors import RepositoryError
from sleeptime.core.messages import UNREADABLE, Tool, ToolCall
from sleeptime.repositories.checkout import Checkout, Excerpt
from sleeptime.repositories.worktree import Worktree

MOST_RESULT = 8_000
MOST_ENTRIES = 200
MOST_FOUND = 60
MOST_COMMITS = 20
_MOST_FILES_OF_A_COMMIT = 8
_MOST_LINE = 240
"""Characters of a line that was found, or of the title of a commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a call came to.

    `is_refused` where nothing was done but to say why, and `is_read` is then false where the call was none that can be
    read; `is_end` ends the work.
    """

    text: str
    is_refused: bool = False
    is_read: bool = True
    is_end: bool = False


def _tool(name: str, description: str, required: Sequence[str], **properties: tuple[str, str]) -> Tool:
    return Tool(
        name=name,
        description=description,
        parameters={
            "type": "object",
            "properties": {key: {"type": kind, "description": words} for key, (kind, words) in properties.items()},
            "required": list(required),
        },
    )


LIST = _tool(
    "list",
    "List the files and folders in a folder of the repository.",
    (),
    folder=("string", "Its path; empty for the top."),
)
READ = _tool(
    "read",
    "Read lines of a file.",
    ("path",),
    path=("string", "The path from the top of the repository."),
    first=("integer", "The first line, from 1."),
    last=("integer", "The last line."),
)
SEARCH = _tool(
    "search",
    "Find the lines of all files that hold a text.",
    ("text",),
    text=("string", "What to find, exactly as written."),
    regex=("boolean", "Take it as a POSIX extended regular expression."),
    ignore_case=("boolean", "Take capital and small letters as the same."),
    paths=("string", "A pattern for the paths, such as src/*.py."),
)
HISTORY = _tool(
    "history",
    "The newest commits, with the files they changed: all, or those of one file.",
    (),
    path=("string", "The path of a file."),
)
EDIT = _tool(
    "edit",
    "Replace a text in a file that stands there exactly once.",
    ("path", "old", "new"),
    path=("string", "The path of the file."),
    old=("string", "The text to replace, exactly as in the file, with enough lines to stand there once."),
    new=("string", "The text in its place."),
)
CREATE = _tool(
    "create",
    "Make a new file.",
    ("path", "text"),
    path=("string", "Its path from the top of the repository."),
    text=("string", "The whole text."),
)
FINISH = _tool(
    "finish",
    "End the work: every change is made.",
    ("summary",),
    summary=("string", "What was changed and why, in a few sentences."),
)

LOOKING: tuple[Tool, ...] = (LIST, READ, SEARCH, HISTORY)
WORKING: tuple[Tool, ...] = (*LOOKING, EDIT, CREATE, FINISH)


def carry_out(call: ToolCall, place: Checkout, tools: Sequence[Tool] = LOOKING) -> Result:
    """Do what a model's *call* asks in *place*, if it is one of *tools* and its arguments fit."""
    known = {tool.name: tool for tool in tools}
    if call.name not in known:
        return _unread(f"There is no tool {call.name[:_MOST_LINE]!r}. There are {', '.join(known)}.")
    if UNREADABLE in call.arguments:
        return _unread(f"{call.name}: the arguments are not a JSON object.")
    arguments = {key: value for key, value in call.arguments.items() if value is not None}
    if wrong := _what_is_wrong(arguments, known[call.name]):
        return _refused(f"{call.name}: {wrong}")
    try:
        return _DOES[call.name](arguments, place)
    except RepositoryError as error:
        return _refused(str(error))


def written(call: ToolCall) -> str:
    """Write a call as one line of JSON, as a transcript shows it."""
    return json.dumps({"tool": call.name, **call.arguments}, ensure_ascii=False, default=str)


def read_written(text: str) -> tuple[ToolCall, ...]:
    """Read the calls that a reply only writes, a line each, as transcripts show them."""
    calls: list[ToolCall] = []
    for line in text.splitlines():
        if not line.lstrip().startswith("{"):
            continue
        try:
            value: Any = json.loads(line, strict=False)  # Any: what the model wrote
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and isinstance(value.get("tool"), str):  # pyright: ignore[reportUnknownMemberType]  # JSON
            arguments = {str(key): each for key, each in cast("dict[str, Any]", value).items()}
            calls.append(ToolCall(name=arguments.pop("tool"), arguments=arguments))
    return tuple(calls)


def _list(arguments: Mapping[str, Any], place: Checkout) -> Result:  # Any: what the model wrote, checked
    folder = str(arguments.get("folder", "")).removeprefix("./").strip("/")
    folder = "" if folder == "." else folder
    lead = f"{folder}/" if folder else ""
    below = [file.path.removeprefix(lead) for file in place.files() if file.path.startswith(lead)]
    if not below:
        return _refused(f"There is no folder {folder!r} with files that may be read. `list` without one shows the top.")
    folders = Counter(path.partition("/")[0] for path in below if "/" in path)
    entries = [f"{name}/ ({count} files)" for name, count in sorted(folders.items())]
    entries += [path for path in below if "/" not in path]
    return Result(text=_joined(entries, MOST_ENTRIES, f"list a folder below {folder or 'the top'}, or search"))


def _read(arguments: Mapping[str, Any], place: Checkout) -> Result:  # Any: as above
    path, last = str(arguments["path"]), arguments.get("last")
    return Result(text=_numbered(place.read(path, arguments.get("first", 1), last)))


def _numbered(part: Excerpt) -> str:
    lines = [f"{number}: {line}" for number, line in enumerate(part.text.split("\n"), part.first)]
    kept, size = 0, 0
    while kept < len(lines) and (size + len(lines[kept]) < MOST_RESULT or not kept):
        size += len(lines[kept]) + 1
        kept += 1
    last = part.first + kept - 1
    head = f"{part.path}, lines {part.first} to {last} of {part.lines}"
    more = f"\n… {part.lines - last} more lines; read on from line {last + 1}." if last < part.lines else ""
    return f"{head}\n" + _cut("\n".join(lines[:kept])) + more


def _search(arguments: Mapping[str, Any], place: Checkout) -> Result:  # Any: as above
    found = place.search(
        str(arguments["text"]),
        regex=arguments.get("regex", False),
        ignore_case=arguments.get("ignore_case", False),
        paths=arguments.get("paths", "") or "*",
    )
    if not found.hits:
        return Result(
            text="No line holds it." if found.is_whole else "Nothing was found in the time a search may take."
        )
    lines = [f"{hit.path}:{hit.line}: {hit.text.strip()[:_MOST_LINE]}" for hit in found.hits]
    told = _joined(lines, MOST_FOUND, "search for more words, or give `paths`")
    return Result(text=told if found.is_whole else f"{told}\n(There are more than these.)")


def _history(arguments: Mapping[str, Any], place: Checkout) -> Result:  # Any: as above
    path = str(arguments.get("path", "")) or None
    commits = place.history(path, limit=MOST_COMMITS)
    if not commits:
        return Result(text="No commit touched it." if path else "There are no commits.")
    lines: list[str] = []
    for commit in commits:
        more = len(commit.paths) - _MOST_FILES_OF_A_COMMIT
        files = ", ".join(commit.paths[:_MOST_FILES_OF_A_COMMIT]) + (f" and {more} more" if more > 0 else "")
        lines.append(f"{commit.date:%Y-%m-%d} {commit.id[:10]} {commit.title[:_MOST_LINE]}\n  {files}")
    return Result(text=_joined(lines, MOST_COMMITS, "ask for one file"))


def _edit(arguments: Mapping[str, Any], place: Checkout) -> Result:  # Any: as above
    assert isinstance(place, Worktree), "the tools that edit are offered in a worktree alone"
    return Result(text=f"Changed.\n{_numbered(place.replace(arguments['path'], arguments['old'], arguments['new']))}")


def _create(arguments: Mapping[str, Any], place: Checkout) -> Result:  # Any: as above
    assert isinstance(place, Worktree), "the tools that edit are offered in a worktree alone"
    made = place.create(arguments["path"], arguments["text"])
    return Result(text=f"Created {made.path} with {made.lines} lines.")


def _finish(arguments: Mapping[str, Any], _place: Checkout) -> Result:  # Any: as above
    return Result(text=str(arguments["summary"]), is_end=True)


_DOES: dict[str, Callable[[Mapping[str, Any], Checkout], Result]] = {
    LIST.name: _list,
    READ.name: _read,
    SEARCH.name: _search,
    HISTORY.name: _history,
    EDIT.name: _edit,
    CREATE.name: _create,
    FINISH.name: _finish,
}
_KINDS: dict[str, tuple[type, str]] = {
    "string": (str, "a text"),
    "integer": (int, "a whole number"),
    "boolean": (bool, "true or false"),
}


def _what_is_wrong(arguments: Mapping[str, Any], tool: Tool) -> str:  # Any: what the model wrote
    """What keeps *arguments* from being those of *tool*; nothing if they are."""
    properties: Mapping[str, Mapping[str, str]] = tool.parameters["properties"]
    for key in tool.parameters["required"]:
        if key not in arguments:
            return f"{key!r} is missing. It takes {', '.join(properties)}."
    for key, value in arguments.items():
        if key not in properties:
            return f"it takes no {key[:_MOST_LINE]!r}, but {', '.join(properties)}."
        kind, words = _KINDS[properties[key]["type"]]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            return f"{key!r} should be {words}."
    return ""


def _refused(text: str) -> Result:
    return Result(text=_cut(text), is_refused=True)


def _unread(text: str) -> Result:
    return Result(text=_cut(text), is_refused=True, is_read=False)


def _joined(lines: Sequence[str], most: int, instead: str) -> str:
    """Join as many of *lines* as there is room for, and say how to see the others."""
    kept: list[str] = []
    size = 0
    for line in lines[:most]:
        size += len(line) + 1
        if size > MOST_RESULT:
            break
        kept.append(line)
    left = len(lines) - len(kept)
    return "\n".join([*kept, *([f"… and {left} more; {instead}."] if left else [])])


def _cut(text: str) -> str:
    return text if len(text) <= MOST_RESULT else f"{text[:MOST_RESULT]}…"
