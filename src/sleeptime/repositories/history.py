"""What the history of a repository tells of its files: how often and how lately they changed, what changes together.

    weight(commit)           2^(−age / HALF_LIFE)        age in commits, 0 for the newest
    together(f, g)           Σ weight of commits with both / Σ weight of commits with f

A commit that touches many files says little of each pair, and one beyond `MOST_TOGETHER` nothing. A renamed file keeps
its past. The weights of all commits shrink alike as history goes on, so `together(f, g)` stays as it is until f changes
again: what a text says of a file's companions goes stale only with the file.

This file knows neither the content of files nor a query.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sleeptime.repositories.checkout import Commit

HALF_LIFE = 400
MOST_TOGETHER = 30
LEAST_TOGETHER = 2
"""So many commits must have touched two files before they are called companions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """A file that changes with another: in `share` of the other's weighted commits, `times` in all."""

    path: str
    share: float
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A commit with its files under the names they have now, and its age."""

    commit: Commit
    age: int
    paths: tuple[str, ...]


class History:
    """The commits behind a tree, newest first, as far as they touch what is there now (*present*)."""

    def __init__(self, commits: Sequence[Commit], present: Iterable[str]) -> None:
        there = frozenset(present)
        self.commits = tuple(commits)
        self.past = tuple(_followed(commits, there))
        self.weights: dict[str, float] = defaultdict(float)
        self.counts: Counter[str] = Counter()
        self._weights_together: dict[str, dict[str, float]] = {}
        self._counts_together: dict[str, Counter[str]] = {}
        for past in self.past:
            weight = 0.5 ** (past.age / HALF_LIFE)
            for path in past.paths:
                self.weights[path] += weight
                self.counts[path] += 1
            if len(past.paths) <= MOST_TOGETHER:
                self._add_together(past.paths, weight)

    def _add_together(self, paths: Sequence[str], weight: float) -> None:
        for one in paths:
            weights = self._weights_together.setdefault(one, {})
            counts = self._counts_together.setdefault(one, Counter())
            for other in paths:
                if other != one:
                    weights[other] = weights.get(other, 0.0) + weight
                    counts[other] += 1

    def together(self, path: str) -> dict[str, float]:
        """For each file that changed with *path*, in which share of the weighted commits of *path*."""
        own = self.weights.get(path, 0.0)
        return {other: weight / own for other, weight in self._weights_together.get(path, {}).items()} if own else {}

    def companions(self, path: str, *, least_share: float = 0.2, most: int = 4) -> tuple[Companion, ...]:
        """What changes with *path* often enough to be told, the closest first."""
        counts = self._counts_together.get(path, Counter())
        close = [
            Companion(path=other, share=share, times=counts[other])
            for other, share in self.together(path).items()
            if share >= least_share and counts[other] >= LEAST_TOGETHER
        ]
        return tuple(sorted(close, key=lambda companion: (-companion.share, companion.path))[:most])

    def most_changed(self, most: int = 20) -> tuple[str, ...]:
        """The files that changed most, the later commits counting more."""
        return tuple(sorted(self.weights, key=lambda path: (-self.weights[path], path))[:most])


def _followed(commits: Sequence[Commit], present: frozenset[str]) -> Iterable[Past]:
    """Each commit's files that are *present*, found through renames, newest commit first."""
    names: dict[str, str] = {}
    for age, commit in enumerate(commits):
        paths = dict.fromkeys(names.get(change.path, change.path) for change in commit.changes)
        yield Past(commit=commit, age=age, paths=tuple(path for path in paths if path in present))
        for change in commit.changes:
            if change.kind == "renamed":
                names[change.was] = names.get(change.path, change.path)
