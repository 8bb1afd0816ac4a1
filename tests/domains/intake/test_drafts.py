"""What a row comes to, and every reason why it comes to nothing."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cliniq.domains.appointments import api as appointments
from cliniq.domains.intake.drafts import (
    VisitRow,
    newcomer_of_resource,
    newcomer_of_row,
    visit_of_row,
)
from cliniq.domains.intake.models import IdentifierColumn, Reading, Resource, Row
from cliniq.domains.intake.rules import place_in_time
from cliniq.domains.patients import api as patients

FULL = {
    "given_name": " Zoë ",
    "family_name": "Ångström-O'Neil",
    "birth_date": "1990-02-03",
    "gender": "female",
    "phone": "+43 (0)1 234-56",
    "email": "zoe@example.org",
    "address": "Kärntner Straße 1",
    "language": "de-AT",
    "deceased_on": "2020-01-01",
    "mrn": "A-7",
}
VISIT = {
    "patient": "A-7",
    "practitioner": "Dr. Who",
    "site": "Main",
    "starts_at": "2024-05-06T08:30",
}


def person(cells: dict[str, str], reading: Reading | None = None) -> Any:
    return newcomer_of_row(Row(7, cells), reading or Reading())


def visit(reading: Reading | None = None, **cells: str) -> Any:
    return visit_of_row(Row(7, VISIT | cells), reading or Reading())


def fhir(reading: Reading | None = None, **said: Any) -> Any:
    whole = {"resourceType": "Patient", "name": [{"family": "Tester", "given": ["Ann"]}]} | said
    return newcomer_of_resource(Resource(7, json.dumps(whole).encode()), reading or Reading())


def faults(said: Any) -> list[str]:
    assert isinstance(said, list), said
    assert {each.line for each in said} == {7}
    return [f"{each.column} {each.code}" for each in said]


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "cell", "code"),
    [
        ("given_name", "", "VALUE_MISSING"),
        ("family_name", "  ", "VALUE_MISSING"),
        ("given_name", "=1+1", "FORMULA_FOUND"),
        ("family_name", "@SUM(A1)", "FORMULA_FOUND"),
        ("address", "-2+3", "FORMULA_FOUND"),
        ("email", "+cmd|' /C calc'!A0", "FORMULA_FOUND"),
        ("phone", "+43=1", "FORMULA_FOUND"),
        ("phone", "+", "FORMULA_FOUND"),
        ("given_name", "x" * 201, "VALUE_INVALID"),
        ("address", "x" * 501, "VALUE_INVALID"),
        ("given_name", "An\tn", "VALUE_INVALID"),
        ("given_name", "An\x7fn", "VALUE_INVALID"),
        ("given_name", "An\nn", "VALUE_INVALID"),
        ("birth_date", "1990-02-30", "VALUE_INVALID"),
        ("birth_date", "03.02.1990", "VALUE_INVALID"),
        ("birth_date", "1899-12-31", "VALUE_INVALID"),
        ("deceased_on", "2200-01-01", "VALUE_INVALID"),
        ("gender", "F", "VALUE_INVALID"),
        ("language", "German!", "VALUE_INVALID"),
        ("language", "d", "VALUE_INVALID"),
    ],
)
def test_cell_that_cannot_be_is_named_and_what_stood_there_is_not(
    field: str, cell: str, code: str
) -> None:
    said = person(FULL | {field: cell})
    assert faults(said) == [f"{field} {code}"]
    if len(cell.strip()) > 2:
        assert cell.strip() not in said[0].reason


def test_all_that_is_wrong_with_a_row_is_said_at_once() -> None:
    said = person(FULL | {"given_name": "", "birth_date": "x", "gender": "x"})
    assert faults(said) == [
        "given_name VALUE_MISSING",
        "birth_date VALUE_INVALID",
        "gender VALUE_INVALID",
    ]


def test_row_brings_somebody_with_all_that_stands_there() -> None:
    assert person(FULL) == patients.Newcomer(
        "Zoë",
        "Ångström-O'Neil",
        date(1990, 2, 3),
        patients.Gender.FEMALE,
        "+43 (0)1 234-56",
        "zoe@example.org",
        "Kärntner Straße 1",
        "de-AT",
        date(2020, 1, 1),
        "A-7",
    )
    assert person({"given_name": "Ann", "family_name": "Li"}) == patients.Newcomer("Ann", "Li")


def test_reading_says_what_columns_words_and_dates_mean() -> None:
    reading = Reading(
        columns={"given_name": "Vorname", "family_name": "Nachname", "birth_date": "geb."},
        formats={"birth_date": "%d.%m.%Y"},
        values={"gender": {"F": "female", "M": "male"}},
        constants={"language": "pt-BR"},
        identifiers=[IdentifierColumn("card", "urn:cards", "SS"), IdentifierColumn("old", "urn:o")],
    )
    cells = {
        "Vorname": "Ana",
        "Nachname": "Silva",
        "geb.": "03.02.1990",
        "gender": "F",
        "card": "1",
        "old": "",
    }
    brought = person(cells, reading)
    assert (brought.given_name, brought.family_name) == ("Ana", "Silva")
    assert (brought.birth_date, brought.gender) == (date(1990, 2, 3), "female")
    assert brought.language == "pt-BR"
    assert brought.identifiers == (patients.Identifier("urn:cards", "1", "SS"),)
    said = person(cells | {"geb.": "1990-02-03", "card": "=1"}, reading)
    assert faults(said) == ["geb. VALUE_INVALID", "card FORMULA_FOUND"]


# --- FHIR -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"name": []}, "name VALUE_MISSING"),
        ({"name": [{"family": "Tester"}]}, "name[0].given VALUE_MISSING"),
        ({"name": "Ann Tester"}, "name VALUE_INVALID"),
        ({"name": [{"family": ["Tester"]}]}, "name[0].family VALUE_INVALID"),
        ({"gender": "F"}, "gender VALUE_INVALID"),
        ({"birthDate": "1990-02-30"}, "birthDate VALUE_INVALID"),
        ({"birthDate": "12/03/1990"}, "birthDate VALUE_INVALID"),
        ({"birthDate": 1990}, "birthDate VALUE_INVALID"),
        ({"telecom": [{"system": "phone", "value": "=1"}]}, "telecom[0].value FORMULA_FOUND"),
        (
            {"identifier": [{"system": "urn:x", "value": "x" * 201}]},
            "identifier[0].value VALUE_INVALID",
        ),
    ],
)
def test_resource_that_is_no_patient_is_refused_by_path(said: Any, fault: str) -> None:
    assert faults(fhir(**said)) == [fault]


def test_resource_brings_somebody_by_their_official_name_and_first_contacts() -> None:
    brought = fhir(
        Reading(mrn_system="urn:here"),
        name=[
            {"use": "maiden", "family": "Born", "given": ["Ann"]},
            {"use": "official", "family": "Tester", "given": ["Ann", "Marie"]},
        ],
        gender="female",
        birthDate="1990-02-03",
        deceasedDateTime="2020-01-02T03:04:05-05:00",
        telecom=[
            {"system": "fax", "value": "9"},
            {"system": "phone", "value": "555-1"},
            {"system": "phone", "value": "555-2"},
            {"system": "email", "value": "ann@example.org"},
        ],
        address=[{"line": ["Quay 7"], "city": "Vienna", "postalCode": "1020", "country": "AT"}],
        communication=[
            {"language": {"coding": [{"code": "en-US"}]}},
            {"language": {"coding": [{"code": "de"}]}, "preferred": True},
        ],
        identifier=[
            {"system": "urn:here", "value": "77"},
            {"type": {"coding": [{"code": "SS"}]}, "system": "urn:ss", "value": "999"},
            {"value": "of nobody"},
        ],
        extension=[{"url": "x", "valueString": "not taken"}],
    )
    assert brought == patients.Newcomer(
        "Ann Marie",
        "Tester",
        date(1990, 2, 3),
        patients.Gender.FEMALE,
        "555-1",
        "ann@example.org",
        "Quay 7, 1020 Vienna, AT",
        "de",
        date(2020, 1, 2),
        "77",
        (patients.Identifier("urn:here", "77", None), patients.Identifier("urn:ss", "999", "SS")),
    )


@pytest.mark.parametrize("birth", ["1990", "1990-02"])
def test_birth_of_which_only_the_year_is_known_is_no_date(birth: str) -> None:
    assert fhir(birthDate=birth).birth_date is None


def test_name_that_is_one_text_is_cut_before_its_last_word() -> None:
    brought = fhir(name=[{"text": "Ann Marie Tester"}])
    assert (brought.given_name, brought.family_name) == ("Ann Marie", "Tester")


# --- visits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "cell", "code"),
    [
        ("patient", "", "VALUE_MISSING"),
        ("practitioner", "", "VALUE_MISSING"),
        ("site", "", "VALUE_MISSING"),
        ("starts_at", "", "VALUE_MISSING"),
        ("starts_at", "yesterday", "VALUE_INVALID"),
        ("starts_at", "2024-05-06T25:00", "VALUE_INVALID"),
        ("ends_at", "2024-05-32", "VALUE_INVALID"),
        ("booked_at", "x", "VALUE_INVALID"),
        ("minutes", "0", "VALUE_INVALID"),
        ("minutes", "1441", "VALUE_INVALID"),
        ("minutes", "ten", "VALUE_INVALID"),
        ("status", "noshow", "VALUE_INVALID"),
        ("reference", "=1", "FORMULA_FOUND"),
        ("visit_type", "x" * 201, "VALUE_INVALID"),
    ],
)
def test_visit_that_cannot_be_is_refused_by_column(field: str, cell: str, code: str) -> None:
    said = visit_of_row(Row(7, VISIT | {field: cell}), Reading())
    assert faults(said) == [f"{field} {code}"]


def test_row_brings_a_visit_in_the_words_of_the_file() -> None:
    at = datetime(2024, 5, 6, 8, 30)  # noqa: DTZ001 - a time of the site, which is not known yet
    plain = VisitRow(
        "A-7",
        "Dr. Who",
        "Main",
        "consultation",
        at,
        at + timedelta(minutes=15),
        appointments.AppointmentStatus.BOOKED,
        None,
        None,
    )
    assert visit() == plain
    full = visit(
        Reading(values={"status": {"No": "completed"}}),
        minutes="40",
        status="No",
        booked_at="2024-05-01T10:00:00Z",
        reference="v1",
        visit_type="check",
    )
    assert full == VisitRow(
        "A-7",
        "Dr. Who",
        "Main",
        "check",
        at,
        at + timedelta(minutes=40),
        appointments.AppointmentStatus.COMPLETED,
        datetime(2024, 5, 1, 10, tzinfo=UTC),
        "v1",
    )


def test_time_of_a_site_is_an_instant_unless_its_clocks_leap_over_it() -> None:
    vienna = ZoneInfo("Europe/Vienna")

    def local(*parts: int) -> datetime:
        return datetime(*parts)  # type: ignore[arg-type] # noqa: DTZ001

    assert place_in_time(local(2024, 5, 6, 8, 30), vienna) == datetime(
        2024, 5, 6, 6, 30, tzinfo=UTC
    )
    assert place_in_time(local(2024, 3, 31, 2, 30), vienna) is None
    assert place_in_time(local(2024, 10, 27, 2, 30), vienna) == datetime(
        2024, 10, 27, 0, 30, tzinfo=UTC
    )
    said = datetime(2024, 3, 31, 2, 30, tzinfo=UTC)
    assert place_in_time(said, vienna) == said
