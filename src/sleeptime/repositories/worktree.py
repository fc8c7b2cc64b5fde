"""A checkout with edits laid over it: what an agent may change, and the patch that comes of it.

    worktree = Worktree(checkout)
    worktree.replace("src/a.py", "old text", "new text")
    worktree.create("src/b.py", "…")
    worktree.patch()                     as `git apply` takes it

Edits are kept in memory. Neither the repository nor its work tree is written to: there is no path that leads there,
and nothing to clear away when the process is killed. Only while a patch is made or edits are searched, they stand in a
folder of their own in the place for temporary files.

What may not be read may not be written: links, submodules, `.git`, secrets, what is ignored, what lies outside. There
is no way to run anything. This file does not know any model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from sleeptime.core.errors import EditRefusedError
from sleeptime.core.leaving_out import LeftOut, by_name
from sleeptime.repositories import git
from sleeptime.repositories.checkout import (
    MOST_HITS,
    SEARCH_TIMEOUT_S,
    Change,
    Checkout,
    Commit,
    Excerpt,
    File,
    FolderCheckout,
    GitCheckout,
    Hits,
)

MOST_FILE_CHARACTERS = 500_000
MOST_EDITED_FILES = 100
MOST_CHARACTERS = 4_000_000
"""Of all edited files together."""
MOST_PATH = 240

_USUAL_MODE = "100644"


class Worktree(Checkout):
    """A checkout that can be edited. It lists and reads as it is now; `commit` is what it began with."""

    def __init__(self, base: Checkout) -> None:
        self.base, self.place, self.commit = base, base.place, base.commit
        self._edited: dict[str, str] = {}
        self._listing: Mapping[str, File | LeftOut] | None = None

    @property
    def modified(self) -> tuple[str, ...]:
        """Files of the checkout whose text is another now, in order."""
        there = self.base.listing()
        touched = [path for path in sorted(self._edited) if path in there]
        return tuple(path for path in touched if self._edited[path] != _text(self.base, path))

    @property
    def created(self) -> tuple[str, ...]:
        """New files, in order."""
        return tuple(path for path in sorted(self._edited) if path not in self.base.listing())

    def listing(self) -> Mapping[str, File | LeftOut]:
        if self._listing is None:
            entries: dict[str, File | LeftOut] = dict(self.base.listing())
            for path, text in self._edited.items():
                entries[path] = File(path=path, size_bytes=len(text.encode()), blob="")
            self._listing = dict(sorted(entries.items()))
        return self._listing

    def contents(self, files: Sequence[File]) -> Iterator[tuple[File, bytes]]:
        untouched = self.base.contents([file for file in files if file.path not in self._edited])
        for file in files:
            yield (file, self._edited[file.path].encode()) if file.path in self._edited else next(untouched)

    def history(self, path: str | None = None, *, limit: int = 100) -> tuple[Commit, ...]:
        return self.base.history(path, limit=limit)

    def changed(self, base: str, head: str | None = None) -> tuple[Change, ...]:
        return self.base.changed(base, head)

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
        """Find lines that hold *pattern* in the files as they are now."""

        def search(checkout: Checkout) -> Hits:
            return checkout.search(
                pattern, regex=regex, ignore_case=ignore_case, paths=paths, limit=limit, timeout_s=timeout_s
            )

        found = search(self.base)
        if not self._edited:
            return found
        with TemporaryDirectory(prefix="sleeptime-search-") as folder:
            for path, text in self._edited.items():
                place = Path(folder, path)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text, encoding="utf-8", newline="")
            edited = search(FolderCheckout(Path(folder)))
        untouched = [hit for hit in found.hits if hit.path not in self._edited]
        hits = sorted([*untouched, *edited.hits], key=lambda hit: (hit.path, hit.line))
        return Hits(hits=tuple(hits[:limit]), is_whole=found.is_whole and edited.is_whole and len(hits) <= limit)

    def replace(self, path: str, old: str, new: str) -> Excerpt:
        """Put *new* in the place of *old*, which stands once in the file; give the lines around.

        Line ends are those of the file. Raises EditRefusedError and PathRefusedError.
        """
        try:
            text = _text(self, path)
        except UnicodeDecodeError:
            raise EditRefusedError(path, "it is not UTF-8 text, and would not survive an edit") from None
        if "\r\n" in text:
            old, new = (each.replace("\r\n", "\n").replace("\n", "\r\n") for each in (old, new))
        if not old:
            raise EditRefusedError(path, "the text to replace is empty; `create` makes a new file")
        if old == new:
            raise EditRefusedError(path, "the new text is the old one, so nothing would change")
        if (times := text.count(old)) != 1:
            raise EditRefusedError(path, _why_not_once(text, old, times))
        self._keep(path, text.replace(old, new))
        line = text[: text.index(old)].count("\n") + 1
        return self.read(path, max(1, line - 2), line + new.count("\n") + 2)

    def create(self, path: str, text: str) -> Excerpt:
        """Make a new file. Raises EditRefusedError for a path that is taken, or leads anywhere else."""
        self._check_new(path)
        self._keep(path, text)
        return self.read(path, 1, 5)

    def patch(self) -> str:
        """Write what was changed as `git diff` does, with whole ids; empty where nothing was."""
        paths = [*self.modified, *self.created]
        if not paths:
            return ""
        before = {path: _text(self.base, path) for path in self.modified}
        modes = self._modes(list(before))
        with TemporaryDirectory(prefix="sleeptime-patch-") as folder:
            place = Path(folder)
            _git(place, ["init", "--quiet", "--template="])
            trees = [
                _tree(place, before, modes),
                _tree(place, {path: self._edited[path] for path in sorted(paths)}, modes),
            ]
            shown = ["-r", "-p", "--full-index", "--no-ext-diff", "--no-textconv", "--text"]
            return _git(place, ["diff-tree", *shown, *trees]).decode()

    def _grep(self, options: Sequence[str], excluded: Sequence[str], timeout_s: float) -> git.Output:
        return self.base._grep(options, excluded, timeout_s)  # noqa: SLF001  # a checkout of ours, behind this one

    def _check_new(self, path: str) -> None:
        parts = path.split("/")
        if not path.isprintable() or "\\" in path or len(path) > MOST_PATH:
            raise EditRefusedError(path, "a path is printable, with `/` between folders, and not overlong")
        if path.startswith("/") or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
            raise EditRefusedError(path, "a path leads from the top of the repository down, without `.` and `..`")
        if any(part.casefold().rstrip(" .") in (".git", "git~1") for part in parts):
            raise EditRefusedError(path, "git's own folder is not yours to write")
        listing = self.listing()
        if path in listing:
            raise EditRefusedError(path, "it exists already; `edit` changes it")
        above = [str(folder) for folder in PurePosixPath(path).parents]
        if taken := next((folder for folder in above if folder in listing), None):
            raise EditRefusedError(path, f"{taken} is no folder")
        if any(other.startswith(f"{path}/") for other in listing):
            raise EditRefusedError(path, "it is a folder")
        if why := by_name(path, 0):
            raise EditRefusedError(path, f"files of this name are left out ({why})")

    def _keep(self, path: str, text: str) -> None:
        if "\0" in text or not _is_writable(text):
            raise EditRefusedError(path, "the text holds what no text file can")
        if len(text) > MOST_FILE_CHARACTERS:
            raise EditRefusedError(path, f"it would have {len(text):,} characters of at most {MOST_FILE_CHARACTERS:,}")
        if len(self._edited.keys() | {path}) > MOST_EDITED_FILES:
            raise EditRefusedError(path, f"{MOST_EDITED_FILES} files are edited already, and that is the most")
        others = sum(len(kept) for name, kept in self._edited.items() if name != path)
        if others + len(text) > MOST_CHARACTERS:
            raise EditRefusedError(path, f"all edited files would have more than {MOST_CHARACTERS:,} characters")
        self._edited[path] = text
        self._listing = None

    def _modes(self, paths: Sequence[str]) -> dict[str, str]:
        """The modes that files have in the commit, so that a patch does not change them."""
        if not isinstance(self.base, GitCheckout) or not paths:
            return {}
        told = self.base.repository.git(["ls-tree", "-z", self.commit, "--", *paths])
        entries = (entry.partition(b"\t") for entry in told.split(b"\0") if entry)
        return {path.decode(errors="surrogateescape"): meta.split()[0].decode() for meta, _, path in entries}


def _text(checkout: Checkout, path: str) -> str:
    """The text of a file, byte for byte. Raises PathRefusedError and UnicodeDecodeError."""
    ((_, data),) = checkout.contents([checkout.file(path)])
    return data.decode()


def _git(place: Path, arguments: Sequence[str], *, given: bytes = b"") -> bytes:
    """Run git on the repository of our own at *place*."""
    return git.checked(place, arguments, directory=place / ".git", given=given)


def _tree(place: Path, texts: Mapping[str, str], modes: Mapping[str, str]) -> str:
    """Make a tree of *texts* in the repository at *place*; give its id."""
    (place / ".git/index").unlink(missing_ok=True)
    lines: list[str] = []
    for path, text in texts.items():
        blob = _git(place, ["hash-object", "-w", "--stdin"], given=text.encode()).decode().strip()
        lines.append(f"{modes.get(path, _USUAL_MODE)} {blob}\t{path}\0")
    _git(place, ["update-index", "-z", "--add", "--index-info"], given="".join(lines).encode())
    return _git(place, ["write-tree"]).decode().strip()


def _why_not_once(text: str, old: str, times: int) -> str:
    if times > 1:
        return f"the text to replace stands {times} times in it; give more of the lines around"
    first = next((line.strip() for line in old.splitlines() if line.strip()), "")
    near = [number for number, line in enumerate(text.splitlines(), 1) if first and first in line][:3]
    where = f"; its first line stands in line {', '.join(map(str, near))}" if near else ""
    return f"the text to replace does not stand in it exactly, white space included{where}"


def _is_writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
