"""Two clocks: the clinic's moves days and windows, the wall's moves tokens, codes and the audit."""

from datetime import timedelta

import pytest

from cliniq.app import House, open_house
from cliniq.domains.checkin import api as checkin
from cliniq.domains.checkin.rules import rotation_of
from cliniq.platform.clock import Clocks, utc_now
from cliniq.platform.source import Urls
from tests.platform.wire import refusal
from tests.support import NOON, SECRET, Admin, Client, Hands, SomeClinic

DAY = timedelta(days=1)


def test_machine_s_clock_is_aware_and_in_utc() -> None:
    now = utc_now()
    assert now.utcoffset() == timedelta()
    assert Clocks().clinic() >= now
    assert Clocks().wall() >= now


async def test_unit_reads_each_clock_once(clinic: SomeClinic, hands: Hands) -> None:
    hands.clinic = NOON + DAY
    async with clinic.unit() as unit:
        hands.move(DAY)
        assert (unit.now, unit.wall) == (NOON + DAY, NOON)


async def test_check_in_window_follows_the_clinic_s_clock(
    client: Client, clinic: SomeClinic, hands: Hands
) -> None:
    someone, _, _ = await clinic.visit(NOON + timedelta(hours=6))
    hands.wall += timedelta(minutes=14)
    refusal(await clinic.scan(client, someone), 409, "CHECKIN_TOO_EARLY")
    hands.clinic += timedelta(hours=6)
    assert (await clinic.scan(client, someone)).status_code == 200


async def test_today_follows_the_clinic_s_clock(
    client: Client, clinic: SomeClinic, hands: Hands
) -> None:
    await clinic.book(await clinic.patient(), NOON + 3 * DAY)

    async def listed() -> int:
        answer = await client.get(
            "/api/v1/appointments",
            params={"site_id": str(clinic.site.site_id)},
            headers=clinic.acting(clinic.receptionist),
        )
        return len(answer.json()["items"])

    assert await listed() == 0
    hands.clinic += 3 * DAY
    assert await listed() == 1


async def test_sign_in_follows_the_wall_s_clock(
    client: Client, clinic: SomeClinic, hands: Hands
) -> None:
    headers = clinic.doctor.headers
    hands.clinic += 365 * DAY
    assert (await client.get("/api/v1/me", headers=headers)).status_code == 200
    hands.wall += timedelta(minutes=15)
    refusal(await client.get("/api/v1/me", headers=headers), 401, "UNAUTHENTICATED")
    body = {"refresh_token": clinic.doctor.refresh_token}
    renewed = await client.post("/api/v1/auth/refresh", json=body)
    headers = {"Authorization": f"Bearer {renewed.json()['access_token']}"}
    assert (await client.get("/api/v1/me", headers=headers)).status_code == 200


@pytest.mark.parametrize("clock", ["clinic", "wall"])
async def test_rotating_code_follows_the_wall_s_clock(
    client: Client, clinic: SomeClinic, hands: Hands, clock: str
) -> None:
    someone, _, _ = await clinic.visit(NOON + timedelta(minutes=5))
    code = clinic.code(checkin.CodeKind.ROTATING, step=rotation_of(hands.wall))
    if clock == "wall":
        hands.wall += timedelta(minutes=2)
        answer = await clinic.scan(client, someone, code=code)
        refusal(answer, 409, "QR_EXPIRED")
    else:
        hands.clinic += timedelta(minutes=2)
        assert (await clinic.scan(client, someone, code=code)).status_code == 200


async def test_trail_tells_both_clocks(
    client: Client, clinic: SomeClinic, admin: Admin, hands: Hands
) -> None:
    hands.clinic += 2 * DAY
    body = {"given_name": "A", "family_name": "B"}
    made = await client.post("/api/v1/patients", json=body, headers=clinic.acting(clinic.admin))
    assert made.status_code == 201
    denied = await client.post("/api/v1/patients", json=body, headers=clinic.acting(clinic.doctor))
    refusal(denied, 403, "FORBIDDEN")
    for answer in (made, denied):
        row = await admin.fetchrow(
            "select happened_at, recorded_at from audit where request_id = $1",
            answer.headers["x-request-id"],
        )
        assert row is not None
        assert tuple(row) == (NOON + 2 * DAY, NOON)


async def test_house_without_clocks_of_its_own_lives_now(urls: Urls) -> None:
    async with open_house(urls.application, SECRET, 2, Clocks(), promises=None) as house:
        before = utc_now()
        assert before <= house.entrance.database.clocks.clinic() <= utc_now()


def test_house_of_the_tests_lives_at_noon(house: House, hands: Hands) -> None:
    clocks = house.entrance.database.clocks
    assert clocks.clinic() == clocks.wall() == NOON
