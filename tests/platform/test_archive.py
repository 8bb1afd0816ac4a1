"""The end of a partition's life: detached, archived, read back, and only then dropped."""

import asyncio
import gzip
import hashlib
import io
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from rich.console import Console
from structlog.testing import capture_logs

from cliniq.app import House
from cliniq.cli.archives import archive_due
from cliniq.kernel.problem import NotFound
from cliniq.platform import partitions
from cliniq.platform.archive import Archive
from cliniq.platform.clock import Clocks
from cliniq.platform.migrate import migrate
from cliniq.platform.partitions import (
    ArchiveDiffers,
    Tally,
    archive_detached,
    detach_due,
    list_all,
)
from cliniq.platform.provision import provision
from cliniq.platform.source import Urls
from cliniq.platform.storage import Name
from cliniq.platform.upkeep import upkeep
from tests.conftest import BACKENDS, NAME, dsn_of, house_of, on_server
from tests.support import NOON, SECRET, Admin, Hands

ROWS = 3000  # several chunks, where a chunk is two blocks
ADD = """
    insert into security_event (event_id, recorded_at, actor_id, action, code, request_id)
    select gen_random_uuid(), $1::timestamptz + n * interval '1 second',
        case n % 3 when 0 then gen_random_uuid() end,
        (array['', 'a "quoted", word', E'two\\nlines', 'ümlaut', E'tab\\tand \\\\.'])[1 + n % 5],
        repeat('x', n % 40), n::text
    from generate_series(0, $2 - 1) as n
"""
AGES = itertools.count()
DETACH = "select detach_partition($1, $2, $3, $4)"


class Memory:
    """A storage in memory; it can lose what it was given."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.kinds: dict[str, str] = {}
        self.spoil: Callable[[bytes], bytes] = bytes
        self.spoilt = "nothing"
        self.largest = 0

    async def put(self, key: str, chunks: AsyncIterator[bytes], content_type: str) -> None:
        whole = b""
        async for chunk in chunks:
            self.largest = max(self.largest, len(chunk))
            whole += chunk
        self.objects[key] = self.spoil(whole) if self.spoilt in key else whole
        self.kinds[key] = content_type

    async def get(self, key: str) -> AsyncIterator[bytes]:
        whole = self.objects[key]
        for start in range(0, len(whole), 1000):
            yield whole[start : start + 1000]


@pytest.fixture(scope="module")
async def old_urls(server: str, urls: Urls) -> AsyncIterator[Urls]:
    """A database of this file's own, whose security events are kept for thirty days."""
    name = f"{NAME}_archive"
    application, owner = await provision(server, name)
    await migrate(owner, Clocks())
    await on_server(owner, "update partitioned set keep = '30 days' where table_name like 'sec%'")
    yield Urls(application, owner)
    await on_server(server, f"drop database {name} with (force)")


@pytest.fixture
async def old_admin(server: str, old_urls: Urls) -> AsyncIterator[Admin]:
    dsn = dsn_of(server, f"{NAME}_archive")
    async with asyncpg.create_pool(dsn, min_size=1, max_size=3) as pool:
        yield pool


@pytest.fixture
async def old_house(old_urls: Urls, hands: Hands) -> AsyncIterator[House]:
    async with house_of(old_urls) as house:
        yield house


@pytest.fixture
async def events(old_house: House, old_admin: Admin, hands: Hands) -> str:
    """A partition of rows whose time has come: its name. Each test has one of its own."""
    hands.wall = NOON + timedelta(weeks=100 + 20 * next(AGES))
    await upkeep(old_house.entrance.database)
    await old_admin.execute(ADD, hands.wall, ROWS)
    name = await old_admin.fetchval(
        "select tableoid::regclass::text from security_event where recorded_at >= $1", hands.wall
    )
    hands.wall += timedelta(days=38)
    assert isinstance(name, str)
    return name


async def attached(admin: Admin, name: str) -> bool | None:
    found = await admin.fetchrow("select relispartition from pg_class where relname = $1", name)
    return found["relispartition"] if found else None


# Whose time has come


async def test_partition_is_kept_until_its_time_has_come(
    old_house: House, old_admin: Admin, events: str, hands: Hands
) -> None:
    database = old_house.entrance.database
    hands.wall -= timedelta(days=8)
    assert events not in await detach_due(database)
    assert await attached(old_admin, events)
    hands.wall += timedelta(days=8)
    become = await detach_due(database)
    assert become[events] == "detached"
    assert await attached(old_admin, events) is False
    assert {name.rpartition("_")[0] for name in become} <= {"security_event", "outbox"}
    assert events not in await detach_due(database)


async def test_table_without_an_end_is_kept_for_ever(
    old_house: House, old_admin: Admin, hands: Hands
) -> None:
    hands.clinic = hands.wall = NOON + timedelta(days=36500)
    for each in await list_all(old_house.entrance.database):
        if each.table_name not in {"security_event", "outbox"}:
            assert not each.is_due, each.part


async def test_day_of_the_outbox_is_dropped_once_it_is_empty(
    old_house: House, old_admin: Admin, hands: Hands
) -> None:
    database = old_house.entrance.database
    hands.wall = now = NOON + timedelta(weeks=50)
    await upkeep(database)
    untold = f"outbox_{now:%Y%m%d}"
    add = (
        "insert into outbox (clinic_id, recorded_at, kind, subject_id, topic, version, body)"
        " values (gen_random_uuid(), $1, '', gen_random_uuid(), '', 1, '{}')"
    )
    await old_admin.execute(add, now)
    hands.wall = now + timedelta(days=2, hours=11)
    assert untold not in await detach_due(database)  # a day of 24 hours, and then two more
    hands.wall = now + timedelta(days=3)
    with capture_logs() as journal:
        become = await detach_due(database)
    assert become[untold] == "not empty"
    assert {what for name, what in become.items() if name != untold} <= {"dropped"}
    assert await attached(old_admin, untold)
    assert [each["outcome"] for each in journal if each["partition"] == untold] == ["not empty"]
    await old_admin.execute("delete from outbox")
    assert (await detach_due(database))[untold] == "dropped"
    assert await attached(old_admin, untold) is None


async def test_row_that_comes_while_a_day_is_put_away_is_never_lost(
    old_house: House, old_admin: Admin, hands: Hands
) -> None:
    """Whoever is writing holds the day; it is put away afterwards, and then it is not empty."""
    database = old_house.entrance.database
    hands.wall = NOON + timedelta(days=60)
    await upkeep(database)
    part = f"outbox_{hands.wall:%Y%m%d}"
    add = (
        "insert into outbox (clinic_id, recorded_at, kind, subject_id, topic, version, body)"
        " values (gen_random_uuid(), $1, '', gen_random_uuid(), '', 1, '{}')"
    )
    async with old_admin.acquire() as writer, writer.transaction():
        await writer.execute(add, hands.wall)
        hands.wall += timedelta(days=4)
        putting_away = asyncio.create_task(detach_due(database))
        await asyncio.sleep(1)
    assert (await putting_away)[part] == "not empty"
    assert await old_admin.fetchval(f"select count(*) from {part}") == 1  # noqa: S608
    await old_admin.execute("delete from outbox")


# Guards of the owner's functions


@pytest.fixture
async def platform(old_urls: Urls) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(old_urls.application)
    await connection.execute("set role cliniq_platform")
    yield connection
    await connection.close()


def days(hands: Hands) -> tuple[object, ...]:
    return hands.clinic.date(), hands.wall.date(), hands.wall


@pytest.mark.parametrize("name", ["patient", "security_event", "nothing", 'x"; drop table patient'])
async def test_what_is_no_partition_is_not_detached(
    platform: "asyncpg.Connection[asyncpg.Record]", hands: Hands, name: str
) -> None:
    with pytest.raises(asyncpg.RaiseError, match="is no partition"):
        await platform.fetchval(DETACH, name, *days(hands))


async def test_partition_that_is_to_be_kept_is_not_detached(
    platform: "asyncpg.Connection[asyncpg.Record]", old_admin: Admin, events: str, hands: Hands
) -> None:
    hands.wall -= timedelta(days=30)
    with pytest.raises(asyncpg.RaiseError, match="is to be kept"):
        await platform.fetchval(DETACH, events, *days(hands))
    for missing in range(4):
        asked: list[object] = [events, *days(hands)]
        asked[missing] = None
        with pytest.raises(asyncpg.RaiseError, match="something is missing"):
            await platform.fetchval(DETACH, *asked)


async def test_partition_in_use_is_neither_read_nor_dropped(
    platform: "asyncpg.Connection[asyncpg.Record]", events: str
) -> None:
    for name in (events, "patient", "nothing"):
        with pytest.raises(asyncpg.RaiseError, match="not waiting to be archived"):
            await platform.fetch("select read_partition($1, 0, 1)", name)
        with pytest.raises(asyncpg.RaiseError, match="not waiting to be archived"):
            await platform.fetch("select drop_partition($1, 0, $2, 'a', $3)", name, "0" * 64, NOON)


async def test_detached_partition_is_dropped_only_by_who_describes_its_archive(
    platform: "asyncpg.Connection[asyncpg.Record]",
    old_house: House,
    old_admin: Admin,
    events: str,
    hands: Hands,
) -> None:
    await detach_due(old_house.entrance.database)
    drop = "select drop_partition($1, $2, $3, $4, $5)"
    for rows, digest, address in (
        (None, "0" * 64, "a"),
        (ROWS, "0" * 63, "a"),
        (ROWS, None, "a"),
        (ROWS, "0" * 64, ""),
        (ROWS, "0" * 64, None),
    ):
        with pytest.raises(asyncpg.RaiseError, match="not described"):
            await platform.fetch(drop, events, rows, digest, address, hands.wall)
    with pytest.raises(asyncpg.RaiseError, match=f"has {ROWS} rows and its archive {ROWS - 1}"):
        await platform.fetch(drop, events, ROWS - 1, "0" * 64, "a", hands.wall)
    for first, blocks in ((-1, 1), (0, 0), (0, 1025), (2**32, 1)):
        with pytest.raises(asyncpg.RaiseError, match="out of bounds"):
            await platform.fetch("select read_partition($1, $2, $3)", events, first, blocks)
    for minutes in (0, 61, None):
        with pytest.raises(asyncpg.RaiseError, match="out of bounds"):
            await platform.fetch("select take_time($1)", minutes)
    assert await attached(old_admin, events) is False
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await platform.fetch(f"select * from {events}")  # noqa: S608


async def test_retention_shorter_than_what_is_opened_again_is_refused(old_admin: Admin) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await old_admin.execute("update partitioned set keep = '1 day' where table_name = 'audit'")


async def test_nobody_but_the_platform_ends_a_partition(urls: Urls) -> None:
    connection = await asyncpg.connect(urls.application)
    calls = (
        "list_partitions(null, null)",
        "detach_partition('', null, null, null)",
        "read_partition('', 0, 1)",
        "drop_partition('', 0, '', '', null)",
        "take_time(1)",
    )
    try:
        for role in ("cliniq_clinic", "cliniq_person"):
            await connection.execute(f"set role {role}")
            for call in calls:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(f"select {call}")
    finally:
        await connection.close()


# Busy tables


async def test_partition_that_is_being_read_is_detached_once_it_is_not_and_nobody_stalls(
    old_house: House, old_admin: Admin, events: str
) -> None:
    database = old_house.entrance.database
    async with old_admin.acquire() as reader, old_admin.acquire() as other:
        reading = reader.transaction()
        await reading.start()
        await reader.fetch("select from security_event limit 1")
        detaching = asyncio.create_task(detach_due(database))
        for _ in range(5):  # they queue behind us for half a second at most, and get their turn
            await other.execute("set statement_timeout = '5s'")
            await other.fetch("select from security_event limit 1")
            await asyncio.sleep(0.1)
        assert not detaching.done()
        await reading.rollback()
        assert (await detaching)[events] == "detached"


async def test_partition_that_stays_busy_is_left_for_later_and_its_neighbours_are_not(
    old_house: House, old_admin: Admin, events: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "TRIES", 2)
    monkeypatch.setattr(partitions, "PAUSE_SECONDS", 0.01)
    database = old_house.entrance.database
    async with old_admin.acquire() as reader, reader.transaction():
        await reader.fetch("select from security_event limit 1")
        become = await detach_due(database)
    assert become[events] == "busy"
    assert "dropped" in become.values()
    assert (await detach_due(database))[events] == "detached"


# The archive


async def test_archive_holds_every_row_and_restores_to_what_was(
    old_house: House, old_admin: Admin, events: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "BLOCKS_AT_ONCE", 2)
    database, storage = old_house.entrance.database, Memory()
    rows = await old_admin.fetch(f"select * from {events} order by event_id")  # noqa: S608
    await detach_due(database)
    steps: list[tuple[str, int, int]] = []
    manifests = await archive_detached(database, storage, lambda *step: steps.append(step))
    manifest = next(each for each in manifests if each.part == events)
    assert len([part for part, *_ in steps if part == events]) > 10
    assert storage.largest < 100_000  # never the whole

    packed = storage.objects[f"archive/security_event/{events}.csv.gz"]
    written = json.loads(storage.objects[f"archive/security_event/{events}.json"])
    plain = gzip.decompress(packed)
    assert manifest.rows == written["rows"] == ROWS
    assert written["sha256"] == hashlib.sha256(plain).hexdigest()
    assert written["size"] == len(plain)
    assert await attached(old_admin, events) is None
    kept = await old_admin.fetchrow(
        "select address, row_count, digest from detached_partition where part = $1", events
    )
    assert kept is not None
    assert tuple(kept) == (f"archive/security_event/{events}", ROWS, manifest.sha256)
    async with old_admin.acquire() as connection:
        await connection.execute("create temp table restored (like security_event)")
        await connection.copy_to_table(
            "restored", source=io.BytesIO(plain), format="csv", header=True
        )
        assert await connection.fetch("select * from restored order by event_id") == rows
        await connection.execute("drop table restored")


async def test_archive_of_the_same_rows_is_the_same(old_house: House, events: str) -> None:
    database, first, second = old_house.entrance.database, Memory(), Memory()
    await detach_due(database)
    (part,) = [each for each in await list_all(database) if each.part == events]
    for storage in (first, second):
        lines = partitions._lines(database, part, lambda *_: None)  # noqa: SLF001
        await storage.put("a", partitions._compressed(lines), "")  # noqa: SLF001
    assert first.objects == second.objects


@pytest.mark.parametrize(
    "harm",
    [
        lambda whole: gzip.compress(gzip.decompress(whole)[:-1]),
        lambda whole: gzip.compress(gzip.decompress(whole).replace(b"xx", b"xy", 1)),
        lambda whole: whole[: len(whole) // 2],
        lambda _whole: gzip.compress(b""),
    ],
    ids=["a byte short", "a byte changed", "cut", "empty"],
)
async def test_partition_whose_archive_is_not_what_was_written_stays(
    old_house: House, old_admin: Admin, events: str, harm: Callable[[bytes], bytes]
) -> None:
    database, storage = old_house.entrance.database, Memory()
    await detach_due(database)
    storage.spoil, storage.spoilt = harm, f"{events}.csv"
    with pytest.raises(ArchiveDiffers):
        await archive_detached(database, storage)
    assert await attached(old_admin, events) is False
    storage = Memory()
    assert events in {each.part for each in await archive_detached(database, storage)}
    assert await attached(old_admin, events) is None


async def test_empty_partition_is_archived_too(
    old_house: House, old_admin: Admin, events: str
) -> None:
    await old_admin.execute(f"truncate {events}")
    database, storage = old_house.entrance.database, Memory()
    await detach_due(database)
    manifests = {each.part: each for each in await archive_detached(database, storage)}
    assert manifests[events].rows == 0
    plain = gzip.decompress(storage.objects[f"archive/security_event/{events}.csv.gz"])
    assert plain == b"event_id,recorded_at,actor_id,action,code,request_id\n"


async def test_operator_sees_how_far_the_archiving_is(
    old_house: House, old_admin: Admin, events: str
) -> None:
    seen = io.StringIO()
    terminal = Console(file=seen, force_terminal=True, width=100)
    made = await archive_due(terminal, old_house.entrance.database, Memory())
    assert events in {each.part for each in made}
    assert events in seen.getvalue()
    assert "100%" in seen.getvalue()
    assert await attached(old_admin, events) is None
    journal = io.StringIO()
    assert await archive_due(Console(file=journal), old_house.entrance.database, Memory()) == []
    assert journal.getvalue() == ""


async def test_tally_counts_rows_however_they_are_cut() -> None:
    whole = b'a,b\n"1","one\ntwo ""three""\n"\n,""\n'
    for size in range(1, len(whole) + 1):
        tally = Tally()
        for start in range(0, len(whole), size):
            tally.add(whole[start : start + size])
        assert tally.counted() == (2, len(whole), hashlib.sha256(whole).hexdigest())


# What a partition is opened with


async def test_partition_is_vacuumed_as_its_table_asks(old_admin: Admin, events: str) -> None:
    found = await old_admin.fetch("""
        select t.table_name, bool_and(coalesce(reloptions, '{}') @>
            string_to_array(replace(vacuuming, ' ', ''), ',')) as so
        from partitioned as t join pg_inherits on inhparent = to_regclass(t.table_name)
        join pg_class as c on c.oid = inhrelid group by t.table_name
    """)
    assert len(found) > 5
    assert {each["table_name"]: each["so"] for each in found if not each["so"]} == {}


async def test_partition_gets_every_policy_word_for_word(
    old_house: House, old_admin: Admin, hands: Hands
) -> None:
    async with old_admin.acquire() as connection:
        await connection.execute(
            "create policy narrow on security_event as restrictive for select"
            " to cliniq_platform, cliniq_clinic using (code <> 'x');"
            "create policy adding on security_event for insert to cliniq_platform"
            " with check (code <> 'y')"
        )
    try:
        hands.wall = datetime(2099, 1, 1, tzinfo=UTC)
        opened = await upkeep(old_house.entrance.database)
        part = next(name for name in opened if name.startswith("security_event"))
        said = (
            "select policyname, permissive, roles, cmd, qual, with_check from pg_policies"
            " where tablename = $1 order by policyname"
        )
        assert await old_admin.fetch(said, part) == await old_admin.fetch(said, "security_event")
        assert len(await old_admin.fetch(said, part)) == 4
    finally:
        for name in ("narrow", "adding"):
            await old_admin.execute(f"drop policy {name} on security_event")


# In the object storage


async def test_archive_in_the_object_storage_is_read_back_and_the_partition_dropped(
    old_house: House, old_admin: Admin, events: str
) -> None:
    storage = old_house.entrance.storage
    await detach_due(old_house.entrance.database)
    done = await archive_detached(old_house.entrance.database, Archive(storage))
    assert events in {each.part for each in done}
    assert await attached(old_admin, events) is None
    kept = await storage.get(Name(f"archive/security_event/{events}.csv.gz"))
    assert kept is not None
    assert kept.media_type == "application/gzip"
    assert gzip.decompress(kept.body).count(b"\n") > ROWS


async def test_archive_that_is_not_there_is_not_found(old_house: House) -> None:
    with pytest.raises(NotFound):
        _ = [each async for each in Archive(old_house.entrance.storage).get("archive/none.csv.gz")]


async def test_operator_archives_from_the_command_line(
    old_urls: Urls, old_house: House, old_admin: Admin, events: str, tmp_path: Path
) -> None:
    await detach_due(old_house.entrance.database)
    settings = {
        "CLINIQ_DATABASE_URL": old_urls.application,
        "CLINIQ_SECRET": SECRET,
        "CLINIQ_STORAGE_URL": f"file:{tmp_path}",
        "CLINIQ_DATABASE_POOLER": "transaction" if BACKENDS.pooler else "none",
    }
    told = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cliniq.cli.main", "partitions", "archive"),
        env={"PATH": os.defpath, **settings},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await told.communicate()
    assert told.returncode == 0, said
    assert events in said.decode()
    assert (tmp_path / f"archive/security_event/{events}.csv.gz").stat().st_size > 0
    assert await attached(old_admin, events) is None
