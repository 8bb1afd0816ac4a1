"""When the database is slow, away or cut off: 503, no half truth, and back as soon as it is."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeAlias
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import asyncpg
import httpx2
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from cliniq.app import House
from cliniq.domains.patients import service as patients
from cliniq.platform import db, health
from cliniq.platform.db import Pool, Unit
from cliniq.platform.source import Urls
from tests.conftest import house_of
from tests.platform.test_unit import client_of, register
from tests.platform.wire import MARK, Answer, refusal
from tests.pooler import ASKED
from tests.support import (
    PASSWORD,
    Admin,
    Client,
    Hands,
    SomeClinic,
    Someone,
    SomePatient,
    found_clinic,
)

Harm: TypeAlias = Callable[[Unit, Admin], Awaitable[None]]
REGISTER = patients.register


def unavailable(answer: httpx2.Response | Answer) -> None:
    document = refusal(answer, 503, "DEPENDENCY_UNAVAILABLE")
    assert document["dependency"] == "postgresql"
    assert answer.headers["retry-after"] == "1"


async def kill(unit: Unit, admin: Admin) -> None:
    """End the unit's backend, and wait until it is gone."""
    pid = await unit.connection.fetchval("select pg_backend_pid()")
    await admin.execute("select pg_terminate_backend($1)", pid)
    gone = "select not exists (select from pg_stat_activity where pid = $1)"
    await until(lambda: admin.fetchval(gone, pid))


async def die_between_statements(unit: Unit, admin: Admin) -> None:
    await kill(unit, admin)
    await unit.connection.fetchval("select 1")


async def die_long_between_statements(unit: Unit, admin: Admin) -> None:
    await kill(unit, admin)
    await asyncio.sleep(0.05)
    await unit.connection.fetchval("select 1")


async def die_before_commit(unit: Unit, admin: Admin) -> None:
    await kill(unit, admin)


async def die_long_before_commit(unit: Unit, admin: Admin) -> None:
    await kill(unit, admin)
    await asyncio.sleep(0.05)


async def die_in_a_statement(unit: Unit, admin: Admin) -> None:
    pid = await unit.connection.fetchval("select pg_backend_pid()")

    async def strike() -> None:
        sleeping = "select state = 'active' from pg_stat_activity where pid = $1"
        await until(lambda: admin.fetchval(sleeping, pid))
        await admin.execute("select pg_terminate_backend($1)", pid)

    await asyncio.gather(unit.connection.execute("select pg_sleep(30)"), strike())


async def die_and_bury_the_error(unit: Unit, admin: Admin) -> None:
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        await die_in_a_statement(unit, admin)


async def take_too_long(unit: Unit, _admin: Admin) -> None:
    await unit.connection.execute("set local statement_timeout = '20ms'")
    await unit.connection.execute("select pg_sleep(30)")


async def wait_for_a_lock(unit: Unit, admin: Admin) -> None:
    async with admin.acquire() as other, other.transaction():
        await other.execute("lock table check_in_rule")
        await unit.connection.execute("set local lock_timeout = '20ms'")
        await unit.connection.fetch("select from check_in_rule")


HARMS: list[Harm] = [
    die_between_statements,
    die_long_between_statements,
    die_before_commit,
    die_long_before_commit,
    die_in_a_statement,
    die_and_bury_the_error,
    take_too_long,
    wait_for_a_lock,
]


def errors_in(journal: list[EventDict]) -> list[str]:
    """What was logged as an error, but for those whom another test has left watching."""
    errors = [each["event"] for each in journal if each["log_level"] == "error"]
    return [each for each in errors if each != "a snapshot failed"]


@pytest.mark.parametrize("harm", HARMS)
async def test_unit_whose_database_fails_is_unavailable_and_the_next_one_is_served(
    clinic: SomeClinic, urls: Urls, admin: Admin, harm: Harm, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def harmed(unit: Unit, *names: str) -> object:
        made = await REGISTER(unit, names[0], names[1], None)
        await harm(unit, admin)
        return made

    async with house_of(urls, size=2) as house, client_of(house) as client:
        monkeypatch.setattr(patients, "register", harmed)
        for _ in range(5):  # more often than there are connections
            with capture_logs() as journal:
                unavailable(await register(client, clinic))
            assert errors_in(journal) == []
            assert MARK not in str(journal)
        monkeypatch.setattr(patients, "register", REGISTER)
        assert (await register(client, clinic)).status_code == 201
        await ensure_whole(house, admin)
    kept = "select count(*) from patient where clinic_id = $1"
    assert await admin.fetchval(kept, clinic.clinic_id) == 1


async def ensure_whole(house: House, admin: Admin) -> None:
    """Fail unless all connections are back, idle, and carry nothing of whoever had them."""
    database = house.entrance.database
    for pool in (database.clinic, database.person, database.platform):
        assert pool.get_idle_size() == pool.get_size()
        await ensure_blank(pool, admin)


async def ensure_blank(pool: Pool, admin: Admin) -> None:
    async def look(together: asyncio.Barrier) -> None:
        async with pool.acquire(timeout=5) as connection:
            await together.wait()
            if not ASKED:  # a pooler gives numbers of its own
                pid = connection.get_server_pid()
                of = "select state from pg_stat_activity where pid = $1"
                assert await admin.fetchval(of, pid) == "idle"
            await connection.execute("begin")
            row = await connection.fetchrow(
                "select current_user::text = 'cliniq_app',"
                " coalesce(current_setting('cliniq.clinic_id', true), '') ="
                " coalesce(current_setting('cliniq.clinics', true), ''),"
                " coalesce(current_setting('cliniq.patients', true), '') ="
                " coalesce(current_setting('cliniq.person_id', true), ''),"
                " coalesce(current_setting('cliniq.clinic_id', true), '') || "
                " coalesce(current_setting('cliniq.person_id', true), '') = ''"
            )
            await connection.execute("rollback")
            assert row is not None
            assert all(row)

    together = asyncio.Barrier(pool.get_max_size())
    await asyncio.gather(*(look(together) for _ in range(pool.get_max_size())))


async def test_idle_connections_that_were_cut_are_replaced_unnoticed(
    clinic: SomeClinic, urls: Urls, admin: Admin
) -> None:
    async with house_of(urls, size=2) as house, client_of(house) as client:
        database = house.entrance.database
        for pool in (database.clinic, database.person, database.platform):
            cut = await pid_in(pool)
            await admin.execute("select pg_terminate_backend($1)", cut)
            await until(partial(has_noticed, pool, cut))
        assert (await register(client, clinic)).status_code == 201
        assert (await client.get("/api/v1/me", headers=clinic.admin.headers)).status_code == 200


async def test_unit_waits_for_a_connection_only_so_long(
    clinic: SomeClinic, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "PATIENCE_SECONDS", 0.05)
    async with house_of(urls, size=2) as house, client_of(house) as client:
        pool = house.entrance.database.clinic
        async with pool.acquire(), pool.acquire():
            with capture_logs():
                unavailable(await register(client, clinic))
            me = await client.get("/api/v1/me", headers=clinic.admin.headers)
            assert me.status_code == 200, "patients have connections of their own"
        assert (await register(client, clinic)).status_code == 201


# Away altogether.


class Line:
    """A line to the database that can be cut and mended."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._user, self._name = parts.username, parts.path
        self._folder = parse_qs(parts.query).get("host", [""])[0]
        self._host, self._port = parts.hostname or "", parts.port or 5432
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"postgresql://{self._user}@127.0.0.1:{self.port}{self._name}?sslmode=disable"

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for each in tuple(self._open):
            each.transport.abort()
        await self._server.wait_closed()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._folder.startswith("/"):
            path = f"{self._folder}/.s.PGSQL.{self._port}"
            there, back = await asyncio.open_unix_connection(path)
        else:
            there, back = await asyncio.open_connection(self._host, self._port)
        self._open |= {writer, back}
        await asyncio.gather(self._carry(reader, back), self._carry(there, writer))

    async def _carry(self, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while taken := await source.read(65536):
                to.write(taken)
                await to.drain()
        to.close()
        self._open.discard(to)


@asynccontextmanager
async def line_to(urls: Urls) -> AsyncIterator[Line]:
    line = Line(urls.application)
    await line.mend()
    try:
        yield line
    finally:
        await line.cut()


async def test_database_that_is_away_is_said_everywhere_and_comes_back(
    clinic: SomeClinic, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 1)
    secret = {"code": clinic.code(), "secret_hash": "A" * 43}
    sign_in = {"email": clinic.admin.email, "password": PASSWORD}
    staff = clinic.acting(clinic.admin)
    async with (
        line_to(urls) as line,
        house_of(Urls(line.url, None)) as house,
        client_of(house) as client,
    ):

        async def asked() -> list[httpx2.Response]:
            return [
                await register(client, clinic),
                await client.get("/api/v1/clinic-locations", headers=staff),
                await client.get("/api/v1/me", headers=staff),
                await client.post("/api/v1/auth/login", json=sign_in),
                await client.post("/api/v1/live/passes", headers=staff),
                await client.post("/api/v1/appointments/check-in/scans", json=secret),
                await client.get("/health/ready"),
            ]

        assert {each.status_code for each in await asked()} == {200, 201}
        await line.cut()
        with capture_logs():
            for _ in range(2):
                for answer in await asked():
                    unavailable(answer)
        refusal(await client.get("/api/v1/me"), 401, "UNAUTHENTICATED")
        assert (await client.get("/health/live")).status_code == 200
        await line.mend()
        assert {each.status_code for each in await asked()} == {200, 201}


async def test_database_that_lets_nobody_in_is_unavailable_and_comes_back(
    own_urls: Urls, own_admin: Admin, server: str, hands: Hands
) -> None:
    name = urlsplit(own_urls.application).path.removeprefix("/")
    connection = await asyncpg.connect(server)
    try:
        async with house_of(own_urls, size=2) as house, client_of(house) as client:
            clinic = await found_clinic(house)
            await connection.execute(f"alter database {name} allow_connections false")
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = $1 and usename = 'cliniq_app'",
                name,
            )
            await until(partial(all_gone, house))
            with capture_logs():
                unavailable(await register(client, clinic))
            await connection.execute(f"alter database {name} allow_connections true")
            assert (await register(client, clinic)).status_code == 201
    finally:
        await connection.close()


# Cancelled at any moment.


class Storm:
    """Visits of several clinics at once, many of them cancelled on the way, by a seeded chance."""

    VISITS = 600

    def __init__(self, client: Client, clinics: Sequence[SomeClinic]) -> None:
        self.client = client
        self.clinics = clinics
        self.people: dict[UUID, tuple[Someone, SomePatient]] = {}
        self.ended: Counter[str] = Counter()
        self.registered: Counter[UUID] = Counter()
        self._chance = random.Random(20260101)  # noqa: S311
        self._places = asyncio.Semaphore(8)
        self._kinds = {
            "register": self.register,
            "list": self.list_sites,
            "own": self.read_own,
            "me": self.read_me,
            "denied": self.be_denied,
        }

    async def rage(self) -> None:
        for each in self.clinics:
            self.people[each.clinic_id] = await each.signed_in_patient()
        await asyncio.gather(*(self.visit() for _ in range(self.VISITS)))

    async def visit(self) -> None:
        async with self._places:
            kind = self._chance.choice(list(self._kinds))
            task = asyncio.create_task(self._kinds[kind](self._chance.choice(self.clinics)))
            if self._chance.random() < 0.6:
                for _ in range(self._chance.randrange(25)):
                    await asyncio.sleep(0)
                task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                kind = "cancelled"
            self.ended[kind] += 1

    async def register(self, at: SomeClinic) -> None:
        answer = await register(self.client, at)
        assert answer.status_code == 201, answer.text
        self.registered[at.clinic_id] += 1

    async def list_sites(self, at: SomeClinic) -> None:
        answer = await self.client.get("/api/v1/clinic-locations", headers=at.acting(at.admin))
        assert [each["site_id"] for each in answer.json()] == [str(at.site.site_id)], answer.text

    async def read_own(self, at: SomeClinic) -> None:
        someone, patient = self.people[at.clinic_id]
        path = f"/api/v1/patients/{patient.patient_id}"
        answer = await self.client.get(path, headers=at.acting(someone))
        assert answer.json()["patient_id"] == str(patient.patient_id), answer.text

    async def read_me(self, at: SomeClinic) -> None:
        answer = await self.client.get("/api/v1/me", headers=at.doctor.headers)
        (membership,) = answer.json()["memberships"]
        assert membership["clinic_id"] == str(at.clinic_id)

    async def be_denied(self, at: SomeClinic) -> None:
        stranger = self._chance.choice([each for each in self.clinics if each is not at])
        path = f"/api/v1/patients/{self.people[at.clinic_id][1].patient_id}"
        answer = await self.client.get(path, headers=at.acting(stranger.receptionist))
        refusal(answer, 404, "NOT_FOUND")


async def test_requests_cancelled_at_any_moment_leave_no_row_setting_or_connection_behind(
    clinic: SomeClinic, urls: Urls, house: House, admin: Admin
) -> None:
    clinics = [clinic, await found_clinic(house), await found_clinic(house)]
    async with house_of(urls, size=2) as small, client_of(small) as client:
        storm = Storm(client, clinics)
        await storm.rage()
        assert storm.ended.total() == storm.VISITS
        assert len(storm.ended) == 6
        assert min(storm.ended.values()) > 10, storm.ended
        await until(lambda: all_idle(small))  # whoever was cancelled twice is still rolling back
        await ensure_whole(small, admin)
    for each in clinics:
        named = "select count(*) from patient where clinic_id = $1 and given_name = $2"
        kept = await admin.fetchval(named, each.clinic_id, MARK)
        assert storm.registered[each.clinic_id] <= kept
        told = "select count(*) from outbox where clinic_id = $1 and kind like 'patients.%'"
        assert await admin.fetchval(told, each.clinic_id) == kept + 1


async def all_idle(house: House) -> bool:
    database = house.entrance.database
    pools = (database.clinic, database.person, database.platform)
    return all(each.get_idle_size() == each.get_size() for each in pools)


async def pid_in(pool: Pool) -> int:
    async with pool.acquire() as connection:
        return connection.get_server_pid()


async def has_noticed(pool: Pool, cut: int) -> bool:
    """Tell whether a pool has noticed that a connection is dead."""
    return await pid_in(pool) != cut


async def all_gone(house: House) -> bool:
    """Tell whether the pools have noticed that their connections are dead."""
    database = house.entrance.database
    return not any(
        each.get_size() for each in (database.clinic, database.person, database.platform)
    )


async def until(come: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that tells nobody when it comes."""
    async with asyncio.timeout(10):
        while not await come():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
