"""How much of a window a prompt leaves for the reply."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sleeptime.core.errors import ContextTooLongError
from sleeptime.core.messages import Message, TokenCount, Tool
from sleeptime.models.protocol import Abilities
from sleeptime.models.scripted import ScriptedModel
from sleeptime.models.window import room_for_reply

pytestmark = pytest.mark.anyio


class Counting(ScriptedModel):
    """Counts words, and how often it was asked to."""

    def __init__(self, window: int | None) -> None:
        super().__init__([], abilities=Abilities(context_window=window))
        self.counted = 0

    async def count_tokens(self, messages: Sequence[Message], *, tools: Sequence[Tool] = ()) -> TokenCount:
        self.counted += 1
        return await super().count_tokens(messages, tools=tools)


def prompt(words: int) -> list[Message]:
    return [Message("user", "abc " * words)]


@pytest.mark.parametrize(
    ("window", "words", "wanted", "room", "counted"),
    [
        (None, 1000, 500, 500, 0),  # nothing is known, so the provider decides
        (1000, 100, 400, 400, 0),  # 416 bytes at most, and 400 fit behind them
        (1000, 100, 900, 584, 0),  # not all of 900, but more than half of the window is left for sure
        (1000, 150, 900, 850, 1),  # by bytes less than half is left, so it is counted
        (1000, 980, 900, 20, 1),
        (100, 10, 8, 8, 0),
    ],
)
async def test_a_prompt_is_counted_only_where_its_length_in_bytes_does_not_settle_it(
    window: int | None, words: int, wanted: int, room: int, counted: int
) -> None:
    model = Counting(window)

    assert await room_for_reply(model, prompt(words), wanted=wanted) == room
    assert model.counted == counted


async def test_a_prompt_that_leaves_no_room_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ContextTooLongError):
        await room_for_reply(Counting(1000), prompt(990), wanted=500)
