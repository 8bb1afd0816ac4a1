"""The desk: staff check people in, take walk-ins, and say who did not come."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from cliniq.app import House
from cliniq.domains.appointments import api as appointments
from cliniq.domains.clinics import api as clinics
from cliniq.kernel.ids import new_id
from cliniq.kernel.permissions import Role
from tests.domains.checkin.traces import NOTHING, times, traces
from tests.domains.storms import at_once
from tests.support import NOON, Admin, Client, Hands, SomeClinic, Someone, found_clinic

API = "/api/v1"
MINUTES = timedelta(minutes=1)


async def ask(client: Client, clinic: SomeClinic, who: Someone, path: str, **body: object) -> Any:
    """What a POST answers, with the status as `http`."""
    given = {name: str(value) for name, value in body.items()}
    answer = await client.post(f"{API}/{path}", json=given, headers=clinic.acting(who))
    return answer.json() | {"http": answer.status_code}


async def manual(client: Client, clinic: SomeClinic, appointment_id: UUID, **body: object) -> Any:
    path = "appointments/check-in/manual"
    return await ask(
        client, clinic, clinic.receptionist, path, appointment_id=appointment_id, **body
    )


async def opened(client: Client, clinic: SomeClinic, site: clinics.Site | None = None) -> Any:
    body = {"site_id": (site or clinic.site).site_id}
    if site is None:
        body["practitioner_id"] = clinic.practitioner_id
    return await ask(client, clinic, clinic.receptionist, "queues", **body)


async def status_of(clinic: SomeClinic, appointment_id: UUID) -> str:
    async with clinic.unit() as unit:
        return (await appointments.get_appointment(unit, appointment_id)).status


# Checked in without a code


@pytest.mark.parametrize(
    ("starts_in", "code"),
    [
        (timedelta(days=1, hours=1), "CHECKIN_TOO_EARLY"),
        (timedelta(days=-1), "APPOINTMENT_EXPIRED"),
    ],
)
async def test_visit_of_another_day_is_refused_at_the_desk(
    client: Client,
    clinic: SomeClinic,
    admin: Admin,
    hands: Hands,
    starts_in: timedelta,
    code: str,
) -> None:
    hands.clinic = NOON - timedelta(days=2)
    visit = await clinic.book(await clinic.patient(), NOON + starts_in)
    hands.clinic = NOON
    said = await manual(client, clinic, visit.appointment_id)
    assert (said["http"], said["code"]) == (409, code)
    assert await traces(admin, clinic) == NOTHING


async def test_desk_refuses_what_is_nowhere_elsewhere_or_called_off(
    client: Client, clinic: SomeClinic, house: House, admin: Admin
) -> None:
    other = await found_clinic(house)
    theirs = await other.book(await other.patient())
    cancelled = await clinic.book(await clinic.patient())
    async with clinic.unit() as unit:
        await appointments.cancel(unit, cancelled.appointment_id, "")
    for appointment_id, status, code in (
        (new_id(), 404, "APPOINTMENT_NOT_FOUND"),
        (theirs.appointment_id, 404, "APPOINTMENT_NOT_FOUND"),
        (cancelled.appointment_id, 409, "INVALID_TRANSITION"),
    ):
        said = await manual(client, clinic, appointment_id)
        assert (said["http"], said["code"]) == (status, code)
    assert await traces(admin, clinic) == NOTHING
    assert await traces(admin, other) == NOTHING


async def test_patient_and_lab_may_check_nobody_in(client: Client, clinic: SomeClinic) -> None:
    someone, _, visit = await clinic.visit()
    lab = await clinic.member(Role.LAB_TECHNICIAN)
    path = "appointments/check-in/manual"
    for who, status in ((someone, 404), (lab, 403)):
        said = await ask(client, clinic, who, path, appointment_id=visit.appointment_id)
        assert said["http"] == status


@pytest.mark.parametrize("starts_in", [timedelta(hours=-5), timedelta(), timedelta(hours=6)])
async def test_desk_checks_in_any_visit_of_today_whatever_the_window(
    client: Client, clinic: SomeClinic, admin: Admin, hands: Hands, starts_in: timedelta
) -> None:
    hands.clinic = NOON - timedelta(days=1)
    visit = await clinic.book(await clinic.patient(), NOON + starts_in)
    hands.clinic = NOON
    said = await manual(client, clinic, visit.appointment_id, reason="no phone")
    assert (said["http"], said["ticket"], said["position"]) == (200, 1, 1)
    assert (said["status"], said["already"]) == ("waiting", False)
    assert await traces(admin, clinic) == times(1)
    (row,) = await admin.fetch(
        "select method, check_in_point_id, actor_id from check_in where check_in_id = $1",
        UUID(said["check_in_id"]),
    )
    assert tuple(row) == ("desk", None, clinic.receptionist.person_id)
    reasons = await admin.fetch(
        "select reason from appointment_history where appointment_id = $1 order by version",
        visit.appointment_id,
    )
    assert [each["reason"] for each in reasons] == ["", "no phone"]


async def test_desk_and_phone_give_one_ticket(client: Client, clinic: SomeClinic) -> None:
    someone, _, visit = await clinic.visit()
    first = await manual(client, clinic, visit.appointment_id)
    (receipt,) = (await clinic.scan(client, someone)).json()["check_ins"]
    again = await manual(client, clinic, visit.appointment_id)
    assert {each["ticket"] for each in (first, receipt, again)} == {1}
    assert {each["check_in_id"] for each in (first, receipt, again)} == {first["check_in_id"]}
    assert (receipt["already"], again["already"]) == (True, True)
    call = f"queues/{first['queue_id']}/calls"
    await ask(client, clinic, clinic.doctor, call, room="7")
    assert (await manual(client, clinic, visit.appointment_id))["status"] == "called"
    await ask(client, clinic, clinic.doctor, f"queues/entries/{first['entry_id']}/start")
    said = await manual(client, clinic, visit.appointment_id)
    assert (said["http"], said["code"]) == (409, "ALREADY_CHECKED_IN")


async def test_desk_and_phone_at_once_give_one_ticket(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    someone, _, visit = await clinic.visit()
    answers = await at_once(
        [manual(client, clinic, visit.appointment_id) for _ in range(4)]
        + [clinic.scan(client, someone) for _ in range(4)]
    )
    assert len(answers) == 8
    assert await traces(admin, clinic) == times(1)


# Without a visit


async def test_walk_in_is_refused_where_the_line_is_not_of_today_or_not_here(
    client: Client, clinic: SomeClinic, house: House, hands: Hands, admin: Admin
) -> None:
    patient, other = await clinic.patient(), await found_clinic(house)
    queue = await opened(client, clinic)
    pool = await clinic.add_site(queue_mode=clinics.QueueMode.POOL)
    whole = await opened(client, clinic, pool)
    another = await clinic.practitioner()
    stranger = await other.patient()
    here, ids = f"queues/{queue['queue_id']}/walk-ins", {"patient_id": patient.patient_id}
    for path, body, status, code in (
        (f"queues/{new_id()}/walk-ins", ids, 404, "QUEUE_NOT_FOUND"),
        (here, {"patient_id": stranger.patient_id}, 404, "PATIENT_NOT_FOUND"),
        (here, ids | {"practitioner_id": another}, 404, "PRACTITIONER_NOT_FOUND"),
        (f"queues/{whole['queue_id']}/walk-ins", ids, 422, "REQUEST_INVALID"),
    ):
        said = await ask(client, clinic, clinic.receptionist, path, **body)
        assert (said["http"], said["code"]) == (status, code)
    said = await ask(client, clinic, clinic.doctor, here, **ids)
    assert (said["http"], said["code"]) == (403, "FORBIDDEN")
    hands.clinic = NOON + timedelta(days=1)
    said = await ask(client, clinic, clinic.receptionist, here, **ids)
    assert (said["http"], said["code"]) == (409, "QUEUE_OVER")
    assert await traces(admin, clinic) == NOTHING


async def test_walk_in_waits_behind_those_who_were_due_and_is_seen_like_anybody(
    client: Client, clinic: SomeClinic, hands: Hands
) -> None:
    _, _, due = await clinic.visit(NOON - 5 * MINUTES)
    _, _, later = await clinic.visit(NOON + 20 * MINUTES)
    queue = await opened(client, clinic)
    patient = await clinic.patient()
    for visit in (later, due):
        await manual(client, clinic, visit.appointment_id)
    path = f"queues/{queue['queue_id']}/walk-ins"
    hands.clinic = NOON + 1 * MINUTES
    said = await ask(client, clinic, clinic.receptionist, path, patient_id=patient.patient_id)
    assert (said["http"], said["ticket"], said["position"]) == (200, 3, 2)
    assert await status_of(clinic, UUID(said["appointment_id"])) == "checked_in"
    tickets = [
        (await ask(client, clinic, clinic.doctor, f"queues/{queue['queue_id']}/calls"))["ticket"]
        for _ in range(3)
    ]
    assert tickets == [2, 3, 1]
    for step, reached in (("start", "in_progress"), ("complete", "completed")):
        moved = await ask(
            client, clinic, clinic.doctor, f"queues/entries/{said['entry_id']}/{step}"
        )
        assert moved["status"] == reached
    assert await status_of(clinic, UUID(said["appointment_id"])) == "completed"


async def test_walk_in_takes_nobody_s_time(client: Client, clinic: SomeClinic) -> None:
    queue, patient = await opened(client, clinic), await clinic.patient()
    path = f"queues/{queue['queue_id']}/walk-ins"
    await ask(client, clinic, clinic.receptionist, path, patient_id=patient.patient_id)
    visit = await clinic.book(patient, NOON)  # both their times are free
    assert visit.status == "booked"


async def test_walk_in_that_is_sent_again_is_one(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    queue, patient = await opened(client, clinic), await clinic.patient()
    path = f"{API}/queues/{queue['queue_id']}/walk-ins"
    body = {"patient_id": str(patient.patient_id)}
    headers = clinic.acting(clinic.receptionist) | {"Idempotency-Key": str(new_id())}
    answers = [await client.post(path, json=body, headers=headers) for _ in range(3)]
    assert {each.content for each in answers} == {answers[0].content}
    assert (
        await admin.fetchval(
            "select count(*) from queue_entry where clinic_id = $1", clinic.clinic_id
        )
        == 1
    )


async def test_queue_that_is_opened_twice_is_one(client: Client, clinic: SomeClinic) -> None:
    first, second = [await opened(client, clinic) for _ in range(2)]
    assert first == second
    assert (first["http"], first["waiting"], first["version"]) == (200, 0, 0)
    site = {"site_id": clinic.site.site_id}
    for body in (site, site | {"practitioner_id": new_id()}):
        said = await ask(client, clinic, clinic.receptionist, "queues", **body)
        assert (said["http"], said["code"]) == (404, "PRACTITIONER_NOT_FOUND")


# Who did not come


async def test_nobody_is_missed_before_they_are_due_or_while_they_are_here(
    client: Client, clinic: SomeClinic
) -> None:
    _, _, later = await clinic.visit(NOON + 1 * MINUTES)
    _, _, here = await clinic.visit(NOON - 30 * MINUTES)
    await manual(client, clinic, here.appointment_id)
    for appointment_id, status, code in (
        (later.appointment_id, 409, "NO_SHOW_TOO_EARLY"),
        (here.appointment_id, 409, "INVALID_TRANSITION"),
        (new_id(), 404, "APPOINTMENT_NOT_FOUND"),
    ):
        at = f"appointments/{appointment_id}/no-show"
        said = await ask(client, clinic, clinic.receptionist, at)
        assert (said["http"], said["code"]) == (status, code)
        assert said.get("allowed", ["in_progress"]) == ["in_progress"]


async def test_who_did_not_come_is_written_down_and_their_time_is_free(
    client: Client, clinic: SomeClinic, hands: Hands
) -> None:
    _, patient, visit = await clinic.visit(NOON - 5 * MINUTES)
    at = f"appointments/{visit.appointment_id}/no-show"
    said = await ask(client, clinic, clinic.receptionist, at, reason="telephoned")
    assert (said["http"], said["status"]) == (200, "no_show")
    again = await ask(client, clinic, clinic.receptionist, at)
    assert (again["http"], again["code"]) == (409, "INVALID_TRANSITION")
    assert (await clinic.book(patient, visit.starts_at)).status == "booked"


async def test_who_was_called_and_did_not_come_leaves_the_queue(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    someone, _, visit = await clinic.visit()
    (receipt,) = (await clinic.scan(client, someone)).json()["check_ins"]
    entry = f"queues/entries/{receipt['entry_id']}/no-show"
    said = await ask(client, clinic, clinic.doctor, entry)
    assert (said["code"], said["from"], said["allowed"]) == (
        "INVALID_TRANSITION",
        "waiting",
        ["called"],
    )
    await ask(client, clinic, clinic.doctor, f"queues/{receipt['queue_id']}/calls")
    said = await ask(client, clinic, clinic.doctor, entry)
    assert (said["http"], said["status"]) == (200, "no_show")
    assert await status_of(clinic, visit.appointment_id) == "no_show"
    at = f"{API}/queues/{receipt['queue_id']}"
    shown = await client.get(at, headers=clinic.acting(clinic.doctor))
    assert shown.json()["entries"] == []
    own = await client.get(f"{API}/me/queue", headers=clinic.acting(someone))
    assert own.json() == []
    (told,) = await admin.fetch(
        "select topic, version from outbox where kind = 'queue.entry_left.v1' and subject_id = $1",
        UUID(receipt["entry_id"]),
    )
    assert told["topic"] == f"queue:{receipt['queue_id']}"
    assert told["version"] == shown.json()["version"]
