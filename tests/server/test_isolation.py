"""One tenant asks for another's things in ten thousand ways, and learns not even that they exist.

Every probe names something of tenant A with the key of tenant B. Its reply must be, byte for byte, the one to the same
probe with a name that nobody has. What a probe names is blotted out of both replies first, for errors repeat it.
"""

from __future__ import annotations

import random
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from served import Served, served

pytest.importorskip("mcp")

from sleeptime.server.mcp import Mcp

pytestmark = pytest.mark.anyio

PROBES = 10_000
SECRET = "xyzzy"  # noqa: S105  # a word that only one tenant writes
CONTEXTS = 6
MCP_HEADERS = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A request about *thing*, which stands in it; `kind` is what probes alike are counted by."""

    kind: str
    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] | None = None

    async def reply(self, client: httpx2.AsyncClient, thing: str) -> tuple[int, str]:
        told = await client.request(self.method, self.path, json=self.body, headers=dict(self.headers or {}))
        return told.status_code, re.sub(r'"id":\d+', '"id":0', told.text.replace(thing, "@"))


def in_a_path(thing: str) -> list[Probe]:
    """Every operation on a context or a job."""
    at, of_job = f"/v1/contexts/{quote(thing, safe='')}", f"/v1/jobs/{quote(thing, safe='')}"
    return [
        Probe(kind="show", method="GET", path=at),
        Probe(kind="edit", method="PATCH", path=at, body={"text": "mine now"}),
        Probe(kind="append", method="PATCH", path=at, body={"text": "mine now", "append": True}),
        Probe(kind="forget", method="DELETE", path=at),
        Probe(kind="sleep", method="POST", path=f"{at}/sleep", body={}),
        Probe(kind="queue", method="POST", path=f"{at}/sleep", body={"background": True}),
        Probe(kind="forecast", method="POST", path=f"{at}/forecast", body={}),
        Probe(kind="ask", method="POST", path=f"{at}/ask", body={"question": "?"}),
        Probe(kind="stream", method="POST", path=f"{at}/ask", body={"question": "?", "stream": True}),
        Probe(kind="versions", method="GET", path=f"{at}/versions"),
        Probe(kind="version", method="GET", path=f"{at}/versions/1"),
        Probe(kind="diff", method="GET", path=f"{at}/diff"),
        Probe(kind="roll back", method="POST", path=f"{at}/rollback", body={"version": 1}),
        Probe(kind="why", method="GET", path=f"{at}/why"),
        Probe(kind="answers", method="GET", path=f"{at}/answers"),
        Probe(kind="job", method="GET", path=of_job),
        Probe(kind="pause", method="POST", path=f"{of_job}/pause"),
        Probe(kind="resume", method="POST", path=f"{of_job}/resume"),
        Probe(kind="cancel", method="POST", path=f"{of_job}/cancel"),
    ]


def in_a_query(thing: str) -> list[Probe]:
    """Every list, from a place that is A's."""
    named = quote(thing, safe="")
    return [
        Probe(kind="contexts after", method="GET", path=f"/v1/contexts?after={named}"),
        Probe(kind="jobs after", method="GET", path=f"/v1/jobs?after={named}"),
        Probe(kind="accounts after", method="GET", path=f"/v1/ledger?after={named}"),
        Probe(kind="calls before", method="GET", path=f"/v1/ledger/calls?before={named}"),
        Probe(kind="calls of", method="GET", path=f"/v1/ledger/calls?context={named}"),
    ]


def over_mcp(thing: str) -> list[Probe]:
    """Every tool that takes a name."""
    calls: dict[str, dict[str, Any]] = {
        "ask": {"name": thing, "question": "?"},
        "learned_context": {"name": thing, "version": 1},
        "sleep_now": {"name": thing},
        "ledger": {"name": thing},
    }
    return [
        Probe(
            kind=f"mcp {tool}",
            method="POST",
            path="/mcp",
            body={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": given}},
            headers=MCP_HEADERS,
        )
        for tool, given in calls.items()
    ]


def in_a_header(thing: str) -> list[Probe]:
    """Headers that might be taken for the name of a tenant or a session."""
    names = ("x-sleeptime-tenant", "x-tenant", "x-forwarded-user", "x-sleeptime-context", "x-sleeptime-key-id")
    headers = [
        *({name: thing} for name in names),
        {"cookie": f"sleeptime_session={thing}"},
        {"authorization": f"Bearer {thing}"},
    ]
    return [
        Probe(kind=f"{next(iter(each))} {path}", method=method, path=path, headers=each, body=body)
        for each in headers
        for method, path, body in (
            ("GET", "/v1/contexts", None),
            ("GET", "/v1/ledger", None),
            ("POST", "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "?"}]}),
        )
    ]


FORMS: Sequence[Callable[[str], list[Probe]]] = (in_a_path, in_a_query, over_mcp, in_a_header)
WEIGHTS = (0.62, 0.25, 0.03, 0.1)


async def furnish(client: httpx2.AsyncClient) -> None:
    """Give a tenant contexts with versions, answers, jobs and calls, all of which hold the secret."""
    for number in range(CONTEXTS):
        name = f"{SECRET}-{number}"
        await client.post("/v1/contexts", json={"name": name, "text": f"{SECRET} {number}. Ana has {number} boxes."})
        await client.post(f"/v1/contexts/{name}/sleep", json={})
        await client.post(f"/v1/contexts/{name}/ask", json={"question": f"{SECRET}?"})
        await client.post(f"/v1/contexts/{name}/sleep", json={"again": True, "background": True})


async def everything(client: httpx2.AsyncClient) -> list[Any]:
    """All that a tenant can read of its own."""
    paths = ["/v1/contexts", "/v1/jobs", "/v1/ledger/calls?limit=1000"]
    paths += [f"/v1/contexts/{SECRET}-{number}{part}" for number in range(CONTEXTS) for part in ("", "/versions")]
    return [(await client.get(path)).json() for path in paths]


def things_of(kept: list[Any]) -> list[str]:
    """What can be named of a tenant: names and ids of contexts, jobs, calls and works."""
    contexts, jobs, calls = kept[0]["contexts"], kept[1]["jobs"], kept[2]["calls"]
    named = [each["name"] for each in contexts]
    ids = [each["id"] for each in (*contexts, *jobs, *calls)] + [each["work_id"] for each in calls]
    return [*named, *ids]


VARIATIONS: Sequence[tuple[Callable[[str], str], str]] = (
    *[(lambda thing: thing, "{}")] * 6,
    *[(lambda thing: thing[: max(4, len(thing) // 2)], "{}")] * 2,
    (lambda thing: thing[:-1], "{}"),
    (str.upper, "{}"),
    (lambda thing: thing, " {}"),
    (lambda thing: thing, "{}%"),
    (lambda thing: thing, "{}\x00"),
    (lambda thing: thing, "{}' OR '1'='1"),
    (lambda thing: thing, "tenant_a.{}"),
    (lambda thing: thing, "../a/{}"),
)
"""The thing, the beginning of it, or another way to write it."""


def nobodys(draw: random.Random) -> str:
    """Something that nobody has."""
    return "".join(draw.choices(string.ascii_lowercase + string.digits, k=13))


async def test_ten_thousand_probes_of_another_tenant_tell_nothing(tmp_path: Path) -> None:
    draw = random.Random(20504)  # noqa: S311  # seeded randomness is the point
    async with served(tmp_path, parts=[Mcp()]) as server:
        keys = {tenant: await server.key(tenant) for tenant in ("a", "b")}
        async with (
            server.client(**{"x-sleeptime-key": keys["a"]}) as a,
            server.client(**{"x-sleeptime-key": keys["b"]}) as b,
        ):
            await furnish(a)
            await b.post("/v1/contexts", json={"name": "own", "text": "What is mine."})
            before = await everything(a)
            things = things_of(before)
            expected: dict[tuple[str, str], tuple[int, str]] = {}
            leaks, counted = [], Counter[str]()
            for _ in range(PROBES):
                cut, wrap = draw.choice(VARIATIONS)
                thing, stranger = cut(draw.choice(things)), cut(nobodys(draw))
                form = draw.choices(FORMS, WEIGHTS)[0]
                probes = form(wrap.format(thing))
                at = draw.randrange(len(probes))
                kind = probes[at].kind
                if (kind, wrap) not in expected:
                    expected[kind, wrap] = await form(wrap.format(stranger))[at].reply(b, stranger)
                reply = await probes[at].reply(b, thing)
                counted[kind] += 1
                if reply != expected[kind, wrap] or SECRET in reply[1]:
                    leaks.append((probes[at], thing, reply, expected[kind, wrap]))
            after = await everything(a)
            mine = (await b.get("/v1/contexts")).json()["contexts"]

    assert leaks == []
    assert after == before
    assert [each["name"] for each in mine] == ["own"]
    assert len(counted) == 19 + 5 + 4 + 21
    assert sum(counted.values()) == PROBES


async def test_the_probes_would_find_what_is_not_kept_apart(tmp_path: Path) -> None:
    """With a key of the same tenant nearly every probe that names a thing rightly is told of it."""
    async with served(tmp_path) as server, server.client() as owner:
        await furnish(owner)
        context = (await owner.get("/v1/contexts")).json()["contexts"][0]["id"]
        reads = [probe for probe in in_a_path(context) if probe.method == "GET" and probe.kind != "job"]
        told = [(await probe.reply(owner, context))[0] for probe in reads]
        strangers = [(await probe.reply(owner, "nobody"))[0] for probe in in_a_path("nobody")]

    assert told == [200] * len(reads)
    assert set(strangers) == {404}


async def test_names_are_each_tenants_own(server: Served) -> None:
    keys = [await server.key(tenant) for tenant in ("a", "b")]
    added = []
    for key in keys:
        async with server.client(**{"x-sleeptime-key": key}) as client:
            added.append(await client.post("/v1/contexts", json={"name": "same", "text": f"of {key}"}))

    assert [each.status_code for each in added] == [201, 201]
    assert added[0].json()["id"] != added[1].json()["id"]


async def test_a_session_of_one_tenant_and_a_key_of_another_open_what_the_key_does(server: Served) -> None:
    keys = {tenant: await server.key(tenant) for tenant in ("a", "b")}
    async with server.client() as client:
        signed_in = await client.post("/login", data={"key": keys["a"]})
        cookie = signed_in.headers["set-cookie"].partition(";")[0]
        await client.post("/v1/contexts", json={"name": "of-a", "text": "x"}, headers={"cookie": cookie})
        both = {"cookie": cookie, "x-sleeptime-key": keys["b"]}
        seen = (await client.get("/v1/contexts", headers=both)).json()

    assert seen["contexts"] == []
