"""A day in which visitors have a hand: who plays looks before they call, and takes it as it is."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from typing_extensions import override

from cliniq.domains.queue import api as queue
from cliniq.simulation.clockwork import SECOND
from cliniq.simulation.day import MINUTE, Day, Room, Seen
from cliniq.simulation.ledger import Line, Waiting
from cliniq.simulation.models import Company, Doctor
from cliniq.simulation.script import Part, Shift
from cliniq.simulation.wire import Wire

EVERY_TICKS = 3  # a look at all queues
PATIENCE = 6 * MINUTE  # after which somebody stands in for a doctor whom nobody plays
NOW = timedelta()
VISITOR = Part(
    comes=True,
    arrives=NOW,
    has_phone=True,
    wrong_site=False,
    scans_twice=False,
    hears_call=True,
    walks=3 * MINUTE,  # of clinic time: a visitor wants to see that they were called
    sees_for=6 * MINUTE,
    was_told=True,
)


class OpenDay(Day):
    """A day without a ledger to keep: what visitors do is part of it."""

    def __init__(self, company: Company, wire: Wire, seed: int, midnight: datetime) -> None:
        """Set the scene."""
        super().__init__(company, wire, seed, midnight)
        self._ticks = 0
        self._standing_in: set[UUID] = set()

    @override
    def prepare(self) -> None:
        super().prepare()
        self.outages = ()

    def stand_in(self, doctors: Mapping[UUID, Doctor]) -> None:
        """See to the patients of doctors whom visitors may play, where none does."""
        never = Shift(is_ill=False, late=NOW, break_from=NOW, break_for=NOW, coffee=20 * SECOND)
        for doctor_id, doctor in doctors.items():
            self.rooms[doctor_id] = Room(doctor, never, self.midnight, self.midnight)
            self._standing_in.add(doctor_id)

    @override
    async def tick(self, now: datetime) -> None:
        self._ticks += 1
        if self._ticks % EVERY_TICKS == 0:
            self.now = now
            await self._survey()
        await super().tick(now)

    async def _survey(self) -> None:
        """Look at all queues, and have those called for whom nobody does."""
        headers = self.wire.headers(self.company.desk, self.company.clinic_id)
        answer = await self.wire.ask("GET", "/queues", headers)
        if answer.code != "OK":
            return
        for head in answer.body:
            room = self.rooms.get(UUID(head["line_id"]))
            if room is not None and head["waiting"] and room.is_idle and not room.is_due:
                line = self.ledger.line(UUID(head["queue_id"]), UUID(head["line_id"]))
                since = await self._read(line)
                doctor_id = room.doctor.practitioner_id
                if doctor_id not in self._standing_in or self._is_left_alone(line, since):
                    self._wake(room, max(self.now + room.shift.coffee, room.begins))

    def _is_left_alone(self, line: Line, since: datetime) -> bool:
        return not line.called and not line.begun and self.now - since > PATIENCE

    async def _read(self, line: Line) -> datetime:
        """Take a queue over as it is at the desk; say since when the first one waits."""
        headers = self.wire.headers(self.company.desk, self.company.clinic_id)
        answer = await self.wire.ask("GET", f"/queues/{line.queue_id}", headers)
        if answer.code != "OK":
            return self.now
        snapshot = msgspec.convert(answer.body, queue.QueueSnapshot)
        line.waiting, line.called, line.begun = {}, {}, set()
        for each in snapshot.entries:
            line.tickets[each.ticket] = each.appointment_id
            self.parts.setdefault(each.appointment_id, ("a visitor", VISITOR))
            if each.status is queue.EntryStatus.WAITING:
                line.waiting[each.ticket] = Waiting(
                    each.due_at, each.ticket, each.entry_id, each.patient_id
                )
            elif each.status is queue.EntryStatus.CALLED:
                line.called[each.ticket] = each.room
            else:
                line.begun.add(each.ticket)
        waits = [each for each in snapshot.entries if each.status is queue.EntryStatus.WAITING]
        return min((each.entered_at for each in waits), default=self.now)

    @override
    async def _look(self, line: Line) -> None:
        await self._read(line)

    @override
    def _end(self, room: Room, entry: Seen, how: str) -> None:
        if room.doctor.practitioner_id in self._standing_in:
            room.is_idle = True
        else:
            super()._end(room, entry, how)

    @override
    async def _compare(self, line: Line) -> None:
        """Compare nothing: visitors move queues too."""

    @override
    async def _seated(self, receipt: Mapping[str, Any]) -> None:
        if UUID(receipt["appointment_id"]) in self.booked:
            await super()._seated(receipt)

    @override
    async def close(self) -> None:
        """Compare nothing here either."""
