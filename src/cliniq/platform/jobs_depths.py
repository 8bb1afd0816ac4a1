"""How many jobs wait, run and are held: for Prometheus, and for the log of who has no port."""

import asyncio

import structlog

from cliniq.kernel.problem import DependencyUnavailable
from cliniq.kernel.scope import PlatformScope
from cliniq.platform.db import Database, open_read_unit
from cliniq.platform.jobs import lane_depths
from cliniq.platform.telemetry import Metrics

log = structlog.get_logger(__name__)

TOLD_SECONDS = 60


async def measure_jobs(database: Database, metrics: Metrics) -> None:
    """Set the gauges of jobs; without a database they are empty."""
    metrics.jobs.clear()
    metrics.job_age.clear()
    try:
        async with open_read_unit(database, PlatformScope("count jobs")) as unit:
            depths = await lane_depths(unit)
    except DependencyUnavailable:
        return
    for depth in depths:
        for state in ("waiting", "later", "running", "held"):
            metrics.jobs.labels(depth.lane, state).set(getattr(depth, state))
        metrics.job_age.labels(depth.lane).set(depth.oldest_seconds)


async def tell_depths(database: Database, metrics: Metrics) -> None:
    """Log the figures of every lane that has any, each minute until cancelled."""
    while True:
        await asyncio.sleep(TOLD_SECONDS)
        await measure_jobs(database, metrics)
        for family in (metrics.jobs, metrics.job_age, metrics.job_runs):
            for sample in (each for found in family.collect() for each in found.samples):
                if not sample.name.endswith("_created"):
                    log.info("figure", figure=sample.name, value=sample.value, **sample.labels)
