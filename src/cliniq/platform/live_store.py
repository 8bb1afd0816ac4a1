"""The only SQL of live connections: passes that were used, and the history that versions count."""

from datetime import datetime
from uuid import UUID

from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


@sql("""
    insert into live_pass (pass_hash, person_id, session_id, expires_at) values ($1, $2, $3, $4)
    on conflict (pass_hash) do nothing returning person_id
""")
async def spend_pass(
    unit: Unit, pass_hash: bytes, person_id: UUID, session_id: UUID, expires_at: datetime
) -> UUID | None:
    """Write that a pass was used; nothing where it was before.

    Locks: of two that use it, one waits and then writes nothing.
    """


@sql("delete from live_pass where expires_at <= $1")
async def drop_stale_passes(unit: Unit, wall: datetime) -> None:
    """Forget passes that are too old anyway."""


@sql("""
    select encode(sha256(convert_to(concat_ws(' ', renewed, system_identifier,
        substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),
        (select oid from pg_database where datname = current_database())), 'UTF8')), 'hex')
    from live_epoch, pg_control_system()
""")
async def read_epoch(unit: ReadUnit) -> str:
    """Name the history that versions count: this server's, on this timeline, in this database."""
