"""Use cases of the appointments room. No HTTP and no SQL here."""

from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from cliniq.domains.access import api as access
from cliniq.domains.appointments import store
from cliniq.domains.appointments.errors import AppointmentNotFound, StaleVersion
from cliniq.domains.appointments.events import AppointmentChanged
from cliniq.domains.appointments.models import (
    Appointment,
    AppointmentStatus,
    Change,
    DayFilter,
    HistoryEntry,
    Mark,
    OwnAppointment,
    Page,
    Wish,
)
from cliniq.domains.appointments.rules import (
    TAKES_NO_TIME,
    ensure_may_follow,
    ensure_may_miss,
    ensure_movable,
)
from cliniq.domains.clinics import api as clinics
from cliniq.domains.patients import api as patients
from cliniq.domains.scheduling import api as scheduling
from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import RequestInvalid
from cliniq.platform.cursors import read_cursor, write_cursor
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.events import tell
from cliniq.platform.signing import Keyring

NOWHERE = UUID(int=0)
FAR = timedelta(days=400)


async def book(unit: Unit, wish: Wish) -> Appointment:
    """Book a visit: its patient's and its practitioner's time, or nothing.

    Raises: PATIENT_NOT_FOUND 404, PRACTITIONER_NOT_FOUND 404, SITE_NOT_FOUND 404,
    OUTSIDE_HORIZON 409, SLOT_TAKEN 409.
    """
    appointment = await _wished(unit, wish)
    await scheduling.book(unit, booking_of(appointment), resources_of(appointment))
    return await _add(unit, appointment)


async def _wished(unit: ReadUnit, wish: Wish) -> Appointment:
    await patients.get_patient(unit, wish.patient_id)
    await access.get_practitioner(unit, wish.practitioner_id)
    await clinics.get_site(unit, wish.site_id)
    return Appointment(
        new_id(),
        wish.patient_id,
        wish.practitioner_id,
        wish.site_id,
        wish.visit_type,
        wish.starts_at,
        wish.ends_at,
        AppointmentStatus.BOOKED,
        1,
    )


async def _add(unit: Unit, appointment: Appointment) -> Appointment:
    await store.add(unit, appointment, unit.now, unit.actor_id)
    tell(unit, told_of(appointment, None))
    return appointment


async def get_appointment(unit: ReadUnit, appointment_id: UUID) -> Appointment:
    """Find an appointment in sight.

    Raises: APPOINTMENT_NOT_FOUND 404.
    """
    found = await store.find(unit, appointment_id)
    if found is None:
        raise AppointmentNotFound
    return found


async def reschedule(
    unit: Unit,
    appointment_id: UUID,
    starts_at: datetime,
    ends_at: datetime | None,
    *,
    seen_version: int | None,
    reason: str,
) -> Appointment:
    """Move a visit to another time; id, patient and practitioner stay, and so does its length.

    Raises: APPOINTMENT_NOT_FOUND 404, INVALID_TRANSITION 409, STALE_VERSION 409,
    OUTSIDE_HORIZON 409, SLOT_TAKEN 409.
    """
    await scheduling.hold(unit, appointment_id)
    before = await get_appointment(unit, appointment_id)
    ensure_movable(before.status)
    if seen_version not in {None, before.version}:
        raise StaleVersion
    scheduling.ensure_bookable(unit, starts_at)  # beyond it there is no partition
    ends_at = ends_at or starts_at + (before.ends_at - before.starts_at)
    moved = await _change(unit, before, before.status, reason, (starts_at, ends_at))
    await scheduling.rebook(unit, booking_of(moved), resources_of(moved))
    return moved


async def cancel(unit: Unit, appointment_id: UUID, reason: str) -> Appointment:
    """Call a visit off and free its time.

    Raises: APPOINTMENT_NOT_FOUND 404, INVALID_TRANSITION 409, STALE_VERSION 409.
    """
    await scheduling.hold(unit, appointment_id)
    before = await get_appointment(unit, appointment_id)
    return await transition(unit, before, AppointmentStatus.CANCELLED, reason)


async def miss(unit: Unit, appointment_id: UUID, reason: str) -> Appointment:
    """Say that somebody did not come to a visit, and free its time.

    Raises: APPOINTMENT_NOT_FOUND 404, INVALID_TRANSITION 409, NO_SHOW_TOO_EARLY 409,
    STALE_VERSION 409.
    """
    await scheduling.hold(unit, appointment_id)
    before = await get_appointment(unit, appointment_id)
    ensure_may_miss(before.status, before.starts_at, unit.now)
    return await transition(unit, before, AppointmentStatus.NO_SHOW, reason)


async def receive(unit: Unit, wish: Wish) -> Appointment:
    """Write the visit of somebody who has come without one. It takes nobody's time: they wait.

    Raises: PATIENT_NOT_FOUND 404, PRACTITIONER_NOT_FOUND 404, SITE_NOT_FOUND 404,
    OUTSIDE_HORIZON 409.
    """
    appointment = await _wished(unit, wish)
    await scheduling.note(unit, booking_of(appointment))
    return await _add(unit, appointment)


async def transition(
    unit: Unit, before: Appointment, to: AppointmentStatus, reason: str = ""
) -> Appointment:
    """Take a visit to another state: the only way there is.

    State, history, audit and event are written together; what will not take place frees its time.
    Raises: INVALID_TRANSITION 409; STALE_VERSION 409 where a rival changed the visit meanwhile.
    """
    ensure_may_follow(before.status, to)
    after = await _change(unit, before, to, reason, (before.starts_at, before.ends_at))
    if to in TAKES_NO_TIME:
        await scheduling.release(unit, before.appointment_id)
    return after


async def _change(
    unit: Unit,
    before: Appointment,
    to: AppointmentStatus,
    reason: str,
    times: tuple[datetime, datetime],
) -> Appointment:
    step = Change(
        before.appointment_id,
        before.starts_at,
        before.version,
        to,
        *times,
        unit.now,
        unit.actor_id,
        reason,
    )
    after = await store.change(unit, step, before.status)
    if after is None:
        raise StaleVersion
    tell(unit, told_of(after, before.status))
    return after


async def list_history(unit: ReadUnit, appointment_id: UUID) -> list[HistoryEntry]:
    """List what became of a visit.

    Raises: APPOINTMENT_NOT_FOUND 404.
    """
    await get_appointment(unit, appointment_id)
    return await store.list_history(unit, appointment_id)


async def list_day(
    unit: ReadUnit, keyring: Keyring, wanted: DayFilter, limit: int, cursor: str | None
) -> Page:
    """List the visits of a site, a practitioner or a patient, by default of today there.

    A day is the site's own; a practitioner's or patient's is cut in UTC, or all without one.
    Raises: REQUEST_INVALID 422 without exactly one of the three, or for a strange cursor;
    SITE_NOT_FOUND 404, PRACTITIONER_NOT_FOUND 404, PATIENT_NOT_FOUND 404.
    """
    named = [wanted.site_id, wanted.practitioner_id, wanted.patient_id]
    if sum(each is not None for each in named) != 1:
        raise RequestInvalid(errors=["query: one of site_id, practitioner_id, patient_id"])
    if wanted.practitioner_id is not None:
        await access.get_practitioner(unit, wanted.practitioner_id)
    if wanted.patient_id is not None:
        await patients.get_patient(unit, wanted.patient_id)
    from_at, to_at = await _bounds(unit, wanted)
    after = read_cursor(keyring, unit.scope, "appointments", cursor, Mark)
    mark = after or Mark(from_at, NOWHERE)
    rest = (from_at, to_at, mark.starts_at, mark.appointment_id, wanted.status, limit + 1)
    if wanted.site_id is not None:
        found = await store.list_of_site(unit, wanted.site_id, *rest)
    elif wanted.practitioner_id is not None:
        found = await store.list_of_practitioner(unit, wanted.practitioner_id, *rest)
    else:
        assert wanted.patient_id is not None  # noqa: S101 - one of three is named
        found = await store.list_of_patient(unit, wanted.patient_id, *rest)
    if len(found) <= limit:
        return Page(found, None)
    last = found[limit - 1]
    mark = Mark(last.starts_at, last.appointment_id)
    return Page(found[:limit], write_cursor(keyring, unit.scope, "appointments", mark))


async def _bounds(unit: ReadUnit, wanted: DayFilter) -> tuple[datetime, datetime]:
    if wanted.site_id is not None:
        zone = ZoneInfo((await clinics.get_site(unit, wanted.site_id)).zone)
        return bounds_of_day(wanted.day or unit.now.astimezone(zone).date(), zone)
    if wanted.day is not None:
        return bounds_of_day(wanted.day, ZoneInfo("UTC"))
    return unit.now - FAR, unit.now + FAR


def bounds_of_day(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Say when a local day begins and ends (UTC); 23 or 25 hours where the clock changes."""
    first = datetime.combine(day, time(), zone)
    last = datetime.combine(day + timedelta(days=1), time(), zone)
    return first.astimezone(UTC), last.astimezone(UTC)


async def list_mine(unit: ReadUnit, limit: int) -> list[OwnAppointment]:
    """List the visits of the caller and their dependants, from yesterday on, earliest first."""
    return await store.list_everywhere(unit, unit.now - timedelta(days=1), unit.now + FAR, limit)


def booking_of(appointment: Appointment) -> scheduling.Booking:
    """Say whose time a visit takes, and which."""
    return scheduling.Booking(
        appointment.appointment_id,
        appointment.patient_id,
        appointment.starts_at,
        appointment.ends_at,
    )


def resources_of(appointment: Appointment) -> list[scheduling.Resource]:
    """Say who is busy during a visit."""
    kinds = scheduling.ResourceKind
    return [
        scheduling.Resource(appointment.practitioner_id, kinds.PRACTITIONER, None),
        scheduling.Resource(appointment.patient_id, kinds.PATIENT, appointment.patient_id),
    ]


def told_of(after: Appointment, before: AppointmentStatus | None) -> AppointmentChanged:
    """Write the fact of a visit's step; from nothing, of a new visit."""
    return AppointmentChanged(
        after.appointment_id,
        after.patient_id,
        after.practitioner_id,
        after.site_id,
        after.starts_at,
        before,
        after.status,
        after.version,
    )
