"""Limits: so many hits of a key in a window, and a word on when to come back."""

import asyncio

import pytest

from cliniq.kernel.problem import RateLimitExceeded
from cliniq.platform.limits import Limits
from tests.support import Client, Hands, SomeClinic


async def hits(limits: Limits, rule: str, *key: str, tries: int) -> int:
    """Count how many of some parallel hits are let through."""

    async def hit() -> bool:
        try:
            await limits.hit(rule, *key)
        except RateLimitExceeded:
            return False
        return True

    return sum(await asyncio.gather(*(hit() for _ in range(tries))))


async def test_no_more_than_the_rule_says_are_let_through_however_many_come_at_once() -> None:
    limits = Limits()
    assert await hits(limits, "7/hour", "door", "somebody", tries=100) == 7
    assert await hits(limits, "7/hour", "door", "somebody", tries=10) == 0


async def test_keys_and_rules_are_counted_apart() -> None:
    limits = Limits()
    assert await hits(limits, "3/hour", "door", "somebody", tries=5) == 3
    assert await hits(limits, "3/hour", "door", "somebody else", tries=5) == 3
    assert await hits(limits, "3/hour", "window", "somebody", tries=5) == 3
    assert await hits(limits, "4/hour", "door", "somebody", tries=5) == 4
    assert await hits(Limits(), "3/hour", "door", "somebody", tries=5) == 3


@pytest.mark.parametrize("strange", ["", "a/b", "a:b", "\x00", "\u00fc", "x" * 10_000, "%s", "{}"])
async def test_strange_keys_are_keys_like_any_other(strange: str) -> None:
    limits = Limits()
    assert await hits(limits, "2/hour", "door", strange, tries=3) == 2
    assert await hits(limits, "2/hour", "door", strange + "x", tries=3) == 2


async def test_whoever_is_refused_hears_when_to_come_back_within_the_window() -> None:
    limits = Limits()
    await limits.hit("1/hour", "door")
    with pytest.raises(RateLimitExceeded) as refused:
        await limits.hit("1/hour", "door")
    assert 1 <= refused.value.retry_after_seconds <= 3600
    assert refused.value.headers == {"Retry-After": str(refused.value.retry_after_seconds)}


async def test_window_slides_on(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits()
    assert await hits(limits, "2/second", "door", tries=3) == 2
    async with asyncio.timeout(10):
        while not await hits(limits, "2/second", "door", tries=1):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


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
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert answer.json()["retry_after_seconds"] == int(answer.headers["retry-after"])
