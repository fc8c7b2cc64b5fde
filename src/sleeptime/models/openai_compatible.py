"""Any endpoint that speaks OpenAI's chat completions, written `URL#model`.

    http://127.0.0.1:8000/v1#name     the model `name` behind that base URL
    http://127.0.0.1:8000/v1          the only model there; with several, an error lists them

The key is `$SLEEPTIME_API_KEY`. `$OPENAI_API_KEY` is sent as well where no other is set,
but never in clear text across a network. Without either, the endpoint gets a dummy.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2
from pydantic_ai.models import create_async_httpx2_client
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.settings import ModelSettings

from sleeptime.core.errors import MalformedReplyError, NotSupportedError, UnknownModelError
from sleeptime.models.failures import model_error, redacted, refused_status
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.remote import DEFAULT_TIMEOUT_S, RemoteModel
from sleeptime.models.sending import announce

CONNECT_TIMEOUT_S = 10.0
LISTING_TIMEOUT_S = 30.0
NO_KEY = "no-key"

# The API as endpoints other than OpenAI's own implement it.
_PROFILE = OpenAIModelProfile(
    openai_chat_streaming_requires_finish_reason=True,
    openai_chat_supports_max_completion_tokens=False,
    supports_forced_tool_choice=True,
    openai_supports_strict_tool_definition=False,
    ignore_streamed_leading_whitespace=False,
)


def endpoint_model(
    name: str,
    base_url: str,
    model: str,
    *,
    key: str = NO_KEY,
    abilities: Abilities | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> RemoteModel:
    """Make a client of the *model* behind *base_url*. Nothing is sent yet."""
    client = http_client(timeout_s, is_loopback=_is_loopback(urlsplit(base_url).hostname or ""))
    provider = OpenAICompatibleProvider(
        "openai-compatible", base_url=base_url, api_key=key, http_client=client, profile=_PROFILE
    )
    provider_model = OpenAIChatModel(model, provider=provider)
    return RemoteModel(
        name,
        provider_model,
        http_client=client,
        dials=lambda options: _dials(name, options),
        secrets=() if key == NO_KEY else (key,),
        abilities=abilities or Abilities(context_window=provider_model.context_window),
        timeout_s=timeout_s,
    )


async def open_url(name: str, *, environ: Mapping[str, str]) -> RemoteModel:
    """Open `URL#model`, asking the endpoint for its models where none is named."""
    base_url, _, model = name.partition("#")
    parts = urlsplit(base_url)
    if parts.username or parts.password:
        shown = base_url.replace(f"{parts.netloc.rpartition('@')[0]}@", "…@")
        raise UnknownModelError(shown, "an address holds no key; put it into SLEEPTIME_API_KEY")
    if not parts.hostname:
        raise UnknownModelError(name, "the address has no host")
    key = environ.get("SLEEPTIME_API_KEY") or NO_KEY
    if key == NO_KEY and (parts.scheme == "https" or _is_loopback(parts.hostname)):
        key = environ.get("OPENAI_API_KEY") or NO_KEY
    if not model:
        model = await _only_model(name, base_url, key)
        name = f"{base_url}#{model}"
    return endpoint_model(name, base_url, model, key=key)


def http_client(timeout_s: float = DEFAULT_TIMEOUT_S, *, is_loopback: bool = False) -> httpx2.AsyncClient:
    """Make a client with bounded waits that announces what it sends. On loopback it goes past any proxy.

    llama.cpp's server closes idle connections after 5 s; there they are given up sooner.
    """
    client = create_async_httpx2_client(
        timeout=httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
        transport=httpx2.AsyncHTTPTransport(limits=httpx2.Limits(keepalive_expiry=2.0)) if is_loopback else None,
    )
    client.event_hooks["request"].append(announce)
    return client


async def _only_model(name: str, base_url: str, key: str) -> str:
    try:
        is_loopback = _is_loopback(urlsplit(base_url).hostname or "")
        async with http_client(LISTING_TIMEOUT_S, is_loopback=is_loopback) as client:
            reply = await client.get(f"{base_url.rstrip('/')}/models", headers={"Authorization": f"Bearer {key}"})
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise model_error(name, error, secrets=(key,)) from error
    if reply.is_error:
        raise refused_status(name, reply.status_code, redacted(reply.text, (key,)))
    try:
        listed: Any = reply.json()  # Any: what the endpoint says
        models = [str(entry["id"]) for entry in listed["data"]]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise MalformedReplyError(name, "its list of models is not one") from error
    if len(models) != 1:
        has = f"has {len(models)} models ({', '.join(models[:20])})" if models else "lists no model"
        raise UnknownModelError(name, f"the endpoint {has}; name one after a #")
    return models[0]


def _dials(name: str, options: Options) -> ModelSettings:
    if options.thinking_tokens is not None:
        raise NotSupportedError(name, "a thinking-token budget", "Use an effort (low, medium, high) instead.")
    if options.effort is not None:
        return ModelSettings(extra_body={"reasoning_effort": options.effort})
    return ModelSettings()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
