"""Think about contexts before their queries come, and answer with a fraction of the test-time tokens.

    async with Engine.open(model="openai:gpt-5-mini") as engine:
        await engine.add(text, name="report")
        await engine.sleep("report")
        answer = await engine.ask("report", "Which region grew most?")

Importing the package is quick: the engine, with its database and model libraries, is
loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sleeptime.core.budget import Budget, Level
from sleeptime.core.context import Context
from sleeptime.core.deciding import Decision
from sleeptime.core.diff import Diff
from sleeptime.core.errors import SleeptimeError
from sleeptime.core.ledger import Ledger
from sleeptime.core.notes import LearnedContext, Note
from sleeptime.core.plan import Plan
from sleeptime.core.query import Answer, Query
from sleeptime.core.staleness import Edit
from sleeptime.core.usage import PriceCard, Usage

if TYPE_CHECKING:
    from sleeptime.engine import Engine
    from sleeptime.scheduler import Rules

__all__ = [
    "Answer",
    "Budget",
    "Context",
    "Decision",
    "Diff",
    "Edit",
    "Engine",
    "LearnedContext",
    "Ledger",
    "Level",
    "Note",
    "Plan",
    "PriceCard",
    "Query",
    "Rules",
    "SleeptimeError",
    "Usage",
]


_LATER = {"Engine": "sleeptime.engine", "Rules": "sleeptime.scheduler"}


def __getattr__(name: str) -> object:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
