"""Facts this room tells. Those who watch a queue see tickets, never people."""

from typing import ClassVar
from uuid import UUID

from typing_extensions import override

from cliniq.domains.queue.models import EntryStatus
from cliniq.kernel.record import Record
from cliniq.platform.events import Event


class ShownTicket(Record, frozen=True):
    """What all who watch a queue may see of a fact about a ticket."""

    ticket: int


class ShownJoin(Record, frozen=True):
    """A ticket that waits now; `position` counts from 1."""

    ticket: int
    position: int


class ShownCall(Record, frozen=True):
    """A ticket that is called, and where to."""

    ticket: int
    room: str | None


class QueueEvent(Event, frozen=True):
    """Something happened to a place; the queue has `version` since."""

    subject_type: ClassVar[str] = "queue_entry"

    queue_id: UUID
    entry_id: UUID
    ticket: int
    version: int

    @property
    @override
    def subject_id(self) -> UUID:
        return self.entry_id

    @property
    @override
    def topic(self) -> str:
        return f"queue:{self.queue_id}"

    @property
    @override
    def topic_version(self) -> int:
        return self.version


class EntryJoined(QueueEvent, frozen=True):
    """Somebody waits, at `position` among those who wait."""

    kind: ClassVar[str] = "queue.entry_joined.v1"

    position: int

    @override
    def shown(self) -> ShownJoin:
        return ShownJoin(self.ticket, self.position)


class EntryCalled(QueueEvent, frozen=True):
    """Somebody was called to a room."""

    kind: ClassVar[str] = "queue.entry_called.v1"

    room: str | None

    @override
    def shown(self) -> ShownCall:
        return ShownCall(self.ticket, self.room)


class EntryStarted(QueueEvent, frozen=True):
    """Somebody is being seen."""

    kind: ClassVar[str] = "queue.entry_started.v1"

    @override
    def shown(self) -> ShownTicket:
        return ShownTicket(self.ticket)


class EntryCompleted(QueueEvent, frozen=True):
    """Somebody has been seen."""

    kind: ClassVar[str] = "queue.entry_completed.v1"

    @override
    def shown(self) -> ShownTicket:
        return ShownTicket(self.ticket)


class EntryLeft(QueueEvent, frozen=True):
    """Somebody waits no longer and will not be seen; `outcome` says why."""

    kind: ClassVar[str] = "queue.entry_left.v1"

    outcome: EntryStatus

    @override
    def shown(self) -> ShownTicket:
        return ShownTicket(self.ticket)
