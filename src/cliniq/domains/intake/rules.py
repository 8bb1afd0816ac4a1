"""Pure decisions of the intake room: whether a file can be read, and what is wrong with a text."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from zoneinfo import ZoneInfo

from cliniq.domains.intake.errors import ReadingInvalid
from cliniq.domains.intake.models import ImportKind, Reading, Reason

PATIENT_FIELDS = frozenset(
    "given_name family_name birth_date gender phone email address language deceased_on mrn".split()
)
VISIT_FIELDS = frozenset(
    "reference patient practitioner site visit_type starts_at ends_at minutes status"
    " booked_at".split()
)
NEEDED: Mapping[ImportKind, frozenset[str]] = MappingProxyType(
    {
        ImportKind.PATIENTS: frozenset({"given_name", "family_name"}),
        ImportKind.APPOINTMENTS: frozenset({"patient", "practitioner", "site", "starts_at"}),
    }
)
FIELDS: Mapping[ImportKind, frozenset[str]] = MappingProxyType(
    {ImportKind.PATIENTS: PATIENT_FIELDS, ImportKind.APPOINTMENTS: VISIT_FIELDS}
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_PHONE = re.compile(r"\+[0-9][0-9 ()/.-]*\Z", re.ASCII)


def ensure_readable(reading: Reading, kind: ImportKind) -> None:
    """Refuse words of a reading that say nothing of this kind of file.

    Raises: READING_INVALID 409.
    """
    named = {*reading.columns, *reading.formats, *reading.values, *reading.constants}
    if strange := sorted(named - FIELDS[kind]):
        raise ReadingInvalid(f"no field of {kind}: {strange[0]}")
    if reading.delimiter is not None and len(reading.delimiter) != 1:
        raise ReadingInvalid("delimiter: one character")


def judge_columns(reading: Reading, kind: ImportKind, columns: Sequence[str]) -> str | None:
    """Say what a table lacks that is to be read so, or nothing where it has all that is needed."""
    named = [*reading.columns.values(), *(each.column for each in reading.identifiers)]
    if missing := [each for each in named if each not in columns]:
        return f"no column {missing[0]!r}, which the reading names"
    for each in sorted(NEEDED[kind]):
        if each not in reading.constants and reading.columns.get(each, each) not in columns:
            return f"no column for {each}"
    return None


def judge_text(value: str, longest: int) -> tuple[Reason, str] | None:
    """Say what is wrong with a text, if anything.

    What a spreadsheet would run as a formula is none of a person's words; a telephone number is.
    """
    if len(value) > longest:
        return Reason.VALUE_INVALID, f"longer than {longest} characters"
    if _CONTROL.search(value):
        return Reason.VALUE_INVALID, "a control character"
    if value[0] in "=@+-" and not _PHONE.match(value):
        return Reason.FORMULA_FOUND, "begins as a formula does"
    return None


def place_in_time(at: datetime, zone: ZoneInfo) -> datetime | None:
    """Say which instant is meant by a time of a site; nothing where clocks leap over it."""
    if at.tzinfo is not None:
        return at.astimezone(UTC)
    instant = at.replace(tzinfo=zone).astimezone(UTC)
    is_real = instant.astimezone(zone).replace(tzinfo=None) == at
    return instant if is_real else None
