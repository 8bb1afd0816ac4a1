"""What crosses the wire towards the patients room, and back."""

from datetime import date
from uuid import UUID

from cliniq.domains.patients.models import Relationship
from cliniq.kernel.record import Record
from cliniq.platform.http.fields import Day, Incoming, Line


class PatientIn(Incoming):
    """Somebody new to the clinic."""

    given_name: Line
    family_name: Line
    birth_date: Day | None = None


class DependantIn(PatientIn):
    """Somebody whom an existing patient acts for."""

    relationship: Relationship


class PatientOut(Record, frozen=True):
    """A patient as the clinic knows them; the person's id, the same in all clinics, is not told."""

    patient_id: UUID
    given_name: str
    family_name: str
    birth_date: date | None
