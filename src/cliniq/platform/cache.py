"""The cache of one process: what every seat of a clinic may see alike, without asking again.

Two levels: this process's memory, and a shelf that processes share where there is one (Redis).
What a load read before a change was committed is never kept after the change was heard of.
"""

import asyncio
import random
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from time import monotonic
from typing import Any, Generic, NewType, TypeVar
from uuid import UUID

import msgspec
import structlog

from cliniq.kernel.ids import ClinicId
from cliniq.kernel.problem import DependencyUnavailable
from cliniq.platform.bus import Bus, Message
from cliniq.platform.cache_shelf import Shelf

T = TypeVar("T")

log = structlog.get_logger(__name__)

CHANNEL = "cache"
NOBODY = UUID(int=0)
MOST = 20_000  # entries of a process
FRESH_SECONDS, KEPT_SECONDS = 240.0, 300.0  # alone: nobody else can change what is kept
FRESH_BESIDE_SECONDS, KEPT_BESIDE_SECONDS = 5.0, 10.0  # beside a shelf: a lost word is soon made up
JOIN_SECONDS = 2.0  # between two tries to hear the others
JITTER = 0.2  # so that what was loaded together is not due together


# What an entry is of: its kind, its clinic, always, and what it is about there. Numbers hash fast.
Key = NewType("Key", tuple[str, int, int])


def key_of(kind: str, clinic_id: ClinicId, subject: UUID = NOBODY) -> Key:
    """Make a key: the only way to one."""
    parts: Any = (kind, clinic_id.int, subject.int)
    key: Key = parts  # what `Key(...)` would say, in a tenth of a read's time less
    return key


class Codec(Generic[T]):
    """How a value becomes bytes and back, by its type; never a pickle.

    The bytes begin with a print of the type, so that another release's are never misread.
    """

    def __init__(self, kind: Any) -> None:
        self._shape = sha256(msgspec.json.encode(msgspec.json.schema(kind))).digest()[:8]
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(kind)

    def encode(self, value: T) -> bytes:
        """Write a value."""
        return self._shape + msgspec.msgpack.encode(value)

    def decode(self, raw: bytes) -> T:
        """Read a value. Raises: msgspec.MsgspecError for bytes of another shape."""
        if raw[: len(self._shape)] != self._shape:
            raise msgspec.ValidationError("another shape")
        return self._decoder.decode(raw[len(self._shape) :])


class Entry:
    """A value, until when it need not be looked at, and until when it may be given out."""

    __slots__ = ("fresh_until", "kept_until", "used", "value")

    def __init__(self, value: Any, fresh_until: float, kept_until: float) -> None:
        self.value, self.fresh_until, self.kept_until = value, fresh_until, kept_until
        self.used = False


class _Flight:
    """A load under way, which others wait for instead of loading too."""

    __slots__ = ("_waiting", "landed", "value")

    def __init__(self) -> None:
        self._waiting: asyncio.Event | None = None  # most have nobody who waits
        self.landed = False
        self.value: Any = None

    async def wait(self) -> None:
        """Wait until it has landed or failed."""
        if self._waiting is None:
            self._waiting = asyncio.Event()
        await self._waiting.wait()

    def land(self, value: Any) -> None:
        """Bring the value."""
        self.value, self.landed = value, True

    def end(self) -> None:
        """Let those who wait go on."""
        if self._waiting is not None:
            self._waiting.set()


class Cache:
    """Keeps values by key. Bounds: `MOST` entries; alone 5 minutes, beside a shelf 10 seconds.

    `forget` is heard by every process through the bus. Where that word is lost, because a process
    was killed or Redis was away, other memories may be behind for 10 seconds, and the shelf for
    `cache_shelf.KEPT_SECONDS` if nobody could reach it either.
    """

    def __init__(
        self,
        shelf: Shelf | None = None,
        post: Callable[[Message], None] = lambda _message: None,
        clock: Callable[[], float] = monotonic,
        most: int = MOST,
    ) -> None:
        self._shelf, self._post, self._clock, self._most = shelf, post, clock, most
        self._fresh = FRESH_BESIDE_SECONDS if shelf else FRESH_SECONDS
        self._kept = KEPT_BESIDE_SECONDS if shelf else KEPT_SECONDS
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._flights: dict[Key, _Flight] = {}
        self._heard: OrderedDict[Key, float] = OrderedDict()  # when each was last forgotten
        self._all_heard = float("-inf")  # whatever is not in `_heard` was forgotten then, at latest
        self._barred: Counter[Key] = Counter()  # changed here, and the shelf has yet to learn of it
        self._telling: set[asyncio.Task[None]] = set()
        self._joining: asyncio.Task[None] | None = None
        self.hits = 0
        self.reads: Counter[str] = Counter()  # the rest, by where the answer was found

    def __len__(self) -> int:
        return len(self._entries)

    def counts(self) -> dict[str, int]:
        """Count reads by where the answer was found, what is kept, and failures of the shelf."""
        found = {name: self.reads[name] for name in ("shelf", "waited", "loaded")}
        failed = self._shelf.failures if self._shelf else 0
        return {"memory": self.hits, **found, "shelf_failed": failed}

    async def get(
        self, key: Key, codec: Codec[T], began: float, load: Callable[[], Awaitable[T]]
    ) -> T:
        """Give a value: from memory, from the shelf, or as `load` reads it now.

        `began` is when the transaction began in which `load` reads (on `monotonic`): what it sees
        may be as old as that. Where a value is due, one caller looks again and the others get what
        is there. Raises: only what `load` raises.
        """
        entry = self.kept(key)
        if entry is not None:
            value: T = entry.value
            return value
        if (flight := self._flights.get(key)) is not None:
            await flight.wait()
            if flight.landed:
                self.reads["waited"] += 1
                answer: T = flight.value
                return answer
            self.reads["loaded"] += 1
            return await load()  # whoever went first has failed; each now asks for itself
        return await self._fly(key, codec, began, load)

    def kept(self, key: Key) -> Entry | None:
        """Give what is in memory, unless nobody looks for it anew although it is due."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._clock()
        if now < entry.fresh_until or (now < entry.kept_until and key in self._flights):
            entry.used = True
            self.hits += 1
            return entry
        return None

    async def _fly(
        self, key: Key, codec: Codec[T], began: float, load: Callable[[], Awaitable[T]]
    ) -> T:
        flight = _Flight()
        if key not in self._barred:
            self._flights[key] = flight
        try:
            value = await self._look(key, codec, began, load)
            flight.land(value)
        finally:
            flight.end()
            if self._flights.get(key) is flight:
                del self._flights[key]
        return value

    async def _look(
        self, key: Key, codec: Codec[T], began: float, load: Callable[[], Awaitable[T]]
    ) -> T:
        asked, found = self._clock(), None
        if self._shelf and key not in self._barred:
            found = await self._shelf.look(_text(key))
        if found is not None and (raw := found.raw) is not None:
            try:
                value = codec.decode(raw)
            except msgspec.MsgspecError:
                log.warning("the shelf holds another shape", kind=key[0])
            else:
                self.reads["shelf"] += 1
                self._keep(key, value, asked, found.seconds)
                return value
        value = await load()
        self.reads["loaded"] += 1
        if self._keep(key, value, began, self._kept) and self._shelf and found is not None:
            await self._shelf.put(_text(key), codec.encode(value), found, self._clock() - began)
        return value

    def _keep(self, key: Key, value: Any, as_of: float, most: float) -> bool:
        """Keep a value that is as old as `as_of`, unless a change has been heard of since."""
        if key in self._barred or as_of <= self._heard.get(key, self._all_heard):
            return False
        now = self._clock()
        kept = min(self._kept, most)
        fresh = min(self._fresh, kept) * (1 - JITTER * random.random())  # noqa: S311 - spreads load
        self._entries[key] = Entry(value, now + fresh, now + kept)
        self._entries.move_to_end(key)
        self._shrink()
        return True

    def _shrink(self) -> None:
        """Let go what has not been read for longest: whatever was read is passed over once."""
        while len(self._entries) > self._most:
            key, entry = self._entries.popitem(last=False)
            if entry.used:
                entry.used = False
                self._entries[key] = entry

    async def bar(self, keys: Iterable[Key]) -> bytes:
        """Announce a change before its COMMIT: for a while the shelf takes nothing older.

        So a process that is killed right after COMMIT leaves nothing stale on the shelf. Never
        raises. Returns the mark by which `forget` takes the bar away.
        """
        return await self._shelf.bar(map(_text, keys)) if self._shelf else b""

    def forget(self, keys: Iterable[Key], mark: bytes = b"") -> None:
        """Forget what a committed change has made stale, here at once and elsewhere soon.

        Until the shelf has forgotten too, this process neither asks it nor keeps anything.
        """
        stale = tuple(keys)
        self._drop(stale)
        if self._shelf is None:
            self._post(Message(CHANNEL, _said(stale)))
            return
        self._barred.update(stale)
        task = asyncio.get_running_loop().create_task(self._tell(self._shelf, stale, mark))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, shelf: Shelf, keys: tuple[Key, ...], mark: bytes) -> None:
        """Have the shelf forget, however long it is away; only then may others look there again."""
        try:
            await shelf.forget([_text(key) for key in keys], mark)
        finally:
            self._barred.subtract(keys)
            self._barred = +self._barred
            self._drop(keys)
            self._post(Message(CHANNEL, _said(keys)))

    def _drop(self, keys: Iterable[Key]) -> None:
        now = self._clock()
        for key in keys:
            self._entries.pop(key, None)
            self._flights.pop(key, None)  # whoever asks from now on does not wait for an old answer
            self._heard[key] = now
            self._heard.move_to_end(key)
        while len(self._heard) > self._most:
            _, self._all_heard = self._heard.popitem(last=False)

    def drop_all(self) -> None:
        """Forget everything: words may have been lost."""
        self._entries.clear()
        self._flights.clear()
        self._heard.clear()
        self._all_heard = self._clock()

    def _hear(self, body: bytes) -> None:
        try:
            self._drop(_understood(body))
        except msgspec.MsgspecError:
            self.drop_all()  # of another release: whatever it meant is gone

    async def join(self, bus: Bus) -> None:
        """Hear what other processes forget; where the bus is away, as soon as it is back."""
        self._post = bus.post
        bus.on_gap(self.drop_all)
        try:
            await bus.listen(CHANNEL, self._hear)
        except DependencyUnavailable:
            self._joining = asyncio.get_running_loop().create_task(self._join_later(bus))

    async def _join_later(self, bus: Bus) -> None:
        while True:
            await asyncio.sleep(JOIN_SECONDS)
            with suppress(DependencyUnavailable):
                await bus.listen(CHANNEL, self._hear)
                self.drop_all()
                return

    async def leave(self, bus: Bus) -> None:
        """Finish what the shelf was to forget, as far as it listens, and hear no more."""
        if self._joining is not None:
            self._joining.cancel()
        if self._shelf:
            self._shelf.stop()
        await asyncio.gather(*self._telling, return_exceptions=True)
        await bus.ignore(CHANNEL, self._hear)
        if self._shelf:
            await self._shelf.close()


def _said(keys: Iterable[Key]) -> bytes:
    """Write keys for the bus."""
    return msgspec.msgpack.encode(
        [(kind, clinic.to_bytes(16), subject.to_bytes(16)) for kind, clinic, subject in keys]
    )


def _understood(body: bytes) -> list[Key]:
    """Read what `_said` has written. Raises: msgspec.MsgspecError."""
    said = msgspec.msgpack.decode(body, type=list[tuple[str, bytes, bytes]])
    return [
        Key((kind, int.from_bytes(clinic), int.from_bytes(subject)))
        for kind, clinic, subject in said
    ]


def _text(key: Key) -> str:
    """Write a key for the shelf; a clinic's lie together in a cluster."""
    kind, clinic, subject = key
    return f"cliniq:cache:{{{clinic:032x}}}:{kind}:{subject:x}"


@asynccontextmanager
async def open_cache(redis_url: str | None, bus: Bus) -> AsyncIterator[Cache]:
    """Open the cache of a process: beside Redis where there is one, joined to the bus."""
    cache = Cache(Shelf(redis_url) if redis_url else None)
    await cache.join(bus)
    try:
        yield cache
    finally:
        await cache.leave(bus)
