"""Migrations: plain SQL files, in order, each in its own transaction, one runner at a time."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from importlib import resources
from importlib.resources.abc import Traversable
from typing import TypeAlias

import asyncpg

from cliniq.kernel.permissions import GRANTED
from cliniq.platform.clock import Clocks

ONE_RUNNER = 0x636C696E6971  # "cliniq", the key of the advisory lock
TRIES = 20
PATIENCE = "60s"  # for another runner, and for a busy table

Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class MigrationRefused(Exception):
    """The schema cannot be brought up to date; the message is one sentence for the operator."""


def steps() -> list[Traversable]:
    """List the migration files, oldest first."""
    files = resources.files("cliniq.migrations").iterdir()
    return sorted(
        (file for file in files if file.name.endswith(".sql")), key=lambda file: file.name
    )


async def migrate(
    owner_dsn: str,
    clocks: Clocks,
    progress: Callable[[str], None] | None = None,
    *,
    patience: str = PATIENCE,
) -> list[str]:
    """Bring the database up to date as its owner; return the names of the steps that ran now.

    Also writes the base roles' permissions from the code, and opens the partitions ahead.
    Locks: a session advisory lock, so that ten instances may start at once.
    Idempotent: a second run changes nothing.
    Raises: MigrationRefused where a file that ran has changed since, where the database is newer
    than the code, or where another runner or a long transaction outlasts `patience`.
    """
    async with _owner(owner_dsn, patience) as connection:
        await connection.execute(
            "create table if not exists schema_step"
            " (name text primary key, digest text not null, ran_at timestamptz not null)"
        )
        known = {
            row["name"]: row["digest"]
            for row in await connection.fetch("select name, digest from schema_step")
        }
        files = steps()
        if newer := sorted(known.keys() - {step.name for step in files}):
            raise MigrationRefused(f"The database has run {newer[-1]}, which this release lacks.")
        ran = []
        for step in files:
            if await _run(connection, step, known.get(step.name), clocks):
                ran.append(step.name)
                if progress:
                    progress(step.name)
        await _grant_base_roles(connection)
        await _open_partitions(connection, clocks)
        return ran


@asynccontextmanager
async def _owner(dsn: str, patience: str) -> AsyncIterator[Owner]:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("select set_config('lock_timeout', $1, false)", patience)
        await connection.execute("select pg_advisory_lock($1)", ONE_RUNNER)
        yield connection
    except asyncpg.LockNotAvailableError:
        raise MigrationRefused("Another migration, or a long transaction, is in the way.") from None
    finally:
        await connection.close()


async def _run(connection: Owner, step: Traversable, known: str | None, clocks: Clocks) -> bool:
    text = step.read_text(encoding="utf-8")
    digest = sha256(text.encode()).hexdigest()
    if known is not None:
        if known != digest:
            raise MigrationRefused(f"{step.name} has changed since it ran in this database.")
        return False
    async with connection.transaction():
        await connection.execute(text)
        await connection.execute(
            "insert into schema_step (name, digest, ran_at) values ($1, $2, $3)",
            step.name,
            digest,
            clocks.wall(),
        )
    return True


async def _grant_base_roles(connection: Owner) -> None:
    """Make the table of base roles equal to the code's, in one statement."""
    wanted = [
        {"role": role, "permission": permission}
        for role, permissions in GRANTED.items()
        for permission in sorted(permissions)
    ]
    await connection.execute(
        """
        with wanted as (
            select * from jsonb_to_recordset($1::jsonb) as wanted (role text, permission text)
        ), revoked as (
            delete from role_grant
            where (role, permission) not in (select role, permission from wanted)
        )
        insert into role_grant (role, permission) select role, permission from wanted
        on conflict (role, permission) do nothing
        """,
        json.dumps(wanted),
    )


async def _open_partitions(connection: Owner, clocks: Clocks) -> None:
    """Open the partitions ahead; it waits only briefly for locks, so it is tried a few times."""
    days = clocks.clinic().date(), clocks.wall().date()
    for _ in range(TRIES):
        with suppress(asyncpg.LockNotAvailableError):
            await connection.execute("select open_partitions($1, $2)", *days)
            return
    await connection.execute("select open_partitions($1, $2)", *days)


async def pending_steps(dsn: str) -> list[str]:
    """List the steps that a database has not run yet; all of them where it is empty."""
    connection = await asyncpg.connect(dsn)
    try:
        names = [step.name for step in steps()]
        if await connection.fetchval("select to_regclass('schema_step')") is None:
            return names
        done = {row["name"] for row in await connection.fetch("select name from schema_step")}
        return [name for name in names if name not in done]
    finally:
        await connection.close()
