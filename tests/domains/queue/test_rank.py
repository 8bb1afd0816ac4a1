"""Rank: where somebody stands is the sum of stretches, and equals a count of heads, always."""

import asyncio
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest

from cliniq.domains.queue import api as queue
from cliniq.domains.queue import store
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.domains.queue.lines import MINUTE, arrivals, line_up
from tests.domains.sizes import seeded
from tests.support import NOON, Admin, SomeClinic, found_clinic

HEADS = """
    select e.entry_id, count(a.entry_id) as ahead
    from queue_entry as e left join queue_entry as a on a.queue_id = e.queue_id
        and a.status = 'waiting'
        and (- a.priority, a.due_at, a.ticket) < (- e.priority, e.due_at, e.ticket)
    where e.queue_id = $1 and e.status = 'waiting' group by e.entry_id
"""
STRETCHES = """
    with stretch as (
        select *, lead((rank, due_at, ticket)) over (order by rank, due_at, ticket) as until
        from queue_stretch where queue_id = $1
    )
    select s.waiting, (
        select count(*) from queue_entry as e where e.queue_id = $1 and e.status = 'waiting'
            and (- e.priority, e.due_at, e.ticket) >= (s.rank, s.due_at, s.ticket)
            and (s.until is null or row(- e.priority, e.due_at, e.ticket) < s.until)
    ) as heads
    from stretch as s
"""


async def ensure_ranks_are_right(clinic: SomeClinic, admin: Admin, queue_id: UUID) -> list[int]:
    """Compare every rank with a count of heads; return how many wait in each stretch."""
    heads = {each["entry_id"]: each["ahead"] for each in await admin.fetch(HEADS, queue_id)}
    async with clinic.unit() as unit:
        ranks = {each: await store.count_ahead(unit, each) for each in heads}
    assert ranks == heads
    stretches = await admin.fetch(STRETCHES, queue_id)
    assert [each["waiting"] for each in stretches] == [each["heads"] for each in stretches]
    return [each["waiting"] for each in stretches]


async def wait_in_bulk(clinic: SomeClinic, admin: Admin, queue_id: UUID, count: int) -> None:
    """Let many wait behind each other, in one statement."""
    joining = await arrivals(clinic, admin, [NOON + each * MINUTE for each in range(count)])
    await admin.execute(
        "insert into queue_entry (clinic_id, entry_id, queue_id, ticket, appointment_id,"
        " patient_id, due_at, entered_at) select $1, gen_random_uuid(), $2, 1000 + n, visit, $3,"
        " due, due from unnest($4::uuid[], $5::timestamptz[]) with ordinality as a(visit, due, n)",
        clinic.clinic_id,
        queue_id,
        joining[0].patient_id,
        [each.appointment_id for each in joining],
        [each.due_at for each in joining],
    )


@pytest.mark.parametrize("seed", range(3))
async def test_ranks_equal_a_count_of_heads_whatever_happens(
    clinic: SomeClinic, admin: Admin, seed: int
) -> None:
    dice = seeded(seed)
    places = await line_up(clinic, admin, [NOON])
    queue_id = places[0].queue_id
    await wait_in_bulk(clinic, admin, queue_id, dice.choice([100, 200, 700]))
    for _ in range(12):
        match dice.randrange(4):
            case 0:
                due = [NOON + dice.randrange(700) * MINUTE for _ in range(20)]
                await line_up(clinic, admin, due)
            case 1:
                for _ in range(dice.randrange(30)):
                    async with clinic.unit() as unit:
                        await store.call_first(unit, queue_id, NOON, None)
            case 2:
                await admin.execute(
                    "update queue_entry set priority = $2, due_at = due_at + $3 where queue_id = $1"
                    " and status = 'waiting' and ticket % 7 = $4",
                    queue_id,
                    dice.randrange(3),
                    timedelta(minutes=dice.randrange(-90, 90)),
                    dice.randrange(7),
                )
            case _:
                await admin.execute(
                    "delete from queue_entry where queue_id = $1 and ticket % 11 = $2",
                    queue_id,
                    dice.randrange(11),
                )
        await ensure_ranks_are_right(clinic, admin, queue_id)


async def test_long_line_is_cut_into_stretches_that_are_neither_long_nor_many(
    clinic: SomeClinic, admin: Admin
) -> None:
    places = await line_up(clinic, admin, [NOON])
    await wait_in_bulk(clinic, admin, places[0].queue_id, 1500)
    stretches = await ensure_ranks_are_right(clinic, admin, places[0].queue_id)
    assert sum(stretches) == 1501
    assert max(stretches) <= 128
    assert len(stretches) <= 1501 / 64 + 1


async def test_people_with_one_due_time_are_cut_too(clinic: SomeClinic, admin: Admin) -> None:
    places = await line_up(clinic, admin, [NOON] * 140)
    assert [each.position for each in places] == list(range(1, 141))
    assert len(await ensure_ranks_are_right(clinic, admin, places[0].queue_id)) == 2


async def test_whoever_moves_somebody_sees_the_new_ranks_at_once_and_the_others_after_commit(
    clinic: SomeClinic, admin: Admin
) -> None:
    first, *_, last = await line_up(clinic, admin, [NOON] * 4)
    async with clinic.unit() as mine, clinic.unit() as others:
        assert await store.count_ahead(mine, last.entry_id) == 3
        await store.call_first(mine, first.queue_id, NOON, None)
        assert await store.count_ahead(mine, last.entry_id) == 2
        assert await store.count_ahead(others, last.entry_id) == 3
        await mine.connection.execute(
            "update queue_entry set priority = 1 where entry_id = $1", last.entry_id
        )
        assert await store.count_ahead(mine, last.entry_id) == 0
        assert await store.count_ahead(others, last.entry_id) == 3
    await ensure_ranks_are_right(clinic, admin, first.queue_id)
    async with clinic.unit() as unit:
        assert await store.count_ahead(unit, last.entry_id) == 0


async def test_move_that_is_rolled_back_moves_nothing(clinic: SomeClinic, admin: Admin) -> None:
    first, *_, last = await line_up(clinic, admin, [NOON] * 3)
    with pytest.raises(queue.QueueEmpty):
        async with clinic.unit() as unit:
            await store.call_first(unit, first.queue_id, NOON, None)
            raise queue.QueueEmpty
    async with clinic.unit() as unit:
        assert await store.count_ahead(unit, last.entry_id) == 2
    await ensure_ranks_are_right(clinic, admin, first.queue_id)


async def test_ranks_are_right_after_people_joined_moved_and_were_called_at_once(
    urls: Urls, admin: Admin
) -> None:
    async with house_of(urls, size=12) as house:
        clinic = await found_clinic(house)
        queue_id = (await line_up(clinic, admin, [NOON]))[0].queue_id
        await wait_in_bulk(clinic, admin, queue_id, 120)
        dice = seeded()
        joining = await arrivals(
            clinic, admin, [NOON + dice.randrange(120) * MINUTE for _ in range(60)]
        )

        async def join(arrival: queue.Arrival) -> str:
            async with clinic.unit() as unit:
                await queue.join(unit, [arrival])
            return "joined"

        async def call() -> str:
            async with clinic.unit() as unit:
                await queue.call_next(unit, queue_id, None)
            return "called"

        async def prefer(number: int) -> str:
            async with clinic.unit() as unit:
                await unit.connection.execute(
                    "update queue_entry set priority = priority + 1 where entry_id = (select"
                    " entry_id from queue_entry where queue_id = $1 and status = 'waiting'"
                    " order by ticket offset $2 limit 1 for update skip locked)",
                    queue_id,
                    number,
                )
            return "moved"

        deeds = [*map(join, joining), *(call() for _ in range(40)), *map(prefer, range(20))]
        dice.shuffle(deeds)
        assert Counter(await asyncio.gather(*deeds)) == {"joined": 60, "called": 40, "moved": 20}
        assert sum(await ensure_ranks_are_right(clinic, admin, queue_id)) == 141


async def test_a_count_that_is_wrong_is_found(clinic: SomeClinic, admin: Admin) -> None:
    places = await line_up(clinic, admin, [NOON] * 150)
    await admin.execute(
        "update queue_stretch set waiting = waiting + 1 where queue_id = $1", places[0].queue_id
    )
    with pytest.raises(AssertionError):
        await ensure_ranks_are_right(clinic, admin, places[0].queue_id)


async def test_nobody_may_see_or_change_the_stretches(clinic: SomeClinic) -> None:
    with pytest.raises(Exception, match="permission denied"):
        async with clinic.unit() as unit:
            await unit.connection.fetch("select * from queue_stretch")
