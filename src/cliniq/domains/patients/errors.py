"""Every refusal this room can utter."""

from cliniq.kernel.problem import NotFound


class PatientNotFound(NotFound):
    """The clinic has no such patient, or it is not the caller's own."""

    code = "PATIENT_NOT_FOUND"
    title = "No such patient here"
