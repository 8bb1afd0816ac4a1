"""Guards: who may come in, and the unit they get. No handler has the key without the check."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from fastapi import Depends
from starlette.requests import HTTPConnection
from typing_extensions import override

from cliniq.kernel.ids import ClinicId
from cliniq.kernel.permissions import Permission
from cliniq.kernel.problem import Forbidden, NotFound, Problem, RequestInvalid, Unauthenticated
from cliniq.kernel.scope import Caller, ClinicScope, PatientScope, Scope, SelfScope
from cliniq.platform.bus import Bus
from cliniq.platform.db import Database, Opening, ReadUnit, Unit
from cliniq.platform.denials import Knock, remember_denial
from cliniq.platform.http.exchange import exchange_of
from cliniq.platform.http.terms import CLINIC
from cliniq.platform.http.traffic import PACES, Pace, Traffic
from cliniq.platform.limits import Limits
from cliniq.platform.live import Hub
from cliniq.platform.live_passes import Passes
from cliniq.platform.signing import Keyring
from cliniq.platform.storage import Storage

UnitT = TypeVar("UnitT", bound=ReadUnit)

DENIALS = "600/minute"  # of one person: nobody errs so often, and the audit is not for filling


class Directory(Protocol):
    """What guards must ask; the rooms answer, the composition root joins the two."""

    def caller_behind(self, token: str) -> Caller | None:
        """Return who signed in with this access token, or None."""

    def seat_of_staff(self, caller: Caller, scope: ClinicScope) -> str:
        """Return the SQL that seats a member of staff; see `Opening`."""

    def seat_of_self(
        self,
        caller: Caller,
        clinic_id: ClinicId | None,
        *,
        strict: bool,
        unless: Permission | None = None,
    ) -> str:
        """Return the SQL that seats a person among their own rows; see `Opening`.

        It refuses whoever holds the permission `unless`: they are to be seated as staff.
        """


@dataclass(frozen=True, slots=True)
class Entrance:
    """What every guard needs; the composition root puts one into `app.state.entrance`."""

    database: Database
    directory: Directory
    keyring: Keyring
    hub: Hub
    limits: Limits
    bus: Bus
    storage: Storage
    passes: Passes
    paces: Mapping[Traffic, Pace] = field(default_factory=lambda: PACES)


def entrance_of(connection: HTTPConnection) -> Entrance:
    """Find what the composition root laid down."""
    found: Entrance = connection.app.state.entrance
    return found


class Door(Generic[UnitT]):
    """A unit yet to be opened, tried in the order of its attempts; remembers who knocked."""

    __slots__ = ("_attempts", "_entrance", "_opening", "is_open", "knock")

    def __init__(
        self, entrance: Entrance, attempts: Sequence[Opening[UnitT]], knock: Knock
    ) -> None:
        self._entrance = entrance
        self._attempts = attempts
        self.knock = knock
        self.is_open = False

    async def __aenter__(self) -> UnitT:
        refusal: Problem | None = None
        for attempt in self._attempts:
            self._opening = attempt
            try:
                unit = await attempt.__aenter__()
            except (Forbidden, NotFound) as problem:
                # A member without the permission hears so; everybody else learns nothing.
                refusal = problem if refusal is None or isinstance(problem, Forbidden) else refusal
            else:
                self.is_open = True
                return unit
        assert refusal is not None  # noqa: S101 - there is at least one attempt
        raise refusal

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._opening.__aexit__(kind, error, trace)

    async def remember(self, problem: Problem) -> None:
        """Write a refusal to the audit, now that its transaction is gone.

        Raises: RATE_LIMIT_EXCEEDED 429 for somebody who is refused all the time; what they were
        refused before is remembered.
        """
        if problem.is_denial:
            await self._entrance.limits.hit(DENIALS, "denial", str(self.knock.actor_id))
            await remember_denial(self._entrance.database, self.knock, problem)


class Ajar:
    """The door of a public route: nothing to open, nobody to remember."""

    knock = None
    is_open = True

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None

    async def remember(self, problem: Problem) -> None:
        """Nothing is known of who knocked."""


class Policy:
    """Something a route must take as a parameter: who may come in, and why. It gives a door."""

    @property
    def refusals(self) -> Sequence[type[Problem]]:
        """Name what its door refuses with, whatever the route does behind it."""
        return ()

    @property
    def words(self) -> str:
        """Say who may come in, for the documentation."""
        raise NotImplementedError

    @property
    def gives(self) -> type[ReadUnit] | None:
        """Say which kind of unit the handler receives; none where there is no unit."""
        return None

    @property
    def asks_where(self) -> bool:
        """Say whether the header that names a clinic is read."""
        return False


class Guard(Policy, Generic[UnitT]):
    """Checks the sign-in and gives a door; the database is asked once the request is sound."""

    def __init__(self, kind: type[UnitT], permission: Permission | None, *, own: str = "") -> None:
        self._kind = kind
        self._permission = permission
        self._own = own

    @property
    @override
    def words(self) -> str:
        """Say which permission is needed, or that one's own is enough."""
        ways = [str(self._permission)] if self._permission else []
        return " or ".join([*ways, "self"] if self._own else ways)

    @property
    @override
    def gives(self) -> type[ReadUnit] | None:
        return self._kind

    @property
    @override
    def asks_where(self) -> bool:
        """Say whether the header that names a clinic is read: not for one's own in all of them."""
        return self._own != "all"

    @property
    @override
    def refusals(self) -> Sequence[type[Problem]]:
        """Name what its door refuses with, whatever the route does behind it."""
        if self._own == "all":
            return (Unauthenticated,)
        return (Unauthenticated, NotFound, *([Forbidden] if self._permission else []))

    async def __call__(self, connection: HTTPConnection) -> Door[UnitT]:
        """Give the door.

        Raises: UNAUTHENTICATED 401; opening it, NOT_FOUND 404 for a clinic the caller is not in
        (so its existence does not leak) and FORBIDDEN 403 for a member without the permission.
        """
        entrance = entrance_of(connection)
        caller = signed_in(connection)
        clinic_id = None if self._own == "all" else clinic_named(connection, caller)
        exchange = exchange_of(connection)
        action = f"{connection.scope.get('method', 'SUBSCRIBE')} {exchange.route}"
        return self.door(entrance, caller, clinic_id, action, exchange.request_id)

    def door(
        self,
        entrance: Entrance,
        caller: Caller,
        clinic_id: ClinicId | None,
        action: str,
        request_id: str,
    ) -> Door[UnitT]:
        """Give the door of a known caller: for a route, or for a topic of the live socket."""
        knock = Knock(
            caller.person_id, clinic_id, str(self._permission or "self"), action, request_id
        )
        attempts = [
            Opening(self._kind, entrance.database, scope, seat, request_id)
            for scope, seat in self._seats(entrance.directory, caller, clinic_id)
        ]
        return Door(entrance, attempts, knock)

    def _seats(
        self, directory: Directory, caller: Caller, clinic_id: ClinicId | None
    ) -> list[tuple[Scope, str]]:
        if clinic_id is None:
            seat = directory.seat_of_self(caller, None, strict=False)
            return [(SelfScope(caller.person_id), seat)]
        seats: list[tuple[Scope, str]] = []
        if self._permission is not None:
            scope = ClinicScope(caller.person_id, clinic_id, self._permission)
            seats.append((scope, directory.seat_of_staff(caller, scope)))
        if self._own:
            seat = directory.seat_of_self(
                caller, clinic_id, strict=self._own != "stranger", unless=self._permission
            )
            seats.append((PatientScope(caller.person_id, clinic_id), seat))
        return seats if caller.is_staff else seats[::-1]


def signed_in(connection: HTTPConnection) -> Caller:
    """Know the caller by the access token.

    Raises: UNAUTHENTICATED 401.
    """
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    caller = (
        entrance_of(connection).directory.caller_behind(token)
        if scheme.lower() == "bearer"
        else None
    )
    if caller is None:
        raise Unauthenticated
    return caller


def clinic_named(connection: HTTPConnection, caller: Caller) -> ClinicId:
    """Read the acting clinic: the path's, else the header's, else the caller's home.

    Raises: REQUEST_INVALID 422 where none is named, or not as a UUID.
    """
    named = connection.path_params.get("clinic_id") or connection.headers.get(CLINIC)
    if named is None and caller.home_clinic_id is not None:
        return caller.home_clinic_id
    try:
        return ClinicId(UUID(named))
    except (TypeError, ValueError):
        raise RequestInvalid(errors=["header.x-clinic-id: uuid_parsing"]) from None


class Public(Policy):
    """An open door, with the reason it is open."""

    def __init__(self, why: str) -> None:
        self._why = why

    @property
    @override
    def words(self) -> str:
        """Say that it is open, and why."""
        return f"public: {self._why}"

    async def __call__(self) -> Ajar:
        """Let everyone in."""
        return Ajar()


def may(permission: Permission) -> Any:
    """Mark the parameter that receives a unit of staff who hold the permission."""
    return Depends(Guard(Unit, permission))


def may_read(permission: Permission) -> Any:
    """Mark the parameter that receives a read-only unit of staff who hold the permission."""
    return Depends(Guard(ReadUnit, permission))


def may_or_own(permission: Permission) -> Any:
    """Mark the unit of staff with the permission, or of a patient among their own rows."""
    return Depends(Guard(Unit, permission, own="one"))


def may_read_or_own(permission: Permission) -> Any:
    """Mark the same as `may_or_own`, to read only."""
    return Depends(Guard(ReadUnit, permission, own="one"))


def own_everywhere() -> Any:
    """Mark the read-only unit of a person among their own rows in all clinics."""
    return Depends(Guard(ReadUnit, None, own="all"))


def public(why: str) -> Any:
    """Mark a route that needs no caller, and say why."""
    return Depends(Public(why))
