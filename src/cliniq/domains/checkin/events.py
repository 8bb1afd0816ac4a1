"""Facts this room tells."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from typing_extensions import override

from cliniq.domains.checkin.models import Method
from cliniq.platform.events import Event


class CheckInCompleted(Event, frozen=True):
    """A patient has arrived and waits; at the desk there is no check-in point."""

    kind: ClassVar[str] = "checkin.completed.v1"
    subject_type: ClassVar[str] = "check_in"

    check_in_id: UUID
    appointment_id: UUID
    patient_id: UUID
    check_in_point_id: UUID | None
    queue_id: UUID
    ticket: int
    method: Method
    checked_in_at: datetime

    @property
    @override
    def subject_id(self) -> UUID:
        return self.check_in_id


class WindowRuleAdded(Event, frozen=True):
    """A clinic has a window of its own for check-in. Units: minutes."""

    kind: ClassVar[str] = "checkin.window_rule_added.v1"
    subject_type: ClassVar[str] = "check_in_rule"

    rule_id: UUID
    site_id: UUID | None
    visit_type: str | None
    opens_minutes: int
    closes_minutes: int

    @property
    @override
    def subject_id(self) -> UUID:
        return self.rule_id
