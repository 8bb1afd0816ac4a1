"""What must be done now and then: partitions opened ahead, old ones and what is stale put away."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, timedelta

import structlog

from cliniq.kernel.problem import DependencyUnavailable
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import events_store, limits_store, live_store, messages, relay_store
from cliniq.platform.db import Database, open_unit
from cliniq.platform.idempotency import drop_stale_keys
from cliniq.platform.limits_durable import STALE
from cliniq.platform.partitions import detach_due

log = structlog.get_logger(__name__)

EVERY_SECONDS = 3600
TRIES = 10
PAUSE_SECONDS = 0.5  # of readers and writers, between two of our tries
EARLIEST = date(1990, 1, 1)  # for which a partition is made


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
        await messages.drop_old(unit)
    await drop_stale_keys(database)
    for name in opened:
        log.info("opened a partition", partition=name)
    return opened


async def open_months(database: Database, earliest: date, latest: date) -> list[str]:
    """Open the partitions that hold some days of clinic time; return the names of the new ones.

    A month at a time, so that nobody waits long; what a table keeps open ahead is opened behind
    the last one too. Idempotent.
    Bounds: from 1990 on.
    Raises: DEPENDENCY_UNAVAILABLE 503 where a table stays busy.
    """
    opened = []
    for first in _months(max(earliest, EARLIEST), latest):
        opened += await _open(database, first + timedelta(days=2))  # or the month before it too
    return opened


def _months(earliest: date, latest: date) -> Iterator[date]:
    """List the first days of the months from one day to another."""
    first = earliest.replace(day=1)
    while first <= latest:
        yield first
        first = (first + timedelta(days=31)).replace(day=1)


async def _open(database: Database, day: date) -> list[str]:
    for _ in range(TRIES - 1):
        with suppress(DependencyUnavailable):  # somebody holds a table; let those go who wait
            return await _try_to_open(database, day)
        await asyncio.sleep(PAUSE_SECONDS * (1 + random.random()))  # noqa: S311 - a jitter
    return await _try_to_open(database, day)


async def _try_to_open(database: Database, day: date) -> list[str]:
    async with open_unit(database, PlatformScope("partitions")) as unit:
        return await events_store.open_partitions(unit, day, unit.wall.date())
