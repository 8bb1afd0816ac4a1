"""Migrations: run by a humble owner, each once, one runner at a time, unchanged, linted."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from cliniq.kernel.permissions import GRANTED
from cliniq.platform import migrate as runner
from cliniq.platform.clock import Clocks, utc_now
from cliniq.platform.migrate import ONE_RUNNER, MigrationRefused, migrate, pending_steps, steps
from cliniq.platform.provision import provision
from tests.architecture import catalogue
from tests.architecture.declared import CUT_BY_RANGE
from tests.conftest import COPIES, NAME, dsn_of, on_server

ROOT = Path(__file__).parents[2]
STEPS = sorted(ROOT.glob("src/cliniq/migrations/*.sql"))
NAMES = [step.name for step in STEPS]
IMPATIENT = "100ms"
BOUNDED = re.compile(
    r"(--.*\n)+set local lock_timeout = '5s';\nset local statement_timeout = '\d+s';\n"
)


@pytest.fixture
async def empty(server: str) -> AsyncIterator[str]:
    """The owner's URL of a database in which nothing was done yet."""
    name = f"{NAME}_empty_{next(COPIES)}"
    _, owner = await provision(server, name)
    yield owner
    await on_server(server, f"drop database {name} with (force)")


@pytest.fixture(scope="module")
async def owner(server: str) -> AsyncIterator[str]:
    """The owner's URL of a migrated database, for this file alone."""
    name = f"{NAME}_migrations"
    _, owner = await provision(server, name)
    await migrate(owner, Clocks())
    yield owner
    await on_server(server, f"drop database {name} with (force)")


@pytest.fixture
async def rival(owner: str) -> AsyncIterator[catalogue.Connection]:
    """Somebody else who is busy in that database."""
    connection = await asyncpg.connect(owner)
    yield connection
    await connection.close()


async def test_humble_owner_migrates_from_empty(empty: str) -> None:
    connection = await asyncpg.connect(empty)
    proud = "select rolsuper or rolbypassrls or rolcreaterole from pg_roles where rolname = $1"
    assert await connection.fetchval(proud, "cliniq_owner") is False
    assert await connection.fetchval("select current_user") == "cliniq_owner"
    await connection.close()
    seen: list[str] = []
    assert await pending_steps(empty) == NAMES
    assert await migrate(empty, Clocks(), seen.append) == seen == NAMES
    assert await pending_steps(empty) == []


async def test_second_run_does_nothing(owner: str, rival: catalogue.Connection) -> None:
    tables = "select count(*) from pg_class"
    before = await rival.fetchval(tables)
    assert await migrate(owner, Clocks()) == []
    assert await rival.fetchval(tables) == before


async def test_step_that_was_edited_after_it_ran_is_refused(
    owner: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    edited = tmp_path / NAMES[2]
    edited.write_text(STEPS[2].read_text() + "-- one more word\n")
    monkeypatch.setattr(runner, "steps", lambda: [*STEPS[:2], edited, *STEPS[3:]])
    with pytest.raises(MigrationRefused, match=f"^{NAMES[2]} has changed since it ran"):
        await migrate(owner, Clocks())


async def test_database_newer_than_the_release_is_refused(
    owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "steps", lambda: STEPS[:-1])
    with pytest.raises(MigrationRefused, match=f"^The database has run {NAMES[-1]}, which"):
        await migrate(owner, Clocks())


async def test_two_runners_at_once_both_end_well(empty: str) -> None:
    ran = await asyncio.gather(*(migrate(empty, Clocks()) for _ in range(2)))
    assert sorted(ran) == [[], NAMES]


async def test_step_that_fails_leaves_nothing_and_is_run_again(
    empty: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    step = tmp_path / "0001_first.sql"
    step.write_text("create table half (done int); select 1 / 0")
    monkeypatch.setattr(runner, "steps", lambda: [*STEPS, step])
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty, Clocks())
    assert await pending_steps(empty) == [step.name]
    step.write_text("create table half (done int)")
    assert await migrate(empty, Clocks()) == [step.name]


@pytest.mark.parametrize(
    "held",
    [
        f"select pg_advisory_xact_lock({ONE_RUNNER})",
        "lock table role_grant in share mode",
        "lock table partitioned in access exclusive mode",
    ],
)
async def test_runner_that_meets_a_held_lock_gives_up(
    owner: str, rival: catalogue.Connection, held: str
) -> None:
    async with rival.transaction():
        await rival.execute(held)
        with pytest.raises(MigrationRefused, match="is in the way"):
            await migrate(owner, Clocks(), patience=IMPATIENT)
    assert await migrate(owner, Clocks(), patience=IMPATIENT) == []


async def test_step_that_meets_a_busy_table_gives_up(
    owner: str, rival: catalogue.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    step = tmp_path / "9999_next.sql"
    step.write_text("set local lock_timeout = '50ms'; alter table site add column next int")
    monkeypatch.setattr(runner, "steps", lambda: [*STEPS, step])
    async with rival.transaction():
        await rival.execute("lock table site in access share mode")
        with pytest.raises(MigrationRefused, match="is in the way"):
            await migrate(owner, Clocks())
    assert await pending_steps(owner) == [step.name]


@pytest.mark.parametrize(
    "tampering",
    [
        "delete from role_grant where role = 'DOCTOR'",
        "insert into role_grant values ('PATIENT', 'patients:read'), ('WIZARD', 'queue:call')",
        "update role_grant set permission = 'queue:fly' where permission = 'queue:call'",
        "truncate role_grant",
    ],
)
async def test_base_roles_are_those_of_the_code_after_every_run(
    owner: str, rival: catalogue.Connection, tampering: str
) -> None:
    code = {(str(role), str(each)) for role, granted in GRANTED.items() for each in granted}
    roles = "select role, permission from role_grant"
    await rival.execute(tampering)
    assert {tuple(row) for row in await rival.fetch(roles)} != code
    await migrate(owner, Clocks())
    assert {tuple(row) for row in await rival.fetch(roles)} == code


async def test_later_run_opens_the_partitions_of_later_days(
    server: str, owner: str, rival: catalogue.Connection
) -> None:
    newest = "select max(inhrelid::regclass::text) from pg_inherits where inhparent = $1::regclass"
    before = {table: await rival.fetchval(newest, table) for table in CUT_BY_RANGE}
    later = Clocks(*(2 * [lambda: utc_now() + timedelta(days=70)]))
    await migrate(owner, later)
    for table, part in before.items():
        assert await rival.fetchval(newest, table) > part
    connection = await asyncpg.connect(dsn_of(server, f"{NAME}_migrations"))
    try:
        await catalogue.check_partitions_carry_their_parents_walls(connection)
        await catalogue.check_grants(connection)
    finally:
        await connection.close()


def ensure_bounded(text: str) -> None:
    """A step says first what it is for, then how long it may wait and how long it may take."""
    assert BOUNDED.match(text)


def test_every_step_is_numbered_and_bounded() -> None:
    assert [step.name for step in steps()] == NAMES
    numbers = [int(name[:4]) for name in NAMES]
    assert numbers == sorted(set(numbers))  # a number that was given out and not used is no harm
    assert {name[4] for name in NAMES} == {"_"}
    for step in STEPS:
        ensure_bounded(step.read_text())


@pytest.mark.parametrize("line", ["-- ", "set local lock_timeout", "set local statement_timeout"])
def test_unbounded_step_is_found(line: str) -> None:
    lines = STEPS[0].read_text().splitlines(keepends=True)
    at = next(place for place, each in enumerate(lines) if each.startswith(line))
    with pytest.raises(AssertionError):
        ensure_bounded("".join([*lines[:at], *lines[at + 1 :]]))


def squawk(*files: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("squawk")
    return subprocess.run([program, *files], cwd=ROOT, capture_output=True, text=True, check=False)


def test_squawk_is_content() -> None:
    result = squawk(*STEPS)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("sin", "rule"),
    [
        ("create index late on site (name);", "require-concurrent-index-creation"),
        ("alter table site add column worth int not null;", "adding-required-field"),
        ("alter table site rename column name to title;", "renaming-column"),
        (
            "alter table site add constraint named check (name <> '');",
            "constraint-missing-not-valid",
        ),
    ],
)
def test_step_that_would_stop_the_clinic_is_found(tmp_path: Path, sin: str, rule: str) -> None:
    step = tmp_path / "9999_sin.sql"
    step.write_text(f"set local lock_timeout = '5s';\nset local statement_timeout = '9s';\n{sin}\n")
    result = squawk(step)
    assert result.returncode != 0
    assert rule in result.stdout
