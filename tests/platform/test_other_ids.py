"""Ids of others: no operation of the API tells of them, obeys them, or lets them go unnoticed."""

import json
from collections.abc import Mapping

import httpx2
import pytest

from cliniq.kernel.permissions import GRANTED
from tests.platform.wire import STAFF, Operation, ensure_documented, operations, refusal
from tests.platform.world import Inhabited, World, denials, fingerprint
from tests.support import Admin, Client, Hands, SomeClinic, Someone

OF_A_CLINIC = [each for each in operations() if each.permission]
WITH_ID = [each for each in OF_A_CLINIC if any(name.endswith("_id") for name in each.path_names)]
NAMED_IN_BODY = [
    pytest.param(each, name, id=f"{each} {name}")
    for each in OF_A_CLINIC
    for name in each.properties
    if name.endswith("_id")
]


async def send(
    client: Client,
    clinic: SomeClinic,
    someone: Someone,
    operation: Operation,
    ids: Mapping[str, str],
    **body: str,
) -> httpx2.Response:
    content = json.dumps(operation.example(ids) | body) if operation.body else operation.file
    return await client.request(
        operation.method,
        operation.url(ids),
        content=content,
        headers=clinic.acting(someone) | {"content-type": "application/json"},
    )


def test_every_operation_on_a_thing_says_which_permission_it_takes() -> None:
    assert set(map(str, operations())) >= {
        "GET /api/v1/patients/{patient_id}",
        "DELETE /api/v1/appointments/{appointment_id}",
    }
    for operation in operations():
        if any(name.endswith("_id") for name in operation.path_names):
            assert operation.permission, operation
        if operation.permission:
            assert operation.roles, f"{operation}: nobody may"


@pytest.mark.parametrize("operation", WITH_ID, ids=str)
async def test_staff_with_ids_of_another_clinic_find_nothing_change_nothing_and_are_remembered(
    client: Client, world: World, admin: Admin, hands: Hands, operation: Operation
) -> None:
    here, there = world.here, world.there
    before = await fingerprint(admin, there.clinic), await fingerprint(admin, here.clinic)
    named = [name for name in operation.path_names if name.endswith("_id")]
    mixtures = [here.ids | {name: there.ids[name]} for name in named]
    if len(named) > 1:
        mixtures.append(here.ids | {name: there.ids[name] for name in named})
    for role in STAFF:
        someone = here.staff[role]
        for ids in mixtures:
            known = await denials(admin, here.clinic, someone)
            answer = await send(client, here.clinic, someone, operation, ids)
            may = operation.permission in GRANTED[role]
            code = answer.json()["code"]
            refusal(answer, 404 if may else 403, code if may else "FORBIDDEN")
            assert code.endswith("NOT_FOUND" if may else "FORBIDDEN")
            ensure_documented(operation, answer)
            assert await denials(admin, here.clinic, someone) == [
                *known,
                (operation.permission, str(operation), code),
            ]
    after = await fingerprint(admin, there.clinic), await fingerprint(admin, here.clinic)
    assert after == before


@pytest.mark.parametrize("operation", OF_A_CLINIC, ids=str)
async def test_staff_in_another_clinic_find_nothing_and_are_remembered_there(
    client: Client, world: World, admin: Admin, hands: Hands, operation: Operation
) -> None:
    here, there = world.here, world.there
    before = await fingerprint(admin, there.clinic)
    for role in operation.roles:
        someone = here.staff[role]
        known = await denials(admin, there.clinic, someone)
        answer = await send(client, there.clinic, someone, operation, there.ids)
        refusal(answer, 404, "NOT_FOUND")
        ensure_documented(operation, answer)
        assert await denials(admin, there.clinic, someone) == [
            *known,
            (operation.permission, str(operation), "NOT_FOUND"),
        ]
    assert await fingerprint(admin, there.clinic) == before


@pytest.mark.parametrize("operation", WITH_ID, ids=str)
async def test_patient_with_ids_of_a_neighbour_finds_nothing_and_is_remembered(
    client: Client, world: World, admin: Admin, hands: Hands, operation: Operation
) -> None:
    here = world.here
    before = await fingerprint(admin, here.clinic)
    known = await denials(admin, here.clinic, here.someone)
    answer = await send(client, here.clinic, here.someone, operation, here.ids)
    code = answer.json()["code"]
    refusal(answer, 404, code)
    ensure_documented(operation, answer)
    assert await denials(admin, here.clinic, here.someone) == [
        *known,
        (operation.permission, str(operation), code),
    ]
    assert await fingerprint(admin, here.clinic) == before


@pytest.mark.parametrize(
    "operation",
    [each for each in WITH_ID if each.is_for_patients and each.method == "GET"],
    ids=str,
)
async def test_patient_with_ids_of_their_own_finds_it(
    client: Client, world: World, hands: Hands, operation: Operation
) -> None:
    here = world.here
    answer = await send(client, here.clinic, here.someone, operation, here.own_ids)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("operation", "name"), NAMED_IN_BODY)
async def test_id_of_another_clinic_in_a_body_is_not_found_and_changes_nothing(
    client: Client, world: World, admin: Admin, hands: Hands, operation: Operation, name: str
) -> None:
    here, there = world.here, world.there
    before = await fingerprint(admin, here.clinic), await fingerprint(admin, there.clinic)
    for role in operation.roles:
        answer = await send(
            client, here.clinic, here.staff[role], operation, here.ids, **{name: there.ids[name]}
        )
        code = answer.json()["code"]
        refusal(answer, 404, code)
        ensure_documented(operation, answer)
    after = await fingerprint(admin, here.clinic), await fingerprint(admin, there.clinic)
    assert after == before


def query_of(operation: Operation, inhabited: Inhabited) -> list[dict[str, str]]:
    """One query for each id that an operation can be asked for."""
    return [{name: inhabited.ids[name]} for name in operation.query if name.endswith("_id")]


@pytest.mark.parametrize("operation", [each for each in OF_A_CLINIC if each.query], ids=str)
async def test_id_of_another_clinic_in_a_query_tells_nothing_of_it(
    client: Client, world: World, hands: Hands, operation: Operation
) -> None:
    here, there = world.here, world.there
    url = operation.url(here.ids)
    for role in operation.roles:
        headers = here.clinic.acting(here.staff[role])
        for params in query_of(operation, there):
            answer = await client.request(operation.method, url, params=params, headers=headers)
            assert answer.status_code in {200, 404}, answer.text
            for foreign in there.ids.values():
                assert foreign not in answer.text
        for params in query_of(operation, here):
            answer = await client.request(operation.method, url, params=params, headers=headers)
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "operation",
    [each for each in operations() if (each.words, each.method) == ("self", "GET")],
    ids=str,
)
async def test_person_asking_for_their_own_hears_nothing_of_anybody_else(
    client: Client, world: World, hands: Hands, operation: Operation
) -> None:
    here, there = world.here, world.there
    answer = await client.get(operation.path, headers=here.someone.headers)
    assert answer.status_code == 200, answer.text
    foreign = [
        *(here.ids[name] for name in ("patient_id", "appointment_id", "entry_id")),
        *(each for name, each in there.ids.items() if name != "code"),
        str(here.neighbour.person_id),
        str(there.someone.person_id),
        here.neighbours_patient.given_name,
    ]
    for each in foreign:
        assert each not in answer.text
