"""The only SQL of the patients room. The clinic is the transaction's; no statement names it."""

from datetime import datetime
from uuid import UUID

from cliniq.domains.patients.models import OwnPatient, Patient, Relationship
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


@sql("""
    insert into patient (patient_id, person_id, given_name, family_name, birth_date)
    values ($1, $2, $3, $4, $5)
""")
async def add_patient(unit: Unit, patient: Patient) -> None:
    """Write a patient."""


@sql("""
    select patient_id, person_id, given_name, family_name, birth_date
    from patient where patient_id = any($1)
""")
async def find_patients(unit: ReadUnit, patient_ids: list[UUID]) -> list[Patient]:
    """Find patients by id; what is not in sight is left out."""


@sql("""
    select clinic_id, patient_id, given_name,
        case when person_id = $1 then 'self' else 'dependant' end as whose
    from patient order by whose desc, given_name, patient_id
""")
async def list_own(unit: ReadUnit, person_id: UUID) -> list[OwnPatient]:
    """List the patients of a person's seat: themselves first, then those they act for."""


@sql("""
    insert into guardianship (patient_id, guardian_id, relationship, started_at)
    values ($1, $2, $3, $4)
""")
async def add_guardian(
    unit: Unit, patient_id: UUID, guardian_id: UUID, relationship: Relationship, at: datetime
) -> None:
    """Let a person act for a patient."""
