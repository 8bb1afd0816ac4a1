"""Who is let in where: by role, by clinic, or to one's own; and what stops at once."""

import pytest

from cliniq.app import House
from cliniq.domains.access import api as access
from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.permissions import GRANTED, Permission, Role
from cliniq.kernel.problem import Forbidden, NotFound, Unauthenticated
from cliniq.kernel.scope import Caller, ClinicScope, PlatformScope
from cliniq.platform.db import open_read_unit, open_unit
from tests.support import Admin, Client, SomeClinic, Someone, found_clinic, sign_up

STAFF = [role for role in Role if role not in {Role.SUPER_ADMIN, Role.PATIENT}]


async def seat(clinic: SomeClinic, caller: Caller, permission: Permission) -> str:
    """What the door says to somebody who wants to use a permission."""
    scope = ClinicScope(caller.person_id, clinic.clinic_id, permission)
    seating = clinic.house.entrance.directory.seat_of_staff(caller, scope)
    try:
        async with open_read_unit(clinic.house.entrance.database, scope, seating):
            return "in"
    except (Unauthenticated, Forbidden, NotFound) as refusal:
        return refusal.code


@pytest.mark.parametrize("role", STAFF)
async def test_role_opens_exactly_the_doors_of_its_permissions(
    clinic: SomeClinic, role: Role
) -> None:
    member = await clinic.member(role)
    for permission in Permission:
        expected = "in" if permission in GRANTED[role] else "FORBIDDEN"
        assert await seat(clinic, member.caller, permission) == expected, permission


async def test_several_roles_open_the_doors_of_each(clinic: SomeClinic, house: House) -> None:
    clerk = await clinic.member(Role.FINANCE_BILLING)
    assert await seat(clinic, clerk.caller, Permission.QUEUE_CALL) == "FORBIDDEN"
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        await access.add_membership(unit, clinic.clinic_id, clerk.person_id, Role.NURSE)
    assert await seat(clinic, clerk.caller, Permission.QUEUE_CALL) == "in"
    assert await seat(clinic, clerk.caller, Permission.INVOICES_CREATE) == "in"


async def test_stranger_and_member_of_another_clinic_find_no_door(
    clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    patient, _ = await clinic.signed_in_patient()
    for who in (other.admin, await sign_up(house), patient):
        assert await seat(clinic, who.caller, Permission.QUEUE_READ) == "NOT_FOUND"


async def test_door_of_a_clinic_that_does_not_exist_is_not_found_even_for_a_super_admin(
    clinic: SomeClinic, house: House, admin: Admin
) -> None:
    root = await sign_up(house)
    nowhere = await found_clinic(house)
    nowhere.clinic_id = ClinicId(new_id())
    assert await seat(clinic, root.caller, Permission.QUEUE_READ) == "NOT_FOUND"
    await admin.execute("insert into installation_role values ($1, 'SUPER_ADMIN')", root.person_id)
    assert await seat(clinic, root.caller, Permission.QUEUE_READ) == "in"
    assert await seat(nowhere, root.caller, Permission.QUEUE_READ) == "NOT_FOUND"


async def test_membership_that_ends_is_felt_by_the_next_request(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    headers = clinic.acting(clinic.receptionist)
    assert (await client.get("/api/v1/queues", headers=headers)).status_code == 200
    await admin.execute(
        "delete from membership where person_id = $1", clinic.receptionist.person_id
    )
    answer = await client.get("/api/v1/queues", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


async def test_patient_who_joins_the_staff_is_staff_by_the_token_they_have(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    someone, _ = await clinic.signed_in_patient()
    _, _, visit = await clinic.visit()
    path, headers = f"/api/v1/appointments/{visit.appointment_id}", clinic.acting(someone)
    assert (await client.get(path, headers=headers)).status_code == 404
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        await access.add_membership(unit, clinic.clinic_id, someone.person_id, Role.RECEPTIONIST)
    assert (await client.get(path, headers=headers)).status_code == 200


async def test_account_that_is_disabled_is_felt_by_the_next_request(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    someone, _ = await clinic.signed_in_patient()
    paths = [("/api/v1/queues", clinic.receptionist), ("/api/v1/me", someone)]
    for path, who in paths:
        assert (await client.get(path, headers=clinic.acting(who))).status_code == 200
        await admin.execute(
            "update account set status = 'disabled' where person_id = $1", who.person_id
        )
        answer = await client.get(path, headers=clinic.acting(who))
        assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")


async def test_session_of_another_person_opens_nothing(clinic: SomeClinic) -> None:
    mixed = Caller(clinic.doctor.person_id, clinic.receptionist.session_id)
    assert await seat(clinic, mixed, Permission.QUEUE_READ) == "UNAUTHENTICATED"


# The acting clinic


async def test_clinic_of_the_header_is_the_acting_one_and_home_is_the_default(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        await access.add_membership(
            unit, other.clinic_id, clinic.receptionist.person_id, Role.RECEPTIONIST
        )
    path = "/api/v1/practitioners"
    who = clinic.receptionist
    home = await client.get(path, headers=who.headers)
    here = await client.get(path, headers=clinic.acting(who))
    there = await client.get(path, headers=other.acting(who))
    assert home.json() == here.json()
    assert [each["practitioner_id"] for each in here.json()] == [str(clinic.practitioner_id)]
    assert [each["practitioner_id"] for each in there.json()] == [str(other.practitioner_id)]


@pytest.mark.parametrize("named", ["", "x", "00000000", "' or 1=1", "null"])
async def test_header_that_names_no_clinic_is_refused(
    client: Client, clinic: SomeClinic, named: str
) -> None:
    headers = clinic.admin.headers | {"X-Clinic-Id": named}
    answer = await client.get("/api/v1/practitioners", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")


async def test_patient_has_no_home_and_must_name_the_clinic(
    client: Client, clinic: SomeClinic
) -> None:
    someone, _ = await clinic.signed_in_patient()
    path = "/api/v1/practitioners"
    answer = await client.get(path, headers=someone.headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")
    assert (await client.get(path, headers=clinic.acting(someone))).status_code == 200


# Who one is


async def test_practitioners_are_listed_by_name_to_staff_and_patients_of_the_clinic(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    await clinic.practitioner()
    someone, _ = await clinic.signed_in_patient()
    stranger, _ = await (await found_clinic(house)).signed_in_patient()
    path = "/api/v1/practitioners"
    for who in (clinic.receptionist, someone):
        listed = (await client.get(path, headers=clinic.acting(who))).json()
        assert [each["name"] for each in listed] == ["Dr. Other", "Dr. Who"]
        assert all(each.keys() == {"practitioner_id", "name"} for each in listed)
    answer = await client.get(path, headers=clinic.acting(stranger))
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    clerk = await clinic.member(Role.FINANCE_BILLING)
    answer = await client.get(path, headers=clinic.acting(clerk))
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")


async def me(client: Client, who: Someone) -> dict[str, object]:
    answer = await client.get("/api/v1/me", headers=who.headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


async def test_person_learns_who_they_are_in_every_clinic(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    async with open_unit(house.entrance.database, PlatformScope("test")) as unit:
        await access.add_membership(unit, clinic.clinic_id, clinic.doctor.person_id, Role.NURSE)
        await access.add_membership(unit, other.clinic_id, clinic.doctor.person_id, Role.DOCTOR)
    found = await me(client, clinic.doctor)
    memberships = found.pop("memberships")
    assert found == {
        "person_id": str(clinic.doctor.person_id),
        "given_name": "Some",
        "family_name": "Body",
        "birth_date": None,
        "language": "en",
    }
    expected = [(clinic.clinic_id, ["DOCTOR", "NURSE"]), (other.clinic_id, ["DOCTOR"])]
    assert memberships == [
        {"clinic_id": str(clinic_id), "clinic_name": "Clinic", "roles": roles}
        for clinic_id, roles in sorted(expected)
    ]


async def test_patient_is_a_member_of_nothing(client: Client, clinic: SomeClinic) -> None:
    someone, _ = await clinic.signed_in_patient()
    assert (await me(client, someone))["memberships"] == []
    assert (await client.get("/api/v1/me")).status_code == 401


async def test_practitioner_who_does_not_exist_is_not_found(
    clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    for practitioner_id in (new_id(), other.practitioner_id):
        async with clinic.unit() as unit:
            with pytest.raises(access.PractitionerNotFound):
                await access.get_practitioner(unit, practitioner_id)
