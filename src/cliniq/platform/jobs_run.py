"""How one job is run: in its scope, within its deadline, and what becomes of it."""

import asyncio
import random
import traceback
from collections.abc import Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from enum import StrEnum
from time import monotonic
from types import MappingProxyType, TracebackType
from typing import Any
from uuid import UUID

import msgspec
import structlog
from typing_extensions import override

from cliniq.kernel.problem import DependencyUnavailable, Forbidden, NotFound, Problem
from cliniq.kernel.record import Record
from cliniq.kernel.scope import PlatformScope, Scope, WorkScope
from cliniq.platform import jobs_store
from cliniq.platform.db import Database, Opening, Unit, open_unit
from cliniq.platform.jobs import AnyPromise, Errand, Job, Registry, Tools, Trip, report
from cliniq.platform.jobs_store import Taken
from cliniq.platform.lanes import LANES, Lane
from cliniq.platform.traces import span

log = structlog.get_logger(__name__)

# SQLSTATEs of a database that serves, but not this statement: such a run counts.
OWN_FAULT = {"40001", "40P01", "55P03", "57014"}
LOST = "CQ410"
PROGRESS_SECONDS = 0.5
UNKNOWN_WAIT = timedelta(seconds=15)


class Outcome(StrEnum):
    """How a run ended; see `jobs_store.settle`."""

    DONE = "done"
    FAILED = "failed"
    HELD = "held"
    REFUSED = "refused"
    RELEASED = "released"
    LOST = "lost"


class Done(Record, frozen=True):
    """What is to be written of a run; nothing where its own transaction has done so."""

    outcome: Outcome
    wait: timedelta = timedelta()
    told: str = ""
    is_written: bool = False


class SeatRefused(Exception):
    """Whoever the job works for may no longer do what it does."""


class DeadlineMissed(Exception):
    """The job has run for longer than its lane allows."""


class Runner:
    """Runs jobs for one worker; `hands` of them may have a transaction open at once."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        worker: UUID,
        hands: int,
        tools: Tools | None = None,
    ) -> None:
        self._database = database
        self._tools = tools
        self._registry = registry
        self._worker = worker
        self._hands = asyncio.Semaphore(hands)

    async def run(self, taken: Taken) -> Done:
        """Run a job. Raises: nothing but CancelledError."""
        job = self._registry.jobs.get(taken.job)
        if job is None:  # of a newer release, whose workers will come
            log.warning("a job is unknown here", job=taken.job, job_id=taken.id)
            return Done(Outcome.RELEASED, wait=UNKNOWN_WAIT)
        try:
            payload = msgspec.json.decode(taken.payload, type=job.takes)
            with span(f"job {taken.job}", parent=taken.trace or "", lane=taken.lane, key=taken.key):
                return await self._do(job, taken, payload)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this job's alone
            return _verdict(taken, error)

    async def _do(self, job: AnyPromise, taken: Taken, payload: Record) -> Done:
        if isinstance(job, Job):
            async with self._hands:
                await _in_time(taken, self._do_in_unit(job, taken, payload))
            return Done(Outcome.DONE, is_written=True)
        assert isinstance(job, Errand)  # noqa: S101 - there is no third kind
        await _in_time(taken, _go(job, _Trip(self._database, taken, self._tools), payload))
        return Done(Outcome.DONE)

    async def _do_in_unit(self, job: Job[Any], taken: Taken, payload: Record) -> None:
        seating = None
        if job.seat is not None:
            if taken.clinic is None or taken.person is None:
                raise SeatRefused
            seating = jobs_store.seat_of_work(taken.clinic, taken.person, job.seat)
        async with _Seated(open_unit(self._database, scope_of(taken), seating, taken.key)) as unit:
            await job.use_case(unit, payload)
            unit.last_words = jobs_store.end_of_job(taken.id, self._worker)


async def _go(job: Errand[Any], trip: Trip, payload: Record) -> None:
    await job.use_case(trip, payload)


class _Seated(AbstractAsyncContextManager[Unit]):
    """A unit whose seat, if it is refused, ends the job; what the use case refuses does not."""

    def __init__(self, opening: Opening[Unit]) -> None:
        self._opening = opening

    @override
    async def __aenter__(self) -> Unit:
        try:
            return await self._opening.__aenter__()
        except (Forbidden, NotFound) as refusal:
            raise SeatRefused(refusal.code) from None

    @override
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._opening.__aexit__(kind, error, trace)


async def _in_time(taken: Taken, work: Coroutine[Any, Any, object]) -> None:
    """Cancel work that runs past the lane's deadline."""
    bound = asyncio.timeout(LANES[Lane(taken.lane)].deadline.total_seconds())
    try:
        async with bound:
            await work
    except TimeoutError:
        if bound.expired():
            raise DeadlineMissed from None
        raise


class _Trip(Trip):
    """An errand's way."""

    def __init__(self, database: Database, taken: Taken, tools: Tools | None) -> None:
        self._database = database
        self._taken = taken
        self._tools = tools
        self._told_at = 0.0

    @property
    @override
    def key(self) -> str:
        return self._taken.key

    @property
    @override
    def attempt(self) -> int:
        return self._taken.attempts + 1

    @property
    @override
    def is_last(self) -> bool:
        return self.attempt >= LANES[Lane(self._taken.lane)].tries

    @property
    @override
    def tools(self) -> Tools:
        if self._tools is None:
            raise LookupError("this worker was given no tools")
        return self._tools

    @override
    def open(self) -> Opening[Unit]:
        return open_unit(self._database, scope_of(self._taken), request_id=self._taken.key)

    @override
    async def progress(self, done: int, total: int, note: str = "") -> None:
        if done < total and monotonic() - self._told_at < PROGRESS_SECONDS:
            return
        self._told_at = monotonic()
        await report(self._database, self.key, done, total, note)


def scope_of(taken: Taken) -> Scope:
    """Say in whose walls a job works."""
    if taken.clinic is None:
        return PlatformScope(taken.job)
    return WorkScope(taken.clinic, taken.job, taken.person)


def _verdict(taken: Taken, error: Exception) -> Done:
    """Decide what becomes of a job that did not end well."""
    told = _told(error)
    if getattr(error, "sqlstate", None) == LOST:
        log.warning("a job was lost to another worker", job=taken.job, job_id=taken.id)
        return Done(Outcome.LOST, is_written=True)
    if isinstance(error, SeatRefused):
        log.info("a job's promise has died", job=taken.job, job_id=taken.id)
        return Done(Outcome.REFUSED, told=told)
    if _is_absence(error):
        return Done(Outcome.RELEASED, wait=timedelta(seconds=1))
    policy = LANES[Lane(taken.lane)]
    failed = taken.attempts + 1
    is_hopeless = isinstance(error, msgspec.MsgspecError)
    log.warning(
        "a job failed", job=taken.job, job_id=taken.id, lane=taken.lane, run=failed, exc_info=error
    )
    if failed >= policy.tries or is_hopeless:
        return Done(Outcome.HELD, told=told)
    return Done(Outcome.FAILED, policy.wait(failed, random.random()), told)  # noqa: S311 - jitter


def _is_absence(error: Exception) -> bool:
    """Tell whether the database does not serve anyone: then a run does not count."""
    return (
        isinstance(error, DependencyUnavailable)
        and error.facts["dependency"] == "postgresql"
        and getattr(error.__cause__, "sqlstate", None) not in OWN_FAULT
    )


def _told(error: Exception) -> str:
    """Describe an error without its message, which may hold values: what, and where."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    facts: Mapping[str, str | None] = MappingProxyType(
        {
            "error": kind,
            "code": error.code if isinstance(error, Problem) else None,
            "sqlstate": getattr(error, "sqlstate", None),
        }
    )
    where = [
        f"{frame.filename.rpartition('cliniq/')[2]}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)[-4:]
    ]
    said = {name: fact for name, fact in facts.items() if fact} | {"where": where}
    return msgspec.json.encode(said).decode()
