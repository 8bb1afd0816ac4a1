"""What crosses the wire towards the queue room."""

from cliniq.platform.http.fields import Incoming, Line


class CallIn(Incoming):
    """Where the next person is to go."""

    room: Line | None = None
