"""Pictures of codes: a printed one is drawn once and kept, a rotating one is drawn each time."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cliniq import app as composition
from cliniq.app import House, build_app, tools_of
from cliniq.domains.checkin import codes
from cliniq.domains.checkin.models import PictureFormat, Poster
from cliniq.domains.clinics import api as clinics
from cliniq.platform.backends import Backends
from cliniq.platform.source import Urls
from cliniq.platform.storage import Storage, open_storage
from cliniq.platform.telemetry import Metrics
from cliniq.worker import working
from tests.conftest import house_of
from tests.domains.conftest import client_at, new_address
from tests.relays import free_leases
from tests.support import SECRET, Admin, Client, Hands, SomeClinic, found_clinic

PLACE = "http://cliniq.test"


class Place:
    """A clinic, a client, and the storage behind it."""

    def __init__(self, house: House, client: Client, clinic: SomeClinic) -> None:
        self.client, self.clinic, self.storage = client, clinic, house.entrance.storage

    async def get(self, point: clinics.CheckInPoint | None = None, **asked: str) -> Any:
        at = (point or self.clinic.point).check_in_point_id
        headers = self.clinic.acting(self.clinic.receptionist)
        seen = {"If-None-Match": asked.pop("seen")} if "seen" in asked else {}
        path = f"/api/v1/appointments/locations/{at}/qr-code"
        return await self.client.get(path, params=asked, headers=headers | seen)

    async def kept(self) -> list[str]:
        found = await self.storage.list(self.clinic.clinic_id, "check-in-codes", public=True)
        return sorted(found)


async def place_with(
    house: House, hands: Hands, storage_url: str, public_url: str | None = None
) -> Place:
    backends = Backends(
        storage_url=storage_url,
        storage_public_url=public_url,
        storage_key_id="x",
        storage_secret=SECRET,
    )
    storage = open_storage(backends, house.entrance.keyring, lambda: hands.wall)
    other = replace(house, entrance=replace(house.entrance, storage=storage))
    client = client_at(build_app(other, PLACE), new_address())
    return Place(other, client, await found_clinic(house))


@pytest.fixture
async def place(house: House, hands: Hands) -> AsyncIterator[Place]:
    found = await place_with(house, hands, "memory:")
    async with found.client:
        yield found


@pytest.fixture
async def place_with_cdn(house: House, hands: Hands) -> AsyncIterator[Place]:
    found = await place_with(house, hands, "memory:", "https://cdn.example/cliniq")
    async with found.client:
        yield found


@pytest.mark.parametrize(("kind", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
async def test_printed_code_is_drawn_once_and_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch, kind: str, begins: bytes
) -> None:
    first = await place.get(format=kind)
    assert first.status_code == 200
    assert first.content.startswith(begins)
    assert first.headers["cache-control"] == "private, no-cache"
    (name,) = await place.kept()
    assert name.endswith(f".{kind}")
    monkeypatch.setattr(codes, "draw", None)  # nobody can draw any longer
    again = await place.get(format=kind)
    assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
    unchanged = await place.get(format=kind, seen=first.headers["etag"])
    assert (unchanged.status_code, unchanged.content) == (304, b"")


async def test_another_key_is_another_picture(place: Place) -> None:
    before = await place.get()
    async with place.clinic.unit() as unit:
        point = place.clinic.point.check_in_point_id
        await clinics.rekey_point(unit, point, key_id=2, oldest_key=1)
    after = await place.get(seen=before.headers["etag"])
    assert after.status_code == 200
    assert after.content != before.content
    assert len(await place.kept()) == 2


async def test_rotating_code_is_drawn_each_time_and_never_kept(place: Place, hands: Hands) -> None:
    screen = await place.clinic.add_point(place.clinic.site, qr_mode=clinics.QrMode.ROTATING)
    first = await place.get(screen)
    assert (first.status_code, first.headers["cache-control"]) == (200, "no-store")
    assert "etag" not in first.headers
    hands.move(timedelta(seconds=30))
    assert (await place.get(screen)).content != first.content
    assert await place.kept() == []


async def test_with_a_cdn_the_answer_leads_there(place_with_cdn: Place) -> None:
    answer = await place_with_cdn.get(format="png")
    assert answer.status_code == 302
    (name,) = await place_with_cdn.kept()
    assert answer.headers["location"] == f"https://cdn.example/cliniq/{name}"
    assert answer.content == b""
    screen = await place_with_cdn.clinic.add_point(
        place_with_cdn.clinic.site, qr_mode=clinics.QrMode.ROTATING
    )
    assert (await place_with_cdn.get(screen)).status_code == 200


@pytest.mark.parametrize("public_url", [None, "https://cdn.example"])
async def test_picture_is_drawn_although_the_storage_is_away(
    house: House, hands: Hands, monkeypatch: pytest.MonkeyPatch, public_url: str | None
) -> None:
    monkeypatch.setattr(codes, "PICTURE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (1, silent.getsockname()[1]):  # nobody listens; nobody answers
            url = f"s3://bucket?endpoint=http://127.0.0.1:{port}"
            place = await place_with(house, hands, url, public_url)
            async with place.client:
                answer = await place.get(format="png")
            assert (answer.status_code, answer.content[:4]) == (200, b"\x89PNG")


async def test_storage_is_not_asked_within_a_transaction(
    place: Place, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow storage must not hold connections to the database."""
    busy: list[int] = []
    get = Storage.get

    async def look(self: Storage, *asked: Any, **also: Any) -> Any:
        pool = house.entrance.database.clinic
        busy.append(pool.get_size() - pool.get_idle_size())
        return await get(self, *asked, **also)

    monkeypatch.setattr(Storage, "get", look)
    assert (await place.get()).status_code == 200
    assert busy == [0]


async def test_stranger_gets_no_picture_and_none_is_made(
    place: Place, house: House, hands: Hands
) -> None:
    other = await found_clinic(house)
    path = f"/api/v1/appointments/locations/{place.clinic.point.check_in_point_id}/qr-code"
    answer = await place.client.get(path, headers=other.acting(other.receptionist))
    assert (answer.status_code, answer.json()["code"]) == (404, "CHECK_IN_POINT_NOT_FOUND")
    assert await place.kept() == []


async def test_picture_can_be_made_before_anybody_asks(house: House, hands: Hands) -> None:
    """As a job does, when a point is opened or its key changes."""
    storage = open_storage(Backends(), house.entrance.keyring, lambda: hands.wall)
    clinic = await found_clinic(house)
    poster = Poster(clinic.clinic_id, clinic.point.check_in_point_id, f"{PLACE}/c/{clinic.code()}")
    for _ in range(2):
        picture = await codes.print_code(storage, poster, PictureFormat.SVG)
        assert picture.is_stored
    kept = await storage.list(clinic.clinic_id, "check-in-codes", public=True)
    assert kept == [codes.name_picture(poster, PictureFormat.SVG)]
    assert SECRET not in kept[0]


# Before anybody asks


async def test_new_point_has_its_pictures_before_anybody_asks(urls: Urls, admin: Admin) -> None:
    await free_leases(admin)
    async with (
        house_of(urls, relays=True) as house,
        working(tools_of(house, "http://cliniq.test"), house.entrance.bus, Metrics(), hands=2),
    ):
        clinic = await found_clinic(house)
        await two_pictures(house, clinic)
        async with clinic.unit() as unit:
            at = clinic.point.check_in_point_id
            await clinics.rekey_point(unit, at, key_id=2, oldest_key=1)
        await two_pictures(house, clinic, keys=2)


async def test_fact_that_has_come_through_is_forgotten_by_the_cache(
    urls: Urls, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if whoever told it had been killed right after its COMMIT."""
    await free_leases(admin)
    forgotten: list[str] = []
    monkeypatch.setattr(
        composition, "forget_told", lambda _cache, kind, _at: forgotten.append(kind)
    )
    async with house_of(urls, relays=True) as house:
        await found_clinic(house)
        await house.relay.drain()
        async with asyncio.timeout(30):
            while len(forgotten) < 2:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
    assert {"clinics.site_opened.v1", "clinics.point_opened.v1"} <= set(forgotten)


async def two_pictures(house: House, clinic: SomeClinic, *, keys: int = 1) -> None:
    """Wait until the storage has a picture in each format, for each key."""
    found: list[str] = []
    async with asyncio.timeout(30):
        while len(found) < 2 * keys:
            await asyncio.sleep(0.02)
            storage = house.entrance.storage
            found = [*await storage.list(clinic.clinic_id, "check-in-codes", public=True)]
    assert sorted(each.rpartition(".")[2] for each in found) == ["png"] * keys + ["svg"] * keys
