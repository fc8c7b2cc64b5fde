"""Every value comes back from its row as it went in."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from sleeptime.core.budget import EFFORTS, Level
from sleeptime.core.context import Context, Span
from sleeptime.core.ledger import Call, Phase
from sleeptime.core.messages import FinishReason
from sleeptime.core.notes import NOTE_KINDS, Draft, LearnedContext, Note, NoteStatus, StopReason
from sleeptime.core.query import SEES, Answer, Query
from sleeptime.core.usage import Usage
from sleeptime.store import rows
from sleeptime.store.tables import UtcTime, escaped, unescaped

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text("\x00\ufdd0\ud8000fd a", max_size=12)
COUNT = st.integers(0, 2**53)
COST = st.none() | st.floats(0, 1e9)
USAGE = st.tuples(COUNT, COUNT, COUNT, COUNT).map(
    lambda n: Usage(
        input_tokens=n[0] + n[1], cached_input_tokens=n[1], output_tokens=n[2] + n[3], reasoning_tokens=n[3]
    )
)
TIME = st.datetimes(timezones=st.just(UTC))
LEVEL = st.one_of(
    st.builds(Level, kind=st.just("verbosity"), amount=st.integers(0, 4)),
    st.builds(Level, kind=st.just("effort"), effort=st.sampled_from(EFFORTS)),
    st.builds(Level, kind=st.sampled_from(["thinking", "force", "extend"]), amount=st.integers(1, 10**6)),
)
NOTE = st.builds(
    Note,
    id=ANY_TEXT,
    text=ANY_TEXT,
    kind=st.sampled_from(NOTE_KINDS),
    question=st.none() | ANY_TEXT,
    evidence=st.lists(st.builds(Span, section=ANY_TEXT, start=COUNT, end=COUNT), max_size=3).map(tuple),
    status=st.sampled_from(get_args(NoteStatus)),
    sample=st.integers(0, 99),
)
NOTES = st.lists(NOTE, max_size=4).map(tuple)


@given(ANY_TEXT)
def test_escaped_text_is_what_every_database_takes_and_comes_back(text: str) -> None:
    stored = escaped(text)

    assert "\x00" not in stored
    assert stored.encode("utf-8").decode("utf-8") == stored
    assert unescaped(stored) == text


@given(st.text(st.characters(exclude_characters="\x00\ufdd0", exclude_categories=["Cs"])))
def test_ordinary_text_is_stored_as_it_is(text: str) -> None:
    assert escaped(text) == text


@given(
    st.builds(
        Draft,
        notes=NOTES,
        notes_made=COUNT,
        rounds=COUNT,
        failed_rounds=COUNT,
        failed_in_a_row=COUNT,
        is_done=st.booleans(),
        is_settled=st.booleans(),
        usage=USAGE,
        cost_usd=COST,
        remarks=st.lists(ANY_TEXT, max_size=3).map(tuple),
        sample=st.integers(0, 99),
        changed=st.lists(st.floats(0.0, 1.0), max_size=4).map(tuple),
    )
)
def test_a_draft_comes_back_from_json(draft: Draft) -> None:
    written = rows.draft_json(draft)

    assert written.isascii()
    assert "\x00" not in written
    assert rows.draft_of(written) == draft


def test_a_draft_written_before_a_field_was_there_takes_its_default() -> None:
    written = json.loads(rows.draft_json(Draft(rounds=2)))
    del written["failed_in_a_row"], written["changed"]

    assert rows.draft_of(json.dumps(written)) == Draft(rounds=2)


@given(
    st.builds(
        LearnedContext,
        context_id=ANY_TEXT,
        context_fingerprint=ANY_TEXT,
        notes=NOTES,
        strategy=ANY_TEXT,
        model=ANY_TEXT,
        prompt_fingerprint=ANY_TEXT,
        usage=USAGE,
        cost_usd=COST,
        stop_reasons=st.lists(st.sampled_from(get_args(StopReason)), max_size=3).map(tuple),
        rounds=COUNT,
        created_at=TIME,
        failed_rounds=COUNT,
        samples=COUNT,
        version=COUNT,
        sections=st.lists(ANY_TEXT, max_size=3).map(tuple),
        plan=st.none() | ANY_TEXT,
        based_on=st.none() | COUNT,
        rolled_back_from=st.none() | COUNT,
    )
)
def test_a_version_comes_back_from_its_rows(learned: LearnedContext) -> None:
    assert rows.learned_of(rows.learned_row(learned), rows.note_rows(learned)) == learned


@given(
    st.builds(
        Call,
        id=ANY_TEXT,
        at=TIME,
        phase=st.sampled_from(Phase),
        model=ANY_TEXT,
        usage=USAGE,
        cost_usd=COST,
        latency_s=st.floats(0, 1e6),
        outcome=ANY_TEXT,
        price_card=st.none() | ANY_TEXT,
        context_id=st.none() | ANY_TEXT,
        version=st.none() | COUNT,
        work_id=st.none() | ANY_TEXT,
        sees=st.none() | st.sampled_from(SEES),
        level=st.none() | LEVEL.map(str),
        request_id=st.none() | ANY_TEXT,
    )
)
def test_a_call_comes_back_from_its_row(call: Call) -> None:
    assert rows.call_of(rows.call_row(call)) == call


@given(
    st.builds(
        Answer,
        text=ANY_TEXT,
        query=st.builds(Query, question=ANY_TEXT, level=LEVEL, sees=st.sampled_from(SEES)),
        model=ANY_TEXT,
        usage=USAGE,
        cost_usd=COST,
        latency_s=st.floats(0, 1e6),
        finish_reason=st.sampled_from(get_args(FinishReason)),
        version=st.none() | COUNT,
        thinking=ANY_TEXT,
    )
)
def test_an_answer_comes_back_from_its_row(answer: Answer) -> None:
    assert rows.answer_of(rows.answer_row(answer)) == answer


@given(st.builds(Context, id=ANY_TEXT, name=ANY_TEXT, text=ANY_TEXT, created_at=TIME, source=ANY_TEXT))
def test_a_context_comes_back_from_its_row(context: Context) -> None:
    assert rows.context_of(rows.context_row(context)) == context


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="needs its zone"):
        UtcTime().process_bind_param(datetime(2026, 5, 4), sqlite.dialect())  # noqa: DTZ001  # the point of the test
