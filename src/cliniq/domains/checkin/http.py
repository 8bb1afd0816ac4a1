"""Routes of the check-in room: parse, call one use case, present."""

import asyncio
from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import Depends
from starlette.requests import HTTPConnection, Request
from typing_extensions import override

from cliniq.domains.access import api as access
from cliniq.domains.appointments import api as appointments
from cliniq.domains.checkin import codes, errors, service
from cliniq.domains.checkin.models import (
    Code,
    CodeKind,
    DeskReceipt,
    PictureFormat,
    Poster,
    ScanPassSold,
    ScanResult,
    WalkIn,
)
from cliniq.domains.checkin.schemas import DeskIn, FirstTouchIn, ScanIn, WalkInIn
from cliniq.domains.clinics import api as clinics
from cliniq.domains.patients import api as patients
from cliniq.domains.queue import api as queue
from cliniq.domains.scheduling import api as scheduling
from cliniq.kernel.ids import ClinicId
from cliniq.kernel.permissions import Permission
from cliniq.kernel.problem import (
    Forbidden,
    InvalidTransition,
    NotFound,
    Problem,
    RateLimitExceeded,
    Unauthenticated,
)
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.http.exchange import exchange_of
from cliniq.platform.http.guards import (
    Door,
    Entrance,
    Guard,
    Policy,
    entrance_of,
    may,
    may_read,
    public,
    signed_in,
)
from cliniq.platform.http.problems import problems
from cliniq.platform.http.route import Afterwards, Content, Untyped, contents, room
from cliniq.platform.http.terms import terms
from cliniq.platform.http.traffic import Traffic, address_of
from cliniq.platform.storage import Storage

router = room("", "check-in")

MEDIA_TYPES = {PictureFormat.SVG: "image/svg+xml", PictureFormat.PNG: "image/png"}

FIRST_TOUCHES = "1200/minute"  # of one address: a whole waiting room may share it
WRONG_CODES = "20/minute"  # of one person: only guessers need more


def _trusted(entrance: Entrance, body: ScanIn) -> Code:
    if body.code is not None:
        return codes.trust_fresh_code(entrance.keyring, body.code, entrance.database)
    return codes.trust_pass(
        entrance.keyring, body.scan_pass or "", body.scan_secret or "", entrance.database
    )


class AtTheDoor(Policy):
    """Lets in whoever is signed in and holds a code of ours: the clinic is the code's.

    A forged code costs no message to the database.
    """

    _guard = Guard(Unit, None, own="stranger")

    @property
    @override
    def words(self) -> str:
        return "self, with a code of the clinic"

    @property
    @override
    def gives(self) -> type[ReadUnit]:
        return Unit

    @property
    @override
    def refusals(self) -> Sequence[type[Problem]]:
        """Name what its door refuses with, whatever the route does behind it."""
        return (Unauthenticated,)

    async def __call__(self, connection: HTTPConnection, body: ScanIn) -> Door[Unit]:
        """Give a door into the clinic of the code.

        Raises: UNAUTHENTICATED 401, QR_INVALID 404, QR_EXPIRED 409, RATE_LIMIT_EXCEEDED 429.
        """
        entrance = entrance_of(connection)
        caller = signed_in(connection)
        try:
            code = _trusted(entrance, body)
        except errors.QrInvalid:
            await entrance.limits.hit(WRONG_CODES, "wrong-code", str(caller.person_id))
            raise
        exchange = exchange_of(connection)
        return self._guard.door(
            entrance,
            caller,
            ClinicId(code.clinic_id),
            f"POST {exchange.route}",
            exchange.request_id,
        )


@router.post(
    "/appointments/check-in/scans",
    responses=problems(
        errors.QrInvalid, errors.QrExpired, errors.VerificationRequired, RateLimitExceeded
    ),
    **terms(no_key="it writes nothing, and nobody is known yet", traffic=Traffic.SCAN),
)
async def create_scan_pass(
    door: Annotated[None, public("a code is exchanged before one signs in")],
    request: Request,
    body: FirstTouchIn,
) -> ScanPassSold:
    """Exchange a code for a scan pass of ten minutes: the first touch, before sign-in."""
    entrance = entrance_of(request)
    await entrance.limits.hit(FIRST_TOUCHES, "first-touch", address_of(request))
    return await codes.exchange(entrance.database, entrance.keyring, body.code, body.secret_hash)


@router.post(
    "/appointments/check-in/scan-qr",
    responses=problems(
        Unauthenticated,
        errors.QrInvalid,
        errors.NoAppointmentFound,
        appointments.AppointmentNotFound,
        errors.QrExpired,
        errors.CheckInTooEarly,
        errors.WrongLocation,
        errors.AlreadyCheckedIn,
        errors.AppointmentExpired,
        appointments.StaleVersion,
        errors.VerificationRequired,
        RateLimitExceeded,
    ),
    **terms(traffic=Traffic.SCAN),
)
async def create_check_in(
    unit: Annotated[Unit, Depends(AtTheDoor())], request: Request, body: ScanIn
) -> ScanResult:
    """Check in by a code or a scan pass; the same scan again gets the same ticket."""
    code = _trusted(entrance_of(request), body)
    return await service.scan(unit, code, everyone=body.all, chosen=body.appointment_ids)


@router.post(
    "/appointments/check-in/manual",
    responses=problems(
        Forbidden,
        appointments.AppointmentNotFound,
        errors.CheckInTooEarly,
        errors.AppointmentExpired,
        errors.AlreadyCheckedIn,
        InvalidTransition,
        appointments.StaleVersion,
    ),
)
async def create_manual_check_in(
    unit: Annotated[Unit, may(Permission.CHECKIN_CREATE)], body: DeskIn
) -> DeskReceipt:
    """Check somebody in at the desk, for any of today's visits; once more gives the same ticket."""
    return await service.check_in_at_desk(unit, body.appointment_id, body.reason or "")


@router.post(
    "/queues/{queue_id}/walk-ins",
    responses=problems(
        Forbidden,
        queue.QueueNotFound,
        patients.PatientNotFound,
        access.PractitionerNotFound,
        queue.QueueOver,
        scheduling.OutsideHorizon,
    ),
    **terms(key_required=True),  # or a second try would give a second ticket
)
async def create_walk_in(
    unit: Annotated[Unit, may(Permission.QUEUE_MANAGE)], queue_id: UUID, body: WalkInIn
) -> DeskReceipt:
    """Let somebody wait who has come without a visit."""
    walk_in = WalkIn(body.patient_id, body.practitioner_id, body.visit_type, body.length)
    return await service.walk_in(unit, queue_id, walk_in)


@router.get("/appointments/check-in/locations", responses=problems(Forbidden, NotFound))
async def list_check_in_points(
    unit: Annotated[ReadUnit, may_read(Permission.CHECKIN_READ)],
) -> list[clinics.CheckInPoint]:
    """List the clinic's check-in points, by name."""
    return await clinics.list_points(unit)


@router.get(
    "/appointments/locations/{location_id}/qr-code",
    response_class=Untyped,
    response_model=None,
    responses=contents(MEDIA_TYPES.values())
    | {302: {"description": "A printed one is at a CDN."}, 304: {"description": "It is known."}}
    | problems(Forbidden, errors.CheckInPointNotFound),
)
async def get_qr_code(
    unit: Annotated[ReadUnit, may_read(Permission.CHECKIN_READ)],
    request: Request,
    location_id: UUID,
    format: PictureFormat = PictureFormat.SVG,  # noqa: A002 - the API's word
    kind: CodeKind | None = None,
) -> Afterwards:
    """Draw a check-in point's code, printed or rotating; by default as the point is set.

    A printed one is kept in the object storage: with a CDN the answer leads there.
    """
    entrance, point = entrance_of(request), await codes.get_point(unit, location_id)
    rotating = point.qr_mode is clinics.QrMode.ROTATING
    kind = kind or (CodeKind.ROTATING if rotating else CodeKind.PRINTED)
    text = codes.draw_code(entrance.keyring, point, kind, unit)
    poster = Poster(
        point.clinic_id, point.check_in_point_id, f"{request.app.state.address}/c/{text}"
    )
    if kind is CodeKind.ROTATING:  # it lives for seconds
        return Afterwards(lambda: _drawn(poster, format))
    seen = request.headers.get("if-none-match")
    return Afterwards(lambda: _printed(entrance.storage, poster, format, seen))


async def _drawn(poster: Poster, picture_format: PictureFormat) -> Content:
    picture = await asyncio.to_thread(codes.draw, poster.url, picture_format)
    return Content(picture, MEDIA_TYPES[picture_format])


async def _printed(
    storage: Storage, poster: Poster, picture_format: PictureFormat, seen: str | None
) -> Content:
    """Answer with the stored picture: where it is public, what is kept, or the bytes."""
    name = codes.name_picture(poster, picture_format)
    headers = {"ETag": f'"{name.rpartition("/")[2]}"', "Cache-Control": "private, no-cache"}
    if seen == headers["ETag"]:
        return Content(b"", None, headers, 304)
    picture = await codes.print_code(storage, poster, picture_format)
    if (elsewhere := storage.public_url(name)) is not None and picture.is_stored:
        return Content(b"", None, headers | {"Location": elsewhere}, 302)
    return Content(picture.body, MEDIA_TYPES[picture_format], headers)
