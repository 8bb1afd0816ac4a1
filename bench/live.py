"""How soon ten thousand sockets see what was committed, and what one costs."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from time import perf_counter

import psutil  # type: ignore[import-untyped]

from bench.ground import Served, fresh_ground, serving_cliniq
from bench.load import Ask, fire
from bench.report import Aim, BenchFailed, Result
from bench.rounds import Options
from bench.town import CLINIC, FIRST, KEYRING, Kind, Town, id_of, new_key, staff_headers
from bench.watchers import BuyPass, Heard, Seat, Watchers
from cliniq.kernel.ids import PersonId, SessionId
from cliniq.kernel.scope import Caller
from cliniq.platform.clock import utc_now
from cliniq.platform.live_passes import Passes, SpentHere

IN_A_ROOM = 12
OF_ONE = 20  # sockets that one person may have
CALLS_A_SECOND = 50
LARGE_CALLS_A_SECOND = 2  # each makes as many frames as there are in the room
P99_MS, LARGE_P99_MS, KILOBYTES = 250, 300, 30
SETTLE_SECONDS = 1

KEYS = count(FIRST)
PASSES = Passes(KEYRING, utc_now, SpentHere(utc_now, None))


@dataclass(frozen=True)
class Sizes:
    """How large a run is."""

    sockets: int
    room: int  # watchers of the one large room
    calls: int
    large_calls: int

    @property
    def rooms(self) -> int:
        """Say in how many queues the sockets are."""
        return max(2, self.sockets // IN_A_ROOM)


@dataclass(frozen=True)
class Delays:
    """From sending a call, so more than from its commit, to its frame on each socket."""

    p50_ms: float
    p99_ms: float
    frames: int


def sizes_of(options: Options) -> Sizes:
    return Sizes(
        options.size(10_000, 200),
        options.size(5_000, 100),
        options.size(CALLS_A_SECOND * 10, 20),
        options.size(10, 2),
    )


async def run(options: Options) -> Result:
    """Measure one process: many small rooms, then one large one."""
    sizes = sizes_of(options)
    async with fresh_ground(options.server) as ground:
        town = town_of(sizes)
        async with ground.connect() as connection:
            await town.build(connection)
        async with serving_cliniq(ground) as served:
            small, cost, opened = await measure_rooms([served], town, sizes)
            large = await measure_one_room([served], town, sizes)
    aims = [
        Aim("p99 ms, rooms of 12", small.p99_ms, P99_MS, at_most=True),
        Aim(f"p99 ms, one room of {sizes.room}", large.p99_ms, LARGE_P99_MS, at_most=True),
        Aim("KB a socket", cost["rss_kb"], KILOBYTES, at_most=True),
    ]
    facts = {
        "sockets": sizes.sockets,
        "frames": small.frames,
        "large_p50_ms": round(large.p50_ms, 1),
        "pss_kb": round(cost["pss_kb"], 1),
        "opened_a_second": round(sizes.sockets / opened),
    }
    return Result(
        "live",
        large.p99_ms / small.p99_ms,
        large.p99_ms,
        small.p99_ms,
        "ms",
        aims,
        small.p50_ms,
        small.p99_ms,
        facts,
    )


def town_of(sizes: Sizes) -> Town:
    """Make enough people for the sockets, and enough tickets to call."""
    visits = 2 * sizes.rooms * IN_A_ROOM + sizes.sockets
    return Town(visits, sizes.rooms, staff=max(50, -(-sizes.room // OF_ONE)), waiting=True)


async def measure_rooms(
    servers: Sequence[Served], town: Town, sizes: Sizes
) -> tuple[Delays, dict[str, float], float]:
    """Fill rooms of twelve, call in them, and weigh the servers before and after."""
    seats = [
        Seat(
            servers[at % len(servers)].port,
            CLINIC,
            topic_of(queue_of(town, FIRST + at)),
            buyer(id_of(Kind.PERSON, FIRST + at), id_of(Kind.SESSION, FIRST + at)),
        )
        for at in range(sizes.sockets)
    ]
    before = weigh(servers)
    watchers = Watchers(seats)
    try:
        opened = await watchers.open()
        await asyncio.sleep(SETTLE_SECONDS)
        after = weigh(servers)
        cost = {name: (after[name] - before[name]) / sizes.sockets for name in after}
        queues = [FIRST + at % (sizes.rooms - 1) for at in range(sizes.calls)]
        random.Random(1).shuffle(queues)
        delays = await call(servers[0], watchers, queues, CALLS_A_SECOND)
    finally:
        watchers.close()
    await asyncio.sleep(SETTLE_SECONDS)
    return delays, cost, opened


async def measure_one_room(servers: Sequence[Served], town: Town, sizes: Sizes) -> Delays:
    """Have many members of staff watch one queue, the last one, and call in it."""
    last = FIRST + town.doctors - 1
    seats = [
        Seat(
            servers[at % len(servers)].port,
            CLINIC,
            topic_of(last),
            buyer(
                id_of(Kind.STAFF, FIRST + at // OF_ONE),
                id_of(Kind.STAFF_SESSION, FIRST + at // OF_ONE),
            ),
        )
        for at in range(sizes.room)
    ]
    watchers = Watchers(seats)
    try:
        await watchers.open()
        calls = [last] * sizes.large_calls
        return await call(servers[0], watchers, calls, LARGE_CALLS_A_SECOND)
    finally:
        watchers.close()


def queue_of(town: Town, visit: int) -> int:
    """Say in which queue a visit waits: its doctor's."""
    return FIRST + visit * visit % 9973 % town.doctors


def topic_of(queue: int) -> str:
    return f"queue:{id_of(Kind.QUEUE, queue)}"


def buyer(person: object, session: object) -> BuyPass:
    """Seal passes as the server does: selling them is not what is measured."""
    caller = Caller(PersonId(person), SessionId(session))  # type: ignore[arg-type]

    async def buy() -> str:
        return PASSES.sell(caller)

    return buy


async def call(
    served: Served, watchers: Watchers, queues: Sequence[int], a_second: float
) -> Delays:
    """Call one ticket after the other at a steady rate, and time each frame.

    Raises: BenchFailed where a frame is missing or a version is missed.
    """
    watchers.heard.clear()
    called: list[tuple[str, float]] = []
    for at, queue in enumerate(queues):
        began = perf_counter()
        called.append((topic_of(queue), began))
        path = f"/api/v1/queues/{id_of(Kind.QUEUE, queue)}/calls"
        headers = staff_headers(FIRST + at % 50) | new_key(next(KEYS))
        await fire(served.port, [[Ask("POST", path, headers, {"room": "7"})]])
        await asyncio.sleep(max(0, began + 1 / a_second - perf_counter()))
    await asyncio.sleep(SETTLE_SECONDS)
    return _delays(watchers, called)


def _delays(watchers: Watchers, called: Sequence[tuple[str, float]]) -> Delays:
    if watchers.missed:
        raise BenchFailed(f"{len(watchers.missed)} missed: {watchers.missed[0]}")
    sent = defaultdict(list)
    for topic, at in called:
        sent[topic].append(at)
    by_topic: defaultdict[str, list[Heard]] = defaultdict(list)
    for each in watchers.heard:
        by_topic[each.topic].append(each)
    took = []
    for topic, heard in by_topic.items():
        first = min(each.version for each in heard)
        took += [each.at - sent[topic][each.version - first] for each in heard]
    in_room = Counter(seat.topic for seat in watchers.seats)
    expected = sum(in_room[topic] for topic, _ in called)
    if len(took) != expected or not took:
        raise BenchFailed(f"{len(took)} frames, expected {expected}: {watchers.counts}")
    took.sort()
    return Delays(took[len(took) // 2] * 1000, took[len(took) * 99 // 100] * 1000, len(took))


def weigh(servers: Sequence[Served]) -> dict[str, float]:
    """Weigh processes. Units: KB."""
    found = [psutil.Process(each.pid).memory_full_info() for each in servers]
    return {
        "rss_kb": sum(each.rss for each in found) / 1024,
        "pss_kb": sum(each.pss for each in found) / 1024,
    }
