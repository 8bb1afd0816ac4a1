"""What the check-in room signs, trusts and draws: codes, scan passes, and the pictures of codes."""

import asyncio
import hmac
from hashlib import sha256
from io import BytesIO
from uuid import UUID

import segno

from cliniq.domains.checkin.errors import CheckInPointNotFound, QrExpired, QrInvalid
from cliniq.domains.checkin.models import (
    Code,
    CodeKind,
    Picture,
    PictureFormat,
    Poster,
    ScanPass,
    ScanPassSold,
)
from cliniq.domains.checkin.rules import (
    PASS_LIFE,
    ensure_fresh,
    ensure_honoured,
    key_context,
    read_code,
    read_pass,
    rotation_of,
    write_code,
    write_pass,
)
from cliniq.domains.clinics import api as clinics
from cliniq.kernel.ids import ClinicId
from cliniq.kernel.problem import DependencyUnavailable
from cliniq.kernel.scope import GuestScope
from cliniq.platform.db import Database, ReadUnit, open_read_unit
from cliniq.platform.jobs import Trip
from cliniq.platform.signing import MAC_BYTES, Keyring, from_text, to_text
from cliniq.platform.storage import Name, Storage, name_of

PICTURE_SECONDS = 3
CODE, PASS = "check-in-code", "scan-pass"


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


def seal_pass(keyring: Keyring, sold: ScanPass) -> str:
    """Write a scan pass as the text that the page keeps."""
    return keyring.seal(PASS, write_pass(sold))


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


def hash_secret(secret: str) -> str:
    """Write a page's secret as the hash that it shows at the first touch."""
    return to_text(sha256(secret.encode()).digest())


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
        point = await get_honoured_point(unit, code)
    sold = ScanPass(code, from_text(secret_hash) or b"", wall + PASS_LIFE)
    return ScanPassSold(
        seal_pass(keyring, sold),
        int(PASS_LIFE.total_seconds()),
        point.clinic_id,
        point.clinic_name,
        point.site_name,
        point.point_name,
    )


async def get_point(unit: ReadUnit, check_in_point_id: UUID) -> clinics.PointInPlace:
    """Find a check-in point of the clinic.

    Raises: CHECK_IN_POINT_NOT_FOUND 404.
    """
    point = await clinics.find_point(unit, check_in_point_id)
    if point is None:
        raise CheckInPointNotFound
    return point


async def get_honoured_point(unit: ReadUnit, code: Code) -> clinics.PointInPlace:
    """Find the point of a code that counts there.

    Raises: QR_INVALID 404, QR_EXPIRED 409, VERIFICATION_REQUIRED 403.
    """
    point = await clinics.find_point(unit, code.check_in_point_id)
    if point is None:
        raise QrInvalid
    ensure_honoured(code, point)
    return point
