"""Read what a model wrote in a round of sleep.

Two ways to say the same: tool calls with JSON arguments, and plain text for models
without tools. Both become a `Revision`; what cannot be read raises
UnreadableReplyError. The plain protocol of notes, one a line:

    a sentence               a new inference
    ? question => answer     an anticipated query with its answer
    ! sentence               a plan
    ~ n2: sentence           replace note n2
    - n2                     retire note n2
    a line of the context    a quotation: evidence of the notes that follow it
    *                        the whole text: evidence as well
    done                     nothing more to learn

This file does not know prompts, rounds or budgets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sleeptime.core.context import EVERYWHERE, Context
from sleeptime.core.messages import UNREADABLE, Completion, Tool
from sleeptime.core.notes import NOTE_KINDS, Note, NoteKind, Operation, Revision

RETHINK_MEMORY = Tool(
    name="rethink_memory",
    description="Replace everything written so far by a new text that joins what you knew with what you inferred.",
    parameters={
        "type": "object",
        "properties": {"new_memory": {"type": "string", "description": "The whole new text."}},
        "required": ["new_memory"],
    },
)
FINISH_RETHINKING = Tool(
    name="finish_rethinking",
    description="End: nothing more can be inferred that would help to answer questions.",
    parameters={"type": "object", "properties": {}},
)
REVISE_NOTES = Tool(
    name="revise_notes",
    description="Change the notes: add new ones, replace or retire old ones by id, and say whether you are done.",
    parameters={
        "type": "object",
        "properties": {
            "add": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "kind": {"type": "string", "enum": list(NOTE_KINDS)},
                        "text": {"type": "string", "description": "The inference, the plan, or the answer."},
                        "question": {"type": "string", "description": "The anticipated query (kind anticipated only)."},
                        "evidence": {
                            "type": "array",
                            "items": {"type": "string"},
                            "description": "Verbatim quotations from the context, ids of notes, or *.",
                        },
                    },
                    "required": ["kind", "text"],
                },
            },
            "replace": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "kind": {"type": "string", "enum": list(NOTE_KINDS)},
                        "text": {"type": "string"},
                        "question": {"type": "string"},
                        "evidence": {"type": "array", "items": {"type": "string"}},
                    },
                    "required": ["id", "text"],
                },
            },
            "retire": {"type": "array", "items": {"type": "string"}, "description": "Ids of notes to drop."},
            "done": {"type": "boolean", "description": "True when nothing more is worth noting."},
        },
        "required": ["done"],
    },
)

_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_FENCED_NOTES = re.compile(r"<notes>((?:(?!<notes>).)*?)(?:</notes>|\Z)", re.DOTALL)
_FENCED_MEMORY = re.compile(r"<memory>((?:(?!<memory>).)*?)(</memory>|\Z)", re.DOTALL)
_RETIRE = re.compile(r"-\s*\[?(n\d+)\]?\s*")
_REPLACE = re.compile(r"~\s*\[?(n\d+)\]?\s*[:.]?\s*(.+)")
_LISTED = re.compile(r"\[n\d+\]\s*(inference|plan|anticipated)\s*:\s*(.+)")
_MARKS = {"inference": "", "anticipated": "? ", "plan": "! "}
_BULLET = re.compile(r"(?:[-*•]|\d+[.)])\s+")


class UnreadableReplyError(ValueError):
    """A round's reply follows neither protocol. The Sleeper retries it once."""


def rethinking(completion: Completion, notes: Sequence[Note]) -> Revision:
    """Read the paper's two tools from *completion*; the last rewrite wins."""
    operations: tuple[Operation, ...] = ()
    is_done = False
    _check_arguments(completion)
    for call in completion.tool_calls:
        if call.name == RETHINK_MEMORY.name:
            operations = (_memory(_string(call.arguments, "new_memory"), notes),)
        elif call.name == FINISH_RETHINKING.name:
            is_done = True
        else:
            raise UnreadableReplyError(f"there is no tool {call.name!r}")
    if not operations and not is_done:
        raise UnreadableReplyError(f"no tool was called{_cut_off(completion)}")
    return Revision(operations=operations, is_done=is_done)


def rethinking_plain(completion: Completion, notes: Sequence[Note]) -> Revision:
    """Read the last `<memory>…</memory>` and `FINISHED` from a reply without tool calls.

    A text that was cut off does not replace a whole one.
    """
    said = _THINKING.sub("", completion.text)
    fenced = list(_FENCED_MEMORY.finditer(said))
    is_done = bool(re.search(r"(?im)^\W*finished\W*$", _FENCED_MEMORY.sub("", said)))
    if not fenced and not is_done:
        raise UnreadableReplyError(f"there is neither <memory> nor FINISHED{_cut_off(completion)}")
    if fenced and not fenced[-1][2] and notes:
        raise UnreadableReplyError(f"</memory> is missing{_cut_off(completion)}")
    memory = fenced[-1][1].strip() if fenced else ""
    return Revision(operations=(_memory(memory, notes),) if memory else (), is_done=is_done)


def _memory(text: str, notes: Sequence[Note]) -> Operation:
    if not text.strip():
        raise UnreadableReplyError("the new text is empty")
    memory = next((note for note in notes if not note.is_held), None)
    if memory is not None:
        return Operation(verb="replace", id=memory.id, text=text.strip())
    return Operation(verb="add", text=text.strip())


def revising(completion: Completion) -> Revision:
    """Read one `revise_notes` call, or several in order."""
    operations: list[Operation] = []
    is_done = False
    _check_arguments(completion)
    for call in completion.tool_calls:
        if call.name != REVISE_NOTES.name:
            raise UnreadableReplyError(f"there is no tool {call.name!r}")
        arguments = call.arguments
        operations.extend(_noted("replace", item) for item in _objects(arguments, "replace"))
        operations.extend(Operation(verb="retire", id=identity) for identity in _strings(arguments, "retire"))
        operations.extend(_noted("add", item) for item in _objects(arguments, "add"))
        is_done = is_done or arguments.get("done") is True
    if not completion.tool_calls:
        raise UnreadableReplyError(f"no tool was called{_cut_off(completion)}")
    return Revision(operations=tuple(operations), is_done=is_done)


def revising_plain(
    completion: Completion, context: Context, notes: Sequence[Note], *, is_fenced: bool = True
) -> Revision:
    """Read notes in the plain protocol above, from the last `<notes>…</notes>` unless *is_fenced* is False.

    A reply cut off by its token cap loses its last line: half a note is worse than none.
    """
    text = completion.text
    if is_fenced:
        fenced = list(_FENCED_NOTES.finditer(_THINKING.sub("", text)))
        if not fenced:
            raise UnreadableReplyError(f"there is no <notes>{_cut_off(completion)}")
        text = fenced[-1][1]
    lines = text.splitlines()
    if completion.finish_reason == "length" and lines:
        lines.pop()
    quotable = {line.strip() for line in context.text.splitlines()}
    known = {note.plain: note.id for note in notes}
    operations: list[Operation] = []
    cites: list[str] = []
    cites_are_used = False
    is_done = False
    for raw in lines:
        line = raw.strip()
        if not line:
            continue
        if line.lower().rstrip(".!") == "done":
            is_done = True
            break
        if line in quotable or line in known or line == EVERYWHERE.section:
            if cites_are_used:
                cites, cites_are_used = [], False
            cites.append(known.get(line, line))
            continue
        operation = _plain_operation(line, tuple(cites))
        operations.append(operation)
        cites_are_used = True
    if not operations and not is_done and not cites:
        raise UnreadableReplyError("there is no note in it")
    return Revision(operations=tuple(operations), is_done=is_done)


def _plain_operation(line: str, cites: tuple[str, ...]) -> Operation:
    if match := _RETIRE.fullmatch(line):
        return Operation(verb="retire", id=match[1])
    verb, identity = "add", None
    if match := _REPLACE.fullmatch(line):
        verb, identity, line = "replace", match[1], match[2]
    elif match := _LISTED.fullmatch(line):
        line = _MARKS[match[1]] + match[2]
    kind: NoteKind | None = None
    question = None
    if line.startswith("?"):
        asked, _, answer = line[1:].partition("=>")
        if answer.strip():
            kind, question, line = "anticipated", asked.strip(), answer.strip()
    elif line.startswith("!"):
        kind, line = "plan", line[1:].strip()
    else:
        line = _BULLET.sub("", line, count=1) or line
    return Operation(
        verb="replace" if verb == "replace" else "add",
        id=identity,
        kind=kind,
        text=line,
        question=question,
        cites=cites,
    )


def _cut_off(completion: Completion) -> str:
    return " (it was cut off by its token cap)" if completion.finish_reason == "length" else ""


def _noted(verb: str, item: Mapping[str, Any]) -> Operation:
    kind = item.get("kind")
    question = item.get("question") or None
    if kind not in (None, *NOTE_KINDS) or (question is not None and not isinstance(question, str)):
        raise UnreadableReplyError(f"a note has the wrong kind or question: {dict(item)}")
    if kind is None and question is not None:
        kind = "anticipated"
    if kind in ("inference", "plan"):
        question = None
    if kind == "anticipated" and question is None and verb == "add":
        raise UnreadableReplyError(f"an anticipated note has no question: {dict(item)}")
    return Operation(
        verb="replace" if verb == "replace" else "add",
        id=_string(item, "id") if verb == "replace" else None,
        kind=kind,
        text=_string(item, "text"),
        question=question,
        cites=tuple(_strings(item, "evidence")),
    )


def _check_arguments(completion: Completion) -> None:
    if any(UNREADABLE in call.arguments for call in completion.tool_calls):
        raise UnreadableReplyError(f"the arguments of a tool call are not a JSON object{_cut_off(completion)}")


def _string(arguments: Mapping[str, Any], key: str) -> str:
    value = arguments.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UnreadableReplyError(f"{key!r} should be a text that is not empty")
    return value.strip()


def _strings(arguments: Mapping[str, Any], key: str) -> list[str]:
    values: Any = arguments.get(key) or []  # Any: what the model wrote
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):  # pyright: ignore[reportUnknownVariableType]  # items are checked here
        raise UnreadableReplyError(f"{key!r} should be a list of texts")
    return [str(value) for value in values]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # checked above


def _objects(arguments: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    values: Any = arguments.get(key) or []  # Any: what the model wrote
    if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):  # pyright: ignore[reportUnknownVariableType]  # items are checked here
        raise UnreadableReplyError(f"{key!r} should be a list of objects")
    return list(values)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # checked above
