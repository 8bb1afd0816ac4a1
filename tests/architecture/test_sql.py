"""SQL stands in stores only; it leaves the clinic and the clock alone, and readers' SQL only reads.

Each of these checks was seen to find a sin.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cliniq.platform.db import ReadUnit, Unit
from tests.architecture.declared import CLOCK, same
from tests.architecture.statements import SRC, STATEMENTS, AnyStatement, bare, sinful

# They make what has no clinic yet: the clinic itself, and its first members. Or they are in no
# clinic's scope, and move a row with the clinic that it has.
NAME_THE_CLINIC = {
    "cliniq.domains.clinics.store.add_clinic",
    "cliniq.domains.access.store.add_membership",
    "cliniq.platform.events_store.set_aside",
    "cliniq.platform.events_store.put_back",
}

SPEAK_SQL = set(
    "db events_store health idempotency_store jobs_store limits_store live_store "
    "messages_store migrate partitions_store processes_store provision rehearsal rehearsal_store "
    "relay_store sql".split()
)


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
    found = [name for name, text in texts.items() if CLOCK.search(re.sub("--.*", "", text))]
    # Jobs wait by the server's clock, which is one for all workers.
    same({name.partition(":")[0] for name in found}, {"0012_jobs.sql", "platform/jobs_store.py"})


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
