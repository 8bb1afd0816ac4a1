"""The machine of the queue over sockets: one process is asked, another followed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from typing_extensions import override

from cliniq.app import House
from cliniq.domains.queue.http import queue_topic
from cliniq.platform.clock import utc_now
from cliniq.platform.source import Urls
from tests.domains.queue.machine import Known, Stage, play
from tests.domains.sizes import seeded
from tests.journeys import sizes
from tests.journeys.conftest import Note, zone_at_noon
from tests.journeys.crowd import Answer, Ask
from tests.journeys.doors import Doors
from tests.journeys.follower import Follower
from tests.journeys.served import Served
from tests.journeys.test_together import installed
from tests.platform.chance import STEADY
from tests.support import SomeClinic, found_clinic

PLAYED = settings(
    STEADY,
    max_examples=sizes.DAYS,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
PATIENCE_SECONDS = 20


@pytest.fixture(scope="module")
async def pair(
    urls: Urls, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[Served]]:
    """Two processes at one database and one Redis."""
    folder: Path = tmp_path_factory.mktemp("pair")
    with_redis = {"CLINIQ_REDIS_URL": redis_url, "CLINIQ_RATE_SCALE": "1000"}
    one, other = [installed(folder / name, urls, **with_redis) for name in ("one", "other")]
    async with one.running("serve") as first, other.running("serve") as second:
        yield [first, second]


class Apart(Stage):
    """Two processes: one is asked, and the board is kept by a socket of the other."""

    def __init__(self, house: House, asked: Served, followed: Served) -> None:
        self.now = utc_now()
        self._house = house
        self._doors = Doors([asked.port], seeded())
        self._followed = followed

    @property
    def heard(self) -> Counter[str]:
        """Count what the follower heard."""
        return self._follower.counts

    @override
    async def found(self) -> SomeClinic:
        return await found_clinic(self._house, zone_at_noon())

    @override
    async def ask(self, ask: Ask) -> Answer:
        return await self._doors.ask(ask)

    @override
    async def follow(self) -> None:
        headers = self.clinic.acting(self.clinic.doctor)
        self._follower = Follower([self._followed.port], headers, str(self.queue_id), seeded())
        self._task = asyncio.create_task(self._follower.follow())

    @override
    async def known(self, version: int) -> Known:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while self._follower.version < version:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
        assert not self._follower.astray
        return self._follower.known

    @override
    async def close(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        assert self._follower.counts["snapshot"] == 1, "all else came as events"


async def test_events_over_another_process_give_the_fresh_board(
    pair: list[Served], real_house: House, note: Note
) -> None:
    stages: list[Apart] = []

    def new_stage() -> Stage:
        asked, followed = pair if len(stages) % 2 else reversed(pair)
        stages.append(Apart(real_house, asked, followed))
        return stages[-1]

    await play(new_stage, PLAYED)
    heard = sum((each.heard for each in stages), Counter[str]())
    told = {each.kind: heard[each.kind] for each in queue_topic.tells}
    assert all(told.values()), told
    note(f"{len(stages)} days of up to 40 steps", **told, boards_that_differed=0)
