"""The user's settings: a TOML file, `sleeptime.toml` in the folder of the data.

    [caps]                     all sleeps together; days and months of UTC; leave out what is not to be capped
    context_tokens = 200000    output tokens for one context, ever       context_usd = 0.50
    day_tokens = 2000000       for all contexts in a day                 day_usd = 5.00
    month_tokens = 20000000    for all contexts in a month               month_usd = 50.00

    [worker]
    lease_s = 15               a worker not heard of for so long is taken for dead

    [[routes]]                 requests to the proxy, as many as are wanted; the first that matches counts
    models = "gpt-5*, o3"      names of models, with commas between        name = "chat"
    mode = "observe"           or learn (its contexts may be slept on)
    least_characters = 2000    shorter prefixes are no contexts            most_characters = 400000

What is not known is refused: a cap with a typing error would cap nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

from sleeptime.core.caps import Caps
from sleeptime.core.errors import BudgetError, SettingsError

SETTINGS_FILE = "sleeptime.toml"
LEASE_S = 15.0
SHORTEST_LEASE_S = 0.2
_WORDS = {int: "a whole number", float: "a number", str: "text in quotation marks", bool: "true or false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """`lease_s`: for how long a worker may be silent. It says three times as often that it lives."""

    lease_s: float = LEASE_S

    def __post_init__(self) -> None:
        if not self.lease_s >= SHORTEST_LEASE_S:
            raise BudgetError(f"lease_s is at least {SHORTEST_LEASE_S}, not {self.lease_s:g}.")


MODES = ("observe", "learn")


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """What the proxy does with requests for some models.

    models            globs over names of models, with commas between
    mode              observe: contexts are recognised, their queries recorded, what sleep would save is forecast,
                      and nothing is spent; learn: they may be slept on as well
    least_characters  a shorter prefix is no context; most_characters: a longer one is not kept
    """

    name: str = ""
    models: str = "*"
    mode: str = "observe"
    least_characters: int = 2000
    most_characters: int = 400_000

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise BudgetError(f"mode is one of {', '.join(MODES)}, not {self.mode!r}.")
        if not 0 < self.least_characters <= self.most_characters:
            raise BudgetError("least_characters is above 0, and most_characters is no less.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One field for each section of the file. A section is a dataclass of numbers, texts and booleans.

    `routes` alone is a list of such sections, `[[routes]]`.
    """

    caps: Caps = field(default_factory=Caps)
    worker: WorkerSettings = field(default_factory=WorkerSettings)
    routes: tuple[RouteSettings, ...] = ()


def load(path: Path) -> Settings:
    """Read the settings; the defaults where there is no file. Raises SettingsError."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise SettingsError(f"The settings {path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}.") from error
    known = get_type_hints(Settings)
    sections: dict[str, Any] = {}  # Any: a section of its own type under each name
    for name, table in tables.items():
        if name == "routes" and isinstance(table, list):
            listed_tables = cast("list[Any]", table)  # Any: what the user wrote
            if all(isinstance(each, Mapping) for each in listed_tables):
                sections[name] = tuple(_section(path, "[routes]", RouteSettings, each) for each in listed_tables)
                continue
        if name not in known or name == "routes" or not isinstance(table, Mapping):
            listed = ", ".join("[[routes]]" if each == "routes" else f"[{each}]" for each in known)
            raise SettingsError(f"{path}: [{name}] is not known; there are {listed}.")
        sections[name] = _section(path, name, known[name], table)  # pyright: ignore[reportUnknownArgumentType]  # values are checked there
    return Settings(**sections)


def _section(path: Path, name: str, kind: type[Any], table: Mapping[str, object]) -> object:
    types = get_type_hints(kind)
    keys = [each.name for each in fields(kind)]
    for key, value in table.items():
        if key not in keys:
            raise SettingsError(f"{path}: {key!r} is not known in [{name}]: {', '.join(keys)}.")
        wanted = next(each for each in (*get_args(types[key]), types[key]) if each in _WORDS)
        is_one = isinstance(value, (int, float) if wanted is float else wanted)
        if not is_one or (isinstance(value, bool) and wanted is not bool):
            raise SettingsError(f"{path}: {key} is {_WORDS[wanted]}, not {value!r}.")
    try:
        return kind(**table)
    except BudgetError as error:
        raise SettingsError(f"{path}: {error}") from error
