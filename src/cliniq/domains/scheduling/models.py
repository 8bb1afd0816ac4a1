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


class Want(Record, frozen=True):
    """A booking and whose time it takes; nobody's where it will not take place."""

    booking: Booking
    resources: tuple[Resource, ...]


class ResourceNumber(Record, frozen=True):
    """By which number a resource claims time."""

    resource_id: UUID
    number: int


class Claim(Record, frozen=True):
    """Time of a resource that a booking got."""

    booking_id: UUID
    number: int


class Standing(Record, frozen=True):
    """Where the bookings of one round stand: in file order, but for those that got their time."""

    refused: list[Want]
    undecided: list[Want]
