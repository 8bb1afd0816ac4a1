"""The only door into the appointments room."""

from cliniq.domains.appointments.bulk import book_all, open_for
from cliniq.domains.appointments.errors import (
    AppointmentNotFound,
    StaleVersion,
)
from cliniq.domains.appointments.models import (
    Appointment,
    AppointmentStatus,
    Imported,
    Recorded,
    Wish,
)
from cliniq.domains.appointments.rules import AT_ONCE
from cliniq.domains.appointments.service import (
    book,
    bounds_of_day,
    cancel,
    get_appointment,
    receive,
    reschedule,
    transition,
)
from cliniq.domains.appointments.store import list_booked, list_own, next_start

__all__ = [
    "AT_ONCE",
    "Appointment",
    "AppointmentNotFound",
    "AppointmentStatus",
    "Imported",
    "Recorded",
    "StaleVersion",
    "Wish",
    "book",
    "book_all",
    "bounds_of_day",
    "cancel",
    "get_appointment",
    "list_booked",
    "list_own",
    "next_start",
    "open_for",
    "receive",
    "reschedule",
    "transition",
]
