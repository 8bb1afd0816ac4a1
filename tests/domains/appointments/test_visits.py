"""Visits over the wire: booked, read, moved and called off, by staff and by patients."""

from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from cliniq.app import House
from cliniq.kernel.ids import new_id
from cliniq.kernel.permissions import Role
from tests.support import NOON, Admin, Client, SomeClinic, Someone, SomePatient, found_clinic

VISITS = "/api/v1/appointments"
QUARTER = timedelta(minutes=15)


def wish(clinic: SomeClinic, patient: SomePatient, **changes: object) -> dict[str, object]:
    return {
        "patient_id": str(patient.patient_id),
        "practitioner_id": str(clinic.practitioner_id),
        "site_id": str(clinic.site.site_id),
        "starts_at": NOON.isoformat(),
    } | changes


async def count(admin: Admin, clinic: SomeClinic, table: str = "appointment") -> int:
    counted = await admin.fetchval(
        f"select count(*) from {table} where clinic_id = $1",  # noqa: S608
        clinic.clinic_id,
    )
    return int(counted)


# Booking


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"patient_id": str(new_id())}, 404, "PATIENT_NOT_FOUND"),
        ({"practitioner_id": str(new_id())}, 404, "PRACTITIONER_NOT_FOUND"),
        ({"site_id": str(new_id())}, 404, "SITE_NOT_FOUND"),
        ({"starts_at": (NOON + timedelta(days=400)).isoformat()}, 409, "OUTSIDE_HORIZON"),
        ({"starts_at": (NOON - timedelta(days=2)).isoformat()}, 409, "OUTSIDE_HORIZON"),
        ({"starts_at": "2199-12-31T23:00:00Z"}, 409, "OUTSIDE_HORIZON"),
        ({"starts_at": "2200-01-01T00:00:00Z"}, 422, "REQUEST_INVALID"),
        ({"starts_at": "2026-02-30T10:00:00Z"}, 422, "REQUEST_INVALID"),
        ({"starts_at": "2026-02-20T10:00:00"}, 422, "REQUEST_INVALID"),
        ({"starts_at": "0001-01-01T00:00:00+14:00"}, 422, "REQUEST_INVALID"),
        ({"starts_at": "9999-12-31T23:59:59-14:00"}, 422, "REQUEST_INVALID"),
        ({"minutes": 4}, 422, "REQUEST_INVALID"),
        ({"minutes": 481}, 422, "REQUEST_INVALID"),
        ({"minutes": "15"}, 422, "REQUEST_INVALID"),
        ({"minutes": 10**400}, 422, "REQUEST_INVALID"),
        ({"visit_type": " "}, 422, "REQUEST_INVALID"),
        ({"visit_type": "x" * 201}, 422, "REQUEST_INVALID"),
        ({"visit_type": "a\nb"}, 422, "REQUEST_INVALID"),
        ({"status": "completed"}, 422, "REQUEST_INVALID"),
        ({"clinic_id": str(new_id())}, 422, "REQUEST_INVALID"),
        ({"appointment_id": str(new_id())}, 422, "REQUEST_INVALID"),
    ],
)
async def test_receptionist_who_books_what_cannot_be_is_refused(
    client: Client,
    clinic: SomeClinic,
    admin: Admin,
    changes: dict[str, object],
    status: int,
    code: str,
) -> None:
    body = wish(clinic, await clinic.patient(), **changes)
    answer = await client.post(VISITS, json=body, headers=clinic.acting(clinic.receptionist))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await count(admin, clinic) == await count(admin, clinic, "booking") == 0


async def test_receptionist_books_a_visit(client: Client, clinic: SomeClinic) -> None:
    patient = await clinic.patient()
    kathmandu = (NOON + timedelta(hours=1)).astimezone(ZoneInfo("Asia/Kathmandu"))
    body = wish(clinic, patient, starts_at=kathmandu.isoformat(), visit_type=" control ")
    headers = clinic.acting(clinic.receptionist)
    answer = await client.post(VISITS, json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    booked = answer.json()
    assert UUID(booked.pop("appointment_id")).version == 7
    starts_at = datetime.fromisoformat(booked.pop("starts_at"))
    assert starts_at == NOON + timedelta(hours=1)
    assert datetime.fromisoformat(booked.pop("ends_at")) == starts_at + QUARTER
    assert booked == {
        "patient_id": str(patient.patient_id),
        "practitioner_id": str(clinic.practitioner_id),
        "site_id": str(clinic.site.site_id),
        "visit_type": "control",
        "status": "booked",
        "version": 1,
    }
    again = await client.post(VISITS, json=body, headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "SLOT_TAKEN")


@pytest.mark.parametrize(
    ("role", "status"),
    [
        (Role.CLINIC_ADMIN, 201),
        (Role.DOCTOR, 201),
        (Role.RECEPTIONIST, 201),
        (Role.NURSE, 403),
        (Role.SUPPORT_STAFF, 403),
        (Role.FINANCE_BILLING, 403),
    ],
)
async def test_role_decides_who_books(
    client: Client, clinic: SomeClinic, role: Role, status: int
) -> None:
    body = wish(clinic, await clinic.patient())
    member = await clinic.member(role)
    answer = await client.post(VISITS, json=body, headers=clinic.acting(member))
    assert answer.status_code == status


async def test_patient_books_for_themselves_and_their_child_and_for_nobody_else(
    client: Client, clinic: SomeClinic
) -> None:
    someone, own = await clinic.signed_in_patient()
    child, stranger = await clinic.dependant(someone), await clinic.patient()
    headers = clinic.acting(someone)
    answer = await client.post(VISITS, json=wish(clinic, stranger), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "PATIENT_NOT_FOUND")
    for number, who in enumerate((own, child)):
        body = wish(clinic, who, starts_at=(NOON + number * QUARTER).isoformat())
        answer = await client.post(VISITS, json=body, headers=headers)
        assert answer.status_code == 201, answer.text


async def test_patient_hears_that_a_slot_is_taken_and_not_by_whom(
    client: Client, clinic: SomeClinic
) -> None:
    _, taken_by, _ = await clinic.visit()
    someone, own = await clinic.signed_in_patient()
    answer = await client.post(VISITS, json=wish(clinic, own), headers=clinic.acting(someone))
    assert (answer.status_code, answer.json()["code"]) == (409, "SLOT_TAKEN")
    assert str(taken_by.patient_id) not in answer.text
    assert answer.json().keys() == {"type", "title", "status", "code", "instance", "trace_id"}


async def test_patient_does_not_book_what_has_begun_and_staff_do(
    client: Client, clinic: SomeClinic
) -> None:
    someone, own = await clinic.signed_in_patient()
    body = wish(clinic, own, starts_at=(NOON - timedelta(minutes=1)).isoformat())
    answer = await client.post(VISITS, json=body, headers=clinic.acting(someone))
    assert (answer.status_code, answer.json()["code"]) == (409, "OUTSIDE_HORIZON")
    assert datetime.fromisoformat(answer.json()["earliest_at"]) == NOON
    answer = await client.post(VISITS, json=body, headers=clinic.acting(clinic.receptionist))
    assert answer.status_code == 201
    at = f"{VISITS}/{answer.json()['appointment_id']}"
    earlier = {"starts_at": (NOON - timedelta(minutes=30)).isoformat()}
    answer = await client.put(at, json=earlier, headers=clinic.acting(someone))
    assert (answer.status_code, answer.json()["code"]) == (409, "OUTSIDE_HORIZON")


# Whose visit it is


async def asked(client: Client, clinic: SomeClinic, who: Someone, visit: UUID) -> list[str]:
    """Everything that can be asked of a visit: the codes."""
    headers, at = clinic.acting(who), f"{VISITS}/{visit}"
    later = {"starts_at": (NOON + timedelta(hours=6)).isoformat()}
    answers = [
        await client.get(at, headers=headers),
        await client.get(f"{at}/history", headers=headers),
        await client.put(at, json=later, headers=headers),
        await client.delete(at, headers=headers),
    ]
    return ["OK" if each.is_success else each.json()["code"] for each in answers]


async def test_visit_of_another_patient_does_not_exist_for_a_patient(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    _, _, visit = await clinic.visit()
    someone, _ = await clinic.signed_in_patient()
    expected = ["APPOINTMENT_NOT_FOUND"] * 4
    assert await asked(client, clinic, someone, visit.appointment_id) == expected
    assert await asked(client, clinic, someone, new_id()) == expected
    version = await admin.fetchval(
        "select version from appointment where appointment_id = $1", visit.appointment_id
    )
    assert version == 1


async def test_visit_of_another_clinic_does_not_exist_for_anyone(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    someone, _, visit = await other.visit()
    for who in (clinic.admin, clinic.receptionist):
        codes = await asked(client, clinic, who, visit.appointment_id)
        assert codes == ["APPOINTMENT_NOT_FOUND"] * 4
    for who in (clinic.admin, clinic.doctor, (await clinic.signed_in_patient())[0]):
        assert await asked(client, other, who, visit.appointment_id) == ["NOT_FOUND"] * 4
    assert await asked(client, other, someone, visit.appointment_id) == ["OK"] * 4


async def test_member_without_the_permission_hears_so(client: Client, clinic: SomeClinic) -> None:
    _, _, visit = await clinic.visit()
    clerk = await clinic.member(Role.FINANCE_BILLING)
    assert await asked(client, clinic, clerk, visit.appointment_id) == ["FORBIDDEN"] * 4
    helper = await clinic.member(Role.SUPPORT_STAFF)
    assert await asked(client, clinic, helper, visit.appointment_id) == [
        "OK",
        "OK",
        "FORBIDDEN",
        "FORBIDDEN",
    ]


async def test_member_who_is_a_patient_too_reaches_their_own_and_no_more(
    client: Client, clinic: SomeClinic
) -> None:
    clerk = await clinic.member(Role.FINANCE_BILLING)
    own = await clinic.book(await clinic.patient(clerk), NOON)
    _, _, others = await clinic.visit(NOON + QUARTER)
    assert (
        await asked(client, clinic, clerk, others.appointment_id) == ["APPOINTMENT_NOT_FOUND"] * 4
    )
    assert await asked(client, clinic, clerk, own.appointment_id) == ["OK"] * 4


async def test_parent_reaches_the_visit_of_the_child(client: Client, clinic: SomeClinic) -> None:
    parent, _ = await clinic.signed_in_patient()
    visit = await clinic.book(await clinic.dependant(parent))
    assert await asked(client, clinic, parent, visit.appointment_id) == ["OK"] * 4


# Moving and calling off


async def test_visit_keeps_its_story(client: Client, clinic: SomeClinic, admin: Admin) -> None:
    someone, _, visit = await clinic.visit()
    at, headers = f"{VISITS}/{visit.appointment_id}", clinic.acting(clinic.receptionist)
    later = (NOON + timedelta(hours=1)).isoformat()
    body = {"starts_at": later, "minutes": 30, "version": 1, "reason": "doctor is late"}
    moved = (await client.put(at, json=body, headers=headers)).json()
    assert (moved["version"], moved["status"]) == (2, "booked")
    assert datetime.fromisoformat(moved["ends_at"]) == NOON + timedelta(hours=1, minutes=30)
    gone = await client.request(
        "DELETE", at, json={"reason": "ill"}, headers=clinic.acting(someone)
    )
    assert (gone.status_code, gone.json()["status"]) == (200, "cancelled")
    story = (await client.get(f"{at}/history", headers=headers)).json()
    facts = ("version", "from_status", "to_status", "reason")
    assert [tuple(each[fact] for fact in facts) for each in story] == [
        (1, None, "booked", ""),
        (2, "booked", "booked", "doctor is late"),
        (3, "booked", "cancelled", "ill"),
    ]
    actors = await admin.fetch(
        "select actor_id from appointment_history where appointment_id = $1 order by version",
        visit.appointment_id,
    )
    took = [each.person_id for each in (clinic.admin, clinic.receptionist, someone)]
    assert [row["actor_id"] for row in actors] == took
    assert not any(str(person_id) in str(story) for person_id in took)
    assert (await client.get(at, headers=headers)).json()["status"] == "cancelled"


@pytest.mark.parametrize("body", [{"minutes": 30}, {"starts_at": "x"}, {"version": "1"}, None])
async def test_move_that_is_malformed_is_refused(
    client: Client, clinic: SomeClinic, body: dict[str, object] | None
) -> None:
    _, _, visit = await clinic.visit()
    sent = {"starts_at": NOON.isoformat(), **body} if body and "minutes" not in body else body
    answer = await client.put(
        f"{VISITS}/{visit.appointment_id}", json=sent, headers=clinic.acting(clinic.receptionist)
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")


async def test_move_by_a_stale_version_is_refused(client: Client, clinic: SomeClinic) -> None:
    _, _, visit = await clinic.visit()
    at, headers = f"{VISITS}/{visit.appointment_id}", clinic.acting(clinic.receptionist)
    body = {"starts_at": (NOON + QUARTER).isoformat(), "version": 1}
    assert (await client.put(at, json=body, headers=headers)).status_code == 200
    answer = await client.put(at, json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "STALE_VERSION")


@pytest.mark.parametrize("days", [-3, 400, 60_000])
async def test_move_beyond_the_horizon_is_refused(
    client: Client, clinic: SomeClinic, days: int
) -> None:
    _, _, visit = await clinic.visit()
    body = {"starts_at": (NOON + timedelta(days=days)).isoformat()}
    answer = await client.put(
        f"{VISITS}/{visit.appointment_id}", json=body, headers=clinic.acting(clinic.receptionist)
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "OUTSIDE_HORIZON")
    assert answer.json().keys() >= {"earliest_at", "latest_at"}


async def test_visit_that_waits_can_neither_be_moved_nor_called_off(
    client: Client, clinic: SomeClinic
) -> None:
    someone, _, visit = await clinic.visit()
    assert (await clinic.scan(client, someone)).status_code == 200
    at, headers = f"{VISITS}/{visit.appointment_id}", clinic.acting(clinic.receptionist)
    body = {"starts_at": (NOON + QUARTER).isoformat()}
    for answer in (
        await client.put(at, json=body, headers=headers),
        await client.delete(at, headers=headers),
    ):
        said = answer.json()
        assert (answer.status_code, said["code"]) == (409, "INVALID_TRANSITION")
        assert (said["from"], said["allowed"]) == ("checked_in", ["in_progress", "no_show"])


async def test_visit_called_off_twice_is_refused(client: Client, clinic: SomeClinic) -> None:
    someone, _, visit = await clinic.visit()
    at, headers = f"{VISITS}/{visit.appointment_id}", clinic.acting(someone)
    assert (await client.delete(at, headers=headers)).status_code == 200
    said = (await client.delete(at, headers=headers)).json()
    assert (said["code"], said["from"], said["to"]) == (
        "INVALID_TRANSITION",
        "cancelled",
        "cancelled",
    )
    assert said["allowed"] == []


# One's own, in every clinic


@pytest.mark.parametrize("path", ["/api/v1/me/appointments", f"{VISITS}/mine"])
async def test_patient_sees_their_own_visits_of_all_clinics(
    client: Client, clinic: SomeClinic, house: House, path: str
) -> None:
    other = await found_clinic(house)
    someone, own = await clinic.signed_in_patient()
    child = await clinic.dependant(someone)
    visits = [
        await clinic.book(own, NOON + 2 * QUARTER),
        await clinic.book(child, NOON + QUARTER),
        await other.book(await other.patient(someone), NOON + 3 * QUARTER),
    ]
    await clinic.visit(NOON)
    answer = await client.get(path, headers=someone.headers)
    assert [each["appointment_id"] for each in answer.json()] == [
        str(visits[number].appointment_id) for number in (1, 0, 2)
    ]
    assert {each["clinic_id"] for each in answer.json()} == {
        str(clinic.clinic_id),
        str(other.clinic_id),
    }
    first = await client.get(path, params={"limit": 1}, headers=someone.headers)
    assert first.json() == answer.json()[:1]
    assert (await client.get(path, headers=clinic.doctor.headers)).json() == []
    assert (await client.get(path)).status_code == 401
