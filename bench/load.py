"""A lean load client: keep-alive connections, each asking again as soon as it was answered."""

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple, cast

from typing_extensions import override

from bench.report import BenchFailed

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_END = b"\r\n\r\n"


class Sample(NamedTuple):
    """One answer: on which connection, when it was complete, how long it took. Units: seconds."""

    connection: int
    ended: float
    took: float


@dataclass(frozen=True)
class Figures:
    """What a stretch of samples comes to. Units: `rate` a second."""

    rate: float
    p50_ms: float
    p99_ms: float


@dataclass
class Volley:
    """All answers of one run."""

    samples: list[Sample] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class Ask:
    """A request to be sent."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None

    def wire(self) -> bytes:
        """Write it as it goes over the wire."""
        sent = b"" if self.body is None else json.dumps(self.body).encode()
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: 127.0.0.1"]
        if sent:
            lines += ["Content-Type: application/json", f"Content-Length: {len(sent)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join(lines).encode() + _END + sent


async def fire(port: int, streams: Sequence[Iterable[Ask]]) -> Volley:
    """Send each stream through a connection of its own, one request at a time.

    Raises: BenchFailed where the server hangs up, or gives an answer other than 200.
    """
    volley = Volley()
    loop = asyncio.get_running_loop()
    asked = []
    for number, stream in enumerate(streams):
        done: asyncio.Future[None] = loop.create_future()
        caller = _Caller(number, iter([each.wire() for each in stream]), volley, done)
        await loop.create_connection(lambda caller=caller: caller, "127.0.0.1", port)  # type: ignore[misc]
        asked.append((caller, done))
    for caller, _ in asked:
        caller.ask()
    await asyncio.gather(*(done for _, done in asked))
    if set(volley.statuses) != {200}:
        raise BenchFailed(f"answers by status: {dict(volley.statuses)}")
    return volley


class _Caller(asyncio.Protocol):
    """One connection. Of an answer it reads the status and the length, nothing else."""

    def __init__(
        self, number: int, requests: Iterator[bytes], volley: Volley, done: asyncio.Future[None]
    ) -> None:
        self._number = number
        self._requests = requests
        self._volley = volley
        self._done = done
        self._got = b""
        self._asked_at = 0.0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(BenchFailed("the server hung up"))

    def ask(self) -> None:
        """Send the next request, or hang up after the last."""
        following = next(self._requests, None)
        if following is None:
            self._done.set_result(None)
            self._transport.close()
            return
        self._asked_at = perf_counter()
        self._transport.write(following)

    @override
    def data_received(self, data: bytes) -> None:
        got = self._got = self._got + data if self._got else data
        head = got.find(_END)
        if head < 0:
            return
        length = _LENGTH.search(got, 0, head)
        body_at = head + len(_END)
        if len(got) < body_at + (int(length[1]) if length else 0):
            return
        now = perf_counter()
        self._volley.samples.append(Sample(self._number, now, now - self._asked_at))
        self._volley.statuses[int(got[9:12])] += 1
        self._volley.bodies.append(got[body_at:])
        self._got = b""
        self.ask()


def figures_of(samples: Sequence[Sample]) -> Figures:
    """Measure the time in which everyone is at work.

    From when the last connection has a tenth behind it to when the first has finished.
    """
    ends = defaultdict(list)
    for each in samples:
        ends[each.connection].append(each.ended)
    begins = max(sorted(each)[len(each) // 10] for each in ends.values())
    finishes = min(max(each) for each in ends.values())
    if finishes <= begins:  # a smoke run is too short for it
        begins, finishes = (
            min(each.ended - each.took for each in samples),
            max(each.ended for each in samples),
        )
    took = sorted(each.took for each in samples if begins < each.ended <= finishes)
    rate = len(took) / (finishes - begins)
    return Figures(rate, median(took) * 1000, took[len(took) * 99 // 100] * 1000)
