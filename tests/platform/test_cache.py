"""The cache of one process: asked once for a thousand, bounded, and never behind a change."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

import msgspec
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from cliniq.kernel.ids import ClinicId, new_id
from cliniq.kernel.problem import DependencyUnavailable
from cliniq.kernel.record import Record
from cliniq.platform import cache as caching
from cliniq.platform.bus import Heard, LocalBus, Message
from cliniq.platform.cache import CHANNEL, KEPT_SECONDS, Cache, Codec, Key, key_of, open_cache
from cliniq.platform.telemetry import CacheCounts, Metrics
from tests.platform.truth import NUMBER, Truth, TwoProcesses

HERE, THERE = ClinicId(new_id()), ClinicId(new_id())
KEY = key_of("number", HERE)


class Clock:
    """Hands to be moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> Cache:
    return Cache(clock=clock)


async def read(cache: Cache, truth: Truth, clock: Callable[[], float], key: Key = KEY) -> int:
    """Read as a transaction does that begins now."""
    return await cache.get(key, NUMBER, clock(), truth.load)


# Once for all


async def test_thousand_who_ask_at_once_cost_one_load(cache: Cache, clock: Clock) -> None:
    truth = Truth(7)
    found = await asyncio.gather(*(read(cache, truth, clock) for _ in range(1000)))
    assert (set(found), truth.loads) == ({7}, 1)
    counts = cache.counts()
    assert (counts["memory"], counts["waited"], counts["loaded"]) == (0, 999, 1)
    assert await read(cache, truth, clock) == 7
    assert cache.counts()["memory"] == 1


async def test_nothing_is_remembered_too(cache: Cache, clock: Clock) -> None:
    loads = 0

    async def load() -> int | None:
        nonlocal loads
        loads += 1
        return None

    codec = Codec[int | None](int | None)
    for _ in range(3):
        assert await cache.get(KEY, codec, clock(), load) is None
    assert loads == 1


async def test_those_who_wait_for_a_load_that_fails_ask_for_themselves(
    cache: Cache, clock: Clock
) -> None:
    truth = Truth(7, fails=1)
    found = await asyncio.gather(
        *(read(cache, truth, clock) for _ in range(5)), return_exceptions=True
    )
    assert [type(each) for each in found] == [ConnectionError, int, int, int, int]
    assert truth.loads == 5


async def test_those_who_wait_for_one_who_is_cut_off_are_served(cache: Cache, clock: Clock) -> None:
    truth = Truth(7)
    truth.gate.clear()
    first = asyncio.create_task(read(cache, truth, clock))
    await asyncio.sleep(0)
    others = [asyncio.create_task(read(cache, truth, clock)) for _ in range(3)]
    await asyncio.sleep(0)
    others[0].cancel()  # one who waits goes, and disturbs nobody
    first.cancel()
    truth.gate.set()
    found = await asyncio.gather(first, *others, return_exceptions=True)
    assert [type(each) for each in found] == [asyncio.CancelledError] * 2 + [int, int]


# Ends


async def test_value_that_is_due_is_looked_at_by_one_while_the_others_are_served(
    cache: Cache, clock: Clock
) -> None:
    truth = Truth(1)
    await read(cache, truth, clock)
    truth.value = 2
    clock.now += caching.FRESH_SECONDS  # due, whatever the jitter
    truth.gate.clear()
    refreshing = asyncio.create_task(read(cache, truth, clock))
    await asyncio.sleep(0)
    assert [await read(cache, truth, clock) for _ in range(5)] == [1] * 5
    truth.gate.set()
    assert await refreshing == 2
    assert await read(cache, truth, clock) == 2
    assert truth.loads == 2


async def test_value_is_given_out_no_longer_than_it_may_be_kept(cache: Cache, clock: Clock) -> None:
    truth = Truth(1)
    await read(cache, truth, clock)
    truth.value = 2
    clock.now += KEPT_SECONDS
    truth.gate.clear()
    waiting = [asyncio.create_task(read(cache, truth, clock)) for _ in range(3)]
    await asyncio.sleep(0)
    truth.gate.set()
    assert await asyncio.gather(*waiting) == [2, 2, 2]


async def test_values_loaded_together_are_not_due_together(cache: Cache, clock: Clock) -> None:
    keys = [key_of("number", HERE, new_id()) for _ in range(200)]
    truths = {key: Truth(1) for key in keys}
    for key in keys:
        await read(cache, truths[key], clock, key)
    clock.now += caching.FRESH_SECONDS * (1 - caching.JITTER / 2)
    for key in keys:
        await read(cache, truths[key], clock, key)
    assert 40 < sum(truth.loads - 1 for truth in truths.values()) < 160


async def test_cache_keeps_no_more_than_it_may_and_what_is_read_stays(clock: Clock) -> None:
    cache = Cache(clock=clock, most=10)
    often, truth = key_of("number", HERE, new_id()), Truth(1)
    await read(cache, truth, clock, often)
    for _ in range(100):
        await read(cache, Truth(2), clock, key_of("number", HERE, new_id()))
        assert await read(cache, truth, clock, often) == 1
        assert len(cache) <= 10
    assert truth.loads == 1
    cache.forget([key_of("number", HERE, new_id()) for _ in range(100)])
    assert len(cache._heard) <= 10  # noqa: SLF001


# Walls


async def test_equal_ids_in_two_clinics_never_meet(cache: Cache, clock: Clock) -> None:
    subject = new_id()
    here, there = (key_of("number", each, subject) for each in (HERE, THERE))
    assert await read(cache, Truth(1), clock, here) == 1
    assert await read(cache, Truth(2), clock, there) == 2
    cache.forget([there])
    assert await read(cache, Truth(9), clock, here) == 1
    assert await read(cache, Truth(9), clock, there) == 9
    assert caching._text(here) != caching._text(there)  # noqa: SLF001


def test_key_cannot_be_made_without_a_clinic() -> None:
    with pytest.raises(TypeError):
        key_of("number")  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        key_of("number", None)  # type: ignore[arg-type]


# Changes


async def test_changed_value_is_read_anew_at_once(cache: Cache, clock: Clock) -> None:
    truth = Truth(1)
    await read(cache, truth, clock)
    clock.now += 1
    truth.value = 2
    cache.forget([KEY])
    clock.now += 1
    assert await read(cache, truth, clock) == 2


async def race(cache: Cache, clock: Clock) -> int:
    """A load that read before a change was committed, and comes back after it was heard of."""
    truth = Truth(1)
    truth.gate.clear()
    slow = asyncio.create_task(read(cache, truth, clock))
    await asyncio.sleep(0)
    clock.now += 1
    truth.value = 2
    cache.forget([KEY])
    clock.now += 1
    truth.gate.set()
    assert await slow == 1  # it had asked before
    return await read(cache, truth, clock)


async def test_load_that_read_before_a_change_is_not_kept_after_it(
    cache: Cache, clock: Clock
) -> None:
    assert await race(cache, clock) == 2


async def test_the_race_is_lost_without_the_rule(
    cache: Cache, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = cache._keep  # noqa: SLF001
    monkeypatch.setattr(
        cache, "_keep", lambda key, value, _as_of, most: keep(key, value, float("inf"), most)
    )
    assert await race(cache, clock) == 1


async def test_old_snapshot_is_not_kept_although_it_is_read_after_the_change(
    cache: Cache, clock: Clock
) -> None:
    """A reading transaction sees what was there when it began, however late it asks."""
    began = clock()
    clock.now += 1
    cache.forget([KEY])
    clock.now += 1
    assert await cache.get(KEY, NUMBER, began, Truth(1).load) == 1
    assert await read(cache, Truth(2), clock) == 2


async def test_whoever_asks_after_a_change_does_not_wait_for_an_older_answer(
    cache: Cache, clock: Clock
) -> None:
    truth = Truth(1)
    truth.gate.clear()
    slow = asyncio.create_task(read(cache, truth, clock))
    await asyncio.sleep(0)
    clock.now += 1
    cache.forget([KEY])
    clock.now += 1
    assert await read(cache, Truth(2), clock) == 2
    truth.gate.set()
    assert await slow == 1
    assert await read(cache, Truth(3), clock) == 2


async def test_after_a_gap_nothing_older_is_kept(cache: Cache, clock: Clock) -> None:
    await read(cache, Truth(1), clock)
    began = clock()
    clock.now += 1
    cache.drop_all()
    assert await cache.get(KEY, NUMBER, began, Truth(2).load) == 2
    clock.now += 1
    assert await read(cache, Truth(3), clock) == 3


async def test_what_has_been_forgotten_about_longest_still_counts(clock: Clock) -> None:
    cache = Cache(clock=clock, most=2)
    began = clock()
    clock.now += 1
    cache.forget([KEY])
    for _ in range(5):
        cache.forget([key_of("number", HERE, new_id())])
    assert await cache.get(KEY, NUMBER, began, Truth(1).load) == 1
    clock.now += 1
    assert await read(cache, Truth(2), clock) == 2


# Several processes


async def test_process_hears_what_another_forgets(clock: Clock) -> None:
    bus = LocalBus()
    ours, theirs = Cache(clock=clock), Cache(clock=clock)
    for each in (ours, theirs):
        await each.join(bus)
        await read(each, Truth(1), clock)
    clock.now += 1
    ours.forget([KEY])
    clock.now += 1
    assert [await read(each, Truth(2), clock) for each in (ours, theirs)] == [2, 2]
    await theirs.leave(bus)
    clock.now += 1
    ours.forget([KEY])
    assert await read(theirs, Truth(3), clock) == 2


@pytest.mark.parametrize("word", [b"", b"\x00", b"\xc1", msgspec.msgpack.encode([("x", b"1")])])
async def test_word_that_is_not_understood_drops_everything(clock: Clock, word: bytes) -> None:
    bus = LocalBus()
    async with open_cache(None, bus) as cache:
        await cache.get(KEY, NUMBER, monotonic(), Truth(1).load)
        bus.post(Message(CHANNEL, word))
        assert len(cache) == 0


class AwayBus(LocalBus):
    """A bus that cannot be reached at first."""

    is_away = True

    @override
    async def listen(self, channel: str, heard: Heard) -> None:
        if self.is_away:
            raise DependencyUnavailable("redis")
        await super().listen(channel, heard)


async def test_cache_opens_without_its_bus_and_joins_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caching, "JOIN_SECONDS", 0.001)
    bus = AwayBus()
    async with open_cache(None, bus) as cache:
        await cache.get(KEY, NUMBER, monotonic(), Truth(1).load)
        await asyncio.sleep(0.01)
        assert len(cache) == 1
        bus.is_away = False
        while len(cache):  # noqa: ASYNC110 - it is dropped when the bus is joined
            await asyncio.sleep(0.001)
        await cache.get(KEY, NUMBER, monotonic(), Truth(1).load)
        other = Cache()
        other._post = bus.post  # noqa: SLF001
        other.forget([KEY])
        assert len(cache) == 0
    async with open_cache(None, AwayBus()):
        pass  # and one that never joins ends all the same


# Bytes


class Shape(Record, frozen=True):
    number: int


class Other(Record, frozen=True):
    number: int | None


def test_value_of_another_shape_is_not_misread() -> None:
    one, other = Codec[Shape](Shape), Codec[Other](Other)
    raw = one.encode(Shape(1))
    assert one.decode(raw) == Shape(1)
    assert isinstance(one.decode(raw), Shape)
    for wrong in (raw[:-1], b"", raw[8:], bytes(8) + raw[8:]):
        with pytest.raises(msgspec.MsgspecError):
            one.decode(wrong)
    with pytest.raises(msgspec.MsgspecError):
        other.decode(raw)


def test_counts_are_shown_as_metrics(cache: Cache) -> None:
    metrics = Metrics()
    metrics.show([CacheCounts(cache.counts)])
    cache.hits += 3
    assert b'cliniq_cache_reads_total{outcome="memory"} 3.0' in metrics.exposition()
    assert b'cliniq_cache_reads_total{outcome="loaded"} 0.0' in metrics.exposition()


# Any order of events


def in_order(order: list[int], make: Callable[..., Cache]) -> list[int]:
    """What two processes say in the end, and last what is true; see `TwoProcesses`."""

    async def run() -> list[int]:
        clock, truth = Clock(), Truth(0)
        play = TwoProcesses(make, KEY, truth, clock)
        for step in order:
            clock.now += 1
            await play.step(step)
        clock.now += 1
        await play.end()
        clock.now += 1
        return [await read(each, truth, clock) for each in play.caches] + [truth.value]

    return asyncio.run(run())


ORDERS = st.lists(st.integers(0, 5), max_size=60)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(ORDERS)
def test_whatever_the_order_the_last_word_is_the_truth(order: list[int]) -> None:
    one, other, truth = in_order(order, Cache)
    assert (one, other) == (truth, truth)


class Careless(Cache):
    """Keeps whatever was read, however long ago."""

    @override
    def _keep(self, key: Key, value: Any, as_of: float, most: float) -> bool:
        return super()._keep(key, value, as_of + float("inf"), most)


def test_some_order_betrays_a_cache_that_keeps_whatever_was_read() -> None:
    order = find(ORDERS, lambda each: len(set(in_order(each, Careless))) > 1, settings=FINDING)
    assert in_order(order, Cache) == [1, 1, 1]


FINDING = settings(deadline=None, max_examples=2000, derandomize=True, database=None)
