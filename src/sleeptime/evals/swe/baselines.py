"""What one gets without a model on each target: files often changed, named, ranked, or changed by siblings.

    measure(targets, repository) → a Baseline for each target and each way

Each sees what an agent may see: the commit before the pull request, its history, the task's words, the siblings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sleeptime.evals.swe.experiment import Baseline
from sleeptime.evals.swe.pull_requests import Target
from sleeptime.evals.swe.scoring import most_changed, named_in, score, usual_number
from sleeptime.repositories.checkout import Checkout, Repository
from sleeptime.repositories.index import Indexer
from sleeptime.repositories.localise import Localiser

HISTORY = 1000
"""How many commits back "often" looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What may be seen of a target before it is made. `indexer` keeps what it parsed for the next target."""

    target: Target
    checkout: Checkout
    files: tuple[str, ...]
    indexer: Indexer

    @property
    def number(self) -> int:
        """How many files to name."""
        return usual_number(self.target.siblings)


def often_changed(seen: Seen) -> Sequence[str]:
    """Name the files that most commits before changed."""
    changes = [commit.paths for commit in seen.checkout.history(limit=HISTORY)]
    return most_changed(changes, seen.files, seen.number)


def named_in_text(seen: Seen) -> Sequence[str]:
    """Name the files that the task's words name."""
    return named_in(seen.target.request.words, seen.files)


def named_or_often(seen: Seen) -> Sequence[str]:
    """Name the files in the text, and fill up with those often changed."""
    named = list(named_in_text(seen))
    often = [path for path in often_changed(seen) if path not in named]
    return [*named, *often[: max(0, seen.number - len(named))]]


def changed_by_siblings(seen: Seen) -> Sequence[str]:
    """Name the files that most siblings modified."""
    return most_changed([sibling.modified for sibling in seen.target.siblings], seen.files, seen.number)


def localised(seen: Seen) -> Sequence[str]:
    """Name the files that the index and the history rank first for the task's words."""
    ranked = Localiser(seen.indexer.index(seen.checkout)).rank(seen.target.request.words, limit=seen.number)
    return [each.path for each in ranked]


WAYS: dict[str, Callable[[Seen], Sequence[str]]] = {
    "files changed most often": often_changed,
    "files named in the text": named_in_text,
    "named, then changed most often": named_or_often,
    "files ranked by index and history": localised,
    "files siblings modified": changed_by_siblings,
}


def measure(
    targets: Sequence[Target], repository: Repository, *, on_target: Callable[[], None] = lambda: None
) -> list[Baseline]:
    """Score every way on every target."""
    found: list[Baseline] = []
    indexer = Indexer()
    for target in targets:
        checkout = repository.at(target.request.base)
        files = tuple(file.path for file in checkout.files())
        seen = Seen(target=target, checkout=checkout, files=files, indexer=indexer)
        for name, way in WAYS.items():
            named = tuple(way(seen))
            found.append(
                Baseline(
                    name=name,
                    target=target.request.number,
                    named=named,
                    score=score(named, target.request.modified),
                )
            )
        on_target()
    return found
