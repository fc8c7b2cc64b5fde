"""Does a prompt fit a model's window? Asked before any token is spent."""

from __future__ import annotations

from collections.abc import Sequence

from sleeptime.core.errors import ContextTooLongError
from sleeptime.core.messages import Message, Tool
from sleeptime.models.protocol import Model

LEAST_REPLY_TOKENS = 16
_TOKENS_PER_MESSAGE = 16


async def room_for_reply(model: Model, messages: Sequence[Message], *, tools: Sequence[Tool] = (), wanted: int) -> int:
    """How many of the *wanted* output tokens the window leaves beside *messages*.

    A text has no more tokens than bytes, so a short prompt need not be counted: what the window
    surely leaves is then enough, if it is all that is *wanted* or half of the window.
    Raises ContextTooLongError where fewer than 16 are left; with an estimate, where fewer
    are left even by the low one. Between the two estimates half of what the low one
    leaves is asked for, and the provider decides.
    """
    window = model.abilities.context_window
    if window is None:
        return wanted
    at_most = sum(len(message.content.encode()) + _TOKENS_PER_MESSAGE for message in messages)
    at_most += sum(len(str(tool)) for tool in tools)
    surely = window - at_most
    if surely >= min(wanted, window // 2):
        return min(wanted, surely)
    count = await model.count_tokens(messages, tools=tools)
    least = min(LEAST_REPLY_TOKENS, wanted)
    certain = window - count.tokens
    possible = certain if count.exact else window - count.at_least
    if possible < least:
        raise ContextTooLongError(
            model=model.name, tokens=count.tokens, reserve=least, window=window, exact=count.exact
        )
    return min(wanted, max(certain, possible // 2, least))
