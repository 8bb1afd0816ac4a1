"""A check-in is one transaction: everything of it is written, or nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from cliniq.app import House
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.domains.checkin.traces import WRITTEN, everything
from tests.domains.conftest import Build
from tests.support import NOON, Admin, Client, SomeClinic, Someone, found_clinic

KINDS = ["appointments.changed.v1", "queue.entry_joined.v1", "checkin.completed.v1"]


async def transactions(admin: Admin, clinic: SomeClinic, table: str) -> set[int]:
    """Which transactions wrote the rows of a table that are newer than the booking."""
    rows = await admin.fetch(
        f"select distinct xmin::text::bigint as xid from {table} where clinic_id = $1",  # noqa: S608
        clinic.clinic_id,
    )
    return {row["xid"] for row in rows}


async def test_check_in_writes_everything_in_one_transaction(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    someone, _, visit = await clinic.visit()
    before = {table: await transactions(admin, clinic, table) for table in WRITTEN}
    answer = await clinic.scan(client, someone)
    assert answer.status_code == 200
    (ours,) = await transactions(admin, clinic, "check_in")
    for table in WRITTEN:
        assert await transactions(admin, clinic, table) - before[table] == {ours}, table
    assert await transactions(admin, clinic, "appointment") == {ours}
    last = await admin.fetchrow(
        "select from_status, to_status, version, actor_id, xmin::text::bigint as xid"
        " from appointment_history where appointment_id = $1 order by version desc limit 1",
        visit.appointment_id,
    )
    assert last is not None
    assert tuple(last) == ("booked", "checked_in", 2, someone.person_id, ours)


async def test_check_in_is_audited_and_told_once_with_the_request_s_id(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    someone, patient, _ = await clinic.visit()
    await admin.execute("delete from outbox where clinic_id = $1", clinic.clinic_id)
    answer = await clinic.scan(client, someone)
    (receipt,) = answer.json()["check_ins"]
    audited = await admin.fetch(
        "select action, outcome, actor_id, permission, entity_id::text, happened_at from audit"
        " where clinic_id = $1 and request_id = $2 order by audit_id",
        clinic.clinic_id,
        answer.headers["x-request-id"],
    )
    ids = [receipt[name] for name in ("appointment_id", "entry_id", "check_in_id")]
    assert [tuple(row) for row in audited] == [
        (kind, "success", someone.person_id, "self", each, NOON)
        for kind, each in zip(KINDS, ids, strict=True)
    ]
    told = await admin.fetch(
        "select kind, topic, version, body::text from outbox where clinic_id = $1"
        " order by outbox_id",
        clinic.clinic_id,
    )
    assert [row["kind"] for row in told] == KINDS
    assert [(row["topic"], row["version"]) for row in told] == [
        ("", 0),
        (f"queue:{receipt['queue_id']}", 1),
        ("", 0),
    ]
    assert not any(patient.given_name in row["body"] for row in told)


PLANT = """
    create function fail() returns trigger language plpgsql as
    $$ begin raise exception 'planted'; end $$
"""
NOW, AT_COMMIT = "before insert or update", "after insert or update"


@asynccontextmanager
async def planted(admin: Admin, table: str, when: str) -> AsyncIterator[None]:
    """Have every write of a table fail: at once, or when it is to be committed."""
    constraint = "constraint" if when == AT_COMMIT else ""
    deferred = "deferrable initially deferred" if when == AT_COMMIT else ""
    await admin.execute(
        f"create {constraint} trigger sin {when} on {table} {deferred}"
        " for each row execute function fail()"
    )
    try:
        yield
    finally:
        await admin.execute(f"drop trigger sin on {table}")


class Place:
    """A clinic in a database of its own, with people who come at the same time."""

    def __init__(self, house: House, client: Client, clinic: SomeClinic) -> None:
        self.house, self.client, self.clinic = house, client, clinic
        self._doctor_is_free_at = NOON

    async def visitor(self) -> Someone:
        someone, _, _ = await self.clinic.visit(self._doctor_is_free_at)
        self._doctor_is_free_at += timedelta(minutes=15)
        return someone

    async def scan(self, someone: Someone) -> Any:
        with capture_logs():  # drawing a failure's whole stack takes longer than all the rest
            return (await self.clinic.scan(self.client, someone)).json()


@pytest.fixture
async def place(own_urls: Urls, open_client: Build) -> AsyncIterator[Place]:
    async with house_of(own_urls) as house, open_client(house) as client:
        yield Place(house, client, await found_clinic(house))


async def test_failed_write_leaves_nothing_and_gives_the_ticket_back(
    own_admin: Admin, place: Place
) -> None:
    await own_admin.execute(PLANT)
    first, second = await place.visitor(), await place.visitor()
    assert (await place.scan(first))["check_ins"][0]["ticket"] == 1
    before = await everything(own_admin, place.clinic)
    for table in ("appointment", *WRITTEN):
        for when in (NOW, AT_COMMIT):
            async with planted(own_admin, table, when):
                said = await place.scan(second)
            assert (said["status"], said["code"]) == (500, "INTERNAL"), (table, when)
            assert "planted" not in str(said)
            assert await everything(own_admin, place.clinic) == before, (table, when)
    assert (await place.scan(second))["check_ins"][0]["ticket"] == 2


async def test_failed_commit_of_a_booking_is_never_answered_with_success(
    own_admin: Admin, place: Place
) -> None:
    await own_admin.execute(PLANT)
    clinic = place.clinic
    patient = await clinic.patient()
    body = {
        "patient_id": str(patient.patient_id),
        "practitioner_id": str(clinic.practitioner_id),
        "site_id": str(clinic.site.site_id),
        "starts_at": NOON.isoformat(),
    }
    before = await everything(own_admin, clinic)
    headers = clinic.acting(clinic.receptionist)
    async with planted(own_admin, "claim", AT_COMMIT):
        with capture_logs():
            answer = await place.client.post("/api/v1/appointments", json=body, headers=headers)
    assert answer.status_code == 500
    assert await everything(own_admin, clinic) == before
    answer = await place.client.post("/api/v1/appointments", json=body, headers=headers)
    assert answer.status_code == 201
