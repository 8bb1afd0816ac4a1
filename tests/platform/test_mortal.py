"""Workers are killed in the middle: nothing is lost, and each effect happens once by its key."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cliniq.app import House
from cliniq.kernel.scope import WorkScope
from cliniq.platform.db import open_unit
from cliniq.platform.source import Urls
from tests.platform.mortal import CALL, COUNT
from tests.platform.tasks import Diary, Number, is_empty, until, until_true
from tests.support import Admin, SomeClinic

ROOT = Path(__file__).parents[2]
JOBS = 200
DEATHS = 3


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


async def test_killed_workers_lose_nothing_and_do_nothing_twice(
    house: House, clinic: SomeClinic, admin: Admin, urls: Urls, diary: Diary
) -> None:
    async with open_unit(house.entrance.database, WorkScope(clinic.clinic_id, "test")) as unit:
        for number in range(JOBS):
            await COUNT.later(unit, Number(number))
            await CALL.later(unit, Number(number))
    async with receiver() as (port, heard):
        for death in range(DEATHS):
            async with mortal(urls, port):
                await until(lambda far=20 * (death + 1): len(heard) >= far)  # type: ignore[misc]
        assert not await is_empty(admin)
        async with mortal(urls, port):
            await until_true(lambda: is_empty(admin))
    assert len(heard) == JOBS  # by key; some heard twice, as whoever dies on the way must
    counted = await admin.fetch(
        "select entity_id, count(*) from audit where clinic_id = $1 and action = $2 group by 1",
        clinic.clinic_id,
        "mortal.counted.v1",
    )
    assert len(counted) == JOBS
    assert {row["count"] for row in counted} == {1}
