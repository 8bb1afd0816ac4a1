"""Limits: so many hits of a key in a window, and a word on when to come back."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from math import ceil

import pytest

from cliniq.app import House
from cliniq.kernel.ids import new_id
from cliniq.kernel.problem import DependencyUnavailable, RateLimitExceeded
from cliniq.platform import limits as limits_module
from cliniq.platform.limits import Hit, Limits, hashed
from cliniq.platform.limits_durable import DurableCounts
from cliniq.platform.limits_redis import RedisCounts
from cliniq.platform.redis_link import Link, open_link
from cliniq.platform.source import Urls
from cliniq.platform.upkeep import upkeep
from tests.conftest import house_of
from tests.redis_server import RedisServer, own_redis
from tests.support import Admin, Client, Hands, SomeClinic

KEY = b"a key of the tests"


@dataclass
class Watch:
    """A watch whose hands a test moves. Units: seconds."""

    now: float = field(default=1_000_000.0)

    def __call__(self) -> float:
        return self.now


async def hits(limits: Limits, rule: str, *key: str, tries: int) -> int:
    """Count how many of some parallel hits are let through."""

    async def hit() -> bool:
        try:
            await limits.hit(rule, *key)
        except RateLimitExceeded:
            return False
        return True

    return sum(await asyncio.gather(*(hit() for _ in range(tries))))


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[Link]:
    async with open_link(redis_url) as link:
        yield link


@pytest.fixture(params=["here", "redis"])
def open_limits(request: pytest.FixtureRequest) -> Callable[[], Limits]:
    """Limits of nobody's yet, counted in this process or in Redis."""
    if request.param == "here":
        return Limits
    link: Link = request.getfixturevalue("link")
    secret = new_id().bytes
    return lambda: Limits(shared=RedisCounts(link, secret))


# How hits are counted, here and in Redis


async def test_no_more_than_the_rule_says_are_let_through_however_many_come_at_once(
    open_limits: Callable[[], Limits],
) -> None:
    limits = open_limits()
    assert await hits(limits, "7/hour", "door", "somebody", tries=100) == 7
    assert await hits(limits, "7/hour", "door", "somebody", tries=10) == 0


async def test_keys_and_rules_are_counted_apart(open_limits: Callable[[], Limits]) -> None:
    limits = open_limits()
    assert await hits(limits, "3/hour", "door", "somebody", tries=5) == 3
    assert await hits(limits, "3/hour", "door", "somebody else", tries=5) == 3
    assert await hits(limits, "3/hour", "window", "somebody", tries=5) == 3
    assert await hits(limits, "4/hour", "door", "somebody", tries=5) == 4


@pytest.mark.parametrize("strange", ["", "a/b", "a:b", "\x00", "\u00fc", "x" * 10_000, "%s", "{}"])
async def test_strange_keys_are_keys_like_any_other(
    strange: str, open_limits: Callable[[], Limits]
) -> None:
    limits = open_limits()
    assert await hits(limits, "2/hour", "door", strange, tries=3) == 2
    assert await hits(limits, "2/hour", "door", strange + "x", tries=3) == 2


async def test_whoever_is_refused_hears_when_to_come_back_within_the_window(
    open_limits: Callable[[], Limits],
) -> None:
    limits = open_limits()
    await limits.hit("1/hour", "door")
    with pytest.raises(RateLimitExceeded) as refused:
        await limits.hit("1/hour", "door")
    assert 1 <= refused.value.retry_after_seconds <= 3601
    assert refused.value.headers == {"Retry-After": str(refused.value.retry_after_seconds)}


async def test_whoever_is_over_one_rule_counts_for_no_other(
    open_limits: Callable[[], Limits],
) -> None:
    limits = open_limits()
    both = [Hit("1/hour", ("person", "p")), Hit("3/hour", ("clinic", "c"))]
    await limits.hit_all(both)
    for _ in range(5):
        with pytest.raises(RateLimitExceeded):
            await limits.hit_all(both)
    assert await hits(limits, "3/hour", "clinic", "c", tries=5) == 2


async def test_hits_are_forgiven_and_taken_back(open_limits: Callable[[], Limits]) -> None:
    limits = open_limits()
    assert await hits(limits, "3/hour", "door", tries=5) == 3
    await limits.forgive("3/hour", "door")
    assert await hits(limits, "3/hour", "door", tries=2) == 2
    await limits.undo(Hit("3/hour", ("door",)))
    assert await hits(limits, "3/hour", "door", tries=5) == 2
    await limits.forgive("3/hour", "nobody")
    await limits.undo(Hit("3/hour", ("nobody",)))
    assert await hits(limits, "3/hour", "nobody", tries=5) == 3


async def test_window_slides_on(open_limits: Callable[[], Limits]) -> None:
    limits = open_limits()
    assert await hits(limits, "2/second", "door", tries=3) == 2
    async with asyncio.timeout(10):
        while not await hits(limits, "2/second", "door", tries=1):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("part", [0.0, 0.25, 0.999])
@pytest.mark.parametrize("amount", [1, 4, 60])
async def test_whoever_waits_as_told_is_let_through(part: float, amount: int) -> None:
    watch = Watch()
    limits, rule = Limits(watch), f"{amount}/minute"
    watch.now = 60.0 * 20_000 + 60 * part
    assert await hits(limits, rule, "door", tries=amount + 1) == amount
    for _ in range(3):
        with pytest.raises(RateLimitExceeded) as refused:
            await limits.hit(rule, "door")
        assert refused.value.retry_after_seconds <= 61
        watch.now += refused.value.retry_after_seconds
        assert await hits(limits, rule, "door", tries=1) == 1
        await hits(limits, rule, "door", tries=amount)


async def test_two_windows_hold_no_more_than_the_rule_and_what_has_slid_out() -> None:
    watch = Watch(60.0 * 20_000 + 59)
    limits = Limits(watch)
    assert await hits(limits, "60/minute", "door", tries=100) == 60
    watch.now += 1.5  # a new window, of which the last hits are almost all still in sight
    assert await hits(limits, "60/minute", "door", tries=100) == 1
    watch.now += 29.5
    assert await hits(limits, "60/minute", "door", tries=100) == 29
    watch.now += 1000
    assert await hits(limits, "60/minute", "door", tries=100) == 60


async def test_what_is_older_than_two_windows_is_not_kept() -> None:
    watch = Watch()
    limits = Limits(watch)
    for number in range(100):
        await limits.hit("1/minute", str(number))
    window = limits._here._windows["1/minute"]  # noqa: SLF001
    assert len(window.now) == 100
    for _ in range(2):
        watch.now += 60
        await limits.hit("1/minute", f"later {watch.now}")
    assert len(window.now) + len(window.before) == 2


# Through Redis


async def test_two_processes_share_their_limits_through_redis(redis_url: str) -> None:
    secret = new_id().bytes
    async with open_link(redis_url) as one, open_link(redis_url) as two:
        both = [Limits(shared=RedisCounts(each, secret)) for each in (one, two)]
        counted = await asyncio.gather(
            *(hits(each, "30/hour", "door", tries=40) for each in both for _ in range(2))
        )
        assert sum(counted) == 30
        await both[0].forgive("30/hour", "door")
        other = Limits(shared=RedisCounts(two, new_id().bytes))
        assert await hits(other, "30/hour", "door", tries=40) == 30  # another installation


async def test_redis_learns_nobodys_name_and_forgets_in_time(link: Link) -> None:
    hit = Hit("2/minute", ("sign-in", "ann@example.org", "203.0.113.9"))
    secret = new_id().bytes
    await Limits(shared=RedisCounts(link, secret)).hit_all([hit])
    name = f"limit:{hashed(hit, secret).hex()}"
    assert 0 < await link.ttl(name) <= 120
    assert set(await link.hkeys(name)) == {b"i", b"c", b"p"}
    assert hashed(hit, secret) != hashed(hit, new_id().bytes)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with own_redis() as redis:
        yield redis


async def test_reads_go_on_while_redis_is_away_and_are_counted_for_this_process_alone(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(limits_module.log, "warning", said.append)
    watch = Watch()
    async with open_link(redis.url) as link:
        limits = Limits(watch, RedisCounts(link, KEY))
        assert await hits(limits, "3/hour", "door", tries=5) == 3
        redis.signal(signal.SIGKILL)
        watch.now += 3600 * 3  # of those refused, nobody is remembered any more
        assert await hits(limits, "3/hour", "door", tries=5) == 3
        assert limits.unshared == 5
        for _ in range(5):
            watch.now += 2
            await hits(limits, "100/hour", "window", tries=3)
        assert said == ["limits are counted in this process alone: redis does not answer"]
        watch.now += 60
        await hits(limits, "100/hour", "window", tries=1)
        assert len(said) == 2
        redis.start()
        watch.now += 2
        assert await hits(limits, "4/hour", "door", tries=5) == 4
        assert limits.unshared == 5 + 15 + 1


async def test_redis_that_hangs_delays_one_request_and_not_the_next(redis: RedisServer) -> None:
    watch = Watch()
    async with open_link(redis.url) as link:
        counts = RedisCounts(link, KEY)
        limits = Limits(watch, counts)
        await limits.hit("9/hour", "door")
        redis.signal(signal.SIGSTOP)
        async with asyncio.timeout(5):
            await limits.hit("9/hour", "door")
        asked = limits.unshared
        async with asyncio.timeout(0.2):  # it is not asked again within a second
            for _ in range(20):
                await limits.hit("99/hour", "door")
        assert limits.unshared == asked + 20
        redis.signal(signal.SIGCONT)
        watch.now += 2
        await limits.hit("9/hour", "door")
        assert limits.unshared == asked + 20


async def sure_tries(processes: list[Limits], asked: list[Hit]) -> list[bool]:
    """Try once in each; say who was let through."""
    through = []
    for limits in processes:
        try:
            await limits.hit_all(asked, surely=True)
        except RateLimitExceeded:
            through.append(False)
        else:
            through.append(True)
    return through


async def test_sign_ins_are_counted_in_postgresql_while_redis_is_away(
    redis: RedisServer, house: House, hands: Hands, admin: Admin
) -> None:
    secret = new_id().bytes
    account = new_id().hex
    asked = [
        Hit("20/minute", ("address", account)),
        Hit("3/minute", ("sign-in", account)),
    ]
    async with open_link(redis.url) as link:
        durable = DurableCounts(house.entrance.database, secret)
        both = [Limits(Watch(), RedisCounts(link, secret), durable) for _ in range(2)]
        redis.signal(signal.SIGKILL)

        assert await sure_tries(both * 5, asked) == [True] * 3 + [False] * 7
        hands.move(timedelta(minutes=3))
        assert await sure_tries(both * 5, asked) == [True] * 3 + [False] * 7
        await both[0].forgive("3/minute", "sign-in", account)
        assert await sure_tries(both * 2, asked) == [True] * 3 + [False]
    kept = await admin.fetch("select * from limit_window")
    assert not any(account in str(dict(each)) for each in kept)
    hands.move(timedelta(days=3))
    await upkeep(house.entrance.database)
    assert await admin.fetchval("select count(*) from limit_window") == 0


async def test_many_who_sign_in_at_once_are_counted_in_postgresql_without_a_deadlock(
    urls: Urls,
) -> None:
    async with house_of(urls, size=18) as house:
        durable = DurableCounts(house.entrance.database, KEY)
        keys = [Hit("10000/day", (new_id().hex,)) for _ in range(6)]
        orders = [keys, keys[::-1], keys[3:] + keys[:3]]
        waits = await asyncio.gather(*(durable.hit(order) for order in orders * 10))
        assert all(each == [0.0] * 6 for each in waits)
        await durable.undo(keys[0])
        tight = [Hit(each.rule, each.key) for each in keys[:1]]
        assert await durable.hit(tight) == [0.0]


async def test_nobody_signs_in_where_neither_redis_nor_postgresql_counts(
    redis: RedisServer, urls: Urls
) -> None:
    async with house_of(urls) as house, open_link(redis.url) as link:
        limits = Limits(
            shared=RedisCounts(link, KEY), durable=DurableCounts(house.entrance.database, KEY)
        )
        redis.signal(signal.SIGKILL)
        house.entrance.database.cut()
        with pytest.raises(DependencyUnavailable):
            await limits.hit_all([Hit("9/minute", ("x",))], surely=True)


async def test_a_wait_that_is_told_is_rounded_up() -> None:
    watch = Watch(60.0 * 20_000 + 59.5)
    limits = Limits(watch)
    await limits.hit("1/minute", "door")
    with pytest.raises(RateLimitExceeded) as refused:
        await limits.hit("1/minute", "door")
    assert refused.value.retry_after_seconds == ceil(0.501)


# Of sign-ins


async def test_sign_ins_of_one_account_are_limited_for_everybody_who_tries_it(
    client: Client, clinic: SomeClinic, hands: Hands
) -> None:
    body = {"email": clinic.doctor.email.upper(), "password": "wrong"}
    answers = [await client.post("/api/v1/auth/login", json=body) for _ in range(20)]
    codes = [each.json()["code"] for each in answers]
    assert codes[:10] == ["SIGN_IN_FAILED"] * 10
    assert set(codes[10:]) <= {"SIGN_IN_FAILED", "RATE_LIMIT_EXCEEDED"}
    answer = next(each for each in answers if each.json()["code"] == "RATE_LIMIT_EXCEEDED")
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 61
    assert answer.json()["retry_after_seconds"] == int(answer.headers["retry-after"])
