"""What the intake room knows of files and of what became of their rows."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from msgspec import field

from cliniq.kernel.record import Record


class ImportKind(StrEnum):
    """What a file brings."""

    PATIENTS = "patients"
    APPOINTMENTS = "appointments"


class ImportState(StrEnum):
    """How an import stands; `refused` where the file as a whole cannot be what it is taken for."""

    RUNNING = "running"
    COMPLETED = "completed"
    REFUSED = "refused"


class Reason(StrEnum):
    """Why a row, or a whole file, is not taken; beside the codes of the rooms that refuse it."""

    COLUMNS_WRONG = "COLUMNS_WRONG"
    ENCODING_INVALID = "ENCODING_INVALID"
    FILE_CUT = "FILE_CUT"
    FORMULA_FOUND = "FORMULA_FOUND"
    JSON_INVALID = "JSON_INVALID"
    NUMBERS_CONFLICT = "NUMBERS_CONFLICT"
    PATIENT_TWIN = "PATIENT_TWIN"
    ROW_TOO_LONG = "ROW_TOO_LONG"
    VALUE_INVALID = "VALUE_INVALID"
    VALUE_MISSING = "VALUE_MISSING"


class IdentifierColumn(Record, frozen=True, forbid_unknown_fields=True):
    """A column that holds how somebody else numbers a patient (FHIR Identifier)."""

    column: str
    system: str
    kind: str | None = None


class Reading(Record, frozen=True, forbid_unknown_fields=True):
    """How a file is to be read. Without further words, columns are called as the fields are.

    `columns` names the column of a field, `formats` how its dates are written (as strptime has
    it), `values` what its words mean here, `constants` what is said of every row.
    `patient_system`: by whose number visits name their patients; else by record number.
    `mrn_system`: whose FHIR identifier is the clinic's own record number; else one is drawn.
    """

    delimiter: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    identifiers: Sequence[IdentifierColumn] = ()
    patient_system: str | None = None
    mrn_system: str | None = None


class Row(Record, frozen=True):
    """A row of a table: what stands under each column."""

    line: int
    cells: Mapping[str, str]


class Resource(Record, frozen=True):
    """A FHIR resource that is a patient, as it was written."""

    line: int
    body: bytes


class Skipped(Record, frozen=True):
    """Something sound that is not asked for: a FHIR resource of another kind, an empty line."""


class Fault(Record, frozen=True):
    """What is wrong with a row. `column` is a column's name or a path in a resource.

    `reason` is a sentence without what stood there: a file's content is nobody's to see twice.
    """

    line: int
    column: str | None
    code: str
    reason: str


class Hopeless(Record, frozen=True):
    """What is wrong with a whole file: nothing behind it can be read as what it is taken for."""

    fault: Fault


Found: TypeAlias = Row | Resource | Skipped | Fault | Hopeless


class Item(Record, frozen=True):
    """What was found in a file of a source, in the order in which it stands there."""

    file: str
    found: Found


class Remark(Record, frozen=True):
    """What is to be told of an item, by its place in the source, counted from 0.

    Several may be told of one; `file` is told where a source has several.
    """

    place: int
    part: int
    file: str
    line: int
    column: str | None
    code: str
    reason: str


class Source(Record, frozen=True):
    """What is imported: what it is called, and a digest of all that it says and how it is read."""

    name: str
    digest: bytes


class Counts(Record, frozen=True):
    """What became of so many items: together they are as many as were read.

    `twins` are known too: somebody who came earlier in the same source.
    """

    written: int = 0
    known: int = 0
    refused: int = 0
    skipped: int = 0


class ImportRun(Record, frozen=True):
    """An import, as far as it has come. `read`: items that are done with, written or not."""

    import_id: UUID
    kind: ImportKind
    source: str
    state: ImportState
    read: int
    written: int
    known: int
    refused: int
    skipped: int
    started_at: datetime
    ended_at: datetime | None


class StoredFile(Record, frozen=True):
    """A file that waits for its import: its name, how it is to be read (JSON), and its bytes."""

    name: str
    reading: str
    body: bytes


class Kept(Record, frozen=True):
    """Whose file is kept until its import has ended."""

    import_id: UUID


class RemarkColumns(Record, frozen=True):
    """Many remarks as one statement takes them: a list for each column, all equally long."""

    places: list[int]
    parts: list[int]
    files: list[str]
    lines: list[int]
    columns: list[str | None]
    codes: list[str]
    reasons: list[str]


class RemarkPage(Record, frozen=True):
    """A page of remarks, in the order of the source; `next_cursor` is none on the last."""

    items: list[Remark]
    next_cursor: str | None


class RemarkMark(Record, frozen=True):
    """Where a page of remarks ended."""

    place: int
    part: int
