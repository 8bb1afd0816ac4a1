"""pgqueuer's loop over our own pools: its tables and its dispatch, our statements and our wake-ups.

No LISTEN, no NOTIFY and no session state, so that a transaction pooler may stand in between; each
statement runs as the installation in a short transaction. Source: decision record 0013.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol, Self
from uuid import UUID

from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.executors import (
    AbstractEntrypointExecutor,
    EntrypointExecutorParameters,
)
from pgqueuer.core.qm import QueueManager
from pgqueuer.core.tm import TaskManager
from pgqueuer.domain import models, types
from pgqueuer.ports.driver import Driver, NotifyCallback
from pgqueuer.ports.repository import EntrypointExecutionParameter
from typing_extensions import override

from cliniq.kernel.scope import PlatformScope
from cliniq.platform import jobs_store
from cliniq.platform.db import Database, open_unit
from cliniq.platform.jobs_store import Taken

BATCH = 100  # ends that are written down together
SILENT_SECONDS = 6  # a job of which nothing was heard for so long has lost its worker
_SOMETHING = models.TableChangedEvent(
    channel=types.Channel("cliniq"),
    sent_at=datetime(2000, 1, 1, tzinfo=UTC),
    type="table_changed_event",
    operation="insert",
    table="pgqueuer",
).model_dump_json()


class Desk(Protocol):
    """What the loop asks: which jobs to take, how they went, how long to rest."""

    worker: UUID

    async def take(self) -> list[Taken]:
        """Take the jobs that there is room for. Never raises for want of a database."""

    async def work(self, job_id: int) -> None:
        """Do a job that was taken. Raises: nothing but CancelledError."""

    async def settle(self, job_ids: Sequence[int]) -> None:
        """Write down how jobs went. Raises: DEPENDENCY_UNAVAILABLE 503; it is then tried again."""

    def rest(self) -> float:
        """Say how long there is nothing to take, unless somebody wakes the loop. Units: seconds."""


class Engine:
    """One worker's loop."""

    def __init__(self, database: Database, desk: Desk, lanes: Sequence[str]) -> None:
        self._driver = _Driver(database)
        self._loop = _Loop(_Queries(self._driver, desk), desk)
        for lane in lanes:
            self._loop.register_executor(lane, _Lane(desk.work))

    async def run(self) -> None:
        """Take and do jobs until stopped; whatever was taken is done before this returns."""
        await self._loop.run(
            batch_size=BATCH,
            heartbeat_timeout=timedelta(seconds=SILENT_SECONDS),
            log_aggregation_interval=timedelta(0),
        )

    def stop(self) -> None:
        """Take no more."""
        self._loop.shutdown.set()

    def wake(self) -> None:
        """Have the loop look for jobs now."""
        self._driver.hear(_SOMETHING)


class _Driver(Driver):
    """What pgqueuer speaks to the database through. Notices stay within the process."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._shutdown = asyncio.Event()
        self._tm = TaskManager()
        self._hear: list[NotifyCallback] = []

    def hear(self, payload: str) -> None:
        for callback in self._hear:
            callback(payload)

    @override
    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        async with open_unit(self.database, PlatformScope("jobs")) as unit:
            return [dict(row) for row in await unit.connection.fetch(query, *args)]

    @override
    async def execute(self, query: str, *args: object) -> str:
        async with open_unit(self.database, PlatformScope("jobs")) as unit:
            return await unit.connection.execute(query, *args)

    @override
    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        self._hear.append(callback)

    @override
    async def notify(self, channel: str, payload: str) -> None:
        self.hear(payload)

    @property
    @override
    def shutdown(self) -> asyncio.Event:
        return self._shutdown

    @property
    @override
    def tm(self) -> TaskManager:
        return self._tm

    @override
    async def __aenter__(self) -> Self:
        return self

    @override
    async def __aexit__(self, *_: object) -> None:
        self._hear.clear()


class _Queries(Queries):
    """pgqueuer's statements, where ours do not stand in their place."""

    def __init__(self, driver: _Driver, desk: Desk) -> None:
        super().__init__(driver)
        self._database = driver.database
        self._desk = desk

    @override
    async def dequeue(
        self,
        batch_size: int,
        entrypoints: dict[types.QueueEntrypoint, EntrypointExecutionParameter],
        queue_manager_id: types.QueueManagerId,
        global_concurrency_limit: int | None,
        heartbeat_timeout: timedelta,
    ) -> list[models.Job]:
        return [_as_job(each) for each in await self._desk.take()]

    @override
    async def log_jobs(
        self,
        job_status: list[tuple[models.Job, types.JOB_STATUS, models.TracebackRecord | None]],
    ) -> None:
        await self._desk.settle([job.id for job, _, _ in job_status])

    @override
    async def update_heartbeat(self, job_ids: list[types.JobId]) -> None:
        async with open_unit(self._database, PlatformScope("jobs")) as unit:
            await jobs_store.beat(unit, sorted(set(job_ids)), self._desk.worker)


class _Loop(QueueManager):
    """pgqueuer's loop; how long it rests is the desk's to say, the schema our migration's."""

    def __init__(self, queries: _Queries, desk: Desk) -> None:
        super().__init__(queries)
        self._desk = desk

    @override
    async def verify_structure(self) -> None: ...

    @override
    async def _effective_dequeue_timeout(self, dequeue_timeout: timedelta) -> timedelta:
        return timedelta(seconds=self._desk.rest())


class _Lane(AbstractEntrypointExecutor):
    """All jobs of a lane; which one it is, the desk knows."""

    def __init__(self, work: Callable[[int], Awaitable[None]]) -> None:
        super().__init__(EntrypointExecutorParameters(concurrency_limit=0, func=_nothing))
        self._work = work

    @override
    async def execute(self, job: models.Job, context: models.Context) -> None:
        await self._work(job.id)


async def _nothing(_job: models.Job) -> None: ...


def _as_job(taken: Taken) -> models.Job:
    """Say it in pgqueuer's words, as far as its loop reads them."""
    at = taken.created
    return models.Job.model_construct(
        id=types.JobId(taken.id),
        entrypoint=types.QueueEntrypoint(taken.lane),
        attempts=taken.attempts,
        created=at,
        updated=at,
        heartbeat=at,
        execute_after=at,
        priority=0,
        status="picked",
        payload=None,
        headers=None,
        queue_manager_id=None,
    )
