"""Rank the files of a repository by how likely a task described in words will change them. No model is asked.

    score(f) = Σ_i WEIGHTS_i · signal_i(f)          each signal from 0 to 1, 1 for the file that has most of it

    content    BM25 of the query against what the file holds
    path       BM25 against the words of its path
    symbols    BM25 against the names it defines
    messages   BM25 against the messages of the commits that changed it, all taken together
    alike      the commits whose messages are most like the query, shared among the files each changed
    named      its path, name or a symbol stands in the query as it is written
    often      how often it changed, late commits counting more
    lately     the same with a memory of a few dozen commits
    together   what changes with the files that rank first without this
    tested     what tests, or is tested by, the files that rank first without this

A word that many commit messages hold ("fix", "add") counts little: its weight is its rarity among messages. The weights
are those of a logit over the files (`python -m benchmarks.localise --fit` finds them, on repositories that are never
among those it is measured on).

This file does not read a repository; it is given an index.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sleeptime.core.words import B, K, bm25, words
from sleeptime.repositories.index import Index, is_test
from sleeptime.repositories.parsing import is_code

Vector = npt.NDArray[np.float64]

SIGNALS = ("content", "path", "symbols", "messages", "alike", "named", "often", "lately")
SPREAD = ("together", "tested")
WEIGHTS: Mapping[str, float] = {
    "content": 2.5, "path": 2.0, "symbols": 0.6, "messages": 1.3, "alike": 0.8, "named": 0.6, "often": 0.4,
    "lately": 0.9, "together": 0.5, "tested": 0.5,
}  # fmt: skip
MOST_ALIKE = 40
SEEDS = 4
LATELY_HALF_LIFE = 15
MOST_QUERY_CHARACTERS = 20_000

_MOST_TOLD_OF = 10
"""A commit of more files than this tells nothing of what each is about."""
_NAME = re.compile(r"[\w./-]{3,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A file with its score and the part of it that each signal gave."""

    path: str
    score: float
    parts: Mapping[str, float] = field(hash=False)


class Localiser:
    """Ranks the code files of one index."""

    def __init__(self, index: Index, paths: Sequence[str] | None = None) -> None:
        self.index = index
        self.paths = tuple(path for path in index.files if is_code(path)) if paths is None else tuple(paths)
        self._at = {path: at for at, path in enumerate(self.paths)}
        parsed = [index.files[path].parsed for path in self.paths]
        self._contents = [each.words for each in parsed]
        self._lengths = [each.length for each in parsed]
        self._path_words = [words(path) for path in self.paths]
        self._symbol_words = [words(" ".join(symbol.name for symbol in each.symbols)) for each in parsed]
        self._names = self._named_by()
        self._often, self._lately = self._changes()
        self._read_messages()

    def rank(self, query: str, *, limit: int = 20) -> tuple[Ranked, ...]:
        """The files most likely to change, the likeliest first."""
        signals = self.signals(query)
        signals |= self.spread(self.total(signals))
        parts = {name: WEIGHTS[name] * values for name, values in signals.items()}
        total = self.total(signals)
        order = sorted(range(len(self.paths)), key=lambda at: (-total[at], self.paths[at]))[:limit]
        return tuple(
            Ranked(
                path=self.paths[at],
                score=float(total[at]),
                parts={name: float(values[at]) for name, values in parts.items() if values[at] > 0},
            )
            for at in order
        )

    def total(self, signals: Mapping[str, Vector], weights: Mapping[str, float] = WEIGHTS) -> Vector:
        """The weighted sum of *signals*."""
        found: Vector = np.zeros(len(self.paths))
        for name, values in signals.items():
            found = found + weights[name] * values
        return found

    def signals(self, query: str) -> dict[str, Vector]:
        """Each signal of the query for every file, between 0 and 1."""
        text = query[:MOST_QUERY_CHARACTERS]
        weights = self._weighted(words(text))
        return {
            "content": _scaled(bm25(weights, self._contents, self._lengths)),
            "path": _scaled(bm25(weights, self._path_words)),
            "symbols": _scaled(bm25(weights, self._symbol_words)),
            "messages": _scaled(bm25(weights, self._messages_of_files)),
            "alike": _scaled(self._alike(weights)),
            "named": _scaled(self._named(text)),
            "often": self._often,
            "lately": self._lately,
        }

    def spread(self, base: Vector) -> dict[str, Vector]:
        """What the files that rank first by *base* say of their companions, their tests and what they test."""
        together, tested = np.zeros(len(self.paths)), np.zeros(len(self.paths))
        if not self.paths:
            return {"together": together, "tested": tested}
        order = np.argsort(-base, kind="stable")[:SEEDS]
        for at, trust in zip(order, _softmax(base[order]), strict=True):
            path = self.paths[int(at)]
            for other, share in self.index.history.together(path).items():
                if other in self._at:
                    together[self._at[other]] += trust * share
            for other in self._partners.get(path, ()):
                tested[self._at[other]] += trust
        return {"together": _scaled(together), "tested": _scaled(tested)}

    def _weighted(self, query: Counter[str]) -> dict[str, float]:
        """The words of the query, each by its rarity among commit messages."""
        many = len(self.index.history.past)
        most = math.log(many + 2)
        return {word: math.log((many + 2) / (len(self._commits_with.get(word, ())) + 1)) / most for word in query}

    def _read_messages(self) -> None:
        self._commits_with: dict[str, list[tuple[int, int]]] = defaultdict(list)
        lengths: list[int] = []
        self._messages_of_files: list[Counter[str]] = [Counter() for _ in self.paths]
        for number, past in enumerate(self.index.history.past):
            counted = _message_words(past.commit.message)
            lengths.append(counted.total())
            for word, times in counted.items():
                self._commits_with[word].append((number, times))
            here = [self._at[path] for path in past.paths if path in self._at]
            if len(here) <= _MOST_TOLD_OF:
                for at in here:
                    self._messages_of_files[at].update(counted.keys())
        mean = sum(lengths) / len(lengths) if lengths else 1.0
        self._norms = [K * (1 - B + B * length / (mean or 1.0)) for length in lengths]
        self._partners: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            for test in self.index.tests(path):
                if test in self._at:
                    self._partners[path].append(test)
                    self._partners[test].append(path)

    def _alike(self, weights: Mapping[str, float]) -> Vector:
        past = self.index.history.past
        scores: dict[int, float] = defaultdict(float)
        for word, weight in weights.items():
            holding = self._commits_with.get(word, ())
            idf = math.log(1 + (len(past) - len(holding) + 0.5) / (len(holding) + 0.5))
            for number, times in holding:
                scores[number] += weight * idf * times * (K + 1) / (times + self._norms[number])
        found: Vector = np.zeros(len(self.paths))
        for number in sorted(scores, key=lambda number: (-scores[number], number))[:MOST_ALIKE]:
            here = [self._at[path] for path in past[number].paths if path in self._at]
            for at in here:
                found[at] += scores[number] / math.sqrt(len(here))
        return found

    def _named_by(self) -> dict[str, list[tuple[int, float]]]:
        """What a query may call a file by, with how surely that means it: the fewer share a name the surer."""
        names: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for at, path in enumerate(self.paths):
            name = path.rpartition("/")[2]
            for called in {path.lower(), name.lower()}:
                names[called].append((at, 2.0))
            names[(name.rpartition(".")[0] or name).lower()].append((at, 1.0))
            for symbol in {
                symbol.name.lower() for symbol in self.index.files[path].parsed.symbols if len(symbol.name) > 3
            }:
                names[symbol].append((at, 0.5 if is_test(path) else 1.0))
        return names

    def _named(self, query: str) -> Vector:
        found: Vector = np.zeros(len(self.paths))
        said = {token.strip("./-").lower() for token in _NAME.findall(query)}
        said |= {part for token in said for part in token.split(".")}
        for token in said:
            meant = self._names.get(token, [])
            for at, sureness in meant:
                found[at] += sureness / len(meant)
        return found

    def _changes(self) -> tuple[Vector, Vector]:
        weights = self.index.history.weights
        often = np.array([math.log1p(weights.get(path, 0.0)) for path in self.paths])
        lately: Vector = np.zeros(len(self.paths))
        for past in self.index.history.past[: 8 * LATELY_HALF_LIFE]:
            for path in past.paths:
                if path in self._at:
                    lately[self._at[path]] += 0.5 ** (past.age / LATELY_HALF_LIFE)
        return _scaled(often), _scaled(lately)


@lru_cache(maxsize=50_000)
def _message_words(message: str) -> Counter[str]:
    return words(message)


def _scaled(values: Sequence[float] | Vector) -> Vector:
    found = np.asarray(values, dtype=np.float64)
    most = found.max(initial=0.0)
    return found / most if most > 0 else found


def _softmax(values: Vector) -> Vector:
    raised = np.exp(values - values.max(initial=0.0))
    return raised / raised.sum()
