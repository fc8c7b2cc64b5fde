"""What an edit needs to know: the sections a version was learned from, and how versions come from one another.

Evidence named sections by a hash of their text with the blank lines behind it; now these are left
out, and long blocks are cut. The evidence of notes and drafts is written anew from the texts,
none of which was edited before this schema. Evidence that was cut off where its section ended went
on in a place that was not kept: it becomes the whole text, so that no note outlives an edit it should not.

The cutting is written out here, old and new, for it may change again. There is no way back.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Spans = list[tuple[str, int, int]]
Parts = list[tuple[int, int, str]]

_OLD_BREAK = re.compile(r"\n[ \t]*\n+")
_BREAK = re.compile(r"\n(?:[^\S\n]*\n)+|\n(?=#{1,6} |=== )")
_PIECE = re.compile(r"\n|[.!?][^\S\n]+")
_LEADING = re.compile(r"\A(?:[^\S\n]*\n)+")
_ESCAPED = re.compile("\ufdd0([0-9a-f]{4})")
_EVERYWHERE = ("*", 0, 0)


def upgrade() -> None:
    """Add the columns and fill them in; versions are let be changed for as long as that takes."""
    op.add_column("learned_contexts", sa.Column("sections", sa.Text, nullable=False, server_default="[]"))
    op.add_column("learned_contexts", sa.Column("plan", sa.Text))
    op.add_column("learned_contexts", sa.Column("based_on", sa.Integer))
    op.add_column("learned_contexts", sa.Column("rolled_back_from", sa.Integer))
    op.add_column("sleeps", sa.Column("context_fingerprint", sa.Text, nullable=False, server_default=sa.text("''")))
    op.add_column("sleeps", sa.Column("sections", sa.Text, nullable=False, server_default="[]"))
    op.add_column("sleeps", sa.Column("based_on", sa.Integer))

    connection = op.get_bind()
    is_postgresql = op.get_context().dialect.name == "postgresql"
    guarded = ("learned_contexts", "notes")
    triggers: list[str] = []
    if is_postgresql:
        for table in guarded:
            op.execute(f"ALTER TABLE {table} DISABLE TRIGGER {table}_refuse_change")
    else:
        for table in guarded:
            name = f"{table}_refuse_update"
            triggers.append(
                str(connection.scalar(sa.text("SELECT sql FROM sqlite_master WHERE name = :name"), {"name": name}))
            )
            op.execute(f"DROP TRIGGER {name}")
    for (identity,) in connection.execute(sa.text("SELECT id FROM contexts")).all():
        _fill_in(connection, identity)
    for trigger in triggers:
        op.execute(trigger)
    if is_postgresql:
        for table in guarded:
            op.execute(f"ALTER TABLE {table} ENABLE TRIGGER {table}_refuse_change")


def _fill_in(connection: sa.Connection, identity: str) -> None:
    """Write the sections and the evidence of one context's versions and unfinished sleeps."""
    stored = str(connection.scalar(sa.text("SELECT text FROM contexts WHERE id = :id"), {"id": identity}))
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), stored)
    whole = _hash(text)
    old, new = _old_parts(text), _parts(text)
    sections = json.dumps([name for _, _, name in new])
    versions = "UPDATE learned_contexts SET sections = :sections WHERE context_id = :id"
    connection.execute(sa.text(versions), {"sections": sections, "id": identity})

    notes = sa.text("SELECT version, position, evidence FROM notes WHERE context_id = :id")
    written = sa.text(
        "UPDATE notes SET evidence = :evidence WHERE context_id = :id AND version = :version AND position = :position"
    )
    for version, position, evidence in connection.execute(notes, {"id": identity}).all():
        moved = json.dumps(_moved(json.loads(evidence), text, old, new))
        key = {"id": identity, "version": version, "position": position}
        connection.execute(written, {"evidence": moved, **key})

    sleeps = sa.text("SELECT id, plan FROM sleeps WHERE context_id = :id")
    for sleep, plan in connection.execute(sleeps, {"id": identity}).all():
        spoken = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), plan)
        key = _hash(f"{spoken} {whole}")
        connection.execute(
            sa.text(
                "UPDATE sleeps SET sections = :sections, context_fingerprint = :whole, plan_fingerprint = :key "
                "WHERE id = :id"
            ),
            {"sections": sections, "whole": whole, "key": key, "id": sleep},
        )
        for sample, written_draft in connection.execute(
            sa.text("SELECT sample, draft FROM drafts WHERE sleep_id = :id"), {"id": sleep}
        ).all():
            draft = json.loads(written_draft)
            for note in draft["notes"]:
                note["evidence"] = _moved(note["evidence"], text, old, new)
            connection.execute(
                sa.text("UPDATE drafts SET draft = :draft WHERE sleep_id = :id AND sample = :sample"),
                {"draft": json.dumps(draft), "id": sleep, "sample": sample},
            )


def _moved(spans: Iterable[Sequence[str | int]], text: str, old: Parts, new: Parts) -> Spans:
    """Name the same characters by the new sections."""
    moved: dict[tuple[str, int, int], None] = {}
    for section, first, last in spans:
        at = next((start for start, _, name in old if name == section), None)
        if at is None:
            moved[_EVERYWHERE] = None
            continue
        start, end = at + int(first), at + int(last)
        if text[start:end] != text[start:end].rstrip():
            moved[_EVERYWHERE] = None
        for begin, finish, name in new:
            if begin < end and start < finish:
                inside = max(start, begin)
                moved[name, inside - begin, inside - begin + len(text[inside : min(end, finish)].rstrip())] = None
    return list(moved)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _old_parts(text: str) -> Parts:
    ends = [match.end() for match in _OLD_BREAK.finditer(text)]
    if not ends or ends[-1] != len(text):
        ends.append(len(text))
    return [(start, end, _hash(text[start:end])) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _parts(text: str) -> Parts:
    ends: list[int] = []
    start = 0
    for end in [*(match.end() for match in _BREAK.finditer(text)), len(text)]:
        if end < len(text) and text[start:end].isspace():
            continue
        if ends and text[start:end].isspace():
            ends[-1] = end
        elif end > start or not ends:
            ends += [*_cuts(text, start, end), end]
        start = end
    return [
        (start, end, _hash(_LEADING.sub("", text[start:end].rstrip())))
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


def _cuts(text: str, start: int, end: int) -> list[int]:
    end = start + len(text[start:end].rstrip())
    ends = [*(match.end() for match in _PIECE.finditer(text, start, end)), end]
    if len(ends) <= 10:
        return []
    rank = [
        zlib.crc32(text[first:last].strip().encode("utf-8", "surrogatepass"))
        for first, last in zip([start, *ends[:-1]], ends, strict=True)
    ]
    return [
        ends[at] for at in range(5, len(ends) - 5) if max(rank[at - 5 : at]) < rank[at] >= max(rank[at + 1 : at + 6])
    ]
