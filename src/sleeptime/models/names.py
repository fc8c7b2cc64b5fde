"""From a model's name to the model: the one place that knows every kind.

tiny                     the model that ships in the package
gguf:/path/file.gguf     a GGUF file on this machine
http://host:port/v1#name an OpenAI-compatible endpoint
provider:model           a provider, as pydantic-ai knows them
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from anyio import to_thread

from sleeptime.core.errors import UnknownModelError
from sleeptime.models.protocol import Model

TINY = "tiny"
TINY_PATH = Path(__file__).parents[1] / "data" / "tiny.gguf"


async def open_model(
    name: str, *, environ: Mapping[str, str], on_headers: Callable[[Mapping[str, str]], None] | None = None
) -> Model:
    """Open the model called *name*, with keys from *environ*. *on_headers* is given those of every reply.

    Raises UnknownModelError, with a near match where there is one, MissingKeyError, or
    NotSupportedError where this machine cannot run it.
    """
    name = name.strip()
    # Clients and native code take up to a second to import, and `sleeptime --help` needs none of it.
    if name == TINY or name.startswith("gguf:"):
        from sleeptime.models.local import open_gguf  # noqa: PLC0415 - the reason above

        if name == TINY:
            await to_thread.run_sync(check_tiny, TINY_PATH)
            return await open_gguf(name, TINY_PATH, prompt_set="tiny")
        return await open_gguf(name, _file(name))
    if name.startswith(("http://", "https://")):
        from sleeptime.models.openai_compatible import open_url  # noqa: PLC0415 - the reason above

        return await open_url(name, environ=environ, on_headers=on_headers)
    from sleeptime.models.providers import near_model, open_provider  # noqa: PLC0415 - the reason above

    provider, colon, model = name.partition(":")
    if not colon or not provider or not model:
        near = difflib.get_close_matches(name.lower(), [TINY], n=1) or [near_model(name)]
        meant = f" (did you mean {near[0]!r}?)" if near[0] else ""
        raise UnknownModelError(name, ("it names no provider" if name else "it is empty") + meant)
    return open_provider(name, environ=environ, on_headers=on_headers)


def check_tiny(path: Path) -> None:
    """Compare the shipped model with the hash beside it. Raises UnknownModelError."""
    if not path.exists():
        raise UnknownModelError(TINY, f"this installation has no {path.name}; install the package again")
    stated = path.with_suffix(".sha256")
    if stated.exists():
        expected = stated.read_text(encoding="utf-8").split()[0]
        if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise UnknownModelError(TINY, f"{path.name} is damaged (its SHA-256 differs); install the package again")


def _file(name: str) -> Path:
    written = name.removeprefix("gguf:")
    if not written:
        raise UnknownModelError(name, "there is no path after gguf:")
    return Path(written).expanduser()
