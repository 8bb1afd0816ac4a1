"""What PostgreSQL does for a request: the partitions and indexes it reads, and how often."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from cliniq.app import House
from cliniq.domains.appointments import store
from cliniq.domains.checkin.service import AROUND
from cliniq.domains.clinics import api as clinics
from cliniq.kernel.ids import new_id
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.domains.watch import Watch
from tests.support import NOON, Admin, SomeClinic, found_clinic

VISITS = "/api/v1/appointments"
MANY = 6000  # enough that reading all of them is dearer than an index


@asynccontextmanager
async def seated(
    admin: Admin, clinic: SomeClinic, patient_id: UUID | None = None
) -> AsyncIterator[Any]:
    """A connection in the seat of staff, or of a patient: the walls are in every plan."""
    async with admin.acquire() as connection, connection.transaction():
        role = "cliniq_person" if patient_id else "cliniq_clinic"
        await connection.execute(f"set local role {role}")
        settings = {
            "clinic_id": str(clinic.clinic_id),
            "clinics": f"{{{clinic.clinic_id}}}",
            "patients": f"{{{patient_id or ''}}}",
        }
        for name, value in settings.items():
            await connection.execute("select set_config($1, $2, true)", f"cliniq.{name}", value)
        yield connection


async def explain(
    connection: "asyncpg.Connection[asyncpg.Record]", text: str, *values: object
) -> dict[str, Any]:
    plan = await connection.fetchval(f"explain (analyze, format json) {text}", *values)
    found: dict[str, Any] = json.loads(plan)[0]["Plan"]
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", []):
        yield from nodes(each)


def read(plan: dict[str, Any], table: str) -> dict[str, list[dict[str, Any]]]:
    """The scans of a table's partitions that were executed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for node in nodes(plan):
        name = node.get("Relation Name", "")
        if name.startswith(f"{table}_2") and node["Actual Loops"] > 0:
            found.setdefault(name, []).append(node)
    return found


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("whose", ["staff", "patient"])
async def test_visit_found_by_its_id_is_read_in_one_partition(
    clinic: SomeClinic, admin: Admin, plans: str, whose: str
) -> None:
    patient = await clinic.patient()
    await clinic.book(patient, NOON)
    visit = await clinic.book(patient, NOON + timedelta(days=100))
    parts = await admin.fetchval(
        "select count(*) from pg_inherits where inhparent = 'appointment'::regclass"
    )
    assert parts >= 13
    seat = patient.patient_id if whose == "patient" else None
    async with seated(admin, clinic, seat) as connection:
        await connection.execute(f"set local plan_cache_mode = {plans}")
        plan = await explain(connection, store.find.text, visit.appointment_id)
    assert plan["Actual Rows"] == 1
    executed = read(plan, "appointment")
    assert list(executed) == [f"appointment_{visit.starts_at:%Y%m}01"]
    assert all("Index" in node["Node Type"] for each in executed.values() for node in each)


async def test_lookup_that_joins_instead_would_be_noticed(clinic: SomeClinic, admin: Admin) -> None:
    """The sin, planted: without the start, every partition is read."""
    visit = await clinic.book(await clinic.patient())
    text = "select * from appointment where appointment_id = $1"
    async with seated(admin, clinic) as connection:
        plan = await explain(connection, text, visit.appointment_id)
    assert len(read(plan, "appointment")) >= 13


async def test_visit_of_a_person_at_the_door_is_looked_for_around_now(
    clinic: SomeClinic, admin: Admin
) -> None:
    patient = await clinic.patient()
    await clinic.book(patient)
    async with seated(admin, clinic, patient.patient_id) as connection:
        plan = await explain(connection, store.list_own.text, NOON - AROUND, NOON + AROUND)
    assert plan["Actual Rows"] == 1
    months = {f"appointment_{day:%Y%m}01" for day in (NOON - AROUND, NOON, NOON + AROUND)}
    assert set(read(plan, "appointment")) <= months


# Indexes


FILL = """
    with person as (
        insert into person (person_id, given_name, family_name)
        select gen_random_uuid(), 'P', 'T' from generate_series(1, $2::int) returning person_id
    ), patient as (
        insert into patient (clinic_id, patient_id, person_id, given_name, family_name, mrn)
        select $1, person_id, person_id, 'P', 'T', person_id from person returning patient_id
    ), booking as (
        insert into booking (clinic_id, booking_id, patient_id, starts_at)
        select $1, gen_random_uuid(), patient_id, $5::timestamptz
            + (row_number() over () % 20000) * interval '1 minute'
        from patient, generate_series(1, 5) returning booking_id, patient_id, starts_at
    )
    insert into appointment (clinic_id, appointment_id, patient_id, practitioner_id, site_id,
        visit_type, starts_at, ends_at, status)
    select $1, booking_id, patient_id, $3, $4, 'consultation', starts_at,
        starts_at + interval '1 minute', 'booked' from booking
"""
FOREIGN_KEYS_OFF, FOREIGN_KEYS_ON = (
    f"set session_replication_role = {role}" for role in ("replica", "origin")
)


async def fill(admin: Admin, house: House) -> SomeClinic:
    """Two clinics full of visits, some sites and doctors with few and one with most of them."""
    clinics = [await found_clinic(house), await found_clinic(house)]
    start = NOON.replace(day=1)
    async with admin.acquire() as connection:
        await connection.execute(FOREIGN_KEYS_OFF)
        for clinic in clinics:
            places = [(clinic.practitioner_id, clinic.site.site_id)]
            places += [(new_id(), new_id()) for _ in range(3)]
            for doctor, site in places:
                people = MANY // 5 // len(places)
                await connection.execute(FILL, clinic.clinic_id, people, doctor, site, start)
        await connection.execute(FOREIGN_KEYS_ON)
        await connection.execute("analyze")
    return clinics[0]


async def test_lists_walk_their_index_and_neither_sort_nor_read_all(
    own_urls: Urls, own_admin: Admin
) -> None:
    async with house_of(own_urls) as house:
        clinic = await fill(own_admin, house)
    patient_id = await own_admin.fetchval(
        "select patient_id from appointment where clinic_id = $1 limit 1", clinic.clinic_id
    )
    start = NOON.replace(day=1)
    day = (start, start + timedelta(days=1), start, UUID(int=0))
    wanted = [
        (store.list_of_site.text, clinic.site.site_id, "site_id"),
        (store.list_of_practitioner.text, clinic.practitioner_id, "practitioner_id"),
        (store.list_of_patient.text, patient_id, "patient_id"),
    ]
    for mode in ("force_custom_plan", "force_generic_plan"):
        for text, of, column in wanted:
            async with seated(own_admin, clinic) as connection:
                await connection.execute(f"set local plan_cache_mode = {mode}")
                plan = await explain(connection, text, of, *day, None, 21)
            executed = read(plan, "appointment")
            assert list(executed) == [f"appointment_{start:%Y%m}01"], (mode, column)
            (scans,) = executed.values()
            for node in scans:
                assert f"clinic_id_{column}" in node["Index Name"], (mode, column, node)
                condition = node["Index Cond"]
                assert column in condition
                assert "clinic_id" in condition, "the wall gives the index its prefix"
                assert node["Actual Rows"] * node["Actual Loops"] <= 21
            assert "Sort" not in {node["Node Type"] for node in nodes(plan)}, (mode, column)


# How often PostgreSQL is asked


async def test_requests_ask_as_often_as_they_must_and_no_more(
    watch: Watch, clinic: SomeClinic
) -> None:
    """Begin with the seat, what is wanted, commit; however many rows there are."""
    for number in range(30):
        await clinic.book(await clinic.patient(), NOON + timedelta(minutes=number), minutes=1)
    someone, _, visit = await clinic.visit(NOON + timedelta(minutes=60))
    staff, patient = clinic.acting(clinic.receptionist), clinic.acting(someone)
    site = {"site_id": str(clinic.site.site_id)}
    doctor = {"practitioner_id": str(clinic.practitioner_id)}
    async with clinic.unit() as unit:
        await clinics.warm(unit)
    await watch.said()
    asked: list[tuple[str, dict[str, Any], dict[str, str], int]] = [
        (f"{VISITS}/{visit.appointment_id}", {}, staff, 3),
        (f"{VISITS}/{visit.appointment_id}", {}, patient, 3),
        (f"{VISITS}/{visit.appointment_id}/history", {}, staff, 4),
        (VISITS, site | {"limit": 100}, staff, 3),
        (VISITS, site | {"limit": 1}, staff, 3),
        (VISITS, doctor, staff, 4),
        (VISITS, doctor, patient, 4),
        (f"{VISITS}/mine", {}, someone.headers, 3),
    ]
    for path, wanted, headers, times in asked:
        answer = await watch.client.get(path, params=wanted, headers=headers)
        assert answer.status_code == 200
        said = await watch.said()
        assert (said.acquired, len(said.statements)) == (1, times), said.statements


async def test_scan_asks_as_often_as_it_must_and_no_more(watch: Watch, clinic: SomeClinic) -> None:
    """seat, persons, visits | claim, step, ticket, place | trail | commit.

    The first of a process asks for the point and the windows too; the next find them in memory.
    """
    first, _, _ = await clinic.visit()
    second, _, _ = await clinic.visit(NOON + timedelta(minutes=15))
    asked = [(first, 14), (second, 9), (second, 6)]  # opens the line; joins it; comes again
    for someone, times in asked:
        assert (await clinic.scan(watch.client, someone)).status_code == 200
        said = await watch.said()
        assert (said.acquired, len(said.statements)) == (1, times), said.statements


async def test_family_costs_as_many_questions_as_it_has_visits(
    watch: Watch, clinic: SomeClinic
) -> None:
    warm, _, _ = await clinic.visit(NOON - timedelta(minutes=30))
    await clinic.scan(watch.client, warm)
    parent, own = await clinic.signed_in_patient()
    child = await clinic.dependant(parent)
    for number, who in enumerate((own, child)):
        await clinic.book(who, NOON + number * timedelta(minutes=15))
    await watch.said()
    assert (await clinic.scan(watch.client, parent)).json()["outcome"] == "choice"
    assert len((await watch.said()).statements) == 5
    assert (await clinic.scan(watch.client, parent, all=True)).status_code == 200
    assert len((await watch.said()).statements) == 9 + 4


async def test_key_costs_two_questions_more_and_no_key_none(
    watch: Watch, clinic: SomeClinic
) -> None:
    headers = clinic.acting(clinic.doctor)
    entries = []
    for number in range(2):
        someone, _, _ = await clinic.visit(NOON + number * timedelta(minutes=15))
        (receipt,) = (await clinic.scan(watch.client, someone)).json()["check_ins"]
        await watch.client.post(f"/api/v1/queues/{receipt['queue_id']}/calls", headers=headers)
        entries.append(receipt["entry_id"])
    keyed = headers | {"Idempotency-Key": "a key"}
    costs = []
    said = await watch.said()
    for entry, sent in zip([*entries, entries[1]], [headers, keyed, keyed], strict=True):
        path = f"/api/v1/queues/entries/{entry}/start"
        assert (await watch.client.post(path, headers=sent)).status_code == 200
        said = await watch.said()
        assert said.acquired == 1
        costs.append(len(said.statements))
    plain, first, again = costs
    assert (plain, first, again) == (8, 8 + 2, 3), said.statements  # begin, look, commit
