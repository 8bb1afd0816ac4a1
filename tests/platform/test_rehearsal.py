"""Rehearsals are marked before anybody is seen, and by nobody but the owner of the database."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from cliniq.app import House
from cliniq.kernel.ids import new_id
from cliniq.platform.clock import Clocks, Dial, utc_now
from cliniq.platform.migrate import migrate
from cliniq.platform.provision import provision
from cliniq.platform.rehearsal import (
    RealInstallation,
    ensure_rehearsal,
    is_rehearsal,
    load_clocks,
    mark,
    wipe,
)
from cliniq.platform.settings import SettingsRefused, load_settings
from cliniq.platform.source import Urls
from tests.conftest import NAME, house_of, on_server
from tests.journeys.served import Installation
from tests.support import Hands

MAY = datetime(2016, 5, 11, 7, tzinfo=UTC)
FOUND = "insert into clinic (clinic_id, name, app_name, zone) values ($1, 'A', 'a-clinic', 'UTC')"


@pytest.fixture
async def new_urls(server: str) -> AsyncIterator[Urls]:
    """An empty database of one test's own."""
    name = f"{NAME}_rehearsal"
    application, owner = await provision(server, name)
    await migrate(owner, Clocks())
    yield Urls(application, owner)
    await on_server(server, f"drop database {name} with (force)")


@pytest.fixture
async def new_house(new_urls: Urls, hands: Hands) -> AsyncIterator[House]:
    async with house_of(new_urls) as house:
        yield house


async def found(urls: Urls) -> None:
    assert urls.owner is not None
    connection = await asyncpg.connect(urls.owner)
    await connection.execute(FOUND, new_id())
    await connection.close()


async def test_database_with_clinics_is_never_marked(new_urls: Urls, new_house: House) -> None:
    await found(new_urls)
    assert new_urls.owner is not None
    with pytest.raises(RealInstallation, match="has clinics"):
        await mark(new_urls.owner)
    assert not await is_rehearsal(new_house.entrance.database)
    with pytest.raises(RealInstallation, match="not marked"):
        await ensure_rehearsal(new_house.entrance.database)


async def test_application_cannot_mark_its_database(new_urls: Urls, new_house: House) -> None:
    connection = await asyncpg.connect(new_urls.application)
    try:
        await connection.execute("set role cliniq_platform")
        for wish in (
            "call mark_rehearsal(now())",
            "insert into rehearsal (marked_at) values (now())",
            "delete from rehearsal",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(wish)
    finally:
        await connection.close()
    assert not await is_rehearsal(new_house.entrance.database)


async def test_rehearsal_stays_one_whoever_comes(new_urls: Urls, new_house: House) -> None:
    assert new_urls.owner is not None
    await mark(new_urls.owner)
    await found(new_urls)
    await mark(new_urls.owner)
    await ensure_rehearsal(new_house.entrance.database)
    assert await is_rehearsal(new_house.entrance.database)


def test_clinic_time_is_the_dial_s_and_wall_time_the_machine_s(tmp_path: Path) -> None:
    Dial.make(tmp_path / "dial", MAY, 0)
    before = utc_now()
    clocks = load_clocks(load_settings({"CLINIQ_CLINIC_CLOCK": str(tmp_path / "dial")}))
    assert clocks.clinic() == MAY
    assert before <= clocks.wall() <= utc_now()
    assert load_clocks(load_settings({})) == Clocks()


def test_clock_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match=r"CLINIQ_CLINIC_CLOCK is wrong: .* no clock"):
        load_clocks(load_settings({"CLINIQ_CLINIC_CLOCK": str(tmp_path / "none")}))


@pytest.mark.parametrize("command", ["serve", "worker"])
async def test_process_with_a_dial_refuses_a_database_that_is_no_rehearsal(
    new_urls: Urls, tmp_path: Path, command: str
) -> None:
    Dial.make(tmp_path / "dial", MAY, 0)
    settings = {
        "CLINIQ_CLINIC_CLOCK": str(tmp_path / "dial"),
        "CLINIQ_DATABASE_URL": new_urls.application,
        "CLINIQ_SECRET": "a secret that is long enough to be one",
    }
    refusal = await Installation(tmp_path, settings).tried(command)
    assert refusal.returncode == 2
    assert refusal.stderr.strip().splitlines()[-1] == (
        "cliniq: This database is not marked as a rehearsal: its clinic time is not turned, and"
        " nothing is played in it."
    )


# Emptied


async def test_installation_is_never_emptied(new_urls: Urls) -> None:
    assert new_urls.owner
    connection = await asyncpg.connect(new_urls.owner)
    try:
        await connection.execute(FOUND, new_id())
        with pytest.raises(RealInstallation):
            await wipe(new_urls.owner)
        assert await connection.fetchval("select count(*) from clinic") == 1
    finally:
        await connection.close()


async def test_rehearsal_that_is_emptied_is_as_on_its_first_day(new_urls: Urls) -> None:
    assert new_urls.owner
    await mark(new_urls.owner)
    connection = await asyncpg.connect(new_urls.owner)
    try:
        before = await counts(connection)
        for _ in range(2):
            await connection.execute(FOUND, new_id())
            await connection.execute("insert into person values (gen_random_uuid(), 'A', 'B')")
            await wipe(new_urls.owner)
            assert await counts(connection) == before
    finally:
        await connection.close()
    async with house_of(new_urls) as house:
        await ensure_rehearsal(house.entrance.database)


async def counts(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, int]:
    """How many rows every table has."""
    tables = await connection.fetch(
        "select relname from pg_class where relkind in ('r', 'p') and not relispartition"
        " and relnamespace = 'public'::regnamespace order by relname"
    )
    return {
        row["relname"]: await connection.fetchval(f"select count(*) from {row['relname']}")  # noqa: S608
        for row in tables
    }
