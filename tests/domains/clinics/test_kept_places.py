"""Places come from memory: a clinic's own, as its last change left them, and nobody else's."""

import asyncio
from dataclasses import replace

import pytest
from msgspec import structs

from cliniq.app import STALE, House, forget_told, warm_up
from cliniq.domains.checkin import api as checkin
from cliniq.domains.clinics import api as clinics
from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import NotFound
from cliniq.kernel.scope import GuestScope, SelfScope
from cliniq.platform.cache import Cache, key_of
from cliniq.platform.cached import cached
from cliniq.platform.db import Beside, open_read_unit
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.domains.watch import Watch
from tests.support import Admin, SomeClinic, found_clinic, some_point, some_site

LOCATIONS = "/api/v1/clinic-locations"


def cache_of(house: House) -> Cache:
    cache = house.entrance.database.beside.cache
    assert cache is not None
    return cache


async def names(clinic: SomeClinic) -> list[str]:
    async with clinic.unit() as unit:
        return [each.name for each in await clinics.list_sites(unit)]


async def test_sites_are_asked_for_once_and_anew_after_a_change(
    watch: Watch, clinic: SomeClinic
) -> None:
    async def asked() -> int:
        await watch.said()
        answer = await watch.client.get(LOCATIONS, headers=clinic.acting(clinic.admin))
        assert answer.status_code == 200
        return len((await watch.said()).statements)

    cold, warm = 3, 2
    assert [await asked() for _ in range(3)] == [cold, warm, warm]
    await clinic.add_site(name="North")
    assert [await asked() for _ in range(3)] == [cold, warm, warm]
    assert await names(clinic) == ["Main", "North"]


async def test_unit_sees_its_own_change_and_nobody_else_does_before_it_commits(
    clinic: SomeClinic,
) -> None:
    assert await names(clinic) == ["Main"]
    north = some_site(name="North")
    async with clinic.unit() as unit:
        await clinics.open_site(unit, north)
        assert await clinics.get_site(unit, north.site_id) == north
        assert await names(clinic) == ["Main"]
        await clinics.open_point(unit, some_point(north, name="North door"))
    assert await names(clinic) == ["Main", "North"]


async def test_change_that_is_rolled_back_is_seen_by_nobody(clinic: SomeClinic) -> None:
    assert await names(clinic) == ["Main"]
    with pytest.raises(KeyError):
        async with clinic.unit() as unit:
            await clinics.open_site(unit, some_site(name="North"))
            assert len(await clinics.list_sites(unit)) == 2
            raise KeyError
    assert await names(clinic) == ["Main"]


async def test_equal_ids_in_two_clinics_never_meet(clinic: SomeClinic, house: House) -> None:
    """T9, in the room: the same site and point ids, each clinic's own names."""
    other = await found_clinic(house)
    site = some_site(name="Ours")
    point = some_point(site, name="Our door")
    for each, whose in ((clinic, "Ours"), (other, "Theirs")):
        async with each.unit() as unit:
            await clinics.open_site(unit, structs.replace(site, name=whose))
            await clinics.open_point(unit, structs.replace(point, name=f"{whose} door"))
    for _ in range(2):
        for each, whose in ((clinic, "Ours"), (other, "Theirs")):
            async with each.unit() as unit:
                assert (await clinics.get_site(unit, site.site_id)).name == whose
                found = await clinics.find_point(unit, point.check_in_point_id)
                assert found is not None
                assert (found.point_name, found.clinic_id) == (f"{whose} door", each.clinic_id)


async def test_person_without_a_seat_does_not_reach_what_is_kept(
    watch: Watch, clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    for each in (clinic, other):
        async with each.unit() as unit:
            await clinics.warm(unit)
    answer = await watch.client.get(LOCATIONS, headers=clinic.acting(other.admin))
    assert (answer.status_code, answer.json()["code"]) == (404, NotFound.code)


async def test_person_across_clinics_is_answered_by_the_database(
    clinic: SomeClinic, house: House
) -> None:
    someone, _ = await clinic.signed_in_patient()
    database, cache = house.entrance.database, cache_of(house)
    seat = house.entrance.directory.seat_of_self(someone.caller, None, strict=False)
    async with open_read_unit(database, SelfScope(someone.person_id), seat) as unit:
        before = cache.counts()
        assert await clinics.list_sites(unit) == [clinic.site]
        assert cache.counts() == before


async def test_guest_at_the_door_finds_the_clinic_s_signs_in_memory(
    clinic: SomeClinic, house: House
) -> None:
    async with clinic.unit() as unit:
        await clinics.warm(unit)
    cache = cache_of(house)
    before = cache.hits
    async with open_read_unit(house.entrance.database, GuestScope(clinic.clinic_id)) as unit:
        assert await clinics.find_point(unit, clinic.point.check_in_point_id) is not None
    assert cache.hits == before + 1


async def test_windows_of_the_clinic_are_kept_until_they_change(
    clinic: SomeClinic, house: House
) -> None:
    rule = checkin.WindowRule(None, None, 10, 10)
    for expected in ([], [rule]):
        async with clinic.unit() as unit:
            for _ in range(2):
                assert await cached(unit, checkin.RULES) == expected
            if not expected:
                await checkin.add_rule(unit, new_id(), rule)


async def test_fifty_who_come_at_once_ask_the_database_once(
    clinic: SomeClinic, house: House
) -> None:
    cache = cache_of(house)
    cache.forget([key_of(clinics.SITES.name, clinic.clinic_id)])
    before = cache.reads["loaded"]
    assert await asyncio.gather(*(names(clinic) for _ in range(50))) == [["Main"]] * 50
    assert cache.reads["loaded"] == before + 1


async def test_without_a_cache_everything_is_asked_for(clinic: SomeClinic, house: House) -> None:
    bare = replace(house.entrance.database, beside=Beside())
    async with open_read_unit(bare, GuestScope(clinic.clinic_id)) as unit:
        assert await clinics.list_sites(unit) == [clinic.site]


async def test_cache_is_warm_before_anybody_asks(own_urls: Urls, own_admin: Admin) -> None:
    async with house_of(own_urls) as house:
        there = [await found_clinic(house) for _ in range(3)]
    async with house_of(own_urls) as house:
        await warm_up(house.entrance.database)
        cache = cache_of(house)
        assert len(cache) == len(there) * 3
        house.entrance.database.cut()
        await warm_up(house.entrance.database)  # and it is only a favour


async def test_fact_that_comes_through_makes_stale_what_it_is_about(
    clinic: SomeClinic, house: House, admin: Admin
) -> None:
    """As if whoever changed it had been killed between COMMIT and forgetting."""
    assert await names(clinic) == ["Main"]
    await admin.execute(
        "update site set name = 'Renamed' where clinic_id = $1 and site_id = $2",
        clinic.clinic_id,
        clinic.site.site_id,
    )
    assert await names(clinic) == ["Main"]
    forget_told(cache_of(house), "patients.registered.v1", clinic.clinic_id)
    assert await names(clinic) == ["Main"]
    forget_told(cache_of(house), clinics.SiteOpened.kind, clinic.clinic_id)
    assert await names(clinic) == ["Renamed"]
    assert {each.name for each in STALE.values()} == {"sites", "places", "check-in rules"}
