"""Routes of the patients room: parse, call one use case, present."""

from typing import Annotated
from uuid import UUID

from starlette.requests import Request

from cliniq.domains.patients import errors, service, store
from cliniq.domains.patients.models import OwnPatient, Patient, Whose
from cliniq.domains.patients.schemas import DependantIn, PatientIn, PatientOut
from cliniq.kernel.permissions import Permission
from cliniq.kernel.problem import Forbidden, NotFound
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.http.guards import may, may_read_or_own, own_everywhere, signed_in
from cliniq.platform.http.problems import problems
from cliniq.platform.http.route import room
from cliniq.platform.http.terms import terms

router = room("", "patients")


def _present(patient: Patient) -> PatientOut:
    return PatientOut(
        patient.patient_id, patient.given_name, patient.family_name, patient.birth_date
    )


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
        await service.register(unit, body.given_name, body.family_name, body.birth_date)
    )


@router.get("/patients/{patient_id}", responses=problems(Forbidden, errors.PatientNotFound))
async def get_patient(
    unit: Annotated[ReadUnit, may_read_or_own(Permission.PATIENTS_READ)], patient_id: UUID
) -> PatientOut:
    """Read a patient; a patient reads themselves and their dependants."""
    return _present(await service.get_patient(unit, patient_id))


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
    dependant = await service.register(unit, body.given_name, body.family_name, body.birth_date)
    await service.register_dependant(unit, guardian, dependant, body.relationship)
    return _present(dependant)


@router.get("/me/dependants")
async def list_my_dependants(
    unit: Annotated[ReadUnit, own_everywhere()], request: Request
) -> list[OwnPatient]:
    """List those whom the caller acts for, in every clinic."""
    own = await store.list_own(unit, signed_in(request).person_id)
    return [each for each in own if each.whose is Whose.DEPENDANT]
