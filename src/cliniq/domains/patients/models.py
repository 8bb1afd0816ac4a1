"""What the patients room knows of a person in a clinic."""

from datetime import date
from enum import StrEnum
from uuid import UUID

from cliniq.kernel.record import Record


class Patient(Record, frozen=True):
    """A person as a clinic knows them (FHIR Patient)."""

    patient_id: UUID
    person_id: UUID
    given_name: str
    family_name: str
    birth_date: date | None


class Whose(StrEnum):
    """Whether a patient is the caller, or somebody they act for."""

    SELF = "self"
    DEPENDANT = "dependant"


class OwnPatient(Record, frozen=True):
    """A patient in the caller's seat."""

    clinic_id: UUID
    patient_id: UUID
    given_name: str
    whose: Whose


class Relationship(StrEnum):
    """By what right somebody acts for a patient."""

    PARENT = "parent"
    GUARDIAN = "guardian"
    CARER = "carer"
