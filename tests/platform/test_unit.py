"""A unit is true or nothing, and a refusal is remembered although its unit was undone."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import asyncpg
import httpx2
import pytest
from structlog.testing import capture_logs

from cliniq.app import House, build_app
from cliniq.domains.patients import service as patients
from cliniq.domains.patients.models import Patient
from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.problem import Conflict, NotFound
from cliniq.platform import events_store
from cliniq.platform.db import CommitRefused, Unit
from cliniq.platform.live import Connection, Known, Snapshot, topic_in
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.platform.wire import MARK, refusal
from tests.support import KEYED, NOON, Admin, Client, Hands, SomeClinic, found_clinic

MARKED = {"given_name": MARK, "family_name": MARK}
WRITTEN = ("patient", "audit", "outbox", "queue_entry", "check_in", "appointment_history")


@asynccontextmanager
async def client_of(house: House) -> AsyncIterator[Client]:
    app = build_app(house, "http://cliniq.test")
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://cliniq.test", event_hooks=KEYED
    ) as client:
        yield client


async def written(admin: Admin, clinic: SomeClinic) -> dict[str, int]:
    return {
        table: await admin.fetchval(
            f"select count(*) from {table} where clinic_id = $1",  # noqa: S608
            clinic.clinic_id,
        )
        for table in WRITTEN
    }


async def register(client: Client, clinic: SomeClinic) -> httpx2.Response:
    headers = clinic.acting(clinic.receptionist)
    return await client.post("/api/v1/patients", json=MARKED, headers=headers)


@pytest.fixture
async def alone(own_urls: Urls, hands: Hands) -> AsyncIterator[SomeClinic]:
    """A clinic in a database of its own."""
    async with house_of(own_urls) as house:
        yield await found_clinic(house)


async def test_commit_made_to_fail_is_never_answered_with_success_nor_told_to_anybody(
    alone: SomeClinic, own_admin: Admin
) -> None:
    hub = alone.house.entrance.hub
    first, _, _ = await alone.visit()
    someone, _, _ = await alone.visit(NOON + timedelta(minutes=15))
    async with client_of(alone.house) as client:
        (receipt,) = (await alone.scan(client, first)).json()["check_ins"]
        await alone.house.relay.drain()
        watcher = Connection(new_id())

        async def load(_known: Known | None) -> Snapshot:
            return Snapshot(1, None)

        topic = topic_in(alone.clinic_id, f"queue:{receipt['queue_id']}")
        await hub.subscribe(watcher, topic, load)
        assert len(watcher.take()) == 1
        await own_admin.execute("""
            create function refuse() returns trigger language plpgsql as $$
            begin raise 'not today' using errcode = 'check_violation'; end $$;
            create constraint trigger refuse after insert on queue_entry
            deferrable initially deferred for each row execute function refuse();
        """)
        before = await written(own_admin, alone)
        with capture_logs():
            refusal(await alone.scan(client, someone), 500, "INTERNAL")
        assert await written(own_admin, alone) == before
        await alone.house.relay.drain()
        assert watcher.frames == []
        await own_admin.execute("drop trigger refuse on queue_entry")
        (receipt,) = (await alone.scan(client, someone)).json()["check_ins"]
        await alone.house.relay.drain()
    assert receipt["ticket"] == 2
    assert len(watcher.frames) == 1


async def test_unit_that_cannot_commit_gives_its_connection_back(
    alone: SomeClinic, own_admin: Admin
) -> None:
    await own_admin.execute("""
        create function refuse() returns trigger language plpgsql as $$
        begin raise 'not today' using errcode = 'check_violation'; end $$;
        create constraint trigger refuse after insert on patient
        deferrable initially deferred for each row execute function refuse();
    """)
    told: list[str] = []
    for _ in range(3 * alone.house.entrance.database.clinic.get_max_size()):
        with pytest.raises(asyncpg.CheckViolationError):
            async with alone.unit() as unit:
                await patients.register(unit, MARK, MARK, None)
                unit.after_commit(lambda: told.append("too early"))
    async with alone.unit() as unit:
        unit.after_commit(lambda: told.append("true"))
        assert told == []
    assert told == ["true"]


# Within the shared database: what a use case may get wrong.


async def swallow(unit: Unit) -> Patient:
    made = await registered(unit)
    with suppress(asyncpg.PostgresError):
        await unit.connection.execute("select 1 / 0")
    return made


async def fail(unit: Unit) -> Patient:
    await registered(unit)
    raise RuntimeError(MARK)


async def collide(unit: Unit) -> Patient:
    await registered(unit)
    raise Conflict


async def answer_with_nonsense(unit: Unit) -> object:
    await registered(unit)
    return object()


async def write_too_late(unit: Unit) -> Patient:
    async def write(unit: Unit, _items: list[int]) -> None:
        await unit.connection.execute("select 1 / 0")

    unit.before_commit(write, 1)
    return await registered(unit)


async def write_too_late_and_swallow(unit: Unit) -> Patient:
    async def write(unit: Unit, _items: list[int]) -> None:
        with suppress(asyncpg.PostgresError):
            await unit.connection.execute("select 1 / 0")

    made = await registered(unit)
    unit.before_commit(write, 1)
    return made


async def registered(unit: Unit) -> Patient:
    return await REGISTER(unit, MARK, MARK, None)


REGISTER = patients.register
WRONG: list[Callable[[Unit], Awaitable[object]]] = [
    swallow,
    fail,
    collide,
    answer_with_nonsense,
    write_too_late,
    write_too_late_and_swallow,
]


@pytest.mark.parametrize("use_case", WRONG)
async def test_use_case_that_goes_wrong_leaves_no_trace(
    client: Client,
    clinic: SomeClinic,
    admin: Admin,
    use_case: Callable[[Unit], Awaitable[object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []

    async def wrong(unit: Unit, *_: object) -> object:
        unit.after_commit(lambda: told.append("after commit"))
        return await use_case(unit)

    before = await written(admin, clinic)
    monkeypatch.setattr(patients, "register", wrong)
    with capture_logs():
        answer = await register(client, clinic)
    if use_case is collide:
        refusal(answer, 409, "CONFLICT")
    else:
        refusal(answer, 500, "INTERNAL")
    assert await written(admin, clinic) == before
    assert told == []
    monkeypatch.setattr(patients, "register", REGISTER)
    assert (await register(client, clinic)).status_code == 201
    assert (await written(admin, clinic))["patient"] == before["patient"] + 1


async def test_unit_in_which_an_error_was_swallowed_is_refused_at_commit(
    clinic: SomeClinic, admin: Admin
) -> None:
    told: list[str] = []
    with pytest.raises(CommitRefused):
        async with clinic.unit() as unit:
            await unit.connection.execute(
                "insert into site (site_id, name, zone, address) values ($1, 'x', 'UTC', 'x')",
                new_id(),
            )
            unit.after_commit(lambda: told.append("after commit"))
            with suppress(asyncpg.PostgresError):
                await unit.connection.execute("select 1 / 0")
    assert told == []
    sites = "select count(*) from site where clinic_id = $1"
    assert await admin.fetchval(sites, clinic.clinic_id) == 1


async def test_writer_before_commit_gets_all_its_items_at_once_and_in_order(
    clinic: SomeClinic,
) -> None:
    written: list[object] = []

    async def write(_unit: Unit, items: list[int]) -> None:
        written.append(items)

    async def other(_unit: Unit, items: list[str]) -> None:
        written.append(items)

    async with clinic.unit() as unit:
        unit.before_commit(write, 1)
        unit.before_commit(other, "a")
        unit.before_commit(write, 2)
        unit.after_commit(lambda: written.append("first"))
        unit.after_commit(lambda: written.append("second"))
        assert written == []
    assert written == [[1, 2], ["a"], "first", "second"]


# Refusals.


async def denied(admin: Admin, clinic: SomeClinic) -> list[dict[str, object]]:
    found = await admin.fetch(
        "select * from audit where clinic_id = $1 and outcome = 'denied'", clinic.clinic_id
    )
    assert MARK not in str(found)
    return [dict(row) for row in found]


async def test_refusal_by_role_is_remembered_though_nothing_else_is(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    before = await written(admin, clinic)
    headers = clinic.acting(clinic.doctor)
    answer = await client.post("/api/v1/patients", json=MARKED, headers=headers)
    document = refusal(answer, 403, "FORBIDDEN")
    (row,) = await denied(admin, clinic)
    assert row["actor_id"] == clinic.doctor.person_id
    assert row["permission"] == "patients:create"
    assert row["action"] == "POST /api/v1/patients"
    assert row["code"] == "FORBIDDEN"
    assert row["request_id"] == document["trace_id"]
    assert (row["recorded_at"], row["happened_at"]) == (NOON, NOON)
    assert row["entity_id"] is None
    assert await written(admin, clinic) == before | {"audit": before["audit"] + 1}


async def test_refusal_by_clinic_is_remembered_there(
    client: Client, clinic: SomeClinic, house: House, admin: Admin
) -> None:
    other = await found_clinic(house)
    answer = await client.post(
        "/api/v1/patients", json=MARKED, headers=other.acting(clinic.receptionist)
    )
    refusal(answer, 404, "NOT_FOUND")
    assert await denied(admin, clinic) == []
    (row,) = await denied(admin, other)
    assert (row["actor_id"], row["code"]) == (clinic.receptionist.person_id, "NOT_FOUND")


async def test_refusal_after_writing_is_remembered_and_the_writing_is_not(
    client: Client, clinic: SomeClinic, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(unit: Unit, *_: object) -> None:
        await registered(unit)
        raise NotFound

    before = await written(admin, clinic)
    monkeypatch.setattr(patients, "register", refuse)
    refusal(await register(client, clinic), 404, "NOT_FOUND")
    (row,) = await denied(admin, clinic)
    assert (row["actor_id"], row["code"]) == (clinic.receptionist.person_id, "NOT_FOUND")
    assert await written(admin, clinic) == before | {"audit": before["audit"] + 1}


async def test_knock_at_a_clinic_that_does_not_exist_is_a_security_event(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    nowhere = ClinicId(new_id())
    headers = clinic.receptionist.headers | {"X-Clinic-Id": str(nowhere)}
    answer = await client.post("/api/v1/patients", json=MARKED, headers=headers)
    document = refusal(answer, 404, "NOT_FOUND")
    row = await admin.fetchrow(
        "select actor_id, action, code, recorded_at from security_event where request_id = $1",
        document["trace_id"],
    )
    assert row is not None
    assert tuple(row) == (
        clinic.receptionist.person_id,
        "POST /api/v1/patients",
        "NOT_FOUND",
        NOON,
    )
    audited = "select count(*) from audit where clinic_id = $1 or request_id = $2"
    assert await admin.fetchval(audited, nowhere, document["trace_id"]) == 0


async def test_request_that_is_malformed_or_not_signed_in_is_no_denial(
    client: Client, clinic: SomeClinic, admin: Admin
) -> None:
    here = {"X-Clinic-Id": str(clinic.clinic_id)}
    answer = await client.post("/api/v1/patients", json=MARKED, headers=here)
    refusal(answer, 401, "UNAUTHENTICATED")
    answer = await client.post(
        "/api/v1/patients", json=MARKED | {"x": 1}, headers=clinic.acting(clinic.doctor)
    )
    refusal(answer, 422, "REQUEST_INVALID")
    assert await denied(admin, clinic) == []


async def test_refusal_that_cannot_be_remembered_is_the_same_refusal(
    client: Client, clinic: SomeClinic, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(unit: Unit, _denial: object) -> None:
        await unit.connection.execute("select $1::no_such_type", MARK)

    monkeypatch.setattr(events_store, "add_denial", broken)
    with capture_logs() as journal:
        answer = await client.post(
            "/api/v1/patients", json=MARKED, headers=clinic.acting(clinic.doctor)
        )
    refusal(answer, 403, "FORBIDDEN")
    assert await denied(admin, clinic) == []
    (lost,) = [each for each in journal if each["log_level"] == "error"]
    assert lost["event"] == "a denial was not remembered"
    assert lost["code"] == "FORBIDDEN"
