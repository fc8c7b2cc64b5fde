"""Answers go first: no step of a sleep begins while one works here, and none waits for ever."""

from __future__ import annotations

import time

import anyio
import pytest
from benchmarks.foreground import Found, measure

from sleeptime.turns import LONGEST_WAIT_S, Turns, left, returned, step


@pytest.mark.anyio
async def test_a_step_begins_when_the_answer_has_left_for_its_model() -> None:
    turns, order = Turns(), list[str]()

    async def sleep() -> None:
        with turns.behind():
            async with step():
                order.append("step")

    async with anyio.create_task_group() as group:
        with turns.ahead():
            group.start_soon(sleep)
            await anyio.sleep(0.02)
            order.append("sent")
            await left(None)
            await anyio.sleep(0.02)
            await returned(None)
            order.append("answered")

    assert order == ["sent", "step", "answered"]


@pytest.mark.anyio
async def test_steps_are_taken_one_at_a_time_and_give_up_their_turn_while_a_request_is_out() -> None:
    turns, here = Turns(), 0

    async def sleep() -> None:
        nonlocal here
        with turns.behind():
            async with step():
                here += 1
                assert here == 1
                await anyio.sleep(0.01)
                here -= 1
                await left(None)
                await anyio.sleep(0.05)
                await returned(None)

    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(sleep)

    assert time.perf_counter() - began < 4 * 0.06


@pytest.mark.anyio
async def test_a_request_of_a_sleep_outside_its_steps_takes_no_turn_from_others() -> None:
    turns = Turns()

    async def other() -> None:
        with turns.behind():
            async with step():
                pass

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            with turns.behind():
                await left(None)
                await returned(None)
                group.start_soon(other)
                async with step():
                    pass


@pytest.mark.anyio
async def test_a_step_waits_for_a_long_answer_but_not_for_ever() -> None:
    turns = Turns()
    began = time.perf_counter()
    with turns.ahead():
        async with anyio.create_task_group() as group:

            async def sleep() -> None:
                with turns.behind():
                    async with step():
                        pass

            group.start_soon(sleep)

    assert LONGEST_WAIT_S * 0.9 <= time.perf_counter() - began < LONGEST_WAIT_S + 2


@pytest.mark.anyio
async def test_the_measurement_runs_in_small_and_sleeps_meanwhile() -> None:
    found = await measure("stream", "here", pairs=1, seconds=2.0, asked=2, slept_on=4)

    assert found.rounds > 0
    assert len(found.with_s[0]) == len(found.without_s[0]) > 0


def test_it_tells_answers_that_sleep_made_late() -> None:
    quiet = ((0.2,) * 100,) * 3
    late = Found(arrival="stream", where="here", without_s=quiet, with_s=((0.22,) * 100,) * 3, rounds=1, block_s=1.0)

    assert late.inflation() == pytest.approx(1.1)
    assert not late.is_met
