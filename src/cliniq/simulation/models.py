"""What the play knows of clinics, their people and their visits."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from cliniq.kernel.ids import ClinicId, PersonId, SessionId
from cliniq.kernel.record import Record


class Actor(Record, frozen=True):
    """Somebody who acts: signed in by the play, not by a password."""

    person_id: PersonId
    session_id: SessionId
    is_staff: bool = False


class Doctor(Record, frozen=True):
    """Somebody who calls and sees people."""

    practitioner_id: UUID
    name: str
    actor: Actor
    room: str


class Place(Record, frozen=True):
    """A site, and the code at its door."""

    site_id: UUID
    name: str
    zone: ZoneInfo
    code: str


class Visit(Record, frozen=True):
    """A booked visit. `key` is the same in every run of a story; ids are not."""

    key: str
    appointment_id: UUID
    patient_id: UUID
    practitioner_id: UUID
    site_id: UUID
    starts_at: datetime


class Company(Record, frozen=True):
    """A clinic with all who play in it on one day. `families`: whom somebody brings along."""

    clinic_id: ClinicId
    name: str
    desk: Actor
    places: Mapping[UUID, Place]
    doctors: Mapping[UUID, Doctor]
    visits: Sequence[Visit]
    patients: Mapping[UUID, Actor]
    families: Mapping[UUID, UUID]
