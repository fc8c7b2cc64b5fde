"""Find what a model's tokens cost: the user's own cards first, then `genai-prices`.

    [[card]]
    model = "openai:gpt-5*"             # a name or a glob over `provider:model`
    dated = 2026-11-01
    input_usd_per_mtok = 1.25
    cached_input_usd_per_mtok = 0.125   # optional
    output_usd_per_mtok = 10.0
    tier = "flex"                       # optional: only calls that the provider says it served at this tier

Some providers charge more for long prompts: their cards have tiers. Writing to a
provider's cache is not priced: no request of ours asks for it. A local model costs
what the user's card says, else it is unknown, never 0.

A card from `genai-prices` names the release its prices come from. That release does
not say when it was made; the card is dated by the newest day on which one of its
prices begins, today at the latest: the data are as new as that, or newer.

This file does not know usage or the ledger.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, StartDateConstraint, TieredPrices

from sleeptime.core.errors import PriceCardError
from sleeptime.core.usage import PriceCard

_REQUIRED = ("model", "dated", "input_usd_per_mtok", "output_usd_per_mtok")
_OPTIONAL = ("cached_input_usd_per_mtok", "tier")
FLEX = "flex"
_GENAI_PROVIDERS = {
    "openai-chat": "openai",
    "openai-responses": "openai",
    "google-cloud": "google",
    "bedrock": "aws",
    "xai": "x-ai",
    "azure-responses": "azure",
}


def price_card(
    model_name: str,
    reported_model: str | None = None,
    *,
    cards: Sequence[PriceCard] = (),
    today: date,
) -> PriceCard | None:
    """Find the card of *model_name*, or of the model the provider reported; None where no price is known.

    Of the user's cards that match and are not dated after *today*, one that names the
    model exactly goes before a glob, and a newer one before an older one.
    """
    names = [name for name in (model_name, reported_model) if name]
    own = [card for card in cards if card.dated <= today and any(fnmatchcase(name, card.name) for name in names)]
    best = {card.tier: card for card in sorted(own, key=lambda card: (card.name in names, card.dated))}
    named = {tier: replace(card, name=_named(card)) for tier, card in best.items()}
    if standard := named.pop("", None):
        return replace(standard, tiers=tuple(named.values()))
    provider, colon, model = model_name.partition(":")
    if not colon or provider == "gguf" or model.startswith("//"):
        return None
    known = _known_card(_GENAI_PROVIDERS.get(provider, provider), [reported_model, model], today)
    return replace(known, tiers=(*named.values(), *known.tiers)) if known else None


def _named(card: PriceCard) -> str:
    return f"{card.name} {card.dated.isoformat()}" + (f" {card.tier}" if card.tier else "")


def load_cards(path: Path) -> tuple[PriceCard, ...]:
    """Read the cards of a TOML file. Raises PriceCardError, which says where and what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise PriceCardError(f"The price cards {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise PriceCardError(f"The price cards {path} are not UTF-8 text.") from error
    except tomllib.TOMLDecodeError as error:
        raise PriceCardError(f"{path} is not TOML: {error}.") from error
    entries: Any = table.pop("card", [])  # Any: what the user wrote
    if table or not isinstance(entries, list):
        extra = next(iter(table), "card")
        raise PriceCardError(f"{path}: {extra!r} is not known here. Begin each card with a line `[[card]]`.")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.replace(" ", "").startswith("[[card]]")]
    cards: list[PriceCard] = []
    for index, entry in enumerate(entries):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # checked by _card
        where = f"{path}, line {lines[index]}" if len(lines) > index else f"{path}, card {index + 1}"
        cards.append(_card(entry, where))
    return tuple(cards)


def _card(entry: Any, where: str) -> PriceCard:  # Any: what the user wrote
    if not isinstance(entry, Mapping):
        raise PriceCardError(f"{where}: a card is a table. Begin it with a line `[[card]]`.")
    fields: dict[str, Any] = {str(key): value for key, value in entry.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # values are checked one by one below
    for key in fields:
        if key not in _REQUIRED + _OPTIONAL:
            raise PriceCardError(f"{where}: {key!r} is not known. A card has {', '.join(_REQUIRED + _OPTIONAL)}.")
    for key in _REQUIRED:
        if key not in fields:
            raise PriceCardError(f"{where}: {key!r} is missing. A card has {', '.join(_REQUIRED)}.")
    model, dated = fields["model"], fields["dated"]
    if not isinstance(model, str) or not model.strip():
        raise PriceCardError(f"{where}: model should be a name such as openai:gpt-5-mini, or a glob.")
    if not isinstance(dated, date) or isinstance(dated, datetime):
        raise PriceCardError(f"{where}: dated should be a day such as 2026-11-01, without quotes.")
    tier = fields.get("tier", "")
    if not isinstance(tier, str):
        raise PriceCardError(f'{where}: tier should be text such as "flex".')
    return PriceCard(
        name=model.strip(),
        tier=tier,
        dated=dated,
        input_usd_per_mtok=_price(fields, "input_usd_per_mtok", where),
        output_usd_per_mtok=_price(fields, "output_usd_per_mtok", where),
        cached_input_usd_per_mtok=(
            _price(fields, "cached_input_usd_per_mtok", where) if "cached_input_usd_per_mtok" in fields else None
        ),
    )


def _price(fields: Mapping[str, Any], key: str, where: str) -> float:
    value = fields[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
        raise PriceCardError(f"{where}: {key} should be US dollars per million tokens, 0 or more, not {value!r}.")
    return float(value)


def _known_card(provider_id: str, models: Sequence[str | None], today: date) -> PriceCard | None:
    for model in filter(None, models):
        try:
            provider, info = get_snapshot().find_provider_model(model, None, provider_id, None)
        except LookupError:
            continue
        name = f"genai-prices {version('genai-prices')} {provider.id}:{info.id}"
        standard, flex = _tiered(name, info, today), _tiered(f"{name} {FLEX}", info, today, tier=FLEX)
        if standard is None or flex is None or _rates(standard) == _rates(flex):
            return standard
        return replace(standard, tiers=(flex,))
    return None


def _tiered(name: str, info: ModelInfo, today: date, *, tier: str = "") -> PriceCard | None:
    """The card of a model whose prices may each have thresholds; it has all of them."""
    if not info.prices:
        return None
    at, asked = datetime.combine(today, time(), UTC), {"service_tier": tier} if tier else None
    prices: dict[str, Decimal | TieredPrices | None] = info.get_prices(at, asked).__dict__
    given, written, cached = (prices.get(key) for key in ("input_mtok", "output_mtok", "cache_read_mtok"))
    if given is None or written is None:
        return None
    dated = _dated(today)

    def card(start: int | None, above: tuple[tuple[int, PriceCard], ...] = ()) -> PriceCard:
        return PriceCard(
            name=name,
            tier=tier,
            dated=dated,
            input_usd_per_mtok=_rate(given, start),
            output_usd_per_mtok=_rate(written, start),
            cached_input_usd_per_mtok=None if cached is None else _rate(cached, start),
            above=above,
        )

    tiered = [price for price in (given, written, cached) if isinstance(price, TieredPrices)]
    starts = {tier.start for price in tiered for tier in price.tiers}
    return card(None, tuple((start, card(start)) for start in sorted(starts)))


def _rate(price: Decimal | TieredPrices, start: int | None) -> float:
    """The price in a call whose prompt is longer than *start* tokens, or than no threshold."""
    if not isinstance(price, TieredPrices):
        return float(price)
    passed = [tier.price for tier in price.tiers if start is not None and tier.start <= start]
    return float(passed[-1] if passed else price.base)


def _dated(today: date) -> date:
    """The newest day, up to *today*, on which a price in the data begins."""
    models = [model for provider in get_snapshot().providers for model in provider.models]
    conditions = [price.constraint for model in models if isinstance(model.prices, list) for price in model.prices]
    begins = [each.start_date for each in conditions if isinstance(each, StartDateConstraint)]
    return max((day for day in begins if day <= today), default=today)


def _rates(card: PriceCard) -> tuple[float | None, ...]:
    """All prices of a card, those of long prompts too."""
    prices = (card.input_usd_per_mtok, card.output_usd_per_mtok, card.cached_input_usd_per_mtok)
    return prices + tuple(rate for start, above in card.above for rate in (float(start), *_rates(above)))
