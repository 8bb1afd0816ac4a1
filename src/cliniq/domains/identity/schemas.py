"""What crosses the wire towards the identity room, and back."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, SecretStr, StringConstraints

from cliniq.kernel.record import Record
from cliniq.platform.http.fields import STORABLE, UNSEEN, Incoming

# An address as people type it, with blanks around it and capitals too.
Email = Annotated[
    str,
    StringConstraints(min_length=3, max_length=254, pattern=rf"^ *[^@{UNSEEN}]+@[^@{UNSEEN}]+ *$"),
    AfterValidator(lambda address: address.strip().lower()),
]


class SignInIn(Incoming):
    """An e-mail address and its password."""

    email: Email
    password: Annotated[
        SecretStr,
        Field(min_length=1, max_length=256, json_schema_extra={"pattern": STORABLE}),
    ]


class RefreshIn(Incoming):
    """The newest refresh token of a sign-in."""

    refresh_token: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=STORABLE)]


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
