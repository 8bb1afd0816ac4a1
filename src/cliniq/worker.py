"""The composition root of the background: all that may be promised, and a worker that does it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from cliniq.kernel.problem import DependencyUnavailable
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import duties, jobs_worker
from cliniq.platform.bus import Bus
from cliniq.platform.db import Database, open_read_unit
from cliniq.platform.jobs import Registry, lane_depths
from cliniq.platform.telemetry import Metrics

log = structlog.get_logger(__name__)

REGISTRY = Registry([*duties.JOBS], [], duties.DUTIES)

TOLD_SECONDS = 60


@asynccontextmanager
async def working(
    database: Database, bus: Bus, metrics: Metrics, *, hands: int, registry: Registry = REGISTRY
) -> AsyncIterator[None]:
    """Work off jobs while the block runs; then finish what was taken."""
    async with jobs_worker.working(database, bus, registry, metrics, hands=hands):
        yield


async def tell_depths(database: Database) -> None:
    """Log how many jobs wait, run and are held, every minute until cancelled."""
    while True:
        await asyncio.sleep(TOLD_SECONDS)
        try:
            async with open_read_unit(database, PlatformScope("count jobs")) as unit:
                for depth in await lane_depths(unit):
                    log.info(
                        "jobs",
                        lane=depth.lane,
                        waiting=depth.waiting,
                        later=depth.later,
                        running=depth.running,
                        held=depth.held,
                        oldest_seconds=depth.oldest_seconds,
                    )
        except DependencyUnavailable:
            continue
