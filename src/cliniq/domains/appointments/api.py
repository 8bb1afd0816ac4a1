"""The only door into the appointments room."""

from cliniq.domains.appointments.errors import (
    AppointmentNotFound,
    StaleVersion,
)
from cliniq.domains.appointments.models import (
    Appointment,
    AppointmentStatus,
    Wish,
)
from cliniq.domains.appointments.service import (
    book,
    bounds_of_day,
    cancel,
    get_appointment,
    reschedule,
    transition,
)
from cliniq.domains.appointments.store import list_own, next_start

__all__ = [
    "Appointment",
    "AppointmentNotFound",
    "AppointmentStatus",
    "StaleVersion",
    "Wish",
    "book",
    "bounds_of_day",
    "cancel",
    "get_appointment",
    "list_own",
    "next_start",
    "reschedule",
    "transition",
]
