"""What the document says of an input is what is read, no more and no less."""

import itertools
from datetime import UTC, date, datetime
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from cliniq.app import build_app
from cliniq.domains.checkin.schemas import ScanIn
from cliniq.domains.identity.schemas import RefreshIn, SignInIn
from cliniq.domains.intake.http import LARGEST_FILE
from cliniq.domains.intake.schemas import FileName
from cliniq.kernel.ids import new_id
from cliniq.platform.http.fields import Day, Instant, Line, LongLine
from tests.platform.chance import STEADY
from tests.platform.wire import NO_DAYS, NO_INSTANTS

ODD = st.text(
    st.sampled_from(
        "a@.-/\\ \t\n\r\x00\x1c\x7f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u3000\ufeffé😀"
    ),
    max_size=6,
)
TEXTS = ODD | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


def is_read(kind: Any, value: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


def is_said(kind: Any, value: object) -> bool:
    """Tell whether the document allows a value."""
    schema = TypeAdapter(kind).json_schema()
    return bool(jsonschema_rs.Draft202012Validator(schema, validate_formats=True).is_valid(value))


@given(TEXTS)
@example(" ")
@example("\u3000\xa0")
@example("\x85")
@example("a\u2028b")
@example("a/b")
@example("a\\b")
@STEADY
def test_line_is_read_exactly_where_the_document_allows_it(text: str) -> None:
    assert is_read(Line, text) == is_said(Line, text)
    assert is_read(LongLine, text) == is_said(LongLine, text)
    assert is_read(FileName, text) == is_said(FileName, text)


@given(TEXTS)
@example(" a@b ")
@example("a@b\n")
@example("a @b")
@STEADY
def test_address_is_read_exactly_where_the_document_allows_it(text: str) -> None:
    body = {"email": text, "password": "x"}
    assert is_read(SignInIn, body) == is_said(SignInIn, body)


@pytest.mark.parametrize(
    "text", ["", " ", "\xa0\u3000", "a\nb", "a\x85b", "a\u2028b", "a\x9bb", "x" * 201]
)
def test_line_without_ink_or_of_more_than_one_line_is_refused(text: str) -> None:
    assert not is_read(Line, text)


@pytest.mark.parametrize(("kind", "most"), [(Line, 200), (LongLine, 500), (FileName, 100)])
def test_line_is_as_long_as_the_document_says_and_loses_its_blanks(kind: Any, most: int) -> None:
    assert TypeAdapter(kind).json_schema()["maxLength"] == most
    assert is_read(kind, "x" * most)
    assert not is_read(kind, "x" * (most + 1))
    assert TypeAdapter(kind).validate_python("  Zoë\xa0") == "Zoë"


@pytest.mark.parametrize("text", [*NO_DAYS, *NO_INSTANTS, "1900-01-01", "2199-12-31", "2024-02-29"])
def test_day_is_read_exactly_where_the_document_allows_it(text: str) -> None:
    assert is_read(Day, text) == is_said(Day, text)


SOUND = (
    "1900-01-01T00:00:00Z",
    "2199-12-31T23:59:59.999999999-23:59",
    "2024-02-29T12:00:00.5+05:30",
    "2024-02-29T12:00:00-00:00",
)
UNSOUND = (
    "2024-02-29T12:00Z",
    "2024-02-29T12:00:60Z",
    "2024-02-29 12:00:00Z",
    "2024-02-29t12:00:00z",
    "2024-02-29T12:00:00+0530",
    "2024-02-29T24:00:00Z",
    "2023-02-29T12:00:00Z",
    "2024-02-29T12:00:00.Z",
    "٢٠٢٤-02-29T12:00:00Z",
)


@pytest.mark.parametrize("text", [*SOUND, *UNSOUND, *NO_INSTANTS])
def test_instant_is_read_exactly_where_the_document_allows_it(text: str) -> None:
    assert is_read(Instant, text) == is_said(Instant, text) == (text in SOUND)


def test_day_and_instant_at_their_bounds_are_what_they_say() -> None:
    read: Any = TypeAdapter(Instant).validate_python(SOUND[1])
    assert read == datetime(2200, 1, 1, 23, 58, 59, 999999, UTC)
    assert TypeAdapter(Day).validate_python("2199-12-31") == date(2199, 12, 31)


ABSENT = object()
PARTS: dict[str, tuple[object, ...]] = {
    "code": (ABSENT, None, "c0de"),
    "scan_pass": (ABSENT, None, "pa55"),
    "scan_secret": (ABSENT, None, "a secret of the page"),
    "all": (ABSENT, False, True),
    "appointment_ids": (ABSENT, None, [str(new_id())]),
}


def test_scan_is_read_exactly_where_the_document_allows_it() -> None:
    allowed = 0
    for values in itertools.product(*PARTS.values()):
        body = {name: one for name, one in zip(PARTS, values, strict=True) if one is not ABSENT}
        assert is_read(ScanIn, body) == is_said(ScanIn, body), body
        allowed += is_read(ScanIn, body)
    assert allowed > 20


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (SignInIn, {"email": "a@b", "password": "\x00"}),
        (SignInIn, {"email": "a@b", "password": ""}),
        (SignInIn, {"email": "a@b", "password": "x" * 257}),
        (RefreshIn, {"refresh_token": "\x00"}),
        (ScanIn, {"scan_pass": "a", "scan_secret": "sixteen letters\x00"}),
    ],
)
def test_secret_that_no_body_may_hold_is_not_allowed_by_the_document(
    kind: type[BaseModel], body: dict[str, str]
) -> None:
    assert not is_said(kind, body)


def test_document_says_how_to_sign_in_and_where_one_acts() -> None:
    document = build_app().openapi()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            words = operation["x-permission"]
            is_open = words.startswith("public: ")
            assert operation.get("security", []) == ([] if is_open else [{"bearer": []}]), path
            named = any(each["name"] == "X-Clinic-Id" for each in operation.get("parameters", ()))
            assert named == (not is_open and not words.startswith("self")), (method, path)


def test_document_names_the_types_of_what_is_no_json() -> None:
    paths = build_app().openapi()["paths"]

    def types_of(path: str) -> set[str]:
        return set(paths[path]["get"]["responses"]["200"]["content"])

    pictures = types_of("/api/v1/appointments/locations/{location_id}/qr-code")
    assert pictures == {"image/svg+xml", "image/png"}
    assert types_of("/files/{token}") > {"text/csv", "application/pdf", "image/png"}
    assert types_of("/api/v1/queues/{queue_id}/events") == {"text/event-stream"}


def test_document_says_that_a_file_is_not_empty_and_how_large_it_may_be() -> None:
    body = build_app().openapi()["paths"]["/api/v1/patients/import"]["post"]["requestBody"]
    schema = body["content"]["application/octet-stream"]["schema"]
    assert body["required"]
    assert (schema["minLength"], schema["maxLength"]) == (1, LARGEST_FILE)
