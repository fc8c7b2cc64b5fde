"""How well a set of files matches those a pull request modified, and what one gets without a model.

    precision = right / named      recall = right / modified      F1 = 2·right / (named + modified)

Baselines: a set of files is easy to come near. The files that change most often, and those the text names, are right
surprisingly often; a model is worth its tokens above them. Whoever names files by rank is told how many to name:
as many as earlier pull requests modified in the median, never as many as this one did.

Pure. This file knows nothing about models or repositories.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from sleeptime.evals.swe.pull_requests import PullRequest

_NAME = re.compile(r"[\w./-]*\w")
USUAL_FILES = 4
"""How many files to name where no pull request came before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How a set of files compares with those that were modified. Naming none is precise and finds nothing."""

    precision: float
    recall: float
    f1: float


def score(named: Collection[str], modified: Collection[str]) -> Score:
    """Compare the files *named* with those *modified*, of which there is at least one."""
    right = len(set(named) & set(modified))
    return Score(
        precision=right / len(set(named)) if named else 0.0,
        recall=right / len(set(modified)),
        f1=2 * right / (len(set(named)) + len(set(modified))),
    )


def usual_number(earlier: Iterable[PullRequest]) -> int:
    """How many files a pull request modifies, by those before it."""
    numbers = [len(request.modified) for request in earlier if request.modified]
    return round(median(numbers)) if numbers else USUAL_FILES


def most_changed(changed: Iterable[Collection[str]], files: Collection[str], number: int) -> list[str]:
    """The *number* of *files* that stand in most of the changes before."""
    counts = Counter(path for each in changed for path in each if path in files)
    return [path for path, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:number]]


def named_in(text: str, files: Sequence[str]) -> list[str]:
    """The *files* that *text* names: by a path's end, or by a file name that only one file has."""
    by_name: dict[str, list[str]] = {}
    for path in files:
        by_name.setdefault(path.rpartition("/")[2], []).append(path)
    found: dict[str, None] = {}
    for written in _NAME.findall(text):
        word = written.removeprefix("./").strip("/")
        candidates = by_name.get(word.rpartition("/")[2], [])
        near = [path for path in candidates if path == word or path.endswith(f"/{word}")]
        if "." in word and len(near) == 1:
            found[near[0]] = None
    return list(found)
