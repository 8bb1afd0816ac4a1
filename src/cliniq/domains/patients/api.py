"""The only door into the patients room."""

from cliniq.domains.patients.errors import PatientNotFound
from cliniq.domains.patients.models import (
    Admission,
    Details,
    Gender,
    Guarded,
    Identifier,
    Newcomer,
    Outcome,
    OwnPatient,
    Patient,
    Relationship,
    Whose,
)
from cliniq.domains.patients.rules import AT_ONCE
from cliniq.domains.patients.service import (
    admit,
    admit_all,
    find_by_identifiers,
    find_by_mrns,
    get_patient,
    register,
    register_dependant,
)
from cliniq.domains.patients.store import find_patients, list_guarded, list_known, list_own

__all__ = [
    "AT_ONCE",
    "Admission",
    "Details",
    "Gender",
    "Guarded",
    "Identifier",
    "Newcomer",
    "Outcome",
    "OwnPatient",
    "Patient",
    "PatientNotFound",
    "Relationship",
    "Whose",
    "admit",
    "admit_all",
    "find_by_identifiers",
    "find_by_mrns",
    "find_patients",
    "get_patient",
    "list_guarded",
    "list_known",
    "list_own",
    "register",
    "register_dependant",
]
