"""The only SQL of the relays: who lives, and who holds which shards."""

from datetime import datetime
from uuid import UUID

from cliniq.platform.db import Unit
from cliniq.platform.sql import sql


@sql("""
    with present as (
        insert into relay (relay_id, expires_at) values ($1, $3)
        on conflict (relay_id) do update set expires_at = excluded.expires_at
    ), share as (
        select ((select count(*) from relay_lease) + count(*)) / (count(*) + 1) as most
        from relay where relay_id <> $1 and expires_at > $2
    ), own as (
        select shard from relay_lease where holder = $1 for update skip locked
    ), mine as (
        select shard from own order by shard limit (select most from share)
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
        where shard in (select shard from own except select shard from mine)
    )
    select shard from held order by shard
""")
async def renew(unit: Unit, relay_id: UUID, wall: datetime, expires_at: datetime) -> list[int]:
    """Keep the share of shards that is fair among the relays that live; return it.

    A share is the shards by the relays, rounded up: what is too much is given up, what is free or
    has expired is taken.
    Locks: the leases; never waits for another relay, or those that all slept would deadlock.
    """


@sql("""
    delete from relay where relay_id in (
        select relay_id from relay where expires_at <= $1 for update skip locked
    )
""")
async def forget_dead(unit: Unit, wall: datetime) -> None:
    """Forget relays that ended without leaving.

    Not part of `renew`: two that slept would each delete the other, and wait for it.
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
