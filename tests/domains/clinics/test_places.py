"""Clinics, their sites and points: in a zone of the world, and in nobody else's sight."""

import pytest

from cliniq.app import House
from cliniq.domains.clinics import api as clinics
from cliniq.kernel.ids import new_id
from cliniq.kernel.permissions import Role
from cliniq.kernel.scope import PlatformScope
from cliniq.platform.db import open_unit
from tests.support import Admin, Client, SomeClinic, found_clinic, some_point

NO_ZONES = [
    "",
    "Mars/Base",
    "europe/vienna",
    "Europe",
    "../../etc/passwd",
    "/etc/localtime",
    "localtime",
    "Factory",
    "UTC+1",
    "Europe/Vienna\x00",
    "x" * 500,
]


@pytest.mark.parametrize("zone", NO_ZONES)
async def test_zone_that_is_none_is_refused(
    clinic: SomeClinic, house: House, admin: Admin, zone: str
) -> None:
    with pytest.raises(Exception, match="ZONE_UNKNOWN") as refusal:
        await clinic.add_site(zone)
    assert refusal.value.facts == {"zone": zone[:64]}  # type: ignore[attr-defined]
    named = clinics.Clinic(new_id(), "Clinic", f"c-{new_id().hex[-24:]}", zone)
    with pytest.raises(Exception, match="ZONE_UNKNOWN"):
        async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
            await clinics.found_clinic(unit, named)
    count = "select count(*) from site where clinic_id = $1"
    assert await admin.fetchval(count, clinic.clinic_id) == 1


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/Argentina/Buenos_Aires"])
async def test_site_stands_in_its_own_zone(clinic: SomeClinic, zone: str) -> None:
    site = await clinic.add_site(zone)
    async with clinic.unit() as unit:
        assert await clinics.get_site(unit, site.site_id) == site


async def test_staff_list_the_sites_and_points_of_their_clinic(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    await found_clinic(house)
    north = await clinic.add_site(name="A north", directions_url="https://maps.example/1")
    door = await clinic.add_point(north, name="A door", room="0.1")
    headers = clinic.acting(clinic.admin)
    listed = (await client.get("/api/v1/clinic-locations", headers=headers)).json()
    assert [each["site_id"] for each in listed] == [
        str(north.site_id),
        str(clinic.site.site_id),
    ]
    assert listed[0]["directions_url"] == "https://maps.example/1"
    path = "/api/v1/appointments/check-in/locations"
    points = (await client.get(path, headers=headers)).json()
    assert [each["check_in_point_id"] for each in points] == [
        str(door.check_in_point_id),
        str(clinic.point.check_in_point_id),
    ]
    someone, _ = await clinic.signed_in_patient()
    nurse = await clinic.member(Role.NURSE)
    for where in ("/api/v1/clinic-locations", path):
        assert (await client.get(where, headers=clinic.acting(someone))).status_code == 404
        assert (await client.get(where, headers=clinic.acting(nurse))).status_code == 403
        assert (await client.get(where)).status_code == 401


async def test_place_of_another_clinic_is_not_found(clinic: SomeClinic, house: House) -> None:
    other = await found_clinic(house)
    async with clinic.unit() as unit:
        with pytest.raises(clinics.SiteNotFound):
            await clinics.get_site(unit, other.site.site_id)
        assert await clinics.find_point(unit, other.point.check_in_point_id) is None
        found = await clinics.find_sites(unit, [clinic.site.site_id, other.site.site_id])
        assert found == [clinic.site]
        assert [each.clinic_id for each in await clinics.list_clinics(unit)] == [clinic.clinic_id]
        with pytest.raises(clinics.SiteNotFound):
            await clinics.open_point(unit, some_point(other.site))


async def test_point_is_found_with_what_is_around_it(clinic: SomeClinic) -> None:
    async with clinic.unit() as unit:
        found = await clinics.find_point(unit, clinic.point.check_in_point_id)
    assert found is not None
    assert (found.site_id, found.clinic_id) == (clinic.site.site_id, clinic.clinic_id)
    assert (found.site_name, found.clinic_name, found.point_name) == ("Main", "Clinic", "Door")
    assert (found.zone, found.queue_mode) == ("UTC", clinics.QueueMode.PRACTITIONER)


async def test_point_cannot_be_moved_under_a_site_of_another_clinic_by_hand(
    clinic: SomeClinic, house: House
) -> None:
    """The wall is in the foreign key too, not only in the use case."""
    other = await found_clinic(house)
    with pytest.raises(Exception, match="foreign key"):
        async with clinic.unit() as unit:
            await unit.connection.execute(
                "update check_in_point set site_id = $1", other.site.site_id
            )
