"""Draw traces: contexts that arrive, the queries and edits that come, and what answers and sleeps cost.

    trace    one deployment for 30 days: 16 contexts, one tariff, a hundred queries
    kinds    document (steady), conversation (bursts and silences), folder (heavy-tailed), repository (edited)
    stretch  the life of one section's text, from its arrival or an edit to its next edit or the end

A re-sleep costs the changed fraction and a query's saving is shared by the sections whose notes stand, so costs fall
apart into stretches. Money is in units of the trace's mean answer without notes, so traces of dear and of cheap
models weigh the same. Traces are drawn in batches as flat arrays; a seed decides everything.

This file knows no policy. What is drawn here is assumed, not measured: shapes and ranges, in the constants below.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from sleeptime.core.saving import Sizes, Tariff
from sleeptime.core.usage import PriceCard

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

TRACE_DAYS = 30.0
CONTEXTS = 16
SECTIONS = 8
ARRIVAL_DAYS = 12.0
"""Half of the contexts are there from the first day; the others arrive until this one."""
SLEEP_DAYS = 10 / (24 * 60)
"""A sleep takes ten minutes; queries meanwhile are answered without its notes."""
CONTEXT_TOKENS, CONTEXT_SPREAD = 4000, 0.9
"""Median over contexts, and spread of its logarithm."""
ANSWER_SPREAD = 0.5
ROUND_TOKENS = 1500
COST_SHAPE = 4.0
"""Answers on one context scatter as a Gamma of this shape: half their mean."""

KINDS = ("document", "conversation", "folder", "repository")
FAMILIES = ("stationary", "bursty", "heavy-tailed", "edited", "mixed", "adversarial")
STOCHASTIC = FAMILIES[:-1]
SHARES = {"document": (8.0, 2.0), "conversation": (7.0, 3.0), "folder": (8.0, 2.0), "repository": (8.0, 3.0)}
"""Beta parameters of the share of output tokens that notes save: about the paper's factor of five. Policies know
neither these nor the outcome; they start from a share of 0.6."""
UNPREDICTABLE = 0.1
"""Chance that notes on a context save next to nothing, whatever its kind."""

_DAY = date(2026, 11, 1)


def _card(name: str, input_usd: float, cached_usd: float | None, output_usd: float) -> PriceCard:
    return PriceCard(
        name=name,
        dated=_DAY,
        input_usd_per_mtok=input_usd,
        output_usd_per_mtok=output_usd,
        cached_input_usd_per_mtok=cached_usd,
    )


TARIFFS = (
    Tariff(),
    Tariff(sleep=_card("small", 0.3, 0.03, 1.5), test=_card("dear", 3.0, 0.3, 15.0)),
    Tariff(sleep=_card("batch", 0.625, 0.0625, 5.0), test=_card("middle", 1.25, 0.125, 10.0)),
    Tariff(sleep=_card("middle", 1.25, 0.125, 10.0), test=_card("middle", 1.25, 0.125, 10.0)),
    Tariff(sleep=_card("uncached", 3.0, None, 15.0), test=_card("uncached", 3.0, None, 15.0)),
    Tariff(sleep=_card("dear", 3.0, 0.3, 15.0), test=_card("middle", 1.25, 0.125, 10.0)),
)
"""The paper's tokens at t = 10, and invented cards: a small model sleeps for a dear one, a batch tier at half price,
the same card for both, no discount on cached input, and a dear model that sleeps for a cheaper one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What may be varied: the median tokens of an answer (2000: it is reasoned out), and queries expected a trace."""

    answer_tokens: int = 2000
    queries: float = 96.0


USUAL = World()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Traces as flat arrays: one entry a context, a query, an edit, a stretch. Each is sorted by context and time.

    `answer_cost`, `saving` are what queries on a context cost and save on average; `predicted_*` what a policy
    knows before it measures. `query_cost`, `query_saving` are those of one query, all notes standing.
    """

    traces: int
    kind: Whole
    arrives: Array
    sleep_cost: Array
    sleep_tokens: Whole
    answer_cost: Array
    saving: Array
    predicted_answer_cost: Array
    predicted_saving: Array
    query_context: Whole
    query_at: Array
    query_cost: Array
    query_saving: Array
    edit_context: Whole
    edit_at: Array
    edit_section: Whole
    stretch_context: Whole
    stretch_from: Array
    stretch_to: Array
    stretch_share: Array

    @property
    def context_trace(self) -> Whole:
        return np.arange(len(self.arrives)) // CONTEXTS


def batches(family: str, traces: int, *, seed: int, world: World = USUAL, size: int = 250) -> Iterator[Batch]:
    """Draw *traces* of a *family*, *size* at a time."""
    for number, start in enumerate(range(0, traces, size)):
        rng = np.random.default_rng([seed, FAMILIES.index(family), number])
        yield draw(family, min(size, traces - start), rng=rng, world=world)


def draw(family: str, traces: int, *, rng: np.random.Generator, world: World = USUAL) -> Batch:
    """Draw one batch."""
    contexts = traces * CONTEXTS
    kind = _kinds(family, contexts, rng)
    arrives = np.where(rng.uniform(size=contexts) < 0.5, 0.0, rng.uniform(0.0, ARRIVAL_DAYS, size=contexts))
    money = _money(kind, traces, world, rng)
    if family == "adversarial":
        money["answer_cost"], money["saving"] = money["predicted_answer_cost"], money["predicted_saving"]
    context, at = _queries(family, kind, arrives, money, world.queries, rng)
    order = np.lexsort((at, context))
    context, at = context[order], at[order]
    scatter = rng.gamma(COST_SHAPE, 1 / COST_SHAPE, size=len(at)) if family != "adversarial" else np.ones(len(at))
    edit_context, edit_at, edit_section = _edits(kind, arrives, rng)
    stretches = _stretches(arrives, edit_context, edit_at, edit_section)
    return Batch(
        traces=traces,
        kind=kind,
        arrives=arrives,
        sleep_cost=money["sleep_cost"],
        sleep_tokens=money["sleep_tokens"].astype(np.int64),
        answer_cost=money["answer_cost"],
        saving=money["saving"],
        predicted_answer_cost=money["predicted_answer_cost"],
        predicted_saving=money["predicted_saving"],
        query_context=context,
        query_at=at,
        query_cost=money["answer_cost"][context] * scatter,
        query_saving=money["saving"][context] * scatter,
        edit_context=edit_context,
        edit_at=edit_at,
        edit_section=edit_section,
        stretch_context=stretches[0],
        stretch_from=stretches[1],
        stretch_to=stretches[2],
        stretch_share=stretches[3],
    )


def _kinds(family: str, contexts: int, rng: np.random.Generator) -> Whole:
    if family == "mixed":
        return rng.integers(0, len(KINDS), size=contexts)
    return np.full(contexts, FAMILIES.index(family) % len(KINDS), dtype=np.int64)


def _money(kind: Whole, traces: int, world: World, rng: np.random.Generator) -> dict[str, Array]:
    """Price answers and sleeps with the library's own price cards, in units of the trace's mean answer."""
    contexts = len(kind)
    tariff: list[int] = rng.integers(0, len(TARIFFS), size=traces).tolist()
    tokens = np.clip(CONTEXT_TOKENS * np.exp(rng.normal(0, CONTEXT_SPREAD, size=contexts)), 500, 60_000).astype(
        np.int64
    )
    output = np.clip(world.answer_tokens * np.exp(rng.normal(0, ANSWER_SPREAD, size=contexts)), 100, 20_000).astype(
        np.int64
    )
    parameters = np.array([SHARES[name] for name in KINDS])[kind]
    share = rng.beta(parameters[:, 0], parameters[:, 1])
    share = np.where(rng.uniform(size=contexts) < UNPREDICTABLE, 0.1 * share, share)
    rows = np.empty((contexts, 6))
    for index in range(contexts):
        card = TARIFFS[tariff[index // CONTEXTS]]
        known = Sizes(
            context_tokens=int(tokens[index]),
            answer_output_tokens=world.answer_tokens,
            round_output_tokens=ROUND_TOKENS,
        )
        true = replace(known, answer_output_tokens=int(output[index]))
        without = true.cost_without(card)
        rows[index] = (
            known.sleep_cost(card),
            known.rounds * (known.context_tokens + known.round_output_tokens),
            without,
            max(0.0, without - true.cost_with(card, share=float(share[index]))),
            known.cost_without(card),
            known.saving(card),
        )
    unit = rows[:, 2].reshape(traces, CONTEXTS).mean(axis=1).repeat(CONTEXTS)
    rows[:, [0, 2, 3, 4, 5]] /= unit[:, None]
    names = ("sleep_cost", "sleep_tokens", "answer_cost", "saving", "predicted_answer_cost", "predicted_saving")
    return dict(zip(names, rows.T, strict=True))


def _queries(
    family: str, kind: Whole, arrives: Array, money: dict[str, Array], expected: float, rng: np.random.Generator
) -> tuple[Whole, Array]:
    if family == "adversarial":
        context, at = _stopping(arrives, money, rng)
    else:
        makers = (_steady, _bursts, _heavy, _steady)
        popularity = expected * _popularity(len(kind) // CONTEXTS, rng)
        parts = [maker(np.flatnonzero(kind == number), arrives, popularity, rng) for number, maker in enumerate(makers)]
        context = np.concatenate([part[0] for part in parts])
        at = np.concatenate([part[1] for part in parts])
    inside = at < TRACE_DAYS
    return context[inside], at[inside]


def _popularity(traces: int, rng: np.random.Generator) -> Array:
    """Share of a trace's queries: Zipf over its contexts, in random order, exponent 1.0 to 1.6; and traces differ."""
    rank = np.argsort(rng.uniform(size=(traces, CONTEXTS)), axis=1) + 1.0
    weight = rank ** -rng.uniform(1.0, 1.6, size=(traces, 1))
    return (weight / weight.sum(axis=1, keepdims=True) * np.exp(rng.normal(0, 0.5, size=(traces, 1)))).ravel()


def _steady(contexts: Whole, arrives: Array, popularity: Array, rng: np.random.Generator) -> tuple[Whole, Array]:
    """Poisson at a constant rate from arrival to the end."""
    lives = TRACE_DAYS - arrives[contexts]
    counts = rng.poisson(popularity[contexts] * lives / TRACE_DAYS)
    context = np.repeat(contexts, counts)
    return context, arrives[context] + rng.uniform(size=len(context)) * (TRACE_DAYS - arrives[context])


def _bursts(contexts: Whole, arrives: Array, popularity: Array, rng: np.random.Generator) -> tuple[Whole, Array]:
    """Bursts at Poisson times, of six queries on average, minutes apart; silence between."""
    mean = 6
    lives = TRACE_DAYS - arrives[contexts]
    bursts = rng.poisson(popularity[contexts] / mean * lives / TRACE_DAYS)
    burst_context = np.repeat(contexts, bursts)
    starts = arrives[burst_context] + rng.uniform(size=len(burst_context)) * (TRACE_DAYS - arrives[burst_context])
    sizes = rng.geometric(1 / mean, size=len(burst_context))
    context = np.repeat(burst_context, sizes)
    gaps = rng.exponential(10 / (24 * 60), size=len(context))
    since = np.cumsum(gaps)
    first = np.cumsum(sizes) - sizes
    since -= np.repeat(since[first] if len(first) else since[:0], sizes)
    return context, np.repeat(starts, sizes) + since


def _heavy(contexts: Whole, arrives: Array, _popularity: Array, rng: np.random.Generator) -> tuple[Whole, Array]:
    """No query at all for a third; else a Pareto number of them (exponent 1.1, at most 300), days or hours apart."""
    counts = np.minimum(rng.uniform(size=len(contexts)) ** (-1 / 1.1), 300.0).astype(np.int64)
    counts[rng.uniform(size=len(contexts)) < 0.35] = 0
    context = np.repeat(contexts, counts)
    pace = np.repeat(np.exp(rng.normal(math.log(0.25), 1.0, size=len(contexts))), counts)
    since = np.cumsum(rng.exponential(size=len(context)) * pace)
    first = (np.cumsum(counts) - counts)[counts > 0]
    before = np.concatenate([[0.0], since])[first]
    return context, arrives[context] + since - np.repeat(before, counts[counts > 0])


def _stopping(arrives: Array, money: dict[str, Array], rng: np.random.Generator) -> tuple[Whole, Array]:
    """Streams that stop where stopping hurts: as the extra paid reaches the price, or after a promising start.

    Half of the contexts get just the queries that make the rule without forecast sleep; a third two to four
    in quick succession, which a forecast may take for the start of many; a sixth none at all.
    """
    contexts = len(arrives)
    due = np.ceil(money["sleep_cost"] / np.maximum(money["predicted_saving"], 1e-9) - 1e-9)
    lure = rng.integers(2, 5, size=contexts).astype(np.float64)
    sort = np.array([0, 0, 0, 1, 1, 2])[rng.integers(0, 6, size=contexts)]
    counts = np.where(sort == 0, np.where(due <= 60, due, 0), np.where(sort == 1, lure, 0)).astype(np.int64)
    context = np.repeat(np.arange(contexts), counts)
    pace = np.where(sort == 0, 10.0 / np.maximum(counts, 1), 0.05)[context]
    since = np.cumsum(np.full(len(context), 1.0) * pace)
    first = (np.cumsum(counts) - counts)[counts > 0]
    before = np.concatenate([[0.0], since])[first]
    return context, arrives[context] + since - np.repeat(before, counts[counts > 0])


def _edits(kind: Whole, arrives: Array, rng: np.random.Generator) -> tuple[Whole, Array, Whole]:
    """Poisson for each section of a repository: over all its sections one edit in months, or one a day."""
    edited = np.flatnonzero(kind == KINDS.index("repository"))
    rate = np.exp(rng.normal(math.log(0.01), 1.0, size=len(edited)))
    lives = TRACE_DAYS - arrives[edited]
    counts = rng.poisson(rate[:, None] * lives[:, None], size=(len(edited), SECTIONS))
    context = np.repeat(edited, counts.sum(axis=1))
    section = np.repeat(np.tile(np.arange(SECTIONS), len(edited)), counts.ravel())
    at = arrives[context] + rng.uniform(size=len(context)) * (TRACE_DAYS - arrives[context])
    order = np.lexsort((at, context))
    return context[order], at[order], section[order]


def _stretches(
    arrives: Array, edit_context: Whole, edit_at: Array, edit_section: Whole
) -> tuple[Whole, Array, Array, Array]:
    """Cut lives into stretches; a context without edits is one stretch of all its sections."""
    edited = np.unique(edit_context)
    whole = np.setdiff1d(np.arange(len(arrives)), edited)
    context = np.concatenate([np.repeat(edited, SECTIONS), edit_context])
    section = np.concatenate([np.tile(np.arange(SECTIONS), len(edited)), edit_section])
    start = np.concatenate([arrives[np.repeat(edited, SECTIONS)], edit_at])
    order = np.lexsort((start, section, context))
    context, section, start = context[order], section[order], start[order]
    end = np.full(len(start), TRACE_DAYS)
    if len(start):
        follows = (context[1:] == context[:-1]) & (section[1:] == section[:-1])
        end[:-1][follows] = start[1:][follows]
    return (
        np.concatenate([whole, context]),
        np.concatenate([arrives[whole], start]),
        np.concatenate([np.full(len(whole), TRACE_DAYS), end]),
        np.concatenate([np.ones(len(whole)), np.full(len(start), 1 / SECTIONS)]),
    )
