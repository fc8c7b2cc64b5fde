"""A server that speaks OpenAI's two APIs on loopback, says what it is told to, and remembers.

    with serve([Reply("four words are here"), Reply(status=429, retry_after_s=2)]) as fake:
        model = await open_model(fake.name, environ={})
        …
        assert fake.wire[0].usage == {"prompt_tokens": 3, …}

A token is a word between white space. What a prompt shares with an earlier one, word by
word from the start, is reported as cached. `wire` holds every request with the usage that
was reported for it, so that a ledger can be compared with the wire.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_AFTER_HALF_A_LETTER = re.compile("(?<=[\ud800-\udbff])")  # where servers that count in UTF-16 may cut

Fault = Literal["truncated", "malformed", "hang", "disconnect", "no usage"]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One reply: words, tool calls as (name, raw arguments), thinking, or a failure.

    `headers` are sent beside it. `fault`: "truncated" ends the body early, "malformed" sends no JSON, "hang" never
    replies, "disconnect" closes the connection (after the first words of a stream).
    """

    text: str = ""
    tool_calls: tuple[tuple[str, str], ...] = ()
    thinking: str = ""
    status: int = 200
    error: str = "scripted failure"
    retry_after_s: float | None = None
    headers: tuple[tuple[str, str], ...] = ()
    fault: Fault | None = None

    @staticmethod
    def of(text: str) -> Reply:
        return Reply(text=text)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request, and what was replied. `usage` is None where none was reported."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    status: int
    usage: dict[str, Any] | None

    @property
    def input_tokens(self) -> int:
        return self._reported("prompt_tokens", "input_tokens")

    @property
    def output_tokens(self) -> int:
        return self._reported("completion_tokens", "output_tokens")

    @property
    def cached_tokens(self) -> int:
        assert self.usage is not None
        details = self.usage.get("prompt_tokens_details") or self.usage["input_tokens_details"]
        return int(details["cached_tokens"])

    def _reported(self, chat: str, responses: str) -> int:
        assert self.usage is not None, "no usage was reported for this request"
        return int(self.usage[chat] if chat in self.usage else self.usage[responses])


Script = Callable[[dict[str, Any]], Reply]


@dataclass
class FakeServer:
    """The server as a test sees it. `name` is what a user would write for its first model."""

    replies: Sequence[Reply | str] | Script = ()
    models: Sequence[str] = ("fake",)
    key: str | None = None
    refuses_tools: bool = False
    delay_s: float = 0.0
    url: str = ""
    wire: list[Exchange] = field(default_factory=list[Exchange])
    is_closing: bool = False
    _prompts: list[list[str]] = field(default_factory=list[list[str]])
    _turn: int = 0

    @property
    def name(self) -> str:
        return f"{self.url}#{self.models[0]}"

    @property
    def calls(self) -> list[Exchange]:
        """The requests for a completion."""
        return [exchange for exchange in self.wire if exchange.path.endswith(("/chat/completions", "/responses"))]

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self._list),
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/v1/responses", self._respond, methods=["POST"]),
            ]
        )

    def _log(self, request: Request, body: dict[str, Any], status: int, usage: dict[str, Any] | None) -> None:
        exchange = Exchange(path=request.url.path, headers=dict(request.headers), body=body, status=status, usage=usage)
        self.wire.append(exchange)

    def _refusal(self, request: Request, body: dict[str, Any], reply: Reply) -> Response:
        self._log(request, body, reply.status, None)
        headers = dict(reply.headers)
        if reply.retry_after_s is not None:
            headers["Retry-After"] = f"{reply.retry_after_s:g}"
        error = {"error": {"message": reply.error, "type": "scripted", "code": None}}
        return JSONResponse(error, status_code=reply.status, headers=headers)

    def _has_key(self, request: Request) -> bool:
        return self.key is None or request.headers.get("authorization") == f"Bearer {self.key}"

    async def _list(self, request: Request) -> Response:
        if not self._has_key(request):
            return self._refusal(request, {}, Reply(status=401, error="wrong key"))
        self._log(request, {}, 200, None)
        return JSONResponse({"object": "list", "data": [{"id": model, "object": "model"} for model in self.models]})

    async def _failure(self, request: Request, body: dict[str, Any], reply: Reply) -> Response | None:
        """What both APIs say when there is no reply, or None where there is one."""
        if not self._has_key(request):
            sent = request.headers.get("authorization", "")
            return self._refusal(request, body, Reply(status=401, error=f"Incorrect API key provided: {sent}"))
        if self.refuses_tools and body.get("tools"):
            return self._refusal(request, body, Reply(status=400, error="this model does not support tools"))
        if reply.fault == "hang":
            self._log(request, body, 0, None)
            while not self.is_closing and not await request.is_disconnected():  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0.01)
            return Response(status_code=503)
        await asyncio.sleep(self.delay_s)
        if reply.status >= 400:
            return self._refusal(request, body, reply)
        if reply.fault == "malformed":
            self._log(request, body, 200, None)
            return Response('{"choices": [{"mess', media_type="application/json")
        return None

    async def _complete(self, request: Request) -> Response:
        body = json.loads(await request.body())
        reply = self._next(body)
        if failure := await self._failure(request, body, reply):
            return failure
        words, finish = self._words(reply, body)
        usage = self._usage(body, words, reply)
        is_reported = reply.fault != "no usage"
        if body.get("stream"):
            self._log(request, body, 200, usage if reply.fault is None else None)
            events = self._events(body, reply, words, finish, usage if is_reported else None)
            return StreamingResponse(events, media_type="text/event-stream")
        self._log(request, body, 200, usage if reply.fault is None else None)
        message: dict[str, Any] = {"role": "assistant", "content": "".join(words) or None}
        if reply.thinking:
            message["reasoning_content"] = reply.thinking
        if reply.tool_calls:
            message["tool_calls"] = [
                {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
                for n, (name, arguments) in enumerate(reply.tool_calls)
            ]
        choice = {"index": 0, "message": message, "finish_reason": finish}
        made = {**self._head(body, "chat.completion"), "choices": [choice]}
        if "service_tier" in body:
            made["service_tier"] = body["service_tier"]
        if is_reported:
            made["usage"] = usage
        text = json.dumps(made)
        if reply.fault in ("truncated", "disconnect"):
            headers = {"content-length": str(len(text)), "content-type": "application/json"}
            kept = text[: len(text) // 2] if reply.fault == "truncated" else ""
            return StreamingResponse(_once(kept), headers=headers)
        return Response(text, media_type="application/json", headers=dict(reply.headers))

    async def _events(
        self, body: dict[str, Any], reply: Reply, words: list[str], finish: str, usage: dict[str, Any] | None
    ) -> AsyncIterator[str]:
        def event(choices: list[dict[str, Any]], **more: Any) -> str:
            return f"data: {json.dumps({**self._head(body, 'chat.completion.chunk'), 'choices': choices, **more})}\n\n"

        def delta(finish_reason: str | None = None, **content: Any) -> str:
            return event([{"index": 0, "delta": content, "finish_reason": finish_reason}])

        yield delta(role="assistant", content="")
        if reply.thinking:
            yield delta(reasoning_content=reply.thinking)
        for n, word in enumerate(words):
            if n >= 2 and reply.fault == "disconnect":
                await asyncio.sleep(0.05)
                raise ConnectionError("scripted disconnection")
            if n >= 2 and reply.fault == "truncated":
                return
            for piece in filter(None, _AFTER_HALF_A_LETTER.split(word)):
                yield delta(content=piece)
        for n, (name, arguments) in enumerate(reply.tool_calls):
            half = len(arguments) // 2
            call = {"index": n, "id": f"call_{n}", "type": "function"}
            yield delta(tool_calls=[{**call, "function": {"name": name, "arguments": arguments[:half]}}])
            yield delta(tool_calls=[{"index": n, "function": {"arguments": arguments[half:]}}])
        yield delta(finish_reason=finish)
        if usage is not None and body.get("stream_options", {}).get("include_usage"):
            yield event([], usage=usage)
        yield "data: [DONE]\n\n"

    async def _respond(self, request: Request) -> Response:
        """The Responses API. Thinking is counted, as OpenAI does, but not shown."""
        body = json.loads(await request.body())
        reply = self._next(body)
        if failure := await self._failure(request, body, reply):
            return failure
        words, finish = self._words(reply, body)
        chat_usage = self._usage(body, words, reply)
        usage = {
            "input_tokens": chat_usage["prompt_tokens"],
            "output_tokens": chat_usage["completion_tokens"],
            "total_tokens": chat_usage["total_tokens"],
            "input_tokens_details": chat_usage["prompt_tokens_details"],
            "output_tokens_details": chat_usage["completion_tokens_details"],
        }
        self._log(request, body, 200, usage if reply.fault is None else None)
        item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
        part = {"type": "output_text", "text": "".join(words), "annotations": []}
        output: list[dict[str, Any]] = [{**item, "content": [part]}] if words else []
        output += [
            {
                "id": f"fc_{n}",
                "type": "function_call",
                "call_id": f"call_{n}",
                "name": name,
                "arguments": arguments,
                "status": "completed",
            }
            for n, (name, arguments) in enumerate(reply.tool_calls)
        ]
        made: dict[str, Any] = {
            "id": f"resp_{self._turn}",
            "object": "response",
            "created_at": 1,
            "model": body.get("model"),
            "status": "incomplete" if finish == "length" else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if finish == "length" else None,
            "output": output,
            "usage": usage,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
        if body.get("stream"):
            return StreamingResponse(self._response_events(made, words, reply), media_type="text/event-stream")
        return JSONResponse(made)

    async def _response_events(self, made: dict[str, Any], words: list[str], reply: Reply) -> AsyncIterator[str]:
        numbers = itertools.count()

        def event(kind: str, **content: Any) -> str:
            return f"data: {json.dumps({'type': kind, 'sequence_number': next(numbers), **content})}\n\n"

        yield event("response.created", response={**made, "status": "in_progress", "output": [], "usage": None})
        for index, item in enumerate(made["output"]):
            place = {"item_id": item["id"], "output_index": index}
            bare = {**item, "status": "in_progress"}
            if item["type"] == "message":
                at = {**place, "content_index": 0}
                yield event("response.output_item.added", output_index=index, item={**bare, "content": []})
                yield event("response.content_part.added", **at, part={**item["content"][0], "text": ""})
                for n, word in enumerate(words):
                    if n >= 2 and reply.fault == "truncated":
                        return
                    yield event("response.output_text.delta", **at, delta=word, logprobs=[])
                yield event("response.output_text.done", **at, text="".join(words), logprobs=[])
                yield event("response.content_part.done", **at, part=item["content"][0])
            else:
                yield event("response.output_item.added", output_index=index, item={**bare, "arguments": ""})
                yield event("response.function_call_arguments.delta", **place, delta=item["arguments"])
                yield event("response.function_call_arguments.done", **place, arguments=item["arguments"])
            yield event("response.output_item.done", output_index=index, item=item)
        yield event(f"response.{made['status']}", response=made)

    def _next(self, body: dict[str, Any]) -> Reply:
        if callable(self.replies):
            return self.replies(body)
        reply = self.replies[self._turn] if self._turn < len(self.replies) else "the script has ended"
        self._turn += 1
        return Reply(text=reply) if isinstance(reply, str) else reply

    def _head(self, body: dict[str, Any], kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self._turn}", "object": kind, "created": 1, "model": body.get("model")}

    def _words(self, reply: Reply, body: dict[str, Any]) -> tuple[list[str], str]:
        words = [word if n == 0 else f" {word}" for n, word in enumerate(reply.text.split())]
        cap = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens")
        if cap is not None and len(words) > cap:
            return words[:cap], "length"
        return words, "tool_calls" if reply.tool_calls else "stop"

    def _usage(self, body: dict[str, Any], words: list[str], reply: Reply) -> dict[str, Any]:
        prompt = [
            word
            for message in body.get("messages", body.get("input"))
            for word in [f"<{message['role']}>", *_text(message).split()]
        ]
        cached = max((_shared(prompt, earlier) for earlier in self._prompts), default=0)
        self._prompts.append(prompt)
        reasoning = len(reply.thinking.split())
        written = len(words) + reasoning + sum(len(arguments.split()) + 1 for _, arguments in reply.tool_calls)
        return {
            "prompt_tokens": len(prompt),
            "completion_tokens": written,
            "total_tokens": len(prompt) + written,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }


@contextmanager
def serve(
    replies: Sequence[Reply | str] | Script = (),
    *,
    models: Sequence[str] = ("fake",),
    key: str | None = None,
    refuses_tools: bool = False,
    delay_s: float = 0.0,
) -> Iterator[FakeServer]:
    """Run a fake server in a thread, on a free port of loopback."""
    fake = FakeServer(replies, models=models, key=key, refuses_tools=refuses_tools, delay_s=delay_s)
    listener = socket.create_server(("127.0.0.1", 0))
    fake.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    config = uvicorn.Config(fake.app(), log_config=None, log_level="critical", lifespan="off", ws="none")
    server = _PromptServer(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="fake-openai")
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        yield fake
    finally:
        fake.is_closing = True
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()


class _PromptServer(uvicorn.Server):
    """Looks for its end every 5 ms, not every 100: tests start many of them."""

    async def main_loop(self) -> None:
        while not self.should_exit:  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.005)


async def _once(text: str) -> AsyncIterator[str]:
    yield text


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def _shared(one: list[str], other: list[str]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
