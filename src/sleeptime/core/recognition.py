"""Recognise what requests have in common: the stable prefix before the query.

    request → parts (tools, messages) → pieces (a short part whole, a long one by its sections) → a path in a tree
    shared     the longest path that two requests or more began with
    followed   the whole of an earlier request of the same conversation: it grows by what was said since

A path is known by a hash that rolls over the hashes of its pieces; texts are not kept. A request that goes on from an
earlier one counts for nothing that it repeats, so that a growing conversation does not pass for many. The last piece
of the last user message is never part of a prefix: it is the query. A longer prefix takes the place of one that is
recognised already only where it is twice as long, so that a context stays one while queries on it begin alike.
What was not seen for longest is forgotten first.

This file does not know what a context is kept as, nor what time it is: what comes later is newer.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sleeptime.core.context import sections

LEAST_CHARACTERS = 2000
"""Shorter prefixes are not worth sleeping on."""
LONG_PART = 1000
"""Characters of a part from which on it is cut into sections."""
MOST_PIECES = 4096
MOST_NODES = 50_000
MOST_CUT = 4096
"""Texts whose sections are remembered."""
LONGER = 2
_NAME_WORDS = 4
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Part:
    """One message of a request, or its tools. `role` is as the request says."""

    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """The stable prefix of one request: all parts before `part`, and `cut` characters of that one.

    `key` is the same for every request on the same prefix, and for every turn of a conversation that is followed.
    """

    key: str
    part: int
    cut: int
    characters: int
    is_followed: bool

    def text(self, parts: Sequence[Part]) -> str:
        """What the prefix says, as a context: each part under its role, unless there is but one."""
        kept = [
            *parts[: self.part],
            *([Part(parts[self.part].role, parts[self.part].text[: self.cut])] * (self.cut > 0)),
        ]
        kept = [part for part in kept if part.text.strip()]
        if len(kept) == 1 and not self.is_followed:
            return kept[0].text.strip("\n")
        return "\n\n".join(f"{part.role}: {part.text.strip(chr(10))}" for part in kept)


def name_of(text: str, key: str) -> str:
    """A name for a context: its first words, and some of its key."""
    words = [word.lower()[:16] for word in _WORD.findall(text[:200])[:_NAME_WORDS]]
    return "-".join([*words, key[:8]])


@dataclass(slots=True)
class _Node:
    requests: int = 0
    is_context: bool = False
    conversation: str | None = None
    """Of a request that ended here: the key of the first one that it goes on from."""


@dataclass(frozen=True, slots=True)
class _Piece:
    key: str
    part: int
    cut: int
    characters: int


class Recogniser:
    """A tree of what requests began with. `see` each request once, in the order they come."""

    def __init__(self, *, least_characters: int = LEAST_CHARACTERS, most_nodes: int = MOST_NODES) -> None:
        self._least = max(1, least_characters)
        self._most_nodes = most_nodes
        self._nodes: OrderedDict[str, _Node] = OrderedDict()
        self._cuts: OrderedDict[bytes, tuple[tuple[int, bytes], ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._nodes)

    def see(self, parts: Sequence[Part]) -> Prefix | None:
        """Learn from a request; its stable prefix, or None where nothing long enough recurs."""
        path = list(self._path(parts))
        if not path:
            return None
        before = self._goes_on_from(path)
        for at, piece in enumerate(path):
            node = self._nodes.setdefault(piece.key, _Node())
            if at >= before:
                node.requests += 1
        end = self._nodes[path[-1].key]
        root = self._nodes[path[before - 1].key].conversation if before else None
        end.conversation = end.conversation or root or path[-1].key
        for piece in reversed(path):
            self._nodes.move_to_end(piece.key)
        found = self._prefix(path[: _limit(path, parts)], before, end.conversation)
        while len(self._nodes) > self._most_nodes:
            self._nodes.popitem(last=False)
        return found

    def _goes_on_from(self, path: Sequence[_Piece]) -> int:
        """How many pieces are those of an earlier request that this one goes on from."""
        for at in range(len(path) - 1, 0, -1):
            node = self._nodes.get(path[at - 1].key)
            if node is not None and node.conversation is not None:
                return at
        return 0

    def _prefix(self, path: Sequence[_Piece], before: int, conversation: str) -> Prefix | None:
        long_enough = [piece for piece in path if piece.characters >= self._least]
        recurring = [piece for piece in long_enough if self._nodes[piece.key].requests > 1]
        known = [piece for piece in long_enough if self._nodes[piece.key].is_context]
        shared = recurring[-1] if recurring else None
        if known and (shared is None or shared.characters < LONGER * known[-1].characters):
            shared = known[-1]
        followed = path[min(before, len(path)) - 1] if before and path else None
        if followed is not None and followed.characters < max(
            self._least, LONGER * shared.characters if shared is not None else 0
        ):
            followed = None
        chosen = followed or shared
        if chosen is None:
            return None
        if followed is None:
            self._nodes[chosen.key].is_context = True
        return Prefix(
            key=chosen.key if followed is None else conversation,
            part=chosen.part,
            cut=chosen.cut,
            characters=chosen.characters,
            is_followed=followed is not None,
        )

    def _path(self, parts: Sequence[Part]) -> Iterator[_Piece]:
        rolling, characters, pieces = hashlib.sha256(), 0, 0
        for number, part in enumerate(parts):
            rolling.update(f"\0{part.role}\0".encode())
            start = 0
            for end, fingerprint in self._cut(part.text):
                rolling.update(fingerprint)
                characters, start = characters + end - start, end
                yield _Piece(rolling.hexdigest()[:32], number, end, characters)
                pieces += 1
                if pieces == MOST_PIECES:
                    return

    def _cut(self, text: str) -> tuple[tuple[int, bytes], ...]:
        """Where the pieces of a text end, each with its hash. Long texts recur, so their cuts are remembered."""
        raw = text.encode("utf-8", "surrogatepass")
        whole = hashlib.sha256(raw).digest()
        if len(text) < LONG_PART:
            return ((len(text), whole),)
        if whole in self._cuts:
            self._cuts.move_to_end(whole)
            return self._cuts[whole]
        ends = [section.end for section in sections(text)]
        cut = tuple(
            (end, hashlib.sha256(text[start:end].encode("utf-8", "surrogatepass")).digest())
            for start, end in zip([0, *ends[:-1]], ends, strict=True)
        )
        self._cuts[whole] = cut
        if len(self._cuts) > MOST_CUT:
            self._cuts.popitem(last=False)
        return cut


def _limit(path: Sequence[_Piece], parts: Sequence[Part]) -> int:
    """How many pieces stand before the query: all before the last piece of the last user message."""
    last = max((number for number, part in enumerate(parts) if part.role == "user"), default=len(parts))
    return max((at for at, piece in enumerate(path) if piece.part == last), default=len(path))
