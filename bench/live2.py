"""The same as `live` over two processes that hear each other through Redis, against one alone."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from shutil import which

from bench.ground import free_port, fresh_ground, serving, serving_cliniq
from bench.live import measure_one_room, measure_rooms, sizes_of, town_of
from bench.report import Aim, BenchFailed, Result
from bench.rounds import Options

RATIO = 2


async def run(options: Options) -> Result:
    """Measure one process, then two: every second socket is on the one that does not write."""
    sizes = sizes_of(options)
    found = []
    for number in (1, 2):
        async with fresh_ground(options.server) as ground, AsyncExitStack() as stack:
            town = town_of(sizes)
            async with ground.connect() as connection:
                await town.build(connection)
            redis = await stack.enter_async_context(_redis(ground.folder))
            settings = {"CLINIQ_REDIS_URL": redis}
            servers = [
                await stack.enter_async_context(serving_cliniq(ground, settings))
                for _ in range(number)
            ]
            small, cost, _ = await measure_rooms(servers, town, sizes)
            found.append((small, await measure_one_room(servers, town, sizes), cost))
    (one, one_large, _), (two, two_large, cost) = found
    aims = [
        Aim("p99, rooms of 12, as a multiple", two.p99_ms / one.p99_ms, RATIO, at_most=True),
        Aim(
            f"p99, one room of {sizes.room}, as a multiple",
            two_large.p99_ms / one_large.p99_ms,
            RATIO,
            at_most=True,
        ),
    ]
    facts = {
        "sockets": sizes.sockets,
        "large_p99_ms": round(two_large.p99_ms, 1),
        "rss_kb": round(cost["rss_kb"], 1),
    }
    return Result(
        "live2",
        two.p99_ms / one.p99_ms,
        two.p99_ms,
        one.p99_ms,
        "ms",
        aims,
        two.p50_ms,
        two.p99_ms,
        facts,
    )


@asynccontextmanager
async def _redis(folder: Path) -> AsyncIterator[str]:
    """Run a Redis of the bench's own. Raises: BenchFailed where there is none to run."""
    program = which("redis-server")
    if program is None:
        raise BenchFailed("redis-server is needed, and not installed")
    port = free_port()
    command = (
        program,
        *("--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)),
    )
    journal = folder / "redis.log"
    async with serving(*command, port=port, ready=None, journal=journal, env={}):
        yield f"redis://127.0.0.1:{port}/0"
