"""Routes of the intake room."""

from typing import Annotated
from uuid import UUID

from fastapi import Query
from starlette.requests import Request

from cliniq.domains.intake import errors, jobs, service
from cliniq.domains.intake.models import ImportKind, ImportRun, Kept, RemarkPage, StoredFile
from cliniq.domains.intake.schemas import FileName, ReadingText
from cliniq.kernel.permissions import Permission
from cliniq.kernel.problem import Forbidden
from cliniq.platform.db import ReadUnit, Unit
from cliniq.platform.http.guards import entrance_of, may, may_read
from cliniq.platform.http.problems import problems
from cliniq.platform.http.route import room
from cliniq.platform.http.terms import terms

router = room("/patients", "intake")

LARGEST_FILE = 16 << 20  # bytes; larger ones come by the command line

MayRead = Annotated[ReadUnit, may_read(Permission.PATIENTS_IMPORT)]


@router.post(
    "/import",
    status_code=202,
    responses=problems(
        Forbidden,
        errors.FileKindUnknown,
        errors.ReadingInvalid,
        errors.ImportRunning,
        errors.ImportDone,
    ),
    **terms(largest_file=LARGEST_FILE),
)
async def create_import(
    unit: Annotated[Unit, may(Permission.PATIENTS_IMPORT)],
    request: Request,
    file_name: FileName = "patients.ndjson",
    reading: ReadingText = "{}",
) -> ImportRun:
    """Import patients from a file (FHIR NDJSON or bundle, CSV; gzip or not): the body is the file.

    Its name says how it is written; `reading` (JSON) how its columns are called.
    """
    file = StoredFile(file_name, reading, await request.body())
    run = await service.keep_file(unit, ImportKind.PATIENTS, file)
    await jobs.IMPORT.later(unit, Kept(run.import_id), key=str(run.import_id))
    return run


@router.get("/imports", responses=problems(Forbidden))
async def list_imports(
    unit: MayRead, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> list[ImportRun]:
    """List the clinic's imports, the latest first."""
    return await service.list_imports(unit, limit)


@router.get("/imports/{import_id}", responses=problems(Forbidden, errors.ImportNotFound))
async def get_import(unit: MayRead, import_id: UUID) -> ImportRun:
    """Read how far an import has come, and what became of its rows."""
    return await service.get_import(unit, import_id)


@router.get("/imports/{import_id}/remarks", responses=problems(Forbidden, errors.ImportNotFound))
async def list_import_remarks(
    unit: MayRead,
    request: Request,
    import_id: UUID,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> RemarkPage:
    """List the rows that were refused, and why: file, line and column, never what stood there."""
    keyring = entrance_of(request).keyring
    return await service.list_remarks(unit, keyring, import_id, limit, cursor)
