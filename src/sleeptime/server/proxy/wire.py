"""Read what the two APIs of OpenAI say: requests into parts, replies into an answer and its usage.

    /chat/completions   {"messages": […], "tools": […]}              choices[0].message · deltas · usage
    /responses          {"instructions", "input": "…" | […]}         output[] · response.* events · usage

Nothing is validated: the upstream does that. What is not understood is left out of the reading, never of the wire.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from pydantic_core import from_json

from sleeptime.core.budget import EFFORTS, Level
from sleeptime.core.messages import FinishReason
from sleeptime.core.recognition import Part
from sleeptime.core.usage import Usage

Api = Literal["chat", "responses"]
APIS: Mapping[str, Api] = {"/v1/chat/completions": "chat", "/v1/responses": "responses"}
Json = dict[str, Any]  # Any: JSON

LONGEST_ANSWER = 20_000
"""Characters of an answer that are kept."""
LONGEST_REPLY = 4 * 2**20
"""Bytes of a reply that is read in one piece, or of one event of a stream."""
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_ESCAPE = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u.{4}|\\.")
"""One character of a string of JSON that is written as more; a pair of surrogates is one."""
_FINISHES: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "completed": "stop",
    "incomplete": "length",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as it was read. `places[i]` is where part i stands in `request`: keys and indices down to its text."""

    api: Api
    request: Json
    model: str
    parts: tuple[Part, ...]
    places: tuple[tuple[str | int, ...], ...]

    @property
    def level(self) -> Level:
        """The effort that was asked for; where none was, verbosity 3, which adds no words of ours."""
        reasoning: Any = self.request.get("reasoning")  # Any: JSON
        effort: Any = self.request.get("reasoning_effort") if self.api == "chat" else _in(reasoning, "effort")
        return Level(kind="effort", effort=effort) if effort in EFFORTS else Level(amount=3)

    def query(self, part: int, cut: int) -> str:
        """What stands behind the prefix that ends there, up to the end of the last user message."""
        rest = [Part(self.parts[part].role, self.parts[part].text[cut:]), *self.parts[part + 1 :]]
        asked = [each.text for each in rest if each.role == "user" and each.text.strip()]
        return asked[-1].strip() if asked else ""

    def behind(self, part: int, cut: int) -> tuple[int, int] | None:
        """Where text of ours may stand behind the prefix that ends there: in a user message, before what is asked.

        Inside that part if it is the user's and goes on; else where the user's next text begins. None if none does.
        """
        if self._is_user_text(part) and 0 < cut < len(self.parts[part].text):
            return part, cut
        later = range(part + (cut > 0), len(self.parts))
        return next(((number, 0) for number in later if self._is_user_text(number)), None)

    def with_text(self, body: bytes, part: int, cut: int, text: str) -> bytes:
        """*body*, as it was read, with *text* put behind *cut* characters of a part; all its own bytes stay.

        Raises ValueError where that part is no text.
        """
        source = body.decode()
        start = _skipped(source, 0)
        for key in self.places[part]:
            start = _member(source, start, key)
        value, end = _DECODER.raw_decode(source, start)
        if value != self.parts[part].text:
            raise ValueError("A part is not where it was read.")
        at = _into(source, start + 1, end - 1, cut)
        return f"{source[:at]}{json.dumps(text)[1:-1]}{source[at:]}".encode()

    def _is_user_text(self, part: int) -> bool:
        return self.parts[part].role == "user" and self.places[part][-1] in ("content", "text", "input")


def _member(source: str, start: int, key: str | int) -> int:
    """Where a member's value begins, of the object or array that begins at *start*; the last one of that name."""
    if source[start] != ("{" if isinstance(key, str) else "["):
        raise ValueError("The request is not what was read.")
    found, number = None, 0
    at = _skipped(source, start + 1)
    while source[at] not in "}]":
        name: str | int = number
        if isinstance(key, str):
            name, at = _DECODER.raw_decode(source, at)
            at = _skipped(source, _skipped(source, at) + 1)
        if name == key:
            found = at
            if isinstance(key, int):
                break
        _, at = _DECODER.raw_decode(source, at)
        at = _skipped(source, at)
        if source[at] == ",":
            at = _skipped(source, at + 1)
        number += 1
    if found is None:
        raise ValueError("The request has no such part.")
    return found


def _skipped(source: str, at: int) -> int:
    """The first place from there on that is not white space."""
    found = _SPACE.match(source, at)
    return at if found is None else found.end()


def _into(source: str, start: int, end: int, characters: int) -> int:
    """The place behind so many characters of the string of JSON that stands between *start* and *end*."""
    at, left = start, characters
    for escape in _ESCAPE.finditer(source, start, end):
        if escape.start() - at >= left:
            break
        left -= escape.start() - at + 1
        at = escape.end()
    return at + left


def read(api: Api, body: bytes) -> Asked | None:
    """Read a request; None where it is not one that can be read."""
    try:
        request: Any = from_json(body)  # Any: JSON
    except ValueError:
        return None
    if not isinstance(request, dict):
        return None
    request = cast("Json", request)
    model = request.get("model")
    listed = request.get("messages" if api == "chat" else "input")
    if not isinstance(model, str) or not isinstance(listed, (list, str)):
        return None
    found: list[tuple[Part, tuple[str | int, ...]]] = []
    if tools := request.get("tools"):
        found.append((Part("tools", json.dumps(tools, ensure_ascii=False)), ("tools",)))
    if isinstance(instructions := request.get("instructions"), str) and api == "responses":
        found.append((Part("system", instructions), ("instructions",)))
    if isinstance(listed, str):
        found.append((Part("user", listed), ("input",)))
    else:
        key = "messages" if api == "chat" else "input"
        for number, message in enumerate(cast("list[Any]", listed)):  # Any: JSON
            found.extend(_parts(message, (key, number)))
    parts, places = tuple(part for part, _ in found), tuple(place for _, place in found)
    return Asked(api=api, request=request, model=model, parts=parts, places=places)


def _parts(message: Any, place: tuple[str | int, ...]) -> list[tuple[Part, tuple[str | int, ...]]]:  # Any: JSON
    """A message as parts: one, or one for each piece of its content."""
    if not isinstance(message, dict):
        return [(Part("unknown", _hashed(message)), place)]
    message = cast("Json", message)
    role, content = message.get("role"), message.get("content")
    role = role if isinstance(role, str) else str(message.get("type", "unknown"))
    made: list[tuple[Part, tuple[str | int, ...]]] = []
    if isinstance(content, str):
        made.append((Part(role, content), (*place, "content")))
    elif isinstance(content, list):
        for number, piece in enumerate(cast("list[Any]", content)):  # Any: JSON
            text = cast("Json", piece).get("text") if isinstance(piece, dict) else None
            at = (*place, "content", number)
            made.append(
                (Part(role, text), (*at, "text")) if isinstance(text, str) else (Part(role, _hashed(piece)), at)
            )
    rest = {key: value for key, value in message.items() if key not in ("role", "content", "id", "status")}
    if rest and (role == "assistant" or not made):
        made.append((Part(role, json.dumps(rest, ensure_ascii=False)), place))
    return made


def _hashed(piece: Any) -> str:  # Any: JSON
    """What stands for an image or a file: its hash."""
    kind = str(cast("Json", piece).get("type", "part")) if isinstance(piece, dict) else "part"
    return f"[{kind} {hashlib.sha256(json.dumps(piece, sort_keys=True).encode()).hexdigest()[:16]}]"


@dataclass(slots=True)
class Reply:
    """A reply as it is read, piece by piece. `usage` is None where the upstream reported none."""

    api: Api
    is_stream: bool = False
    encoding: str = ""
    usage: Usage | None = None
    finish_reason: FinishReason = "unknown"
    request_id: str | None = None
    text: list[str] = field(default_factory=list[str])
    thinking: list[str] = field(default_factory=list[str])
    characters: int = 0
    events: int = 0
    _rest: bytearray = field(default_factory=bytearray)
    _unpack: Any = None  # Any: zlib names no type for it
    is_readable: bool = True

    def begun(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Read the head of a reply."""
        known = dict(headers)
        self.is_stream = known.get(b"content-type", b"").startswith(b"text/event-stream")
        self.encoding = known.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        self.request_id = known.get(b"x-request-id", b"").decode("latin-1") or None
        if self.encoding in ("gzip", "deflate"):
            self._unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)
        elif self.encoding not in ("", "identity"):
            self.is_readable = False

    def heard(self, chunk: bytes) -> None:
        """Read another chunk."""
        if not self.is_readable:
            return
        self._rest += self._unpack.decompress(chunk, LONGEST_REPLY) if self._unpack else chunk
        if self.is_stream:
            while (end := self._rest.find(b"\n")) >= 0:
                line = bytes(self._rest[:end]).rstrip(b"\r")
                del self._rest[: end + 1]
                if line.startswith(b"data:"):
                    self._event(line[5:].strip())
        if len(self._rest) > LONGEST_REPLY:
            self._rest.clear()
            self.is_readable = False

    def ended(self) -> None:
        """Read what is whole only now."""
        if self.is_readable and not self.is_stream and self._rest:
            self._whole(from_json(bytes(self._rest)))
        self._rest.clear()

    def answer(self) -> str:
        return "".join(self.text)

    def _say(self, text: object, into: list[str]) -> None:
        if isinstance(text, str) and text:
            self.events += 1
            room = LONGEST_ANSWER - self.characters
            self.characters += len(text)
            if room > 0:
                into.append(text[:room])

    def _whole(self, reply: Any) -> None:  # Any: JSON
        if self.api == "responses":
            self._response(reply)
            for item in reply.get("output") or ():
                for piece in item.get("content") or ():
                    self._say(piece.get("text"), self.text)
            return
        self._usage(reply.get("usage"))
        for choice in (reply.get("choices") or ())[:1]:
            message: Any = _in(choice, "message")
            self._say(_in(message, "content"), self.text)
            self._say(_in(message, "reasoning_content"), self.thinking)
            self.finish_reason = _FINISHES.get(choice.get("finish_reason") or "", "unknown")

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]" or not data:
            return
        event: Any = from_json(data)  # Any: JSON
        if self.api == "responses":
            kind = event.get("type", "")
            if kind == "response.output_text.delta":
                self._say(event.get("delta"), self.text)
            elif kind in ("response.completed", "response.incomplete", "response.failed"):
                self._response(_in(event, "response"))
            return
        self._usage(event.get("usage"))
        for choice in (event.get("choices") or ())[:1]:
            delta: Any = _in(choice, "delta")
            self._say(_in(delta, "content"), self.text)
            self._say(_in(delta, "reasoning_content"), self.thinking)
            if choice.get("finish_reason"):
                self.finish_reason = _FINISHES.get(choice["finish_reason"], "unknown")

    def _response(self, response: Any) -> None:  # Any: JSON
        self._usage(_in(response, "usage"))
        self.finish_reason = _FINISHES.get(_in(response, "status") or "", "unknown")

    def _usage(self, usage: Any) -> None:  # Any: JSON
        if not isinstance(usage, dict):
            return
        said = cast("Json", usage)

        def number(*names: str) -> int:
            return next((int(said[name]) for name in names if isinstance(said.get(name), int)), 0)

        def detail(name: str, *of: str) -> int:
            counts = [_in(said.get(f"{each}_tokens_details"), name) for each in of]
            return next((int(count) for count in counts if isinstance(count, int)), 0)

        given, written = number("prompt_tokens", "input_tokens"), number("completion_tokens", "output_tokens")
        cached = detail("cached_tokens", "prompt", "input")
        reasoning = detail("reasoning_tokens", "completion", "output")
        self.usage = Usage(
            input_tokens=given + (cached if cached > given else 0),
            cached_input_tokens=cached,
            output_tokens=written + (reasoning if reasoning > written else 0),
            reasoning_tokens=reasoning,
        )


def _in(value: Any, key: str) -> Any:  # Any: JSON
    """What stands under *key*, or None."""
    return cast("Json", value).get(key) if isinstance(value, dict) else None
