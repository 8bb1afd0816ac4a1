"""What the appointments room knows of a visit."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from cliniq.kernel.record import Record


class AppointmentStatus(StrEnum):
    """Where a visit stands; each maps to a FHIR Appointment status."""

    PROPOSED = "proposed"
    BOOKED = "booked"
    CONFIRMED = "confirmed"
    CHECKED_IN = "checked_in"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    NO_SHOW = "no_show"
    WAITLISTED = "waitlisted"
    ENTERED_IN_ERROR = "entered_in_error"


class Appointment(Record, frozen=True):
    """One visit, from `starts_at` up to but without `ends_at` (UTC). `version` counts changes."""

    appointment_id: UUID
    patient_id: UUID
    practitioner_id: UUID
    site_id: UUID
    visit_type: str
    starts_at: datetime
    ends_at: datetime
    status: AppointmentStatus
    version: int


class OwnAppointment(Record, frozen=True):
    """A visit as its patient sees it across clinics."""

    clinic_id: UUID
    appointment_id: UUID
    patient_id: UUID
    practitioner_id: UUID
    site_id: UUID
    visit_type: str
    starts_at: datetime
    ends_at: datetime
    status: AppointmentStatus
    version: int


class Wish(Record, frozen=True):
    """A visit that somebody wants."""

    patient_id: UUID
    practitioner_id: UUID
    site_id: UUID
    visit_type: str
    starts_at: datetime
    ends_at: datetime


class Imported(Record, frozen=True):
    """A visit that comes from elsewhere, with what became of it there.

    `reference` is what it is called there: by it a second reading recognises it.
    """

    patient_id: UUID
    practitioner_id: UUID
    site_id: UUID
    visit_type: str
    starts_at: datetime
    ends_at: datetime
    status: AppointmentStatus
    booked_at: datetime
    reference: str | None = None


class Recorded(Record, frozen=True):
    """What became of a visit from elsewhere: its id here, or the code of its refusal.

    `known` where it was here already.
    """

    appointment_id: UUID | None
    refusal: str | None
    known: bool = False


class Step(Record, frozen=True):
    """One step in the life of a visit, before it is written."""

    version: int
    changed_at: datetime
    from_status: AppointmentStatus | None
    to_status: AppointmentStatus


class AppointmentColumns(Record, frozen=True):
    """Many visits as one statement takes them: a list for each column, all equally long."""

    appointment_ids: list[UUID]
    patient_ids: list[UUID]
    practitioner_ids: list[UUID]
    site_ids: list[UUID]
    visit_types: list[str]
    starts: list[datetime]
    ends: list[datetime]
    statuses: list[AppointmentStatus]
    versions: list[int]


class StepColumns(Record, frozen=True):
    """Many steps of many visits, likewise."""

    appointment_ids: list[UUID]
    patient_ids: list[UUID]
    versions: list[int]
    changed_at: list[datetime]
    from_statuses: list[AppointmentStatus | None]
    to_statuses: list[AppointmentStatus]
    starts: list[datetime]


class Referenced(Record, frozen=True):
    """By what name from elsewhere a visit was found."""

    reference: str
    appointment_id: UUID


class OpenMonth(Record, frozen=True):
    """Whether a month (its first day, UTC) takes visits, and steps of their history."""

    month: date
    takes_visits: bool
    takes_steps: bool


class Change(Record, frozen=True):
    """One step of a visit's history, as it is written with the step."""

    appointment_id: UUID
    starts_at: datetime
    version: int
    to_status: AppointmentStatus
    new_starts_at: datetime
    new_ends_at: datetime
    changed_at: datetime
    actor_id: UUID | None
    reason: str


class HistoryEntry(Record, frozen=True):
    """One step of a visit's history. `version` is the one that the step made.

    Who took it is in the audit: a person's id is the same in all clinics, and not told.
    """

    version: int
    changed_at: datetime
    from_status: AppointmentStatus | None
    to_status: AppointmentStatus
    starts_at: datetime
    reason: str


class Mark(Record, frozen=True):
    """Where a page of a list ended."""

    starts_at: datetime
    appointment_id: UUID


class Page(Record, frozen=True):
    """A page of appointments, earliest first; `next_cursor` is none on the last."""

    items: list[Appointment]
    next_cursor: str | None


class DayFilter(Record, frozen=True):
    """Whose day is listed: one of site, practitioner or patient; and which status, if any."""

    day: date | None
    site_id: UUID | None
    practitioner_id: UUID | None
    patient_id: UUID | None
    status: AppointmentStatus | None
