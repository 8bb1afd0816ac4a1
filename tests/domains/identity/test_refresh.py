"""Refresh tokens rotate: fifty at once give one successor, and a stolen one ends the sign-in."""

import asyncio
from datetime import timedelta

import pytest

from cliniq.app import House
from cliniq.domains.identity.models import Session
from cliniq.domains.identity.rules import RETRY, SESSION_LIFE, Rotation, judge_refresh
from cliniq.domains.identity.service import REFRESH
from cliniq.kernel.ids import new_id
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.domains.conftest import Build
from tests.domains.identity.sign_ins import is_in, login, logout, refresh, renewed
from tests.support import NOON, Admin, Client, Hands, Someone, sign_up

TICK = timedelta(microseconds=1)


def session(generation: int = 5, *, ended: bool = False) -> Session:
    ended_at = NOON if ended else None
    return Session(new_id(), new_id(), generation, NOON + SESSION_LIFE, NOON, ended_at)


@pytest.mark.parametrize(
    ("generation", "later", "deserves"),
    [
        (5, timedelta(), Rotation.ADVANCE),
        (5, SESSION_LIFE - TICK, Rotation.ADVANCE),
        (5, SESSION_LIFE, Rotation.REFUSE),
        (4, timedelta(), Rotation.REPEAT),
        (4, RETRY, Rotation.REPEAT),
        (4, RETRY + TICK, Rotation.REVOKE),
        (3, timedelta(), Rotation.REVOKE),
        (0, timedelta(), Rotation.REVOKE),
        (6, timedelta(), Rotation.REVOKE),
        (0, SESSION_LIFE, Rotation.REFUSE),
    ],
)
def test_refresh_token_gets_what_it_deserves(
    generation: int, later: timedelta, deserves: Rotation
) -> None:
    assert judge_refresh(session(), generation, NOON + later) is deserves
    assert judge_refresh(session(ended=True), generation, NOON + later) is Rotation.REFUSE


@pytest.fixture
async def someone(house: House, hands: Hands) -> Someone:
    return await sign_up(house)


async def test_fifty_refreshes_at_once_give_one_successor(
    urls: Urls, admin: Admin, open_client: Build
) -> None:
    async with house_of(urls, size=48) as house, open_client(house) as client:
        for _ in range(5):
            someone = await sign_up(house)
            answers = await asyncio.gather(
                *(refresh(client, someone.refresh_token) for _ in range(50))
            )
            assert {answer.status_code for answer in answers} == {200}
            successors = {answer.json()["refresh_token"] for answer in answers}
            assert len(successors) == 1
            assert someone.refresh_token not in successors
            generation = await admin.fetchval(
                "select generation from session where session_id = $1", someone.session_id
            )
            assert generation == 1
            for answer in answers[:3]:
                assert await is_in(client, answer.json()["access_token"])


async def test_refresh_whose_answer_was_lost_is_answered_again_for_ten_seconds(
    client: Client, hands: Hands, someone: Someone
) -> None:
    first = await renewed(client, someone.refresh_token)
    hands.wall += timedelta(seconds=10)
    again = await renewed(client, someone.refresh_token)
    assert again["refresh_token"] == first["refresh_token"]
    second = await renewed(client, first["refresh_token"])
    assert second["refresh_token"] != first["refresh_token"]


async def test_refresh_by_a_used_token_later_ends_the_sign_in(
    client: Client, hands: Hands, admin: Admin, someone: Someone
) -> None:
    newest = await renewed(client, someone.refresh_token)
    hands.wall += timedelta(seconds=10) + TICK
    stolen = await refresh(client, someone.refresh_token)
    assert (stolen.status_code, stolen.json()["code"]) == (401, "REFRESH_REFUSED")
    assert (await refresh(client, newest["refresh_token"])).json()["code"] == "REFRESH_REFUSED"
    for access_token in (someone.access_token, newest["access_token"]):
        assert not await is_in(client, access_token)
    reason = await admin.fetchval(
        "select end_reason from session where session_id = $1", someone.session_id
    )
    assert reason == "refresh_reused"
    event = await admin.fetchrow(
        "select actor_id, code from security_event where request_id = $1",
        stolen.headers["x-request-id"],
    )
    assert event is not None
    assert tuple(event) == (someone.person_id, "REFRESH_REUSED")


async def test_refresh_by_an_older_token_ends_the_sign_in_at_once(
    client: Client, someone: Someone
) -> None:
    first = await renewed(client, someone.refresh_token)
    second = await renewed(client, first["refresh_token"])
    assert (await refresh(client, someone.refresh_token)).status_code == 401
    assert (await refresh(client, second["refresh_token"])).status_code == 401
    assert not await is_in(client, second["access_token"])


async def test_end_of_one_sign_in_leaves_the_others(client: Client, someone: Someone) -> None:
    other = (await login(client, someone.email)).json()
    first = await renewed(client, someone.refresh_token)
    await renewed(client, first["refresh_token"])
    assert (await refresh(client, someone.refresh_token)).status_code == 401
    assert await is_in(client, other["access_token"])
    await renewed(client, other["refresh_token"])


async def test_sign_in_ends_after_thirty_days_however_often_it_was_renewed(
    client: Client, hands: Hands, someone: Someone
) -> None:
    hands.wall += timedelta(days=29)
    newest = await renewed(client, someone.refresh_token)
    assert await is_in(client, newest["access_token"])
    hands.wall += timedelta(days=1)
    assert (await refresh(client, newest["refresh_token"])).status_code == 401
    assert not await is_in(client, newest["access_token"])


async def test_refresh_of_a_disabled_account_is_refused(
    client: Client, admin: Admin, someone: Someone
) -> None:
    change = "update account set status = $2 where person_id = $1"
    await admin.execute(change, someone.person_id, "disabled")
    refused = await refresh(client, someone.refresh_token)
    assert (refused.status_code, refused.json()["code"]) == (401, "REFRESH_REFUSED")
    await admin.execute(change, someone.person_id, "active")
    await renewed(client, someone.refresh_token)


async def test_logout_ends_access_and_refresh_at_once(
    client: Client, admin: Admin, someone: Someone
) -> None:
    other = (await login(client, someone.email)).json()
    answer = await logout(client, someone)
    assert (answer.status_code, answer.content) == (204, b"")
    assert not await is_in(client, someone.access_token)
    refused = await refresh(client, someone.refresh_token)
    assert (refused.status_code, refused.json()["code"]) == (401, "REFRESH_REFUSED")
    assert (await logout(client, someone)).status_code == 401
    assert await is_in(client, other["access_token"])
    reason = await admin.fetchval(
        "select end_reason from session where session_id = $1", someone.session_id
    )
    assert reason == "logout"


async def test_refresh_and_logout_at_once_leave_nobody_signed_in(
    client: Client, house: House
) -> None:
    for _ in range(10):
        someone = await sign_up(house)
        renewal, _ = await asyncio.gather(
            refresh(client, someone.refresh_token), logout(client, someone)
        )
        if renewal.status_code == 200:
            assert not await is_in(client, renewal.json()["access_token"])
            renewal = await refresh(client, renewal.json()["refresh_token"])
        assert renewal.json()["code"] == "REFRESH_REFUSED"


async def test_token_that_is_no_refresh_token_of_ours_is_refused(
    client: Client, house: House, someone: Someone
) -> None:
    keyring, token = house.entrance.keyring, someone.refresh_token
    for wrong in (
        token[:-1],
        token + "A",
        token[:-1] + ("B" if token[-1] == "A" else "A"),
        someone.access_token[:256],
        keyring.seal(REFRESH, b""),
        keyring.seal("scan-pass", b"x" * 36),
        "A",
    ):
        answer = await refresh(client, wrong)
        assert (answer.status_code, answer.json()["code"]) == (401, "REFRESH_REFUSED")
    for malformed in ("", "A" * 257):
        assert (await refresh(client, malformed)).json()["code"] == "REQUEST_INVALID"
    await renewed(client, token)
