"""Files as they come: broken ones are refused by line and column, the rest of them is read."""

import gzip
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from cliniq.domains.intake.errors import ReadingInvalid
from cliniq.domains.intake.models import Fault, Hopeless, ImportKind, Item, Reading, Resource, Row
from cliniq.domains.intake.readers import (
    LARGEST_DOCUMENT,
    LONGEST_LINE,
    File,
    FileKind,
    kind_of,
    list_items,
    split_lines,
    unpack,
)
from cliniq.domains.intake.rules import ensure_readable, judge_columns
from cliniq.domains.intake.service import read_reading

HEAD = b"given_name,family_name\n"


def found(kind: FileKind, *pieces: bytes, delimiter: str | None = None) -> list[Any]:
    """What is found in a file."""
    return [each.found for each in items(File("it", kind, pieces), delimiter=delimiter)]


def items(*files: File, delimiter: str | None = None) -> list[Item]:
    return list(list_items(files, delimiter, lambda _columns: None))


def table(*pieces: bytes, **how: Any) -> list[Any]:
    return found(FileKind.CSV, *pieces, **how)


def codes(all_found: Sequence[Any]) -> list[str]:
    """Kinds of what was found; of faults, their line and code."""
    said = []
    for each in all_found:
        fault = each.fault if isinstance(each, Hopeless) else each
        said.append(
            f"{fault.line} {fault.code}" if isinstance(fault, Fault) else type(each).__name__
        )
    return said


def endless(piece: bytes, times: int) -> Iterator[bytes]:
    """A file that is never held by whoever hands it on."""
    for _ in range(times):
        yield piece


# --- lines ----------------------------------------------------------------------------------------


def test_lines_are_the_same_however_a_file_is_cut_into_pieces() -> None:
    body = b"one\r\ntwo\n\nfour\nlast"
    whole = list(split_lines([body]))
    assert [(each.number, each.body) for each in whole] == [
        (1, b"one"),
        (2, b"two"),
        (3, b""),
        (4, b"four"),
        (5, b"last"),
    ]
    for size in (1, 2, 3, 7):
        cut = [body[at : at + size] for at in range(0, len(body), size)]
        assert list(split_lines(cut)) == whole


def test_line_of_two_hundred_megabytes_is_refused_and_the_next_one_is_read() -> None:
    def pieces() -> Iterator[bytes]:
        yield HEAD
        yield from endless(b"x" * (1 << 20), 200)
        yield b"\nAnn,Tester\n"

    assert codes(table(*pieces())) == ["2 ROW_TOO_LONG", "Row"]


def test_line_may_be_as_long_as_is_allowed_and_no_longer() -> None:
    for more, expected in ((0, True), (1, False)):
        (line,) = split_lines([b"x" * (LONGEST_LINE + more)])
        assert (line.body is not None) is expected


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"\n", "1 COLUMNS_WRONG"),
        (b"a,,c\n", "1 COLUMNS_WRONG"),
        (b"a,b,a\n", "1 COLUMNS_WRONG"),
        (b",".join(b"c%d" % number for number in range(501)) + b"\n", "1 COLUMNS_WRONG"),
        ("näme,b\n".encode("latin-1"), "1 ENCODING_INVALID"),
        ("a,b\n".encode("utf-16"), "1 ENCODING_INVALID"),
        (b"x" * (LONGEST_LINE + 1), "1 ROW_TOO_LONG"),
    ],
)
def test_table_without_a_sound_head_is_refused_whole(head: bytes, code: str) -> None:
    said = table(head, b"1,2\n3,4\n")
    assert codes(said) == [code]
    assert isinstance(said[0], Hopeless)


def test_table_without_the_columns_that_are_needed_is_refused_whole() -> None:
    def judge(columns: Sequence[str]) -> str | None:
        return judge_columns(Reading(), ImportKind.PATIENTS, columns)

    file = File("it", FileKind.CSV, [b"given_name,name\n1,2\n"])
    (item,) = list_items([file], None, judge)
    assert isinstance(item.found, Hopeless)
    assert item.found.fault.reason == "no column for family_name"


def test_rows_that_are_none_are_refused_by_line_and_the_others_are_read() -> None:
    said = table(
        HEAD,
        b"Ann,Tester\n",
        b"Ann\n",
        b"Ann,Tester,x\n",
        b"\n",
        b",\n",
        "Zoë,".encode() + b"\xff\xfe\n",
        b"Ann,Te\x00ster\n",
        b'Ann,"Tes"ter\n',
        b'"Ann\nMarie",Tester\n',
        b"Bob,Tester",
    )
    assert codes(said) == [
        "Row",
        "3 COLUMNS_WRONG",
        "4 COLUMNS_WRONG",
        "Skipped",
        "Skipped",
        "7 ENCODING_INVALID",
        "8 ENCODING_INVALID",
        "9 COLUMNS_WRONG",
        "Row",
        "Row",
    ]
    assert said[8] == Row(10, {"given_name": "Ann\nMarie", "family_name": "Tester"})
    assert said[9].line == 12


def test_row_with_a_broken_line_in_its_middle_is_no_row() -> None:
    said = table(HEAD, b'"Ann\n', b"\xff\n", b'Marie",Tester\n', b"Bob,Tester\n")
    assert codes(said) == ["3 ENCODING_INVALID", "2 COLUMNS_WRONG", "Row"]


def test_quote_that_nobody_closes_swallows_no_more_than_a_cell_may_hold() -> None:
    rows = b"Ann,Tester\n" * 50_000
    said = table(HEAD, b'"Ann,Tester\n', rows)
    kinds = codes(said)
    assert kinds[0] == "2 COLUMNS_WRONG"
    assert kinds.count("Row") > 30_000


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_seen_in_the_head_or_said(delimiter: str) -> None:
    body = "\ufeffgiven_name,family_name\nAnn,Tester\n".replace(",", delimiter).encode()
    for said in (None, delimiter):
        (row,) = table(body, delimiter=said)
        assert row.cells == {"given_name": "Ann", "family_name": "Tester"}


# --- FHIR -----------------------------------------------------------------------------------------

PATIENT = {"resourceType": "Patient", "id": "1"}


def test_resources_that_are_none_are_refused_by_line_and_others_are_skipped() -> None:
    said = found(
        FileKind.NDJSON,
        json.dumps(PATIENT).encode() + b"\n",
        b'{"resourceType": "Observation", "value": 1}\n',
        b'{"resourceType": "Patient", "id": \n',
        b"\n",
        b'{"id": 1}\n',
        b'{"resourceType": 7}\n',
        b'{"resourceType": "Pati\xffent"}\n',
        b"[]\n",
        json.dumps(PATIENT).encode()[:-3],
    )
    assert codes(said) == [
        "Resource",
        "Skipped",
        "3 JSON_INVALID",
        "Skipped",
        "5 VALUE_MISSING",
        "6 VALUE_INVALID",
        "7 ENCODING_INVALID",
        "8 VALUE_INVALID",
        "9 JSON_INVALID",
    ]
    assert said[5].column == "resourceType"


def test_bundle_is_read_for_its_patients() -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"fullUrl": "urn:1", "resource": PATIENT, "request": {"method": "POST"}},
            {"resource": {"resourceType": "Encounter"}},
            {"fullUrl": "urn:3"},
            {"resource": PATIENT},
        ],
    }
    said = found(FileKind.JSON, json.dumps(bundle, indent=2).encode())
    assert codes(said) == ["Resource", "Skipped", "3 VALUE_MISSING", "Resource"]
    assert [each.line for each in said if isinstance(each, Resource)] == [1, 4]
    assert json.loads(said[0].body) == PATIENT
    (alone,) = found(FileKind.JSON, json.dumps(PATIENT).encode())
    assert isinstance(alone, Resource)


def test_document_that_is_cut_or_no_bundle_is_refused_whole_with_its_line() -> None:
    lines = json.dumps({"resourceType": "Bundle", "entry": [{"resource": PATIENT}] * 3}, indent=1)
    cut = lines[: lines.rindex('"id"')]
    last = cut.count("\n") + 1
    for body, code in (
        (cut, f"{last} JSON_INVALID"),
        ('{"resourceType": "Bundle",\n\n "entry": [}', "3 JSON_INVALID"),
        ("", "1 JSON_INVALID"),
        ('{"resourceType": "Parameters"}', "1 VALUE_INVALID"),
        ('{"resourceType": "Bundle", "entry": {}}', "1 VALUE_INVALID"),
    ):
        said = found(FileKind.JSON, body.encode())
        assert codes(said) == [code]
        assert isinstance(said[0], Hopeless)


def test_document_larger_than_is_held_is_refused_before_it_is() -> None:
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        for piece in endless(b" " * (1 << 20), 1 << 10):
            taken += len(piece)
            yield piece

    (item,) = items(File("it", FileKind.JSON, pieces()))
    assert codes([item.found]) == ["1 ROW_TOO_LONG"]
    assert taken <= LARGEST_DOCUMENT + (2 << 20)


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("people.csv", FileKind.CSV),
        ("People.CSV.GZ", FileKind.CSV),
        ("Patient.000.ndjson", FileKind.NDJSON),
        ("bundle.json.gz", FileKind.JSON),
        ("people.xlsx", None),
        ("csv", None),
        ("people.gz", None),
    ],
)
def test_name_says_how_a_file_is_written(name: str, kind: FileKind | None) -> None:
    assert kind_of(name) is kind


def test_packed_file_that_breaks_off_is_read_so_far_and_refused_from_there() -> None:
    rows = b"".join(b"Ann%d,Tester\n" % number for number in range(100_000))
    packed, read = gzip.compress(HEAD + rows), 0

    def note(more: int) -> None:
        nonlocal read
        read += more

    whole = items(unpack("people.csv.gz", packed, note))
    assert len(whole) == 100_000
    assert read == len(packed)
    cut = codes([each.found for each in items(unpack("people.csv.gz", packed[:-2000], note))])
    assert cut.pop().endswith(" FILE_CUT")
    assert 50_000 < len(cut) < 100_000
    assert set(cut) == {"Row"}
    for body in (b"no gzip at all", b"", packed[:5]):
        said = items(unpack("people.csv.gz", body, note))
        assert codes([each.found for each in said])[-1] in {"1 FILE_CUT", "1 COLUMNS_WRONG"}


def test_broken_file_does_not_keep_from_the_next_one() -> None:
    first = unpack("a.csv.gz", b"nothing", lambda _more: None)
    second = File("b.csv", FileKind.CSV, [HEAD, b"Ann,Tester\n"])
    said = items(first, second)
    assert [(each.file, type(each.found).__name__) for each in said] == [
        ("a.csv.gz", "Hopeless"),
        ("b.csv", "Row"),
    ]


# --- readings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "columns = 7",
        "colunms = {}",
        "[columns]\nname = 'Name'",
        "[formats]\nstarts_at = '%d'",
        "delimiter = ',,'",
        "delimiter = ''",
        "[[identifiers]]\ncolumn = 'a'",
        "not toml",
    ],
)
def test_reading_that_says_nothing_of_patients_is_refused(words: str) -> None:
    with pytest.raises(ReadingInvalid):
        ensure_readable(read_reading(words, is_toml=True), ImportKind.PATIENTS)
