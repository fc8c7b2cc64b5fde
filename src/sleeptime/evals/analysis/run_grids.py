"""The rows of a run as grids, and the resamples that all its figures share.

    RunGrids(run).correct(cell) → a row per cluster, a column per query of it

A query's value in a cell is the mean over its draws that have an answer; without any it is
missing. Whole clusters are drawn (GSM: templates; chains: contexts), once for every figure.
This file knows which numbers a row holds, and nothing about what is compared with what.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property

import numpy as np

from sleeptime.core.usage import PriceCard, Usage
from sleeptime.evals.analysis import draws, stats
from sleeptime.evals.analysis.findings import Measure
from sleeptime.evals.analysis.grids import Mask, Place, filled, per_learned
from sleeptime.evals.analysis.stats import Array, Trial
from sleeptime.evals.runs.results import Arm, Asked, Cell, Row, Run, Sleeping, Slept, first_queries

Read = Callable[[Row], float | None]

SHARE = (0.0, 1.0)
DIFFERENCE = (-1.0, 1.0)
"""Between what an accuracy, and a difference of two, can lie."""


class RunGrids:
    """The grids of one run. Cells are told apart by their ids; grids are made once and must not be written to."""

    def __init__(self, run: Run, *, seed: int, resamples: int = stats.RESAMPLES) -> None:
        self.run = run
        self.seed = seed
        self._places = _places((asked.cluster, asked.id) for asked in run.asked)
        self._context_places = _places((asked.cluster, asked.context_id) for asked in run.asked)
        self.shape = _shape(self._places.values())
        self._context_shape = _shape(self._context_places.values())
        self.weights = stats.draw_weights(self.shape[0], seed=seed, resamples=resamples)
        self._rows = self._answers(run.rows)
        self._slept = defaultdict[Sleeping, list[Slept]](list)
        for slept in run.slept:
            if slept.context_id in self._context_places:
                self._slept[slept.sleeping].append(slept)
        self._grids: dict[tuple[str, str], Array] = {}
        contexts = list(self._context_places)
        index = {context: i for i, context in enumerate(contexts)}
        self._context_of = filled(
            self.shape, [(self._places[asked.id], float(index[asked.context_id])) for asked in run.asked]
        )
        self._place_of = np.array([self._context_places[context] for context in contexts]).reshape(-1, 2)

    def _answers(self, rows: Iterable[Row]) -> dict[str, dict[Place, list[Row]]]:
        """The rows with an answer, by cell and place, in the order they were drawn."""
        answers = defaultdict[str, defaultdict[Place, list[Row]]](lambda: defaultdict(list))
        for row in rows:
            if row.is_correct is not None and row.sample_id in self._places:
                answers[row.cell][self._places[row.sample_id]].append(row)
        return {
            cell: {at: sorted(drawn, key=lambda row: row.draw) for at, drawn in places.items()}
            for cell, places in answers.items()
        }

    @property
    def contexts(self) -> int:
        return len(self._place_of)

    @property
    def clusters(self) -> int:
        return self.shape[0]

    @property
    def unit(self) -> str:
        """What is resampled, in a word."""
        return "contexts" if self.clusters == self.contexts else "clusters"

    @cached_property
    def shares(self) -> Array:
        """The draws that every claim of equal accuracy shares (see `stats.inferiority_p`)."""
        return stats.draw_shares(self.clusters, seed=self.seed)

    @cached_property
    def everything(self) -> Mask:
        """The queries that the run asks."""
        return ~np.isnan(self._context_of)

    def where(self, asks: Callable[[Asked], bool]) -> Mask:
        """The queries of which *asks* is true."""
        return self.of_asked(lambda asked: float(asks(asked))) == 1

    def of_asked(self, read: Callable[[Asked], float | None]) -> Array:
        """A number of each query; missing where it is None."""
        return filled(self.shape, _known((self._places[asked.id], read(asked)) for asked in self.run.asked))

    def asked_by(self, cell: Cell) -> Mask:
        """The queries that *cell* asks: all, or the first few of each context."""
        chosen = {asked.id for asked in first_queries(cell, self.run.asked)}
        return self.where(lambda asked: asked.id in chosen)

    def is_measured(self, cell: Cell) -> bool:
        """Whether any of its answers is there."""
        return bool(self._rows.get(cell.id))

    def cells(self, arm: Arm) -> list[Cell]:
        """The cells of *arm* that have answers, in the order they were asked for."""
        return [cell for cell in self.run.cells if cell.arm == arm and self.is_measured(cell)]

    def curve(self, arm: Arm) -> dict[str, Cell]:
        """The cells of *arm* by level, the cheapest first as they were asked for.

        Of several ways to sleep it is that of most levels; of these, the one that differs in fewest settings from the
        default, and then the first.
        """
        cells = self.cells(arm)
        levels = Counter(sleeping for sleeping, _ in dict.fromkeys((cell.sleeping, cell.level) for cell in cells))
        chosen = max(levels, key=lambda sleeping: (levels[sleeping], -len(str(sleeping or "").split())), default=None)
        curve: dict[str, Cell] = {}
        for cell in cells:
            if cell.sleeping == chosen:
                curve.setdefault(cell.level, cell)
        return curve

    def rows(self, cell: Cell) -> dict[Place, list[Row]]:
        """The answers of a cell by the place of their query, in the order they were drawn."""
        return self._rows.get(cell.id, {})

    def of(self, cell: Cell, name: str, read: Read) -> Array:
        """A grid of what *read* finds in an answer, which has that *name*: means over the draws of a query."""
        if (cell.id, name) not in self._grids:
            means = ((at, _mean([read(row) for row in drawn])) for at, drawn in self.rows(cell).items())
            self._grids[cell.id, name] = filled(self.shape, _known(means))
        return self._grids[cell.id, name]

    def correct(self, cell: Cell) -> Array:
        return self.of(cell, "correct", lambda row: float(bool(row.is_correct)))

    def tokens(self, cell: Cell) -> Array:
        return self.of(cell, "tokens", lambda row: float(row.usage.output_tokens))

    def cost_usd(self, cell: Cell, *, is_cached: bool) -> Array:
        """What an answer costs; where not *is_cached*, as if no input token came from a cache.

        Answers of several calls are taken for one call when a card's prices rise with the length of the input.
        """
        if is_cached:
            return self.of(cell, "cost_usd", lambda row: row.cost_usd)
        return self.of(cell, "uncached_cost_usd", lambda row: _uncached_usd(row, self.run.price))

    def trial(self, cell: Cell, among: Mask) -> Trial:
        """A cell on the queries *among*."""
        return Trial(level=cell.level, correct=self.correct(cell), tokens=self.tokens(cell)).among(among)

    def votes(self, cell: Cell) -> dict[Place, draws.Votes]:
        """What the draws of each query of a cell answered."""
        return {
            at: draws.count([(bool(row.is_correct), row.answer) for row in drawn])
            for at, drawn in self.rows(cell).items()
        }

    def mean(self, grid: Array, among: Mask) -> Array:
        """Replicates of the mean over the queries *among*."""
        return stats.means(np.where(among, grid, np.nan), self.weights)

    def difference(self, cell: Cell, over: Cell | None, among: Mask, *, note: str = "") -> Measure:
        """Accuracy of *cell* minus that of the one it is held against, on the queries that both answered."""
        if over is None:
            return unmeasured(note or "there is nothing to hold it against")
        gained = self.correct(cell) - self.correct(over)
        on, of = among & ~np.isnan(gained), among & self.asked_by(cell) & self.asked_by(over)
        return self.measure(self.mean(gained, on), on, of=of, bounds=DIFFERENCE, note=note)

    def surprises(self) -> tuple[Array, Array]:
        """Log P(query | context): the sum over a query's tokens, and their mean."""
        known = [
            (self._places[surprise.sample_id], surprise.log_prob, surprise.tokens)
            for surprise in self.run.surprises
            if surprise.log_prob is not None and surprise.tokens and surprise.sample_id in self._places
        ]
        return (
            filled(self.shape, [(at, total) for at, total, _ in known]),
            filled(self.shape, [(at, total / tokens) for at, total, tokens in known]),
        )

    def _of_sleeps(self, sleeping: Sleeping, price: Callable[[Usage], float], *, failed: bool) -> Array:
        return filled(
            self._context_shape,
            [
                (self._context_places[slept.context_id], float(sum(map(price, slept.calls))))
                for slept in self._slept[sleeping]
                if bool(slept.error) is failed
            ],
        )

    def learned(self, sleeping: Sleeping) -> Mask:
        """The queries about contexts on which a sleep did not fail."""
        slept = ~np.isnan(self._of_sleeps(sleeping, _output_tokens, failed=False))
        at = self._place_of[np.nan_to_num(self._context_of).astype(np.int64)]
        return self.everything & slept[at[..., 0], at[..., 1]]

    def per_sleep(
        self, sleeping: Sleeping, among: Mask, price: Callable[[Usage], float] | None = None
    ) -> tuple[Array, Mask]:
        """Replicates of what it takes to learn about a context with queries *among*; and a grid of those contexts.

        In output tokens, unless *price* prices a call. What failed sleeps spent is charged to the others.
        """
        price = price or _output_tokens
        spent, wasted = (self._of_sleeps(sleeping, price, failed=failed) for failed in (False, True))
        learned = np.zeros(self._context_shape, dtype=np.bool_)
        at = self._place_of[self._context_of[among & self.learned(sleeping)].astype(np.int64)]
        learned[at[:, 0], at[:, 1]] = True
        return per_learned(spent, wasted, learned, self.weights), learned

    def sleep_tokens(self, sleeping: Sleeping, among: Mask) -> Measure:
        """Sleep tokens per context learned about; contexts with queries *among* that were not are missing."""
        replicates, learned = self.per_sleep(sleeping, among)
        contexts = np.unique(self._context_of[among]).size
        count = int(np.count_nonzero(learned))
        clusters = int(np.count_nonzero(learned.any(axis=1)))
        return _measure(replicates, contexts=count, clusters=clusters, queries=0, missing=contexts - count)

    def measure(
        self,
        replicates: Array | None,
        on: Mask,
        *,
        of: Mask,
        bounds: tuple[float, float] | None = None,
        missing: int | None = None,
        note: str = "",
    ) -> Measure:
        """Read a measure off its replicates. It was taken *on* those queries *of* which it should have been.

        What is *missing* are those that lack an answer, unless it is given. *bounds* are between what it can lie.
        """
        return _measure(
            replicates,
            contexts=int(np.unique(self._context_of[on]).size),
            clusters=int(np.count_nonzero(on.any(axis=1))),
            queries=int(np.count_nonzero(on)),
            missing=int(np.count_nonzero(of & ~on)) if missing is None else missing,
            bounds=bounds,
            note=note,
        )


def _measure(
    replicates: Array | None,
    *,
    contexts: int,
    clusters: int,
    queries: int,
    missing: int,
    bounds: tuple[float, float] | None = None,
    note: str = "",
) -> Measure:
    read = stats.Estimate(value=None) if replicates is None else stats.estimate(replicates)
    notes = [note]
    if replicates is not None and np.isposinf(replicates[0]):
        notes.append("never, as measured")
    elif read.value is None and not note:
        notes.append("not defined on these answers" if contexts else "not measured")
    if clusters < stats.FEWEST_CLUSTERS and read != stats.Estimate(value=None):
        notes.append(f"no interval: {clusters} of the {stats.FEWEST_CLUSTERS} clusters that one needs")
        read = stats.Estimate(value=read.value)
    if bounds is not None:
        read = stats.widened(read, clusters=clusters, lowest=bounds[0], highest=bounds[1])
    return Measure(
        value=read.value,
        low=read.low,
        high=read.high,
        contexts=contexts,
        clusters=clusters,
        queries=queries,
        missing=missing,
        note="; ".join(filter(None, notes)),
    )


def unmeasured(why: str) -> Measure:
    """A measure that was not taken."""
    return Measure(value=None, note=why)


def sleep_cost_usd(card: PriceCard, *, is_cached: bool) -> Callable[[Usage], float]:
    """How a call of a sleep is priced; where not *is_cached*, as if no input token came from a cache."""
    return lambda usage: card.cost_usd(usage if is_cached else replace(usage, cached_input_tokens=0))


def _places(members: Iterable[tuple[str, str]]) -> dict[str, Place]:
    """Give each member of a cluster a place: the cluster's row, and a column of its own."""
    rows: dict[str, int] = {}
    used = defaultdict[int, int](int)
    places: dict[str, Place] = {}
    for cluster, member in members:
        if member not in places:
            row = rows.setdefault(cluster, len(rows))
            places[member] = (row, used[row])
            used[row] += 1
    return places


def _shape(places: Iterable[Place]) -> tuple[int, int]:
    rows, columns = zip(*places, strict=True)
    return 1 + max(rows), 1 + max(columns)


def _known(values: Iterable[tuple[Place, float | None]]) -> list[tuple[Place, float]]:
    return [(at, value) for at, value in values if value is not None]


def _mean(values: list[float | None]) -> float | None:
    """The mean, or None where one is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _output_tokens(usage: Usage) -> float:
    return float(usage.output_tokens)


def _uncached_usd(row: Row, card: PriceCard | None) -> float | None:
    if row.cost_usd is None or card is None:
        return None
    uncached = replace(row.usage, cached_input_tokens=0)
    return row.cost_usd + card.cost_usd(uncached) - card.cost_usd(row.usage)
