"""Live passes: one use each, whatever process they are shown to, whether Redis is there or not."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from redis.exceptions import ConnectionError as RedisAway

from cliniq.app import House
from cliniq.kernel.scope import Caller
from cliniq.platform.live_passes import (
    PASS_LIFE,
    Passes,
    Spent,
    SpentHere,
    SpentInRedis,
    open_spent,
)
from cliniq.platform.signing import Keyring
from tests.support import SECRET, Admin, Hands, SomeClinic


@dataclass
class SomeRedis:
    """What `SET NX` does, where it can be reached."""

    away: bool = False
    kept: set[str] = field(default_factory=set)

    def set(self, name: str, value: bytes, *, nx: bool, px: int) -> Awaitable[object]:
        assert (value, nx, px) == (b"", True, 60_000)
        return self._set(name)

    async def _set(self, name: str) -> object:
        await asyncio.sleep(0)
        if self.away:
            raise RedisAway
        is_first = name not in self.kept
        self.kept.add(name)
        return is_first or None


def process(house: House, hands: Hands, redis: SomeRedis | None) -> Passes:
    def wall() -> datetime:
        return hands.wall

    spent: Spent = SpentHere(wall, wall())
    if redis is not None:
        spent = SpentInRedis(redis, house.entrance.database, wall)
    return Passes(Keyring(SECRET), wall, spent)


async def redeemed(passes: list[Passes], live_pass: str, times: int) -> list[Caller]:
    """Show a pass to each process so often, all at once; who was let in."""
    shown = [each.redeem(live_pass) for each in passes for _ in range(times)]
    return [each for each in await asyncio.gather(*shown) if each is not None]


async def test_pass_says_who_bought_it_and_stores_nothing(
    house: House, hands: Hands, clinic: SomeClinic, admin: Admin
) -> None:
    here = process(house, hands, None)
    before = await admin.fetchval("select count(*) from live_pass")
    live_pass = here.sell(clinic.doctor.caller)
    assert await redeemed([here], live_pass, 50) == [clinic.doctor.caller]
    assert await admin.fetchval("select count(*) from live_pass") == before


async def test_pass_shown_fifty_times_to_two_processes_lets_one_in(
    house: House, hands: Hands, clinic: SomeClinic
) -> None:
    redis = SomeRedis()
    both = [process(house, hands, redis) for _ in range(2)]
    live_pass = both[0].sell(clinic.doctor.caller)
    assert await redeemed(both, live_pass, 50) == [clinic.doctor.caller]


async def test_pass_shown_to_two_processes_while_redis_is_away_lets_one_in(
    house: House, hands: Hands, clinic: SomeClinic
) -> None:
    both = [process(house, hands, SomeRedis(away=True)) for _ in range(2)]
    for each in both:
        assert await each.redeem(each.sell(clinic.doctor.caller)), "sold as Redis was found away"
    live_pass = both[0].sell(clinic.doctor.caller)
    assert await redeemed(both, live_pass, 25) == [clinic.doctor.caller]


async def test_pass_that_redis_may_have_seen_before_it_went_is_not_taken(
    house: House, hands: Hands, clinic: SomeClinic
) -> None:
    redis = SomeRedis()
    here, there = process(house, hands, redis), process(house, hands, redis)
    live_pass = here.sell(clinic.doctor.caller)
    assert await here.redeem(live_pass)
    hands.wall += timedelta(seconds=1)
    redis.away = True
    assert await there.redeem(live_pass) is None


async def test_pass_used_while_redis_was_away_is_not_taken_when_it_is_back(
    house: House, hands: Hands, clinic: SomeClinic
) -> None:
    redis = SomeRedis(away=True)
    here, there = process(house, hands, redis), process(house, hands, redis)
    for each in (here, there):
        await each.redeem(each.sell(clinic.doctor.caller))
    live_pass = here.sell(clinic.doctor.caller)
    assert await here.redeem(live_pass)
    redis.away = False
    hands.wall += PASS_LIFE - timedelta(seconds=1)
    assert await there.redeem(live_pass) is None


async def test_pass_from_before_the_process_began_is_not_taken_without_redis(
    house: House, hands: Hands, clinic: SomeClinic
) -> None:
    live_pass = process(house, hands, None).sell(clinic.doctor.caller)
    hands.wall += timedelta(seconds=1)
    after_restart = process(house, hands, None)
    assert await after_restart.redeem(live_pass) is None
    assert await after_restart.redeem(after_restart.sell(clinic.doctor.caller))


@pytest.mark.parametrize("at", [0, 20, 40, 70, 95])
async def test_pass_that_was_changed_or_is_of_another_house_opens_nothing(
    house: House, hands: Hands, clinic: SomeClinic, at: int
) -> None:
    here = process(house, hands, None)
    live_pass = here.sell(clinic.doctor.caller)
    changed = live_pass[:at] + ("A" if live_pass[at] != "A" else "B") + live_pass[at + 1 :]
    assert await here.redeem(changed) is None
    stranger = Passes(
        Keyring(SECRET + "!"), lambda: hands.wall, SpentHere(lambda: hands.wall, None)
    )
    assert await here.redeem(stranger.sell(clinic.doctor.caller)) is None
    assert await here.redeem(live_pass)


async def test_used_passes_are_forgotten_once_they_are_too_old(
    hands: Hands, clinic: SomeClinic
) -> None:
    spent = SpentHere(lambda: hands.wall, None)
    passes = Passes(Keyring(SECRET), lambda: hands.wall, spent)
    for _ in range(10):
        assert await passes.redeem(passes.sell(clinic.doctor.caller))
        hands.wall += timedelta(seconds=10)
    assert len(spent._until) <= 4  # noqa: SLF001


async def test_pass_shown_to_two_processes_over_a_real_redis_lets_one_in(
    house: House, hands: Hands, clinic: SomeClinic, redis_url: str
) -> None:
    wall = lambda: hands.wall  # noqa: E731
    database = house.entrance.database
    async with (
        open_spent(redis_url, database, wall) as here,
        open_spent(redis_url, database, wall) as there,
    ):
        both = [Passes(Keyring(SECRET), wall, each) for each in (here, there)]
        live_pass = both[0].sell(clinic.doctor.caller)
        assert await redeemed(both, live_pass, 25) == [clinic.doctor.caller]
