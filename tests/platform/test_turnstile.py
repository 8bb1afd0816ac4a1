"""The turnstile: a few pass at once, a crowd passes in turn, and nobody comes back for nothing."""

import asyncio

import pytest

from cliniq.kernel.problem import RateLimitExceeded
from cliniq.platform.live_crowd import Crowd
from cliniq.platform.live_turnstile import BURST, LONGEST_SECONDS, PATIENCE_SECONDS, Turnstile
from tests.support import Client, SomeClinic

PATH = "/api/v1/live/passes"
SLOW = 10.0  # a second
KEPT = BURST + round(PATIENCE_SECONDS * SLOW) + 1  # who pass, or are kept waiting


async def crowded(turnstile: Turnstile, size: int) -> tuple[list[asyncio.Task[None]], list[int]]:
    """Have many come at once; answer with who was kept, and what the others were told."""
    kept, told = [], []
    for _ in range(size):
        task = asyncio.create_task(turnstile.turn())
        await asyncio.sleep(0)
        if not task.done():
            kept.append(task)
        elif isinstance(refusal := task.exception(), RateLimitExceeded):
            told.append(refusal.retry_after_seconds)
        else:
            kept.append(task)
    return kept, told


async def test_few_pass_without_waiting() -> None:
    turnstile = Turnstile(SLOW)
    kept, told = await crowded(turnstile, BURST)
    assert not told
    assert all(each.done() for each in kept)


async def test_crowd_is_told_to_come_back_one_after_the_other() -> None:
    kept, told = await crowded(Turnstile(SLOW), KEPT + 100)
    for each in kept:
        each.cancel()
    assert abs(len(kept) - KEPT) <= 1
    assert told == sorted(told)
    assert PATIENCE_SECONDS <= told[0] <= PATIENCE_SECONDS + 2
    assert told[-1] - told[0] == pytest.approx(100 / SLOW, abs=1)


async def test_nobody_is_sent_away_for_longer_than_a_minute() -> None:
    kept, told = await crowded(Turnstile(SLOW), KEPT + 1000)
    for each in kept:
        each.cancel()
    assert max(told) == LONGEST_SECONDS


async def test_buyer_of_a_pass_is_told_and_a_stranger_takes_nobodys_turn(
    client: Client, clinic: SomeClinic
) -> None:
    turnstile = clinic.house.entrance.hub.turnstile
    before = vars(turnstile).copy()
    ahead = asyncio.get_running_loop().time() + PATIENCE_SECONDS + 5
    try:
        turnstile._next_at = ahead  # noqa: SLF001
        assert (await client.post(PATH)).json()["code"] == "UNAUTHENTICATED"
        assert turnstile._later_at == before["_later_at"]  # noqa: SLF001
        answer = await client.post(PATH, headers=clinic.doctor.headers)
    finally:
        vars(turnstile).update(before)
    assert answer.status_code == 429
    assert answer.json()["code"] == "RATE_LIMIT_EXCEEDED"
    assert PATIENCE_SECONDS <= int(answer.headers["Retry-After"]) <= PATIENCE_SECONDS + 6
    assert (await client.post(PATH, headers=clinic.doctor.headers)).status_code == 201


def test_crowd_says_over_how_long_it_should_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd()
    assert crowd.spread_ms == 0
    monkeypatch.setattr(crowd, "_connections", dict.fromkeys(range(9000)))
    assert crowd.spread_ms == 45_000
