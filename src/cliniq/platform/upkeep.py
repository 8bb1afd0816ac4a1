"""What must be done now and then: partitions opened ahead, old ones and what is stale put away."""

import asyncio

import structlog

from cliniq.kernel.scope import PlatformScope
from cliniq.platform import events_store, limits_store, live_store, relay_store
from cliniq.platform.db import Database, open_unit
from cliniq.platform.idempotency import drop_stale_keys
from cliniq.platform.limits_durable import STALE
from cliniq.platform.partitions import detach_due

log = structlog.get_logger(__name__)

EVERY_SECONDS = 3600


async def keep_up(database: Database) -> None:
    """Do the upkeep every hour until cancelled; a failure is logged and tried again in a minute."""
    while True:
        wait = EVERY_SECONDS
        try:
            await upkeep(database)
            await detach_due(database)
        except Exception:
            log.exception("upkeep failed")
            wait = 60
        await asyncio.sleep(wait)


async def upkeep(database: Database) -> list[str]:
    """Open the partitions ahead of both clocks, drop what is stale; return new partitions.

    Idempotent: several processes may do it at once.
    """
    async with open_unit(database, PlatformScope("upkeep")) as unit:
        opened = await events_store.open_partitions(unit, unit.now.date(), unit.wall.date())
        await live_store.drop_stale_passes(unit, unit.wall)
        await relay_store.forget_dead(unit, unit.wall)
        await limits_store.drop_stale_windows(unit, unit.wall - STALE)
    await drop_stale_keys(database)
    for name in opened:
        log.info("opened a partition", partition=name)
    return opened
