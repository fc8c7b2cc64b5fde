r"""Cut text into the tiny model's tokens: the longest piece that fits, from left to right.

    encode(text) → ids      decode(ids) → text

256 bytes, so that any text is accepted, and pieces of our own, so that a name with
its mark (`\nC4=`) and a number are one token each. llama.cpp's `rwkv` vocabulary does
the same greedy walk, so the exported file cuts text exactly as this one does.

This file knows nothing about models.
"""

import re

from sleeptime.evals.data.chains import CELLS, COLOURS, FACE, PEOPLE

END, USER, ASSISTANT, SPARE = "<|end|>", "<|user|>", "<|assistant|>", "<|spare|>"
CONTROL = (END, USER, ASSISTANT, SPARE)
LEVELS = 5

ENGLISH = (
    " the", " of", " and", " to", " in", " a", " is", " that", " it", " for", " was", " on", " as",
    " with", " be", " by", " this", " are", " not", " you", " or", " from", " have", " an", " at",
    "ing", "tion", "er", "ed", "es", "en", "on", "re", "th", "he", "in", "an", "st", "or", "al",
    "ar", "le", "it", "is", "nd", "ou", "ly", "ment", ". ", ", ", "\n\n", "  ", "    ",
)  # fmt: skip

NUMBERS = tuple(f" {n}" for n in range(1, FACE + 1))
NAME_PIECES = {
    **{c: (f"\n{c}=", f"\n{c}:", f" {c}", f"\n{c} is") for c in CELLS},
    **{p: (f"\n{p} reads", f"\n{p} keeps", f" {p}", f"\n{p} likes") for p in PEOPLE},
}
FIXED = (
    "sheet", "\nwatch", " +", " -", "\nWhat does", " show?", "\nWhat is", " plus", " minus", "?",
    "\nplus=", "\nminus=", "notes:", "\nnotes:", "\nsleep", "\ndone",
    "clocks", "\nAsked most often:", "'s time plus", "'s time minus", " hours.", " o'clock.",
    "'s clock read?", "'s time?",
    *(f" /{level}" for level in range(LEVELS)),
    *(f" {colour}" for colour in COLOURS),
)  # fmt: skip

BYTES = tuple(bytes([n]) for n in range(256))
PIECES: tuple[bytes, ...] = tuple(
    dict.fromkeys(
        piece
        for piece in (
            *BYTES,
            *(n.encode() for n in NUMBERS),
            *(p.encode() for pieces in NAME_PIECES.values() for p in pieces),
            *(p.encode() for p in FIXED),
            *(p.encode() for p in ENGLISH),
        )
    )
)
VOCABULARY_SIZE = 640
"""Control tokens first, then the pieces, then unused ids that round the size up."""

_ID_OF = {piece: len(CONTROL) + index for index, piece in enumerate(PIECES)}
_CONTROL_ID_OF = {name: index for index, name in enumerate(CONTROL)}
_LONGEST_FIRST = re.compile(b"|".join(re.escape(p) for p in sorted(PIECES, key=len, reverse=True)), re.DOTALL)
_CONTROL_OR_TEXT = re.compile("(" + "|".join(re.escape(c) for c in CONTROL) + ")")

assert len(CONTROL) + len(PIECES) <= VOCABULARY_SIZE

END_ID, USER_ID, ASSISTANT_ID = (_CONTROL_ID_OF[c] for c in (END, USER, ASSISTANT))


def encode(text: str) -> list[int]:
    """Cut *text*; control tokens written out in it are recognised first."""
    ids: list[int] = []
    for part in _CONTROL_OR_TEXT.split(text):
        if part in _CONTROL_ID_OF:
            ids.append(_CONTROL_ID_OF[part])
        else:
            ids += [_ID_OF[piece] for piece in _LONGEST_FIRST.findall(part.encode())]
    return ids


def token_bytes(token: int) -> bytes:
    """Give the bytes of one token; unused ids have a visible filler."""
    if token < len(CONTROL):
        return CONTROL[token].encode()
    if token < len(CONTROL) + len(PIECES):
        return PIECES[token - len(CONTROL)]
    return f"<|unused{token}|>".encode()


def decode(ids: list[int]) -> str:
    """Join tokens to text, replacing bytes that are not UTF-8."""
    return b"".join(token_bytes(token) for token in ids).decode(errors="replace")


def name_groups() -> list[list[int]]:
    """List the tokens that speak of the same name, a group a name."""
    return [[_ID_OF[p.encode()] for p in pieces] for pieces in NAME_PIECES.values()]


def number_ids() -> list[int]:
    """List the tokens of 1 to 12, in order."""
    return [_ID_OF[n.encode()] for n in NUMBERS]
