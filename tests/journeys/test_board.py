"""The running demo, as somebody new sees it: boards move, one is called, and it begins anew."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.journeys import sizes
from tests.journeys.browser import Visitor, browsing, chromium
from tests.journeys.network import alone_on_the_network
from tests.journeys.served import Installation, Served

API = "/api/v1"
SCREEN, PHONE = (1280, 720), (390, 844)
PATIENCE_MS = 30_000
PACE = "60"
YOUR_TURN = re.compile("It.s your turn")

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder = Path(tmp_path_factory.mktemp("demo"))
    async with Installation(folder).running("up", "--demo", "--pace", PACE) as served:
        await open_doors(served)
        yield served


async def open_doors(demo: Served) -> None:
    """Wait until the demo's first day is where visitors may come in."""
    async with demo.client() as client:
        for _ in range(200):
            if (await client.get(f"{API}/demo")).status_code == 200:
                return
            await asyncio.sleep(0.1)
    raise AssertionError(demo.said())


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    program = chromium()
    if program is None:
        assert not sizes.IN_CI, "CI must have a Chromium"
        pytest.skip("no Chromium on the path")
    with alone_on_the_network():
        async with browsing(program) as browser:
            yield browser


async def stage_of(demo: Served) -> dict[str, Any]:
    async with demo.client() as client:
        return dict((await client.get(f"{API}/demo")).json())


async def first_ticket(page: Page) -> str:
    await expect(page.locator(".now-ticket").first).to_be_visible()
    return await page.locator(".now-ticket").first.inner_text()


async def test_every_link_of_the_first_page_leads_somewhere(demo: Served, browser: Browser) -> None:
    async with Visitor.arriving(browser, demo.address, SCREEN) as visitor, demo.client() as client:
        await visitor.page.goto("/")
        await expect(visitor.page.locator("#boards li")).to_have_count(3)
        links = await visitor.page.eval_on_selector_all(
            "a[href]", "all => all.map((each) => each.getAttribute('href'))"
        )
        paths = {each for each in links if not each.startswith("#")}
        assert len(paths) >= 8
        for path in paths:
            assert (await client.get(path)).status_code == 200, path
    assert not visitor.wrong


async def test_board_shows_calls_as_they_come_and_rings_once_somebody_has_turned_it_on(
    demo: Served, browser: Browser
) -> None:
    board = (await stage_of(demo))["boards"][0]
    async with Visitor.arriving(browser, demo.address, SCREEN) as visitor:
        page = visitor.page
        await page.goto(f"{board['path']}&name=Riverside")
        await expect(page.get_by_text("Live", exact=True)).to_be_visible()
        button = page.get_by_role("button", name="Turn the chime on")
        await button.click()
        await expect(page.get_by_role("button", name="Turn the chime off")).to_be_visible()
        await expect(page.locator(".now-fresh").first).to_be_visible()
        called = page.locator("#called-out")
        await expect(called).to_have_text(re.compile(r"Ticket \d+, Dr\. .+, room \d+"))
        text = await page.locator("main").inner_text()
        assert "Patient" not in text
        assert (await page.evaluate("document.documentElement.scrollWidth")) <= SCREEN[0]
    assert not visitor.wrong


async def test_board_speaks_the_language_of_its_room(demo: Served, browser: Browser) -> None:
    board = (await stage_of(demo))["boards"][1]
    async with Visitor.arriving(browser, demo.address, SCREEN) as visitor:
        for language, direction, word in (
            ("pt", "ltr", "Chamando"),
            ("ar", "rtl", "يُنادى الآن"),
            ("xx", "ltr", "Now called"),
        ):
            await visitor.page.goto(f"{board['path']}&lang={language}")
            await expect(visitor.page.get_by_role("heading", name=word)).to_be_visible()
            assert await visitor.page.evaluate("document.documentElement.dir") == direction
    assert not visitor.wrong


async def test_patient_scans_and_is_called_though_nobody_plays_the_doctor(
    demo: Served, browser: Browser
) -> None:
    stage = await stage_of(demo)
    async with Visitor.arriving(browser, demo.address, PHONE) as visitor:
        page = visitor.page
        await page.goto(stage["clinics"][0]["points"][0]["path"])
        await page.get_by_role("button", name="check in").click()
        await page.get_by_role("button", name=re.compile("^Priya, ")).click()
        await expect(page.get_by_role("article").get_by_role("heading")).to_have_text(
            re.compile(r"Ticket\s*\d+")
        )
        await expect(page.get_by_role("heading", name=YOUR_TURN)).to_be_visible(timeout=90_000)
        await expect(page.get_by_text("Room 3").first).to_be_visible()
    assert not visitor.wrong


async def test_demo_begins_anew_at_a_click(demo: Served, browser: Browser) -> None:
    before = await stage_of(demo)
    async with Visitor.arriving(browser, demo.address, SCREEN, lax=True) as visitor:
        page = visitor.page
        await page.goto("/")
        await page.get_by_role("button", name="Begin the day anew").click()
        await expect(page.get_by_role("button", name="It begins anew")).to_be_visible()
        await expect(page.get_by_role("button", name="Begin the day anew")).to_be_visible()
        await expect(page.locator("#boards li")).to_have_count(3)
    after = await stage_of(demo)
    clinics = [[each["clinic_id"] for each in stage["clinics"]] for stage in (before, after)]
    assert not set(clinics[0]) & set(clinics[1])
    assert [each["email"] for each in before["accounts"]] == [
        each["email"] for each in after["accounts"]
    ]
    assert "Traceback" not in demo.said()


async def test_demo_that_is_stopped_in_the_middle_says_nothing_of_it(tmp_path: Path) -> None:
    async with Installation(tmp_path).running("up", "--demo") as demo:
        await open_doors(demo)
    said = demo.said()
    assert "its clinics are open" in said
    assert "never retrieved" not in said
    assert "Traceback" not in said


async def test_installation_without_a_running_demo_does_not_begin_anew(tmp_path: Path) -> None:
    async with Installation(tmp_path).running("up") as served, served.client() as client:
        answer = await client.post(f"{API}/demo/resets")
        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
