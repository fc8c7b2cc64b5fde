"""REST: what the command line does, over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from served import Served, served

from sleeptime.core.errors import UpstreamError
from sleeptime.models.protocol import Abilities
from sleeptime.models.scripted import ScriptedModel
from sleeptime.settings import ServeSettings

pytestmark = pytest.mark.anyio

BOXES = {"name": "boxes", "text": "Ana has 3 boxes. Ben has 2 more."}


async def test_the_idea_from_end_to_end(server: Served) -> None:
    async with server.client() as client:
        added = await client.post("/v1/contexts", json=BOXES)
        slept = await client.post("/v1/contexts/boxes/sleep", json={})
        asked = await client.post("/v1/contexts/boxes/ask", json={"question": "How many has Ben?", "budget": "0"})
        without = await client.post("/v1/contexts/boxes/ask", json={"question": "Ben?", "sees": "context"})
        ledger = (await client.get("/v1/ledger")).json()
        calls = (await client.get("/v1/ledger/calls")).json()

    assert (added.status_code, added.json()["characters"]) == (201, 32)
    assert [note["text"] for note in slept.json()["notes"]] == ["Ben has 5."]
    assert (asked.json()["text"], asked.json()["version"], without.json()["version"]) == ("The answer is 5.", 1, None)
    assert ledger["accounts"][0]["context_id"] == added.json()["id"]
    assert ledger["total"]["queries"] == 2
    assert [call["phase"] for call in calls["calls"]] == ["test", "test", "sleep"]


async def test_versions_can_be_listed_shown_compared_and_rolled_back(server: Served) -> None:
    async with server.client() as client:
        await client.post("/v1/contexts", json=BOXES)
        await client.post("/v1/contexts/boxes/sleep", json={})
        edited = await client.patch("/v1/contexts/boxes", json={"text": "Cem has 7.", "append": True})
        await client.post("/v1/contexts/boxes/sleep", json={"again": True})
        versions = (await client.get("/v1/contexts/boxes/versions")).json()["versions"]
        first = (await client.get("/v1/contexts/boxes/versions/1")).json()
        diff = (await client.get("/v1/contexts/boxes/diff", params={"before": 1})).json()
        back = await client.post("/v1/contexts/boxes/rollback", json={"version": 1})
        shown = (await client.get("/v1/contexts/boxes")).json()

    assert edited.json()["is_change"] is True
    assert [version["version"] for version in versions] == [1, 2]
    assert first["learned"]["notes"][0]["text"] == "Ben has 5."
    assert (diff["before"], diff["after"], len(diff["kept"])) == (1, 2, 1)
    assert back.json()["learned"]["rolled_back_from"] == 1
    assert (shown["versions"], shown["context"]["text"]) == (3, BOXES["text"] + "\n\nCem has 7.")


async def test_an_answer_comes_piece_by_piece_where_it_is_asked_for_so(server: Served) -> None:
    async with server.client() as client:
        await client.post("/v1/contexts", json=BOXES)
        asked = await client.post("/v1/contexts/boxes/ask", json={"question": "Ben?", "stream": True})

    events = [event.split("\ndata: ") for event in asked.text.removesuffix("\n\n").split("\n\n")]
    assert asked.headers["content-type"].startswith("text/event-stream")
    assert [kind.removeprefix("event: ") for kind, _ in events] == ["text"] * 4 + ["answer"]
    assert "".join(json.loads(data)["text"] for _, data in events[:-1]) == "The answer is 5."
    assert json.loads(events[-1][1])["text"] == "The answer is 5."


async def test_a_stream_that_fails_before_its_first_word_has_the_status_of_its_error(tmp_path: Path) -> None:
    model = ScriptedModel([UpstreamError("scripted", 500)] * 9, abilities=Abilities(tools=False))
    async with served(tmp_path, model) as server, server.client() as client:
        await client.post("/v1/contexts", json=BOXES)
        there = await client.post("/v1/contexts/boxes/ask", json={"question": "Ben?", "stream": True})
        not_there = await client.post("/v1/contexts/none/ask", json={"question": "Ben?", "stream": True})

    assert (there.status_code, there.json()["error"]["type"]) == (502, "UpstreamError")
    assert (not_there.status_code, not_there.json()["error"]["type"]) == (404, "ContextNotFoundError")


async def test_a_sleep_can_be_left_to_a_worker_paused_and_resumed(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as client:
        await client.post("/v1/contexts", json=BOXES)
        queued = await client.post("/v1/contexts/boxes/sleep", json={"background": True})
        job = f"/v1/jobs/{queued.json()['id']}"
        paused = await client.post(f"{job}/pause")
        again = await client.post(f"{job}/pause")
        resumed = await client.post(f"{job}/resume")
        await (await server.tenants.engine()).worker().run(until_idle=True)
        done = await client.get(job)
        listed = await client.get("/v1/jobs", params={"state": "done"})

    assert (queued.status_code, queued.json()["context"]) == (202, "boxes")
    assert (paused.json()["state"], again.status_code, resumed.json()["state"]) == ("paused", 409, "queued")
    assert (done.json()["state"], done.json()["version"]) == ("done", 1)
    assert [each["id"] for each in listed.json()["jobs"]] == [queued.json()["id"]]


async def test_lists_come_a_page_at_a_time_and_leave_nothing_out(server: Served) -> None:
    async with server.client() as client:
        for number in range(5):
            await client.post("/v1/contexts", json={"name": f"c{number}", "text": f"text {number}"})
            await client.post(f"/v1/contexts/c{number}/ask", json={"question": "?"})

        names, after = [], None
        while True:
            page = (await client.get("/v1/contexts", params={"limit": 2} | ({"after": after} if after else {}))).json()
            names += [context["name"] for context in page["contexts"]]
            if (after := page["next"]) is None:
                break
        calls, before = [], None
        while True:
            more = {"before": before} if before else {}
            page = (await client.get("/v1/ledger/calls", params={"limit": 2} | more)).json()
            calls += [call["id"] for call in page["calls"]]
            if (before := page["next"]) is None:
                break

    assert names == ["c0", "c1", "c2", "c3", "c4"]
    assert len(calls) == len(set(calls)) == 5


async def test_what_is_decided_and_what_caps_leave_can_be_read(server: Served) -> None:
    async with server.client() as client:
        await client.post("/v1/contexts", json=BOXES)
        why = (await client.get("/v1/contexts/boxes/why")).json()
        forecast = (await client.post("/v1/contexts/boxes/forecast", json={})).json()
        decisions = (await client.get("/v1/decisions")).json()
        await client.post("/v1/contexts/boxes/sleep", json={})
        caps = (await client.get("/v1/caps")).json()

    assert why["now"]["sentence"]
    assert (forecast["context"], forecast["decision"]["reason"]) == ("boxes", why["now"]["reason"])
    assert decisions == {"decisions": []}
    assert caps["day"]["tokens"] is None
    assert caps["day"]["spent_tokens"] == caps["month"]["spent_tokens"] == 4


async def test_what_is_forgotten_is_gone_and_its_ledger_rows_stay(server: Served) -> None:
    async with server.client() as client:
        added = (await client.post("/v1/contexts", json=BOXES)).json()
        await client.post("/v1/contexts/boxes/sleep", json={})
        forgotten = await client.delete("/v1/contexts/boxes")
        gone = await client.get("/v1/contexts/boxes")
        calls = (await client.get("/v1/ledger/calls", params={"context": added["id"]})).json()

    assert forgotten.json() == {"id": added["id"], "name": "boxes", "versions": 1}
    assert gone.status_code == 404
    assert len(calls["calls"]) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("GET", "/v1/contexts/none", None, 404, "No context 'none'"),
        ("POST", "/v1/contexts", {"name": "boxes", "text": "other"}, 409, "exists already"),
        ("POST", "/v1/contexts", {"name": "boxes"}, 422, "text: Field required"),
        ("POST", "/v1/contexts", {"name": "a", "text": "b", "more": 1}, 422, "more"),
        ("POST", "/v1/contexts", {"name": "a", "text": " "}, 422, "text"),
        ("POST", "/v1/contexts/boxes/sleep", {"samples": "2"}, 422, "samples"),
        ("POST", "/v1/contexts/boxes/sleep", {"samples": 1000}, 422, "samples"),
        ("POST", "/v1/contexts/boxes/ask", {"question": "?", "budget": "lots"}, 422, "budget: String should match"),
        ("POST", "/v1/contexts/boxes/ask", {"question": "?", "sees": "learned"}, 409, "Nothing has been learned"),
        ("POST", "/v1/contexts/boxes/ask", {"question": "?", "budget": "force:9"}, 409, "cannot give"),
        ("GET", "/v1/contexts/boxes/versions/1", None, 404, "has no version 1"),
        ("GET", f"/v1/contexts/boxes/versions/{2**63}", None, 422, "version"),
        ("GET", "/v1/contexts/boxes/diff", None, 409, "Nothing has been learned"),
        ("GET", "/v1/contexts?limit=0", None, 422, "limit"),
        ("GET", "/v1/contexts?after=none", None, 404, "ends no page"),
        ("GET", "/v1/contexts?limit=1&limit=2", None, 422, "given once"),
        ("GET", "/v1/jobs/none", None, 404, "No job 'none'"),
        ("PUT", "/v1/contexts", {}, 405, "Method Not Allowed"),
        ("GET", "/v2", None, 404, "Not Found"),
        ("POST", "/v1/chat/completions", {}, 404, "sleeptime serve --upstream URL"),
    ],
)
async def test_what_cannot_be_done_is_told_in_one_shape(
    server: Served, method: str, path: str, body: dict[str, object] | None, status: int, word: str
) -> None:
    async with server.client() as client:
        await client.post("/v1/contexts", json=BOXES)
        refused = await client.request(method, path, json=body)

    assert refused.status_code == status
    assert set(refused.json()["error"]) == {"type", "message"}
    assert word in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"name": NaN}', "application/json", 400),
        (b'{"name": "\\ud800", "text": "x"}', "application/json", 400),
        (b"\xff", "application/json", 400),
        (b"[]", "application/json", 422),
        (b"name=a", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
    ],
)
async def test_a_body_that_is_not_the_json_asked_for_is_refused(
    server: Served, content: bytes, media_type: str, status: int
) -> None:
    async with server.client() as client:
        refused = await client.post("/v1/contexts", content=content, headers={"content-type": media_type})

    assert refused.status_code == status


async def test_a_body_beyond_the_limit_is_refused_before_it_is_read_and_while_it_is(tmp_path: Path) -> None:
    async def pieces():  # noqa: ANN202  # of a body without a length
        for _ in range(4):
            yield b"x" * 1024

    async with served(tmp_path, settings=ServeSettings(body_mib=2 / 1024)) as server, server.client() as client:
        as_json = {"content-type": "application/json"}
        declared = await client.post("/v1/contexts", json={"name": "a", "text": "x" * 4096})
        told_late = await client.post("/v1/contexts", content=pieces(), headers=as_json)
        small = await client.post("/v1/contexts", json=BOXES)

    assert [declared.status_code, told_late.status_code, small.status_code] == [413, 413, 201]
    assert "body_mib" in told_late.json()["error"]["message"]


async def test_a_name_with_a_slash_is_reached_by_its_id(server: Served) -> None:
    async with server.client() as client:
        added = (await client.post("/v1/contexts", json={"name": "a/b", "text": "x"})).json()
        shown = await client.get(f"/v1/contexts/{added['id']}")

    assert shown.json()["context"]["name"] == "a/b"


async def test_a_source_given_over_http_never_opens_a_place_on_the_disk(server: Served, tmp_path: Path) -> None:
    (tmp_path / "secret.py").write_text("PASSWORD = 'swordfish'\n")
    async with server.client() as client:
        await client.post("/v1/contexts", json={**BOXES, "source": str(tmp_path)})
        slept = await client.post("/v1/contexts/boxes/sleep", json={"strategy": "explore"})

    assert slept.status_code == 409
    assert "not of a repository" in slept.json()["error"]["message"]
