"""The only SQL of the trail: the audit and the outbox."""

from datetime import date, datetime
from uuid import UUID

from cliniq.kernel.record import Record
from cliniq.platform.db import Unit
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


@sql("""
    with fact as (
        select * from jsonb_to_recordset($1::jsonb) as fact (audit_id uuid, kind text,
            subject_type text, subject_id uuid, topic text, version bigint, body jsonb)
    ), audited as (
        insert into audit (audit_id, actor_id, permission, happened_at, recorded_at, request_id,
            action, outcome, entity_type, entity_id)
        select audit_id, $2, $3, $4, $5, $6, kind, 'success', subject_type, subject_id from fact
    )
    insert into outbox (recorded_at, kind, subject_id, topic, version, body)
    select $5, kind, subject_id, topic, version, body from fact
""")
async def append(unit: Unit, facts: str, author: Author) -> None:
    """Write facts (a JSON array) to the audit and to the outbox, in the order they came."""


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
