"""The only SQL of messages that were asked for."""

from datetime import datetime
from uuid import UUID

from cliniq.kernel.record import Record
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


class Sealed(Record, frozen=True):
    """A message as it lies there."""

    message_id: UUID
    requested_at: datetime
    sealed: bytes


@sql("""
    insert into outgoing_message (message_id, kind, sealed, requested_at)
    select *, $4 from unnest($1::uuid[], $2::text[], $3::bytea[])
""")
async def add(
    unit: Unit, message_ids: list[UUID], kinds: list[str], sealed: list[bytes], at: datetime
) -> None:
    """Write messages."""


@sql("""
    select message_id, requested_at, sealed from outgoing_message
    order by requested_at desc, message_id desc limit $1
""")
async def list_newest(unit: ReadUnit, most: int) -> list[Sealed]:
    """List messages, the newest first."""


@sql("delete from outgoing_message where requested_at < $1")
async def drop_before(unit: Unit, before: datetime) -> None:
    """Forget old messages."""
