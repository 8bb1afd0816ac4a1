"""Working off jobs: one process, or a crew that grows and shrinks with what waits in the lanes."""

import asyncio
import socket
import sys
from collections.abc import Mapping
from signal import SIGINT, SIGTERM, raise_signal

from cliniq.app import House, open_house, tools_of
from cliniq.cli.crews import keep_workers
from cliniq.cli.server import CREW_SECONDS, REFUSED, StartRefused, announce
from cliniq.kernel.scope import PlatformScope
from cliniq.platform.clock import Clocks
from cliniq.platform.db import Database, open_database, open_read_unit
from cliniq.platform.health import complaints
from cliniq.platform.jobs import lane_depths
from cliniq.platform.jobs_depths import measure_jobs
from cliniq.platform.line import Line
from cliniq.platform.memory import settle
from cliniq.platform.processes import at_work
from cliniq.platform.rehearsal import ensure_rehearsal, load_clocks
from cliniq.platform.settings import Settings, load_settings, master_secret
from cliniq.platform.source import database_urls
from cliniq.platform.staffing import Bounds
from cliniq.platform.telemetry import configure_logs
from cliniq.platform.traces import configure_traces
from cliniq.worker import working

DOING_SECONDS = 30  # for what was taken; see `jobs_worker.GRACE_SECONDS`


async def work_alone() -> None:
    """Work off jobs until told to stop; then finish what was taken.

    Raises: SettingsRefused, EmbeddedDatabaseRefused, LeaseRefused, StartRefused.
    """
    await _work(None)


async def work_as_member(line: int) -> None:
    """Work as one of a crew, whose supervisor is at the other end of the line.

    Raises: SettingsRefused, EmbeddedDatabaseRefused, LeaseRefused, StartRefused.
    """
    with socket.socket(fileno=line) as end:
        await _work(end)


async def work_together(bounds: Bounds, metrics_port: int | None) -> None:
    """Keep as many workers as the lanes need, within bounds.

    Raises: SettingsRefused, EmbeddedDatabaseRefused, StartRefused, CrewFailed.
    """
    settings = load_settings()
    configure_logs(settings.log_level)
    if bounds.most > 1 and settings.redis_url is None:
        raise StartRefused(
            f"Up to {bounds.most} processes need Redis between them: set CLINIQ_REDIS_URL."
        )
    master_secret(settings)  # made once, before several look for it

    def words(line: int) -> list[str]:
        return [sys.executable, "-m", "cliniq.cli.main", "work-member", str(line)]

    pooler = settings.backends.pooler
    async with (
        database_urls(settings) as urls,
        open_database(urls.application, 1, Clocks(), pooler=pooler) as database,
    ):
        await keep_workers(
            words,
            bounds,
            lambda: _waiting(database),
            patience=CREW_SECONDS + DOING_SECONDS,
            metrics_port=metrics_port,
            refused=REFUSED,
        )


async def _waiting(database: Database) -> Mapping[str, int]:
    async with open_read_unit(database, PlatformScope("count jobs")) as unit:
        return {depth.lane: depth.waiting for depth in await lane_depths(unit)}


async def _work(end: socket.socket | None) -> None:
    settings = load_settings()
    configure_logs(settings.log_level)
    stopped = asyncio.Event()
    for each in (SIGINT, SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stopped.set)
    with configure_traces(settings.otlp_url, "worker"):
        async with database_urls(settings) as urls:
            if wrong := await complaints(urls.application):
                raise StartRefused(wrong[0])
            await _do(settings, urls.application, end, stopped)


async def _do(
    settings: Settings, dsn: str, end: socket.socket | None, stopped: asyncio.Event
) -> None:
    clocks = load_clocks(settings)
    async with (
        open_house(
            dsn, master_secret(settings), settings.pool_size, clocks, settings.backends
        ) as house,
        at_work(
            house.entrance.database,
            "worker",
            has_redis=settings.redis_url is not None,
            lost=lambda: raise_signal(SIGTERM),
            say=announce,
        ),
        house.relay.running(),
        working(
            tools_of(house, settings.address),
            house.entrance.bus,
            house.metrics,
            hands=settings.pool_size,
        ),
    ):
        if settings.clinic_clock is not None:
            await ensure_rehearsal(house.entrance.database)
        settle()
        if end is None:
            announce("Cliniq works off jobs")
            await stopped.wait()
        else:
            await _on_line(end, house, stopped)


async def _on_line(end: socket.socket, house: House, stopped: asyncio.Event) -> None:
    """Say that we work, tell metrics, and go when told to or when the supervisor has gone."""

    async def tell() -> bytes:
        await measure_jobs(house.entrance.database, house.metrics)
        return house.metrics.exposition()

    line = await Line.over(end, tell)
    line.say_ready()
    ways = [asyncio.ensure_future(each) for each in (line.ended(), stopped.wait())]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in ways:
            each.cancel()
        await line.close()
