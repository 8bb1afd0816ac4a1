"""The cache beside a real Redis: shared, exact, and missed by nobody when it is away."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from cliniq.kernel.ids import ClinicId, new_id
from cliniq.platform import cache as caching
from cliniq.platform import cache_shelf
from cliniq.platform.bus import LocalBus
from cliniq.platform.cache import Cache, Key, key_of
from cliniq.platform.cache_shelf import Found, Shelf
from tests.platform.truth import NUMBER, Reader, Truth
from tests.redis_server import RedisServer, own_redis

MARGIN = 0.005  # what the tests' own machine may do to a clock


def some_key() -> Key:
    """A key that no other test has used."""
    return key_of("number", ClinicId(new_id()))


async def rest() -> None:
    """Be younger than every change so far."""
    await asyncio.sleep(MARGIN * 2)


async def read(cache: Cache, truth: Truth, key: Key) -> int:
    """Read as a transaction does that begins now."""
    return await cache.get(key, NUMBER, monotonic(), truth.load)


Open = Callable[[], Cache]


@pytest.fixture
async def open_cache(redis_url: str) -> AsyncIterator[Open]:
    """Caches of several processes, which hear nothing of one another but through the shelf."""
    opened: list[Cache] = []

    def open_one() -> Cache:
        opened.append(Cache(Shelf(redis_url, MARGIN)))
        return opened[-1]

    yield open_one
    for each in opened:
        await each.leave(LocalBus())


async def settled(cache: Cache) -> None:
    """Wait until what a process has told the shelf has come there."""
    await asyncio.gather(*cache._telling)  # noqa: SLF001


@pytest.fixture
def far_from_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_shelf, "EARLY", 0.0)


# Shared


@pytest.mark.usefixtures("far_from_due")
async def test_process_finds_what_another_has_read(open_cache: Open) -> None:
    key, truth = some_key(), Truth(7)
    caches = [open_cache() for _ in range(3)]
    for each in caches:
        assert await read(each, truth, key) == 7
    assert truth.loads == 1
    assert [each.reads["shelf"] for each in caches] == [0, 1, 1]


@pytest.mark.usefixtures("far_from_due")
async def test_equal_ids_in_two_clinics_never_meet_on_the_shelf(open_cache: Open) -> None:
    subject = new_id()
    here, there = (key_of("number", ClinicId(new_id()), subject) for _ in range(2))
    for key, value in ((here, 1), (there, 2)):
        assert await read(open_cache(), Truth(value), key) == value
    for key, value in ((here, 1), (there, 2)):
        assert await read(open_cache(), Truth(9), key) == value


@pytest.mark.usefixtures("far_from_due")
async def test_questions_asked_at_once_go_in_few_messages(redis_url: str) -> None:
    shelf = Shelf(redis_url, MARGIN)
    redis = Redis.from_url(redis_url)
    before = (await redis.info("commandstats")).get("cmdstat_mget", {"calls": 0})["calls"]
    names = [f"cliniq:cache:{{{new_id().hex}}}:number:0" for _ in range(500)]
    found = await asyncio.gather(*(shelf.look(name) for name in names))
    assert found == [Found(None, 0.0, b"", float("inf"))] * 500
    after = (await redis.info("commandstats"))["cmdstat_mget"]["calls"]
    assert after - before <= 4
    await redis.aclose()
    await shelf.close()


async def test_value_near_its_end_is_looked_at_anew_by_some(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, truth = some_key(), Truth(7)
    assert await read(open_cache(), truth, key) == 7
    monkeypatch.setattr(cache_shelf, "EARLY", 2.0)  # as if half its life were the last fifth
    monkeypatch.setattr(random, "random", random.Random(1).random)  # noqa: S311
    caches = [open_cache() for _ in range(60)]
    for each in caches:
        assert await read(each, truth, key) == 7
    found = sum(each.reads["shelf"] for each in caches)
    assert 10 < found < 50
    assert truth.loads == 1 + 60 - found


async def test_bytes_of_another_shape_are_read_anew(open_cache: Open, redis_url: str) -> None:
    key = some_key()
    await read(open_cache(), Truth(1), key)
    redis = Redis.from_url(redis_url)
    name = caching._text(key)  # noqa: SLF001
    raw: Any = await redis.get(name)
    await redis.set(name, raw[:-1] + b"\xc1", px=60_000)
    assert await read(open_cache(), Truth(2), key) == 2
    await redis.aclose()


async def test_somebody_else_s_bytes_on_the_shelf_are_no_reason_to_fail(
    open_cache: Open, redis_url: str
) -> None:
    key, redis = some_key(), Redis.from_url(redis_url)
    for name in (caching._text(key), f"{caching._text(key)}:mark"):  # noqa: SLF001
        await redis.set(name, b"what is this", px=60_000)
        assert await read(open_cache(), Truth(2), key) == 2
        await redis.delete(name)
    await redis.aclose()


# Exact


@pytest.mark.usefixtures("far_from_due")
async def test_changed_value_leaves_the_shelf(open_cache: Open) -> None:
    key, ours = some_key(), open_cache()
    await read(ours, Truth(1), key)
    ours.forget([key])
    assert await read(ours, Truth(2), key) == 2  # before the shelf has heard of it
    await settled(ours)
    await rest()
    assert await read(open_cache(), Truth(2), key) == 2
    assert await read(ours, Truth(9), key) == 2


async def race(open_cache: Open, key: Key) -> int:
    """One process loads, another changes what it loaded, the first comes back; a third asks."""
    slow, changing, truth = open_cache(), open_cache(), Truth(1)
    truth.gate.clear()
    reading = asyncio.create_task(read(slow, truth, key))
    await truth.asked.wait()
    mark = await changing.bar([key])
    changing.forget([key], mark)
    await settled(changing)
    await rest()
    truth.gate.set()
    assert await reading == 1
    return await read(open_cache(), Truth(2), key)


@pytest.mark.usefixtures("far_from_due")
async def test_load_that_read_before_a_change_is_not_laid_down_after_it(open_cache: Open) -> None:
    assert await race(open_cache, some_key()) == 2


@pytest.mark.usefixtures("far_from_due")
async def test_the_race_is_lost_without_the_mark(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    careless = "redis.call('set', KEYS[1], string.format('%013d', 9e12) .. ARGV[2]) return 1"
    monkeypatch.setattr(cache_shelf, "PUT", careless)
    assert await race(open_cache, some_key()) == 1


async def old_snapshot(open_cache: Open, key: Key) -> int:
    """A transaction that began before a change asks after it: the mark is there when it looks."""
    began, changing = monotonic(), open_cache()
    changing.forget([key])
    await settled(changing)
    assert await open_cache().get(key, NUMBER, began, Truth(1).load) == 1
    return await read(open_cache(), Truth(2), key)


@pytest.mark.usefixtures("far_from_due")
async def test_snapshot_older_than_a_change_is_not_laid_down(open_cache: Open) -> None:
    assert await old_snapshot(open_cache, some_key()) == 2


@pytest.mark.usefixtures("far_from_due")
async def test_snapshot_older_than_a_change_would_be_laid_down_by_its_mark_alone(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Shelf.put

    async def blindly(self: Shelf, text: str, raw: bytes, found: Found, _age: float) -> None:
        await put(self, text, raw, found, float("-inf"))

    monkeypatch.setattr(Shelf, "put", blindly)
    assert await old_snapshot(open_cache, some_key()) == 1


@pytest.mark.usefixtures("far_from_due")
async def test_process_killed_between_commit_and_forgetting_leaves_nothing_stale(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, reading = some_key(), open_cache()
    await read(reading, Truth(1), key)
    began = monotonic()
    monkeypatch.setattr(cache_shelf, "BARRED_SECONDS", 1)
    await open_cache().bar([key])
    # ... COMMIT, and the process is gone. Whoever began before it still sees what was:
    assert await open_cache().get(key, NUMBER, began, Truth(1).load) == 1
    assert await read(open_cache(), Truth(2), key) == 2
    await asyncio.sleep(1.1)  # the bar has ended
    assert await open_cache().get(key, NUMBER, began, Truth(1).load) == 1
    await read(open_cache(), Truth(2), key)
    assert await read(open_cache(), Truth(9), key) == 2


@pytest.mark.usefixtures("far_from_due")
async def test_bar_of_another_is_not_lifted(open_cache: Open) -> None:
    key, one, other = some_key(), open_cache(), open_cache()
    await one.bar([key])
    other.forget([key], await other.bar([key]))
    await settled(other)
    await rest()
    await read(open_cache(), Truth(1), key)
    assert await read(open_cache(), Truth(2), key) == 2  # nothing was laid down


@pytest.mark.usefixtures("far_from_due")
async def test_bar_of_one_s_own_is_lifted(open_cache: Open) -> None:
    key, ours = some_key(), open_cache()
    ours.forget([key], await ours.bar([key]))
    await settled(ours)
    await rest()
    await read(open_cache(), Truth(1), key)
    assert await read(open_cache(), Truth(2), key) == 1


STEPS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=5, max_size=25)


@settings(
    deadline=None,
    max_examples=40,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(STEPS)
def test_whatever_the_order_the_shelf_holds_the_truth_or_nothing(
    redis_url: str, order: list[tuple[int, int]]
) -> None:
    one, two, other, truth = asyncio.run(in_order(redis_url, order))
    assert (one, two, other) == (truth, truth, truth)


async def in_order(redis_url: str, order: list[tuple[int, int]]) -> list[int]:
    """What two processes and a third say in the end, and last what is true."""
    key, truth, bus = some_key(), Truth(0), LocalBus()
    caches = [Cache(Shelf(redis_url, MARGIN)) for _ in range(3)]
    for each in caches:
        await each.join(bus)
    readers = [Reader(each, key, truth, monotonic) for each in caches[:2]]
    for step, process in order:
        if step < 3:
            readers[process].step()
        else:  # a change, from before its COMMIT to after it
            mark = await caches[process].bar([key])
            truth.value += 1
            caches[process].forget([key], mark)
        await asyncio.sleep(0.001)
    for reader in readers:
        reader.open()
    for reader in readers:
        await reader.end()
    for each in caches:
        await settled(each)
    await rest()
    found = [await read(each, truth, key) for each in caches]
    for each in caches:
        await each.leave(bus)
    return [*found, truth.value]


# Away


@pytest.fixture
def server() -> Any:
    with own_redis() as server:
        yield server


async def test_nobody_fails_while_redis_is_killed_and_back(server: RedisServer) -> None:
    key, truth = some_key(), Truth(1)
    cache = Cache(Shelf(server.url, MARGIN))
    assert await read(cache, truth, key) == 1
    stop = asyncio.Event()

    async def ask() -> None:
        while not stop.is_set():
            assert await read(cache, Truth(2), some_key()) == 2
            assert await read(cache, truth, key) >= 1
            await asyncio.sleep(0.001)

    asking = [asyncio.create_task(ask()) for _ in range(5)]
    await asyncio.sleep(0.05)
    await asyncio.to_thread(server.signal, signal.SIGKILL)
    await asyncio.sleep(0.05)
    truth.value = 2
    cache.forget([key], await cache.bar([key]))  # a change while it is away
    assert await read(cache, truth, key) == 2
    await asyncio.to_thread(server.start)
    await settled(cache)  # it was told as soon as it was back
    assert cache.counts()["shelf_failed"] > 0
    stop.set()
    await asyncio.gather(*asking)
    await cache.leave(LocalBus())


async def test_change_that_the_shelf_missed_is_owed_until_it_is_back(server: RedisServer) -> None:
    key, ours = some_key(), Cache(Shelf(server.url, MARGIN))
    await read(ours, Truth(1), key)
    await asyncio.to_thread(server.signal, signal.SIGSTOP)  # it keeps what it has, and is silent
    ours.forget([key], await ours.bar([key]))
    assert [await read(ours, Truth(2), key) for _ in range(3)] == [2, 2, 2]
    await asyncio.to_thread(server.signal, signal.SIGCONT)
    await settled(ours)
    await rest()
    other = Cache(Shelf(server.url, MARGIN))
    assert await read(other, Truth(2), key) == 2
    for each in (ours, other):
        await each.leave(LocalBus())


async def test_silent_redis_costs_a_moment_and_then_nothing(server: RedisServer) -> None:
    cache = Cache(Shelf(server.url, MARGIN))
    await read(cache, Truth(1), some_key())
    await asyncio.to_thread(server.signal, signal.SIGSTOP)
    for _ in range(50):
        assert await read(cache, Truth(1), some_key()) == 1
    assert 1 <= cache.counts()["shelf_failed"] <= 10  # it is not asked each time
    await cache.leave(LocalBus())


async def test_process_ends_although_the_shelf_is_away(server: RedisServer) -> None:
    cache = Cache(Shelf(server.url, MARGIN))
    await asyncio.to_thread(server.signal, signal.SIGKILL)
    cache.forget([some_key()])
    await asyncio.sleep(0)
    await cache.leave(LocalBus())


async def test_question_that_is_dropped_disturbs_nobody(redis_url: str) -> None:
    shelf = Shelf(redis_url, MARGIN)
    asked = [asyncio.create_task(shelf.look(f"{{{number}}}")) for number in range(10)]
    await asyncio.sleep(0)
    asked[3].cancel()
    with suppress(asyncio.CancelledError):
        await asked[3]
    found = [await each for number, each in enumerate(asked) if number != 3]
    assert all(each is not None for each in found)
    await shelf.close()
