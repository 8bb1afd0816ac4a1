"""The only SQL of the trail: the audit and the outbox."""

from datetime import date, datetime
from uuid import UUID

from cliniq.kernel.record import Record
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


class Author(Record, frozen=True):
    """Who told facts, by what right, and when: on the clinic's clock and on the wall."""

    actor_id: UUID | None
    permission: str
    happened_at: datetime
    recorded_at: datetime
    request_id: str


class Denial(Record, frozen=True):
    """A refusal to be remembered. `clinic_id` is the one asked for; it may not exist."""

    clinic_id: UUID | None
    denial_id: UUID
    actor_id: UUID | None
    permission: str
    action: str
    code: str
    request_id: str
    happened_at: datetime
    recorded_at: datetime


class Waiting(Record, frozen=True):
    """A fact that waits to be passed on. `shown` is nothing where nobody may watch it."""

    outbox_id: int
    shard: int
    clinic_id: UUID
    kind: str
    subject_id: UUID
    topic: str
    version: int
    body: bytes
    shown: bytes | None
    recorded_at: datetime
    trace: str
    is_forwarded: bool


class Held(Record, frozen=True):
    """A fact that could not be passed on, since when, and the kind of error."""

    outbox_id: int
    clinic_id: UUID
    kind: str
    subject_id: UUID
    recorded_at: datetime
    held_at: datetime
    reason: str


@sql("""
    with fact as (
        select * from jsonb_to_recordset($1::jsonb) as fact (audit_id uuid, kind text,
            subject_type text, subject_id uuid, topic text, version bigint, body jsonb,
            shard bigint, shown jsonb, trace text)
    ), audited as (
        insert into audit (audit_id, actor_id, permission, happened_at, recorded_at, request_id,
            action, outcome, entity_type, entity_id)
        select audit_id, $2, $3, $4, $5, $6, kind, 'success', subject_type, subject_id from fact
    )
    insert into outbox (recorded_at, kind, subject_id, topic, version, body, shard, shown, trace)
    select $5, kind, subject_id, topic, version, body, shard, shown, trace from fact
""")
async def append(unit: Unit, facts: str, author: Author) -> None:
    """Write facts (a JSON array) to the audit and to the outbox, in the order they came."""


@sql("""
    select outbox_id, shard, clinic_id, kind, subject_id, topic, version,
        convert_to(body::text, 'UTF8') as body, convert_to(shown::text, 'UTF8') as shown,
        recorded_at, trace, is_forwarded
    from outbox where shard = any($1) and not is_forwarded
    order by outbox_id limit $2
""")
async def list_new(unit: ReadUnit, shards: list[int], most: int) -> list[Waiting]:
    """List facts of some shards whose jobs have yet to be made, in order."""


@sql("""
    select outbox_id, shard, clinic_id, kind, subject_id, topic, version,
        convert_to(body::text, 'UTF8') as body, convert_to(shown::text, 'UTF8') as shown,
        recorded_at, trace, is_forwarded
    from outbox where shard = any($1)
    order by outbox_id limit $2
""")
async def list_waiting(unit: ReadUnit, shards: list[int], most: int) -> list[Waiting]:
    """List what waits longest in some shards: for jobs, for the bus, or for both."""


@sql("""
    delete from outbox
    where outbox_id = any($1) and recorded_at between $2 and $3
    returning outbox_id
""")
async def remove(
    unit: Unit, outbox_ids: list[int], earliest: datetime, latest: datetime
) -> list[int]:
    """Take facts out of the outbox for good; return those that were still there.

    The times they were recorded between name the partitions to look in.
    """


@sql("""
    update outbox set is_forwarded = true
    where outbox_id = any($1) and recorded_at between $2 and $3 and not is_forwarded
    returning outbox_id
""")
async def mark_forwarded(
    unit: Unit, outbox_ids: list[int], earliest: datetime, latest: datetime
) -> list[int]:
    """Remember that facts have their jobs; return those that had none before."""


@sql("""
    with taken as (
        delete from outbox where outbox_id = $1 and recorded_at = $2
        returning clinic_id, outbox_id, recorded_at, kind, subject_id, topic, version, body,
            shard, shown, trace
    )
    insert into outbox_held (clinic_id, outbox_id, recorded_at, kind, subject_id, topic, version,
        body, shard, shown, trace, held_at, reason)
    select clinic_id, outbox_id, recorded_at, kind, subject_id, topic, version, body, shard, shown,
        trace, $3, $4
    from taken
""")
async def set_aside(
    unit: Unit, outbox_id: int, recorded_at: datetime, wall: datetime, reason: str
) -> None:
    """Move a fact out of its neighbours' way."""


@sql("""
    select outbox_id, clinic_id, kind, subject_id, recorded_at, held_at, reason
    from outbox_held order by outbox_id limit $1
""")
async def list_held(unit: ReadUnit, most: int) -> list[Held]:
    """List what was set aside, oldest first."""


@sql("""
    with released as (
        delete from outbox_held
        returning clinic_id, outbox_id, kind, subject_id, topic, version, body, shard, trace
    )
    insert into outbox (clinic_id, outbox_id, recorded_at, kind, subject_id, topic, version, body,
        shard, trace)
    select clinic_id, outbox_id, $1, kind, subject_id, topic, version, body, shard, trace
    from released
    returning outbox_id
""")
async def put_back(unit: Unit, wall: datetime) -> list[int]:
    """Have all that was set aside passed on again, as of now; return its numbers.

    Those who watch have seen it already. The partition of its own day may be gone.
    """


@sql("select recorded_at from outbox order by outbox_id limit 1")
async def find_oldest(unit: ReadUnit) -> datetime | None:
    """Say when the fact that waits longest was recorded."""


@sql("call record_denial($1, $2, $3, $4, $5, $6, $7, $8, $9)")
async def add_denial(unit: Unit, denial: Denial) -> None:
    """Write a refusal to the clinic's audit, or to the security events where there is none."""


@sql("""
    insert into security_event (event_id, recorded_at, actor_id, action, code, request_id)
    values ($1, $2, $3, $4, $5, $6)
""")
async def add_security_event(
    unit: Unit,
    event_id: UUID,
    recorded_at: datetime,
    actor_id: UUID | None,
    action: str,
    code: str,
    request_id: str,
) -> None:
    """Write what happened outside every clinic."""


@sql("select open_partitions($1, $2)")
async def open_partitions(unit: Unit, clinic_day: date, wall_day: date) -> list[str]:
    """Open the partitions ahead of both clocks; return the names of the new ones."""
