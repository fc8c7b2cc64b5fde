"""Prompts: files with declared inputs, rendered in one pass.

    +++            front matter, TOML
    ## system      a message; its text until the next role
    ## user        another; `{{ name }}` stands for an input

Declared inputs must equal used inputs. What is substituted is never read again,
so a context may hold `{{ question }}`, `$1.50` or `## user`. What is substituted between
<name> and </name> cannot end that fence (`core.fences`). The fingerprint of the file
is stored with every result. This file does not know where prompts are kept.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sleeptime.core.budget import Level
from sleeptime.core.context import fingerprint
from sleeptime.core.errors import PromptError
from sleeptime.core.fences import disarmed
from sleeptime.core.messages import Message, Role
from sleeptime.core.notes import Note, rendered

_INPUT = re.compile(r"\{\{ *([a-z_]+) *\}\}")
_FENCE = re.compile(r"<(/?)([a-z_]+)>")
_ROLE = re.compile(r"^## (system|user|assistant)[ \t]*\n", re.MULTILINE)
_FRONT = re.compile(r"\A\+\+\+\n(.*?)\n\+\+\+\n", re.DOTALL)
_KEYS = {
    "name",
    "note",
    "inputs",
    "levels",
    "neutral",
    "think",
    "wait",
    "notes_style",
    "notes_lead",
    "no_notes",
    "reply",
    "edited",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt file, read and checked.

    levels       what `{{ level }}` says at verbosity 0 to 4
    neutral      what it says at every other kind of level
    think        beginning and end of thinking, and the first words of a forced answer, for budget forcing
    wait         what makes thinking that ended too soon go on
    notes_style  how notes are written into it
    notes_lead   what stands before notes where there are any
    no_notes     what stands in their place where there are none
    reply        whether a plain reply stands between <notes> and </notes> ("fenced") or is all notes ("bare")
    edited       what `{{ state }}` begins with where notes of an earlier text were kept; without it, none can be
    """

    name: str
    inputs: frozenset[str]
    messages: tuple[Message, ...]
    fingerprint: str
    levels: tuple[str, ...] = ()
    neutral: str = ""
    think: tuple[str, str, str] | None = None
    wait: str = ""
    notes_style: Literal["text", "listed"] = "text"
    notes_lead: str = ""
    no_notes: str = ""
    reply: Literal["fenced", "bare"] = "fenced"
    edited: str = ""
    note: str = field(default="", compare=False)

    @classmethod
    def parse(cls, source: str, *, where: str) -> Prompt:
        """Read a prompt file's text. *where* names it in errors. Raises PromptError."""
        front = _FRONT.match(source)
        if front is None:
            raise PromptError(f"{where}: a prompt begins with TOML between two lines of +++.")
        try:
            head: dict[str, Any] = tomllib.loads(front[1])  # Any: TOML is checked key by key below
        except tomllib.TOMLDecodeError as error:
            raise PromptError(f"{where}: the front matter is not TOML: {error}") from error
        if unknown := sorted(set(head) - _KEYS):
            raise PromptError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(_KEYS))}.")
        messages = _messages(source[front.end() :], where)
        declared = frozenset(str(name) for name in head.get("inputs", []))
        used = frozenset(name for message in messages for name in _INPUT.findall(message.content))
        if declared != used:
            odd = ", ".join(sorted(declared ^ used))
            raise PromptError(f"{where}: declared inputs must equal used inputs; they differ in {odd}.")
        levels = tuple(str(level) for level in head.get("levels", []))
        if ("level" in declared) != (len(levels) == 5):
            raise PromptError(f"{where}: an input `level` comes with `levels`, five texts for verbosity 0 to 4.")
        think = tuple(str(text) for text in head.get("think", []))
        if len(think) not in (0, 3):
            raise PromptError(f"{where}: `think` is three texts: beginning, end, first words of the answer.")
        return cls(
            name=str(head.get("name", where)),
            inputs=declared,
            messages=messages,
            fingerprint=fingerprint(source),
            levels=levels,
            neutral=str(head.get("neutral", "")),
            think=(think[0], think[1], think[2]) if think else None,
            wait=str(head.get("wait", "")),
            notes_style="listed" if head.get("notes_style") == "listed" else "text",
            notes_lead=str(head.get("notes_lead", "")),
            no_notes=str(head.get("no_notes", "")),
            reply="bare" if head.get("reply") == "bare" else "fenced",
            edited=str(head.get("edited", "")).strip(),
            note=str(head.get("note", "")),
        )

    def render(self, inputs: Mapping[str, str]) -> tuple[Message, ...]:
        """Fill in the declared inputs from *inputs*, which may hold more. Raises PromptError if one is missing."""
        if missing := sorted(self.inputs - inputs.keys()):
            raise PromptError(f"The prompt {self.name!r} needs an input {missing[0]!r}, which was not given.")
        return tuple(Message(message.role, self._filled(message.content, inputs)) for message in self.messages)

    def _filled(self, content: str, inputs: Mapping[str, str]) -> str:
        def value(found: re.Match[str]) -> str:
            given = inputs[found[1]]
            return disarmed(given, self.fences) if _is_fenced(content[: found.start()]) else given

        return _INPUT.sub(value, content)

    @property
    def fences(self) -> frozenset[str]:
        """The names of the fences that stand in this prompt."""
        return frozenset(name for message in self.messages for _, name in _FENCE.findall(message.content))

    def notes(self, notes: Sequence[Note]) -> str:
        """Write *notes* the way this prompt wants them."""
        return self.notes_lead + rendered(notes, self.notes_style) if notes else self.no_notes

    def level(self, level: Level) -> str:
        """What the prompt says to ask for *level*."""
        return self.levels[level.amount] if level.kind == "verbosity" else self.neutral


def _is_fenced(before: str) -> bool:
    """Whether a fence stands open behind *before*."""
    still_open: dict[str, int] = {}
    for closes, name in _FENCE.findall(before):
        still_open[name] = still_open.get(name, 0) + (-1 if closes else 1)
    return any(count > 0 for count in still_open.values())


def _messages(body: str, where: str) -> tuple[Message, ...]:
    marks = list(_ROLE.finditer(body))
    if not marks or body[: marks[0].start()].strip():
        raise PromptError(f"{where}: behind the front matter, text stands under `## system` or `## user`.")
    ends = [mark.start() for mark in marks[1:]] + [len(body)]
    roles: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
    return tuple(
        Message(roles[mark[1]], body[mark.end() : end].strip("\n")) for mark, end in zip(marks, ends, strict=True)
    )
