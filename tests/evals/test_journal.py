"""The journal: nothing is paid for twice, nothing is made that the cap cannot pay for, nothing lost is forgotten."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import date
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleeptime.core.errors import (
    ContextTooLongError,
    EndpointUnreachableError,
    MalformedReplyError,
    RateLimitedError,
    RequestRejectedError,
)
from sleeptime.core.messages import Completion, Message, Tool
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.evals.runs.journal import CapReachedError, Journal, Journaled, JournalError, connect
from sleeptime.models import ScriptedModel
from sleeptime.models.protocol import Abilities, Options

pytestmark = pytest.mark.anyio

PRICE = PriceCard(name="m", dated=date(2026, 11, 1), input_usd_per_mtok=0.0, output_usd_per_mtok=1e5)
"""A tenth of a dollar for each word of a reply."""
ASKED = [Message("user", "go on")]
TIMEOUT_S = 30


class Slow(ScriptedModel):
    """Lets others run before it replies, and knows how many it served at a time."""

    under_way = 0
    most_under_way = 0

    async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await anyio.sleep(0.002)
            return await super().generate(messages, options)
        finally:
            self.under_way -= 1


def opened(path: Path, cap: float | None = None) -> Journal:
    return Journal(connect(path / "calls.db"), max_cost_usd=cap)


def words(most: int, seed: int | None = None) -> Options:
    return Options(max_output_tokens=most, seed=seed)


async def test_a_call_is_paid_for_once_also_by_the_next_process(tmp_path: Path) -> None:
    model = ScriptedModel(["one two"])
    first = Journaled(model, opened(tmp_path), PRICE)
    said = await first.generate(ASKED, words(5))

    journal = opened(tmp_path)
    second = Journaled(model, journal, PRICE)

    assert await second.generate(ASKED, words(5)) == said
    assert len(model.calls) == 1
    assert second.usages == first.usages == [said.usage]
    assert journal.paid_calls == 1
    assert journal.spent_usd == pytest.approx(0.2)


async def test_equal_calls_of_one_piece_of_work_are_two_and_are_said_again_in_order(tmp_path: Path) -> None:
    model = ScriptedModel(["one", "two"])
    for _ in range(2):
        work = Journaled(model, opened(tmp_path), None)
        assert [(await work.generate(ASKED, words(5))).text for _ in range(2)] == ["one", "two"]

    assert len(model.calls) == 2


async def test_equal_calls_in_flight_wait_for_the_first(tmp_path: Path) -> None:
    model, journal = Slow(["one"]), opened(tmp_path)

    async def ask() -> None:
        assert (await Journaled(model, journal, None).generate(ASKED, words(5))).text == "one"

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(ask)

    assert len(model.calls) == 1


async def test_calls_that_differ_do_not_wait_for_each_other(tmp_path: Path) -> None:
    model, journal = Slow(lambda _messages, _options: "one"), opened(tmp_path)
    async with anyio.create_task_group() as group:
        for seed in range(10):
            group.start_soon(Journaled(model, journal, None).generate, ASKED, words(5, seed))

    assert model.most_under_way == 10


TOOL = Tool(name="t", description="", parameters={"type": "object"})


@pytest.mark.parametrize(
    "other",
    [
        words(5, seed=1),
        words(6),
        Options(max_output_tokens=5, temperature=0.1),
        Options(max_output_tokens=5, effort="low"),
        Options(max_output_tokens=5, thinking_tokens=1),
        Options(max_output_tokens=5, stop=("x",)),
        Options(max_output_tokens=5, tools=(TOOL,)),
    ],
)
async def test_a_call_with_another_option_is_another_call(tmp_path: Path, other: Options) -> None:
    model, journal = ScriptedModel(["one", "two"]), opened(tmp_path)
    await Journaled(model, journal, None).generate(ASKED, words(5))

    assert (await Journaled(model, journal, None).generate(ASKED, other)).text == "two"


async def test_another_model_another_prompt_and_a_prefix_are_other_calls(tmp_path: Path) -> None:
    model = ScriptedModel(["one", "two", "three", "four"], abilities=Abilities(completes=True))
    other = ScriptedModel(["five"], name="other")
    journal = opened(tmp_path)

    said = [
        await Journaled(model, journal, None).generate(ASKED, words(5)),
        await Journaled(model, journal, None).generate([Message("system", "go on")], words(5)),
        await Journaled(model, journal, None).complete(ASKED, words(5), prefix=""),
        await Journaled(model, journal, None).complete(ASKED, words(5), prefix="a"),
        await Journaled(other, journal, None).generate(ASKED, words(5)),
    ]

    assert [each.text for each in said] == ["one", "two", "three", "four", "five"]


async def test_what_listens_to_a_reply_is_no_part_of_the_call(tmp_path: Path) -> None:
    model, journal, heard = ScriptedModel(["one two"]), opened(tmp_path), list[str]()
    listening = Options(max_output_tokens=5, on_text=heard.append)
    await Journaled(model, journal, None).generate(ASKED, listening)

    await Journaled(model, journal, None).generate(ASKED, words(5))

    assert "".join(heard) == "one two"
    assert len(model.calls) == 1


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=30), cap=st.integers(0, 40)
)
def test_the_cap_holds_whatever_runs_at_the_same_time(tokens: list[tuple[int, int]], cap: int) -> None:
    async def spend() -> None:
        said = iter([" ".join("x" * written) for _, written in tokens])
        model = Slow(lambda _messages, _options: next(said))
        with closing(connect(Path(":memory:"))) as connection:
            journal = Journal(connection, max_cost_usd=cap / 10)
            refused = list[CapReachedError]()

            async def ask(seed: int, most: int) -> None:
                try:
                    await Journaled(model, journal, PRICE).generate(ASKED, words(most, seed))
                except CapReachedError as error:
                    refused.append(error)

            async with anyio.create_task_group() as group:
                for seed, (most, _) in enumerate(tokens):
                    group.start_soon(ask, seed, most)

            assert journal.spent_usd is not None
            assert journal.spent_usd <= cap / 10 + 1e-9
            assert len(model.calls) + len(refused) == len(tokens)
            assert len(model.calls) == journal.paid_calls
            if sum(most for most, _ in tokens) < cap:
                assert not refused

    anyio.run(spend)


async def test_a_call_that_would_just_fit_is_made_and_one_a_token_longer_is_not(tmp_path: Path) -> None:
    journal = opened(tmp_path, cap=0.5)
    model = ScriptedModel(["a b c d e", "never"])

    with pytest.raises(CapReachedError, match=r"cap of 0.50 USD leaves no room for a call of up to 0.6000 USD"):
        await Journaled(model, journal, PRICE).generate(ASKED, words(6))
    await Journaled(model, journal, PRICE).generate(ASKED, words(5))

    assert journal.spent_usd == pytest.approx(0.5)
    assert len(model.calls) == 1


async def test_what_is_kept_is_said_again_although_the_cap_is_reached(tmp_path: Path) -> None:
    model = ScriptedModel(["a b c d e"])
    await Journaled(model, opened(tmp_path), PRICE).generate(ASKED, words(5))

    again = await Journaled(model, opened(tmp_path, cap=0.1), PRICE).generate(ASKED, words(5))

    assert again.text == "a b c d e"


KILLED = """
import signal, sys, os
from pathlib import Path
import anyio
from datetime import date
from sleeptime.core.messages import Message
from sleeptime.core.usage import PriceCard
from sleeptime.evals.runs.journal import Journal, Journaled, connect
from sleeptime.models import ScriptedModel
from sleeptime.models.protocol import Options

def dying(messages, options):
    os.kill(os.getpid(), signal.SIGKILL)

price = PriceCard(name="m", dated=date(2026, 11, 1), input_usd_per_mtok=0.0, output_usd_per_mtok=1e5)
journal = Journal(connect(Path(sys.argv[1])), max_cost_usd=1.0)
work = Journaled(ScriptedModel(["one two", dying]), journal, None if sys.argv[2] == "unknown" else price)
asked = [Message("user", "go on")]
anyio.run(work.generate, asked, Options(max_output_tokens=5))
anyio.run(work.generate, asked, Options(max_output_tokens=7))
"""


@pytest.mark.parametrize(("price", "spent"), [("known", 0.2 + 0.7), ("unknown", None)])
def test_what_was_set_aside_by_a_process_that_was_killed_stays_counted(
    tmp_path: Path, price: str, spent: float | None
) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(tmp_path / "calls.db"), price]

    done = subprocess.run(command, timeout=TIMEOUT_S, check=False, capture_output=True, text=True)

    assert done.returncode == -signal.SIGKILL, done.stderr
    journal = opened(tmp_path, cap=1.0)
    assert journal.spent_usd == (None if spent is None else pytest.approx(spent))
    assert journal.paid_calls == 1
    if spent is not None:
        with pytest.raises(CapReachedError):
            journal.begin("next", 0.11)
        journal.begin("next", 0.09)


@pytest.mark.parametrize(
    ("error", "spent"),
    [
        (MalformedReplyError("m", "cut off"), 0.5),
        (EndpointUnreachableError("m", "no reply in time", was_sent=True), 0.5),
        (EndpointUnreachableError("m", "refused"), 0.0),
        (RateLimitedError("m"), 0.0),
        (RequestRejectedError("m", 400, "no"), 0.0),
        (ContextTooLongError(model="m", tokens=9, reserve=1, window=5, exact=True), 0.0),
        (ZeroDivisionError("ours"), 0.5),
    ],
)
@pytest.mark.parametrize("cap", [None, 3.0])
async def test_only_what_was_surely_not_billed_is_given_back(
    tmp_path: Path, error: Exception, spent: float, cap: float | None
) -> None:
    journal = opened(tmp_path, cap)

    with pytest.raises(type(error)):
        await Journaled(ScriptedModel([error]), journal, PRICE).generate(ASKED, words(5))

    assert journal.spent_usd == pytest.approx(spent)
    assert opened(tmp_path).spent_usd == pytest.approx(spent)
    assert journal.paid_calls == 0


async def test_a_call_that_is_cancelled_may_have_been_billed(tmp_path: Path) -> None:
    scope = anyio.CancelScope()

    class Cancelled(ScriptedModel):
        async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
            scope.cancel()
            await anyio.lowlevel.checkpoint()
            return await super().generate(messages, options)

    with scope:
        await Journaled(Cancelled(["one"]), opened(tmp_path), PRICE).generate(ASKED, words(5))

    assert opened(tmp_path).spent_usd == pytest.approx(0.5)


async def test_an_unknown_price_is_never_nothing(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    assert journal.spent_usd == 0.0

    await Journaled(ScriptedModel(["one"]), journal, None).generate(ASKED, words(5))

    assert journal.spent_usd is None
    assert opened(tmp_path).spent_usd is None


async def test_an_unknown_price_of_a_call_that_was_lost_is_never_nothing_either(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    model = ScriptedModel([RateLimitedError("m"), MalformedReplyError("m", "cut off")])
    with pytest.raises(RateLimitedError):
        await Journaled(model, journal, None).generate(ASKED, words(5))
    assert journal.spent_usd == 0.0

    with pytest.raises(MalformedReplyError):
        await Journaled(model, journal, None).generate(ASKED, words(5))

    assert journal.spent_usd is None
    assert opened(tmp_path).spent_usd is None


async def test_a_log_probability_is_measured_once_whatever_the_cap(tmp_path: Path) -> None:
    class Counting(ScriptedModel):
        measured = 0

        async def count_tokens(self, *_: object, **__: object) -> None:  # type: ignore[override]
            raise AssertionError("nothing is counted, for nothing is capped")

    model = Counting([], abilities=Abilities(log_probs=True))
    first = await Journaled(model, opened(tmp_path, cap=0.0), PRICE).log_prob("go away", given=ASKED)
    blind = ScriptedModel([])

    again = await Journaled(blind, opened(tmp_path), PRICE).log_prob("go away", given=ASKED)

    assert again == first
    assert first.usage == Usage(input_tokens=4)
    assert opened(tmp_path).spent_usd == 0.0  # it was measured on this machine, whatever the model that answers costs


async def test_a_kept_call_is_not_even_counted(tmp_path: Path) -> None:
    await Journaled(ScriptedModel(["one"]), opened(tmp_path), PRICE).generate(ASKED, words(5))

    class Gone(ScriptedModel):
        async def count_tokens(self, *_: object, **__: object) -> None:  # type: ignore[override]
            raise EndpointUnreachableError("m", "refused")

    again = await Journaled(Gone([]), opened(tmp_path, cap=1.0), PRICE).generate(ASKED, words(5))

    assert again.text == "one"


@pytest.mark.parametrize(
    "content", [b"this is no database at all, whatever its name may say" * 100, b"SQLite format 3\0"]
)
def test_a_file_that_is_none_of_a_run_is_told_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "calls.db"
    path.write_bytes(content)

    with pytest.raises(JournalError, match=r"calls.db cannot be used as the file of a run: .*Restore a copy"):
        Journal(connect(path))


def test_a_folder_that_is_not_there_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be used"):
        connect(tmp_path / "nowhere" / "calls.db")
