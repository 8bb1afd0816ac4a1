"""A provider that hangs: others do not feel it, and it holds none of their connections."""

import asyncio
from time import perf_counter

from msgspec.structs import replace

from cliniq.kernel.ids import ClinicId, new_id
from cliniq.platform.outbound.breaker import Trip
from cliniq.platform.outbound.bulkhead import Bounds
from cliniq.platform.outbound.provider import Provider
from cliniq.platform.source import Urls
from tests.conftest import BACKENDS, house_of
from tests.journeys import sizes
from tests.journeys.conftest import Note
from tests.platform.outbound.servers import calling, serving
from tests.platform.outbound.test_hanging import ask
from tests.platform.test_unit import client_of
from tests.support import Client, SomeClinic, found_clinic

CLINICS, CALLS_OF_EACH = 20, 8
IN_FLIGHT = 64
ASKED = 100  # requests at the least
PATH = "/api/v1/clinic-locations"


def patient_with(port: int) -> Provider:
    """A provider for whom everybody would wait for longer than it hangs."""
    patience = sizes.HANG_SECONDS + 60.0
    return Provider(
        "acme",
        ports=frozenset({port}),
        is_plain=True,
        deadline_seconds=patience,
        silence_seconds=patience,
        per_clinic=Bounds(4, 8, patience),
        overall=Bounds(IN_FLIGHT, 512, patience),
        trip=Trip(failures=3, pause_seconds=15),
    )


async def p95(client: Client, clinic: SomeClinic, seconds: float) -> tuple[float, int]:
    """Ask for so long; no connection may be in use between two requests. Units: ms."""
    database = clinic.house.entrance.database
    pools = database.clinic, database.person, database.platform
    headers, took = clinic.acting(clinic.admin), list[float]()
    until = perf_counter() + seconds
    while len(took) < ASKED or perf_counter() < until:
        began = perf_counter()
        assert (await client.get(PATH, headers=headers)).status_code == 200
        took.append(1000 * (perf_counter() - began))
        assert [each.get_idle_size() for each in pools] == [each.get_size() for each in pools]
        await asyncio.sleep(0.005)
    return sorted(took)[len(took) * 95 // 100], len(took)


async def test_provider_that_hangs_is_felt_by_nobody_else(urls: Urls, note: Note) -> None:
    unlimited = replace(BACKENDS, rate_scale=1000)
    async with (
        house_of(urls, backends=unlimited) as house,
        client_of(house) as client,
        serving() as silent,
        calling() as caller,
    ):
        clinic = await found_clinic(house)
        silent.is_silent = True
        acme = patient_with(silent.port)
        before, _ = await p95(client, clinic, 0)
        clinics = [ClinicId(new_id()) for _ in range(CLINICS)] * CALLS_OF_EACH
        calls = [asyncio.create_task(ask(caller, each, acme, silent)) for each in clinics]
        while len(silent.heard) < IN_FLIGHT:  # noqa: ASYNC110 - a server tells nobody
            await asyncio.sleep(0.001)
        meanwhile, answered = await p95(client, clinic, sizes.HANG_SECONDS)
        assert not any(call.done() for call in calls), "it hung all the while"
        assert len(silent.heard) == IN_FLIGHT
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
