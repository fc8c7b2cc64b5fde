"""Where contexts come from: a file, a folder, a repository, a conversation, standard input.

Everything becomes text. A conversation is JSONL with `role` and `content`; a folder
is its text files, each under a line with its path; a git repository is its index at
`HEAD`, and its origin is `PATH@COMMIT`. What is binary or too large is refused before
it is read in full.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sleeptime.core.context import fingerprint
from sleeptime.core.errors import EmptyContextError, InputError, InputTooLargeError, NotTextError
from sleeptime.repositories import telling
from sleeptime.repositories.checkout import Repository
from sleeptime.repositories.git import git_directory
from sleeptime.repositories.index import Indexer

LIMIT_BYTES = 10_000_000
MADE_BY_TOOLS = frozenset({"node_modules", "__pycache__", "venv", "build", "dist", "target"})
"""Folders that hold what programs made, not what people wrote."""
_SNIFFED_BYTES = 8192
_AT_COMMIT = re.compile(r"(.+)@([0-9a-f]{40}(?:[0-9a-f]{24})?)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Text with the name it suggests and where it was read."""

    name: str
    text: str
    origin: str


def read(path: str, *, kind: Literal["folder", "repository"] | None = None, limit_bytes: int = LIMIT_BYTES) -> Source:
    """Read *path*: a file, a folder, a git repository, a conversation (`.jsonl`), or `-` for standard input.

    A folder with a `.git` is a repository unless *kind* says otherwise. Raises InputError for what is missing,
    empty, binary or larger than *limit_bytes*.
    """
    if path == "-":
        raw = sys.stdin.buffer.read(limit_bytes + 1)
        text = _decoded(raw, "Standard input", limit_bytes)
        return Source(name=f"text-{fingerprint(text)[:8]}", text=text, origin="-")
    try:
        place = Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read: {error}.") from error
    if kind == "repository" or (kind is None and place.is_dir() and git_directory(place) is not None):
        return _repository(place, limit_bytes)
    try:
        text = _folder(place, limit_bytes) if place.is_dir() else _file(place, limit_bytes)
    except FileNotFoundError:
        raise InputError(f"There is no file or folder {path}.") from None
    except PermissionError:
        raise InputError(f"{path} may not be read: permission denied.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if place.suffix == ".jsonl":
        text = _conversation(text) or text
    whole = place.resolve()
    name = (whole.name if place.is_dir() else whole.stem) or "context"
    return Source(name=name, text=text, origin=str(place.absolute()))


def repository(origin: str) -> tuple[str, str] | None:
    """The path and the commit that an origin names, or None where it is no repository."""
    found = _AT_COMMIT.fullmatch(origin)
    return (found[1], found[2]) if found else None


def _repository(place: Path, limit_bytes: int) -> Source:
    checkout = Repository(place).at("HEAD")
    name = place.resolve().name.removesuffix(".git") or "repository"
    text = telling.told(Indexer().index(checkout), name)
    size = len(text.encode())
    if size > limit_bytes:
        raise InputTooLargeError(f"The index of {place}", size_bytes=size, limit_bytes=limit_bytes)
    return Source(name=name, text=text, origin=f"{place.absolute()}@{checkout.commit}")


def _file(place: Path, limit_bytes: int) -> str:
    size = place.stat().st_size
    if size > limit_bytes:
        raise InputTooLargeError(str(place), size_bytes=size, limit_bytes=limit_bytes)
    with place.open("rb") as file:
        raw = file.read(limit_bytes + 1)
    return _decoded(raw, str(place), limit_bytes)


def _decoded(raw: bytes, source: str, limit_bytes: int) -> str:
    if len(raw) > limit_bytes:
        raise InputTooLargeError(source, size_bytes=None, limit_bytes=limit_bytes)
    if b"\0" in raw:
        raise NotTextError(source)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NotTextError(source) from None
    text = text.replace("\r\n", "\n")
    if not text.strip():
        raise EmptyContextError(source)
    return text


def _folder(place: Path, limit_bytes: int) -> str:
    parts: list[str] = []
    size = 0
    for file in _text_files(place):
        size += file.stat().st_size
        if size > limit_bytes:
            raise InputTooLargeError(str(place), size_bytes=size, limit_bytes=limit_bytes)
        try:
            parts.append(f"=== {file.relative_to(place)} ===\n{_file(file, limit_bytes).strip()}")
        except (NotTextError, EmptyContextError):
            continue
    if not parts:
        raise EmptyContextError(str(place))
    return "\n\n".join(parts) + "\n"


def _text_files(place: Path) -> Iterator[Path]:
    """Files below *place* in order of their paths, without hidden, linked, binary and generated ones."""
    for entry in sorted(place.iterdir()):
        if entry.name.startswith(".") or entry.name in MADE_BY_TOOLS or entry.is_symlink():
            continue
        if entry.is_dir():
            yield from _text_files(entry)
        elif entry.is_file():
            with entry.open("rb") as file:
                if b"\0" not in file.read(_SNIFFED_BYTES):
                    yield entry


def _conversation(text: str) -> str | None:
    """Write a conversation as text, or None if the lines are not one."""
    turns: list[str] = []
    for line in text.split("\n"):
        if not line.strip():
            continue
        try:
            turn: Any = json.loads(line)  # Any: checked below
        except json.JSONDecodeError:
            return None
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str) or "role" not in turn:  # pyright: ignore[reportUnknownMemberType]  # JSON
            return None
        turns.append(f"{turn['role']}: {turn['content']}")
    return "\n\n".join(turns) + "\n"
