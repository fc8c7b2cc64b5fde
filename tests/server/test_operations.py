"""Running it: health, metrics, logs, limits, and being told to stop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families
from served import Served, served
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fakes.openai_server import Reply, serve
from sleeptime.server import observing
from sleeptime.settings import ServeSettings

pytestmark = pytest.mark.anyio

BOXES = {"name": "boxes", "text": "Ana has 3 boxes. Ben has 2 more."}
READY = re.compile(r"Listening on (http://\S+?)\.\s")


async def test_health_and_readiness_are_told_and_a_database_that_is_gone_is_not_ready(tmp_path: Path) -> None:
    async with served(tmp_path) as server, server.client() as client:
        health, ready = await client.get("/healthz"), await client.get("/readyz")
        await (await server.tenants.engine()).store.aclose()
        alive, gone = await client.get("/healthz"), await client.get("/readyz")

    assert [each.status_code for each in (health, ready, alive, gone)] == [200, 200, 200, 503]
    assert gone.headers["retry-after"] == "1"


async def test_metrics_are_what_the_ledger_says(tmp_path: Path) -> None:
    async with served(tmp_path, counts=lambda: {"requests": 7, "in_flight": 2}) as server, server.client() as client:
        await client.post("/v1/contexts", json=BOXES)
        await client.post("/v1/contexts/boxes/sleep", json={})
        await client.post("/v1/contexts/boxes/ask", json={"question": "Ben?"})
        await client.post("/v1/contexts/boxes/sleep", json={"background": True, "again": True})
        await client.get("/v1/contexts/none")
        text = (await client.get("/metrics")).text
        account = (await client.get("/v1/ledger")).json()["total"]

    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["sleeptime_tokens_total", "default", "output", "sleep"] == account["sleep"]["output_tokens"] > 0
    assert samples["sleeptime_tokens_total", "default", "input", "test"] == account["test"]["input_tokens"] > 0
    assert samples["sleeptime_cost_usd_total", "default", "test"] == account["test_cost_usd"] > 0
    assert samples["sleeptime_jobs", "default", "queued"] == 1
    assert samples["sleeptime_requests_total", "/v1/contexts/{context}/sleep", "200", "POST"] == 1
    assert samples["sleeptime_requests_total", "/v1/contexts/{context}", "404", "GET"] == 1
    assert samples["sleeptime_request_seconds_count", "/v1/contexts", "POST"] == 1
    assert (samples["sleeptime_proxy_total", "requests"], samples["sleeptime_proxy_in_flight",]) == (7, 2)
    assert "boxes" not in text


async def test_metrics_of_all_tenants_are_for_an_admin_key_alone(server: Served) -> None:
    keys = [await server.key("acme"), await server.key(is_admin=True)]
    async with server.client() as client:
        told = [(await client.get("/metrics", headers={"x-sleeptime-key": key})).status_code for key in keys]

    assert told == [403, 200]


async def test_a_line_is_written_for_each_request_without_what_was_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(_request: Request) -> Response:
        raise ValueError("xyzzy was asked")

    caplog.set_level(logging.INFO, "sleeptime.server")
    async with served(tmp_path, pages=[Route("/fails", fails)]) as server:
        key = await server.key()
        async with server.client(authorization=f"Bearer {key}", **{"x-request-id": "my-id.1"}) as client:
            await client.post("/v1/contexts", json={"name": "xyzzy", "text": "xyzzy"})
            asked = await client.post("/v1/contexts/xyzzy/ask?", json={"question": "xyzzy?"})
            await client.get("/v1/contexts?after=xyzzy")
            broken = await client.get("/fails")
            odd = await client.get("/healthz", headers={"x-request-id": "a\tb"})

    written = observing._Json()  # noqa: SLF001  # the shape of a line is what is promised
    lines = [json.loads(written.format(record)) for record in caplog.records if record.name == "sleeptime.server"]
    told = [line for line in lines if line["action"] == "request"]
    assert (broken.status_code, asked.headers["x-request-id"]) == (500, "my-id.1")
    assert re.fullmatch("[0-9a-f]{32}", odd.headers["x-request-id"])
    assert [(line["method"], line["route"], line["status"]) for line in told] == [
        ("POST", "/v1/contexts", 201),
        ("POST", "/v1/contexts/{context}/ask", 200),
        ("GET", "/v1/contexts", 404),
        ("GET", "/fails", 500),
        ("GET", "/healthz", 200),
    ]
    assert told[0]["tenant"] == "default"
    assert any("ValueError" in line["message"] for line in lines)
    assert "xyzzy" not in json.dumps(lines).replace('raise ValueError(\\"xyzzy was asked\\")', "")
    assert key not in json.dumps(lines)


async def test_no_more_requests_of_a_key_than_allowed_are_under_way(tmp_path: Path) -> None:
    let_go = anyio.Event()

    async def waits(_request: Request) -> Response:
        await let_go.wait()
        return Response("done")

    settings = ServeSettings(at_once=2)
    async with served(tmp_path, settings=settings, pages=[Route("/waits", waits)]) as server:
        keys = [await server.key(), await server.key()]
        first, second = (server.client(**{"x-sleeptime-key": key}) for key in keys)
        async with first, second:
            waiting = [asyncio.create_task(first.get("/waits")) for _ in range(2)]
            await asyncio.sleep(0.05)
            one_more, of_another = await first.get("/v1/jobs"), await second.get("/v1/jobs")
            let_go.set()
            done = [(await task).status_code for task in waiting]
            later = await first.get("/v1/jobs")

    assert (one_more.status_code, one_more.headers["retry-after"]) == (429, "1")
    assert (of_another.status_code, done, later.status_code) == (200, [200, 200], 200)


async def test_a_reply_that_does_not_begin_in_time_is_given_up_and_a_stream_is_not(tmp_path: Path) -> None:
    async def never(_request: Request) -> Response:
        await anyio.sleep_forever()
        return Response()

    async def slow_stream(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001  # ASGI's signature
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(4):
            await asyncio.sleep(0.1)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    class Endpoint:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await slow_stream(scope, receive, send)

    pages = [Route("/never", never), Route("/stream", Endpoint())]
    settings = ServeSettings(request_s=0.2)
    async with served(tmp_path, settings=settings, pages=pages) as server, server.client() as client:
        given_up, streamed = await client.get("/never"), await client.get("/stream")

    assert (given_up.status_code, given_up.headers["retry-after"]) == (503, "1")
    assert (streamed.status_code, streamed.text) == (200, "xxxx")


async def test_more_headers_than_allowed_are_refused(tmp_path: Path) -> None:
    async with served(tmp_path, settings=ServeSettings(header_count=10)) as server, server.client() as client:
        refused = await client.get("/healthz", headers={f"x-{number}": "1" for number in range(20)})

    assert refused.status_code == 431


@contextmanager
def a_server(place: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """`sleeptime serve` as a process of its own: with its URL, and what it wrote to stderr."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SLEEPTIME")} | {"SLEEPTIME_HOME": str(place)}
    command = [sys.executable, "-m", "sleeptime.cli", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    written: list[str] = []
    while not (ready := READY.search("".join(written))):
        line = process.stderr.readline()
        assert line, "".join(written)
        written.append(line)
    reading = threading.Thread(target=written.extend, args=(process.stderr,))
    reading.start()
    try:
        yield process, ready[1], written
    finally:
        process.kill()
        process.wait()
        reading.join()
        process.stderr.close()


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SLEEPTIME")} | {"SLEEPTIME_HOME": str(place)}
    command: Sequence[str] = [sys.executable, "-m", "sleeptime.cli", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_told_to_stop_it_lets_replies_under_way_end(tmp_path: Path) -> None:
    with (
        serve(["The answer is 5."] * 2, delay_s=1.5) as fake,
        a_server(tmp_path, "--model", fake.name, "--log-format", "json") as (process, url, written),
    ):
        httpx2.post(f"{url}/v1/contexts", json=BOXES)
        replies: list[httpx2.Response] = []

        def ask(stream: bool) -> None:
            body = {"question": "xyzzy?", "stream": stream}
            replies.append(httpx2.post(f"{url}/v1/contexts/boxes/ask", json=body, timeout=30))

        asking = [threading.Thread(target=ask, args=(stream,)) for stream in (False, True)]
        for each in asking:
            each.start()
        time.sleep(0.7)
        process.send_signal(signal.SIGTERM)
        for each in asking:
            each.join()
        status = process.wait(timeout=60)

    assert [reply.status_code for reply in replies] == [200, 200]
    assert any("event: answer" in reply.text for reply in replies)
    assert status == 0, written
    lines = [json.loads(line) for line in written if line.startswith("{")]
    assert [line["route"] for line in lines if line.get("status") == 200] == ["/v1/contexts/{context}/ask"] * 2
    assert "xyzzy" not in "".join(written)


def test_a_reply_that_takes_too_long_does_not_keep_it_from_stopping(tmp_path: Path) -> None:
    (tmp_path / "sleeptime.toml").write_text("[serve]\nstop_s = 1\n")
    with (
        serve([Reply(fault="hang")] * 9) as fake,
        a_server(tmp_path, "--model", fake.name) as (process, url, _),
    ):
        httpx2.post(f"{url}/v1/contexts", json=BOXES)

        def ask() -> None:
            with pytest.raises(httpx2.HTTPError):
                httpx2.post(f"{url}/v1/contexts/boxes/ask", json={"question": "?"}, timeout=30).raise_for_status()

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.7)
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        took_s = time.monotonic() - began_s
        asking.join()

    assert took_s < ServeSettings().stop_s  # a busy machine takes its time, but not the time it would wait by default


def test_elsewhere_it_listens_only_once_there_is_a_key(tmp_path: Path) -> None:
    refused = run(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0")  # noqa: S104  # what it refuses
    made = run(tmp_path, "keys", "create", "--tenant", "acme", "--name", "laptop")
    with a_server(tmp_path, "--host", "0.0.0.0") as (_, url, _):  # noqa: S104  # as above
        at = url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104  # as above
        without = httpx2.get(f"{at}/v1/contexts")
        with_key = httpx2.get(f"{at}/v1/contexts", headers={"authorization": f"Bearer {made.stdout.strip()}"})

    assert (refused.returncode, made.returncode) == (1, 0)
    assert "sleeptime keys create" in refused.stderr
    assert made.stdout.startswith("st-")
    assert (without.status_code, with_key.status_code) == (401, 200)


def test_keys_are_made_listed_and_revoked_at_the_command_line(tmp_path: Path) -> None:
    made = json.loads(run(tmp_path, "keys", "create", "--name", "a", "--json").stdout)
    bad = run(tmp_path, "keys", "create", "--tenant", "../x")
    revoked = run(tmp_path, "keys", "revoke", made["id"])
    unknown = run(tmp_path, "keys", "revoke", "none")
    listed = json.loads(run(tmp_path, "keys", "list", "--json").stdout)

    assert made["key"].startswith("st-")
    assert (bad.returncode, revoked.returncode, unknown.returncode) == (1, 0, 1)
    assert "cannot name a tenant" in bad.stderr
    assert [(key["id"], bool(key["revoked_at"])) for key in listed] == [(made["id"], True)]
    assert "digest" not in listed[0]
    assert "key" not in listed[0]


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with a_server(tmp_path) as (_, url, _):
        taken = run(tmp_path, "serve", "--port", url.rpartition(":")[2])

    assert taken.returncode == 1
    assert "cannot be listened on" in taken.stderr
