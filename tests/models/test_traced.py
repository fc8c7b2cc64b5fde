"""Spans of model calls, seen by the SDK's own exporter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from sleeptime import Engine
from sleeptime.core.errors import RequestRejectedError
from sleeptime.models.protocol import Abilities
from sleeptime.models.scripted import ScriptedModel

pytestmark = pytest.mark.anyio


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What an SDK that the program configured was told, for one test."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


def model(replies: list[Any], name: str = "acme:small") -> ScriptedModel:
    return ScriptedModel(replies, name=name, abilities=Abilities(tools=False))


async def asked(place: Path, scripted: ScriptedModel) -> None:
    async with Engine.open(model=scripted, environ={"SLEEPTIME_HOME": str(place)}) as engine:
        await engine.add("Ana has 3 boxes. Secret: xyzzy.", name="boxes")
        await engine.sleep("boxes")
        await engine.ask("boxes", "How many?")


async def test_each_call_is_a_span_with_its_usage_and_without_its_text(
    tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    await asked(tmp_path, model(["<notes>Ana has xyzzy.\ndone</notes>", "The answer is 3."]))

    slept, answered = spans.get_finished_spans()
    assert [(span.name, span.kind) for span in (slept, answered)] == [("chat small", SpanKind.CLIENT)] * 2
    assert answered.attributes is not None
    told = dict(answered.attributes)
    assert told["gen_ai.operation.name"] == "chat"
    assert (told["gen_ai.provider.name"], told["gen_ai.request.model"]) == ("acme", "small")
    assert (told["gen_ai.usage.output_tokens"], told["gen_ai.response.finish_reasons"]) == (4, ("stop",))
    assert told["gen_ai.usage.input_tokens"] > 0
    assert [span.attributes["sleeptime.phase"] for span in (slept, answered)] == ["sleep", "test"]
    assert "xyzzy" not in slept.to_json() + answered.to_json()


async def test_a_call_that_fails_is_a_span_that_says_so(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    refused = RequestRejectedError("acme:small", 400, "xyzzy")
    with pytest.raises(RequestRejectedError):
        await asked(tmp_path, model([refused]))

    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert (span.status.status_code, span.attributes["error.type"]) == (StatusCode.ERROR, "RequestRejectedError")
    assert "xyzzy" not in span.to_json()


@pytest.mark.parametrize(
    ("name", "provider", "of_provider"),
    [
        ("openai:gpt-5-mini", "openai", "gpt-5-mini"),
        ("http://127.0.0.1:8000/v1#small", "openai", "small"),
        ("gguf:/home/someone/small.gguf", "llama_cpp", "small.gguf"),
        ("tiny", "llama_cpp", "tiny"),
    ],
)
async def test_a_span_names_provider_and_model_and_no_place(
    tmp_path: Path, spans: InMemorySpanExporter, name: str, provider: str, of_provider: str
) -> None:
    await asked(tmp_path, model(["<notes>Ana has 3.\ndone</notes>", "3."], name))

    told = spans.get_finished_spans()[0].attributes
    assert told is not None
    assert (told["gen_ai.provider.name"], told["gen_ai.request.model"]) == (provider, of_provider)


async def test_without_an_sdk_nothing_is_recorded(tmp_path: Path) -> None:
    await asked(tmp_path, model(["<notes>Ana has 3.\ndone</notes>", "3."]))

    assert not trace.get_current_span().is_recording()
