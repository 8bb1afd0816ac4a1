"""`cliniq doctor`: what is configured, what is reachable, what is wrong."""

import secrets
import socket
from collections.abc import Iterable
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.table import Table

from cliniq.kernel.ids import ClinicId
from cliniq.kernel.problem import DependencyUnavailable
from cliniq.kernel.record import Record
from cliniq.platform.backends import Backends, StorageAddress, read_storage_address
from cliniq.platform.cache import NOBODY
from cliniq.platform.cache_shelf import Shelf
from cliniq.platform.clock import Clocks
from cliniq.platform.db import open_database
from cliniq.platform.embedded import EmbeddedDatabaseRefused, is_running
from cliniq.platform.health import complaints, count_held
from cliniq.platform.partitions import list_all
from cliniq.platform.processes import list_living, named
from cliniq.platform.settings import Settings, SettingsRefused, load_settings
from cliniq.platform.signing import Keyring
from cliniq.platform.source import database_urls
from cliniq.platform.storage import open_storage
from cliniq.platform.telemetry import configure_logs


class Finding(Record, frozen=True):
    """One line of the doctor's report."""

    about: str
    well: bool
    said: str


def new_passwords() -> tuple[str, str]:
    """Make passwords for the owner and for the application."""
    return secrets.token_urlsafe(24), secrets.token_urlsafe(24)


async def examine(console: Console) -> bool:
    """Print a report; answer whether all is well."""
    try:
        settings = load_settings()
    except SettingsRefused as refusal:
        return _print(console, [Finding("settings", well=False, said=str(refusal))])
    configure_logs("error")
    findings = [*_settings(settings), _port(settings), *await _database(settings)]
    findings += [await _redis(settings.backends), await _storage(settings.backends)]
    return _print(console, findings)


def _settings(settings: Settings) -> Iterable[Finding]:
    where = "a server of yours" if settings.database_url else f"embedded, in {settings.data_dir}"
    yield Finding("database", well=True, said=where)
    secret = "set" if settings.secret else f"in {settings.data_dir}/secret"
    yield Finding("master secret", well=True, said=secret)
    yield Finding("address for patients", well=True, said=settings.address)
    if settings.database_url and not settings.owner_url:
        yield Finding("owner", well=True, said="not set: `cliniq migrate` cannot run from here")


def _port(settings: Settings) -> Finding:
    with socket.socket() as probe:
        probe.settimeout(1)
        taken = probe.connect_ex((settings.host, settings.port)) == 0
    said = "in use: Cliniq, or somebody else, listens there" if taken else "free"
    return Finding(f"port {settings.port}", well=True, said=said)


async def _database(settings: Settings) -> list[Finding]:
    try:
        if settings.database_url is None and not is_running(settings.data_dir / "postgres"):
            return [Finding("PostgreSQL", well=True, said="not running; `cliniq up` starts it")]
        async with database_urls(settings) as urls:
            if wrong := await complaints(urls.application):
                return [Finding("PostgreSQL", well=False, said=each) for each in wrong]
            return [
                Finding("PostgreSQL", well=True, said="reachable, and as it should be"),
                _held(await count_held(urls.application)),
                *await _processes(urls.application, settings),
            ]
    except EmbeddedDatabaseRefused as refusal:
        return [Finding("PostgreSQL", well=False, said=str(refusal))]
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return [Finding("PostgreSQL", well=False, said=f"does not answer: {error}")]


def _held(count: int) -> Finding:
    said = f"{count} are held: see `cliniq facts list`" if count else "none is held"
    return Finding("facts", well=not count, said=said)


async def _redis(backends: Backends) -> Finding:
    if backends.redis_url is None:
        return Finding("Redis", well=True, said="not set: one process, on its own")
    shelf = Shelf(backends.redis_url)
    try:
        await shelf.ensure_answers()
    except DependencyUnavailable:
        return Finding("Redis", well=False, said="does not answer")
    finally:
        await shelf.close()
    return Finding("Redis", well=True, said="answers")


async def _storage(backends: Backends) -> Finding:
    address = read_storage_address(backends.storage_url)
    where = " ".join(filter(None, (address.kind, address.bucket, address.path)))
    if _is_to_be_made(address):
        return Finding("storage", well=True, said=f"{where}: not there yet; `cliniq up` makes it")
    try:
        storage = open_storage(backends, Keyring(secrets.token_hex()), Clocks().wall)
        await storage.ensure_writable(ClinicId(NOBODY))
    except (SettingsRefused, DependencyUnavailable):
        return Finding("storage", well=False, said=f"{where}: cannot be written and read")
    return Finding("storage", well=True, said=f"{where}: can be written and read")


def _is_to_be_made(address: StorageAddress) -> bool:
    return address.kind == "file" and not Path(address.path).exists()


async def _processes(dsn: str, settings: Settings) -> list[Finding]:
    pooler = settings.backends.pooler
    async with open_database(dsn, 1, Clocks(), pooler=pooler) as database:
        living = await list_living(database)
    return [
        Finding("at work", well=True, said=f"{named(each)}, since {each.started_at:%Y-%m-%d %H:%M}")
        for each in living
    ]


async def print_partitions(console: Console) -> None:
    """Print what is cut by range, and how long each part has to live.

    Raises: SettingsRefused, EmbeddedDatabaseRefused.
    """
    settings = load_settings()
    configure_logs("error")
    pooler = settings.backends.pooler
    async with (
        database_urls(settings) as urls,
        open_database(urls.application, 1, Clocks(), pooler=pooler) as database,
    ):
        found = await list_all(database)
    table = Table("partition", "from", "to", "blocks", "state")
    for each in found:
        state = "in use" if each.is_attached else "waits to be archived"
        due = "its time has come" if each.is_attached and each.is_due else state
        ends = each.starts_on.isoformat(), each.ends_on.isoformat()
        table.add_row(each.part, *ends, str(each.blocks), due)
    console.print(table)


def _print(console: Console, findings: list[Finding]) -> bool:
    table = Table("", "about", "finding")
    for each in findings:
        table.add_row("[green]ok[/]" if each.well else "[red]!![/]", each.about, each.said)
    console.print(table)
    return all(each.well for each in findings)
