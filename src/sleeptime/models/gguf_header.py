"""Read what a GGUF file says of itself, without llama.cpp.

    magic "GGUF" · version · number of tensors · number of fields · fields (key, type, value) …

Only the fields are read, so that a wrong path or a file that is no model is told at once,
in our words. The weights are left to llama.cpp.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_FIELDS = 100_000
_LONGEST_STRING = 64 << 20


class GgufError(ValueError):
    """The file is not a GGUF model, or only part of one. The text says why."""


def context_length(path: Path) -> int:
    """Tokens of prompt and reply the model was trained for; 0 where the file does not say."""
    try:
        with path.open("rb") as file:
            return _context_length(file)
    except IsADirectoryError as error:
        raise GgufError("it is a folder") from error
    except FileNotFoundError as error:
        raise GgufError("there is no such file") from error
    except OSError as error:
        raise GgufError(f"it cannot be read ({error.strerror})") from error
    except (struct.error, UnicodeDecodeError) as error:
        raise GgufError("the file is damaged or cut short") from error


def _context_length(file: BinaryIO) -> int:
    if file.read(4) != b"GGUF":
        raise GgufError("it is not a GGUF file")
    version, _, fields = _unpack(file, "IQQ")
    if version not in (2, 3) or fields > _MOST_FIELDS:
        raise GgufError("its GGUF version is not supported" if fields <= _MOST_FIELDS else "its header is damaged")
    for _ in range(fields):
        key = _string(file)
        (kind,) = _unpack(file, "I")
        value = _value(file, kind)
        if key.endswith(b".context_length") and isinstance(value, int):
            return value
    return 0


def _value(file: BinaryIO, kind: int) -> object:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        item, length = _unpack(file, "IQ")
        if item in _SCALARS:
            file.seek(length * struct.calcsize(_SCALARS[item]), 1)
        else:
            for _ in range(length):
                _value(file, item)
        return None
    if kind not in _SCALARS:
        raise GgufError("its header is damaged")
    return _unpack(file, _SCALARS[kind])[0]


def _string(file: BinaryIO) -> bytes:
    (length,) = _unpack(file, "Q")
    if length > _LONGEST_STRING:
        raise GgufError("its header is damaged")
    text = file.read(length)
    if len(text) < length:
        raise GgufError("the file is cut short")
    return text


def _unpack(file: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(f"<{layout}", file.read(struct.calcsize(f"<{layout}")))
