"""The page behind the code at the door, on a phone, and the landing page, in a real browser."""

import re
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.journeys import sizes
from tests.journeys.browser import Visitor, browsing, chromium
from tests.journeys.conftest import zone_at_noon
from tests.journeys.network import alone_on_the_network
from tests.journeys.served import Installation, Served
from tests.support import Client

API = "/api/v1"
PHONE, DESK = (390, 844), (1280, 900)
DEMO_ZONE = "Europe/Vienna"
PATIENCE_MS = 20_000
ROOM = "Room 3"
YOUR_TURN = re.compile("It.s your turn")

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A demo whose Vienna lies where it is noon now, so that its day does not end in between."""
    folder = Path(tmp_path_factory.mktemp("demo"))
    zone = folder / "zones" / DEMO_ZONE
    zone.parent.mkdir(parents=True)
    zone.write_bytes((resources.files("tzdata") / "zoneinfo" / zone_at_noon()).read_bytes())
    settings = {"PYTHONTZPATH": str(folder / "zones")}
    async with Installation(folder, settings).running("up", "--demo", "--pace", "0") as served:
        yield served


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    program = chromium()
    if program is None:
        assert not sizes.IN_CI, "CI must have a Chromium"
        pytest.skip("no Chromium on the path")
    with alone_on_the_network():
        async with browsing(program) as browser:
            yield browser


@pytest.fixture
async def doctor(stage: Served) -> AsyncIterator[Client]:
    """The demo's doctor, without a screen."""
    async with stage.client() as client:
        demo = await demo_of(client)
        client.headers["X-Clinic-Id"] = demo["clinics"][0]["clinic_id"]
        (account,) = [each for each in demo["accounts"] if each["role"] == "DOCTOR"]
        signed = await client.post(
            f"{API}/auth/login",
            json={"email": account["email"], "password": account["password"]},
        )
        client.headers["Authorization"] = f"Bearer {signed.json()['access_token']}"
        yield client


async def demo_of(client: Client) -> dict[str, Any]:
    return dict((await client.get(f"{API}/demo")).json())


async def queue_of(doctor: Client) -> dict[str, Any]:
    (head,) = (await doctor.get(f"{API}/queues")).json()
    return dict((await doctor.get(f"{API}/queues/{head['queue_id']}")).json())


async def call(doctor: Client, queue_id: str) -> int:
    answer = await doctor.post(f"{API}/queues/{queue_id}/calls", json={"room": ROOM})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["ticket"])


async def move(doctor: Client, ticket: int, step: str) -> None:
    """Start or complete the visit of a ticket."""
    entries = (await queue_of(doctor))["entries"]
    (entry_id,) = [each["entry_id"] for each in entries if each["ticket"] == ticket]
    answer = await doctor.post(f"{API}/queues/entries/{entry_id}/{step}")
    assert answer.status_code == 200, answer.text


async def tap(visitor: Visitor, doctor: Client, shot: Path | None = None) -> None:
    """Open the code at the door and tap, up to the question who this is."""
    page = visitor.page
    demo = await demo_of(doctor)
    await page.goto(demo["clinics"][0]["points"][0]["path"])
    button = page.get_by_role("button", name="check in")
    await expect(button).to_be_visible()
    if shot:
        await page.screenshot(path=shot)
    await button.click()
    await expect(page.get_by_role("button", name="Sign in and check in")).to_be_visible()


async def scan(visitor: Visitor, doctor: Client, name: str) -> None:
    """Tap, and sign in as one of the demo's patients."""
    await tap(visitor, doctor)
    await visitor.page.get_by_role("button", name=re.compile(f"^{name}, ")).click()


async def ticket_on(page: Page) -> int:
    heading = page.get_by_role("article").get_by_role("heading")
    await expect(heading).to_have_text(re.compile(r"Ticket\s*\d+"))
    return int(re.sub(r"\D", "", await heading.inner_text()))


def words(page: Page, text: str) -> Locator:
    return page.get_by_role("main").get_by_text(text, exact=True)


async def see_place(page: Page, position: int) -> None:
    """See a place on the page, and that it is live."""
    ordinal = {1: "next", 2: "2nd in line", 3: "3rd in line"}
    said = f"You are {ordinal.get(position, f'{position}th in line')}"
    await expect(words(page, said)).to_be_visible()
    await expect(words(page, "Live")).to_be_visible()


async def overflow(page: Page) -> int:
    """Measure by how many pixels the page is wider than the screen."""
    wider: int = await page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return wider


# What is wrong is seen


async def test_watcher_of_a_page_notices_what_is_wrong(stage: Served, browser: Browser) -> None:
    async with Visitor.arriving(browser, stage.address, PHONE) as visitor:
        await visitor.page.goto("/")
        assert not visitor.wrong
        await visitor.page.evaluate("""() => {
            document.body.append(Object.assign(document.createElement("script"), {text: "1"}));
            console.error("a complaint");
            setTimeout(() => { throw new Error("a mishap"); });
        }""")
        await visitor.page.wait_for_timeout(200)
    assert any("CSP: script-src" in each for each in visitor.wrong), visitor.wrong
    assert "error: a complaint" in visitor.wrong
    assert any("a mishap" in each for each in visitor.wrong)


async def test_watcher_of_a_page_notices_a_request_elsewhere(
    stage: Served, browser: Browser
) -> None:
    async with Visitor.arriving(browser, stage.address, PHONE, lax=True) as visitor:
        await visitor.page.goto("/")
        await visitor.page.evaluate("fetch('http://127.0.0.2:9/stolen').catch(() => null)")
    assert "elsewhere: http://127.0.0.2:9/stolen" in visitor.wrong


# The phone


async def test_patient_on_a_phone_sees_their_place_move_and_their_call(
    stage: Served, browser: Browser, doctor: Client, tmp_path: Path
) -> None:
    async with Visitor.arriving(browser, stage.address, PHONE) as visitor:
        page = visitor.page
        before = await queue_of(doctor)
        await tap(visitor, doctor, tmp_path / "1-tap.png")
        await page.screenshot(path=tmp_path / "2-sign-in.png")
        assert await queue_of(doctor) == before, "nothing happens before the sign-in"
        await page.get_by_role("button", name=re.compile("^Ben, ")).click()

        ticket = await ticket_on(page)
        queue = await queue_of(doctor)
        waiting = [each["ticket"] for each in queue["entries"] if each["status"] == "waiting"]
        position = waiting.index(ticket) + 1
        assert position > 1, "the demo has somebody wait before"
        await see_place(page, position)
        await page.screenshot(path=tmp_path / "3-ticket.png")
        await page.reload()
        await see_place(page, position)

        loads = visitor.loads
        while (called := await call(doctor, queue["queue_id"])) != ticket:
            position -= 1
            assert called == waiting.pop(0)
            await see_place(page, position)
            await page.screenshot(path=tmp_path / f"4-place-{position}.png")
        await be_seen(page, doctor, ticket, tmp_path)
        assert visitor.loads == loads, "all of it without a reload"
    assert not visitor.wrong


async def be_seen(page: Page, doctor: Client, ticket: int, shots: Path) -> None:
    """See on the page whatever becomes of a ticket that was just called."""
    await expect(page.get_by_role("heading", name=YOUR_TURN)).to_be_visible()
    await expect(words(page, ROOM)).to_be_visible()
    await page.screenshot(path=shots / "5-turn.png")
    await page.get_by_role("button", name="on my way").click()
    await expect(words(page, ROOM)).to_be_visible()
    await page.screenshot(path=shots / "6-called.png")
    for step, said in (("start", "You are being seen"), ("complete", "All done")):
        await move(doctor, ticket, step)
        await expect(words(page, said)).to_be_visible()
        await page.screenshot(path=shots / f"7-{step}.png")
    assert await overflow(page) == 0


async def test_mother_on_a_phone_checks_herself_and_her_child_in(
    stage: Served, browser: Browser, doctor: Client, tmp_path: Path
) -> None:
    async with Visitor.arriving(browser, stage.address, PHONE) as visitor:
        page = visitor.page
        await scan(visitor, doctor, "Ana")
        await expect(page.get_by_role("checkbox")).to_have_count(2)
        await page.screenshot(path=tmp_path / "8-choice.png")
        await page.get_by_role("button", name="Check in selected (2)").click()
        tickets = page.get_by_role("article")
        await expect(tickets).to_have_count(2)
        await expect(tickets.filter(has_text="Leo")).to_have_count(1)
        await page.screenshot(path=tmp_path / "9-family.png", full_page=True)
        assert await overflow(page) == 0
    assert not visitor.wrong


async def test_patient_with_a_wrong_password_or_a_forged_code_reads_what_to_do(
    stage: Served, browser: Browser, doctor: Client, tmp_path: Path
) -> None:
    async with Visitor.arriving(browser, stage.address, PHONE) as visitor:
        page = visitor.page
        await tap(visitor, doctor)
        await page.get_by_label("E-mail").fill("ben@demo.cliniq")
        await page.get_by_label("Password", exact=True).fill("not the password")
        await page.get_by_role("button", name="Sign in and check in").click()
        await expect(page.get_by_role("main").get_by_role("alert")).to_be_visible()
        await page.screenshot(path=tmp_path / "10-wrong-password.png")
        await page.goto("/c/a-code-that-nobody-has-signed")
        await page.get_by_role("button", name="check in").click()
        await expect(page.get_by_role("heading", level=1)).not_to_contain_text("Checking")
        await page.screenshot(path=tmp_path / "11-forged.png")
    refusals = [each for each in visitor.wrong if "Failed to load resource" in each]
    assert [re.findall(r"status of (\d+)", each) for each in refusals] == [["401"], ["404"]]
    assert visitor.wrong == refusals


# The desk


async def test_visitor_of_the_landing_page_plays_the_doctor(
    stage: Served, browser: Browser, doctor: Client, tmp_path: Path
) -> None:
    async with (
        Visitor.arriving(browser, stage.address, DESK) as visitor,
        Visitor.arriving(browser, stage.address, PHONE) as patient,
    ):
        await scan(patient, doctor, "Priya")
        ticket = await ticket_on(patient.page)
        page = visitor.page
        await page.goto("/")
        await expect(page.get_by_role("heading", name="Try it")).to_be_visible()
        await page.screenshot(path=tmp_path / "12-landing.png")
        await page.get_by_role("button", name=re.compile("^Be Dr")).click()
        button = page.get_by_role("button", name="Call next")
        await expect(button).to_be_enabled()
        await page.screenshot(path=tmp_path / "13-doctor.png", full_page=True)
        queue = await queue_of(doctor)
        waiting = [each["ticket"] for each in queue["entries"] if each["status"] == "waiting"]
        called = len(queue["entries"]) - len(waiting)
        for number in range(called, called + waiting.index(ticket) + 1):
            await expect(page.get_by_role("button", name="Start")).to_have_count(number)
            await button.click()
        await expect(patient.page.get_by_role("heading", name=YOUR_TURN)).to_be_visible()
        await page.screenshot(path=tmp_path / "14-called.png", full_page=True)
        assert await overflow(page) == 0
    assert not visitor.wrong
    assert not patient.wrong


async def test_visitor_with_a_phone_reads_the_landing_page_without_scrolling_sideways(
    stage: Served, browser: Browser, tmp_path: Path
) -> None:
    async with Visitor.arriving(browser, stage.address, PHONE) as visitor:
        await visitor.page.goto("/")
        await expect(visitor.page.get_by_role("heading", name="Try it")).to_be_visible()
        await visitor.page.screenshot(path=tmp_path / "15-landing-phone.png", full_page=True)
        assert await overflow(visitor.page) == 0
    assert not visitor.wrong
