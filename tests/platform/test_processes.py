"""Two processes that do not hear each other do not work on one database."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import asyncpg
import pytest
from msgspec.structs import replace

from cliniq.app import House
from cliniq.kernel.ids import new_id
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import processes, processes_store
from cliniq.platform.clock import Clocks, utc_now
from cliniq.platform.db import open_unit
from cliniq.platform.migrate import migrate
from cliniq.platform.processes import LeaseRefused, at_work, list_living, lives, machine, rivals
from cliniq.platform.processes_store import Lease
from cliniq.platform.provision import provision
from cliniq.platform.source import Urls
from tests.conftest import NAME, dsn_of, house_of, on_server
from tests.platform.test_crew import TRIES, until
from tests.support import Admin, Hands

ELSEWHERE = "another machine"


@pytest.fixture(scope="module")
async def quiet_urls(server: str, urls: Urls) -> AsyncIterator[Urls]:
    """A database of this file's own."""
    name = f"{NAME}_processes"
    application, owner = await provision(server, name)
    await migrate(owner, Clocks())
    yield Urls(application, owner)
    await on_server(server, f"drop database {name} with (force)")


@pytest.fixture
async def quiet_admin(server: str, quiet_urls: Urls) -> AsyncIterator[Admin]:
    name = f"{NAME}_processes"
    async with asyncpg.create_pool(dsn_of(server, name), min_size=1, max_size=1) as pool:
        yield pool


@pytest.fixture
async def empty_house(quiet_urls: Urls, quiet_admin: Admin, hands: Hands) -> AsyncIterator[House]:
    """A house in whose database nobody is at work."""
    await quiet_admin.execute("delete from process")
    async with house_of(quiet_urls) as house:
        yield house


def some_lease(house: House, **changes: object) -> Lease:
    database = house.entrance.database
    lease = processes._myself(database, "serve", has_redis=False)  # noqa: SLF001
    return replace(lease, process_id=new_id(), **changes)


async def put(house: House, lease: Lease) -> None:
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        await processes_store.add_lease(unit, lease)


async def known(house: House) -> list[Lease]:
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        return await processes_store.list_leases(unit)


class Heard:
    """What an operator was told, and whether this process was taken for dead."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.lost = 0

    def lose(self) -> None:
        self.lost += 1

    def working(
        self, house: House, *, has_redis: bool = False
    ) -> AbstractAsyncContextManager[None]:
        database = house.entrance.database
        return at_work(database, "serve", has_redis=has_redis, lost=self.lose, say=self.said.append)


async def test_process_is_known_while_it_works_and_forgotten_afterwards(empty_house: House) -> None:
    heard = Heard()
    async with heard.working(empty_house):
        (mine,) = await list_living(empty_house.entrance.database)
        assert (mine.kind, mine.pid, mine.machine) == ("serve", os.getpid(), machine())
    assert await known(empty_house) == []
    assert heard.said == []


@pytest.mark.parametrize(("mine", "theirs"), [(False, False), (True, False), (False, True)])
async def test_second_process_is_refused_unless_both_have_redis(
    empty_house: House, mine: bool, theirs: bool
) -> None:
    await put(empty_house, some_lease(empty_house, has_redis=theirs))
    with pytest.raises(LeaseRefused, match=f"number {os.getpid()} on .*set CLINIQ_REDIS_URL for"):
        async with Heard().working(empty_house, has_redis=mine):
            pass
    assert len(await known(empty_house)) == 1


async def test_processes_with_redis_work_together(empty_house: House) -> None:
    await put(empty_house, some_lease(empty_house, has_redis=True))
    async with Heard().working(empty_house, has_redis=True):
        assert len(await known(empty_house)) == 2


async def test_of_several_that_start_at_once_one_works(empty_house: House) -> None:
    async def work(done: asyncio.Event) -> bool:
        try:
            async with Heard().working(empty_house):
                await done.wait()
        except LeaseRefused:
            return False
        return True

    done = asyncio.Event()
    working = [asyncio.create_task(work(done)) for _ in range(5)]
    await until(lambda: sum(task.done() for task in working) == 4)
    done.set()
    assert sorted(await asyncio.gather(*working)) == [False] * 4 + [True]


async def test_process_that_was_killed_here_is_no_hindrance(empty_house: House) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:  # noqa: ASYNC220 - its zombie is ours to keep
        lease = some_lease(empty_house, pid=other.pid, born_at=utc_now())
        assert lives(lease)
        await put(empty_house, lease)
        other.kill()
        await until(lambda: lives(lease) is False)  # though nobody has waited for it
        heard = Heard()
        async with heard.working(empty_house):
            assert [each.pid for each in await known(empty_house)] == [os.getpid()]
    assert heard.said == []


async def test_process_that_got_a_dead_ones_number_is_not_taken_for_it(empty_house: House) -> None:
    lease = some_lease(empty_house)
    assert lives(lease) is True
    assert lives(replace(lease, born_at=lease.born_at - timedelta(hours=1))) is None


async def test_process_elsewhere_that_is_seen_no_more_is_waited_for_and_then_dead(
    empty_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "RENEW_SECONDS", 0.02)
    monkeypatch.setattr(processes, "STALE_SECONDS", 0.1)
    await put(empty_house, some_lease(empty_house, machine=ELSEWHERE, host="db-2"))
    heard = Heard()
    async with heard.working(empty_house):
        (left,) = await known(empty_house)
        assert left.machine == machine()
    assert len(heard.said) == 1
    assert "still lives (serve" in heard.said[0]
    assert "db-2" in heard.said[0]


async def test_process_elsewhere_that_is_stale_is_cleared_away_at_once(empty_house: House) -> None:
    seen = some_lease(empty_house).seen_at - timedelta(seconds=processes.STALE_SECONDS + 1)
    await put(empty_house, some_lease(empty_house, machine=ELSEWHERE, seen_at=seen))
    heard = Heard()
    async with heard.working(empty_house):
        assert len(await known(empty_house)) == 1
    assert heard.said == []


async def test_process_elsewhere_that_is_seen_again_refuses_the_newcomer(
    empty_house: House, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "RENEW_SECONDS", 0.02)
    lease = some_lease(empty_house, machine=ELSEWHERE)
    await put(empty_house, lease)

    async def be_seen() -> None:
        while True:
            hands.wall += timedelta(milliseconds=1)
            async with open_unit(empty_house.entrance.database, PlatformScope("test")) as unit:
                await processes_store.renew(unit, lease.process_id, unit.wall)
            await asyncio.sleep(0.01)

    living = asyncio.create_task(be_seen())
    with pytest.raises(LeaseRefused):
        async with Heard().working(empty_house):
            pass
    living.cancel()


async def test_lease_is_renewed_and_comes_back_where_it_was_lost_to_nobody(
    empty_house: House, quiet_admin: Admin, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "RENEW_SECONDS", 0.02)
    heard = Heard()
    async with heard.working(empty_house):
        hands.wall += timedelta(seconds=5)
        await _until_seen(empty_house, hands)
        await quiet_admin.execute("delete from process")
        await _until_seen(empty_house, hands)
    assert heard.lost == 0


async def _until_seen(house: House, hands: Hands) -> None:
    for _ in range(TRIES):
        if [each.seen_at for each in await known(house)] == [hands.wall]:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it is not seen")


async def test_process_that_was_taken_for_dead_learns_of_it_and_gives_way(
    empty_house: House, quiet_admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "RENEW_SECONDS", 0.02)
    heard = Heard()
    async with heard.working(empty_house):
        await quiet_admin.execute("update process set process_id = gen_random_uuid()")
        await until(lambda: heard.lost)
    assert heard.lost == 1
    assert len(await known(empty_house)) == 1  # the other's


async def test_lease_outlasts_a_database_that_is_away(
    empty_house: House, quiet_admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "RENEW_SECONDS", 0.02)
    heard = Heard()
    async with heard.working(empty_house):
        for _ in range(5):
            await quiet_admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where usename = 'cliniq_app' and datname = current_database()"
            )
            await asyncio.sleep(0.05)
        assert len(await known(empty_house)) == 1
    assert heard.lost == 0


async def test_nobody_but_the_platform_sees_processes(urls: Urls) -> None:
    connection = await asyncpg.connect(urls.application)
    try:
        for role in ("cliniq_clinic", "cliniq_person"):
            await connection.execute(f"set role {role}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("select from process")
    finally:
        await connection.close()


async def test_rivals_are_those_who_cannot_hear_me(empty_house: House) -> None:
    alone, joined = some_lease(empty_house), some_lease(empty_house, has_redis=True)
    assert rivals(alone, [joined, alone]) == [joined, alone]
    assert rivals(joined, [joined, alone]) == [alone]
    assert rivals(joined, [joined]) == []
