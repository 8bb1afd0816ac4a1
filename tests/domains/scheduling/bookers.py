"""Many who want the same time."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from cliniq.app import House
from cliniq.domains.scheduling import api as scheduling
from cliniq.domains.scheduling import store
from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import Problem
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.domains.storms import at_once
from tests.support import Admin, SomeClinic, found_clinic

MINUTE = timedelta(minutes=1)
LENGTH = 15


@dataclass(frozen=True)
class Want:
    """One booker: whose time, with whom, and when."""

    booking_id: UUID
    patient_id: UUID
    practitioner_id: UUID
    starts_at: datetime
    doctor_first: bool
    rooms: tuple[UUID, ...] = ()  # what else is claimed, in whatever order

    @property
    def ends_at(self) -> datetime:
        return self.starts_at + LENGTH * MINUTE

    def conflicts_with(self, other: "Want") -> bool:
        same = self.patient_id == other.patient_id or self.practitioner_id == other.practitioner_id
        return same and self.starts_at < other.ends_at and other.starts_at < self.ends_at


@dataclass
class Hall:
    """A clinic in a house with room for many, and the people who book there."""

    clinic: SomeClinic
    doctors: list[UUID]
    patients: list[UUID]
    rooms: list[UUID] = field(default_factory=lambda: [new_id() for _ in range(12)])

    async def book(self, want: Want) -> Want:
        """Book as the room of appointments does, the claims asked for in either order."""
        kinds = scheduling.ResourceKind
        resources = [
            scheduling.Resource(want.practitioner_id, kinds.PRACTITIONER, None),
            scheduling.Resource(want.patient_id, kinds.PATIENT, want.patient_id),
        ]
        resources += [scheduling.Resource(each, kinds.ROOM, None) for each in want.rooms]
        booking = scheduling.Booking(want.booking_id, want.patient_id, want.starts_at, want.ends_at)
        async with self.clinic.unit() as unit:
            await scheduling.book(
                unit, booking, resources if want.doctor_first else resources[::-1]
            )
        return want

    async def storm(self, wants: Sequence[Want]) -> tuple[list[Want], list[str]]:
        """Have all of them book at once: the winners, and what the others heard."""
        answers = await at_once([self.book(want) for want in wants])
        winners = [each for each in answers if isinstance(each, Want)]
        return winners, [each.code for each in answers if isinstance(each, Problem)]

    def wants_of_one_slot(self, dice: random.Random, at: datetime, count: int) -> list[Want]:
        """Bookers of one doctor, half for the same minutes and half for some that overlap."""
        doctor = dice.choice(self.doctors)
        people = dice.sample(self.patients, count)
        shifts = [0 if number % 2 else dice.randint(-7, 7) for number in range(count)]
        return [
            Want(new_id(), person, doctor, at + shift * MINUTE, dice.random() < 0.5)
            for person, shift in zip(people, shifts, strict=True)
        ]

    def wants_of_one_team(self, dice: random.Random, at: datetime, count: int) -> list[Want]:
        """Bookers of one doctor and the same dozen rooms, each asking in their own order."""
        wants = self.wants_of_one_slot(dice, at, count)
        return [replace(each, rooms=tuple(dice.sample(self.rooms, 12))) for each in wants]

    def wants_of_many_slots(self, dice: random.Random, at: datetime, count: int) -> list[Want]:
        """Bookers of a few doctors for a few patients, around one time."""
        people, doctors = dice.sample(self.patients, 6), dice.sample(self.doctors, 4)
        return [
            Want(
                new_id(),
                dice.choice(people),
                dice.choice(doctors),
                at + dice.randint(-20, 20) * MINUTE,
                dice.random() < 0.5,
            )
            for _ in range(count)
        ]


@asynccontextmanager
async def hall_of(urls: Urls, people: int) -> AsyncIterator[Hall]:
    """Open a hall; half of the patients are known to the calendar before the doctors are."""
    async with house_of(urls, size=24) as house:
        yield await furnish(house, people)


async def furnish(house: House, people: int) -> Hall:
    clinic = await found_clinic(house)
    hall = Hall(clinic, [clinic.practitioner_id], [])
    hall.patients = [(await clinic.patient()).patient_id for _ in range(people)]
    early = hall.patients[: people // 2]
    kinds = scheduling.ResourceKind
    async with clinic.unit() as unit:
        for patient_id in early:
            resource = scheduling.Resource(patient_id, kinds.PATIENT, patient_id)
            await store.add_resource(unit, resource)
    hall.doctors += [await clinic.practitioner() for _ in range(3)]
    return hall


async def hold(
    hall: Hall, order: tuple[UUID, UUID], mine: asyncio.Event, theirs: asyncio.Event
) -> None:
    """Hold the rows of two patients, the second only when the other has a first as well."""
    lock = "select from patient where patient_id = $1 for update"
    async with hall.clinic.unit() as unit:
        await unit.connection.execute(lock, order[0])
        mine.set()
        await theirs.wait()
        await unit.connection.execute(lock, order[1])


async def claims_of(admin: Admin, clinic: SomeClinic) -> int:
    counted = await admin.fetchval(
        "select count(*) from claim where clinic_id = $1", clinic.clinic_id
    )
    return int(counted)
