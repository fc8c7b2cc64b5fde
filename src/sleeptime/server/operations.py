"""An operation of the REST interface as a value, the routes made of such, and the document made of them all.

    Operation(method, path, run, where, body, replies)  → Route, and a path item of OpenAPI 3.1

`where` says what stands in the path and the query, `body` what stands in the body, both as pydantic models: what is not
known is refused, and a body is read strictly (a number is no text). `run` makes one call of the engine. The document is
made of the same values that the routes run on, so that they cannot part. This file does not know what is asked.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from importlib.metadata import version
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sleeptime.core.errors import InputError
from sleeptime.core.wire import plain
from sleeptime.server import failures
from sleeptime.server.app import engine_of

_IN_PATH = re.compile(r"\{(\w+)\}")
Given = TypeVar("Given", bound=BaseModel)
_REF = "#/components/schemas/{model}"
_EVENT: Mapping[str, Any] = {
    "type": "object",
    "description": "An event; its data is JSON.",
    "properties": {"event": {"enum": ["text", "answer", "error"]}, "data": {"type": "string"}},
    "required": ["event", "data"],
}
ALWAYS: Mapping[int, str] = {
    401: "no key, or one that opens nothing",
    403: "asked for by a page of another origin",
    413: "too large",
    421: "not a name of this server",
    422: "what was given cannot be used",
    429: "too many requests at once; or the model's provider asks to slow down",
    431: "too many headers",
    502: "the model failed",
    503: "the store or the model cannot be used now",
}
OTHERS: Mapping[int, str] = {
    400: "not JSON",
    404: "not there",
    409: "not possible as things stand",
    415: "not application/json",
}


class Where(BaseModel):
    """What stands in the path and the query, as text."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Body(BaseModel):
    """What stands in the body."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Said(BaseModel):
    """What is said of a failure."""

    type: str
    message: str


class Error(BaseModel):
    """The shape of every failure."""

    error: Said


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that can be asked for. *run* is given the engine, `where`, and the body if there is one.

    What it gives back is written as JSON with the first of `replies`, from statuses to types; or it is a Response.
    `streams`: it may reply with server-sent events as well. `errors`: statuses besides those that any may have.
    """

    method: str
    path: str
    run: Callable[..., Awaitable[Any]]
    where: type[Where] = Where
    body: type[Body] | None = None
    replies: Mapping[int, Any]
    streams: bool = False
    errors: Sequence[int] = field(default=())

    async def reply(self, request: Request) -> Response:
        """Do what is asked for."""
        given: list[BaseModel] = [self._where(request)]
        if self.body is not None:
            given.append(await _body(self.body, request))
        made = await self.run(engine_of(request), *given)
        return made if isinstance(made, Response) else failures.JsonReply(plain(made), next(iter(self.replies)))

    def _where(self, request: Request) -> Where:
        asked = request.query_params
        if len(asked.multi_items()) != len(asked):
            raise InputError("A parameter is given once.")
        if clash := sorted(set(asked) & set(request.path_params)):
            raise InputError(f"{clash[0]}: stands in the path, and not in the query.")
        return _checked(lambda: self.where.model_validate({**asked, **request.path_params}))


def routes_of(operations: Sequence[Operation]) -> Sequence[Route]:
    """A route for each path, which knows all its methods, so that others are told which those are."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation

    def route(path: str, methods: Mapping[str, Operation]) -> Route:
        async def endpoint(request: Request) -> Response:
            return await methods["GET" if request.method == "HEAD" else request.method].reply(request)

        return Route(path, endpoint, methods=list(methods))

    return [route(path, methods) for path, methods in by_path.items()]


def shape(title: str, of: type[Any] | None = None, /, **more: Any) -> type[BaseModel]:  # Any: types of fields
    """A reply's type: the fields of a dataclass, and *more*, as `sleeptime.core.wire` writes them."""
    hints = get_type_hints(of) if of else {}
    known: dict[str, Any] = {each.name: (hints[each.name], ...) for each in fields_of(of)} if of else {}
    known |= {key: (kind, ...) for key, kind in more.items()}
    return create_model(title, __config__=ConfigDict(extra="forbid"), **known)


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document of *operations*."""
    types: list[tuple[str, Any, TypeAdapter[Any]]] = [("error", "serialization", TypeAdapter(Error))]
    for operation in operations:
        id_ = operation.run.__name__
        types.append((f"{id_} where", "validation", TypeAdapter(operation.where)))
        if operation.body is not None:
            types.append((f"{id_} body", "validation", TypeAdapter(operation.body)))
        for status, kind in operation.replies.items():
            types.append((f"{id_} {status}", "serialization", TypeAdapter(kind)))
    schemas, components = TypeAdapter.json_schemas(types, ref_template=_REF)
    found = {key: schema for (key, _), schema in schemas.items()}
    definitions: dict[str, Any] = components.get("$defs", {})
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _item(operation, found, definitions)
    of_no_body = {operation.where.__name__ for operation in operations}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sleeptime",
            "version": version("sleeptime"),
            "description": "Think about contexts before their queries come; answer with a fraction of the tokens.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {name: kind for name, kind in definitions.items() if name not in of_no_body},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-sleeptime-key"},
            },
        },
        "security": [{"key": []}, {"header": []}],
    }


def _item(operation: Operation, found: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    id_ = operation.run.__name__
    summary, _, rest = (operation.run.__doc__ or "").strip().partition("\n")
    errors = {**ALWAYS, **{status: OTHERS[status] for status in operation.errors}}
    if operation.body is not None:
        errors |= {status: OTHERS[status] for status in (400, 415)}
    item: dict[str, Any] = {
        "operationId": id_,
        "summary": summary,
        "parameters": _parameters(operation, _resolved(found[f"{id_} where"], definitions)),
        "responses": {
            **{str(status): _reply(operation, found[f"{id_} {status}"]) for status in operation.replies},
            **{str(status): _json(found["error"], why) for status, why in sorted(errors.items())},
        },
    }
    if rest.strip():
        item["description"] = " ".join(rest.split())
    if operation.body is not None:
        body = {"application/json": {"schema": found[f"{id_} body"]}}
        item["requestBody"] = {"required": True, "content": body}
    return item


def _parameters(operation: Operation, schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    in_path = set(_IN_PATH.findall(operation.path))
    properties: Mapping[str, Any] = schema.get("properties", {})
    needed: Sequence[str] = schema.get("required", ())
    return [
        {
            "name": name,
            "in": "path" if name in in_path else "query",
            "required": name in needed,
            "schema": {key: value for key, value in told.items() if key != "description"},
            **({"description": told["description"]} if "description" in told else {}),
        }
        for name, told in properties.items()
    ]


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    ref = schema.get("$ref")
    return schema if ref is None else definitions[ref.rsplit("/", 1)[1]]


def _reply(operation: Operation, schema: Mapping[str, Any]) -> dict[str, Any]:
    told = _json(schema, "done")
    if operation.streams:
        told["content"]["text/event-stream"] = {"schema": _EVENT}
    return told


def _json(schema: Mapping[str, Any], why: str) -> dict[str, Any]:
    return {"description": why, "content": {"application/json": {"schema": schema}}}


async def _body(kind: type[Body], request: Request) -> Body:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise HTTPException(415, "The body is JSON: send it with content-type: application/json.")
    try:
        given = from_json(await request.body(), allow_inf_nan=False)
    except ValueError as error:
        raise HTTPException(400, f"The body is not JSON: {error}.") from None
    return _checked(lambda: kind.model_validate(given))


def _checked(validate: Callable[[], Given]) -> Given:
    try:
        return validate()
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors()[:3]]
        raise InputError(f"{'; '.join(faults)}.") from None
