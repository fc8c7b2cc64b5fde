"""Write the index of a repository as the text of a context, so that a commit changes only what it touched.

    telling.told(index, name)    one block per file, `=== path`, then blocks of the history

A block says nothing that changes elsewhere: no counts of the whole, no order by rank, no importers. What changes with a
file is a share of its own commits, which stays until the file changes again (see `history`). So the sections of a
context are new where a commit changed a file and in the month of the history it belongs to; notes that rest on the
others stand, and a sleep after a commit is shown those alone.

The files' own lines are not part of the text: whoever needs them reads the repository.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from sleeptime.repositories.checkout import Checkout, Commit
from sleeptime.repositories.index import Index, Indexed
from sleeptime.repositories.parsing import Symbol

MOST_TOLD_SYMBOLS = 40
MOST_MEMBERS = 30
MOST_IMPORTED = 12
RECENT_COMMITS = 100
MOST_PATHS_OF_A_COMMIT = 5
MOST_DOC_BYTES = 400_000

_DOC_NAMES = ("readme", "contributing", "architecture", "design", "hacking", "agents", "claude")


def told(index: Index, name: str) -> str:
    """The text of a context about the repository *name*."""
    head = f"# The repository {name}\n\nIts files and its history. Numbers behind names are lines."
    blocks = [head, *(_file(index, path) for path in index.files), *_months(index.history.commits)]
    return "\n\n".join(blocks) + "\n"


def documents(checkout: Checkout) -> tuple[str, ...]:
    """The texts in which a repository explains itself to its readers: README, docs and the like."""
    found = [
        file
        for file in checkout.files()
        if file.path.lower().endswith((".md", ".rst", ".txt", ".adoc")) and _is_document(file.path.lower())
    ]
    kept: list[str] = []
    left = MOST_DOC_BYTES
    for file, data in checkout.contents(sorted(found, key=lambda file: (file.path.count("/"), file.path))):
        left -= file.size_bytes
        if left < 0:
            break
        kept.append(data.decode(errors="replace"))
    return tuple(kept)


def _is_document(path: str) -> bool:
    *folders, name = path.split("/")
    return name.startswith(_DOC_NAMES) or bool({"doc", "docs", "documentation"}.intersection(folders))


def _file(index: Index, path: str) -> str:
    entry = index.files[path]
    lines = [f"=== {_line(path)}", _about(entry)]
    lines += _symbols(entry.parsed.symbols)
    imported = index.imports(path)
    if imported:
        more = f" and {len(imported) - MOST_IMPORTED} more" if len(imported) > MOST_IMPORTED else ""
        lines.append(f"imports {', '.join(map(_line, imported[:MOST_IMPORTED]))}{more}")
    tests = index.tests(path)
    if tests:
        lines.append(f"tested by {', '.join(map(_line, tests))}")
    companions = index.history.companions(path)
    if companions:
        shares = ", ".join(f"{_line(other.path)} ({round(other.share * 10) * 10} %)" for other in companions)
        lines.append(f"changes together with {shares}")
    return "\n".join(lines)


def _about(entry: Indexed) -> str:
    parsed = entry.parsed
    size = f"{parsed.lines:,} lines" if parsed.is_code else f"{_rounded(parsed.lines):,} lines or so"
    return f"{parsed.language or 'other'}, {size}" + (f": {_line(parsed.purpose)}" if parsed.purpose else "")


def _rounded(lines: int) -> int:
    """To one digit, so that a line more in a long list is no news."""
    step = 10 ** max(0, len(str(lines)) - 1)
    return round(lines / step) * step


def _symbols(symbols: Iterable[Symbol]) -> Iterator[str]:
    """A line for each symbol at the top of a file, its members behind it."""
    members: dict[str, list[Symbol]] = {}
    tops: list[Symbol] = []
    for symbol in symbols:
        if symbol.parent:
            members.setdefault(symbol.parent, []).append(symbol)
        else:
            tops.append(symbol)
    for top in tops[:MOST_TOLD_SYMBOLS]:
        inside = members.pop(top.name, [])
        behind = ", ".join(f"{_line(member.name)} {member.first}" for member in inside[:MOST_MEMBERS])
        more = f", {len(inside) - MOST_MEMBERS} more" if len(inside) > MOST_MEMBERS else ""
        yield f"{top.kind} {_line(top.name)} {top.first}-{top.last}" + (f": {behind}{more}" if behind else "")
    if len(tops) > MOST_TOLD_SYMBOLS:
        names = ", ".join(_line(top.name) for top in tops[MOST_TOLD_SYMBOLS : 3 * MOST_TOLD_SYMBOLS])
        yield f"also {names}"


def _months(commits: Iterable[Commit]) -> Iterator[str]:
    """The last commits by months, each whole, so that a commit touches the month it belongs to."""
    written = 0
    for month, group in groupby(commits, key=lambda commit: f"{commit.date:%Y-%m}"):
        if written >= RECENT_COMMITS:
            return
        lines = [f"=== history of {month}"]
        for commit in group:
            paths = ", ".join(map(_line, commit.paths[:MOST_PATHS_OF_A_COMMIT]))
            more = " and more" if len(commit.paths) > MOST_PATHS_OF_A_COMMIT else ""
            lines.append(f"{commit.id[:10]} {_line(commit.title)[:200]} ({paths}{more})")
            written += 1
        yield "\n".join(lines[: 1 + 2 * RECENT_COMMITS])


def _line(text: str) -> str:
    """*text* on one line and as UTF-8, so that no name or title opens a section of its own."""
    whole = text.encode(errors="surrogateescape").decode(errors="replace")
    return "".join(letter if letter.isprintable() else " " for letter in whole).strip()
