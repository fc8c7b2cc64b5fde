"""The demo on a real engine: the sleeper's own prompts, replies read as they are, every call in the ledger."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest
from thinker import MINI

from sleeptime.core.errors import RequestRejectedError
from sleeptime.core.ledger import Phase
from sleeptime.core.messages import Message
from sleeptime.engine import Engine
from sleeptime.evals.data import chains
from sleeptime.evals.demo.demo import measure_tiny, run_demo
from sleeptime.evals.runs.variants import halved
from sleeptime.models.names import TINY_PATH
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.scripted import Reply, ScriptedModel

pytestmark = pytest.mark.anyio

SEED, CONTEXTS = 4, 3
WORDS = chains.FAMILIES["sheets"]


def think(sample: chains.Sample) -> str:
    """Resolve the watched, then the rest: formulas backwards to a known value, then values forwards."""
    known = {q.name for q in sample.quantities if q.source is None}
    lines: list[str] = []
    for target in [*sample.watched, *(q.name for q in reversed(sample.quantities))]:
        fresh = [link for link in chains.chain(sample.quantities, target) if link.name not in known]
        lines += [WORDS.formula(link.name, str(link.source), link.step) for link in fresh]
        lines += [WORDS.state(link.name, link.value) for link in reversed(fresh)]
        known |= {link.name for link in fresh}
    return "\n".join([*lines, "done"])


def reply(messages: Sequence[Message], _: Options) -> str:
    """Answer from notes, or with a full chain of thought, or by saying nothing that counts."""
    prompt = messages[-1].content
    samples = chains.draw(SEED, contexts=CONTEXTS)
    if prompt.endswith("\nsleep"):
        return think(next(sample for sample in samples if prompt.startswith(sample.text)))
    question, _, level = prompt.splitlines()[-1].rpartition(" /")
    query = next(q for sample in samples for q in sample.queries if q.question == question and _holds(prompt, sample))
    if level == "4":
        return f"some {'more ' * 30} thought {query.names[0]}= {query.answer}"
    notes = prompt.partition("notes:")[2].splitlines()
    return next((line for line in notes if line.startswith(f"{query.names[0]}= ")), "a guess")


def _holds(prompt: str, sample: chains.Sample) -> bool:
    return prompt.startswith((sample.text, "notes:"))


async def test_the_demo_measures_an_engine_and_its_tokens_are_the_ledger_s(tmp_path: Path) -> None:
    model = ScriptedModel(reply, abilities=Abilities(prompt_set="tiny", tools=False, log_probs=True))
    async with Engine.open(database=tmp_path / "demo.db", model=model, worker=False, environ={}) as engine:
        result = await run_demo(
            engine, model="scripted", contexts=CONTEXTS, seed=SEED, price=MINI, measured_on=date(2026, 11, 23)
        )
        calls = await engine.calls()

    test = [call for call in calls if call.phase is Phase.TEST and call.sees == "context" and call.level == "v4"]
    slept = [call for call in calls if call.phase is Phase.SLEEP and call.level is None]
    assert result.failed_calls == 0
    assert result.figures["notes_correct_share"].value == 1
    assert result.figures["accuracy_full_cot_no_sleep"].value == 1
    assert result.point("no_sleep", "v0").accuracy.value == 0
    assert result.point("no_sleep", "v4").tokens.value == sum(call.usage.output_tokens for call in test) / len(test)
    assert result.figures["sleep_tokens_per_context"].value == sum(c.usage.output_tokens for c in slept) / CONTEXTS


async def test_half_of_the_notes_a_real_sleep_takes_hold_what_it_set_out_to_find(tmp_path: Path) -> None:
    model = ScriptedModel(reply, abilities=Abilities(prompt_set="tiny", tools=False))
    async with Engine.open(database=tmp_path / "demo.db", model=model, worker=False, environ={}) as engine:
        for sample in chains.draw(SEED, contexts=CONTEXTS):
            await engine.add(sample.text, name=sample.fingerprint)
            learned = await engine.sleep(sample.fingerprint)

            kept = {note.text.split("=")[0] for note in halved(learned).notes}

            assert sample.watched[0] in kept
            assert len(kept) == (len(learned.notes) + 1) // 2


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_the_shipped_model_is_measured_apart_from_the_user_s_own_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLEEPTIME_SLEEP_MODEL", "openai:gpt-5-mini")
    monkeypatch.setenv("SLEEPTIME_HOME", str(tmp_path))

    result = await measure_tiny(contexts=2, queries_per_context=1, seed=SEED)

    assert result.failed_calls == 0
    assert result.figures["accuracy_full_cot_no_sleep"].n_queries == 2
    assert result.provenance.model_sha256 == TINY_PATH.with_suffix(".sha256").read_text().split()[0]
    assert result.price is not None
    assert files(tmp_path) == []


async def test_a_sleep_that_fails_halfway_is_charged_for_and_its_context_is_not_asked_with_notes(
    tmp_path: Path,
) -> None:
    first = chains.draw(SEED, contexts=CONTEXTS)[0]
    rounds: list[str] = []

    def break_down(messages: Sequence[Message], options: Options) -> Reply:
        prompt = messages[-1].content
        if not (prompt.startswith(first.text) and prompt.endswith("\nsleep")):
            return reply(messages, options)
        rounds.append(prompt)
        return (
            RequestRejectedError("scripted", 422, "it is full")
            if len(rounds) > 1
            else think(first).partition("\ndone")[0]
        )

    model = ScriptedModel(break_down, abilities=Abilities(prompt_set="tiny", tools=False, log_probs=True))
    async with Engine.open(database=tmp_path / "demo.db", model=model, worker=False, environ={}) as engine:
        result = await run_demo(
            engine, model="scripted", contexts=CONTEXTS, seed=SEED, price=MINI, measured_on=date(2026, 11, 23)
        )
        slept = [call for call in await engine.calls() if call.phase is Phase.SLEEP]

    tokens = result.figures["sleep_tokens_per_context"]
    assert (len(rounds), result.failed_sleeps, result.failed_calls) == (2, 1, 0)
    assert tokens.value == sum(call.usage.output_tokens for call in slept) / (CONTEXTS - 1)
    assert result.point("sleep", "v0").accuracy.missing == 4
