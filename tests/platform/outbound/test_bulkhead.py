"""So many calls at once, so many in the queue, and outlets in bounded number."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from cliniq.kernel.ids import ClinicId, new_id
from cliniq.platform.outbound.breaker import State, Trip
from cliniq.platform.outbound.bulkhead import Bounds, Bulkhead, BulkheadFull
from cliniq.platform.outbound.outlets import Outlets
from cliniq.platform.outbound.provider import Provider
from tests.support import NOON


async def hold(bulkhead: Bulkhead, until: asyncio.Event) -> None:
    async with bulkhead:
        await until.wait()


async def test_next_call_waits_and_the_one_after_is_refused_at_once() -> None:
    bulkhead, done = Bulkhead(Bounds(2, 1, 30)), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(hold(bulkhead, done))
        await asyncio.sleep(0.01)
        assert bulkhead.in_flight == 2
        with pytest.raises(BulkheadFull):
            async with bulkhead:
                raise AssertionError
        done.set()
    assert bulkhead.is_idle


async def test_call_that_waits_too_long_is_refused_and_leaves_no_trace() -> None:
    bulkhead = Bulkhead(Bounds(1, 5, 0.01))
    async with bulkhead:
        for _ in range(3):
            with pytest.raises(BulkheadFull):
                await bulkhead.__aenter__()
        assert bulkhead.in_flight == 1
    async with bulkhead:
        assert not bulkhead.is_idle
    assert bulkhead.is_idle


async def test_cancelled_calls_give_their_places_back() -> None:
    bulkhead = Bulkhead(Bounds(2, 50, 30))
    tasks = [asyncio.create_task(hold(bulkhead, asyncio.Event())) for _ in range(20)]
    await asyncio.sleep(0.01)
    for step, task in enumerate(tasks):
        task.cancel()
        if step % 3 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert bulkhead.is_idle
    async with AsyncExitStack() as both:
        for _ in range(2):
            await both.enter_async_context(bulkhead)


def test_clinics_and_providers_have_outlets_of_their_own() -> None:
    outlets, here, there = Outlets(), ClinicId(new_id()), ClinicId(new_id())
    mail, sms = Provider("mail"), Provider("sms")
    assert outlets.of(here, mail) is outlets.of(here, mail)
    found = [outlets.of(*key) for key in ((here, mail), (there, mail), (here, sms), (None, sms))]
    assert len({id(each.breaker) for each in found}) == 4
    assert len({id(each.bulkhead) for each in found}) == 4
    assert found[0].overall is found[1].overall
    assert found[0].overall is not found[2].overall


async def test_outlets_are_bounded_and_those_in_use_are_kept() -> None:
    outlets, provider = Outlets(most=3), Provider("mail", trip=Trip(failures=1))
    clinics = [ClinicId(new_id()) for _ in range(6)]
    used = outlets.of(clinics[0], provider)
    async with used.bulkhead:
        for clinic_id in clinics:
            outlets.of(clinic_id, provider)
        assert len(outlets) == 3
        assert outlets.of(clinics[0], provider) is used
    for clinic_id in clinics[1:]:
        outlets.of(clinic_id, provider)
    assert outlets.of(clinics[0], provider) is not used


def test_outlets_say_how_many_breakers_are_open_and_name_no_clinic() -> None:
    outlets, provider = Outlets(), Provider("mail", trip=Trip(failures=1))
    for opens in (True, False, False):
        breaker = outlets.of(ClinicId(new_id()), provider).breaker
        era = breaker.enter(NOON)
        assert era is not None
        breaker.leave(era, NOON, well=not opens)
    states = outlets.states(NOON)
    assert states == {("mail", State.OPEN): 1, ("mail", State.CLOSED): 2}


@pytest.mark.parametrize("name", ["", "Mail", "a b", "1st", "clinic/7", "x" * 41])
def test_provider_whose_name_is_no_label_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="short word"):
        Provider(name)
