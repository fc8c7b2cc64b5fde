"""A provider's model, written `provider:model`, as pydantic-ai knows them.

Keys come from the environment that is given, and are looked for before anything is
sent. This file does not know endpoints by URL or local files.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, cast

import httpx2
from pydantic_ai.exceptions import UserError
from pydantic_ai.models import infer_model, known_model_names
from pydantic_ai.providers import Provider, infer_provider_class
from pydantic_ai.settings import ModelSettings

from sleeptime.core.errors import MissingKeyError, NotSupportedError, UnknownModelError
from sleeptime.models.openai_compatible import OnHeaders, http_client
from sleeptime.models.protocol import Abilities, Options
from sleeptime.models.remote import RemoteModel

# Where each provider's key is, the first one set wins; others are asked for by pydantic-ai itself.
_KEYS: dict[str, tuple[str, ...]] = {
    "openai": ("OPENAI_API_KEY",),
    "openai-chat": ("OPENAI_API_KEY",),
    "openai-responses": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "cerebras": ("CEREBRAS_API_KEY",),
    "cohere": ("CO_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "fireworks": ("FIREWORKS_API_KEY",),
    "groq": ("GROQ_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "moonshotai": ("MOONSHOTAI_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "together": ("TOGETHER_API_KEY",),
    "xai": ("XAI_API_KEY",),
}
_BASE_URLS = {
    "openai": "OPENAI_BASE_URL",
    "openai-chat": "OPENAI_BASE_URL",
    "openai-responses": "OPENAI_BASE_URL",
    "anthropic": "ANTHROPIC_BASE_URL",
}
_REFUSE_SAMPLING = ("anthropic_disallows_sampling_settings", "bedrock_disallows_sampling_settings")
# Adapters that leave an effort out, or send one and the same for all, where the profile lacks this.
_GRADES_EFFORT = {
    "cerebras": "openai_reasoning_efforts",
    "groq": "groq_supports_graded_reasoning_effort",
    "huggingface": "none does",
    "mistral": "none does",
    "xai": "grok_reasoning_efforts",
    "zai": "zai_supports_reasoning_effort",
}
_OWN_EXTRAS = ("anthropic", "google")
_VARIABLE = re.compile(r"`([A-Z][A-Z0-9_]+)` environment variable")


def provider_names() -> list[str]:
    """The providers that can be written before the colon."""
    return sorted({name.partition(":")[0] for name in _known_names()} | set(_KEYS))


def near_model(name: str) -> str | None:
    """A known `provider:model` close to *name*, which may lack its provider."""
    known = _known_names()
    if sold := [candidate for candidate in known if candidate.partition(":")[2] == name]:
        return min(sold, key=len)
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.75)), None)


def open_provider(name: str, *, environ: Mapping[str, str], on_headers: OnHeaders | None = None) -> RemoteModel:
    """Make a client of `provider:model`. Nothing is sent yet."""
    provider_name = name.partition(":")[0]
    key = ""
    if variables := _KEYS.get(provider_name):
        key = next((environ[variable] for variable in variables if environ.get(variable)), "")
        if not key:
            raise MissingKeyError(name, variables[0])
    client: httpx2.AsyncClient | None = None

    def provider(wanted: str) -> Provider[Any]:  # Any: each provider has its own client type
        nonlocal client
        make = infer_provider_class(wanted)
        accepted = inspect.signature(make).parameters
        arguments: dict[str, Any] = {"api_key": key} if key else {}
        if (base_url := environ.get(_BASE_URLS.get(wanted, ""))) and "base_url" in accepted:
            arguments["base_url"] = base_url
        if "http_client" in accepted:
            client = arguments["http_client"] = http_client(on_headers=on_headers)
        return make(**arguments)

    try:
        provider_model = infer_model(name, provider_factory=provider)
    except ImportError as error:
        package = f"sleeptime[{provider_name}]" if provider_name in _OWN_EXTRAS else _extra_of(error, provider_name)
        raise UnknownModelError(name, f'its client is not installed; run: pip install "{package}"') from error
    except UserError as error:
        if match := _VARIABLE.search(str(error)):
            raise MissingKeyError(name, match[1]) from error
        raise UnknownModelError(name, str(error).rstrip(".")) from error
    except ValueError as error:
        near = difflib.get_close_matches(provider_name, provider_names(), n=1)
        raise UnknownModelError(
            name, f"there is no provider {provider_name!r}" + (f" (did you mean {near[0]!r}?)" if near else "")
        ) from error
    profile = provider_model.profile
    return RemoteModel(
        name,
        provider_model,
        http_client=client,
        dials=lambda options: dials(name, provider_model.system, profile, options),
        abilities=replace(
            abilities(profile, unsupported=provider_model.unsupported_settings),
            context_window=provider_model.context_window,
        ),
        samples_while_thinking=not _is_claude(profile) and not profile.get("openai_supports_reasoning", False),
        secrets=(key,),
    )


def abilities(profile: Mapping[str, Any], *, unsupported: Collection[str] = ()) -> Abilities:  # Any: as pydantic-ai's
    """What a model with this profile of pydantic-ai's can do when no dial is turned."""
    thinks = profile.get("thinking_always_enabled", False) or profile.get("thinking_enabled_by_default", False)
    must_call = profile.get("supports_forced_tool_choice", True) and (
        not thinks or profile.get("supports_forced_tool_choice_with_thinking", True)
    )
    refuses_sampling = (
        "temperature" in {*unsupported, *profile.get("openai_unsupported_model_settings", ())}
        or any(profile.get(key, False) for key in _REFUSE_SAMPLING)
        or (thinks and profile.get("openai_supports_reasoning", False))
    )
    return Abilities(
        tools=profile.get("supports_tools", True) and must_call, sampling=not refuses_sampling, dials=_thinks(profile)
    )


def dials(name: str, system: str, profile: Mapping[str, Any], options: Options) -> ModelSettings:  # Any: the same
    """The provider's settings for effort and thinking; a dial it would drop in silence is an error."""
    if options.effort is None and options.thinking_tokens is None:
        return ModelSettings()
    if not _thinks(profile):
        raise NotSupportedError(name, "reasoning effort or a thinking budget", "Use a verbosity (0 to 4) instead.")
    settings: dict[str, Any] = {}  # Any: each provider has its own
    if options.effort is not None:
        if system in _GRADES_EFFORT and not profile.get(_GRADES_EFFORT[system]):
            raise NotSupportedError(name, "a reasoning effort", "Its provider takes none; use a verbosity (0 to 4).")
        settings["thinking"] = options.effort
    elif system == "anthropic" and not profile.get("anthropic_disallows_budget_thinking", False):
        settings["anthropic_thinking"] = {"type": "enabled", "budget_tokens": options.thinking_tokens}
    elif system.startswith("google"):
        settings["google_thinking_config"] = {"thinking_budget": options.thinking_tokens}
    else:
        raise NotSupportedError(name, "a thinking-token budget", "Use an effort (low, medium, high) instead.")
    if options.tools and (_is_claude(profile) or not profile.get("supports_forced_tool_choice_with_thinking", True)):
        settings["tool_choice"] = "auto"  # made to call a tool, such a model does not think, or the call is refused
    return cast("ModelSettings", settings)


def _thinks(profile: Mapping[str, Any]) -> bool:  # Any: the same
    return bool(profile.get("supports_thinking", False) or profile.get("thinking_always_enabled", False))


def _is_claude(profile: Mapping[str, Any]) -> bool:  # Any: the same
    return "anthropic_disallows_sampling_settings" in profile


def _known_names() -> list[str]:
    return [name for name in known_model_names() if ":" in name and "/" not in name.partition(":")[0]]


def _extra_of(error: ImportError, provider_name: str) -> str:
    match = re.search(r"pydantic-ai-slim\[[a-z_-]+\]", str(error))
    return match[0] if match else f"pydantic-ai-slim[{provider_name}]"
