"""A repository at a commit, to be read and never written: files, their lines, a search, the history.

    checkout = open_checkout("path/to/repo", "HEAD")
    checkout.files()                      what may be read: tracked, text, no secrets, nothing generated or ignored
    checkout.read("src/a.py", 10, 40)     an Excerpt
    checkout.search("def parse")          Hits
    checkout.history("src/a.py")          Commits, newest first
    checkout.changed(base)                what differs since the commit `base`

A path is a name in the listing of the commit and nothing else: it is looked up, never joined to a folder, so `..`,
absolute paths, links and submodules lead nowhere. What is not in the work tree (a bare repository) reads as well, and
what is in the work tree but not committed is not seen. A plain folder has files and no history; there each path is
checked to lie within. Every result has a most, and says whether it is all.

This file does not know what the files mean; `index` does.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from hashlib import sha1
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import Literal

from pathspec import GitIgnoreSpec

from sleeptime.core.errors import (
    CommitNotFoundError,
    GitFailedError,
    InputError,
    PathRefusedError,
    PatternRefusedError,
    RepositoryError,
)
from sleeptime.core.leaving_out import MOST_BYTES, LeftOut, by_content, by_name
from sleeptime.repositories import git

MOST_FILES = 50_000
MOST_LINES_READ = 400
MOST_CHARACTERS_OF_A_LINE = 1000
MOST_HITS = 200
MOST_COMMITS = 20_000
MOST_FILES_OF_A_COMMIT = 200
"""A commit that touches more tells nothing of what belongs together; the files beyond are not listed."""
SEARCH_TIMEOUT_S = 10.0

_MOST_SEARCHED_BYTES = 8_000_000
_MOST_PATTERN = 200
_MOST_REPEATS = 1000
_MOST_EXCLUDED_CHARACTERS = 60_000
_BATCH_BYTES = 16_000_000
_REPEAT = re.compile(r"\{(\d*)(?:,(\d*))?\}")
_BACKREFERENCE = re.compile(r"\\[1-9]")
_HEADER = re.compile(rb"\x01([0-9a-f]{40,64})\x1f([0-9]+)\x1f")
_STATUS = re.compile(rb"\n?([AMDTRC])[0-9]*")
_FORMAT = "--format=%x01%H%x1f%ct%x1f%B"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that may be read. `blob` is git's hash of its content."""

    path: str
    size_bytes: int
    blob: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """Lines `first` to `last` of a file that has `lines`, counted from 1. Long lines end in `…`."""

    path: str
    first: int
    last: int
    lines: int
    text: str

    @property
    def is_whole(self) -> bool:
        return self.first == 1 and self.last == self.lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A line that a search found."""

    path: str
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """What a search found. `is_whole` is false where there was more, or the time was up."""

    hits: tuple[Hit, ...]
    is_whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a commit did to a path; `was` is where a renamed file stood before."""

    path: str
    kind: Literal["added", "modified", "deleted", "renamed"]
    was: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A commit that is no merge, with what it changed against its parent."""

    id: str
    date: datetime
    message: str
    changes: tuple[Change, ...] = ()

    @property
    def title(self) -> str:
        return self.message.partition("\n")[0].strip()

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(change.path for change in self.changes)


class Ignores:
    """What the `.gitignore` files of a tree name, also where it is tracked. The rule nearest to a file has the say.

    A line with more than `MOST_STARS` runs of `*` is passed over: it could take a hostile one for ever to match.
    """

    MOST_STARS = 3
    MOST_RULES = 2000

    def __init__(self, rules: Iterable[tuple[str, bytes]]) -> None:
        self._specs: dict[str, GitIgnoreSpec] = {}
        self._named: dict[str, bool] = {}
        for path, data in rules:
            lines = data.decode(errors="replace").splitlines()[: self.MOST_RULES]
            kept = [line for line in lines if len(re.findall(r"\*+", line)) <= self.MOST_STARS]
            try:
                self._specs[path.rpartition("/")[0]] = GitIgnoreSpec.from_lines(kept)
            except ValueError:
                continue  # git, too, goes on where a rule is none

    def names(self, path: str) -> bool:
        """Whether *path* is to be ignored."""
        if path not in self._named:
            self._named[path] = self._asked(path)
        return self._named[path]

    def _asked(self, path: str) -> bool:
        folders = path.split("/")[:-1]
        for depth in range(len(folders), -1, -1):
            folder = "/".join(folders[:depth])
            spec = self._specs.get(folder)
            if spec is not None:
                verdict = spec.check_file(path[len(folder) + 1 :] if folder else path).include
                if verdict is not None:
                    return verdict
        return False


class Checkout(ABC):
    """A tree of files to read: a repository at a commit, or a plain folder (`commit` is then empty)."""

    place: Path
    commit: str

    @abstractmethod
    def listing(self) -> Mapping[str, File | LeftOut]:
        """Every path with its file, or with why it is left out, in order of the paths."""

    @abstractmethod
    def contents(self, files: Sequence[File]) -> Iterator[tuple[File, bytes]]:
        """The bytes of *files*, in order."""

    @abstractmethod
    def history(self, path: str | None = None, *, limit: int = 100) -> tuple[Commit, ...]:
        """The newest commits but merges, newest first; with *path* those that touched it, also under older names."""

    @abstractmethod
    def changed(self, base: str, head: str | None = None) -> tuple[Change, ...]:
        """What differs between the commits *base* and *head* (default: this one)."""

    @abstractmethod
    def _grep(self, options: Sequence[str], excluded: Sequence[str], timeout_s: float) -> git.Output: ...

    def files(self) -> tuple[File, ...]:
        """The files that may be read, in order of their paths."""
        return tuple(entry for entry in self.listing().values() if isinstance(entry, File))

    def file(self, path: str) -> File:
        """Find *path* or raise PathRefusedError, which says why not and what is near."""
        entry = self.listing().get(path)
        if isinstance(entry, File):
            return entry
        raise PathRefusedError(path, _why_refused(path, entry, self.listing()))

    def text(self, path: str) -> str:
        """The whole text of the file *path*."""
        ((_, data),) = self.contents([self.file(path)])
        return data.decode(errors="replace")

    def read(self, path: str, first: int = 1, last: int | None = None) -> Excerpt:
        """Lines *first* to *last* of *path*: at most `MOST_LINES_READ`, so ask again from `Excerpt.last` + 1."""
        lines = _lines(self.text(path))
        first = max(1, first)
        if first > max(1, len(lines)):
            raise PathRefusedError(path, f"it has {len(lines)} lines, and {first} is past its end")
        last = min(len(lines) if last is None else max(first, last), first + MOST_LINES_READ - 1, len(lines))
        shown = "\n".join(_cut(line) for line in lines[first - 1 : last])
        return Excerpt(path=path, first=first, last=last, lines=len(lines), text=shown)

    def search(
        self,
        pattern: str,
        *,
        regex: bool = False,
        ignore_case: bool = False,
        paths: str = "*",
        limit: int = MOST_HITS,
        timeout_s: float = SEARCH_TIMEOUT_S,
    ) -> Hits:
        """Find the lines that hold *pattern*, in files whose path matches the glob *paths* (`*` crosses folders).

        With *regex* the pattern is a POSIX extended regular expression. It ends after *timeout_s*.
        """
        _check_pattern(pattern, regex=regex)
        limit = max(1, min(limit, MOST_HITS))
        options = [
            "-n",
            "-I",
            "-z",
            "--no-color",
            "--full-name",
            "-E" if regex else "-F",
            *(["-i"] if ignore_case else []),
        ]
        listing = self.listing()
        excluded = [path for path, entry in listing.items() if entry in {"secret", "generated", "too large", "ignored"}]
        output = self._grep([*options, "-e", pattern], excluded, timeout_s)
        if output.returncode > 1 and output.is_whole:
            raise PatternRefusedError(pattern, output.message.removeprefix("fatal: ") or "git refuses it")
        found = [
            hit
            for hit in islice(_hits(output.data, self.commit), 100 * MOST_HITS)
            if isinstance(listing.get(hit.path), File) and (paths == "*" or fnmatchcase(hit.path, paths))
        ]
        return Hits(hits=tuple(found[:limit]), is_whole=output.is_whole and len(found) <= limit)


class Repository:
    """A git repository; `at` gives its checkouts, which share what was learned of its blobs."""

    def __init__(self, place: Path) -> None:
        directory = git.git_directory(place)
        if directory is None:
            raise RepositoryError(
                f"{place} is no git repository: it has no `.git`. `--as folder` adds it as plain text."
            )
        self.place = place
        self.directory = directory
        self._judged: dict[str, LeftOut | None] = {}
        self._ignores: dict[tuple[File, ...], Ignores] = {}

    def run(
        self, arguments: Sequence[str], *, timeout_s: float = git.TIMEOUT_S, most_bytes: int = git.MOST_OUTPUT_BYTES
    ) -> git.Output:
        return git.run(self.place, arguments, directory=self.directory, timeout_s=timeout_s, most_bytes=most_bytes)

    def git(self, arguments: Sequence[str], *, given: bytes = b"") -> bytes:
        return git.checked(self.place, arguments, directory=self.directory, given=given)

    def resolve(self, commit: str = "HEAD") -> str:
        """The full id of *commit* (a branch, a tag, an abbreviated id)."""
        if commit.startswith("-") or not commit.isprintable():
            raise CommitNotFoundError(str(self.place), commit)
        output = self.run(["rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"])
        if output.returncode != 0:
            if output.message:
                raise GitFailedError("rev-parse", output.message)
            raise CommitNotFoundError(str(self.place), commit)
        return output.data.decode().strip()

    def at(self, commit: str = "HEAD") -> GitCheckout:
        return GitCheckout(self, self.resolve(commit))

    def blobs(self, hashes: Sequence[str]) -> Iterator[bytes]:
        """The content of blobs, in order, from one git process."""
        out = self.git(["cat-file", "--batch"], given="".join(f"{h}\n" for h in hashes).encode())
        at = 0
        for blob in hashes:
            end = out.index(b"\n", at)
            header = out[at:end].split()
            if len(header) != 3:  # "HASH missing": a partial clone
                raise GitFailedError("cat-file", f"the object {blob} is missing; fetch the whole repository")
            size = int(header[2])
            yield out[end + 1 : end + 1 + size]
            at = end + 1 + size + 1

    def judge(self, files: Iterable[File]) -> Mapping[str, LeftOut | None]:
        """For each blob, why its content is not to be read, or None."""
        unseen = list({file.blob: file for file in files if file.blob not in self._judged}.values())
        for batch in _batches(unseen):
            for file, data in zip(batch, self.blobs([file.blob for file in batch]), strict=True):
                self._judged[file.blob] = by_content(data)
        return self._judged

    def ignores(self, files: Iterable[File]) -> Ignores:
        """What the `.gitignore` files among *files* name."""
        rules = tuple(file for file in files if file.path.rpartition("/")[2] == ".gitignore")
        if rules not in self._ignores:
            texts = self.blobs([file.blob for file in rules])
            self._ignores[rules] = Ignores(zip([file.path for file in rules], texts, strict=True))
        return self._ignores[rules]


class GitCheckout(Checkout):
    """A repository at a commit, read from git's objects."""

    def __init__(self, repository: Repository, commit: str) -> None:
        self.repository, self.place, self.commit = repository, repository.place, commit
        self._listing: dict[str, File | LeftOut] | None = None

    def listing(self) -> Mapping[str, File | LeftOut]:
        if self._listing is None:
            self._listing = self._listed()
        return self._listing

    def _listed(self) -> dict[str, File | LeftOut]:
        out = self.repository.git(["ls-tree", "-r", "-l", "-z", self.commit])
        entries: dict[str, File | LeftOut] = {}
        for line in islice(out.split(b"\0"), MOST_FILES):
            if line:
                meta, _, raw = line.partition(b"\t")
                mode, _, blob, size = meta.decode().split()
                path = raw.decode(errors="surrogateescape")
                entries[path] = _entry(path, mode, blob, size)
        files = [entry for entry in entries.values() if isinstance(entry, File)]
        ignores = self.repository.ignores(files)
        judged = self.repository.judge(files)
        for file in files:
            reason = "ignored" if ignores.names(file.path) else judged[file.blob]
            entries[file.path] = reason or file
        return entries

    def contents(self, files: Sequence[File]) -> Iterator[tuple[File, bytes]]:
        for batch in _batches(files):
            yield from zip(batch, self.repository.blobs([file.blob for file in batch]), strict=True)

    def history(self, path: str | None = None, *, limit: int = 100) -> tuple[Commit, ...]:
        arguments = [
            "log", f"--max-count={max(1, min(limit, MOST_COMMITS))}", "--no-merges", "-z", "--name-status", "-M",
            "--no-ext-diff", "--no-textconv", "--no-color", "--root", _FORMAT, self.commit,
        ]  # fmt: skip
        if path is not None:
            arguments = [arguments[0], "--follow", *arguments[1:], "--", _plain(path)]
        output = self.repository.run(arguments)
        if output.returncode != 0 and output.is_whole:
            raise GitFailedError("log", output.message)
        return tuple(_commits(output.data))

    def changed(self, base: str, head: str | None = None) -> tuple[Change, ...]:
        first = self.repository.resolve(base)
        second = self.commit if head is None else self.repository.resolve(head)
        arguments = ["diff-tree", "-r", "-z", "-M", "--name-status", "--no-ext-diff", "--no-textconv", first, second]
        return tuple(_changes(iter(self.repository.git(arguments).split(b"\0"))))

    def _grep(self, options: Sequence[str], excluded: Sequence[str], timeout_s: float) -> git.Output:
        return self.repository.run(
            ["grep", *options, self.commit, "--", ".", *_excluding(excluded)],
            timeout_s=timeout_s,
            most_bytes=_MOST_SEARCHED_BYTES,
        )


class FolderCheckout(Checkout):
    """A plain folder. It has no commits; a file's blob is hashed as git would."""

    def __init__(self, place: Path) -> None:
        if not place.is_dir():
            raise InputError(f"There is no folder {place}.")
        self.place, self.commit = place.resolve(), ""
        self._listing: dict[str, File | LeftOut] | None = None

    def listing(self) -> Mapping[str, File | LeftOut]:
        if self._listing is None:
            found = dict(islice(self._walk(self.place), MOST_FILES))
            rules = [
                path for path, entry in found.items() if isinstance(entry, File) and Path(path).name == ".gitignore"
            ]
            ignores = Ignores((path, self._bytes(path)) for path in rules)
            self._listing = {path: self._judged(entry, ignores) for path, entry in sorted(found.items())}
        return self._listing

    def _walk(self, folder: Path) -> Iterator[tuple[str, File | LeftOut]]:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = Path(entry.path).relative_to(self.place).as_posix()
            if entry.name == ".git":
                continue
            if entry.is_symlink():
                yield path, "link"
            elif entry.is_dir():
                if by_name(f"{path}/x", 0) is None:
                    yield from self._walk(Path(entry.path))
            elif entry.is_file():
                size = entry.stat().st_size
                yield path, by_name(path, size) or File(path=path, size_bytes=size, blob="")

    def _judged(self, entry: File | LeftOut, ignores: Ignores) -> File | LeftOut:
        if not isinstance(entry, File):
            return entry
        if ignores.names(entry.path):
            return "ignored"
        data = self._bytes(entry.path)
        blob = sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        return by_content(data) or File(path=entry.path, size_bytes=len(data), blob=blob)

    def _bytes(self, path: str) -> bytes:
        """Read a listed path; what became a link, a device or larger since it was listed is refused."""
        place = self.place / path
        if place.parent.resolve() != place.parent:
            raise PathRefusedError(path, "a folder above it is a link")
        handle = os.open(place, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            if not S_ISREG(os.fstat(handle).st_mode):
                raise PathRefusedError(path, "it is no plain file")
            return file.read(MOST_BYTES)

    def contents(self, files: Sequence[File]) -> Iterator[tuple[File, bytes]]:
        for file in files:
            try:
                yield file, self._bytes(file.path)
            except OSError as error:
                raise PathRefusedError(file.path, f"{error.strerror or error}".lower()) from error

    def history(self, path: str | None = None, *, limit: int = 100) -> tuple[Commit, ...]:
        del path, limit  # a folder has no commits
        return ()

    def changed(self, base: str, head: str | None = None) -> tuple[Change, ...]:
        raise CommitNotFoundError(str(self.place), head or base)

    def _grep(self, options: Sequence[str], excluded: Sequence[str], timeout_s: float) -> git.Output:
        return git.run(
            self.place,
            ["grep", "--no-index", *options, "--", ".", *_excluding(excluded)],
            directory=None,
            timeout_s=timeout_s,
            most_bytes=_MOST_SEARCHED_BYTES,
        )


def open_checkout(place: str | Path, commit: str = "HEAD") -> Checkout:
    """Open the repository at *place* at *commit*; a folder that is no repository opens as plain files."""
    where = Path(place).expanduser()
    if git.git_directory(where) is None:
        return FolderCheckout(where)
    return Repository(where).at(commit)


def _entry(path: str, mode: str, blob: str, size: str) -> File | LeftOut:
    if mode == "120000":
        return "link"
    if mode == "160000":
        return "submodule"
    if not size.isdecimal():  # git says BAD
        return "missing"
    return by_name(path, int(size)) or File(path=path, size_bytes=int(size), blob=blob)


def _batches(files: Sequence[File]) -> Iterator[list[File]]:
    """Cut *files* so that what a batch holds fits in memory."""
    batch: list[File] = []
    size = 0
    for file in files:
        if batch and size + file.size_bytes > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size_bytes
    if batch:
        yield batch


def _why_refused(path: str, entry: LeftOut | None, listing: Mapping[str, File | LeftOut]) -> str:
    """Why *path* is not to be read, in words that end a sentence."""
    match entry:
        case "secret":
            return "it looks like a secret, by its name or what it holds"
        case "ignored":
            return "the project's .gitignore names it"
        case "link":
            return "it is a link; read the file it leads to by that file's own path"
        case "submodule":
            return "it is another repository (a submodule)"
        case "missing":
            return "this copy of the repository lacks it; fetch the whole repository"
        case "binary" | "generated" | "too large":
            return f"it is {entry}"
        case None:
            name = path.rpartition("/")[2]
            near = [other for other in listing if other.rpartition("/")[2] == name or other.startswith(f"{path}/")]
            return "there is no such file" + (f"; there is {', '.join(near[:5])}" if name and near else "")


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def _cut(line: str) -> str:
    line = line.rstrip("\r")
    return line if len(line) <= MOST_CHARACTERS_OF_A_LINE else line[:MOST_CHARACTERS_OF_A_LINE] + "…"


def _check_pattern(pattern: str, *, regex: bool) -> None:
    if not pattern or not pattern.isprintable():
        raise PatternRefusedError(pattern, "give the characters of one line")
    if len(pattern) > _MOST_PATTERN:
        raise PatternRefusedError(pattern, f"it has {len(pattern)} characters of at most {_MOST_PATTERN}")
    if regex:
        repeats = 1
        for least, most in _REPEAT.findall(pattern):
            repeats *= max(1, int(most or least or 1))
        if repeats > _MOST_REPEATS or _BACKREFERENCE.search(pattern):
            raise PatternRefusedError(pattern, "it would take too long; leave out backreferences and large repeats")


def _hits(data: bytes, commit: str) -> Iterator[Hit]:
    """Read what `git grep -n -z` printed: `COMMIT:path NUL line NUL text`."""
    start = f"{commit}:".encode() if commit else b""
    at = 0
    while True:
        path_end = data.find(b"\0", at)
        line_end = data.find(b"\0", path_end + 1)
        end = data.find(b"\n", line_end + 1)
        if path_end < 0 or line_end < 0 or end < 0:
            return
        path = data[at:path_end].removeprefix(start).decode(errors="surrogateescape")
        line = int(data[path_end + 1 : line_end])
        yield Hit(path=path, line=line, text=_cut(data[line_end + 1 : end].decode(errors="replace")))
        at = end + 1


def _excluding(paths: Sequence[str]) -> list[str]:
    """Arguments that spare git these files, as many as a command line holds; the others' hits are dropped later."""
    arguments: list[str] = []
    left = _MOST_EXCLUDED_CHARACTERS
    for path in paths:
        left -= len(path) + 20
        if left < 0:
            break
        arguments.append(f":(exclude,literal){path}")
    return arguments


def _plain(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/") or not path or "\0" in path:
        raise PathRefusedError(path, "give a path within the repository, from its top")
    return f":(literal){path}"


def _commits(data: bytes) -> Iterator[Commit]:
    """Read what `git log -z --name-status` printed; a commit cut off at the end is left out."""
    tokens = iter(data.split(b"\0"))
    header: re.Match[bytes] | None = None
    message = b""
    changes: list[Change] = []
    for token in tokens:
        found = _HEADER.match(token.removeprefix(b"\n"))
        if found:
            if header:
                yield _commit(header, message, changes)
            header, message, changes = found, token.removeprefix(b"\n")[found.end() :], []
        elif _STATUS.fullmatch(token):
            changes.extend(_changes(iter([token, *islice(tokens, 2 if token.strip()[:1] in b"RC" else 1)])))
    if header and data.endswith(b"\0"):
        yield _commit(header, message, changes)


def _commit(header: re.Match[bytes], message: bytes, changes: Sequence[Change]) -> Commit:
    return Commit(
        id=header[1].decode(),
        date=datetime.fromtimestamp(int(header[2]), UTC),
        message=message.decode(errors="replace").strip(),
        changes=tuple(changes[:MOST_FILES_OF_A_COMMIT]),
    )


def _changes(tokens: Iterator[bytes]) -> Iterator[Change]:
    kinds: dict[bytes, Literal["added", "modified", "deleted"]] = {b"A": "added", b"D": "deleted"}
    for token in tokens:
        status = _STATUS.fullmatch(token)
        path = next(tokens, None) if status else None
        if status is None or path is None:
            continue
        if status[1] in b"RC":
            new = next(tokens, None)
            if new is None:
                return
            kind, was = ("renamed", _decoded(path)) if status[1] == b"R" else ("added", "")
            yield Change(path=_decoded(new), kind=kind, was=was)
        else:
            yield Change(path=_decoded(path), kind=kinds.get(status[1], "modified"))


def _decoded(path: bytes) -> str:
    return path.decode(errors="surrogateescape")
