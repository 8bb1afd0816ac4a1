"""What a bench stands on: a fresh database, and processes that serve from it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import TypeAlias
from urllib.parse import urlsplit

import asyncpg
import psutil  # type: ignore[import-untyped]

from bench.report import BenchFailed
from cliniq.platform.clock import Clocks
from cliniq.platform.embedded import embedded_server
from cliniq.platform.migrate import migrate
from cliniq.platform.provision import provision

ROOT = Path(__file__).parent.parent
PROGRAMS = Path(sys.executable).parent
SECRET = "a secret of the benches, long enough to be one"  # noqa: S105
PATIENCE_SECONDS = 60
POOL_SIZE = 10  # of Cliniq, and of the bare application beside it

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True)
class Ground:
    """A migrated, empty database; `admin` is a superuser's URL of it, outside every wall."""

    admin: str
    application: str
    folder: Path

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """Connect as the superuser."""
        connection = await asyncpg.connect(self.admin)
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def fresh_ground(server: str | None) -> AsyncIterator[Ground]:
    """Make a database that is dropped afterwards, as durable as in production.

    On the embedded PostgreSQL in a temporary folder, or on a server by a superuser's URL.
    """
    with tempfile.TemporaryDirectory(prefix="cliniq-bench-") as name:
        folder = Path(name)
        if server is None:
            async with embedded_server(folder / "postgres") as admin, _database(admin) as urls:
                yield Ground(*urls, folder)
        else:
            async with _database(server) as urls:
                yield Ground(*urls, folder)


@asynccontextmanager
async def two_grounds(server: str | None) -> AsyncIterator[tuple[Ground, Ground]]:
    """Make two databases on one server, to be compared; both are dropped afterwards."""
    with tempfile.TemporaryDirectory(prefix="cliniq-bench-") as name:
        folder = Path(name)
        own = embedded_server(folder / "postgres") if server is None else nullcontext(server)
        async with own as admin, _database(admin, "_a") as one, _database(admin, "_b") as other:
            for each in ("a", "b"):
                (folder / each).mkdir()
            yield Ground(*one, folder / "a"), Ground(*other, folder / "b")


@asynccontextmanager
async def _database(server: str, suffix: str = "") -> AsyncIterator[tuple[str, str]]:
    name = f"cliniq_bench_{os.getpid()}{suffix}"
    application, owner = await provision(server, name)
    await migrate(owner, Clocks())
    try:
        yield urlsplit(server)._replace(path=f"/{name}").geturl(), application
    finally:
        connection = await asyncpg.connect(server)
        await connection.execute(f"drop database {name} with (force)")
        await connection.close()


@dataclass(frozen=True)
class Served:
    """A process that serves HTTP, and how long it took to be ready. Units: seconds."""

    pid: int
    port: int
    ready_after: float

    def cpu_seconds(self) -> float:
        """Say how much of a processor it has used: the figure that neighbours disturb least."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


@asynccontextmanager
async def serving(
    *command: str, port: int, ready: str | None, journal: Path, env: Mapping[str, str]
) -> AsyncIterator[Served]:
    """Run a command until it answers `ready` with 200, or takes connections; stop it afterwards.

    Raises: BenchFailed with what it said, where it ends or does not get ready.
    """
    began = perf_counter()
    with journal.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env={"PATH": os.defpath, **env},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        while not await _answers(port, ready):
            if process.returncode is not None or perf_counter() - began > PATIENCE_SECONDS:
                said = await asyncio.to_thread(journal.read_text, errors="replace")
                raise BenchFailed(f"{' '.join(command[:2])}: {said}")
            await asyncio.sleep(0.01)
        yield Served(process.pid, port, perf_counter() - began)
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


@asynccontextmanager
async def serving_cliniq(
    ground: Ground, more: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Served]:
    """Run the real server over a ground, with the settings of production and some more."""
    port = free_port()
    settings = {
        "CLINIQ_DATABASE_URL": ground.application,
        "CLINIQ_SECRET": SECRET,
        "CLINIQ_PORT": str(port),
        "CLINIQ_POOL_SIZE": str(POOL_SIZE),
        "CLINIQ_LOG_LEVEL": "warning",
        "CLINIQ_RATE_SCALE": "1000000",  # all is counted, and nobody is stopped
        **more,
    }
    async with serving(
        str(PROGRAMS / "cliniq"),
        "serve",
        port=port,
        ready="/health/ready",
        journal=ground.folder / f"cliniq-{port}.log",
        env=settings,
    ) as served:
        yield served


@asynccontextmanager
async def serving_bare(ground: Ground) -> AsyncIterator[Served]:
    """Run the bare application, the yardstick of reads, as a superuser over the same ground."""
    port = free_port()
    async with serving(
        sys.executable,
        "-m",
        "bench.bare",
        str(port),
        ground.admin,
        port=port,
        ready="/ready",
        journal=ground.folder / "bare.log",
        env={},
    ) as served:
        yield served


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _answers(port: int, path: str | None) -> bool:
    """Tell whether a path is answered with 200; without one, whether anybody listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        if path is None:
            return True
        writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
        return (await reader.read(12)).endswith(b"200")
    except OSError:
        return False
    finally:
        writer.close()
