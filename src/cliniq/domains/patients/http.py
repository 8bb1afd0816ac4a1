"""Routes of the patients room: parse, call one use case, present."""

from typing import Annotated
from uuid import UUID

from fastapi import Query
from starlette.requests import Request

from cliniq.domains.patients import errors, service, store
from cliniq.domains.patients.models import Identifier, OwnPatient, Patient, Wanted, Whose
from cliniq.domains.patients.schemas import (
    DependantIn,
    PatientChangeIn,
    PatientIn,
    PatientOut,
    PatientPageOut,
)
from cliniq.kernel.permissions import Permission
from cliniq.kernel.problem import Forbidden, NotFound
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.http.fields import Day, Line
from cliniq.platform.http.guards import (
    entrance_of,
    may,
    may_read,
    may_read_or_own,
    own_everywhere,
    signed_in,
)
from cliniq.platform.http.problems import problems
from cliniq.platform.http.route import room
from cliniq.platform.http.terms import terms

router = room("", "patients")


Number = Annotated[
    str, Query(min_length=3, max_length=400, pattern=r"^[^|\x00-\x1f]+\|[^\x00-\x1f]+$")
]


def _present(patient: Patient) -> PatientOut:
    return PatientOut(
        patient.patient_id,
        patient.mrn,
        patient.given_name,
        patient.family_name,
        patient.birth_date,
        patient.gender,
        patient.phone,
        patient.email,
        patient.address,
        patient.language,
        patient.deceased_on,
    )


@router.get("/patients", responses=problems(Forbidden, NotFound))
async def list_patients(
    unit: Annotated[ReadUnit, may_read(Permission.PATIENTS_READ)],
    request: Request,
    name: Line | None = None,
    mrn: Line | None = None,
    birth_date: Day | None = None,
    identifier: Number | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> PatientPageOut:
    """List the clinic's patients by name, whose begins so, or find one by a number.

    A name begins with the family name; case and accents do not count. An identifier is written
    `system|value`; it and `mrn` stand alone.
    """
    system, _, value = (identifier or "").partition("|")
    number = Identifier(system, value) if identifier else None
    wanted = Wanted(name, mrn, birth_date, number)
    page = await service.list_patients(unit, entrance_of(request).keyring, wanted, limit, cursor)
    return PatientPageOut([_present(each) for each in page.items], page.next_cursor)


@router.post(
    "/patients",
    status_code=201,
    responses=problems(Forbidden, NotFound),
    **terms(key_required=True),
)
async def create_patient(
    unit: Annotated[Unit, may(Permission.PATIENTS_CREATE)], body: PatientIn
) -> PatientOut:
    """Register somebody new."""
    return _present(
        await service.register(
            unit, body.given_name, body.family_name, body.birth_date, body.details
        )
    )


@router.get("/patients/{patient_id}", responses=problems(Forbidden, errors.PatientNotFound))
async def get_patient(
    unit: Annotated[ReadUnit, may_read_or_own(Permission.PATIENTS_READ)], patient_id: UUID
) -> PatientOut:
    """Read a patient; a patient reads themselves and their dependants."""
    return _present(await service.get_patient(unit, patient_id))


@router.patch("/patients/{patient_id}", responses=problems(Forbidden, errors.PatientNotFound))
async def replace_patient_details(
    unit: Annotated[Unit, may(Permission.PATIENTS_UPDATE)], patient_id: UUID, body: PatientChangeIn
) -> PatientOut:
    """Change what is known of a patient: only what is named."""
    return _present(await service.change_patient(unit, patient_id, body.changes))


@router.get(
    "/patients/{patient_id}/identifiers", responses=problems(Forbidden, errors.PatientNotFound)
)
async def list_patient_identifiers(
    unit: Annotated[ReadUnit, may_read_or_own(Permission.PATIENTS_READ)], patient_id: UUID
) -> list[Identifier]:
    """List how others number a patient."""
    return await service.list_identifiers(unit, patient_id)


@router.post(
    "/patients/{patient_id}/dependants",
    status_code=201,
    responses=problems(Forbidden, errors.PatientNotFound),
    **terms(key_required=True),
)
async def create_dependant(
    unit: Annotated[Unit, may(Permission.PATIENTS_CREATE)], patient_id: UUID, body: DependantIn
) -> PatientOut:
    """Register somebody whom a patient acts for."""
    guardian = await service.get_patient(unit, patient_id)
    dependant = await service.register(
        unit, body.given_name, body.family_name, body.birth_date, body.details
    )
    await service.register_dependant(unit, guardian, dependant, body.relationship)
    return _present(dependant)


@router.get("/me/dependants")
async def list_my_dependants(
    unit: Annotated[ReadUnit, own_everywhere()], request: Request
) -> list[OwnPatient]:
    """List those whom the caller acts for, in every clinic."""
    own = await store.list_own(unit, signed_in(request).person_id)
    return [each for each in own if each.whose is Whose.DEPENDANT]
