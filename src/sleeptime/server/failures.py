"""What an error means over HTTP: its status, and one shape for all.

    {"error": {"type": "ContextNotFoundError", "message": "No context 'x'. …"}}

The type is the name in `sleeptime.core.errors`, or the phrase of the status. This file does not know routes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sleeptime.core import errors
from sleeptime.core.errors import JobNotFoundError, ModelError, SleeptimeError

STATUSES: Mapping[type[SleeptimeError], int] = {
    errors.ContextNotFoundError: 404,
    errors.VersionNotFoundError: 404,
    errors.JobNotFoundError: 404,
    errors.NameTakenError: 409,
    errors.NoRepositoryError: 409,
    errors.BudgetError: 409,
    errors.NothingLearnedError: 409,
    errors.ContextBusyError: 409,
    errors.LeaseLostError: 409,
    errors.InputTooLargeError: 413,
    errors.InputError: 422,
    errors.NotSupportedError: 409,
    errors.RateLimitedError: 429,
    errors.ModelNotChosenError: 503,
    errors.UnknownModelError: 503,
    errors.MissingKeyError: 503,
    errors.ModelError: 502,
    errors.StoreError: 503,
    errors.SleeptimeError: 500,
}
"""By class; a class that is not here has the status of its nearest ancestor."""
RETRY_AFTER_S = 1


class JsonReply(Response):
    """A value as JSON, in ASCII, so that it holds any text."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:  # Any: JSON
        """Write *content*, which must be plain."""
        return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")


def status_of(error: SleeptimeError) -> int:
    """The status that tells *error*."""
    if isinstance(error, JobNotFoundError) and error.is_known:
        return 409
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def told(kind: str, message: str) -> dict[str, Any]:
    """The shape of every error."""
    return {"error": {"type": kind, "message": message}}


def reply(status: int, message: str, *, kind: str = "", headers: Mapping[str, str] | None = None) -> JsonReply:
    """An error as a reply. Those that pass by themselves say when to try again."""
    later = {"retry-after": str(RETRY_AFTER_S)} if status in (429, 503) else {}
    shape = told(kind or HTTPStatus(status).phrase.replace(" ", "_").lower(), message)
    return JsonReply(shape, status, headers={**later, **(headers or {})})


async def of_sleeptime(_request: Request, error: Exception) -> Response:
    """Tell an error raised on purpose."""
    assert isinstance(error, SleeptimeError)
    asked_s = error.retry_after_s if isinstance(error, ModelError) else None
    headers = None if asked_s is None else {"retry-after": str(math.ceil(asked_s))}
    return reply(status_of(error), str(error), kind=type(error).__name__, headers=headers)


async def of_http(_request: Request, error: Exception) -> Response:
    """Tell what routing refuses: no such path, or a method that it does not have."""
    assert isinstance(error, HTTPException)
    return reply(error.status_code, error.detail, headers=error.headers)


async def of_a_bug(_request: Request, _error: Exception) -> Response:
    """Tell nothing of an error that nobody foresaw; the log has it under the request's id."""
    return reply(500, "The server failed on this request; its log says how. Try again, or report it.")
