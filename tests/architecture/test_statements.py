"""Every statement agrees with schema and types, and stays in its room; who does not is found."""

import gc
import re
from collections.abc import Callable
from datetime import date, datetime
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID

import asyncpg
import pytest
from asyncpg.prepared_stmt import PreparedStatement

from cliniq.domains.queue.models import EntryStatus, Place
from cliniq.kernel.record import Record
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import Statement, columns, is_record, row_type
from tests.architecture.declared import same
from tests.architecture.statements import STATEMENTS, AnyStatement, bare, room_of, sinful
from tests.support import Admin

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
    "patients": "draw_mrns fold_name give_mrn guardianship mrn_roll patient patient_identifier",
    "scheduling": "booking claim resource slot_span",
    "appointments": "appointment appointment_history appointment_reference",
    "queue": (
        "count_ahead count_in_stretch cut_stretches follow_who_comes follow_who_moves note_move "
        "queue queue_entry queue_stretch show_board"
    ),
    "checkin": "check_in check_in_claim check_in_rule",
    "intake": "import_file import_remark import_run",
    "events": "audit open_partitions outbox outbox_held partitioned record_denial schema_step "
    "security_event",
    "idempotency": "claim_key drop_stale_keys idempotency_key",
    "jobs": "finish_job job_pace job_progress job_tick job_turn lane_now pgqueuer pgqueuer_log"
    " pgqueuer_schedules pgqueuer_statistics promise_any_jobs promise_jobs put_jobs rank_jobs"
    " take_turns wind_back_turns",
    "limits": "limit_window",
    "live": "live_epoch live_pass",
    "messages": "outgoing_message",
    "partitions": "detach_partition detached_partition drop_partition list_partitions "
    "read_partition take_time",
    "processes": "process",
    "rehearsal": "mark_rehearsal rehearsal",
    "relay": "relay relay_lease",
}
# An appointment is found by the start that its booking holds, so that one partition is read.
LENT = {"appointments": {"booking"}}


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
    written = re.findall(
        r"\b(?:insert into|(?<!for )update|delete from) (\w+)", bare(statement.text)
    )
    assert set(written) - {"skip", "set"} <= own


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
    ground = (
        "admit_platform current_clinic current_person wall_in is_seated_in prove_session "
        "take_own_seat take_seat take_work_seat"
    )
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
