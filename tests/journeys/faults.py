"""A whole installation of a test's own, each part of which can be killed and started again.

PostgreSQL as it comes (what it acknowledges is on the disk), Redis, two processes that serve and
any number that work: all on free ports and in one folder, all ended with the block.
"""

import asyncio
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import asyncpg
import httpx2
import psutil  # type: ignore[import-untyped]
from typing_extensions import override

from cliniq.platform.clock import Clocks
from cliniq.platform.embedded import embedded_server
from cliniq.platform.migrate import migrate
from cliniq.platform.provision import provision
from cliniq.platform.source import NAME
from tests import hatchery
from tests.hatchery import SCRIPT
from tests.journeys.served import BOUND_SECONDS, Installation, Served
from tests.redis_server import RedisHost, RedisServer, own_redis

PAUSE_SECONDS = 0.05
SERVE, WORK = ("serve",), ("worker", "--min", "1", "--max", "1")
AT_WORK, BADLY_TIMED = "Cliniq works off jobs", "cliniq: the database does not answer"
ALL_DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


class Part(ABC):
    """What can be struck down, and started again."""

    name: str

    @abstractmethod
    async def strike(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it without a warning, and wait until nothing of it is left."""

    @abstractmethod
    async def start(self) -> None:
        """Start it again; whether it serves is another question."""


@dataclass
class Cluster(Part):
    """PostgreSQL.

    SIGKILL takes its first process only, and the others must notice; SIGQUIT is its own word for an
    end without a checkpoint.
    """

    folder: Path
    name: str = "postgresql"
    dsn: str = ""
    _uses: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def pid(self) -> int:
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    @override
    async def start(self) -> None:
        self.dsn = await self._uses.enter_async_context(embedded_server(self.folder))

    @override
    async def strike(self, how: signal.Signals = signal.SIGKILL) -> None:
        family = with_children(self.pid)
        os.kill(self.pid, how)
        await until_gone(family)

    async def stop(self) -> None:
        await self._uses.aclose()


@dataclass
class Cache(Part):
    """Redis, which forgets everything when it is struck."""

    server: RedisServer
    name: str = "redis"

    @override
    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)

    @override
    async def strike(self, how: signal.Signals = signal.SIGKILL) -> None:
        await asyncio.to_thread(self.server.signal, how)


@dataclass
class Program(Part):
    """A process of ours, and what it started: `cliniq` with some words."""

    installation: Installation
    words: Sequence[str]
    name: str
    served: Served | None = None

    @override
    async def start(self) -> None:
        self.served = self.installation.start(*self.words)

    @override
    async def strike(self, how: signal.Signals = signal.SIGKILL) -> None:
        assert self.served is not None
        family = with_children(self.served.process.pid)
        self.served.process.send_signal(how)
        await self.served.ended()
        await until_gone(family)  # a supervisor's crew notices by itself

    async def stop(self) -> None:
        """Have it end well; whoever does not is killed, and that is an error."""
        if self.served is not None and self.served.process.poll() is None:
            await self.served.stop()

    def kill(self) -> None:
        if self.served is not None and self.served.process.poll() is None:
            self.served.process.kill()
            self.served.process.wait()

    def said(self) -> str:
        return self.served.said() if self.served else ""


@dataclass
class Whole:
    """The installation, part by part."""

    cluster: Cluster
    cache: Cache
    servers: list[Program]
    workers: list[Program]
    application: str
    owner: str
    restarts: int = 0

    @property
    def parts(self) -> dict[str, Part]:
        """What can be struck, by name."""
        every: list[Part] = [self.cluster, self.cache, *self.servers, *self.workers]
        return {each.name: each for each in every}

    @property
    def programs(self) -> list[Program]:
        return [*self.servers, *self.workers]

    @property
    def addresses(self) -> list[str]:
        return [f"http://127.0.0.1:{each.installation.port}" for each in self.servers]

    @asynccontextmanager
    async def admin(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """A superuser's connection to the database."""
        connection = await asyncpg.connect(self.cluster.dsn.replace("/postgres?", f"/{NAME}?"))
        try:
            yield connection
        finally:
            await connection.close()

    async def readiness(self) -> list[str]:
        """Ask every server once: `ready`, `degraded`, `unavailable`, or `away`."""
        async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
            return [await _readiness(client, address) for address in self.addresses]

    async def recovered(self) -> float:
        """Wait until every server is ready and every worker at work; say how long.

        Whoever did not start, since the database was away, is started again, as by any supervisor.
        Units: seconds.
        """
        began = time.monotonic()
        states: list[str] = []
        while time.monotonic() - began < BOUND_SECONDS:
            states = await self.readiness()
            if set(states) == {"ready"} and all(AT_WORK in each.said() for each in self.workers):
                return time.monotonic() - began
            await asyncio.sleep(PAUSE_SECONDS)
            for each in self.programs:
                if not _runs(each) and BADLY_TIMED in each.said():
                    self.restarts += 1
                    await each.start()
        said = "\n".join(f"{each.name}:\n{each.said()}" for each in self.programs)
        raise AssertionError(f"{states} after {BOUND_SECONDS} s\n{said}")

    async def strike_and_mend(self, name: str, how: signal.Signals = signal.SIGKILL) -> float:
        """Strike a part, start it again at once, and wait until all is well; say how long."""
        part = self.parts[name]
        await part.strike(how)
        await part.start()
        return await self.recovered()


@asynccontextmanager
async def whole_installation(
    folder: Path,
    *,
    servers: int = 2,
    workers: int = 0,
    program: hatchery.Program = (SCRIPT,),
    host: RedisHost | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Whole]:
    """Start everything, wait until it serves, and leave nothing behind.

    `program` stands for `cliniq`; `host` is where Redis runs, by default here.
    """
    async with AsyncExitStack() as ending:
        # Of its own: every start of pytest shuts the one above its folders to other users.
        apart = ending.enter_context(TemporaryDirectory(prefix="cliniq-whole-"))
        cluster = Cluster(Path(apart) / "postgres")
        redis = ending.enter_context(own_redis(host))
        ending.push_async_callback(cluster.stop)
        await cluster.start()
        application, owner = await provision(cluster.dsn, NAME)
        await ensure_durable(cluster.dsn)
        await migrate(owner, Clocks())
        common = {
            "CLINIQ_DATABASE_URL": application,
            "CLINIQ_OWNER_URL": owner,
            "CLINIQ_REDIS_URL": redis.url,
            "CLINIQ_STORAGE_URL": f"file:{folder / 'objects'}",
            "CLINIQ_POOL_SIZE": "8",
            **settings,
        }
        whole = Whole(
            cluster,
            Cache(redis),
            _programs(folder, "server", SERVE, servers, common, program),
            _programs(folder, "worker", WORK, workers, common, program),
            application,
            owner,
        )
        for each in whole.programs:
            ending.callback(each.kill)  # if all else fails
        for each in whole.programs:
            await each.start()
        await whole.recovered()
        yield whole
        for each in whole.programs:
            await each.stop()


def _programs(
    folder: Path,
    kind: str,
    words: Sequence[str],
    number: int,
    settings: dict[str, str],
    program: hatchery.Program,
) -> list[Program]:
    names = [f"{kind}-{each}" for each in range(1, number + 1)]
    return [
        Program(Installation(folder / name, settings, program=program), words, name)
        for name in names
    ]


async def ensure_durable(dsn: str) -> None:
    """Fail unless what is acknowledged is on the disk."""
    connection = await asyncpg.connect(dsn)
    try:
        said = [await connection.fetchval(f"show {each}") for each in ALL_DURABLE]
    finally:
        await connection.close()
    assert said == ["on"] * len(ALL_DURABLE)


async def _readiness(client: httpx2.AsyncClient, address: str) -> str:
    try:
        answer = await client.get(f"{address}/health/ready")
    except httpx2.TransportError:
        return "away"
    return str(answer.json()["status"]) if answer.status_code == 200 else "unavailable"


def _runs(program: Program) -> bool:
    return program.served is not None and program.served.process.poll() is None


def with_children(pid: int) -> list[psutil.Process]:
    head = psutil.Process(pid)
    return [head, *head.children(recursive=True)]


async def until_gone(family: Iterable[psutil.Process]) -> None:
    deadline = time.monotonic() + BOUND_SECONDS
    while alive := [each for each in family if is_alive(each)]:
        assert time.monotonic() < deadline, alive
        await asyncio.sleep(PAUSE_SECONDS)


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
