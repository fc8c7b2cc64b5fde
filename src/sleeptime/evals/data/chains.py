"""Stateful Chains: synthetic contexts whose queries need many small steps.

    draw(seed, contexts=n) → list[Sample]

A context defines 6 to 12 quantities on a clock face of 1 to 12. One or two are
stated, every other is another quantity plus or minus a small number, and the lines
stand in shuffled order among distractors. A `watch` line names the two or three
quantities that people ask about most often. The difficulty of a query is the length
of its chain; its asking probability is known, because we wrote it.

Two families say the same thing in different words: `sheets` (little sheets of
formulas) and `clocks` (plain English sentences).

Held-out contexts never meet training ones: names and numbers are hashed, training
draws only where neither hash is 0 modulo 8, held-out draws only where both are.

This file knows nothing about models, prompts or tokens. It needs no package.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

FACE = 12
"""Numbers live on a clock face: 1 to 12, and 12 + 1 is 1."""

LARGEST_STEP = 6
SIZES = (6, 7, 8, 9, 9, 10, 10, 10, 11, 11, 11, 12, 12, 12)
DEEPEST = 9
MOST_OUTPUTS = 3
MODULUS = 8

WATCHED_SHARES = (0.30, 0.20, 0.12)
"""How often the first, second and third watched quantity is asked for."""
OTHER_SHARE = 0.25
STATED_WEIGHT = 0.25
"""How often people ask for what the context states, beside what has to be worked out."""
PAIR_SHARE = 0.13

CELLS = tuple(f"{column}{row}" for column in "ABCDEF" for row in range(1, 7))
PEOPLE = (
    "Ana", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivo", "Jill",
    "Kim", "Leo", "Mia", "Ned", "Olga", "Pia", "Quin", "Rosa", "Sam", "Tess",
)  # fmt: skip
COLOURS = ("red", "blue", "green", "white", "black", "yellow")

Kind = Literal["value", "sum", "difference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A stated value (`source` is None) or `source` moved by `step` on the face."""

    name: str
    value: int
    depth: int
    source: str | None = None
    step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainQuery:
    """A question about one or two quantities, and how often people ask it.

    `depth` counts the formulas a full chain of thought has to quote.
    """

    question: str
    answer: str
    kind: Kind
    names: tuple[str, ...]
    depth: int
    anticipated: bool
    asking_probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A context, its queries, and what it is made of."""

    text: str
    family: str
    queries: tuple[ChainQuery, ...]
    quantities: tuple[Quantity, ...]
    watched: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Identify the context by its content."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The words of a family. Every sentence about a quantity is one line."""

    name: str
    names: tuple[str, ...]
    state: Callable[[str, int], str]
    formula: Callable[[str, str, int], str]
    distractor: Callable[[str, str], str]
    watch: Callable[[Sequence[str]], str]
    ask: Callable[[Kind, Sequence[str]], str]


def _sheet_formula(name: str, source: str, step: int) -> str:
    return f"{name}: {source} {'+' if step > 0 else '-'} {abs(step)}"


def _sheet_question(kind: Kind, names: Sequence[str]) -> str:
    if kind == "value":
        return f"What does {names[0]} show?"
    return f"What is {names[0]} {'plus' if kind == 'sum' else 'minus'} {names[1]}?"


def _clock_formula(name: str, source: str, step: int) -> str:
    return f"{name} keeps {source}'s time {'plus' if step > 0 else 'minus'} {abs(step)} hours."


def _clock_question(kind: Kind, names: Sequence[str]) -> str:
    if kind == "value":
        return f"What does {names[0]}'s clock read?"
    sign = "plus" if kind == "sum" else "minus"
    return f"What is {names[0]}'s time {sign} {names[1]}'s time?"


FAMILIES = {
    "sheets": Family(
        name="sheet",
        names=CELLS,
        state=lambda name, value: f"{name}= {value}",
        formula=_sheet_formula,
        distractor=lambda name, colour: f"{name} is {colour}",
        watch=lambda names: "watch " + " ".join(names),
        ask=_sheet_question,
    ),
    "clocks": Family(
        name="clocks",
        names=PEOPLE,
        state=lambda name, value: f"{name} reads {value} o'clock.",
        formula=_clock_formula,
        distractor=lambda name, colour: f"{name} likes {colour}",
        watch=lambda names: "Asked most often: " + " ".join(names),
        ask=_clock_question,
    ),
}


def draw(
    seed: int,
    *,
    contexts: int,
    queries_per_context: int = 4,
    family: str = "sheets",
    held_out: bool = True,
) -> list[Sample]:
    """Draw *contexts* fresh contexts with distinct queries, the same for the same seed.

    Queries are drawn by their asking probability, without replacement.
    """
    rng = Random(f"{family}:{seed}:{held_out}")  # noqa: S311  # draws must repeat for a seed
    samples: list[Sample] = []
    seen: set[str] = set()
    while len(samples) < contexts:
        sample = draw_one(rng, family=family, held_out=held_out, queries=queries_per_context, sizes=SIZES)
        if sample.fingerprint not in seen:
            seen.add(sample.fingerprint)
            samples.append(sample)
    return samples


def draw_one(rng: Random, *, family: str, held_out: bool, queries: int, sizes: Sequence[int]) -> Sample:
    """Draw one context of a size in *sizes*, with *queries* queries."""
    words = FAMILIES[family]
    size = rng.choice(sizes)
    bases = 2 if size >= 5 and rng.random() < 0.2 else 1
    while True:
        names = rng.sample(words.names, size)
        if belongs(sorted(names), held_out=held_out):
            break
    while True:
        values = [rng.randint(1, FACE) for _ in range(bases)]
        steps = [rng.choice((1, -1)) * rng.randint(1, LARGEST_STEP) for _ in range(size - bases)]
        if belongs([*values, *steps], held_out=held_out):
            break
    quantities = _grow(rng, names, values, steps)
    watched = _watch(rng, quantities)
    return Sample(
        text=_write(rng, words, quantities, watched),
        family=family,
        queries=choose(rng, all_queries(family, quantities, watched), queries),
        quantities=quantities,
        watched=watched,
    )


def belongs(items: Sequence[object], *, held_out: bool) -> bool:
    """Say whether these names or numbers may appear together on this side of the split."""
    digest = hashlib.sha256(" ".join(map(str, items)).encode()).digest()
    return (digest[0] % MODULUS == 0) == held_out


def on_face(number: int) -> int:
    """Wrap *number* onto the clock face."""
    return (number - 1) % FACE + 1


def score(answer_text: str, expected: str) -> bool:
    """Compare the last value that a reply states with *expected*."""
    return stated(answer_text) == expected


def stated(answer_text: str) -> str | None:
    """Read the last value that a reply states, or None if it states none."""
    values = re.findall(r"(?:=|reads) *(\d+)", answer_text)
    return values[-1] if values else None


def chain(quantities: Sequence[Quantity], name: str) -> list[Quantity]:
    """Follow *name* back to the stated value it rests on, itself first."""
    by_name = {quantity.name: quantity for quantity in quantities}
    links = [by_name[name]]
    while (source := links[-1].source) is not None:
        links.append(by_name[source])
    return links


def all_queries(family: str, quantities: Sequence[Quantity], watched: Sequence[str]) -> list[ChainQuery]:
    """List every query of a context; their asking probabilities add up to 1."""
    ask = FAMILIES[family].ask
    others = {q.name: STATED_WEIGHT if q.source is None else 1.0 for q in quantities if q.name not in watched}
    shares = dict(zip(watched, WATCHED_SHARES, strict=False))
    shares |= {name: OTHER_SHARE * weight / sum(others.values()) for name, weight in others.items()}
    pairs = [(a, b) for a in quantities for b in quantities if a is not b]
    kinds: tuple[Kind, Kind] = ("sum", "difference")
    pair_share = PAIR_SHARE / (len(pairs) * len(kinds))
    total = sum(shares.values()) + PAIR_SHARE
    links = {q.name: {link.name for link in chain(quantities, q.name)} for q in quantities}
    stated = {q.name for q in quantities if q.source is None}
    queries = [
        ChainQuery(
            question=ask("value", [q.name]),
            answer=str(q.value),
            kind="value",
            names=(q.name,),
            depth=q.depth,
            anticipated=q.name in watched,
            asking_probability=shares[q.name] / total,
        )
        for q in quantities
    ]
    queries += [
        ChainQuery(
            question=ask(kind, [a.name, b.name]),
            answer=str(on_face(a.value + b.value if kind == "sum" else a.value - b.value)),
            kind=kind,
            names=(a.name, b.name),
            depth=len((links[a.name] | links[b.name]) - stated),
            anticipated=False,
            asking_probability=pair_share / total,
        )
        for a, b in pairs
        for kind in kinds
    ]
    return queries


def choose(rng: Random, queries: Sequence[ChainQuery], count: int) -> tuple[ChainQuery, ...]:
    """Draw *count* distinct queries by their asking probability."""
    left = list(queries)
    chosen: list[ChainQuery] = []
    while left and len(chosen) < count:
        weights = [query.asking_probability for query in left]
        index = rng.choices(range(len(left)), weights)[0]
        chosen.append(left.pop(index))
    return tuple(chosen)


def _grow(rng: Random, names: Sequence[str], values: Sequence[int], steps: Sequence[int]) -> tuple[Quantity, ...]:
    """Hang each new quantity mostly on the end of the longest chain, sometimes elsewhere."""
    grown = [Quantity(name=name, value=value, depth=0) for name, value in zip(names, values, strict=False)]
    for name, step in zip(names[len(values) :], steps, strict=True):
        ends = _outputs(grown)
        free = [quantity for quantity in grown if quantity.depth < DEEPEST]
        longest = max(free, key=lambda quantity: quantity.depth)
        source = longest if rng.random() < 0.9 else rng.choice(free)
        if len(ends) == MOST_OUTPUTS and source not in ends:
            source = rng.choice([end for end in ends if end.depth < DEEPEST] or ends)
        grown.append(
            Quantity(
                name=name,
                value=on_face(source.value + step),
                depth=source.depth + 1,
                source=source.name,
                step=step,
            )
        )
    return tuple(grown)


def _outputs(quantities: Sequence[Quantity]) -> list[Quantity]:
    """List the derived quantities that nothing depends on."""
    sources = {quantity.source for quantity in quantities}
    return [q for q in quantities if q.source is not None and q.name not in sources]


def _watch(rng: Random, quantities: Sequence[Quantity]) -> tuple[str, ...]:
    """Choose what people ask about: every output, and now and then something on the way; deep ends come first."""
    watched = [quantity.name for quantity in _outputs(quantities)]
    others = [q for q in quantities if q.source is not None and q.name not in watched]
    wanted = rng.choice((2, 3))
    while others and len(watched) < wanted:
        weights = [quantity.depth + 0.5 for quantity in others]
        watched.append(others.pop(rng.choices(range(len(others)), weights)[0]).name)
    depths = {quantity.name: quantity.depth for quantity in quantities}
    return tuple(sorted(watched, key=lambda name: -depths[name]))


def _write(rng: Random, words: Family, quantities: Sequence[Quantity], watched: Sequence[str]) -> str:
    """Write the context: header, watch line, then facts and distractors in any order."""
    lines = [
        words.state(q.name, q.value) if q.source is None else words.formula(q.name, q.source, q.step)
        for q in quantities
    ]
    distracting = rng.sample(words.names, rng.randint(0, 3))
    lines += [words.distractor(name, rng.choice(COLOURS)) for name in distracting]
    rng.shuffle(lines)
    return "\n".join([words.name, words.watch(watched), *lines])
