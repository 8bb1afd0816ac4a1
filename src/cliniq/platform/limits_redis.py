"""Hits counted in Redis, for all processes: one script, in one round trip."""

import asyncio
from collections.abc import Sequence
from typing import Any

from cliniq.platform.limits import CountsLost, Hit, hashed, rule_of
from cliniq.platform.redis_link import ABSENT, Link

PATIENCE_SECONDS = 0.25  # a limit is not worth more of a request's time
PREFIX = "limit:"

# A hash a key: `i` the window, `c` its hits, `p` those of the one before. The clock that all
# processes share is Redis' own. Counts all keys or, where one must wait, none. Answers the
# milliseconds that each must wait.
HIT = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local waits, counts, stops = {}, {}, false
for n, key in ipairs(KEYS) do
    local amount, span = tonumber(ARGV[2 * n - 1]), tonumber(ARGV[2 * n])
    local slot = math.floor(now / span)
    local part = now / span - slot
    local kept = redis.call('HMGET', key, 'i', 'c', 'p')
    local last, c, p = tonumber(kept[1]) or -1, tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
    if last ~= slot then
        if last == slot - 1 then p = c else p = 0 end
        c = 0
    end
    waits[n] = 0
    counts[n] = {slot, c + 1, p, span * 2}
    if math.floor(p * (1 - part)) + c >= amount then
        stops = true
        local room, wait = amount - c, 1 - part
        if room > 0 then wait = 1 - room / p - part end
        waits[n] = math.max(1, math.ceil(wait * span * 1000) + 1)
    end
end
if not stops then
    for n, key in ipairs(KEYS) do
        redis.call('HSET', key, 'i', counts[n][1], 'c', counts[n][2], 'p', counts[n][3])
        redis.call('EXPIRE', key, counts[n][4])
    end
end
return waits
"""
UNDO = """
local c = tonumber(redis.call('HGET', KEYS[1], 'c'))
if c and c > 0 then redis.call('HINCRBY', KEYS[1], 'c', -1) end
return 0
"""


class RedisCounts:
    """Counts in Redis. Keys are hashed with a secret: they hold addresses and e-mails."""

    def __init__(self, link: Link, secret: bytes) -> None:
        self._link = link
        self._secret = secret
        self._waiting: list[tuple[Sequence[str | int], asyncio.Future[Any]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def hit(self, hits: Sequence[Hit]) -> Sequence[float]:
        """Count all hits, or none where one must wait, in one round trip; see `Counts`."""
        numbers = [number for hit in hits for number in rule_of(hit.rule)]
        waits = await self._do("EVAL", HIT, len(hits), *map(self._key, hits), *numbers)
        return [each / 1000 for each in waits]

    async def undo(self, hit: Hit) -> None:
        """Take one hit back."""
        await self._do("EVAL", UNDO, 1, self._key(hit))

    async def forget(self, hit: Hit) -> None:
        """Take all hits of a key back."""
        await self._do("DEL", self._key(hit))

    async def _do(self, *command: str | int) -> Any:
        """Send a command with whatever else waits to be sent: a crowd needs no crowd of links."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((command, answer))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())
        return await answer

    async def _send_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            found: Sequence[Any] = [CountsLost()] * len(batch)
            try:
                found = await self._send([command for command, _ in batch])
            finally:
                for (_, answer), each in zip(batch, found, strict=True):
                    _settle(answer, each)

    async def _send(self, commands: Sequence[Sequence[str | int]]) -> Sequence[Any]:
        pipeline = self._link.pipeline(transaction=False)
        for command in commands:
            _ = pipeline.execute_command(*command)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await pipeline.execute(raise_on_error=False)
        except ABSENT:
            return [CountsLost()] * len(commands)

    def _key(self, hit: Hit) -> str:
        return PREFIX + hashed(hit, self._secret).hex()


def _settle(answer: asyncio.Future[Any], found: object) -> None:
    if answer.done():  # whoever asked has gone
        return
    if isinstance(found, Exception):
        answer.set_exception(CountsLost(str(found)))
    else:
        answer.set_result(found)
