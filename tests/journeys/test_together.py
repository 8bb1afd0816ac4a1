"""Several processes on one port: they serve as one, are replaced one by one, and end together."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import psutil  # type: ignore[import-untyped]
import pytest

from cliniq.platform.source import Urls
from tests.conftest import BACKENDS
from tests.journeys.served import Installation, Served, free_port
from tests.journeys.test_stop import is_alive

TRIES, PAUSE_SECONDS = 600, 0.05


def installed(folder: Path, urls: Urls, **settings: str) -> Installation:
    """An installation on a database of a test's own."""
    assert urls.owner
    database = {
        "CLINIQ_DATABASE_URL": urls.application,
        "CLINIQ_DATABASE_POOLER": "transaction" if BACKENDS.pooler else "none",
        "CLINIQ_OWNER_URL": urls.owner,
    }
    return Installation(folder, database | settings)


@pytest.fixture
async def alone(own_urls: Urls, tmp_path: Path) -> Installation:
    return installed(tmp_path / "alone", own_urls)


@pytest.fixture
async def joined(own_urls: Urls, tmp_path: Path, redis_url: str) -> Installation:
    return installed(tmp_path / "joined", own_urls, CLINIQ_REDIS_URL=redis_url)


@pytest.fixture
async def pair(joined: Installation) -> AsyncIterator[Served]:
    """Two processes that serve."""
    async with joined.running("serve", "--workers", "2") as served:
        await until_all_serve(served)
        yield served


async def until_all_serve(served: Served) -> None:
    for _ in range(TRIES):
        if "served by 2 processes" in served.said():
            return
        await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError(served.said())


def members(served: Served) -> list[psutil.Process]:
    found = psutil.Process(served.process.pid).children()
    return [each for each in found if is_alive(each) and "member" in each.cmdline()]


async def until_replaced(served: Served, former: set[int]) -> set[int]:
    """Wait until two others serve."""
    for _ in range(TRIES):
        pids = {each.pid for each in members(served)}
        if len(pids) == 2 and not pids & former:
            return pids
        await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError(served.said())


async def labels_in_metrics(address: str) -> set[str]:
    async with httpx2.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{address}/metrics")).text
    return set(re.findall(r'cliniq_live_sockets\{process="(\d+)"\}', page))


async def keep_asking(served: Served, answers: list[int], enough: asyncio.Event) -> None:
    """Ask over a new connection each time, as many clients would."""
    while not enough.is_set():
        async with served.client() as client:
            answers.append((await client.get("/health/ready")).status_code)


# Together


async def test_two_processes_serve_one_port_and_end_together(pair: Served) -> None:
    children = members(pair)
    assert len(children) == 2
    assert f"Cliniq is at {pair.address}, served by 2 processes" in pair.said()
    await pair.stop()
    assert not [each for each in children if is_alive(each)]
    with pytest.raises(httpx2.TransportError):
        async with pair.client() as client:
            await client.get("/health/live")


async def test_process_that_was_killed_is_replaced_while_the_other_serves(pair: Served) -> None:
    first, second = members(pair)
    first.kill()
    async with pair.client() as client:
        assert (await client.get("/health/ready")).status_code == 200
    for _ in range(TRIES):
        if len(members(pair)) == 2:
            break
        await asyncio.sleep(PAUSE_SECONDS)
    assert second in members(pair)
    assert first not in members(pair)
    assert '"event":"a process of the crew has died"' in pair.said()


async def test_everybody_is_replaced_on_request_and_nobody_is_refused_meanwhile(
    pair: Served,
) -> None:
    before = {each.pid for each in members(pair)}
    answers: list[int] = []
    enough = asyncio.Event()
    asking = asyncio.create_task(keep_asking(pair, answers, enough))
    pair.process.send_signal(signal.SIGHUP)
    await until_replaced(pair, before)
    enough.set()
    await asking
    assert set(answers) == {200}


async def test_metrics_are_of_everybody_whoever_is_asked(joined: Installation) -> None:
    port = free_port()
    async with joined.running("serve", "--workers", "2", "--metrics-port", str(port)) as served:
        await until_all_serve(served)
        for _ in range(6):  # each a connection, so that either process is asked
            assert await labels_in_metrics(served.address) == {"1", "2"}
        assert await labels_in_metrics(f"http://127.0.0.1:{port}") == {"1", "2"}
        async with httpx2.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 404


async def test_processes_end_with_their_supervisor_however_that_ends(pair: Served) -> None:
    children = members(pair)
    pair.process.kill()
    await pair.ended()
    for _ in range(TRIES):
        if not [each for each in children if is_alive(each)]:
            return
        await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError(pair.said())


# Apart


async def refusal(installation: Installation, *words: str) -> str:
    """Have a start refused with one sentence."""
    tried = await installation.tried(*words)
    assert tried.returncode == 2, tried.stderr
    (sentence,) = tried.stderr.strip().splitlines()
    return sentence


async def test_two_processes_without_redis_are_refused(alone: Installation) -> None:
    alone.folder.mkdir()
    assert await refusal(alone, "serve", "--workers", "2") == (
        "cliniq: 2 processes need Redis between them: set CLINIQ_REDIS_URL, or serve with one."
    )


async def test_second_start_on_a_database_is_refused_without_redis_and_not_after_a_kill(
    alone: Installation, own_urls: Urls, tmp_path: Path, redis_url: str
) -> None:
    other = installed(tmp_path / "other", own_urls)
    mixed = installed(tmp_path / "mixed", own_urls, CLINIQ_REDIS_URL=redis_url)
    async with alone.running("serve") as served:
        for each in (other, mixed):
            each.folder.mkdir(exist_ok=True)
            said = await refusal(each, "serve")
            assert "Another Cliniq process serves this database (serve, number" in said
            assert "set CLINIQ_REDIS_URL for both" in said
        assert "Another Cliniq process" in await refusal(other, "up")
        doctor = await other.tried("doctor")
        assert f"serve, number {served.process.pid} on" in " ".join(doctor.stdout.split())
        served.process.kill()
        await served.ended()
    async with other.running("up"):
        pass


async def test_processes_with_redis_start_one_after_the_other(
    joined: Installation, own_urls: Urls, tmp_path: Path, redis_url: str
) -> None:
    other = installed(tmp_path / "other", own_urls, CLINIQ_REDIS_URL=redis_url)
    async with joined.running("serve"), other.running("serve"):
        pass


async def test_crew_that_cannot_start_says_why_once(
    urls: Urls, tmp_path: Path, redis_url: str
) -> None:
    nowhere = installed(tmp_path, urls, CLINIQ_REDIS_URL=redis_url)
    address = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    nowhere.settings = {**nowhere.settings, "CLINIQ_DATABASE_URL": address}
    tried = await nowhere.tried("serve", "--workers", "3")
    assert tried.returncode == 2
    why, end = tried.stderr.strip().splitlines()
    assert why.startswith("cliniq: the database does not answer")
    assert end == "cliniq: The processes do not start: see what they said above."
