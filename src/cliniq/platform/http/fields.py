"""Types that cross the wire towards every room."""

from datetime import UTC, date, datetime
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

EARLIEST, LATEST = date(1900, 1, 1), date(2200, 1, 1)


class Incoming(BaseModel):
    """What a client sends: unknown fields are refused, and types are not guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _to_utc(instant: datetime) -> datetime:
    if not EARLIEST.year <= instant.year < LATEST.year:
        raise ValueError("out of bounds")
    return instant.astimezone(UTC)


# Bounds: the years 1900 to 2199, so that no arithmetic on it can overflow. Shape: aware, UTC.
Instant: TypeAlias = Annotated[AwareDatetime, AfterValidator(_to_utc)]
Day: TypeAlias = Annotated[date, Field(ge=EARLIEST, lt=LATEST)]
# One line of text that a person typed.
Line: TypeAlias = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$"
    ),
]
