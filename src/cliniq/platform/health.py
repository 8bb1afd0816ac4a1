"""What must be true of the database before anyone is served, each as one sentence."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import asyncpg

from cliniq.kernel.problem import DependencyUnavailable
from cliniq.platform.backends import Backends
from cliniq.platform.db import Pool, close_pools, open_pool
from cliniq.platform.migrate import steps
from cliniq.platform.provision import LIMITS, SEATS
from cliniq.platform.redis_link import Link, make_link

OLDEST = 15
PATIENCE_SECONDS = 2
STARTING_SECONDS, STARTING_PAUSE_SECONDS = 60, 0.2


class Pulse:
    """Feels whether what Cliniq leans on answers, over connections that no work can use up."""

    def __init__(self, pool: Pool, redis: Link | None) -> None:
        self._pool = pool
        self._redis = redis
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def ensure_serves(self) -> list[str]:
        """Have the database answer something; name what else stays away, without which we go on.

        Raises: DEPENDENCY_UNAVAILABLE 503 where no answer comes within two seconds.
        """
        questions = {"postgresql": self._ask_database}
        if self._redis is not None:
            questions["redis"] = self._ask_redis
        silent = await self._silent(questions)
        if "postgresql" in silent:
            raise DependencyUnavailable("postgresql")
        return silent

    async def _silent(self, questions: Mapping[str, Callable[[], Awaitable[None]]]) -> list[str]:
        """Ask all at once; name who does not answer in time. Who is being asked is not again."""
        for name, ask in questions.items():
            if name not in self._asking or self._asking[name].done():
                self._asking[name] = asyncio.ensure_future(ask())
        asking = {name: self._asking[name] for name in questions}
        await asyncio.wait(asking.values(), timeout=PATIENCE_SECONDS)
        return [name for name, task in asking.items() if not task.done() or task.exception()]

    async def _ask_database(self) -> None:
        async with self._pool.acquire(timeout=PATIENCE_SECONDS) as connection:
            # By the simple protocol, which a pooler carries in one piece.
            await connection.execute("select 1", timeout=PATIENCE_SECONDS)

    async def _ask_redis(self) -> None:
        assert self._redis is not None  # noqa: S101 - or it would not be asked
        await self._redis.echo("")

    async def forget(self) -> None:
        """Wait for nobody any more."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)


@asynccontextmanager
async def open_pulse(dsn: str, backends: Backends) -> AsyncIterator[Pulse]:
    """Open a connection to each, apart from those of the work."""
    pool = await open_pool(dsn, 1, pooler=backends.pooler)
    redis: Link | None = None
    if backends.redis_url is not None:
        redis = make_link(backends.redis_url, PATIENCE_SECONDS, most=2)
    pulse = Pulse(pool, redis)
    try:
        yield pulse
    finally:
        await pulse.forget()
        await close_pools([pool])
        if redis is not None:
            await redis.aclose()


async def complaints(dsn: str) -> list[str]:
    """List what is wrong with the database as seen by the application's login; nothing is well.

    Raises: OSError or asyncpg.PostgresError where it cannot be reached at all.
    """
    connection = await _connect(dsn)
    try:
        # In one transaction, so that a pooler may stand between.
        async with connection.transaction(readonly=True):
            if wrong := await _of_the_server(connection):
                return wrong
            return await _of_the_schema(connection)
    finally:
        await connection.close()


async def _connect(dsn: str) -> "asyncpg.Connection[asyncpg.Record]":
    """Connect; a server that says it is starting up is waited for, since it will soon be there.

    It keeps no statements, so that a pooler may stand between.
    """
    deadline = asyncio.get_running_loop().time() + STARTING_SECONDS
    while True:
        try:
            return await asyncpg.connect(dsn, timeout=5, statement_cache_size=0)
        except asyncpg.CannotConnectNowError:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(STARTING_PAUSE_SECONDS)


async def count_held(dsn: str) -> int:
    """Count the facts that no job could be made of, as the application's login.

    Raises: OSError or asyncpg.PostgresError where the database cannot be reached.
    """
    connection = await asyncpg.connect(dsn, timeout=5, statement_cache_size=0)
    try:
        async with connection.transaction():  # behind a pooler a session's role would be the next's
            await connection.execute("set local role cliniq_platform")
            return int(await connection.fetchval("select count(*) from outbox_held"))
    finally:
        await connection.close()


async def _of_the_server(connection: "asyncpg.Connection[asyncpg.Record]") -> list[str]:
    login = await connection.fetchrow("""
        select rolname, rolsuper, rolbypassrls,
            exists (select from pg_class where relowner = pg_roles.oid) as owns
        from pg_roles where rolname = current_user
    """)
    assert login is not None  # noqa: S101 - current_user is always a role
    found = []
    major = connection.get_server_version().major
    if major < OLDEST:
        found.append(f"PostgreSQL {major} is too old: Cliniq needs {OLDEST} or newer.")
    if login["rolsuper"] or login["rolbypassrls"]:
        found.append(f"The login {login['rolname']} is above row-level security: use a humble one.")
    elif login["owns"]:
        found.append(f"The login {login['rolname']} owns tables: the owner is for migrations only.")
    endless = await connection.fetch(
        "select name from unnest($1::text[]) as name where current_setting(name) = '0'",
        list(LIMITS),
    )
    found += [
        f"The login {login['rolname']} has no {row['name']}: run `cliniq provision`."
        for row in endless
    ]
    above = await connection.fetch(
        "select rolname from pg_roles where rolname = any($1) and (rolsuper or rolbypassrls)",
        list(SEATS),
    )
    found += [
        f"The role {row['rolname']} is above row-level security: run `cliniq provision`."
        for row in above
    ]
    missing = await connection.fetch(
        "select seat from unnest($1::text[]) as seat where not exists (select from pg_roles"
        " where rolname = seat and pg_has_role(current_user, oid, 'member'))",
        list(SEATS),
    )
    found += [
        f"The login {login['rolname']} may not become {row['seat']}: run `cliniq provision`."
        for row in missing
    ]
    return found


async def _of_the_schema(connection: "asyncpg.Connection[asyncpg.Record]") -> list[str]:
    await connection.execute("set local role cliniq_platform")  # the login itself may read nothing
    if await connection.fetchval("select to_regclass('schema_step')") is None:
        return ["The database is empty: run `cliniq migrate`."]
    done = {row["name"] for row in await connection.fetch("select name from schema_step")}
    # Steps that this release lacks are no complaint: it runs on the next one's schema too.
    if pending := sorted({step.name for step in steps()} - done):
        return [f"The database lacks {pending[0]}: run `cliniq migrate`."]
    return []
