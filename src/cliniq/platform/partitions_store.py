"""The only SQL of the life of partitions: the owner's functions, called in the platform's name."""

from datetime import date, datetime

from cliniq.kernel.record import Record
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


class Partition(Record, frozen=True):
    """A part of a table, or what was one and waits to be archived. It ends before `ends_on`.

    `is_due`: its time has come. `blocks`: its size, by which it is read. `columns`: a CSV header.
    """

    part: str
    table_name: str
    parting: str
    starts_on: date
    ends_on: date
    is_attached: bool
    is_due: bool
    blocks: int
    columns: str


@sql("""
    select part, table_name, parting, starts_on, ends_on, is_attached, is_due, blocks, columns
    from list_partitions($1, $2)
""")
async def list_partitions(unit: ReadUnit, clinic_day: date, wall_day: date) -> list[Partition]:
    """List the partitions, and the former ones that wait, by name."""


@sql("select detach_partition($1, $2, $3, $4)")
async def detach_partition(
    unit: Unit, part: str, clinic_day: date, wall_day: date, wall: datetime
) -> str:
    """Take a partition off its table; say what became of it: detached, dropped or not empty."""


@sql("select read_partition($1, $2, $3)")
async def read_partition(unit: ReadUnit, part: str, first_block: int, blocks: int) -> list[str]:
    """Read rows of a detached partition as CSV, as they lie in some of its blocks."""


@sql("select drop_partition($1, $2, $3, $4, $5)")
async def drop_partition(
    unit: Unit, part: str, rows: int, sha256: str, address: str, wall: datetime
) -> int:
    """Drop a detached partition, whose archive was verified and has as many rows."""


@sql("select take_time($1)")
async def take_time(unit: Unit, minutes: int) -> int:
    """Let this transaction's statements take longer than the login's."""
