"""`python -m tools.pictures`: takes the pictures of README's tour from a demo that runs."""

import argparse
import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

import httpx2
from playwright.async_api import Browser, Page, async_playwright

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
SCREEN, TALL, PHONE = (1280, 720), (1280, 900), (390, 780)
MOST_CALLS = 12
TURN = re.compile("It.s your turn")


async def take(address: str) -> None:
    """Go through a demo as the tour does: door, ticket, board, doctor, call."""
    async with httpx2.AsyncClient(base_url=address, trust_env=False) as client:
        demo = (await client.get("/api/v1/demo")).raise_for_status().json()
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        await _tour(browser, address, demo)
        await browser.close()


async def _tour(browser: Browser, address: str, demo: Any) -> None:
    board, phone, desk = [await _page(browser, size) for size in (SCREEN, PHONE, TALL)]
    shown = demo["boards"][0]
    await board.goto(f"{address}{shown['path']}&name={shown['site_name']}")
    await phone.goto(address + demo["clinics"][0]["points"][0]["path"])
    await phone.get_by_role("button", name="check in").wait_for()
    await _shoot(phone, "tour-door")
    await phone.get_by_role("button", name="check in").click()
    await phone.get_by_role("button", name=re.compile("^Ben, ")).click()
    await phone.get_by_role("article").wait_for()
    await _shoot(phone, "tour-ticket")
    await desk.goto(f"{address}/#try")
    await desk.get_by_role("button", name=re.compile("^Be Dr")).click()
    await desk.get_by_role("button", name="Call next").first.wait_for()
    await _shoot(desk, "tour-try")
    await _call(desk, phone)
    await _shoot(phone, "tour-called")
    await _shoot(board, "tour-board")


async def _call(desk: Page, phone: Page) -> None:
    """Call the doctor's line until it is the patient's turn."""
    line = desk.get_by_role("article").first
    for _ in range(MOST_CALLS):
        await line.get_by_role("button", name="Call next").click()
        await desk.wait_for_timeout(700)
        if await phone.get_by_role("heading", name=TURN).count():
            return
        for label in ("Start", "Complete"):
            await line.get_by_role("button", name=re.compile(f"^{label}")).first.click()
            await desk.wait_for_timeout(400)
    raise SystemExit("nobody was called: is the demo running?")


async def _page(browser: Browser, size: tuple[int, int]) -> Page:
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]}, locale="en-GB", has_touch=size == PHONE
    )
    return await context.new_page()


async def _shoot(page: Page, name: str) -> None:
    await page.wait_for_timeout(900)
    await page.screenshot(path=FOLDER / f"{name}.png")
    print(name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__)
    parser.add_argument("address", nargs="?", default="http://127.0.0.1:8000")
    asyncio.run(take(parser.parse_args().address))


if __name__ == "__main__":
    main()
