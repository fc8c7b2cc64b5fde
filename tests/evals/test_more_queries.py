"""Queries made by a writer of known quality: what is kept is right, and what is not says why."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import shelves
from hypothesis import given
from hypothesis import strategies as st
from shelves import GOOD, ORIGINAL, Minds, right, says, shelf, wrong

from sleeptime.core.budget import Level
from sleeptime.core.errors import AuthenticationError, InputError, RequestRejectedError
from sleeptime.core.messages import Completion, Message, ToolCall
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.evals.data.datasets import NO_TEXT, Sample
from sleeptime.evals.queries.checks import Asked
from sleeptime.evals.queries.more_queries import (
    LONGEST_QUESTION,
    MOST_ASKS,
    Made,
    Maker,
    Wish,
    agreement,
    checked,
    sources_of,
)
from sleeptime.evals.queries.written import UnreadableReplyError, Written, written_in
from sleeptime.evals.runs.journal import Journal, connect
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.scripted import ScriptedModel

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PRICE = PriceCard(name="p", dated=date(2026, 1, 1), input_usd_per_mtok=1.0, output_usd_per_mtok=10.0)


def samples(*numbers: int) -> list[Sample]:
    return [
        Sample(
            id=f"{number}/0",
            context_id=str(number),
            cluster=str(number),
            context=shelf(number).context,
            question=ORIGINAL,
            target=str(shelf(number).truth(ORIGINAL)),
        )
        for number in numbers
    ]


def journal(folder: Path, cap: float | None = None) -> Journal:
    return Journal(connect(folder / "calls.db"), max_cost_usd=cap)


def maker(
    minds: Minds | ScriptedModel, folder: Path, *, wish: Wish, tools: bool = True, cap: float | None = None
) -> tuple[Maker, ScriptedModel]:
    model = minds if isinstance(minds, ScriptedModel) else ScriptedModel(minds.reply, abilities=Abilities(tools=tools))
    made = Maker(
        model,
        model,
        journal(folder, cap),
        wish=wish,
        writer_price=PRICE if cap is not None else None,
        solver_price=PRICE if cap is not None else None,
        connections=3,
        clock_s=lambda: 0.0,
        now=lambda: NOW,
    )
    return made, model


async def make(minds: Minds, folder: Path, *, wish: Wish, tools: bool = True) -> tuple[Made, ScriptedModel]:
    one, model = maker(minds, folder, wish=wish, tools=tools)
    return await one.make(sources_of(samples(1))[0]), model


def reasons(made: Made) -> Counter[str]:
    return Counter(drop.reason for drop in made.dropped)


def solved(model: ScriptedModel) -> list[str]:
    prompts = ["\n".join(message.content for message in call.messages) for call in model.calls]
    return [prompt for prompt in prompts if shelves.WRITES not in prompt]


@pytest.mark.parametrize("tools", [True, False])
async def test_right_queries_are_kept_with_the_answer_that_two_runs_gave(tmp_path: Path, *, tools: bool) -> None:
    made, model = await make(Minds([right(q) for q in GOOD[:4]]), tmp_path, wish=Wish(queries=4), tools=tools)

    assert [(kept.question, kept.answer) for kept in made.kept] == [(q, str(shelf(1).truth(q))) for q in GOOD[:4]]
    assert {(kept.agreed, kept.runs) for kept in made.kept} == {(2, 2)}
    assert made.dropped == ()
    assert (made.asks, made.error) == (1, "")
    assert len(model.calls) == 1 + 2 * 4


async def test_every_kind_of_bad_query_is_dropped_for_its_own_reason(tmp_path: Path) -> None:
    script = [
        right(GOOD[0]),
        wrong(GOOD[1]),
        right(GOOD[2]),
        says("Of the {books} books, how many are red?", "31"),
        says("What do all the blue books cost, in dollars?", str(shelf(1).truth(GOOD[2]))),
        says(ORIGINAL, "5"),
        says("What do the red books cost at half their price, if 7 are sold?", "12"),
        says("What colour are most books?", "red"),
        says("", "12"),
        says("How long is the shelf in feet?", "6"),
    ]
    errs = {"How long is the shelf in feet?": ("5", "7", "8")}

    made, _ = await make(Minds(script, errs=errs), tmp_path, wish=Wish(queries=10))

    assert [kept.question for kept in made.kept] == [GOOD[0], GOOD[2]]
    assert reasons(made) == {
        "writer disagrees": 1,
        "leak": 1,
        "duplicate": 2,
        "new fact": 1,
        "not a number": 1,
        "unreadable": 1,
        "solvers disagree": 1,
    }
    because = {drop.reason: drop.because for drop in made.dropped}
    assert because["leak"] == f"'53' is the answer to {GOOD[0]!r}"
    assert because["new fact"].endswith("half, 7")
    assert because["solvers disagree"] == "they say 5, 7"


async def test_a_wrong_answer_is_told_with_both_answers(tmp_path: Path) -> None:
    made, _ = await make(Minds([wrong(GOOD[0])]), tmp_path, wish=Wish(queries=1))

    truth = shelf(1).truth(GOOD[0])
    assert [drop.because for drop in made.dropped] == [f"the solver says {truth}, the writer {truth + 1}"]


async def test_no_solver_sees_the_writers_answer_or_another_query(tmp_path: Path) -> None:
    marked = says(GOOD[0], "987654321")

    made, model = await make(Minds([marked, right(GOOD[1])]), tmp_path, wish=Wish(queries=2))

    assert len(made.kept) == 1
    for prompt in solved(model):
        assert "987654321" not in prompt
        assert str(shelf(1).truth(ORIGINAL)) not in prompt
        assert sum(question in prompt for question in GOOD) == 1


async def test_runs_of_a_solver_are_draws_of_their_own_at_the_level_that_was_chosen(tmp_path: Path) -> None:
    wish = Wish(queries=1, level=Level(amount=4))

    _, model = await make(Minds([right(GOOD[0])]), tmp_path, wish=wish)

    runs = [call.options for call in model.calls[1:]]
    assert [options.seed for options in runs] == [0, 1]
    assert all(options.temperature and options.temperature > 0 for options in runs)
    assert all("write out every step" in prompt for prompt in solved(model))


@pytest.mark.parametrize(
    ("answers", "runs", "is_kept"),
    [
        (("51", "51", "9"), 2, True),
        (("9", "51", "51"), 3, True),
        (("51", "9", "51"), 3, True),
        (("51", "9", "8"), 3, False),
        (("unsure", "unsure", "51"), 2, False),
        (("unsure", "51", "51"), 3, True),
    ],
)
async def test_a_third_run_is_made_only_where_it_can_still_make_two_agree(
    tmp_path: Path, answers: tuple[str, str, str], runs: int, *, is_kept: bool
) -> None:
    question = "How many volumes are there?"
    minds = Minds([says(question, "51")], errs={question: answers})

    made, model = await make(minds, tmp_path, wish=Wish(queries=1, solvers=3))

    assert len(solved(model)) == runs
    assert [(kept.agreed, kept.answer) for kept in made.kept] == ([(2, "51")] if is_kept else [])


async def test_the_writer_is_asked_again_for_what_is_lacking_and_told_why(tmp_path: Path) -> None:
    script = [right(GOOD[0]), wrong(GOOD[1]), says(GOOD[0], "1"), right(GOOD[2]), right(GOOD[3])]

    made, model = await make(Minds(script, per_reply=3), tmp_path, wish=Wish(queries=3))

    asks = [call.messages[-1].content for call in model.calls if call.options.tools]
    assert [kept.question for kept in made.kept] == [GOOD[0], GOOD[2], GOOD[3]]
    assert made.asks == 2
    assert "with 3 more questions" in asks[0]
    assert "with 2 more questions" in asks[1]
    assert GOOD[1] in asks[1]
    assert "1 because it asks what is asked already" in asks[1]


async def test_a_later_reply_may_not_repeat_what_was_kept_from_an_earlier_one(tmp_path: Path) -> None:
    script = [right(GOOD[0]), wrong(GOOD[1]), right(GOOD[0]), right(GOOD[2])]

    made, _ = await make(Minds(script, per_reply=2), tmp_path, wish=Wish(queries=2))

    assert [kept.question for kept in made.kept] == [GOOD[0], GOOD[2]]
    assert reasons(made) == {"writer disagrees": 1, "duplicate": 1}


def test_a_query_whose_answer_an_earlier_one_states_is_a_leak_too() -> None:
    context = "Lena paints 12 tiles a day. A box takes 9 lids."
    earlier = Asked(question="Lena has 9 whole tiles painted by Friday. How many boxes does she need?", answer="1")
    told = Written(question="How many whole tiles has Lena painted by Friday?", answer="9")

    assert checked([told], context, earlier=[], refused=[])[1] == []
    (dropped,) = checked([told], context, earlier=[earlier], refused=[])[1]
    assert dropped.reason == "leak"
    assert earlier.question in dropped.because


async def test_asking_again_has_an_end(tmp_path: Path) -> None:
    made, model = await make(Minds([]), tmp_path, wish=Wish(queries=2))

    assert (made.asks, made.kept, made.error) == (MOST_ASKS, (), "")
    assert len(model.calls) == MOST_ASKS


async def test_what_was_written_beyond_the_wish_is_not_solved(tmp_path: Path) -> None:
    made, model = await make(Minds([right(q) for q in GOOD]), tmp_path, wish=Wish(queries=2))

    assert len(made.kept) == 2
    assert reasons(made) == {"surplus": len(GOOD) - 2}
    assert len(solved(model)) == 4


async def test_what_was_written_beyond_the_wish_stands_in_for_what_is_dropped(tmp_path: Path) -> None:
    made, model = await make(Minds([wrong(GOOD[0]), right(GOOD[1]), right(GOOD[2])]), tmp_path, wish=Wish(queries=2))

    assert [kept.question for kept in made.kept] == [GOOD[1], GOOD[2]]
    assert made.asks == 1
    assert len(model.calls) == 1 + 3 * 2


async def test_a_reply_that_cannot_be_read_is_asked_for_again_in_plain_text(tmp_path: Path) -> None:
    minds = Minds([right(GOOD[0])], first_words="I would rather not.")

    made, model = await make(minds, tmp_path, wish=Wish(queries=1))

    assert [kept.question for kept in made.kept] == [GOOD[0]]
    assert made.unreadable_replies == 1
    assert [bool(call.options.tools) for call in model.calls[:2]] == [True, False]
    assert "could not be read" in model.calls[1].messages[-1].content


async def test_a_solver_that_was_cut_off_gives_no_answer(tmp_path: Path) -> None:
    def reply(messages: Sequence[Message], options: Options) -> Completion | str:
        said = minds.reply(messages, options)
        if isinstance(said, Completion):
            return said
        return Completion(text=said, usage=Usage(output_tokens=9), model="m", finish_reason="length")

    minds = Minds([right(GOOD[0])])
    one, _ = maker(ScriptedModel(reply), tmp_path, wish=Wish(queries=1))

    made = await one.make(sources_of(samples(1))[0])

    assert [drop.because for drop in made.dropped] == ["they say unreadable"], "a second run could not make two agree"


async def test_a_failed_call_leaves_the_context_unfinished_and_drops_no_query(tmp_path: Path) -> None:
    def reply(messages: Sequence[Message], options: Options) -> Completion | str | Exception:
        if messages[-1].content.startswith(GOOD[1]):
            return RequestRejectedError("m", 400, "out of order")
        return minds.reply(messages, options)

    minds = Minds([right(GOOD[0]), right(GOOD[1]), right(GOOD[2])])
    one, _ = maker(ScriptedModel(reply), tmp_path, wish=Wish(queries=2))

    made = await one.make(sources_of(samples(1))[0])

    assert [kept.question for kept in made.kept] == [GOOD[0]]
    assert made.dropped == (), "what waits for a solver is not surplus"
    assert made.error.startswith("RequestRejectedError")
    assert not made.stops_all


async def test_the_same_work_again_says_the_same_and_asks_nobody(tmp_path: Path) -> None:
    wish, script = Wish(queries=3), [right(GOOD[0]), wrong(GOOD[1]), right(GOOD[2])]
    first, _ = await make(Minds(script), tmp_path, wish=wish)

    again, model = await make(Minds([]), tmp_path, wish=wish)

    assert again == first
    assert model.calls == []


async def test_the_cap_is_kept_and_what_was_made_before_it_too(tmp_path: Path) -> None:
    wish = Wish(queries=2)
    capped, model = maker(Minds([right(q) for q in GOOD]), tmp_path, wish=wish, cap=0.12)
    made: list[Made] = []

    await capped.make_all(sources_of(samples(*range(1, 40))), made.append)

    spent = Journal(connect(tmp_path / "calls.db")).spent_usd
    assert spent is not None
    assert 0 < spent <= 0.12
    assert any(each.kept and not each.error for each in made)
    assert any(each.is_capped for each in made)
    assert len(made) < 39
    assert {each.error.split(":")[0] for each in made} == {"", "CapReachedError"}
    assert model.calls


async def test_an_error_that_all_would_meet_begins_no_further_context(tmp_path: Path) -> None:
    refusing = ScriptedModel(lambda _messages, _options: AuthenticationError("m", 401))
    one, _ = maker(refusing, tmp_path, wish=Wish(queries=1))
    made: list[Made] = []

    await one.make_all(sources_of(samples(*range(1, 40))), made.append)

    assert len(made) == 3, "as many as begin at the same time"
    assert all(each.stops_all for each in made)


async def test_every_context_is_worked_on_once_and_no_more_calls_run_at_a_time_than_allowed(tmp_path: Path) -> None:
    one, _ = maker(Minds([right(GOOD[0]), right(GOOD[1])]), tmp_path, wish=Wish(queries=2))
    made: list[Made] = []

    await one.make_all(sources_of(samples(*range(1, 12))), made.append)

    assert sorted(int(each.source.context_id) for each in made) == list(range(1, 12))
    assert all(len(each.kept) == 2 for each in made)


async def test_what_cannot_be_kept_ends_the_work_with_its_own_error(tmp_path: Path) -> None:
    def full(_made: Made) -> None:
        raise InputError("the disk is full")

    one, _ = maker(Minds([right(GOOD[0])]), tmp_path, wish=Wish(queries=1))

    with pytest.raises(InputError, match="the disk is full"):
        await one.make_all(sources_of(samples(1, 2, 3, 4)), full)


def test_a_context_without_text_is_no_source_and_the_queries_of_one_stay_together() -> None:
    one, two = samples(1, 2)
    more = Sample(id="1/1", context_id="1", cluster="1", context=one.context, question="Red or blue?", target="B")
    empty = Sample(id="3/0", context_id="3", cluster="3", context=NO_TEXT, question="Why?", target="5")

    sources = sources_of([more, two, one, empty])

    assert [[sample.id for sample in source.samples] for source in sources] == [["1/1", "1/0"], ["2/0"]]
    assert sources[0].example == one, "its answer is a number"


def completion(text: str = "", *calls: ToolCall, finish: str = "stop") -> Completion:
    reason = "length" if finish == "length" else "stop"
    return Completion(text=text, usage=Usage(), model="m", finish_reason=reason, tool_calls=calls)


PLAIN = [
    ("marks", "<queries>\n? How many? => 4\n</queries>", [("How many?", "4")]),
    ("numbering", "<queries>\n1. How many? => 4\n2) How old? => 5</queries>", [("How many?", "4"), ("How old?", "5")]),
    (
        "bullets and arrows",
        "<queries>\n- How many? -> 4\n* How old? → 5\n</queries>",
        [("How many?", "4"), ("How old?", "5")],
    ),
    ("the last block counts", "<queries>? a => 1</queries> no, <queries>? b => 2</queries>", [("b", "2")]),
    ("thinking aside", "<think><queries>? a => 1</queries></think><queries>\n? b => 2\n</queries>", [("b", "2")]),
    ("no end", "<queries>\n? b => 2", [("b", "2")]),
    ("an odd line", "<queries>\n? b => 2\nThat is all.\n</queries>", [("b", "2"), ("", "That is all.")]),
    ("nothing", "<queries></queries>", []),
]


@pytest.mark.parametrize(("text", "queries"), [case[1:] for case in PLAIN], ids=[case[0] for case in PLAIN])
def test_queries_are_read_from_plain_text_however_they_are_set(text: str, queries: list[tuple[str, str]]) -> None:
    assert written_in(completion(text)) == [Written(question=q, answer=a) for q, a in queries]


def test_a_reply_that_was_cut_off_loses_its_last_line() -> None:
    cut = completion("<queries>\n? How many? => 4\n? How old? => 12", finish="length")

    assert written_in(cut) == [Written(question="How many?", answer="4")]


def test_queries_are_read_from_tool_calls_and_odd_items_are_counted() -> None:
    items = [
        {"question": " How  many? ", "answer": 4},
        {"question": "How old?", "answer": "5.0"},
        {"question": "Is it?", "answer": True},
        {"question": "", "answer": "5"},
        {"question": "How far?"},
        "How deep? 7",
    ]
    call = ToolCall(name="write_queries", arguments={"queries": items})

    written = written_in(completion("", call))

    assert [(each.question, each.answer) for each in written[:2]] == [("How many?", "4"), ("How old?", "5.0")]
    assert [each.question for each in written[2:]] == [""] * 4


@pytest.mark.parametrize(
    "reply",
    [
        completion("How many? => 4"),
        completion(""),
        completion("", ToolCall(name="sing", arguments={})),
        completion("", ToolCall(name="write_queries", arguments={})),
        completion("", ToolCall(name="write_queries", arguments={"queries": "How many? 4"})),
        completion("", ToolCall(name="write_queries", arguments={"__unreadable__": "{"})),
    ],
)
def test_a_reply_of_neither_form_cannot_be_read(reply: Completion) -> None:
    with pytest.raises(UnreadableReplyError):
        written_in(reply)


@given(st.text(max_size=300))
def test_any_text_between_the_marks_can_be_read(text: str) -> None:
    for written in written_in(completion(f"<queries>{text}</queries>")):
        assert written.answer


@given(st.lists(st.none() | st.sampled_from(["1", "2", "1/3", "0.333333"]), max_size=3))
def test_an_agreement_is_an_answer_that_two_runs_gave(answers: list[str | None]) -> None:
    agreed = agreement(answers)

    given_alike = Counter("1/3" if answer == "0.333333" else answer for answer in answers if answer is not None)
    assert (agreed is not None) == any(count >= 2 for count in given_alike.values())
    assert agreed is None or agreed in answers


async def test_a_question_too_long_to_be_one_is_unreadable(tmp_path: Path) -> None:
    made, _ = await make(Minds([says("How long? " * LONGEST_QUESTION, "4")]), tmp_path, wish=Wish(queries=1))

    assert reasons(made) == {"unreadable": 1}
