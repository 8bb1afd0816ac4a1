"""Use cases of the check-in room. No HTTP and no SQL here."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from cliniq.domains.access import api as access
from cliniq.domains.appointments import api as appointments
from cliniq.domains.checkin import codes, store
from cliniq.domains.checkin.errors import (
    AlreadyCheckedIn,
    AppointmentExpired,
    CheckInTooEarly,
    NoAppointmentFound,
    WrongLocation,
)
from cliniq.domains.checkin.events import CheckInCompleted, WindowRuleAdded
from cliniq.domains.checkin.models import (
    Candidate,
    CheckIn,
    Code,
    DeskReceipt,
    Method,
    Outcome,
    Receipt,
    ScanResult,
    Verdict,
    WalkIn,
    WindowRule,
)
from cliniq.domains.checkin.rules import (
    WIDEST,
    Judged,
    choose_window,
    is_of_today,
    judge,
)
from cliniq.domains.clinics import api as clinics
from cliniq.domains.patients import api as patients
from cliniq.domains.queue import api as queue
from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import RequestInvalid
from cliniq.kernel.record import Record
from cliniq.platform.cached import cached, changed
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.events import tell

AROUND = WIDEST + timedelta(days=2)  # whatever may count as today's lies within
NEXT = timedelta(days=400)


class _Sight(Record, frozen=True):
    """A visit of today, as this scan sees it."""

    visit: appointments.Appointment
    judged: Judged
    zone: str


class _Scan(Record, frozen=True):
    """What one scan works with."""

    point: clinics.PointInPlace
    code: Code
    own: Mapping[UUID, patients.OwnPatient]
    sights: Sequence[_Sight]


async def scan(
    unit: Unit, code: Code, *, everyone: bool = False, chosen: Sequence[UUID] | None = None
) -> ScanResult:
    """Say "I am here" for whoever may be checked in at this point now.

    One eligible visit is checked in; of several, nothing is until somebody chooses, unless
    `everyone`. Check-in, state, history, place, ticket, audit and event are one transaction.
    Idempotent: a second scan gets the same ticket, for as long as the visit waits or is called.
    Raises: QR_INVALID 404, QR_EXPIRED 409, VERIFICATION_REQUIRED 403, APPOINTMENT_NOT_FOUND 404,
    NO_APPOINTMENT_FOUND 404, CHECKIN_TOO_EARLY 409, WRONG_LOCATION 409, ALREADY_CHECKED_IN 409,
    APPOINTMENT_EXPIRED 409, STALE_VERSION 409.
    """
    seen = await _look(unit, code)
    sights = seen.sights
    if chosen is not None:
        sights = [each for each in sights if each.visit.appointment_id in set(chosen)]
        if len(sights) < len(set(chosen)):
            raise appointments.AppointmentNotFound
    eligible = [each for each in sights if each.judged.verdict is Verdict.ELIGIBLE]
    waiting = [each for each in sights if each.judged.verdict is Verdict.WAITING]
    if not eligible and not waiting:
        await _refuse(unit, sights)
    asks = len(eligible) > 1 and not everyone and chosen is None
    receipts = [] if asks else await _check_in(unit, seen, eligible)
    late = {each.appointment_id for each in receipts}
    repeats = [
        each
        for each in sights
        if each.judged.verdict is Verdict.WAITING
        or (not asks and each in eligible and each.visit.appointment_id not in late)
    ]
    receipts += await _repeat(unit, seen, repeats)
    if not receipts and not asks:
        raise AlreadyCheckedIn
    told = {each.appointment_id for each in receipts}
    others = [each for each in seen.sights if each.visit.appointment_id not in told]
    return ScanResult(
        Outcome.CHOICE if asks else Outcome.CHECKED_IN,
        receipts,
        await _describe(unit, seen, others),
    )


async def check_in_at_desk(unit: Unit, appointment_id: UUID, reason: str) -> DeskReceipt:
    """Check somebody in who stands at the desk. The window is the code's: staff see the day.

    Idempotent: once more gives the same ticket, for as long as the visit waits or is called.
    Raises: APPOINTMENT_NOT_FOUND 404; CHECKIN_TOO_EARLY 409 and APPOINTMENT_EXPIRED 409 where the
    visit is not of today; ALREADY_CHECKED_IN 409, INVALID_TRANSITION 409, STALE_VERSION 409.
    """
    visit = await appointments.get_appointment(unit, appointment_id)
    if visit.status is not appointments.AppointmentStatus.CHECKED_IN:
        await _ensure_due(unit, visit)
        if receipt := await _receive(unit, visit, reason):
            return receipt
    (arrival,) = await store.list_claims(unit, [appointment_id])
    (place,) = await queue.list_places_of(unit, [appointment_id])
    if place.status not in {"waiting", "called"}:
        raise AlreadyCheckedIn
    return _desk_receipt(arrival, place, already=True)


async def walk_in(unit: Unit, queue_id: UUID, wanted: WalkIn) -> DeskReceipt:
    """Let somebody wait who has come without a visit: it is written down as one, from now on.

    Raises: QUEUE_NOT_FOUND 404, QUEUE_OVER 409, PATIENT_NOT_FOUND 404; PRACTITIONER_NOT_FOUND 404
    also for another than the line is of; REQUEST_INVALID 422 where a line of a whole site is not
    told whom they see; OUTSIDE_HORIZON 409.
    """
    head = await queue.get_todays(unit, queue_id)
    practitioner_id = wanted.practitioner_id
    if head.line_id != head.site_id:
        if practitioner_id not in {None, head.line_id}:
            raise access.PractitionerNotFound
        practitioner_id = head.line_id
    elif practitioner_id is None:
        raise RequestInvalid(errors=["body.practitioner_id: this line is of the whole site"])
    visit = await appointments.receive(
        unit,
        appointments.Wish(
            wanted.patient_id,
            practitioner_id,
            head.site_id,
            wanted.visit_type,
            unit.now,
            unit.now + wanted.length,
        ),
    )
    receipt = await _receive(unit, visit, "")
    assert receipt is not None  # noqa: S101 - nobody else knows of the visit yet
    return receipt


async def _ensure_due(unit: Unit, visit: appointments.Appointment) -> None:
    """Refuse a visit that has begun, or that is not of today."""
    S = appointments.AppointmentStatus  # noqa: N806 - as the room itself calls them
    if visit.status in {S.IN_PROGRESS, S.COMPLETED}:
        raise AlreadyCheckedIn
    site = await clinics.get_site(unit, visit.site_id)
    rules = await cached(unit, store.RULES)
    window = choose_window(rules, visit)
    if not is_of_today(visit, ZoneInfo(site.zone), window, unit.now):
        if visit.starts_at > unit.now:
            raise CheckInTooEarly(visit.starts_at - window.early)
        raise AppointmentExpired(visit.starts_at + window.late)


async def _receive(unit: Unit, visit: appointments.Appointment, reason: str) -> DeskReceipt | None:
    """Check a visit in without a code; nothing where a rival was faster."""
    entered = await _enter(unit, [visit], visit.site_id, None, Method.DESK, reason)
    return next((_desk_receipt(*each, already=False) for each in entered), None)


def _desk_receipt(arrival: CheckIn, place: queue.Place, *, already: bool) -> DeskReceipt:
    return DeskReceipt(
        place.appointment_id,
        place.patient_id,
        arrival.check_in_id,
        arrival.checked_in_at,
        already,
        place.queue_id,
        place.entry_id,
        place.ticket,
        place.position,
        place.status,
        place.line_name,
        place.room,
    )


async def add_rule(unit: Unit, rule_id: UUID, rule: WindowRule) -> None:
    """Give the clinic a window of its own."""
    await store.add_rule(unit, rule_id, rule)
    changed(unit, store.RULES)
    tell(
        unit,
        WindowRuleAdded(
            rule_id, rule.site_id, rule.visit_type, rule.opens_minutes, rule.closes_minutes
        ),
    )


async def warm(unit: ReadUnit) -> None:
    """Have the windows of the unit's clinic in memory before anybody asks."""
    await cached(unit, store.RULES)


async def _look(unit: Unit, code: Code) -> _Scan:
    """Find the point, whom the caller speaks for, and what each of their visits of today is."""
    point = await codes.get_honoured_point(unit, code)
    own = {each.patient_id: each for each in await patients.list_own(unit, unit.person_id)}
    visits = await appointments.list_own(unit, unit.now - AROUND, unit.now + AROUND) if own else []
    zones = {point.site_id: point.zone}
    if elsewhere := list({each.site_id for each in visits} - zones.keys()):
        zones |= {each.site_id: each.zone for each in await clinics.find_sites(unit, elsewhere)}
    rules = await cached(unit, store.RULES) if visits else []
    sights = []
    for visit in visits:
        window, zone = choose_window(rules, visit), zones[visit.site_id]
        if is_of_today(visit, ZoneInfo(zone), window, unit.now):
            sights.append(_Sight(visit, judge(visit, point.site_id, window, unit.now), zone))
    return _Scan(point, code, own, sights)


async def _check_in(unit: Unit, seen: _Scan, sights: Sequence[_Sight]) -> list[Receipt]:
    """Check visits in; those that a rival scan has taken are left out."""
    point, method = seen.point, Method(seen.code.kind.value)
    visits = [each.visit for each in sights]
    entered = await _enter(unit, visits, point.site_id, point.check_in_point_id, method)
    return [_receipt(seen, arrival, place, already=False) for arrival, place in entered]


async def _enter(
    unit: Unit,
    visits: Sequence[appointments.Appointment],
    site_id: UUID,
    point_id: UUID | None,
    method: Method,
    reason: str = "",
) -> list[tuple[CheckIn, queue.Place]]:
    """Check visits of one site in, in one order for all, and let them wait.

    Those that a rival has taken are left out.
    """
    site = await clinics.get_site(unit, site_id)
    arrived: list[CheckIn] = []
    arrivals = []
    for visit in sorted(visits, key=lambda each: each.appointment_id):
        arrival = await store.add(
            unit,
            new_id(),
            visit.appointment_id,
            visit.patient_id,
            point_id,
            unit.now,
            method,
            unit.person_id,
        )
        if arrival is None:
            continue
        to = appointments.AppointmentStatus.CHECKED_IN
        await appointments.transition(unit, visit, to, reason)
        arrived.append(arrival)
        arrivals.append(_arrival(unit, site, visit))
    places = await queue.join(unit, arrivals)
    entered = [(each, places[each.appointment_id]) for each in arrived]
    for arrival, place in entered:
        tell(unit, _completed(arrival, place, point_id, method))
    return entered


def _arrival(unit: Unit, site: clinics.Site, visit: appointments.Appointment) -> queue.Arrival:
    return queue.Arrival(
        visit.appointment_id,
        visit.patient_id,
        visit.practitioner_id,
        queue.line_of(site, visit.practitioner_id, visit.starts_at),
        queue.due_at(unit.now, visit.starts_at),
    )


async def _repeat(unit: Unit, seen: _Scan, sights: Sequence[_Sight]) -> list[Receipt]:
    """Answer with the tickets that earlier scans have given."""
    if not sights:
        return []
    ids = [each.visit.appointment_id for each in sights]
    claims = {each.appointment_id: each for each in await store.list_claims(unit, ids)}
    places = await queue.list_places_of(unit, ids)
    return [
        _receipt(seen, claims[place.appointment_id], place, already=True)
        for place in places
        if place.status in {"waiting", "called"}  # a visit may have begun since it was looked at
    ]


def _receipt(seen: _Scan, arrival: CheckIn, place: queue.Place, *, already: bool) -> Receipt:
    patient = seen.own[place.patient_id]
    return Receipt(
        place.appointment_id,
        place.patient_id,
        patient.given_name,
        patient.whose,
        arrival.check_in_id,
        arrival.checked_in_at,
        already,
        place.clinic_id,
        place.queue_id,
        place.entry_id,
        place.ticket,
        place.position,
        place.status,
        place.line_name,
        place.room,
    )


def _completed(
    arrival: CheckIn, place: queue.Place, point_id: UUID | None, method: Method
) -> CheckInCompleted:
    return CheckInCompleted(
        arrival.check_in_id,
        arrival.appointment_id,
        place.patient_id,
        point_id,
        place.queue_id,
        place.ticket,
        method,
        arrival.checked_in_at,
    )


async def _describe(unit: Unit, seen: _Scan, sights: Sequence[_Sight]) -> list[Candidate]:
    if not sights:
        return []
    doctors = {
        each.practitioner_id: each.name
        for each in await access.find_practitioners(
            unit, list({each.visit.practitioner_id for each in sights})
        )
    }
    sites = {
        each.site_id: each.name
        for each in await clinics.find_sites(unit, list({each.visit.site_id for each in sights}))
    }
    return [
        Candidate(
            each.visit.appointment_id,
            each.visit.patient_id,
            seen.own[each.visit.patient_id].given_name,
            seen.own[each.visit.patient_id].whose,
            each.visit.starts_at,
            doctors[each.visit.practitioner_id],
            sites[each.visit.site_id],
            each.judged.verdict,
            each.judged.opens_at,
            each.judged.closes_at,
        )
        for each in sights
    ]


async def _refuse(unit: Unit, sights: Sequence[_Sight]) -> None:
    """Say why nobody can be checked in: what the person can still do something about comes first.

    Raises: WRONG_LOCATION, CHECKIN_TOO_EARLY, ALREADY_CHECKED_IN, APPOINTMENT_EXPIRED 409;
    NO_APPOINTMENT_FOUND 404.
    """
    by_verdict = {each.judged.verdict: each for each in reversed(sights)}  # the earliest of each
    elsewhere = by_verdict.get(Verdict.WRONG_LOCATION)
    early = by_verdict.get(Verdict.TOO_EARLY)
    if elsewhere and not (early and elsewhere.judged.opens_at > unit.now):
        site = await clinics.get_site(unit, elsewhere.visit.site_id)
        raise WrongLocation(site.name, site.address, site.directions_url)
    if early:
        raise CheckInTooEarly(early.judged.opens_at)
    if Verdict.ALREADY in by_verdict:
        raise AlreadyCheckedIn
    if Verdict.EXPIRED in by_verdict:
        last = max(each.judged.closes_at for each in sights)
        raise AppointmentExpired(last)
    raise NoAppointmentFound(await appointments.next_start(unit, unit.now, unit.now + NEXT))
