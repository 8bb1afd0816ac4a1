"""How many jobs one worker does in a minute: promised in units, each run in a unit of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter, process_time

from bench.ground import Ground, fresh_ground
from bench.report import Aim, BenchFailed, Result
from bench.rounds import Options
from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.record import Record
from cliniq.kernel.scope import WorkScope
from cliniq.platform.bus import LocalBus
from cliniq.platform.clock import Clocks
from cliniq.platform.db import Beside, Database, Unit, open_database, open_unit
from cliniq.platform.jobs import Errand, Job, Registry, Trip, lane_waker
from cliniq.platform.jobs_worker import working
from cliniq.platform.lanes import Lane
from cliniq.platform.telemetry import Metrics

ASKED = 10_000  # jobs a minute an instance
AIM = 100_000
CLINICS = 20
HANDS = 24  # transactions at once: commits that wait for the disk together cost one wait
BATCH = 100  # jobs promised in one unit, as the relay does


class Number(Record, frozen=True):
    """Which job it is."""

    number: int


async def run(options: Options) -> Result:
    """Promise jobs and do them; then the same for errands, which need no transaction."""
    jobs = options.size(20_000, 300)
    async with fresh_ground(options.server) as ground:
        units = await _measure(ground, jobs, in_units=True)
        errands = await _measure(ground, jobs, in_units=False)
        lost = await _left(ground)
        neighbour_ms = await _neighbour(ground, options.size(10_000, 300))
    return Result(
        "jobs",
        ratio=units.a_minute / ASKED,
        ours=units.a_minute,
        yardstick=ASKED,
        unit="jobs/min",
        aims=[
            Aim("jobs a minute, promised and done", units.a_minute, AIM),
            Aim("errands a minute, promised and done", errands.a_minute, AIM),
            Aim("ms behind another clinic's ten thousand", neighbour_ms, 2000, at_most=True),
            Aim("lost", lost + units.lost + errands.lost, 0, at_most=True),
        ],
        p50_ms=units.p50_ms,
        p99_ms=units.p99_ms,
        facts={
            "jobs": jobs,
            "cpu_us_a_job": round(units.cpu_seconds * 1e6 / jobs),
            "promised_a_minute": round(units.promised_a_minute),
            "done_a_minute": round(units.done_a_minute),
            "errands_done_a_minute": round(errands.done_a_minute),
        },
    )


class Measured(Record, frozen=True):
    """What one round came to. Units: milliseconds from the last promise to a job's end."""

    jobs: int
    promise_seconds: float
    seconds: float
    cpu_seconds: float
    lost: int
    p50_ms: float
    p99_ms: float

    @property
    def a_minute(self) -> float:
        """Promised and then done, one after the other."""
        return self.jobs * 60 / (self.promise_seconds + self.seconds)

    @property
    def promised_a_minute(self) -> float:
        """Promised."""
        return self.jobs * 60 / self.promise_seconds

    @property
    def done_a_minute(self) -> float:
        """Taken and done."""
        return self.jobs * 60 / self.seconds


async def _measure(ground: Ground, jobs: int, *, in_units: bool) -> Measured:
    done: dict[int, float] = {}
    all_done = asyncio.Event()

    def note(number: int) -> None:
        if number in done:
            raise BenchFailed(f"job {number} was done twice")
        done[number] = perf_counter()
        if len(done) == jobs:
            all_done.set()

    async def in_unit(_unit: Unit, what: Number) -> None:
        note(what.number)

    async def outside(_trip: Trip, what: Number) -> None:
        note(what.number)

    job = (
        Job("bench.nothing", Lane.REMINDERS, Number, in_unit)
        if in_units
        else Errand("bench.errand", Lane.REMINDERS, Number, outside)
    )
    bus = LocalBus()
    async with _opened(ground, bus) as database:
        began = perf_counter()
        await _promise(database, job, jobs)
        promised = perf_counter()
        async with working(database, bus, Registry([job]), Metrics(), hands=HANDS):
            used = process_time()
            await asyncio.wait_for(all_done.wait(), 120)
            ended, used = perf_counter(), process_time() - used
        after = sorted(1000 * (at - promised) for at in done.values())
    return Measured(
        jobs,
        promised - began,
        ended - promised,
        used,
        jobs - len(done),
        after[len(after) // 2],
        after[len(after) * 99 // 100],
    )


@asynccontextmanager
async def _opened(ground: Ground, bus: LocalBus) -> AsyncIterator[Database]:
    async with open_database(
        ground.application, HANDS, Clocks(), Beside(wake_lane=lane_waker(bus))
    ) as database:
        yield database


async def _neighbour(ground: Ground, jobs: int) -> float:
    """Let one clinic wait with many; say how long another's job takes. Units: milliseconds."""
    begun, done = asyncio.Event(), asyncio.Event()
    busy, calm = ClinicId(new_id()), ClinicId(new_id())

    async def note(unit: Unit, _what: Number) -> None:
        begun.set()
        if unit.clinic_id == calm:
            done.set()

    job = Job("bench.neighbour", Lane.REMINDERS, Number, note)
    bus = LocalBus()
    async with _opened(ground, bus) as database:
        async with open_unit(database, WorkScope(busy, "bench")) as unit:
            for number in range(jobs):
                await job.later(unit, Number(number))
        async with working(database, bus, Registry([job]), Metrics(), hands=HANDS):
            await begun.wait()
            promised = perf_counter()
            async with open_unit(database, WorkScope(calm, "bench")) as unit:
                await job.later(unit, Number(jobs))
            await asyncio.wait_for(done.wait(), 120)
            took = perf_counter() - promised
    async with ground.connect() as connection:
        await connection.execute("delete from pgqueuer")
    return took * 1000


async def _promise(database: Database, job: "Job[Number] | Errand[Number]", jobs: int) -> None:
    clinics = [ClinicId(new_id()) for _ in range(CLINICS)]
    for first in range(0, jobs, BATCH):
        clinic = clinics[first // BATCH % CLINICS]
        async with open_unit(database, WorkScope(clinic, "bench")) as unit:
            for number in range(first, min(first + BATCH, jobs)):
                await job.later(unit, Number(number))


async def _left(ground: Ground) -> int:
    async with ground.connect() as connection:
        left: int = await connection.fetchval("select count(*) from pgqueuer")
    return left
