"""The system's Chromium, headless, with somebody who writes down whatever a page does wrong."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

NAMES = "chromium", "chromium-browser", "google-chrome"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync"
).split()
REPORT_VIOLATIONS = """
    document.addEventListener("securitypolicyviolation", (violation) =>
        console.error(`CSP: ${violation.violatedDirective} ${violation.blockedURI}`));
"""


def chromium() -> str | None:
    """Find the system's Chromium."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@asynccontextmanager
async def browsing(program: str) -> AsyncIterator[Browser]:
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Visitor:
    """One person's tab, and what went wrong in it: nothing, if all is well."""

    page: Page
    home: str
    wrong: list[str] = field(default_factory=list)
    loads: int = 0

    @classmethod
    @asynccontextmanager
    async def arriving(
        cls, browser: Browser, address: str, size: tuple[int, int], *, lax: bool = False
    ) -> AsyncIterator["Visitor"]:
        """Open a tab of a browser that has been nowhere; `lax` ones ignore the page's policy."""
        context = await browser.new_context(
            base_url=address,
            viewport={"width": size[0], "height": size[1]},
            device_scale_factor=2,
            has_touch=size[0] < 600,
            reduced_motion="reduce",
            locale="en-GB",
            bypass_csp=lax,
        )
        await context.add_init_script(REPORT_VIOLATIONS)
        visitor = cls(await context.new_page(), urlsplit(address).netloc)
        visitor._watch()
        try:
            yield visitor
        finally:
            await context.close()

    def _watch(self) -> None:
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("request", self._note_request)
        self.page.on("websocket", lambda socket: self._note_host(socket.url))
        self.page.on("load", self._note_load)

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.wrong.append(f"{message.type}: {message.text}")

    def _note_request(self, request: Request) -> None:
        self._note_host(request.url)

    def _note_host(self, url: str) -> None:
        if urlsplit(url).scheme not in {"data", "blob"} and urlsplit(url).netloc != self.home:
            self.wrong.append(f"elsewhere: {url}")

    def _note_load(self, _page: Page) -> None:
        self.loads += 1
