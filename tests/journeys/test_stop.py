"""Stopping, being killed, and starting again: nothing that was acknowledged is lost."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx2
import psutil  # type: ignore[import-untyped]
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from cliniq.app import House, open_house
from cliniq.platform.clock import Clocks, utc_now
from cliniq.platform.embedded import embedded_server, is_running
from cliniq.platform.migrate import ONE_RUNNER
from cliniq.platform.source import NAME
from tests.conftest import dsn_of
from tests.journeys.conftest import zone_at_noon
from tests.journeys.crowd import Ask, crowd
from tests.journeys.served import Installation, Served
from tests.support import SECRET, SomeClinic, found_clinic

API = "/api/v1"
BOOKERS = 8  # fewer than the server has connections: all of them are being served at once
STORM = 40  # bookings that are acknowledged before anything happens
CUTS = 60
CUT = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'cliniq_app'"
IN_THE_BACKGROUND = ("sh", "-c", 'trap "" INT && exec "$@"', "sh")  # as `cliniq up &` in a script
WAITS = 600
PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Seeded:
    """An installation on its own embedded database, with a clinic in it."""

    installation: Installation
    clinic: SomeClinic
    pairs: list[tuple[UUID, UUID]]

    def ask(self, number: int, at: datetime) -> Ask:
        """A booking that is in nobody's way, of one of the bookers."""
        patient_id, practitioner_id = self.pairs[number]
        body = {
            "patient_id": patient_id,
            "practitioner_id": practitioner_id,
            "site_id": self.clinic.site.site_id,
            "starts_at": at,
        }
        return Ask(f"{API}/appointments", self.clinic.acting(self.clinic.receptionist), body)


@pytest.fixture(scope="module")
async def seeded(tmp_path_factory: pytest.TempPathFactory) -> Seeded:
    installation = Installation(Path(tmp_path_factory.mktemp("up")), {"CLINIQ_RATE_SCALE": "1000"})
    async with installation.running("up"), house_in(installation) as house:
        clinic = await found_clinic(house, zone_at_noon())
        pairs = [
            ((await clinic.patient()).patient_id, await clinic.practitioner())
            for _ in range(BOOKERS)
        ]
    async with admin_in(installation) as admin:
        for name in ("lock_timeout", "statement_timeout"):  # only what a test does ends a wait
            await admin.execute(f"alter role cliniq_app in database {NAME} set {name} = '1h'")
    return Seeded(installation, clinic, pairs)


@asynccontextmanager
async def admin_in(installation: Installation) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection, beside whoever else uses the database."""
    async with embedded_server(installation.database) as dsn:
        connection = await asyncpg.connect(dsn_of(dsn, NAME))
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def house_in(installation: Installation) -> AsyncIterator[House]:
    async with embedded_server(installation.database) as dsn:
        application = dsn_of(dsn, NAME).replace("postgres@", "cliniq_app@")
        async with open_house(application, SECRET, 4, Clocks(), promises=None) as house:
            yield house


async def booked(installation: Installation) -> set[str]:
    async with admin_in(installation) as admin:
        rows = await admin.fetch("select appointment_id from appointment")
    return {str(each["appointment_id"]) for each in rows}


def postmaster(installation: Installation) -> int:
    return int((installation.database / "data" / "postmaster.pid").read_text().split()[0])


def family(*pids: int) -> list[psutil.Process]:
    heads = [psutil.Process(pid) for pid in pids]
    return heads + [child for head in heads for child in head.children(recursive=True)]


def is_alive(process: psutil.Process) -> bool:
    """Say whether it runs; whoever waits to be fetched by a parent does not."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def ensure_gone(installation: Installation, processes: Iterable[psutil.Process]) -> None:
    assert not [each for each in processes if is_alive(each)]
    assert not is_running(installation.database)
    assert not (installation.database / "data" / "postmaster.pid").exists()


@dataclass
class Storm:
    """Bookers who book and book, until nobody answers; `acknowledged` is what they were told."""

    seeded: Seeded
    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)

    async def rage(self, served: Served, number: int, first: datetime) -> None:
        async with crowd(served.address, 1) as line:
            with suppress(OSError, asyncio.IncompleteReadError):
                for turn in range(10_000):
                    at = first + turn * timedelta(minutes=15)
                    answer = await line.ask_one(0, self.seeded.ask(number, at))
                    if answer.status == 201:
                        self.acknowledged.add(answer.body["appointment_id"])
                    else:
                        self.refused.add(answer.code)

    async def until(self, size: int) -> None:
        for _ in range(WAITS):
            if len(self.acknowledged) >= size:
                return
            await asyncio.sleep(PAUSE_SECONDS)
        raise AssertionError(f"{len(self.acknowledged)} bookings only, and {self.refused}")


def day(number: int) -> datetime:
    """A morning of a test's own, so that no two tests book the same time."""
    return utc_now().replace(minute=0, second=0, microsecond=0) + timedelta(days=number)


# The end


async def test_server_told_to_stop_finishes_what_it_has_taken(seeded: Seeded) -> None:
    installation, clinic = seeded.installation, seeded.clinic
    async with (
        installation.running("up") as served,
        crowd(served.address, BOOKERS) as bookers,
        served.client() as client,
    ):
        answer = await client.post(f"{API}/live/passes", headers=clinic.doctor.headers)
        socket = await connect(f"{served.live}?pass={answer.json()['live_pass']}", proxy=None)
        processes = family(served.process.pid, postmaster(installation))
        async with admin_in(installation) as admin:
            # Nobody can book before this transaction is over: all of them are being served.
            async with admin.transaction():
                await admin.execute("lock table booking in share row exclusive mode")
                asks = [seeded.ask(each, day(1)) for each in range(BOOKERS)]
                asked = asyncio.create_task(bookers.ask(asks))
                await until_waiting(admin, BOOKERS)
                served.process.send_signal(signal.SIGTERM)
                await until_closed(served)
                assert not asked.done()
            answers = await asked
        assert [each.status for each in answers] == [201] * BOOKERS
        assert json.loads(await asyncio.wait_for(socket.recv(), 15))["type"] == "bye"
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 15)
        assert await served.ended() == 0, served.said()
        assert "Traceback" not in served.said(), served.said()
    ensure_gone(installation, processes)
    assert {each.body["appointment_id"] for each in answers} <= await booked(installation)


async def until_waiting(
    admin: asyncpg.Connection, size: int, which: str = "relation = 'booking'::regclass"
) -> None:
    for _ in range(WAITS):
        waiting = await admin.fetchval(
            f"select count(*) from pg_locks where {which} and not granted"  # noqa: S608
        )
        if waiting == size:
            return
        await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError("they have not all reached the lock")


async def until_closed(served: Served) -> None:
    """Wait until nobody new is let in."""
    for _ in range(WAITS):
        try:
            async with served.client() as client:
                await client.get("/health/live")
        except httpx2.TransportError:
            return
        await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError("the server does not stop")


@pytest.mark.parametrize(
    ("by", "on"), [(signal.SIGTERM, 2), (signal.SIGINT, 40)], ids=["SIGTERM", "SIGINT"]
)
async def test_server_stopped_in_a_storm_has_told_of_every_booking_and_kept_it(
    seeded: Seeded, by: signal.Signals, on: int
) -> None:
    installation = seeded.installation
    before = await booked(installation)
    storm = Storm(seeded)
    async with installation.running("up") as served:
        processes = family(served.process.pid, postmaster(installation))
        bookers = [
            asyncio.create_task(storm.rage(served, each, day(on))) for each in range(BOOKERS)
        ]
        await storm.until(STORM)
        await served.stop(by)
        await asyncio.gather(*bookers)
    ensure_gone(installation, processes)
    assert not storm.refused
    assert await booked(installation) - before == storm.acknowledged


async def test_second_signal_does_not_wait_for_those_being_served(seeded: Seeded) -> None:
    installation = seeded.installation
    async with installation.running("up") as served:
        processes = family(served.process.pid, postmaster(installation))
        async with crowd(served.address, 1) as bookers, admin_in(installation) as admin:
            async with admin.transaction():
                await admin.execute("lock table booking in share row exclusive mode")
                asked = asyncio.create_task(bookers.ask([seeded.ask(0, day(80))]))
                await until_waiting(admin, 1)
                served.process.send_signal(signal.SIGINT)
                await until_closed(served)
                assert not asked.done()
                await served.stop(signal.SIGINT)
            (answer,) = await asked
            assert answer.code == "DEPENDENCY_UNAVAILABLE"
    ensure_gone(installation, processes)


@pytest.mark.parametrize(
    ("by", "shell"),
    [(signal.SIGTERM, ()), (signal.SIGINT, ()), (signal.SIGTERM, IN_THE_BACKGROUND)],
    ids=["SIGTERM", "SIGINT", "SIGTERM in the background of a script"],
)
async def test_server_told_to_stop_before_it_serves_stops_its_database_too(
    seeded: Seeded, by: signal.Signals, shell: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = seeded.installation
    monkeypatch.setattr(installation, "program", (*shell, *installation.program))
    async with embedded_server(installation.database) as dsn:
        admin = await asyncpg.connect(dsn_of(dsn, NAME))
        await admin.execute(f"select pg_advisory_lock({ONE_RUNNER})")
        served = installation.start("up")
        await until_waiting(admin, 1, "locktype = 'advisory'")
        processes = family(served.process.pid, postmaster(installation))
    try:
        served.process.send_signal(by)  # it is alone with the database now
        assert await served.ended() == 128 + signal.SIGINT
    finally:
        admin.terminate()
    assert "Traceback" not in served.said(), served.said()
    ensure_gone(installation, processes)


# The crash


async def test_server_started_after_a_kill_adopts_the_database_with_everything_in_it(
    seeded: Seeded,
) -> None:
    installation = seeded.installation
    before = await booked(installation)
    storm = Storm(seeded)
    async with installation.running("up") as served:
        bookers = [
            asyncio.create_task(storm.rage(served, each, day(90))) for each in range(BOOKERS)
        ]
        await storm.until(STORM)
        served.process.kill()
        assert await served.ended() == -signal.SIGKILL
        await asyncio.gather(*bookers)
    left_behind = postmaster(installation)
    assert is_running(installation.database)
    async with installation.running("up") as served, served.client() as client:
        assert postmaster(installation) == left_behind
        headers = seeded.clinic.acting(seeded.clinic.receptionist)
        for each in sorted(storm.acknowledged)[:5]:
            answer = await client.get(f"{API}/appointments/{each}", headers=headers)
            assert answer.status_code == 200, answer.text
        processes = family(served.process.pid, left_behind)
        await served.stop()
    ensure_gone(installation, processes)
    after = await booked(installation)
    assert before | storm.acknowledged <= after
    assert len(after - before - storm.acknowledged) <= BOOKERS  # answers that nobody heard


async def test_client_whose_connection_to_the_database_dies_is_told_to_come_back(
    seeded: Seeded,
) -> None:
    installation = seeded.installation
    async with (
        installation.running("up") as served,
        crowd(served.address, BOOKERS) as bookers,
        admin_in(installation) as admin,
    ):
        asks = [seeded.ask(each, day(120)) for each in range(BOOKERS)]
        async with admin.transaction():
            await admin.execute("lock table booking in share row exclusive mode")
            asked = asyncio.create_task(bookers.ask(asks))
            await until_waiting(admin, BOOKERS)
            await admin.execute(CUT)
            answers = await asked
        assert [each.code for each in answers] == ["DEPENDENCY_UNAVAILABLE"] * BOOKERS
        answers, _ = await bookers.ask_until_served(asks)
        assert [each.status for each in answers] == [201] * BOOKERS


async def test_server_cut_off_its_database_again_and_again_serves_on_and_stops_well(
    seeded: Seeded,
) -> None:
    installation = seeded.installation
    storm = Storm(seeded)
    async with installation.running("up") as served, admin_in(installation) as admin:
        bookers = [
            asyncio.create_task(storm.rage(served, each, day(130))) for each in range(BOOKERS)
        ]
        await storm.until(1)
        for _ in range(CUTS):
            await admin.execute(f"{CUT} and state like 'idle in transaction%'")
            await asyncio.sleep(PAUSE_SECONDS / 2)
        await storm.until(len(storm.acknowledged) + STORM)
        await served.stop()  # which waits for every connection to be given back
        await asyncio.gather(*bookers)
    assert storm.refused == {"DEPENDENCY_UNAVAILABLE"}
    assert storm.acknowledged <= await booked(installation)


# The second


async def test_second_server_on_a_port_is_refused_and_nothing_is_disturbed(
    seeded: Seeded, tmp_path: Path
) -> None:
    installation = seeded.installation
    async with installation.running("up") as served, served.client() as client:
        serves = postmaster(installation)
        elsewhere = Installation(tmp_path, port=installation.port)
        for second in (installation, elsewhere):
            refusal = await second.tried("up")
            assert refusal.returncode == 2
            (sentence,) = refusal.stderr.strip().splitlines()
            assert sentence.startswith(f"cliniq: Port {installation.port} of 127.0.0.1 cannot be")
            assert sentence.endswith("choose another with CLINIQ_PORT.")
        assert not elsewhere.database.exists()
        assert (await client.get("/health/ready")).status_code == 200
        assert postmaster(installation) == serves
