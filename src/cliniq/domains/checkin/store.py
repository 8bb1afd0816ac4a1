"""The only SQL of the check-in room. The clinic is the transaction's; no statement names it."""

from datetime import datetime
from uuid import UUID

from cliniq.domains.checkin.models import CheckIn, Method, WindowRule
from cliniq.platform.cached import Cached
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


@sql("""
    with claim as (
        insert into check_in_claim (appointment_id, patient_id, check_in_id, checked_in_at)
        values ($2, $3, $1, $5)
        on conflict (clinic_id, appointment_id) do nothing
        returning check_in_id
    )
    insert into check_in (check_in_id, appointment_id, patient_id, check_in_point_id,
        checked_in_at, method, actor_id)
    select check_in_id, $2, $3, $4, $5, $6, $7 from claim
    returning check_in_id, appointment_id, checked_in_at
""")
async def add(
    unit: Unit,
    check_in_id: UUID,
    appointment_id: UUID,
    patient_id: UUID,
    check_in_point_id: UUID | None,
    at: datetime,
    method: Method,
    actor_id: UUID,
) -> CheckIn | None:
    """Claim the appointment and write the check-in; nothing where it is already claimed.

    At the desk there is no point.

    The claim's primary key decides a race of two scans, not a SELECT before the INSERT.
    Locks: waits for a rival scan to commit or roll back.
    """


@sql("""
    select check_in_id, appointment_id, checked_in_at
    from check_in_claim where appointment_id = any($1)
""")
async def list_claims(unit: ReadUnit, appointment_ids: list[UUID]) -> list[CheckIn]:
    """List the check-ins that claimed appointments."""


@sql("select site_id, visit_type, opens_minutes, closes_minutes from check_in_rule")
async def list_rules(unit: ReadUnit) -> list[WindowRule]:
    """List the clinic's own windows."""


RULES = Cached("check-in rules", list[WindowRule], list_rules)


@sql("""
    insert into check_in_rule (rule_id, site_id, visit_type, opens_minutes, closes_minutes)
    values ($1, $2, $3, $4, $5)
""")
async def add_rule(unit: Unit, rule_id: UUID, rule: WindowRule) -> None:
    """Write a window of the clinic's own."""
