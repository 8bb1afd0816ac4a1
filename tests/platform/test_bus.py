"""The bus: in a channel's order to all who listen; whoever may have missed something hears so."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import DependencyUnavailable
from cliniq.platform import redis_bus
from cliniq.platform.bus import Bus, Message
from cliniq.platform.redis_bus import MOST_WAITING, RedisBus, open_bus
from tests.redis_server import RedisServer, own_redis

Heard = list[bytes]


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A Redis that the test may restart, kill and stop."""
    with own_redis() as server:
        yield server


@pytest.fixture(params=["local", "redis"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """Either bus: what holds for one holds for the other."""
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    async with open_bus(url) as bus:
        yield bus


def channel() -> str:
    return f"live/{new_id()}/queue:{new_id()}"


async def until(come: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not come():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


@asynccontextmanager
async def buses(url: str, count: int = 2) -> AsyncIterator[list[Any]]:
    """As many processes' buses."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_bus(url)) for _ in range(count)]


# --- either ---------------------------------------------------------------------------------------


async def test_listener_hears_what_is_said_on_its_channel_in_order(bus: Bus) -> None:
    here, there, heard = channel(), channel(), Heard()
    await bus.listen(here, heard.append)
    said = [str(number).encode() for number in range(100)]
    await bus.publish([Message(each, body) for body in said for each in (there, here)])
    await until(lambda: len(heard) == 100)
    assert heard == said


async def test_body_is_bytes_of_any_kind(bus: Bus) -> None:
    here, heard = channel(), Heard()
    await bus.listen(here, heard.append)
    bodies = [b"", b"\r\n$1\r\n", bytes(range(256)), b"x" * 100_000]
    await bus.publish([Message(here, body) for body in bodies])
    await until(lambda: len(heard) == len(bodies))
    assert heard == bodies


async def test_each_listener_of_a_channel_hears_until_it_ignores(bus: Bus) -> None:
    here, one, other, after = channel(), Heard(), Heard(), Heard()
    await bus.listen(here, one.append)
    await bus.listen(here, other.append)
    await bus.publish([Message(here, b"1")])
    await until(lambda: one == other == [b"1"])
    await bus.ignore(here, one.append)
    await bus.publish([Message(here, b"2")])
    await until(lambda: other == [b"1", b"2"])
    await bus.ignore(here, other.append)
    await bus.listen(here, after.append)
    await bus.publish([Message(here, b"3")])
    await until(lambda: after == [b"3"])
    assert (one, other) == ([b"1"], [b"1", b"2"])


async def test_listener_that_comes_and_goes_hears_from_when_it_was_told_so(bus: Bus) -> None:
    here = channel()
    for number in range(50):
        heard = Heard()
        await bus.listen(here, heard.append)
        await bus.publish([Message(here, str(number).encode())])
        await until(heard.copy)
        assert heard == [str(number).encode()]
        ignoring = asyncio.ensure_future(bus.ignore(here, heard.append))
        if number % 2:
            await ignoring  # the others are still ending while the next begins


async def test_ignoring_what_was_never_heard_changes_nothing(bus: Bus) -> None:
    await bus.ignore(channel(), print)


async def test_listener_that_fails_does_not_keep_others_from_hearing(bus: Bus) -> None:
    here, heard = channel(), Heard()

    def fail(_body: bytes) -> None:
        raise ValueError

    await bus.listen(here, fail)
    await bus.listen(here, heard.append)
    with capture_logs() as said:
        await bus.publish([Message(here, b"1")])
        await until(lambda: heard)
    assert [each["event"] for each in said] == ["a message was not understood"]


async def test_posts_are_heard_in_their_order(bus: Bus) -> None:
    here, heard = channel(), Heard()
    await bus.listen(here, heard.append)
    for number in range(300):
        bus.post(Message(here, str(number).encode()))
    await until(lambda: len(heard) == 300)
    assert heard == [str(number).encode() for number in range(300)]


# --- between processes ----------------------------------------------------------------------------


async def test_processes_hear_each_other(redis_url: str) -> None:
    here = channel()
    async with buses(redis_url) as (one, other):
        heard: dict[str, Heard] = {"one": [], "other": []}
        await one.listen(here, heard["one"].append)
        await other.listen(here, heard["other"].append)
        await one.publish([Message(here, b"1")])
        await until(lambda: heard["one"] == heard["other"] == [b"1"])
        other.post(Message(here, b"2"))
        await until(lambda: heard["one"] == heard["other"] == [b"1", b"2"])


async def test_subscription_is_confirmed_before_anything_is_said(redis_url: str) -> None:
    async with buses(redis_url) as (one, other):
        for _ in range(100):
            here, heard = channel(), Heard()
            await one.listen(here, heard.append)
            await other.publish([Message(here, b"at once")])
            await until(heard.copy)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_gap_is_told_once_all_is_heard_again_after_redis_ended(
    own_server: RedisServer, end: signal.Signals
) -> None:
    channels = [channel() for _ in range(1200)]
    heard = Heard()
    async with buses(own_server.url) as (listener, speaker):
        await asyncio.gather(*(listener.listen(each, heard.append) for each in channels))
        at_the_gap: list[int] = []
        listener.on_gap(lambda: at_the_gap.append(len(listener._missing)))  # noqa: SLF001
        own_server.signal(end)
        with pytest.raises(DependencyUnavailable), capture_logs():
            await speaker.publish([Message(channels[0], b"lost")])
        own_server.start()
        await until(lambda: at_the_gap)
        assert at_the_gap == [0]
        await speaker.publish([Message(each, each.encode()) for each in channels])
        await until(lambda: len(heard) == len(channels))
    assert heard == [each.encode() for each in channels]


async def test_silence_without_an_end_is_noticed(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a cable that was pulled: no connection says that it has ended."""
    monkeypatch.setattr(redis_bus, "PING_SECONDS", 0.2)
    here, heard, gaps = channel(), Heard(), list[int]()
    async with buses(own_server.url) as (listener, speaker):
        await listener.listen(here, heard.append)
        listener.on_gap(lambda: gaps.append(1))
        own_server.signal(signal.SIGSTOP)
        with capture_logs() as said:
            await until(lambda: any(each["event"] == "redis is not heard" for each in said))
        assert gaps == []
        own_server.signal(signal.SIGCONT)
        await until(lambda: gaps)
        await speaker.publish([Message(here, b"again")])
        await until(lambda: heard == [b"again"])


async def test_quiet_line_is_kept(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings are answered, so silence alone ends nothing."""
    monkeypatch.setattr(redis_bus, "PING_SECONDS", 0.05)
    gaps: list[int] = []
    async with buses(redis_url, 1) as (bus,):
        bus.on_gap(lambda: gaps.append(1))
        line = bus._line  # noqa: SLF001
        await asyncio.sleep(0.5)
        assert bus._line is line  # noqa: SLF001
    assert gaps == []


async def test_listener_that_comes_while_redis_is_away_is_refused_or_hears(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_bus, "PATIENCE_SECONDS", 0.3)
    here, refused, heard = channel(), Heard(), Heard()
    async with buses(own_server.url) as (listener, speaker):
        own_server.signal(signal.SIGKILL)
        with capture_logs():
            with pytest.raises(DependencyUnavailable):
                await listener.listen(here, refused.append)
            monkeypatch.setattr(redis_bus, "PATIENCE_SECONDS", 30)
            listening = asyncio.ensure_future(listener.listen(here, heard.append))
            await asyncio.sleep(0)
            own_server.start()
            await listening
        await speaker.publish([Message(here, b"1")])
        await until(lambda: heard == [b"1"])
    assert refused == []


async def test_process_starts_while_redis_is_away_and_hears_when_it_comes(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_bus, "PATIENCE_SECONDS", 0.2)
    own_server.signal(signal.SIGTERM)
    here, heard = channel(), Heard()
    with capture_logs():
        async with buses(own_server.url, 1) as (bus,):
            own_server.start()
            monkeypatch.setattr(redis_bus, "PATIENCE_SECONDS", 30)
            await bus.listen(here, heard.append)
            await bus.publish([Message(here, b"1")])
            await until(lambda: heard == [b"1"])


async def test_post_that_redis_does_not_take_is_told_to_all_as_a_gap(
    own_server: RedisServer,
) -> None:
    """The posts are lost, and everybody is told to read the truth again, in this process too."""
    here, heard = channel(), Heard()
    gaps: list[str] = []
    async with buses(own_server.url) as (speaker, listener):
        await listener.listen(here, heard.append)
        own_server.signal(signal.SIGKILL)
        with capture_logs():
            speaker.post(Message(here, b"lost"))
            await until(lambda: speaker._owes_gap)  # noqa: SLF001
            speaker.on_gap(lambda: gaps.append("speaker"))
            listener.on_gap(lambda: gaps.append("listener"))
            own_server.start()
            await until(lambda: not speaker._owes_gap and set(gaps) == {"speaker", "listener"})  # noqa: SLF001
        await speaker.publish([Message(here, b"later")])
        await until(lambda: heard == [b"later"])


async def test_posts_beyond_the_bound_are_dropped_and_told_as_a_gap(redis_url: str) -> None:
    here, heard, gaps = channel(), Heard(), list[int]()
    async with buses(redis_url) as (speaker, listener):
        await listener.listen(here, heard.append)
        listener.on_gap(lambda: gaps.append(1))
        for number in range(MOST_WAITING + 10):  # in one turn of the loop: nothing is sent yet
            speaker.post(Message(here, str(number).encode()))
        await until(lambda: gaps)
        assert heard == [str(number).encode() for number in range(MOST_WAITING)]


async def test_bus_that_forgets_to_subscribe_again_would_be_noticed(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sin, planted: a gap that is told too early lets what is said right after it be missed."""
    here, heard, gaps = channel(), Heard(), list[int]()
    async with buses(own_server.url) as (listener, speaker):
        await listener.listen(here, heard.append)
        listener.on_gap(lambda: gaps.append(1))

        async def forget(bus: RedisBus) -> None:
            await bus._ask("SSUBSCRIBE", redis_bus.GAP)  # noqa: SLF001

        monkeypatch.setattr(RedisBus, "_subscribe_to_all", forget)
        own_server.signal(signal.SIGKILL)
        with capture_logs():
            own_server.start()
            await until(lambda: gaps)
        await speaker.publish([Message(here, b"unheard"), Message(redis_bus.GAP, b"")])
        await until(lambda: len(gaps) > 1)
    assert heard == []
