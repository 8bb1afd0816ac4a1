"""What the patients room knows of a person in a clinic."""

from collections.abc import Sequence
from datetime import date
from enum import StrEnum
from uuid import UUID

from cliniq.kernel.record import Record


class Gender(StrEnum):
    """How somebody is registered (FHIR administrative-gender)."""

    MALE = "male"
    FEMALE = "female"
    OTHER = "other"
    UNKNOWN = "unknown"


class Details(Record, frozen=True):
    """What a clinic was told beside name and birth, as it was written.

    `language` is a BCP 47 tag: the clinic's note. The person has one too, for the whole
    installation, which no clinic may read or change.
    """

    gender: Gender | None = None
    phone: str | None = None
    email: str | None = None
    address: str | None = None
    language: str | None = None
    deceased_on: date | None = None


class Patient(Record, frozen=True):
    """A person as a clinic knows them (FHIR Patient). `mrn`, where empty, is drawn at admission."""

    patient_id: UUID
    person_id: UUID
    given_name: str
    family_name: str
    birth_date: date | None
    gender: Gender | None = None
    phone: str | None = None
    email: str | None = None
    address: str | None = None
    language: str | None = None
    deceased_on: date | None = None
    mrn: str = ""


class Identifier(Record, frozen=True):
    """How somebody else numbers a patient (FHIR Identifier).

    `system` says who numbers; `kind` what it is (HL7 table 0203: MR, SS, DL, PPN ...).
    """

    system: str
    value: str
    kind: str | None = None


class Newcomer(Record, frozen=True):
    """Somebody whom a file brings. Without `mrn`, one is drawn."""

    given_name: str
    family_name: str
    birth_date: date | None = None
    gender: Gender | None = None
    phone: str | None = None
    email: str | None = None
    address: str | None = None
    language: str | None = None
    deceased_on: date | None = None
    mrn: str | None = None
    identifiers: Sequence[Identifier] = ()


class Outcome(StrEnum):
    """What became of a newcomer."""

    ADMITTED = "admitted"
    KNOWN = "known"
    TWIN = "twin"
    CONFLICT = "conflict"


class Admission(Record, frozen=True):
    """Whose patient a newcomer is; nobody's where their numbers lead to others."""

    patient_id: UUID | None
    outcome: Outcome


class PatientColumns(Record, frozen=True):
    """Many patients as one statement takes them: a list for each column, all equally long."""

    patient_ids: list[UUID]
    person_ids: list[UUID]
    given_names: list[str]
    family_names: list[str]
    birth_dates: list[date | None]
    genders: list[Gender | None]
    phones: list[str | None]
    emails: list[str | None]
    addresses: list[str | None]
    languages: list[str | None]
    deceased_on: list[date | None]
    mrns: list[str]


class Numbered(Record, frozen=True):
    """By which identifier a patient was found."""

    system: str
    value: str
    patient_id: UUID


class Labelled(Record, frozen=True):
    """By which number of one kind a patient was found."""

    value: str
    patient_id: UUID


class Wanted(Record, frozen=True):
    """Which patients are listed: by number, or else by the beginning of the name and by birth."""

    name: str | None
    mrn: str | None
    birth_date: date | None
    identifier: Identifier | None


class Mark(Record, frozen=True):
    """Where a page of a list ended: an id, since a cursor is not secret."""

    patient_id: UUID


class Page(Record, frozen=True):
    """A page of patients, by name; `next_cursor` is none on the last."""

    items: list[Patient]
    next_cursor: str | None


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


class Guarded(Record, frozen=True):
    """A patient, and another patient of the clinic who acts for them."""

    ward_id: UUID
    guardian_id: UUID


class Relationship(StrEnum):
    """By what right somebody acts for a patient."""

    PARENT = "parent"
    GUARDIAN = "guardian"
    CARER = "carer"
