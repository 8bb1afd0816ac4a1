"""Use cases of the patients room. No HTTP and no SQL here."""

from datetime import date
from uuid import UUID

from cliniq.domains.identity import api as identity
from cliniq.domains.patients import store
from cliniq.domains.patients.errors import PatientNotFound
from cliniq.domains.patients.events import GuardianAdded, PatientRegistered
from cliniq.domains.patients.models import Patient, Relationship
from cliniq.kernel.ids import new_id
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.events import tell


async def register(
    unit: Unit, given_name: str, family_name: str, birth_date: date | None
) -> Patient:
    """Make a patient of somebody whom the installation does not know yet."""
    person_id = new_id()
    await identity.enrol(
        unit, identity.Person(person_id, given_name, family_name, birth_date, "en")
    )
    return await admit(unit, Patient(new_id(), person_id, given_name, family_name, birth_date))


async def admit(unit: Unit, patient: Patient) -> Patient:
    """Make a known person a patient of the clinic."""
    await store.add_patient(unit, patient)
    tell(unit, PatientRegistered(patient.patient_id))
    return patient


async def register_dependant(
    unit: Unit, guardian: Patient, dependant: Patient, relationship: Relationship
) -> None:
    """Let one patient's person act for another patient of the clinic."""
    await store.add_guardian(unit, dependant.patient_id, guardian.person_id, relationship, unit.now)
    tell(unit, GuardianAdded(dependant.patient_id, guardian.person_id))


async def get_patient(unit: ReadUnit, patient_id: UUID) -> Patient:
    """Find a patient in sight.

    Raises: PATIENT_NOT_FOUND 404.
    """
    found = await store.find_patients(unit, [patient_id])
    if not found:
        raise PatientNotFound
    return found[0]
