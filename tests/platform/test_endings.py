"""Tasks end although something between them and their end drops what ends them."""

import asyncio

import pytest

from cliniq.platform import endings, redis_bus
from cliniq.platform.endings import end_all
from cliniq.platform.redis_bus import open_bus
from cliniq.platform.redis_link import Line


async def deaf(times: int) -> None:
    """Go on for ever, and drop the first cancellations, as `asyncio.wait_for` may."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            times -= 1
            if times < 0:
                raise


async def fail() -> None:
    raise RuntimeError


async def begun(*tasks: asyncio.Task[None]) -> None:
    await asyncio.wait(tasks, timeout=0.01)


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_task_that_drops_its_end_is_ended_all_the_same(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "AGAIN_SECONDS", 0.01)
    tasks = [asyncio.create_task(each) for each in (deaf(times), fail(), asyncio.sleep(0))]
    await begun(*tasks)
    await asyncio.wait_for(end_all(*tasks), 10)
    assert [each.done() for each in tasks] == [True] * 3
    assert tasks[0].cancelled()


async def test_bus_closes_although_its_client_drops_the_first_word_of_the_end(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As redis-py's writing does on Python 3.11, if the end comes in the moment of its own end."""
    monkeypatch.setattr(redis_bus, "PING_SECONDS", 0.02)
    monkeypatch.setattr(redis_bus, "PATIENCE_SECONDS", 0.2)
    writing, dropped = asyncio.Event(), 0
    send = Line.send_command

    async def drop(line: Line, *words: str, **how: object) -> None:
        nonlocal dropped
        await send(line, *words, **how)
        if words[0] == "PING" and not dropped:
            writing.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                dropped += 1

    monkeypatch.setattr(Line, "send_command", drop)
    async with asyncio.timeout(20):
        async with open_bus(redis_url):
            await writing.wait()
    assert dropped == 1
