"""Find the files that a commit changed from its message alone, on replayed commits of real repositories.

    python -m benchmarks.localise --repo click --repo gin --repo ripgrep
    python -m benchmarks.localise --fit --repo httpx --repo cobra

Taken are the newest commits that are no merges and change 1 to 10 code files that were there before. For each, the tree
of its parent is indexed with the history behind that parent and nothing later, every code file is ranked by the
message, and those first five are held against the files the commit changed (tests are code as well).

    localised      `repositories.localise`
    grep           BM25 of the message against what files hold; `words` takes identifiers apart as we do, `plain` not
    most changed   the files that changed most before, whatever the message

recall@5 is the mean over commits of the share of changed files among the five. The difference is to the better of the
two greps, with a 95 % bootstrap interval over commits. `--fit` prints weights for `localise.WEIGHTS`; give
it repositories that nothing is measured on.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sleeptime.core.words import bm25, words
from sleeptime.repositories.checkout import Commit, Repository
from sleeptime.repositories.index import COMMITS, Index, Indexer
from sleeptime.repositories.localise import SIGNALS, SPREAD, Localiser, Vector
from sleeptime.repositories.parsing import is_code

FIRST = 5
MOST_FILES = 10
TARGET = 0.15
METHODS = ("localised", "grep, words", "grep, plain", "most changed")

_PLAIN_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A commit to find the files of, and the index of its parent."""

    commit: Commit
    truth: frozenset[str]
    index: Index


def cases(place: Path, many: int) -> Iterator[Case]:
    """The newest *many* commits of the repository at *place* that fit, newest first."""
    repository = Repository(place)
    parents = {line[0]: line[1:] for line in map(str.split, _text(repository, "rev-list", "--parents", "HEAD"))}
    everything = repository.at("HEAD").history(limit=20_000)
    indexer = Indexer()
    found = 0
    for commit in everything:
        if found == many:
            return
        before = {change.was or change.path for change in commit.changes if change.kind in {"modified", "renamed"}}
        before = {path for path in before if is_code(path)}
        if len(parents[commit.id]) != 1 or not 1 <= len(before) <= MOST_FILES:
            continue
        (parent,) = parents[commit.id]
        behind = ancestors(parents, parent)
        past = [earlier for earlier in everything if earlier.id in behind][:COMMITS]
        index = indexer.index(repository.at(parent), past)
        truth = frozenset(before & index.files.keys())
        if truth:
            found += 1
            yield Case(commit=commit, truth=truth, index=index)


def ancestors(parents: Mapping[str, Sequence[str]], commit: str) -> set[str]:
    """*commit* and all commits before it."""
    found: set[str] = set()
    ahead = [commit]
    while ahead:
        at = ahead.pop()
        if at not in found:
            found.add(at)
            ahead.extend(parents.get(at, ()))
    return found


def _text(repository: Repository, *arguments: str) -> list[str]:
    return repository.git(arguments).decode().splitlines()


def recalls(case: Case, plain: dict[str, Counter[str]]) -> dict[str, float]:
    """Recall@5 of each method. *plain* keeps the plain words of blobs."""
    localiser = Localiser(case.index)
    message = case.commit.message
    texts = [_plain(case, path, plain) for path in localiser.paths]
    taken_apart = [case.index.files[path].parsed.words for path in localiser.paths]
    weights = case.index.history.weights
    scores: dict[str, Sequence[float] | Vector] = {
        "grep, words": bm25(dict.fromkeys(words(message), 1.0), taken_apart),
        "grep, plain": bm25(dict.fromkeys((word.lower() for word in _PLAIN_WORD.findall(message)), 1.0), texts),
        "most changed": [weights.get(path, 0.0) for path in localiser.paths],
    }
    ranked = {"localised": [found.path for found in localiser.rank(message, limit=FIRST)]}
    for name, values in scores.items():
        order = sorted(range(len(values)), key=lambda at: (-values[at], localiser.paths[at]))
        ranked[name] = [localiser.paths[at] for at in order[:FIRST]]
    return {name: len(case.truth.intersection(first)) / len(case.truth) for name, first in ranked.items()}


def _plain(case: Case, path: str, kept: dict[str, Counter[str]]) -> Counter[str]:
    return kept[case.index.files[path].file.blob]


def keep_plain(repository: Repository, case: Case, kept: dict[str, Counter[str]]) -> None:
    """Count the plain words of the files that *kept* lacks."""
    files = [entry.file for path, entry in case.index.files.items() if is_code(path) and entry.file.blob not in kept]
    for file, data in repository.at(case.index.commit).contents(files):
        kept[file.blob] = Counter(word.lower() for word in _PLAIN_WORD.findall(data.decode(errors="replace")))


def interval(differences: Sequence[float], seed: int) -> tuple[float, float]:
    """A 95 % bootstrap interval of the mean."""
    dice = np.random.default_rng(seed)
    drawn = dice.choice(np.asarray(differences), size=(10_000, len(differences))).mean(axis=1)
    return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def measure(places: Sequence[Path], many: int, seed: int) -> bool:
    """Print a row for each repository; say whether the target was reached on all of them."""
    print("| repository | HEAD | commits | code files | localised | grep, words | grep, plain | most changed ", end="")
    print("| above the better grep | 95 % interval | s |\n|---|---|" + "---:|" * 9)
    reached = True
    for place in places:
        began = time.monotonic()
        repository = Repository(place)
        rows: list[dict[str, float]] = []
        kept: dict[str, Counter[str]] = {}
        files = 0
        for case in cases(place, many):
            keep_plain(repository, case, kept)
            rows.append(recalls(case, kept))
            files = files or sum(map(is_code, case.index.files))
        if not rows:
            print(f"| {_name(place)} | {repository.resolve()[:8]} | 0 |")
            continue
        means = {name: sum(row[name] for row in rows) / len(rows) for name in METHODS}
        better = max(METHODS[1:3], key=means.__getitem__)
        differences = [row["localised"] - row[better] for row in rows]
        least, most = interval(differences, seed)
        above = sum(differences) / len(rows)
        reached = reached and above >= TARGET
        figures = " | ".join(f"{means[name]:.1%}" for name in METHODS)
        print(
            f"| {_name(place)} | {repository.resolve()[:8]} | {len(rows)} | {files} | {figures} "
            f"| {100 * above:+.1f} | {100 * least:+.1f} to {100 * most:+.1f} | {time.monotonic() - began:.0f} |",
            flush=True,
        )
    return reached


def _name(place: Path) -> str:
    whole = place.resolve()
    return whole.parent.name if whole.name in {".git", "repo"} else whole.name.removesuffix(".git")


def fit(places: Sequence[Path], many: int) -> None:
    """Print weights: first without what spreads from file to file, then with it."""
    seen = [(Localiser(case.index), case) for place in places for case in cases(place, many)]
    answers = [np.array([path in case.truth for path in localiser.paths], dtype=float) for localiser, case in seen]
    signals = [localiser.signals(case.commit.message) for localiser, case in seen]
    first = _logit([np.stack([each[name] for name in SIGNALS], axis=1) for each in signals], answers)
    base = dict(zip(SIGNALS, first, strict=True))
    signals = [
        each | localiser.spread(localiser.total(each, base)) for (localiser, _), each in zip(seen, signals, strict=True)
    ]
    names = (*SIGNALS, *SPREAD)
    weights = _logit([np.stack([each[name] for name in names], axis=1) for each in signals], answers)
    print(f"{len(seen)} commits")
    print({name: round(float(weight), 1) for name, weight in zip(names, weights, strict=True)})


def _logit(
    signals: Sequence[npt.NDArray[np.float64]], answers: Sequence[Vector], *, steps: int = 400, rate: float = 0.03
) -> Vector:
    """Weights of at least 0 under which the files that changed are the likeliest: a multinomial logit, by Adam."""
    weights = np.ones(signals[0].shape[1])
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, steps + 1):
        slope = 0.02 * weights
        for each, answer in zip(signals, answers, strict=True):
            raised = np.exp(each @ weights - (each @ weights).max())
            slope = slope - each.T @ (answer / answer.sum() - raised / raised.sum()) / len(signals)
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope * slope
        weights = weights - rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        weights = np.maximum(weights, 0)
    return weights


def main() -> None:
    """Measure, print, and exit with 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", action="append", type=Path, required=True, help="a git repository, bare or not")
    parser.add_argument("--commits", type=int, default=250, help="of each repository")
    parser.add_argument("--seed", type=int, default=1, help="of the bootstrap")
    parser.add_argument("--fit", action="store_true", help="print weights instead")
    arguments = parser.parse_args()
    if arguments.fit:
        fit(arguments.repo, arguments.commits)
        return
    reached = measure(arguments.repo, arguments.commits, arguments.seed)
    print(f"verdict: {'holds' if reached else 'MISSED'}: at least {100 * TARGET:.0f} points above grep on each")
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
