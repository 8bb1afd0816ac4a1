"""Archiving from the command line, with a bar for each partition."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from cliniq.platform.archive import Archive
from cliniq.platform.clock import Clocks
from cliniq.platform.db import Database, open_database
from cliniq.platform.partitions import Manifest, Storage, archive_detached, detach_due
from cliniq.platform.settings import load_settings, master_secret
from cliniq.platform.signing import Keyring
from cliniq.platform.source import database_urls
from cliniq.platform.storage import open_storage
from cliniq.platform.telemetry import configure_logs


async def archive_now(console: Console) -> None:
    """Archive what is due, into the storage of the settings.

    Raises: SettingsRefused, EmbeddedDatabaseRefused, ArchiveDiffers, DEPENDENCY_UNAVAILABLE 503.
    """
    settings = load_settings()
    configure_logs("error")
    keyring, clocks = Keyring(master_secret(settings)), Clocks()
    archive = Archive(open_storage(settings.backends, keyring, clocks.wall))
    pooler = settings.backends.pooler
    async with (
        database_urls(settings) as urls,
        open_database(urls.application, 1, clocks, pooler=pooler) as database,
    ):
        done = await archive_due(console, database, archive)
    for each in done:
        console.print(f"{each.part}: {each.rows} rows, sha256 {each.sha256}", highlight=False)
    console.print(f"{len(done)} archived." if done else "Nothing is due.")


async def archive_due(console: Console, database: Database, storage: Storage) -> list[Manifest]:
    """Detach what has had its time, and archive, verify and drop all that waits.

    Raises: ArchiveDiffers, and whatever the storage raises; what was done until then stays done.
    """
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()
    quiet = not console.is_terminal  # in a journal even its end would be a line
    with Progress(*columns, console=console, transient=True, disable=quiet) as bars:
        tasks: dict[str, TaskID] = {}

        def show(part: str, done: int, whole: int) -> None:
            if part not in tasks:
                tasks[part] = bars.add_task(part, total=whole)
            bars.update(tasks[part], completed=done)

        await detach_due(database)
        return await archive_detached(database, storage, show)
