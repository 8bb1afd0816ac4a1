"""Live topics in this process: a snapshot, then every change in the order of its version.

A subscriber never sees a gap: an event that comes early waits for its forerunners, and where
one stays away for longer than `GAP_SECONDS` the subscriber gets a fresh snapshot instead.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from uuid import UUID, uuid4

import msgspec
import structlog

from cliniq.kernel.problem import DependencyUnavailable, Problem, RateLimitExceeded
from cliniq.kernel.record import Record
from cliniq.platform.bus import Bus, LocalBus, Message

log = structlog.get_logger(__name__)

GAP_SECONDS = 0.5
TRY_AGAIN_LATER = 1013  # RFC 6455 and its registry
MOST_SOCKETS = 20  # tabs and devices of one person
OUTBOX_FRAMES = 256  # a reader that falls this far behind is cut off


class LiveEvent(Record, frozen=True):
    """One change of a topic; `body` is JSON. Each has the version after the last one's.

    Within the process a topic begins with its clinic, `<clinic>/<kind>:<id>`: equal ids in two
    clinics are two topics. A client knows its clinic, and sees the rest.
    """

    topic: str
    version: int
    kind: str
    body: bytes


class Snapshot(Record, frozen=True):
    """A topic as it stands at `version`."""

    version: int
    state: object


Load = Callable[[], Awaitable[Snapshot]]


class SlowConsumer(Exception):
    """A socket does not read what it is sent."""


class Connection:
    """One socket's outgoing side: frames wait here until the socket takes them."""

    def __init__(self, session_id: UUID, person_id: UUID | None = None) -> None:
        self.session_id = session_id
        self.person_id = person_id
        self.frames: asyncio.Queue[bytes | None] = asyncio.Queue(OUTBOX_FRAMES)
        self.subscriptions: dict[str, Subscription] = {}
        self.code = TRY_AGAIN_LATER  # what the socket is closed with
        self._is_closing = False

    def send(self, frame: object) -> None:
        """Put a frame in line; a socket that is too far behind is closed instead."""
        self.send_raw(msgspec.json.encode(frame))

    def send_raw(self, frame: bytes) -> None:
        """Put an encoded frame in line; behind the end there is no line."""
        if self._is_closing:
            return
        try:
            self.frames.put_nowait(frame)
        except asyncio.QueueFull:
            self.close()

    def close(self) -> None:
        """Have the socket closed; what still waits is dropped."""
        self._is_closing = True
        with suppress(asyncio.QueueEmpty):
            while True:
                self.frames.get_nowait()
        self.frames.put_nowait(None)

    def finish(self, code: int) -> None:
        """Have the socket closed, with this code, once it has taken what still waits."""
        self._is_closing = True
        self.code = code
        try:
            self.frames.put_nowait(None)
        except asyncio.QueueFull:
            self.close()


class Subscription:
    """One socket's sight of one topic, at a version."""

    def __init__(
        self,
        topic: str,
        connection: Connection,
        epoch: str,
        load: Load,
        forget: Callable[[], None],
    ) -> None:
        self.topic = topic
        self._forget = forget
        self._connection = connection
        self._epoch = epoch
        self._load = load
        self._version: int | None = None  # none while a snapshot is under way
        self._early: dict[int, LiveEvent] = {}
        self._gap: asyncio.TimerHandle | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._is_looking = self._is_stale = False

    async def refresh(self) -> None:
        """Send a snapshot, and what happened while it was taken.

        Raises: the refusal of whoever loads the snapshot; the subscription is then dead.
        """
        self._version = None
        snapshot = await self._look()
        self._connection.send(
            {
                "type": "snapshot",
                "topic": on_the_wire(self.topic),
                "epoch": self._epoch,
                "version": snapshot.version,
                "state": snapshot.state,
            }
        )
        self._version = snapshot.version
        self._early = {at: each for at, each in self._early.items() if at > snapshot.version}
        self._flush()

    async def _look(self) -> Snapshot:
        """Load a snapshot; once more where it may be older than what was lost meanwhile."""
        self._is_looking = True
        try:
            while True:
                self._is_stale = False
                snapshot = await self._load()
                if not self._is_stale:
                    return snapshot
        finally:
            self._is_looking = False

    def take(self, body: bytes) -> None:
        """Take an event from the bus."""
        self.offer(event_in(body))

    def offer(self, event: LiveEvent) -> None:
        """Take an event, in whatever order the commits of this process came to be told."""
        if self._version is not None and event.version <= self._version:
            return
        self._early[event.version] = event
        if self._version is not None:
            self._flush()

    def end(self) -> None:
        """Stop waiting for anything."""
        if self._gap:
            self._gap.cancel()
        if self._reloading:
            self._reloading.cancel()

    def _flush(self) -> None:
        assert self._version is not None  # noqa: S101 - callers have looked
        while (event := self._early.pop(self._version + 1, None)) is not None:
            self._version = event.version
            self._connection.send(
                {
                    "type": "event",
                    "topic": on_the_wire(self.topic),
                    "version": event.version,
                    "kind": event.kind,
                    "body": msgspec.Raw(event.body),
                }
            )
        if not self._early and self._gap:
            self._gap.cancel()
            self._gap = None
        elif self._early and self._gap is None:
            self._gap = asyncio.get_running_loop().call_later(GAP_SECONDS, self.mend)

    def mend(self) -> None:
        """Get a fresh snapshot; something may have been lost."""
        if self._gap:
            self._gap.cancel()
            self._gap = None
        if self._is_looking:
            self._is_stale = True
            return
        self._reloading = asyncio.get_running_loop().create_task(self._reload())

    async def _reload(self) -> None:
        try:
            await self.refresh()
        except DependencyUnavailable:
            self._gap = asyncio.get_running_loop().call_later(GAP_SECONDS * 4, self.mend)
        except Problem as problem:
            self._connection.send(refusal(on_the_wire(self.topic), problem))
            self._forget()  # which cancels this very task; it has nothing left to do
        except Exception:
            log.exception("a snapshot failed")
            self._connection.close()


class Hub:
    """All subscriptions of this process, over the bus between all."""

    def __init__(self, bus: Bus | None = None) -> None:
        self._bus = bus or LocalBus()
        self._bus.on_gap(self.refresh_all)
        self._ignoring: set[asyncio.Task[None]] = set()
        self._epoch = uuid4().hex
        self._watched: dict[str, set[Subscription]] = {}
        self._connections: set[Connection] = set()
        self._sockets_of: Counter[UUID | None] = Counter()

    def __len__(self) -> int:
        return len(self._connections)

    def join(self, connection: Connection) -> None:
        """Let a socket in.

        Raises: RATE_LIMIT_EXCEEDED 429 where a person has as many as one may have.
        """
        whose = connection.person_id
        if whose is not None and self._sockets_of[whose] >= MOST_SOCKETS:
            raise RateLimitExceeded(60)
        self._connections.add(connection)
        self._sockets_of[whose] += 1

    def leave(self, connection: Connection) -> None:
        """Forget a socket and everything that it watched."""
        if connection in self._connections:
            self._connections.remove(connection)
            self._sockets_of[connection.person_id] -= 1
            if not self._sockets_of[connection.person_id]:
                del self._sockets_of[connection.person_id]
        for topic in list(connection.subscriptions):
            self.unsubscribe(connection, topic)

    async def subscribe(self, connection: Connection, topic: str, load: Load) -> None:
        """Watch a topic from its snapshot on. A second time gives a fresh snapshot.

        The subscription is in place before the snapshot is taken, so nothing falls in between.
        Raises: whatever `load` refuses with; nothing is watched then.
        """
        self.unsubscribe(connection, topic)
        forget = partial(self.unsubscribe, connection, topic)
        subscription = Subscription(topic, connection, self._epoch, load, forget)
        connection.subscriptions[topic] = subscription
        self._watched.setdefault(topic, set()).add(subscription)
        try:
            await self._bus.listen(channel_of(topic), subscription.take)
            await subscription.refresh()
        except BaseException:
            self.unsubscribe(connection, topic)
            raise

    def unsubscribe(self, connection: Connection, topic: str) -> None:
        """Stop watching."""
        subscription = connection.subscriptions.pop(topic, None)
        if subscription is None:
            return
        subscription.end()
        ignoring = asyncio.ensure_future(self._bus.ignore(channel_of(topic), subscription.take))
        self._ignoring.add(ignoring)
        ignoring.add_done_callback(self._ignoring.discard)
        watchers = self._watched.get(topic, set())
        watchers.discard(subscription)
        if not watchers:
            self._watched.pop(topic, None)

    def publish(self, event: LiveEvent) -> None:
        """Tell everyone in this process who watches the event's topic."""
        for subscription in tuple(self._watched.get(event.topic, ())):
            subscription.offer(event)

    def refresh_all(self) -> None:
        """Send everyone a fresh snapshot: changes may have been lost."""
        for watchers in self._watched.values():
            for subscription in watchers:
                subscription.mend()

    def end_session(self, session_id: UUID) -> None:
        """Close the sockets of a sign-in that has ended."""
        for connection in tuple(self._connections):
            if connection.session_id == session_id:
                connection.close()

    def close(self) -> None:
        """Close every socket: the process is about to stop."""
        for connection in tuple(self._connections):
            connection.close()


_DECODER = msgspec.msgpack.Decoder(LiveEvent)


def message_of(event: LiveEvent) -> Message:
    """Write an event as it crosses the bus."""
    return Message(channel_of(event.topic), msgspec.msgpack.encode(event))


def event_in(body: bytes) -> LiveEvent:
    """Read an event that crossed the bus."""
    return _DECODER.decode(body)


def channel_of(topic: str) -> str:
    """Name the bus channel of a topic."""
    return f"live/{topic}"


def refusal(topic: str, problem: Problem) -> dict[str, str]:
    """Say on the socket that a topic cannot be watched."""
    return {"type": "refused", "topic": topic, "code": problem.code}


def topic_in(clinic_id: UUID, topic: str) -> str:
    """Name a topic within the process."""
    return f"{clinic_id}/{topic}"


def on_the_wire(topic: str) -> str:
    """Name a topic as clients know it."""
    return topic.rpartition("/")[2]
