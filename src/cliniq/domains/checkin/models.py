"""What the check-in room knows of codes, windows and arrivals."""

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from cliniq.kernel.record import Record


class CodeKind(StrEnum):
    """How a code came to be scanned; also the method of the check-in."""

    PRINTED = "printed_code"
    ROTATING = "rotating_code"


class Method(StrEnum):
    """How somebody was checked in: by a code, or by staff."""

    PRINTED = "printed_code"
    ROTATING = "rotating_code"
    DESK = "desk"


class Code(Record, frozen=True):
    """What a code says. `step` is the rotation it was shown in, 0 for a printed one."""

    kind: CodeKind
    clinic_id: UUID
    check_in_point_id: UUID
    key_id: int
    step: int


class ScanPass(Record, frozen=True):
    """What a code was exchanged for at the first touch; bound to a secret that the page keeps."""

    code: Code
    secret_hash: bytes
    expires_at: datetime


class Window(Record, frozen=True):
    """How early and how late a patient may check in, measured from the start of the visit.

    Bounds: both ends belong to the window.
    Source: design/api.md (30 minutes before, 2 hours after); a clinic may change both.
    """

    early: timedelta = timedelta(minutes=30)
    late: timedelta = timedelta(hours=2)


class WindowRule(Record, frozen=True):
    """A clinic's own window, of a site, a visit type, both, or everything. Units: minutes."""

    site_id: UUID | None
    visit_type: str | None
    opens_minutes: int
    closes_minutes: int


class Verdict(StrEnum):
    """What a scan means for one visit."""

    ELIGIBLE = "eligible"
    WAITING = "waiting"
    TOO_EARLY = "too_early"
    WRONG_LOCATION = "wrong_location"
    ALREADY = "already"
    EXPIRED = "expired"


class CheckIn(Record, frozen=True):
    """One arrival, at `checked_in_at` (UTC). At most one per appointment."""

    check_in_id: UUID
    appointment_id: UUID
    checked_in_at: datetime


class Receipt(Record, frozen=True):
    """What the patient is told. `already`: an earlier scan had checked them in.

    `position` is 1 for who is next and 0 once called, the same on every screen.
    """

    appointment_id: UUID
    patient_id: UUID
    given_name: str
    whose: str
    check_in_id: UUID
    checked_in_at: datetime
    already: bool
    clinic_id: UUID
    queue_id: UUID
    entry_id: UUID
    ticket: int
    position: int
    status: str
    line_name: str
    room: str | None


class DeskReceipt(Record, frozen=True):
    """What the desk is told of somebody whom it checked in. `already`: they were before."""

    appointment_id: UUID
    patient_id: UUID
    check_in_id: UUID
    checked_in_at: datetime
    already: bool
    queue_id: UUID
    entry_id: UUID
    ticket: int
    position: int
    status: str
    line_name: str
    room: str | None


class WalkIn(Record, frozen=True):
    """Somebody who has come without a visit. `practitioner_id`: whom they see, in a pool."""

    patient_id: UUID
    practitioner_id: UUID | None
    visit_type: str
    length: timedelta


class Candidate(Record, frozen=True):
    """A visit of today that this scan did not check in, and why."""

    appointment_id: UUID
    patient_id: UUID
    given_name: str
    whose: str
    starts_at: datetime
    practitioner_name: str
    site_name: str
    verdict: Verdict
    opens_at: datetime
    closes_at: datetime


class Outcome(StrEnum):
    """Whether the scan checked somebody in, or asks whom it shall."""

    CHECKED_IN = "checked_in"
    CHOICE = "choice"


class ScanResult(Record, frozen=True):
    """What a scan came to: arrivals, and what else there is today."""

    outcome: Outcome
    check_ins: list[Receipt]
    others: list[Candidate]


class ScanPassSold(Record, frozen=True):
    """What a page learns at the first touch, nothing of patients. Units: `expires_in`, seconds."""

    scan_pass: str
    expires_in: int
    clinic_id: UUID
    clinic_name: str
    site_name: str
    point_name: str


class PictureFormat(StrEnum):
    """How a code is drawn."""

    SVG = "svg"
    PNG = "png"


class Poster(Record, frozen=True):
    """A point's code as it is to be scanned: the address that the picture leads to."""

    clinic_id: UUID
    check_in_point_id: UUID
    url: str


class Picture(Record, frozen=True):
    """A drawn code, and whether the storage has it."""

    body: bytes
    is_stored: bool
