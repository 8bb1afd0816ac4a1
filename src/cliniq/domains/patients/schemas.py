"""What crosses the wire towards the patients room."""

from cliniq.domains.patients.models import Relationship
from cliniq.platform.http.fields import Day, Incoming, Line


class PatientIn(Incoming):
    """Somebody new to the clinic."""

    given_name: Line
    family_name: Line
    birth_date: Day | None = None


class DependantIn(PatientIn):
    """Somebody whom an existing patient acts for."""

    relationship: Relationship
