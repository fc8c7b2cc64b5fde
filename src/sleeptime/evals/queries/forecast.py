"""Say what `make-queries` will take before it takes anything: calls, tokens, money.

    writer   one call a context, if it writes all that is wanted at once
    solver   two runs a query, if every query passes the checks and its runs agree

Queries that are dropped cost further calls, MOST_ASKS times the writer's at most; the cap
holds them. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from sleeptime.core.usage import PriceCard, Usage
from sleeptime.evals.queries.more_queries import LEAST_AGREEING, Source, Wish
from sleeptime.evals.runs.forecast import INSTRUCTIONS, OUTPUT, Forecast, Line
from sleeptime.models.remote import estimated_tokens

WRITER_INSTRUCTIONS = 450
QUERY_OUTPUT = 60
"""Output tokens of one query with its answer, assumed; a model that reasons takes more."""
QUESTION = 40
"""Tokens of a question that is not written yet, assumed."""


def forecast(
    sources: Sequence[Source], wish: Wish, *, writer_price: PriceCard | None, solver_price: PriceCard | None
) -> Forecast:
    """Foretell what *sources* take if nothing has to be asked for again."""
    asked = [sum(estimated_tokens(sample.question) for sample in source.samples) for source in sources]
    contexts = [estimated_tokens(source.context) for source in sources]
    writes = [
        Usage(
            input_tokens=WRITER_INSTRUCTIONS + context + questions,
            output_tokens=QUERY_OUTPUT * wish.queries,
        )
        for context, questions in zip(contexts, asked, strict=True)
    ]
    level = wish.level
    solves = [
        Usage(input_tokens=INSTRUCTIONS + context + QUESTION, output_tokens=OUTPUT.get(str(level), level.amount + 100))
        for context in contexts
    ]
    runs = wish.queries * LEAST_AGREEING
    return Forecast(
        lines=(_line("write queries", writes, 1, writer_price), _line("solve queries", solves, runs, solver_price))
    )


def _line(what: str, usages: Sequence[Usage], times: int, price: PriceCard | None) -> Line:
    total = sum(usages, Usage())
    return Line(
        what=what,
        calls=len(usages) * times,
        usage=Usage(input_tokens=total.input_tokens * times, output_tokens=total.output_tokens * times),
        cost_usd=None if price is None else times * sum(price.cost_usd(usage) for usage in usages),
        is_measured=False,
    )
