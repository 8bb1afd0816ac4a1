"""Lists in pages: nothing is missed and nothing comes twice, whatever is booked meanwhile."""

from datetime import date, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from cliniq.app import House
from cliniq.domains.appointments import api as appointments
from cliniq.platform.upkeep import upkeep
from tests.support import NOON, Client, Hands, SomeClinic, Someone, found_clinic

VISITS = "/api/v1/appointments"
HERE = "the site"
MINUTE = timedelta(minutes=1)


async def page(client: Client, clinic: SomeClinic, who: Someone, **wanted: object) -> Any:
    answer = await client.get(VISITS, params=wanted, headers=clinic.acting(who))  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(client: Client, clinic: SomeClinic, **wanted: object) -> tuple[int, str]:
    headers = clinic.acting(clinic.receptionist)
    answer = await client.get(VISITS, params=wanted, headers=headers)  # type: ignore[arg-type]
    return answer.status_code, answer.json().get("code", "OK")


def ids(items: list[Any]) -> list[UUID]:
    return [UUID(each["appointment_id"]) for each in items]


async def book_day(clinic: SomeClinic, count: int) -> list[appointments.Appointment]:
    """Visits of a day, some at the same time with another doctor, in the order of a list."""
    doctors = [clinic.practitioner_id, await clinic.practitioner(), await clinic.practitioner()]
    visits = [
        await clinic.book(
            await clinic.patient(),
            NOON + (number // 3 * 5 - 60) * MINUTE,
            minutes=5,
            practitioner_id=doctors[number % 3],
        )
        for number in range(count)
    ]
    return sorted(visits, key=lambda each: (each.starts_at, each.appointment_id))


@pytest.mark.parametrize("limit", [1, 7, 24, 25])
async def test_pages_hold_every_visit_once_in_order(
    client: Client, clinic: SomeClinic, limit: int
) -> None:
    visits = await book_day(clinic, 24)
    wanted = {"site_id": str(clinic.site.site_id), "limit": limit}
    found: list[UUID] = []
    cursor: dict[str, str] = {}
    for _ in range(len(visits) // limit + 1):
        said = await page(client, clinic, clinic.receptionist, **wanted, **cursor)
        assert len(said["items"]) <= limit
        found += ids(said["items"])
        if said["next_cursor"] is None:
            break
        cursor = {"cursor": said["next_cursor"]}
    assert found == [each.appointment_id for each in visits]


async def test_pages_stay_whole_while_others_book_and_call_off(
    client: Client, clinic: SomeClinic
) -> None:
    visits = await book_day(clinic, 21)
    wanted = {"site_id": str(clinic.site.site_id), "limit": 4}
    doctor = await clinic.practitioner()
    found: list[UUID] = []
    cursor: dict[str, str] = {}
    for step in range(100):
        said = await page(client, clinic, clinic.receptionist, **wanted, **cursor)
        found += ids(said["items"])
        if said["next_cursor"] is None:
            break
        cursor = {"cursor": said["next_cursor"]}
        for start in (NOON - (90 + step) * MINUTE, NOON + (90 + step) * MINUTE):
            await clinic.book(await clinic.patient(), start, minutes=1, practitioner_id=doctor)
        async with clinic.unit() as unit:
            await appointments.cancel(unit, visits[step].appointment_id, "")
    assert len(found) == len(set(found))
    assert set(found) >= {each.appointment_id for each in visits}


async def test_list_is_of_one_site_one_practitioner_or_one_patient(
    client: Client, clinic: SomeClinic
) -> None:
    north, doctor, patient = (
        await clinic.add_site(name="North"),
        await clinic.practitioner(),
        await clinic.patient(),
    )
    mine = await clinic.book(patient, NOON)
    there = await clinic.book(
        patient, NOON + 20 * MINUTE, site_id=north.site_id, practitioner_id=doctor
    )
    other = await clinic.book(await clinic.patient(), NOON + 40 * MINUTE)
    tomorrow = await clinic.book(patient, NOON + timedelta(days=1))
    who = clinic.receptionist
    wanted: list[tuple[dict[str, object], list[appointments.Appointment]]] = [
        ({"site_id": clinic.site.site_id}, [mine, other]),
        ({"site_id": north.site_id}, [there]),
        ({"practitioner_id": doctor}, [there]),
        ({"patient_id": patient.patient_id}, [mine, there, tomorrow]),
        ({"patient_id": patient.patient_id, "day": NOON.date()}, [mine, there]),
        ({"site_id": clinic.site.site_id, "day": tomorrow.starts_at.date()}, [tomorrow]),
        ({"site_id": clinic.site.site_id, "day": "2031-02-28"}, []),
    ]
    for names, expected in wanted:
        said = await page(client, clinic, who, **names)
        assert ids(said["items"]) == [each.appointment_id for each in expected], names
        assert said["next_cursor"] is None


async def test_list_is_of_one_status(client: Client, clinic: SomeClinic) -> None:
    someone, _, waiting = await clinic.visit()
    _, _, booked = await clinic.visit(NOON + 15 * MINUTE)
    _, _, cancelled = await clinic.visit(NOON + 30 * MINUTE)
    await clinic.scan(client, someone)
    async with clinic.unit() as unit:
        await appointments.cancel(unit, cancelled.appointment_id, "")
    for by in ({"site_id": clinic.site.site_id}, {"practitioner_id": clinic.practitioner_id}):
        for status, visit in (
            ("checked_in", waiting),
            ("booked", booked),
            ("cancelled", cancelled),
        ):
            said = await page(client, clinic, clinic.receptionist, **by, status=status)
            assert ids(said["items"]) == [visit.appointment_id]


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Vienna", date(2027, 3, 28), 23),
        ("Europe/Vienna", date(2027, 10, 31), 25),
        ("Asia/Kolkata", date(2027, 3, 28), 24),
    ],
)
async def test_day_of_a_site_is_the_site_s_own(
    client: Client, house: House, hands: Hands, zone: str, day: date, hours: int
) -> None:
    first, last = appointments.bounds_of_day(day, ZoneInfo(zone))
    assert last - first == timedelta(hours=hours)
    hands.clinic = first + timedelta(hours=5)
    await upkeep(house.entrance.database)
    clinic = await found_clinic(house, zone)
    within = [
        await clinic.book(await clinic.patient(), start, minutes=5)
        for start in (first, first + 2 * timedelta(hours=1), last - 5 * MINUTE)
    ]
    for start in (first - 5 * MINUTE, last):
        await clinic.book(await clinic.patient(), start, minutes=5)
    for wanted in ({}, {"day": day}):
        said = await page(
            client, clinic, clinic.receptionist, site_id=clinic.site.site_id, **wanted
        )
        assert ids(said["items"]) == [each.appointment_id for each in within]


async def test_patient_lists_their_own_and_nobody_else_s(
    client: Client, clinic: SomeClinic
) -> None:
    someone, own, visit = await clinic.visit()
    _, other, _ = await clinic.visit(NOON + 15 * MINUTE)
    for by in (
        {"site_id": clinic.site.site_id},
        {"practitioner_id": clinic.practitioner_id},
        {"patient_id": own.patient_id},
    ):
        assert ids((await page(client, clinic, someone, **by))["items"]) == [visit.appointment_id]
    headers = clinic.acting(someone)
    answer = await client.get(VISITS, params={"patient_id": str(other.patient_id)}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "PATIENT_NOT_FOUND")


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"day": "2026-11-23"},
        {"site_id": UUID(int=1), "patient_id": UUID(int=1)},
        {"site_id": "x"},
        {"patient_id": UUID(int=1), "limit": 0},
        {"patient_id": UUID(int=1), "limit": 101},
        {"patient_id": UUID(int=1), "day": "2026-02-30"},
        {"patient_id": UUID(int=1), "day": "2200-01-01"},
        {"patient_id": UUID(int=1), "status": "late"},
        {"site_id": HERE, "cursor": ""},
        {"site_id": HERE, "cursor": "A"},
        {"patient_id": UUID(int=1), "cursor": "A" * 201},
    ],
)
async def test_list_of_what_is_not_a_list_is_refused(
    client: Client, clinic: SomeClinic, wanted: dict[str, object]
) -> None:
    if wanted.get("site_id") == HERE:
        wanted = wanted | {"site_id": clinic.site.site_id}
    assert await refused(client, clinic, **wanted) == (422, "REQUEST_INVALID")


async def test_list_of_whom_the_clinic_does_not_know_is_refused(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    patient = await other.patient()
    unknown: list[tuple[dict[str, object], str]] = [
        ({"site_id": other.site.site_id}, "SITE_NOT_FOUND"),
        ({"practitioner_id": other.practitioner_id}, "PRACTITIONER_NOT_FOUND"),
        ({"patient_id": patient.patient_id}, "PATIENT_NOT_FOUND"),
        ({"patient_id": UUID(int=9)}, "PATIENT_NOT_FOUND"),
    ]
    for wanted, code in unknown:
        assert await refused(client, clinic, **wanted) == (404, code)


async def test_cursor_that_is_not_ours_is_refused(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    cursors = []
    for each in (clinic, other):
        for number in range(3):
            await each.book(await each.patient(), NOON + number * 15 * MINUTE)
        wanted = {"site_id": each.site.site_id, "limit": 1}
        said = await page(client, each, each.receptionist, **wanted)
        cursors.append(said["next_cursor"])
    ours, theirs = cursors
    wanted = {"site_id": clinic.site.site_id, "limit": 1}
    for cursor in (theirs, clinic.code(), clinic.admin.refresh_token, ours[:-1], ours + "A"):
        assert await refused(client, clinic, **wanted, cursor=cursor) == (422, "REQUEST_INVALID")
    for place in range(len(ours)):
        letter = "B" if ours[place] == "A" else "A"
        changed = ours[:place] + letter + ours[place + 1 :]
        assert await refused(client, clinic, **wanted, cursor=changed) == (422, "REQUEST_INVALID")
    assert await refused(client, clinic, **wanted, cursor=ours) == (200, "OK")


async def test_cursor_tells_a_patient_nothing_of_others(client: Client, clinic: SomeClinic) -> None:
    for number in range(3):
        await clinic.visit(NOON + number * 15 * MINUTE)
    someone, _, visit = await clinic.visit(NOON + 60 * MINUTE)
    wanted = {"site_id": clinic.site.site_id, "limit": 2}
    staff = await page(client, clinic, clinic.receptionist, **wanted)
    said = await page(client, clinic, someone, **wanted, cursor=staff["next_cursor"])
    assert ids(said["items"]) == [visit.appointment_id]
