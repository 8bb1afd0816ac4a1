"""One's own place: the true one, the same on phone, desk and board, and nobody else's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from cliniq.app import House
from cliniq.domains.queue import api as queue
from cliniq.domains.queue import service, store
from cliniq.kernel.ids import new_id
from cliniq.kernel.scope import SelfScope
from cliniq.platform.db import ReadUnit, open_read_unit
from tests.domains.queue.lines import MINUTE, board_of
from tests.support import NOON, Client, SomeClinic, Someone, found_clinic

PEOPLE = 6


class Room:
    """A waiting room: people who arrived in another order than they are due."""

    def __init__(self, clinic: SomeClinic) -> None:
        self.clinic = clinic
        self.people: list[tuple[Someone, Any]] = []

    @property
    def queue_id(self) -> UUID:
        return UUID(self.people[0][1]["queue_id"])


@pytest.fixture
async def room(client: Client, clinic: SomeClinic) -> Room:
    room = Room(clinic)
    for minutes in (25, 5, 20, 10, 15, 0):
        someone, patient = await clinic.signed_in_patient()
        await clinic.book(patient, NOON + minutes * MINUTE, minutes=5)
        (receipt,) = (await clinic.scan(client, someone)).json()["check_ins"]
        room.people.append((someone, receipt))
    return room


@asynccontextmanager
async def seat(clinic: SomeClinic, someone: Someone) -> AsyncIterator[ReadUnit]:
    """A person's unit to read with, across clinics."""
    house = clinic.house
    seating = house.entrance.directory.seat_of_self(someone.caller, None, strict=False)
    scope = SelfScope(someone.person_id)
    async with open_read_unit(house.entrance.database, scope, seating) as unit:
        yield unit


async def test_place_is_the_same_number_for_phone_desk_and_board(
    client: Client, room: Room
) -> None:
    clinic = room.clinic
    board: Any = (await board_of(clinic, room.queue_id)).state
    assert board.waiting == [6, 2, 4, 5, 3, 1]
    path = f"/api/v1/queues/{room.queue_id}"
    desk = (await client.get(path, headers=clinic.acting(clinic.receptionist))).json()
    assert [each["ticket"] for each in desk["entries"]] == board.waiting
    for someone, receipt in room.people:
        expected = board.waiting.index(receipt["ticket"]) + 1
        entry = f"{path}/entries/{receipt['entry_id']}"
        (own,) = (await client.get("/api/v1/me/queue", headers=someone.headers)).json()
        phone = (await client.get(entry, headers=clinic.acting(someone))).json()
        staff = (await client.get(entry, headers=clinic.acting(clinic.doctor))).json()
        assert phone == staff
        assert own.items() >= phone.items()
        assert phone["position"] == expected


async def test_place_read_under_the_patient_s_role_counts_those_they_cannot_see(
    room: Room,
) -> None:
    clinic = room.clinic
    for someone, receipt in room.people:
        async with clinic.own_unit(someone) as unit:
            assert await unit.connection.fetchval("select current_user") == "cliniq_person"
            rows = await unit.connection.fetch("select entry_id from queue_entry")
            assert [str(row["entry_id"]) for row in rows] == [receipt["entry_id"]]
            place = await service.get_place(unit, room.queue_id, UUID(receipt["entry_id"]))
            ahead = await store.count_ahead(unit, UUID(receipt["entry_id"]))
        async with seat(clinic, someone) as everywhere:
            (own,) = await service.list_my_places(everywhere)
        board: Any = (await board_of(clinic, room.queue_id)).state
        assert place.position == ahead + 1 == own.position
        assert place.position == board.waiting.index(place.ticket) + 1
    assert {receipt["ticket"] for _, receipt in room.people} == set(range(1, PEOPLE + 1))


async def test_counting_under_the_patient_s_wall_would_call_everybody_first(room: Room) -> None:
    """The sin, planted: the same count without the function that sees over the wall."""
    for someone, receipt in room.people:
        async with room.clinic.own_unit(someone) as unit:
            ahead = await unit.connection.fetchval(
                "select count(*) from queue_entry as ahead, queue_entry as mine"
                " where mine.entry_id = $1 and ahead.queue_id = mine.queue_id"
                " and (ahead.due_at, ahead.ticket) < (mine.due_at, mine.ticket)",
                UUID(receipt["entry_id"]),
            )
        assert ahead == 0


async def test_places_move_up_when_somebody_is_called(client: Client, room: Room) -> None:
    clinic = room.clinic
    first = next(who for who, receipt in room.people if receipt["ticket"] == 6)
    second = next(who for who, receipt in room.people if receipt["ticket"] == 2)
    async with clinic.unit() as unit:
        await queue.call_next(unit, room.queue_id, "7")
    for who, position, status, where in ((first, 0, "called", "7"), (second, 1, "waiting", None)):
        (place,) = (await client.get("/api/v1/me/queue", headers=who.headers)).json()
        assert (place["position"], place["status"], place["room"]) == (position, status, where)


async def test_place_that_is_done_is_no_longer_listed(client: Client, room: Room) -> None:
    clinic = room.clinic
    first = next(who for who, receipt in room.people if receipt["ticket"] == 6)
    async with clinic.unit() as unit:
        called = await queue.call_next(unit, room.queue_id, None)
        await queue.start(unit, called.entry_id)
    (place,) = (await client.get("/api/v1/me/queue", headers=first.headers)).json()
    assert (place["position"], place["status"]) == (0, "in_progress")
    async with clinic.unit() as unit:
        await queue.complete(unit, called.entry_id)
    assert (await client.get("/api/v1/me/queue", headers=first.headers)).json() == []


async def test_patient_cannot_see_another_s_place(client: Client, room: Room) -> None:
    clinic = room.clinic
    (someone, own), (_, other) = room.people[:2]
    headers = clinic.acting(someone)
    for entry_id in (other["entry_id"], str(new_id())):
        path = f"/api/v1/queues/{room.queue_id}/entries/{entry_id}"
        answer = await client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "QUEUE_ENTRY_NOT_FOUND")
    path = f"/api/v1/queues/{new_id()}/entries/{own['entry_id']}"
    answer = await client.get(path, headers=headers)
    assert answer.json()["code"] == "QUEUE_ENTRY_NOT_FOUND"
    for path in (f"/api/v1/queues/{room.queue_id}", "/api/v1/queues"):
        answer = await client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


async def test_patient_can_neither_call_nor_move_anybody(clinic: SomeClinic, room: Room) -> None:
    someone, receipt = room.people[0]
    for statement in (
        "update queue_entry set priority = 9",
        "update queue_entry set status = 'called'",
        "delete from queue_entry",
        "update queue set line_name = 'mine'",
        "delete from queue",
    ):
        with pytest.raises(Exception, match="permission denied"):
            async with clinic.own_unit(someone) as unit:
                await unit.connection.execute(statement)
    async with clinic.unit() as unit:
        place = await service.get_place(unit, room.queue_id, UUID(receipt["entry_id"]))
    assert place.status == "waiting"


async def test_patient_watches_the_board_of_a_queue_they_wait_in_and_no_other(
    house: House, client: Client, room: Room
) -> None:
    someone, _ = room.people[0]
    stranger, _ = await room.clinic.signed_in_patient()
    async with room.clinic.own_unit(someone) as unit:
        watched = await service.watch_board(unit, room.queue_id)
    assert watched == await board_of(room.clinic, room.queue_id)
    with pytest.raises(queue.QueueNotFound):
        await _watch(room.clinic, stranger, room.queue_id)
    other = await found_clinic(house)
    waiting, _, _ = await other.visit()
    (receipt,) = (await other.scan(client, waiting)).json()["check_ins"]
    with pytest.raises(queue.QueueNotFound):
        await board_of(room.clinic, UUID(receipt["queue_id"]))
    with pytest.raises(queue.QueueNotFound):
        await _watch(room.clinic, someone, UUID(receipt["queue_id"]))


async def _watch(clinic: SomeClinic, someone: Someone, queue_id: UUID) -> None:
    async with clinic.own_unit(someone) as unit:
        await service.watch_board(unit, queue_id)


async def test_parent_sees_the_child_s_place_and_both_clinics_of_their_own(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    parent, _ = await clinic.signed_in_patient()
    child = await clinic.dependant(parent)
    await clinic.book(child, NOON)
    await other.book(await other.patient(parent), NOON + 15 * MINUTE)
    for each in (clinic, other):
        await each.scan(client, parent)
    places = (await client.get("/api/v1/me/queue", headers=parent.headers)).json()
    assert [each["clinic_id"] for each in places] == [str(clinic.clinic_id), str(other.clinic_id)]
    assert places[0]["patient_id"] == str(child.patient_id)
    assert (await client.get("/api/v1/me/queue")).status_code == 401
