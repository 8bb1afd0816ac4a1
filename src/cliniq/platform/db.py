"""One request or job is one transaction in one scope. Only this module begins and commits."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic, perf_counter
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar, assert_never

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy
from typing_extensions import override

from cliniq.kernel.ids import ClinicId, PersonId
from cliniq.kernel.problem import (
    DependencyUnavailable,
    Forbidden,
    NotFound,
    Problem,
    Unauthenticated,
)
from cliniq.kernel.scope import (
    ClinicScope,
    GuestScope,
    PatientScope,
    PlatformScope,
    Scope,
    SelfScope,
    WorkScope,
)
from cliniq.platform import traces
from cliniq.platform.cache import Cache, Key
from cliniq.platform.clock import Clocks
from cliniq.platform.sealing import Sealer
from cliniq.platform.slow import NEVER_SLOW, SlowLog

T = TypeVar("T")
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

log = structlog.get_logger(__name__)

STATEMENTS = 100  # that each connection keeps prepared
PATIENCE_SECONDS = 5  # for a free connection, or for the last answer before the end
WAITING_PER_CONNECTION = 100  # whoever comes to a longer queue is turned away at once

# What a seat may answer, by SQLSTATE.
REFUSALS: Mapping[str, type[Problem]] = MappingProxyType(
    {"CQ401": Unauthenticated, "CQ403": Forbidden, "CQ404": NotFound}
)

# What says that the database cannot serve anyone just now, rather than that a statement is wrong.
ABSENT = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.ConnectionFailureError,
    asyncpg.InsufficientResourcesError,  # too many connections; no memory, no room on the disk
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InternalClientError,  # how asyncpg says that a connection died between two statements
    asyncpg.ProtocolViolationError,  # how PgBouncer says that it has no server to give
)


class CommitRefused(Exception):
    """COMMIT was answered by a rollback: a statement had failed and its error was swallowed."""


class InsideUnit(Exception):
    """Something slow was about to be done while a transaction is open."""


class _Stay:
    """That a unit is open, in the task that opened it and in those begun meanwhile."""

    __slots__ = ("is_over", "outer")
    is_over: bool
    outer: "_Stay | None"

    def __init__(self, outer: "_Stay | None") -> None:
        while outer is not None and outer.is_over:
            outer = outer.outer
        self.outer = outer
        self.is_over = False


_STAY: ContextVar[_Stay | None] = ContextVar("stay", default=None)


def ensure_outside_units() -> None:
    """Refuse to go on while a transaction of this task, or of the one that began it, is open.

    Raises: InsideUnit.
    """
    stay = _STAY.get()
    while stay is not None:
        if not stay.is_over:
            raise InsideUnit
        stay = stay.outer


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside a database in its process. Without any of it, it works all the same."""

    wake: Callable[[Iterable[int]], None] = lambda _shards: None  # relays, where facts were told
    wake_lane: Callable[[str], None] = lambda _lane: None  # all workers, where a lane has jobs
    cache: Cache | None = None  # without one, everything is asked for
    slow: SlowLog = NEVER_SLOW
    sealer: Sealer | None = None  # without one, nobody is written to


ALONE = Beside()


@dataclass(frozen=True, slots=True)
class Database:
    """A pool for each database role, since a role that changes re-plans prepared statements."""

    clinic: Pool
    person: Pool
    platform: Pool
    clocks: Clocks
    beside: Beside = ALONE
    waiting: Counter[str] = field(default_factory=Counter)  # for a connection, by role

    def pool_of(self, scope: Scope) -> tuple[Pool, str]:
        """Say which pool serves a scope, and as which role."""
        match scope:
            case ClinicScope() | WorkScope():
                return self.clinic, "cliniq_clinic"
            case PatientScope() | GuestScope() | SelfScope():
                return self.person, "cliniq_person"
            case PlatformScope():
                return self.platform, "cliniq_platform"
            case _:
                assert_never(scope)

    def cut(self) -> None:
        """Cut every connection: whatever has not committed is rolled back, nobody is waited for."""
        for pool in (self.clinic, self.person, self.platform):
            pool.terminate()


class ReadUnit:
    """One read-only transaction: in whose scope, and when it began on either clock.

    All its statements see one snapshot, so that a version and what it is the version of agree.
    """

    begin: ClassVar[str] = "begin isolation level repeatable read read only"

    __slots__ = (
        "began",
        "changed",
        "connection",
        "database",
        "now",
        "request_id",
        "scope",
        "wall",
    )

    def __init__(
        self,
        connection: Connection,
        scope: Scope,
        database: Database,
        request_id: str,
        began: float = float("-inf"),
    ) -> None:
        self.began = began  # before its snapshot was taken, on `monotonic`
        self.changed: set[Key] = set()  # of the cache's keys, by this unit
        self.connection = connection
        self.scope = scope
        self.database = database
        self.now: datetime = database.clocks.clinic()
        self.wall: datetime = database.clocks.wall()
        self.request_id = request_id

    @property
    def clinic_id(self) -> ClinicId:
        """Say in which clinic this happens. Raises: TypeError in a scope without one."""
        if isinstance(self.scope, ClinicScope | PatientScope | GuestScope | WorkScope):
            return self.scope.clinic_id
        raise TypeError("this scope has no clinic")

    @property
    def person_id(self) -> PersonId:
        """Say in whose name this happens. Raises: TypeError where nobody is signed in."""
        if (person_id := self.actor_id) is None:
            raise TypeError("nobody is signed in")
        return person_id

    @property
    def actor_id(self) -> PersonId | None:
        """Say in whose name this happens, if in anybody's."""
        match self.scope:
            case PlatformScope() | GuestScope():
                return None
            case WorkScope():
                return self.scope.on_behalf_of
            case _:
                return self.scope.person_id

    @property
    def commit(self) -> str:
        """Say what ends it."""
        return "commit"

    async def part(self) -> None:
        """Say what is left to say before COMMIT: a reader has nothing."""

    def parted(self) -> None:
        """Do what waits for COMMIT: a reader has nothing."""


class Unit(ReadUnit):
    """One transaction that writes, with what it has yet to say before and after COMMIT."""

    begin: ClassVar[str] = "begin"

    __slots__ = ("_afterwards", "_parting", "last_words")

    def __init__(
        self,
        connection: Connection,
        scope: Scope,
        database: Database,
        request_id: str,
        began: float = float("-inf"),
    ) -> None:
        super().__init__(connection, scope, database, request_id, began)
        self._parting: dict[Callable[[Unit, list[Any]], Awaitable[None]], list[Any]] = {}
        self._afterwards: list[Callable[[], None]] = []
        self.last_words = ""  # SQL that travels with COMMIT; it commits only if it succeeds

    def before_commit(self, write: Callable[["Unit", list[T]], Awaitable[None]], item: T) -> None:
        """Keep `item`; `write` gets all its items at once, as the last thing before COMMIT."""
        self._parting.setdefault(write, []).append(item)

    def after_commit(self, act: Callable[[], None]) -> None:
        """Do something in this process once the transaction is true; it must not fail or wait."""
        self._afterwards.append(act)

    @property
    @override
    def commit(self) -> str:
        """Say what ends it, in one round trip."""
        return f"{self.last_words}; commit" if self.last_words else "commit"

    @override
    async def part(self) -> None:
        for write, items in self._parting.items():
            await write(self, items)

    @override
    def parted(self) -> None:
        for act in self._afterwards:
            act()


UnitT = TypeVar("UnitT", bound=ReadUnit)


class Opening(Generic[UnitT]):
    """A transaction that has yet to be opened: `async with` opens it, and commits or rolls back.

    One round trip opens it as the scope's role. `seating` is SQL that checks who asks and names
    the clinic; without it the scope is believed. All of it is local to the transaction, so no
    pooler can leak a clinic.
    Raises: UNAUTHENTICATED 401, NOT_FOUND 404, FORBIDDEN 403 where the seating refuses;
    DEPENDENCY_UNAVAILABLE 503 where the database does not serve.
    """

    __slots__ = (
        "_connection",
        "_database",
        "_kind",
        "_pool",
        "_request_id",
        "_seating",
        "_stay",
        "_unit",
        "scope",
    )

    def __init__(
        self,
        kind: type[UnitT],
        database: Database,
        scope: Scope,
        seating: str | None = None,
        request_id: str = "",
    ) -> None:
        self._kind = kind
        self._database = database
        self._seating = seating
        self._request_id = request_id
        self.scope = scope

    async def __aenter__(self) -> UnitT:
        self._pool, role = self._database.pool_of(self.scope)
        self._connection = await self._acquire(role)
        began = monotonic()
        try:
            seating = self._seating or _believe(self.scope)
            await self._say("begin", f"{self._kind.begin}; set local role {role}; {seating}")
        except BaseException as error:  # noqa: BLE001 - it goes on, in our words
            alive = await self._abandon()
            raise _translated(error, alive=alive) from None
        self._unit = self._kind(
            self._connection, self.scope, self._database, self._request_id, began
        )
        self._stay = _Stay(_STAY.get())
        _STAY.set(self._stay)
        traces.note("begin", role=role)
        return self._unit

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self._end(error)
        finally:
            self._stay.is_over = True

    async def _end(self, error: BaseException | None) -> None:
        if error is not None:
            traces.note("rollback")
            alive = await self._abandon()
            if _is_absence(error, alive=alive) or self._is_on_standby(error):
                raise _absent(error) from error
            return
        try:
            await self._unit.part()
            tag = await self._say("commit", self._unit.commit)
        except BaseException as failure:
            alive = await self._abandon()
            raise _translated(failure, alive=alive) from failure
        try:
            if tag != "COMMIT":
                raise CommitRefused
            traces.note("commit")
            self._unit.parted()  # before anything is awaited: it is true, whoever is cancelled now
        finally:
            await self._pool.release(self._connection)

    def _is_on_standby(self, error: BaseException) -> bool:
        """Tell whether a server that takes no writes was found, as in a failover."""
        readonly = isinstance(error, asyncpg.ReadOnlySQLTransactionError)
        return readonly and issubclass(self._kind, Unit)

    async def _acquire(self, role: str) -> Connection:
        """Wait for a connection, if the queue is not too long already."""
        waiting = self._database.waiting
        if waiting[role] >= WAITING_PER_CONNECTION * self._pool.get_max_size():
            log.warning("too many wait for a connection", role=role)
            raise DependencyUnavailable("postgresql")
        waiting[role] += 1
        try:
            return await self._pool.acquire(timeout=PATIENCE_SECONDS)
        except (*ABSENT, asyncpg.PostgresError, asyncpg.InterfaceError) as error:  # nobody gets in
            raise _absent(error) from error
        finally:
            waiting[role] -= 1

    async def _say(self, name: str, text: str) -> str:
        """Begin or commit, which may be slow as any statement."""
        began = perf_counter()
        try:
            return await self._connection.execute(text)
        finally:
            slow, seconds = self._database.beside.slow, perf_counter() - began
            if seconds >= slow.seconds:
                slow.note(name, seconds, None, self._request_id)

    async def _abandon(self) -> bool:
        """Roll back and give the connection back; one that cannot is thrown away. Say if it could.

        Never hides the error that led here, and finishes although its task was cancelled.
        """
        return await asyncio.shield(_roll_back(self._pool, self._connection))


async def _roll_back(pool: Pool, connection: Connection) -> bool:
    alive = True
    try:
        await connection.execute("rollback", timeout=PATIENCE_SECONDS)
    except Exception:  # noqa: BLE001 - a dying connection fails in many ways, and a leak is for good
        alive = False
        with suppress(asyncpg.InterfaceError):  # the pool has noticed already
            connection.terminate()
    await pool.release(connection)
    return alive


def _translated(error: BaseException, *, alive: bool) -> BaseException:
    """Say in our words what the database refused; anything else stays what it is."""
    if isinstance(error, asyncpg.PostgresError) and (refusal := REFUSALS.get(str(error.sqlstate))):
        return refusal()
    return _absent(error) if _is_absence(error, alive=alive) else error


def _is_absence(error: BaseException, *, alive: bool) -> bool:
    """Tell whether an error comes of a database that does not serve, or of its connection's end."""
    return isinstance(error, ABSENT) or (not alive and isinstance(error, asyncpg.InterfaceError))


def _absent(error: BaseException) -> DependencyUnavailable:
    log.warning("postgresql does not serve", error=type(error).__name__)
    return DependencyUnavailable("postgresql")


def _believe(scope: Scope) -> str:
    """Name the scope's rows without asking who is behind it: for jobs and the roots."""
    match scope:
        case ClinicScope() | WorkScope():  # ids by type, so they cannot carry SQL
            return f"set local cliniq.clinic_id = '{scope.clinic_id}'"
        case GuestScope():
            return (
                f"set local cliniq.clinics = '{{{scope.clinic_id}}}'; "
                "set local cliniq.patients = '{}'"
            )
        case PlatformScope():
            return "set local cliniq.clinic_id = ''"
        case _:
            raise TypeError("a person's scope is proved by a seat, never believed")


def open_unit(
    database: Database, scope: Scope, seating: str | None = None, request_id: str = ""
) -> Opening[Unit]:
    """Prepare a transaction that writes; see `Opening`."""
    return Opening(Unit, database, scope, seating, request_id)


def open_read_unit(
    database: Database, scope: Scope, seating: str | None = None, request_id: str = ""
) -> Opening[ReadUnit]:
    """Prepare a transaction that only reads; PostgreSQL refuses a write in it."""
    return Opening(ReadUnit, database, scope, seating, request_id)


@asynccontextmanager
async def open_database(
    dsn: str,
    size: int,
    clocks: Clocks,
    beside: Beside = ALONE,
    *,
    pooler: bool = False,
) -> AsyncIterator[Database]:
    """Open the three pools. Nothing to reset on release: a unit leaves nothing behind.

    Bounds: `size` connections for staff, as many for patients, a third of it for the platform.
    """
    pools: list[Pool] = []
    try:
        for each in (size, size, max(2, size // 3)):
            pool = await open_pool(dsn, each, pooler=pooler)
            pools.append(pool)  # one by one: what was opened is closed, whatever comes
        clinic, person, platform = pools
        yield Database(clinic, person, platform, clocks, beside)
    finally:
        await close_pools(pools)


async def open_pool(dsn: str, size: int, *, pooler: bool) -> Pool:
    """Open one pool. Behind a pooler no statement stays prepared: the next may be elsewhere."""
    return await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        reset=_leave_as_is,
        statement_cache_size=0 if pooler else STATEMENTS,
    )


async def close_pools(pools: Sequence[Pool]) -> None:
    """Close pools: wait for whoever is still served, but not for a server that says nothing."""
    closing = [asyncio.ensure_future(pool.close()) for pool in pools]
    try:
        if closing:
            await asyncio.wait(closing, timeout=PATIENCE_SECONDS)
    finally:
        for pool in pools:
            pool.terminate()  # does nothing to one that is closed
    await asyncio.gather(*closing, return_exceptions=True)


async def _leave_as_is(_connection: object) -> None: ...
