"""What scans leave behind in a clinic, as the superuser sees it."""

from typing import Any

from tests.support import Admin, SomeClinic

TABLES = ("check_in", "check_in_claim", "queue_entry")
WRITTEN = (*TABLES, "queue", "appointment_history", "audit", "outbox")


async def traces(admin: Admin, clinic: SomeClinic) -> dict[str, int]:
    """Count what only a check-in writes."""
    return {table: await count(admin, clinic, table) for table in TABLES}


async def count(admin: Admin, clinic: SomeClinic, table: str) -> int:
    counted = await admin.fetchval(
        f"select count(*) from {table} where clinic_id = $1",  # noqa: S608
        clinic.clinic_id,
    )
    return int(counted)


async def everything(admin: Admin, clinic: SomeClinic) -> dict[str, list[Any]]:
    """Every row of the clinic that a check-in may touch, denials aside."""
    found = {}
    for table in (*WRITTEN, "appointment", "booking", "claim"):
        denials = "and outcome = 'success'" if table == "audit" else ""
        found[table] = await admin.fetchval(
            f"select coalesce(array_agg(t::text order by t::text), '{{}}') from {table} as t"  # noqa: S608
            f" where clinic_id = $1 {denials}",
            clinic.clinic_id,
        )
    return found


NOTHING = dict.fromkeys(TABLES, 0)


def times(number: int) -> dict[str, int]:
    """What so many check-ins leave."""
    return dict.fromkeys(TABLES, number)
