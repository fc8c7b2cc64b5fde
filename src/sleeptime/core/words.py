"""Words of code and prose in one form, and how well texts match a query: BM25.

    words("Fix HTTPServer.parse_args")   fix, httpserver.parse…: http, server, httpserver, pars, arg, parse_arg…

An identifier counts as itself and as its parts, cut at underscores, capitals and digits; endings are taken off, so that
*parsing options* meets `parse_option`. BM25 (Robertson and Zaragoza 2009) is a sum over the words of a query:

    weight · idf · tf · (k + 1) / (tf + k · (1 − b + b · length / mean length))

This file knows no files and no repositories.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

K, B = 1.2, 0.75

_IDENTIFIER = re.compile(r"[^\W\d]\w*|\d+")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")
_MOST_CHARACTERS = 60
"""A longer run of letters and digits is a hash or data."""
_STOP = frozenset(
    _IDENTIFIER.findall("""a an and are as at be but by can did do does for from had has have if in into is it
    its not of on or so such than that the their then there these they this to was we were when where which will
    with you your""")
)


def words(text: str) -> Counter[str]:
    """Count the words of *text*, each identifier with its parts."""
    counted: Counter[str] = Counter()
    for identifier, many in Counter(_IDENTIFIER.findall(text)).items():
        for part in forms(identifier):
            counted[part] += many
    return counted


@lru_cache(maxsize=200_000)
def forms(identifier: str) -> tuple[str, ...]:
    """The words an identifier counts as: its parts, and itself where it has several."""
    if len(identifier) > _MOST_CHARACTERS:
        return ()
    parts = [stem(part.lower()) for part in _PART.findall(identifier)]
    kept = [part for part in parts if part not in _STOP and len(part) > 1]
    return (*kept, identifier.lower().strip("_")) if len(parts) > 1 else tuple(kept)


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """Take the common endings of English off *word*, so that its forms meet. Not a word of the language is promised."""
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed", "er", "or", "ation", "ion", "ment"):
        if word.endswith(ending) and len(word) >= len(ending) + 4:
            word = word[: -len(ending)]
            break
    if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def bm25(
    query: Mapping[str, float], texts: Sequence[Mapping[str, int]], lengths: Sequence[int] | None = None
) -> list[float]:
    """How well each of *texts* (its words, counted) matches the words of *query* with their weights."""
    if not texts:
        return []
    long = [sum(text.values()) for text in texts] if lengths is None else lengths
    mean = sum(long) / len(long) or 1.0
    norms = [K * (1 - B + B * length / mean) for length in long]
    scores = [0.0] * len(texts)
    for word, weight in query.items():
        counts = [(at, text[word]) for at, text in enumerate(texts) if word in text]
        idf = math.log(1 + (len(texts) - len(counts) + 0.5) / (len(counts) + 0.5))
        for at, many in counts:
            scores[at] += weight * idf * many * (K + 1) / (many + norms[at])
    return scores
