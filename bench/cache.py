"""How fast the cache is read: from memory and from the shelf, against Redis' own client."""

import asyncio
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from statistics import median, quantiles
from time import monotonic, perf_counter
from typing import Any, cast
from uuid import UUID

from bench.ground import free_port
from bench.report import Aim, BenchFailed, Result
from bench.rounds import Options
from cliniq.domains.clinics.models import QueueMode, Site
from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.scope import GuestScope
from cliniq.platform.cache import Cache
from cliniq.platform.cache_shelf import Shelf
from cliniq.platform.cached import Cached, cached
from cliniq.platform.clock import Clocks
from cliniq.platform.db import Beside, Database, ReadUnit

FROM_MEMORY, FROM_SHELF = 20.0, 0.5
CLIENTS = 50  # as many as redis-benchmark has
KEYS = 1000
READY_SECONDS = 10


async def load(_unit: ReadUnit, _subject: UUID) -> list[Site]:
    """Read a clinic's sites, as the database would give them."""
    names = ("North", "South", "Harbour")
    return [
        Site(new_id(), name, "Europe/Vienna", "Quay Street 7", None, QueueMode.POOL)
        for name in names
    ]


SITES = Cached("bench-sites", list[Site], load)


async def run(options: Options) -> Result:
    """Measure in turns; all on one Redis of the bench's own."""
    rounds, times = options.size(5, 1), options.size(50_000, 2_000)
    memory: list[float] = []
    shelf: list[float] = []
    yardstick: list[float] = []
    waits: list[float] = []
    async with (
        _redis() as port,
        _unit(f"redis://127.0.0.1:{port}", most=KEYS) as near,
        _unit(f"redis://127.0.0.1:{port}", most=0) as far,
    ):
        subjects = [new_id() for _ in range(KEYS)]
        for subject in subjects:
            await cached(far, SITES, subject)  # and so it lies on the shelf
        for _ in range(rounds):
            memory.append(await _read_near(near, subjects[0], times * 5))
            shelf.append(await _read_far(far, subjects, times // CLIENTS, waits))
            yardstick.append(await _benchmark(port, times))
        _ensure_found(far)
    from_memory = median(a / b for a, b in zip(memory, yardstick, strict=True))
    from_shelf = median(a / b for a, b in zip(shelf, yardstick, strict=True))
    cuts = quantiles(waits, n=100)
    return Result(
        "cache",
        from_shelf,
        median(shelf),
        median(yardstick),
        "gets/s",
        [
            Aim("from the shelf : GET", from_shelf, FROM_SHELF),
            Aim("from memory : GET", from_memory, FROM_MEMORY),
        ],
        cuts[49] * 1000,
        cuts[98] * 1000,
        {"memory": round(median(memory)), "clients": CLIENTS, "rounds": rounds},
    )


@asynccontextmanager
async def _unit(url: str, most: int) -> AsyncIterator[ReadUnit]:
    """Give a guest's unit beside a cache; it has no database, so only the cache can answer it."""
    cache, nowhere = Cache(Shelf(url), most=most), cast("Any", None)
    database = Database(nowhere, nowhere, nowhere, Clocks(), Beside(cache=cache))
    yield ReadUnit(nowhere, GuestScope(ClinicId(new_id())), database, "", monotonic())
    shelf = cache._shelf  # noqa: SLF001 - nothing was ever to be told on a bus
    if shelf is not None:
        await shelf.close()


async def _read_near(unit: ReadUnit, subject: UUID, times: int) -> float:
    """Read one thing from memory, again and again. Units: reads a second."""
    await cached(unit, SITES, subject)
    began = perf_counter()
    for _ in range(times):
        await cached(unit, SITES, subject)
    return times / (perf_counter() - began)


async def _read_far(
    unit: ReadUnit, subjects: Sequence[UUID], times: int, waits: list[float]
) -> float:
    """Read from the shelf as many clients at once, each another thing."""

    async def client(number: int) -> None:
        for turn in range(times):
            asked = perf_counter()
            await cached(unit, SITES, subjects[(number * 17 + turn) % KEYS])
            waits.append(perf_counter() - asked)

    began = perf_counter()
    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return CLIENTS * times / (perf_counter() - began)


def _ensure_found(unit: ReadUnit) -> None:
    """Refuse figures of reads that found nothing. Raises: BenchFailed."""
    counts = cast("Cache", unit.database.beside.cache).counts()
    if counts["shelf_failed"] or counts["loaded"] > KEYS * 1.1 or counts["memory"]:
        raise BenchFailed(f"not everything came from the shelf: {counts}")


async def _benchmark(port: int, times: int) -> float:
    """Let Redis' own client measure GET. Units: requests a second."""
    asked = ("-p", str(port), "-t", "get", "-n", str(times), "-c", str(CLIENTS), "-q")
    process = await asyncio.create_subprocess_exec(
        _program("redis-benchmark"), *asked, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    found = re.findall(rb"GET: ([0-9.]+) requests per second", said)
    if process.returncode or not found:
        raise BenchFailed(f"redis-benchmark says {said[-200:]!r}")
    return float(found[-1])


@asynccontextmanager
async def _redis() -> AsyncIterator[int]:
    """Run a Redis that keeps nothing, for as long as the bench lasts. Raises: BenchFailed."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="cliniq-bench-") as folder:
        asked = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        process = await asyncio.create_subprocess_exec(
            _program("redis-server"),
            *asked,
            "--dir",
            folder,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            await _ready(port)
            yield port
        finally:
            process.kill()
            await process.wait()


async def _ready(port: int) -> None:
    began = perf_counter()
    while perf_counter() - began < READY_SECONDS:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
    raise BenchFailed("redis-server does not get ready")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BenchFailed(f"{name} is not installed: the cache cannot be measured without it")
    return found
