"""Rehearsals: demos and simulations, in a database that was marked before anybody was seen there.

Only there may clinic time be turned, and only the owner of the database can mark it.
"""

import asyncpg

from cliniq.kernel.scope import PlatformScope
from cliniq.platform import rehearsal_store
from cliniq.platform.clock import Clocks, Dial, NoDial, utc_now
from cliniq.platform.db import Database, open_read_unit
from cliniq.platform.settings import Settings, SettingsRefused

CLINICS_ALREADY = "CQ409"
# What the schema is made of, and what its processes hold; all else has happened in it.
KEPT = (
    "job_pace live_epoch partitioned process rehearsal relay relay_lease role_grant schema_step"
).split()


class RealInstallation(Exception):
    """The database is somebody's installation, and no rehearsal; one sentence for the operator."""


async def mark(owner_url: str) -> None:
    """Mark a database without clinics as a rehearsal. Idempotent.

    Raises: RealInstallation where there are clinics, and no mark.
    """
    connection = await asyncpg.connect(owner_url)
    try:
        await connection.execute("call mark_rehearsal($1)", utc_now())
    except asyncpg.PostgresError as error:
        if error.sqlstate != CLINICS_ALREADY:
            raise
        raise RealInstallation(
            "This database has clinics and is no rehearsal: nothing is played in it."
        ) from None
    finally:
        await connection.close()


async def wipe(owner_url: str) -> None:
    """Empty a rehearsal: all that happened in it is gone, and it is one still.

    Raises: RealInstallation where the database is not marked.
    """
    connection = await asyncpg.connect(owner_url)
    try:
        if not await connection.fetchval("select exists (select from rehearsal)"):
            raise RealInstallation("This database is not marked as a rehearsal: it is not emptied.")
        tables = await connection.fetch(
            "select quote_ident(relname) as name from pg_class"
            " where relkind in ('r', 'p') and not relispartition"
            " and relnamespace = 'public'::regnamespace and relname <> all($1)",
            KEPT,
        )
        names = ", ".join(row["name"] for row in tables)
        await connection.execute(f"truncate {names} restart identity")
    finally:
        await connection.close()


async def is_rehearsal(database: Database) -> bool:
    """Tell whether nobody real is seen here."""
    async with open_read_unit(database, PlatformScope("look for the mark")) as unit:
        return await rehearsal_store.is_marked(unit)


async def ensure_rehearsal(database: Database) -> None:
    """Refuse a database in which somebody real may be seen.

    Raises: RealInstallation.
    """
    if not await is_rehearsal(database):
        raise RealInstallation(
            "This database is not marked as a rehearsal: its clinic time is not turned, and"
            " nothing is played in it."
        )


def load_clocks(settings: Settings) -> Clocks:
    """Read the clocks that the settings name: the machine's, or a rehearsal's for clinic time.

    Raises: SettingsRefused where there is no such dial.
    """
    if settings.clinic_clock is None:
        return Clocks()
    try:
        return Clocks(clinic=Dial(settings.clinic_clock).read)
    except NoDial as no:
        raise SettingsRefused(f"CLINIQ_CLINIC_CLOCK is wrong: {no}") from None
