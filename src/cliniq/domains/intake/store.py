"""The only SQL of the intake room. The clinic is the transaction's; no statement names it."""

from datetime import datetime
from uuid import UUID

from cliniq.domains.intake.models import (
    Counts,
    ImportKind,
    ImportRun,
    ImportState,
    Remark,
    RemarkColumns,
    StoredFile,
)
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.sql import sql


@sql("""
    insert into import_run (import_id, kind, source, digest, started_at, actor_id)
    values ($1, $2, $3, $4, $5, $6)
    on conflict (clinic_id, kind, digest) where state = 'running' do nothing
""")
async def add_run(
    unit: Unit,
    import_id: UUID,
    kind: ImportKind,
    source: str,
    digest: bytes,
    at: datetime,
    actor_id: UUID | None,
) -> None:
    """Begin an import; of two that begin with one source, one does."""


@sql("""
    select import_id, kind, source, state, read, written, known, refused, skipped, started_at,
        ended_at
    from import_run where kind = $1 and digest = $2 and state = 'running'
""")
async def find_running(unit: ReadUnit, kind: ImportKind, digest: bytes) -> ImportRun | None:
    """Find the import of a source that has not ended."""


@sql("""
    select import_id, kind, source, state, read, written, known, refused, skipped, started_at,
        ended_at
    from import_run where kind = $1 and digest = $2 and state = 'completed'
    order by started_at desc, import_id desc limit 1
""")
async def find_completed(unit: ReadUnit, kind: ImportKind, digest: bytes) -> ImportRun | None:
    """Find the latest import of a source that was read to its end."""


@sql("""
    select import_id, kind, source, state, read, written, known, refused, skipped, started_at,
        ended_at
    from import_run where import_id = $1
""")
async def find_run(unit: ReadUnit, import_id: UUID) -> ImportRun | None:
    """Find an import."""


@sql("""
    select import_id, kind, source, state, read, written, known, refused, skipped, started_at,
        ended_at
    from import_run where import_id = $1 for update
""")
async def hold_run(unit: Unit, import_id: UUID) -> ImportRun | None:
    """Find an import and keep others from going on with it. Locks: its row, until COMMIT."""


@sql("""
    select import_id, kind, source, state, read, written, known, refused, skipped, started_at,
        ended_at
    from import_run order by started_at desc, import_id desc limit $1
""")
async def list_runs(unit: ReadUnit, limit: int) -> list[ImportRun]:
    """List imports, the latest first."""


@sql("""
    update import_run set read = read + $2, written = written + $3, known = known + $4,
        refused = refused + $5, skipped = skipped + $6
    where import_id = $1
    returning import_id, kind, source, state, read, written, known, refused, skipped, started_at,
        ended_at
""")
async def advance(unit: Unit, import_id: UUID, read: int, counts: Counts) -> ImportRun:
    """Say how far an import has come."""


@sql("""
    update import_run set state = $2, ended_at = $3 where import_id = $1 and state = 'running'
    returning import_id, kind, source, state, read, written, known, refused, skipped, started_at,
        ended_at
""")
async def end_run(
    unit: Unit, import_id: UUID, state: ImportState, at: datetime
) -> ImportRun | None:
    """Say that an import is over; nothing where it was."""


@sql("""
    insert into import_remark (import_id, place, part, file, line, column_name, code, reason)
    select $1, * from unnest(
        $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[]
    )
""")
async def add_remarks(unit: Unit, import_id: UUID, remarks: RemarkColumns) -> None:
    """Write what is to be told of items."""


@sql("""
    select place, part, file, line, column_name as column, code, reason
    from import_remark where import_id = $1 and (place, part) > ($2, $3)
    order by place, part limit $4
""")
async def list_remarks(
    unit: ReadUnit, import_id: UUID, place: int, part: int, limit: int
) -> list[Remark]:
    """List what is to be told of items, in the order of the source."""


@sql("""
    insert into import_file (import_id, name, reading, body) values ($1, $2, $3, $4)
    on conflict do nothing
""")
async def add_file(unit: Unit, import_id: UUID, file: StoredFile) -> None:
    """Keep a file until it is imported. Idempotent: of two who send it at once, both keep it."""


@sql("select name, reading, body from import_file where import_id = $1")
async def find_file(unit: ReadUnit, import_id: UUID) -> StoredFile | None:
    """Fetch a file that is kept."""


@sql("delete from import_file where import_id = $1")
async def drop_file(unit: Unit, import_id: UUID) -> None:
    """Keep a file no longer. Idempotent."""
