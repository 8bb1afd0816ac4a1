"""Turns: a clinic that waits with thousands does not stand before one that comes with one."""

from cliniq.app import House
from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.scope import PlatformScope, WorkScope
from cliniq.platform import jobs_store
from cliniq.platform.db import Unit, open_unit
from cliniq.platform.jobs import Job
from cliniq.platform.jobs_store import Taken
from cliniq.platform.jobs_worker import MOST_AT_ONCE
from cliniq.platform.lanes import Lane
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.platform.tasks import Number
from tests.support import Admin

MANY = 10_000


async def do_nothing(_unit: Unit, _number: Number) -> None: ...


def job_in(lane: Lane) -> Job[Number]:
    return Job(f"turns.{lane}", lane, Number, do_nothing)


async def promise(house: House, job: Job[Number], clinic: ClinicId, numbers: range) -> None:
    async with open_unit(house.entrance.database, WorkScope(clinic, "test")) as unit:
        for number in numbers:
            await job.later(unit, Number(number))


async def take(house: House, lane: Lane, room: int) -> list[Taken]:
    """Take jobs as a worker does, no more at once than one does, and end them."""
    taken: list[Taken] = []
    while got := await take_some(house, lane, min(MOST_AT_ONCE, room - len(taken))):
        taken += got
    return taken


async def take_some(house: House, lane: Lane, room: int) -> list[Taken]:
    if not room:
        return []
    worker = new_id()
    database = house.entrance.database
    async with open_unit(database, PlatformScope("test")) as unit:
        taken = await jobs_store.take(unit, [lane], [room], [0], worker)
    async with open_unit(database, PlatformScope("test")) as unit:
        ids = [each.id for each in taken]
        few = len(ids)
        await jobs_store.settle(unit, ids, ["done"] * few, [0] * few, [""] * few, worker)
    return taken


async def order(house: House, lane: Lane, few: int) -> list[ClinicId | None]:
    return [each.clinic for each in await take(house, lane, few)]


async def test_clinic_with_one_job_goes_before_the_ten_thousand_of_another(house: House) -> None:
    job = job_in(Lane.DUNNING)
    busy, calm = ClinicId(new_id()), ClinicId(new_id())
    await promise(house, job, busy, range(MANY))
    assert await order(house, Lane.DUNNING, 50) == [busy] * 50
    await promise(house, job, calm, range(1))
    assert calm in (await order(house, Lane.DUNNING, 2))
    left = await take(house, Lane.DUNNING, MANY)
    assert [each.clinic for each in left] == [busy] * (MANY - 51)
    assert [each.payload for each in left] == [
        b'{"number": %d}' % number for number in range(51, MANY)
    ]


async def test_clinics_that_wait_with_many_take_turns(house: House) -> None:
    job = job_in(Lane.EXPORTS)
    one, other = ClinicId(new_id()), ClinicId(new_id())
    await promise(house, job, one, range(100))
    await promise(house, job, other, range(100))
    for _ in range(5):
        assert sorted(await order(house, Lane.EXPORTS, 20)) == sorted([one, other] * 10)  # type: ignore[type-var]
    assert len(await take(house, Lane.EXPORTS, 200)) == 100


async def test_clinic_that_had_many_yesterday_is_not_behind_today(house: House) -> None:
    job = job_in(Lane.IMPORTS)
    one, other = ClinicId(new_id()), ClinicId(new_id())
    await promise(house, job, one, range(1000))
    assert len(await take(house, Lane.IMPORTS, 1000)) == 1000
    await promise(house, job, other, range(1000))
    await promise(house, job, one, range(1))
    assert one in (await order(house, Lane.IMPORTS, 2))
    await take(house, Lane.IMPORTS, 1000)


async def test_jobs_whose_time_comes_together_take_turns_from_then_on(
    house: House, admin: Admin
) -> None:
    job = job_in(Lane.INVOICES)
    busy, calm = ClinicId(new_id()), ClinicId(new_id())
    async with open_unit(house.entrance.database, WorkScope(busy, "test")) as unit:
        for number in range(500):
            await job.later(unit, Number(number), at=unit.wall.replace(year=2100))
    assert await take(house, Lane.INVOICES, 10) == []
    await admin.execute(
        "update pgqueuer set execute_after = now() where entrypoint = $1", Lane.INVOICES
    )
    assert await take(house, Lane.INVOICES, 10) == []  # they have no turn yet
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        assert await jobs_store.rank(unit, [Lane.INVOICES], 300) == [Lane.INVOICES]
        assert await jobs_store.rank(unit, [Lane.INVOICES], 300) == [Lane.INVOICES]
        assert await jobs_store.rank(unit, [Lane.INVOICES], 300) == []
    await promise(house, job, calm, range(1))
    assert calm in (await order(house, Lane.INVOICES, 2))
    assert len(await take(house, Lane.INVOICES, 1000)) == 499


async def test_turns_are_counted_anew_where_nobody_waits_and_nowhere_else(
    own_urls: Urls, own_admin: Admin
) -> None:
    idle, busy = job_in(Lane.WAITLIST), job_in(Lane.FOLLOWUPS)
    clinic = ClinicId(new_id())
    async with house_of(own_urls) as house:
        for job in (idle, busy):
            await promise(house, job, clinic, range(10))
        await take(house, Lane.WAITLIST, 100)
        await take(house, Lane.FOLLOWUPS, 9)
        async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
            assert await jobs_store.wind_back(unit) == 1
    left = await own_admin.fetch("select lane, turn from job_turn")
    assert [tuple(row) for row in left] == [(Lane.FOLLOWUPS, 10)]


async def test_lane_with_a_rate_is_taken_from_no_faster_by_any_number_of_workers(
    house: House, admin: Admin
) -> None:
    rate = 5
    await promise(house, job_in(Lane.SMS), ClinicId(new_id()), range(20))
    database = house.entrance.database
    async with open_unit(database, PlatformScope("test")) as unit:
        await jobs_store.pace(unit, [Lane.SMS])
    got = 0
    for _ in range(3):
        async with open_unit(database, PlatformScope("test")) as unit:
            got += len(await jobs_store.take(unit, [Lane.SMS], [20], [rate], new_id()))
    assert rate <= got < 3 * rate
    # As if a second had passed: as many again, and no more.
    await admin.execute("update job_pace set spent_until = now() - interval '1 second'")
    async with open_unit(database, PlatformScope("test")) as unit:
        assert len(await jobs_store.take(unit, [Lane.SMS], [20], [rate], new_id())) == rate
    await admin.execute("delete from pgqueuer where entrypoint = $1", Lane.SMS)
