"""Hits counted in Redis, for all processes: one script a hit, all hits of a request in one trip."""

import asyncio
from collections.abc import Sequence

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from cliniq.platform.limits import CountsLost, Hit, hashed, rule_of

PATIENCE_SECONDS = 0.25
PREFIX = "limit:"

# One hash a key, so that a cluster keeps it in one place: `i` the window, `c` its hits, `p` those
# of the one before. The clock that all processes share is Redis' own. Answers milliseconds to wait.
HIT = """
local amount, span = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local at = (time[1] + time[2] / 1000000) / span
local slot = math.floor(at)
local part = at - slot
local kept = redis.call('HMGET', KEYS[1], 'i', 'c', 'p')
local c, p = tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
local last = tonumber(kept[1]) or -1
if last ~= slot then
    if last == slot - 1 then p = c else p = 0 end
    c = 0
end
if math.floor(p * (1 - part)) + c < amount then
    redis.call('HSET', KEYS[1], 'i', slot, 'c', c + 1, 'p', p)
    redis.call('EXPIRE', KEYS[1], span * 2)
    return 0
end
local room = amount - c
if room <= 0 then return math.ceil((1 - part) * span * 1000) + 1 end
return math.max(1, math.ceil((1 - room / p - part) * span * 1000) + 1)
"""
UNDO = """
local c = tonumber(redis.call('HGET', KEYS[1], 'c'))
if c and c > 0 then redis.call('HINCRBY', KEYS[1], 'c', -1) end
return 0
"""


def connect(url: str) -> Redis:
    """Open a client whose every wait is short: a limit is not worth a request's time."""
    client: Redis = Redis.from_url(
        url,
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return client


class RedisCounts:
    """Counts in Redis. Keys are hashed with a secret: they hold addresses and e-mails."""

    def __init__(self, client: Redis, secret: bytes) -> None:
        self._client = client
        self._secret = secret

    async def hit(self, hits: Sequence[Hit]) -> Sequence[float]:
        """Count hits in one round trip; see `Counts`."""
        pipeline = self._client.pipeline(transaction=False)
        for hit in hits:
            rule = rule_of(hit.rule)
            _ = pipeline.eval(HIT, 1, self._key(hit), rule.amount, rule.span)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                waits = await pipeline.execute()
        except (RedisError, OSError) as error:
            raise CountsLost from error
        return [each / 1000 for each in waits]

    async def undo(self, hit: Hit) -> None:
        """Take one hit back."""
        await self._do("EVAL", UNDO, 1, self._key(hit))

    async def forget(self, hit: Hit) -> None:
        """Take all hits of a key back."""
        await self._do("DEL", self._key(hit))

    async def _do(self, *command: str | int) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._client.execute_command(*command)  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise CountsLost from error

    def _key(self, hit: Hit) -> str:
        return PREFIX + hashed(hit, self._secret).hex()
