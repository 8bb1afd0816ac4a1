"""A board kept by its events is the board that a fresh look shows, whatever happens in between."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from cliniq.app import House
from cliniq.domains.queue import api as queue
from cliniq.domains.queue import service, store
from cliniq.platform.live import LiveEvent
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.domains.queue.lines import MINUTE, Watcher, board_of, heard
from tests.domains.sizes import seeded
from tests.domains.storms import at_once
from tests.support import NOON, Admin, Hands, SomeClinic, found_clinic

SECOND = timedelta(seconds=1)


class Day:
    """A line on its way through a day: somebody comes, is called, begins, or is done."""

    def __init__(self, clinic: SomeClinic, admin: Admin, number: int) -> None:
        self.clinic, self.admin = clinic, admin
        self.dice = seeded(number)
        self.places: list[queue.Place] = []
        self.called: list[UUID] = []
        self.begun: list[UUID] = []

    async def open(self) -> UUID:
        await self.join()
        return self.places[0].queue_id

    async def step(self) -> None:
        """Something happens."""
        await self.dice.choice([self.join, self.join, self.call, self.call, self.start, self.end])()

    async def join(self) -> None:
        """One to three people of a family come."""
        patient = await self.clinic.patient()
        arriving = []
        for _ in range(self.dice.randint(1, 3)):
            due = NOON + self.dice.randint(0, 60) * MINUTE
            arriving.append(await self._arrival(patient.patient_id, due))
        async with self.clinic.unit() as unit:
            self.places += (await queue.join(unit, arriving)).values()

    async def _arrival(self, patient_id: UUID, due: Any) -> queue.Arrival:
        """A visit of nobody's calendar: only the queue matters here."""
        clinic = self.clinic
        visit = await self.admin.fetchval(
            """
            with booked as (
                insert into booking (clinic_id, booking_id, patient_id, starts_at)
                values ($1, gen_random_uuid(), $2, $3) returning booking_id
            )
            insert into appointment (clinic_id, appointment_id, patient_id, practitioner_id,
                site_id, visit_type, starts_at, ends_at, status)
            select $1, booking_id, $2, $4, $5, 'x', $3, $3 + interval '5 minutes', 'checked_in'
            from booked returning appointment_id
            """,
            clinic.clinic_id,
            patient_id,
            due,
            clinic.practitioner_id,
            clinic.site.site_id,
        )
        line = queue.Line(clinic.site.site_id, clinic.practitioner_id, NOON.date())
        return queue.Arrival(visit, patient_id, clinic.practitioner_id, line, due)

    async def call(self) -> None:
        room = self.dice.choice([None, "7"])
        async with self.clinic.unit() as unit:
            entry = await queue.call_next(unit, self.places[0].queue_id, room)
        self.called.append(entry.entry_id)

    async def start(self) -> None:
        """Somebody begins: who was called, or, mistakenly, anyone."""
        entry_id = self.dice.choice(self.called or [each.entry_id for each in self.places])
        async with self.clinic.unit() as unit:
            await queue.start(unit, entry_id)
        self.called.remove(entry_id)
        self.begun.append(entry_id)

    async def end(self) -> None:
        """Somebody is done: who had begun, or, mistakenly, anyone."""
        entry_id = self.dice.choice(self.begun or [each.entry_id for each in self.places])
        async with self.clinic.unit() as unit:
            await queue.complete(unit, entry_id)
        self.begun.remove(entry_id)


@pytest.mark.parametrize("number", range(4))
async def test_events_on_the_old_board_give_the_fresh_one_after_every_step(
    house: House, admin: Admin, hands: Hands, number: int
) -> None:
    events: list[LiveEvent] = []
    day = Day(await found_clinic(heard(house, events)), admin, number)
    queue_id = await day.open()
    watcher = Watcher.of(await board_of(day.clinic, queue_id))
    events.clear()
    kinds = set()
    for _ in range(60):
        hands.clinic += SECOND
        await at_once([day.step()])
        kinds |= {event.kind for event in events}
        watcher.take(events)
        events.clear()
        fresh = await board_of(day.clinic, queue_id)
        assert (watcher.version, watcher.board) == (fresh.version, fresh.state)
    assert len(kinds) == 4


async def test_events_of_many_at_once_give_the_fresh_board_in_the_end(
    urls: Urls, admin: Admin, hands: Hands
) -> None:
    async with house_of(urls, size=12) as house:
        events: list[LiveEvent] = []
        day = Day(await found_clinic(heard(house, events)), admin, 9)
        queue_id = await day.open()
        watcher = Watcher.of(await board_of(day.clinic, queue_id))
        events.clear()
        for _ in range(12):
            hands.clinic += SECOND
            await at_once([day.step() for _ in range(12)])
        watcher.take(events)
        fresh = await board_of(day.clinic, queue_id)
    assert not watcher.early
    assert (watcher.version, watcher.board) == (fresh.version, fresh.state)
    assert watcher.version > 60


async def test_step_that_is_rolled_back_is_told_to_nobody(
    house: House, admin: Admin, hands: Hands
) -> None:
    events: list[LiveEvent] = []
    day = Day(await found_clinic(heard(house, events)), admin, 0)
    queue_id = await day.open()
    before = await board_of(day.clinic, queue_id)
    events.clear()
    with pytest.raises(RuntimeError):
        await _call_and_fail(day.clinic, queue_id)
    assert events == []
    assert await board_of(day.clinic, queue_id) == before
    async with day.clinic.unit() as unit:
        await queue.call_next(unit, queue_id, "7")
        assert events == []
    assert [event.version for event in events] == [before.version + 1]


async def _call_and_fail(clinic: SomeClinic, queue_id: UUID) -> None:
    async with clinic.unit() as unit:
        await queue.call_next(unit, queue_id, None)
        raise RuntimeError


async def test_change_without_its_version_would_be_noticed(
    house: House, admin: Admin, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sin, planted: a call that does not count leaves the watcher behind."""
    events: list[LiveEvent] = []
    day = Day(await found_clinic(heard(house, events)), admin, 0)
    queue_id = await day.open()
    watcher = Watcher.of(await board_of(day.clinic, queue_id))
    events.clear()

    async def forget(_unit: object, _queue_id: UUID) -> int:
        return watcher.version

    monkeypatch.setattr(store, "bump", forget)
    await day.call()
    watcher.take(events)
    assert watcher.board != (await board_of(day.clinic, queue_id)).state


async def test_board_shows_tickets_and_nobody_s_name(
    house: House, admin: Admin, hands: Hands
) -> None:
    events: list[LiveEvent] = []
    day = Day(await found_clinic(heard(house, events)), admin, 1)
    queue_id = await day.open()
    await day.join()
    await day.call()
    topic = f"{day.clinic.clinic_id}/queue:{queue_id}"
    assert {event.topic for event in events} == {topic}
    people = await admin.fetch(
        "select patient_id::text, given_name from patient where clinic_id = $1",
        day.clinic.clinic_id,
    )
    snapshot = str(await board_of(day.clinic, queue_id))
    for person in people:
        for word in tuple(person):
            assert word not in snapshot
            assert not any(word.encode() in event.body for event in events)
    async with day.clinic.unit() as unit:
        board: Any = (await service.watch_board(unit, queue_id)).state
    assert board.line_name == "Dr. Who"
    assert board.on_day == NOON.date()
