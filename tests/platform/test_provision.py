"""Roles and database: made once by a superuser, humble, and afterwards enough without one."""

import asyncio
import os
from collections.abc import AsyncIterator
from urllib.parse import unquote, urlsplit

import asyncpg
import pytest

from cliniq.platform.clock import Clocks
from cliniq.platform.health import complaints
from cliniq.platform.migrate import MigrationRefused, migrate, steps
from cliniq.platform.provision import LOGIN, OWNER, SEATS, provision
from cliniq.platform.source import Urls
from tests.conftest import on_server
from tests.support import Admin

NAME = f"cliniq_provision_{os.getpid()}"


@pytest.fixture
async def fresh(server: str) -> AsyncIterator[str]:
    """The name of a database that is not there yet."""
    yield NAME
    await on_server(server, f"drop database if exists {NAME} with (force)")


async def ask(dsn: str, question: str, *values: object) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(question, *values)
    finally:
        await connection.close()


async def test_provisioning_many_times_at_once_makes_one_of_everything(
    server: str, fresh: str
) -> None:
    first, *others = await asyncio.gather(
        provision(server, fresh), *(provision(server, "postgres") for _ in range(4))
    )
    assert await provision(server, fresh) == first
    known = "select count(*) from pg_roles where rolname = any($1::text[])"
    assert await ask(server, known, [*SEATS, OWNER, LOGIN]) == len(SEATS) + 2
    application, owner = first
    assert await ask(application, "select current_user || ' ' || current_database()") == (
        f"{LOGIN} {fresh}"
    )
    assert await ask(owner, "select current_user || ' ' || current_database()") == (
        f"{OWNER} {fresh}"
    )
    assert len(others) == 4


async def test_roles_are_humble_even_where_somebody_raised_them(server: str, fresh: str) -> None:
    try:
        await provision(server, fresh)
        await on_server(server, "alter role cliniq_platform createdb")  # the server is shared
        await provision(server, fresh)
    except BaseException:
        await on_server(server, "alter role cliniq_platform nocreatedb")
        raise
    raised = """
        select count(*) from pg_roles where rolname = any($1::text[]) and (rolsuper or rolbypassrls
            or rolcreatedb or rolcreaterole or rolreplication)
    """
    assert await ask(server, raised, [*SEATS, OWNER, LOGIN]) == 0
    login = "select count(*) from pg_roles where rolcanlogin and rolname = any($1::text[])"
    assert await ask(server, login, list(SEATS)) == 0
    assert await ask(server, login, [OWNER, LOGIN]) == 2


async def test_application_may_become_the_seats_and_nobody_else(server: str, urls: Urls) -> None:
    connection = await asyncpg.connect(urls.application)
    try:
        for seat in SEATS:
            await connection.execute(f"set role {seat}")
        for other in (OWNER, urlsplit(server).username or "postgres", "pg_read_all_data"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"set role {other}")
    finally:
        await connection.close()


async def test_application_is_bounded_in_time_and_owns_nothing(urls: Urls, admin: Admin) -> None:
    assert await ask(urls.application, "show statement_timeout") == "10s"
    assert await ask(urls.application, "show lock_timeout") == "5s"
    assert await ask(urls.application, "show idle_in_transaction_session_timeout") == "30s"
    owned = """
        select count(*) from pg_shdepend as d join pg_roles as r on r.oid = d.refobjid
        where d.refclassid = 'pg_authid'::regclass and d.deptype = 'o'
            and r.rolname = any($1::text[])
    """
    assert await admin.fetchval(owned, [LOGIN, *SEATS]) == 0
    for command in ("create table mine (a int)", "create schema mine", "create database mine"):
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError)):
            await ask(urls.application, command)


@pytest.mark.parametrize("password", ["it's", "a@b/c:d?e#f%20&", '\u00fc \\ "quoted"'])
async def test_password_of_any_letters_is_set_and_stands_in_the_address(
    server: str, fresh: str, password: str
) -> None:
    try:
        application, owner = await provision(server, fresh, f"owner {password}", password)
        assert unquote(urlsplit(application).password or "") == password
        assert unquote(urlsplit(owner).password or "") == f"owner {password}"
        assert await ask(application, "select current_user") == LOGIN
        kept = "select rolpassword from pg_authid where rolname = $1"
        assert str(await ask(server, kept, LOGIN)).startswith("SCRAM-SHA-256$")
        unchanged = await ask(server, kept, LOGIN)
        await provision(server, fresh)
        assert await ask(server, kept, LOGIN) == unchanged
    finally:
        await on_server(server, f"alter role {LOGIN} password null")
        await on_server(server, f"alter role {OWNER} password null")


# And then the owner migrates.


async def test_owner_who_is_no_superuser_migrates_once(server: str, fresh: str) -> None:
    application, owner = await provision(server, fresh)
    assert await complaints(application) == ["The database is empty: run `cliniq migrate`."]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await migrate(application, Clocks())
    told: list[str] = []
    both = await asyncio.gather(
        migrate(owner, Clocks(), told.append), migrate(owner, Clocks(), told.append)
    )
    assert sorted(both, key=len) == [[], [step.name for step in steps()]]
    assert told == [step.name for step in steps()]
    assert await migrate(owner, Clocks()) == []
    assert await complaints(application) == []
    await ask(owner, "update schema_step set digest = 'x' where name = $1", told[-1])
    with pytest.raises(MigrationRefused, match=f"{told[-1]} has changed"):
        await migrate(owner, Clocks())
    await ask(owner, "delete from schema_step where name = $1", told[-1])
    assert await complaints(application) == [
        f"The database lacks {told[-1]}: run `cliniq migrate`."
    ]


async def test_database_that_is_newer_than_the_code_is_not_migrated(own_urls: Urls) -> None:
    assert own_urls.owner is not None
    await ask(own_urls.owner, "insert into schema_step values ('9999_future.sql', 'x', now())")
    with pytest.raises(MigrationRefused, match="9999_future"):
        await migrate(own_urls.owner, Clocks())
