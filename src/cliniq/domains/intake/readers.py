"""Reads files piece by piece into rows and resources, each with its line; bounded, whatever comes.

Nothing here knows of a database or a path: bytes come in, what was found goes out.
"""

import csv
import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from io import BytesIO
from typing import Any, Protocol, TypeAlias, cast

import msgspec

from cliniq.domains.intake.errors import FileKindUnknown
from cliniq.domains.intake.models import (
    Fault,
    Found,
    Hopeless,
    Item,
    Reason,
    Resource,
    Row,
    Skipped,
)
from cliniq.kernel.record import Record

LONGEST_LINE = 1 << 20  # bytes of a line: a row of a table, or a resource
LARGEST_DOCUMENT = 64 << 20  # bytes of a file that is one JSON document
MOST_COLUMNS = 500
DELIMITERS = ",;\t|"

TOO_LONG = "longer than a mebibyte"
_BYTE = re.compile(r" \(byte (\d+)\)")
_PATH = re.compile(r" - at `\$\.?(.*)`")


class FileKind(StrEnum):
    """How a file is written."""

    CSV = "csv"
    NDJSON = "ndjson"
    JSON = "json"


ENDINGS = {
    ".csv": FileKind.CSV,
    ".tsv": FileKind.CSV,
    ".ndjson": FileKind.NDJSON,
    ".jsonl": FileKind.NDJSON,
    ".json": FileKind.JSON,
}


BROKEN = (EOFError, gzip.BadGzipFile, zlib.error)


class Readable(Protocol):
    """What bytes can be read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Read on, at most so much."""


def kind_of(name: str) -> FileKind | None:
    """Say by its name how a file is written, packed (`.gz`) or not; nothing for other files."""
    plain = name.lower().removesuffix(".gz")
    return next((kind for end, kind in ENDINGS.items() if plain.endswith(end)), None)


def ensure_known(name: str) -> FileKind:
    """Say by its name how a file is written.

    Raises: FILE_KIND_UNKNOWN 409.
    """
    kind = kind_of(name)
    if kind is None:
        raise FileKindUnknown(list(ENDINGS))
    return kind


class Unreadable(Exception):
    """The bytes of a file end in the middle, or are not packed as its name says."""


class File(Record, frozen=True):
    """A file of a source: what it is called, how it is written, and its bytes as they come."""

    name: str
    kind: FileKind
    pieces: Iterable[bytes]


Judge: TypeAlias = Callable[[Sequence[str]], str | None]  # of the columns of a table


def list_items(files: Iterable[File], delimiter: str | None, judge: Judge) -> Iterator[Item]:
    """Read all files of a source, one after the other, and go on behind those that are broken."""
    for file in files:
        line = 0
        try:
            for found in _read(file, delimiter, judge):
                line = getattr(found, "line", line)
                yield Item(file.name, found)
        except Unreadable as error:
            yield Item(file.name, Hopeless(Fault(line + 1, None, Reason.FILE_CUT, str(error))))


def _read(file: File, delimiter: str | None, judge: Judge) -> Iterator[Found]:
    match file.kind:
        case FileKind.CSV:
            return read_table(file.pieces, delimiter, judge)
        case FileKind.NDJSON:
            return read_resources(file.pieces)
        case FileKind.JSON:
            return read_document(file.pieces)


PIECE = 1 << 20  # bytes that are unpacked at once


def pieces_of(file: Readable) -> Iterator[bytes]:
    """Read a file to its end."""
    while piece := file.read(PIECE):
        yield piece


def unpacked(file: Readable) -> Iterator[bytes]:
    """Read a file that is packed with gzip to its end, as it was before.

    Raises: Unreadable.
    """
    try:
        inside: Any = gzip.GzipFile(fileobj=cast("Any", file), mode="rb")  # it only reads
        with inside:
            yield from pieces_of(inside)
    except BROKEN as error:
        raise Unreadable(f"packed, and broken: {error}") from error


def unpack(name: str, body: bytes, note: Callable[[int], None]) -> File:
    """Make a file of one that is held in memory, packed or not; `note` hears what was read of it.

    Raises: FILE_KIND_UNKNOWN 409.
    """
    counted = Counted(BytesIO(body), note)
    is_packed = name.lower().endswith(".gz")
    return File(name, ensure_known(name), unpacked(counted) if is_packed else pieces_of(counted))


class Counted:
    """A file that tells how much of it was read."""

    def __init__(self, file: Readable, note: Callable[[int], None]) -> None:
        self._file, self._note = file, note

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        piece = self._file.read(size)
        self._note(len(piece))
        return piece


class Line(Record, frozen=True):
    """A line of a file, counted from 1; nothing where it is longer than anybody may write."""

    number: int
    body: bytes | None


def split_lines(pieces: Iterable[bytes]) -> Iterator[Line]:
    """Cut a file into lines, without ever holding one that is too long."""
    number, rest, is_over = 1, b"", False
    for piece in pieces:
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        for body in lines:
            whole = not is_over and len(body) <= LONGEST_LINE
            yield Line(number, body.removesuffix(b"\r") if whole else None)
            number, is_over = number + 1, False
        if len(rest) > LONGEST_LINE:
            rest, is_over = b"", True
    if rest or is_over:
        yield Line(number, None if is_over else rest.removesuffix(b"\r"))


# --- tables ---------------------------------------------------------------------------------------


def read_table(pieces: Iterable[bytes], delimiter: str | None, judge: Judge) -> Iterator[Found]:
    """Read a table with a head, in UTF-8; cells may be quoted, and hold line breaks then."""
    feed = _Feed(pieces)
    head = feed.head()
    if isinstance(head, Fault):
        yield Hopeless(head)
        return
    chosen = delimiter or max(DELIMITERS, key=head.count)
    names = [each.strip() for each in next(csv.reader([head], delimiter=chosen))]
    if said := _judge_head(names) or judge(names):
        yield Hopeless(Fault(1, None, Reason.COLUMNS_WRONG, said))
        return
    rows = csv.reader(feed, delimiter=chosen, strict=True)
    is_over = False
    while not is_over:
        feed.begin()
        found: Found | None
        try:
            found = _row(feed, names, next(rows))
        except StopIteration:
            found, is_over = None, True
        except csv.Error as error:
            found = Fault(feed.first, None, Reason.COLUMNS_WRONG, f"not a row: {error}")
        yield from feed.faults
        if found is not None:
            yield found


def _row(feed: "_Feed", names: Sequence[str], cells: Sequence[str]) -> Found:
    if feed.faults and feed.faults[-1].line > feed.first:
        return Fault(feed.first, None, Reason.COLUMNS_WRONG, "a line within this row is none")
    if not any(cells):
        return Skipped()
    if len(cells) != len(names):
        said = f"{len(cells)} cells under {len(names)} columns"
        return Fault(feed.first, None, Reason.COLUMNS_WRONG, said)
    return Row(feed.first, dict(zip(names, cells, strict=True)))


def _judge_head(names: list[str]) -> str | None:
    if len(names) > MOST_COLUMNS:
        return f"more than {MOST_COLUMNS} columns"
    if not all(names):
        return "a column without a name"
    return "two columns of one name" if len(set(names)) < len(names) else None


class _Feed:
    """Feeds lines of text to the reader of a table, and keeps back those that are none."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._lines = split_lines(pieces)
        self.begin()

    def begin(self) -> None:
        """Begin another row."""
        self.first = 0
        self.faults: list[Fault] = []

    def head(self) -> str | Fault:
        """Read the first line."""
        line = next(self._lines, Line(1, b""))
        if line.body is None:
            return Fault(1, None, Reason.ROW_TOO_LONG, TOO_LONG)
        text = _decode(line.number, line.body.removeprefix(b"\xef\xbb\xbf"))
        if isinstance(text, str) and not text.strip():
            return Fault(1, None, Reason.COLUMNS_WRONG, "no columns: the first line is empty")
        return text

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            text: str | Fault
            if line.body is None:
                text = Fault(line.number, None, Reason.ROW_TOO_LONG, TOO_LONG)
            else:
                text = _decode(line.number, line.body)
            if isinstance(text, Fault):
                self.faults.append(text)
                continue
            self.first = self.first or line.number
            yield text + "\n"


def _decode(number: int, body: bytes) -> str | Fault:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        said = f"not UTF-8 at byte {error.start + 1} of the line"
        return Fault(number, None, Reason.ENCODING_INVALID, said)
    if "\x00" in text:
        return Fault(number, None, Reason.ENCODING_INVALID, "a NUL in the line")
    return text


# --- FHIR -----------------------------------------------------------------------------------------


class _Kind(Record, frozen=True):
    """What a resource says of itself."""

    resourceType: str = ""  # noqa: N815 - as FHIR writes it


class _Entry(Record, frozen=True):
    """What stands in a bundle."""

    resource: msgspec.Raw = msgspec.Raw(b"{}")


class _Bundle(Record, frozen=True):
    """A document: a bundle of resources, or one resource."""

    resourceType: str = ""  # noqa: N815 - as FHIR writes it
    entry: list[_Entry] = msgspec.field(default_factory=list)


_KIND, _DOCUMENT = msgspec.json.Decoder(_Kind), msgspec.json.Decoder(_Bundle)


def read_resources(pieces: Iterable[bytes]) -> Iterator[Found]:
    """Read FHIR resources that stand one a line (NDJSON); only patients are handed on."""
    for line in split_lines(pieces):
        if line.body is None:
            yield Fault(line.number, None, Reason.ROW_TOO_LONG, TOO_LONG)
        elif not line.body.strip():
            yield Skipped()
        else:
            yield _resource(line.number, line.body.removeprefix(b"\xef\xbb\xbf"))


def _resource(number: int, body: bytes | msgspec.Raw) -> Found:
    try:
        kind = _KIND.decode(body).resourceType
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return fault_of(number, error)
    if not kind:
        return Fault(number, "resourceType", Reason.VALUE_MISSING, "not a FHIR resource")
    return Resource(number, bytes(body)) if kind == "Patient" else Skipped()


def read_document(pieces: Iterable[bytes]) -> Iterator[Found]:
    """Read a FHIR bundle of any type, or one patient; the document is held in memory."""
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > LARGEST_DOCUMENT:
            said = "a document of more than 64 MiB: have it written as NDJSON"
            yield Hopeless(Fault(1, None, Reason.ROW_TOO_LONG, said))
            return
    try:
        document = _DOCUMENT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        yield Hopeless(fault_of(_line_of(body, error), error))
        return
    if document.resourceType == "Patient":
        yield Resource(1, bytes(body))
    elif document.resourceType != "Bundle":
        said = "neither a Bundle nor a Patient"
        yield Hopeless(Fault(1, "resourceType", Reason.VALUE_INVALID, said))
    else:
        yield from _entries(document)


def _entries(bundle: _Bundle) -> Iterator[Found]:
    """Hand on a bundle's patients; their `line` is their place in the bundle, from 1."""
    for number, entry in enumerate(bundle.entry, 1):
        yield _resource(number, entry.resource)


def _line_of(body: bytearray, error: Exception) -> int:
    found = _BYTE.search(str(error))
    upto = int(found[1]) if found else len(body) if "truncated" in str(error) else 0
    return body.count(b"\n", 0, upto) + 1


def fault_of(line: int, error: Exception) -> Fault:
    """Say what a parser found wrong, in its words but without what stood there."""
    if isinstance(error, UnicodeDecodeError):
        return Fault(line, None, Reason.ENCODING_INVALID, "not UTF-8")
    said, path = str(error), _PATH.search(str(error))
    if isinstance(error, msgspec.ValidationError):
        column = path[1] if path else None
        return Fault(line, column or None, Reason.VALUE_INVALID, _PATH.sub("", said))
    return Fault(line, None, Reason.JSON_INVALID, said)
