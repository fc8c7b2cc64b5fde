"""Turn what a provider's client raises into the errors of `core.errors`.

    401 403 → AuthenticationError        429 → RateLimitedError      5xx → UpstreamError
    404 → UnknownModelError              other 4xx → RequestRejectedError, or
                                         ContextTooLongError where it says so in numbers
    no connection, no reply in time, 408 504 → EndpointUnreachableError
    a reply that breaks off or is not what the protocol promises → MalformedReplyError

An error's text never holds a key: what a provider says is shown only after the keys in
use, and anything that looks like one, are blacked out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection

import httpx2
from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRequestTimeout,
    ModelTimeoutError,
    UnexpectedModelBehavior,
    UserError,
)

from sleeptime.core.errors import (
    AuthenticationError,
    ContextTooLongError,
    EndpointUnreachableError,
    MalformedReplyError,
    ModelError,
    NotSupportedError,
    RateLimitedError,
    RequestRejectedError,
    UnknownModelError,
    UpstreamError,
)

CLIENT_ERRORS = (ModelAPIError, UnexpectedModelBehavior, UserError, httpx2.HTTPError)

TOOL_CALLS = "tool calls"

_LOOKS_SECRET = re.compile(r"\b(?:sk|pk|rk|key|gsk|xai|AIza)[-_]?[A-Za-z0-9*_-]{12,}|(?i:bearer)\s+\S+")
_ABOUT_TOOLS = re.compile(r"\btools?\b|\bfunction.?call|tool_choice|--jinja", re.IGNORECASE)
_NO_ROOM = re.compile(r"resource.?unavailable", re.IGNORECASE)  # OpenAI, of the half-price tier
# How providers say that a prompt is too long: OpenAI and vLLM (twice), Anthropic (twice), llama.cpp, Google.
_TOO_LONG = (
    r"maximum context length is (?P<window>\d+) tokens.*?(?P<tokens>\d+) in the messages, (?P<reply>\d+) in the compl",
    r"maximum context length is (?P<window>\d+) tokens.*?(?:resulted in|request has) (?P<tokens>\d+)",
    r"prompt is too long: (?P<tokens>\d+) tokens > (?P<window>\d+)",
    r"exceed context limit: (?P<tokens>\d+) \+ (?P<reply>\d+) > (?P<window>\d+)",
    r"\((?P<tokens>\d+) tokens\) exceeds the available context size \((?P<window>\d+)",
    r"input token count \((?P<tokens>\d+)\) exceeds .*?\((?P<window>\d+)\)",
)
_TOOL_STATUSES = (400, 404, 422, 500, 501)
_DETAIL_LENGTH = 300


def model_error(
    model: str,
    error: Exception,
    *,
    secrets: Collection[str] = (),
    asked_for_tools: bool = False,
    has_begun: bool = False,
) -> ModelError | ContextTooLongError:
    """Say what *error* means. *has_begun*: part of the reply had arrived."""
    if isinstance(error, ModelHTTPError):
        return _refusal(model, error, secrets, asked_for_tools=asked_for_tools)
    if isinstance(error, (ModelTimeoutError, ModelRequestTimeout, httpx2.TimeoutException)):
        return EndpointUnreachableError(model, "it did not reply in time", was_sent=_was_sent(error))
    if isinstance(error, (ModelConnectionError, httpx2.TransportError)):
        if has_begun or _broke_off(error):
            return MalformedReplyError(model, "the connection broke off in the middle")
        return EndpointUnreachableError(model, _why_unreachable(error), was_sent=_was_sent(error))
    if isinstance(error, UserError):
        return NotSupportedError(model, "what was asked for", redacted(str(error), secrets))
    return MalformedReplyError(model, redacted(str(error), secrets).rstrip("."))


def refused_status(
    model: str, status: int, detail: str, *, retry_after_s: float | None = None
) -> ModelError | ContextTooLongError:
    """Say what an HTTP error status means. *detail* has no secrets in it."""
    if status in (401, 403):
        return AuthenticationError(model, status)
    if status == 404:
        return UnknownModelError(model, f"the endpoint has no such model or path (HTTP 404: {detail})")
    if status in (408, 504):
        return EndpointUnreachableError(model, f"it gave up waiting (HTTP {status})", was_sent=True)
    if status == 429:
        is_out_of_room = _NO_ROOM.search(detail) is not None
        return RateLimitedError(model, retry_after_s=retry_after_s, is_out_of_room=is_out_of_room)
    if status >= 500:
        return UpstreamError(model, status, retry_after_s=retry_after_s)
    return _too_long(model, detail) or RequestRejectedError(model, status, detail)


def redacted(text: str, secrets: Collection[str]) -> str:
    """*text* in one line, shortened, without anything secret."""
    for secret in secrets:
        text = text.replace(secret, "…")
    line = " ".join(_LOOKS_SECRET.sub("…", text).split())
    return line if len(line) <= _DETAIL_LENGTH else line[:_DETAIL_LENGTH] + "…"


def _refusal(
    model: str, error: ModelHTTPError, secrets: Collection[str], *, asked_for_tools: bool
) -> ModelError | ContextTooLongError:
    detail = redacted(_detail(error.body), secrets)
    status = error.status_code
    if asked_for_tools and status in _TOOL_STATUSES and _ABOUT_TOOLS.search(detail):
        return NotSupportedError(model, TOOL_CALLS, f"It said (HTTP {status}): {detail}")
    if isinstance(error, ModelQuotaExceededError):
        return RequestRejectedError(model, status, f"the account's quota or credit is used up: {detail}")
    return refused_status(model, status, detail, retry_after_s=error.retry_after)


def _too_long(model: str, detail: str) -> ContextTooLongError | None:
    """The error of a prompt that is too long, if *detail* says so in numbers. A reply needs at least a token."""
    for pattern in _TOO_LONG:
        if match := re.search(pattern, detail, re.IGNORECASE):
            said = {name: int(number) for name, number in match.groupdict().items()}
            return ContextTooLongError(
                model=model, tokens=said["tokens"], reserve=said.get("reply", 1), window=said["window"], exact=True
            )
    return None


def _detail(body: object) -> str:
    """The sentence in an error's body: `{"error": {"message": …}}`, `{"message": …}` or text."""
    for key in ("error", "message", "detail"):
        if isinstance(body, dict) and key in body:
            return _detail(body[key])  # pyright: ignore[reportUnknownArgumentType]  # whatever it is, it is shown as text
    return "no reason given" if body in (None, "", b"") else str(body)  # pyright: ignore[reportUnknownArgumentType]  # the same


def _broke_off(error: BaseException) -> bool:
    """Whether a body came in part: `incomplete` is said of bodies, not of connections that never spoke."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, httpx2.RemoteProtocolError) and "without sending complete" in str(cause):
            return True
        if isinstance(cause, httpx2.DecodingError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _was_sent(error: BaseException) -> bool:
    if isinstance(error, ModelConnectionError):
        return error.phase not in ("pool", "connect")
    return not isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout))


def _why_unreachable(error: BaseException) -> str:
    """The innermost cause in words, such as "Connection refused"."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    if isinstance(cause, OSError) and cause.errno and cause.errno > 0:
        return os.strerror(cause.errno)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return redacted(str(cause), ()) or type(cause).__name__
