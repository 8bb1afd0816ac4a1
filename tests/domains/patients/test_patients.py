"""Patients and their dependants: registered by staff, seen by staff and by themselves."""

from typing import Any
from uuid import UUID

import pytest

from cliniq.app import House
from cliniq.domains.identity import api as identity
from cliniq.kernel.ids import new_id
from cliniq.kernel.permissions import Role
from cliniq.kernel.scope import PlatformScope
from cliniq.platform.db import open_unit
from tests.support import Admin, Client, SomeClinic, Someone, found_clinic

PATIENTS = "/api/v1/patients"
NAME = {"given_name": "Mia", "family_name": "Tester"}
DETAILS = ("gender", "phone", "email", "address", "language", "deceased_on")
NOTHING_MORE = dict.fromkeys(DETAILS)


async def register(client: Client, clinic: SomeClinic, **body: object) -> Any:
    answer = await client.post(
        PATIENTS, json=NAME | body, headers=clinic.acting(clinic.receptionist)
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


async def read(client: Client, clinic: SomeClinic, who: Someone, patient_id: object) -> str:
    answer = await client.get(f"{PATIENTS}/{patient_id}", headers=clinic.acting(who))
    return "OK" if answer.is_success else str(answer.json()["code"])


@pytest.mark.parametrize(
    "body",
    [
        {"given_name": ""},
        {"given_name": "  "},
        {"family_name": "x" * 201},
        {"family_name": "a\x00b"},
        {"given_name": "a\nb"},
        {"given_name": None},
        {"birth_date": "2026-02-30"},
        {"birth_date": "1899-12-31"},
        {"birth_date": "2200-01-01"},
        {"birth_date": 0},
        {"gender": "f"},
        {"phone": "1\n2"},
        {"phone": 4711},
        {"email": "x" * 201},
        {"address": "x" * 501},
        {"language": "English please"},
        {"deceased_on": "yesterday"},
        {"mrn": "7"},
        {"clinic_id": str(new_id())},
        {"person_id": str(new_id())},
        {"patient_id": str(new_id())},
    ],
)
async def test_malformed_registration_is_refused(
    client: Client, clinic: SomeClinic, admin: Admin, body: dict[str, object]
) -> None:
    answer = await client.post(
        PATIENTS, json=NAME | body, headers=clinic.acting(clinic.receptionist)
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")
    count = "select count(*) from patient where clinic_id = $1"
    assert await admin.fetchval(count, clinic.clinic_id) == 0


async def test_receptionist_registers_a_patient(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    made = await register(client, clinic, given_name=" Mía 美 ", birth_date="2024-02-29")
    patient_id = made.pop("patient_id")
    assert made == NOTHING_MORE | {
        "mrn": "1",
        "given_name": "Mía 美",
        "family_name": "Tester",
        "birth_date": "2024-02-29",
    }
    path = f"{PATIENTS}/{patient_id}"
    seen = await client.get(path, headers=clinic.acting(clinic.doctor))
    assert seen.json() == made | {"patient_id": patient_id}
    audited = await admin.fetchrow(
        "select action, actor_id, permission from audit where entity_id = $1", UUID(patient_id)
    )
    assert audited is not None
    assert tuple(audited) == (
        "patients.registered.v1",
        clinic.receptionist.person_id,
        "patients:create",
    )
    told = await admin.fetchval(
        "select body::text from outbox where subject_id = $1", UUID(patient_id)
    )
    assert patient_id in told
    assert "Mía" not in told


async def test_address_is_as_long_as_is_said(client: Client, clinic: SomeClinic) -> None:
    body = await register(client, clinic, address="x" * 500)
    assert body["address"] == "x" * 500


@pytest.mark.parametrize(
    ("role", "status"),
    [(Role.CLINIC_ADMIN, 201), (Role.RECEPTIONIST, 201), (Role.DOCTOR, 403), (Role.NURSE, 403)],
)
async def test_role_decides_who_registers(
    client: Client, clinic: SomeClinic, role: Role, status: int
) -> None:
    member = await clinic.member(role)
    answer = await client.post(PATIENTS, json=NAME, headers=clinic.acting(member))
    assert answer.status_code == status


async def test_patient_registers_nobody(client: Client, clinic: SomeClinic) -> None:
    someone, own = await clinic.signed_in_patient()
    for path in (PATIENTS, f"{PATIENTS}/{own.patient_id}/dependants"):
        body = NAME if path == PATIENTS else NAME | {"relationship": "parent"}
        answer = await client.post(path, json=body, headers=clinic.acting(someone))
        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


async def test_patient_reads_themselves_and_their_child_and_nobody_else(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    someone, own = await clinic.signed_in_patient()
    child, stranger = await clinic.dependant(someone), await clinic.patient()
    other = await found_clinic(house)
    foreign = await other.patient(someone)
    expected = [
        (own, "OK"),
        (child, "OK"),
        (stranger, "PATIENT_NOT_FOUND"),
        (foreign, "PATIENT_NOT_FOUND"),
    ]
    for patient, code in expected:
        assert await read(client, clinic, someone, patient.patient_id) == code
    assert await read(client, clinic, someone, new_id()) == "PATIENT_NOT_FOUND"
    assert await read(client, other, someone, foreign.patient_id) == "OK"
    assert await read(client, other, someone, child.patient_id) == "PATIENT_NOT_FOUND"


async def test_staff_read_the_patients_of_their_clinic_and_of_no_other(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    here, there = await clinic.patient(), await other.patient()
    for who in (clinic.admin, clinic.doctor, await clinic.member(Role.FINANCE_BILLING)):
        assert await read(client, clinic, who, here.patient_id) == "OK"
        assert await read(client, clinic, who, there.patient_id) == "PATIENT_NOT_FOUND"
        assert await read(client, other, who, there.patient_id) == "NOT_FOUND"


# Dependants


async def test_receptionist_registers_a_child_whom_the_parent_then_sees(
    client: Client, clinic: SomeClinic
) -> None:
    parent, own = await clinic.signed_in_patient()
    path = f"{PATIENTS}/{own.patient_id}/dependants"
    headers = clinic.acting(clinic.receptionist)
    for wrong in ({}, {"relationship": "owner"}, {"relationship": None}):
        answer = await client.post(path, json=NAME | wrong, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")
    answer = await client.post(path, json=NAME | {"relationship": "parent"}, headers=headers)
    assert answer.status_code == 201, answer.text
    child = answer.json()
    listed = await client.get("/api/v1/me/dependants", headers=parent.headers)
    assert listed.json() == [
        {
            "clinic_id": str(clinic.clinic_id),
            "patient_id": child["patient_id"],
            "given_name": "Mia",
            "whose": "dependant",
        }
    ]
    assert await read(client, clinic, parent, child["patient_id"]) == "OK"


async def test_child_of_a_patient_who_does_not_exist_is_not_registered(
    client: Client, clinic: SomeClinic, house: House, admin: Admin
) -> None:
    foreign = await (await found_clinic(house)).patient()
    for patient_id in (new_id(), foreign.patient_id):
        answer = await client.post(
            f"{PATIENTS}/{patient_id}/dependants",
            json=NAME | {"relationship": "parent"},
            headers=clinic.acting(clinic.receptionist),
        )
        assert (answer.status_code, answer.json()["code"]) == (404, "PATIENT_NOT_FOUND")
    count = "select count(*) from patient where clinic_id = $1"
    assert await admin.fetchval(count, clinic.clinic_id) == 0


async def test_list_of_dependants_holds_every_clinic_and_not_oneself(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    parent, _ = await clinic.signed_in_patient()
    await other.patient(parent)
    children = [await clinic.dependant(parent), await other.dependant(parent)]
    stranger, _ = await clinic.signed_in_patient()
    await clinic.dependant(stranger)
    listed = (await client.get("/api/v1/me/dependants", headers=parent.headers)).json()
    assert {each["patient_id"] for each in listed} == {str(each.patient_id) for each in children}
    assert (await client.get("/api/v1/me/dependants")).status_code == 401


async def test_clinic_cannot_read_the_table_of_all_people(clinic: SomeClinic, house: House) -> None:
    """It enrols whom nobody knows yet, and learns of nobody by it."""
    someone, _ = await clinic.signed_in_patient()
    with pytest.raises(Exception, match="permission denied"):
        async with clinic.unit() as unit:
            await unit.connection.execute("select * from person")
    async with clinic.own_unit(someone) as own:
        assert await identity.find_person(own, clinic.doctor.person_id) is None
        found = await identity.find_person(own, someone.person_id)
        assert found is not None
    with pytest.raises(Exception, match="permission denied"):
        async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
            await unit.connection.execute("select * from patient")
