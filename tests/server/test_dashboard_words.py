"""What the first page concludes from figures: pure, so every case is cheap to see."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sleeptime.core.ledger import Phase
from sleeptime.core.saved import Compared
from sleeptime.core.shown import Counts, Spent
from sleeptime.core.usage import Usage
from sleeptime.server.dashboard.contexts import runs
from sleeptime.server.dashboard.overview import Overview, overview

DAY = datetime(2026, 5, 4, tzinfo=UTC)


def spent(phase: Phase, tokens: int, *, day: int = 0, answers: int = 0, has_notes: bool = False) -> Spent:
    return Spent(
        since=DAY + timedelta(days=day),
        phase=phase,
        has_notes=has_notes,
        calls=max(1, answers),
        answers=answers,
        usage=Usage(output_tokens=tokens),
        cost_usd=0.0,
        unpriced=1,
    )


def page(*, sleep: int, plain: float, notes: float, spread: float, shown: int = 0) -> Overview:
    """What is said of ten answers with notes and ten without, on one context; the first *shown* days are left out."""
    scatter = 10 * spread**2
    compared = Compared(
        notes=10,
        notes_total=10 * notes,
        notes_scatter=scatter,
        notes_contexts=1,
        plain=10,
        plain_total=10 * plain,
        plain_squares=10 * plain**2 + scatter,
        plain_scatter=scatter,
        plain_contexts=1,
        own=10,
        own_baseline=10 * plain,
        own_weight=10.0,
    )
    rows = [spent(Phase.SLEEP, sleep)]
    rows += [spent(Phase.TEST, int(2 * notes), day=day, answers=2, has_notes=True) for day in range(1, 6)]
    return overview(
        {"tokens": compared, "usd": Compared(), "seconds": compared},
        rows,
        [row for row in rows if row.since >= DAY + timedelta(days=shown)],
        Counts(contexts=1, slept_on=1, jobs=()),
        unit=None,
        span="all",
        step=timedelta(days=1),
    )


@pytest.mark.parametrize(
    ("sleep", "plain", "notes", "spread", "headline", "tone"),
    [
        (1000, 600, 100, 10, "Sleeping has saved 4,000 tokens.", "good"),
        (1000, 600, 450, 400, "Sleeping has saved 500 tokens so far; it may be chance.", "open"),
        (6000, 600, 100, 10, "Sleeping has cost 1,000 tokens more than it has saved so far.", "open"),
        (1000, 600, 700, 10, "Sleeping has cost 2,000 tokens more than it has saved so far.", "bad"),
    ],
)
def test_the_headline_claims_no_more_than_was_shown(
    sleep: int, plain: float, notes: float, spread: float, headline: str, tone: str
) -> None:
    found = page(sleep=sleep, plain=plain, notes=notes, spread=spread)

    assert (found.headline, found.tone) == (headline, tone)


def test_what_is_not_paid_for_yet_says_after_how_many_more_queries() -> None:
    found = page(sleep=6000, plain=600, notes=100, spread=10)

    assert "paid for after about 3 more" in found.below


@pytest.mark.parametrize("shown", [0, 3])
def test_the_line_of_the_chart_ends_at_the_figure_whatever_part_of_it_is_shown(shown: int) -> None:
    found = page(sleep=1000, plain=600, notes=100, spread=10, shown=shown)

    assert found.net
    value, low, high = (each.values for each in found.net.series)
    assert value[-1] == pytest.approx(4000)
    assert low[-1] is not None
    assert high[-1] is not None
    assert low[-1] < 4000 < high[-1]
    assert len(value) == len(found.net.at) == 7 - shown
    if shown == 0:
        assert value[:3] == (0.0, -1000.0, pytest.approx(0.0))


def test_money_is_not_measured_where_no_price_is_known() -> None:
    found = page(sleep=1000, plain=600, notes=100, spread=10)

    money, tokens, _ = found.figures
    assert money.value == "not measured yet"
    assert money.note == "6 calls of unknown price left out"
    assert tokens.value == "4,000 tokens"
    assert not found.can_show_money


def test_a_comparison_of_words_gives_both_texts_back() -> None:
    before, after = "The north sold 412 pumps.", "The south sold 388 pumps in April."

    found = runs(before, after)

    assert "".join(text for sort, text in found if sort != "new") == before
    assert "".join(text for sort, text in found if sort != "gone") == after
