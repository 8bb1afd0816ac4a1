"""A day of one clinic: what its patients, desk and doctors do, and what must be true of it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any
from uuid import UUID

import msgspec
from typing_extensions import override

from cliniq.domains.queue import api as queue
from cliniq.simulation.clockwork import HOUR, SECOND, Clockwork, Deed, Unreached
from cliniq.simulation.ledger import Line, Waiting
from cliniq.simulation.models import Company, Doctor, Visit
from cliniq.simulation.script import (
    Part,
    Shift,
    Stranger,
    draw_outages,
    draw_part,
    draw_shift,
    draw_strangers,
)
from cliniq.simulation.wire import Answer, Boards, Wire

MINUTE = timedelta(minutes=1)
GIVEN_UP = 2 * HOUR + 5 * MINUTE  # after the start: the desk counts somebody as missing
PATIENCE = 3 * MINUTE  # of a doctor, for whoever was called
ELSEWHERE = 10 * MINUTE  # from one site of a clinic to the other


class Room:
    """A doctor at work."""

    def __init__(self, doctor: Doctor, shift: Shift, begins: datetime, break_at: datetime) -> None:
        self.doctor, self.shift, self.begins = doctor, shift, begins
        self.rests = break_at, break_at + shift.break_for
        self.is_idle = True
        self.is_due = False  # a call is to come


class Day(Clockwork):
    """The players of one clinic, and what they will do."""

    def __init__(self, company: Company, wire: Wire, seed: int, midnight: datetime) -> None:
        """Set the scene. `midnight` is the day's, in the zone of the clinic."""
        super().__init__(company, wire, seed, midnight)
        self._moved: set[UUID] = set()
        self.parts: dict[UUID, tuple[str, Part]] = {}  # by visit
        self._here: dict[UUID, UUID] = {}  # entry of a visit that has been checked in
        self.visits_of: dict[UUID, UUID] = {}  # visit of an entry
        self.booked = {each.appointment_id: each for each in company.visits}
        self._ended: dict[UUID, str] = {}  # how visits must have ended
        self._busy: dict[UUID, datetime] = {}  # until when patients are seen
        self.rooms: dict[UUID, Room] = {}
        self.boards: dict[UUID, Boards] = {}

    # --- the cast -----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Say what everybody will do."""
        company = self.company
        self.outages = draw_outages(self.seed, self.day, company.name)
        by_doctor: dict[UUID, list[Visit]] = defaultdict(list)
        for visit in company.visits:
            by_doctor[visit.practitioner_id].append(visit)
        for doctor_id, visits in by_doctor.items():
            self._prepare_doctor(company.doctors[doctor_id], visits)
        for visit in company.visits:
            self._prepare_patient(visit)
        for place in company.places.values():
            here = [each for each in company.visits if each.site_id == place.site_id]
            for stranger in draw_strangers(self.seed, self.day, place, len(here)):
                self._prepare_stranger(place.site_id, stranger)
        for site_id in company.places:
            self.boards[site_id] = Boards(self.wire, company.desk, company.clinic_id)

    def _prepare_doctor(self, doctor: Doctor, visits: Sequence[Visit]) -> None:
        shift = draw_shift(self.seed, self.day, doctor)
        begins = min(each.starts_at for each in visits) + shift.late
        room = Room(doctor, shift, begins, self.midnight + shift.break_from)
        if shift.is_ill:
            at = min(self.midnight + 6 * HOUR + 45 * MINUTE, begins - HOUR)
            for visit in visits:
                self._prepare_call_off(at, visit)
            return
        self.rooms[doctor.practitioner_id] = room
        self._wake(room, begins)

    def _prepare_call_off(self, at: datetime, visit: Visit) -> None:
        self.at(at, visit.key, lambda deed: self._call_off(deed, visit))

    def _prepare_patient(self, visit: Visit) -> None:
        part = draw_part(self.seed, visit.key)
        self.parts[visit.appointment_id] = visit.key, part
        room = self.rooms.get(visit.practitioner_id)
        if self.company.families.get(visit.patient_id) is not None:
            pass  # who is brought along is checked in by whoever brings them
        elif part.comes and (room is not None or not part.was_told):
            arrives = visit.starts_at + part.arrives
            self.at(arrives, visit.key, lambda deed: self._arrive(deed, visit, part))
        if room is not None:
            self.at(visit.starts_at + GIVEN_UP, visit.key, lambda deed: self._give_up(deed, visit))

    def _prepare_stranger(self, site_id: UUID, stranger: Stranger) -> None:
        part = draw_part(self.seed, stranger.key)
        self.at(
            self.midnight + stranger.at,
            stranger.key,
            lambda deed: self._walk_in(deed, site_id, stranger, part),
        )

    # --- patients -----------------------------------------------------------------------------

    async def _arrive(self, deed: Deed, visit: Visit, part: Part) -> None:
        others = [each for each in self.company.places if each != visit.site_id]
        if part.wrong_site and part.has_phone and others:
            await self._scan_elsewhere(deed, visit, part, min(others, key=self._name_of))
        elif part.has_phone:
            await self._scan(deed, visit, part)
        else:
            await self._go_to_the_desk(deed, visit)

    def _name_of(self, site_id: UUID) -> str:
        return self.company.places[site_id].name

    async def _scan_elsewhere(self, deed: Deed, visit: Visit, part: Part, site_id: UUID) -> None:
        """Scan at the wrong site, be shown the right one, and go there."""
        answer = await self._send_scan(deed, visit, site_id)
        self.ledger.note(self.now, visit.key, "scans at the wrong site", answer.code)
        if answer.code == "OK":
            self.ledger.fault("astray", f"{visit.key} was checked in at the wrong site")
        self.at(self.now + ELSEWHERE, visit.key, lambda deed: self._scan(deed, visit, part))

    async def _send_scan(self, deed: Deed, visit: Visit, site_id: UUID) -> Answer:
        body: dict[str, object] = {"code": self.company.places[site_id].code}
        if visit.patient_id in self.company.families.values():
            body["all"] = True
        else:
            body["appointment_ids"] = [str(visit.appointment_id)]
        actor = self.company.patients[visit.patient_id]
        self.ledger.counts["scanned"] += 1
        try:
            return await self.ask(deed, actor, "POST", "/appointments/check-in/scan-qr", body)
        except Unreached:
            self.ledger.counts["scanned"] -= 1
            raise

    async def _scan(self, deed: Deed, visit: Visit, part: Part) -> None:
        answer = await self._send_scan(deed, visit, visit.site_id)
        self.ledger.note(self.now, visit.key, "scans", answer.code)
        match answer.code:
            case "OK":
                for receipt in answer.body["check_ins"]:
                    await self._seated(receipt)
                if part.scans_twice:
                    again = self.now + 40 * SECOND
                    self.at(again, visit.key, lambda deed: self._scan_again(deed, visit))
            case "CHECKIN_TOO_EARLY":
                opens_at = datetime.fromisoformat(answer.body["opens_at"])
                later = max(opens_at, self.now) + part.walks
                self.at(later, visit.key, lambda deed: self._scan(deed, visit, part))
            case _:
                await self._refused(visit)

    async def _refused(self, visit: Visit) -> None:
        """Go to the desk with a refusal; whose visit was called off is taken as a walk-in."""
        at = self.now + 2 * MINUTE
        if self._ended.get(visit.appointment_id) == "cancelled":
            stranger = Stranger(f"{visit.key} untold", self.now - self.midnight, "", "")
            part = self.parts[visit.appointment_id][1]
            self.at(
                at,
                visit.key,
                lambda deed: self._line_up(deed, visit.site_id, stranger, part, visit.patient_id),
            )
        elif visit.appointment_id not in self._ended:
            self.at(at, visit.key, lambda deed: self._go_to_the_desk(deed, visit))

    async def _scan_again(self, deed: Deed, visit: Visit) -> None:
        """Scan once more: the same ticket, for as long as the visit waits or is called."""
        answer = await self._send_scan(deed, visit, visit.site_id)
        entry_id = self._here[visit.appointment_id]
        same = [each for each in (answer.body.get("check_ins") or []) if each["already"]]
        own = [UUID(each["entry_id"]) for each in same]
        self.ledger.note(self.now, visit.key, "scans again", answer.code)
        if answer.code == "OK" and entry_id not in own:
            self.ledger.fault("doubled", f"{visit.key} scanned again and got another ticket")

    async def _go_to_the_desk(self, deed: Deed, visit: Visit) -> None:
        body = {"appointment_id": str(visit.appointment_id), "reason": "no phone"}
        desk = self.company.desk
        answer = await self.ask(deed, desk, "POST", "/appointments/check-in/manual", body)
        self.ledger.note(self.now, visit.key, "comes to the desk", answer.code)
        if answer.code == "OK":
            await self._seated(answer.body)
        elif answer.code == "INVALID_TRANSITION":  # it was called off, and they were not told
            await self._refused(visit)

    async def _seated(self, receipt: Mapping[str, Any]) -> None:
        """Write down somebody who has a ticket, and let their doctor know."""
        appointment_id, entry_id = UUID(receipt["appointment_id"]), UUID(receipt["entry_id"])
        if appointment_id in self._here:
            if self._here[appointment_id] != entry_id:
                self.ledger.fault("doubled", f"ticket {receipt['ticket']} is a second one")
            return
        visit = self.booked[appointment_id]
        starts_at = visit.starts_at
        await self._take_in(receipt, visit.practitioner_id, visit.site_id, starts_at, visit.key)

    async def _take_in(
        self,
        receipt: Mapping[str, Any],
        practitioner_id: UUID,
        site_id: UUID,
        starts_at: datetime,
        who: str,
    ) -> None:
        appointment_id, entry_id = UUID(receipt["appointment_id"]), UUID(receipt["entry_id"])
        queue_id, ticket = UUID(receipt["queue_id"]), int(receipt["ticket"])
        line = self.ledger.line(queue_id, practitioner_id)
        arrived = datetime.fromisoformat(receipt["checked_in_at"])
        due_at = max(arrived, starts_at)
        patient_id = UUID(receipt["patient_id"])
        self.ledger.join(line, Waiting(due_at, ticket, entry_id, patient_id), appointment_id)
        self.ledger.counts["checked_in"] += 1
        self.ledger.note(self.now, who, "waits", ticket, receipt["position"])
        self._here[appointment_id] = entry_id
        self.visits_of[entry_id] = appointment_id
        self._moved.add(queue_id)
        await self.boards[site_id].follow(queue_id)
        room = self.rooms.get(practitioner_id)
        if room is not None and room.is_idle:
            self._wake(room, max(self.now + room.shift.coffee, room.begins))

    # --- the desk -----------------------------------------------------------------------------

    async def _walk_in(self, deed: Deed, site_id: UUID, stranger: Stranger, part: Part) -> None:
        """Register somebody who comes without a visit, and let them wait."""
        body = {"given_name": stranger.given_name, "family_name": stranger.family_name}
        answer = await self.ask(deed, self.company.desk, "POST", "/patients", body)
        self.ledger.counts["patients"] += 1
        patient_id = UUID(answer.body["patient_id"])
        await self._line_up(deed, site_id, stranger, part, patient_id)

    async def _line_up(
        self, deed: Deed, site_id: UUID, stranger: Stranger, part: Part, patient_id: UUID
    ) -> None:
        """Let somebody without a visit wait where fewest do."""
        at_site = {each.practitioner_id for each in self.company.visits if each.site_id == site_id}
        present = [
            room
            for doctor_id, room in self.rooms.items()
            if doctor_id in at_site and self.now < self.midnight + 17 * HOUR
        ]
        if not present:
            self.ledger.note(self.now, stranger.key, "is sent home")
            self.ledger.counts["sent_home"] += 1
            return

        def load(room: Room) -> tuple[int, str]:
            line = self.ledger.of_doctor.get(room.doctor.practitioner_id)
            return (len(line.waiting) if line else 0, room.doctor.name)

        doctor = min(present, key=load).doctor
        desk = self.company.desk
        body = {"site_id": str(site_id), "practitioner_id": str(doctor.practitioner_id)}
        opened = await self.ask(deed, desk, "POST", "/queues", body)
        path = f"/queues/{opened.body['queue_id']}/walk-ins"
        answer = await self.ask(deed, desk, "POST", path, {"patient_id": str(patient_id)})
        self.ledger.note(self.now, stranger.key, "walks in", answer.code)
        if answer.code == "OK":
            self.ledger.counts["walk_ins"] += 1
            appointment_id = UUID(answer.body["appointment_id"])
            self.parts[appointment_id] = stranger.key, part
            await self._take_in(
                answer.body, doctor.practitioner_id, site_id, self.now, stranger.key
            )

    async def _call_off(self, deed: Deed, visit: Visit) -> None:
        """Call a visit off, since the doctor is ill."""
        path = f"/appointments/{visit.appointment_id}"
        body = {"reason": "the doctor is ill"}
        answer = await self.ask(deed, self.company.desk, "DELETE", path, body)
        self.ledger.note(self.now, visit.key, "is called off", answer.code)
        if answer.code in {"OK", "INVALID_TRANSITION"}:  # or an earlier answer was lost
            self._ended[visit.appointment_id] = "cancelled"
            self.ledger.counts["cancelled"] += 1

    async def _give_up(self, deed: Deed, visit: Visit) -> None:
        """Write down that somebody did not come."""
        if visit.appointment_id in self._here or visit.appointment_id in self._ended:
            return
        path = f"/appointments/{visit.appointment_id}/no-show"
        answer = await self.ask(deed, self.company.desk, "POST", path)
        self.ledger.note(self.now, visit.key, "did not come", answer.code)
        if answer.code == "OK":
            self._ended[visit.appointment_id] = "no_show"
            self.ledger.counts["no_show"] += 1

    # --- doctors ------------------------------------------------------------------------------

    def _wake(self, room: Room, at: datetime) -> None:
        """Have a doctor look for the next one; a doctor who will anyway is not woken."""
        if room.is_due:
            return
        room.is_due, room.is_idle = True, False
        self.at(at, room.doctor.name, lambda deed: self._call(deed, room))

    async def _call(self, deed: Deed, room: Room) -> None:
        begins, ends = room.rests
        line = self.ledger.of_doctor.get(room.doctor.practitioner_id)
        room.is_due = False
        if begins <= self.now < ends:
            self._wake(room, ends)
        elif line is None or not line.waiting:
            room.is_idle = True
        else:
            room.is_due = True  # also while the network is down
            await self._look(line)
            await self._call_first(deed, room, line)
            room.is_due = False

    async def _call_first(self, deed: Deed, room: Room, line: Line) -> None:
        doctor = room.doctor
        path, body = f"/queues/{line.queue_id}/calls", {"room": doctor.room}
        answer = await self.ask(deed, doctor.actor, "POST", path, body)
        if answer.code != "OK":
            self.ledger.fault("lost", f"{doctor.name} calls, and is told {answer.code}")
            room.is_idle = True
            return
        ticket, entry_id = int(answer.body["ticket"]), UUID(answer.body["entry_id"])
        self.ledger.note(self.now, doctor.name, "calls", ticket)
        self.ledger.counts["called"] += 1
        self._moved.add(line.queue_id)
        patient_id = UUID(answer.body["patient_id"])
        appointment_id = UUID(answer.body["appointment_id"])
        if not self.ledger.call(line, ticket, doctor.room) or appointment_id not in self.parts:
            room.is_idle = True
            return
        self.visits_of[entry_id] = appointment_id
        who, part = self.parts[appointment_id]
        entry = Seen(line, ticket, entry_id, patient_id, who, part)
        if part.hears_call:
            at = max(self.now, self._busy.get(patient_id, self.now)) + part.walks
            self.at(at, who, lambda deed: self._start(deed, room, entry))
        else:
            self.at(self.now + PATIENCE, who, lambda deed: self._miss(deed, room, entry))

    async def _start(self, deed: Deed, room: Room, entry: "Seen") -> None:
        path = f"/queues/entries/{entry.entry_id}/start"
        answer = await self.ask(deed, room.doctor.actor, "POST", path)
        self.ledger.note(self.now, entry.who, "goes in", answer.code)
        entry.line.called.pop(entry.ticket, None)
        if answer.code != "OK":
            self.ledger.fault("lost", f"{entry.who} goes in, and it is {answer.code}")
            self._wake(room, self.now + room.shift.coffee)
            return
        entry.line.begun.add(entry.ticket)
        self._moved.add(entry.line.queue_id)
        ends_at = self.now + entry.part.sees_for
        self._busy[entry.patient_id] = ends_at
        self.at(ends_at, entry.who, lambda deed: self._complete(deed, room, entry))

    async def _complete(self, deed: Deed, room: Room, entry: "Seen") -> None:
        path = f"/queues/entries/{entry.entry_id}/complete"
        answer = await self.ask(deed, room.doctor.actor, "POST", path)
        self.ledger.note(self.now, entry.who, "is done", answer.code)
        if answer.code != "OK":
            self.ledger.fault("lost", f"{entry.who} is done, and it is {answer.code}")
        entry.line.begun.discard(entry.ticket)
        self.ledger.counts["completed"] += 1
        self._end(room, entry, "completed")

    async def _miss(self, deed: Deed, room: Room, entry: "Seen") -> None:
        path = f"/queues/entries/{entry.entry_id}/no-show"
        answer = await self.ask(deed, room.doctor.actor, "POST", path)
        self.ledger.note(self.now, entry.who, "was called in vain", answer.code)
        if answer.code != "OK":
            self.ledger.fault("lost", f"{entry.who} does not come, and it is {answer.code}")
        entry.line.called.pop(entry.ticket, None)
        self.ledger.counts["no_show"] += 1
        self._end(room, entry, "no_show")

    def _end(self, room: Room, entry: "Seen", how: str) -> None:
        self._ended[self.visits_of[entry.entry_id]] = how
        self._moved.add(entry.line.queue_id)
        self._wake(room, self.now + room.shift.coffee)

    async def _look(self, line: Line) -> None:
        """Look at a queue before calling: who plays alone knows it already."""

    # --- what must be true --------------------------------------------------------------------

    @override
    async def settle(self) -> None:
        """Hold desk, boards and phones against each other, of every queue that moved."""
        for queue_id in sorted(self._moved, key=str):
            await self._compare(self.ledger.lines[queue_id])
        self._moved.clear()

    async def _compare(self, line: Line) -> None:
        """Hold a queue at the desk, on the board and on a phone against what must be."""
        desk = self.company.desk
        headers = self.wire.headers(desk, self.company.clinic_id)
        answer = await self.wire.ask("GET", f"/queues/{line.queue_id}", headers)
        snapshot = msgspec.convert(answer.body, queue.QueueSnapshot)
        board = await self.boards[snapshot.site_id].at(line.queue_id, snapshot.version)
        self.ledger.compare(line, snapshot, board)
        if line.waiting:
            await self._look_at_phone(line, line.in_order[-1], len(line.waiting))

    async def _look_at_phone(self, line: Line, last: Waiting, position: int) -> None:
        actor = self.company.patients.get(last.patient_id)
        if actor is None:  # nobody has a phone who walked in
            return
        headers = self.wire.headers(actor, self.company.clinic_id)
        path = f"/queues/{line.queue_id}/entries/{last.entry_id}"
        answer = await self.wire.ask("GET", path, headers)
        if answer.code != "OK":
            self.ledger.fault("lost", f"ticket {last.ticket} is {answer.code} on its phone")
        elif answer.body["position"] != position:
            said = f"{answer.body['position']} on the phone, {position} in the line"
            self.ledger.fault("astray", f"ticket {last.ticket} is {said}")

    async def leave(self) -> None:
        """Take the boards down, however far the day has come."""
        for each in self.boards.values():
            await each.close()

    async def close(self) -> None:
        """End the day: nobody is left over, and every visit ended as it must have."""
        for line in self.ledger.lines.values():
            for ticket in (*line.waiting, *line.called, *line.begun):
                self.ledger.fault("stuck", f"ticket {ticket} is left over")
        await self._compare_visits()

    async def _compare_visits(self) -> None:
        found: dict[UUID, str] = {}
        headers = self.wire.headers(self.company.desk, self.company.clinic_id)
        for site_id in self.company.places:
            more = ""
            while True:
                path = f"/appointments?site_id={site_id}&day={self.day}&limit=100{more}"
                page = (await self.wire.ask("GET", path, headers)).body
                found |= {UUID(each["appointment_id"]): each["status"] for each in page["items"]}
                if page["next_cursor"] is None:
                    break
                more = f"&cursor={page['next_cursor']}"
        wanted = {visit.appointment_id for visit in self.company.visits} | self._ended.keys()
        for appointment_id in wanted:
            must, is_ = self._ended.get(appointment_id), found.get(appointment_id)
            if must is None:
                self.ledger.fault("stuck", f"a visit has not ended: it is {is_}")
            elif is_ != must:
                self.ledger.fault("lost", f"a visit that is {must} is kept as {is_}")


class Seen:
    """Somebody who was called."""

    def __init__(
        self,
        line: Line,
        ticket: int,
        entry_id: UUID,
        patient_id: UUID,
        who: str,
        part: Part,
    ) -> None:
        self.line, self.ticket, self.entry_id = line, ticket, entry_id
        self.patient_id, self.who, self.part = patient_id, who, part


def midnight_of(day: datetime) -> datetime:
    """Say when a day begins."""
    return datetime.combine(day.date(), time(), day.tzinfo)
