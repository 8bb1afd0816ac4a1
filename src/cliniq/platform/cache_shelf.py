"""The shelf of the cache: Redis or Valkey, where processes lay values for one another.

It may be away at any time: then nothing is found, and nobody fails. A value is taken only from a
transaction that began after the last change of it, so the shelf never holds what a change has made
stale: the mark of the last change lies beside the value, with the time until which nothing older
is taken, on the server's own clock.
"""

import asyncio
import random
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple

import structlog

from cliniq.kernel.problem import DependencyUnavailable
from cliniq.platform.redis_link import ABSENT, make_link

log = structlog.get_logger(__name__)

KEPT_SECONDS = 300  # the most that a lost word can cost
EARLY = 0.2  # in the last fifth of its life a value is looked at anew, by chance and not by all
BARRED_SECONDS = 30  # a commit that takes longer than this, and is then cut off, costs KEPT_SECONDS
MARKED_SECONDS = 900  # a mark outlives every transaction that could still bring older news
OLDEST_SECONDS = 300.0
MARGIN_SECONDS = 1.0  # what the server's clock may be set forward without harm
PATIENCE_SECONDS = 0.25  # for one answer; a request waits no longer for the shelf
AWAY_SECONDS = 1.0  # after a failure nobody asks for so long
MOST_AT_ONCE = 256
MOST_CONNECTIONS = 8
LARGEST_BYTES = 1 << 20
DIGITS = 13  # of a time in milliseconds

# Lays a value down unless it has been changed since the mark was read.
PUT = """
if (redis.call('get', KEYS[2]) or '') ~= ARGV[1] then return 0 end
local now = redis.call('time')
local life = tonumber(ARGV[3])
local till = now[1] * 1000 + math.floor(now[2] / 1000) + life
redis.call('set', KEYS[1], string.format('%013d', till) .. ARGV[2], 'px', life)
return 1
"""

# Marks things as changed, takes them off. Only a bar that no rival's overlaps is lifted early.
MARK = """
local now = redis.call('time')
now = now[1] * 1000 + math.floor(now[2] / 1000)
for place = 1, #KEYS, 2 do
    local till, mark = now + tonumber(ARGV[2]), ARGV[1]
    local other = redis.call('get', KEYS[place + 1])
    if other and string.sub(other, 14) ~= ARGV[3] then
        local others = tonumber(string.sub(other, 1, 13))
        if others > now then
            till, mark = math.max(till, others), mark .. '+'
        end
    end
    redis.call('set', KEYS[place + 1], string.format('%013d', till) .. mark, 'ex', ARGV[4])
    redis.call('del', KEYS[place])
end
return 1
"""


class Found(NamedTuple):
    """What lies on the shelf: a value or none, for how long; the mark and age of the last change.

    Units: seconds.
    """

    raw: bytes | None
    seconds: float
    mark: bytes
    quiet: float


class Shelf:
    """Looks, puts and forgets; never raises. Questions asked at once go in one message."""

    def __init__(self, url: str, margin: float = MARGIN_SECONDS) -> None:
        self._redis = make_link(url, PATIENCE_SECONDS, most=MOST_CONNECTIONS)
        self._margin = margin
        self._waiting: list[tuple[str, asyncio.Future[Found | None]]] = []
        self._asking: asyncio.Task[None] | None = None
        self._away_until = float("-inf")
        self._stopped = asyncio.Event()
        self.failures = 0

    async def look(self, text: str) -> Found | None:
        """Look for a value; nothing where the shelf is away."""
        if monotonic() < self._away_until:
            return None
        answer: asyncio.Future[Found | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((text, answer))
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return await answer

    async def _ask(self) -> None:
        """Ask for all who wait, and again for those who came meanwhile."""
        try:
            while self._waiting:
                asked, self._waiting = (
                    self._waiting[:MOST_AT_ONCE],
                    self._waiting[MOST_AT_ONCE:],
                )
                found = await self._find([text for text, _ in asked])
                for (_, answer), each in zip(asked, found, strict=True):
                    if not answer.done():
                        answer.set_result(each)
        finally:
            self._asking = None
            for _, answer in self._waiting:
                if not answer.done():
                    answer.set_result(None)
            self._waiting.clear()

    async def _find(self, texts: Sequence[str]) -> Sequence[Found | None]:
        try:
            async with self._redis.pipeline(transaction=False) as ask:
                ask.execute_command("TIME")
                ask.execute_command("MGET", *_names(texts))
                (seconds, micros), found = await ask.execute()
            now = seconds * 1000 + micros // 1000
            return [_read(*each, now) for each in zip(found[::2], found[1::2], strict=True)]
        except Exception as error:  # noqa: BLE001 - somebody else's bytes too are no reason to fail
            self._note(error)
            return [None] * len(texts)

    async def put(self, text: str, raw: bytes, found: Found, age: float) -> None:
        """Lay down what was read in a transaction of this age, unless a change is as young."""
        if age + self._margin >= min(found.quiet, OLDEST_SECONDS) or len(raw) > LARGEST_BYTES:
            return
        life = KEPT_SECONDS * 1000
        await self._run(PUT, [text, _mark_of(text)], found.mark, raw, life)

    async def bar(self, texts: Iterable[str]) -> bytes:
        """Take things off, and take nothing until the change is committed or surely was not.

        Returns its mark, nothing where the shelf is away.
        """
        if monotonic() < self._away_until:
            return b""
        mark = secrets.token_bytes(8)
        names = _names(texts)
        held = await self._run(MARK, names, mark, BARRED_SECONDS * 1000, b"", MARKED_SECONDS)
        return mark if held else b""

    async def forget(self, texts: Iterable[str], bar: bytes) -> None:
        """Take things off now that their change is committed; wait for the shelf to listen."""
        names = _names(texts)
        wait = 0.05
        while not await self._run(MARK, names, secrets.token_bytes(8), 0, bar, MARKED_SECONDS):
            if self._stopped.is_set():
                log.warning("the shelf was away to the end", behind_seconds=KEPT_SECONDS)
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), wait)
            wait = min(wait * 2, 2.0)

    async def ensure_answers(self) -> None:
        """Ask whether it is there.

        Raises: DEPENDENCY_UNAVAILABLE 503.
        """
        try:
            await self._redis.ping()
        except ABSENT as error:
            raise DependencyUnavailable("redis") from error

    def stop(self) -> None:
        """Let nobody wait for it any longer."""
        self._stopped.set()

    async def close(self) -> None:
        """Let it go."""
        if self._asking is not None:
            await self._asking
        await self._redis.aclose()

    async def _run(self, script: str, keys: Sequence[str], *rest: bytes | int) -> bool:
        """Run a script; tell whether it ran."""
        try:
            run: Any = self._redis.eval(script, len(keys), *keys, *rest)
            await run
        except ABSENT as error:
            self._note(error)
            return False
        return True

    def _note(self, error: BaseException) -> None:
        """Remember a failure: for a moment nobody asks, and it is logged once a moment."""
        self.failures += 1
        now = monotonic()
        if now >= self._away_until:
            log.warning("the cache's redis does not serve", error=type(error).__name__)
        self._away_until = now + AWAY_SECONDS


def _mark_of(text: str) -> str:
    return f"{text}:mark"


def _names(texts: Iterable[str]) -> list[str]:
    """Name values and their marks, in turns."""
    return [name for text in texts for name in (text, _mark_of(text))]


def _read(value: bytes | None, mark: bytes | None, now: int) -> Found:
    quiet = (now - int(mark[:DIGITS])) / 1000 if mark else float("inf")
    if value is None:
        return Found(None, 0.0, mark or b"", quiet)
    left = (int(value[:DIGITS]) - now) / 1000
    due = left < KEPT_SECONDS * EARLY * random.random()  # noqa: S311 - spreads load
    return Found(None if due else value[DIGITS:], left, mark or b"", quiet)
