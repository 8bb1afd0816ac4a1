"""A worker in a process of its own, to be killed: `python -m tests.platform.mortal DSN PORT`."""

import asyncio
import sys
from uuid import UUID

import uvloop
from typing_extensions import override

from cliniq.platform import jobs_engine, jobs_worker
from cliniq.platform.bus import LocalBus
from cliniq.platform.clock import Clocks
from cliniq.platform.db import Unit, open_database
from cliniq.platform.events import Event, tell
from cliniq.platform.jobs import Errand, Job, Registry, Trip
from cliniq.platform.jobs_worker import working
from cliniq.platform.lanes import Lane
from cliniq.platform.telemetry import Metrics
from tests.platform.tasks import Number

SILENT_SECONDS = 1


class Counted(Event, frozen=True):
    """A job was here."""

    kind = "mortal.counted.v1"
    subject_type = "mortal"
    number: int

    @property
    @override
    def subject_id(self) -> UUID:
        return UUID(int=self.number)


async def count(unit: Unit, what: Number) -> None:
    """Leave a trace, and take a moment about it."""
    tell(unit, Counted(what.number))
    await asyncio.sleep(0.005)


async def call(trip: Trip, what: Number) -> None:
    """Tell the receiver, at the port that is the process' own, and wait until it has heard."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    writer.write(f"{trip.key}\n".encode())
    await reader.readline()
    writer.close()
    await asyncio.sleep(0.005)


COUNT = Job("mortal.count", Lane.REMINDERS, Number, count)
CALL = Errand("mortal.call", Lane.EMAIL, Number, call)


async def live() -> None:
    jobs_engine.SILENT_SECONDS = SILENT_SECONDS
    jobs_worker.SWEEP_SECONDS = 0.2
    bus, registry = LocalBus(), Registry([COUNT, CALL])
    async with (
        open_database(sys.argv[1], 4, Clocks()) as database,
        working(database, bus, registry, Metrics(), hands=4),
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(live())
