"""The only SQL of the clinics room. The clinic is the transaction's; no statement names it."""

from uuid import UUID

from cliniq.domains.clinics.models import CheckInPoint, Clinic, PointInPlace, Site
from cliniq.platform.cached import Cached
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


@sql("insert into clinic (clinic_id, name, app_name, zone) values ($1, $2, $3, $4)")
async def add_clinic(unit: Unit, clinic: Clinic) -> None:
    """Write a clinic: the platform's to do."""


@sql("select clinic_id, name, app_name, zone from clinic order by name")
async def list_clinics(unit: ReadUnit) -> list[Clinic]:
    """List the clinics in sight."""


@sql("""
    insert into site (site_id, name, zone, address, directions_url, queue_mode)
    values ($1, $2, $3, $4, $5, $6)
""")
async def add_site(unit: Unit, site: Site) -> None:
    """Write a site."""


@sql("""
    select site_id, name, zone, address, directions_url, queue_mode from site order by name, site_id
""")
async def list_sites(unit: ReadUnit) -> list[Site]:
    """List the clinic's sites."""


SITES = Cached("sites", list[Site], list_sites)


@sql("""
    insert into check_in_point
        (check_in_point_id, site_id, name, room, qr_mode, verification, key_id, oldest_key)
    values ($1, $2, $3, $4, $5, $6, $7, $8)
""")
async def add_point(unit: Unit, point: CheckInPoint) -> None:
    """Write a check-in point."""


@sql("""
    select check_in_point_id, site_id, name, room, qr_mode, verification, key_id, oldest_key
    from check_in_point order by name, check_in_point_id
""")
async def list_points(unit: ReadUnit) -> list[CheckInPoint]:
    """List the clinic's check-in points."""


@sql("""
    select p.check_in_point_id, p.name as point_name, p.room as point_room, p.qr_mode,
        p.verification, p.key_id, p.oldest_key, s.site_id, s.name as site_name, s.zone,
        s.queue_mode, c.clinic_id, c.name as clinic_name
    from check_in_point as p
    join site as s on s.clinic_id = p.clinic_id and s.site_id = p.site_id
    join clinic as c on c.clinic_id = p.clinic_id
    order by p.name, p.check_in_point_id
""")
async def list_places(unit: ReadUnit) -> list[PointInPlace]:
    """List the clinic's check-in points and where each is."""


PLACES = Cached("places", list[PointInPlace], list_places)


@sql("update check_in_point set key_id = $2, oldest_key = $3 where check_in_point_id = $1")
async def set_keys(unit: Unit, check_in_point_id: UUID, key_id: int, oldest_key: int) -> None:
    """Write which keys of a check-in point are alive."""
