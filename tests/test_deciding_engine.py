"""The engine decides by itself: the usual texts are slept on where it pays, and `why` tells each."""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sleeptime import Budget, Engine, Plan, PriceCard
from sleeptime.core.errors import BudgetError, RequestRejectedError
from sleeptime.core.messages import Completion, Message, ToolCall
from sleeptime.core.usage import Usage
from sleeptime.core.watching import DOLLARS, TOKENS
from sleeptime.models.protocol import Options
from sleeptime.models.scripted import Script, ScriptedModel
from sleeptime.scheduler import Rules
from sleeptime.store import open_store

pytestmark = pytest.mark.anyio

MORNING = datetime(2026, 5, 4, 8, tzinfo=UTC)
FACT = re.compile(r"(Name\d+) keeps (\d+) boxes")
LINES = [f"Name{number} keeps {number} boxes of stuff, which nobody has counted since." for number in range(30)]
CARD = PriceCard(name="s*", dated=MORNING.date(), input_usd_per_mtok=1.0, output_usd_per_mtok=8.0)
LONG, SHORT = 600, 150


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = MORNING

    def __call__(self) -> datetime:
        return self.now

    def passes(self, **time: float) -> None:
        self.now += timedelta(**time)


def script(messages: Sequence[Message], options: Options) -> Completion:
    """Note every line that is shown and not noted; think long about a question without notes, briefly with them."""
    shown = "\n".join(message.content for message in messages)
    if not options.tools:
        spent = SHORT if re.search(r"Name\d+ has \d", shown) else LONG
        return Completion(text="1", usage=Usage(input_tokens=len(shown) // 4, output_tokens=spent), model="s")
    text = shown.partition("<context>\n")[2].partition("\n</context>")[0]
    new = [line for line in text.splitlines() if (found := FACT.match(line)) and f"{found[1]} has" not in shown]
    add = [
        {
            "kind": "anticipated",
            "question": f"How many boxes has {line.split()[0]}?",
            "text": f"{line.split()[0]} has {line.split()[2]}.",
            "evidence": [line],
        }
        for line in new
    ]
    usage = Usage(input_tokens=len(shown) // 4, output_tokens=40 * len(new) + 10)
    call = ToolCall(name="revise_notes", arguments={"add": add, "done": True})
    return Completion(text="", usage=usage, model="s", tool_calls=(call,))


@asynccontextmanager
async def opened(
    place: Path, clock: Clock, *, rules: Rules = Rules(), cards: Sequence[PriceCard] = (), answers: Script = script
) -> AsyncGenerator[tuple[Engine, ScriptedModel]]:
    model = ScriptedModel(answers, name="s")
    store = await open_store(place / "test.db")
    engine = Engine(store, model=model, cards=cards, rules=rules, environ={}, now=clock)
    yield engine, model
    await engine.aclose()


def text_of(lines: Sequence[str]) -> str:
    return "\n\n".join(lines) + "\n"


def slept(model: ScriptedModel) -> list[str]:
    return ["\n".join(message.content for message in call.messages) for call in model.calls if call.options.tools]


@pytest.mark.parametrize(("cards", "queries"), [((), 6), ((CARD,), 40)])
async def test_what_is_asked_about_often_is_slept_on_by_itself_and_a_one_off_never(
    tmp_path: Path, cards: tuple[PriceCard, ...], queries: int
) -> None:
    clock = Clock()
    async with opened(tmp_path, clock, cards=cards) as (engine, _):
        for name in ("busy", "once", "never"):
            await engine.add(text_of(LINES), name=name)
        assert await engine.sleep_where_it_pays() == []
        await engine.ask("once", "How many boxes are there?")
        acted = list(await engine.sleep_where_it_pays())
        for _ in range(queries):
            clock.passes(hours=5)
            await engine.ask("busy", "How many boxes has Name3?")
            acted += await engine.sleep_where_it_pays()
        clock.passes(days=10)
        acted += await engine.sleep_where_it_pays()

        assert [each.decision.prospect.name for each in acted] == ["busy"]
        assert {each.name: each.versions for each in await engine.contexts()} == {"busy": 1, "once": 0, "never": 0}
        last = (await engine.why("busy"))[0]
        assert last.reason in ("pays", "due")
        assert last.sentence.startswith("Sleep on busy: ")
        assert last.outcome == "version 1: 30 notes for 1,210 tokens (finished)"
        assert last.unit == (DOLLARS if cards else TOKENS)
        assert await engine.decide("busy") is None
        for name in ("once", "never"):
            why = await engine.why(name)
            decision = await engine.decide(name)
            assert [each.outcome for each in why] == [""] * len(why)
            assert why[-1].sentence.startswith("Wait with ")
            assert decision is not None
            assert not decision.is_sleep


async def test_an_edited_context_is_slept_on_only_where_it_changed(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as (engine, model):
        await engine.add(text_of(LINES), name="talk")
        await engine.sleep("talk")
        whole = await engine.store.watched((await engine.store.context("talk")).id)
        lines = [*LINES[:27], *(line.replace("boxes", "boxes (of late)") for line in LINES[27:])]
        await engine.update("talk", text_of(lines).replace(" (of late)", " lately"))
        edited = await engine.store.watched(whole.context_id)
        decision = await engine.decide("talk")
        acted = list(await engine.sleep_where_it_pays())
        asked = 0
        while not acted and asked < 60:
            asked += 1
            clock.passes(hours=5)
            await engine.ask("talk", "How many boxes has Name3?")
            acted += await engine.sleep_where_it_pays()

        assert whole.parts == ()
        assert 0.08 < edited.lacking < 0.12
        assert decision is not None
        assert decision.reason == "not-due"
        (only,) = acted
        assert only.learned is not None
        assert only.learned.based_on == 1
        assert len(only.learned.notes) == 30
        assert only.decision.prospect.saving < 0.12 * 10 * LONG
        assert only.decision.prospect.price < 0.12 * 2 * 3 * 900
        assert "Name29 keeps" in slept(model)[-1]
        assert "Name12 keeps" not in slept(model)[-1]
        assert (await engine.why("talk"))[0].outcome.startswith("version 2: 30 notes")


def thinning(messages: Sequence[Message], options: Options) -> Completion:
    """Never be done: each round writes a quarter of what the one before wrote."""
    if not options.tools:
        return script(messages, options)
    shown = "\n".join(message.content for message in messages)
    round_ = int(re.findall(r"This is round (\d+)", shown)[-1])
    count = max(1, 16 // 4 ** (round_ - 1))
    add = [{"kind": "inference", "text": f"Note {round_}.{n} of it.", "evidence": ["*"]} for n in range(count)]
    call = ToolCall(name="revise_notes", arguments={"add": add})
    return Completion(
        text="", usage=Usage(input_tokens=len(shown) // 4, output_tokens=200), model="s", tool_calls=(call,)
    )


async def busy(engine: Engine, clock: Clock, name: str, *, queries: int = 4) -> None:
    await engine.add(text_of(LINES), name=name)
    for _ in range(queries):
        clock.passes(hours=5)
        await engine.ask(name, "How many boxes are there?")


@pytest.mark.parametrize("cards", [(), (CARD,)])
async def test_a_decided_sleep_ends_where_another_round_does_not_pay_and_one_that_was_asked_for_does_not(
    tmp_path: Path, cards: tuple[PriceCard, ...]
) -> None:
    clock = Clock()
    async with opened(tmp_path, clock, cards=cards, answers=thinning) as (engine, model):
        for name in ("told", "decided"):
            await busy(engine, clock, name, queries=30 if cards else 4)
        told = await engine.sleep("told", Plan(budget=Budget(max_rounds=8)))
        calls = len(slept(model))
        (acted,) = await engine.sleep_where_it_pays()

        assert (told.stop_reason, told.rounds) == ("rounds", 8)
        assert acted.learned is not None
        assert acted.learned.stop_reason == "diminishing"
        assert 1 < acted.learned.rounds < 5
        assert len(slept(model)) == calls + acted.learned.rounds
        assert acted.outcome.endswith("(diminishing)")
        assert (await engine.why("decided"))[0].outcome == acted.outcome


async def test_a_decided_sleep_that_was_stopped_goes_on_to_the_same_round(tmp_path: Path) -> None:
    rounds: list[int] = []
    for place, stops_after in ((tmp_path / "whole", 0), (tmp_path / "stopped", 1)):
        clock, made = Clock(), 0

        def answers(
            messages: Sequence[Message], options: Options, *, stop: int = stops_after
        ) -> Completion | Exception:
            nonlocal made
            made += bool(options.tools)
            return (
                RequestRejectedError("s", 400, "no")
                if options.tools and made == stop + 1 > 1
                else thinning(messages, options)
            )

        async with opened(place, clock, answers=answers) as (engine, _):
            await busy(engine, clock, "decided")
            (decision,) = await engine.decisions()
            plan = replace(Plan(), worth=decision.worth)
            if stops_after:
                with pytest.raises(RequestRejectedError):
                    await engine.sleep("decided", plan)
            learned = await engine.sleep("decided", plan)
            assert learned.stop_reason == "diminishing"
            rounds.append(learned.rounds)

    assert rounds[0] == rounds[1] > 1


@pytest.mark.parametrize(
    ("queries", "most", "allowance", "expected"),
    [(4, 1, 50_000.0, 1), (4, 5, 50_000.0, 2), (14, 5, 50_000.0, 4), (14, 5, 12_000.0, 2)],
)
async def test_samples_are_taken_while_the_next_is_expected_to_pay_and_the_guard_has_room(
    tmp_path: Path, queries: int, most: int, allowance: float, expected: int
) -> None:
    clock = Clock()
    async with opened(tmp_path, clock, rules=Rules(allowance_tokens=allowance, max_regret=0.0)) as (engine, _):
        await busy(engine, clock, "talk", queries=queries)
        (acted,) = await engine.sleep_where_it_pays(Plan(samples=most))

        assert acted.learned is not None
        assert acted.learned.samples == expected
        assert acted.learned.usage.output_tokens <= acted.decision.prospect.price * expected


async def test_queries_that_notes_had_asked_are_counted_as_anticipated(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as (engine, _):
        context = await engine.add(text_of(LINES), name="talk")
        await engine.ask("talk", "How many boxes has Name3?")
        await engine.sleep("talk")
        await engine.ask("talk", "How many boxes has Name3?")
        await engine.ask("talk", "Who lent a ladder to whom?")
        watched = await engine.store.watched(context.id)

        assert (watched.seen.queries, watched.seen.talks) == (3, 1)
        assert (watched.arrived, watched.anticipated) == (2, 1)
        assert watched.without.answers == 1
        assert watched.assisted.answers == 2
        taught = await engine.store.taught()
        (account,) = (await engine.ledger()).accounts
        assert taught.portfolio(TOKENS).slept == account.sleep.output_tokens > 0
        assert taught.portfolio(TOKENS).without_sleep > taught.portfolio(TOKENS).saved > 0


async def test_a_decided_sleep_is_capped_at_its_price_and_all_together_at_the_users_caps(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as (engine, model):
        for number in range(6):
            await engine.add(text_of(LINES), name=f"c{number}")
            for _ in range(3):
                clock.passes(hours=5)
                await engine.ask(f"c{number}", "How many boxes are there?")
        wanted = await engine.decisions()
        acted = await engine.sleep_where_it_pays(Plan(budget=Budget(max_output_tokens=2500)))
        limited = await engine.sleep_where_it_pays(limit=1)

        assert len(wanted) == 6
        worth = [each.net_saving_per_token for each in wanted]
        assert worth == sorted(worth, reverse=True)
        assert [each.decision.prospect.name for each in acted] == [each.prospect.name for each in wanted[: len(acted)]]
        caps = [call.options.max_output_tokens for call in model.calls if call.options.tools]
        assert caps == [2500, 1290, 80, int(wanted[0].prospect.price)]
        assert len(limited) == 1


async def test_what_wants_a_sleep_is_found_behind_a_crowd_of_new_contexts_and_so_is_an_edited_one(
    tmp_path: Path,
) -> None:
    clock = Clock()
    async with opened(tmp_path, clock) as (engine, _):
        for name in ("busy", "edited"):
            await engine.add(text_of(LINES), name=name)
            for _ in range(3):
                clock.passes(hours=5)
                await engine.ask(name, "How many boxes are there?")
        for number in range(300):
            await engine.add(f"Shelf {number} is empty.", name=f"shelf {number}")
        await engine.update("edited", "A line of its own.", append=True)

        first = await engine.decisions(1)
        acted = await engine.sleep_where_it_pays()

        assert [each.prospect.name for each in first] == ["busy"]
        assert {each.decision.prospect.name for each in acted} == {"busy", "edited"}
        assert not any(each.decision == "" for each in await engine.contexts() if not each.versions)


async def test_the_guard_holds_back_what_may_not_be_risked_and_says_so(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock, rules=Rules(allowance_tokens=0.0, max_regret=0.0)) as (engine, model):
        await engine.add(text_of(LINES), name="busy")
        for _ in range(4):
            clock.passes(hours=5)
            await engine.ask("busy", "How many boxes has Name3?")
        held = await engine.decisions()
        acted = await engine.sleep_where_it_pays()

        assert [each.reason for each in held] == ["guard"]
        assert acted == []
        assert slept(model) == []
        assert (await engine.why("busy"))[0].sentence.startswith("Hold busy back: ")
        assert [each.decision for each in await engine.contexts()] == ["guard"]


async def test_a_sleep_that_fails_is_told_and_has_to_earn_its_next_try(tmp_path: Path) -> None:
    clock = Clock()

    def failing(messages: Sequence[Message], options: Options) -> Completion | str:
        return "I would rather not." if options.tools else script(messages, options)

    async with opened(tmp_path, clock, answers=failing) as (engine, _):
        await engine.add(text_of(LINES), name="busy")
        for _ in range(4):
            clock.passes(hours=5)
            await engine.ask("busy", "How many boxes has Name3?")
        (acted,) = await engine.sleep_where_it_pays()
        decision = await engine.decide("busy")

        assert acted.outcome.startswith("nothing learned (unreadable)")
        waits, tried, *_ = await engine.why("busy")
        assert (waits.reason, tried.outcome) == ("not-due", acted.outcome)
        assert decision is not None
        assert decision.prospect.queries_seen == 0


def test_rules_are_read_from_the_environment_and_nonsense_is_refused() -> None:
    rules = Rules.read({"SLEEPTIME_DOUBT": "0.5", "SLEEPTIME_ALLOWANCE": "3"})

    assert rules == Rules(doubt=0.5, allowance_usd=3.0, allowance_tokens=3.0)
    for environ in ({"SLEEPTIME_DOUBT": "2"}, {"SLEEPTIME_DOUBT": "nan"}, {"SLEEPTIME_MAX_REGRET": "much"}):
        with pytest.raises(BudgetError):
            Rules.read(environ)
