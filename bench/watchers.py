"""Thousands of watchers of live topics on a lean WebSocket client: no task and no library a socket.

Each checks what it is told: a version that does not follow the last one is `missed`.
"""

import asyncio
import base64
import os
import random
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal, NamedTuple, cast
from uuid import UUID

import msgspec
from typing_extensions import override

from bench.report import BenchFailed

ADDRESSES = 20  # of loopback: a server lets only so many in from one
OPENING = 100  # at once
PATIENCE_SECONDS = 120
_END = b"\r\n\r\n"
_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A


class Refused(Exception):
    """No pass was sold; `seconds` says when to come back."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


BuyPass = Callable[[], Awaitable[str]]


class Said(msgspec.Struct):
    """What a watcher reads of a frame."""

    type: Literal["snapshot", "resumed", "event", "beat", "refused", "bye"]
    topic: str = ""
    version: int = 0
    epoch: str = ""
    kind: str = ""
    code: str = ""
    retry_after_ms: int = 0
    spread_ms: int = 0
    body: msgspec.Raw = msgspec.Raw(b"null")


class Heard(NamedTuple):
    """An event as it came to one watcher. Units: `at` in seconds of `perf_counter`."""

    topic: str
    version: int
    at: float


@dataclass(frozen=True)
class Seat:
    """Where somebody watches from, and what. The port is a server's."""

    port: int
    clinic_id: UUID
    topic: str
    buy_pass: BuyPass


_DECODER = msgspec.json.Decoder(Said)


@dataclass
class Watchers:
    """A crowd that watches, and comes back when it is dropped."""

    seats: Sequence[Seat]
    comes_back: bool = True
    opening: int = OPENING  # at once, so that opening is not what is measured
    counts: Counter[str] = field(default_factory=Counter)
    heard: list[Heard] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    hints: list[int] = field(default_factory=list)  # in milliseconds, of those sent away

    def __post_init__(self) -> None:
        self.watchers = [_Watcher(self, seat, at) for at, seat in enumerate(self.seats)]
        self._gate = asyncio.Semaphore(self.opening)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_over = False

    async def open(self) -> float:
        """Have everyone in, with a snapshot or what they missed. Answer with the seconds it took.

        Raises: BenchFailed.
        """
        began = perf_counter()
        for watcher in self.watchers:
            if not watcher.is_live:
                self.start(watcher)
        await self.all_live()
        return perf_counter() - began

    async def all_live(self) -> None:
        """Wait until everyone is up to date. Raises: BenchFailed."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not all(each.is_live for each in self.watchers):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise BenchFailed(f"{self.live} of {len(self.watchers)}: {self.counts}") from None

    @property
    def live(self) -> int:
        """Count who is up to date."""
        return sum(each.is_live for each in self.watchers)

    def drop(self) -> None:
        """Cut every connection, as a network would; whoever comes back does so at once."""
        for watcher in self.watchers:
            watcher.cut()

    def close(self) -> None:
        """Leave for good."""
        self._is_over = True
        for task in self._tasks:
            task.cancel()
        self.drop()

    def start(self, watcher: "_Watcher", pause: float = 0) -> None:
        """Let one in, after a pause."""
        task = asyncio.create_task(self._enter(watcher, pause))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def lost(self, watcher: "_Watcher") -> None:
        """Hear that a connection ended; back off at random, as the page does."""
        self.counts["lost"] += 1
        if self.comes_back and not self._is_over:
            longest = min(30.0, 0.5 * 2**watcher.tries)
            if not watcher.tries and not watcher.pause:  # lost without a word, as everybody may be
                longest = max(longest, watcher.spread)
            watcher.tries += 1
            pause = max(watcher.pause, random.uniform(0, longest))
            watcher.pause = 0.0
            self.start(watcher, pause)

    async def _enter(self, watcher: "_Watcher", pause: float) -> None:
        await asyncio.sleep(pause)
        async with self._gate:
            try:
                live_pass = await watcher.seat.buy_pass()
                await watcher.connect(live_pass)
            except Refused as refused:
                self.counts["told when to come back"] += 1
                watcher.pause = refused.seconds
                self.lost(watcher)
            except (OSError, BenchFailed):
                self.lost(watcher)


class _Watcher(asyncio.Protocol):
    """One socket, again and again."""

    __slots__ = (
        "_crowd",
        "_got",
        "_greeted",
        "_opening",
        "_source",
        "_transport",
        "entries",
        "epoch",
        "is_live",
        "pause",
        "seat",
        "spread",
        "tries",
        "version",
    )

    def __init__(self, crowd: Watchers, seat: Seat, at: int) -> None:
        self._crowd = crowd
        self.seat = seat
        self._source = f"127.0.0.{2 + at % ADDRESSES}"
        self._transport: asyncio.Transport | None = None
        self._opening: asyncio.Future[None] | None = None
        self._got = b""
        self._greeted = False
        self.is_live = False
        self.version: int | None = None
        self.epoch = ""
        self.entries = 0  # how often it was let in
        self.pause = 0.0
        self.spread = 0.0
        self.tries = 0

    async def connect(self, live_pass: str) -> None:
        """Open a socket and ask for the topic; return once the server has answered."""
        loop = asyncio.get_running_loop()
        self._got, self._greeted = b"", False
        self._opening = loop.create_future()
        where = "127.0.0.1", self.seat.port
        await loop.create_connection(lambda: self, *where, local_addr=(self._source, 0))
        key = base64.b64encode(os.urandom(16)).decode()
        assert self._transport is not None  # noqa: S101 - it is connected
        self._transport.write(
            (
                f"GET /api/v1/live?pass={live_pass} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: {key}\r\n\r\n"
            ).encode()
        )
        await self._opening

    def cut(self) -> None:
        """Drop the connection without a word."""
        self.is_live = False
        if self._transport is not None:
            self._transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.is_live = False
        self._transport = None
        if self._opening is not None and not self._opening.done():
            self._opening.set_exception(BenchFailed("the server hung up"))
        else:
            self._crowd.lost(self)

    @override
    def data_received(self, data: bytes) -> None:
        got = self._got + data if self._got else data
        if not self._greeted:
            head = got.find(_END)
            if head < 0:
                self._got = got
                return
            if not got.startswith(b"HTTP/1.1 101"):
                self._crowd.counts[f"answered {got[9:12].decode()}"] += 1
                self.cut()
                return
            self._greeted = True
            got = got[head + len(_END) :]
            self._ask()
        self._got = self._read(got)

    def _ask(self) -> None:
        known = {} if self.version is None else {"since": self.version, "epoch": self.epoch}
        clinic = str(self.seat.clinic_id)
        frame = {"op": "subscribe", "topic": self.seat.topic, "clinic_id": clinic, **known}
        self._write(_TEXT, msgspec.json.encode(frame))

    def _write(self, first: int, body: bytes) -> None:
        """Send a frame; a mask of zeros is a mask."""
        size = bytes([0x80 | len(body)]) if len(body) < 126 else struct.pack(">BH", 0xFE, len(body))
        if self._transport is not None:
            self._transport.write(bytes([first]) + size + bytes(4) + body)

    def _read(self, got: bytes) -> bytes:
        """Take whole frames; return what is left over."""
        at = 0
        while len(got) - at >= 2:
            size, begin = got[at + 1], at + 2
            if size == 126:
                size, begin = int.from_bytes(got[at + 2 : at + 4], "big"), at + 4
            elif size == 127:
                size, begin = int.from_bytes(got[at + 2 : at + 10], "big"), at + 10
            if len(got) < begin + size:
                break
            self._take(got[at], got[begin : begin + size])
            at = begin + size
        return got[at:]

    def _take(self, first: int, body: bytes) -> None:
        if first == _TEXT:
            self._hear(_DECODER.decode(body))
        elif first == _PING:
            self._write(_PONG, body)
        elif first == _CLOSE:
            self._crowd.counts[f"closed {int.from_bytes(body[:2], 'big')} {body[2:].decode()}"] += 1
            self._write(_CLOSE, body[:2])

    def _hear(self, said: Said) -> None:
        crowd = self._crowd
        crowd.counts[said.type] += 1
        if said.type in {"snapshot", "resumed"}:
            self._stand(said)
            return
        at = self.version or 0
        if said.type == "event":
            if said.version != at + 1:
                crowd.missed.append(f"{said.topic}: {said.version} after {self.version}")
            self.version = said.version
            crowd.heard.append(Heard(said.topic, said.version, perf_counter()))
        elif said.type == "beat":
            self._compare(said)
        self.pause = said.retry_after_ms / 1000
        if said.type == "bye":
            crowd.hints.append(said.retry_after_ms)
        if said.code:
            crowd.counts[said.code] += 1
        if said.type == "refused":  # the server is too busy, or something is wrong
            self.cut()

    def _compare(self, said: Said) -> None:
        """Learn how far the topic is, and how large the crowd."""
        self.spread = said.spread_ms / 1000
        if said.version > (self.version or 0):
            self._crowd.missed.append(f"{said.topic}: {self.version}, the server {said.version}")

    def _stand(self, said: Said) -> None:
        """Be at a version from here on."""
        if said.type == "resumed" and (said.version, said.epoch) != (self.version, self.epoch):
            self._crowd.missed.append(f"resumed at {said.version}, stood at {self.version}")
        self.version, self.epoch = said.version, said.epoch
        self._arrive()

    def _arrive(self) -> None:
        self.is_live, self.tries, self.pause = True, 0, 0.0
        self.entries += 1
        if self._opening is not None and not self._opening.done():
            self._opening.set_result(None)
