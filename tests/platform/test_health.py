"""Health: answered over connections of its own, truthfully, and in time."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import httpx2
import pytest

from cliniq.app import House, open_house
from cliniq.platform import health
from cliniq.platform.backends import Backends
from cliniq.platform.clock import Clocks
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.platform.test_outages import line_to
from tests.platform.test_unit import client_of
from tests.platform.wire import refusal
from tests.redis_server import own_redis
from tests.support import SECRET, Client

READY = "/health/ready"


@asynccontextmanager
async def nothing_left(house: House) -> AsyncIterator[None]:
    """Have every connection of the work in use."""
    database = house.entrance.database
    async with AsyncExitStack() as held:
        for pool in (database.clinic, database.person, database.platform):
            for _ in range(pool.get_max_size()):
                await held.enter_async_context(pool.acquire())
        yield


async def test_server_whose_connections_are_all_in_use_is_ready(urls: Urls) -> None:
    async with house_of(urls, size=2) as house, client_of(house) as client, nothing_left(house):
        answers = await asyncio.gather(*(client.get(READY) for _ in range(20)))
    assert {each.status_code for each in answers} == {200}
    assert answers[0].json() == {"status": "ready", "missing": []}


async def test_server_without_its_database_is_not_ready_though_all_connections_are_in_use(
    urls: Urls,
) -> None:
    async with (
        line_to(urls) as line,
        house_of(Urls(line.url, None), size=2) as house,
        client_of(house) as client,
    ):
        async with nothing_left(house):
            await line.cut()
            unready(await client.get(READY))
            await line.mend()
            assert (await client.get(READY)).status_code == 200
        await line.cut()
        unready(await client.get(READY))
        await line.mend()


def unready(answer: httpx2.Response) -> None:
    problem = refusal(answer, 503, "DEPENDENCY_UNAVAILABLE")
    assert problem["dependency"] == "postgresql"


async def test_database_that_says_nothing_is_waited_for_only_so_long(
    urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.2)
    async with house_of(urls, size=2) as house, client_of(house) as client:
        answers = asyncio.Event()

        async def ask_in_vain() -> None:
            await answers.wait()

        with monkeypatch.context() as silent:
            silent.setattr(house.pulse, "_ask_database", ask_in_vain)
            for each in await asyncio.gather(*(client.get(READY) for _ in range(5))):
                unready(each)
            assert len(house.pulse._asking) == 1  # noqa: SLF001 - who is asked is not asked again
        unready(await client.get(READY))
        answers.set()
        await asyncio.sleep(0)
        assert (await client.get(READY)).status_code == 200


async def test_server_without_its_redis_serves_on_and_says_so(urls: Urls) -> None:
    with own_redis() as redis:
        backends = Backends(redis_url=redis.url)
        async with (
            open_house(urls.application, SECRET, 2, Clocks(), backends) as house,
            client_of(house) as client,
        ):
            assert await said(client) == {"status": "ready", "missing": []}
            redis.signal(signal.SIGKILL)
            assert await said(client) == {"status": "degraded", "missing": ["redis"]}
            await asyncio.to_thread(redis.start)
            assert await said(client) == {"status": "ready", "missing": []}


async def said(client: Client) -> object:
    answer = await client.get(READY)
    assert answer.status_code == 200
    return answer.json()


# A start while the server starts too


@pytest.fixture
def starting(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """What the server says to those who connect before it lets them in."""
    refusals: list[Exception] = []
    connect = asyncpg.connect

    async def knock(dsn: str, **how: Any) -> object:
        if refusals:
            raise refusals.pop()
        return await connect(dsn, **how)

    monkeypatch.setattr("cliniq.platform.health.asyncpg.connect", knock)
    monkeypatch.setattr(health, "STARTING_PAUSE_SECONDS", 0.01)
    return refusals


async def test_server_that_is_starting_up_is_waited_for(
    urls: Urls, starting: list[Exception]
) -> None:
    starting += [asyncpg.CannotConnectNowError("the database system is starting up")] * 3
    assert await health.complaints(urls.application) == []
    assert not starting


async def test_server_that_starts_for_too_long_or_is_not_there_is_not_waited_for(
    urls: Urls, starting: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    starting += [ConnectionRefusedError()] * 2
    with pytest.raises(ConnectionRefusedError):
        await health.complaints(urls.application)
    assert len(starting) == 1
    monkeypatch.setattr(health, "STARTING_SECONDS", -1)
    starting.append(asyncpg.CannotConnectNowError("the database system is starting up"))
    with pytest.raises(asyncpg.CannotConnectNowError):
        await health.complaints(urls.application)
