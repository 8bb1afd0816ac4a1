"""What must be true of the queues, kept by the players themselves, and what was found instead."""

from collections import Counter
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from cliniq.domains.queue import api as queue
from cliniq.kernel.record import Record

MOST_TOLD = 20


class Waiting(Record, frozen=True):
    """Somebody who waits: in the order of when they are due, then of their tickets."""

    due_at: datetime
    ticket: int
    entry_id: UUID
    patient_id: UUID


class Line:
    """A queue as it must be."""

    def __init__(self, queue_id: UUID, practitioner_id: UUID) -> None:
        self.queue_id = queue_id
        self.practitioner_id = practitioner_id
        self.waiting: dict[int, Waiting] = {}
        self.called: dict[int, str | None] = {}
        self.begun: set[int] = set()
        self.tickets: dict[int, UUID] = {}  # whose visit each ticket is

    @property
    def in_order(self) -> list[Waiting]:
        """List who waits, the next one first."""
        return sorted(self.waiting.values(), key=lambda each: (each.due_at, each.ticket))

    def board(self) -> tuple[list[int], list[queue.CalledTicket], list[int]]:
        """Say what a board must show."""
        return (
            [each.ticket for each in self.in_order],
            [queue.CalledTicket(ticket, self.called[ticket]) for ticket in sorted(self.called)],
            sorted(self.begun),
        )


class Ledger:
    """All queues of a clinic as they must be, the story so far, and what was wrong."""

    def __init__(self) -> None:
        self.lines: dict[UUID, Line] = {}  # by queue
        self.of_doctor: dict[UUID, Line] = {}
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._story = sha256()

    def line(self, queue_id: UUID, practitioner_id: UUID) -> Line:
        """Find a queue, or begin it."""
        if queue_id not in self.lines:
            line = Line(queue_id, practitioner_id)
            self.lines[queue_id] = self.of_doctor[practitioner_id] = line
        return self.lines[queue_id]

    def note(self, now: datetime, who: str, what: str, *facts: object) -> None:
        """Write on in the story: words that are the same in every run."""
        said = (now.isoformat(), who, what, *map(str, facts))
        self._story.update("\x1f".join(said).encode() + b"\n")

    @property
    def digest(self) -> bytes:
        """Name the story so far."""
        return self._story.digest()

    def fault(self, kind: str, words: str) -> None:
        """Count something that must not be: `lost`, `doubled`, `stuck` or `astray`."""
        self.counts[kind] += 1
        if len(self.wrong) < MOST_TOLD:
            self.wrong.append(f"{kind}: {words}")

    def join(self, line: Line, waiting: Waiting, appointment_id: UUID) -> None:
        """Take somebody in who got a ticket: the next one of the roll, and their only one."""
        if waiting.ticket in line.tickets:
            self.fault("doubled", f"ticket {waiting.ticket} was given twice")
        elif appointment_id in line.tickets.values():
            self.fault("doubled", f"ticket {waiting.ticket} is a visit's second one")
        elif waiting.ticket != len(line.tickets) + 1:
            self.fault("lost", f"ticket {waiting.ticket} follows {len(line.tickets)}")
        line.tickets[waiting.ticket] = appointment_id
        line.waiting[waiting.ticket] = waiting

    def call(self, line: Line, ticket: int, room: str | None) -> bool:
        """Have somebody called: who must have been the next one. Tell whether they waited."""
        if ticket not in line.waiting:
            self.fault("doubled", f"ticket {ticket} was called and does not wait")
            return False
        if ticket != line.in_order[0].ticket:
            self.fault("astray", f"ticket {ticket} was called before {line.in_order[0].ticket}")
        del line.waiting[ticket]
        line.called[ticket] = room
        return True

    def compare(self, line: Line, desk: queue.QueueSnapshot, board: queue.Board | None) -> None:
        """Hold what desk and board show against what must be."""
        waiting, called, begun = line.board()
        seen = [(each.ticket, each.status) for each in desk.entries]
        there = {ticket for ticket, _ in seen}
        must = {*waiting, *(each.ticket for each in called), *begun}
        for ticket in must - there:
            self.fault("lost", f"ticket {ticket} is not at the desk")
        for ticket in there - must:
            self.fault("doubled", f"ticket {ticket} is at the desk and must not be")
        if len(seen) != len(there):
            self.fault("doubled", "a ticket stands at the desk twice")
        if [ticket for ticket, status in seen if status == "waiting"] != waiting:
            self.fault("astray", f"the desk's order of {desk.line_name}")
        if board is None:
            self.fault("lost", f"the board of {desk.line_name} does not know of version"
                       f" {desk.version}")  # fmt: skip
        elif (board.waiting, board.called, board.in_progress) != (waiting, called, begun):
            self.fault("astray", f"the board of {desk.line_name}")
