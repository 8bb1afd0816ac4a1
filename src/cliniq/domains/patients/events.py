"""Facts this room tells."""

from typing import ClassVar
from uuid import UUID

from typing_extensions import override

from cliniq.platform.events import Event


class PatientRegistered(Event, frozen=True):
    """A person became a patient of the clinic."""

    kind: ClassVar[str] = "patients.registered.v1"
    subject_type: ClassVar[str] = "patient"

    patient_id: UUID

    @property
    @override
    def subject_id(self) -> UUID:
        return self.patient_id


class PatientChanged(Event, frozen=True):
    """What is known of a patient was changed; `fields` names what, not how."""

    kind: ClassVar[str] = "patients.changed.v1"
    subject_type: ClassVar[str] = "patient"

    patient_id: UUID
    fields: list[str]

    @property
    @override
    def subject_id(self) -> UUID:
        return self.patient_id


class GuardianAdded(Event, frozen=True):
    """Somebody may act for the patient from now on."""

    kind: ClassVar[str] = "patients.guardian_added.v1"
    subject_type: ClassVar[str] = "patient"

    patient_id: UUID
    guardian_id: UUID

    @property
    @override
    def subject_id(self) -> UUID:
        return self.patient_id
