"""Pure decisions of the check-in room: no clock, no database, no network."""

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from cliniq.domains.checkin.errors import QrExpired, QrInvalid, VerificationRequired
from cliniq.domains.checkin.models import Code, CodeKind, ScanPass, Verdict, Window, WindowRule
from cliniq.kernel.record import Record

ROTATION_SECONDS = 30
PASS_LIFE = timedelta(minutes=10)
WIDEST = timedelta(days=1)  # no rule may open or close a window further from the start

_CODE = struct.Struct(">B16s16sHI")
_PASS = struct.Struct(">B16s16sHI32sI")
_KINDS = {1: CodeKind.PRINTED, 2: CodeKind.ROTATING}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}


def write_code(code: Code) -> bytes:
    """Pack what a code says."""
    return _CODE.pack(
        _NUMBERS[code.kind],
        code.clinic_id.bytes,
        code.check_in_point_id.bytes,
        code.key_id,
        code.step,
    )


def read_code(payload: bytes) -> Code:
    """Unpack what a code says, before anybody believes it.

    Raises: QR_INVALID 404.
    """
    if len(payload) != _CODE.size:
        raise QrInvalid
    number, clinic, point, key_id, step = _CODE.unpack(payload)
    if number not in _KINDS:
        raise QrInvalid
    return Code(_KINDS[number], UUID(bytes=clinic), UUID(bytes=point), key_id, step)


def key_context(code: Code) -> bytes:
    """Name the key that signs a code: of one clinic, one point, one key id."""
    return code.clinic_id.bytes + code.check_in_point_id.bytes + code.key_id.to_bytes(2)


def write_pass(scan_pass: ScanPass) -> bytes:
    """Pack what a scan pass says."""
    expires = int(scan_pass.expires_at.timestamp())
    return _PASS.pack(*_CODE.unpack(write_code(scan_pass.code)), scan_pass.secret_hash, expires)


def read_pass(payload: bytes) -> ScanPass:
    """Unpack what a scan pass says.

    Raises: QR_INVALID 404.
    """
    if len(payload) != _PASS.size:
        raise QrInvalid
    *said, secret_hash, expires = _PASS.unpack(payload)
    code = read_code(_CODE.pack(*said))
    return ScanPass(code, secret_hash, datetime.fromtimestamp(expires, UTC))


def rotation_of(wall: datetime) -> int:
    """Number the rotation that an instant falls into."""
    return int(wall.timestamp()) // ROTATION_SECONDS


def ensure_fresh(code: Code, wall: datetime) -> None:
    """Refuse a code that has rotated out. A neighbouring rotation is accepted.

    Units: a code works for at least 30 s after it was shown and less than 60 s.
    Raises: QR_EXPIRED 409.
    """
    if code.kind is CodeKind.ROTATING and abs(rotation_of(wall) - code.step) > 1:
        raise QrExpired


class Point(Protocol):
    """What a rule must know of a check-in point."""

    @property
    def qr_mode(self) -> str:
        """Say whether the code hangs in print or rotates on a screen."""

    @property
    def verification(self) -> str:
        """Say what a printed code needs beside itself."""

    @property
    def key_id(self) -> int:
        """Name the newest key."""

    @property
    def oldest_key(self) -> int:
        """Name the oldest key that still counts."""


def ensure_honoured(code: Code, point: Point) -> None:
    """Refuse a code whose key is retired, or that does not prove presence at this point.

    Raises: QR_EXPIRED 409, VERIFICATION_REQUIRED 403.
    """
    if not point.oldest_key <= code.key_id <= point.key_id:
        raise QrExpired
    if code.kind is CodeKind.PRINTED:
        step = str(point.verification)
        if step == "none" and point.qr_mode == "rotating":
            step = "display"  # where a code rotates, a photo of an old poster proves nothing
        if step != "none":
            raise VerificationRequired(step)


class Visit(Protocol):
    """What a rule must know of a visit."""

    @property
    def site_id(self) -> UUID:
        """Say where."""

    @property
    def visit_type(self) -> str:
        """Say what for."""

    @property
    def starts_at(self) -> datetime:
        """Say when."""

    @property
    def status(self) -> str:
        """Say where it stands."""


def choose_window(rules: Sequence[WindowRule], visit: Visit) -> Window:
    """Choose a visit's window: the most specific rule that fits it, a site's before a type's."""
    fitting = [
        rule
        for rule in rules
        if rule.site_id in {None, visit.site_id} and rule.visit_type in {None, visit.visit_type}
    ]
    if not fitting:
        return Window()
    best = max(
        fitting, key=lambda rule: (rule.site_id is not None) * 2 + (rule.visit_type is not None)
    )
    return Window(timedelta(minutes=best.opens_minutes), timedelta(minutes=best.closes_minutes))


class Judged(Record, frozen=True):
    """A verdict, and the window that it rests on."""

    verdict: Verdict
    opens_at: datetime
    closes_at: datetime


def judge(visit: Visit, site_id: UUID, window: Window, now: datetime) -> Judged:
    """Decide what a scan at a site means for a visit. Instants, so no clock change matters here."""
    opens_at, closes_at = visit.starts_at - window.early, visit.starts_at + window.late
    return Judged(_verdict(visit, site_id, (opens_at, closes_at), now), opens_at, closes_at)


def _verdict(
    visit: Visit, site_id: UUID, window: tuple[datetime, datetime], now: datetime
) -> Verdict:
    opens_at, closes_at = window
    if visit.status == "checked_in":
        return Verdict.WAITING if visit.site_id == site_id else Verdict.WRONG_LOCATION
    if visit.status in {"in_progress", "completed"}:
        return Verdict.ALREADY
    if now > closes_at:
        return Verdict.EXPIRED
    if visit.site_id != site_id:
        return Verdict.WRONG_LOCATION
    return Verdict.TOO_EARLY if now < opens_at else Verdict.ELIGIBLE


def is_of_today(visit: Visit, zone: ZoneInfo, window: Window, now: datetime) -> bool:
    """Tell whether a visit counts as today's: the site's local day, widened by the window.

    So a visit at 00:10 is found by a scan at 23:50, and every open window is found.
    """
    today = now.astimezone(zone).date()
    begins = datetime.combine(today, time(), zone).astimezone(UTC)
    ends = datetime.combine(today + timedelta(days=1), time(), zone).astimezone(UTC)
    return begins - window.late <= visit.starts_at < ends + window.early or (
        visit.starts_at - window.early <= now <= visit.starts_at + window.late
    )
