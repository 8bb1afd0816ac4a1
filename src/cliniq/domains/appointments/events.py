"""Facts this room tells."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from typing_extensions import override

from cliniq.domains.appointments.models import AppointmentStatus
from cliniq.platform.events import Event


class AppointmentChanged(Event, frozen=True):
    """A visit was booked, moved or went to another state; `from_status` is none for a new one."""

    kind: ClassVar[str] = "appointments.changed.v1"
    subject_type: ClassVar[str] = "appointment"

    appointment_id: UUID
    patient_id: UUID
    practitioner_id: UUID
    site_id: UUID
    starts_at: datetime
    from_status: AppointmentStatus | None
    to_status: AppointmentStatus
    version: int

    @property
    @override
    def subject_id(self) -> UUID:
        return self.appointment_id
