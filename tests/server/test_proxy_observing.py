"""What the proxy observes: contexts, ledger rows, answers, lessons; and that clients notice nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain_core.messages import BaseMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from starlette.requests import HTTPConnection

from fakes.openai_server import FakeServer, Reply, serve
from fakes.serving import served
from sleeptime.core.errors import SettingsError
from sleeptime.engine import Engine
from sleeptime.server.app import create_app
from sleeptime.server.proxy import Proxy
from sleeptime.settings import RouteSettings, Settings, load

pytestmark = pytest.mark.anyio

DOCUMENT = "\n\n".join(f"Paragraph {n} says that box {n} holds {n * n} marbles and a letter." for n in range(60))
TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


class Total(BaseModel):
    total: int


def script(body: dict[str, Any]) -> Reply:
    """A reply that depends on the request alone, so that two servers give the same."""
    said = str(body.get("messages") or body.get("input"))
    if "busy" in said:
        return Reply(status=429, error="slow down", retry_after_s=0)
    if "add one" in said and "call_0" not in said:
        return Reply(tool_calls=(("add", '{"a": 1}'),))
    if "structured" in said:
        return Reply(text='{"total": 7}')
    return Reply(text="The answer is seven marbles.", thinking="let me see")


@asynccontextmanager
async def observed(
    fake: FakeServer, folder: Path, *routes: RouteSettings
) -> AsyncIterator[tuple[str, Engine, Proxy, Callable[[], Any]]]:
    """A proxy in front of *fake*: its base URL, its engine, itself, and how to close it so that all is recorded."""
    async with Engine.open(database=folder / "sleeptime.db", environ={"SLEEPTIME_HOME": str(folder)}) as engine:

        async def find(_: HTTPConnection) -> Engine:
            return engine

        proxy = Proxy(fake.url, settings=Settings(routes=routes))
        await proxy.start()
        async with served(create_app(find, routes=proxy.routes)) as url:
            yield f"{url}/v1", engine, proxy, proxy.aclose
        await proxy.aclose()


def conversations(client: openai.OpenAI) -> list[Any]:
    """Scripted conversations through the official SDK; what it gave back, field by field."""
    document: Any = {"role": "system", "content": DOCUMENT}
    heard: list[Any] = []

    def keep(reply: Any) -> None:
        heard.append(reply.model_dump())

    def ask(text: str, **more: Any) -> Any:
        messages = [document, {"role": "user", "content": text}]
        return client.chat.completions.create(model="fake", messages=messages, **more)

    keep(ask("How many?"))
    keep(ask("How many now?", tools=[TOOL], metadata={"odd": "1"}))
    keep(ask("add one", tools=[TOOL]))
    for more in ({}, {"stream_options": {"include_usage": True}}):
        for event in ask("In pieces?", stream=True, **more):
            keep(event)
    keep(client.chat.completions.create(model="fake", messages=[{"role": "user", "content": [IMAGE]}]))
    messages: Any = [document, {"role": "user", "content": "structured"}]
    parsed = client.chat.completions.parse(model="fake", messages=messages, response_format=Total)
    heard.append((parsed.id, parsed.choices[0].message.parsed, parsed.usage))
    keep(client.responses.create(model="fake", instructions=DOCUMENT, input=[{"role": "user", "content": "And?"}]))
    pieces: Any = [document, {"role": "user", "content": "Pieces"}]
    for event in client.responses.create(model="fake", input=pieces, stream=True):
        keep(event)
    heard.append(client.models.list().model_dump())
    for wrong in (lambda: ask("busy"), lambda: client.embeddings.create(model="fake", input="x")):
        with pytest.raises(openai.APIStatusError) as caught:
            wrong()
        heard.append((caught.value.status_code, str(caught.value), caught.value.response.headers.get("retry-after")))
    return heard


@contextmanager
def sdk(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=base_url, api_key="sk-test", max_retries=0) as client:
        yield client


async def test_the_openai_sdk_hears_the_same_with_and_without_the_proxy(tmp_path: Path) -> None:
    def talk(base_url: str) -> list[Any]:
        with sdk(base_url) as client:
            return conversations(client)

    with serve(script) as fake, serve(script) as other:
        direct = await asyncio.to_thread(talk, other.url)
        async with observed(fake, tmp_path) as (url, engine, proxy, close):
            through = await asyncio.to_thread(talk, url)
            await close()
            calls = await engine.calls()

    assert through == direct
    assert [(e.path, e.body) for e in fake.wire] == [(e.path, e.body) for e in other.wire]
    assert proxy.counts.failures == 0
    measured = [e for e in fake.calls if e.usage is not None]
    reported = [call for call in calls if call.outcome == "ok"]
    assert len(calls) == len(fake.calls)
    assert sum(call.outcome == "unmeasured" for call in calls) == 1  # the stream that was not asked for its usage
    assert len(reported) == len(measured) - 1
    assert "sk-test" not in str(calls)


async def test_the_async_sdk_pydantic_ai_and_langchain_hear_the_same(tmp_path: Path) -> None:
    async def talk(base_url: str) -> list[Any]:
        heard: list[Any] = []
        async with openai.AsyncOpenAI(base_url=base_url, api_key="sk-test", max_retries=0) as client:
            messages: Any = [{"role": "system", "content": DOCUMENT}, {"role": "user", "content": "In pieces?"}]
            stream = await client.chat.completions.create(model="fake", messages=messages, stream=True)
            heard += [event.model_dump() async for event in stream]
            agent = Agent(OpenAIChatModel("fake", provider=OpenAIProvider(openai_client=client)), instructions=DOCUMENT)

            @agent.tool_plain
            def add(a: int) -> int:
                return a + 1

            done = await agent.run("add one")
            heard += [done.output, done.usage, add(1)]
        chain: Any = ChatOpenAI(model="fake", base_url=base_url, api_key="sk-test", max_retries=0)  # type: ignore[arg-type]  # a plain text is taken
        said: BaseMessage = await chain.ainvoke([("system", DOCUMENT), ("user", "How many?")])
        heard += [said.content, said.response_metadata, said.usage_metadata]  # type: ignore[attr-defined]  # an AIMessage
        heard += [piece.content async for piece in chain.astream([("system", DOCUMENT), ("user", "And?")])]
        return heard

    with serve(script) as fake, serve(script) as other:
        direct = await talk(other.url)
        async with observed(fake, tmp_path) as (url, _, proxy, _close):
            through = await talk(url)

    assert through == direct
    assert proxy.counts.failures == 0


async def test_a_context_is_recognised_named_kept_and_observed_only(tmp_path: Path) -> None:
    with serve(script) as fake:
        async with observed(fake, tmp_path) as (url, engine, proxy, close):
            headers = await ask_all(url, ["one?", "two?", "three?"])
            await close()
            (summary,) = await engine.contexts()
            context = await engine.store.context(summary.id)
            answers = await engine.store.answers(summary.id)
            watched = await engine.store.watched(summary.id)
            wanted = await engine.decisions()
            decision = await engine.decide(summary.id)

    assert context.text == DOCUMENT
    assert headers[0] == "mode=observe"
    assert headers[1:] == [f"mode=observe; context={context.name}"] * 2
    assert context.name.startswith("paragraph-0-says-that-")
    assert [answer.query.question for answer in answers] == ["three?", "two?"]
    assert answers[0].text == "The answer is seven marbles."
    assert (watched.is_observed, watched.wants, watched.seen.queries) == (True, None, 2)
    assert list(wanted) == []
    assert decision is not None  # the forecast of what a sleep would save
    assert (proxy.counts.recognised, proxy.counts.recorded, proxy.counts.dropped) == (2, 3, 0)


async def test_a_route_that_learns_lets_its_contexts_be_slept_on(tmp_path: Path) -> None:
    with serve(script) as fake:
        async with observed(fake, tmp_path, RouteSettings(models="fa*", mode="learn")) as (url, engine, _, close):
            await ask_all(url, [f"{n}?" for n in range(3)])
            await close()
            (summary,) = await engine.contexts()
            watched = await engine.store.watched(summary.id)

    assert not watched.is_observed


async def test_a_context_goes_on_when_its_route_turns_to_learning(tmp_path: Path) -> None:
    with serve(script) as fake:
        for mode in ("observe", "learn"):
            async with observed(fake, tmp_path, RouteSettings(mode=mode)) as (url, engine, _, close):
                await ask_all(url, ["1?", "2?"])
                await close()
                (summary,) = await engine.contexts()
                watched = await engine.store.watched(summary.id)
                assert watched.is_observed == (mode == "observe")


async def test_a_conversation_becomes_one_context_that_grows(tmp_path: Path) -> None:
    messages: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": DOCUMENT}]
    with serve(script) as fake:
        async with observed(fake, tmp_path) as (url, engine, proxy, close):
            async with openai.AsyncOpenAI(base_url=url, api_key="sk-test", max_retries=0) as client:
                for turn in range(4):
                    reply = await client.chat.completions.create(model="fake", messages=messages)
                    messages.append({"role": "assistant", "content": reply.choices[0].message.content})
                    messages.append({"role": "user", "content": f"And {turn}?"})
            await close()
            (summary,) = await engine.contexts()
            context = await engine.store.context(summary.id)

    assert context.text.startswith(f"system: Be brief.\n\nuser: {DOCUMENT}")
    assert context.text.endswith("user: And 1?")
    assert context.text.count(DOCUMENT) == 1
    assert proxy.counts.failures == 0


async def test_one_header_turns_it_off(tmp_path: Path) -> None:
    with serve(script) as fake:
        async with observed(fake, tmp_path) as (url, engine, _, close):
            headers = await ask_all(url, ["one?", "two?"], {"x-sleeptime": "off"})
            await close()
            assert (headers, list(await engine.contexts()), list(await engine.calls())) == ([None, None], [], [])


async def test_a_database_that_fails_is_counted_and_hinders_no_request(tmp_path: Path) -> None:
    with serve(script) as fake:
        async with observed(fake, tmp_path) as (url, engine, proxy, close):
            await engine.store.aclose()
            await ask_all(url, ["one?", "two?"])
            await close()

    assert proxy.counts.failures > 0
    assert proxy.counts.dropped == 2


async def ask_all(url: str, questions: list[str], headers: dict[str, str] | None = None) -> list[str | None]:
    said: list[str | None] = []
    async with openai.AsyncOpenAI(base_url=url, api_key="sk-test", max_retries=0) as client:
        for question in questions:
            messages: Any = [{"role": "system", "content": DOCUMENT}, {"role": "user", "content": question}]
            reply = await client.chat.completions.with_raw_response.create(
                model="fake", messages=messages, extra_headers=headers
            )
            said.append(reply.headers.get("x-sleeptime"))
    return said


def test_routes_are_read_in_order(tmp_path: Path) -> None:
    file = tmp_path / "sleeptime.toml"
    file.write_text('[[routes]]\nmodels = "gpt-*"\nmode = "learn"\n[[routes]]\nname = "rest"\n')

    assert load(file).routes == (RouteSettings(models="gpt-*", mode="learn"), RouteSettings(name="rest"))


@pytest.mark.parametrize("text", ['mode = "guess"', "least_characters = 0", "unknown = 1", "models = 3"])
def test_a_route_that_says_nonsense_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sleeptime.toml"
    file.write_text(f"[[routes]]\n{text}\n")

    with pytest.raises(SettingsError):
        load(file)
