"""Many who call at once: nobody is called twice, nobody is lost, and no number is missing."""

import asyncio
from datetime import timedelta
from uuid import UUID

from cliniq.domains.queue import api as queue
from cliniq.domains.queue import store
from cliniq.kernel.problem import Problem
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.domains.queue.lines import MINUTE, arrivals, line_up
from tests.domains.sizes import CALLERS, TICKETS, seeded
from tests.domains.storms import at_once, deadlocks
from tests.support import NOON, Admin, SomeClinic, found_clinic


class Stumble(Exception):
    """A caller falls before the call is committed."""


async def call_until_empty(
    clinic: SomeClinic, queue_id: UUID, stumbles: float = 0.0, seed: int = 0
) -> list[int]:
    """Call again and again; the tickets whose calls were committed."""
    dice = seeded(seed)
    called = []
    while True:
        try:
            called.append(await call(clinic, queue_id, stumbles=dice.random() < stumbles))
        except queue.QueueEmpty:
            return called
        except Stumble:
            await asyncio.sleep(0)


async def call(clinic: SomeClinic, queue_id: UUID, *, stumbles: bool) -> int:
    async with clinic.unit() as unit:
        entry = await queue.call_next(unit, queue_id, None)
        if stumbles:
            raise Stumble
    return entry.ticket


async def open_line(clinic: SomeClinic, admin: Admin, count: int) -> UUID:
    """A line with so many in it, due in another order than they came."""
    order = seeded().sample(range(count), count)
    joining = await arrivals(clinic, admin, [NOON + each * MINUTE for each in order])
    async with clinic.unit() as unit:
        places = await queue.join(unit, joining)
    (queue_id,) = {each.queue_id for each in places.values()}
    return queue_id


async def test_callers_at_once_call_everyone_once_and_without_a_gap(
    urls: Urls, admin: Admin
) -> None:
    before = await deadlocks(admin)
    async with house_of(urls, size=16) as house:
        clinic = await found_clinic(house)
        queue_id = await open_line(clinic, admin, TICKETS)
        called = await asyncio.gather(*(call_until_empty(clinic, queue_id) for _ in range(CALLERS)))
    tickets = [ticket for each in called for ticket in each]
    assert len(tickets) == TICKETS
    assert sorted(tickets) == list(range(1, TICKETS + 1))
    left = await admin.fetchval(
        "select count(*) from queue_entry where queue_id = $1 and status <> 'called'", queue_id
    )
    assert left == 0
    version = await admin.fetchval("select version from queue where queue_id = $1", queue_id)
    assert version == 2 * TICKETS
    assert await deadlocks(admin) == before


async def test_callers_of_a_line_that_is_long_enough_all_get_somebody_and_the_first_of_it(
    urls: Urls, admin: Admin
) -> None:
    """Nobody hears that the queue is empty because a rival's call is still under way."""
    async with house_of(urls, size=16) as house:
        clinic = await found_clinic(house)
        due = [NOON + each * MINUTE for each in range(3 * CALLERS)]
        joining = await arrivals(clinic, admin, due)
        async with clinic.unit() as unit:
            (queue_id,) = {each.queue_id for each in (await queue.join(unit, joining)).values()}
        for done in (0, CALLERS):
            calls = (call(clinic, queue_id, stumbles=False) for _ in range(CALLERS))
            tickets = await asyncio.gather(*calls)
            assert sorted(tickets) == list(range(done + 1, done + CALLERS + 1))


async def test_caller_who_stumbles_loses_nobody(urls: Urls, admin: Admin) -> None:
    count = 60
    async with house_of(urls, size=16) as house:
        clinic = await found_clinic(house)
        queue_id = await open_line(clinic, admin, count)
        called = await asyncio.gather(
            *(call_until_empty(clinic, queue_id, 0.3, seed) for seed in range(20))
        )
        called.append(await call_until_empty(clinic, queue_id))
    tickets = [ticket for each in called for ticket in each]
    assert sorted(tickets) == list(range(1, count + 1))
    version = await admin.fetchval("select version from queue where queue_id = $1", queue_id)
    assert version == 2 * count


async def test_call_passes_over_whom_a_rival_is_calling(clinic: SomeClinic, admin: Admin) -> None:
    places = await line_up(clinic, admin, [NOON, NOON, NOON])
    queue_id = places[0].queue_id
    async with clinic.unit() as mine, clinic.unit() as rival:
        calls = [await store.call_first(unit, queue_id, NOON, None) for unit in (mine, rival)]
    assert [each and each.ticket for each in calls] == [1, 2]


async def test_one_caller_calls_in_order(clinic: SomeClinic, admin: Admin) -> None:
    places = await line_up(clinic, admin, [NOON + each * MINUTE for each in (3, 1, 2, 0)])
    assert await call_until_empty(clinic, places[0].queue_id) == [4, 2, 3, 1]


async def test_people_join_and_are_called_at_the_same_time(urls: Urls, admin: Admin) -> None:
    count = 80
    before = await deadlocks(admin)
    async with house_of(urls, size=16) as house:
        clinic = await found_clinic(house)
        queue_id = await open_line(clinic, admin, 10)
        due = [NOON - timedelta(seconds=each) for each in range(count)]
        joining = await arrivals(clinic, admin, due)

        async def join(arrival: queue.Arrival) -> int:
            async with clinic.unit() as unit:
                return (await queue.join(unit, [arrival]))[arrival.appointment_id].ticket

        joins = asyncio.gather(*(join(each) for each in joining))
        calls = asyncio.gather(*(call_until_empty(clinic, queue_id) for _ in range(8)))
        tickets, called = await joins, await calls
        called.append(await call_until_empty(clinic, queue_id))
    assert sorted(tickets) == list(range(11, 11 + count))
    everyone = [ticket for each in called for ticket in each]
    assert sorted(everyone) == list(range(1, 11 + count))
    assert await deadlocks(admin) == before


async def test_rivals_who_start_one_visit_start_it_once(clinic: SomeClinic, admin: Admin) -> None:
    visit = await clinic.book(await clinic.patient())
    await admin.execute(
        "update appointment set status = 'checked_in' where appointment_id = $1",
        visit.appointment_id,
    )
    line = queue.Line(clinic.site.site_id, clinic.practitioner_id, NOON.date())
    async with clinic.unit() as unit:
        arrival = queue.Arrival(
            visit.appointment_id, visit.patient_id, clinic.practitioner_id, line, NOON
        )
        place = (await queue.join(unit, [arrival]))[visit.appointment_id]
        await queue.call_next(unit, place.queue_id, None)

    async def start() -> str:
        async with clinic.unit() as unit:
            return str((await queue.start(unit, place.entry_id)).status)

    answers = await at_once([start() for _ in range(6)])
    assert answers.count("in_progress") == 1
    refusals = [each for each in answers if isinstance(each, Problem)]
    assert {each.code for each in refusals} == {"INVALID_TRANSITION"}
