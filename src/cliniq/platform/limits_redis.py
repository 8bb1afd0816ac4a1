"""Hits counted in Redis, for all processes: one script, in one round trip."""

import asyncio
from collections.abc import Sequence

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from cliniq.platform.limits import CountsLost, Hit, hashed, rule_of

PATIENCE_SECONDS = 0.25
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
    """Counts in Redis. Keys are hashed with a secret: they hold addresses and e-mails.

    `apart` for a cluster, which keeps keys in different places: a script each, in one pipeline.
    """

    def __init__(self, client: Redis, secret: bytes, *, apart: bool = False) -> None:
        self._client = client
        self._secret = secret
        self._apart = apart

    async def hit(self, hits: Sequence[Hit]) -> Sequence[float]:
        """Count hits in one round trip; see `Counts`."""
        groups = [[hit] for hit in hits] if self._apart else [hits]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                found = await self._run([self._script(group) for group in groups])
        except (RedisError, OSError) as error:
            raise CountsLost from error
        return [each / 1000 for waits in found for each in waits]

    def _script(self, hits: Sequence[Hit]) -> list[str | int]:
        rules = [rule_of(hit.rule) for hit in hits]
        keys = [self._key(hit) for hit in hits]
        return [HIT, len(keys), *keys, *(number for rule in rules for number in rule)]

    async def _run(self, scripts: list[list[str | int]]) -> list[list[int]]:
        if len(scripts) == 1:
            return [await self._client.execute_command("EVAL", *scripts[0])]  # type: ignore[no-untyped-call]
        pipeline = self._client.pipeline(transaction=False)
        for script in scripts:
            pipeline.execute_command("EVAL", *script)
        return await pipeline.execute()

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
