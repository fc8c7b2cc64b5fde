"""What one gets without a model on each target: files often changed, named in the text, or changed by siblings.

    measure(targets, repository) → a Baseline for each target and each way

Each sees what an agent may see: the commit before the pull request, its history, the task's words, the siblings.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from sleeptime.evals.swe.experiment import Baseline
from sleeptime.evals.swe.pull_requests import Target
from sleeptime.evals.swe.scoring import most_changed, named_in, score, usual_number
from sleeptime.repositories.checkout import Checkout, Repository

HISTORY = 1000
"""How many commits back "often" looks."""


def often_changed(target: Target, checkout: Checkout, files: Sequence[str]) -> Collection[str]:
    """Name the files that most commits before changed."""
    changes = [commit.paths for commit in checkout.history(limit=HISTORY)]
    return most_changed(changes, files, usual_number(target.siblings))


def named_in_text(target: Target, _checkout: Checkout, files: Sequence[str]) -> Collection[str]:
    """Name the files that the task's words name."""
    return named_in(target.request.words, files)


def named_or_often(target: Target, checkout: Checkout, files: Sequence[str]) -> Collection[str]:
    """Name the files in the text, and fill up with those often changed."""
    named = list(named_in_text(target, checkout, files))
    often = [path for path in often_changed(target, checkout, files) if path not in named]
    return [*named, *often[: max(0, usual_number(target.siblings) - len(named))]]


def changed_by_siblings(target: Target, _checkout: Checkout, files: Sequence[str]) -> Collection[str]:
    """Name the files that most siblings modified."""
    changes = [sibling.modified for sibling in target.siblings]
    return most_changed(changes, files, usual_number(target.siblings))


WAYS: dict[str, Callable[[Target, Checkout, Sequence[str]], Collection[str]]] = {
    "files changed most often": often_changed,
    "files named in the text": named_in_text,
    "named, then changed most often": named_or_often,
    "files siblings modified": changed_by_siblings,
}


def measure(
    targets: Sequence[Target], repository: Repository, *, on_target: Callable[[], None] = lambda: None
) -> list[Baseline]:
    """Score every way on every target."""
    found: list[Baseline] = []
    for target in targets:
        checkout = repository.at(target.request.base)
        files = [file.path for file in checkout.files()]
        for name, way in WAYS.items():
            named = tuple(way(target, checkout, files))
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
