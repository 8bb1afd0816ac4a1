"""The only SQL of the appointments room. The clinic is the transaction's; no statement names it.

An appointment is found by the start that its booking holds: then one partition is read.
"""

from datetime import date, datetime
from uuid import UUID

from cliniq.domains.appointments.models import (
    Appointment,
    AppointmentColumns,
    AppointmentStatus,
    Change,
    HistoryEntry,
    OpenMonth,
    OwnAppointment,
    Referenced,
    StepColumns,
)
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


@sql("""
    select appointment_id, patient_id, practitioner_id, site_id, visit_type, starts_at, ends_at,
        status, version
    from appointment
    where appointment_id = $1
        and starts_at = (select starts_at from booking where booking_id = $1)
""")
async def find(unit: ReadUnit, appointment_id: UUID) -> Appointment | None:
    """Find an appointment in sight."""


@sql("""
    select appointment_id, patient_id, practitioner_id, site_id, visit_type, starts_at, ends_at,
        status, version
    from appointment
    where starts_at >= $1 and starts_at < $2 and status in ('booked', 'confirmed')
    order by starts_at, appointment_id
""")
async def list_booked(unit: ReadUnit, from_at: datetime, to_at: datetime) -> list[Appointment]:
    """List all visits of the clinic that are still to come, earliest first: of a day, say."""


@sql("""
    select appointment_id, patient_id, practitioner_id, site_id, visit_type, starts_at, ends_at,
        status, version
    from appointment
    where site_id = $1 and starts_at >= $2 and starts_at < $3
        and (starts_at, appointment_id) > ($4, $5) and ($6::text is null or status = $6)
    order by starts_at, appointment_id
    limit $7
""")
async def list_of_site(
    unit: ReadUnit,
    site_id: UUID,
    from_at: datetime,
    to_at: datetime,
    after_at: datetime,
    after_id: UUID,
    status: AppointmentStatus | None,
    limit: int,
) -> list[Appointment]:
    """List a site's visits, earliest first."""


@sql("""
    select appointment_id, patient_id, practitioner_id, site_id, visit_type, starts_at, ends_at,
        status, version
    from appointment
    where practitioner_id = $1 and starts_at >= $2 and starts_at < $3
        and (starts_at, appointment_id) > ($4, $5) and ($6::text is null or status = $6)
    order by starts_at, appointment_id
    limit $7
""")
async def list_of_practitioner(
    unit: ReadUnit,
    practitioner_id: UUID,
    from_at: datetime,
    to_at: datetime,
    after_at: datetime,
    after_id: UUID,
    status: AppointmentStatus | None,
    limit: int,
) -> list[Appointment]:
    """List a practitioner's visits, earliest first."""


@sql("""
    select appointment_id, patient_id, practitioner_id, site_id, visit_type, starts_at, ends_at,
        status, version
    from appointment
    where patient_id = $1 and starts_at >= $2 and starts_at < $3
        and (starts_at, appointment_id) > ($4, $5) and ($6::text is null or status = $6)
    order by starts_at, appointment_id
    limit $7
""")
async def list_of_patient(
    unit: ReadUnit,
    patient_id: UUID,
    from_at: datetime,
    to_at: datetime,
    after_at: datetime,
    after_id: UUID,
    status: AppointmentStatus | None,
    limit: int,
) -> list[Appointment]:
    """List a patient's visits, earliest first."""


@sql("""
    select appointment_id, patient_id, practitioner_id, site_id, visit_type, starts_at, ends_at,
        status, version
    from appointment
    where starts_at >= $1 and starts_at <= $2
        and status in ('booked', 'confirmed', 'checked_in', 'in_progress', 'completed')
    order by starts_at, appointment_id
""")
async def list_own(unit: ReadUnit, from_at: datetime, to_at: datetime) -> list[Appointment]:
    """List the visits of a person's seat around a time. Only for a person's unit: staff see all."""


@sql("""
    select clinic_id, appointment_id, patient_id, practitioner_id, site_id, visit_type, starts_at,
        ends_at, status, version
    from appointment
    where starts_at >= $1 and starts_at <= $2
    order by starts_at, appointment_id
    limit $3
""")
async def list_everywhere(
    unit: ReadUnit, from_at: datetime, to_at: datetime, limit: int
) -> list[OwnAppointment]:
    """List the visits of a person's seat in all clinics, earliest first."""


@sql("""
    select min(starts_at) from appointment
    where starts_at > $1 and starts_at < $2 and status in ('booked', 'confirmed')
""")
async def next_start(unit: ReadUnit, after: datetime, before: datetime) -> datetime | None:
    """Say when the next visit of a person's seat starts."""


@sql("""
    select version, changed_at, from_status, to_status, starts_at, reason
    from appointment_history where appointment_id = $1 order by version
""")
async def list_history(unit: ReadUnit, appointment_id: UUID) -> list[HistoryEntry]:
    """List what became of a visit, oldest step first."""


@sql("""
    with added as (
        insert into appointment (appointment_id, patient_id, practitioner_id, site_id, visit_type,
            starts_at, ends_at, status, version)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        returning appointment_id, patient_id, version, status, starts_at
    )
    insert into appointment_history
        (appointment_id, patient_id, version, changed_at, actor_id, to_status, starts_at)
    select appointment_id, patient_id, version, $10, $11, status, starts_at from added
""")
async def add(unit: Unit, appointment: Appointment, at: datetime, actor_id: UUID | None) -> None:
    """Write a visit and the first step of its history."""


@sql("""
    with changed as (
        update appointment
        set status = $4, version = version + 1, starts_at = $5, ends_at = $6
        where appointment_id = $1 and starts_at = $2 and version = $3
        returning appointment_id, patient_id, practitioner_id, site_id, visit_type, starts_at,
            ends_at, status, version
    ), noted as (
        insert into appointment_history
            (appointment_id, patient_id, version, changed_at, actor_id, from_status, to_status,
                starts_at, reason)
        select appointment_id, patient_id, version, $7, $8, $10, status, starts_at, $9 from changed
    )
    select appointment_id, patient_id, practitioner_id, site_id, visit_type, starts_at, ends_at,
        status, version
    from changed
""")
async def change(unit: Unit, change: Change, from_status: AppointmentStatus) -> Appointment | None:
    """Write a step and its history; nothing where a rival has changed the visit since.

    Locks: waits for a rival's commit. The visit moves to another partition with its start.
    """


# Many at once


@sql("select reference, appointment_id from appointment_reference where reference = any($1)")
async def list_referenced(unit: ReadUnit, references: list[str]) -> list[Referenced]:
    """Find visits by what they are called elsewhere; what is unknown is left out."""


@sql("""
    insert into appointment_reference (reference, appointment_id)
    select * from unnest($1::text[], $2::uuid[])
    on conflict (clinic_id, reference) do nothing
    returning reference, appointment_id
""")
async def add_references(
    unit: Unit, references: list[str], appointment_ids: list[UUID]
) -> list[Referenced]:
    """Write what visits are called elsewhere; answer with those that nobody had called so.

    The visits follow before COMMIT. Locks: waits for a rival's commit, in the order of the list.
    """


@sql("delete from appointment_reference where appointment_id = any($1)")
async def drop_references(unit: Unit, appointment_ids: list[UUID]) -> None:
    """Forget what visits are called elsewhere that did not come about."""


@sql("""
    select month,
        to_regclass('appointment_' || to_char(month, 'YYYYMMDD')) is not null as takes_visits,
        to_regclass('appointment_history_' || to_char(month, 'YYYYMMDD')) is not null as takes_steps
    from unnest($1::date[]) as month
""")
async def list_open_months(unit: ReadUnit, months: list[date]) -> list[OpenMonth]:
    """Say for which months there are partitions, named as upkeep names them."""


@sql("""
    insert into appointment (appointment_id, patient_id, practitioner_id, site_id, visit_type,
        starts_at, ends_at, status, version)
    select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[],
        $6::timestamptz[], $7::timestamptz[], $8::text[], $9::bigint[])
""")
async def add_all(unit: Unit, visits: AppointmentColumns) -> None:
    """Write many visits."""


@sql("""
    insert into appointment_history (appointment_id, patient_id, version, changed_at, from_status,
        to_status, starts_at, actor_id)
    select *, $8::uuid from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::timestamptz[],
        $5::text[], $6::text[], $7::timestamptz[])
""")
async def add_steps(unit: Unit, steps: StepColumns, actor_id: UUID | None) -> None:
    """Write many steps of many visits' history."""
