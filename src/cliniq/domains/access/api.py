"""The only door into the access room."""

from uuid import UUID

from cliniq.domains.access import store
from cliniq.domains.access.errors import PractitionerNotFound
from cliniq.domains.access.models import Membership, Practitioner
from cliniq.domains.access.service import get_practitioner, hint_at
from cliniq.domains.access.store import (
    add_membership,
    add_practitioner,
    find_practitioners,
    list_memberships,
    list_practitioners,
)
from cliniq.kernel.ids import ClinicId, PersonId, SessionId
from cliniq.kernel.permissions import Permission
from cliniq.kernel.scope import Caller, ClinicScope
from cliniq.platform.clock import Clock
from cliniq.platform.tokens import AccessTokens

__all__ = [
    "Doorkeeper",
    "Membership",
    "Practitioner",
    "PractitionerNotFound",
    "add_membership",
    "add_practitioner",
    "find_practitioners",
    "get_practitioner",
    "hint_at",
    "list_memberships",
    "list_practitioners",
]


class Doorkeeper:
    """Answers the guards: who is behind a token, and the SQL that seats them.

    Session, membership and permission are read in the request's own transaction: what was revoked
    ends at once.
    """

    def __init__(self, tokens: AccessTokens, wall: Clock) -> None:
        self._tokens = tokens
        self._wall = wall

    def caller_behind(self, token: str) -> Caller | None:
        """Return who signed in with this access token, or None."""
        claims = self._tokens.read(token)
        if claims is None:
            return None
        home = claims.get("clinic")
        return Caller(
            PersonId(UUID(claims["sub"])),
            SessionId(UUID(claims["sid"])),
            ClinicId(UUID(home)) if home else None,
            bool(claims.get("staff")),
        )

    def seat_of_staff(self, caller: Caller, scope: ClinicScope) -> str:
        """Return the SQL that seats a member of staff."""
        return store.seat_of_staff(
            scope.clinic_id, caller.person_id, caller.session_id, scope.permission, self._wall()
        )

    def seat_of_self(
        self,
        caller: Caller,
        clinic_id: ClinicId | None,
        *,
        strict: bool,
        unless: Permission | None = None,
    ) -> str:
        """Return the SQL that seats a person among their own rows."""
        return store.seat_of_self(
            clinic_id,
            caller.person_id,
            caller.session_id,
            strict=strict,
            unless=unless,
            wall=self._wall(),
        )
