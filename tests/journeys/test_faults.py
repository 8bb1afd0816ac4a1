"""The tool that strikes: each part of an installation can be killed, and all is well again."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from tests.journeys.conftest import Note
from tests.journeys.faults import Whole, ensure_durable, is_alive, whole_installation, with_children

Parts = pytest.mark.parametrize(
    ("name", "how"),
    [
        ("server-1", signal.SIGKILL),
        ("server-2", signal.SIGKILL),
        ("postgresql", signal.SIGKILL),
        ("postgresql", signal.SIGQUIT),
        ("redis", signal.SIGKILL),
    ],
)
STRUCK = {
    "server-1": ["away", "ready"],
    "server-2": ["ready", "away"],
    "postgresql": ["unavailable", "unavailable"],
    "redis": ["degraded", "degraded"],
}


@pytest.fixture(scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Whole]:
    async with whole_installation(tmp_path_factory.mktemp("whole")) as whole:
        yield whole


@Parts
async def test_part_that_is_struck_is_missed_and_comes_back(
    whole: Whole, name: str, how: signal.Signals, note: Note
) -> None:
    part = whole.parts[name]
    await part.strike(how)
    assert await whole.readiness() == STRUCK[name]
    await part.start()
    note("once", **{f"seconds after {name}": round(await whole.recovered(), 1)})


async def test_what_was_acknowledged_is_there_after_the_cluster_was_struck(whole: Whole) -> None:
    async with whole.admin() as admin:
        await admin.execute("create table kept (number bigint primary key)")
        for number in range(100):
            await admin.execute("insert into kept values ($1)", number)
        await whole.cluster.strike()
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await admin.execute("insert into kept values (100)")
    await whole.cluster.start()
    await whole.recovered()
    async with whole.admin() as admin:
        assert await admin.fetchval("select count(*) from kept") == 100
        await admin.execute("drop table kept")


async def test_cluster_that_might_forget_is_noticed(whole: Whole) -> None:
    async with whole.admin() as admin:
        await admin.execute("alter system set synchronous_commit = off")
        await admin.execute("select pg_reload_conf()")
        try:
            with pytest.raises(AssertionError):
                await ensure_durable(whole.cluster.dsn)
        finally:
            await admin.execute("alter system reset synchronous_commit")
            await admin.execute("select pg_reload_conf()")


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    async with whole_installation(tmp_path, servers=1) as whole:
        server = whole.servers[0].served
        assert server is not None
        everybody = [*with_children(whole.cluster.pid), *with_children(server.process.pid)]
        await whole.strike_and_mend("redis")
    assert server.process.poll() == 0
    assert not [each for each in everybody if is_alive(each)]
