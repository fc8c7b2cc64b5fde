"""A model on this machine: a GGUF file run by llama.cpp.

The file is served on loopback by llama.cpp's own server, so that local and remote
models share one client. What a chat endpoint cannot do, the server's own routes can:

    complete    /apply-template → prompt + prefix → /completion
    log_prob    log P(q | c) = Σ log P(token | all before it), each token forced by a
                logit bias and read before the bias is applied: exact, and the prompt is
                evaluated once because the server keeps it

Small models run on one thread, four requests at a time; large ones on all physical
cores, one at a time. At temperature 0 the reply is the greedy one.

This file does not know prices, the ledger, or which file is `tiny`.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import anyio
import httpx2
from anyio import to_thread

from sleeptime.core.errors import (
    ContextTooLongError,
    MalformedReplyError,
    NotSupportedError,
    UnknownModelError,
)
from sleeptime.core.messages import Completion, FinishReason, LogProb, Message, TokenCount, Tool
from sleeptime.core.usage import Usage
from sleeptime.models.failures import TOOL_CALLS, model_error, redacted, refused_status
from sleeptime.models.gguf_header import GgufError, context_length
from sleeptime.models.openai_compatible import endpoint_model, http_client
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.remote import RemoteModel, well_formed

SMALL_BYTES = 100_000_000
SMALL_SLOTS = 4
LARGE_WINDOW = 16_384
PROMPT_CACHE_MIB = 256
FORCING_BIAS = 1e4
WHOLE_VOCABULARY = 1_000_000

_SENTINEL = "\u241fHERE\u241f"
_TAG = re.compile(r"<\w+>")
_FINISH_REASONS: dict[str, FinishReason] = {"eos": "stop", "word": "stop", "limit": "length"}


class Server(Protocol):
    """llama.cpp's server; it stops when the last reference to it goes."""

    @property
    def listening_address(self) -> str: ...


class LocalModel:
    """A GGUF file served on loopback. Open it with `open_gguf`."""

    def __init__(self, name: str, server: Server, chat: RemoteModel, client: httpx2.AsyncClient) -> None:
        self._name = name
        self._server: Server | None = server
        self._chat = chat
        self._client = client

    @property
    def name(self) -> str:
        return self._name

    @property
    def abilities(self) -> Abilities:
        return replace(self._chat.abilities, tells_sending=False)  # nothing leaves this machine

    async def generate(self, messages: Sequence[Message], options: Options) -> Completion:
        """Reply to *messages* through the chat endpoint."""
        if options.tools and not self.abilities.tools:
            raise NotSupportedError(self._name, TOOL_CALLS, "Its chat template has no place for them.")
        self._refuse_dials(options)
        return await self._chat.generate(messages, replace(options, on_send=None))

    async def complete(self, messages: Sequence[Message], options: Options, *, prefix: str) -> Completion:
        """Go on from *prefix*, the beginning of the assistant's reply."""
        if options.tools:
            raise NotSupportedError(self._name, "tool calls in a completion")
        self._refuse_dials(options)
        request: dict[str, Any] = {  # Any: JSON
            "prompt": _joined(await self._rendered(messages), prefix),
            "n_predict": options.max_output_tokens,
            "cache_prompt": True,
            "stop": list(options.stop),
        }
        if options.temperature is not None:
            request["temperature"] = options.temperature
        if options.seed is not None:
            request["seed"] = options.seed
        if options.on_text is None:
            last = await self._post("/completion", request)
            text = str(last.get("content", ""))
        else:
            last, pieces = {}, list[str]()
            async for event in self._stream("/completion", {**request, "stream": True}):
                last = event
                if piece := str(event.get("content", "")):
                    pieces.append(piece)
                    options.on_text(piece)
            text = "".join(pieces)
        if not last.get("stop"):
            raise MalformedReplyError(self._name, "it ended without saying why")
        return Completion(
            text=well_formed(text),
            usage=_usage(last),
            model=self._name,
            finish_reason=_FINISH_REASONS.get(str(last.get("stop_type")), "unknown"),
        )

    async def log_prob(self, query: str, *, given: Sequence[Message]) -> LogProb:
        """Score *query* token by token, each given all that stands before it."""
        if not query:
            return LogProb(total=0.0, tokens=0)
        if not given:
            raise NotSupportedError(self._name, "the log-probability of a query without a context")
        before, wanted = await self._split(query, given)
        window = self.abilities.context_window
        if window is not None and len(before) + len(wanted) > window:
            raise ContextTooLongError(
                model=self._name, tokens=len(before), reserve=len(wanted), window=window, exact=True
            )
        total, usage = 0.0, Usage()
        for index, token in enumerate(wanted):
            log_prob, took = await self._token_log_prob([*before, *wanted[:index]], token)
            total += log_prob
            usage += took
        return LogProb(total=total, tokens=len(wanted), usage=usage)

    async def count_tokens(self, messages: Sequence[Message], *, tools: Sequence[Tool] = ()) -> TokenCount:
        """Count exactly what the server would read, with its chat template."""
        return TokenCount(tokens=len(await self._tokens(await self._rendered(messages, tools))), exact=True)

    async def aclose(self) -> None:
        """Stop the server."""
        await self._chat.aclose()
        await self._client.aclose()
        if self._server is not None:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(self._stop)

    def _stop(self) -> None:
        self._server = None  # the server ends its threads in its destructor

    def _refuse_dials(self, options: Options) -> None:
        if options.effort is not None or options.thinking_tokens is not None:
            raise NotSupportedError(
                self._name, "reasoning effort or a thinking budget", "Use a verbosity (0 to 4) or force:N instead."
            )

    async def _token_log_prob(self, prompt: list[int], token: int) -> tuple[float, Usage]:
        """Log P(token | prompt).

        The server gives no probabilities of a token that is half a letter: then a whole
        letter is forced, and the token is looked up among the probabilities of all.
        """
        reply = await self._force(prompt, token, n_probs=1)
        usage = _usage(reply)
        if not reply.get("completion_probabilities"):
            letter = (await self._tokens("a", add_special=False))[-1]
            reply = await self._force(prompt, letter, n_probs=WHOLE_VOCABULARY)
            usage += _usage(reply)
        try:
            (step,) = reply["completion_probabilities"]
            return next(
                float(other["logprob"]) for other in (step, *step["top_logprobs"]) if other["id"] == token
            ), usage
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            raise MalformedReplyError(self._name, "it gives no probabilities") from error

    async def _force(self, prompt: list[int], token: int, *, n_probs: int) -> dict[str, Any]:  # Any: JSON
        return await self._post(
            "/completion",
            {
                "prompt": prompt,
                "n_predict": 1,
                "n_probs": n_probs,
                "temperature": 0,
                "logit_bias": [[token, FORCING_BIAS]],
                "post_sampling_probs": False,
                "cache_prompt": True,
            },
        )

    async def _split(self, query: str, given: Sequence[Message]) -> tuple[list[int], list[int]]:
        """Tokens before the query, and the query's: as they stand together where the seam is a token's edge."""
        marked = [*given[:-1], Message(given[-1].role, given[-1].content + _SENTINEL)]
        text = (await self._rendered(marked)).partition(_SENTINEL)[0]
        before, together = await self._tokens(text), await self._tokens(text + query)
        if together[: len(before)] == before:
            return before, together[len(before) :]
        return before, await self._tokens(query, add_special=False)

    async def _rendered(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        request: dict[str, Any] = {"messages": [{"role": m.role, "content": m.content} for m in messages]}  # Any: JSON
        if tools:
            request["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": dict(tool.parameters),
                    },
                }
                for tool in tools
            ]
        return str((await self._post("/apply-template", request))["prompt"])

    async def _tokens(self, text: str, *, add_special: bool = True) -> list[int]:
        reply = await self._post("/tokenize", {"content": text, "add_special": add_special, "parse_special": True})
        return [int(token) for token in reply["tokens"]]

    async def _post(self, route: str, request: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
        try:
            reply = await self._client.post(route, json=request)
            await self._check(reply)
            return cast("dict[str, Any]", reply.json())
        except httpx2.HTTPError as error:
            raise model_error(self._name, error) from error
        except ValueError as error:
            raise MalformedReplyError(self._name, "it is not JSON") from error

    async def _stream(self, route: str, request: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:  # Any: JSON
        try:
            async with self._client.stream("POST", route, json=request) as reply:
                await self._check(reply)
                async for line in reply.aiter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        yield json.loads(line.removeprefix("data: "))
        except httpx2.HTTPError as error:
            raise model_error(self._name, error) from error
        except ValueError as error:
            raise MalformedReplyError(self._name, "it is not JSON") from error

    async def _check(self, reply: httpx2.Response) -> None:
        if reply.is_error:
            detail = redacted((await reply.aread()).decode(errors="replace"), ())
            raise refused_status(self._name, reply.status_code, detail)


async def open_gguf(name: str, path: Path, *, prompt_set: str = "default") -> LocalModel:
    """Load *path* and serve it on loopback. Raises UnknownModelError, NotSupportedError."""
    try:
        trained_window = context_length(path)
    except GgufError as error:
        raise UnknownModelError(name, str(error)) from error
    key = secrets.token_hex(16)
    server = await to_thread.run_sync(_start, name, path, trained_window, key)
    address = server.listening_address
    client = http_client(is_loopback=True)
    client.base_url = address
    client.headers["Authorization"] = f"Bearer {key}"
    try:
        properties = (await client.get("/props")).raise_for_status().json()
        abilities = Abilities(
            prompt_set=prompt_set,
            tools=prompt_set == "default" and bool(properties.get("chat_template_caps", {}).get("supports_tools")),
            completes=True,
            log_probs=True,
            dials=False,
            context_window=int(properties["default_generation_settings"]["n_ctx"]),
        )
    except (httpx2.HTTPError, ValueError, KeyError) as error:
        await client.aclose()
        raise MalformedReplyError(name, "llama.cpp's server does not describe itself") from error
    chat = endpoint_model(name, f"{address}/v1", name, key=key, abilities=abilities)
    return LocalModel(name, server, chat, client)


def lacks_avx2(cpu_info: str) -> bool:
    """Whether the text of /proc/cpuinfo lists flags, and AVX2 is not one of them."""
    flags = re.search(r"^flags\s*:(.*)$", cpu_info, re.MULTILINE)
    return flags is not None and "avx2" not in flags[1].split()


def physical_cores(cpu_info: str, available: int) -> int:
    """Count the cores that do arithmetic, from the text of /proc/cpuinfo; at most *available*."""
    places = set(re.findall(r"^physical id\s*:\s*(\d+)$.*?^core id\s*:\s*(\d+)$", cpu_info, re.MULTILINE | re.DOTALL))
    return max(1, min(available, len(places) or available))


def _start(name: str, path: Path, trained_window: int, key: str) -> Server:
    cpu_info = _cpu_info()
    if platform.machine() in ("x86_64", "AMD64") and lacks_avx2(cpu_info):
        # On such a processor the import itself would end the process with an illegal instruction.
        raise NotSupportedError(name, "a local model: this processor has no AVX2", "Use a provider or a URL instead.")
    try:
        # 30 MB of native code, which local models alone need and which not every machine has; it carries no types.
        llama: Any = importlib.import_module("xllamacpp")
    except ImportError as error:
        raise NotSupportedError(
            name, "a local model: llama.cpp is not installed here", "Run: pip install xllamacpp, or use a URL."
        ) from error
    is_small = path.stat().st_size < SMALL_BYTES
    slots = SMALL_SLOTS if is_small else 1
    threads = 1 if is_small else physical_cores(cpu_info, os.cpu_count() or 1)
    window = trained_window if is_small else min(trained_window, LARGE_WINDOW)
    parameters = llama.CommonParams()
    parameters.model.path = str(path)
    parameters.model_alias = {name}
    parameters.verbosity = -1
    parameters.hostnames, parameters.port = ["127.0.0.1"], 0
    parameters.api_keys = [key]
    parameters.ui = False
    parameters.use_jinja = True
    parameters.warmup = False
    parameters.fit_params = False
    parameters.n_parallel, parameters.n_ctx = slots, window * slots
    parameters.cache_ram_mib = PROMPT_CACHE_MIB
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    try:
        return llama.Server(parameters)
    except RuntimeError as error:
        raise UnknownModelError(
            name, "llama.cpp cannot load it; the file is damaged, cut short, or of a new kind"
        ) from error


def _joined(prompt: str, prefix: str) -> str:
    """*prompt* and the beginning of the reply. Where a template has opened the thinking already, it is opened once."""
    tag, begun = _TAG.match(prefix), prompt.rstrip()
    return (begun.removesuffix(tag[0]) if tag and begun.endswith(tag[0]) else prompt) + prefix


def _cpu_info() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def _usage(reply: Mapping[str, Any]) -> Usage:  # Any: JSON
    timings: Mapping[str, Any] = reply.get("timings", {})  # Any: JSON
    return Usage(
        input_tokens=int(reply.get("tokens_evaluated", 0)),
        cached_input_tokens=int(timings.get("cache_n", 0)),
        output_tokens=int(reply.get("tokens_predicted", 0)),
    )
