"""The only door into the queue room."""

from cliniq.domains.queue.errors import EntryNotFound, QueueEmpty, QueueNotFound, QueueOver
from cliniq.domains.queue.models import (
    Arrival,
    Board,
    CalledTicket,
    EntryStatus,
    Line,
    Place,
    QueueHead,
    QueueSnapshot,
)
from cliniq.domains.queue.rules import due_at
from cliniq.domains.queue.service import (
    call_next,
    complete,
    get_todays,
    join,
    line_of,
    miss,
    open_today,
    start,
)
from cliniq.domains.queue.store import list_own_places, list_places_of

__all__ = [
    "Arrival",
    "Board",
    "CalledTicket",
    "EntryNotFound",
    "EntryStatus",
    "Line",
    "Place",
    "QueueEmpty",
    "QueueHead",
    "QueueNotFound",
    "QueueOver",
    "QueueSnapshot",
    "call_next",
    "complete",
    "due_at",
    "get_todays",
    "join",
    "line_of",
    "list_own_places",
    "list_places_of",
    "miss",
    "open_today",
    "start",
]
