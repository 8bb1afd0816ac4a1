"""Factories shared by the tests: a clinic with people in it, made through the rooms' own doors."""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import TypeAlias
from uuid import UUID

import asyncpg
import httpx2

from cliniq.app import House, build_app
from cliniq.domains.access import api as access
from cliniq.domains.appointments import api as appointments
from cliniq.domains.checkin import api as checkin
from cliniq.domains.clinics import api as clinics
from cliniq.domains.identity import api as identity
from cliniq.domains.patients import api as patients
from cliniq.kernel.ids import ClinicId, PersonId, SessionId, new_id
from cliniq.kernel.permissions import Permission, Role
from cliniq.kernel.scope import Caller, ClinicScope, PatientScope, PlatformScope
from cliniq.platform.clock import utc_now
from cliniq.platform.db import Opening, Unit, open_unit
from cliniq.platform.passwords import Passwords

Admin: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Client: TypeAlias = httpx2.AsyncClient

NOON = utc_now().replace(hour=12, minute=0, second=0, microsecond=0)
SECRET = "a secret of the tests, long enough to be one"  # noqa: S105
PASSWORD = "correct horse battery"  # noqa: S105


@dataclass
class Hands:
    """The hands of both clocks, to be moved by a test."""

    clinic: datetime = NOON
    wall: datetime = NOON

    def reset(self) -> None:
        self.clinic = self.wall = NOON

    def move(self, by: timedelta) -> None:
        self.clinic += by
        self.wall += by


@dataclass(frozen=True)
class Someone:
    """A person who is signed in."""

    person_id: PersonId
    session_id: SessionId
    email: str
    access_token: str
    refresh_token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access_token}"}

    @property
    def caller(self) -> Caller:
        return Caller(self.person_id, self.session_id)


@dataclass(frozen=True)
class SomePatient:
    """A patient of a clinic; `someone` is set where they can sign in themselves."""

    patient_id: UUID
    person_id: UUID
    given_name: str


@dataclass
class SomeClinic:
    """A clinic with one site, one check-in point, one doctor, an admin and a receptionist."""

    house: House
    clinic_id: ClinicId
    site: clinics.Site
    point: clinics.CheckInPoint
    practitioner_id: UUID
    admin: Someone
    doctor: Someone
    receptionist: Someone
    names: int = field(default=0)

    def acting(self, someone: Someone) -> dict[str, str]:
        """Headers of somebody who acts in this clinic."""
        return someone.headers | {"X-Clinic-Id": str(self.clinic_id)}

    def unit(self, permission: Permission = Permission.APPOINTMENTS_CREATE) -> Opening[Unit]:
        """A unit of the admin, believed."""
        scope = ClinicScope(self.admin.person_id, self.clinic_id, permission)
        return open_unit(self.house.entrance.database, scope)

    def own_unit(self, someone: Someone) -> Opening[Unit]:
        """A unit of a person among their own rows, seated."""
        seat = self.house.entrance.directory.seat_of_self(
            someone.caller, self.clinic_id, strict=True
        )
        scope = PatientScope(someone.person_id, self.clinic_id)
        return open_unit(self.house.entrance.database, scope, seat)

    async def member(self, role: Role) -> Someone:
        """Somebody new on the staff."""
        return await sign_up(self.house, self.clinic_id, role)

    async def practitioner(self) -> UUID:
        """Another doctor."""
        doctor = await self.member(Role.DOCTOR)
        practitioner_id = new_id()
        async with self.unit() as unit:
            await access.add_practitioner(
                unit, access.Practitioner(practitioner_id, doctor.person_id, "Dr. Other")
            )
        return practitioner_id

    async def patient(self, someone: Someone | None = None) -> SomePatient:
        """A patient: a child without an account, or somebody who can sign in."""
        self.names += 1
        name = f"Pat{self.names}"
        async with self.unit() as unit:
            if someone is None:
                made = await patients.register(unit, name, "Tester", None)
            else:
                made = patients.Patient(new_id(), someone.person_id, name, "Tester", None)
                await patients.admit(unit, made)
        return SomePatient(made.patient_id, made.person_id, name)

    async def signed_in_patient(self) -> tuple[Someone, SomePatient]:
        """Somebody who can sign in and is a patient here."""
        someone = await sign_up(self.house)
        return someone, await self.patient(someone)

    async def dependant(self, of: Someone) -> SomePatient:
        """A child whom a signed-in person acts for."""
        child = await self.patient()
        async with self.unit() as unit:
            guardian = patients.Patient(new_id(), of.person_id, "", "", None)
            dependant = await patients.get_patient(unit, child.patient_id)
            await patients.register_dependant(
                unit, guardian, dependant, patients.Relationship.PARENT
            )
        return child

    async def book(
        self,
        patient: SomePatient,
        starts_at: datetime | None = None,
        *,
        minutes: int = 15,
        practitioner_id: UUID | None = None,
        site_id: UUID | None = None,
    ) -> appointments.Appointment:
        """A visit, by default at noon; raises what booking raises."""
        starts_at = starts_at or NOON
        async with self.unit() as unit:
            return await appointments.book(
                unit,
                appointments.Wish(
                    patient.patient_id,
                    practitioner_id or self.practitioner_id,
                    site_id or self.site.site_id,
                    "consultation",
                    starts_at,
                    starts_at + timedelta(minutes=minutes),
                ),
            )

    async def visit(
        self, starts_at: datetime | None = None
    ) -> tuple[Someone, SomePatient, appointments.Appointment]:
        """Somebody who can sign in, with a visit of their own doctor's time."""
        someone, patient = await self.signed_in_patient()
        doctor = self.practitioner_id
        return someone, patient, await self.book(patient, starts_at, practitioner_id=doctor)

    async def add_site(self, zone: str = "UTC", **changes: object) -> clinics.Site:
        """Another site."""
        site = some_site(zone, **changes)
        async with self.unit() as unit:
            await clinics.open_site(unit, site)
        return site

    async def add_point(self, site: clinics.Site, **changes: object) -> clinics.CheckInPoint:
        """Another check-in point."""
        point = some_point(site, **changes)
        async with self.unit() as unit:
            await clinics.open_point(unit, point)
        return point

    def code(
        self,
        kind: checkin.CodeKind = checkin.CodeKind.PRINTED,
        *,
        point: clinics.CheckInPoint | None = None,
        step: int = 0,
        key_id: int = 1,
    ) -> str:
        """The text of a code, signed as the house signs."""
        at = (point or self.point).check_in_point_id
        code = checkin.Code(kind, self.clinic_id, at, key_id, step)
        return checkin.sign_code(self.house.entrance.keyring, code)

    async def scan(self, client: Client, someone: Someone, **body: object) -> httpx2.Response:
        """A scan of this clinic's code."""
        return await client.post(
            "/api/v1/appointments/check-in/scan-qr",
            json={"code": self.code()} | body,
            headers=someone.headers,
        )


def some_site(zone: str = "UTC", **changes: object) -> clinics.Site:
    facts: dict[str, object] = {
        "site_id": new_id(),
        "name": "Main",
        "zone": zone,
        "address": "Street 1",
        "directions_url": None,
        "queue_mode": clinics.QueueMode.PRACTITIONER,
    }
    return clinics.Site(**(facts | changes))  # type: ignore[arg-type]


def some_point(site: clinics.Site, **changes: object) -> clinics.CheckInPoint:
    facts: dict[str, object] = {
        "check_in_point_id": new_id(),
        "site_id": site.site_id,
        "name": "Door",
        "room": None,
        "qr_mode": clinics.QrMode.STATIC,
        "verification": clinics.Verification.NONE,
        "key_id": 1,
        "oldest_key": 1,
    }
    return clinics.CheckInPoint(**(facts | changes))  # type: ignore[arg-type]


async def sign_up(
    house: House, clinic_id: ClinicId | None = None, role: Role | None = None
) -> Someone:
    """Make somebody new with an account and a sign-in; in a role of a clinic if asked."""
    person_id, email = PersonId(new_id()), f"{new_id().hex}@example.org"
    person = identity.Person(person_id, "Some", "Body", None, "en")
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        await identity.enrol(unit, person)
        await identity.open_account(unit, person_id, email, known_hash())
        if clinic_id is not None and role is not None:
            await access.add_membership(unit, clinic_id, person_id, role)
        account = await identity.find_account(unit, email)
    assert account is not None
    given = await identity.start_session(house.desk, account)
    claims = house.desk.tokens.read(given.access_token)
    assert claims is not None
    session_id = SessionId(UUID(claims["sid"]))
    return Someone(person_id, session_id, email, given.access_token, given.refresh_token)


@cache
def ask_for_keys() -> list[re.Pattern[str]]:
    """The paths at which a POST is refused without an `Idempotency-Key`, as the document says."""
    return [
        re.compile(re.sub(r"\{[a-z_]+\}", "[^/]+", path))
        for path, methods in build_app().openapi()["paths"].items()
        if methods.get("post", {}).get("x-idempotency") == "required"
    ]


def new_key(path: str) -> dict[str, str]:
    """The header of a new key, where a POST to a path asks for one."""
    if any(each.fullmatch(path) for each in ask_for_keys()):
        return {"Idempotency-Key": str(new_id())}
    return {}


async def give_key(request: httpx2.Request) -> None:
    """Send a new key with what asks for one and has none: each request is another one."""
    if request.method == "POST" and "idempotency-key" not in request.headers:
        request.headers.update(new_key(request.url.path))


KEYED = {"request": [give_key]}  # the hooks of a client that gives keys


_HASH: list[str] = []


def known_hash() -> str:
    """The hash of `PASSWORD`, computed once."""
    if not _HASH:
        with Passwords() as passwords:
            _HASH.append(passwords._hash.hash(PASSWORD))  # noqa: SLF001
    return _HASH[0]


async def found_clinic(house: House, zone: str = "UTC") -> SomeClinic:
    """Make a clinic of its own for a test: nothing else in the database is in its sight."""
    clinic_id = ClinicId(new_id())
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        await clinics.found_clinic(
            unit, clinics.Clinic(clinic_id, "Clinic", f"c-{clinic_id.hex[-24:]}", zone)
        )
    admin, doctor, receptionist = [
        await sign_up(house, clinic_id, role)
        for role in (Role.CLINIC_ADMIN, Role.DOCTOR, Role.RECEPTIONIST)
    ]
    site = some_site(zone)
    point = some_point(site)
    practitioner_id = new_id()
    clinic = SomeClinic(house, clinic_id, site, point, practitioner_id, admin, doctor, receptionist)
    async with clinic.unit() as unit:
        await clinics.open_site(unit, site)
        await clinics.open_point(unit, point)
        await access.add_practitioner(
            unit, access.Practitioner(practitioner_id, doctor.person_id, "Dr. Who")
        )
    return clinic
