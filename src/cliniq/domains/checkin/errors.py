"""Every refusal this room can utter."""

from datetime import datetime

from cliniq.kernel.problem import Conflict, Forbidden, NotFound, RuleBroken


class QrInvalid(NotFound):
    """The code or scan pass is forged, cut, or of a point that does not exist."""

    code = "QR_INVALID"
    title = "This is not a code of ours; scan the one at the door"


class CheckInPointNotFound(NotFound):
    """The clinic has no such check-in point."""

    code = "CHECK_IN_POINT_NOT_FOUND"
    title = "No such check-in point in this clinic"


class QrExpired(Conflict):
    """The code has rotated out, its key is retired, or the scan pass is too old."""

    code = "QR_EXPIRED"
    title = "This code is no longer valid; scan the one at the door again"


class VerificationRequired(Forbidden):
    """The code alone does not prove presence here; `step` is `display` or `desk`."""

    code = "VERIFICATION_REQUIRED"
    title = "This location asks for one more step"
    is_denial = False

    def __init__(self, step: str) -> None:
        super().__init__(step=step)


class NoAppointmentFound(NotFound):
    """The person has no appointment here today; `next_at` is their own next one, if any."""

    code = "NO_APPOINTMENT_FOUND"
    title = "There is no appointment for you here today"
    is_denial = False

    def __init__(self, next_at: datetime | None) -> None:
        super().__init__(next_at=next_at.isoformat() if next_at else None)


class AlreadyCheckedIn(Conflict):
    """The visit is in progress or over."""

    code = "ALREADY_CHECKED_IN"
    title = "This visit has already begun"


class WrongLocation(Conflict):
    """The visit is at another location, which the facts describe."""

    code = "WRONG_LOCATION"
    title = "Your appointment is at another location"

    def __init__(
        self, site_name: str, address: str, directions_url: str | None, room: str | None = None
    ) -> None:
        super().__init__(
            site_name=site_name, room=room, address=address, directions_url=directions_url
        )


class CheckInTooEarly(RuleBroken):
    """The window has yet to open, at `opens_at`."""

    code = "CHECKIN_TOO_EARLY"
    title = "Check-in is not open yet"

    def __init__(self, opens_at: datetime) -> None:
        super().__init__(opens_at=opens_at.isoformat())


class AppointmentExpired(RuleBroken):
    """The window closed, at `closed_at`; the desk can still help."""

    code = "APPOINTMENT_EXPIRED"
    title = "The check-in window has closed; please go to the desk"

    def __init__(self, closed_at: datetime) -> None:
        super().__init__(closed_at=closed_at.isoformat())
