"""What a process does, and must not do, while something that it leans on is away."""

import asyncio

import asyncpg
import pytest
from structlog.testing import capture_logs

from cliniq.app import House
from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import DependencyUnavailable, NotFound, Problem
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import bus, jobs_engine, jobs_store, live, redis_bus
from cliniq.platform.backends import Backends
from cliniq.platform.db import open_unit
from cliniq.platform.jobs import Registry
from cliniq.platform.lanes import Lane
from cliniq.platform.live import Connection, Hub, Known, Snapshot
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.platform.tasks import Diary, Number, states, until_true, worker_of, writer
from tests.platform.test_unit import client_of
from tests.redis_server import own_redis
from tests.support import Admin, Hands, SomeClinic, found_clinic


async def test_house_opens_and_serves_while_redis_is_away_and_hears_once_it_is_back(
    urls: Urls, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_bus, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(bus, "LATER_SECONDS", 0.05)
    with own_redis() as redis:
        redis.stop()
        backends = Backends(redis_url=redis.url)
        async with house_of(urls, backends=backends) as house, client_of(house) as client:
            clinic = await found_clinic(house)
            someone, _, _ = await clinic.visit()
            assert (await clinic.scan(client, someone)).status_code == 200
            watcher = Connection(new_id())
            house.entrance.hub.join(watcher)
            await asyncio.to_thread(redis.start)
            async with house_of(urls, backends=backends) as other:
                async with asyncio.timeout(30):
                    while not watcher.is_over:
                        other.entrance.hub.end_session(watcher.session_id)
                        await asyncio.sleep(0.05)


async def test_house_relays_nothing_before_its_root_says_so(
    own_urls: Urls, own_admin: Admin, hands: Hands
) -> None:
    async with house_of(own_urls) as house:
        await house.relay.drain()
        await house.relay.leave()
        assert await own_admin.fetchval("select count(*) from relay") == 0
        async with house.relay.running():
            await until_true(lambda: own_admin.fetchval("select count(*) = 1 from relay"))


async def test_epoch_that_cannot_be_read_once_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "EPOCH_SECONDS", 0.01)
    answers: list[str | Exception] = ["one", RuntimeError("recovery is in progress"), "two"]

    async def read() -> str:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    hub = Hub()
    with capture_logs():
        await hub.open(read)
        async with asyncio.timeout(10):
            while hub.epoch != "two":  # noqa: ASYNC110 - it tells its watchers, and there are none
                await asyncio.sleep(0.01)
    hub.close()


async def test_topic_of_which_all_were_refused_leaves_nothing_behind() -> None:
    hub, connection = Hub(), Connection(new_id())
    hub.join(connection)

    async def refuse(_known: Known | None) -> Snapshot:
        raise NotFound

    for number in range(5):
        with pytest.raises(Problem):
            await hub.subscribe(connection, f"clinic/queue:{number}", refuse)
    assert hub._topics == {}  # noqa: SLF001 - nothing else tells what it keeps
    hub.close()


async def test_server_that_takes_no_writes_is_one_that_does_not_serve(house: House) -> None:
    with capture_logs(), pytest.raises(DependencyUnavailable):
        async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
            await unit.connection.execute("set local transaction_read_only = on")
            await unit.connection.execute("delete from live_pass")


async def test_room_that_the_disk_lacks_is_no_fault_of_the_statement(house: House) -> None:
    with capture_logs(), pytest.raises(DependencyUnavailable):
        async with open_unit(house.entrance.database, PlatformScope("test")):
            raise asyncpg.DiskFullError


async def test_job_that_this_release_does_not_know_waits_for_one_that_does(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary
) -> None:
    job = writer(diary)
    async with clinic.unit() as unit:
        await job.later(unit, Number(1))
    with capture_logs() as journal:
        async with worker_of(house, registry=Registry(())):

            async def is_put_back() -> bool:
                unknown = any(each["event"] == "a job is unknown here" for each in journal)
                return unknown and await states(admin) == ["queued"]

            await until_true(is_put_back)
    await admin.execute("update pgqueuer set execute_after = now()")
    async with worker_of(house, job):
        await diary.until(1)


async def test_jobs_are_not_taken_from_the_living_right_after_an_outage(
    house: House, clinic: SomeClinic, admin: Admin, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_engine, "SILENT_SECONDS", 3600)
    async with clinic.unit() as unit:
        await writer(diary).later(unit, Number(1))
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        assert await jobs_store.take(unit, [Lane.REMINDERS], [9], [0], new_id()) != []
    async with worker_of(house, writer(diary)) as worker:
        worker.note_trouble()
        await admin.execute("update pgqueuer set heartbeat = now() - interval '2 hours'")
        await worker.sweep()
        assert await states(admin) == ["picked"]
        monkeypatch.setattr(worker, "_trouble_at", float("-inf"))
        await worker.sweep()
        await diary.until(1)
