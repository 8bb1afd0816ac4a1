"""Many at once against the real server: one check-in, every ticket once, one winner of a slot."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import pytest

from cliniq.domains.clinics import api as clinics
from cliniq.kernel.permissions import Role
from cliniq.platform.clock import utc_now
from tests.conftest import dsn_of
from tests.journeys import sizes
from tests.journeys.conftest import Note
from tests.journeys.crowd import Answer, Ask, crowd
from tests.journeys.served import Installation, Served
from tests.support import Admin, SomeClinic, Someone

API = "/api/v1"
SCAN_QR = f"{API}/appointments/check-in/scan-qr"
SLOT = timedelta(minutes=15)
PHONES = 50
VISITS_A_DOCTOR = 100  # a minute each: all of them may check in now

T = TypeVar("T")
# One person storms here, whom limits would stop long before the locks are tried.
CROWDED = {"CLINIQ_POOL_SIZE": "16", "CLINIQ_RATE_SCALE": "1000"}


@pytest.fixture
async def served(installation: Installation) -> AsyncIterator[Served]:
    """A server of the test's own: its connections have counted their deadlocks once it is gone."""
    crowded = replace(installation, settings={**installation.settings, **CROWDED})
    async with crowded.running("serve") as served:
        yield served


async def together(work: Iterable[Awaitable[T]], most: int = 6) -> list[T]:
    """Do things some at a time, in the house of this process."""
    gate = asyncio.Semaphore(most)

    async def one(each: Awaitable[T]) -> T:
        async with gate:
            return await each

    return await asyncio.gather(*map(one, work))


async def rows(admin: Admin, clinic: SomeClinic, *tables: str) -> dict[str, int]:
    return {
        table: await admin.fetchval(
            f"select count(*) from {table} where clinic_id = $1",  # noqa: S608
            clinic.clinic_id,
        )
        for table in tables
    }


async def kinds(admin: Admin, clinic: SomeClinic, table: str, column: str) -> dict[str, int]:
    counted = await admin.fetch(
        f"select {column} as kind, count(*) from {table} where clinic_id = $1 group by 1",  # noqa: S608
        clinic.clinic_id,
    )
    return {each["kind"]: each["count"] for each in counted}


async def deadlocks(admin: Admin) -> int:
    found: int = await admin.fetchval(
        "select deadlocks from pg_stat_database where datname = current_database()"
    )
    return found


async def connected(admin: Admin) -> set[int]:
    """Number the clients of this database."""
    found = await admin.fetch(
        "select pid from pg_stat_activity where datname = current_database()"
        " and backend_type = 'client backend'"
    )
    return {each["pid"] for each in found}


async def until_gone(admin: Admin, since: set[int]) -> None:
    """Wait for the end of all clients that were not there then: only now have they counted."""
    for _ in range(600):
        if await connected(admin) <= since:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("connections outlive the server")


def codes(answers: Iterable[Answer]) -> dict[str, int]:
    return dict(Counter(each.code for each in answers))


# One visit, scanned by everyone


async def test_crowd_of_scans_of_one_visit_leaves_one_check_in_and_one_ticket(
    served: Served, clinic: SomeClinic, admin: Admin, note: Note
) -> None:
    someone, _, _ = await clinic.visit(utc_now() + timedelta(minutes=5))
    ask = Ask(SCAN_QR, someone.headers, {"code": clinic.code()})
    async with crowd(served.address, sizes.SCANS) as phones:
        answers, again = await phones.ask_until_served([ask] * sizes.SCANS)
    assert codes(answers) == {"OK": sizes.SCANS}
    assert phones.most == sizes.SCANS
    receipts = [each for answer in answers for each in answer.body["check_ins"]]
    assert len(receipts) == sizes.SCANS
    assert Counter(each.pop("already") for each in receipts) == {False: 1, True: sizes.SCANS - 1}
    assert all(each == receipts[0] for each in receipts)
    assert (receipts[0]["ticket"], receipts[0]["position"]) == (1, 1)

    tables = "check_in", "check_in_claim", "queue_entry", "queue"
    written = await rows(admin, clinic, *tables)
    assert written == dict.fromkeys(tables, 1)
    assert await kinds(admin, clinic, "appointment_history", "to_status") == {
        "booked": 1,
        "checked_in": 1,
    }
    told = await kinds(admin, clinic, "audit", "action")
    assert told["queue.entry_joined.v1"] == told["checkin.completed.v1"] == 1
    note(f"{sizes.SCANS:,} scans", in_flight=phones.most, told_to_wait=again, **written)


# A full waiting room, called by everyone


async def test_crowd_of_callers_calls_every_ticket_once(
    served: Served, clinic: SomeClinic, admin: Admin, note: Note
) -> None:
    tickets = sizes.TICKETS
    scans = await arrivals(clinic, tickets)
    async with crowd(served.address, PHONES) as phones:
        waves = [await phones.ask(scans[at : at + PHONES]) for at in range(0, tickets, PHONES)]
    answers = [answer for wave in waves for answer in wave]
    assert codes(answers) == {"OK": tickets}
    receipts = [each for answer in answers for each in answer.body["check_ins"]]
    assert sorted(each["ticket"] for each in receipts) == list(range(1, tickets + 1))
    (queue_id,) = {each["queue_id"] for each in receipts}

    callers = await together(clinic.member(Role.DOCTOR) for _ in range(sizes.CALLERS))
    asks = [Ask(f"{API}/queues/{queue_id}/calls", clinic.acting(each)) for each in callers]
    called: list[dict[str, Any]] = []
    async with crowd(served.address, sizes.CALLERS) as desks:

        async def call_until_empty(number: int) -> str:
            while (answer := await desks.ask_one(number, asks[number])).code == "OK":
                called.append(answer.body)
            return answer.code

        last = await asyncio.gather(*map(call_until_empty, range(sizes.CALLERS)))
    assert set(last) == {"QUEUE_EMPTY"}
    assert sorted(each["ticket"] for each in called) == list(range(1, tickets + 1))
    assert {(each["ticket"], each["entry_id"]) for each in called} == {
        (each["ticket"], each["entry_id"]) for each in receipts
    }
    queue = await admin.fetchrow(
        "select last_ticket, version from queue where queue_id = $1", UUID(queue_id)
    )
    assert queue is not None
    assert (queue["last_ticket"], queue["version"]) == (tickets, 2 * tickets)
    assert await kinds(admin, clinic, "queue_entry", "status") == {"called": tickets}
    note(
        f"{sizes.CALLERS} callers, {tickets:,} tickets",
        called=len(called),
        twice=len(called) - len({each["ticket"] for each in called}),
        lost=tickets - len({each["ticket"] for each in called}),
        numbers=f"1 to {max(each['ticket'] for each in called):,}",
    )


async def arrivals(clinic: SomeClinic, size: int) -> list[Ask]:
    """Make that many people with a visit of now, at a site where all wait in one line."""
    site = await clinic.add_site(clinic.site.zone, queue_mode=clinics.QueueMode.POOL)
    code = clinic.code(point=await clinic.add_point(site))
    doctors = [await clinic.practitioner() for _ in range(-(-size // VISITS_A_DOCTOR))]
    began = utc_now().replace(second=0, microsecond=0) - timedelta(minutes=VISITS_A_DOCTOR)

    async def one(number: int) -> Ask:
        someone, patient = await clinic.signed_in_patient()
        doctor, minute = divmod(number, VISITS_A_DOCTOR)
        await clinic.book(
            patient,
            began + timedelta(minutes=minute),
            minutes=1,
            practitioner_id=doctors[doctor],
            site_id=site.site_id,
        )
        return Ask(SCAN_QR, someone.headers, {"code": code})

    return await together(one(number) for number in range(size))


# One slot, wished for by everyone


class Wishes:
    """Three ways in which 64 wishes for one time can be in each other's way."""

    def __init__(self, clinic: SomeClinic, someone: Someone) -> None:
        self.clinic = clinic
        self.someone = someone
        self.patients: list[UUID] = []
        self.doctors: list[UUID] = []

    @classmethod
    async def of(cls, clinic: SomeClinic) -> "Wishes":
        """Number the resources in turns, so that claims are taken in every order."""
        someone, first = await clinic.signed_in_patient()
        wishes = cls(clinic, someone)
        wishes.patients.append(first.patient_id)
        wishes.doctors.append(clinic.practitioner_id)
        while len(wishes.doctors) < sizes.BOOKERS:
            wishes.doctors.append(await clinic.practitioner())
            wishes.patients.append((await clinic.patient()).patient_id)
        return wishes

    def round(self, number: int, at: datetime) -> tuple[list[Ask], int]:
        """Return the wishes of a round, and how many of them can come true."""
        doctor, patient = self.doctors[number % 64], self.patients[0]
        every = range(sizes.BOOKERS)
        match number % 3:
            case 0:  # of one doctor's time
                return [self._ask(doctor, self.patients[each], at) for each in every], 1
            case 1:  # of one patient's time, half of them by the patient's own hand
                own = [self._ask(self.doctors[each], patient, at, own=True) for each in every[::2]]
                return own + [self._ask(self.doctors[each], patient, at) for each in every[1::2]], 1
            case _:  # of the time of eight doctors and eight patients, each with each
                pairs = [divmod(each, 8) for each in every]
                return [self._ask(self.doctors[d], self.patients[p], at) for d, p in pairs], 8

    def _ask(self, doctor: UUID, patient: UUID, at: datetime, *, own: bool = False) -> Ask:
        body = {
            "patient_id": patient,
            "practitioner_id": doctor,
            "site_id": self.clinic.site.site_id,
            "starts_at": at,
            "minutes": 15,
        }
        booker = self.someone if own else self.clinic.receptionist
        return Ask(f"{API}/appointments", self.clinic.acting(booker), body)


async def test_crowd_of_bookers_of_one_slot_has_one_winner_each_and_no_deadlock(
    installation: Installation, clinic: SomeClinic, admin: Admin, note: Note
) -> None:
    wishes = await Wishes.of(clinic)
    tomorrow = utc_now().replace(minute=0, second=0, microsecond=0) + timedelta(days=1)
    before, since = await deadlocks(admin), await connected(admin)
    met: Counter[str] = Counter()
    expected = 0
    crowded = replace(installation, settings={**installation.settings, **CROWDED})
    async with crowded.running("serve") as served, crowd(served.address, sizes.BOOKERS) as bookers:
        for number in range(sizes.ROUNDS):
            asks, winners = wishes.round(number, tomorrow + number * SLOT)
            answers = await bookers.ask(asks)
            loses = {"SLOT_TAKEN": sizes.BOOKERS - winners}
            assert codes(answers) == {"OK": winners, **loses}, number
            won = [each.body for each in answers if each.code == "OK"]
            for whom in ("practitioner_id", "patient_id"):
                assert len({each[whom] for each in won}) == winners, number
            met.update(codes(answers))
            expected += winners
    assert await rows(admin, clinic, "booking", "appointment", "claim") == {
        "booking": expected,
        "appointment": expected,
        "claim": 2 * expected,
    }
    await until_gone(admin, since)
    moved = await deadlocks(admin) - before
    assert moved == 0
    counted = dict(sorted(met.items()))
    note(f"{sizes.BOOKERS} bookers, {sizes.ROUNDS} rounds", **counted, deadlocks=moved)


async def test_count_of_deadlocks_notices_a_deadlock(server: str, admin: Admin) -> None:
    before, since = await deadlocks(admin), await connected(admin)
    name = await admin.fetchval("select current_database()")
    dsn = dsn_of(server, name)
    one, other = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    lock = "select pg_advisory_xact_lock($1)"
    try:
        for connection, number in ((one, 1), (other, 2)):
            await connection.execute("begin; set local deadlock_timeout = '50ms'")
            await connection.execute(lock.replace("$1", str(number)))
        crossed = one.execute(lock.replace("$1", "2")), other.execute(lock.replace("$1", "1"))
        outcomes = await asyncio.gather(*crossed, return_exceptions=True)
    finally:
        await one.close()
        await other.close()
    assert [type(each) for each in outcomes if isinstance(each, Exception)] == [
        asyncpg.DeadlockDetectedError
    ]
    await until_gone(admin, since)
    assert await deadlocks(admin) == before + 1
