"""The composition root of the background: all that may be promised, and a worker that does it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from cliniq.platform import duties, jobs_worker
from cliniq.platform.bus import Bus
from cliniq.platform.db import Database
from cliniq.platform.jobs import Registry
from cliniq.platform.jobs_depths import tell_depths
from cliniq.platform.telemetry import Metrics

# Rooms add their `jobs.JOBS` and `subscribers.SUBSCRIPTIONS` here.
REGISTRY = Registry(duties.JOBS, duties=duties.DUTIES)


@asynccontextmanager
async def working(
    database: Database, bus: Bus, metrics: Metrics, *, hands: int, registry: Registry = REGISTRY
) -> AsyncIterator[None]:
    """Work off jobs while the block runs, then finish what was taken.

    Bounds: `hands` transactions of jobs at once; the rest of the pool is for others.
    """
    async with jobs_worker.working(database, bus, registry, metrics, hands=hands):
        telling = asyncio.create_task(tell_depths(database, metrics))
        try:
            yield
        finally:
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling
