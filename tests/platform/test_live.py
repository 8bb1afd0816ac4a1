"""The hub: whatever happens in whatever order, a watcher sees a snapshot and then every version."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import NotFound
from cliniq.platform import live_topic
from cliniq.platform.live import Connection, Hub, Known, LiveEvent, Load, Snapshot, topic_in
from cliniq.platform.live_connection import MOST_FRAMES
from cliniq.platform.live_frames import message_of
from tests.platform.chance import STEADY

TOPIC = "queue:1"


def event(version: int, topic: str = TOPIC) -> LiveEvent:
    return LiveEvent(topic, version, "said.v1", json.dumps(version).encode())


def loading(*versions: int) -> Load:
    """Load a snapshot of each version in turn; the state is what has been said up to it."""
    left = list(versions)

    async def load(_known: Known | None) -> Snapshot:
        await asyncio.sleep(0)
        version = left.pop(0)
        return Snapshot(version, list(range(1, version + 1)))

    return load


def in_turn(*loads: Load) -> Load:
    left = list(loads)

    async def load(known: Known | None) -> Snapshot:
        return await left.pop(0)(known)

    return load


def frames(connection: Connection) -> list[Any]:
    """What a reader of the connection has got since the last look; None is the end."""
    found: list[Any] = [json.loads(frame.text) for frame in connection.take()]
    return [*found, None] if connection.is_over else found


def publish(hub: Hub, said: LiveEvent) -> None:
    hub.bus.post(message_of(said))


def watched(hub: Hub) -> list[str]:
    """The topics that somebody watches."""
    return [name for name, topic in hub._topics.items() if topic.watchers]  # noqa: SLF001


def is_told(connection: Connection) -> bool:
    return bool(connection.frames) or connection.is_over


def told(connection: Connection) -> list[tuple[str, int]]:
    return [(frame["type"], frame["version"]) for frame in frames(connection)]


class Client:
    """What a client does with frames; it fails where a version is missed or comes twice."""

    def __init__(self) -> None:
        self.version: int | None = None
        self.state: list[int] = []
        self.epochs: set[str] = set()

    def take(self, taken: list[Any]) -> None:
        for frame in taken:
            assert frame is not None, "cut off"
            assert frame["topic"] == TOPIC
            if frame["type"] == "snapshot":
                assert self.version is None or frame["version"] >= self.version
                self.state = frame["state"]
                self.epochs.add(frame["epoch"])
            else:
                assert frame["type"] == "event"
                assert self.version is not None, "an event before any snapshot"
                assert frame["version"] == self.version + 1
                self.state.append(frame["body"])
            self.version = frame["version"]


@pytest.fixture
def short_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_topic, "GAP_SECONDS", 0.01)


async def watching(hub: Hub, load: Load) -> Connection:
    connection = Connection(new_id())
    hub.join(connection)
    await hub.subscribe(connection, TOPIC, load)
    return connection


async def until(come: Callable[[], bool]) -> None:
    """Wait for something that a timer brings."""
    async with asyncio.timeout(10):
        while not come():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def refuse(_known: Known | None) -> Snapshot:
    raise NotFound


async def break_down(_known: Known | None) -> Snapshot:
    raise RuntimeError


async def test_subscription_that_is_refused_leaves_nothing() -> None:
    hub, connection = Hub(), Connection(new_id())
    for load, refusal in ((refuse, NotFound), (break_down, RuntimeError)):
        with pytest.raises(refusal):
            await hub.subscribe(connection, TOPIC, load)
        publish(hub, event(1))
        assert frames(connection) == []
        assert connection.subscriptions == {}
        assert watched(hub) == []


async def test_events_out_of_order_are_delivered_in_order() -> None:
    hub = Hub()
    connection = await watching(hub, loading(3))
    for version in (6, 5, 4, 8, 7):
        publish(hub, event(version))
    assert told(connection) == [("snapshot", 3), *(("event", each) for each in (4, 5, 6, 7, 8))]


async def test_events_that_are_old_or_come_twice_are_not_delivered() -> None:
    hub = Hub()
    connection = await watching(hub, loading(3))
    for version in (1, 3, 4, 4, 3, 5, 4):
        publish(hub, event(version))
    assert told(connection) == [("snapshot", 3), ("event", 4), ("event", 5)]


@pytest.mark.usefixtures("short_gap")
async def test_events_during_the_snapshot_are_delivered_after_it_or_left_to_it() -> None:
    hub, connection = Hub(), Connection(new_id())
    asked, answered = asyncio.Event(), asyncio.Event()

    async def load(_known: Known | None) -> Snapshot:
        asked.set()
        await answered.wait()
        return Snapshot(4, [1, 2, 3, 4])

    subscribing = asyncio.create_task(hub.subscribe(connection, TOPIC, load))
    await asked.wait()
    for version in (6, 3, 4, 5):
        publish(hub, event(version))
    assert frames(connection) == []
    answered.set()
    await subscribing
    await asyncio.sleep(0.05)  # nothing is left to wait for
    assert told(connection) == [("snapshot", 4), ("event", 5), ("event", 6)]


@pytest.mark.usefixtures("short_gap")
async def test_gap_that_stays_open_is_mended_by_a_fresh_snapshot() -> None:
    hub = Hub()
    connection = await watching(hub, loading(1, 4))
    publish(hub, event(3))
    assert told(connection) == [("snapshot", 1)]
    await until(lambda: is_told(connection))
    assert told(connection) == [("snapshot", 4)]
    for version in (2, 3, 4, 5):
        publish(hub, event(version))
    assert told(connection) == [("event", 5)]


@pytest.mark.usefixtures("short_gap")
async def test_gap_that_closes_in_time_needs_no_snapshot() -> None:
    hub = Hub()
    connection = await watching(hub, loading(1))
    publish(hub, event(3))
    publish(hub, event(2))
    await asyncio.sleep(0.05)
    assert told(connection) == [("snapshot", 1), ("event", 2), ("event", 3)]


@pytest.mark.usefixtures("short_gap")
async def test_gap_in_a_fresh_snapshot_too_is_mended_by_another() -> None:
    hub = Hub()
    connection = await watching(hub, loading(1, 2, 9))
    publish(hub, event(5))
    await until(lambda: len(connection.frames) == 3)
    assert told(connection) == [("snapshot", 1), ("snapshot", 2), ("snapshot", 9)]


@pytest.mark.usefixtures("short_gap")
async def test_gap_that_closes_during_the_fresh_snapshot_takes_nobody_back() -> None:
    stage = Stage()
    await stage.do("subscribe", 0)
    for word, which in (
        ("step", 0),
        ("step", 0),
        ("commit", 0),
        ("commit", 0),
        ("publish", 1),  # 2, and 1 stays away for too long
    ):
        await stage.do(word, which)
    await until(stage.is_asked)
    for word in ("step", "publish", "commit", "publish", "step"):  # read at 2, answered at 3
        await stage.do(word, 0)
    assert (stage.client.version, stage.client.state) == (3, [1, 2, 3])
    stage.hub.leave(stage.connection)


@pytest.mark.usefixtures("short_gap")
async def test_watcher_who_lost_the_right_hears_so_at_the_next_snapshot_and_is_forgotten() -> None:
    hub = Hub()
    connection = await watching(hub, in_turn(loading(1), refuse))
    assert told(connection) == [("snapshot", 1)]
    publish(hub, event(3))
    await until(lambda: is_told(connection))
    assert frames(connection) == [{"type": "refused", "topic": TOPIC, "code": "NOT_FOUND"}]
    for version in (2, 3, 4):
        publish(hub, event(version))
    assert frames(connection) == []
    assert connection.subscriptions == {}
    hub.leave(connection)
    assert watched(hub) == []


@pytest.mark.usefixtures("short_gap")
async def test_watcher_whose_fresh_snapshot_breaks_is_closed() -> None:
    hub = Hub()
    connection = await watching(hub, in_turn(loading(1), break_down))
    frames(connection)
    with capture_logs() as journal:
        publish(hub, event(3))
        await until(lambda: is_told(connection))
    assert frames(connection) == [None]
    assert [each["event"] for each in journal] == ["a snapshot failed"]


async def test_topic_of_the_same_id_in_another_clinic_is_another_topic() -> None:
    hub, connection = Hub(), Connection(new_id())
    here, there = (topic_in(new_id(), TOPIC) for _ in range(2))
    await hub.subscribe(connection, here, loading(1))
    publish(hub, event(2, there))
    publish(hub, event(2, TOPIC))
    publish(hub, event(2, here))
    found = frames(connection)
    assert [(each["topic"], each["version"]) for each in found] == [(TOPIC, 1), (TOPIC, 2)]


async def test_second_subscription_gives_a_fresh_snapshot_and_no_event_twice() -> None:
    hub = Hub()
    connection = await watching(hub, loading(1))
    await hub.subscribe(connection, TOPIC, loading(2))
    publish(hub, event(3))
    assert told(connection) == [("snapshot", 1), ("snapshot", 2), ("event", 3)]


async def test_whoever_unsubscribes_or_leaves_hears_no_more() -> None:
    hub = Hub()
    stays = await watching(hub, loading(1))
    leaves, unsubscribes = await watching(hub, loading(1)), await watching(hub, loading(1))
    hub.unsubscribe(unsubscribes, TOPIC)
    hub.unsubscribe(unsubscribes, TOPIC)
    hub.unsubscribe(unsubscribes, "queue:never")
    hub.leave(leaves)
    publish(hub, event(2))
    publish(hub, event(2, "queue:2"))
    assert told(stays) == [("snapshot", 1), ("event", 2)]
    assert told(leaves) == told(unsubscribes) == [("snapshot", 1)]
    assert len(hub) == 2


@pytest.mark.usefixtures("short_gap")
async def test_whoever_leaves_with_a_gap_open_is_asked_for_no_snapshot() -> None:
    hub, asked = Hub(), 0

    async def load(_known: Known | None) -> Snapshot:
        nonlocal asked
        asked += 1
        return Snapshot(1, None)

    connection = await watching(hub, load)
    publish(hub, event(3))
    hub.leave(connection)
    await asyncio.sleep(0.05)
    assert asked == 1


async def test_consumer_who_is_too_slow_is_closed_and_nobody_else() -> None:
    hub = Hub()
    slow, quick = await watching(hub, loading(0)), await watching(hub, loading(0))
    heard = 0
    for version in range(1, MOST_FRAMES + 2):
        publish(hub, event(version))
        heard += len(frames(quick))
    assert heard == MOST_FRAMES + 2
    assert frames(slow) == [None]


async def test_sockets_of_an_ended_sign_in_are_closed_and_no_others() -> None:
    hub = Hub()
    mine, again, other = Connection(new_id()), Connection(new_id()), Connection(new_id())
    again.session_id = mine.session_id
    for each in (mine, again, other):
        hub.join(each)
    hub.end_session(mine.session_id)
    assert frames(mine) == frames(again) == [None]
    assert frames(other) == []
    hub.close()
    assert frames(other) == [None]


# Any order of everything.


class Stage:
    """A topic whose changes commit in order, are published in any, and are read at any moment."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.client, self.connection = Client(), Connection(new_id())
        self.committed = 0
        self.unpublished: list[int] = []
        self._asked: list[asyncio.Future[None]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def load(self, _known: Known | None) -> Snapshot:
        """Read when told to, and answer later, when told to."""
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        await asked
        snapshot = Snapshot(self.committed, list(range(1, self.committed + 1)))
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(answered)
        await answered
        return snapshot

    def subscribe(self) -> None:
        if not self.tasks or self.tasks[-1].done():  # one socket's frames are obeyed in turn
            subscribing = self.hub.subscribe(self.connection, TOPIC, self.load)
            self.tasks.append(asyncio.create_task(subscribing))

    def is_asked(self) -> bool:
        return bool(self._asked)

    def commit(self) -> None:
        self.committed += 1
        self.unpublished.append(self.committed)

    def publish(self, which: int) -> None:
        if self.unpublished:
            publish(self.hub, event(self.unpublished.pop(which % len(self.unpublished))))

    def lose(self, which: int) -> None:
        """Lose an event after its commit, as a process that dies would."""
        if self.unpublished:
            self.unpublished.pop(which % len(self.unpublished))

    def step(self) -> None:
        """Let whoever reads a snapshot go on: to read it, and then to answer with it."""
        if self._asked:
            self._asked.pop(0).set_result(None)

    async def do(self, word: str, which: int) -> None:
        match word:
            case "publish":
                self.publish(which)
            case "lose":
                self.lose(which)
            case "wait":  # for longer than a gap may stay open
                await asyncio.sleep(0.001)
            case _:
                getattr(self, word)()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.client.take(frames(self.connection))

    async def settle(self) -> None:
        """Let all that is under way arrive, and one more change, by which a loss is noticed."""
        while self.unpublished:
            await self.do("publish", 0)
        await self.do("commit", 0)
        await self.do("publish", 0)
        async with asyncio.timeout(2):
            while self.client.version != self.committed or not all(t.done() for t in self.tasks):
                await self.do("step", 0)
                await asyncio.sleep(0.0001)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["commit", "commit", "publish", "publish", "step", "subscribe"]),
        st.integers(0, 10),
    ),
    max_size=60,
)
ACTIONS_AND_LOSSES = st.lists(
    st.tuples(
        st.sampled_from(
            ["commit", "publish", "publish", "step", "step", "subscribe", "lose", "wait"]
        ),
        st.integers(0, 10),
    ),
    max_size=40,
)


def play(actions: list[tuple[str, int]]) -> None:
    async def run() -> None:
        stage = Stage()
        stage.subscribe()
        for word, which in actions:
            await stage.do(word, which)
        await stage.settle()
        assert stage.client.state == list(range(1, stage.committed + 1))
        assert len(stage.client.epochs) == 1
        stage.hub.leave(stage.connection)

    asyncio.run(run())


@STEADY
@given(ACTIONS)
def test_watcher_ends_where_a_fresh_snapshot_would_in_whatever_order_all_happens(
    actions: list[tuple[str, int]],
) -> None:
    play(actions)


@STEADY
@given(ACTIONS_AND_LOSSES)
def test_watcher_who_missed_an_event_ends_where_a_fresh_snapshot_would(
    actions: list[tuple[str, int]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_topic, "GAP_SECONDS", 0.0005)
        play(actions)
