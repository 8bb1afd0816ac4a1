"""Visits that come from elsewhere: many at once, as if one after the other, with their past."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from cliniq.app import House
from cliniq.domains.appointments import api as appointments
from cliniq.domains.appointments.rules import IMPORTABLE
from cliniq.domains.scheduling import api as scheduling
from cliniq.kernel.ids import new_id
from cliniq.kernel.scope import WorkScope
from cliniq.platform.db import open_unit
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.domains.sizes import seeded
from tests.domains.storms import deadlocks
from tests.support import NOON, Admin, SomeClinic, found_clinic

S = appointments.AppointmentStatus
MINUTE, QUARTER, DAY = timedelta(minutes=1), timedelta(minutes=15), timedelta(days=1)
BOOKED_AT = NOON - DAY
TABLES = ("booking", "claim", "appointment", "appointment_history", "appointment_reference")


@dataclass
class Scene:
    """A clinic with patients and doctors, and visits of theirs from elsewhere."""

    clinic: SomeClinic
    patients: list[UUID]
    doctors: list[UUID]

    def visit(
        self,
        starts_at: datetime = NOON,
        *,
        patient: int = 0,
        doctor: int = 0,
        minutes: int = 15,
        **changes: Any,
    ) -> appointments.Imported:
        made = appointments.Imported(
            self.patients[patient],
            self.doctors[doctor],
            self.clinic.site.site_id,
            "consultation",
            starts_at,
            starts_at + minutes * MINUTE,
            S.BOOKED,
            BOOKED_AT,
        )
        return replace(made, **changes)

    async def bring(self, *visits: appointments.Imported) -> list[appointments.Recorded]:
        async with self.clinic.unit() as unit:
            return await appointments.book_all(unit, visits)

    async def left(self, admin: Admin) -> dict[str, int]:
        return {
            table: await admin.fetchval(
                f"select count(*) from {table} where clinic_id = $1",  # noqa: S608
                self.clinic.clinic_id,
            )
            for table in TABLES
        }


async def set_scene(house: House, patients: int = 4, doctors: int = 2) -> Scene:
    clinic = await found_clinic(house)
    people = [(await clinic.patient()).patient_id for _ in range(patients)]
    others = [await clinic.practitioner() for _ in range(doctors - 1)]
    return Scene(clinic, people, [clinic.practitioner_id, *others])


@pytest.fixture
async def scene(house: House, hands: object) -> Scene:
    return await set_scene(house)


def codes(recorded: Sequence[appointments.Recorded]) -> list[str]:
    return [each.refusal or ("known" if each.known else "booked") for each in recorded]


# Refused


async def test_visits_that_cannot_be_are_refused_each_alone_and_leave_nothing(
    scene: Scene, house: House, admin: Admin
) -> None:
    other = await set_scene(house)
    taken = scene.visit(reference="taken")
    wrong = [
        (replace(taken, patient_id=new_id()), "PATIENT_NOT_FOUND"),
        (replace(taken, patient_id=other.patients[0]), "PATIENT_NOT_FOUND"),
        (replace(taken, practitioner_id=other.doctors[0]), "PRACTITIONER_NOT_FOUND"),
        (replace(taken, site_id=other.clinic.site.site_id), "SITE_NOT_FOUND"),
        (replace(taken, ends_at=taken.starts_at), "REQUEST_INVALID"),
        (replace(taken, ends_at=taken.starts_at - QUARTER), "REQUEST_INVALID"),
        (replace(taken, ends_at=taken.starts_at + DAY + MINUTE), "REQUEST_INVALID"),
        (replace(taken, status=S.CHECKED_IN), "REQUEST_INVALID"),
        (replace(taken, status=S.PROPOSED), "REQUEST_INVALID"),
        (scene.visit(datetime(1999, 5, 5, 12, tzinfo=UTC)), "OUTSIDE_HORIZON"),
        (scene.visit(NOON + 3000 * DAY), "OUTSIDE_HORIZON"),
        (replace(taken, booked_at=datetime(1999, 5, 5, 12, tzinfo=UTC)), "OUTSIDE_HORIZON"),
        (scene.visit(NOON + 5 * MINUTE), "SLOT_TAKEN"),
    ]
    named = [replace(each, reference=f"r{number}") for number, (each, _) in enumerate(wrong)]
    recorded = await scene.bring(taken, *named)
    assert codes(recorded) == ["booked", *(code for _, code in wrong)]
    assert [each.appointment_id is None for each in recorded] == [False] + [True] * len(wrong)
    assert await scene.left(admin) == {
        "booking": 1,
        "claim": 2,
        "appointment": 1,
        "appointment_history": 1,
        "appointment_reference": 1,
    }


async def test_more_visits_than_are_taken_at_once_are_refused(scene: Scene, admin: Admin) -> None:
    with pytest.raises(ValueError, match="5000"):
        await scene.bring(*[scene.visit()] * (appointments.AT_ONCE + 1))
    assert set((await scene.left(admin)).values()) == {0}


async def test_import_opens_no_day_to_those_who_book(scene: Scene) -> None:
    await appointments.open_for(
        scene.clinic.house.entrance.database, (NOON - 90 * DAY).date(), NOON.date()
    )
    past = scene.visit(NOON - 60 * DAY)
    assert codes(await scene.bring(replace(past, booked_at=past.starts_at))) == ["booked"]
    async with scene.clinic.unit() as unit:
        with pytest.raises(scheduling.OutsideHorizon):
            await appointments.book(
                unit,
                appointments.Wish(
                    past.patient_id,
                    past.practitioner_id,
                    past.site_id,
                    "consultation",
                    past.starts_at + QUARTER,
                    past.ends_at + QUARTER,
                ),
            )


# Written


PASTS = [
    (S.BOOKED, NOON - 60 * MINUTE, 2, ["booked"], [BOOKED_AT]),
    (S.CONFIRMED, NOON + QUARTER, 2, ["booked", "confirmed"], [BOOKED_AT, BOOKED_AT]),
    (S.COMPLETED, NOON - 60 * MINUTE, 2, ["booked", "completed"], [BOOKED_AT, NOON - 45 * MINUTE]),
    (S.COMPLETED, NOON - MINUTE, 2, ["booked", "completed"], [BOOKED_AT, NOON]),
    (S.NO_SHOW, NOON - 60 * MINUTE, 0, ["booked", "no_show"], [BOOKED_AT, NOON - 60 * MINUTE]),
    (S.CANCELLED, NOON - 60 * MINUTE, 0, ["booked", "cancelled"], [BOOKED_AT, NOON - 60 * MINUTE]),
    (S.CANCELLED, NOON + 60 * MINUTE, 0, ["booked", "cancelled"], [BOOKED_AT, NOON]),
    (S.NO_SHOW, BOOKED_AT - QUARTER, 0, ["booked", "no_show"], [BOOKED_AT, BOOKED_AT]),
]


@pytest.mark.parametrize("past", PASTS)
async def test_visit_is_written_with_what_became_of_it(
    scene: Scene, admin: Admin, past: tuple[S, datetime, int, list[str], list[datetime]]
) -> None:
    status, starts_at, claims, states, times = past
    visit = scene.visit(starts_at, status=status)
    (made,) = await scene.bring(visit)
    assert made.appointment_id
    async with scene.clinic.unit() as unit:
        found = await appointments.get_appointment(unit, made.appointment_id)
    assert found == appointments.Appointment(
        made.appointment_id,
        visit.patient_id,
        visit.practitioner_id,
        visit.site_id,
        "consultation",
        starts_at,
        starts_at + QUARTER,
        status,
        len(states),
    )
    steps = await admin.fetch(
        "select to_status, changed_at, from_status, version, actor_id from appointment_history"
        " where appointment_id = $1 order by version",
        made.appointment_id,
    )
    assert [each["to_status"] for each in steps] == states
    assert [each["changed_at"] for each in steps] == times
    assert [each["from_status"] for each in steps] == [None, "booked"][: len(states)]
    assert {each["actor_id"] for each in steps} == {scene.clinic.admin.person_id}
    assert (await scene.left(admin))["claim"] == claims
    told = await admin.fetch(
        "select body::jsonb ->> 'to_status' as state, body::jsonb ->> 'from_status' as before"
        " from outbox where subject_id = $1",
        made.appointment_id,
    )
    assert [tuple(each) for each in told] == [(status, None)]


def test_every_state_that_can_be_imported_is_tried() -> None:
    assert {status for status, *_ in PASTS} == IMPORTABLE


async def test_operator_brings_visits_on_nobody_s_behalf(
    scene: Scene, house: House, admin: Admin
) -> None:
    scope = WorkScope(scene.clinic.clinic_id, "import")
    async with open_unit(house.entrance.database, scope) as unit:
        (made,) = await appointments.book_all(unit, [scene.visit()])
    actor = "select actor_id from appointment_history where appointment_id = $1"
    assert await admin.fetchval(actor, made.appointment_id) is None


async def test_months_are_opened_once_and_as_far_as_the_horizon(
    own_urls: Urls, own_admin: Admin, hands: object
) -> None:
    start = datetime(2015, 11, 10, 12, tzinfo=UTC)
    async with house_of(own_urls) as house:
        scene = await set_scene(house, 1, 1)
        visit = scene.visit(start, status=S.COMPLETED, booked_at=start - 20 * DAY)
        assert codes(await scene.bring(visit)) == ["OUTSIDE_HORIZON"]
        database = house.entrance.database
        opened = await appointments.open_for(
            database, (start - 20 * DAY).date(), (start + 25 * DAY).date()
        )
        assert {"appointment_20151001", "appointment_history_20151201"} <= set(opened)
        assert not {"appointment_20150901", "appointment_history_20150901"} & set(opened)
        assert codes(await scene.bring(visit)) == ["booked"]
        again = await appointments.open_for(database, start.date(), (NOON + 9000 * DAY).date())
        assert not set(opened) & set(again)
        newest = await own_admin.fetchval(
            "select max(inhrelid::regclass::text) from pg_inherits"
            " where inhparent = 'appointment'::regclass"
        )
        assert newest <= f"appointment_{NOON + 800 * DAY:%Y%m}01"


# Recognised


async def test_second_reading_recognises_what_is_here(scene: Scene, admin: Admin) -> None:
    visits = [scene.visit(NOON + number * QUARTER, reference=f"v{number}") for number in range(3)]
    first = await scene.bring(*visits[:2])
    before = await scene.left(admin)
    moved = replace(visits[0], starts_at=NOON + DAY, ends_at=NOON + DAY + QUARTER)
    again = await scene.bring(moved, visits[1], replace(visits[0], patient_id=new_id()))
    assert codes(again) == ["known", "known", "known"]
    assert [each.appointment_id for each in again] == [
        first[0].appointment_id,
        first[1].appointment_id,
        first[0].appointment_id,
    ]
    assert await scene.left(admin) == before
    assert codes(await scene.bring(*visits)) == ["known", "known", "booked"]


async def test_reference_that_is_there_twice_has_one_answer(scene: Scene, admin: Admin) -> None:
    good, bad = scene.visit(reference="good"), scene.visit(NOON + 4000 * DAY, reference="bad")
    recorded = await scene.bring(good, bad, scene.visit(NOON + DAY, reference="good"), bad)
    assert codes(recorded) == ["booked", "OUTSIDE_HORIZON", "known", "OUTSIDE_HORIZON"]
    assert recorded[0].appointment_id == recorded[2].appointment_id
    assert (await scene.left(admin))["appointment"] == 1


async def test_refused_visit_may_come_again_by_its_name(scene: Scene) -> None:
    taken = await scene.clinic.book(await scene.clinic.patient(), NOON)
    visit = scene.visit(reference="late")
    assert codes(await scene.bring(visit)) == ["SLOT_TAKEN"]
    async with scene.clinic.unit() as unit:
        await appointments.cancel(unit, taken.appointment_id, "")
    assert codes(await scene.bring(visit)) == ["booked"]


async def test_references_of_two_clinics_are_strangers(scene: Scene, house: House) -> None:
    other = await set_scene(house)
    assert codes(await scene.bring(scene.visit(reference="v"))) == ["booked"]
    assert codes(await other.bring(other.visit(reference="v"))) == ["booked"]


# Conflicts


def crowded(scene: Scene, dice: random.Random, many: int) -> list[appointments.Imported]:
    """Visits of few patients with few doctors in few hours, some of which take no time."""
    return [
        scene.visit(
            NOON + dice.randrange(0, 360) * MINUTE,
            patient=dice.randrange(len(scene.patients)),
            doctor=dice.randrange(len(scene.doctors)),
            minutes=dice.choice([5, 15, 40]),
            status=dice.choice([S.BOOKED] * 6 + [S.CANCELLED]),
        )
        for _ in range(many)
    ]


async def test_batch_with_conflicts_equals_visits_that_come_one_by_one(urls: Urls) -> None:
    dice = seeded()
    retried = 0
    async with house_of(urls) as house:
        for _ in range(12):
            one, other = [await set_scene(house, 6, 4) for _ in range(2)]
            seed = dice.random()
            plans = [crowded(each, random.Random(seed), 90) for each in (one, other)]  # noqa: S311
            await one.bring(*plans[0][:10])
            await other.bring(*plans[1][:10])
            at_once = codes(await one.bring(*plans[0][10:]))
            singly = [code for each in plans[1][10:] for code in codes(await other.bring(each))]
            assert at_once == singly
            retried += at_once.count("SLOT_TAKEN")
    assert retried > 100


async def test_rivals_who_bring_the_same_visits_write_them_once(urls: Urls, admin: Admin) -> None:
    before = await deadlocks(admin)
    async with house_of(urls, size=8) as house:
        scene = await set_scene(house, 8, 2)
        visits = [
            scene.visit(NOON + number * QUARTER, patient=number % 8, reference=f"v{number}")
            for number in range(40)
        ]
        answers = await asyncio.gather(
            scene.bring(*visits), scene.bring(*reversed(visits)), scene.bring(*visits[::2])
        )
        assert (await scene.left(admin))["appointment"] == 40
    assert sum(codes(each).count("booked") for each in answers) == 40
    assert {code for each in answers for code in codes(each)} == {"booked", "known"}
    one, two, _ = answers
    assert [each.appointment_id for each in one] == [each.appointment_id for each in reversed(two)]
    assert await deadlocks(admin) == before
