"""The only door into the clinics room."""

from cliniq.domains.clinics.errors import SiteNotFound
from cliniq.domains.clinics.models import (
    CheckInPoint,
    Clinic,
    PointInPlace,
    QrMode,
    QueueMode,
    Site,
    Verification,
)
from cliniq.domains.clinics.rules import ensure_zone
from cliniq.domains.clinics.service import found_clinic, get_site, open_point, open_site
from cliniq.domains.clinics.store import (
    find_point,
    find_sites,
    list_clinics,
    list_points,
    list_sites,
)

__all__ = [
    "CheckInPoint",
    "Clinic",
    "PointInPlace",
    "QrMode",
    "QueueMode",
    "Site",
    "SiteNotFound",
    "Verification",
    "ensure_zone",
    "find_point",
    "find_sites",
    "found_clinic",
    "get_site",
    "list_clinics",
    "list_points",
    "list_sites",
    "open_point",
    "open_site",
]
