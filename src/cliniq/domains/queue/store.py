"""The only SQL of the queue room. The clinic is the transaction's; no statement names it."""

from datetime import date, datetime
from uuid import UUID

from cliniq.domains.queue.models import (
    BoardRow,
    Entry,
    EntryStatus,
    Line,
    Place,
    QueueHead,
    Ticket,
)
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


@sql("""
    with roll as (
        update queue set last_ticket = last_ticket + 1, version = version + 1
        where site_id = $1 and line_id = $2 and on_day = $3
        returning queue_id, last_ticket, line_name, version
    ), entered as (
        insert into queue_entry
            (entry_id, queue_id, ticket, appointment_id, patient_id, due_at, entered_at)
        select $4, queue_id, last_ticket, $5, $6, $7, $8 from roll
    )
    select queue_id, $4::uuid as entry_id, last_ticket as ticket, line_name, version from roll
""")
async def enter(
    unit: Unit,
    line: Line,
    entry_id: UUID,
    appointment_id: UUID,
    patient_id: UUID,
    due_at: datetime,
    at: datetime,
) -> Ticket | None:
    """Tear the next ticket off the line's roll and wait with it; nothing without a line yet.

    Locks: the roll, until COMMIT; a rollback puts the ticket back, so numbers have no gaps.
    """


@sql("""
    insert into queue (queue_id, site_id, line_id, on_day, line_name) values ($1, $2, $3, $4, $5)
    on conflict (clinic_id, site_id, line_id, on_day) do nothing
""")
async def open_line(unit: Unit, queue_id: UUID, line: Line, line_name: str) -> None:
    """Open a line for the day. Idempotent: of two that open it, one does."""


@sql("""
    select queue_id, site_id, line_id, line_name, on_day, version, 0::bigint as waiting,
        0::bigint as called
    from queue where site_id = $1 and line_id = $2 and on_day = $3
""")
async def find_line(unit: ReadUnit, line: Line) -> QueueHead | None:
    """Find the queue of a line, without counting."""


@sql("select count_ahead(mine) from queue_entry as mine where entry_id = $1")
async def count_ahead(unit: ReadUnit, entry_id: UUID) -> int:
    """Count who waits ahead of a place.

    A statement of its own: inside `enter` it would see a snapshot from before the wait.
    """


@sql("""
    select e.clinic_id, e.queue_id, e.entry_id, e.appointment_id, e.patient_id, e.ticket, e.status,
        case e.status when 'waiting' then count_ahead(e) + 1 else 0 end as position, e.room,
        q.line_name
    from queue_entry as e join queue as q using (clinic_id, queue_id)
    where e.appointment_id = any($1)
    order by e.due_at, e.ticket
""")
async def list_places_of(unit: ReadUnit, appointment_ids: list[UUID]) -> list[Place]:
    """Say where appointments stand."""


@sql("""
    select e.clinic_id, e.queue_id, e.entry_id, e.appointment_id, e.patient_id, e.ticket, e.status,
        case e.status when 'waiting' then count_ahead(e) + 1 else 0 end as position, e.room,
        q.line_name
    from queue_entry as e join queue as q using (clinic_id, queue_id)
    where e.queue_id = $1 and e.entry_id = $2
""")
async def find_place(unit: ReadUnit, queue_id: UUID, entry_id: UUID) -> Place | None:
    """Find a place in a queue."""


@sql("""
    select e.clinic_id, e.queue_id, e.entry_id, e.appointment_id, e.patient_id, e.ticket, e.status,
        case e.status when 'waiting' then count_ahead(e) + 1 else 0 end as position, e.room,
        q.line_name
    from queue_entry as e join queue as q using (clinic_id, queue_id)
    where e.status in ('waiting', 'called', 'in_progress') and q.on_day >= $1
    order by e.due_at, e.ticket
""")
async def list_own_places(unit: ReadUnit, since: date) -> list[Place]:
    """List the open places of a person's seat since a day. Only for a person's unit."""


@sql("""
    update queue_entry set status = 'called', called_at = $2, room = $3
    where entry_id = (
        select entry_id from queue_entry
        where queue_id = $1 and status = 'waiting'
        order by (- priority), due_at, ticket
        limit 1
        for update skip locked
    )
    returning entry_id, queue_id, ticket, appointment_id, patient_id, status, priority, due_at,
        entered_at, called_at, room
""")
async def call_first(unit: Unit, queue_id: UUID, at: datetime, room: str | None) -> Entry | None:
    """Call whoever is first and not being called by a rival; nothing where nobody waits.

    Locks: the entry. Two callers never get one ticket, and neither waits for the other here.
    """


@sql("""
    select entry_id, queue_id, ticket, appointment_id, patient_id, status, priority, due_at,
        entered_at, called_at, room
    from queue_entry where entry_id = $1 and status <> 'waiting' for update
""")
async def lock_entry(unit: Unit, entry_id: UUID) -> Entry | None:
    """Find the place of somebody who was called, and hold it.

    One who waits is not held: a call that skips locked rows would pass them over.
    """


@sql("select status from queue_entry where entry_id = $1")
async def find_status(unit: ReadUnit, entry_id: UUID) -> EntryStatus | None:
    """Say where somebody with a ticket is."""


@sql("""
    update queue_entry set status = $2,
        started_at = case $2 when 'in_progress' then $3 else started_at end,
        completed_at = case $2 when 'completed' then $3 else completed_at end
    where entry_id = $1
    returning entry_id, queue_id, ticket, appointment_id, patient_id, status, priority, due_at,
        entered_at, called_at, room
""")
async def step(unit: Unit, entry_id: UUID, status: EntryStatus, at: datetime) -> Entry:
    """Write a place's next state."""


@sql("update queue set version = version + 1 where queue_id = $1 returning version")
async def bump(unit: Unit, queue_id: UUID) -> int:
    """Count a change of a queue. Locks: the queue, so it comes last."""


@sql("""
    select queue_id, site_id, line_id, line_name, on_day, version,
        (select count(*) from queue_entry as e where e.queue_id = q.queue_id
            and e.status = 'waiting') as waiting,
        (select count(*) from queue_entry as e where e.queue_id = q.queue_id
            and e.status = 'called') as called
    from queue as q
    where on_day = any($1) and ($2::uuid is null or site_id = $2)
    order by line_name, queue_id
""")
async def list_heads(unit: ReadUnit, on_days: list[date], site_id: UUID | None) -> list[QueueHead]:
    """List the queues of some days, of one site or of all."""


@sql("""
    select queue_id, site_id, line_id, line_name, on_day, version, 0::bigint as waiting,
        0::bigint as called
    from queue where queue_id = $1
""")
async def find_head(unit: ReadUnit, queue_id: UUID) -> QueueHead | None:
    """Find a queue, without counting."""


@sql("""
    select entry_id, queue_id, ticket, appointment_id, patient_id, status, priority, due_at,
        entered_at, called_at, room
    from queue_entry
    where queue_id = $1 and status in ('waiting', 'called', 'in_progress')
    order by case status when 'in_progress' then 0 when 'called' then 1 else 2 end,
        (- priority), due_at, ticket
""")
async def list_entries(unit: ReadUnit, queue_id: UUID) -> list[Entry]:
    """List who is in a queue, in order."""


@sql("""
    select b.ticket, b.status, b.room, b.place
    from queue as q, show_board(q) as b
    where q.queue_id = $1
""")
async def list_board(unit: ReadUnit, queue_id: UUID) -> list[BoardRow]:
    """List the tickets of a queue. Numbers only: patients see this too."""


@sql("""
    select exists (
        select from queue_entry
        where queue_id = $1 and status in ('waiting', 'called', 'in_progress')
    )
""")
async def sees_anyone_in(unit: ReadUnit, queue_id: UUID) -> bool:
    """Tell whether the seat sees an open place in a queue: to a patient, only their own."""
