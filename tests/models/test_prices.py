"""Prices: the user's cards first, then what is known, else unknown."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from importlib.metadata import version
from pathlib import Path

import pytest

from sleeptime.core.errors import PriceCardError
from sleeptime.core.usage import PriceCard, Usage
from sleeptime.models.prices import load_cards, price_card

TODAY = date(2026, 11, 20)
CARDS = """\
# my prices
[[card]]
model = "openai:gpt-5*"
dated = 2026-11-01
input_usd_per_mtok = 1.25
cached_input_usd_per_mtok = 0.125
output_usd_per_mtok = 10

[[card]]
model = "tiny"
dated = 2026-10-01
input_usd_per_mtok = 0
output_usd_per_mtok = 0.01
"""


def card(name: str, dated: date, price: float) -> PriceCard:
    return PriceCard(name=name, dated=dated, input_usd_per_mtok=price, output_usd_per_mtok=price)


def test_cards_are_read_and_matched_by_glob(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(CARDS)
    cards = load_cards(path)

    found = price_card("openai:gpt-5-mini", cards=cards, today=TODAY)

    assert found is not None
    assert found.name == "openai:gpt-5* 2026-11-01"
    assert found.cost_usd(Usage(input_tokens=2_000_000, cached_input_tokens=1_000_000)) == pytest.approx(1.375)
    assert price_card("tiny", cards=cards, today=TODAY) is not None


def test_the_newest_card_of_today_wins_and_an_exact_name_before_a_glob() -> None:
    old, new, future = (
        card("x:*", date(2026, 1, 1), 1),
        card("x:*", date(2026, 6, 1), 2),
        card("x:*", date(2027, 1, 1), 3),
    )
    exact = card("x:m", date(2025, 1, 1), 4)

    def price(*cards: PriceCard) -> float | None:
        found = price_card("x:m", cards=cards, today=TODAY)
        return found and found.input_usd_per_mtok

    assert price(old, new, future) == 2
    assert price(old, exact, new) == 4
    assert price(future) is None


def test_the_reported_model_is_matched_too() -> None:
    own = card("gpt-5-mini-2025-08-07", date(2026, 1, 1), 7)

    assert price_card("openai:latest", "gpt-5-mini-2025-08-07", cards=[own], today=TODAY) is not None


def test_a_known_model_has_a_known_price() -> None:
    found = price_card("openai:gpt-5-mini", today=TODAY)

    assert found is not None
    assert (found.input_usd_per_mtok, found.cached_input_usd_per_mtok, found.output_usd_per_mtok) == (0.25, 0.025, 2.0)
    assert found.name.startswith("genai-prices ")


def test_a_long_prompt_makes_all_its_tokens_dearer() -> None:
    found = price_card("anthropic:claude-sonnet-4-5", today=TODAY)

    assert found is not None
    assert [start for start, _ in found.above] == [200_000]
    assert found.at(200_000) is found
    at_most = found.cost_usd(Usage(input_tokens=200_000, output_tokens=1_000))
    beyond = found.cost_usd(Usage(input_tokens=200_001, output_tokens=1_000))
    assert at_most == pytest.approx(0.2 * 3 + 0.001 * 15)
    assert beyond == pytest.approx(0.200001 * 6 + 0.001 * 22.5)


def test_a_call_pays_the_highest_tier_it_passes() -> None:
    dear = replace(card("m", TODAY, 9), cached_input_usd_per_mtok=1)
    tiered = replace(card("m", TODAY, 1), above=((10, card("m", TODAY, 3)), (100, dear)))

    assert [tiered.at(tokens).input_usd_per_mtok for tokens in (0, 10, 11, 100, 101)] == [1, 1, 3, 3, 9]
    assert tiered.cost_usd(Usage(input_tokens=200, cached_input_tokens=100)) == pytest.approx(1000e-6)


@pytest.mark.parametrize("starts", [(10, 5), (5, 5)])
def test_tiers_ascend(starts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        replace(card("m", TODAY, 1), above=tuple((start, card("m", TODAY, 2)) for start in starts))


def test_a_known_price_is_dated_by_its_data_not_by_today() -> None:
    found = price_card("openai:gpt-5-mini", today=TODAY)
    later = price_card("openai:gpt-5-mini", today=date(2036, 1, 1))

    assert found is not None
    assert later is not None
    assert date(2025, 1, 1) < found.dated <= TODAY
    assert later.dated < date(2036, 1, 1)
    assert version("genai-prices") in found.name


@pytest.mark.parametrize(
    "model", ["tiny", "gguf:/m.gguf", "http://127.0.0.1:1/v1#gpt-5-mini", "scripted", "openai:nonesuch", "nobody:gpt-5"]
)
def test_an_unknown_price_is_none(model: str) -> None:
    assert price_card(model, today=TODAY) is None


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("output_usd_per_mtok = 0.01", "", "line 9: 'output_usd_per_mtok' is missing"),
        ("output_usd_per_mtok = 0.01", "output_usd_per_mtok = -1", "line 9: output_usd_per_mtok should be"),
        ("output_usd_per_mtok = 0.01", "output_usd_per_mtok = nan", "line 9: output_usd_per_mtok should be"),
        ("output_usd_per_mtok = 0.01", "output_usd_per_mtok = true", "line 9: output_usd_per_mtok should be"),
        ("output_usd_per_mtok = 0.01", 'output_usd_per_mtok = "1"', "line 9: output_usd_per_mtok should be"),
        ('model = "tiny"', 'modell = "tiny"', "line 9: 'modell' is not known"),
        ('model = "tiny"', 'model = ""', "line 9: model should be"),
        ("dated = 2026-10-01", 'dated = "2026-10-01"', "line 9: dated should be a day"),
        ("dated = 2026-10-01", "dated = 2026-10-01T00:00:00", "line 9: dated should be a day"),
        ("dated = 2026-10-01", "dated = 2026-13-01", "line 11"),
        ("# my prices", "currency = 'EUR'", "'currency' is not known here"),
        ("# my prices", "card = 3", "is not TOML"),
    ],
)
def test_a_wrong_card_is_told_with_its_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(CARDS.replace(old, new))

    with pytest.raises(PriceCardError) as caught:
        load_cards(path)
    assert told in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(PriceCardError, match="No such file"):
        load_cards(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PriceCardError, match="not UTF-8"):
        load_cards(tmp_path / "b.toml")


def test_an_empty_file_has_no_cards(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text("")

    assert load_cards(tmp_path / "e.toml") == ()
