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
from cliniq.platform.embedded import EmbeddedDatabaseRefused, is_running
from cliniq.platform.health import complaints, count_held
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
            wrong = await complaints(urls.application)
            held = 0 if wrong else await count_held(urls.application)
    except EmbeddedDatabaseRefused as refusal:
        return [Finding("PostgreSQL", well=False, said=str(refusal))]
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return [Finding("PostgreSQL", well=False, said=f"does not answer: {error}")]
    if wrong:
        return [Finding("PostgreSQL", well=False, said=each) for each in wrong]
    return [Finding("PostgreSQL", well=True, said="reachable, and as it should be"), _held(held)]


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


def _print(console: Console, findings: list[Finding]) -> bool:
    table = Table("", "about", "finding")
    for each in findings:
        table.add_row("[green]ok[/]" if each.well else "[red]!![/]", each.about, each.said)
    console.print(table)
    return all(each.well for each in findings)
