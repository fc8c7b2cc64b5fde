from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import pytest

from sleeptime import Budget, Engine, Level, Plan
from sleeptime.core.errors import (
    BudgetError,
    ContextNotFoundError,
    ContextTooLongError,
    EmptyContextError,
    ModelNotChosenError,
    NothingLearnedError,
    UpstreamError,
    VersionNotFoundError,
)
from sleeptime.core.ledger import Phase
from sleeptime.core.messages import Message
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.scripted import ScriptedModel

pytestmark = pytest.mark.anyio

BOXES = "Ana has 3 boxes. Ben has 2 more."
PLAIN = Abilities(tools=False)
PRICES = """
[[card]]
model = "scripted"
dated = 2026-11-01
input_usd_per_mtok = 1.0
output_usd_per_mtok = 1000.0
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "prices.toml").write_text(PRICES)
    return tmp_path


def opened(place: Path, model: ScriptedModel | None, *, prices: bool = True) -> AbstractAsyncContextManager[Engine]:
    return Engine.open(
        database=place / "test.db",
        model=model,
        prices=place / "prices.toml" if prices else None,
        worker=False,
        environ={"SLEEPTIME_HOME": str(place / "home")},
    )


@pytest.fixture
async def engine(place: Path) -> AsyncIterator[Engine]:
    model = ScriptedModel(
        ["<notes>Ben has 5.\ndone</notes>", "The answer is 5.", "First Ben: 3 + 2 = 5. The answer is 5."],
        abilities=PLAIN,
    )
    async with opened(place, model) as engine:
        yield engine


async def test_the_idea_from_end_to_end(engine: Engine) -> None:
    context = await engine.add(BOXES, name="boxes")
    learned = await engine.sleep("boxes")
    with_notes = await engine.ask("boxes", "How many has Ben?", level=Level.parse("0"))
    without = await engine.ask("boxes", "How many has Ben?", sees="context")

    assert learned.version == 1
    assert [note.text for note in learned.notes] == ["Ben has 5."]
    assert (with_notes.version, without.version) == (1, None)
    account = (await engine.ledger(test_price=10)).accounts[0]
    assert account.context_id == context.id
    assert account.tokens.sleep == learned.usage.output_tokens == 4
    assert (account.tokens.without_sleep, account.tokens.with_sleep) == (11, 4)
    assert account.tokens.queries == 4 / (10 * (11 - 4))
    assert account.saved_tokens == 1 * 10 * (11 - 4) - 4


async def test_every_call_is_a_row_and_the_rows_are_what_the_wire_saw(engine: Engine) -> None:
    await engine.add(BOXES, name="boxes")
    learned = await engine.sleep("boxes")
    answer = await engine.ask("boxes", "How many has Ben?")

    sleep, test = await engine.calls("boxes")

    assert (sleep.phase, sleep.usage, sleep.cost_usd) == (Phase.SLEEP, learned.usage, learned.cost_usd)
    assert (test.phase, test.usage, test.cost_usd) == (Phase.TEST, answer.usage, answer.cost_usd)
    assert (test.sees, test.level, test.version) == ("context+learned", "v3", 1)
    assert test.price_card == "scripted 2026-11-01"


async def test_what_is_kept_outlives_the_engine(place: Path) -> None:
    async with opened(place, ScriptedModel(["<notes>Ben has 5.\ndone</notes>"], abilities=PLAIN)) as engine:
        await engine.add(BOXES, name="boxes")
        await engine.sleep("boxes")
    async with opened(place, ScriptedModel(["The answer is 5."])) as engine:
        answer = await engine.ask("boxes", "How many has Ben?")

        assert answer.version == 1
        assert [summary.notes for summary in await engine.contexts()] == [1]


async def test_a_failed_call_is_a_row_too_and_a_retried_one_two(place: Path) -> None:
    model = ScriptedModel([UpstreamError("scripted", 500, retry_after_s=0.0), "The answer is 5."])
    async with opened(place, model) as engine:
        await engine.add(BOXES, name="boxes")
        await engine.ask("boxes", "How many has Ben?")

        assert [call.outcome for call in await engine.calls()] == ["UpstreamError", "ok"]
        assert (await engine.ledger()).total.queries == 1


async def test_a_sleep_that_fails_keeps_its_rounds_and_goes_on_without_paying_again(place: Path) -> None:
    plan = Plan(budget=Budget(max_rounds=5))
    first = ScriptedModel(
        ["<notes>Ben has 5.", *[UpstreamError("scripted", 500, retry_after_s=0.0)] * 4], abilities=PLAIN
    )
    async with opened(place, first) as engine:
        await engine.add(BOXES, name="boxes")
        with pytest.raises(UpstreamError):
            await engine.sleep("boxes", plan)
        partial = await engine.store.learned((await engine.store.context("boxes")).id)

        assert partial is not None
        assert (partial.version, partial.stop_reason) == (1, "interrupted")
        assert [note.text for note in partial.notes] == ["Ben has 5."]

    second = ScriptedModel(["<notes>They have 8.\ndone</notes>"], abilities=PLAIN)
    async with opened(place, second) as engine:
        learned = await engine.sleep("boxes", Plan(budget=Budget(max_rounds=4, max_output_tokens=1000)))

        assert len(second.calls) == 1
        assert [note.text for note in learned.notes] == ["Ben has 5.", "They have 8."]
        assert (learned.version, learned.stop_reason, learned.rounds) == (2, "finished", 2)


async def test_a_cancelled_sleep_publishes_every_round_that_was_paid_for(place: Path) -> None:
    rounds = 0

    def script(_messages: Sequence[Message], _options: Options) -> str:
        nonlocal rounds
        rounds += 1
        return f"<notes>fact {rounds}</notes>"

    async with opened(place, ScriptedModel(script, abilities=PLAIN)) as engine:
        await engine.add(BOXES, name="boxes")
        with anyio.CancelScope() as scope:
            await engine.sleep("boxes", on_draft=lambda draft: scope.cancel() if draft.rounds == 3 else None)

        learned = await engine.store.learned((await engine.store.context("boxes")).id)
        paid = len(await engine.calls())

    assert learned is not None
    assert paid == 3
    assert [note.text for note in learned.notes] == [f"fact {i + 1}" for i in range(paid)]
    assert learned.stop_reason == "interrupted"


async def test_another_plan_begins_anew(place: Path) -> None:
    model = ScriptedModel(["<notes>a\ndone", "<notes>b\ndone"], abilities=PLAIN)
    async with opened(place, model) as engine:
        await engine.add(BOXES, name="boxes")
        await engine.sleep("boxes")
        again = await engine.sleep("boxes", Plan(max_characters=100))

        assert again.version == 2
        assert [note.text for note in again.notes] == ["b"]


async def test_a_sleep_that_learned_nothing_publishes_nothing(place: Path) -> None:
    async with opened(place, ScriptedModel(["<notes>done</notes>"], abilities=PLAIN)) as engine:
        await engine.add(BOXES, name="boxes")
        learned = await engine.sleep("boxes")

        assert learned.version == 0
        assert (await engine.contexts())[0].versions == 0
        with pytest.raises(NothingLearnedError):
            await engine.ask("boxes", "?", sees="learned")


async def test_answers_can_be_shown_an_older_version_or_another_contexts_notes(place: Path) -> None:
    model = ScriptedModel(["<notes>old\ndone", "<notes>new\ndone", "x", "x"], abilities=PLAIN)
    async with opened(place, model) as engine:
        await engine.add(BOXES, name="boxes")
        old = await engine.sleep("boxes")
        await engine.sleep("boxes", again=True)
        await engine.ask("boxes", "?", version=1)
        await engine.ask("boxes", "?", learned=old, sees="learned")

        assert "old" in model.calls[2].messages[0].content
        assert "new" not in model.calls[2].messages[0].content
        with pytest.raises(VersionNotFoundError, match="no version 7"):
            await engine.ask("boxes", "?", version=7)


async def test_a_money_cap_needs_a_price(place: Path) -> None:
    async with opened(place, ScriptedModel(["x"]), prices=False) as engine:
        await engine.add(BOXES, name="boxes")
        with pytest.raises(BudgetError, match="none is known for scripted"):
            await engine.sleep("boxes", Plan(budget=Budget(max_cost_usd=1)))


async def test_a_context_too_long_leaves_nothing_behind(place: Path) -> None:
    model = ScriptedModel(["<notes>a\ndone"], abilities=Abilities(tools=False, context_window=20))
    async with opened(place, model) as engine:
        await engine.add(BOXES, name="boxes")
        with pytest.raises(ContextTooLongError):
            await engine.sleep("boxes")
        with pytest.raises(ContextTooLongError):
            await engine.ask("boxes", "?")

        assert await engine.calls() == []


async def test_a_provider_that_finds_the_notes_too_long_ends_the_sleep_and_they_stay(place: Path) -> None:
    too_long = ContextTooLongError(model="scripted", tokens=90, reserve=16, window=100, exact=True)
    model = ScriptedModel(["<notes>Ben has 5.</notes>", too_long], abilities=PLAIN)
    async with opened(place, model) as engine:
        await engine.add(BOXES, name="boxes")
        learned = await engine.sleep("boxes")

        assert (learned.version, learned.stop_reason) == (1, "window")
        assert [note.text for note in learned.notes] == ["Ben has 5."]


async def test_a_forecast_spends_nothing_and_bounds_the_bill(place: Path) -> None:
    model = ScriptedModel(["<notes>Ben has 5.\ndone</notes>"], abilities=PLAIN)
    plan = Plan(budget=Budget(max_rounds=3, max_output_tokens=100))
    async with opened(place, model) as engine:
        await engine.add(BOXES, name="boxes")
        forecast = await engine.forecast("boxes", plan)

        assert model.calls == []
        learned = await engine.sleep("boxes", plan)
        assert forecast.cost_usd is not None
        assert learned.cost_usd is not None
        assert learned.cost_usd <= forecast.cost_usd
        assert forecast.most_output_tokens == 100
        assert forecast.input_tokens == learned.usage.input_tokens


async def test_forgetting_keeps_the_ledger(engine: Engine) -> None:
    await engine.add(BOXES, name="boxes")
    await engine.sleep("boxes")
    await engine.forget("boxes")

    assert await engine.contexts() == []
    with pytest.raises(ContextNotFoundError):
        await engine.ask("boxes", "?")
    kept = await engine.ledger()
    assert kept.total.sleep.output_tokens == 4
    assert "(forgotten)" in kept.accounts[0].name


async def test_empty_texts_and_missing_models_are_refused(place: Path) -> None:
    async with opened(place, None) as engine:
        with pytest.raises(EmptyContextError):
            await engine.add(" \n", name="empty")
        await engine.add(BOXES, name="boxes")
        with pytest.raises(ModelNotChosenError):
            await engine.ask("boxes", "?")
