"""The only SQL of the scheduling room. The clinic is the transaction's; no statement names it."""

from datetime import datetime
from uuid import UUID

from cliniq.domains.scheduling.models import Claim, Resource, ResourceKind, ResourceNumber
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


@sql("select resource_id from resource where resource_id = any($1)")
async def list_known(unit: ReadUnit, resource_ids: list[UUID]) -> list[UUID]:
    """Say which resources have a number already."""


@sql("""
    insert into resource (resource_id, kind, patient_id) values ($1, $2, $3)
    on conflict (clinic_id, resource_id) do nothing
""")
async def add_resource(unit: Unit, resource: Resource) -> None:
    """Give a resource its number. Idempotent."""


@sql("select resource_id, number from resource where resource_id = any($1)")
async def list_numbers(unit: ReadUnit, resource_ids: list[UUID]) -> list[ResourceNumber]:
    """Say by which numbers resources claim time; who has none yet is left out."""


@sql("""
    insert into resource (resource_id, kind, patient_id)
    select * from unnest($1::uuid[], $2::text[], $3::uuid[])
    on conflict (clinic_id, resource_id) do nothing
""")
async def add_resources(
    unit: Unit,
    resource_ids: list[UUID],
    kinds: list[ResourceKind],
    patient_ids: list[UUID | None],
) -> None:
    """Give many resources their numbers. Idempotent. Locks: in the order of the list."""


@sql("insert into booking (booking_id, patient_id, starts_at) values ($1, $2, $3)")
async def add_booking(unit: Unit, booking_id: UUID, patient_id: UUID, starts_at: datetime) -> None:
    """Write a booking."""


@sql("select booking_id from booking where booking_id = $1 for update")
async def hold_booking(unit: Unit, booking_id: UUID) -> UUID | None:
    """Find a booking and hold it. Locks: against movers, and against a check-in."""


@sql("update booking set starts_at = $2 where booking_id = $1")
async def move_booking(unit: Unit, booking_id: UUID, starts_at: datetime) -> None:
    """Write a booking's new start."""


@sql("""
    insert into claim (booking_id, patient_id, number, span)
    select $1, $2, number, slot_span(number, $3, $4) from resource
    where resource_id = any($5) order by number
    on conflict on constraint no_overlap do nothing
    returning number
""")
async def take_claims(
    unit: Unit,
    booking_id: UUID,
    patient_id: UUID,
    starts_at: datetime,
    ends_at: datetime,
    resource_ids: list[UUID],
) -> list[int]:
    """Claim all resources of a booking at once; answer with those that were free.

    Locks: waits for rivals in the order of the numbers, so that two never wait for each other;
    `on conflict` also keeps two rivals of one slot from doing so, which a plain insert would.
    """


@sql("""
    insert into booking (booking_id, patient_id, starts_at)
    select * from unnest($1::uuid[], $2::uuid[], $3::timestamptz[])
""")
async def add_bookings(
    unit: Unit, booking_ids: list[UUID], patient_ids: list[UUID], starts: list[datetime]
) -> None:
    """Write many bookings."""


@sql("""
    insert into claim (booking_id, patient_id, number, span)
    select booking_id, patient_id, number, slot_span(number, starts_at, ends_at)
    from unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::bigint[])
        with ordinality as wanted (booking_id, patient_id, starts_at, ends_at, number, place)
    order by number, place
    on conflict on constraint no_overlap do nothing
    returning booking_id, number
""")
async def take_all_claims(
    unit: Unit,
    booking_ids: list[UUID],
    patient_ids: list[UUID],
    starts: list[datetime],
    ends: list[datetime],
    numbers: list[int],
) -> list[Claim]:
    """Claim time for many bookings at once, one row a claim; answer with what was free.

    Locks: as `take_claims`. Of two claims of one call to the same time, the earlier row gets it.
    """


@sql("""
    select count(pg_advisory_xact_lock(1, number::integer)) from (
        select number from resource where resource_id = any($1) order by number
    ) as held
""")
async def hold_resources(unit: Unit, resource_ids: list[UUID]) -> int:
    """Keep other moves of the same resources out until COMMIT; return how many are held.

    Locks: in the order of the numbers. A move frees its time before it takes another, and a rival's
    freed time is waited for: without this, A into B's time and B into A's would wait for ever.
    """


@sql("delete from claim where booking_id = any($1)")
async def drop_all_claims(unit: Unit, booking_ids: list[UUID]) -> None:
    """Free everything that some bookings hold."""


@sql("delete from claim where booking_id = $1")
async def drop_claims(unit: Unit, booking_id: UUID) -> None:
    """Free everything that a booking holds."""
