"""`cliniq simulate`: a clinic's day, played through the public API, and what came of it."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, date, datetime, time
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from cliniq.app import House, open_house
from cliniq.kernel.record import Record
from cliniq.platform.clock import Clocks, Dial
from cliniq.platform.migrate import migrate
from cliniq.platform.rehearsal import ensure_rehearsal, mark
from cliniq.platform.settings import Settings, SettingsRefused, load_settings, master_secret
from cliniq.platform.source import database_urls, owner_of
from cliniq.platform.telemetry import configure_logs
from cliniq.simulation import town
from cliniq.simulation.cast import list_companies
from cliniq.simulation.play import Play, Summary
from cliniq.simulation.server import own_server
from cliniq.simulation.wire import Wire

POOL_SIZE = 2
CONNECTIONS = 40
TODAY = time(5)  # of the day that is played, when everybody is cast


class Wanted(Record, frozen=True):
    """What is to be played."""

    day: date | None
    server: str | None
    speed: float
    seed: int
    people: int
    fresh: bool
    as_json: bool


async def simulate(wanted: Wanted) -> None:
    """Play a day and print what came of it, as one JSON object on the last line.

    Exit code 1 where anything was lost, doubled, stuck, or shown differently.
    Raises: SettingsRefused, ServerRefused, ServerGone, RealInstallation, EmbeddedDatabaseRefused.
    """
    configure_logs("error")
    async with AsyncExitStack() as stack:
        settings = load_settings()
        if wanted.fresh:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="cliniq-play-")))
            settings = settings.model_copy(update={"data_dir": folder, "database_url": None})
        summary = await _play(stack, settings, wanted)
    if not wanted.as_json:
        for words in summary.wrong:
            Console(stderr=True).print(words, markup=False, highlight=False)
    print(msgspec.json.encode(summary).decode())  # noqa: T201 - the result
    if not summary.is_clean:
        sys.exit(1)


async def _play(stack: AsyncExitStack, settings: Settings, wanted: Wanted) -> Summary:
    enter = stack.enter_async_context
    urls = await enter(database_urls(settings))
    day = wanted.day or date(2026, 3, 2)
    if wanted.server is None:
        await migrate(owner_of(urls), Clocks())
        if wanted.fresh:
            await mark(owner_of(urls))
    dial = _dial(settings, wanted, day)
    clocks = Clocks(clinic=dial.read)
    secret = master_secret(settings)
    house = await enter(
        open_house(urls.application, secret, POOL_SIZE, clocks, settings.backends, None)
    )
    await ensure_rehearsal(house.entrance.database)
    if wanted.server is not None:
        return await _perform(house, wanted, day, dial, wanted.server)
    told = {
        "CLINIQ_CLINIC_CLOCK": str(dial.path),
        "CLINIQ_DATA_DIR": str(settings.data_dir),
        "CLINIQ_LOG_LEVEL": "warning",
    }
    journal = settings.data_dir / "server.log"
    server = await enter(own_server(told, journal))
    if wanted.fresh:
        await town.build(house, day, wanted.people, wanted.seed)
    return await _perform(house, wanted, day, dial, server.address)


def _dial(settings: Settings, wanted: Wanted, day: date) -> Dial:
    """Take the dial that the server reads, or make one for a server of the play's own."""
    at = datetime.combine(day, TODAY, UTC)
    if wanted.server is None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        return Dial.make(settings.data_dir / "clinic-clock", at, 0)
    if settings.clinic_clock is None:
        raise SettingsRefused(
            "CLINIQ_CLINIC_CLOCK is missing: the play turns the clock that the server reads."
        )
    dial = Dial(settings.clinic_clock)
    dial.turn(at, 0)
    return dial


async def _perform(house: House, wanted: Wanted, day: date, dial: Dial, address: str) -> Summary:
    companies = await list_companies(house, day)
    if not companies:
        raise SettingsRefused(f"Nobody has a visit on {day}: there is nothing to play.")
    async with _wire(house, address) as wire:
        play = Play(companies, wire, wanted.seed, day)
        console = Console(stderr=True)
        if wanted.as_json or not console.is_terminal:
            return await play.perform(dial, wanted.speed)
        with Live(console=console, refresh_per_second=8, transient=False) as live:
            return await play.perform(dial, wanted.speed, lambda play: live.update(draw(play)))


@asynccontextmanager
async def _wire(house: House, address: str) -> AsyncIterator[Wire]:
    wire = Wire(address, house.desk, CONNECTIONS)
    try:
        yield wire
    finally:
        await wire.close()


def draw(play: Play) -> Table:
    """Draw where every clinic is."""
    columns = "clinic time waiting called seen done no-show refused wrong".split()
    table = Table(*columns, title=f"{play.day}: {len(play.wire.waits):,} requests")
    for each in play.days:
        lines, counts = each.ledger.lines.values(), each.ledger.counts
        wrong = sum(counts[name] for name in ("lost", "doubled", "stuck", "astray"))
        figures = (
            sum(len(line.waiting) for line in lines),
            sum(len(line.called) for line in lines),
            sum(len(line.begun) for line in lines),
            counts["completed"],
            counts["no_show"],
            sum(each.ledger.refused.values()),
            wrong,
        )
        local = each.now.astimezone(each.midnight.tzinfo).strftime("%H:%M:%S")
        table.add_row(each.company.name, local, *map(str, figures))
    return table
