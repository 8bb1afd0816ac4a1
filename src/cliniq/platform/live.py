"""The live hub of this process: connections, the topics that they watch, and the bus behind them.

Every topic that is watched here is listened to on the bus. What was lost there is noticed and
mended: by gaps in versions, by the bus's own word, and by audits; see docs/decisions/0019.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import structlog

from cliniq.kernel.problem import DependencyUnavailable, Problem, Unauthenticated
from cliniq.platform.bus import Bus, LocalBus, Message, listen_later
from cliniq.platform.live_connection import (
    INTERNAL_ERROR,
    POLICY_VIOLATION,
    SERVICE_RESTART,
    TRY_AGAIN_LATER,
    Connection,
)
from cliniq.platform.live_crowd import Crowd
from cliniq.platform.live_frames import (
    LiveEvent,
    channel_of,
    message_of,
    on_the_wire,
    refusal,
    topic_in,
)
from cliniq.platform.live_topic import Known, LiveTopic, Load, Snapshot, Subscription
from cliniq.platform.live_turnstile import Turnstile

__all__ = [
    "INTERNAL_ERROR",
    "POLICY_VIOLATION",
    "SERVICE_RESTART",
    "TRY_AGAIN_LATER",
    "Connection",
    "Hub",
    "Known",
    "LiveEvent",
    "Load",
    "Snapshot",
    "message_of",
    "on_the_wire",
    "refusal",
    "topic_in",
]

log = structlog.get_logger(__name__)

SESSIONS = "sessions"
LINGER_SECONDS = 120  # a topic that nobody watches is still heard, for those who come back
BEAT_SECONDS = 20
BEATS_AN_AUDIT = 3
AUDITS_FOR_ALL = 5  # so every watcher is authorised again within five minutes
GAP_SPREAD_SECONDS = 2  # processes that lost one bus do not ask the database at one instant
MENDERS = 4  # so many watchers are renewed at a time, however many are ill
AGAIN_SECONDS = 5
EPOCH_SECONDS = 60


class Hub:
    """Watchers of this process, by topic. `epoch` names the history that versions count."""

    def __init__(self, bus: Bus | None = None) -> None:
        self.bus: Bus = bus or LocalBus()
        self.epoch = uuid4().hex
        self.crowd = Crowd()
        self.turnstile = Turnstile()
        self._topics: dict[str, LiveTopic] = {}
        self._ill: dict[Subscription, None] = {}
        self._menders: set[asyncio.Task[None]] = set()
        self._chores: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self.crowd)

    async def open(self, read_epoch: Callable[[], Awaitable[str]]) -> None:
        """Begin to hear of ended sign-ins and of gaps, and keep an eye on the epoch."""
        self.epoch = await read_epoch()
        self.bus.on_gap(self._catch_up)
        try:
            await self.bus.listen(SESSIONS, self._hear_of_session)
        except DependencyUnavailable:  # we serve without it; who ends a sign-in closes sockets here
            log.warning("ended sign-ins of other processes are not heard yet")
            channels = {SESSIONS: self._hear_of_session}
            self._do(listen_later(self.bus, channels, self._catch_up))
        self._do(self._watch_epoch(read_epoch))

    def join(self, connection: Connection) -> None:
        """Let a connection in. Raises: RATE_LIMIT_EXCEEDED 429, DEPENDENCY_UNAVAILABLE 503."""
        self.crowd.join(connection)

    def leave(self, connection: Connection) -> None:
        """Forget a connection and everything that it watched."""
        self.crowd.leave(connection)
        for topic in list(connection.subscriptions):
            self.unsubscribe(connection, topic)

    def end_session(self, session_id: UUID) -> None:
        """Close the connections of a sign-in that has ended: here at once, elsewhere by the bus."""
        self.crowd.end_session(session_id)
        self.bus.post(Message(SESSIONS, session_id.bytes))

    def _hear_of_session(self, body: bytes) -> None:
        self.crowd.end_session(UUID(bytes=body))

    async def drain(self, seconds: float) -> None:
        """Send everyone away, spread over some time; let nobody in. Returns once they have gone."""
        await self.crowd.drain(seconds)

    def close(self) -> None:
        """Close every connection and stop all that is under way: the process is about to stop."""
        self.crowd.close()
        for topic in self._topics.values():
            topic.end()
        for task in (*self._menders, *self._chores):
            task.cancel()

    # Topics.

    async def subscribe(
        self,
        connection: Connection,
        topic: str,
        load: Load,
        since: int | None = None,
        epoch: str | None = None,
    ) -> None:
        """Watch a topic from a snapshot on, or from `since` in this epoch. A second time: anew.

        The bus is heard before anything is read, so nothing falls in between.
        Raises: whatever `load` refuses with; DEPENDENCY_UNAVAILABLE 503. Nothing is watched then.
        """
        self.unsubscribe(connection, topic)
        watched = self._watched(topic)
        watcher = Subscription(watched, connection, load)
        connection.subscriptions[topic] = watcher
        watched.watchers[watcher] = None
        try:
            await self._listen(watched)
            await watched.begin(watcher, since if epoch == self.epoch else None)
        except BaseException:
            self._forget(watcher)
            raise

    def unsubscribe(self, connection: Connection, topic: str) -> None:
        """Stop watching."""
        watcher = connection.subscriptions.get(topic)
        if watcher is not None:
            self._forget(watcher)

    def _forget(self, watcher: Subscription) -> None:
        watcher.is_over = True
        self._ill.pop(watcher, None)
        topic, subscriptions = watcher.topic, watcher.connection.subscriptions
        if subscriptions.get(topic.name) is watcher:
            del subscriptions[topic.name]
        topic.watchers.pop(watcher, None)
        if not topic.watchers and self._topics.get(topic.name) is topic:
            topic.end()
            if topic.was_seen:
                self._wait(topic, LINGER_SECONDS, partial(self._drop, topic))
            else:  # whoever was refused leaves nothing behind
                self._drop(topic)

    def _watched(self, name: str) -> LiveTopic:
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = LiveTopic(name, self.epoch, self._mend)
        if not topic.watchers:
            topic.end()
            self._wait(topic, BEAT_SECONDS, partial(self._beat, topic, 1))
        return topic

    async def _listen(self, topic: LiveTopic) -> None:
        if topic.listening is None:
            listening = self.bus.listen(channel_of(topic.name), topic.hear)
            topic.listening = asyncio.ensure_future(listening)
        try:
            await asyncio.shield(topic.listening)
        except Exception:
            topic.listening = None
            raise

    def _drop(self, topic: LiveTopic) -> None:
        topic.end()
        del self._topics[topic.name]
        if topic.listening is not None:
            self._do(self.bus.ignore(channel_of(topic.name), topic.hear))

    def _beat(self, topic: LiveTopic, number: int) -> None:
        topic.beat(self.crowd.spread_ms)
        if number % BEATS_AN_AUDIT == 0 or topic.audit_all:
            topic.audit(AUDITS_FOR_ALL)
        self._wait(topic, BEAT_SECONDS, partial(self._beat, topic, number + 1))

    def _wait(self, topic: LiveTopic, seconds: float, act: Callable[[], None]) -> None:
        spread = random.uniform(0.8 * seconds, seconds)  # noqa: S311 - topics do not beat as one
        topic.timer = asyncio.get_running_loop().call_later(spread, act)

    # What was lost, or may have been.

    def _catch_up(self) -> None:
        """Something may have been lost on the bus: look at each topic soon, at each watcher later.

        The first look at a topic finds out whether it has moved on; those behind are then mended.
        """
        for topic in self._topics.values():
            topic.audit_all = True
            if topic.watchers:
                spread = random.uniform(0, GAP_SPREAD_SECONDS)  # noqa: S311 - no secret
                asyncio.get_running_loop().call_later(spread, topic.look)

    def _mend(self, watcher: Subscription) -> None:
        """Renew a watcher when its turn comes."""
        self._ill[watcher] = None
        if len(self._menders) < MENDERS:
            mender = asyncio.get_running_loop().create_task(self._heal())
            self._menders.add(mender)
            mender.add_done_callback(self._menders.discard)

    async def _heal(self) -> None:
        while self._ill:
            watcher = next(iter(self._ill))
            del self._ill[watcher]
            await self._renew(watcher)

    async def _renew(self, watcher: Subscription) -> None:
        topic, connection = watcher.topic, watcher.connection
        try:
            await topic.renew(watcher)
        except DependencyUnavailable:
            if watcher.version is None:  # it has nothing to stand on: try until it has
                asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._mend, watcher)
        except Problem as problem:
            connection.send(refusal(on_the_wire(topic.name), problem))
            self._forget(watcher)
            if isinstance(problem, Unauthenticated):
                connection.finish(POLICY_VIOLATION, problem.code)
        except Exception:
            log.exception("a snapshot failed")
            connection.close(INTERNAL_ERROR, Problem.code)

    async def _watch_epoch(self, read_epoch: Callable[[], Awaitable[str]]) -> None:
        while True:
            await asyncio.sleep(EPOCH_SECONDS)
            try:
                epoch = await read_epoch()
            except DependencyUnavailable:
                continue
            except Exception:  # such as a standby's word for itself, in the middle of a failover
                log.exception("the epoch could not be read")
                continue
            if epoch != self.epoch:
                log.warning("the database has another history now: everyone gets a snapshot")
                self.epoch = epoch
                for topic in tuple(self._topics.values()):
                    topic.forget(epoch)

    def _do(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)
