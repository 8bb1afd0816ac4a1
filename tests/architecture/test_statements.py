"""Every statement agrees with schema and types, stays in its room, and leaves the clinic alone.

The clock, too. SQL stands in stores only. Each of these checks was seen to find a sin.
"""

import ast
import gc
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

import asyncpg
import pytest
from asyncpg.prepared_stmt import PreparedStatement

import cliniq
from cliniq.domains.queue.models import EntryStatus, Place
from cliniq.kernel.record import Record
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import Statement, columns, is_record, row_type
from tests.architecture.catalogue import CLOCK, same
from tests.support import Admin

SRC = Path(__file__).parents[2] / "src/cliniq"
AnyStatement = Statement[Any, ..., Any]

PYTHON_OF = {
    "bool": bool,
    "bytea": bytes,
    "date": date,
    "int8": int,
    "jsonb": str,
    "text": str,
    "timestamptz": datetime,
    "uuid": UUID,
}

# Whose tables and routines they are: nobody else's statements may name them.
OWNED = {
    "identity": "account person session",
    "clinics": "check_in_point clinic site",
    "access": "installation_role membership practitioner role_grant",
    "patients": "guardianship patient",
    "scheduling": "booking claim resource slot_span",
    "appointments": "appointment appointment_history",
    "queue": "count_ahead queue queue_entry show_board",
    "checkin": "check_in check_in_claim check_in_rule",
    "events": "audit open_partitions outbox partitioned record_denial schema_step security_event",
    "live": "live_pass",
}
# An appointment is found by the start that its booking holds, so that one partition is read.
LENT = {"appointments": {"booking"}}

# They make what has no clinic yet: the clinic itself, and its first members.
NAME_THE_CLINIC = {
    "cliniq.domains.clinics.store.add_clinic",
    "cliniq.domains.access.store.add_membership",
}

SPEAK_SQL = {"db", "events_store", "health", "live_store", "migrate", "provision", "sql"}

MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(cliniq.__path__, "cliniq.")
]
STATEMENTS: dict[str, AnyStatement] = {
    thing.name: thing
    for module in MODULES
    for thing in vars(module).values()
    if isinstance(thing, Statement)
}


def room_of(statement: AnyStatement) -> str:
    """The room of a store: `cliniq.domains.<room>.store` or `cliniq.platform.<room>_store`."""
    *_, room, store = statement.name.split(".")[:-1]
    return room if store == "store" else store.removesuffix("_store")


def bare(text: str) -> str:
    """SQL without comments and literals, on one line."""
    return " ".join(re.sub(r"--.*|'[^']*'", "", text).lower().split())


# --- agreement with the schema --------------------------------------------------------------------


async def ensure_agrees(db: Admin, statement: AnyStatement) -> None:
    """Have PostgreSQL compile it; compare parameters and columns with the Python types."""
    async with db.acquire() as connection:
        prepared = await connection.prepare(statement.text)
        takes = [python_of(each.name) for each in prepared.get_parameters()]
        gives = [(each.name, python_of(each.type.name)) for each in prepared.get_attributes()]
        may_be_null = await nullable(connection, prepared)
    assert takes == [plain(kind) for kind in statement.parameters]
    row = row_type(statement.returns)
    if row is NoneType:
        return
    kinds = columns(row)
    if is_record(row):
        assert [name for name, _ in gives] == list(row.__struct_fields__)
    assert [kind for _, kind in gives] == [plain(kind) for kind in kinds]
    if not is_record(row) and NoneType in get_args(statement.returns):
        return  # nothing found, or found nothing
    lied = [
        name
        for (name, _), kind in zip(gives, kinds, strict=True)
        if name in may_be_null and NoneType not in get_args(kind)
    ]
    assert lied == []


def python_of(name: str) -> Any:
    element = name.removesuffix("[]")
    return list[PYTHON_OF[element]] if element != name else PYTHON_OF[name]  # type: ignore[valid-type]


def plain(kind: Any) -> Any:
    """Strip NewType, Literal, StrEnum and `| None` from a type hint."""
    if get_origin(kind) in {Union, UnionType}:
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
    if get_origin(kind) is list:
        return list[plain(get_args(kind)[0])]  # type: ignore[misc]
    if get_origin(kind) is Literal:
        return type(get_args(kind)[0])
    kind = getattr(kind, "__supertype__", kind)
    return next(base for base in kind.__mro__ if base in PYTHON_OF.values())


async def nullable(connection: Any, prepared: "PreparedStatement[Any]") -> set[str]:
    """The answer's columns that come from a column of a table that may be NULL.

    PostgreSQL tells of each column where it comes from; asyncpg keeps that to itself. What is
    computed, or NULL by an outer join, is not known.
    """
    kept = gc.get_referents(prepared._state)  # type: ignore[attr-defined] # noqa: SLF001
    rows = [row for each in kept if isinstance(each, list) for row in each]
    described = [row for row in rows if isinstance(row, tuple) and isinstance(row[0], bytes)]
    assert len(described) == len(prepared.get_attributes())
    origins = {(table, number): name.decode() for name, table, number, *_ in described}
    null = await connection.fetch(
        "select attrelid, attnum from pg_attribute where attrelid = any($1) and not attnotnull",
        [table for table, _ in origins],
    )
    return {origins[place] for row in null if (place := tuple(row)) in origins}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_statement_agrees_with_the_schema(admin: Admin, name: str) -> None:
    await ensure_agrees(admin, STATEMENTS[name])


class Seat(Record, frozen=True):
    entry_id: UUID
    room: str


async def by_id(unit: ReadUnit, entry_id: UUID) -> Place | None:
    raise NotImplementedError


async def ticket_by_text(unit: ReadUnit, entry_id: str) -> int | None:
    raise NotImplementedError


async def ticket(unit: ReadUnit, entry_id: UUID) -> int | None:
    raise NotImplementedError


async def ticket_as_text(unit: ReadUnit, entry_id: UUID) -> str | None:
    raise NotImplementedError


async def rooms(unit: ReadUnit, entry_id: UUID) -> list[str]:
    raise NotImplementedError


async def called(unit: Unit, entry_id: UUID) -> Seat:
    raise NotImplementedError


async def one_of(unit: ReadUnit, entry_ids: list[str]) -> list[EntryStatus]:
    raise NotImplementedError


DISAGREE = [
    ("select entry_id, ticket from queue_entry where entry_id = $1", by_id),
    ("select tiket from queue_entry where entry_id = $1", ticket),
    ("select ticket from queue_entry where entry_id = $1", ticket_by_text),
    ("select ticket from queue_entry where entry_id = $1", ticket_as_text),
    ("select ticket from queue_entry where entry_id = $1 and ticket = $2", ticket),
    ("select ticket, priority from queue_entry where entry_id = $1", ticket),
    ("select room from queue_entry where entry_id = $1", rooms),
    ("select room, entry_id from queue_entry where entry_id = $1", called),
    ("select status from queue_entry where entry_id = any($1)", one_of),
    (
        (
            "with c as (update queue_entry set priority = 1 where entry_id = $1 returning *)"
            " select entry_id, room from c"
        ),
        called,
    ),
]


@pytest.mark.parametrize(("text", "function"), DISAGREE)
async def test_statement_that_disagrees_is_found(
    admin: Admin, text: str, function: Callable[..., object]
) -> None:
    with pytest.raises((AssertionError, asyncpg.UndefinedColumnError)):
        await ensure_agrees(admin, Statement(text, function))


# --- the room -------------------------------------------------------------------------------------


async def named(db: Admin, statement: AnyStatement) -> set[str]:
    """The tables and routines of ours that a statement names, as PostgreSQL understands it."""
    if call := re.match(r"\s*call (\w+)\(", statement.text):
        return {call[1]}
    async with db.acquire() as connection:
        prepared = await connection.prepare(statement.text)
        takes = ", ".join(each.name for each in prepared.get_parameters())
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(
                f"create procedure pg_temp.probe({takes}) begin atomic {statement.text}; end"
            )
            found = await connection.fetch("""
                select coalesce(relname, proname)::text as name from pg_depend
                left join pg_class as c on refclassid = 'pg_class'::regclass and c.oid = refobjid
                left join pg_proc as p on refclassid = 'pg_proc'::regclass and p.oid = refobjid
                where objid = 'pg_temp.probe'::regproc and coalesce(relnamespace, pronamespace)
                    = 'public'::regnamespace
            """)
        finally:
            await transaction.rollback()
    return {row["name"] for row in found}


async def ensure_stays_in_its_room(db: Admin, statement: AnyStatement) -> None:
    room = room_of(statement)
    own = set(OWNED[room].split())
    assert await named(db, statement) <= own | LENT.get(room, set())
    written = re.findall(r"\b(?:insert into|update|delete from) (\w+)", bare(statement.text))
    assert set(written) - {"skip"} <= own


@pytest.mark.parametrize("name", STATEMENTS)
async def test_statement_stays_in_its_room(admin: Admin, name: str) -> None:
    await ensure_stays_in_its_room(admin, STATEMENTS[name])


async def test_every_table_and_routine_has_a_room(admin: Admin) -> None:
    found = await admin.fetch("""
        select relname::text as name from pg_class
        where relkind in ('r', 'p') and not relispartition
            and relnamespace = 'public'::regnamespace
        union all
        select proname from pg_proc where pronamespace = 'public'::regnamespace
    """)
    ground = "admit_platform current_clinic wall_in prove_session take_own_seat take_seat"
    rooms = [name for names in OWNED.values() for name in names.split()]
    assert len(rooms) == len(set(rooms))
    same((row["name"] for row in found), {*rooms, *ground.split()})


@pytest.mark.parametrize(
    ("room", "text"),
    [
        ("queue", "select status from appointment"),
        ("appointments", "update booking set starts_at = starts_at"),
        ("appointments", "delete from booking where booking_id in (select null::uuid)"),
        ("checkin", "select e.ticket from check_in_claim join queue_entry as e using (patient_id)"),
        ("scheduling", "select 1 from booking where exists (select from patient)"),
        ("queue", "select slot_span(1, entered_at, entered_at) from queue_entry"),
        ("patients", "call record_denial(null, null, null, '', '', '', '', null, null)"),
    ],
)
async def test_statement_that_leaves_its_room_is_found(admin: Admin, room: str, text: str) -> None:
    with pytest.raises(AssertionError):
        await ensure_stays_in_its_room(admin, sinful(text, room))


def sinful(
    text: str, room: str, function: Callable[..., object] = ticket, name: str = "sin"
) -> AnyStatement:
    """A statement as if it stood in a room's store."""
    statement: AnyStatement = Statement(text, function)
    statement.name = f"cliniq.domains.{room}.store.{name}"
    return statement


# --- the clinic -----------------------------------------------------------------------------------

INSERTS = re.compile(r"insert into \w+ \(([^)]*)\)")
COMPARES = re.compile(
    r"clinic_id (?:=|<>|<|>|in|is|any|between)\s*(\S+)|(\S+) = (?:\w+\.)?clinic_id"
)
COLUMN = re.compile(r"(?:\w+\.)?clinic_id,?|\w+\.clinic_id")


def ensure_leaves_the_clinic_alone(statement: AnyStatement) -> None:
    """The policy filters by the clinic and the default inserts it; columns may be compared."""
    if statement.name in NAME_THE_CLINIC:
        return
    text = bare(statement.text)
    assert not any("clinic_id" in columns for columns in INSERTS.findall(text))
    others = [one or other for one, other in COMPARES.findall(text)]
    assert all(COLUMN.fullmatch(other) for other in others)
    assert "current_clinic" not in text
    assert "current_setting" not in text
    assert not re.search(r"set_config|\bset (?:local |role)", text)


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_leaves_the_clinic_alone(name: str) -> None:
    ensure_leaves_the_clinic_alone(STATEMENTS[name])


@pytest.mark.parametrize(
    "text",
    [
        "select name from site where clinic_id = $1",
        "select name from site where $1 = clinic_id",
        "select name from site as s where s.site_id = $2 and s.clinic_id = $1",
        "select name from site where clinic_id = any($1)",
        "select name from site where clinic_id in ($1)",
        "select name from site where clinic_id is not null",
        "select name from site where clinic_id = (select clinic_id from clinic limit 1)",
        "select name from site where clinic_id = current_clinic()",
        "select current_setting('cliniq.clinic_id')",
        "select set_config('cliniq.clinic_id', $1, true)",
        "insert into site (clinic_id, site_id) values ($1, $2)",
        "with x as (insert into site (site_id, clinic_id) values ($1, $2)) select 1",
        "update site set clinic_id = $1",
        "set local role cliniq_platform",
    ],
)
def test_statement_that_names_the_clinic_is_found(text: str) -> None:
    with pytest.raises(AssertionError):
        ensure_leaves_the_clinic_alone(sinful(text, "clinics"))


# --- reading --------------------------------------------------------------------------------------

WRITES = re.compile(
    r"\b(?:insert|update|delete|merge|truncate|lock|call|copy|nextval|setval|share|set)\b"
)


def ensure_reads_only(statement: AnyStatement) -> None:
    """What is typed as a reader's changes nothing and holds nothing."""
    if statement.unit is ReadUnit:
        assert not WRITES.search(bare(statement.text))


@pytest.mark.parametrize("name", STATEMENTS)
def test_readers_statement_only_reads(name: str) -> None:
    assert STATEMENTS[name].unit in {ReadUnit, Unit}
    ensure_reads_only(STATEMENTS[name])


@pytest.mark.parametrize(
    "text",
    [
        "insert into site (site_id) values ($1)",
        "with x as (update site set name = '' returning name) select name from x",
        "delete from claim",
        "select ticket from queue_entry where entry_id = $1 for update",
        "select ticket from queue_entry where entry_id = $1 for share",
        "select nextval('outbox_number')",
        "call record_denial($1)",
    ],
)
def test_readers_statement_that_writes_is_found(text: str) -> None:
    with pytest.raises(AssertionError):
        ensure_reads_only(sinful(text, "queue"))


# --- where SQL stands, and which clock it reads ---------------------------------------------------

IS_SQL = re.compile(
    r"\s*(?:select\s|insert\s+into\s|update\s+\w+\s+set\s|delete\s+from\s|merge\s+into\s"
    r"|with\s+\w+\s+as\s*\(|call\s+\w+\(|truncate\s|copy\s+\w+\s+(?:to|from)\s|lock\s+table\s"
    r"|(?:create|alter|drop)\s+(?:table|role|view|index|policy|function|procedure|database|schema)"
    r"|set\s+(?:local\s|role\s|session\s)|begin\s*(?:;|isolation|$)|commit\s*$|rollback\s*$)",
    re.IGNORECASE,
)


def sql_in(source: str) -> Iterator[tuple[int, str]]:
    """Strings that are SQL, with their lines; not docstrings."""
    tree = ast.parse(source)
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in prose:
            continue
        if isinstance(node.value, str) and IS_SQL.match(node.value):
            yield node.lineno, node.value


def may_speak_sql(file: Path) -> bool:
    parts = file.relative_to(SRC).parts
    in_room = parts[0] == "domains" and parts[2:] == ("store.py",)
    return in_room or (parts[:-1] == ("platform",) and file.stem in SPEAK_SQL)


def test_sql_stands_in_stores_only() -> None:
    astray = [
        f"{file.relative_to(SRC)}:{line}"
        for file in SRC.rglob("*.py")
        if not may_speak_sql(file)
        for line, _ in sql_in(file.read_text())
    ]
    assert astray == []


def test_every_statement_is_found_in_a_store() -> None:
    assert len(STATEMENTS) > 40
    for statement in STATEMENTS.values():
        assert room_of(statement) in OWNED
    texts = [text for file in SRC.rglob("*.py") for _, text in sql_in(file.read_text())]
    same((each.text for each in STATEMENTS.values() if each.text not in texts), ())


@pytest.mark.parametrize(
    "sin",
    [
        "await unit.connection.fetch('select 1')",
        "TEXT = '''\n  SELECT name\n  FROM site'''",
        "await c.execute(f'insert into {table} values (1)')",
        "await c.execute('update site set name = $1', name)",
        "run('delete from claim')",
        "run('with x as (select 1) select * from x')",
        "run('call take_seat(null)')",
        "run('set local role cliniq_platform')",
        "run('begin'); run('commit')",
        "run('create table x (y int)')",
    ],
)
def test_sql_outside_a_store_is_found(sin: str) -> None:
    assert list(sql_in(sin))


def test_prose_is_not_taken_for_sql() -> None:
    prose = '"""Select a visit."""\nsaid = "Update a set"\nhelp("Call the desk (now)")'
    assert list(sql_in(prose)) == []


def test_no_sql_reads_the_servers_clock() -> None:
    texts = {
        f"{file.relative_to(SRC)}:{line}": text
        for file in SRC.rglob("*.py")
        for line, text in sql_in(file.read_text())
    }
    texts |= {file.name: file.read_text() for file in SRC.glob("migrations/*.sql")}
    assert len(texts) > 70
    assert [name for name, text in texts.items() if CLOCK.search(re.sub("--.*", "", text))] == []


@pytest.mark.parametrize(
    "sin",
    [
        "select now()",
        "select CURRENT_DATE",
        "starts_at < Now ( )",
        "default current_timestamp(3)",
        "select timestamptz 'now'",
        "select localtime",
        "select clock_timestamp()",
    ],
)
def test_sql_that_reads_the_servers_clock_is_found(sin: str) -> None:
    assert CLOCK.search(sin)
    assert not CLOCK.search("known(), current_clinic(), recurrent_date, 'now and then'")
