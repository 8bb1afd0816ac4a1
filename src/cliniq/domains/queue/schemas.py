"""What crosses the wire towards the queue room."""

from uuid import UUID

from cliniq.platform.http.fields import Incoming, Line


class CallIn(Incoming):
    """Where the next person is to go."""

    room: Line | None = None


class LineIn(Incoming):
    """Whose queue is opened; where a site has one line for all, it is opened for all."""

    site_id: UUID
    practitioner_id: UUID | None = None
