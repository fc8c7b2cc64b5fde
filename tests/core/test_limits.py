"""What is left of a rate limit, and how long a sleep leaves it alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sleeptime.core.limits import Limits

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
OPENAI = {
    "x-ratelimit-limit-requests": "100",
    "x-ratelimit-remaining-requests": "60",
    "x-ratelimit-reset-requests": "40s",
    "x-ratelimit-limit-tokens": "1000",
    "x-ratelimit-remaining-tokens": "200",
    "x-ratelimit-reset-tokens": "1m20s",
}


def heard(headers: dict[str, str], now_s: float = 0.0) -> Limits:
    return Limits().heard(headers, now_s=now_s, now=NOW)


def test_without_headers_nothing_is_assumed() -> None:
    assert heard({}).wait_s(10**9, share=0.01, now_s=0.0) == 0.0


def test_a_sleep_waits_until_the_share_of_the_answers_is_there_again() -> None:
    limits = heard(OPENAI)  # tokens come back at 10 a second

    assert limits.wait_s(100, share=0.5, now_s=0.0) == pytest.approx(40.0)
    assert limits.wait_s(100, share=0.5, now_s=30.0) == pytest.approx(10.0)
    assert limits.wait_s(100, share=0.9, now_s=0.0) == 0.0
    assert limits.wait_s(5000, share=0.5, now_s=0.0) == pytest.approx(80.0), "no longer than until it is full"


def test_calls_that_go_out_together_do_not_use_the_same_room_twice() -> None:
    limits = heard(OPENAI | {"x-ratelimit-remaining-tokens": "1000"})

    assert limits.wait_s(400, share=0.5, now_s=0.0) == 0.0
    assert limits.taken(400, now_s=0.0).wait_s(400, share=0.5, now_s=0.0) > 0.0


@pytest.mark.parametrize(
    ("reset", "seconds"), [("6m0s", 360), ("250ms", 0.25), ("1.5", 1.5), ("1h", 3600), ("2026-05-04T12:00:30Z", 30)]
)
def test_resets_are_read_as_providers_write_them(reset: str, seconds: float) -> None:
    headers = {"limit": "10", "remaining": "0", "reset": reset}

    limits = heard({f"anthropic-ratelimit-requests-{name}": said for name, said in headers.items()})

    assert limits.wait_s(0, share=1.0, now_s=0.0) == pytest.approx(seconds / 10)


def test_a_wait_that_anybody_was_told_is_the_wait_of_all_sleeps() -> None:
    assert Limits().told_to_wait(7.0, now_s=1.0).wait_s(0, share=1.0, now_s=3.0) == 5.0
