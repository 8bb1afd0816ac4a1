"""The only SQL of the processes' leases."""

from datetime import datetime
from uuid import UUID

from cliniq.kernel.record import Record
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


class Lease(Record, frozen=True):
    """A process is at work on the database; `pid` and `born_at` mean something on `machine`."""

    process_id: UUID
    kind: str
    host: str
    machine: str
    pid: int
    born_at: datetime
    has_redis: bool
    started_at: datetime
    seen_at: datetime


@sql("select true from pg_advisory_xact_lock(hashtext('process'))")
async def queue_up(unit: Unit) -> bool:
    """Be the only one who looks and then writes. Locks: until the end of the transaction."""


@sql("""
    select process_id, kind, host, machine, pid, born_at, has_redis, started_at, seen_at
    from process order by started_at, process_id
""")
async def list_leases(unit: ReadUnit) -> list[Lease]:
    """List who is at work on the database, the dead among them."""


@sql("""
    insert into process
        (process_id, kind, host, machine, pid, born_at, has_redis, started_at, seen_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
""")
async def add_lease(unit: Unit, lease: Lease) -> None:
    """Be known to be at work."""


@sql("update process set seen_at = $2 where process_id = $1 returning process_id")
async def renew(unit: Unit, process_id: UUID, wall: datetime) -> UUID | None:
    """Be seen; nothing where somebody has taken this process for dead."""


@sql("delete from process where process_id = any($1)")
async def remove_leases(unit: Unit, process_ids: list[UUID]) -> None:
    """Forget those who have gone."""
