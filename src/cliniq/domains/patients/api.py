"""The only door into the patients room."""

from cliniq.domains.patients.errors import PatientNotFound
from cliniq.domains.patients.models import OwnPatient, Patient, Relationship, Whose
from cliniq.domains.patients.service import admit, get_patient, register, register_dependant
from cliniq.domains.patients.store import find_patients, list_own

__all__ = [
    "OwnPatient",
    "Patient",
    "PatientNotFound",
    "Relationship",
    "Whose",
    "admit",
    "find_patients",
    "get_patient",
    "list_own",
    "register",
    "register_dependant",
]
