"""Every refusal this room can utter, beside those of scheduling."""

from cliniq.kernel.problem import Conflict, NotFound


class AppointmentNotFound(NotFound):
    """The clinic has no such appointment, or it is not the caller's own."""

    code = "APPOINTMENT_NOT_FOUND"
    title = "No such appointment here"


class StaleVersion(Conflict):
    """Somebody changed the visit since it was read; read it again and decide anew."""

    code = "STALE_VERSION"
    title = "This was changed by somebody else in the meantime"
