"""The only SQL of the patients room. The clinic is the transaction's; no statement names it."""

from datetime import date, datetime
from uuid import UUID

from cliniq.domains.patients.models import (
    Guarded,
    Identifier,
    Labelled,
    Numbered,
    OwnPatient,
    Patient,
    PatientColumns,
    Relationship,
)
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


@sql("""
    insert into patient (patient_id, person_id, given_name, family_name, birth_date, gender, phone,
        email, address, language, deceased_on, mrn)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, nullif($12, ''))
    returning mrn
""")
async def add_patient(unit: Unit, patient: Patient) -> str:
    """Write a patient; answer with the record number, which is drawn where none is given.

    Locks: the clinic's roll, until COMMIT.
    """


@sql("""
    insert into patient (patient_id, person_id, given_name, family_name, birth_date, gender, phone,
        email, address, language, deceased_on, mrn)
    select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::date[], $6::text[],
        $7::text[], $8::text[], $9::text[], $10::text[], $11::date[], $12::text[])
""")
async def add_patients(unit: Unit, patients: PatientColumns) -> None:
    """Write many patients."""


@sql("""
    insert into patient_identifier (system, value, kind, patient_id)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::uuid[])
""")
async def add_identifiers(
    unit: Unit,
    systems: list[str],
    values: list[str],
    kinds: list[str | None],
    patient_ids: list[UUID],
) -> None:
    """Write how patients are numbered elsewhere."""


@sql("""
    insert into mrn_roll as roll (last_number) values ($1)
    on conflict (clinic_id) do update
    set last_number = greatest(roll.last_number, excluded.last_number)
""")
async def hold_roll(unit: Unit, reached: int) -> None:
    """Hold the clinic's roll of record numbers, and have it go on behind `reached`.

    Locks: whoever else admits somebody waits until COMMIT.
    """


@sql("select draw_mrns($1)")
async def draw_mrns(unit: Unit, wanted: int) -> list[str]:
    """Draw record numbers that nobody has. Locks: the clinic's roll, until COMMIT."""


@sql("""
    select i.system, i.value, i.patient_id
    from unnest($1::text[], $2::text[]) as asked (system, value)
    join patient_identifier as i on i.system = asked.system and i.value = asked.value
""")
async def list_numbered(unit: ReadUnit, systems: list[str], values: list[str]) -> list[Numbered]:
    """Say whose which identifiers are; what is nobody's is left out."""


@sql("select value, patient_id from patient_identifier where system = $1 and value = any($2)")
async def find_numbered(unit: ReadUnit, system: str, values: list[str]) -> list[Labelled]:
    """Find patients by identifiers of one system; what is nobody's is left out."""


@sql("select mrn as value, patient_id from patient where mrn = any($1)")
async def find_recorded(unit: ReadUnit, mrns: list[str]) -> list[Labelled]:
    """Find patients by record number; what is nobody's is left out."""


@sql("""
    select patient_id, person_id, given_name, family_name, birth_date, gender, phone, email,
        address, language, deceased_on, mrn
    from patient where patient_id = any($1)
""")
async def find_patients(unit: ReadUnit, patient_ids: list[UUID]) -> list[Patient]:
    """Find patients by id; what is not in sight is left out."""


@sql("select patient_id from patient where patient_id = any($1)")
async def list_known(unit: ReadUnit, patient_ids: list[UUID]) -> list[UUID]:
    """Say which of these are patients in sight."""


@sql("""
    select patient_id, person_id, given_name, family_name, birth_date, gender, phone, email,
        address, language, deceased_on, mrn
    from patient
    where search_name >= fold_name($1) and search_name < fold_name($1) || chr(1114111)
        and (search_name, patient_id) > (coalesce(
            (select mark.search_name from patient as mark where mark.patient_id = $2), ''), $2)
    order by search_name, patient_id
    limit $3
""")
async def list_by_name(unit: ReadUnit, beginning: str, after_id: UUID, limit: int) -> list[Patient]:
    """List patients whose name begins so, family name first; all of them where that is empty."""


@sql("""
    select patient_id, person_id, given_name, family_name, birth_date, gender, phone, email,
        address, language, deceased_on, mrn
    from patient
    where birth_date = $4
        and search_name >= fold_name($1) and search_name < fold_name($1) || chr(1114111)
        and (search_name, patient_id) > (coalesce(
            (select mark.search_name from patient as mark where mark.patient_id = $2), ''), $2)
    order by search_name, patient_id
    limit $3
""")
async def list_by_birth(
    unit: ReadUnit, beginning: str, after_id: UUID, limit: int, birth_date: date
) -> list[Patient]:
    """List patients who were born on a day and whose name begins so."""


@sql("""
    select system, value, kind from patient_identifier where patient_id = $1 order by system, value
""")
async def list_identifiers(unit: ReadUnit, patient_id: UUID) -> list[Identifier]:
    """List how a patient is numbered elsewhere."""


@sql("""
    select patient_id, person_id, given_name, family_name, birth_date, gender, phone, email,
        address, language, deceased_on, mrn
    from patient where patient_id = $1 for no key update
""")
async def hold_patient(unit: Unit, patient_id: UUID) -> Patient | None:
    """Find a patient and hold the row. Locks: against others who change it."""


@sql("""
    update patient
    set given_name = $3, family_name = $4, birth_date = $5, gender = $6, phone = $7, email = $8,
        address = $9, language = $10, deceased_on = $11
    where patient_id = $1 and person_id = $2 and mrn = $12
""")
async def change_patient(unit: Unit, patient: Patient) -> None:
    """Write what is known of a patient anew; person and record number stay."""


@sql("""
    select clinic_id, patient_id, given_name,
        case when person_id = $1 then 'self' else 'dependant' end as whose
    from patient order by whose desc, given_name, patient_id
""")
async def list_own(unit: ReadUnit, person_id: UUID) -> list[OwnPatient]:
    """List the patients of a person's seat: themselves first, then those they act for."""


@sql("""
    select g.patient_id as ward_id, p.patient_id as guardian_id
    from guardianship as g
    join patient as p on p.clinic_id = g.clinic_id and p.person_id = g.guardian_id
    where g.patient_id = any($1) and g.ended_at is null
    order by g.patient_id, p.patient_id
""")
async def list_guarded(unit: ReadUnit, patient_ids: list[UUID]) -> list[Guarded]:
    """List who of some patients has a guardian who is a patient here too."""


@sql("""
    insert into guardianship (patient_id, guardian_id, relationship, started_at)
    values ($1, $2, $3, $4)
""")
async def add_guardian(
    unit: Unit, patient_id: UUID, guardian_id: UUID, relationship: Relationship, at: datetime
) -> None:
    """Let a person act for a patient."""
