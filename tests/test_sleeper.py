import json
from collections.abc import Sequence
from datetime import UTC, date, datetime

import pytest

from sleeptime.core.budget import Budget
from sleeptime.core.context import Context
from sleeptime.core.errors import ContextTooLongError, NotSupportedError, UpstreamError
from sleeptime.core.messages import Completion, Message, ToolCall
from sleeptime.core.notes import Draft, LearnedContext
from sleeptime.core.plan import Plan
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.scripted import ScriptedModel
from sleeptime.sleeper import Sleeper

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 1, tzinfo=UTC)
BOXES = Context(id="c1", name="boxes", text="Ana has 3 boxes. Ben has 2 more.", created_at=NOW)
CARD = PriceCard(name="card", dated=date(2026, 11, 1), input_usd_per_mtok=1.0, output_usd_per_mtok=1e4)
PLAIN = Abilities(tools=False)


def sleeper(model: ScriptedModel, price: PriceCard | None = None) -> Sleeper:
    return Sleeper(model, price, clock_s=lambda: 0.0, now=lambda: NOW)


def called(name: str, arguments: dict[str, object], *, output_tokens: int = 10) -> Completion:
    return Completion(
        text="",
        usage=Usage(input_tokens=100, output_tokens=output_tokens),
        model="scripted",
        tool_calls=(ToolCall(name=name, arguments=arguments),),
    )


def rethink(text: str) -> Completion:
    return called("rethink_memory", {"new_memory": text})


FINISH = called("finish_rethinking", {})


def texts(learned: LearnedContext) -> list[str]:
    return [note.text for note in learned.notes]


async def test_rethink_is_the_papers_loop() -> None:
    model = ScriptedModel([rethink("Ben has 5."), rethink("Ben has 5. They have 8."), FINISH])

    learned = await sleeper(model).sleep(BOXES, Plan(strategy="rethink"))

    assert texts(learned) == ["Ben has 5. They have 8."]
    assert learned.stop_reason == "finished"
    assert learned.rounds == 3
    assert learned.usage == Usage(input_tokens=300, output_tokens=30)
    assert {tool.name for tool in model.calls[0].options.tools} == {"rethink_memory", "finish_rethinking"}
    assert "Ben has 5." in model.calls[1].messages[-1].content
    assert "may have 5000 characters in all; it has 10 now" in model.calls[1].messages[-1].content


async def test_rethink_stops_after_ten_rounds() -> None:
    model = ScriptedModel(lambda _messages, _options: rethink(f"version {len(model.calls)}"))

    learned = await sleeper(model).sleep(BOXES, Plan(strategy="rethink"))

    assert len(model.calls) == 10
    assert learned.stop_reason == "rounds"
    assert texts(learned) == ["version 10"]


async def test_the_prefix_of_every_round_is_the_same_bytes() -> None:
    model = ScriptedModel(lambda _messages, _options: rethink(f"version {len(model.calls)}"))

    await sleeper(model).sleep(BOXES, Plan(strategy="rethink"))

    assert len({call.messages[0] for call in model.calls}) == 1
    assert BOXES.text in model.calls[0].messages[0].content


@pytest.mark.parametrize("samples", [1, 2, 5, 10])
async def test_parallel_samples_are_joined_in_order_at_a_temperature_above_zero(samples: int) -> None:
    def script(_messages: Sequence[Message], options: Options) -> str:
        return f"<memory>sample {options.seed or 0}</memory>\nFINISHED"

    model = ScriptedModel(script, abilities=PLAIN)

    learned = await sleeper(model).sleep(BOXES, Plan(strategy="rethink", samples=samples))

    assert texts(learned) == [f"sample {i}" for i in range(samples)]
    assert all((call.options.temperature or 0) > 0 for call in model.calls) == (samples > 1)
    assert learned.samples == samples
    assert [note.id for note in learned.notes] == [f"n{i + 1}" for i in range(samples)]


async def test_notes_are_revised_by_id_over_rounds() -> None:
    model = ScriptedModel(
        [
            called("revise_notes", {"add": [{"kind": "inference", "text": "Ben has 4."}], "done": False}),
            called(
                "revise_notes",
                {
                    "replace": [{"id": "n1", "text": "Ben has 5.", "evidence": ["Ben has 2 more."]}],
                    "add": [{"kind": "anticipated", "question": "How many in all?", "text": "8"}],
                    "done": True,
                },
            ),
        ]
    )

    learned = await sleeper(model).sleep(BOXES, Plan())

    assert [(n.id, n.kind, n.plain) for n in learned.notes] == [
        ("n1", "inference", "Ben has 5."),
        ("n2", "anticipated", "How many in all? 8"),
    ]
    assert "[n1] inference: Ben has 4." in model.calls[1].messages[-1].content


async def test_an_unreadable_reply_is_asked_again_once_with_the_reason() -> None:
    model = ScriptedModel([called("no_such_tool", {}), called("revise_notes", {"done": True})])

    learned = await sleeper(model).sleep(BOXES, Plan())

    assert learned.failed_rounds == 0
    assert learned.rounds == 1
    assert "could not be read: there is no tool" in model.calls[1].messages[-1].content


async def test_a_model_that_calls_no_tool_is_asked_again_in_plain_text() -> None:
    model = ScriptedModel(["I would say that Ben has 5.", "<notes>\nBen has 5.\n</notes>", "<notes>\ndone\n</notes>"])

    learned = await sleeper(model).sleep(BOXES, Plan())

    assert texts(learned) == ["Ben has 5."]
    assert [bool(call.options.tools) for call in model.calls] == [True, False, False]
    assert learned.failed_rounds == 0


async def test_notes_that_outgrow_the_window_end_the_sleep_and_stay() -> None:
    def script(_messages: Sequence[Message], _options: Options) -> str:
        return f"<notes>\nfact {len(model.calls)} " + "word " * 60 + "\n</notes>"

    model = ScriptedModel(script, abilities=Abilities(tools=False, context_window=535))
    learned = await sleeper(model).sleep(BOXES, Plan())

    assert learned.stop_reason == "window"
    assert 2 <= len(learned.notes) <= len(model.calls) < 10


async def test_a_round_that_fails_twice_is_recorded_and_what_was_learned_stays() -> None:
    good = called("revise_notes", {"add": [{"kind": "inference", "text": "Ben has 5."}], "done": False})
    bad = called("no_such_tool", {})
    model = ScriptedModel([good, bad, bad, called("revise_notes", {"done": True})])

    learned = await sleeper(model).sleep(BOXES, Plan())

    assert texts(learned) == ["Ben has 5."]
    assert learned.failed_rounds == 1
    assert learned.stop_reason == "finished"


async def test_a_model_that_is_never_readable_ends_soon() -> None:
    model = ScriptedModel(lambda _messages, _options: "bad")

    learned = await sleeper(model).sleep(BOXES, Plan())

    assert learned.stop_reason == "unreadable"
    assert learned.notes == ()
    assert len(model.calls) == 4


async def test_sleep_never_spends_more_than_its_budget() -> None:
    model = ScriptedModel(["<notes> one two three\nx", "<notes> four\nx", "<notes> five\nx"], abilities=PLAIN)

    learned = await sleeper(model).sleep(BOXES, Plan(budget=Budget(max_output_tokens=7)))

    assert learned.stop_reason == "budget"
    assert learned.usage.output_tokens == 7
    assert texts(learned)[0] == "one two three"


async def test_sleep_never_costs_more_than_its_cap() -> None:
    model = ScriptedModel(lambda _m, _o: f"<notes>note {len(model.calls)} " + "word " * 50 + "\nx", abilities=PLAIN)

    learned = await sleeper(model, CARD).sleep(BOXES, Plan(budget=Budget(max_cost_usd=1.0)))

    assert learned.stop_reason == "budget"
    assert learned.cost_usd is not None
    assert 0.5 < learned.cost_usd <= 1.0
    assert learned.notes


async def test_a_model_that_turns_out_to_have_no_tools_is_asked_in_plain_text() -> None:
    class Forgetful(ScriptedModel):
        has_tools = True

        @property
        def abilities(self) -> Abilities:
            return Abilities(tools=self.has_tools)

        async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
            if options.tools:
                self.has_tools = False
                raise NotSupportedError(self.name, "tool calls")
            return await super().generate(messages, options)

    learned = await sleeper(Forgetful(["<notes>Ben has 5.\ndone</notes>"])).sleep(BOXES, Plan())

    assert texts(learned) == ["Ben has 5."]


async def test_a_context_too_long_is_refused_before_anything_is_spent() -> None:
    model = ScriptedModel(["x"], abilities=Abilities(tools=False, context_window=50))

    with pytest.raises(ContextTooLongError, match="window of scripted is 50") as caught:
        await sleeper(model).sleep(BOXES, Plan())

    assert caught.value.tokens > 50
    assert model.calls == []


async def test_sleep_goes_on_from_a_draft_without_repeating_a_round() -> None:
    kept: list[Draft] = []

    async def keep(draft: Draft, _completion: Completion) -> None:
        kept.append(draft)

    failing = ScriptedModel([rethink("Ben has 5."), UpstreamError("scripted", 500)])
    with pytest.raises(UpstreamError):
        await sleeper(failing).sleep(BOXES, Plan(strategy="rethink"), on_draft=keep)

    model = ScriptedModel([FINISH])
    learned = await sleeper(model).sleep(BOXES, Plan(strategy="rethink"), drafts=kept)

    assert len(model.calls) == 1
    assert texts(learned) == ["Ben has 5."]
    assert learned.usage.output_tokens == 20


async def test_the_cap_on_the_text_is_told_and_kept() -> None:
    model = ScriptedModel([rethink("word " * 30), FINISH])

    learned = await sleeper(model).sleep(BOXES, Plan(strategy="rethink", max_characters=40))

    assert len(texts(learned)[0]) <= 40
    assert "was cut to 40" in model.calls[1].messages[-1].content
    assert json.dumps(texts(learned))
