"""What the installation owes itself, and when: jobs of lane `upkeep`, by the clock."""

from datetime import timedelta

from cliniq.platform import events_store, jobs_store, live_store
from cliniq.platform.archive import Archive
from cliniq.platform.db import Unit
from cliniq.platform.jobs import Duty, Errand, Job, Tick, Trip
from cliniq.platform.lanes import Lane
from cliniq.platform.partitions import archive_detached

PIECE = 5000  # runs that are forgotten by one statement
REMEMBERED = timedelta(days=30)  # what became of runs, and how far jobs had come


async def open_partitions(unit: Unit, _tick: Tick) -> None:
    """Open the partitions ahead of both clocks. Idempotent."""
    await events_store.open_partitions(unit, unit.now.date(), unit.wall.date())


async def drop_stale_passes(unit: Unit, _tick: Tick) -> None:
    """Forget passes for the live socket that nobody used."""
    await live_store.drop_stale_passes(unit, unit.wall)


async def tidy_jobs(unit: Unit, _tick: Tick) -> None:
    """Forget old runs and progress, in pieces that each take little time."""
    before = unit.wall - REMEMBERED
    while await jobs_store.forget_runs(unit, before, PIECE):
        pass
    await jobs_store.forget_progress(unit, before)


async def wind_back(unit: Unit, _tick: Tick) -> None:
    """Count turns anew where nobody waits.

    Raises: DEPENDENCY_UNAVAILABLE 503 where turns are being taken all the time: it is tried again.
    """
    await jobs_store.wind_back(unit)


async def archive_partitions(trip: Trip, _tick: Tick) -> None:
    """Archive, verify and drop what was detached because its time has come. Idempotent.

    Raises: ArchiveDiffers, DEPENDENCY_UNAVAILABLE 503; the partition stays, and is tried again.
    """
    await archive_detached(trip.tools.database, Archive(trip.tools.storage))


PARTITIONS = Job("upkeep.partitions", Lane.UPKEEP, Tick, open_partitions)
PASSES = Job("upkeep.passes", Lane.UPKEEP, Tick, drop_stale_passes)
TIDINESS = Job("upkeep.jobs", Lane.UPKEEP, Tick, tidy_jobs)

TURNS = Job("upkeep.turns", Lane.UPKEEP, Tick, wind_back)
ARCHIVES = Errand("upkeep.archives", Lane.EXPORTS, Tick, archive_partitions)

JOBS = (PARTITIONS, PASSES, TIDINESS, TURNS, ARCHIVES)
DUTIES = (
    Duty("7 * * * *", PARTITIONS),
    Duty("*/10 * * * *", PASSES),
    Duty("37 * * * *", TIDINESS),
    Duty("47 * * * *", TURNS),
    Duty("23 2 * * *", ARCHIVES),
)
