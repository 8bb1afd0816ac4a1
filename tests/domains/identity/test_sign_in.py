"""Signing in: every failure looks alike, and a storm of them is bounded."""

import asyncio
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from cliniq.app import House
from cliniq.domains.identity import api as identity
from cliniq.domains.identity.schemas import SignInIn
from cliniq.kernel.ids import new_id
from cliniq.kernel.permissions import Role
from cliniq.kernel.problem import RateLimitExceeded
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import passwords as passwords_module
from cliniq.platform.db import open_unit
from cliniq.platform.passwords import Passwords
from tests.domains.identity.sign_ins import AUTH, is_in, login, said
from tests.support import PASSWORD, Admin, Client, SomeClinic, known_hash, sign_up

WRONG = "incorrect horse battery"


async def disable(admin: Admin, email: str) -> None:
    await admin.execute("update account set status = 'disabled' where email = $1", email)


async def test_unknown_wrong_and_disabled_are_answered_alike(
    elsewhere: Client, house: House, admin: Admin
) -> None:
    known, disabled = await sign_up(house), await sign_up(house)
    await disable(admin, disabled.email)
    answers = [
        await login(elsewhere, "nobody@example.org"),
        await login(elsewhere, known.email, WRONG),
        await login(elsewhere, known.email, PASSWORD + " "),
        await login(elsewhere, known.email, PASSWORD.upper()),
        await login(elsewhere, disabled.email),
        await login(elsewhere, disabled.email, WRONG),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert said(answers[0]) == {
        "type": "/problems/SIGN_IN_FAILED",
        "title": "E-mail and password do not match",
        "status": 401,
        "code": "SIGN_IN_FAILED",
        "instance": f"{AUTH}/login",
    }
    assert all(said(answer) == said(answers[0]) for answer in answers)
    headers = [{k: v for k, v in each.headers.items() if k != "x-request-id"} for each in answers]
    assert all(each == headers[0] for each in headers)


async def test_unknown_account_costs_as_much_hashing_as_a_known_one(
    elsewhere: Client, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No clock is read here: what takes the time is counted instead."""
    hashed: list[str] = []
    verify = house.passwords._hash.verify  # noqa: SLF001

    def counted(password: str, known: str) -> bool:
        hashed.append(known)
        return verify(password, known)

    monkeypatch.setattr(house.passwords._hash, "verify", counted)  # noqa: SLF001
    someone = await sign_up(house)
    for email in ("nobody@example.org", someone.email):
        await login(elsewhere, email, WRONG)
    assert len(hashed) == 2
    parameters = [each.rsplit("$", 2)[0] for each in hashed]
    assert parameters == ["$argon2id$v=19$m=19456,t=2,p=1"] * 2


async def test_failed_sign_in_is_remembered_without_the_password(
    elsewhere: Client, house: House, admin: Admin
) -> None:
    someone = await sign_up(house)
    answer = await login(elsewhere, someone.email, WRONG)
    event = await admin.fetchrow(
        "select * from security_event where request_id = $1", answer.headers["x-request-id"]
    )
    assert event is not None
    assert (event["actor_id"], event["code"]) == (someone.person_id, "SIGN_IN_FAILED")
    assert WRONG not in str(tuple(event))


async def test_person_signs_in(elsewhere: Client, clinic: SomeClinic) -> None:
    for email in (clinic.doctor.email, f" {clinic.doctor.email.upper()} "):
        answer = await login(elsewhere, email)
        assert answer.status_code == 200
        given = answer.json()
        assert given.keys() == {"access_token", "expires_in", "refresh_token", "person"}
        assert given["expires_in"] == 900
        assert given["person"] == {
            "person_id": str(clinic.doctor.person_id),
            "given_name": "Some",
            "family_name": "Body",
        }
        assert await is_in(elsewhere, given["access_token"])
        headers = {"Authorization": f"bearer {given['access_token']}"}
        home = await elsewhere.get("/api/v1/queues", headers=headers)
        assert home.status_code == 200, "the home clinic is in the token"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "a@b"},
        {"email": "a@b", "password": ""},
        {"email": "a@b", "password": "x" * 257},
        {"email": "a@b", "password": 7},
        {"email": "ab", "password": PASSWORD},
        {"email": "a@b@c", "password": PASSWORD},
        {"email": "a b@c", "password": PASSWORD},
        {"email": "a@" + "b" * 300, "password": PASSWORD},
        {"email": "a@b", "password": PASSWORD, "role": "SUPER_ADMIN"},
        {"email": ["a@b"], "password": PASSWORD},
    ],
)
async def test_malformed_sign_in_is_refused_without_its_values(
    elsewhere: Client, body: dict[str, Any]
) -> None:
    answer = await elsewhere.post(f"{AUTH}/login", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")
    assert PASSWORD not in answer.text
    assert "xxxx" not in answer.text


async def test_storm_on_one_account_is_bounded(elsewhere: Client, house: House) -> None:
    someone, neighbour = await sign_up(house), await sign_up(house)
    answers = await asyncio.gather(
        *(login(elsewhere, someone.email, f"{WRONG}{number}") for number in range(25))
    )
    refused = [answer for answer in answers if answer.status_code == 429]
    assert 14 <= len(refused) <= 15  # a window that slides may forget one while it counts
    assert {answer.status_code for answer in answers} == {401, 429}
    for answer in refused:
        assert answer.json()["code"] == "RATE_LIMIT_EXCEEDED"
        assert int(answer.headers["retry-after"]) == answer.json()["retry_after_seconds"] >= 1
    assert (await login(elsewhere, someone.email.upper())).status_code == 429
    assert (await login(elsewhere, neighbour.email)).status_code == 200


async def test_stranger_who_guesses_locks_out_themselves_and_not_the_person(
    elsewhere: Client, client: Client, house: House
) -> None:
    someone = await sign_up(house)
    statuses = [(await login(elsewhere, someone.email, WRONG)).status_code for _ in range(12)]
    assert statuses[-1] == 429
    assert (await login(client, someone.email)).status_code == 200


async def test_person_who_gets_it_right_in_the_end_has_all_tries_again(
    elsewhere: Client, house: House
) -> None:
    someone = await sign_up(house)
    for _ in range(3):
        for _ in range(9):
            assert (await login(elsewhere, someone.email, WRONG)).status_code == 401
        assert (await login(elsewhere, someone.email)).status_code == 200


async def test_storm_on_an_unknown_account_looks_the_same(elsewhere: Client) -> None:
    email = f"{new_id().hex}@example.org"
    statuses = [(await login(elsewhere, email, WRONG)).status_code for _ in range(12)]
    assert statuses[:10] == [401] * 10
    assert statuses[-1] == 429


async def test_storm_from_one_address_is_bounded(
    elsewhere: Client, monkeypatch: pytest.MonkeyPatch, house: House
) -> None:
    async def instantly(*_: object) -> bool:
        return False

    monkeypatch.setattr(type(house.passwords), "verify", instantly)
    gate = asyncio.Semaphore(32)  # so that nobody waits for a connection in vain

    async def try_one(number: int) -> httpx2.Response:
        async with gate:
            return await login(elsewhere, f"{number}.{new_id().hex}@example.org")

    answers = await asyncio.gather(*map(try_one, range(320)))
    statuses = [answer.status_code for answer in answers]
    assert 300 <= statuses.count(401) <= 302  # a window that slides forgets while one counts
    assert statuses.count(401) + statuses.count(429) == 320


async def test_storm_beyond_what_can_wait_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords_module, "WAITING_AT_MOST", 3)
    with Passwords() as passwords:
        answers = await asyncio.gather(
            *(passwords.verify(WRONG, known_hash()) for _ in range(8)), return_exceptions=True
        )
        assert [each for each in answers if not isinstance(each, Exception)] == [False] * 3
        assert sum(isinstance(each, RateLimitExceeded) for each in answers) == 5
        assert await passwords.verify(PASSWORD, known_hash())
        assert not await passwords.verify(PASSWORD, None)


async def test_address_is_taken_in_any_spelling(house: House) -> None:
    someone = await sign_up(house)
    person = identity.Person(new_id(), "An", "Other", None, "en")
    with pytest.raises(identity.EmailTaken):
        async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
            await identity.enrol(unit, person)
            await identity.open_account(unit, person.person_id, someone.email.upper(), "x")


async def test_password_is_in_no_log_and_no_repr(
    elsewhere: Client, house: House, capfd: pytest.CaptureFixture[str]
) -> None:
    someone = await sign_up(house, None, Role.DOCTOR)
    body = SignInIn.model_validate({"email": someone.email, "password": PASSWORD})
    assert PASSWORD not in repr(body) + str(body)
    with capture_logs() as logs:
        await login(elsewhere, someone.email)
        await login(elsewhere, someone.email, PASSWORD + "!")
        await elsewhere.post(
            f"{AUTH}/login", json={"email": someone.email, "password": PASSWORD, "x": 1}
        )
        await elsewhere.post(f"{AUTH}/login", content=f'{{"password": "{PASSWORD}"')
    out, err = capfd.readouterr()
    assert logs
    assert PASSWORD not in str(logs) + out + err
    assert someone.email not in str(logs) + out + err
