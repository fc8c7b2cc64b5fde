"""Runs made by hand: what was answered is written down, so that every figure can be worked out on paper."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

import numpy as np

from sleeptime.core.usage import PriceCard, Usage
from sleeptime.evals.runs import experiments
from sleeptime.evals.runs.experiments import joined
from sleeptime.evals.runs.results import Asked, Cell, Provenance, Row, Run, Sleeping, Slept, Surprise

CARD = PriceCard(
    name="made up",
    dated=date(2026, 1, 1),
    input_usd_per_mtok=1.0,
    output_usd_per_mtok=10.0,
    cached_input_usd_per_mtok=0.1,
)
PROVENANCE = Provenance(
    model="small",
    sleep_model="small",
    scoring_model="small",
    dataset="boxes",
    dataset_sha256="ab12",
    dataset_source="made by hand",
    licence="CC0-1.0",
    split="sentence",
    seeds=(1,),
    limit=None,
    prompt_fingerprints={},
    machine="2 cores",
    versions={"python": "3.11"},
    commit=None,
    began_at=datetime(2026, 11, 24, tzinfo=UTC),
    wall_s=1.0,
)
ONCE = Sleeping()


def asks(contexts: int, *, queries: int = 1, per_cluster: int = 1, strata: str = "", depths: int = 0) -> list[Asked]:
    """Queries c0q0, c0q1, …; strata and depths take turns."""
    return [
        Asked(
            id=f"c{c}q{q}",
            context_id=f"c{c}",
            cluster=f"k{c // per_cluster}",
            question="How many?",
            target="7",
            stratum=strata[c % len(strata)] if strata else "",
            depth=1 + (c + q) % depths if depths else None,
        )
        for c in range(contexts)
        for q in range(queries)
    ]


def answers(
    cell: Cell,
    asked: Sequence[Asked],
    told: str | Sequence[str],
    tokens: float | Sequence[int] = 10,
    *,
    cached: int = 0,
) -> list[Row]:
    """One word of *told* a query, one letter a draw: + is right, − failed, ? cannot be read, else a wrong answer.

    Each takes 100 input tokens, *cached* of them from a cache.
    """
    spent = [int(tokens)] * len(asked) if isinstance(tokens, int | float) else tokens
    rows: list[Row] = []
    for each, word, output_tokens in zip(asked, told, spent, strict=True):
        for draw, letter in enumerate(word):
            if letter == "-":
                rows.append(Row(cell=cell.id, sample_id=each.id, draw=draw, error="RateLimitError: slow down"))
                continue
            usage = Usage(input_tokens=100, cached_input_tokens=cached, output_tokens=output_tokens)
            rows.append(
                Row(
                    cell=cell.id,
                    sample_id=each.id,
                    draw=draw,
                    is_correct=letter == "+",
                    answer={"+": "7", "?": None}.get(letter, letter),
                    usage=usage,
                    cost_usd=CARD.cost_usd(usage),
                )
            )
    return rows


def sleeps(
    asked: Sequence[Asked], *, tokens: int = 60, sleeping: Sleeping = ONCE, failed: Iterable[str] = ()
) -> list[Slept]:
    """Each sleep makes two calls of 50 input tokens, half cached, and half of *tokens*."""
    call = Usage(input_tokens=50, cached_input_tokens=25, output_tokens=tokens // 2)
    failures = set(failed)
    return [
        Slept(
            context_id=context,
            sleeping=sleeping,
            calls=(call, call),
            error="UpstreamError: gone" if context in failures else "",
        )
        for context in dict.fromkeys(each.context_id for each in asked)
    ]


def run_of(
    cells: Sequence[Cell],
    asked: Sequence[Asked],
    rows: Iterable[Row],
    slept: Iterable[Slept] = (),
    *,
    names: Sequence[str] = (),
    log_probs: Sequence[float] = (),
    price: PriceCard | None = CARD,
    not_measured: dict[str, str] | None = None,
) -> Run:
    return Run(
        experiments=tuple(names),
        cells=tuple(cells),
        asked=tuple(asked),
        rows=tuple(rows),
        slept=tuple(slept),
        surprises=tuple(
            Surprise(sample_id=each.id, log_prob=log_prob, tokens=2)
            for each, log_prob in zip(asked, log_probs, strict=False)
        ),
        not_measured=not_measured or {},
        price=price,
        sleep_price=price,
        provenance=PROVENANCE,
        spent_usd=1.5,
        paid_calls=7,
    )


def simulated(
    *, contexts: int, queries: int, seed: int, names: Sequence[str] = ("e1", "e3", "e4", "e5", "e6", "e8")
) -> Run:
    """A run of whole experiments, with luck that the queries of a context share, and 1 answer in 50 missing."""
    rng = np.random.default_rng(seed)
    cells = joined([cell for name in names for cell in experiments.load(name).cells])
    asked = asks(contexts, queries=queries, strata="ab", depths=3)
    luck = np.repeat(rng.normal(size=contexts), queries) + rng.normal(size=len(asked))
    lucky = {each.id: own for each, own in zip(asked, luck, strict=True)}
    better = {"sleep": 2.0, "learned": 1.6, "merged": 2.1, "half": 0.8, "guess": -3.0}
    rows: list[Row] = []
    slept: dict[Sleeping, list[Slept]] = {}
    for cell in cells:
        level = int(cell.level[1])
        ability = better.get(cell.arm, -1.0) + 0.6 * level
        if cell.sleeping is not None:
            ability += 0.2 * np.log(cell.sleeping.samples)
            slept[cell.sleeping] = sleeps(
                asked, tokens=60 * cell.sleeping.samples, sleeping=cell.sleeping, failed=["c0"]
            )
        some = [each for each in asked if cell.queries is None or int(each.id.split("q")[1]) < cell.queries]
        chance = [ability + lucky[each.id] for each in some]
        told = [
            "".join(
                "-" if rng.uniform() < 0.02 else "+" if rng.normal() < each else rng.choice(["1", "2", "?"])
                for _ in range(cell.draws)
            )
            for each in chance
        ]
        rows += answers(cell, some, told, [int(4 * 2**level + rng.integers(0, 3)) for _ in some])
    return run_of(
        cells,
        asked,
        rows,
        [each for many in slept.values() for each in many],
        names=names,
        log_probs=(-10 + luck + rng.normal(size=len(asked))).tolist(),
    )
