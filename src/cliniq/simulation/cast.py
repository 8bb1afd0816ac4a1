"""Who plays: the people of a rehearsal's clinics who have something to do on a day, signed in."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from cliniq.app import House
from cliniq.domains.access import api as access
from cliniq.domains.appointments import api as appointments
from cliniq.domains.checkin import api as checkin
from cliniq.domains.clinics import api as clinics
from cliniq.domains.identity import api as identity
from cliniq.domains.patients import api as patients
from cliniq.kernel.ids import ClinicId, PersonId, SessionId, new_id
from cliniq.kernel.permissions import Role
from cliniq.kernel.scope import PlatformScope, WorkScope
from cliniq.platform.db import ReadUnit, open_read_unit, open_unit
from cliniq.simulation.models import Actor, Company, Doctor, Place, Visit

AT_ONCE = 2_000
JOB = "rehearse"
NOBODY = Actor(PersonId(UUID(int=0)), SessionId(UUID(int=0)))


async def list_companies(house: House, day: date, without: Collection[UUID] = ()) -> list[Company]:
    """List the clinics of the rehearsal that see anybody on a day, by name.

    `without`: practitioners whose visits are not played, since somebody else sees to them.
    Raises: RealInstallation where somebody real may be seen.
    """
    async with open_read_unit(house.entrance.database, PlatformScope(JOB)) as unit:
        known = await clinics.list_clinics(unit)
    found = [await _company(house, each, day, without) for each in known]
    return [each for each in found if each.visits]


async def list_places(house: House) -> list[tuple[clinics.Clinic, dict[UUID, Place]]]:
    """List the sites of all clinics, by name."""
    async with open_read_unit(house.entrance.database, PlatformScope(JOB)) as unit:
        known = await clinics.list_clinics(unit)
    found = []
    for each in known:
        scope = WorkScope(ClinicId(each.clinic_id), JOB)
        async with open_read_unit(house.entrance.database, scope) as unit:
            found.append((each, await _places(house, unit)))
    return found


async def _company(
    house: House, clinic: clinics.Clinic, day: date, without: Collection[UUID]
) -> Company:
    clinic_id = ClinicId(clinic.clinic_id)
    async with open_read_unit(house.entrance.database, WorkScope(clinic_id, JOB)) as unit:
        places = await _places(house, unit)
        doctors = await access.list_practitioners(unit)
        bounds = _bounds(day, ZoneInfo(clinic.zone))
        booked = [
            each
            for each in await appointments.list_booked(unit, *bounds)
            if each.practitioner_id not in without
        ]
        people, families = await _people(unit, booked)
    visits = _visits(clinic, booked, doctors, places)
    if not visits:
        return Company(clinic_id, clinic.name, NOBODY, places, {}, (), {}, {})
    needed = {each.practitioner_id for each in visits}
    at_work = [each for each in doctors if each.practitioner_id in needed]
    desk = await _hire(house, clinic_id)
    staff = await _sign_in(house, [each.person_id for each in at_work], is_staff=True)
    actors = await _sign_in(house, [each.person_id for each in people], is_staff=False)
    return Company(
        clinic_id,
        clinic.name,
        desk,
        places,
        {
            each.practitioner_id: Doctor(
                each.practitioner_id, each.name, staff[each.person_id], str(number)
            )
            for number, each in enumerate(at_work, 1)
        },
        visits,
        {each.patient_id: actors[each.person_id] for each in people},
        families,
    )


def _bounds(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    begins = datetime(day.year, day.month, day.day, tzinfo=zone)
    return begins, begins + timedelta(days=1)


async def _places(house: House, unit: ReadUnit) -> dict[UUID, Place]:
    """List sites at whose door hangs a code."""
    keyring = house.entrance.keyring
    points = {each.site_id: each for each in await clinics.list_points(unit)}
    found = {}
    for site in await clinics.list_sites(unit):
        if (point := points.get(site.site_id)) is not None:
            kind, clinic = checkin.CodeKind.PRINTED, unit.clinic_id
            code = checkin.Code(kind, clinic, point.check_in_point_id, point.key_id, 0)
            text = checkin.sign_code(keyring, code)
            found[site.site_id] = Place(site.site_id, site.name, ZoneInfo(site.zone), text)
    return found


async def _people(
    unit: ReadUnit, booked: Sequence[appointments.Appointment]
) -> tuple[list[patients.Patient], dict[UUID, UUID]]:
    """Find the patients of visits, and who brings whom."""
    ids = list(dict.fromkeys(each.patient_id for each in booked))
    people: list[patients.Patient] = []
    families: dict[UUID, UUID] = {}
    for begin in range(0, len(ids), AT_ONCE):
        some = ids[begin : begin + AT_ONCE]
        people += await patients.find_patients(unit, some)
        families |= {
            each.ward_id: each.guardian_id for each in await patients.list_guarded(unit, some)
        }
    here = set(ids)
    return people, {ward: guardian for ward, guardian in families.items() if guardian in here}


def _visits(
    clinic: clinics.Clinic,
    booked: Sequence[appointments.Appointment],
    doctors: Sequence[access.Practitioner],
    places: Mapping[UUID, Place],
) -> list[Visit]:
    """Name visits by what is the same in every run, and bring them into one order."""
    names = {each.practitioner_id: each.name for each in doctors}
    visits = [
        Visit(
            f"{clinic.name} {places[each.site_id].name} {names[each.practitioner_id]}"
            f" {each.starts_at.astimezone(UTC).isoformat()}",
            each.appointment_id,
            each.patient_id,
            each.practitioner_id,
            each.site_id,
            each.starts_at,
        )
        for each in booked
        if each.site_id in places
    ]
    return sorted(visits, key=lambda each: (each.starts_at, each.key))


async def _hire(house: House, clinic_id: ClinicId) -> Actor:
    """Have somebody at the desk."""
    person = identity.Person(new_id(), "Desk", "of the play", None, "en")
    async with open_unit(house.entrance.database, PlatformScope(JOB)) as unit:
        await identity.enrol(unit, person)
    found = await _sign_in(house, [person.person_id], is_staff=True)
    async with open_unit(house.entrance.database, PlatformScope(JOB)) as unit:
        await access.add_membership(unit, clinic_id, person.person_id, Role.RECEPTIONIST)
    return found[person.person_id]


async def _sign_in(
    house: House, person_ids: Sequence[UUID], *, is_staff: bool
) -> dict[UUID, Actor]:
    """Sign people in, without asking for a password."""
    found: dict[UUID, Actor] = {}
    for begin in range(0, len(person_ids), AT_ONCE):
        some = list(dict.fromkeys(person_ids[begin : begin + AT_ONCE]))
        for person_id, session_id in await identity.sign_in_actors(house.desk.database, some):
            found[person_id] = Actor(person_id, session_id, is_staff)
    return found
