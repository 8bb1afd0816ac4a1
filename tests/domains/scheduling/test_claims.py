"""Nobody is in two places at once, however many want to be."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from cliniq.app import House
from cliniq.domains.scheduling import api as scheduling
from cliniq.domains.scheduling import store
from cliniq.domains.scheduling.rules import AHEAD, BACK, ensure_within_horizon
from cliniq.platform.db import Unit
from cliniq.platform.source import Urls
from cliniq.platform.sql import sql
from tests.domains.scheduling.bookers import MINUTE, claims_of, hall_of, hold
from tests.domains.sizes import BOOKERS, ROUNDS, seeded
from tests.domains.storms import at_once, codes, deadlocks
from tests.support import NOON, Admin, SomeClinic, found_clinic

HOUR, TICK = timedelta(hours=1), timedelta(microseconds=1)


async def test_one_of_many_bookers_of_one_slot_wins_and_nobody_waits_for_each_other(
    urls: Urls, admin: Admin
) -> None:
    dice = seeded()
    before = await deadlocks(admin)
    async with hall_of(urls, BOOKERS) as hall:
        for number in range(1, ROUNDS + 1):
            wants = hall.wants_of_one_slot(dice, NOON + number * HOUR, BOOKERS)
            winners, refusals = await hall.storm(wants)
            assert len(winners) == 1, number
            assert refusals == ["SLOT_TAKEN"] * (BOOKERS - 1), number
            assert await claims_of(admin, hall.clinic) == 2 * number
    assert await deadlocks(admin) == before


async def test_bookers_of_a_whole_team_in_any_order_never_wait_for_each_other(
    urls: Urls, admin: Admin
) -> None:
    dice = seeded()
    before = await deadlocks(admin)
    async with hall_of(urls, BOOKERS) as hall:
        for number in range(1, ROUNDS + 1):
            wants = hall.wants_of_one_team(dice, NOON + number * HOUR, BOOKERS)
            winners, refusals = await hall.storm(wants)
            assert len(winners) == 1, number
            assert set(refusals) == {"SLOT_TAKEN"}, number
            assert await claims_of(admin, hall.clinic) == 14 * number
    assert await deadlocks(admin) == before


async def test_of_bookers_who_conflict_by_doctor_or_by_patient_one_wins_each_conflict(
    urls: Urls, admin: Admin
) -> None:
    dice = seeded()
    before = await deadlocks(admin)
    booked = 0
    async with hall_of(urls, BOOKERS) as hall:
        for number in range(1, ROUNDS + 1):
            wants = hall.wants_of_many_slots(dice, NOON + number * 3 * HOUR, BOOKERS)
            winners, refusals = await hall.storm(wants)
            assert set(refusals) == {"SLOT_TAKEN"}
            for each in winners:
                assert not any(each.conflicts_with(other) for other in winners if other != each)
            for loser in set(wants) - set(winners):
                assert any(loser.conflicts_with(winner) for winner in winners)
            booked += len(winners)
            assert await claims_of(admin, hall.clinic) == 2 * booked
    assert booked > 2 * ROUNDS
    assert await deadlocks(admin) == before


# The same storms, with a sin in them


@sql("""
    insert into claim (booking_id, patient_id, number, span)
    select $1, $2, number, slot_span(number, $3, $4) from resource
    where resource_id = any($5) and not exists (
        select from claim as other where other.span && slot_span(resource.number, $3, $4))
    returning number
""")
async def look_and_claim(  # type: ignore[empty-body] # `@sql` gives it
    unit: Unit,
    booking_id: UUID,
    patient_id: UUID,
    starts_at: datetime,
    ends_at: datetime,
    resource_ids: list[UUID],
) -> list[int]:
    """Look whether the time is free, and take it: a hope, not a constraint."""


async def test_look_before_the_claim_would_let_two_win(
    own_urls: Urls, own_admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    await own_admin.execute("alter table claim drop constraint no_overlap")
    monkeypatch.setattr(store, "take_claims", look_and_claim)
    dice = seeded()
    most = 0
    async with hall_of(own_urls, BOOKERS) as hall:
        for number in range(1, 6):
            wants = hall.wants_of_one_slot(dice, NOON + number * HOUR, BOOKERS)
            winners, _ = await hall.storm(wants)
            most = max(most, len(winners))
    assert most > 1


async def test_rows_held_in_opposite_order_would_move_the_count_of_deadlocks(
    own_urls: Urls, own_admin: Admin
) -> None:
    assert await deadlocks(own_admin) == 0
    name = await own_admin.fetchval("select current_database()")
    await own_admin.execute(f"alter database {name} set deadlock_timeout = '50ms'")
    one, other = asyncio.Event(), asyncio.Event()
    async with hall_of(own_urls, 2) as hall:
        first, second = hall.patients
        answers = await at_once(
            [hold(hall, (first, second), one, other), hold(hall, (second, first), other, one)]
        )
    assert codes(answers) == ["DEPENDENCY_UNAVAILABLE"]
    assert await deadlocks(own_admin) == 1


# One booker after another


async def test_visit_may_start_in_the_minute_another_ends_and_not_before(
    clinic: SomeClinic,
) -> None:
    await clinic.book(await clinic.patient(), NOON)
    for minutes in (-14, -1, 0, 1, 14):
        with pytest.raises(scheduling.SlotTaken):
            await clinic.book(await clinic.patient(), NOON + minutes * MINUTE)
    with pytest.raises(scheduling.SlotTaken):
        await clinic.book(await clinic.patient(), NOON - MINUTE, minutes=17)
    with pytest.raises(scheduling.SlotTaken):
        await clinic.book(await clinic.patient(), NOON + MINUTE, minutes=1)
    for minutes in (-15, 15):
        await clinic.book(await clinic.patient(), NOON + minutes * MINUTE)


async def test_visit_takes_every_minute_that_it_touches(clinic: SomeClinic) -> None:
    await clinic.book(await clinic.patient(), NOON + timedelta(seconds=59), minutes=1)
    for minute in (0, 1):
        with pytest.raises(scheduling.SlotTaken):
            await clinic.book(await clinic.patient(), NOON + minute * MINUTE, minutes=1)
    for minute in (-1, 2):
        await clinic.book(await clinic.patient(), NOON + minute * MINUTE, minutes=1)


async def test_patient_cannot_be_in_two_places_at_once(clinic: SomeClinic, admin: Admin) -> None:
    patient, doctor = await clinic.patient(), await clinic.practitioner()
    await clinic.book(patient, NOON)
    with pytest.raises(scheduling.SlotTaken):
        await clinic.book(patient, NOON + 10 * MINUTE, practitioner_id=doctor)
    assert await claims_of(admin, clinic) == 2
    await clinic.book(await clinic.patient(), NOON + 10 * MINUTE, practitioner_id=doctor)
    await clinic.book(patient, NOON + 25 * MINUTE, practitioner_id=doctor)


async def test_doctors_of_two_clinics_are_not_in_each_other_s_way(
    clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    someone, patient = await clinic.signed_in_patient()
    await clinic.book(patient, NOON)
    await other.book(await other.patient(someone), NOON)


async def test_refused_booking_leaves_nothing(clinic: SomeClinic, admin: Admin) -> None:
    await clinic.book(await clinic.patient(), NOON)
    late = await clinic.patient()
    with pytest.raises(scheduling.SlotTaken):
        await clinic.book(late, NOON)
    for table in ("booking", "appointment", "appointment_history", "claim"):
        left = await admin.fetchval(
            f"select count(*) from {table} where patient_id = $1",  # noqa: S608
            late.patient_id,
        )
        assert left == 0, table


# The horizon


@pytest.mark.parametrize("beyond", [-BACK - TICK, AHEAD + TICK, timedelta(days=3000)])
async def test_start_beyond_the_horizon_is_refused_with_its_bounds(
    clinic: SomeClinic, beyond: timedelta
) -> None:
    patient = await clinic.patient()
    with pytest.raises(scheduling.OutsideHorizon) as refusal:
        await clinic.book(patient, NOON + beyond)
    assert refusal.value.facts == {
        "earliest_at": (NOON - timedelta(days=1)).isoformat(),
        "latest_at": (NOON + timedelta(days=366)).isoformat(),
    }


@pytest.mark.parametrize("within", [-BACK, AHEAD])
async def test_start_at_either_end_of_the_horizon_can_be_booked(
    clinic: SomeClinic, within: timedelta
) -> None:
    booked = await clinic.book(await clinic.patient(), NOON + within)
    assert booked.starts_at == NOON + within


@pytest.mark.parametrize("day", [1, 28, 29, 30, 31])
@pytest.mark.parametrize("month", [1, 2, 3, 12])
def test_horizon_stays_within_the_partitions(month: int, day: int) -> None:
    """Partitions reach from the month of two days ago to the month of thirteen months ahead."""
    try:
        now = NOON.replace(year=2028, month=month, day=day)
    except ValueError:
        now = NOON.replace(year=2028, month=month, day=29)
    first = (now - timedelta(days=2)).replace(day=1, hour=0)
    months = now.year * 12 + now.month - 1 + 13
    last = now.replace(year=months // 12, month=months % 12 + 1, day=1, hour=0)
    for at in (now - BACK, now + AHEAD):
        ensure_within_horizon(at, now)
        assert first <= at < last + timedelta(days=28)
