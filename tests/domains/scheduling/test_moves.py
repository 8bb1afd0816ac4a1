"""A visit moves to another time, or is called off: its old time is kept until it has a new one."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from cliniq.domains.appointments import api as appointments
from cliniq.domains.scheduling import api as scheduling
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.domains.sizes import ROUNDS
from tests.domains.storms import at_once, codes, deadlocks
from tests.support import NOON, Admin, SomeClinic, found_clinic

MINUTE, QUARTER = timedelta(minutes=1), timedelta(minutes=15)


async def move(
    clinic: SomeClinic, visit: appointments.Appointment, to: datetime, minutes: int | None = None
) -> appointments.Appointment:
    ends_at = to + minutes * MINUTE if minutes else None
    async with clinic.unit() as unit:
        return await appointments.reschedule(
            unit, visit.appointment_id, to, ends_at, seen_version=None, reason="asked"
        )


async def state(admin: Admin, visit: appointments.Appointment) -> dict[str, Any]:
    """Where a visit stands: its row and partition, its booking, and the minutes that it holds."""
    row = await admin.fetchrow(
        "select a.starts_at, a.ends_at, a.version, a.status, a.tableoid::regclass::text as part,"
        " b.starts_at as booked_at from appointment as a join booking as b"
        " on b.clinic_id = a.clinic_id and b.booking_id = a.appointment_id"
        " where a.appointment_id = $1",
        visit.appointment_id,
    )
    assert row is not None
    spans = await admin.fetch(
        "select number, lower(span) & 4294967295 as first, upper(span) & 4294967295 as last"
        " from claim where booking_id = $1 order by number",
        visit.appointment_id,
    )
    return dict(row) | {"claims": [tuple(span) for span in spans]}


def minute(at: datetime) -> int:
    return int(at.timestamp()) // 60


async def test_move_to_a_taken_time_is_refused_and_keeps_the_old_one(
    clinic: SomeClinic, admin: Admin
) -> None:
    visit = await clinic.book(await clinic.patient(), NOON)
    await clinic.book(await clinic.patient(), NOON + 2 * QUARTER)
    before = await state(admin, visit)
    for start in (NOON + 2 * QUARTER, NOON + QUARTER + MINUTE):
        with pytest.raises(scheduling.SlotTaken):
            await move(clinic, visit, start)
        assert await state(admin, visit) == before
    with pytest.raises(scheduling.SlotTaken):
        await clinic.book(await clinic.patient(), NOON)


async def test_move_to_a_time_when_the_patient_is_elsewhere_is_refused(
    clinic: SomeClinic, admin: Admin
) -> None:
    patient = await clinic.patient()
    visit = await clinic.book(patient, NOON)
    other = await clinic.practitioner()
    await clinic.book(patient, NOON + QUARTER, practitioner_id=other)
    before = await state(admin, visit)
    with pytest.raises(scheduling.SlotTaken):
        await move(clinic, visit, NOON + 10 * MINUTE)
    assert await state(admin, visit) == before


async def test_move_to_a_time_that_overlaps_its_own_works(clinic: SomeClinic, admin: Admin) -> None:
    visit = await clinic.book(await clinic.patient(), NOON)
    start = NOON + 5 * MINUTE
    moved = await move(clinic, visit, start)
    assert (moved.starts_at, moved.ends_at, moved.version) == (start, start + QUARTER, 2)
    after = await state(admin, visit)
    assert after["booked_at"] == start
    assert [span[1:] for span in after["claims"]] == [(minute(start), minute(start + QUARTER))] * 2
    longer = await move(clinic, visit, NOON, minutes=30)
    assert longer.ends_at - longer.starts_at == 30 * MINUTE


async def test_move_frees_the_old_time(clinic: SomeClinic) -> None:
    visit = await clinic.book(await clinic.patient(), NOON)
    await move(clinic, visit, NOON + QUARTER)
    await clinic.book(await clinic.patient(), NOON)


async def test_move_across_a_month_keeps_id_and_claims_and_changes_the_partition(
    clinic: SomeClinic, admin: Admin
) -> None:
    visit = await clinic.book(await clinic.patient(), NOON)
    before = await state(admin, visit)
    next_month = (NOON.replace(day=1) + timedelta(days=32)).replace(day=1)
    moved = await move(clinic, visit, next_month)
    after = await state(admin, visit)
    assert moved.appointment_id == visit.appointment_id
    assert before["part"] == f"appointment_{NOON:%Y%m}01"
    assert after["part"] == f"appointment_{next_month:%Y%m}01"
    assert [span[0] for span in after["claims"]] == [span[0] for span in before["claims"]]
    assert {span[1] for span in after["claims"]} == {minute(next_month)}
    rows = await admin.fetchval(
        "select count(*) from appointment where appointment_id = $1", visit.appointment_id
    )
    assert rows == 1
    async with clinic.unit() as unit:
        found = await appointments.get_appointment(unit, visit.appointment_id)
        assert found == moved


@pytest.mark.parametrize("days", [-2, 367, 800, 60_000])
async def test_move_beyond_the_horizon_is_refused_and_keeps_the_old_time(
    clinic: SomeClinic, admin: Admin, days: int
) -> None:
    visit = await clinic.book(await clinic.patient(), NOON)
    before = await state(admin, visit)
    with pytest.raises(scheduling.OutsideHorizon):
        await move(clinic, visit, NOON + timedelta(days=days))
    assert await state(admin, visit) == before


async def test_call_off_frees_the_time_of_doctor_and_patient(
    clinic: SomeClinic, admin: Admin
) -> None:
    patient = await clinic.patient()
    visit = await clinic.book(patient, NOON)
    async with clinic.unit() as unit:
        cancelled = await appointments.cancel(unit, visit.appointment_id, "ill")
    assert cancelled.status == "cancelled"
    after = await state(admin, visit)
    assert (after["status"], after["claims"]) == ("cancelled", [])
    again = await clinic.book(patient, NOON)
    assert again.appointment_id != visit.appointment_id


# Rivals


async def test_rivals_who_move_into_one_free_time_leave_one_there(
    clinic: SomeClinic, admin: Admin
) -> None:
    visits = [
        await clinic.book(await clinic.patient(), NOON + number * QUARTER) for number in range(8)
    ]
    free = NOON + timedelta(hours=5)
    answers = await at_once([move(clinic, each, free) for each in visits])
    assert codes(answers) == ["SLOT_TAKEN"] * 7
    starts = [(await state(admin, each))["starts_at"] for each in visits]
    assert starts.count(free) == 1
    assert len(set(starts)) == 8


async def test_rivals_who_swap_their_times_never_wait_for_each_other(
    urls: Urls, admin: Admin
) -> None:
    before = await deadlocks(admin)
    async with house_of(urls, size=8) as house:
        clinic = await found_clinic(house)
        one = await clinic.book(await clinic.patient(), NOON)
        two = await clinic.book(await clinic.patient(), NOON + QUARTER)
        for _ in range(3 * ROUNDS):
            answers = await at_once(
                [move(clinic, one, two.starts_at), move(clinic, two, one.starts_at)]
            )
            assert codes(answers) == ["SLOT_TAKEN"] * 2
    assert await deadlocks(admin) == before


async def test_rivals_who_move_and_call_off_one_visit_never_wait_for_each_other(
    urls: Urls, admin: Admin
) -> None:
    before = await deadlocks(admin)
    async with house_of(urls, size=8) as house:
        clinic = await found_clinic(house)

        async def call_off(appointment_id: UUID) -> appointments.Appointment:
            async with clinic.unit() as unit:
                return await appointments.cancel(unit, appointment_id, "")

        for number in range(ROUNDS):
            start = NOON + number * 4 * QUARTER
            visit = await clinic.book(await clinic.patient(), start)
            answers = await at_once(
                [move(clinic, visit, start + QUARTER), call_off(visit.appointment_id)]
            )
            assert set(codes(answers)) <= {"STALE_VERSION", "INVALID_TRANSITION"}
            held = (await state(admin, visit))["claims"]
            status = (await state(admin, visit))["status"]
            assert len(held) == (0 if status == "cancelled" else 2)
            await asyncio.sleep(0)
    assert await deadlocks(admin) == before
