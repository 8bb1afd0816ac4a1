"""The only door into the clinics room."""

from cliniq.domains.clinics.errors import SiteNotFound
from cliniq.domains.clinics.events import PointOpened, PointRekeyed, SiteOpened
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
from cliniq.domains.clinics.service import (
    find_point,
    find_sites,
    found_clinic,
    get_site,
    list_sites,
    open_point,
    open_site,
    rekey_point,
    warm,
)
from cliniq.domains.clinics.store import PLACES, SITES, list_clinics, list_points

__all__ = [
    "PLACES",
    "SITES",
    "CheckInPoint",
    "Clinic",
    "PointInPlace",
    "PointOpened",
    "PointRekeyed",
    "QrMode",
    "QueueMode",
    "Site",
    "SiteNotFound",
    "SiteOpened",
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
    "rekey_point",
    "warm",
]
