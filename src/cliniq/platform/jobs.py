"""Work that is promised now and done later: a promise exists if and only if its cause commits.

Rooms declare in `jobs.py` what may be promised, and in `subscribers.py` which event promises what.
Payloads hold ids only. A job acts within the walls of one clinic, or for the installation.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import msgspec
from typing_extensions import override

from cliniq.kernel.ids import ClinicId, PersonId, new_id
from cliniq.kernel.permissions import Permission
from cliniq.kernel.record import Record
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import jobs_store
from cliniq.platform.bus import Bus, Message
from cliniq.platform.db import Database, Opening, ReadUnit, Unit, open_unit
from cliniq.platform.events import Event, Told
from cliniq.platform.lanes import Lane
from cliniq.platform.outbound.client import Outbound
from cliniq.platform.signing import Keyring
from cliniq.platform.storage import Storage
from cliniq.platform.traces import carrier

T = TypeVar("T", bound=Record)
E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Tools:
    """What errands work with; a composition root gives them to its worker.

    `address` is where patients' phones reach the installation.
    """

    database: Database
    storage: Storage
    outbound: Outbound
    keyring: Keyring
    address: str


class Trip(Protocol):
    """What an errand is given for its way: who it is, and short units to read and write in."""

    @property
    def key(self) -> str:
        """The job's own, the same in every run: a receiver makes the effect once by it."""

    @property
    def attempt(self) -> int:
        """Which run this is, from 1."""

    @property
    def is_last(self) -> bool:
        """Whether the job is held if this run fails."""

    @property
    def tools(self) -> Tools:
        """What there is to work with."""

    def open(self) -> Opening[Unit]:
        """Open a short unit in the job's scope. Leave it before you speak to anybody outside."""

    async def progress(self, done: int, total: int, note: str = "") -> None:
        """Say how far the job has come."""


@dataclass(frozen=True, slots=True)
class Promise(Generic[T]):
    """What may be promised: a name, a lane, and what it takes."""

    name: str
    lane: Lane
    takes: type[T]

    async def later(
        self,
        unit: Unit,
        payload: T,
        key: str | None = None,
        at: datetime | None = None,
        clinic_id: ClinicId | None = None,
    ) -> None:
        """Promise the work; the promise is true if and only if `unit` commits.

        It is for the unit's clinic; a unit of the installation may name one. `at` is wall time.
        Idempotent: by `key`, within job and clinic, as long as the first one waits or runs.
        Locks: just before COMMIT, the clinic's turns in the lane.
        """
        clinic = clinic_id if isinstance(unit.scope, PlatformScope) else unit.clinic_id
        stable = f"{clinic or 'cliniq'}:{self.name}:{key}" if key else f"job:{new_id()}"
        body = msgspec.Raw(msgspec.json.encode(payload))
        written = _Written(
            lane=self.lane,
            job=self.name,
            clinic=clinic,
            key=stable,
            dedupe=stable if key else None,
            person=self._person(unit),
            at=at,
            trace=carrier() or None,
            payload=body,
        )
        unit.before_commit(_write, written)

    def _person(self, unit: Unit) -> PersonId | None:
        return unit.actor_id


@dataclass(frozen=True, slots=True)
class Job(Promise[T]):
    """A use case that runs in one unit: whatever it writes and its own end are one transaction.

    So its effects in the database happen exactly once. The unit's `request_id` is the job's key.
    With a `seat` it works for the person who promised it, and only while they hold that permission:
    once they do not, it ends without effect.
    """

    use_case: Callable[[Unit, T], Awaitable[object]]
    seat: Permission | None = None

    @override
    def _person(self, unit: Unit) -> PersonId | None:
        return unit.person_id if self.seat else unit.actor_id


@dataclass(frozen=True, slots=True)
class Errand(Promise[T]):
    """Work that speaks to somebody outside, in no transaction; it may run again after its end.

    Whoever is spoken to is given `trip.key`, so that the effect happens once.
    """

    use_case: Callable[[Trip, T], Awaitable[object]]


AnyPromise: TypeAlias = Promise[Any]


class Tick(Record, frozen=True):
    """The moment for which a schedule promised its job."""

    at: datetime


class Nothing(Record, frozen=True):
    """What a job takes that needs to know nothing."""


@dataclass(frozen=True, slots=True)
class Duty:
    """A job of the installation that comes by itself: `cron` is five fields, in UTC, wall time.

    It is promised once a tick, however many workers there are; after a pause only the last tick is.
    """

    cron: str
    job: Promise[Tick]


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which event promises which job."""

    kind: str
    job: AnyPromise


def when(event: type[E], job: Promise[E]) -> Subscription:
    """Have every fact of this kind promise a job that takes the fact itself."""
    return Subscription(event.kind, job)


class Registry:
    """All that may be promised, and by what; the composition root makes one of the rooms'."""

    def __init__(
        self,
        jobs: Iterable[AnyPromise],
        subscriptions: Iterable[Subscription] = (),
        duties: Sequence[Duty] = (),
    ) -> None:
        self.jobs: Mapping[str, AnyPromise] = _by_name(jobs)
        self.subscribers: dict[str, list[AnyPromise]] = {}
        self.duties = duties
        for each in subscriptions:
            self.subscribers.setdefault(each.kind, []).append(each.job)
        named = [*(job for heard in self.subscribers.values() for job in heard)]
        named += [duty.job for duty in duties]
        if astray := sorted(job.name for job in named if self.jobs.get(job.name) is not job):
            raise ValueError(f"promised, but no job of the registry: {', '.join(astray)}")

    async def forward(self, unit: Unit, told: Sequence[Told]) -> None:
        """Promise the jobs of all who hear of these facts, in one statement.

        Idempotent: by fact and job, as long as the job waits or runs.
        """
        for fact in told:
            for job in self.subscribers.get(fact.kind, ()):
                key = f"event:{fact.outbox_id}:{job.name}"
                written = _Written(
                    lane=job.lane,
                    job=job.name,
                    clinic=ClinicId(fact.clinic_id),
                    key=key,
                    dedupe=key,
                    person=None,
                    at=None,
                    trace=fact.trace or None,
                    payload=msgspec.Raw(fact.body),
                )
                unit.before_commit(_write, written)


def _by_name(jobs: Iterable[AnyPromise]) -> dict[str, AnyPromise]:
    found: dict[str, AnyPromise] = {}
    for job in jobs:
        if found.setdefault(job.name, job) is not job:
            raise ValueError(f"two jobs are called {job.name}")
    return found


class _Written(Record, frozen=True):
    """One promise as the statement reads it."""

    lane: Lane
    job: str
    clinic: ClinicId | None
    key: str
    dedupe: str | None
    person: PersonId | None
    at: datetime | None
    trace: str | None
    payload: msgspec.Raw


async def _write(unit: Unit, promises: list[_Written]) -> None:
    body = msgspec.json.encode(promises).decode()
    if isinstance(unit.scope, PlatformScope):
        await jobs_store.promise_any(unit, body)
    else:
        await jobs_store.promise(unit, body)
    for lane in {each.lane for each in promises}:
        wake_lane(unit, lane)


def lane_channel(lane: str) -> str:
    """Name the bus channel on which a lane's workers are woken."""
    return f"wake/jobs/{lane}"


def lane_waker(bus: Bus) -> Callable[[str], None]:
    """Make what wakes a lane's workers, in whatever process; they look by themselves too."""
    return lambda lane: bus.post(Message(lane_channel(lane), b""))


def wake_lane(unit: Unit, lane: str) -> None:
    """Tell the workers, after COMMIT, that a lane has work."""
    unit.after_commit(lambda: unit.database.beside.wake_lane(lane))


async def tell_progress(unit: Unit, done: int, total: int, note: str = "") -> None:
    """Say how far the job of this unit has come, beside its transaction: it is seen at once."""
    await report(unit.database, unit.request_id, done, total, note)


async def report(database: Database, key: str, done: int, total: int, note: str) -> None:
    """Say how far the job with this key has come, in a short unit of the installation."""
    async with open_unit(database, PlatformScope("report progress")) as aside:
        await jobs_store.tell_progress(aside, key, done, total, note, aside.wall)


async def lane_depths(unit: ReadUnit) -> list[jobs_store.Depth]:
    """Count jobs by lane and state, in a unit of the installation."""
    return await jobs_store.depths(unit)
