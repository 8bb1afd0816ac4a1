"""Every refusal this room can utter."""

from cliniq.kernel.problem import NotFound


class PractitionerNotFound(NotFound):
    """The clinic has no such practitioner."""

    code = "PRACTITIONER_NOT_FOUND"
    title = "No such practitioner in this clinic"
