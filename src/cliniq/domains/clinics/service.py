"""Use cases of the clinics room. No HTTP and no SQL here."""

from collections.abc import Collection, Sequence
from uuid import UUID

from cliniq.domains.clinics import store
from cliniq.domains.clinics.errors import SiteNotFound
from cliniq.domains.clinics.events import PointOpened, PointRekeyed, SiteOpened
from cliniq.domains.clinics.models import CheckInPoint, Clinic, PointInPlace, Site
from cliniq.domains.clinics.rules import ensure_zone
from cliniq.domains.clinics.store import PLACES, SITES
from cliniq.platform.cached import cached, changed
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.events import tell


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
    changed(unit, SITES)
    tell(unit, SiteOpened(site.site_id, site.zone))


async def open_point(unit: Unit, point: CheckInPoint) -> None:
    """Make a check-in point at a site.

    Raises: SITE_NOT_FOUND 404.
    """
    await get_site(unit, point.site_id)
    await store.add_point(unit, point)
    changed(unit, PLACES)
    tell(unit, PointOpened(point.check_in_point_id, point.site_id))


async def rekey_point(unit: Unit, check_in_point_id: UUID, *, key_id: int, oldest_key: int) -> None:
    """Sign a check-in point's codes with another key; codes of the oldest ones retire."""
    await store.set_keys(unit, check_in_point_id, key_id, oldest_key)
    changed(unit, PLACES)
    tell(unit, PointRekeyed(check_in_point_id, key_id, oldest_key))


async def list_sites(unit: ReadUnit) -> Sequence[Site]:
    """List the clinic's sites, by name."""
    return await cached(unit, SITES)


async def find_sites(unit: ReadUnit, site_ids: Collection[UUID]) -> Sequence[Site]:
    """Find sites by id; what is not in sight is left out."""
    return [each for each in await cached(unit, SITES) if each.site_id in site_ids]


async def get_site(unit: ReadUnit, site_id: UUID) -> Site:
    """Find a site.

    Raises: SITE_NOT_FOUND 404.
    """
    found = await find_sites(unit, [site_id])
    if not found:
        raise SiteNotFound
    return found[0]


async def find_point(unit: ReadUnit, check_in_point_id: UUID) -> PointInPlace | None:
    """Find a check-in point and where it is."""
    for each in await cached(unit, PLACES):
        if each.check_in_point_id == check_in_point_id:
            return each
    return None


async def warm(unit: ReadUnit) -> None:
    """Have the unit's clinic in memory before anybody asks."""
    await cached(unit, SITES)
    await cached(unit, PLACES)
