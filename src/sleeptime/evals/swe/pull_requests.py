"""Pull requests as samples: from a git history, or from lists of them; who is whose sibling.

    merged(repository)              merges "Merge pull request #N" and squashes "… (#N)"
    read(file, repository)          lists of pull requests that were made elsewhere
    strict(…) · literal(…)          the dataset: targets with their siblings; `write` and `load` keep it

A pull request's base is the commit before it was merged, and its files are what the merge changed. Its text is
the title and the messages of its commits, because descriptions are kept on servers and not in git.

Siblings. The paper groups pull requests by their topic and lets a target's siblings come from its future.
    strict    earlier pull requests only, those whose words are nearest to the target's; a target without any is dropped
    literal   the given groups, else the pull requests that share most files with the target, whenever they were
              merged. That tells what the target changes: it is kept for comparison, and says so
Strict siblings are chosen by the target's text and never by its files.

This file asks no model, and does not know what an answer is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from sleeptime.core.errors import InputError
from sleeptime.core.words import bm25, words
from sleeptime.repositories.checkout import Repository

Choice = Literal["strict", "literal"]
Status = Literal["modified", "added", "removed", "renamed"]

CODE: tuple[str, ...] = (
    ".c", ".cc", ".cpp", ".cs", ".go", ".h", ".hpp", ".java", ".js", ".jsx", ".kt", ".mjs", ".php", ".py", ".rb", ".rs",
    ".scala", ".swift", ".ts", ".tsx",
)  # fmt: skip
PAPERS_CODE: tuple[str, ...] = (".py", ".js")
FEWEST_CODE_FILES = 3
MOST_SIBLINGS = 5
"""The largest group of the paper has six pull requests, so that a target has five siblings at most."""
MOST_TEXT = 2_000
"""Characters of a pull request's text that are kept: messages of a long branch tell the change file by file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """A file of a row."""

    filename: str
    status: Literal["modified", "changed", "added", "new", "copied", "removed", "deleted", "renamed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A row of a list of pull requests, as its makers wrote it."""

    pr_number: int
    base_commit: str = ""
    head_commit: str = ""
    changed_files: tuple[ListedFile, ...] = ()
    cluster: str = ""


_LISTED: TypeAdapter[list[Listed]] = TypeAdapter(list[Listed])
_STATUS_OF: dict[str, Status] = {
    "modified": "modified", "changed": "modified", "added": "added", "new": "added", "copied": "added",
    "removed": "removed", "deleted": "removed", "renamed": "renamed",
}  # fmt: skip
_STATUS: dict[str, Status] = {"M": "modified", "T": "modified", "A": "added", "D": "removed", "R": "renamed"}
_MERGE = re.compile(r"Merge pull request #(\d+)\b")
_SQUASH = re.compile(r"(.+?)\s*\(#(\d+)\)\s*\Z")
_FIELD, _RECORD = "\x1f", "\x1e"


class PullRequestsError(InputError):
    """A list of pull requests cannot be read, or does not fit the repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A file that a pull request changed. A renamed file has its new name."""

    path: str
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """A change somebody asked for. `base` is the commit it was made to, `head` one that has it.

    `based_at` and `merged_at` are when these were committed. `group` is its topic, where one was given.
    """

    number: int
    title: str
    text: str
    base: str
    head: str
    based_at: datetime
    merged_at: datetime
    changed: tuple[Changed, ...]
    group: str = ""

    @property
    def modified(self) -> frozenset[str]:
        """What an answer is scored against: files that were there before and were changed."""
        return frozenset(each.path for each in self.changed if each.status == "modified")

    @property
    def words(self) -> str:
        """Title and text, as a task states them."""
        return f"{self.title}\n\n{self.text}".strip()

    def code_files(self, suffixes: Sequence[str]) -> int:
        return sum(each.path.endswith(tuple(suffixes)) for each in self.changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A sample: the pull request to make, and its siblings, which may be read before or while it is made."""

    request: PullRequest
    siblings: tuple[PullRequest, ...]
    choice: Choice


_TARGET: TypeAdapter[Target] = TypeAdapter(Target)


def merged(repository: Repository, *, tip: str = "HEAD") -> list[PullRequest]:
    """Find the pull requests merged into *tip* of *repository*, oldest first.

    Where a number stands twice, as after work in a fork, the later one counts.
    """
    form = f"--format={_RECORD}%H{_FIELD}%P{_FIELD}%ct{_FIELD}%B"
    told = repository.git(["log", "--topo-order", "--reverse", form, tip, "--"]).decode(errors="replace")
    found: dict[int, PullRequest] = {}
    for record in told.split(_RECORD)[1:]:
        head, parents, seconds, message = record.split(_FIELD, 3)
        named = _named(message)
        if named is None or not parents:
            continue
        number, title, text = named
        base, *branch = parents.split()
        if branch:
            text = f"{text}\n\n{_messages(repository, base, branch[0])}"
        found[number] = PullRequest(
            number=number,
            title=title,
            text=text.strip()[:MOST_TEXT],
            base=base,
            head=head,
            based_at=_committed_at(repository, base),
            merged_at=datetime.fromtimestamp(int(seconds), UTC),
            changed=changes(repository, base, head),
        )
    return _in_order(found.values())


def read(file: Path, repository: Repository) -> tuple[list[PullRequest], int]:
    """Read a JSON list of pull requests of *repository*, oldest first.

    Each has `pr_number`, `base_commit`, `head_commit`, `changed_files` (`filename` and `status`), and perhaps a
    `cluster`. Says as well how many were left out because their commits are not there. Raises PullRequestsError.
    """
    try:
        rows = _LISTED.validate_json(file.read_bytes())
    except OSError as error:
        raise PullRequestsError(f"{file} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise PullRequestsError(f"{file} is no JSON list of pull requests: {where}: {first['msg']}.") from error
    found: list[PullRequest] = []
    for row in rows:
        if not (row.base_commit and row.head_commit and _has(repository, row.base_commit, row.head_commit)):
            continue
        title, _, text = _messages(repository, row.base_commit, row.head_commit).partition("\n")
        found.append(
            PullRequest(
                number=row.pr_number,
                title=title.strip() or f"Pull request {row.pr_number}",
                text=text.strip()[:MOST_TEXT],
                base=row.base_commit,
                head=row.head_commit,
                based_at=_committed_at(repository, row.base_commit),
                merged_at=_committed_at(repository, row.head_commit),
                changed=tuple(
                    Changed(path=each.filename, status=_STATUS_OF[each.status]) for each in row.changed_files
                ),
                group=row.cluster,
            )
        )
    return _in_order(found), len(rows) - len(found)


def strict(requests: Sequence[PullRequest], *, code: Sequence[str] = CODE) -> list[Target]:
    """Make the dataset without a look at the future. *requests* are in the order they were merged in."""
    targets: list[Target] = []
    seen = _Shelf()
    waiting = list(requests)
    for request in sorted(requests, key=lambda each: each.based_at):
        while waiting and waiting[0].merged_at <= request.based_at:
            seen.add(waiting.pop(0))
        if not _is_target(request, code):
            continue
        siblings = seen.nearest(request)
        if siblings:
            targets.append(Target(request=request, siblings=siblings, choice="strict"))
    return targets


def literal(requests: Sequence[PullRequest], *, code: Sequence[str] = PAPERS_CODE) -> list[Target]:
    """Make the dataset as the paper did: siblings from any time, and targets without one are kept."""
    wanted = [request for request in requests if _is_target(request, code)]
    return [
        Target(request=request, siblings=_group(request, requests if not request.group else wanted), choice="literal")
        for request in wanted
    ]


def write(targets: Sequence[Target], file: Path) -> None:
    """Write a dataset, a target a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{_TARGET.dump_json(target).decode()}\n" for target in targets), encoding="utf-8")


def load(file: Path) -> list[Target]:
    """Read what `write` wrote. Raises PullRequestsError."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PullRequestsError(f"{file} cannot be read: {error}.") from error
    targets: list[Target] = []
    for number, line in enumerate(lines, 1):
        try:
            targets.append(_TARGET.validate_json(line))
        except ValidationError as error:
            told = error.errors()[0]["msg"]
            raise PullRequestsError(
                f"{file}, line {number}, is no target: {told}. Make the file with `sleeptime eval make-swe-features`."
            ) from error
    if not targets:
        raise PullRequestsError(f"{file} has no targets.")
    return targets


def changes(repository: Repository, base: str, head: str) -> tuple[Changed, ...]:
    """What differs between two commits; a file that was moved and changed is renamed."""
    told = repository.git(["diff-tree", "-r", "-z", "-M", "--name-status", base, head, "--"])
    words = told.decode(errors="replace").split("\0")[:-1]
    found: list[Changed] = []
    while words:
        status = _STATUS.get(words.pop(0)[:1], "modified")
        path = words.pop(0)
        if status == "renamed":
            path = words.pop(0)
        found.append(Changed(path=path, status=status))
    return tuple(found)


class _Shelf:
    """Pull requests merged so far, to find those whose words are nearest to another's."""

    def __init__(self) -> None:
        self._requests: list[PullRequest] = []
        self._words: list[Counter[str]] = []

    def add(self, request: PullRequest) -> None:
        self._requests.append(request)
        self._words.append(words(request.words))

    def nearest(self, target: PullRequest) -> tuple[PullRequest, ...]:
        """The nearest first; all of the target's own group, where it has one."""
        scores = bm25(dict.fromkeys(words(target.words), 1.0), self._words)
        ranked = [
            (-score, -at)
            for at, (request, score) in enumerate(zip(self._requests, scores, strict=True))
            if (score > 0 or target.group) and request.number != target.number and request.group == target.group
        ]
        return tuple(self._requests[-at] for _, at in sorted(ranked)[:MOST_SIBLINGS])


def _group(target: PullRequest, requests: Sequence[PullRequest]) -> tuple[PullRequest, ...]:
    """The others of the target's group, else those that share most files with it."""
    others = [request for request in requests if request.number != target.number]
    if target.group:
        return tuple(request for request in others if request.group == target.group)
    own = {each.path for each in target.changed}
    shared = {
        request.number: len(own & paths) / len(own | paths)
        for request in others
        if own & (paths := {each.path for each in request.changed})
    }
    near = [request for request in others if request.number in shared]
    return tuple(sorted(near, key=lambda request: -shared[request.number])[:MOST_SIBLINGS])


def _in_order(requests: Iterable[PullRequest]) -> list[PullRequest]:
    return sorted(requests, key=lambda request: (request.merged_at, request.number))


def _is_target(request: PullRequest, code: Sequence[str]) -> bool:
    return bool(request.modified) and request.code_files(code) >= FEWEST_CODE_FILES


def _named(message: str) -> tuple[int, str, str] | None:
    """The number, title and text of a pull request from the message of its merge, or None if it is none."""
    subject, _, rest = message.strip().partition("\n")
    if merge := _MERGE.match(subject):
        title, _, text = rest.strip().partition("\n")
        return int(merge[1]), title.strip() or subject, text.strip()
    if squash := _SQUASH.match(subject):
        return int(squash[2]), squash[1], rest.strip()
    return None


def _messages(repository: Repository, base: str, head: str) -> str:
    """The messages of the commits that lead from *base* to *head*, oldest first."""
    told = repository.git(["log", "--no-merges", "--reverse", "--format=%s%n%n%b%n", f"{base}..{head}", "--"]).decode(
        errors="replace"
    )
    return re.sub(r"\n{3,}", "\n\n", told).strip()


def _committed_at(repository: Repository, commit: str) -> datetime:
    seconds = repository.git(["log", "-1", "--format=%ct", commit, "--"]).decode()
    return datetime.fromtimestamp(int(seconds), UTC)


def _has(repository: Repository, *commits: str) -> bool:
    asked = "".join(f"{commit}^{{commit}}\n" for commit in commits).encode()
    told = repository.git(["cat-file", "--batch-check"], given=asked).decode(errors="replace")
    return "missing" not in told
