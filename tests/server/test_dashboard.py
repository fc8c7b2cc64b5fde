"""The dashboard as a client without a browser sees it: what pages say, what they refuse, what they do."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from fakes.dashboard import QUESTION, TEXT, Served, served
from sleeptime import Plan
from sleeptime.core.caps import Caps
from sleeptime.core.errors import ContextNotFoundError
from sleeptime.core.shown import Filter
from sleeptime.server.dashboard import words

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def asked(
    place: Path, *, is_lived_in: bool = True, caps: Caps = Caps()
) -> AsyncGenerator[tuple[httpx2.AsyncClient, Served]]:
    async with served(place, is_lived_in=is_lived_in, caps=caps) as at, httpx2.AsyncClient(base_url=at.url) as client:
        client.headers["Origin"] = at.url
        yield client, at


def plain(html: str) -> str:
    """What a page says, without its tags."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


async def test_an_empty_page_teaches_the_next_command_and_claims_no_saving(tmp_path: Path) -> None:
    async with asked(tmp_path, is_lived_in=False) as (client, at):
        empty = plain((await client.get("/")).text)
        contexts = plain((await client.get("/contexts")).text)
        jobs = plain((await client.get("/jobs")).text)
        await at.engine.add(TEXT, name="report")
        added = plain((await client.get("/")).text)
        await at.engine.sleep("report")
        slept = plain((await client.get("/")).text)
        await at.engine.ask("report", QUESTION)
        unmeasured = plain((await client.get("/")).text)

    assert "Nothing to sleep on yet." in empty
    assert "sleeptime add report.txt" in empty
    assert "sleeptime add" in contexts
    assert "sleeptime worker" in jobs
    assert "1 context, and nothing slept on yet." in added
    assert "no question has met its notes yet" in slept
    assert "1 answer with notes; what they saved is not measured yet." in unmeasured
    assert "--sees context" in unmeasured.replace("&#34;", '"')
    assert "not measured yet" in unmeasured.split("Money saved")[1][:40]


async def test_the_figures_are_those_of_the_ledger(tmp_path: Path) -> None:
    async with asked(tmp_path) as (client, at):
        page = (await client.get("/")).text
        ledger = await at.engine.ledger(test_price=1.0)

    report = next(account for account in ledger.accounts if account.name == "report")
    assert report.assisted == 6
    assert ledger.total.saved_usd is not None
    assert ledger.total.saved_tokens is not None
    assert words.money(ledger.total.saved_usd) in plain(page).split("Money saved")[1][:40]
    assert words.tokens(ledger.total.saved_tokens) in plain(page).split("Tokens saved")[1][:40]
    assert "95 %" in plain(page).split("Money saved")[1][:60]


async def test_what_was_said_while_the_ledger_grew_is_what_it_adds_up_to(tmp_path: Path) -> None:
    async with asked(tmp_path) as (_, at):
        hours = await at.engine.store.spent(by_day=False)
        rows = await at.engine.store.rows(Filter(), limit=1000)
        ids = {row.call.context_id for row in rows if row.call.context_id}
        taken = [await at.engine.store.taken(each) for each in ids]

    assert sum(each.calls for each in hours) == len(rows)
    assert sum(each.usage.output_tokens for each in hours) == sum(row.call.usage.output_tokens for row in rows)
    assert sum(each.cost_usd for each in hours) == pytest.approx(sum(row.call.cost_usd or 0 for row in rows))
    assert sum(each.answers for each in hours) == 13
    assert sum(each.answers for both in taken for each in both.values()) == 13
    assert sum(each.tokens for both in taken for each in both.values()) == sum(
        row.call.usage.output_tokens for row in rows if row.call.phase == "test"
    )


async def test_caps_and_what_is_left_of_them_are_shown(tmp_path: Path) -> None:
    async with asked(tmp_path, is_lived_in=False, caps=Caps(day_tokens=1000, month_usd=2.0)) as (client, at):
        await at.engine.add(TEXT, name="report")
        await at.engine.sleep("report")
        page = plain((await client.get("/")).text)

    assert "Today, tokens 600 tokens left" in page
    assert "400 tokens of 1,000 tokens spent" in page
    assert "This month, money $2.00 left" in page


async def test_contexts_are_found_by_name_ordered_and_paged(tmp_path: Path) -> None:
    async with asked(tmp_path, is_lived_in=False) as (client, at):
        for number in range(120):
            await at.engine.add(f"Shelf {number}.", name=f"shelf {number:03} 100%_")
        first = (await client.get("/contexts?sort=name")).text
        third = (await client.get("/contexts?sort=name&page=3")).text
        found = plain((await client.get("/contexts", params={"q": "F 11", "sort": "name"})).text)
        literal = plain((await client.get("/contexts", params={"q": "%_"})).text)
        nothing = plain((await client.get("/contexts", params={"q": "<script>"})).text)
        newest = re.findall(r"shelf (\d+)", (await client.get("/contexts?sort=newest")).text)

    assert re.findall(r"shelf (\d+) 100", first)[:2] == ["000", "001"]
    assert "page 1 of 3" in plain(first)
    assert len(re.findall(r"shelf (\d+) 100", third)) == 20
    assert "10 contexts" in found
    assert "120 contexts" in literal
    assert "No context has a name that holds “&lt;script&gt;”" in nothing
    assert newest[0] == "119"


async def test_every_state_of_a_context_has_its_word(tmp_path: Path) -> None:
    async with asked(tmp_path) as (client, at):
        await at.engine.add("Queue me.", name="waits")
        await at.engine.enqueue("waits")
        page = (await client.get("/contexts?sort=name")).text

    names = re.findall(r'<th scope="row"><a[^>]*>([^<]+)', page)
    states = dict(zip(names, re.findall(r'class="state ([\w-]+)', page), strict=True))
    assert states == {"handbook": "stale", "left alone": "never-slept", "report": "learned", "waits": "queued"}


async def test_evidence_is_marked_where_it_stands_and_text_is_never_markup(tmp_path: Path) -> None:
    async with asked(tmp_path, is_lived_in=False) as (client, at):
        await at.engine.add(f"{TEXT}\n\n<script>alert(1)</script> & more", name="<b>report</b>")
        await at.engine.sleep("<b>report</b>")
        context = await at.engine.store.context("<b>report</b>")
        page = (await client.get(f"/contexts/{context.id}")).text

    marked = re.findall(r'<mark data-notes="([^"]+)">([^<]+)</mark>', page)
    assert ("n1", "The north region sold 412 pumps in March and 388 in April, at 129 euros each.") in marked
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page
    assert "<b>report" not in page
    assert "rests on the whole text" in plain(page)


async def test_a_query_says_what_it_saw_what_it_cost_and_what_it_would_have(tmp_path: Path) -> None:
    async with asked(tmp_path) as (client, at):
        report = await at.engine.store.context("report")
        found = await at.engine.store.asked(context_id=report.id, limit=50)
        noted = next(each for each in found if each.answer.version)
        bare = next(each for each in found if not each.answer.version)
        page = plain((await client.get(f"/queries/{noted.work_id}")).text)
        without = plain((await client.get(f"/queries/{bare.work_id}")).text)
        await at.engine.sleep("left alone")
        await at.engine.add("Nobody asked about this without notes.", name="guessed")
        await at.engine.sleep("guessed")
        await at.engine.ask("guessed", QUESTION)
        guessed = (await at.engine.store.asked(limit=1))[0]
        guess = plain((await client.get(f"/queries/{guessed.work_id}")).text)

    assert f"{noted.answer.usage.output_tokens} tokens" in page
    assert "Estimated: the mean of 6 answers without notes on this context" in page
    assert "95 % interval" in page
    assert "version 1 , 4 notes" in page
    assert "The south: 64 pumps more in April than in March." in page
    assert "It was answered without notes." in without
    assert "A guess from the length of the context" in guess


async def test_the_ledger_is_filtered_paged_and_downloaded_whole(tmp_path: Path) -> None:
    async with asked(tmp_path) as (client, at):
        for _ in range(60):
            await at.engine.ask("left alone", QUESTION)
        await at.engine.add("Fine.", name="=1+1")
        await at.engine.ask("=1+1", QUESTION)
        first = (await client.get("/ledger?phase=test")).text
        older = re.search(r'href="\?([^"]+)">Older', first)
        assert older
        second = (await client.get(f"/ledger?{older[1].replace('&amp;', '&')}")).text
        sleeps = plain((await client.get("/ledger?phase=sleep&context=report")).text)
        failed = plain((await client.get("/ledger?outcome=failed")).text)
        unknown = await client.get("/ledger?context=nobody")
        download = await client.get("/ledger.csv")
        rows = await at.engine.store.rows(Filter(), limit=1000)

    shown = re.findall(r"<td[^>]*>(?:<a[^>]*>)?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", first + second)
    assert len(shown) == 74
    assert "sleep report s" in sleeps
    assert "left alone" not in sleeps
    assert "No rows like these" in failed
    assert unknown.status_code == 404
    written = list(csv.DictReader(io.StringIO(download.text)))
    assert [row["id"] for row in written] == [row.call.id for row in rows]
    assert written[0]["context"] == "'=1+1"
    assert download.headers["content-disposition"].startswith("attachment")


async def test_pages_that_change_something_refuse_other_origins(tmp_path: Path) -> None:
    async with asked(tmp_path) as (client, at):
        context = await at.engine.store.context("report")
        place = f"/contexts/{context.id}"
        elsewhere = [
            {"Origin": "https://elsewhere.example"},
            {"Origin": "null"},
            {"Origin": at.url.replace("127.0.0.1", "localhost")},
        ]
        refused = [await client.post(f"{place}/forget", headers=headers) for headers in elsewhere]
        del client.headers["Origin"]
        silent = await client.post(f"{place}/forget")
        sibling = await client.post(f"{place}/forget", headers={"Sec-Fetch-Site": "same-site"})
        seen = await client.get(f"{place}/forget")
        assert [each.status_code for each in [*refused, silent, sibling, seen]] == [403] * 5 + [200]
        assert await at.engine.store.context("report")
        done = await client.post(f"{place}/forget", headers={"Sec-Fetch-Site": "same-origin"})
        assert done.headers["location"] == "/contexts?said=forgotten"
        with pytest.raises(ContextNotFoundError):
            await at.engine.store.context("report")


async def test_actions_do_what_they_say(tmp_path: Path) -> None:
    async with asked(tmp_path) as (client, at):
        context = await at.engine.store.context("report")
        place = f"/contexts/{context.id}"
        pinned = await client.post(f"{place}/notes/n1/pin")
        await client.post(f"{place}/notes/n2/quarantine")
        await client.post(f"{place}/rollback", data={"version": "1"})
        newest = await at.engine.store.learned(context.id)
        assert newest
        assert newest.rolled_back_from == 1
        assert [(note.id, note.is_pinned, note.status) for note in newest.notes if note.is_held] == [
            ("n1", True, "unverified"),
            ("n2", False, "quarantined"),
        ]
        assert pinned.headers["location"] == f"{place}?said=pin#note-n1"
        await client.post(f"{place}/sleep", data={"max_output_tokens": "900", "again": "yes"})
        (job,) = await at.engine.jobs()
        assert (job.again, job.plan.budget.max_output_tokens) == (True, 900)
        for verb, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
            await client.post(f"/jobs/{job.id}/{verb}")
            assert [each.state for each in await at.engine.jobs()] == [state]


async def test_errors_are_pages_that_say_what_to_do(tmp_path: Path) -> None:
    async with asked(tmp_path) as (client, at):
        context = await at.engine.store.context("report")
        job = await at.engine.enqueue("handbook", Plan())
        answers = {
            "/contexts/cnobody": (await client.get("/contexts/cnobody")).status_code,
            "version 99": (await client.get(f"/contexts/{context.id}?version=99")).status_code,
            "version x": (await client.get(f"/contexts/{context.id}?version=x")).status_code,
            "page 0": (await client.get("/contexts?page=0")).status_code,
            "no query": (await client.get("/queries/qnone")).status_code,
            "no note": (await client.post(f"/contexts/{context.id}/notes/n99/pin")).status_code,
            "no verb": (await client.post(f"/contexts/{context.id}/notes/n1/burn")).status_code,
            "no job": (await client.post("/jobs/jnone/pause")).status_code,
            "not paused": (await client.post(f"/jobs/{job.id}/resume")).status_code,
            "too large": (await client.post(f"/contexts/{context.id}/sleep", content=b"x" * 30_000)).status_code,
            "nothing": (await client.post(f"/contexts/{context.id}/rollback")).status_code,
        }
        told = plain((await client.get("/contexts/cnobody")).text)

    assert answers == {
        "/contexts/cnobody": 404,
        "version 99": 404,
        "version x": 400,
        "page 0": 400,
        "no query": 404,
        "no note": 404,
        "no verb": 400,
        "no job": 404,
        "not paused": 404,
        "too large": 400,
        "nothing": 400,
    }
    assert "sleeptime list" in told


async def test_pages_carry_a_policy_that_no_page_breaks(tmp_path: Path) -> None:
    async with asked(tmp_path) as (client, at):
        context = await at.engine.store.context("report")
        pages = ["/", "/contexts", f"/contexts/{context.id}", f"/contexts/{context.id}/versions", "/jobs", "/ledger"]
        for page in pages:
            reply = await client.get(page)
            assert "default-src 'none'" in reply.headers["content-security-policy"]
            assert "unsafe" not in reply.headers["content-security-policy"]
            assert not re.search(r'\sstyle="|\son\w+="|<style|https?://(?!127\.0\.0\.1)', reply.text), page
            assert not re.search(r"<script(?![^>]*src=)", reply.text), page


def test_vendored_files_have_their_licences() -> None:
    vendor = Path(words.__file__).parent / "static" / "vendor"
    for file in vendor.iterdir():
        name = file.name.partition("-")[0].partition(".")[0]
        assert (vendor / f"{name}.LICENSE.txt").read_text(), file


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (words.number(None), "not measured yet"),
        (words.number(9999), "9,999"),
        (words.number(12_345), "12.3 k"),
        (words.number(999_960), "1.00 M"),
        (words.number(-0.25), "−0.25"),
        (words.tokens(1), "1 token"),
        (words.money(0.0), "$0.00"),
        (words.money(-0.0123), "−$0.012"),
        (words.money(0.09999), "$0.10"),
        (words.money(1234.5), "$1,234"),
        (words.seconds(0.0214), "21 ms"),
        (words.seconds(61), "1 min 1 s"),
        (words.seconds(-7200), "−2.0 h"),
    ],
)
def test_numbers_are_written_with_few_digits_and_a_unit(written: str, wanted: str) -> None:
    assert written == wanted
