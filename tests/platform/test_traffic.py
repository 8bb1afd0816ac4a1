"""Traffic: each class is limited by person, clinic and address, and nobody fills another's."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import httpx2
import pytest
from fastapi import FastAPI

from cliniq.app import House, build_app
from cliniq.platform.http.traffic import PACES, Pace, Traffic
from cliniq.platform.limits import Limits
from cliniq.platform.telemetry import Metrics
from tests.platform.wire import refusal
from tests.support import KEYED, Client, Hands, SomeClinic, Someone, found_clinic

Asking = Callable[[Client, SomeClinic, Someone], Awaitable[httpx2.Response]]
NAME = {"given_name": "A", "family_name": "B"}
API = "/api/v1"
LIMITED = [
    (traffic, by)
    for traffic, pace in PACES.items()
    for by in ("person", "clinic", "address")
    if getattr(pace, by)
]


async def read(client: Client, clinic: SomeClinic, who: Someone) -> httpx2.Response:
    return await client.get(f"{API}/queues", headers=clinic.acting(who))


async def write(client: Client, clinic: SomeClinic, who: Someone) -> httpx2.Response:
    return await client.post(f"{API}/patients", json=NAME, headers=clinic.acting(who))


async def scan(client: Client, clinic: SomeClinic, who: Someone) -> httpx2.Response:
    return await clinic.scan(client, who)


async def sign_out(client: Client, clinic: SomeClinic, who: Someone) -> httpx2.Response:
    return await client.post(f"{API}/auth/logout", headers=who.headers)


async def buy_a_pass(client: Client, clinic: SomeClinic, who: Someone) -> httpx2.Response:
    return await client.post(f"{API}/live/passes", headers=who.headers)


async def look(client: Client, clinic: SomeClinic, who: Someone) -> httpx2.Response:
    return await client.get("/")


ASKING: Mapping[Traffic, Asking] = {
    Traffic.READ: read,
    Traffic.WRITE: write,
    Traffic.SCAN: scan,
    Traffic.AUTH: sign_out,
    Traffic.LIVE: buy_a_pass,
    Traffic.PUBLIC: look,
}


@dataclass
class Place:
    """An application with paces and counts of its own."""

    app: FastAPI

    def client(self, address: str = "192.0.2.1") -> Client:
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False, client=(address, 1))
        return httpx2.AsyncClient(
            transport=transport, base_url="http://cliniq.test", event_hooks=KEYED
        )


@pytest.fixture
def place(house: House, hands: Hands) -> Callable[[Mapping[Traffic, Pace]], Place]:
    def build(paces: Mapping[Traffic, Pace]) -> Place:
        entrance = replace(
            house.entrance, limits=Limits(), paces=dict.fromkeys(Traffic, Pace()) | dict(paces)
        )
        return Place(build_app(replace(house, entrance=entrance, metrics=Metrics())))

    return build


Build = Callable[[Mapping[Traffic, Pace]], Place]


@pytest.mark.parametrize(("traffic", "by"), LIMITED)
async def test_class_is_limited_by_whom_it_says_and_others_go_on(
    place: Build, clinic: SomeClinic, house: House, traffic: Traffic, by: str
) -> None:
    here = place({traffic: Pace(**{by: "2/hour"})})
    ask, there = ASKING[traffic], await found_clinic(house)
    colleague = clinic.receptionist if traffic is not Traffic.READ else clinic.doctor
    async with here.client() as one, here.client("192.0.2.2") as other:
        others = {
            "person": (one, clinic, colleague),
            "clinic": (one, there, there.admin),
            "address": (other, clinic, clinic.admin),
        }
        same = {
            "person": (other, clinic, clinic.admin),
            "clinic": (other, clinic, colleague),
            "address": (one, there, there.admin),
        }
        answers = [await ask(one, clinic, clinic.admin) for _ in range(2)]
        assert all(each.status_code != 429 for each in answers)
        answer = await ask(*same[by])
        said = refusal(answer, 429, "RATE_LIMIT_EXCEEDED")
        assert 1 <= said["retry_after_seconds"] == int(answer.headers["retry-after"]) <= 3601
        assert (await ask(*others[by])).status_code != 429


async def test_classes_are_counted_apart(place: Build, clinic: SomeClinic) -> None:
    here = place(dict.fromkeys(Traffic, Pace("1/hour", "1/hour", "1/hour")))
    async with here.client() as client:
        for traffic in (Traffic.PUBLIC, Traffic.READ, Traffic.WRITE, Traffic.SCAN, Traffic.LIVE):
            answer = await ASKING[traffic](client, clinic, clinic.admin)
            assert answer.status_code != 429, traffic
            refusal(await ASKING[traffic](client, clinic, clinic.admin), 429, "RATE_LIMIT_EXCEEDED")


async def test_strangers_do_not_use_up_what_is_a_clinics(
    place: Build, clinic: SomeClinic, house: House
) -> None:
    here = place({Traffic.READ: Pace(clinic="2/hour")})
    there = await found_clinic(house)
    async with here.client() as client:
        for _ in range(10):
            refusal(await read(client, clinic, there.admin), 404, "NOT_FOUND")
        assert [(await read(client, clinic, clinic.admin)).status_code for _ in range(3)] == [
            200,
            200,
            429,
        ]


async def test_whoever_is_refused_before_the_door_is_counted_too(
    place: Build, clinic: SomeClinic
) -> None:
    wrong: list[tuple[dict[str, str], bytes, int]] = [
        ({"Authorization": "Bearer forged"}, b"{}", 401),
        (clinic.acting(clinic.admin), b"{", 422),
        (clinic.acting(clinic.admin), b"{}", 422),
        (clinic.acting(clinic.admin) | {"Idempotency-Key": ""}, b'{"given_name": 1}', 422),
    ]
    for headers, content, status in wrong:
        here = place({Traffic.WRITE: Pace(address="3/hour")})
        async with here.client() as client:
            answers = [
                await client.post(
                    f"{API}/patients",
                    content=content,
                    headers={"Content-Type": "application/json"} | headers,
                )
                for _ in range(5)
            ]
        assert [each.status_code for each in answers] == [status] * 3 + [429] * 2


async def test_request_is_counted_once_whatever_becomes_of_it(
    place: Build, clinic: SomeClinic
) -> None:
    here = place({Traffic.WRITE: Pace("4/hour", "4/hour", "4/hour")})
    key = {"Idempotency-Key": "a key"}
    async with here.client() as client:
        answers = [
            await client.post(
                f"{API}/patients", json=NAME, headers=clinic.acting(clinic.receptionist) | key
            )
            for _ in range(5)
        ]
    assert [each.status_code for each in answers] == [201] * 4 + [429]


async def test_health_is_never_limited(place: Build) -> None:
    here = place(dict.fromkeys(Traffic, Pace("1/hour", "1/hour", "1/hour")))
    async with here.client() as client:
        for path in ("/health/live", "/health/ready", "/metrics") * 3:
            assert (await client.get(path)).status_code == 200


async def test_home_with_many_addresses_of_ipv6_is_counted_as_one(
    place: Build, clinic: SomeClinic
) -> None:
    here = place({Traffic.PUBLIC: Pace(address="2/hour")})
    statuses = []
    for address in ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:2::2", "2001:db8:1:3::"):
        async with here.client(address) as client:
            statuses.append((await client.get("/")).status_code)
    assert statuses == [200, 200, 429, 200]
