"""Everybody is dropped at once, and comes back: nobody has missed anything, and scans go on."""

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from bench.ground import SECRET
from bench.town import FIRST, Town, code_at, new_key, patient_headers
from bench.watchers import Watchers
from cliniq.platform.source import Urls
from tests.hatchery import allow_files
from tests.journeys import sizes
from tests.journeys.conftest import Note, zone_at_noon
from tests.journeys.crowd import Ask
from tests.journeys.doors import asked
from tests.journeys.flock import move, seats_at
from tests.journeys.served import Installation, Served
from tests.journeys.test_together import installed
from tests.support import Admin

BACK_SECONDS = 60
SCAN_QR = "/api/v1/appointments/check-in/scan-qr"
SCANS = 6000  # more than are made
SCAN_SECONDS = 0.04  # from one to the next, however long each takes
TRIED_AGAIN_SECONDS = 0.1
LOST = (OSError, EOFError, ValueError, TimeoutError)
PAUSE_SECONDS = 0.1
SENT_AWAY = 24
A_ROOM = 12


@pytest.fixture
async def storming(own_urls: Urls, tmp_path: Path) -> Installation:
    return installed(tmp_path / "storming", own_urls, CLINIQ_SECRET=SECRET)


@pytest.fixture
async def town(own_admin: Admin) -> Town:
    """A clinic whose first visitors wait, and watch; the others have yet to come."""
    town = Town(
        sizes.SOCKETS + SCANS,
        max(2, sizes.SOCKETS // A_ROOM),
        waiting=f"i < {FIRST + sizes.SOCKETS}",
    )
    async with own_admin.acquire() as connection:
        await town.build(connection)  # type: ignore[arg-type]
    zone = zone_at_noon()
    await own_admin.execute("update clinic set zone = $1", zone)
    await own_admin.execute("update site set zone = $1", zone)
    await own_admin.execute("update queue set on_day = (now() at time zone $1)::date", zone)
    return town


@dataclass
class Scanner:
    """Visitors who come at a steady pace and scan until they are answered."""

    served: Served
    town: Town
    took: list[tuple[float, float]] = field(default_factory=list)  # when asked, and how long
    codes: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def scanning(self) -> AsyncIterator[None]:
        """Scan meanwhile; in the end wait for everybody who came."""
        visits = iter(range(FIRST + sizes.SOCKETS, FIRST + self.town.visits))
        coming = asyncio.create_task(self._come(visits))
        try:
            yield
        finally:
            coming.cancel()
            with suppress(asyncio.CancelledError):
                await coming

    async def _come(self, visits: Iterator[int]) -> None:
        async with asyncio.TaskGroup() as group:
            scans: set[asyncio.Task[None]] = set()
            try:
                for visit in visits:
                    scans.add(group.create_task(self._scan(visit)))
                    await asyncio.sleep(SCAN_SECONDS)
            except asyncio.CancelledError:
                await asyncio.wait(scans)

    async def _scan(self, visit: int) -> None:
        headers = patient_headers(visit) | new_key(visit)
        ask = Ask(SCAN_QR, headers, {"code": code_at(self.town.site_of(visit))})
        while True:
            began = monotonic()
            try:
                answer = await asyncio.wait_for(asked(self.served.port, ask), BACK_SECONDS)
            except LOST as lost:
                self.lost[type(lost).__name__] += 1
            else:
                if answer.status < 500 or answer.code == "INTERNAL":
                    self.took.append((began, monotonic() - began))
                    self.codes[answer.code] += 1
                    return
                self.lost[answer.code] += 1
            await asyncio.sleep(TRIED_AGAIN_SECONDS)

    def p95_ms(self, since: float, until: float) -> float:
        """How long all but one in twenty took at most, of those who asked then."""
        took = sorted(each for at, each in self.took if since <= at < until)
        assert took
        return took[len(took) * 95 // 100] * 1000


@dataclass
class Flock:
    """The watchers' process, spoken to."""

    process: asyncio.subprocess.Process

    async def obey(self, word: str, seconds: float = 240) -> dict[str, Any]:
        """Have it done. Raises: TimeoutError."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{word}\n".encode())
        async with asyncio.timeout(seconds):
            line = await self.process.stdout.readline()
        assert line, f"{word}: the watchers have ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def flock(port: int, number: int, queues: int) -> AsyncIterator[Flock]:
    allow_files()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.journeys.flock", *map(str, (port, number, queues))),
        cwd=Path(__file__).parents[2],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    try:
        yield Flock(process)
    finally:
        process.kill()
        await process.wait()


async def until_all_know(flock: Flock, admin: Admin) -> dict[str, Any]:
    """Wait until every watcher stands where its queue does; fail where one has missed anything."""
    said: dict[str, Any] = {}
    rows = await admin.fetch("select queue_id, version from queue")
    true = {f"queue:{row['queue_id']}": [row["version"]] for row in rows}
    for _ in range(round(BACK_SECONDS / PAUSE_SECONDS)):
        said = await flock.obey("say")
        assert not said["missed"]
        if all(versions == true[topic] for topic, versions in said["versions"].items()):
            return said
        await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError(said)


@pytest.mark.parametrize("how", ["cut", "killed"])
async def test_crowd_that_is_dropped_at_once_is_back_and_has_missed_nothing(
    how: str, storming: Installation, town: Town, own_admin: Admin, note: Note
) -> None:
    async with storming.running("serve") as served:
        scanner = Scanner(served, town)
        async with flock(served.port, sizes.SOCKETS, town.doctors) as watchers:
            await watchers.obey("open")
            async with scanner.scanning():
                calm_from = monotonic()
                await asyncio.sleep(sizes.CALM_SECONDS)
                dropped_at = monotonic()
                again = await struck(how, storming, served, watchers)
                began = monotonic()
                back = await watchers.obey("back", BACK_SECONDS - (began - dropped_at))
                back_at = monotonic()
            said = await until_all_know(watchers, own_admin)
        await again.stop()
    assert said["live"] == sizes.SOCKETS
    assert said["counts"]["event"] > 0
    assert set(scanner.codes) == {"OK"}
    calm = scanner.p95_ms(calm_from, dropped_at)
    storm = scanner.p95_ms(began, max(back_at, began + PAUSE_SECONDS))
    note(
        f"{sizes.SOCKETS:,} sockets, {how}",
        **{
            f"{how}: back after": f"{back_at - dropped_at:.1f} s",
            f"{how}: versions missed": len(back["missed"]),
            f"{how}: p95 of scans": f"{storm:.0f} ms, before {calm:.0f} ms",
        },
    )


async def struck(how: str, storming: Installation, served: Served, watchers: Flock) -> Served:
    """Drop everybody; return who serves from then on."""
    if how == "cut":
        await watchers.obey("drop")
        return served
    served.process.send_signal(signal.SIGKILL)
    await served.ended()
    again = storming.start("serve")
    await again.ready()
    return again


async def test_process_told_to_stop_sends_its_sockets_to_the_other_and_none_misses_anything(
    own_urls: Urls, own_admin: Admin, town: Town, tmp_path: Path, redis_url: str
) -> None:
    shared = {"CLINIQ_SECRET": SECRET, "CLINIQ_REDIS_URL": redis_url}
    first, second = (installed(tmp_path / each, own_urls, **shared) for each in ("one", "two"))
    async with first.running("serve") as leaving, second.running("serve") as staying:
        watchers = Watchers(seats_at(leaving.port, SENT_AWAY, town.doctors))
        await watchers.open()
        move(watchers, staying.port)
        scanner = Scanner(staying, town)
        async with scanner.scanning():
            await leaving.stop()
            await watchers.all_live()
        rows = await own_admin.fetch("select queue_id, version from queue")
        true = {f"queue:{row['queue_id']}": row["version"] for row in rows}
        async with asyncio.timeout(BACK_SECONDS):
            while any(each.version != true[each.seat.topic] for each in watchers.watchers):  # noqa: ASYNC110
                await asyncio.sleep(PAUSE_SECONDS)
        watchers.close()
    assert not watchers.missed
    assert watchers.counts["bye"] == watchers.counts["closed 1012 RESTARTING"] == SENT_AWAY
    assert all(hint > 0 for hint in watchers.hints)
    assert len(set(watchers.hints)) > 1  # spread
    assert all(each.entries == 2 for each in watchers.watchers)
    assert set(scanner.codes) == {"OK"}
