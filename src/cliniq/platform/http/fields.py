"""Types that cross the wire towards every room."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)


class Incoming(BaseModel):
    """What a client sends: unknown fields are refused, and types are not guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# Written out, since the engines of regular expressions do not agree about `\s`: what ends a line or
# controls a terminal, and what leaves no ink either.
_CONTROLS = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
UNSEEN = rf"{_CONTROLS}\x20\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
STORABLE = (
    r"^[^\x00]*$"  # no body with NUL in it is read at all; the document says so where it may be
)
_DAY = r"(19|2[01])[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]"


def _written_as(form: str) -> BeforeValidator:
    """Refuse what pydantic would guess at: numbers, as text or not, and half-right forms."""
    pattern = re.compile(form, re.ASCII)

    def ensure(value: object) -> object:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise ValueError("not as RFC 3339 writes it")
        return value

    return BeforeValidator(ensure)


def _said_as(form: str) -> Any:
    """Say in the document what is asked of the form, beside its name."""
    return Field(json_schema_extra={"pattern": f"^{form}$"})


def _to_utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)


_INSTANT = rf"{_DAY}T{_TIME}:[0-5][0-9](\.[0-9]{{1,9}})?(Z|[+-]{_TIME})"

# Bounds: the years 1900 to 2199, so that no arithmetic on it can overflow. Shape: aware, UTC.
Instant: TypeAlias = Annotated[
    AwareDatetime, AfterValidator(_to_utc), _written_as(_INSTANT), _said_as(_INSTANT)
]
Day: TypeAlias = Annotated[date, _written_as(_DAY), _said_as(_DAY)]


def line_without(others: str) -> str:
    """Write the pattern of one line with something to be seen in it, and without others.

    Shape: `others` as they stand in a class of a pattern.
    """
    kept = rf"[^{_CONTROLS}{others}]*"
    return rf"^{kept}[^{UNSEEN}{others}]{kept}$"


# One line of text that a person typed, with something to be seen in it.
Line: TypeAlias = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=line_without("")),
    AfterValidator(str.strip),
]
LongLine: TypeAlias = Annotated[
    str,
    StringConstraints(min_length=1, max_length=500, pattern=line_without("")),
    AfterValidator(str.strip),
]
