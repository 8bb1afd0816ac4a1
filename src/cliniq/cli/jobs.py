"""`cliniq jobs`: see what is promised, what runs, what is held; let it run anew, or drop it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeAlias
from uuid import UUID

import msgspec
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from cliniq.kernel.record import Record
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import jobs_store
from cliniq.platform.clock import Clocks
from cliniq.platform.db import Database, open_database, open_read_unit, open_unit
from cliniq.platform.jobs_store import Entry, Filed
from cliniq.platform.lanes import Lane
from cliniq.platform.settings import load_settings
from cliniq.platform.source import database_urls
from cliniq.platform.telemetry import configure_logs

STATES = ("waiting", "later", "running", "held")
WATCH_SECONDS = 0.5

Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]
LaneOption = Annotated[Lane | None, typer.Option(help="Of one lane only.")]
ClinicOption = Annotated[UUID | None, typer.Option(help="Of one clinic only.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, one object a line.")]
Ids = Annotated[list[int] | None, typer.Argument(help="Numbers of jobs, as `list` shows them.")]


class Shown(Record, frozen=True):
    """A job and what became of its runs; `payload` holds ids only, never what they stand for."""

    job: Filed
    runs: list[Entry]
    progress: jobs_store.Progress | None


def jobs_commands(run: Run) -> typer.Typer:
    """Make the commands; `run` runs what they do, and says what an operator can mend."""
    cli = typer.Typer(no_args_is_help=True, help="See and mend what is promised.")

    @cli.command("list")
    def list_jobs(
        lane: LaneOption = None,
        state: Annotated[str | None, typer.Option(help=", ".join(STATES))] = None,
        clinic: ClinicOption = None,
        most: Annotated[int, typer.Option(help="How many at most.")] = 100,
        as_json: JsonOption = False,  # noqa: FBT002 - typer's way to name a flag
    ) -> None:
        """List jobs, the oldest first."""
        if state is not None and state not in STATES:
            raise typer.BadParameter(f"a state is one of {', '.join(STATES)}")
        run(_list(lane, state, clinic, most, as_json=as_json))

    @cli.command()
    def show(
        job_id: Annotated[int, typer.Argument(help="The job's number.")],
        watch: Annotated[bool, typer.Option(help="Follow its progress to its end.")] = False,  # noqa: FBT002
        as_json: JsonOption = False,  # noqa: FBT002
    ) -> None:
        """Show a job: what it takes (ids only), how far it is, and what became of its runs."""
        run(_watch(job_id) if watch else _show(job_id, as_json=as_json))

    @cli.command()
    def replay(ids: Ids = None, lane: LaneOption = None, clinic: ClinicOption = None) -> None:
        """Let held jobs run anew, with all their tries: these, or all of a lane or a clinic."""
        _ensure_named(ids, lane, clinic)
        run(_replay(ids, lane, clinic))

    @cli.command()
    def drop(
        ids: Ids = None,
        lane: LaneOption = None,
        clinic: ClinicOption = None,
        waiting: Annotated[bool, typer.Option(help="Those that wait, too.")] = False,  # noqa: FBT002
    ) -> None:
        """Forget held jobs for good: these, or all of a lane or a clinic. One that runs stays."""
        _ensure_named(ids, lane, clinic)
        run(_drop(ids, lane, clinic, waiting=waiting))

    return cli


def _ensure_named(ids: list[int] | None, lane: Lane | None, clinic: UUID | None) -> None:
    if not ids and lane is None and clinic is None:
        raise typer.BadParameter("name jobs, a lane or a clinic")


@asynccontextmanager
async def _database() -> AsyncIterator[Database]:
    settings = load_settings()
    configure_logs("error")
    async with (
        database_urls(settings) as urls,
        open_database(urls.application, 1, Clocks()) as database,
    ):
        yield database


async def _list(
    lane: Lane | None, state: str | None, clinic: UUID | None, most: int, *, as_json: bool
) -> None:
    async with (
        _database() as database,
        open_read_unit(database, PlatformScope("list jobs")) as unit,
    ):
        found = await jobs_store.list_jobs(unit, None, lane, state, clinic, most)
    if as_json:
        for each in found:
            typer.echo(msgspec.json.encode(each).decode())
        return
    table = Table("number", "lane", "job", "state", "runs", "since or due", "clinic")
    for each in found:
        table.add_row(
            str(each.id),
            each.lane,
            each.job,
            _coloured(each.state),
            str(each.attempts),
            f"{each.due_at:%Y-%m-%d %H:%M:%S}",
            str(each.clinic or "-"),
        )
    Console().print(table)


def _coloured(state: str) -> Text:
    return Text(state, style={"held": "red", "running": "green"}.get(state, ""))


async def _find(database: Database, job_id: int) -> Shown | None:
    async with open_read_unit(database, PlatformScope("show a job")) as unit:
        found = await jobs_store.list_jobs(unit, job_id, None, None, None, 1)
        if not found:
            return None
        runs = await jobs_store.list_runs(unit, job_id)
        return Shown(found[0], runs, await jobs_store.find_progress(unit, found[0].key))


async def _show(job_id: int, *, as_json: bool) -> None:
    async with _database() as database:
        shown = await _find(database, job_id)
    if shown is None:
        typer.echo(f"Job {job_id} is not there: it is done, or never was.", err=True)
        raise typer.Exit(1)
    if as_json:
        typer.echo(msgspec.json.encode(shown).decode())
        return
    table = Table(show_header=False)
    for name in Filed.__struct_fields__:
        label = "payload (ids only)" if name == "payload" else name
        table.add_row(label, str(getattr(shown.job, name)))
    if (at := shown.progress) is not None:
        table.add_row("progress", f"{at.done} of {at.total} {at.note}")
    for each in shown.runs:
        table.add_row(f"{each.at:%Y-%m-%d %H:%M:%S} {each.status}", each.told or "")
    Console().print(table)


class _Speed(TextColumn):
    """How many a second, of what the job said itself."""

    def __init__(self) -> None:
        super().__init__("")

    @override
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f}/s")


async def _watch(job_id: int) -> None:
    """Follow a job until it is done or held."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed())
    async with _database() as database:
        with Progress(*columns, TimeRemainingColumn(), console=Console()) as progress:
            task = progress.add_task(f"job {job_id}", total=None)
            while (shown := await _find(database, job_id)) is not None:
                at = shown.progress
                said = f"{shown.job.job}: {at.note if at and at.note else shown.job.state}"
                if at is None:
                    progress.update(task, description=said)
                else:
                    progress.update(task, description=said, completed=at.done, total=at.total)
                if shown.job.state == "held":
                    return
                await asyncio.sleep(WATCH_SECONDS)
            progress.update(task, description=f"job {job_id} is done", completed=1, total=1)


async def _replay(ids: list[int] | None, lane: Lane | None, clinic: UUID | None) -> None:
    async with _database() as database, open_unit(database, PlatformScope("replay jobs")) as unit:
        again = await jobs_store.replay(unit, ids or None, lane, clinic)
    typer.echo(f"{len(again)} jobs run anew.")


async def _drop(
    ids: list[int] | None, lane: Lane | None, clinic: UUID | None, *, waiting: bool
) -> None:
    async with _database() as database, open_unit(database, PlatformScope("drop jobs")) as unit:
        gone = await jobs_store.drop(unit, ids or None, lane, clinic, waiting=waiting)
    typer.echo(f"{len(gone)} jobs dropped.")
