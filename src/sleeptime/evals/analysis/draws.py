"""What k of several draws reach: at best (pass@k), and by a majority vote (majority@k).

    pass@k     = 1 − C(n − c, k) / C(n, k)      n draws, c of them right: unbiased (arXiv 2107.03374)
    majority@k = Σ over the k-subsets of the n draws of the right answer's share of the top votes / C(n, k)

Both are exact. Answers that tie for the most votes share the win. A draw that gave no readable
answer votes for nothing. This file knows nothing about runs, models or intervals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np

from sleeptime.evals.analysis.stats import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """The draws of one query: how many were right, how many gave each wrong answer (sorted), how many gave none."""

    right: int
    wrong: tuple[int, ...] = ()
    unread: int = 0

    @property
    def drawn(self) -> int:
        return self.right + sum(self.wrong) + self.unread


def count(draws: Sequence[tuple[bool, str | None]]) -> Votes:
    """Count draws, each whether it was right and what it answered. Right ones agree, however they are spelled."""
    wrong = Counter(answer for is_right, answer in draws if not is_right and answer is not None)
    return Votes(
        right=sum(is_right for is_right, _ in draws),
        wrong=tuple(sorted(wrong.values())),
        unread=sum(answer is None and not is_right for is_right, answer in draws),
    )


def pass_at(votes: Votes) -> list[float]:
    """Chance that at least one of k draws is right, for k = 1 to as many as were drawn."""
    n, c = votes.drawn, votes.right
    return [1 - comb(n - c, k) / comb(n, k) for k in range(1, n + 1)]


@lru_cache(maxsize=4096)
def majority_at(votes: Votes) -> tuple[float, ...]:
    """Chance that the most frequent answer of k draws is right, for k = 1 to as many as were drawn.

    Subsets in which the right answer has x votes and no wrong one more are counted by how many draws they take and
    how many wrong answers tie with it; of each such subset it wins 1 / (1 + ties).
    """
    n = votes.drawn
    won: Array = np.zeros(n + 1)
    for x in range(1, votes.right + 1):
        ways = np.zeros((n + 1, n // x + 1))  # by draws taken and by ties
        ways[x, 0] = comb(votes.right, x)
        for votes_for_it in votes.wrong:
            ways = _taken(ways, votes_for_it, most=x - 1) + _tied(ways, votes_for_it, at=x)
        ways = _taken(ways, votes.unread, most=votes.unread)
        won += ways @ np.array([1 / (1 + ties) for ties in range(ways.shape[1])])
    return tuple(float(won[k] / comb(n, k)) for k in range(1, n + 1))


def _taken(ways: Array, available: int, *, most: int) -> Array:
    """Ways when 0 to *most* of the *available* draws of one answer are taken too."""
    more = np.zeros_like(ways)
    for taken in range(min(available, most) + 1):
        more[taken:] += comb(available, taken) * ways[: len(ways) - taken]
    return more


def _tied(ways: Array, available: int, *, at: int) -> Array:
    """Ways when just *at* of the *available* draws of one answer are taken too, which makes one tie more."""
    more = np.zeros_like(ways)
    if available >= at:
        more[at:, 1:] += comb(available, at) * ways[: len(ways) - at, :-1]
    return more
