"""The life of a visit: every step there is, every step there is not, and rivals for one."""

from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from cliniq.domains.appointments import api as appointments
from cliniq.domains.appointments.models import AppointmentStatus
from cliniq.domains.appointments.rules import FOLLOWS, MOVABLE, ensure_may_follow
from cliniq.kernel.problem import InvalidTransition, Problem
from tests.domains.storms import at_once, codes
from tests.support import NOON, Admin, SomeClinic

STATES = [
    "proposed",
    "booked",
    "confirmed",
    "checked_in",
    "in_progress",
    "completed",
    "cancelled",
    "no_show",
    "waitlisted",
    "entered_in_error",
]
STEPS = """
    proposed    booked cancelled entered_in_error
    waitlisted  booked cancelled entered_in_error
    booked      confirmed checked_in cancelled no_show entered_in_error
    confirmed   checked_in cancelled no_show entered_in_error
    checked_in  in_progress no_show
    in_progress completed
    completed   entered_in_error
    no_show     booked
"""
ALLOWED = {
    (words[0], then)
    for line in STEPS.strip().splitlines()
    for words in [line.split()]
    for then in words[1:]
}
HOUR = timedelta(hours=1)


def test_states_are_those_of_the_api() -> None:
    assert sorted(STATES) == sorted(AppointmentStatus)
    assert set(FOLLOWS) == set(AppointmentStatus)
    assert len(ALLOWED) == 20


@pytest.mark.parametrize(("now", "then"), list(product(STATES, STATES)))
def test_visit_takes_only_the_steps_that_its_life_has(now: str, then: str) -> None:
    before, after = AppointmentStatus(now), AppointmentStatus(then)
    if (now, then) in ALLOWED:
        ensure_may_follow(before, after)
        return
    with pytest.raises(InvalidTransition) as refusal:
        ensure_may_follow(before, after)
    allowed = sorted(last for first, last in ALLOWED if first == now)
    assert refusal.value.facts == {"from": now, "to": then, "allowed": allowed}


def test_visit_that_has_not_begun_may_be_moved_and_no_other() -> None:
    assert {"proposed", "waitlisted", "booked", "confirmed"} == MOVABLE


async def story(admin: Admin, visit: appointments.Appointment) -> list[tuple[Any, ...]]:
    rows = await admin.fetch(
        "select version, from_status, to_status, actor_id, changed_at, starts_at, reason"
        " from appointment_history where appointment_id = $1 order by version",
        visit.appointment_id,
    )
    return [tuple(row) for row in rows]


async def put_into(admin: Admin, visit: appointments.Appointment, status: str) -> None:
    await admin.execute(
        "update appointment set status = $1 where appointment_id = $2",
        status,
        visit.appointment_id,
    )


async def test_every_step_is_written_with_its_history_and_every_other_leaves_nothing(
    clinic: SomeClinic, admin: Admin
) -> None:
    visit = await clinic.book(await clinic.patient())
    version = 1
    actor = clinic.admin.person_id
    for now, then in product(STATES, STATES):
        await put_into(admin, visit, now)
        before = await story(admin, visit)
        try:
            async with clinic.unit() as unit:
                found = await appointments.get_appointment(unit, visit.appointment_id)
                after = await appointments.transition(
                    unit, found, AppointmentStatus(then), f"{now} to {then}"
                )
        except InvalidTransition:
            assert (now, then) not in ALLOWED
            assert await story(admin, visit) == before
            continue
        version += 1
        assert (now, then) in ALLOWED
        assert (after.status, after.version) == (then, version)
        step = (version, now, then, actor, NOON, NOON, f"{now} to {then}")
        assert await story(admin, visit) == [*before, step]
    assert version == 1 + len(ALLOWED)


async def test_of_two_rivals_one_takes_the_step_and_the_other_s_sight_is_stale(
    clinic: SomeClinic, admin: Admin
) -> None:
    visit = await clinic.book(await clinic.patient())
    steps = [AppointmentStatus.CONFIRMED, AppointmentStatus.CANCELLED, AppointmentStatus.NO_SHOW]

    async def step(to: AppointmentStatus) -> appointments.Appointment:
        async with clinic.unit() as unit:
            return await appointments.transition(unit, visit, to)

    answers = await at_once([step(each) for each in steps])
    (winner,) = [each for each in answers if not isinstance(each, Problem)]
    assert codes(answers) == ["STALE_VERSION"] * 2
    assert (winner.version, len(await story(admin, visit))) == (2, 2)


async def test_visit_read_before_a_rival_s_change_cannot_be_changed(clinic: SomeClinic) -> None:
    visit = await clinic.book(await clinic.patient())
    async with clinic.unit() as unit:
        await appointments.transition(unit, visit, AppointmentStatus.CONFIRMED)
    with pytest.raises(appointments.StaleVersion):
        async with clinic.unit() as unit:
            await appointments.transition(unit, visit, AppointmentStatus.CANCELLED)
    with pytest.raises(appointments.StaleVersion):
        async with clinic.unit() as unit:
            await appointments.reschedule(
                unit, visit.appointment_id, NOON + HOUR, None, seen_version=1, reason=""
            )


async def test_rivals_who_move_a_visit_into_another_month_leave_it_in_one_place(
    clinic: SomeClinic, admin: Admin
) -> None:
    """PostgreSQL cannot follow a row into another partition, so the second must not wait for it."""
    for number in range(5):
        visit = await clinic.book(await clinic.patient(), NOON + number * HOUR)
        far = [NOON + timedelta(days=days, hours=number) for days in (40, 80, 120)]

        async def move(
            to: Any, appointment_id: Any = visit.appointment_id
        ) -> appointments.Appointment:
            async with clinic.unit() as unit:
                return await appointments.reschedule(
                    unit, appointment_id, to, None, seen_version=1, reason=""
                )

        answers = await at_once([move(to) for to in far])
        (winner,) = [each for each in answers if not isinstance(each, Problem)]
        assert codes(answers) == ["STALE_VERSION"] * 2
        rows = await admin.fetch(
            "select a.starts_at, b.starts_at as booked_at from appointment as a"
            " join booking as b on b.booking_id = a.appointment_id where appointment_id = $1",
            visit.appointment_id,
        )
        assert [tuple(row) for row in rows] == [(winner.starts_at, winner.starts_at)]
        assert len(await story(admin, visit)) == 2
