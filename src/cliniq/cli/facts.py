"""`cliniq facts`: what could not be passed on, and its release."""

import typer
from rich.console import Console
from rich.table import Table

from cliniq.kernel.scope import PlatformScope
from cliniq.platform import events_store
from cliniq.platform.clock import Clocks
from cliniq.platform.db import open_database, open_read_unit, open_unit
from cliniq.platform.settings import load_settings
from cliniq.platform.source import database_urls
from cliniq.platform.telemetry import configure_logs

SCOPE = PlatformScope("facts that are held")
MOST_SHOWN = 100


async def show_held(console: Console) -> None:
    """Print the facts that are held, oldest first."""
    settings = load_settings()
    configure_logs(settings.log_level)
    async with (
        database_urls(settings) as urls,
        open_database(urls.application, 1, Clocks()) as database,
        open_read_unit(database, SCOPE) as unit,
    ):
        held = await events_store.list_held(unit, MOST_SHOWN)
    table = Table("fact", "kind", "clinic", "subject", "held since", "reason")
    for each in held:
        table.add_row(
            str(each.outbox_id),
            each.kind,
            str(each.clinic_id),
            str(each.subject_id),
            each.held_at.isoformat(timespec="seconds"),
            each.reason,
        )
    console.print(table if held else "None is held.")


async def release_held() -> None:
    """Have all of them passed on again."""
    settings = load_settings()
    configure_logs(settings.log_level)
    async with (
        database_urls(settings) as urls,
        open_database(urls.application, 1, Clocks()) as database,
        open_unit(database, SCOPE) as unit,
    ):
        released = await events_store.put_back(unit, unit.wall)
    typer.echo(f"{len(released)} are released.")
