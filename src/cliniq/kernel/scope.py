"""In whose name the database is asked: each scope has its own database role and its own walls."""

from typing import TypeAlias

from cliniq.kernel.ids import ClinicId, PersonId, SessionId
from cliniq.kernel.permissions import Permission
from cliniq.kernel.record import Record


class Caller(Record, frozen=True):
    """Who signed a request. `home_clinic_id` and `is_staff` are hints that prove nothing."""

    person_id: PersonId
    session_id: SessionId
    home_clinic_id: ClinicId | None = None
    is_staff: bool = False


class ClinicScope(Record, frozen=True):
    """A member of staff uses `permission` in `clinic_id`; every row of that clinic is in sight."""

    person_id: PersonId
    clinic_id: ClinicId
    permission: Permission


class PatientScope(Record, frozen=True):
    """A person in one clinic: their own rows and their dependants'."""

    person_id: PersonId
    clinic_id: ClinicId


class GuestScope(Record, frozen=True):
    """Somebody at a clinic's door, not signed in: the clinic's signs, and nobody's rows."""

    clinic_id: ClinicId


class SelfScope(Record, frozen=True):
    """A person across all clinics: their own rows and their dependants', to read."""

    person_id: PersonId


class WorkScope(Record, frozen=True):
    """A job works in one clinic, long after whoever caused it went on.

    `on_behalf_of` is for whom, where it is for somebody: the audit names them.
    """

    clinic_id: ClinicId
    job: str
    on_behalf_of: PersonId | None = None


class PlatformScope(Record, frozen=True):
    """The installation itself; `purpose` says why, and only named tables are in sight."""

    purpose: str


Scope: TypeAlias = ClinicScope | PatientScope | GuestScope | SelfScope | WorkScope | PlatformScope
