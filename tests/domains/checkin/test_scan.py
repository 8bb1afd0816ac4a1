"""A scan, as the wire sees it: first the refusals, then the ticket."""

import asyncio
from datetime import timedelta

import pytest

from tests.support import NOON, Admin, Client, Hands, SomeClinic

TRACES = ("check_in", "check_in_claim", "queue_entry")


async def traces(admin: Admin, clinic: SomeClinic) -> dict[str, int]:
    return {
        table: await admin.fetchval(
            f"select count(*) from {table} where clinic_id = $1",  # noqa: S608
            clinic.clinic_id,
        )
        for table in TRACES
    }


@pytest.mark.parametrize(
    ("starts_in", "code"),
    [
        (timedelta(hours=3), "CHECKIN_TOO_EARLY"),
        (timedelta(minutes=30, seconds=1), "CHECKIN_TOO_EARLY"),
        (timedelta(hours=-2, seconds=-1), "APPOINTMENT_EXPIRED"),
        (timedelta(days=3), "NO_APPOINTMENT_FOUND"),
    ],
)
async def test_patient_outside_the_window_is_refused(
    client: Client, clinic: SomeClinic, hands: Hands, starts_in: timedelta, code: str
) -> None:
    someone, _, _ = await clinic.visit(NOON + starts_in)
    answer = await clinic.scan(client, someone)
    assert answer.json()["code"] == code


async def test_patient_on_time_gets_a_ticket(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    someone, patient, visit = await clinic.visit()
    answer = await clinic.scan(client, someone)
    assert answer.status_code == 200, answer.text
    (receipt,) = answer.json()["check_ins"]
    assert receipt["appointment_id"] == str(visit.appointment_id)
    assert receipt["patient_id"] == str(patient.patient_id)
    assert (receipt["ticket"], receipt["position"], receipt["already"]) == (1, 1, False)
    assert await traces(admin, clinic) == dict.fromkeys(TRACES, 1)


async def test_hundred_scans_of_one_visit_leave_one_trace(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    someone, _, _ = await clinic.visit()
    answers = await asyncio.gather(*(clinic.scan(client, someone) for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}
    receipts = [answer.json()["check_ins"][0] for answer in answers]
    assert sum(not receipt.pop("already") for receipt in receipts) == 1
    assert all(receipt == receipts[0] for receipt in receipts)
    assert await traces(admin, clinic) == dict.fromkeys(TRACES, 1)
