"""A worker: takes jobs of all lanes fairly, does them, and sees to what others left."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from time import monotonic
from uuid import UUID, uuid4

import structlog
from croniter import croniter  # type: ignore[import-untyped]

from cliniq.kernel.problem import DependencyUnavailable
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import jobs_engine, jobs_store
from cliniq.platform.bus import Bus, listen_later
from cliniq.platform.db import Database, open_unit
from cliniq.platform.endings import end_all
from cliniq.platform.jobs import Duty, Registry, Tick, Tools, lane_channel, wake_lane
from cliniq.platform.jobs_engine import Engine
from cliniq.platform.jobs_run import Done, Outcome, Runner
from cliniq.platform.jobs_store import Taken
from cliniq.platform.lanes import LANES, Lane
from cliniq.platform.telemetry import Metrics

log = structlog.get_logger(__name__)

MOST_AT_ONCE = 320  # jobs of all lanes in one worker
AHEAD_SECONDS = 0.25  # what is taken is begun within so long, as fast as the lane goes
SHARES = {1: 1.0, 2: 0.75, 3: 0.5, 4: 0.25, 5: 0.25}  # of the room that is left, by a lane's rank
POLL_SECONDS = 1.0
WARM_SECONDS = 0.2  # between looks at a lane with a rate that had something just now
RANK_SECONDS, SWEEP_SECONDS, TICK_SECONDS = 0.5, 2.0, 5.0
MOST_RANKED = 1000  # jobs of a lane whose time has come, in one transaction
GRACE_SECONDS = 30.0


class _Place:
    """A lane in this worker: how many of its jobs run, and whether there are more."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.policy = LANES[lane]
        self.running = 0
        self.has_more = True
        self.warm_until = 0.0
        self._rate = 0.0
        self._finished = 0
        self._since = monotonic()

    def note(self, room: int, got: int) -> None:
        self.has_more = got >= room
        if got and self.policy.per_second:
            self.warm_until = monotonic() + 2

    def finish(self) -> None:
        self.running -= 1
        self._finished += 1

    def room(self, hands: int, left: int) -> int:
        """Say how many more may be taken: no more than begin soon, so that nobody waits behind."""
        passed = monotonic() - self._since
        if passed > AHEAD_SECONDS:
            self._rate = (self._rate + self._finished / passed) / 2
            self._finished, self._since = 0, monotonic()
        soon = hands + int(self._rate * AHEAD_SECONDS)
        most = min(self.policy.at_once, soon) - self.running
        return min(most, max(1, int(left * SHARES[self.policy.rank])))


class Worker:
    """One worker of this process; see `working`."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        hands: int,
        metrics: Metrics,
        tools: Tools | None = None,
    ) -> None:
        self.worker: UUID = uuid4()
        self._trouble_at = float("-inf")
        self._database = database
        self._registry = registry
        self._hands = hands
        self._metrics = metrics
        self._runner = Runner(database, registry, self.worker, hands, tools)
        self._places = {str(lane): _Place(lane) for lane in LANES}
        self._taken: dict[int, Taken] = {}
        self._ended: dict[int, Done] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._ticks: dict[str, datetime] = {}  # what is promised already, by us or by others
        self._absent_until = 0.0
        self._is_awake = False
        self._is_stopping = False
        self._engine = Engine(database, self, list(self._places))

    # --- what the loop asks -----------------------------------------------------------------------

    async def take(self) -> list[Taken]:
        """Take the jobs that there is room for."""
        left = MOST_AT_ONCE - len(self._taken)
        if monotonic() < self._absent_until or left <= 0:
            return []
        rooms = {
            each.lane: room
            for each in self._places.values()
            if (room := each.room(self._hands, left)) > 0
        }
        try:
            async with open_unit(self._database, PlatformScope("take jobs")) as unit:
                rates = [LANES[lane].per_second for lane in rooms]
                taken = await jobs_store.take(
                    unit, list(rooms), list(rooms.values()), rates, self.worker
                )
        except DependencyUnavailable:
            self._absent_until = monotonic() + POLL_SECONDS
            return []
        got = Counter(each.lane for each in taken)
        for lane, room in rooms.items():
            self._places[lane].note(room, got[lane])
        # One that still runs here, although a late heartbeat has cost us it, is not run twice.
        fresh = [each for each in taken if each.id not in self._taken]
        for each in fresh:
            self._taken[each.id] = each
            self._places[each.lane].running += 1
        return fresh

    async def work(self, job_id: int) -> None:
        """Do a job that was taken."""
        taken = self._taken[job_id]
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in one
        self._tasks.add(task)
        done = Done(Outcome.RELEASED)
        try:
            done = await self._runner.run(taken)
        finally:
            self._tasks.discard(task)
            self._end(taken, done)

    def _end(self, taken: Taken, done: Done) -> None:
        place = self._places[taken.lane]
        place.finish()
        del self._taken[taken.id]
        self._metrics.job_runs.labels(taken.lane, done.outcome).inc()
        self._ended[taken.id] = done
        if place.has_more and 2 * place.running <= place.policy.at_once:
            self.wake()

    async def settle(self, job_ids: Sequence[int]) -> None:
        """Write down how jobs went; those that ended in their own transaction have said so."""
        ended = [(each, self._ended[each]) for each in job_ids if each in self._ended]
        open_ends = [(each, done) for each, done in ended if not done.is_written]
        if open_ends:
            async with open_unit(self._database, PlatformScope("settle jobs")) as unit:
                await jobs_store.settle(
                    unit,
                    [each for each, _ in open_ends],
                    [str(done.outcome) for _, done in open_ends],
                    [int(done.wait.total_seconds() * 1000) for _, done in open_ends],
                    [done.told for _, done in open_ends],
                    self.worker,
                )
        for each, done in ended:
            if self._ended.get(each) is done:
                del self._ended[each]

    def rest(self) -> float:
        """Say how long there is nothing to take."""
        self._is_awake = False
        now = monotonic()
        if now < self._absent_until:
            return self._absent_until - now
        if any(
            each.has_more and 2 * each.running <= each.policy.at_once
            for each in self._places.values()
        ):
            return 0.0
        if any(now < each.warm_until for each in self._places.values()):
            return WARM_SECONDS
        return POLL_SECONDS

    # --- waking and stopping ----------------------------------------------------------------------

    def wake(self) -> None:
        """Look for jobs now; once is enough until the loop has looked."""
        if not self._is_awake:
            self._is_awake = True
            self._engine.wake()

    def hear(self, lane: str, _body: bytes) -> None:
        """Hear that a lane has work."""
        self._places[lane].has_more = True
        self.wake()

    def look_everywhere(self) -> None:
        """Look for jobs in all lanes: whoever would have woken us may not have been heard."""
        for place in self._places.values():
            place.has_more = True
        self.wake()

    async def run(self) -> None:
        """Work until stopped; a loop that breaks is begun anew, with nothing taken."""
        while not self._is_stopping:
            try:
                await self._engine.run()
            except Exception:
                log.exception("the loop of a worker broke")
                await asyncio.sleep(POLL_SECONDS)
            self._taken.clear()
            for place in self._places.values():
                place.running = 0

    async def stop(self, running: "asyncio.Task[None]", grace: float) -> None:
        """Take no more, and finish what was taken; what is not done in time is put back."""
        self._is_stopping = True
        self._engine.stop()
        _, late = await asyncio.wait({running}, timeout=grace)
        if late:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.wait({running}, timeout=POLL_SECONDS * 5)
        await end_all(running)

    # --- what is done beside ----------------------------------------------------------------------

    async def rank(self) -> None:
        """Give jobs whose time has come their turns."""
        lanes = list(self._places)
        async with open_unit(self._database, PlatformScope("rank jobs")) as unit:
            for lane in await jobs_store.rank(unit, lanes, MOST_RANKED):
                wake_lane(unit, lane)

    def note_trouble(self) -> None:
        """Note that the database did not serve: nobody could have said that they live."""
        self._trouble_at = monotonic()

    async def sweep(self) -> None:
        """Put back what dead workers left; not soon after a time in which nobody was heard."""
        if monotonic() - self._trouble_at < jobs_engine.SILENT_SECONDS:
            return
        lanes = list(self._places)
        tries = [each.policy.tries for each in self._places.values()]
        async with open_unit(self._database, PlatformScope("sweep jobs")) as unit:
            swept = await jobs_store.sweep(unit, jobs_engine.SILENT_SECONDS, lanes, tries)
        if swept:
            log.warning("jobs of a dead worker were put back", jobs=len(swept))

    async def tick(self) -> None:
        """Promise the jobs of schedules that are due; each tick once for all workers."""
        for duty in self._registry.duties:
            await self._keep(duty)

    async def _keep(self, duty: Duty) -> None:
        at = last_tick(duty.cron, self._database.clocks.wall())
        if self._ticks.get(duty.job.name) == at:
            return
        async with open_unit(self._database, PlatformScope("keep a schedule")) as unit:
            if await jobs_store.claim_tick(unit, duty.job.name, at) is not None:
                await duty.job.later(unit, Tick(at), key=at.isoformat())
        self._ticks[duty.job.name] = at

    async def prepare(self) -> None:
        """Have what the statements lean on. Raises: DEPENDENCY_UNAVAILABLE 503."""
        async with open_unit(self._database, PlatformScope("prepare jobs")) as unit:
            paced = [str(lane) for lane, policy in LANES.items() if policy.per_second]
            await jobs_store.pace(unit, paced)


def last_tick(cron: str, now: datetime) -> datetime:
    """Say when a schedule last came due, now included."""
    soon = now.replace(microsecond=0) + timedelta(seconds=1)
    at: datetime = croniter(cron, soon).get_prev(datetime)
    return at


@asynccontextmanager
async def working(  # noqa: PLR0913 - what a worker is made of
    database: Database,
    bus: Bus,
    registry: Registry,
    metrics: Metrics,
    *,
    hands: int,
    grace: float = GRACE_SECONDS,
    tools: Tools | None = None,
) -> AsyncIterator[Worker]:
    """Work off jobs while the block runs, then finish what was taken.

    Bounds: `hands` transactions of jobs at once. Units: `grace` in seconds; what is not done by
    then is put back, for another worker.
    """
    worker = Worker(database, registry, hands, metrics, tools)
    await worker.prepare()
    heard = {lane: partial(worker.hear, lane) for lane in LANES}
    bus.on_gap(worker.look_everywhere)
    beside: list[asyncio.Task[None]] = []
    unheard = {lane_channel(lane): hear for lane, hear in heard.items()}
    try:
        for channel, hear in tuple(unheard.items()):
            await bus.listen(channel, hear)
            del unheard[channel]
    except DependencyUnavailable:
        log.warning("a worker hears no wake-ups yet: it looks by itself, every second")
        beside.append(asyncio.create_task(listen_later(bus, unheard, worker.look_everywhere)))
    running = asyncio.create_task(worker.run())
    beside += [
        asyncio.create_task(_again_and_again(act, seconds, worker.note_trouble))
        for act, seconds in (
            (worker.rank, RANK_SECONDS),
            (worker.sweep, SWEEP_SECONDS),
            (worker.tick, TICK_SECONDS),
        )
    ]
    try:
        yield worker
    finally:
        await end_all(*beside)
        for lane, hear in heard.items():
            await bus.ignore(lane_channel(lane), hear)
        await worker.stop(running, grace)


async def _again_and_again(
    act: Callable[[], Awaitable[None]], seconds: float, note_trouble: Callable[[], None]
) -> None:
    """Do something until cancelled; a failure is logged, and it is done again."""
    while True:
        try:
            await act()
        except DependencyUnavailable:
            note_trouble()  # `platform.db` has said so
        except Exception:
            log.exception("a worker's chore failed", chore=getattr(act, "__name__", ""))
        await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
