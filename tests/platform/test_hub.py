"""Hubs over a bus: what is resumed, what is lost and noticed, who is sent away and when."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import (
    DependencyUnavailable,
    NotFound,
    Problem,
    RateLimitExceeded,
    Unauthenticated,
)
from cliniq.platform import live, live_crowd, live_topic
from cliniq.platform.bus import LocalBus
from cliniq.platform.live import (
    POLICY_VIOLATION,
    SERVICE_RESTART,
    TRY_AGAIN_LATER,
    Connection,
    Hub,
    Known,
    Snapshot,
)
from cliniq.platform.live_frames import LiveEvent, channel_of, message_of
from cliniq.platform.live_topic import WINDOW
from tests.platform.chance import STEADY
from tests.platform.lossy import LossyBus

TOPIC = "clinic/queue:1"


def event(version: int) -> LiveEvent:
    return LiveEvent(TOPIC, version, "said.v1", json.dumps(version).encode())


def read(connection: Connection) -> list[Any]:
    return [json.loads(frame.text) for frame in connection.take()]


def told(connection: Connection) -> list[tuple[str, int]]:
    return [(each["type"], each["version"]) for each in read(connection)]


def gather(seen: list[Any], more: list[Any]) -> bool:
    """Keep what came; never enough by itself."""
    seen.extend(more)
    return False


async def until(come: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not come():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Truth:
    """The database: how far the topic is, and whom it refuses."""

    def __init__(self) -> None:
        self.version = 0
        self.states = 0  # how often the whole was read
        self.refusal: Problem | None = None

    async def load(self, known: Known | None) -> Snapshot:
        await asyncio.sleep(0)
        if self.refusal:
            raise self.refusal
        version = self.version
        if known is not None and known("seat", version):
            return Snapshot(version, msgspec.UNSET, "seat")
        self.states += 1
        return Snapshot(version, list(range(1, version + 1)), "seat")

    def change(self, hub: Hub, times: int = 1) -> None:
        for _ in range(times):
            self.version += 1
            hub.bus.post(message_of(event(self.version)))


async def connected(hub: Hub, session_id: UUID | None = None) -> Connection:
    connection = Connection(session_id or new_id())
    hub.join(connection)
    return connection


async def watching(hub: Hub, truth: Truth, **known: Any) -> Connection:
    connection = await connected(hub)
    await hub.subscribe(connection, TOPIC, truth.load, **known)
    return connection


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_topic, "GAP_SECONDS", 0.01)
    monkeypatch.setattr(live, "GAP_SPREAD_SECONDS", 0)
    monkeypatch.setattr(live, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(live, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(live, "EPOCH_SECONDS", 0.01)


# Coming back.


async def test_who_comes_back_is_told_exactly_what_was_missed(hub: Hub) -> None:
    truth = Truth()
    gone = await watching(hub, truth)
    hub.leave(gone)
    truth.change(hub, 3)
    back = await watching(hub, truth, since=0, epoch=hub.epoch)
    truth.change(hub)
    assert told(back) == [("resumed", 0), *(("event", each) for each in (1, 2, 3, 4))]
    assert truth.states == 1


async def test_who_missed_nothing_is_told_so(hub: Hub) -> None:
    truth = Truth()
    truth.version = 7
    back = await watching(hub, truth, since=7, epoch=hub.epoch)
    assert told(back) == [("resumed", 7)]
    assert truth.states == 0


@pytest.mark.parametrize(
    "strange",
    [
        {"since": 0, "epoch": "another"},
        {"since": 0, "epoch": None},
        {"since": 2**62},
        {"since": 6},
    ],
    ids=["another history", "no history", "from the future", "from before the window"],
)
async def test_who_cannot_be_resumed_gets_a_snapshot(hub: Hub, strange: dict[str, Any]) -> None:
    truth = Truth()
    truth.version = 7
    back = await watching(hub, truth, **({"epoch": hub.epoch} | strange))
    assert told(back) == [("snapshot", 7)]


async def test_window_holds_so_many_events_and_no_more(hub: Hub) -> None:
    truth = Truth()
    hub.leave(await watching(hub, truth))
    truth.change(hub, WINDOW + 1)
    just, too_late = [await watching(hub, truth, since=since, epoch=hub.epoch) for since in (1, 0)]
    assert told(just)[0] == ("resumed", 1)
    assert told(too_late) == [("snapshot", WINDOW + 1)]


async def test_snapshot_that_somebody_in_such_a_seat_was_given_serves_others_too(hub: Hub) -> None:
    truth = Truth()
    truth.version = 3
    await watching(hub, truth)
    assert told(await watching(hub, truth)) == [("snapshot", 3)]
    assert truth.states == 1
    truth.change(hub)
    assert told(await watching(hub, truth)) == [("snapshot", 4)]
    assert truth.states == 2


async def test_snapshot_is_shared_only_with_those_whom_their_own_door_lets_in(hub: Hub) -> None:
    truth = Truth()
    await watching(hub, truth)
    truth.refusal = NotFound()
    with pytest.raises(NotFound):
        await watching(hub, truth)


async def test_topic_is_heard_for_a_while_after_the_last_has_left_and_then_no_more(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LINGER_SECONDS", 0.01)
    truth, bus = Truth(), hub.bus
    assert isinstance(bus, LocalBus)
    hub.leave(await watching(hub, truth))
    assert channel_of(TOPIC) in bus._listening  # noqa: SLF001
    await until(lambda: channel_of(TOPIC) not in bus._listening)  # noqa: SLF001
    truth.change(hub, 2)
    again = await watching(hub, truth, since=0, epoch=hub.epoch)
    assert told(again) == [("snapshot", 2)], "what nobody heard is not resumed"


async def test_frame_is_encoded_once_for_all_who_watch(hub: Hub) -> None:
    truth = Truth()
    watchers = [await watching(hub, truth) for _ in range(3)]
    truth.change(hub)
    taken = [watcher.take() for watcher in watchers]
    for at in range(2):
        assert len({id(frames[at]) for frames in taken}) == 1


# Lost on the way.


async def test_bus_that_cannot_be_heard_refuses_the_watcher_and_the_next_tries_again() -> None:
    class Deaf(LocalBus):
        deaf = True

        @override
        async def listen(self, channel: str, heard: Any) -> None:
            if self.deaf:
                raise DependencyUnavailable("redis")
            await super().listen(channel, heard)

    bus = Deaf()
    hub, truth = Hub(bus), Truth()
    with pytest.raises(DependencyUnavailable):
        await watching(hub, truth)
    bus.deaf = False
    assert told(await watching(hub, truth)) == [("snapshot", 0)]
    hub.close()


@pytest.mark.usefixtures("quick")
async def test_last_message_that_is_lost_is_noticed_when_the_bus_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "BEAT_SECONDS", 3600)
    bus, truth = LossyBus(), Truth()
    hub = Hub(bus)
    await hub.open(epoch_of("one"))
    watchers = [await watching(hub, truth) for _ in range(5)]
    truth.change(hub)
    bus.lose()
    bus.gap()
    for watcher in watchers:
        await until(lambda watcher=watcher: len(watcher.frames) == 2)  # type: ignore[misc]
        assert told(watcher) == [("snapshot", 0), ("snapshot", 1)]
    assert truth.states == 2, "those behind share one snapshot"
    hub.close()


@pytest.mark.usefixtures("quick")
async def test_last_message_that_is_lost_without_a_word_is_noticed_by_an_audit() -> None:
    bus, truth = LossyBus(), Truth()
    hub = Hub(bus)
    watcher = await watching(hub, truth)
    truth.change(hub)
    bus.lose()
    seen: list[tuple[str, int]] = []
    await until(lambda: gather(seen, told(watcher)) or ("snapshot", 1) in seen)
    await until(lambda: gather(seen, told(watcher)) or ("beat", 1) in seen)
    hub.close()


@pytest.mark.usefixtures("quick")
async def test_watcher_whose_right_ends_is_found_by_an_audit(hub: Hub) -> None:
    truth = Truth()
    watcher = await watching(hub, truth)
    read(watcher)
    truth.refusal = NotFound()
    refused = {"type": "refused", "topic": "queue:1", "code": "NOT_FOUND"}
    seen: list[Any] = []
    await until(lambda: gather(seen, read(watcher)) or refused in seen)
    assert watcher.subscriptions == {}
    assert not watcher.is_over


@pytest.mark.usefixtures("quick")
async def test_watcher_whose_sign_in_ended_unheard_is_closed_by_an_audit(hub: Hub) -> None:
    truth = Truth()
    watcher = await watching(hub, truth)
    truth.refusal = Unauthenticated()
    await until(lambda: watcher.is_over)
    assert (watcher.code, watcher.reason) == (POLICY_VIOLATION, "UNAUTHENTICATED")


@pytest.mark.usefixtures("quick")
async def test_audits_reach_every_watcher(hub: Hub) -> None:
    asked = []
    truth = Truth()

    async def counted(number: int, known: Known | None) -> Snapshot:
        asked.append(number)
        return await truth.load(known)

    for number in range(12):
        connection = await connected(hub)
        await hub.subscribe(connection, TOPIC, lambda known, n=number: counted(n, known))  # type: ignore[misc]
    asked.clear()
    await until(lambda: set(asked) == set(range(12)))


@pytest.mark.usefixtures("quick")
async def test_database_that_is_away_leaves_a_watcher_where_it_stood(hub: Hub) -> None:
    truth = Truth()
    watcher = await watching(hub, truth)
    truth.refusal = DependencyUnavailable("postgresql")
    await asyncio.sleep(0.1)
    truth.refusal = None
    truth.change(hub)
    assert [each for each in told(watcher) if each[0] != "beat"] == [("snapshot", 0), ("event", 1)]


def epoch_of(*epochs: str) -> Callable[[], Any]:
    left = list(epochs)

    async def read_epoch() -> str:
        return left.pop(0) if len(left) > 1 else left[0]

    return read_epoch


@pytest.mark.usefixtures("quick")
async def test_database_with_another_history_gives_everyone_a_snapshot_in_its_epoch() -> None:
    hub, truth = Hub(), Truth()
    truth.version = 9
    await hub.open(epoch_of("one", "two"))
    watcher = await watching(hub, truth)
    truth.version = 4
    seen: list[Any] = []
    await until(lambda: gather(seen, read(watcher)) or len(snapshots(seen)) > 1)
    first, second = snapshots(seen)
    assert (first["epoch"], first["version"]) == ("one", 9)
    assert (second["epoch"], second["version"]) == ("two", 4)
    hub.close()


def snapshots(frames: list[Any]) -> list[Any]:
    return [each for each in frames if each["type"] == "snapshot"]


# Who may come, and who must go.


@pytest.mark.parametrize("limit", ["MOST_OF_A_PERSON", "MOST_OF_AN_ADDRESS", "MOST"])
async def test_limits_let_in_so_many_and_the_next_after_one_has_left(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(live_crowd, limit, 2)
    hub, person = Hub(), new_id()
    first, second, third = (Connection(new_id(), person, "192.0.2.1") for _ in range(3))
    hub.join(first)
    hub.join(second)
    with pytest.raises(RateLimitExceeded):
        hub.join(third)
    hub.leave(third)
    hub.leave(first)
    hub.leave(first)
    hub.join(third)
    if limit != "MOST":
        hub.join(Connection(new_id(), new_id(), "192.0.2.2"))


async def test_sign_in_that_ends_here_ends_in_every_process() -> None:
    bus = LocalBus()
    hubs = [Hub(bus), Hub(bus)]
    session = new_id()
    for hub in hubs:
        await hub.open(epoch_of("one"))
    here, there = [await connected(hub, session) for hub in hubs]
    other = await connected(hubs[1])
    hubs[0].end_session(session)
    for each in (here, there):
        assert (each.is_over, each.code, each.reason) == (True, POLICY_VIOLATION, "UNAUTHENTICATED")
    assert not other.is_over
    for hub in hubs:
        hub.close()


async def test_change_in_one_process_is_seen_in_the_other() -> None:
    bus, truth = LocalBus(), Truth()
    here, there = Hub(bus), Hub(bus)
    watcher = await watching(there, truth)
    truth.change(here, 2)
    assert told(watcher) == [("snapshot", 0), ("event", 1), ("event", 2)]
    here.close()
    there.close()


async def test_drained_hub_tells_each_when_to_come_back_and_lets_nobody_in(hub: Hub) -> None:
    truth = Truth()
    watchers = [await watching(hub, truth) for _ in range(10)]
    draining = asyncio.create_task(hub.drain(0.2))
    await until(lambda: any(each.is_over for each in watchers))
    assert not all(each.is_over for each in watchers), "not all in one instant"
    with pytest.raises(DependencyUnavailable):
        hub.join(Connection(new_id()))
    await until(lambda: all(each.is_over for each in watchers))
    pauses = set()
    for each in watchers:
        *_, bye = read(each)
        assert (bye["type"], bye["code"]) == ("bye", "RESTARTING")
        pauses.add(bye["retry_after_ms"])
        assert (each.code, each.reason) == (SERVICE_RESTART, "RESTARTING")
        hub.leave(each)
    await draining
    assert len(pauses) > 1


async def test_reader_who_is_too_slow_hears_why() -> None:
    hub, truth = Hub(), Truth()
    slow = await watching(hub, truth)
    truth.change(hub, live_crowd.MOST)
    assert (slow.code, slow.reason) == (TRY_AGAIN_LATER, "SLOW_CONSUMER")
    assert slow.frames == []
    hub.close()


# Any order of everything, over a bus that loses, repeats and delays.


class Watcher:
    """A client that is cut off and comes back, and fails where a version is missed or repeated."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.subscribing: asyncio.Task[None] | None = None
        self.version: int | None = None
        self.epoch: str | None = None
        self.state: list[int] = []

    def hear(self) -> None:
        for frame in read(self.connection) if self.connection else ():
            match frame["type"]:
                case "snapshot":
                    self.epoch, self.state = frame["epoch"], frame["state"]
                case "resumed":
                    assert (frame["version"], frame["epoch"]) == (self.version, self.epoch)
                case "event":
                    assert self.version is not None
                    assert frame["version"] == self.version + 1
                    self.state.append(frame["body"])
                case _:
                    continue
            self.version = frame["version"]
            assert self.state == list(range(1, frame["version"] + 1))


class Stage:
    """Two processes, three watchers, one database that answers when it is told to."""

    def __init__(self) -> None:
        self.bus = LossyBus()
        self.hubs = [Hub(self.bus), Hub(self.bus)]
        self.watchers = [Watcher() for _ in range(3)]
        self.committed = 0
        self._asked: list[asyncio.Future[None]] = []

    async def load(self, known: Known | None) -> Snapshot:
        await self._told()
        version = self.committed
        is_known = known is not None and known("seat", version)
        await self._told()
        state = msgspec.UNSET if is_known else list(range(1, version + 1))
        return Snapshot(version, state, "seat")

    async def _told(self) -> None:
        asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        await asked

    def step(self, which: int) -> None:
        if self._asked:
            asked = self._asked.pop(which % len(self._asked))
            if not asked.done():
                asked.set_result(None)

    def commit(self, _which: int) -> None:
        self.committed += 1
        self.bus.post(message_of(event(self.committed)))

    def come(self, which: int) -> None:
        watcher, hub = self.watchers[which % 3], self.hubs[which % 2]
        if watcher.connection is None:
            watcher.connection = Connection(new_id())
            hub.join(watcher.connection)
            subscribing = hub.subscribe(
                watcher.connection, TOPIC, self.load, watcher.version, watcher.epoch
            )
            watcher.subscribing = asyncio.create_task(subscribing)

    def go(self, which: int) -> None:
        watcher = self.watchers[which % 3]
        if watcher.connection is not None and watcher.subscribing is not None:
            watcher.subscribing.cancel()
            for hub in self.hubs:
                hub.leave(watcher.connection)
            watcher.connection = None

    async def do(self, word: str, which: int) -> None:
        match word:
            case "deliver" | "deliver_twice" | "lose":
                getattr(self.bus, word)(which)
            case "gap":
                self.bus.gap()
            case "wait":
                await asyncio.sleep(0.001)
            case _:
                getattr(self, word)(which)
        for _ in range(4):
            await asyncio.sleep(0)
        for watcher in self.watchers:
            watcher.hear()

    async def settle(self) -> None:
        """Deliver what still waits, have the bus own up to what it lost, and let all answer."""
        while self.bus.waiting:
            await self.do("deliver", 0)
        for each in range(3):
            await self.do("come", each)
        self.bus.gap()
        async with asyncio.timeout(5):
            while any(each.version != self.committed for each in self.watchers):
                await self.do("step", 0)
                await asyncio.sleep(0.0001)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            "commit commit deliver deliver deliver_twice lose come come go step step step gap "
            "wait".split()
        ),
        st.integers(0, 11),
    ),
    max_size=60,
)


@STEADY
@given(STEPS)
def test_watchers_end_where_a_snapshot_would_whatever_is_lost_and_whoever_comes_back(
    steps: list[tuple[str, int]],
) -> None:
    async def run() -> None:
        stage = Stage()
        for hub in stage.hubs:
            await hub.open(epoch_of("one"))
        for word, which in steps:
            await stage.do(word, which)
        await stage.settle()
        for hub in stage.hubs:
            hub.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_topic, "GAP_SECONDS", 0.0005)
        patch.setattr(live, "GAP_SPREAD_SECONDS", 0)
        asyncio.run(run())
