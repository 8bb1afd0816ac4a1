"""Live passes: sealed, good for thirty seconds and one use; nothing is stored to sell one.

Used ones are remembered until they are too old anyway: in memory, or for several processes in
Redis.
"""

import struct
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from hashlib import sha256
from secrets import token_bytes
from typing import NamedTuple, Protocol
from uuid import UUID

import structlog

from cliniq.kernel.ids import PersonId, SessionId
from cliniq.kernel.scope import Caller, PlatformScope
from cliniq.platform import live_store
from cliniq.platform.clock import Clock
from cliniq.platform.db import Database, open_unit
from cliniq.platform.redis_link import ABSENT, open_link
from cliniq.platform.signing import Keyring

PASS_LIFE = timedelta(seconds=30)
PURPOSE = "live-pass"
LONGEST = 200

log = structlog.get_logger(__name__)

_PASS = struct.Struct(">16s16s16sQ")  # person, session, chance, the end in microseconds


class LivePass(NamedTuple):
    """What a pass says: for whom, by which sign-in, and until when. `mark` is its own alone."""

    caller: Caller
    mark: bytes
    ends_at: datetime


class Spent(Protocol):
    """What remembers the passes that were used."""

    async def spend(self, live_pass: LivePass) -> bool:
        """Use a pass up. Of all that try, in whatever process, one hears yes."""


class Passes:
    """Sells passes and takes them."""

    def __init__(self, keyring: Keyring, wall: Clock, spent: Spent) -> None:
        self._keyring = keyring
        self._wall = wall
        self._spent = spent

    def sell(self, caller: Caller) -> str:
        """Write a pass for somebody who is signed in."""
        ends_at = round((self._wall() + PASS_LIFE).timestamp() * 1_000_000)
        who = caller.person_id.bytes, caller.session_id.bytes
        return self._keyring.seal(PURPOSE, _PASS.pack(*who, token_bytes(16), ends_at))

    async def redeem(self, offered: str) -> Caller | None:
        """Use a pass up; nothing where it is not ours, too old, or used already."""
        payload = self._keyring.open(PURPOSE, offered) if len(offered) <= LONGEST else None
        if payload is None or len(payload) != _PASS.size:
            return None
        person, session, chance, ends_at = _PASS.unpack(payload)
        now = self._wall()
        if ends_at <= now.timestamp() * 1_000_000:
            return None
        caller = Caller(PersonId(UUID(bytes=person)), SessionId(UUID(bytes=session)))
        ends = datetime.fromtimestamp(ends_at / 1_000_000, now.tzinfo)
        mark = sha256(chance).digest()
        return caller if await self._spent.spend(LivePass(caller, mark, ends)) else None


class SpentHere:
    """Remembers in this process, for an installation that has one.

    A pass from before it began may have been used before, so it is not taken.
    """

    def __init__(self, wall: Clock, began_at: datetime | None) -> None:
        self._wall = wall
        self._began_at = began_at
        self._until: dict[bytes, datetime] = {}  # in the order in which they were used

    async def spend(self, live_pass: LivePass) -> bool:
        """Use a pass up. Nothing is awaited between the look and the note."""
        now = self._wall()
        sold_at = live_pass.ends_at - PASS_LIFE
        if live_pass.mark in self._until or (self._began_at and sold_at < self._began_at):
            return False
        self._until[live_pass.mark] = now + PASS_LIFE
        while (oldest := next(iter(self._until))) and self._until[oldest] < now:
            del self._until[oldest]
        return True


class KeyValues(Protocol):
    """The one command of Redis that is needed here."""

    def set(self, name: str, value: bytes, *, nx: bool, px: int) -> Awaitable[object]:
        """Set a key that was not there, for some milliseconds; nothing where it was."""


class SpentInRedis:
    """Remembers for all processes: in Redis, or in the database while Redis is away.

    What Redis knew when it went is not known to the database, so a pass sold before that is not
    taken; and when Redis is back, both are asked until every pass that only one knows is too old.
    """

    def __init__(self, redis: KeyValues, database: Database, wall: Clock) -> None:
        self._redis = redis
        self._database = database
        self._wall = wall
        self._here = SpentHere(wall, began_at=None)
        self._away_from: datetime | None = None
        self._away_until: datetime | None = None

    async def spend(self, live_pass: LivePass) -> bool:
        """Use a pass up."""
        if not await self._here.spend(live_pass):  # whatever becomes of Redis
            return False
        is_first = await self._spend_in_redis(live_pass.mark)
        if is_first is None:
            self._note_absence()
            if self._away_from is None or live_pass.ends_at - PASS_LIFE < self._away_from:
                return False
        elif not is_first or not self._was_away():
            return is_first
        async with open_unit(self._database, PlatformScope("redeem a live pass")) as unit:
            who = live_pass.caller.person_id, live_pass.caller.session_id
            spent = await live_store.spend_pass(unit, live_pass.mark, *who, live_pass.ends_at)
        return spent is not None

    async def _spend_in_redis(self, mark: bytes) -> bool | None:
        life = 2 * int(PASS_LIFE.total_seconds() * 1000)  # clocks of processes differ a little
        try:
            return bool(await self._redis.set(f"live-pass:{mark.hex()}", b"", nx=True, px=life))
        except ABSENT as error:
            log.warning("redis does not serve", error=type(error).__name__)
            return None

    def _was_away(self) -> bool:
        return self._away_until is not None and self._wall() - self._away_until <= PASS_LIFE

    def _note_absence(self) -> None:
        if not self._was_away():
            self._away_from = self._wall()
        self._away_until = self._wall()


@asynccontextmanager
async def open_spent(
    redis_url: str | None, database: Database, wall: Clock
) -> AsyncIterator[Spent]:
    """Remember used passes in Redis where there is one, else in this process."""
    if redis_url is None:
        yield SpentHere(wall, wall())
        return
    async with open_link(redis_url) as link:
        yield SpentInRedis(link, database, wall)
