"""A busy day on a whole installation: people scan, desks call, start and complete, clients follow.

All of them are clients who do not give up, and all that they were told for certain is in a ledger.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from cliniq.app import open_house
from cliniq.domains.clinics import api as clinics
from cliniq.kernel.permissions import Role
from cliniq.platform.clock import Clocks, utc_now
from tests.journeys.conftest import zone_at_noon
from tests.journeys.crowd import Ask
from tests.journeys.doors import Doors, Ledger
from tests.journeys.faults import Whole
from tests.journeys.follower import Follower, following
from tests.support import SECRET, SomeClinic, Someone, found_clinic

API = "/api/v1"
LINES = 2
DESKS = 4
FOLLOWERS = 4  # of each line
VISITS_A_DOCTOR = 60  # a minute each, in the hour before the day began
UNLIMITED = {"CLINIQ_RATE_SCALE": "1000"}
SCAN_SECONDS = 1.5  # over which a wave of people arrives
AGAIN = 0.2  # of all people scan once more


@dataclass
class Line:
    """Where people wait: a site of its own, where all wait together."""

    site: clinics.Site
    code: str
    queue_id: str = ""


@dataclass
class Busy:
    """The day, and all who take part in it."""

    whole: Whole
    clinic: SomeClinic
    dice: random.Random
    lines: list[Line]
    doors: Doors
    desks: list[Someone]
    ledger: Ledger = field(default_factory=Ledger)
    followers: list[Follower] = field(default_factory=list)
    visits: int = 0
    doctors: list[UUID] = field(default_factory=list)
    began: Any = field(default_factory=lambda: utc_now().replace(second=0, microsecond=0))

    async def expect(self, many: int) -> list[tuple[Someone, Line]]:
        """Make people with a visit each; while all is well."""
        first, self.visits = self.visits, self.visits + many
        while len(self.doctors) * VISITS_A_DOCTOR < self.visits:
            self.doctors.append(await self.clinic.practitioner())
        return list(
            await asyncio.gather(*(self._visitor(each) for each in range(first, self.visits)))
        )

    async def _visitor(self, number: int) -> tuple[Someone, Line]:
        someone, patient = await self.clinic.signed_in_patient()
        doctor, minute = divmod(number, VISITS_A_DOCTOR)
        line = self.lines[number % LINES]
        await self.clinic.book(
            patient,
            self.began + timedelta(minutes=minute - VISITS_A_DOCTOR),
            minutes=1,
            practitioner_id=self.doctors[doctor],
            site_id=line.site.site_id,
        )
        return someone, line

    async def scan(self, someone: Someone, line: Line) -> None:
        ask = Ask(
            f"{API}/appointments/check-in/scan-qr",
            {**someone.headers, "X-Clinic-Id": str(self.clinic.clinic_id)},
            {"code": line.code},
        )
        answer = await self.doors.ask(ask)
        assert answer.code == "OK", answer
        self.ledger.take_scan(answer)
        line.queue_id = answer.body["check_ins"][0]["queue_id"]
        if self.dice.random() < AGAIN:
            answer = await self.doors.ask(ask)  # with another key
            if answer.code != "ALREADY_CHECKED_IN":  # and is being seen
                assert answer.code == "OK", answer
                self.ledger.take_scan(answer)

    async def call(self, desk: Someone, line: Line) -> bool:
        """Call, start and complete whoever is next, or stop half way; tell whether anyone was."""
        headers = self.clinic.acting(desk)
        room = {"room": str(self.dice.randint(1, 9))}
        called = await self.doors.ask(Ask(f"{API}/queues/{line.queue_id}/calls", headers, room))
        if called.code != "OK":
            assert called.code == "QUEUE_EMPTY", called
            return False
        entry_id = called.body["entry_id"]
        self.ledger.called.append(entry_id)
        for step, kept in (("start", self.ledger.started), ("complete", self.ledger.completed)):
            if self.dice.random() < 0.15:
                break
            answer = await self.doors.ask(Ask(f"{API}/queues/entries/{entry_id}/{step}", headers))
            assert answer.code == "OK", answer
            kept.append(entry_id)
        return True

    async def wave(self, people: Iterable[tuple[Someone, Line]]) -> None:
        """Have people arrive one after the other, and the desks call meanwhile."""
        arriving = [asyncio.create_task(self._arrive(*each)) for each in people]
        calling = [asyncio.create_task(self._sit(each, arriving)) for each in self.desks]
        try:
            await asyncio.gather(*arriving, *calling)
        finally:
            for each in (*arriving, *calling):
                each.cancel()

    async def _arrive(self, someone: Someone, line: Line) -> None:
        await asyncio.sleep(self.dice.uniform(0, SCAN_SECONDS))
        await self.scan(someone, line)

    async def _sit(self, desk: Someone, arriving: list["asyncio.Task[None]"]) -> None:
        while not all(each.done() for each in arriving):
            if not await self.call(desk, self.dice.choice(self.lines)):
                await asyncio.sleep(0.2)
            await asyncio.sleep(self.dice.uniform(0.05, 0.3))

    async def up_to_date(self) -> None:
        """Wait until every follower knows what a fresh look at its queue shows."""
        for follower in self.followers:
            fresh = await follower.fresh(self.doors.ports[0])
            while follower.known != fresh:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)


@asynccontextmanager
async def busy_day(whole: Whole, dice: random.Random) -> AsyncIterator[Busy]:
    """Found a clinic, have the first people in, and clients follow every line."""
    async with open_house(whole.application, SECRET, 6, Clocks(), promises=None) as house:
        clinic = await found_clinic(house, zone_at_noon())
        busy = Busy(
            whole,
            clinic,
            dice,
            [await _line(clinic) for _ in range(LINES)],
            Doors([each.installation.port for each in whole.servers], dice),
            [await clinic.member(Role.DOCTOR) for _ in range(DESKS)],
        )
        await _each(busy.scan(*each) for each in await busy.expect(LINES))
        busy.followers = [
            Follower(busy.doors.ports, clinic.acting(busy.desks[0]), line.queue_id, dice)
            for line in busy.lines
            for _ in range(FOLLOWERS)
        ]
        async with following(busy.followers):
            yield busy


async def _line(clinic: SomeClinic) -> Line:
    site = await clinic.add_site(clinic.site.zone, queue_mode=clinics.QueueMode.POOL)
    return Line(site, clinic.code(point=await clinic.add_point(site)))


async def _each(work: Iterable[Awaitable[None]]) -> None:
    for each in work:
        await each
