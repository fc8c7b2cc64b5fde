"""Read queries from a reply of the model that writes them: strict in what a query is, lenient in how it is set.

    write_queries({"queries": [{"question": …, "answer": …}]})      models with tools
    <queries>                                                       models without
    ? question => answer
    </queries>

A reply that follows neither raises UnreadableReplyError; what cannot be read within one that
does becomes a query without a question, so that it can be counted. This file checks no query.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sleeptime.core.messages import UNREADABLE, Completion, Tool

WRITE_QUERIES = Tool(
    name="write_queries",
    description="Write down new questions about the text, each with the one number that answers it.",
    parameters={
        "type": "object",
        "properties": {
            "queries": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "question": {"type": "string"},
                        "answer": {"type": "string", "description": "One number, without words."},
                    },
                    "required": ["question", "answer"],
                },
            }
        },
        "required": ["queries"],
    },
)

_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_FENCED = re.compile(r"<queries>((?:(?!<queries>).)*?)(</queries>|\Z)", re.DOTALL)
_LINE = re.compile(r"(?:[-*•]\s+|\d+[.)]\s+)?\??\s*(?P<question>\S.*?)\s*(?:=>|->|→)\s*(?P<answer>\S.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A query as the writer wrote it, not checked. Without a question, `answer` is what could not be read."""

    question: str
    answer: str


class UnreadableReplyError(ValueError):
    """A reply of the writer follows neither protocol. It is asked again."""


def written_in(completion: Completion) -> list[Written]:
    """Read queries from the tool's calls, or from the last `<queries>…</queries>` of a plain reply, one a line.

    What cannot be read of a reply that is readable becomes a query without a question. Raises UnreadableReplyError.
    """
    if completion.tool_calls:
        return [written for call in completion.tool_calls for written in _in_arguments(call.name, call.arguments)]
    fenced = list(_FENCED.finditer(_THINKING.sub("", completion.text)))
    is_cut = completion.finish_reason == "length"
    if not fenced:
        why = " (it was cut off by its token cap)" if is_cut else ""
        raise UnreadableReplyError(f"there is neither a call of {WRITE_QUERIES.name} nor <queries>{why}")
    lines = [line.strip() for line in fenced[-1][1].splitlines()]
    if is_cut and not fenced[-1][2]:
        lines = lines[:-1]  # half a question is worse than none
    return [_in_line(line) for line in lines if line]


def _in_arguments(tool: str, arguments: Mapping[str, Any]) -> list[Written]:  # Any: what the model wrote
    if tool != WRITE_QUERIES.name:
        raise UnreadableReplyError(f"there is no tool {tool!r}")
    if UNREADABLE in arguments:
        raise UnreadableReplyError("the arguments of the call are not a JSON object")
    queries: Any = arguments.get("queries")  # Any: checked here
    if not isinstance(queries, list):
        raise UnreadableReplyError("'queries' should be a list")
    return [_in_item(item) for item in queries]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # checked there


def _in_item(item: object) -> Written:
    unreadable = Written(question="", answer=str(item)[:200])
    if not isinstance(item, Mapping):
        return unreadable
    fields: dict[str, Any] = {str(key): value for key, value in item.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # Any: values are checked below
    question, answer = fields.get("question"), fields.get("answer")
    if not isinstance(question, str) or isinstance(answer, bool) or not isinstance(answer, str | int | float):
        return unreadable
    if not question.strip() or not str(answer).strip():
        return unreadable
    return Written(question=" ".join(question.split()), answer=str(answer).strip())


def _in_line(line: str) -> Written:
    match = _LINE.fullmatch(line)
    if match is None:
        return Written(question="", answer=line[:200])
    return Written(question=match["question"], answer=match["answer"].strip())
