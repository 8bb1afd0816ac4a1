"""The relay passes on what was told: to the bus, in the order of each topic, and to the jobs.

Every process has one. A shard is passed on by whoever holds its lease; what was passed on is
deleted in the transaction that makes its jobs. So the bus hears each fact at least once, and jobs
exactly once, whoever dies when.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from random import uniform

import structlog
from prometheus_client import Counter as Total
from prometheus_client import Gauge, Histogram
from prometheus_client.registry import Collector

from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.problem import DependencyUnavailable
from cliniq.kernel.scope import PlatformScope
from cliniq.platform import events_store, relay_store, traces
from cliniq.platform.bus import Bus, Message
from cliniq.platform.db import Database, Unit, open_read_unit, open_unit
from cliniq.platform.endings import end_all
from cliniq.platform.events import Told
from cliniq.platform.events_store import Waiting
from cliniq.platform.live import LiveEvent, message_of, topic_in

log = structlog.get_logger(__name__)

SCOPE = PlatformScope("relay")
CHANNEL = "wake/relay"
LEASE = timedelta(seconds=5)
RENEW_SECONDS = 1.5
POLL_SECONDS = 1.0
REST_SECONDS = 0.01  # between two batches: what is told meanwhile goes together
COALESCE_SECONDS = 0.005
BATCH = 500
TRIES = 5  # of one fact alone, before it is set aside
LONGEST_PAUSE_SECONDS = 5.0
GRACE_SECONDS = 5.0
BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, BATCH)

Forward = Callable[[Unit, Sequence[Told]], Awaitable[None]]


class RelayFigures:
    """What Prometheus reads of a relay."""

    def __init__(self) -> None:
        self.lag = Gauge(
            "cliniq_relay_lag_seconds",
            "Age of the oldest fact of the installation that waits, as last seen",
            registry=None,
        )
        self.shards = Gauge("cliniq_relay_shards", "Shards this process passes on", registry=None)
        self.published = Total("cliniq_relay_published", "Facts told on the bus", registry=None)
        self.passed_on = Total("cliniq_relay_passed_on", "Facts done with", registry=None)
        self.held = Total("cliniq_relay_held", "Facts set aside after failures", registry=None)
        self.batch = Histogram(
            "cliniq_relay_batch_size", "Facts in a batch", buckets=BATCH_BUCKETS, registry=None
        )

    @property
    def collectors(self) -> Iterable[Collector]:
        """List all of them, for a registry."""
        return (self.lag, self.shards, self.published, self.passed_on, self.held, self.batch)


class Bell:
    """Wakes the relay that holds a shard: this process's own at once, another's over the bus."""

    def __init__(self, bus: Bus) -> None:
        self.held: frozenset[int] = frozenset()
        self.has_called = False
        self._bus = bus
        self._rung = asyncio.Event()
        self._elsewhere: set[int] = set()

    def ring(self, shards: Iterable[int]) -> None:
        """Say that facts wait in some shards. Never waits; what is said elsewhere is coalesced."""
        told = frozenset(shards)
        if told & self.held:
            self._rung.set()
        if elsewhere := told - self.held:
            if not self._elsewhere:
                asyncio.get_running_loop().call_later(COALESCE_SECONDS, self._ring_elsewhere)
            self._elsewhere |= elsewhere

    def _ring_elsewhere(self) -> None:
        shards, self._elsewhere = self._elsewhere, set()
        self._bus.post(Message(CHANNEL, bytes(sorted(shards))))

    def call_all(self) -> None:
        """Have every relay look at the leases at once: one has come or gone, or gave some up."""
        self._bus.post(Message(CHANNEL, b""))

    def hear(self, body: bytes) -> None:
        """Take what others say."""
        if not body:
            self.has_called = True
        if not body or not self.held.isdisjoint(body):
            self._rung.set()

    def stop(self) -> None:
        """Wake whoever waits."""
        self._rung.set()

    async def wait(self, seconds: float) -> None:
        """Wait until it rings, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._rung.wait()

    def rest(self) -> None:
        """Forget what has rung: whoever reads now sees what it rang for."""
        self._rung.clear()


class Relay:
    """Passes on what waits in the shards that it holds."""

    def __init__(self, database: Database, bus: Bus, bell: Bell, forward: Forward) -> None:
        self.figures = RelayFigures()
        self._relay_id = new_id()
        self._database = database
        self._bus = bus
        self._bell = bell
        self._forward = forward
        self._tries: Counter[int] = Counter()
        self._renew_at = 0.0  # on the loop's clock, as the next line
        self._trusted_until = 0.0
        self._is_known = False  # to the others
        self._is_listening = False
        self._stopping = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Pass on in the background; in the end finish the batch under way, and free the shards."""
        self._stopping.clear()
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._stopping.set()
            self._bell.stop()
            await asyncio.wait({task}, timeout=GRACE_SECONDS)
            await end_all(task)
            self._is_listening = False
            await self._bus.ignore(CHANNEL, self._bell.hear)

    async def _run(self) -> None:
        trouble = 0
        while not self._stopping.is_set():
            try:
                await self._turn()
                trouble = 0
            except DependencyUnavailable:
                trouble += 1
            except Exception:
                log.exception("the relay stumbled")
                trouble += 1
            if trouble:
                pause = min(LONGEST_PAUSE_SECONDS, 0.1 * 2 ** min(trouble, 10))
                await self._pause(pause * uniform(0.5, 1))  # noqa: S311 - it only spreads
        with suppress(DependencyUnavailable):
            await self.leave()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _turn(self) -> None:
        """Renew when it is time; pass on a batch; wait unless there is more."""
        clock = asyncio.get_running_loop().time
        self._bell.rest()
        if clock() >= self._renew_at or self._bell.has_called:
            await self._listen()
            await self.renew()
        done = await self.pass_on()
        if done < BATCH and not self._stopping.is_set():
            if done:
                await self._pause(REST_SECONDS)
            await self._bell.wait(min(POLL_SECONDS, self._renew_at - clock()))

    async def _listen(self) -> None:
        if not self._is_listening:
            with suppress(DependencyUnavailable):  # polling does meanwhile
                await self._bus.listen(CHANNEL, self._bell.hear)
                self._is_listening = True

    async def renew(self) -> None:
        """Keep, take and give up shards, so that every living relay has its share."""
        now = asyncio.get_running_loop().time()
        self._bell.has_called = False
        async with open_unit(self._database, SCOPE) as unit:
            shards = await relay_store.renew(unit, self._relay_id, unit.wall, unit.wall + LEASE)
            oldest = await events_store.find_oldest(unit)
        self._renew_at = now + RENEW_SECONDS
        self._trusted_until = now + LEASE.total_seconds()
        given_up = self._bell.held - set(shards)
        self._hold(shards)
        if given_up or not self._is_known:
            self._bell.call_all()
        self._is_known = True
        age = (unit.wall - oldest).total_seconds() if oldest else 0.0
        self.figures.lag.set(max(0.0, age))

    def _hold(self, shards: Iterable[int]) -> None:
        self._bell.held = frozenset(shards)
        self.figures.shards.set(len(self._bell.held))

    async def leave(self) -> None:
        """Give all shards up, and tell the others."""
        self._hold(())
        self._is_known = False
        async with open_unit(self._database, SCOPE) as unit:
            await relay_store.leave(unit, self._relay_id)
        self._bell.call_all()

    async def drain(self) -> None:
        """Pass on until nothing waits in the shards that can be had."""
        await self.renew()
        while await self.pass_on():
            pass

    async def pass_on(self) -> int:
        """Pass on a batch, what waits longest first; return how many are done with.

        Where the bus takes nothing, jobs are made all the same, and what must be said waits.
        Raises: DEPENDENCY_UNAVAILABLE 503 where the database does not serve.
        """
        waiting = await self._read(only_new=False)
        if not waiting:
            return 0
        told_by = {row.trace for row in waiting if row.trace}
        with traces.span("relay", links=told_by, size=len(waiting)):
            if await self._is_published(waiting):
                return await self._hand_over(waiting, is_published=True)
        while waiting := await self._read(only_new=True):
            if not await self._hand_over(waiting, is_published=False):
                break
        return 0

    async def _read(self, *, only_new: bool) -> list[Waiting]:
        if asyncio.get_running_loop().time() >= self._trusted_until:
            self._hold(())  # somebody else may hold them by now
        if not self._bell.held:
            return []
        async with open_read_unit(self._database, SCOPE) as unit:
            shards = sorted(self._bell.held)
            listing = events_store.list_new if only_new else events_store.list_waiting
            return await listing(unit, shards, BATCH)

    async def _is_published(self, waiting: Sequence[Waiting]) -> bool:
        """Say on the bus what may be watched, in order, outside every transaction."""
        messages = [
            message_of(
                LiveEvent(
                    topic_in(row.clinic_id, row.topic), row.version, row.kind, row.shown, row.trace
                )
            )
            for row in waiting
            if row.topic and row.shown is not None
        ]
        try:
            await self._bus.publish(messages)
        except DependencyUnavailable:
            return False
        self.figures.published.inc(len(messages))
        return True

    async def _hand_over(self, waiting: Sequence[Waiting], *, is_published: bool) -> int:
        """Make the jobs of facts and be done with them; return how many that was."""
        try:
            done = await self._settle(waiting, is_published=is_published)
        except DependencyUnavailable:
            raise
        except Exception:
            log.exception("a batch could not be handed over", size=len(waiting))
            return await self._hand_over_singly(waiting, is_published=is_published)
        self.figures.batch.observe(len(waiting))
        return done

    async def _hand_over_singly(self, waiting: Sequence[Waiting], *, is_published: bool) -> int:
        """Find the fact that fails: its shard waits for it for a few tries, others do not."""
        done = 0
        stuck: set[int] = set()
        for row in waiting:
            if row.shard in stuck:
                continue
            try:
                done += await self._settle([row], is_published=is_published)
                self._tries.pop(row.outbox_id, None)
            except DependencyUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this fact's
                self._tries[row.outbox_id] += 1
                if self._tries[row.outbox_id] >= TRIES:
                    await self._set_aside(row, type(error).__name__)
                else:
                    stuck.add(row.shard)
        return 0 if stuck else done

    async def _settle(self, waiting: Sequence[Waiting], *, is_published: bool) -> int:
        """In one transaction: be sure of the leases, take the facts out, make their jobs.

        Only what this transaction took out has jobs made, so no fact has them twice, whatever
        became of a lease. What must still be said on the bus is not taken out, but marked.
        """
        shards = sorted({row.shard for row in waiting})
        async with open_unit(self._database, SCOPE) as unit:
            ours = set(await relay_store.hold(unit, self._relay_id, shards))
            mine = [row for row in waiting if row.shard in ours]
            taken: set[int] = set()
            if done := [row for row in mine if is_published or not row.topic]:
                taken.update(await events_store.remove(unit, *_span(done)))
            if owed := [row for row in mine if not is_published and row.topic]:
                taken.update(await events_store.mark_forwarded(unit, *_span(owed)))
            fresh = [row for row in mine if row.outbox_id in taken and not row.is_forwarded]
            if fresh:
                await self._forward(unit, [_told(row) for row in fresh])
        if lost := set(shards) - ours:
            self._hold(self._bell.held - lost)
        self.figures.passed_on.inc(len(fresh))
        return len(taken)

    async def _set_aside(self, row: Waiting, reason: str) -> None:
        async with open_unit(self._database, SCOPE) as unit:
            if await relay_store.hold(unit, self._relay_id, [row.shard]):
                await events_store.set_aside(
                    unit, row.outbox_id, row.recorded_at, unit.wall, reason
                )
        del self._tries[row.outbox_id]
        self.figures.held.inc()
        log.error("a fact is held", outbox_id=row.outbox_id, kind=row.kind, reason=reason)


def _span(waiting: Sequence[Waiting]) -> tuple[list[int], datetime, datetime]:
    times = [row.recorded_at for row in waiting]
    return [row.outbox_id for row in waiting], min(times), max(times)


def _told(row: Waiting) -> Told:
    return Told(
        row.outbox_id,
        ClinicId(row.clinic_id),
        row.kind,
        row.subject_id,
        row.topic,
        row.version,
        row.body,
        row.recorded_at,
        row.trace,
    )
