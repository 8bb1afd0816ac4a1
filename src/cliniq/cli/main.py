"""`cliniq`: up, serve, worker, migrate, provision, import, jobs, facts, partitions, doctor ..."""

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import asyncpg
import typer
import uvloop
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from cliniq import __version__
from cliniq import app as composition
from cliniq.cli import archives, checks, facts, outbox, server, work
from cliniq.cli import simulate as simulation
from cliniq.cli.crews import CrewFailed
from cliniq.cli.imports import import_commands
from cliniq.cli.jobs import jobs_commands
from cliniq.cli.server import REFUSED
from cliniq.kernel.problem import DependencyUnavailable
from cliniq.platform.clock import Clocks
from cliniq.platform.embedded import EmbeddedDatabaseRefused
from cliniq.platform.http.asyncapi import describe_live
from cliniq.platform.migrate import MigrationRefused
from cliniq.platform.migrate import migrate as run_migrations
from cliniq.platform.partitions import ArchiveDiffers
from cliniq.platform.processes import LeaseRefused
from cliniq.platform.provision import provision as make_roles
from cliniq.platform.rehearsal import RealInstallation
from cliniq.platform.settings import SettingsRefused, load_settings
from cliniq.platform.source import database_urls, owner_of
from cliniq.platform.staffing import Bounds
from cliniq.platform.telemetry import configure_logs
from cliniq.simulation.server import ServerRefused
from cliniq.simulation.wire import ServerGone

REFUSALS = (
    SettingsRefused,
    EmbeddedDatabaseRefused,
    MigrationRefused,
    LeaseRefused,
    RealInstallation,
    server.StartRefused,
    ServerGone,
    ServerRefused,
)

cli = typer.Typer(add_completion=False, no_args_is_help=True, help="Cliniq runs clinics.")
held = typer.Typer(no_args_is_help=True, help="Facts that are held, and their release.")
cli.add_typer(held, name="facts")
parts = typer.Typer(no_args_is_help=True, help="What is cut by time, and its end.")
cli.add_typer(parts, name="partitions")
letters = typer.Typer(no_args_is_help=True, help="Messages that were asked for.")
cli.add_typer(letters, name="outbox")
console = Console(stderr=True)

MetricsPort = Annotated[
    int | None,
    typer.Option(min=1, max=65535, help="Metrics of all processes on this port of 127.0.0.1."),
]


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run until done; what an operator can mend is one sentence and exit code 2."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)
    except REFUSALS as no:
        _say(str(no))
        sys.exit(REFUSED)
    except CrewFailed as no:
        _say(str(no))
        sys.exit(no.code)
    except ArchiveDiffers as differs:
        _say(f"the archive of {differs} is not what was written: the partition stays")
        sys.exit(1)
    except DependencyUnavailable as away:
        _say(f"{away.facts['dependency']} does not answer")
        sys.exit(REFUSED)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        _say(f"the database does not answer: {error}")
        sys.exit(REFUSED)


def _say(sentence: str) -> None:
    console.print(f"cliniq: {sentence}", style="red", markup=False, highlight=False, soft_wrap=True)


@cli.command()
def up(
    demo: Annotated[bool, typer.Option(help="Fill it with clinics to play with.")] = False,  # noqa: FBT002 - typer's way to name a flag
    pace: Annotated[
        float,
        typer.Option(min=0, max=600, help="Of a demo: times as fast as life; 0 stands still."),
    ] = 10,
) -> None:
    """Migrate and serve, on the embedded PostgreSQL unless CLINIQ_DATABASE_URL names another."""
    _run(server.up(demo=demo, pace=pace))


@cli.command()
def serve(
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes that share the port; two need Redis.")
    ] = 1,
    metrics_port: MetricsPort = None,
) -> None:
    """Serve a database that is migrated already. SIGHUP replaces the processes one by one."""
    if workers == 1 and metrics_port is None:
        _run(server.serve_only())
    else:
        _run(server.serve_together(workers, metrics_port))


@cli.command(hidden=True)
def member(listener: int, line: int) -> None:
    """Serve as one of a crew; its supervisor starts it."""
    _run(server.serve_as_member(listener, line))


@cli.command()
def worker(
    least: Annotated[int, typer.Option("--min", min=1, max=64, help="Processes at the least.")] = 1,
    most: Annotated[
        int | None, typer.Option("--max", min=1, max=64, help="At the most, while much waits.")
    ] = None,
    metrics_port: MetricsPort = None,
) -> None:
    """Work off jobs, of a database that is migrated already."""
    bounds = Bounds(least, max(least, most or least))
    if bounds.most == 1 and metrics_port is None:
        _run(work.work_alone())
    else:
        _run(work.work_together(bounds, metrics_port))


@cli.command(hidden=True)
def work_member(line: int) -> None:
    """Work as one of a crew; its supervisor starts it."""
    _run(work.work_as_member(line))


@cli.command()
def simulate(
    day: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="The day to play.")
    ] = None,
    server_url: Annotated[
        str | None,
        typer.Option(
            "--server", help="Of a server that reads CLINIQ_CLINIC_CLOCK; else one's own."
        ),
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0, max=100_000, help="Times as fast as life at most; 0: no bound.")
    ] = 600,
    seed: Annotated[int, typer.Option(help="One seed is one story.")] = 1,
    people: Annotated[
        int, typer.Option(min=1, max=160, help="Visits of the two clinics that are made.")
    ] = 120,
    as_json: Annotated[bool, typer.Option("--json", help="Nothing but the summary.")] = False,  # noqa: FBT002 - typer's way to name a flag
) -> None:
    """Play a day of clinics through the public API, in a rehearsal, and count what went wrong.

    With --from, the visits of that day in the database that the settings name; without, two clinics
    in a database that is thrown away. People are signed in by this command, not by passwords.
    """
    wanted = simulation.Wanted(
        day.date() if day else None,
        server_url,
        speed,
        seed,
        people,
        fresh=day is None and server_url is None,
        as_json=as_json,
    )
    _run(simulation.simulate(wanted))


@cli.command()
def migrate() -> None:
    """Bring the database's schema up to date, as its owner."""
    _run(_migrate())


async def _migrate() -> None:
    settings = load_settings()
    configure_logs(settings.log_level)
    async with database_urls(settings) as urls:
        columns = SpinnerColumn(), TextColumn("{task.description}")
        quiet = not console.is_terminal  # in a journal even its end would be a line
        with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
            task = progress.add_task("migrating")
            ran = await run_migrations(
                owner_of(urls), Clocks(), lambda name: progress.update(task, description=name)
            )
    for name in ran:
        typer.echo(name)
    typer.echo(f"{len(ran)} steps ran." if ran else "Nothing to do.")


@cli.command()
def provision(
    admin_url: Annotated[str, typer.Argument(help="A superuser's URL of the server.")],
    database: Annotated[str, typer.Option(help="Name of the database to make.")] = "cliniq",
) -> None:
    """Make roles and database on a server of your own, once; prints the two settings."""
    _run(_provision(admin_url, database))


async def _provision(admin_url: str, database: str) -> None:
    passwords = checks.new_passwords()
    application, owner = await make_roles(admin_url, database, *passwords)
    typer.echo(f"CLINIQ_DATABASE_URL={application}")
    typer.echo(f"CLINIQ_OWNER_URL={owner}")


@cli.command()
def openapi(
    output: Annotated[Path | None, typer.Option(help="A file instead of standard output.")] = None,
) -> None:
    """Print the OpenAPI document; needs no server and no database."""
    document = json.dumps(composition.build_app().openapi(), indent=2) + "\n"
    if output is None:
        typer.echo(document, nl=False)
    else:
        output.write_text(document, encoding="utf-8")


@held.command("list")
def list_facts() -> None:
    """List the facts that no job could be made of, oldest first."""
    _run(facts.show_held(Console()))


@held.command("release")
def release_facts() -> None:
    """Have all of them passed on again, once what kept them is mended."""
    _run(facts.release_held())


@letters.command("show")
def show_outbox(
    to: Annotated[str | None, typer.Option(help="Only those to this address.")] = None,
    most: Annotated[int, typer.Option(min=1, max=10_000, help="At the most.")] = 50,
) -> None:
    """Show messages with their codes and links, the newest first: until something delivers them."""
    _run(outbox.show_outbox(Console(), to, most))


@cli.command()
def asyncapi(
    output: Annotated[Path | None, typer.Option(help="A file instead of standard output.")] = None,
) -> None:
    """Print the AsyncAPI document of the live socket; needs no server and no database."""
    document = json.dumps(describe_live(composition.TOPICS), indent=2) + "\n"
    if output is None:
        typer.echo(document, nl=False)
    else:
        output.write_text(document, encoding="utf-8")


@cli.command()
def doctor() -> None:
    """Say what is configured, what is reachable, and what is wrong. Exit code 1 if anything is."""
    healthy = True

    async def examine() -> None:
        nonlocal healthy
        healthy = await checks.examine(Console())

    _run(examine())
    if not healthy:
        sys.exit(1)


cli.add_typer(jobs_commands(_run), name="jobs")
cli.add_typer(import_commands(_run), name="import")


@parts.command("list")
def list_partitions() -> None:
    """List what is cut by range, and what waits to be archived."""
    _run(checks.print_partitions(Console()))


@parts.command("archive")
def archive_partitions() -> None:
    """Archive, verify and drop now what has had its time; a worker does so every night."""
    _run(archives.archive_now(console))


@cli.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Enter from the console script."""
    # Until a server serves: as Ctrl-C, so that SIGTERM too stops what has been started. It is
    # handed on as ignored by a script's `&`, and is all that a loop under way would hear.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with suppress(KeyboardInterrupt):
        cli()


if __name__ == "__main__":
    main()
