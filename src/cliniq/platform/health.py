"""What must be true of the database before anyone is served, each as one sentence."""

import asyncpg

from cliniq.kernel.problem import DependencyUnavailable
from cliniq.platform.db import Database
from cliniq.platform.migrate import steps
from cliniq.platform.provision import LIMITS, SEATS

OLDEST = 15
PATIENCE_SECONDS = 2


async def ensure_serves(database: Database) -> None:
    """Have the database answer something.

    Raises: DEPENDENCY_UNAVAILABLE 503 where none comes within two seconds.
    """
    try:
        async with database.platform.acquire(timeout=PATIENCE_SECONDS) as connection:
            await connection.fetchval("select 1", timeout=PATIENCE_SECONDS)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        raise DependencyUnavailable("postgresql") from None


async def complaints(dsn: str) -> list[str]:
    """List what is wrong with the database as seen by the application's login; nothing is well.

    Raises: OSError or asyncpg.PostgresError where it cannot be reached at all.
    """
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        if wrong := await _of_the_server(connection):
            return wrong
        return await _of_the_schema(connection)
    finally:
        await connection.close()


async def count_held(dsn: str) -> int:
    """Count the facts that no job could be made of, as the application's login.

    Raises: OSError or asyncpg.PostgresError where the database cannot be reached.
    """
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        await connection.execute("set role cliniq_platform")
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
    await connection.execute("set role cliniq_platform")  # the login itself may read nothing
    if await connection.fetchval("select to_regclass('schema_step')") is None:
        return ["The database is empty: run `cliniq migrate`."]
    done = {row["name"] for row in await connection.fetch("select name from schema_step")}
    # Steps that this release lacks are no complaint: it runs on the next one's schema too.
    if pending := sorted({step.name for step in steps()} - done):
        return [f"The database lacks {pending[0]}: run `cliniq migrate`."]
    return []
