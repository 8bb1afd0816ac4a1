"""The only door into the intake room: for composition roots, nobody else depends on it."""

from cliniq.domains.intake.errors import FileKindUnknown, ImportDone, ImportNotFound, ReadingInvalid
from cliniq.domains.intake.models import (
    IdentifierColumn,
    ImportKind,
    ImportRun,
    ImportState,
    Reading,
    Remark,
    Source,
)
from cliniq.domains.intake.readers import (
    BROKEN,
    ENDINGS,
    Counted,
    File,
    FileKind,
    Unreadable,
    kind_of,
    pieces_of,
    unpacked,
)
from cliniq.domains.intake.rules import ensure_readable
from cliniq.domains.intake.service import (
    BATCH,
    Delivery,
    bring_in,
    get_import,
    read_reading,
    source_of,
)
from cliniq.domains.intake.store import list_remarks, list_runs

__all__ = [
    "BATCH",
    "BROKEN",
    "ENDINGS",
    "Counted",
    "Delivery",
    "File",
    "FileKind",
    "FileKindUnknown",
    "IdentifierColumn",
    "ImportDone",
    "ImportKind",
    "ImportNotFound",
    "ImportRun",
    "ImportState",
    "Reading",
    "ReadingInvalid",
    "Remark",
    "Source",
    "Unreadable",
    "bring_in",
    "ensure_readable",
    "get_import",
    "kind_of",
    "list_remarks",
    "list_runs",
    "pieces_of",
    "read_reading",
    "source_of",
    "unpacked",
]
