"""Use cases of the appointments room. No HTTP and no SQL here."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from cliniq.domains.access import api as access
from cliniq.domains.appointments import store
from cliniq.domains.appointments.errors import AppointmentNotFound, StaleVersion
from cliniq.domains.appointments.events import AppointmentChanged
from cliniq.domains.appointments.models import (
    Appointment,
    AppointmentColumns,
    AppointmentStatus,
    Change,
    DayFilter,
    HistoryEntry,
    Imported,
    Mark,
    OwnAppointment,
    Page,
    Recorded,
    Step,
    StepColumns,
    Wish,
)
from cliniq.domains.appointments.rules import (
    AT_ONCE,
    TAKES_NO_TIME,
    ensure_may_follow,
    ensure_may_miss,
    ensure_movable,
    is_sound,
    list_steps,
    month_of,
)
from cliniq.domains.clinics import api as clinics
from cliniq.domains.patients import api as patients
from cliniq.domains.scheduling import api as scheduling
from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import Problem, RequestInvalid
from cliniq.platform.cursors import read_cursor, write_cursor
from cliniq.platform.db import Database, ReadUnit, Unit
from cliniq.platform.events import tell
from cliniq.platform.signing import Keyring
from cliniq.platform.upkeep import open_months

NOWHERE = UUID(int=0)
FAR = timedelta(days=400)


async def book(unit: Unit, wish: Wish) -> Appointment:
    """Book a visit: its patient's and its practitioner's time, or nothing.

    Raises: PATIENT_NOT_FOUND 404, PRACTITIONER_NOT_FOUND 404, SITE_NOT_FOUND 404,
    OUTSIDE_HORIZON 409, SLOT_TAKEN 409.
    """
    appointment = await _wished(unit, wish)
    await scheduling.book(unit, _booking(appointment), _resources(appointment))
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
    tell(unit, _changed(appointment, None))
    return appointment


async def book_all(unit: Unit, visits: Sequence[Imported]) -> list[Recorded]:
    """Write visits that come from elsewhere, with what became of them there; answer in order.

    A conflict of time is decided as if they were booked one after the other; of what is refused
    nothing is left. Whose reference is known stays as it is; of one that is there twice, the
    second gets the answer of the first. Cancelled and missed visits take no time. The past is open
    as far as there are partitions: `open_for` makes them.
    Told: AppointmentChanged once for each, from nothing to where it stands. The history holds when
    it was booked, and its outcome.
    Bounds: 5,000 a call, in as many statements as for one (but see `scheduling.book_all`); texts
    without NUL.
    Locks: as `scheduling.book_all`; of two who bring one reference, the second waits.
    Answers with the codes PATIENT_NOT_FOUND, PRACTITIONER_NOT_FOUND, SITE_NOT_FOUND,
    OUTSIDE_HORIZON, SLOT_TAKEN; REQUEST_INVALID for what does not end after it starts, or takes
    more than a day, or is in a state that only a clinic's own day can bring about.
    """
    if len(visits) > AT_ONCE:
        raise ValueError(f"more than {AT_ONCE} visits in one call")
    references = {each.reference: None for each in visits if each.reference is not None}
    known = await _known(unit, list(references))
    first: dict[str | None, int] = {}
    answers: dict[int, Recorded] = {}
    fresh: dict[int, Imported] = {}
    for place, each in enumerate(visits):
        if each.reference in known:
            answers[place] = Recorded(known[each.reference], None, known=True)
        elif each.reference is None or first.setdefault(each.reference, place) == place:
            fresh[place] = each
    if fresh:
        answers |= await _record(unit, fresh)
    for place, each in enumerate(visits):
        if place not in answers:  # its reference was there before
            found = answers[first[each.reference]]
            answers[place] = replace(found, known=found.appointment_id is not None)
    return [answers[place] for place in range(len(visits))]


async def _known(unit: ReadUnit, references: list[str]) -> dict[str | None, UUID]:
    if not references:
        return {}
    found = await store.list_referenced(unit, references)
    return {each.reference: each.appointment_id for each in found}


async def _record(unit: Unit, fresh: Mapping[int, Imported]) -> dict[int, Recorded]:
    """Judge visits, claim their names and their time, and write those that got both."""
    steps = {place: list_steps(each, unit.now) for place, each in fresh.items()}
    answers = await _judge(unit, fresh, steps)
    trying = {
        place: _imported(each, len(steps[place]))
        for place, each in fresh.items()
        if place not in answers
    }
    answers |= await _claim_references(unit, fresh, trying)
    trying = {place: each for place, each in trying.items() if place not in answers}
    booked = await scheduling.book_all(
        unit,
        [
            scheduling.Want(
                _booking(each), () if each.status in TAKES_NO_TIME else tuple(_resources(each))
            )
            for each in trying.values()
        ],
    )
    lost = [each.appointment_id for each in trying.values() if each.appointment_id not in booked]
    if lost:
        await store.drop_references(unit, lost)
    written = {place: each for place, each in trying.items() if each.appointment_id in booked}
    if written:
        await _write_all(unit, written, steps)
    for place, each in trying.items():
        answers[place] = (
            Recorded(each.appointment_id, None)
            if place in written
            else Recorded(None, scheduling.SlotTaken.code)
        )
    return answers


async def _judge(
    unit: ReadUnit, fresh: Mapping[int, Imported], steps: Mapping[int, Sequence[Step]]
) -> dict[int, Recorded]:
    """Refuse visits that cannot be, of whom or what is not here, or on days without partitions."""
    wanted = fresh.values()
    here = set(await patients.list_known(unit, list({each.patient_id for each in wanted})))
    doctors = list({each.practitioner_id for each in wanted})
    here |= {each.practitioner_id for each in await access.find_practitioners(unit, doctors)}
    sites = await clinics.find_sites(unit, {each.site_id for each in wanted})
    here |= {each.site_id for each in sites}
    months = {month_of(each.starts_at) for each in wanted}
    months |= {month_of(step.changed_at) for each in steps.values() for step in each}
    found = await store.list_open_months(unit, list(months))
    takes_visits = {each.month for each in found if each.takes_visits}
    takes_steps = {each.month for each in found if each.takes_steps}
    answers = {}
    for place, each in fresh.items():
        fits = month_of(each.starts_at) in takes_visits and all(
            month_of(step.changed_at) in takes_steps for step in steps[place]
        )
        if refusal := _refusal(each, here, fits=fits):
            answers[place] = Recorded(None, refusal.code)
    return answers


def _refusal(visit: Imported, here: Collection[UUID], *, fits: bool) -> type[Problem] | None:
    judged = {
        RequestInvalid: is_sound(visit),
        patients.PatientNotFound: visit.patient_id in here,
        access.PractitionerNotFound: visit.practitioner_id in here,
        clinics.SiteNotFound: visit.site_id in here,
        scheduling.OutsideHorizon: fits,
    }
    return next((refusal for refusal, holds in judged.items() if not holds), None)


def _imported(visit: Imported, version: int) -> Appointment:
    return Appointment(
        new_id(),
        visit.patient_id,
        visit.practitioner_id,
        visit.site_id,
        visit.visit_type,
        visit.starts_at,
        visit.ends_at,
        visit.status,
        version,
    )


async def _claim_references(
    unit: Unit, fresh: Mapping[int, Imported], trying: Mapping[int, Appointment]
) -> dict[int, Recorded]:
    """Call visits by their names; answer for those whom a rival has written meanwhile."""
    named = {
        reference: place for place in trying if (reference := fresh[place].reference) is not None
    }
    if not named:
        return {}
    references = sorted(named)  # one order for all
    ids = [trying[named[each]].appointment_id for each in references]
    added = await store.add_references(unit, references, ids)
    if len(added) == len(references):
        return {}
    theirs = await _known(unit, list(named.keys() - {each.reference for each in added}))
    return {
        named[reference]: Recorded(found, None, known=True)
        for reference, found in theirs.items()
        if reference is not None
    }


async def _write_all(
    unit: Unit, visits: Mapping[int, Appointment], steps: Mapping[int, Sequence[Step]]
) -> None:
    """Write visits whose time is booked, their history, and tell of each."""
    wanted = list(visits.values())
    await store.add_all(
        unit,
        AppointmentColumns(
            [each.appointment_id for each in wanted],
            [each.patient_id for each in wanted],
            [each.practitioner_id for each in wanted],
            [each.site_id for each in wanted],
            [each.visit_type for each in wanted],
            [each.starts_at for each in wanted],
            [each.ends_at for each in wanted],
            [each.status for each in wanted],
            [each.version for each in wanted],
        ),
    )
    taken = [(each, step) for place, each in visits.items() for step in steps[place]]
    await store.add_steps(
        unit,
        StepColumns(
            [each.appointment_id for each, _ in taken],
            [each.patient_id for each, _ in taken],
            [step.version for _, step in taken],
            [step.changed_at for _, step in taken],
            [step.from_status for _, step in taken],
            [step.to_status for _, step in taken],
            [each.starts_at for each, _ in taken],
        ),
        unit.actor_id,
    )
    for each in wanted:
        tell(unit, _changed(each, None))


async def open_for(database: Database, earliest: date, latest: date) -> list[str]:
    """Open the partitions that imported visits need, month by month; return the new ones.

    To be asked first, outside of any unit, from the earliest day on which one was booked to the
    latest on which one starts. No further ahead than anybody may book, and not before 1990: what
    lies beyond is refused as it is written. Idempotent.
    Raises: DEPENDENCY_UNAVAILABLE 503 where a table stays busy.
    """
    horizon = (database.clocks.clinic() + scheduling.AHEAD).date()
    return await open_months(database, earliest, min(latest, horizon))


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
    await scheduling.rebook(unit, _booking(moved), _resources(moved))
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
    await scheduling.note(unit, _booking(appointment))
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
    tell(unit, _changed(after, before.status))
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


def _booking(appointment: Appointment) -> scheduling.Booking:
    return scheduling.Booking(
        appointment.appointment_id,
        appointment.patient_id,
        appointment.starts_at,
        appointment.ends_at,
    )


def _resources(appointment: Appointment) -> list[scheduling.Resource]:
    kinds = scheduling.ResourceKind
    return [
        scheduling.Resource(appointment.practitioner_id, kinds.PRACTITIONER, None),
        scheduling.Resource(appointment.patient_id, kinds.PATIENT, appointment.patient_id),
    ]


def _changed(after: Appointment, before: AppointmentStatus | None) -> AppointmentChanged:
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
