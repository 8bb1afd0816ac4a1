"""The only door into the queue room."""

from cliniq.domains.queue.errors import EntryNotFound, QueueEmpty, QueueNotFound
from cliniq.domains.queue.models import Arrival, EntryStatus, Line, Place
from cliniq.domains.queue.rules import due_at
from cliniq.domains.queue.service import call_next, complete, join, start
from cliniq.domains.queue.store import list_own_places, list_places_of

__all__ = [
    "Arrival",
    "EntryNotFound",
    "EntryStatus",
    "Line",
    "Place",
    "QueueEmpty",
    "QueueNotFound",
    "call_next",
    "complete",
    "due_at",
    "join",
    "list_own_places",
    "list_places_of",
    "start",
]
