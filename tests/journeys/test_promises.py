"""What is promised is done: whoever is killed, and however many others have promised before."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest

from cliniq.app import House
from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.scope import WorkScope
from cliniq.platform.db import Unit, open_unit
from cliniq.platform.jobs import Job
from cliniq.platform.jobs_worker import MOST_AT_ONCE
from cliniq.platform.lanes import Lane
from cliniq.platform.source import Urls
from tests.journeys import sizes
from tests.journeys.conftest import Note
from tests.platform.mortal import CALL, COUNT
from tests.platform.tasks import Number, is_empty, until, until_true, worker_of
from tests.support import Admin, SomeClinic

ROOT = Path(__file__).parents[2]
BOUND_SECONDS = 120
REMINDERS = 10_000
HANDS = 8


@asynccontextmanager
async def receiver() -> AsyncIterator[tuple[int, Counter[str]]]:
    """Somebody outside who writes down each key that is told."""
    heard: Counter[str] = Counter()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if line := await reader.readline():
            heard[line.decode().strip()] += 1
            writer.write(b"heard\n")
        writer.close()

    server = await asyncio.start_server(hear, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


@asynccontextmanager
async def mortal(urls: Urls, port: int) -> AsyncIterator["asyncio.subprocess.Process"]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.platform.mortal",
        urls.application,
        str(port),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},  # noqa: TID251 - a child of the tests
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


@pytest.fixture
async def nothing_promised(admin: Admin) -> AsyncIterator[None]:
    clear = "delete from pgqueuer; delete from pgqueuer_log; delete from job_tick"
    await admin.execute(clear)
    yield
    await admin.execute(clear)


@pytest.mark.usefixtures("nothing_promised")
async def test_killed_workers_lose_nothing_and_do_nothing_twice(
    house: House, clinic: SomeClinic, admin: Admin, urls: Urls, note: Note
) -> None:
    async with open_unit(house.entrance.database, WorkScope(clinic.clinic_id, "test")) as unit:
        for number in range(sizes.JOBS):
            await COUNT.later(unit, Number(number))
        for number in range(sizes.ERRANDS):
            await CALL.later(unit, Number(number))
    each_life = sizes.ERRANDS // (2 * sizes.DEATHS)
    async with receiver() as (port, heard):
        for death in range(sizes.DEATHS):
            async with mortal(urls, port):
                await until(lambda far=each_life * (death + 1): len(heard) >= far)  # type: ignore[misc]
        assert not await is_empty(admin)
        async with mortal(urls, port):
            await until_true(lambda: is_empty(admin))
    assert len(heard) == sizes.ERRANDS  # by key; some heard twice, as whoever dies on the way must
    counted = await admin.fetch(
        "select entity_id, count(*) from audit where clinic_id = $1 and action = $2 group by 1",
        clinic.clinic_id,
        "mortal.counted.v1",
    )
    assert len(counted) == sizes.JOBS
    assert {row["count"] for row in counted} == {1}
    note(
        f"{sizes.DEATHS} kill -9, {sizes.JOBS:,} jobs, {sizes.ERRANDS:,} errands",
        done=len(counted),
        done_twice=0,
        told=len(heard),
        told_again=heard.total() - len(heard),
        lost=0,
    )


@pytest.mark.usefixtures("nothing_promised")
async def test_ten_thousand_reminders_of_a_clinic_do_not_stand_before_one_of_another(
    house: House, note: Note
) -> None:
    busy, calm = ClinicId(new_id()), ClinicId(new_id())
    done: Counter[ClinicId] = Counter()
    begun, is_done = asyncio.Event(), asyncio.Event()

    async def remind(unit: Unit, _what: Number) -> None:
        done[unit.clinic_id] += 1
        begun.set()
        if unit.clinic_id == calm:
            is_done.set()

    job = Job("test.remind", Lane.REMINDERS, Number, remind)

    async def promise(clinic: ClinicId, many: int) -> None:
        async with open_unit(house.entrance.database, WorkScope(clinic, "test")) as unit:
            for number in range(many):
                await job.later(unit, Number(number))

    await promise(busy, REMINDERS)
    async with asyncio.timeout(BOUND_SECONDS), worker_of(house, job, hands=HANDS):
        await begun.wait()
        began = monotonic()
        await promise(calm, 1)
        before = done[busy]
        await is_done.wait()
        seconds, passed = monotonic() - began, done[busy] - before
    assert passed <= MOST_AT_ONCE, "as many as were taken already"
    note(
        f"{REMINDERS:,} reminders of one clinic, 1 of another",
        that_went_before=passed,
        seconds_of_delay=round(seconds, 2),
    )
