"""What crosses the wire towards the appointments room."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from pydantic import Field

from cliniq.platform.http.fields import Incoming, Instant, Line

Minutes = Annotated[int, Field(ge=5, le=480, strict=True)]


class AppointmentIn(Incoming):
    """A visit that somebody wants. Units: `minutes` of the slot."""

    patient_id: UUID
    practitioner_id: UUID
    site_id: UUID
    visit_type: Line = "consultation"
    starts_at: Instant
    minutes: Minutes = 15

    @property
    def length(self) -> timedelta:
        """Say how long it takes."""
        return timedelta(minutes=self.minutes)


class RescheduleIn(Incoming):
    """Another time for a visit. With the `version` that was seen, a rival change is refused."""

    starts_at: Instant
    minutes: Minutes | None = None
    version: Annotated[int, Field(ge=1, lt=2**53, strict=True)] | None = None
    reason: Line | None = None


class CancelIn(Incoming):
    """Why a visit will not take place."""

    reason: Line | None = None


class NoShowIn(Incoming):
    """What is known of why somebody did not come."""

    reason: Line | None = None
