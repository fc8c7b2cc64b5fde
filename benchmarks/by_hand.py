"""Every figure of a run, worked out in plain Python from a server's log and a file's rows.

    log + rows  →  Hand  →  compared(hand, findings) → lines: by hand, reported, equal?

It sees what was on the wire and nothing of a run's own rows, scorers or statistics: which arm asked
is told by the notes shown and the marks they carry, the level by its sentence or effort, the draw by
its seed; what was answered is what the server's reply was made to say. Numbers are fractions, so that
sums are exact. k of n draws are counted one subset at a time.

What needs a statistical decision is not decided here: the level with sleep that is shown to be as
accurate is taken from the findings, and what is computed at that level is not. Of AIME, whether a
context states the target is told by the dataset's own rule.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, pairwise

from benchmarks.oracle import GUESSING, HOT, NO_TEXT, SHARED, Exchange, Mark, Problems, Shown, shown_in
from sleeptime.evals.analysis.findings import Comparison, Control, DrawPoint, Findings, Measure, Point, ScalingPoint
from sleeptime.evals.data.datasets import stratum_of

ORDER = ("v0", "v1", "v2", "v3", "v4", "low", "medium", "high")
"""Levels, the cheapest first."""
EFFORTS = ORDER[5:]
MARGIN = Fraction(2, 100)
QUERIES, PRICES = (1, 2, 5, 10), (2, 4, 10, 12)
DRAWS = {"v0": 10, "v3": 3, "low": 5, "high": 3}
"""How many draws without sleep, of the first query of each context."""
REPEATS = 3
"""How many answers to each query where a model reasons."""
TOLERANCE = 1e-9
LARGEST_DENOMINATOR = 10**6

Value = Fraction | float | int | str | None
Query = tuple[str, int]
Grid = dict[Query, Fraction]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How was slept: so many samples, at an effort, and whether at the temperature of parallel samples."""

    samples: int = 1
    effort: str | None = None
    is_hot: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A cell: an arm at a level, and how was slept for it."""

    arm: str
    level: str
    way: Way | None = None

    def __str__(self) -> str:
        how = (
            []
            if self.way is None
            else [f"k{self.way.samples}", self.way.effort or "", "hot" if self.way.is_hot else ""]
        )
        return "/".join(filter(None, [self.arm, self.level, *how]))

    @property
    def draws(self) -> int:
        if self.arm == "draws":
            return DRAWS[self.level]
        return REPEATS if self.level in EFFORTS and self.arm in ("no_sleep", "sleep", "learned") else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """US dollars per million tokens."""

    input: Fraction
    cached: Fraction
    output: Fraction

    def usd(self, exchange: Exchange, *, is_cached: bool = True) -> Fraction:
        cached = tokens_of(exchange, "cached") if is_cached else 0
        fresh = tokens_of(exchange, "input") - cached
        return (fresh * self.input + cached * self.cached + tokens_of(exchange, "output") * self.output) / 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One number twice. Those of `is_exact` must be the same fraction; the others may differ in the last digits."""

    figure: str
    what: str
    by_hand: Value
    reported: Value
    is_exact: bool = False

    @property
    def is_equal(self) -> bool:
        hand, reported = self.by_hand, self.reported
        if hand is None or reported is None or isinstance(hand, str) or isinstance(reported, str):
            return hand == reported
        if not math.isfinite(reported):
            return False
        if self.is_exact:
            return Fraction(reported).limit_denominator(LARGEST_DENOMINATOR) == hand
        return abs(float(hand) - float(reported)) <= TOLERANCE * max(1.0, abs(float(hand)))


def tokens_of(exchange: Exchange, kind: str) -> int:
    """What the server reported of one reply."""
    assert exchange.usage is not None
    match kind:
        case "input":
            return int(exchange.usage["prompt_tokens"])
        case "cached":
            return int(exchange.usage["prompt_tokens_details"]["cached_tokens"])
        case "output":
            return int(exchange.usage["completion_tokens"])
        case _:
            return int(exchange.usage["completion_tokens_details"]["reasoning_tokens"])


def mean(values: Iterable[Fraction | int]) -> Fraction | None:
    """The mean, or None of nothing."""
    known = list(values)
    return Fraction(sum(known)) / len(known) if known else None


class Hand:
    """A server's log, sorted by hand. *card* is None where no price was given."""

    def __init__(self, log: Sequence[Exchange], problems: Problems, card: Card | None) -> None:
        self.log, self.card = log, card
        self._problems = {problem.id: problem for problem in problems.all}
        shown = [(exchange, shown_in(exchange.body)) for exchange in log]
        self.answered_twice = sum(
            count > 1
            for count in Counter(json.dumps(each.body, sort_keys=True) for each in log if each.is_answered).values()
        )
        self._marks = {
            mark: Mark(context=at.context or "", seed=at.seed, temperature=at.temperature, effort=at.effort)
            for exchange, at in shown
            if at.is_sleep
            for mark in exchange.marks
        }
        self._samples: dict[Mark, dict[str, Exchange | None]] = defaultdict(dict)
        self._cells: dict[Key, dict[Query, dict[int, Exchange | None]]] = defaultdict(lambda: defaultdict(dict))
        self.contexts: dict[str, str] = {}
        """What is shown of each problem as its context."""
        for exchange, at in shown:
            if at.is_sleep:
                sample = Mark(context=at.context or "", seed=at.seed, temperature=at.temperature, effort=at.effort)
                same = json.dumps(exchange.body, sort_keys=True)
                self._samples[sample][same] = self._samples[sample].get(same) or _answer(exchange)
            else:
                self._sort(exchange, at, problems)
        asked = {query for key, cell in self._cells.items() if key.arm == "no_sleep" for query in cell}
        places = {problem.id: i for i, problem in enumerate(problems.all)}
        self.queries = sorted(asked, key=lambda query: (places[query[0]], query[1]))
        self.firsts = [query for query in self.queries if query[1] == 0]
        self.strata = {query: self._stratum(query, shown, problems) for query in self.queries}

    def _sort(self, exchange: Exchange, at: Shown, problems: Problems) -> None:
        """Put one answer where it belongs; where a model reasons, an answer without sleep may belong to two cells."""
        noted = [self._marks[mark] for mark in at.marks]
        context = noted[0].context if at.context is None else at.context
        is_guess = at.question.startswith(GUESSING)
        problem, asked = problems.find(context, "" if is_guess else at.question)
        if at.context is not None and not is_guess:
            self.contexts[problem.id] = at.context
        key = Key(arm=self._arm(at, noted), level=at.level, way=self._way(at, noted))
        draw = at.seed or 0
        answer = _answer(exchange)
        for place in range(len(problem.targets)) if is_guess else [asked]:
            self._put(key, (problem.id, place), draw, answer)
            if key.arm == "no_sleep" and at.level in EFFORTS:
                self._put(Key(arm="draws", level=at.level), (problem.id, place), draw, answer)

    def _put(self, key: Key, query: Query, draw: int, answer: Exchange | None) -> None:
        if key.arm == "draws" and (key.level not in DRAWS or query[1] > 0):
            return
        if draw < key.draws:
            drawn = self._cells[key][query]
            drawn[draw] = drawn.get(draw) or answer

    def _arm(self, at: Shown, noted: Sequence[Mark]) -> str:
        if at.question.startswith(GUESSING):
            return "guess"
        if at.notes is None:
            return "draws" if at.seed is not None and at.effort is None else "no_sleep"
        if at.context is None:
            return "learned"
        if not noted:
            return "restatement"
        is_unseeded = at.effort is not None and at.seed is None
        if is_unseeded or {mark.context for mark in noted} != {at.context}:
            return "placebo"
        samples = len({mark.seed for mark in noted})
        return "merged" if samples > 1 and at.notes.count(SHARED) == 1 else "sleep"

    def _way(self, at: Shown, noted: Sequence[Mark]) -> Way | None:
        if at.notes is None:
            return None
        if not noted:
            return Way()
        return Way(
            samples=len({mark.seed for mark in noted}),
            effort=noted[0].effort,
            is_hot=noted[0].temperature == HOT,
        )

    def _stratum(self, query: Query, shown: Sequence[tuple[Exchange, Shown]], problems: Problems) -> str:
        problem = self._problems[query[0]]
        if problem.stratum is not None:
            return problem.stratum
        for _, at in shown:
            is_whole = at.context is not None and not at.is_sleep and not at.question.startswith(GUESSING)
            if is_whole and problems.find(at.context or "", at.question)[0] is problem:
                return stratum_of("" if at.context == NO_TEXT else at.context or "", at.question)
        return ""

    @property
    def keys(self) -> list[Key]:
        """The cells with answers."""
        return [
            key
            for key, cell in self._cells.items()
            if any(each is not None for drawn in cell.values() for each in drawn.values())
        ]

    def answers(self, key: Key) -> dict[Query, list[Exchange]]:
        """The answers of a cell, in the order of their draws."""
        found = {
            query: [drawn[draw] for draw in sorted(drawn) if drawn[draw] is not None]
            for query, drawn in self._cells.get(key, {}).items()
        }
        return {query: [each for each in drawn if each is not None] for query, drawn in found.items() if drawn}

    def asked(self, key: Key) -> list[Query]:
        return self.firsts if key.arm == "draws" else self.queries

    def missing(self, key: Key) -> int:
        return len(self.asked(key)) * key.draws - sum(map(len, self.answers(key).values()))

    def grid(self, key: Key, read: Callable[[Query, Exchange], Fraction | int]) -> Grid:
        """A number of each query: the mean over its draws."""
        return {
            query: Fraction(sum(read(query, each) for each in drawn)) / len(drawn)
            for query, drawn in self.answers(key).items()
        }

    def is_right(self, query: Query, exchange: Exchange) -> bool:
        return exchange.meant == self._problems[query[0]].targets[query[1]]

    def correct(self, key: Key) -> Grid:
        return self.grid(key, lambda query, each: int(self.is_right(query, each)))

    def tokens(self, key: Key, kind: str = "output") -> Grid:
        return self.grid(key, lambda _, each: tokens_of(each, kind))

    def cluster(self, query: Query) -> str:
        return self._problems[query[0]].cluster

    def slept(self, way: Way, context: str, read: Callable[[Exchange], Fraction | int]) -> tuple[Fraction, bool]:
        """What the calls of one sleep took, and whether it failed."""
        seeds = [None] if way.samples == 1 else range(way.samples)
        temperature = HOT if way.is_hot else None if way.effort else 0.0
        samples = [
            self._samples.get(Mark(context=context, seed=seed, temperature=temperature, effort=way.effort), {})
            for seed in seeds
        ]
        calls = [call for sample in samples for call in sample.values()]
        failed = any(call is None for call in calls) or not all(samples)
        return Fraction(sum(read(call) for call in calls if call is not None)), failed

    def learned(self, way: Way, among: Iterable[Query]) -> set[str]:
        """Contexts of queries *among* on which a sleep did not fail."""
        return {problem for problem, _ in among if not self.slept(way, self.contexts[problem], lambda _: 0)[1]}

    def per_sleep(
        self, way: Way, among: Iterable[Query], read: Callable[[Exchange], Fraction | int]
    ) -> Fraction | None:
        """What it takes to learn about one context: failed sleeps, on any, are charged to those *among*."""
        learned = self.learned(way, among)
        total = Fraction(0)
        for problem, context in self.contexts.items():
            spent, failed = self.slept(way, context, read)
            total += spent if failed or problem in learned else 0
        return total / len(learned) if learned else None


def _answer(exchange: Exchange) -> Exchange | None:
    return exchange if exchange.is_answered else None


def over(grid: Mapping[Query, Fraction], among: Iterable[Query]) -> Fraction | None:
    """The mean of a grid over the queries *among* that it has."""
    return mean(grid[query] for query in among if query in grid)


def difference(one: Grid, other: Grid) -> Grid:
    """One minus the other, on the queries that both have."""
    return {query: one[query] - other[query] for query in one if query in other}


def envelope(points: Iterable[tuple[Fraction, Fraction]]) -> list[tuple[Fraction, Fraction]]:
    """The points that are more accurate than all cheaper ones."""
    kept: list[tuple[Fraction, Fraction]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or accuracy > kept[-1][1]:
            kept.append((cost, accuracy))
    return kept


def tokens_for(accuracy: Fraction, curve: Sequence[tuple[Fraction, Fraction]]) -> Fraction | None:
    """Tokens at which a curve reaches *accuracy*; None if it never does."""
    for i, (cost, reached) in enumerate(curve):
        if reached >= accuracy:
            if i == 0:
                return cost
            before, lower = curve[i - 1]
            return before + (cost - before) * (accuracy - lower) / (reached - lower)
    return None


def accuracy_for(tokens: Fraction, curve: Sequence[tuple[Fraction, Fraction]]) -> Fraction:
    """What a curve that begins at nothing for nothing reaches for so many tokens."""
    points = [(Fraction(0), Fraction(0)), *curve]
    for (before, lower), (cost, reached) in pairwise(points):
        if tokens < cost:
            return lower + (reached - lower) * (tokens - before) / (cost - before)
    return points[-1][1]


def best_of(k: int, right: Sequence[bool]) -> Fraction:
    """How often one of k draws is right, over all ways to take k of them."""
    subsets = list(combinations(right, k))
    return Fraction(sum(any(subset) for subset in subsets), len(subsets))


def vote_of(k: int, draws: Sequence[tuple[bool, Fraction | None]]) -> Fraction:
    """How often the most frequent answer of k draws is right, over all ways to take k; answers that tie share."""
    won, ways = Fraction(0), 0
    for subset in combinations(draws, k):
        ways += 1
        votes = Counter(meant for _, meant in subset if meant is not None)
        top = [meant for meant, count in votes.items() if count == max(votes.values())]
        right = {meant for is_right, meant in subset if is_right}
        won += Fraction(len(right & set(top)), len(top)) if top else 0
    return won / ways


@dataclass(frozen=True, kw_only=True)
class Curve:
    """An arm's cells by level, the cheapest first, on some queries."""

    keys: tuple[Key, ...]
    correct: dict[str, Grid]
    tokens: dict[str, Grid]

    @property
    def levels(self) -> list[str]:
        return [key.level for key in self.keys]

    def points(self, among: AbstractSet[Query]) -> dict[str, tuple[Fraction, Fraction]]:
        """Tokens and accuracy of each level on the queries *among*."""
        found: dict[str, tuple[Fraction, Fraction]] = {}
        for level in self.levels:
            tokens, accuracy = over(self.tokens[level], among), over(self.correct[level], among)
            if tokens is not None and accuracy is not None:
                found[level] = tokens, accuracy
        return found


def curve_of(hand: Hand, arm: str, way: Way | None, among: AbstractSet[Query]) -> Curve:
    """The cells of an arm that slept in one way."""
    keys = sorted(
        (key for key in hand.keys if key.arm == arm and key.way == way), key=lambda key: ORDER.index(key.level)
    )
    cut = {
        key.level: (
            {query: value for query, value in hand.correct(key).items() if query in among},
            {query: value for query, value in hand.tokens(key).items() if query in among},
        )
        for key in keys
    }
    return Curve(
        keys=tuple(keys),
        correct={level: grids[0] for level, grids in cut.items()},
        tokens={level: grids[1] for level, grids in cut.items()},
    )


def compared(hand: Hand, findings: Findings) -> list[Line]:
    """Every number of every figure, by hand and as reported."""
    lines = [*_totals(hand, findings), *_points(hand, findings.points)]
    for each in findings.comparisons:
        lines += _comparison(hand, each, set(hand.queries))
    for each in findings.strata:
        lines += _comparison(hand, each, {query for query in hand.queries if hand.strata[query] == each.stratum})
    lines += _strata(hand, findings)
    lines += _draws(hand, findings.draws)
    lines += _scaling(hand, findings.scaling)
    lines += _amortisation(hand, findings)
    lines += _controls(hand, findings)
    return lines + _equal_totals(hand, findings)


def _measured(
    hand: Hand, figure: str, what: str, value: Value, measure: Measure, on: Iterable[Query], of: Iterable[Query] | int
) -> list[Line]:
    """A number, and what it was measured on; *of* are the queries it should have, or how many answers it lacks."""
    on = set(on)
    is_tokens = what.endswith("tokens")
    missing = of if isinstance(of, int) else len(set(of) - on)
    return [
        Line(figure=figure, what=what, by_hand=value, reported=measure.value, is_exact=is_tokens),
        Line(figure=figure, what=f"{what}: queries", by_hand=len(on), reported=measure.queries),
        Line(figure=figure, what=f"{what}: contexts", by_hand=len({p for p, _ in on}), reported=measure.contexts),
        Line(
            figure=figure,
            what=f"{what}: clusters",
            by_hand=len({hand.cluster(query) for query in on}),
            reported=measure.clusters,
        ),
        Line(figure=figure, what=f"{what}: missing", by_hand=missing, reported=measure.missing),
    ]


def _totals(hand: Hand, findings: Findings) -> list[Line]:
    answered = [each for each in hand.log if each.is_answered]
    missing = sum(map(hand.missing, hand.keys))
    ways = {key.way for key in hand.keys if key.way is not None}
    failed = sum(hand.slept(way, context, lambda _: 0)[1] for way in ways for context in hand.contexts.values())
    spent = None if hand.card is None else sum((hand.card.usd(each) for each in answered), Fraction(0))
    found: list[tuple[str, Value, Value]] = [
        ("paid calls", len(answered), findings.paid_calls),
        ("calls answered twice", hand.answered_twice, 0),
        ("answers missing", missing, findings.failed_answers),
        ("sleeps failed", failed, findings.failed_sleeps),
        ("spent USD", spent, findings.spent_usd),
        ("contexts", len(hand.contexts), findings.contexts),
        ("clusters", len({hand.cluster(query) for query in hand.queries}), findings.clusters),
        ("queries", len(hand.queries), findings.queries),
        ("cells", len(hand.keys), len(findings.points)),
    ]
    return [Line(figure="totals", what=what, by_hand=mine, reported=theirs) for what, mine, theirs in found]


def _key_of(point: Point) -> Key:
    if point.arm in ("no_sleep", "draws", "guess"):
        return Key(arm=point.arm, level=point.level)
    way = Way(samples=point.samples, effort=point.effort, is_hot="temperature" in point.cell)
    return Key(arm=point.arm, level=point.level, way=way)


def _points(hand: Hand, points: Sequence[Point]) -> list[Line]:
    lines: list[Line] = []
    for point in points:
        key = _key_of(point)
        name = f"points {key}"
        correct, tokens = hand.correct(key), hand.tokens(key)
        missing = hand.missing(key)
        lines += _measured(hand, name, "accuracy", over(correct, correct), point.accuracy, correct, missing)
        lines += _measured(hand, name, "test-time tokens", over(tokens, tokens), point.tokens, correct, missing)
        for kind, reported in (
            ("input", point.input_tokens),
            ("cached", point.cached_input_tokens),
            ("reasoning", point.reasoning_tokens),
        ):
            grid = hand.tokens(key, kind)
            lines.append(
                Line(figure=name, what=f"{kind} tokens", by_hand=over(grid, grid), reported=reported, is_exact=True)
            )
        costs = {} if hand.card is None else hand.grid(key, lambda _, each: hand.card.usd(each))  # type: ignore[union-attr]  # narrowed above
        lines.append(Line(figure=name, what="cost USD", by_hand=over(costs, costs), reported=point.cost_usd))
        lines += _sleep_lines(hand, name, key, point.sleep_tokens)
    return lines


def _sleep_lines(hand: Hand, name: str, key: Key, measure: Measure | None) -> list[Line]:
    if key.way is None or measure is None:
        return [Line(figure=name, what="sleep tokens", by_hand=None, reported=measure and measure.value)]
    spent = hand.per_sleep(key.way, hand.queries, lambda each: tokens_of(each, "output"))
    learned = hand.learned(key.way, hand.queries)
    return [
        Line(figure=name, what="sleep tokens", by_hand=spent, reported=measure.value, is_exact=True),
        Line(figure=name, what="sleep tokens: contexts", by_hand=len(learned), reported=measure.contexts),
        Line(
            figure=name,
            what="sleep tokens: missing",
            by_hand=len(hand.contexts) - len(learned),
            reported=measure.missing,
        ),
    ]


def _comparison(hand: Hand, each: Comparison, among: set[Query]) -> list[Line]:
    name = f"{each.with_sleep} against no sleep{f' ({each.stratum})' if each.stratum else ''}"
    plain, slept = curve_of(hand, "no_sleep", None, among), curve_of(hand, each.with_sleep, Way(), among)
    found = plain.points(among)
    best = max(found, key=lambda level: (found[level][1], -found[level][0]))
    paired = {level: over(difference(plain.correct[level], plain.correct[best]), among) for level in found}
    enough = [level for level, value in paired.items() if level == best or (value is not None and value >= -MARGIN)]
    cheapest = min(enough, key=lambda level: found[level][0])
    reached = slept.points(among)
    below = {level: over(difference(slept.correct[level], plain.correct[best]), among) for level in reached}
    near = [level for level, value in below.items() if value is not None and value > -MARGIN]
    nearest = min(near, key=lambda level: reached[level][0], default=None)
    lines = [
        Line(figure=name, what="best level without", by_hand=best, reported=each.match.best),
        Line(figure=name, what="level without", by_hand=cheapest, reported=each.match.without),
        Line(figure=name, what="nearest level with", by_hand=nearest, reported=each.match.nearest),
    ]
    for what, level, measure in (
        ("token ratio as measured", nearest, each.as_measured),
        ("token ratio as shown", each.match.with_sleep, each.token_ratio),
    ):
        if level is None:
            lines.append(Line(figure=name, what=what, by_hand=None, reported=measure.value))
            continue
        both = set(plain.correct[cheapest]) & set(slept.correct[level])
        ratio = _divided(over(plain.tokens[cheapest], both), over(slept.tokens[level], both))
        lines += _measured(hand, name, what, ratio, measure, both, among)
    measured = [[grid for grid in arm.correct.values() if grid] for arm in (plain, slept)]
    everywhere = set(among) if all(measured) else set[Query]()
    for grid in (*measured[0], *measured[1]):
        everywhere &= set(grid)
    costs, with_sleep = plain.points(everywhere), envelope(slept.points(everywhere).values())
    wanted = max((accuracy for _, accuracy in costs.values()), default=Fraction(0)) - MARGIN
    ratio = _divided(tokens_for(wanted, envelope(costs.values())), tokens_for(wanted, with_sleep))
    lines += _measured(hand, name, "token ratio interpolated", ratio, each.interpolated, everywhere, among)
    for level, gain in each.gains:
        gained = difference(slept.correct[level], plain.correct[level])
        lines += _measured(hand, name, f"gain at {level}", over(gained, gained), gain, gained, among)
    along = len(measured[0]) if everywhere else 0
    lines.append(Line(figure=name, what="levels along the curves", by_hand=along, reported=len(each.shifts)))
    for (level, shift), (_, saving) in zip(each.shifts, each.savings, strict=True):
        tokens, accuracy = costs.get(level, (None, None))
        higher = None if tokens is None or accuracy is None else accuracy_for(tokens, with_sleep) - accuracy
        needed = None if accuracy is None else tokens_for(accuracy - MARGIN, with_sleep)
        fewer = None if tokens is None else tokens / needed if needed else Fraction(0)
        lines += _measured(hand, name, f"higher than {level}", higher, shift, everywhere, among)
        lines += _measured(hand, name, f"fewer than {level}", fewer, saving, everywhere, among)
    return lines


def _divided(one: Fraction | None, other: Fraction | None) -> Fraction | None:
    return None if one is None or not other else one / other


def _strata(hand: Hand, findings: Findings) -> list[Line]:
    mine = sorted(set(hand.strata.values()))
    theirs = sorted({each.stratum for each in findings.strata})
    return [Line(figure="strata", what="names", by_hand=str(mine if len(mine) > 1 else []), reported=str(theirs))]


def _draws(hand: Hand, points: Sequence[DrawPoint]) -> list[Line]:
    slept = curve_of(hand, "sleep", Way(), set(hand.queries))
    levels = [key.level for key in hand.keys if key.arm == "draws"]
    lines = [
        Line(
            figure="draws",
            what="points",
            by_hand=sum(max(map(len, hand.answers(Key(arm="draws", level=level)).values())) for level in levels),
            reported=len(points),
        )
    ]
    for point in points:
        key = Key(arm="draws", level=point.level)
        name = f"{point.k} draws at {point.level}"
        drawn = {
            query: [(hand.is_right(query, each), each.meant) for each in answers]
            for query, answers in hand.answers(key).items()
        }
        on = {query for query, draws in drawn.items() if len(draws) >= point.k}
        for grid in slept.correct.values():
            on &= set(grid)
        per_draw = over(hand.tokens(key), on)
        tokens = None if per_draw is None else point.k * per_draw
        passed = mean(best_of(point.k, [is_right for is_right, _ in drawn[query]]) for query in on)
        voted = mean(vote_of(point.k, drawn[query]) for query in on)
        reached = None if tokens is None else accuracy_for(tokens, envelope(slept.points(on).values()))
        for what, value, measure in (
            ("test-time tokens", tokens, point.tokens),
            ("pass@k", passed, point.pass_at_k),
            ("majority@k", voted, point.majority_at_k),
            ("sleep for as many", reached, point.sleep),
            ("sleep over pass@k", _minus(reached, passed), point.over_pass),
            ("sleep over majority@k", _minus(reached, voted), point.over_majority),
        ):
            lines += _measured(hand, name, what, value, measure, on, hand.firsts)
    return lines


def _minus(one: Fraction | None, other: Fraction | None) -> Fraction | None:
    return None if one is None or other is None else one - other


def _scaling(hand: Hand, points: Sequence[ScalingPoint]) -> list[Line]:
    joined = _by(hand, "sleep", lambda way: way.effort is None and way.is_hot, lambda way: way.samples)
    merged = _by(hand, "merged", lambda _: True, lambda way: way.samples)
    efforts = _by(hand, "sleep", lambda way: way.effort is not None, lambda way: EFFORTS.index(way.effort or ""))
    rising = [*joined[:1], *merged]
    mine = {
        **{("joined", key.way): (key, joined[:i], None) for i, key in enumerate(joined) if len(joined) > 1},
        **{
            ("merged", key.way): (key, rising[:i], Key(arm="sleep", level=key.level, way=key.way))
            for i, key in enumerate(rising)
            if key.arm == "merged"
        },
        **{("effort", key.way): (key, efforts[:i], None) for i, key in enumerate(efforts) if len(efforts) > 1},
    }
    lines = [Line(figure="scaling", what="points", by_hand=len(mine), reported=len(points))]
    for point in points:
        way = Way(samples=point.samples, effort=point.effort, is_hot=point.effort is None)
        if (point.kind, way) not in mine:
            lines.append(
                Line(figure="scaling", what=f"{point.kind} {way}", by_hand=None, reported=point.accuracy.value)
            )
            continue
        key, less, beside = mine[point.kind, way]
        name = f"scaling {key}"
        correct, tokens, missing = hand.correct(key), hand.tokens(key), hand.missing(key)
        lines += _measured(hand, name, "accuracy", over(correct, correct), point.accuracy, correct, missing)
        lines += _measured(hand, name, "test-time tokens", over(tokens, tokens), point.tokens, tokens, missing)
        lines += _sleep_lines(hand, name, key, point.sleep_tokens)
        lines += _gain(hand, name, "gain", key, Key(arm="no_sleep", level=key.level), point.gain)
        lines += _gain(hand, name, "over the least", key, less[0] if less else None, point.over_first)
        lines += _gain(hand, name, "over the next less", key, less[-1] if less else None, point.over_previous)
        lines += _gain(hand, name, "over joined", key, beside, point.over_joined)
    return lines


def _by(hand: Hand, arm: str, is_wanted: Callable[[Way], bool], amount: Callable[[Way], int]) -> list[Key]:
    """The cells of an arm at the lowest level, the least sleep first."""
    keys = [key for key in hand.keys if key.arm == arm and key.way is not None and is_wanted(key.way)]
    return sorted(keys, key=lambda key: amount(key.way or Way()))


def _gain(
    hand: Hand, name: str, what: str, key: Key, other: Key | None, measure: Measure | None, note: str = ""
) -> list[Line]:
    if other is None or measure is None:
        return [Line(figure=name, what=what, by_hand=None, reported=measure and measure.value)]
    gained = difference(hand.correct(key), hand.correct(other))
    asked = set(hand.asked(key)) & set(hand.asked(other))
    return _measured(hand, name, f"{what}{note}", over(gained, gained), measure, gained, asked)


def _controls(hand: Hand, findings: Findings) -> list[Line]:
    wanted = [key for key in hand.keys if key.arm in ("placebo", "restatement", "guess")]
    found = [*findings.controls, *findings.guesses]
    lines = [Line(figure="controls", what="cells", by_hand=len(wanted), reported=len(found))]
    for each in found:
        lines += _control(hand, each)
    return lines


def _control(hand: Hand, each: Control) -> list[Line]:
    key = Key(arm=each.arm, level=each.level, way=None if each.arm == "guess" else Way())
    slept = Key(arm="sleep", level=each.level, way=Way())
    if slept not in hand.keys:
        slept = curve_of(hand, "sleep", Way(), set(hand.queries)).keys[0]
    without = Key(arm="no_sleep", level=each.level)
    name = f"control {key}"
    correct, tokens, missing = hand.correct(key), hand.tokens(key), hand.missing(key)
    both = set(correct) & set(hand.correct(slept))
    lines = [
        *_measured(hand, name, "accuracy", over(correct, correct), each.accuracy, correct, missing),
        *_measured(hand, name, "test-time tokens", over(tokens, tokens), each.tokens, tokens, missing),
        *_gain(hand, name, "gain", key, without if without in hand.keys else None, each.gain),
        *_gain(hand, name, "below sleep", slept, key, each.below_sleep),
    ]
    if each.sleep is not None:
        right = over(hand.correct(slept), both)
        lines += _measured(hand, name, "sleep", right, each.sleep, both, hand.queries)
    return lines


def _equal_totals(hand: Hand, findings: Findings) -> list[Line]:
    curve = curve_of(hand, "sleep", Way(), set(hand.queries))
    wanted = [key for key in hand.keys if key.arm == "draws"]
    lines = [
        Line(figure="equal total", what="cells", by_hand=len(wanted), reported=len(findings.equal_totals)),
    ]
    for each in findings.equal_totals:
        key, slept = Key(arm="draws", level=each.level), curve.keys[0]
        name = f"equal total at {each.level}"
        tokens, correct = hand.tokens(key), hand.correct(slept)
        on = set(tokens) & set(correct)
        sleep = hand.per_sleep(Way(), on, lambda call: tokens_of(call, "output"))
        one, draw = over(hand.tokens(slept), on), over(tokens, on)
        if sleep is None or one is None or draw is None:
            lines.append(Line(figure=name, what="all tokens", by_hand=None, reported=each.total_tokens.value))
            continue
        total = sleep + one
        fits = int(total // draw)
        k = min(fits, key.draws)
        votes = {
            query: vote_of(k, [(hand.is_right(query, answer), answer.meant) for answer in answers])
            for query, answers in hand.answers(key).items()
            if query in on and len(answers) >= k > 0
        }
        voted, right = over(votes, votes), over(correct, votes)
        lines += [
            Line(figure=name, what="k", by_hand=k, reported=each.k),
            Line(figure=name, what="draws that fit", by_hand=fits, reported=each.fits),
            *_measured(hand, name, "all tokens", total, each.total_tokens, on, hand.firsts),
            *_measured(hand, name, "majority", voted, each.majority, votes, hand.firsts),
            *_measured(hand, name, "sleep", right, each.sleep, votes, hand.firsts),
            *_measured(hand, name, "sleep over majority", _minus(right, voted), each.over, votes, hand.firsts),
        ]
    return lines


def _amortisation(hand: Hand, findings: Findings) -> list[Line]:
    spread = findings.amortisation
    slept = next((each for each in findings.comparisons if each.with_sleep == "sleep"), None)
    level = None if slept is None else slept.match.with_sleep or slept.match.nearest
    lines = [
        Line(figure="costs", what="level with", by_hand=level, reported=spread and spread.with_level),
        Line(
            figure="costs",
            what="level without",
            by_hand=level and slept and slept.match.without,
            reported=spread and spread.without_level,
        ),
    ]
    if spread is None or slept is None:
        return lines
    keys = Key(arm="no_sleep", level=spread.without_level), Key(arm="sleep", level=spread.with_level, way=Way())
    both = set(hand.correct(keys[0])) & set(hand.correct(keys[1]))

    def costs(read: Callable[[Exchange], Fraction | int]) -> tuple[Fraction, Fraction, Fraction]:
        """B, b and S, in what *read* reads off a call."""
        answers = [over(hand.grid(key, lambda _, each: read(each)), both) for key in keys]
        sleep = hand.per_sleep(Way(), both, read)
        assert answers[0] is not None
        assert answers[1] is not None
        assert sleep is not None
        return answers[0], answers[1], sleep

    kinds: dict[tuple[float | None, bool], tuple[Fraction, Fraction, Fraction]] = {}
    for price in PRICES:
        without, with_sleep, sleep = costs(lambda each: tokens_of(each, "output"))
        kinds[price, False] = price * without, price * with_sleep, sleep
    if hand.card is not None:
        card = hand.card
        kinds[None, True] = costs(card.usd)
        kinds[None, False] = costs(lambda each: card.usd(each, is_cached=False))
    lines += [
        Line(figure="costs", what="points", by_hand=len(kinds) * len(QUERIES), reported=len(spread.points)),
        Line(figure="costs", what="break-evens", by_hand=len(kinds), reported=len(spread.break_evens)),
        *_sleep_lines(hand, "costs", keys[1], spread.sleep_tokens),
    ]
    for point in spread.points:
        without, with_sleep, sleep = kinds[point.price, point.is_cached]
        shared = with_sleep + sleep / point.queries
        name = f"costs at {_price(point.price, is_cached=point.is_cached)}, N = {point.queries}"
        for what, value, measure in (
            ("without sleep", without, point.without),
            ("with sleep", shared, point.with_sleep),
            ("ratio", without / shared, point.ratio),
        ):
            lines += _measured(hand, name, what, value, measure, both, hand.queries)
    for end in spread.break_evens:
        without, with_sleep, sleep = kinds[end.price, end.is_cached]
        paid = sleep / (without - with_sleep) if without > with_sleep else None
        name = f"costs at {_price(end.price, is_cached=end.is_cached)}"
        lines += _measured(hand, name, "break-even", paid, end.queries, both, hand.queries)
    return lines


def _price(price: float | None, *, is_cached: bool) -> str:
    return f"t = {price:g}" if price is not None else f"USD, {'cached' if is_cached else 'not cached'}"
