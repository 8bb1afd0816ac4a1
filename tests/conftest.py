"""A real application over a real PostgreSQL: one server and one migrated database a process.

Tests isolate themselves by a clinic of their own; those that change the schema get a database.
"""

import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from typing_extensions import override
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from cliniq.app import House, build_app, open_house
from cliniq.platform.backends import Backends
from cliniq.platform.clock import Clocks
from cliniq.platform.embedded import embedded_server
from cliniq.platform.migrate import migrate
from cliniq.platform.provision import provision
from cliniq.platform.source import Urls
from cliniq.platform.traces import keep_traces
from cliniq.worker import REGISTRY
from tests.pooler import ASKED, own_pooler, through
from tests.redis_server import own_redis
from tests.relays import free_leases
from tests.support import KEYED, SECRET, Admin, Client, Hands, SomeClinic, found_clinic

COPIES = itertools.count()
NAME = f"cliniq_test_{os.getpid()}"
HANDS = Hands()
BACKENDS = Backends(pooler=ASKED)


SERVER_URL = os.environ.get("CLINIQ_TEST_DATABASE_URL")  # noqa: TID251 - the tests' own setting
IS_SHARED = SERVER_URL is not None and not ASKED  # without a pooler in front
POOL = 6 if IS_SHARED else 10  # connections of the house that most tests share, for each kind


def pytest_xdist_auto_num_workers() -> int:
    """Say how many processes `-n auto` is: one more than cores, since tests wait.

    At a server that they share, two: its connections are few.
    """
    return 2 if IS_SHARED else (os.cpu_count() or 1) + 1


class OneJourneyAtATime(LoadFileScheduling):  # type: ignore[misc]
    """A file at a time to each process; all journeys, which connect most, to one of them."""

    @override
    def _split_scope(self, nodeid: str) -> str:
        journeys = "tests/journeys/"
        return journeys if nodeid.startswith(journeys) else str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneJourneyAtATime | None:
    return OneJourneyAtATime(config, log) if IS_SHARED else None


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
async def server() -> AsyncIterator[str]:
    """A superuser's DSN, of CLINIQ_TEST_DATABASE_URL or else of the embedded server."""
    if SERVER_URL:
        yield SERVER_URL
        return
    # A folder of its own: every start of pytest shuts the one above its folders to other users.
    with TemporaryDirectory(prefix="cliniq-test-") as folder:
        async with embedded_server(Path(folder) / "postgres") as dsn:
            for unneeded in ("fsync", "synchronous_commit", "full_page_writes"):
                await on_server(dsn, f"alter system set {unneeded} = off")
            await on_server(dsn, "select pg_reload_conf()")
            yield dsn


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis that all tests share: of CLINIQ_TEST_REDIS_URL, or else one of their own."""
    if url := os.environ.get("CLINIQ_TEST_REDIS_URL"):  # noqa: TID251 - the tests' own setting
        yield url
        return
    with own_redis() as redis:
        yield redis.url


@pytest.fixture(scope="session")
def pooled(server: str) -> Iterator[Callable[[str], str]]:
    """How the application reaches the server: through PgBouncer where CLINIQ_TEST_POOLER is set."""
    if not ASKED:
        yield str
        return
    with own_pooler(server) as port:
        yield partial(through, port=port)


@pytest.fixture(scope="session")
async def urls(server: str, pooled: Callable[[str], str]) -> AsyncIterator[Urls]:
    """The migrated database that most tests share."""
    application, owner = await provision(server, NAME)
    await migrate(owner, Clocks())
    yield Urls(pooled(application), owner)
    await on_server(server, f"drop database {NAME} with (force)")


@pytest.fixture(scope="session")
async def house(urls: Urls) -> AsyncIterator[House]:
    clocks = Clocks(lambda: HANDS.clinic, lambda: HANDS.wall)
    async with open_house(urls.application, SECRET, POOL, clocks, BACKENDS, None) as house:
        yield house


@pytest.fixture(scope="session")
async def admin(server: str, urls: Urls) -> AsyncIterator[Admin]:
    """The superuser's eyes and hands in the shared database: outside every wall."""
    async with asyncpg.create_pool(dsn_of(server, NAME), min_size=1, max_size=4) as pool:
        yield pool


@pytest.fixture
def hands() -> Iterator[Hands]:
    """Both clocks, at noon; put back afterwards."""
    HANDS.reset()
    yield HANDS
    HANDS.reset()


@pytest.fixture
async def clinic(house: House, hands: Hands) -> SomeClinic:
    return await found_clinic(house)


@pytest.fixture(scope="session")
def app(house: House) -> FastAPI:
    return build_app(house, "http://cliniq.test")


@pytest.fixture
async def relaying(house: House, admin: Admin) -> AsyncIterator[None]:
    """While the test runs, the house passes on what is told."""
    await free_leases(admin)
    async with house.relay.running():
        yield


@pytest.fixture
async def client(app: FastAPI, hands: Hands) -> AsyncIterator[Client]:
    """A client without a sign-in; give headers of `clinic.acting(...)` or of somebody."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://cliniq.test", event_hooks=KEYED
    ) as client:
        yield client


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Have this process trace, and keep every span that ends."""
    kept = InMemorySpanExporter()
    with keep_traces(SimpleSpanProcessor(kept), "test"):
        yield kept


@pytest.fixture
async def own_urls(server: str, urls: Urls, pooled: Callable[[str], str]) -> AsyncIterator[Urls]:
    """A migrated database of a test's own, for those that change the schema."""
    name = f"{NAME}_{next(COPIES)}"
    application, owner = await provision(server, name)
    await migrate(owner, Clocks())
    yield Urls(pooled(application), owner)
    await on_server(server, f"drop database {name} with (force)")


@pytest.fixture
async def own_admin(server: str, own_urls: Urls) -> AsyncIterator[Admin]:
    """The superuser in the test's own database."""
    name = urlsplit(own_urls.application).path.removeprefix("/")
    async with asyncpg.create_pool(dsn_of(server, name), min_size=1, max_size=4) as pool:
        yield pool


@asynccontextmanager
async def house_of(
    urls: Urls,
    clocks: Clocks | None = None,
    size: int = 4,
    backends: Backends = BACKENDS,
    *,
    relays: bool = False,
) -> AsyncIterator[House]:
    """Open a house on another database. What it tells is passed on if asked, or by hand."""
    moving = Clocks(lambda: HANDS.clinic, lambda: HANDS.wall)
    async with (
        open_house(
            urls.application,
            SECRET,
            size,
            clocks or moving,
            backends,
            promises=REGISTRY if relays else None,
        ) as house,
        house.relay.running() if relays else nullcontext(),
    ):
        yield house


async def on_server(dsn: str, command: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(command)
    finally:
        await connection.close()


def dsn_of(server: str, database: str) -> str:
    return urlsplit(server)._replace(path=f"/{database}").geturl()
