"""Workers: what fails is tried again, then held; what a dead one left is put back."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import ClassVar
from uuid import UUID

import pytest
from pgqueuer.adapters.persistence.queries import Queries
from typing_extensions import override

from cliniq.app import House
from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import Conflict
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import jobs_store, jobs_worker
from cliniq.platform.db import Unit, open_unit
from cliniq.platform.events import Event, tell
from cliniq.platform.jobs import (
    Duty,
    Errand,
    Job,
    Registry,
    Tick,
    Trip,
)
from cliniq.platform.jobs_engine import _Driver
from cliniq.platform.lanes import Lane
from tests.platform.tasks import (
    Diary,
    Number,
    failures,
    is_empty,
    states,
    until,
    until_true,
    worker_of,
    writer,
)
from tests.support import NOON, Admin, SomeClinic


class Happened(Event, frozen=True):
    """Something happened."""

    kind: ClassVar[str] = "test.happened_once.v1"
    subject_type: ClassVar[str] = "test"
    test_id: UUID

    @property
    @override
    def subject_id(self) -> UUID:
        return self.test_id


# --- failing --------------------------------------------------------------------------------------


async def test_job_that_fails_is_tried_again_then_held_and_its_neighbours_go_on(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary, impatient: None
) -> None:
    async def do(unit: Unit, what: Number) -> None:
        diary.write(what.number)
        if what.number == 0:
            raise ValueError("Mrs. Canary, +43 660 1234567")

    job = Job("test.poison", Lane.REMINDERS, Number, do)
    async with clinic.unit() as unit:
        for number in range(10):
            await job.later(unit, Number(number))
    async with worker_of(house, job):
        await diary.until(12)
        await failures(admin, 1)
    assert sorted(diary.lines, key=str) == [0, 0, 0, *range(1, 10)]
    (row,) = await admin.fetch("select * from pgqueuer")
    assert (row["payload"], row["attempts"]) == (b'{"number": 0}', 3)
    told = [row["traceback"] for row in await admin.fetch("select traceback from pgqueuer_log")]
    assert len(told) == 3
    assert all("builtins.ValueError" in each and "test_workers.py" in each for each in told)
    assert not any("Canary" in each for each in told)


async def test_job_past_its_deadline_is_cancelled_and_counts_as_failed(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary, hasty: None
) -> None:
    async def hang(unit: Unit, what: Number) -> None:
        diary.write("begun")
        await asyncio.sleep(3600)

    async def hang_outside(trip: Trip, what: Number) -> None:
        diary.write("begun")
        await asyncio.sleep(3600)

    jobs = (
        Job("test.hang", Lane.REMINDERS, Number, hang),
        Errand("test.hang_outside", Lane.REMINDERS, Number, hang_outside),
    )
    async with clinic.unit() as unit:
        for job in jobs:
            await job.later(unit, Number(1))
    async with worker_of(house, *jobs):
        await failures(admin, 2)
    told = [row[0] for row in await admin.fetch("select traceback::text from pgqueuer_log")]
    assert len(told) == 6
    assert all("DeadlineMissed" in each for each in told)


async def test_job_that_cannot_be_read_is_held_at_once(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary
) -> None:
    job = writer(diary)
    async with clinic.unit() as unit:
        await job.later(unit, Number(1))
    await admin.execute('update pgqueuer set payload = \'{"number": "many"}\'')
    async with worker_of(house, job):
        await failures(admin, 1)
    assert diary.lines == []


async def test_held_job_is_replayed_with_all_its_tries(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary, impatient: None
) -> None:
    is_mended = False

    async def do(unit: Unit, what: Number) -> None:
        diary.write(what.number)
        if not is_mended:
            raise Conflict

    job = Job("test.mend", Lane.REMINDERS, Number, do)
    async with clinic.unit() as unit:
        await job.later(unit, Number(1))
    async with worker_of(house, job):
        await failures(admin, 1)
        await replay(house, clinic)
        await diary.until(6)
        await failures(admin, 1)
        is_mended = True
        await replay(house, clinic)
        await until_true(lambda: is_empty(admin))
    assert diary.lines == [1] * 7


async def replay(house: House, clinic: SomeClinic) -> list[int]:
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        return await jobs_store.replay(unit, None, None, clinic.clinic_id)


async def test_of_held_jobs_with_one_key_only_the_latest_is_replayed_and_none_beside_a_live_one(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary
) -> None:
    job = writer(diary)
    for number in range(3):
        async with clinic.unit() as unit:
            await job.later(unit, Number(number), key="same")
        await admin.execute("update pgqueuer set status = 'failed'")
    first, second, third = [row["id"] for row in await admin.fetch("table pgqueuer order by id")]
    assert await replay(house, clinic) == [third]
    assert await replay(house, clinic) == []  # its double waits
    async with worker_of(house, job):
        await diary.until(1)
    assert await replay(house, clinic) == [second]
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        assert await jobs_store.drop(unit, None, Lane.REMINDERS, None, waiting=False) == [first]
        assert await jobs_store.drop(unit, [second], None, None, waiting=True) == [second]


# --- workers that die and workers that stop -------------------------------------------------------


async def test_job_of_a_dead_worker_is_put_back_and_held_once_it_has_killed_too_many(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary
) -> None:
    job, database = writer(diary), house.entrance.database
    async with clinic.unit() as unit:
        await job.later(unit, Number(1))

    async def die() -> list[int]:
        async with open_unit(database, PlatformScope("test")) as unit:
            (taken,) = await jobs_store.take(unit, [Lane.REMINDERS], [9], [0], new_id())
        await admin.execute("update pgqueuer set heartbeat = now() - interval '7 seconds'")
        async with open_unit(database, PlatformScope("test")) as unit:
            assert await jobs_store.sweep(unit, 8, [Lane.REMINDERS], [2]) == []  # it may yet live
            swept = await jobs_store.sweep(unit, 6, [Lane.REMINDERS], [2])
            await jobs_store.rank(unit, [Lane.REMINDERS], 10)
        assert swept == [taken.id]
        return swept

    await die()
    assert await states(admin) == ["queued"]
    await die()
    assert await states(admin) == ["failed"]
    told = await admin.fetch("select status::text, traceback::text as told from pgqueuer_log")
    assert [row["status"] for row in told] == ["exception", "failed"]
    async with open_unit(database, PlatformScope("test")) as unit:
        await jobs_store.replay(unit, None, Lane.REMINDERS, None)
    async with worker_of(house, job):
        await diary.until(1)


async def test_job_that_runs_for_long_is_not_taken_for_dead(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[list[int]] = []
    beat = jobs_store.beat

    async def heard(unit: Unit, ids: list[int], worker: UUID) -> None:
        await beat(unit, ids, worker)
        beats.append(ids)

    monkeypatch.setattr(jobs_store, "beat", heard)

    async def do(unit: Unit, what: Number) -> None:
        diary.write("begun")
        await until(lambda: bool(beats))

    job = Job("test.long", Lane.IMPORTS, Number, do)
    async with clinic.unit() as unit:
        await job.later(unit, Number(1))
    async with worker_of(house, job):
        await until_true(lambda: is_empty(admin))
    assert diary.lines == ["begun"]


async def test_worker_that_stops_finishes_what_it_took_and_takes_no_more(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary
) -> None:
    go = asyncio.Event()

    async def do(unit: Unit, what: Number) -> None:
        diary.write("begun")
        await go.wait()
        diary.write("ended")

    job = Job("test.stop", Lane.REMINDERS, Number, do)
    async with clinic.unit() as unit:
        await job.later(unit, Number(1))
    async with worker_of(house, job):
        await diary.until(1)
        asyncio.get_running_loop().call_later(0.2, go.set)
    assert diary.lines == ["begun", "ended"]
    assert await states(admin) == []
    async with clinic.unit() as unit:
        await job.later(unit, Number(1))
    await asyncio.sleep(0.1)
    assert await states(admin) == ["queued"]


async def test_worker_that_may_not_wait_puts_back_what_it_took(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary
) -> None:
    async def do(unit: Unit, what: Number) -> None:
        diary.write("begun")
        await asyncio.sleep(3600)

    async def go(trip: Trip, what: Number) -> None:
        diary.write("begun")
        await asyncio.sleep(3600)

    jobs = (
        Job("test.slow", Lane.IMPORTS, Number, do),
        Errand("test.slow_errand", Lane.IMPORTS, Number, go),
    )
    async with clinic.unit() as unit:
        for job in jobs:
            await job.later(unit, Number(1))
    async with worker_of(house, *jobs, grace=0.1):
        await diary.until(2)
    rows = await admin.fetch("select status::text, attempts from pgqueuer")
    assert [tuple(row) for row in rows] == [("queued", 0)] * 2


async def test_worker_whose_connections_are_cut_does_everything_once(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary
) -> None:
    many = 300

    async def do(unit: Unit, what: Number) -> None:
        tell(unit, Happened(UUID(int=what.number)))
        await asyncio.sleep(0.002)
        diary.write(what.number)

    job = Job("test.cut", Lane.REMINDERS, Number, do)
    async with clinic.unit() as unit:
        for number in range(many):
            await job.later(unit, Number(number))
    async with worker_of(house, job):
        for cut in (1, 2, 3):
            await diary.until(cut * many // 4)
            await admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where usename = 'cliniq_app' and datname = current_database()"
            )
        await until_true(lambda: is_empty(admin))
    told = await admin.fetch(
        "select entity_id from audit where clinic_id = $1 and action = $2",
        clinic.clinic_id,
        Happened.kind,
    )
    assert sorted(row["entity_id"].int for row in told) == list(range(many))


# --- schedules ------------------------------------------------------------------------------------


async def test_schedule_promises_its_job_once_a_tick_however_many_workers_there_are(
    house: House, admin: Admin, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_worker, "TICK_SECONDS", 0.01)

    async def do(unit: Unit, tick: Tick) -> None:
        diary.write(tick.at)

    job = Job("test.tick", Lane.UPKEEP, Tick, do)
    registry = Registry([job], duties=[Duty("*/15 * * * *", job)])
    async with (
        worker_of(house, registry=registry),
        worker_of(house, registry=registry),
    ):
        await diary.until(1)
        await asyncio.sleep(0.3)
        assert diary.lines == [NOON]
        house_hands = NOON + timedelta(minutes=44)  # two ticks went by: the last one counts
        monkeypatch.setattr("tests.conftest.HANDS.wall", house_hands)
        await diary.until(2)
        await asyncio.sleep(0.3)
    assert diary.lines == [NOON, NOON + timedelta(minutes=30)]


# --- the engine -----------------------------------------------------------------------------------


async def test_pgqueuer_has_nothing_to_change_but_the_trigger_that_we_drop(
    house: House, admin: Admin
) -> None:
    plan = await Queries(_Driver(house.entrance.database)).plan_upgrade()
    assert [each for each in plan.statements if "changed" not in each] == []
    theirs = "tgrelid in (select oid from pg_class where relname ~ '^pgqueuer')"
    assert await admin.fetchval(f"select count(*) from pg_trigger where {theirs}") == 0  # noqa: S608


@pytest.fixture
async def _tidy(admin: Admin) -> AsyncIterator[None]:
    yield
    await admin.execute("alter table pgqueuer add column if not exists slot bigint")


@pytest.mark.usefixtures("_tidy")
async def test_schema_that_pgqueuer_would_change_is_found(house: House, admin: Admin) -> None:
    await admin.execute("alter table pgqueuer drop column slot")
    plan = await Queries(_Driver(house.entrance.database)).plan_upgrade()
    assert [each for each in plan.statements if "slot" in each] != []
