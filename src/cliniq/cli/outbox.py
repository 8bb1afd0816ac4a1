"""`cliniq outbox`: the messages that were asked for, while nothing delivers them yet."""

from rich.console import Console
from rich.table import Table

from cliniq.kernel.scope import PlatformScope
from cliniq.platform.clock import Clocks
from cliniq.platform.db import open_database, open_read_unit
from cliniq.platform.messages import list_lying
from cliniq.platform.sealing import Sealer
from cliniq.platform.settings import load_settings, master_secret
from cliniq.platform.signing import Keyring
from cliniq.platform.source import database_urls
from cliniq.platform.telemetry import configure_logs


async def show_outbox(console: Console, to: str | None, most: int) -> None:
    """Print messages, the newest first; only those to one address if asked.

    Raises: SettingsRefused, EmbeddedDatabaseRefused, DEPENDENCY_UNAVAILABLE 503.
    """
    settings = load_settings()
    configure_logs(settings.log_level)
    sealer = Sealer(Keyring(master_secret(settings)))
    pooler = settings.backends.pooler
    async with (
        database_urls(settings) as urls,
        open_database(urls.application, 1, Clocks(), pooler=pooler) as database,
        open_read_unit(database, PlatformScope("show the outbox")) as unit,
    ):
        lying = await list_lying(unit, sealer, most)
    shown = [each for each in lying if to is None or each.message.to == to.lower()]
    table = Table("asked for at", "kind", "by", "to", "language", "facts")
    for each in shown:
        message = each.message
        table.add_row(
            each.requested_at.isoformat(timespec="seconds"),
            message.kind,
            message.channel,
            message.to,
            message.language,
            "\n".join(f"{name}: {fact}" for name, fact in message.facts.items()),
        )
    console.print(table if shown else "Nothing lies in the outbox.")
