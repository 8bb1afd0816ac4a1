"""Use cases of the check-in room. No HTTP and no SQL here."""

import asyncio
import hmac
from collections.abc import Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from io import BytesIO
from uuid import UUID
from zoneinfo import ZoneInfo

import segno

from cliniq.domains.access import api as access
from cliniq.domains.appointments import api as appointments
from cliniq.domains.checkin import store
from cliniq.domains.checkin.errors import (
    AlreadyCheckedIn,
    AppointmentExpired,
    CheckInPointNotFound,
    CheckInTooEarly,
    NoAppointmentFound,
    QrExpired,
    QrInvalid,
    WrongLocation,
)
from cliniq.domains.checkin.events import CheckInCompleted, WindowRuleAdded
from cliniq.domains.checkin.models import (
    Candidate,
    CheckIn,
    Code,
    CodeKind,
    Outcome,
    Picture,
    PictureFormat,
    Poster,
    Receipt,
    ScanPass,
    ScanPassSold,
    ScanResult,
    Verdict,
    WindowRule,
)
from cliniq.domains.checkin.rules import (
    PASS_LIFE,
    WIDEST,
    Judged,
    choose_window,
    ensure_fresh,
    ensure_honoured,
    is_of_today,
    judge,
    key_context,
    read_code,
    read_pass,
    rotation_of,
    write_code,
    write_pass,
)
from cliniq.domains.clinics import api as clinics
from cliniq.domains.patients import api as patients
from cliniq.domains.queue import api as queue
from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.problem import DependencyUnavailable
from cliniq.kernel.record import Record
from cliniq.kernel.scope import GuestScope
from cliniq.platform.cached import cached, changed
from cliniq.platform.db import Database, ReadUnit, Unit, open_read_unit
from cliniq.platform.events import tell
from cliniq.platform.jobs import Trip
from cliniq.platform.signing import MAC_BYTES, Keyring, from_text, to_text
from cliniq.platform.storage import Name, Storage, name_of

PICTURE_SECONDS = 3
CODE, PASS = "check-in-code", "scan-pass"
AROUND = WIDEST + timedelta(days=2)  # whatever may count as today's lies within
NEXT = timedelta(days=400)


def sign_code(keyring: Keyring, code: Code) -> str:
    """Write a code as the text that goes into the QR, behind `/c/`."""
    return keyring.seal(CODE, write_code(code), key_context(code))


def trust_code(keyring: Keyring, text: str) -> Code:
    """Read a code and check its MAC, before anybody asks the database.

    Raises: QR_INVALID 404.
    """
    code = read_code((from_text(text) or b"")[:-MAC_BYTES])
    if keyring.open(CODE, text, key_context(code)) is None:
        raise QrInvalid
    return code


def draw_code(keyring: Keyring, point: clinics.PointInPlace, kind: CodeKind, unit: ReadUnit) -> str:
    """Write the code that a point shows now, as text."""
    step = rotation_of(unit.wall) if kind is CodeKind.ROTATING else 0
    return sign_code(
        keyring, Code(kind, point.clinic_id, point.check_in_point_id, point.key_id, step)
    )


def draw(url: str, picture_format: PictureFormat) -> bytes:
    """Draw a QR code with a quiet zone; level M survives a scratched poster."""
    picture = BytesIO()
    segno.make_qr(url, error="m").save(picture, kind=picture_format.value, scale=8, border=4)
    return picture.getvalue()


def name_picture(poster: Poster, picture_format: PictureFormat) -> Name:
    """Name a picture by what it shows: another key is another object, so copies never grow old."""
    shown = sha256(poster.url.encode()).hexdigest()[:32]
    where = ("check-in-codes", str(poster.check_in_point_id), shown)
    return name_of(ClinicId(poster.clinic_id), *where, suffix=picture_format.value, public=True)


async def print_code(storage: Storage, poster: Poster, picture_format: PictureFormat) -> Picture:
    """Have the picture of a printed code in the storage, drawing it the first time.

    It hangs on the wall, so it is public. Where the storage is away it is drawn all the same.
    Bounds: the storage has `PICTURE_SECONDS`.
    Idempotent: the same poster is the same object.
    """
    name = name_picture(poster, picture_format)
    drawn = b""
    try:
        async with asyncio.timeout(PICTURE_SECONDS):
            if (kept := await storage.get(name)) is not None:
                return Picture(kept.body, is_stored=True)
            drawn = await asyncio.to_thread(draw, poster.url, picture_format)
            await storage.put(name, drawn)
            return Picture(drawn, is_stored=True)
    except (DependencyUnavailable, TimeoutError):
        drawn = drawn or await asyncio.to_thread(draw, poster.url, picture_format)
        return Picture(drawn, is_stored=False)


async def print_codes(trip: Trip, told: clinics.PointOpened | clinics.PointRekeyed) -> None:
    """Have the pictures of a point's printed code ready before anybody asks for them.

    Idempotent: what is in the storage already stays.
    Raises: CHECK_IN_POINT_NOT_FOUND 404; DEPENDENCY_UNAVAILABLE 503 where the storage is away.
    """
    async with trip.open() as unit:
        point = await get_point(unit, told.check_in_point_id)
        code = draw_code(trip.tools.keyring, point, CodeKind.PRINTED, unit)
    url = f"{trip.tools.address}/c/{code}"
    poster = Poster(point.clinic_id, point.check_in_point_id, url)
    for picture_format in PictureFormat:
        if not (await print_code(trip.tools.storage, poster, picture_format)).is_stored:
            raise DependencyUnavailable("storage")


async def exchange(
    database: Database, keyring: Keyring, text: str, secret_hash: str
) -> ScanPassSold:
    """Exchange a code for a scan pass at the first touch, so that a slow login does not matter.

    The pass works only with the secret whose hash is given; the answer tells nothing of patients.
    Raises: QR_INVALID 404, QR_EXPIRED 409, VERIFICATION_REQUIRED 403.
    """
    code = trust_code(keyring, text)
    wall = database.clocks.wall()
    ensure_fresh(code, wall)
    async with open_read_unit(database, GuestScope(ClinicId(code.clinic_id))) as unit:
        point = await _honoured_point(unit, code)
    sold = ScanPass(code, from_text(secret_hash) or b"", wall + PASS_LIFE)
    return ScanPassSold(
        keyring.seal(PASS, write_pass(sold)),
        int(PASS_LIFE.total_seconds()),
        point.clinic_id,
        point.clinic_name,
        point.site_name,
        point.point_name,
    )


def trust_pass(keyring: Keyring, text: str, secret: str, database: Database) -> Code:
    """Read a scan pass, shown with its secret, as the code that it stands for.

    Raises: QR_INVALID 404, QR_EXPIRED 409.
    """
    payload = keyring.open(PASS, text)
    if payload is None:
        raise QrInvalid
    shown = read_pass(payload)
    if not hmac.compare_digest(shown.secret_hash, sha256(secret.encode()).digest()):
        raise QrInvalid
    if shown.expires_at <= database.clocks.wall():
        raise QrExpired
    return shown.code


def trust_fresh_code(keyring: Keyring, text: str, database: Database) -> Code:
    """Read a code that was scanned just now.

    Raises: QR_INVALID 404, QR_EXPIRED 409.
    """
    code = trust_code(keyring, text)
    ensure_fresh(code, database.clocks.wall())
    return code


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


async def get_point(unit: ReadUnit, check_in_point_id: UUID) -> clinics.PointInPlace:
    """Find a check-in point of the clinic.

    Raises: CHECK_IN_POINT_NOT_FOUND 404.
    """
    point = await clinics.find_point(unit, check_in_point_id)
    if point is None:
        raise CheckInPointNotFound
    return point


async def _honoured_point(unit: ReadUnit, code: Code) -> clinics.PointInPlace:
    point = await clinics.find_point(unit, code.check_in_point_id)
    if point is None:
        raise QrInvalid
    ensure_honoured(code, point)
    return point


async def _look(unit: Unit, code: Code) -> _Scan:
    """Find the point, whom the caller speaks for, and what each of their visits of today is."""
    point = await _honoured_point(unit, code)
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
    """Check visits in, in one order for all; those that a rival scan has taken are left out."""
    arrived: dict[UUID, CheckIn] = {}
    arrivals = []
    for each in sorted(sights, key=lambda sight: sight.visit.appointment_id):
        visit = each.visit
        arrival = await store.add(
            unit,
            new_id(),
            visit.appointment_id,
            visit.patient_id,
            seen.point.check_in_point_id,
            unit.now,
            seen.code.kind,
            unit.person_id,
        )
        if arrival is None:
            continue
        await appointments.transition(unit, visit, appointments.AppointmentStatus.CHECKED_IN)
        arrived[visit.appointment_id] = arrival
        arrivals.append(_arrival(unit, seen.point, each))
    places = await queue.join(unit, arrivals)
    for appointment_id, arrival in arrived.items():
        tell(unit, _completed(seen, arrival, places[appointment_id]))
    return [
        _receipt(seen, arrival, places[appointment_id], already=False)
        for appointment_id, arrival in arrived.items()
    ]


def _arrival(unit: Unit, point: clinics.PointInPlace, sight: _Sight) -> queue.Arrival:
    visit = sight.visit
    pooled = point.queue_mode is clinics.QueueMode.POOL
    line = queue.Line(
        visit.site_id,
        visit.site_id if pooled else visit.practitioner_id,
        visit.starts_at.astimezone(ZoneInfo(sight.zone)).date(),
    )
    return queue.Arrival(
        visit.appointment_id,
        visit.patient_id,
        visit.practitioner_id,
        line,
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


def _completed(seen: _Scan, arrival: CheckIn, place: queue.Place) -> CheckInCompleted:
    return CheckInCompleted(
        arrival.check_in_id,
        arrival.appointment_id,
        place.patient_id,
        seen.point.check_in_point_id,
        place.queue_id,
        place.ticket,
        seen.code.kind,
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


def hash_secret(secret: str) -> str:
    """Write a page's secret as the hash that it shows at the first touch."""
    return to_text(sha256(secret.encode()).digest())
