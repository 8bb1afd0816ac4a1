"""What crosses the wire from the access room."""

from uuid import UUID

from cliniq.kernel.record import Record


class PractitionerOut(Record, frozen=True):
    """Somebody who can be booked; who they are beyond the clinic is not told."""

    practitioner_id: UUID
    name: str
