"""What the identity room knows of a human and of their sign-ins."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from cliniq.kernel.record import Record


class Person(Record, frozen=True):
    """A human, with or without an account. `language` is a BCP 47 tag."""

    person_id: UUID
    given_name: str
    family_name: str
    birth_date: date | None
    language: str


class AccountStatus(StrEnum):
    """Whether somebody may sign in."""

    ACTIVE = "active"
    DISABLED = "disabled"


class Account(Record, frozen=True):
    """What a sign-in is checked against."""

    person_id: UUID
    password_hash: str
    status: AccountStatus
    given_name: str
    family_name: str


class Session(Record, frozen=True):
    """A sign-in. `generation` counts its refresh tokens: only the newest is good."""

    person_id: UUID
    session_id: UUID
    generation: int
    expires_at: datetime
    refreshed_at: datetime
    ended_at: datetime | None


class SignedIn(Record, frozen=True):
    """Proof of a sign-in, for the client to keep. Units: `expires_in` in seconds."""

    access_token: str
    expires_in: int
    refresh_token: str
    person_id: UUID
    given_name: str
    family_name: str


class Hints(Record, frozen=True):
    """What saves a try at the door, and proves nothing: home clinic, and whether one is staff."""

    home_clinic_id: UUID | None
    is_staff: bool
