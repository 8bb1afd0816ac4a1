"""The only SQL of the relay: leases on shards, and what waits in the outbox, of all clinics."""

from datetime import datetime
from uuid import UUID

from cliniq.kernel.record import Record
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


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
    with present as (
        insert into relay (relay_id, expires_at) values ($1, $3)
        on conflict (relay_id) do update set expires_at = excluded.expires_at
    ), gone as (
        delete from relay where relay_id in (
            select relay_id from relay where relay_id <> $1 and expires_at <= $2
            for update skip locked
        )
    ), share as (
        select ((select count(*) from relay_lease) + count(*)) / (count(*) + 1) as most
        from relay where relay_id <> $1 and expires_at > $2
    ), mine as (
        select shard from relay_lease where holder = $1 order by shard
        limit (select most from share) for update
    ), free as (
        select shard from relay_lease
        where holder is null or holder <> $1 and expires_at <= $2
        order by shard limit (select most from share) - (select count(*) from mine)
        for update skip locked
    ), held as (
        update relay_lease set holder = $1, expires_at = $3
        where shard in (select shard from mine union all select shard from free)
        returning shard
    ), given_up as (
        update relay_lease set holder = null, expires_at = null
        where holder = $1 and shard not in (select shard from mine)
    )
    select shard from held order by shard
""")
async def renew(unit: Unit, relay_id: UUID, wall: datetime, expires_at: datetime) -> list[int]:
    """Keep the share of shards that is fair among the relays that live; return it.

    A share is the shards by the relays, rounded up: what is too much is given up, what is free or
    has expired is taken.
    Locks: the leases; never waits for another relay.
    """


@sql("""
    with gone as (delete from relay where relay_id = $1)
    update relay_lease set holder = null, expires_at = null where holder = $1
    returning shard
""")
async def leave(unit: Unit, relay_id: UUID) -> list[int]:
    """Give all shards up, and live no more; return what is free now."""


@sql("""
    select shard from relay_lease where shard = any($2) and holder = $1
    order by shard for update
""")
async def hold(unit: Unit, relay_id: UUID, shards: list[int]) -> list[int]:
    """Say which of these shards are still ours. Locks: their leases, so that they stay so."""


@sql("""
    select outbox_id, shard, clinic_id, kind, subject_id, topic, version,
        convert_to(body::text, 'UTF8') as body, convert_to(shown::text, 'UTF8') as shown,
        recorded_at, trace, is_forwarded
    from outbox where shard = any($1) and (not $3 or not is_forwarded)
    order by outbox_id limit $2
""")
async def list_waiting(
    unit: ReadUnit, shards: list[int], most: int, *, only_new: bool
) -> list[Waiting]:
    """List what waits longest in some shards; if asked, only what has no jobs yet."""


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


@sql("select recorded_at from outbox order by outbox_id limit 1")
async def find_oldest(unit: ReadUnit) -> datetime | None:
    """Say when the fact that waits longest was recorded."""
