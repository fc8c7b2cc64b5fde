"""A scripted model on loopback: it writes notes, answers as well as it is told to, and logs all it reports.

    Problems(rows)  →  Oracle(problems).complete  →  Oracle.log

Whether an answer is right is a rule of (question, arm, level, draw): QUALITY says how often. Right and
wrong ones are said in many ways. Notes carry a mark, by which those who see them are known to see them.
Token counts are drawn from a salted hash of the request, so that no code but a reader of the reported
usage can know them. Some calls fail: for good, once, or by a reply that is none.

This file knows what is shown to the model in the prompts that ship, and nothing about rows, scorers or statistics.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

Fault = Literal["", "refused", "down", "busy", "broken"]
"""refused: HTTP 400. down: HTTP 500 at every attempt. busy: HTTP 429 once. broken: no reply that can be read."""
Seen = Literal["none", "own", "other", "again", "alone", "guess"]
"""Which notes an answer sees: none, on its context, on another, the context again, notes alone; or it guesses."""

LEVELS = {
    "Reply with one short sentence": "v0",
    "First one short sentence": "v1",
    "First two short sentences": "v2",
    "Reason as much as is needed": "v3",
    "Reason in full": "v4",
}
"""How the five levels of verbosity begin, in every prompt of an answer."""
GUESSING = "No question was asked yet."
SLEEPING = "You prepare notes on a text"
NO_TEXT = "(no text)"
HOT = 0.8
"""The temperature of samples drawn in parallel, and of single ones that are compared with them."""
SHARED = "Every sleeper wrote this very note on the text."
"""What every sample of a sleep writes alike: it stands once among merged notes, and k times among joined ones."""

QUALITY: dict[Seen, dict[str, int]] = {
    "none": {"v0": 34, "v1": 46, "v2": 58, "v3": 78, "v4": 90, "low": 40, "medium": 60, "high": 84},
    "own": {"v0": 72, "v1": 80, "v2": 84, "v3": 90, "v4": 92, "low": 74, "medium": 84, "high": 90},
    "alone": {"v0": 64, "v1": 70, "v2": 74, "v3": 80, "v4": 84, "low": 64, "medium": 76, "high": 84},
    "other": {"v0": 34, "v1": 46, "v2": 58, "v3": 78, "v4": 90, "low": 40, "medium": 60, "high": 84},
    "again": {"v0": 38, "v1": 48, "v2": 60, "v3": 78, "v4": 90, "low": 44, "medium": 60, "high": 84},
    "guess": {"v0": 6, "v1": 6, "v2": 6, "v3": 8, "v4": 8, "low": 6, "medium": 6, "high": 8},
}
"""Percent of answers that are right."""
LENGTH = {"v0": 11, "v1": 38, "v2": 71, "v3": 160, "v4": 330, "low": 380, "medium": 900, "high": 2100}
"""The fewest output tokens of an answer without notes; at most there are twice as many."""

_MARK = re.compile(r"mark-[a-z]{12}")
_CONTEXT = re.compile(r"\n<context>\n(.*)\n</context>", re.DOTALL)
_NOTES = re.compile(r"\n<notes>\n(.*)\n</notes>", re.DOTALL)
_ROUND = re.compile(r"This is round (\d+) of")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One context of a file and what is asked about it. A question is empty where the file does not set it apart."""

    id: str
    cluster: str
    text: str
    targets: tuple[Fraction, ...]
    questions: tuple[str, ...] = ("",)
    stratum: str | None = None


def words_of(text: str) -> frozenset[tuple[str, int]]:
    """Words of a text, and which time each occurs."""
    count = Counter[str]()
    numbered: list[tuple[str, int]] = []
    for word in re.findall(r"\w+", text.casefold()):
        count[word] += 1
        numbered.append((word, count[word]))
    return frozenset(numbered)


class Problems:
    """The rows of a file, found by the words of what is shown of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.all = tuple(problems)
        self._words = [(problem, words_of(problem.text)) for problem in problems]
        self._found: dict[tuple[str, str], tuple[Problem, int]] = {}

    def find(self, context: str, question: str) -> tuple[Problem, int]:
        """The problem that has most words of a context and its question, and which of its queries it is."""
        key = context, question
        if key not in self._found:
            shown = words_of(f"{'' if context == NO_TEXT else context} {question}")
            best, _ = max(self._words, key=lambda each: (len(each[1] & shown), -len(each[1])))
            asked = best.questions.index(question) if question in best.questions else 0
            self._found[key] = best, asked
        return self._found[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a request shows: the context, the notes, the question or GUESSING, and how hard to think."""

    is_sleep: bool
    context: str | None
    notes: str | None
    question: str
    level: str
    round: int
    seed: int | None
    temperature: float | None
    effort: str | None

    @property
    def marks(self) -> list[str]:
        return _MARK.findall(self.notes or "")


def shown_in(body: dict[str, Any]) -> Shown:  # Any: JSON
    """Read a request."""
    system, user = (message["content"] for message in body["messages"])
    context, notes, at = _CONTEXT.search(system), _NOTES.search(system), _ROUND.search(user)
    question, _, told = user.rpartition("\n\n")
    effort = body.get("reasoning_effort")
    level = next((level for words, level in LEVELS.items() if told.startswith(words)), effort or "")
    return Shown(
        is_sleep=system.startswith(SLEEPING),
        context=context[1] if context else None,
        notes=notes[1] if notes else None,
        question=question,
        level=level,
        round=int(at[1]) if at else 0,
        seed=body.get("seed"),
        temperature=body.get("temperature"),
        effort=effort,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a mark in notes stands for: the sleep that wrote it."""

    context: str
    seed: int | None
    temperature: float | None
    effort: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request and what was replied: the usage, the number that it was made to say if any, the marks in its notes."""

    body: dict[str, Any]  # Any: JSON
    status: int
    fault: Fault
    usage: dict[str, Any] | None = None  # Any: JSON
    meant: Fraction | None = None
    marks: tuple[str, ...] = ()

    @property
    def is_answered(self) -> bool:
        return self.status == 200 and self.fault != "broken"


@dataclass(kw_only=True)
class Oracle:
    """The model. `breaks` lets some replies be none; `trouble` multiplies faults, and at 0 there are none.

    What it cannot play is in `crashes`.
    """

    problems: Problems
    salt: str
    breaks: bool = False
    trouble: int = 1
    log: list[Exchange] = field(default_factory=list[Exchange])
    crashes: list[Exception] = field(default_factory=list[Exception])
    _marks: dict[str, Mark] = field(default_factory=dict[str, Mark])
    _attempts: Counter[str] = field(default_factory=Counter[str])

    async def complete(self, request: Request) -> Response:
        """Reply to a chat completion, and log it."""
        try:
            return self._reply(json.loads(await request.body()))
        except Exception as error:  # noqa: BLE001 - whatever it was, it is raised where the run has ended
            self.crashes.append(error)
            return PlainTextResponse("the script does not know what to say", status_code=400)

    def _reply(self, body: dict[str, Any]) -> Response:  # Any: JSON
        shown = shown_in(body)
        same = json.dumps(body, sort_keys=True)
        self._attempts[same] += 1
        fault = self._fault(shown, same)
        if fault in ("refused", "down", "busy"):
            status = {"refused": 400, "down": 500, "busy": 429}[fault]
            self.log.append(Exchange(body=body, status=status, fault=fault))
            wait = {"retry-after": "1", "retry-after-ms": "40"} if fault == "busy" else {}
            return JSONResponse({"error": {"message": f"scripted: {fault}"}}, status_code=status, headers=wait)
        usage = self._usage(shown, f"{self._attempts[same]} {same}")
        if fault == "broken":
            return self._broken(body, same, usage)
        if shown.is_sleep:
            message, marks = self._noted(shown, has_tools="tools" in body)
            self.log.append(Exchange(body=body, status=200, fault="", usage=usage, marks=marks))
        else:
            text, meant = self._answered(shown)
            message = {"role": "assistant", "content": text}
            self.log.append(Exchange(body=body, status=200, fault="", usage=usage, meant=meant))
        return JSONResponse(_completion(message, usage))

    def _draw(self, *what: object, below: int) -> int:
        """A number that only who knows the salt can tell."""
        digest = hashlib.sha256("\0".join([self.salt, *map(str, what)]).encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % below

    def _fault(self, shown: Shown, same: str) -> Fault:
        if shown.round > 1 and self._is_doomed(shown):
            return "down" if self._draw("down", shown.context, below=4) == 0 else "refused"
        if self._draw("busy", same, below=1000) < 20 * self.trouble:
            return "busy" if self._attempts[same] == 1 else ""
        draw = self._draw("fault", same, below=1000)
        if shown.is_sleep or draw >= 20 * self.trouble:
            return ""
        if draw < 12 * self.trouble:
            return "down" if draw < 3 * self.trouble else "refused"
        return "broken" if self.breaks else ""

    def _is_doomed(self, shown: Shown) -> bool:
        """Whether a sleep fails, after a first round that was paid for.

        Samples in parallel do not: what is in flight beside one that fails is given up, at whatever it has cost.
        """
        if not shown.is_sleep or shown.temperature == HOT:
            return False
        return self._draw("doomed", shown.context, shown.effort, below=100) < 6 * self.trouble

    def _usage(self, shown: Shown, call: str) -> dict[str, Any]:  # Any: JSON
        words = len(f"{shown.context} {shown.notes} {shown.question}".split())
        prompt = 40 + words + self._draw("prompt", call, below=97)
        cached = prompt * self._draw("cached", call, below=95) // 100
        least = 150 if shown.is_sleep else LENGTH[shown.level] if shown.notes is None else LENGTH[shown.level] * 3 // 4
        completion = least + self._draw("completion", call, below=least)
        reasoning = completion * self._draw("reasoning", call, below=80) // 100 if shown.effort else least % 3
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }

    def _broken(self, body: dict[str, Any], same: str, usage: dict[str, Any]) -> Response:  # Any: JSON
        """Reply with something that is no completion: a page, no usage, no choices."""
        self.log.append(Exchange(body=body, status=200, fault="broken", usage=usage))
        match self._draw("broken", same, below=3):
            case 0:
                return PlainTextResponse("<html>Bad gateway</html>")
            case 1:
                return JSONResponse(_completion({"role": "assistant", "content": "The answer is 1."}, None))
            case _:
                return JSONResponse(_completion(None, usage))

    def _noted(self, shown: Shown, *, has_tools: bool) -> tuple[dict[str, Any], tuple[str, ...]]:  # Any: JSON
        """Notes on a context: what all samples share, what one alone wrote, and a total on which they differ.

        Some sleeps take two rounds. Some begin with a reply that calls no tool, and are asked in plain text then.
        """
        assert shown.context is not None
        how = (shown.context, shown.seed, shown.temperature, shown.effort)
        if has_tools and shown.round == 1 and self._draw("no tool", *how, below=20) == 0:
            return {"role": "assistant", "content": "I would rather not call anything."}, ()
        is_done = shown.round > 1 or (self._draw("rounds", *how, below=2) == 0 and not self._is_doomed(shown))
        mark = self._mark(shown)
        notes = [f"Sleeper {mark} wrote this in one of its rounds."]
        if shown.round == 1:
            notes[:0] = [SHARED, f"It comes to {2 + self._draw('total', *how, below=2)}."]
        if has_tools:
            written = json.dumps({"add": [{"kind": "inference", "text": note} for note in notes], "done": is_done})
            call = {"id": "call_1", "type": "function", "function": {"name": "revise_notes", "arguments": written}}
            return {"role": "assistant", "content": None, "tool_calls": [call]}, (mark,)
        text = "\n".join(["<notes>", *notes, *(["done"] if is_done else []), "</notes>"])
        return {"role": "assistant", "content": text}, (mark,)

    def _mark(self, shown: Shown) -> str:
        """A mark of a sleep's own, in letters: notes that differ in a number alone would be merged."""
        assert shown.context is not None
        how = (shown.context, shown.seed, shown.temperature, shown.effort, shown.round)
        letters = (chr(ord("a") + self._draw("mark", *how, place, below=26)) for place in range(12))
        mark = f"mark-{''.join(letters)}"
        self._marks[mark] = Mark(
            context=shown.context, seed=shown.seed, temperature=shown.temperature, effort=shown.effort
        )
        return mark

    def _answered(self, shown: Shown) -> tuple[str, Fraction | None]:
        """An answer that is right as often as QUALITY says, and the number that it gives."""
        noted = [self._marks[mark] for mark in shown.marks]
        context = noted[0].context if shown.context is None else shown.context
        question = "" if shown.question == GUESSING else shown.question
        problem, asked = self.problems.find(context, "" if question.startswith(GUESSING) else question)
        seen = seen_in(shown, noted)
        percent = QUALITY[seen][shown.level]
        if seen == "own":
            percent += 2 * len({mark.seed for mark in noted}) - 2
        who = (problem.id, asked, seen, shown.level, shown.seed, sorted(map(str, noted)))
        target = problem.targets[asked]
        if self._draw("unread", *who, below=40) == 0:
            return "I cannot tell from this text.", None
        is_right = self._draw("right", *who, below=100) < percent
        meant = target if is_right else target + (1, 2, 10, 100)[self._draw("wrong", *who, below=4)]
        return said(meant, self._draw("way", *who, below=9)), meant


def seen_in(shown: Shown, noted: Sequence[Mark]) -> Seen:
    """Which notes an answer sees, by the marks that they carry."""
    if shown.question.startswith(GUESSING):
        return "guess"
    if shown.notes is None:
        return "none"
    if shown.context is None:
        return "alone"
    if not noted:
        return "again"
    return "own" if noted[0].context == shown.context else "other"


def said(number: Fraction, way: int) -> str:
    """Say a number in one of many ways."""
    plain = written(number)
    grouped = f"{int(number):,}" if number.denominator == 1 else plain
    ways = (
        f"The answer is {plain}.",
        f"There are 3 of them at first and 12 later, so the answer is **{plain}**.",
        f"We get \\boxed{{{plain}}}.",
        f"That makes it dearer by 5%. The answer is ${grouped}.",
        f"Step 1: 7 * 8 = 56.\nStep 2: see above.\n#### {plain}",
        f"At first I thought that the answer is {written(number + 3)}. It is not: the answer is {plain}.",
        f"Of 40 things 2 are left over. In the end this gives\n\n{plain}",
        f"**Answer:** {grouped}",
        f"$$x = \\boxed{{\\text{{{plain}}}}}$$",
    )
    return ways[way]


def written(number: Fraction) -> str:
    """Write a number without an exponent."""
    return str(number.numerator) if number.denominator == 1 else f"{float(number):.10f}".rstrip("0")


def _completion(message: dict[str, Any] | None, usage: dict[str, Any] | None) -> dict[str, Any]:  # Any: JSON
    finish = "tool_calls" if message and message.get("tool_calls") else "stop"
    return {
        "id": "oracle",
        "object": "chat.completion",
        "created": 0,
        "model": "oracle",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}] if message else [],
        **({"usage": usage} if usage else {}),
    }
