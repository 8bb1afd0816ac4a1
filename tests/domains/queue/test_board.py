"""A board kept by its events is the board that a fresh look shows, whatever happens in between."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cliniq.app import House
from cliniq.domains.queue import api as queue
from cliniq.domains.queue import service, store
from cliniq.kernel.ids import new_id
from cliniq.platform.backends import Backends
from cliniq.platform.live import Connection, Known, LiveEvent, Snapshot
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.domains.queue.lines import MINUTE, Watcher, board_of
from tests.domains.sizes import seeded
from tests.domains.storms import at_once
from tests.platform.chance import STEADY
from tests.relays import Listener, free_leases, hearing, next_frame
from tests.support import NOON, Admin, Hands, SomeClinic, found_clinic

SECOND = timedelta(seconds=1)


class Day:
    """A line on its way through a day: somebody comes, is called, begins, or is done."""

    def __init__(self, clinic: SomeClinic, admin: Admin, dice: Random) -> None:
        self.clinic, self.admin, self.dice = clinic, admin, dice
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


@pytest.fixture
async def listener(house: House, admin: Admin) -> AsyncIterator[Listener]:
    """Somebody who hears what the house tells."""
    async with hearing(house, admin) as listener:
        yield listener


@given(dice=st.randoms(use_true_random=False), steps=st.integers(1, 40))
@settings(STEADY, max_examples=15, suppress_health_check=list(HealthCheck))
async def test_events_on_the_old_board_give_the_fresh_one_after_every_step(
    house: House, admin: Admin, hands: Hands, listener: Listener, dice: Random, steps: int
) -> None:
    day = Day(await found_clinic(house), admin, dice)
    queue_id = await day.open()
    watcher = Watcher.of(await board_of(day.clinic, queue_id))
    await listener.told()
    for _ in range(steps):
        hands.clinic += SECOND
        await at_once([day.step()])
        watcher.take(await listener.told())
        fresh = await board_of(day.clinic, queue_id)
        assert (watcher.version, watcher.board) == (fresh.version, fresh.state)


async def test_watcher_in_another_process_keeps_the_same_board_after_every_step(
    urls: Urls, admin: Admin, hands: Hands, redis_url: str
) -> None:
    backends = Backends(redis_url=redis_url)
    await free_leases(admin)
    kinds = set()
    async with (
        house_of(urls, backends=backends) as here,
        house_of(urls, backends=backends, relays=True) as there,
    ):
        day = Day(await found_clinic(there), admin, seeded(0))
        queue_id = await day.open()
        topic, connection = f"{day.clinic.clinic_id}/queue:{queue_id}", Connection(new_id())
        watcher = Watcher.of(await board_of(day.clinic, queue_id))

        async def load(_known: Known | None) -> Snapshot:
            return Snapshot(watcher.version, None)

        await here.entrance.hub.subscribe(connection, topic, load)
        await next_frame(connection)
        for _ in range(60):
            hands.clinic += SECOND
            await at_once([day.step()])
            fresh = await board_of(day.clinic, queue_id)
            while watcher.version < fresh.version:
                frame = json.loads(await next_frame(connection))
                kinds.add(frame["kind"])
                body = json.dumps(frame["body"]).encode()
                watcher.take([LiveEvent(topic, frame["version"], frame["kind"], body)])
            assert (watcher.version, watcher.board) == (fresh.version, fresh.state)
        here.entrance.hub.unsubscribe(connection, topic)
    assert len(kinds) == 4


async def test_events_of_many_at_once_are_told_in_order_and_give_the_fresh_board_in_the_end(
    urls: Urls, admin: Admin, hands: Hands
) -> None:
    async with house_of(urls, size=12) as house, hearing(house, admin) as listener:
        day = Day(await found_clinic(house), admin, seeded(9))
        queue_id = await day.open()
        watcher = Watcher.of(await board_of(day.clinic, queue_id))
        await listener.told()
        for _ in range(12):
            hands.clinic += SECOND
            await at_once([day.step() for _ in range(12)])
        events = await listener.told()
        assert [event.version for event in events] == list(
            range(watcher.version + 1, watcher.version + 1 + len(events))
        )
        watcher.take(events)
        fresh = await board_of(day.clinic, queue_id)
    assert not watcher.early
    assert (watcher.version, watcher.board) == (fresh.version, fresh.state)
    assert watcher.version > 60


async def test_step_that_is_rolled_back_is_told_to_nobody(
    house: House, admin: Admin, hands: Hands, listener: Listener
) -> None:
    day = Day(await found_clinic(house), admin, seeded(0))
    queue_id = await day.open()
    before = await board_of(day.clinic, queue_id)
    await listener.told()
    with pytest.raises(RuntimeError):
        await _call_and_fail(day.clinic, queue_id)
    assert await listener.told() == []
    assert await board_of(day.clinic, queue_id) == before
    async with day.clinic.unit() as unit:
        await queue.call_next(unit, queue_id, "7")
        assert await listener.told() == []
    assert [event.version for event in await listener.told()] == [before.version + 1]


async def _call_and_fail(clinic: SomeClinic, queue_id: UUID) -> None:
    async with clinic.unit() as unit:
        await queue.call_next(unit, queue_id, None)
        raise RuntimeError


async def test_change_without_its_version_would_be_noticed(
    house: House,
    admin: Admin,
    hands: Hands,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sin, planted: a call that does not count leaves the watcher behind."""
    day = Day(await found_clinic(house), admin, seeded(0))
    queue_id = await day.open()
    watcher = Watcher.of(await board_of(day.clinic, queue_id))
    await listener.told()

    async def forget(_unit: object, _queue_id: UUID) -> int:
        return watcher.version

    monkeypatch.setattr(store, "bump", forget)
    await day.call()
    watcher.take(await listener.told())
    assert watcher.board != (await board_of(day.clinic, queue_id)).state


async def test_board_shows_tickets_and_nobody_s_name(
    house: House, admin: Admin, hands: Hands, listener: Listener
) -> None:
    day = Day(await found_clinic(house), admin, seeded(1))
    queue_id = await day.open()
    await day.join()
    await day.call()
    events = await listener.told()
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
