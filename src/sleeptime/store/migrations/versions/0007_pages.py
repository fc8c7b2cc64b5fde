"""What pages show, added up as the ledger grows; notes that a user pinned, and who made a version.

Two triggers add each row of the ledger up: what was spent in its hour, and what answers with and without notes took in
its context. An answer counts from its first call that came back "ok", with all calls it took. Rows that are there
already are added up here. There is no way back.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

AMOUNTS = ("tokens", "seconds", "usd")


def upgrade() -> None:
    """Make the sums and the columns, and add up what is there."""
    op.create_table(
        "hours",
        sa.Column("hour", sa.Text, primary_key=True),
        sa.Column("phase", sa.Text, primary_key=True),
        sa.Column("has_notes", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("answers", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_usd", sa.Double, nullable=False),
        sa.Column("unpriced", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "compared",
        sa.Column("context_id", sa.Text, primary_key=True),
        sa.Column("has_notes", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("answers", sa.BigInteger, nullable=False),
        sa.Column("priced", sa.BigInteger, nullable=False),
        *(sa.Column(f"{name}{more}", sa.Double, nullable=False) for name in AMOUNTS for more in ("", "_squares")),
    )
    op.create_index("contexts_by_age", "contexts", ["created_at", "name"])
    op.create_index("watched_by_queries", "watched", ["queries"])
    op.create_index("decisions_by_age", "decisions", ["at", "position"])
    op.create_index("answers_by_age", "answers", ["at", "position"])
    op.create_index("learned_by_age", "learned_contexts", ["created_at"])
    op.add_column("notes", sa.Column("pinned", sa.Integer, nullable=False, server_default="0"))
    op.add_column("learned_contexts", sa.Column("by_hand", sa.Text))
    _add_up_what_is_there()
    _add_up_what_comes()


_HAS_NOTES = "CASE WHEN {row}sees IS NULL OR {row}sees = 'context' THEN 0 ELSE 1 END"


def _hour(row: str) -> str:
    if op.get_context().dialect.name == "postgresql":
        return f"to_char({row}at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24')"
    return f"substr({row}at, 1, 13)"


def _add_up_what_is_there() -> None:
    has_notes = _HAS_NOTES.format(row="")
    sums = ", ".join(
        f"sum({name})" for name in ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")
    )
    first = "SELECT min(position) FROM calls WHERE phase = 'test' AND outcome = 'ok' AND work_id IS NOT NULL"
    op.execute(
        f"INSERT INTO hours SELECT {_hour('')}, phase, {has_notes}, count(*), "  # noqa: S608  # constants
        f"sum(CASE WHEN position IN ({first} GROUP BY work_id) THEN 1 ELSE 0 END), {sums}, "
        f"sum(coalesce(cost_usd, 0)), sum(CASE WHEN cost_usd IS NULL THEN 1 ELSE 0 END) FROM calls GROUP BY 1, 2, 3"
    )
    op.execute(
        f"""
        INSERT INTO compared
        SELECT context_id, has_notes, count(*), sum(priced), sum(tokens), sum(tokens * tokens),
               sum(seconds), sum(seconds * seconds), sum(usd * priced), sum(usd * usd * priced)
        FROM (SELECT coalesce(context_id, '') AS context_id, max({has_notes}) AS has_notes,
                     CAST(sum(output_tokens) AS DOUBLE PRECISION) AS tokens, sum(latency_s) AS seconds,
                     sum(coalesce(cost_usd, 0)) AS usd,
                     CASE WHEN sum(CASE WHEN outcome = 'ok' AND cost_usd IS NULL THEN 1 ELSE 0 END) = 0
                          THEN 1 ELSE 0 END AS priced
              FROM calls WHERE phase = 'test' AND work_id IS NOT NULL
              GROUP BY work_id, coalesce(context_id, '')
              HAVING sum(CASE WHEN outcome = 'ok' THEN 1 ELSE 0 END) > 0) AS works
        GROUP BY context_id, has_notes
        """  # noqa: S608  # constants
    )


def _add_up_what_comes() -> None:
    """Let the database add up each row as it is written, whoever writes it."""
    has_notes = _HAS_NOTES.format(row="NEW.")
    earlier = "SELECT 1 FROM calls WHERE work_id = NEW.work_id AND id <> NEW.id AND outcome = 'ok'"
    is_first = f"NEW.outcome = 'ok' AND NOT EXISTS ({earlier})"
    spent = _adds(
        "hours",
        ("hour", "phase", "has_notes"),
        {
            "hour": _hour("NEW."),
            "phase": "NEW.phase",
            "has_notes": has_notes,
            "calls": "1",
            "answers": f"CASE WHEN NEW.phase = 'test' AND NEW.work_id IS NOT NULL AND {is_first} THEN 1 ELSE 0 END",
            "input_tokens": "NEW.input_tokens",
            "cached_input_tokens": "NEW.cached_input_tokens",
            "output_tokens": "NEW.output_tokens",
            "reasoning_tokens": "NEW.reasoning_tokens",
            "cost_usd": "coalesce(NEW.cost_usd, 0)",
            "unpriced": "CASE WHEN NEW.cost_usd IS NULL THEN 1 ELSE 0 END",
        },
    )
    # What the answer had taken before this call, and takes with it; it counts (is, was: 1) once a call came back.
    work = """
        (SELECT was, CASE WHEN was = 1 OR NEW.outcome = 'ok' THEN 1 ELSE 0 END AS is_,
                was_priced, CASE WHEN (was = 1 OR NEW.outcome = 'ok') AND unpriced = 0
                                  AND NOT (NEW.outcome = 'ok' AND NEW.cost_usd IS NULL) THEN 1 ELSE 0 END AS is_priced,
                tokens, seconds, usd
         FROM (SELECT CASE WHEN ok > 0 THEN 1 ELSE 0 END AS was,
                      CASE WHEN ok > 0 AND unpriced = 0 THEN 1 ELSE 0 END AS was_priced, unpriced, tokens, seconds, usd
               FROM (SELECT coalesce(sum(CASE WHEN outcome = 'ok' THEN 1 ELSE 0 END), 0) AS ok,
                            coalesce(sum(CASE WHEN outcome = 'ok' AND cost_usd IS NULL THEN 1 ELSE 0 END), 0)
                                AS unpriced,
                            CAST(coalesce(sum(output_tokens), 0) AS DOUBLE PRECISION) AS tokens,
                            coalesce(sum(latency_s), 0) AS seconds, coalesce(sum(cost_usd), 0) AS usd
                     FROM calls WHERE work_id = NEW.work_id AND id <> NEW.id) AS before) AS state) AS work
    """
    new = {"tokens": "NEW.output_tokens", "seconds": "NEW.latency_s", "usd": "coalesce(NEW.cost_usd, 0)"}
    amounts: dict[str, str] = {}
    for name in AMOUNTS:
        is_, was = ("is_priced", "was_priced") if name == "usd" else ("is_", "was")
        total = f"({name} + {new[name]})"
        amounts[name] = f"{is_} * {total} - {was} * {name}"
        amounts[f"{name}_squares"] = f"{is_} * {total} * {total} - {was} * {name} * {name}"
    compared = _adds(
        "compared",
        ("context_id", "has_notes"),
        {
            "context_id": "coalesce(NEW.context_id, '')",
            "has_notes": has_notes,
            "answers": "is_ - was",
            "priced": "is_priced - was_priced",
            **amounts,
        },
        source=work,
    )
    _after_insert("calls_spent", "", spent)
    _after_insert("calls_taken", "WHEN (NEW.phase = 'test' AND NEW.work_id IS NOT NULL)", compared)


def _adds(table: str, key: tuple[str, ...], values: dict[str, str], *, source: str = "(SELECT 1 AS one) AS one") -> str:
    """Write the statement that adds *values* to the row of *key*, which begins at nothing."""
    added = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in values if name not in key)
    return (
        f"INSERT INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())} FROM {source} WHERE TRUE "  # noqa: S608  # constants
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {added};"
    )


def _after_insert(name: str, when: str, statements: str) -> None:
    head = f"AFTER INSERT ON calls FOR EACH ROW {when}"
    if op.get_context().dialect.name != "postgresql":
        op.execute(f"CREATE TRIGGER {name} {head} BEGIN {statements} END")
        return
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {statements} RETURN NULL; END $$"
    )
    op.execute(f"CREATE TRIGGER {name} {head} EXECUTE FUNCTION {name}()")
