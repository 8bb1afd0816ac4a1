"""The composition root of the background: all that may be promised, and a worker that does it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cliniq.domains.checkin import jobs as checkin_jobs
from cliniq.domains.checkin import subscribers as checkin_subscribers
from cliniq.domains.intake import jobs as intake_jobs
from cliniq.platform import duties, jobs_worker
from cliniq.platform.bus import Bus
from cliniq.platform.endings import end_all
from cliniq.platform.jobs import Registry, Tools
from cliniq.platform.jobs_depths import tell_depths
from cliniq.platform.telemetry import Metrics

REGISTRY = Registry(
    (*duties.JOBS, *checkin_jobs.JOBS, *intake_jobs.JOBS),
    checkin_subscribers.SUBSCRIPTIONS,
    duties.DUTIES,
)


@asynccontextmanager
async def working(
    tools: Tools, bus: Bus, metrics: Metrics, *, hands: int, registry: Registry = REGISTRY
) -> AsyncIterator[None]:
    """Work off jobs while the block runs, then finish what was taken.

    Bounds: `hands` transactions of jobs at once; the rest of the pool is for others.
    """
    database = tools.database
    async with jobs_worker.working(database, bus, registry, metrics, hands=hands, tools=tools):
        telling = asyncio.create_task(tell_depths(database, metrics))
        try:
            yield
        finally:
            await end_all(telling)
