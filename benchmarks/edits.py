"""Edit contexts at random, ask and sleep again, and check what was shown against the truth.

    python -m benchmarks.edits --edits 3000 --seed 1

Contexts are lists of blocks (paragraphs, headed paragraphs, lists) of sentences, some of which state
facts about depots. A scripted model writes notes about the facts it is shown: about one, about two,
about one that an earlier note told it, about the whole text, and now and then with a wrong quotation. It
logs which facts each note rests on. After each edit a random version is asked about, then
mostly slept on anew. The checker reads the notes out of the prompts that the model was
given, looks their facts up in that log, and these in the world that was edited. It uses neither
sections nor evidence nor any other code of the package.

    stale shown    notes in a prompt whose facts the text no longer states: must be 0
    kept           of the notes all of whose blocks stand as they were: in the next version, at least 95 %
    tokens         of a sleep after an edit: at most (1.5 x changed fraction + 2 %) of a sleep on the whole text,
                   which is measured for every tenth and in proportion to length between
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sleeptime.core.budget import Budget
from sleeptime.core.errors import NothingLearnedError
from sleeptime.core.messages import Completion, Message, ToolCall
from sleeptime.core.notes import LearnedContext
from sleeptime.core.plan import Plan
from sleeptime.core.query import Sees
from sleeptime.core.usage import Usage
from sleeptime.engine import Engine
from sleeptime.models.protocol import Options
from sleeptime.models.scripted import ScriptedModel
from sleeptime.sleeper import Sleeper

SIZES = {"small": 60, "medium": 120, "large": 300}  # blocks of a context
MEASURED_EVERY = 10  # sleeps after an edit, for each of which one on the whole text is measured
PLAN = Plan(max_characters=10**6, budget=Budget(max_rounds=60))
NOTES_PER_ROUND = 40
LEAST_KEPT = 0.95
CHANGED_FACTOR, FIXED_SHARE = 1.5, 0.02
SLEPT_ON, ROLLED_BACK = 0.7, 0.03  # how often, after an edit

FACT = re.compile(r"Depot (\w+) holds (\d+) crates of (\w+)\.")
GOODS = ("slate", "barley", "copper", "wool", "cedar", "salt", "amber", "flax")
SYLLABLES = ("ka", "lor", "mi", "ven", "sta", "ru", "del", "o", "pra", "shin", "tu", "ber", "gal", "wy")
FILLER = (
    "The road to it is closed in winter and opens with the thaw.",
    "Its keeper writes a letter to the council every other week.",
    "Nobody remembers who laid the first stone of the northern wall.",
    "A clerk comes by on market days and counts what is there.",
    "The roof was mended in spring, and the gutters along with it.",
    "Carts are weighed at the gate before they are let in.",
    "There was talk of a second gate, but nothing has come of it.",
    "The dogs are fed at dusk and let out when the lamps are lit.",
)

Blocks = list["Block"]


@dataclass(frozen=True)
class Block:
    """A paragraph, headed or not, or a list with a line for each sentence."""

    sentences: tuple[str, ...]
    heading: str = ""
    is_list: bool = False

    @property
    def text(self) -> str:
        body = ("\n" if self.is_list else " ").join(self.sentences)
        return f"{self.heading}\n{body}" if self.heading else body


class World:
    """The truth: the blocks of one context now, and how they came to be."""

    def __init__(self, dice: random.Random, size: int) -> None:
        self._dice = dice
        self._names: set[str] = set()
        self.blocks: Blocks = [self._block() for _ in range(size)]
        self.past: list[Blocks] = []
        self.text = self._written()
        self.facts = _facts(self.blocks)

    def edit(self) -> str:
        """Change the text in a way drawn at random, and name the way."""
        ways = {
            "insert": self._insert,
            "delete": self._delete,
            "replace": self._replace,
            "reword": self._reword,
            "move": self._move,
            "append": self._append,
            "boundary": self._boundary,
            "whitespace": lambda: None,
            "duplicate": self._duplicate,
            "revert": self._revert,
            "rewrite": self._rewrite,
        }
        way = self._dice.choice(list(ways))
        self.past.append(list(self.blocks))
        ways[way]()
        self.text = self._written(spread=way == "whitespace")
        self.facts = _facts(self.blocks)
        return way

    def _insert(self) -> None:
        at = self._dice.choice([0, len(self.blocks), self._dice.randint(0, len(self.blocks))])
        self.blocks[at:at] = [self._block() for _ in range(self._dice.choice([1, 1, 2, 5]))]

    def _delete(self) -> None:
        at, many = self._at(), self._dice.choice([1, 1, 1, 3])
        if len(self.blocks) > many + 10:
            del self.blocks[at : at + many]

    def _replace(self) -> None:
        at = self._at()
        block = self.blocks[at]
        where = self._dice.randrange(len(block.sentences))
        found = FACT.fullmatch(block.sentences[where])
        new = f"Depot {found[1]} holds {self._dice.randint(2, 999)} crates of {found[3]}." if found else self._fact()
        self.blocks[at] = replace(block, sentences=(*block.sentences[:where], new, *block.sentences[where + 1 :]))

    def _reword(self) -> None:
        at = self._at()
        block = self.blocks[at]
        self.blocks[at] = replace(block, sentences=(*block.sentences, self._dice.choice(FILLER)))

    def _move(self) -> None:
        at, many = self._at(), self._dice.choice([1, 2, 10])
        moved = self.blocks[at : at + many]
        del self.blocks[at : at + many]
        to = self._dice.randint(0, len(self.blocks))
        self.blocks[to:to] = moved

    def _append(self) -> None:
        self.blocks += [self._block() for _ in range(self._dice.choice([1, 2]))]

    def _boundary(self) -> None:
        """Join two neighbouring paragraphs, or break one apart."""
        at = self._at()
        block = self.blocks[at]
        if self._dice.random() < 0.5 and len(block.sentences) > 1:
            cut = self._dice.randrange(1, len(block.sentences))
            tail = Block(block.sentences[cut:], is_list=block.is_list)
            self.blocks[at : at + 1] = [replace(block, sentences=block.sentences[:cut]), tail]
        elif at + 1 < len(self.blocks) and not self.blocks[at + 1].heading:
            joined = replace(block, sentences=block.sentences + self.blocks[at + 1].sentences)
            self.blocks[at : at + 2] = [joined]

    def _duplicate(self) -> None:
        self.blocks.insert(self._at(), self.blocks[self._at()])

    def _revert(self) -> None:
        self.blocks = list(self._dice.choice(self.past[-6:]))

    def _rewrite(self) -> None:
        """Write a tenth of the blocks anew, side by side."""
        many = len(self.blocks) // 10
        at = self._dice.randint(0, len(self.blocks) - many)
        self.blocks[at : at + many] = [self._block() for _ in range(many)]

    def _at(self) -> int:
        """A place; ends and beginnings more often than they are long."""
        last = len(self.blocks) - 1
        return self._dice.choice([0, last, *(self._dice.randint(0, last) for _ in range(6))])

    def _fact(self) -> str:
        while True:
            name = "".join(self._dice.choice(SYLLABLES) for _ in range(3)).capitalize()
            if name not in self._names:
                self._names.add(name)
                return f"Depot {name} holds {self._dice.randint(2, 999)} crates of {self._dice.choice(GOODS)}."

    def _block(self) -> Block:
        if self._dice.random() < 0.1:
            return Block(tuple(self._fact() for _ in range(self._dice.randint(5, 40))), is_list=True)
        sentences = [self._fact() for _ in range(self._dice.choice([0, 1, 1, 2]))]
        sentences += self._dice.sample(FILLER, self._dice.randint(1, 5))
        self._dice.shuffle(sentences)
        heading = f"## Part {self._dice.randint(1, 10**6)}" if self._dice.random() < 0.15 else ""
        return Block(tuple(sentences), heading)

    def _written(self, *, spread: bool = False) -> str:
        """The text: blank lines between blocks, and where *spread*, more of them and blanks at ends of lines."""
        gaps = ["\n\n\n", "  \n\n", "\n \n", "\n\n"] if spread else ["\n\n"]
        return "".join(f"{block.text}{self._dice.choice(gaps)}" for block in self.blocks).rstrip() + "\n"


def _facts(blocks: Blocks) -> Counter[str]:
    """The facts that a text states, and how often."""
    return Counter(s for block in blocks for s in block.sentences if FACT.fullmatch(s))


class Writer:
    """The scripted model, with a log of the facts that each of its notes rests on."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.facts_of: dict[str, frozenset[str]] = {}
        self.counts: dict[str, int] = {}
        self.model = ScriptedModel(self._reply)

    def _reply(self, messages: Sequence[Message], options: Options) -> Completion:
        words = sum(len(message.content.split()) for message in messages)
        if not options.tools:
            return Completion(text="The answer is 1.", usage=Usage(input_tokens=words, output_tokens=4), model="s")
        words += len(json.dumps([tool.parameters for tool in options.tools]).split())
        arguments = self._notes(messages)
        spoken = len(json.dumps(arguments).split())
        return Completion(
            text="",
            usage=Usage(input_tokens=words, output_tokens=spoken),
            model="s",
            tool_calls=(ToolCall(name="revise_notes", arguments=arguments),),
        )

    def _notes(self, messages: Sequence[Message]) -> dict[str, object]:
        text = _between(messages, "context")
        noted = dict(re.findall(r"^\[(n\d+)\] \w+: (.*)$", _between(messages, "notes"), re.MULTILINE))
        said = set(noted.values())
        about = {fact: identity for identity, note in noted.items() for fact in self.facts_of.get(note, ())}
        written: list[dict[str, object]] = []
        facts = [found[0] for found in FACT.finditer(text)]
        if "[…]" not in text and not any(note in self.counts for note in said):
            written.append(self._whole(text))
        partner: str | None = None
        for fact in dict.fromkeys(facts):
            for note in self._about(fact, partner, about):
                if note["text"] not in said:
                    said.add(str(note["text"]))
                    written.append(note)
            partner = fact
            if len(written) >= NOTES_PER_ROUND:
                return {"add": written, "done": False}
        return {"add": written, "done": True}

    def _whole(self, text: str) -> dict[str, object]:
        many = len(FACT.findall(text))
        note = f"The text speaks of depots {many} times in all."
        self.counts[note] = many
        return {"kind": "inference", "text": note, "evidence": ["*"]}

    def _about(self, fact: str, partner: str | None, about: dict[str, str]) -> list[dict[str, object]]:
        """One note about *fact*; for one in three another that joins it with a *partner*, quoted or noted before."""
        found = FACT.fullmatch(fact)
        assert found
        dozens, rest = divmod(int(found[2]), 12)
        text = f"{found[1]} has {dozens} dozen crates of {found[3]} and {rest} over."
        self.facts_of[text] = frozenset({fact})
        draw = random.Random(fact)  # the same choice whenever the fact is met
        quote = fact if draw.random() < 0.8 else f"holds {found[2]} crates of {found[3]}"
        if draw.random() < 0.005:
            quote = f"{found[1]} is said to hold {found[2]}"  # a wrong quotation
        notes: list[dict[str, object]] = [{"kind": "inference", "text": text, "evidence": [quote]}]
        other = FACT.fullmatch(partner) if partner else None
        if other and partner and draw.random() < 1 / 3:
            text = f"{other[1]} and {found[1]} have {int(other[2]) + int(found[2])} crates together."
            self.facts_of[text] = frozenset({fact, partner})
            notes.append({"kind": "inference", "text": text, "evidence": [about.get(partner, partner), fact]})
        return notes


@dataclass
class Tally:
    """What was counted, over contexts of one size."""

    edits: Counter[str] = field(default_factory=Counter[str])
    asks: int = 0
    shown: int = 0
    stale_shown: int = 0
    stale_hidden: int = 0
    unaffected: int = 0
    kept: int = 0
    sleeps: int = 0
    tokens: int = 0
    full_tokens: float = 0.0
    allowed: float = 0.0
    changed: float = 0.0
    over: int = 0
    worst: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        total = Tally(self.edits + other.edits)
        for name, value in vars(self).items():
            if name == "worst":
                total.worst = max(self.worst, other.worst)
            elif name != "edits":
                setattr(total, name, value + getattr(other, name))
        return total


class Trial:
    """One context and its edits."""

    def __init__(self, engine: Engine, world: World, writer: Writer, dice: random.Random, name: str) -> None:
        self.engine, self.world, self.writer, self.dice, self.name = engine, world, writer, dice, name
        self.tally = Tally()
        self.slept: tuple[str, Counter[str], dict[str, list[str]]] | None = None
        self.full_tokens_per_character = 0.0

    async def run(self, edits: int) -> Tally:
        await self.engine.add(self.world.text, name=self.name)
        learned = await self.engine.sleep(self.name, PLAN)
        self._remember()
        for _ in range(edits):
            text = self.world.text
            way = self.world.edit()
            self.tally.edits[way] += 1
            if way == "append" and self.world.text.startswith(text.rstrip()):
                added = self.world.text[len(text.rstrip()) :].strip("\n")
                await self.engine.update(self.name, f"{added}\n", append=True)
            else:
                await self.engine.update(self.name, self.world.text)
            await self._ask(learned.version)
            if self.dice.random() < ROLLED_BACK and learned.version > 1:
                learned = await self.engine.rollback(self.name, self.dice.randint(1, learned.version - 1))
                self.slept = None  # which edits its notes have seen is not followed
                await self._ask(learned.version)
            if self.dice.random() < SLEPT_ON:
                learned = await self._sleep(learned)
                await self._ask(learned.version)
        return self.tally

    async def _ask(self, newest: int) -> None:
        """Ask about the newest version or any other, and check the notes in the prompt."""
        version = self.dice.choice([None, None, self.dice.randint(1, newest)])
        sees: Sees = self.dice.choice(["learned", "context+learned"])
        calls = len(self.writer.model.calls)
        try:
            await self.engine.ask(self.name, "How many crates?", sees=sees, version=version)
        except NothingLearnedError:
            return  # all of it is stale
        self.tally.asks += 1
        shown = _between(self.writer.model.calls[calls].messages, "notes").splitlines()
        self.check(shown)
        stored = await self.engine.store.learned((await self.engine.store.context(self.name)).id, version)
        assert stored
        self.tally.stale_hidden += sum(self._is_false(note.text) for note in stored.notes if note.text not in shown)

    def check(self, notes: Sequence[str]) -> None:
        """Count notes that were shown, and those of them whose facts are none any more."""
        for note in notes:
            self.tally.shown += 1
            self.tally.stale_shown += self._is_false(note)

    def _is_false(self, note: str) -> bool:
        facts = self.world.facts
        if note in self.writer.counts:
            return self.writer.counts[note] != facts.total()
        return not all(facts[fact] for fact in self.writer.facts_of[note])

    async def _sleep(self, before: LearnedContext) -> LearnedContext:
        """Sleep, and compare with the version before and with a sleep on the whole text."""
        calls = len(self.writer.model.calls)
        after = await self.engine.sleep(self.name, PLAN)
        for call in self.writer.model.calls[calls : calls + 1]:
            listed = _between(call.messages, "notes").splitlines()
            self.check([line.partition(": ")[2] for line in listed if line.startswith("[n")])
        if self.slept is not None:
            text, blocks, homes = self.slept
            now = Counter(block.text for block in self.world.blocks)
            touched = {block for block, many in blocks.items() if now[block] < many}
            unaffected = [
                note.text
                for note in before.notes
                if note.text in self.writer.facts_of
                and all(
                    fact in homes and not touched.intersection(homes[fact]) for fact in self.writer.facts_of[note.text]
                )
            ]
            kept = {note.text for note in after.notes}
            self.tally.unaffected += len(unaffected)
            self.tally.kept += sum(note in kept for note in unaffected)
            await self._compare(text, after.usage)
        self._remember()
        return after

    async def _compare(self, before: str, usage: Usage) -> None:
        if self.tally.sleeps % MEASURED_EVERY == 0:
            context = await self.engine.store.context(self.name)
            full = await Sleeper(self.writer.model, None, lambda: 0.0, lambda: context.created_at).sleep(context, PLAN)
            self.full_tokens_per_character = full.usage.total_tokens / len(context.text)
        full_tokens = self.full_tokens_per_character * len(self.world.text)
        lines = Counter(line.strip() for line in before.splitlines())
        new = Counter(line.strip() for line in self.world.text.splitlines()) - lines
        changed = sum(len(line) * many for line, many in new.items()) / len(self.world.text)
        allowed = CHANGED_FACTOR * changed + FIXED_SHARE
        ratio = usage.total_tokens / full_tokens
        self.tally.sleeps += 1
        self.tally.tokens += usage.total_tokens
        self.tally.full_tokens += full_tokens
        self.tally.allowed += allowed * full_tokens
        self.tally.changed += changed
        self.tally.over += ratio > allowed
        self.tally.worst = max(self.tally.worst, ratio - allowed)

    def _remember(self) -> None:
        homes: dict[str, list[str]] = {}
        for block in self.world.blocks:
            for sentence in block.sentences:
                homes.setdefault(sentence, []).append(block.text)
        self.slept = (self.world.text, Counter(block.text for block in self.world.blocks), homes)


def _between(messages: Sequence[Message], tag: str) -> str:
    """What stands in the last <tag>…</tag> that the messages hold on lines of their own."""
    whole = "\n".join(message.content for message in messages)
    return re.findall(rf"^<{tag}>\n(.*?)\n?^</{tag}>$", whole, re.DOTALL | re.MULTILINE)[-1]


async def measure(edits: int, seed: int, *, per_context: int) -> dict[str, Tally]:
    """Make *edits* over as many contexts as they need, of each size in turn."""
    tallies = {size: Tally() for size in SIZES}
    done = 0
    with tempfile.TemporaryDirectory(prefix="edits-") as folder:
        for number in range(-(-edits // per_context)):
            size = list(SIZES)[number % len(SIZES)]
            dice = random.Random(f"{seed} {number}")
            writer = Writer(dice)
            environ = {"SLEEPTIME_HOME": folder}
            async with Engine.open(
                database=Path(folder) / "edits.db", model=writer.model, worker=False, environ=environ
            ) as engine:
                trial = Trial(engine, World(dice, SIZES[size]), writer, dice, f"context-{number}")
                many = min(per_context, edits - done)
                tallies[size] += await trial.run(many)
                done += many
    return tallies


def failures(total: Tally) -> list[str]:
    """What of the promise does not hold."""
    found: list[str] = []
    if total.stale_shown:
        found.append(f"{total.stale_shown} stale notes were shown")
    if not total.stale_hidden:
        found.append("no note ever went stale, so nothing was put to the test")
    if total.kept < LEAST_KEPT * total.unaffected:
        found.append(f"only {total.kept / total.unaffected:.1%} of unaffected notes were kept")
    if total.tokens > total.allowed:
        found.append("sleeps after an edit took more tokens than allowed")
    return found


def main() -> None:
    """Measure, print, and exit with 1 where a promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-context", type=int, default=50, help="edits of one context before the next")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    arguments = parser.parse_args()
    began = time.monotonic()
    tallies = asyncio.run(measure(arguments.edits, arguments.seed, per_context=arguments.per_context))
    total = sum(tallies.values(), Tally())
    missed = failures(total)
    if arguments.json:
        print(
            json.dumps({**{size: vars(tally) for size, tally in tallies.items()}, "all": vars(total), "missed": missed})
        )
    else:
        print(_table({**tallies, "all": total}))
        print(f"edits: {', '.join(f'{many} {way}' for way, many in sorted(total.edits.items()))}")
        print(f"{time.monotonic() - began:.0f} s, seed {arguments.seed}")
        print(f"verdict: {'MISSED: ' + '; '.join(missed) if missed else 'holds'}")
    sys.exit(1 if missed else 0)


def _table(tallies: dict[str, Tally]) -> str:
    head = "| contexts | edits | notes shown | stale shown | stale hidden | unaffected kept | sleeps | changed | "
    rows = [head + "tokens of full | allowed | sleeps over | worst |", "|---|" + "---:|" * 11]
    for size, t in tallies.items():
        if not t.sleeps:
            continue
        rows.append(
            f"| {size} | {t.edits.total():,} | {t.shown:,} | {t.stale_shown} | {t.stale_hidden:,} "
            f"| {t.kept / t.unaffected:.2%} | {t.sleeps:,} | {t.changed / t.sleeps:.2%} "
            f"| {t.tokens / t.full_tokens:.2%} | {t.allowed / t.full_tokens:.2%} | {t.over} | {t.worst:+.2%} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
