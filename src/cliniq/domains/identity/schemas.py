"""What crosses the wire towards the identity room, and back."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, SecretStr, StringConstraints

from cliniq.kernel.record import Record
from cliniq.platform.http.fields import Incoming

Email = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        to_lower=True,
        min_length=3,
        max_length=254,
        pattern=r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+$",
    ),
]


def _bounded(password: SecretStr) -> SecretStr:
    if not 1 <= len(password.get_secret_value()) <= 256:  # noqa: PLR2004
        raise ValueError("out of bounds")
    return password


class SignInIn(Incoming):
    """An e-mail address and its password."""

    email: Email
    password: Annotated[SecretStr, AfterValidator(_bounded)]


class RefreshIn(Incoming):
    """The newest refresh token of a sign-in."""

    refresh_token: Annotated[str, StringConstraints(min_length=1, max_length=256)]


class PersonOut(Record, frozen=True):
    """Who signed in."""

    person_id: UUID
    given_name: str
    family_name: str


class SignedInOut(Record, frozen=True):
    """Tokens. Units: `expires_in` in seconds, of the access token."""

    access_token: str
    expires_in: int
    refresh_token: str
    person: PersonOut
