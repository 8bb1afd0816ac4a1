"""Slow statements are named, timed and counted, without a value; too slow ones are ended."""

import asyncio
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs
from structlog.typing import EventDict

from cliniq.app import House
from cliniq.kernel.problem import DependencyUnavailable
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import db
from cliniq.platform.backends import Backends
from cliniq.platform.db import Beside, Database, ReadUnit, open_read_unit, open_unit
from cliniq.platform.health import complaints
from cliniq.platform.provision import LIMITS
from cliniq.platform.slow import NEVER_SLOW, SlowLog, slow_log
from cliniq.platform.source import Urls
from cliniq.platform.sql import sql
from cliniq.platform.telemetry import Metrics
from tests.architecture.statements import STATEMENTS
from tests.conftest import house_of
from tests.platform.test_outages import ensure_whole, unavailable
from tests.platform.test_unit import client_of, register
from tests.platform.wire import MARK
from tests.support import Admin, Client, SomeClinic

SCOPE = PlatformScope("test")


@sql("select pg_sleep($1)::text || $2")
async def doze(unit: ReadUnit, seconds: float, word: str) -> str: ...  # type: ignore[empty-body]


@sql("select number from generate_series(1, $1) as number")
async def count(unit: ReadUnit, most: int) -> list[int]: ...  # type: ignore[empty-body]


@sql("select 1 / $1")
async def divide(unit: ReadUnit, by: int) -> int: ...  # type: ignore[empty-body]


def watched(house: House, seconds: float, metrics: Metrics | None = None) -> Database:
    """The house's database, where whatever takes so long is slow."""
    slow = SlowLog(seconds, (metrics or Metrics()).count_slow)
    return replace(house.entrance.database, beside=Beside(slow=slow))


def told(journal: list[EventDict]) -> list[tuple[str, int | None]]:
    """The slow statements, whatever else was logged meanwhile."""
    return [(each["statement"], each["rows"]) for each in journal if "statement" in each]


async def test_slow_statement_is_logged_by_name_with_rows_and_request_and_no_value(
    house: House,
) -> None:
    metrics = Metrics()
    database = watched(house, 0.05, metrics)
    with capture_logs() as journal:
        async with open_read_unit(database, SCOPE, request_id="r-123") as unit:
            await doze(unit, 0.05, MARK)
    (line,) = [each for each in journal if each.get("statement") == doze.name]
    assert line.pop("ms") >= 50
    assert line == {
        "event": "slow statement",
        "log_level": "warning",
        "statement": doze.name,
        "rows": 1,
        "request_id": "r-123",
    }
    assert MARK not in str(journal)
    counted = metrics.registry.get_sample_value(
        "cliniq_slow_statement_seconds_count", {"statement": doze.name}
    )
    assert counted == 1


async def test_all_that_a_unit_says_may_be_slow_and_rows_are_counted(house: House) -> None:
    with capture_logs() as journal:
        async with open_unit(watched(house, 0), SCOPE) as unit:
            assert await count(unit, 7) == [1, 2, 3, 4, 5, 6, 7]
    assert told(journal) == [
        ("begin", None),
        (count.name, 7),
        ("commit", None),
    ]


async def test_statement_that_fails_is_slow_too_and_its_error_stays_what_it_is(
    house: House,
) -> None:
    with capture_logs() as journal, pytest.raises(Exception, match="division by zero"):
        async with open_unit(watched(house, 0), SCOPE) as unit:
            await divide(unit, 0)
    assert told(journal)[1:] == [(divide.name, None)]


@pytest.mark.parametrize("slow", [NEVER_SLOW, slow_log(0, print), slow_log(30_000, print)])
async def test_fast_statement_is_nobody_s_business(house: House, slow: SlowLog) -> None:
    database = replace(house.entrance.database, beside=Beside(slow=slow))
    with capture_logs() as journal:
        async with open_read_unit(database, SCOPE) as unit:
            await count(unit, 1)
    assert told(journal) == []


async def test_slow_requests_say_names_of_declared_statements_and_nobody(
    clinic: SomeClinic, urls: Urls
) -> None:
    async with (
        house_of(urls, size=2, backends=Backends(slow_query_ms=1)) as house,
        client_of(house) as client,
    ):
        object.__setattr__(house.entrance.database.beside.slow, "seconds", 0.0)  # all are
        with capture_logs() as journal:
            assert (await register(client, clinic)).status_code == 201
        metrics = (await client.get("/metrics")).text
    families = {each.name: each for each in text_string_to_metric_families(metrics)}
    labels = {
        each.labels["statement"]
        for each in families["cliniq_slow_statement_seconds"].samples
        if each.name.endswith("_count")
    }
    assert {"begin", "commit", "cliniq.domains.patients.store.add_patient"} & labels
    assert labels <= {"begin", "commit", *STATEMENTS}
    # Of what is slow only: a topic that another test has left behind may speak at any moment.
    ids = {each["request_id"] for each in journal if each["event"] == "slow statement"}
    assert len(ids) == 1
    assert "" not in ids
    assert MARK not in str(journal)
    assert str(clinic.clinic_id) not in str(journal)


# --- too slow -------------------------------------------------------------------------------------


async def test_statement_over_the_login_s_timeout_is_ended_and_its_connection_goes_back_whole(
    own_urls: Urls, own_admin: Admin
) -> None:
    name = urlsplit(own_urls.application).path.removeprefix("/")
    await own_admin.execute(f"alter role cliniq_app in database {name} set statement_timeout = 50")
    async with house_of(own_urls, size=2) as house:
        database = watched(house, 0.05)
        for opening in (open_unit, open_read_unit) * 3:
            with capture_logs() as journal, pytest.raises(DependencyUnavailable) as refused:
                async with opening(database, SCOPE) as unit:
                    await doze(unit, 30, MARK)
            assert refused.value.facts == {"dependency": "postgresql"}
            assert doze.name in [each.get("statement") for each in journal]
            assert MARK not in str(journal)
        async with open_read_unit(database, SCOPE) as unit:
            assert await count(unit, 2) == [1, 2]
        await ensure_whole(house, own_admin)


async def test_login_without_a_timeout_is_complained_of(own_urls: Urls, own_admin: Admin) -> None:
    name = urlsplit(own_urls.application).path.removeprefix("/")
    assert await complaints(own_urls.application) == []
    for limit in LIMITS:
        await own_admin.execute(f"alter role cliniq_app in database {name} set {limit} = 0")
        assert await complaints(own_urls.application) == [
            f"The login cliniq_app has no {limit}: run `cliniq provision`."
        ]
        await own_admin.execute(f"alter role cliniq_app in database {name} set {limit} = '60s'")
    assert await complaints(own_urls.application) == [], "another one is the operator's choice"


# --- too many -------------------------------------------------------------------------------------


async def test_queue_for_a_connection_is_bounded_and_the_next_is_turned_away_at_once(
    clinic: SomeClinic, urls: Urls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "WAITING_PER_CONNECTION", 3)
    async with house_of(urls, size=2) as house, client_of(house) as client:
        database = house.entrance.database
        async with database.clinic.acquire(), database.clinic.acquire():
            waiting = [asyncio.create_task(register(client, clinic)) for _ in range(6)]
            await queue_of(client, "cliniq_clinic", 6)
            with capture_logs():
                for _ in range(20):
                    unavailable(await register(client, clinic))
            me = await client.get("/api/v1/me", headers=clinic.admin.headers)
            assert me.status_code == 200, "patients have a queue of their own"
            waiting[0].cancel()
            await asyncio.gather(waiting[0], return_exceptions=True)
            await queue_of(client, "cliniq_clinic", 5)
        assert {(await each).status_code for each in waiting[1:]} == {201}
        await queue_of(client, "cliniq_clinic", 0)
        assert (await register(client, clinic)).status_code == 201


async def test_crowd_beyond_the_queue_is_served_or_turned_away_and_nothing_else(
    clinic: SomeClinic, urls: Urls, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "WAITING_PER_CONNECTION", 10)
    async with house_of(urls, size=2) as house, client_of(house) as client:
        with capture_logs():
            answers = await asyncio.gather(*(register(client, clinic) for _ in range(100)))
        served = [each for each in answers if each.status_code == 201]
        for answer in answers:
            if answer.status_code != 201:
                unavailable(answer)
        assert 20 <= len(served) < 100
        assert house.entrance.database.waiting.total() == 0
        await ensure_whole(house, admin)
    kept = "select count(*) from patient where clinic_id = $1"
    assert await admin.fetchval(kept, clinic.clinic_id) == len(served)


async def queue_of(client: Client, role: str, waiting: int) -> None:
    """Wait until the metrics show so many in the queue."""
    shown = f'cliniq_database_waiting{{role="{role}"}} {waiting:.1f}'
    async with asyncio.timeout(10):
        while shown not in (await client.get("/metrics")).text:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
