"""Write what the tiny model learns from: contexts with every branch that can follow.

A *tree* holds a context once and below it sleeps, queries at each level, notes with
more queries, partial notes with a later round of sleep. Each branch sees its ancestors
and itself alone and its positions start where its parent ends, so that it is exactly
what inference shows.

One skill serves thinking, notes and checks. To *resolve* a quantity is to quote
formulas backwards until a value is known, then to state values forwards.

This file knows nothing about torch.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

from sleeptime.evals.data import chains
from sleeptime.evals.data.chains import ChainQuery, Quantity, Sample
from training import tokenizer

FORMULA_LIMITS = {0: 0, 1: 1, 2: 2, 3: 4}
"""Formulas a reply may quote at each level; level 4 has no limit."""

WEIGHT = {"looked_up": 3.0, "fixed": 0.3, "guess": 0.2, "question": 0.4, "hint": 1.0}
_FIXED = frozenset(
    tokenizer.encode(" hours. o'clock.")
    + [token for pieces in ("\nplus=", "\nminus=") for token in tokenizer.encode(pieces)]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a reply; a guess has a value nobody can know."""

    text: str
    guess: bool = False


@dataclass(slots=True)
class Node:
    """A run of tokens below `parent` (an index, or -1), with a loss weight each.

    `kind` names what the reply shows, for the figures printed in training.
    `hints` asks a place for something
    else than the next token: the value of the name that stands there.
    """

    tokens: list[int]
    weights: list[float]
    parent: int
    kind: str = ""
    hints: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True)
class Tree:
    """Nodes, parents before children; `done` weighs the end of a sleep."""

    nodes: list[Node] = field(default_factory=list)
    done: float = 3.0

    @property
    def size(self) -> int:
        """Count tokens."""
        return sum(len(node.tokens) for node in self.nodes)

    def add(self, parent: int, tokens: Sequence[int], weight: float = 0.0) -> int:
        """Append a run without a reply; return its index."""
        self.nodes.append(Node(list(tokens), [weight] * len(tokens), parent))
        return len(self.nodes) - 1

    def reply(self, parent: int, lines: Iterable[Line], kind: str, scale: float = 1.0) -> None:
        """Append a whole reply, its opening and its end included."""
        tokens, weights = [tokenizer.ASSISTANT_ID], [0.0]
        for line in lines:
            ids, line_weights = _weighed(line, self.done)
            tokens += ids
            weights += line_weights
        tokens.append(tokenizer.END_ID)
        weights.append(1.0)
        self.nodes.append(Node(tokens, [w * scale for w in weights], parent, kind))


@lru_cache(maxsize=200_000)
def _weighed(line: Line, done: float) -> tuple[tuple[int, ...], tuple[float, ...]]:
    ids = encode_line(line.text)
    weights = [WEIGHT["fixed"] if token in _FIXED else WEIGHT["looked_up"] for token in ids]
    if line.text == "done":
        weights[0] = done
    if line.guess:
        weights[1] = WEIGHT["guess"]
    return ids, tuple(weights)


@lru_cache(maxsize=200_000)
def encode_line(text: str) -> tuple[int, ...]:
    """Cut one line, its newline in front."""
    return tuple(tokenizer.encode("\n" + text))


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes replies about one sample, line by line."""

    sample: Sample
    by_name: dict[str, Quantity]
    stated: frozenset[str]

    @classmethod
    def of(cls, sample: Sample) -> "Writer":
        """Prepare the look-ups."""
        by_name = {quantity.name: quantity for quantity in sample.quantities}
        stated = frozenset(q.name for q in sample.quantities if q.source is None)
        return cls(sample, by_name, stated)

    def value(self, name: str, *, guess: bool = False) -> Line:
        """State the value of *name*."""
        words = chains.FAMILIES[self.sample.family]
        return Line(text=words.state(name, self.by_name[name].value), guess=guess)

    def formula(self, name: str) -> Line:
        """Quote the formula of *name*."""
        words, quantity = chains.FAMILIES[self.sample.family], self.by_name[name]
        assert quantity.source is not None
        return Line(text=words.formula(name, quantity.source, quantity.step))

    def resolve(self, name: str, known: set[str], limit: int, *, check: bool = False) -> tuple[list[Line], int]:
        """Quote back to a known value, then state values forwards, and learn them in *known*.

        Returns the lines and the number of formulas quoted. When *limit* formulas do not
        reach a known value, the lines stop after the last quotation and *known* stays as
        it was. With *check*, the first formula is quoted even if its value is known.
        """
        lines: list[Line] = []
        path: list[str] = []
        while name not in known or (check and not path and name not in self.stated):
            if len(path) == limit:
                return lines, len(path)
            lines.append(self.formula(name))
            path.append(name)
            source = self.by_name[name].source
            assert source is not None
            name = source
        for reached in [name, *reversed(path)]:
            lines.append(self.value(reached))
            known.add(reached)
        return lines, len(path)

    def answer(self, query: ChainQuery, level: int, notes: set[str]) -> tuple[list[Line], str]:
        """Write the reply to *query* at *level*, and say what it shows.

        Level 4 trusts the context alone; lower levels trust the notes too.
        """
        known = set(self.stated) if level == 4 else {*self.stated, *notes}
        limit = 99 if level == 4 else FORMULA_LIMITS[level]
        with_notes = "notes" if notes else "context"
        if query.kind == "value":
            (name,) = query.names
            covered = name in known
            if level == 0:
                shows = "read" if covered else f"guess{min(query.depth, 3)}"
                return [self.value(name, guess=not covered and query.depth > 1)], f"{shows}0"
            check = level < 4 and bool(notes)
            lines, _ = self.resolve(name, known, limit, check=check)
            if name not in known:
                return [*lines, self.value(name, guess=True)], "cut"
            kind = "chain" if level == 4 else "check" if covered and check else "short"
            return lines, f"{kind}_{with_notes}"
        line = f"{'plus' if query.kind == 'sum' else 'minus'}= {query.answer}"
        if level == 0:
            covered = known.issuperset(query.names)
            return [Line(text=line, guess=not covered)], "pair_read0" if covered else "pair_guess0"
        lines = []
        for name in query.names:
            more, quoted = self.resolve(name, known, limit)
            lines += more
            limit -= quoted
            if name not in known:
                return [*lines, Line(text=line, guess=True)], "cut"
        both = [self.value(name) for name in query.names]
        if lines[-2:] != both:
            lines += both
        return [*lines, Line(text=line)], f"pair_{with_notes}"

    def sleep(self, notes: set[str]) -> tuple[list[Line], list[Line]]:
        """Resolve the watched in turn, which covers all; return the reply and new notes."""
        known = {*self.stated, *notes}
        lines: list[Line] = []
        written: list[Line] = []
        for name in self.sample.watched:
            before = set(known)
            more, _ = self.resolve(name, known, 99, check=True)
            lines += more
            news = {self.value(new).text for new in known - before}
            written += [line for line in more if line.text in news]
        return [*lines, Line(text="done")], written


def note_tokens(lines: Iterable[Line], header: str = "\nnotes:") -> list[int]:
    """Cut a block of notes."""
    ids = tokenizer.encode(header)
    for line in lines:
        ids += encode_line(line.text)
    return ids


def hint(node: Node, query: ChainQuery, writer: Writer) -> None:
    """Ask each name of a two-quantity question for its value, there and then."""
    if query.kind == "value":
        return
    hints = []
    for name in query.names:
        (mention,) = tokenizer.encode(f" {name}")
        hints.append((node.tokens.index(mention), encode_line(writer.value(name).text)[1]))
    node.hints = tuple(hints)


def question_tokens(query: ChainQuery) -> tuple[int, ...]:
    """Cut a question."""
    return encode_line(query.question)


def level_tokens(level: int) -> list[int]:
    """Cut the verbosity mark."""
    return tokenizer.encode(f" /{level}")


def name_of(line: Line) -> str:
    """Give the name that a value line speaks of."""
    return line.text.split("=")[0].split(" ")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a stage of training draws.

    `pairs` is the share of two-quantity queries; `drills`, `steps` and `sleeps` the shares of
    trees that exercise reading, single steps and sleep alone; `made_up` the share of steps whose
    formula is made up, `pair_steps` the share of them that add two values, `next_steps` the share
    that decide what comes next. `done` weighs the end of a sleep. `hints` asks the names in
    two-quantity questions for their values.
    """

    sizes: tuple[int, ...]
    pairs: float = 0.0
    drills: float = 0.0
    steps: float = 0.0
    sleeps: float = 0.0
    made_up: float = 0.35
    drilled_pairs: float = 0.5
    pair_steps: float = 0.0
    next_steps: float = 0.0
    families: tuple[str, ...] = ("sheets",)
    done: float = 1.0
    hints: bool = False
    length: int = 576


def draw(rng: Random, plan: Plan) -> Tree:
    """Draw a tree of any kind."""
    chance = rng.random()
    if chance < plan.drills:
        return draw_drill(rng, plan)
    if chance < plan.drills + plan.steps:
        return draw_steps(rng, plan)
    if chance < plan.drills + plan.steps + plan.sleeps:
        return draw_sleeps(rng, plan)
    return draw_tree(rng, plan)


def draw_tree(rng: Random, plan: Plan) -> Tree:
    """Draw a context and as many branches as `plan.length` tokens hold."""
    family = rng.choice(plan.families)
    sample = chains.draw_one(rng, family=family, held_out=False, queries=0, sizes=plan.sizes)
    everything = chains.all_queries(family, sample.quantities, sample.watched)
    values = [query for query in everything if query.kind == "value"]
    pairs = [query for query in everything if query.kind != "value"]
    if plan.pairs == 0:
        everything = values
    writer = Writer.of(sample)
    tree = Tree(done=plan.done)
    root = tree.add(-1, [tokenizer.USER_ID, *tokenizer.encode(sample.text)])

    def some(count: int) -> list[ChainQuery]:
        return [rng.choice(pairs) if rng.random() < plan.pairs else rng.choice(values) for _ in range(count)]

    def ask(parent: int, query: ChainQuery, levels: Sequence[int], notes: set[str], scale: float) -> None:
        asked = tree.add(parent, question_tokens(query), scale)
        if plan.hints and notes == full:
            hint(tree.nodes[asked], query, writer)
        for level in levels:
            marked = tree.add(asked, level_tokens(level))
            tree.reply(marked, *writer.answer(query, level, notes))

    reply, written = writer.sleep(set())
    tree.reply(tree.add(root, tokenizer.encode("\nsleep")), reply, "sleep")
    noted = tree.add(root, note_tokens(written))
    full = {name_of(line) for line in written}

    jobs: list[tuple[int, ChainQuery, list[int], set[str], float]] = []
    part_size = rng.randint(1, len(written)) if written else 0
    if part_size and rng.random() < 0.6:
        part = written[:part_size]
        partly = tree.add(root, note_tokens(part))
        names = {name_of(line) for line in part}
        again, _ = writer.sleep(names)
        tree.reply(tree.add(partly, tokenizer.encode("\nsleep")), again, "sleep_again")
        jobs += [(partly, query, [rng.choice((0, 0, 1, 2, 3, 4))], names, 0.0) for query in some(3)]
    if written and rng.random() < 0.15:
        wrong = tree.add(root, note_tokens(_corrupted(rng, sample, written)))
        jobs += [(wrong, query, [4], full, 0.0) for query in some(1)]
    while tree.size < plan.length - 90:
        asked_for = rng.choices(everything, [q.asking_probability for q in everything], k=3)
        for query in asked_for:
            levels = [4, *rng.sample(range(4), rng.choice((0, 1)))]
            jobs.append((root, query, levels, set(), WEIGHT["question"]))
        for query in some(2):
            levels = [4, *rng.sample(range(4), rng.choice((0, 1)))]
            jobs.append((root, query, levels, set(), 0.0))
        for query in some(6):
            levels = [0, *rng.sample(range(1, 5), 1 if rng.random() < 0.4 else 0)]
            jobs.append((noted, query, levels, full, 0.0))
        rng.shuffle(jobs)
        while jobs and tree.size < plan.length - 90:
            ask(*jobs.pop())
    while tree.size > plan.length:
        tree.nodes.pop()
    return tree


def draw_drill(rng: Random, plan: Plan) -> Tree:
    """Draw notes alone, with any values, and direct questions about them."""
    family = rng.choice(plan.families)
    words = chains.FAMILIES[family]
    while True:
        names = rng.sample(words.names, rng.choice(plan.sizes))
        if chains.belongs(sorted(names), held_out=False):
            break
    quantities = tuple(Quantity(name=name, value=rng.randint(1, chains.FACE), depth=0) for name in names)
    sample = Sample(text="", family=family, queries=(), quantities=quantities, watched=())
    writer = Writer.of(sample)
    everything = chains.all_queries(family, quantities, ())
    values = [query for query in everything if query.kind == "value"]
    pairs = [query for query in everything if query.kind != "value"]
    tree = Tree(done=plan.done)
    root = tree.add(-1, [tokenizer.USER_ID, *note_tokens(map(writer.value, names), header="notes:")])
    while tree.size < plan.length - 20:
        query = rng.choice(pairs if rng.random() < plan.drilled_pairs else values)
        asked = tree.add(root, question_tokens(query))
        if plan.hints:
            hint(tree.nodes[asked], query, writer)
        marked = tree.add(asked, level_tokens(rng.randrange(tokenizer.LEVELS)))
        lines, _ = writer.answer(query, 0, set())
        tree.reply(marked, lines, "drill" if query.kind == "value" else "pair_drill")
    return tree


def draw_sleeps(rng: Random, plan: Plan) -> Tree:
    """Draw a context and many sleeps on it, from nothing and from partial notes.

    What to take up next is the rarest decision in other trees, and the hardest.
    """
    family = rng.choice(plan.families)
    sample = chains.draw_one(rng, family=family, held_out=False, queries=0, sizes=plan.sizes)
    writer = Writer.of(sample)
    tree = Tree(done=plan.done)
    root = tree.add(-1, [tokenizer.USER_ID, *tokenizer.encode(sample.text)])
    while tree.size < plan.length - 120:
        reply, written = writer.sleep(set())
        part = written[: rng.randint(0, len(written))] if rng.random() < 0.8 else []
        above = tree.add(root, note_tokens(part)) if part else root
        if part:
            reply, _ = writer.sleep({name_of(line) for line in part})
        asked = tree.add(above, tokenizer.encode("\nsleep"))
        tree.reply(asked, reply, "sleep_again" if part else "sleep")
    while tree.size > plan.length:
        tree.nodes.pop()
    return tree


def draw_steps(rng: Random, plan: Plan) -> Tree:
    """Draw a context and single steps on it: a sum on the face, and whether a value is known.

    The values are made up, so that nothing but the formula and the line before can help;
    the formula is the context's, or made up too and quoted just before. Many different
    formulas in a batch are what makes arithmetic quick to learn.
    """
    family = rng.choice(plan.families)
    sample = chains.draw_one(rng, family=family, held_out=False, queries=0, sizes=plan.sizes)
    words = chains.FAMILIES[family]
    writer = Writer.of(sample)
    _, written = writer.sleep(set())
    part = rng.sample(written, rng.randint(0, len(written) // 2))
    known = writer.stated | {name_of(line) for line in part}
    tree = Tree(done=plan.done)
    root = tree.add(-1, [tokenizer.USER_ID, *tokenizer.encode(sample.text)])
    if part:
        root = tree.add(root, note_tokens(part))
    opening = tree.add(root, [*tokenizer.encode("\nsleep"), tokenizer.ASSISTANT_ID])
    derived = [quantity for quantity in sample.quantities if quantity.source is not None]
    while tree.size < plan.length - 20:
        if plan.next_steps and rng.random() < plan.next_steps:
            _add_next_step(rng, tree, (root, opening), writer, known)
            continue
        if plan.pair_steps and rng.random() < plan.pair_steps:
            _add_pair_step(rng, tree, opening, family)
            continue
        quantity = rng.choice(derived)
        assert quantity.source is not None
        chance = rng.random()
        if chance < plan.made_up + 0.35:
            value = rng.randint(1, chains.FACE)
            start = encode_line(words.state(quantity.source, value))
            step = quantity.step
            if chance < plan.made_up:
                step = rng.choice((1, -1)) * rng.randint(1, chains.LARGEST_STEP)
                quoted = encode_line(words.formula(quantity.name, quantity.source, step))
                start = (*quoted, *start)
            end = encode_line(words.state(quantity.name, chains.on_face(value + step)))
            below = tree.add(opening, [*start, end[0]])
            tree.nodes.append(Node([end[1]], [WEIGHT["looked_up"]], below, "step"))
        else:
            quoted = words.formula(quantity.name, quantity.source, quantity.step)
            below = tree.add(opening, encode_line(quoted))
            if quantity.source in known:
                following = encode_line(words.state(quantity.source, 1))[0]
            else:
                following = encode_line(writer.formula(quantity.source).text)[0]
            tree.nodes.append(Node([following], [WEIGHT["looked_up"]], below, "known"))
    return tree


def _add_next_step(rng: Random, tree: Tree, above: tuple[int, int], writer: Writer, known: AbstractSet[str]) -> None:
    """Append a value just written, and what comes next: in a sleep, or for the two of a query."""
    root, opening = above

    def written(name: str) -> tuple[int, ...]:
        words = chains.FAMILIES[writer.sample.family]
        return encode_line(words.state(name, rng.randint(1, chains.FACE)))

    def quotes(name: str) -> int:
        return encode_line(writer.formula(name).text)[0]

    def leads(name: str) -> int:
        return encode_line(writer.value(name).text)[0] if name in known else quotes(name)

    if rng.random() < 0.6:
        watched = writer.sample.watched
        at = rng.randrange(len(watched))
        end = tokenizer.encode("\ndone")[0]
        following = quotes(watched[at + 1]) if at + 1 < len(watched) else end
        below = tree.add(opening, written(watched[at]))
        tree.nodes.append(Node([following], [WEIGHT["looked_up"]], below, "next"))
        return
    first, second = rng.sample(sorted(writer.by_name), 2)
    kind, sign = rng.choice((("sum", "plus"), ("difference", "minus")))
    question = chains.FAMILIES[writer.sample.family].ask(kind, (first, second))
    level = rng.randint(1, 4)
    asked = tree.add(root, [*encode_line(question), *level_tokens(level), tokenizer.ASSISTANT_ID])
    end = tokenizer.encode(f"\n{sign}=")[0]
    again = [encode_line(writer.value(name).text)[0] for name in (first, second)]
    steps = [((second,), again[0]), ((second, first), again[1]), ((first, second), end)]
    if level < 4 or known == writer.stated:
        steps.append(((first,), leads(second)))
    for names, following in rng.sample(steps, 2):
        below = tree.add(asked, [token for name in names for token in written(name)])
        tree.nodes.append(Node([following], [WEIGHT["looked_up"]], below, "next_pair"))


def _add_pair_step(rng: Random, tree: Tree, opening: int, family: str) -> None:
    """Append two made-up values, and their sum or difference."""
    words = chains.FAMILIES[family]
    values = [rng.randint(1, chains.FACE) for _ in range(2)]
    tokens = [
        token
        for name, value in zip(rng.sample(words.names, 2), values, strict=True)
        for token in encode_line(words.state(name, value))
    ]
    kind, sign = rng.choice((("plus", 1), ("minus", -1)))
    end = encode_line(f"{kind}= {chains.on_face(values[0] + sign * values[1])}")
    below = tree.add(opening, [*tokens, end[0]])
    tree.nodes.append(Node([end[1]], [WEIGHT["looked_up"]], below, "pair_step"))


def _corrupted(rng: Random, sample: Sample, written: Sequence[Line]) -> list[Line]:
    """Make one or two notes wrong."""
    words = chains.FAMILIES[sample.family]
    notes = list(written)
    for index in rng.sample(range(len(notes)), min(len(notes), rng.choice((1, 2)))):
        wrong = rng.randint(1, chains.FACE)
        notes[index] = Line(text=words.state(name_of(notes[index]), wrong))
    return notes
