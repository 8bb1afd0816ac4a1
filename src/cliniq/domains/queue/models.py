"""What the queue room knows of those who wait."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from cliniq.kernel.record import Record


class EntryStatus(StrEnum):
    """Where somebody with a ticket is."""

    WAITING = "waiting"
    CALLED = "called"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    NO_SHOW = "no_show"


class Line(Record, frozen=True):
    """Which queue somebody belongs in: of a practitioner or of a site's pool, on a local day."""

    site_id: UUID
    line_id: UUID
    on_day: date


class Arrival(Record, frozen=True):
    """Somebody who starts to wait. `due_at`: the later of arrival and booked start."""

    appointment_id: UUID
    patient_id: UUID
    practitioner_id: UUID
    line: Line
    due_at: datetime


class Ticket(Record, frozen=True):
    """A new place in a queue, and the version that the queue has with it."""

    queue_id: UUID
    entry_id: UUID
    ticket: int
    line_name: str
    version: int


class Place(Record, frozen=True):
    """A place in a queue. `position` is 1 for who is next, 0 once called, on every screen."""

    clinic_id: UUID
    queue_id: UUID
    entry_id: UUID
    appointment_id: UUID
    patient_id: UUID
    ticket: int
    status: EntryStatus
    position: int
    room: str | None
    line_name: str


class MyPlace(Record, frozen=True):
    """A place as its patient sees it across clinics; `whose` is `self` or `dependant`."""

    clinic_id: UUID
    clinic_name: str
    queue_id: UUID
    entry_id: UUID
    appointment_id: UUID
    patient_id: UUID
    given_name: str
    whose: str
    ticket: int
    status: EntryStatus
    position: int
    room: str | None
    line_name: str


class Entry(Record, frozen=True):
    """A place as staff work on it."""

    entry_id: UUID
    queue_id: UUID
    ticket: int
    appointment_id: UUID
    patient_id: UUID
    status: EntryStatus
    priority: int
    due_at: datetime
    entered_at: datetime
    called_at: datetime | None
    room: str | None


class CalledEntry(Record, frozen=True):
    """Who was called, for the caller to greet by name."""

    entry_id: UUID
    queue_id: UUID
    ticket: int
    appointment_id: UUID
    patient_id: UUID
    patient_name: str
    status: EntryStatus
    room: str | None


class QueueHead(Record, frozen=True):
    """A queue at a glance."""

    queue_id: UUID
    site_id: UUID
    line_id: UUID
    line_name: str
    on_day: date
    version: int
    waiting: int
    called: int


class EntryAtDesk(Record, frozen=True):
    """A place with the name that staff call out."""

    entry_id: UUID
    ticket: int
    appointment_id: UUID
    patient_id: UUID
    patient_name: str
    status: EntryStatus
    priority: int
    due_at: datetime
    entered_at: datetime
    called_at: datetime | None
    room: str | None


class QueueSnapshot(Record, frozen=True):
    """A queue with everyone in it: those being seen, those called, those who wait, in order."""

    queue_id: UUID
    site_id: UUID
    line_id: UUID
    line_name: str
    on_day: date
    version: int
    entries: list[EntryAtDesk]


class BoardRow(Record, frozen=True):
    """A ticket on a board; `place` is its order among those of its status."""

    ticket: int
    status: EntryStatus
    room: str | None
    place: int


class CalledTicket(Record, frozen=True):
    """A ticket that is called, and where to."""

    ticket: int
    room: str | None


class Board(Record, frozen=True):
    """A queue as all may see it: tickets, never people; `waiting` in order of calls to come."""

    queue_id: UUID
    on_day: date
    line_name: str
    waiting: list[int]
    called: list[CalledTicket]
    in_progress: list[int]
