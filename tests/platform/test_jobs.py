"""Jobs: promised with their cause, done in its clinic's walls, tried again, held, never lost."""

import asyncio
from datetime import timedelta
from typing import ClassVar
from uuid import UUID

import msgspec
import pytest
from typing_extensions import override

from cliniq.app import House
from cliniq.domains.clinics import api as clinics
from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.permissions import Permission, Role
from cliniq.kernel.problem import Conflict
from cliniq.kernel.scope import GuestScope, PlatformScope, Scope, SelfScope, WorkScope
from cliniq.platform import jobs_store
from cliniq.platform.db import Unit, open_unit
from cliniq.platform.events import Event, Told, tell
from cliniq.platform.jobs import (
    Errand,
    Job,
    Registry,
    Trip,
    lane_depths,
    tell_progress,
    when,
)
from cliniq.platform.lanes import Lane
from tests.platform.tasks import (
    Diary,
    Number,
    is_empty,
    states,
    until_true,
    worker_of,
    writer,
)
from tests.support import NOON, Admin, SomeClinic, found_clinic, some_site

# --- promising ------------------------------------------------------------------------------------


async def test_promise_is_true_if_and_only_if_its_cause_commits(
    clinic: SomeClinic, admin: Admin, diary: Diary
) -> None:
    job = writer(diary)
    with pytest.raises(ZeroDivisionError):
        async with clinic.unit() as unit:
            await job.later(unit, Number(1))
            raise ZeroDivisionError
    assert await states(admin) == []
    async with clinic.unit() as unit:
        await job.later(unit, Number(2))
        assert await states(admin) == []
    assert await states(admin) == ["queued"]


async def test_promises_of_a_unit_are_one_statement(
    clinic: SomeClinic, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    written = jobs_store.promise

    async def promise(unit: Unit, jobs: str) -> int:
        said.append(jobs)
        return await written(unit, jobs)

    monkeypatch.setattr(jobs_store, "promise", promise)
    async with clinic.unit() as unit:
        for number in range(50):
            await writer(diary).later(unit, Number(number))
    assert [len(msgspec.json.decode(each)) for each in said] == [50]


async def test_promise_with_a_key_is_made_once_while_it_waits_and_again_when_it_is_done(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary
) -> None:
    job, other = writer(diary), await found_clinic(house)

    async def promise(of: SomeClinic) -> None:
        async with of.unit() as unit:
            for _ in range(2):
                await job.later(unit, Number(1), key="visit")

    await promise(clinic)
    await asyncio.gather(*(promise(clinic) for _ in range(5)))
    assert await states(admin) == ["queued"]
    await promise(other)  # whose keys are its own
    assert await states(admin) == ["queued", "queued"]
    async with worker_of(house, job):
        await diary.until(2)
        await until_true(lambda: is_empty(admin))
        await promise(clinic)
        await diary.until(3)


async def test_clinics_promise_is_its_own_whatever_it_says(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary
) -> None:
    job, other = writer(diary), await found_clinic(house)
    async with clinic.unit() as unit:
        await job.later(unit, Number(1), clinic_id=other.clinic_id)
        forged = [{"lane": "email", "job": "x", "key": "k", "clinic": str(other.clinic_id)}]
        await jobs_store.promise(unit, msgspec.json.encode(forged).decode())
    named = await admin.fetch("select headers ->> 'clinic' from pgqueuer")
    assert [row[0] for row in named] == [str(clinic.clinic_id)] * 2


@pytest.mark.parametrize("statement", ["select 1 from pgqueuer", "delete from job_turn"])
async def test_nobody_in_a_clinic_reads_what_is_promised(
    clinic: SomeClinic, statement: str
) -> None:
    with pytest.raises(Exception, match="permission denied"):
        async with clinic.unit() as unit:
            await unit.connection.execute(statement)


@pytest.mark.parametrize("scope", [GuestScope(ClinicId(new_id())), SelfScope(new_id())])  # type: ignore[arg-type]
async def test_unit_without_an_acting_clinic_promises_nothing(
    house: House, diary: Diary, scope: Scope
) -> None:
    seat = "set local cliniq.clinic_id = ''"
    with pytest.raises((TypeError, Exception)):
        async with open_unit(house.entrance.database, scope, seat) as unit:
            await writer(diary).later(unit, Number(1))


# --- working --------------------------------------------------------------------------------------


async def test_job_works_within_the_walls_of_its_clinic(
    house: House, clinic: SomeClinic, diary: Diary
) -> None:
    other = await found_clinic(house)

    async def look(unit: Unit, _what: Number) -> None:
        sites = {site.site_id for site in await clinics.list_sites(unit)}
        diary.write((unit.clinic_id, unit.actor_id, sites))

    job = Job("test.look", Lane.REMINDERS, Number, look)
    for each in (clinic, other):
        async with each.unit() as unit:
            await job.later(unit, Number(1))
    async with worker_of(house, job):
        await diary.until(2)
    assert sorted(diary.lines, key=str) == sorted(
        [(c.clinic_id, c.admin.person_id, {c.site.site_id}) for c in (clinic, other)], key=str
    )


async def test_job_of_the_installation_works_in_its_name(house: House, diary: Diary) -> None:
    job = writer(diary)
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        await job.later(unit, Number(1))
        await job.later(unit, Number(2), clinic_id=ClinicId(UUID(int=7)))
    async with worker_of(house, job):
        await diary.until(2)
    assert (1, PlatformScope("test.write")) in diary.lines
    assert (2, WorkScope(ClinicId(UUID(int=7)), "test.write", None)) in diary.lines


async def test_job_that_was_promised_for_later_waits_for_its_time(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary, impatient: None
) -> None:
    job = writer(diary)
    async with clinic.unit() as unit:
        await job.later(unit, Number(2), at=NOON + timedelta(days=1000))
        await job.later(unit, Number(1), at=NOON - timedelta(days=1000))
    async with worker_of(house, job):
        await diary.until(1)
        await admin.execute("update pgqueuer set execute_after = now() - interval '1 second'")
        await diary.until(2)
    scope = WorkScope(clinic.clinic_id, "test.write", clinic.admin.person_id)
    assert diary.lines == [(1, scope), (2, scope)]


async def test_what_a_job_does_and_its_end_are_one_transaction(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary
) -> None:
    """A worker that has lost its job to another leaves nothing of what it did."""

    async def stall(unit: Unit, _what: Number) -> None:
        await clinics.open_site(unit, some_site())
        await admin.execute("update pgqueuer set queue_manager_id = gen_random_uuid()")
        diary.write("stalled")

    job = Job("test.stall", Lane.REMINDERS, Number, stall)
    async with clinic.unit() as unit:
        await job.later(unit, Number(1))
    async with worker_of(house, job):
        await diary.until(1)
        await asyncio.sleep(0)
    assert await states(admin) == ["picked"]
    async with clinic.unit() as unit:
        assert len(await clinics.list_sites(unit)) == 1


async def test_errand_has_no_transaction_open_and_the_same_key_each_time(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary, impatient: None
) -> None:
    async def go(trip: Trip, what: Number) -> None:
        open_ = house.entrance.database.clinic
        diary.write(
            (trip.key, trip.attempt, trip.is_last, open_.get_size() - open_.get_idle_size())
        )
        async with trip.open() as unit:
            assert unit.clinic_id == clinic.clinic_id
        if trip.attempt < 3:
            raise Conflict

    errand = Errand("test.go", Lane.REMINDERS, Number, go)
    async with clinic.unit() as unit:
        await errand.later(unit, Number(1), key="once")
    async with worker_of(house, errand):
        await diary.until(3)
        await until_true(lambda: is_empty(admin))
    key = f"{clinic.clinic_id}:test.go:once"
    assert diary.lines == [(key, 1, False, 0), (key, 2, False, 0), (key, 3, True, 0)]


async def test_audit_of_what_a_job_did_names_the_job_and_for_whom(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary
) -> None:
    async def do(unit: Unit, what: Number) -> None:
        tell(unit, Happened(new_id(), what.number))
        diary.write(unit.request_id)

    job = Job("test.tell", Lane.REMINDERS, Number, do)
    async with clinic.unit() as unit:
        await job.later(unit, Number(1))
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        await job.later(unit, Number(2), clinic_id=clinic.clinic_id)
    async with worker_of(house, job):
        await diary.until(2)
    rows = await admin.fetch(
        "select actor_id, permission, request_id from audit"
        " where clinic_id = $1 and permission like 'job:%'",
        clinic.clinic_id,
    )
    assert {(row["actor_id"], row["permission"]) for row in rows} == {
        (clinic.admin.person_id, "job:test.tell"),
        (None, "job:test.tell"),
    }
    assert {row["request_id"] for row in rows} == set(diary.lines)


# --- in whose name --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("revoke", "is_done"),
    [
        ("select 1", True),
        ("delete from membership where person_id = $1", False),
        ("update membership set role = 'SUPPORT_STAFF' where person_id = $1", False),
        ("update account set status = 'disabled' where person_id = $1", False),
    ],
)
async def test_promise_of_somebody_dies_with_their_right(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary, revoke: str, is_done: bool
) -> None:
    async def do(unit: Unit, what: Number) -> None:
        diary.write(what.number)

    job = Job("test.seat", Lane.REMINDERS, Number, do, seat=Permission.QUEUE_MANAGE)
    someone = await clinic.member(Role.RECEPTIONIST)
    scope = WorkScope(clinic.clinic_id, "test", someone.person_id)
    async with open_unit(house.entrance.database, scope) as unit:
        await job.later(unit, Number(1))
    if "$1" in revoke:
        await admin.execute(revoke, someone.person_id)
    async with worker_of(house, job):
        await until_true(lambda: is_empty(admin))
    assert diary.lines == ([1] if is_done else [])


async def test_promise_that_needs_somebody_is_not_made_by_nobody(
    house: House, clinic: SomeClinic, diary: Diary
) -> None:
    job = Job(
        "test.seat", Lane.REMINDERS, Number, writer(diary).use_case, seat=Permission.QUEUE_MANAGE
    )
    with pytest.raises(TypeError, match="nobody"):
        async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
            await job.later(unit, Number(1), clinic_id=clinic.clinic_id)


# --- subscribers ----------------------------------------------------------------------------------


class Happened(Event, frozen=True):
    """Something happened."""

    kind: ClassVar[str] = "test.happened.v1"
    subject_type: ClassVar[str] = "test"
    test_id: UUID
    number: int

    @property
    @override
    def subject_id(self) -> UUID:
        return self.test_id


async def test_fact_promises_the_jobs_of_all_who_hear_of_it_once(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary
) -> None:
    def hearing(name: str) -> Job[Happened]:
        async def hear(unit: Unit, fact: Happened) -> None:
            diary.write((name, unit.clinic_id, unit.request_id, fact))

        return Job(name, Lane.REMINDERS, Happened, hear)

    one, other = hearing("test.one"), hearing("test.other")
    registry = Registry([one, other], [when(Happened, one), when(Happened, other)])
    fact = Happened(new_id(), 7)
    body = msgspec.json.encode(fact)
    told = [
        Told(9, clinic.clinic_id, Happened.kind, fact.test_id, "", 0, body, NOON, ""),
        Told(10, clinic.clinic_id, "test.nobody.v1", fact.test_id, "", 0, body, NOON, ""),
    ]
    for _ in range(2):
        async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
            await registry.forward(unit, told)
    assert await states(admin) == ["queued"] * 2
    async with worker_of(house, registry=registry):
        await diary.until(2)
    assert sorted(diary.lines, key=str) == [
        (name, clinic.clinic_id, f"event:9:{name}", fact) for name in ("test.one", "test.other")
    ]


# --- telling --------------------------------------------------------------------------------------


async def test_progress_is_seen_while_the_job_has_not_committed(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary
) -> None:
    seen: list[tuple[object, ...]] = []

    async def do(unit: Unit, what: Number) -> None:
        for done in (1, 5):
            await tell_progress(unit, done, 10, "rows")
            row = await admin.fetchrow(
                "select done, total, note from job_progress where key = $1", unit.request_id
            )
            assert row is not None
            seen.append(tuple(row))
        diary.write("done")

    async def go(trip: Trip, what: Number) -> None:
        await trip.progress(10, 10)
        seen.append(
            (await admin.fetchval("select done from job_progress where key = $1", trip.key),)
        )
        diary.write("done")

    jobs = (
        Job("test.far", Lane.IMPORTS, Number, do),
        Errand("test.far_errand", Lane.IMPORTS, Number, go),
    )
    async with clinic.unit() as unit:
        for job in jobs:
            await job.later(unit, Number(1))
    async with worker_of(house, *jobs):
        await diary.until(2)
    assert sorted(seen, key=str) == [(1, 10, "rows"), (10,), (5, 10, "rows")]


async def test_depths_say_what_waits_runs_and_is_held(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary
) -> None:
    job = writer(diary, Lane.STORAGE)
    async with clinic.unit() as unit:
        for number in range(4):
            await job.later(unit, Number(number), at=NOON.replace(year=2100) if number else None)
    await admin.execute(
        "update pgqueuer set status = 'failed' where payload = '{\"number\": 2}'::text::bytea;"
        "update pgqueuer set status = 'picked' where payload = '{\"number\": 3}'::text::bytea"
    )
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        (depth,) = await lane_depths(unit)
    assert (depth.lane, depth.waiting, depth.later, depth.running, depth.held) == (
        "storage",
        1,
        1,
        1,
        1,
    )
