"""Archiving from the command line, with a bar for each partition."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from cliniq.platform.db import Database
from cliniq.platform.partitions import Manifest, Storage, archive_detached, detach_due


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
