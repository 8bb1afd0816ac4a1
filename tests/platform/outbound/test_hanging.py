"""A provider that hangs takes neither the pool nor the loop, nor other clinics, nor for long."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import pytest

from cliniq.app import House
from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.problem import Problem
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import db
from cliniq.platform.db import InsideUnit, open_read_unit, open_unit
from cliniq.platform.outbound.breaker import Trip
from cliniq.platform.outbound.bulkhead import Bounds
from cliniq.platform.outbound.provider import Provider, Request
from cliniq.platform.outbound.refusals import ProviderPaused, ProviderUnavailable
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.platform.outbound.servers import Caller, Server, calling, serving
from tests.support import Client, SomeClinic

HERE, THERE = ClinicId(new_id()), ClinicId(new_id())


def hasty(server: Server, name: str = "acme", deadline: float = 0.3) -> Provider:
    return Provider(
        name,
        ports=frozenset({server.port}),
        is_plain=True,
        deadline_seconds=deadline,
        silence_seconds=60,
        per_clinic=Bounds(4, 8, 0.05),
        overall=Bounds(16, 32, 0.05),
        trip=Trip(failures=3, pause_seconds=15),
    )


async def ask(caller: Caller, clinic_id: ClinicId, provider: Provider, server: Server) -> str:
    try:
        await caller.outbound.call(clinic_id, provider, Request("POST", server.url()))
    except Problem as problem:
        return problem.code
    return "OK"


async def test_hanging_provider_fills_its_bulkhead_opens_its_breaker_and_recovers() -> None:
    async with serving() as silent, serving() as well, calling() as caller:
        silent.is_silent = True
        acme, other = hasty(silent), hasty(well, "other", 30)
        async with asyncio.TaskGroup() as tasks:
            crowd = [tasks.create_task(ask(caller, HERE, acme, silent)) for _ in range(30)]
            while len(silent.heard) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert caller.counted("cliniq_outbound_in_flight", provider="acme") == 4
            assert await ask(caller, HERE, other, well) == "OK", "other providers"
            elsewhere = tasks.create_task(ask(caller, THERE, acme, silent))
            while len(silent.heard) < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        codes = [task.result() for task in crowd]
        assert elsewhere.result() == "PROVIDER_UNAVAILABLE", "another clinic has its own breaker"
        assert codes.count("PROVIDER_UNAVAILABLE") == 4
        assert codes.count("PROVIDER_BUSY") == 26
        assert len(silent.heard) == 5
        assert await ask(caller, HERE, acme, silent) == "PROVIDER_PAUSED"
        assert len(silent.heard) == 5, "it is left alone"
        await recover(caller, acme, silent)


async def recover(caller: Caller, acme: Provider, silent: Server) -> None:
    """Half-open: one finds out that it still hangs, then one that it is back."""
    caller.wall.now += timedelta(seconds=15)
    async with asyncio.TaskGroup() as tasks:
        probe = tasks.create_task(ask(caller, HERE, acme, silent))
        while len(silent.heard) < 6:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert caller.counted("cliniq_outbound_breakers", provider="acme", state="half_open") == 1
        assert await ask(caller, HERE, acme, silent) == "PROVIDER_PAUSED"
    assert probe.result() == "PROVIDER_UNAVAILABLE"
    with pytest.raises(ProviderPaused) as refused:
        await caller.outbound.call(HERE, acme, Request("POST", silent.url()))
    assert refused.value.headers == {"Retry-After": "30"}
    assert not refused.value.may_have_arrived
    silent.is_silent = False
    caller.wall.now += timedelta(seconds=30)
    assert [await ask(caller, HERE, acme, silent) for _ in range(20)] == ["OK"] * 20
    assert caller.counted("cliniq_outbound_breakers", provider="acme", state="closed") == 2


async def test_provider_that_hangs_for_all_clinics_takes_no_connection_of_the_others() -> None:
    async with serving() as silent, serving() as well, calling() as caller:
        silent.is_silent = True
        acme, other = hasty(silent), hasty(well, "other", 30)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(100):
                tasks.create_task(ask(caller, ClinicId(new_id()), acme, silent))
            while len(silent.heard) < 16:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            for _ in range(20):
                assert await ask(caller, HERE, other, well) == "OK"
        assert len(silent.heard) == 16
    assert well.connected == 1


async def test_requests_and_their_pool_do_not_feel_a_hanging_provider(
    client: Client, clinic: SomeClinic
) -> None:
    database = clinic.house.entrance.database
    async with serving() as silent, calling() as caller:
        silent.is_silent = True
        acme = hasty(silent, deadline=30)
        calls = [asyncio.create_task(ask(caller, HERE, acme, silent)) for _ in range(4)]
        while len(silent.heard) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        for _ in range(10):
            path = "/api/v1/clinic-locations"
            answer = await client.get(path, headers=clinic.acting(clinic.admin))
            assert answer.status_code == 200
        for pool in (database.clinic, database.person, database.platform):
            assert pool.get_idle_size() == pool.get_size()
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


# --- never inside a unit --------------------------------------------------------------------------

SCOPE = PlatformScope("test")


async def test_call_inside_a_unit_is_refused_before_anything_is_sent(house: House) -> None:
    database = house.entrance.database
    async with serving() as server, calling() as caller:
        acme = hasty(server)
        for opening in (open_unit, open_read_unit):
            async with opening(database, SCOPE):  # the sin
                with pytest.raises(InsideUnit):
                    await ask(caller, HERE, acme, server)
            assert await ask(caller, HERE, acme, server) == "OK"
        assert len(server.heard) == 2


async def test_call_is_refused_in_what_a_unit_waits_for_and_free_elsewhere(house: House) -> None:
    database = house.entrance.database
    async with serving() as server, calling() as caller:
        acme, opened, closed = hasty(server), asyncio.Event(), asyncio.Event()

        async def beside() -> str:
            await opened.wait()
            return await ask(caller, HERE, acme, server)

        async def later() -> str:
            await closed.wait()
            return await ask(caller, HERE, acme, server)

        other = asyncio.create_task(beside())
        async with open_unit(database, SCOPE):
            begun_inside = asyncio.create_task(later())
            with pytest.raises(InsideUnit):
                await asyncio.gather(ask(caller, HERE, acme, server))
            async with open_read_unit(database, SCOPE):
                pass
            with pytest.raises(InsideUnit):
                await ask(caller, HERE, acme, server)
            opened.set()
            assert await other == "OK", "a task that began before has no part in it"
        closed.set()
        assert await begun_inside == "OK", "the unit in which it began is over"


@pytest.mark.parametrize("how", ["refused", "broken", "cancelled", "commit fails"])
async def test_unit_that_ends_badly_is_over_all_the_same(
    house: House, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end() -> None:
        async with open_unit(house.entrance.database, SCOPE) as unit:
            if how == "cancelled":
                asyncio.current_task().cancel()  # type: ignore[union-attr]
                await asyncio.sleep(0)
            if how == "commit fails":
                with suppress(Exception):
                    await unit.connection.execute("select 1 / 0")
                return
            raise ProviderUnavailable("x") if how == "refused" else ValueError

    with suppress(Exception, asyncio.CancelledError):
        await end()
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()
    db.ensure_outside_units()


async def test_unit_that_never_opened_does_not_count(urls: Urls) -> None:
    async with house_of(urls, size=2) as house:
        house.entrance.database.cut()
        with pytest.raises(Problem):
            await open_unit(house.entrance.database, SCOPE).__aenter__()
    db.ensure_outside_units()
