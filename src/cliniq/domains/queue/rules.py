"""Pure decisions of the queue room."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from cliniq.domains.queue.models import (
    Board,
    BoardRow,
    CalledTicket,
    EntryStatus,
    QueueHead,
)
from cliniq.kernel.problem import InvalidTransition

FOLLOWS: Mapping[EntryStatus, tuple[EntryStatus, ...]] = MappingProxyType(
    {
        EntryStatus.WAITING: (EntryStatus.CALLED,),
        EntryStatus.CALLED: (EntryStatus.IN_PROGRESS, EntryStatus.NO_SHOW),
        EntryStatus.IN_PROGRESS: (EntryStatus.COMPLETED,),
        EntryStatus.COMPLETED: (),
        EntryStatus.NO_SHOW: (),
    }
)


def due_at(arrived_at: datetime, starts_at: datetime) -> datetime:
    """Say when somebody's turn is due: on time, in the order of bookings; late, by arrival."""
    return max(arrived_at, starts_at)


def ensure_may_follow(now: EntryStatus, then: EntryStatus) -> None:
    """Refuse a step that a place in a queue does not have.

    Raises: INVALID_TRANSITION 409.
    """
    if then not in FOLLOWS[now]:
        raise InvalidTransition(now, then, FOLLOWS[now])


def draw_board(head: QueueHead, rows: Sequence[BoardRow]) -> Board:
    """Lay rows out as a board; those called or seen stand by ticket.

    By no clock: of two calls at once the earlier may commit, and so be told, last.
    """

    def of(status: EntryStatus) -> list[BoardRow]:
        def order(row: BoardRow) -> int:
            return row.place if status is EntryStatus.WAITING else row.ticket

        return sorted((row for row in rows if row.status is status), key=order)

    return Board(
        head.queue_id,
        head.on_day,
        head.line_name,
        [row.ticket for row in of(EntryStatus.WAITING)],
        [CalledTicket(row.ticket, row.room) for row in of(EntryStatus.CALLED)],
        [row.ticket for row in of(EntryStatus.IN_PROGRESS)],
    )
