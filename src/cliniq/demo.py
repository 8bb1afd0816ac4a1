"""The demo: a clinic with people in it, visits around now, and a few who already wait.

A composition root of its own: it speaks to the rooms as their visitors do. What goes on around the
visitors (`cliniq.simulation.show`) is played by others.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from starlette.requests import Request

from cliniq.domains.access import api as access
from cliniq.domains.appointments import api as appointments
from cliniq.domains.checkin import api as checkin
from cliniq.domains.clinics import api as clinics
from cliniq.domains.identity import api as identity
from cliniq.domains.patients import api as patients
from cliniq.domains.scheduling import api as scheduling
from cliniq.kernel.ids import ClinicId, PersonId, SessionId, new_id
from cliniq.kernel.permissions import Permission, Role
from cliniq.kernel.problem import NotFound
from cliniq.kernel.record import Record
from cliniq.kernel.scope import Caller, ClinicScope, PatientScope, PlatformScope
from cliniq.platform.db import Database, Opening, Unit, open_unit
from cliniq.platform.http.guards import Entrance, public
from cliniq.platform.http.problems import problems
from cliniq.platform.http.route import room
from cliniq.platform.http.terms import terms
from cliniq.platform.http.traffic import Traffic

PASSWORD = "cliniq-demo"  # noqa: S105 - shown on the landing page of a demo, and nowhere else
APP_NAME = "riverside-demo"
STEP = timedelta(minutes=5)
ANSWER_SECONDS = 0.3  # in which the answer to a click reaches its page
RESET_SECONDS = 3  # before it is worth a look


class DemoAccount(Record, frozen=True):
    """Somebody to sign in as."""

    label: str
    email: str
    password: str
    role: Role


class DemoPoint(Record, frozen=True):
    """A check-in point, and the path that its printed code leads to."""

    check_in_point_id: UUID
    site_name: str
    point_name: str
    path: str


class DemoClinic(Record, frozen=True):
    """A clinic to walk into."""

    clinic_id: UUID
    clinic_name: str
    points: list[DemoPoint]


class DemoBoard(Record, frozen=True):
    """A waiting room's board, and the path to it."""

    clinic_name: str
    site_name: str
    path: str


class Stage(Record, frozen=True):
    """What the landing page shows of a demo. `runs`: others play, and a click begins anew."""

    accounts: list[DemoAccount]
    clinics: list[DemoClinic]
    boards: Sequence[DemoBoard] = ()
    runs: bool = False


class Begun(Record, frozen=True):
    """The demo begins anew: pages find it again by themselves, in a few seconds."""

    seconds: int


router = room("", "demo")


@router.get("/demo", responses=problems(NotFound))
async def get_demo(door: Annotated[None, public("people of a play")], request: Request) -> Stage:
    """Show accounts and codes of a demo; an installation without one has none."""
    stage: Stage | None = request.app.state.stage
    if stage is None:
        raise NotFound
    return stage


@router.post(
    "/demo/resets",
    status_code=202,
    responses=problems(NotFound),
    **terms(no_key="it begins anew, and twice is as good", traffic=Traffic.PUBLIC),
)
async def create_demo_reset(
    door: Annotated[None, public("people of a play")], request: Request
) -> Begun:
    """Begin a demo anew: what anybody did in it is gone. Only where one is running."""
    reset: Callable[[], None] | None = request.app.state.reset_demo
    if reset is None:
        raise NotFound
    asyncio.get_running_loop().call_later(ANSWER_SECONDS, reset)
    return Begun(RESET_SECONDS)


@dataclass(frozen=True, slots=True)
class _Role:
    """A part in the play; `waits` are those whom the audience finds in the queue already."""

    given_name: str
    family_name: str
    email: str
    label: str
    role: Role = Role.PATIENT
    waits: bool = False
    child: str | None = None

    @property
    def account(self) -> DemoAccount:
        return DemoAccount(self.label, self.email, PASSWORD, self.role)


CAST = (
    _Role("Mei", "Chen", "dr.chen@demo.cliniq", "Dr. Mei Chen, doctor", Role.DOCTOR),
    _Role("Jonas", "Weber", "desk@demo.cliniq", "Jonas, reception desk", Role.RECEPTIONIST),
    _Role("Ines", "Moreau", "admin@demo.cliniq", "Ines, clinic admin", Role.CLINIC_ADMIN),
    _Role("Ben", "Okafor", "ben@demo.cliniq", "Ben, patient"),
    _Role("Ana", "Silva", "ana@demo.cliniq", "Ana, patient with her son Leo", child="Leo"),
    _Role("Priya", "Nair", "priya@demo.cliniq", "Priya, patient"),
    _Role("Omar", "Haddad", "omar@demo.cliniq", "Omar, already waiting", waits=True),
    _Role("Lucy", "Tran", "lucy@demo.cliniq", "Lucy, already waiting", waits=True),
    _Role("Karl", "Lund", "karl@demo.cliniq", "Karl, already waiting", waits=True),
)
DOCTOR_NAME = "Dr. Mei Chen"


class Production(Record, frozen=True):
    """A demo: what is shown of it, who sees to its visitors' patients, and how they get visits.

    `doctor_id`: whom visitors play. `prompt` gives those visits who have none left.
    """

    stage: Stage
    doctor_id: UUID
    doctor_person_id: PersonId
    staff: Sequence[tuple[PersonId, Role]]
    prompt: Callable[[], Awaitable[None]]


async def set_stage(entrance: Entrance, desk: identity.SignInDesk) -> Production:
    """Make the demo's clinic where it is missing, and visits around now for everyone in it.

    Idempotent: a second run adds only visits, for those who have none left.
    """
    director = await _Director.hire(entrance, desk)
    place, staff = await director.build()

    async def prompt() -> None:
        for part in CAST:
            if part.role is Role.PATIENT:
                await director.give_visits(place, part)

    await prompt()
    stage = Stage([part.account for part in CAST if not part.waits], [director.show(place)])
    doctor = next(person for person, role in staff if role is Role.DOCTOR)
    return Production(stage, place.doctor_id, doctor, staff, prompt)


class _Place(Record, frozen=True):
    """Where the play is set."""

    clinic_id: ClinicId
    admin_id: PersonId
    site: clinics.Site
    point: clinics.CheckInPoint
    doctor_id: UUID


@dataclass(frozen=True, slots=True)
class _Director:
    """Knows the house, and has one hash for everyone's password."""

    entrance: Entrance
    desk: identity.SignInDesk
    password_hash: str
    callers: dict[str, Caller]

    @classmethod
    async def hire(cls, entrance: Entrance, desk: identity.SignInDesk) -> "_Director":
        return cls(entrance, desk, await desk.passwords.hash(PASSWORD), {})

    @property
    def database(self) -> Database:
        return self.entrance.database

    async def build(self) -> tuple[_Place, list[tuple[PersonId, Role]]]:
        async with open_unit(self.database, PlatformScope("find the demo")) as unit:
            known = [each for each in await clinics.list_clinics(unit) if each.app_name == APP_NAME]
            people = [await self._person(unit, part) for part in CAST]
            clinic_id = ClinicId(known[0].clinic_id if known else new_id())
            if not known:
                clinic = clinics.Clinic(clinic_id, "Riverside Clinic", APP_NAME, "Europe/Vienna")
                await clinics.found_clinic(unit, clinic)
                for part, person in zip(CAST, people, strict=True):
                    if part.role is not Role.PATIENT:
                        await access.add_membership(unit, clinic_id, person.person_id, part.role)
        admin_id = PersonId(people[2].person_id)
        async with self._as_admin(clinic_id, admin_id) as unit:
            if not await clinics.list_sites(unit):
                await self._furnish(unit, people)
            staff: list[tuple[PersonId, Role]] = [
                (PersonId(person.person_id), part.role)
                for part, person in zip(CAST, people, strict=True)
                if part.role is not Role.PATIENT
            ]
            return await self._survey(unit, clinic_id, admin_id), staff

    async def _person(self, unit: Unit, part: _Role) -> identity.Account:
        account = await identity.find_account(unit, part.email)
        if account is None:
            person = identity.Person(new_id(), part.given_name, part.family_name, None, "en")
            await identity.enrol(unit, person)
            await identity.open_account(unit, person.person_id, part.email, self.password_hash)
            account = await identity.find_account(unit, part.email)
        assert account is not None  # noqa: S101 - it was just opened
        return account

    def _as_admin(self, clinic_id: ClinicId, admin_id: PersonId) -> Opening[Unit]:
        scope = ClinicScope(admin_id, clinic_id, Permission.PATIENTS_CREATE)
        return open_unit(self.database, scope)

    async def _furnish(self, unit: Unit, people: Sequence[identity.Account]) -> None:
        site = clinics.Site(
            new_id(),
            "Riverside, Quay Street",
            "Europe/Vienna",
            "Quay Street 7, 1020 Vienna",
            "https://www.openstreetmap.org/?mlat=48.2150&mlon=16.3870",
            clinics.QueueMode.PRACTITIONER,
        )
        await clinics.open_site(unit, site)
        await clinics.open_point(
            unit,
            clinics.CheckInPoint(
                new_id(),
                site.site_id,
                "Main entrance",
                None,
                clinics.QrMode.STATIC,
                clinics.Verification.NONE,
                1,
                1,
            ),
        )
        doctor = people[0]
        await access.add_practitioner(
            unit, access.Practitioner(new_id(), doctor.person_id, DOCTOR_NAME)
        )
        for part, person in zip(CAST, people, strict=True):
            if part.role is Role.PATIENT:
                await self._admit(unit, part, person)

    async def _admit(self, unit: Unit, part: _Role, person: identity.Account) -> None:
        patient = patients.Patient(
            new_id(), person.person_id, part.given_name, part.family_name, None
        )
        await patients.admit(unit, patient)
        if part.child:
            child = await patients.register(unit, part.child, part.family_name, None)
            await patients.register_dependant(unit, patient, child, patients.Relationship.PARENT)

    async def _survey(self, unit: Unit, clinic_id: ClinicId, admin_id: PersonId) -> _Place:
        sites = await clinics.list_sites(unit)
        points = await clinics.list_points(unit)
        doctors = await access.list_practitioners(unit)
        doctor_id = next(each.practitioner_id for each in doctors if each.name == DOCTOR_NAME)
        site = next(each for each in sites if each.site_id == points[0].site_id)
        return _Place(clinic_id, admin_id, site, points[0], doctor_id)

    async def give_visits(self, place: _Place, part: _Role) -> None:
        """Book whoever has nothing left to check in for, and send those who wait to the door."""
        caller = self.callers.get(part.email) or await self._sign_in(part)
        async with self._as(place, caller) as unit:
            own = await patients.list_own(unit, caller.person_id)
            now = unit.now
            hours = timedelta(hours=1)
            visits = await appointments.list_own(unit, now - 2 * hours, now + hours)
        open_ = {each.patient_id for each in visits if each.status in {"booked", "checked_in"}}
        for patient in own:
            if patient.patient_id not in open_:
                await self._book(place, patient.patient_id, now)
        if part.waits and not any(each.status == "checked_in" for each in visits):
            async with self._as(place, caller) as unit:
                await checkin.scan(unit, self._code(place), everyone=True)

    async def _sign_in(self, part: _Role) -> Caller:
        async with open_unit(self.database, PlatformScope("sign the cast in")) as unit:
            account = await identity.find_account(unit, part.email)
        assert account is not None  # noqa: S101 - the stage is built
        session = await identity.start_session(self.desk, account)
        claims = self.desk.tokens.read(session.access_token) or {}
        caller = Caller(PersonId(account.person_id), SessionId(UUID(claims["sid"])))
        self.callers[part.email] = caller
        return caller

    def _as(self, place: _Place, caller: Caller) -> Opening[Unit]:
        seat = self.entrance.directory.seat_of_self(caller, place.clinic_id, strict=True)
        return open_unit(self.database, PatientScope(caller.person_id, place.clinic_id), seat)

    async def _book(self, place: _Place, patient_id: UUID, now: datetime) -> None:
        """Book the first free slot within the next half hour or the last hour; none is no harm."""
        first = now.replace(second=0, microsecond=0)
        for step in (*range(1, 6), *range(0, -12, -1)):
            starts_at = first + step * STEP
            wish = appointments.Wish(
                patient_id,
                place.doctor_id,
                place.site.site_id,
                "consultation",
                starts_at,
                starts_at + STEP,
            )
            try:
                async with self._as_admin(place.clinic_id, place.admin_id) as unit:
                    await appointments.book(unit, wish)
            except scheduling.SlotTaken:
                continue
            return

    def _code(self, place: _Place) -> checkin.Code:
        point = place.point
        return checkin.Code(
            checkin.CodeKind.PRINTED, place.clinic_id, point.check_in_point_id, point.key_id, 0
        )

    def show(self, place: _Place) -> DemoClinic:
        """Describe the place for the landing page."""
        text = checkin.sign_code(self.entrance.keyring, self._code(place))
        point = DemoPoint(
            place.point.check_in_point_id, place.site.name, place.point.name, f"/c/{text}"
        )
        return DemoClinic(place.clinic_id, "Riverside Clinic", [point])
