"""A clinic with enough going on in it that a stranger finds things in every state."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from typing_extensions import override

from cliniq.app import House
from cliniq.domains.appointments import api as appointments
from cliniq.domains.checkin import api as checkin
from cliniq.domains.checkin.codes import exchange
from cliniq.domains.intake.models import ImportKind, StoredFile
from cliniq.domains.intake.service import keep_file
from cliniq.domains.queue import api as queue
from cliniq.kernel.permissions import Permission, Role
from cliniq.platform.http.system import all_problems
from cliniq.platform.limits import Hit, Limits
from cliniq.platform.storage import LONGEST_LINK, new_name
from tests.fuzz.sizes import EXAMPLES, FAMILIES
from tests.platform.wire import STAFF
from tests.support import NOON, PASSWORD, SomeClinic, Someone, SomePatient, found_clinic, sign_up

CHILDREN = 3
LEAVERS = 2 * EXAMPLES + 20
SLOT = timedelta(minutes=10)
FIRST, SLOTS = timedelta(minutes=-110), 14  # of a doctor, all within the window of noon
OTHERS = FAMILIES * (1 + CHILDREN) // SLOTS  # doctors, so that there is a time for everybody
SECRET_OF_PAGE = "a secret that the page keeps"  # noqa: S105


class Boundless(Limits):
    """Whoever tries everything is not to hear mostly that they try too much."""

    @override
    async def hit_all(self, hits: Sequence[Hit], *, surely: bool = False) -> None:
        """Let everybody through."""


def unlimited(house: House) -> House:
    """Take the limits off a house."""
    limits = Boundless()
    return replace(
        house,
        entrance=replace(house.entrance, limits=limits),
        desk=replace(house.desk, limits=limits),
    )


@dataclass
class Town:
    """A clinic, who can ask in it, and the words that mean something in it.

    `words`: by the name of a parameter or a property, real values for it. `proofs`: what nobody
    hits upon, by the name under which a body holds it.
    """

    clinic: SomeClinic
    staff: Mapping[Role, Someone]
    doctors: list[UUID]
    leavers: list[Someone]  # each may sign out, once
    parents: list[Someone] = field(default_factory=list)
    people: list[SomePatient] = field(default_factory=list)
    visits: list[appointments.Appointment] = field(default_factory=list)
    words: dict[str, list[str]] = field(default_factory=dict)
    proofs: dict[str, list[str]] = field(default_factory=dict)

    def slots(self) -> Iterator[tuple[UUID, datetime]]:
        """Go over the times of all doctors."""
        for doctor in self.doctors:
            for number in range(SLOTS):
                yield doctor, NOON + FIRST + number * SLOT


async def settle(house: House) -> Town:
    """Build a town: families with visits now and later, of whom half wait and some are seen."""
    clinic = await found_clinic(house)
    staff = {role: await clinic.member(role) for role in STAFF}
    doctors = [clinic.practitioner_id, *[await clinic.practitioner() for _ in range(OTHERS)]]
    town = Town(clinic, staff, doctors, [await sign_up(house) for _ in range(LEAVERS)])
    slots = town.slots()
    for _ in range(FAMILIES):
        await _move_in(town, slots)
    waiting = await _arrive(town, town.parents[::2])
    town.words = {
        "patient_id": [str(each.patient_id) for each in town.people],
        "practitioner_id": list(map(str, doctors)),
        "site_id": [str(clinic.site.site_id)],
        "location_id": [str(clinic.point.check_in_point_id)],
        "appointment_id": [str(each.appointment_id) for each in town.visits],
        "entry_id": [str(each.entry_id) for each in waiting],
        "queue_id": sorted({str(each.queue_id) for each in waiting}),
        "import_id": [await _import(clinic)],
        "X-Clinic-Id": [str(clinic.clinic_id)],
        "starts_at": [(NOON + timedelta(days=4, minutes=15 * n)).isoformat() for n in range(40)],
        "day": [NOON.date().isoformat()],
        "on_day": [NOON.date().isoformat()],
        "code": sorted(kind.code for kind in all_problems()),
        "token": [await _link(house, clinic)],
        "email": [each.email for each in (*staff.values(), *town.parents)],
        "password": [PASSWORD],
        "refresh_token": [(await sign_up(house)).refresh_token for _ in range(EXAMPLES)],
        "secret_hash": [checkin.hash_secret(SECRET_OF_PAGE)],
    }
    town.proofs = await _proofs(house, clinic)
    return town


async def _move_in(town: Town, slots: Iterator[tuple[UUID, datetime]]) -> None:
    """Add a family, each with a visit now and another in two days."""
    clinic = town.clinic
    parent, patient = await clinic.signed_in_patient()
    town.parents.append(parent)
    for each in [patient, *[await clinic.dependant(parent) for _ in range(CHILDREN)]]:
        town.people.append(each)
        doctor, at = next(slots)
        for day in (timedelta(), timedelta(days=2)):
            town.visits.append(
                await clinic.book(each, at + day, minutes=10, practitioner_id=doctor)
            )


async def _arrive(town: Town, parents: Sequence[Someone]) -> list[queue.Place]:
    """Have families wait; in each line two are called, and one of them is being seen."""
    clinic, point = town.clinic, town.clinic.point
    code = checkin.Code(
        checkin.CodeKind.PRINTED, clinic.clinic_id, point.check_in_point_id, point.key_id, 0
    )
    told: list[UUID] = []
    for parent in parents:
        async with clinic.own_unit(parent) as unit:
            scanned = await checkin.scan(unit, code, everyone=True)
            told += [each.appointment_id for each in scanned.check_ins]
    async with clinic.unit(Permission.QUEUE_CALL) as unit:
        places = await queue.list_places_of(unit, told)
        for queue_id in {each.queue_id for each in places}:
            called = [await queue.call_next(unit, queue_id, None) for _ in range(2)]
            await queue.start(unit, called[0].entry_id)
    return places


async def _import(clinic: SomeClinic) -> str:
    """Begin an import, which nobody goes on with."""
    file = StoredFile("people.csv", "{}", b"given_name,family_name\nAnn,Tester\n")
    async with clinic.unit(Permission.PATIENTS_IMPORT) as unit:
        run = await keep_file(unit, ImportKind.PATIENTS, file)
    return str(run.import_id)


async def _link(house: House, clinic: SomeClinic) -> str:
    """Keep a file, and sign a link to it."""
    name = new_name(clinic.clinic_id, "letter", suffix="txt")
    await house.entrance.storage.put(name, b"Dear reader")
    link = await house.entrance.storage.link(name, LONGEST_LINK)
    return link.rpartition("/")[2]


async def _proofs(house: House, clinic: SomeClinic) -> dict[str, list[str]]:
    """Read the code at the door, and exchange it, as a phone does."""
    code, entrance = clinic.code(), house.entrance
    hashed = checkin.hash_secret(SECRET_OF_PAGE)
    sold = await exchange(entrance.database, entrance.keyring, code, hashed)
    return {"code": [code], "scan_pass": [sold.scan_pass], "scan_secret": [SECRET_OF_PAGE]}
