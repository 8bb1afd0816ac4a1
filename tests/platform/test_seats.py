"""Who is seated sees their clinic, or their own rows; whoever is not seated sees nothing."""

from collections.abc import Callable
from typing import Any, TypeAlias

import asyncpg
import pytest

from cliniq.app import House
from cliniq.kernel.ids import PersonId, new_id
from cliniq.kernel.permissions import Permission, Role
from cliniq.kernel.problem import Forbidden, NotFound, Unauthenticated
from cliniq.kernel.scope import (
    Caller,
    ClinicScope,
    GuestScope,
    PatientScope,
    PlatformScope,
    Scope,
    SelfScope,
)
from cliniq.platform.db import Opening, ReadUnit, Unit, open_read_unit, open_unit
from cliniq.platform.provision import SEATS
from cliniq.platform.source import Urls
from tests.platform.wire import refusal
from tests.platform.world import World, tables_of_clinics
from tests.support import (
    NOON,
    Admin,
    Client,
    Hands,
    SomeClinic,
    Someone,
    found_clinic,
    sign_up,
)

# Of the tables that have clinics' rows.
NAMED_TO_THE_PLATFORM = {"clinic", "membership", "outbox", "outbox_held"}
Opened: TypeAlias = Callable[[World], Opening[Unit]]


@pytest.fixture(autouse=True)
async def waiting(world: World, admin: Admin) -> None:
    """Something of either clinic is still to be passed on, and something is held."""
    for each in (world.here, world.there):
        for table, more in (("outbox", ""), ("outbox_held", ", 0, '', $2, ''")):
            names = ", shard, trace, held_at, reason" if more else ""
            await admin.execute(
                f"insert into {table} (clinic_id, outbox_id, recorded_at, kind, subject_id, topic,"  # noqa: S608
                f" version, body{names})"
                f" values ($1, nextval('outbox_number'), $2, '', $1, '', 0, '{{}}'{more})",
                each.clinic.clinic_id,
                NOON,
            )


def as_staff(world: World) -> Opening[Unit]:
    return world.here.clinic.unit()


def as_patient(world: World) -> Opening[Unit]:
    return world.here.clinic.own_unit(world.here.someone)


def as_self(world: World) -> Opening[Unit]:
    entrance, someone = world.here.clinic.house.entrance, world.here.someone
    seat = entrance.directory.seat_of_self(someone.caller, None, strict=False)
    return open_unit(entrance.database, SelfScope(someone.person_id), seat)


def as_guest(world: World) -> Opening[Unit]:
    clinic = world.here.clinic
    return open_unit(clinic.house.entrance.database, GuestScope(clinic.clinic_id))


EVERYBODY = [as_staff, as_patient, as_self, as_guest]


async def may(unit: ReadUnit, what: str, table: str) -> bool:
    question = f"select has_table_privilege('{table}', '{what}')"
    return bool(await unit.connection.fetchval(question))


async def updatable(unit: ReadUnit, table: str) -> str | None:
    found: str | None = await unit.connection.fetchval(
        "select attname from pg_attribute where attrelid = $1::text::regclass and attnum > 0"
        " and not attisdropped and has_column_privilege($1, attname, 'update')"
        " order by attname = 'clinic_id' desc, attname desc limit 1",
        table,
    )
    return found


async def row_of(admin: Admin, table: str, where: str, *values: object) -> str | None:
    found: str | None = await admin.fetchval(
        f"select to_jsonb(each) from {table} as each where {where} limit 1",  # noqa: S608
        *values,
    )
    return found


async def refused(unit: Unit, command: str, *values: object) -> None:
    """Fail unless the wall, and nothing that comes after it, refuses."""
    await unit.connection.execute("savepoint here")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await unit.connection.execute(command, *values)
    await unit.connection.execute("rollback to here")


async def copied(admin: Admin, table: str) -> str:
    """Write a copy of a row; what the database works out by itself is left to it."""
    columns = await admin.fetchval(
        "select string_agg(attname, ', ' order by attnum) from pg_attribute"
        " where attrelid = $1::text::regclass and attnum > 0"
        " and not attisdropped and attgenerated = ''",
        table,
    )
    return (
        f"insert into {table} ({columns}) overriding system value"  # noqa: S608
        f" select {columns} from jsonb_populate_record(null::{table}, $1)"
    )


async def test_every_table_of_the_clinics_has_rows_that_must_not_be_seen(
    world: World, admin: Admin
) -> None:
    tables = await tables_of_clinics(admin)
    assert len(tables) >= 19
    for table in tables:
        assert await row_of(admin, table, "clinic_id = $1", world.there.clinic.clinic_id), table


@pytest.mark.parametrize("opened", EVERYBODY)
async def test_unit_sees_rows_of_its_clinic_only(
    world: World, admin: Admin, hands: Hands, opened: Opened
) -> None:
    here = world.here.clinic.clinic_id
    seen = []
    async with opened(world) as unit:
        for table in await tables_of_clinics(admin):
            if await may(unit, "select", table):
                rows = await unit.connection.fetch(f"select clinic_id from {table}")  # noqa: S608
                assert {row["clinic_id"] for row in rows} <= {here}, table
                seen += [table] if rows else []
    assert {"clinic", "site", "check_in_point"} <= set(seen)
    if opened is as_staff:
        assert len(seen) >= 18


@pytest.mark.parametrize("opened", EVERYBODY)
async def test_unit_cannot_write_into_another_clinic(
    world: World, admin: Admin, hands: Hands, opened: Opened
) -> None:
    there = world.there.clinic.clinic_id
    tried = 0
    async with opened(world) as unit:
        for table in await tables_of_clinics(admin):
            if await may(unit, "insert", table):
                row = await row_of(admin, table, "clinic_id = $1", there)
                await refused(unit, await copied(admin, table), row)
                tried += 1
            if column := await updatable(unit, table):
                change = f"update {table} set {column} = {column} where clinic_id = $1"  # noqa: S608
                assert await unit.connection.execute(change, there) == "UPDATE 0"
                tried += 1
            if await may(unit, "delete", table):
                drop = f"delete from {table} where clinic_id = $1"  # noqa: S608
                assert await unit.connection.execute(drop, there) == "DELETE 0"
    assert tried >= 10


async def test_staff_cannot_move_a_row_into_another_clinic(
    world: World, admin: Admin, hands: Hands
) -> None:
    moved = []
    async with as_staff(world) as unit:
        for table in await tables_of_clinics(admin):
            if await may(unit, "update", table):
                change = f"update {table} set clinic_id = $1"  # noqa: S608
                await refused(unit, change, world.there.clinic.clinic_id)
                moved.append(table)
    assert {"clinic", "patient", "appointment", "queue_entry"} <= set(moved)


@pytest.mark.parametrize("opened", [as_patient, as_self, as_guest])
async def test_person_sees_and_writes_rows_of_their_own_patients_only(
    world: World, admin: Admin, hands: Hands, opened: Opened
) -> None:
    here = world.here
    own = set() if opened is as_guest else {here.patient.patient_id, here.child.patient_id}
    neighbours = here.neighbours_patient.patient_id
    seen = []
    async with opened(world) as unit:
        for table in await tables_of_clinics(admin):
            row = await row_of(admin, table, "to_jsonb(each)->>'patient_id' = $1", str(neighbours))
            if row is None:  # a table without patients
                continue
            if await may(unit, "select", table):
                rows = await unit.connection.fetch(f"select patient_id from {table}")  # noqa: S608
                assert {each["patient_id"] for each in rows} - {None} <= own, table
                seen += [table] if rows else []
            if await may(unit, "insert", table):
                await refused(unit, await copied(admin, table), row)
    if opened is not as_guest:
        assert len(seen) >= 9


@pytest.mark.parametrize("opened", [as_patient, as_self])
async def test_person_sees_themselves_among_all_persons(
    world: World, hands: Hands, opened: Opened
) -> None:
    async with opened(world) as unit:
        (row,) = await unit.connection.fetch("select person_id from person")
    assert row["person_id"] == world.here.someone.person_id


async def test_person_sees_their_own_in_every_clinic_and_in_one(
    clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    someone, here = await clinic.signed_in_patient()
    there = await other.patient(someone)
    await clinic.patient()

    async def seen(scope: Scope, seat: str) -> set[object]:
        async with open_read_unit(house.entrance.database, scope, seat) as unit:
            return {row[0] for row in await unit.connection.fetch("select patient_id from patient")}

    seat = house.entrance.directory.seat_of_self
    everywhere = seat(someone.caller, None, strict=False)
    assert await seen(SelfScope(someone.person_id), everywhere) == {
        here.patient_id,
        there.patient_id,
    }
    for one, mine in ((clinic, here), (other, there)):
        only = seat(someone.caller, one.clinic_id, strict=True)
        scope = PatientScope(someone.person_id, one.clinic_id)
        assert await seen(scope, only) == {mine.patient_id}


@pytest.mark.parametrize("role", SEATS)
async def test_connection_without_a_seat_sees_nothing(
    world: World, urls: Urls, admin: Admin, role: str
) -> None:
    readable = set()
    connection = await asyncpg.connect(urls.application)
    try:
        for once_used in (False, True):  # the setting is NULL before its first use, '' afterwards
            async with connection.transaction():
                await connection.execute(f"set local role {role}")
                for table in await tables_of_clinics(admin):
                    if not await connection.fetchval(
                        "select has_table_privilege($1, 'select')", table
                    ):
                        continue
                    rows = await connection.fetchval(f"select count(*) from {table}")  # noqa: S608
                    assert role == "cliniq_platform" or rows == 0, (table, once_used)
                    readable.add(table)
                for name in ("clinic_id", "clinics", "patients", "person_id"):
                    await connection.execute(f"set local cliniq.{name} = ''")
    finally:
        await connection.close()
    if role == "cliniq_platform":
        assert readable == NAMED_TO_THE_PLATFORM
    else:
        assert len(readable) >= 12


async def test_login_without_a_role_may_read_no_table(urls: Urls, admin: Admin) -> None:
    connection = await asyncpg.connect(urls.application)
    try:
        for table in [*await tables_of_clinics(admin), "person", "account", "session"]:
            with pytest.raises((asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError)):
                await connection.fetch(f"select from {table}")
    finally:
        await connection.close()


async def test_reader_cannot_write(clinic: SomeClinic) -> None:
    database = clinic.house.entrance.database
    scope = ClinicScope(clinic.admin.person_id, clinic.clinic_id, Permission.PATIENTS_CREATE)
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with open_read_unit(database, scope) as unit:
            await unit.connection.execute("update site set name = 'x'")
    seat = clinic.house.entrance.directory.seat_of_staff(clinic.admin.caller, scope)
    with pytest.raises(asyncpg.ActiveSQLTransactionError):
        async with open_read_unit(database, scope, seat) as unit:
            await unit.connection.execute("set transaction read write")
    async with open_read_unit(database, scope) as unit:
        assert await unit.connection.fetchval("select name from site") == "Main"


async def test_reader_sees_one_snapshot(clinic: SomeClinic, admin: Admin) -> None:
    database = clinic.house.entrance.database
    scope = ClinicScope(clinic.admin.person_id, clinic.clinic_id, Permission.PATIENTS_READ)
    async with open_read_unit(database, scope) as unit:
        before = await unit.connection.fetchval("select count(*) from patient")
        await clinic.patient()
        assert await unit.connection.fetchval("select count(*) from patient") == before


async def test_scope_of_a_person_is_proved_and_never_believed(clinic: SomeClinic) -> None:
    database = clinic.house.entrance.database
    person = clinic.admin.person_id
    for scope in (PatientScope(person, clinic.clinic_id), SelfScope(person)):
        with pytest.raises(TypeError, match="never believed"):
            async with open_unit(database, scope):
                pass
    assert database.person.get_idle_size() == database.person.get_size()


async def test_unit_without_a_clinic_or_person_has_none_to_name(clinic: SomeClinic) -> None:
    database = clinic.house.entrance.database
    async with open_unit(database, PlatformScope("test")) as unit:
        with pytest.raises(TypeError, match="no clinic"):
            _ = unit.clinic_id
        with pytest.raises(TypeError, match="nobody"):
            _ = unit.person_id


@pytest.mark.parametrize("strict", [True, False])
async def test_seat_is_refused_to_whoever_is_not_signed_in_any_more(
    clinic: SomeClinic,
    admin: Admin,
    strict: bool,
) -> None:
    someone, _ = await clinic.signed_in_patient()
    directory, database = clinic.house.entrance.directory, clinic.house.entrance.database
    scope = PatientScope(someone.person_id, clinic.clinic_id)
    stolen = Caller(PersonId(clinic.admin.person_id), someone.session_id)
    for caller in (stolen, Caller(someone.person_id, clinic.admin.session_id)):
        with pytest.raises(Unauthenticated):
            async with open_unit(
                database, scope, directory.seat_of_self(caller, clinic.clinic_id, strict=strict)
            ):
                pass
    seat = directory.seat_of_self(someone.caller, clinic.clinic_id, strict=strict)
    async with open_unit(database, scope, seat):
        pass
    await admin.execute("update session set ended_at = $2 where session_id = $1", *ended(someone))
    with pytest.raises(Unauthenticated):
        async with open_unit(database, scope, seat):
            pass


def ended(someone: Someone) -> tuple[Any, Any]:
    return someone.session_id, NOON


async def test_seat_of_staff_is_refused_by_membership_first_and_by_permission_then(
    clinic: SomeClinic, house: House, admin: Admin
) -> None:
    other = await found_clinic(house)
    doctor, database = clinic.doctor, house.entrance.database

    def seat(at: SomeClinic, permission: Permission) -> Opening[Unit]:
        scope = ClinicScope(doctor.person_id, at.clinic_id, permission)
        return open_unit(
            database, scope, house.entrance.directory.seat_of_staff(doctor.caller, scope)
        )

    with pytest.raises(NotFound):
        async with seat(other, Permission.PATIENTS_READ):
            pass
    with pytest.raises(Forbidden):
        async with seat(clinic, Permission.PATIENTS_CREATE):
            pass
    async with seat(clinic, Permission.PATIENTS_READ) as unit:
        assert await unit.connection.fetchval("select clinic_id from clinic") == clinic.clinic_id
    await admin.execute("delete from membership where person_id = $1", doctor.person_id)
    with pytest.raises(NotFound):
        async with seat(clinic, Permission.PATIENTS_READ):
            pass


# Through the door.


async def test_door_refuses_in_the_order_of_what_it_gives_away(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    patient = await clinic.patient()
    child = {"given_name": "A", "family_name": "B", "relationship": "parent"}
    path = f"/api/v1/patients/{patient.patient_id}/dependants"
    elsewhere = other.acting(clinic.receptionist)
    answer = await client.post(path, json={}, headers={"X-Clinic-Id": "no id"})
    refusal(answer, 401, "UNAUTHENTICATED")
    answer = await client.post(path, content=b"{", headers={"X-Clinic-Id": "no id"})
    refusal(answer, 401, "UNAUTHENTICATED")
    refusal(await client.post(path, json={}, headers=elsewhere), 422, "REQUEST_INVALID")
    refusal(await client.post(path, json=child, headers=elsewhere), 404, "NOT_FOUND")
    nowhere = f"/api/v1/patients/{new_id()}/dependants"
    as_doctor = clinic.acting(await clinic.member(Role.SUPPORT_STAFF))
    refusal(await client.post(nowhere, json=child, headers=as_doctor), 403, "FORBIDDEN")
    allowed = clinic.acting(clinic.receptionist)
    refusal(await client.post(nowhere, json=child, headers=allowed), 404, "PATIENT_NOT_FOUND")
    assert (await client.post(path, json=child, headers=allowed)).status_code == 201


async def hired(clinic: SomeClinic, role: Role) -> Someone:
    """Somebody of the staff who is a patient of the clinic too."""
    someone = await sign_up(clinic.house, clinic.clinic_id, role)
    await clinic.patient(someone)
    return someone


async def test_staff_with_the_permission_who_are_patients_too_see_everybody(
    client: Client, clinic: SomeClinic
) -> None:
    someone = await hired(clinic, Role.RECEPTIONIST)
    others = await clinic.patient()
    answer = await client.get(
        f"/api/v1/patients/{others.patient_id}", headers=clinic.acting(someone)
    )
    assert answer.status_code == 200


async def test_staff_without_the_permission_who_are_patients_too_see_their_own(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    someone = await sign_up(clinic.house, clinic.clinic_id, Role.FINANCE_BILLING)
    headers = clinic.acting(someone)
    others = await clinic.book(await clinic.patient())
    path = "/api/v1/appointments/{}"
    refusal(await client.get(path.format(others.appointment_id), headers=headers), 403, "FORBIDDEN")
    own = await clinic.book(
        await clinic.patient(someone), practitioner_id=await clinic.practitioner()
    )
    answer = await client.get(path.format(others.appointment_id), headers=headers)
    refusal(answer, 404, "APPOINTMENT_NOT_FOUND")
    answer = await client.get(path.format(own.appointment_id), headers=headers)
    assert answer.status_code == 200
    denied = "select count(*) from audit where clinic_id = $1 and actor_id = $2"
    denied += " and outcome = 'denied'"
    assert await admin.fetchval(denied, clinic.clinic_id, someone.person_id) == 2


async def test_staff_of_one_clinic_are_patients_in_another(
    client: Client, clinic: SomeClinic, house: House
) -> None:
    other = await found_clinic(house)
    mine = await other.patient(clinic.doctor)
    others = await other.patient()
    headers = other.acting(clinic.doctor)
    answer = await client.get(f"/api/v1/patients/{others.patient_id}", headers=headers)
    refusal(answer, 404, "PATIENT_NOT_FOUND")
    answer = await client.get(f"/api/v1/patients/{mine.patient_id}", headers=headers)
    assert answer.status_code == 200


async def test_change_of_role_and_end_of_sign_in_are_felt_at_once(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    someone = await clinic.member(Role.SUPPORT_STAFF)
    headers = clinic.acting(someone)
    body = {"given_name": "A", "family_name": "B"}

    async def status() -> int:
        return (await client.post("/api/v1/patients", json=body, headers=headers)).status_code

    become = "update membership set role = $2 where person_id = $1"
    assert await status() == 403
    await admin.execute(become, someone.person_id, "RECEPTIONIST")
    assert await status() == 201
    await admin.execute(become, someone.person_id, "SUPPORT_STAFF")
    assert await status() == 403
    await admin.execute("delete from membership where person_id = $1", someone.person_id)
    assert await status() == 404
    await admin.execute("update session set ended_at = $2 where session_id = $1", *ended(someone))
    assert await status() == 401
