"""The walls are in the database as declared; every check was seen to find what it looks for."""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from cliniq.platform.clock import Clocks
from cliniq.platform.migrate import migrate
from cliniq.platform.provision import provision
from cliniq.platform.source import Urls
from tests.architecture import catalogue
from tests.architecture.catalogue import Connection
from tests.conftest import NAME, dsn_of, on_server

OWN = f"{NAME}_catalogue"
Check = Callable[[Connection], Awaitable[None]]

CHECKS: dict[str, Check] = {
    name.removeprefix("check_"): check
    for name, check in vars(catalogue).items()
    if name.startswith("check_")
}

# Speak to one partition of a table, whichever day it is.
PART = """
do $$ begin
    execute replace({statement!r}, 'PART', (select min(inhrelid::regclass::text)
        from pg_inherits where inhparent = {table!r}::regclass));
end $$
"""

SINS = {
    "every_table_is_walled_or_named": [
        "create table leak (clinic_id uuid)",
        "create table leak (anything text)",
        "create table leak partition of check_in for values from ('2001-01-01') to ('2001-02-01')",
        "alter table audit no force row level security",
        "alter table site disable row level security",
        PART.format(statement="alter table PART no force row level security", table="audit"),
        "create schema aside; create table aside.leak (clinic_id uuid)",
        "create materialized view leak as select * from site",
    ],
    "policies": [
        "create policy wide on audit using (true)",
        "create policy wide on account to cliniq_person using (true)",
        "create policy narrow on site as restrictive to cliniq_clinic using (true)",
        "drop policy owner on audit",
        "drop policy owner on person",
        "alter policy clinic on site using (true)",
        "alter policy clinic on site with check (true)",
        "alter policy person on booking to public",
        "alter policy person on booking to cliniq_person, cliniq_clinic",
        "alter policy person on patient using (clinic_id = current_clinic())",
        (
            "drop policy person on claim; create policy person on claim for select to cliniq_person"
            " using (true)"
        ),
    ],
    "partitions_carry_their_parents_walls": [
        PART.format(statement="drop policy person on PART", table="appointment"),
        PART.format(statement="create policy wide on PART using (true)", table="audit"),
        PART.format(statement="alter policy clinic on PART using (true)", table="check_in"),
        PART.format(statement="alter policy clinic on PART to public", table="outbox"),
        PART.format(statement="alter table PART disable row level security", table="outbox"),
        "create table leak partition of check_in for values from ('2001-01-01') to ('2001-02-01')",
    ],
    "grants": [
        "grant select on account to cliniq_clinic",
        "grant select (password_hash) on account to cliniq_person",
        "grant update on audit to cliniq_clinic",
        "grant delete on audit to cliniq_platform",
        "grant select on site to public",
        "grant select on site to cliniq_app",
        "grant select on site to cliniq_clinic with grant option",
        "grant usage on sequence resource_number_seq to cliniq_person",
        "grant create on schema public to cliniq_clinic",
        "grant usage on schema public to public",
        "grant execute on procedure take_seat to public",
        "grant execute on procedure wall_in to cliniq_clinic",
        "create function leak() returns int language sql return 1",
        (
            "create view leak with (security_invoker) as select * from account;"
            " grant select on leak to cliniq_person"
        ),
        "revoke insert on outbox from cliniq_person",
        PART.format(statement="grant select on PART to cliniq_clinic", table="appointment"),
    ],
    "definers": [
        (
            "create function leak() returns int language sql security definer"
            " set search_path = public, pg_temp return 1"
        ),
        "alter function show_board security invoker",
        "alter function show_board reset search_path",
        "alter procedure take_seat set search_path = public",
        "alter procedure take_seat set work_mem = '1GB'",
    ],
    "owner_owns_everything": [
        "alter table site owner to current_user",
        "alter table site owner to cliniq_app",
        "alter function show_board owner to current_user",
        "create schema aside authorization cliniq_clinic",
        "create sequence astray",
    ],
    "roles_are_humble": [
        "alter role cliniq_app superuser",
        "alter role cliniq_app inherit",
        "alter role cliniq_clinic bypassrls",
        "alter role cliniq_clinic login",
        "alter role cliniq_owner superuser",
        "alter role cliniq_platform createrole",
        "grant cliniq_owner to cliniq_app",
        "grant cliniq_platform to cliniq_person",
        "grant pg_read_all_data to cliniq_platform",
        "revoke cliniq_person from cliniq_app",
    ],
    "keys_carry_the_clinic": [
        (
            "alter table site add unique (site_id);"
            " alter table queue add foreign key (site_id) references site (site_id)"
        ),
        (
            "alter table booking add unique (booking_id, clinic_id);"
            " alter table check_in_claim add foreign key (appointment_id, clinic_id)"
            " references booking (booking_id, clinic_id)"
        ),
        (
            "alter table site add unique (site_id);"
            " alter table live_pass add foreign key (session_id) references site (site_id)"
        ),
        "alter table check_in_rule add foreign key (rule_id) references person",
        (
            "alter table check_in_claim add foreign key (clinic_id, check_in_id, checked_in_at)"
            " references check_in"
        ),
    ],
    "uniques_are_led_by_the_clinic": [
        "alter table site add unique (site_id)",
        "create unique index on site (name, clinic_id)",
        "create unique index on site (lower(name))",
        (
            "alter table patient drop constraint patient_pkey cascade,"
            " add primary key (patient_id, clinic_id)"
        ),
        "create table leak (clinic_id uuid)",
        "alter table booking add constraint busy exclude (booking_id with =)",
        "alter table claim drop constraint no_overlap",
    ],
    "clinic_comes_by_itself": [
        "alter table site alter clinic_id drop default",
        "alter table site alter clinic_id set default gen_random_uuid()",
        "create table leak (clinic_id uuid default current_clinic())",
        PART.format(statement="alter table PART alter clinic_id drop default", table="audit"),
    ],
    "what_is_cut_is_kept_up": [
        "create table leak (clinic_id uuid, at timestamptz) partition by range (at)",
        "delete from partitioned where table_name = 'audit'",
        "insert into partitioned values ('site', 'day', 'wall', '1 day')",
        "truncate partitioned; drop table outbox",
        "create table leak (a bigint) partition by hash (a)",
    ],
    "views_obey_walls": [
        "create view leak as select * from site",
        "create view leak with (security_invoker = false) as select * from site",
        "create materialized view leak as select * from site",
    ],
    "nothing_reads_the_servers_clock": [
        "alter table site add column made_at timestamptz default now()",
        "alter table site add column made_on date default current_date",
        "create function leak() returns date language sql return current_date",
        "create function leak() returns timestamptz language sql as 'select clock_timestamp()'",
        (
            "create function leak() returns timestamptz language plpgsql as"
            " 'begin return localtimestamp; end'"
        ),
        "create policy late on site using (now() > '2020-01-01')",
        "alter table booking add check (starts_at < statement_timestamp())",
        "create view leak as select current_timestamp as at",
    ],
    "only_the_core_is_needed": [
        (
            "do $$ begin execute format('create extension %I', (select name from"
            " pg_available_extensions where name in ('vector', 'pg_trgm') limit 1)); end $$"
        ),
    ],
}


@pytest.fixture(scope="module")
async def own(server: str) -> AsyncIterator[Urls]:
    """A migrated database for this file alone."""
    application, owner = await provision(server, OWN)
    await migrate(owner, Clocks())
    yield Urls(application, owner)
    await on_server(server, f"drop database {OWN} with (force)")


@pytest.fixture(scope="module")
async def db(server: str, own: Urls) -> AsyncIterator[Connection]:
    """The superuser in it."""
    connection = await asyncpg.connect(dsn_of(server, OWN))
    yield connection
    await connection.close()


@pytest.mark.parametrize("name", CHECKS)
async def test_database_is_as_declared(db: Connection, name: str) -> None:
    await CHECKS[name](db)


@pytest.mark.parametrize(
    ("name", "sin"), [(name, sin) for name, sins in SINS.items() for sin in sins]
)
async def test_sin_against_the_declaration_is_found(db: Connection, name: str, sin: str) -> None:
    transaction = db.transaction()
    await transaction.start()
    try:
        await db.execute(sin)
        with pytest.raises(AssertionError, match="too much"):
            await CHECKS[name](db)
    finally:
        await transaction.rollback()


def test_every_check_was_seen_to_fail() -> None:
    assert SINS.keys() == CHECKS.keys()


async def test_login_outside_a_unit_sees_nothing(own: Urls, db: Connection) -> None:
    tables = await db.fetch(
        "select oid::regclass::text as name from pg_class"
        " where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace"
    )
    assert len(tables) > 50
    connection = await asyncpg.connect(own.application)
    try:
        for table in tables:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"select from public.{table['name']}")
    finally:
        await connection.close()


async def test_owners_backfill_reaches_every_clinic(own: Urls, db: Connection) -> None:
    for name in ("one", "two"):
        await db.execute(
            "insert into clinic values (gen_random_uuid(), $1, $2, 'UTC')", name, f"clinic-{name}"
        )
    backfill = "update clinic set zone = 'Europe/Vienna'"
    connection = await asyncpg.connect(own.owner)
    transaction = connection.transaction()
    try:
        assert await connection.execute(backfill) == "UPDATE 2"
        await transaction.start()
        await connection.execute("drop policy owner on clinic")
        assert await connection.execute(backfill) == "UPDATE 0"
        await transaction.rollback()
    finally:
        await connection.close()
