"""What the access room knows of who works where."""

from datetime import date
from uuid import UUID

from cliniq.kernel.permissions import Role
from cliniq.kernel.record import Record


class Membership(Record, frozen=True):
    """One role of a person in a clinic."""

    clinic_id: UUID
    role: Role


class ClinicMembership(Record, frozen=True):
    """Everything that a person is in a clinic."""

    clinic_id: UUID
    clinic_name: str
    roles: list[Role]


class Practitioner(Record, frozen=True):
    """A person who sees patients (FHIR PractitionerRole); `name` is shown to patients."""

    practitioner_id: UUID
    person_id: UUID
    name: str


class Me(Record, frozen=True):
    """The person behind a sign-in, across clinics."""

    person_id: UUID
    given_name: str
    family_name: str
    birth_date: date | None
    language: str
    memberships: list[ClinicMembership]
