"""What the clinics room knows of places."""

from enum import StrEnum
from uuid import UUID

from cliniq.kernel.record import Record


class QueueMode(StrEnum):
    """Whether a site has a line for every practitioner, or one for all of them."""

    PRACTITIONER = "practitioner"
    POOL = "pool"


class QrMode(StrEnum):
    """Whether a point's code hangs in print, or rotates on a screen."""

    STATIC = "static"
    ROTATING = "rotating"


class Verification(StrEnum):
    """What a printed code needs beside itself: nothing, the code on the screen, or the desk."""

    NONE = "none"
    DISPLAY = "display"
    DESK = "desk"


class Clinic(Record, frozen=True):
    """A clinic. `zone` is an IANA name; a site has its own."""

    clinic_id: UUID
    name: str
    app_name: str
    zone: str


class Site(Record, frozen=True):
    """A clinic location (FHIR Location). "Today" there is the day in `zone`, an IANA name."""

    site_id: UUID
    name: str
    zone: str
    address: str
    directions_url: str | None
    queue_mode: QueueMode


class CheckInPoint(Record, frozen=True):
    """A door, desk or room with a code of its own.

    Bounds: a code is live when its key id is from `oldest_key` to `key_id`.
    """

    check_in_point_id: UUID
    site_id: UUID
    name: str
    room: str | None
    qr_mode: QrMode
    verification: Verification
    key_id: int
    oldest_key: int


class PointInPlace(Record, frozen=True):
    """A check-in point with the site and the clinic around it."""

    check_in_point_id: UUID
    point_name: str
    point_room: str | None
    qr_mode: QrMode
    verification: Verification
    key_id: int
    oldest_key: int
    site_id: UUID
    site_name: str
    zone: str
    queue_mode: QueueMode
    clinic_id: UUID
    clinic_name: str
