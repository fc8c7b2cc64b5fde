from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleeptime.answerer import Answerer
from sleeptime.core.budget import Budget, Level
from sleeptime.core.context import Context
from sleeptime.core.errors import BudgetError, InputError, NotSupportedError
from sleeptime.core.messages import LogProb, Message
from sleeptime.core.notes import LearnedContext, Note
from sleeptime.core.query import SEES, Query, Sees
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.models.protocol import Abilities
from sleeptime.models.scripted import ScriptedModel

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 1, tzinfo=UTC)
BOXES = Context(id="c1", name="boxes", text="Ana has 3 boxes. Ben has 2 more.", created_at=NOW)
LEARNED = LearnedContext(
    context_id="c1",
    context_fingerprint=BOXES.fingerprint,
    notes=(Note(id="n1", text="Ben has 5."), Note(id="n2", text="Cleo has 9.", status="quarantined")),
    strategy="notes",
    model="scripted",
    prompt_fingerprint="",
    usage=Usage(),
    cost_usd=None,
    stop_reasons=("finished",),
    rounds=1,
    created_at=NOW,
    version=3,
)


def answerer(model: ScriptedModel, price: PriceCard | None = None) -> Answerer:
    return Answerer(model, price, clock_s=lambda: 0.0)


@pytest.mark.parametrize(
    ("sees", "shows_context", "shows_notes"),
    [("learned", False, True), ("context+learned", True, True), ("context", True, False)],
)
async def test_an_answer_sees_what_it_should_and_never_a_quarantined_note(
    sees: Sees, shows_context: bool, shows_notes: bool
) -> None:
    model = ScriptedModel(["The answer is 5."])

    answer = await answerer(model).answer(Query(question="How many?", sees=sees), BOXES, LEARNED)

    shown = "\n".join(message.content for message in model.calls[0].messages)
    assert (BOXES.text in shown) == shows_context
    assert ("Ben has 5." in shown) == shows_notes
    assert "Cleo" not in shown
    assert answer.version == (3 if shows_notes else None)


async def test_the_baseline_is_not_told_of_notes_it_does_not_have() -> None:
    model = ScriptedModel(lambda _m, _o: "x")
    for amount in range(5):
        await answerer(model).answer(
            Query(question="How many?", sees="context", level=Level(amount=amount)), BOXES, None
        )

    assert not any("notes" in message.content for call in model.calls for message in call.messages)


@given(
    first=st.text(min_size=1),
    second=st.text(min_size=1),
    levels=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    sees=st.sampled_from(SEES),
    prompt_set=st.sampled_from(["default", "tiny"]),
    text=st.text(min_size=1),
)
def test_everything_before_the_query_is_the_same_bytes(
    first: str, second: str, levels: tuple[int, int], sees: Sees, prompt_set: str, text: str
) -> None:
    worker = answerer(ScriptedModel([], abilities=Abilities(prompt_set=prompt_set)))
    context = Context(id="c1", name="x", text=text, created_at=NOW)
    learned = replace(LEARNED, context_fingerprint=context.fingerprint)

    def laid_out(question: str, amount: int) -> str:
        query = Query(question=question, level=Level(amount=amount), sees=sees)
        return "".join(f"<{m.role}>{m.content}" for m in worker.messages(query, context, learned))

    one, other = laid_out(first, levels[0]), laid_out(second, levels[1])
    prefix = one[: one.rindex(first + ("\n\n" if prompt_set == "default" else " "))]
    assert other.startswith(prefix)
    assert "Ben has 5." in prefix or sees == "context"
    assert text.rstrip("\n") in prefix or sees == "learned"


async def test_the_newline_that_ends_a_file_is_not_shown() -> None:
    model = ScriptedModel(["x"], abilities=Abilities(prompt_set="tiny"))
    context = Context(id="c1", name="x", text="sheet\nA1= 5\n", created_at=NOW)

    await answerer(model).answer(Query(question="What does A1 show?", sees="context"), context, None)

    assert model.calls[0].messages[0].content == "sheet\nA1= 5\nWhat does A1 show? /0"


async def test_achieved_tokens_are_recorded_and_never_the_requested_ones() -> None:
    model = ScriptedModel(["one two three"])

    answer = await answerer(model).answer(
        Query(question="?", sees="context"), BOXES, None, budget=Budget(max_output_tokens=100)
    )

    assert answer.usage.output_tokens == 3
    assert model.calls[0].options.max_output_tokens == 100


async def test_levels_turn_the_models_own_dials() -> None:
    model = ScriptedModel(lambda _m, _o: "x")
    for level in ("low", "think:2048", "2"):
        await answerer(model).answer(Query(question="?", sees="context", level=Level.parse(level)), BOXES, None)

    low, think, two = (call.options for call in model.calls)
    assert (low.effort, low.thinking_tokens, low.temperature) == ("low", None, None)
    assert (think.effort, think.thinking_tokens) == (None, 2048)
    assert think.max_output_tokens > two.max_output_tokens + 2000
    assert two.temperature == 0.0


async def test_forcing_cuts_the_thinking_off_and_makes_an_answer() -> None:
    model = ScriptedModel(["a b c d e f g h", "5."], abilities=Abilities(completes=True))

    answer = await answerer(model).answer(
        Query(question="?", sees="context", level=Level.parse("force:3")), BOXES, None
    )

    assert model.calls[1].prefix == "<think>\na b c\n</think>\n\nThe answer is"
    assert answer.text == "The answer is5."
    assert answer.thinking == "a b c"
    assert answer.usage.reasoning_tokens == 3
    assert answer.usage.output_tokens == 4


async def test_extending_makes_thinking_that_ended_too_soon_go_on() -> None:
    model = ScriptedModel(["a b", "c d", "e f g", "5."], abilities=Abilities(completes=True))

    answer = await answerer(model).answer(
        Query(question="?", sees="context", level=Level.parse("extend:6")), BOXES, None
    )

    assert model.calls[1].prefix == "<think>\na b\nWait,"
    assert model.calls[2].options.max_output_tokens == 2
    assert answer.usage.reasoning_tokens == 6


async def test_forcing_leaves_room_for_the_answer_within_the_caps() -> None:
    model = ScriptedModel(lambda _m, _o: "word " * 500, abilities=Abilities(completes=True, context_window=400))
    query = Query(question="?", sees="context", level=Level.parse("force:256"))

    capped = await answerer(model).answer(query, BOXES, None, budget=Budget(max_output_tokens=100))

    assert capped.usage.output_tokens == 100
    assert model.calls[0].options.max_output_tokens == 50
    shown = sum(len(message.content.split()) for message in model.calls[0].messages)
    await answerer(model).answer(query, BOXES, None)
    *_, thinking, forced = model.calls
    assert thinking.options.max_output_tokens + forced.options.max_output_tokens + shown <= 400


async def test_extending_a_silent_model_ends() -> None:
    model = ScriptedModel(lambda _m, _o: "", abilities=Abilities(completes=True))

    await answerer(model).answer(Query(question="?", sees="context", level=Level.parse("extend:99")), BOXES, None)

    assert len(model.calls) <= 10


async def test_forcing_says_what_it_needs() -> None:
    query = Query(question="?", sees="context", level=Level.parse("force:3"))

    with pytest.raises(NotSupportedError, match="raw completions"):
        await answerer(ScriptedModel([])).answer(query, BOXES, None)
    with pytest.raises(BudgetError, match="no forced thinking"):
        await answerer(ScriptedModel([], abilities=Abilities(completes=True, prompt_set="tiny"))).answer(
            query, BOXES, None
        )


async def test_a_money_cap_that_leaves_no_token_is_told_before_the_call() -> None:
    card = PriceCard(name="card", dated=date(2026, 11, 1), input_usd_per_mtok=1e5, output_usd_per_mtok=1e5)
    model = ScriptedModel(["x"])

    with pytest.raises(BudgetError, match="leaves no token"):
        await answerer(model, card).answer(
            Query(question="?", sees="context"), BOXES, None, budget=Budget(max_cost_usd=0.5)
        )
    assert model.calls == []


async def test_notes_that_are_asked_for_must_exist() -> None:
    with pytest.raises(InputError, match="needs a learned context"):
        await answerer(ScriptedModel(["x"])).answer(Query(question="?", sees="learned"), BOXES, None)


async def test_the_log_probability_is_that_of_the_question_alone() -> None:
    seen: list[tuple[str, str]] = []

    class Listening(ScriptedModel):
        async def log_prob(self, query: str, *, given: Sequence[Message]) -> LogProb:
            seen.append((given[-1].content, query))
            return await super().log_prob(query, given=given)

    model = Listening([], abilities=Abilities(log_probs=True, prompt_set="tiny"))
    result = await answerer(model).log_prob(Query(question="What does C4 show?", sees="context"), BOXES, None)

    assert seen == [(BOXES.text, "\nWhat does C4 show?")]
    assert result.tokens == 4


async def test_streamed_pieces_are_the_answer() -> None:
    pieces: list[str] = []

    answer = await answerer(ScriptedModel(["The answer is 5."])).answer(
        Query(question="?", sees="context"), BOXES, None, on_text=pieces.append
    )

    assert "".join(pieces) == answer.text
