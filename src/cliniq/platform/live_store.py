"""The only SQL of the live socket: its one-use passes."""

from datetime import datetime
from uuid import UUID

from cliniq.kernel.record import Record
from cliniq.platform.db import Unit
from cliniq.platform.sql import sql


class PassHolder(Record, frozen=True):
    """Who bought a pass, and the sign-in that it lives and dies with."""

    person_id: UUID
    session_id: UUID


@sql("insert into live_pass (pass_hash, person_id, session_id, expires_at) values ($1, $2, $3, $4)")
async def add_pass(
    unit: Unit, pass_hash: bytes, person_id: UUID, session_id: UUID, expires_at: datetime
) -> None:
    """Remember the hash of a pass."""


@sql("""
    delete from live_pass where pass_hash = $1 and expires_at > $2
    returning person_id, session_id
""")
async def redeem_pass(unit: Unit, pass_hash: bytes, wall: datetime) -> PassHolder | None:
    """Use a pass up; nothing where it is unknown, used or too old.

    Locks: of two that redeem it, one waits and then finds nothing.
    """


@sql("delete from live_pass where expires_at <= $1")
async def drop_stale_passes(unit: Unit, wall: datetime) -> None:
    """Forget passes that nobody used."""
