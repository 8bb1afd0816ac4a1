"""What may be done, and which role may do it: the whole policy is the table `GRANTED`.

Migration writes it into the database, where `take_seat` reads it.
Source: design/access.md.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType


class Permission(StrEnum):
    """One action on one resource, `resource:action`."""

    ALLERGIES_CREATE = "allergies:create"
    ALLERGIES_DELETE = "allergies:delete"
    ALLERGIES_READ = "allergies:read"
    ALLERGIES_UPDATE = "allergies:update"
    APPOINTMENTS_CREATE = "appointments:create"
    APPOINTMENTS_DELETE = "appointments:delete"
    APPOINTMENTS_READ = "appointments:read"
    APPOINTMENTS_UPDATE = "appointments:update"
    AUDIT_READ = "audit:read"
    BILLING_CREATE = "billing:create"
    BILLING_DELETE = "billing:delete"
    BILLING_READ = "billing:read"
    BILLING_UPDATE = "billing:update"
    BREAK_GLASS_REVIEW = "break-glass:review"
    BREAK_GLASS_USE = "break-glass:use"
    CHECKIN_CONFIGURE = "checkin:configure"
    CHECKIN_CREATE = "checkin:create"
    CHECKIN_OVERRIDE = "checkin:override"
    CHECKIN_READ = "checkin:read"
    CHECKIN_UNDO = "checkin:undo"
    CLINICS_CREATE = "clinics:create"
    CLINICS_DELETE = "clinics:delete"
    CLINICS_READ = "clinics:read"
    CLINICS_UPDATE = "clinics:update"
    COMMUNICATION_CONFIGURE = "communication:configure"
    COMMUNICATION_READ = "communication:read"
    COMMUNICATION_SEND = "communication:send"
    COUNSELING_CREATE = "counseling:create"
    COUNSELING_READ = "counseling:read"
    COUNSELING_UPDATE = "counseling:update"
    DISPLAYS_MANAGE = "displays:manage"
    DISPLAYS_READ = "displays:read"
    IMMUNIZATIONS_CREATE = "immunizations:create"
    IMMUNIZATIONS_DELETE = "immunizations:delete"
    IMMUNIZATIONS_READ = "immunizations:read"
    IMMUNIZATIONS_UPDATE = "immunizations:update"
    INVENTORY_READ = "inventory:read"
    INVENTORY_UPDATE = "inventory:update"
    INVOICES_CREATE = "invoices:create"
    INVOICES_DELETE = "invoices:delete"
    INVOICES_READ = "invoices:read"
    INVOICES_UPDATE = "invoices:update"
    LAB_REPORTS_CREATE = "lab-reports:create"
    LAB_REPORTS_DELETE = "lab-reports:delete"
    LAB_REPORTS_READ = "lab-reports:read"
    LAB_REPORTS_UPDATE = "lab-reports:update"
    LOCATIONS_CREATE = "locations:create"
    LOCATIONS_DELETE = "locations:delete"
    LOCATIONS_READ = "locations:read"
    LOCATIONS_UPDATE = "locations:update"
    MEDICAL_RECORDS_CREATE = "medical-records:create"
    MEDICAL_RECORDS_DELETE = "medical-records:delete"
    MEDICAL_RECORDS_READ = "medical-records:read"
    MEDICAL_RECORDS_UPDATE = "medical-records:update"
    MEDICATIONS_CREATE = "medications:create"
    MEDICATIONS_DELETE = "medications:delete"
    MEDICATIONS_READ = "medications:read"
    MEDICATIONS_UPDATE = "medications:update"
    PATIENTS_CREATE = "patients:create"
    PATIENTS_DELETE = "patients:delete"
    PATIENTS_IMPORT = "patients:import"
    PATIENTS_READ = "patients:read"
    PATIENTS_UPDATE = "patients:update"
    PAYMENTS_CREATE = "payments:create"
    PAYMENTS_READ = "payments:read"
    PAYMENTS_REFUND = "payments:refund"
    PLUGINS_CONFIGURE = "plugins:configure"
    PLUGINS_READ = "plugins:read"
    PRESCRIPTIONS_CREATE = "prescriptions:create"
    PRESCRIPTIONS_DELETE = "prescriptions:delete"
    PRESCRIPTIONS_DISPENSE = "prescriptions:dispense"
    PRESCRIPTIONS_READ = "prescriptions:read"
    PRESCRIPTIONS_UPDATE = "prescriptions:update"
    QUEUE_CALL = "queue:call"
    QUEUE_MANAGE = "queue:manage"
    QUEUE_READ = "queue:read"
    RADIOLOGY_CREATE = "radiology:create"
    RADIOLOGY_READ = "radiology:read"
    RADIOLOGY_UPDATE = "radiology:update"
    REPORTS_READ = "reports:read"
    ROLES_GRANT = "roles:grant"
    SCHEDULES_CREATE = "schedules:create"
    SCHEDULES_DELETE = "schedules:delete"
    SCHEDULES_READ = "schedules:read"
    SCHEDULES_UPDATE = "schedules:update"
    SETTINGS_READ = "settings:read"
    SETTINGS_UPDATE = "settings:update"
    TEMPLATES_MANAGE = "templates:manage"
    TEMPLATES_READ = "templates:read"
    THERAPY_CREATE = "therapy:create"
    THERAPY_READ = "therapy:read"
    THERAPY_UPDATE = "therapy:update"
    USERS_CREATE = "users:create"
    USERS_DELETE = "users:delete"
    USERS_READ = "users:read"
    USERS_UPDATE = "users:update"
    VITALS_CREATE = "vitals:create"
    VITALS_DELETE = "vitals:delete"
    VITALS_READ = "vitals:read"
    VITALS_UPDATE = "vitals:update"


class Role(StrEnum):
    """What a person is in a clinic; SUPER_ADMIN is held for the installation."""

    SUPER_ADMIN = "SUPER_ADMIN"
    CLINIC_ADMIN = "CLINIC_ADMIN"
    DOCTOR = "DOCTOR"
    NURSE = "NURSE"
    RECEPTIONIST = "RECEPTIONIST"
    PHARMACIST = "PHARMACIST"
    THERAPIST = "THERAPIST"
    LAB_TECHNICIAN = "LAB_TECHNICIAN"
    FINANCE_BILLING = "FINANCE_BILLING"
    SUPPORT_STAFF = "SUPPORT_STAFF"
    COUNSELOR = "COUNSELOR"
    PATIENT = "PATIENT"


class Reach(StrEnum):
    """Whose charts a role opens without break-glass."""

    NONE = "none"
    CARE = "care"
    SELF = "self"


def expand(words: Iterable[str]) -> frozenset[Permission]:
    """Read `resource:action`, `resource:*` and `*` as the permissions they stand for.

    Raises: ValueError for a word that stands for none.
    """
    found: set[Permission] = set()
    for word in words:
        prefix = word.removesuffix("*")
        named = {
            each
            for each in Permission
            if each == word or (prefix != word and each[: len(prefix)] == prefix)
        }
        if not named:
            raise ValueError(word)
        found |= named
    return frozenset(found)


GRANTED: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {
        Role.SUPER_ADMIN: expand(["*"]),
        Role.CLINIC_ADMIN: expand(
            "users:* appointments:* clinics:read clinics:update reports:* settings:* roles:grant "
            "locations:* schedules:* patients:read patients:create patients:update patients:import "
            "checkin:* queue:* displays:* communication:* templates:* plugins:* billing:read "
            "invoices:read audit:read break-glass:review".split()
        ),
        Role.DOCTOR: expand(
            "appointments:read appointments:update appointments:create patients:read "
            "patients:update medical-records:* prescriptions:* lab-reports:read lab-reports:create "
            "radiology:read radiology:create vitals:* allergies:* medications:* immunizations:* "
            "schedules:read queue:read queue:call checkin:read break-glass:use communication:send "
            "reports:read".split()
        ),
        Role.NURSE: expand(
            "appointments:read appointments:update patients:read patients:update "
            "medical-records:read vitals:* allergies:read allergies:create immunizations:* "
            "medications:read queue:read queue:call checkin:create checkin:undo "
            "break-glass:use".split()
        ),
        Role.RECEPTIONIST: expand(
            "appointments:* patients:read patients:create patients:update checkin:create "
            "checkin:override checkin:undo checkin:read queue:* schedules:read displays:read "
            "invoices:read payments:read payments:create communication:send".split()
        ),
        Role.PHARMACIST: expand(
            "prescriptions:read patients:read inventory:* medications:* prescriptions:dispense "
            "allergies:read queue:read queue:call".split()
        ),
        Role.THERAPIST: expand(
            "appointments:read appointments:update therapy:* medical-records:read patients:read "
            "queue:read queue:call checkin:read".split()
        ),
        Role.LAB_TECHNICIAN: expand(
            "lab-reports:* patients:read medical-records:read vitals:read queue:read "
            "queue:call".split()
        ),
        Role.FINANCE_BILLING: expand(
            "billing:* invoices:* payments:* reports:read patients:read".split()
        ),
        Role.SUPPORT_STAFF: expand("appointments:read patients:read queue:read".split()),
        Role.COUNSELOR: expand(
            "appointments:read appointments:update counseling:* medical-records:read "
            "patients:read queue:read queue:call".split()
        ),
        Role.PATIENT: frozenset(),  # what is one's own needs no permission: reach self
    }
)

REACH: Mapping[Role, Reach] = MappingProxyType(
    {
        role: Reach.CARE
        if role
        in {
            Role.DOCTOR,
            Role.NURSE,
            Role.PHARMACIST,
            Role.THERAPIST,
            Role.LAB_TECHNICIAN,
            Role.COUNSELOR,
        }
        else Reach.SELF
        if role is Role.PATIENT
        else Reach.NONE
        for role in Role
    }
)
