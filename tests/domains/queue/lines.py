"""People who wait in a line, without a scan each; and a watcher who keeps a board by its events."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from cliniq.domains.queue import api as queue
from cliniq.domains.queue import service
from cliniq.domains.queue.models import Board, CalledTicket
from cliniq.kernel.ids import new_id
from cliniq.platform.live import LiveEvent, Snapshot, on_the_wire
from tests.support import NOON, Admin, SomeClinic, SomePatient

MINUTE = timedelta(minutes=1)


def line_of(clinic: SomeClinic) -> queue.Line:
    return queue.Line(clinic.site.site_id, clinic.practitioner_id, NOON.date())


async def arrivals(
    clinic: SomeClinic, admin: Admin, due: list[datetime], patient: SomePatient | None = None
) -> list[queue.Arrival]:
    """People with bookings who are about to join a line, each due at a time."""
    patient = patient or await clinic.patient()
    ids = [new_id() for _ in due]
    await admin.execute(
        "insert into booking (clinic_id, booking_id, patient_id, starts_at)"
        " select $1, booking_id, $2, $4 from unnest($3::uuid[]) as booking_id",
        clinic.clinic_id,
        patient.patient_id,
        ids,
        NOON,
    )
    line = line_of(clinic)
    return [
        queue.Arrival(each, patient.patient_id, clinic.practitioner_id, line, at)
        for each, at in zip(ids, due, strict=True)
    ]


async def line_up(
    clinic: SomeClinic, admin: Admin, due: list[datetime], patient: SomePatient | None = None
) -> list[queue.Place]:
    """Have people wait, one after another; their places as they were told."""
    places: list[queue.Place] = []
    for arrival in await arrivals(clinic, admin, due, patient):
        async with clinic.unit() as unit:
            places += (await queue.join(unit, [arrival])).values()
    return places


async def board_of(clinic: SomeClinic, queue_id: UUID) -> Snapshot:
    async with clinic.unit() as unit:
        return await service.watch_board(unit, queue_id)


@dataclass
class Watcher:
    """Keeps a board as a page does: from a snapshot on, by the next event and no other."""

    version: int
    board: Board
    early: dict[int, LiveEvent] = field(default_factory=dict)

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Watcher":
        assert isinstance(snapshot.state, Board)
        return cls(snapshot.version, snapshot.state)

    def take(self, events: list[LiveEvent]) -> None:
        """Take events in whatever order they were told."""
        for event in events:
            assert on_the_wire(event.topic) == f"queue:{self.board.queue_id}"
            assert event.version not in self.early
            self.early[event.version] = event
        while following := self.early.pop(self.version + 1, None):
            self.version = following.version
            self.board = changed(self.board, following.kind, msgspec.json.decode(following.body))


def changed(board: Board, kind: str, body: Any) -> Board:
    """What a board shows after an event, by the same rules as the pages'."""
    ticket = body["ticket"]
    waiting = [each for each in board.waiting if each != ticket]
    called = [each for each in board.called if each.ticket != ticket]
    in_progress = [each for each in board.in_progress if each != ticket]
    match kind:
        case "queue.entry_joined.v1":
            waiting.insert(body["position"] - 1, ticket)
        case "queue.entry_called.v1":
            called.append(CalledTicket(ticket, body["room"]))
        case "queue.entry_started.v1":
            in_progress.append(ticket)
        case "queue.entry_completed.v1" | "queue.entry_left.v1":
            pass
        case _:
            raise AssertionError(kind)
    head = (board.queue_id, board.on_day, board.line_name)
    called.sort(key=lambda each: each.ticket)
    return Board(*head, waiting, called, sorted(in_progress))
