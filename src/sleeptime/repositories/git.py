"""Run the git program on a repository that is not trusted, within limits of time and size.

Nothing a repository's own configuration names is started: no hook, pager, filter, external diff, text conversion,
signature check, file-system monitor or transport. Neither the user's nor the system's configuration is read, nor any
variable `GIT_*`. Objects that a partial clone lacks are not fetched. The git directory and the work tree are named
outright, so no folder above them is looked at, and `core.worktree` leads nowhere.

This file does not know what a context is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer

from sleeptime.core.errors import GitFailedError, GitNotFoundError

TIMEOUT_S = 60.0
MOST_OUTPUT_BYTES = 64_000_000

_SAFE = (
    "--no-pager",
    "--no-replace-objects",
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "core.attributesFile=/dev/null",
    "-c", "core.quotePath=false",
    "-c", "protocol.allow=never",
    "-c", "protocol.ext.allow=never",
    "-c", "protocol.file.allow=never",
    "-c", "log.showSignature=false",
    "-c", "log.mailmap=false",
    "-c", "diff.external=",
    "-c", "diff.renameLimit=400",
    "-c", "grep.fallbackToNoIndex=false",
    "-c", "grep.threads=1",
    "-c", "submodule.recurse=false",
    "-c", "gc.auto=0",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What git printed, and whether all of it: false where the limit of size or time cut it off."""

    data: bytes
    is_whole: bool
    returncode: int
    message: str = ""


def git_directory(place: Path) -> Path | None:
    """The git directory of *place* if it is the top of a work tree or a bare repository, else None."""
    inside = place / ".git"
    if inside.exists():
        return inside
    is_bare = (place / "HEAD").is_file() and (place / "objects").is_dir() and (place / "refs").is_dir()
    return place if is_bare else None


def run(
    folder: Path,
    arguments: Sequence[str],
    *,
    directory: Path | None,
    given: bytes = b"",
    timeout_s: float = TIMEOUT_S,
    most_bytes: int = MOST_OUTPUT_BYTES,
) -> Output:
    """Run git with *arguments* in *folder*, the top of the work tree of the git *directory*.

    *given* is its standard input. Ends git once it printed *most_bytes* or took *timeout_s*. Raises GitNotFoundError;
    a failure of git is in `Output.returncode`. Without a *directory* git works on *folder* as on plain files.
    """
    program = shutil.which("git")
    if program is None:
        raise GitNotFoundError
    where = [] if directory is None else [f"--git-dir={directory.absolute()}", f"--work-tree={folder.absolute()}"]
    with TemporaryFile() as asked, TemporaryFile() as told:
        asked.write(given)
        asked.seek(0)
        with subprocess.Popen(  # noqa: S603  # git itself, options fixed above, no shell
            [program, *_SAFE, *where, *arguments],
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=told,
            env=_environment(folder),
            cwd=folder,
        ) as process:
            assert process.stdout is not None
            timer = Timer(timeout_s, process.kill)
            timer.daemon = True
            timer.start()
            data = b""
            try:
                data = process.stdout.read(most_bytes + 1)
            finally:
                is_in_time = timer.is_alive()
                timer.cancel()
                if len(data) > most_bytes:
                    process.kill()
        told.seek(0)
        message = told.read(2000).decode(errors="replace").strip()
    is_whole = is_in_time and len(data) <= most_bytes
    return Output(data=data[:most_bytes], is_whole=is_whole, returncode=process.returncode, message=message)


def checked(folder: Path, arguments: Sequence[str], *, directory: Path, given: bytes = b"") -> bytes:
    """Run git and give what it printed; raise GitFailedError unless it succeeded and printed all."""
    output = run(folder, arguments, directory=directory, given=given)
    if not output.is_whole:
        raise GitFailedError(arguments[0], f"it ran past {TIMEOUT_S:.0f} s or {MOST_OUTPUT_BYTES / 1e6:.0f} MB")
    if output.returncode != 0:
        raise GitFailedError(arguments[0], output.message)
    return output.data


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP") if name in os.environ}
    return {
        **kept,
        "GIT_CEILING_DIRECTORIES": str(folder.resolve().parent),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_PAGER": "cat",
    }
