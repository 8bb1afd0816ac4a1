"""The roles and the database that a superuser makes once; afterwards no superuser is needed.

`cliniq_owner` owns the schema and runs migrations. `cliniq_app` is the application's login: it owns
nothing and may only become one of the three roles that the walls are written for. It does not
inherit from them: outside a unit it would stand in all three, and see what the widest of them sees.
"""

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import asyncpg

OWNER, LOGIN = "cliniq_owner", "cliniq_app"
SEATS = ("cliniq_clinic", "cliniq_person", "cliniq_platform")

ONE_MAKER = 0x636C696E6972  # the key of the advisory lock

# On the role, so that they hold behind a pooler too: for reads and writes alike, since a reader
# holds a connection as long as a writer does.
LIMITS: Mapping[str, str] = {
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "30s",
}


async def provision(
    admin_dsn: str, database: str, owner_password: str | None = None, password: str | None = None
) -> tuple[str, str]:
    """Make roles and database where they are missing; return the application's and owner's URL.

    Idempotent: a second run changes nothing but the passwords that it is given.
    Locks: a session advisory lock, since rivals that alter one role fail.
    """
    connection = await asyncpg.connect(admin_dsn)
    try:
        await connection.execute("select pg_advisory_lock($1)", ONE_MAKER)
        for role in SEATS:
            await _make_role(connection, role, "nologin")
        await _make_role(connection, OWNER, "login", owner_password)
        await _make_role(connection, LOGIN, "login", password)
        await _seat_login(connection)
        for name, value in LIMITS.items():
            await connection.execute(f"alter role {LOGIN} set {name} = '{value}'")
        known = "select from pg_database where datname = $1"
        if await connection.fetchrow(known, database) is None:
            await connection.execute(f'create database "{database}" owner {OWNER}')
    finally:
        await connection.close()
    return (
        _url(admin_dsn, database, LOGIN, password),
        _url(admin_dsn, database, OWNER, owner_password),
    )


async def _make_role(
    connection: "asyncpg.Connection[asyncpg.Record]",
    role: str,
    login: str,
    password: str | None = None,
) -> None:
    humble = f"{login} nosuperuser nobypassrls nocreatedb nocreaterole"
    await connection.execute(f"""
        do $$ begin create role {role} {humble};
        exception when duplicate_object or unique_violation then alter role {role} {humble}; end $$
    """)  # unique_violation too: two runners on two databases of one server
    if password is not None:
        quoted = await connection.fetchval("select quote_literal($1::text)", password)
        await connection.execute(f"alter role {role} password {quoted}")


async def _seat_login(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute(f"alter role {LOGIN} noinherit")
    # Since 16 each membership remembers on its own whether it is inherited.
    sixteen = connection.get_server_version().major >= 16  # noqa: PLR2004
    how = " with inherit false, set true" if sixteen else ""
    await connection.execute(f"grant {', '.join(SEATS)} to {LOGIN}{how}")


def _url(admin_dsn: str, database: str, user: str, password: str | None) -> str:
    parts = urlsplit(admin_dsn)
    place = parts.netloc.rpartition("@")[2]
    secret = f":{quote(password, safe='')}" if password else ""
    return parts._replace(netloc=f"{user}{secret}@{place}", path=f"/{database}").geturl()
