"""Identifiers. UUIDv7: they sort by birth, so indexes grow at one end.

They tell when a thing was made; whatever must not be guessed or dated is random bytes or a MAC.
"""

from typing import NewType
from uuid import UUID

from uuid_utils.compat import uuid7

PersonId = NewType("PersonId", UUID)
SessionId = NewType("SessionId", UUID)
ClinicId = NewType("ClinicId", UUID)


def new_id() -> UUID:
    """Make an identifier."""
    return uuid7()
