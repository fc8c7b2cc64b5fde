"""The user's settings: a TOML file, `sleeptime.toml` in the folder of the data.

    [caps]                     all sleeps together; days and months of UTC; leave out what is not to be capped
    context_tokens = 200000    output tokens for one context, ever       context_usd = 0.50
    day_tokens = 2000000       for all contexts in a day                 day_usd = 5.00
    month_tokens = 20000000    for all contexts in a month               month_usd = 50.00

    [worker]
    lease_s = 15               a worker not heard of for so long is taken for dead

    [provider]
    share = 0.5                how much of a provider's rate limit sleeps may use; the rest is left to answers
    tier = "auto"              at half price (flex) where that is known to be offered; "standard" never, "flex" always

    [sleep]                    when it looks for what to sleep on by itself, and where it sleeps then
    mode = "auto"              or "manual": only what is asked for
    idle_s = 30                so long after the last query or edit of a context; 0 for never
    on_change = false          at once when a text is added or edited
    every_queries = 0          after so many queries on a context; 0 for never
    schedule = ""              as cron writes times, of UTC: "0 3 * * *" is three at night
    where = "pays"             or "changed": wherever notes are lacking, whatever they save

    [serve]                    `sleeptime serve`; its options go before these
    host = "127.0.0.1"         port = 8321               upstream = "https://api.openai.com/v1"
    hosts = "sleep.example"    other names it answers to, with commas between; behind a proxy of your own
    body_mib = 32               header_count = 100        at_once = 2048 requests of one key
    request_s = 900            stop_s = 30               a stream may take longer than request_s

    [[routes]]                 requests to the proxy, as many as are wanted; the first that matches counts
    models = "gpt-5*, o3"      names of models, with commas between        name = "chat"
    mode = "observe"           or learn (its contexts may be slept on), or assist (learned notes are shown as well)
    holdout = 0.05             share of the queries with notes that go without, to measure what notes save
    least_characters = 2000    shorter prefixes are no contexts            most_characters = 400000

What is not known is refused: a cap with a typing error would cap nothing.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

from sleeptime.core.caps import Caps
from sleeptime.core.errors import BudgetError, SettingsError
from sleeptime.core.plan import TIERS
from sleeptime.core.triggers import Triggers

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


MODES = ("observe", "learn", "assist")


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """What the proxy does with requests for some models.

    models            globs over names of models, with commas between
    mode              observe: contexts are recognised, their queries recorded, what sleep would save is forecast,
                      and nothing is spent; learn: they may be slept on as well; assist: and queries are shown notes
    holdout           share of the queries with notes that go without, by lot, so that savings are measured
    least_characters  a shorter prefix is no context; most_characters: a longer one is not kept
    """

    name: str = ""
    models: str = "*"
    mode: str = "observe"
    holdout: float = 0.05
    least_characters: int = 2000
    most_characters: int = 400_000

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise BudgetError(f"mode is one of {', '.join(MODES)}, not {self.mode!r}.")
        if not 0 <= self.holdout <= 1:
            raise BudgetError(f"holdout is a share from 0 to 1, not {self.holdout:g}.")
        if not 0 < self.least_characters <= self.most_characters:
            raise BudgetError("least_characters is above 0, and most_characters is no less.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """How sleeps use a provider: the share of its rate limit, from 0 to 1, and at which of its prices."""

    share: float = 0.5
    tier: str = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise BudgetError(f"share is above 0 and at most 1, not {self.share:g}.")
        if self.tier not in TIERS:
            raise BudgetError(f"tier is one of {', '.join(TIERS)}, not {self.tier!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Where the server listens, and what it bears.

    hosts         names it answers to besides those of loopback, with commas between
    body_mib       the largest request
    header_count  the most headers of a request
    at_once       requests of one key under way, at most
    request_s     how long until a reply begins, at most
    stop_s        how long replies under way may take once it is told to stop
    """

    host: str = "127.0.0.1"
    port: int = 8321
    upstream: str | None = None
    hosts: str = ""
    body_mib: float = 32.0
    header_count: int = 100
    at_once: int = 2048
    request_s: float = 900.0
    stop_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise BudgetError(f"A port is 0 to 65535, not {self.port}.")
        for limit in (self.body_mib, self.header_count, self.at_once, self.request_s, self.stop_s):
            if not 0 < limit < math.inf:
                raise BudgetError(f"A limit of the server is a number above zero, not {limit}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One field for each section of the file. A section is a dataclass of numbers, texts and booleans.

    `routes` alone is a list of such sections, `[[routes]]`.
    """

    caps: Caps = field(default_factory=Caps)
    worker: WorkerSettings = field(default_factory=WorkerSettings)
    provider: ProviderSettings = field(default_factory=ProviderSettings)
    sleep: Triggers = field(default_factory=Triggers)
    serve: ServeSettings = field(default_factory=ServeSettings)
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
