"""The user's settings: a TOML file, `settings.toml` in the folder of the data.

    [caps]                     all sleeps together; days and months of UTC; leave out what is not to be capped
    context_tokens = 200000    output tokens for one context, ever       context_usd = 0.50
    day_tokens = 2000000       for all contexts in a day                 day_usd = 5.00
    month_tokens = 20000000    for all contexts in a month               month_usd = 50.00

    [worker]
    lease_s = 15               a worker not heard of for so long is taken for dead

What is not known is refused: a cap with a typing error would cap nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sleeptime.core.caps import Caps
from sleeptime.core.errors import BudgetError, SettingsError

LEASE_S = 15.0
SHORTEST_LEASE_S = 0.2
_CAPS = tuple(field.name for field in fields(Caps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`lease_s`: for how long a worker may be silent. It says three times as often that it lives."""

    caps: Caps = Caps()
    lease_s: float = LEASE_S


def load(path: Path) -> Settings:
    """Read the settings; the defaults where there is no file. Raises SettingsError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise SettingsError(f"The settings {path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}.") from error
    known = {"caps": _CAPS, "worker": ("lease_s",)}
    read: dict[str, dict[str, Any]] = {}  # Any: numbers of both kinds
    for section, keys in table.items():
        if section not in known or not isinstance(keys, Mapping):
            raise SettingsError(f"{path}: [{section}] is not known; there are [caps] and [worker].")
        read[section] = {str(key): value for key, value in keys.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # values are checked below
        for key, value in read[section].items():
            if key not in known[section]:
                raise SettingsError(f"{path}: {key!r} is not known in [{section}]: {', '.join(known[section])}.")
            is_whole = key.endswith("_tokens")
            if isinstance(value, bool) or not isinstance(value, int if is_whole else (int, float)):
                raise SettingsError(f"{path}: {key} is a {'whole ' if is_whole else ''}number, not {value!r}.")
    lease_s = float(read.get("worker", {}).get("lease_s", LEASE_S))
    if not lease_s >= SHORTEST_LEASE_S:
        raise SettingsError(f"{path}: lease_s is at least {SHORTEST_LEASE_S}, not {lease_s:g}.")
    try:
        return Settings(caps=Caps(**read.get("caps", {})), lease_s=lease_s)
    except BudgetError as error:
        raise SettingsError(f"{path}: {error}") from error
