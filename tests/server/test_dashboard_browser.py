"""The dashboard in a real browser: every page, live while a sleep runs, by keyboard, in both themes, on a phone.

Screenshots go to the folder that $SLEEPTIME_ARTEFACTS names, else to pytest's own.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import anyio
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, async_playwright, expect

from fakes.dashboard import QUESTION, Served, served
from sleeptime import Budget, Plan

pytestmark = pytest.mark.anyio

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
if CHROMIUM is None:
    pytest.skip("no Chromium is installed", allow_module_level=True)

WAIT_S = 30
PHONE = 390
SERIOUS = {"serious", "critical"}


@asynccontextmanager
async def opened(
    place: Path, *, theme: Literal["light", "dark"] = "light", width: int = 1280, is_lived_in: bool = True
) -> AsyncGenerator[tuple[Page, Served]]:
    """Open a browser on a dashboard. Whatever it logs or fails to load fails the test."""
    complaints: list[str] = []
    async with served(place, is_lived_in=is_lived_in) as at, async_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium has no sandbox for root
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        context = await browser.new_context(
            base_url=at.url, viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
        )
        page = await context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith(at.url) or complaints.append(request.url))
        yield page, at
        await browser.close()
    assert complaints == []


async def photographed(page: Page, place: Path, name: str) -> None:
    """Keep a picture of the page."""
    folder = os.environ.get("SLEEPTIME_ARTEFACTS") or place
    await page.screenshot(path=f"{folder}/{name}.png", full_page=True)  # makes the folder, too


async def faults(page: Page) -> list[str]:
    """What axe finds that is serious or critical."""
    found = (await Axe().run(page)).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found if each["impact"] in SERIOUS]


async def addresses(at: Served) -> dict[str, str]:
    """Every page, by a name for its picture."""
    report = await at.engine.store.context("report")
    alone = await at.engine.store.context("left alone")
    asked = (await at.engine.store.asked(context_id=report.id, limit=1))[0]
    place = f"/contexts/{report.id}"
    return {
        "overview": "/",
        "contexts": "/contexts",
        "context": place,
        "never-slept": f"/contexts/{alone.id}",
        "versions": f"{place}/versions",
        "queries": f"{place}/queries",
        "why": f"/contexts/{alone.id}/why",
        "forget": f"{place}/forget",
        "query": f"/queries/{asked.work_id}",
        "jobs": "/jobs",
        "ledger": "/ledger",
    }


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", PHONE), ("dark", PHONE)])
async def test_every_page_fits_its_window_and_axe_finds_no_serious_fault(
    tmp_path: Path, theme: Literal["light", "dark"], width: int
) -> None:
    async with opened(tmp_path, theme=theme, width=width) as (page, at):
        await at.engine.pin("report", "n1")
        await at.engine.quarantine("report", "n4")
        await at.engine.enqueue("left alone")
        await at.engine.cancel((await at.engine.enqueue("report", again=True)).id)
        found: list[str] = []
        for name, address in (await addresses(at)).items():
            await page.goto(address)
            if name == "context":
                await page.locator("#note-n3").focus()
            await photographed(page, tmp_path, f"{name}-{theme}-{width}")
            assert await page.evaluate("document.documentElement.scrollWidth") <= width, name
            found += [f"{name}: {fault}" for fault in await faults(page)]
        assert found == []


async def test_an_empty_dashboard_has_no_fault_either(tmp_path: Path) -> None:
    async with opened(tmp_path, is_lived_in=False) as (page, _):
        for address in ("/", "/contexts", "/jobs", "/ledger"):
            await page.goto(address)
            await photographed(page, tmp_path, f"empty-{address.strip('/') or 'overview'}")
            assert await faults(page) == [], address


async def test_pages_follow_a_sleep_while_it_runs(tmp_path: Path) -> None:
    async with opened(tmp_path, is_lived_in=False) as (page, at):
        at.model.pause_s, at.model.rounds = 0.8, 1000
        await at.engine.add("Ana has 3 boxes.", name="boxes")
        await page.goto("/jobs")
        await expect(page.locator("#live")).to_contain_text("Nothing is left to workers")
        job = await at.engine.enqueue("boxes", Plan(budget=Budget(max_rounds=40)))
        worker = at.engine.worker(concurrency=1)
        async with anyio.create_task_group() as working:
            working.start_soon(worker.run)
            row = page.locator(f"#job-{job.id}")
            await expect(row).to_contain_text("running", timeout=WAIT_S * 1000)
            await expect(row).to_contain_text(re.compile("round [2-9] of at most 40"), timeout=WAIT_S * 1000)
            before = await row.locator("progress").get_attribute("value") or ""
            await row.get_by_role("button", name="Pause").focus()
            await expect(row.locator("progress")).not_to_have_attribute("value", before, timeout=WAIT_S * 1000)
            assert await page.evaluate("document.activeElement.textContent") == "Pause"  # polling leaves the focus
            await page.goto("/")
            await expect(page.locator("#now")).to_contain_text("boxes")
            await page.goto("/contexts")
            await expect(page.locator(".state")).to_have_text("sleeping")
            await page.goto("/jobs")
            await photographed(page, tmp_path, "jobs-running")
            await row.get_by_role("button", name="Pause").click()
            await expect(page.locator(".said")).to_contain_text("waits until it is resumed")
            await expect(row).to_contain_text("paused")
            await expect(row).to_contain_text(re.compile(r"\d+ rounds? kept"), timeout=WAIT_S * 1000)
            await row.get_by_role("button", name="Resume").click()
            await expect(row).to_contain_text("running", timeout=WAIT_S * 1000)
            await row.get_by_role("button", name="Cancel").click()
            await expect(page.locator("#live")).to_contain_text("Nothing is left to workers")
            await expect(page.locator("table")).to_contain_text("cancelled")
            worker.stop()
            working.cancel_scope.cancel()


async def test_evidence_lights_up_under_the_pointer_and_by_keyboard(tmp_path: Path) -> None:
    async with opened(tmp_path) as (page, at):
        context = await at.engine.store.context("report")
        await page.goto(f"/contexts/{context.id}")
        lit = page.locator("mark.lit")
        await page.locator("#note-n1").hover()
        await expect(lit).to_have_text(
            ["The north region sold 412 pumps in March and 388 in April, at 129 euros each."]
        )
        await page.locator("#note-n3 .words").hover()
        await expect(lit).to_have_text(
            ["Returns in the north were 14 pumps in March; eleven of them came back for the same seal."]
        )
        await page.locator("h1").hover()
        await expect(lit).to_have_count(0)

        await page.locator("#note-n1").focus()
        await page.keyboard.press("ArrowDown")
        await expect(page.locator("#note-n2")).to_be_focused()
        await expect(lit).to_have_text(
            ["The south region sold 291 pumps in March and 355 in April, at 119 euros each."]
        )
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("ArrowDown")
        await expect(page.locator("#pane.lit")).to_be_visible()  # n4 rests on the whole text
        await page.locator("mark").first.hover()
        await expect(page.locator("#note-n1.lit")).to_be_visible()


async def test_everything_is_reached_and_done_by_keyboard_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as (page, at):
        await page.goto("/")
        await page.keyboard.press("Tab")
        await expect(page.locator(".skip")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("#main")).to_be_focused()

        context = await at.engine.store.context("report")
        await page.goto(f"/contexts/{context.id}")
        await page.locator("#note-n2").focus()
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Pin note n2")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("#note-n2 .mark")).to_have_text("pinned")
        await expect(page.locator("#note-n2")).to_be_focused()  # and the next key goes on from there
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.locator("#note-n2")).to_contain_text("no answer sees it")
        learned = await at.engine.store.learned(context.id)
        assert learned
        assert learned.version == 3
        assert [note.id for note in learned.shown] == ["n1", "n3", "n4"]


async def test_versions_are_compared_and_rolled_back_and_a_context_is_forgotten_on_a_second_yes(tmp_path: Path) -> None:
    async with opened(tmp_path) as (page, at):
        context = await at.engine.store.context("report")
        await at.engine.quarantine("report", "n2")
        await page.goto(f"/contexts/{context.id}/versions")
        await expect(page.locator(".diff .marked")).to_contain_text("unverified → quarantined")
        await page.get_by_role("button", name="Roll back to version 1").click()
        await expect(page.locator(".versions li").first).to_contain_text("rolled back to version 1")
        await page.goto(f"/contexts/{context.id}")
        await page.get_by_role("link", name="Forget …").click()
        assert await at.engine.store.context("report")
        await page.get_by_role("button", name="Forget it").click()
        await expect(page.locator(".said")).to_contain_text("Forgotten")
        await expect(page.locator("table")).not_to_contain_text("report")


async def test_names_are_searched_while_they_are_typed(tmp_path: Path) -> None:
    async with opened(tmp_path, is_lived_in=False) as (page, at):
        for number in range(60):
            await at.engine.add(f"Shelf {number}.", name=f"shelf {number}")
        await page.goto("/contexts")
        await page.locator("#q").press_sequentially("shelf 5")
        await expect(page.locator("#list .count")).to_contain_text("11 contexts")
        await expect(page.locator("#q")).to_be_focused()
        await page.locator("#sort").select_option("name")
        await expect(page.locator("tbody th").first).to_have_text("shelf 5")
        await page.locator("#q").fill("")
        await expect(page.locator("#list .count")).to_contain_text("60 contexts")
        await page.get_by_role("link", name="After").click()
        await expect(page.locator("tbody tr")).to_have_count(10)


async def test_the_theme_is_the_systems_until_somebody_chooses_and_is_kept(tmp_path: Path) -> None:
    async with opened(tmp_path, theme="dark") as (page, _):

        async def paper() -> str:
            return str(await page.evaluate("getComputedStyle(document.body).backgroundColor"))

        await page.goto("/")
        dark = await paper()
        await page.get_by_role("button", name="Colours: auto").click()
        light = await paper()
        await page.goto("/ledger")
        kept = await paper()
        await page.get_by_role("button", name="Colours: light").click()

        assert (dark, light, kept, await paper()) == (
            "rgb(18, 22, 30)",
            "rgb(255, 255, 255)",
            "rgb(255, 255, 255)",
            "rgb(18, 22, 30)",
        )


async def test_charts_are_drawn_and_say_in_words_what_they_show(tmp_path: Path) -> None:
    async with opened(tmp_path) as (page, _):
        await page.goto("/?span=all")
        await expect(page.locator(".plot canvas")).to_have_count(2)
        drawn = await page.evaluate(
            """() => [...document.querySelectorAll(".plot canvas")].map((canvas) => {
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                return data.some((value) => value > 0);
            })"""
        )
        assert drawn == [True, True]
        labels = await page.locator(".plot").evaluate_all("all => all.map((each) => each.getAttribute('aria-label'))")
        assert re.match(r"Saved, net of sleep: −?\$[\d.]+ at the end\. It has", labels[0])
        assert re.match(r"Spent in the time shown: \$[\d.]+ for sleep", labels[1])
        await page.locator(".plot").nth(1).hover(position={"x": 400, "y": 80})
        await expect(page.locator(".read").nth(1)).not_to_contain_text("in the time shown")
        await page.get_by_role("link", name="Tokens", exact=True).click()
        await expect(page.locator(".read").nth(1)).to_contain_text("tokens for sleep")


async def test_a_query_asked_meanwhile_is_there_on_the_next_look(tmp_path: Path) -> None:
    async with opened(tmp_path) as (page, at):
        await at.engine.ask("report", f"{QUESTION} <b>&")
        await page.goto("/contexts?sort=queries")
        await page.get_by_role("link", name="report").click()
        await page.get_by_role("link", name="Queries").click()
        await page.get_by_role("link", name=f"{QUESTION} <b>&").click()
        await expect(page.locator("h1")).to_have_text(f"{QUESTION} <b>&")
        await expect(page.locator("main")).to_contain_text("What it saw")
