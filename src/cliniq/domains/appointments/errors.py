"""Every refusal this room can utter, beside those of scheduling."""

from datetime import datetime

from cliniq.kernel.problem import Conflict, NotFound, RuleBroken


class AppointmentNotFound(NotFound):
    """The clinic has no such appointment, or it is not the caller's own."""

    code = "APPOINTMENT_NOT_FOUND"
    title = "No such appointment here"


class StaleVersion(Conflict):
    """Somebody changed the visit since it was read; read it again and decide anew."""

    code = "STALE_VERSION"
    title = "This was changed by somebody else in the meantime"


class NoShowTooEarly(RuleBroken):
    """Nobody has missed a visit before it starts, at `starts_at`."""

    code = "NO_SHOW_TOO_EARLY"
    title = "This visit has not started yet"

    def __init__(self, starts_at: datetime) -> None:
        super().__init__(starts_at=starts_at.isoformat())
