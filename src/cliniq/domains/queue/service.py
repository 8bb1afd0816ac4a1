"""Use cases of the queue room. No HTTP and no SQL here."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from cliniq.domains.access import api as access
from cliniq.domains.appointments import api as appointments
from cliniq.domains.clinics import api as clinics
from cliniq.domains.patients import api as patients
from cliniq.domains.queue import store
from cliniq.domains.queue.errors import EntryNotFound, QueueEmpty, QueueNotFound, QueueOver
from cliniq.domains.queue.events import (
    EntryCalled,
    EntryCompleted,
    EntryJoined,
    EntryLeft,
    EntryStarted,
)
from cliniq.domains.queue.models import (
    Arrival,
    CalledEntry,
    Entry,
    EntryAtDesk,
    EntryStatus,
    Line,
    MyPlace,
    Place,
    QueueHead,
    QueueSnapshot,
    Ticket,
)
from cliniq.domains.queue.rules import FOLLOWS, draw_board, ensure_may_follow
from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import InvalidTransition
from cliniq.kernel.scope import ClinicScope
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.events import tell
from cliniq.platform.live import Snapshot

DAY = timedelta(days=1)


async def join(unit: Unit, arrivals: Sequence[Arrival]) -> dict[UUID, Place]:
    """Let people wait; answer with their places by appointment. The caller sees to "only once".

    In one line whoever is due first joins first, so that none of them pushes another's place back.
    Locks: each line's roll until COMMIT, in one order for all, so that two families never deadlock.
    """
    places: dict[UUID, Place] = {}
    in_order = lambda each: (  # noqa: E731
        each.line.site_id,
        each.line.line_id,
        each.line.on_day,
        each.due_at,
    )
    for arrival in sorted(arrivals, key=in_order):
        ticket = await _enter(unit, arrival)
        position = await store.count_ahead(unit, ticket.entry_id) + 1
        tell(
            unit,
            EntryJoined(ticket.queue_id, ticket.entry_id, ticket.ticket, ticket.version, position),
        )
        places[arrival.appointment_id] = _place(unit, arrival, ticket, position)
    return places


async def _enter(unit: Unit, arrival: Arrival) -> Ticket:
    wait = (
        new_id(),
        arrival.appointment_id,
        arrival.patient_id,
        arrival.due_at,
        unit.now,
    )
    ticket = await store.enter(unit, arrival.line, *wait)
    if ticket is None:
        name = await _name_line(unit, arrival.line, arrival.practitioner_id)
        await store.open_line(unit, new_id(), arrival.line, name)
        ticket = await store.enter(unit, arrival.line, *wait)
    assert ticket is not None  # noqa: S101 - the line is open now, and lines do not close
    return ticket


async def _name_line(unit: Unit, line: Line, practitioner_id: UUID) -> str:
    if line.line_id == line.site_id:
        return (await clinics.get_site(unit, line.site_id)).name
    return (await access.get_practitioner(unit, practitioner_id)).name


def line_of(site: clinics.Site, practitioner_id: UUID, at: datetime) -> Line:
    """Say in which line somebody waits who sees a practitioner at a site on an instant's day."""
    pooled = site.queue_mode is clinics.QueueMode.POOL
    on_day = at.astimezone(ZoneInfo(site.zone)).date()
    return Line(site.site_id, site.site_id if pooled else practitioner_id, on_day)


async def open_today(unit: Unit, site_id: UUID, practitioner_id: UUID | None) -> QueueHead:
    """Open today's queue before anybody waits in it, so that a walk-in may be the first.

    Idempotent: a queue that is open is the answer.
    Raises: SITE_NOT_FOUND 404; PRACTITIONER_NOT_FOUND 404, also where a site without a pool is
    not told whose queue it is.
    """
    site = await clinics.get_site(unit, site_id)
    if practitioner_id is None and site.queue_mode is not clinics.QueueMode.POOL:
        raise access.PractitionerNotFound
    line = line_of(site, practitioner_id or site_id, unit.now)
    name = await _name_line(unit, line, line.line_id)
    await store.open_line(unit, new_id(), line, name)
    head = await store.find_line(unit, line)
    assert head is not None  # noqa: S101 - opened above, and lines do not close
    return head


async def get_todays(unit: ReadUnit, queue_id: UUID) -> QueueHead:
    """Find a queue that people may join now.

    Raises: QUEUE_NOT_FOUND 404, QUEUE_OVER 409.
    """
    head = await store.find_head(unit, queue_id)
    if head is None:
        raise QueueNotFound
    site = await clinics.get_site(unit, head.site_id)
    if head.on_day != unit.now.astimezone(ZoneInfo(site.zone)).date():
        raise QueueOver
    return head


def _place(unit: Unit, arrival: Arrival, ticket: Ticket, position: int) -> Place:
    return Place(
        unit.clinic_id,
        ticket.queue_id,
        ticket.entry_id,
        arrival.appointment_id,
        arrival.patient_id,
        ticket.ticket,
        EntryStatus.WAITING,
        position,
        None,
        ticket.line_name,
    )


async def call_next(unit: Unit, queue_id: UUID, room: str | None) -> CalledEntry:
    """Call whoever is next.

    Two callers never get one ticket.
    Raises: QUEUE_NOT_FOUND 404, QUEUE_EMPTY 409.
    """
    entry = await store.call_first(unit, queue_id, unit.now, room)
    if entry is None:
        if await store.find_head(unit, queue_id) is None:
            raise QueueNotFound
        raise QueueEmpty
    patient = await patients.get_patient(unit, entry.patient_id)
    version = await store.bump(unit, queue_id)
    tell(unit, EntryCalled(queue_id, entry.entry_id, entry.ticket, version, entry.room))
    return CalledEntry(
        entry.entry_id,
        entry.queue_id,
        entry.ticket,
        entry.appointment_id,
        entry.patient_id,
        _name(patient),
        entry.status,
        entry.room,
    )


async def start(unit: Unit, entry_id: UUID) -> Entry:
    """Say that somebody who was called is being seen.

    Raises: QUEUE_ENTRY_NOT_FOUND 404, INVALID_TRANSITION 409, STALE_VERSION 409.
    """
    entry = await _step(
        unit, entry_id, EntryStatus.IN_PROGRESS, appointments.AppointmentStatus.IN_PROGRESS
    )
    version = await store.bump(unit, entry.queue_id)
    tell(unit, EntryStarted(entry.queue_id, entry.entry_id, entry.ticket, version))
    return entry


async def complete(unit: Unit, entry_id: UUID) -> Entry:
    """Say that somebody has been seen.

    Raises: QUEUE_ENTRY_NOT_FOUND 404, INVALID_TRANSITION 409, STALE_VERSION 409.
    """
    entry = await _step(
        unit, entry_id, EntryStatus.COMPLETED, appointments.AppointmentStatus.COMPLETED
    )
    version = await store.bump(unit, entry.queue_id)
    tell(unit, EntryCompleted(entry.queue_id, entry.entry_id, entry.ticket, version))
    return entry


async def miss(unit: Unit, entry_id: UUID) -> Entry:
    """Say that somebody who was called did not come.

    Raises: QUEUE_ENTRY_NOT_FOUND 404, INVALID_TRANSITION 409, STALE_VERSION 409.
    """
    entry = await _step(unit, entry_id, EntryStatus.NO_SHOW, appointments.AppointmentStatus.NO_SHOW)
    version = await store.bump(unit, entry.queue_id)
    tell(
        unit,
        EntryLeft(entry.queue_id, entry.entry_id, entry.ticket, version, entry.status),
    )
    return entry


async def _step(
    unit: Unit, entry_id: UUID, to: EntryStatus, visit_to: appointments.AppointmentStatus
) -> Entry:
    before = await store.lock_entry(unit, entry_id)
    if before is None:
        status = await store.find_status(unit, entry_id)
        if status is None:
            raise EntryNotFound
        raise InvalidTransition(status, to, FOLLOWS[status])
    ensure_may_follow(before.status, to)
    visit = await appointments.get_appointment(unit, before.appointment_id)
    await appointments.transition(unit, visit, visit_to)
    return await store.step(unit, entry_id, to, unit.now)


async def list_queues(unit: ReadUnit, site_id: UUID | None, on_day: date | None) -> list[QueueHead]:
    """List a day's queues; without a day, of today as each site's zone has it.

    Raises: SITE_NOT_FOUND 404.
    """
    if site_id is not None:
        sites = [await clinics.get_site(unit, site_id)]
    else:
        sites = list(await clinics.list_sites(unit))
    todays = {
        site.site_id: on_day or unit.now.astimezone(ZoneInfo(site.zone)).date() for site in sites
    }
    heads = await store.list_heads(unit, list(set(todays.values())), site_id)
    return [head for head in heads if todays[head.site_id] == head.on_day]


async def take_snapshot(unit: ReadUnit, queue_id: UUID) -> QueueSnapshot:
    """Read a queue with everyone in it, for staff.

    Raises: QUEUE_NOT_FOUND 404.
    """
    head = await store.find_head(unit, queue_id)
    if head is None:
        raise QueueNotFound
    entries = await store.list_entries(unit, queue_id)
    people = await patients.find_patients(unit, [each.patient_id for each in entries])
    names = {each.patient_id: _name(each) for each in people}
    return QueueSnapshot(
        head.queue_id,
        head.site_id,
        head.line_id,
        head.line_name,
        head.on_day,
        head.version,
        [_at_desk(each, names[each.patient_id]) for each in entries],
    )


def _at_desk(entry: Entry, patient_name: str) -> EntryAtDesk:
    return EntryAtDesk(
        entry.entry_id,
        entry.ticket,
        entry.appointment_id,
        entry.patient_id,
        patient_name,
        entry.status,
        entry.priority,
        entry.due_at,
        entry.entered_at,
        entry.called_at,
        entry.room,
    )


def _name(patient: patients.Patient) -> str:
    return f"{patient.given_name} {patient.family_name}"


async def watch_board(unit: ReadUnit, queue_id: UUID) -> Snapshot:
    """Read a queue's tickets and the version at which they stand so.

    A patient watches only a queue in which they have a place.
    Raises: QUEUE_NOT_FOUND 404.
    """
    head = await _find_watched(unit, queue_id)
    return Snapshot(head.version, draw_board(head, await store.list_board(unit, queue_id)))


async def read_board_version(unit: ReadUnit, queue_id: UUID) -> int:
    """Read how far a queue is, for those who may watch it.

    Raises: QUEUE_NOT_FOUND 404.
    """
    return (await _find_watched(unit, queue_id)).version


async def _find_watched(unit: ReadUnit, queue_id: UUID) -> QueueHead:
    head = await store.find_head(unit, queue_id)
    is_staff = isinstance(unit.scope, ClinicScope)
    if head is None or not (is_staff or await store.sees_anyone_in(unit, queue_id)):
        raise QueueNotFound
    return head


async def get_place(unit: ReadUnit, queue_id: UUID, entry_id: UUID) -> Place:
    """Read a place in a queue.

    Raises: QUEUE_ENTRY_NOT_FOUND 404.
    """
    place = await store.find_place(unit, queue_id, entry_id)
    if place is None:
        raise EntryNotFound
    return place


async def list_my_places(unit: ReadUnit) -> list[MyPlace]:
    """List the open places of the caller and their dependants in all clinics."""
    places = await store.list_own_places(unit, unit.now.date() - DAY)
    if not places:
        return []
    own = {each.patient_id: each for each in await patients.list_own(unit, unit.person_id)}
    names = {each.clinic_id: each.name for each in await clinics.list_clinics(unit)}
    return [
        MyPlace(
            place.clinic_id,
            names[place.clinic_id],
            place.queue_id,
            place.entry_id,
            place.appointment_id,
            place.patient_id,
            own[place.patient_id].given_name,
            own[place.patient_id].whose,
            place.ticket,
            place.status,
            place.position,
            place.room,
            place.line_name,
        )
        for place in places
    ]
