"""A clinic with enough going on in it that a stranger finds things in every state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

from typing_extensions import override

from cliniq.app import House
from cliniq.domains.appointments import api as appointments
from cliniq.domains.checkin import api as checkin
from cliniq.domains.checkin.service import exchange
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

    `words`: by the name of a parameter or a property, real values for it.
    """

    clinic: SomeClinic
    staff: Mapping[Role, Someone]
    parents: list[Someone] = field(default_factory=list)
    leavers: list[Someone] = field(default_factory=list)  # each may sign out, once
    words: dict[str, list[str]] = field(default_factory=dict)


async def settle(house: House) -> Town:
    """Build a town: families with visits now and later, of whom half wait and some are seen."""
    clinic = await found_clinic(house)
    staff = {role: await clinic.member(role) for role in STAFF}
    town = Town(clinic, staff, leavers=[await sign_up(house) for _ in range(LEAVERS)])
    doctors = [clinic.practitioner_id]
    slots = [FIRST + number * SLOT for number in range(SLOTS)]
    while len(doctors) * SLOTS < FAMILIES * (1 + CHILDREN):
        doctors.append(await clinic.practitioner())
    free = [(doctor, slot) for doctor in doctors for slot in slots]
    visits: list[appointments.Appointment] = []
    people: list[SomePatient] = []
    for _ in range(FAMILIES):
        someone, patient = await clinic.signed_in_patient()
        town.parents.append(someone)
        for each in [patient, *[await clinic.dependant(someone) for _ in range(CHILDREN)]]:
            people.append(each)
            doctor, slot = free.pop()
            for day in (0, 2):
                at = NOON + slot + timedelta(days=day)
                visits.append(await clinic.book(each, at, minutes=10, practitioner_id=doctor))
    waiting = await _arrive(town, town.parents[::2])
    town.words = {
        "patient_id": [str(each.patient_id) for each in people],
        "practitioner_id": list(map(str, doctors)),
        "site_id": [str(clinic.site.site_id)],
        "location_id": [str(clinic.point.check_in_point_id)],
        "appointment_id": [str(each.appointment_id) for each in visits],
        "entry_id": [str(each.entry_id) for each in waiting],
        "queue_id": sorted({str(each.queue_id) for each in waiting}),
        "X-Clinic-Id": [str(clinic.clinic_id)],
        "starts_at": [(NOON + timedelta(days=4, minutes=15 * n)).isoformat() for n in range(40)],
        "day": [NOON.date().isoformat()],
        "on_day": [NOON.date().isoformat()],
        **await _proofs(house, clinic, town),
    }
    return town


async def _arrive(town: Town, parents: Sequence[Someone]) -> list[queue.Place]:
    """Have families wait; the first ones are called, and one is being seen."""
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


async def _proofs(house: House, clinic: SomeClinic, town: Town) -> dict[str, list[str]]:
    """Make what only somebody has who was given it: codes, tokens, links, passwords."""
    printed = clinic.code()
    name = new_name(clinic.clinic_id, "letter", suffix="txt")
    await house.entrance.storage.put(name, b"Dear reader")
    link = await house.entrance.storage.link(name, LONGEST_LINK)
    return {
        "code": [printed, *sorted(kind.code for kind in all_problems())],
        "token": [link.rpartition("/")[2]],
        "email": [each.email for each in (*town.staff.values(), *town.parents)],
        "password": [PASSWORD],
        "refresh_token": [(await sign_up(house)).refresh_token for _ in range(EXAMPLES)],
        **await _pass(house, printed),
    }


async def _pass(house: House, code: str) -> dict[str, list[str]]:
    """Exchange a code as a phone does."""
    hashed = checkin.hash_secret(SECRET_OF_PAGE)
    sold = await exchange(house.entrance.database, house.entrance.keyring, code, hashed)
    return {
        "scan_pass": [sold.scan_pass],
        "scan_secret": [SECRET_OF_PAGE],
        "secret_hash": [hashed],
    }
