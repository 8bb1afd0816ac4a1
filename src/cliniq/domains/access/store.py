"""The only SQL of the access room. The clinic is the transaction's; no statement names it."""

from datetime import datetime
from uuid import UUID

from cliniq.domains.access.models import Membership, Practitioner
from cliniq.kernel.ids import ClinicId, PersonId, SessionId
from cliniq.kernel.permissions import Permission, Role
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


def seat_of_staff(
    clinic: ClinicId, person: PersonId, session: SessionId, wanted: Permission, wall: datetime
) -> str:
    """Call `take_seat`. It travels with BEGIN, so it is text: ids, an instant, and our own word."""
    return f"call take_seat('{clinic}', '{person}', '{session}', '{wanted}', '{wall.isoformat()}')"


def seat_of_self(
    clinic: ClinicId | None,
    person: PersonId,
    session: SessionId,
    *,
    strict: bool,
    unless: Permission | None,
    wall: datetime,
) -> str:
    """Call `take_own_seat`; see `seat_of_staff`."""
    where = f"'{clinic}'" if clinic else "null"
    staff = f"'{unless}'" if unless else "null"
    return (
        f"call take_own_seat({where}, '{person}', '{session}', {strict}, {staff},"
        f" '{wall.isoformat()}')"
    )


@sql("insert into membership (clinic_id, person_id, role) values ($1, $2, $3)")
async def add_membership(unit: Unit, clinic_id: UUID, person_id: UUID, role: Role) -> None:
    """Give a person a role in a clinic. The platform may name any, a member only their own."""


@sql("select clinic_id, role from membership where person_id = $1 order by clinic_id, role")
async def list_memberships(unit: ReadUnit, person_id: UUID) -> list[Membership]:
    """List what a person is, in every clinic in sight."""


@sql("insert into practitioner (practitioner_id, person_id, name) values ($1, $2, $3)")
async def add_practitioner(unit: Unit, practitioner: Practitioner) -> None:
    """Write a practitioner."""


@sql("select practitioner_id, person_id, name from practitioner where practitioner_id = any($1)")
async def find_practitioners(unit: ReadUnit, practitioner_ids: list[UUID]) -> list[Practitioner]:
    """Find practitioners by id; what is not in sight is left out."""


@sql("select practitioner_id, person_id, name from practitioner order by name, practitioner_id")
async def list_practitioners(unit: ReadUnit) -> list[Practitioner]:
    """List the clinic's practitioners."""
