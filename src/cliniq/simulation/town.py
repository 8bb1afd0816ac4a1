"""Two clinics for a play without data of its own: sites, doctors, families, and visits of a day."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from random import Random
from uuid import UUID
from zoneinfo import ZoneInfo

from cliniq.app import House
from cliniq.domains.access import api as access
from cliniq.domains.appointments import api as appointments
from cliniq.domains.clinics import api as clinics
from cliniq.domains.identity import api as identity
from cliniq.domains.patients import api as patients
from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.permissions import Role
from cliniq.kernel.record import Record
from cliniq.kernel.scope import PlatformScope, WorkScope
from cliniq.platform.db import Unit, open_unit
from cliniq.platform.rehearsal import ensure_rehearsal

ZONE = "Europe/Vienna"
FIRST, SLOT, A_DAY = timedelta(hours=8), timedelta(minutes=15), 32  # of a doctor
FAMILIES = 0.12  # of all patients, who bring a child
JOB = "build a town"
BOOKED_BEFORE = timedelta(days=30)


class Plan(Record, frozen=True):
    """A clinic to be built."""

    name: str
    app_name: str
    sites: Sequence[str]
    doctors: Sequence[Sequence[str]]  # by site


TOWN = (
    Plan(
        "Riverside Clinic",
        "riverside",
        ("Quay Street", "Mill Lane"),
        (("Dr. Mei Chen", "Dr. Omar Haddad"), ("Dr. Ana Silva",)),
    ),
    Plan(
        "Hilltop Clinic",
        "hilltop",
        ("Tower Road", "Garden Square"),
        (("Dr. Priya Nair",), ("Dr. Lukas Gruber",)),
    ),
)
GIVEN = (
    "Ada Amara Anouk Bao Bilal Chidi Clara Dalia Davi Elif Emil Fatou Goran Hana Ilse Ivo Jana"
    " Kaito Kofi Lale Leo Mirko Nadia Noor Oto Pia Ravi Rosa Sami Tomas Uma Yuki Zoë"
).split()
FAMILY = (
    "Abreu Adeyemi Bauer Costa Diallo Egger Fofana Gruber Haddad Ito Jovic Khan Lopes Mensah Nair"
    " Okafor Petrov Quist Rossi Sato Tran Ueda Varga Weber Xu Yilmaz Zeman"
).split()


async def build(
    house: House, day: date, people: int, seed: int, plans: Sequence[Plan] = TOWN
) -> None:
    """Build the clinics where they are missing, and book so many people's visits of a day.

    Raises: RealInstallation where somebody real may be seen.
    """
    await ensure_rehearsal(house.entrance.database)
    await appointments.open_for(house.entrance.database, day - BOOKED_BEFORE, day)
    share = -(-people // sum(len(each) for plan in plans for each in plan.doctors))
    for plan in plans:
        clinic_id = await _found(house, plan)
        await _book(house, clinic_id, plan, Booking(day, min(share, A_DAY), seed))


async def found(house: House, plans: Sequence[Plan]) -> None:
    """Make clinics, or what they lack.

    Raises: RealInstallation where somebody real may be seen.
    """
    await ensure_rehearsal(house.entrance.database)
    for plan in plans:
        await _found(house, plan)


async def _found(house: House, plan: Plan) -> ClinicId:
    """Make a clinic, and what it lacks of sites and doctors."""
    database = house.entrance.database
    async with open_unit(database, PlatformScope(JOB)) as unit:
        known = {each.app_name: each.clinic_id for each in await clinics.list_clinics(unit)}
        clinic_id = ClinicId(known.get(plan.app_name) or new_id())
        if plan.app_name not in known:
            named = (plan.name, plan.app_name, ZONE)
            await clinics.found_clinic(unit, clinics.Clinic(clinic_id, *named))
    async with open_unit(database, WorkScope(clinic_id, JOB)) as unit:
        here = {each.name for each in await access.list_practitioners(unit)}
    missing = [name for names in plan.doctors for name in names if name not in here]
    people = {name: new_id() for name in missing}
    async with open_unit(database, PlatformScope(JOB)) as unit:
        for name, person_id in people.items():
            given, _, family = name.removeprefix("Dr. ").partition(" ")
            await identity.enrol(unit, identity.Person(person_id, given, family, None, "en"))
    await identity.sign_in_actors(database, list(people.values()))
    async with open_unit(database, PlatformScope(JOB)) as unit:
        for person_id in people.values():
            await access.add_membership(unit, clinic_id, person_id, Role.DOCTOR)
    async with open_unit(database, WorkScope(clinic_id, JOB)) as unit:
        await _furnish(unit, plan)
        for name, person_id in people.items():
            await access.add_practitioner(unit, access.Practitioner(new_id(), person_id, name))
    return clinic_id


async def _furnish(unit: Unit, plan: Plan) -> None:
    here = {each.name for each in await clinics.list_sites(unit)}
    for name in plan.sites:
        if name in here:
            continue
        mode = clinics.QueueMode.PRACTITIONER
        site = clinics.Site(new_id(), name, ZONE, f"{name} 7, 1020 Vienna", None, mode)
        await clinics.open_site(unit, site)
        how = (clinics.QrMode.STATIC, clinics.Verification.NONE, 1, 1)
        await clinics.open_point(
            unit, clinics.CheckInPoint(new_id(), site.site_id, "Main entrance", None, *how)
        )


async def _book(house: House, clinic_id: ClinicId, plan: Plan, booking: "Booking") -> None:
    """Book a day: some bring a child, who has the slot after theirs."""
    dice = Random(f"{booking.seed} {booking.day} {plan.app_name}")  # noqa: S311 - a play
    midnight = datetime.combine(booking.day, time(), ZoneInfo(ZONE))
    async with open_unit(house.entrance.database, WorkScope(clinic_id, JOB)) as unit:
        sites = {each.name: each.site_id for each in await clinics.list_sites(unit)}
        doctors = {each.name: each for each in await access.list_practitioners(unit)}
        visits: list[appointments.Imported] = []
        for site, names in zip(plan.sites, plan.doctors, strict=True):
            for name in names:
                doctor_id = doctors[name].practitioner_id
                people = await _admit(unit, booking.each_doctor, dice)
                begins = midnight + FIRST
                visits += _visits(people, doctor_id, sites[site], begins)
        await appointments.book_all(unit, visits)


class Booking(Record, frozen=True):
    """How many visits each doctor has on a day, and by which seed they are drawn."""

    day: date
    each_doctor: int
    seed: int


def _visits(
    people: Sequence[UUID], doctor_id: UUID, site_id: UUID, begins: datetime
) -> Iterator[appointments.Imported]:
    for number, patient_id in enumerate(people):
        starts_at = begins + SLOT * number
        yield appointments.Imported(
            patient_id,
            doctor_id,
            site_id,
            "consultation",
            starts_at,
            starts_at + SLOT,
            appointments.AppointmentStatus.BOOKED,
            begins - timedelta(days=1 + number % 20),
        )


async def _admit(unit: Unit, wanted: int, dice: Random) -> list[UUID]:
    """Admit people; now and then the one after somebody is their child."""
    newcomers: list[patients.Newcomer] = []
    children: list[int] = []
    while len(newcomers) < wanted:
        family = dice.choice(FAMILY)
        born = date(dice.randrange(1935, 2004), dice.randrange(1, 13), dice.randrange(1, 29))
        newcomers.append(patients.Newcomer(dice.choice(GIVEN), family, born))
        if dice.random() < FAMILIES and len(newcomers) < wanted:
            born = date(dice.randrange(2012, 2022), dice.randrange(1, 13), dice.randrange(1, 29))
            children.append(len(newcomers))
            newcomers.append(patients.Newcomer(dice.choice(GIVEN), family, born))
    admitted = await patients.admit_all(unit, newcomers)
    ids = [each.patient_id for each in admitted if each.patient_id is not None]
    known = {each.patient_id: each for each in await patients.find_patients(unit, ids)}
    for place in children:
        guardian, child = known[ids[place - 1]], known[ids[place]]
        await patients.register_dependant(unit, guardian, child, patients.Relationship.PARENT)
    return ids
