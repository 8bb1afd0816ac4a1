"""Types that cross the wire towards every room."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, TypeAlias

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

EARLIEST, LATEST = date(1900, 1, 1), date(2200, 1, 1)


class Incoming(BaseModel):
    """What a client sends: unknown fields are refused, and types are not guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _written_as(form: str) -> BeforeValidator:
    """Refuse what pydantic would guess at: numbers, as text or not, and half-right forms."""
    pattern = re.compile(form)

    def ensure(value: object) -> object:
        if not isinstance(value, str) or not pattern.match(value):
            raise ValueError("not as RFC 3339 writes it")
        return value

    return BeforeValidator(ensure)


def _to_utc(instant: datetime) -> datetime:
    if not EARLIEST.year <= instant.year < LATEST.year:
        raise ValueError("out of bounds")
    return instant.astimezone(UTC)


# Bounds: the years 1900 to 2199, so that no arithmetic on it can overflow. Shape: aware, UTC.
Instant: TypeAlias = Annotated[
    AwareDatetime,
    AfterValidator(_to_utc),
    _written_as(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}"),
]
Day: TypeAlias = Annotated[
    date, Field(ge=EARLIEST, lt=LATEST), _written_as(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
]
# One line of text that a person typed.
Line: TypeAlias = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$"
    ),
]
