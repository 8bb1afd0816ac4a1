"""Who is before whom: who is more urgent, then who was due earlier, then who came earlier."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from cliniq.app import House
from cliniq.domains.clinics import api as clinics
from cliniq.domains.queue import api as queue
from cliniq.domains.queue.errors import QueueEmpty
from cliniq.domains.queue.models import EntryStatus
from cliniq.domains.queue.rules import FOLLOWS, due_at, ensure_may_follow
from cliniq.kernel.ids import new_id
from cliniq.kernel.permissions import Role
from cliniq.kernel.problem import InvalidTransition
from tests.domains.queue.lines import MINUTE, board_of, line_up
from tests.support import NOON, Admin, Client, Hands, SomeClinic, found_clinic


def test_who_is_on_time_is_due_at_the_start_and_who_is_late_on_arrival() -> None:
    assert due_at(NOON - 20 * MINUTE, NOON) == NOON
    assert due_at(NOON, NOON) == NOON
    assert due_at(NOON + 5 * MINUTE, NOON) == NOON + 5 * MINUTE


STEPS = [
    ("waiting", "called"),
    ("called", "in_progress"),
    ("called", "no_show"),
    ("in_progress", "completed"),
]


@pytest.mark.parametrize("now", list(EntryStatus))
@pytest.mark.parametrize("then", list(EntryStatus))
def test_place_takes_only_the_steps_that_its_life_has(now: EntryStatus, then: EntryStatus) -> None:
    assert set(FOLLOWS) == set(EntryStatus)
    if (now, then) in STEPS:
        ensure_may_follow(now, then)
        return
    with pytest.raises(InvalidTransition) as refusal:
        ensure_may_follow(now, then)
    allowed = [last for first, last in STEPS if first == now]
    assert refusal.value.facts == {"from": now, "to": then, "allowed": allowed}


async def call(clinic: SomeClinic, queue_id: UUID) -> int:
    async with clinic.unit() as unit:
        return (await queue.call_next(unit, queue_id, None)).ticket


async def test_line_is_called_by_priority_then_when_due_then_by_ticket(
    clinic: SomeClinic, admin: Admin
) -> None:
    minutes = [30, 10, 10, 0, 20]  # tickets 1 to 5
    places = await line_up(clinic, admin, [NOON + each * MINUTE for each in minutes])
    assert [each.ticket for each in places] == [1, 2, 3, 4, 5]
    assert [each.position for each in places] == [1, 1, 2, 1, 4]
    (queue_id,) = {each.queue_id for each in places}
    for ticket, priority in ((5, 2), (1, 1)):
        await admin.execute(
            "update queue_entry set priority = $3 where queue_id = $1 and ticket = $2",
            queue_id,
            ticket,
            priority,
        )
    board: Any = (await board_of(clinic, queue_id)).state
    assert board.waiting == [5, 1, 4, 2, 3]
    async with clinic.unit() as unit:
        asked = await queue.list_places_of(unit, [each.appointment_id for each in places])
    assert {each.ticket: each.position for each in asked} == {5: 1, 1: 2, 4: 3, 2: 4, 3: 5}
    assert [await call(clinic, queue_id) for _ in places] == [5, 1, 4, 2, 3]
    with pytest.raises(QueueEmpty):
        await call(clinic, queue_id)


async def test_late_patient_comes_after_those_who_are_on_time(
    client: Client, clinic: SomeClinic, hands: Hands
) -> None:
    late, _, _ = await clinic.visit(NOON)
    early, _, _ = await clinic.visit(NOON + 15 * MINUTE)
    punctual, _, _ = await clinic.visit(NOON + 30 * MINUTE)
    hands.clinic = NOON + 5 * MINUTE
    await clinic.scan(client, early)
    hands.clinic = NOON + 20 * MINUTE
    await clinic.scan(client, late)
    hands.clinic = NOON + 25 * MINUTE
    await clinic.scan(client, punctual)
    places = [
        (await client.get("/api/v1/me/queue", headers=who.headers)).json()[0]
        for who in (early, late, punctual)
    ]
    assert [each["position"] for each in places] == [1, 2, 3]


async def test_lines_of_two_doctors_do_not_mix(client: Client, clinic: SomeClinic) -> None:
    other = await clinic.practitioner()
    people = []
    for number, doctor in enumerate((clinic.practitioner_id, other) * 2):
        someone, patient = await clinic.signed_in_patient()
        await clinic.book(
            patient, NOON + number * 15 * MINUTE - 30 * MINUTE, practitioner_id=doctor
        )
        people.append(someone)
    receipts = [(await clinic.scan(client, someone)).json()["check_ins"][0] for someone in people]
    assert [each["ticket"] for each in receipts] == [1, 1, 2, 2]
    assert [each["line_name"] for each in receipts] == ["Dr. Who", "Dr. Other"] * 2
    assert len({each["queue_id"] for each in receipts}) == 2


async def test_pool_joins_all_doctors_in_one_line(client: Client, clinic: SomeClinic) -> None:
    site = await clinic.add_site(name="Pool", queue_mode=clinics.QueueMode.POOL)
    code = clinic.code(point=await clinic.add_point(site))
    other = await clinic.practitioner()
    receipts = []
    for number, doctor in enumerate((clinic.practitioner_id, other) * 2):
        someone, patient = await clinic.signed_in_patient()
        start = NOON + number * MINUTE
        await clinic.book(patient, start, minutes=1, practitioner_id=doctor, site_id=site.site_id)
        answer = await clinic.scan(client, someone, code=code)
        receipts += answer.json()["check_ins"]
    assert [(each["ticket"], each["position"]) for each in receipts] == [
        (number, number) for number in (1, 2, 3, 4)
    ]
    assert {each["line_name"] for each in receipts} == {"Pool"}
    (queue_id,) = {UUID(each["queue_id"]) for each in receipts}
    assert [await call(clinic, queue_id) for _ in range(4)] == [1, 2, 3, 4]


async def test_tomorrow_s_line_begins_at_one(
    client: Client, clinic: SomeClinic, hands: Hands
) -> None:
    for days in (0, 1):
        hands.clinic = NOON + timedelta(days=days)
        someone, _, _ = await clinic.visit(hands.clinic)
        (receipt,) = (await clinic.scan(client, someone)).json()["check_ins"]
        assert receipt["ticket"] == 1


# Calling, over the wire


async def wait(client: Client, clinic: SomeClinic, minutes: int = 0) -> Any:
    someone, _, _ = await clinic.visit(NOON + minutes * MINUTE)
    return (await clinic.scan(client, someone)).json()["check_ins"][0]


async def test_call_to_a_queue_that_is_not_the_clinic_s_is_refused(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    theirs = await wait(client, await found_clinic(house))
    headers = clinic.acting(clinic.doctor)
    for queue_id in (theirs["queue_id"], new_id()):
        for answer in (
            await client.post(f"/api/v1/queues/{queue_id}/calls", headers=headers),
            await client.get(f"/api/v1/queues/{queue_id}", headers=headers),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "QUEUE_NOT_FOUND")
    for step in ("start", "complete"):
        path = f"/api/v1/queues/entries/{theirs['entry_id']}/{step}"
        answer = await client.post(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "QUEUE_ENTRY_NOT_FOUND")
    assert (await client.get("/api/v1/queues", headers=headers)).json() == []


async def test_call_to_an_empty_queue_is_refused(client: Client, clinic: SomeClinic) -> None:
    receipt = await wait(client, clinic)
    path, headers = f"/api/v1/queues/{receipt['queue_id']}/calls", clinic.acting(clinic.doctor)
    assert (await client.post(path, headers=headers)).status_code == 200
    answer = await client.post(path, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "QUEUE_EMPTY")


async def test_only_who_may_call_calls(client: Client, clinic: SomeClinic) -> None:
    receipt = await wait(client, clinic)
    someone, _ = await clinic.signed_in_patient()
    path = f"/api/v1/queues/{receipt['queue_id']}/calls"
    helper = await clinic.member(Role.SUPPORT_STAFF)
    assert (await client.post(path, headers=clinic.acting(helper))).status_code == 403
    assert (await client.post(path, headers=clinic.acting(someone))).status_code == 404
    assert (await client.post(path)).status_code == 401


async def test_visit_goes_with_its_place_in_the_queue(client: Client, clinic: SomeClinic) -> None:
    receipt = await wait(client, clinic)
    headers = clinic.acting(clinic.doctor)
    entry = f"/api/v1/queues/entries/{receipt['entry_id']}"
    visit = f"/api/v1/appointments/{receipt['appointment_id']}"

    async def refused(step: str) -> tuple[str, str, list[str]]:
        answer = await client.post(f"{entry}/{step}", headers=headers)
        said = answer.json()
        assert (answer.status_code, said["code"]) == (409, "INVALID_TRANSITION")
        return said["from"], said["to"], said["allowed"]

    async def status() -> str:
        found: str = (await client.get(visit, headers=headers)).json()["status"]
        return found

    assert await refused("start") == ("waiting", "in_progress", ["called"])
    assert await refused("complete") == ("waiting", "completed", ["called"])
    assert await status() == "checked_in"
    path = f"/api/v1/queues/{receipt['queue_id']}/calls"
    called = (await client.post(path, json={"room": "7"}, headers=headers)).json()
    assert (called["ticket"], called["room"], called["status"]) == (1, "7", "called")
    assert called["patient_name"].endswith("Tester")
    assert await refused("complete") == ("called", "completed", ["in_progress", "no_show"])
    assert await status() == "checked_in"
    for step, reached in (("start", "in_progress"), ("complete", "completed")):
        answer = await client.post(f"{entry}/{step}", headers=headers)
        assert (answer.status_code, answer.json()["status"]) == (200, reached)
        assert await status() == reached
        assert (await refused(step))[0] == reached
    story = (await client.get(f"{visit}/history", headers=headers)).json()
    assert [each["to_status"] for each in story] == [
        "booked",
        "checked_in",
        "in_progress",
        "completed",
    ]


@pytest.mark.parametrize("room", ["", " ", "x" * 201, "a\tb", 7])
async def test_call_to_a_room_that_is_no_name_is_refused(
    client: Client, clinic: SomeClinic, room: object
) -> None:
    receipt = await wait(client, clinic)
    path = f"/api/v1/queues/{receipt['queue_id']}/calls"
    answer = await client.post(path, json={"room": room}, headers=clinic.acting(clinic.doctor))
    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")


async def test_staff_see_the_queues_of_a_day(client: Client, clinic: SomeClinic) -> None:
    receipts = [await wait(client, clinic, minutes) for minutes in (0, 15)]
    headers = clinic.acting(clinic.receptionist)
    calls = f"/api/v1/queues/{receipts[0]['queue_id']}/calls"
    await client.post(calls, headers=headers)
    (head,) = (await client.get("/api/v1/queues", headers=headers)).json()
    assert (head["waiting"], head["called"], head["line_name"]) == (1, 1, "Dr. Who")
    assert (head["on_day"], head["version"]) == (NOON.date().isoformat(), 3)
    for wanted, found in (
        ({"site_id": str(clinic.site.site_id)}, 1),
        ({"on_day": NOON.date().isoformat()}, 1),
        ({"on_day": "2031-01-01"}, 0),
    ):
        listed = await client.get("/api/v1/queues", params=wanted, headers=headers)
        assert len(listed.json()) == found
    nowhere = await client.get("/api/v1/queues", params={"site_id": str(new_id())}, headers=headers)
    assert nowhere.json()["code"] == "SITE_NOT_FOUND"
    seen = (await client.get(f"/api/v1/queues/{head['queue_id']}", headers=headers)).json()
    assert seen["version"] == 3
    assert [(each["ticket"], each["status"]) for each in seen["entries"]] == [
        (1, "called"),
        (2, "waiting"),
    ]
