"""What the scheduling room knows of a booking."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from cliniq.kernel.record import Record


class ResourceKind(StrEnum):
    """What can be busy."""

    PRACTITIONER = "practitioner"
    PATIENT = "patient"
    ROOM = "room"
    DEVICE = "device"


class Booking(Record, frozen=True):
    """A patient's promise of time, from `starts_at` up to but without `ends_at`."""

    booking_id: UUID
    patient_id: UUID
    starts_at: datetime
    ends_at: datetime


class Resource(Record, frozen=True):
    """Something that can be busy; a patient's is that patient's own row."""

    resource_id: UUID
    kind: ResourceKind
    patient_id: UUID | None
