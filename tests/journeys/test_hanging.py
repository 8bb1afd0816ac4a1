"""A provider that hangs: requests of others do not feel it, and it holds none of their connections."""

import asyncio
from time import perf_counter

from cliniq.app import House
from cliniq.kernel.ids import ClinicId, new_id
from cliniq.platform.outbound.breaker import Trip
from cliniq.platform.outbound.bulkhead import Bounds
from cliniq.platform.outbound.provider import Provider
from tests.journeys import sizes
from tests.journeys.conftest import Note
from tests.platform.outbound.servers import calling, serving
from tests.platform.outbound.test_hanging import ask
from tests.support import Client, found_clinic

CLINICS, CALLS_OF_EACH = 20, 8
IN_FLIGHT = 64
ASKED = 200  # requests before, to compare with
PATH = "/api/v1/clinic-locations"


async def test_provider_that_hangs_is_felt_by_nobody_else(
    house: House, client: Client, note: Note
) -> None:
    clinic, database = await found_clinic(house), house.entrance.database
    pools = database.clinic, database.person, database.platform
    headers = clinic.acting(clinic.admin)

    async def p95(seconds: float, least: int) -> tuple[float, int]:
        """Ask for so long; no connection may be in use between two requests. Units: ms."""
        took: list[float] = []
        until = perf_counter() + seconds
        while len(took) < least or perf_counter() < until:
            began = perf_counter()
            assert (await client.get(PATH, headers=headers)).status_code == 200
            took.append(1000 * (perf_counter() - began))
            assert [each.get_idle_size() for each in pools] == [each.get_size() for each in pools]
            await asyncio.sleep(0.005)
        return sorted(took)[len(took) * 95 // 100], len(took)

    async with serving() as silent, calling() as caller:
        silent.is_silent = True
        acme = Provider(
            "acme",
            ports=frozenset({silent.port}),
            is_plain=True,
            deadline_seconds=2 * sizes.HANG_SECONDS,
            silence_seconds=2 * sizes.HANG_SECONDS,
            per_clinic=Bounds(4, 8, 2 * sizes.HANG_SECONDS),
            overall=Bounds(IN_FLIGHT, 512, 2 * sizes.HANG_SECONDS),
            trip=Trip(failures=3, pause_seconds=15),
        )
        before, _ = await p95(0, ASKED)
        sizes_before = [each.get_size() for each in pools]
        calls = [
            asyncio.create_task(ask(caller, each, acme, silent))
            for each in [ClinicId(new_id()) for _ in range(CLINICS)]
            for _ in range(CALLS_OF_EACH)
        ]
        while len(silent.heard) < IN_FLIGHT:  # noqa: ASYNC110 - a server tells nobody
            await asyncio.sleep(0.001)
        meanwhile, answered = await p95(sizes.HANG_SECONDS, ASKED)
        assert not any(call.done() for call in calls), "it hung all the while"
        assert len(silent.heard) == IN_FLIGHT
        assert [each.get_size() for each in pools] == sizes_before
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    note(
        f"{len(calls)} calls of {CLINICS} clinics hang for {sizes.HANG_SECONDS} s",
        in_flight=IN_FLIGHT,
        connections_held=0,
        requests_meanwhile=answered,
        p95_ms_before=round(before, 1),
        p95_ms_meanwhile=round(meanwhile, 1),
        ratio=round(meanwhile / before, 2),
    )
