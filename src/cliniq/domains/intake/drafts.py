"""What the rows of a file come to: newcomers and visits, or what is wrong with them."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

import msgspec

from cliniq.domains.appointments import api as appointments
from cliniq.domains.intake.models import (
    Fault,
    Hopeless,
    ImportKind,
    Item,
    Reading,
    Reason,
    Resource,
    Row,
    Skipped,
)
from cliniq.domains.intake.readers import fault_of
from cliniq.domains.intake.rules import judge_text
from cliniq.domains.patients import api as patients
from cliniq.kernel.record import Record

T = TypeVar("T", bound=StrEnum)
D = TypeVar("D", date, datetime)

LONGEST_TEXT, LONGEST_ADDRESS = 200, 500
EARLIEST, LATEST = 1900, 2200  # years, the first of them included
USUAL_MINUTES = 15
LONGEST_VISIT = 1440  # minutes
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}\Z", re.ASCII)
_PARTIAL_DATE = re.compile(r"[0-9]{4}(-[0-9]{2})?\Z", re.ASCII)


class VisitRow(Record, frozen=True):
    """A visit as a row names it: by words that are still to be looked up.

    Times without an offset are the site's own: they have no zone yet.
    """

    patient: str
    practitioner: str
    site: str
    visit_type: str
    starts_at: datetime
    ends_at: datetime
    status: appointments.AppointmentStatus
    booked_at: datetime | None
    reference: str | None


@dataclass(slots=True)
class _Cells:
    """The cells of one row, as they are asked for; what is wrong with them is gathered."""

    row: Row
    reading: Reading
    faults: list[Fault] = field(default_factory=list)

    def fault(self, column: str, code: Reason, reason: str) -> None:
        self.faults.append(Fault(self.row.line, column, code, reason))

    def column_of(self, name: str) -> str:
        return self.reading.columns.get(name, name)

    def text(self, name: str, longest: int = LONGEST_TEXT, *, needed: bool = False) -> str | None:
        """Read a cell of text; an empty one is none."""
        column = self.column_of(name)
        raw = self.row.cells.get(column)
        if raw is None or name in self.reading.constants:
            return self.reading.constants.get(name)
        return self.clean(column, raw, longest, needed=needed)

    def clean(self, column: str, raw: str, longest: int, *, needed: bool = False) -> str | None:
        value = raw.strip()
        if not value:
            if needed:
                self.fault(column, Reason.VALUE_MISSING, "nothing stands there")
            return None
        if fault := judge_text(value, longest):
            self.fault(column, *fault)
            return None
        return value

    def word(self, name: str) -> str | None:
        """Read a cell that holds one of a few words, in ours."""
        value = self.text(name)
        return None if value is None else self.reading.values.get(name, {}).get(value, value)

    def choice(self, name: str, kind: type[T]) -> T | None:
        word = self.word(name)
        if word is None:
            return None
        try:
            return kind(word)
        except ValueError:
            known = ", ".join(kind)
            self.fault(self.column_of(name), Reason.VALUE_INVALID, f"none of: {known}")
            return None

    def day(self, name: str) -> date | None:
        """Read a cell that holds a day."""
        return self._time(name, date.fromisoformat, datetime.date)

    def instant(self, name: str) -> datetime | None:
        """Read a cell that holds a day and a time, with or without an offset."""
        return self._time(name, datetime.fromisoformat, lambda at: at)

    def _time(self, name: str, read: Callable[[str], D], take: Callable[[datetime], D]) -> D | None:
        value = self.text(name)
        if value is None:
            return None
        form = self.reading.formats.get(name)
        try:
            found = take(datetime.strptime(value, form)) if form else read(value)  # noqa: DTZ007
        except ValueError:
            said = f"no date as {form} has it" if form else "no date as ISO 8601 has it"
            self.fault(self.column_of(name), Reason.VALUE_INVALID, said)
            return None
        if not EARLIEST <= found.year < LATEST:
            said = f"not in the years {EARLIEST} to {LATEST - 1}"
            self.fault(self.column_of(name), Reason.VALUE_INVALID, said)
            return None
        return found

    def minutes(self, name: str) -> int | None:
        """Read a cell that holds how long something takes."""
        value = self.text(name)
        if value is None:
            return None
        if value.isascii() and value.isdecimal() and 0 < int(value[:9]) <= LONGEST_VISIT:
            return int(value)
        said = f"no number of minutes from 1 to {LONGEST_VISIT}"
        self.fault(self.column_of(name), Reason.VALUE_INVALID, said)
        return None


class Draft(Record, frozen=True):
    """What an item of a source comes to: a newcomer, a visit, what is wrong with it, or nothing."""

    place: int
    file: str
    line: int
    brings: patients.Newcomer | VisitRow | None
    faults: Sequence[Fault] = ()


def draft(place: int, item: Item, kind: ImportKind, reading: Reading) -> Draft:
    """Say what an item comes to; `place` is its own, counted from 0."""
    found = item.found
    if isinstance(found, Hopeless):
        found = found.fault
    if isinstance(found, Skipped):
        return Draft(place, item.file, 0, None)
    if isinstance(found, Fault):
        return Draft(place, item.file, found.line, None, (found,))
    read: patients.Newcomer | VisitRow | list[Fault]
    if isinstance(found, Resource):
        read = newcomer_of_resource(found, reading)
    elif kind is ImportKind.PATIENTS:
        read = newcomer_of_row(found, reading)
    else:
        read = visit_of_row(found, reading)
    if isinstance(read, list):
        return Draft(place, item.file, found.line, None, read)
    return Draft(place, item.file, found.line, read)


# --- patients -------------------------------------------------------------------------------------


def newcomer_of_row(row: Row, reading: Reading) -> patients.Newcomer | list[Fault]:
    """Say whom a row brings, or all that is wrong with it."""
    cells = _Cells(row, reading)
    given, family = cells.text("given_name", needed=True), cells.text("family_name", needed=True)
    newcomer = patients.Newcomer(
        given or "",
        family or "",
        cells.day("birth_date"),
        cells.choice("gender", patients.Gender),
        cells.text("phone"),
        cells.text("email"),
        cells.text("address", LONGEST_ADDRESS),
        _judge_language(cells),
        cells.day("deceased_on"),
        cells.text("mrn"),
        tuple(_identifiers(cells)),
    )
    return cells.faults or newcomer


def _judge_language(cells: _Cells) -> str | None:
    language = cells.word("language")
    if language is not None and not _LANGUAGE.match(language):
        cells.fault(cells.column_of("language"), Reason.VALUE_INVALID, "no tag as BCP 47 has it")
        return None
    return language


def _identifiers(cells: _Cells) -> Iterator[patients.Identifier]:
    for each in cells.reading.identifiers:
        value = cells.clean(each.column, cells.row.cells[each.column], LONGEST_TEXT)
        if value is not None:
            yield patients.Identifier(each.system, value, each.kind)


class _Name(Record, frozen=True):
    use: str = ""
    text: str = ""
    family: str = ""
    given: list[str] = msgspec.field(default_factory=list)


class _Contact(Record, frozen=True):
    system: str = ""
    value: str = ""
    use: str = ""


class _Address(Record, frozen=True):
    text: str = ""
    line: list[str] = msgspec.field(default_factory=list)
    city: str = ""
    state: str = ""
    postalCode: str = ""  # noqa: N815 - as FHIR writes it
    country: str = ""


class _Coding(Record, frozen=True):
    code: str = ""


class _Concept(Record, frozen=True):
    coding: list[_Coding] = msgspec.field(default_factory=list)
    text: str = ""


class _Language(Record, frozen=True):
    language: _Concept = _Concept()
    preferred: bool = False


class _Identifier(Record, frozen=True):
    system: str = ""
    value: str = ""
    type: _Concept = _Concept()


class _Patient(Record, frozen=True):
    """A Patient of FHIR R4, as far as it is taken over."""

    name: list[_Name] = msgspec.field(default_factory=list)
    gender: patients.Gender | None = None
    birthDate: str = ""  # noqa: N815 - as FHIR writes it
    deceasedDateTime: str = ""  # noqa: N815 - as FHIR writes it
    telecom: list[_Contact] = msgspec.field(default_factory=list)
    address: list[_Address] = msgspec.field(default_factory=list)
    communication: list[_Language] = msgspec.field(default_factory=list)
    identifier: list[_Identifier] = msgspec.field(default_factory=list)


_PATIENT = msgspec.json.Decoder(_Patient)
_NAMES = ("official", "usual", "")  # in this order a name is chosen; others are as good


def newcomer_of_resource(resource: Resource, reading: Reading) -> patients.Newcomer | list[Fault]:
    """Say whom a FHIR Patient is, or all that is wrong with it.

    Of several names the official one is taken, of contacts and addresses the first. A date of which
    only the year or month is known is not kept: it is no date of birth. What carries no system
    beside an identifier leads to nobody, and is left out.
    """
    try:
        said = _PATIENT.decode(resource.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return [fault_of(resource.line, error)]
    cells = _Cells(Row(resource.line, {}), Reading())
    given, family = _name_of(cells, said)
    numbers = [
        (place, each) for place, each in enumerate(said.identifier) if each.system and each.value
    ]
    mrn = next((each.value for _, each in numbers if each.system == reading.mrn_system), None)
    newcomer = patients.Newcomer(
        given,
        family,
        _fhir_day(cells, "birthDate", said.birthDate),
        said.gender,
        _contact(cells, said, "phone"),
        _contact(cells, said, "email"),
        _address(cells, said),
        _language(cells, said),
        _fhir_day(cells, "deceasedDateTime", said.deceasedDateTime[:10]),
        None if mrn is None else cells.clean("identifier", mrn, LONGEST_TEXT),
        tuple(_fhir_identifiers(cells, numbers)),
    )
    return cells.faults or newcomer


def _name_of(cells: _Cells, said: _Patient) -> tuple[str, str]:
    def rank(name: _Name) -> int:
        return _NAMES.index(name.use) if name.use in _NAMES else len(_NAMES)

    if not said.name:
        cells.fault("name", Reason.VALUE_MISSING, "no name")
        return "", ""
    name = min(said.name, key=rank)
    place = said.name.index(name)
    given, family = " ".join(name.given), name.family
    if not given and not family:
        given, _, family = name.text.strip().rpartition(" ")
    return (
        cells.clean(f"name[{place}].given", given, LONGEST_TEXT, needed=True) or "",
        cells.clean(f"name[{place}].family", family, LONGEST_TEXT, needed=True) or "",
    )


def _fhir_day(cells: _Cells, column: str, value: str) -> date | None:
    if not value or _PARTIAL_DATE.match(value):
        return None
    try:
        found = date.fromisoformat(value)
    except ValueError:
        cells.fault(column, Reason.VALUE_INVALID, "no date as FHIR has it")
        return None
    if not EARLIEST <= found.year < LATEST:
        said = f"not in the years {EARLIEST} to {LATEST - 1}"
        cells.fault(column, Reason.VALUE_INVALID, said)
        return None
    return found


def _contact(cells: _Cells, said: _Patient, system: str) -> str | None:
    for place, each in enumerate(said.telecom):
        if each.system == system and each.value:
            return cells.clean(f"telecom[{place}].value", each.value, LONGEST_TEXT)
    return None


def _address(cells: _Cells, said: _Patient) -> str | None:
    for each in said.address:
        town = " ".join(filter(None, (each.postalCode, each.city)))
        parts = (*each.line, town, each.state, each.country)
        text = each.text or ", ".join(filter(None, parts))
        if text:
            return cells.clean("address[0]", text.replace("\n", ", "), LONGEST_ADDRESS)
    return None


def _language(cells: _Cells, said: _Patient) -> str | None:
    for each in sorted(said.communication, key=lambda each: not each.preferred):
        for coding in each.language.coding:
            if not _LANGUAGE.match(coding.code):
                reason = "no tag as BCP 47 has it"
                cells.fault("communication[0].language", Reason.VALUE_INVALID, reason)
                return None
            return coding.code
    return None


def _fhir_identifiers(
    cells: _Cells, numbers: Sequence[tuple[int, _Identifier]]
) -> Iterator[patients.Identifier]:
    for place, each in numbers:
        column = f"identifier[{place}]"
        system = cells.clean(f"{column}.system", each.system, LONGEST_TEXT)
        value = cells.clean(f"{column}.value", each.value, LONGEST_TEXT)
        kind = next((coding.code for coding in each.type.coding if coding.code), None)
        if kind is not None:
            kind = cells.clean(f"{column}.type", kind, LONGEST_TEXT)
        if system and value:
            yield patients.Identifier(system, value, kind)


# --- visits ---------------------------------------------------------------------------------------


def visit_of_row(row: Row, reading: Reading) -> VisitRow | list[Fault]:
    """Say which visit a row brings, or all that is wrong with it."""
    cells = _Cells(row, reading)
    patient = cells.text("patient", needed=True)
    practitioner = cells.text("practitioner", needed=True)
    site = cells.text("site", needed=True)
    starts_at, ends_at = cells.instant("starts_at"), cells.instant("ends_at")
    minutes = cells.minutes("minutes")
    if not cells.faults and starts_at is None:
        cells.fault(cells.column_of("starts_at"), Reason.VALUE_MISSING, "nothing stands there")
    if starts_at and ends_at is None:
        ends_at = starts_at + timedelta(minutes=minutes or USUAL_MINUTES)
    status = cells.choice("status", appointments.AppointmentStatus)
    booked_at = cells.instant("booked_at")
    kind, reference = cells.text("visit_type"), cells.text("reference")
    if cells.faults or starts_at is None or ends_at is None:
        return cells.faults
    return VisitRow(
        patient or "",
        practitioner or "",
        site or "",
        kind or "consultation",
        starts_at,
        ends_at,
        status or appointments.AppointmentStatus.BOOKED,
        booked_at,
        reference,
    )
