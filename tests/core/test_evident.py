"""What the documentation says already is told from what it does not."""

from __future__ import annotations

import pytest

from sleeptime.core.evident import Documentation

README = """# Shop

Shop sells things over the web. Install it with `pip install shop`, then run `shop serve` on port 8000.

Orders are kept in PostgreSQL. Set DATABASE_URL before the first start.

## Tests

Run the tests with `just test`; the slow ones need a database.
"""
DOCS = Documentation.of([README, "# Billing\n\nInvoices are written at midnight by the worker.\n"])


@pytest.mark.parametrize(
    "note",
    [
        "Run the tests with just test.",
        "The slow tests need a database; run them with `just test`.",
        "Orders are kept in PostgreSQL.",
        "Before the first start DATABASE_URL is set.",
        "Invoices are written by the worker at midnight.",
    ],
)
def test_what_a_page_says_is_evident(note: str) -> None:
    assert DOCS.says(note)


@pytest.mark.parametrize(
    "note",
    [
        "Run the tests of billing/ledger.py alone with `just test tests/test_ledger.py`.",
        "Orders are kept in PostgreSQL, and written in shop/orders/store.py alone.",
        "A new payment method needs billing/methods.py, billing/forms.py and a migration.",
        "Orders.",
        "",
    ],
)
def test_what_no_page_says_is_not(note: str) -> None:
    assert not DOCS.says(note)


def test_words_from_all_over_the_pages_do_not_make_a_note_evident() -> None:
    assert not DOCS.says("Invoices need DATABASE_URL, port 8000 and the slow tests.")


def test_without_documentation_nothing_is_evident() -> None:
    assert not Documentation.of([]).says("Run the tests with just test.")
    assert not Documentation.of([""]).says("Run the tests with just test.")
