"""Use cases of the clinics room. No HTTP and no SQL here."""

from uuid import UUID

from cliniq.domains.clinics import store
from cliniq.domains.clinics.errors import SiteNotFound
from cliniq.domains.clinics.models import CheckInPoint, Clinic, Site
from cliniq.domains.clinics.rules import ensure_zone
from cliniq.platform.db import ReadUnit, Unit


async def found_clinic(unit: Unit, clinic: Clinic) -> None:
    """Make a clinic. The platform does this; everything in it is made by its members.

    Raises: ZONE_UNKNOWN 409.
    """
    ensure_zone(clinic.zone)
    await store.add_clinic(unit, clinic)


async def open_site(unit: Unit, site: Site) -> None:
    """Make a site.

    Raises: ZONE_UNKNOWN 409.
    """
    ensure_zone(site.zone)
    await store.add_site(unit, site)


async def open_point(unit: Unit, point: CheckInPoint) -> None:
    """Make a check-in point at a site.

    Raises: SITE_NOT_FOUND 404.
    """
    await get_site(unit, point.site_id)
    await store.add_point(unit, point)


async def get_site(unit: ReadUnit, site_id: UUID) -> Site:
    """Find a site.

    Raises: SITE_NOT_FOUND 404.
    """
    found = await store.find_sites(unit, [site_id])
    if not found:
        raise SiteNotFound
    return found[0]
