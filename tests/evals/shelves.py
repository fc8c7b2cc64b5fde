"""Shelves of books, a writer of known quality that asks about them, and a solver that knows the truth.

What each line of a script holds is what the writer says about a context: right, wrong, leaking, and so on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sleeptime.core.messages import Completion, Message, ToolCall
from sleeptime.core.usage import Usage
from sleeptime.models.protocol import Options

WRITES = "You write questions about a text"
_STATED = re.compile(r"Shelf (\d+) holds (\d+) red books and (\d+) blue books\. .*? (\d+) dollars.*? (\d+) dollars")

ORIGINAL = "How many dollars more do all red books cost than all blue books?"
TRUTHS: dict[str, Callable[[int, int, int, int], int]] = {
    ORIGINAL: lambda red, blue, dear, cheap: red * dear - blue * cheap,
    "How many books stand on the shelf?": lambda red, blue, _dear, _cheap: red + blue,
    "What do all red books cost in dollars?": lambda red, _blue, dear, _cheap: red * dear,
    "What do all blue books cost in dollars?": lambda _red, blue, _dear, cheap: blue * cheap,
    "What does the whole shelf cost in dollars?": lambda red, blue, dear, cheap: red * dear + blue * cheap,
    "By how many dollars does a red volume exceed the price of a blue volume?": lambda _r, _b, dear, cheap: (
        dear - cheap
    ),
    "How many red ones exceed the number of blue ones?": lambda red, blue, _dear, _cheap: red - blue,
}
GOOD = tuple(question for question in TRUTHS if question != ORIGINAL)


@dataclass(frozen=True)
class Shelf:
    number: int
    red: int
    blue: int
    dear: int
    cheap: int

    @property
    def context(self) -> str:
        return (
            f"Shelf {self.number} holds {self.red} red books and {self.blue} blue books. "
            f"A red book costs {self.dear} dollars and a blue book costs {self.cheap} dollars."
        )

    def truth(self, question: str) -> int:
        return TRUTHS[question](self.red, self.blue, self.dear, self.cheap)

    @property
    def line(self) -> str:
        queries = [{"question": ORIGINAL, "answer": str(self.truth(ORIGINAL))}]
        return json.dumps({"context": self.context, "queries": queries})


def shelf(number: int) -> Shelf:
    return Shelf(number=number, red=30 + number, blue=20 + 2 * (number % 5), dear=17 + number % 3, cheap=8)


def shelf_in(text: str) -> Shelf:
    stated = _STATED.search(text)
    assert stated, text
    return Shelf(*(int(number) for number in stated.groups()))


Written = tuple[str, str]
Line = Callable[[Shelf], Written]


def right(question: str) -> Line:
    return lambda on: (question, str(on.truth(question)))


def wrong(question: str) -> Line:
    return lambda on: (question, str(on.truth(question) + 1))


def says(question: str, answer: str) -> Line:
    return lambda on: (question.format(on=on, books=on.truth("How many books stand on the shelf?")), answer)


@dataclass
class Minds:
    """Writer and solver. `script` is what the writer says of each context, in each reply a share of it.

    `errs` gives the solver's answers to a question in runs 0, 1, 2 where it does not know the truth.
    """

    script: Sequence[Line]
    per_reply: int | None = None
    errs: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    first_words: str | None = None
    written: dict[int, int] = field(default_factory=dict)

    def write(self, prompt: str) -> list[Written]:
        on = shelf_in(prompt)
        said = self.written.get(on.number, 0)
        lines = self.script[said : said + (self.per_reply or len(self.script))]
        self.written[on.number] = said + len(lines)
        return [line(on) for line in lines]

    def solve(self, prompt: str, question: str, run: int) -> str:
        if question in self.errs:
            return f"It takes some thought. The answer is {self.errs[question][run]}."
        if question not in TRUTHS:
            return "The answer is 4711."
        return f"I count. The answer is {shelf_in(prompt).truth(question)}."

    def reply(self, messages: Sequence[Message], options: Options) -> Completion | str:
        prompt, last = "\n".join(message.content for message in messages), messages[-1].content
        if WRITES not in prompt:
            return self.solve(prompt, last.split("\n")[0], options.seed or 0)
        if self.first_words is not None:
            words, self.first_words = self.first_words, None
            return words
        written = self.write(prompt)
        if not options.tools:
            return plain(written)
        return Completion(
            text="",
            usage=Usage(input_tokens=50, output_tokens=20 * len(written)),
            model="minds",
            finish_reason="tool_calls",
            tool_calls=(ToolCall(name="write_queries", arguments=arguments(written)),),
        )


def arguments(written: Sequence[Written]) -> dict[str, list[dict[str, str]]]:
    return {"queries": [{"question": question, "answer": answer} for question, answer in written]}


def plain(written: Sequence[Written]) -> str:
    return "\n".join(["Here they are.", "<queries>", *(f"? {q} => {a}" for q, a in written), "</queries>"])
