"""Partitions: open ahead of both clocks, walled like their parents, by a function that checks."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import asyncpg
import pytest

from cliniq.app import House
from cliniq.platform.clock import Clocks
from cliniq.platform.source import Urls
from cliniq.platform.upkeep import upkeep
from tests.conftest import house_of
from tests.support import NOON, Admin, Hands

LONG_AHEAD = timedelta(days=1000)
OPEN = "select open_partitions($1, $2)"
LIST = """
    select p.relname as parent, c.relname as part, c.relrowsecurity as enabled,
        c.relforcerowsecurity as forced, pg_get_expr(c.relpartbound, c.oid) as bound
    from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
    join pg_class as p on p.oid = i.inhparent join partitioned as t on t.table_name = p.relname
    where c.relkind in ('r', 'p') order by c.relname
"""


async def parts(admin: Admin) -> dict[str, asyncpg.Record]:
    return {row["part"]: row for row in await admin.fetch(LIST)}


async def policies(admin: Admin, table: str) -> list[tuple[object, ...]]:
    found = await admin.fetch(
        "select policyname, permissive, roles, cmd, qual, with_check from pg_policies"
        " where tablename = $1 order by policyname",
        table,
    )
    return [tuple(row) for row in found]


@pytest.fixture
async def platform(own_urls: Urls) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """The application's login in the role that may open partitions."""
    connection = await asyncpg.connect(own_urls.application)
    await connection.execute("set role cliniq_platform")
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    ("clinic_day", "wall_day"),
    [
        (None, date(2026, 1, 1)),
        (date(2026, 1, 1), None),
        (date(1989, 12, 31), date(2026, 1, 1)),
        (date(2026, 1, 1), date(1, 1, 1)),
    ],
)
async def test_day_that_is_missing_or_absurd_is_refused(
    urls: Urls, clinic_day: date | None, wall_day: date | None
) -> None:
    connection = await asyncpg.connect(urls.application)
    try:
        await connection.execute("set role cliniq_platform")
        with pytest.raises(asyncpg.RaiseError, match="open_partitions"):
            await connection.execute(OPEN, clinic_day, wall_day)
    finally:
        await connection.close()


@pytest.mark.parametrize("role", ["cliniq_clinic", "cliniq_person", None])
async def test_nobody_but_the_platform_opens_partitions(urls: Urls, role: str | None) -> None:
    connection = await asyncpg.connect(urls.application)
    try:
        if role:
            await connection.execute(f"set role {role}")
        with pytest.raises(asyncpg.PostgresError) as refused:
            await connection.execute(OPEN, NOON.date(), NOON.date())
        assert refused.value.sqlstate in {"42501", "42883"}
    finally:
        await connection.close()


async def test_partitions_are_opened_once_and_walled_like_their_parents(
    platform: "asyncpg.Connection[asyncpg.Record]", own_admin: Admin
) -> None:
    before = await parts(own_admin)
    assert await platform.fetch(OPEN, NOON.date(), NOON.date()) == []
    day = (NOON + LONG_AHEAD).date()
    opened = {row[0] for row in await platform.fetch(OPEN, day, day)}
    assert opened
    assert await platform.fetch(OPEN, day, day) == []
    after = await parts(own_admin)
    assert after.keys() - before.keys() == opened
    tables = {row["parent"] for row in after.values()}
    assert tables >= {"audit", "outbox", "appointment", "appointment_history", "check_in"}
    for row in after.values():
        assert row["enabled"], row["part"]
        assert row["forced"], row["part"]
        wall = await policies(own_admin, row["part"])
        assert wall == await policies(own_admin, row["parent"])
        assert wall
    granted = await own_admin.fetch(
        "select relname from pg_class where relname = any($1::text[])"
        " and (has_table_privilege('cliniq_clinic', oid, 'select')"
        " or has_table_privilege('cliniq_person', oid, 'select')"
        " or has_table_privilege('cliniq_platform', oid, 'select'))",
        list(after),
    )
    assert granted == []


async def test_partitions_follow_one_another_without_a_gap_and_reach_as_far_as_they_must(
    own_urls: Urls, own_admin: Admin
) -> None:
    rows = (await parts(own_admin)).values()
    now = datetime.now(UTC)  # noqa: TID251 - the migration read the machine's clock
    for table in await own_admin.fetch("select table_name, ahead from partitioned"):
        bounds = sorted(
            tuple(row["bound"].split("'")[1::2])
            for row in rows
            if row["parent"] == table["table_name"]
        )
        for (_, ended), (begun, _) in pairwise(bounds):
            assert ended == begun, table["table_name"]
        first, last = bounds[0][0], bounds[-1][1]
        assert first <= str(now - timedelta(days=2)), table["table_name"]
        assert last > str(now + table["ahead"]), table["table_name"]


async def test_upkeep_looks_ahead_of_each_clock_for_what_that_clock_moves(
    own_urls: Urls, own_admin: Admin, hands: Hands
) -> None:
    clock_of = {
        row["table_name"]: row["clock"]
        for row in await own_admin.fetch("select table_name, clock from partitioned")
    }
    async with house_of(own_urls) as house:
        await upkeep(house.entrance.database)

        async def opened() -> set[str]:
            found = await upkeep(house.entrance.database)
            return {clock_of[name.rpartition("_")[0]] for name in found}

        assert await opened() == set()
        hands.clinic += timedelta(days=100)
        assert await opened() == {"clinic"}
        assert await opened() == set()
        hands.wall += timedelta(days=100)
        assert await opened() == {"wall"}
        assert await opened() == set()


async def test_upkeep_drops_passes_that_nobody_used(
    house: House, admin: Admin, hands: Hands
) -> None:
    person = await admin.fetchval(
        "insert into person (person_id, given_name, family_name)"
        " values (gen_random_uuid(), 'a', 'b') returning person_id"
    )
    for number, seconds in ((b"stale", 0), (b"fresh", 1)):
        await admin.execute(
            "insert into live_pass values ($1, $2, gen_random_uuid(), $3)",
            number,
            person,
            NOON + timedelta(seconds=seconds),
        )
    await upkeep(house.entrance.database)
    left = await admin.fetch("select pass_hash from live_pass where person_id = $1", person)
    assert [row["pass_hash"] for row in left] == [b"fresh"]


async def test_row_for_a_day_without_a_partition_is_refused_and_taken_once_it_is_open(
    own_urls: Urls, own_admin: Admin, hands: Hands
) -> None:
    late = NOON + LONG_AHEAD
    add = (
        "insert into security_event (event_id, recorded_at, action, code, request_id)"
        " values (gen_random_uuid(), $1, '', '', '')"
    )
    with pytest.raises(asyncpg.CheckViolationError, match="no partition"):
        await own_admin.execute(add, late)
    moved = Clocks(lambda: late, lambda: late)
    async with house_of(own_urls, moved) as house:
        await upkeep(house.entrance.database)
    await own_admin.execute(add, late)
