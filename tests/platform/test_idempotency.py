"""Keys: asked again with the same one, it happens once and is answered the same, byte for byte."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from cliniq.app import House, build_app
from cliniq.kernel.permissions import Permission, Role
from cliniq.kernel.scope import ClinicScope
from cliniq.platform import idempotency
from cliniq.platform.db import Opening, Unit, open_unit
from cliniq.platform.idempotency import Asked, drop_stale_keys, fingerprint, recall
from cliniq.platform.source import Urls
from cliniq.platform.upkeep import upkeep
from tests.conftest import house_of
from tests.platform.wire import MARK, ask, refusal
from tests.support import NOON, Admin, Client, Hands, SomeClinic, Someone, found_clinic

PATIENTS, VISITS = "/api/v1/patients", "/api/v1/appointments"
NAME = {"given_name": MARK, "family_name": "Tester"}


@pytest.fixture
async def bare(app: FastAPI, hands: Hands) -> AsyncIterator[Client]:
    """A client that sends no key unless it is told one."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://cliniq.test") as client:
        yield client


async def post(
    client: Client,
    headers: Mapping[str, str],
    key: str | None = "a key",
    path: str = PATIENTS,
    **body: object,
) -> httpx2.Response:
    keyed = {"Idempotency-Key": key} if key is not None else {}
    return await client.post(path, json=body or NAME, headers={**headers, **keyed})


def seated(house: House, clinic: SomeClinic, someone: Someone) -> Opening[Unit]:
    """A unit as the door of `POST /patients` opens it."""
    scope = ClinicScope(someone.person_id, clinic.clinic_id, Permission.PATIENTS_CREATE)
    seat = house.entrance.directory.seat_of_staff(someone.caller, scope)
    return open_unit(house.entrance.database, scope, seat)


async def patients_of(admin: Admin, clinic: SomeClinic) -> int:
    counted = await admin.fetchval(
        "select count(*) from patient where clinic_id = $1", clinic.clinic_id
    )
    return int(counted)


async def keys_of(admin: Admin, clinic: SomeClinic) -> int:
    counted = await admin.fetchval(
        "select count(*) from idempotency_key where clinic_id = $1", clinic.clinic_id
    )
    return int(counted)


async def age(admin: Admin, clinic: SomeClinic, by: timedelta) -> None:
    await admin.execute(
        "update idempotency_key set stored_at = stored_at - $2::interval where clinic_id = $1",
        clinic.clinic_id,
        by,
    )


def problem(answer: httpx2.Response, **facts: Any) -> dict[str, Any]:
    """The whole body that a refusal has."""
    code = facts["code"]
    trace = {"trace_id": answer.headers["x-request-id"]}
    return {"type": f"/problems/{code}", "instance": PATIENTS, **facts, **trace}


# The five answers


async def test_request_without_the_key_that_it_needs_is_refused(
    bare: Client, clinic: SomeClinic, admin: Admin
) -> None:
    answer = await post(bare, clinic.acting(clinic.receptionist), None)
    assert answer.status_code == 400
    assert answer.json() == problem(
        answer,
        code="IDEMPOTENCY_KEY_MISSING",
        status=400,
        title="Send an Idempotency-Key with this request",
    )
    assert await patients_of(admin, clinic) == 0


async def test_same_request_again_gets_the_same_answer_and_happens_once(
    bare: Client, clinic: SomeClinic, admin: Admin
) -> None:
    headers = clinic.acting(clinic.receptionist)
    first = await post(bare, headers)
    again = await post(bare, headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert await patients_of(admin, clinic) == 1
    other = await post(bare, headers, "another key")
    assert other.json()["patient_id"] != first.json()["patient_id"]
    assert await patients_of(admin, clinic) == 2


async def test_key_with_another_request_is_refused(
    bare: Client, clinic: SomeClinic, admin: Admin
) -> None:
    headers = clinic.acting(clinic.receptionist)
    await post(bare, headers)
    answer = await post(bare, headers, given_name="Other", family_name="Tester")
    assert answer.status_code == 422
    assert answer.json() == problem(
        answer,
        code="IDEMPOTENCY_KEY_REUSED",
        status=422,
        title="This Idempotency-Key belongs to another request",
    )
    assert await patients_of(admin, clinic) == 1


async def test_key_of_a_request_that_is_still_under_way_is_refused(
    bare: Client, clinic: SomeClinic, house: House, admin: Admin
) -> None:
    headers = clinic.acting(clinic.receptionist)
    async with seated(house, clinic, clinic.receptionist) as unit:
        held = await recall(unit, Asked(f"POST {PATIENTS}", "a key", b"print"))
        assert held is None
        answer = await post(bare, headers)
        other = await post(bare, headers, "another key")
    assert answer.status_code == 409
    assert answer.headers["retry-after"] == "1"
    assert answer.json() == problem(
        answer,
        code="IDEMPOTENCY_KEY_IN_FLIGHT",
        status=409,
        title="The first request with this Idempotency-Key is still under way",
    )
    assert other.status_code == 201
    assert await patients_of(admin, clinic) == 1
    assert (await post(bare, headers)).status_code == 201


async def test_key_whose_answer_is_no_longer_kept_is_refused(
    bare: Client, clinic: SomeClinic, house: House, admin: Admin
) -> None:
    headers = clinic.acting(clinic.receptionist)
    await post(bare, headers)
    await age(admin, clinic, timedelta(hours=24) - timedelta(seconds=1))
    assert (await post(bare, headers)).status_code == 201
    await age(admin, clinic, timedelta(seconds=1))
    answer = await post(bare, headers)
    assert answer.status_code == 409
    assert answer.json() == problem(
        answer,
        code="IDEMPOTENCY_KEY_EXPIRED",
        status=409,
        title="The answer to this Idempotency-Key is no longer kept",
    )
    await drop_stale_keys(house.entrance.database)
    assert await admin.fetchval(
        "select answer is null from idempotency_key where clinic_id = $1", clinic.clinic_id
    )
    refusal(await post(bare, headers), 409, "IDEMPOTENCY_KEY_EXPIRED")
    assert await patients_of(admin, clinic) == 1


# What a key is


async def test_request_that_means_the_same_is_the_same(bare: Client, clinic: SomeClinic) -> None:
    headers = clinic.acting(clinic.receptionist) | {
        "Idempotency-Key": "a key",
        "Content-Type": "application/json",
    }
    written = [
        b'{"given_name": "A", "family_name": "B"}',
        b'{"family_name":"B",\n "given_name":"\\u0041"}',
    ]
    first, again = [await bare.post(PATIENTS, content=each, headers=headers) for each in written]
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"route": "POST /there"},
        {"path": "/there/2"},
        {"query": b"a=1"},
        {"body": {"a": "1"}},
        {"body": {"a": 1, "b": None}},
        {"body": b"{"},
        {"body": None},
    ],
    ids=str,
)
def test_fingerprint_tells_requests_apart(change: dict[str, Any]) -> None:
    asked: dict[str, Any] = {
        "method": "POST",
        "route": "POST /here",
        "path": "/here/1",
        "query": b"",
        "body": {"a": 1},
    }
    assert fingerprint(**asked) == fingerprint(**asked | {"body": {"a": 1}})
    assert fingerprint(**asked) != fingerprint(**asked | change)


@pytest.mark.parametrize(
    "key", [b"", b"\x01", b"a\tb", b"\xc3\xa9", b"\xff", b"\x7f", b"x" * 256], ids=repr
)
async def test_malformed_key_is_refused(app: FastAPI, clinic: SomeClinic, key: bytes) -> None:
    headers = clinic.acting(clinic.receptionist) | {"content-type": "application/json"}
    sent = {name.lower().encode(): value.encode() for name, value in headers.items()}
    body = b'{"given_name": "A", "family_name": "B"}'
    answer = await ask(app, "POST", PATIENTS.encode(), sent | {b"idempotency-key": key}, [body])
    said = refusal(answer, 422, "REQUEST_INVALID")
    assert said["errors"] == ["header.idempotency-key: malformed"]


async def test_long_and_strange_keys_are_keys(bare: Client, clinic: SomeClinic) -> None:
    headers = clinic.acting(clinic.receptionist)
    for key in ("x" * 255, '"quoted"', "'; drop table patient; --", "%00", "a b"):
        assert (await post(bare, headers, key)).status_code == 201
        assert (await post(bare, headers, key)).headers["idempotency-replayed"] == "true"


async def test_two_keys_are_none(bare: Client, clinic: SomeClinic) -> None:
    headers = [*clinic.acting(clinic.receptionist).items()]
    headers += [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
    answer = await bare.post(PATIENTS, json=NAME, headers=headers)
    refusal(answer, 422, "REQUEST_INVALID")


# Whose it is


async def test_key_of_another_person_clinic_or_route_is_another_key(
    bare: Client, clinic: SomeClinic, house: House, admin: Admin
) -> None:
    there = await found_clinic(house)
    await admin.execute(
        "insert into membership (clinic_id, person_id, role) values ($1, $2, 'RECEPTIONIST')",
        there.clinic_id,
        clinic.receptionist.person_id,
    )
    first = await post(bare, clinic.acting(clinic.receptionist))
    others = [
        await post(bare, clinic.acting(clinic.admin)),
        await post(bare, there.acting(clinic.receptionist)),
    ]
    ids = {each.json()["patient_id"] for each in [first, *others]}
    assert len(ids) == 3
    assert all("idempotency-replayed" not in each.headers for each in others)
    path = f"{PATIENTS}/{first.json()['patient_id']}/dependants"
    child = await post(
        bare, clinic.acting(clinic.receptionist), path=path, **NAME, relationship="parent"
    )
    assert child.status_code == 201
    assert await patients_of(admin, clinic) == 3
    assert (await post(bare, clinic.acting(clinic.receptionist))).content == first.content


async def test_key_on_one_route_does_not_pass_to_another_thing_there(
    bare: Client, clinic: SomeClinic, admin: Admin
) -> None:
    headers = clinic.acting(clinic.receptionist)
    parents = [(await post(bare, headers, str(each))).json()["patient_id"] for each in range(2)]
    child = NAME | {"relationship": "parent"}
    paths = [f"{PATIENTS}/{each}/dependants" for each in parents]
    assert (await post(bare, headers, "a", paths[0], **child)).status_code == 201
    refusal(await post(bare, headers, "a", paths[1], **child), 422, "IDEMPOTENCY_KEY_REUSED")
    assert await patients_of(admin, clinic) == 3


async def test_members_of_one_clinic_see_their_own_keys_only(
    bare: Client, clinic: SomeClinic, house: House
) -> None:
    await post(bare, clinic.acting(clinic.receptionist))
    seen = {}
    for who in (clinic.receptionist, clinic.admin):
        async with seated(house, clinic, who) as unit:
            seen[who] = await unit.connection.fetchval("select count(*) from idempotency_key")
    assert seen == {clinic.receptionist: 1, clinic.admin: 0}
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with seated(house, clinic, clinic.admin) as unit:
            await unit.connection.execute(
                "insert into idempotency_key (person_id, route, key, fingerprint, status,"
                " stored_at) values ($1, 'POST /', 'forged', '', 200, $2)",
                clinic.receptionist.person_id,
                NOON,
            )


async def test_whoever_may_no_longer_ask_is_not_answered_from_what_is_kept(
    bare: Client, clinic: SomeClinic, admin: Admin
) -> None:
    helper = await clinic.member(Role.RECEPTIONIST)
    headers = clinic.acting(helper)
    assert (await post(bare, headers)).status_code == 201
    change = "update membership set role = $2 where person_id = $1"
    await admin.execute(change, helper.person_id, "SUPPORT_STAFF")
    refusal(await post(bare, headers), 403, "FORBIDDEN")
    await admin.execute("delete from membership where person_id = $1", helper.person_id)
    refusal(await post(bare, headers), 404, "NOT_FOUND")
    await admin.execute(
        "update session set ended_at = $2 where person_id = $1", helper.person_id, NOON
    )
    refusal(await post(bare, headers), 401, "UNAUTHENTICATED")


# When it becomes true


async def test_refusal_is_not_kept(bare: Client, clinic: SomeClinic, admin: Admin) -> None:
    headers = clinic.acting(clinic.receptionist)
    patient = await clinic.patient()
    wish = {
        "patient_id": str(patient.patient_id),
        "practitioner_id": str(clinic.practitioner_id),
        "site_id": str(clinic.site.site_id),
        "visit_type": "consultation",
        "starts_at": NOON.isoformat(),
    }
    other = await clinic.book(await clinic.patient())
    refusal(await post(bare, headers, path=VISITS, **wish), 409, "SLOT_TAKEN")
    assert await keys_of(admin, clinic) == 0
    await admin.execute("delete from claim where booking_id = $1", other.appointment_id)
    assert (await post(bare, headers, path=VISITS, **wish)).status_code == 201
    assert await keys_of(admin, clinic) == 1


async def test_deed_that_fails_at_its_end_leaves_neither_deed_nor_key(
    bare: Client, clinic: SomeClinic, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = clinic.acting(clinic.receptionist)

    async def crash(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as broken:
        broken.setattr(idempotency, "_write", crash)
        refusal(await post(bare, headers), 500, "INTERNAL")
    assert (await patients_of(admin, clinic), await keys_of(admin, clinic)) == (0, 0)
    assert (await post(bare, headers)).status_code == 201
    assert (await patients_of(admin, clinic), await keys_of(admin, clinic)) == (1, 1)


async def test_fifty_who_ask_at_once_with_one_key_book_once(urls: Urls, admin: Admin) -> None:
    async with house_of(urls, size=12) as house:
        clinic = await found_clinic(house)
        someone, patient = await clinic.signed_in_patient()
        body = {
            "patient_id": str(patient.patient_id),
            "practitioner_id": str(clinic.practitioner_id),
            "site_id": str(clinic.site.site_id),
            "visit_type": "consultation",
            "starts_at": NOON.isoformat(),
        }
        transport = httpx2.ASGITransport(build_app(house), raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://here") as client:
            answers = await asyncio.gather(
                *(post(client, clinic.acting(someone), path=VISITS, **body) for _ in range(50))
            )
            late = await post(client, clinic.acting(someone), path=VISITS, **body)
    counted = Counter(
        each.json()["code"]
        if each.is_error
        else f"replayed {each.headers.get('idempotency-replayed')}"
        for each in answers
    )
    assert counted.pop("replayed None") == 1
    assert set(counted) <= {"IDEMPOTENCY_KEY_IN_FLIGHT", "replayed true"}
    assert len({each.content for each in [*answers, late] if not each.is_error}) == 1
    assert late.headers["idempotency-replayed"] == "true"
    booked = "select count(*) from booking where clinic_id = $1"
    assert await admin.fetchval(booked, clinic.clinic_id) == 1


# How long


async def test_upkeep_empties_answers_after_a_day_and_forgets_keys_a_week_later(
    bare: Client, clinic: SomeClinic, house: House, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "BATCH", 2)
    headers = clinic.acting(clinic.receptionist)
    for key in "abcde":
        await post(bare, headers, key)
    left = (
        "select count(*) as keys, count(answer) as answers from idempotency_key"
        " where clinic_id = $1"
    )
    found = []
    for by in (timedelta(hours=23), timedelta(hours=2), timedelta(days=6), timedelta(days=2)):
        await age(admin, clinic, by)
        await upkeep(house.entrance.database)
        found.append(tuple(await admin.fetchrow(left, clinic.clinic_id) or ()))
    assert found == [(5, 5), (5, 0), (5, 0), (0, 0)]
    assert (await post(bare, headers, "a")).status_code == 201
    assert await patients_of(admin, clinic) == 6
