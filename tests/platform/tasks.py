"""Jobs of the tests' own, and a worker for them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cliniq.app import House
from cliniq.kernel.record import Record
from cliniq.platform.db import Unit
from cliniq.platform.jobs import AnyPromise, Job, Registry
from cliniq.platform.jobs_worker import Worker, working
from cliniq.platform.lanes import Lane
from cliniq.platform.telemetry import Metrics
from tests.support import Admin

PATIENCE_SECONDS = 30


class Number(Record, frozen=True):
    """A payload."""

    number: int


@dataclass
class Diary:
    """What was done, in order."""

    lines: list[object] = field(default_factory=list)

    def write(self, line: object) -> None:
        self.lines.append(line)

    async def until(self, many: int) -> list[object]:
        """Wait until as many lines are written."""
        await until(lambda: len(self.lines) >= many)
        return self.lines


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():  # noqa: ASYNC110 - whoever writes knows of nobody who waits
            await asyncio.sleep(0.01)


async def until_true(is_so: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await is_so():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)


@asynccontextmanager
async def worker_of(
    house: House,
    *jobs: AnyPromise,
    registry: Registry | None = None,
    hands: int = 4,
    grace: float = 10,
) -> AsyncIterator[Worker]:
    entrance = house.entrance
    async with working(
        entrance.database,
        entrance.bus,
        registry or Registry(jobs),
        Metrics(),
        hands=hands,
        grace=grace,
    ) as worker:
        yield worker


def writer(diary: Diary, lane: Lane = Lane.REMINDERS) -> Job[Number]:
    async def write(unit: Unit, what: Number) -> None:
        diary.write((what.number, unit.scope))

    return Job("test.write", lane, Number, write)


async def states(admin: Admin) -> list[str]:
    return [row[0] for row in await admin.fetch("select status::text from pgqueuer order by id")]


async def failures(admin: Admin, many: int) -> None:
    """Wait until so many jobs are held."""

    async def are_held() -> bool:
        held = "select count(*) from pgqueuer where status = 'failed'"
        return bool(await admin.fetchval(held) == many)

    await until_true(are_held)


async def is_empty(admin: Admin) -> bool:
    return await states(admin) == []
