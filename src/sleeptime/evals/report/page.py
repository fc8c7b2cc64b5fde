"""What the pages share: the way numbers are written, the colours of both themes, and their templates.

    template(name) → Template      its own words escaped, and `page.css.jinja` in its head

This file knows nothing about what a page shows.
"""

import re
from functools import lru_cache
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape
from markupsafe import Markup

from sleeptime.evals.report import drawing

FEW_TIMES = 5
"""Ratios below this are told to two digits: 0.97 and 1.04 are not both 1.0."""

Unit = Literal["share", "points", "times", "number", "rank", "slope"]


def written(number: float | None, unit: Unit) -> str:
    """Write a number with its unit; a dash where there is none."""
    signs = {"share": " %", "points": " points", "times": "×"}
    return bare(number, unit) + ("" if number is None else signs.get(unit, ""))


def bare(number: float | None, unit: Unit) -> str:
    """Write a number as its unit is read, without naming it."""
    if number is None:
        return "–"
    scale = 100 if unit in ("share", "points") else 1
    digits = {"share": ".1f", "points": "+.1f", "times": ".1f", "number": ".1f", "rank": ".2f", "slope": "+.3f"}[unit]
    if unit == "times" and number < FEW_TIMES:
        digits = ".2f"
    text = f"{number * scale:{digits}}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    return text.replace("-", "−")


STYLE: dict[str, Any] = {  # Any: what a template is given
    "colours": {
        "page": drawing.PAGES[0],
        "ink": drawing.INK,
        "muted": drawing.MUTED,
        "grid": drawing.GRID,
        "sleep": drawing.SLEEP,
        "no_sleep": drawing.NO_SLEEP,
        "learned": drawing.LEARNED,
        "merged": drawing.MERGED,
        "guess": drawing.GUESS,
    },
    "dark": drawing.DARK,
    "font": Markup(drawing.FONT),  # noqa: S704  # a constant of ours
}
"""What `page.css.jinja` needs."""


_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~])")


def markdown(text: str) -> str:
    """Escape *text* for one line of Markdown, or one cell of a table."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.replace("&", "&amp;").split()))


@lru_cache
def template(name: str) -> Template:
    """Load a template of this package. HTML is escaped, and a name that is not given is an error."""
    pages = Environment(
        loader=PackageLoader("sleeptime.evals", ""),
        autoescape=select_autoescape(enabled_extensions=("html.jinja", "css.jinja")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template(name)
