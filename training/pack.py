"""Lay trees out as arrays: tokens, positions, the mask of ancestors, and what to predict.

This file knows nothing about the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.data import WEIGHT, Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Trees side by side. Row i of `sources` (flat) predicts `targets[i]` with `weights[i]`.

    `replies` says where each reply's predictions lie: (kind, start, end).
    """

    tokens: np.ndarray
    positions: np.ndarray
    mask: np.ndarray
    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    replies: list[tuple[str, int, int]]


def pack(trees: Sequence[Tree], *, multiple: int = 64) -> Batch:
    """Pad *trees* to one length and lay them out."""
    length = -(-max(tree.size for tree in trees) // multiple) * multiple
    tokens = np.zeros((len(trees), length), dtype=np.int64)
    positions = np.zeros((len(trees), length), dtype=np.int64)
    seen = np.zeros((len(trees), length, length), dtype=bool)
    below = np.tril(np.ones((length, length), dtype=bool))
    sources: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    replies: list[tuple[str, int, int]] = []
    for row, tree in enumerate(trees):
        ends: list[int] = []
        at = 0
        for node in tree.nodes:
            end = at + len(node.tokens)
            last = ends[node.parent] - 1 if node.parent >= 0 else -1
            first = positions[row, last] + 1 if last >= 0 else 0
            tokens[row, at:end] = node.tokens
            positions[row, at:end] = np.arange(first, first + len(node.tokens))
            if last >= 0:
                seen[row, at:end, : last + 1] = seen[row, last, : last + 1]
            seen[row, at:end, at:end] = below[: end - at, : end - at]
            began = len(targets)
            for offset, weight in enumerate(node.weights):
                source = at + offset - 1 if offset else last
                if weight > 0 and source >= 0:
                    sources.append(row * length + source)
                    targets.append(node.tokens[offset])
                    weights.append(weight)
            for offset, token in node.hints:
                sources.append(row * length + at + offset)
                targets.append(token)
                weights.append(WEIGHT["hint"])
            if node.kind:
                replies.append((node.kind, began, len(targets)))
            ends.append(end)
            at = end
        seen[row, np.arange(at, length), np.arange(at, length)] = True
    return Batch(
        tokens=tokens,
        positions=positions,
        mask=np.where(seen, np.float32(0), np.float32(-np.inf))[:, None],
        sources=np.array(sources),
        targets=np.array(targets),
        weights=np.array(weights, dtype=np.float32),
        replies=replies,
    )
