"""What crosses the wire towards the patients room, and back."""

from datetime import date
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from cliniq.domains.patients.models import Details, Gender, Relationship
from cliniq.kernel.record import Record
from cliniq.platform.http.fields import Day, Incoming, Line, LongLine

# BCP 47, as far as its form goes.
Language = Annotated[
    str, StringConstraints(max_length=35, pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")
]


class DetailsIn(Incoming):
    """What may be said of a patient beside name and birth. Contacts are kept as they are written.

    They are not judged: what a clinic was given is worth more than what a rule makes of it.
    """

    gender: Gender | None = None
    phone: Line | None = None
    email: Line | None = None
    address: LongLine | None = None
    language: Language | None = None
    deceased_on: Day | None = None


class PatientIn(DetailsIn):
    """Somebody new to the clinic."""

    given_name: Line
    family_name: Line
    birth_date: Day | None = None

    @property
    def details(self) -> Details:
        """Gather what stands beside name and birth."""
        return Details(
            self.gender, self.phone, self.email, self.address, self.language, self.deceased_on
        )


class DependantIn(PatientIn):
    """Somebody whom an existing patient acts for."""

    relationship: Relationship


class PatientChangeIn(DetailsIn):
    """What is to be changed of a patient: only what is named. Null takes a detail away."""

    given_name: Line = Field(default_factory=str)
    family_name: Line = Field(default_factory=str)
    birth_date: Day | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """Gather what was named."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class PatientOut(Record, frozen=True):
    """A patient as the clinic knows them; the person's id, the same in all clinics, is not told."""

    patient_id: UUID
    mrn: str
    given_name: str
    family_name: str
    birth_date: date | None
    gender: Gender | None
    phone: str | None
    email: str | None
    address: str | None
    language: str | None
    deceased_on: date | None


class PatientPageOut(Record, frozen=True):
    """A page of patients, by name; `next_cursor` is none on the last."""

    items: list[PatientOut]
    next_cursor: str | None
